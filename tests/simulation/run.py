"""One run of the whole system from a seed: start, faults, quiet moments, an end; a verdict."""

import contextlib
import io
import random
import sys
import tempfile
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from common import log
from common.enums import OrderPending, OrderStatus, Phase, ProcessState
from processes.book.config import BookConfig
from processes.feed.config import FeedConfig
from processes.gateway.config import GatewayConfig
from processes.rest.config import RestConfig
from processes.risk.config import RiskConfig, SymbolLimits
from processes.risk.oms import ACTIVE, ACTIVE_COUNT
from processes.venue.config import AccountConfig, FlowConfig, SymbolConfig, VenueConfig

from tests.simulation.auditor_market import MarketAuditor
from tests.simulation.auditor_orders import OrderAuditor
from tests.simulation.canaries import CANARIES
from tests.simulation.faults import FAULTS, Injector
from tests.simulation.processes import SPINS_MAX, Process
from tests.simulation.system import CREDENTIALS, INSTRUMENTS, NAMES, System
from tests.simulation.wires import Ring
from tests.simulation.world import MS, SECOND, START_NS, LogClock, World

LOG_LINES_MAX = 400
READY_NS_MAX = 60 * SECOND
QUIET_NS_MAX = 150 * SECOND
DRAIN_NS_MAX = 90 * SECOND
LEVELS = 5
STRATEGIES = {
    "market_maker": (
        "processes.strategy.market_maker:MarketMaker",
        {
            "edge_bps": 0.3, "skew_bps": 0.2, "smoothing": 0.3, "requote_bps": 0.1,
            "clip_notional": 1_500.0, "position_clips_max": 6, "stale_ns_max": 2 * SECOND,
        },
    ),
    "ping_pong": (
        "processes.strategy.ping_pong:PingPong",
        {"qty_steps": 40, "period_ns": 150 * MS, "slippage_steps": 20},
    ),
}  # fmt: skip


class Violation(Exception):
    """A promise is broken."""


@dataclass(kw_only=True)
class Options:
    """What a run may be told beside its seed; None: the seed decides.

    Attributes:
        rounds: stretches of faults, each followed by a quiet moment.
        faults: names of FAULTS that may happen.
        per_second: how often.
        end: "stop" or "kill".
        keeps_lines: keep the trace as text.
        plant: name of a bug of canaries.py, planted into the system under test.
    """

    rounds: int = 3
    strategy: str | None = None
    faults: list[str] | None = None
    per_second: float | None = None
    end: str | None = None
    keeps_lines: bool = False
    plant: str = ""


@dataclass
class Result:
    """What came of a run."""

    seed: int
    digest: str
    violation: str = ""
    virtual_s: float = 0.0
    facts: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    log_tail: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


class Settings:
    """Configs of all processes, drawn from the seed: small limits, so that they are met."""

    def __init__(self, rng: random.Random, options: Options) -> None:
        self.name = options.strategy or rng.choice(sorted(STRATEGIES))
        self.strategy, self.params = STRATEGIES[self.name]
        capacity = rng.choice((256, 1_024, 4_096))
        self.ring_capacity = {
            "feed.market.book": rng.choice((64, 512, 4_096)),
            "book.book.strategy": rng.choice((32, 512, 4_096)),
            "strategy.intent.risk": capacity,
            "strategy.turn.log": 256,
            "risk.order.gateway": rng.choice((4, 64, 1_024)),
            "gateway.report.risk": rng.choice((8, 64, 1_024)),
            "gateway.fallback.rest": rng.choice((4, 64)),
            "rest.report.risk": rng.choice((16, 1_024)),
            "risk.report.strategy": rng.choice((16, 1_024)),
            "book.request.rest": 16,
            "risk.request.rest": rng.choice((4, 64)),
            "rest.snapshot.book": 1_024,
            "rest.session.gateway": 16,
            "supervisor.control.strategy": 16,
        }
        self.feed = FeedConfig(
            depth_stream="depth@100ms",
            frame_bytes_max=65_536,
            levels_max=1_000,
            depth_quiet_ms_max=rng.choice((2_500, 5_000)),
            ping_ms=1_000,
            rotate_s=rng.choice((7, 30, 84_600)),
            overlap_ms=500,
            overlap_ms_max=3_000,
            backoff_ms_max=2_000,
        )
        self.book = BookConfig(
            levels_published=LEVELS, window_steps=4_096, levels_max=4_096, diff_slots_max=512,
            snapshot_slots_max=1_024, snapshot_timeout_ns=2 * SECOND,
        )  # fmt: skip
        self.risk = RiskConfig(
            limits={
                "BTCUSDT": self._limits(rng, "0.05", rng.choice(("0.06", "0.2"))),
                "ETHUSDT": self._limits(rng, "1", rng.choice(("1.2", "3"))),
            },
            order_rate_max=rng.choice((10, 50)),
            order_burst_max=rng.choice((10, 100)),
            order_count_max=rng.choice((32, 256)),
            fill_count_max=8_192,
            report_spill_max=1_024,
        )
        self.gateway = GatewayConfig(
            rotate_s=rng.choice((9, 40, 82_800)),
            overlap_ms=rng.choice((100, 2_000)),
            has_fallback=rng.random() < 0.7,
            reconnect_ms_max=2_000,
            spill_max=1_000,
        )
        self.rest = RestConfig(clock_every_ms=1_000, countdown_ms=rng.choice((6_000, 30_000)))

    def _limits(self, rng: random.Random, order: str, position: str) -> SymbolLimits:
        return SymbolLimits(
            order_qty_max=order, order_notional_max="10000", position_qty_max=position,
            open_order_count_max=rng.choice((2, 10)), price_band_bps_max=50,
            book_age_ns_max=2 * SECOND,
        )  # fmt: skip


def venue_config(rng: random.Random) -> VenueConfig:
    """Return a small lively market with one account: ours."""
    symbols = {
        "BTCUSDT": SymbolConfig(
            price="64210.00", max_price="1000000", order_qty="0.030", depth_orders=60,
            events_per_s=rng.choice((30, 120)), volatility_e6=rng.choice((20, 100)),
        ),
        "ETHUSDT": SymbolConfig(
            price="3180.00", max_price="100000", order_qty="0.500", depth_orders=60,
            events_per_s=rng.choice((20, 80)), volatility_e6=rng.choice((20, 100)),
        ),
    }  # fmt: skip
    account = AccountConfig(
        name="simulated", api_key=CREDENTIALS.api_key, secret_key="simulated-secret"
    )
    return VenueConfig(
        symbols=symbols,
        accounts=[account],
        flow=FlowConfig(seed=rng.randrange(1 << 31), step_ms=20, burst_every_s=10),
        order_capacity=4_096,
        connection_life_s=rng.choice((20, 86_400)),
    )


class LogTail(io.StringIO):
    """Keeps the last lines that the processes log."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: deque[str] = deque(maxlen=LOG_LINES_MAX)

    def write(self, text: str) -> int:
        """Keep one line."""
        self.kept.append(text.rstrip("\n"))
        return len(text)


class Run:
    """One run."""

    def __init__(self, seed: int, options: Options, folder: Path) -> None:
        self.options = options
        self.world = World(seed, keeps_lines=options.keeps_lines)
        rng = self.world.stream("settings")
        self.settings = Settings(rng, options)
        self.system = System(self.world, venue_config(rng), self.settings, folder)
        self.market = MarketAuditor(self.system.host.exchange, LEVELS, self.fail)
        self.orders = OrderAuditor(self.system, self.fail)
        self.end = options.end or rng.choice(("stop", "stop", "kill"))
        self.pause_ns = [rng.randrange(3 * SECOND, 9 * SECOND) for _ in range(options.rounds)]
        names = options.faults
        if names is None:
            share = rng.choice((0.1, 0.3, 0.6))
            names = [name for name in FAULTS if rng.random() < share]
        per_second = options.per_second
        if per_second is None:
            per_second = rng.choice((0.3, 1.0, 3.0))
        self.injector = Injector(self.system, names, per_second)
        self.kill_switch = self.system.kill_page
        self._connect()
        if options.plant:
            CANARIES[options.plant][0](self)

    def _connect(self) -> None:
        """Let the auditors look."""
        host = self.system.host
        host.on_rows = self._on_rows
        host.on_flush = self.market.on_flush
        self.system.network.on_sent = self._on_sent
        for process in self.system.processes.values():
            process.on_turn = self._on_turn

    def fail(self, why: str) -> None:
        """End the run: a promise is broken."""
        raise Violation(why)

    # What the auditors see.

    def _on_rows(self, rows: list[tuple[int, ...]]) -> None:
        self.market.on_rows(rows)
        self.orders.on_rows(rows)

    def _on_sent(self, kind: str, what: object) -> None:
        data = what if isinstance(what, bytes) else repr(what).encode()
        self.world.note(f"sent {kind}", data)
        self.orders.on_sent(kind, what)

    def _on_turn(self, process: Process) -> None:
        for ring in process.outputs:
            if ring.seen == ring.published:
                continue
            records = ring.take_new()
            self.world.note(ring.key, records.tobytes())
            if ring.spec.layout == "MARKET":
                self.market.on_market_slots(ring.key, records)
            if ring.key == "book.book.strategy":
                self.market.on_book_slots(records)
        if process.name == "risk":
            self.orders.check_risk()

    # The course of a run.

    def go(self) -> None:
        """Run from start to end."""
        self.system.start()
        self.expect(self.system.is_ready, READY_NS_MAX, "ready after the start")
        self.system.set_phase(Phase.RUNNING)
        for pause_ns in self.pause_ns:
            self.injector.start()
            self.world.run_until(self.world.now + pause_ns)
            self.injector.stop()
            self.be_quiet()
        self.injector.start()
        self.world.run_until(self.world.now + 2 * SECOND)
        if self.end == "kill":
            self.kill()
        else:
            self.injector.stop()
            self.expect(self.system.is_ready, READY_NS_MAX, "ready before the end")
            self.stop()

    def expect(self, is_done: object, within_ns: int, what: str) -> None:
        """Let time pass until something holds."""
        assert callable(is_done)
        if not self.world.run_until(self.world.now + within_ns, is_done):
            states = {
                name: f"{p.state.name if p.is_alive else 'dead'} epoch {p.epoch}"
                for name, p in self.system.processes.items()
            }
            self.fail(f"not {what} within {within_ns // SECOND} s: {self.why_not()}; {states}")

    def be_quiet(self) -> None:
        """Hold the strategy and the market still, let everything settle, and compare all of it."""
        system = self.system
        system.host.flow.is_paused = True
        self.hold_strategy()
        self.expect(self.is_quiet, QUIET_NS_MAX, "quiet")
        self.check_all()
        system.host.flow.is_paused = False
        self.release_strategy()
        self.expect(system.is_ready, READY_NS_MAX, "ready again")
        self.expect(self.are_books_live, READY_NS_MAX, "with valid books")

    def hold_strategy(self) -> None:
        """Stop the strategy process, also one that is about to start."""
        strategy = self.system.processes["strategy"]
        strategy.is_held = True

    def release_strategy(self) -> None:
        """Let it go on."""
        strategy = self.system.processes["strategy"]
        strategy.is_held = False
        strategy.wake_soon()

    def are_books_live(self) -> bool:
        """Return True if every book is valid."""
        book = self.system.processes["book"]
        return book.is_alive and all(book.stage.is_live(i) for i in range(len(INSTRUMENTS)))

    def is_quiet(self) -> bool:
        """Return True if nothing is under way that has to do with orders."""
        return not self.why_not()

    def why_not(self) -> str:
        """Return what is still under way, empty if nothing is."""
        system = self.system
        for name, process in system.processes.items():
            if name != "strategy" and not (process.is_alive and process.is_up):
                return f"{name} is not up"
        gateway = system.processes["gateway"].stage
        if not (gateway.order_link.is_up and gateway.stream_link.is_up):
            return "a socket of the gateway is down"
        risk = system.processes["risk"].stage
        if not risk.is_ready():
            return "risk is not reconciled"
        oms = risk.oms
        for row in oms.lists[ACTIVE, : oms.words[ACTIVE_COUNT]]:
            order = oms.orders[row]
            if order["order_pending"] & (OrderPending.UNKNOWN | OrderPending.REPLACE):
                return f"order {order['client_order_id']} is pending {order['order_pending']}"
            if order["order_status"] == OrderStatus.PENDING_NEW or order["order_pending"]:
                return f"order {order['client_order_id']} waits for an answer"
            if order["order_status"] >= OrderStatus.FILLED:
                return f"order {order['client_order_id']} misses a fill"
        for ring in system.rings.values():
            if ring.lag and ring.spec.consumer not in ("strategy", "log"):
                return f"{ring.key} has {ring.lag} records"
        for kind in ("api", "private"):
            if system.network.flying.get(kind, 0) > 0:
                return f"messages on the {kind} socket"
        for pipe in system.network.pipes:
            if pipe.is_dead_and_not_noticed():
                return f"nobody has noticed that the {pipe.kind} socket is dead"
        for i, row in enumerate(system.positions.rows):
            if int(row["position_steps"]) != self.orders.position[i]:
                return f"position of {i} is {row['position_steps']}, not {self.orders.position[i]}"
        return ""

    def check_all(self) -> None:
        """Compare everything, rings included."""
        self.orders.check_quiet()
        for ring in self.system.rings.values():
            self._check_ring(ring)
        for process in self.system.processes.values():
            if process.spin_max > SPINS_MAX:
                self.fail(f"{process.name}: {process.spin_max} idle turns in one second")

    def _check_ring(self, ring: Ring) -> None:
        """Offered = published + dropped, published = consumed + lag; every loss is told."""
        stats = ring.stats()
        if stats["offered"] != stats["published"] + stats["dropped"]:
            self.fail(f"{ring.key}: ledger does not balance: {stats}")
        if ring.spec.policy != "overwrite":
            if stats["published"] != stats["consumed"] + stats["lag"]:
                self.fail(f"{ring.key}: ledger does not balance: {stats}")
        if ring.spec.policy in ("refuse", "spill", "overwrite") and stats["dropped"]:
            self.fail(f"{ring.key}: {stats['dropped']} dropped, its policy is {ring.spec.policy}")
        told = self.market.told.get(ring.key, 0) if ring.spec.layout == "MARKET" else 0
        if not stats["loss_untold"] and told != stats["dropped"] and ring.spec.policy == "drop":
            self.fail(f"{ring.key}: {stats['dropped']} dropped, GAPs tell {told}")

    def stop(self) -> None:
        """End in order: no open order is left, and everything agrees."""
        system = self.system
        system.host.flow.is_paused = True
        system.set_phase(Phase.STOP_ORDERS)
        self.expect(self.is_stopped, DRAIN_NS_MAX, "drained")
        if left := self.orders.open_orders():
            self.fail(f"drained, and {left} are open at the venue")
        self.check_all()

    def is_stopped(self) -> bool:
        """Return True when all processes have said STOPPED; follow what the gateway knows."""
        processes = self.system.processes
        gateway = processes["gateway"]
        if gateway.is_alive and gateway.phase == Phase.STOP_ORDERS:
            self.orders.stop_seen_ns = self.orders.stop_seen_ns or self.world.now
        return all(p.is_alive and p.state == ProcessState.STOPPED for p in processes.values())

    def kill(self) -> None:
        """Press the kill switch in the middle of it all: nothing opening leaves after that."""
        self.kill_switch.set(0)
        self.orders.kill_ns = self.world.now
        self.world.note("kill")
        self.world.run_until(self.world.now + 1 * SECOND)
        self.injector.stop()
        self.system.host.flow.is_paused = True
        self.expect(lambda: not self.orders.open_orders(), DRAIN_NS_MAX, "empty after the kill")
        self.expect(self.is_quiet, QUIET_NS_MAX, "quiet after the kill")
        self.check_all()


def run_seed(seed: int, options: Options | None = None) -> Result:
    """Run one seed; a broken promise or an exception is a violation."""
    options = options or Options()
    tail = LogTail()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tickring-sim-")))
        stack.enter_context(contextlib.redirect_stderr(tail))
        stack.callback(log.set_process, "-")
        run = Run(seed, options, folder)
        stack.enter_context(mock.patch.object(log, "clock", LogClock(run.world)))
        violation = ""
        try:
            run.go()
        except Violation as error:
            violation = str(error)
        except Exception as error:
            violation = f"{type(error).__name__}: {error}"
            import traceback

            tail.kept.extend(traceback.format_exc().splitlines())
        finally:
            for process in run.system.processes.values():
                if process.is_alive and hasattr(process.stage, "journal"):
                    process.stage.journal.close()
    return Result(
        seed=seed,
        digest=run.world.digest(),
        violation=violation,
        virtual_s=(run.world.now - START_NS) / SECOND,
        facts=facts_of(run),
        faults=run.injector.done,
        log_tail=list(tail.kept),
        lines=run.world.lines or [],
    )


def facts_of(run: Run) -> dict[str, int]:
    """Return what a run has seen, so that one can judge what it proves."""
    orders = run.orders
    return {
        "turns": sum(p.turns for p in run.system.processes.values()),
        "deaths": sum(p.deaths for p in run.system.processes.values()),
        "new": orders.sent_count["NEW"],
        "replace": orders.sent_count["REPLACE"],
        "cancel": orders.sent_count["CANCEL"],
        "fills": sum(len(fills) for fills in orders.fills),
        "books": run.market.books_checked,
        "books_lost": run.market.books_lost,
        "checks": orders.checks,
    }


def command_of(result: Result, extra: str = "") -> str:
    """Return the command that repeats a run."""
    return f"{Path(sys.executable).name} -m tests.simulation --seed {result.seed}{extra}"


assert set(NAMES) == {"feed", "book", "strategy", "risk", "gateway", "rest"}

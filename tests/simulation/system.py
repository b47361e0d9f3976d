"""The whole system in one process: the stages of processes/ over private memory, and the venue.

Everything that a stage is built from is what its app.py gives it; only sockets, clocks and the
lifetime of memory are the simulation's.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from common import clock as real_clock
from common.binance import NS_PER_MS, Credentials
from common.enums import Phase
from common.instruments import Instrument, InstrumentFacts, instrument_table
from processes.book.config import BookConfig
from processes.book.counters import HISTOGRAMS as BOOK_HISTOGRAMS
from processes.book.counters import LABELS as BOOK_LABELS
from processes.book.stage import BookStage
from processes.feed.config import FeedConfig
from processes.feed.counters import HISTOGRAMS as FEED_HISTOGRAMS
from processes.feed.counters import LABELS as FEED_LABELS
from processes.feed.session import plan_streams
from processes.feed.stage import FeedStage
from processes.gateway.app import ORDER_ROTATE_PERCENT
from processes.gateway.config import GatewayConfig
from processes.gateway.counters import HISTOGRAMS as GATEWAY_HISTOGRAMS
from processes.gateway.counters import LABELS as GATEWAY_LABELS
from processes.gateway.link import Link, LinkTimes
from processes.gateway.session import OrderSession, StreamSession
from processes.gateway.stage import GatewayStage
from processes.rest.config import RestConfig
from processes.rest.counters import HISTOGRAMS as REST_HISTOGRAMS
from processes.rest.counters import LABELS as REST_LABELS
from processes.rest.protocol import Protocol
from processes.rest.stage import RestStage, Rings
from processes.rest.watch import GatewayWatch
from processes.risk.config import RiskConfig
from processes.risk.counters import HISTOGRAMS as RISK_HISTOGRAMS
from processes.risk.counters import LABELS as RISK_LABELS
from processes.risk.journal import Facts, Journal
from processes.risk.limits import limit_table
from processes.risk.stage import Parts, RiskStage
from processes.strategy.api import load_strategy, params_of
from processes.strategy.desk import block_dtype
from processes.strategy.stage import LABELS as STRATEGY_LABELS
from processes.strategy.stage import StrategyStage
from processes.venue.config import VenueConfig
from shm.counters import anonymous_counters
from shm.latch import anonymous_latch
from shm.turn import Twin, anonymous_twin

from tests.simulation.network import FeedLink, GatewaySocket, MemoryHttp, Network
from tests.simulation.processes import Process
from tests.simulation.venue_host import VenueHost
from tests.simulation.wires import Table, make_rings
from tests.simulation.world import MS, SECOND, World

NAMES = ("feed", "book", "strategy", "risk", "gateway", "rest")
CREDENTIALS = Credentials("simulated-key", "simulated-secret")
URL = "ws://venue"
BOOT_ID = "01020304-0506-0708-090a-0b0c0d0e0f10"
ORDER_ROWS = 256


def instrument(instrument_id: int, symbol: str, tick: str, lot: str) -> Instrument:
    """Return one of the traded symbols."""
    facts = InstrumentFacts(
        tick_size=tick, lot_size=lot, price_decimals=2, qty_decimals=3, min_notional="100",
        max_qty="1000",
    )  # fmt: skip
    return Instrument(instrument_id=instrument_id, venue="binance-usdm", symbol=symbol, facts=facts)


INSTRUMENTS = [
    instrument(0, "BTCUSDT", "0.10", "0.001"),
    instrument(1, "ETHUSDT", "0.01", "0.001"),
]


class CrashingJournal(Journal):
    """A journal whose process may die before, in and behind a write."""

    def __init__(self, world: World, folder: Path, facts: Facts) -> None:
        super().__init__(folder, facts, "none")
        self.world = world

    def append(self, header: Any, parts: Any) -> int:
        """Write one frame, or part of it."""
        self.world.crash_point()
        before = self.size
        written = super().append(header, parts)
        if self.world.crash_in == 1:
            os.ftruncate(self.fd, before + written // 2)  # torn
        self.world.crash_point()
        self.world.crash_point()
        return written


class System:
    """All processes, what they share, and the supervisor's duty.

    Args:
        world: time.
        venue: what is listed, and how its market moves.
        settings: of the processes.
        folder: for the journal.
    """

    def __init__(
        self, world: World, venue: VenueConfig, settings: "SettingsLike", folder: Path
    ) -> None:
        self.world = world
        self.settings = settings
        self.folder = folder
        self.instruments = INSTRUMENTS
        self.rows = instrument_table(INSTRUMENTS)
        self.limits = limit_table(settings.risk, INSTRUMENTS)
        self.host = VenueHost(world, venue, INSTRUMENTS)
        self.network = Network(world, lambda: self.host)
        self.rng = world.stream("supervisor")
        self.phase = Phase.STARTING
        self.session = 1
        self.cls = load_strategy(settings.strategy)
        self.params = params_of(self.cls, settings.params)
        self.kill_page = anonymous_latch()
        self.rings = make_rings(settings.ring_capacity)
        self.bbo = Table("BBO_CELL", len(INSTRUMENTS))
        self.orders = Table("ORDER", ORDER_ROWS)
        self.positions = Table("POSITION", len(INSTRUMENTS))
        dtype = block_dtype(len(INSTRUMENTS), self.cls.STATE)  # type: ignore[attr-defined]
        self.twin = anonymous_twin(dtype)
        self.counters = {
            "feed": anonymous_counters(FEED_LABELS, FEED_HISTOGRAMS),
            "book": anonymous_counters(BOOK_LABELS, BOOK_HISTOGRAMS),
            "strategy": anonymous_counters(STRATEGY_LABELS),
            "risk": anonymous_counters(RISK_LABELS, RISK_HISTOGRAMS),
            "gateway": anonymous_counters(GATEWAY_LABELS, GATEWAY_HISTOGRAMS),
            "rest": anonymous_counters(REST_LABELS, REST_HISTOGRAMS),
        }
        self.processes = {name: self._process(name) for name in NAMES}

    def _process(self, name: str) -> Process:
        rings = self.rings
        inputs = [ring for ring in rings.values() if ring.spec.consumer == name]
        outputs = [ring for ring in rings.values() if ring.spec.producer == name]
        act = [(is_publish, rings[key]) for is_publish, key in LAST_ACTS.get(name, ())]
        build: Callable[[], Any] = getattr(self, f"build_{name}")
        process = Process(name, self.world, self.network, build, inputs, outputs, act)
        process.phase_of = lambda: self.phase
        process.wake_of = lambda other: self.processes[other]
        process.on_death = self._on_death
        return process

    # The supervisor.

    def start(self) -> None:
        """Start all processes, not quite at once."""
        for name in NAMES:
            self.world.after(self.rng.randrange(5 * MS), self.processes[name].start)

    def set_phase(self, phase: Phase) -> None:
        """Tell all processes what is wanted, and wake them."""
        self.phase = phase
        self.wake_all()

    def wake_all(self) -> None:
        """Ring every bell."""
        for process in self.processes.values():
            process.wake_soon()

    def _on_death(self, process: Process) -> None:
        """Start it again after the usual delay; everybody's bell is rung."""
        self.world.after(self.rng.randrange(1 * MS, 600 * MS), self._restart, process)
        self.wake_all()

    def _restart(self, process: Process) -> None:
        if not process.is_alive:
            process.start()

    def is_ready(self) -> bool:
        """Return True when every process is up and the strategy may trade."""
        return all(p.is_alive and p.is_up for p in self.processes.values()) and all(
            p.stage.is_ready() for p in self.processes.values() if hasattr(p.stage, "is_ready")
        )

    # The stages, as their app.py builds them.

    def build_feed(self) -> FeedStage:
        """Build the feed over links in memory; kernels read the virtual clock."""
        config = self.settings.feed
        owner = self.processes["feed"]
        with mock.patch.object(real_clock, "new_timespec", lambda: self.world.timespec):
            return FeedStage(
                plan_streams(INSTRUMENTS, f"{URL}/public", f"{URL}/market", config),
                INSTRUMENTS,
                config,
                self.rings["feed.market.book"].producer(),
                self.counters["feed"],
                lambda url: FeedLink(self.network, url, owner),
                read_wall=self.world.now_wall_ns,
                boot_id=BOOT_ID,
            )

    def build_book(self) -> BookStage:
        """Build the book."""
        return BookStage(
            INSTRUMENTS,
            self.settings.book,
            market=self.rings["feed.market.book"].consumer(),
            snapshots=self.rings["rest.snapshot.book"].consumer(),
            books=self.rings["book.book.strategy"].producer(),
            requests=self.rings["book.request.rest"].producer(),
            cells=self.bbo.writer(),
            counters=self.counters["book"],
        )

    def build_strategy(self) -> StrategyStage:
        """Build the strategy on the state that its predecessor left."""
        held = self.twin
        return StrategyStage(
            self.cls,
            self.params,
            self.rows,
            Twin("anonymous", held.blocks, held.control, None),
            (
                self.rings["risk.report.strategy"].consumer(),
                self.rings["supervisor.control.strategy"].consumer(),
                self.rings["book.book.strategy"].consumer(),
            ),
            (
                self.rings["strategy.intent.risk"].producer(),
                self.rings["strategy.turn.log"].producer(),
            ),
            self.counters["strategy"],
            self.session,
            0,
        )

    def build_risk(self) -> RiskStage:
        """Build risk from its journal."""
        world = self.world
        journal = CrashingJournal(world, self.folder / str(self.session), Facts(self.session, 7))
        parts = Parts(
            gateway=self.rings["gateway.report.risk"].consumer(),
            rest=self.rings["rest.report.risk"].consumer(),
            intents=self.rings["strategy.intent.risk"].consumer(),
            orders=self.rings["risk.order.gateway"].producer(),
            reports=self.rings["risk.report.strategy"].producer(),
            requests=self.rings["risk.request.rest"].producer(),
            bbo=self.bbo.read_end(),
            order_table=self.orders.writer(),
            position_table=self.positions.writer(),
            counters=self.counters["risk"],
            kill_page=self.kill_page,
            journal=journal,
            peer_word=lambda name: self.processes[name].word,
            ring_epoch=self.session,
            session=self.session,
        )
        return RiskStage(
            self.settings.risk, self.rows, self.limits, parts, world.now, world.now_wall_ns()
        )

    def build_gateway(self) -> GatewayStage:
        """Build the gateway over sockets in memory."""
        config = self.settings.gateway
        counters = self.counters["gateway"]
        order_link = self._link("order", config, ORDER_ROTATE_PERCENT)
        order_link.set_url(f"{URL}/ws-fapi/v1", self.world.now)
        return GatewayStage(
            OrderSession(config, INSTRUMENTS, CREDENTIALS, counters.values, counters.histograms),
            StreamSession(config, INSTRUMENTS, counters.values),
            order_link,
            self._link("stream", config, 100),
            f"{URL}/private",
            self.rings["risk.order.gateway"].consumer(),
            self.rings["rest.session.gateway"].consumer(),
            self.rings["gateway.report.risk"].producer(),
            self.rings["gateway.fallback.rest"].producer(),
            counters,
            self.kill_page.words,
            self.world,
        )

    def _link(self, name: str, config: GatewayConfig, rotate_percent: int) -> Link:
        times = LinkTimes(
            connect_ns=config.connect_timeout_ms * NS_PER_MS,
            reconnect_ns_min=config.reconnect_ms_min * NS_PER_MS,
            reconnect_ns_max=config.reconnect_ms_max * NS_PER_MS,
            ping_ns=config.ping_every_ms * NS_PER_MS,
            idle_ns=config.idle_ms_max * NS_PER_MS,
            rotate_ns=config.rotate_s * SECOND * rotate_percent // 100,
            overlap_ns=config.overlap_ms * NS_PER_MS,
        )
        owner = self.processes["gateway"]
        jitter = self.world.stream(f"{name} link {owner.epoch}")
        return Link(
            name, lambda url, now_ns: GatewaySocket(self.network, url, owner), times, jitter
        )

    def build_rest(self) -> RestStage:
        """Build rest over HTTP in memory."""
        config = self.settings.rest
        counters = self.counters["rest"]
        rings = Rings(
            book_requests=self.rings["book.request.rest"].consumer(),
            risk_requests=self.rings["risk.request.rest"].consumer(),
            orders=self.rings["gateway.fallback.rest"].consumer(),
            reports=self.rings["rest.report.risk"].producer(),
            snapshots=self.rings["rest.snapshot.book"].producer(),
            sessions=self.rings["rest.session.gateway"].producer(),
        )
        owner = self.processes["rest"]
        return RestStage(
            Protocol(config, INSTRUMENTS, self.settings.gateway.stp_mode, counters.values),
            rings,
            MemoryHttp(self.network, owner, config.request_timeout_ms * MS),
            CREDENTIALS,
            counters,
            self.kill_page.words,
            GatewayWatch(GatewayStatus(self), config.gateway_stale_ms * NS_PER_MS),
            self.world,
        )


# What the end of a turn publishes (True) and releases, in its order: a death can fall between.
LAST_ACTS = {
    "book": ((False, "feed.market.book"),),
    "strategy": (
        (True, "strategy.intent.risk"), (True, "strategy.turn.log"),
        (False, "risk.report.strategy"), (False, "supervisor.control.strategy"),
        (False, "book.book.strategy"),
    ),
    "risk": (
        (True, "risk.order.gateway"), (True, "risk.report.strategy"),
        (False, "gateway.report.risk"), (False, "rest.report.risk"),
        (False, "strategy.intent.risk"),
    ),
}  # fmt: skip


class GatewayStatus:
    """What rest sees of the gateway (processes.rest.watch.Source)."""

    def __init__(self, system: System) -> None:
        self.system = system

    def read(self) -> dict[str, int | str] | None:
        """Return the status words, None before its first start."""
        gateway = self.system.processes["gateway"]
        return gateway.status() if gateway.epoch else None

    def close(self) -> None:
        """Nothing to leave."""


class SettingsLike:
    """What `System` reads of a run's settings."""

    strategy: str
    params: dict[str, int | float]
    feed: FeedConfig
    book: BookConfig
    risk: RiskConfig
    gateway: GatewayConfig
    rest: RestConfig
    ring_capacity: dict[str, int]

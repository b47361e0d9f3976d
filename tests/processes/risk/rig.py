"""A risk stage in private memory with a scripted strategy, gateway and rest around it."""

from pathlib import Path

import numpy as np

from common.enums import (
    ExecType,
    OrderStatus,
    ReportKind,
    ReportSource,
    RequestKind,
    RestKind,
)
from processes.risk.config import RiskConfig
from processes.risk.journal import Facts, Journal
from processes.risk.oms import audit, find_client
from processes.risk.rehearsal import (
    bbo_cell,
    intent,
    plain_instruments,
    private_parts,
    report,
    wide_limits,
)
from processes.risk.stage import Parts, RiskStage
from shm.cursors import In, Out
from shm.ring import Consumer, Producer

MS = 1_000_000
SECOND = 1_000_000_000
SESSION = 1
START_NS = 10 * SECOND
WALL_NS = 1_700_000_000 * SECOND


class Crash(BaseException):
    """The process was killed here; nothing may catch it."""


def risk_config(**changes: object) -> RiskConfig:
    """Return a config with quick timers."""
    values = {
        "limits": {},
        "order_rate_max": 1_000,
        "order_burst_max": 1_000,
        "order_count_max": 64,
        "fill_count_max": 256,
        "ack_timeout_ns": 500 * MS,
        "query_delay_ns": 20 * MS,
        "missing_count_min": 3,
        "missing_ns_min": SECOND,
        "reconcile_timeout_ns": SECOND,
        "reconcile_retry_ns": 20 * MS,
    }
    return RiskConfig(**values | changes)


class Rig:
    """All of risk's neighbours, played by the test.

    Attributes:
        now_ns: the clock; `turn` moves it.
        sent: requests that the gateway has taken.
        told: reports that the strategy has taken.
        asked: requests that rest has taken and not answered.
        positions: what the venue's account holds, by instrument.
        trades: what it lists, as fields of ACCOUNT_TRADE.
        open_orders: what it lists, as fields of OPEN_ORDER.
        answers: rest answers rounds by itself while True.
        reads: the strategy reads its ring while True.
    """

    def __init__(
        self,
        folder: Path,
        *,
        instruments: int = 2,
        capacity: int = 256,
        rows: int = 64,
        **config: object,
    ) -> None:
        self.folder = folder
        self.config = risk_config(**config)
        self.instruments = plain_instruments(instruments)
        self.limits = wide_limits(instruments)
        self.now_ns = START_NS
        self.capacity = capacity
        journal = self.open_journal()
        self.parts, self.others = private_parts(journal, instruments, rows, capacity)
        self.peers = dict.fromkeys(("gateway", "strategy", "feed", "book", "rest"), 1)
        self.parts = self.parts._replace(peer_word=lambda name: self.peers[name])
        self.sequence = 0
        self.sent: list[np.void] = []
        self.told: list[np.void] = []
        self.asked: list[np.void] = []
        self.positions: dict[int, int] = {}
        self.trades: list[dict] = []
        self.open_orders: list[dict] = []
        self.answers = self.reads = True
        self.start()

    def open_journal(self) -> Journal:
        return Journal(self.folder, Facts(SESSION, 7), self.config.sync)

    def start(self) -> None:
        """Build the stage on whatever is there."""
        self.stage = RiskStage(
            self.config,
            self.instruments,
            self.limits,
            self.parts,
            self.now_ns,
            WALL_NS + self.now_ns,
        )

    def crash(self, *, new_rings: bool = False) -> None:
        """Forget the process and start again on the same memory and files."""
        self.stage.journal.close()
        journal = self.open_journal()
        if new_rings:
            epoch = self.parts.ring_epoch + 1
            count, rows = len(self.instruments), len(self.parts.order_table)
            parts, self.others = private_parts(journal, count, rows, self.capacity, epoch)
            self.parts = parts._replace(peer_word=self.parts.peer_word)
        else:
            self.parts = self.parts._replace(journal=journal, **reopened(self.parts))
        self.start()

    def turn(self, step_ns: int = MS, count: int = 1) -> int:
        """Let risk take turns; neighbours take and answer between them."""
        done = 0
        for _ in range(count):
            self.now_ns += step_ns
            done += self.stage.do_work(self.now_ns)
            self.take()
            assert audit(self.stage.oms) == 0
        return done

    def take(self) -> None:
        """Let the neighbours take what risk wrote."""
        self.sent += list(self.others.orders.read(1_000))
        if self.reads:
            self.told += list(self.others.reports.read(1_000))
        self.asked += list(self.others.requests.read(1_000))
        if self.answers:
            rounds = [one for one in self.asked if one["kind"] == RestKind.RECONCILE]
            self.asked = [one for one in self.asked if one["kind"] != RestKind.RECONCILE]
            for one in rounds:
                self.answer_round(int(one["request_id"]))

    def answer_round(self, request_id: int, reject: int = 0) -> None:
        """Answer one reconciliation with what the venue's account holds."""
        common = {"request_id": request_id, "source": ReportSource.QUERY}
        records = [report(ReportKind.RECONCILE_BEGIN, **common)]
        for order in self.open_orders:
            fields = {"exec_type": ExecType.STATUS, "order_status": OrderStatus.NEW} | order
            records.append(report(ReportKind.OPEN_ORDER, **common, **fields))
        for trade in self.trades:
            records.append(
                report(ReportKind.ACCOUNT_TRADE, **common, exec_type=ExecType.TRADE, **trade)
            )
        for i in range(len(self.instruments)):
            steps = self.positions.get(i, 0)
            records.append(
                report(ReportKind.POSITION, **common, instrument_id=i, position_steps=steps)
            )
        records.append(report(ReportKind.RECONCILE_END, **common, reject=reject))
        assert self.others.rest.try_write(np.concatenate(records))

    def sockets(self, is_up: bool = True) -> None:
        """Let both sockets of the gateway come up or go down."""
        kind = ReportKind.SESSION_UP if is_up else ReportKind.SESSION_DOWN
        for source in (ReportSource.RESPONSE, ReportSource.STREAM):
            self.others.gateway.try_write(report(kind, source=source))

    def quote_books(self, bid: int = 1_000, ask: int = 1_001) -> None:
        """Show fresh books."""
        for i in range(len(self.instruments)):
            self.others.bbo.write(i, bbo_cell(i, bid, ask, self.now_ns)[0])

    def bring_up(self) -> "Rig":
        """Attach, connect and reconcile: the strategy is READY."""
        self.write(RequestKind.ATTACH)
        self.sockets()
        for _ in range(100):
            self.turn(10 * MS)
            if any(one["kind"] == ReportKind.READY for one in self.told):
                self.told.clear()
                self.quote_books()
                return self
        raise AssertionError("strategy is not READY")

    def write(self, kind: RequestKind, **fields: int) -> int:
        """Write one intent; return its client_order_id."""
        request = intent(SESSION, kind, self.sequence, ts_pub_ns=self.now_ns, **fields)
        self.sequence += 1
        assert self.others.intents.try_write(request) == 1
        return int(request["client_order_id"][0])

    def new(self, **fields: int) -> int:
        """Write a NEW that passes all checks."""
        values = {"price_steps": 1_000, "order_qty_steps": 10, "order_slot": self.sequence % 64}
        return self.write(RequestKind.NEW, **values | fields)

    def cancel(self, order: int, **fields: int) -> int:
        """Write a CANCEL."""
        return self.write(RequestKind.CANCEL, orig_client_order_id=order, **fields)

    def replace(self, order: int, price_steps: int, order_qty_steps: int, **fields: int) -> int:
        """Write a REPLACE."""
        values = {"price_steps": price_steps, "order_qty_steps": order_qty_steps}
        return self.write(RequestKind.REPLACE, orig_client_order_id=order, **values | fields)

    def gateway(self, order: int, exec_type: ExecType, **fields: int) -> None:
        """Let the gateway report about an order."""
        values = {
            "client_order_id": order,
            "exec_type": exec_type,
            "instrument_id": 0,
            "source": ReportSource.RESPONSE,
            "side": 1,
        }
        record = report(ReportKind.EXECUTION, **values | fields)
        assert self.others.gateway.try_write(record) == 1

    def rest(self, order: int, **fields: int) -> None:
        """Let rest answer a query."""
        values = {"client_order_id": order, "exec_type": ExecType.STATUS, "instrument_id": 0}
        values["source"] = ReportSource.QUERY
        assert self.others.rest.try_write(report(ReportKind.EXECUTION, **values | fields)) == 1

    def ack(self, order: int, venue_order_id: int = 0) -> None:
        """Let the venue acknowledge a NEW."""
        self.gateway(
            order,
            ExecType.NEW,
            order_status=OrderStatus.NEW,
            venue_order_id=venue_order_id or order % 1_000_000 + 1,
            request_client_order_id=order,
            request_kind=RequestKind.NEW,
        )

    def open(self, **fields: int) -> int:
        """Bring one order to NEW; return its id."""
        order = self.new(**fields)
        self.turn()
        self.ack(order)
        self.turn()
        return order

    def row(self, order: int) -> np.void:
        """Return the row of an order."""
        row = find_client(self.stage.oms, order)
        assert row >= 0, order
        return self.stage.oms.orders[row]

    def kinds(self) -> list[tuple[int, int]]:
        """Return (kind, order meant) of all that was sent."""
        return [
            (
                int(one["kind"]),
                int(one["orig_client_order_id"] or one["client_order_id"]),
            )
            for one in self.sent
        ]

    def rejects(self) -> list[int]:
        """Return the reject codes that the strategy was told."""
        return [int(one["reject"]) for one in self.told if one["reject"]]

    def counter(self, counter: int) -> int:
        """Return one counter."""
        return int(self.stage.oms.counters[counter])


def reopened(parts: Parts) -> dict[str, Producer | Consumer]:
    """Return new ends over the same memory, as a new process would open them."""
    ends: dict[str, Producer | Consumer] = {}
    for name in ("gateway", "rest", "intents"):
        old = getattr(parts, name)
        end = In(old.end.slots, np.zeros_like(old.end.local), old.end.own, old.end.other)
        ends[name] = Consumer(old.name, old.record, end, old.first_sequence)
    for name in ("orders", "reports", "requests"):
        old = getattr(parts, name)
        out = Out(old.end.slots, np.zeros_like(old.end.local), old.end.own, old.end.other)
        ends[name] = Producer(old.name, old.record, out, old.first_sequence)
    return ends

"""Rest without I/O: request records in, calls out, answers in, records out."""

import numpy as np

from common.binance import NS_PER_MS
from common.enums import Phase, RequestKind, RestKind, SessionKind
from common.instruments import Instrument
from common.messages import OrderRequest
from common.records import SESSION
from processes.rest import orders, session
from processes.rest.account import OrderQuery, Reconcile, query_order
from processes.rest.calls import Answer, Call, Priority, not_sent
from processes.rest.config import RestConfig
from processes.rest.counters import Counter
from processes.rest.desk import Desk, Snapshot
from processes.rest.scheduler import Steps, Wait

DEPTH_LIMIT = 1_000
DEPTH_WEIGHT = 20
RETRY_NS = 50 * NS_PER_MS
RETRY_NS_MAX = 2_000 * NS_PER_MS


class Protocol:
    """Decides what to ask the venue, and says what came of it.

    Args:
        config: of this process.
        instruments: of the run.
        stp_mode: selfTradePreventionMode of orders that come as fallback.
        values: int64[n] by Counter.
    """

    def __init__(
        self, config: RestConfig, instruments: list[Instrument], stp_mode: str, values: np.ndarray
    ) -> None:
        self.desk = Desk(config, instruments, stp_mode, values)
        self.guard = orders.Guard(self.desk)
        self.rounds: list[Reconcile] = []
        self.snapshot_ids: dict[int, int] = {}  # instrument -> newest request being answered
        self.is_started = False
        self.is_attaching = False

    def step(self, now_ns: int, wall_ns: int) -> int:
        """Go on with whatever is due; return how much was done.

        Args:
            now_ns: CLOCK_MONOTONIC; wall_ns: CLOCK_REALTIME of the same instant.
        """
        desk = self.desk
        desk.now_ns = now_ns
        desk.wall_minus_mono_ns = wall_ns - now_ns
        if not self.is_started:
            self.is_started = True
            session.start(desk)
        self.guard.look()
        return desk.scheduler.step(now_ns)

    def on_phase(self, phase: Phase) -> None:
        """Follow the supervisor."""
        self.desk.phase = phase

    def on_gateway(self, is_dead: bool) -> None:
        """Take over whether the gateway is dead or silent."""
        self.desk.is_gateway_dead = is_dead

    def on_kill_page(self, is_killed: bool) -> None:
        """Take over whether any word of the kill page is set."""
        self.desk.is_killed = is_killed

    def next_call(self) -> tuple[int, Call] | None:
        """Return the next call to send now, with the number that its answer must carry."""
        while True:
            found = self.desk.scheduler.next_call(self.desk.now_ns)
            if found is None:
                return None
            number, call = found
            if not (call.is_opening and (self.desk.is_killed or self.desk.is_stopping())):
                return found
            answer = not_sent("killed or stopping", self.desk.now_ns)
            self.on_answer(number, answer, self.desk.now_ns)

    def on_answer(self, number: int, answer: Answer, now_ns: int) -> None:
        """Take in what came of a call."""
        self.desk.now_ns = now_ns
        self.desk.scheduler.on_answer(number, answer, now_ns)

    def on_request(self, record: np.void) -> None:
        """Start what a REST_REQUEST asks for."""
        desk = self.desk
        kind = int(record["kind"])
        request_id = int(record["request_id"])
        attempt = min(max(int(record["attempt"]), 0), 30)
        instruments = desk.scope(int(record["instrument_id"]))
        one = instruments[0] if len(instruments) == 1 and record["instrument_id"] >= 0 else None
        if kind == RestKind.SNAPSHOT and one is not None:
            self.start_snapshot(one, request_id, attempt)
        elif kind == RestKind.ORDER_QUERY and one is not None:
            query = OrderQuery(
                one,
                request_id,
                int(record["client_order_id"]),
                int(record["venue_order_id"]),
                attempt,
            )
            if query.client_order_id <= 0 and query.venue_order_id <= 0:
                desk.values[Counter.REQUESTS_BAD] += 1
                return
            desk.spawn(Priority.QUERY, query_order(desk, query))
        elif kind == RestKind.RECONCILE and instruments:
            self.start_reconcile(
                instruments,
                request_id,
                max(int(record["trade_id_from"]), 0),
                max(int(record["ts_session_ns"]), 0),
            )
        elif kind == RestKind.CANCEL_ALL and instruments:
            orders.cancel_all(desk, instruments)
        else:
            desk.values[Counter.REQUESTS_BAD] += 1

    def on_order(self, request: OrderRequest) -> None:
        """Start what the gateway forwards; ATTACH asks for the listenKey and the clock again.

        A key that the venue has lately confirmed is told at once: a gateway that comes back must
        not wait behind the calls that cancel everything because it was gone. The answer follows.
        """
        desk = self.desk
        if request.kind == RequestKind.ATTACH:
            session.tell_listen_key(desk)
            desk.is_clock_wanted = True
            if not self.is_attaching:
                self.is_attaching = desk.spawn(Priority.SESSION, self.attach())
        else:
            orders.take_order(desk, request)

    def attach(self) -> Steps:
        """Tell the gateway the listenKey again; one such job at a time."""
        yield from session.fetch_listen_key(self.desk)
        self.is_attaching = False

    def start_snapshot(self, instrument: Instrument, request_id: int, attempt: int) -> None:
        """Fetch a depth snapshot; a newer request for the symbol replaces an older one."""
        is_running = instrument.instrument_id in self.snapshot_ids
        self.snapshot_ids[instrument.instrument_id] = request_id
        if not is_running:
            steps = self.fetch_snapshot(instrument, attempt)
            if not self.desk.spawn(Priority.DATA, steps):
                del self.snapshot_ids[instrument.instrument_id]

    def fetch_snapshot(self, instrument: Instrument, attempt: int) -> Steps:
        """Ask for a symbol's book until the answer is to the newest request."""
        desk, row = self.desk, instrument.instrument_id
        call = Call(
            "GET",
            "/fapi/v1/depth",
            {"symbol": instrument.symbol, "limit": DEPTH_LIMIT},
            weight=DEPTH_WEIGHT,
            is_keyed=False,
            is_signed=False,
        )
        if attempt:
            yield Wait(min(RETRY_NS << min(attempt, 10), RETRY_NS_MAX))
        answered_id = -1
        answer = None
        while answered_id != self.snapshot_ids[row]:
            answered_id = self.snapshot_ids[row]
            answer = yield from desk.ask(call)
        del self.snapshot_ids[row]
        assert answer is not None
        body = answer.body if answer.is_ok else b""
        desk.snapshots.append(Snapshot(answered_id, row, answer.ts_recv_ns, body))

    def start_reconcile(
        self, instruments: list[Instrument], request_id: int, trade_id_from: int, ts_ns: int
    ) -> None:
        """Begin a round; one that runs for the same request goes on, an older one breaks off."""
        self.rounds = [r for r in self.rounds if not r.is_done]
        if any(r.request_id == request_id and r.is_current for r in self.rounds):
            return
        for running in self.rounds:
            running.is_current = False
        started = Reconcile(self.desk, instruments, request_id, trade_id_from, ts_ns)
        if self.desk.spawn(Priority.DATA, started.run()):
            self.rounds.append(started)

    def take_sessions(self, now_ns: int) -> np.ndarray:
        """Return the SESSION records that are due for the gateway."""
        desk = self.desk
        records = np.zeros(len(desk.session_due), SESSION)
        for record, kind in zip(records, sorted(desk.session_due), strict=True):
            record["kind"] = kind
            record["ts_pub_ns"] = now_ns
            if kind == SessionKind.CLOCK_OFFSET:
                record["offset_ns"] = desk.clock_offset_ns()
                record["round_trip_ns"] = desk.round_trip_ns
            else:
                key = desk.listen_key.encode("ascii")
                record["listen_key_bytes"] = len(key)
                record["listen_key"][: len(key)] = np.frombuffer(key, np.uint8)
        desk.session_due.clear()
        return records

    def is_ready(self) -> bool:
        """Return True once orders may flow: clock known and small, timers armed, listenKey held."""
        return self.desk.is_clock_good() and self.desk.is_armed() and bool(self.desk.listen_key)

    def is_drained(self) -> bool:
        """Return True at the end of a run: nothing is open, the timers are disarmed."""
        return self.guard.is_finished

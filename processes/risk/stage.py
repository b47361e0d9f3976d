"""Stage of the risk process: intents and reports in, orders out, every turn journaled first.

One turn: reports of gateway, reports of rest, own conclusions, intents, cancels; then one write to
the journal; then orders and reports are published and the inputs released. Killed anywhere, the
next start finds what journal.py tells.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from common import log
from common.enums import (
    ExecType,
    KillSource,
    Phase,
    Reject,
    ReportKind,
    RequestKind,
    RestKind,
)
from common.errors import BugError
from common.records import ORDER_REQUEST, REPORT, REST_REQUEST
from processes.risk import cycle
from processes.risk.batch import (
    ATTACH_STRATEGY,
    OWN_COUNT,
    PUBLISH_COUNT,
    QUERY_COUNT,
    REQUEST_COUNT,
    new_batch,
)
from processes.risk.config import RiskConfig
from processes.risk.counters import Counter
from processes.risk.cycle import Ends, pack_turn
from processes.risk.journal import KIND_START, Frame, Head, Journal, JournalError
from processes.risk.link import StrategyLink
from processes.risk.oms import (
    ACTIVE_COUNT,
    BUCKET_TS,
    DIRTY,
    DIRTY_COUNT,
    IS_DIRTY,
    IS_JOURNAL_BROKEN,
    IS_KILLED,
    IS_RECONCILED,
    IS_STOPPING,
    OUT_COUNT,
    POSITIONS_DIRTY,
    SESSION,
    WANTS_CANCELS,
    WANTS_RECONCILE,
    audit,
    new_oms,
)
from processes.risk.orders import HELD
from processes.risk.reconcile import Reconciler
from processes.risk.recovery import LastFrames, compare_rings, conclude_unsent, skip_taken
from processes.risk.sessions import Sessions
from processes.risk.timers import (
    conclude,
    doubt_in_flight,
    has_in_flight,
    scan_timers,
    timing_words,
)
from processes.risk.turn import (
    cancel_everything,
    has_uncanceled,
    replay_requests,
    send_stray_cancel,
    sweep_cancels,
    take_reports,
)
from shm.counters import Counters
from shm.cursors import abandon, load_word
from shm.latch import Latch
from shm.ring import Consumer, Producer, read_only
from shm.table import TableReader, TableWriter
from shm.words import C_CURSOR, L_PUBLISHED

TICK_NS = 10_000_000
AUDIT_NS = 1_000_000_000


class Parts(NamedTuple):
    """What a RiskStage is built from.

    Attributes:
        gateway, rest, intents: consumers of the report and intent rings.
        orders, reports, requests: producers to gateway, strategy and rest.
        bbo: reader of book's best bids and asks.
        order_table, position_table: own shared tables.
        counters: of this process.
        kill_page: this process writes its own word only.
        journal: of this session.
        peer_word: what the supervisor says of a process; see runner.Peers.
        ring_epoch: identity of the rings.
        session: part of all client order ids.
    """

    gateway: Consumer
    rest: Consumer
    intents: Consumer
    orders: Producer
    reports: Producer
    requests: Producer
    bbo: TableReader
    order_table: TableWriter
    position_table: TableWriter
    counters: Counters
    kill_page: Latch
    journal: Journal
    peer_word: Callable[[str], int]
    ring_epoch: int
    session: int


class RiskStage:
    """Judges intents, keeps orders and positions, and is the only one who knows them all."""

    def __init__(
        self,
        config: RiskConfig,
        instruments: np.ndarray,
        limits: np.ndarray,
        parts: Parts,
        now_ns: int,
        wall_ns: int,
    ) -> None:
        self.parts = parts
        self.consumers = [parts.gateway, parts.rest, parts.intents]
        self.journal = parts.journal
        order_count_max = min(config.order_count_max, len(parts.order_table))
        self.oms = new_oms(instruments, limits, order_count_max, config.fill_count_max)
        self.words = self.oms.words
        self.words[SESSION] = parts.session
        self.batch = new_batch()
        self.counts = self.batch.counts
        self.own = read_only(self.batch.own)
        self.reconciler = Reconciler(config, len(instruments))
        self.progress = np.zeros(cycle.PROGRESS_WORDS, np.int64)
        self.gateway_bytes = _bytes_of(parts.gateway.end.slots)
        self.rest_bytes = _bytes_of(parts.rest.end.slots)
        self.own_bytes = _bytes_of(self.batch.own)
        self.request_bytes = _bytes_of(self.batch.requests)
        self.place_bytes = _bytes_of(self.batch.places)
        self.timing = timing_words(config)
        self.query_count_max = config.query_count_max
        self.sessions = Sessions(parts.peer_word)
        self.phase = Phase.STARTING
        self.tick_ns = self.audit_ns = now_ns
        last = self._read_journal()
        self._connect()
        self.link = StrategyLink(self.oms, self.ends, parts.reports, config.report_spill_max)
        self._start(last, now_ns, wall_ns)

    # -- start ---------------------------------------------------------------------------------

    def _read_journal(self) -> LastFrames:
        """Build the tables from the journal; counters stay as the dead process left them."""
        last = LastFrames()
        self.reconciler.is_silent = True
        for frame in self.journal.frames():
            if last.add(frame):
                self.sessions.lose()
                self._forget_places()
            self._replay(frame)
        self.reconciler.is_silent = False
        return last

    def _forget_places(self) -> None:
        """Note that nothing waits in the order ring any more: the ring is another one."""
        self.oms.orders["order_sequence"][:-1] = HELD

    def _replay(self, frame: Frame) -> None:
        now_ns = int(frame.header["ts_ns"])
        at = 0
        while at < len(frame.reports):
            reports = np.zeros(_power_of_two(len(frame.reports) - at), frame.reports.dtype)
            count = len(frame.reports) - at
            reports[:count] = frame.reports[at:]
            done = take_reports(self.oms, read_only(reports), 0, count, now_ns)
            at += done
            if done < count:
                self._take_other(reports[done : done + 1].copy(), now_ns)
                at += 1
        requests = frame.requests
        replay_requests(self.oms, requests, frame.places, len(requests), now_ns)
        self.words[OUT_COUNT] = 0

    def _connect(self) -> None:
        """Hand the ends to the kernels; from here on counters are the shared ones."""
        parts = self.parts
        self.oms = self.oms._replace(
            counters=parts.counters.values, histograms=parts.counters.histograms
        )
        self.ends = Ends(
            gateway=parts.gateway.end,
            rest=parts.rest.end,
            intents=parts.intents.end,
            orders=parts.orders.end,
            reports=parts.reports.end,
            bbo_versions=parts.bbo.versions,
            bbo=parts.bbo.rows,
            order_versions=parts.order_table.versions,
            order_rows=parts.order_table.rows,
            position_versions=parts.position_table.versions,
            position_rows=parts.position_table.rows,
            kill_words=parts.kill_page.words,
            progress=self.progress,
        )
        self.bundle = pack_turn(self.oms, self.batch, self.ends)

    def _start(self, last: LastFrames, now_ns: int, wall_ns: int) -> None:
        parts = self.parts
        found = compare_rings(last, parts.ring_epoch, parts.orders)
        if found.has_rings:
            skip_taken(last, (parts.intents, parts.gateway, parts.rest))
        else:
            self._forget_places()
        self.sessions.restart(found.has_rings)
        conclude_unsent(self.oms, self.batch, found.unpublished, Reject.NOT_RECONCILED)
        self.session_wall_ns = last.wall_ns or wall_ns
        self.wall_minus_mono_ns = wall_ns - now_ns
        self.reconciler.restart(now_ns)
        buckets = self.oms.strategies[:, BUCKET_TS]
        buckets[:] = np.minimum(buckets, now_ns)  # an instant of another boot is not the future
        self.words[IS_RECONCILED] = 0
        self.words[WANTS_CANCELS] = 1
        self._mark_all_dirty()
        log.event(
            "journal",
            session=parts.session,
            frames=self.journal.frame_count,
            bytes=self.journal.size,
            torn_bytes=self.journal.torn_bytes,
            unsent=len(found.unpublished),
            active_orders=int(self.words[ACTIVE_COUNT]),
        )
        if found.is_behind:
            log.event("journal_behind", order_ring=int(parts.orders.end.local[L_PUBLISHED]))
        cycle.begin(self.bundle)
        progress = self.progress.tolist()
        head = Head(
            ts_ns=now_ns,
            ring_epoch=parts.ring_epoch,
            intent_end=progress[cycle.INTENT_FIRST],
            gateway_end=progress[cycle.GATEWAY_FIRST],
            rest_end=progress[cycle.REST_FIRST],
            order_first=int(self.ends.orders.local[L_PUBLISHED]),
            kind=KIND_START,
            ts_wall_ns=wall_ns,
        )
        self.journal.append(head, ())
        self.link.reset(now_ns)

    def _mark_all_dirty(self) -> None:
        """Show all rows anew, those that a dead process left behind too."""
        count = len(self.oms.lists[DIRTY])
        shown = self.parts.order_table.versions[:count] != 0
        rows = np.flatnonzero(shown | (self.oms.orders["client_order_id"][:count] != 0))
        self.oms.lists[IS_DIRTY, :] = 0
        self.oms.lists[IS_DIRTY, rows] = 1
        self.oms.lists[DIRTY, : len(rows)] = rows
        self.words[DIRTY_COUNT] = len(rows)
        self.words[POSITIONS_DIRTY] = 1

    # -- one turn ------------------------------------------------------------------------------

    def do_work(self, now_ns: int) -> int:
        """Take one turn.

        Returns:
            Records taken, and 1 if own work was done; 0 lets the shell idle.
        """
        bits = int(cycle.begin(self.bundle))
        if bool(bits & cycle.IS_KILLED_NOW) != bool(self.words[IS_KILLED]):
            self._on_kill(bool(bits & cycle.IS_KILLED_NOW))
        is_tick = now_ns >= self.tick_ns
        if not (bits & cycle.HAS_INPUT or is_tick):
            return 0
        taken = self._take_reports(now_ns)
        if is_tick:
            self.sessions.watch()
        if self.sessions.is_moved:
            self.sessions.is_moved = False
            self.reconciler.demand(now_ns)
        if is_tick:
            self._tick(now_ns)
        self._take_own(now_ns)
        self._guard(now_ns)
        cycle.take_intents_of(self.bundle, now_ns)
        if self.counts[ATTACH_STRATEGY] >= 0:
            self.counts[ATTACH_STRATEGY] = -1
            self.sessions.on_attach()
            self.link.on_attach(now_ns)
            cancel_everything(self.oms, self.batch, self.ends.orders, now_ns)
        if self.words[WANTS_CANCELS]:
            sweep_cancels(self.oms, self.batch, self.ends.orders, self.timing, now_ns)
        self.link.follow(now_ns)
        taken += self._write_journal(now_ns)
        self._publish()
        return taken

    def _take_reports(self, now_ns: int) -> int:
        """Apply this turn's reports, those that are not executions one by one; return how many."""
        progress = self.progress
        while True:
            at = cycle.take_reports_of(self.bundle, now_ns)
            if at == cycle.REPORTS_DONE:
                break
            is_gateway = at == cycle.AT_GATEWAY
            consumer = self.parts.gateway if is_gateway else self.parts.rest
            place = cycle.GATEWAY_NEXT if is_gateway else cycle.REST_NEXT
            slot = int(progress[place]) & (consumer.capacity - 1)
            self._take_other(consumer.end.slots[slot : slot + 1].copy(), now_ns)
            progress[place] += 1
        taken = int(progress[cycle.GATEWAY_END] - progress[cycle.GATEWAY_FIRST])
        taken += int(progress[cycle.REST_END] - progress[cycle.REST_FIRST])
        self.oms.counters[Counter.REPORTS] += taken
        return taken

    def _take_other(self, report: np.ndarray, now_ns: int) -> None:
        """Take one report that is not of an execution; live and from the journal."""
        kind = int(report["kind"][0])
        if kind in (ReportKind.SESSION_UP, ReportKind.SESSION_DOWN):
            if not self.sessions.on_session(
                int(report["source"][0]), kind == ReportKind.SESSION_UP
            ):
                self.oms.counters[Counter.REPORTS_BAD] += 1
        elif kind == ReportKind.GAP:
            self.sessions.lose()
        else:
            self.reconciler.take(self.oms, report, now_ns)

    def _take_own(self, now_ns: int) -> None:
        """Apply what risk itself concludes in this turn."""
        oms, batch, sessions = self.oms, self.batch, self.sessions
        if sessions.wants_doubt:
            doubt_in_flight(oms, batch)
        for row in self.reconciler.doubtful:
            conclude(oms, batch, row, int(ExecType.UNKNOWN), 0)
        self.reconciler.doubtful = []
        count = int(self.counts[OWN_COUNT])
        if count:
            take_reports(oms, self.own, 0, count, now_ns)
        if sessions.wants_doubt:
            sessions.wants_doubt = bool(has_in_flight(oms))
        for stray in self.reconciler.strays:
            if send_stray_cancel(oms, batch, *stray, self.ends.orders, now_ns):
                oms.counters[Counter.FOREIGN_ORDERS_CANCELED] += 1
        self.reconciler.strays = []

    def _guard(self, now_ns: int) -> None:
        """Open the gate only when all is well, and cancel everything when it is not."""
        words = self.words
        is_reconciled = self.reconciler.is_reconciled and self.sessions.may_trade
        if is_reconciled != bool(words[IS_RECONCILED]):
            words[IS_RECONCILED] = is_reconciled
            log.event("reconciled" if is_reconciled else "not_reconciled")
            if is_reconciled:
                self.oms.counters[Counter.RECONCILED_NS] = now_ns
                self.link.on_reconciled(now_ns)
        wants_cancel = (
            self.sessions.strategy_died
            or words[IS_KILLED]
            or words[IS_STOPPING]
            or words[IS_JOURNAL_BROKEN]
            or not is_reconciled
        )
        if self.sessions.strategy_died:
            self.sessions.strategy_died = False
            self.link.on_death()
        if wants_cancel and words[ACTIVE_COUNT] and has_uncanceled(self.oms):
            cancel_everything(self.oms, self.batch, self.ends.orders, now_ns)

    def _write_journal(self, now_ns: int) -> int:
        """Make the turn durable, if it took a report or accepted anything.

        Returns:
            How much was done besides reports: intents, requests, reports to the strategy.
        """
        progress, counts = self.progress.tolist(), self.counts.tolist()
        own_count, request_count = counts[OWN_COUNT], counts[REQUEST_COUNT]
        gateway_first, gateway_end = progress[cycle.GATEWAY_FIRST], progress[cycle.GATEWAY_END]
        rest_first, rest_end = progress[cycle.REST_FIRST], progress[cycle.REST_END]
        intent_end = progress[cycle.INTENT_END]
        done = intent_end - progress[cycle.INTENT_FIRST] + request_count
        done += int(self.words[OUT_COUNT])
        if gateway_end == gateway_first and rest_end == rest_first:
            if not own_count and not request_count:
                return done
        self.counts[OWN_COUNT] = 0
        if self.journal.is_broken:
            self._take_back(now_ns)
            return done
        head = Head(
            ts_ns=now_ns,
            ring_epoch=self.parts.ring_epoch,
            intent_end=intent_end,
            gateway_end=gateway_end,
            rest_end=rest_end,
            order_first=int(self.ends.orders.local[L_PUBLISHED]),
            gateway_count=gateway_end - gateway_first,
            rest_count=rest_end - rest_first,
            own_count=own_count,
            request_count=request_count,
            publish_count=counts[PUBLISH_COUNT],
        )
        parts = _slots(self.gateway_bytes, gateway_first, gateway_end)
        parts += _slots(self.rest_bytes, rest_first, rest_end)
        if own_count:
            parts.append(self.own_bytes[: own_count * REPORT.itemsize])
        if request_count:
            parts.append(self.request_bytes[: request_count * ORDER_REQUEST.itemsize])
            parts.append(self.place_bytes[: request_count * 8])
        try:
            written = self.journal.append(head, parts)
        except JournalError as error:
            self._on_journal_broken(error, now_ns)
            return done
        self.oms.counters[Counter.JOURNAL_BYTES] += written
        self.oms.counters[Counter.JOURNAL_FRAMES] += 1
        return done

    def _publish(self) -> None:
        """Show the turn: orders first, then reports, then the inputs are given back."""
        words, oms = self.words, self.oms
        if words[OUT_COUNT] and self.link.must_queue():
            self.link.keep(oms.out[: int(words[OUT_COUNT])])
            words[OUT_COUNT] = 0
        left = int(cycle.finish(self.bundle))
        if left:
            self.link.keep(oms.out[:left])
            words[OUT_COUNT] = 0

    # -- time ----------------------------------------------------------------------------------

    def _tick(self, now_ns: int) -> None:
        """Look at everything that only time brings."""
        self.tick_ns = now_ns + TICK_NS
        self.link.flush()
        if self.words[ACTIVE_COUNT]:
            consumed = int(load_word(self.ends.orders.other, C_CURSOR))
            scan_timers(self.oms, self.batch, self.timing, consumed, now_ns)
            self._ask_for_orders(now_ns)
            self.reconciler.settle(self.oms, self.batch, consumed, now_ns)
        self.reconciler.watch(self.oms, now_ns)
        if now_ns >= self.audit_ns:
            self.audit_ns = now_ns + AUDIT_NS
            broken = int(audit(self.oms))
            if broken:
                raise BugError(f"risk: audit found {broken}, expected 0; the tables are wrong")
        if self._is_drained_of_orders():
            self.reconciler.demand_final()
        is_allowed = self.sessions.is_connected or self.phase >= Phase.STOP_ORDERS
        if is_allowed and self.reconciler.wants_round(self.oms, now_ns):
            self._ask_for_round(now_ns)

    def next_timer_ns(self) -> int:
        """Return when it must be called at the latest; 0: nothing waits."""
        is_waiting = (
            self.words[ACTIVE_COUNT]
            or self.words[WANTS_RECONCILE]
            or self.link.is_waiting
            or not self.reconciler.is_reconciled
            or self.phase == Phase.STOP_ORDERS
        )
        return self.tick_ns if is_waiting else 0

    def _ask_for_orders(self, now_ns: int) -> None:
        """Ask rest for the state of UNKNOWN orders."""
        orders = self.oms.orders
        count, self.counts[QUERY_COUNT] = int(self.counts[QUERY_COUNT]), 0
        for row in self.batch.queries[:count]:
            order = orders[row]
            request = _rest_request(RestKind.ORDER_QUERY, int(order["instrument_id"]), now_ns)
            request["client_order_id"] = order["client_order_id"]
            request["venue_order_id"] = order["venue_order_id"]
            if not self.parts.requests.try_write(request):
                return
            order["query_count"] += 1
            order["ts_query_ns"] = now_ns
            self.oms.counters[Counter.ORDERS_QUERIED] += 1
            if order["query_count"] == self.query_count_max:
                self.oms.counters[Counter.ORDERS_STUCK] += 1
                log.event("order_stuck", client_order_id=int(order["client_order_id"]))
                self.words[WANTS_RECONCILE] = 1  # a good round lets it be asked for again

    def _ask_for_round(self, now_ns: int) -> None:
        request = _rest_request(RestKind.RECONCILE, -1, now_ns)
        is_full = self.reconciler.wants_full()
        since_ns = self.reconciler.look_back_ns(self.oms, now_ns)
        request["ts_session_ns"] = self.session_wall_ns
        if since_ns:
            since_wall_ns = since_ns + self.wall_minus_mono_ns
            request["ts_session_ns"] = max(self.session_wall_ns, since_wall_ns)
        if self.parts.requests.try_write(request):
            self.reconciler.ask(self.oms, now_ns, is_full)

    # -- what goes wrong -----------------------------------------------------------------------

    def _on_kill(self, is_killed: bool) -> None:
        self.words[IS_KILLED] = is_killed
        self.tick_ns = 0
        log.event("killed" if is_killed else "kill_released")

    def _on_journal_broken(self, error: JournalError, now_ns: int) -> None:
        """Nothing new may be sent without the journal: halt; cancels still go."""
        self.words[IS_JOURNAL_BROKEN] = 1
        self.oms.counters[Counter.JOURNAL_FAILURES] += 1
        self.parts.kill_page.set(KillSource.RISK)
        log.event("journal_broken", error=error)
        self._take_back(now_ns)

    def _take_back(self, now_ns: int) -> None:
        """Send only the cancels of a turn that is not in the journal.

        If there is anything else in it, all of it is undone, and the cancels are sent next time.
        """
        count = int(self.counts[REQUEST_COUNT])
        sent = [
            request
            for request, place in zip(
                self.batch.requests[:count], self.batch.places[:count], strict=True
            )
            if place >= 0
        ]
        if all(request["kind"] == RequestKind.CANCEL for request in sent):
            return
        abandon(self.ends.orders)
        self.counts[PUBLISH_COUNT] = 0
        conclude_unsent(self.oms, self.batch, sent, Reject.JOURNAL)
        take_reports(self.oms, self.own, 0, int(self.counts[OWN_COUNT]), now_ns)
        self.counts[OWN_COUNT] = 0

    # -- the shell's questions -----------------------------------------------------------------

    def on_phase(self, phase: Phase, now_ns: int) -> None:
        """Follow the supervisor: STOP_ORDERS refuses new orders and cancels all."""
        self.phase = phase
        is_stopping = phase >= Phase.STOP_ORDERS
        if is_stopping and not self.words[IS_STOPPING]:
            self.link.reset(now_ns)  # the strategy stops asking
        self.words[IS_STOPPING] = is_stopping
        self.tick_ns = now_ns

    def _is_drained_of_orders(self) -> bool:
        return self.phase >= Phase.STOP_ORDERS and not self.words[ACTIVE_COUNT]

    def is_ready(self) -> bool:
        """Return True once orders could be sent: connected and reconciled."""
        return bool(self.words[IS_RECONCILED])

    def is_drained(self) -> bool:
        """Return True when no order is open or in doubt and the account has been compared."""
        is_compared = self.reconciler.is_final or not self.reconciler.agreed_ns
        return self._is_drained_of_orders() and is_compared and not self.link.must_queue()

    def close(self) -> None:
        """Leave the rings, tables and the journal."""
        self.journal.close()
        for part in self.parts:
            if isinstance(part, Consumer | Producer | TableReader | TableWriter | Counters):
                part.close()


def _bytes_of(array: np.ndarray) -> memoryview:
    """Return an array's bytes, for slicing without copies."""
    return memoryview(array.view(np.uint8))


def _slots(ring: memoryview, first: int, end: int) -> list[memoryview]:
    """Return the reports [first, end) of a ring as no, one or two pieces."""
    if end == first:
        return []
    size, count = REPORT.itemsize, len(ring) // REPORT.itemsize
    start = first & (count - 1)
    head = min(end - first, count - start)
    pieces = [ring[start * size : (start + head) * size]]
    if end - first > head:
        pieces.append(ring[: (end - first - head) * size])
    return pieces


def _power_of_two(count: int) -> int:
    return 1 << max(count - 1, 0).bit_length()


def _rest_request(kind: RestKind, instrument_id: int, now_ns: int) -> np.ndarray:
    """Return REST_REQUEST[1] with its number, which is the clock: unique in this process."""
    request = np.zeros(1, REST_REQUEST)
    request["kind"] = kind
    request["instrument_id"] = instrument_id
    request["request_id"] = now_ns
    request["ts_pub_ns"] = now_ns
    return request

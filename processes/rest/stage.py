"""The rest stage: rings on one side, HTTP on the other, the protocol between them."""

from typing import Protocol as Interface

import numpy as np

from common import log
from common.binance import Credentials
from common.binance_depth import decode_snapshot, snapshot_end_slots, snapshot_slots
from common.enums import Phase
from common.messages import read_requests, reports_array
from processes.rest.calls import Answer, Wire, write_call
from processes.rest.counters import ROUND_TRIP, Counter
from processes.rest.desk import Snapshot
from processes.rest.protocol import Protocol
from processes.rest.watch import GatewayWatch
from shm.counters import Counters, record_value
from shm.latch import LATCH_WORDS, is_any_set
from shm.ring import Consumer, Producer
from shm.spill import Spill

REQUESTS_PER_TURN_MAX = 64
LOOK_NS = 20_000_000


class Http(Interface):
    """What the stage needs of an HTTP client; http.py has the real one."""

    fds_version: int

    def start(self, number: int, wire: Wire) -> None:
        """Begin one request."""

    def poll(self) -> list[tuple[int, Answer]]:
        """Return what is complete; never blocks."""

    def fds(self) -> list[tuple[int, int]]:
        """Return descriptors to sleep on."""

    def next_timer_ns(self) -> int:
        """Return when to poll at the latest, 0 never."""

    def close(self) -> None:
        """Give up what is running."""


class Clock(Interface):
    """common.clock, or a virtual one."""

    def now_ns(self) -> int:
        """Read CLOCK_MONOTONIC."""

    def now_wall_ns(self) -> int:
        """Read CLOCK_REALTIME."""


class Rings:
    """All ring ends of the stage."""

    def __init__(
        self,
        book_requests: Consumer,
        risk_requests: Consumer,
        orders: Consumer,
        reports: Producer,
        snapshots: Producer,
        sessions: Producer,
    ) -> None:
        self.book_requests = book_requests
        self.risk_requests = risk_requests
        self.orders = orders
        self.reports = reports
        self.snapshots = snapshots
        self.sessions = sessions


class RestStage:
    """Moves records, calls and answers; decides nothing.

    Args:
        protocol: what decides.
        rings: all ends.
        http: sends.
        credentials: sign and key the calls.
        counters: of this process.
        kill_words: the kill page.
        watch: looks at the gateway process.
        clock: common.clock, or a virtual one.
    """

    def __init__(
        self,
        protocol: Protocol,
        rings: Rings,
        http: Http,
        credentials: Credentials,
        counters: Counters,
        kill_words: np.ndarray,
        watch: GatewayWatch,
        clock: Clock,
    ) -> None:
        self.protocol = protocol
        self.rings = rings
        self.http = http
        self.credentials = credentials
        self.counters = counters
        self.kill_words = kill_words
        self.watch = watch
        self.clock = clock
        self.consumers = [rings.book_requests, rings.risk_requests, rings.orders]
        self.spill = Spill(rings.reports, protocol.desk.config.spill_max)
        self.messages: list[np.ndarray] = []  # of snapshots, waiting for room in the ring
        self.look_due_ns = 0

    def do_work(self, now_ns: int) -> int:
        """Take requests and answers in, send calls, write records out; never blocks.

        Returns:
            How much was done; 0 lets the shell idle.
        """
        protocol = self.protocol
        protocol.on_kill_page(bool(is_any_set(self.kill_words, LATCH_WORDS)))
        if now_ns >= self.look_due_ns:
            self.look_due_ns = now_ns + LOOK_NS
            protocol.on_gateway(self.watch.is_dead(now_ns))
        work = protocol.step(now_ns, self.clock.now_wall_ns())
        if self.has_room():
            work += self.take_requests()
        work += self.take_answers()
        work += self.send_calls()
        return work + self.write_records(now_ns)

    def has_room(self) -> bool:
        """Return True while reports find room: without it no new work is begun."""
        return len(self.spill) == 0

    def take_requests(self) -> int:
        """Start what the rings ask for."""
        rings, protocol = self.rings, self.protocol
        requests = read_requests(rings.orders.read(REQUESTS_PER_TURN_MAX))
        for request in requests:
            protocol.on_order(request)
        count = len(requests)
        for consumer in (rings.risk_requests, rings.book_requests):
            records = consumer.read(REQUESTS_PER_TURN_MAX)
            for record in records:
                protocol.on_request(record)
            count += len(records)
        return count

    def take_answers(self) -> int:
        """Give answers to the protocol."""
        answers = self.http.poll()
        for number, answer in answers:
            if answer.ts_sent_ns:
                took_ns = answer.ts_recv_ns - answer.ts_sent_ns
                record_value(self.counters.histograms, ROUND_TRIP, took_ns)
            self.protocol.on_answer(number, answer, self.clock.now_ns())
        return len(answers)

    def send_calls(self) -> int:
        """Send what may go now; the kill page is read again before each call."""
        desk = self.protocol.desk
        count = 0
        while True:
            self.protocol.on_kill_page(bool(is_any_set(self.kill_words, LATCH_WORDS)))
            found = self.protocol.next_call()
            if found is None:
                return count
            number, call = found
            window_ms = desk.config.recv_window_ms
            self.http.start(number, write_call(call, self.credentials, window_ms, desk.venue_ms()))
            count += 1

    def write_records(self, now_ns: int) -> int:
        """Write reports, session records and snapshots; what does not fit waits."""
        desk = self.protocol.desk
        done = self.spill.flush()
        for report in desk.reports:
            report.ts_pub_ns = now_ns
            done += 1
            if not self.spill.write(reports_array([report])):
                log.event("rest_reports_lost", kept=len(self.spill))
        desk.reports.clear()
        self.counters.values[Counter.SPILLED] = len(self.spill)
        if desk.session_due:
            records = self.protocol.take_sessions(now_ns)
            done += len(records)
            if not self.rings.sessions.try_write(records):
                self.counters.values[Counter.SESSIONS_LOST] += len(records)
        return done + self.write_snapshots(now_ns)

    def write_snapshots(self, now_ns: int) -> int:
        """Encode answered snapshots and write their messages, one after the other."""
        desk = self.protocol.desk
        for snapshot in desk.snapshots:
            self.messages += self.encode_snapshot(snapshot, now_ns)
        desk.snapshots.clear()
        done = 0
        while self.messages and self.rings.snapshots.try_write(self.messages[0]):
            del self.messages[0]
            done += 1
        return done

    def encode_snapshot(self, snapshot: Snapshot, now_ns: int) -> list[np.ndarray]:
        """Return the messages of one answer: begin and end, or an end that says it failed."""
        desk = self.protocol.desk
        request_id, row, recv_ns = snapshot.request_id, snapshot.instrument_id, snapshot.ts_recv_ns
        if snapshot.body:
            try:
                book = decode_snapshot(snapshot.body)
                begin = snapshot_slots(book, desk.instruments[row], request_id, recv_ns, now_ns)
                end = snapshot_end_slots(book, row, request_id, recv_ns, now_ns)
                self.counters.values[Counter.SNAPSHOTS] += 1
                return [begin, end]
            except (ValueError, RecursionError) as error:
                desk.count_bad_answer("depth", error)
        self.counters.values[Counter.SNAPSHOTS_FAILED] += 1
        return [snapshot_end_slots(None, row, request_id, recv_ns, now_ns)]

    def fds(self) -> list[tuple[int, int]]:
        """Return the descriptors to sleep on."""
        return self.http.fds()

    @property
    def fds_version(self) -> int:
        """Changes when `fds` does."""
        return self.http.fds_version

    def next_timer_ns(self) -> int:
        """Return when there is something to do without anybody asking."""
        times = [self.protocol.desk.scheduler.next_timer_ns(), self.http.next_timer_ns()]
        times.append(self.look_due_ns)
        return min(time for time in times if time)

    def on_phase(self, phase: Phase, now_ns: int) -> None:
        """Follow the supervisor."""
        self.protocol.on_phase(phase)

    def is_ready(self) -> bool:
        """Return True once orders may flow."""
        return self.protocol.is_ready()

    def is_drained(self) -> bool:
        """Return True when the venue shows nothing open any more and all reports are written."""
        return self.protocol.is_drained() and len(self.spill) == 0

    def close(self) -> None:
        """Close the connections; the ring ends belong to the shell."""
        self.http.close()
        self.watch.close()

"""The gateway stage: orders from risk to the venue, reports back, both sockets kept alive.

The kill page is read before every send. A request is released from its ring before its first byte
is written, so a gateway that dies never sends one twice; risk asks what became of it.
"""

from collections.abc import Sequence
from typing import Protocol as Interface

import numpy as np

from common import log
from common.binance import NS_PER_MS, refused_report
from common.enums import (
    ExecType,
    Phase,
    Reject,
    ReportKind,
    ReportSource,
    RequestKind,
    SessionKind,
)
from common.messages import OrderRequest, Report, read_requests, reports_array, requests_array
from common.records import LISTEN_KEY_BYTES_MAX
from processes.gateway.counters import Counter
from processes.gateway.link import Link, LinkEvent
from processes.gateway.session import OPENING, InFlight, OrderSession, StreamSession
from processes.gateway.throttle import HANDSHAKE_WEIGHT
from shm.counters import Counters
from shm.cursors import available, release
from shm.latch import LATCH_WORDS, is_any_set
from shm.ring import Consumer, Producer
from shm.spill import Spill

REQUESTS_PER_TURN_MAX = 64
SLOW_NS = NS_PER_MS  # what need not be looked at in every turn
OPENING_NS = 5 * NS_PER_MS  # while a socket is being opened
ATTACH_NS = 2_000 * NS_PER_MS
STALL_NS_MAX = 1_000 * NS_PER_MS
SESSIONS_MAX = 64
_KINDS = (RequestKind.NEW, RequestKind.REPLACE, RequestKind.CANCEL)


class Clock(Interface):
    """common.clock, or a virtual one."""

    def now_ns(self) -> int:
        """Read CLOCK_MONOTONIC."""

    def now_wall_ns(self) -> int:
        """Read CLOCK_REALTIME."""


class GatewayStage:
    """Moves records and frames; what they mean is decided in session.py.

    Args:
        orders, stream: the two sessions.
        order_link, stream_link: their connections.
        private_url: of the user-data stream, without the listenKey.
        requests, sessions: rings from risk and from rest.
        reports, fallback: rings to risk and to rest.
        counters: of this process.
        kill_words: the kill page.
        clock: common.clock, or a virtual one.
    """

    def __init__(
        self,
        orders: OrderSession,
        stream: StreamSession,
        order_link: Link,
        stream_link: Link,
        private_url: str,
        requests: Consumer,
        sessions: Consumer,
        reports: Producer,
        fallback: Producer,
        counters: Counters,
        kill_words: np.ndarray,
        clock: Clock,
    ) -> None:
        self.orders = orders
        self.stream = stream
        self.order_link = order_link
        self.stream_link = stream_link
        self.private_url = private_url
        self.requests = requests
        self.sessions = sessions
        self.reports = reports
        self.fallback = fallback
        self.values = counters.values
        self.kill_words = kill_words
        self.clock = clock
        self.consumers = [requests, sessions]
        self.spill = Spill(reports, orders.config.spill_max)
        self.has_lost_reports = False  # risk reads again: it must doubt and reconcile
        self.unsent: list[InFlight] = []
        self.unsent_since_ns = 0
        self.slow_due_ns = 0
        self.attach_due_ns = 0
        self.is_attached = False
        self.expired_url = ""  # the venue would accept it again, and be silent
        self.known_fds: object = None
        self.version = 0

    def do_work(self, now_ns: int) -> int:
        """Send what risk asks for, then read both sockets, then look at the time; never blocks.

        Returns:
            How much was done; 0 lets the shell idle.
        """
        if not self.is_attached:
            self.attach(now_ns)
        work = self.take_requests()
        work += self.poll_orders(now_ns)
        work += self.poll_stream(now_ns)
        if now_ns >= self.slow_due_ns:
            self.slow_due_ns = now_ns + SLOW_NS
            work += self.look(now_ns)
        if len(self.spill):
            work += self.spill.flush()
        if self.has_lost_reports and len(self.spill) == 0:
            self.tell_loss(now_ns)
        return work

    def attach(self, now_ns: int) -> None:
        """Begin: what an earlier gateway had in flight is in doubt, and both sockets are down."""
        self.is_attached = True
        self.tell_session(ReportKind.SESSION_DOWN, ReportSource.RESPONSE, now_ns)
        self.tell_session(ReportKind.SESSION_DOWN, ReportSource.STREAM, now_ns)
        self.ask_session(now_ns)

    # Requests.

    def take_requests(self) -> int:
        """Take requests from risk, one after the other."""
        ring = self.requests
        first, end = available(ring.words)
        end = min(end, first + REQUESTS_PER_TURN_MAX)
        slots, mask = ring.end.slots, ring.capacity - 1
        for sequence in range(first, end):
            slot = sequence & mask
            (request,) = read_requests(slots[slot : slot + 1])
            release(ring.words, sequence + 1)
            self.take_request(request)
        return end - first

    def take_request(self, request: OrderRequest) -> None:
        """Send one request, pass it on, or refuse it."""
        self.values[Counter.REQUESTS] += 1
        self.read_kill_page()
        if request.kind == RequestKind.CANCEL_ALL:  # the WebSocket API has none
            self.pass_on(request)
            return
        if request.kind not in _KINDS:
            self.values[Counter.REQUESTS_BAD] += 1
            return
        now_ns = self.clock.now_ns()
        reject = self.orders.check(request, now_ns)
        if reject:
            self.refuse(request, reject)
        elif self.order_link.is_up:
            self.send(request, now_ns)
        elif self.orders.config.has_fallback:
            self.orders.throttle.spend(request.kind, now_ns)
            self.pass_on(request)
        else:
            self.values[Counter.REFUSED_DOWN] += 1
            self.refuse(request, Reject.GATEWAY_DOWN)

    def read_kill_page(self) -> None:
        """Look whether anybody has killed trading; a half-written order then never gets whole."""
        self.orders.is_killed = bool(is_any_set(self.kill_words, LATCH_WORDS))
        if self.orders.is_killed:
            self.cut_half_written("killed with bytes unsent")

    def cut_half_written(self, reason: str) -> None:
        """Cut the order socket off if a part of an order still waits for the kernel."""
        if any(entry.request.kind in OPENING for entry in self.unsent):
            self.stall(reason)

    def send(self, request: OrderRequest, now_ns: int) -> None:
        """Write one request to the order socket."""
        held = self.order_link.current
        assert held is not None
        socket = held.socket
        if request.kind in OPENING and socket.has_unsent():
            self.values[Counter.REFUSED_FULL] += 1
            self.refuse(request, Reject.GATEWAY_FULL)
            return
        request_id, frame = self.orders.encode(request, now_ns)
        if not frame:
            self.values[Counter.REQUESTS_BAD] += 1
            self.refuse(request, Reject.BAD_REQUEST)
            return
        entry = self.orders.begin(request_id, request, now_ns, held.number)
        if not socket.send(frame):
            del self.orders.in_flight[request_id]
            self.values[Counter.REFUSED_FULL] += 1
            self.refuse(request, Reject.GATEWAY_FULL)
            return
        sent_ns = self.clock.now_ns()
        self.orders.on_written(entry, now_ns)
        if socket.has_unsent():
            self.unsent.append(entry)
            self.unsent_since_ns = self.unsent_since_ns or now_ns
        else:
            self.orders.on_sent(entry, sent_ns)

    def pass_on(self, request: OrderRequest) -> None:
        """Let rest do it."""
        if self.fallback.try_write(requests_array([request])):
            self.values[Counter.FALLBACKS] += 1
            return
        self.values[Counter.REFUSED_DOWN] += 1
        self.refuse(request, Reject.GATEWAY_DOWN)

    def refuse(self, request: OrderRequest, reject: Reject) -> None:
        """Tell risk that a request certainly did nothing."""
        self.write([refused_report(request, reject)])

    # Sockets.

    def poll_orders(self, now_ns: int) -> int:
        """Read responses; write what the kernel did not take before, unless trading was killed."""
        if self.unsent:
            self.read_kill_page()
        events = self.order_link.poll(now_ns)
        if self.unsent:
            self.look_at_unsent(now_ns)
        for event in events:
            if event.event is LinkEvent.TEXT:
                reports = self.orders.on_text(event.text, event.ts_recv_ns)
                for report in reports:
                    self.note_accepted(report, event.ts_recv_ns)
                self.write(reports)
            elif event.event is LinkEvent.UP:
                self.values[Counter.ORDER_SOCKETS] += 1
                self.orders.throttle.weight_1m.spend(HANDSHAKE_WEIGHT, now_ns)
                self.tell_session(ReportKind.SESSION_UP, ReportSource.RESPONSE, now_ns)
            else:
                self.unsent = [entry for entry in self.unsent if entry.socket != event.number]
                self.write(self.orders.on_lost(event.number))
                if event.event is LinkEvent.DOWN:
                    self.tell_session(ReportKind.SESSION_DOWN, ReportSource.RESPONSE, now_ns)
        return len(events)

    def note_accepted(self, report: Report, ts_recv_ns: int) -> None:
        """Expect a stream event for what the venue did."""
        if report.exec_type != ExecType.UNKNOWN and not report.reject and self.stream_link.is_up:
            self.stream.on_accepted(ts_recv_ns - report.sent_to_ack_ns, ts_recv_ns)

    def look_at_unsent(self, now_ns: int) -> None:
        """Stamp requests whose bytes have gone meanwhile; give up a socket that takes none."""
        held = self.order_link.current
        if held is None:
            return
        if not held.socket.has_unsent():
            sent_ns = self.clock.now_ns()
            for entry in self.unsent:
                self.orders.on_sent(entry, sent_ns)
            self.unsent.clear()
            self.unsent_since_ns = 0
        elif now_ns - self.unsent_since_ns > STALL_NS_MAX:
            self.stall("takes no bytes")

    def stall(self, reason: str) -> None:
        """Cut the order socket off: what it has not taken never leaves."""
        held = self.order_link.current
        self.unsent.clear()
        self.unsent_since_ns = 0
        if held is not None and held.socket.has_unsent():
            self.values[Counter.SENDS_STALLED] += 1
            self.order_link.drop(reason, self.clock.now_ns())

    def poll_stream(self, now_ns: int) -> int:
        """Read user-data events."""
        events = self.stream_link.poll(now_ns)
        for event in events:
            if event.event is LinkEvent.TEXT:
                self.write(self.stream.on_text(event.text, event.ts_recv_ns))
                if self.stream.is_key_expired or self.stream.is_broken:
                    self.restart_stream(now_ns)
            elif event.event is LinkEvent.UP:
                self.values[Counter.STREAM_SOCKETS] += 1
                self.stream.on_up()
                self.orders.is_stream_up = True
                self.tell_session(ReportKind.SESSION_UP, ReportSource.STREAM, now_ns)
            elif event.event is LinkEvent.DOWN:
                self.orders.is_stream_up = False
                self.tell_session(ReportKind.SESSION_DOWN, ReportSource.STREAM, now_ns)
            elif event.event is LinkEvent.DOUBTFUL and self.stream_link.is_up:  # risk reconciles
                self.tell_session(ReportKind.SESSION_UP, ReportSource.STREAM, now_ns)
        return len(events)

    def restart_stream(self, now_ns: int) -> None:
        """Begin the stream anew: what came meanwhile is missing, risk reconciles on DOWN and UP."""
        if self.stream.is_key_expired:
            self.expired_url = self.stream_link.url
            self.stream_link.set_url("", now_ns)  # until rest tells a living key
            self.ask_session(now_ns)
        self.stream_link.drop("key expired" if self.stream.is_key_expired else "broken", now_ns)
        self.orders.is_stream_up = False
        self.stream.on_up()

    # What need not be looked at in every turn.

    def look(self, now_ns: int) -> int:
        """Take session records, find what is overdue, refresh gauges."""
        self.read_kill_page()
        work = self.take_sessions(now_ns)
        overdue = self.orders.on_time(now_ns)
        self.write(overdue)
        if self.stream_link.is_up and self.stream.is_silent(now_ns):
            self.values[Counter.STREAM_SILENT] += 1
            self.stream.on_up()
            self.stream_link.drop("no event for an accepted request", now_ns)
        is_session_whole = self.orders.clock.is_good(now_ns) and self.stream_link.url
        if self.orders.is_clock_refused or (not is_session_whole and now_ns >= self.attach_due_ns):
            self.orders.is_clock_refused = False
            self.ask_session(now_ns)
        self.orders.is_spilling = len(self.spill) > 0
        self.orders.record_hops()
        self.set_gauges(now_ns)
        return work + len(overdue)

    def take_sessions(self, now_ns: int) -> int:
        """Take listenKeys and clock offsets from rest."""
        first, end = available(self.sessions.words)
        if first == end:
            return 0
        records = self.sessions.read(SESSIONS_MAX)
        for record in records:
            if record["kind"] == SessionKind.CLOCK_OFFSET:
                self.orders.clock.take(
                    int(record["offset_ns"]),
                    int(record["ts_pub_ns"]),
                    now_ns,
                    self.clock.now_wall_ns(),
                )
                self.values[Counter.CLOCK_OFFSET_NS] = record["offset_ns"]
            elif record["kind"] == SessionKind.LISTEN_KEY:
                length = min(max(int(record["listen_key_bytes"]), 0), LISTEN_KEY_BYTES_MAX)
                key = record["listen_key"][:length].tobytes().decode("ascii", "replace")
                self.set_listen_key(key, now_ns)
        return len(records)

    def set_listen_key(self, key: str, now_ns: int) -> None:
        """Listen to a key; one that replaces another may have been preceded by silence."""
        url = f"{self.private_url}/ws/{key}"
        if url in (self.stream_link.url, self.expired_url):
            return
        if self.stream_link.is_up:
            self.stream_link.drop("listenKey changed", now_ns)
        self.stream_link.set_url(url, now_ns)

    def ask_session(self, now_ns: int) -> None:
        """Ask rest for the listenKey and the clock offset."""
        self.attach_due_ns = now_ns + ATTACH_NS
        self.orders.clock.guess(now_ns, self.clock.now_wall_ns())
        attach = OrderRequest(kind=RequestKind.ATTACH, ts_pub_ns=now_ns)
        if not self.fallback.try_write(requests_array([attach])):
            log.event("rest_does_not_read", ring=self.fallback.name)

    def tell_loss(self, now_ns: int) -> None:
        """Tell both sockets anew after reports were lost: risk doubts requests and reconciles."""
        self.has_lost_reports = False
        links = ((self.order_link, ReportSource.RESPONSE), (self.stream_link, ReportSource.STREAM))
        for link, source in links:
            self.tell_session(ReportKind.SESSION_DOWN, source, now_ns)
            if link.is_up:
                self.tell_session(ReportKind.SESSION_UP, source, now_ns)

    def set_gauges(self, now_ns: int) -> None:
        """Refresh the counters that are gauges."""
        throttle, values = self.orders.throttle, self.values
        values[Counter.SPILLED] = len(self.spill)
        values[Counter.IN_FLIGHT] = len(self.orders.in_flight)
        values[Counter.ORDERS_10S_USED] = throttle.orders_10s.used(now_ns)
        values[Counter.ORDERS_1M_USED] = throttle.orders_1m.used(now_ns)
        values[Counter.WEIGHT_1M_USED] = throttle.weight_1m.used(now_ns)

    def tell_session(self, kind: ReportKind, source: ReportSource, now_ns: int) -> None:
        """Tell risk that a socket came up or went down."""
        self.write([Report(kind=kind, source=source, ts_report_recv_ns=now_ns)])

    def write(self, reports: Sequence[Report]) -> None:
        """Write reports for risk; while the ring is full they are kept, and orders refused.

        Each is a message of its own: many at once, say all that was in flight on a lost socket,
        would never fit a small ring together.
        """
        now_ns = self.clock.now_ns()
        for report in reports:
            report.ts_pub_ns = now_ns
            if not self.spill.write(reports_array([report])):
                self.values[Counter.REPORTS_LOST] += 1
                self.has_lost_reports = True
        self.orders.is_spilling = len(self.spill) > 0

    # For the shell.

    def fds(self) -> list[tuple[int, int]]:
        """Return the descriptors to sleep on."""
        return self.order_link.fds() + self.stream_link.fds()

    @property
    def fds_version(self) -> int:
        """Changes when `fds` does."""
        known = (self.order_link.fds_version, self.stream_link.fds_version, self.fds())
        if known != self.known_fds:  # a closed descriptor's number may come back: count links too
            self.known_fds = known
            self.version += 1
        return self.version

    def next_timer_ns(self) -> int:
        """Return when there is something to do without anybody asking."""
        links = (self.order_link, self.stream_link)
        if any(link.opening is not None for link in links):
            return self.clock.now_ns() + OPENING_NS
        times = [link.next_timer_ns() for link in links]
        times.append(self.orders.next_deadline_ns())
        return min((time for time in times if time), default=0)

    def on_phase(self, phase: Phase, now_ns: int) -> None:
        """Follow the supervisor: from STOP_ORDERS on only cancels are sent, to the last byte."""
        self.orders.phase = phase
        if phase >= Phase.STOP_ORDERS:
            self.cut_half_written("stopping with bytes unsent")

    def is_ready(self) -> bool:
        """Return True once orders can be sent and heard of."""
        is_clock_good = self.orders.clock.is_good(self.clock.now_ns())
        return self.order_link.is_up and self.stream_link.is_up and is_clock_good

    def is_drained(self) -> bool:
        """Return True when nothing is in flight and every report is written."""
        return not self.orders.in_flight and len(self.spill) == 0

    def close(self) -> None:
        """Close the sockets; the ring ends belong to the shell."""
        self.orders.record_hops()
        self.order_link.close()
        self.stream_link.close()

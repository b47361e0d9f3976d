"""The two sessions with the venue without I/O: requests and responses; user-data events.

A request is answered once: by its response, by a refusal of ours before it is sent, or by UNKNOWN
when its socket is lost or its time is over. Nothing is ever sent again.
"""

import numpy as np

from common import log
from common.binance import (
    NS_PER_MS,
    Credentials,
    Outcome,
    accepted_report,
    banned_until_ms,
    by_symbol,
    classify,
    refused_report,
    reject_of,
    saturate_int32,
    unknown_report,
)
from common.binance_limits import NS_PER_SECOND
from common.enums import Phase, Reject, RequestKind
from common.instruments import Instrument
from common.messages import OrderRequest, Report
from processes.gateway.config import GatewayConfig
from processes.gateway.counters import Counter, Hop
from processes.gateway.decode import (
    BAD_FRAME,
    EventKind,
    Response,
    UserData,
    decode_order,
    decode_response,
)
from processes.gateway.encode import Encoder
from processes.gateway.throttle import Throttle
from shm.counters import record_value

CLOCK_OFFSET_NS_MAX = 500 * NS_PER_MS
BAN_NS = 120 * NS_PER_SECOND  # the shortest documented ban, where the venue does not say
BAN_NS_MAX = 259_200 * NS_PER_SECOND
LATE_MAX = 4_096
OPENING = (RequestKind.NEW, RequestKind.REPLACE)
SENT_COUNTERS: dict[int, Counter] = {
    RequestKind.NEW: Counter.ORDERS_SENT,
    RequestKind.REPLACE: Counter.REPLACES_SENT,
    RequestKind.CANCEL: Counter.CANCELS_SENT,
}


class VenueClock:
    """The venue's wall clock, from rest's measurements; kept on the monotonic clock.

    So a step of our own wall clock changes no timestamp that we send.
    """

    def __init__(self, age_ns_max: int) -> None:
        self.age_ns_max = age_ns_max
        self.offset_ns = 0
        self.venue_minus_mono_ns = 0
        self.ts_ns = 0  # CLOCK_MONOTONIC of the measurement; 0: unknown

    def take(self, offset_ns: int, ts_ns: int, now_ns: int, wall_ns: int) -> None:
        """Take over one measurement: venue's wall clock minus ours."""
        self.offset_ns = offset_ns
        self.venue_minus_mono_ns = offset_ns + wall_ns - now_ns
        self.ts_ns = ts_ns

    def guess(self, now_ns: int, wall_ns: int) -> None:
        """Use our own wall clock until the first measurement; cancels go out with it."""
        if self.venue_minus_mono_ns == 0:
            self.venue_minus_mono_ns = wall_ns - now_ns

    def forget(self) -> None:
        """Stop trusting the measurement: the venue has refused a timestamp."""
        self.ts_ns = 0

    def is_good(self, now_ns: int) -> bool:
        """Return True if orders may be stamped: measured lately, and not far away."""
        return (
            self.ts_ns != 0
            and now_ns - self.ts_ns <= self.age_ns_max
            and abs(self.offset_ns) <= CLOCK_OFFSET_NS_MAX
        )

    def venue_ms(self, now_ns: int) -> int:
        """Return the venue's wall clock."""
        return (now_ns + self.venue_minus_mono_ns) // NS_PER_MS


class InFlight:
    """A request that was written and has no response yet."""

    __slots__ = ("request", "ts_sent_ns", "deadline_ns", "socket")

    def __init__(
        self, request: OrderRequest, ts_sent_ns: int, deadline_ns: int, socket: int
    ) -> None:
        self.request = request
        self.ts_sent_ns = ts_sent_ns
        self.deadline_ns = deadline_ns
        self.socket = socket


class OrderSession:
    """Requests out, responses in.

    Args:
        config: of this process.
        instruments: of the run.
        credentials: sign the requests.
        values, histograms: of the process's counters, changed.

    Attributes:
        is_killed, is_stream_up, is_spilling, phase: what the stage sees; all refuse orders.
        is_clock_refused: the venue refused a timestamp; the stage asks for the clock and clears it.
    """

    def __init__(
        self,
        config: GatewayConfig,
        instruments: list[Instrument],
        credentials: Credentials,
        values: np.ndarray,
        histograms: np.ndarray,
    ) -> None:
        self.config = config
        self.instruments = instruments
        self.values = values
        self.histograms = histograms
        self.encoder = Encoder(instruments, credentials, config.stp_mode, config.recv_window_ms)
        self.clock = VenueClock(config.clock_age_ms_max * NS_PER_MS)
        self.throttle = Throttle(
            config.orders_10s_max,
            config.orders_1m_max,
            config.weight_1m_max,
            config.soft_percent,
        )
        self.timeout_ns = config.request_timeout_ms * NS_PER_MS
        self.age_ns_max = config.order_age_ms_max * NS_PER_MS
        self.in_flight: dict[int, InFlight] = {}  # oldest first
        self.late: dict[int, InFlight] = {}
        self.measured: list[tuple[int, int]] = []
        self.last_id = 0
        self.is_killed = False
        self.is_stream_up = False
        self.is_spilling = False
        self.is_auth_refused = False
        self.is_clock_refused = False
        self.phase = Phase.STARTING

    def check(self, request: OrderRequest, now_ns: int) -> Reject:
        """Judge one request before it is sent; nothing is counted as spent.

        Returns:
            NONE, or why not. A cancel is held back only by a ban or by the venue's hard limit.
        """
        if request.kind in OPENING:
            reject = self.check_opening(request, now_ns)
            if reject:
                return reject
        reject = self.throttle.check(request.kind, now_ns)
        if reject:
            self.values[Counter.REFUSED_THROTTLE] += 1
        return reject

    def check_opening(self, request: OrderRequest, now_ns: int) -> Reject:
        """Judge whether anything may be sent that can create exposure."""
        if self.is_killed:
            self.values[Counter.REFUSED_KILLED] += 1
            return Reject.KILLED
        if self.phase >= Phase.STOP_ORDERS:
            self.values[Counter.REFUSED_STOPPING] += 1
            return Reject.STOPPING
        if self.is_auth_refused:
            self.values[Counter.REFUSED_AUTH] += 1
            return Reject.VENUE_AUTH
        if now_ns - request.ts_pub_ns > self.age_ns_max:
            self.values[Counter.REFUSED_OLD] += 1
            return Reject.GATEWAY_DOWN
        if self.is_spilling or len(self.in_flight) >= self.config.in_flight_max:
            self.values[Counter.REFUSED_FULL] += 1
            return Reject.GATEWAY_FULL
        if not self.is_stream_up:
            self.values[Counter.REFUSED_DOWN] += 1
            return Reject.GATEWAY_DOWN
        if not self.clock.is_good(now_ns):
            self.values[Counter.REFUSED_CLOCK] += 1
            return Reject.CLOCK_OFFSET
        return Reject.NONE

    def encode(self, request: OrderRequest, now_ns: int) -> tuple[int, bytes]:
        """Return the id and the frame of one request; an empty frame: it cannot be written."""
        self.last_id += 1
        frame = self.encoder.encode(request, self.last_id, self.clock.venue_ms(now_ns))
        return self.last_id, frame

    def begin(self, request_id: int, request: OrderRequest, now_ns: int, socket: int) -> InFlight:
        """Remember a request before its first byte is written; all else is done behind it."""
        entry = InFlight(request, now_ns, now_ns + self.timeout_ns, socket)
        self.in_flight[request_id] = entry
        return entry

    def on_written(self, entry: InFlight, now_ns: int) -> None:
        """Count a request that the socket has accepted."""
        self.throttle.spend(entry.request.kind, now_ns)
        self.values[SENT_COUNTERS[entry.request.kind]] += 1

    def on_sent(self, entry: InFlight, ts_sent_ns: int) -> None:
        """Note when the last byte of a request was taken by the kernel."""
        entry.ts_sent_ns = ts_sent_ns
        request = entry.request
        self.measured.append((Hop.RISK_TO_SENT.value, ts_sent_ns - request.ts_pub_ns))
        if request.ts_recv_ns > 0:
            self.measured.append((Hop.RECV_TO_SENT.value, ts_sent_ns - request.ts_recv_ns))

    def record_hops(self) -> None:
        """Write what was measured into the histograms; off the path of the orders."""
        for hop, value_ns in self.measured:
            record_value(self.histograms, hop, value_ns)
        self.measured.clear()

    def on_text(self, text: bytes, ts_recv_ns: int) -> list[Report]:
        """Take one frame of the order socket; return the report of the request it answers."""
        try:
            response = decode_response(text)
        except BAD_FRAME as error:
            self.values[Counter.DECODE_ERRORS] += 1
            log.event("bad_response", error=str(error))
            return []
        for limit in response.rateLimits:
            self.throttle.on_limit(
                limit.rateLimitType,
                limit.interval,
                limit.intervalNum,
                limit.limit,
                limit.count,
                ts_recv_ns,
            )
        outcome = classify(response.status, response.error.code, response.error.msg)
        self.note(outcome, response, ts_recv_ns)
        entry = self.take(response.id)
        if entry is None:
            self.values[Counter.RESPONSES_UNMATCHED] += 1
            return []
        report = self.judge(entry.request, outcome, response)
        self.stamp(report, entry, ts_recv_ns)
        return [report]

    def take(self, request_id: int | str | None) -> InFlight | None:
        """Take the request that a response answers, also one that has been told as UNKNOWN."""
        if not isinstance(request_id, int):
            return None
        entry = self.in_flight.pop(request_id, None)
        if entry is None:
            entry = self.late.pop(request_id, None)
            if entry is not None:
                self.values[Counter.LATE_RESPONSES] += 1
        return entry

    def judge(self, request: OrderRequest, outcome: Outcome, response: Response) -> Report:
        """Return the report of one answered request."""
        if outcome is Outcome.OK:
            try:
                order = decode_order(response)
                report = accepted_report(request, order, self.instruments[request.instrument_id])
                self.values[Counter.ACKS] += 1
                return report
            except BAD_FRAME as error:
                self.values[Counter.DECODE_ERRORS] += 1
                log.event("bad_response", error=str(error))
                outcome = Outcome.UNKNOWN
        code = response.error.code
        if outcome is Outcome.UNKNOWN:
            self.values[Counter.UNKNOWN] += 1
            return unknown_report(request, code)
        self.values[Counter.REJECTS_VENUE] += 1
        return refused_report(request, reject_of(outcome, code), code)

    def note(self, outcome: Outcome, response: Response, now_ns: int) -> None:
        """Draw the consequences that an answer has for what is sent next."""
        if outcome is Outcome.OK:
            self.throttle.on_accepted(now_ns)
        elif outcome is Outcome.RATE:
            self.on_limited(response, now_ns)
        elif outcome is Outcome.AUTH:
            self.values[Counter.AUTH_FAILURES] += 1
            if not self.is_auth_refused:
                self.is_auth_refused = True
                log.event("key_refused", code=response.error.code, why=response.error.msg)
        elif outcome is Outcome.CLOCK:
            self.values[Counter.CLOCK_REFUSALS] += 1
            self.clock.forget()
            self.is_clock_refused = True

    def on_limited(self, response: Response, now_ns: int) -> None:
        """Back off after a limit, and stop altogether while banned (limits page)."""
        until_ms = banned_until_ms(response.error.msg)
        if response.status in (403, 418) or until_ms:
            until_ns = now_ns + BAN_NS
            if until_ms:
                until_ns = until_ms * NS_PER_MS - self.clock.venue_minus_mono_ns
            self.throttle.on_banned(min(until_ns, now_ns + BAN_NS_MAX))
            self.values[Counter.BANS] += 1
            log.event("banned", status=response.status, code=response.error.code)
            return
        self.throttle.on_refused(now_ns)
        self.values[Counter.RATE_LIMITED] += 1

    def stamp(self, report: Report, entry: InFlight, ts_recv_ns: int) -> None:
        """Write the hops of an answered request."""
        took_ns = ts_recv_ns - entry.ts_sent_ns
        report.risk_to_sent_ns = saturate_int32(entry.ts_sent_ns - entry.request.ts_pub_ns)
        report.sent_to_ack_ns = saturate_int32(took_ns)
        report.ts_report_recv_ns = ts_recv_ns
        self.measured.append((Hop.SENT_TO_ACK.value, took_ns))

    def on_time(self, now_ns: int) -> list[Report]:
        """Return UNKNOWN for requests whose time is over; their response may still come."""
        reports = []
        while self.in_flight:
            request_id, entry = next(iter(self.in_flight.items()))
            if now_ns <= entry.deadline_ns:
                break
            del self.in_flight[request_id]
            if len(self.late) >= LATE_MAX:
                del self.late[next(iter(self.late))]
            self.late[request_id] = entry
            reports.append(self.tell_unknown(entry))
        return reports

    def on_lost(self, socket: int) -> list[Report]:
        """Return UNKNOWN for everything in flight on a socket that is gone."""
        lost = [key for key, entry in self.in_flight.items() if entry.socket == socket]
        return [self.tell_unknown(self.in_flight.pop(key)) for key in lost]

    def tell_unknown(self, entry: InFlight) -> Report:
        """Return the UNKNOWN report of a request."""
        self.values[Counter.UNKNOWN] += 1
        report = unknown_report(entry.request)
        report.risk_to_sent_ns = saturate_int32(entry.ts_sent_ns - entry.request.ts_pub_ns)
        return report

    def next_deadline_ns(self) -> int:
        """Return when the oldest request's time is over; 0 if none is in flight."""
        for entry in self.in_flight.values():
            return entry.deadline_ns
        return 0


class StreamSession:
    """User-data events in.

    Attributes:
        is_broken: an event could not be read: what it told is missing, so the stream is begun anew
            and everything is reconciled; is_key_expired: the listenKey is dead. The stage acts on
            both and clears them.
    """

    def __init__(
        self, config: GatewayConfig, instruments: list[Instrument], values: np.ndarray
    ) -> None:
        self.values = values
        self.user_data = UserData(by_symbol(instruments), config.quote_asset)
        self.silent_ns_max = config.stream_silent_ms_max * NS_PER_MS
        self.ts_event_ns = 0
        self.ts_waiting_ns = 0  # since when an event is due; 0: none is
        self.is_broken = False
        self.is_key_expired = False

    def on_up(self) -> None:
        """Begin a connection: nothing is due on it yet."""
        self.ts_waiting_ns = 0
        self.is_broken = False
        self.is_key_expired = False

    def on_accepted(self, ts_sent_ns: int, now_ns: int) -> None:
        """Note that the venue did a request: an event about it is due, or has come already."""
        if self.ts_waiting_ns == 0 and self.ts_event_ns < ts_sent_ns:
            self.ts_waiting_ns = now_ns

    def is_silent(self, now_ns: int) -> bool:
        """Return True if an event is overdue: the stream is open and dead (listenKey page)."""
        return self.ts_waiting_ns != 0 and now_ns - self.ts_waiting_ns > self.silent_ns_max

    def on_text(self, text: bytes, ts_recv_ns: int) -> tuple[Report, ...]:
        """Take one frame; return what it reports."""
        values = self.values
        try:
            decoded = self.user_data.decode(text, ts_recv_ns)
        except BAD_FRAME as error:
            values[Counter.DECODE_ERRORS] += 1
            self.is_broken = True
            log.event("bad_user_data", error=str(error))
            return ()
        kind = decoded.kind
        if kind in (EventKind.ORDER, EventKind.FOREIGN):
            self.ts_event_ns = ts_recv_ns
            self.ts_waiting_ns = 0
        if kind is EventKind.ORDER:
            values[Counter.STREAM_EVENTS] += 1
            values[Counter.FILLS] += decoded.reports[0].last_qty_steps > 0
            if decoded.fee_asset:
                values[Counter.FOREIGN_FEES] += 1
                if values[Counter.FOREIGN_FEES] == 1:
                    log.event("foreign_fee", asset=decoded.fee_asset)
        elif kind is EventKind.ACCOUNT:
            values[Counter.ACCOUNT_EVENTS] += 1
        elif kind is EventKind.TRADE_LITE:
            values[Counter.TRADE_LITES] += 1
        elif kind is EventKind.KEY_EXPIRED:
            values[Counter.KEYS_EXPIRED] += 1
            self.is_key_expired = True
        elif kind is EventKind.FOREIGN:
            values[Counter.EVENTS_FOREIGN] += 1
        else:
            values[Counter.EVENTS_IGNORED] += 1
        return decoded.reports

"""Jobs that keep the session with the venue alive: clock offset, listenKey, dead-man timers.

The clock offset reaches the gateway only while every dead-man timer runs: without it the gateway
sends no order, so no order can be open that nobody would cancel.
"""

import msgspec

from common import log
from common.binance import NS_PER_MS, Ms, Outcome
from common.binance_limits import NS_PER_SECOND
from common.enums import SessionKind
from common.instruments import Instrument
from common.records import LISTEN_KEY_BYTES_MAX
from processes.rest.calls import Call, Priority
from processes.rest.counters import Counter
from processes.rest.desk import Desk
from processes.rest.scheduler import Steps, Wait

TIME = Call("GET", "/fapi/v1/time", weight=1, is_keyed=False, is_signed=False)
NEW_KEY = Call("POST", "/fapi/v1/listenKey", is_signed=False)
EXTEND_KEY = Call("PUT", "/fapi/v1/listenKey", is_signed=False)
COUNTDOWN_WEIGHT = 10
NO_SUCH_KEY_CODE = -1125
RETRY_NS = 500 * NS_PER_MS
# The venue's clock is told in whole milliseconds, cut off: on average half of one too early.
HALF_MS_NS = NS_PER_MS // 2
CLOCK_POLL_NS = 100 * NS_PER_MS


class _Time(msgspec.Struct):
    serverTime: Ms


class _ListenKey(msgspec.Struct):
    listenKey: str


_time = msgspec.json.Decoder(_Time)
_listen_key = msgspec.json.Decoder(_ListenKey)


def start(desk: Desk) -> None:
    """Start all jobs of this module."""
    desk.spawn(Priority.SESSION, keep_clock(desk))
    desk.spawn(Priority.SESSION, keep_listen_key(desk))
    for instrument in desk.instruments:
        desk.spawn(Priority.DEAD_MAN, keep_dead_man(desk, instrument))


def keep_clock(desk: Desk) -> Steps:
    """Measure the venue's clock for ever; the median of a round counts (general-info, timing)."""
    while True:
        samples = []
        for _ in range(desk.config.clock_samples):
            answer = yield TIME
            assert answer is not None
            if not answer.is_ok:
                continue
            try:
                server_ns = _time.decode(answer.body).serverTime * NS_PER_MS + HALF_MS_NS
            except (ValueError, RecursionError) as error:
                desk.count_bad_answer("time", error)
                continue
            middle_ns = (answer.ts_sent_ns + answer.ts_recv_ns) // 2
            samples.append((server_ns - middle_ns, answer.ts_recv_ns - answer.ts_sent_ns))
        if not samples:
            yield Wait(RETRY_NS)
            continue
        samples.sort()
        take_clock(desk, *samples[len(samples) // 2])
        desk.is_clock_wanted = False
        due_ns = desk.now_ns + desk.config.clock_every_ms * NS_PER_MS
        while desk.now_ns < due_ns and not desk.is_clock_wanted:
            yield Wait(min(due_ns - desk.now_ns, CLOCK_POLL_NS))


def take_clock(desk: Desk, venue_minus_mono_ns: int, round_trip_ns: int) -> None:
    """Take over one measurement."""
    is_first = desk.ts_clock_ns == 0
    desk.venue_minus_mono_ns = venue_minus_mono_ns
    desk.scheduler.venue_minus_mono_ns = venue_minus_mono_ns
    desk.round_trip_ns = round_trip_ns
    desk.ts_clock_ns = desk.now_ns
    desk.values[Counter.CLOCK_ROUNDS] += 1
    desk.values[Counter.CLOCK_OFFSET_NS] = desk.clock_offset_ns()
    if is_first or not desk.is_clock_good():
        log.event("venue_clock", offset_ns=desk.clock_offset_ns(), round_trip_ns=round_trip_ns)
    tell_clock(desk)


def tell_clock(desk: Desk) -> None:
    """Let the gateway have the offset, if every dead-man timer runs."""
    if desk.ts_clock_ns and desk.is_armed():
        desk.session_due.add(SessionKind.CLOCK_OFFSET)


def tell_listen_key(desk: Desk) -> None:
    """Let the gateway have the listenKey again, if the venue has lately said that it lives."""
    if desk.listen_key and desk.now_ns < desk.listen_key_due_ns:
        desk.session_due.add(SessionKind.LISTEN_KEY)


def keep_listen_key(desk: Desk) -> Steps:
    """Hold a listenKey and extend it; a dead one is replaced (user-data-streams, lifecycle)."""
    while True:
        yield from fetch_listen_key(desk)
        if not desk.listen_key:
            yield Wait(RETRY_NS)
            continue
        is_alive = True
        while is_alive:
            yield Wait(desk.config.listen_key_every_s * NS_PER_SECOND)
            answer = yield from desk.ask(EXTEND_KEY)
            is_alive = answer.is_ok or answer.code != NO_SUCH_KEY_CODE
            if answer.is_ok:
                note_key_time(desk)
            if not is_alive:
                log.event("listen_key_dead", code=answer.code)


def fetch_listen_key(desk: Desk) -> Steps:
    """Create a listenKey, or get and extend the account's, and tell the gateway."""
    answer = yield from desk.ask(NEW_KEY)
    if not answer.is_ok:
        log.event("listen_key_failed", status=answer.status, code=answer.code, why=answer.message)
        return
    try:
        key = _listen_key.decode(answer.body).listenKey
    except (ValueError, RecursionError) as error:
        desk.count_bad_answer("listenKey", error)
        return
    if not 0 < len(key) <= LISTEN_KEY_BYTES_MAX or not (key.isascii() and key.isalnum()):
        desk.count_bad_answer("listenKey", ValueError(f"key of {len(key)} characters"))
        return
    desk.listen_key = key
    note_key_time(desk)
    desk.values[Counter.LISTEN_KEYS] += 1
    desk.session_due.add(SessionKind.LISTEN_KEY)


def note_key_time(desk: Desk) -> None:
    """Note that the venue has just said that the listenKey lives."""
    desk.listen_key_due_ns = desk.now_ns + desk.config.listen_key_every_s * NS_PER_SECOND


def countdown(instrument: Instrument, countdown_ms: int) -> Call:
    """Return the call that arms a symbol's dead-man timer, or disarms it with 0."""
    params: dict[str, str | int] = {"symbol": instrument.symbol, "countdownTime": countdown_ms}
    return Call("POST", "/fapi/v1/countdownCancelAll", params, weight=COUNTDOWN_WEIGHT)


def keep_dead_man(desk: Desk, instrument: Instrument) -> Steps:
    """Arm a symbol's dead-man timer and refresh it at a quarter of its window, for ever.

    While nobody wants it (a dead gateway, a clean stop) it is left to run out.
    """
    window_ns = desk.config.countdown_ms * NS_PER_MS
    row = instrument.instrument_id
    call = countdown(instrument, desk.config.countdown_ms)
    while True:
        if not desk.is_dead_man_wanted or desk.is_gateway_dead:
            yield Wait(CLOCK_POLL_NS)
            continue
        answer = yield call
        assert answer is not None
        if 0 < desk.armed_until_ns[row] < desk.now_ns:
            desk.values[Counter.DEAD_MAN_LAPSES] += 1
            log.event("dead_man_lapsed", symbol=instrument.symbol)
            desk.armed_until_ns[row] = 0
        if not answer.is_ok:
            desk.is_clock_wanted |= answer.outcome is Outcome.CLOCK
            yield Wait(min(RETRY_NS, window_ns // 20))
            continue
        desk.values[Counter.DEAD_MAN_REFRESHES] += 1
        was_armed = desk.is_armed()
        desk.armed_until_ns[row] = answer.ts_sent_ns + window_ns
        if not was_armed:
            tell_clock(desk)
        yield Wait(window_ns // 4)

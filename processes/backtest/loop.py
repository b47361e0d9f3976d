"""The compiled loop of a backtest: events of all instruments, the venue, risk and the strategy.

Events are taken in the order of their time, ties by instrument, then local data, local order, venue
data, venue order. The strategy's turn at an instant t is taken after all events up to t, and its
requests leave at t + compute time; until then no other turn begins. Behind the last event nothing
is sent any more, and the run ends when all answers have come. The turn is
`processes.strategy.engine.run_turn`, the function that runs live, and so are risk's checks.

The loop returns to Python after a slice, when an array is full, and at the end; all that it knows
is in arrays, so it goes on where it was.
"""

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numba import njit

from common.enums import Side
from common.fixed_point import INT64_MAX
from processes.backtest import exchange as at_venue
from processes.backtest import ladder as book
from processes.backtest import local as here
from processes.backtest.events import AT_LOCAL, AT_VENUE, EventKind
from processes.backtest.exchange import on_best, on_level, on_trade, take_requests
from processes.risk.oms import OUT_COUNT, WANTS_CANCELS
from processes.strategy import engine
from processes.strategy.desk import TIMERS_MAX

LOCAL_DATA, LOCAL_ORDER, VENUE_DATA, VENUE_ORDER = 0, 1, 2, 3
NEVER = INT64_MAX
TURNS_PER_INSTANT_MAX = 1_000
SLOTS = 1 << 13  # market slots between two turns; at half of it a turn is taken
REPORTS_MAX = 4_096  # to the strategy between two turns; a power of two

# Places in Clock.words.
NOW = 0
PENDING = 1  # instant of a turn that something has asked for, NEVER
TIMER = 2  # of the earliest timer, NEVER
BUSY_UNTIL = 3
TURNS = 4
TURNS_HERE = 5  # at this instant
STATE_COUNT = 6
INTENT_COUNT = 7  # written to the log
EVENTS = 8
COMPUTE_ROW = 9
FORCED = 10  # turns taken because slots were filling up
IS_OVERRUN = 11  # more events at one instant than there are slots
WORDS = 16

# Places in Clock.options.
ON_EVENTS = 0  # 1: a turn at every instant that brings something; 0: at timers only
WANTS_TRADES = 1
BOOK_LEVELS = 2
UNTIL = 3  # stop behind this instant
LOGS_INTENTS = 4
OPTIONS = 8


class Status(IntEnum):
    """Why the loop returned."""

    DONE = 0
    SLICE = 1
    GROW = 2
    STUCK = 3
    BROKEN = 4


class Clock(NamedTuple):
    """Where a run stands.

    Attributes:
        words: int64[WORDS].
        options: int64[OPTIONS], read.
        due: int64[n, 4], next instant of each source.
        cursors: int64[n, 2], next event here and at the venue.
        none: int64[REQUEST_WORDS], all 0: no request.
        scratch: int64[ORDER_WORDS].
        compute_ns: int64[k], how long turns take, in turn.
        states: STATE[m].
        log: ORDER_REQUEST[k], all intents, if wanted.
    """

    words: np.ndarray
    options: np.ndarray
    due: np.ndarray
    cursors: np.ndarray
    none: np.ndarray
    scratch: np.ndarray
    compute_ns: np.ndarray
    states: np.ndarray
    log: np.ndarray


@njit(cache=True, _nrt=False)
def next_event(events, first, end, flag):
    """Return the place of the first event at or behind `first` that has the flag, or `end`."""
    while first < end and events[first]["flags"] & flag == 0:
        first += 1
    return first


@njit(cache=True, _nrt=False)
def rewind(clock, events, spans):
    """Put all cursors before the first events; return the earliest instant."""
    earliest = NEVER
    for i in range(spans.shape[0]):
        end = spans[i, 1]
        place = next_event(events, spans[i, 0], end, AT_LOCAL)
        clock.cursors[i, 0] = place
        clock.due[i, LOCAL_DATA] = events[place]["ts_recv_ns"] if place < end else NEVER
        place = next_event(events, spans[i, 0], end, AT_VENUE)
        clock.cursors[i, 1] = place
        clock.due[i, VENUE_DATA] = events[place]["ts_exch_ns"] if place < end else NEVER
        clock.due[i, LOCAL_ORDER] = NEVER
        clock.due[i, VENUE_ORDER] = NEVER
        earliest = min(earliest, clock.due[i, LOCAL_DATA], clock.due[i, VENUE_DATA])
    clock.words[PENDING] = earliest
    clock.words[TIMER] = NEVER
    clock.words[NOW] = earliest
    return earliest


@njit(cache=True, _nrt=False)
def take_local_data(clock, local, events, i, end, stop):
    """Take the events of one instrument that are seen here before `stop`.

    Args:
        clock, local: changed.
        events: EVENT[m], read.
        i: instrument.
        end: of its events.
        stop: instant.
    """
    ladders, at_book = local.ladders, local.places[i]
    seen = local.seen[i]
    place = clock.cursors[i, 0]
    half = local.slots.shape[0] // 2
    taken = 0
    ts = NEVER
    while place < end:
        event = events[place]
        if event["flags"] & AT_LOCAL == 0:
            place += 1
            continue
        ts = event["ts_recv_ns"]
        if ts >= stop:
            break
        if clock.options[ON_EVENTS] != 0 and clock.words[PENDING] > ts:
            clock.words[PENDING] = ts
            stop = min(stop, ts + 1)
        kind = event["kind"]
        if kind == EventKind.DEPTH:
            if event["side"] == Side.BID:
                book.set_bid(ladders, at_book, event["level"], event["qty_steps"])
            else:
                book.set_ask(ladders, at_book, event["level"], event["qty_steps"])
            seen[here.IS_DIRTY] = 1
            seen[here.TS_RECV] = ts
            seen[here.TS_EXCH] = event["ts_exch_ns"]
        elif kind == EventKind.TRADE:
            if clock.options[WANTS_TRADES] != 0:
                used = local.ring[here.WRITTEN] - local.ring[here.TAKEN]
                if used > half:  # a turn out of turn
                    clock.words[FORCED] += np.int64(clock.words[PENDING] > ts)
                    clock.words[PENDING] = min(clock.words[PENDING], ts)
                    stop = min(stop, ts + 1)
                if used > half + half // 2:
                    clock.words[IS_OVERRUN] = 1
                    break
                if clock.options[ON_EVENTS] != 0 and seen[here.IS_DIRTY] != 0:
                    here.write_book(local, i, clock.options[BOOK_LEVELS], ts)
                here.write_trade(local, i, event)
        elif kind == EventKind.CLEAR:
            side = np.int64(event["side"])
            book.clear(ladders, local.prices, at_book, side, event["level"])
            seen[here.IS_DIRTY] = 1
        taken += 1
        place += 1
    clock.words[EVENTS] += taken
    clock.cursors[i, 0] = place
    clock.due[i, LOCAL_DATA] = ts if place < end else NEVER


@njit(cache=True, _nrt=False)
def has_data(due):
    """Return True if an event is left, here or at the venue."""
    for i in range(due.shape[0]):
        if due[i, LOCAL_DATA] < NEVER or due[i, VENUE_DATA] < NEVER:
            return True
    return False


@njit(cache=True, _nrt=False)
def take_venue_data(clock, local, x, events, i, end, stop):
    """Take the events of one instrument that happen at the venue before `stop`.

    It returns after the first event that fills an order of ours: its answer may come before `stop`.
    """
    ladders, at_book, prices = x.ladders, x.facts[i, at_venue.PLACE], x.prices
    first_price = ladders[at_book + book.PRICES]
    place = clock.cursors[i, 1]
    taken = filled = 0
    ts = NEVER
    while place < end:
        event = events[place]
        if event["flags"] & AT_VENUE == 0:
            place += 1
            continue
        ts = event["ts_exch_ns"]
        if ts >= stop or filled > 0:
            break
        kind = event["kind"]
        if kind == EventKind.DEPTH:
            level, qty = event["level"], event["qty_steps"]
            bid, ask = ladders[at_book + book.BEST_BID], ladders[at_book + book.BEST_ASK]
            if event["side"] == Side.BID:
                before = book.set_bid(ladders, at_book, level, qty)
                if x.counts[i, 0] > 0:
                    on_level(x, i, 0, event["price_steps"], before, qty)
                if ladders[at_book + book.BEST_BID] > bid and x.counts[i, 1] > 0:
                    mid = mid_of(ladders, prices, at_book, bid, ask)
                    best = prices[first_price + ladders[at_book + book.BEST_BID]]
                    filled += on_best(x, i, 1, best, mid, clock.none, ts)
            else:
                before = book.set_ask(ladders, at_book, level, qty)
                if x.counts[i, 1] > 0:
                    on_level(x, i, 1, event["price_steps"], before, qty)
                if ladders[at_book + book.BEST_ASK] < ask and x.counts[i, 0] > 0:
                    mid = mid_of(ladders, prices, at_book, bid, ask)
                    best = prices[first_price + ladders[at_book + book.BEST_ASK]]
                    filled += on_best(x, i, 0, best, mid, clock.none, ts)
        elif kind == EventKind.TRADE:
            side = np.int64(event["side"])
            if side != 0 and x.counts[i, 0] + x.counts[i, 1] > 0:
                filled += on_trade(
                    x, i, side, event["price_steps"], event["qty_steps"], clock.none, ts
                )
        elif kind == EventKind.CLEAR:
            book.clear(ladders, prices, at_book, np.int64(event["side"]), event["level"])
        elif kind == EventKind.FUNDING:
            pay_funding(local, x, i, event)
        taken += 1
        place += 1
    clock.words[EVENTS] += taken
    clock.cursors[i, 1] = place
    clock.due[i, VENUE_DATA] = ts if place < end else NEVER


@njit(cache=True, _nrt=False)
def mid_of(ladders, prices, at_book, bid, ask):
    """Return the prices of two levels added, 0 if one is none."""
    if bid == book.NONE or ask == ladders[at_book + book.LEVELS]:
        return 0
    first = ladders[at_book + book.PRICES]
    return prices[first + bid] + prices[first + ask]


@njit(cache=True, _nrt=False)
def pay_funding(local, x, i, event):
    """Pay, or receive, funding on the position that the venue holds: position x mark x rate."""
    unit = x.scales[i, at_venue.UNIT]
    value_e8 = np.int64(x.positions[i] / unit * event["mark_price_e8"])
    local.accounts[i, here.FUNDING_E8] += np.int64(round(value_e8 * (event["trade_id"] * 1e-8)))


@njit(cache=True, _nrt=False)
def write_states(clock, local, x, now):
    """Write a STATE row of every instrument."""
    for i in range(local.places.shape[0]):
        row = clock.states[clock.words[STATE_COUNT]]
        clock.words[STATE_COUNT] += 1
        known = local.accounts[i]
        row["ts_ns"] = now
        row["position_steps"] = known[here.POSITION]
        row["balance_steps2"] = known[here.BALANCE]
        row["fee_e12"] = known[here.FEE_E12]
        row["funding_e8"] = known[here.FUNDING_E8]
        row["trade_count"] = known[here.TRADES]
        row["volume_steps"] = known[here.VOLUME]
        row["turnover_steps2"] = known[here.TURNOVER]
        row["bid_price_steps"] = book.best_bid(local.ladders, local.prices, local.places[i])
        row["ask_price_steps"] = book.best_ask(local.ladders, local.prices, local.places[i])
        row["orders_sent"] = known[here.SENT]
        row["orders_rejected"] = known[here.REJECTED]
        row["instrument_id"] = i


@njit(cache=True, _nrt=False)
def earliest_timer(timers):
    """Return the instant of the earliest timer that is set, or NEVER."""
    earliest = NEVER
    for timer_id in range(TIMERS_MAX):
        if 0 < timers[timer_id] < earliest:
            earliest = timers[timer_id]
    return earliest


@njit(cache=True, _nrt=False)
def begin_turn(clock, local, x, d, now):
    """Show the strategy the books that have changed; write states if a timer is due."""
    if engine.has_due_timer(d.timers, now):
        write_states(clock, local, x, now)
    for i in range(local.places.shape[0]):
        if local.seen[i, here.IS_DIRTY] != 0:
            local.seen[i, here.MESSAGES] += 1
            here.write_book(local, i, clock.options[BOOK_LEVELS], now)


@njit(cache=True, _nrt=False)
def end_turn(clock, local, oms, x, d, count, now):
    """Let risk judge the turn's intents, and find out when the next turn is due."""
    words = clock.words
    oms.words[OUT_COUNT] = 0
    local.ring[here.TAKEN] = local.ring[here.WRITTEN]
    row = words[COMPUTE_ROW]
    words[COMPUTE_ROW] = row + 1 if row + 1 < clock.compute_ns.shape[0] else 0
    sent = now + clock.compute_ns[row]
    words[BUSY_UNTIL] = sent
    for k in range(count):
        if clock.options[LOGS_INTENTS] != 0:
            clock.log[words[INTENT_COUNT]] = d.intents[k]
            words[INTENT_COUNT] += 1
        here.judge(local, oms, x, d.intents[k], sent)
    if oms.words[WANTS_CANCELS] != 0:
        here.send_wanted_cancels(local, oms, x, sent)
    words[TURNS] += 1
    words[TURNS_HERE] = words[TURNS_HERE] + 1 if now == words[NOW] else 1
    words[NOW] = now
    words[PENDING] = NEVER
    words[TIMER] = earliest_timer(d.timers)
    look_at_buses(clock, x)


@njit(cache=True, _nrt=False)
def look_at_buses(clock, x):
    """Bring the due instants of requests and answers up to date, of all instruments."""
    for i in range(clock.due.shape[0]):
        bus = x.buses[i]
        due = clock.due[i]
        due[VENUE_ORDER] = NEVER
        if bus[at_venue.REQUEST_FIRST] < bus[at_venue.REQUEST_END]:
            place = bus[at_venue.REQUEST_FIRST] & (at_venue.REQUESTS_MAX - 1)
            due[VENUE_ORDER] = x.requests[i, place, at_venue.R_TS]
        due[LOCAL_ORDER] = NEVER
        if bus[at_venue.RESPONSE_FIRST] < bus[at_venue.RESPONSE_END]:
            place = bus[at_venue.RESPONSE_FIRST] & (at_venue.RESPONSES_MAX - 1)
            due[LOCAL_ORDER] = x.responses[i, place, at_venue.A_TS]


@njit(cache=True, _nrt=False)
def choose(due):
    """Return (source, its instant, instant before which it may go on, others considered)."""
    chosen, earliest = -1, NEVER
    second, second_at = -1, NEVER
    for source in range(due.shape[0] * 4):
        instant = due[source >> 2, source & 3]
        if instant < earliest:
            second, second_at = chosen, earliest
            chosen, earliest = source, instant
        elif instant < second_at:
            second, second_at = source, instant
    stop = second_at
    if second_at < NEVER and chosen < second:
        stop = second_at + 1
    return chosen, earliest, stop


@njit(cache=True, _nrt=False)
def must_return(clock, local, x, events_before, slice_events):
    """Return the Status for which the loop has to stop here, or -1."""
    words = clock.words
    if x.words[at_venue.STATUS] != 0 or words[IS_OVERRUN] != 0:
        return Status.BROKEN.value
    room = x.prices.shape[0] + 2 * at_venue.ORDERS_MAX
    if x.words[at_venue.FILL_COUNT] + room > x.fills.shape[0]:
        return Status.GROW.value
    if words[STATE_COUNT] + local.places.shape[0] > clock.states.shape[0]:
        return Status.GROW.value
    if clock.options[LOGS_INTENTS] != 0 and words[INTENT_COUNT] + 256 > clock.log.shape[0]:
        return Status.GROW.value
    if words[TURNS_HERE] > TURNS_PER_INSTANT_MAX:
        return Status.STUCK.value
    if words[EVENTS] - events_before > slice_events:
        return Status.SLICE.value
    return -1


@njit(cache=True, _nrt=False)
def take_source(clock, local, oms, x, events, spans, source, stop):
    """Take what one source has before `stop`."""
    i, kind = source >> 2, source & 3
    if kind == LOCAL_DATA:
        take_local_data(clock, local, events, i, spans[i, 1], stop)
    elif kind == VENUE_DATA:
        take_venue_data(clock, local, x, events, i, spans[i, 1], stop)
        look_at_buses(clock, x)
    elif kind == LOCAL_ORDER:
        ts = clock.due[i, LOCAL_ORDER]
        here.take_answers(local, oms, x, i, ts)
        is_filling_up = oms.words[OUT_COUNT] > REPORTS_MAX // 2
        clock.words[FORCED] += np.int64(is_filling_up)
        if clock.options[ON_EVENTS] != 0 or is_filling_up:
            clock.words[PENDING] = min(clock.words[PENDING], ts)
        look_at_buses(clock, x)
    else:
        take_requests(x, i, clock.scratch, clock.due[i, VENUE_ORDER])
        look_at_buses(clock, x)


@njit(cache=True, _nrt=False)
def run_slice(state, params, d, inputs, ends, oms, local, x, clock, events, spans, slice_events):
    """Run until the end, or until Python has to do something.

    Args:
        state, params: STATE[1], PARAMS[1] of the strategy.
        d: Desk, changed.
        inputs: what `engine.run_turn` takes; reports are the first REPORTS_MAX of Oms.out.
        ends: int64[2, 3], scratch: first and end of each input.
        oms, local, x, clock: changed.
        events: EVENT[m], read.
        spans: int64[n, 2], read.
        slice_events: events after which to return.

    Returns:
        A Status.
    """
    words = clock.words
    before = words[EVENTS]
    while True:
        status = must_return(clock, local, x, before, slice_events)
        if status >= 0:
            return status
        source, instant, stop = choose(clock.due)
        turn = min(words[PENDING], words[TIMER])
        if turn < words[BUSY_UNTIL]:
            turn = words[BUSY_UNTIL]
        if turn < instant and (source >= 0 or words[PENDING] < NEVER):
            if turn > clock.options[UNTIL]:
                return Status.DONE.value
            begin_turn(clock, local, x, d, turn)
            ends[0, 0], ends[1, 0] = 0, oms.words[OUT_COUNT]
            ends[0, 2], ends[1, 2] = local.ring[here.TAKEN], local.ring[here.WRITTEN]
            count = engine.run_turn(state, params, d, inputs, ends[0], ends[1], turn)
            end_turn(clock, local, oms, x, d, count, turn)
            continue
        if source < 0 or instant > clock.options[UNTIL]:
            return Status.DONE.value
        if turn < stop:
            stop = turn + 1
        take_source(clock, local, oms, x, events, spans, source, stop)
        if not has_data(clock.due):
            x.words[at_venue.IS_CLOSED] = 1

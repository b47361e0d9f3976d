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
from numba.extending import overload

from common.enums import Side
from common.fixed_point import INT64_MAX
from processes.backtest import exchange as at_venue
from processes.backtest import ladder as book
from processes.backtest import local as here
from processes.backtest.events import (
    CODE,
    CODE_MASK,
    KIND_MASK,
    LEVEL_SHIFT,
    QTY,
    ROW,
    TS,
    EventKind,
)
from processes.backtest.exchange import on_best, on_level, on_trade, take_requests
from processes.backtest.order_book import OrderExchange, take_event
from processes.backtest.order_book import take_requests as take_order_requests
from processes.risk.oms import OUT_COUNT, WANTS_CANCELS
from processes.strategy import engine
from processes.strategy.desk import TIMERS_MAX

DEPTH_BID = int(EventKind.DEPTH) << 2 | int(Side.BID) + 1
DEPTH_ASK = int(EventKind.DEPTH) << 2 | int(Side.ASK) + 1
TRADE, CLEAR = int(EventKind.TRADE) << 2, int(EventKind.CLEAR) << 2
FUNDING = int(EventKind.FUNDING) << 2

LOCAL_DATA, LOCAL_ORDER, VENUE_DATA, VENUE_ORDER = 0, 1, 2, 3
NEVER = INT64_MAX
TURNS_PER_INSTANT_MAX = 1_000
BOOK_SLOTS = 8  # of a BOOK message of ten levels a side
SLOTS = 1 << 13  # market slots between two turns; at half of it a turn is taken
INLINED = {"_nrt": False, "forceinline": True}
STATE_NS = 100_000_000  # a turn this long after the last states writes some, timer or not

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
NEXT_STATE = 12  # from this instant on a turn writes states, timer or not
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


class Tapes(NamedTuple):
    """What the loop reads of the data; see `tapes.Data`."""

    events: np.ndarray
    here: np.ndarray
    here_spans: np.ndarray
    venue: np.ndarray
    venue_spans: np.ndarray


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
def rewind(clock, tapes):
    """Put all cursors before the first events; return the earliest instant."""
    earliest = NEVER
    for i in range(clock.due.shape[0]):
        place, end = tapes.here_spans[i]
        clock.cursors[i, 0] = place
        clock.due[i, LOCAL_DATA] = tapes.here[place, TS] if place < end else NEVER
        place, end = tapes.venue_spans[i]
        clock.cursors[i, 1] = place
        clock.due[i, VENUE_DATA] = tapes.venue[place, TS] if place < end else NEVER
        clock.due[i, LOCAL_ORDER] = NEVER
        clock.due[i, VENUE_ORDER] = NEVER
        earliest = min(earliest, clock.due[i, LOCAL_DATA], clock.due[i, VENUE_DATA])
    clock.words[PENDING] = earliest
    clock.words[TIMER] = NEVER
    clock.words[NOW] = earliest
    clock.words[NEXT_STATE] = min(earliest, NEVER - STATE_NS) + STATE_NS
    return earliest


@njit(cache=True, _nrt=False)
def last_instant(clock, tapes):
    """Return the instant of the last turn, or of the last event taken if that is later."""
    latest = clock.words[NOW]
    for i in range(clock.due.shape[0]):
        place = clock.cursors[i, 0]
        if place > tapes.here_spans[i, 0]:
            latest = max(latest, tapes.here[place - 1, TS])
        place = clock.cursors[i, 1]
        if place > tapes.venue_spans[i, 0]:
            latest = max(latest, tapes.venue[place - 1, TS])
    return latest


@njit(cache=True, _nrt=False, forceinline=True)
def take_local_data(clock, local, tapes, i, stop):
    """Take the events of one instrument that are seen here before `stop`.

    Args:
        clock, local: changed.
        tapes: Tapes, read.
        i: instrument.
        stop: instant.
    """
    tape = tapes.here
    ladders, at_book = local.ladders, local.places[i]
    seen = local.seen[i]
    on_events = clock.options[ON_EVENTS] != 0
    first = place = clock.cursors[i, 0]
    end = tapes.here_spans[i, 1]
    last = -1  # the last one that changed the book
    while place < end and tape[place, TS] < stop:
        if on_events and clock.words[PENDING] > tape[place, TS]:
            clock.words[PENDING] = tape[place, TS]
            stop = min(stop, tape[place, TS] + 1)
        code = tape[place, CODE]
        kind = code & CODE_MASK
        if kind == DEPTH_BID:
            book.set_bid(ladders, at_book, code >> LEVEL_SHIFT, tape[place, QTY])
            last = place
        elif kind == DEPTH_ASK:
            book.set_ask(ladders, at_book, code >> LEVEL_SHIFT, tape[place, QTY])
            last = place
        elif code & KIND_MASK == TRADE:
            if clock.options[WANTS_TRADES] != 0:
                if last >= 0:
                    note_change(seen, tape, last)
                    last = -1
                stop = take_trade(clock, local, tapes, i, place, stop)
        elif code & KIND_MASK == CLEAR:
            side = (code & 3) - 1
            book.clear(ladders, local.prices, at_book, side, code >> LEVEL_SHIFT)
            last = place
        place += 1
    if last >= 0:
        note_change(seen, tape, last)
    clock.words[EVENTS] += place - first
    clock.cursors[i, 0] = place
    clock.due[i, LOCAL_DATA] = tape[place, TS] if place < end else NEVER


@njit(cache=True, _nrt=False, forceinline=True)
def note_change(seen, tape, place):
    """Remember that the book was changed by the event at `place`."""
    seen[here.IS_DIRTY] = 1
    seen[here.TS_RECV] = tape[place, TS]
    seen[here.ROW] = tape[place, ROW]


@njit(cache=True, _nrt=False)
def take_trade(clock, local, tapes, i, place, stop):
    """Write the slot of a trade; return `stop`, earlier if slots are filling up."""
    ts = tapes.here[place, TS]
    half = local.slots.shape[0] // 2
    used = local.ring[here.WRITTEN] - local.ring[here.TAKEN]
    if used > half:  # a turn out of turn
        clock.words[FORCED] += np.int64(clock.words[PENDING] > ts)
        clock.words[PENDING] = min(clock.words[PENDING], ts)
        stop = min(stop, ts + 1)
    if used > half + half // 2:
        clock.words[IS_OVERRUN] = 1
        return ts
    if clock.options[ON_EVENTS] != 0 and local.seen[i, here.IS_DIRTY] != 0:
        here.write_book(local, tapes.events, i, clock.options[BOOK_LEVELS], ts)
    here.write_trade(local, i, tapes.events[tapes.here[place, ROW]])
    return stop


@njit(cache=True, _nrt=False, forceinline=True)
def take_level_data(clock, local, x, tapes, i, stop):
    """Take the levels' events of one instrument that happen at the venue before `stop`.

    It returns after the first event that fills an order of ours: its answer may come before `stop`.
    """
    tape, prices = tapes.venue, x.prices
    ladders, at_book = x.ladders, x.facts[i, at_venue.PLACE]
    first_price = ladders[at_book + book.PRICES]
    first = place = clock.cursors[i, 1]
    end = tapes.venue_spans[i, 1]
    filled = 0
    while place < end and tape[place, TS] < stop and filled == 0:
        code, qty, ts = tape[place, CODE], tape[place, QTY], tape[place, TS]
        level, kind = code >> LEVEL_SHIFT, code & CODE_MASK
        bids, asks = x.counts[i, 0], x.counts[i, 1]
        if kind == DEPTH_BID:
            bid, ask = ladders[at_book + book.BEST_BID], ladders[at_book + book.BEST_ASK]
            before = book.set_bid(ladders, at_book, level, qty)
            if bids > 0:
                on_level(x, i, 0, prices[first_price + level], before, qty)
            if asks > 0 and ladders[at_book + book.BEST_BID] > bid:
                mid = mid_of(ladders, prices, at_book, bid, ask)
                best = prices[first_price + ladders[at_book + book.BEST_BID]]
                filled = on_best(x, i, 1, best, mid, clock.none, ts)
        elif kind == DEPTH_ASK:
            bid, ask = ladders[at_book + book.BEST_BID], ladders[at_book + book.BEST_ASK]
            before = book.set_ask(ladders, at_book, level, qty)
            if asks > 0:
                on_level(x, i, 1, prices[first_price + level], before, qty)
            if bids > 0 and ladders[at_book + book.BEST_ASK] < ask:
                mid = mid_of(ladders, prices, at_book, bid, ask)
                best = prices[first_price + ladders[at_book + book.BEST_ASK]]
                filled = on_best(x, i, 0, best, mid, clock.none, ts)
        elif code & KIND_MASK == TRADE:
            side = (code & 3) - 1
            if side != 0 and bids + asks > 0:
                filled = on_trade(x, i, side, prices[first_price + level], qty, clock.none, ts)
        elif code & KIND_MASK == CLEAR:
            book.clear(ladders, prices, at_book, (code & 3) - 1, level)
        elif code & KIND_MASK == FUNDING:
            pay_funding(local, x, i, tapes.events[tape[place, ROW]])
        place += 1
    clock.words[EVENTS] += place - first
    clock.cursors[i, 1] = place
    clock.due[i, VENUE_DATA] = tape[place, TS] if place < end else NEVER


@njit(cache=True, _nrt=False)
def take_order_data(clock, local, x, tapes, i, stop):
    """Take the orders' events of one instrument that happen at the venue before `stop`.

    It returns after the first event that changes an order of ours, as `take_level_data`.
    """
    tape = tapes.venue
    first = place = clock.cursors[i, 1]
    end = tapes.venue_spans[i, 1]
    answered = 0
    while place < end and tape[place, TS] < stop and answered == 0:
        if tape[place, CODE] & KIND_MASK == FUNDING:
            pay_funding(local, x, i, tapes.events[tape[place, ROW]])
        else:
            answered = take_event(x, i, tape[place], clock.none, tape[place, TS])
        place += 1
    clock.words[EVENTS] += place - first
    clock.cursors[i, 1] = place
    clock.due[i, VENUE_DATA] = tape[place, TS] if place < end else NEVER


def take_venue_data(clock, local, x, tapes, i, stop):
    """Let the exchange model take its data; the type of `x` picks it, so only that is compiled."""
    take = take_order_data if isinstance(x, OrderExchange) else take_level_data
    take(clock, local, x, tapes, i, stop)


def take_venue_orders(clock, x, i, ts):
    """Let the exchange model take the requests that arrive at `ts`."""
    if isinstance(x, OrderExchange):
        take_order_requests(x, i, clock.scratch, clock.none, ts)
    else:
        take_requests(x, i, clock.scratch, ts)


@overload(take_venue_data, jit_options=INLINED)
def _data_of(clock, local, x, tapes, i, stop):
    if x.instance_class is OrderExchange:
        return lambda clock, local, x, tapes, i, stop: take_order_data(
            clock, local, x, tapes, i, stop
        )
    return lambda clock, local, x, tapes, i, stop: take_level_data(clock, local, x, tapes, i, stop)


@overload(take_venue_orders, jit_options=INLINED)
def _orders_of(clock, x, i, ts):
    if x.instance_class is OrderExchange:
        return lambda clock, x, i, ts: take_order_requests(x, i, clock.scratch, clock.none, ts)
    return lambda clock, x, i, ts: take_requests(x, i, clock.scratch, ts)


@njit(cache=True, _nrt=False, forceinline=True)
def has_data(due):
    """Return True if an event is left, here or at the venue."""
    for i in range(due.shape[0]):
        if due[i, LOCAL_DATA] < NEVER or due[i, VENUE_DATA] < NEVER:
            return True
    return False


@njit(cache=True, _nrt=False, forceinline=True)
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


@njit(cache=True, _nrt=False, forceinline=True)
def write_states(states, first, local, now, is_timer):
    """Write a STATE row of every instrument, from row `first` on."""
    for i in range(local.places.shape[0]):
        row = states[first + i]
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
        row["is_timer"] = np.int64(is_timer)


@njit(cache=True, _nrt=False)
def earliest_timer(timers):
    """Return the instant of the earliest timer that is set, or NEVER."""
    earliest = NEVER
    for timer_id in range(TIMERS_MAX):
        if 0 < timers[timer_id] < earliest:
            earliest = timers[timer_id]
    return earliest


@njit(cache=True, _nrt=False, forceinline=True)
def begin_turn(clock, local, tapes, d, now):
    """Show the strategy the books that have changed; write states if a timer, or they, are due."""
    words = clock.words
    is_timer = engine.has_due_timer(d.timers, now)
    if is_timer or now >= words[NEXT_STATE]:
        write_states(clock.states, words[STATE_COUNT], local, now, is_timer)
        words[STATE_COUNT] += local.places.shape[0]
        words[NEXT_STATE] = now + STATE_NS
    for i in range(local.places.shape[0]):
        if local.seen[i, here.IS_DIRTY] != 0:
            here.write_book(local, tapes.events, i, clock.options[BOOK_LEVELS], now)


@njit(cache=True, _nrt=False, forceinline=True)
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


@njit(cache=True, _nrt=False, forceinline=True)
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


@njit(cache=True, _nrt=False, forceinline=True)
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


@njit(cache=True, _nrt=False, forceinline=True)
def must_return(clock, local, x, events_before, slice_events):
    """Return the Status for which the loop has to stop here, or -1."""
    words = clock.words
    if x.words[at_venue.STATUS] != 0 or words[IS_OVERRUN] != 0:
        return Status.BROKEN.value
    room = max(x.prices.shape[0], at_venue.RESPONSES_MAX) + 2 * at_venue.ORDERS_MAX
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


@njit(cache=True, _nrt=False, forceinline=True)
def take_source(clock, local, oms, x, tapes, source, stop):
    """Take what one source has before `stop`."""
    i, kind = source >> 2, source & 3
    if kind == LOCAL_DATA:
        take_local_data(clock, local, tapes, i, stop)
    elif kind == VENUE_DATA:
        take_venue_data(clock, local, x, tapes, i, stop)
        look_at_buses(clock, x)
    elif kind == LOCAL_ORDER:
        ts = clock.due[i, LOCAL_ORDER]
        here.take_answers(local, oms, x, i, ts)
        is_filling_up = oms.words[OUT_COUNT] > here.REPORTS_MAX // 2
        clock.words[FORCED] += np.int64(is_filling_up)
        if clock.options[ON_EVENTS] != 0 or is_filling_up:
            clock.words[PENDING] = min(clock.words[PENDING], ts)
        look_at_buses(clock, x)
    else:
        take_venue_orders(clock, x, i, clock.due[i, VENUE_ORDER])
        look_at_buses(clock, x)


@njit(cache=True, _nrt=False)
def run_slice(state, params, d, inputs, ends, oms, local, x, clock, tapes, slice_events):
    """Run until the end, or until Python has to do something.

    Args:
        state, params: STATE[1], PARAMS[1] of the strategy.
        d: Desk, changed.
        inputs: what `engine.run_turn` takes; reports are the first REPORTS_MAX of Oms.out.
        ends: int64[2, 3], scratch: first and end of each input.
        oms, local, x, clock: changed.
        tapes: Tapes, read.
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
            begin_turn(clock, local, tapes, d, turn)
            ends[0, 0], ends[1, 0] = 0, oms.words[OUT_COUNT]
            ends[0, 2], ends[1, 2] = local.ring[here.TAKEN], local.ring[here.WRITTEN]
            count = engine.run_turn(state, params, d, inputs, ends[0], ends[1], turn)
            end_turn(clock, local, oms, x, d, count, turn)
            continue
        if source < 0 or instant > clock.options[UNTIL]:
            return Status.DONE.value
        if turn < stop:
            stop = turn + 1
        take_source(clock, local, oms, x, tapes, source, stop)
        if not has_data(clock.due):
            x.words[at_venue.IS_CLOSED] = 1

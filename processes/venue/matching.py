"""Price-time priority matching: submit, amend and cancel as kernels over the engine's arrays.

Callers pass plain ints (`Side.BID.value`), an EVENT array and how many of its rows are used, and
get the new count back. A request is all or nothing: it is refused before its first change, also
when the rows left in `events` could be too few for the worst case, which is two per open order of
the instrument and EVENTS_SPARE more.
"""

import numpy as np
from numba import njit

from common.enums import OrderType, Side, TimeInForce
from processes.venue.crossing import (
    NOBODY,
    SHRUNK,
    STOPPED,
    count_order,
    end_order,
    end_orders,
    free_order,
    is_fillable,
    put_on,
    reducible,
    side_of,
    take,
    take_off,
    write_level,
    write_off,
    write_order,
)
from processes.venue.engine import (
    ACCOUNTS_LIMIT,
    AMENDMENT_SHIFT,
    AMENDMENTS_MAX,
    EVENTS_SPARE,
    FLAG_ASK,
    FLAG_POST_ONLY,
    FLAG_REDUCE_ONLY,
    FLAGS,
    FREE_SLOT,
    HALF_BITS,
    INSTRUMENTS_LIMIT,
    LEAVES,
    LEVEL_QTY,
    NEXT,
    OPEN_COUNT,
    ORDER_ID,
    ORDER_QTY,
    ORDER_SEQUENCE,
    ORDERS_LIMIT,
    OWNER,
    POSITION,
    POSITION_STEPS_MAX,
    PRICE,
    PRICE_STEPS_MAX,
    QTY_STEPS_MAX,
    SLOT_BITS,
    SLOT_MASK,
    UPDATE_ID,
    EventKind,
    MatchStatus,
    Reason,
    StpMode,
    best_at,
    book_at,
    holding_at,
    is_price,
    order_at,
)
from processes.venue.ladder import (
    find_level,
    is_in_window,
    next_behind,
    prepare_price,
    window_level,
)
from shm.atomics import prefetch


@njit(cache=True, _nrt=False, forceinline=True)
def submit(
    engine,
    events,
    count,
    instrument_id,
    account_id,
    side,
    order_type,
    time_in_force,
    stp_mode,
    reduce_only,
    price_steps,
    qty_steps,
):
    """Match one new order and let the rest of it rest or expire, or refuse it.

    Args:
        engine: Engine, changed.
        events: EVENT[n], changed from row `count` on.
        count: rows of `events` in use.
        instrument_id, account_id: within the engine's limits.
        side: Side.
        order_type: OrderType; MARKET ignores `time_in_force`, and what it cannot fill expires.
        time_in_force: TimeInForce; GTX is post-only.
        stp_mode: StpMode. Works for GTC, IOC and MARKET only (USD-M futures "New Order").
        reduce_only: 1: trimmed to the position, never turns it.
        price_steps: limit; of MARKET the worst price it may take, 0 for any.
        qty_steps: 1 to QTY_STEPS_MAX.

    Returns:
        (status, order_id, count). OK: accepted, first event is NEW, `order_id` grows with each
        order and is never used again. Otherwise order_id is 0 and nothing changed: EVENTS_FULL,
        BAD_REQUEST, BAD_PRICE, BAD_QTY, POST_ONLY, FOK, REDUCE_ONLY, ORDERS_FULL, LEVELS_FULL,
        POSITION.
    """
    if not is_known(engine, instrument_id, account_id) or not are_words(
        side, order_type, time_in_force, stp_mode
    ):
        return MatchStatus.BAD_REQUEST.value, 0, count
    book = book_at(engine, instrument_id)
    limit_steps = price_steps
    if order_type == OrderType.MARKET:
        time_in_force = TimeInForce.IOC.value
        if price_steps == 0:
            limit_steps = PRICE_STEPS_MAX if side == Side.BID else 1
    holding = holding_at(engine, book, account_id)
    status = check_order(engine, events, count, book, holding, limit_steps, qty_steps)
    if status != MatchStatus.OK:
        return status, 0, count
    if reduce_only:
        qty_steps = min(qty_steps, reducible(engine, holding, side))
        if qty_steps == 0:
            return MatchStatus.REDUCE_ONLY.value, 0, count
    slot = 0
    if time_in_force == TimeInForce.GTC or time_in_force == TimeInForce.GTX:
        if time_in_force == TimeInForce.GTX and is_crossing(engine, book, side, limit_steps):
            return MatchStatus.POST_ONLY.value, 0, count
        slot = engine[FREE_SLOT]
        if slot == 0:
            return MatchStatus.ORDERS_FULL.value, 0, count
        if not is_in_window(engine, book, limit_steps):
            if not prepare_price(engine, book, limit_steps):
                return MatchStatus.LEVELS_FULL.value, 0, count
        engine[FREE_SLOT] = engine[order_at(slot) + NEXT]
    elif time_in_force == TimeInForce.FOK:
        stp_mode = StpMode.NONE.value  # not effective
        if not is_fillable(engine, book, account_id, side, limit_steps, qty_steps):
            return MatchStatus.FOK.value, 0, count
    order = order_at(slot)  # of slot 0, which nobody finds, if it never rests
    order_id = next_order_id(engine, slot)
    engine[order + ORDER_ID] = order_id
    engine[order + PRICE] = price_steps
    engine[order + ORDER_QTY] = qty_steps
    engine[order + LEAVES] = qty_steps
    owner = instrument_id << HALF_BITS | account_id
    engine[order + OWNER] = owner
    engine[order + FLAGS] = (
        (FLAG_ASK if side == Side.ASK else 0)
        | (FLAG_REDUCE_ONLY if reduce_only else 0)
        | (FLAG_POST_ONLY if time_in_force == TimeInForce.GTX else 0)
    )
    if slot != 0:
        count_order(engine, book, order, 1)
    words = events.view(np.int64)
    count = write_order(
        words, count, EventKind.NEW.value, Reason.NONE.value, side, owner, order_id, price_steps,
        qty_steps, qty_steps,
    )  # fmt: skip
    reason = Reason.MARKET.value if order_type == OrderType.MARKET else Reason.IOC.value
    count = work(engine, words, count, book, slot, side, limit_steps, qty_steps, stp_mode, reason)
    return MatchStatus.OK.value, order_id, count


@njit(cache=True, _nrt=False, forceinline=True)
def cancel(engine, events, count, instrument_id, account_id, order_id):
    """Take one open order off the book.

    Args:
        engine: Engine, changed.
        events: EVENT[n], changed from row `count` on.
        order_id: as `submit` returned it; of this account and instrument.

    Returns:
        (status, count): OK, with CANCELED and LEVEL events; EVENTS_FULL or UNKNOWN_ORDER with
        nothing changed.
    """
    slot = find_own(engine, instrument_id, account_id, order_id)
    if slot == 0:
        return MatchStatus.UNKNOWN_ORDER.value, count
    if count + EVENTS_SPARE > len(events):
        return MatchStatus.EVENTS_FULL.value, count
    book = book_at(engine, instrument_id)
    words = events.view(np.int64)
    count = end_order(engine, words, count, book, slot, EventKind.CANCELED.value, Reason.NONE.value)
    return MatchStatus.OK.value, count


@njit(cache=True, _nrt=False, forceinline=True)
def reduce(engine, events, count, instrument_id, account_id, order_id, by_steps):
    """Take a part of an open order off the book; what is left keeps its place in the queue.

    USD-M futures have no such request; recorded orders of other venues are amended down like this.

    Args:
        engine: Engine, changed.
        events: EVENT[n], changed from row `count` on.
        order_id: as `submit` returned it; of this account and instrument.
        by_steps: 1 or more.

    Returns:
        (status, count): OK, with AMENDED and LEVEL events; EVENTS_FULL, UNKNOWN_ORDER or BAD_QTY
        (nothing would be left: cancel it) with nothing changed.
    """
    slot = find_own(engine, instrument_id, account_id, order_id)
    if slot == 0:
        return MatchStatus.UNKNOWN_ORDER.value, count
    if count + EVENTS_SPARE > len(events):
        return MatchStatus.EVENTS_FULL.value, count
    order = order_at(slot)
    if not 1 <= by_steps < engine[order + LEAVES]:
        return MatchStatus.BAD_QTY.value, count
    engine[order + ORDER_QTY] -= by_steps
    engine[order + LEAVES] -= by_steps
    book = book_at(engine, instrument_id)
    price_steps = engine[order + PRICE]
    level = find_level(engine, book, price_steps)
    qty_steps = engine[level + LEVEL_QTY] - by_steps
    engine[level + LEVEL_QTY] = qty_steps
    words = events.view(np.int64)
    count = write_off(engine, words, count, EventKind.AMENDED.value, Reason.NONE.value, order)
    side = side_of(engine, order)
    return MatchStatus.OK.value, write_level(
        engine, words, count, book, side, price_steps, qty_steps
    )


@njit(cache=True, _nrt=False)
def cancel_all(engine, events, count, instrument_id, account_id):
    """Cancel all open orders of one account in one instrument; bids first, each side best first.

    Returns:
        (status, canceled, count): OK, also when there were none; EVENTS_FULL or BAD_REQUEST with
        nothing changed.
    """
    if not is_known(engine, instrument_id, account_id):
        return MatchStatus.BAD_REQUEST.value, 0, count
    book = book_at(engine, instrument_id)
    if not has_event_room(engine, events, count, book):
        return MatchStatus.EVENTS_FULL.value, 0, count
    canceled, count = end_orders(engine, events.view(np.int64), count, book, account_id)
    return MatchStatus.OK.value, canceled, count


@njit(cache=True, _nrt=False)
def amend(engine, events, count, instrument_id, account_id, order_id, price_steps, qty_steps):
    """Give an open order a new price and total quantity (USD-M futures "Modify Order").

    The order keeps its id and goes to the back of its level, whatever changed. A GTC order may take
    at its new price; its STP mode is then NONE. It is canceled instead (reason AMEND_QTY) if
    `qty_steps` is not above what was executed, or (AMEND_POST_ONLY) if it is GTX and would take.
    A reduce-only order is trimmed to the position again.

    Args:
        engine: Engine, changed.
        events: EVENT[n], changed from row `count` on.
        order_id: as `submit` returned it; of this account and instrument.
        price_steps, qty_steps: new limit and new total, executed part included.

    Returns:
        (status, count): OK, with an AMENDED or CANCELED event and what follows from it. Nothing
        changed: EVENTS_FULL, UNKNOWN_ORDER, NOT_CHANGED, AMENDMENTS, BAD_PRICE, BAD_QTY,
        LEVELS_FULL, POSITION.
    """
    slot = find_own(engine, instrument_id, account_id, order_id)
    if slot == 0:
        return MatchStatus.UNKNOWN_ORDER.value, count
    book = book_at(engine, instrument_id)
    holding = holding_at(engine, book, account_id)
    status = check_order(engine, events, count, book, holding, price_steps, qty_steps)
    if status != MatchStatus.OK:
        return status, count
    order = order_at(slot)
    side = side_of(engine, order)
    if engine[order + PRICE] == price_steps and engine[order + ORDER_QTY] == qty_steps:
        return MatchStatus.NOT_CHANGED.value, count
    if engine[order + FLAGS] >> AMENDMENT_SHIFT >= AMENDMENTS_MAX:
        return MatchStatus.AMENDMENTS.value, count
    executed_steps = engine[order + ORDER_QTY] - engine[order + LEAVES]
    reason = Reason.NONE.value
    if qty_steps <= executed_steps:
        reason = Reason.AMEND_QTY.value
    elif engine[order + FLAGS] & FLAG_POST_ONLY:
        if is_crossing(engine, book, side, price_steps):
            reason = Reason.AMEND_POST_ONLY.value
    words = events.view(np.int64)
    if reason != Reason.NONE:
        count = end_order(engine, words, count, book, slot, EventKind.CANCELED.value, reason)
        return MatchStatus.OK.value, count
    if not is_in_window(engine, book, price_steps):
        if not prepare_price(engine, book, price_steps):
            return MatchStatus.LEVELS_FULL.value, count
    old_steps = engine[order + PRICE]
    count = take_off(engine, words, count, book, slot, side, old_steps, engine[order + LEAVES])
    leaves_steps = qty_steps - executed_steps
    if engine[order + FLAGS] & FLAG_REDUCE_ONLY:
        leaves_steps = min(leaves_steps, reducible(engine, holding, side))
    engine[order + PRICE] = price_steps
    engine[order + ORDER_QTY] = executed_steps + leaves_steps
    engine[order + LEAVES] = leaves_steps
    engine[order + FLAGS] += 1 << AMENDMENT_SHIFT
    count = write_off(engine, words, count, EventKind.AMENDED.value, Reason.NONE.value, order)
    count = work(
        engine,
        words,
        count,
        book,
        slot,
        side,
        price_steps,
        leaves_steps,
        StpMode.NONE.value,
        reason,
    )
    return MatchStatus.OK.value, count


@njit(cache=True, _nrt=False, forceinline=True)
def find(engine, order_id):
    """Return the slot of an open order in the pool, or 0."""
    slot = order_id & SLOT_MASK
    if slot == 0 or slot > engine[ORDERS_LIMIT]:
        return 0
    return slot if engine[order_at(slot) + ORDER_ID] == order_id else 0


@njit(cache=True, _nrt=False, forceinline=True)
def expect(engine, instrument_id, order_id, price_steps):
    """Let the memory be fetched that a request will touch; who has many calls it some ahead.

    Args:
        engine: Engine, not read and not changed as far as anybody can see.
        order_id: of a cancel or an amendment, else 0.
        price_steps: of a new order or an amendment, else 0.
    """
    prefetch(engine, order_at(order_id))
    prefetch(engine, window_level(engine, book_at(engine, instrument_id), price_steps))


@njit(cache=True, _nrt=False)
def best(engine, instrument_id):
    """Return (bid_price, bid_qty, ask_price, ask_qty) in steps; empty: NO_BID or NO_ASK and 0."""
    book = book_at(engine, instrument_id)
    bid_steps = engine[best_at(book, Side.BID.value)]
    ask_steps = engine[best_at(book, Side.ASK.value)]
    return (
        bid_steps,
        level_qty(engine, book, bid_steps),
        ask_steps,
        level_qty(engine, book, ask_steps),
    )


@njit(cache=True, _nrt=False)
def depth(engine, instrument_id, side, prices, quantities):
    """Copy the best levels of one side, best first, until they end or the arrays are full.

    Args:
        engine: Engine, read.
        side: Side.
        prices, quantities: int64[n], changed; steps.

    Returns:
        How many levels were copied.
    """
    book = book_at(engine, instrument_id)
    price_steps = engine[best_at(book, side)]
    copied = 0
    while copied < len(prices) and is_price(price_steps):
        prices[copied] = price_steps
        quantities[copied] = level_qty(engine, book, price_steps)
        copied += 1
        price_steps = next_behind(engine, book, side, price_steps)
    return copied


@njit(cache=True, _nrt=False)
def last_update_id(engine, instrument_id):
    """Return the update id of the last LEVEL event of an instrument, 0 before the first."""
    return engine[book_at(engine, instrument_id) + UPDATE_ID]


@njit(cache=True, _nrt=False)
def position(engine, instrument_id, account_id):
    """Return the signed position of an account in steps, as the engine's trades made it."""
    return engine[holding_at(engine, book_at(engine, instrument_id), account_id) + POSITION]


@njit(cache=True, _nrt=False)
def level_qty(engine, book, price_steps):
    """Return the open quantity at an occupied price, 0 for NO_BID and NO_ASK."""
    if not is_price(price_steps):
        return 0
    return engine[find_level(engine, book, price_steps) + LEVEL_QTY]


@njit(cache=True, _nrt=False, forceinline=True)
def is_known(engine, instrument_id, account_id):
    """Return True if the engine has such an instrument and account."""
    return (
        0 <= instrument_id < engine[INSTRUMENTS_LIMIT] and 0 <= account_id < engine[ACCOUNTS_LIMIT]
    )


@njit(cache=True, _nrt=False, forceinline=True)
def are_words(side, order_type, time_in_force, stp_mode):
    """Return True if each is a member of its enumeration."""
    return (
        (side == Side.BID or side == Side.ASK)
        and (order_type == OrderType.LIMIT or order_type == OrderType.MARKET)
        and TimeInForce.GTC <= time_in_force <= TimeInForce.GTX
        and StpMode.NONE <= stp_mode <= StpMode.EXPIRE_BOTH
    )


@njit(cache=True, _nrt=False, forceinline=True)
def has_event_room(engine, events, count, book):
    """Return True if `events` can take what one request causes at most."""
    return count + 2 * engine[book + OPEN_COUNT] + EVENTS_SPARE <= len(events)


@njit(cache=True, _nrt=False, forceinline=True)
def check_order(engine, events, count, book, holding, limit_steps, qty_steps):
    """Judge the numbers of an order and the room for its events."""
    if not has_event_room(engine, events, count, book):
        return MatchStatus.EVENTS_FULL.value
    if not 1 <= limit_steps <= PRICE_STEPS_MAX:
        return MatchStatus.BAD_PRICE.value
    if not 1 <= qty_steps <= QTY_STEPS_MAX:
        return MatchStatus.BAD_QTY.value
    if abs(engine[holding + POSITION]) > POSITION_STEPS_MAX:
        return MatchStatus.POSITION.value
    return MatchStatus.OK.value


@njit(cache=True, _nrt=False, forceinline=True)
def is_crossing(engine, book, side, limit_steps):
    """Return True if an order would take at once."""
    return side * (limit_steps - engine[best_at(book, -side)]) >= 0


@njit(cache=True, _nrt=False, forceinline=True)
def find_own(engine, instrument_id, account_id, order_id):
    """Return the slot of an open order of this account and instrument, or 0."""
    slot = find(engine, order_id)
    owner = engine[order_at(slot) + OWNER]
    return slot if owner == instrument_id << HALF_BITS | account_id else 0


@njit(cache=True, _nrt=False, forceinline=True)
def next_order_id(engine, slot):
    """Return a new order id: it grows with each order, and says where the order is."""
    sequence = engine[ORDER_SEQUENCE] + 1
    engine[ORDER_SEQUENCE] = sequence
    return sequence << SLOT_BITS | slot


@njit(cache=True, _nrt=False, forceinline=True)
def work(engine, words, count, book, slot, side, limit_steps, leaves_steps, stp_mode, reason):
    """Let an order that is on no level take what it can and rest, or expire if it is of slot 0.

    Args:
        limit_steps: worst price it may take; where it rests.
        leaves_steps: what is open of it.
        reason: of its expiry if something is left: Reason.IOC or MARKET; of slot 0 only.

    Returns:
        The new count of events.
    """
    if slot != 0 and not is_crossing(engine, book, side, limit_steps):
        return put_on(engine, words, count, book, slot, side, limit_steps, leaves_steps)
    order = order_at(slot)
    outcome, count = take(engine, words, count, book, order, limit_steps, stp_mode)
    leaves_steps = engine[order + LEAVES]
    if slot != 0 and not outcome & STOPPED and leaves_steps > 0:
        count = put_on(engine, words, count, book, slot, side, limit_steps, leaves_steps)
    else:
        if leaves_steps > 0:
            if outcome & STOPPED:
                is_ioc = slot == 0 and reason == Reason.IOC
                reason = Reason.IOC_STP.value if is_ioc else Reason.STP.value
            count = write_off(engine, words, count, EventKind.EXPIRED.value, reason, order)
        if slot != 0:
            free_order(engine, book, slot)
    if outcome & SHRUNK:
        _, count = end_orders(engine, words, count, book, NOBODY)
    return count

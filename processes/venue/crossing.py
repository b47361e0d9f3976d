"""Inner steps of the matching engine: events, queues of orders, and a taker against the book."""

import numpy as np
from numba import njit

from processes.venue.engine import (
    ACCOUNT_REDUCE_ONLY_COUNT,
    ENDS,
    EVENT_WORDS,
    FLAG_ASK,
    FLAG_REDUCE_ONLY,
    FLAGS,
    FREE_SLOT,
    HALF_BITS,
    HALF_MASK,
    INDEX_MASK,
    INSTRUMENT_ID,
    LEAVES,
    LEVEL_QTY,
    MAKER_DONE,
    NEXT,
    OPEN_COUNT,
    ORDER_ID,
    ORDER_QTY,
    OWNER,
    POSITION,
    PREVIOUS,
    PRICE,
    REDUCE_ONLY_COUNT,
    SWEEP,
    TRADE_ID,
    UPDATE_ID,
    EventKind,
    Reason,
    StpMode,
    best_at,
    holding_at,
    is_price,
    order_at,
)
from processes.venue.ladder import add_level, find_level, next_behind, remove_if_empty

STOPPED = 1  # `take`: self-trade prevention ended the taker
NOBODY = np.int64(-1)  # `end_orders`: as account
SHRUNK = 2  # `take`: a position behind open reduce-only orders changed


@njit(cache=True, _nrt=False, forceinline=True)
def side_of(engine, order):
    """Return the Side of an order."""
    return 1 - 2 * (engine[order + FLAGS] & FLAG_ASK)


@njit(cache=True, _nrt=False, forceinline=True)
def account_of(engine, order):
    """Return the account of an order."""
    return engine[order + OWNER] & HALF_MASK


@njit(cache=True, _nrt=False, forceinline=True)
def reducible(engine, holding, side):
    """Return the quantity that an order of `side` can take off a position, 0 if it adds to it."""
    return max(-side * engine[holding + POSITION], 0)


@njit(cache=True, _nrt=False, forceinline=True)
def write_event(words, count, head, price_steps, qty_steps, leaves_steps, event_id, order_id):
    """Write all words of an event but those of a maker, which become 0; return the new count.

    Args:
        words: int64[n * EVENT_WORDS], changed: the EVENT rows of the caller.
        count: rows in use.
        head: first word; see `event_head`.
    """
    event = (count * EVENT_WORDS) & INDEX_MASK
    words[event] = head
    words[event + 1] = price_steps
    words[event + 2] = qty_steps
    words[event + 3] = leaves_steps
    words[event + 4] = event_id
    words[event + 5] = order_id
    words[event + 6] = 0
    words[event + 7] = 0
    return count + 1


@njit(cache=True, _nrt=False, forceinline=True)
def event_head(kind, side, reason, instrument_id):
    """Return kind, side, reason and instrument_id as EVENT has them in its first word."""
    return kind | (side & 255) << 8 | reason << 16 | instrument_id << HALF_BITS


@njit(cache=True, _nrt=False, forceinline=True)
def write_order(
    words, count, kind, reason, side, owner, order_id, price_steps, qty_steps, leaves_steps
):
    """Write NEW, CANCELED, EXPIRED or AMENDED of an order; return the new count of events."""
    head = event_head(kind, side, reason, owner >> HALF_BITS)
    after = write_event(words, count, head, price_steps, qty_steps, leaves_steps, 0, order_id)
    words[(after * EVENT_WORDS - 1) & INDEX_MASK] = owner & HALF_MASK
    return after


@njit(cache=True, _nrt=False, forceinline=True)
def write_off(engine, words, count, kind, reason, order):
    """Write CANCELED, EXPIRED or AMENDED of an open order; return the new count of events."""
    return write_order(
        words,
        count,
        kind,
        reason,
        side_of(engine, order),
        engine[order + OWNER],
        engine[order + ORDER_ID],
        engine[order + PRICE],
        engine[order + ORDER_QTY],
        engine[order + LEAVES],
    )


@njit(cache=True, _nrt=False, forceinline=True)
def write_level(engine, words, count, book, side, price_steps, qty_steps):
    """Count one more update id and write LEVEL; return the new count of events."""
    update_id = engine[book + UPDATE_ID] + 1
    engine[book + UPDATE_ID] = update_id
    head = event_head(EventKind.LEVEL.value, side, 0, engine[book + INSTRUMENT_ID])
    return write_event(words, count, head, price_steps, qty_steps, 0, update_id, 0)


@njit(cache=True, _nrt=False, forceinline=True)
def write_trade(engine, words, count, book, taker, maker, fill_steps, leaves_steps):
    """Count one more trade id and write TRADE; return the new count of events."""
    trade_id = engine[book + TRADE_ID] + 1
    engine[book + TRADE_ID] = trade_id
    is_done = fill_steps == engine[maker + LEAVES]
    head = event_head(
        EventKind.TRADE.value, side_of(engine, taker), 0, engine[book + INSTRUMENT_ID]
    )
    head |= MAKER_DONE if is_done else 0
    price_steps = engine[maker + PRICE]
    order_id = engine[taker + ORDER_ID]
    after = write_event(
        words, count, head, price_steps, fill_steps, leaves_steps, trade_id, order_id
    )
    end = (after * EVENT_WORDS) & INDEX_MASK
    words[end - 2] = engine[maker + ORDER_ID]
    words[end - 1] = account_of(engine, maker) << HALF_BITS | account_of(engine, taker)
    return after


@njit(cache=True, _nrt=False, forceinline=True)
def put_on(engine, words, count, book, slot, side, price_steps, leaves_steps):
    """Queue an order at the back of its level; return the new count of events."""
    order = order_at(slot)
    level = add_level(engine, book, price_steps)
    ends = engine[level + ENDS]
    tail = ends >> HALF_BITS
    engine[order + PREVIOUS] = tail
    engine[order + NEXT] = 0
    engine[order_at(tail) + NEXT] = slot
    head = slot if ends == 0 else ends & HALF_MASK
    engine[level + ENDS] = slot << HALF_BITS | head
    qty_steps = engine[level + LEVEL_QTY] + leaves_steps
    engine[level + LEVEL_QTY] = qty_steps
    best = best_at(book, side)
    best_steps = engine[best]
    engine[best] = price_steps if side * (price_steps - best_steps) > 0 else best_steps
    return write_level(engine, words, count, book, side, price_steps, qty_steps)


@njit(cache=True, _nrt=False, forceinline=True)
def take_off(engine, words, count, book, slot, side, price_steps, leaves_steps):
    """Unlink an order from its level; return the new count of events."""
    order = order_at(slot)
    level = find_level(engine, book, price_steps)
    before = engine[order + PREVIOUS]
    after = engine[order + NEXT]
    engine[order_at(before) + NEXT] = after
    engine[order_at(after) + PREVIOUS] = before
    ends = engine[level + ENDS]
    head = after if before == 0 else ends & HALF_MASK
    tail = before if after == 0 else ends >> HALF_BITS
    engine[level + ENDS] = tail << HALF_BITS | head
    qty_steps = engine[level + LEVEL_QTY] - leaves_steps
    engine[level + LEVEL_QTY] = qty_steps
    remove_if_empty(engine, book, price_steps, qty_steps)
    best = best_at(book, side)
    if qty_steps == 0 and price_steps == engine[best]:
        engine[best] = next_behind(engine, book, side, price_steps)
    return write_level(engine, words, count, book, side, price_steps, qty_steps)


@njit(cache=True, _nrt=False, forceinline=True)
def count_order(engine, book, order, by):
    """Correct the counts of open orders for one that opens (1) or is gone (-1)."""
    engine[book + OPEN_COUNT] += by
    if engine[order + FLAGS] & FLAG_REDUCE_ONLY:
        engine[book + REDUCE_ONLY_COUNT] += by
        holding = holding_at(engine, book, account_of(engine, order))
        engine[holding + ACCOUNT_REDUCE_ONLY_COUNT] += by


@njit(cache=True, _nrt=False, forceinline=True)
def free_order(engine, book, slot):
    """Give back the slot of an order that is on no level any more."""
    order = order_at(slot)
    count_order(engine, book, order, -1)
    engine[order + ORDER_ID] = 0
    engine[order + NEXT] = engine[FREE_SLOT]
    engine[FREE_SLOT] = slot


@njit(cache=True, _nrt=False, forceinline=True)
def barred(engine, book, maker, account_id, stp_mode):
    """Return why a maker must not trade with this taker: Reason.STP, REDUCE_ONLY or NONE."""
    if stp_mode != StpMode.NONE and account_of(engine, maker) == account_id:
        return Reason.STP.value
    if engine[maker + FLAGS] & FLAG_REDUCE_ONLY:
        holding = holding_at(engine, book, account_of(engine, maker))
        if engine[maker + LEAVES] > reducible(engine, holding, side_of(engine, maker)):
            return Reason.REDUCE_ONLY.value
    return Reason.NONE.value


@njit(cache=True, _nrt=False, forceinline=True)
def trade(engine, words, count, book, taker, maker):
    """Fill a taker and one maker against each other.

    Returns:
        (quantity filled, SHRUNK or 0, new count).
    """
    side = side_of(engine, taker)
    leaves_steps = engine[taker + LEAVES]
    fill_steps = min(leaves_steps, engine[maker + LEAVES])
    leaves_steps -= fill_steps
    count = write_trade(engine, words, count, book, taker, maker, fill_steps, leaves_steps)
    engine[taker + LEAVES] = leaves_steps
    engine[maker + LEAVES] -= fill_steps
    maker_holding = holding_at(engine, book, account_of(engine, maker))
    taker_holding = holding_at(engine, book, account_of(engine, taker))
    engine[maker_holding + POSITION] -= side * fill_steps
    engine[taker_holding + POSITION] += side * fill_steps
    reduce_only_count = (
        engine[maker_holding + ACCOUNT_REDUCE_ONLY_COUNT]
        | engine[taker_holding + ACCOUNT_REDUCE_ONLY_COUNT]
    )
    return fill_steps, SHRUNK if reduce_only_count else 0, count


@njit(cache=True, _nrt=False)
def take_level(engine, words, count, book, taker, stp_mode, price_steps):
    """Fill a taker from the queue of the other side's best level, first come first served.

    Self-trade prevention goes by the taker's mode (USD-M futures "STP FAQ"). A reduce-only maker
    that could turn its position expires when its turn comes.

    Returns:
        (bits of STOPPED and SHRUNK, new count).
    """
    side = side_of(engine, taker)
    account_id = account_of(engine, taker)
    level = find_level(engine, book, price_steps)
    slot = engine[level + ENDS] & HALF_MASK
    qty_steps = engine[level + LEVEL_QTY]
    outcome = 0
    while slot != 0 and engine[taker + LEAVES] > 0 and not outcome & STOPPED:
        maker = order_at(slot)
        reason = barred(engine, book, maker, account_id, stp_mode)
        if reason == Reason.NONE:
            fill_steps, shrunk, count = trade(engine, words, count, book, taker, maker)
            outcome |= shrunk
            qty_steps -= fill_steps
            if engine[maker + LEAVES] > 0:
                break
        else:
            if reason == Reason.STP and stp_mode != StpMode.EXPIRE_MAKER:
                outcome |= STOPPED
                if stp_mode == StpMode.EXPIRE_TAKER:
                    break
            count = write_off(engine, words, count, EventKind.EXPIRED.value, reason, maker)
            qty_steps -= engine[maker + LEAVES]
        after = engine[maker + NEXT]
        free_order(engine, book, slot)
        slot = after
    if qty_steps != engine[level + LEVEL_QTY]:
        engine[order_at(slot) + PREVIOUS] = 0
        tail = engine[level + ENDS] >> HALF_BITS
        engine[level + LEVEL_QTY] = qty_steps
        engine[level + ENDS] = tail << HALF_BITS | slot if slot != 0 else 0
        if slot == 0:
            remove_if_empty(engine, book, price_steps, qty_steps)
            engine[best_at(book, -side)] = next_behind(engine, book, -side, price_steps)
        count = write_level(engine, words, count, book, -side, price_steps, qty_steps)
    return outcome, count


@njit(cache=True, _nrt=False)
def take(engine, words, count, book, taker, limit_steps, stp_mode):
    """Fill a taker from the other side, best price first.

    Args:
        taker: first word of an order that is on no level; its LEAVES are changed.
        limit_steps: worst price it may take.

    Returns:
        (bits of STOPPED and SHRUNK, new count).
    """
    side = side_of(engine, taker)
    best = best_at(book, -side)
    outcome = 0
    while engine[taker + LEAVES] > 0 and not outcome & STOPPED:
        price_steps = engine[best]
        if side * (limit_steps - price_steps) < 0:
            break
        bits, count = take_level(engine, words, count, book, taker, stp_mode, price_steps)
        outcome |= bits
    return outcome, count


@njit(cache=True, _nrt=False)
def is_fillable(engine, book, account_id, side, limit_steps, qty_steps):
    """Return True if a FOK order would be filled whole.

    Without reduce-only makers the totals of the levels tell. With them it is played through order
    by order, since the fills before may leave such an order nothing to reduce.
    """
    has_reduce_only = engine[book + REDUCE_ONLY_COUNT] > 0
    price_steps = engine[best_at(book, -side)]
    total_steps = 0
    while total_steps < qty_steps and side * (limit_steps - price_steps) >= 0:
        level = find_level(engine, book, price_steps)
        if has_reduce_only:
            total_steps += sweep_level(engine, book, level, account_id)
        else:
            total_steps += engine[level + LEVEL_QTY]
        price_steps = next_behind(engine, book, -side, price_steps)
    if has_reduce_only:
        end_steps = price_steps
        price_steps = engine[best_at(book, -side)]
        while price_steps != end_steps:
            forget_sweep(engine, book, find_level(engine, book, price_steps), account_id)
            price_steps = next_behind(engine, book, -side, price_steps)
    return total_steps >= qty_steps


@njit(cache=True, _nrt=False)
def sweep_level(engine, book, level, account_id):
    """Return how much of a level a taker would get, and note the position changes of it."""
    total_steps = 0
    taker_holding = holding_at(engine, book, account_id)
    slot = engine[level + ENDS] & HALF_MASK
    while slot != 0:
        maker = order_at(slot)
        holding = holding_at(engine, book, account_of(engine, maker))
        position_steps = engine[holding + POSITION] + engine[holding + SWEEP]
        side = side_of(engine, maker)
        leaves_steps = engine[maker + LEAVES]
        is_reduce_only = engine[maker + FLAGS] & FLAG_REDUCE_ONLY
        if not is_reduce_only or leaves_steps <= -side * position_steps:
            total_steps += leaves_steps
            engine[holding + SWEEP] += side * leaves_steps
            engine[taker_holding + SWEEP] -= side * leaves_steps
        slot = engine[maker + NEXT]
    return total_steps


@njit(cache=True, _nrt=False)
def forget_sweep(engine, book, level, account_id):
    """Clear the position changes that `sweep_level` noted."""
    engine[holding_at(engine, book, account_id) + SWEEP] = 0
    slot = engine[level + ENDS] & HALF_MASK
    while slot != 0:
        maker = order_at(slot)
        engine[holding_at(engine, book, account_of(engine, maker)) + SWEEP] = 0
        slot = engine[maker + NEXT]


@njit(cache=True, _nrt=False, forceinline=True)
def end_order(engine, words, count, book, slot, kind, reason):
    """Cancel or expire an order that is on a level; return the new count of events."""
    order = order_at(slot)
    side = side_of(engine, order)
    price_steps = engine[order + PRICE]
    leaves_steps = engine[order + LEAVES]
    count = write_off(engine, words, count, kind, reason, order)
    count = take_off(engine, words, count, book, slot, side, price_steps, leaves_steps)
    free_order(engine, book, slot)
    return count


@njit(cache=True, _nrt=False)
def end_orders(engine, words, count, book, account_id):
    """End queued orders of one book: bids first, each side best first, first come first.

    Args:
        account_id: cancel all orders of this account; NOBODY: expire the reduce-only orders of
            whatever account that could turn its position (`er` 4).

    Returns:
        (orders ended, new count of events).
    """
    ended = 0
    for side in (1, -1):
        price_steps = engine[best_at(book, side)]
        while is_price(price_steps):
            slot = engine[find_level(engine, book, price_steps) + ENDS] & HALF_MASK
            while slot != 0:
                order = order_at(slot)
                after = engine[order + NEXT]
                kind = 0
                reason = 0
                if account_id != NOBODY:
                    if account_of(engine, order) == account_id:
                        kind = EventKind.CANCELED.value
                else:
                    reason = barred(engine, book, order, account_id, StpMode.NONE.value)
                    if reason != Reason.NONE:
                        kind = EventKind.EXPIRED.value
                if kind:
                    count = end_order(engine, words, count, book, slot, kind, reason)
                    ended += 1
                slot = after
            price_steps = next_behind(engine, book, side, price_steps)
    return ended, count

"""Inner steps of the matching engine: events, queues of orders, and a taker against the book.

Link 0 means none, and slot 0 of the pool may be written to: that saves a branch.
"""

from numba import njit

from common.enums import Side
from processes.venue.engine import (
    BEST_ASK,
    BEST_BID,
    FREE_SLOT,
    NO_ASK,
    NO_BID,
    OPEN_COUNT,
    REDUCE_ONLY_COUNT,
    TRADE_ID,
    UPDATE_ID,
    EventKind,
    Reason,
    StpMode,
)
from processes.venue.ladder import (
    add_level,
    book_at,
    find_level,
    next_behind,
    remove_level,
)

STOPPED = 1  # `take`: self-trade prevention ended the taker
SHRUNK = 2  # `take`: a position behind open reduce-only orders changed


@njit(cache=True, forceinline=True)
def best_at(instrument_id, side):
    """Return the word of a side's best price in `engine.books`."""
    return book_at(instrument_id) + ((BEST_BID + BEST_ASK - side) >> 1)


@njit(cache=True, forceinline=True)
def is_price(price_steps):
    """Return True unless it is NO_BID or NO_ASK."""
    return price_steps != NO_BID and price_steps != NO_ASK


@njit(cache=True, forceinline=True)
def reducible(holding, side):
    """Return the quantity that an order of `side` can take off a position, 0 if it adds to it."""
    return max(-side * holding["position_steps"], 0)


@njit(cache=True, forceinline=True)
def write_order_event(
    events,
    count,
    kind,
    reason,
    instrument_id,
    account_id,
    order_id,
    side,
    price_steps,
    qty_steps,
    leaves_steps,
):
    """Write NEW, CANCELED, EXPIRED or AMENDED into row `count`; return the new count."""
    event = events[count]
    event["kind"] = kind
    event["side"] = side
    event["reason"] = reason
    event["maker_done"] = 0
    event["instrument_id"] = instrument_id
    event["price_steps"] = price_steps
    event["qty_steps"] = qty_steps
    event["leaves_qty_steps"] = leaves_steps
    event["event_id"] = 0
    event["order_id"] = order_id
    event["maker_order_id"] = 0
    event["account_id"] = account_id
    event["maker_account_id"] = 0
    return count + 1


@njit(cache=True, forceinline=True)
def write_level(engine, events, count, instrument_id, side, price_steps, qty_steps):
    """Count one more update id and write LEVEL into row `count`; return the new count."""
    book = book_at(instrument_id)
    update_id = engine.books[book + UPDATE_ID] + 1
    engine.books[book + UPDATE_ID] = update_id
    count = write_order_event(
        events,
        count,
        EventKind.LEVEL.value,
        0,
        instrument_id,
        0,
        0,
        side,
        price_steps,
        qty_steps,
        0,
    )
    events[count - 1]["event_id"] = update_id
    return count


@njit(cache=True, forceinline=True)
def write_off(events, count, kind, reason, order):
    """Write one event of an open ORDER into row `count`; return the new count."""
    return write_order_event(
        events,
        count,
        kind,
        reason,
        order["instrument_id"],
        order["account_id"],
        order["order_id"],
        order["side"],
        order["price_steps"],
        order["order_qty_steps"],
        order["leaves_qty_steps"],
    )


@njit(cache=True, forceinline=True)
def write_trade(
    engine, events, count, maker, account_id, order_id, price_steps, fill_steps, leaves_steps
):
    """Count one more trade id and write TRADE into row `count`; return the new count."""
    instrument_id = maker["instrument_id"]
    book = book_at(instrument_id)
    trade_id = engine.books[book + TRADE_ID] + 1
    engine.books[book + TRADE_ID] = trade_id
    count = write_order_event(
        events,
        count,
        EventKind.TRADE.value,
        0,
        instrument_id,
        account_id,
        order_id,
        -maker["side"],
        price_steps,
        fill_steps,
        leaves_steps,
    )
    event = events[count - 1]
    event["maker_done"] = fill_steps == maker["leaves_qty_steps"]
    event["event_id"] = trade_id
    event["maker_order_id"] = maker["order_id"]
    event["maker_account_id"] = maker["account_id"]
    return count


@njit(cache=True, forceinline=True)
def put_on(engine, events, count, slot):
    """Queue an order at the back of its level; return the new count of events."""
    order = engine.orders[slot]
    instrument_id = order["instrument_id"]
    price_steps = order["price_steps"]
    side = order["side"]
    level = engine.levels[add_level(engine, instrument_id, price_steps)]
    tail = level["tail"]
    order["previous"] = tail
    order["next"] = 0
    engine.orders[tail]["next"] = slot
    level["tail"] = slot
    level["head"] = slot if tail == 0 else level["head"]
    qty_steps = level["qty_steps"] + order["leaves_qty_steps"]
    level["qty_steps"] = qty_steps
    best = best_at(instrument_id, side)
    if side * (price_steps - engine.books[best]) > 0:
        engine.books[best] = price_steps
    return write_level(engine, events, count, instrument_id, side, price_steps, qty_steps)


@njit(cache=True, forceinline=True)
def take_off(engine, events, count, slot):
    """Unlink an order from its level; return the new count of events."""
    order = engine.orders[slot]
    instrument_id = order["instrument_id"]
    price_steps = order["price_steps"]
    side = order["side"]
    level = engine.levels[find_level(engine, instrument_id, price_steps)]
    before = order["previous"]
    after = order["next"]
    engine.orders[before]["next"] = after
    engine.orders[after]["previous"] = before
    qty_steps = level["qty_steps"] - order["leaves_qty_steps"]
    level["qty_steps"] = qty_steps
    level["head"] = after if before == 0 else level["head"]
    level["tail"] = before if after == 0 else level["tail"]
    if qty_steps == 0:
        remove_level(engine, instrument_id, price_steps)
        best = best_at(instrument_id, side)
        if price_steps == engine.books[best]:
            engine.books[best] = next_behind(engine, instrument_id, side, price_steps)
    return write_level(engine, events, count, instrument_id, side, price_steps, qty_steps)


@njit(cache=True, forceinline=True)
def free_order(engine, slot):
    """Give back the slot of an order that is on no level any more."""
    order = engine.orders[slot]
    book = book_at(order["instrument_id"])
    engine.books[book + OPEN_COUNT] -= 1
    if order["reduce_only"]:
        engine.books[book + REDUCE_ONLY_COUNT] -= 1
        engine.holdings[order["account_id"], order["instrument_id"]]["reduce_only_count"] -= 1
    order["order_id"] = 0
    order["next"] = engine.books[FREE_SLOT]
    engine.books[FREE_SLOT] = slot


@njit(cache=True)
def is_barred(engine, maker, account_id, stp_mode):
    """Return why a maker must not trade with this taker: Reason.STP, REDUCE_ONLY or NONE."""
    if stp_mode != StpMode.NONE and maker["account_id"] == account_id:
        return Reason.STP.value
    if maker["reduce_only"]:
        holding = engine.holdings[maker["account_id"], maker["instrument_id"]]
        if maker["leaves_qty_steps"] > reducible(holding, maker["side"]):
            return Reason.REDUCE_ONLY.value
    return Reason.NONE.value


@njit(cache=True, forceinline=True)
def trade(engine, events, count, maker, account_id, order_id, price_steps, leaves_steps):
    """Fill a taker and one maker against each other.

    Returns:
        (taker's leaves_steps, SHRUNK or 0, new count).
    """
    side = -maker["side"]
    fill_steps = min(leaves_steps, maker["leaves_qty_steps"])
    leaves_steps -= fill_steps
    count = write_trade(
        engine, events, count, maker, account_id, order_id, price_steps, fill_steps, leaves_steps
    )
    maker["leaves_qty_steps"] -= fill_steps
    holding = engine.holdings[maker["account_id"], maker["instrument_id"]]
    taker_holding = engine.holdings[account_id, maker["instrument_id"]]
    holding["position_steps"] -= side * fill_steps
    taker_holding["position_steps"] += side * fill_steps
    is_shrunk = holding["reduce_only_count"] | taker_holding["reduce_only_count"]
    return leaves_steps, SHRUNK if is_shrunk else 0, count


@njit(cache=True)
def take(
    engine,
    events,
    count,
    instrument_id,
    account_id,
    order_id,
    side,
    limit_steps,
    leaves_steps,
    stp_mode,
):
    """Fill a taker from the other side, best price first, first come first served.

    Self-trade prevention goes by the taker's mode (USD-M futures "STP FAQ"). A reduce-only maker
    that would turn its position expires when its turn comes.

    Returns:
        (leaves_steps, bits of STOPPED and SHRUNK, new count).
    """
    outcome = 0
    best = best_at(instrument_id, -side)
    while leaves_steps > 0 and not outcome & STOPPED:
        price_steps = engine.books[best]
        if side * (limit_steps - price_steps) < 0:
            break
        level = engine.levels[find_level(engine, instrument_id, price_steps)]
        slot = level["head"]
        qty_steps = level["qty_steps"]
        while slot != 0 and leaves_steps > 0:
            maker = engine.orders[slot]
            maker_steps = maker["leaves_qty_steps"]
            reason = is_barred(engine, maker, account_id, stp_mode)
            if reason == Reason.NONE:
                leaves_steps, shrunk, count = trade(
                    engine, events, count, maker, account_id, order_id, price_steps, leaves_steps
                )
                outcome |= shrunk
                qty_steps -= maker_steps - maker["leaves_qty_steps"]
                if maker["leaves_qty_steps"] > 0:
                    break
            else:
                if reason == Reason.STP and stp_mode != StpMode.EXPIRE_MAKER:
                    outcome |= STOPPED
                    if stp_mode == StpMode.EXPIRE_TAKER:
                        break
                count = write_off(events, count, EventKind.EXPIRED.value, reason, maker)
                qty_steps -= maker_steps
            after = maker["next"]
            free_order(engine, slot)
            slot = after
            if outcome & STOPPED:
                break
        if qty_steps != level["qty_steps"]:
            count = write_level(engine, events, count, instrument_id, -side, price_steps, qty_steps)
            engine.orders[slot]["previous"] = 0
            level["qty_steps"] = qty_steps
            level["head"] = slot
            if slot == 0:
                level["tail"] = 0
                remove_level(engine, instrument_id, price_steps)
                engine.books[best] = next_behind(engine, instrument_id, -side, price_steps)
    return leaves_steps, outcome, count


@njit(cache=True)
def is_fillable(engine, instrument_id, account_id, side, limit_steps, qty_steps):
    """Return True if a FOK order would be filled whole.

    Without reduce-only makers the totals of the levels tell. With them it is played through order
    by order, since the fills before may leave such an order nothing to reduce.
    """
    has_reduce_only = engine.books[book_at(instrument_id) + REDUCE_ONLY_COUNT] > 0
    price_steps = engine.books[best_at(instrument_id, -side)]
    total_steps = 0
    while total_steps < qty_steps and side * (limit_steps - price_steps) >= 0:
        level = engine.levels[find_level(engine, instrument_id, price_steps)]
        if has_reduce_only:
            total_steps += sweep_level(engine, level, account_id)
        else:
            total_steps += level["qty_steps"]
        price_steps = next_behind(engine, instrument_id, -side, price_steps)
    if has_reduce_only:
        end_steps = price_steps
        price_steps = engine.books[best_at(instrument_id, -side)]
        while price_steps != end_steps:
            level = engine.levels[find_level(engine, instrument_id, price_steps)]
            forget_sweep(engine, level, account_id)
            price_steps = next_behind(engine, instrument_id, -side, price_steps)
    return total_steps >= qty_steps


@njit(cache=True)
def sweep_level(engine, level, account_id):
    """Return how much of a level a taker would get, and note the position changes of it."""
    total_steps = 0
    slot = level["head"]
    while slot != 0:
        maker = engine.orders[slot]
        holding = engine.holdings[maker["account_id"], maker["instrument_id"]]
        position_steps = holding["position_steps"] + holding["sweep_steps"]
        side = maker["side"]
        if not maker["reduce_only"] or maker["leaves_qty_steps"] <= -side * position_steps:
            fill_steps = maker["leaves_qty_steps"]
            total_steps += fill_steps
            taker_holding = engine.holdings[account_id, maker["instrument_id"]]
            holding["sweep_steps"] += side * fill_steps
            taker_holding["sweep_steps"] -= side * fill_steps
        slot = maker["next"]
    return total_steps


@njit(cache=True)
def forget_sweep(engine, level, account_id):
    """Clear the position changes that `sweep_level` noted."""
    slot = level["head"]
    while slot != 0:
        maker = engine.orders[slot]
        engine.holdings[maker["account_id"], maker["instrument_id"]]["sweep_steps"] = 0
        engine.holdings[account_id, maker["instrument_id"]]["sweep_steps"] = 0
        slot = maker["next"]


@njit(cache=True)
def knock_out(engine, events, count, instrument_id):
    """Expire open reduce-only orders that could turn their position (`er` 4); return the count."""
    for side in (Side.BID.value, Side.ASK.value):
        price_steps = engine.books[best_at(instrument_id, side)]
        while is_price(price_steps):
            slot = engine.levels[find_level(engine, instrument_id, price_steps)]["head"]
            while slot != 0:
                order = engine.orders[slot]
                after = order["next"]
                reason = is_barred(engine, order, order["account_id"], StpMode.NONE.value)
                if reason == Reason.REDUCE_ONLY:
                    count = write_off(events, count, EventKind.EXPIRED.value, reason, order)
                    count = take_off(engine, events, count, slot)
                    free_order(engine, slot)
                slot = after
            price_steps = next_behind(engine, instrument_id, side, price_steps)
    return count

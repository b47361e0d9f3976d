"""Price-time priority matching: submit, amend and cancel as kernels over the engine's arrays.

Callers pass plain ints (`Side.BID.value`), an EVENT array and how many of its rows are used, and
get the new count back. A request is all or nothing: it is refused before its first change, also
when the rows left in `events` could be too few for the worst case, which is two per open order of
the instrument and EVENTS_SPARE more.
"""

from numba import njit

from common.enums import OrderType, Side, TimeInForce
from processes.venue.crossing import (
    SHRUNK,
    STOPPED,
    best_at,
    free_order,
    is_fillable,
    is_price,
    knock_out,
    put_on,
    reducible,
    take,
    take_off,
    write_off,
    write_order_event,
)
from processes.venue.engine import (
    AMENDMENTS_MAX,
    EVENTS_SPARE,
    FREE_SLOT,
    OPEN_COUNT,
    ORDER_SEQUENCE,
    POSITION_STEPS_MAX,
    PRICE_STEPS_MAX,
    QTY_STEPS_MAX,
    REDUCE_ONLY_COUNT,
    SLOT_BITS,
    SLOT_MASK,
    UPDATE_ID,
    EventKind,
    MatchStatus,
    Reason,
    StpMode,
)
from processes.venue.ladder import book_at, find_level, is_in_window, next_behind, prepare_price


@njit(cache=True)
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
    if not (
        is_known(engine, instrument_id, account_id)
        and are_words(side, order_type, time_in_force, stp_mode)
    ):
        return MatchStatus.BAD_REQUEST.value, 0, count
    limit_steps = price_steps
    reason = Reason.IOC.value
    if order_type == OrderType.MARKET:
        time_in_force = TimeInForce.IOC.value
        reason = Reason.MARKET.value
        if price_steps == 0:
            limit_steps = PRICE_STEPS_MAX if side == Side.BID else 1
    status = check_order(engine, events, count, instrument_id, account_id, limit_steps, qty_steps)
    if status != MatchStatus.OK:
        return status, 0, count
    if reduce_only:
        qty_steps = min(qty_steps, reducible(engine.holdings[account_id, instrument_id], side))
        if qty_steps == 0:
            return MatchStatus.REDUCE_ONLY.value, 0, count
    if time_in_force == TimeInForce.FOK:
        stp_mode = StpMode.NONE.value  # not effective
        if not is_fillable(engine, instrument_id, account_id, side, limit_steps, qty_steps):
            return MatchStatus.FOK.value, 0, count
    if time_in_force == TimeInForce.IOC or time_in_force == TimeInForce.FOK:
        order_id = next_order_id(engine, 0)
        count = write_order_event(
            events, count, EventKind.NEW.value, 0, instrument_id, account_id, order_id, side,
            price_steps, qty_steps, qty_steps,
        )  # fmt: skip
        count = execute(
            engine, events, count, instrument_id, account_id, order_id, side, price_steps,
            limit_steps, qty_steps, stp_mode, reason,
        )  # fmt: skip
        return MatchStatus.OK.value, order_id, count
    if time_in_force == TimeInForce.GTX and is_crossing(engine, instrument_id, side, limit_steps):
        return MatchStatus.POST_ONLY.value, 0, count
    if engine.books[FREE_SLOT] == 0:
        return MatchStatus.ORDERS_FULL.value, 0, count
    if not has_room(engine, instrument_id, limit_steps):
        return MatchStatus.LEVELS_FULL.value, 0, count
    slot = open_order(
        engine, instrument_id, account_id, side, time_in_force, reduce_only, price_steps, qty_steps
    )
    order = engine.orders[slot]
    count = write_off(events, count, EventKind.NEW.value, 0, order)
    return MatchStatus.OK.value, order["order_id"], work(engine, events, count, slot, stp_mode)


@njit(cache=True)
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
    return MatchStatus.OK.value, cancel_slot(engine, events, count, slot, Reason.NONE.value)


@njit(cache=True)
def cancel_all(engine, events, count, instrument_id, account_id):
    """Cancel all open orders of one account in one instrument; bids first, each side best first.

    Returns:
        (status, canceled, count): OK, also when there were none; EVENTS_FULL or BAD_REQUEST with
        nothing changed.
    """
    if not is_known(engine, instrument_id, account_id):
        return MatchStatus.BAD_REQUEST.value, 0, count
    if not has_event_room(engine, events, count, instrument_id):
        return MatchStatus.EVENTS_FULL.value, 0, count
    canceled = 0
    for side in (Side.BID.value, Side.ASK.value):
        price_steps = engine.books[best_at(instrument_id, side)]
        while is_price(price_steps):
            slot = engine.levels[find_level(engine, instrument_id, price_steps)]["head"]
            while slot != 0:
                after = engine.orders[slot]["next"]
                if engine.orders[slot]["account_id"] == account_id:
                    count = cancel_slot(engine, events, count, slot, Reason.NONE.value)
                    canceled += 1
                slot = after
            price_steps = next_behind(engine, instrument_id, side, price_steps)
    return MatchStatus.OK.value, canceled, count


@njit(cache=True)
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
    status = check_order(engine, events, count, instrument_id, account_id, price_steps, qty_steps)
    if status != MatchStatus.OK:
        return status, count
    order = engine.orders[slot]
    side = order["side"]
    if order["price_steps"] == price_steps and order["order_qty_steps"] == qty_steps:
        return MatchStatus.NOT_CHANGED.value, count
    if order["amendment_count"] >= AMENDMENTS_MAX:
        return MatchStatus.AMENDMENTS.value, count
    executed_steps = order["order_qty_steps"] - order["leaves_qty_steps"]
    if qty_steps <= executed_steps:
        reason = Reason.AMEND_QTY.value
        return MatchStatus.OK.value, cancel_slot(engine, events, count, slot, reason)
    if order["time_in_force"] == TimeInForce.GTX:
        if is_crossing(engine, instrument_id, side, price_steps):
            reason = Reason.AMEND_POST_ONLY.value
            return MatchStatus.OK.value, cancel_slot(engine, events, count, slot, reason)
    if not has_room(engine, instrument_id, price_steps):
        return MatchStatus.LEVELS_FULL.value, count
    count = take_off(engine, events, count, slot)
    leaves_steps = qty_steps - executed_steps
    if order["reduce_only"]:
        holding = engine.holdings[account_id, instrument_id]
        leaves_steps = min(leaves_steps, reducible(holding, side))
    order["price_steps"] = price_steps
    order["order_qty_steps"] = executed_steps + leaves_steps
    order["leaves_qty_steps"] = leaves_steps
    order["amendment_count"] += 1
    count = write_off(events, count, EventKind.AMENDED.value, 0, order)
    return MatchStatus.OK.value, work(engine, events, count, slot, StpMode.NONE.value)


@njit(cache=True, forceinline=True)
def find(engine, order_id):
    """Return the slot of an open order in `engine.orders`, or 0."""
    slot = order_id & SLOT_MASK
    if order_id <= 0 or slot >= len(engine.orders):
        return 0
    return slot if engine.orders[slot]["order_id"] == order_id else 0


@njit(cache=True)
def best(engine, instrument_id):
    """Return (bid_price, bid_qty, ask_price, ask_qty) in steps; empty: NO_BID or NO_ASK and 0."""
    bid_steps = engine.books[best_at(instrument_id, Side.BID.value)]
    ask_steps = engine.books[best_at(instrument_id, Side.ASK.value)]
    return (
        bid_steps,
        level_qty(engine, instrument_id, bid_steps),
        ask_steps,
        level_qty(engine, instrument_id, ask_steps),
    )


@njit(cache=True)
def depth(engine, instrument_id, side, prices, quantities):
    """Copy the best levels of one side, best first, until they end or the arrays are full.

    Args:
        engine: Engine, read.
        side: Side.
        prices, quantities: int64[n], changed; steps.

    Returns:
        How many levels were copied.
    """
    price_steps = engine.books[best_at(instrument_id, side)]
    copied = 0
    while copied < len(prices) and is_price(price_steps):
        prices[copied] = price_steps
        quantities[copied] = level_qty(engine, instrument_id, price_steps)
        copied += 1
        price_steps = next_behind(engine, instrument_id, side, price_steps)
    return copied


@njit(cache=True)
def last_update_id(engine, instrument_id):
    """Return the update id of the last LEVEL event of an instrument, 0 before the first."""
    return engine.books[book_at(instrument_id) + UPDATE_ID]


@njit(cache=True, forceinline=True)
def level_qty(engine, instrument_id, price_steps):
    """Return the open quantity at a best price, 0 for NO_BID and NO_ASK."""
    if not is_price(price_steps):
        return 0
    return engine.levels[find_level(engine, instrument_id, price_steps)]["qty_steps"]


@njit(cache=True, forceinline=True)
def is_known(engine, instrument_id, account_id):
    """Return True if the engine has such an instrument and account."""
    accounts, instruments = engine.holdings.shape
    return 0 <= instrument_id < instruments and 0 <= account_id < accounts


@njit(cache=True, forceinline=True)
def are_words(side, order_type, time_in_force, stp_mode):
    """Return True if each is a member of its enumeration."""
    return (
        (side == Side.BID or side == Side.ASK)
        and (order_type == OrderType.LIMIT or order_type == OrderType.MARKET)
        and TimeInForce.GTC <= time_in_force <= TimeInForce.GTX
        and StpMode.NONE <= stp_mode <= StpMode.EXPIRE_BOTH
    )


@njit(cache=True, forceinline=True)
def has_event_room(engine, events, count, instrument_id):
    """Return True if `events` can take what one request causes at most."""
    open_count = engine.books[book_at(instrument_id) + OPEN_COUNT]
    return count + 2 * open_count + EVENTS_SPARE <= len(events)


@njit(cache=True, forceinline=True)
def check_order(engine, events, count, instrument_id, account_id, limit_steps, qty_steps):
    """Judge the numbers of an order and the room for its events."""
    if not has_event_room(engine, events, count, instrument_id):
        return MatchStatus.EVENTS_FULL.value
    if not 1 <= limit_steps <= PRICE_STEPS_MAX:
        return MatchStatus.BAD_PRICE.value
    if not 1 <= qty_steps <= QTY_STEPS_MAX:
        return MatchStatus.BAD_QTY.value
    if abs(engine.holdings[account_id, instrument_id]["position_steps"]) > POSITION_STEPS_MAX:
        return MatchStatus.POSITION.value
    return MatchStatus.OK.value


@njit(cache=True, forceinline=True)
def is_crossing(engine, instrument_id, side, limit_steps):
    """Return True if an order would take at once."""
    return side * (limit_steps - engine.books[best_at(instrument_id, -side)]) >= 0


@njit(cache=True, forceinline=True)
def has_room(engine, instrument_id, price_steps):
    """Return True if an order can rest at a price."""
    if is_in_window(engine, instrument_id, price_steps):
        return True
    return prepare_price(engine, instrument_id, price_steps)


@njit(cache=True, forceinline=True)
def find_own(engine, instrument_id, account_id, order_id):
    """Return the slot of an open order of this account and instrument, or 0."""
    slot = find(engine, order_id)
    order = engine.orders[slot]
    is_own = order["account_id"] == account_id and order["instrument_id"] == instrument_id
    return slot if is_own else 0


@njit(cache=True, forceinline=True)
def next_order_id(engine, slot):
    """Return a new order id: it grows with each order, and says where the order is."""
    sequence = engine.books[ORDER_SEQUENCE] + 1
    engine.books[ORDER_SEQUENCE] = sequence
    return (sequence << SLOT_BITS) | slot


@njit(cache=True, forceinline=True)
def open_order(
    engine, instrument_id, account_id, side, time_in_force, reduce_only, price_steps, qty_steps
):
    """Take a slot for an order that may rest, and fill it; return the slot."""
    slot = engine.books[FREE_SLOT]
    order = engine.orders[slot]
    engine.books[FREE_SLOT] = order["next"]
    order["order_id"] = next_order_id(engine, slot)
    order["price_steps"] = price_steps
    order["order_qty_steps"] = qty_steps
    order["leaves_qty_steps"] = qty_steps
    order["account_id"] = account_id
    order["instrument_id"] = instrument_id
    order["side"] = side
    order["time_in_force"] = time_in_force
    order["reduce_only"] = reduce_only
    order["amendment_count"] = 0
    book = book_at(instrument_id)
    engine.books[book + OPEN_COUNT] += 1
    if reduce_only:
        engine.books[book + REDUCE_ONLY_COUNT] += 1
        engine.holdings[account_id, instrument_id]["reduce_only_count"] += 1
    return slot


@njit(cache=True, forceinline=True)
def cancel_slot(engine, events, count, slot, reason):
    """Cancel an open order that is on a level; return the new count of events."""
    count = write_off(events, count, EventKind.CANCELED.value, reason, engine.orders[slot])
    count = take_off(engine, events, count, slot)
    free_order(engine, slot)
    return count


@njit(cache=True, forceinline=True)
def work(engine, events, count, slot, stp_mode):
    """Let an order that is on no level take what it can and rest; return the count of events."""
    order = engine.orders[slot]
    instrument_id = order["instrument_id"]
    side = order["side"]
    if not is_crossing(engine, instrument_id, side, order["price_steps"]):
        return put_on(engine, events, count, slot)
    leaves_steps, outcome, count = take(
        engine, events, count, instrument_id, order["account_id"], order["order_id"], side,
        order["price_steps"], order["leaves_qty_steps"], stp_mode,
    )  # fmt: skip
    order["leaves_qty_steps"] = leaves_steps
    if leaves_steps > 0 and not outcome & STOPPED:
        count = put_on(engine, events, count, slot)
    else:
        if leaves_steps > 0:
            count = write_off(events, count, EventKind.EXPIRED.value, Reason.STP.value, order)
        free_order(engine, slot)
    if outcome & SHRUNK:
        count = knock_out(engine, events, count, instrument_id)
    return count


@njit(cache=True)
def execute(
    engine,
    events,
    count,
    instrument_id,
    account_id,
    order_id,
    side,
    price_steps,
    limit_steps,
    qty_steps,
    stp_mode,
    reason,
):
    """Let an order that never rests take what it can; return the new count of events.

    Args:
        price_steps: as asked; it goes into the events.
        limit_steps: worst price it may take.
        reason: of its expiry if something is left: Reason.IOC or MARKET.
    """
    leaves_steps, outcome, count = take(
        engine, events, count, instrument_id, account_id, order_id, side, limit_steps, qty_steps,
        stp_mode,
    )  # fmt: skip
    if leaves_steps > 0:
        if outcome & STOPPED:
            reason = Reason.IOC_STP.value if reason == Reason.IOC else Reason.STP.value
        count = write_order_event(
            events, count, EventKind.EXPIRED.value, reason, instrument_id, account_id, order_id,
            side, price_steps, qty_steps, leaves_steps,
        )  # fmt: skip
    if outcome & SHRUNK:
        count = knock_out(engine, events, count, instrument_id)
    return count

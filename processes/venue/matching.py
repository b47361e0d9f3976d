"""Price-time priority matching: submit, amend and cancel as kernels over the engine's arrays.

Callers pass plain ints (`Side.BID.value`), an EVENT array and how many of its rows are used, and
get the new count back. A request is all or nothing: it is refused before its first change, also
when the rows left in `events` could be too few for the worst case, which is two per open order of
the instrument and eight more.
"""

from numba import njit


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
    """Match one new order and let the rest of it rest, expire or be refused.

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
    raise NotImplementedError


@njit(cache=True)
def cancel(engine, events, count, instrument_id, account_id, order_id):
    """Take one open order off the book.

    Returns:
        (status, count): OK, with CANCELED and LEVEL events; EVENTS_FULL or UNKNOWN_ORDER with
        nothing changed.
    """
    raise NotImplementedError


@njit(cache=True)
def cancel_all(engine, events, count, instrument_id, account_id):
    """Cancel all open orders of one account in one instrument; bids first, each side best first.

    Returns:
        (status, canceled, count): OK, also when there were none; EVENTS_FULL or BAD_REQUEST with
        nothing changed.
    """
    raise NotImplementedError


@njit(cache=True)
def amend(engine, events, count, instrument_id, account_id, order_id, price_steps, qty_steps):
    """Give an open order a new price and total quantity (USD-M futures "Modify Order").

    The order keeps its id and goes to the back of its level, whatever changed. A GTC order may take
    at its new price; its STP mode is then NONE. It is canceled instead (reason AMEND_QTY) if
    `qty_steps` is not above what was executed, or (AMEND_POST_ONLY) if it is GTX and would take.

    Returns:
        (status, count): OK, with an AMENDED or CANCELED event and what follows from it. Nothing
        changed: EVENTS_FULL, UNKNOWN_ORDER, NOT_CHANGED, AMENDMENTS, BAD_PRICE, BAD_QTY,
        LEVELS_FULL, POSITION.
    """
    raise NotImplementedError


@njit(cache=True)
def find(engine, order_id):
    """Return the slot of an open order in `engine.orders`, or 0."""
    raise NotImplementedError


@njit(cache=True)
def best(engine, instrument_id):
    """Return (bid_price, bid_qty, ask_price, ask_qty) in steps; NO_BID or NO_ASK with quantity 0."""
    raise NotImplementedError


@njit(cache=True)
def depth(engine, instrument_id, side, prices, quantities):
    """Copy the best levels of one side, best first, until they end or the arrays are full.

    Args:
        engine: Engine, read.
        side: Side.
        prices, quantities: int64[n], changed.

    Returns:
        How many levels were copied.
    """
    raise NotImplementedError


@njit(cache=True)
def last_update_id(engine, instrument_id):
    """Return the update id of the last LEVEL event of an instrument, 0 before the first."""
    raise NotImplementedError

"""What hooks call: orders, quotes, timers, and what the book says.

Order verbs return a positive handle or 0 when done, and minus a Reject when refused; a refusal is
also kept in `words[LAST_REJECT]` and counted. Prices and quantities are integers in grid steps.
"""

import numpy as np
from numba import njit

from common.enums import (
    OrderPending,
    OrderStatus,
    OrderType,
    Reject,
    RequestKind,
    Side,
    TimeInForce,
)
from processes.strategy import desk as at
from processes.strategy.desk import INTENTS_PER_TURN_MAX, ORDER_SLOTS_MAX, QUOTE_LEVELS_MAX

_INT32_MAX = 2_147_483_647
_CLIP_MAX = 1e15  # keeps a float that becomes a quantity within int64


@njit(cache=True, _nrt=False)
def now_ns(d):
    """Return the clock given to this turn."""
    return d.words[at.NOW_NS]


@njit(cache=True, _nrt=False)
def set_timer(d, timer_id, due_ns):
    """Call `on_timer(timer_id)` in the first turn at or after `due_ns`; 0 switches it off."""
    d.timers[timer_id] = due_ns


@njit(cache=True, _nrt=False)
def position(d, i):
    """Return the signed position of instrument i in quantity steps, as risk last told."""
    return d.position[i]


@njit(cache=True, _nrt=False)
def is_tradable(d, i):
    """Return True if risk is ready and the book is valid with both sides."""
    book = d.books[i]
    return (
        d.words[at.READY] != 0
        and book["valid"] != 0
        and book["bid_count"] > 0
        and book["ask_count"] > 0
    )


@njit(cache=True, _nrt=False)
def is_fresh(d, i, age_ns_max):
    """Return True if instrument i is tradable and its book's event came at most this long ago."""
    return is_tradable(d, i) and d.words[at.NOW_NS] - d.books[i]["ts_recv_ns"] <= age_ns_max


@njit(cache=True, _nrt=False)
def mid(book):
    """Return (bid + ask) / 2 in price steps, a float; 0.0 without both sides."""
    if book["bid_count"] == 0 or book["ask_count"] == 0:
        return 0.0
    return 0.5 * (book["bid_price_steps"][0] + book["ask_price_steps"][0])


@njit(cache=True, _nrt=False)
def microprice(book):
    """Return the mid weighted by the opposite quantities, in price steps; 0.0 if one-sided."""
    if book["bid_count"] == 0 or book["ask_count"] == 0:
        return 0.0
    bid_qty = 1.0 * book["bid_qty_steps"][0]
    ask_qty = 1.0 * book["ask_qty_steps"][0]
    weighted = book["bid_price_steps"][0] * ask_qty + book["ask_price_steps"][0] * bid_qty
    return weighted / (bid_qty + ask_qty)


@njit(cache=True, _nrt=False)
def spread(book):
    """Return ask - bid in price steps; 0 without both sides."""
    if book["bid_count"] == 0 or book["ask_count"] == 0:
        return 0
    return book["ask_price_steps"][0] - book["bid_price_steps"][0]


@njit(cache=True, _nrt=False)
def imbalance(book, levels):
    """Return (bids - asks) / (bids + asks) of the first `levels` quantities, -1.0 to 1.0."""
    bids, asks = 0, 0
    for k in range(min(levels, book["bid_count"])):
        bids += book["bid_qty_steps"][k]
    for k in range(min(levels, book["ask_count"])):
        asks += book["ask_qty_steps"][k]
    return (bids - asks) / (1.0 * (bids + asks)) if bids + asks > 0 else 0.0


@njit(cache=True, _nrt=False)
def vwap(book, side, qty_steps):
    """Return the average price in steps of taking `qty_steps` from `side`; 0.0 if too thin."""
    left = qty_steps
    paid = 0.0
    count = book["bid_count"] if side == Side.BID else book["ask_count"]
    for k in range(count):
        if side == Side.BID:
            price, qty = book["bid_price_steps"][k], book["bid_qty_steps"][k]
        else:
            price, qty = book["ask_price_steps"][k], book["ask_qty_steps"][k]
        taken = min(left, qty)
        paid += 1.0 * price * taken
        left -= taken
        if left == 0:
            return paid / qty_steps
    return 0.0


@njit(cache=True, _nrt=False)
def clip_steps(d, i, notional, price):
    """Return the whole lots, at least one, that `notional` pays for at `price`.

    Args:
        d: Desk, read.
        i: instrument index.
        notional: quote currency, a float.
        price: price steps, a float above 0.
    """
    row = d.instruments[i]
    scale = 1.0
    for _ in range(row["price_grid_decimals"] + row["qty_grid_decimals"]):
        scale *= 10.0
    lot = row["lot_size_steps"]
    return max(int(min(notional * scale / price, _CLIP_MAX)) // lot, 1) * lot


@njit(cache=True, _nrt=False)
def is_enough(d, i, price_steps, qty_steps):
    """Return True if an order of this size is worth the venue's least notional."""
    return 1.0 * price_steps * qty_steps >= d.instruments[i]["min_notional_steps2"]


@njit(cache=True, _nrt=False)
def refuse(d, reject):
    """Count a refusal and return it as the verbs do."""
    d.words[at.LAST_REJECT] = reject
    d.words[at.REJECT_COUNT] += 1
    return -reject


@njit(cache=True, _nrt=False)
def saturate_int32(value):
    """Return a hop delta as an int32 that sticks at its largest value."""
    return np.int32(min(max(value, 0), _INT32_MAX))


@njit(cache=True, _nrt=False)
def write_intent(d, kind, i, order_slot):
    """Take the next intent record, fill what all kinds share, and return its index.

    The caller has checked that there is room.
    """
    index = d.words[at.INTENT_COUNT]
    d.words[at.INTENT_COUNT] = index + 1
    intent = d.intents[index]
    sequence = d.words[at.INTENT_SEQUENCE]
    d.words[at.INTENT_SEQUENCE] = sequence + 1
    now = d.words[at.NOW_NS]
    intent["kind"] = kind
    intent["side"] = 0
    intent["order_type"] = OrderType.LIMIT
    intent["time_in_force"] = TimeInForce.GTC
    intent["reduce_only"] = 0
    intent["strategy_id"] = d.words[at.STRATEGY_ID]
    intent["instrument_id"] = i
    intent["order_slot"] = order_slot
    intent["client_order_id"] = d.words[at.SESSION_BASE] + sequence
    intent["orig_client_order_id"] = 0
    intent["intent_sequence"] = sequence
    intent["price_steps"] = 0
    intent["order_qty_steps"] = 0
    intent["ts_exch_ns"] = d.words[at.CAUSE_TS_EXCH]
    intent["ts_recv_ns"] = d.words[at.CAUSE_TS_RECV]
    intent["recv_to_book_ns"] = saturate_int32(d.words[at.CAUSE_RECV_TO_BOOK])
    caused = d.words[at.CAUSE_TS_RECV] != 0
    intent["book_to_strategy_ns"] = (
        saturate_int32(now - d.words[at.CAUSE_BOOK_TS_PUB]) if caused else 0
    )
    intent["strategy_to_risk_ns"] = 0
    intent["risk_to_sent_ns"] = 0
    intent["ts_pub_ns"] = now
    intent["venue_order_id"] = 0
    intent["book_sequence"] = d.words[at.CAUSE_SEQUENCE]
    return index


@njit(cache=True, _nrt=False)
def find_free_slot(d):
    """Return a free order slot, or -1."""
    for slot in range(ORDER_SLOTS_MAX):
        if d.orders[slot]["client_order_id"] == 0:
            return slot
    return -1


@njit(cache=True, _nrt=False)
def is_live(order):
    """Return True if the slot holds an order that may still be open at the venue."""
    return order["client_order_id"] != 0


@njit(cache=True, _nrt=False)
def is_in_flight(order):
    """Return True while a request for the order waits for its answer."""
    return (
        order["order_status"] == OrderStatus.PENDING_NEW
        or order["order_pending"] != 0
        or order["request_client_order_id"] != 0
    )


@njit(cache=True, _nrt=False)
def find_order(d, handle):
    """Return the slot of the order that `handle` means, or -1 if it is gone."""
    if handle <= 0:
        return -1
    slot = handle % ORDER_SLOTS_MAX
    order = d.orders[slot]
    return slot if is_live(order) and order["handle"] == handle else -1


@njit(cache=True, _nrt=False)
def send(d, i, side, order_type, time_in_force, price_steps, qty_steps, reduce_only):
    """Ask for a new order.

    Args:
        d: Desk, changed.
        i: instrument index.
        side, order_type, time_in_force: Side, OrderType, TimeInForce.
        price_steps: limit price; 0 for MARKET.
        qty_steps: quantity.
        reduce_only: 1 if it may only shrink the position.

    Returns:
        A handle > 0, or minus Reject.NOT_READY, RING_FULL (this turn's intents are used up),
        NO_SLOT (ORDER_SLOTS_MAX orders are live) or BAD_REQUEST.
    """
    if d.words[at.READY] == 0:
        return refuse(d, Reject.NOT_READY)
    if d.words[at.INTENT_COUNT] >= INTENTS_PER_TURN_MAX:
        return refuse(d, Reject.RING_FULL)
    if qty_steps <= 0 or price_steps < 0 or not 0 <= i < d.books.shape[0]:
        return refuse(d, Reject.BAD_REQUEST)
    slot = find_free_slot(d)
    if slot < 0:
        return refuse(d, Reject.NO_SLOT)
    intent = d.intents[write_intent(d, RequestKind.NEW, i, slot)]
    intent["side"] = side
    intent["order_type"] = order_type
    intent["time_in_force"] = time_in_force
    intent["reduce_only"] = reduce_only
    intent["price_steps"] = price_steps
    intent["order_qty_steps"] = qty_steps
    order = d.orders[slot]
    order["client_order_id"] = intent["client_order_id"]
    order["handle"] = (intent["intent_sequence"] + 1) * ORDER_SLOTS_MAX + slot
    order["price_steps"] = price_steps
    order["order_qty_steps"] = qty_steps
    order["cum_qty_steps"] = 0
    order["request_client_order_id"] = intent["client_order_id"]
    order["instrument_id"] = i
    order["quote_level"] = -1
    order["side"] = side
    order["order_status"] = OrderStatus.PENDING_NEW
    order["order_pending"] = 0
    return order["handle"]


@njit(cache=True, _nrt=False)
def check_change(d, handle):
    """Return (slot, 0) if the order may be changed now, else (-1, reject)."""
    slot = find_order(d, handle)
    if slot < 0:
        return -1, Reject.HANDLE
    if d.words[at.READY] == 0:
        return -1, Reject.NOT_READY
    if is_in_flight(d.orders[slot]):
        return -1, Reject.IN_FLIGHT
    if d.words[at.INTENT_COUNT] >= INTENTS_PER_TURN_MAX:
        return -1, Reject.RING_FULL
    return slot, Reject.NONE


@njit(cache=True, _nrt=False)
def replace(d, handle, price_steps, qty_steps):
    """Ask for another price or total quantity of an open order; it goes to the back of its level.

    Args:
        d: Desk, changed.
        handle: what `send` returned.
        price_steps: new limit price.
        qty_steps: new total quantity, what is filled included.

    Returns:
        0, or minus Reject.HANDLE, NOT_READY, IN_FLIGHT, RING_FULL or BAD_REQUEST.
    """
    slot, reject = check_change(d, handle)
    if slot < 0:
        return refuse(d, reject)
    order = d.orders[slot]
    if price_steps <= 0 or qty_steps <= order["cum_qty_steps"]:
        return refuse(d, Reject.BAD_REQUEST)
    intent = d.intents[write_intent(d, RequestKind.REPLACE, order["instrument_id"], slot)]
    intent["side"] = order["side"]
    intent["orig_client_order_id"] = order["client_order_id"]
    intent["price_steps"] = price_steps
    intent["order_qty_steps"] = qty_steps
    order["request_client_order_id"] = intent["client_order_id"]
    order["order_pending"] |= OrderPending.REPLACE
    return 0


@njit(cache=True, _nrt=False)
def cancel(d, handle):
    """Ask to cancel an open order.

    Returns:
        0, or minus Reject.HANDLE, NOT_READY, IN_FLIGHT or RING_FULL.
    """
    slot, reject = check_change(d, handle)
    if slot < 0:
        return refuse(d, reject)
    order = d.orders[slot]
    intent = d.intents[write_intent(d, RequestKind.CANCEL, order["instrument_id"], slot)]
    intent["side"] = order["side"]
    intent["orig_client_order_id"] = order["client_order_id"]
    order["request_client_order_id"] = intent["client_order_id"]
    order["order_pending"] |= OrderPending.CANCEL
    return 0


@njit(cache=True, _nrt=False)
def find_live_order(d, i):
    """Return the slot of an order of instrument i that may still be open at the venue, or -1."""
    for slot in range(ORDER_SLOTS_MAX):
        if is_live(d.orders[slot]) and d.orders[slot]["instrument_id"] == i:
            return slot
    return -1


@njit(cache=True, _nrt=False)
def take(d, i, side, qty_steps, slippage_bps, reduce_only):
    """Take what is on the other side at once: an IOC limit order bounded around the touch.

    Args:
        d: Desk, changed.
        i: instrument index; its book has both sides.
        side: Side of the order: BID takes asks.
        qty_steps: quantity, rounded down to the lot size.
        slippage_bps: how far through the touch it may trade, in 1/10,000 of the best price, a
            float; rounded towards the touch to the tick size.
        reduce_only: 1 if it may only shrink the position.

    Returns:
        A handle > 0, or minus a Reject: IN_FLIGHT while any order of the instrument is live,
        BAD_REQUEST for an empty side or less than one lot, and those of `send`.
    """
    if find_live_order(d, i) >= 0:
        return refuse(d, Reject.IN_FLIGHT)
    book, filters = d.books[i], d.instruments[i]
    tick, lot = filters["tick_size_steps"], filters["lot_size_steps"]
    if book["bid_count"] == 0 or book["ask_count"] == 0:
        return refuse(d, Reject.BAD_REQUEST)
    touch = book["ask_price_steps"][0] if side == Side.BID else book["bid_price_steps"][0]
    room = int(0.0001 * slippage_bps * touch) // tick * tick
    price = max(touch + side * room, tick)
    qty = qty_steps // lot * lot
    return send(d, i, side, OrderType.LIMIT, TimeInForce.IOC, price, qty, reduce_only)


@njit(cache=True, _nrt=False)
def take_out(d, i, slippage_bps):
    """Trade the whole position of instrument i away at once: `take`, reduce-only.

    Returns:
        What `take` returns; BAD_REQUEST if less than one lot is held.
    """
    held = d.position[i]
    side = Side.ASK if held > 0 else Side.BID
    return take(d, i, side, abs(held), slippage_bps, 1)


@njit(cache=True, _nrt=False)
def quote_index(i, side, level):
    """Return the place of a quote in Desk.quotes."""
    return (i * 2 + (0 if side == Side.BID else 1)) * QUOTE_LEVELS_MAX + level


@njit(cache=True, _nrt=False)
def quote(d, i, side, price_steps, qty_steps, level=0):
    """Want one post-only order at this price with this open quantity; 0 pulls it.

    Whatever is there becomes that: a new order, a replace, a cancel or nothing. At most one request
    is in flight; what was wanted meanwhile is done when its answer comes.

    Args:
        d: Desk, changed.
        i, side, level: which quote; level 0 to QUOTE_LEVELS_MAX - 1.
        price_steps: rounded away from the market to the tick size.
        qty_steps: open quantity wanted, rounded down to the lot size.

    Returns:
        0, or minus the Reject of the request that was needed.
    """
    if not 0 <= i < d.books.shape[0] or not 0 <= level < QUOTE_LEVELS_MAX:
        return refuse(d, Reject.BAD_REQUEST)
    filters = d.instruments[i]
    tick, lot = filters["tick_size_steps"], filters["lot_size_steps"]
    wanted = d.quotes[quote_index(i, side, level)]
    if side == Side.BID:
        wanted["price_steps"] = price_steps // tick * tick
    else:
        wanted["price_steps"] = -(-price_steps // tick) * tick
    wanted["qty_steps"] = max(qty_steps // lot * lot, 0)
    if wanted["price_steps"] <= 0:
        wanted["qty_steps"] = 0
    return settle_quote(d, i, side, level)


@njit(cache=True, _nrt=False)
def settle_quote(d, i, side, level):
    """Send the one request that brings the order of a quote to what is wanted, if any is due."""
    wanted = d.quotes[quote_index(i, side, level)]
    slot = wanted["order_slot"]
    if d.words[at.READY] == 0:
        return 0
    if slot < 0:
        if wanted["qty_steps"] == 0:
            return 0
        handle = send(
            d, i, side, OrderType.LIMIT, TimeInForce.GTX,
            wanted["price_steps"], wanted["qty_steps"], 0,
        )  # fmt: skip
        if handle < 0:
            return handle
        slot = handle % ORDER_SLOTS_MAX
        d.orders[slot]["quote_level"] = level
        wanted["order_slot"] = slot
        return 0
    order = d.orders[slot]
    if is_in_flight(order):
        return 0
    if wanted["qty_steps"] == 0:
        return cancel(d, order["handle"])
    open_qty = order["order_qty_steps"] - order["cum_qty_steps"]
    if order["price_steps"] == wanted["price_steps"] and open_qty == wanted["qty_steps"]:
        return 0
    total = order["cum_qty_steps"] + wanted["qty_steps"]
    return replace(d, order["handle"], wanted["price_steps"], total)

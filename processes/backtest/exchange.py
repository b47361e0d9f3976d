"""The simulated venue of L2 data: our orders beside a book that the data moves and we never do.

An order of ours fills when the other side's best reaches its price, when a trade goes through its
price, or when trades at its price have eaten the queue before it (queues.py). Without partial fills
it fills whole then, and a taker fills whole at the best price. With partial fills it gets what has
passed it, and a taker walks the book: that is the slippage. What we take stays in the book.

Rules: requests and answers of one instrument keep their order, whatever the latency says; better
prices first, then arrival. Where it differs from hftbacktest is told in rules.py.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from common.enums import ExecType, OrderStatus, OrderType, Reject, RequestKind, Side, TimeInForce
from common.fixed_point import INT64_MAX, multiply_checked
from processes.backtest import ladder as book
from processes.backtest import queues
from processes.backtest.latency import response_latency
from processes.backtest.rules import MARKET_WALKS_100_TICKS, TAKES_BEYOND_DEPTH

ORDERS_MAX = 128  # of one side at the venue; a desk has 64 slots
REQUESTS_MAX = 512  # on their way to the venue; a power of two
RESPONSES_MAX = 4_096  # on their way back; a power of two
BIDS, ASKS = 0, 1

# Columns of Exchange.facts.
LOT = 0
TICK = 1
IS_PARTIAL = 2
QUEUE = 3
MAKER_E8 = 4
TAKER_E8 = 5
FEE_UP = 6  # price x quantity in steps x rate x FEE_UP / FEE_DOWN is the fee in 1e-12 quote
FEE_DOWN = 7
RULES = 8
PLACE = 9  # of the book in `ladders`
FACTS = 10

# Columns of Exchange.scales.
UNIT = 0  # quantity steps of one base unit
POWER = 1

# Columns of Exchange.buses.
REQUEST_FIRST = 0
REQUEST_END = 1
RESPONSE_FIRST = 2
RESPONSE_END = 3
BUSES = 4

# Words of an order at the venue.
CLIENT_ID = 0
PRICE = 1
QTY = 2
LEAVES = 3
SLOT = 4
VENUE_ID = 5
AHEAD = 6  # risk-averse: what stands before it
TIME_IN_FORCE = 7
ORDER_WORDS = 8

# Words of a request.
R_TS = 0
R_KIND = 1
R_CLIENT_ID = 2
R_ORIG_ID = 3
R_SIDE = 4
R_TYPE = 5
R_TIME_IN_FORCE = 6
R_PRICE = 7
R_QTY = 8
R_SLOT = 9
R_REDUCE_ONLY = 10
REQUEST_WORDS = 11

# Words of a response.
A_TS = 0
A_EXEC_TYPE = 1
A_STATUS = 2
A_CLIENT_ID = 3
A_REQUEST_ID = 4
A_KIND = 5
A_SIDE = 6
A_PRICE = 7
A_QTY = 8
A_CUM = 9
A_LAST_QTY = 10
A_LAST_PRICE = 11
A_FEE_E12 = 12
A_IS_MAKER = 13
A_EXEC_ID = 14
A_VENUE_ID = 15
A_TS_EXCH = 16
A_REJECT = 17
A_SLOT = 18
ANSWER_WORDS = 20

# Places in Exchange.words.
FILL_COUNT = 0
NEXT_VENUE_ID = 1
STATUS = 2
IS_CLOSED = 3  # the data has ended: nothing more is sent, what is under way arrives
NOT_SENT = 4  # requests since then
WORDS = 8

OK = 0
FEE_OVERFLOW = 1
RESPONSES_FULL = 2
REQUESTS_FULL = 3
BOOK_FULL = 4  # order by order: too many orders, or prices far from the touch
TOTALS_FULL = 5
REPORTS_FULL = 6


class Exchange(NamedTuple):
    """Everything at the venue, and on the way to it and back.

    Attributes:
        ladders, prices: books as the venue has them (ladder.py).
        facts: int64[n, FACTS].
        scales: float64[n, 2].
        orders: int64[n, 2, ORDERS_MAX, ORDER_WORDS], best first, then arrival.
        estimates: float64[n, 2, ORDERS_MAX, 2], of the same orders (queues.py).
        counts: int64[n, 2], how many orders.
        requests, responses: int64[n, ..., words], queues.
        buses: int64[n, BUSES], where they begin and end.
        latency: int64[n, LATENCY_WORDS].
        request_rows, response_rows: int64[m, 3].
        positions: int64[n], at the venue.
        fills: FILL[k].
        words: int64[WORDS].
    """

    ladders: np.ndarray
    prices: np.ndarray
    facts: np.ndarray
    scales: np.ndarray
    orders: np.ndarray
    estimates: np.ndarray
    counts: np.ndarray
    requests: np.ndarray
    responses: np.ndarray
    buses: np.ndarray
    latency: np.ndarray
    request_rows: np.ndarray
    response_rows: np.ndarray
    positions: np.ndarray
    fills: np.ndarray
    words: np.ndarray


@njit(cache=True, _nrt=False)
def fee_of(x, i, price_steps, qty_steps, rate_e8):
    """Return the fee of one fill in 1e-12 quote, rounded to nearest; an overflow is remembered."""
    value, over_1 = multiply_checked(price_steps, qty_steps)
    fee, over_2 = multiply_checked(value, rate_e8)
    fee, over_3 = multiply_checked(fee, x.facts[i, FEE_UP])
    down = x.facts[i, FEE_DOWN]
    if over_1 or over_2 or over_3 or abs(fee) > INT64_MAX - down:
        x.words[STATUS] = FEE_OVERFLOW
        return 0
    return (fee + down // 2) // down


@njit(cache=True, _nrt=False)
def answer(x, i, exec_type, order_status, order, side, request, ts):
    """Queue an answer about an order; return its place in the queue: the caller adds to it.

    Args:
        x: Exchange, changed.
        i: instrument.
        exec_type, order_status: ExecType, OrderStatus.
        order: int64[ORDER_WORDS], read.
        side: Side.
        request: int64[REQUEST_WORDS] that is answered, or one whose R_KIND is 0: none.
        ts: venue's time.
    """
    bus = x.buses[i]
    first, end = bus[RESPONSE_FIRST], bus[RESPONSE_END]
    if end - first >= RESPONSES_MAX:
        x.words[STATUS] = RESPONSES_FULL
        end = first  # the run is over
    place = end & (RESPONSES_MAX - 1)
    out = x.responses[i, place]
    due = ts + response_latency(x.latency[i], x.response_rows, ts)
    if end > first:
        due = max(due, x.responses[i, (end - 1) & (RESPONSES_MAX - 1), A_TS])
    bus[RESPONSE_END] = end + 1
    out[A_TS] = due
    out[A_EXEC_TYPE] = exec_type
    out[A_STATUS] = order_status
    out[A_CLIENT_ID] = order[CLIENT_ID]
    out[A_REQUEST_ID] = request[R_CLIENT_ID]
    out[A_KIND] = request[R_KIND]
    out[A_SIDE] = side
    out[A_PRICE] = order[PRICE]
    out[A_QTY] = order[QTY]
    out[A_CUM] = order[QTY] - order[LEAVES]
    out[A_LAST_QTY] = 0
    out[A_LAST_PRICE] = 0
    out[A_FEE_E12] = 0
    out[A_IS_MAKER] = 0
    out[A_EXEC_ID] = 0
    out[A_VENUE_ID] = order[VENUE_ID]
    out[A_TS_EXCH] = ts
    out[A_REJECT] = 0
    out[A_SLOT] = order[SLOT]
    return place


@njit(cache=True, _nrt=False)
def fill(x, i, order, side, price_steps, qty_steps, is_maker, mid_steps2, request, ts):
    """Fill a part of an order at the fee of its tier."""
    rate = x.facts[i, MAKER_E8] if is_maker != 0 else x.facts[i, TAKER_E8]
    fee_e12 = fee_of(x, i, price_steps, qty_steps, rate)
    note_fill(x, i, order, side, price_steps, qty_steps, is_maker, fee_e12, mid_steps2, request, ts)


@njit(cache=True, _nrt=False)
def note_fill(
    x, i, order, side, price_steps, qty_steps, is_maker, fee_e12, mid_steps2, request, ts
):
    """Note a fill of an order, move the position, answer."""
    order[LEAVES] -= qty_steps
    count = x.words[FILL_COUNT]
    x.words[FILL_COUNT] = count + 1
    row = x.fills[count]
    row["ts_ns"] = ts
    row["client_order_id"] = order[CLIENT_ID]
    row["price_steps"] = price_steps
    row["qty_steps"] = qty_steps
    row["fee_e12"] = fee_e12
    row["mid_steps2"] = mid_steps2
    row["instrument_id"] = i
    row["side"] = side
    row["maker"] = is_maker
    x.positions[i] += side * qty_steps
    status = OrderStatus.FILLED if order[LEAVES] == 0 else OrderStatus.PARTIALLY_FILLED
    place = answer(x, i, np.int64(ExecType.TRADE), np.int64(status), order, side, request, ts)
    out = x.responses[i, place]
    out[A_LAST_QTY] = qty_steps
    out[A_LAST_PRICE] = price_steps
    out[A_FEE_E12] = fee_e12
    out[A_IS_MAKER] = is_maker
    out[A_EXEC_ID] = count + 1


@njit(cache=True, _nrt=False)
def remove_at(x, i, s, k):
    """Take order k of side s out of the venue's list."""
    count = x.counts[i, s] - 1
    x.counts[i, s] = count
    for j in range(k, count):
        for word in range(ORDER_WORDS):
            x.orders[i, s, j, word] = x.orders[i, s, j + 1, word]
        x.estimates[i, s, j, 0] = x.estimates[i, s, j + 1, 0]
        x.estimates[i, s, j, 1] = x.estimates[i, s, j + 1, 1]


@njit(cache=True, _nrt=False)
def rest(x, i, order, side):
    """Put an order into the venue's list, behind those of its price, and into its queue.

    Args:
        x: Exchange, changed.
        i: instrument.
        order: int64[ORDER_WORDS], read; not of the list itself.
        side: Side.
    """
    s = BIDS if side == Side.BID else ASKS
    count = x.counts[i, s]
    assert count < ORDERS_MAX, "a desk has fewer slots than the venue has places"
    price = order[PRICE]
    k = count
    while k > 0 and (x.orders[i, s, k - 1, PRICE] - price) * side < 0:
        for word in range(ORDER_WORDS):
            x.orders[i, s, k, word] = x.orders[i, s, k - 1, word]
        x.estimates[i, s, k, 0] = x.estimates[i, s, k - 1, 0]
        x.estimates[i, s, k, 1] = x.estimates[i, s, k - 1, 1]
        k -= 1
    for word in range(ORDER_WORDS):
        x.orders[i, s, k, word] = order[word]
    at = x.facts[i, PLACE]
    if s == BIDS:
        ahead = book.bid_qty(x.ladders, x.prices, at, price)
    else:
        ahead = book.ask_qty(x.ladders, x.prices, at, price)
    x.orders[i, s, k, AHEAD] = ahead
    x.estimates[i, s, k, queues.AHEAD] = ahead / x.scales[i, UNIT]
    x.estimates[i, s, k, queues.TRADED] = 0.0
    x.counts[i, s] = count + 1


@njit(cache=True, _nrt=False)
def on_level(x, i, s, price_steps, before, after):
    """Move the queue of our orders at one price, whose quantity has changed."""
    kind = x.facts[i, QUEUE]
    for k in range(x.counts[i, s]):
        order = x.orders[i, s, k]
        if order[PRICE] != price_steps:
            continue
        if kind == queues.RISK_AVERSE:
            order[AHEAD] = min(order[AHEAD], after)
        else:
            unit = x.scales[i, UNIT]
            queues.shrink(
                kind, x.scales[i, POWER], x.estimates[i, s, k], before / unit, after / unit
            )


@njit(cache=True, _nrt=False)
def passed_by(x, i, s, k, qty_steps):
    """Take a trade at its price off an order's queue; return the steps that went past it, or 0."""
    lot = x.facts[i, LOT]
    if x.facts[i, QUEUE] == queues.RISK_AVERSE:
        order = x.orders[i, s, k]
        order[AHEAD] -= qty_steps
        lots = (lot // 2 - order[AHEAD]) // lot if order[AHEAD] < 0 else 0
        if lots > 0:
            order[AHEAD] = 0
        return lots * lot
    unit = x.scales[i, UNIT]
    estimate = x.estimates[i, s, k]
    estimate[queues.AHEAD] -= qty_steps / unit
    estimate[queues.TRADED] += qty_steps / unit
    lots = queues.lots_through(estimate[queues.AHEAD], lot / unit)
    if lots > 0:
        estimate[queues.AHEAD] = 0.0
    return lots * lot


@njit(cache=True, _nrt=False)
def on_trade(x, i, taker_side, price_steps, qty_steps, none, ts):
    """Fill those of our orders that a trade of the market reaches; return how many answers."""
    s = ASKS if taker_side == Side.BID else BIDS
    side = -taker_side
    mid = book.twice_mid(x.ladders, x.prices, x.facts[i, PLACE])
    k = filled = 0
    while k < x.counts[i, s]:
        order = x.orders[i, s, k]
        beyond = (price_steps - order[PRICE]) * taker_side
        if beyond < 0:  # the others are worse
            break
        qty = order[LEAVES]
        if beyond == 0:
            passed = passed_by(x, i, s, k, qty_steps)
            if passed == 0:
                qty = 0
            elif x.facts[i, IS_PARTIAL] != 0:
                qty = min(passed, qty)
        if qty > 0:
            fill(x, i, order, side, order[PRICE], qty, np.int64(1), mid, none, ts)
            filled += 1
        if order[LEAVES] == 0:
            remove_at(x, i, s, k)
        else:
            k += 1
    return filled


@njit(cache=True, _nrt=False)
def on_best(x, i, s, best_steps, mid, none, ts):
    """Fill our orders of side s that the other side's new best price reaches; return how many."""
    side = Side.BID if s == BIDS else Side.ASK
    filled = 0
    while x.counts[i, s] > 0:
        order = x.orders[i, s, 0]
        if (order[PRICE] - best_steps) * side < 0:
            break
        fill(x, i, order, np.int64(side), order[PRICE], order[LEAVES], np.int64(1), mid, none, ts)
        remove_at(x, i, s, 0)
        filled += 1
    return filled


@njit(cache=True, _nrt=False)
def limit_of(x, i, request):
    """Return the worst price that a request may take: its limit; of a market order the end."""
    if request[R_TYPE] == OrderType.LIMIT:
        return request[R_PRICE]
    side = request[R_SIDE]
    if x.facts[i, RULES] & MARKET_WALKS_100_TICKS:
        at = x.facts[i, PLACE]
        span = x.facts[i, TICK] * 100
        if side == Side.BID:
            return book.best_ask(x.ladders, x.prices, at) + span - x.facts[i, TICK]
        return book.best_bid(x.ladders, x.prices, at) - span
    return INT64_MAX if side == Side.BID else np.int64(0)


@njit(cache=True, _nrt=False)
def walk(x, i, order, request, limit_steps, mid, ts):
    """Take from the book, level after level, up to a price or until the order is filled."""
    at = x.facts[i, PLACE]
    first = x.ladders[at + book.PRICES]
    side = request[R_SIDE]
    is_bid = side == Side.BID
    level = x.ladders[at + (book.BEST_ASK if is_bid else book.BEST_BID)]
    end = x.ladders[at + book.LEVELS] if is_bid else book.NONE
    quantities = x.ladders[at + (book.ASK_QTY if is_bid else book.BID_QTY)]
    while level != end and order[LEAVES] > 0 and x.words[STATUS] == 0:
        price = x.prices[first + level]
        if (limit_steps - price) * side < 0:
            return
        qty = min(x.ladders[quantities + level], order[LEAVES])
        fill(x, i, order, side, price, qty, np.int64(0), mid, request, ts)
        if is_bid:
            level = book.next_ask(x.ladders, at, level)
        else:
            level = book.next_bid(x.ladders, at, level)


@njit(cache=True, _nrt=False)
def expire(x, i, order, request, reject, ts):
    """Answer that an order, or what is left of it, has expired."""
    status = np.int64(OrderStatus.EXPIRED)
    place = answer(x, i, np.int64(ExecType.EXPIRED), status, order, request[R_SIDE], request, ts)
    x.responses[i, place, A_REJECT] = reject


@njit(cache=True, _nrt=False)
def take(x, i, order, request, ts):
    """Let an order that reaches the other side take; what is left rests or expires."""
    at = x.facts[i, PLACE]
    mid = book.twice_mid(x.ladders, x.prices, at)
    side = request[R_SIDE]
    if x.facts[i, IS_PARTIAL] == 0:
        if side == Side.BID:
            best = book.best_ask(x.ladders, x.prices, at)
        else:
            best = book.best_bid(x.ladders, x.prices, at)
        fill(x, i, order, side, best, order[LEAVES], np.int64(0), mid, request, ts)
        return
    limit = limit_of(x, i, request)
    time_in_force = request[R_TIME_IN_FORCE]
    is_limit = request[R_TYPE] == OrderType.LIMIT
    if is_limit and time_in_force == TimeInForce.FOK:
        if book.depth_until(x.ladders, x.prices, at, side, limit, order[LEAVES]) < order[LEAVES]:
            expire(x, i, order, request, np.int64(0), ts)
            return
    is_patient = is_limit and time_in_force == TimeInForce.GTC
    takes_beyond = is_patient and x.facts[i, RULES] & TAKES_BEYOND_DEPTH != 0
    if takes_beyond and side == Side.BID:  # all at the limit price is one fill
        walk(x, i, order, request, limit - 1, mid, ts)
    else:
        walk(x, i, order, request, limit, mid, ts)
    if order[LEAVES] == 0:
        return
    if takes_beyond:
        fill(x, i, order, side, limit, order[LEAVES], np.int64(0), mid, request, ts)
    elif is_patient:
        rest(x, i, order, side)
    else:
        expire(x, i, order, request, np.int64(0), ts)


@njit(cache=True, _nrt=False)
def reaches(x, i, side, order_type, price_steps):
    """Return True if an order would take at once."""
    at = x.facts[i, PLACE]
    if side == Side.BID:
        best = book.best_ask(x.ladders, x.prices, at)
    else:
        best = book.best_bid(x.ladders, x.prices, at)
    if best == 0:
        return False
    return order_type == OrderType.MARKET or (price_steps - best) * side >= 0


@njit(cache=True, _nrt=False, forceinline=True)
def accept_new(x, i, order, request, ts):
    """Judge a new order: it takes, rests or expires."""
    is_limit = request[R_TYPE] == OrderType.LIMIT
    time_in_force = request[R_TIME_IN_FORCE]
    if reaches(x, i, request[R_SIDE], request[R_TYPE], request[R_PRICE]):
        if is_limit and time_in_force == TimeInForce.GTX:
            expire(x, i, order, request, np.int64(Reject.VENUE_POST_ONLY), ts)
        else:
            take(x, i, order, request, ts)
    elif is_limit and (time_in_force == TimeInForce.GTC or time_in_force == TimeInForce.GTX):
        rest(x, i, order, request[R_SIDE])
        status = np.int64(OrderStatus.NEW)
        answer(x, i, np.int64(ExecType.NEW), status, order, request[R_SIDE], request, ts)
    else:
        expire(x, i, order, request, np.int64(0), ts)


@njit(cache=True, _nrt=False)
def find_order(x, i, s, client_id):
    """Return the place of an order in the venue's list of one side, or -1."""
    for k in range(x.counts[i, s]):
        if x.orders[i, s, k, CLIENT_ID] == client_id:
            return k
    return -1


@njit(cache=True, _nrt=False)
def answer_unknown(x, i, request, scratch, ts):
    """Answer a cancel or replace of an order that is not there."""
    for word in range(ORDER_WORDS):
        scratch[word] = 0
    scratch[CLIENT_ID] = request[R_ORIG_ID]
    scratch[SLOT] = request[R_SLOT]
    is_cancel = request[R_KIND] == RequestKind.CANCEL
    exec_type = ExecType.CANCEL_REJECTED if is_cancel else ExecType.REPLACE_REJECTED
    side = request[R_SIDE]
    place = answer(x, i, np.int64(exec_type), np.int64(0), scratch, side, request, ts)
    x.responses[i, place, A_REJECT] = Reject.VENUE_UNKNOWN_ORDER


@njit(cache=True, _nrt=False)
def change(x, i, request, scratch, ts):
    """Cancel or replace an order; one that is not there any more is answered "unknown"."""
    is_cancel = request[R_KIND] == RequestKind.CANCEL
    side = request[R_SIDE]
    s = BIDS if side == Side.BID else ASKS
    k = find_order(x, i, s, request[R_ORIG_ID])
    if k < 0:
        answer_unknown(x, i, request, scratch, ts)
        return
    order = x.orders[i, s, k]
    if is_cancel:
        status = np.int64(OrderStatus.CANCELED)
        answer(x, i, np.int64(ExecType.CANCELED), status, order, side, request, ts)
        remove_at(x, i, s, k)
        return
    replace(x, i, s, k, request, scratch, ts)


@njit(cache=True, _nrt=False)
def replace(x, i, s, k, request, scratch, ts):
    """Give order k of side s another price or total quantity."""
    order = x.orders[i, s, k]
    side = request[R_SIDE]
    done = order[QTY] - order[LEAVES]
    status = np.int64(OrderStatus.NEW if done == 0 else OrderStatus.PARTIALLY_FILLED)
    is_taking = reaches(x, i, side, np.int64(OrderType.LIMIT), request[R_PRICE])
    is_post_only = order[TIME_IN_FORCE] == TimeInForce.GTX
    if request[R_QTY] <= done or (is_taking and is_post_only):
        rejected = np.int64(ExecType.REPLACE_REJECTED)
        place = answer(x, i, rejected, status, order, side, request, ts)
        reject = Reject.VENUE_POST_ONLY if request[R_QTY] > done else Reject.VENUE
        x.responses[i, place, A_REJECT] = np.int64(reject)
        return
    keeps_place = request[R_PRICE] == order[PRICE] and request[R_QTY] <= order[QTY]
    order[LEAVES] = request[R_QTY] - done
    order[QTY] = request[R_QTY]
    order[PRICE] = request[R_PRICE]
    answer(x, i, np.int64(ExecType.REPLACED), status, order, side, request, ts)
    if keeps_place:
        return
    for word in range(ORDER_WORDS):
        scratch[word] = order[word]
    remove_at(x, i, s, k)
    if is_taking:
        take(x, i, scratch, request, ts)
    else:
        rest(x, i, scratch, side)


@njit(cache=True, _nrt=False, forceinline=True)
def take_requests(x, i, scratch, ts):
    """Let the venue work on all requests that arrive at `ts`.

    Args:
        x: Exchange, changed.
        i: instrument.
        scratch: int64[ORDER_WORDS], changed.
        ts: venue's time.
    """
    bus = x.buses[i]
    while bus[REQUEST_FIRST] < bus[REQUEST_END] and x.words[STATUS] == 0:
        request = x.requests[i, bus[REQUEST_FIRST] & (REQUESTS_MAX - 1)]
        if request[R_TS] != ts:
            break
        bus[REQUEST_FIRST] += 1
        if request[R_KIND] != RequestKind.NEW:
            change(x, i, request, scratch, ts)
            continue
        x.words[NEXT_VENUE_ID] += 1
        scratch[CLIENT_ID] = request[R_CLIENT_ID]
        scratch[PRICE] = request[R_PRICE]
        scratch[QTY] = request[R_QTY]
        scratch[LEAVES] = request[R_QTY]
        scratch[SLOT] = request[R_SLOT]
        scratch[VENUE_ID] = x.words[NEXT_VENUE_ID]
        scratch[AHEAD] = 0
        scratch[TIME_IN_FORCE] = request[R_TIME_IN_FORCE]
        accept_new(x, i, scratch, request, ts)
    if bus[REQUEST_FIRST] == bus[REQUEST_END]:  # empty: the same few cache lines again
        bus[REQUEST_FIRST] = bus[REQUEST_END] = 0

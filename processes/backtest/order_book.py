"""The simulated venue where the book is known order by order: others' orders and ours in one book.

All of them stand in the venue's own matching engine, and are matched, canceled and amended by the
functions that the venue itself runs (processes/venue/matching.py); our fills are booked and charged
by its account kernel, in 1e-8 quote, cut towards zero. So post-only, IOC, FOK, reduce-only,
self-trade prevention and what an amendment costs in the queue are the venue's rules, not models.

The history (history.py) goes on as it was, but in a book that has our orders in it:

ADD       joins the book as a GTC order of somebody else. One that reaches our orders, or what is
          there because of them, takes from it as at the venue, and only the rest of it rests.
FILL      a taker that has no row of its own: so much is taken, best first, up to the fill's price.
          Our orders that stand before the filled one get theirs first, and it keeps as much more.
          What is not there any more because we took it is not filled a second time.
MODIFY    changes what is left of the order here by as much as the history changed its rest.
CANCEL    takes what is left of it here, less than the history says if we took of it, more if we
          were filled in its place. Behind the FILL of a whole order it says nothing new: the rest
          that the order kept because of us stays until somebody takes it.
CLEAR     empties the side, ours too: of a new book our place in it is not known.

That is the impact of our orders: what the book has more than the history is what we were filled
instead of, what it has less is what we took. Under rules = "hftbacktest" (KEEPS_HISTORY, rules.py)
MODIFY and CANCEL put an order back to what the history says, so that only one fill is touched.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from common.enums import ExecType, OrderStatus, OrderType, Reject, RequestKind, Side, TimeInForce
from common.fixed_point import multiply_checked
from processes.backtest import exchange as at_venue
from processes.backtest.events import CODE, KIND_MASK, LEVEL_SHIFT, QTY, EventKind
from processes.backtest.exchange import Exchange, answer, answer_unknown, find_order, note_fill
from processes.backtest.history import BEFORE, REF, VENUE_WORDS
from processes.backtest.rules import KEEPS_HISTORY
from processes.venue import engine as at
from processes.venue import matching
from processes.venue.accounts import FILL, Accounts, BookStatus, book_fill, new_accounts
from processes.venue.engine import EventKind as Outcome
from processes.venue.engine import MatchStatus, Reason, StpMode, new_engine, new_events
from processes.venue.ladder import find_level

OTHERS, OURS = np.int64(0), np.int64(1)  # accounts of the engine
E12_PER_E8 = 10_000
ADD, CANCEL = int(EventKind.ADD) << 2, int(EventKind.CANCEL) << 2
MODIFY, FILLED = int(EventKind.MODIFY) << 2, int(EventKind.FILL) << 2
CLEAR = int(EventKind.CLEAR) << 2

# Further columns of Exchange.facts.
FIRST_PRICE = at_venue.FACTS  # of the instrument in `prices`
STP_MODE = at_venue.FACTS + 1
ORDER_FACTS = at_venue.FACTS + 2


class OrderExchange(NamedTuple):
    """Exchange (exchange.py) of a book known order by order; what is not told there:

    Attributes:
        facts: int64[n, ORDER_FACTS].
        orders: int64[n, 2, ORDERS_MAX, words], ours that the venue has, in no order.
        engine: Engine of the venue, all instruments, accounts OTHERS and OURS.
        outcomes: the engine's EVENT[k], scratch.
        others: int64[r], the engine's id of each order of the history, 0 none.
        accounts: Accounts of the venue, one of ours per instrument: fees differ by venue.
        booked: the account's FILL[1], scratch.
    """

    prices: np.ndarray
    facts: np.ndarray
    scales: np.ndarray
    orders: np.ndarray
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
    engine: np.ndarray
    outcomes: np.ndarray
    others: np.ndarray
    accounts: Accounts
    booked: np.ndarray


def with_order_book(
    plain: Exchange,
    table: np.ndarray,
    venue: np.ndarray,
    price_spans: np.ndarray,
    stp_mode: str,
) -> OrderExchange:
    """Return an empty venue of single orders.

    Args:
        plain: an empty venue, whose wires, fees and latencies are taken over.
        table: INSTRUMENT[n].
        venue: the venue's tape.
        price_spans: int64[n, 2].
        stp_mode: name of a StpMode, of our takers.
    """
    count = len(table)
    has_orders = venue.shape[1] == VENUE_WORDS
    kinds = venue[:, CODE] & KIND_MASK
    added = int(np.count_nonzero((kinds == ADD) | (kinds == MODIFY)))
    orders_max = min(added + 2 * at_venue.ORDERS_MAX * count, at.ORDERS_MAX)
    levels_max = min(len(plain.prices) + 2 * at_venue.ORDERS_MAX, at.ORDERS_MAX)
    engine = new_engine(count, 2, orders_max, far_levels_max=levels_max)
    facts = np.zeros((count, ORDER_FACTS), np.int64)
    facts[:, : at_venue.FACTS] = plain.facts
    facts[:, FIRST_PRICE] = price_spans[:, 0]
    facts[:, STP_MODE] = StpMode[stp_mode]
    accounts = new_accounts(table, count)
    accounts.wallets["maker_fee_e8"] = plain.facts[:, at_venue.MAKER_E8]
    accounts.wallets["taker_fee_e8"] = plain.facts[:, at_venue.TAKER_E8]
    refs = int(venue[:, REF].max(initial=0)) + 1 if has_orders else 1
    return OrderExchange(
        prices=plain.prices,
        facts=facts,
        scales=plain.scales,
        orders=plain.orders,
        counts=plain.counts,
        requests=plain.requests,
        responses=plain.responses,
        buses=plain.buses,
        latency=plain.latency,
        request_rows=plain.request_rows,
        response_rows=plain.response_rows,
        positions=plain.positions,
        fills=plain.fills,
        words=plain.words,
        engine=engine,
        outcomes=new_events(engine),
        others=np.zeros(refs, np.int64),
        accounts=accounts,
        booked=np.zeros(1, FILL),
    )


# A call that is not inlined copies what it is given, all of an OrderExchange. On the way of an
# event of the history, which is mostly none of our business, functions get arrays or are inlined.


@njit(cache=True, _nrt=False)
def submit(
    engine, outcomes, words, i, account_id, side, order_type, time_in_force, stp_mode, reduce_only,
    price_steps, qty_steps,
):  # fmt: skip
    """Let the engine match an order; return (status, its id, how many outcomes)."""
    status, order_id, count = matching.submit(
        engine, outcomes, 0, i, account_id, side, order_type, time_in_force, stp_mode, reduce_only,
        price_steps, qty_steps,
    )  # fmt: skip
    is_full = status == MatchStatus.ORDERS_FULL or status == MatchStatus.LEVELS_FULL
    if is_full or (status != MatchStatus.OK and account_id == OTHERS):
        words[at_venue.STATUS] = at_venue.BOOK_FULL
    return status, order_id, count


@njit(cache=True, _nrt=False)
def cancel(engine, outcomes, i, account_id, order_id):
    """Let the engine take an order off its book; return (status, how many outcomes)."""
    return matching.cancel(engine, outcomes, 0, i, account_id, order_id)


@njit(cache=True, _nrt=False)
def reduce(engine, outcomes, i, order_id, by_steps):
    """Let the engine take a part of somebody else's order off its book."""
    return matching.reduce(engine, outcomes, 0, i, OTHERS, order_id, by_steps)


@njit(cache=True, _nrt=False)
def is_ours(outcomes, count):
    """Return True if one of the engine's last outcomes is about an order of ours."""
    for n in range(count):
        if outcomes[n]["account_id"] == OURS or outcomes[n]["maker_account_id"] == OURS:
            return True
    return False


@njit(cache=True, _nrt=False, forceinline=True)
def twice_mid(engine, i):
    """Return best bid + best ask in steps, ours among them; 0 if one is missing."""
    book = at.book_at(engine, i)
    bid = engine[at.best_at(book, np.int64(Side.BID))]
    ask = engine[at.best_at(book, np.int64(Side.ASK))]
    return bid + ask if at.is_price(bid) and at.is_price(ask) else 0


@njit(cache=True, _nrt=False)
def place_of(x, i, s, order_id):
    """Return the place of an order of ours by the engine's id; it is there."""
    k = 0
    while x.orders[i, s, k, at_venue.VENUE_ID] != order_id:
        k += 1
        assert k < x.counts[i, s], "the engine knows no order of ours that is not listed"
    return k


@njit(cache=True, _nrt=False)
def drop(x, i, s, k):
    """Take order k of side s out of the list of ours."""
    last = x.counts[i, s] - 1
    x.counts[i, s] = last
    for word in range(at_venue.ORDER_WORDS):
        x.orders[i, s, k, word] = x.orders[i, s, last, word]


@njit(cache=True, _nrt=False)
def on_fill(x, i, side, order_id, is_maker, price_steps, qty_steps, mid, none, ts):
    """Book a fill of ours, tell it, and forget the order when it is done."""
    s = at_venue.BIDS if side == Side.BID else at_venue.ASKS
    k = place_of(x, i, s, order_id)
    order = x.orders[i, s, k]
    status = book_fill(x.accounts, i, i, side, price_steps, qty_steps, is_maker, x.booked, 0)
    fee_e12, over = multiply_checked(x.booked[0]["fee_e8"], E12_PER_E8)
    if status != BookStatus.OK or over:
        x.words[at_venue.STATUS] = at_venue.FEE_OVERFLOW
        return
    note_fill(x, i, order, side, price_steps, qty_steps, is_maker, fee_e12, mid, none, ts)
    if order[at_venue.LEAVES] == 0:
        drop(x, i, s, k)


@njit(cache=True, _nrt=False)
def on_change(x, i, outcome, request, none, ts):
    """Tell of an order of ours that was taken, amended, canceled or has expired."""
    kind, side = np.int64(outcome["kind"]), np.int64(outcome["side"])
    reason = np.int64(outcome["reason"])
    s = at_venue.BIDS if side == Side.BID else at_venue.ASKS
    k = place_of(x, i, s, outcome["order_id"])
    order = x.orders[i, s, k]
    if kind == Outcome.NEW:
        new = np.int64(OrderStatus.NEW)
        answer(x, i, np.int64(ExecType.NEW), new, order, side, request, ts)
    elif kind == Outcome.AMENDED:
        done = order[at_venue.QTY] - order[at_venue.LEAVES]
        order[at_venue.PRICE] = outcome["price_steps"]
        order[at_venue.QTY] = outcome["qty_steps"]
        order[at_venue.LEAVES] = outcome["leaves_qty_steps"]
        status = np.int64(OrderStatus.NEW if done == 0 else OrderStatus.PARTIALLY_FILLED)
        answer(x, i, np.int64(ExecType.REPLACED), status, order, side, request, ts)
    elif kind == Outcome.CANCELED:
        status = np.int64(OrderStatus.CANCELED)
        place = answer(x, i, np.int64(ExecType.CANCELED), status, order, side, request, ts)
        if reason == Reason.AMEND_POST_ONLY:
            x.responses[i, place, at_venue.A_REJECT] = np.int64(Reject.VENUE_POST_ONLY)
        drop(x, i, s, k)
    else:
        status = np.int64(OrderStatus.EXPIRED)
        answer(x, i, np.int64(ExecType.EXPIRED), status, order, side, none, ts)
        drop(x, i, s, k)


@njit(cache=True, _nrt=False)
def tell(x, i, count, mid, request, none, ts):
    """Tell what the engine's last outcomes mean for our orders.

    Args:
        x: OrderExchange, changed.
        i: instrument.
        count: how many outcomes.
        mid: best bid + best ask before them.
        request: int64[REQUEST_WORDS] that caused them, or `none`.
        none: no request.
        ts: venue's time.
    """
    for n in range(count):
        if x.words[at_venue.STATUS] != 0:
            return
        outcome = x.outcomes[n]
        kind, taker = np.int64(outcome["kind"]), np.int64(outcome["account_id"])
        if kind == Outcome.TRADE:
            side = np.int64(outcome["side"])
            price, qty = outcome["price_steps"], outcome["qty_steps"]
            if outcome["maker_account_id"] == OURS:
                maker_id = outcome["maker_order_id"]
                on_fill(x, i, -side, maker_id, np.int64(1), price, qty, mid, none, ts)
            if taker == OURS:
                order_id = outcome["order_id"]
                on_fill(x, i, side, order_id, np.int64(0), price, qty, mid, none, ts)
        elif kind != Outcome.LEVEL and taker == OURS:
            on_change(x, i, outcome, request, none, ts)


@njit(cache=True, _nrt=False, forceinline=True)
def send_other(x, i, side, time_in_force, price_steps, qty_steps, none, ts):
    """Let an order of somebody else come, tell what it did to ours; return its id."""
    mid = twice_mid(x.engine, i)
    _, order_id, count = submit(
        x.engine, x.outcomes, x.words, i, OTHERS, side, np.int64(OrderType.LIMIT),
        np.int64(time_in_force), np.int64(StpMode.NONE), np.int64(0), price_steps, qty_steps,
    )  # fmt: skip
    if is_ours(x.outcomes, count):
        tell(x, i, count, mid, none, none, ts)
    return order_id


@njit(cache=True, _nrt=False)
def make_way(engine, outcomes, i, order_id, keeps_history, price_steps, qty_steps, before):
    """Take an order of somebody else that is modified out of its place, if it loses that.

    Args:
        engine, outcomes: changed.
        order_id: the engine's.
        keeps_history: KEEPS_HISTORY or 0.
        price_steps, qty_steps: the new price, and what the history left of it.
        before: what the history had left of it before; 0: it was filled, and is shown anew.

    Returns:
        What is to join the book at the new price; 0: nothing.
    """
    slot = matching.find(engine, order_id)
    order = at.order_at(slot)
    left = engine[order + at.LEAVES] if slot != 0 else 0
    if left == 0 and before > 0:
        return 0  # taken by us, or because of us
    after = qty_steps if keeps_history else left + qty_steps - before
    if left > 0 and engine[order + at.PRICE] == price_steps and 0 < after <= left:
        if after < left:
            reduce(engine, outcomes, i, order_id, left - after)
        return 0
    if left > 0:
        cancel(engine, outcomes, i, OTHERS, order_id)
    return max(after, 0)


@njit(cache=True, _nrt=False)
def clear(x, i, side, none, ts):
    """Empty one side of the book; our orders of it expire."""
    engine = x.engine
    book = at.book_at(engine, i)
    s = at_venue.BIDS if side == Side.BID else at_venue.ASKS
    price_steps = engine[at.best_at(book, side)]
    while at.is_price(price_steps):
        slot = engine[find_level(engine, book, price_steps) + at.ENDS] & at.HALF_MASK
        order = at.order_at(slot)
        order_id, account_id = engine[order + at.ORDER_ID], engine[order + at.OWNER] & at.HALF_MASK
        cancel(engine, x.outcomes, i, account_id, order_id)
        if account_id == OURS:
            k = place_of(x, i, s, order_id)
            own = x.orders[i, s, k]
            status = np.int64(OrderStatus.EXPIRED)
            answer(x, i, np.int64(ExecType.EXPIRED), status, own, side, none, ts)
            drop(x, i, s, k)
        price_steps = engine[at.best_at(book, side)]


@njit(cache=True, _nrt=False, forceinline=True)
def take_event(x, i, event, none, ts):
    """Let one event of the history happen in the book; return how many answers to us it caused.

    Args:
        x: OrderExchange, changed.
        i: instrument.
        event: int64[VENUE_WORDS], a row of the venue's tape; int64[TAPE_WORDS] if none has orders.
        none: no request.
        ts: venue's time.
    """
    kind, side = event[CODE] & KIND_MASK, (event[CODE] & 3) - 1
    if kind == 0:  # left out, or nothing to the venue
        return 0
    answered = x.buses[i, at_venue.RESPONSE_END]
    if kind == CLEAR:
        if side >= 0:
            clear(x, i, np.int64(Side.BID), none, ts)
        if side <= 0:
            clear(x, i, np.int64(Side.ASK), none, ts)
        return x.buses[i, at_venue.RESPONSE_END] - answered
    ref, before, qty = event[REF], event[BEFORE], event[QTY]
    keeps_history = x.facts[i, at_venue.RULES] & KEEPS_HISTORY
    if kind == CANCEL:
        if before > 0 or keeps_history:
            cancel(x.engine, x.outcomes, i, OTHERS, x.others[ref])
        x.others[ref] = 0
        return 0
    price = x.prices[x.facts[i, FIRST_PRICE] + (event[CODE] >> LEVEL_SHIFT)]
    time_in_force = TimeInForce.GTC
    if kind == FILLED:
        side, time_in_force = -side, TimeInForce.IOC
    elif kind == MODIFY:
        order_id = x.others[ref]
        qty = make_way(x.engine, x.outcomes, i, order_id, keeps_history, price, qty, before)
    if qty > 0:
        order_id = send_other(x, i, side, time_in_force, price, qty, none, ts)
        if kind != FILLED:
            x.others[ref] = order_id
    return x.buses[i, at_venue.RESPONSE_END] - answered


@njit(cache=True, _nrt=False)
def accept_new(x, i, request, scratch, none, ts):
    """Let a new order of ours into the book, or refuse it as the venue does."""
    side = request[at_venue.R_SIDE]
    mid = twice_mid(x.engine, i)
    status, order_id, count = submit(
        x.engine, x.outcomes, x.words, i, OURS, side, request[at_venue.R_TYPE],
        request[at_venue.R_TIME_IN_FORCE], x.facts[i, STP_MODE],
        request[at_venue.R_REDUCE_ONLY], request[at_venue.R_PRICE], request[at_venue.R_QTY],
    )  # fmt: skip
    scratch[at_venue.CLIENT_ID] = request[at_venue.R_CLIENT_ID]
    scratch[at_venue.PRICE] = request[at_venue.R_PRICE]
    scratch[at_venue.SLOT] = request[at_venue.R_SLOT]
    scratch[at_venue.VENUE_ID] = order_id
    scratch[at_venue.TIME_IN_FORCE] = request[at_venue.R_TIME_IN_FORCE]
    accepted = x.outcomes[0]["qty_steps"] if status == MatchStatus.OK else request[at_venue.R_QTY]
    scratch[at_venue.QTY] = scratch[at_venue.LEAVES] = accepted
    if status != MatchStatus.OK:
        rejected = np.int64(OrderStatus.REJECTED)
        exec_type = np.int64(ExecType.REJECTED)
        place = answer(x, i, exec_type, rejected, scratch, side, request, ts)
        reject = Reject.VENUE_POST_ONLY if status == MatchStatus.POST_ONLY else Reject.VENUE
        x.responses[i, place, at_venue.A_REJECT] = np.int64(reject)
        return
    s = at_venue.BIDS if side == Side.BID else at_venue.ASKS
    k = x.counts[i, s]
    assert k < at_venue.ORDERS_MAX, "a desk has fewer slots than the venue has places"
    x.counts[i, s] = k + 1
    for word in range(at_venue.ORDER_WORDS):
        x.orders[i, s, k, word] = scratch[word]
    tell(x, i, count, mid, request, none, ts)


@njit(cache=True, _nrt=False)
def change(x, i, request, scratch, none, ts):
    """Cancel or amend an order of ours; one that is not there any more is answered "unknown"."""
    side = request[at_venue.R_SIDE]
    s = at_venue.BIDS if side == Side.BID else at_venue.ASKS
    k = find_order(x, i, s, request[at_venue.R_ORIG_ID])
    if k < 0:
        answer_unknown(x, i, request, scratch, ts)
        return
    order = x.orders[i, s, k]
    order_id = order[at_venue.VENUE_ID]
    mid = twice_mid(x.engine, i)
    if request[at_venue.R_KIND] == RequestKind.CANCEL:
        _, count = cancel(x.engine, x.outcomes, i, OURS, order_id)
        tell(x, i, count, mid, request, none, ts)
        return
    status, count = matching.amend(
        x.engine, x.outcomes, 0, i, OURS, order_id, request[at_venue.R_PRICE],
        request[at_venue.R_QTY],
    )  # fmt: skip
    if status == MatchStatus.OK:
        tell(x, i, count, mid, request, none, ts)
        return
    is_whole = order[at_venue.QTY] == order[at_venue.LEAVES]
    alive = np.int64(OrderStatus.NEW if is_whole else OrderStatus.PARTIALLY_FILLED)
    exec_type = np.int64(ExecType.REPLACE_REJECTED)
    place = answer(x, i, exec_type, alive, order, side, request, ts)
    x.responses[i, place, at_venue.A_REJECT] = np.int64(Reject.VENUE)


@njit(cache=True, _nrt=False)
def take_requests(x, i, scratch, none, ts):
    """Let the venue work on all requests that arrive at `ts`.

    Args:
        x: OrderExchange, changed.
        i: instrument.
        scratch: int64[ORDER_WORDS], changed.
        none: no request.
        ts: venue's time.
    """
    bus = x.buses[i]
    first, end = bus[at_venue.REQUEST_FIRST], bus[at_venue.REQUEST_END]
    while first < end and x.words[at_venue.STATUS] == 0:
        request = x.requests[i, first & (at_venue.REQUESTS_MAX - 1)]
        if request[at_venue.R_TS] != ts:
            break
        first += 1
        if request[at_venue.R_KIND] == RequestKind.NEW:
            accept_new(x, i, request, scratch, none, ts)
        else:
            change(x, i, request, scratch, none, ts)
    bus[at_venue.REQUEST_FIRST] = first
    if first == end:  # empty: the same few cache lines again
        bus[at_venue.REQUEST_FIRST] = bus[at_venue.REQUEST_END] = 0

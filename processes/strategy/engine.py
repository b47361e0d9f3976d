"""The turn kernel: takes records of each input, keeps the desk, calls the hooks.

Decision kernels hold no atomics and no clock: they also run uncompiled, under a debugger.
"""

import numpy as np
from numba import njit

from common.enums import (
    ExecType,
    MarketKind,
    OrderPending,
    OrderStatus,
    ReportKind,
    RequestKind,
    Side,
)
from common.records import FLAG_INVALID, LEVEL_WORD, LEVELS_PER_SLOT
from processes.strategy import desk as at
from processes.strategy.api import (
    on_book,
    on_control,
    on_gap,
    on_report,
    on_start,
    on_timer,
    on_trade,
)
from processes.strategy.desk import BOOK_LEVELS_MAX, ORDER_SLOTS_MAX, QUOTE_LEVELS_MAX, TIMERS_MAX
from processes.strategy.verbs import quote_index, settle_quote, write_intent


@njit(cache=True, _nrt=False)
def reset_desk(d, session_base, strategy_id):
    """Empty a fresh desk.

    Args:
        d: Desk, changed.
        session_base: client_order_id of this session and strategy with sequence 0.
        strategy_id: index of the strategy in the config.
    """
    d.words[:] = 0
    d.words[at.SESSION_BASE] = session_base
    d.words[at.STRATEGY_ID] = strategy_id
    d.timers[:] = 0
    for i in range(d.books.shape[0]):
        d.books[i]["instrument_id"] = i
    clear_orders(d)


@njit(cache=True, _nrt=False)
def clear_orders(d):
    """Forget all orders and wanted quotes; risk tells what is open."""
    for slot in range(ORDER_SLOTS_MAX):
        d.orders[slot]["client_order_id"] = 0
    for q in range(d.quotes.shape[0]):
        d.quotes[q]["order_slot"] = -1
        d.quotes[q]["qty_steps"] = 0


@njit(cache=True, _nrt=False)
def set_cause(d, ts_exch_ns, ts_recv_ns, recv_to_book_ns, book_ts_pub_ns, sequence):
    """Remember which market event the following intents answer; all 0: none."""
    d.words[at.CAUSE_TS_EXCH] = ts_exch_ns
    d.words[at.CAUSE_TS_RECV] = ts_recv_ns
    d.words[at.CAUSE_RECV_TO_BOOK] = recv_to_book_ns
    d.words[at.CAUSE_BOOK_TS_PUB] = book_ts_pub_ns
    d.words[at.CAUSE_SEQUENCE] = sequence


@njit(cache=True, _nrt=False)
def attach(d, now):
    """Write the ATTACH intent: risk cancels what is left, then tells positions and READY."""
    d.words[at.NOW_NS] = now
    d.words[at.INTENT_COUNT] = 0
    d.words[at.READY] = 0
    set_cause(d, 0, 0, 0, 0, 0)
    clear_orders(d)
    write_intent(d, RequestKind.ATTACH, -1, -1)
    d.words[at.TURN_COUNT] += 1


@njit(cache=True, _nrt=False)
def apply_book(d, words, headers, sequence, mask):
    """Copy one BOOK message into the desk's book; levels beyond BOOK_LEVELS_MAX are left out."""
    header = headers[sequence & mask]
    book = d.books[header["instrument_id"]]
    book["ts_recv_ns"] = header["ts_recv_ns"]
    book["ts_exch_ns"] = header["ts_exch_ns"]
    book["last_update_id"] = header["last_update_id"]
    book["valid"] = 0 if header["flags"] & FLAG_INVALID else 1
    bid_count, ask_count = np.int64(header["bid_count"]), np.int64(header["ask_count"])
    book["bid_count"] = min(bid_count, BOOK_LEVELS_MAX)
    book["ask_count"] = min(ask_count, BOOK_LEVELS_MAX)
    for k in range(BOOK_LEVELS_MAX):
        bid_price, bid_qty, ask_price, ask_qty = 0, 0, 0, 0
        if k < bid_count:
            slot = (sequence + 1 + k // LEVELS_PER_SLOT) & mask
            word = LEVEL_WORD + 2 * (k % LEVELS_PER_SLOT)
            bid_price, bid_qty = words[slot, word], words[slot, word + 1]
        if k < ask_count:
            level = bid_count + k
            slot = (sequence + 1 + level // LEVELS_PER_SLOT) & mask
            word = LEVEL_WORD + 2 * (level % LEVELS_PER_SLOT)
            ask_price, ask_qty = words[slot, word], words[slot, word + 1]
        book["bid_price_steps"][k] = bid_price
        book["bid_qty_steps"][k] = bid_qty
        book["ask_price_steps"][k] = ask_price
        book["ask_qty_steps"][k] = ask_qty


@njit(cache=True, _nrt=False)
def take_market(s, p, d, words, views, first, end):
    """Run the hooks over the book ring's slots [first, end); they hold whole messages.

    Args:
        s, p: STATE and PARAMS records; s is changed.
        d: Desk, changed.
        words: int64[capacity, 8], read. The ring's slots.
        views: (BOOK[capacity], TRADE[capacity], CONTROL[capacity]) over the same bytes.
    """
    headers, trades, controls = views
    mask = words.shape[0] - 1
    sequence = first
    while sequence < end:
        header = headers[sequence & mask]
        kind = header["kind"]
        i = np.int64(header["instrument_id"])
        known = 0 <= i < d.books.shape[0]
        set_cause(d, 0, 0, 0, 0, 0)
        if kind == MarketKind.BOOK and known:
            set_cause(
                d, header["ts_exch_ns"], header["ts_recv_ns"], header["recv_to_book_ns"],
                header["ts_pub_ns"], sequence,
            )  # fmt: skip
            apply_book(d, words, headers, sequence, mask)
            on_book(s, p, d, i)
        elif kind == MarketKind.TRADE or kind == MarketKind.AGG_TRADE:
            if known:
                on_trade(s, p, d, i, trades[sequence & mask])
        elif kind == MarketKind.GAP:
            for k in range(d.books.shape[0]):
                if i == -1 or i == k:
                    d.books[k]["valid"] = 0
                    on_gap(s, p, d, k)
        elif kind == MarketKind.CONTROL:
            on_control(s, p, d, controls[sequence & mask])
        sequence += max(np.int64(header["slot_count"]), 1)
    set_cause(d, 0, 0, 0, 0, 0)


@njit(cache=True, _nrt=False)
def adopt_order(d, report):
    """Put an order that risk says is open into its slot, when the slot is free."""
    slot = report["order_slot"]
    if not 0 <= slot < ORDER_SLOTS_MAX or d.orders[slot]["client_order_id"] != 0:
        return
    order = d.orders[slot]
    order["client_order_id"] = report["client_order_id"]
    order["handle"] = (report["intent_sequence"] + 1) * ORDER_SLOTS_MAX + slot
    order["instrument_id"] = report["instrument_id"]
    order["side"] = report["side"]
    order["quote_level"] = -1
    order["request_client_order_id"] = 0
    order["price_steps"] = report["price_steps"]
    order["order_qty_steps"] = report["order_qty_steps"]
    order["cum_qty_steps"] = report["cum_qty_steps"]
    order["order_status"] = report["order_status"]
    order["order_pending"] = report["order_pending"]


@njit(cache=True, _nrt=False)
def apply_execution(d, report):
    """Bring the desk's order to what risk reports; free its slot when it is terminal.

    Returns:
        The index of the quote that the order served, or -1.
    """
    i = report["instrument_id"]
    if 0 <= i < d.position.shape[0]:
        d.position[i] = report["position_steps"]
    slot = report["order_slot"]
    if not 0 <= slot < ORDER_SLOTS_MAX:
        return -1
    order = d.orders[slot]
    if order["client_order_id"] == 0 or order["client_order_id"] != report["client_order_id"]:
        return -1
    was_asked = order["order_pending"] & OrderPending.CANCEL
    if report["request_client_order_id"] == order["request_client_order_id"]:
        order["request_client_order_id"] = 0
    order["order_status"] = report["order_status"]
    order["order_pending"] = report["order_pending"]
    order["cum_qty_steps"] = report["cum_qty_steps"]
    if report["price_steps"] > 0:
        order["price_steps"] = report["price_steps"]
    if report["order_qty_steps"] > 0:
        order["order_qty_steps"] = report["order_qty_steps"]
    level = np.int64(order["quote_level"])
    q = quote_index(np.int64(order["instrument_id"]), order["side"], level) if level >= 0 else -1
    if report["order_status"] >= OrderStatus.FILLED:
        order["client_order_id"] = 0
        if q >= 0:
            d.quotes[q]["order_slot"] = -1
            if not was_asked or report["order_status"] == OrderStatus.FILLED:
                d.quotes[q]["qty_steps"] = 0  # wait for the strategy's next word
    elif q >= 0 and report["exec_type"] == ExecType.REPLACE_REJECTED:
        d.quotes[q]["price_steps"] = order["price_steps"]
        d.quotes[q]["qty_steps"] = order["order_qty_steps"] - order["cum_qty_steps"]
    return q


@njit(cache=True, _nrt=False)
def take_reports(s, p, d, reports, first, end):
    """Run the hooks over the report ring's slots [first, end)."""
    mask = reports.shape[0] - 1
    set_cause(d, 0, 0, 0, 0, 0)
    for sequence in range(first, end):
        report = reports[sequence & mask]
        kind = report["kind"]
        i = np.int64(report["instrument_id"])
        if kind == ReportKind.RESET:
            d.words[at.READY] = 0
            clear_orders(d)
        elif kind == ReportKind.POSITION and 0 <= i < d.position.shape[0]:
            d.position[i] = report["position_steps"]
        elif kind == ReportKind.OPEN_ORDER:
            adopt_order(d, report)
        elif kind == ReportKind.READY:
            d.words[at.READY] = 1
        elif kind == ReportKind.EXECUTION:
            q = apply_execution(d, report)
            on_report(s, p, d, i, report)
            if q >= 0:
                side = Side.BID if q // QUOTE_LEVELS_MAX % 2 == 0 else Side.ASK
                settle_quote(d, i, side, q % QUOTE_LEVELS_MAX)


@njit(cache=True, _nrt=False)
def has_due_timer(timers, now):
    """Return True if a timer is due at `now`."""
    for timer_id in range(TIMERS_MAX):
        if 0 < timers[timer_id] <= now:
            return True
    return False


@njit(cache=True, _nrt=False)
def take_timers(s, p, d):
    """Run `on_timer` once for each timer that is due; it is off unless the hook sets it again."""
    now = d.words[at.NOW_NS]
    for timer_id in range(TIMERS_MAX):
        if 0 < d.timers[timer_id] <= now:
            d.timers[timer_id] = 0
            on_timer(s, p, d, timer_id)


@njit(cache=True, _nrt=False)
def run_turn(state, params, d, inputs, first, end, now):
    """Take one turn: reports, control, market, then timers.

    Args:
        state: STATE[1], changed.
        params: PARAMS[1], read.
        d: Desk of the block being written, changed.
        inputs: (reports REPORT[n], (control words, views), (market words, views)).
        first, end: int64[3]; slots of each input, in that polling order.
        now: clock of the turn, ns.

    Returns:
        Number of intents written to d.intents.
    """
    s, p = state[0], params[0]
    reports, control, market = inputs
    d.words[at.NOW_NS] = now
    d.words[at.INTENT_COUNT] = 0
    if d.words[at.STARTED] == 0:
        d.words[at.STARTED] = 1
        on_start(s, p, d)
    take_reports(s, p, d, reports, first[0], end[0])
    take_market(s, p, d, control[0], control[1], first[1], end[1])
    take_market(s, p, d, market[0], market[1], first[2], end[2])
    take_timers(s, p, d)
    d.words[at.TURN_COUNT] += 1
    for k in range(3):
        d.words[at.RECORD_COUNT] += end[k] - first[k]
    return d.words[at.INTENT_COUNT]

"""This side of a backtest: what we know of the market, risk's judgement, the way to the venue.

The checks and the order life cycle are risk's own kernels (processes/risk), the desk and its hooks
the strategy's own engine; here is only what in a live system are wires: market slots for the
strategy, requests with their latency, answers turned into the reports that a gateway writes.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from common.enums import (
    ExecType,
    LiquiditySide,
    MarketKind,
    OrderPending,
    OrderStatus,
    Reject,
    ReportKind,
    ReportSource,
    RequestKind,
)
from common.fixed_point import INT64_MAX
from common.records import FLAG_INVALID, LEVEL_WORD, LEVELS_PER_SLOT
from processes.backtest import exchange as at_venue
from processes.backtest import ladder as book
from processes.backtest.exchange import REQUEST_END, REQUEST_FIRST, RESPONSE_END, RESPONSE_FIRST
from processes.backtest.latency import request_latency
from processes.backtest.rules import COUNTS_LAST_FILL_ONLY, PASSES_CROSSED
from processes.book.state import header_word
from processes.risk import limits as risk_limits
from processes.risk.oms import (
    ACTIVE,
    ACTIVE_COUNT,
    NO_ROW,
    OUT_COUNT,
    WANTS_CANCELS,
    find_client,
)
from processes.risk.orders import HELD, apply_execution_report, apply_request
from processes.risk.turn import refuse, write_cancel

REPORTS_MAX = 4_096  # to the strategy between two turns; a power of two
_REPORTS_PER_ANSWER = 4  # at most
_E4 = 10_000
_BOOK, _LEVELS, _TRADE = int(MarketKind.BOOK), int(MarketKind.LEVELS), int(MarketKind.TRADE)

# Columns of Local.accounts.
POSITION = 0
BALANCE = 1
FEE_E12 = 2
FUNDING_E8 = 3
TRADES = 4
VOLUME = 5
TURNOVER = 6
SENT = 7
REJECTED = 8
ACCOUNT_WORDS = 10

# Columns of Local.seen.
IS_DIRTY = 0  # the book has changed since the strategy was shown it
TS_RECV = 1
ROW = 2  # of the event that changed it last
MESSAGES = 3
SEEN_WORDS = 4

# Places in Local.ring.
WRITTEN = 0  # next sequence of the market slots
TAKEN = 1


class Local(NamedTuple):
    """What this side knows.

    Attributes:
        ladders, prices: books as they are known here.
        places: int64[n], of the books.
        seen: int64[n, SEEN_WORDS].
        accounts: int64[n, ACCOUNT_WORDS], from the answers that have come.
        slots: int64[capacity, 8], market slots for the strategy, a power of two.
        ring: int64[2], what is written and taken of them.
        report: REPORT[1], scratch.
        request: ORDER_REQUEST[1], scratch.
    """

    ladders: np.ndarray
    prices: np.ndarray
    places: np.ndarray
    seen: np.ndarray
    accounts: np.ndarray
    slots: np.ndarray
    ring: np.ndarray
    report: np.ndarray
    request: np.ndarray


@njit(cache=True, _nrt=False)
def write_trade(local, i, event):
    """Write a TRADE slot; the caller has made room."""
    mask = local.slots.shape[0] - 1
    slot = local.slots[local.ring[WRITTEN] & mask]
    local.ring[WRITTEN] += 1
    slot[0] = header_word(_TRADE, 0, 1, i)
    slot[1] = event["ts_recv_ns"]
    slot[2] = event["ts_exch_ns"]
    slot[3] = event["price_steps"]
    slot[4] = event["qty_steps"]
    slot[5] = event["trade_id"]
    slot[6] = (np.int64(event["side"]) & 0xFF) | 1 << 32
    slot[7] = 0


@njit(cache=True, _nrt=False)
def write_level(local, first, number, price_steps, qty_steps):
    """Write level `number` of the message whose header is at sequence `first`."""
    mask = local.slots.shape[0] - 1
    slot = (first + 1 + number // LEVELS_PER_SLOT) & mask
    word = LEVEL_WORD + 2 * (number % LEVELS_PER_SLOT)
    local.slots[slot, word] = price_steps
    local.slots[slot, word + 1] = qty_steps


@njit(cache=True, _nrt=False)
def write_levels(local, i, first, levels_max):
    """Write the best levels of both sides; return (bids, asks)."""
    at = local.places[i]
    ladders = local.ladders
    prices = ladders[at + book.PRICES]
    bids = asks = 0
    level = ladders[at + book.BEST_BID]
    while level != book.NONE and bids < levels_max:
        qty = ladders[ladders[at + book.BID_QTY] + level]
        write_level(local, first, bids, local.prices[prices + level], qty)
        bids += 1
        level = book.next_bid(ladders, at, level) if bids < levels_max else book.NONE
    level = ladders[at + book.BEST_ASK]
    last = ladders[at + book.LEVELS]
    while level != last and asks < levels_max:
        qty = ladders[ladders[at + book.ASK_QTY] + level]
        write_level(local, first, bids + asks, local.prices[prices + level], qty)
        asks += 1
        level = book.next_ask(ladders, at, level) if asks < levels_max else last
    return bids, asks


@njit(cache=True, _nrt=False)
def write_book(local, events, i, levels_max, now):
    """Write the BOOK message of one instrument, as the book process does; the book is shown then.

    Args:
        local: Local, changed; the caller has made room.
        events: EVENT[m], read.
        i: instrument.
        levels_max: of each side.
        now: local time.
    """
    mask = local.slots.shape[0] - 1
    first = local.ring[WRITTEN]
    bids, asks = write_levels(local, i, first, levels_max)
    seen = local.seen[i]
    levels = bids + asks
    count = 1 + (levels + LEVELS_PER_SLOT - 1) // LEVELS_PER_SLOT
    for k in range(1, count):
        slot = (first + k) & mask
        local.slots[slot, 0] = header_word(_LEVELS, 0, 0, i)
        local.slots[slot, 1] = seen[TS_RECV]
    for number in range(levels, LEVELS_PER_SLOT * (count - 1)):
        write_level(local, first, number, np.int64(0), np.int64(0))
    head = local.slots[first & mask]
    flags = 0 if bids > 0 and asks > 0 else FLAG_INVALID
    head[0] = header_word(_BOOK, flags, count, i)
    head[1] = seen[TS_RECV]
    head[2] = events[seen[ROW]]["ts_exch_ns"]
    seen[MESSAGES] += 1
    head[3] = seen[MESSAGES]
    head[4] = bids | asks << 16
    head[5] = now
    head[6] = first
    head[7] = 0
    local.ring[WRITTEN] = first + count
    seen[IS_DIRTY] = 0


@njit(cache=True, _nrt=False, forceinline=True)
def show_touch(local, oms, i, now):
    """Bring risk's best bid and ask of one instrument up to date."""
    at = local.places[i]
    ladders = local.ladders
    cell = oms.cells[i]
    bid = book.best_bid(ladders, local.prices, at)
    ask = book.best_ask(ladders, local.prices, at)
    if ladders[at + book.RULES] & PASSES_CROSSED and 0 < ask <= bid:
        ask = bid + ladders[at + book.TICK]
    cell["valid"] = np.int64(bid > 0 and ask > 0)
    cell["ts_recv_ns"] = local.seen[i, TS_RECV]
    cell["bid_price_steps"] = bid
    cell["ask_price_steps"] = ask
    cell["bid_qty_steps"] = 0
    cell["ask_qty_steps"] = 0
    if bid > 0:
        level = ladders[at + book.BEST_BID]
        cell["bid_qty_steps"] = ladders[ladders[at + book.BID_QTY] + level]
    if ask > 0:
        level = ladders[at + book.BEST_ASK]
        cell["ask_qty_steps"] = ladders[ladders[at + book.ASK_QTY] + level]
    cell["ts_pub_ns"] = now


@njit(cache=True, _nrt=False)
def send(x, request, now):
    """Put an accepted request on its way; one that the venue will refuse is answered later.

    Args:
        x: Exchange, changed.
        request: ORDER_REQUEST record, read.
        now: local time.
    """
    if x.words[at_venue.IS_CLOSED] != 0:
        x.words[at_venue.NOT_SENT] += 1
        return
    i = np.int64(request["instrument_id"])
    bus = x.buses[i]
    end = bus[REQUEST_END]
    if end - bus[REQUEST_FIRST] >= at_venue.REQUESTS_MAX:
        x.words[at_venue.STATUS] = at_venue.REQUESTS_FULL
        return
    out = x.requests[i, end & (at_venue.REQUESTS_MAX - 1)]
    out[at_venue.R_KIND] = request["kind"]
    out[at_venue.R_CLIENT_ID] = request["client_order_id"]
    out[at_venue.R_ORIG_ID] = request["orig_client_order_id"]
    out[at_venue.R_SIDE] = request["side"]
    out[at_venue.R_TYPE] = request["order_type"]
    out[at_venue.R_TIME_IN_FORCE] = request["time_in_force"]
    out[at_venue.R_PRICE] = request["price_steps"]
    out[at_venue.R_QTY] = request["order_qty_steps"]
    out[at_venue.R_SLOT] = request["order_slot"]
    out[at_venue.R_REDUCE_ONLY] = request["reduce_only"]
    latency = request_latency(x.latency[i], x.request_rows, now)
    if latency < 0:
        refuse_on_the_way(x, i, out, now - latency)
        return
    due = now + latency
    if end > bus[REQUEST_FIRST]:
        due = max(due, x.requests[i, (end - 1) & (at_venue.REQUESTS_MAX - 1), at_venue.R_TS])
    out[at_venue.R_TS] = due
    bus[REQUEST_END] = end + 1


@njit(cache=True, _nrt=False)
def refuse_on_the_way(x, i, request, due):
    """Queue the answer to a request that the venue was too busy to take."""
    bus = x.buses[i]
    first, end = bus[RESPONSE_FIRST], bus[RESPONSE_END]
    if end - first >= at_venue.RESPONSES_MAX:
        x.words[at_venue.STATUS] = at_venue.RESPONSES_FULL
        return
    mask = at_venue.RESPONSES_MAX - 1
    if end > first:
        due = max(due, x.responses[i, (end - 1) & mask, at_venue.A_TS])
    out = x.responses[i, end & mask]
    bus[RESPONSE_END] = end + 1
    kind = request[at_venue.R_KIND]
    out[:] = 0
    out[at_venue.A_TS] = due
    out[at_venue.A_CLIENT_ID] = request[at_venue.R_ORIG_ID]
    out[at_venue.A_EXEC_TYPE] = ExecType.REPLACE_REJECTED
    if kind == RequestKind.NEW:
        out[at_venue.A_CLIENT_ID] = request[at_venue.R_CLIENT_ID]
        out[at_venue.A_EXEC_TYPE] = ExecType.REJECTED
        out[at_venue.A_STATUS] = OrderStatus.REJECTED
    elif kind == RequestKind.CANCEL:
        out[at_venue.A_EXEC_TYPE] = ExecType.CANCEL_REJECTED
    out[at_venue.A_REQUEST_ID] = request[at_venue.R_CLIENT_ID]
    out[at_venue.A_KIND] = kind
    out[at_venue.A_SIDE] = request[at_venue.R_SIDE]
    out[at_venue.A_PRICE] = request[at_venue.R_PRICE]
    out[at_venue.A_QTY] = request[at_venue.R_QTY]
    out[at_venue.A_REJECT] = Reject.VENUE_RATE
    out[at_venue.A_SLOT] = request[at_venue.R_SLOT]


@njit(cache=True, _nrt=False, forceinline=True)
def judge(local, oms, x, request, now):
    """Let risk judge one intent; an accepted one is booked and sent, a refused one told.

    Args:
        local, oms, x: changed.
        request: ORDER_REQUEST record, changed: a cancel is told what its order is.
        now: local time.
    """
    kind = request["kind"]
    row = find_client(oms, request["orig_client_order_id"])
    if kind == RequestKind.CANCEL_ALL:
        apply_request(oms, request, np.int64(HELD), now)
        return
    if kind == RequestKind.CANCEL:
        reject = np.int64(Reject.UNKNOWN_ORDER)
        if row != NO_ROW:
            reject = np.int64(risk_limits.check_cancel(oms.orders[row], request))
            if oms.orders[row]["order_pending"] & OrderPending.CANCEL != 0:
                return
            if reject == 0 and oms.orders[row]["order_status"] == OrderStatus.PENDING_NEW:
                apply_request(oms, request, np.int64(HELD), now)  # sent when it is acknowledged
                return
    else:
        i = request["instrument_id"]
        if 0 <= i < oms.cells.shape[0]:
            show_touch(local, oms, i, now)
        if kind == RequestKind.NEW:
            reject = np.int64(risk_limits.check_order(oms, request, now))
        else:
            reject = np.int64(risk_limits.check_replace(oms, request, row, now))
    if reject != 0:
        refuse(oms, request, row, reject, now)
        if kind == RequestKind.NEW:
            local.accounts[request["instrument_id"], SENT] += 1
            local.accounts[request["instrument_id"], REJECTED] += 1
        return
    if kind == RequestKind.NEW:
        local.accounts[request["instrument_id"], SENT] += 1
    else:
        request["side"] = oms.orders[row]["side"]
        request["order_type"] = oms.orders[row]["order_type"]
        request["time_in_force"] = oms.orders[row]["time_in_force"]
    apply_request(oms, request, np.int64(0), now)
    send(x, request, now)


@njit(cache=True, _nrt=False)
def send_wanted_cancels(local, oms, x, now):
    """Send the cancels that are wanted and not under way, as risk's sweep does."""
    oms.words[WANTS_CANCELS] = 0
    for k in range(oms.words[ACTIVE_COUNT]):
        row = oms.lists[ACTIVE, k]
        order = oms.orders[row]
        if order["order_pending"] & OrderPending.CANCEL == 0 or order["cancel_in_flight"] != 0:
            continue
        if order["order_status"] == OrderStatus.PENDING_NEW:
            oms.words[WANTS_CANCELS] = 1
            continue
        request = local.request[0]
        write_cancel(oms, request, order["client_order_id"], now)
        request["instrument_id"] = order["instrument_id"]
        request["order_slot"] = order["order_slot"]
        request["side"] = order["side"]
        apply_request(oms, request, np.int64(0), now)
        send(x, request, now)


@njit(cache=True, _nrt=False, forceinline=True)
def write_report(local, oms, i, answered):
    """Write the answer of the venue as the report that a gateway makes of it."""
    report = local.report[0]
    is_fill = answered[at_venue.A_LAST_QTY] > 0
    liquidity = LiquiditySide.MAKER if answered[at_venue.A_IS_MAKER] != 0 else LiquiditySide.TAKER
    report["kind"] = ReportKind.EXECUTION
    report["exec_type"] = answered[at_venue.A_EXEC_TYPE]
    report["order_status"] = answered[at_venue.A_STATUS]
    report["side"] = answered[at_venue.A_SIDE]
    report["liquidity_side"] = np.int64(liquidity) if is_fill else 0
    report["source"] = ReportSource.STREAM
    report["instrument_id"] = i
    report["reject"] = answered[at_venue.A_REJECT]
    report["client_order_id"] = answered[at_venue.A_CLIENT_ID]
    report["request_client_order_id"] = answered[at_venue.A_REQUEST_ID]
    report["request_kind"] = answered[at_venue.A_KIND]
    report["venue_order_id"] = answered[at_venue.A_VENUE_ID]
    report["exec_id"] = answered[at_venue.A_EXEC_ID]
    report["price_steps"] = answered[at_venue.A_PRICE]
    report["order_qty_steps"] = answered[at_venue.A_QTY]
    report["cum_qty_steps"] = answered[at_venue.A_CUM]
    report["leaves_qty_steps"] = answered[at_venue.A_QTY] - answered[at_venue.A_CUM]
    report["last_qty_steps"] = answered[at_venue.A_LAST_QTY]
    report["last_px_steps"] = answered[at_venue.A_LAST_PRICE]
    report["fee_e8"] = (answered[at_venue.A_FEE_E12] + _E4 // 2) // _E4
    report["ts_exch_ns"] = answered[at_venue.A_TS_EXCH]
    report["order_slot"] = answered[at_venue.A_SLOT]
    report["ts_report_recv_ns"] = answered[at_venue.A_TS]
    report["ts_pub_ns"] = answered[at_venue.A_TS]


@njit(cache=True, _nrt=False, forceinline=True)
def account(local, x, i, answered):
    """Add a fill that has been told to the account of this side; totals never wrap: the run stops.

    Turnover is checked for all of them: balance, volume and position are no larger.
    """
    last_qty = answered[at_venue.A_LAST_QTY]
    if last_qty == 0:
        return
    is_last = answered[at_venue.A_STATUS] == OrderStatus.FILLED
    if x.facts[i, at_venue.RULES] & COUNTS_LAST_FILL_ONLY and not is_last:
        return
    side = answered[at_venue.A_SIDE]
    value = answered[at_venue.A_LAST_PRICE] * last_qty
    fee_e12 = answered[at_venue.A_FEE_E12]
    row = local.accounts[i]
    if value > INT64_MAX - row[TURNOVER] or abs(fee_e12) > INT64_MAX - abs(row[FEE_E12]):
        x.words[at_venue.STATUS] = at_venue.TOTALS_FULL
        return
    row[POSITION] += side * last_qty
    row[BALANCE] -= side * value
    row[FEE_E12] += fee_e12
    row[TRADES] += 1
    row[VOLUME] += last_qty
    row[TURNOVER] += value


@njit(cache=True, _nrt=False, forceinline=True)
def take_answers(local, oms, x, i, ts):
    """Take all answers that arrive at `ts`: the account, then risk, which tells the strategy."""
    bus = x.buses[i]
    while bus[RESPONSE_FIRST] < bus[RESPONSE_END]:
        answered = x.responses[i, bus[RESPONSE_FIRST] & (at_venue.RESPONSES_MAX - 1)]
        if answered[at_venue.A_TS] != ts:
            break
        if oms.words[OUT_COUNT] > REPORTS_MAX - _REPORTS_PER_ANSWER:
            x.words[at_venue.STATUS] = at_venue.REPORTS_FULL
            break
        bus[RESPONSE_FIRST] += 1
        account(local, x, i, answered)
        if answered[at_venue.A_KIND] == RequestKind.NEW and (
            answered[at_venue.A_EXEC_TYPE] == ExecType.REJECTED
            or answered[at_venue.A_REJECT] == Reject.VENUE_POST_ONLY
        ):
            local.accounts[i, REJECTED] += 1
        write_report(local, oms, i, answered)
        apply_execution_report(oms, local.report[0], ts)
    if bus[RESPONSE_FIRST] == bus[RESPONSE_END]:  # empty: the same few cache lines again
        bus[RESPONSE_FIRST] = bus[RESPONSE_END] = 0
    if oms.words[WANTS_CANCELS] != 0:
        send_wanted_cancels(local, oms, x, ts)

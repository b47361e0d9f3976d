"""Order life cycle: what a request and a report, in any order and number, do to an order row.

Reports come late, twice, in another order, or never. A report whose order is not in the table still
moves the position if it carries a fill. The status rules are in transitions.py.
"""

from enum import IntEnum

import numpy as np
from numba import njit

from common.enums import (
    ExecType,
    OrderPending,
    OrderStatus,
    ReportKind,
    ReportSource,
    RequestKind,
)
from processes.risk.counters import Counter, Hop
from processes.risk.index import insert
from processes.risk.limits import take_token
from processes.risk.oms import (
    ACTIVE,
    ACTIVE_COUNT,
    NEXT_INTENT,
    NO_ROW,
    OWN_SEQUENCE,
    RISK_STRATEGY,
    WANTS_RECONCILE,
    allocate_row,
    asked_qty,
    fill_order_fields,
    find_client,
    find_venue,
    index_venue_id,
    is_finished,
    is_terminal,
    new_report,
    open_qty,
    settle,
    tell_position,
)
from processes.risk.positions import Booked, book_fill
from processes.risk.transitions import advance
from shm.counters import record_value

STEPS_MAX = 10**15  # a report beyond it is a lie: sums over a whole order table still fit int64

HELD = -1  # order_sequence of a request that was accepted and not sent


class Applied(IntEnum):
    """What a report did."""

    OK = 1
    UNCHANGED = 2
    FOREIGN = 3
    BAD = 4


@njit(cache=True, _nrt=False)
def apply_request(oms, request, order_sequence, now):
    """Change the state as an accepted request does; live and when the journal is read again.

    Args:
        oms: Oms, changed.
        request: ORDER_REQUEST record, read. It has passed its check.
        order_sequence: its place in the order ring, or HELD.
        now: CLOCK_MONOTONIC of the turn, ns.
    """
    strategy_id = np.int64(request["strategy_id"])
    if strategy_id == RISK_STRATEGY:
        oms.words[OWN_SEQUENCE] = request["intent_sequence"] + 1
    else:
        strategy = oms.strategies[strategy_id]
        strategy[NEXT_INTENT] = max(strategy[NEXT_INTENT], request["intent_sequence"] + 1)
    kind = request["kind"]
    if kind == RequestKind.NEW:
        take_token(oms.strategies[strategy_id], oms.limits[request["instrument_id"]], now)
        add_order(oms, request, order_sequence, now)
    elif kind == RequestKind.CANCEL_ALL:
        cancel_all(oms, strategy_id, np.int64(request["instrument_id"]))
    else:
        row = find_client(oms, request["orig_client_order_id"])
        if row == NO_ROW:
            return  # an order of an earlier session that reconciliation cancels
        order = oms.orders[row]
        before, pending = open_qty(order), np.int64(order["order_pending"])
        if kind == RequestKind.REPLACE:
            take_token(oms.strategies[strategy_id], oms.limits[order["instrument_id"]], now)
            order["order_pending"] |= OrderPending.REPLACE
            order["replace_price_steps"] = request["price_steps"]
            order["replace_qty_steps"] = request["order_qty_steps"]
            order["replace_client_order_id"] = request["client_order_id"]
            order["ts_sent_ns"] = now
            order["order_sequence"] = order_sequence
        else:
            order["order_pending"] |= OrderPending.CANCEL
            if order_sequence != HELD:
                order["cancel_in_flight"] = 1
                order["cancel_count"] += 1
                order["cancel_client_order_id"] = request["client_order_id"]
                order["ts_cancel_ns"] = now
        order["ts_updated_ns"] = now
        settle(oms, row, before, pending)


@njit(cache=True, _nrt=False)
def add_order(oms, request, order_sequence, now):
    """Open a row for a NEW; the check has made sure that there is room."""
    row = allocate_row(oms)
    assert row >= 0, "check_order must refuse when the table is full"
    order = oms.orders[row]
    order["client_order_id"] = request["client_order_id"]
    order["price_steps"] = request["price_steps"]
    order["order_qty_steps"] = request["order_qty_steps"]
    order["instrument_id"] = request["instrument_id"]
    order["order_slot"] = request["order_slot"]
    order["side"] = request["side"]
    order["order_type"] = request["order_type"]
    order["time_in_force"] = request["time_in_force"]
    order["reduce_only"] = request["reduce_only"]
    order["strategy_id"] = request["strategy_id"]
    order["order_status"] = OrderStatus.PENDING_NEW
    order["ts_created_ns"] = now
    order["ts_updated_ns"] = now
    order["ts_sent_ns"] = now
    order["order_sequence"] = order_sequence
    order["intent_sequence"] = request["intent_sequence"]
    order["ts_recv_ns"] = request["ts_recv_ns"]
    order["recv_to_book_ns"] = request["recv_to_book_ns"]
    order["book_to_strategy_ns"] = request["book_to_strategy_ns"]
    order["strategy_to_risk_ns"] = request["strategy_to_risk_ns"]
    insert(oms.by_client, request["client_order_id"], np.int64(0), np.int64(0), row)
    settle(oms, row, np.int64(0), np.int64(0))


@njit(cache=True, _nrt=False)
def cancel_all(oms, strategy_id, instrument_id):
    """Want every order of a strategy canceled; the cancels are sent by the sweep.

    Args:
        oms: Oms, changed.
        strategy_id: whose; RISK_STRATEGY: everybody's.
        instrument_id: of which instrument; -1: of all.
    """
    for k in range(oms.words[ACTIVE_COUNT]):
        row = oms.lists[ACTIVE, k]
        order = oms.orders[row]
        pending = np.int64(order["order_pending"])
        if pending & OrderPending.CANCEL != 0 or is_finished(order):
            continue
        if strategy_id != RISK_STRATEGY and order["strategy_id"] != strategy_id:
            continue
        if instrument_id >= 0 and order["instrument_id"] != instrument_id:
            continue
        before = open_qty(order)
        order["order_pending"] |= OrderPending.CANCEL
        settle(oms, row, before, pending)


@njit(cache=True, _nrt=False)
def apply_execution_report(oms, report, now):
    """Move one order to where a report brings it; book its fill; tell the strategy of a change.

    Args:
        oms: Oms, changed.
        report: REPORT record of kind EXECUTION, read.
        now: CLOCK_MONOTONIC of the turn, ns.

    Returns:
        Applied.OK (changed, and told); UNCHANGED (repeated, late or empty); FOREIGN (not in the
        table: a fill moved the position); BAD (impossible fields, counted, nothing changed).
    """
    i = np.int64(report["instrument_id"])
    if not is_possible(oms, report):
        oms.counters[Counter.REPORTS_BAD] += 1
        return Applied.BAD
    row = find_row(oms, report, i)
    if row == NO_ROW:
        return apply_foreign(oms, report, i, now)
    order = oms.orders[row]
    before, pending = open_qty(order), np.int64(order["order_pending"])
    status = np.int64(order["order_status"])
    price, qty = order["price_steps"], order["order_qty_steps"]
    if order["venue_order_id"] == 0 and report["venue_order_id"] != 0:
        index_venue_id(oms, row, report["venue_order_id"])
    booked = book_if_fill(oms, row, report)
    order["venue_cum_qty_steps"] = max(order["venue_cum_qty_steps"], report["cum_qty_steps"])
    exec_type, reject = advance(oms, order, report, now)
    settle(oms, row, before, pending)
    if report["source"] == ReportSource.RESPONSE:
        record_hops(oms, order, report)
    is_changed = (
        booked
        or status != order["order_status"]
        or pending != order["order_pending"]
        or price != order["price_steps"]
        or qty != order["order_qty_steps"]
        or exec_type == ExecType.REPLACE_REJECTED
    )
    if not is_changed:
        return Applied.UNCHANGED
    order["ts_updated_ns"] = now
    count_change(oms, order, status)
    out = new_report(oms, np.int64(ReportKind.EXECUTION), exec_type, now)
    fill_order_fields(oms, out, order)
    answered = answered_request(order, report, status, pending)
    tell_details(out, report, reject, answered, booked)
    return Applied.OK


@njit(cache=True, _nrt=False)
def is_possible(oms, report):
    """Return True if the fields can be those of a report: instrument, numbers, source."""
    return (
        0 <= report["instrument_id"] < oms.positions.shape[0]
        and 0 <= report["order_qty_steps"] <= STEPS_MAX
        and 0 <= report["cum_qty_steps"] <= STEPS_MAX
        and 0 <= report["last_qty_steps"] <= STEPS_MAX
        and 0 <= report["price_steps"] <= STEPS_MAX
        and 0 <= report["last_px_steps"] <= STEPS_MAX
        and report["client_order_id"] >= 0
        and report["venue_order_id"] >= 0
        and report["order_status"] <= OrderStatus.EXPIRED
        and ExecType.NEW <= report["exec_type"] <= ExecType.CALCULATED
    )


@njit(cache=True, _nrt=False)
def find_row(oms, report, i):
    """Return the row that a report means: by our id, else by the venue's; NO_ROW if none fits.

    An order of ours keeps one venue id and one instrument for life; a report that says otherwise
    is of another order.
    """
    venue_order_id = report["venue_order_id"]
    by_venue = find_venue(oms, venue_order_id, i)
    if report["client_order_id"] == 0:
        return by_venue
    row = find_client(oms, report["client_order_id"])
    if row == NO_ROW or by_venue == row:
        return row
    order = oms.orders[row]
    is_other = venue_order_id != 0 and (order["venue_order_id"] != 0 or by_venue != NO_ROW)
    if order["instrument_id"] != i or is_other:
        oms.counters[Counter.REPORTS_BAD] += 1
        oms.words[WANTS_RECONCILE] = 1
        return NO_ROW
    return row


@njit(cache=True, _nrt=False)
def is_fill(report):
    """Return True if a report carries a fill."""
    exec_type = report["exec_type"]
    return report["last_qty_steps"] > 0 and (
        exec_type == ExecType.TRADE or exec_type == ExecType.CALCULATED
    )


@njit(cache=True, _nrt=False)
def book_if_fill(oms, row, report):
    """Book the fill in a report on its order, and count what it was; True if it was new."""
    if not is_fill(report):
        return False
    order = oms.orders[row]
    counters = oms.counters
    booked = book_fill(oms, row, report)
    if booked == Booked.NEW:
        counters[Counter.FILLS] += 1
        if is_finished(order):
            counters[Counter.FILLS_LATE] += 1
        if order["cum_qty_steps"] > asked_qty(order):
            counters[Counter.OVERFILLS] += 1
            oms.words[WANTS_RECONCILE] = 1
        return True
    count_unbooked(oms, booked)
    return False


@njit(cache=True, _nrt=False)
def count_unbooked(oms, booked):
    """Count a fill that was not booked, and ask the venue's account if it should have been."""
    if booked == Booked.DUPLICATE:
        oms.counters[Counter.FILLS_DUPLICATE] += 1
        return
    oms.words[WANTS_RECONCILE] = 1
    if booked == Booked.TOO_OLD:
        oms.counters[Counter.FILLS_TOO_OLD] += 1
    else:
        oms.counters[Counter.REPORTS_BAD] += 1


@njit(cache=True, _nrt=False)
def apply_foreign(oms, report, i, now):
    """Book the fill of an order that is not in the table: manual, liquidation, earlier session.

    Protocol 3A.12: such fills move the position and never an order of ours.
    """
    if report["client_order_id"] != 0 and not is_terminal(np.int64(report["order_status"])):
        oms.words[WANTS_RECONCILE] = 1  # ours by its id, and nobody here knows it: it must go
    if not is_fill(report):
        return Applied.FOREIGN
    booked = book_fill(oms, np.int64(NO_ROW), report)
    if booked != Booked.NEW:
        count_unbooked(oms, booked)
        return Applied.FOREIGN
    oms.counters[Counter.FILLS_FOREIGN] += 1
    tell_position(oms, i, now)
    return Applied.FOREIGN


@njit(cache=True, _nrt=False)
def count_change(oms, order, status_before):
    """Count an order that left PENDING_NEW."""
    if status_before != OrderStatus.PENDING_NEW:
        return
    if order["order_status"] == OrderStatus.REJECTED:
        oms.counters[Counter.REJECTS_VENUE] += 1
    elif order["order_status"] != OrderStatus.PENDING_NEW:
        oms.counters[Counter.ACKS] += 1


@njit(cache=True, _nrt=False)
def answered_request(order, report, status_before, pending_before):
    """Return the id of the request that a report answers, whatever channel it came by; 0 none."""
    if report["request_client_order_id"] != 0:
        return report["request_client_order_id"]
    if status_before == OrderStatus.PENDING_NEW and order["order_status"] != status_before:
        return order["client_order_id"]
    was_replace = pending_before & OrderPending.REPLACE != 0
    if was_replace and order["order_pending"] & OrderPending.REPLACE == 0:
        return order["replace_client_order_id"]
    return np.int64(0)


@njit(cache=True, _nrt=False)
def tell_details(out, report, reject, answered, booked):
    """Write what the report, not the row, says into the report to the strategy."""
    out["source"] = report["source"]
    out["reject"] = reject
    out["request_client_order_id"] = answered
    out["request_kind"] = report["request_kind"]
    out["venue_code"] = report["venue_code"]
    out["ts_exch_ns"] = report["ts_exch_ns"]
    out["ts_report_recv_ns"] = report["ts_report_recv_ns"]
    out["sent_to_ack_ns"] = report["sent_to_ack_ns"]
    out["ts_recv_ns"] = report["ts_recv_ns"]
    out["recv_to_book_ns"] = report["recv_to_book_ns"]
    out["book_to_strategy_ns"] = report["book_to_strategy_ns"]
    out["strategy_to_risk_ns"] = report["strategy_to_risk_ns"]
    out["risk_to_sent_ns"] = report["risk_to_sent_ns"]
    if booked:
        out["exec_type"] = ExecType.TRADE
        out["exec_id"] = report["exec_id"]
        out["last_qty_steps"] = report["last_qty_steps"]
        out["last_px_steps"] = report["last_px_steps"]
        out["fee_e8"] = report["fee_e8"]
        out["liquidity_side"] = report["liquidity_side"]


@njit(cache=True, _nrt=False)
def record_hops(oms, order, report):
    """Measure an answered request: every hop from the market event to the answer."""
    if report["sent_to_ack_ns"] <= 0:
        return
    histograms = oms.histograms
    record_value(histograms, np.int64(Hop.SENT_TO_ACK), np.int64(report["sent_to_ack_ns"]))
    record_value(histograms, np.int64(Hop.RISK_TO_SENT), np.int64(report["risk_to_sent_ns"]))
    if report["request_kind"] == RequestKind.NEW:
        order["risk_to_sent_ns"] = report["risk_to_sent_ns"]
        order["sent_to_ack_ns"] = report["sent_to_ack_ns"]
    if report["ts_recv_ns"] == 0:
        return  # no market event caused it
    to_book, to_strategy = report["recv_to_book_ns"], report["book_to_strategy_ns"]
    to_risk, to_sent = report["strategy_to_risk_ns"], report["risk_to_sent_ns"]
    record_value(histograms, np.int64(Hop.RECV_TO_BOOK), np.int64(to_book))
    record_value(histograms, np.int64(Hop.BOOK_TO_STRATEGY), np.int64(to_strategy))
    total = np.int64(to_book) + to_strategy + to_risk + to_sent
    record_value(histograms, np.int64(Hop.RECV_TO_SENT), total)

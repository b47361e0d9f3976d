"""What one report does to the status and the pending bits of an order; pure record changes.

    PENDING_NEW ──▶ NEW ──▶ PARTIALLY_FILLED ──▶ FILLED | CANCELED | EXPIRED
         └──────────────────────────────────────▶ REJECTED, or any of the above

Beside the status stand bits: CANCEL (wanted, until the order is over), REPLACE (asked), UNKNOWN
(the outcome of a request is not known: exposure stays at the worst case, the venue is asked).
Rules: a terminal status never changes; a status only moves forward; a timeout, a lost socket or
"unknown order" make an order UNKNOWN, never REJECTED.
"""

import numpy as np
from numba import njit

from common.enums import (
    ExecType,
    OrderPending,
    OrderStatus,
    Reject,
    ReportSource,
    RequestKind,
)
from processes.risk.counters import Counter
from processes.risk.oms import WANTS_RECONCILE, asked_qty, is_finished, is_terminal


@njit(cache=True, _nrt=False)
def advance(oms, order, report, now):
    """Change status and bits as one report says; its fill has been booked.

    Args:
        oms: Oms, changed (counters, flags).
        order: ORDER record, changed; the caller settles.
        report: REPORT record, read.
        now: CLOCK_MONOTONIC, ns.

    Returns:
        (exec_type to tell, reject to tell).
    """
    exec_type = np.int64(report["exec_type"])
    reject = np.int64(report["reject"])
    if report["order_status"] == OrderStatus.FILLED:
        hold_filled(order, report)
    if is_finished(order):
        advance_terminal(oms, order, report, now)
        return np.int64(ExecType.STATUS), np.int64(0)
    if exec_type == ExecType.NEW:
        mark_alive(order)
    elif exec_type == ExecType.TRADE or exec_type == ExecType.CALCULATED:
        on_trade(order, report)
    elif exec_type == ExecType.CANCELED:
        end(order, report, told_end(report, np.int64(OrderStatus.CANCELED)))
    elif exec_type == ExecType.EXPIRED:
        end(order, report, told_end(report, np.int64(OrderStatus.EXPIRED)))
    elif exec_type == ExecType.REJECTED:
        on_rejected(oms, order, report)
    elif exec_type == ExecType.REPLACED:
        on_replaced(order, report)
    elif exec_type == ExecType.CANCEL_REJECTED:
        oms.counters[Counter.CANCEL_REJECTS] += 1
        if on_cancel_rejected(order, report):
            return np.int64(ExecType.UNKNOWN), reject
    elif exec_type == ExecType.REPLACE_REJECTED:
        if not on_replace_rejected(order, report):
            return np.int64(ExecType.STATUS), reject
        oms.counters[Counter.REPLACE_REJECTS] += 1
    elif exec_type == ExecType.UNKNOWN:
        on_unknown(order, report)
    elif exec_type == ExecType.STATUS:
        return on_status(order, report, now)
    return exec_type, reject


@njit(cache=True, _nrt=False)
def mark_alive(order):
    """The venue has the order: it is no longer pending, and if that was the doubt, it is over.

    A doubt about a replace goes on: that the order lives does not tell whether it was replaced.
    That the venue forgot it has to be proved anew.
    """
    if order["is_lost"] != 0:
        forget_missing(order)
    if order["order_status"] != OrderStatus.PENDING_NEW:
        return
    forget_missing(order)
    has_fills = order["cum_qty_steps"] > 0 or order["venue_cum_qty_steps"] > 0
    order["order_status"] = OrderStatus.PARTIALLY_FILLED if has_fills else OrderStatus.NEW
    if order["cancel_in_flight"] == 0:
        clear_bits(order, np.int64(OrderPending.UNKNOWN))


@njit(cache=True, _nrt=False)
def forget_missing(order):
    """Begin the proof that nothing was done, or that the venue has no such order, anew."""
    order["is_lost"] = 0
    order["missing_count"] = 0
    order["ts_missing_ns"] = 0


@njit(cache=True, _nrt=False)
def clear_bits(order, bits):
    """Clear order_pending bits."""
    order["order_pending"] = order["order_pending"] & ~bits


@njit(cache=True, _nrt=False)
def finish(order, order_status):
    """Make an order terminal; nothing is pending any more."""
    order["order_status"] = order_status
    order["order_pending"] = 0
    order["cancel_in_flight"] = 0


@njit(cache=True, _nrt=False)
def end(order, report, order_status):
    """Make an order terminal, and note it if the venue told just that; REJECTED may prove wrong.

    An end that nobody but we concluded keeps the most that was asked for, should it prove wrong.
    """
    told, exec_type = report["order_status"], report["exec_type"]
    is_own = report["source"] == ReportSource.RISK
    is_told = is_terminal(told) or exec_type == ExecType.CANCELED or exec_type == ExecType.EXPIRED
    if is_own:
        order["order_qty_steps"] = asked_qty(order)
    elif is_told and order_status != OrderStatus.REJECTED:
        order["venue_end"] = order_status
    finish(order, order_status)


@njit(cache=True, _nrt=False)
def hold_filled(order, report):
    """FILLED tells that all is filled, whatever cumulative stands beside it: hold it until booked.

    A cumulative that is the whole quantity of the report itself is believed; any other is a view
    that lags, and then the most that was asked for counts. Fills, or `Reconciler.settle`, end it.
    """
    told = report["order_qty_steps"]
    if told == 0 or report["cum_qty_steps"] < told:
        filled = max(asked_qty(order), told)
        order["venue_cum_qty_steps"] = max(order["venue_cum_qty_steps"], filled)


@njit(cache=True, _nrt=False)
def told_end(report, otherwise):
    """Return the terminal status that a report tells, or `otherwise`."""
    told = np.int64(report["order_status"])
    return told if is_terminal(told) else otherwise


@njit(cache=True, _nrt=False)
def on_trade(order, report):
    """A fill: alive, and over if the venue says FILLED or all that was asked is filled."""
    asked = asked_qty(order)
    cum = order["cum_qty_steps"]
    if report["order_status"] == OrderStatus.PARTIALLY_FILLED and asked <= cum:
        if cum < report["order_qty_steps"]:  # a replace that we gave up was done after all
            order["order_qty_steps"] = asked = report["order_qty_steps"]
    if report["order_status"] == OrderStatus.FILLED or cum >= asked:
        end(order, report, np.int64(OrderStatus.FILLED))
        return
    mark_alive(order)
    if order["cum_qty_steps"] > 0 or order["venue_cum_qty_steps"] > 0:
        order["order_status"] = OrderStatus.PARTIALLY_FILLED


@njit(cache=True, _nrt=False)
def on_rejected(oms, order, report):
    """A rejection: final only if nothing ever showed that the venue has the order."""
    if (
        order["order_status"] == OrderStatus.PENDING_NEW
        and order["venue_order_id"] == 0
        and order["cum_qty_steps"] == 0
    ):
        end(order, report, np.int64(OrderStatus.REJECTED))
        order["reject"] = report["reject"]
        return
    oms.counters[Counter.CONTRADICTIONS] += 1
    order["order_pending"] |= OrderPending.UNKNOWN


@njit(cache=True, _nrt=False)
def on_replaced(order, report):
    """A replace was done: ours if it answers the request or shows what was asked.

    Responses and stream are not ordered against each other, so an older one is ignored by the
    venue's time; one that asked for something else is still the venue's truth. Of two replaces in
    one millisecond that time cannot tell which was last: the larger is held, and a query decides.
    """
    if 0 < report["ts_exch_ns"] < order["ts_replaced_exch_ns"]:
        return
    price, qty = report["price_steps"], report["order_qty_steps"]
    if price <= 0 or qty <= 0:
        return
    mark_alive(order)
    answers = report["request_client_order_id"] == order["replace_client_order_id"]
    shows = price == order["replace_price_steps"] and qty == order["replace_qty_steps"]
    is_tie = 0 < report["ts_exch_ns"] == order["ts_replaced_exch_ns"]
    differs = price != order["price_steps"] or qty != order["order_qty_steps"]
    if is_tie and differs and not answers and not shows:
        order["order_qty_steps"] = max(order["order_qty_steps"], qty)
        order["order_pending"] |= OrderPending.UNKNOWN
        return
    show_replaced(order, report)
    if order["order_pending"] & OrderPending.REPLACE != 0 and (answers or shows):
        end_replace(order)


@njit(cache=True, _nrt=False)
def show_replaced(order, report):
    """Take over price and quantity as the venue has them, and when: older ones are ignored."""
    order["price_steps"] = report["price_steps"]
    order["order_qty_steps"] = report["order_qty_steps"]
    order["ts_replaced_exch_ns"] = max(order["ts_replaced_exch_ns"], report["ts_exch_ns"])


@njit(cache=True, _nrt=False)
def end_replace(order):
    """The replace in flight is answered; a doubt that was about it is over."""
    clear_bits(order, np.int64(OrderPending.REPLACE))
    forget_missing(order)
    if order["cancel_in_flight"] == 0:
        clear_bits(order, np.int64(OrderPending.UNKNOWN))


@njit(cache=True, _nrt=False)
def is_answer(report, request_client_order_id):
    """Return True if a report answers that request, or does not say which."""
    answered = report["request_client_order_id"]
    return answered == 0 or answered == request_client_order_id


@njit(cache=True, _nrt=False)
def on_cancel_rejected(order, report):
    """A cancel did nothing: it is sent again, after asking if the venue does not know the order.

    Protocol 3A.10: -2011 never tells whether the order filled, or has not arrived yet.

    Returns:
        True if the order became UNKNOWN.
    """
    if not is_answer(report, order["cancel_client_order_id"]):
        return False
    order["cancel_in_flight"] = 0
    reject = report["reject"]
    if reject == Reject.NOT_RECONCILED:  # it never left risk: no back-off
        order["cancel_count"] -= 1
    if reject != Reject.VENUE_UNKNOWN_ORDER and reject != Reject.VENUE:
        return False
    was_unknown = order["order_pending"] & OrderPending.UNKNOWN != 0
    order["order_pending"] |= OrderPending.UNKNOWN
    return not was_unknown


@njit(cache=True, _nrt=False)
def on_replace_rejected(order, report):
    """A replace did nothing: the order stays as it was (protocol 4.5, 16).

    Returns:
        True if it was the replace in flight.
    """
    if order["order_pending"] & OrderPending.REPLACE == 0:
        return False
    if not is_answer(report, order["replace_client_order_id"]):
        return False
    if report["reject"] == Reject.VENUE_UNKNOWN_ORDER:
        clear_bits(order, np.int64(OrderPending.REPLACE))
        order["order_pending"] |= OrderPending.UNKNOWN
    else:
        end_replace(order)
    return True


@njit(cache=True, _nrt=False)
def on_unknown(order, report):
    """The outcome of a request is not known, unless something else has told it already."""
    if report["source"] == ReportSource.QUERY:
        return  # a query that failed; it is asked again
    kind = report["request_kind"]
    if kind == RequestKind.NEW:
        if order["order_status"] != OrderStatus.PENDING_NEW:
            return
    elif kind == RequestKind.REPLACE:
        if order["order_pending"] & OrderPending.REPLACE == 0:
            return
        if not is_answer(report, order["replace_client_order_id"]):
            return
    elif kind == RequestKind.CANCEL:
        if not is_answer(report, order["cancel_client_order_id"]):
            return
        order["cancel_in_flight"] = 0
    else:
        order["cancel_in_flight"] = 0
    order["order_pending"] |= OrderPending.UNKNOWN


@njit(cache=True, _nrt=False)
def on_status(order, report, now):
    """An answer about the order itself: from a query, the list of open orders, or a response.

    Not found, or a replace not done, is only counted here: `timers.scan_timers` concludes from
    several such answers over a time, never one (protocol 3A.9).

    Returns:
        (exec_type to tell, reject to tell).
    """
    status = np.int64(ExecType.STATUS)
    told = np.int64(report["order_status"])
    is_unknown = order["order_pending"] & OrderPending.UNKNOWN != 0
    if told == 0 or told == OrderStatus.PENDING_NEW:
        if report["reject"] == Reject.VENUE_UNKNOWN_ORDER and is_unknown:
            count_missing(order, np.int64(1), now)
        return status, np.int64(0)
    if is_terminal(told):
        end(order, report, told)
        return status, np.int64(0)
    is_pending_replace = order["order_pending"] & OrderPending.REPLACE != 0
    is_recent = report["ts_exch_ns"] >= order["ts_replaced_exch_ns"]
    price, qty = report["price_steps"], report["order_qty_steps"]
    mark_alive(order)
    if told == OrderStatus.PARTIALLY_FILLED:
        order["order_status"] = OrderStatus.PARTIALLY_FILLED
    if is_unknown:
        order["cancel_in_flight"] = 0
    if is_pending_replace:
        if price == order["replace_price_steps"] and qty == order["replace_qty_steps"]:
            show_replaced(order, report)
            end_replace(order)
            return np.int64(ExecType.REPLACED), np.int64(0)
        if is_unknown:
            count_missing(order, np.int64(0), now)
        return status, np.int64(0)
    if is_recent and report["source"] == ReportSource.QUERY and price > 0 and qty > 0:
        show_replaced(order, report)
    if report["source"] == ReportSource.QUERY:
        clear_bits(order, np.int64(OrderPending.UNKNOWN))
    return status, np.int64(0)


@njit(cache=True, _nrt=False)
def count_missing(order, is_lost, now):
    """Count one more answer that the venue has not done what was asked, or has no such order.

    An answer of the other kind than those before begins the count anew.
    """
    if order["is_lost"] != is_lost:
        order["missing_count"] = 0
    if order["missing_count"] == 0:
        order["ts_missing_ns"] = now
    order["is_lost"] = is_lost
    order["missing_count"] += 1


@njit(cache=True, _nrt=False)
def advance_terminal(oms, order, report, now):
    """A report on a finished order: the status stays.

    If the venue has it although it was rejected or we concluded its end, it is held at its full
    exposure and canceled, until the venue tells its end or rounds prove it. An own STATUS says that
    reconciliation has found all its fills: what the venue told beyond them is not waited for.
    """
    exec_type = report["exec_type"]
    is_own = report["source"] == ReportSource.RISK
    if is_own and exec_type == ExecType.STATUS:
        order["venue_cum_qty_steps"] = min(order["venue_cum_qty_steps"], order["cum_qty_steps"])
        return
    told = np.int64(report["order_status"])
    has_end = is_terminal(told) or exec_type == ExecType.CANCELED or exec_type == ExecType.EXPIRED
    is_told = exec_type != ExecType.REJECTED and exec_type != ExecType.CANCEL_REJECTED
    if is_told and not is_own and order["venue_end"] == 0:
        order["order_qty_steps"] = max(order["order_qty_steps"], report["order_qty_steps"])
        if has_end:
            order["venue_end"] = told_end(report, np.int64(OrderStatus.CANCELED))
    is_alive = is_told and told != 0 and not has_end and exec_type != ExecType.UNKNOWN
    is_filled = order["cum_qty_steps"] >= order["order_qty_steps"]
    if order["order_pending"] & OrderPending.UNKNOWN != 0:
        if is_alive or exec_type == ExecType.TRADE:
            forget_missing(order)
        is_proved = is_own and exec_type == ExecType.CANCELED
        if is_proved or is_filled or order["venue_end"] != 0:
            finish(order, np.int64(order["order_status"]))
        elif exec_type != ExecType.NEW and exec_type != ExecType.TRADE:
            order["cancel_in_flight"] = 0
            if exec_type == ExecType.STATUS and report["reject"] == Reject.VENUE_UNKNOWN_ORDER:
                count_missing(order, np.int64(1), now)
        return
    if is_alive and report["venue_order_id"] != 0 and order["venue_end"] == 0 and not is_filled:
        oms.counters[Counter.ORDERS_ZOMBIE] += 1
        oms.words[WANTS_RECONCILE] = 1
        order["order_pending"] = OrderPending.UNKNOWN | OrderPending.CANCEL
        order["cancel_in_flight"] = 0

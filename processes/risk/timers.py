"""What waits too long: requests without an answer, doubts, fills that were told and not sent."""

import numpy as np
from numba import njit

from common.enums import (
    ExecType,
    OrderPending,
    OrderStatus,
    Reject,
    ReportKind,
    ReportSource,
)
from processes.risk.batch import OWN_COUNT, QUERY_COUNT
from processes.risk.config import RiskConfig
from processes.risk.oms import (
    ACTIVE,
    ACTIVE_COUNT,
    WANTS_RECONCILE,
    is_finished,
    is_known,
)

BACK_OFF_SHIFT_MAX = 6

# Places in the timing words.
ACK_TIMEOUT = 0
CANCEL_RETRY = 1
QUERY_DELAY = 2
QUERY_COUNT_MAX = 3
MISSING_COUNT_MIN = 4
MISSING_NS_MIN = 5
FILL_TIMEOUT = 6
TIMING_WORDS = 8


def timing_words(config: RiskConfig) -> np.ndarray:
    """Return the times and counts that the kernels wait by."""
    timing = np.zeros(TIMING_WORDS, np.int64)
    timing[ACK_TIMEOUT] = config.ack_timeout_ns
    timing[CANCEL_RETRY] = config.cancel_retry_ns
    timing[QUERY_DELAY] = config.query_delay_ns
    timing[QUERY_COUNT_MAX] = config.query_count_max
    timing[MISSING_COUNT_MIN] = config.missing_count_min
    timing[MISSING_NS_MIN] = config.missing_ns_min
    timing[FILL_TIMEOUT] = config.fill_timeout_ns
    return timing


@njit(cache=True, _nrt=False)
def is_due(since_ns, delay_ns, now):
    """Return True if the delay is over; an instant of another boot counts as over."""
    return now < since_ns or now - since_ns >= delay_ns


@njit(cache=True, _nrt=False)
def conclude(oms, batch, row, exec_type, reject):
    """Write an own report about an order; the stage applies and journals it. False: no room."""
    k = batch.counts[OWN_COUNT]
    if k >= batch.own.shape[0]:
        return False
    order = oms.orders[row]
    batch.counts[OWN_COUNT] = k + 1
    batch.own[k] = oms.out[oms.out.shape[0] - 1]
    own = batch.own[k]
    own["kind"] = ReportKind.EXECUTION
    own["exec_type"] = exec_type
    own["source"] = ReportSource.RISK
    own["reject"] = reject
    own["strategy_id"] = order["strategy_id"]
    own["instrument_id"] = order["instrument_id"]
    own["client_order_id"] = order["client_order_id"]
    return True


@njit(cache=True, _nrt=False)
def is_waiting(order):
    """Return True if a request for the order has been sent and not been answered."""
    return (
        order["order_status"] == OrderStatus.PENDING_NEW
        or order["order_pending"] & OrderPending.REPLACE != 0
        or order["cancel_in_flight"] != 0
    )


@njit(cache=True, _nrt=False)
def doubt_in_flight(oms, batch):
    """Make every order with a request in flight UNKNOWN: the channel of the answers was lost."""
    for k in range(oms.words[ACTIVE_COUNT]):
        row = oms.lists[ACTIVE, k]
        order = oms.orders[row]
        if order["order_pending"] & OrderPending.UNKNOWN == 0 and is_waiting(order):
            if not conclude(oms, batch, row, np.int64(ExecType.UNKNOWN), np.int64(0)):
                return


@njit(cache=True, _nrt=False)
def has_in_flight(oms):
    """Return True if an order has a request in flight and is not UNKNOWN."""
    for k in range(oms.words[ACTIVE_COUNT]):
        order = oms.orders[oms.lists[ACTIVE, k]]
        if order["order_pending"] & OrderPending.UNKNOWN == 0 and is_waiting(order):
            return True
    return False


@njit(cache=True, _nrt=False)
def scan_timers(oms, batch, timing, consumed, now):
    """Find what has waited too long.

    A request without an answer makes its order UNKNOWN. An UNKNOWN order is asked for, with
    back-off. "No such order", or "not replaced", is believed after several answers over a time,
    and only if the gateway has taken the request out of the ring: else it may still be sent. Of an
    order that the venue had acknowledged only the account's word is final: `Reconciler.settle`.

    Args:
        oms: Oms, changed (flags).
        batch: Batch, changed: own reports, and the rows to be asked for in `queries`.
        timing: int64[TIMING_WORDS], read.
        consumed: the gateway's cursor in the order ring.
        now: CLOCK_MONOTONIC, ns.
    """
    for k in range(oms.words[ACTIVE_COUNT]):
        row = oms.lists[ACTIVE, k]
        order = oms.orders[row]
        if order["order_pending"] & OrderPending.UNKNOWN != 0:
            if not try_conclude(oms, batch, row, timing, consumed, now):
                ask_if_due(oms, batch, row, timing, now)
        elif is_finished(order):
            if is_due(order["ts_updated_ns"], timing[FILL_TIMEOUT], now):
                oms.words[WANTS_RECONCILE] = 1
        elif is_overdue(order, timing, now):
            conclude(oms, batch, row, np.int64(ExecType.UNKNOWN), np.int64(0))


@njit(cache=True, _nrt=False)
def is_overdue(order, timing, now):
    """Return True if a request of the order has waited too long for its answer."""
    if order["cancel_in_flight"] != 0:
        if is_due(order["ts_cancel_ns"], timing[ACK_TIMEOUT], now):
            return True
    return is_waiting(order) and order["cancel_in_flight"] == 0 and is_due(
        order["ts_sent_ns"], timing[ACK_TIMEOUT], now
    )  # fmt: skip


@njit(cache=True, _nrt=False)
def try_conclude(oms, batch, row, timing, consumed, now):
    """End a doubt by enough answers that nothing was done; True if no more of them are wanted."""
    order = oms.orders[row]
    is_forgotten = order["is_lost"] != 0 and is_known(order)
    if is_forgotten:
        oms.words[WANTS_RECONCILE] = 1  # query-order page: gone unfilled long ago, or a late view
    if (
        order["missing_count"] < timing[MISSING_COUNT_MIN]
        or not is_due(order["ts_missing_ns"], timing[MISSING_NS_MIN], now)
        or consumed <= order["order_sequence"]
    ):
        return False
    if is_forgotten or is_finished(order):
        return bool(is_forgotten)
    if order["order_status"] == OrderStatus.PENDING_NEW and not is_known(order):
        exec_type, reject = ExecType.REJECTED, Reject.VENUE_UNKNOWN_ORDER
        return conclude(oms, batch, row, np.int64(exec_type), np.int64(reject))
    if order["order_pending"] & OrderPending.REPLACE != 0:
        exec_type, reject = ExecType.REPLACE_REJECTED, Reject.VENUE
        return conclude(oms, batch, row, np.int64(exec_type), np.int64(reject))
    return False


@njit(cache=True, _nrt=False)
def ask_if_due(oms, batch, row, timing, now):
    """Put a row on the list of queries if its turn has come and it was not asked too often."""
    order = oms.orders[row]
    asked = order["query_count"]
    if asked >= timing[QUERY_COUNT_MAX]:
        return
    count = batch.counts[QUERY_COUNT]
    since = max(order["ts_query_ns"], order["ts_updated_ns"])
    delay = timing[QUERY_DELAY] << min(asked, BACK_OFF_SHIFT_MAX)
    if count < batch.queries.shape[0] and is_due(since, delay, now):
        batch.queries[count] = row
        batch.counts[QUERY_COUNT] = count + 1

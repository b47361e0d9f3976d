"""The kernels of one turn: take reports, judge intents, send cancels, look at the clock.

What is accepted is written into claimed, unpublished slots of the order ring and into the batch
that the journal writes; the stage publishes after the journal has it.
"""

import numpy as np
from numba import njit

from common.enums import (
    ExecType,
    OrderPending,
    OrderStatus,
    Reject,
    ReportKind,
    RequestKind,
)
from processes.risk.batch import ATTACH_STRATEGY, PUBLISH_COUNT, REQUEST_COUNT
from processes.risk.counters import Counter, Hop
from processes.risk.limits import check_cancel, check_order, check_replace, id_of
from processes.risk.oms import (
    ACTIVE,
    ACTIVE_COUNT,
    INTENT_BARRIER,
    IS_READY,
    NO_ROW,
    OWN_SEQUENCE,
    RISK_STRATEGY,
    SESSION,
    WANTS_CANCELS,
    fill_order_fields,
    find_client,
    is_finished,
    new_report,
)
from processes.risk.orders import HELD, apply_execution_report, apply_request
from processes.risk.timers import BACK_OFF_SHIFT_MAX, CANCEL_RETRY, is_due
from shm.counters import record_value
from shm.cursors import RING_FULL, try_claim
from shm.table import READ_OK, read_row

_INT32_MAX = 2_147_483_647
_FIRST_REJECT = int(Counter.REJECT_NOT_READY)

# Verdicts on an intent; any above SEND is a Reject.
SEND = 0
HOLD = -1
NOTHING = -2
ATTACH = -3


@njit(cache=True, _nrt=False)
def take_reports(oms, slots, first, end, now):
    """Apply execution reports until one of another kind comes.

    Args:
        oms: Oms, changed.
        slots: REPORT[capacity], a power of two, read.
        first, end: sequences to take.
        now: CLOCK_MONOTONIC, ns.

    Returns:
        The sequence of the first report that is not EXECUTION, or `end`.
    """
    mask = slots.shape[0] - 1
    for sequence in range(first, end):
        report = slots[sequence & mask]
        if report["kind"] != ReportKind.EXECUTION:
            return sequence
        apply_execution_report(oms, report, now)
    return end


@njit(cache=True, _nrt=False)
def replay_requests(oms, requests, places, count, now):
    """Apply the requests of one journal frame.

    Args:
        oms: Oms, changed.
        requests: ORDER_REQUEST[n], read.
        places: int64[n], read.
        count: how many.
        now: the frame's time.
    """
    for k in range(count):
        apply_request(oms, requests[k], places[k], now)


@njit(cache=True, _nrt=False)
def saturate_int32(value):
    """Return a hop delta that fits its field."""
    return np.int32(min(max(value, 0), _INT32_MAX))


@njit(cache=True, _nrt=False)
def count_reject(oms, reject):
    """Count one refusal by its reason."""
    counters = oms.counters
    counters[Counter.REJECTS_RISK] += 1
    if Reject.BAD_REQUEST <= reject <= Reject.JOURNAL:
        counters[_FIRST_REJECT + 1 + (reject - Reject.BAD_REQUEST)] += 1
    elif reject == Reject.NOT_READY:
        counters[Counter.REJECT_NOT_READY] += 1
    elif reject == Reject.ORDER_RATE:
        counters[Counter.REJECT_ORDER_RATE] += 1
    elif reject == Reject.GATEWAY_FULL:
        counters[Counter.REJECT_GATEWAY_FULL] += 1
    elif reject == Reject.IN_FLIGHT:
        counters[Counter.REJECT_IN_FLIGHT] += 1
    else:
        counters[Counter.REJECT_OTHER] += 1


@njit(cache=True, _nrt=False)
def refuse(oms, request, row, reject, now):
    """Tell the strategy that an intent was refused, with the order as it is.

    Args:
        oms: Oms, changed: one report more, counters.
        request: ORDER_REQUEST record, read.
        row: of the order that a REPLACE or CANCEL means, or NO_ROW.
        reject: Reject.
        now: CLOCK_MONOTONIC, ns.
    """
    count_reject(oms, reject)
    kind = request["kind"]
    exec_type = ExecType.REJECTED
    if kind == RequestKind.REPLACE:
        exec_type = ExecType.REPLACE_REJECTED
    elif kind == RequestKind.CANCEL or kind == RequestKind.CANCEL_ALL:
        exec_type = ExecType.CANCEL_REJECTED
    out = new_report(oms, np.int64(ReportKind.EXECUTION), np.int64(exec_type), now)
    if row != NO_ROW:
        fill_order_fields(oms, out, oms.orders[row])
    else:
        is_new = kind == RequestKind.NEW
        order_id = request["client_order_id"] if is_new else request["orig_client_order_id"]
        out["client_order_id"] = order_id
        out["order_status"] = OrderStatus.REJECTED
        out["side"] = request["side"]
        out["instrument_id"] = request["instrument_id"]
        out["price_steps"] = request["price_steps"]
        out["order_qty_steps"] = request["order_qty_steps"]
        if 0 <= request["instrument_id"] < oms.positions.shape[0]:
            position = oms.positions[request["instrument_id"]]
            out["position_steps"] = position["position_steps"]
    out["strategy_id"] = request["strategy_id"]
    out["order_slot"] = request["order_slot"]
    out["intent_sequence"] = request["intent_sequence"]
    out["request_client_order_id"] = request["client_order_id"]
    out["request_kind"] = kind
    out["reject"] = reject


@njit(cache=True, _nrt=False)
def put(oms, batch, out, is_sent, now):
    """Accept the request at the end of the batch: into the order ring (unpublished) and the state.

    Args:
        oms, batch, out: changed. The record behind the last request of the batch is filled.
        is_sent: 0 keeps the request out of the ring: HELD.
        now: CLOCK_MONOTONIC, ns.

    Returns:
        False if the order ring is full: nothing was changed.
    """
    k = batch.counts[REQUEST_COUNT]
    request = batch.requests[k]
    request["strategy_to_risk_ns"] = saturate_int32(now - request["ts_pub_ns"])
    request["ts_pub_ns"] = now
    place = np.int64(HELD)
    if is_sent != 0:
        place = try_claim(out, np.int64(1))
        if place == RING_FULL:
            return False
        if request["kind"] != RequestKind.NEW:
            describe_order(oms, request)
        out.slots[place & (out.slots.shape[0] - 1)] = request
        batch.counts[PUBLISH_COUNT] += 1
    batch.places[k] = place
    batch.counts[REQUEST_COUNT] = k + 1
    apply_request(oms, request, place, now)
    return True


@njit(cache=True, _nrt=False)
def describe_order(oms, request):
    """Write what the order is into a REPLACE or CANCEL of it, as far as it is known."""
    row = find_client(oms, request["orig_client_order_id"])
    if row == NO_ROW:
        return
    order = oms.orders[row]
    request["venue_order_id"] = order["venue_order_id"]
    request["side"] = order["side"]
    request["order_type"] = order["order_type"]
    request["time_in_force"] = order["time_in_force"]
    request["reduce_only"] = order["reduce_only"]


@njit(cache=True, _nrt=False)
def take_intents(oms, batch, slots, first, end, out, versions, cells, now):
    """Judge intents; accepted ones are claimed in the order ring, refused ones are told at once.

    Args:
        oms, batch: changed.
        slots: ORDER_REQUEST[capacity], the intent ring, read.
        first, end: sequences to take, at most INTENTS_MAX.
        out: Out of the order ring, changed.
        versions, cells: int64[k], BBO_CELL[k]: the best bids and asks that book shows, read.
        now: CLOCK_MONOTONIC, ns.
    """
    mask = slots.shape[0] - 1
    for sequence in range(first, end):
        request = slots[sequence & mask]
        oms.counters[Counter.INTENTS] += 1
        kind = request["kind"]
        if kind <= RequestKind.CANCEL and request["ts_pub_ns"] > 0:
            age = max(now - request["ts_pub_ns"], 0)
            record_value(oms.histograms, np.int64(Hop.STRATEGY_TO_RISK), age)
        row = find_client(oms, request["orig_client_order_id"])
        verdict = judge(oms, request, row, versions, cells, now)
        if verdict == ATTACH:
            oms.strategies[request["strategy_id"], IS_READY] = 0
            oms.words[INTENT_BARRIER] = sequence + 1
            batch.counts[ATTACH_STRATEGY] = request["strategy_id"]
            continue
        if verdict == SEND and sequence < oms.words[INTENT_BARRIER] and kind != RequestKind.CANCEL:
            verdict = np.int64(Reject.NOT_READY)
        if verdict == SEND or verdict == HOLD:
            batch.requests[batch.counts[REQUEST_COUNT]] = request
            if not put(oms, batch, out, np.int64(verdict == SEND), now):
                verdict = np.int64(Reject.GATEWAY_FULL)
                if kind == RequestKind.CANCEL:  # never lost: wanted, and sent by the sweep
                    put(oms, batch, out, np.int64(0), now)
                    verdict = np.int64(NOTHING)
        if verdict > 0:
            refuse(oms, request, row, verdict, now)


@njit(cache=True, _nrt=False)
def judge(oms, request, row, versions, cells, now):
    """Judge one intent.

    A cancel is held while its order is not acknowledged: one that overtakes its order is answered
    "unknown order", and the order then rests (protocol 4.5, 4). A second cancel changes nothing.

    Args:
        oms: Oms, changed: the best bid and ask of the instrument are read anew.
        request: ORDER_REQUEST record, read.
        row: of the order that it means, or NO_ROW.
        versions, cells: of book's best bids and asks, read.
        now: CLOCK_MONOTONIC, ns.

    Returns:
        SEND, HOLD, NOTHING, ATTACH, or a Reject.
    """
    kind = request["kind"]
    if request["strategy_id"] >= RISK_STRATEGY:
        return np.int64(Reject.BAD_REQUEST)
    if kind == RequestKind.NEW or kind == RequestKind.REPLACE:
        i = request["instrument_id"]
        if 0 <= i < oms.cells.shape[0]:
            if read_row(versions, cells, i, oms.cells[i : i + 1]) != READ_OK:
                oms.cells[i]["valid"] = 0
        if kind == RequestKind.NEW:
            return np.int64(check_order(oms, request, now))
        return np.int64(check_replace(oms, request, row, now))
    if kind == RequestKind.CANCEL:
        if row == NO_ROW or check_cancel(oms.orders[row], request) != Reject.NONE:
            return np.int64(Reject.UNKNOWN_ORDER)
        order = oms.orders[row]
        pending = order["order_pending"]
        if pending & OrderPending.CANCEL != 0:
            return np.int64(NOTHING)
        is_early = order["order_status"] == OrderStatus.PENDING_NEW
        is_doubtful = pending & OrderPending.UNKNOWN != 0
        return np.int64(HOLD) if is_early and not is_doubtful else np.int64(SEND)
    if kind == RequestKind.CANCEL_ALL:
        return np.int64(HOLD)
    return np.int64(ATTACH) if kind == RequestKind.ATTACH else np.int64(Reject.BAD_REQUEST)


@njit(cache=True, _nrt=False)
def sweep_cancels(oms, batch, out, timing, now):
    """Send the cancels that are wanted and not in flight; those that failed, after a back-off.

    Args:
        oms, batch, out: changed. WANTS_CANCELS stays set while some are waiting.
        timing: int64[TIMING_WORDS], read.
        now: CLOCK_MONOTONIC, ns.
    """
    oms.words[WANTS_CANCELS] = 0
    for k in range(oms.words[ACTIVE_COUNT]):
        row = oms.lists[ACTIVE, k]
        order = oms.orders[row]
        pending = order["order_pending"]
        if pending & OrderPending.CANCEL == 0 or order["cancel_in_flight"] != 0:
            continue
        if order["order_status"] == OrderStatus.PENDING_NEW:
            if pending & OrderPending.UNKNOWN == 0:
                continue  # its acknowledgement, or the doubt about it, comes back here
        oms.words[WANTS_CANCELS] = 1
        if batch.counts[REQUEST_COUNT] >= batch.requests.shape[0]:
            return
        shift = min(max(order["cancel_count"] - 1, 0), BACK_OFF_SHIFT_MAX)
        if order["cancel_count"] > 0:
            if not is_due(order["ts_cancel_ns"], timing[CANCEL_RETRY] << shift, now):
                continue
        request = batch.requests[batch.counts[REQUEST_COUNT]]
        write_cancel(oms, request, order["client_order_id"], now)
        request["instrument_id"] = order["instrument_id"]
        request["order_slot"] = order["order_slot"]
        if not put(oms, batch, out, np.int64(1), now):
            return
        oms.counters[Counter.CANCELS_OWN] += 1


@njit(cache=True, _nrt=False)
def send_stray_cancel(oms, batch, client_order_id, venue_order_id, instrument_id, out, now):
    """Claim a cancel for an open order of ours that no row knows; False: no room."""
    k = batch.counts[REQUEST_COUNT]
    if k >= batch.requests.shape[0]:
        return False
    request = batch.requests[k]
    write_cancel(oms, request, client_order_id, now)
    request["instrument_id"] = instrument_id
    request["venue_order_id"] = venue_order_id
    return put(oms, batch, out, np.int64(1), now)


@njit(cache=True, _nrt=False)
def write_cancel(oms, request, client_order_id, now):
    """Write a CANCEL with the next own id into a request record."""
    sequence = oms.words[OWN_SEQUENCE]
    request["kind"] = RequestKind.CANCEL
    request["side"] = 0
    request["order_type"] = 0
    request["time_in_force"] = 0
    request["reduce_only"] = 0
    request["strategy_id"] = RISK_STRATEGY
    request["instrument_id"] = -1
    request["order_slot"] = -1
    request["client_order_id"] = id_of(oms.words[SESSION], np.int64(RISK_STRATEGY), sequence)
    request["orig_client_order_id"] = client_order_id
    request["intent_sequence"] = sequence
    request["price_steps"] = 0
    request["order_qty_steps"] = 0
    request["ts_exch_ns"] = 0
    request["ts_recv_ns"] = 0
    request["recv_to_book_ns"] = 0
    request["book_to_strategy_ns"] = 0
    request["strategy_to_risk_ns"] = 0
    request["risk_to_sent_ns"] = 0
    request["ts_pub_ns"] = now
    request["venue_order_id"] = 0
    request["book_sequence"] = 0


@njit(cache=True, _nrt=False)
def cancel_everything(oms, batch, out, now):
    """Want all orders canceled: one own CANCEL_ALL, kept in the journal; the sweep sends them."""
    request = batch.requests[batch.counts[REQUEST_COUNT]]
    write_cancel(oms, request, np.int64(0), now)
    request["kind"] = RequestKind.CANCEL_ALL
    put(oms, batch, out, np.int64(0), now)


@njit(cache=True, _nrt=False)
def has_uncanceled(oms):
    """Return True if an order is open and nobody wants it canceled."""
    for k in range(oms.words[ACTIVE_COUNT]):
        order = oms.orders[oms.lists[ACTIVE, k]]
        if order["order_pending"] & OrderPending.CANCEL == 0:
            if not is_finished(order):
                return True
    return False

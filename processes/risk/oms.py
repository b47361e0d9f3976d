"""The state of risk: order rows, their lists and indices, fills, positions; all in plain arrays.

It is a cache of the journal: the same kernels, fed with the journal's frames, build the same state.
Rules: every change of a row stands between `open_qty` and `settle`, so that exposure, lists and
counts follow; a row is freed only when nothing can fill it any more, and oldest first.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from common import order_ids
from common.enums import OrderPending, OrderStatus, ReportKind, ReportSource, Side
from common.records import BBO_CELL, INSTRUMENT, ORDER, POSITION, REPORT
from processes.risk.counters import HISTOGRAMS, Counter
from processes.risk.index import NOT_FOUND, find, insert, new_index, remove
from shm.counters import BUCKETS

NO_ROW = NOT_FOUND
NOT_OURS = 255
RISK_STRATEGY = order_ids.STRATEGY_MAX  # strategy part of the ids of our own cancels
STRATEGIES_MAX = order_ids.STRATEGY_MAX + 1
OUT_EXTRA = 4_096  # reports that one turn can cause beside one per order and instrument

# Places in Oms.words.
FREE_COUNT = 0
ACTIVE_COUNT = 1
DONE_FIRST = 2
DONE_COUNT = 3
DIRTY_COUNT = 4
OUT_COUNT = 5
FILL_COUNT = 6  # fills ever remembered; the row of fill n is n % rows
OWN_SEQUENCE = 7  # of the next own cancel
UNKNOWN_COUNT = 8
IS_KILLED = 9
IS_STOPPING = 10
IS_RECONCILED = 11
IS_SPILLING = 12
IS_JOURNAL_BROKEN = 13
INTENT_BARRIER = 14  # intents before this sequence of the ring were decided on an older state
WANTS_CANCELS = 15  # a row may have a cancel to be sent
WANTS_RECONCILE = 16  # something was seen that only the venue's account can explain
POSITIONS_DIRTY = 17
SESSION = 18
WORDS = 32

# Rows of Oms.lists, each int64[orders].
FREE = 0
ACTIVE = 1
ACTIVE_AT = 2  # where a row stands in ACTIVE, -1 not
DONE = 3  # rows that can be freed, oldest first, a ring
IS_DONE = 4
DIRTY = 5
IS_DIRTY = 6
LISTS = 7

# Columns of Oms.strategies.
BUCKET_NS = 0
BUCKET_TS = 1
NEXT_INTENT = 2  # intents below it were accepted or are too late
IS_READY = 3
STRATEGY_WORDS = 4

# Columns of Oms.marks, per instrument.
OPEN_COUNT = 0
EVICTED_EXEC_ID = 1  # fills up to this trade id may have been forgotten
PAST_EXEC_ID = 2  # trades up to this id were made before the session
HAS_BASE = 3
ROUND_TRADES = 4
ROUND_DIFFERENT = 5
ROUND_MISSED = 6
ROUND_MATCHED = 7
ROUND_FILLS = 8  # FILL_COUNT of the instrument when the round began
BOOKED = 9  # fills booked, foreign ones included
MARKS = 12

FILL = np.dtype(
    [
        ("exec_id", "<i8"),
        ("venue_order_id", "<i8"),
        ("instrument_id", "<i8"),
        ("side", "<i8"),
        ("qty_steps", "<i8"),
        ("px_steps", "<i8"),
        ("fee_e8", "<i8"),
        ("round_id", "<i8"),  # reconciliation that saw it last
    ]
)

LIMITS = np.dtype(
    [
        ("order_qty_steps_max", "<i8"),
        ("order_notional_steps2_max", "<i8"),
        ("position_steps_max", "<i8"),
        ("open_order_count_max", "<i8"),
        ("price_band_bps_max", "<i8"),
        ("book_age_ns_max", "<i8"),
        ("order_cost_ns", "<i8"),  # token bucket: what one order takes
        ("bucket_ns_max", "<i8"),  # and what it holds at most
    ]
)


class Oms(NamedTuple):
    """All state, as kernels take it.

    Attributes:
        words: int64[WORDS].
        orders: ORDER[n + 1]; the last row is always empty.
        lists: int64[LISTS, n].
        by_client, by_venue, by_fill: indices; keys (client_order_id, 0, 0), (venue_order_id,
            instrument_id, 0) and (exec_id, venue_order_id, instrument_id).
        fills: FILL[m], the last m fills.
        positions: POSITION[k].
        marks: int64[k, MARKS].
        strategies: int64[STRATEGIES_MAX, STRATEGY_WORDS].
        instruments: INSTRUMENT[k], read.
        limits: LIMITS[k], read.
        cells: BBO_CELL[k], best bid and ask as last read.
        out: REPORT[n + k + OUT_EXTRA], reports to strategies that this turn caused; the last one
            is the empty form.
        counters: int64[Counter].
        histograms: int64[Hop, BUCKETS].
    """

    words: np.ndarray
    orders: np.ndarray
    lists: np.ndarray
    by_client: np.ndarray
    by_venue: np.ndarray
    by_fill: np.ndarray
    fills: np.ndarray
    positions: np.ndarray
    marks: np.ndarray
    strategies: np.ndarray
    instruments: np.ndarray
    limits: np.ndarray
    cells: np.ndarray
    out: np.ndarray
    counters: np.ndarray
    histograms: np.ndarray


def new_oms(
    instruments: np.ndarray, limits: np.ndarray, order_count_max: int, fill_count_max: int
) -> Oms:
    """Return an empty state.

    Args:
        instruments: INSTRUMENT[k].
        limits: LIMITS[k].
        order_count_max: order rows.
        fill_count_max: fills remembered, to know a repeated one.
    """
    count = len(instruments)
    oms = Oms(
        words=np.zeros(WORDS, np.int64),
        orders=np.zeros(order_count_max + 1, ORDER),
        lists=np.zeros((LISTS, order_count_max), np.int64),
        by_client=new_index(order_count_max),
        by_venue=new_index(order_count_max),
        by_fill=new_index(fill_count_max),
        fills=np.zeros(fill_count_max, FILL),
        positions=np.zeros(count, POSITION),
        marks=np.zeros((count, MARKS), np.int64),
        strategies=np.zeros((STRATEGIES_MAX, STRATEGY_WORDS), np.int64),
        instruments=np.ascontiguousarray(instruments, INSTRUMENT),
        limits=np.ascontiguousarray(limits, LIMITS),
        cells=np.zeros(count, BBO_CELL),
        out=np.zeros(order_count_max + count + OUT_EXTRA + 1, REPORT),
        counters=np.zeros(len(Counter), np.int64),
        histograms=np.zeros((len(HISTOGRAMS), BUCKETS), np.int64),
    )
    oms.lists[FREE] = np.arange(order_count_max)[::-1]
    oms.lists[ACTIVE_AT] = -1
    oms.words[FREE_COUNT] = order_count_max
    oms.positions["instrument_id"] = np.arange(count)
    oms.cells["instrument_id"] = np.arange(count)
    empty = oms.out[-1:]
    empty["source"] = ReportSource.RISK
    empty["strategy_id"] = NOT_OURS
    empty["instrument_id"] = -1
    empty["order_slot"] = -1
    oms.words[POSITIONS_DIRTY] = 1
    if count:
        oms.strategies[:, BUCKET_NS] = limits["bucket_ns_max"][0]
    return oms


@njit(cache=True, _nrt=False)
def is_terminal(order_status):
    """Return True if the status never changes again."""
    return order_status >= OrderStatus.FILLED


@njit(cache=True, _nrt=False)
def is_finished(order):
    """Return True if an order row is terminal."""
    return order["order_status"] >= OrderStatus.FILLED


@njit(cache=True, _nrt=False)
def is_known(order):
    """Return True if anything ever showed that the venue has, or had, the order."""
    return (
        order["order_status"] != OrderStatus.PENDING_NEW
        or order["venue_order_id"] != 0
        or order["cum_qty_steps"] != 0
    )


@njit(cache=True, _nrt=False)
def awaits_proof_since(oms, row):
    """Return since when an order waits for proof of its end, ns; 0: it does not.

    The venue says that it has no such order, or told of more fills than there are.
    """
    order = oms.orders[row]
    if order["order_pending"] & OrderPending.UNKNOWN != 0:
        return order["ts_missing_ns"] if order["is_lost"] != 0 and is_known(order) else 0
    has_more = order["venue_cum_qty_steps"] > order["cum_qty_steps"]
    return order["ts_updated_ns"] if is_finished(order) and has_more else 0


@njit(cache=True, _nrt=False)
def is_active(order):
    """Return True if the order may still fill, or the venue told of fills that we have not got."""
    return (
        not is_finished(order)
        or order["order_pending"] & OrderPending.UNKNOWN != 0
        or order["venue_cum_qty_steps"] > order["cum_qty_steps"]
    )


@njit(cache=True, _nrt=False)
def asked_qty(order):
    """Return the largest quantity that the venue may work with: a replace may be done any time."""
    if order["order_pending"] & OrderPending.REPLACE != 0:
        return max(order["order_qty_steps"], order["replace_qty_steps"])
    return order["order_qty_steps"]


@njit(cache=True, _nrt=False)
def open_qty(order):
    """Return the quantity that may still fill at the worst: open, in doubt, or told and missing."""
    asked = order["venue_cum_qty_steps"]
    pending = order["order_pending"]
    if not is_finished(order) or pending & OrderPending.UNKNOWN != 0:
        asked = max(asked, asked_qty(order))
    return max(asked - order["cum_qty_steps"], 0)


@njit(cache=True, _nrt=False)
def settle(oms, row, open_before, pending_before):
    """Bring exposure, lists and counts to what the row says now.

    Args:
        oms: Oms, changed.
        row: the row that was changed.
        open_before: its `open_qty` before.
        pending_before: its order_pending before.
    """
    order = oms.orders[row]
    words = oms.words
    if is_finished(order):
        order["leaves_qty_steps"] = 0
    else:
        order["leaves_qty_steps"] = max(order["order_qty_steps"] - order["cum_qty_steps"], 0)
    position = oms.positions[order["instrument_id"]]
    change = open_qty(order) - open_before
    if order["side"] == Side.BID:
        position["open_bid_qty_steps"] += change
    else:
        position["open_ask_qty_steps"] += change
    was_unknown = pending_before & OrderPending.UNKNOWN != 0
    is_unknown = order["order_pending"] & OrderPending.UNKNOWN != 0
    if is_unknown and not was_unknown:
        words[UNKNOWN_COUNT] += 1
        order["query_count"] = 0
        order["ts_query_ns"] = 0
        order["missing_count"] = 0
        order["ts_missing_ns"] = 0
        order["is_lost"] = 0
        oms.counters[Counter.ORDERS_UNKNOWN] += 1
    elif was_unknown and not is_unknown:
        words[UNKNOWN_COUNT] -= 1
    if order["order_pending"] & OrderPending.CANCEL != 0 and order["cancel_in_flight"] == 0:
        words[WANTS_CANCELS] = 1
    list_row(oms, row)
    mark_dirty(oms, row)


@njit(cache=True, _nrt=False)
def list_row(oms, row):
    """Put a row on the active list, or take it off and queue it to be freed."""
    lists, words = oms.lists, oms.words
    order = oms.orders[row]
    at = lists[ACTIVE_AT, row]
    if is_active(order):
        if at < 0:
            at = words[ACTIVE_COUNT]
            words[ACTIVE_COUNT] = at + 1
            lists[ACTIVE, at] = row
            lists[ACTIVE_AT, row] = at
            oms.marks[order["instrument_id"], OPEN_COUNT] += 1
        return
    if at >= 0:
        last = words[ACTIVE_COUNT] - 1
        words[ACTIVE_COUNT] = last
        moved = lists[ACTIVE, last]
        lists[ACTIVE, at] = moved
        lists[ACTIVE_AT, moved] = at
        lists[ACTIVE_AT, row] = -1
        oms.marks[order["instrument_id"], OPEN_COUNT] -= 1
    if lists[IS_DONE, row] == 0:
        lists[IS_DONE, row] = 1
        lists[DONE, (words[DONE_FIRST] + words[DONE_COUNT]) % lists.shape[1]] = row
        words[DONE_COUNT] += 1


@njit(cache=True, _nrt=False)
def mark_dirty(oms, row):
    """Remember that a row and the positions must be shown in the shared tables."""
    words = oms.words
    words[POSITIONS_DIRTY] = 1
    if oms.lists[IS_DIRTY, row] == 0:
        oms.lists[IS_DIRTY, row] = 1
        oms.lists[DIRTY, words[DIRTY_COUNT]] = row
        words[DIRTY_COUNT] += 1


@njit(cache=True, _nrt=False)
def retire_row(oms, row):
    """Free a row that nothing can fill any more; the position keeps what it filled."""
    order = oms.orders[row]
    position = oms.positions[order["instrument_id"]]
    position["retired_steps"] += order["side"] * order["cum_qty_steps"]
    remove(oms.by_client, order["client_order_id"], np.int64(0), np.int64(0))
    if order["venue_order_id"] != 0:
        i = np.int64(order["instrument_id"])
        remove(oms.by_venue, order["venue_order_id"], i, np.int64(0))
    oms.orders[row] = oms.orders[oms.lists.shape[1]]
    mark_dirty(oms, row)
    oms.lists[FREE, oms.words[FREE_COUNT]] = row
    oms.words[FREE_COUNT] += 1


@njit(cache=True, _nrt=False)
def has_room(oms):
    """Return True if a row is free or can be freed."""
    words, lists = oms.words, oms.lists
    if words[FREE_COUNT] > 0:
        return True
    for k in range(words[DONE_COUNT]):
        row = lists[DONE, (words[DONE_FIRST] + k) % lists.shape[1]]
        if lists[ACTIVE_AT, row] < 0:
            return True
    return False


@njit(cache=True, _nrt=False)
def allocate_row(oms):
    """Return a free row, freeing the oldest finished order if there is none; NO_ROW: all live."""
    words, lists = oms.words, oms.lists
    while words[FREE_COUNT] == 0 and words[DONE_COUNT] > 0:
        row = lists[DONE, words[DONE_FIRST]]
        words[DONE_FIRST] = (words[DONE_FIRST] + 1) % lists.shape[1]
        words[DONE_COUNT] -= 1
        lists[IS_DONE, row] = 0
        if lists[ACTIVE_AT, row] < 0:  # else it came back to life; it is queued again at its end
            retire_row(oms, row)
    if words[FREE_COUNT] == 0:
        return NO_ROW
    words[FREE_COUNT] -= 1
    return lists[FREE, words[FREE_COUNT]]


@njit(cache=True, _nrt=False)
def find_client(oms, client_order_id):
    """Return the row of one of our ids, or NO_ROW."""
    if client_order_id == 0:
        return NO_ROW
    return find(oms.by_client, client_order_id, np.int64(0), np.int64(0))


@njit(cache=True, _nrt=False)
def find_venue(oms, venue_order_id, instrument_id):
    """Return the row of a venue's order id (unique per symbol on Binance), or NO_ROW."""
    if venue_order_id == 0:
        return NO_ROW
    return find(oms.by_venue, venue_order_id, instrument_id, np.int64(0))


@njit(cache=True, _nrt=False)
def index_venue_id(oms, row, venue_order_id):
    """Remember the venue's id of an order; it is set once."""
    order = oms.orders[row]
    order["venue_order_id"] = venue_order_id
    i = np.int64(order["instrument_id"])
    insert(oms.by_venue, venue_order_id, i, np.int64(0), row)


@njit(cache=True, _nrt=False)
def new_report(oms, kind, exec_type, now):
    """Take the next report to a strategy, with every other field set to none."""
    count = oms.words[OUT_COUNT]
    last = oms.out.shape[0] - 1
    assert count < last, "a turn must not cause more reports than there is room for"
    oms.words[OUT_COUNT] = count + 1
    oms.out[count] = oms.out[last]
    out = oms.out[count]
    out["kind"] = kind
    out["exec_type"] = exec_type
    out["ts_pub_ns"] = now
    return out


@njit(cache=True, _nrt=False)
def fill_order_fields(oms, out, order):
    """Write what an order row says into a report."""
    out["order_status"] = order["order_status"]
    out["order_pending"] = order["order_pending"]
    out["side"] = order["side"]
    out["strategy_id"] = order["strategy_id"]
    out["instrument_id"] = order["instrument_id"]
    out["client_order_id"] = order["client_order_id"]
    out["venue_order_id"] = order["venue_order_id"]
    out["price_steps"] = order["price_steps"]
    out["order_qty_steps"] = order["order_qty_steps"]
    out["cum_qty_steps"] = order["cum_qty_steps"]
    out["leaves_qty_steps"] = order["leaves_qty_steps"]
    out["position_steps"] = oms.positions[order["instrument_id"]]["position_steps"]
    out["order_type"] = order["order_type"]
    out["time_in_force"] = order["time_in_force"]
    out["reduce_only"] = order["reduce_only"]
    out["order_slot"] = order["order_slot"]
    out["intent_sequence"] = order["intent_sequence"]


@njit(cache=True, _nrt=False)
def tell_position(oms, i, now):
    """Write a POSITION report of instrument i."""
    out = new_report(oms, np.int64(ReportKind.POSITION), np.int64(0), now)
    position = oms.positions[i]
    out["instrument_id"] = i
    out["position_steps"] = position["position_steps"]


@njit(cache=True, _nrt=False)
def tell_all(oms, now):
    """Write POSITION of every instrument, OPEN_ORDER of every live order, and READY."""
    for i in range(oms.positions.shape[0]):
        tell_position(oms, i, now)
    for k in range(oms.words[ACTIVE_COUNT]):
        order = oms.orders[oms.lists[ACTIVE, k]]
        if not is_finished(order):
            out = new_report(oms, np.int64(ReportKind.OPEN_ORDER), np.int64(0), now)
            fill_order_fields(oms, out, order)
    new_report(oms, np.int64(ReportKind.READY), np.int64(0), now)


@njit(cache=True, _nrt=False)
def audit(oms):
    """Recompute what `settle` and the fills keep up to date.

    Args:
        oms: Oms, read.

    Returns:
        0, or minus the number of the first promise that is broken: -1 position, -2 exposure,
        -3 open orders, -4 active list, -5 UNKNOWN count, -6 leaves.
    """
    count = oms.positions.shape[0]
    unknown = 0
    active = 0
    for i in range(count):
        position = oms.positions[i]
        steps = position["base_position_steps"] + position["retired_steps"]
        bids, asks, live = 0, 0, 0
        for row in range(oms.orders.shape[0]):
            order = oms.orders[row]
            if order["client_order_id"] == 0 or order["instrument_id"] != i:
                continue
            steps += order["side"] * order["cum_qty_steps"]
            if order["side"] == Side.BID:
                bids += open_qty(order)
            else:
                asks += open_qty(order)
            live += is_active(order)
            unknown += order["order_pending"] & OrderPending.UNKNOWN != 0
            if is_active(order) != (oms.lists[ACTIVE_AT, row] >= 0):
                return -4
            leaves = max(order["order_qty_steps"] - order["cum_qty_steps"], 0)
            if order["leaves_qty_steps"] != (0 if is_finished(order) else leaves):
                return -6
        if steps != position["position_steps"]:
            return -1
        if bids != position["open_bid_qty_steps"] or asks != position["open_ask_qty_steps"]:
            return -2
        if live != oms.marks[i, OPEN_COUNT]:
            return -3
        active += live
    if active != oms.words[ACTIVE_COUNT]:
        return -4
    return -5 if unknown != oms.words[UNKNOWN_COUNT] else 0

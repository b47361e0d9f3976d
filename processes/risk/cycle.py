"""One turn of risk as a few kernel calls: begin, reports, intents, finish; tables for readers.

All arrays cross the border once, in a bundle. Between `take_intents_of` and `finish` the stage
writes the journal; nothing of a turn is published before that.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from common.enums import RequestKind
from processes.risk.batch import INTENTS_MAX, PUBLISH_COUNT, REPORTS_MAX, REQUEST_COUNT, Batch
from processes.risk.counters import Counter
from processes.risk.oms import (
    ACTIVE_COUNT,
    DIRTY,
    DIRTY_COUNT,
    IS_DIRTY,
    OUT_COUNT,
    POSITIONS_DIRTY,
    UNKNOWN_COUNT,
    Oms,
)
from processes.risk.orders import HELD
from processes.risk.turn import take_intents, take_reports
from shm.bundle import pack
from shm.cursors import (
    RING_FULL,
    In,
    Out,
    available,
    count_offered,
    publish,
    release,
    try_claim,
)
from shm.latch import is_any_set
from shm.table import begin_write, end_write

# Places in Ends.progress.
GATEWAY_FIRST = 0
GATEWAY_NEXT = 1
GATEWAY_END = 2
REST_FIRST = 3
REST_NEXT = 4
REST_END = 5
INTENT_FIRST = 6
INTENT_END = 7
PROGRESS_WORDS = 8

KILL_SOURCES = 8  # words of the kill page that are looked at

# What `begin` returns: bits.
HAS_INPUT = 1
IS_KILLED_NOW = 2

# What `take_reports_of` returns.
REPORTS_DONE = 0
AT_GATEWAY = 1
AT_REST = 2


class Ends(NamedTuple):
    """What a turn reads and writes.

    Attributes:
        gateway, rest: In of the report rings.
        intents: In of the intent ring.
        orders: Out of the order ring.
        reports: Out of the ring to the strategy.
        bbo_versions, bbo: int64[k], BBO_CELL[k]: best bids and asks, of book.
        order_versions, order_rows, position_versions, position_rows: own shared tables.
        kill_words: int64[512] of the kill page.
        progress: int64[PROGRESS_WORDS], how far the turn is.
    """

    gateway: In
    rest: In
    intents: In
    orders: Out
    reports: Out
    bbo_versions: np.ndarray
    bbo: np.ndarray
    order_versions: np.ndarray
    order_rows: np.ndarray
    position_versions: np.ndarray
    position_rows: np.ndarray
    kill_words: np.ndarray
    progress: np.ndarray


def pack_turn(oms: Oms, batch: Batch, ends: Ends) -> object:
    """Return the bundle that the kernels below take."""
    return pack((oms, batch, ends))


@njit(cache=True, _nrt=False)
def begin_turn(ends):
    """Look at the inputs and the kill page.

    Returns:
        Bits HAS_INPUT and IS_KILLED_NOW; `progress` says what is to be taken.
    """
    progress = ends.progress
    first, end = available(ends.gateway)
    progress[GATEWAY_FIRST] = progress[GATEWAY_NEXT] = first
    progress[GATEWAY_END] = min(end, first + REPORTS_MAX)
    has_input = end > first
    first, end = available(ends.rest)
    progress[REST_FIRST] = progress[REST_NEXT] = first
    progress[REST_END] = min(end, first + REPORTS_MAX)
    has_input = has_input or end > first
    first, end = available(ends.intents)
    progress[INTENT_FIRST] = first
    progress[INTENT_END] = min(end, first + INTENTS_MAX)
    bits = HAS_INPUT if has_input or end > first else 0
    if is_any_set(ends.kill_words, KILL_SOURCES):
        bits |= IS_KILLED_NOW
    return bits


@njit(cache=True)
def take_reports_of(bundle, now):
    """Apply execution reports of gateway, then of rest.

    Returns:
        REPORTS_DONE, or AT_GATEWAY, AT_REST: a report of another kind stands at the ring's NEXT;
        the caller takes it, adds 1 to NEXT and calls again.
    """
    oms, _batch, ends = bundle.args
    progress = ends.progress
    for which in range(2):  # one call of the life cycle in the code: it is compiled in place
        slots = ends.gateway.slots if which == 0 else ends.rest.slots
        place = GATEWAY_NEXT if which == 0 else REST_NEXT
        at = take_reports(oms, slots, progress[place], progress[place + 1], now)
        progress[place] = at
        if at < progress[place + 1]:
            return AT_GATEWAY if which == 0 else AT_REST
    return REPORTS_DONE


@njit(cache=True)
def take_intents_of(bundle, now):
    """Judge the intents of this turn."""
    oms, batch, ends = bundle.args
    progress = ends.progress
    take_intents(
        oms,
        batch,
        ends.intents.slots,
        progress[INTENT_FIRST],
        progress[INTENT_END],
        ends.orders,
        ends.bbo_versions,
        ends.bbo,
        now,
    )


@njit(cache=True, _nrt=False)
def finish_turn(oms, batch, ends):
    """Publish the orders, then the reports to the strategy, release the inputs, show the rows.

    Returns:
        How many reports to the strategy are left in `Oms.out`, for want of room: all or none.
    """
    if batch.counts[PUBLISH_COUNT] > 0:
        count_offered(ends.orders, batch.counts[PUBLISH_COUNT])
        publish(ends.orders)
        count_sent(oms, batch)
    left = oms.words[OUT_COUNT]
    if left > 0 and publish_reports(oms, ends.reports, left):
        left = 0
        oms.words[OUT_COUNT] = 0
    progress = ends.progress
    if progress[GATEWAY_END] > progress[GATEWAY_FIRST]:
        release(ends.gateway, progress[GATEWAY_END])
    if progress[REST_END] > progress[REST_FIRST]:
        release(ends.rest, progress[REST_END])
    if progress[INTENT_END] > progress[INTENT_FIRST]:
        release(ends.intents, progress[INTENT_END])
    show_tables(
        oms, ends.order_versions, ends.order_rows, ends.position_versions, ends.position_rows
    )
    batch.counts[REQUEST_COUNT] = 0
    batch.counts[PUBLISH_COUNT] = 0
    return left


@njit(cache=True, _nrt=False)
def count_sent(oms, batch):
    """Count the requests that were published."""
    counters = oms.counters
    for k in range(batch.counts[REQUEST_COUNT]):
        if batch.places[k] == HELD:
            continue
        kind = batch.requests[k]["kind"]
        if kind == RequestKind.NEW:
            counters[Counter.ORDERS_SENT] += 1
        elif kind == RequestKind.REPLACE:
            counters[Counter.REPLACES_SENT] += 1
        else:
            counters[Counter.CANCELS_SENT] += 1


@njit(cache=True, _nrt=False)
def publish_reports(oms, reports, count):
    """Publish the first `count` reports of `Oms.out` at once; False: no room, nothing done."""
    first = try_claim(reports, count)
    if first == RING_FULL:
        return False
    mask = reports.slots.shape[0] - 1
    for k in range(count):
        reports.slots[(first + k) & mask] = oms.out[k]
    count_offered(reports, count)
    publish(reports)
    return True


@njit(cache=True, _nrt=False)
def show_tables(oms, versions, rows, position_versions, position_rows):
    """Copy changed rows into the shared tables, for readers.

    Args:
        oms: Oms, changed: nothing is dirty any more.
        versions, rows: of the order table, changed.
        position_versions, position_rows: of the position table, changed.
    """
    words, lists = oms.words, oms.lists
    for k in range(words[DIRTY_COUNT]):
        row = lists[DIRTY, k]
        lists[IS_DIRTY, row] = 0
        begin_write(versions, row)
        rows[row] = oms.orders[row]
        end_write(versions, row)
    words[DIRTY_COUNT] = 0
    if words[POSITIONS_DIRTY] != 0:
        words[POSITIONS_DIRTY] = 0
        for i in range(position_rows.shape[0]):
            begin_write(position_versions, i)
            position_rows[i] = oms.positions[i]
            end_write(position_versions, i)
    oms.counters[Counter.ACTIVE_ORDERS] = words[ACTIVE_COUNT]
    oms.counters[Counter.UNKNOWN_ORDERS] = words[UNKNOWN_COUNT]


@njit(cache=True)
def begin(bundle):
    """Call `begin_turn` with a bundle."""
    return begin_turn(bundle.args[2])


@njit(cache=True)
def finish(bundle):
    """Call `finish_turn` with a bundle."""
    return finish_turn(bundle.args[0], bundle.args[1], bundle.args[2])

"""Out of the book process: BOOK messages, what is passed on, and the best-bid-offer table.

The output ring carries states, not deltas. If it is full, the newest state of an instrument waits
(conflation) and is published when there is room; trades and the like are lost with a GAP.
"""

import numpy as np
from numba import njit

from common.enums import MarketKind
from common.fixed_point import INT64_MAX
from common.records import FLAG_INVALID, LEVEL_WORD, LEVELS_PER_SLOT, SLOT_WORDS
from processes.book.book import ASK, BID, best_levels, book_at, read_touch
from processes.book.counters import RECV_TO_BOOK, Counter
from processes.book.state import (
    CONFLATED,
    DIRTY_COUNT,
    IS_DIRTY,
    IS_LIVE,
    IS_TOUCHED,
    LIVE_ID,
    LIVE_SEQUENCE,
    LIVE_TS_EXCH,
    LIVE_TS_RECV,
    PENDING_FIRST,
    PENDING_LAST,
    PENDING_REASON,
    TOUCHED_COUNT,
    header_word,
    instrument_of,
)
from shm.counters import record_value
from shm.ring import RING_FULL, count_offered, try_claim, try_claim_or_drop, try_write_gap
from shm.table import begin_write, end_write

INT32_MAX = (1 << 31) - 1
_BOOK, _LEVELS, _GAP = int(MarketKind.BOOK), int(MarketKind.LEVELS), int(MarketKind.GAP)
_BID, _ASK, _FIRST = np.int64(BID), np.int64(ASK), np.int64(0)  # no literals: compiled once


@njit(cache=True, _nrt=False)
def pass_on(out, slots, slot, counts, now_ns):
    """Copy a one-slot message to the output ring; it is lost with a GAP if the ring is full.

    Args:
        out: Out of the book ring, changed.
        slots: int64[capacity, 8], read; the message is slots[slot].
        counts: int64[n], changed; the process's counters.
        now_ns: CLOCK_MONOTONIC.
    """
    sequence = try_claim_or_drop(out, 1, instrument_of(slots[slot, 0]), now_ns)
    if sequence == RING_FULL:
        return
    place = sequence & (out.slots.shape[0] - 1)
    for word in range(SLOT_WORDS):
        out.slots[place, word] = slots[slot, word]
    counts[Counter.PASSED_ON] += 1


@njit(cache=True, _nrt=False)
def publish_state(state, out, i, counts, histograms, now_ns):
    """Publish the newest state of one instrument, or keep it until there is room.

    Args:
        state: State, changed.
        out: Out of the book ring, changed.
        i: instrument_id.
        counts, histograms: the process's counters, changed.
        now_ns: CLOCK_MONOTONIC; the stamp of the publishing.
    """
    row = state.sync[i]
    is_waiting = row[IS_DIRTY] != 0
    if is_waiting:  # the older one will never be seen
        row[CONFLATED] += 1
        counts[Counter.BOOKS_CONFLATED] += 1
    if try_publish_state(state, out, i, counts, histograms, now_ns):
        row[IS_DIRTY] = 0
        state.totals[DIRTY_COUNT] -= np.int64(is_waiting)
    elif not is_waiting:
        row[IS_DIRTY] = 1
        state.totals[DIRTY_COUNT] += 1


@njit(cache=True, _nrt=False)
def try_publish_state(state, out, i, counts, histograms, now_ns):
    """Write the newest state of one instrument, behind the GAP that it may owe.

    Args: as in `publish_state`.

    Returns:
        True if it was written, False if the ring is full (nothing changed).
    """
    row = state.sync[i]
    bid_count = ask_count = 0
    if row[IS_LIVE] != 0:
        count_max = state.levels.shape[0] // 4
        at = book_at(state.books, i)
        bid_count = best_levels(state.books, at, _BID, count_max, state.levels, _FIRST)
        ask_count = best_levels(state.books, at, _ASK, count_max, state.levels, 2 * count_max)
    slot_count = 1 + (bid_count + ask_count + LEVELS_PER_SLOT - 1) // LEVELS_PER_SLOT
    owes_gap = np.int64(row[PENDING_REASON] != 0)
    if try_write_gap(out, now_ns) < 0:
        return False
    first = try_claim(out, slot_count + owes_gap)
    if first == RING_FULL:
        return False
    count_offered(out, slot_count + owes_gap)
    if owes_gap != 0:
        write_gap(out, first, i, row, now_ns)
        row[PENDING_REASON] = 0
    write_book(state, out, first + owes_gap, slot_count, i, bid_count, ask_count, now_ns)
    counts[Counter.BOOKS_PUBLISHED] += 1
    if row[IS_LIVE] != 0:
        record_value(histograms, RECV_TO_BOOK, now_ns - row[LIVE_TS_RECV])
    return True


@njit(cache=True, _nrt=False)
def write_gap(out, sequence, i, row, now_ns):
    """Write the GAP that says why a book became invalid, into a claimed slot."""
    slots = out.slots
    place = sequence & (slots.shape[0] - 1)
    slots[place, 0] = header_word(_GAP, 0, 1, i)
    slots[place, 1] = now_ns
    slots[place, 2] = row[PENDING_FIRST]
    slots[place, 3] = row[PENDING_LAST]
    slots[place, 4] = row[PENDING_REASON]
    slots[place, 5] = now_ns
    slots[place, 6] = 0
    slots[place, 7] = 0


@njit(cache=True, _nrt=False)
def write_book(state, out, sequence, slot_count, i, bid_count, ask_count, now_ns):
    """Write a BOOK message into claimed slots; its levels stand in `state.levels`."""
    slots = out.slots
    mask = slots.shape[0] - 1
    row = state.sync[i]
    place = sequence & mask
    flags = 0 if row[IS_LIVE] != 0 else FLAG_INVALID
    recv_to_book_ns = min(max(now_ns - row[LIVE_TS_RECV], 0), INT32_MAX)
    slots[place, 0] = header_word(_BOOK, flags, slot_count, i)
    slots[place, 1] = row[LIVE_TS_RECV]
    slots[place, 2] = row[LIVE_TS_EXCH]
    slots[place, 3] = row[LIVE_ID]
    slots[place, 4] = bid_count | ask_count << 16 | recv_to_book_ns << 32
    slots[place, 5] = now_ns
    slots[place, 6] = row[LIVE_SEQUENCE]
    slots[place, 7] = row[CONFLATED]
    skip = state.levels.shape[0] // 2 - 2 * bid_count  # asks begin at the half of `levels`
    word = SLOT_WORDS
    for j in range(2 * (bid_count + ask_count)):
        if word == SLOT_WORDS:
            sequence += 1
            place = sequence & mask
            slots[place, 0] = header_word(_LEVELS, 0, 0, i)
            slots[place, 1] = row[LIVE_TS_RECV]
            word = LEVEL_WORD
        slots[place, word] = state.levels[j if j < 2 * bid_count else j + skip]
        word += 1
    while word < SLOT_WORDS:
        slots[place, word] = 0
        word += 1


@njit(cache=True, _nrt=False)
def publish_waiting(state, out, counts, histograms, now_ns):
    """Publish states that a full ring has kept back, until it is full again; Args as above."""
    for i in range(state.sync.shape[0]):
        if state.sync[i, IS_DIRTY] != 0:
            if not try_publish_state(state, out, i, counts, histograms, now_ns):
                return
            state.sync[i, IS_DIRTY] = 0
            state.totals[DIRTY_COUNT] -= 1


@njit(cache=True, _nrt=False)
def write_cells(state, versions, cells, now_ns):
    """Bring the BBO cells of all touched instruments up to date.

    Args:
        state: State, changed.
        versions: int64[n], changed; of the table.
        cells: BBO_CELL[n], changed.
        now_ns: CLOCK_MONOTONIC.
    """
    for i in range(state.sync.shape[0]):
        row = state.sync[i]
        if row[IS_TOUCHED] == 0:
            continue
        row[IS_TOUCHED] = 0
        bid = bid_qty = ask = ask_qty = 0
        if row[IS_LIVE] != 0:
            bid, bid_qty, ask, ask_qty = read_touch(state.books, book_at(state.books, i))
            if ask == INT64_MAX:
                ask = 0
        begin_write(versions, i)
        cells[i]["instrument_id"] = i
        cells[i]["valid"] = row[IS_LIVE]
        cells[i]["ts_recv_ns"] = row[LIVE_TS_RECV]
        cells[i]["last_update_id"] = row[LIVE_ID]
        cells[i]["bid_price_steps"] = bid
        cells[i]["bid_qty_steps"] = bid_qty
        cells[i]["ask_price_steps"] = ask
        cells[i]["ask_qty_steps"] = ask_qty
        cells[i]["ts_pub_ns"] = now_ns
        end_write(versions, i)
    state.totals[TOUCHED_COUNT] = 0

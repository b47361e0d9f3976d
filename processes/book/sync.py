"""The venue's synchronisation rule: which diff is applied to which book, and when a book is lost.

Source: Binance USDⓈ-M "How to manage a local order book correctly"; numbers below are its steps.

    not live ── snapshot L and a kept diff with U <= L <= u ──▶ live ── pu == previous u ──▶ live
        ▲                                                        │
        └── pu differs, records lost, reconnected, crossed, worthless ◀──┘

Rules:
    While a book is not live its diffs are kept (2), the oldest pushed out of a full buffer. A
    snapshot drops those with u < L (3); the first one left must straddle L (4): if its U is over
    L the snapshot is too old and another is wanted, if there is none the snapshot waits.
    A live book takes a diff only if its pu is the u before (5), else the diff is the first one
    kept for the next snapshot. A diff that is not newer than a live book is ignored.
    Only a snapshot that is newer than the book is kept for later, one at most.

Not here: when the snapshot is asked for (requests.py).
"""

import numpy as np
from numba import njit

from common.enums import GapReason
from common.records import FLAG_LAST, SLOT_WORDS
from processes.book.book import (
    CROSSED,
    FULL,
    OK,
    apply_levels,
    book_at,
    check_snapshot,
    load_snapshot,
)
from processes.book.counters import Counter
from processes.book.publish import publish_state
from processes.book.state import (
    ANSWERS,
    COUNTS,
    DIFFS_HEAD,
    DIFFS_TAIL,
    EVICTED_COUNT,
    FIRST_ID,
    GAP_FIRST,
    GAP_LAST,
    GAP_REASON,
    HAS_SNAPSHOT,
    IS_LIVE,
    IS_TOUCHED,
    LAST_ID,
    LIVE_ID,
    LIVE_SEQUENCE,
    LIVE_TS_EXCH,
    LIVE_TS_RECV,
    LOST_REASON,
    NEEDS_PYTHON,
    PENDING_FIRST,
    PENDING_LAST,
    PENDING_REASON,
    PREVIOUS_ID,
    SNAPSHOT_BEGUN,
    SNAPSHOT_COUNTS,
    SNAPSHOT_ID,
    TOUCHED_COUNT,
    TS_EXCH,
    TS_RECV,
    WANTED,
    ask_count_of,
    bid_count_of,
    flags_of,
    instrument_of,
    slot_count_of,
)

# Not literals: kernels that are rarely called are compiled once, not per constant argument.
_SEQUENCE, _CROSSED = np.int64(GapReason.SEQUENCE), np.int64(GapReason.CROSSED)
_DECODE, _RECONNECT = np.int64(GapReason.DECODE), np.int64(GapReason.RECONNECT)
_RESTART, _RING_FULL = np.int64(GapReason.RESTART), np.int64(GapReason.RING_FULL)
_FIRST = np.int64(0)


@njit(cache=True, _nrt=False)
def on_diff(state, out, slots, sequence, counts, histograms, now_ns):
    """Apply, keep or ignore one depth diff.

    Args:
        state: State, changed.
        out: Out of the book ring, changed.
        slots: int64[capacity, 8], read; the message's header is at `sequence`.
        sequence: of the market ring.
        counts, histograms: the process's counters, changed.
        now_ns: CLOCK_MONOTONIC.
    """
    header = slots[sequence & (slots.shape[0] - 1)]
    i = instrument_of(header[0])
    row = state.sync[i]
    counts[Counter.DIFFS] += 1
    if row[IS_LIVE] != 0:
        if header[LAST_ID] <= row[LIVE_ID]:
            counts[Counter.DIFFS_STALE] += 1
            return
        if header[PREVIOUS_ID] == row[LIVE_ID]:
            status = apply_diff(state, i, slots, sequence, sequence, counts)
            if status == OK:
                publish_state(state, out, i, counts, histograms, now_ns)
                return
            lose_worthless(state, out, i, status, header, counts, histograms, now_ns)
        else:
            lose_chain(state, out, i, header, counts, histograms, now_ns)
    elif row[HAS_SNAPSHOT] == 0 and row[WANTED] == 0:  # the first diff of a connection
        row[WANTED] = 1
        state.totals[NEEDS_PYTHON] = 1
    keep_diff(state, i, slots, sequence, counts)
    if row[HAS_SNAPSHOT] != 0:
        try_sync(state, out, i, counts, histograms, now_ns)


@njit(cache=True, _nrt=False)
def apply_diff(state, i, slots, first, sequence, counts):
    """Apply one diff to a book; returns what `apply_levels` does.

    Args:
        i: instrument_id.
        slots, first: where the message's header is.
        sequence: where it was in the market ring.
    """
    header = slots[first & (slots.shape[0] - 1)]
    bid_count, ask_count = bid_count_of(header[COUNTS]), ask_count_of(header[COUNTS])
    status = apply_levels(
        state.books, book_at(state.books, i), slots, first, bid_count, ask_count
    )  # fmt: skip
    if status != OK:
        return status
    row = state.sync[i]
    row[LIVE_ID] = header[LAST_ID]
    row[LIVE_TS_EXCH] = header[TS_EXCH]
    row[LIVE_TS_RECV] = header[TS_RECV]
    row[LIVE_SEQUENCE] = sequence
    row[IS_TOUCHED] = 1
    state.totals[TOUCHED_COUNT] = 1
    counts[Counter.DIFFS_APPLIED] += 1
    counts[Counter.LEVELS_APPLIED] += bid_count + ask_count
    return OK


@njit(cache=True, _nrt=False)
def keep_diff(state, i, slots, sequence, counts):
    """Copy one diff behind those kept for instrument `i`; the oldest make room."""
    row = state.sync[i]
    kept = state.diffs[i]
    capacity = kept.shape[0]
    slot_count = slot_count_of(slots[sequence & (slots.shape[0] - 1), 0])
    while row[DIFFS_TAIL] + slot_count - row[DIFFS_HEAD] > capacity:
        counts[Counter.DIFFS_EVICTED] += 1
        row[EVICTED_COUNT] += 1
        if row[DIFFS_HEAD] == row[DIFFS_TAIL]:
            return  # longer than the whole buffer
        row[DIFFS_HEAD] += slot_count_of(kept[row[DIFFS_HEAD] & (capacity - 1), 0])
    tail = row[DIFFS_TAIL]
    state.diff_sequences[i, tail & (capacity - 1)] = sequence
    for slot in range(slot_count):
        place, source = (tail + slot) & (capacity - 1), (sequence + slot) & (slots.shape[0] - 1)
        for word in range(SLOT_WORDS):
            kept[place, word] = slots[source, word]
    row[DIFFS_TAIL] = tail + slot_count


@njit(cache=True, _nrt=False)
def try_sync(state, out, i, counts, histograms, now_ns):
    """Bring the snapshot at hand and the kept diffs of instrument `i` together, as far as it goes.

    Args: as in `on_diff`.
    """
    row = state.sync[i]
    kept = state.diffs_read[i]
    mask = kept.shape[0] - 1
    while row[DIFFS_HEAD] < row[DIFFS_TAIL]:
        head = row[DIFFS_HEAD]
        header = kept[head & mask]
        if header[LAST_ID] <= (row[LIVE_ID] if row[IS_LIVE] != 0 else row[SNAPSHOT_ID] - 1):
            counts[Counter.DIFFS_STALE] += 1
            row[DIFFS_HEAD] += slot_count_of(header[0])
            continue
        if row[IS_LIVE] == 0:
            if not go_live(state, i, header[FIRST_ID], counts):
                return
        elif header[PREVIOUS_ID] != row[LIVE_ID]:
            lose_chain(state, out, i, header, counts, histograms, now_ns)
            return
        status = apply_diff(state, i, kept, head, state.diff_sequences[i, head & mask], counts)
        if status != OK:
            lose_worthless(state, out, i, status, header, counts, histograms, now_ns)
            return
        row[DIFFS_HEAD] += slot_count_of(header[0])
        publish_state(state, out, i, counts, histograms, now_ns)


@njit(cache=True, _nrt=False)
def go_live(state, i, first_id, counts):
    """Load the snapshot at hand if a diff with u >= L and U = `first_id` straddles it (step 4).

    Returns:
        True: the book is the snapshot, and live. False: another snapshot is wanted.
    """
    row = state.sync[i]
    row[HAS_SNAPSHOT] = 0
    state.totals[NEEDS_PYTHON] = 1
    if first_id > row[SNAPSHOT_ID]:
        counts[Counter.SNAPSHOTS_TOO_OLD] += 1
        row[WANTED] = 1
        return False
    status = load_snapshot(
        state.books, book_at(state.books, i), state.snapshots_read[i], _FIRST,
        bid_count_of(row[SNAPSHOT_COUNTS]), ask_count_of(row[SNAPSHOT_COUNTS]),
    )  # fmt: skip
    if status != OK:
        counts[Counter.SNAPSHOTS_REFUSED] += 1
        row[WANTED] = 1
        return False
    counts[Counter.RESYNCS] += 1
    counts[Counter.BOOKS_VALID] += 1
    counts[Counter.DIFFS_STALE] += row[EVICTED_COUNT]  # each older than U, so older than L
    row[EVICTED_COUNT] = 0
    row[IS_LIVE] = 1
    row[LIVE_ID] = row[SNAPSHOT_ID]
    return True


@njit(cache=True, _nrt=False)
def lose_book(state, out, i, reason, first_lost, last_lost, ts_recv_ns, counts, histograms, now_ns):
    """Make a live book invalid at once, tell it, and want a snapshot unless one is at hand.

    Args:
        reason: GapReason.
        first_lost, last_lost: for the GAP.
        ts_recv_ns: of the record that made it invalid.
    """
    row = state.sync[i]
    row[IS_LIVE] = 0
    row[LIVE_TS_RECV] = ts_recv_ns
    row[LOST_REASON] = row[PENDING_REASON] = reason
    row[PENDING_FIRST] = first_lost
    row[PENDING_LAST] = last_lost
    if row[SNAPSHOT_ID] <= row[LIVE_ID]:
        row[HAS_SNAPSHOT] = 0  # the book had outrun it
    row[WANTED] = np.int64(row[HAS_SNAPSHOT] == 0)
    row[IS_TOUCHED] = 1
    state.totals[TOUCHED_COUNT] = 1
    state.totals[NEEDS_PYTHON] = 1
    counts[Counter.BOOKS_VALID] -= 1
    publish_state(state, out, i, counts, histograms, now_ns)


@njit(cache=True, _nrt=False)
def lose_chain(state, out, i, header, counts, histograms, now_ns):
    """Lose a live book whose diff `header` does not follow the one before (step 5)."""
    counts[Counter.GAPS_SEQUENCE] += 1
    first_lost = state.sync[i, LIVE_ID] + 1
    lose_book(
        state, out, i, _SEQUENCE, first_lost, header[PREVIOUS_ID], header[TS_RECV],
        counts, histograms, now_ns,
    )  # fmt: skip


@njit(cache=True, _nrt=False)
def lose_worthless(state, out, i, status, header, counts, histograms, now_ns):
    """Lose a live book that the diff `header` has made crossed, impossible or too large."""
    if status == CROSSED:
        counts[Counter.BOOKS_CROSSED] += 1
        reason = _CROSSED
    elif status == FULL:
        counts[Counter.BOOKS_OVERFLOWED] += 1
        reason = _RING_FULL
    else:
        counts[Counter.BAD_LEVELS] += 1
        reason = _DECODE
    lose_book(
        state, out, i, reason, header[FIRST_ID], header[LAST_ID], header[TS_RECV],
        counts, histograms, now_ns,
    )  # fmt: skip


@njit(cache=True, _nrt=False)
def on_gap(state, out, gap, counts, histograms, now_ns):
    """Lose the live books that a GAP speaks of; after a reconnect forget their diffs too (step 7).

    Args:
        gap: int64[8], read; the GAP slot.
        Others as in `on_diff`.
    """
    scope = instrument_of(gap[0])
    reason = gap[GAP_REASON]
    is_reconnect = reason == _RECONNECT or reason == _RESTART
    for i in range(state.sync.shape[0]):
        if scope != i and scope != -1:
            continue
        row = state.sync[i]
        if row[IS_LIVE] != 0:
            if is_reconnect:
                counts[Counter.GAPS_RECONNECT] += 1
            elif reason == _DECODE:
                counts[Counter.GAPS_DECODE] += 1
            else:
                counts[Counter.GAPS_LOST] += 1
            lose_book(
                state, out, i, reason, gap[GAP_FIRST], gap[GAP_LAST], gap[TS_RECV],
                counts, histograms, now_ns,
            )  # fmt: skip
        if is_reconnect:
            row[DIFFS_HEAD] = row[DIFFS_TAIL]
            row[EVICTED_COUNT] = 0
            row[WANTED] = 0  # until the new connection has brought a diff
            state.totals[NEEDS_PYTHON] = 1


@njit(cache=True, _nrt=False)
def lose_all(state, out, header, counts, histograms, now_ns):
    """Lose all live books: a slot of the market ring cannot be understood.

    Args:
        header: int64[8], read; that slot.
        Others as in `on_diff`.
    """
    for i in range(state.sync.shape[0]):
        if state.sync[i, IS_LIVE] != 0:
            counts[Counter.GAPS_LOST] += 1
            lose_book(
                state, out, i, _DECODE, _FIRST, _FIRST, header[TS_RECV], counts, histograms, now_ns
            )  # fmt: skip


@njit(cache=True, _nrt=False)
def on_snapshot_begin(state, slots, sequence, counts):
    """Keep a snapshot that is in order and newer than the book and the one at hand.

    Args: as in `on_diff`; `slots` and `sequence` are of the snapshot ring.
    """
    header = slots[sequence & (slots.shape[0] - 1)]
    i = instrument_of(header[0])
    row = state.sync[i]
    row[SNAPSHOT_BEGUN] = -1
    bid_count, ask_count = bid_count_of(header[COUNTS]), ask_count_of(header[COUNTS])
    slot_count = slot_count_of(header[0])
    kept = state.snapshots[i]
    if slot_count > kept.shape[0] or check_snapshot(slots, sequence, bid_count, ask_count) != OK:
        counts[Counter.SNAPSHOTS_REFUSED] += 1
        return
    last_id = header[LAST_ID]
    is_older = last_id <= row[LIVE_ID] if row[IS_LIVE] != 0 else False
    if is_older or (row[HAS_SNAPSHOT] != 0 and last_id < row[SNAPSHOT_ID]):
        counts[Counter.SNAPSHOTS_UNUSED] += 1
        return
    if row[HAS_SNAPSHOT] != 0 and row[IS_LIVE] == 0:
        row[WANTED] = 1  # if the new one's END never comes
    row[HAS_SNAPSHOT] = 0
    row[SNAPSHOT_BEGUN] = last_id
    row[SNAPSHOT_COUNTS] = header[COUNTS]
    for slot in range(slot_count):
        source = (sequence + slot) & (slots.shape[0] - 1)
        for word in range(SLOT_WORDS):
            kept[slot, word] = slots[source, word]


@njit(cache=True, _nrt=False)
def on_snapshot_end(state, out, header, counts, histograms, now_ns):
    """Take a snapshot that has come whole, or count the failure.

    Args:
        header: int64[8], read; the SNAPSHOT_END slot.
        Others as in `on_diff`.
    """
    i = instrument_of(header[0])
    row = state.sync[i]
    row[ANSWERS] += 1
    state.totals[NEEDS_PYTHON] = 1
    if flags_of(header[0]) & FLAG_LAST == 0:
        counts[Counter.SNAPSHOTS_FAILED] += 1
        row[SNAPSHOT_BEGUN] = -1
        return
    counts[Counter.SNAPSHOTS] += 1
    if row[SNAPSHOT_BEGUN] != header[LAST_ID]:
        return  # refused or unused
    row[SNAPSHOT_BEGUN] = -1
    row[SNAPSHOT_ID] = header[LAST_ID]
    row[HAS_SNAPSHOT] = 1
    row[WANTED] = 0
    if row[IS_LIVE] == 0:
        try_sync(state, out, i, counts, histograms, now_ns)

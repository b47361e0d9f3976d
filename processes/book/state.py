"""What the book kernels remember per instrument, and how a market slot's words are read."""

from typing import NamedTuple

import numpy as np
from numba import njit

from common.records import BOOK, DEPTH, GAP, SLOT_WORDS
from processes.book.book import new_books
from processes.book.config import BookConfig

# Words of a market slot; word 0 is kind, flags, slot_count, instrument_id.
TS_RECV, TS_EXCH, FIRST_ID, LAST_ID, PREVIOUS_ID, COUNTS = 1, 2, 3, 4, 5, 6
GAP_FIRST, GAP_LAST, GAP_REASON = 2, 3, 4
assert DEPTH.fields is not None and GAP.fields is not None and BOOK.fields is not None
for _word, _dtype, _field in (
    (TS_RECV, DEPTH, "ts_recv_ns"), (TS_EXCH, DEPTH, "ts_exch_ns"),
    (FIRST_ID, DEPTH, "first_update_id"), (LAST_ID, DEPTH, "last_update_id"),
    (PREVIOUS_ID, DEPTH, "previous_update_id"), (COUNTS, DEPTH, "bid_count"),
    (GAP_FIRST, GAP, "first_lost"), (GAP_LAST, GAP, "last_lost"), (GAP_REASON, GAP, "reason"),
):  # fmt: skip
    assert _dtype.fields is not None and _dtype.fields[_field][1] == 8 * _word, _field
assert DEPTH.fields["ask_count"][1] == 8 * COUNTS + 4

# Words of one instrument's row of State.sync.
IS_LIVE = 0  # 1: the book is valid
LIVE_ID = 1  # u of the last applied diff
LIVE_TS_EXCH = 2
LIVE_TS_RECV = 3
LIVE_SEQUENCE = 4  # of the last applied diff in the market ring
DIFFS_HEAD = 5  # buffer position of the oldest diff kept
DIFFS_TAIL = 6  # behind the newest
EVICTED_COUNT = 7  # diffs pushed out since the last snapshot that fitted
HAS_SNAPSHOT = 8  # 1: a whole snapshot is at hand
SNAPSHOT_ID = 9  # its lastUpdateId
SNAPSHOT_COUNTS = 10  # bid and ask counts, as in a header
SNAPSHOT_BEGUN = 11  # lastUpdateId of the one that waits for its END, -1 none
WANTED = 12  # 1: a snapshot is needed, and none is at hand
ANSWERS = 13  # SNAPSHOT_ENDs read
PENDING_REASON = 14  # GapReason of the GAP not yet published, 0 none
PENDING_FIRST = 15
PENDING_LAST = 16
IS_DIRTY = 17  # 1: the latest state is not yet published: the ring was full
CONFLATED = 18  # states never published, because a newer one replaced them
IS_TOUCHED = 19  # 1: the BBO cell is older than the book
LOST_REASON = 20  # GapReason of the last time that the book became invalid
SYNC_WORDS = 24

# Words of State.totals.
NEEDS_PYTHON = 0  # 1: validity, a want or an answer changed
DIRTY_COUNT = 1
TOUCHED_COUNT = 2
TOTALS = 8

_LOW_32 = (1 << 32) - 1


class State(NamedTuple):
    """All that the kernels of one book process change, but for rings, tables and counters.

    Attributes:
        books: int64[m], see book.new_books.
        sync: int64[n, SYNC_WORDS].
        totals: int64[TOTALS].
        diffs: int64[n, diff_slots_max, 8], per instrument a circle of whole messages.
        diff_sequences: int64[n, diff_slots_max], market sequence of the header at that place.
        snapshots: int64[n, snapshot_slots_max, 8], per instrument the header and levels of one.
        levels: int64[4 * levels_published], scratch: best bids, then best asks.
        diffs_read, snapshots_read: the same bytes, read-only as a ring's slots are, so that what
            reads either is compiled once.
    """

    books: np.ndarray
    sync: np.ndarray
    totals: np.ndarray
    diffs: np.ndarray
    diff_sequences: np.ndarray
    snapshots: np.ndarray
    levels: np.ndarray
    diffs_read: np.ndarray
    snapshots_read: np.ndarray


def new_state(count: int, config: BookConfig) -> State:
    """Return the state of `count` instruments, all books empty and invalid."""
    sync = np.zeros((count, SYNC_WORDS), np.int64)
    sync[:, SNAPSHOT_BEGUN] = -1
    diffs = np.zeros((count, config.diff_slots_max, SLOT_WORDS), np.int64)
    snapshots = np.zeros((count, config.snapshot_slots_max, SLOT_WORDS), np.int64)
    return State(
        books=new_books(count, config.window_steps, config.levels_max),
        sync=sync,
        totals=np.zeros(TOTALS, np.int64),
        diffs=diffs,
        diff_sequences=np.zeros((count, config.diff_slots_max), np.int64),
        snapshots=snapshots,
        levels=np.zeros(4 * config.levels_published, np.int64),
        diffs_read=_read_only(diffs),
        snapshots_read=_read_only(snapshots),
    )


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


@njit(cache=True, _nrt=False, forceinline=True)
def kind_of(word):
    """Return the MarketKind in a slot's word 0."""
    return word & 255


@njit(cache=True, _nrt=False, forceinline=True)
def flags_of(word):
    """Return the flags in a slot's word 0."""
    return (word >> 8) & 255


@njit(cache=True, _nrt=False, forceinline=True)
def slot_count_of(word):
    """Return the slots of the message in a header slot's word 0."""
    return (word >> 16) & 65_535


@njit(cache=True, _nrt=False, forceinline=True)
def instrument_of(word):
    """Return the instrument_id in a slot's word 0; -1 all."""
    return word >> 32


@njit(cache=True, _nrt=False, forceinline=True)
def bid_count_of(counts):
    """Return the bid levels in a DEPTH header's word COUNTS."""
    return counts & _LOW_32


@njit(cache=True, _nrt=False, forceinline=True)
def ask_count_of(counts):
    """Return the ask levels in a DEPTH header's word COUNTS."""
    return counts >> 32


@njit(cache=True, _nrt=False, forceinline=True)
def header_word(kind, flags, slot_count, instrument):
    """Return a slot's word 0."""
    return kind | flags << 8 | slot_count << 16 | instrument << 32

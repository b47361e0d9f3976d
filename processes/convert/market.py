"""Rows to market slots: trades, best prices, and messages of levels.

Files without update ids get made ones: microseconds of the receive time, or one more than the one
before. `first_update_id` of a diff is the id before it, so that the first diff behind a snapshot
straddles it, as the venue's rule wants. A snapshot that comes while there is a book is told by a
GAP (reason RECONNECT) before it: what was known until then is void.
"""

import numpy as np
from numba import njit

from common.enums import GapReason, MarketKind
from common.records import (
    BBO,
    FLAG_LAST,
    GAP,
    LEVEL_WORD,
    LEVELS_PER_SLOT,
    SLOT_WORDS,
    TRADE,
)
from processes.convert.columns import (
    ASK_PRICE,
    ASK_QTY,
    BID_PRICE,
    BID_QTY,
    ID,
    ID_FIRST,
    ID_LAST,
    INSTRUMENT,
    IS_SNAPSHOT,
    PRICE,
    QTY,
    SIDE,
    TOP_FIRST,
    TS_EXCH,
    TS_RECV,
    UPDATE_ID,
)

INT32_MAX = 2**31 - 1
GROUP_LEVELS_MAX = 45_000  # of one message: what a book process takes at once
# What a row of LEVELS is; word IS_SNAPSHOT.
DIFF, SNAPSHOT, PRINT = 0, 1, 2
# Words of a book's state, one row per instrument.
LAST_ID, HAS_BOOK, WAS_SNAPSHOT = 0, 1, 2
BOOK_WORDS = 4

_DIFF_BEGIN, _LEVELS, _TRADE = (
    np.int64(kind) for kind in (MarketKind.DIFF_BEGIN, MarketKind.LEVELS, MarketKind.TRADE)
)
_SNAPSHOT_BEGIN, _SNAPSHOT_END = (
    np.int64(kind) for kind in (MarketKind.SNAPSHOT_BEGIN, MarketKind.SNAPSHOT_END)
)
_GAP, _RECONNECT = np.int64(MarketKind.GAP), np.int64(GapReason.RECONNECT)
_FLAG_LAST = np.int64(FLAG_LAST)


class Numbers:
    """Running numbers for what has none in its file, per instrument."""

    def __init__(self) -> None:
        self._last: dict[int, int] = {}

    def fill(self, ids: np.ndarray, instruments: np.ndarray) -> None:
        """Replace every -1 by the next number of its instrument."""
        missing = np.flatnonzero(ids == -1)
        for instrument in np.unique(instruments[missing]).tolist():
            places = missing[instruments[missing] == instrument]
            last = self._last.get(instrument, 0)
            ids[places] = np.arange(last + 1, last + 1 + len(places))
            self._last[instrument] = last + len(places)


def trade_slots(rows: np.ndarray, kind: MarketKind, numbers: Numbers) -> np.ndarray:
    """Return one TRADE slot per row.

    Args:
        rows: int64[n, words] of Shape.TRADES; ids that are no number are -1.
        kind: TRADE or AGG_TRADE.

    Returns:
        int64[n, 8], market slots.
    """
    slots = np.zeros(len(rows), TRADE)
    slots["kind"] = kind
    slots["slot_count"] = 1
    slots["instrument_id"] = rows[:, INSTRUMENT]
    slots["ts_recv_ns"] = rows[:, TS_RECV]
    slots["ts_exch_ns"] = rows[:, TS_EXCH]
    slots["price_steps"] = rows[:, PRICE]
    slots["qty_steps"] = rows[:, QTY]
    slots["aggressor_side"] = rows[:, SIDE]
    ids = rows[:, ID].copy()
    numbers.fill(ids, rows[:, INSTRUMENT])
    slots["trade_id"] = ids
    if kind == MarketKind.AGG_TRADE:
        slots["trade_count"] = np.clip(rows[:, ID_LAST] - rows[:, ID_FIRST] + 1, 1, INT32_MAX)
    else:
        slots["trade_count"] = 1
    return words_of(slots)


def bbo_slots(rows: np.ndarray, numbers: Numbers) -> np.ndarray:
    """Return one BBO slot per row of Shape.BBOS; an empty side is 0."""
    slots = np.zeros(len(rows), BBO)
    slots["kind"] = MarketKind.BBO
    slots["slot_count"] = 1
    slots["instrument_id"] = rows[:, INSTRUMENT]
    slots["ts_recv_ns"] = rows[:, TS_RECV]
    slots["ts_exch_ns"] = rows[:, TS_EXCH]
    ids = rows[:, UPDATE_ID].copy()
    numbers.fill(ids, rows[:, INSTRUMENT])
    slots["update_id"] = ids
    for name, word in (
        ("bid_price_steps", BID_PRICE),
        ("bid_qty_steps", BID_QTY),
        ("ask_price_steps", ASK_PRICE),
        ("ask_qty_steps", ASK_QTY),
    ):
        slots[name] = rows[:, word]
    return words_of(slots)


def words_of(slots: np.ndarray) -> np.ndarray:
    """Return records of 64 bytes as int64[n, 8]."""
    return slots.view(np.int64).reshape(-1, SLOT_WORDS)


def group_starts(rows: np.ndarray, is_by_side: bool) -> np.ndarray:
    """Return where the messages begin: rows of one instrument, kind, and time, ours and theirs.

    Args:
        rows: int64[n, words] of Shape.LEVELS.
        is_by_side: an ask is never before a bid of its message.
    """
    before, after = rows[:-1], rows[1:]
    is_new = (
        (before[:, INSTRUMENT] != after[:, INSTRUMENT])
        | (before[:, TS_RECV] != after[:, TS_RECV])
        | (before[:, TS_EXCH] != after[:, TS_EXCH])
        | (before[:, IS_SNAPSHOT] != after[:, IS_SNAPSHOT])
        | (after[:, IS_SNAPSHOT] == PRINT)
    )
    if is_by_side:
        is_new |= before[:, SIDE] < after[:, SIDE]
    starts = np.concatenate(([0], 1 + np.flatnonzero(is_new)))
    lengths = np.diff(starts, append=len(rows))
    if lengths.max(initial=0) <= GROUP_LEVELS_MAX:
        return starts
    parts = [
        np.arange(start, start + length, GROUP_LEVELS_MAX)
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)
    ]
    return np.concatenate(parts)


@njit(cache=True)
def next_id(book, ts_recv_ns):
    """Return a made update id, and remember it."""
    book[LAST_ID] = max(ts_recv_ns // 1000, book[LAST_ID] + 1)
    return book[LAST_ID]


@njit(cache=True)
def write_header(slots, at, kind, flags, instrument, ts_recv_ns, ts_exch_ns, first, last, previous,
                 bid_count, ask_count):  # fmt: skip
    """Write a DEPTH header for the message that begins at slot `at`; returns its slot count."""
    slot_count = 1 + (bid_count + ask_count + LEVELS_PER_SLOT - 1) // LEVELS_PER_SLOT
    slots[at, 0] = kind | flags << 8 | slot_count << 16 | instrument << 32
    slots[at, 1] = ts_recv_ns
    slots[at, 2] = ts_exch_ns
    slots[at, 3] = first
    slots[at, 4] = last
    slots[at, 5] = previous
    slots[at, 6] = bid_count | ask_count << 32
    slots[at, 7] = 0
    return slot_count


@njit(cache=True)
def write_level(slots, at, level, instrument, ts_recv_ns, price, qty):
    """Write level number `level` of the message whose header is at slot `at`."""
    slot = at + 1 + level // LEVELS_PER_SLOT
    word = LEVEL_WORD + 2 * (level % LEVELS_PER_SLOT)
    if word == LEVEL_WORD:
        slots[slot, 0] = _LEVELS | instrument << 32
        slots[slot, 1] = ts_recv_ns
        for i in range(LEVEL_WORD, SLOT_WORDS):
            slots[slot, i] = 0
    slots[slot, word] = price
    slots[slot, word + 1] = qty


@njit(cache=True)
def write_gap(slots, at, instrument, ts_recv_ns):
    """Write a GAP that voids the book of an instrument."""
    slots[at, 0] = _GAP | 1 << 16 | instrument << 32
    slots[at, 1] = ts_recv_ns
    slots[at, 2] = slots[at, 3] = 0
    slots[at, 4] = _RECONNECT
    slots[at, 5] = ts_recv_ns
    slots[at, 6] = slots[at, 7] = 0


@njit(cache=True)
def begin_message(slots, at, book, is_snapshot, instrument, ts_recv_ns, ts_exch_ns, bids, asks):
    """Write what stands before the levels of a message: a GAP if need be, and the header.

    Args:
        book: int64[BOOK_WORDS], changed.
        is_snapshot: True: what is known of the book is void.

    Returns:
        Where the header is.
    """
    if is_snapshot and book[HAS_BOOK] != 0:
        write_gap(slots, at, instrument, ts_recv_ns)
        at += 1
    before = book[LAST_ID]
    update_id = next_id(book, ts_recv_ns)
    if is_snapshot:
        book[HAS_BOOK] = 1
        write_header(
            slots, at, _SNAPSHOT_BEGIN, 0, instrument, ts_recv_ns, ts_exch_ns, 0, update_id, 0,
            bids, asks,
        )  # fmt: skip
    else:
        write_header(
            slots, at, _DIFF_BEGIN, 0, instrument, ts_recv_ns, ts_exch_ns, before, update_id,
            before, bids, asks,
        )  # fmt: skip
    return at


@njit(cache=True)
def end_snapshot(slots, at, header):
    """Write the SNAPSHOT_END at slot `at` of the snapshot whose header is at slot `header`."""
    for word in range(SLOT_WORDS):
        slots[at, word] = slots[header, word]
    instrument = slots[header, 0] >> 32
    slots[at, 0] = _SNAPSHOT_END | _FLAG_LAST << 8 | 1 << 16 | instrument << 32


@njit(cache=True)
def write_messages(rows, starts, books, slots):
    """Write the messages that rows of levels, and prints among them, make.

    A snapshot voids the book only if the rows before it were none; its zero quantities are no
    levels. Bids come before asks, each in the order of their rows.

    Args:
        rows: int64[n, words], read. Of Shape.LEVELS, whole messages.
        starts: int64[m], read. Where each message begins.
        books: int64[instruments, BOOK_WORDS], changed.
        slots: int64[4 * n + 4, 8], changed.

    Returns:
        Slots written.
    """
    at = 0
    for group in range(starts.shape[0]):
        first = starts[group]
        end = starts[group + 1] if group + 1 < starts.shape[0] else rows.shape[0]
        row = rows[first]
        instrument, ts_recv_ns, ts_exch_ns = row[INSTRUMENT], row[TS_RECV], row[TS_EXCH]
        if row[IS_SNAPSHOT] == PRINT:
            slots[at, 0] = _TRADE | 1 << 16 | instrument << 32
            slots[at, 1] = ts_recv_ns
            slots[at, 2] = ts_exch_ns
            slots[at, 3], slots[at, 4], slots[at, 5] = row[PRICE], row[QTY], row[ID]
            slots[at, 6] = (row[SIDE] & 0xFF) | 1 << 32  # trade_count
            slots[at, 7] = 0
            at += 1
            continue
        book = books[instrument]
        is_snapshot = row[IS_SNAPSHOT] == SNAPSHOT
        voids = is_snapshot and book[WAS_SNAPSHOT] == 0
        book[WAS_SNAPSHOT] = np.int64(is_snapshot)
        bids, asks = 0, 0
        for i in range(first, end):
            if rows[i, QTY] != 0 or not is_snapshot:
                bids += np.int64(rows[i, SIDE] > 0)
                asks += np.int64(rows[i, SIDE] < 0)
        header = begin_message(
            slots, at, book, voids, instrument, ts_recv_ns, ts_exch_ns, bids, asks
        )
        level = 0
        for side in (1, -1):
            for i in range(first, end):
                if rows[i, SIDE] == side and (rows[i, QTY] != 0 or not is_snapshot):
                    price, qty = rows[i, PRICE], rows[i, QTY]
                    write_level(slots, header, level, instrument, ts_recv_ns, price, qty)
                    level += 1
        at = header + 1 + (level + LEVELS_PER_SLOT - 1) // LEVELS_PER_SLOT
        if voids:
            end_snapshot(slots, at, header)
            at += 1
    return at


@njit(cache=True)
def find_price(levels, count, price):
    """Return where a price is among the first `count` of int64[n, 2], or -1."""
    for i in range(count):
        if levels[i, 0] == price:
            return i
    return -1


@njit(cache=True)
def change_side(now, now_count, shown, shown_count, changes):
    """Write what turns the levels shown before into those shown now.

    Args:
        now, shown: int64[n, 2], read. Price, quantity.
        changes: int64[2 * n, 2], changed.

    Returns:
        How many changes there are.
    """
    count = 0
    for i in range(shown_count):
        if find_price(now, now_count, shown[i, 0]) < 0:
            changes[count, 0], changes[count, 1] = shown[i, 0], 0
            count += 1
    for i in range(now_count):
        place = find_price(shown, shown_count, now[i, 0])
        if place < 0 or shown[place, 1] != now[i, 1]:
            changes[count, 0], changes[count, 1] = now[i, 0], now[i, 1]
            count += 1
    return count


@njit(cache=True)
def write_tops(rows, books, shown, shown_counts, changes, slots):
    """Write the messages that turn one top of the book into the next.

    The first row of an instrument is a snapshot, and an empty diff that makes it valid; each other
    one a diff, in which a level that is not among the best any more has gone.

    Args:
        rows: int64[n, words], read. Of Shape.TOPS.
        books: int64[instruments, BOOK_WORDS], changed.
        shown: int64[instruments, 2, depth, 2], changed. The levels of the row before.
        shown_counts: int64[instruments, 2], changed.
        changes: int64[3, 2, 2 * depth, 2], changed. Scratch.
        slots: int64[n * slots_per_top(depth), 8], changed.

    Returns:
        Slots written.
    """
    at = 0
    depth = shown.shape[2]
    for r in range(rows.shape[0]):
        row = rows[r]
        instrument, ts_recv_ns, ts_exch_ns = row[INSTRUMENT], row[TS_RECV], row[TS_EXCH]
        book = books[instrument]
        is_first = book[HAS_BOOK] == 0
        for side in range(2):  # bids, asks
            count = 0
            for level in range(depth):
                word = TOP_FIRST + 4 * level + (2 if side == 0 else 0)
                if row[word] != 0 and row[word + 1] != 0:
                    changes[0, side, count, 0] = row[word]
                    changes[0, side, count, 1] = row[word + 1]
                    count += 1
            changes[2, side, 0, 0] = count
            changes[2, side, 0, 1] = change_side(
                changes[0, side], count, shown[instrument, side], shown_counts[instrument, side],
                changes[1, side],
            )  # fmt: skip
        bids, asks = changes[2, 0, 0, 1], changes[2, 1, 0, 1]
        header = begin_message(
            slots, at, book, is_first, instrument, ts_recv_ns, ts_exch_ns, bids, asks
        )
        level = 0
        for side in range(2):
            for i in range(changes[2, side, 0, 1]):
                price, qty = changes[1, side, i, 0], changes[1, side, i, 1]
                write_level(slots, header, level, instrument, ts_recv_ns, price, qty)
                level += 1
            shown_counts[instrument, side] = changes[2, side, 0, 0]
            for i in range(changes[2, side, 0, 0]):
                shown[instrument, side, i, 0] = changes[0, side, i, 0]
                shown[instrument, side, i, 1] = changes[0, side, i, 1]
        at = header + 1 + (level + LEVELS_PER_SLOT - 1) // LEVELS_PER_SLOT
        if is_first:
            end_snapshot(slots, at, header)
            at = 1 + begin_message(
                slots, at + 1, book, False, instrument, ts_recv_ns, ts_exch_ns, 0, 0
            )
    return at


def slots_per_top(depth: int) -> int:
    """Return the slots that one row of Shape.TOPS takes at most."""
    return 4 + -(-4 * depth // LEVELS_PER_SLOT)


@njit(cache=True)
def find_messages(slots, starts):
    """Write where the messages in a run of whole ones begin; returns how many there are.

    Args:
        slots: int64[n, 8], read.
        starts: int64[n], changed.
    """
    at, count = 0, 0
    while at < slots.shape[0]:
        starts[count] = at
        count += 1
        at += max((slots[at, 0] >> 16) & 0xFFFF, 1)
    return count


assert GAP.itemsize == 8 * SLOT_WORDS

"""A market known order by order: what happened to the orders of others, made ready for the loop.

hftbacktest's event arrays tell it in four kinds of rows, by order id. ADD: an order is on the book.
MODIFY: it has this price and this rest; it keeps its place in the queue if the price is the same
and the rest no larger. CANCEL: it is gone, whatever price and quantity the row gives. FILL: so much
of it was filled, by a taker that has no row. Behind a FILL may stand the MODIFY or CANCEL that
takes what was filled off the book, as hftbacktest needs it, or nothing: the rest is known.

Rows that contradict the history are left out and counted in the notes: an id that is added while
its order rests, an id that is not there, an ADD or FILL of nothing. Counted and kept: a FILL of
more than its order had; an ADD or MODIFY through the other side. That one takes at once, and if the
data tell its FILLs too, they are taken a second time: such data say that takers have rows.

Here, what the strategy sees is the history's levels, as with L2 data: neither our orders nor what
they displaced. At the venue a tape row also says which order it is about and what it had before.
"""

import numpy as np
from numba import njit

from common.enums import Side
from common.errors import UsageError
from processes.backtest import ladder as book
from processes.backtest.events import (
    AT_LOCAL,
    AT_VENUE,
    CODE,
    EVENT,
    LEVEL_SHIFT,
    QTY,
    ROW,
    TAPE_WORDS,
    TS,
    EventKind,
)
from processes.venue.engine import QTY_STEPS_MAX

# Further words of a venue tape.
REF = 4  # which order, counted over all instruments
BEFORE = 5  # what the history's order had before the event
VENUE_WORDS = 6

# Columns of what is known of an order.
LEVEL, LEFT, SIDE = 0, 1, 2
UNKNOWN = -1  # as level

# Places of the counts.
TWICE, STRANGER, EMPTY, BEYOND, CROSSING, DEPTH = range(6)
NOTES = {
    TWICE: "orders_added_twice",
    STRANGER: "orders_unknown",
    EMPTY: "orders_without_price_or_quantity",
    BEYOND: "fills_beyond_their_order",
    CROSSING: "orders_crossing_the_history",
    DEPTH: "depth_events_unused",
}


def choose_kinds(parts: list[np.ndarray], is_by_order: bool, notes: dict[str, int]) -> None:
    """Refuse data that do not fit the exchange model; drop rows of the kind that it does not use.

    Args:
        parts: EVENT[m] of each instrument, changed.
        is_by_order: the model needs orders, else levels.
        notes: changed.

    Raises:
        UsageError: orders are wanted and there are levels only, or the other way round; an order
            is larger than the venue's engine takes.
    """
    for part in parts:
        is_order = part["kind"] >= EventKind.ADD
        is_level = part["kind"] == EventKind.DEPTH
        has_orders, has_levels = bool(np.any(is_order)), bool(np.any(is_level))
        if is_by_order and not has_orders and np.any(part["kind"]):
            raise UsageError(
                "--data: levels only, expected single orders (ADD, CANCEL, MODIFY, FILL in"
                ' an .npz) with backtest.exchange = "order-by-order"; for levels choose'
                ' "no-partial-fill" or "partial-fill"'
            )
        large = np.flatnonzero(is_order & (part["qty_steps"] > QTY_STEPS_MAX))
        if is_by_order and len(large):
            raise UsageError(
                f"--data: event {large[0]}: quantity of {part['qty_steps'][large[0]]} steps,"
                f" expected at most {QTY_STEPS_MAX}; check lot_size of the instrument"
            )
        if not is_by_order and has_orders:
            if not has_levels:
                raise UsageError(
                    "--data: single orders only (ADD, CANCEL, MODIFY, FILL), expected levels"
                    ' (DEPTH); for orders choose backtest.exchange = "order-by-order"'
                )
            used = part["flags"][is_order] != 0
            notes["other_events"] = notes.get("other_events", 0) + int(np.count_nonzero(used))
            part["kind"][is_order] = 0


def tapes_of(
    events: np.ndarray,
    spans: list[tuple[int, int]],
    prices: np.ndarray,
    price_spans: list[tuple[int, int]],
) -> tuple[list[tuple[np.ndarray, np.ndarray]], dict[str, int]]:
    """Return the tapes here and at the venue with each instrument's part of them, and the notes."""
    counts = np.zeros((2, len(NOTES)), np.int64)
    refs, ref_ends = _refs_of(events, spans)
    tapes: list[tuple[np.ndarray, np.ndarray]] = []
    for is_venue, flag in enumerate((AT_LOCAL, AT_VENUE)):
        parts, ends, end = [], [], 0
        for i, (first, last) in enumerate(spans):
            rows = first + np.flatnonzero(events["flags"][first:last] & flag)
            moves = int(np.count_nonzero(events["kind"][rows] == EventKind.MODIFY))
            tape = np.zeros((len(rows) + moves, VENUE_WORDS if is_venue else TAPE_WORDS), np.int64)
            known = np.zeros((ref_ends[i + 1] - ref_ends[i], 3), np.int64)
            known[:, LEVEL] = UNKNOWN
            span = np.array(price_spans[i : i + 1], np.int64)
            ladder, _ = book.new_ladders(span, np.ones(1, np.int64), 0)
            used = write_tape(
                events, rows, refs, is_venue, known, ladder, prices, counts[is_venue], tape
            )
            if is_venue:
                tape[:, REF] += ref_ends[i]
            parts.append(tape[:used])
            ends.append((end, end + used))
            end += used
        whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
        tapes.append((whole, np.array(ends, np.int64)))
    return tapes, {name: int(counts[1, k]) for k, name in NOTES.items() if counts[1, k]}


def _refs_of(events: np.ndarray, spans: list[tuple[int, int]]) -> tuple[np.ndarray, list[int]]:
    """Number each instrument's order ids: (int64[m], a number per event; where they end)."""
    refs = np.zeros(len(events), np.int64)
    ends = [0]
    for first, last in spans:
        rows = first + np.flatnonzero(events["kind"][first:last] >= EventKind.ADD)
        ids, refs[rows] = np.unique(events["trade_id"][rows], return_inverse=True)
        ends.append(ends[-1] + len(ids))
    return refs, ends


def resting_rows(before: np.ndarray) -> np.ndarray:
    """Return an ADD row for each order that rests behind the events of one instrument.

    They are in the order of their places in the queues.

    Args:
        before: EVENT[m] of one of the two orders, with their levels; read.
    """
    refs, ends = _refs_of(before, [(0, len(before))])
    known = np.zeros((ends[-1], 3), np.int64)
    known[:, LEVEL] = UNKNOWN
    since = np.zeros(ends[-1], np.int64)
    find_places(before, refs, known, since, np.zeros(len(NOTES), np.int64))
    resting = np.flatnonzero(known[:, LEFT] > 0)
    resting = resting[np.argsort(since[resting])]
    rows = np.zeros(len(resting), EVENT)
    for name in ("instrument_id", "price_steps", "trade_id"):
        rows[name] = before[name][since[resting]]
    rows["kind"], rows["side"] = EventKind.ADD, known[resting, SIDE]
    rows["qty_steps"] = known[resting, LEFT]
    return rows


@njit(cache=True, _nrt=False)
def find_places(events, refs, known, since, counts):
    """Follow the history of one instrument.

    Args:
        events: EVENT[m], read.
        refs: int64[m], which order each event is about.
        known: int64[r, 3], changed: what is known of each order.
        since: int64[r], changed: the event that gave the order its place in the queue.
        counts: int64[len(NOTES)], changed.
    """
    for k in range(events.shape[0]):
        kind = np.int64(events[k]["kind"])
        if kind == EventKind.CLEAR:
            forget(known, np.int64(events[k]["side"]))
        if kind < EventKind.ADD:
            continue
        ref = refs[k]
        level, left = known[ref, LEVEL], known[ref, LEFT]
        kind = follow(events[k], known[ref], counts)
        is_new = kind == EventKind.ADD or kind == EventKind.MODIFY
        if is_new and (known[ref, LEVEL] != level or known[ref, LEFT] > left):
            since[ref] = k


@njit(cache=True, _nrt=False)
def write_tape(events, rows, refs, is_venue, known, ladder, prices, counts, tape):
    """Follow the history of one instrument in one of its two orders and write its tape.

    Args:
        events: EVENT[m], read.
        rows: int64[k], places of the events, in order.
        refs: int64[m], which order of the instrument each event is about.
        is_venue: 1: as it happens at the venue; 0: as it is seen here, in levels.
        known: int64[r, 3], changed: what is known of each order.
        ladder: the history's levels (ladder.py), changed.
        prices: int64[n], read.
        counts: int64[len(NOTES)], changed.
        tape: int64[k and 1 more per MODIFY, words], zeros, changed.

    Returns:
        How many rows of the tape are used.
    """
    used = 0
    for row in rows:
        event = events[row]
        kind, side = np.int64(event["kind"]), np.int64(event["side"])
        ts = event["ts_exch_ns"] if is_venue else event["ts_recv_ns"]
        used = write_row(tape, used, ts, row)
        out = tape[used - 1]
        if kind >= EventKind.ADD:
            ref = refs[row]
            old_level, old_left = known[ref, LEVEL], known[ref, LEFT]
            kind = follow(event, known[ref], counts)
            if kind == 0:
                continue
            level, left, side = known[ref, LEVEL], known[ref, LEFT], known[ref, SIDE]
            if is_venue:
                write_order(out, event, kind, known[ref], ref, old_left)
                if level != old_level and is_crossing(ladder, side, level):
                    counts[CROSSING] += 1
            if old_level == level:
                total = shift(ladder, side, level, left - old_left)
            elif old_level != UNKNOWN:
                total = shift(ladder, side, old_level, -old_left)
                if not is_venue and level != UNKNOWN and old_left > 0:
                    write_level(out, side, old_level, total)
                    used = write_row(tape, used, ts, row)
                    out = tape[used - 1]
            if level != UNKNOWN and old_level != level:
                total = shift(ladder, side, level, left)
            if not is_venue:
                write_level(out, side, level if level != UNKNOWN else old_level, total)
        elif kind == EventKind.CLEAR:
            book.clear(ladder, prices, 0, side, np.int64(book.NONE))
            forget(known, side)
            out[CODE] = code_of(np.int64(book.NONE), kind, side)
        elif kind == EventKind.DEPTH:
            counts[DEPTH] += 1
        elif kind == EventKind.FUNDING or (kind == EventKind.TRADE and not is_venue):
            out[QTY] = event["qty_steps"]
            out[CODE] = code_of(np.int64(event["level"]), kind, side)
    return used


@njit(cache=True, _nrt=False)
def follow(event, order, counts):
    """Take an event into what is known of its order; return its kind, or 0 if it is left out."""
    kind = np.int64(event["kind"])
    qty, left = event["qty_steps"], order[LEFT]
    if kind != EventKind.ADD and order[LEVEL] == UNKNOWN:
        counts[STRANGER] += 1
        return 0
    if kind == EventKind.ADD and left > 0:
        counts[TWICE] += 1
        return 0
    if kind == EventKind.MODIFY and qty == 0:
        kind = np.int64(EventKind.CANCEL)
    if kind == EventKind.CANCEL:
        order[LEVEL], order[LEFT] = UNKNOWN, 0
        return kind
    if qty == 0 or (kind != EventKind.FILL and event["price_steps"] == 0):
        counts[EMPTY] += 1
        return 0
    if kind == EventKind.FILL:
        counts[BEYOND] += np.int64(qty > left)
        order[LEFT] = max(left - qty, 0)
        return kind
    order[LEVEL], order[LEFT] = event["level"], qty
    if kind == EventKind.ADD:
        order[SIDE] = event["side"]
    return kind


@njit(cache=True, _nrt=False)
def forget(known, side):
    """Forget the orders of a side; 0: of both."""
    for ref in range(known.shape[0]):
        if side == 0 or known[ref, SIDE] == side:
            known[ref, LEVEL], known[ref, LEFT] = UNKNOWN, 0


@njit(cache=True, _nrt=False)
def is_crossing(ladder, side, level):
    """Return True if an order would take in the history's own book."""
    if level == UNKNOWN:
        return False
    if side == Side.BID:
        return level >= ladder[book.BEST_ASK]
    return level <= ladder[book.BEST_BID]


@njit(cache=True, _nrt=False)
def shift(ladder, side, level, by):
    """Change the quantity of a level; return the new one."""
    if side == Side.BID:
        total = ladder[ladder[book.BID_QTY] + level] + by
        book.set_bid(ladder, 0, level, total)
    else:
        total = ladder[ladder[book.ASK_QTY] + level] + by
        book.set_ask(ladder, 0, level, total)
    return total


@njit(cache=True, _nrt=False, forceinline=True)
def code_of(level, kind, side):
    """Return the word CODE of a tape."""
    return level << LEVEL_SHIFT | kind << 2 | side + 1


@njit(cache=True, _nrt=False)
def write_row(tape, used, ts, row):
    """Begin one more row of a tape; return how many there are then."""
    tape[used, TS], tape[used, ROW] = ts, row
    return used + 1


@njit(cache=True, _nrt=False)
def write_level(out, side, level, total):
    """Write the new quantity of a level into a row of the tape that is seen here."""
    out[QTY] = total
    out[CODE] = code_of(level, np.int64(EventKind.DEPTH), side)


@njit(cache=True, _nrt=False)
def write_order(out, event, kind, order, ref, before):
    """Write what happened to an order into a row of the venue's tape.

    A FILL has its own price; without one, that of its order.
    """
    level = order[LEVEL]
    if kind == EventKind.FILL and event["price_steps"] > 0:
        level = np.int64(event["level"])
    out[QTY] = event["qty_steps"]
    out[CODE] = code_of(level, kind, order[SIDE])
    out[REF] = ref
    out[BEFORE] = before

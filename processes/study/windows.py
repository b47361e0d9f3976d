"""A part of the data by time, with the books as they stood at its beginning, and nothing later."""

from typing import Any

import numpy as np

from common.enums import Side
from processes.backtest.events import AT_LOCAL, AT_VENUE, EVENT, EventKind
from processes.backtest.history import resting_rows
from processes.backtest.tapes import Data, assemble


def span_of(data: Data) -> tuple[int, int]:
    """Return the local time of the first event and one past that of the last."""
    times = data.events["ts_recv_ns"][data.events["flags"] & AT_LOCAL != 0]
    return (int(times.min()), int(times.max()) + 1) if len(times) else (0, 0)


def cut(setup: Any, data: Data, first_ns: int, end_ns: int) -> Data:
    """Return what happens at the venue, and what is seen here, in [first, end).

    It begins with both books: the venue's at `first_ns`, and the one seen here then. An event that
    happened before and is seen after the beginning is only seen; one that happens before the end
    and would be seen after it only happens.

    Args:
        setup: has the instruments of `data`.
        data: read.
    """
    parts = [cut_rows(data.events[first:end], first_ns, end_ns) for first, end in data.spans]
    return assemble(parts, setup.instruments, {})


def cut_rows(rows: np.ndarray, first_ns: int, end_ns: int) -> np.ndarray:
    """Cut EVENT rows of one instrument, in both orders."""
    flags = np.zeros(len(rows), np.uint8)
    for flag, field in ((AT_VENUE, "ts_exch_ns"), (AT_LOCAL, "ts_recv_ns")):
        is_inside = (rows[field] >= first_ns) & (rows[field] < end_ns)
        flags |= np.where(is_inside, rows["flags"] & flag, 0).astype(np.uint8)
    kept = rows[flags != 0].copy()
    kept["flags"] = flags[flags != 0]
    at_venue = book_rows(rows, AT_VENUE, "ts_exch_ns", first_ns)
    at_local = book_rows(rows, AT_LOCAL, "ts_recv_ns", first_ns)
    return np.concatenate([at_venue, at_local, kept])


def book_rows(rows: np.ndarray, flag: int, field: str, first_ns: int) -> np.ndarray:
    """Return a row for each order, or a DEPTH row for each level, of the book before `first_ns`.

    Orders are in the order of their places in the queues. Levels are in the order of their last
    change, so that of two levels that cross the newer one wins again. A partial CLEAR removes all
    levels up to its price, those too that cross.
    """
    before = rows[(rows["flags"] & flag != 0) & (rows[field] < first_ns)]
    if np.any(rows["kind"] >= EventKind.ADD):
        return _at(resting_rows(before), flag, first_ns)
    depth = np.flatnonzero(before["kind"] == EventKind.DEPTH)
    keys = 2 * before["level"][depth] + (before["side"][depth] == Side.BID)
    of_level = np.full(int(keys.max(initial=-1)) + 1, -1)
    of_level[keys] = depth  # of equal keys the last one stays
    last = np.sort(of_level[of_level >= 0])
    last = last[before["qty_steps"][last] > 0]
    for place in np.flatnonzero(before["kind"] == EventKind.CLEAR):
        last = last[~_is_cleared(before, last, int(place))]
    book = np.zeros(len(last), EVENT)
    for name in ("kind", "side", "instrument_id", "price_steps", "qty_steps"):
        book[name] = before[name][last]
    return _at(book, flag, first_ns)


def _at(book: np.ndarray, flag: int, first_ns: int) -> np.ndarray:
    """Return rows that happen, or are seen, at `first_ns`."""
    book["flags"] = flag
    book["ts_exch_ns"] = book["ts_recv_ns"] = first_ns
    return book


def _is_cleared(before: np.ndarray, levels: np.ndarray, place: int) -> np.ndarray:
    """Return which of the levels, set before the CLEAR at `place`, it removes."""
    side, price = int(before["side"][place]), int(before["price_steps"][place])
    sides, prices = before["side"][levels], before["price_steps"][levels]
    removed = levels < place
    if side != 0:
        removed &= sides == side
        if price > 0:
            removed &= np.where(sides == Side.BID, prices >= price, prices <= price)
    return removed

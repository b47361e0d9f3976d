"""The engine's native input: a flat array of 64-byte events per instrument, in two orders at once.

An event happens at the venue at ts_exch_ns and is seen here at ts_recv_ns. A row with both flags
stands at a place that is right for both; where the two orders disagree, an event is two rows, one
for each side. So the rows with AT_VENUE ascend in ts_exch_ns, those with AT_LOCAL in ts_recv_ns.
That is hftbacktest's layout too; its arrays are taken as they are.
"""

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numba import njit

from common.errors import UsageError
from common.instruments import Instrument
from common.layout import record

AT_VENUE = 1
AT_LOCAL = 2

EVENT = record(
    "EVENT", 64, "backtest",
    (0, "kind", "u1", "EventKind"),
    (1, "flags", "u1", "AT_VENUE, AT_LOCAL"),
    (2, "side", "i1", "Side of the level, or of the taker; CLEAR: 0 both"),
    (3, "reserved", "u1", "zero"),
    (4, "instrument_id", "<i4", "index into INSTRUMENT[]"),
    (8, "ts_exch_ns", "<i8", "when it happened, venue's clock"),
    (16, "ts_recv_ns", "<i8", "when it was here, on the same clock"),
    (24, "price_steps", "<i8", "DEPTH, TRADE; CLEAR: how far from the best, 0 all"),
    (32, "qty_steps", "<i8", "DEPTH: new total, 0 removes; TRADE: traded"),
    (40, "level", "<i8", "index of the price among the instrument's prices; -1 none"),
    (48, "trade_id", "<i8", "TRADE: the venue's; FUNDING: rate, 1e-8"),
    (56, "mark_price_e8", "<i8", "FUNDING: mark price, 1e-8 quote"),
)  # fmt: skip


class EventKind(IntEnum):
    """What an event is."""

    DEPTH = 1
    TRADE = 2
    CLEAR = 3
    FUNDING = 4


# Words of a tape: what the loop reads of an event, in one of the two orders.
TS = 0
QTY = 1
CODE = 2  # level << LEVEL_SHIFT | kind << 2 | side + 1
ROW = 3  # of the event in `events`
TAPE_WORDS = 4
LEVEL_SHIFT = 8
KIND_MASK = 0xFC
CODE_MASK = 0xFF


class Data(NamedTuple):
    """All that a run reads.

    Attributes:
        events: EVENT[m], instrument after instrument.
        spans: int64[n, 2], each instrument's part of `events`.
        prices: int64[k], every price in the events, ascending within an instrument.
        price_spans: int64[n, 2], each instrument's part of `prices`.
        here, here_spans: int64[i, TAPE_WORDS], the events as they are seen here, and each
            instrument's part.
        venue, venue_spans: as they happen at the venue.
        notes: what was left out when loading, and how often.
    """

    events: np.ndarray
    spans: np.ndarray
    prices: np.ndarray
    price_spans: np.ndarray
    here: np.ndarray
    here_spans: np.ndarray
    venue: np.ndarray
    venue_spans: np.ndarray
    notes: dict[str, int]


@njit(cache=True, _nrt=False)
def interleave(rows, by_venue, by_local, out):
    """Write rows in both orders; a row that is next in both is written once.

    Args:
        rows: EVENT[m], read.
        by_venue, by_local: int64[m], places of the rows in either order.
        out: EVENT[2 * m], changed.

    Returns:
        How many were written.
    """
    total = rows.shape[0]
    count = v = k = 0
    while v < total or k < total:
        if v < total and k < total and by_venue[v] == by_local[k]:
            out[count] = rows[by_venue[v]]
            out[count]["flags"] = AT_VENUE | AT_LOCAL
            v += 1
            k += 1
        elif k >= total or (v < total and is_before(rows, by_venue[v], by_local[k])):
            out[count] = rows[by_venue[v]]
            out[count]["flags"] = AT_VENUE
            v += 1
        else:
            out[count] = rows[by_local[k]]
            out[count]["flags"] = AT_LOCAL
            k += 1
        count += 1
    return count


@njit(cache=True, _nrt=False)
def is_before(rows, a, b):
    """Return True if row a is earlier at the venue than row b, or equal there and here earlier."""
    if rows[a]["ts_exch_ns"] != rows[b]["ts_exch_ns"]:
        return rows[a]["ts_exch_ns"] < rows[b]["ts_exch_ns"]
    return rows[a]["ts_recv_ns"] < rows[b]["ts_recv_ns"]


def in_both_orders(rows: np.ndarray) -> np.ndarray:
    """Return rows of one instrument in both orders; rows of equal time keep their order."""
    by_venue = np.argsort(rows["ts_exch_ns"], kind="stable")
    by_local = np.argsort(rows["ts_recv_ns"], kind="stable")
    out = np.zeros(2 * len(rows), EVENT)
    return out[: interleave(rows, by_venue, by_local, out)]


def check_orders(events: np.ndarray, where: str) -> None:
    """Refuse rows of one instrument that are in no right order.

    Raises:
        UsageError: names the row.
    """
    for flag, field, name in (
        (AT_VENUE, "ts_exch_ns", "venue"),
        (AT_LOCAL, "ts_recv_ns", "local"),
    ):
        rows = np.flatnonzero(events["flags"] & flag)
        times = events[field][rows]
        late = np.flatnonzero(np.diff(times) < 0)
        if len(late):
            row = int(rows[late[0] + 1])
            raise UsageError(
                f"{where}: event {row}: {name} time {times[late[0] + 1]} is before"
                f" {times[late[0]]}, expected {name} times that never go back"
            )


def assemble(parts: list[np.ndarray], instruments: list[Instrument], notes: dict[str, int]) -> Data:
    """Join the instruments' events and index their prices.

    Args:
        parts: EVENT[m] of each instrument, in both orders.
        instruments: whose they are.
        notes: of the loaders.
    """
    prices, price_spans, spans = [], [], []
    event_end = price_end = 0
    for instrument, part in zip(instruments, parts, strict=True):
        check_orders(part, f"{instrument.venue} {instrument.symbol}")
        has_level = (part["kind"] == EventKind.DEPTH) | (part["kind"] == EventKind.TRADE)
        has_level |= (part["kind"] == EventKind.CLEAR) & (part["price_steps"] > 0)
        levels, places = np.unique(part["price_steps"][has_level], return_inverse=True)
        part["level"] = -1
        part["level"][has_level] = places
        part["instrument_id"] = instrument.instrument_id
        prices.append(levels)
        price_spans.append((price_end, price_end + len(levels)))
        spans.append((event_end, event_end + len(part)))
        price_end += len(levels)
        event_end += len(part)
    events = parts[0] if len(parts) == 1 else np.concatenate(parts)
    here, here_spans = tape_of(events, spans, AT_LOCAL, "ts_recv_ns")
    venue, venue_spans = tape_of(events, spans, AT_VENUE, "ts_exch_ns")
    return Data(
        events=events,
        spans=np.array(spans, np.int64),
        prices=np.concatenate(prices).astype(np.int64),
        price_spans=np.array(price_spans, np.int64),
        here=here,
        here_spans=here_spans,
        venue=venue,
        venue_spans=venue_spans,
        notes=notes,
    )


def tape_of(
    events: np.ndarray, spans: list[tuple[int, int]], flag: int, field: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the tape of one order, and each instrument's part of it."""
    rows = np.flatnonzero(events["flags"] & flag)
    tape = np.zeros((len(rows), TAPE_WORDS), np.int64)
    kept = events[rows]
    tape[:, TS] = kept[field]
    tape[:, QTY] = kept["qty_steps"]
    tape[:, CODE] = kept["level"] << LEVEL_SHIFT
    tape[:, CODE] |= (kept["kind"].astype(np.int64) << 2) | (kept["side"].astype(np.int64) + 1)
    tape[:, ROW] = rows
    return tape, np.searchsorted(rows, np.array(spans, np.int64))

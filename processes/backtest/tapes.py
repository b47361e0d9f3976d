"""The data of a run: the events of all instruments, their prices, and the tapes the loop reads.

A tape is the events in one of their two orders, as they happen at the venue or as they are seen
here, cut down to the words that the loop needs of each.
"""

from typing import NamedTuple

import numpy as np

from common.errors import UsageError
from common.instruments import Instrument
from processes.backtest import history
from processes.backtest.events import (
    AT_LOCAL,
    AT_VENUE,
    CODE,
    LEVEL_SHIFT,
    QTY,
    ROW,
    TAPE_WORDS,
    TS,
    EventKind,
)

PRICED = [EventKind.DEPTH, EventKind.TRADE, EventKind.ADD, EventKind.MODIFY, EventKind.FILL]


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
        has_level = np.isin(part["kind"], PRICED)
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
    all_prices = np.concatenate(prices).astype(np.int64)
    if np.any(events["kind"] >= EventKind.ADD):
        tapes, found = history.tapes_of(events, spans, all_prices, price_spans)
        notes = {**notes, **found}
        (here, here_spans), (venue, venue_spans) = tapes
    else:
        here, here_spans = tape_of(events, spans, AT_LOCAL, "ts_recv_ns")
        venue, venue_spans = tape_of(events, spans, AT_VENUE, "ts_exch_ns")
    return Data(
        events=events,
        spans=np.array(spans, np.int64),
        prices=all_prices,
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

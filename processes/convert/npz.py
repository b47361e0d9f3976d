"""`tickring export RUN --npz FILE`: the market data of one instrument as hftbacktest's events.

What is written is what a backtest of the run sees: backtest/recorded.py applies the venue's rule of
continuity and lists the events in both orders, those of the venue and of this side.

Rules:
    A snapshot is a depth clear of both sides and its levels behind it. Aggregate trades only if
    there are no others; best prices and funding are not events of their own there, and left out.
    Local times are wall clock times. If some are before the venue's, all are moved by the most
    that any is, as hftbacktest's own converters do; the shift is told, and so is what was dropped.
"""

from pathlib import Path
from typing import Any

import numpy as np

from common.enums import Side
from common.errors import UsageError
from common.instruments import Instrument
from common.records import SLOT_WORDS
from processes.backtest.events import AT_LOCAL, AT_VENUE, EventKind
from processes.backtest.recorded import events_of
from processes.convert.hft_format import (
    HFT_AT_LOCAL,
    HFT_AT_VENUE,
    HFT_BUY,
    HFT_CLEAR,
    HFT_DEPTH,
    HFT_EVENT,
    HFT_SELL,
    HFT_SNAPSHOT,
    HFT_TRADE,
)
from processes.convert.market import find_messages
from processes.convert.merge import merged
from processes.convert.progress import progress_bar
from processes.convert.recorded import Messages, Recording

_KINDS = {
    EventKind.DEPTH: HFT_DEPTH,
    EventKind.TRADE: HFT_TRADE,
    EventKind.CLEAR: HFT_CLEAR,
}


def export(recording: Recording, path: Path, symbol: str) -> dict[str, Any]:
    """Write one instrument's events; return the counts.

    Raises:
        UsageError: which instrument is not clear, there is nothing of it, or the file cannot be
            written.
    """
    instrument = _find(recording, symbol)
    notes: dict[str, int] = {}
    slots = slots_of(recording, instrument.instrument_id, notes)
    rows = events_of(slots, instrument.instrument_id, recording.wall_offset_ns, notes)
    rows["ts_recv_ns"] += int((rows["ts_exch_ns"] - rows["ts_recv_ns"]).max(initial=0))
    rows = rows[np.isin(rows["kind"], list(_KINDS))]
    if not len(rows):
        raise UsageError(
            f"{recording.run.path}: has no trades of {instrument.symbol} and no depth behind a"
            " snapshot, expected some"
        )
    try:
        np.savez_compressed(path, data=hft_events(rows, instrument))
    except OSError as error:
        raise UsageError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    here = rows["kind"][rows["flags"] & AT_LOCAL != 0]
    return {
        "file": str(path),
        "symbol": instrument.symbol,
        "events": len(here),
        "trades": int(np.count_nonzero(here == EventKind.TRADE)),
        "listed": len(rows),
        "local_shift_ns": 0,
        **notes,
    }


def slots_of(recording: Recording, instrument_id: int, notes: dict[str, int]) -> np.ndarray:
    """Return int64[n, 8], the messages about one instrument, or about all, in order of time.

    Args:
        notes: changed: slots of messages without beginning or end are counted.
    """
    rings = recording.market_rings()
    readers = [Messages(ring) for ring in rings]
    parts = [np.zeros((0, SLOT_WORDS), np.int64)]
    with progress_bar("export", recording.slots_total(rings)) as bar:
        for slots in merged([(slots for _, slots in one.batches()) for one in readers]):
            starts = np.zeros(len(slots), np.int64)
            starts = starts[: find_messages(slots, starts)]
            whose = slots[starts, 0] >> 32
            is_wanted = (whose == instrument_id) | (whose == -1)
            parts.append(slots[np.repeat(is_wanted, np.diff(starts, append=len(slots)))])
            bar.at(sum(one.slots_read for one in readers))
    left_out = sum(one.slots_left_out for one in readers)
    if left_out:
        notes["slots_left_out"] = left_out
    return np.concatenate(parts)


def hft_events(rows: np.ndarray, instrument: Instrument) -> np.ndarray:
    """Return EVENT[n] in both orders as HFT_EVENT[n]."""
    events = np.zeros(len(rows), HFT_EVENT)
    for kind, theirs in _KINDS.items():
        events["ev"][rows["kind"] == kind] = theirs
    for flag in (AT_VENUE, AT_LOCAL):
        (listed,) = np.nonzero(rows["flags"] & flag)
        events["ev"][listed[in_snapshots(rows[listed])]] = HFT_SNAPSHOT
    for side, theirs in ((Side.BID, HFT_BUY), (Side.ASK, HFT_SELL)):
        events["ev"][rows["side"] == side] |= theirs
    for flag, theirs in ((AT_VENUE, HFT_AT_VENUE), (AT_LOCAL, HFT_AT_LOCAL)):
        events["ev"][rows["flags"] & flag != 0] |= theirs
    events["exch_ts"], events["local_ts"] = rows["ts_exch_ns"], rows["ts_recv_ns"]
    events["px"] = rows["price_steps"] / 10.0**instrument.price_grid_decimals
    events["qty"] = rows["qty_steps"] / 10.0**instrument.qty_grid_decimals
    return events


def in_snapshots(rows: np.ndarray) -> np.ndarray:
    """Return which of EVENT[n], in one order, are levels of a snapshot.

    They are those behind a clear, of its times, up to the first that removes a level. A diff of
    the very same times may be among them: it sets what a level is, as they do.
    """
    is_clear = rows["kind"] == EventKind.CLEAR
    clears = rows[np.maximum.accumulate(np.where(is_clear, np.arange(len(rows)), 0))]
    goes_on = (rows["kind"] == EventKind.DEPTH) & (rows["qty_steps"] > 0)
    goes_on &= clears["kind"] == EventKind.CLEAR
    for field in ("ts_exch_ns", "ts_recv_ns"):
        goes_on &= rows[field] == clears[field]
    ends = np.cumsum(~goes_on & ~is_clear)
    ends_at_clear = np.maximum.accumulate(np.where(is_clear, ends, 0))
    found: np.ndarray = goes_on & (ends == ends_at_clear)
    return found


def _find(recording: Recording, symbol: str) -> Instrument:
    known = {i.symbol: i for i in recording.instruments}
    if not symbol and len(known) == 1:
        return recording.instruments[0]
    if symbol not in known:
        raise UsageError(f"--symbol: {symbol!r}, expected one of {', '.join(known)}")
    return known[symbol]

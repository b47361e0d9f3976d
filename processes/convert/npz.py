"""`tickring export RUN --npz FILE`: the market data of one instrument as hftbacktest's events.

Source: hftbacktest 2.4: types.py, and the order of data/validation.py: every event is listed where
it is next in both the venue's and the local order; where the two orders disagree it is listed
twice, once for each side.

Rules:
    Diffs, snapshots (a depth clear up to the last level, then the rows) and trades. Aggregate
    trades only if there are no others; best prices are not events of their own there, and left out.
    Local times are wall clock times. If some are before the venue's, all are moved by the most
    that any is, as hftbacktest's own converters do; the shift is told.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from common.enums import MarketKind
from common.errors import UsageError
from common.instruments import Instrument
from processes.convert.events import (
    BUY_EVENT,
    DEPTH_CLEAR_EVENT,
    DEPTH_EVENT,
    DEPTH_SNAPSHOT_EVENT,
    EVENT,
    EXCH_EVENT,
    LOCAL_EVENT,
    SELL_EVENT,
    TRADE_EVENT,
)
from processes.convert.market import find_messages
from processes.convert.merge import merged
from processes.convert.progress import progress_bar
from processes.convert.recorded import Messages, Recording

# As hftbacktest wants it in its files: `ev` is unsigned there.
FILE_EVENT = np.dtype(
    [(name, "u8" if name in ("ev", "order_id") else EVENT[name].str) for name in EVENT.names or ()],
    align=True,
)
_DIFF, _SNAPSHOT = int(MarketKind.DIFF_BEGIN), int(MarketKind.SNAPSHOT_BEGIN)


@njit(cache=True)
def write_event(event, kind, exch_ts, local_ts, price, qty):
    """Write one event."""
    event["ev"] = kind
    event["exch_ts"], event["local_ts"] = exch_ts, local_ts
    event["px"], event["qty"] = price, qty
    event["order_id"] = event["ival"] = 0
    event["fval"] = 0.0


@njit(cache=True)
def write_side(slots, header, first, end, kind, price_unit, qty_unit, offset_ns, events, count):
    """Write the levels [first, end) of the message at `header`; returns how many events there are.

    Args:
        kind: of the events, side included. Those of a snapshot begin with a clear.
        price_unit, qty_unit: powers of ten: steps in one unit.
    """
    exch_ts, local_ts = slots[header, 2], slots[header, 1] + offset_ns
    is_snapshot = kind & 0xFF == DEPTH_SNAPSHOT_EVENT
    if is_snapshot and end > first:
        last = slots[header + 1 + (end - 1) // 3, 2 + 2 * ((end - 1) % 3)] / price_unit
        clear = kind & ~0xFF | DEPTH_CLEAR_EVENT
        write_event(events[count], clear, exch_ts, local_ts, last, 0.0)
        count += 1
    for level in range(first, end):
        slot, word = header + 1 + level // 3, 2 + 2 * (level % 3)
        price, qty = slots[slot, word] / price_unit, slots[slot, word + 1] / qty_unit
        write_event(events[count], kind, exch_ts, local_ts, price, qty)
        count += 1
    return count


@njit(cache=True)
def write_events(slots, starts, instrument, trade_kind, price_unit, qty_unit, offset_ns, events):
    """Write the events of whole messages.

    Args:
        slots: int64[n, 8], read.
        starts: int64[m], read. Where the messages begin.
        instrument: id of the one that is wanted.
        trade_kind: MarketKind of the trades that are wanted.
        price_unit, qty_unit: floats, steps in one unit.
        offset_ns: from local times to the wall clock.
        events: EVENT[3 * n + 2], changed.

    Returns:
        How many there are.
    """
    count = 0
    for i in range(starts.shape[0]):
        at = starts[i]
        kind = slots[at, 0] & 0xFF
        if slots[at, 0] >> 32 != instrument:
            continue
        if kind == _DIFF or kind == _SNAPSHOT:
            bids, asks = slots[at, 6] & 0xFFFFFFFF, slots[at, 6] >> 32
            what = DEPTH_EVENT if kind == _DIFF else DEPTH_SNAPSHOT_EVENT
            count = write_side(
                slots, at, 0, bids, what | BUY_EVENT, price_unit, qty_unit, offset_ns, events, count
            )
            count = write_side(
                slots, at, bids, bids + asks, what | SELL_EVENT, price_unit, qty_unit, offset_ns,
                events, count,
            )  # fmt: skip
        elif kind == trade_kind:
            side = slots[at, 6] & 0xFF
            what = TRADE_EVENT
            if side != 0:
                what |= BUY_EVENT if side == 1 else SELL_EVENT
            price, qty = slots[at, 3] / price_unit, slots[at, 4] / qty_unit
            write_event(events[count], what, slots[at, 2], slots[at, 1] + offset_ns, price, qty)
            count += 1
    return count


@njit(cache=True)
def order_both(exch_ts, local_ts, by_exch, by_local, places, flags):
    """Merge the venue's order of events with the local one.

    Args:
        exch_ts, local_ts: int64[n], read.
        by_exch, by_local: int64[n], read. The events in each order.
        places, flags: int64[2 * n], changed. Which event comes, and for which side.

    Returns:
        How many there are.
    """
    n = exch_ts.shape[0]
    e, k, count = 0, 0, 0
    while e < n or k < n:
        flag = LOCAL_EVENT
        if k == n:
            flag = EXCH_EVENT
        elif e < n:
            i, j = by_exch[e], by_local[k]
            if i == j:
                flag = EXCH_EVENT | LOCAL_EVENT
            elif exch_ts[i] < exch_ts[j] or (
                exch_ts[i] == exch_ts[j] and local_ts[i] < local_ts[j]
            ):
                flag = EXCH_EVENT
        places[count] = by_exch[e] if flag & EXCH_EVENT else by_local[k]
        flags[count] = flag
        count += 1
        e += np.int64(flag & EXCH_EVENT != 0)
        k += np.int64(flag & LOCAL_EVENT != 0)
    return count


def events_of(recording: Recording, instrument: Instrument) -> tuple[np.ndarray, int]:
    """Return (EVENT[n] in local order, without the flags of the sides; how many trades)."""
    rings = recording.market_rings()
    trade_kind = _trade_kind(recording, instrument)
    parts, trades = [], 0
    readers = [Messages(ring) for ring in rings]
    with progress_bar("export", recording.slots_total(rings)) as bar:
        for slots in merged([(slots for _, slots in one.batches()) for one in readers]):
            starts = np.zeros(len(slots), np.int64)
            starts = starts[: find_messages(slots, starts)]
            events = np.zeros(3 * len(slots) + 2, EVENT)
            count = write_events(
                slots, starts, instrument.instrument_id, trade_kind,
                10.0**instrument.price_grid_decimals, 10.0**instrument.qty_grid_decimals,
                recording.wall_offset_ns, events,
            )  # fmt: skip
            parts.append(events[:count].copy())
            trades += int((events["ev"][:count] & 0xFF == TRADE_EVENT).sum())
            bar.at(sum(one.slots_read for one in readers))
    return np.concatenate(parts) if parts else np.zeros(0, EVENT), trades


def _trade_kind(recording: Recording, instrument: Instrument) -> int:
    """Return TRADE, or AGG_TRADE if the run has only those of the instrument."""
    for ring in recording.market_rings():
        for _, slots in Messages(ring).batches():
            is_trade = (slots[:, 0] & 0xFF) == MarketKind.TRADE
            if (is_trade & (slots[:, 0] >> 32 == instrument.instrument_id)).any():
                return int(MarketKind.TRADE)
    return int(MarketKind.AGG_TRADE)


def in_both_orders(events: np.ndarray) -> np.ndarray:
    """Return events listed for the venue's and the local side, with their flags."""
    by_exch = np.argsort(events["exch_ts"], kind="stable")
    by_local = np.argsort(events["local_ts"], kind="stable")
    places, flags = np.zeros((2, 2 * len(events)), np.int64)
    count = order_both(
        events["exch_ts"].copy(), events["local_ts"].copy(), by_exch, by_local, places, flags
    )
    listed = events[places[:count]]
    listed["ev"] |= flags[:count]
    return listed


def export(recording: Recording, path: Path, symbol: str) -> dict[str, Any]:
    """Write one instrument's events; return the counts.

    Raises:
        UsageError: which instrument is not clear, there is nothing of it, or the file cannot be
            written.
    """
    instrument = _find(recording, symbol)
    events, trades = events_of(recording, instrument)
    if not len(events):
        raise UsageError(f"{recording.run.path}: no depth and no trades of {instrument.symbol}")
    early_ns = int((events["exch_ts"] - events["local_ts"]).max())
    if early_ns > 0:
        events["local_ts"] += early_ns
    listed = in_both_orders(events)
    try:
        np.savez_compressed(path, data=listed.view(FILE_EVENT))
    except OSError as error:
        raise UsageError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    return {
        "file": str(path),
        "symbol": instrument.symbol,
        "events": len(events),
        "trades": trades,
        "listed": len(listed),
        "local_shift_ns": max(early_ns, 0),
    }


def _find(recording: Recording, symbol: str) -> Instrument:
    known = {i.symbol: i for i in recording.instruments}
    if not symbol and len(known) == 1:
        return recording.instruments[0]
    if symbol not in known:
        raise UsageError(f"--symbol: {symbol!r}, expected one of {', '.join(known)}")
    return known[symbol]

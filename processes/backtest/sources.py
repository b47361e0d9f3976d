"""What a backtest can be fed with: hftbacktest's event arrays, captures, recorded runs.

Every loader gives EVENT rows of one instrument, in both orders. What stands in slots is read in
recorded.py.
"""

import zipfile
from pathlib import Path

import numpy as np

from common.enums import Side
from common.errors import UsageError
from common.instruments import Instrument
from processes.backtest.events import AT_LOCAL, AT_VENUE, EVENT, EventKind
from processes.backtest.recorded import load_capture, load_run, symbols_in
from processes.convert.hft_format import (
    HFT_ADD,
    HFT_AT_LOCAL,
    HFT_AT_VENUE,
    HFT_BUY,
    HFT_CANCEL,
    HFT_CLEAR,
    HFT_DEPTH,
    HFT_FIELDS,
    HFT_FILL,
    HFT_KIND_MASK,
    HFT_MODIFY,
    HFT_SELL,
    HFT_SNAPSHOT,
    HFT_TRADE,
    steps_of,
)

ORDER_KINDS = {
    HFT_ADD: EventKind.ADD, HFT_CANCEL: EventKind.CANCEL, HFT_MODIFY: EventKind.MODIFY,
    HFT_FILL: EventKind.FILL,
}  # fmt: skip


def load_npz(path: Path, instrument: Instrument, notes: dict[str, int]) -> np.ndarray:
    """Read hftbacktest's events.

    Args:
        path: .npz with an array `data`, or .npy.
        instrument: whose grid the numbers must be on.
        notes: changed: rows of kinds that no L2 backtest uses are counted.

    Raises:
        UsageError: not such a file, or a number off the grid; names the row.
    """
    data = load_array(path)
    if not set(HFT_FIELDS) <= set(data.dtype.names or ()):
        raise UsageError(
            f"{path}: fields {data.dtype.names}, expected hftbacktest's events:"
            f" {', '.join(HFT_FIELDS)}"
        )
    return from_hft(data, instrument, str(path), notes)


def load_array(path: Path) -> np.ndarray:
    """Return the array named `data` of an .npz, or that of an .npy.

    Raises:
        UsageError: there is none.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            data: np.ndarray = loaded["data"]
            return data
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path}: {error}, expected an .npz with an array named data") from None


def from_hft(
    data: np.ndarray, instrument: Instrument, where: str, notes: dict[str, int]
) -> np.ndarray:
    """Return hftbacktest's events as EVENT rows; Args and Raises as in `load_npz`."""
    flags = data["ev"].astype(np.int64)
    kinds = flags & HFT_KIND_MASK
    is_depth = (kinds == HFT_DEPTH) | (kinds == HFT_SNAPSHOT)
    is_trade = kinds == HFT_TRADE
    is_clear = kinds == HFT_CLEAR
    events = np.zeros(len(data), EVENT)
    events["kind"][is_depth] = EventKind.DEPTH
    events["kind"][is_trade] = EventKind.TRADE
    events["kind"][is_clear] = EventKind.CLEAR
    if "order_id" in (data.dtype.names or ()):
        for kind, own in ORDER_KINDS.items():
            events["kind"][kinds == kind] = own
        is_order = events["kind"] >= EventKind.ADD
        events["trade_id"][is_order] = data["order_id"][is_order].astype(np.int64)
    side = np.where(flags & HFT_BUY, Side.BID, np.where(flags & HFT_SELL, Side.ASK, 0))
    events["side"] = side
    needs_side = is_depth | (events["kind"] == EventKind.ADD)
    events["kind"][needs_side & (side == 0)] = 0
    at_venue = np.where(flags & HFT_AT_VENUE, AT_VENUE, 0)
    events["flags"] = at_venue | np.where(flags & HFT_AT_LOCAL, AT_LOCAL, 0)
    events["ts_exch_ns"] = data["exch_ts"]
    events["ts_recv_ns"] = data["local_ts"]
    known = events["kind"] != 0
    is_cancel = events["kind"] == EventKind.CANCEL  # its order's price and quantity are known
    has_price = known & ~is_cancel & ~(is_clear & ~(np.isfinite(data["px"]) & (side != 0)))
    events["price_steps"] = on_grid(
        data["px"], has_price, instrument.price_grid_decimals, f"{where}: px"
    )
    events["qty_steps"] = on_grid(
        data["qty"], known & ~is_clear & ~is_cancel, instrument.qty_grid_decimals, f"{where}: qty"
    )
    others = int(np.count_nonzero(~known & (events["flags"] != 0)))
    if others:
        notes["other_events"] = notes.get("other_events", 0) + others
    return events


def on_grid(values: np.ndarray, used: np.ndarray, decimals: int, where: str) -> np.ndarray:
    """Return floats as steps; only where `used`, else 0.

    Raises:
        UsageError: a number that is no step, negative, or too large to be exact.
    """
    steps, is_step = steps_of(np.where(used, values, 0.0), decimals)
    rows = np.flatnonzero(~is_step)
    if len(rows):
        row = int(rows[0])
        raise UsageError(
            f"{where}: row {row} is {values[row]}, expected a multiple of 1e-{decimals}, not"
            " negative; check tick_size and lot_size of the instrument"
        )
    return steps


def load_source(
    path: Path, instruments: list[Instrument], notes: dict[str, int]
) -> list[tuple[int, np.ndarray]]:
    """Return the events in one path: (instrument, EVENT[m]), ...; see `run.load_data`."""
    name, equals, rest = str(path).partition("=")
    known: dict[str, Instrument] = {}
    for one in reversed(instruments):  # a symbol alone means the first venue's
        known[one.symbol] = known[f"{one.venue}:{one.symbol}"] = one
    instrument = instruments[0] if len(instruments) == 1 else None
    if equals and name in known:
        instrument, path = known[name], Path(rest)
    if not path.exists():
        raise UsageError(f"--data: {path} is not there, expected a file or a recorded run")
    if path.is_dir():
        return load_run(path, instruments, notes)
    if path.suffix not in (".npz", ".npy"):
        wanted = [instrument] if instrument else instruments
        if len(wanted) > 1:
            named = symbols_in(path, [one.symbol for one in wanted])
            wanted = [one for one in wanted if one.symbol in named]
        return [(one.instrument_id, load_capture(path, one, notes)) for one in wanted]
    if instrument is None:
        raise UsageError(
            f"--data: {path} does not say whose events it holds, expected SYMBOL=PATH with one of"
            f" {', '.join(known)}"
        )
    return [(instrument.instrument_id, load_npz(path, instrument, notes))]

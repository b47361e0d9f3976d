"""Slots and records as columns for a data frame: integers as they are, and floats beside them.

    x_steps            the exact integer, and x = steps / 10^decimals as a float64
    x_e8               the exact integer, and x as a float64
    ts_..._ns          the integer, and once `time`: the wall clock of the record, UTC
    enum fields        their names

The decimals are those of the instrument's grid; each file has them in its metadata.
"""

from typing import Any

import numpy as np
import polars as pl

from common import enums
from common.enums import MarketKind
from common.instruments import Instrument
from common.records import LAYOUTS, LEVEL_WORD, LEVELS_PER_SLOT
from processes.inspector.tail import SECRET_FIELDS, WORDS

# What market messages become: table, record of the header slot.
TABLES = {
    MarketKind.TRADE: ("trades", "TRADE"),
    MarketKind.AGG_TRADE: ("agg_trades", "TRADE"),
    MarketKind.BBO: ("bbo", "BBO"),
    MarketKind.DIFF_BEGIN: ("depth", "DEPTH"),
    MarketKind.SNAPSHOT_BEGIN: ("depth", "DEPTH"),
    MarketKind.SNAPSHOT_END: ("depth", "DEPTH"),
    MarketKind.BOOK: ("books", "BOOK"),
    MarketKind.MARK: ("marks", "MARK"),
    MarketKind.LIQUIDATION: ("liquidations", "LIQUIDATION"),
    MarketKind.GAP: ("gaps", "GAP"),
    MarketKind.CLOCK: ("clocks", "CLOCK"),
    MarketKind.CONTROL: ("controls", "CONTROL"),
}
LEVEL_TABLES = {
    MarketKind.DIFF_BEGIN: "levels",
    MarketKind.SNAPSHOT_BEGIN: "levels",
    MarketKind.BOOK: "book_levels",
}
# Records of the other rings: table, enum of their `kind`.
RECORD_TABLES = {
    "ORDER_REQUEST": ("requests", enums.RequestKind),
    "REPORT": ("reports", enums.ReportKind),
    "REST_REQUEST": ("rest_requests", enums.RestKind),
    "SESSION": ("sessions", enums.SessionKind),
    "TURN": ("turns", None),
}
_LEFT_OUT = {"kind", "slot_count", "instrument_id", *SECRET_FIELDS}
Columns = dict[str, pl.Series]


def names_of(values: np.ndarray, kind: Any) -> pl.Series:
    """Return the names of enum values; 0 is null, an unknown number is itself."""
    numbers = np.unique(values).tolist()
    known = kind._value2member_map_
    text = {
        n: (known[n].name if n in known else str(n)) if n or n in known else None for n in numbers
    }
    return pl.Series(values).replace_strict(list(text), list(text.values()), return_dtype=pl.String)


def is_price(field: str) -> bool:
    """Return True for a price in steps, False for a quantity or position."""
    return "price" in field or "px" in field


def columns_of(name: str, records: np.ndarray, instrument: Instrument | None) -> Columns:
    """Return the columns of records of one layout and one instrument.

    Args:
        name: of the layout.
        records: LAYOUTS[name][n].
        instrument: whose decimals make the floats; None: there is none.
    """
    columns: Columns = {}
    for field in LAYOUTS[name].names or ():
        if field in _LEFT_OUT or field.startswith("reserved"):
            continue
        values = records[field]
        if values.ndim == 2 and values.dtype == np.uint8:
            columns[field] = pl.Series([bytes(row).hex() for row in values], dtype=pl.String)
        elif values.ndim == 2:
            columns[field] = pl.Series(np.ascontiguousarray(values))
        elif field in WORDS:
            columns[field] = names_of(np.ascontiguousarray(values), WORDS[field])
        else:
            columns[field] = pl.Series(np.ascontiguousarray(values))
            add_float(columns, field, values, instrument)
    return columns


def add_float(
    columns: Columns, field: str, values: np.ndarray, instrument: Instrument | None
) -> None:
    """Add the float64 column beside one of steps or of 1e-8 units; nulls without an instrument."""
    if field.endswith("_e8"):
        columns[field.removesuffix("_e8")] = pl.Series(values / 1e8)
    elif field.endswith("_steps") and instrument is None:
        columns[field.removesuffix("_steps")] = pl.Series([None] * len(values), dtype=pl.Float64)
    elif field.endswith("_steps") and instrument is not None:
        decimals = (
            instrument.price_grid_decimals if is_price(field) else instrument.qty_grid_decimals
        )
        columns[field.removesuffix("_steps")] = pl.Series(values / 10.0**decimals)


def level_columns(
    slots: np.ndarray, starts: np.ndarray, bids: np.ndarray, asks: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return (message, side, price in steps, quantity in steps) of every level.

    Args:
        slots: int64[n, 8].
        starts: where the messages begin.
        bids, asks: how many levels of each side every message has.
    """
    counts = bids + asks
    message = np.repeat(np.arange(len(starts)), counts)
    level = np.arange(len(message)) - np.repeat(np.cumsum(counts) - counts, counts)
    slot = starts[message] + 1 + level // LEVELS_PER_SLOT
    word = LEVEL_WORD + 2 * (level % LEVELS_PER_SLOT)
    side = np.where(level < bids[message], 1, -1)
    return message, side, slots[slot, word], slots[slot, word + 1]

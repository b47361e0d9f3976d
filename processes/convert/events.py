"""hftbacktest's event arrays, .npz or .npy, as runs of market slots.

Source: hftbacktest 2.4, data/validation.py: which event is of the exchange, of the local side, or
of both.

Rules:
    A depth clear without snapshot rows behind it is a bad row: no record says that.
    What the local side saw, in the order in which it saw it: events with the flag LOCAL, or all if
    the file has no such flags. The venue's time is kept with each.
    A depth clear and the snapshot rows behind it are one snapshot. It replaces the whole book here;
    there a clear of one side replaces what is between the touch and its last level.
    px and qty are floats: each is the grid step that it is the nearest float of, or a bad row.
"""

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from common.errors import DataError, UsageError
from common.records import SLOT_WORDS
from processes.convert import market
from processes.convert.columns import (
    ID,
    INSTRUMENT,
    IS_SNAPSHOT,
    LINE,
    PRICE,
    QTY,
    ROW_WORDS,
    SIDE,
    TS_EXCH,
    TS_RECV,
    Shape,
)
from processes.convert.hft_format import (
    HFT_AT_LOCAL,
    HFT_AT_VENUE,
    HFT_BUY,
    HFT_CLEAR,
    HFT_DEPTH,
    HFT_EVENT,
    HFT_KIND_MASK,
    HFT_SELL,
    HFT_SNAPSHOT,
    HFT_TRADE,
    steps_of,
)
from processes.convert.problems import SHOWN_MAX, Problems
from processes.convert.registry import Registry

VENUE = "binance-usdm"  # unless another is asked for; the arrays do not tell
ROWS_MAX = 32_768
_KINDS = {
    HFT_DEPTH: market.DIFF,
    HFT_SNAPSHOT: market.SNAPSHOT,
    HFT_TRADE: market.PRINT,
}


class EventSource:
    """One file of events; see Source.

    Args:
        path: .npz, whose first array is read, or .npy.
        registry: knows the one symbol that is meant.
        problems: told of bad rows; their line is the event's number, from 1 on.

    Raises:
        UsageError: the file cannot be read, or no symbol was asked for.
        DataError: it holds no such array.
    """

    def __init__(self, path: Path, registry: Registry, problems: Problems) -> None:
        if not registry.options.symbol:
            raise UsageError("--symbol: missing, expected the symbol that the events are of")
        registry.enter(path, VENUE)
        self.path, self.problems = path, problems
        self.instrument = registry.register(registry.options.symbol)
        try:
            self.size_bytes = path.stat().st_size
        except OSError as error:
            raise UsageError(f"{path}: {(error.strerror or str(error)).lower()}") from None
        self.rows = self.foreign_rows = self.back_rows = 0
        self.bytes_read = 0
        self._last_ns = 0
        self._is_local_only = False
        self._clear: tuple[int, int, int] | None = None  # number, side, time of an open one
        self._numbers = market.Numbers()
        self._books = np.zeros((1 + self.instrument.instrument_id, market.BOOK_WORDS), np.int64)
        self._open = np.zeros((0, ROW_WORDS[Shape.LEVELS]), np.int64)

    def batches(self) -> Iterator[np.ndarray]:
        """Yield int64[n, 8]: whole messages."""
        number = 0
        for events in self._read():
            if number == 0 and len(events):
                self._is_local_only = bool((events["ev"] & (HFT_AT_VENUE | HFT_AT_LOCAL)).any())
            table = self._rows_of(events, number)
            number += len(events)
            if not len(table):
                continue
            table = np.concatenate((self._open, table))
            starts = market.group_starts(table, is_by_side=True)
            self._open = table[starts[-1] :].copy()
            yield self._write(table[: starts[-1]], starts[:-1])
        self._check_clears(np.zeros(0, HFT_EVENT), np.zeros(0, np.int64), number)
        starts = market.group_starts(self._open, is_by_side=True)
        yield self._write(self._open, starts[: len(self._open)])

    def _write(self, table: np.ndarray, starts: np.ndarray) -> np.ndarray:
        slots = np.zeros((4 * len(table) + 4, SLOT_WORDS), np.int64)
        return slots[: market.write_messages(table, starts, self._books, slots)]

    def _read(self) -> Iterator[np.ndarray]:
        """Yield HFT_EVENT[n]. Raises DataError."""
        try:
            if not zipfile.is_zipfile(self.path):
                with self.path.open("rb") as file:
                    yield from self._read_array(file)
                return
            with zipfile.ZipFile(self.path) as archive:
                names = [n for n in archive.namelist() if n.endswith(".npy")]
                if not names:
                    raise DataError(f"{self.path}: no array in it, expected one of events")
                with archive.open(names[0]) as member:
                    yield from self._read_array(member)  # type: ignore[arg-type]
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
            raise DataError(f"{self.path}: {error}, expected a numpy file of events") from None
        except OSError as error:
            raise UsageError(f"{self.path}: {(error.strerror or str(error)).lower()}") from None

    def _read_array(self, file: BinaryIO) -> Iterator[np.ndarray]:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, _is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
        else:
            shape, _is_fortran, dtype = np.lib.format.read_array_header_2_0(file)
        if (
            dtype.names != HFT_EVENT.names
            or dtype.itemsize != HFT_EVENT.itemsize
            or len(shape) != 1
        ):
            raise DataError(
                f"{self.path}: array of {dtype} and shape {shape}, expected one dimension of"
                f" {', '.join(HFT_EVENT.names or ())}, 64 bytes"
            )
        left = shape[0]
        while left:
            count = min(left, ROWS_MAX)
            data = file.read(count * HFT_EVENT.itemsize)
            if len(data) != count * HFT_EVENT.itemsize:
                self.problems.add(f"{self.path}: {left} events are missing, expected {shape[0]}")
                data = data[: len(data) // HFT_EVENT.itemsize * HFT_EVENT.itemsize]
                left = count = len(data) // HFT_EVENT.itemsize
            left -= count
            self.bytes_read = self.size_bytes * (shape[0] - left) // max(shape[0], 1)
            yield np.frombuffer(data, HFT_EVENT)

    def _check_clears(self, events: np.ndarray, places: np.ndarray, number: int) -> None:
        """Tell of every clear that no snapshot row of its side and time follows.

        Args:
            events: HFT_EVENT[n] behind those checked before; none: there are no more.
            places: of each among those of the file from `number` on.
        """
        clears = np.flatnonzero(events["ev"] & HFT_KIND_MASK == HFT_CLEAR)
        marks = HFT_BUY | HFT_SELL
        found = [
            (number + int(places[i]) + 1, int(events["ev"][i]) & marks, int(events["local_ts"][i]))
            for i in clears.tolist()
        ]
        behind = (clears + 1).tolist()
        if self._clear is not None:
            found, behind = [self._clear, *found], [0, *behind]
        self._clear = None
        for clear, at in zip(found, behind, strict=True):
            if at == len(events) and len(events):
                self._clear = clear
                continue
            mask = HFT_KIND_MASK | (marks if clear[1] else 0)
            is_kept = at < len(events) and (
                int(events["ev"][at]) & mask == HFT_SNAPSHOT | clear[1]
                and int(events["local_ts"][at]) == clear[2]
            )
            if not is_kept:
                self.problems.tell(
                    self.path, clear[0], "found a depth clear alone", "snapshot rows of its side"
                    " and time behind it",
                )  # fmt: skip

    def _rows_of(self, events: np.ndarray, number: int) -> np.ndarray:
        """Return the rows of Shape.LEVELS that the local side saw; tell of the bad ones."""
        places = np.arange(len(events))
        if self._is_local_only:
            places = np.flatnonzero(events["ev"] & HFT_AT_LOCAL)
            events = events[places]
        if len(events):
            self._check_clears(events, places, number)
        kinds = events["ev"] & HFT_KIND_MASK
        sides = ((events["ev"] & HFT_BUY) != 0).astype(np.int64)
        sides -= (events["ev"] & HFT_SELL) != 0
        price, has_price = steps_of(events["px"], self.instrument.price_grid_decimals)
        qty, has_qty = steps_of(events["qty"], self.instrument.qty_grid_decimals)
        is_known = np.isin(kinds, list(_KINDS))
        is_clear = kinds == HFT_CLEAR
        is_good = is_known & has_price & has_qty & (price > 0)
        is_good &= (sides != 0) | (kinds == HFT_TRADE)
        is_good &= (qty > 0) | (kinds != HFT_TRADE)
        is_good &= events["local_ts"] >= 0
        bad = np.flatnonzero(~is_good & ~is_clear)
        self.problems.add_untold(max(len(bad) - SHOWN_MAX, 0))
        for i in bad[:SHOWN_MAX].tolist():
            event = {name: events[name][i].item() for name in ("ev", "px", "qty", "local_ts")}
            self.problems.tell(
                self.path, number + int(places[i]) + 1, f"found {event}",
                f"a trade, depth or snapshot event (ev & 255 is 1 to 4) on the grid of"
                f" {self.instrument.facts.tick_size} and {self.instrument.facts.lot_size},"
                " with a side",
            )  # fmt: skip
        chosen = np.flatnonzero(is_good)
        table = np.zeros((len(chosen), ROW_WORDS[Shape.LEVELS]), np.int64)
        if not len(chosen):
            return table
        table[:, INSTRUMENT] = self.instrument.instrument_id
        table[:, TS_EXCH] = events["exch_ts"][chosen]
        table[:, TS_RECV] = events["local_ts"][chosen]
        table[:, LINE] = number + places[chosen] + 1
        table[:, PRICE], table[:, QTY] = price[chosen], qty[chosen]
        table[:, SIDE] = sides[chosen]
        for kind, meaning in _KINDS.items():
            table[kinds[chosen] == kind, IS_SNAPSHOT] = meaning
        prints = np.flatnonzero(table[:, IS_SNAPSHOT] == market.PRINT)
        ids = np.full(len(prints), -1)
        self._numbers.fill(ids, table[prints, INSTRUMENT])
        table[prints, ID] = ids
        before = np.concatenate(([self._last_ns], table[:-1, TS_RECV]))
        self.back_rows += int((table[:, TS_RECV] < before).sum())
        self._last_ns = int(table[-1, TS_RECV])
        self.rows += len(table)
        return table

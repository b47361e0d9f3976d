"""CSV files as runs of market slots.

A source yields whole messages in the order of its file, a bounded number at once.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from common.errors import DataError, UsageError
from common.records import SLOT_WORDS
from processes.convert import bands, market, rows
from processes.convert.columns import (
    ID,
    TOP_FIRST,
    TS_EXCH,
    TS_RECV,
    UPDATE_ID,
    Dataset,
    Shape,
    Type,
    find_dataset,
    row_words,
)
from processes.convert.problems import Problems, clip
from processes.convert.registry import Registry
from processes.convert.text import TextFile

ROWS_MAX = 32_768
WORDS_MAX = 1 << 19  # of the rows at once

_EXPECTED = {
    Type.TIME: "seconds, milliseconds, microseconds or nanoseconds since 1970,"
    " or YYYY-MM-DD HH:MM:SS",
    Type.PRICE: "a price over 0",
    Type.QTY: "a quantity over 0",
    Type.LEVEL_QTY: "a quantity",
    Type.PRICE_OR_NONE: "a price or nothing",
    Type.QTY_OR_NONE: "a quantity or nothing",
    Type.NUMBER: "a whole number below 2^63",
    Type.SIDE: "buy, sell or unknown",
    Type.BOOK_SIDE: "bid or ask",
    Type.BUYER_IS_MAKER: "true or false",
    Type.TRUTH: "true or false",
    Type.PERCENT: "a percentage",
    Type.NOTIONAL: "price x quantity",
    Type.SYMBOL: "1 to 24 of A-Z, 0-9 and _",
}
_PRICES = (Type.PRICE, Type.PRICE_OR_NONE)


class Source(Protocol):
    """One file of an import.

    Attributes:
        path: the file.
        size_bytes, bytes_read: how far it is.
        rows, foreign_rows, back_rows: rows taken, of symbols not wanted, and of those taken the
            ones whose time is before that of the row before.
    """

    path: Path
    size_bytes: int
    rows: int
    foreign_rows: int
    back_rows: int

    @property
    def bytes_read(self) -> int:
        """How far it is."""

    def batches(self) -> Iterator[np.ndarray]:
        """Yield int64[n, 8]: whole messages."""


class CsvSource:
    """A CSV file; see Source.

    Args:
        path: the file.
        kind: as asked for, see `find_dataset`.
        registry: where its symbols are found.
        problems: told of bad rows.
        feed_latency_ns: from the venue's time to ours, where the file has only the first.

    Raises:
        UsageError: the file cannot be read, or its symbol is not known.
        DataError: the file is not of that kind.
    """

    def __init__(
        self, path: Path, kind: str, registry: Registry, problems: Problems, feed_latency_ns: int
    ) -> None:
        self.path, self.registry, self.problems = path, registry, problems
        self.feed_latency_ns = feed_latency_ns
        self._text = TextFile(path)
        self.size_bytes = self._text.size_bytes
        first_line = self._text.first_line().decode("utf-8", "replace")
        name = self._text.content_name
        try:
            found = find_dataset(kind, name, first_line.strip())
        except ValueError as error:
            raise DataError(f"{path}:1: {error}") from None
        self.dataset, self.names, self._has_header = found
        registry.enter(path, self.dataset.venue)
        self._plan = plan_of(self.dataset, self.names)
        symbols = np.flatnonzero(self._plan[:, 0] == Type.SYMBOL)
        self._symbol_column = int(symbols[0]) if len(symbols) else -1
        self._only = registry.options.symbol
        if self._symbol_column < 0:
            self._only = registry.symbol_of_file(path, name)
            registry.register(self._only)
        self.rows = self.foreign_rows = self.back_rows = 0
        self._last_ns = 0
        self._writer = SHAPES[self.dataset.shape](self.dataset, self)

    @property
    def bytes_read(self) -> int:
        """How far it is."""
        return self._text.bytes_read

    def batches(self) -> Iterator[np.ndarray]:
        """Yield int64[n, 8]: whole messages."""
        words = row_words(self.dataset)
        unset = self._unset(words)
        table = np.tile(unset, (min(ROWS_MAX, WORDS_MAX // words), 1))
        fields = np.zeros((len(self._plan) + 1, 2), np.int64)
        faults = np.zeros((rows.FAULTS_KEPT + 1, rows.FAULT_WORDS), np.int64)
        reading = np.zeros(rows.READING_WORDS, np.int64)
        is_first = True
        for text, end in self._text.blocks():
            pos = 0
            if is_first and self._has_header:
                pos = int(np.argmax(text[:end] == 10)) + 1 if (text[:end] == 10).any() else end
                reading[rows.LINES] = 1
            is_first = False
            while pos < end:
                only = self.registry.place_of(self._only) if self._only else 0
                pos, count, status = rows.read_rows(
                    text, pos, end, self._plan, self._symbol_column, self.registry.table, only,
                    fields, table, faults, reading,
                )  # fmt: skip
                self._tell_faults(text, faults, reading)
                if count:
                    yield self._writer.take(self._timed(table[:count]))
                    table[:count] = unset
                if status == rows.LOOK:
                    first, behind = reading[rows.SYMBOL_FIRST], reading[rows.SYMBOL_END]
                    self._register(text[first:behind].tobytes().decode(), int(reading[rows.LINES]))
        self.foreign_rows = int(reading[rows.FOREIGN])
        if self._text.damage:
            self.problems.add(f"{self.path}: {self._text.damage}, expected a whole file")
        yield self._writer.end()

    def _unset(self, words: int) -> np.ndarray:
        """Return what the words of a row are without a column: -1 where 0 means something."""
        row = np.zeros(words, np.int64)
        row[TS_RECV] = -1
        if self.dataset.shape == Shape.TRADES:
            row[ID] = -1
        elif self.dataset.shape == Shape.BBOS:
            row[UPDATE_ID] = -1
        return row

    def _register(self, symbol: str, lines: int) -> None:
        try:
            self.registry.register(symbol)
        except UsageError as error:
            raise UsageError(f"{self.path}:{lines + 1}: {error}") from None

    def _timed(self, table: np.ndarray) -> np.ndarray:
        """Fill in receive times, and count those that go back."""
        stamps = table[:, TS_RECV]
        missing = stamps < 0
        stamps[missing] = table[missing, TS_EXCH] + self.feed_latency_ns
        before = np.concatenate(([self._last_ns], stamps[:-1]))
        self.back_rows += int((stamps < before).sum())
        self._last_ns = int(stamps[-1])
        self.rows += len(table)
        return table

    def _tell_faults(self, text: np.ndarray, faults: np.ndarray, reading: np.ndarray) -> None:
        count = int(reading[rows.FAULT_COUNT])
        reading[rows.FAULT_COUNT] = 0
        for fault in faults[: min(count, rows.FAULTS_KEPT)].tolist():
            line, first, end, column, status, place = fault
            found = text[first:end].tobytes().decode("utf-8", "replace")
            if status == rows.Fault.COLUMNS:
                found = f"{column} columns in {clip(found)}"
                expected = f"{len(self.names)}: {','.join(self.names[:8])}"
                expected += ",..." if len(self.names) > 8 else ""
            else:
                expected = self._expected(self._plan[column, 0], status, place)
                found = f"{self.names[column]} is {clip(found)}"
            self.problems.tell(self.path, line, found, expected)
        self.problems.add_untold(max(count - rows.FAULTS_KEPT, 0))

    def _expected(self, kind: int, status: int, place: int) -> str:
        if status == rows.Fault.OFF_GRID:
            instrument = self.registry.instruments[int(self.registry.table[place, 3])]
            is_price = kind in _PRICES
            size = instrument.facts.tick_size if is_price else instrument.facts.lot_size
            option = "--tick-size" if is_price else "--lot-size"
            return (
                f"at most the decimals of {size}, the grid of {instrument.symbol}; if it was finer"
                f" then, give {option}"
            )
        if status == rows.Fault.TOO_LONG:
            return "at most 18 digits"
        return _EXPECTED[Type(kind)]


def plan_of(dataset: Dataset, names: tuple[str, ...]) -> np.ndarray:
    """Return int64[columns, 2]: type and word of each column of a file."""
    plan = np.zeros((len(names), 2), np.int64)
    for column in dataset.columns:
        for number, name in enumerate(names):
            if name in column.names:
                plan[number] = column.type, column.word
                break
    return plan


class _Writer:
    """What makes slots of one file's rows."""

    def __init__(self, dataset: Dataset, source: CsvSource) -> None:
        self.dataset, self.source = dataset, source
        self.numbers = market.Numbers()
        self.books = np.zeros((0, market.BOOK_WORDS), np.int64)

    def take(self, table: np.ndarray) -> np.ndarray:
        """Return the messages that are whole, int64[n, 8]."""
        if self.dataset.shape == Shape.BBOS:
            return market.bbo_slots(table, self.numbers)
        return market.trade_slots(table, self.dataset.kind, self.numbers)

    def end(self) -> np.ndarray:
        """Return what is left."""
        return np.zeros((0, SLOT_WORDS), np.int64)

    def grow(self, array: np.ndarray) -> np.ndarray:
        """Return the array with a row for every registered instrument."""
        missing = len(self.source.registry.instruments) - len(array)
        if missing <= 0:
            return array
        return np.concatenate((array, np.zeros((missing, *array.shape[1:]), np.int64)))


class _LevelWriter(_Writer):
    """Messages of levels: the last one waits until the next begins."""

    def __init__(self, dataset: Dataset, source: CsvSource) -> None:
        super().__init__(dataset, source)
        self.open_rows = np.zeros((0, row_words(dataset)), np.int64)

    def take(self, table: np.ndarray) -> np.ndarray:
        """Return the messages that are whole, int64[n, 8]."""
        table = np.concatenate((self.open_rows, table))
        starts = market.group_starts(table, is_by_side=False)
        self.open_rows = table[starts[-1] :].copy()
        return self.write(table[: starts[-1]], starts[:-1])

    def end(self) -> np.ndarray:
        """Return what is left."""
        starts = market.group_starts(self.open_rows, is_by_side=False)
        return self.write(self.open_rows, starts[: len(self.open_rows)])

    def write(self, table: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Return the messages of whole groups."""
        self.books = self.grow(self.books)
        slots = np.zeros((4 * len(table) + 4, SLOT_WORDS), np.int64)
        return slots[: market.write_messages(table, starts, self.books, slots)]


class _TopWriter(_Writer):
    """Tops of books: what has changed from one to the next."""

    def __init__(self, dataset: Dataset, source: CsvSource) -> None:
        super().__init__(dataset, source)
        words = row_words(dataset)
        self.depth = (words - TOP_FIRST) // 4 if dataset.shape == Shape.TOPS else bands.BANDS_MAX
        self.shown = np.zeros((0, 2, self.depth, 2), np.int64)
        self.shown_counts = np.zeros((0, 2), np.int64)
        self.changes = np.zeros((3, 2, 2 * self.depth, 2), np.int64)

    def take(self, table: np.ndarray) -> np.ndarray:
        """Return the messages that are whole, int64[n, 8]."""
        self.books, self.shown = self.grow(self.books), self.grow(self.shown)
        self.shown_counts = self.grow(self.shown_counts)
        slots = np.zeros((len(table) * market.slots_per_top(self.depth), SLOT_WORDS), np.int64)
        written = market.write_tops(
            table, self.books, self.shown, self.shown_counts, self.changes, slots
        )
        return slots[:written]


class _BandWriter(_TopWriter):
    """Bands of depth: the last moment waits until the next begins."""

    def __init__(self, dataset: Dataset, source: CsvSource) -> None:
        super().__init__(dataset, source)
        self.open_rows = np.zeros((0, row_words(dataset)), np.int64)

    def take(self, table: np.ndarray) -> np.ndarray:
        """Return the messages that are whole, int64[n, 8]."""
        table = np.concatenate((self.open_rows, table))
        starts = bands.moment_starts(table)
        if len(table) - starts[-1] > ROWS_MAX:  # no moment is that long: tell of it now
            starts = np.append(starts, len(table))
        self.open_rows = table[starts[-1] :].copy()
        return self.write(table, starts)

    def end(self) -> np.ndarray:
        """Return what is left."""
        return self.write(self.open_rows, np.array([0, len(self.open_rows)]))

    def write(self, table: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Return the messages of the moments between the starts."""
        tops = []
        for first, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
            if first == end:
                continue
            try:
                tops.append(bands.top_of(table[first:end]))
            except bands.BandError as error:
                self.source.problems.tell(
                    self.source.path, error.line, str(error), "depth that grows with the percentage"
                )
        return super().take(np.array(tops, np.int64).reshape(len(tops), TOP_FIRST + 4 * self.depth))


SHAPES: dict[Shape, type[_Writer]] = {
    Shape.TRADES: _Writer,
    Shape.BBOS: _Writer,
    Shape.LEVELS: _LevelWriter,
    Shape.TOPS: _TopWriter,
    Shape.BANDS: _BandWriter,
}

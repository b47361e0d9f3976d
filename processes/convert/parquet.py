"""`tickring export RUN --parquet DIR`: a recording as Parquet, partitioned by date and symbol.

    DIR/<table>/date=2024-08-08/symbol=BTCUSDT/00000.parquet

Tables: trades, agg_trades, bbo, depth (a row per message) and levels (a row per level of it),
books and book_levels, marks, liquidations, gaps, clocks; requests (intents and orders), reports,
turns and so on, with the ring in a column. What a market message is, is told by the rings of feed
and rest; book's ring gives its books, not the trades that it passes on.

Rules:
    The date is the UTC day of the local time. Records of no instrument have the symbol ALL.
    Each file has in its metadata: run, table, symbol, price_decimals, qty_decimals.
"""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from common.enums import MarketKind, Side
from common.errors import UsageError
from common.instruments import Instrument
from common.records import LAYOUTS
from processes.convert.market import find_messages
from processes.convert.progress import progress_bar
from processes.convert.recorded import MARKET, SLOTS_AT_ONCE, Messages, Recording
from processes.convert.tables import (
    LEVEL_TABLES,
    RECORD_TABLES,
    TABLES,
    Columns,
    add_float,
    columns_of,
    level_columns,
    names_of,
)
from shm.recording import RingRecording

ROWS_PER_FILE = 1 << 20
ROWS_HELD_MAX = 1 << 22
NO_SYMBOL = "ALL"
_DAY_NS = 86_400_000_000_000
_FROM_BOOK = {MarketKind.BOOK, MarketKind.GAP}


class PartitionWriter:
    """Rows of all tables, written in files of ROWS_PER_FILE per table, date and symbol.

    Args:
        folder: new, or empty.
        recording: what is exported.

    Attributes:
        rows: written, per table.
    """

    def __init__(self, folder: Path, recording: Recording) -> None:
        self.folder, self.recording = folder, recording
        self.rows: dict[str, int] = {}
        self._held: dict[tuple[str, int, int], list[pl.DataFrame]] = {}
        self._files: dict[tuple[str, int, int], int] = {}

    def add(
        self, table: str, columns: Columns, day: np.ndarray, instrument: Instrument | None
    ) -> None:
        """Take rows of one instrument.

        Args:
            columns: of the rows.
            day: int64[n], days since 1970 of the rows.
        """
        frame = pl.DataFrame(columns)
        number = instrument.instrument_id if instrument else -1
        self.rows[table] = self.rows.get(table, 0) + len(frame)
        for one in np.unique(day).tolist():
            key = (table, one, number)
            part = frame.filter(pl.Series(day == one)) if (day != one).any() else frame
            self._held.setdefault(key, []).append(part)
            if sum(map(len, self._held[key])) >= ROWS_PER_FILE:
                self._write(key)
        held = {key: sum(map(len, parts)) for key, parts in self._held.items()}
        if sum(held.values()) >= ROWS_HELD_MAX:
            self._write(max(held, key=lambda key: held[key]))

    def close(self) -> None:
        """Write what is held."""
        for key in list(self._held):
            self._write(key)

    def _write(self, key: tuple[str, int, int]) -> None:
        table, day, number = key
        instrument = self.recording.instruments[number] if number >= 0 else None
        symbol = instrument.symbol if instrument else NO_SYMBOL
        count = self._files.get(key, 0)
        self._files[key] = count + 1
        folder = self.folder / table / f"date={np.datetime64(day, 'D')}" / f"symbol={symbol}"
        metadata = {"run": self.recording.run.path.name, "table": table, "symbol": symbol}
        if instrument:
            metadata["price_decimals"] = str(instrument.price_grid_decimals)
            metadata["qty_decimals"] = str(instrument.qty_grid_decimals)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            pl.concat(self._held.pop(key)).write_parquet(
                folder / f"{count:05d}.parquet", metadata=metadata
            )
        except OSError as error:
            raise UsageError(f"{folder}: {(error.strerror or str(error)).lower()}") from None


def export(recording: Recording, folder: Path) -> dict[str, Any]:
    """Write all rings that can be written as tables; return the rows per table.

    Raises:
        UsageError: the folder is not empty or cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder}: exists, expected a new folder")
    writer = PartitionWriter(folder, recording)
    rings = [
        ring
        for ring in recording.run.rings.values()
        if ring.layout == MARKET or ring.layout in RECORD_TABLES
    ]
    left_out = 0
    with progress_bar("export", recording.slots_total(rings)) as bar:
        done = 0
        for ring in rings:
            if ring.layout == MARKET:
                left_out += _export_market(
                    recording, ring, writer, lambda at, d=done: bar.at(d + at)
                )
            else:
                _export_records(recording, ring, writer)
            done += recording.slots_total([ring])
            bar.at(done)
    writer.close()
    return {"folder": str(folder), **writer.rows, "slots_left_out": left_out}


def _export_market(
    recording: Recording, ring: RingRecording, writer: PartitionWriter, show: Any
) -> int:
    """Write the messages of one market ring; return the slots that belong to no whole one."""
    is_books = ring.key.startswith("book.")
    messages = Messages(ring)
    for first, slots in messages.batches():
        starts = np.zeros(len(slots), np.int64)
        starts = starts[: find_messages(slots, starts)]
        kinds, ids = slots[starts, 0] & 0xFF, slots[starts, 0] >> 32
        for kind, (table, layout) in TABLES.items():
            if is_books and kind not in _FROM_BOOK:
                continue
            for number in np.unique(ids[kinds == kind]).tolist():
                chosen = starts[(kinds == kind) & (ids == number)]
                instrument = recording.instruments[number] if number >= 0 else None
                headers = np.ascontiguousarray(slots[chosen]).reshape(-1).view(LAYOUTS[layout])
                head, day = _head(recording, first + chosen, headers["ts_recv_ns"], ring.key)
                columns = columns_of(layout, headers, instrument)
                if layout == "DEPTH":
                    head["kind"] = names_of(np.full(len(chosen), int(kind)), MarketKind)
                writer.add(table, head | columns, day, instrument)
                if kind in LEVEL_TABLES:
                    _add_levels(recording, writer, kind, ring.key, slots, first, chosen, headers)
        show(messages.slots_read)
    return messages.slots_left_out


def _add_levels(
    recording: Recording,
    writer: PartitionWriter,
    kind: MarketKind,
    key: str,
    slots: np.ndarray,
    first: int,
    starts: np.ndarray,
    headers: np.ndarray,
) -> None:
    bids, asks = headers["bid_count"].astype(np.int64), headers["ask_count"].astype(np.int64)
    message, side, price, qty = level_columns(slots, starts, bids, asks)
    if not len(message):
        return
    instrument = recording.instruments[int(headers["instrument_id"][0])]
    stamps = headers["ts_recv_ns"][message]
    head, day = _head(recording, first + starts[message], stamps, key)
    head["ts_recv_ns"] = pl.Series(stamps)
    head["ts_exch_ns"] = pl.Series(headers["ts_exch_ns"][message])
    head["last_update_id"] = pl.Series(headers["last_update_id"][message])
    if kind != MarketKind.BOOK:
        head["is_snapshot"] = pl.Series(np.full(len(message), kind == MarketKind.SNAPSHOT_BEGIN))
    head["side"] = names_of(side, Side)
    for field, values in (("price_steps", price), ("qty_steps", qty)):
        head[field] = pl.Series(values)
        add_float(head, field, values, instrument)
    writer.add(LEVEL_TABLES[kind], head, day, instrument)


def _head(
    recording: Recording, sequence: np.ndarray, ts_ns: np.ndarray, key: str
) -> tuple[Columns, np.ndarray]:
    """Return the columns that every table begins with, and the days."""
    wall = ts_ns + recording.wall_offset_ns
    columns = {
        "time": pl.Series(wall).cast(pl.Datetime("ns", "UTC")),
        "ring": pl.Series([key]).new_from_index(0, len(sequence)),
        "sequence": pl.Series(sequence),
    }
    return columns, wall // _DAY_NS


def _export_records(recording: Recording, ring: RingRecording, writer: PartitionWriter) -> None:
    """Write the records of a ring that is not a market ring."""
    table, kinds = RECORD_TABLES[ring.layout]
    dtype = LAYOUTS[ring.layout]
    started = recording.run.manifest["started_ns"]
    for first, block in ring.blocks(SLOTS_AT_ONCE):
        records = np.ascontiguousarray(block).view(np.uint8).reshape(-1).view(dtype)
        fields = dtype.names or ()
        stamp = next(name for name in ("ts_pub_ns", "now_ns") if name in fields)
        ids = (
            records["instrument_id"].astype(np.int64)
            if "instrument_id" in fields
            else np.full(len(records), -1)
        )
        for number in np.unique(ids).tolist():
            chosen = np.flatnonzero(ids == number)
            instrument = recording.instruments[number] if number >= 0 else None
            part = records[chosen]
            stamps = np.where(part[stamp] > 0, part[stamp], started)
            head, day = _head(recording, first + chosen, stamps, ring.key)
            if kinds is not None:
                head["kind"] = names_of(np.ascontiguousarray(part["kind"]), kinds)
            writer.add(table, head | columns_of(ring.layout, part, instrument), day, instrument)

"""What the tests of imports share: importing text, reading runs back, and the book of a run."""

from pathlib import Path
from typing import Any

import numpy as np

from common.enums import MarketKind
from common.records import LAYOUTS
from processes.book.rehearsal import private_stage
from processes.convert.importer import ImportOptions, import_market
from processes.convert.market import find_messages
from processes.convert.recorded import Messages, Recording
from processes.convert.registry import FactOptions
from processes.replay.results import book_text
from processes.replay.session import BOOK, INPUT_SLOTS, book_slots

_RECORDS = {
    MarketKind.TRADE: "TRADE",
    MarketKind.AGG_TRADE: "TRADE",
    MarketKind.BBO: "BBO",
    MarketKind.GAP: "GAP",
    MarketKind.CLOCK: "CLOCK",
}
_SNAPSHOTS = (MarketKind.SNAPSHOT_BEGIN, MarketKind.SNAPSHOT_END)


def take(
    tmp_path: Path, kind: str, content: str | bytes, name: str = "file.csv", **options: Any
) -> tuple[Path, dict[str, Any]]:
    """Import a text; return (run, summary)."""
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return take_path(tmp_path, kind, path, **options)


def take_path(tmp_path: Path, kind: str, path: Path, **options: Any) -> tuple[Path, dict[str, Any]]:
    """Import a file or folder; return (run, summary)."""
    run = tmp_path / f"run-{len(list(tmp_path.glob('run-*')))}"
    strict = options.pop("is_strict", False)
    latency_ns = options.pop("feed_latency_ns", 0)
    wanted = ImportOptions(
        facts=FactOptions(**options), is_strict=strict, feed_latency_ns=latency_ns
    )
    return run, import_market(kind, path, run, wanted)


def slots_of(run: Path) -> np.ndarray:
    """Return all slots of the run's market ring."""
    recording = Recording(run)
    messages = Messages(recording.run.rings["feed.market.book"])
    slots = np.concatenate([slots for _, slots in messages.batches()])
    recording.close()
    assert messages.slots_left_out == 0
    return slots


def messages_of(run: Path) -> list[tuple]:
    """Return the messages of a run behind its CLOCK record, as plain values.

    A trade: (kind, instrument, recv, exch, price, qty, id, side, count); a best price: (kind,
    instrument, recv, exch, id, bid, qty, ask, qty); depth: (kind, instrument, recv, exch, first,
    last, previous, bids, asks).
    """
    slots = slots_of(run)
    starts = np.zeros(len(slots), np.int64)
    starts = starts[: find_messages(slots, starts)]
    found: list[tuple] = []
    for at in starts.tolist():
        kind = MarketKind(int(slots[at, 0]) & 0xFF)
        record = slots[at : at + 1].view(LAYOUTS[_RECORDS.get(kind, "DEPTH")])[0, 0]
        head = (kind.name, int(record["instrument_id"]), int(record["ts_recv_ns"]))
        if kind in (MarketKind.TRADE, MarketKind.AGG_TRADE):
            fields = ("ts_exch_ns", "price_steps", "qty_steps", "trade_id", "aggressor_side",
                      "trade_count")  # fmt: skip
        elif kind == MarketKind.BBO:
            fields = ("ts_exch_ns", "update_id", "bid_price_steps", "bid_qty_steps",
                      "ask_price_steps", "ask_qty_steps")  # fmt: skip
        elif kind == MarketKind.GAP:
            fields = ("reason",)
        elif kind == MarketKind.CLOCK:
            fields = ("ts_mono_ns", "ts_wall_ns")
        else:
            fields = ("ts_exch_ns", "first_update_id", "last_update_id", "previous_update_id")
        values = tuple(int(record[field]) for field in fields)
        if _RECORDS.get(kind) is None:
            values += _sides(slots, at, record)
        found.append((*head, *values))
    assert found[0][0] == "CLOCK" and found[0][3] == found[0][4]
    return found[1:]


def _sides(slots: np.ndarray, at: int, record: np.void) -> tuple[list, list]:
    if record["kind"] == MarketKind.SNAPSHOT_END:
        return [], []
    bids, asks = int(record["bid_count"]), int(record["ask_count"])
    numbers = slots[at + 1 : at + int(record["slot_count"]), 2:].reshape(-1, 2).tolist()
    levels = [tuple(pair) for pair in numbers]
    return levels[:bids], levels[bids : bids + asks]


def book_of(run: Path) -> str:
    """Let a live book stage take all of a run; return its book as text, "" if it is not valid."""
    recording = Recording(run)
    instrument = recording.instruments[0]
    recording.close()
    stage, others = private_stage(
        [instrument], BOOK, input_capacity=INPUT_SLOTS, book_capacity=book_slots(1)
    )
    slots = slots_of(run)
    starts = np.zeros(len(slots), np.int64)
    starts = starts[: find_messages(slots, starts)]
    ends = np.append(starts[1:], len(slots))
    for at, end in zip(starts.tolist(), ends.tolist(), strict=True):
        is_snapshot = int(slots[at, 0]) & 0xFF in _SNAPSHOTS
        ring = others.snapshots if is_snapshot else others.market
        assert ring.try_write(slots[at:end])
        stage.do_work(int(slots[at, 1]))
        others.books.read(others.books.capacity)
        others.requests.read(others.requests.capacity)
    text = book_text(stage.state.books, instrument) if stage.is_live(0) else ""
    stage.close()
    return text

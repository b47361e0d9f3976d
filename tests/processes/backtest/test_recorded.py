"""Captures and recorded runs as events: the book's own rule, both orders, the same from both."""

import json

import numpy as np
import pytest

from common.enums import MarketKind
from common.errors import UsageError
from common.instruments import Instrument, InstrumentFacts
from common.records import MARK, SLOT_WORDS
from processes.backtest.events import AT_LOCAL, AT_VENUE, EventKind
from processes.backtest.recorded import events_of, load_capture, load_run
from processes.backtest.sources import load_source, on_grid
from processes.convert.importer import ImportOptions
from processes.convert.importer import run as import_data
from processes.convert.registry import FactOptions

FACTS = InstrumentFacts(tick_size="0.1", lot_size="0.001", price_decimals=1, qty_decimals=3)
MADE = Instrument(instrument_id=0, venue="binance-usdm", symbol="BTCUSDT", facts=FACTS)
WALL_NS = 1_700_000_000_000_000_000


def depth(ms: int, first: int, last: int, previous: int, bids, asks) -> str:
    return json.dumps({
        "e": "depthUpdate", "E": ms, "T": ms, "s": "BTCUSDT", "U": first, "u": last, "pu": previous,
        "b": bids, "a": asks,
    })  # fmt: skip


def snapshot(ms: int, last: int, bids, asks) -> str:
    return json.dumps({"lastUpdateId": last, "E": ms, "T": ms, "bids": bids, "asks": asks})


def trade(ms: int, number: int, price: str, is_sale: bool) -> str:
    return json.dumps({
        "e": "trade", "E": ms, "T": ms, "s": "BTCUSDT", "t": number, "p": price, "q": "0.002",
        "X": "MARKET", "m": is_sale,
    })  # fmt: skip


T = WALL_NS // 1_000_000
LINES = [
    (2, depth(T, 1, 5, 0, [["99.0", "1.000"]], [])),  # older than the snapshot
    (3, depth(T + 1, 6, 9, 5, [["99.1", "1.000"]], [])),  # straddles it
    (4, trade(T + 2, 1, "99.2", True)),
    (5, depth(T + 3, 10, 12, 9, [], [["99.4", "0.500"]])),
    (9, snapshot(T + 1, 8, [["99.0", "2.000"]], [["99.5", "3.000"]])),
    (10, depth(T + 8, 13, 15, 12, [["99.0", "0.000"]], [])),
    (11, depth(T + 9, 17, 18, 16, [["98.0", "1.000"]], [])),  # a gap: 16 is missing
    (12, trade(T + 10, 2, "99.3", False)),
    (13, depth(T + 11, 19, 20, 18, [["98.1", "1.000"]], [])),
]


@pytest.fixture
def capture(tmp_path):
    path = tmp_path / "capture.txt"
    path.write_text("".join(f"{WALL_NS + ms * 1_000_000} {text}\n" for ms, text in LINES))
    return path


def shown(events: np.ndarray, flag: int, field: str) -> list[tuple]:
    """Return (kind, side, price, quantity, ms) of the rows of one order."""
    return [
        (int(e["kind"]), int(e["side"]), int(e["price_steps"]), int(e["qty_steps"]),
         int(e[field] - WALL_NS) // 1_000_000)
        for e in events if e["flags"] & flag
    ]  # fmt: skip


DEPTH, TRADE, CLEAR = int(EventKind.DEPTH), int(EventKind.TRADE), int(EventKind.CLEAR)


def test_a_snapshot_drops_old_diffs_and_lets_the_waiting_ones_follow(capture):
    notes: dict[str, int] = {}
    events = load_capture(capture, MADE, notes)
    assert shown(events, AT_LOCAL, "ts_recv_ns") == [
        (TRADE, -1, 992, 2, 4),
        (CLEAR, 0, 0, 0, 9), (DEPTH, 1, 990, 2_000, 9), (DEPTH, -1, 995, 3_000, 9),
        (DEPTH, 1, 991, 1_000, 9), (DEPTH, -1, 994, 500, 9),
        (DEPTH, 1, 990, 0, 10),
        (TRADE, 1, 993, 2, 12),
    ]  # fmt: skip
    assert shown(events, AT_VENUE, "ts_exch_ns") == [
        (CLEAR, 0, 0, 0, 1), (DEPTH, 1, 990, 2_000, 1), (DEPTH, -1, 995, 3_000, 1),
        (DEPTH, 1, 991, 1_000, 1),
        (TRADE, -1, 992, 2, 2),
        (DEPTH, -1, 994, 500, 3),
        (DEPTH, 1, 990, 0, 8),
        (TRADE, 1, 993, 2, 10),
    ]  # fmt: skip
    assert (notes["stale_diffs"], notes["gaps"]) == (1, 1)
    assert (
        notes["unused_diffs"] == 2
    )  # the gap and what follows it wait for a snapshot that never comes


def test_a_snapshot_without_a_symbol_makes_no_book_of_a_symbol_that_is_not_there(capture):
    other = Instrument(instrument_id=1, venue="binance-usdm", symbol="ETHUSDT", facts=FACTS)
    [(i, events)] = load_source(capture, [MADE, other], {})
    assert i == 0 and len(events)


def test_a_clock_behind_the_venues_is_shifted_until_nothing_is_seen_early(capture, tmp_path):
    early = tmp_path / "early.txt"
    lines = capture.read_text().splitlines()
    early.write_text("".join(f"{int(line[:19]) - 5_000_000}{line[19:]}\n" for line in lines))
    notes: dict[str, int] = {}
    events = load_capture(early, MADE, notes)
    ahead = events["ts_exch_ns"] - events["ts_recv_ns"]
    assert ahead.max() == 0 and notes["local_shift_ns"] == 3_000_000


def test_a_recorded_run_gives_the_events_of_its_capture(capture, tmp_path):
    facts = FactOptions(
        venue="binance-usdm", symbol="BTCUSDT", tick_size="0.1", lot_size="0.001",
        price_decimals=1, qty_decimals=3,
    )  # fmt: skip
    options = ImportOptions(facts=facts, is_strict=True, as_json=True)
    import_data("capture", capture, tmp_path / "run", options)
    notes: dict[str, int] = {}
    [(i, events)] = load_run(tmp_path / "run", [MADE], notes)
    assert i == 0 and events.tobytes() == load_capture(capture, MADE, {}).tobytes()
    other = Instrument(instrument_id=0, venue="binance-usdm", symbol="ETHUSDT", facts=FACTS)
    with pytest.raises(UsageError, match="has BTCUSDT, expected one of ETHUSDT"):
        load_run(tmp_path / "run", [other], {})
    finer = InstrumentFacts(tick_size="0.01", lot_size="0.001", price_decimals=2, qty_decimals=3)
    wrong = Instrument(instrument_id=0, venue="binance-usdm", symbol="BTCUSDT", facts=finer)
    with pytest.raises(UsageError, match="decimals of price and quantity, expected"):
        load_run(tmp_path / "run", [wrong], {})


def test_a_funding_of_a_live_run_is_on_the_clock_of_its_other_events():
    """Local stamps of a live run are monotonic; all events are told on the wall clock."""
    marks = np.zeros(3, MARK)
    marks["kind"], marks["slot_count"] = MarketKind.MARK, 1
    marks["ts_recv_ns"] = [1_000, 2_000, 3_000]
    marks["ts_exch_ns"] = WALL_NS + marks["ts_recv_ns"]
    marks["ts_next_funding_ns"] = [WALL_NS + 1_500, WALL_NS + 1_500, WALL_NS + 9_000]
    marks["mark_price_e8"], marks["funding_rate_e8"] = 5, 7
    notes: dict[str, int] = {}
    events = events_of(marks.view(np.int64).reshape(-1, SLOT_WORDS), 0, WALL_NS, notes)
    (funding,) = events[events["kind"] == EventKind.FUNDING]
    assert funding["ts_exch_ns"] == WALL_NS + 1_500
    assert 0 <= funding["ts_recv_ns"] - WALL_NS <= 3_000


def test_a_price_between_two_steps_is_told_at_any_size():
    with pytest.raises(UsageError, match="row 1 is 64210.06"):
        on_grid(np.array([64210.1, 64210.06]), np.array([True, True]), 1, "f")

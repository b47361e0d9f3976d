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
from processes.backtest.run import load_data
from processes.backtest.sources import load_source, on_grid
from processes.convert.importer import ImportOptions
from processes.convert.importer import run as import_data
from processes.convert.registry import FactOptions

from tests.processes.backtest.made_market import made_setup
from tests.processes.backtest.naive_venue import Book

FACTS = InstrumentFacts(tick_size="0.1", lot_size="0.001", price_decimals=1, qty_decimals=3)
MADE = Instrument(instrument_id=0, venue="binance-usdm", symbol="BTCUSDT", facts=FACTS)
WALL_NS = 1_700_000_000_000_000_000


def depth(ms: int, first: int, last: int, previous: int, bids, asks) -> str:
    return json.dumps({
        "e": "depthUpdate", "E": ms, "T": ms, "s": "BTCUSDT", "U": first, "u": last, "pu": previous,
        "b": bids, "a": asks,
    })  # fmt: skip


def snapshot(ms: int, last: int, bids, asks) -> str:
    """Return a snapshot; ms 0: the venue does not say when it was."""
    said = {"E": ms, "T": ms} if ms else {}
    return json.dumps({"lastUpdateId": last, **said, "bids": bids, "asks": asks})


def trade(ms: int, number: int, price: str, is_sale: bool, symbol: str = "BTCUSDT") -> str:
    return json.dumps({
        "e": "trade", "E": ms, "T": ms, "s": symbol, "t": number, "p": price, "q": "0.002",
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


def write_capture(path, lines):
    """Write lines of (ms at which it was here, text)."""
    path.write_text("".join(f"{WALL_NS + ms * 1_000_000} {text}\n" for ms, text in lines))
    return path


@pytest.fixture
def capture(tmp_path):
    return write_capture(tmp_path / "capture.txt", LINES)


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


def book_of(events: np.ndarray, flag: int) -> tuple:
    """Return the levels of both sides that the events of one order leave."""
    book = Book(False, False, 1)
    for event in events[events["flags"] & flag != 0]:
        if event["kind"] == EventKind.DEPTH:
            book.set(int(event["side"]), int(event["price_steps"]), int(event["qty_steps"]))
        elif event["kind"] == EventKind.CLEAR:
            book.clear(1, None)
            book.clear(-1, None)
    return book.levels[1], book.levels[-1]


def snapshot_ms(events: np.ndarray) -> set[int]:
    """Return when the last snapshot happened at the venue, of its CLEAR and its levels."""
    at_venue = events[events["flags"] & AT_VENUE != 0]
    last = int(np.flatnonzero(at_venue["kind"] == EventKind.CLEAR)[-1])
    return set(((at_venue["ts_exch_ns"][last : last + 3] - WALL_NS) // 1_000_000).tolist())


FIRST = [
    (2, snapshot(T + 1, 5, [["98.0", "1.000"]], [["99.9", "1.000"]])),
    (3, depth(T + 2, 6, 9, 5, [["99.1", "1.000"]], [])),
]
UNDATED = snapshot(0, 12, [["99.0", "2.000"]], [["99.5", "3.000"]])
NEXT = depth(T + 8, 13, 15, 12, [["99.0", "0.000"]], [["99.4", "1.000"]])


@pytest.mark.parametrize(
    ("lines", "ms"),
    [
        # Its own follower has waited for it, and is earlier than it was here.
        ([*FIRST, (4, depth(T + 3, 11, 11, 10, [["99.3", "1.000"]], [])), (9, NEXT), (10, UNDATED)],
         8),
        # The follower was under way when it came.
        ([*FIRST, (10, UNDATED), (12, NEXT)], 8),
        # Here it was before the venue says that the diff happened which it holds: clocks differ.
        ([*FIRST, (4, depth(T + 6, 11, 11, 10, [["99.3", "1.000"]], [])), (5, UNDATED), (12, NEXT)],
         6),
        ([*FIRST, (4, depth(T + 6, 10, 12, 9, [["99.3", "1.000"]], [])), (5, UNDATED), (12, NEXT)],
         6),
        ([*FIRST, (4, UNDATED), (12, NEXT)], 4),
    ],
    ids=["waited", "under way", "held", "applied", "between"],
)  # fmt: skip
def test_an_undated_snapshot_happens_behind_what_it_holds_and_before_what_follows(
    lines, ms, tmp_path
):
    events = load_capture(write_capture(tmp_path / "c.txt", lines), MADE, {})
    assert snapshot_ms(events) == {ms}
    assert book_of(events, AT_VENUE) == book_of(events, AT_LOCAL) == ({}, {995: 3_000, 994: 1_000})


def test_a_snapshots_own_time_is_kept(capture, tmp_path):
    """Between what it holds and what follows it; and undated it is put to the same instant."""
    events = load_capture(capture, MADE, {})
    assert snapshot_ms(events) == {1}
    lines = [*LINES[:4], (9, snapshot(0, 8, [["99.0", "2.000"]], [["99.5", "3.000"]])), *LINES[5:]]
    undated = write_capture(tmp_path / "undated.txt", lines)
    assert load_capture(undated, MADE, {}).tobytes() == events.tobytes()


def test_a_clock_behind_the_venues_is_shifted_for_all_until_nothing_is_seen_early(tmp_path):
    """Both were here at 5 ms, one says that it happened at 8: nobody was seen before the other."""
    setup = made_setup(tmp_path, "processes.strategy.touch_quoter:TouchQuoter",
                       {"interval_ns": 10_000_000, "qty_steps": 5}, count=2)  # fmt: skip
    lines = [
        (5, trade(T + 8, 1, "99.2", True, "MADE0")), (5, trade(T + 1, 1, "99.2", True, "MADE1")),
        (9, trade(T + 9, 2, "99.2", True, "MADE1")),
    ]  # fmt: skip
    data = load_data(setup, [write_capture(tmp_path / "capture.txt", lines)])
    assert data.notes["local_shift_ns"] == 3_000_000
    seen = [(int(e["instrument_id"]), int(e["ts_recv_ns"] - WALL_NS) // 1_000_000)
            for e in data.events if e["flags"] & AT_LOCAL]  # fmt: skip
    assert seen == [(0, 8), (1, 8), (1, 12)]
    assert (data.events["ts_recv_ns"] >= data.events["ts_exch_ns"]).all()


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

"""hftbacktest's event arrays: in, out, and round."""

import gzip
import hashlib

import numpy as np
import pytest

from common.enums import MarketKind
from common.errors import DataError, UsageError
from common.records import GAP
from processes.backtest.events import EVENT, EventKind
from processes.backtest.recorded import load_run
from processes.backtest.sources import load_npz
from processes.convert import npz
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
from processes.convert.recorded import Recording
from shm.recording import RingWriter, read_manifest, write_manifest

from tests.processes.backtest.test_recorded import LINES, WALL_NS, depth, snapshot
from tests.processes.backtest.test_recorded import T as MS
from tests.processes.convert.support import book_of, messages_of, slots_of, take, take_path
from tests.support import capture

BOTH = HFT_AT_VENUE | HFT_AT_LOCAL
BID, ASK = HFT_DEPTH | HFT_BUY, HFT_DEPTH | HFT_SELL
T = WALL_NS
FACTS = {"tick_size": "0.1", "lot_size": "0.001", "price_decimals": 2, "qty_decimals": 3}
# kind, venue's time, local time, price, quantity
STORY = [
    (BID, 1, 10, 99.5, 1.0),
    (HFT_CLEAR | HFT_BUY, 2, 20, 99.0, 0.0),
    (HFT_SNAPSHOT | HFT_BUY, 2, 20, 100.0, 0.003),
    (HFT_SNAPSHOT | HFT_BUY, 2, 20, 99.0, 2.0),
    (HFT_CLEAR | HFT_SELL, 2, 20, 101.0, 0.0),
    (HFT_SNAPSHOT | HFT_SELL, 2, 20, 101.0, 1.0),
    (HFT_TRADE | HFT_SELL, 30, 35, 100.0, 0.001),
    (BID, 31, 36, 100.0, 0.002),
    (BID, 31, 36, 99.0, 0.0),
    (ASK, 31, 36, 101.1, 7.0),
    (BID, 31, 36, 98.0, 1.0),
    (HFT_TRADE, 31, 36, 100.5, 0.3),
    (HFT_TRADE | HFT_BUY, 31, 36, 100.6, 0.3),
]
# What a run of it is exported as: no depth before the snapshot, one clear of both sides.
EXPORTED = [(HFT_CLEAR, 2, 20, 0.0, 0.0), *STORY[2:4], *STORY[5:]]


def events_of(story: list[tuple], flags: int = BOTH) -> np.ndarray:
    rows = [(kind | flags, T + a, T + b, px, qty, 0, 0, 0.0) for kind, a, b, px, qty in story]
    return np.array(rows, HFT_EVENT)


def save(path, events):
    np.savez_compressed(path, data=events)
    return path


def exported(run, path, symbol=""):
    recording = Recording(run)
    summary = npz.export(recording, path, symbol)
    recording.close()
    return np.load(path)["data"], summary


def test_events_become_messages(tmp_path):
    path = save(tmp_path / "a.npz", events_of(STORY))
    run, summary = take_path(tmp_path, "hftbacktest", path, symbol="BTCUSDT")
    found = messages_of(run)
    assert [message[0] for message in found] == [
        "DIFF_BEGIN", "SNAPSHOT_BEGIN", "SNAPSHOT_END", "TRADE", "DIFF_BEGIN", "DIFF_BEGIN",
        "TRADE", "TRADE",
    ]  # fmt: skip
    assert found[1][7:] == ([(1000, 3), (990, 2000)], [(1010, 1000)])
    assert found[3] == ("TRADE", 0, T + 35, T + 30, 1000, 1, 1, -1, 1)
    assert found[4][7:] == ([(1000, 2), (990, 0)], [(1011, 7000)])
    assert found[5][7:] == ([(980, 1000)], [])  # a bid behind an ask: the next message
    assert [message[7] for message in found[-2:]] == [0, 1]
    assert summary["rows"] == 11
    assert book_of(run) == "b,100.00,0.002\nb,98.00,1.000\na,101.00,1.000\na,101.10,7.000\n"


def test_what_was_exported_comes_out_again(tmp_path):
    """Also from a plain .npy, and with no flags of the sides at all."""
    expected = events_of(EXPORTED)
    for number, (name, content) in enumerate(
        [("a.npz", events_of(STORY)), ("b.npz", expected), ("c.npz", events_of(EXPORTED, 0))]
    ):
        path = save(tmp_path / name, content)
        run, _ = take_path(tmp_path, "hftbacktest", path, symbol="BTCUSDT", is_strict=True)
        found, summary = exported(run, tmp_path / f"out-{number}.npz")
        assert found.dtype == HFT_EVENT
        assert found.tobytes() == expected.tobytes()
        assert (summary["events"], summary["trades"], summary["local_shift_ns"]) == (11, 3, 0)
        assert (summary["stale_diffs"], summary["gaps"]) == (int(number == 0), 0)
    np.save(tmp_path / "d.npy", expected)
    run, _ = take_path(tmp_path, "hftbacktest", tmp_path / "d.npy", symbol="BTCUSDT")
    assert exported(run, tmp_path / "out.npz")[0].tobytes() == expected.tobytes()


def test_messages_that_blocks_cut_are_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("processes.convert.events.ROWS_MAX", 2)
    monkeypatch.setattr("processes.convert.recorded.SLOTS_AT_ONCE", 3)
    path = save(tmp_path / "a.npz", events_of(STORY))
    run, _ = take_path(tmp_path, "hftbacktest", path, symbol="BTCUSDT", is_strict=True)
    assert exported(run, tmp_path / "out.npz")[0].tobytes() == events_of(EXPORTED).tobytes()


def book_of_events(events: np.ndarray) -> str:
    """Return the book that the local side has at the end, as `support.book_of` tells it."""
    sides: dict[int, dict[float, float]] = {HFT_BUY: {}, HFT_SELL: {}}
    for event in events[events["ev"] & HFT_AT_LOCAL != 0]:
        kind, side = int(event["ev"]) & 0xFF, int(event["ev"]) & (HFT_BUY | HFT_SELL)
        if kind == HFT_CLEAR:
            assert side == 0
            sides = {HFT_BUY: {}, HFT_SELL: {}}
        elif kind in (HFT_DEPTH, HFT_SNAPSHOT):
            sides[side][float(event["px"])] = float(event["qty"])
    shown = []
    for name, side, sign in (("b", HFT_BUY, -1), ("a", HFT_SELL, 1)):
        levels = sorted((sign * px, qty) for px, qty in sides[side].items() if qty)
        shown += [f"{name},{abs(px):.2f},{qty:.3f}\n" for px, qty in levels]
    return "".join(shown)


# Behind the gap of LINES: a snapshot within the last diff of it, a diff behind both, another gap.
RESYNC = [
    (14, snapshot(MS + 12, 19, [["98.0", "4.000"], ["97.9", "5.000"]], [["99.9", "6.000"]])),
    (15, depth(MS + 13, 21, 22, 20, [["97.9", "0.000"]], [["99.8", "1.500"]])),
    (16, depth(MS + 14, 24, 25, 23, [["1.0", "1.000"]], [])),
]


@pytest.mark.parametrize(
    ("count", "gaps", "unused", "is_live"),
    [(9, 1, 2, False), (10, 1, 0, True), (11, 1, 0, True), (12, 2, 1, False)],
)
def test_the_exported_events_of_a_run_are_those_that_its_backtest_sees(
    tmp_path, count, gaps, unused, is_live
):
    """Old, straddling and waiting diffs, a gap, and a snapshot behind it."""
    text = "".join(f"{WALL_NS + ms * 1_000_000} {line}\n" for ms, line in (LINES + RESYNC)[:count])
    run, _ = take(tmp_path, "capture", text, "capture.txt", symbol="BTCUSDT", **FACTS)
    found, summary = exported(run, tmp_path / "out.npz")
    recording = Recording(run)
    [(_, seen)] = load_run(run, recording.instruments, {})
    again = load_npz(tmp_path / "out.npz", recording.instruments[0], {})
    recording.close()
    seen["trade_id"] = 0  # there is no place for it
    assert again.tobytes() == seen.tobytes()
    assert (summary["gaps"], summary["unused_diffs"], summary["trades"]) == (gaps, unused, 2)
    assert book_of(run) == (book_of_events(found) if is_live else "")  # the live book's
    kinds = [int(event) & 0xFF for event in found["ev"][found["ev"] & HFT_AT_LOCAL != 0]]
    assert kinds[1:4] == [HFT_CLEAR, HFT_SNAPSHOT, HFT_SNAPSHOT]
    round_trip, _ = take_path(
        tmp_path, "hftbacktest", tmp_path / "out.npz", symbol="BTCUSDT", is_strict=True, **FACTS
    )
    assert book_of(round_trip) == book_of_events(found)


def test_a_snapshot_ends_with_its_times_or_where_a_level_is_removed():
    """Kind, venue's and local time, quantity, and whether it is a level of a snapshot."""
    depth_kind, trade_kind, clear = EventKind.DEPTH, EventKind.TRADE, EventKind.CLEAR
    story = [
        (depth_kind, 1, 5, 3, False),
        (clear, 2, 6, 0, False), (depth_kind, 2, 6, 3, True), (depth_kind, 2, 6, 4, True),
        (depth_kind, 2, 6, 0, False), (depth_kind, 2, 6, 5, False),
        (clear, 2, 7, 0, False), (depth_kind, 2, 7, 3, True), (depth_kind, 3, 7, 3, False),
        (depth_kind, 2, 7, 3, False),
        (clear, 4, 8, 0, False), (trade_kind, 4, 8, 1, False), (depth_kind, 4, 8, 3, False),
        (clear, 4, 8, 0, False), (depth_kind, 4, 8, 3, True), (depth_kind, 4, 9, 3, False),
    ]  # fmt: skip
    rows = np.zeros(len(story), EVENT)
    for field, column in zip(
        ("kind", "ts_exch_ns", "ts_recv_ns", "qty_steps"), zip(*story, strict=True), strict=False
    ):
        rows[field] = column
    assert npz.in_snapshots(rows).tolist() == [row[-1] for row in story]
    assert npz.in_snapshots(rows[:0]).tolist() == []


def as_live(imported, run):
    """Write an imported run as a live one has it: snapshots in a ring of rest, and no GAP but one.

    That is of all instruments, before the last message. A second instrument has the same diffs.
    """
    slots = slots_of(imported)
    starts = np.zeros(len(slots), np.int64)
    starts = starts[: find_messages(slots, starts)]
    gap = np.zeros(1, GAP)
    gap["kind"], gap["slot_count"], gap["instrument_id"] = MarketKind.GAP, 1, -1
    gap["ts_recv_ns"] = slots[starts[-1], 1]
    rings = {"feed.market.book": [], "rest.snapshot.book": []}
    for message in np.split(slots, starts[1:]):
        kind = int(message[0, 0]) & 0xFF
        if kind in (MarketKind.SNAPSHOT_BEGIN, MarketKind.SNAPSHOT_END):
            rings["rest.snapshot.book"].append(message)
        elif kind in (MarketKind.DIFF_BEGIN, MarketKind.TRADE):
            other = message.copy()
            other[:, 0] |= 1 << 32
            rings["feed.market.book"] += [message, other]
    rings["feed.market.book"].insert(-2, gap.view(np.int64).reshape(1, -1))
    manifest = read_manifest(imported)
    first = manifest["instruments"][0]
    manifest["instruments"].append({**first, "instrument_id": 1, "symbol": "ETHUSDT"})
    for key, messages in rings.items():
        writer = RingWriter(run, key, "MARKET", 65_536)
        writer.write(np.concatenate(messages))
        writer.close()
    write_manifest(run, manifest)


def test_a_gap_of_all_instruments_and_a_ring_of_snapshots_are_exported_as_seen(tmp_path):
    text = "".join(f"{WALL_NS + ms * 1_000_000} {line}\n" for ms, line in (LINES + RESYNC)[:11])
    imported, _ = take(tmp_path, "capture", text, "capture.txt", symbol="BTCUSDT", **FACTS)
    as_live(imported, tmp_path / "live")
    found, summary = exported(tmp_path / "live", tmp_path / "out.npz", "BTCUSDT")
    recording = Recording(tmp_path / "live")
    [(_, seen), _] = load_run(tmp_path / "live", recording.instruments, {})
    again = load_npz(tmp_path / "out.npz", recording.instruments[0], {})
    recording.close()
    seen["trade_id"] = 0
    assert again.tobytes() == seen.tobytes()
    assert (summary["gaps"], summary["unused_diffs"], summary["trades"]) == (2, 1, 2)
    assert book_of_events(found) == "b,98.10,1.000\nb,98.00,4.000\nb,97.90,5.000\na,99.90,6.000\n"


def test_only_what_the_local_side_saw_is_imported(tmp_path):
    events = np.concatenate(
        [
            events_of(STORY[:1], HFT_AT_VENUE),
            events_of(STORY[6:7]),
            events_of(STORY[:1], HFT_AT_LOCAL),
        ]
    )
    run, _ = take_path(
        tmp_path, "hftbacktest", save(tmp_path / "a.npz", events), symbol="BTCUSDT"
    )  # fmt: skip
    assert [message[0] for message in messages_of(run)] == ["TRADE", "DIFF_BEGIN"]


def test_bad_events_are_told_and_counted(tmp_path, capsys):
    bad = [
        (10, 1, 10, 1.0, 1.0),  # an order of a market-by-order feed
        (BID, 1, 10, 100.05, 1.0),
        (HFT_DEPTH, 1, 10, 100.0, 1.0),
        (BID, 1, 10, float("nan"), 1.0),
        (HFT_TRADE | HFT_BUY, 1, 10, 100.0, 0.0),
        (BID, 1, 10, 1e300, 1.0),
        (BID, 1, 10, 100.0, -1.0),
    ]
    path = save(tmp_path / "a.npz", events_of(bad + STORY))
    run, summary = take_path(tmp_path, "hftbacktest", path, symbol="BTCUSDT")
    assert (summary["bad_rows"], summary["rows"]) == (7, 11)
    said = capsys.readouterr().err.splitlines()
    assert "a.npz:2: found {" in said[1] and "on the grid of 0.10 and 0.001" in said[1]
    with pytest.raises(DataError, match="a.npz:1: found"):
        take_path(tmp_path, "hftbacktest", path, symbol="BTCUSDT", is_strict=True)


@pytest.mark.parametrize("rows_max", [1, 2, 32_768])
def test_a_clear_without_a_snapshot_is_told(tmp_path, capsys, monkeypatch, rows_max):
    monkeypatch.setattr("processes.convert.events.ROWS_MAX", rows_max)
    alone = (HFT_CLEAR | HFT_BUY, 1, 10, 99.0, 0.0)
    path = save(tmp_path / "a.npz", events_of([alone, *STORY, alone]))
    run, summary = take_path(tmp_path, "hftbacktest", path, symbol="BTCUSDT")
    assert (summary["bad_rows"], summary["rows"], summary["snapshot_begin"]) == (2, 11, 1)
    said = capsys.readouterr().err.splitlines()
    assert [line.partition("a.npz:")[2].partition(",")[0] for line in said] == [
        "1: found a depth clear alone", "15: found a depth clear alone"
    ]  # fmt: skip


def test_floats_that_arithmetic_has_moved_are_on_the_grid(tmp_path):
    story = [(HFT_TRADE | HFT_BUY, 1, 2, 0.1 * 3, 0.1 + 0.2)]
    run, _ = take_path(
        tmp_path, "hftbacktest", save(tmp_path / "a.npz", events_of(story)), symbol="BTCUSDT"
    )  # fmt: skip
    assert messages_of(run)[0][4:6] == (3, 300)


def test_other_arrays_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", data=np.zeros(5))
    with pytest.raises(DataError, match="array of float64.*expected one dimension of ev, exch_ts"):
        take_path(tmp_path, "hftbacktest", tmp_path / "a.npz", symbol="BTCUSDT")
    with pytest.raises(DataError, match="expected a numpy file of events"):
        take(tmp_path, "hftbacktest", "no array", "b.npy", symbol="BTCUSDT")


def test_exports_need_one_symbol_and_something_of_it(tmp_path):
    text = "1723161255,BTCUSDT,60000.1,1,buy\n1723161256,ETHUSDT,2500.1,1,sell\n"
    run, _ = take(tmp_path, "ticks", text)
    recording = Recording(run)
    with pytest.raises(UsageError, match="--symbol: '', expected one of BTCUSDT, ETHUSDT"):
        npz.export(recording, tmp_path / "a.npz", "")
    assert npz.export(recording, tmp_path / "a.npz", "ETHUSDT")["trades"] == 1
    recording.close()
    quotes = "1,1,1,2,1,1700000000000,1\n"
    run, _ = take(tmp_path, "binance-bookTicker", quotes, symbol="BTCUSDT")
    recording = Recording(run)
    with pytest.raises(UsageError, match="no trades of BTCUSDT and no depth behind a snapshot"):
        npz.export(recording, tmp_path / "b.npz", "")
    recording.close()


def test_the_real_capture_is_exported_as_hftbacktest_converts_it(tmp_path):
    """hftbacktest 2.4.4's own converter lists the same 480,000 events at the end, byte for byte.

    At the beginning it takes every diff when it came; here 4 diffs are older than the snapshot, and
    those behind it wait for it.
    """
    path = capture("binance-usdm-btcusdt-20240808.gz")
    lines = gzip.decompress(path.read_bytes()).count(b"\n")
    run, _ = take_path(tmp_path, "capture", path, symbol="BTCUSDT")
    found, summary = exported(run, tmp_path / "a.npz")
    assert lines == 93_954
    assert (summary["events"], summary["trades"]) == (466_576, 21_313)
    assert (summary["stale_diffs"], summary["gaps"], summary["unused_diffs"]) == (4, 0, 0)
    assert summary["local_shift_ns"] == 1_272_156_851
    digest = hashlib.sha256(found[-480_000:].tobytes()).hexdigest()
    assert digest == "df496281aa9641e9628b9a5812b25e819f868a3571ef22b8f944e17bb0268263"

"""hftbacktest's event arrays: in, out, and round."""

import gzip

import numpy as np
import pytest

from common.errors import DataError, UsageError
from processes.convert import npz
from processes.convert.events import (
    BUY_EVENT,
    DEPTH_CLEAR_EVENT,
    DEPTH_EVENT,
    DEPTH_SNAPSHOT_EVENT,
    EXCH_EVENT,
    LOCAL_EVENT,
    SELL_EVENT,
    TRADE_EVENT,
)
from processes.convert.npz import FILE_EVENT, in_both_orders
from processes.convert.recorded import Recording

from tests.processes.convert.support import book_of, messages_of, take, take_path
from tests.support import capture

BOTH = EXCH_EVENT | LOCAL_EVENT
BID, ASK = DEPTH_EVENT | BUY_EVENT, DEPTH_EVENT | SELL_EVENT
T = 1_700_000_000_000_000_000
# kind, venue's time, local time, price, quantity
STORY = [
    (BID, 1, 10, 99.5, 1.0),
    (DEPTH_CLEAR_EVENT | BUY_EVENT, 2, 20, 99.0, 0.0),
    (DEPTH_SNAPSHOT_EVENT | BUY_EVENT, 2, 20, 100.0, 0.003),
    (DEPTH_SNAPSHOT_EVENT | BUY_EVENT, 2, 20, 99.0, 2.0),
    (DEPTH_CLEAR_EVENT | SELL_EVENT, 2, 20, 101.0, 0.0),
    (DEPTH_SNAPSHOT_EVENT | SELL_EVENT, 2, 20, 101.0, 1.0),
    (TRADE_EVENT | SELL_EVENT, 30, 35, 100.0, 0.001),
    (BID, 31, 36, 100.0, 0.002),
    (BID, 31, 36, 99.0, 0.0),
    (ASK, 31, 36, 101.1, 7.0),
    (BID, 31, 36, 98.0, 1.0),
    (TRADE_EVENT, 31, 36, 100.5, 0.3),
    (TRADE_EVENT | BUY_EVENT, 31, 36, 100.6, 0.3),
]


def events_of(story: list[tuple], flags: int = BOTH) -> np.ndarray:
    rows = [(kind | flags, T + a, T + b, px, qty, 0, 0, 0.0) for kind, a, b, px, qty in story]
    return np.array(rows, FILE_EVENT)


def save(path, events):
    np.savez_compressed(path, data=events)
    return path


def exported(run, path):
    recording = Recording(run)
    summary = npz.export(recording, path, "")
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


def test_what_went_in_comes_out(tmp_path):
    """Also from a plain .npy, and with no flags of the sides at all."""
    events = events_of(STORY)
    for number, (name, content) in enumerate([("a.npz", events), ("b.npz", events_of(STORY, 0))]):
        path = save(tmp_path / name, content)
        run, _ = take_path(tmp_path, "hftbacktest", path, symbol="BTCUSDT")
        found, summary = exported(run, tmp_path / f"out-{number}.npz")
        assert found.dtype == FILE_EVENT
        assert found.tobytes() == events.tobytes()
        assert (summary["events"], summary["trades"], summary["local_shift_ns"]) == (13, 3, 0)
    np.save(tmp_path / "c.npy", events)
    run, _ = take_path(tmp_path, "hftbacktest", tmp_path / "c.npy", symbol="BTCUSDT")
    assert exported(run, tmp_path / "out.npz")[0].tobytes() == events.tobytes()


def test_messages_that_blocks_cut_are_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("processes.convert.events.ROWS_MAX", 2)
    monkeypatch.setattr("processes.convert.recorded.SLOTS_AT_ONCE", 3)
    events = events_of(STORY)
    run, _ = take_path(
        tmp_path, "hftbacktest", save(tmp_path / "a.npz", events), symbol="BTCUSDT"
    )  # fmt: skip
    assert exported(run, tmp_path / "out.npz")[0].tobytes() == events.tobytes()


def naive_orders(events: np.ndarray) -> list[tuple]:
    """Return (flags, venue's time, local time, price): two sorted lists, zipped by hand."""
    numbers = range(len(events))
    by_exch = sorted(numbers, key=lambda i: (events["exch_ts"][i], i))
    by_local = sorted(numbers, key=lambda i: (events["local_ts"][i], i))
    listed = []
    while by_exch or by_local:
        if by_exch and by_local and by_exch[0] == by_local[0]:
            listed.append((BOTH, by_exch.pop(0)))
            by_local.pop(0)
        elif not by_local or (
            by_exch
            and (events["exch_ts"][by_exch[0]], events["local_ts"][by_exch[0]])
            < (events["exch_ts"][by_local[0]], events["local_ts"][by_local[0]])
        ):
            listed.append((EXCH_EVENT, by_exch.pop(0)))
        else:
            listed.append((LOCAL_EVENT, by_local.pop(0)))
    return listed


@pytest.mark.parametrize("seed", range(5))
def test_events_out_of_order_are_listed_for_both_sides(seed):
    rng = np.random.default_rng(seed)
    events = np.zeros(60, npz.EVENT)
    events["exch_ts"] = rng.integers(0, 40, 60)
    events["local_ts"] = np.sort(rng.integers(40, 80, 60))
    events["px"] = np.arange(60)
    listed = in_both_orders(events)
    assert [(int(e["ev"]), int(e["px"])) for e in listed] == naive_orders(events)
    for flag, field in ((EXCH_EVENT, "exch_ts"), (LOCAL_EVENT, "local_ts")):
        side = listed[listed["ev"] & flag != 0]
        assert len(side) == 60 and (np.diff(side[field]) >= 0).all()


def test_only_what_the_local_side_saw_is_imported(tmp_path):
    events = np.concatenate(
        [events_of(STORY[:1], EXCH_EVENT), events_of(STORY[6:7]), events_of(STORY[:1], LOCAL_EVENT)]
    )
    run, _ = take_path(
        tmp_path, "hftbacktest", save(tmp_path / "a.npz", events), symbol="BTCUSDT"
    )  # fmt: skip
    assert [message[0] for message in messages_of(run)] == ["TRADE", "DIFF_BEGIN"]


def test_bad_events_are_told_and_counted(tmp_path, capsys):
    bad = [
        (10, 1, 10, 1.0, 1.0),  # an order of a market-by-order feed
        (BID, 1, 10, 100.05, 1.0),
        (DEPTH_EVENT, 1, 10, 100.0, 1.0),
        (BID, 1, 10, float("nan"), 1.0),
        (TRADE_EVENT | BUY_EVENT, 1, 10, 100.0, 0.0),
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
    alone = (DEPTH_CLEAR_EVENT | BUY_EVENT, 1, 10, 99.0, 0.0)
    path = save(tmp_path / "a.npz", events_of([alone, *STORY, alone]))
    run, summary = take_path(tmp_path, "hftbacktest", path, symbol="BTCUSDT")
    assert (summary["bad_rows"], summary["rows"], summary["snapshot_begin"]) == (2, 11, 1)
    said = capsys.readouterr().err.splitlines()
    assert [line.partition("a.npz:")[2].partition(",")[0] for line in said] == [
        "1: found a depth clear alone", "15: found a depth clear alone"
    ]  # fmt: skip


def test_floats_that_arithmetic_has_moved_are_on_the_grid(tmp_path):
    story = [(TRADE_EVENT | BUY_EVENT, 1, 2, 0.1 * 3, 0.1 + 0.2)]
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
    with pytest.raises(UsageError, match="no depth and no trades of BTCUSDT"):
        npz.export(recording, tmp_path / "b.npz", "")
    recording.close()


def test_the_real_capture_has_as_many_events_as_hftbacktest_makes_of_it(tmp_path):
    """hftbacktest 2.4.4's own converter makes the same 491,973 events of it, byte for byte."""
    path = capture("binance-usdm-btcusdt-20240808.gz")
    lines = gzip.decompress(path.read_bytes()).count(b"\n")
    run, _ = take_path(tmp_path, "capture", path, symbol="BTCUSDT")
    found, summary = exported(run, tmp_path / "a.npz")
    assert lines == 93_954
    assert (summary["events"], len(found), summary["trades"]) == (466_836, 491_973, 21_313)
    assert summary["local_shift_ns"] == 1_272_156_851

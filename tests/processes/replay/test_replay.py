"""`tickring replay`: the real capture against its oracle, made-up ones against a naive twin."""

import gzip
import hashlib
import json
import random
from pathlib import Path

import pytest
from typer.testing import CliRunner

from common.errors import ConfigError, DataError, UsageError
from common.instruments import Instrument
from processes import cli
from processes.replay import command
from processes.replay.facts import find_instrument
from processes.replay.options import ReplayOptions

from tests.processes.replay.made_captures import Line, make_capture
from tests.processes.replay.naive_replay import Grid, NaiveReplay
from tests.support import capture

BTC = "binance-usdm-btcusdt-20240808"
KEYS = [
    "depth_events", "applied", "dropped_stale", "gaps", "book_valid", "bbo_rows", "book_sha256",
    "decode_errors", "market_events",
]  # fmt: skip


def run(path: Path, grid: Grid, tmp_path: Path) -> tuple[dict, str, str]:
    """Replay a file; return (summary, BBO text, book text)."""
    outputs = {name: tmp_path / name for name in ("summary", "bbo", "book")}
    arguments = [str(path), "--venue", "binance-usdm", "--symbol", grid.symbol]
    arguments += ["--tick-size", grid.tick_size, "--lot-size", grid.lot_size]
    arguments += ["--price-decimals", str(grid.price_decimals)]
    arguments += ["--qty-decimals", str(grid.qty_decimals)]
    for name, output in outputs.items():
        arguments += [f"--{name}", str(output)]
    found = CliRunner().invoke(cli.app, ["replay", *arguments])
    assert found.exit_code == 0, (found.output, found.exception)
    summary = json.loads(outputs["summary"].read_text())
    assert list(summary) == KEYS
    return summary, outputs["bbo"].read_text(), outputs["book"].read_text()


def options_of(path: Path, grid: Grid) -> tuple[ReplayOptions, Instrument]:
    """Return what `run` asks for as objects."""
    options = ReplayOptions(
        capture=path,
        venue="binance-usdm",
        symbol=grid.symbol,
        tick_size=grid.tick_size,
        lot_size=grid.lot_size,
        price_decimals=grid.price_decimals,
        qty_decimals=grid.qty_decimals,
    )
    return options, find_instrument(options)


def naive(grid: Grid, lines: list[Line]) -> NaiveReplay:
    twin = NaiveReplay(grid)
    for line in lines:
        twin.read(line.text, line.is_malformed)
    return twin


def check(grid: Grid, lines: list[Line], path: Path, tmp_path: Path) -> NaiveReplay:
    """Replay a file that holds `lines`, and compare all outputs with the twin's."""
    twin = naive(grid, lines)
    summary, bbo, book = run(path, grid, tmp_path)
    assert summary == twin.summary()
    assert bbo == twin.bbo_text()
    assert book == twin.book_text()
    assert summary["book_sha256"] == hashlib.sha256(book.encode()).hexdigest()
    return twin


@pytest.mark.parametrize("seed", range(21))
def test_a_made_capture_agrees_with_the_naive_twin(seed, tmp_path):
    """Seven grids, any key order, unknown keys, reconnects, several snapshots, damaged lines."""
    grid, lines = make_capture(seed)
    end = random.Random(seed).choice(["\n", "\r\n"])
    content = end.join(line.text for line in lines).encode() + end.encode()
    path = tmp_path / "capture"
    path.write_bytes(content if seed % 2 else gzip.compress(content))
    check(grid, lines, path, tmp_path)


def test_the_made_captures_are_worth_replaying():
    """Over all seeds everything that can happen to a book happens often."""
    twins = [naive(*make_capture(seed)) for seed in range(21)]
    assert sum(len(twin.sync.rows) for twin in twins) > 2_000
    assert sum(twin.sync.gaps for twin in twins) > 40
    assert sum(twin.sync.dropped_stale for twin in twins) > 200
    assert sum(twin.decode_errors for twin in twins) > 40
    assert sum(twin.sync.is_valid for twin in twins) > 5
    assert sum(not twin.sync.is_valid for twin in twins) > 2


def test_the_real_capture_ends_in_the_oracle_book(tmp_path):
    path, oracle = capture(f"{BTC}.gz"), json.loads(capture(f"{BTC}.final.json").read_text())
    summary, bbo, book = run(path, Grid("BTCUSDT", "0.10", "0.001", 2, 3), tmp_path)
    assert bbo == gzip.decompress(capture(f"{BTC}.bbo.csv.gz").read_bytes()).decode()
    assert summary == {
        "depth_events": 6551, "applied": oracle["applied"],
        "dropped_stale": oracle["dropped_before_snapshot"], "gaps": 0, "book_valid": True,
        "bbo_rows": 6547, "book_sha256": oracle["book_sha256"], "decode_errors": 0,
        "market_events": 93_953,
    }  # fmt: skip
    bids = [line.split(",")[1:] for line in book.splitlines() if line[0] == "b"]
    asks = [line.split(",")[1:] for line in book.splitlines() if line[0] == "a"]
    assert (len(bids), len(asks)) == (oracle["levels_bid"], oracle["levels_ask"])
    assert (bids[:20], asks[:20]) == (oracle["top20_bids"], oracle["top20_asks"])


def test_a_real_capture_without_one_depth_line_stays_invalid(tmp_path):
    lines = gzip.decompress(capture(f"{BTC}.gz").read_bytes()).splitlines(keepends=True)
    depth = [i for i, line in enumerate(lines) if b'"depthUpdate"' in line]
    del lines[depth[3_000]]
    path = tmp_path / "gap"
    path.write_bytes(b"".join(lines))
    summary, bbo, book = run(path, Grid("BTCUSDT", "0.10", "0.001", 2, 3), tmp_path)
    assert (summary["gaps"], summary["book_valid"], summary["decode_errors"]) == (1, False, 0)
    assert summary["bbo_rows"] == summary["applied"] == 3_000 - 4
    whole = gzip.decompress(capture(f"{BTC}.bbo.csv.gz").read_bytes()).decode().splitlines()
    assert bbo.splitlines() == whole[: 1 + 2_996]
    assert book == ""
    assert summary["book_sha256"] == hashlib.sha256(b"").hexdigest()


@pytest.mark.parametrize("cut", [1, 9, 100, 5_000])
def test_a_cut_gzip_gives_all_that_is_in_it(cut, tmp_path):
    """The file may end anywhere; the line that it cuts counts as damaged."""
    grid, lines = make_capture(100)
    content = "\n".join(line.text for line in lines).encode()
    head, tail = content[: len(content) // 2], content[len(content) // 2 :]
    path = tmp_path / "cut.gz"
    path.write_bytes((gzip.compress(head) + gzip.compress(tail))[:-cut])
    summary, bbo, _book = run(path, grid, tmp_path)
    twin = naive(grid, lines)
    assert 0 < summary["depth_events"] <= twin.sync.depth_events
    assert twin.bbo_text().startswith(bbo)
    half = [Line(text) for text in head.decode().split("\n")[:-1]]
    assert summary["depth_events"] >= sum("depthUpdate" in line.text for line in half) * 0.5


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\x1f\x8b", b"\x1f\x8bgarbage", b"\0" * 100])
def test_a_capture_without_a_line_has_an_empty_book(content, tmp_path):
    path = tmp_path / "empty"
    path.write_bytes(content)
    summary, bbo, book = run(path, Grid("BTCUSDT", "0.10", "0.001", 2, 3), tmp_path)
    assert (summary["depth_events"], summary["book_valid"]) == (0, False)
    assert (bbo, book) == ("u,bid,bid_qty,ask,ask_qty\n", "")


def test_snapshots_in_other_wrappings_are_taken_and_foreign_ones_are_not(tmp_path):
    grid = Grid("BTCUSDT", "0.10", "0.001", 2, 3)
    body = {"lastUpdateId": 10, "bids": [["100.00", "1.000"]], "asks": [["101.00", "2.000"]]}
    foreign = {**body, "bids": [["1.00", "9.000"]]}
    diff = {"e": "depthUpdate", "s": "BTCUSDT", "U": 9, "u": 11, "pu": 8, "b": [], "a": []}
    for wrapped in (
        {**body, "symbol": "BTCUSDT"},
        {"stream": "btcusdt@depthSnapshot", "generated": True, "data": body},
        {"id": "7", "status": 200, "result": body},
    ):
        contents = [
            {**foreign, "symbol": "ETHUSDT", "lastUpdateId": 12},
            {"stream": "ethusdt@depthSnapshot", "data": foreign},
            {"stream": "btcusdt@depth20", "data": foreign},
            wrapped,
            diff,
        ]
        path = tmp_path / "capture"
        path.write_text("".join(f"{n} {json.dumps(c)}\n" for n, c in enumerate(contents, 1)))
        summary, bbo, book = run(path, grid, tmp_path)
        assert summary["decode_errors"] == 0
        assert bbo.splitlines()[1:] == ["11,100.00,1.000,101.00,2.000"]
        assert book == "b,100.00,1.000\na,101.00,2.000\n"


def test_an_emptied_side_leaves_its_fields_empty(tmp_path):
    lines = [
        {"lastUpdateId": 10, "bids": [["1", "1"]], "asks": [["2", "2"]]},
        {"e": "depthUpdate", "s": "AUSDT", "U": 9, "u": 11, "pu": 8, "b": [["1", "0"]], "a": []},
        {"e": "depthUpdate", "s": "AUSDT", "U": 12, "u": 12, "pu": 11, "b": [], "a": [["2", "0"]]},
    ]
    path = tmp_path / "capture"
    path.write_text("".join(f"5 {json.dumps(line)}\n" for line in lines))
    _summary, bbo, _book = run(path, Grid("AUSDT", "1", "1", 0, 0), tmp_path)
    assert bbo.splitlines()[1:] == ["11,,,2,2", "12,,,,"]


@pytest.mark.parametrize(
    "bad",
    [
        '{"lastUpdateId":5,"bids":[["1.23456","1"]],"asks":[]}',
        '{"lastUpdateId":5}',
        '{"lastUpdateId":-1,"bids":[],"asks":[]}',
        '{"lastUpdateId":5,"bids":[[1,2]],"asks":[]}',
    ],
)
def test_a_damaged_snapshot_is_a_decode_error(bad, tmp_path):
    path = tmp_path / "capture"
    path.write_text(f"5 {bad}\n")
    summary, _bbo, _book = run(path, Grid("AUSDT", "1", "1", 0, 0), tmp_path)
    assert summary["decode_errors"] == 1


def test_a_capture_of_another_symbol_is_told(tmp_path, capsys):
    frame = (
        '{"stream":"btcusdt@trade","data":{"e":"trade","E":1,"T":1,"s":"BTCUSDT","t":1,"p":"1.0",'
    )
    frame += '"q":"1.000","X":"MARKET","m":true}}'
    path = tmp_path / "capture"
    path.write_text(f"1 {frame}\n")
    assert command.run(path, venue="binance-usdm", symbol="ETHUSDT") == DataError.exit_code
    assert "no event of ETHUSDT, 1 frames of other symbols" in capsys.readouterr().err
    assert command.run(path, venue="binance-usdm", symbol="BTCUSDT") == 0


def test_a_known_symbol_needs_no_options(tmp_path, capsys):
    path = tmp_path / "capture"
    path.write_text("")
    assert command.run(path, venue="binance-usdm", symbol="1000SHIBUSDT") == 0
    assert "book_valid" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"symbol": "NOPEUSDT"}, "expected \\[binance-usdm.NOPEUSDT\\] there; or give --tick-size"),
        ({"symbol": "NOPEUSDT", "tick_size": "1"}, "give --tick-size, --lot-size"),
        ({"symbol": "btcusdt"}, "expected 1 to 24 of A-Z"),
        ({"venue": "kraken"}, "expected one of binance-usdm"),
        ({"tick_size": "x"}, "expected plain decimal digits"),
        ({"price_decimals": 0}, "price_decimals is 0, expected 1"),
        ({"capture": Path("/nonexistent")}, "/nonexistent: no such file"),
        ({"bbo": Path("/nonexistent/x")}, "/nonexistent/x: no such file"),
    ],
)
def test_wrong_options_are_refused_with_a_reason(options, message, tmp_path):
    path = tmp_path / "capture"
    path.write_text("")
    wanted = {"capture": path, "venue": "binance-usdm", "symbol": "BTCUSDT", **options}
    with pytest.raises(UsageError, match=message):
        command.run(**wanted)


def test_a_missing_instruments_file_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        command.run(
            tmp_path / "x", venue="binance-usdm", symbol="BTCUSDT", instruments=tmp_path / "none"
        )


def test_what_is_not_there_is_said(tmp_path):
    none = {"venue": "binance-usdm", "symbol": "BTCUSDT"}
    with pytest.raises(UsageError, match="/none: no such file"):
        command.replay(str(tmp_path / "none"), "", {}, none)
    with pytest.raises(
        UsageError, match="run: '20260822-1': none of that id or path, expected one"
    ):
        command.replay("20260822-1", "", {}, {})


def test_options_of_the_other_kind_are_refused(tmp_path):
    path = tmp_path / "capture"
    path.write_text("")
    nothing = {"venue": "", "symbol": ""}
    with pytest.raises(UsageError, match="--set: .* is a file, expected a recorded run with it"):
        command.replay(str(path), "", {"verify": False, "changes": ["a=1"]}, nothing)
    with pytest.raises(UsageError, match="--tick-size: .* is a recorded run, expected a capture"):
        command.replay(str(tmp_path), "", {}, {"tick_size": "1"})
    with pytest.raises(UsageError, match="--venue: missing, expected it with a capture"):
        command.replay(str(path), "", {}, nothing)

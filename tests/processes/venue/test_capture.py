"""Capture mode: frames as recorded, the book behind REST, our orders among them."""

import gzip
import hashlib
import json

import pytest

from common.errors import ConfigError
from processes.venue.config import CaptureConfig

from support import capture as shared_capture

MS = 1_000_000


def depth(first, last, previous, bids=(), asks=(), stream="btcusdt@depth@0ms"):
    return {
        "stream": stream,
        "data": {
            "e": "depthUpdate", "E": 5, "T": 4, "s": "BTCUSDT", "U": first, "u": last,
            "pu": previous, "b": list(bids), "a": list(asks),
        },
    }  # fmt: skip


def trade(trade_id, price, qty, buyer_is_maker):
    return {
        "stream": "btcusdt@trade",
        "data": {
            "e": "trade", "E": 5, "T": 4, "s": "BTCUSDT", "t": trade_id, "p": price, "q": qty,
            "X": "MARKET", "m": buyer_is_maker,
        },
    }  # fmt: skip


ROWS = [
    (0, depth(90, 95, 80, [["63990.00", "9.000"]])),
    (10 * MS, depth(96, 105, 95, [["63999.00", "1.500"]], [["64001.00", "2.000"]])),
    (
        20 * MS,
        {
            "lastUpdateId": 100,
            "E": 1,
            "T": 1,
            "bids": [["63999.00", "1.000"], ["63998.00", "3.000"]],
            "asks": [["64001.00", "1.000"], ["64002.00", "3.000"]],
        },
    ),
    (30 * MS, trade(501, "64001.00", "0.500", False)),
    (
        40 * MS,
        {
            "stream": "btcusdt@bookTicker",
            "data": {
                "e": "bookTicker",
                "u": 106,
                "s": "BTCUSDT",
                "b": "63999.00",
                "B": "1.500",
                "a": "64001.00",
                "A": "1.500",
                "T": 4,
                "E": 5,
            },
        },
    ),  # fmt: skip
    (50 * MS, depth(106, 110, 105, [["63998.00", "0.000"]], [["64001.00", "1.500"]])),
    (60 * MS, trade(502, "63999.00", "1.700", True)),
    (70 * MS, trade(503, "63999.00", "0.100", True)),
]


@pytest.fixture
def play(make_bench, write_capture):
    """A function that makes a bench on a capture of ROWS or others."""

    def make(rows=ROWS, **options):
        path = write_capture(rows)
        return make_bench(capture=CaptureConfig(file=str(path), symbol="BTCUSDT", **options))

    return make


def snapshot(bench):
    return bench.ask("GET", "/fapi/v1/depth", symbol="BTCUSDT", limit=5)[1]


def test_frames_are_the_recorded_ones_at_the_recorded_pace(play):
    bench = play()
    bench.advance(100)
    assert bench.exchange.market.lines_played == 0  # nobody listens yet
    public = bench.connect("public", "btcusdt@depth@100ms", "btcusdt@bookTicker", combined=True)
    market = bench.connect("market", "btcusdt@trade")
    bench.advance(25)
    frames = public.take()
    assert [f["data"] for f in frames] == [ROWS[0][1]["data"], ROWS[1][1]["data"]]
    assert {f["stream"] for f in frames} == {"btcusdt@depth@100ms"}
    bench.advance(200)
    assert [f["data"] for f in public.take()] == [ROWS[4][1]["data"], ROWS[5][1]["data"]]
    assert market.take() == [ROWS[i][1]["data"] for i in (3, 6, 7)]


def test_speed_and_start_are_configured(play):
    bench = play(waits=False, speed=10)
    bench.advance(15)
    assert bench.exchange.market.lines_played == len(ROWS)


def test_rest_serves_the_recorded_snapshot_and_then_what_became_of_it(play):
    bench = play()
    assert snapshot(bench)["lastUpdateId"] == 100
    assert snapshot(bench)["bids"] == [["63999.00", "1.000"], ["63998.00", "3.000"]]
    bench.connect("public", "btcusdt@depth")
    bench.advance(15)
    assert snapshot(bench)["lastUpdateId"] == 105
    bench.advance(200)
    body = snapshot(bench)
    assert body["lastUpdateId"] == 110
    assert body["bids"] == [["63999.00", "1.500"]]
    assert body["asks"] == [["64001.00", "1.500"], ["64002.00", "3.000"]]


def test_resting_order_fills_after_the_recorded_queue(play):
    bench = play()
    socket = bench.user()
    bench.connect("public", "btcusdt@depth")
    bench.advance(55)
    bench.place("one", "BUY", "0.300", "63999", newClientOrderId="m")
    assert bench.ask("GET", "/fapi/v1/depth", symbol="BTCUSDT", limit=5)[1]["bids"] == [
        ["63999.00", "1.500"]
    ]
    bench.advance(10)  # 1.7 trade at the price, 1.5 were ahead
    bench.advance(20)
    updates = [e["o"] for e in socket.take() if e["e"] == "ORDER_TRADE_UPDATE"]
    assert [(o["x"], o["X"], o["l"], o["m"]) for o in updates] == [
        ("NEW", "NEW", "0", False),
        ("TRADE", "PARTIALLY_FILLED", "0.200", True),
        ("TRADE", "FILLED", "0.100", True),
    ]
    assert 0 < updates[1]["t"] < updates[2]["t"]
    assert bench.ask("GET", "/fapi/v3/positionRisk", "one")[1][0]["positionAmt"] == "0.300"


def test_taker_walks_the_recorded_book(play):
    bench = play()
    body = bench.place("one", "BUY", "1.500", newOrderRespType="RESULT")
    assert (body["status"], body["avgPrice"]) == ("FILLED", "64001.33333")
    assert bench.place("one", "BUY", "0.010", "64001", timeInForce="GTX")["status"] == "NEW"
    assert bench.place("one", "BUY", "0.010", "64002", timeInForce="GTX")["code"] == -5022


def test_aggregate_trades_are_made_where_there_are_none(play):
    bench = play()
    socket = bench.connect("market", "btcusdt@aggTrade")
    bench.advance(300)
    assert [(f["a"], f["q"], f["m"], f["f"], f["l"]) for f in socket.take()] == [
        (1, "0.500", False, 501, 501),
        (2, "1.800", True, 502, 503),
    ]


def test_recorded_aggregates_and_marks_are_passed_on(play):
    rows = [
        (0, {"stream": "btcusdt@aggTrade",
             "data": {"e": "aggTrade", "s": "BTCUSDT", "a": 9, "p": "64001.00", "q": "1.000",
                      "f": 1, "l": 2, "T": 4, "m": False}}),
        (MS, trade(2, "64001.00", "1.000", False)),
        (2 * MS, {"stream": "btcusdt@markPrice@1s",
                  "data": {"e": "markPriceUpdate", "s": "BTCUSDT", "p": "64003.1", "i": "64002.5",
                           "P": "1", "r": "0.0001", "T": 9, "E": 8}}),
    ]  # fmt: skip
    bench = play(rows)
    socket = bench.connect("market", "btcusdt@aggTrade", "btcusdt@markPrice")
    bench.advance(300)
    assert [f.get("a") for f in socket.take() if f["e"] == "aggTrade"] == [9]
    bench.advance(2_000)
    index = bench.ask("GET", "/fapi/v1/premiumIndex", symbol="BTCUSDT")[1]["indexPrice"]
    assert index == "64002.50000000"


def test_bad_lines_are_counted_and_the_rest_is_played(play, write_capture, make_bench):
    path = write_capture(ROWS)
    lines = path.read_text().splitlines()
    lines.insert(2, f"{1_000_000_000 + 15 * MS} {{broken")
    lines.insert(3, f"{1_000_000_000 + 16 * MS} " + json.dumps(trade(1, "64000.05", "1", True)))
    lines.insert(4, "no stamp at all")
    path.write_text("\n".join(lines))
    bench = make_bench(capture=CaptureConfig(file=str(path), symbol="BTCUSDT"))
    bench.connect("public", "btcusdt@depth")
    bench.advance(300)
    assert bench.exchange.market.lines_bad == 2
    assert snapshot(bench)["lastUpdateId"] == 110


def test_book_heals_after_a_gap_in_the_recording(play):
    rows = [row for i, row in enumerate(ROWS) if i != 1]
    rows.append((80 * MS, depth(121, 125, 120, [["63997.00", "1.000"]])))
    rows.append((90 * MS, ROWS[2][1] | {"lastUpdateId": 123}))
    bench = play(rows)
    bench.connect("public", "btcusdt@depth")
    bench.advance(85)
    assert bench.exchange.market.is_broken[0]
    bench.advance(20)
    assert not bench.exchange.market.is_broken[0]
    body = snapshot(bench)
    assert body["lastUpdateId"] == 125
    assert [p for p, _ in body["bids"]] == ["63999.00", "63998.00", "63997.00"]


def test_unreadable_captures_are_refused(make_bench, tmp_path):
    empty = tmp_path / "empty.txt"
    empty.write_text("")
    with pytest.raises(ConfigError, match="no lines"):
        make_bench(capture=CaptureConfig(file=str(empty), symbol="BTCUSDT"))
    with pytest.raises(ConfigError, match="nowhere"):
        make_bench(capture=CaptureConfig(file=str(tmp_path / "nowhere"), symbol="BTCUSDT"))


def test_a_gzip_that_breaks_off_ends_there(make_bench, write_capture, tmp_path):
    packed = tmp_path / "cut.gz"
    rows = [(i * MS, trade(i, "64000.00", "0.001", True)) for i in range(5_000)]
    packed.write_bytes(gzip.compress(write_capture(rows).read_bytes())[:-500])
    bench = make_bench(
        capture=CaptureConfig(file=str(packed), symbol="BTCUSDT", waits=False, speed=1e6)
    )
    bench.advance(100)
    assert bench.exchange.market.next_line is None
    assert 1_000 < bench.exchange.market.lines_played < 5_000


def test_gzip_is_read(make_bench, write_capture, tmp_path):
    plain = write_capture(ROWS)
    packed = tmp_path / "capture.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    bench = make_bench(capture=CaptureConfig(file=str(packed), symbol="BTCUSDT", waits=False))
    bench.advance(300)
    assert snapshot(bench)["lastUpdateId"] == 110


def test_shared_capture_ends_in_the_right_book(make_bench):
    path = shared_capture("binance-usdm-btcusdt-20240808.gz")
    final = json.loads(path.with_name("binance-usdm-btcusdt-20240808.final.json").read_text())
    bench = make_bench(
        capture=CaptureConfig(file=str(path), symbol="BTCUSDT", waits=False, speed=1e6)
    )
    market = bench.exchange.market
    while market.next_line is not None:
        bench.advance(5)
    bids, asks = market.depth(0, 1_000_000)
    instrument = bench.exchange.instruments[0]
    text = "".join(
        f"{name},{instrument.price_text(price)},{instrument.qty_text(qty)}\n"
        for name, levels in (("b", bids), ("a", asks))
        for price, qty in levels
    )
    assert market.last_update_id(0) == final["final_u"]
    assert hashlib.sha256(text.encode()).hexdigest() == final["book_sha256"]
    assert market.lines_bad == 0

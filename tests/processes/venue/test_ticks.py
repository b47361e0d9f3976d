"""Tick mode: trades of a CSV as live frames, at their pace, with a made book around them."""

import json

import numpy as np
import pytest

from common.errors import ConfigError
from processes.feed.binance import decode_frame
from processes.feed.decoded import new_state
from processes.feed.json_scan import TEXT_SLACK
from processes.feed.symbols import symbol_table
from processes.venue.config import TicksConfig
from processes.venue.ticks import read_side, read_stamp

T0 = 1_723_161_255
ROWS = f"""timestamp,symbol,price,quantity,side
{T0}.000,BTCUSDT,60000.1,0.5,buy
{T0}.020,BTCUSDT,60000.0,0.2,sell
{T0}.020,NOTLISTED,1,1,buy
{T0}.030,BTCUSDT,60000.05,0.2,sell
{T0}.040,BTCUSDT,60000.3,0.1,
{T0}.050,ETHUSDT,2500.01,1.5,sell
{T0}.060,BTCUSDT,60000.3,0.1,
"""


@pytest.fixture
def play(make_bench, tmp_path):
    """A function that makes a bench on a tick file."""

    def make(rows=ROWS, **options):
        path = tmp_path / "ticks.csv"
        path.write_text(rows)
        values = {"file": str(path), "depth_levels": 2, "level_qty": "1.5"} | options
        return make_bench(ticks=TicksConfig(**values))

    return make


def snapshot(bench, symbol="BTCUSDT"):
    return bench.ask("GET", "/fapi/v1/depth", symbol=symbol, limit=5)[1]


def test_rows_are_trades_at_their_own_pace(play):
    bench = play()
    bench.advance(100)
    assert bench.exchange.market.lines_played == 0  # nobody listens yet
    socket = bench.connect("market", "btcusdt@trade", "btcusdt@aggTrade")
    bench.advance(15)
    assert [f["p"] for f in socket.take()] == ["60000.10"]
    bench.advance(200)
    frames = socket.take()
    trades = [f for f in frames if f["e"] == "trade"]
    assert [(f["t"], f["p"], f["q"], f["m"], f["T"]) for f in trades] == [
        (2, "60000.00", "0.200", True, T0 * 1000 + 20),
        (3, "60000.30", "0.100", False, T0 * 1000 + 40),
        (4, "60000.30", "0.100", False, T0 * 1000 + 60),
    ]
    sums = [(f["p"], f["q"], f["f"], f["l"]) for f in frames if f["e"] == "aggTrade"]
    assert sums == [
        ("60000.10", "0.500", 1, 1), ("60000.00", "0.200", 2, 2), ("60000.30", "0.200", 3, 4)
    ]  # fmt: skip
    assert bench.exchange.market.lines_bad == 1


def test_speed_and_start_are_configured(play):
    bench = play(waits=False, speed=10)
    bench.advance(15)
    assert bench.exchange.market.lines_played == 15


def test_a_made_book_follows_the_price(play):
    """A buyer has paid the best ask, a seller has got the best bid; the chain of ids is whole."""
    bench = play()
    socket = bench.connect("public", "btcusdt@depth@100ms", "btcusdt@bookTicker")
    bench.advance(15)
    assert snapshot(bench)["bids"] == [["60000.00", "1.500"], ["59999.90", "1.500"]]
    assert snapshot(bench)["asks"] == [["60000.10", "1.500"], ["60000.20", "1.500"]]
    bench.advance(200)
    body = snapshot(bench)
    assert (body["bids"][0][0], body["asks"][0][0]) == ("60000.20", "60000.30")
    assert snapshot(bench, "ETHUSDT")["bids"][0] == ["2500.01", "1.500"]
    frames = socket.take()
    depth = [f for f in frames if f["e"] == "depthUpdate"]
    assert [(f["U"], f["u"], f["pu"]) for f in depth] == [(i, i, i - 1) for i in range(1, 5)]
    assert depth[3]["b"] == depth[3]["a"] == []
    assert depth[2]["b"][:2] == [["59999.90", "0.000"], ["60000.00", "0.000"]]
    assert body["lastUpdateId"] == 4
    tickers = [(f["b"], f["a"]) for f in frames if f["e"] == "bookTicker"]
    assert tickers[:2] == [("60000.00", "60000.10"), ("60000.00", "60000.10")]


def test_our_orders_meet_the_trades(play):
    bench = play()
    user = bench.user()
    bench.connect("market", "btcusdt@trade")
    bench.advance(10)
    bench.place("one", "SELL", "0.004", "60000.20")
    bench.advance(200)
    reports = [f["o"] for f in user.take() if f["e"] == "ORDER_TRADE_UPDATE"]
    fills = [(o["L"], o["l"]) for o in reports if o["x"] == "TRADE"]
    assert fills == [("60000.20", "0.004")]  # traded through at 60000.30


def test_the_feed_takes_every_frame(play, venue_instruments):
    bench = play()
    public = bench.connect("public", "btcusdt@depth@100ms", "btcusdt@bookTicker", combined=True)
    market = bench.connect("market", "btcusdt@trade", combined=True)
    bench.advance(300)
    symbols, state = symbol_table(venue_instruments), new_state(1 << 16, 1 << 10)
    words = np.zeros((64, 8), np.int64)
    frames = public.frames + market.frames
    assert len(frames) == 12
    for frame in frames:
        text = np.frombuffer(frame.encode() + bytes(TEXT_SLACK), np.uint8)
        size = len(frame)
        assert decode_frame(text, 0, size, symbols, words, 63, 0, 64, 1, state) > 0, frame
        assert json.loads(frame)["data"]["s"] == "BTCUSDT"


def test_stamps_and_sides():
    exact = 1_723_161_255_030_314_667
    for text in ("2024-08-08T23:54:15.030314667Z", "2024-08-08 23:54:15.030314667",
                 "1723161255.030314667", "1723161255030.314667", str(exact)):  # fmt: skip
        assert read_stamp(text) == exact
    assert (read_side("Buy"), read_side("S"), read_side("")) == (1, -1, 0)
    for text in ("", "x", "17.2.3", "-5"):
        with pytest.raises(ValueError):
            read_stamp(text)
    with pytest.raises(ValueError, match="side is 'up'"):
        read_side("up")


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        ("timestamp,symbol,price,quantity\n", {}, "no lines, expected timestamp,symbol,price"),
        (ROWS, {"level_qty": "0.0005"}, "venue.ticks.level_qty: number is '0.0005'"),
        (ROWS, {"file": "/nowhere/ticks.csv"}, "/nowhere/ticks.csv: no such file"),
    ],
)
def test_what_cannot_be_played_is_refused(play, rows, options, said):
    with pytest.raises(ConfigError) as found:
        play(rows, **options)
    assert said in str(found.value)


def test_only_one_market_at_once(make_bench):
    from processes.venue.config import FlowConfig

    with pytest.raises(ValueError, match="flow, capture and ticks: expected at most one"):
        make_bench(flow=FlowConfig(), ticks=TicksConfig(file="x", level_qty="1"))

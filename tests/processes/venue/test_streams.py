"""Subscriptions, routes, and the shape and bookkeeping of every stream."""

import json

import pytest

KEYS = {
    "depthUpdate": ["e", "E", "T", "s", "U", "u", "pu", "b", "a", "st", "ps"],
    "bookTicker": ["e", "u", "s", "b", "B", "a", "A", "T", "E", "st", "ps"],
    "aggTrade": ["e", "E", "s", "a", "p", "q", "nq", "f", "l", "T", "m", "st"],
    "trade": ["e", "E", "T", "s", "t", "p", "q", "X", "m", "st"],
    "markPriceUpdate": ["e", "E", "s", "p", "ap", "i", "P", "r", "T", "st"],
    "forceOrder": ["e", "E", "o"],
}


def control(bench, socket, **request):
    bench.exchange.hub.handle(socket.connection, json.dumps(request), bench.now_ms)
    return socket.take()


def test_subscribe_list_unsubscribe(bench):
    socket = bench.connect("public")
    reply = control(bench, socket, method="SUBSCRIBE", params=["btcusdt@depth@100ms"], id=1)
    assert reply == [{"result": None, "id": 1}]
    assert control(bench, socket, method="LIST_SUBSCRIPTIONS", id=3) == [
        {"result": ["btcusdt@depth@100ms"], "id": 3}
    ]
    reply = control(bench, socket, method="UNSUBSCRIBE", params=["btcusdt@depth@100ms"], id=4)
    assert reply == [{"result": None, "id": 4}]
    bench.place("one", "BUY", "0.010", "63000")
    bench.advance(300)
    assert socket.take() == []
    assert bench.exchange.streams[0].diffs == {}


def test_combined_property_can_be_read_and_set(bench):
    socket = bench.connect("public", "btcusdt@bookTicker")
    assert control(bench, socket, method="GET_PROPERTY", params=["combined"], id=2) == [
        {"result": False, "id": 2}
    ]
    control(bench, socket, method="SET_PROPERTY", params=["combined", True], id=5)
    bench.place("one", "BUY", "0.010", "63000")
    (frame,) = socket.take()
    assert frame["stream"] == "btcusdt@bookTicker"
    assert frame["data"]["b"] == "63000.00"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{nonsense", 3),
        ("[]", 2),
        ('{"params":[],"id":1}', 2),
        ('{"method":"SUBSCRIBE","params":["x"],"id":"one"}', 2),
        ('{"method":"SUBSCRIBE","params":["x"],"id":-1}', 2),
        ('{"method":"SUBSCRIBE","params":["x"]}', 2),
        ('{"method":"SUBSCRIBE","params":[1],"id":1}', 2),
        ('{"method":"SUBSCRIBE","params":"x","id":1}', 2),
        ('{"method":"DANCE","params":[],"id":1}', 2),
        ('{"method":"SET_PROPERTY","params":["combined","yes"],"id":1}', 1),
        ('{"method":"SET_PROPERTY","params":["colour",true],"id":1}', 0),
    ],
)
def test_control_errors(bench, text, code):
    socket = bench.connect("public")
    bench.exchange.hub.handle(socket.connection, text, bench.now_ms)
    assert [frame["code"] for frame in socket.take()] == [code]


def test_more_than_ten_requests_a_second_close_the_connection(bench):
    socket = bench.connect("public")
    for i in range(10):
        control(bench, socket, method="LIST_SUBSCRIPTIONS", id=i)
    assert socket.closed == 0
    control(bench, socket, method="LIST_SUBSCRIPTIONS", id=11)
    assert socket.closed == 1008


def test_more_than_1024_streams_are_refused(bench):
    socket = bench.connect("public")
    names = [f"s{i}@bookTicker" for i in range(1_024)]
    assert control(bench, socket, method="SUBSCRIBE", params=names, id=1)[0]["result"] is None
    assert control(bench, socket, method="SUBSCRIBE", params=["one@depth"], id=2)[0]["code"] == 2


@pytest.mark.parametrize(
    ("route", "stream", "heard"),
    [
        ("public", "btcusdt@bookTicker", True),
        ("public", "btcusdt@trade", False),
        ("market", "btcusdt@trade", True),
        ("market", "btcusdt@bookTicker", False),
        ("", "btcusdt@bookTicker", True),
        ("", "btcusdt@trade", False),
        ("private", "btcusdt@bookTicker", False),
    ],
)
def test_a_stream_of_another_route_is_acknowledged_and_silent(bench, route, stream, heard):
    socket = bench.connect(route)
    reply = control(bench, socket, method="SUBSCRIBE", params=[stream], id=1)
    assert reply == [{"result": None, "id": 1}]
    bench.place("one", "BUY", "0.010", "63000")
    bench.place("two", "SELL", "0.010", "63000")
    bench.advance(1_000)
    assert bool(socket.take()) == heard
    listed = control(bench, socket, method="LIST_SUBSCRIPTIONS", id=2)
    assert listed[0]["result"] == [stream]


def test_every_stream_has_the_documented_keys(bench):
    public = bench.connect("public", "btcusdt@depth@100ms", "btcusdt@bookTicker")
    market = bench.connect("market", "btcusdt@aggTrade", "btcusdt@trade", "btcusdt@markPrice@1s")
    bench.place("one", "BUY", "0.010", "63000")
    bench.place("two", "SELL", "0.010", "63000")
    bench.advance(1_200)
    frames = public.take() + market.take()
    assert {frame["e"] for frame in frames} == set(KEYS) - {"forceOrder"}
    for frame in frames:
        assert list(frame) == KEYS[frame["e"]]


def test_depth_diffs_chain_by_pu_and_ids_have_holes(bench):
    socket = bench.connect("public", "btcusdt@depth@100ms")
    for i in range(5):
        bench.place("one", "BUY", "0.010", f"{63000 + i}")
        bench.advance(100)
    frames = socket.take()
    assert len(frames) == 5
    for before, after in zip(frames, frames[1:], strict=False):
        assert after["pu"] == before["u"] < after["U"] <= after["u"]
    assert any(after["U"] > after["pu"] + 1 for after in frames[1:])
    assert frames[1]["b"] == [["63001.00", "0.010"]]


def test_depth_cadences_are_streams_of_their_own(bench):
    sockets = {
        kind: bench.connect("public", f"btcusdt@{kind}")
        for kind in ("depth", "depth@100ms", "depth@500ms", "depth@0ms")
    }
    bench.advance(500)
    for i in range(100):
        bench.place("one", "BUY", "0.010", f"{62000 + i}")
        bench.advance(10)
    counts = {kind: len(socket.take()) for kind, socket in sockets.items()}
    assert counts["depth@0ms"] == 100
    assert 9 <= counts["depth@100ms"] <= 11
    assert 3 <= counts["depth"] <= 5
    assert 1 <= counts["depth@500ms"] <= 3


def test_a_level_that_came_and_went_is_sent_as_removed(bench):
    socket = bench.connect("public", "btcusdt@depth@100ms")
    bench.advance(100)
    bench.place("one", "BUY", "0.010", "63000", newClientOrderId="a")
    bench.ask("DELETE", "/fapi/v1/order", "one", symbol="BTCUSDT", origClientOrderId="a")
    bench.advance(100)
    (frame,) = socket.take()
    assert frame["b"] == [["63000.00", "0.000"]]


def test_partial_depth_holds_the_whole_top(bench):
    socket = bench.connect("public", "btcusdt@depth5@100ms")
    for i in range(8):
        bench.place("one", "BUY", "0.010", f"{63000 + i}")
    bench.place("one", "SELL", "0.020", "64000")
    bench.advance(100)
    frame = socket.take()[-1]
    assert frame["e"] == "depthUpdate"
    assert [p for p, _ in frame["b"]] == [f"{63007 - i}.00" for i in range(5)]
    assert frame["a"] == [["64000.00", "0.020"]]
    bench.advance(300)
    assert socket.take() == []


def test_trades_of_one_price_and_side_become_one_aggregate(bench):
    socket = bench.connect("market", "btcusdt@aggTrade", "btcusdt@trade")
    for qty in ("0.010", "0.020", "0.030"):
        bench.place("one", "SELL", qty, "64000")
    bench.place("one", "SELL", "0.040", "64001")
    bench.place("two", "BUY", "0.100", "64001")
    bench.advance(200)
    frames = socket.take()
    trades = [f for f in frames if f["e"] == "trade"]
    aggregates = [f for f in frames if f["e"] == "aggTrade"]
    assert [(f["p"], f["q"], f["m"]) for f in trades] == [
        ("64000.00", "0.010", False),
        ("64000.00", "0.020", False),
        ("64000.00", "0.030", False),
        ("64001.00", "0.040", False),
    ]
    assert [(f["a"], f["p"], f["q"], f["f"], f["l"]) for f in aggregates] == [
        (1, "64000.00", "0.060", trades[0]["t"], trades[2]["t"]),
        (2, "64001.00", "0.040", trades[3]["t"], trades[3]["t"]),
    ]
    bench.place("two", "SELL", "0.010", "60900")
    bench.place("two", "BUY", "0.010", "63999")
    status, backfill = bench.ask("GET", "/fapi/v1/aggTrades", symbol="BTCUSDT", fromId=2)
    assert status == 200
    assert [list(row) for row in backfill] == [["a", "p", "q", "f", "l", "T", "m"]]


def test_mark_price_cadences(bench):
    fast = bench.connect("market", "btcusdt@markPrice@1s")
    slow = bench.connect("market", "btcusdt@markPrice")
    together = bench.connect("market", "!markPrice@arr@1s")
    bench.advance(6_000)
    assert 6 <= len(fast.take()) <= 7
    assert 2 <= len(slow.take()) <= 3
    frames = together.take()
    assert 6 <= len(frames) <= 7
    assert [f["s"] for f in frames[0]] == ["BTCUSDT", "ETHUSDT"]


def test_only_the_largest_liquidation_of_a_second_is_told(bench):
    one = bench.connect("market", "btcusdt@forceOrder")
    every = bench.connect("market", "!forceOrder@arr", combined=True)
    bench.place("one", "BUY", "1.000", "64000")
    streams, exchange = bench.exchange.streams[0], bench.exchange
    for order_id, qty in ((10**9, 5), (10**9 + 1, 50), (10**9 + 2, 7)):
        new = (1, -1, 0, 0, 0, 639_900, qty, qty, 0, order_id, 0, 1, 0)
        trade = (2, -1, 0, 0, 0, 640_000, qty, 0, 1, order_id, 0, 1, 0)
        exchange.apply([new, trade], bench.now_ms)
    assert streams.force is not None
    bench.advance(1_000)
    (frame,) = one.take()
    assert list(frame) == KEYS["forceOrder"]
    assert list(frame["o"]) == ["s", "S", "o", "f", "q", "p", "ap", "X", "l", "z", "T"]
    assert (frame["o"]["q"], frame["o"]["S"], frame["o"]["X"]) == ("0.050", "SELL", "FILLED")
    assert every.take()[0]["stream"] == "!forceOrder@arr"

"""Order entry: every refusal, every life cycle, and what the account hears of it."""

import pytest

LIMIT = {
    "symbol": "BTCUSDT",
    "side": "BUY",
    "type": "LIMIT",
    "timeInForce": "GTC",
    "quantity": "0.010",
    "price": "63000",
}


def send(bench, method, name="one", path="/fapi/v1/order", **params):
    return bench.ask(method, path, name, **params)


def state(bench, client_id, name="one"):
    return send(bench, "GET", name, symbol="BTCUSDT", origClientOrderId=client_id)[1]


def orders_of(socket):
    """The (client id, execution, status, filled, expire reason) of each order event."""
    return [
        (e["o"]["c"], e["o"]["x"], e["o"]["X"], e["o"]["z"], e["o"]["er"])
        for e in socket.take()
        if e["e"] == "ORDER_TRADE_UPDATE"
    ]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"symbol": None}, -1102),
        ({"symbol": "DOGEUSDT"}, -1121),
        ({"side": None}, -1102),
        ({"side": "HOLD"}, -1117),
        ({"positionSide": "LONG"}, -4061),
        ({"type": None}, -1102),
        ({"type": "STOP_MARKET"}, -4120),
        ({"type": "ICEBERG"}, -1116),
        ({"timeInForce": None}, -1102),
        ({"timeInForce": "DAY"}, -1115),
        ({"quantity": None}, -1102),
        ({"quantity": "0.0105"}, -1111),
        ({"quantity": "0"}, -4003),
        ({"quantity": "1001"}, -4005),
        ({"quantity": "-1"}, -1100),
        ({"price": None}, -1102),
        ({"price": "63000.05"}, -4014),
        ({"price": "63000.001"}, -1111),
        ({"price": "500"}, -4013),
        ({"price": "5000000"}, -4002),
        ({"price": "67200.1"}, -4016),
        ({"side": "SELL", "price": "60799.9"}, -4024),
        ({"quantity": "0.001"}, -4164),
        ({"newClientOrderId": "x" * 37}, -4015),
        ({"newClientOrderId": "sp%20ace"}, -4015),
        ({"newOrderRespType": "FULL"}, -1136),
        ({"selfTradePreventionMode": "MAYBE"}, -5039),
        ({"priceMatch": "QUEUE_7"}, -5037),
        ({"priceMatch": "QUEUE"}, -1106),
        ({"reduceOnly": "perhaps"}, -1130),
        ({"reduceOnly": "true"}, -2022),
        ({"timeInForce": "GTD"}, -1102),
        ({"timeInForce": "GTD", "goodTillDate": "1784212800001"}, -5040),
        ({"type": "MARKET"}, -1106),
        ({"quantity": "900", "price": "64000"}, -2027),
    ],
)
def test_refusals(bench, change, code):
    params = {k: v for k, v in (LIMIT | change).items() if v is not None}
    status, body = send(bench, "POST", **params)
    assert (status, body["code"]) == (400, code)
    assert bench.ask("GET", "/fapi/v1/openOrders", "one")[1] == []


def test_margin_is_insufficient(make_bench):
    from processes.venue.config import AccountConfig

    bench = make_bench(
        accounts=[AccountConfig(name="p", api_key="key-p", secret_key="secret-p", balance="100")]
    )
    assert bench.place("p", "BUY", "0.030", "64000")["status"] == "NEW"  # 96 of 100 as margin
    assert bench.place("p", "BUY", "0.002", "64000")["code"] == -2019
    assert bench.place("p", "SELL", "0.020", "66000")["status"] == "NEW"  # the lighter side
    bench.ask("POST", "/fapi/v1/leverage", "p", symbol="BTCUSDT", leverage=100)
    assert bench.place("p", "BUY", "0.002", "64000")["status"] == "NEW"


def test_client_ids_are_unique_among_open_orders_only(bench):
    send(bench, "POST", **LIMIT, newClientOrderId="id-1")
    assert send(bench, "POST", **LIMIT, newClientOrderId="id-1")[1]["code"] == -4116
    assert send(bench, "POST", "two", **LIMIT, newClientOrderId="id-1")[0] == 200
    send(bench, "DELETE", symbol="BTCUSDT", origClientOrderId="id-1")
    assert send(bench, "POST", **LIMIT, newClientOrderId="id-1")[0] == 200
    assert state(bench, "id-1")["status"] == "NEW"


def test_open_orders_are_limited(make_bench):
    import msgspec

    bench = make_bench()
    rules = bench.exchange.rules[0]
    rules.config = msgspec.structs.replace(rules.config, open_orders_max=2)
    for _ in range(2):
        assert send(bench, "POST", **LIMIT)[0] == 200
    assert send(bench, "POST", **LIMIT)[1]["code"] == -2025
    assert send(bench, "POST", **(LIMIT | {"symbol": "ETHUSDT", "price": "3100"}))[0] == 200


def test_limit_rests_fills_in_parts_and_ends(bench):
    socket = bench.user()
    bench.place("one", "BUY", "0.010", "64000", newClientOrderId="m")
    bench.place("two", "SELL", "0.004", "64000")
    bench.place("two", "SELL", "0.006", "63000")
    assert orders_of(socket) == [
        ("m", "NEW", "NEW", "0.000", "0"),
        ("m", "TRADE", "PARTIALLY_FILLED", "0.004", "0"),
        ("m", "TRADE", "FILLED", "0.010", "0"),
    ]
    assert state(bench, "m")["status"] == "FILLED"
    assert send(bench, "DELETE", symbol="BTCUSDT", origClientOrderId="m")[1]["code"] == -2011


def test_result_and_ack_answers(bench):
    bench.place("one", "SELL", "0.010", "64000")
    bench.place("one", "SELL", "0.010", "64001")
    body = bench.place("two", "BUY", "0.015", newOrderRespType="RESULT")
    assert (body["status"], body["executedQty"], body["avgPrice"]) == (
        "FILLED",
        "0.015",
        "64000.33333",
    )
    body = bench.place("two", "BUY", "0.005", newOrderRespType="ACK")
    assert (body["status"], body["executedQty"], body["cumQuote"]) == ("NEW", "0.000", "0.00000")
    assert bench.ask("GET", "/fapi/v3/positionRisk", "two")[1][0]["positionAmt"] == "0.020"


def test_ioc_rest_expires_with_its_reason(bench):
    socket = bench.user("two")
    bench.place("one", "SELL", "0.010", "64000")
    body = bench.place(
        "two", "BUY", "0.030", "64000", timeInForce="IOC", newClientOrderId="i",
        newOrderRespType="RESULT",
    )  # fmt: skip
    assert (body["status"], body["executedQty"]) == ("EXPIRED", "0.010")
    assert orders_of(socket)[-1] == ("i", "EXPIRED", "EXPIRED", "0.010", "2")


def test_market_rest_expires_and_stays_near_the_mark(bench):
    socket = bench.user("two")
    bench.place("one", "SELL", "0.010", "64000")
    bench.place("one", "SELL", "0.010", "67200")
    bench.place("one", "SELL", "0.010", "67200.1", timeInForce="GTX")
    bench.place("two", "BUY", "0.100", newClientOrderId="m")
    assert orders_of(socket)[-1] == ("m", "EXPIRED", "EXPIRED", "0.020", "9")


def test_market_against_a_far_book_is_refused(bench):
    bench.place("one", "SELL", "0.010", "67300")
    assert bench.place("two", "BUY", "0.010")["code"] == -4131


def test_fok_and_post_only_leave_no_trace(bench):
    bench.place("one", "SELL", "0.010", "64000")
    socket = bench.user("two")
    fok = bench.place("two", "BUY", "0.020", "64000", timeInForce="FOK", newClientOrderId="f")
    gtx = bench.place("two", "BUY", "0.010", "64000", timeInForce="GTX", newClientOrderId="g")
    assert (fok["code"], gtx["code"]) == (-5021, -5022)
    assert socket.take() == []
    assert state(bench, "f", "two")["code"] == -2013
    filled = bench.place(
        "two", "BUY", "0.010", "64000", timeInForce="FOK", newOrderRespType="RESULT"
    )
    assert filled["status"] == "FILLED"


@pytest.mark.parametrize(
    ("mode", "maker", "taker"),
    [
        ("EXPIRE_TAKER", ("NEW", "0.000"), ("EXPIRED_IN_MATCH", "0.000")),
        ("EXPIRE_MAKER", ("EXPIRED_IN_MATCH", "0.000"), ("NEW", "0.000")),
        ("EXPIRE_BOTH", ("EXPIRED_IN_MATCH", "0.000"), ("EXPIRED_IN_MATCH", "0.000")),
        ("NONE", ("FILLED", "0.010"), ("FILLED", "0.010")),
    ],
)
def test_self_trade_prevention_goes_by_the_taker(bench, mode, maker, taker):
    socket = bench.user()
    bench.place("one", "SELL", "0.010", "64000", newClientOrderId="maker")
    bench.place(
        "one", "BUY", "0.010", "64000", newClientOrderId="taker", selfTradePreventionMode=mode
    )
    for client_id, expected in (("maker", maker), ("taker", taker)):
        body = state(bench, client_id)
        assert (body["status"], body["executedQty"]) == expected
    for client_id, execution, status, _, reason in orders_of(socket):
        assert (status == "EXPIRED_IN_MATCH") == (reason == "1"), client_id
        assert execution in ("NEW", "TRADE", "EXPIRED")
    if mode == "NONE":
        _, fills = bench.ask("GET", "/fapi/v1/userTrades", "one", symbol="BTCUSDT")
        assert len({f["id"] for f in fills}) == 1
        assert {f["maker"] for f in fills} == {True, False}


def test_reduce_only_is_trimmed_and_knocked_out(bench):
    bench.place("one", "BUY", "0.010", "64000")
    bench.place("two", "SELL", "0.010", "64000")
    socket = bench.user()
    body = bench.place("one", "SELL", "0.030", "65000", reduceOnly="true", newClientOrderId="close")
    assert body["reduceOnly"] is True
    assert orders_of(socket) == [("close", "NEW", "NEW", "0.000", "0")]
    assert state(bench, "close")["origQty"] == "0.010"
    bench.place("two", "BUY", "0.010", "63900")
    bench.place("one", "SELL", "0.010", "63900")
    events = orders_of(socket)
    assert ("close", "EXPIRED", "EXPIRED", "0.000", "4") in events
    assert bench.place("one", "SELL", "0.010", "65000", reduceOnly="true")["code"] == -2022


def test_amend_requeues_and_reports(bench):
    socket = bench.user()
    bench.place("one", "BUY", "0.010", "63000", newClientOrderId="a")
    bench.place("two", "BUY", "0.010", "63000", newClientOrderId="b")
    status, body = send(
        bench, "PUT", symbol="BTCUSDT", side="BUY", origClientOrderId="a", quantity="0.020",
        price="63000",
    )  # fmt: skip
    assert status == 200
    assert (body["origQty"], body["status"], body["selfTradePreventionMode"]) == (
        "0.020",
        "NEW",
        "NONE",
    )
    assert orders_of(socket)[-1] == ("a", "AMENDMENT", "NEW", "0.000", "0")
    bench.place("two", "SELL", "0.010", "63000", selfTradePreventionMode="NONE")
    assert state(bench, "a")["executedQty"] == "0.000"  # behind b now
    assert state(bench, "b", "two")["status"] == "FILLED"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"quantity": "0.010", "price": "63000"}, -5027),
        ({"price": "63000.05"}, -4014),
        ({"quantity": "0.001"}, -5029),
        ({"side": "SELL"}, -1117),
        ({"origClientOrderId": "nope"}, -2013),
        ({"origClientOrderId": None}, -1102),
        ({"price": None}, -1102),
        ({"quantity": None}, -1102),
        ({"price": "70000"}, -4016),
    ],
)
def test_refused_amendments_leave_the_order(bench, change, code):
    bench.place("one", "BUY", "0.010", "63000", newClientOrderId="a")
    amend = {
        "symbol": "BTCUSDT", "side": "BUY", "origClientOrderId": "a", "quantity": "0.020",
        "price": "63001",
    }  # fmt: skip
    params = {k: v for k, v in (amend | change).items() if v is not None}
    assert send(bench, "PUT", **params)[1]["code"] == code
    body = state(bench, "a")
    assert (body["status"], body["price"], body["origQty"]) == ("NEW", "63000.00", "0.010")


def test_amend_below_what_is_filled_cancels(bench):
    bench.place("one", "BUY", "0.010", "63000", newClientOrderId="a")
    bench.place("two", "SELL", "0.004", "63000")
    socket = bench.user()
    status, body = send(
        bench, "PUT", symbol="BTCUSDT", side="BUY", origClientOrderId="a", quantity="0.004",
        price="63000",
    )  # fmt: skip
    assert (status, body["status"], body["executedQty"]) == (200, "CANCELED", "0.004")
    assert orders_of(socket) == [("a", "CANCELED", "CANCELED", "0.004", "0")]


def test_post_only_amended_to_cross_cancels(bench):
    bench.place("two", "SELL", "0.010", "64000")
    bench.place("one", "BUY", "0.010", "63000", newClientOrderId="a", timeInForce="GTX")
    _, body = send(
        bench, "PUT", symbol="BTCUSDT", side="BUY", origClientOrderId="a", quantity="0.010",
        price="64000",
    )  # fmt: skip
    assert body["status"] == "CANCELED"


def test_amended_price_may_take(bench):
    bench.place("two", "SELL", "0.010", "64000")
    bench.place("one", "BUY", "0.010", "63000", newClientOrderId="a")
    send(
        bench, "PUT", symbol="BTCUSDT", side="BUY", origClientOrderId="a", quantity="0.010",
        price="64000",
    )  # fmt: skip
    assert state(bench, "a")["status"] == "FILLED"


def test_order_id_wins_over_the_client_id_and_accounts_are_apart(bench):
    first = bench.place("one", "BUY", "0.010", "63000", newClientOrderId="a")
    bench.place("one", "BUY", "0.010", "63001", newClientOrderId="b")
    both = {"symbol": "BTCUSDT", "orderId": first["orderId"], "origClientOrderId": "b"}
    assert send(bench, "GET", **both)[1]["clientOrderId"] == "a"
    assert send(bench, "GET", "two", **both)[1]["code"] == -2013
    assert send(bench, "DELETE", "two", **both)[1]["code"] == -2011
    assert send(bench, "GET", **(both | {"symbol": "ETHUSDT"}))[1]["code"] == -2013


def test_cancel_all_is_per_symbol(bench):
    for price in ("63000", "63001"):
        bench.place("one", "BUY", "0.010", price)
    bench.place("one", "BUY", "0.100", "3100", symbol="ETHUSDT")
    bench.place("two", "BUY", "0.010", "63000")
    socket = bench.user()
    status, body = send(bench, "DELETE", path="/fapi/v1/allOpenOrders", symbol="BTCUSDT")
    assert (status, body) == (
        200,
        {"code": 200, "msg": "The operation of cancel all open order is done."},
    )
    assert [event[1] for event in orders_of(socket)] == ["CANCELED", "CANCELED"]
    assert [o["symbol"] for o in bench.ask("GET", "/fapi/v1/openOrders", "one")[1]] == ["ETHUSDT"]
    assert len(bench.ask("GET", "/fapi/v1/openOrders", "two")[1]) == 1


def test_dead_man_switch_fires_unless_renewed_or_disarmed(bench):
    def arm(ms):
        return send(
            bench, "POST", path="/fapi/v1/countdownCancelAll", symbol="BTCUSDT", countdownTime=ms
        )

    bench.place("one", "BUY", "0.010", "63000")
    bench.place("one", "BUY", "0.100", "3100", symbol="ETHUSDT")
    assert arm(1_000) == (200, {"symbol": "BTCUSDT", "countdownTime": "1000"})
    bench.advance(900)
    arm(1_000)
    bench.advance(900)
    assert len(bench.ask("GET", "/fapi/v1/openOrders", "one", symbol="BTCUSDT")[1]) == 1
    arm(0)
    bench.advance(2_000)
    assert len(bench.ask("GET", "/fapi/v1/openOrders", "one", symbol="BTCUSDT")[1]) == 1
    arm(500)
    socket = bench.user()
    bench.advance(510)
    assert [event[1] for event in orders_of(socket)] == ["CANCELED"]
    assert [o["symbol"] for o in bench.ask("GET", "/fapi/v1/openOrders", "one")[1]] == ["ETHUSDT"]
    bench.place("one", "BUY", "0.010", "63000")
    bench.advance(2_000)
    assert len(bench.ask("GET", "/fapi/v1/openOrders", "one", symbol="BTCUSDT")[1]) == 1


def test_good_till_date_ends(bench):
    until = bench.now_ms + 700_000
    body = bench.place(
        "one", "BUY", "0.010", "63000", timeInForce="GTD", goodTillDate=until, newClientOrderId="d"
    )
    assert body["goodTillDate"] == until // 1_000 * 1_000
    bench.now_ms = until
    bench.advance(10)
    assert state(bench, "d")["status"] == "CANCELED"


@pytest.mark.parametrize(
    ("match", "side", "price"),
    [
        ("OPPONENT", "BUY", "64100.00"),
        ("QUEUE", "BUY", "63900.00"),
        ("QUEUE_5", "BUY", "63896.00"),
        ("OPPONENT_5", "SELL", "63896.00"),
        ("QUEUE_10", "BUY", -1112),
    ],
)
def test_price_match_takes_the_price_from_the_book(bench, match, side, price):
    for i in range(5):
        bench.place("two", "BUY", "0.010", f"{63900 - i}")
        bench.place("two", "SELL", "0.010", f"{64100 + i}")
    body = bench.place("one", side, "0.005", type="LIMIT", timeInForce="GTC", priceMatch=match)
    assert body.get("price", body.get("code")) == price


def test_forgotten_orders_are_bounded(bench, monkeypatch):
    monkeypatch.setattr("processes.venue.trading.CLOSED_ORDERS_MAX", 3)
    for i in range(5):
        bench.place("one", "BUY", "0.010", "63000", newClientOrderId=f"o{i}")
        send(bench, "DELETE", symbol="BTCUSDT", origClientOrderId=f"o{i}")
    assert state(bench, "o1")["code"] == -2013
    assert state(bench, "o2")["status"] == "CANCELED"
    assert len(bench.exchange.trading.by_id) == 3

"""Endpoints: documented JSON shapes, security, weights, headers, refusals."""

import json

import pytest

from processes.venue import auth
from processes.venue.rest import Request

PLACED = (
    "orderId symbol status clientOrderId price avgPrice origQty executedQty cumQty cumQuote"
    " timeInForce type reduceOnly closePosition side positionSide stopPrice workingType"
    " priceProtect origType priceMatch selfTradePreventionMode goodTillDate updateTime"
).split()
QUERIED = (
    "avgPrice clientOrderId cumQuote executedQty orderId origQty origType price reduceOnly side"
    " positionSide status stopPrice closePosition symbol time timeInForce type updateTime"
    " workingType priceProtect priceMatch selfTradePreventionMode goodTillDate"
).split()
USER_TRADE = (
    "symbol id orderId side price qty realizedPnl quoteQty commission commissionAsset time"
    " positionSide maker buyer"
).split()
RISK_V3 = (
    "symbol positionSide positionAmt entryPrice breakEvenPrice markPrice unRealizedProfit"
    " liquidationPrice isolatedMargin notional marginAsset isolatedWallet initialMargin"
    " maintMargin positionInitialMargin openOrderInitialMargin adl bidNotional askNotional"
    " updateTime"
).split()
BALANCE = (
    "accountAlias asset balance crossWalletBalance crossUnPnl availableBalance"
    " maxWithdrawAmount marginAvailable updateTime"
).split()
ACCOUNT = (
    "totalInitialMargin totalMaintMargin totalWalletBalance totalUnrealizedProfit"
    " totalMarginBalance totalPositionInitialMargin totalOpenOrderInitialMargin"
    " totalCrossWalletBalance totalCrossUnPnl availableBalance maxWithdrawAmount assets positions"
).split()
ASSET = (
    "asset walletBalance unrealizedProfit marginBalance maintMargin initialMargin"
    " positionInitialMargin openOrderInitialMargin crossWalletBalance crossUnPnl"
    " availableBalance maxWithdrawAmount updateTime"
).split()
HELD = (
    "symbol positionSide positionAmt unrealizedProfit isolatedMargin notional isolatedWallet"
    " initialMargin maintMargin updateTime"
).split()


def trade(bench):
    """Let account one buy 0.004 of its 0.010 from account two."""
    bench.place("one", "BUY", "0.010", "64200", newClientOrderId="q-7f3a-000123", timeInForce="GTX")
    bench.place("two", "SELL", "0.004", "64200")


def test_public_endpoints(bench):
    assert bench.ask("GET", "/fapi/v1/ping") == (200, {})
    assert bench.ask("GET", "/fapi/v1/time") == (200, {"serverTime": bench.now_ms})
    bench.place("one", "BUY", "0.010", "63000")
    bench.place("one", "SELL", "0.020", "65000")
    status, depth = bench.ask("GET", "/fapi/v1/depth", symbol="BTCUSDT", limit=5)
    assert status == 200
    assert list(depth) == ["lastUpdateId", "E", "T", "bids", "asks"]
    assert (depth["bids"], depth["asks"]) == ([["63000.00", "0.010"]], [["65000.00", "0.020"]])
    _, one = bench.ask("GET", "/fapi/v1/premiumIndex", symbol="BTCUSDT")
    assert one["markPrice"] == "64000.00000000"
    assert [p["symbol"] for p in bench.ask("GET", "/fapi/v1/premiumIndex")[1]] == [
        "BTCUSDT",
        "ETHUSDT",
    ]


def test_exchange_info_describes_limits_and_symbols(bench):
    _, info = bench.ask("GET", "/fapi/v1/exchangeInfo")
    assert info["futuresType"] == "U_MARGINED"
    assert {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 300} in (
        info["rateLimits"]
    )
    btc = info["symbols"][0]
    assert (btc["symbol"], btc["status"], btc["contractType"]) == (
        "BTCUSDT",
        "TRADING",
        "PERPETUAL",
    )
    assert (btc["pricePrecision"], btc["quantityPrecision"]) == (2, 3)
    assert (btc["baseAsset"], btc["quoteAsset"]) == ("BTC", "USDT")
    assert {f["filterType"] for f in btc["filters"]} >= {
        "PRICE_FILTER",
        "LOT_SIZE",
        "MARKET_LOT_SIZE",
        "MAX_NUM_ORDERS",
        "MIN_NOTIONAL",
        "PERCENT_PRICE",
    }


def test_order_shapes(bench):
    body = bench.place("one", "BUY", "0.010", "64200", newClientOrderId="q-7f3a-000123")
    assert list(body) == PLACED
    assert body | {"orderId": 0, "updateTime": 0} == {
        "orderId": 0,
        "symbol": "BTCUSDT",
        "status": "NEW",
        "clientOrderId": "q-7f3a-000123",
        "price": "64200.00",
        "avgPrice": "0.00",
        "origQty": "0.010",
        "executedQty": "0.000",
        "cumQty": "0.000",
        "cumQuote": "0.00000",
        "timeInForce": "GTC",
        "type": "LIMIT",
        "reduceOnly": False,
        "closePosition": False,
        "side": "BUY",
        "positionSide": "BOTH",
        "stopPrice": "0.00",
        "workingType": "CONTRACT_PRICE",
        "priceProtect": False,
        "origType": "LIMIT",
        "priceMatch": "NONE",
        "selfTradePreventionMode": "EXPIRE_MAKER",
        "goodTillDate": 0,
        "updateTime": 0,
    }
    bench.place("two", "SELL", "0.004", "64200")
    order = {"symbol": "BTCUSDT", "origClientOrderId": "q-7f3a-000123"}
    _, queried = bench.ask("GET", "/fapi/v1/order", "one", **order)
    assert list(queried) == QUERIED
    assert (queried["status"], queried["avgPrice"], queried["cumQuote"]) == (
        "PARTIALLY_FILLED",
        "64200.00000",
        "256.80000",
    )
    assert bench.ask("GET", "/fapi/v1/openOrders", "one", symbol="BTCUSDT")[1] == [queried]
    assert bench.ask("GET", "/fapi/v1/openOrders", "one")[1] == [queried]
    assert bench.ask("GET", "/fapi/v1/openOrder", "one", **order)[1] == queried
    assert bench.ask("GET", "/fapi/v1/allOrders", "one", symbol="BTCUSDT")[1] == [queried]
    _, canceled = bench.ask("DELETE", "/fapi/v1/order", "one", **order)
    assert list(canceled) == PLACED
    assert (canceled["status"], canceled["executedQty"], canceled["cumQuote"]) == (
        "CANCELED",
        "0.004",
        "256.80000",
    )


def test_user_trades(bench):
    trade(bench)
    _, (row,) = bench.ask("GET", "/fapi/v1/userTrades", "one", symbol="BTCUSDT")
    assert list(row) == USER_TRADE
    assert (row["qty"], row["quoteQty"], row["commission"], row["maker"], row["buyer"]) == (
        "0.004",
        "256.80000",
        "0.05136000",
        True,
        True,
    )
    _, (other,) = bench.ask("GET", "/fapi/v1/userTrades", "two", symbol="BTCUSDT")
    assert (other["id"], other["maker"], other["side"]) == (row["id"], False, "SELL")
    ask = {"symbol": "BTCUSDT", "fromId": row["id"] + 1}
    assert bench.ask("GET", "/fapi/v1/userTrades", "one", **ask)[1] == []
    bench.place("two", "SELL", "0.006", "64200")
    assert len(bench.ask("GET", "/fapi/v1/userTrades", "one", **ask)[1]) == 1
    assert len(bench.ask("GET", "/fapi/v1/userTrades", "one", symbol="BTCUSDT", limit=1)[1]) == 1


def test_account_shapes_and_figures(bench):
    trade(bench)
    _, (risk,) = bench.ask("GET", "/fapi/v3/positionRisk", "one")
    assert list(risk) == RISK_V3
    assert (risk["positionAmt"], risk["entryPrice"], risk["bidNotional"]) == (
        "0.004",
        "64200.0",
        "385.20000000",
    )
    assert risk["unRealizedProfit"] == "-0.80000000"
    assert risk["positionInitialMargin"] == "12.80000000"
    assert risk["openOrderInitialMargin"] == "19.26000000"
    _, (balance,) = bench.ask("GET", "/fapi/v3/balance", "one")
    assert list(balance) == BALANCE
    assert balance["balance"] == "999999.94864000"
    _, account = bench.ask("GET", "/fapi/v3/account", "one")
    assert list(account) == ACCOUNT
    assert list(account["assets"][0]) == ASSET
    assert list(account["positions"][0]) == HELD
    assert account["totalMarginBalance"] == "999999.14864000"
    assert account["availableBalance"] == "999967.08864000"
    _, legacy = bench.ask("GET", "/fapi/v2/positionRisk", "one")
    assert [(p["symbol"], p["leverage"], p["marginType"]) for p in legacy] == [
        ("BTCUSDT", "20", "cross"),
        ("ETHUSDT", "20", "cross"),
    ]
    assert bench.ask("GET", "/fapi/v3/positionRisk", "two", symbol="ETHUSDT")[1] == []


def test_settings(bench):
    assert bench.ask("POST", "/fapi/v1/leverage", "one", symbol="BTCUSDT", leverage=20) == (
        200,
        {"leverage": 20, "maxNotionalValue": "40000000", "symbol": "BTCUSDT"},
    )
    for leverage in (0, 126):
        status, body = bench.ask(
            "POST", "/fapi/v1/leverage", "one", symbol="BTCUSDT", leverage=leverage
        )
        assert (status, body["code"]) == (400, -4028)
    assert bench.ask("POST", "/fapi/v1/marginType", "one", symbol="BTCUSDT", marginType="CROSSED")[
        1
    ]["code"] == (-4046)
    assert bench.ask("POST", "/fapi/v1/positionSide/dual", "one", dualSidePosition="false")[1][
        "code"
    ] == (-4059)
    assert bench.ask("GET", "/fapi/v1/positionSide/dual", "one")[1] == {"dualSidePosition": False}
    assert bench.ask("GET", "/fapi/v1/commissionRate", "one", symbol="BTCUSDT")[1] == {
        "symbol": "BTCUSDT",
        "makerCommissionRate": "0.0002",
        "takerCommissionRate": "0.0005",
        "rpiCommissionRate": "0",
    }
    assert bench.ask("GET", "/fapi/v1/symbolConfig", "one", symbol="BTCUSDT")[1][0]["leverage"] == (
        20
    )
    assert bench.ask("GET", "/fapi/v1/accountConfig", "one")[1]["canTrade"] is True
    assert len(bench.ask("GET", "/fapi/v1/rateLimit/order", "one")[1]) == 2


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"signature": "0" * 64}, 400, -1022),
        ({"api_key": None}, 401, -2014),
        ({"api_key": "nobody"}, 401, -2015),
        ({"timestamp": -6_000}, 400, -1021),
        ({"timestamp": 1_500}, 400, -1021),
        ({"signature": ""}, 400, -1102),
    ],
)
def test_signed_requests_are_judged(bench, change, status, code):
    timestamp = bench.now_ms + change.get("timestamp", 0)
    query = f"symbol=BTCUSDT&timestamp={timestamp}"
    signature = change.get("signature", auth.sign(b"secret-one", query.encode()))
    answer = bench.rest.handle(
        Request(
            method="GET",
            path="/fapi/v1/openOrders",
            query=f"{query}&signature={signature}" if signature else query,
            body="",
            api_key=change.get("api_key", "key-one"),
            ip="127.0.0.1",
            now_ms=bench.now_ms,
        )
    )
    assert (answer.status, json.loads(answer.body)["code"]) == (status, code)


def test_body_parameters_count_and_the_query_wins(bench):
    query = "symbol=BTCUSDT&side=BUY&type=LIMIT"
    body = (
        "side=SELL&timeInForce=GTC&quantity=0.010&price=63000&newClientOrderId=in.body"
        f"&timestamp={bench.now_ms}"
    )
    body += "&signature=" + auth.sign(b"secret-one", (query + body).encode())
    answer = bench.rest.handle(
        Request("POST", "/fapi/v1/order", query, body, "key-one", "ip", bench.now_ms)
    )
    placed = json.loads(answer.body)
    assert (placed["side"], placed["clientOrderId"]) == ("BUY", "in.body")


def test_headers_tell_weight_and_order_counts(bench):
    _, _, headers = bench.ask("GET", "/fapi/v1/depth", symbol="BTCUSDT", limit=1000, headers=True)
    assert headers == {"X-MBX-USED-WEIGHT-1M": "20"}
    _, _, headers = bench.ask(
        "POST", "/fapi/v1/order", "one", symbol="BTCUSDT", side="BUY", type="LIMIT",
        timeInForce="GTC", quantity="0.010", price="63000", headers=True,
    )  # fmt: skip
    assert headers == {
        "X-MBX-USED-WEIGHT-1M": "20",
        "X-MBX-ORDER-COUNT-10S": "1",
        "X-MBX-ORDER-COUNT-1M": "1",
    }


@pytest.mark.parametrize(
    ("limit", "weight"), [(5, 2), (50, 2), (100, 5), (500, 10), (1000, 20), ("", 10)]
)
def test_depth_weights(bench, limit, weight):
    params = {"limit": limit} if limit else {}
    _, _, headers = bench.ask("GET", "/fapi/v1/depth", symbol="BTCUSDT", headers=True, **params)
    assert headers["X-MBX-USED-WEIGHT-1M"] == str(weight)


def test_weight_limit_answers_429_then_418(bench):
    statuses = [
        bench.ask("GET", "/fapi/v1/depth", symbol="BTCUSDT", limit=1000)[0] for _ in range(142)
    ]
    assert statuses[:120] == [200] * 120
    assert statuses[120:140] == [429] * 20
    assert statuses[140:] == [418] * 2
    status, body = bench.ask("GET", "/fapi/v1/time")
    assert (status, body["code"]) == (418, -1003)
    assert "banned until" in body["msg"]
    assert bench.ask("GET", "/fapi/v1/time", ip="10.0.0.9")[0] == 200


def test_order_limit_answers_429_and_cancels_still_pass(make_bench):
    from processes.venue.config import LimitsConfig

    bench = make_bench(limits=LimitsConfig(orders_10s_max=3))
    for i in range(3):
        bench.place("one", "BUY", "0.010", "63000", newClientOrderId=f"o{i}")
    assert bench.place("one", "BUY", "0.010", "63000")["code"] == -1015
    status, _ = bench.ask(
        "DELETE", "/fapi/v1/order", "one", symbol="BTCUSDT", origClientOrderId="o0"
    )
    assert status == 200


@pytest.mark.parametrize(
    ("path", "params", "code"),
    [
        ("/fapi/v1/depth", {}, -1102),
        ("/fapi/v1/depth", {"symbol": "NOPE"}, -1121),
        ("/fapi/v1/depth", {"symbol": "BTCUSDT", "limit": "7"}, -1130),
        ("/fapi/v1/depth", {"symbol": "BTCUSDT", "limit": "x"}, -1102),
        ("/fapi/v1/depth", {"symbol": "BTCUSDT", "limit": "9" * 5_000}, -1102),
    ],
)
def test_bad_parameters(bench, path, params, code):
    status, body = bench.ask("GET", path, **params)
    assert (status, body["code"]) == (400, code)
    assert list(body) == ["code", "msg"]


def test_unknown_path_is_404(bench):
    assert bench.ask("GET", "/fapi/v1/nothing")[0] == 404
    assert bench.ask("PATCH", "/fapi/v1/order")[0] == 404


def test_batches_answer_item_by_item(bench):
    rows = [
        {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC",
         "quantity": "0.010", "price": "63000", "newClientOrderId": "b-1"},
        {"symbol": "BTCUSDT", "side": "BUY", "type": "STOP", "quantity": "1"},
    ]  # fmt: skip
    from urllib.parse import quote

    status, body = bench.ask(
        "POST", "/fapi/v1/batchOrders", "one", batchOrders=quote(json.dumps(rows))
    )
    assert status == 200
    assert body[0]["clientOrderId"] == "b-1"
    assert body[1]["code"] == -4120
    ids = quote(json.dumps(["b-1", "b-2"], separators=(",", ":")))
    _, body = bench.ask(
        "DELETE", "/fapi/v1/batchOrders", "one", symbol="BTCUSDT", origClientOrderIdList=ids
    )
    assert (body[0]["status"], body[1]["code"]) == ("CANCELED", -2011)
    assert bench.ask("POST", "/fapi/v1/batchOrders", "one", batchOrders="[]")[1]["code"] == -4082

"""The WebSocket order API: envelope, methods, both ways to authenticate, limits."""

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from processes.venue import auth

SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PLACED = (
    "orderId symbol status clientOrderId price origQty executedQty cumQty timeInForce type"
    " reduceOnly closePosition side positionSide stopPrice workingType priceProtect origType"
    " priceMatch selfTradePreventionMode goodTillDate updateTime"
).split()
ORDER = {
    "symbol": "BTCUSDT",
    "side": "BUY",
    "type": "LIMIT",
    "timeInForce": "GTX",
    "quantity": "0.010",
    "price": "63000.00",
    "newClientOrderId": "q-7f3a-000123",
}


def logon(bench, session, timestamp=None, sign=None):
    params = {"apiKey": "test-key", "timestamp": timestamp or bench.now_ms}
    payload = sign or auth.sorted_payload(params)
    signature = Ed25519PrivateKey.from_private_bytes(SEED).sign(payload)
    return bench.call(
        session, "session.logon", **params, signature=base64.b64encode(signature).decode()
    )


def test_place_modify_status_cancel(bench):
    session = bench.session()
    answer = bench.call(session, "order.place", "one", **ORDER)
    assert list(answer) == ["id", "status", "result", "rateLimits"]
    assert (answer["id"], answer["status"]) == ("r-1", 200)
    assert list(answer["result"]) == PLACED
    assert [(r["rateLimitType"], r["count"]) for r in answer["rateLimits"]] == [
        ("ORDERS", 1),
        ("ORDERS", 1),
        ("REQUEST_WEIGHT", 5),
    ]
    order = {"symbol": "BTCUSDT", "origClientOrderId": "q-7f3a-000123"}
    answer = bench.call(
        session, "order.modify", "one", **order, side="BUY", quantity="0.020", price="63001"
    )
    assert (answer["result"]["price"], answer["result"]["origQty"]) == ("63001.00", "0.020")
    answer = bench.call(session, "order.status", "one", **order)
    assert answer["result"]["status"] == "NEW"
    answer = bench.call(session, "order.cancel", "one", **order)
    assert answer["result"]["status"] == "CANCELED"
    answer = bench.call(session, "order.cancel", "one", **order)
    assert list(answer) == ["id", "status", "error", "rateLimits"]
    assert (answer["status"], answer["error"]) == (
        400,
        {"code": -2011, "msg": "Unknown order sent."},
    )
    assert answer["rateLimits"][0]["count"] == 2


def test_decimals_may_be_numbers_when_they_were_signed_so(bench):
    answer = bench.call(bench.session(), "order.place", "one", **(ORDER | {"price": 63000}))
    assert answer["result"]["price"] == "63000.00"


def test_session_logon_takes_ed25519_only(bench):
    session = bench.session()
    answer = bench.call(session, "session.logon", "one")
    assert answer["status"] == 400
    answer = logon(bench, session)
    assert list(answer["result"]) == [
        "apiKey",
        "authorizedSince",
        "connectedSince",
        "returnRateLimits",
        "serverTime",
    ]
    assert answer["result"]["apiKey"] == "test-key"
    placed = bench.call(session, "order.place", **ORDER, timestamp=bench.now_ms)
    assert placed["status"] == 200
    missing = bench.call(session, "order.place", **ORDER)
    assert missing["error"]["code"] == -1102
    assert bench.call(session, "session.status")["result"]["apiKey"] == "test-key"
    assert bench.call(session, "session.logout")["result"]["apiKey"] is None
    again = bench.call(session, "order.place", **ORDER, timestamp=bench.now_ms)
    assert (again["status"], again["error"]["code"]) == (401, -2014)


def test_logon_with_a_wrong_signature_or_time(bench):
    session = bench.session()
    assert logon(bench, session, sign=b"something else")["error"]["code"] == -1022
    assert logon(bench, session, timestamp=bench.now_ms - 60_000)["error"]["code"] == -1021
    assert session.key is None


def test_signatures_are_checked(bench):
    session = bench.session()
    params = {**ORDER, "apiKey": "key-one", "timestamp": bench.now_ms}
    for signature, code in (("0" * 64, -1022), ("", -1102)):
        answer = bench.call(session, "order.place", **params, signature=signature)
        assert answer["error"]["code"] == code
    answer = bench.call(session, "order.place", **(params | {"apiKey": "nobody"}), signature="0")
    assert (answer["status"], answer["error"]["code"]) == (401, -2015)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"id":1}', '{"id":[1],"method":"ping"}', '{"id":1,"method":"nope"}',
     '{"id":1,"method":"ping","params":[1]}',
     '{"id":1,"method":"order.place","params":{"symbol":{"a":1}}}'],
)  # fmt: skip
def test_malformed_requests_are_answered(bench, text):
    answer = json.loads(bench.ws_api.handle(bench.session(), text, bench.now_ms))
    assert answer["status"] == 400
    assert answer["error"]["code"] < 0


def test_small_methods(bench):
    session = bench.session()
    assert bench.call(session, "ping")["result"] == {}
    assert bench.call(session, "time")["result"] == {"serverTime": bench.now_ms}
    bench.place("one", "BUY", "0.010", "63000")
    depth = bench.call(session, "depth", symbol="BTCUSDT", limit=5)["result"]
    assert depth["bids"] == [["63000.00", "0.010"]]
    for method in ("account.balance", "v2/account.balance"):
        assert bench.call(session, method, "one")["result"][0]["asset"] == "USDT"
    assert len(bench.call(session, "account.position", "one")["result"]) == 2
    assert len(bench.call(session, "v2/account.position", "one")["result"]) == 1
    assert "leverage" in bench.call(session, "account.status", "one")["result"]["positions"][0]
    assert bench.call(session, "v2/account.status", "one")["result"]["assets"]


def test_listen_key_needs_the_api_key_only(bench):
    session = bench.session()
    key = bench.call(session, "userDataStream.start", apiKey="key-one")["result"]["listenKey"]
    assert bench.call(session, "userDataStream.ping", apiKey="key-one")["result"] == {
        "listenKey": key
    }
    assert bench.call(session, "userDataStream.stop", apiKey="key-one")["result"] == {}
    assert bench.call(session, "userDataStream.ping", apiKey="key-one")["error"]["code"] == -1125


def test_rate_limits_can_be_hidden_and_are_shared_with_rest(bench):
    from processes.venue.ws_api import Session

    session = Session("127.0.0.1", bench.now_ms, False)
    assert "rateLimits" not in bench.call(session, "ping")
    _, _, headers = bench.ask("GET", "/fapi/v1/time", headers=True)
    assert headers["X-MBX-USED-WEIGHT-1M"] == "7"  # handshake 5, ping 1, time 1


def test_overload_refuses_before_anything_happens(bench):
    session = bench.session()
    params = {**ORDER, "apiKey": "key-one", "timestamp": bench.now_ms}
    params["signature"] = auth.sign(b"secret-one", auth.sorted_payload(params))
    text = json.dumps({"id": 7, "method": "order.place", "params": params})
    answer = json.loads(bench.ws_api.handle(session, text, bench.now_ms, True))
    assert (answer["id"], answer["status"], answer["error"]["code"]) == (7, 503, -1008)
    assert bench.exchange.trading.by_id == {}

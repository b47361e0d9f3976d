"""What each armed fault does, and who may arm it."""

import json

import pytest

from processes.venue.faults import Faults
from processes.venue.rest import Answer

PLACE = '{"id":"r-1","method":"order.place","params":{}}'


@pytest.fixture
def faults(bench):
    return Faults(bench.exchange, bench.exchange.config.faults)


def arm(faults, sockets=(), ip="127.0.0.1", **command):
    status, text = faults.command(json.dumps(command), ip, list(sockets), 1_000)
    return status, json.loads(text)


def test_only_loopback_may_arm(faults):
    assert arm(faults, ip="10.0.0.1", do="stall", ms=5)[0] == 403
    assert faults.stalled_until_ms == 0


@pytest.mark.parametrize(
    "command",
    [{"do": "nothing"}, {"do": "stall", "color": 1}, {"ms": 3}, {"do": "drop_depth"},
     {"do": "expire_listen_key", "account": 9}, {"do": "expire_listen_key", "account": 0}],
)  # fmt: skip
def test_bad_commands_are_refused(faults, command):
    assert arm(faults, **command)[0] == 400


def test_unknown_outcome_on_rest_and_websocket(faults):
    arm(faults, do="order_unknown", count=2)
    true = Answer(200, b'{"orderId":1}', {})
    answer = faults.rewrite("POST", "/fapi/v1/order", true)
    assert (answer.status, json.loads(answer.body)["msg"][:13]) == (503, "Unknown error")
    text = faults.rewrite_api(PLACE, '{"id":"r-1","status":200,"result":{}}')
    body = json.loads(text)
    assert (body["id"], body["status"], body["error"]["code"]) == ("r-1", 408, -1007)
    assert faults.rewrite("POST", "/fapi/v1/order", true) is true


def test_other_requests_and_refusals_are_not_rewritten(faults):
    arm(faults, do="order_unknown")
    for method, path, status in (
        ("GET", "/fapi/v1/order", 200),
        ("POST", "/fapi/v1/leverage", 200),
        ("POST", "/fapi/v1/order", 400),
    ):
        answer = Answer(status, b"{}", {})
        assert faults.rewrite(method, path, answer) is answer
    refused = '{"id":1,"status":400,"error":{"code":-2019}}'
    assert faults.rewrite_api(PLACE, refused) == refused
    cancel = '{"id":1,"status":200,"result":{}}'
    assert faults.rewrite_api('{"method":"order.cancel"}', cancel) == cancel


def test_lost_answers(faults):
    arm(faults, do="order_lost", count=2)
    assert faults.rewrite("POST", "/fapi/v1/order", Answer(200, b"{}", {})) is None
    assert faults.rewrite_api(PLACE, '{"id":1,"status":200,"result":{}}') is None


def test_overload_counts_down(faults):
    arm(faults, do="order_overloaded", count=2)
    assert [faults.refuse() for _ in range(3)] == [True, True, False]


def test_disconnect_chooses_the_kind(faults):
    class Socket:
        closed = 0

        def close(self, code):
            self.closed = code

    sockets = [(Socket(), "public"), (Socket(), "api"), (Socket(), "public")]
    assert arm(faults, sockets, do="disconnect", kind="public")[1]["result"] == 2
    assert [s.closed for s, _ in sockets] == [1001, 0, 1001]
    assert arm(faults, sockets, do="disconnect", kind="all")[1]["result"] == 3


def test_stall_and_skew(faults):
    arm(faults, do="stall", ms=500)
    assert faults.is_stalled(1_499) and not faults.is_stalled(1_500)
    arm(faults, do="skew_clock", ms=-7_000)
    assert faults.exchange.clock_skew_ms == -7_000


def test_listen_key_of_an_account_expires(bench, faults):
    socket = bench.user()
    arm(faults, do="expire_listen_key", account=0)
    assert [e["e"] for e in socket.take()] == ["listenKeyExpired"]


def test_old_snapshots_are_served_again(bench, faults):
    first = bench.ask("GET", "/fapi/v1/depth", symbol="BTCUSDT", limit=5)[1]
    bench.place("one", "BUY", "0.010", "63000")
    arm(faults, do="stale_depth", count=1)
    assert bench.ask("GET", "/fapi/v1/depth", symbol="BTCUSDT", limit=5)[1] == first
    assert bench.ask("GET", "/fapi/v1/depth", symbol="BTCUSDT", limit=5)[1] != first


def test_fills_are_lost_and_repeated(bench, faults):
    socket = bench.user()
    arm(faults, do="drop_fills", count=1)
    arm(faults, do="repeat_fills", count=1)
    bench.place("one", "BUY", "0.010", "64000")
    for _ in range(3):
        bench.place("two", "SELL", "0.002", "64000")
    fills = [e["o"]["z"] for e in socket.take() if e.get("o", {}).get("x") == "TRADE"]
    assert fills == ["0.004", "0.004", "0.006"]


def test_autoclose_trades_in_the_accounts_name(bench, faults):
    bench.place("two", "BUY", "0.010", "64000")
    socket = bench.user()
    status, body = arm(
        faults, do="autoclose", account=0, symbol="BTCUSDT", side="SELL", qty="0.010"
    )
    assert (status, body["result"]["status"]) == (200, "FILLED")
    told = [e["o"] for e in socket.take() if e["e"] == "ORDER_TRADE_UPDATE"]
    assert [(o["x"], o["X"]) for o in told] == [("NEW", "NEW"), ("CALCULATED", "FILLED")]
    assert told[0]["c"].startswith("autoclose-") and len(told[0]["c"]) <= 36
    assert arm(faults, do="autoclose", account=0, symbol="BTCUSDT", side="SELL", qty="0")[0] == 400


def test_ban(bench, faults):
    bench.ask("GET", "/fapi/v1/time")
    status, _ = faults.command('{"do":"ban","ms":1000}', "127.0.0.1", [], bench.now_ms), None
    assert status[0] == 200
    assert bench.ask("GET", "/fapi/v1/time")[0] == 418
    bench.now_ms += 1_000
    assert bench.ask("GET", "/fapi/v1/time")[0] == 200

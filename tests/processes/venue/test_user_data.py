"""listenKey life, and the events of the user-data stream key by key."""

import pytest

from processes.venue.user_data import LISTEN_KEY_LIFE_MS

ORDER_KEYS = (
    "s c S o f q p ap sp x X i l z L T t b a m R wt ot ps cp rp pP si ss V pm gtd er".split()
)
TRADE_KEYS = (
    "s c S o f q p ap sp x X i l z L n N T t b a m R wt ot ps cp rp pP si ss V pm gtd er".split()
)
POSITION_KEYS = "s pa ep bep cr up mt iw ps".split()


def listen_key(bench, method, name="one"):
    return bench.ask(method, "/fapi/v1/listenKey", name, signed=False)


def test_post_returns_the_same_key_and_delete_ends_it(bench):
    status, body = listen_key(bench, "POST")
    assert status == 200 and list(body) == ["listenKey"] and len(body["listenKey"]) == 64
    assert listen_key(bench, "POST")[1] == body
    assert listen_key(bench, "PUT") == (200, body)
    assert listen_key(bench, "DELETE") == (200, {})
    assert listen_key(bench, "PUT")[1]["code"] == -1125
    assert listen_key(bench, "DELETE")[1]["code"] == -1125
    assert listen_key(bench, "POST")[1] != body


def test_expiry_is_told_on_the_open_socket_and_then_silence(bench):
    socket = bench.user()
    bench.now_ms += LISTEN_KEY_LIFE_MS - 10
    listen_key(bench, "PUT")
    bench.now_ms += LISTEN_KEY_LIFE_MS - 10
    bench.advance(10)
    (event,) = socket.take()
    assert event == {"e": "listenKeyExpired", "E": bench.now_ms, "listenKey": socket.key}
    bench.place("one", "BUY", "0.010", "63000")
    assert socket.take() == []
    assert socket.closed == 0


def test_events_have_the_documented_keys_in_order(bench):
    socket = bench.user()
    bench.place("one", "BUY", "0.010", "64000", newClientOrderId="q-1", timeInForce="GTX")
    (new,) = socket.take()
    assert list(new) == ["e", "E", "T", "o"]
    assert list(new["o"]) == ORDER_KEYS
    assert (new["o"]["x"], new["o"]["X"], new["o"]["b"]) == ("NEW", "NEW", "640.00000")
    bench.place("two", "SELL", "0.004", "64000")
    lite, account, trade = socket.take()
    assert list(lite) == "e E T s q p m c S L l t i".split()
    assert (lite["c"], lite["l"], lite["m"]) == ("q-1", "0.004", True)
    assert list(account) == ["e", "E", "T", "a"]
    assert list(account["a"]) == ["m", "B", "P"]
    assert list(account["a"]["B"][0]) == ["a", "wb", "cw", "bc"]
    assert list(account["a"]["P"][0]) == POSITION_KEYS
    assert account["a"]["P"][0]["pa"] == "0.004"
    assert account["a"]["B"][0]["wb"] == "999999.94880000"
    assert list(trade["o"]) == TRADE_KEYS
    order = trade["o"]
    assert (order["X"], order["l"], order["z"], order["n"], order["N"]) == (
        "PARTIALLY_FILLED",
        "0.004",
        "0.004",
        "0.05120000",
        "USDT",
    )
    assert (order["b"], order["ap"], order["t"]) == ("384.00000", "64000.00", lite["t"])
    bench.ask("DELETE", "/fapi/v1/order", "one", symbol="BTCUSDT", origClientOrderId="q-1")
    (canceled,) = socket.take()
    assert list(canceled["o"]) == ORDER_KEYS
    assert (canceled["o"]["x"], canceled["o"]["z"], canceled["o"]["b"]) == (
        "CANCELED",
        "0.004",
        "0",
    )


def test_the_taker_hears_its_own_side_of_the_trade(bench):
    bench.place("one", "BUY", "0.010", "64000")
    socket = bench.user("two")
    bench.place("two", "SELL", "0.010", "64000", newClientOrderId="t-1")
    events = socket.take()
    assert [e["e"] for e in events] == [
        "ORDER_TRADE_UPDATE",
        "TRADE_LITE",
        "ACCOUNT_UPDATE",
        "ORDER_TRADE_UPDATE",
    ]
    assert events[3]["o"]["m"] is False
    assert events[3]["o"]["n"] == "0.32000000"
    assert events[2]["a"]["P"][0]["pa"] == "-0.010"


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("listenKey={}&events=ORDER_TRADE_UPDATE", {"ORDER_TRADE_UPDATE"}),
        ("listenKey={}&events=ACCOUNT_UPDATE/TRADE_LITE", {"ACCOUNT_UPDATE", "TRADE_LITE"}),
        ("listenKey={}", {"ORDER_TRADE_UPDATE", "ACCOUNT_UPDATE", "TRADE_LITE"}),
    ],
)
def test_url_chooses_the_events(bench, query, wanted):
    key = listen_key(bench, "POST")[1]["listenKey"]
    socket = bench.connect("private")
    bench.exchange.open_streams(socket.connection, [], query.format(key))
    bench.place("one", "BUY", "0.010", "64000")
    bench.place("two", "SELL", "0.010", "64000")
    assert {event["e"] for event in socket.take()} == wanted


def test_combined_private_connection_names_the_key(bench):
    keys = [listen_key(bench, "POST", name)[1]["listenKey"] for name in ("one", "two")]
    socket = bench.connect("private", combined=True)
    query = f"listenKey={keys[0]}&events=TRADE_LITE&listenKey={keys[1]}&events=ACCOUNT_UPDATE"
    bench.exchange.open_streams(socket.connection, [], query)
    bench.place("one", "BUY", "0.010", "64000")
    bench.place("two", "SELL", "0.010", "64000")
    frames = socket.take()
    assert [(f["stream"], f["data"]["e"]) for f in frames] == [
        (keys[0], "TRADE_LITE"),
        (keys[1], "ACCOUNT_UPDATE"),
    ]


def test_a_key_on_a_legacy_connection_is_silent(bench):
    key = listen_key(bench, "POST")[1]["listenKey"]
    socket = bench.connect("")
    bench.exchange.open_streams(socket.connection, [key], "")
    bench.place("one", "BUY", "0.010", "64000")
    assert socket.take() == []


def test_a_closed_connection_is_forgotten(bench):
    socket = bench.user()
    bench.exchange.hub.leave(socket.connection)
    bench.place("one", "BUY", "0.010", "64000")
    assert socket.take() == []

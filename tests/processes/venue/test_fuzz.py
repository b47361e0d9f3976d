"""Whatever clients send is answered or refused with a documented code; nothing is raised."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from processes.venue import auth
from processes.venue.errors import MESSAGES
from processes.venue.rest import Request
from processes.venue.streams import Connection

KEYS = st.sampled_from(["id", "method", "params", "symbol", "x"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["id", "method", "params", "symbol", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)
METHODS = ["SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "order.place", "depth"]
NUMBERS = ["0.010", "64000", "0", "-1", "1e3", "NaN", "9" * 30, "0.0000000001", "", "٣", "1_0"]
VALUES = {
    "symbol": ["BTCUSDT", "ETHUSDT", "btcusdt", ""],
    "side": ["BUY", "SELL", "buy"],
    "type": ["LIMIT", "MARKET", "STOP"],
    "timeInForce": ["GTC", "IOC", "FOK", "GTX", "GTD", "X"],
    "quantity": NUMBERS,
    "price": NUMBERS,
    "reduceOnly": ["true", "false", "maybe"],
    "newClientOrderId": ["a", "b", "c" * 40, "%00"],
    "origClientOrderId": ["a", "b", "c"],
    "orderId": NUMBERS,
    "newOrderRespType": ["ACK", "RESULT", "FULL"],
    "selfTradePreventionMode": ["NONE", "EXPIRE_BOTH", "x"],
    "priceMatch": ["NONE", "QUEUE", "OPPONENT_5", "x"],
    "goodTillDate": NUMBERS,
    "countdownTime": NUMBERS,
    "leverage": NUMBERS,
    "limit": NUMBERS,
    "fromId": NUMBERS,
    "recvWindow": ["5000", "0", "99999999"],
    "listenKey": ["x"],
    "batchOrders": ["[]", "{}", "[1]", "[[]]", "nonsense", "[{}]"],
    "orderIdList": ["[]", "[1,2]", "[null]", "[{}]"],
}
PARAMS = st.fixed_dictionaries({}, optional={k: st.sampled_from(v) for k, v in VALUES.items()})
QUIET = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def quiet(make_bench):
    """An exchange without rate limits in the way."""
    from processes.venue.config import LimitsConfig

    return make_bench(
        limits=LimitsConfig(
            weight_1m_max=10**9, orders_10s_max=10**9, orders_1m_max=10**9, broken_max=10**9
        )
    )


class Sink:
    def __init__(self):
        self.frames = []

    def send(self, text):
        self.frames.append(text)

    def close(self, code):
        pass

    def pending(self):
        return 0


@QUIET
@given(st.one_of(JSON.map(lambda v: json.dumps(v, ensure_ascii=True)), st.text(max_size=60)))
def test_control_frames(bench, text):
    sink = Sink()
    connection = Connection(sink, "public", False)
    bench.exchange.hub.handle(connection, text, 0)
    (answer,) = sink.frames
    assert set(json.loads(answer)) in ({"code", "msg"}, {"result", "id"})
    bench.exchange.hub.leave(connection)


@QUIET
@given(st.sampled_from(METHODS), JSON, JSON)
def test_almost_right_frames(quiet, method, request_id, params):
    text = json.dumps({"id": request_id, "method": method, "params": params})
    sink = Sink()
    connection = Connection(sink, "public", False)
    quiet.exchange.hub.handle(connection, text, 0)
    assert len(sink.frames) == 1
    quiet.exchange.hub.leave(connection)
    answer = json.loads(quiet.ws_api.handle(quiet.session(), text, quiet.now_ms))
    assert answer["status"] in (200, 400, 401)


@pytest.mark.parametrize("text", ["[" * 60_000, '{"a":' * 10_000, "\x00", '"\\ud800"'])
def test_hostile_frames(bench, text):
    sink = Sink()
    bench.exchange.hub.handle(Connection(sink, "public", False), text, 0)
    assert "code" in json.loads(sink.frames[0])
    answer = json.loads(bench.ws_api.handle(bench.session(), text, bench.now_ms))
    assert answer["status"] == 400


@QUIET
@given(st.data(), PARAMS)
def test_every_endpoint_with_odd_parameters(quiet, data, params):
    method, path = data.draw(st.sampled_from(sorted(quiet.rest.routes)))
    query = "&".join(f"{k}={v}" for k, v in params.items())
    query += f"&timestamp={quiet.now_ms}"
    query += f"&signature={auth.sign(b'secret-one', query.encode())}"
    answer = quiet.rest.handle(
        Request(method, path, query, "", "key-one", "127.0.0.1", quiet.now_ms)
    )
    body = json.loads(answer.body)
    if answer.status != 200:
        assert body["code"] in MESSAGES
    quiet.advance(10)


@QUIET
@given(st.text(max_size=80), st.text(max_size=80), st.text(max_size=10))
def test_raw_queries_and_bodies(quiet, query, body, api_key):
    for path in ("/fapi/v1/order", "/fapi/v1/depth", "/fapi/v1/listenKey"):
        request = Request("POST", path, query, body, api_key, "ip", quiet.now_ms)
        assert quiet.rest.handle(request).status in (400, 401, 404)

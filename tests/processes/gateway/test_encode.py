"""Frames of the order API: the documented shape, a naive twin, the signature vector."""

import hashlib
import hmac
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import binance, order_ids
from common.enums import OrderType, RequestKind, Side, TimeInForce
from common.instruments import Instrument, InstrumentFacts
from common.messages import OrderRequest
from processes.gateway import encode

SECRET = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"
INSTRUMENTS = [
    Instrument(
        instrument_id=0,
        venue="binance-usdm",
        symbol="BTCUSDT",
        facts=InstrumentFacts(tick_size="0.10", lot_size="0.001", price_decimals=2, qty_decimals=3),
    ),
    Instrument(
        instrument_id=1,
        venue="binance-usdm",
        symbol="1000SHIBUSDT",
        facts=InstrumentFacts(tick_size="0.000001", lot_size="1", price_decimals=6, qty_decimals=0),
    ),
]
ORDER_ID = order_ids.pack(1, 0, 3)


def new_encoder(api_key="test-key", secret=SECRET):
    credentials = binance.Credentials(api_key, secret)
    return encode.Encoder(INSTRUMENTS, credentials, "EXPIRE_TAKER", 5000)


def naive_frame(request, request_id, venue_ms, api_key, secret):
    """What the frame means: parameters, sorted, signed with the plain library call."""
    params = binance.order_params(request, INSTRUMENTS[request.instrument_id], "EXPIRE_TAKER")
    params |= {"apiKey": api_key, "recvWindow": 5000, "timestamp": venue_ms}
    if "orderId" in params:
        params["orderId"] = int(params["orderId"])
    payload = "&".join(f"{name}={params[name]}" for name in sorted(params))
    params["signature"] = hmac.new(secret.encode(), payload.encode(), hashlib.sha256).hexdigest()
    method = {1: "order.place", 2: "order.modify", 3: "order.cancel"}[request.kind]
    return {"id": request_id, "method": method, "params": params}


REQUESTS = st.builds(
    OrderRequest,
    kind=st.sampled_from([RequestKind.NEW, RequestKind.REPLACE, RequestKind.CANCEL]),
    side=st.sampled_from([Side.BID, Side.ASK]),
    order_type=st.sampled_from([OrderType.LIMIT, OrderType.MARKET]),
    time_in_force=st.sampled_from(list(TimeInForce)),
    reduce_only=st.integers(0, 1),
    instrument_id=st.integers(0, 1),
    client_order_id=st.integers(1, 2**63 - 1),
    orig_client_order_id=st.integers(0, 2**63 - 1),
    venue_order_id=st.integers(1, 2**53),
    price_steps=st.integers(1, 10**12),
    order_qty_steps=st.integers(1, 10**9),
)
KEYS = st.text("abcdefghijKLMNOP0123456789", min_size=1, max_size=64)


@settings(max_examples=300, deadline=None)
@given(st.lists(REQUESTS, min_size=1, max_size=5), KEYS, st.integers(1, 2**31), st.data())
def test_every_frame_is_what_its_naive_twin_says(requests, api_key, request_id, data):
    encoder = new_encoder(api_key)
    for request in requests:
        venue_ms = data.draw(st.integers(10**12, 2 * 10**12))
        frame = encoder.encode(request, request_id, venue_ms)
        assert json.loads(frame) == naive_frame(request, request_id, venue_ms, api_key, SECRET)


def test_a_place_frame_reads_like_the_documented_one():
    request = OrderRequest(
        kind=RequestKind.NEW,
        side=Side.BID,
        order_type=OrderType.LIMIT,
        time_in_force=TimeInForce.GTX,
        instrument_id=0,
        client_order_id=ORDER_ID,
        price_steps=642_000,
        order_qty_steps=10,
    )
    frame = json.loads(new_encoder().encode(request, 123, 1784212800000))
    assert frame["id"] == 123 and frame["method"] == "order.place"
    signature = frame["params"].pop("signature")
    assert len(signature) == 64 and signature == signature.lower()
    assert frame["params"] == {
        "apiKey": "test-key",
        "symbol": "BTCUSDT",
        "side": "BUY",
        "type": "LIMIT",
        "timeInForce": "GTX",
        "quantity": "0.010",
        "price": "64200.00",
        "newClientOrderId": order_ids.to_text(ORDER_ID),
        "newOrderRespType": "ACK",
        "selfTradePreventionMode": "EXPIRE_TAKER",
        "recvWindow": 5000,
        "timestamp": 1784212800000,
    }


def test_the_sorted_vector_is_reproduced_by_a_template():
    params = {
        "apiKey": "test-key",
        "price": "60000.0",
        "quantity": "0.001",
        "recvWindow": "5000",
        "side": "BUY",
        "symbol": "BTCUSDT",
        "timeInForce": "GTX",
        "timestamp": "1702555533821",
        "type": "LIMIT",
    }
    template = encode.Template("order.place", params, binance.Signer(b"test-secret"))
    frame = json.loads(template.fill(1, (b"60000.0", b"0.001", b"1702555533821")))
    assert (
        frame["params"]["signature"]
        == "2248b8f4910f1c5f81bf4db26422a6a18fbf6437004e27c919ecdcfae3236a3c"
    )


def test_a_percent_sign_in_constant_text_is_no_hole():
    credentials = binance.Credentials("50%b", SECRET)
    encoder = encode.Encoder(INSTRUMENTS, credentials, "EXPIRE_TAKER", 5000)
    cancel = OrderRequest(kind=RequestKind.CANCEL, instrument_id=0, orig_client_order_id=ORDER_ID)
    frame = encoder.encode(cancel, 1, 2 * 10**12)
    assert json.loads(frame) == naive_frame(cancel, 1, 2 * 10**12, "50%b", SECRET)


@pytest.mark.parametrize(
    "bad",
    [
        OrderRequest(),
        OrderRequest(kind=RequestKind.CANCEL, instrument_id=7, orig_client_order_id=1),
        OrderRequest(kind=RequestKind.CANCEL_ALL, instrument_id=0),
        OrderRequest(kind=RequestKind.NEW, instrument_id=0, client_order_id=1, order_qty_steps=1),
    ],
)
def test_a_record_that_cannot_be_written_gives_nothing(bad):
    encoder = new_encoder()
    assert encoder.encode(bad, 1, 1) == b""
    assert not encoder.templates


def test_templates_and_texts_stay_bounded():
    encoder = new_encoder()
    texts = encoder.texts[0]
    texts.prices = dict.fromkeys(range(encode.TEXTS_MAX), b"1")
    texts.quantities = dict.fromkeys(range(encode.TEXTS_MAX), b"1")
    assert texts.price(10**9) == b"100000000.00" and texts.qty(10**9) == b"1000000.000"
    assert len(texts.prices) == len(texts.quantities) == 1
    for order_id in range(1, 50):
        cancel = OrderRequest(
            kind=RequestKind.CANCEL,
            instrument_id=0,
            orig_client_order_id=order_id,
            side=order_id % 3 - 1,
            price_steps=order_id,
        )
        encoder.encode(cancel, 1, 1)
    assert len(encoder.templates) == 1

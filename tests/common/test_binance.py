"""Signing against published vectors, the venue's words, and what each answer means."""

import hashlib
import hmac
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import binance, order_ids
from common.binance import Outcome
from common.enums import (
    ExecType,
    OrderStatus,
    OrderType,
    Reject,
    ReportKind,
    ReportSource,
    RequestKind,
    Side,
    TimeInForce,
)
from common.errors import ConfigError
from common.instruments import Instrument, InstrumentFacts
from common.messages import OrderRequest

FUTURES_SECRET = "2b5eb11e18796d12d88f13dc27dbbd02c2cc51ff7059765ed9821957d82bb4d9"
SPOT_SECRET = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"
BTC = Instrument(
    instrument_id=0,
    venue="binance-usdm",
    symbol="BTCUSDT",
    facts=InstrumentFacts(tick_size="0.10", lot_size="0.001", price_decimals=2, qty_decimals=3),
)

VECTORS = [
    (
        FUTURES_SECRET,
        "symbol=BTCUSDT&side=BUY&type=LIMIT&quantity=1&price=9000&timeInForce=GTC"
        "&recvWindow=5000&timestamp=1591702613943",
        "3c661234138461fcc7a7d8746c6558c9842d4e10870d2ecbedf7777cad694af9",
    ),
    (  # query string and body, nothing between them
        FUTURES_SECRET,
        "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTCquantity=1&price=9000"
        "&recvWindow=5000&timestamp=1591702613943",
        "30baaf0fab549bbeda7f5ef201898b34122da25fd23c646cac2c529aebe670a4",
    ),
    (
        SPOT_SECRET,
        "symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1"
        "&recvWindow=5000&timestamp=1499827319559",
        "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71",
    ),
    (
        SPOT_SECRET,
        "symbol=%EF%BC%91%EF%BC%92%EF%BC%93%EF%BC%94%EF%BC%95%EF%BC%96&side=BUY&type=LIMIT"
        "&timeInForce=GTC&quantity=1&price=0.1&recvWindow=5000&timestamp=1499827319559",
        "e1353ec6b14d888f1164ae9af8228a3dbd508bc82eb867db8ab6046442f33ef3",
    ),
]


@pytest.mark.parametrize(("secret", "payload", "signature"), VECTORS)
def test_sign_query_gives_the_published_signatures(secret, payload, signature):
    signed = binance.sign_query(payload, binance.Signer(secret.encode()))
    assert signed == f"{payload}&signature={signature}"


def test_sign_ws_params_sorts_by_name():
    params = {
        "symbol": "BTCUSDT",
        "side": "BUY",
        "type": "LIMIT",
        "timeInForce": "GTX",
        "quantity": "0.001",
        "price": "60000.0",
        "apiKey": "test-key",
        "timestamp": 1702555533821,
        "recvWindow": 5000,
    }
    expected = "2248b8f4910f1c5f81bf4db26422a6a18fbf6437004e27c919ecdcfae3236a3c"
    assert binance.sign_ws_params(params, binance.Signer(b"test-secret")) == expected


@given(st.binary(max_size=200), st.binary(max_size=300), st.integers(0, 300))
def test_signer_agrees_with_hmac_wherever_the_payload_is_cut(secret, payload, cut):
    expected = hmac.new(secret, payload, hashlib.sha256).hexdigest()
    signer = binance.Signer(secret)
    assert signer.sign(payload) == expected
    assert signer.begin(payload[:cut]).sign(payload[cut:]) == expected
    assert signer.sign(payload) == expected  # using it changes nothing


# --- what an answer means: the table of unknown execution status, row by row -------------------

UNKNOWN_ROWS = [
    (503, 0, "Unknown error, please check your request or try again later.", Outcome.UNKNOWN),
    (503, -1000, "Unknown error, please check your request or try again later.", Outcome.UNKNOWN),
    (503, 0, "Service Unavailable.", Outcome.FAILED),
    (
        503,
        0,
        "Internal error; unable to process your request. Please try again.",
        Outcome.FAILED,
    ),
    (
        503,
        -1001,
        "Internal error; unable to process your request. Please try again.",
        Outcome.FAILED,
    ),
    (503, -1008, "Server is currently overloaded with other requests.", Outcome.RATE),
    (400, -1001, "Internal error; unable to process your request. Please try again.", "unknown"),
    (500, -1001, "Internal error; unable to process your request. Please try again.", "unknown"),
    (400, -1006, "An unexpected response was received from the message bus.", Outcome.UNKNOWN),
    (408, -1007, "Timeout waiting for response from backend server.", Outcome.UNKNOWN),
    (400, -1007, "Timeout waiting for response from backend server.", Outcome.UNKNOWN),
    (408, 0, "", Outcome.UNKNOWN),
    (0, 0, "", Outcome.UNKNOWN),
    (502, 0, "<html><title>502 Bad Gateway</title></html>", Outcome.UNKNOWN),
    (504, 0, "<html><title>504 Gateway Time-out</title></html>", Outcome.UNKNOWN),
    (500, 0, "", Outcome.UNKNOWN),
    (503, 0, "something new", Outcome.UNKNOWN),
    (302, 0, "", Outcome.UNKNOWN),
]


@pytest.mark.parametrize(("status", "code", "message", "outcome"), UNKNOWN_ROWS)
def test_classify_unknown_execution_status(status, code, message, outcome):
    expected = Outcome.UNKNOWN if outcome == "unknown" else outcome
    assert binance.classify(status, code, message) is expected


FAILED, AUTH, RATE, CLOCK = Outcome.FAILED, Outcome.AUTH, Outcome.RATE, Outcome.CLOCK
CODES = {
    Outcome.UNKNOWN: [-1000, -1001, -1006, -1007, -4083, -4116],
    AUTH: [-1002, -2014, -2015],
    RATE: [-1003, -1008, -1015],
    CLOCK: [-1021, -5028],
    FAILED: [
        *(-1013, -1014, -1016, -1022),
        *range(-1130, -1099),
        -1136,
        *(-2010, -2011, -2012, -2013),
        *range(-2028, -2017),
        *(-4002, -4003, -4004, -4005, -4013, -4014, -4015, -4016, -4023, -4024, -4028),
        *(-4046, -4047, -4048, -4059, -4061, -4062, -4067, -4068, -4082, -4087, -4088),
        *(-4105, -4106, -4107, -4118, -4120, -4131, -4140, -4141, -4164, -4171, -4189),
        *(-4192, -4400, -4401, -4531),
        *(-5021, -5022, -5024, -5025, -5026, -5027, -5029, -5043),
        *range(-5041, -5036),
    ],
}


@pytest.mark.parametrize(("outcome", "code"), [(o, c) for o, codes in CODES.items() for c in codes])
def test_classify_documented_codes(outcome, code):
    assert binance.classify(400, code, "any text") is outcome
    assert binance.classify(200, code, "any text") is outcome  # an error in a 200 body


@pytest.mark.parametrize(
    ("status", "code", "message", "outcome"),
    [
        (200, 0, "", Outcome.OK),
        (200, 200, "The operation of cancel all open order is done.", Outcome.OK),
        (429, 0, "", RATE),
        (429, -1003, "Too many requests", RATE),
        (418, -1003, "Way too many requests; IP banned until 1784212900000", RATE),
        (403, 0, "<html>WAF</html>", RATE),
        (401, 0, "", AUTH),
        (400, 0, "", Outcome.UNKNOWN),
        (400, -9999, "a code of next year", Outcome.UNKNOWN),
        (404, 0, "", Outcome.UNKNOWN),
    ],
)
def test_classify_by_status(status, code, message, outcome):
    assert binance.classify(status, code, message) is outcome


@pytest.mark.parametrize(
    ("outcome", "code", "reject"),
    [
        (Outcome.OK, 0, Reject.NONE),
        (Outcome.UNKNOWN, -1007, Reject.NONE),
        (RATE, -1015, Reject.VENUE_RATE),
        (AUTH, -2015, Reject.VENUE_AUTH),
        (CLOCK, -1021, Reject.CLOCK_OFFSET),
        (FAILED, -5022, Reject.VENUE_POST_ONLY),
        (FAILED, -2011, Reject.VENUE_UNKNOWN_ORDER),
        (FAILED, -2013, Reject.VENUE_UNKNOWN_ORDER),
        (FAILED, -2019, Reject.VENUE),
    ],
)
def test_reject_of(outcome, code, reject):
    assert binance.reject_of(outcome, code) is reject


def test_banned_until_is_read_from_the_message():
    text = "Way too many requests; IP(1.2.3.4) banned until 1784212900123. Please use websocket."
    assert binance.banned_until_ms(text) == 1784212900123
    assert binance.banned_until_ms("Too many requests; current limit is 2400") == 0
    assert binance.banned_until_ms("banned until 99999999999999999999") == 0


# --- keys --------------------------------------------------------------------------------------


def key_file(tmp_path, content=b"abcDEF0123\n", mode=0o600, name="key"):
    path = tmp_path / name
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_load_credentials_reads_both_and_shows_neither(tmp_path):
    api = key_file(tmp_path, b"my-api-key\n", name="api")
    secret = key_file(tmp_path, FUTURES_SECRET.encode(), name="secret")
    credentials = binance.load_credentials(api, secret)
    assert credentials.api_key == "my-api-key"
    assert credentials.signer.sign(VECTORS[0][1].encode()) == VECTORS[0][2]
    for shown in (repr(credentials), str(credentials), repr(credentials.signer)):
        assert "my-api-key" not in shown and FUTURES_SECRET not in shown
    assert not hasattr(credentials, "__dict__") and not hasattr(credentials.signer, "__dict__")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o700, 0o620])
def test_a_key_file_that_others_may_use_is_refused(tmp_path, mode):
    with pytest.raises(ConfigError, match=f"mode is {mode:04o}, expected 0600"):
        binance.read_key_file(key_file(tmp_path, mode=mode))


def test_a_read_only_key_file_is_fine(tmp_path):
    assert binance.read_key_file(key_file(tmp_path, mode=0o400)) == "abcDEF0123"


@pytest.mark.parametrize(
    "content",
    [b"", b" \n", b"two words", b"a\nb", b"k" * 5000, b"k\x00", b'quo"te', "ключ".encode()],
)
def test_a_key_file_without_one_key_is_refused_and_not_shown(tmp_path, content):
    with pytest.raises(ConfigError, match="expected one key") as caught:
        binance.read_key_file(key_file(tmp_path, content))
    shown = str(caught.value).replace(str(tmp_path), "")
    assert "two" not in shown and "kk" not in shown


def test_a_missing_linked_or_foreign_key_file_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="no such file"):
        binance.read_key_file(tmp_path / "absent")
    link = tmp_path / "link"
    link.symlink_to(key_file(tmp_path))
    with pytest.raises(ConfigError):
        binance.read_key_file(link)
    with pytest.raises(ConfigError, match="not a regular file"):
        binance.read_key_file(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    with pytest.raises(ConfigError, match="expected 4242"):
        binance.read_key_file(key_file(tmp_path, name="other"))


# --- requests and reports ----------------------------------------------------------------------

NEW = OrderRequest(
    kind=RequestKind.NEW,
    side=Side.BID,
    order_type=OrderType.LIMIT,
    time_in_force=TimeInForce.GTX,
    instrument_id=0,
    order_slot=7,
    client_order_id=order_ids.pack(3, 1, 9),
    intent_sequence=9,
    price_steps=642_000,
    order_qty_steps=10,
    strategy_id=1,
    ts_recv_ns=11,
    recv_to_book_ns=12,
    book_to_strategy_ns=13,
    strategy_to_risk_ns=14,
)
OWN = order_ids.to_text(NEW.client_order_id)


def changed(request, **values):
    import msgspec

    return msgspec.structs.replace(request, **values)


def test_order_params_of_a_place():
    assert binance.order_params(NEW, BTC, "EXPIRE_TAKER") == {
        "symbol": "BTCUSDT",
        "side": "BUY",
        "type": "LIMIT",
        "timeInForce": "GTX",
        "quantity": "0.010",
        "price": "64200.00",
        "newClientOrderId": OWN,
        "newOrderRespType": "ACK",
        "selfTradePreventionMode": "EXPIRE_TAKER",
    }


def test_order_params_of_a_reduce_only_market_order_have_no_price():
    request = changed(
        NEW, order_type=OrderType.MARKET, time_in_force=0, price_steps=0, reduce_only=1, side=-1
    )
    params = binance.order_params(request, BTC, "EXPIRE_MAKER")
    assert params["side"] == "SELL" and params["reduceOnly"] == "true"
    assert "price" not in params and "timeInForce" not in params


def test_order_params_of_changes_name_the_order():
    cancel = OrderRequest(
        kind=RequestKind.CANCEL, instrument_id=0, orig_client_order_id=NEW.client_order_id
    )
    assert binance.order_params(cancel, BTC, "") == {"symbol": "BTCUSDT", "origClientOrderId": OWN}
    foreign = OrderRequest(kind=RequestKind.CANCEL, instrument_id=0, venue_order_id=728811004512)
    assert binance.order_params(foreign, BTC, "") == {
        "symbol": "BTCUSDT",
        "orderId": "728811004512",
    }
    replace = changed(NEW, kind=RequestKind.REPLACE, orig_client_order_id=NEW.client_order_id)
    assert binance.order_params(replace, BTC, "") == {
        "symbol": "BTCUSDT",
        "side": "BUY",
        "origClientOrderId": OWN,
        "quantity": "0.010",
        "price": "64200.00",
    }


@pytest.mark.parametrize(
    ("values", "good"),
    [
        ({}, True),
        ({"instrument_id": 1}, False),
        ({"instrument_id": -1}, False),
        ({"side": 0}, False),
        ({"order_qty_steps": 0}, False),
        ({"order_qty_steps": -5}, False),
        ({"price_steps": 0}, False),
        ({"price_steps": -1}, False),
        ({"time_in_force": 0}, False),
        ({"time_in_force": 9}, False),
        ({"order_type": 0}, False),
        ({"order_type": OrderType.MARKET, "time_in_force": 0, "price_steps": 0}, True),
        ({"reduce_only": 2}, False),
        ({"client_order_id": 0}, False),
        ({"kind": 0}, False),
        ({"kind": RequestKind.ATTACH}, False),
        ({"kind": RequestKind.CANCEL}, False),
        ({"kind": RequestKind.CANCEL, "orig_client_order_id": 4}, True),
        ({"kind": RequestKind.CANCEL, "venue_order_id": 4}, True),
        ({"kind": RequestKind.REPLACE}, False),
        ({"kind": RequestKind.REPLACE, "orig_client_order_id": 4}, True),
        ({"kind": RequestKind.REPLACE, "orig_client_order_id": 4, "price_steps": 0}, False),
    ],
)
def test_is_encodable(values, good):
    assert binance.is_encodable(changed(NEW, **values), 1) is good


def order(**values):
    facts = {
        "orderId": 728811004512,
        "symbol": "BTCUSDT",
        "status": "NEW",
        "clientOrderId": OWN,
        "price": "64200.00",
        "origQty": "0.010",
        "executedQty": "0.000",
        "timeInForce": "GTX",
        "type": "LIMIT",
        "side": "BUY",
        "updateTime": 1784212800031,
    }
    return binance.OrderObject(**(facts | values))


def test_accepted_report_carries_request_and_order():
    report = binance.accepted_report(NEW, order(), BTC)
    assert report.kind == ReportKind.EXECUTION and report.source == ReportSource.RESPONSE
    assert report.exec_type == ExecType.NEW and report.order_status == OrderStatus.NEW
    assert report.client_order_id == report.request_client_order_id == NEW.client_order_id
    assert report.venue_order_id == 728811004512
    assert (report.price_steps, report.order_qty_steps) == (642_000, 10)
    assert (report.cum_qty_steps, report.leaves_qty_steps) == (0, 10)
    assert report.ts_exch_ns == 1784212800031_000_000
    assert (report.order_slot, report.intent_sequence, report.strategy_id) == (7, 9, 1)
    assert (report.ts_recv_ns, report.recv_to_book_ns) == (11, 12)
    assert (report.book_to_strategy_ns, report.strategy_to_risk_ns) == (13, 14)
    assert report.request_kind == RequestKind.NEW


@pytest.mark.parametrize(
    ("kind", "status", "exec_type", "order_status", "leaves_steps"),
    [
        (RequestKind.NEW, "NEW", ExecType.NEW, OrderStatus.NEW, 6),
        (RequestKind.NEW, "PARTIALLY_FILLED", ExecType.STATUS, OrderStatus.PARTIALLY_FILLED, 6),
        (RequestKind.NEW, "FILLED", ExecType.STATUS, OrderStatus.FILLED, 0),
        (RequestKind.NEW, "EXPIRED", ExecType.EXPIRED, OrderStatus.EXPIRED, 0),
        (RequestKind.NEW, "REJECTED", ExecType.REJECTED, OrderStatus.REJECTED, 0),
        (RequestKind.CANCEL, "CANCELED", ExecType.CANCELED, OrderStatus.CANCELED, 0),
        (RequestKind.REPLACE, "NEW", ExecType.REPLACED, OrderStatus.NEW, 6),
        (
            RequestKind.REPLACE,
            "PARTIALLY_FILLED",
            ExecType.REPLACED,
            OrderStatus.PARTIALLY_FILLED,
            6,
        ),
        (RequestKind.REPLACE, "CANCELED", ExecType.CANCELED, OrderStatus.CANCELED, 0),
        (RequestKind.REPLACE, "EXPIRED_IN_MATCH", ExecType.EXPIRED, OrderStatus.EXPIRED, 0),
    ],
)
def test_accepted_report_by_status(kind, status, exec_type, order_status, leaves_steps):
    request = changed(NEW, kind=kind, orig_client_order_id=NEW.client_order_id)
    report = binance.accepted_report(request, order(status=status, executedQty="0.004"), BTC)
    assert (report.exec_type, report.order_status) == (exec_type, order_status)
    assert (report.cum_qty_steps, report.leaves_qty_steps) == (4, leaves_steps)
    assert report.client_order_id == NEW.client_order_id


def test_a_thin_answer_keeps_what_the_request_asked():
    thin = binance.OrderObject(status="NEW", orderId=5)
    report = binance.accepted_report(NEW, thin, BTC)
    assert (report.price_steps, report.order_qty_steps, report.side) == (642_000, 10, Side.BID)
    assert report.time_in_force == TimeInForce.GTX and report.leaves_qty_steps == 10


@pytest.mark.parametrize("bad", [{"status": "NEW_ADL"}, {"price": "1.05"}, {"executedQty": "-1"}])
def test_an_answer_that_cannot_be_read_raises(bad):
    with pytest.raises(ValueError):
        binance.accepted_report(NEW, order(**bad), BTC)


@pytest.mark.parametrize(
    ("kind", "exec_type", "status"),
    [
        (RequestKind.NEW, ExecType.REJECTED, OrderStatus.REJECTED),
        (RequestKind.REPLACE, ExecType.REPLACE_REJECTED, 0),
        (RequestKind.CANCEL, ExecType.CANCEL_REJECTED, 0),
    ],
)
def test_refused_report_by_kind(kind, exec_type, status):
    request = changed(NEW, kind=kind, orig_client_order_id=4)
    report = binance.refused_report(request, Reject.VENUE, -2019)
    assert (report.exec_type, report.order_status) == (exec_type, status)
    assert (report.reject, report.venue_code) == (Reject.VENUE, -2019)


def test_unknown_report_tells_no_status():
    report = binance.unknown_report(NEW, -1007)
    assert (report.exec_type, report.order_status) == (ExecType.UNKNOWN, 0)
    assert (report.reject, report.venue_code) == (Reject.NONE, -1007)


def test_owner_is_read_from_the_client_order_id():
    report = binance.unknown_report(NEW)
    binance.set_owner(report, order_ids.to_text(order_ids.pack(5, 2, 1)))
    assert report.client_order_id == order_ids.pack(5, 2, 1) and report.strategy_id == 2
    for foreign in ("autoclose-1784212820003000001", "adl_autoclose", "", "web_x", "tr" + "z" * 20):
        binance.set_owner(report, foreign)
        assert report.client_order_id == 0 and report.strategy_id == binance.NOT_OURS


@pytest.mark.parametrize(
    ("text", "e8"),
    [
        ("0.05136000", 5_136_000),
        ("-0.05136", -5_136_000),
        ("6.84925190", 684_925_190),
        ("64200.0", 6_420_000_000_000),
        ("0.123456789999", 12_345_678),
        ("-0.123456789999", -12_345_678),
        ("0", 0),
    ],
)
def test_e8_from_text(text, e8):
    assert binance.e8_from_text(text) == e8


@pytest.mark.parametrize("text", ["", "-", "1e5", "--1", "1.2.3", "1.123456789x", "nan", "٣"])
def test_e8_from_text_refuses(text):
    with pytest.raises(ValueError):
        binance.e8_from_text(text)


def test_signed_qty_steps():
    assert binance.signed_qty_steps("-0.214", BTC) == -214
    assert binance.signed_qty_steps("0.004", BTC) == 4
    with pytest.raises(ValueError):
        binance.signed_qty_steps("0.0004", BTC)


def test_saturate_int32():
    assert binance.saturate_int32(5) == 5
    assert binance.saturate_int32(1 << 40) == 2**31 - 1
    assert binance.saturate_int32(-(1 << 40)) == -(2**31) + 1

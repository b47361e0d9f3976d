"""Every documented frame, field by field; and nothing but BAD_FRAME from anything else."""

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import binance, order_ids
from common.enums import (
    ExecType,
    LiquiditySide,
    OrderStatus,
    OrderType,
    Reject,
    ReportKind,
    ReportSource,
    Side,
    TimeInForce,
)
from common.instruments import Instrument, InstrumentFacts
from common.messages import Report
from processes.gateway import decode
from processes.gateway.decode import BAD_FRAME, EventKind

BTC = Instrument(
    instrument_id=4,
    venue="binance-usdm",
    symbol="BTCUSDT",
    facts=InstrumentFacts(tick_size="0.10", lot_size="0.001", price_decimals=2, qty_decimals=3),
)
OWN_ID = order_ids.pack(9, 2, 77)
OWN = order_ids.to_text(OWN_ID)
FOREIGN = "q-7f3a-000123"  # the documents' client id
MS = 1_000_000

PARTIAL_FILL = (
    '{"e":"ORDER_TRADE_UPDATE","E":1784212803112,"T":1784212803108,"o":{"s":"BTCUSDT",'
    '"c":"q-7f3a-000123","S":"BUY","o":"LIMIT","f":"GTX","q":"0.010","p":"64200.00",'
    '"ap":"64200.00","sp":"0","x":"TRADE","X":"PARTIALLY_FILLED","i":728811004512,"l":"0.004",'
    '"z":"0.004","L":"64200.00","n":"0.05136000","N":"USDT","T":1784212803108,"t":5512340091,'
    '"b":"385.20000","a":"0","m":true,"R":false,"wt":"CONTRACT_PRICE","ot":"LIMIT","ps":"BOTH",'
    '"cp":false,"rp":"0","pP":false,"si":0,"ss":0,"V":"EXPIRE_TAKER","pm":"NONE","gtd":0,"er":"0"}}'
)
CANCELED = (
    '{"e":"ORDER_TRADE_UPDATE","E":1784212809777,"T":1784212809770,"o":{"s":"BTCUSDT",'
    '"c":"q-7f3a-000123","S":"BUY","o":"LIMIT","f":"GTX","q":"0.010","p":"64200.00",'
    '"ap":"64200.00","sp":"0","x":"CANCELED","X":"CANCELED","i":728811004512,"l":"0","z":"0.004",'
    '"L":"0","T":1784212809770,"t":0,"b":"0","a":"0","m":false,"R":false,"wt":"CONTRACT_PRICE",'
    '"ot":"LIMIT","ps":"BOTH","cp":false,"rp":"0","pP":false,"si":0,"ss":0,"V":"EXPIRE_TAKER",'
    '"pm":"NONE","gtd":0,"er":"0"}}'
)
AUTOCLOSE = (
    '{"e":"ORDER_TRADE_UPDATE","E":1784212820013,"T":1784212820009,"o":{"s":"BTCUSDT",'
    '"c":"autoclose-1784212820003000001","S":"SELL","o":"LIMIT","f":"IOC","q":"0.214",'
    '"p":"63890.40","ap":"64011.70","sp":"0","x":"CALCULATED","X":"FILLED","i":728811099001,'
    '"l":"0.214","z":"0.214","L":"64011.70","n":"6.84925190","N":"USDT","T":1784212820009,'
    '"t":5512349910,"b":"0","a":"0","m":false,"R":true,"wt":"CONTRACT_PRICE","ot":"LIMIT",'
    '"ps":"BOTH","cp":false,"rp":"-152.44","pP":false,"si":0,"ss":0,"V":"NONE","pm":"NONE",'
    '"gtd":0,"er":"0"}}'
)
TRADE_LITE = (
    '{"e":"TRADE_LITE","E":1784212803110,"T":1784212803108,"s":"BTCUSDT","q":"0.010",'
    '"p":"64200.00","m":true,"c":"q-7f3a-000123","S":"BUY","L":"64200.00","l":"0.004",'
    '"t":5512340091,"i":728811004512}'
)
ACCOUNT_UPDATE = (
    '{"e":"ACCOUNT_UPDATE","E":1784212803111,"T":1784212803108,"a":{"m":"ORDER","B":[{"a":"USDT",'
    '"wb":"9999.94864000","cw":"9999.94864000","bc":"0"}],"P":[{"s":"BTCUSDT","pa":"0.004",'
    '"ep":"64200.0","bep":"64212.84","cr":"0","up":"0.03324","mt":"cross","iw":"0","ps":"BOTH"}]}}'
)
KEY_EXPIRED = '{"e":"listenKeyExpired","E":1784216400000,"listenKey":"abc"}'
PLACED = (
    '{"id":123,"status":200,"result":{"orderId":728811004512,"symbol":"BTCUSDT","status":"NEW",'
    '"clientOrderId":"q-7f3a-000123","price":"64200.00","origQty":"0.010","executedQty":"0.000",'
    '"cumQty":"0.000","timeInForce":"GTX","type":"LIMIT","reduceOnly":false,"closePosition":false,'
    '"side":"BUY","positionSide":"BOTH","stopPrice":"0.00","workingType":"CONTRACT_PRICE",'
    '"priceProtect":false,"origType":"LIMIT","priceMatch":"NONE",'
    '"selfTradePreventionMode":"EXPIRE_MAKER","goodTillDate":0,"updateTime":1784212800031},'
    '"rateLimits":[{"rateLimitType":"ORDERS","interval":"SECOND","intervalNum":10,"limit":300,'
    '"count":1},{"rateLimitType":"ORDERS","interval":"MINUTE","intervalNum":1,"limit":1200,'
    '"count":1},{"rateLimitType":"REQUEST_WEIGHT","interval":"MINUTE","intervalNum":1,'
    '"limit":2400,"count":1}]}'
)
CANCEL_FAILED = (
    '{"id":124,"status":400,"error":{"code":-2011,"msg":"Unknown order sent."},"rateLimits":['
    '{"rateLimitType":"REQUEST_WEIGHT","interval":"MINUTE","intervalNum":1,"limit":2400,"count":2}]}'
)


def user_data():
    return decode.UserData({"BTCUSDT": BTC}, "USDT")


def decoded(frame, ts_recv_ns=42):
    return user_data().decode(frame.encode(), ts_recv_ns)


def edited(frame, **values):
    """Return the frame with fields of `o` replaced; None takes one away."""
    event = json.loads(frame)
    for name, value in values.items():
        if value is None:
            del event["o"][name]
        else:
            event["o"][name] = value
    return json.dumps(event)


def report_of(frame, **values):
    (report,) = decoded(edited(frame, **values)).reports
    return report


# --- the documented frames ---------------------------------------------------------------------

ORDER_FIELDS = {
    "kind": ReportKind.EXECUTION,
    "source": ReportSource.STREAM,
    "instrument_id": 4,
    "client_order_id": 0,
    "strategy_id": binance.NOT_OURS,
    "side": Side.BID,
    "order_type": OrderType.LIMIT,
    "time_in_force": TimeInForce.GTX,
    "venue_order_id": 728811004512,
    "price_steps": 642_000,
    "order_qty_steps": 10,
    "cum_qty_steps": 4,
    "ts_report_recv_ns": 42,
}


def test_a_documented_partial_fill():
    assert decoded(PARTIAL_FILL) == (
        EventKind.ORDER,
        (
            Report(
                **ORDER_FIELDS,
                exec_type=ExecType.TRADE,
                order_status=OrderStatus.PARTIALLY_FILLED,
                leaves_qty_steps=6,
                last_qty_steps=4,
                last_px_steps=642_000,
                exec_id=5512340091,
                fee_e8=5_136_000,
                liquidity_side=LiquiditySide.MAKER,
                ts_exch_ns=1784212803108 * MS,
            ),
        ),
        "",
    )


def test_a_documented_cancel_of_a_partly_filled_order():
    assert decoded(CANCELED) == (
        EventKind.ORDER,
        (
            Report(
                **ORDER_FIELDS,
                exec_type=ExecType.CANCELED,
                order_status=OrderStatus.CANCELED,
                ts_exch_ns=1784212809770 * MS,
            ),
        ),
        "",
    )


def test_a_documented_liquidation_is_a_fill_of_nobody():
    assert decoded(AUTOCLOSE) == (
        EventKind.ORDER,
        (
            Report(
                kind=ReportKind.EXECUTION,
                source=ReportSource.STREAM,
                instrument_id=4,
                client_order_id=0,
                strategy_id=binance.NOT_OURS,
                side=Side.ASK,
                order_type=OrderType.LIMIT,
                time_in_force=TimeInForce.IOC,
                reduce_only=1,
                venue_order_id=728811099001,
                price_steps=638_904,
                order_qty_steps=214,
                cum_qty_steps=214,
                exec_type=ExecType.CALCULATED,
                order_status=OrderStatus.FILLED,
                last_qty_steps=214,
                last_px_steps=640_117,
                exec_id=5512349910,
                fee_e8=684_925_190,
                liquidity_side=LiquiditySide.TAKER,
                ts_exch_ns=1784212820009 * MS,
                ts_report_recv_ns=42,
            ),
        ),
        "",
    )


def test_a_documented_account_update():
    kind, reports, _fee = decoded(ACCOUNT_UPDATE)
    assert kind is EventKind.ACCOUNT
    common = {
        "source": ReportSource.STREAM,
        "ts_exch_ns": 1784212803108 * MS,
        "ts_report_recv_ns": 42,
    }
    assert reports == (
        Report(
            kind=ReportKind.POSITION,
            instrument_id=4,
            position_steps=4,
            amount_e8=64200 * 10**8,
            **common,
        ),
        Report(kind=ReportKind.BALANCE, amount_e8=999_994_864_000, **common),
    )


def test_a_short_position_is_negative_and_other_assets_and_sides_are_left():
    update = json.loads(ACCOUNT_UPDATE)
    update["a"]["B"] = [{"a": "BNB", "wb": "1"}]
    update["a"]["P"] = [
        {"s": "BTCUSDT", "pa": "-0.004", "ep": "64200.123456789012"},
        {"s": "ETHUSDT", "pa": "1", "ep": "1"},
        {"s": "BTCUSDT", "pa": "1", "ep": "1", "ps": "LONG"},
    ]
    (report,) = decoded(json.dumps(update)).reports
    assert report.position_steps == -4 and report.amount_e8 == 6_420_012_345_678


def test_events_without_money():
    assert decoded(TRADE_LITE) == (EventKind.TRADE_LITE, (), "")
    assert decoded(KEY_EXPIRED) == (EventKind.KEY_EXPIRED, (), "")
    for name in ("ACCOUNT_CONFIG_UPDATE", "MARGIN_CALL", "ALGO_UPDATE", "GRID_UPDATE", "next"):
        assert decoded(f'{{"e":"{name}","E":1,"o":7}}') == (EventKind.IGNORED, (), "")
    assert decoded('{"result":null,"id":1}').kind is EventKind.IGNORED


def test_a_combined_connection_wraps_events():
    wrapped = f'{{"stream":"key","data":{PARTIAL_FILL}}}'
    assert decoded(wrapped) == decoded(PARTIAL_FILL)


def test_a_documented_response():
    response = decode.decode_response(PLACED.encode())
    assert (response.id, response.status, response.error.code) == (123, 200, 0)
    order = decode.decode_order(response)
    assert msgspec.structs.asdict(order) == {
        "status": "NEW",
        "symbol": "BTCUSDT",
        "orderId": 728811004512,
        "clientOrderId": FOREIGN,
        "price": "64200.00",
        "origQty": "0.010",
        "executedQty": "0.000",
        "timeInForce": "GTX",
        "type": "LIMIT",
        "side": "BUY",
        "reduceOnly": False,
        "updateTime": 1784212800031,
    }
    assert [msgspec.structs.astuple(limit) for limit in response.rateLimits] == [
        ("ORDERS", "SECOND", 10, 300, 1),
        ("ORDERS", "MINUTE", 1, 1200, 1),
        ("REQUEST_WEIGHT", "MINUTE", 1, 2400, 1),
    ]


def test_a_documented_error_response():
    response = decode.decode_response(CANCEL_FAILED.encode())
    assert (response.id, response.status) == (124, 400)
    assert (response.error.code, response.error.msg) == (-2011, "Unknown order sent.")
    with pytest.raises(BAD_FRAME):
        decode.decode_order(response)


def test_text_and_null_ids_are_read():
    revoked = b'{"id":null,"status":401,"error":{"code":-2015,"msg":"Invalid API-key"}}'
    assert decode.decode_response(revoked).id is None
    logon = b'{"id":"logon-1","status":200,"result":{"apiKey":"test-key"}}'
    assert decode.decode_response(logon).id == "logon-1"


# --- the table of statuses ---------------------------------------------------------------------

S, X = OrderStatus, ExecType


@pytest.mark.parametrize(
    ("values", "exec_type", "status", "reject"),
    [
        ({"x": "NEW", "X": "NEW", "z": "0"}, X.NEW, S.NEW, 0),
        ({"x": "AMENDMENT", "X": "NEW", "z": "0"}, X.REPLACED, S.NEW, 0),
        ({"x": "AMENDMENT", "X": "PARTIALLY_FILLED"}, X.REPLACED, S.PARTIALLY_FILLED, 0),
        ({"x": "CANCELED", "X": "CANCELED"}, X.CANCELED, S.CANCELED, 0),
        ({"x": "EXPIRED", "X": "EXPIRED", "er": "2", "f": "IOC"}, X.EXPIRED, S.EXPIRED, 0),
        ({"x": "EXPIRED", "X": "EXPIRED", "er": "9", "o": "MARKET"}, X.EXPIRED, S.EXPIRED, 0),
        ({"x": "EXPIRED", "X": "EXPIRED", "er": "5"}, X.CANCELED, S.CANCELED, 0),
        ({"x": "EXPIRED", "X": "EXPIRED", "er": "7"}, X.CANCELED, S.CANCELED, 0),
        ({"x": "EXPIRED", "X": "EXPIRED", "er": 4}, X.CANCELED, S.CANCELED, 0),
        ({"x": "EXPIRED", "X": "EXPIRED", "z": "0"}, X.EXPIRED, S.EXPIRED, Reject.VENUE_POST_ONLY),
        ({"x": "EXPIRED", "X": "EXPIRED", "z": "0", "f": "FOK"}, X.EXPIRED, S.EXPIRED, 0),
        ({"x": "EXPIRED", "X": "EXPIRED"}, X.EXPIRED, S.EXPIRED, 0),
        ({"x": "EXPIRED", "X": "EXPIRED_IN_MATCH", "z": "0"}, X.EXPIRED, S.EXPIRED, 0),
        ({"x": "EXPIRED", "X": "EXPIRED", "z": "0", "er": "1"}, X.EXPIRED, S.EXPIRED, 0),
        ({"x": "EXPIRED", "X": "EXPIRED", "z": "0", "er": "3"}, X.EXPIRED, S.EXPIRED, 0),
        ({"x": "CALCULATED", "X": "NEW", "z": "0"}, X.CALCULATED, S.NEW, 0),
        ({"x": "CALCULATED", "X": "NEW_INSURANCE"}, X.CALCULATED, 0, 0),
        ({"x": "TRADE", "X": "NEW_ADL"}, X.TRADE, 0, 0),
        ({"x": "SOMETHING_NEW", "X": "NEXT"}, X.STATUS, 0, 0),
    ],
)
def test_status_table(values, exec_type, status, reject):
    report = report_of(CANCELED, **values)
    assert (report.exec_type, report.order_status, report.reject) == (exec_type, status, reject)
    open_steps = 10 - report.cum_qty_steps
    is_open = status in (0, S.NEW, S.PARTIALLY_FILLED)
    assert report.leaves_qty_steps == (open_steps if is_open else 0)


def test_a_final_fill():
    report = report_of(PARTIAL_FILL, c=OWN, X="FILLED", z="0.010", l="0.006", S="SELL", m=False)
    assert (report.exec_type, report.order_status) == (X.TRADE, S.FILLED)
    assert (report.cum_qty_steps, report.leaves_qty_steps, report.last_qty_steps) == (10, 0, 6)
    assert (report.side, report.liquidity_side) == (Side.ASK, LiquiditySide.TAKER)
    assert (report.client_order_id, report.strategy_id) == (OWN_ID, 2)


def test_an_overfill_is_told_as_it_is():
    report = report_of(PARTIAL_FILL, X="FILLED", z="0.012", l="0.008")
    assert (report.cum_qty_steps, report.leaves_qty_steps) == (12, 0)


@pytest.mark.parametrize(
    ("values", "fee_e8", "fee_asset"),
    [
        ({"n": "-0.01284000"}, -1_284_000, ""),  # a rebate
        ({"n": None, "N": None}, 0, ""),
        ({"N": "BNB", "n": "0.00008"}, 0, "BNB"),
        ({"n": "0.0000000012"}, 0, ""),
        ({"n": "abc"}, 0, "USDT abc"),
    ],
)
def test_fees(values, fee_e8, fee_asset):
    result = decoded(edited(PARTIAL_FILL, **values))
    assert (result.reports[0].fee_e8, result.fee_asset) == (fee_e8, fee_asset)
    assert result.reports[0].last_qty_steps == 4  # the fill is never lost for its fee


def test_a_symbol_that_is_not_traded_here_is_told_apart():
    assert decoded(edited(PARTIAL_FILL, s="ETHUSDT", p="x")) == (EventKind.FOREIGN, (), "")


@pytest.mark.parametrize(
    "values",
    [
        {"p": "64200.05"},
        {"p": "-1"},
        {"p": "1e5"},
        {"q": "0.0005"},
        {"z": "nan"},
        {"z": "1" * 30},
        {"l": ""},
        {"L": "0.01"},
        {"S": "HOLD"},
        {"t": 0},
        {"t": 2**63},
        {"i": 2**63},
        {"i": "728811004512"},
        {"s": 5},
        {"c": None},
        {"X": None},
        {"z": None},
        {"q": 0.01},
    ],
)
def test_a_bad_order_event_is_refused_whole(values):
    with pytest.raises(BAD_FRAME):
        decoded(edited(PARTIAL_FILL, **values))


FRAMES = [PARTIAL_FILL, CANCELED, AUTOCLOSE, ACCOUNT_UPDATE, TRADE_LITE, KEY_EXPIRED, PLACED]


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(FRAMES),
    st.lists(st.tuples(st.integers(0, 700), st.binary(max_size=6), st.integers(0, 12)), max_size=4),
)
def test_mutated_frames_give_reports_that_fit_or_bad_frame(frame, edits):
    raw = bytearray(frame.encode())
    for at, inserted, cut in edits:
        raw[at : at + cut] = inserted
    try:
        reports = user_data().decode(bytes(raw), 1).reports
    except BAD_FRAME:
        reports = ()
    for report in reports:
        assert len(report.pack()) == 256
    try:
        response = decode.decode_response(bytes(raw))
        decode.decode_order(response)
    except BAD_FRAME:
        pass


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"null",
        b"[]",
        b"\xff\xfe",
        b'{"e":"ORDER_TRADE_UPDATE"}',
        b'{"e":"ORDER_TRADE_UPDATE","o":null}',
        b'{"e":"ACCOUNT_UPDATE","a":{"B":[1]}}',
        b'{"e":5}',
        b'{"e":"x","y":' + b"[" * 100_000,
        b'{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"e":"ORDER_TRADE_UPDATE","E":1e400}',
    ],
)
def test_broken_frames_raise_bad_frame_only(frame):
    with pytest.raises(BAD_FRAME):
        user_data().decode(frame, 1)


def test_unknown_keys_and_any_order_of_keys_are_fine():
    event = json.loads(PARTIAL_FILL)
    event["o"] = dict(reversed(event["o"].items())) | {"st": 1, "future": {"a": [1, {}]}}
    event = dict(reversed(event.items())) | {"ps": "BTCUSDT"}
    assert decoded(json.dumps(event)) == decoded(PARTIAL_FILL)

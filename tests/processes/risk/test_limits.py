"""Pre-trade checks: one row, one limit; at the limit passes, one step over does not."""

import numpy as np
import pytest

from common.config import load
from common.enums import ExecType, OrderType, Reject, RequestKind, Side, TimeInForce
from common.errors import ConfigError
from common.instruments import Instrument, InstrumentFacts
from processes.risk import oms as oms_module
from processes.risk.config import RiskConfig
from processes.risk.limits import check_order, check_replace, limit_table, take_token
from processes.risk.oms import (
    ACTIVE_COUNT,
    BUCKET_NS,
    IS_JOURNAL_BROKEN,
    IS_KILLED,
    IS_READY,
    IS_RECONCILED,
    IS_SPILLING,
    IS_STOPPING,
    NEXT_INTENT,
    NO_ROW,
    SESSION,
    Oms,
    find_client,
    new_oms,
)
from processes.risk.rehearsal import bbo_cell, intent, plain_instruments

from tests.processes.risk.kernels import Kernels

NOW = 5_000_000_000
R, K = Reject, RequestKind
LIMITS = {
    "order_qty_steps_max": 100,
    "order_notional_steps2_max": 90_000,
    "position_steps_max": 150,
    "open_order_count_max": 2,
    "price_band_bps_max": 100,
    "book_age_ns_max": 1_000_000_000,
    "order_cost_ns": 1_000,
    "bucket_ns_max": 5_000,
}


def open_gate(orders: int = 16) -> Oms:
    """Return a state in which a plain order passes: book 1000 / 1002, tick 2, lot 5."""
    instruments = plain_instruments(2)
    instruments["tick_size_steps"], instruments["lot_size_steps"] = 2, 5
    instruments["min_notional_steps2"], instruments["max_qty_steps"] = 9_000, 95
    limits = np.zeros(2, oms_module.LIMITS)
    for name, value in LIMITS.items():
        limits[name] = value
    oms = new_oms(instruments, limits, orders, 64)
    oms.words[SESSION] = 1
    oms.words[IS_RECONCILED] = 1
    oms.strategies[0, IS_READY] = 1
    oms.cells[0] = bbo_cell(0, 1_000, 1_002, NOW)[0]
    return oms


def new(sequence: int = 0, **fields: int) -> np.ndarray:
    return intent(1, K.NEW, sequence, **{"price_steps": 1_000, "order_qty_steps": 50} | fields)


def judge(oms: Oms, request: np.ndarray, now: int = NOW) -> Reject:
    return Reject(check_order(oms, request[0], now))


def test_a_plain_order_passes():
    assert judge(open_gate(), new()) == R.NONE


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        # instrument
        ({"instrument_id": 2}, R.INSTRUMENT),
        ({"instrument_id": -1}, R.INSTRUMENT),
        # ids
        ({"client_order_id": 0}, R.BAD_REQUEST),
        ({"client_order_id": 77}, R.BAD_REQUEST),
        ({"intent_sequence": 1}, R.BAD_REQUEST),
        ({"intent_sequence": -1}, R.BAD_REQUEST),
        ({"strategy_id": 31}, R.BAD_REQUEST),
        ({"strategy_id": 200}, R.BAD_REQUEST),
        # sanity
        ({"side": 0}, R.BAD_REQUEST),
        ({"side": 2}, R.BAD_REQUEST),
        ({"order_type": 0}, R.BAD_REQUEST),
        ({"order_type": 3}, R.BAD_REQUEST),
        ({"time_in_force": 0}, R.BAD_REQUEST),
        ({"time_in_force": 5}, R.BAD_REQUEST),
        ({"reduce_only": 2}, R.BAD_REQUEST),
        ({"price_steps": 0}, R.BAD_REQUEST),
        ({"price_steps": -2}, R.BAD_REQUEST),
        ({"order_qty_steps": 0}, R.BAD_REQUEST),
        ({"order_qty_steps": -5}, R.BAD_REQUEST),
        ({"order_type": OrderType.MARKET}, R.BAD_REQUEST),
        ({"order_type": OrderType.MARKET, "price_steps": 0}, R.NONE),
        ({"time_in_force": TimeInForce.GTX}, R.NONE),
        # filters
        ({"price_steps": 1_001}, R.TICK_SIZE),
        ({"order_qty_steps": 51}, R.LOT_SIZE),
        ({"order_qty_steps": 100}, R.LOT_SIZE),  # over the venue's largest
        ({"order_qty_steps": 5}, R.MIN_NOTIONAL),
        ({"order_qty_steps": 5, "reduce_only": 1}, R.NONE),
        # size
        ({"order_qty_steps": 90}, R.NONE),
        ({"order_qty_steps": 95}, R.ORDER_NOTIONAL),
        # price band: 1 % of 1001 is 10.01
        ({"price_steps": 992}, R.NONE),
        ({"price_steps": 990}, R.PRICE_BAND),
        ({"price_steps": 1_010, "side": Side.ASK}, R.NONE),
        ({"price_steps": 1_012, "side": Side.ASK}, R.PRICE_BAND),
    ],
)
def test_one_field_decides(fields, expected):
    assert judge(open_gate(), new(**fields)) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({IS_KILLED: 1}, R.KILLED),
        ({IS_STOPPING: 1}, R.STOPPING),
        ({IS_JOURNAL_BROKEN: 1}, R.JOURNAL),
        ({IS_RECONCILED: 0}, R.NOT_RECONCILED),
        ({IS_SPILLING: 1}, R.REPORTS_FULL),
        ({IS_KILLED: 1, IS_STOPPING: 1, IS_RECONCILED: 0}, R.KILLED),
    ],
)
def test_the_gate_comes_first(words, expected):
    oms = open_gate()
    for word, value in words.items():
        oms.words[word] = value
    assert judge(oms, new(order_qty_steps=0, instrument_id=9)) == expected


def test_not_ready_comes_before_not_reconciled():
    oms = open_gate()
    oms.strategies[0, IS_READY] = oms.words[IS_RECONCILED] = 0
    assert judge(oms, new()) == R.NOT_READY


def limit(name: str, value: int):  # noqa: ANN201
    """Return what sets one limit of both instruments."""
    return lambda oms, fields: oms.limits.__setitem__(name, value)


ORDER_OF_CHECKS = [
    (R.KILLED, lambda oms, fields: oms.words.__setitem__(IS_KILLED, 1)),
    (R.INSTRUMENT, lambda oms, fields: fields.update(instrument_id=7)),
    (R.BAD_REQUEST, lambda oms, fields: fields.update(time_in_force=9)),
    (R.TICK_SIZE, lambda oms, fields: fields.update(price_steps=901)),
    (R.LOT_SIZE, lambda oms, fields: fields.update(order_qty_steps=112)),
    (R.ORDER_QTY, limit("order_qty_steps_max", 9)),
    (R.ORDER_NOTIONAL, limit("order_notional_steps2_max", 9)),
    (R.POSITION, limit("position_steps_max", 9)),
    (R.OPEN_ORDERS, limit("open_order_count_max", 0)),
    (R.PRICE_BAND, limit("price_band_bps_max", 0)),
    (R.STALE_BOOK, limit("book_age_ns_max", -1)),
    (R.ORDER_RATE, lambda oms, fields: oms.strategies.__setitem__((0, BUCKET_NS), 0)),
]


@pytest.mark.parametrize("first", range(len(ORDER_OF_CHECKS)))
def test_the_first_failed_limit_wins(first):
    """With this limit and all later ones broken, this one is told."""
    oms, fields = open_gate(), {}
    oms.limits["bucket_ns_max"] = 0
    for _reject, spoil in reversed(ORDER_OF_CHECKS[first:]):
        spoil(oms, fields)
    assert judge(oms, new(**fields)) == ORDER_OF_CHECKS[first][0]


def test_overflow_is_over_the_limit():
    oms = open_gate()
    oms.limits["order_qty_steps_max"] = oms.limits["position_steps_max"] = 1 << 61
    oms.limits["order_notional_steps2_max"] = (1 << 63) - 1
    oms.instruments["max_qty_steps"] = 1 << 61
    oms.instruments["lot_size_steps"] = 1
    assert judge(oms, new(price_steps=1 << 40, order_qty_steps=1 << 40)) == R.ORDER_NOTIONAL
    assert judge(oms, new(price_steps=1 << 61, order_qty_steps=1)) == R.PRICE_BAND


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"valid": 0}, R.STALE_BOOK),
        ({"bid_price_steps": 0}, R.STALE_BOOK),
        ({"ask_price_steps": 1_000}, R.STALE_BOOK),
        ({"ts_recv_ns": NOW - 1_000_000_000}, R.NONE),
        ({"ts_recv_ns": NOW - 1_000_000_001}, R.STALE_BOOK),
        ({"ts_pub_ns": NOW - 1_000_000_001}, R.STALE_BOOK),
        ({"ts_recv_ns": NOW + 5, "ts_pub_ns": NOW + 5}, R.NONE),
    ],
)
def test_the_book_must_be_there_and_young(change, expected):
    oms = open_gate()
    for name, value in change.items():
        oms.cells[0][name] = value
    assert judge(oms, new(price_steps=1_000)) == expected
    oms.limits["price_band_bps_max"] = 5_000
    assert judge(oms, new(price_steps=1_000)) == expected


def test_a_market_order_needs_a_book_and_is_valued_at_the_other_side():
    oms = open_gate()
    market = {"order_type": OrderType.MARKET, "price_steps": 0, "order_qty_steps": 90}
    assert judge(oms, new(side=Side.ASK, **market)) == R.NONE  # 90 x 1000
    assert judge(oms, new(side=Side.BID, **market)) == R.ORDER_NOTIONAL  # 90 x 1002
    oms.cells[0]["valid"] = 0
    assert judge(oms, new(side=Side.ASK, **market)) == R.STALE_BOOK


def test_position_counts_open_and_unknown_orders_at_the_worst():
    kernels = Kernels(open_gate())
    oms = kernels.oms
    order = kernels.new(1, 1_000, 90)
    assert judge(oms, new(9, order_qty_steps=60)) == R.NONE  # 150
    assert judge(oms, new(9, order_qty_steps=65)) == R.POSITION
    assert judge(oms, new(9, side=Side.ASK, order_qty_steps=65)) == R.NONE
    kernels.report(order, exec_type=ExecType.UNKNOWN, request_kind=K.NEW)
    assert judge(oms, new(9, order_qty_steps=65)) == R.POSITION
    kernels.report(order, exec_type=ExecType.REJECTED, order_status=6)
    assert judge(oms, new(9, order_qty_steps=65)) == R.NONE


def test_reduce_only_may_shrink_whatever_is_open():
    oms = open_gate()
    oms.positions[0]["position_steps"] = 50
    oms.positions[0]["open_ask_qty_steps"] = 190
    assert judge(oms, new(side=Side.ASK)) == R.POSITION
    assert judge(oms, new(side=Side.ASK, reduce_only=1)) == R.NONE
    assert judge(oms, new(side=Side.ASK, reduce_only=1, order_qty_steps=55)) == R.POSITION


def test_a_position_over_the_limit_may_be_closed():
    oms = open_gate()
    oms.positions[0]["position_steps"] = -400
    assert judge(oms, new(side=Side.BID)) == R.NONE
    assert judge(oms, new(side=Side.ASK)) == R.POSITION


def test_open_orders_and_table():
    kernels = Kernels(open_gate(orders=16))
    kernels.new(1, 1_000, 5)
    kernels.new(1, 1_000, 5)
    assert judge(kernels.oms, new(9)) == R.OPEN_ORDERS
    kernels.oms.limits["open_order_count_max"] = 100
    for _ in range(14):
        kernels.new(1, 1_000, 5)
    assert kernels.oms.words[ACTIVE_COUNT] == 16
    kernels.oms.limits["position_steps_max"] = 10_000
    kernels.oms.strategies[0, BUCKET_NS] = 5_000
    assert judge(kernels.oms, new(99), NOW) == R.ORDER_TABLE_FULL


def test_an_id_is_accepted_once():
    oms = open_gate()
    oms.strategies[0, NEXT_INTENT] = 5
    assert judge(oms, new(5)) == R.NONE
    assert judge(oms, new(4)) == R.DUPLICATE_ID


def test_the_bucket_lets_a_burst_through_and_then_the_rate():
    oms = open_gate()
    strategy, limits = oms.strategies[0], oms.limits[0]
    for _ in range(5):
        assert judge(oms, new()) == R.NONE
        take_token(strategy, limits, NOW)
    assert judge(oms, new()) == R.ORDER_RATE
    assert judge(oms, new(), NOW + 999) == R.ORDER_RATE
    assert judge(oms, new(), NOW + 1_000) == R.NONE
    take_token(strategy, limits, NOW + 1_000)
    assert judge(oms, new(), NOW + 1_000) == R.ORDER_RATE
    take_token(strategy, limits, NOW - 50_000_000)  # a clock that went back gives nothing
    assert strategy[BUCKET_NS] == 0


@pytest.mark.parametrize(
    ("fields", "pending", "status", "expected"),
    [
        ({}, 0, 2, R.NONE),
        ({}, 0, 3, R.NONE),
        ({}, 0, 1, R.IN_FLIGHT),
        ({}, 1, 2, R.IN_FLIGHT),
        ({}, 2, 2, R.IN_FLIGHT),
        ({}, 4, 2, R.IN_FLIGHT),
        ({}, 0, 5, R.UNKNOWN_ORDER),
        ({"strategy_id": 1}, 0, 2, R.NOT_READY),
        ({"instrument_id": 1}, 0, 2, R.BAD_REQUEST),
        ({"price_steps": 0}, 0, 2, R.BAD_REQUEST),
        ({"order_qty_steps": 20}, 0, 3, R.BAD_REQUEST),  # filled already
        ({"order_qty_steps": 25}, 0, 3, R.NONE),
        ({"price_steps": 1_001}, 0, 2, R.TICK_SIZE),
        ({"order_qty_steps": 52}, 0, 2, R.LOT_SIZE),
        ({"order_qty_steps": 95, "price_steps": 992}, 0, 2, R.ORDER_NOTIONAL),
        ({"price_steps": 900}, 0, 2, R.PRICE_BAND),
    ],
)
def test_replace(fields, pending, status, expected):
    kernels = Kernels(open_gate())
    order = kernels.new(1, 1_000, 50)
    kernels.oms.strategies[0, BUCKET_NS] = 5_000
    row = find_client(kernels.oms, order)
    kernels.oms.orders[row]["order_pending"] = pending
    kernels.oms.orders[row]["order_status"] = status
    kernels.oms.orders[row]["cum_qty_steps"] = 20 if status == 3 else 0
    values = {"price_steps": 1_002, "order_qty_steps": 60, "orig_client_order_id": order}
    request = intent(1, K.REPLACE, 9, **values | fields)
    if fields.get("strategy_id"):
        request["client_order_id"] += 1 << 36
    assert Reject(check_replace(kernels.oms, request[0], row, NOW)) == expected


def test_replace_of_nothing_and_of_more_than_the_position_allows():
    kernels = Kernels(open_gate())
    request = intent(1, K.REPLACE, 9, price_steps=1_000, order_qty_steps=90)
    assert Reject(check_replace(kernels.oms, request[0], NO_ROW, NOW)) == R.UNKNOWN_ORDER
    order = kernels.new(1, 1_000, 50)
    row = find_client(kernels.oms, order)
    kernels.oms.orders[row]["order_status"] = 2
    kernels.oms.strategies[0, BUCKET_NS] = 5_000
    kernels.oms.positions[0]["position_steps"] = 60
    assert Reject(check_replace(kernels.oms, request[0], row, NOW)) == R.NONE  # 60 + 50 + 40
    kernels.oms.positions[0]["position_steps"] = 65
    assert Reject(check_replace(kernels.oms, request[0], row, NOW)) == R.POSITION


# -- the config -----------------------------------------------------------------------------------

FACTS = InstrumentFacts(tick_size="0.10", lot_size="0.001", price_decimals=2, qty_decimals=3)
BTC = Instrument(instrument_id=0, venue="binance-usdm", symbol="BTCUSDT", facts=FACTS)
TABLE = """
order_rate_max = 50
order_burst_max = 10
[limits.BTCUSDT]
order_qty_max = "0.100"
order_notional_max = "10000"
position_qty_max = "0.5"
open_order_count_max = 8
price_band_bps_max = 200
book_age_ns_max = 1_000_000_000
"""


def config_of(tmp_path, text: str) -> RiskConfig:
    path = tmp_path / "risk.toml"
    path.write_text(text)
    return load(path, RiskConfig)


def test_limits_become_grid_steps(tmp_path):
    (row,) = limit_table(config_of(tmp_path, TABLE), [BTC])
    assert row["order_qty_steps_max"] == 100
    assert row["position_steps_max"] == 500
    assert row["order_notional_steps2_max"] == 10_000 * 10 * 1_000
    assert (row["order_cost_ns"], row["bucket_ns_max"]) == (20_000_000, 200_000_000)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('order_qty_max = "0.100"\n', "", "order_qty_max"),
        ("order_rate_max = 50\n", "", "order_rate_max"),
        ('"0.100"', '"0.1005"', "at most 3 decimals"),
        ('"0.100"', '"-1"', "plain decimal digits"),
        ('"0.100"', '"0"', "order_qty_max is 0, expected 1 to"),
        ('"0.100"', '"0.6"', "expected at most position_qty_max=0.5"),
        ("limits.BTCUSDT", "limits.ETHUSDT", r"\[risk.limits.BTCUSDT\] is missing"),
        ("price_band_bps_max = 200", "price_band_bps_max = 0", "price_band_bps_max"),
        ("book_age", "book_agee", "book_agee"),
        ("order_burst_max = 10", 'order_burst_max = 10\nsync = "maybe"', "sync"),
        ("order_burst_max = 10", "order_burst_max = 10\nquery_count_max = 3", "missing_count_min"),
    ],
)
def test_a_config_that_could_lose_money_is_refused(tmp_path, old, new, message):
    assert old in TABLE
    with pytest.raises(ConfigError, match=message):
        limit_table(config_of(tmp_path, TABLE.replace(old, new)), [BTC])


def test_limits_of_a_symbol_that_is_not_traded_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="is of no symbol of this run"):
        limit_table(config_of(tmp_path, TABLE), [])

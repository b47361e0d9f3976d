"""Each exchangeInfo filter gives its own error code."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.enums import Side
from common.instruments import Instrument, InstrumentFacts
from processes.venue.config import SymbolConfig
from processes.venue.errors import VenueError
from processes.venue.filters import E8, Rules

BTC = Instrument(
    instrument_id=0,
    venue="binance-usdm",
    symbol="BTCUSDT",
    facts=InstrumentFacts(
        tick_size="0.10",
        lot_size="0.001",
        price_decimals=2,
        qty_decimals=3,
        min_notional="100",
        max_qty="1000",
    ),
)
RULES = Rules(
    BTC,
    SymbolConfig(
        price="64000",
        min_price="556.8",
        max_price="4529764",
        max_market_qty="120",
        order_qty="0.05",
    ),
)


def code_of(call, *arguments):
    try:
        call(*arguments)
    except VenueError as error:
        return error.code
    return 0


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("64000.10", 0),
        ("64000.1", 0),
        ("64000", 0),
        ("556.80", 0),
        ("556.70", -4013),
        ("0", -4013),
        ("4529764.0", 0),
        ("4529764.1", -4002),
        ("64000.05", -4014),
        ("64000.001", -1111),
        ("64000.1000", 0),
        ("-1", -1100),
        ("1e5", -1100),
        ("", -1100),
        (".5", -1100),
        ("NaN", -1100),
        ("9" * 20, -4002),
        ("9" * 21, -1100),
        ("٣", -1100),
    ],
)
def test_price_filter(text, code):
    assert code_of(RULES.read_price, text) == code


@pytest.mark.parametrize(
    ("text", "is_market", "code"),
    [
        ("0.001", False, 0),
        ("1000", False, 0),
        ("1000.001", False, -4005),
        ("120", True, 0),
        ("120.001", True, -4005),
        ("0", False, -4003),
        ("0.000", False, -4003),
        ("0.0001", False, -1111),
        ("+1", False, -1100),
        ("9" * 19, False, -4005),
    ],
)
def test_lot_size_filters(text, is_market, code):
    assert code_of(RULES.read_qty, text, is_market) == code


def test_step_and_minimum_quantity():
    facts = InstrumentFacts(
        tick_size="0.5", lot_size="0.25", price_decimals=2, qty_decimals=3, max_qty="100"
    )
    rules = Rules(
        Instrument(instrument_id=0, venue="v", symbol="XUSDT", facts=facts),
        SymbolConfig(price="10", max_price="1000", order_qty="1"),
    )
    assert code_of(rules.read_qty, "0.1", False) == -4004
    assert code_of(rules.read_qty, "0.3", False) == -4023
    assert rules.read_qty("0.75", False) == 75
    assert code_of(rules.read_price, "10.25") == -4014
    assert rules.read_price("10.50") == 105


@pytest.mark.parametrize(
    ("side", "price", "code"),
    [
        (Side.BID, "67200.0", 0),
        (Side.BID, "67200.1", -4016),
        (Side.ASK, "60800.0", 0),
        (Side.ASK, "60799.9", -4024),
        (Side.BID, "600.0", 0),
        (Side.ASK, "90000.0", 0),
    ],
)
def test_percent_price_is_one_sided_around_the_mark(side, price, code):
    steps = BTC.price_steps(price)
    assert code_of(RULES.check_percent_price, side, steps, 64_000 * E8) == code


def test_percent_price_says_the_bound():
    with pytest.raises(VenueError, match="67200.00"):
        RULES.check_percent_price(Side.BID, BTC.price_steps("70000"), 64_000 * E8)


def test_minimum_notional_and_its_codes():
    assert code_of(RULES.check_notional, BTC.price_steps("50000"), 2) == 0
    assert code_of(RULES.check_notional, BTC.price_steps("49999.9"), 2) == -4164
    assert code_of(RULES.check_notional, BTC.price_steps("49999.9"), 2, -5029) == -5029
    assert code_of(RULES.check_market_price, Side.BID, BTC.price_steps("68000"), 64_000 * E8) == (
        -4131
    )


def test_described_filters_are_the_documented_ones():
    filters = {f["filterType"]: f for f in RULES.describe()}
    assert filters["PRICE_FILTER"] == {
        "filterType": "PRICE_FILTER",
        "minPrice": "556.80",
        "maxPrice": "4529764.00",
        "tickSize": "0.10",
    }
    assert filters["LOT_SIZE"]["stepSize"] == "0.001"
    assert filters["LOT_SIZE"]["maxQty"] == "1000.000"
    assert filters["MARKET_LOT_SIZE"]["maxQty"] == "120.000"
    assert filters["MIN_NOTIONAL"] == {"filterType": "MIN_NOTIONAL", "notional": "100"}
    assert filters["MAX_NUM_ORDERS"]["limit"] == 200
    assert set(filters["PERCENT_PRICE"]) == {
        "filterType",
        "multiplierUp",
        "multiplierDown",
        "multiplierDecimal",
    }


@given(st.text(max_size=30))
def test_any_text_is_read_exactly_or_refused(text):
    try:
        steps = RULES.read_price(text)
    except VenueError as error:
        assert error.code in (-1100, -1111, -4013, -4002, -4014)
    else:
        assert RULES.min_price_steps <= steps <= RULES.max_price_steps


@given(st.integers(5_568, 45_297_640))
def test_every_tick_survives_the_round_trip(steps):
    assert RULES.read_price(BTC.price_text(steps)) == steps

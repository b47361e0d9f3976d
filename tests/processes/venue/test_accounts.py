"""Wallets and positions against decimal arithmetic, the venue's own figures, and the engine."""

from decimal import ROUND_DOWN, Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.enums import OrderType, Side, TimeInForce
from common.records import INSTRUMENT
from processes.venue import accounts as books
from processes.venue import engine as state
from processes.venue import matching
from processes.venue.accounts import E8, FILL, BookStatus
from processes.venue.engine import EVENT, EventKind, StpMode

BID, ASK = Side.BID.value, Side.ASK.value
CENT_E8 = Decimal(1).scaleb(-8)
INT64_MAX = 2**63 - 1


def make(*decimals, accounts_max=4, maker_e8=20_000, taker_e8=50_000):
    """Make accounts for instruments with (price, quantity) decimals."""
    rows = np.zeros(len(decimals), INSTRUMENT)
    rows["price_grid_decimals"] = [price for price, _ in decimals]
    rows["qty_grid_decimals"] = [qty for _, qty in decimals]
    made = books.new_accounts(rows, accounts_max)
    made.wallets["maker_fee_e8"] = maker_e8
    made.wallets["taker_fee_e8"] = taker_e8
    return made


def cut(value):
    """Cut a number to 1e-8 towards zero."""
    return value.quantize(CENT_E8, ROUND_DOWN)


def book(made, account, side, price, qty, is_maker=0, instrument=0):
    """Book one fill; the FILL row."""
    fills = np.zeros(1, FILL)
    status = books.book_fill(made, account, instrument, side, price, qty, is_maker, fills, 0)
    assert status == BookStatus.OK
    return fills[0]


def test_fees_are_the_venues_own_figures():
    """Commissions of the order updates in the venue's documentation: 2 bps maker, 5 bps taker."""
    made = make((1, 3))
    assert book(made, 0, BID, 642_000, 4, is_maker=1)["fee_e8"] == 5_136_000
    assert book(made, 0, ASK, 640_117, 214)["fee_e8"] == 684_925_190


def test_round_trip_and_turn():
    """Reducing keeps the entry price, turning starts a new one, money is what was earned."""
    made = make((1, 3), maker_e8=0, taker_e8=0)
    position = made.positions[0, 0]
    book(made, 0, BID, 1_000, 10)
    book(made, 0, BID, 1_010, 10)
    assert (position["position_steps"], position["cost_steps2"]) == (20, 20_100)
    fill = book(made, 0, ASK, 1_025, 5)  # entry 100.5, sold at 102.5: 0.005 * 2.0
    assert fill["realised_e8"] == 1_000_000
    assert position["cost_steps2"] == 15_075
    fill = book(made, 0, ASK, 1_000, 25)  # closes 15 at a loss of 0.5 each, opens a short of 10
    assert fill["realised_e8"] == -750_000
    assert (position["position_steps"], position["cost_steps2"]) == (-10, 10_000)
    assert books.unrealised_e8(made, 0, 0, 99 * E8) == (1_000_000, False)
    book(made, 0, BID, 990, 10)
    assert (position["position_steps"], position["cost_steps2"]) == (0, 0)
    assert made.wallets["balance_e8"][0] == 1_250_000


def test_rebates_are_negative_fees():
    made = make((1, 3), maker_e8=-5_000)
    fill = book(made, 0, BID, 642_000, 4, is_maker=1)
    assert fill["fee_e8"] == -1_284_000
    assert made.wallets["balance_e8"][0] == 1_284_000


@pytest.mark.parametrize(
    ("held", "rate_e8", "paid_e8"),
    [(4, 10_000, 2_568_332), (-4, 10_000, -2_568_332), (4, -10_000, -2_568_332), (0, 10_000, 0)],
)
def test_longs_pay_positive_funding(held, rate_e8, paid_e8):
    """0.004 at a mark of 64208.31 is 256.83324; a rate of 0.01 % of it is paid."""
    made = make((1, 3), taker_e8=0)
    if held:
        book(made, 1, BID if held > 0 else ASK, 642_000, abs(held))
    payments = np.full(4, 7, np.int64)
    assert books.settle_funding(made, 0, 6_420_831_000_000, rate_e8, payments) == 0
    assert payments.tolist() == [0, -paid_e8, 0, 0]
    assert made.wallets["balance_e8"][1] == -paid_e8
    assert made.wallets["funding_e8"][1] == made.positions["funding_e8"][1, 0] == -paid_e8


class DecimalAccount:
    """One account in one instrument, in decimal quote and base units."""

    def __init__(self, price_decimals, qty_decimals, rates_e8):
        self.price_step = Decimal(1).scaleb(-price_decimals)
        self.qty_step = Decimal(1).scaleb(-qty_decimals)
        self.rates = [Decimal(rate).scaleb(-8) for rate in rates_e8]
        self.held = self.cost = self.balance = self.realised = self.fees = Decimal(0)

    def fill(self, side, price_steps, qty_steps, is_maker):
        """Book one fill; what it realised and cost."""
        price, qty = price_steps * self.price_step, qty_steps * self.qty_step
        realised = Decimal(0)
        if side * self.held >= 0:
            self.cost += price * qty
        else:
            closed = min(abs(self.held), qty)
            grid = self.price_step * self.qty_step
            off = (self.cost * closed / abs(self.held)).quantize(grid, ROUND_DOWN)
            realised = cut(-side * (price * closed - off))
            self.cost = price * (qty - closed) if qty > closed else self.cost - off
        self.held += side * qty
        fee = cut(cut(price * qty) * self.rates[0 if is_maker else 1])
        self.realised += realised
        self.fees += fee
        self.balance += realised - fee
        return realised, fee


FILLS = st.lists(
    st.tuples(
        st.sampled_from([BID, ASK]),
        st.integers(1, 10**7),
        st.integers(1, 10**6),
        st.sampled_from([0, 1]),
    ),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(
    FILLS,
    st.sampled_from([(1, 3), (2, 2), (5, 0), (6, 5), (0, 8)]),
    st.tuples(st.integers(-10_000, 100_000), st.integers(0, 100_000)),
)
def test_random_fills_match_decimal_arithmetic(fills, decimals, rates_e8):
    """Position, cost, realised profit, fees and balance are those of 50-digit decimals."""
    made = make(decimals, maker_e8=rates_e8[0], taker_e8=rates_e8[1])
    twin = DecimalAccount(*decimals, rates_e8)
    position, wallet = made.positions[1, 0], made.wallets[1]
    for side, price, qty, is_maker in fills:
        fill = book(made, 1, side, price, qty, is_maker)
        realised, fee = twin.fill(side, price, qty, is_maker)
        assert int(fill["realised_e8"]) == realised.scaleb(8)
        assert int(fill["fee_e8"]) == fee.scaleb(8)
        assert int(fill["balance_e8"]) == int(wallet["balance_e8"]) == twin.balance.scaleb(8)
        assert int(fill["position_steps"]) == int(position["position_steps"])
        assert position["position_steps"] * twin.qty_step == twin.held
        assert position["cost_steps2"] * twin.qty_step * twin.price_step == twin.cost
    assert int(wallet["realised_e8"]) == int(position["realised_e8"]) == twin.realised.scaleb(8)
    assert int(wallet["fees_e8"]) == int(position["fees_e8"]) == twin.fees.scaleb(8)
    assert wallet["fill_count"] == len(fills)
    assert not made.positions[0].tobytes().strip(b"\0")


INTEGER = st.integers(-INT64_MAX, INT64_MAX) | st.integers(-1000, 1000)


@settings(max_examples=500, deadline=None)
@given(INTEGER, INTEGER, st.integers(1, 2**62) | st.sampled_from([1, 7, 10**8]))
def test_multiply_divide_is_exact_or_says_so(a, b, divisor):
    magnitude = abs(a * b) // divisor
    exact = magnitude if a * b >= 0 else -magnitude
    expected = (exact, False) if magnitude <= INT64_MAX else (0, True)
    assert books.multiply_divide(np.int64(a), np.int64(b), np.int64(divisor)) == expected


@settings(max_examples=200, deadline=None)
@given(INTEGER, INTEGER)
def test_add_is_exact_or_says_so(a, b):
    expected = (a + b, False) if abs(a + b) <= INT64_MAX else (0, True)
    assert books.add_checked(np.int64(a), np.int64(b)) == expected


@pytest.mark.parametrize(
    ("word", "value", "price", "qty"),
    [
        (None, 0, 1 << 60, 1 << 42),  # notional
        (None, 0, 1 << 40, 1 << 21),  # notional in e8
        ("position_steps", INT64_MAX - 3, 100, 4),
        ("cost_steps2", INT64_MAX - 3, 100, 4),
        ("realised_e8", -INT64_MAX, 100, 4),
        ("fees_e8", INT64_MAX, 642_000, 4),
        ("balance_e8", -INT64_MAX, 642_000, 4),
    ],
)
def test_what_does_not_fit_changes_nothing(word, value, price, qty):
    made = make((1, 3))
    side = BID
    if word == "realised_e8":  # a loss that the sum cannot take
        book(made, 0, BID, 200, 4)
        side = ASK
    if word in ("realised_e8", "fees_e8", "balance_e8"):
        made.wallets[word][0] = value
    elif word:
        made.positions["position_steps"][0, 0] = 1
        made.positions[word][0, 0] = value
    before = made.wallets.tobytes(), made.positions.tobytes()
    fills = np.zeros(1, FILL)
    status = books.book_fill(made, 0, 0, side, price, qty, 0, fills, 0)
    assert status == BookStatus.OVERFLOW
    assert (made.wallets.tobytes(), made.positions.tobytes()) == before
    assert not fills.tobytes().strip(b"\0")


def test_funding_that_does_not_fit_leaves_the_account_out():
    made = make((1, 3))
    made.positions["position_steps"][0, 0] = 1 << 60
    book(made, 1, BID, 642_000, 4)
    payments = np.zeros(4, np.int64)
    assert books.settle_funding(made, 0, 6_420_831_000_000, 10_000, payments) == 1
    assert (payments != 0).tolist() == [False, True, False, False]
    assert made.wallets["balance_e8"][0] == 0
    assert books.unrealised_e8(made, 0, 0, 6_420_831_000_000) == (0, True)


def test_refused_sides_are_counted_and_the_others_booked():
    made = make((1, 3))
    made.wallets["balance_e8"][2] = -INT64_MAX
    events = np.zeros(2, EVENT)
    events["kind"] = [EventKind.NEW, EventKind.TRADE]
    events["side"], events["price_steps"], events["qty_steps"] = BID, 642_000, 4
    events["account_id"], events["maker_account_id"] = 2, 1
    events["order_id"], events["maker_order_id"], events["event_id"] = 11, 12, 13
    fills = np.zeros(2, FILL)
    assert books.apply_events(made, events, 0, 2, fills) == (1, 1)
    fill = fills[0]
    assert (fill["account_id"], fill["order_id"], fill["trade_id"]) == (1, 12, 13)
    assert (fill["side"], fill["is_maker"]) == (ASK, 1)
    assert made.positions["position_steps"][:, 0].tolist() == [0, -4, 0, 0]


@pytest.mark.parametrize("seed", range(3))
def test_engine_trades_leave_nothing_over(seed):
    """Positions are the engine's own, fees are all that is lost, and flat accounts sum to zero."""
    random = np.random.default_rng(seed)
    made = make((1, 3), (2, 2))
    engine = state.new_engine(2, 4, orders_max=500, window=256)
    events = state.new_events(engine)
    fills = np.zeros(len(events), FILL)
    words = (OrderType.LIMIT.value, TimeInForce.GTC.value, StpMode.NONE.value, 0)
    booked = 0
    for _ in range(600):
        account, instrument = int(random.integers(0, 4)), int(random.integers(0, 2))
        side = BID if random.random() < 0.5 else ASK
        price, qty = int(random.integers(995, 1_006)), int(random.integers(1, 30))
        status, _, count = matching.submit(
            engine, events, 0, instrument, account, side, *words, price, qty
        )
        assert status == 0
        booked += books.apply_events(made, events, 0, count, fills)[0]
    assert booked == made.wallets["fill_count"].sum() > 500
    for account in range(4):
        for instrument in range(2):
            held = made.positions["position_steps"][account, instrument]
            assert held == matching.position(engine, instrument, account)
            side = ASK if held > 0 else BID
            if held:  # close against account 0 at one price, so that the sum must be zero
                book(made, account, side, 1_000, abs(held), instrument=instrument)
                book(made, 0, -side, 1_000, abs(held), instrument=instrument)
    assert not made.positions["position_steps"].any() and not made.positions["cost_steps2"].any()
    wallets = made.wallets
    assert wallets["realised_e8"].sum() == 0
    assert wallets["balance_e8"].sum() == -wallets["fees_e8"].sum() < 0
    assert (made.positions["fees_e8"].sum(1) == wallets["fees_e8"]).all()

"""The matching engine: rules as tables, and random sequences against the naive twin."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.enums import OrderType, Side, TimeInForce
from processes.venue import engine as state
from processes.venue import matching
from processes.venue.engine import EVENT, EventKind, MatchStatus, Reason, StpMode
from shm.bits import bitmap_words

sys.path.insert(0, str(Path(__file__).parent))
from naive_matching import FIELDS, NaiveEngine  # noqa: E402

BID, ASK = Side.BID.value, Side.ASK.value
LIMIT, MARKET = OrderType.LIMIT.value, OrderType.MARKET.value
GTC, IOC, FOK, GTX = (t.value for t in TimeInForce)
NONE, TAKER, MAKER, BOTH = (m.value for m in StpMode)
OK = MatchStatus.OK
BOOK = (
    # account side price qty
    (1, ASK, 103, 5),
    (1, ASK, 101, 2),
    (2, ASK, 101, 3),
    (1, BID, 99, 4),
    (2, BID, 99, 1),
    (2, BID, 97, 9),
)


class Market:
    """An engine with short calls; remembers the events of the last one as dictionaries."""

    def __init__(self, **sizes):
        sizes = {"orders_max": 64, "window": 64, "far_levels_max": 64} | sizes
        self.engine = state.new_engine(2, 5, **sizes)
        self.buffer = state.new_events(self.engine)
        self.events = []

    def keep(self, count):
        self.events = [dict(zip(FIELDS, row, strict=True)) for row in self.buffer[:count].tolist()]

    def submit(
        self, account, side, price, qty, tif=GTC, kind=LIMIT, stp=NONE, reduce_only=0, instrument=0
    ):
        status, order_id, count = matching.submit(
            self.engine, self.buffer, 0, instrument, account, side, kind, tif, stp, reduce_only,
            price, qty,
        )  # fmt: skip
        self.keep(count)
        assert (order_id > 0) == (status == OK)
        return status, order_id

    def cancel(self, account, order_id, instrument=0):
        status, count = matching.cancel(self.engine, self.buffer, 0, instrument, account, order_id)
        self.keep(count)
        return status

    def amend(self, account, order_id, price, qty, instrument=0):
        status, count = matching.amend(
            self.engine, self.buffer, 0, instrument, account, order_id, price, qty
        )
        self.keep(count)
        return status

    def reduce(self, account, order_id, by, instrument=0):
        status, count = matching.reduce(
            self.engine, self.buffer, 0, instrument, account, order_id, by
        )
        self.keep(count)
        return status

    def cancel_all(self, account, instrument=0):
        status, canceled, count = matching.cancel_all(
            self.engine, self.buffer, 0, instrument, account
        )
        self.keep(count)
        assert status == OK
        return canceled

    def build(self, rows=BOOK):
        """Submit resting orders; return their ids."""
        return [self.submit(*row)[1] for row in rows]

    def side(self, side, instrument=0):
        """Return a side's levels as (price, quantity)."""
        prices, quantities = np.zeros(99, np.int64), np.zeros(99, np.int64)
        count = matching.depth(self.engine, instrument, side, prices, quantities)
        return list(zip(prices[:count].tolist(), quantities[:count].tolist(), strict=True))

    def trades(self):
        """Return the last call's trades as (maker id, price, quantity)."""
        return [
            (e["maker_order_id"], e["price_steps"], e["qty_steps"])
            for e in self.of(EventKind.TRADE)
        ]

    def of(self, kind):
        """Return the last call's events of one kind."""
        return [e for e in self.events if e["kind"] == kind]

    def ended(self):
        """Return who ended in the last call without a trade, as (order id, leaves, reason)."""
        return [
            (e["order_id"], e["leaves_qty_steps"], e["reason"])
            for e in self.events
            if e["kind"] in (EventKind.CANCELED, EventKind.EXPIRED)
        ]

    def position(self, account, instrument=0):
        return matching.position(self.engine, instrument, account)


def book_of(engine, instrument):
    """Return the words of a book."""
    first = state.book_at(engine, instrument)
    return engine[first : first + state.BOOK_WORDS]


def holdings(engine):
    """Return the words of all holdings by instrument and account."""
    first = book_of(engine, 0)[state.HOLDINGS]
    return engine[first : first + 2 * 5 * state.HOLDING_WORDS].reshape(2, 5, -1)


def test_orders_fill_best_price_first_then_first_come():
    market = Market()
    ids = market.build()
    status, order_id = market.submit(3, BID, 103, 9)
    assert status == OK
    assert market.trades() == [(ids[1], 101, 2), (ids[2], 101, 3), (ids[0], 103, 4)]
    assert [e["leaves_qty_steps"] for e in market.of(EventKind.TRADE)] == [7, 4, 0]
    assert [e["maker_done"] for e in market.of(EventKind.TRADE)] == [1, 1, 0]
    assert [e["event_id"] for e in market.of(EventKind.TRADE)] == [1, 2, 3]
    assert market.events[0]["kind"] == EventKind.NEW
    assert market.side(ASK) == [(103, 1)]
    assert market.side(BID) == [(99, 5), (97, 9)]
    assert matching.best(market.engine, 0) == (99, 5, 103, 1)
    assert (market.position(1), market.position(2), market.position(3)) == (-6, -3, 9)
    assert matching.find(market.engine, order_id) == 0


@pytest.mark.parametrize(
    ("tif", "kind", "side", "price", "qty", "status", "filled", "left", "reason"),
    [
        (GTC, LIMIT, BID, 100, 5, MatchStatus.OK, 0, "rests", 0),
        (GTC, LIMIT, BID, 101, 7, MatchStatus.OK, 5, "rests", 0),
        (IOC, LIMIT, BID, 101, 7, MatchStatus.OK, 5, "expires", Reason.IOC),
        (IOC, LIMIT, BID, 100, 7, MatchStatus.OK, 0, "expires", Reason.IOC),
        (IOC, LIMIT, ASK, 99, 5, MatchStatus.OK, 5, "gone", 0),
        (FOK, LIMIT, BID, 101, 5, MatchStatus.OK, 5, "gone", 0),
        (FOK, LIMIT, BID, 101, 6, MatchStatus.FOK, 0, "refused", 0),
        (FOK, LIMIT, BID, 103, 10, MatchStatus.OK, 10, "gone", 0),
        (FOK, LIMIT, BID, 103, 11, MatchStatus.FOK, 0, "refused", 0),
        (FOK, LIMIT, ASK, 98, 5, MatchStatus.OK, 5, "gone", 0),
        (FOK, LIMIT, ASK, 100, 1, MatchStatus.FOK, 0, "refused", 0),
        (GTX, LIMIT, BID, 100, 1, MatchStatus.OK, 0, "rests", 0),
        (GTX, LIMIT, BID, 101, 1, MatchStatus.POST_ONLY, 0, "refused", 0),
        (GTX, LIMIT, ASK, 100, 1, MatchStatus.OK, 0, "rests", 0),
        (GTX, LIMIT, ASK, 99, 1, MatchStatus.POST_ONLY, 0, "refused", 0),
        (GTC, MARKET, BID, 0, 10, MatchStatus.OK, 10, "gone", 0),
        (GTC, MARKET, BID, 0, 12, MatchStatus.OK, 10, "expires", Reason.MARKET),
        (GTC, MARKET, BID, 102, 12, MatchStatus.OK, 5, "expires", Reason.MARKET),
        (GTC, MARKET, ASK, 0, 15, MatchStatus.OK, 14, "expires", Reason.MARKET),
        (GTC, LIMIT, BID, 0, 1, MatchStatus.BAD_PRICE, 0, "refused", 0),
        (GTC, LIMIT, BID, -5, 1, MatchStatus.BAD_PRICE, 0, "refused", 0),
        (GTC, LIMIT, BID, (1 << 60) + 1, 1, MatchStatus.BAD_PRICE, 0, "refused", 0),
        (GTC, LIMIT, BID, 100, 0, MatchStatus.BAD_QTY, 0, "refused", 0),
        (GTC, LIMIT, BID, 100, (1 << 42) + 1, MatchStatus.BAD_QTY, 0, "refused", 0),
        (GTC, 3, BID, 100, 1, MatchStatus.BAD_REQUEST, 0, "refused", 0),
        (5, LIMIT, BID, 100, 1, MatchStatus.BAD_REQUEST, 0, "refused", 0),
        (GTC, LIMIT, 0, 100, 1, MatchStatus.BAD_REQUEST, 0, "refused", 0),
    ],
)
def test_time_in_force_table(tif, kind, side, price, qty, status, filled, left, reason):
    market = Market()
    market.build()
    before = (market.side(BID), market.side(ASK))
    found, order_id = market.submit(3, side, price, qty, tif, kind)
    assert found == status
    assert sum(e["qty_steps"] for e in market.of(EventKind.TRADE)) == filled
    assert (matching.find(market.engine, order_id) > 0) == (left == "rests")
    if left == "expires":
        assert market.ended() == [(order_id, qty - filled, reason)]
    else:
        assert market.ended() == []
    if left == "refused":
        assert market.events == []
        assert (market.side(BID), market.side(ASK)) == before
    if left == "rests":
        assert dict(market.side(side))[price] == qty - filled


def test_unknown_instruments_and_accounts_are_refused():
    market = Market()
    for instrument, account in ((2, 1), (-1, 1), (0, 5), (0, -1)):
        status, _ = market.submit(account, BID, 100, 1, instrument=instrument)
        assert status == MatchStatus.BAD_REQUEST
        assert market.cancel(account, 5, instrument) == MatchStatus.UNKNOWN_ORDER


@pytest.mark.parametrize(
    ("stp", "tif", "kind", "fills", "ended", "rests"),
    [
        # Account 1 buys 6 to 103 against its own 2 and account 2's 3 at 101, its own 5 at 103.
        (NONE, GTC, LIMIT, [2, 3, 1], [], 0),
        (TAKER, GTC, LIMIT, [], [("taker", 6, Reason.STP)], 0),
        (TAKER, IOC, LIMIT, [], [("taker", 6, Reason.IOC_STP)], 0),
        (TAKER, GTC, MARKET, [], [("taker", 6, Reason.STP)], 0),
        (MAKER, GTC, LIMIT, [3], [(1, 2, Reason.STP), (0, 5, Reason.STP)], 3),
        (MAKER, IOC, LIMIT, [3], [(1, 2, Reason.STP), (0, 5, Reason.STP), ("taker", 3, 2)], 0),
        (BOTH, GTC, LIMIT, [], [(1, 2, Reason.STP), ("taker", 6, Reason.STP)], 0),
        (BOTH, IOC, LIMIT, [], [(1, 2, Reason.STP), ("taker", 6, Reason.IOC_STP)], 0),
        (TAKER, FOK, LIMIT, [2, 3, 1], [], 0),
        (BOTH, FOK, LIMIT, [2, 3, 1], [], 0),
    ],
)
def test_self_trade_prevention_table(stp, tif, kind, fills, ended, rests):
    market = Market()
    ids = market.build()
    price = 0 if kind == MARKET else 103
    status, order_id = market.submit(1, BID, price, 6, tif, kind, stp)
    assert status == OK
    assert [e["qty_steps"] for e in market.of(EventKind.TRADE)] == fills
    names = {"taker": order_id, 0: ids[0], 1: ids[1]}
    assert market.ended() == [(names[who], qty, reason) for who, qty, reason in ended]
    assert dict(market.side(BID)).get(103, 0) == rests


def test_self_trade_moves_no_position():
    market = Market()
    market.build([(1, ASK, 101, 5)])
    market.submit(1, BID, 101, 5)
    assert market.trades() and market.position(1) == 0


def test_amended_order_goes_to_the_back_and_keeps_its_id():
    market = Market()
    ids = market.build()
    assert market.amend(1, ids[3], 99, 3) == OK
    assert [e["kind"] for e in market.events] == [
        EventKind.LEVEL, EventKind.AMENDED, EventKind.LEVEL,
    ]  # fmt: skip
    assert [e["qty_steps"] for e in market.of(EventKind.LEVEL)] == [1, 4]
    market.submit(3, ASK, 99, 2)
    assert market.trades() == [(ids[4], 99, 1), (ids[3], 99, 1)]
    assert market.amend(1, ids[3], 99, 4) == OK  # total 4, 1 executed
    assert market.of(EventKind.AMENDED)[0]["leaves_qty_steps"] == 3


def test_a_reduced_order_keeps_its_place():
    market = Market()
    ids = market.build()
    assert market.reduce(1, ids[3], 3) == OK
    amended, level = market.events
    assert (amended["kind"], amended["qty_steps"], amended["leaves_qty_steps"]) == (
        EventKind.AMENDED, 1, 1,
    )  # fmt: skip
    assert (level["kind"], level["side"], level["price_steps"], level["qty_steps"]) == (
        EventKind.LEVEL, BID, 99, 2,
    )  # fmt: skip
    for account, by, status in ((1, 1, "BAD_QTY"), (1, 0, "BAD_QTY"), (2, 1, "UNKNOWN_ORDER")):
        assert market.reduce(account, ids[3], by) == MatchStatus[status]
        assert market.events == []
    market.submit(3, ASK, 99, 2)
    makers = [e["maker_order_id"] for e in market.events if e["kind"] == EventKind.TRADE]
    assert makers == [ids[3], ids[4]]


@pytest.mark.parametrize(
    ("tif", "price", "qty", "status", "trades", "reason", "left"),
    [
        # The order is a bid of 4 at 99, of which 3 are executed.
        (GTC, 99, 4, MatchStatus.NOT_CHANGED, 0, None, {99: 1}),
        (GTC, 99, 3, MatchStatus.OK, 0, Reason.AMEND_QTY, {}),
        (GTC, 99, 1, MatchStatus.OK, 0, Reason.AMEND_QTY, {}),
        (GTC, 99, 0, MatchStatus.BAD_QTY, 0, None, {99: 1}),
        (GTC, 0, 4, MatchStatus.BAD_PRICE, 0, None, {99: 1}),
        (GTC, 98, 4, MatchStatus.OK, 0, None, {98: 1}),
        (GTC, 100, 9, MatchStatus.OK, 0, None, {100: 6}),
        (GTC, 101, 6, MatchStatus.OK, 3, None, {}),
        (GTC, 101, 9, MatchStatus.OK, 5, None, {101: 1}),
        (GTX, 100, 9, MatchStatus.OK, 0, None, {100: 6}),
        (GTX, 101, 9, MatchStatus.OK, 0, Reason.AMEND_POST_ONLY, {}),
    ],
)
def test_amend_table(tif, price, qty, status, trades, reason, left):
    market = Market()
    market.build([(1, ASK, 101, 2), (2, ASK, 101, 3)])
    order_id = market.submit(3, BID, 99, 4, tif)[1]
    market.submit(2, ASK, 99, 3, IOC)
    assert market.amend(3, order_id, price, qty) == status
    assert sum(e["qty_steps"] for e in market.of(EventKind.TRADE)) == trades
    assert [e[2] for e in market.ended()] == ([] if reason is None else [reason])
    assert dict(market.side(BID)) == left
    assert (matching.find(market.engine, order_id) > 0) == bool(left)


def test_amended_order_has_no_self_trade_prevention():
    """Modify resets the mode to NONE."""
    market = Market()
    market.build([(1, ASK, 101, 2)])
    order_id = market.submit(1, BID, 99, 2, stp=BOTH)[1]
    assert market.amend(1, order_id, 101, 2) == OK
    assert market.trades()


def test_amendments_are_counted():
    market = Market()
    order_id = market.submit(1, BID, 99, 2)[1]
    for i in range(state.AMENDMENTS_MAX):
        assert market.amend(1, order_id, 99, 3 + i % 2) == OK
    assert market.amend(1, order_id, 98, 1) == MatchStatus.AMENDMENTS


def test_only_the_owner_reaches_an_order():
    market = Market()
    order_id = market.submit(1, BID, 99, 2)[1]
    for account, number, instrument in (
        (2, order_id, 0),
        (1, order_id, 1),
        (1, order_id + (1 << state.SLOT_BITS), 0),
        (1, order_id & state.SLOT_MASK, 0),
        (1, 0, 0),
        (0, 0, 0),
        (1, -1, 0),
        (1, state.SLOT_MASK, 0),
    ):
        assert market.cancel(account, number, instrument) == MatchStatus.UNKNOWN_ORDER
        assert market.amend(account, number, 98, 2, instrument) == MatchStatus.UNKNOWN_ORDER
    assert market.cancel(1, order_id) == OK
    assert market.ended() == [(order_id, 2, Reason.NONE)]
    assert market.cancel(1, order_id) == MatchStatus.UNKNOWN_ORDER


def test_cancel_all_takes_one_account_in_one_instrument():
    market = Market()
    ids = market.build()
    market.submit(1, BID, 98, 1, instrument=1)
    assert market.cancel_all(1) == 3
    assert [e[0] for e in market.ended()] == [ids[3], ids[1], ids[0]]
    assert market.side(BID) == [(99, 1), (97, 9)]
    assert market.side(ASK) == [(101, 3)]
    assert market.side(BID, 1) == [(98, 1)]
    assert market.cancel_all(1) == 0


def hold(market, account, qty):
    """Give an account a position."""
    side = BID if qty > 0 else ASK
    market.submit(4, -side, 100, abs(qty))
    market.submit(account, side, 100, abs(qty))
    assert market.position(account) == qty


@pytest.mark.parametrize(
    ("position", "side", "qty", "status", "accepted"),
    [
        (0, BID, 1, MatchStatus.REDUCE_ONLY, 0),
        (5, BID, 1, MatchStatus.REDUCE_ONLY, 0),
        (-5, ASK, 1, MatchStatus.REDUCE_ONLY, 0),
        (5, ASK, 3, MatchStatus.OK, 3),
        (5, ASK, 5, MatchStatus.OK, 5),
        (5, ASK, 9, MatchStatus.OK, 5),
        (-5, BID, 9, MatchStatus.OK, 5),
    ],
)
@pytest.mark.parametrize("tif", [GTC, IOC])
def test_reduce_only_is_trimmed_or_refused(position, side, qty, status, accepted, tif):
    market = Market()
    if position:
        hold(market, 1, position)
    market.build([(2, ASK, 101, 50), (2, BID, 99, 50)])
    price = 101 if side == BID else 99
    found, _ = market.submit(1, side, price, qty, tif, reduce_only=1)
    assert found == status
    assert sum(e["qty_steps"] for e in market.of(EventKind.TRADE)) == accepted
    assert market.position(1) == position + side * accepted
    if status == OK:
        assert market.events[0]["qty_steps"] == accepted


def test_resting_reduce_only_order_expires_when_it_could_turn_the_position():
    market = Market()
    hold(market, 1, 5)
    order_id = market.submit(1, ASK, 105, 5, reduce_only=1)[1]
    market.build([(2, BID, 99, 9)])
    market.submit(1, ASK, 99, 2)
    assert market.ended() == [(order_id, 5, Reason.REDUCE_ONLY)]
    assert market.side(ASK) == []
    order_id = market.submit(1, ASK, 105, 5, reduce_only=1)[1]  # trimmed to 3
    market.submit(2, BID, 105, 2)
    assert market.position(1) == 1 and dict(market.side(ASK)) == {105: 1}
    market.submit(2, BID, 105, 1)
    assert market.position(1) == 0 and market.side(ASK) == []


def test_fok_counts_reduce_only_makers_as_far_as_they_would_fill():
    market = Market()
    hold(market, 1, 5)
    market.build([(1, ASK, 101, 4)])
    market.submit(1, ASK, 102, 5, reduce_only=1)  # worth nothing once 101 has traded
    market.build([(2, ASK, 103, 6)])
    assert market.submit(3, BID, 102, 5, FOK)[0] == MatchStatus.FOK
    assert market.submit(3, BID, 103, 11, FOK)[0] == MatchStatus.FOK
    assert not holdings(market.engine)[:, :, state.SWEEP].any()
    assert market.submit(3, BID, 103, 10, FOK)[0] == OK
    assert [(p, q) for _, p, q in market.trades()] == [(101, 4), (103, 6)]
    assert [e[2] for e in market.ended()] == [Reason.REDUCE_ONLY]


def test_full_arrays_refuse_before_the_first_change():
    market = Market(orders_max=2, far_levels_max=2)
    ids = market.build([(1, BID, 99, 1), (1, BID, 98, 1)])
    assert market.submit(1, BID, 97, 1)[0] == MatchStatus.ORDERS_FULL
    assert market.submit(2, ASK, 99, 1)[0] == MatchStatus.ORDERS_FULL
    assert market.submit(2, ASK, 99, 1, IOC)[0] == OK
    small = np.zeros(state.EVENTS_SPARE + 1, EVENT)
    status, _, count = matching.submit(market.engine, small, 0, 0, 2, ASK, 1, IOC, 1, 0, 98, 1)
    assert (status, count) == (MatchStatus.EVENTS_FULL, 0)
    assert matching.cancel(market.engine, small, 2, 0, 1, ids[1])[0] == MatchStatus.EVENTS_FULL
    assert market.cancel(1, ids[1]) == OK
    market = Market(far_levels_max=2)
    market.build([(1, BID, 10_000, 1), (1, BID, 1, 1), (1, BID, 2, 1)])
    assert market.submit(1, BID, 3, 1)[0] == MatchStatus.LEVELS_FULL
    assert market.submit(1, BID, 2, 1)[0] == OK
    assert market.submit(1, BID, 9_999, 1)[0] == OK
    assert market.side(BID) == [(10_000, 1), (9_999, 1), (2, 2), (1, 1)]


def test_position_limit_refuses_new_orders():
    market = Market()
    holdings(market.engine)[0, 1, state.POSITION] = state.POSITION_STEPS_MAX + 1
    assert market.submit(1, ASK, 99, 1)[0] == MatchStatus.POSITION
    assert market.submit(2, ASK, 99, 1)[0] == OK


def test_sizes_out_of_range_are_refused():
    for sizes in ({"window": 100}, {"window": 32}, {"orders_max": 1 << 20}, {"far_levels_max": 0}):
        with pytest.raises(ValueError, match="new_engine: "):
            Market(**sizes)
    with pytest.raises(ValueError, match="new_engine: sizes need"):
        state.new_engine(4_096, 1 << 20)


@pytest.mark.parametrize("far", [1, 2, 35, 99, 165, 10**6, 10**18, state.PRICE_STEPS_MAX])
def test_prices_outside_the_window_trade_like_any(far):
    """The window is 64 steps around 100; orders beyond it fill at their turn."""
    market = Market()
    market.build([(1, BID, 100, 1)])
    side = BID if far < 100 else ASK
    market.build([(2, side, far, 3), (1, side, far, 2)])
    levels = sorted({100: 1} | ({far: 5} if far < 100 else {}), reverse=True)
    assert [p for p, _ in market.side(BID)] == levels
    assert dict(market.side(side))[far] == 5
    market.submit(3, -side, 0, 5, kind=MARKET)
    fills = [(p, q) for _, p, q in market.trades()]
    assert fills == ([(100, 1), (far, 3), (far, 1)] if far < 100 else [(far, 3), (far, 2)])


def test_window_follows_the_market():
    """After enough far orders the window stands around the touch, and no level is lost."""
    market = Market(orders_max=1_000, far_levels_max=1_000)
    market.build([(1, BID, 100, 1), (1, BID, 130, 1), (1, ASK, 200, 1)])
    expected = {100: 1, 130: 1}
    for i in range(150):
        price = 131 + i % 60
        market.build([(1, BID, price, 1)])
        expected[price] = expected.get(price, 0) + 1
    low = book_of(market.engine, 0)[state.WINDOW_LOW]
    assert low <= 190 < 200 < low + 64
    assert dict(market.side(BID)[:99]) == dict(sorted(expected.items(), reverse=True)[:99])
    assert market.side(ASK) == [(200, 1)]


def plain(events):
    """Return EVENT rows as tuples with order ids as sequence numbers."""
    rows = []
    for row in events.tolist():
        row = list(row)
        for field in ("order_id", "maker_order_id"):
            row[FIELDS.index(field)] >>= state.SLOT_BITS
        rows.append(tuple(row))
    return rows


class Pair:
    """The engine and its twin, given the same requests."""

    def __init__(self, orders_max=40, window=64):
        self.market = Market(orders_max=orders_max, window=window, far_levels_max=orders_max)
        self.naive = NaiveEngine(orders_max)
        self.ids = [0]

    def check(self, result, expected, count):
        assert result == expected
        assert plain(self.market.buffer[:count]) == self.naive.events
        self.naive.events.clear()
        for instrument in range(2):
            best = matching.best(self.market.engine, instrument)
            assert best == self.naive.best(instrument)
            assert best[0] < best[2]

    def submit(self, *words):
        matching.expect(self.market.engine, words[0], 0, words[7])  # changes nothing
        expected = self.naive.submit(*words)
        status, order_id, count = matching.submit(self.market.engine, self.market.buffer, 0, *words)
        self.check((status, order_id >> state.SLOT_BITS), expected, count)
        if status == OK:
            self.ids.append(order_id)

    def cancel(self, pick, account, instrument):
        order_id = self.ids[pick % len(self.ids)]
        matching.expect(self.market.engine, instrument, order_id, 0)
        expected = self.naive.cancel(instrument, account, order_id >> state.SLOT_BITS)
        status, count = matching.cancel(
            self.market.engine, self.market.buffer, 0, instrument, account, order_id
        )
        self.check(status, expected, count)

    def amend(self, pick, account, instrument, price, qty):
        order_id = self.ids[pick % len(self.ids)]
        sequence = order_id >> state.SLOT_BITS
        expected = self.naive.amend(instrument, account, sequence, price, qty)
        status, count = matching.amend(
            self.market.engine, self.market.buffer, 0, instrument, account, order_id, price, qty
        )
        self.check(status, expected, count)

    def cancel_all(self, account, instrument):
        expected = self.naive.cancel_all(instrument, account)
        status, canceled, count = matching.cancel_all(
            self.market.engine, self.market.buffer, 0, instrument, account
        )
        self.check((status, canceled), (OK, expected), count)

    def check_whole(self):
        """Compare everything that is left, and the engine's own totals."""
        engine, naive = self.market.engine, self.naive
        for instrument in range(2):
            for side in (BID, ASK):
                expected = [
                    (p, naive.total(instrument, side, p)) for p in naive.prices(instrument, side)
                ]
                assert self.market.side(side, instrument) == expected[:99]
            words = book_of(engine, instrument)
            orders = [o for o in naive.open.values() if o.instrument_id == instrument]
            assert words[state.OPEN_COUNT] == len(orders)
            assert words[state.REDUCE_ONLY_COUNT] == sum(o.reduce_only for o in orders)
            for account in range(5):
                assert self.market.position(account, instrument) == naive.position(
                    account, instrument
                )
        assert holdings(engine)[:, :, state.POSITION].sum() == 0
        assert not holdings(engine)[:, :, state.SWEEP].any()
        for account in range(5):
            for instrument in range(2):
                self.cancel_all(account, instrument)
        self.check_empty()

    def check_empty(self):
        """Check that no order is left on any level, and every slot is free."""
        engine = self.market.engine
        window = engine[state.WINDOW]
        for instrument in range(2):
            words = book_of(engine, instrument)
            assert words[state.FAR_COUNT] == 0
            levels, bits = words[state.LEVELS], words[state.BITS]
            assert not engine[levels : levels + window * state.LEVEL_WORDS].any()
            assert not engine[bits : bits + bitmap_words(int(window))].any()
        free, slot = 0, engine[state.FREE_SLOT]
        while slot:
            assert engine[state.order_at(slot) + state.ORDER_ID] == 0
            free, slot = free + 1, engine[state.order_at(slot) + state.NEXT]
        assert free == engine[state.ORDERS_LIMIT]


PRICE = st.integers(95, 105) | st.sampled_from([1, 3, 60, 140, 200, 10**9, 10**18])
QTY = st.integers(1, 12)
ACCOUNT = st.integers(1, 3)
INSTRUMENT = st.sampled_from([0, 0, 0, 1])
SUBMIT = st.tuples(
    st.just("submit"),
    INSTRUMENT,
    ACCOUNT,
    st.sampled_from([BID, ASK]),
    st.sampled_from([LIMIT] * 6 + [MARKET]),
    st.sampled_from([GTC] * 4 + [IOC, FOK, GTX]),
    st.sampled_from([NONE, NONE, TAKER, MAKER, BOTH]),
    st.sampled_from([0, 0, 1]),
    PRICE,
    QTY,
)
REQUEST = (
    SUBMIT
    | SUBMIT
    | st.tuples(st.just("cancel"), st.integers(0, 99), ACCOUNT, INSTRUMENT)
    | st.tuples(st.just("amend"), st.integers(0, 99), ACCOUNT, INSTRUMENT, PRICE, QTY)
    | st.tuples(st.just("cancel_all"), ACCOUNT, INSTRUMENT)
)


@settings(max_examples=300, deadline=None)
@given(st.lists(REQUEST, max_size=60))
def test_random_requests_give_the_twins_events(requests):
    """Every event, status, best price and total is the naive engine's."""
    pair = Pair()
    for name, *words in requests:
        getattr(pair, name)(*words)
    pair.check_whole()


@pytest.mark.parametrize("seed", range(6))
def test_long_walk_gives_the_twins_events(seed):
    """A market that wanders far moves the window over and over; nothing differs."""
    random = np.random.default_rng(seed)
    pair = Pair(orders_max=300, window=64 if seed % 2 else 256)
    center = 5_000
    for _ in range(2_500):
        center += int(random.integers(-12, 13)) + (6 if seed < 3 else 0)
        spread = int(random.choice([8, 60, 3_000], p=[0.8, 0.15, 0.05]))
        price = max(center + int(random.integers(-spread, spread + 1)), 1)
        account, instrument = int(random.integers(1, 4)), int(random.random() < 0.2)
        pick = max(len(pair.ids) - 1 - int(random.exponential(40)), 0)
        qty = int(random.integers(1, 12))
        draw = random.random()
        if draw < 0.55:
            tif = int(random.choice([GTC, IOC, FOK, GTX], p=[0.8, 0.05, 0.05, 0.1]))
            kind = MARKET if random.random() < 0.03 else LIMIT
            side = BID if random.random() < 0.5 else ASK
            stp, reduce_only = int(random.integers(1, 5)), int(random.random() < 0.1)
            pair.submit(instrument, account, side, kind, tif, stp, reduce_only, price, qty)
        else:
            owner = pair.naive.open.get(pair.ids[pick] >> state.SLOT_BITS)
            if owner:
                account, instrument = owner.account_id, owner.instrument_id
            if draw < 0.9:
                pair.cancel(pick, account, instrument)
            elif draw < 0.995:
                pair.amend(pick, account, instrument, price, qty)
            else:
                pair.cancel_all(account, instrument)
    pair.check_whole()

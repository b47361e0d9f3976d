"""Our orders on a recorded book: queues, trades through, walking takers."""

import pytest

from common.enums import OrderType, Side, TimeInForce
from processes.venue.engine import EventKind, MatchStatus, Reason
from processes.venue.recorded_market import OWN_TRADE_ID_BASE, RecordedMarket

BID, ASK = Side.BID.value, Side.ASK.value
GTC, IOC, FOK, GTX = (t.value for t in TimeInForce)


@pytest.fixture
def market():
    """Bids 100 x 10, 99 x 20; asks 102 x 10, 103 x 20."""
    made = RecordedMarket(1, 4)
    made.books[0].replace([(100, 10), (99, 20)], [(102, 10), (103, 20)], 7)
    return made


def submit(market, side, price, qty, tif=GTC, account=2, reduce_only=False, is_market=False):
    kind = OrderType.MARKET.value if is_market else OrderType.LIMIT.value
    return market.submit(0, account, side, kind, tif, 1, reduce_only, price, qty)


def fills(rows):
    return [(row[5], row[6]) for row in rows if row[0] == EventKind.TRADE]


def test_resting_order_waits_for_the_queue_ahead(market):
    _, order_id, rows = submit(market, BID, 100, 5)
    assert [row[0] for row in rows] == [EventKind.NEW]
    assert fills(market.on_trade(0, ASK, 100, 6)) == []
    assert fills(market.on_trade(0, ASK, 100, 6)) == [(100, 2)]  # 10 ahead, 12 traded
    rows = market.on_trade(0, ASK, 100, 50)
    assert fills(rows) == [(100, 3)]
    assert rows[0][3] == 1 and rows[0][10] == order_id
    assert market.orders == {}
    assert market.positions[2][0] == 5


def test_trade_through_the_price_fills_whole_at_the_orders_price(market):
    submit(market, BID, 100, 5)
    assert fills(market.on_trade(0, ASK, 99, 1)) == [(100, 5)]


def test_trades_of_the_other_side_or_away_from_the_price_do_nothing(market):
    submit(market, BID, 100, 5)
    assert market.on_trade(0, BID, 102, 50) == []
    assert market.on_trade(0, ASK, 101, 50) == []


def test_queue_is_never_longer_than_the_level_shows(market):
    submit(market, BID, 100, 5)
    market.on_levels(0, BID, [(100, 3)])
    market.on_levels(0, BID, [(100, 40)])  # who comes later stands behind
    assert fills(market.on_trade(0, ASK, 100, 4)) == [(100, 1)]


def test_one_trade_is_not_given_away_twice(market):
    submit(market, BID, 100, 5, account=2)
    submit(market, BID, 100, 5, account=3)
    rows = market.on_trade(0, ASK, 100, 17)
    assert fills(rows) == [(100, 5), (100, 2)]
    assert [row[12] for row in rows] == [2, 3]


def test_price_inside_the_spread_has_no_queue(market):
    submit(market, BID, 101, 5)
    assert fills(market.on_trade(0, ASK, 101, 2)) == [(101, 2)]


def test_taker_walks_the_levels_and_they_stay_taken(market):
    _, _, rows = submit(market, BID, 103, 15)
    assert fills(rows) == [(102, 10), (103, 5)]
    _, _, rows = submit(market, BID, 103, 30, tif=IOC)
    assert fills(rows) == [(103, 15)]
    assert (rows[-1][0], rows[-1][2], rows[-1][7]) == (EventKind.EXPIRED, Reason.IOC, 15)
    market.on_levels(0, ASK, [(102, 4)])
    _, _, rows = submit(market, BID, 102, 5, tif=IOC)
    assert fills(rows) == [(102, 4)]


def test_market_order_expires_with_its_own_reason(market):
    _, _, rows = submit(market, ASK, 100, 15, is_market=True)
    assert fills(rows) == [(100, 10)]
    assert (rows[-1][0], rows[-1][2]) == (EventKind.EXPIRED, Reason.MARKET)
    assert market.positions[2][0] == -10


def test_post_only_and_fok_are_refused(market):
    assert submit(market, BID, 102, 5, tif=GTX)[0] == MatchStatus.POST_ONLY
    assert submit(market, BID, 102, 11, tif=FOK)[0] == MatchStatus.FOK
    assert submit(market, BID, 102, 10, tif=FOK)[0] == MatchStatus.OK
    assert submit(market, BID, 101, 5, tif=GTX)[0] == MatchStatus.OK


def test_reduce_only_follows_the_position(market):
    assert submit(market, ASK, 105, 5, reduce_only=True)[0] == MatchStatus.REDUCE_ONLY
    submit(market, BID, 102, 4)
    _, _, rows = submit(market, ASK, 105, 9, reduce_only=True)
    assert rows[0][6] == 4
    submit(market, ASK, 100, 4)  # flat again
    rows = market.on_trade(0, BID, 106, 1)
    assert [(row[0], row[2]) for row in rows] == [(EventKind.EXPIRED, Reason.REDUCE_ONLY)]


def test_cancel_and_amend(market):
    _, order_id, _ = submit(market, BID, 100, 5)
    assert market.cancel(0, 3, order_id)[0] == MatchStatus.UNKNOWN_ORDER
    assert market.amend(0, 2, order_id, 100, 5)[0] == MatchStatus.NOT_CHANGED
    market.on_trade(0, ASK, 100, 12)  # 2 filled
    status, rows = market.amend(0, 2, order_id, 99, 6)
    assert (status, rows[0][0], rows[0][5:8]) == (MatchStatus.OK, EventKind.AMENDED, (99, 6, 4))
    assert fills(market.on_trade(0, ASK, 99, 20)) == []  # back of the new queue
    status, rows = market.amend(0, 2, order_id, 102, 6)
    assert fills(rows)[0] == (102, 4)
    assert market.cancel(0, 2, order_id)[0] == MatchStatus.UNKNOWN_ORDER


@pytest.mark.parametrize(
    ("tif", "price", "qty", "reason"),
    [(GTX, 102, 9, Reason.AMEND_POST_ONLY), (GTC, 100, 2, Reason.AMEND_QTY)],
)
def test_amendments_that_cancel(market, tif, price, qty, reason):
    _, order_id, _ = submit(market, BID, 100, 5, tif=tif)
    market.on_trade(0, ASK, 100, 12)
    status, rows = market.amend(0, 2, order_id, price, qty)
    assert (status, rows[0][0], rows[0][2]) == (MatchStatus.OK, EventKind.CANCELED, reason)
    assert market.orders == {}


def test_trade_ids_grow(market):
    submit(market, BID, 102, 5)
    submit(market, BID, 101, 5)
    rows = submit(market, ASK, 100, 1)[2] + market.on_trade(0, ASK, 101, 5)
    ids = [row[8] for row in rows if row[0] == EventKind.TRADE]
    assert ids == [OWN_TRADE_ID_BASE + 2, OWN_TRADE_ID_BASE + 3]


def test_views_of_the_book(market):
    assert market.best(0) == (100, 10, 102, 10)
    assert market.depth(0, 1) == ([(100, 10)], [(102, 10)])
    assert market.last_update_id(0) == 7
    market.on_levels(0, ASK, [(102, 0), (103, 0)])
    assert market.best(0) == (100, 10, 0, 0)

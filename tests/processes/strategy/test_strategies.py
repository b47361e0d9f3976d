import pytest

from common.enums import ExecType, OrderType, Reject, RequestKind, Side, TimeInForce
from processes.risk.limits import check_filters
from processes.strategy.market_maker import MarketMaker
from processes.strategy.ping_pong import PingPong

from tests.processes.strategy.harness import Harness

MAKER = {
    "edge_bps": 1.0,
    "skew_bps": 2.0,
    "smoothing": 1.0,
    "requote_bps": 0.5,
    "clip_notional": 10_000_000.0,
    "position_clips_max": 2,
    "stale_ns_max": 1_000_000,
}
# Equal quantities: the microprice is the mid, 1,000,000 steps; one basis point is 100 steps.
BIDS, ASKS = [(999_900, 5)], [(1_000_100, 5)]


def maker(positions=(0, 0), **params):
    h = Harness(MarketMaker, {**MAKER, **params})
    h.ready(positions)
    return h


def shown(intents):
    return sorted(
        (int(i["kind"]), int(i["side"]), int(i["price_steps"]), int(i["order_qty_steps"]))
        for i in intents
    )


def test_market_maker_quotes_one_edge_away_on_both_sides():
    h = maker()
    h.book(0, BIDS, ASKS)
    intents = h.turn()
    assert shown(intents) == [
        (RequestKind.NEW, Side.ASK, 1_000_100, 10),
        (RequestKind.NEW, Side.BID, 999_900, 10),
    ]
    assert {int(i["time_in_force"]) for i in intents} == {TimeInForce.GTX}


def test_market_maker_leans_against_its_position():
    h = maker(positions=(10, 0))  # one clip long: the middle is 2 bps = 200 steps lower
    h.book(0, BIDS, ASKS)
    assert shown(h.turn()) == [
        (RequestKind.NEW, Side.ASK, 999_901, 10),
        (RequestKind.NEW, Side.BID, 999_700, 10),
    ]


@pytest.mark.parametrize(("position", "side"), [(20, Side.ASK), (-20, Side.BID)])
def test_market_maker_pulls_the_side_that_would_exceed_its_room(position, side):
    h = maker(positions=(position, 0))
    h.book(0, BIDS, ASKS)
    assert {int(i["side"]) for i in h.turn()} == {side}


def test_market_maker_keeps_its_place_for_a_small_move_and_follows_a_large_one():
    h = maker()
    h.book(0, BIDS, ASKS)
    for intent in h.turn():
        h.answer(intent)
    h.book(0, [(999_920, 5)], [(1_000_120, 5)])  # 0.2 bps
    assert len(h.turn()) == 0
    h.book(0, [(1_000_900, 5)], [(1_001_100, 5)])  # 10 bps
    assert {kind for kind, *_ in shown(h.turn())} == {RequestKind.REPLACE}


def test_market_maker_does_not_ask_again_for_what_was_filled_beyond_its_room():
    """A filled part leaves room for 4 of the clip of 10; the engine alone would top it up."""
    h = maker(positions=(10, 0))
    h.book(0, BIDS, ASKS)
    (intent,) = [one for one in h.turn() if one["side"] == Side.BID]
    h.answer(intent)
    h.turn()
    h.answer(intent, exec_type=ExecType.TRADE, cum_qty_steps=6, position_steps=16)
    assert len(h.turn()) == 0


def test_market_maker_pulls_both_sides_of_an_invalid_and_of_a_stale_book():
    for invalid in (True, False):
        h = maker()
        h.book(0, BIDS, ASKS)
        for intent in h.turn():
            h.answer(intent)
        h.turn()
        if invalid:
            h.book(0, [], [], invalid=True)
        intents = h.turn(advance_ns=1 if invalid else 3_000_000)
        assert shown(intents) == [
            (RequestKind.CANCEL, Side.ASK, 0, 0),
            (RequestKind.CANCEL, Side.BID, 0, 0),
        ]


def test_ping_pong_buys_when_flat_and_sells_when_long():
    h = Harness(PingPong, {"qty_steps": 3, "period_ns": 100, "slippage_steps": 2})
    h.ready((0, 5))
    h.book(0, BIDS, ASKS)
    h.book(1, BIDS, ASKS)
    assert len(h.turn()) == 0
    intents = h.turn(advance_ns=200)
    assert shown(intents) == [
        (RequestKind.NEW, Side.ASK, 999_898, 3),
        (RequestKind.NEW, Side.BID, 1_000_102, 3),
    ]
    assert {(int(i["order_type"]), int(i["time_in_force"])) for i in intents} == {
        (OrderType.LIMIT, TimeInForce.IOC)
    }


def test_ping_pong_sells_what_a_part_fill_left_below_the_least_notional():
    h = Harness(PingPong, {"qty_steps": 3, "period_ns": 100, "slippage_steps": 2})
    h.d.instruments["max_qty_steps"] = 100
    h.d.instruments["min_notional_steps2"] = 2 * 999_898
    h.ready((0, 1))
    for i in range(2):
        h.book(i, BIDS, ASKS)
    h.turn()
    intents = h.turn(advance_ns=200)
    assert shown(intents)[0] == (RequestKind.NEW, Side.ASK, 999_898, 1)
    for intent in intents:
        terms = [int(intent[name]) for name in ("price_steps", "order_qty_steps", "reduce_only")]
        assert terms[2] == (intent["side"] == Side.ASK)
        assert check_filters.py_func(h.d.instruments[0], *terms) == Reject.NONE
    assert check_filters.py_func(h.d.instruments[0], 999_898, 1, 0) == Reject.MIN_NOTIONAL

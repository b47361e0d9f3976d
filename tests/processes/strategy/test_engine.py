import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.enums import ExecType, OrderStatus, OrderType, Reject, RequestKind, Side, TimeInForce
from processes.strategy import verbs
from processes.strategy.api import strategy

from tests.processes.strategy.harness import Harness

BIDS, ASKS = [(100, 5), (99, 7)], [(101, 3), (102, 9)]


@strategy(params={"unused": "<i8"}, state={"books": "<i8", "trades": "<i8", "gaps": "<i8"})
class Recorder:
    """Counts what it is shown."""

    def on_start(s, p, d):
        verbs.set_timer(d, 3, verbs.now_ns(d) + 100)

    def on_book(s, p, d, i):
        s["books"] += 1

    def on_gap(s, p, d, i):
        s["gaps"] += 1

    def on_timer(s, p, d, timer_id):
        s["trades"] = timer_id


def new_harness():
    return Harness(Recorder, {"unused": 0})


def state_of(harness):
    return harness.block["state"][0][0]


def test_book_message_fills_the_desk():
    h = new_harness()
    h.book(1, BIDS, ASKS)
    h.turn()
    book = h.d.books[1]
    assert state_of(h)["books"] == 1
    assert list(book["bid_price_steps"][:3]) == [100, 99, 0]
    assert list(book["ask_qty_steps"][:3]) == [3, 9, 0]
    assert book["valid"] == 1
    assert verbs.mid(h.d.books[1:2][0]) == 100.5


def test_invalid_book_and_gap_make_it_untradable():
    h = new_harness()
    h.ready()
    h.book(0, BIDS, ASKS)
    h.turn()
    assert verbs.is_tradable(h.d, 0)
    h.book(0, [], [], invalid=True)
    h.turn()
    assert not verbs.is_tradable(h.d, 0)


def test_timer_fires_once_when_due():
    h = new_harness()
    h.turn()
    assert state_of(h)["trades"] == 0
    h.turn(advance_ns=99)
    assert state_of(h)["trades"] == 0
    h.turn()
    assert state_of(h)["trades"] == 3
    assert h.d.timers[3] == 0


def new_order(h, side=Side.BID, price=100, qty=5):
    h.d.words[5] = 0
    return verbs.send(h.d, 0, side, OrderType.LIMIT, TimeInForce.GTC, price, qty, 0)


def test_verbs_refuse_before_ready():
    h = new_harness()
    assert new_order(h) == -Reject.NOT_READY


def test_a_handle_of_a_reused_slot_is_refused():
    h = new_harness()
    h.ready()
    h.turn()
    first = new_order(h)
    intent = h.intents[0].copy()
    h.answer(intent)
    h.answer(intent, exec_type=ExecType.TRADE, order_status=OrderStatus.FILLED, cum_qty_steps=5)
    h.turn()
    second = new_order(h)
    assert first != second
    assert verbs.cancel(h.d, first) == -Reject.HANDLE
    assert verbs.cancel(h.d, second) == -Reject.IN_FLIGHT


def test_replace_must_leave_something_open():
    h = new_harness()
    h.ready()
    h.turn()
    handle = new_order(h)
    h.answer(h.intents[0].copy(), order_status=OrderStatus.PARTIALLY_FILLED, cum_qty_steps=2)
    h.turn()
    assert verbs.replace(h.d, handle, 101, 2) == -Reject.BAD_REQUEST
    assert verbs.replace(h.d, handle, 101, 3) == 0


def test_intents_are_bounded_per_turn():
    h = new_harness()
    h.ready()
    h.turn()
    results = [
        verbs.send(h.d, 0, Side.BID, OrderType.LIMIT, TimeInForce.GTC, 100, 1, 0)
        for _ in range(200)
    ]
    assert sum(r > 0 for r in results) == 64
    assert results[-1] == -Reject.NO_SLOT


@pytest.mark.parametrize("status", [OrderStatus.FILLED, OrderStatus.REJECTED, OrderStatus.EXPIRED])
def test_a_quote_that_ended_unasked_waits_for_the_strategy(status):
    h = new_harness()
    h.ready()
    h.turn()
    verbs.quote(h.d, 0, Side.BID, 100, 5)
    h.answer(h.intents[0].copy(), order_status=status, leaves_qty_steps=0)
    assert len(h.turn()) == 0
    h.d.words[5] = 0
    verbs.quote(h.d, 0, Side.BID, 100, 5)
    assert h.d.words[5] == 1


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("quote"), st.integers(95, 105), st.integers(0, 4)),
        st.tuples(st.just("answer"), st.sampled_from(["accept", "reject", "fill"]), st.none()),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_quote_keeps_one_request_in_flight_and_ends_as_wanted(steps):
    """Whatever is quoted and answered in whatever order, no second request is sent meanwhile."""
    h = new_harness()
    h.ready()
    h.turn()
    in_flight = []

    def collect(intents):
        in_flight.extend(intents)
        assert len(in_flight) <= 1

    def answer(how):
        intent = in_flight.pop()
        if how == "accept":
            h.answer(intent)
        elif intent["kind"] == RequestKind.NEW:
            status = OrderStatus.REJECTED if how == "reject" else OrderStatus.FILLED
            h.answer(intent, exec_type=ExecType.REJECTED, order_status=status, leaves_qty_steps=0)
        elif how == "reject":
            kind = ExecType.REPLACE_REJECTED
            if intent["kind"] == RequestKind.CANCEL:
                kind = ExecType.CANCEL_REJECTED
            order = h.d.orders[int(intent["order_slot"])]
            prices = {n: int(order[n]) for n in ("price_steps", "order_qty_steps")}
            h.answer(intent, exec_type=kind, order_status=OrderStatus.NEW, **prices)
        else:
            h.answer(intent, order_status=OrderStatus.FILLED, leaves_qty_steps=0)
        collect(h.turn())

    for kind, value, qty in steps:
        if kind == "quote":
            h.d.words[5] = 0
            verbs.quote(h.d, 0, Side.BID, value, qty)
            collect(h.intents[: h.d.words[5]].copy())
        elif in_flight:
            answer(value)
    for _ in range(4):
        if in_flight:
            answer("accept")
    assert not in_flight
    h.d.words[5] = 0
    verbs.quote(h.d, 0, Side.BID, 99, 3)
    collect(h.intents[: h.d.words[5]].copy())
    while in_flight:
        answer("accept")
    (live,) = h.d.orders[h.d.orders["client_order_id"] != 0]
    assert live["price_steps"] == 99
    assert live["order_qty_steps"] - live["cum_qty_steps"] == 3


def test_intents_carry_the_hops_of_the_event_that_caused_them():
    @strategy(params={}, state={"x": "<i8"})
    class Taker:
        def on_book(s, p, d, i):
            verbs.send(d, i, Side.BID, OrderType.LIMIT, TimeInForce.IOC, 101, 1, 0)

    h = Harness(Taker, {})
    h.ready()
    h.turn()
    h.book(0, BIDS, ASKS, ts_recv_ns=900)
    (intent,) = h.turn()
    assert intent["ts_recv_ns"] == 900
    assert intent["recv_to_book_ns"] == 5
    assert intent["book_to_strategy_ns"] == h.now - 905
    assert np.all(intent["reserved_2"] == 0)


def test_take_is_bounded_around_the_touch_and_waits_for_what_is_live():
    """Tick 5, lot 2: 20 bps of 10,001 are 20 steps."""
    h = new_harness()
    h.d.instruments["tick_size_steps"], h.d.instruments["lot_size_steps"] = 5, 2
    h.ready()
    h.book(0, [(9_990, 5)], [(10_000, 5)])
    h.turn()
    h.d.words[5] = 0
    assert verbs.take(h.d, 0, Side.BID, 7, 20.9, 0) > 0
    assert verbs.take(h.d, 0, Side.BID, 7, 20.9, 0) == -Reject.IN_FLIGHT
    intent = h.intents[0].copy()
    assert (intent["price_steps"], intent["order_qty_steps"]) == (10_020, 6)
    assert (intent["order_type"], intent["time_in_force"]) == (OrderType.LIMIT, TimeInForce.IOC)
    h.answer(intent, order_status=OrderStatus.EXPIRED, leaves_qty_steps=0)
    h.turn()
    assert verbs.find_live_order(h.d, 0) == -1
    assert verbs.take(h.d, 0, Side.ASK, 1, 0.0, 0) == -Reject.BAD_REQUEST  # less than a lot
    assert verbs.take(h.d, 1, Side.ASK, 2, 0.0, 0) == -Reject.BAD_REQUEST  # no book


@pytest.mark.parametrize(("held", "side", "price"), [(9, Side.ASK, 90), (-9, Side.BID, 111)])
def test_take_out_sells_what_is_long_and_buys_what_is_short(held, side, price):
    h = new_harness()
    h.ready((held, 0))
    h.book(0, BIDS, ASKS)
    h.turn()
    h.d.words[5] = 0
    assert verbs.take_out(h.d, 0, 1_000.0) > 0
    intent = h.intents[0]
    assert (intent["side"], intent["price_steps"]) == (side, price)
    assert (intent["order_qty_steps"], intent["reduce_only"]) == (9, 1)
    assert verbs.find_live_order(h.d, 0) == intent["order_slot"]
    assert verbs.find_live_order(h.d, 1) == -1
    assert verbs.take_out(h.d, 1, 1.0) == -Reject.BAD_REQUEST


@pytest.mark.parametrize(
    ("notional", "price", "expected"),
    [(1_500.0, 617_000.0, 24), (10.0, 617_000.0, 2), (0.0, 1.0, 2), (1e300, 1e-3, 10**15)],
)
def test_a_clip_is_whole_lots_and_at_least_one(notional, price, expected):
    """BTCUSDT: prices in 0.1, quantities in 0.001; here in lots of 2."""
    h = new_harness()
    row = h.d.instruments[0:1]
    row["price_grid_decimals"], row["qty_grid_decimals"], row["lot_size_steps"] = 1, 3, 2
    assert verbs.clip_steps(h.d, 0, notional, price) == expected


def test_least_notional_and_freshness():
    h = new_harness()
    h.d.instruments["min_notional_steps2"] = 500
    assert verbs.is_enough(h.d, 0, 100, 5)
    assert not verbs.is_enough(h.d, 0, 100, 4)
    h.book(0, BIDS, ASKS, ts_recv_ns=900)
    h.turn()
    assert not verbs.is_fresh(h.d, 0, 1_000)  # risk is not ready
    h.ready()
    h.turn(advance_ns=99)
    assert verbs.is_fresh(h.d, 0, h.now - 900)
    assert not verbs.is_fresh(h.d, 0, h.now - 901)

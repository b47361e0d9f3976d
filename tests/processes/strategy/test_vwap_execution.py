import pytest

from common.enums import ExecType, OrderStatus, Side, TimeInForce
from processes.strategy.vwap_execution import VwapExecution, share_due

from tests.processes.strategy.harness import Harness

# 100 lots at 1,000 steps, in children of 5; a slice each 100 ns, 80 of them; weights sum to 20.
CURVE = [4, 3, 2, 1, 1, 2, 3, 4]
PARAMS = {
    "side": 1,
    "parent_notional": 100_000.0,
    "child_notional": 5_000.0,
    "horizon_ns": 8_000,
    "slice_ns": 100,
    "participation_max": 0.5,
    **{f"curve_{k}": weight for k, weight in enumerate(CURVE)},
    "slippage_bps": 100.0,
    "stale_ns_max": 5_000,
}


def started(position=0, **params):
    """Begin the parent at h.start with the book 999 / 1,001, and a market that is large enough."""
    h = Harness(VwapExecution, {**PARAMS, **params})
    h.ready((position, 0))
    h.turn()
    h.book(0, [(999, 50)], [(1_001, 50)])
    assert len(h.turn(advance_ns=100)) == 0
    h.start = h.now
    h.trade(0, 1_000, 10_000)
    h.turn()
    return h


def at(h, elapsed_ns, fresh=True):
    """Go to this time since the beginning; return the intents of that turn."""
    h.now = h.start + elapsed_ns - 1
    if fresh:
        h.book(0, [(999, 50)], [(1_001, 50)])
    return h.turn()


def fill(h, intent, qty=None):
    """Fill an IOC child, in part if told, and let its rest expire."""
    asked = int(intent["order_qty_steps"])
    qty = asked if qty is None else qty
    is_whole = qty == asked
    h.answer(
        intent,
        exec_type=ExecType.TRADE if is_whole else ExecType.EXPIRED,
        order_status=OrderStatus.FILLED if is_whole else OrderStatus.EXPIRED,
        cum_qty_steps=qty,
        leaves_qty_steps=0,
        position_steps=int(h.d.position[0]) + int(intent["side"]) * qty,
    )


def test_the_share_due_is_the_curve():
    h = started()
    expected = [sum(CURVE[:k]) / sum(CURVE) for k in range(9)]
    assert [share_due(h.params[0], 1_000 * k) for k in range(9)] == expected
    assert share_due(h.params[0], 500) == 0.5 * CURVE[0] / sum(CURVE)
    assert share_due(h.params[0], 10**15) == 1.0


@pytest.mark.parametrize(("side", "price"), [(Side.BID, 1_011), (Side.ASK, 990)])
def test_a_child_is_sent_as_soon_as_one_is_due(side, price):
    """20 lots fall due in the first part: one lot each 50 ns, a child of 5 at 250."""
    h = started(side=int(side))
    assert len(at(h, 200)) == 0
    (intent,) = at(h, 300)
    assert (int(intent["side"]), int(intent["price_steps"])) == (side, price)
    assert (int(intent["order_qty_steps"]), int(intent["time_in_force"])) == (5, TimeInForce.IOC)


def test_the_whole_parent_is_worked_along_the_curve_and_never_exceeded():
    h = started(position=-30)
    done = 0
    for elapsed in range(100, 12_000, 100):
        intents = at(h, elapsed)
        for intent in intents:
            done += int(intent["order_qty_steps"])
            fill(h, intent)
        due = 100 * share_due(h.params[0], elapsed)
        assert due - 10 <= done <= due or done == 100  # one slice and one child behind at most
    assert done == 100
    h.turn()
    assert h.d.position[0] == 70


def test_participation_holds_it_back_and_the_rest_is_worked_behind_the_horizon():
    h = started(participation_max=0.001)  # of 10,000 traded: 10 lots
    sent = 0
    for elapsed in range(100, 9_000, 100):
        for intent in at(h, elapsed):
            sent += 1
            fill(h, intent)
    assert sent == 2
    h.trade(0, 1_000, 10_000)
    assert len(at(h, 9_100)) == 1


def test_part_fills_and_refusals_stay_due_and_one_order_is_live_at_a_time():
    h = started()
    (intent,) = at(h, 1_000)
    assert len(at(h, 1_100)) == 0  # in flight
    fill(h, intent, qty=2)
    (intent,) = at(h, 1_200)
    h.answer(intent, exec_type=ExecType.REJECTED, order_status=OrderStatus.REJECTED)
    (intent,) = at(h, 1_300)
    assert int(intent["order_qty_steps"]) == 5


def test_a_last_rest_too_small_for_the_venue_goes_with_the_last_child():
    h = started(parent_notional=17_000.0)
    h.d.instruments["min_notional_steps2"] = 4_000
    sizes = []
    for elapsed in range(100, 9_000, 100):
        for intent in at(h, elapsed):
            sizes.append(int(intent["order_qty_steps"]))
            fill(h, intent)
    assert sizes == [5, 5, 7]


def test_nothing_on_a_stale_or_invalid_book_nor_before_ready_nor_for_side_0():
    h = started()
    assert len(at(h, 7_000, fresh=False)) == 0
    h.book(0, [], [], invalid=True)
    assert len(h.turn(advance_ns=100)) == 0
    assert len(at(h, 7_300)) == 1
    h = started(side=0)
    assert len(at(h, 5_000)) == 0
    h = Harness(VwapExecution, PARAMS)
    h.book(0, [(999, 50)], [(1_001, 50)])
    h.turn()
    h.turn(advance_ns=100)
    assert h.block["state"][0][0]["ts_start_ns"][0] == 0


def test_each_instrument_has_its_parent():
    h = started()
    h.book(1, [(499, 50)], [(501, 50)])
    h.turn(advance_ns=100)
    assert list(h.block["state"][0][0]["parent_steps"][:2]) == [100, 200]
    h.trade(1, 500, 10_000)
    intents = at(h, 3_000)
    h.book(1, [(499, 50)], [(501, 50)])
    assert [int(one["instrument_id"]) for one in intents] == [0, 1]

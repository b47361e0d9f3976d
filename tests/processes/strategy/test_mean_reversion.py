import statistics

import pytest

from common.enums import ExecType, OrderStatus, RequestKind, Side, TimeInForce
from processes.strategy.mean_reversion import MeanReversion

from tests.processes.strategy.harness import Harness, begun
from tests.processes.strategy.harness import shown as fields_of

# Four samples, one each 100 ns. One clip is 10 steps, the position at most two.
PARAMS = {
    "samples": 4,
    "sample_ns": 100,
    "entry_z": 1.5,
    "exit_z": 0.5,
    "maker_fee_bps": 1.0,
    "slippage_bps": 1.0,
    "clip_notional": 1_000_000.0,
    "position_clips_max": 2,
    "pause_ns": 300,
    "stale_ns_max": 5_000,
}
STEADY = [100_000, 100_000, 100_000]
BUY = (RequestKind.NEW, Side.BID, 99_899, 10)


def started(position=0):
    return begun(MeanReversion, PARAMS, position)


def see(h, *mids, i=0):
    """Show books around these mids, one a sample; return the intents of the last."""
    return h.see(*mids, i=i, advance_ns=100)


def shown(intents):
    return fields_of(intents, ("kind", "side", "price_steps", "order_qty_steps"))


def test_z_is_the_textbooks():
    h = started()
    mids = [100_000, 100_030, 99_990, 100_080, 100_010, 99_700]
    see(h, *mids)
    window = mids[-4:]
    z = (window[-1] - statistics.fmean(window)) / statistics.pstdev(window)
    state = h.block["state"][0][0]
    assert state["z"][0] == pytest.approx(z, rel=1e-12)
    deviation = (window[-1] / statistics.fmean(window) - 1) * 10_000
    assert state["deviation_bps"][0] == pytest.approx(deviation, rel=1e-9)


@pytest.mark.parametrize(
    ("mid", "expected"),
    [
        (99_900, [BUY]),  # three equal and one apart: z is the root of three
        (100_100, [(RequestKind.NEW, Side.ASK, 100_101, 9)]),
        (99_980, []),  # 1.5 bps from the mean that it has drawn down
        (100_000, []),  # no spread at all: z is 0
    ],
)
def test_a_clip_at_the_touch_against_a_move_that_pays_the_fees(mid, expected):
    h = started()
    intents = see(h, *STEADY, mid)
    expected = [(*row[:3], 10 if row[1] == Side.BID else 9) for row in expected]
    assert shown(intents) == expected
    assert all(int(one["time_in_force"]) == TimeInForce.GTX for one in intents)


@pytest.mark.parametrize(
    ("position", "mid", "expected"),
    [
        (15, 99_900, [(RequestKind.NEW, Side.BID, 99_899, 5)]),
        (20, 99_900, []),
        (25, 99_900, []),
        (25, 100_000, [(RequestKind.NEW, Side.ASK, 100_001, 10)]),
        (4, 100_000, [(RequestKind.NEW, Side.ASK, 100_001, 4)]),
        (-4, 100_000, [(RequestKind.NEW, Side.BID, 99_999, 4)]),
    ],
)
def test_the_position_is_bounded_and_worked_out_near_the_mean(position, mid, expected):
    h = started()
    see(h, *STEADY)
    h.d.position[0] = position
    assert shown(see(h, mid)) == expected


def test_one_order_stands_moves_with_the_touch_and_is_pulled_when_the_price_is_back():
    h = started()
    (intent,) = see(h, *STEADY, 99_900)
    assert len(see(h, 99_500)) == 0  # in flight
    h.answer(intent)
    (intent,) = h.turn()  # what was wanted meanwhile
    assert shown([intent]) == [(RequestKind.REPLACE, Side.BID, 99_499, 10)]
    h.answer(intent)
    h.turn()
    (intent,) = see(h, 100_000)
    assert shown([intent]) == [(RequestKind.CANCEL, Side.BID, 0, 0)]
    assert len(see(h, 101_000)) == 0  # a sale is wanted: not before the purchase is gone
    h.answer(intent)
    assert shown(h.turn()) == [(RequestKind.NEW, Side.ASK, 101_001, 9)]


@pytest.mark.parametrize(
    ("position", "expected"),
    [(16, []), (18, [(RequestKind.REPLACE, Side.BID, 99_899, 6 + 2)])],
)
def test_what_was_filled_is_not_bought_again_beyond_the_limit(position, expected):
    """Room for 20: with 16 held the open rest of 4 stays as it is, with 18 it shrinks to 2."""
    h = started()
    (intent,) = see(h, *STEADY, 99_900)
    h.answer(intent)
    h.turn()
    part = {"exec_type": ExecType.TRADE, "order_status": OrderStatus.PARTIALLY_FILLED}
    h.answer(intent, **part, cum_qty_steps=6, leaves_qty_steps=4, position_steps=position)
    assert shown(h.turn()) == expected


def test_a_refusal_is_followed_by_a_pause():
    h = started()
    (intent,) = see(h, *STEADY, 99_900)
    h.answer(intent, exec_type=ExecType.EXPIRED, order_status=OrderStatus.EXPIRED)
    assert len(see(h, 99_500, 99_000)) == 0
    assert len(see(h, 98_000, 90_000)) == 1


def test_a_rest_below_the_least_notional_is_taken_out():
    h = started()
    h.d.instruments["min_notional_steps2"] = 500_000
    see(h, *STEADY)
    h.d.position[0] = 4
    (intent,) = see(h, 100_000)
    assert shown([intent]) == [(RequestKind.NEW, Side.ASK, 99_999 - 9, 4)]
    assert (int(intent["time_in_force"]), int(intent["reduce_only"])) == (TimeInForce.IOC, 1)


def quoting():
    h = started()
    (intent,) = see(h, *STEADY, 99_900)
    h.answer(intent)
    h.turn()
    return h


@pytest.mark.parametrize("how", ["invalid", "gap", "stale"])
def test_the_order_is_pulled_from_a_book_that_cannot_be_trusted(how):
    h = quoting()
    if how == "invalid":
        h.book(0, [], [], invalid=True)
    elif how == "gap":
        h.gap(-1)
    intents = h.turn(advance_ns=10_000 if how == "stale" else 1)
    assert shown(intents) == [(RequestKind.CANCEL, Side.BID, 0, 0)]


def test_the_window_begins_anew_after_a_silence_and_a_position_is_worked_out_meanwhile():
    h = started()
    see(h, *STEADY)
    h.now += 6_000
    assert len(see(h, 99_000, 99_000, 99_000)) == 0
    assert len(see(h, 98_000)) == 1
    h = started(position=8)
    assert shown(see(h, 100_000)) == [(RequestKind.NEW, Side.ASK, 100_001, 8)]


def test_instruments_are_apart_and_nothing_is_sent_before_ready():
    h = started()
    see(h, *STEADY)
    assert len(see(h, 99_900, i=1)) == 0
    assert len(see(h, 99_900)) == 1
    h = Harness(MeanReversion, PARAMS)
    assert len(see(h, *STEADY, 99_900)) == 0
    assert h.d.words[7] == 0

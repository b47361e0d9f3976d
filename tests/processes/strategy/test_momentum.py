import pytest

from common.enums import ExecType, OrderStatus, RequestKind, Side, TimeInForce
from processes.strategy.momentum import Momentum

from tests.processes.strategy.harness import Harness, begun, shown

# Round trip 2 bps and threshold 3: the price must move 5 bps in three ticks. One clip is 10 steps.
PARAMS = {
    "ticks": 3,
    "threshold_bps": 3.0,
    "taker_fee_bps": 1.0,
    "slippage_bps": 2.0,
    "clip_notional": 1_000_000.0,
    "pause_ns": 1_000,
    "stale_ns_max": 5_000,
}
FLAT = [100_000, 100_000, 100_000]


def started(position=0):
    return begun(Momentum, PARAMS, position)


@pytest.mark.parametrize(
    ("mid", "expected"),
    [
        (100_049, []),
        # 2 bps of the touch are 20 steps.
        (100_051, [(Side.BID, 100_052 + 20, 9, 0, TimeInForce.IOC)]),
        (99_951, []),
        (99_949, [(Side.ASK, 99_948 - 19, 10, 0, TimeInForce.IOC)]),
    ],
)
def test_one_clip_once_the_move_pays_for_both_fees_and_the_threshold(mid, expected):
    h = started()
    assert shown(h.see(*FLAT, mid)) == expected


def test_no_velocity_before_the_window_is_full():
    h = started()
    assert shown(h.see(100_000, 100_000, 100_900)) == []
    assert len(h.see(100_900)) == 1


def test_a_position_is_kept_while_the_price_runs_and_taken_out_when_it_turns():
    h = started(position=7)
    assert shown(h.see(100_000)) == [(Side.ASK, 99_980, 7, 1, TimeInForce.IOC)]  # no reason
    h = started(position=7)
    h.block["state"]["resume_ns"] = 1_100  # past the three first ticks
    h.see(100_000, 100_010, 100_020)
    h.now = 1_200
    assert shown(h.see(100_030, 100_040)) == []
    assert shown(h.see(100_020)) == [(Side.ASK, 100_019 - 20, 7, 1, TimeInForce.IOC)]


def test_one_order_at_a_time_and_a_pause_behind_each_whatever_became_of_it():
    h = started()
    (intent,) = h.see(*FLAT, 100_100)
    h.now += 2_000  # the pause is over, the order is still in flight
    assert len(h.see(100_200)) == 0
    h.answer(intent, exec_type=ExecType.REJECTED, order_status=OrderStatus.REJECTED)
    (intent,) = h.see(100_300)
    h.answer(intent, exec_type=ExecType.EXPIRED, order_status=OrderStatus.EXPIRED)
    assert len(h.see(100_400)) == 0  # within the pause
    h.now += 1_000
    assert len(h.see(100_500)) == 1


def test_a_part_filled_entry_is_kept_and_taken_out_whole():
    h = started()
    (intent,) = h.see(*FLAT, 100_100)
    partly = {"exec_type": ExecType.EXPIRED, "order_status": OrderStatus.EXPIRED}
    h.answer(intent, **partly, cum_qty_steps=4, position_steps=4)
    h.now += 2_000
    assert len(h.see(100_200, 100_300)) == 0
    assert shown(h.see(100_000)) == [(Side.ASK, 99_999 - 19, 4, 1, TimeInForce.IOC)]


def test_invalid_books_gaps_stale_books_and_other_instruments():
    h = started()
    h.see(*FLAT)
    h.book(0, [], [], invalid=True)
    h.turn()
    assert len(h.see(100_100, 100_200, 100_300)) == 0  # the window begins anew
    h.gap(-1)
    assert len(h.see(100_400, 100_500, 100_600)) == 0
    assert len(h.see(100_700, ts_recv_ns=h.now - 6_000)) == 0  # older than 5,000 ns
    assert len(h.see(*FLAT, i=1)) == 0
    (intent,) = h.see(100_100, i=1)
    assert (int(intent["instrument_id"]), int(intent["kind"])) == (1, RequestKind.NEW)


def test_nothing_before_ready():
    h = Harness(Momentum, PARAMS)
    assert len(h.see(*FLAT, 100_100)) == 0
    assert h.d.words[7] == 0  # not even a refused verb

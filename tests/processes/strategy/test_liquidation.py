import pytest

from common.enums import ExecType, OrderStatus, Side, TimeInForce
from processes.strategy.liquidation import Liquidation

from tests.processes.strategy.harness import Harness, shown

# Four ticks against an average of forty; a trade is 10 steps, the usual volume of the window 40.
PARAMS = {
    "ticks": 4,
    "velocity_bps_min": 5.0,
    "average_ticks": 40,
    "burst_ratio_min": 2.0,
    "normal_ratio_max": 1.5,
    "quiet_ns_max": 10_000,
    "slippage_bps": 1.0,
    "clip_notional": 1_000_000.0,
    "pause_ns": 100,
    "stale_ns_max": 50_000,
}
ENTRY = (Side.BID, 100_011, 10, 0, TimeInForce.IOC)


def started(position=0):
    h = Harness(Liquidation, PARAMS)
    h.ready((position, 0))
    h.book(0, [(99_999, 5)], [(100_001, 5)])
    h.turn()
    return h


def trade(h, *trades, i=0):
    """Print (price, quantity) trades, one a turn; return the intents of the last."""
    for price, qty in trades:
        h.trade(i, price, qty)
        intents = h.turn(advance_ns=10)
    return intents


def show_usual(h, count, i=0):
    for _ in range(count):
        h.trade(i, 100_000, 10)
        if h.end[2] - h.first[2] == 8:
            assert len(h.turn(advance_ns=10)) == 0
    h.turn(advance_ns=10)


def usual(h):
    show_usual(h, 40)


@pytest.mark.parametrize(
    ("price", "qty", "expected"),
    [
        (100_060, 100, [ENTRY]),
        (100_040, 100, []),  # 4 bps
        (100_060, 10, []),  # no burst
        (99_940, 100, [(Side.ASK, 99_990, 10, 0, TimeInForce.IOC)]),
    ],
)
def test_entry_needs_both_the_move_and_the_burst(price, qty, expected):
    h = started()
    usual(h)
    assert shown(trade(h, (price, qty))) == expected


def test_the_ratio_is_window_volume_by_the_usual_one():
    """30 + 100 in the window; the average is 10 + 90 / 40 = 12.25, four of it 49."""
    h = started()
    usual(h)
    h.params["burst_ratio_min"] = 130 / 49 + 1e-9
    assert len(trade(h, (100_060, 100))) == 0
    h = started()
    usual(h)
    h.params["burst_ratio_min"] = 130 / 49 - 1e-9
    assert shown(trade(h, (100_060, 100))) == [ENTRY]


def test_nothing_before_the_average_and_the_window_are_known():
    h = started()
    h.params["burst_ratio_min"] = 1.0
    show_usual(h, 38)
    assert len(trade(h, (100_500, 900))) == 0  # the 39th
    h = started()
    usual(h)
    h.gap(0)
    h.book(0, [(99_999, 5)], [(100_001, 5)])
    # The average is known, the window of five prices is not.
    assert len(trade(h, *[(100_000 + 100 * k, 100) for k in range(4)])) == 0
    assert len(trade(h, (100_500, 400))) == 1


def test_a_position_is_kept_in_the_burst_and_taken_out_when_volume_is_normal_again():
    h = started(position=6)
    h.block["state"]["resume_ns"] = 1_065  # past the trades that fill the average
    usual(h)
    assert h.now < 1_065
    assert len(trade(h, (100_000, 100), (100_000, 100), (100_000, 10), (100_000, 10))) == 0
    assert len(trade(h, (100_000, 10))) == 0  # 130 / (4 x 14.1) = 2.3
    assert shown(trade(h, (100_000, 10))) == [(Side.ASK, 99_990, 6, 1, TimeInForce.IOC)]


def test_no_trades_at_all_are_normal_too():
    h = started(position=-6)
    h.block["state"]["resume_ns"] = 1_200
    usual(h)
    h.now += 9_000
    assert len(h.turn()) == 0
    h.now += 10_000  # later than any place of the timer
    assert shown(h.turn()) == [(Side.BID, 100_011, 6, 1, TimeInForce.IOC)]


def test_one_order_at_a_time_a_pause_behind_it_and_a_fresh_book():
    h = started()
    usual(h)
    (intent,) = trade(h, (100_060, 900))
    h.now += 200
    assert len(trade(h, (100_120, 900))) == 0  # in flight
    h.answer(intent, exec_type=ExecType.REJECTED, order_status=OrderStatus.REJECTED)
    (intent,) = trade(h, (100_180, 900))
    h.answer(intent, exec_type=ExecType.EXPIRED, order_status=OrderStatus.EXPIRED)
    assert len(trade(h, (100_240, 1_500))) == 0  # in the pause
    h.now += 60_000
    assert len(trade(h, (100_300, 4_000))) == 0  # the book is stale
    h.book(0, [(100_299, 5)], [(100_301, 5)])
    assert len(trade(h, (100_360, 20_000))) == 1
    h.book(0, [], [], invalid=True)
    h.now += 200
    assert len(trade(h, (100_420, 90_000))) == 0


def test_instruments_are_apart_and_the_sums_are_exact():
    h = started()
    usual(h)
    h.book(1, [(99_999, 5)], [(100_001, 5)])
    show_usual(h, 40, i=1)
    (intent,) = trade(h, (100_060, 900), i=1)
    assert int(intent["instrument_id"]) == 1
    window = [7, 11, 13, 17]
    trade(h, *[(100_000, qty) for qty in window])
    assert h.block["state"]["burst_steps"][0, 0, 0] == sum(window)
    assert h.block["state"]["burst_steps"][0, 0, 1] == 900 + 3 * 10

"""Fills and positions: exact sums, average cost, every fill once."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.enums import ExecType, OrderStatus, ReportKind, ReportSource
from common.fixed_point import INT64_MAX
from common.records import POSITION
from processes.risk.counters import Counter
from processes.risk.oms import EVICTED_EXEC_ID
from processes.risk.positions import (
    Matched,
    apply_fill,
    match_trade_at,
    multiply_divide,
    set_base,
)
from processes.risk.rehearsal import report
from shm.ring import read_only

from tests.processes.risk.kernels import Kernels, small_oms


@settings(max_examples=300, deadline=None)
@given(st.integers(0, INT64_MAX), st.integers(1, (1 << 62) - 1), st.data())
def test_multiply_divide_is_exact(a, divisor, data):
    b = data.draw(st.integers(0, divisor))
    assert multiply_divide(a, b, divisor) == a * b // divisor


FILLS = st.lists(
    st.tuples(st.sampled_from([1, -1]), st.integers(1, 50), st.integers(1, 10_000)), max_size=40
)


@settings(max_examples=200, deadline=None)
@given(FILLS)
def test_average_cost_against_fractions(fills):
    """Cash is conserved exactly; realised profit is the exact one but for rounding per fill."""
    rows = np.zeros(1, POSITION)
    position, cost, realised, cash = 0, Fraction(0), Fraction(0), 0
    for side, qty, price in fills:
        assert apply_fill(rows[0], side, qty, price)
        cash -= side * qty * price
        if position * side >= 0:
            cost += side * qty * price
        else:
            closed = min(qty, abs(position))
            released = cost * closed / abs(position)
            realised += -side * closed * price - released
            cost += side * (qty - closed) * price - released
        position += side * qty
        row = rows[0]
        assert row["position_steps"] == position
        assert row["realized_pnl_steps2"] - row["cost_steps2"] == cash
        assert abs(row["realized_pnl_steps2"] - realised) <= len(fills)
        if position == 0:
            assert row["cost_steps2"] == 0
        else:
            assert row["cost_steps2"] * position >= 0


def test_a_fill_too_large_to_value_moves_the_position():
    rows = np.zeros(1, POSITION)
    assert not apply_fill(rows[0], 1, 1 << 40, 1 << 40)
    assert rows[0]["position_steps"] == 1 << 40
    assert rows[0]["cost_steps2"] == 0


def fill(kernels: Kernels, exec_id: int, **fields: int) -> None:
    values = {
        "exec_type": ExecType.TRADE,
        "order_status": OrderStatus.FILLED,
        "source": ReportSource.STREAM,
        "exec_id": exec_id,
        "venue_order_id": 5,
        "side": 1,
        "last_qty_steps": 1,
        "last_px_steps": 10,
    }
    kernels.report(0, **values | fields)


def test_fills_older_than_the_memory_are_not_booked_again():
    kernels = Kernels(small_oms(fills=64))
    for exec_id in range(1, 101):
        fill(kernels, exec_id)
    assert kernels.position["position_steps"] == 100
    assert kernels.oms.marks[0, EVICTED_EXEC_ID] == 36
    fill(kernels, 100)
    fill(kernels, 20)
    assert kernels.position["position_steps"] == 100
    assert kernels.oms.counters[Counter.FILLS_DUPLICATE] == 1
    assert kernels.oms.counters[Counter.FILLS_TOO_OLD] == 1


@pytest.mark.parametrize(
    "bad", [{"exec_id": 0}, {"last_px_steps": 0}, {"side": 0}, {"side": 2}, {"exec_id": -1}]
)
def test_a_fill_that_cannot_be_told_apart_is_not_booked(bad):
    kernels = Kernels(small_oms())
    fill(kernels, **{"exec_id": 1} | bad)
    assert kernels.position["position_steps"] == 0
    assert kernels.oms.counters[Counter.REPORTS_BAD] == 1


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Matched.SAME),
        ({"last_qty_steps": 2}, Matched.DIFFERENT),
        ({"last_px_steps": 11}, Matched.DIFFERENT),
        ({"side": -1}, Matched.DIFFERENT),
        ({"fee_e8": 1}, Matched.DIFFERENT),
        ({"exec_id": 8}, Matched.MISSED),
        ({"venue_order_id": 6}, Matched.MISSED),
    ],
)
def test_account_trades_are_compared_field_by_field(changes, expected):
    kernels = Kernels(small_oms())
    fill(kernels, 7)
    fields = {"exec_id": 7, "venue_order_id": 5, "side": 1, "last_qty_steps": 1}
    fields |= {"last_px_steps": 10, "instrument_id": 0} | changes
    trade = report(ReportKind.ACCOUNT_TRADE, **fields)
    assert match_trade_at(kernels.oms, read_only(trade), 0, 3) == expected


def test_the_base_is_what_fills_do_not_explain():
    kernels = Kernels(small_oms())
    fill(kernels, 1, last_qty_steps=4)
    set_base(kernels.oms, 0, 10, 10_050_000_000)  # entry price 100.5 = 1,005 steps
    position = kernels.position
    assert (position["base_position_steps"], position["position_steps"]) == (6, 10)
    assert position["cost_steps2"] == 10 * 1_005
    kernels.check()
    set_base(kernels.oms, 0, 1 << 40, 1 << 62)
    assert kernels.position["cost_steps2"] == 0
    assert kernels.oms.counters[Counter.NOTIONAL_OVERFLOWS] == 1

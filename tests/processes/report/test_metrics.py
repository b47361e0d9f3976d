import math
from decimal import Decimal
from fractions import Fraction as F

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings

from processes.report import accounts, metrics
from processes.report.metrics import Figures, measure, measure_parts
from processes.results import Result

from tests.processes.report.made_results import (
    BTC,
    SHIB,
    S,
    made_result,
    results,
    trading_day,
)
from tests.processes.report.naive_metrics import Naive, mean_by_time, mean_of


def close(found: float | None, expected: F | float | None) -> bool:
    """The twin rounds at several places, the figures once."""
    if found is None or expected is None:
        return found is None and expected is None
    return math.isclose(found, float(expected), rel_tol=1e-9, abs_tol=1e-300)


def check_against_naive(figures: Figures, naive: Naive) -> None:
    parts = naive.parts()
    assert F(figures.pnl_spread) == parts["spread"]
    assert F(figures.pnl_inventory) == parts["inventory"]
    assert F(figures.pnl_fees) == parts["fees"]
    assert F(figures.pnl_funding) == parts["funding"]
    assert F(figures.pnl) == sum(parts.values(), F(0))
    assert F(figures.max_drawdown) == naive.max_drawdown()
    assert F(figures.turnover) == naive.turnover()
    assert figures.samples == len(naive.samples(figures.sample_ns))
    assert close(figures.sharpe, naive.sharpe(figures.sample_ns))
    assert close(figures.sortino, naive.sortino(figures.sample_ns))
    trips = naive.trips()
    assert figures.round_trips == len(trips)
    assert close(figures.win_rate, F(sum(t > 0 for t in trips), len(trips)) if trips else None)
    losses = -sum((t for t in trips if t < 0), F(0))
    gains = sum((t for t in trips if t > 0), F(0))
    assert close(figures.profit_factor, gains / losses if losses else None)
    turnover = naive.turnover()
    assert close(
        figures.maker_share, naive.turnover(maker_only=True) / turnover if turnover else None
    )
    fills = [fill for i in naive.ids for fill in naive.fills[i]]
    assert figures.fills == len(fills)
    orders = sum(len({int(f["client_order_id"]) for f in naive.fills[i]}) for i in naive.ids)
    sent = sum(int(naive.ends[i]["orders_sent"]) for i in naive.ids)
    assert close(figures.fill_ratio, F(orders, sent) if sent else None)
    curve = naive.curve()
    times, exposures = [point[0] for point in curve], [point[2] for point in curve]
    assert F(figures.exposure_max) == max(exposures, default=0)
    assert close(figures.exposure_mean, mean_of(exposures))
    assert close(figures.exposure_time_weighted, mean_by_time(times, exposures))
    for point, expected in zip(figures.markouts, naive.markouts(), strict=True):
        horizon, count, worth, turnover, waited = expected
        assert (point.horizon_ns, point.fills, F(point.markout)) == (horizon, count, worth)
        assert close(point.markout_bps, 10_000 * worth / turnover if turnover else None)
        assert close(point.waited_ns_mean, F(waited, count) if count else None)


def check_reasons(figures: Figures) -> None:
    """Whatever is None has its reason, nothing else has one, and no float is nan or infinite."""
    for name in Figures.__struct_fields__:
        value = getattr(figures, name)
        assert (value is None) == (name in figures.reasons), name
        assert not isinstance(value, float) or math.isfinite(value), name
    for point in figures.markouts:
        assert (point.markout_bps is None) == (f"markouts.{point.horizon_ns}" in figures.reasons)


@settings(max_examples=150, deadline=None)
@given(results())
def test_figures_are_those_of_the_naive_twin(result):
    found = measure(result)
    ids = [one.instrument_id for one in result.instruments]
    check_against_naive(found.total, Naive(result, ids))
    check_reasons(found.total)
    for i, figures in zip(ids, found.instruments, strict=True):
        naive = Naive(result, [i])
        check_against_naive(figures, naive)
        check_reasons(figures)
        sizes = [point[3] for point in naive.points(i)]
        assert F(figures.inventory_max) == max(sizes, default=0)
        assert close(figures.inventory_mean, mean_of(sizes))
        times = [point[0] for point in naive.points(i)]
        assert close(figures.inventory_time_weighted, mean_by_time(times, sizes))


@settings(max_examples=100, deadline=None)
@given(results())
def test_the_split_adds_up_to_the_pnl_exactly(result):
    found = measure(result)
    for one in (found.total, *found.instruments):
        parts = (one.pnl_spread, one.pnl_inventory, one.pnl_fees, one.pnl_funding)
        assert F(one.pnl) == sum(map(F, parts), F(0))
    for name in ("pnl", "pnl_spread", "pnl_inventory", "pnl_fees", "pnl_funding", "turnover"):
        assert F(getattr(found.total, name)) == sum(
            (F(getattr(one, name)) for one in found.instruments), F(0)
        )


def test_a_kept_book_ends_where_its_fills_do():
    """The states of `trading_day` are kept apart from its fills; both must tell one story."""
    result = trading_day()
    found = measure(result)
    decimals = accounts.money_decimals(result.instruments)
    for instrument, figures in zip(result.instruments, found.instruments, strict=True):
        series = accounts.open_account(result, instrument, decimals).series
        assert series.equity[-2] == series.equity[-1] == F(figures.pnl) * 10**decimals
        assert figures.pnl_spread > 0
        assert figures.fills == int(
            (result.fills["instrument_id"] == instrument.instrument_id).sum()
        )
    assert 0.8 < found.total.maker_share < 1
    assert found.total.sample_ns == S and found.total.samples == 299


def test_no_fills_and_no_states():
    empty = made_result([BTC], [], [])
    found = measure(empty).total
    assert found.pnl == found.max_drawdown == found.turnover == 0
    assert found.sharpe is None and found.reasons["sharpe"] == "0 samples, expected at least 2"
    assert found.reasons["win_rate"] == found.reasons["profit_factor"] == "no round trip"
    assert found.reasons["fill_ratio"] == "no orders sent"
    assert found.reasons["maker_share"] == "no fills"
    assert found.reasons["exposure_mean"] == "no states"
    check_reasons(found)


def test_flat_run_has_no_variance():
    states = [(t * S, 0, 0, 0, 0, 100, 101, 5, 0, 0) for t in range(10)]
    found = measure(made_result([BTC], [], states)).instruments[0]
    assert found.samples == 9
    assert found.reasons["sharpe"] == "no variance"
    assert found.reasons["sortino"] == "no losing sample"
    assert found.fill_ratio == 0.0
    assert found.inventory_time_weighted == 0.0
    check_reasons(found)


def test_one_fill_by_hand():
    """Buy 0.002 at 100.0 under a mid of 100.05; the mid ends at 101.05; fee 0.0001."""
    fill = (S, 1, 1000, 2, 10**8, 2001, 0, 1, 1)
    states = [
        (0, 0, 0, 0, 0, 1000, 1001, 0, 0, 0),
        (S, 0, 0, 0, 0, 1000, 1001, 1, 0, 0),
        (3 * S, 2, -2000, 10**8, 0, 1010, 1011, 1, 0, 0),
    ]
    found = measure(made_result([BTC], [fill], states), sample_ns=S).instruments[0]
    assert found.pnl_spread == Decimal("0.0001")
    assert found.pnl_inventory == Decimal("0.002")
    assert found.pnl_fees == Decimal("-0.0001")
    assert found.pnl == Decimal("0.002")
    assert found.turnover == Decimal("0.2")
    assert found.position_end == found.inventory_max == Decimal("0.002")
    assert found.inventory_time_weighted == 0.0
    assert found.fill_ratio == 1.0 and found.maker_share == 1.0
    assert found.reasons["profit_factor"] == "no round trip"
    by_horizon = {point.horizon_ns: point for point in found.markouts}
    assert by_horizon[0].markout == Decimal("0.0001") and by_horizon[0].waited_ns_mean == 0.0
    assert by_horizon[S].markout == Decimal("0.0021") and by_horizon[S].markout_bps == 105.0
    assert by_horizon[S].waited_ns_mean == 2e9
    assert by_horizon[2 * S].fills == 1 and by_horizon[2 * S].waited_ns_mean == 2e9
    assert by_horizon[5 * S].fills == 0


def test_sharpe_by_hand():
    """Samples 1, 3: mean 2, deviation sqrt(2)."""
    expected = 2 / math.sqrt(2) * math.sqrt(365 * 86_400)
    assert math.isclose(metrics.sharpe([1, 3], S), expected, rel_tol=1e-15)
    assert metrics.sharpe([-1, -3], S) == -metrics.sharpe([1, 3], S)
    assert metrics.sharpe([5, 5, 5], S) == "no variance"
    assert metrics.sharpe([5], S) == "1 samples, expected at least 2"


def test_sortino_by_hand():
    """Samples 3, -1: mean 1, downside sqrt(1 / 2)."""
    expected = math.sqrt(2) * math.sqrt(365 * 86_400)
    assert math.isclose(metrics.sortino([3, -1], S), expected, rel_tol=1e-15)


def test_round_trip_that_passes_zero_is_cut():
    """Buy 2 at 10, sell 5 at 12 (fee 7): the first trip ends with 2 of the 5 and fee 2."""
    fills = [(1, 1, 10, 2, 0, 0, 0, 1, 1), (2, 2, 12, 5, 7, 0, 0, -1, 1)]
    result = made_result([BTC], fills, [])
    assert accounts.round_trips(result.fills, 1, 1) == [2 * 2 * (24 - 20) // 2 - 2]
    back = made_result([BTC], [*fills, (3, 3, 11, 3, 0, 0, 0, 1, 1)], [])
    first, second = accounts.round_trips(back.fills, 1, 1)
    assert (first, second) == (2 * 4 - 2, 3 * 2 - 5)


def test_drawdown_counts_the_start_and_goes_on_over_parts():
    assert metrics.max_drawdown([]) == 0
    series = [np.array(values, object) for values in ([-5, 3], [-4, -6, 2], [1, -7])]
    assert metrics.max_drawdown(series[:1]) == 5
    assert metrics.max_drawdown(series[:2]) == 6
    assert metrics.max_drawdown(series) == 8


def test_parts_add_up():
    """Two runs after each other: money and counts add, samples do not cross the border."""
    one, two = trading_day(seed=1, timers=400), trading_day(seed=2, timers=300)
    later = Result(two.instruments, two.fills.copy(), two.states.copy(), two.ends.copy(), {})
    later.fills["ts_ns"] += 1000 * S
    later.states["ts_ns"] += 1000 * S
    later.ends["ts_ns"] += 1000 * S
    joined = measure_parts([one, later])
    alone = [measure(one), measure(later)]
    for name in ("pnl", "turnover", "fills", "orders_sent", "round_trips", "samples", "span_ns"):
        assert getattr(joined.total, name) == sum(getattr(m.total, name) for m in alone)
    assert joined.total.max_drawdown >= max(m.total.max_drawdown for m in alone)
    for row in (0, 1):
        assert joined.instruments[row].position_end == alone[1].instruments[row].position_end
    check_reasons(joined.total)


def test_figures_are_json():
    found = msgspec.json.decode(metrics.encode(measure(trading_day()).total))
    assert list(found) == list(Figures.__struct_fields__)
    assert isinstance(found["pnl"], float)
    assert set(metrics.metric_names()) < set(found)


def test_a_total_can_have_every_metric_that_is_offered():
    found = measure(trading_day()).total
    assert [name for name in metrics.metric_names() if getattr(found, name) is None] == []


@pytest.mark.parametrize("name", metrics.OF_INSTRUMENT)
def test_quantities_of_different_instruments_do_not_add(name):
    found = measure(made_result([BTC, SHIB], [], [])).total
    assert getattr(found, name) is None
    assert found.reasons[name] == "quantities of different instruments do not add"

"""The figures by which a backtest is judged, each with its definition; money is exact.

Definitions
    sharpe: mean / standard deviation (n - 1) of the PnL per sample, x sqrt(samples a year); W. F.
        Sharpe, "The Sharpe Ratio", Journal of Portfolio Management 21(1), 1994, with the PnL in
        quote as differential return: a constant capital would cancel. A year is 365 days of 24
        hours: the venues never close.
    sortino: mean / downside deviation, the root of the mean over all samples of min(0, PnL)^2
        (target 0), x sqrt(samples a year); F. A. Sortino and L. N. Price, "Performance Measurement
        in a Downside Risk Framework", Journal of Investing 3(3), 1994.
    max_drawdown: the largest fall of the equity below its highest value so far, the start (0)
        counting; M. Magdon-Ismail and A. Atiya, "Maximum Drawdown", Risk 17(10), 2004.
    win_rate: round trips with a PnL above 0 / all finished round trips (accounts.round_trips).
    profit_factor: sum of the PnL of winning round trips / minus that of losing ones.
    fill_ratio: orders with at least one fill / new orders sent, as the end tells of them.
    maker_share: turnover filled as maker / turnover.
    markout: side x quantity x (mid later - fill price), summed / turnover, in bps; above 0 is good
        for us. The mid later is the first one the strategy saw at least that long after the fill,
        and `waited_ns_mean` says how long it was; horizon 0 is the mid just before the fill.
    inventory, exposure: |position|, and |position| x mark summed over instruments; the mean over
        the states, the largest, and the mean weighted by how long each was held.
    pnl = pnl_spread + pnl_inventory + pnl_fees + pnl_funding, exactly (accounts.Amounts).

Sampling: the equity at the first state and every `sample_ns` after, each time the last
value known; an incomplete last sample is left out. What cannot be computed is None, and `reasons`
says why; there is no nan and no infinity.
"""

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import msgspec
import numpy as np

from common import fixed_point
from common.instruments import Instrument
from processes.report.accounts import (
    Account,
    MarkoutSum,
    Series,
    add_accounts,
    add_amounts,
    add_markouts,
    distinct,
    money_decimals,
    open_account,
    values_at,
)
from processes.results import Result

YEAR_NS = 365 * 86_400 * 1_000_000_000
SAMPLE_NS_MIN = 1_000_000_000
BPS = 10_000
# Figures that a total has not: quantities of different instruments do not add.
OF_INSTRUMENT = ("position_end", "inventory_mean", "inventory_max", "inventory_time_weighted")


class Markout(msgspec.Struct, frozen=True, kw_only=True):
    """One point of a markout curve; see the module's definitions."""

    horizon_ns: int
    fills: int
    markout: Decimal
    markout_bps: float | None
    waited_ns_mean: float | None


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """All figures of one scope; see the module's definitions.

    Attributes:
        scope: "total", or venue:symbol.
        span_ns: from the first to the last point of the equity.
        sample_ns, samples: length and number of the samples behind sharpe and sortino.
        position_end ... inventory_time_weighted: base units; None for the total (OF_INSTRUMENT).
        reasons: why a figure is None, by its name.
    """

    scope: str
    span_ns: int
    fills: int
    orders_sent: int
    orders_rejected: int
    pnl: Decimal
    pnl_spread: Decimal
    pnl_inventory: Decimal
    pnl_fees: Decimal
    pnl_funding: Decimal
    max_drawdown: Decimal
    sharpe: float | None
    sortino: float | None
    sample_ns: int
    samples: int
    round_trips: int
    win_rate: float | None
    profit_factor: float | None
    fill_ratio: float | None
    turnover: Decimal
    maker_share: float | None
    position_end: Decimal | None
    inventory_mean: float | None
    inventory_max: Decimal | None
    inventory_time_weighted: float | None
    exposure_mean: float | None
    exposure_max: Decimal
    exposure_time_weighted: float | None
    markouts: list[Markout]
    reasons: dict[str, str]


class Metrics(NamedTuple):
    """The figures of a backtest: of all instruments together, and of each."""

    total: Figures
    instruments: list[Figures]


class Books(NamedTuple):
    """What a backtest was worth, in units of 10^-`decimals` quote.

    Attributes:
        instruments: in the order of their ids.
        accounts: one each.
        total: of all together.
        state_ns: int64[k], distances of the states.
    """

    instruments: list[Instrument]
    decimals: int
    accounts: list[Account]
    total: Account
    state_ns: np.ndarray


def measure(result: Result, sample_ns: int = 0) -> Metrics:
    """Compute all figures of one backtest.

    Args:
        result: fills and states in order of time.
        sample_ns: of sharpe and sortino; 0: one second, or the states' usual distance if longer.
    """
    return measure_parts([result], sample_ns)


def measure_parts(results: list[Result], sample_ns: int = 0) -> Metrics:
    """Compute all figures of backtests that follow each other, as if they were one.

    Each starts flat where the one before stopped, its last position valued at the last mark.

    Args:
        results: at least one, of the same instruments, in order of time.
        sample_ns: as for `measure`.
    """
    return measure_books([open_books(result) for result in results], sample_ns)


def open_books(result: Result) -> Books:
    """Keep the books of a backtest: what the figures and the pictures are made of."""
    decimals = money_decimals(result.instruments)
    accounts = [open_account(result, instrument, decimals) for instrument in result.instruments]
    return Books(
        instruments=result.instruments,
        decimals=decimals,
        accounts=accounts,
        total=add_accounts(accounts),
        state_ns=np.diff(distinct(result.states["ts_ns"])),
    )


def measure_books(parts: list[Books], sample_ns: int = 0) -> Metrics:
    """Compute all figures of books that follow each other; Args as for `measure_parts`."""
    instruments, decimals = parts[0].instruments, parts[0].decimals
    length_ns = sample_ns or usual_sample_ns(parts)
    return Metrics(
        total=figures_of("total", [part.total for part in parts], decimals, None, length_ns),
        instruments=[
            figures_of(
                f"{instrument.venue}:{instrument.symbol}",
                [part.accounts[row] for part in parts],
                decimals,
                instrument,
                length_ns,
            )
            for row, instrument in enumerate(instruments)
        ],
    )


def usual_sample_ns(parts: list[Books]) -> int:
    """Return one second, or the median distance of the states if that is longer."""
    gaps = np.concatenate([one.state_ns for one in parts])
    return max(SAMPLE_NS_MIN, int(np.median(gaps)) if len(gaps) else 0)


def figures_of(
    scope: str,
    parts: list[Account],
    decimals: int,
    instrument: Instrument | None,
    sample_ns: int,
) -> Figures:
    """Compute the figures of one scope over runs that follow each other."""
    amounts = add_amounts([part.amounts for part in parts])
    all_series = [part.series for part in parts]
    samples = [sample for series in all_series for sample in samples_of(series, sample_ns)]
    trips = [trip for part in parts for trip in part.trips]
    reasons: dict[str, str] = {}
    money = _Money(decimals)
    gains, losses = sum(trip for trip in trips if trip > 0), -sum(t for t in trips if t < 0)
    wins = sum(trip > 0 for trip in trips)
    return Figures(
        scope=scope,
        span_ns=sum(span_of(series) for series in all_series),
        fills=amounts.fill_count,
        orders_sent=amounts.orders_sent,
        orders_rejected=amounts.orders_rejected,
        pnl=money(amounts.pnl),
        pnl_spread=money(amounts.spread),
        pnl_inventory=money(amounts.inventory),
        pnl_fees=money(amounts.fees),
        pnl_funding=money(amounts.funding),
        max_drawdown=money(max_drawdown([series.equity for series in all_series])),
        sharpe=_or_reason(reasons, "sharpe", sharpe(samples, sample_ns)),
        sortino=_or_reason(reasons, "sortino", sortino(samples, sample_ns)),
        sample_ns=sample_ns,
        samples=len(samples),
        round_trips=len(trips),
        win_rate=_or_reason(reasons, "win_rate", _ratio(wins, len(trips), "no round trip")),
        profit_factor=_or_reason(
            reasons,
            "profit_factor",
            _ratio(gains, losses, "no losing round trip" if trips else "no round trip"),
        ),
        fill_ratio=_or_reason(
            reasons,
            "fill_ratio",
            _ratio(amounts.filled_order_count, amounts.orders_sent, "no orders sent"),
        ),
        turnover=money(amounts.turnover),
        maker_share=_or_reason(
            reasons, "maker_share", _ratio(amounts.maker_turnover, amounts.turnover, "no fills")
        ),
        **_holdings(reasons, all_series, instrument, money),
        markouts=_markouts(reasons, [part.markouts for part in parts], money),
        reasons=reasons,
    )


def samples_of(series: Series, sample_ns: int) -> list[int]:
    """Return the change of the equity over each whole sample, units."""
    if len(series.ts_ns) == 0:
        return []
    count = span_of(series) // sample_ns
    ts_ns = int(series.ts_ns[0]) + sample_ns * np.arange(count + 1, dtype=np.int64)
    return np.diff(values_at(series, series.equity, ts_ns)).tolist()


def span_of(series: Series) -> int:
    """Return the time from the first to the last point."""
    return int(series.ts_ns[-1] - series.ts_ns[0]) if len(series.ts_ns) else 0


def sharpe(samples: list[int], sample_ns: int) -> float | str:
    """Return the annualised Sharpe ratio, or why there is none."""
    count, total = len(samples), sum(samples)
    if count < 2:
        return f"{count} samples, expected at least 2"
    squares = sum(sample * sample for sample in samples)
    variance = Fraction(count * squares - total * total, count * (count - 1))
    if variance == 0:
        return "no variance"
    return _annualised(Fraction(total, count), variance, sample_ns)


def sortino(samples: list[int], sample_ns: int) -> float | str:
    """Return the annualised Sortino ratio with target 0, or why there is none."""
    count = len(samples)
    if count < 2:
        return f"{count} samples, expected at least 2"
    downside = Fraction(sum(sample * sample for sample in samples if sample < 0), count)
    if downside == 0:
        return "no losing sample"
    return _annualised(Fraction(sum(samples), count), downside, sample_ns)


def _annualised(mean: Fraction, variance: Fraction, sample_ns: int) -> float:
    """Return mean / sqrt(variance) x sqrt(samples a year), rounded once before the root."""
    square = mean * mean / variance * Fraction(YEAR_NS, sample_ns)
    return math.copysign(math.sqrt(float(square)), mean.numerator)


def max_drawdown(curves: list[np.ndarray]) -> int:
    """Return the largest fall from a peak over curves of which each continues the one before."""
    offset = peak = worst = 0
    for equity in curves:
        value = 0
        for value in equity.tolist():
            peak = max(peak, offset + value)
            worst = max(worst, peak - offset - value)
        offset += value
    return worst


class _Money:
    """Turns units into exact decimal numbers."""

    def __init__(self, decimals: int) -> None:
        self.decimals = decimals

    def __call__(self, units: int) -> Decimal:
        """Return the amount without trailing zeros."""
        text = fixed_point.text_from_steps(int(units), self.decimals)
        return Decimal(text.rstrip("0").rstrip(".") if "." in text else text)


def _or_reason(reasons: dict[str, str], name: str, found: float | str) -> float | None:
    """Return a figure, or None after noting why there is none."""
    if isinstance(found, str):
        reasons[name] = found
        return None
    return found


def _ratio(part: int, whole: int, reason: str) -> float | str:
    """Return part / whole, rounded once, or the reason if there is no whole."""
    return float(Fraction(part, whole)) if whole else reason


def _holdings(
    reasons: dict[str, str],
    all_series: list[Series],
    instrument: Instrument | None,
    money: _Money,
) -> dict[str, Any]:
    """Return inventory and exposure: mean, largest, weighted by time."""
    exposures = [series.exposure.tolist() for series in all_series]
    found: dict[str, Any] = {
        "exposure_max": money(max((max(one) for one in exposures if one), default=0)),
        "position_end": None,
        "inventory_max": None,
    }
    _add_means(reasons, found, "exposure", all_series, exposures, 10**money.decimals)
    if instrument is None:
        reason = "quantities of different instruments do not add"
        reasons |= dict.fromkeys(OF_INSTRUMENT, reason)
        return found | dict.fromkeys(OF_INSTRUMENT)
    sizes = [np.abs(series.position).tolist() for series in all_series]
    qty = _Money(instrument.qty_grid_decimals)
    last = all_series[-1].position
    found["position_end"] = qty(last[-1] if len(last) else 0)
    found["inventory_max"] = qty(max((max(one) for one in sizes if one), default=0))
    _add_means(reasons, found, "inventory", all_series, sizes, 10**instrument.qty_grid_decimals)
    return found


def _add_means(
    reasons: dict[str, str],
    found: dict[str, Any],
    name: str,
    all_series: list[Series],
    values: list[list[int]],
    unit: int,
) -> None:
    """Add `name`_mean and `name`_time_weighted."""
    count = sum(len(one) for one in values)
    mean = _ratio(sum(map(sum, values)), count * unit, "no states")
    found[f"{name}_mean"] = _or_reason(reasons, f"{name}_mean", mean)
    weighted = sum(
        value * held_ns
        for series, one in zip(all_series, values, strict=True)
        for value, held_ns in zip(one[:-1], np.diff(series.ts_ns).tolist(), strict=True)
    )
    span_ns = sum(span_of(series) for series in all_series)
    by_time = _ratio(weighted, span_ns * unit, "no time passed")
    found[f"{name}_time_weighted"] = _or_reason(reasons, f"{name}_time_weighted", by_time)


def _markouts(
    reasons: dict[str, str], parts: list[list[MarkoutSum]], money: _Money
) -> list[Markout]:
    """Return the markout curve."""
    curve = []
    for point in add_markouts(parts):
        bps = _ratio(BPS * point.worth, point.turnover, "no fill has a mid that much later")
        waited = _ratio(point.waited_ns, point.fill_count, "no fills")
        name = f"markouts.{point.horizon_ns}"
        curve.append(
            Markout(
                horizon_ns=point.horizon_ns,
                fills=point.fill_count,
                markout=money(point.worth),
                markout_bps=_or_reason(reasons, name, bps),
                waited_ns_mean=None if isinstance(waited, str) else waited,
            )
        )
    return curve


def encode(value: Any) -> bytes:
    """Return JSON with exact amounts as plain numbers, the fields in their order."""
    return msgspec.json.Encoder(decimal_format="number").encode(value)


def metric_names() -> list[str]:
    """Return the figures that a study can rank by: numbers that a total can have."""
    others = {"scope", "markouts", "reasons", "sample_ns", *OF_INSTRUMENT}
    return [name for name in Figures.__struct_fields__ if name not in others]

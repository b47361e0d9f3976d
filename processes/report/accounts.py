"""Exact book-keeping behind the metrics: what each fill and each state was worth, in integers.

Money is a Python integer of one unit per backtest, 10^-`money_decimals` quote, fine enough that
every price x quantity, every half spread, fee and funding payment is whole: sums have no error, and
the parts of the PnL add up to it. All instruments of a backtest are taken to have one quote.

A backtest starts flat. The *mark* is the mid that the strategy sees, in a state or at the end;
where a side of the book is missing, the last one known; before the first, the first; if there is
none at all, the mid at the last fill. An account without states is valued at its fills, each at the
mid just before it, and at the end.
"""

from typing import NamedTuple

import numpy as np

from common.instruments import Instrument
from processes.results import Result

FEE_DECIMALS, FUNDING_DECIMALS = 12, 8
_MS, _S = 1_000_000, 1_000_000_000
HORIZONS_NS = (
    0, _MS, 10 * _MS, 100 * _MS, 500 * _MS, _S, 2 * _S, 5 * _S, 10 * _S, 30 * _S, 60 * _S,
)  # fmt: skip


class Series(NamedTuple):
    """The account over time; a point per state, or per fill if there is none, and the end.

    Attributes:
        ts_ns: int64[k], ascending.
        equity: object[k], cash and marked position less fees and funding, units.
        exposure: object[k], |position| x mark, summed over instruments, units.
        position: int64[k] steps; empty for several instruments, whose quantities do not add.
    """

    ts_ns: np.ndarray
    equity: np.ndarray
    exposure: np.ndarray
    position: np.ndarray


class Amounts(NamedTuple):
    """Sums that add over instruments and over runs; money in units.

    Attributes:
        pnl: cash from all fills, plus the position at the last mark, less fees and funding.
        spread: sum over fills of side x quantity x (mid just before - price); a fill without a mid
            has its own price as mid.
        inventory: sum over fills of side x quantity x (last mark - that mid): what the mid did to
            the position between the fills.
        fees, funding: what was paid, with a minus.
        turnover, maker_turnover: price x quantity filled, and the part filled as maker.
        fill_count, filled_order_count: counts.
        orders_sent, orders_rejected: counts.
    """

    pnl: int
    spread: int
    inventory: int
    fees: int
    funding: int
    turnover: int
    maker_turnover: int
    fill_count: int
    filled_order_count: int
    orders_sent: int
    orders_rejected: int


class MarkoutSum(NamedTuple):
    """What the fills of one horizon were worth, `horizon_ns` later; adds.

    Attributes:
        horizon_ns: 0 is the mid at the venue just before the fill.
        fill_count: fills that have a mid then; the last ones of a run have not.
        worth: sum of side x quantity x (mid then - fill price), units.
        turnover: of those fills, units.
        waited_ns: sum of the times from fill to mid; states are not everywhere.
    """

    horizon_ns: int
    fill_count: int
    worth: int
    turnover: int
    waited_ns: int


class Account(NamedTuple):
    """One instrument, or all of them, in one run.

    Attributes:
        series: over time.
        amounts: sums.
        trips: PnL of each finished round trip, units (see `round_trips`).
        markouts: one per horizon.
    """

    series: Series
    amounts: Amounts
    trips: list[int]
    markouts: list[MarkoutSum]


def money_decimals(instruments: list[Instrument]) -> int:
    """Return the decimals of the unit in which all money of these instruments is whole.

    One more than a price step x quantity step needs, because a mid lies on half steps.
    """
    needed = [one.price_grid_decimals + one.qty_grid_decimals + 1 for one in instruments]
    return max([FEE_DECIMALS, *needed])


def open_account(result: Result, instrument: Instrument, decimals: int) -> Account:
    """Keep the books of one instrument.

    Args:
        decimals: of the unit of money, from `money_decimals`.
    """
    fills = result.fills[result.fills["instrument_id"] == instrument.instrument_id]
    states = result.states[result.states["instrument_id"] == instrument.instrument_id]
    end = result.ends[result.ends["instrument_id"] == instrument.instrument_id]
    shown = np.concatenate((states, end))
    grid_decimals = instrument.price_grid_decimals + instrument.qty_grid_decimals
    half_step = 10 ** (decimals - grid_decimals) // 2
    marks = marks_of(shown, fills)
    amounts = sum_fills(fills, end[0], int(marks[-1]), half_step, decimals)
    return Account(
        series=_series(shown, fills, marks, half_step, decimals, amounts.pnl),
        amounts=amounts,
        trips=round_trips(fills, half_step, 10 ** (decimals - FEE_DECIMALS)),
        markouts=_markouts(shown, fills, half_step),
    )


def marks_of(shown: np.ndarray, fills: np.ndarray) -> np.ndarray:
    """Return the mark at each of STATE[k], in half price steps."""
    bids, asks = shown["bid_price_steps"], shown["ask_price_steps"]
    known = np.flatnonzero((bids > 0) & (asks > 0))
    if len(known) == 0:
        last = 0
        if len(fills):
            last = int(fills["mid_steps2"][-1]) or 2 * int(fills["price_steps"][-1])
        return np.full(len(shown), last, np.int64)
    latest = np.searchsorted(known, np.arange(len(shown)), side="right") - 1
    rows = known[np.maximum(latest, 0)]
    marks: np.ndarray = bids[rows] + asks[rows]
    return marks


def sum_fills(
    fills: np.ndarray, end: np.void, last_mark: int, half_step: int, decimals: int
) -> Amounts:
    """Add up one instrument's fills; what they do not tell is known at the end."""
    signed = fills["side"].astype(object) * fills["qty_steps"].astype(object)
    price2 = 2 * fills["price_steps"].astype(object)
    mid2 = np.where(fills["mid_steps2"] > 0, fills["mid_steps2"].astype(object), price2)
    traded = price2 * fills["qty_steps"].astype(object)
    fees = _total(fills["fee_e12"].astype(object)) * 10 ** (decimals - FEE_DECIMALS)
    funding = int(end["funding_e8"]) * 10 ** (decimals - FUNDING_DECIMALS)
    cash = -_total(signed * price2) * half_step
    return Amounts(
        pnl=cash + _total(signed) * last_mark * half_step - fees - funding,
        spread=_total(signed * (mid2 - price2)) * half_step,
        inventory=_total(signed * (last_mark - mid2)) * half_step,
        fees=-fees,
        funding=-funding,
        turnover=_total(traded) * half_step,
        maker_turnover=_total(traded[fills["maker"] == 1]) * half_step,
        fill_count=len(fills),
        filled_order_count=len(np.unique(fills["client_order_id"])),
        orders_sent=int(end["orders_sent"]),
        orders_rejected=int(end["orders_rejected"]),
    )


def _total(values: np.ndarray) -> int:
    """Return the exact sum of Python integers."""
    return sum(values.tolist())


def _series(
    shown: np.ndarray, fills: np.ndarray, marks: np.ndarray, half_step: int, decimals: int, pnl: int
) -> Series:
    """Value the account at each state, and at the end with all fills.

    Args:
        shown: STATE[k], the states, and the last one is the end.
        marks: int64[k], of each.
        pnl: at the end.
    """
    states = shown[:-1]
    series = _series_of_states(states, marks[:-1], half_step, decimals)
    if len(fills) == 0:
        return series
    if len(states) == 0:
        series = _series_of_fills(fills, half_step, decimals)
    held = _total(fills["side"].astype(object) * fills["qty_steps"].astype(object))
    end_ns = max(int(fills["ts_ns"][-1]), *(int(ts_ns) for ts_ns in shown["ts_ns"][-2:]))
    values = np.empty((2, 1), object)
    values[:, 0] = pnl, abs(held) * int(marks[-1]) * half_step
    return Series(
        np.append(series.ts_ns, end_ns),
        np.concatenate([series.equity, values[0]]),
        np.concatenate([series.exposure, values[1]]),
        np.append(series.position, held),
    )


def _series_of_states(
    states: np.ndarray, marks: np.ndarray, half_step: int, decimals: int
) -> Series:
    """Value the account at each state."""
    position = states["position_steps"]
    worth = 2 * states["balance_steps2"].astype(object) + position.astype(object) * marks.astype(
        object
    )
    equity = (
        worth * half_step
        - states["fee_e12"].astype(object) * 10 ** (decimals - FEE_DECIMALS)
        - states["funding_e8"].astype(object) * 10 ** (decimals - FUNDING_DECIMALS)
    )
    exposure = np.abs(position.astype(object)) * marks.astype(object) * half_step
    return Series(states["ts_ns"], equity, exposure, position)


def _series_of_fills(fills: np.ndarray, half_step: int, decimals: int) -> Series:
    """Value the account after each fill, at the mid just before it."""
    price2 = 2 * fills["price_steps"].astype(object)
    mid2 = np.where(fills["mid_steps2"] > 0, fills["mid_steps2"].astype(object), price2)
    signed = fills["side"].astype(object) * fills["qty_steps"].astype(object)
    position = np.cumsum(signed)
    paid = np.cumsum(fills["fee_e12"].astype(object)) * 10 ** (decimals - FEE_DECIMALS)
    equity = (position * mid2 - np.cumsum(signed * price2)) * half_step - paid
    exposure = np.abs(position) * mid2 * half_step
    return Series(fills["ts_ns"], equity, exposure, position.astype(np.int64))


def round_trips(fills: np.ndarray, half_step: int, fee_unit: int) -> list[int]:
    """Return the PnL of each round trip of one instrument, fees included, funding not.

    A round trip begins with the fill that leaves position 0 and ends with the one that comes back
    to it or passes it. A fill that passes 0 is cut there: its first part ends one trip, the rest
    begins the next, and its fee is cut by quantity, rounded down for the first part, so that no
    unit is lost. A trip that is still open at the end is none.
    """
    trips = []
    position = pnl = 0
    columns = ("side", "qty_steps", "price_steps", "fee_e12")
    for side, qty, price, fee in zip(*(fills[name].tolist() for name in columns), strict=True):
        closing = min(qty, abs(position)) if position * side < 0 else 0
        closing_fee = fee * closing // qty if closing else 0
        if closing:
            pnl += -side * closing * price * 2 * half_step - closing_fee * fee_unit
            position += side * closing
            if position == 0:
                trips.append(pnl)
                pnl = 0
        if qty > closing:
            pnl += -side * (qty - closing) * price * 2 * half_step - (fee - closing_fee) * fee_unit
            position += side * (qty - closing)
    return trips


def _markouts(shown: np.ndarray, fills: np.ndarray, half_step: int) -> list[MarkoutSum]:
    """Value the fills at the first mid that the strategy saw at least each horizon later."""
    known = shown[(shown["bid_price_steps"] > 0) & (shown["ask_price_steps"] > 0)]
    times, mids = known["ts_ns"], known["bid_price_steps"] + known["ask_price_steps"]
    price2 = 2 * fills["price_steps"].astype(object)
    qty = fills["qty_steps"].astype(object)
    signed, traded = fills["side"].astype(object) * qty, price2 * qty
    found = []
    for horizon_ns in HORIZONS_NS:
        if horizon_ns == 0:
            kept = np.flatnonzero(fills["mid_steps2"] > 0)
            then, waited = fills["mid_steps2"][kept], 0
        else:
            rows = np.searchsorted(times, fills["ts_ns"] + horizon_ns)
            kept = np.flatnonzero(rows < len(known))
            then = mids[rows[kept]]
            waited = _total(times[rows[kept]] - fills["ts_ns"][kept])
        worth = _total(signed[kept] * (then - price2[kept])) * half_step
        turnover = _total(traded[kept]) * half_step
        found.append(MarkoutSum(horizon_ns, len(kept), worth, turnover, waited))
    return found


def add_accounts(accounts: list[Account]) -> Account:
    """Return the account of several instruments of one run together."""
    if len(accounts) == 1:
        return accounts[0]
    ts_ns = distinct(np.concatenate([one.series.ts_ns for one in accounts]))
    equity = np.zeros(len(ts_ns), object)
    exposure = np.zeros(len(ts_ns), object)
    for one in accounts:
        equity = equity + values_at(one.series, one.series.equity, ts_ns)
        exposure = exposure + values_at(one.series, one.series.exposure, ts_ns)
    return Account(
        series=Series(ts_ns, equity, exposure, np.zeros(0, np.int64)),
        amounts=add_amounts([one.amounts for one in accounts]),
        trips=[trip for one in accounts for trip in one.trips],
        markouts=add_markouts([one.markouts for one in accounts]),
    )


def distinct(ts_ns: np.ndarray) -> np.ndarray:
    """Return the distinct instants in order."""
    ordered = np.sort(ts_ns)
    return ordered[np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]]


def values_at(series: Series, values: np.ndarray, ts_ns: np.ndarray) -> np.ndarray:
    """Return the last of `values` at or before each instant; 0 before the first."""
    rows = np.searchsorted(series.ts_ns, ts_ns, side="right")
    zero = np.zeros(1, object)
    return np.concatenate([zero, values])[rows]


def add_amounts(parts: list[Amounts]) -> Amounts:
    """Add field by field."""
    return Amounts(*(sum(column) for column in zip(*parts, strict=True)))


def add_markouts(parts: list[list[MarkoutSum]]) -> list[MarkoutSum]:
    """Add horizon by horizon."""
    return [
        MarkoutSum(column[0].horizon_ns, *(sum(row[i] for row in column) for i in range(1, 5)))
        for column in zip(*parts, strict=True)
    ]

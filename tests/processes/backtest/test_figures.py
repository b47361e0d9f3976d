"""The figures of a strategy that sets no timer, against sums made here by hand."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from processes.backtest import files, loop
from processes.backtest.events import AT_LOCAL, EventKind
from processes.backtest.extras import load_funding, with_funding
from processes.backtest.run import run
from processes.backtest.tapes import assemble
from processes.report.metrics import measure

from tests.processes.backtest.made_market import START_NS, made_rows, made_setup
from tests.processes.backtest.naive_venue import Book

DICE = "tests.processes.backtest.dice:Dice"
MS = 1_000_000
FUNDINGS = [(ms * MS + 1, rate, 100 + k) for k, (ms, rate) in enumerate(
    ((300, "0.01"), (900, "-0.02"), (1_500, "0.003"), (2_000, "0.01"))
)]  # fmt: skip


@pytest.fixture(scope="module")
def backtest(tmp_path_factory):
    """(events, Result) of a run on some 2 s of a made market, with four fundings."""
    folder = tmp_path_factory.mktemp("figures")
    setup = made_setup(folder, DICE, {"interval_ns": 0, "seed": 4}, cadence="events",
                       exchange="partial-fill")  # fmt: skip
    lines = [f"{START_NS + ts},MADE0,{rate},{mark}" for ts, rate, mark in FUNDINGS]
    (folder / "funding.csv").write_text("\n".join(["ts_ns,symbol,rate,mark_price", *lines]))
    rows = made_rows(4, 3_000)
    [funding] = load_funding(folder / "funding.csv", setup.instruments, {}).values()
    rows = with_funding(rows, funding, {})
    result = run(setup, assemble([rows], setup.instruments, {}))
    assert len(result.fills) > 40
    return rows, result


def touches(rows) -> list[tuple[int, int, int]]:
    """Return (instant, best bid, best ask) as they are seen here, after each event; 0: none."""
    book = Book(False, False, 1)
    found = []
    for event in rows[rows["flags"] & AT_LOCAL != 0]:
        side, price = int(event["side"]), int(event["price_steps"])
        if event["kind"] == EventKind.DEPTH:
            book.set(side, price, int(event["qty_steps"]))
        elif event["kind"] == EventKind.CLEAR:
            for each in (1, -1) if side == 0 else (side,):
                book.clear(each, price if side and price > 0 else None)
        found.append((int(event["ts_recv_ns"]), book.best[1] or 0, book.best[-1] or 0))
    return found


def touch_at(found, ts_ns: int) -> tuple[int, int]:
    """Return the touch after all events up to an instant."""
    return [(bid, ask) for ts, bid, ask in found if ts <= ts_ns][-1]


def test_states_are_written_a_tenth_of_a_second_apart_without_timers(backtest, tmp_path):
    rows, result = backtest
    found = touches(rows)
    gaps = np.diff(result.states["ts_ns"])
    assert len(gaps) > 15 and gaps.min() >= loop.STATE_NS and gaps.max() < loop.STATE_NS + 10 * MS
    for state in (*result.states, *result.ends):
        bid, ask = touch_at(found, int(state["ts_ns"]))
        assert (state["bid_price_steps"], state["ask_price_steps"]) == (bid, ask)
    assert not result.states["is_timer"].any()
    files.write_states(tmp_path / "states.csv", result)  # a row per strategy timer
    assert (tmp_path / "states.csv").read_text() == files.STATES_HEADER


def test_the_end_is_behind_all_events_and_answers(backtest):
    rows, result = backtest
    [end] = result.ends
    last = max(rows["ts_recv_ns"].max(), rows["ts_exch_ns"].max(), result.fills["ts_ns"].max())
    assert last <= end["ts_ns"] <= last + 4 * MS and not end["is_timer"]  # 2 ms each way
    signed = result.fills["side"].astype(int) * result.fills["qty_steps"]
    assert end["position_steps"] == signed.sum()
    assert end["balance_steps2"] == -(signed * result.fills["price_steps"]).sum()
    assert end["fee_e12"] == result.fills["fee_e12"].sum()
    assert end["trade_count"] == len(result.fills)
    assert end["orders_sent"] == result.counts["orders_sent"] > 40


def test_pnl_funding_and_fill_ratio_are_those_made_by_hand(backtest):
    rows, result = backtest
    funding = cash = fees = position = Fraction(0)
    fills = [*result.fills]
    for ts, rate, mark in FUNDINGS:
        held = sum(
            int(f["side"]) * int(f["qty_steps"]) for f in fills if f["ts_ns"] < START_NS + ts
        )
        funding += Fraction(held, 1_000) * mark * Fraction(rate)
    for fill in fills:
        qty = int(fill["side"]) * Fraction(int(fill["qty_steps"]), 1_000)
        cash -= qty * Fraction(int(fill["price_steps"]), 10)
        position += qty
        fees += Fraction(int(fill["fee_e12"]), 10**12)
    bid, ask = next((b, a) for _, b, a in reversed(touches(rows)) if b and a)
    total = measure(result).total
    assert funding != 0 and Fraction(total.pnl_funding) == -funding
    assert Fraction(total.pnl) == cash + position * Fraction(bid + ask, 20) - fees - funding
    orders = len(np.unique(result.fills["client_order_id"]))
    assert total.fill_ratio == orders / result.counts["orders_sent"]
    assert total.max_drawdown > 0 and total.samples == 1


def test_markouts_are_those_made_by_hand(backtest):
    rows, result = backtest
    found = touches(rows)
    mids = {int(ts): touch_at(found, int(ts)) for ts in result.states["ts_ns"]}
    mids[int(result.ends["ts_ns"][0])] = found[-1][1:]
    points = {point.horizon_ns: point for point in measure(result).instruments[0].markouts}
    for horizon_ns in (MS, 100 * MS, 1_000 * MS):
        worth, count = Fraction(0), 0
        for fill in result.fills:
            later = [ts for ts, (bid, ask) in sorted(mids.items())
                     if ts >= fill["ts_ns"] + horizon_ns and bid and ask]  # fmt: skip
            if later:
                mid = Fraction(sum(mids[later[0]]), 2)
                worth += (
                    int(fill["side"]) * int(fill["qty_steps"]) * (mid - int(fill["price_steps"]))
                )
                count += 1
        assert points[horizon_ns].fills == count > 10
        assert points[horizon_ns].markout == Decimal(int(worth * 2)) / 20_000
        assert points[horizon_ns].waited_ns_mean < horizon_ns + 1.2 * loop.STATE_NS

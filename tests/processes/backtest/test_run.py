"""Whole backtests on hand-made markets whose right answer is known."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from common.enums import OrderType, RequestKind, Side
from common.errors import ConfigError, UsageError
from common.fixed_point import INT64_MAX
from processes.backtest import exchange as at_venue
from processes.backtest import files, local, loop
from processes.backtest import run as run_module
from processes.backtest.events import EventKind, in_both_orders
from processes.backtest.lookahead import check
from processes.backtest.run import Run, load_data, load_setup, run
from processes.backtest.tapes import assemble
from processes.risk import limits, orders
from processes.risk.oms import OUT_COUNT
from processes.strategy import engine, stage

from tests.processes.backtest.made_market import START_NS, made_data, made_setup, row

TOUCH = "processes.strategy.touch_quoter:TouchQuoter"
DICE = "tests.processes.backtest.dice:Dice"
MS = 1_000_000
QUOTER = {"interval_ns": 10 * MS, "qty_steps": 5}
DEPTH, TRADE = EventKind.DEPTH, EventKind.TRADE


def market(*rows):
    """Return rows of (kind, side, price, qty, ms); each is seen 1 ms after it happened."""
    parts = [row(*each[:4], each[4] * MS, each[4] * MS + MS) for each in rows]
    return in_both_orders(np.concatenate(parts))


def quoted(tmp_path, *rows, **options):
    """Run the touch quoter on a market of one instrument."""
    setup = made_setup(tmp_path, TOUCH, QUOTER, **options)
    return run(setup, assemble([market(*rows)], setup.instruments, {}))


def test_strategy_and_risk_are_the_functions_that_run_live():
    assert loop.engine.run_turn is engine.run_turn is stage.engine.run_turn
    assert local.risk_limits.check_order is limits.check_order
    assert local.risk_limits.check_replace is limits.check_replace
    assert local.risk_limits.check_cancel is limits.check_cancel
    assert local.apply_request is orders.apply_request
    assert local.apply_execution_report is orders.apply_execution_report


BOOK = ((DEPTH, 1, 1_000, 7, 0), (DEPTH, -1, 1_002, 4, 0))


def test_touch_quoter_fills_when_the_queue_before_it_is_traded(tmp_path):
    """Quotes at 10 ms arrive at 12; 7 stand before the bid: the second trade lets 2 past it."""
    result = quoted(
        tmp_path, *BOOK, (TRADE, -1, 1_000, 6, 15), (TRADE, -1, 1_000, 3, 17),
        (TRADE, 1, 1_003, 1, 18), (DEPTH, 1, 999, 1, 60),
    )  # fmt: skip
    assert [
        (fill["ts_ns"] - START_NS, fill["side"], fill["price_steps"], fill["qty_steps"])
        for fill in result.fills
    ] == [(17 * MS, 1, 1_000, 5), (18 * MS, -1, 1_002, 5)]
    assert list(result.fills["maker"]) == [1, 1]
    assert list(result.fills["mid_steps2"]) == [2_002, 2_002]
    assert list(result.fills["fee_e12"]) == [-25_000_000, -25_050_000]  # 0.5 bps back
    last = result.states[-1]
    assert (last["position_steps"], last["balance_steps2"], last["trade_count"]) == (0, 10, 2)


def test_a_cadence_that_gives_the_strategy_no_turn_is_refused(tmp_path):
    momentum = "processes.strategy.momentum:Momentum"
    with pytest.raises(
        ConfigError, match="gives Momentum no turn, for it has no on_timer; expected"
    ):
        made_setup(tmp_path, momentum, {"ticks": 5}, cadence="timers")


def test_what_is_too_much_at_one_instant_stops_the_run_in_bounds(tmp_path):
    """Takers that walk a deep book, then all their answers: nothing is written past an array."""
    setup = made_setup(tmp_path, TOUCH, QUOTER, exchange="partial-fill")
    asks = [(DEPTH, -1, 1_002 + k, 1, 0) for k in range(500)]
    whole = Run(
        setup, assemble([market(*BOOK, *asks, (DEPTH, 1, 999, 1, 60))], setup.instruments, {})
    )
    whole.go()
    x, bus = whole.x, whole.x.buses[0]
    bus[:] = 0
    requests = x.requests[0, :60]
    requests[:] = 0
    requests[:, at_venue.R_KIND], requests[:, at_venue.R_TYPE] = RequestKind.NEW, OrderType.MARKET
    requests[:, at_venue.R_SIDE], requests[:, at_venue.R_QTY] = Side.BID, 500
    requests[:, at_venue.R_TS] = START_NS + 100 * MS
    bus[at_venue.REQUEST_END] = len(requests)
    before = x.words[at_venue.FILL_COUNT]
    at_venue.take_requests(x, 0, whole.clock.scratch, START_NS + 100 * MS)
    assert x.words[at_venue.STATUS] == at_venue.RESPONSES_FULL
    assert at_venue.RESPONSES_MAX < x.words[at_venue.FILL_COUNT] - before + 9 <= len(x.fills)
    with pytest.raises(UsageError, match="more than 4096 answers are under way at once"):
        whole.go()

    x.words[at_venue.STATUS] = at_venue.OK
    bus[at_venue.RESPONSE_FIRST], bus[at_venue.RESPONSE_END] = 0, at_venue.RESPONSES_MAX
    ts = START_NS + 200 * MS
    x.responses[0, :, at_venue.A_TS] = ts
    local.take_answers(whole.local, whole.oms, x, 0, ts)
    assert x.words[at_venue.STATUS] == at_venue.REPORTS_FULL
    assert whole.oms.words[OUT_COUNT] <= local.REPORTS_MAX
    with pytest.raises(
        UsageError, match="more than 4096 reports wait for the strategy's next turn"
    ):
        whole.go()


def test_partial_fills_let_only_past_what_was_traded(tmp_path):
    trades = ((TRADE, -1, 1_000, 9, 15), (TRADE, -1, 1_000, 1, 16), (DEPTH, 1, 999, 1, 60))
    result = quoted(tmp_path, *BOOK, *trades, exchange="partial-fill")
    assert [(f["ts_ns"] - START_NS, f["qty_steps"]) for f in result.fills] == [
        (15 * MS, 2), (16 * MS, 1),
    ]  # fmt: skip


def test_a_quote_through_the_moved_touch_expires_and_is_counted(tmp_path):
    """The ask falls to 1,000 while the bid at 1,000 is under way: post-only, so it expires."""
    moved = ((DEPTH, -1, 1_000, 4, 11), (DEPTH, 1, 999, 1, 60))
    result = quoted(tmp_path, *BOOK, *moved)
    assert result.counts["orders_rejected"] == 1 and not len(result.fills)


def test_states_are_a_row_per_timer_behind_all_events_up_to_it(tmp_path):
    result = quoted(tmp_path, *BOOK, (DEPTH, 1, 1_001, 1, 9), (DEPTH, 1, 999, 1, 35))
    assert list(result.states["ts_ns"] - START_NS) == [10 * MS, 20 * MS, 30 * MS]
    assert list(result.states["bid_price_steps"]) == [1_001] * 3  # seen at 10 ms exactly


def test_risk_refuses_as_it_does_live(tmp_path):
    key = "risk.limits.MADE0.order_qty_max"
    result = quoted(tmp_path, *BOOK, (DEPTH, 1, 999, 1, 35), **{key: "0.004"})
    assert result.counts["orders_rejected"] == result.counts["orders_sent"] == 6
    assert result.counts["intents"] == 6


def test_compute_time_delays_requests_and_turns(tmp_path):
    events = (*BOOK, (TRADE, -1, 999, 1, 14), (DEPTH, 1, 999, 1, 60))
    quick = quoted(tmp_path, *events)
    slow = quoted(tmp_path, *events, compute_ns=str(3 * MS))
    assert len(quick.fills) == 1 and not len(slow.fills)  # its bid arrived at 15 ms


def test_cadence_makes_no_difference_to_who_acts_on_timers(tmp_path):
    results = []
    for cadence in ("timers", "events"):
        setup = made_setup(
            tmp_path, DICE, {"interval_ns": 5 * MS, "seed": 3}, exchange="partial-fill",
            cadence=cadence,
        )  # fmt: skip
        results.append(run(setup, made_data(setup, 3, 600)))
    timers, events = results
    assert timers.fills.tobytes() == events.fills.tobytes() and len(timers.fills) > 20
    assert timers.states.tobytes() == events.states.tobytes()
    assert events.counts["turns"] > timers.counts["turns"]


def test_no_decision_looks_ahead_and_a_planted_look_is_caught(tmp_path):
    setup = made_setup(tmp_path, DICE, {"interval_ns": 5 * MS, "seed": 5}, count=2)
    data = made_data(setup, 5, 600)
    found = check(setup, data, cuts=40)
    assert found.differences == 0 and found.intents > 1_000
    planted = []
    for first, end in data.spans:  # what happens is seen 20 ms before it does
        rows = data.events[first:end][data.events["flags"][first:end] & 1 != 0].copy()
        rows["ts_recv_ns"] = rows["ts_exch_ns"] - 20 * MS
        planted.append(in_both_orders(rows))
    caught = check(setup, assemble(planted, setup.instruments, {}), cuts=40)
    assert caught.differences > 30 and "first at the cut" in caught.text


def test_slices_and_full_arrays_change_nothing(tmp_path, monkeypatch):
    setup = made_setup(tmp_path, DICE, {"interval_ns": 5 * MS, "seed": 9})
    data = made_data(setup, 9, 600)
    expected = run(setup, data)
    monkeypatch.setattr(run_module, "SLICE_EVENTS", 7)
    small = Run(setup, data)
    small.clock = small.clock._replace(states=small.clock.states[:3].copy())
    small.x = small.x._replace(fills=small.x.fills[:8].copy())
    small.go()
    result = small.result()
    assert result.fills.tobytes() == expected.fills.tobytes() and len(result.fills) > 20
    assert result.states.tobytes() == expected.states.tobytes()


def test_a_strategy_that_answers_itself_without_end_is_told_of(tmp_path):
    setup = made_setup(tmp_path, DICE, {"interval_ns": 5 * MS, "seed": 9})
    part = Run(setup, made_data(setup, 9, 60))
    part.clock.words[loop.TURNS_HERE] = loop.TURNS_PER_INSTANT_MAX + 1
    with pytest.raises(UsageError, match="turns at the instant .*, expected time to pass"):
        part.go()


@pytest.mark.parametrize("total", [local.FEE_E12, local.TURNOVER])
def test_a_total_that_would_wrap_stops_the_run(total, tmp_path):
    setup = made_setup(tmp_path, DICE, {"interval_ns": 5 * MS, "seed": 9})
    part = Run(setup, made_data(setup, 9, 600))
    part.local.accounts[0, total] = INT64_MAX - 1
    with pytest.raises(UsageError, match="the fees of an instrument.* or its turnover.*expected"):
        part.go()


def test_how_far_a_run_is_can_be_watched(tmp_path, monkeypatch):
    class Watch:
        seen: ClassVar = []

        def at(self, done):
            self.seen.append(done)

    setup = made_setup(tmp_path, DICE, {"interval_ns": 5 * MS, "seed": 9})
    data = made_data(setup, 9, 600)
    monkeypatch.setattr(run_module, "SLICE_EVENTS", 100)
    run(setup, data, Watch())
    assert len(Watch.seen) > 5 and Watch.seen == sorted(Watch.seen)
    assert Watch.seen[-1] == len(data.here) + len(data.venue)


def hft_events(*rows) -> np.ndarray:
    """Return hftbacktest events: (ev, exch ms, local ms, price, quantity)."""
    fields = [("ev", "i8"), ("exch_ts", "i8"), ("local_ts", "i8"), ("px", "f8"), ("qty", "f8")]
    events = np.zeros(len(rows), fields)
    for event, (ev, exch, seen, px, qty) in zip(events, rows, strict=True):
        event["ev"], event["px"], event["qty"] = ev, px, qty
        event["exch_ts"], event["local_ts"] = START_NS + exch * MS, START_NS + seen * MS
    return events


BOTH = 1 << 31 | 1 << 30
BUY, SELL = 1 << 29, 1 << 28


def test_event_arrays_are_read_with_their_flags_and_refused_off_the_grid(tmp_path):
    setup = made_setup(tmp_path, TOUCH, QUOTER)
    path = tmp_path / "events.npz"
    good = [
        (BOTH | BUY | 1, 0, 1, 100.0, 0.007), (BOTH | SELL | 4, 0, 1, 100.2, 0.004),
        (BOTH | SELL | 2, 15, 16, 99.9, 0.001), (BOTH | BUY | 3, 60, 61, 99.0, 0.0),
        (BOTH | BUY | 5, 60, 61, 99.0, 0.0),
    ]  # fmt: skip
    np.savez(path, data=hft_events(*good))
    data = load_data(setup, [path])
    assert data.notes == {"other_events": 1}
    result = run(setup, data)
    assert [fill["price_steps"] for fill in result.fills] == [1_000]
    for bad, expected in (
        ((BOTH | BUY | 1, 0, 1, 100.05, 0.007), r"px: row 0 is .*100.05.*multiple of 1e-1"),
        ((BOTH | BUY | 1, 0, 1, 100.0, 0.0005), "qty: row 0"),
        ((BOTH | BUY | 1, 90, 91, 100.0, 0.001), "event 1: venue time .* is before"),
    ):
        np.savez(path, data=hft_events(bad, *good))
        with pytest.raises(UsageError, match=expected):
            load_data(setup, [path])
    path.write_bytes(b"not a file of arrays")
    with pytest.raises(UsageError, match="expected an .npz with an array named data"):
        load_data(setup, [path])
    with pytest.raises(UsageError, match="is not there"):
        load_data(setup, [tmp_path / "nothing.npz"])


def test_settings_reach_their_tables_and_wrong_ones_are_refused(tmp_path):
    made_setup(tmp_path, TOUCH, QUOTER)
    path = tmp_path / "setup.toml"
    overrides = {
        "qty_steps": "7", "strategy.params.interval_ns": "5", "queue": "power2",
        "risk.limits.MADE0.order_qty_max": "3", "feed_offset_ns": "9",
        "backtest.order_latency.request_ns": "11",
    }  # fmt: skip
    setup = load_setup(path, overrides)
    assert (setup.params["qty_steps"], setup.params["interval_ns"]) == (7, 5)
    assert (setup.backtest.queue, setup.backtest.feed_offset_ns) == ("power2", 9)
    assert setup.file.risk.limits["MADE0"].order_qty_max == "3"
    assert setup.backtest.order_latency.request_ns == 11
    for key, value, expected in (
        ("nothing", "1", "--set nothing: is in no table"),
        ("strategy.params.nothing", "1", "--set strategy.params.nothing"),
        ("queue", "fifo", "fifo"),
        ("fee_tier", "gold", "expected one of only"),
    ):
        with pytest.raises(ConfigError, match=expected):
            load_setup(path, {key: value})


def test_instruments_of_two_venues_are_merged_by_local_time(tmp_path):
    """The other venue's event is later at its venue, and seen earlier: it counts before."""
    made_setup(tmp_path, TOUCH, QUOTER)
    other = '[other.MADE0]\ntick_size = "0.1"\nlot_size = "0.001"\n'
    with (tmp_path / "instruments.toml").open("a") as file:
        file.write(f"{other}price_decimals = 1\nqty_decimals = 3\n")
    text = (tmp_path / "setup.toml").read_text()
    more = 'fees.high = { maker = "0.001", taker = "0.001" }\nfee_tiers.other = "high"\n'
    text = text.replace("fee_tier =", f'also = ["other:MADE0"]\n{more}fee_tier =')
    (tmp_path / "setup.toml").write_text(text)
    setup = load_setup(tmp_path / "setup.toml", {})
    assert [(one.venue, one.instrument_id) for one in setup.instruments] == [
        ("made", 0), ("other", 1),
    ]  # fmt: skip
    for name, shift in (("made", 0), ("other", 1)):
        events = [
            (BOTH | BUY | 1, shift, 1, 100.0, 0.007), (BOTH | SELL | 1, shift, 1, 100.2, 0.004),
            (BOTH | SELL | 2, 15 + shift, 17, 99.9, 0.001), (BOTH | BUY | 1, 60, 61, 99.0, 0.1),
        ]  # fmt: skip
        np.savez(tmp_path / f"{name}.npz", data=hft_events(*events))
    paths = [Path(f"{name}:MADE0={tmp_path / name}.npz") for name in ("other", "made")]
    result = run(setup, load_data(setup, paths))
    assert [(f["instrument_id"], f["ts_ns"] - START_NS, f["fee_e12"]) for f in result.fills] == [
        (0, 15 * MS, -25_000_000), (1, 16 * MS, 500_000_000),
    ]  # fmt: skip
    assert set(result.states["instrument_id"]) == {0, 1}
    with pytest.raises(UsageError, match="does not say whose events it holds"):
        load_data(setup, [tmp_path / "made.npz"])


def test_files_have_the_columns_promised(tmp_path):
    result = quoted(tmp_path, *BOOK, (TRADE, -1, 999, 1, 15), (DEPTH, 1, 999, 1, 35))
    files.write_fills(tmp_path / "fills.csv", result)
    files.write_states(tmp_path / "states.csv", result)
    fills = (tmp_path / "fills.csv").read_text().splitlines()
    assert fills[0] == "ts_ns,symbol,side,price,qty,maker,fee,client_order_id"
    ts = START_NS + 15 * MS
    assert fills[1].startswith(f"{ts},MADE0,buy,100.0,0.005,1,-0.000025000000,")
    states = (tmp_path / "states.csv").read_text().splitlines()
    assert states[0] == "ts_ns,symbol,position,balance,fee,trades,best_bid,best_ask"
    ts = START_NS + 30 * MS
    assert states[-1] == f"{ts},MADE0,0.005,-0.5000,-0.000025000000,1,100.0,100.2"
    summary = files.summary_of(result)
    assert summary["instruments"]["MADE0"]["position"] == "0.005"
    large = np.repeat(result.fills, 3)
    large["fee_e12"] = 1 << 62  # three of them are over 2^63
    told = files.summary_of(result._replace(fills=large))["instruments"]["MADE0"]
    assert told["fee"] == "13835058.055282163712"
    with pytest.raises(UsageError, match="no such file"):
        files.write_summary(Path(tmp_path, "nowhere", "s.json"), summary)

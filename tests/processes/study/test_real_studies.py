"""Sweep, walk-forward, report and latency sensitivity on the real backtester."""

import json
import sys
from decimal import Decimal

import numpy as np
import pytest

from common import kernel_cache
from processes import cli
from processes.backtest.events import AT_LOCAL
from processes.backtest.run import load_data, load_setup, run
from processes.backtest.sensitivity import ADDED_NS, latency_curve, with_latency
from processes.report.metrics import measure
from processes.report.page import write_report
from processes.study.plan import Loaded, keys_of, plan_of
from processes.study.results_file import FILE_NAME
from processes.study.subject import BACKTESTER, backtester
from processes.study.sweep import RANKING_NAME, engine_of, run_sweep
from processes.study.walk_forward import walk_forward, windows_of
from processes.study.windows import cut, span_of

from tests.processes.study.made_events import START_NS, S, write_events, write_setup

GRID = ["interval_ns=100_000_000,250_000_000,1_000_000_000", "qty_steps=5,10"]


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    folder = tmp_path_factory.mktemp("market")
    return write_setup(folder), write_events(folder / "events.npz")


def test_results_are_bit_equal_for_any_number_of_processes(market, tmp_path, capsys):
    config, events = market
    for out, jobs in (("one", 1), ("three", 3)):
        plan = plan_of(config, [events], GRID, "pnl", jobs)
        engine = engine_of("local", BACKTESTER, "")
        assert run_sweep(plan, BACKTESTER, tmp_path / out, engine, False) == 0
    for name in (RANKING_NAME, FILE_NAME):
        one, three = ((tmp_path / out / name).read_bytes() for out in ("one", "three"))
        assert sorted(one.splitlines()) == sorted(three.splitlines())
        assert len(set(one.splitlines())) == 6 + (name == RANKING_NAME)
    assert "6 combinations, 6 computed now" in capsys.readouterr().out


def test_a_wrong_combination_is_told_with_its_reason(market, tmp_path, capsys):
    config, events = market
    plan = plan_of(config, [events], ["qty_steps=10,1.5"], "pnl", 1)
    engine = engine_of("local", BACKTESTER, "")
    assert run_sweep(plan, BACKTESTER, tmp_path, engine, False) == 1
    assert "failed: qty_steps=1.5: strategy.params.qty_steps: found 1.5" in capsys.readouterr().err


def test_the_books_of_the_strategy_and_of_the_fills_agree(market):
    """At the last timer with nothing under way, what was reported is what was filled."""
    config, events = market
    setup = load_setup(config, {"interval_ns": "1_000_000_000"})
    result = run(setup, load_data(setup, [events]))
    last = result.states[-1]
    told = result.fills[result.fills["ts_ns"] + 1_000_000 <= last["ts_ns"]]
    signed = told["side"].astype(np.int64) * told["qty_steps"]
    assert len(told) > 5
    assert last["position_steps"] == signed.sum()
    assert last["balance_steps2"] == -(signed * told["price_steps"]).sum()
    assert last["fee_e12"] == told["fee_e12"].sum()
    figures = measure(result).total
    assert figures.pnl_fees == -Decimal(int(result.fills["fee_e12"].sum())).scaleb(-12)


def test_a_cut_of_everything_runs_the_same(market):
    config, events = market
    setup = load_setup(config, {})
    data = load_data(setup, [events])
    whole = run(setup, data)
    again = run(setup, cut(setup, data, 0, 1 << 62))
    assert again.fills.tobytes() == whole.fills.tobytes()
    assert again.states.tobytes() == whole.states.tobytes()


def test_what_comes_later_changes_no_choice(market):
    """On the real events: later prices and quantities are replaced, all choices before stay."""
    config, events = market
    plan = plan_of(config, [events], GRID, "pnl", 2)
    loaded = Loaded(backtester(), plan)
    data = loaded.any_data()
    windows = windows_of(span_of(data), 12 * S, 8 * S, 0)
    before = walk_forward(plan, loaded, windows)
    assert len(before) == 3 and all(step.result is not None for step in before)
    for row, window in enumerate(windows):
        other = data.events.copy()
        late = (other["ts_exch_ns"] >= window.middle_ns) & (other["flags"] & AT_LOCAL != 0)
        other["qty_steps"][late] = other["qty_steps"][late][::-1] * 3 % 7_000 + 1
        changed = data._replace(events=other)
        subject = backtester()._replace(load_data=lambda setup, paths, now=changed: now)
        after = walk_forward(plan, Loaded(subject, plan), windows)
        assert [s.chosen for s in after[: row + 1]] == [s.chosen for s in before[: row + 1]]
        for old, new in zip(before[:row], after[:row], strict=True):
            assert old.result.states.tobytes() == new.result.states.tobytes()
        assert before[row].result.fills.tobytes() != after[row].result.fills.tobytes()


def test_added_latency_is_added_to_each_way(market):
    config, events = market
    setup = load_setup(config, {})
    slower = with_latency(setup, 5_000_000)
    assert slower.backtest.order_latency.offset_ns == 5_000_000
    assert setup.backtest.order_latency.offset_ns == 0
    data = load_data(setup, [events])
    curve = latency_curve(setup, data, [0, 5_000_000, 80_000_000])
    assert curve[0] == (0, measure(run(setup, data)).total.pnl)
    assert 0 not in ADDED_NS  # the report has that one
    assert curve[1] == (5_000_000, measure(run(slower, data)).total.pnl)
    assert len({pnl for _added, pnl in curve}) == 3


def test_a_report_of_a_real_run(market, tmp_path):
    config, events = market
    setup = load_setup(config, {})
    data = load_data(setup, [events])
    curve = latency_curve(setup, data, [1_000_000])
    write_report(tmp_path / "r.html", setup, run(setup, data), curve)
    body = (tmp_path / "r.html").read_text().partition("<body>")[2]
    assert "<td>file.backtest.fees.regular.maker</td>" in body
    assert '<td>params.interval_ns</td><td class="value">100000000</td>' in body


def test_a_key_covers_the_files_that_the_config_names(market):
    config, events = market
    plan = plan_of(config, [events], [], "pnl", 1)
    before = keys_of(backtester(), plan)
    assert keys_of(backtester(), plan) == before
    named = config.parent / "instruments.toml"
    text = named.read_text()
    named.write_text(text + "\n")
    assert keys_of(backtester(), plan) != before
    named.write_text(text)
    assert keys_of(backtester(), plan) == before
    (config.parent / "more.toml").write_text('include = "c.toml"\n')
    plan = plan._replace(config=config.parent / "more.toml")
    including = keys_of(backtester(), plan)
    text = config.read_text()
    config.write_text(text.replace('taker = "0.0005"', 'taker = "0.0004"'))
    assert keys_of(backtester(), plan) != including
    config.write_text(text)


def test_a_sweep_sees_a_change_in_a_file_that_only_the_grid_names(market, tmp_path, capsys):
    """The config names no funding; of two files that the grid names one is changed."""
    config, events = market
    files = [config.parent / name for name in ("a.csv", "b.csv")]
    line = f"ts_ns,symbol,rate,mark_price\n{START_NS + 20 * S},BTCUSDT,{{}},60000\n"
    for file, rate in zip(files, ("0.001", "0.002"), strict=True):
        file.write_text(line.format(rate))
    plan = plan_of(config, [events], ["funding_file=a.csv,b.csv"], "pnl_funding", 1)

    def funding():
        engine = engine_of("local", BACKTESTER, "")
        assert run_sweep(plan, BACKTESTER, tmp_path, engine, True) == 0
        found = json.loads(capsys.readouterr().out)
        amounts = {
            row["parameters"]["funding_file"]: row["figures"]["pnl_funding"]
            for row in found["rows"]
        }
        return found["computed"], amounts["a.csv"], amounts["b.csv"]

    _, first, second = funding()
    assert second == pytest.approx(2 * first) and first != 0
    assert funding() == (0, first, second)
    files[1].write_text(line.format("0.003"))
    computed, same, changed = funding()
    assert (computed, same) == (1, first) and changed == pytest.approx(3 * first)


def test_data_are_read_once_for_each_way_in_which_set_ups_want_them(market):
    config, events = market
    grid = ["feed_offset_ns=0,70_000_000", "qty_steps=5,10"]
    loaded = Loaded(backtester(), plan_of(config, [events], grid, "pnl", 1))
    assert len(loaded._data) == 2
    pnl = [measure(loaded.result_of(one)).total.pnl for one in loaded.plan.combinations]
    for parameters, found in zip(loaded.plan.combinations, pnl, strict=True):
        setup = load_setup(config, parameters)
        assert found == measure(run(setup, load_data(setup, [events]))).total.pnl
    assert pnl[0] != pnl[2]


def test_the_commands(market, tmp_path, monkeypatch, capsys):
    config, events = market
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(kernel_cache, "configure", lambda: None)

    def tickring(*arguments):
        monkeypatch.setattr(sys, "argv", ["tickring", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0), *capsys.readouterr()

    code, _out, err = tickring(
        "backtest", config, "--data", events, "--summary", "s.json", "--report", "r.html"
    )
    assert code == 0, err
    figures = json.loads((tmp_path / "s.json").read_text())["figures"]
    assert Decimal(figures["total"]["pnl"]) == Decimal(figures["instruments"][0]["pnl"]) != 0
    assert '<div id="latency"' in (tmp_path / "r.html").read_text()
    asked = (config, "--data", events, "--grid", "interval_ns=250_000_000,500_000_000")
    code, out, _err = tickring("sweep", *asked, "qty_steps=5,10", "--jobs", 1, "--json")
    found = json.loads(out)
    assert code == 0 and len(found["rows"]) == 4 and found["folder"] == "c.sweep"
    assert found["rows"][0]["figures"]["pnl"] >= found["rows"][-1]["figures"]["pnl"]
    code, out, _err = tickring("walk-forward", *asked, "--in", "15s", "--out", "10s")
    assert code == 0 and "2 windows, 2 combinations" in out
    assert (tmp_path / "c.walk" / "walk-forward.json").exists()
    code, _out, err = tickring("walk-forward", *asked, "--in", "20", "--out", "10s")
    assert code == 2 and "--in: '20', expected a number and ms, s, m or h" in err
    code, _out, err = tickring("sweep", "nowhere.toml", *asked[1:])
    assert code == 78 and "nowhere.toml: no such file" in err
    code, _out, err = tickring("sweep", config, "--data", "nowhere", "--grid", "qty_steps=1,2")
    assert code == 2 and "nowhere: no such file" in err
    code, _out, err = tickring("sweep", *asked, "--metric", "profit")
    assert code == 2 and "--metric: 'profit', expected one of span_ns" in err

"""`tickring backtest` from its arguments to its files."""

import csv
import json
import sys

import numpy as np
import pytest

from common.errors import UsageError
from processes.backtest.command import overrides_of, run

from tests.processes.backtest.made_market import made_setup
from tests.processes.backtest.test_run import BOTH, BUY, SELL, hft_events

NOTHING = {"report": None, "summary": None, "fills": None, "states": None}


@pytest.fixture
def market(tmp_path):
    """A set-up and an event file: (config, data)."""
    made_setup(tmp_path, "processes.strategy.touch_quoter:TouchQuoter",
               {"interval_ns": 10_000_000, "qty_steps": 5})  # fmt: skip
    events = [
        (BOTH | BUY | 1, 0, 1, 100.0, 0.007), (BOTH | SELL | 1, 0, 1, 100.2, 0.004),
        (BOTH | SELL | 2, 15, 16, 99.9, 0.001), (BOTH | BUY | 1, 60, 61, 99.0, 0.1),
    ]  # fmt: skip
    np.savez(tmp_path / "events.npz", data=hft_events(*events))
    return tmp_path / "setup.toml", tmp_path / "events.npz"


def test_files_are_written_and_the_counts_printed(market, tmp_path, capsys):
    config, data = market
    wanted = {name: tmp_path / f"{name}.csv" for name in ("fills", "states")}
    wanted["summary"] = tmp_path / "summary.json"
    code = run(config, [data], settings=["qty_steps=4"], check_lookahead=True, **(NOTHING | wanted))
    assert code == 0
    with wanted["fills"].open() as file:
        [fill] = csv.DictReader(file)
    assert (fill["side"], fill["price"], fill["qty"], fill["maker"]) == (
        "buy",
        "100.0",
        "0.004",
        "1",
    )
    with wanted["states"].open() as file:
        assert list(csv.DictReader(file))[-1]["position"] == "0.004"
    summary = json.loads(wanted["summary"].read_text())
    assert summary["fills"] == 1 and summary["instruments"]["MADE0"]["position"] == "0.004"
    printed, on_error = capsys.readouterr()
    assert not on_error  # no terminal, no bar
    assert printed.startswith("made:MADE0: pnl 0.0004  fees -0.0000") and "max drawdown" in printed
    assert "orders_sent" in printed and "MADE0: venue made  fills 1" in printed
    assert "cuts: 100  intents compared: " in printed and "differences: 0" in printed


def test_a_terminal_is_shown_how_far_it_is(market, tmp_path, monkeypatch, capsys):
    config, data = market
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    report = {"report": tmp_path / "r.html"}
    assert run(config, [data], settings=[], check_lookahead=True, **(NOTHING | report)) == 0
    printed, on_error = capsys.readouterr()
    for what in ("reading data", "backtest", "added latency", "lookahead"):
        assert what in on_error
    assert "\x1b" not in printed and printed.startswith("made:MADE0: pnl ")


def test_a_lookahead_proof_without_intents_proves_nothing(market, capsys):
    config, data = market
    settings = ["interval_ns=10_000_000_000"]
    assert run(config, [data], settings=settings, check_lookahead=True, **NOTHING) == 1
    printed = capsys.readouterr().out
    assert "the strategy had no intent" in printed and "no intent was compared" in printed


def test_a_setting_without_a_value_is_refused():
    assert overrides_of(["a.b=c=d", " e = 1 "]) == {"a.b": "c=d", "e": "1"}
    with pytest.raises(UsageError, match="--set: 'x', expected key=value"):
        overrides_of(["x"])

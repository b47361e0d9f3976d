"""Parity with hftbacktest 2.4.x, from one event file: every state, and every fill.

It is installed in an environment of its own, because it pins numpy:

    python -m venv ENV && ENV/bin/pip install "hftbacktest>=2.4,<2.5"
    TICKRING_HFTBACKTEST_PYTHON=ENV/bin/python pytest tests/processes/backtest/test_hftbacktest.py

Where hftbacktest stops with an error of its own (rules.py, 6), all is equal up to there.
"""

import csv
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from processes.backtest.run import load_data, load_setup, run
from processes.results import Result

from tests.processes.backtest.made_orders import made_history
from tests.support import ROOT, capture

SCRIPT = Path(__file__).with_name("reference_hftbacktest.py")
CAPTURE = "binance-usdm-btcusdt-20240808.gz"
CONFIG = ROOT / "configs" / "backtest.toml"
INVALID_ORDER_STATUS = 14
# Their names of what differs from the reference set-up, and ours.
CASES = {
    "reference": ({}, {}),
    "power": ({"queue": "power3:3.0"}, {"queue": "power3"}),
    "slow-log": (
        {"queue": "log", "entry-ns": 35_000_000, "response-ns": 90_000_000},
        {
            "queue": "log",
            "order_latency.request_ns": "35000000",
            "order_latency.response_ns": "90000000",
        },
    ),
    "fast-power2": (
        {"queue": "power2:1.5", "interval-ns": 20_000_000, "depth": "hash"},
        {"queue": "power2", "queue_power": "1.5", "interval_ns": "20000000"},
    ),
    "partial": ({"exchange": "partial"}, {"exchange": "partial-fill"}),
    "partial-power": (
        {"exchange": "partial", "queue": "power:2.0", "qty": 0.011},
        {"exchange": "partial-fill", "queue": "power", "queue_power": "2.0", "qty_steps": "11"},
    ),
}


@pytest.fixture(scope="module")
def python() -> str:
    """The interpreter that has hftbacktest."""
    path = os.environ.get("TICKRING_HFTBACKTEST_PYTHON", "")
    if not path:
        pytest.skip("TICKRING_HFTBACKTEST_PYTHON is not set: no environment with hftbacktest")
    return path


@pytest.fixture(scope="module")
def events(python, tmp_path_factory) -> Path:
    """The shared capture, read by hftbacktest itself."""
    source = capture(CAPTURE)
    path = tmp_path_factory.mktemp("hftbacktest") / "events.npz"
    subprocess.run([python, SCRIPT, "convert", source, path], check=True, stdout=subprocess.DEVNULL)
    return path


def theirs(python: str, events: Path, out: Path, options: dict) -> tuple[dict, list, list]:
    """Run the reference; return (end, states, fills)."""
    flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    command = [python, str(SCRIPT), "run", str(events), str(out), *flags]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    rows = []
    for name in ("states", "fills"):
        with Path(f"{out}.{name}.csv").open() as file:
            rows.append(list(csv.DictReader(file)))
    return json.loads(done.stdout), rows[0], rows[1]


def ours(events: Path, overrides: dict) -> Result:
    """Run the same with the backtester."""
    named = {f"backtest.{key}" if "." in key else key: value for key, value in overrides.items()}
    setup = load_setup(CONFIG, named)
    return run(setup, load_data(setup, [events]))


def told_fills(result: Result) -> list[tuple[int, ...]]:
    """Return (instant, side, price, quantity, maker), what an order filled at one instant added."""
    added: dict[tuple[int, ...], int] = {}
    for fill in result.fills:
        key = tuple(
            int(fill[name]) for name in ("ts_ns", "client_order_id", "side", "price_steps", "maker")
        )
        added[key] = added.get(key, 0) + int(fill["qty_steps"])
    return [(ts, side, price, qty, maker) for (ts, _, side, price, maker), qty in added.items()]


def check_states(result: Result, states: list) -> None:
    """Compare every state that both have."""
    for ours_row, row in zip(result.states, states, strict=False):
        assert ours_row["ts_ns"] == int(row["ts_ns"])
        where = f"at {row['ts_ns']}"
        assert ours_row["position_steps"] == round(float(row["position"]) * 1e3), where
        assert ours_row["balance_steps2"] == round(float(row["balance"]) * 1e4), where
        assert ours_row["trade_count"] == int(row["trades"]), where
        assert abs(int(ours_row["fee_e12"]) * 1e-12 - float(row["fee"])) < 1e-9, where
        for side in ("bid", "ask"):
            price = float(row[f"best_{side}"])
            steps = round(price * 10) if np.isfinite(price) else 0
            assert ours_row[f"{side}_price_steps"] == steps, where


@pytest.mark.parametrize("name", CASES)
def test_every_state_and_fill_is_that_of_hftbacktest(name, python, events, tmp_path):
    options, overrides = CASES[name]
    end, states, fills = theirs(python, events, tmp_path / "out", options)
    result = ours(events, overrides)
    assert len(states) > 100 and len(fills) > 20
    check_states(result, states)
    expected = [
        (int(row["ts_ns"]), int(row["side"]), int(row["price_tick"]), int(row["qty"]) // 100_000,
         int(row["maker"]))
        for row in fills
    ]  # fmt: skip
    if end["code"] == INVALID_ORDER_STATUS:
        assert "partial" in name
        found = [fill for fill in told_fills(result) if fill[0] <= expected[-1][0]]
    else:
        assert 0 <= len(result.states) - len(states) <= 1  # its last answers come after the data
        found = told_fills(result)
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("seed", [1, 2])
def test_every_fill_of_single_orders_is_that_of_hftbacktest(seed, python, tmp_path):
    """L3: our orders are less than any fill, and at no better price than the history's."""
    events = tmp_path / "orders.npz"
    np.savez(events, data=made_history(seed, 60))
    options = {"queue": "l3-fifo", "qty": 0.005}
    _, states, fills = theirs(python, events, tmp_path / "out", options)
    result = ours(events, {"exchange": "order-by-order", "qty_steps": "5"})
    check_states(result, states)
    expected = [
        (int(row["ts_ns"]), int(row["side"]), int(row["price_tick"]), int(row["qty"]) // 100_000,
         int(row["maker"]))
        for row in fills
    ]  # fmt: skip
    assert len(states) > 500 and len(expected) > 500
    assert sorted(told_fills(result)) == sorted(expected)


def test_the_reference_ends_where_it_is_known_to(python, events):
    result = ours(events, {})
    assert len(result.fills) == 452
    assert result.states[-1]["position_steps"] == 120
    assert round(int(result.fills["fee_e12"].sum()) * 1e-12, 2) == 55.79

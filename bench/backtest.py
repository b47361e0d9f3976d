"""Backtest speed at equal cadence: the same events and strategy as hftbacktest's ROIVector engine.

    TICKRING_HFTBACKTEST_PYTHON=ENV/bin/python python -m bench.backtest [--smoke] [--rounds 7]

Both read one event file: the shared capture, converted by hftbacktest; or, where that is not there,
a made market. `touch_quoter` quotes both touches of 0.01 every 100 ms of local time; constant
latency, risk-averse queue, no partial fills. Both count the CPU time of one whole run after one
that compiled, and must end in the same position after the same number of trades. hftbacktest keeps
a book of prices 0 to 200,000; ours, of all prices that the data names.

The second row is about single orders: a made history, hftbacktest's L3FIFOQueueModel against the
venue's matching engine, quotes of 0.005.
"""

import atexit
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.harness import ROOT, Result, Row, Run, Session, main
from processes.backtest.local import POSITION, TRADES
from processes.backtest.run import Run as Backtest
from processes.backtest.run import load_data, load_setup

from tests.processes.backtest.made_orders import made_history

RIVAL = "hftbacktest ROIVector"
ORDERS_RIVAL = "hftbacktest L3FIFO"
ORDERS_SECONDS = 400
VARIABLE = "TICKRING_HFTBACKTEST_PYTHON"
REFERENCE = ROOT / "tests" / "processes" / "backtest" / "reference_hftbacktest.py"
CONFIG = ROOT / "configs" / "backtest.toml"
CAPTURE = ROOT.parent / "shared" / "data" / "binance-usdm-btcusdt-20240808.gz"
DEPTH_BUY, DEPTH_SELL = 1 | 0b111 << 29, 1 | 0b1101 << 28
TRADE_BUY, TRADE_SELL = 2 | 0b111 << 29, 2 | 0b1101 << 28


class Files:
    """An event file, cut to the size asked for.

    Attributes:
        overrides: what of the set-up is other than in CONFIG.
        flags: the same for the reference.
    """

    def __init__(self, whole: Path, overrides: dict[str, str], flags: list[str]) -> None:
        self.whole = whole
        self.overrides = overrides
        self.flags = flags

    def path(self, size: int) -> Path:
        """Return the file with the first `size` rows."""
        path = self.whole.with_stem(f"{self.whole.stem}-{size}")
        if not path.exists():
            np.savez(path, data=np.load(self.whole)["data"][:size])
        return path


def levels_file(folder: Path, python: str) -> Files:
    """Return the shared capture as hftbacktest reads it, or a made market."""
    whole = folder / "events.npz"
    if python and CAPTURE.exists():
        command = [python, str(REFERENCE), "convert", str(CAPTURE), str(whole)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    else:
        np.savez(whole, data=made_events(500_000))
    return Files(whole, {"backtest.rules": "hftbacktest-roi"}, [])


def orders_file(folder: Path) -> Files:
    """Return a made history of single orders."""
    whole = folder / "orders.npz"
    np.savez(whole, data=made_history(1, ORDERS_SECONDS))
    overrides = {"exchange": "order-by-order", "qty_steps": "5"}
    return Files(whole, overrides, ["--queue", "l3-fifo", "--qty", "0.005"])


def made_events(count: int) -> np.ndarray:
    """Return a random market in hftbacktest's layout: three of four rows are depth."""
    draw = np.random.default_rng(1)
    fields = [("ev", "i8"), ("exch_ts", "i8"), ("local_ts", "i8"), ("px", "f8"), ("qty", "f8")]
    events = np.zeros(count, fields)
    middle = 600_000 + np.cumsum(draw.integers(-1, 2, count) * (draw.random(count) < 0.01))
    is_buy, is_trade = draw.random(count) < 0.5, draw.random(count) < 0.05
    kinds = np.where(is_buy, DEPTH_BUY, DEPTH_SELL)
    events["ev"] = np.where(is_trade, np.where(is_buy, TRADE_BUY, TRADE_SELL), kinds)
    away = np.where(is_trade, 0, draw.geometric(0.02, count))
    events["px"] = (middle + np.where(is_buy, -away, away)) / 10
    events["qty"] = draw.integers(0, 2_000, count) / 1_000
    events["exch_ts"] = 1_700_000_000_000_000_000 + np.cumsum(draw.integers(0, 1_400_000, count))
    events["local_ts"] = events["exch_ts"] + 3_000_000
    return events


def checksum(position_steps: int, trades: int) -> int:
    """Return one number for where a run ended."""
    return position_steps * 1_000_003 + trades


def run_ours(files: Files, size: int) -> Result:
    """Run the backtest twice; the first one may compile."""
    setup = load_setup(CONFIG, files.overrides)
    data = load_data(setup, [files.path(size)])
    took_ns = 0
    for _ in range(2):
        backtest = Backtest(setup, data)
        start_ns = time.process_time_ns()
        backtest.go()
        took_ns = time.process_time_ns() - start_ns
    account = backtest.local.accounts[0]
    trades, position_steps = int(account[TRADES]), int(account[POSITION])
    detail = {"trades": float(trades), "ms": took_ns / 1e6}
    return Result(size * 1e3 / took_ns, checksum(position_steps, trades), detail)


def run_rival(python: str, files: Files, size: int) -> Result:
    """Run hftbacktest in its own environment."""
    command = [python, str(REFERENCE), "time", str(files.path(size)), "--repeat", "1", *files.flags]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    end = json.loads(done.stdout.splitlines()[-1])
    detail = {"trades": float(end["trades"]), "ms": end["ns"] / 1e6}
    position_steps = round(end["position"] * 1e3)
    return Result(size * 1e3 / end["ns"], checksum(position_steps, end["trades"]), detail)


def row(question: str, rival: str, files: Files, python: str, reach: float) -> Row:
    """Return a row about one file."""
    count = len(np.load(files.whole)["data"])
    rivals: dict[str, Run] = {}
    if python:
        rivals[rival] = lambda size: run_rival(python, files, size)
    return Row(
        question=question,
        unit="M event rows/s",
        ours=lambda size: run_ours(files, size),
        rivals=rivals,
        reach={rival: reach} if python and reach else {},
        size=count,
        smoke_size=min(count, 100_000),
        note="" if python else f"{VARIABLE} is not set: no rival",
    )


def rows(session: Session) -> Sequence[Row]:
    """Return the rows of this bench: levels, and single orders."""
    folder = Path(tempfile.mkdtemp(prefix="tickring-bench-"))
    atexit.register(shutil.rmtree, folder)
    python = os.environ.get(VARIABLE, "")
    what = "touch_quoter every 100 ms, equal events, position and trades"
    levels, orders = levels_file(folder, python), orders_file(folder)
    return [
        row(f"backtest, {what}", RIVAL, levels, python, 1.5),
        row(f"backtest order by order, {what}", ORDERS_RIVAL, orders, python, 0.0),
    ]


if __name__ == "__main__":
    main("backtest", rows, excluded="reading and preparing the file, compiling")

"""A backtester that is simple enough to know its answers, in place of the real one in studies.

The data are lines "time price"; the strategy holds +1 after a rise of at least `edge` over
`lookback` rows and -1 after such a fall. As a program it sweeps with it, so that tests can kill it.
"""

import os
import signal
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.config import Base, load
from common.errors import ConfigError, UsageError
from processes.results import Result
from processes.study.plan import Parameters, Subject, plan_of
from processes.study.sweep import engine_of, run_sweep

from tests.processes.report.made_results import BTC, made_result

DEADLY = 666


class FakeSetUp(Base):
    edge: int = 1
    lookback: int = 3
    spins: int = 0


class FakeData(NamedTuple):
    ts_ns: np.ndarray
    prices: np.ndarray


def load_setup(config: Path, overrides: Parameters) -> FakeSetUp:
    base = load(config, FakeSetUp)
    values = {name: getattr(base, name) for name in FakeSetUp.__struct_fields__}
    for key, text in overrides.items():
        if key not in values:
            raise UsageError(f"--set: {key!r}, expected one of {', '.join(values)}")
        if not text.isdigit():
            raise ConfigError(f"{config}: {key}: {text!r}, expected an integer")
        values[key] = int(text)
    return FakeSetUp(**values)


def load_data(_setup: FakeSetUp, paths: list[Path]) -> FakeData:
    rows = [
        tuple(map(int, line.split())) for path in paths for line in path.read_text().splitlines()
    ]
    return FakeData(*np.array(rows, np.int64).T)


def run(setup: FakeSetUp, data: FakeData) -> Result:
    if setup.edge == DEADLY:
        os.kill(os.getpid(), signal.SIGKILL)
    for _ in range(setup.spins):
        sum(range(1_000))
    fills, states, position, balance = [], [], 0, 0
    prices = data.prices.tolist()
    for row, (ts, price) in enumerate(zip(data.ts_ns.tolist(), prices, strict=True)):
        past = prices[max(row - setup.lookback, 0)]
        wanted = (price - past >= setup.edge) - (past - price >= setup.edge) or position
        if wanted != position:
            side = 1 if wanted > position else -1
            qty = abs(wanted - position)
            fills.append((ts, len(fills) + 1, price, qty, 10**6, 2 * price, 0, side, 0))
            balance -= side * qty * price
            position = wanted
        fee = 10**6 * len(fills)
        states.append((ts, position, balance, fee, 0, price, price, len(fills), 0, 0))
    return made_result([BTC], fills, states)


def span_of(data: FakeData) -> tuple[int, int]:
    return int(data.ts_ns[0]), int(data.ts_ns[-1]) + 1


def cut(_setup: FakeSetUp, data: FakeData, first_ns: int, end_ns: int) -> FakeData:
    kept = (data.ts_ns >= first_ns) & (data.ts_ns < end_ns)
    return FakeData(data.ts_ns[kept], data.prices[kept])


FAKE = Subject(
    load_setup=load_setup,
    load_data=load_data,
    data_key=lambda setup: 0,
    warm_up=lambda setup, data: None,
    run=run,
    span_of=span_of,
    cut=cut,
    sources=lambda setup: "fake",
    files=lambda setup: [],
)
MAKE_FAKE = "tests.processes.study.fake_engine:fake"


def fake() -> Subject:
    return FAKE


def write_market(path: Path, rows: int = 200, seed: int = 1, every_ns: int = 1_000_000_000) -> Path:
    """Write a random walk."""
    steps = np.random.default_rng(seed).integers(-3, 4, rows)
    prices = 10_000 + np.cumsum(steps)
    path.write_text("".join(f"{i * every_ns} {price}\n" for i, price in enumerate(prices)))
    return path


if __name__ == "__main__":
    config, market, out, jobs, *grid = sys.argv[1:]
    plan = plan_of(Path(config), [Path(market)], grid, "pnl", int(jobs))
    sys.exit(run_sweep(plan, MAKE_FAKE, Path(out), engine_of("local", MAKE_FAKE, ""), False))

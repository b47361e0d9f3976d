"""Made events for the real backtester: a set-up's files, and hftbacktest's arrays."""

import random
import shutil
from pathlib import Path

import numpy as np

from processes.convert.hft_format import (
    HFT_AT_LOCAL,
    HFT_AT_VENUE,
    HFT_BUY,
    HFT_CLEAR,
    HFT_DEPTH,
    HFT_EVENT,
    HFT_SELL,
    HFT_TRADE,
)

from tests.support import ROOT

S = 1_000_000_000
START_NS = 1_723_075_200 * S
CONFIG = """
instruments_file = "instruments.toml"

[venue]
name = "binance-usdm"
symbols = ["BTCUSDT"]

[strategy]
module = "processes.strategy.touch_quoter:TouchQuoter"

[strategy.params]
interval_ns = 100_000_000
qty_steps = 10

[risk]
order_rate_max = 10_000
order_burst_max = 10_000

[risk.limits.BTCUSDT]
order_qty_max = "1000"
order_notional_max = "100000000"
position_qty_max = "1000"
open_order_count_max = 1000
price_band_bps_max = 5000
book_age_ns_max = 60_000_000_000

[backtest]
exchange = "no-partial-fill"
queue = "risk-averse"
fee_tier = "regular"
cadence = "timers"
order_latency = { kind = "constant", request_ns = 1_000_000, response_ns = 1_000_000 }

[backtest.fees.regular]
maker = "0.0002"
taker = "0.0005"
"""


def write_setup(folder: Path) -> Path:
    """Write a config with its instruments file; return the config's path."""
    shutil.copy(ROOT / "configs" / "instruments.toml", folder)
    (folder / "c.toml").write_text(CONFIG)
    return folder / "c.toml"


def write_events(path: Path, seconds: int = 40, seed: int = 5) -> Path:
    """Write a wandering book of ten levels a side, with trades at the touches."""
    chance = random.Random(seed)
    both = HFT_AT_VENUE | HFT_AT_LOCAL
    rows = []

    def add(kind: int, side: int, ts: int, price: int, qty: int) -> None:
        rows.append((kind | both | side, ts, ts + 2_000_000, price / 10, qty / 1_000))

    bid, shown = 600_000, {}
    rows.append((HFT_CLEAR | both, START_NS, START_NS + 2_000_000, 0.0, 0.0))
    for step in range(seconds * 20):
        ts = START_NS + step * S // 20 + chance.randrange(10_000_000)
        moved = chance.choice((-2, -1, 0, 0, 0, 1, 2))
        for _ in range(chance.randrange(3)):
            buys = chance.random() < 0.5
            price, side = (bid + 1, HFT_BUY) if buys else (bid, HFT_SELL)
            add(HFT_TRADE, side, ts, price, chance.randrange(1, 900))
        bid += moved
        wanted = {(HFT_BUY, bid - k): chance.randrange(1, 3_000) for k in range(10)}
        wanted |= {(HFT_SELL, bid + 1 + k): chance.randrange(1, 3_000) for k in range(10)}
        for side, price in [key for key in shown if key not in wanted]:
            add(HFT_DEPTH, side, ts, price, 0)
        for (side, price), qty in wanted.items():
            if (side, price) not in shown or chance.random() < 0.3:
                add(HFT_DEPTH, side, ts, price, qty)
            else:
                wanted[side, price] = shown[side, price]
        shown = wanted
    data = np.zeros(len(rows), HFT_EVENT)
    for name, column in zip(
        ("ev", "exch_ts", "local_ts", "px", "qty"), zip(*rows, strict=True), strict=True
    ):
        data[name] = column
    np.savez(path, data=data)
    return path

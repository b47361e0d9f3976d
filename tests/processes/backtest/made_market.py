"""Made markets for the backtester: a walking book in random rows, and a set-up to run on it."""

from pathlib import Path

import numpy as np

from processes.backtest.events import EVENT, EventKind, in_both_orders
from processes.backtest.run import SetUp, load_setup
from processes.backtest.tapes import Data, assemble

START_NS = 1_700_000_000_000_000_000
MIDDLE = 1_000
SETUP = """
instruments_file = "instruments.toml"
[venue]
name = "made"
symbols = [{symbols}]
[strategy]
module = "{strategy}"
[strategy.params]
{params}
[risk]
order_rate_max = 10_000
order_burst_max = 10_000
{limits}
[backtest]
exchange = "{exchange}"
queue = "{queue}"
queue_power = 3.0
cadence = "timers"
fee_tier = "only"
fees.only = {{ maker = "-0.00005", taker = "0.0004" }}
order_latency = {{ kind = "constant", request_ns = {latency_ns}, response_ns = {latency_ns} }}
"""
LIMITS = """[risk.limits.{symbol}]
order_qty_max = "1000000"
order_notional_max = "1000000000"
position_qty_max = "1000000"
open_order_count_max = 1_000
price_band_bps_max = 5_000
book_age_ns_max = 60_000_000_000
"""
FACTS = (
    '[made.{symbol}]\ntick_size = "0.1"\nlot_size = "0.001"\nprice_decimals = 1\nqty_decimals = 3\n'
)


def made_setup(
    folder: Path,
    strategy: str,
    params: dict,
    *,
    count: int = 1,
    exchange: str = "no-partial-fill",
    queue: str = "risk-averse",
    latency_ns: int = 2_000_000,
    **overrides: str,
) -> SetUp:
    """Write a set-up of `count` instruments into a folder and load it."""
    symbols = [f"MADE{i}" for i in range(count)]
    text = SETUP.format(
        symbols=", ".join(f'"{symbol}"' for symbol in symbols),
        strategy=strategy,
        params="\n".join(f"{name} = {value}" for name, value in params.items()),
        limits="".join(LIMITS.format(symbol=symbol) for symbol in symbols),
        exchange=exchange,
        queue=queue,
        latency_ns=latency_ns,
    )
    path = folder / "setup.toml"
    path.write_text(text)
    facts = "".join(FACTS.format(symbol=symbol) for symbol in symbols)
    (folder / "instruments.toml").write_text(facts)
    return load_setup(path, overrides)


def row(kind: EventKind, side: int, price: int, qty: int, ts_ns: int, seen_ns: int) -> np.ndarray:
    """Return one EVENT without flags; times count from START_NS."""
    event = np.zeros(1, EVENT)
    event["kind"], event["side"] = kind, side
    event["price_steps"], event["qty_steps"] = price, qty
    event["ts_exch_ns"], event["ts_recv_ns"] = START_NS + ts_ns, START_NS + seen_ns
    return event


def made_rows(seed: int, count: int) -> np.ndarray:
    """Return `count` random EVENT rows of one instrument, in both orders."""
    draw = np.random.default_rng(seed)
    rows = []
    ts = 0
    middle = MIDDLE
    for _ in range(count):
        ts += int(draw.integers(0, 3)) * 700_000
        middle = max(middle + int(draw.integers(-1, 2)), 50)
        seen = ts + int(draw.integers(0, 4)) * 900_000
        side = 1 if draw.random() < 0.5 else -1
        dice = draw.random()
        if dice < 0.72:
            price = middle - side * int(draw.integers(0, 9)) + side
            qty = int(draw.integers(0, 2)) * int(draw.integers(1, 15))
            rows.append(row(EventKind.DEPTH, side, price, qty, ts, seen))
        elif dice < 0.97:
            price = middle + side * int(draw.integers(-1, 3))
            rows.append(row(EventKind.TRADE, side, price, int(draw.integers(1, 9)), ts, seen))
        else:
            which = int(draw.integers(-1, 2))
            price = middle - which * int(draw.integers(0, 5)) if which else 0
            rows.append(row(EventKind.CLEAR, which, price, 0, ts, seen))
    return in_both_orders(np.concatenate(rows))


def made_data(setup: SetUp, seed: int, count: int) -> Data:
    """Return random data for all instruments of a set-up."""
    parts = [made_rows(1_000 * seed + i, count) for i in range(len(setup.instruments))]
    return assemble(parts, setup.instruments, {})

"""The reference of the parity tests: `touch_quoter` in hftbacktest 2.4.x, to CSV files.

Runs in an environment of its own, because hftbacktest pins numpy; nothing of tickring is imported,
and pytest does not collect it.

    python reference_hftbacktest.py convert CAPTURE.gz EVENTS.npz
    python reference_hftbacktest.py run EVENTS.npz OUT [--key value ...]
    python reference_hftbacktest.py time EVENTS.npz [--repeat N] [--key value ...]

`run` writes OUT.states.csv, a row per interval before the strategy acts, and OUT.fills.csv, a row
per order and instant at which it was told of fills. It ends with the data: if the latency is
longer than the interval, answers to new requests would keep hftbacktest busy for ever. `time`
prints seconds, position and trades of each repetition.
"""

import argparse
import json
import sys
import time

import numpy as np
from hftbacktest import (
    FILLED,
    GTX,
    LIMIT,
    BacktestAsset,
    HashMapMarketDepthBacktest,
    ROIVectorMarketDepthBacktest,
)
from hftbacktest.order import PARTIALLY_FILLED
from numba import njit

FILL_COLUMNS = "ts_ns,order_id,side,price_tick,qty,maker"
STATE_COLUMNS = "ts_ns,position,balance,fee,trades,best_bid,best_ask"


@njit
def act(hbt, qty, order_id):
    """Cancel all that can be canceled, then quote both touches post-only; return the next id."""
    orders = hbt.orders(0)
    values = orders.values()
    while values.has_next():
        order = values.get()
        if order.cancellable:
            hbt.cancel(0, order.order_id, False)
    hbt.clear_inactive_orders(0)
    depth = hbt.depth(0)
    bid, ask = depth.best_bid, depth.best_ask
    if np.isfinite(bid) and np.isfinite(ask):
        hbt.submit_buy_order(0, order_id, bid, qty, GTX, LIMIT, False)
        hbt.submit_sell_order(0, order_id + 1, ask, qty, GTX, LIMIT, False)
        order_id += 2
    return order_id


@njit
def run_plain(hbt, interval_ns, qty, states, end_ns):
    """Elapse, note the state, act; return (rows, code of the last elapse)."""
    order_id = 1
    count = 0
    code = hbt.elapse(interval_ns)
    while code == 0 and hbt.current_timestamp <= end_ns:
        values = hbt.state_values(0)
        depth = hbt.depth(0)
        row = states[count]
        row[0] = values.position
        row[1] = values.balance
        row[2] = values.fee
        row[3] = values.num_trades
        row[4] = depth.best_bid
        row[5] = depth.best_ask
        states[count, 6] = hbt.current_timestamp // 1_000_000_000
        states[count, 7] = hbt.current_timestamp % 1_000_000_000
        count += 1
        order_id = act(hbt, qty, order_id)
        code = hbt.elapse(interval_ns)
    return count, code


@njit
def note_fills(hbt, seen, fills, count):
    """Note the orders whose filled quantity has changed since the last look."""
    values = hbt.orders(0).values()
    while values.has_next():
        order = values.get()
        if order.status != FILLED and order.status != PARTIALLY_FILLED:
            continue
        filled = round((order.qty - order.leaves_qty) * 1e8)
        if seen[order.order_id] != filled:
            fills[count, 4] = filled - seen[order.order_id]
            seen[order.order_id] = filled
            fills[count, 0] = order.exch_timestamp
            fills[count, 1] = order.order_id
            fills[count, 2] = order.side
            fills[count, 3] = order.exec_price_tick
            fills[count, 5] = 1 if order.arr[0].maker else 0
            count += 1
    return count


@njit
def run_fills(hbt, interval_ns, qty, fills, seen, end_ns):
    """The same run, stopping at every response to note its fill; return (fills, last code)."""
    order_id = 1
    count = 0
    code = hbt.elapse(0)
    timer = hbt.current_timestamp + interval_ns
    while code != 1 and timer <= end_ns:
        while hbt.current_timestamp < timer:
            code = hbt.wait_next_feed(True, timer - hbt.current_timestamp)
            count = note_fills(hbt, seen, fills, count)
            if code == 1 or code > 3:
                return count, code
        order_id = act(hbt, qty, order_id)
        timer += interval_ns
    while code != 1 and code <= 3 and hbt.current_timestamp <= end_ns + 1_000_000_000:
        code = hbt.wait_next_feed(True, interval_ns)  # what is under way still arrives
        count = note_fills(hbt, seen, fills, count)
    return count, code


def backtest(options, data):
    """Return a fresh backtest of the options."""
    asset = (
        BacktestAsset()
        .data(data)
        .linear_asset(1.0)
        .constant_order_latency(options.entry_ns, options.response_ns)
        .tick_size(options.tick)
        .lot_size(options.lot)
        .trading_value_fee_model(options.maker, options.taker)
    )
    if options.queue == "risk":
        asset = asset.risk_adverse_queue_model()
    elif options.queue == "l3-fifo":
        asset = asset.l3_fifo_queue_model()
    elif options.queue == "log":
        asset = asset.log_prob_queue_model()
    elif options.queue == "log2":
        asset = asset.log_prob_queue_model2()
    else:
        kind, _, power = options.queue.partition(":")
        asset = getattr(asset, f"power_prob_queue_model{kind.removeprefix('power')}")(float(power))
    if options.exchange == "partial":
        asset = asset.partial_fill_exchange()
    else:
        asset = asset.no_partial_fill_exchange()
    if options.depth == "roi":
        asset = asset.roi_lb(options.roi_lb).roi_ub(options.roi_ub)
        return ROIVectorMarketDepthBacktest([asset])
    return HashMapMarketDepthBacktest([asset])


def write_csv(path, header, rows):
    """Write rows of text."""
    with open(path, "w") as file:
        file.write(header + "\n")
        file.writelines(row + "\n" for row in rows)


def run(options):
    """Write states and fills."""
    data = np.load(options.events)["data"]
    span = int(data["local_ts"].max() - data["exch_ts"].min())
    states = np.zeros((span // options.interval_ns + 2, 8))
    end_ns = int(data["local_ts"].max())
    hbt = backtest(options, data)
    count, code = run_plain(hbt, options.interval_ns, options.qty, states, end_ns)
    values = hbt.state_values(0)
    end = {
        "code": int(code), "position": values.position, "balance": values.balance,
        "fee": values.fee, "trades": int(values.num_trades), "rows": int(count),
    }  # fmt: skip
    hbt.close()
    write_csv(
        f"{options.out}.states.csv",
        STATE_COLUMNS,
        (
            f"{int(row[6]) * 1_000_000_000 + int(row[7])},{row[0]!r},{row[1]!r},{row[2]!r},"
            f"{int(row[3])},{row[4]!r},{row[5]!r}"
            for row in states[:count].astype(object)
        ),
    )
    fills = np.zeros((200_000, 6), np.int64)
    hbt = backtest(options, data)
    seen = np.zeros(2 * len(states) + 8, np.int64)
    count, code = run_fills(hbt, options.interval_ns, options.qty, fills, seen, end_ns)
    hbt.close()
    end["fills"], end["fills_code"] = int(count), int(code)
    write_csv(
        f"{options.out}.fills.csv",
        FILL_COLUMNS,
        (",".join(map(str, row.tolist())) for row in fills[:count]),
    )
    print(json.dumps(end))


def measure(options):
    """Time the plain run."""
    data = np.load(options.events)["data"]
    if options.rows:
        data = data[: options.rows].copy()
    span = int(data["local_ts"].max() - data["exch_ts"].min())
    states = np.zeros((span // options.interval_ns + 2, 8))
    end_ns = int(data["local_ts"].max())
    for _ in range(options.repeat + 1):  # the first one compiles
        hbt = backtest(options, data)
        before = time.process_time_ns()
        run_plain(hbt, options.interval_ns, options.qty, states, end_ns)
        took_ns = time.process_time_ns() - before
        values = hbt.state_values(0)
        end = {"ns": took_ns, "position": values.position, "trades": int(values.num_trades)}
        print(json.dumps({**end, "events": len(data)}), flush=True)
        hbt.close()


def convert(options):
    """Convert a capture with hftbacktest's own reader."""
    from hftbacktest.data.utils import binancefutures

    binancefutures.convert(options.events, options.out, buffer_size=options.buffer_size)


def main():
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("verb", choices=("convert", "run", "time"))
    parser.add_argument("events")
    parser.add_argument("out", nargs="?")
    for name, kind, default in (
        ("tick", float, 0.1), ("lot", float, 0.001), ("interval-ns", int, 100_000_000),
        ("qty", float, 0.01), ("entry-ns", int, 1_000_000), ("response-ns", int, 1_000_000),
        ("maker", float, 0.0002), ("taker", float, 0.0005), ("queue", str, "risk"),
        ("exchange", str, "no-partial"), ("depth", str, "roi"), ("roi-lb", float, 0.0),
        ("roi-ub", float, 200_000.0), ("rows", int, 0), ("repeat", int, 3),
        ("buffer-size", int, 20_000_000),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=kind, default=default)
    options = parser.parse_args()
    {"convert": convert, "run": run, "time": measure}[options.verb](options)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Matching operations per second against the usual C++ engine, on one operation file.

    python -m bench.matching [--smoke] [--rounds 7] [--cores 0,1] [--json]

The file holds 45 % cancels; limit orders go near a touch that moves, as far behind it as real ones,
and some through it. Both engines read the same bytes, run them twice on a fresh book and count the
CPU time of the second run; they must end in the same checksum over all fills: maker, taker, price,
quantity. Ours also writes every event that the exchange's streams need; the rival keeps its book,
nothing else. Cancels name orders by their number in the file: the rival looks that up in a hash,
ours in the table of venue order ids that a client of it would keep. "No look-ahead" is our engine
without the fetching ahead that is possible for who has a batch of requests.
"""

import atexit
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numba import njit

from bench.harness import ROOT, Result, Row, Run, Session, main
from common.enums import OrderType, Side, TimeInForce
from processes.venue import engine as state
from processes.venue import matching
from processes.venue.engine import EventKind, StpMode
from shm.atomics import prefetch

LIMIT, CANCEL, MARKET = 1, 2, 3
# peers/matching.cpp: Operation
OPERATION = np.dtype(
    [("kind", "<i4"), ("side", "<i4"), ("id", "<i8"), ("price", "<i8"), ("qty", "<i8")], align=True
)
OPEN_ORDERS = 10_000  # the file steers towards it
OPEN_ORDERS_MAX = 65_535
ACCOUNTS = 8
# How far from the touch, in steps of 0.1, the depth updates of BTCUSDT futures fall: twentieths of
# 346 s of 2024-08-08 (github.com/nkaz001/hftbacktest, examples/usdm). The last twentieth goes on to
# 600,000; here it ends at 60,000, as a venue with a price band of 5 % has it.
DISTANCES = np.array(
    [0, 15, 58, 96, 134, 173, 212, 253, 296, 344, 406, 476, 550, 637, 793, 982, 1_289, 1_831,
     5_905, 15_711, 60_000], np.float64
)  # fmt: skip
AHEAD = 8  # operations
CHECKSUM_MASK = (1 << 40) - 1
BID, ASK = Side.BID.value, Side.ASK.value
LIMIT_TYPE, MARKET_TYPE = OrderType.LIMIT.value, OrderType.MARKET.value
GTC, NO_STP = TimeInForce.GTC.value, StpMode.NONE.value
TRADE = EventKind.TRADE.value


@njit(cache=True, _nrt=False, forceinline=True)
def perform(engine, events, venue_ids, operation):
    """Give one operation to the engine; return the count of its events."""
    number = operation["id"]
    account_id = number & (ACCOUNTS - 1)
    if operation["kind"] == CANCEL:
        return matching.cancel(engine, events, 0, 0, account_id, venue_ids[number])[1]
    order_type = LIMIT_TYPE if operation["kind"] == LIMIT else MARKET_TYPE
    _, order_id, count = matching.submit(
        engine, events, 0, 0, account_id, np.int64(operation["side"]), order_type, GTC, NO_STP, 0,
        operation["price"], operation["qty"],
    )  # fmt: skip
    venue_ids[number] = order_id
    return count


@njit(cache=True, _nrt=False, forceinline=True)
def expect(engine, venue_ids, operations, i):
    """Look ahead from operation i, as who drains a ring can: fetch what will be touched."""
    prefetch(venue_ids, operations[min(i + 2 * AHEAD, len(operations) - 1)]["id"])
    operation = operations[min(i + AHEAD, len(operations) - 1)]
    matching.expect(engine, 0, venue_ids[operation["id"]], operation["price"])


@njit(cache=True, _nrt=False)
def replay(engine, events, venue_ids, operations, result, looks_ahead):
    """Run all operations; result: fills, checksum over them."""
    fills = 0
    checksum = 0
    for i in range(len(operations)):
        if looks_ahead:
            expect(engine, venue_ids, operations, i)
        count = perform(engine, events, venue_ids, operations[i])
        if count <= 2:  # NEW or CANCELED, and LEVEL or EXPIRED: nothing traded
            continue
        for k in range(1, count):
            event = events[k]
            if event["kind"] == TRADE:
                maker = event["maker_order_id"] >> state.SLOT_BITS
                taker = event["order_id"] >> state.SLOT_BITS
                fill = maker * 7 + taker * 11 + event["price_steps"] * 13 + event["qty_steps"] * 17
                checksum = (checksum * 1000003 + (fill & CHECKSUM_MASK)) & CHECKSUM_MASK
                fills += 1
    result[0] = fills
    result[1] = checksum


@njit(cache=True)
def draw_distance():
    """Return how many steps behind the touch a limit order goes, at least 1."""
    place = np.random.random() * (len(DISTANCES) - 1)
    i = int(place)
    return 1 + int(DISTANCES[i] + (place - i) * (DISTANCES[i + 1] - DISTANCES[i]))


@njit(cache=True)
def generate(engine, events, venue_ids, operations, live, places, seed):
    """Fill `operations`, running them to know which orders are open.

    Args:
        live: int64[n], scratch: numbers of the open orders.
        places: int64[n], scratch: where an order stands in `live`.
    """
    np.random.seed(seed)
    fair = 500_000
    live_count = 0
    number = 0
    for i in range(len(operations)):
        operation = operations[i]
        if np.random.random() < 0.02:
            fair += np.random.randint(-3, 4)
        side = BID if np.random.random() < 0.5 else ASK
        operation["side"] = side
        operation["price"] = 0
        operation["qty"] = 0
        if live_count > 0 and np.random.random() < 0.45:
            back = np.random.randint(0, live_count)
            if np.random.random() < 0.6:  # most cancels mean a young order
                back = min(int(np.random.exponential(200.0)), back)
            operation["kind"] = CANCEL
            operation["id"] = live[live_count - 1 - back]
        else:
            number += 1
            operation["kind"] = LIMIT
            operation["id"] = number
            operation["qty"] = np.random.randint(1, 100)
            behind = draw_distance()
            if np.random.random() < (0.25 if live_count > OPEN_ORDERS else 0.08):
                behind = -np.random.randint(0, 6)
                operation["qty"] *= 2
                if np.random.random() < 0.2:
                    operation["kind"] = MARKET
            operation["price"] = fair - side * behind if operation["kind"] == LIMIT else 0
        count = perform(engine, events, venue_ids, operation)
        gone = operation["id"] if operation["kind"] == CANCEL else 0
        for k in range(count):
            event = events[k]
            if event["kind"] == TRADE and event["maker_done"]:
                live_count = remove(live, places, live_count, event["maker_order_id"])
        if gone:
            live_count = remove(live, places, live_count, venue_ids[gone])
        elif matching.find(engine, venue_ids[number]):
            live[live_count] = number
            places[number] = live_count
            live_count += 1


@njit(cache=True)
def remove(live, places, live_count, order_id):
    """Take an order out of the open ones; return how many are left."""
    number = order_id >> state.SLOT_BITS
    live_count -= 1
    live[places[number]] = live[live_count]
    places[live[live_count]] = places[number]
    return live_count


class Arrays:
    """An engine of one instrument with what a run needs beside it."""

    def __init__(self, size: int) -> None:
        self.engine = state.new_engine(1, ACCOUNTS, OPEN_ORDERS_MAX)
        self.events = state.new_events(self.engine)
        self.venue_ids = np.zeros(size + 1, np.int64)

    def reset(self) -> None:
        """Empty the engine in place: its pages stay mapped, as the rival's heap does."""
        self.engine[...] = state.new_engine(1, ACCOUNTS, OPEN_ORDERS_MAX)
        self.venue_ids[...] = 0


class Files:
    """Operation files by size, made when first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.operations: dict[int, np.ndarray] = {}

    def path(self, size: int) -> Path:
        """Return the file with `size` operations."""
        path = self.folder / f"operations-{size}"
        if size not in self.operations:
            arrays = Arrays(size)
            operations = np.zeros(size, OPERATION)
            live, places = np.zeros(size + 1, np.int64), np.zeros(size + 1, np.int64)
            generate(
                arrays.engine, arrays.events, arrays.venue_ids, operations, live, places, 20_240_601
            )
            operations.tofile(path)
            self.operations[size] = operations
        return path


def run_ours(files: Files, size: int, looks_ahead: bool) -> Result:
    """Run the file through our engine."""
    files.path(size)
    arrays = Arrays(size)
    operations = files.operations[size]
    result = np.zeros(2, np.int64)
    elapsed_ns = 0
    for _ in range(2):
        arrays.reset()
        start_ns = time.thread_time_ns()
        replay(arrays.engine, arrays.events, arrays.venue_ids, operations, result, looks_ahead)
        elapsed_ns = time.thread_time_ns() - start_ns
    detail = {"fills": float(result[0]), "cancel %": share(operations, CANCEL)}
    return Result(size * 1e3 / elapsed_ns, int(result[1]), detail)


def share(operations: np.ndarray, kind: int) -> float:
    """Return the percentage of a kind of operation."""
    return float((operations["kind"] == kind).mean() * 100)


def run_rival(binary: Path, files: Files, size: int) -> Result:
    """Run the file through the C++ engine."""
    command = [str(binary), str(files.path(size)), str(OPEN_ORDERS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    elapsed_ns, fills, checksum = (int(word) for word in done.stdout.split())
    return Result(size * 1e3 / elapsed_ns, checksum, {"fills": float(fills)})


def compile_rival(folder: Path) -> Path | None:
    """Compile the C++ engine; None if there is no compiler."""
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        return None
    target = folder / "matching"
    source = ROOT / "bench" / "peers" / "matching.cpp"
    flags = ["-O3", "-march=native", "-std=c++17", "-Wall"]
    subprocess.run([compiler, *flags, str(source), "-o", str(target)], check=True)
    return target


def rows(session: Session) -> Sequence[Row]:
    """Return the one row of this bench."""
    folder = Path(tempfile.mkdtemp(prefix="tickring-bench-"))
    atexit.register(shutil.rmtree, folder)
    files = Files(folder)
    binary = compile_rival(folder)
    rivals: dict[str, Run] = {"tickring, no look-ahead": lambda size: run_ours(files, size, False)}
    if binary:
        rivals["C++ map of lists"] = lambda size: run_rival(binary, files, size)
    return [
        Row(
            question="matching engine, price-time, 45 % cancels, equal fills",
            unit="M operations/s",
            ours=lambda size: run_ours(files, size, True),
            rivals=rivals,
            reach={"C++ map of lists": 3.0},
            size=4_000_000,
            smoke_size=200_000,
            note="" if binary else "no C++ compiler here: no rival",
        )
    ]


if __name__ == "__main__":
    main("matching engine", rows, excluded="reading the file; transport, accounts")

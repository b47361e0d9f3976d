"""Level updates per second, best bid and ask read after each, against Rust's BTreeMap.

    python -m bench.book [--smoke] [--rounds 7] [--cores 0,1] [--json]

The stream is what a recorded BTCUSDT session applies to its book: the snapshot's levels, then those
of every depth diff in order; a made-up one of the same shape where the recording is not there. Both
books read the same bytes, begin each pass empty, leave out the first pass, and must end in the same
checksum over every best price and quantity seen. Ours moves its window as in production: at most
once a message, here every 64 updates.
"""

import atexit
import gzip
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numba import njit

from bench.harness import ROOT, Result, Row, Run, Session, main
from common.fixed_point import steps_from_text
from processes.book.book import (
    BASE,
    NO_ASK,
    OK,
    base_around,
    book_at,
    clear_book,
    new_books,
    read_touch,
    recentre,
    set_level,
)
from processes.book.config import BookConfig

CAPTURE = ROOT.parent / "shared" / "data" / "binance-usdm-btcusdt-20240808.gz"
PRICE_DECIMALS, QTY_DECIMALS = 1, 3
RECENTRE_MASK = 63
MADE_UPDATES = 450_000


@njit(cache=True, _nrt=False)
def replay(books, at, updates):
    """Apply int64[n, 3] updates (side, price, quantity) to a book; return the checksum."""
    checksum = 0
    for i in range(updates.shape[0]):
        if set_level(books, at, updates[i, 0], updates[i, 1], updates[i, 2]) != OK:
            return -1
        if i & RECENTRE_MASK == 0:
            recentre(books, at)
        bid, bid_qty, ask, ask_qty = read_touch(books, at)
        if ask == NO_ASK:
            ask = 0
        checksum += (bid ^ ask) + (bid_qty ^ ask_qty) * 3 + (i & 1023) * (bid & 1023)
    return checksum


def recorded_updates(path: Path) -> np.ndarray:
    """Return the level stream of a capture whose snapshot fits: int64[n, 3]."""
    kept: list[dict] = []
    messages: list[dict] = []
    last_id = -1
    with gzip.open(path, "rt") as file:
        for line in file:
            if '"depthUpdate"' not in line and '"lastUpdateId"' not in line:
                continue
            content = json.loads(line.split(" ", 1)[1])
            if "lastUpdateId" in content:
                last_id = content["lastUpdateId"]
                messages.append({"b": content["bids"], "a": content["asks"]})
                messages += [diff for diff in kept if diff["u"] >= last_id]
            elif last_id < 0:
                kept.append(content["data"])
            elif content["data"]["u"] >= last_id:
                messages.append(content["data"])
    return np.array(
        [
            (side, steps_from_text(price, PRICE_DECIMALS), steps_from_text(qty, QTY_DECIMALS))
            for message in messages
            for side, key in enumerate("ba")
            for price, qty in message[key]
        ],
        np.int64,
    )


def made_updates(count: int) -> np.ndarray:
    """Return a level stream of about the same shape: a walking touch, most levels near it."""
    rng = np.random.default_rng(20_240_808)
    side = np.repeat(rng.integers(0, 2, count // 34 + 1), 34)[:count]
    touch = 618_000 + np.cumsum(np.repeat(rng.integers(-8, 9, count // 68 + 1), 68)[:count]) // 68
    distance = rng.exponential(500, count).astype(np.int64)
    far = rng.random(count) < 0.05
    distance[far] = rng.integers(1, 300_000, int(far.sum()))
    price = np.where(side == 0, touch - 1 - distance, touch + distance)
    qty = np.where(rng.random(count) < 0.22, 0, rng.integers(1, 20_000, count))
    return np.ascontiguousarray(np.column_stack((side, price, qty)).astype(np.int64))


def run_ours(updates: np.ndarray, passes: int) -> Result:
    """Run the stream through our book."""
    config = BookConfig()
    books = new_books(1, config.window_steps, config.levels_max)
    at = book_at(books, 0)
    elapsed_ns = 0
    checksum = 0
    for number in range(passes + 1):
        clear_book(books, at)
        books[at + BASE] = base_around(books, updates[0, 1])
        start_ns = time.thread_time_ns()
        checksum = replay(books, at, updates)
        if number:
            elapsed_ns += time.thread_time_ns() - start_ns
    return Result(passes * len(updates) * 1e3 / elapsed_ns, int(checksum))


def run_rival(binary: Path, path: Path, count: int, passes: int) -> Result:
    """Run the stream through the Rust book."""
    command = [str(binary), str(path), str(passes)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    elapsed_ns, checksum = (int(word) for word in done.stdout.split())
    return Result(passes * count * 1e3 / elapsed_ns, checksum)


def compile_rival(folder: Path) -> Path | None:
    """Compile the Rust book; None if there is no rustc, or one without a toolchain."""
    compiler = shutil.which("rustc")
    if compiler is None or subprocess.run([compiler, "-V"], capture_output=True).returncode:
        return None
    target = folder / "book"
    source = ROOT / "bench" / "peers" / "book.rs"
    flags = ["--edition", "2021", "-O", "-C", "target-cpu=native"]
    subprocess.run([compiler, *flags, str(source), "-o", str(target)], check=True)
    return target


def rows(session: Session) -> Sequence[Row]:
    """Return the one row of this bench."""
    folder = Path(tempfile.mkdtemp(prefix="tickring-bench-"))
    atexit.register(shutil.rmtree, folder)
    is_real = CAPTURE.exists()
    updates = recorded_updates(CAPTURE) if is_real else made_updates(MADE_UPDATES)
    path = folder / "updates"
    updates.tofile(path)
    removals = float((updates[:, 2] == 0).mean() * 100)
    note = f"{'recorded BTCUSDT' if is_real else 'made-up'} stream of {len(updates):,} updates"
    note += f", {removals:.0f} % removals"
    rivals: dict[str, Run] = {}
    binary = compile_rival(folder)
    if binary is None:
        note += "; no rustc that runs here: no rival"
    else:
        rivals["Rust BTreeMap"] = lambda passes: run_rival(binary, path, len(updates), passes)
    return [
        Row(
            question="L2 updates, best bid and ask read after each",
            unit="M updates/s",
            ours=lambda passes: run_ours(updates, passes),
            rivals=rivals,
            reach={"Rust BTreeMap": 4.0},
            size=8,
            smoke_size=1,
            note=note,
        )
    ]


if __name__ == "__main__":
    main("L2 book", rows, excluded="reading the file, emptying the book; messages and rings")

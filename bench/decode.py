"""Frames per second from bytes to records, against msgspec and exact Python digits.

    python -m bench.decode [--smoke] [--rounds 7] [--cores 0,1] [--json]

Every entry starts from the same bytes and ends in the same integers: grid steps of each level, ids,
times. The rivals decode to typed structs with str prices (floats would not be exact) and convert
the digits with int, or with Decimal; they keep Python ints, we write 64-byte slots. Checksums are
taken in a pass of their own, untimed, over everything that was decoded.
"""

import gzip
import time
from collections.abc import Callable
from decimal import Decimal

import msgspec
import numpy as np
from numba import njit

from bench.harness import ROOT, Result, Row, Session, main
from common.instruments import Instrument, InstrumentFacts
from processes.feed.binance import decode_frame
from processes.feed.decoded import new_state
from processes.feed.json_scan import TEXT_SLACK
from processes.feed.symbols import symbol_table
from shm.bundle import pack

CAPTURE = ROOT.parent / "shared" / "data" / "binance-usdm-btcusdt-20240808.gz"
FACTS = InstrumentFacts(tick_size="0.10", lot_size="0.001", price_decimals=2, qty_decimals=3)
INSTRUMENTS = [
    Instrument(instrument_id=i, venue="binance-usdm", symbol=symbol, facts=FACTS)
    for i, symbol in enumerate(("BTCUSDT", "ETHUSDT", "SOLUSDT"))
]
PRICE_DECIMALS, QTY_DECIMALS = 1, 3
SLOTS = 4_096
BATCH = 16  # frames of one socket read, when a market is busy
MASK = (1 << 62) - 1
POWERS = [10**n for n in range(19)]
Reduce = Callable[[str, int], int]


class Depth(msgspec.Struct, tag_field="e", tag="depthUpdate"):
    """What a careful Python feed declares."""

    T: int
    s: str
    U: int
    u: int
    pu: int
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]


class Bbo(msgspec.Struct, tag_field="e", tag="bookTicker"):
    """Best bid and offer."""

    T: int
    s: str
    u: int
    b: str
    B: str
    a: str
    A: str


class Trade(msgspec.Struct, tag_field="e", tag="trade"):
    """One print."""

    T: int
    s: str
    t: int
    p: str
    q: str
    m: bool
    X: str = "MARKET"


class Combined(msgspec.Struct):
    """A combined stream's frame."""

    data: Depth | Bbo | Trade


DECODE = msgspec.json.Decoder(Combined).decode
IDS = {instrument.symbol: instrument.instrument_id for instrument in INSTRUMENTS}


def steps_by_digits(text: str, decimals: int) -> int:
    """Convert exactly with int: no float, off-grid refused."""
    whole, _point, fraction = text.partition(".")
    missing = decimals - len(fraction)
    if missing >= 0:
        return int(whole + fraction) * POWERS[missing]
    steps, rest = divmod(int(whole + fraction), POWERS[-missing])
    if rest:
        raise ValueError(text)
    return steps


SCALES = [Decimal(10) ** n for n in range(19)]


def steps_by_decimal(text: str, decimals: int) -> int:
    """Convert exactly with Decimal: the usual advice."""
    scaled = Decimal(text) * SCALES[decimals]
    steps = int(scaled)
    if steps != scaled:
        raise ValueError(text)
    return steps


def fields(frame: bytes, reduce: Reduce) -> tuple[int, ...]:
    """Decode one frame into the integers of its record."""
    data = DECODE(frame).data
    head = (IDS[data.s], data.T * 1_000_000)
    if type(data) is Depth:
        levels = [reduce(p, PRICE_DECIMALS) for p, _ in data.b]
        levels += [reduce(q, QTY_DECIMALS) for _, q in data.b]
        levels += [reduce(p, PRICE_DECIMALS) for p, _ in data.a]
        levels += [reduce(q, QTY_DECIMALS) for _, q in data.a]
        return (*head, data.U, data.u, data.pu, *levels)
    if type(data) is Bbo:
        return (
            *head, data.u, reduce(data.b, PRICE_DECIMALS), reduce(data.B, QTY_DECIMALS),
            reduce(data.a, PRICE_DECIMALS), reduce(data.A, QTY_DECIMALS),
        )  # fmt: skip
    return (
        *head, data.t, reduce(data.p, PRICE_DECIMALS), reduce(data.q, QTY_DECIMALS),
        -1 if data.m else 1,
    )  # fmt: skip


@njit(cache=True, _nrt=False)
def _decode_frames(text, bounds, symbols, words, state, first, end):
    refused = 0
    for i in range(first, end):
        slots = decode_frame(
            text, bounds[i, 0], bounds[i, 1], symbols, words, SLOTS - 1, 0, SLOTS, 1, state
        )
        refused += slots < 1
    return refused


@njit(cache=True)
def decode_frames(bundle, first, end):
    """Decode frames [first, end); return how many were refused."""
    text, bounds, symbols, words, state = bundle.args
    return _decode_frames(text, bounds, symbols, words, state, first, end)


@njit(cache=True)
def sum_frames(bundle, first, end):
    """As `decode_frames`, but return the sum of all integers of the records."""
    text, bounds, symbols, words, state = bundle.args
    total = 0
    for i in range(first, end):
        slots = decode_frame(
            text, bounds[i, 0], bounds[i, 1], symbols, words, SLOTS - 1, 0, SLOTS, 1, state
        )
        total += words[0, 0] >> 32
        for word in range(2, 6):
            total += words[0, word]
        kind = words[0, 0] & 255
        if kind == 8:
            total += words[0, 6] + words[0, 7]
        if kind == 6:
            total += 1 if words[0, 6] & 255 == 1 else -1
        for slot in range(1, slots):
            for word in range(2, 8):
                total += words[slot, word]
    return total & MASK


def twenty_levels() -> list[bytes]:
    """Return one frame with ten levels a side, as the venue writes it, many times over."""
    bids = [[f"{64210 - i}.{i}0", f"{i * i}.{137 * i % 1000:03d}"] for i in range(10)]
    asks = [[f"{64211 + i}.{i}0", f"{i}.{89 * i:03d}"] for i in range(10)]
    event = {
        "e": "depthUpdate", "E": 1784212800123, "T": 1784212800115, "s": "BTCUSDT",
        "U": 9182730410021, "u": 9182730410388, "pu": 9182730409990, "b": bids, "a": asks,
    }  # fmt: skip
    return [msgspec.json.encode({"stream": "btcusdt@depth@100ms", "data": event})] * 256


def recorded() -> tuple[list[bytes], str]:
    """Return the frames of the real capture, or generated ones of its kinds and sizes."""
    if CAPTURE.exists():
        with gzip.open(CAPTURE) as lines:
            frames = [line.split(b" ", 1)[1].rstrip() for line in lines]
        return [f for f in frames if f[:11] == b'{"stream":"'], "real BTCUSDT capture, 2024-08-08"
    rng = np.random.default_rng(1)
    frames = []
    for i in range(20_000):
        kind = rng.random()
        stamp = 1784212800000 + i
        price = f"{64210 + i % 50}.{i % 10}0"
        event: dict[str, object] = {"E": stamp, "T": stamp, "s": "BTCUSDT"}
        if kind < 0.07:
            levels = [[f"{60000 + j * 7}.{j % 10}0", f"{j % 13}.{j:03d}"] for j in range(30)]
            event |= {"e": "depthUpdate", "U": i, "u": i + 1, "pu": i, "b": levels, "a": levels}
        elif kind < 0.77:
            event |= {"e": "bookTicker", "u": i, "b": price, "B": "1.5", "a": price, "A": "0.002"}
        else:
            event |= {
                "e": "trade",
                "t": i,
                "p": price,
                "q": "0.010",
                "X": "MARKET",
                "m": i % 2 == 0,
            }
        frames.append(msgspec.json.encode({"stream": "btcusdt@x", "data": event}))
    return frames, "generated frames: no capture here"


class Input:
    """Frames as both sides take them."""

    def __init__(self, frames: list[bytes]) -> None:
        self.frames = frames
        ends = np.cumsum([len(frame) for frame in frames])
        bounds = np.stack([ends - [len(frame) for frame in frames], ends], axis=1)
        text = np.frombuffer(b"".join(frames) + b"\0" * TEXT_SLACK, np.uint8).copy()
        self.bundle = pack(
            (
                text, bounds, symbol_table(INSTRUMENTS), np.zeros((SLOTS, 8), np.int64),
                new_state(1 << 20, 10_000),
            )
        )  # fmt: skip

    def ours(self, batch: int) -> Callable[[int], Result]:
        """Return the run that decodes `batch` frames per kernel call."""

        def run(size: int) -> Result:
            count, bundle, total = len(self.frames), self.bundle, 0
            reads = [(first, min(first + batch, count)) for first in range(0, count, batch)]
            rounds = -(-size // count)
            decode_frames(bundle, 0, 0)
            start = time.perf_counter_ns()
            for _ in range(rounds):
                for first, end in reads:
                    total += decode_frames(bundle, first, end)
            done = rounds * count
            seconds = (time.perf_counter_ns() - start) / 1e9
            if total:
                raise RuntimeError(f"{total} frames refused, expected none")
            return Result(done / seconds, int(sum_frames(bundle, 0, count)))

        return run

    def python(self, reduce: Reduce) -> Callable[[int], Result]:
        """Return the run that decodes with msgspec and converts with `reduce`."""

        def run(size: int) -> Result:
            frames = self.frames
            size = min(size, 20_000)  # slower: fewer of the same frames, evenly taken
            step = max(len(frames) // size, 1)
            chosen = frames[::step]
            start = time.perf_counter_ns()
            done = 0
            while done < size:
                for frame in chosen:
                    fields(frame, reduce)
                done += len(chosen)
            seconds = (time.perf_counter_ns() - start) / 1e9
            total = sum(sum(fields(frame, reduce)) for frame in frames)
            return Result(done / seconds, total & MASK)

        return run


def rows(session: Session) -> list[Row]:
    """Return the questions."""
    frame = Input(twenty_levels())
    frames, what = recorded()
    capture = Input(frames[:2_000] if session.is_smoke else frames)
    length = len(frame.frames[0])
    return [
        Row(
            question=question,
            unit="frames/s",
            ours=data.ours(batch),
            rivals={
                "msgspec + int digits": data.python(steps_by_digits),
                "msgspec + Decimal": data.python(steps_by_decimal),
            },
            reach={"msgspec + int digits": 5.0, "msgspec + Decimal": 20.0},
            size=400_000,
            smoke_size=2_000,
            note="" if batch > 1 else "crossing from Python into the kernel is half of this",
        )
        for question, data, batch in (
            (f"20-level depth frame, {length} bytes, one kernel call a frame", frame, 1),
            (f"20-level depth frame, {BATCH} frames a socket read", frame, BATCH),
            (f"{what}: depth, bookTicker, trade; {BATCH} a socket read", capture, BATCH),
        )
    ]


if __name__ == "__main__":
    main(
        "decode: frame bytes to records",
        rows,
        excluded="sockets and WebSocket frames: bench/transport.py",
    )

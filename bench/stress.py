"""An hour of recorded frames, pushed through feed, book and strategy as fast as they go.

    python -m bench.stress [--smoke]

Two pinned processes: one decodes the frames of the shared capture (a generated session where it is
absent) into the market ring and waits when it is full; the other runs the book and the strategy
stage. The capture is repeated until it makes an hour of its own time; each repeat begins with a
reconnect, as a live feed has one, and the book asks for its snapshot again. The clock runs from the
first frame to the last turn of the strategy. The result counts only if both rings' ledgers balance
and nothing was dropped.
"""

import gzip
import os
import random
import sys
import tempfile
import traceback
from collections.abc import Callable
from typing import NoReturn

import numpy as np
from numba import njit

from bench.harness import ROOT, Result, Row, Session
from common import clock
from common.binance_depth import decode_snapshot, snapshot_end_slots, snapshot_slots
from common.enums import GapReason, MarketKind
from common.instruments import Instrument, InstrumentFacts, instrument_table
from common.records import GAP, SLOT_WORDS
from processes.book import counters as book_counters
from processes.book.config import BookConfig
from processes.book.stage import BookStage
from processes.feed.binance import decode_frame
from processes.feed.decoded import new_state
from processes.feed.json_scan import TEXT_SLACK
from processes.feed.symbols import symbol_table
from processes.strategy.api import load_strategy, params_of
from processes.strategy.desk import block_dtype
from processes.strategy.stage import LABELS, StrategyStage
from shm.counters import anonymous_counters
from shm.cursors import count_offered, publish, try_claim
from shm.observer import ring_stats
from shm.registry import ring_name
from shm.ring import Consumer, Producer, anonymous_ring, create_ring
from shm.segment import unlink
from shm.table import anonymous_table
from shm.turn import anonymous_twin

CAPTURE = ROOT.parent / "shared" / "data" / "binance-usdm-btcusdt-20240808.gz"
HOUR_NS = 3_600_000_000_000
GENERATED_S = 60
RING_SLOTS = 65_536
MESSAGE_SLOTS_MAX = 4_096
WAIT_S_MAX = 60
TOLD_BYTES_MAX = 4_000  # shown of what a process logged that failed
REACH_SLOTS_PER_S = 1_000_000
BTC = Instrument(
    instrument_id=0,
    venue="binance-usdm",
    symbol="BTCUSDT",
    facts=InstrumentFacts(tick_size="0.10", lot_size="0.001", price_decimals=2, qty_decimals=3),
)


class Frames:
    """Frames of one session in one block of bytes, and the snapshot they begin with.

    Attributes:
        text: uint8[n], all frames, padded as the decoder wants it.
        first, end: int64[frames], where each lies.
        duration_ns: from the first to the last receive stamp.
        snapshot: the REST answer.
    """

    def __init__(self, lines: list[tuple[int, bytes]]) -> None:
        frames = [line for _stamp, line in lines if not line.startswith(b'{"lastUpdateId"')]
        (self.snapshot,) = [line for _s, line in lines if line.startswith(b'{"lastUpdateId"')]
        lengths = np.array([len(frame) for frame in frames])
        self.end = np.cumsum(lengths)
        self.first = self.end - lengths
        self.text = np.frombuffer(b"".join(frames) + bytes(TEXT_SLACK), np.uint8)
        self.duration_ns = lines[-1][0] - lines[0][0]

    def __len__(self) -> int:
        return len(self.first)


def load_capture() -> Frames:
    """Read the shared capture."""
    lines = []
    with gzip.open(CAPTURE) as file:
        for line in file:
            stamp, _, frame = line.rstrip(b"\n").partition(b" ")
            lines.append((int(stamp), frame))
    return Frames(lines)


def generate() -> Frames:
    """Make a session of the same shape: depth every 50 ms, quotes and trades between."""
    rng = random.Random(7)
    lines, mid, last_id = [], 640_000, 1_000
    levels = [f'["{price / 10:.2f}","1.000"]' for price in range(mid - 900, mid + 900)]
    snapshot = (
        f'{{"lastUpdateId":{last_id},"bids":[{",".join(reversed(levels[:900]))}],'
        f'"asks":[{",".join(levels[900:])}]}}'
    )
    lines.append((0, snapshot.encode()))
    for step in range(GENERATED_S * 200):
        stamp = step * 5_000_000
        price = f"{(mid + rng.randint(-3, 3)) / 10:.2f}"
        if step % 10:
            data = (
                f'{{"stream":"btcusdt@bookTicker","data":{{"e":"bookTicker","u":{last_id},'
                f'"s":"BTCUSDT","b":"{price}","B":"1.5","a":"{price}","A":"2.5","T":1,"E":1}}}}'
            )
        else:
            sides = []
            for sign in (-1, 1):
                prices = sorted(rng.sample(range(1, 900), 20))
                sides.append(
                    ",".join(
                        f'["{(mid + sign * p) / 10:.2f}","{rng.randint(0, 9)}.000"]' for p in prices
                    )
                )
            data = (
                f'{{"stream":"btcusdt@depth@100ms","data":{{"e":"depthUpdate","E":1,"T":1,'
                f'"s":"BTCUSDT","U":{last_id},"u":{last_id + 5},"pu":{last_id},'
                f'"b":[{sides[0]}],"a":[{sides[1]}]}}}}'
            )
            last_id += 5
        lines.append((stamp, data.encode()))
    return Frames(lines)


@njit(cache=True)
def push(frames, symbols, out, scratch, state, next_frame, count, now_ns):
    """Decode frames into the market ring until it is full or `count` are done.

    Args:
        frames: (text, first, end).
        scratch: int64[MESSAGE_SLOTS_MAX, 8]; a message is claimed when its length is known.
        next_frame: index to begin with.

    Returns:
        Index of the next frame; minus one less than it if a frame was refused.
    """
    text, firsts, ends = frames
    words = out.slots
    mask = words.shape[0] - 1
    done = min(next_frame + count, len(firsts))
    while next_frame < done:
        slots = decode_frame(
            text, firsts[next_frame], ends[next_frame], symbols, scratch, scratch.shape[0] - 1,
            0, scratch.shape[0], now_ns, state,
        )  # fmt: skip
        if slots < 0:
            publish(out)
            return -next_frame - 1
        sequence = try_claim(out, slots)
        if sequence < 0:
            break
        for k in range(slots):
            for word in range(SLOT_WORDS):
                words[(sequence + k) & mask, word] = scratch[k, word]
        count_offered(out, slots)
        next_frame += 1
        if next_frame & 15 == 0:
            publish(out)
    publish(out)
    return next_frame


def names(instance: str) -> dict[str, str]:
    """Return the names of the three rings that cross the process border."""
    return {
        "market": ring_name(instance, "feed", "market", "book"),
        "snapshot": ring_name(instance, "rest", "snapshot", "book"),
        "request": ring_name(instance, "book", "request", "rest"),
    }


class Consumers:
    """Book and strategy stage of the second process; the rings between them are private."""

    def __init__(self, instance: str) -> None:
        ring = names(instance)
        self.book_counters = anonymous_counters(book_counters.LABELS, book_counters.HISTOGRAMS)
        books, self.book_reader = anonymous_ring("MARKET", RING_SLOTS)
        cells, _reader = anonymous_table("BBO_CELL", 1)
        self.book = BookStage(
            [BTC],
            BookConfig(),
            market=Consumer.open(ring["market"], "MARKET"),
            snapshots=Consumer.open(ring["snapshot"], "MARKET"),
            books=books,
            requests=Producer.open(ring["request"], "REST_REQUEST"),
            cells=cells,
            counters=self.book_counters,
        )
        cls = load_strategy("processes.strategy.market_maker:MarketMaker")
        params = {
            "edge_bps": 1.0, "skew_bps": 1.0, "smoothing": 0.2, "requote_bps": 0.1,
            "clip_notional": 1000.0, "position_clips_max": 3, "stale_ns_max": 1_000_000_000,
        }  # fmt: skip
        _, reports = anonymous_ring("REPORT", 64)
        _, control = anonymous_ring("MARKET", 64)
        intents, self.intents = anonymous_ring("ORDER_REQUEST", 4_096)
        turns, _ = anonymous_ring("TURN", 4_096, overwrite=True)
        self.strategy = StrategyStage(
            cls,
            params_of(cls, params),
            instrument_table([BTC]),
            anonymous_twin(block_dtype(1, cls.STATE)),  # type: ignore[attr-defined]
            (reports, control, self.book_reader),
            (intents, turns),
            anonymous_counters(LABELS, []),
            session=1,
            strategy_id=0,
        )

    def run(self, is_over: Callable[[], bool]) -> dict[str, int]:
        """Work until the feeder has ended and everything is consumed; return what was done."""
        while True:
            over = is_over()
            now_ns = clock.now_ns()
            work = self.book.do_work(now_ns) + self.strategy.do_work(now_ns)
            self.intents.read(4_096)
            if over and not work:
                break
        books = self.book.books.stats()
        assert books["offered"] == books["published"] + books["dropped"] == books["consumed"]
        return {
            "book_slots": books["published"],
            "dropped": books["dropped"],
            "last_update_id": self.book.last_update_id(0),
            "is_live": int(self.book.is_live(0)),
        }


def feed_hour(frames: Frames, instance: str, repeats: int) -> None:
    """Push all repeats; answer the book's snapshot request in each."""
    ring = names(instance)
    market = Producer.open(ring["market"], "MARKET")
    snapshots = Producer.open(ring["snapshot"], "MARKET")
    requests = Consumer.open(ring["request"], "REST_REQUEST")
    symbols, state = symbol_table([BTC]), new_state(1 << 20, 3 * MESSAGE_SLOTS_MAX - 3)
    scratch = np.zeros((MESSAGE_SLOTS_MAX, SLOT_WORDS), np.int64)
    views = (frames.text, frames.first, frames.end)
    snapshot = decode_snapshot(frames.snapshot)
    gap = np.zeros(1, GAP)
    gap["kind"], gap["slot_count"], gap["instrument_id"] = MarketKind.GAP, 1, -1
    gap["reason"] = GapReason.RECONNECT
    for _ in range(repeats):
        wait_for(lambda: market.try_write(gap) > 0, "room for the GAP")
        at, answered = 0, False
        while at < len(frames):
            now_ns = clock.now_ns()
            at = push(views, symbols, market.end, scratch, state, at, 4_096, now_ns)
            assert at >= 0, f"frame {-at - 1} was refused"
            if not answered:
                wait_for(lambda: requests.end.local[0] < requests.stats()["published"], "a request")
                request = requests.read(1)[0]
                head = (BTC, int(request["request_id"]), now_ns, now_ns)
                begin = snapshot_slots(snapshot, *head)
                end = snapshot_end_slots(snapshot, 0, head[1], now_ns, now_ns)
                assert snapshots.try_write(begin) and snapshots.try_write(end)
                answered = True
    for end in (market, snapshots, requests):
        end.close()


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Poll until the other process has done its part."""
    deadline_ns = clock.now_ns() + WAIT_S_MAX * 1_000_000_000
    while not condition():
        if clock.now_ns() > deadline_ns:
            raise TimeoutError(f"stress: no {what} within {WAIT_S_MAX} s")
        os.sched_yield()


def run_hour(frames: Frames, session: Session, repeats: int) -> Result:
    """Run both processes once.

    Returns:
        Market slots per second; the checksum is the update id that the book ends with.
    """
    instance = f"stress-{os.getpid()}"
    ring = names(instance)
    create_ring(ring["market"], "MARKET", RING_SLOTS)
    create_ring(ring["snapshot"], "MARKET", 4_096)
    create_ring(ring["request"], "REST_REQUEST", 256)
    ready, over, answer = os.pipe(), os.pipe(), os.pipe()
    with tempfile.TemporaryFile() as told:
        child = os.fork()
        if child == 0:
            os.dup2(told.fileno(), sys.stderr.fileno())  # what the stages log, with every reconnect
            os.close(over[1])
            consume(instance, session, ready[1], over[0], answer[1])
        for fd in (ready[1], over[0], answer[1]):
            os.close(fd)
        try:
            os.read(ready[0], 1)
            begin_ns = clock.now_ns()
            feed_hour(frames, instance, repeats)
        finally:
            os.close(over[1])
            done = os.read(answer[0], 4_096).decode()
            elapsed_ns = clock.now_ns() - begin_ns
            os.close(ready[0])
            os.close(answer[0])
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            market = ring_stats(ring["market"])
            for name in ring.values():
                unlink(name)
            if code:
                told.seek(-min(TOLD_BYTES_MAX, told.seek(0, os.SEEK_END)), os.SEEK_END)
                sys.stderr.write(told.read().decode())
        assert code == 0, f"stress: book and strategy ended with {code}, expected 0"
    done = eval(done, {})
    balanced = market["offered"] == market["published"] == market["consumed"]
    assert balanced and market["dropped"] == done["dropped"] == 0, (market, done)
    assert done["is_live"], "the book is not valid at the end"
    slots_per_s = market["consumed"] * 1e9 / elapsed_ns
    events_per_s = repeats * len(frames) * 1e9 / elapsed_ns
    detail = {
        "frames/s": events_per_s,
        "frames": repeats * len(frames),
        "market slots": market["consumed"],
        "book slots": done["book_slots"],
        "ms": elapsed_ns / 1e6,
    }
    return Result(slots_per_s, done["last_update_id"], detail)


def consume(instance: str, session: Session, ready: int, over: int, answer: int) -> NoReturn:
    """Be the second process: say that it is ready, work, answer what was done.

    Args:
        ready, over, answer: pipes; `over` is closed by the feeder when it has ended.
    """
    code = 1
    try:
        session.pin(1)
        os.set_blocking(over, False)
        consumers = Consumers(instance)
        os.write(ready, b"1")
        os.write(answer, repr(consumers.run(lambda: is_closed(over))).encode())
        code = 0
    finally:
        if code:
            traceback.print_exc()
        os._exit(code)


def is_closed(fd: int) -> bool:
    """Return True once the feeder has closed its end of the pipe."""
    try:
        return os.read(fd, 1) == b""
    except BlockingIOError:
        return False


def main() -> int:
    """Run the row, judge it against the reach."""
    session = Session("Stress: an hour of frames as fast as they go")
    frames = load_capture() if CAPTURE.exists() else generate()
    repeats = -(-HOUR_NS // frames.duration_ns)
    source = "the shared capture" if CAPTURE.exists() else "a generated session"
    warm = run_hour(frames, session, 1)
    session.say(f"warm-up: {warm.value:,.0f} slots/s")
    report = session.run(
        Row(
            question="frames through decoder, book and strategy in two pinned processes",
            unit="market slots/s",
            ours=lambda size: run_hour(frames, session, size),
            rivals={},
            reach={},
            size=repeats,
            smoke_size=1,
            note=f"{source}, repeated to an hour; ledgers balanced, nothing dropped",
        )
    )
    values = sorted(report["values"]["tickring"])  # type: ignore[index]
    reached = values[len(values) // 2] >= REACH_SLOTS_PER_S
    session.say(f"  reach >= {REACH_SLOTS_PER_S:,} slots/s: {'yes' if reached else 'NO'}")
    code = session.finish(excluded="reading the file; sockets and TLS")
    return code or (0 if reached or session.is_smoke else 1)


if __name__ == "__main__":
    sys.exit(main())

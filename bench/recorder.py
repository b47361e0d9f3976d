"""What does recording cost: the recorder's own time, whether it keeps up, and the producer's time?

The recorder copies slots out of a ring it has no end of, checks that they were not overwritten
meanwhile, sums them, writes them and their index entry. Files go to the temporary folder and are
removed after each run, so what is measured is the way into the page cache, not the disk.
"""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numba import njit

from bench import observers
from bench.harness import (
    ROOT,
    Result,
    Row,
    Session,
    compile_c,
    cycles_per_ns,
    fork,
    join,
    main,
    shared_words,
)
from bench.observers import count_wrong, get_word, set_word, wait_for, word_of
from common import clock
from processes.recorder.app import warm_up
from processes.recorder.config import RecorderConfig
from processes.recorder.stage import BUFFER_WORDS
from processes.recorder.tap import RingTap
from shm import registry, segment
from shm.atomics import cpu_relax, read_cycles
from shm.observer import Observer
from shm.recording import RingRecording
from shm.ring import MARKET, Producer, anonymous_ring, create_ring, publish, try_claim
from shm.slot_file import checksum

CAPACITY = 65_536
BATCH = BUFFER_WORDS // 8
PACE = 5_000_000  # records a second
BURST = 500
POLL_NS = 10_000_000  # of the demo's config
INSTANCE = "bench-recorder"
KEY = "a.market.b"
CONFIG = RecorderConfig(total_bytes_max=1 << 40)
_STOP, _READY, _READ, _WRONG, _CPU_NS = 0, 16, 32, 48, 64


@njit(cache=True, _nrt=False)
def write_slots(out, count):
    """Publish so many slots whose words tell their sequence."""
    slots = out.slots
    mask = len(slots) - 1
    first = try_claim(out, count)
    for sequence in range(first, first + count):
        for word in range(8):
            slots[sequence & mask, word] = word_of(sequence, word)
    publish(out)


@njit(cache=True, _nrt=False)
def write_paced(out, bursts, gap_cycles):
    """Publish bursts on time; return how many cycles the last one was late."""
    next_cycles = read_cycles()
    for _ in range(bursts):
        while read_cycles() < next_cycles:
            cpu_relax()
        write_slots(out, BURST)
        next_cycles += gap_cycles
    return read_cycles() - next_cycles


class Bench:
    """The ring, the folder for files, and the C peer."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.name = registry.ring_name(INSTANCE, *KEY.split("."))
        self.folder = Path(tempfile.mkdtemp(prefix="tickring-bench-recorder-"))
        self.peer = compile_c(ROOT / "bench" / "peers" / "record.c")
        self.cycles_per_ns = cycles_per_ns()
        warm_up()
        self._compile()

    def _compile(self) -> None:
        out, _ = anonymous_ring(MARKET, 1024, overwrite=True)
        write_slots(out.end, 1)
        write_paced(out.end, 1, 1)
        count_wrong(np.zeros((1, 8), np.int64), 0)
        set_word(shared_words(80), 0, 0)
        get_word(shared_words(80), 0)

    def new_ring(self) -> Producer:
        """Return the producer of a fresh ring that nobody consumes."""
        segment.unlink(self.name)
        create_ring(self.name, MARKET, CAPACITY, overwrite=True)
        return Producer.open(self.name, MARKET)

    def new_run(self) -> Path:
        """Return an empty folder."""
        run = self.folder / "run"
        shutil.rmtree(run, ignore_errors=True)
        return run

    def record(self, count: int) -> Result:
        """Return the recorder's CPU time per record, batch by batch."""
        producer, run = self.new_ring(), self.new_run()
        tap = RingTap(run, KEY, self.name, CONFIG)
        buffer = np.zeros(BUFFER_WORDS, np.int64)
        spent_ns = 0
        for first in range(0, count, BATCH):
            write_slots(producer.end, min(BATCH, count - first))
            start_ns = time.thread_time_ns()
            tap.move(buffer)
            spent_ns += time.thread_time_ns() - start_ns
        tap.writer.close()
        tap.close()
        producer.close()
        ring = RingRecording(run / KEY)
        total = checksum(ring.read(0, count).reshape(-1))
        ring.close()
        return Result(spent_ns / count, total)

    def record_in_c(self, count: int) -> Result:
        """Return the peer's CPU time per record."""
        assert self.peer is not None
        path = self.new_run().with_suffix(".raw")
        path.unlink(missing_ok=True)
        command = [self.peer, str(count), str(BATCH), path, str(self.session.cores[0])]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        total = checksum(np.fromfile(path, np.int64))
        path.unlink()
        return Result(int(done.stdout) / count, total)

    def keep_up(self, bursts: int, is_recording: bool) -> Result:
        """Return how many records a second a reader on the other core got of PACE."""
        producer = self.new_ring()
        shared = shared_words(80)
        work = self.record_until_stopped if is_recording else self.copy_until_stopped
        run = self.new_run()
        reader = fork(lambda: work(run, shared))
        wait_for(lambda: get_word(shared, _READY))
        gap_cycles = int(BURST * 1e9 / PACE * self.cycles_per_ns)
        start_ns = clock.now_ns()
        late = write_paced(producer.end, bursts, gap_cycles)
        elapsed_ns = clock.now_ns() - start_ns
        set_word(shared, _STOP, 1)
        join(reader)
        producer.close()
        count = bursts * BURST
        detail = {
            "lost": float(count - shared[_READ]),
            "CPU share of its core, %": 100 * int(shared[_CPU_NS]) / elapsed_ns,
            "producer late, us": late / self.cycles_per_ns / 1000,
        }
        return Result(shared[_READ] / elapsed_ns * 1000, count - int(shared[_WRONG]), detail)

    def record_until_stopped(self, run: Path, shared: np.ndarray) -> None:
        """Record as the process does, and once more after the stop; then check the file."""
        self.session.pin(1)
        tap = RingTap(run, KEY, self.name, CONFIG)
        buffer = np.zeros(BUFFER_WORDS, np.int64)
        set_word(shared, _READY, 1)
        start_ns = time.thread_time_ns()
        while True:
            is_last = get_word(shared, _STOP)
            moved = count = tap.move(buffer)
            while count == BATCH:
                count = tap.move(buffer)
                moved += count
            shared[_READ] += moved
            if is_last:
                break
            clock.sleep_ns(1_000_000)
        shared[_CPU_NS] = time.thread_time_ns() - start_ns
        tap.writer.close()
        tap.close()
        ring = RingRecording(run / KEY)
        for first, slots in ring.blocks(BATCH):
            shared[_WRONG] += count_wrong(slots, first)
        ring.close()

    def copy_until_stopped(self, _run: Path, shared: np.ndarray) -> None:
        """Only look: copy and validate, write nothing."""
        self.session.pin(1)
        observer = Observer(self.name)
        buffer = np.zeros(BUFFER_WORDS, np.int64)
        set_word(shared, _READY, 1)
        start_ns = time.thread_time_ns()
        while True:
            is_last = get_word(shared, _STOP)
            count = BATCH
            while count == BATCH:
                count, _lapped = observer.read_into(buffer)
                shared[_READ] += count
            if is_last:
                break
            clock.sleep_ns(1_000_000)
        shared[_CPU_NS] = time.thread_time_ns() - start_ns
        observer.close()

    def stand_by(self, note: np.ndarray) -> None:
        """Record the ring of bench/observers.py until told to stop; then check the file."""
        run = self.new_run()
        tap = RingTap(run, KEY, registry.ring_name(observers.INSTANCE, *KEY.split(".")), CONFIG)
        buffer = np.zeros(BUFFER_WORDS, np.int64)
        set_word(note, _READY, 1)
        while not get_word(note, _STOP):
            while tap.move(buffer) == BATCH:
                pass
            clock.sleep_ns(POLL_NS)
        tap.writer.close()
        tap.close()
        for first, slots in RingRecording(run / KEY).blocks(BATCH):
            note[_WRONG] += count_wrong(slots, first)
            note[_READ] += len(slots)

    def close(self) -> None:
        """Remove the files."""
        shutil.rmtree(self.folder, ignore_errors=True)


BENCHES: list[Bench] = []


def rows(session: Session) -> Sequence[Row]:
    """Return the three rows."""
    bench = Bench(session)
    BENCHES.append(bench)
    scene = observers.Scene(session, 1)
    peer = {"C: memcpy and write(2)": bench.record_in_c} if bench.peer else {}
    return [
        Row(
            "recorder's CPU time per 64-byte record",
            "ns a record",
            bench.record,
            peer,
            {},
            size=1_000_000,
            smoke_size=50_000,
            is_higher_better=False,
            note=f"{BATCH:,} records at a time; ours also validates, sums and indexes them",
        ),
        Row(
            f"{PACE:,} records a second into one file, from one core",
            "M records a second",
            lambda bursts: bench.keep_up(bursts, True),
            {"an observer that only copies": lambda bursts: bench.keep_up(bursts, False)},
            {"an observer that only copies": 0.99},
            size=4_000,
            smoke_size=400,
            note=f"bursts of {BURST} on time; looks every ms; lost must be 0",
        ),
        Row(
            "producer's time per record with a recorder",
            "ns a record",
            lambda bursts: scene.run(bench.stand_by, bursts),
            {"an idle process instead": lambda bursts: scene.run(scene.idle, bursts)},
            {"an idle process instead": 1.03},
            size=20_000,
            smoke_size=600,
            is_higher_better=False,
            note="1 M records/s in bursts of 100; mean of the fastest 99 % of bursts, below it"
            " percentiles of all",
        ),
    ]


if __name__ == "__main__":
    try:
        main(
            "recorder: what recording costs",
            rows,
            excluded="the disk; waiting between bursts; the slowest 1 % of bursts, in the mean",
        )
    finally:
        for made in BENCHES:
            made.close()
        registry.clean(INSTANCE)
        registry.clean(observers.INSTANCE)

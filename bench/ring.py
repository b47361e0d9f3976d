"""Is our ring as fast as a good C ring? 64-byte records between two pinned processes.

The rival is peers/ring.c: same capacity, same record, same checksum, indices 128 bytes apart, each
side caching the other's. Both write every word of every record and read every word back.
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numba import njit

from bench.harness import (
    Result,
    Row,
    Run,
    Session,
    compile_c,
    cycles_per_ns,
    fork,
    join,
    main,
    percentiles,
    shared_words,
)
from shm import registry, segment
from shm.atomics import cpu_relax, load_acquire, multiply_wrapping, read_cycles, store_release
from shm.ring import (
    MARKET,
    Consumer,
    Producer,
    anonymous_ring,
    available,
    create_ring,
    look_ahead,
    publish,
    release,
    try_claim,
)

CAPACITY = 16_384
BATCH = 32
PACE_NS = 1_000
INSTANCE = "bench-ring"
PEER = Path(__file__).parent / "peers" / "ring.c"
_MULTIPLIER = -7046029254386353131  # odd; the same in peers/ring.c
PERCENTILES = ("p50", "p90", "p99", "p99.9", "p99.99", "max")
_START, _END, _CHECKSUM = 64, 65, 66  # of the shared words; 0 and 16 are where both sides meet


@njit(cache=True, _nrt=False)
def meet(shared, mine, other):
    """Wait until both processes are here."""
    store_release(shared, mine, 1)
    while load_acquire(shared, other) == 0:
        cpu_relax()


@njit(cache=True, _nrt=False, forceinline=True)
def claim(out, count):
    """Claim, spinning while the ring is full."""
    first = try_claim(out, count)
    while first < 0:
        cpu_relax()
        first = try_claim(out, count)
    return first


@njit(cache=True, _nrt=False)
def write_singly(out, count, shared):
    meet(shared, 0, 16)
    shared[_START] = read_cycles()
    slots = out.slots
    mask = len(slots) - 1
    for _ in range(count):
        sequence = claim(out, 1)
        for word in range(8):
            slots[sequence & mask, word] = sequence + word
        publish(out)


@njit(cache=True, _nrt=False)
def write_batches(out, count, shared):
    meet(shared, 0, 16)
    shared[_START] = read_cycles()
    slots = out.slots
    mask = len(slots) - 1
    for _ in range(count // BATCH):
        first = claim(out, BATCH)
        for sequence in range(first, first + BATCH):
            for word in range(8):
                slots[sequence & mask, word] = sequence + word
        publish(out)


@njit(cache=True, _nrt=False)
def read_all(inp, count, shared):
    meet(shared, 16, 0)
    slots = inp.slots
    mask = len(slots) - 1
    checksum = end = 0
    while end < count:
        first, end = available(inp)
        if first == end:
            cpu_relax()
            continue
        for sequence in range(first, end):
            look_ahead(inp, sequence)
            mixed = 0
            for word in range(8):
                mixed ^= slots[sequence & mask, word] + (sequence << 3)
            checksum = multiply_wrapping(checksum ^ mixed, _MULTIPLIER)  # order counts
        release(inp, end)
    shared[_CHECKSUM] = checksum
    shared[_END] = read_cycles()


@njit(cache=True, _nrt=False, forceinline=True)
def push_value(out, value):
    sequence = claim(out, 1)
    slot = sequence & (len(out.slots) - 1)
    for word in range(8):
        out.slots[slot, word] = value + word
    publish(out)


@njit(cache=True, _nrt=False, forceinline=True)
def pop_value(inp):
    first, end = available(inp)
    while first == end:
        cpu_relax()
        first, end = available(inp)
    value = inp.slots[first & (len(inp.slots) - 1), 0]
    release(inp, first + 1)
    return value


@njit(cache=True, _nrt=False)
def ask(out, inp, samples, shared):
    """Send a record and wait for it to come back, for each sample."""
    meet(shared, 0, 16)
    shared[_START] = read_cycles()
    for i in range(len(samples)):
        sent = read_cycles()
        push_value(out, i)
        shared[_CHECKSUM] += pop_value(inp)
        samples[i] = read_cycles() - sent


@njit(cache=True, _nrt=False)
def answer(out, inp, count, shared):
    meet(shared, 16, 0)
    for _ in range(count):
        push_value(out, pop_value(inp))


@njit(cache=True, _nrt=False)
def write_paced(out, count, gap_cycles, shared):
    """Send each record at its intended time, which it carries; a late one is sent at once."""
    meet(shared, 0, 16)
    start = read_cycles()
    for i in range(count):
        intended = start + i * gap_cycles
        while read_cycles() < intended:
            cpu_relax()
        push_value(out, intended)


@njit(cache=True, _nrt=False)
def read_paced(inp, samples, shared):
    meet(shared, 16, 0)
    before = 0
    for i in range(len(samples)):
        intended = pop_value(inp)
        samples[i] = read_cycles() - intended
        if intended > before:
            shared[_CHECKSUM] += i
        before = intended


class Rings:
    """Two fresh rings in /dev/shm, and the processes on them."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.names = [registry.ring_name(INSTANCE, *ends) for ends in ("amb", "bma")]
        self.cycles_per_ns = cycles_per_ns()

    def fresh(self) -> None:
        for name in self.names:
            segment.unlink(name)
            create_ring(name, MARKET, CAPACITY)

    def run_throughput(self, writer: object, count: int) -> Result:
        """Return M records/s from the first write to the last read."""
        self.fresh()
        shared = shared_words(128)

        def read() -> None:
            self.session.pin(1)
            read_all(Consumer.open(self.names[0], MARKET).end, count, shared)

        child = fork(read)
        producer = Producer.open(self.names[0], MARKET)
        writer(producer.end, count, shared)  # type: ignore[operator]
        join(child)
        producer.close()
        elapsed_ns = (shared[_END] - shared[_START]) / self.cycles_per_ns
        return Result(count / elapsed_ns * 1e3, int(shared[_CHECKSUM]))

    def run_round_trip(self, count: int) -> Result:
        """Return the median round trip in ns."""
        self.fresh()
        shared = shared_words(128)
        samples = np.zeros(count, np.int64)

        def work() -> None:
            self.session.pin(1)
            back = Producer.open(self.names[1], MARKET)
            answer(back.end, Consumer.open(self.names[0], MARKET).end, count, shared)

        child = fork(work)
        there, back = Producer.open(self.names[0], MARKET), Consumer.open(self.names[1], MARKET)
        ask(there.end, back.end, samples, shared)
        join(child)
        there.close()
        back.close()
        return self._latency(samples, int(shared[_CHECKSUM]))

    def run_paced(self, count: int) -> Result:
        """Return the median one-way latency from the intended time, in ns."""
        self.fresh()
        shared, samples = shared_words(128), shared_words(count)

        def work() -> None:
            self.session.pin(1)
            read_paced(Consumer.open(self.names[0], MARKET).end, samples, shared)

        child = fork(work)
        producer = Producer.open(self.names[0], MARKET)
        write_paced(producer.end, count, int(PACE_NS * self.cycles_per_ns), shared)
        join(child)
        producer.close()
        return self._latency(samples, int(shared[_CHECKSUM]))

    def _latency(self, samples: np.ndarray, checksum: int) -> Result:
        found = percentiles((samples / self.cycles_per_ns).tolist())
        return Result(found["p50"], checksum, found)

    def compile(self) -> None:
        """Compile every kernel before the first fork, by a run in one process."""
        out, inp = anonymous_ring(MARKET, 64)
        shared = np.ones(128, np.int64)
        one = np.zeros(1, np.int64)
        write_singly(out.end, 1, shared)
        read_all(inp.end, 1, shared)
        write_batches(out.end, 0, shared)
        ask(out.end, inp.end, one, shared)
        push_value(out.end, 1)
        answer(out.end, inp.end, 1, shared)
        write_paced(out.end, 1, 1, shared)
        read_paced(inp.end, one, shared)


def run_peer(program: Path, session: Session, mode: str, step: int, count: int) -> Result:
    """Run the C ring once."""
    cores = [str(session.cores[place % len(session.cores)]) for place in (0, 1)]
    done = subprocess.run(
        [program, mode, str(count), str(step), *cores], capture_output=True, text=True, check=True
    )
    elapsed_ns, checksum, *latencies = done.stdout.split()
    if mode == "throughput":
        return Result(count / float(elapsed_ns) * 1e3, int(checksum))
    detail = dict(zip(PERCENTILES, map(float, latencies), strict=True))
    return Result(detail["p50"], int(checksum), detail)


def rows(session: Session) -> Sequence[Row]:
    """Return the rows: throughput one by one and in batches, round trip, paced one-way."""
    program = compile_c(PEER)
    rings = Rings(session)
    rings.compile()

    def peer(mode: str, step: int, name: str = "C ring") -> dict[str, Run]:
        if program is None:
            session.say(f"no gcc: {name} is missing")
            return {}
        return {name: lambda count: run_peer(program, session, mode, step, count)}

    throughput = peer("throughput", 1)
    batched = peer("throughput", BATCH, f"C ring, {BATCH} a store")
    return [
        Row(
            "64-byte records, each published by itself",
            "M records/s",
            lambda count: rings.run_throughput(write_singly, count),
            throughput,
            {"C ring": 1.0},
            size=20_000_000,
            smoke_size=64_000,
            note=f"capacity {CAPACITY:,}; nobody sleeps, so no doorbell is connected",
        ),
        Row(
            f"64-byte records, {BATCH} published at once",
            "M records/s",
            lambda count: rings.run_throughput(write_batches, count),
            {**throughput, **batched},
            {"C ring": 1.5},
            size=20_000_000,
            smoke_size=64_000,
            note="the C ring has no batches; with one index store per batch it is for comparison",
        ),
        Row(
            "round trip over two rings",
            "ns, median",
            rings.run_round_trip,
            peer("roundtrip", 1),
            {"C ring": 1.1},
            size=1_000_000,
            smoke_size=5_000,
            is_higher_better=False,
            note="closed loop: one record at a time; two reads of the counter are in each sample",
        ),
        Row(
            f"one way, a record every {PACE_NS:,} ns",
            "ns, median",
            rings.run_paced,
            peer("paced", PACE_NS),
            {},
            size=1_000_000,
            smoke_size=5_000,
            is_higher_better=False,
            note="open loop: measured from the intended time, so a stall delays all that wait",
        ),
    ]


if __name__ == "__main__":
    try:
        main(
            "ring: 64-byte records between two pinned processes",
            rows,
            excluded="attaching, compiling, faulting in pages",
            omission="the paced row counts from intended times; the round trip is closed loop",
        )
    finally:
        registry.clean(INSTANCE)

"""Do observers cost the producer anything? 4 of them at 50 Hz against 4 idle processes.

A producer on its own core publishes bursts of records at a steady rate; a consumer on the other
core takes what there is every millisecond; 4 further processes share the consumer's core. They
either copy and check every record 50 times a second, or only wake up and sleep again. Measured is
the producer's time within the bursts. The consumer does not spin: it would slow the producer by
reading beside it, and observers that take its core away would then look like a gain.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numba import njit

from bench.harness import (
    Result,
    Row,
    Session,
    cycles_per_ns,
    fork,
    join,
    main,
    percentiles,
    shared_words,
)
from common import clock
from shm import registry, segment
from shm.atomics import cpu_relax, load_acquire, multiply_wrapping, read_cycles, store_release
from shm.observer import Observer
from shm.ring import (
    MARKET,
    Consumer,
    Producer,
    anonymous_ring,
    available,
    create_ring,
    publish,
    release,
    try_claim,
)

CAPACITY = 65_536
BURST_RECORDS = 100
BURST_GAP_NS = 100_000  # 1 M records/s
OBSERVERS = 4
PERIOD_NS = 20_000_000
OBSERVE_RECORDS_MAX = 32_768
CONSUMER_PERIOD_NS = 1_000_000
KEPT_SHARE = 0.99  # the slowest bursts were interrupted by other processes on the core
INSTANCE = "bench-observers"
_MULTIPLIER = -7046029254386353131  # odd
_STOP, _READY, _READ, _WRONG, _CHECKSUM = 0, 16, 32, 48, 64


@njit(cache=True, _nrt=False, forceinline=True)
def word_of(sequence, word):
    return sequence * 8 + word


@njit(cache=True, _nrt=False)
def write_bursts(out, burst_cycles, gap_cycles):
    """Publish bursts on time; burst_cycles gets what each took. Return 1 if the ring was full."""
    slots = out.slots
    mask = len(slots) - 1
    next_cycles = read_cycles()
    for burst in range(len(burst_cycles)):
        while read_cycles() < next_cycles:
            cpu_relax()
        next_cycles += gap_cycles
        start = read_cycles()
        for _ in range(BURST_RECORDS):
            sequence = try_claim(out, 1)
            if sequence < 0:
                return 1
            for word in range(8):
                slots[sequence & mask, word] = word_of(sequence, word)
            publish(out)
        burst_cycles[burst] = read_cycles() - start
    return 0


@njit(cache=True, _nrt=False)
def read_some(inp, shared):
    """Take what there is into the checksum; return the sequence behind it."""
    slots = inp.slots
    mask = len(slots) - 1
    first, end = available(inp)
    checksum = shared[_CHECKSUM]
    for sequence in range(first, end):
        for word in range(8):
            checksum = multiply_wrapping(checksum ^ slots[sequence & mask, word], _MULTIPLIER)
    shared[_CHECKSUM] = checksum
    release(inp, end)
    return end


@njit(cache=True, _nrt=False)
def count_wrong(records, first):
    wrong = 0
    for i in range(len(records)):
        for word in range(8):
            wrong += records[i, word] != word_of(first + i, word)
    return wrong


@njit(cache=True, _nrt=False)
def set_word(words, index, value):
    store_release(words, index, value)


@njit(cache=True, _nrt=False)
def get_word(words, index):
    return load_acquire(words, index)


class Scene:
    """A ring, its two ends and some bystanders, for one run."""

    def __init__(self, session: Session, bystanders: int = OBSERVERS) -> None:
        self.session = session
        self.bystanders = bystanders
        self.name = registry.ring_name(INSTANCE, "a", "market", "b")
        self.cycles_per_ns = cycles_per_ns()
        self._compile()

    def run(self, bystander: Callable[[np.ndarray], None], bursts: int) -> Result:
        """Return the producer's ns per record with so many such bystanders."""
        segment.unlink(self.name)
        create_ring(self.name, MARKET, CAPACITY)
        shared = shared_words(80)
        count = bursts * BURST_RECORDS
        notes = [shared_words(80) for _ in range(self.bystanders)]

        def consume() -> None:
            self.session.pin(1)
            consumer = Consumer.open(self.name, MARKET)
            set_word(shared, _READY, 1)
            while read_some(consumer.end, shared) < count and not get_word(shared, _STOP):
                clock.sleep_ns(CONSUMER_PERIOD_NS)

        def stand_by(note: np.ndarray) -> Callable[[], None]:
            def work() -> None:
                self.session.pin(1)
                bystander(note)

            return work

        reader = fork(consume)
        children = [fork(stand_by(note)) for note in notes]
        wait_for(lambda: get_word(shared, _READY) and all(get_word(n, _READY) for n in notes))
        producer = Producer.open(self.name, MARKET)
        burst_cycles = np.zeros(bursts, np.int64)
        full = write_bursts(producer.end, burst_cycles, int(BURST_GAP_NS * self.cycles_per_ns))
        if full:
            set_word(shared, _STOP, 1)
        for note in notes:
            set_word(note, _STOP, 1)
        for child in (reader, *children):
            join(child)
        producer.close()
        return self._result(burst_cycles, shared, notes, bool(full))

    def _result(
        self, burst_cycles: np.ndarray, shared: np.ndarray, notes: list[np.ndarray], full: bool
    ) -> Result:
        if full:
            self.session.say("void: the consumer did not get to run, the ring was full")
        per_record = np.sort(burst_cycles / self.cycles_per_ns / BURST_RECORDS)
        kept = per_record[: max(1, int(len(per_record) * KEPT_SHARE))]
        detail = {
            **percentiles(per_record.tolist()),
            "read by observers": float(sum(int(note[_READ]) for note in notes)),
        }
        wrong = sum(int(note[_WRONG]) for note in notes)
        checksum = int(shared[_CHECKSUM]) if not (wrong or full) else -1
        return Result(float(kept.mean()), checksum, detail)

    def observe(self, note: np.ndarray) -> None:
        """Copy and check what came in the last period, until told to stop."""
        observer = Observer(self.name)
        set_word(note, _READY, 1)
        while not get_word(note, _STOP):
            records, first, _lapped = observer.read(OBSERVE_RECORDS_MAX)
            note[_WRONG] += count_wrong(records, first)
            note[_READ] += len(records)
            clock.sleep_ns(PERIOD_NS)

    def idle(self, note: np.ndarray) -> None:
        """Wake up as often as an observer and do nothing."""
        set_word(note, _READY, 1)
        while not get_word(note, _STOP):
            clock.sleep_ns(PERIOD_NS)

    def _compile(self) -> None:
        out, inp = anonymous_ring(MARKET, 1024)
        write_bursts(out.end, np.zeros(1, np.int64), 1)
        read_some(inp.end, shared_words(80))
        count_wrong(np.zeros((1, 8), np.int64), 0)
        set_word(shared_words(80), 0, 0)
        get_word(shared_words(80), 0)
        segment.unlink(self.name)
        create_ring(self.name, MARKET, 2)
        Observer(self.name).read(1)


def wait_for(condition: Callable[[], object]) -> None:
    """Poll until the children are ready; they end by themselves if something is wrong."""
    deadline_ns = clock.now_ns() + 10_000_000_000
    while not condition():
        if clock.now_ns() > deadline_ns:
            raise RuntimeError("children are not ready within 10 s")
        clock.sleep_ns(1_000_000)


def rows(session: Session) -> Sequence[Row]:
    """Return the one row."""
    scene = Scene(session)
    return [
        Row(
            f"producer's time per record with {OBSERVERS} observers at 50 Hz",
            "ns a record",
            lambda bursts: scene.run(scene.observe, bursts),
            {"idle processes instead": lambda bursts: scene.run(scene.idle, bursts)},
            {"idle processes instead": 1.03},
            size=30_000,
            smoke_size=600,
            is_higher_better=False,
            note=f"1 M records/s in bursts of {BURST_RECORDS}; mean of the fastest 99 % of bursts,"
            " below it percentiles of all",
        )
    ]


if __name__ == "__main__":
    try:
        main(
            "observers: what they cost the producer",
            rows,
            excluded="waiting between bursts; the slowest 1 % of bursts, in the mean",
        )
    finally:
        registry.clean(INSTANCE)

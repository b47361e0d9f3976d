"""Two real processes on one ring: every word follows from the sequence, and is checked."""

import os
import random

import numpy as np
import pytest
from numba import njit

from shm import registry
from shm.atomics import cpu_relax, load_acquire
from shm.observer import Observer, ring_stats
from shm.ring import (
    MARKET,
    Consumer,
    Producer,
    anonymous_ring,
    available,
    count_offered,
    create_ring,
    publish,
    release,
    try_claim,
)

from tests.shm.children import fork, kill, sched_yield, shared_words, wait_exit
from tests.support import wait_until

RECORDS = 200_000
TORN, READ, NEXT = 0, 1, 2  # words that a reader shares with the test


@njit(cache=True, _nrt=False)
def word_of(sequence, word):
    return (sequence + 13 * word) ^ (sequence << 20)


@njit(cache=True, _nrt=False)
def produce(out, end, batch, delay):
    """Write records until the sequence `end`, `batch` at a time, and spin `delay` between them."""
    mask = len(out.slots) - 1
    while out.local[0] < end:
        count = min(batch, end - out.local[0])
        first = try_claim(out, count)
        if first < 0:
            sched_yield()
            continue
        count_offered(out, count)
        for sequence in range(first, first + count):
            for word in range(8):
                out.slots[sequence & mask, word] = word_of(sequence, word)
        publish(out)
        for _ in range(delay):
            cpu_relax()


@njit(cache=True, _nrt=False)
def consume(inp, end, delay, found):
    """Read up to the sequence `end`; count in `found` what is torn and what was read."""
    mask = len(inp.slots) - 1
    while True:
        first, available_end = available(inp)
        if first >= end:
            return
        if first == available_end:
            sched_yield()
            continue
        for sequence in range(first, available_end):
            for word in range(8):
                if inp.slots[sequence & mask, word] != word_of(sequence, word):
                    found[TORN] += 1
            for _ in range(delay):
                cpu_relax()
        found[READ] += available_end - first
        release(inp, available_end)


@njit(cache=True, _nrt=False)
def count_torn(records, first):
    torn = 0
    for i in range(len(records)):
        for word in range(8):
            torn += records[i, word] != word_of(first + i, word)
    return torn


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """Compile before the first fork."""
    producer, consumer = anonymous_ring(MARKET, 4)
    produce(producer.end, 2, 1, 1)
    consume(consumer.end, 2, 1, np.zeros(3, np.int64))
    count_torn(np.zeros((1, 8), np.int64), 0)


@pytest.fixture
def name(instance):
    return registry.ring_name(instance, "a", "b", "c")


def run_producer(name, end, batch=1, delay=0):
    produce(Producer.open(name, MARKET).end, end, batch, delay)


def run_consumer(name, end, found, delay=0):
    consume(Consumer.open(name, MARKET).end, end, delay, found)


@pytest.mark.parametrize("capacity", [2, 8, 64])
@pytest.mark.parametrize(
    ("batch", "write_delay", "read_delay"),
    [(1, 0, 0), (1, 0, 20), (1, 20, 0), (3, 0, 0)],
    ids=["even", "slow reader", "slow writer", "batches"],
)
def test_every_record_arrives_whole_in_order_once(name, capacity, batch, write_delay, read_delay):
    batch = min(batch, capacity - 1)
    create_ring(name, MARKET, capacity, first_sequence=1 << 40)
    end = (1 << 40) + RECORDS // (10 if capacity == 2 else 1)
    found = shared_words(3)
    reader = fork(lambda: run_consumer(name, end, found, read_delay))
    writer = fork(lambda: run_producer(name, end, batch, write_delay))
    wait_exit(writer, "writer")
    wait_exit(reader, "reader")
    stats = ring_stats(name)
    assert found[TORN] == 0
    assert found[READ] == stats["published"] == stats["consumed"] == stats["offered"]
    assert 0 < stats["lag_max"] < capacity


@pytest.mark.parametrize("capacity", [2, 8, 64])
def test_either_end_may_be_killed_and_attached_again(name, capacity):
    """Kill -9 at random places; nothing is torn, and the sequences go on without a hole."""
    create_ring(name, MARKET, capacity)
    source = random.Random(capacity)
    end = 1 << 50
    found = shared_words(3)
    writer = fork(lambda: run_producer(name, end, min(2, capacity - 1)))
    reader = fork(lambda: run_consumer(name, end, found))
    watched = Observer(name)
    for _ in range(12):
        target = watched.published + source.randrange(200)
        wait_until(lambda: watched.published > target, "records published")  # noqa: B023
        if source.random() < 0.5:
            kill(writer)
            writer = fork(lambda: run_producer(name, end, min(2, capacity - 1)))
        else:
            kill(reader)
            reader = fork(lambda: run_consumer(name, end, found))
    target = watched.published + 1_000
    wait_until(lambda: watched.published > target, "records after the last kill")
    kill(writer)
    kill(reader)
    assert found[TORN] == 0
    producer, consumer = Producer.open(name, MARKET), Consumer.open(name, MARKET)
    first, last = available(consumer.end)
    assert count_torn(consumer.read(capacity), first) == 0
    stats = producer.stats()
    assert stats["published"] == stats["consumed"] == last
    assert stats["offered"] == stats["published"]
    assert stats["producer_attaches"] + stats["consumer_attaches"] == 2 + 12 + 2
    for ring_end in (producer, consumer, watched):
        ring_end.close()


def test_observer_never_accepts_an_overwritten_record(name):
    """A writer that never waits laps the observer all the time; what it accepts is right."""
    create_ring(name, MARKET, 256, overwrite=True)
    observer = Observer(name)
    writer = fork(lambda: run_producer(name, 1 << 50, 5, delay=40))
    source = random.Random(1)

    def has_seen_enough():
        for _ in range(500):
            records, first, lapped = observer.read(source.choice((1, 16, 256)))
            assert count_torn(records, first) == 0
            assert lapped == 0 or len(records) == 0
        return observer.read_count > 50_000 and observer.lapped_count > 50_000

    try:
        wait_until(has_seen_enough, "reads and laps", deadline_s=30)
    finally:
        kill(writer)
    published = observer.published - observer.start_sequence
    assert published == observer.read_count + observer.lapped_count + observer.lag
    observer.close()


def test_spinning_reader_sees_another_process_store():
    words = shared_words(1)
    words.flags.writeable = True
    spin_until_set(np.ones(1, np.int64))
    child = fork(lambda: spin_until_set(words))
    words[0] = 1
    wait_exit(child, "spinning child")
    assert os.getpid() != child


@njit(cache=True, _nrt=False)
def spin_until_set(words):
    while load_acquire(words, 0) == 0:
        pass

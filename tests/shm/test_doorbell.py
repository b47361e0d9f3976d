"""Doorbells: nobody sleeps while there is work, nobody rings a bell that no one waits for."""

import select

import numpy as np
import pytest
from numba import config, njit, types

from common import clock
from common.errors import SegmentError
from shm import registry
from shm.atomics import cpu_relax, load_acquire, store_release
from shm.doorbell import Doorbell, Sleeper, _prepare_sleep, _set_sleeping
from shm.observer import ring_stats
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

from tests.shm.children import fork, sched_yield, shared_words, wait_exit
from tests.support import wait_until

MESSAGES = 100_000
SLEEPS = 200
ROUNDS = 200_000
_read = types.ExternalFunction("read", types.int64(types.int32, types.voidptr, types.int64))


def slots(count):
    return np.ones((count, 8), np.int64)


@njit(cache=True, _nrt=False)
def send(out, first_value, count):
    """Publish `count` messages one by one, with pauses of changing length."""
    for value in range(first_value, first_value + count):
        sequence = try_claim(out, 1)
        while sequence < 0:
            sched_yield()
            sequence = try_claim(out, 1)
        out.slots[sequence & (len(out.slots) - 1), 0] = value
        publish(out)
        for _ in range((value * 2_654_435_761 >> 7) & 255):
            cpu_relax()


@njit(cache=True, _nrt=False)
def receive(inp, seen):
    """Take everything there is; seen[0] is the next value expected, seen[1] counts wrong ones."""
    first, end = available(inp)
    for sequence in range(first, end):
        if inp.slots[sequence & (len(inp.slots) - 1), 0] != seen[0]:
            seen[1] += 1
        seen[0] += 1
    if end > first:
        release(inp, end)
    return end - first


def test_no_wake_up_is_lost(instance):
    """A reader parks whenever it has nothing; a lost ring would let it sleep for ever."""
    ring = registry.ring_name(instance, "a", "b", "c")
    quiet = registry.ring_name(instance, "a", "quiet", "c")
    bell_name = registry.bell_name(instance, "c")
    create_ring(ring, MARKET, 64)
    create_ring(quiet, MARKET, 64)
    Doorbell.create(bell_name).close()
    seen = shared_words(3)
    producer, consumer = anonymous_ring(MARKET, 4)
    send(producer.end, 0, 1)
    receive(consumer.end, np.zeros(3, np.int64))
    Sleeper([consumer]).try_sleep()

    def read():
        consumers = [Consumer.open(quiet, MARKET), Consumer.open(ring, MARKET)]
        bell, sleeper, epoll = Doorbell.open(bell_name), Sleeper(consumers), select.epoll()
        epoll.register(bell.fd, select.EPOLLIN)
        while seen[0] < MESSAGES:
            if receive(consumers[1].end, seen):
                continue
            if sleeper.try_sleep():
                seen[2] += 1
                epoll.poll()  # for ever, unless somebody rings
                bell.drain()
                sleeper.wake()

    def write():
        producer = Producer.open(ring, MARKET)
        producer.connect_bell(bell_name)
        for k in range(SLEEPS):
            wait_until(lambda k=k: seen[2] > k, "the reader sleeps", 30.0)
            send(producer.end, k * MESSAGES // SLEEPS, MESSAGES // SLEEPS)

    reader, writer = fork(read), fork(write)
    wait_exit(writer, "writer")
    wait_exit(reader, f"reader, asleep at message {seen[0]}")
    assert (seen[0], seen[1]) == (MESSAGES, 0)
    assert seen[2] >= SLEEPS
    assert ring_stats(ring)["lag"] == 0


@njit(cache=True, _nrt=False)
def meet(sync, mine, other, number):
    """Wait until both processes have come to the same number."""
    store_release(sync, mine, number)
    polls = 0
    while load_acquire(sync, other) < number:
        polls += 1
        if polls & 1023 == 0:
            sched_yield()


@njit(cache=True, _nrt=False)
def publish_rounds(out, rounds, sync):
    """Publish one record a round, at the moment when the consumer goes to sleep."""
    for number in range(1, rounds + 1):
        try_claim(out, 1)
        meet(sync, 0, 16, number)
        for _ in range(number & 7):
            cpu_relax()
        publish(out)
        meet(sync, 32, 48, number)


@njit(cache=True, _nrt=False)
def sleep_rounds(inputs, inp, rounds, sync, fd):
    """Decide to sleep once a round; return how often it slept and nobody had rung."""
    missed = 0
    for number in range(1, rounds + 1):
        meet(sync, 16, 0, number)
        for _ in range(number >> 3 & 7):
            cpu_relax()
        asleep = _prepare_sleep(inputs, 1)
        meet(sync, 48, 32, number)
        rung = _read(fd, sync[64:].ctypes, 64)
        if asleep and rung <= 0:
            missed += 1
        _set_sleeping(inputs, 1, 0)
        release(inp, number)
    return missed


@pytest.mark.skipif(config.DISABLE_JIT, reason="there is no fence to test")
def test_publish_and_sleep_never_miss_each_other(instance):
    """The same two instants again and again: without the fences both sides look too early."""
    ring, bell_name = registry.ring_name(instance, "a", "b", "c"), registry.bell_name(instance, "c")
    create_ring(ring, MARKET, 4)
    Doorbell.create(bell_name).close()
    sync, missed = shared_words(128), shared_words(1)
    producer, consumer = anonymous_ring(MARKET, 4)
    inputs = Sleeper([consumer])._inputs
    publish_rounds(producer.end, 0, sync)
    sleep_rounds(inputs, consumer.end, 0, sync, 0)

    def read():
        consumer, bell = Consumer.open(ring, MARKET), Doorbell.open(bell_name)
        missed[0] = sleep_rounds(Sleeper([consumer])._inputs, consumer.end, ROUNDS, sync, bell.fd)

    def write():
        producer = Producer.open(ring, MARKET)
        producer.connect_bell(bell_name)
        publish_rounds(producer.end, ROUNDS, sync)

    reader, writer = fork(read), fork(write)
    wait_exit(writer, "writer")
    wait_exit(reader, "reader")
    assert missed[0] == 0


def test_only_a_sleeper_is_rung(instance):
    name = registry.bell_name(instance, "a")
    bell = Doorbell.create(name)
    producer, consumer = anonymous_ring(MARKET, 8)
    producer.connect_bell(name)
    sleeper = Sleeper([consumer])
    producer.write(slots(1))
    assert bell.drain() == 0
    assert not sleeper.try_sleep()  # there is work
    consumer.read(8)
    assert sleeper.try_sleep()
    producer.write(slots(1))
    assert bell.drain() == 1
    sleeper.wake()
    producer.write(slots(1))
    assert bell.drain() == 0
    assert producer.bell_fd >= 0
    producer.close()
    assert producer.bell_fd == -1
    bell.close()


def test_full_bell_is_as_good_as_rung(instance):
    name = registry.bell_name(instance, "a")
    bell = Doorbell.create(name)
    for _ in range(70_000):
        bell.ring()
    producer, consumer = anonymous_ring(MARKET, 8)
    producer.connect_bell(name)
    assert Sleeper([consumer]).try_sleep()
    producer.write(slots(1))
    assert bell.drain() == 65_536
    assert bell.drain() == 0
    producer.close()
    bell.close()


def test_spin_ends_with_work_or_in_time():
    producer, consumer = anonymous_ring(MARKET, 8)
    _, other = anonymous_ring("REPORT", 8)
    sleeper = Sleeper([other, consumer])
    assert not sleeper.spin(1_000)
    producer.write(slots(1))
    start_ns = clock.now_ns()
    assert sleeper.spin(1_000_000_000)
    assert clock.now_ns() - start_ns < 900_000_000


def test_nothing_to_wait_for_is_no_work():
    sleeper = Sleeper([])
    assert sleeper.try_sleep()
    assert not sleeper.spin(1_000)
    sleeper.wake()


def test_too_many_rings_are_refused():
    with pytest.raises(SegmentError, match="9 rings, expected at most 8"):
        Sleeper([anonymous_ring(MARKET, 2)[1] for _ in range(9)])

"""kill -9 of a recorder at any moment: every file reads to its last complete block.

pytest tests/processes/recorder/test_kill.py --kills 1000
"""

import random

import numpy as np
from numba import njit

from common import clock
from processes.recorder.config import RecorderConfig
from processes.recorder.tap import RingTap
from shm import segment
from shm.atomics import load_acquire, store_release
from shm.recording import RingRecording
from shm.ring import MARKET, Producer, anonymous_ring, create_ring, publish, try_claim

from tests.shm.children import fork, kill, sched_yield, shared_words, wait_exit
from tests.support import wait_until

KEY = "a.market.log"
KILLS_PER_RUN = 20
CAPACITY = 1 << 12
BATCH = 40
STOP, READY, MOVED = 0, 16, 32


@njit(cache=True, _nrt=False)
def write_until_stopped(out, shared):
    """Publish batches of slots whose words tell their sequence, giving the core away in between."""
    slots = out.slots
    mask = len(slots) - 1
    while load_acquire(shared, STOP) == 0:
        first = try_claim(out, BATCH)
        for sequence in range(first, first + BATCH):
            for word in range(8):
                slots[sequence & mask, word] = sequence * 8 + word
        publish(out)
        store_release(shared, READY, 1)
        sched_yield()


@njit(cache=True, _nrt=False)
def count_wrong_words(slots, first):
    wrong = 0
    for i in range(len(slots)):
        for word in range(8):
            wrong += slots[i, word] != (first + i) * 8 + word
    return wrong


def record_for_ever(run, name, shared):
    """Be a recorder without the shell: small segments, packed blocks of any size."""
    config = RecorderConfig(total_bytes_max=1 << 40, segment_bytes_max=1 << 16)
    tap = RingTap(run, KEY, name, config)
    buffer = np.zeros(1 << 15, np.int64)
    while True:
        shared[MOVED] += tap.move(buffer)


def check(folder, written_max):
    """Everything that has an index entry is whole and right, and nothing is missing unsaid."""
    ring = RingRecording(folder)
    assert ring.notes == [], "kill -9 leaves no entry without its slots"
    end = 0
    for first, last in sorted([*ring.spans, *((a, b + 1) for a, b in ring.gaps)]):
        assert first == end and last > first
        end = last
    assert end <= written_max
    for first, slots in ring.blocks(1 << 16):
        assert count_wrong_words(slots, first) == 0
    ring.close()
    return sum(last - first for first, last in ring.spans)


def kill_some(run, name, kills, moments):
    """Write to a ring and kill a recorder of it so often; return how many slots were recorded."""
    create_ring(name, MARKET, CAPACITY, overwrite=True)
    producer = Producer.open(name, MARKET)
    shared = shared_words(48)
    writer = fork(lambda: write_until_stopped(producer.end, shared))
    wait_until(lambda: shared[READY] == 1, "the ring is written to")
    recorded = 0
    for _ in range(kills):
        shared[MOVED] = 0
        recorder = fork(lambda: record_for_ever(run, name, shared))
        if moments.random() < 0.8:
            wait_until(lambda: shared[MOVED] > 0, "the recorder records")
        clock.sleep_ns(moments.randrange(4_000_000))
        kill(recorder)
        if (run / KEY).exists():
            recorded = check(run / KEY, producer.stats()["published"])
    shared[STOP] = 1
    wait_exit(writer, "the writer stops")
    producer.close()
    segment.unlink(name)
    return recorded


def test_kill_9_at_random_moments_leaves_whole_files(tmp_path, instance, request):
    kills = request.config.getoption("--kills", default=60)
    seed = random.randrange(1 << 32)
    moments = random.Random(seed)
    print(f"seed {seed}")
    out, _ = anonymous_ring(MARKET, CAPACITY, overwrite=True)
    write_until_stopped(out.end, np.ones(48, np.int64))
    count_wrong_words(np.zeros((1, 8), np.int64), 0)
    name = f"tickring.{instance}.{KEY}"
    recorded = 0
    for first in range(0, kills, KILLS_PER_RUN):
        count = min(KILLS_PER_RUN, kills - first)
        recorded += kill_some(tmp_path / str(first), name, count, moments)
    print(f"{kills} kills, {recorded} slots recorded")
    assert recorded > kills

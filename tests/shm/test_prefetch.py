"""The prefetch hint: one instruction, harmless at any place."""

import numpy as np
from numba import njit

from common.records import SLOT_WORDS
from shm import cursors
from shm.atomics import prefetch
from shm.ring import MARKET, anonymous_ring, available, release


@njit(_nrt=False)
def hint(words, index):
    """Prefetch one word."""
    prefetch(words, index)
    return words[0]


def test_prefetch_is_one_instruction_that_changes_nothing():
    words = np.arange(64)
    for index in (0, 63, -1, 10**9):  # outside of the array, and of the process
        assert hint(words, index) == 0
    assert (words == np.arange(64)).all()
    assert next(iter(hint.inspect_asm().values())).count("prefetcht0") == 1


def test_look_ahead_asks_for_published_slots_only(monkeypatch):
    """A slot under change must stay with its writer."""
    producer, consumer = anonymous_ring(MARKET, 128)
    asked = []
    monkeypatch.setattr(cursors, "prefetch", lambda slots, index: asked.append(index))
    producer.try_write(np.zeros((100, SLOT_WORDS), np.int64))
    first, end = available(consumer.end)
    for sequence in range(first, end):
        cursors.look_ahead.py_func(consumer.end, sequence)
    assert asked == [s * SLOT_WORDS for s in range(cursors.LOOK_AHEAD_SLOTS, 100)]
    release(consumer.end, end)
    producer.try_write(np.zeros((100, SLOT_WORDS), np.int64))
    asked.clear()
    available(consumer.end)
    cursors.look_ahead.py_func(consumer.end, 100)
    assert asked == [(100 + cursors.LOOK_AHEAD_SLOTS) % 128 * SLOT_WORDS]

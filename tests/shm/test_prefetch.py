"""The prefetch hint: one instruction, harmless at any place."""

import numpy as np
from numba import njit

from shm.atomics import prefetch


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

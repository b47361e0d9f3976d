"""Bit scans and bitmaps against Python's own integers and a set."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config, njit

from shm import bits

SIZES = [64, 128, 4096, 4160, 65_536, bits.BITMAP_BITS_MAX]


@pytest.mark.parametrize("number", range(64))
def test_scans_find_each_bit_alone_and_among_others(number):
    """A single bit is both lowest and highest; all bits above (below) do not hide it."""
    alone = np.array([1 << number], np.uint64).view(np.int64)[0]
    assert (bits.lowest_set(alone), bits.highest_set(alone)) == (number, number)
    above = np.array([(2**64 - 1) << number & (2**64 - 1)], np.uint64).view(np.int64)[0]
    below = np.array([2 ** (number + 1) - 1], np.uint64).view(np.int64)[0]
    assert (bits.lowest_set(above), bits.highest_set(above)) == (number, 63)
    assert (bits.lowest_set(below), bits.highest_set(below)) == (0, number)


@njit
def low_scan(word):
    return bits.lowest_set(word)


@njit
def high_scan(word):
    return bits.highest_set(word)


@pytest.mark.skipif(config.DISABLE_JIT, reason="nothing is compiled")
def test_scans_are_single_instructions():
    """The generated code counts zeros in hardware, without a loop or a call."""
    assert (low_scan(np.int64(8)), high_scan(np.int64(8))) == (3, 3)
    low = next(iter(low_scan.inspect_asm().values()))
    high = next(iter(high_scan.inspect_asm().values()))
    assert "tzcnt" in low or "bsf" in low
    assert "lzcnt" in high or "bsr" in high


@pytest.mark.parametrize("size", [0, 63, 100, bits.BITMAP_BITS_MAX + 64])
def test_bitmap_words_refuses_other_sizes(size):
    """Only whole words and three levels are offered."""
    with pytest.raises(ValueError, match=f"bitmap size is {size}"):
        bits.bitmap_words(size)


def check(words, base, size, expected, probe):
    """Compare both searches from `probe` with a search in a Python set."""
    up = min((i for i in expected if i >= probe), default=bits.NO_BIT)
    down = max((i for i in expected if i <= probe), default=bits.NO_BIT)
    assert bits.bitmap_next_up(words, base, size, probe) == up
    assert bits.bitmap_next_down(words, base, size, probe) == down


@pytest.mark.parametrize("size", SIZES)
def test_searches_at_word_and_group_borders(size):
    """One bit at each border is found from each border, and nothing is found past it."""
    borders = [i for i in (0, 1, 63, 64, 4095, 4096, 65_535, size - 64, size - 1) if i < size]
    for bit in borders:
        words = np.zeros(bits.bitmap_words(size), np.int64)
        bits.bitmap_set(words, 0, size, bit)
        for probe in borders:
            check(words, 0, size, {bit}, probe)
        bits.bitmap_clear(words, 0, size, bit)
        assert not words.any()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_random_bits_match_a_set(data):
    """Sets and clears in any order give the searches of a set; words beside it stay untouched."""
    size = data.draw(st.sampled_from(SIZES))
    spread = data.draw(st.sampled_from([8, 200, size]))
    bit = st.integers(0, min(spread, size) - 1).map(lambda i: i * (size // min(spread, size)))
    changes = data.draw(st.lists(st.tuples(st.booleans(), bit), max_size=60))
    base = 5
    words = np.zeros(bits.bitmap_words(size) + 2 * base, np.int64)
    words[:base] = words[-base:] = 77
    expected = set()
    for is_set, i in changes:
        if is_set:
            bits.bitmap_set(words, base, size, i)
            expected.add(i)
        else:
            bits.bitmap_clear(words, base, size, i)
            expected.discard(i)
        for probe in (i, min(i + 1, size - 1), max(i - 1, 0), 0, size - 1):
            check(words, base, size, expected, probe)
    for i in expected:
        bits.bitmap_clear(words, base, size, i)
    assert not words[base:-base].any()
    assert (words[:base] == 77).all() and (words[-base:] == 77).all()

"""Bit scans on int64 words, and a three-level bitmap that finds the next set bit in a few loads.

A bitmap of `size` bits lives in an int64 array from word `base` on, so that many of them share one
array. Behind its size / 64 words of bits stand two summary levels: a bit says that the word below
it is not zero. All words are 0 when the bitmap is empty.
"""

import numpy as np
from numba import config, njit

if config.DISABLE_JIT:  # plain twins for debuggers

    def leading_zeros(word):
        """Return the number of zero bits above the highest set bit of an int64."""
        return 64 - (int(word) & (1 << 64) - 1).bit_length()

    def trailing_zeros(word):
        """Return the number of zero bits below the lowest set bit of an int64, not 0."""
        return (int(word) & -int(word)).bit_length() - 1

else:
    # numba's own wrappers of LLVM's cttz and ctlz: one tzcnt or lzcnt instruction, and cacheable.
    from numba.cpython.unsafe.numbers import (  # type: ignore[no-redef]
        leading_zeros,
        trailing_zeros,
    )

BITMAP_BITS_MAX = 64**3
NO_BIT = -1
_INDEX_MASK = (1 << 32) - 1  # tells LLVM that an index is not negative: no test for that


def bitmap_words(size):
    """Return how many int64 words a bitmap of `size` bits needs.

    Raises:
        ValueError: `size` is not a multiple of 64 up to BITMAP_BITS_MAX.
    """
    if size % 64 or not 64 <= size <= BITMAP_BITS_MAX:
        raise ValueError(f"bitmap size is {size}, expected a multiple of 64 up to 64^3")
    words = size // 64
    return words + (words + 63) // 64 + 1


@njit(cache=True, _nrt=False)
def lowest_set(word):
    """Return the number of the lowest set bit of an int64, 0 to 63; undefined for 0."""
    return trailing_zeros(word)


@njit(cache=True, _nrt=False)
def highest_set(word):
    """Return the number of the highest set bit of an int64, 0 to 63; undefined for 0."""
    return 63 - leading_zeros(word)


@njit(cache=True, _nrt=False, forceinline=True)
def bitmap_set(bits, base, size, i):
    """Set bit `i`; setting it again changes nothing.

    Args:
        bits: int64[n], changed. The bitmap is its words from `base` on.
        base: first word of the bitmap.
        size: bits of the bitmap, as given to `bitmap_words`.
        i: bit number, 0 to size - 1.
    """
    word = (base + (i >> 6)) & _INDEX_MASK
    before = bits[word]
    bits[word] = before | (1 << (i & 63))
    if before == 0:
        middle = base + (size >> 6)
        word = (middle + (i >> 12)) & _INDEX_MASK
        before = bits[word]
        bits[word] = before | (1 << ((i >> 6) & 63))
        if before == 0:
            bits[(middle + ((size + 4095) >> 12)) & _INDEX_MASK] |= 1 << (i >> 12)


@njit(cache=True, _nrt=False, forceinline=True)
def bitmap_clear(bits, base, size, i):
    """Clear bit `i`; clearing it again changes nothing. Args as in `bitmap_set`."""
    bitmap_clear_if(bits, base, size, i, True)


@njit(cache=True, _nrt=False, forceinline=True)
def bitmap_clear_if(bits, base, size, i, is_wanted):
    """Clear bit `i` if `is_wanted`, without a branch on that; the bit is set otherwise."""
    word = (base + (i >> 6)) & _INDEX_MASK
    rest = bits[word] & ~(np.int64(is_wanted) << (i & 63))
    bits[word] = rest
    if rest == 0:
        middle = base + (size >> 6)
        word = (middle + (i >> 12)) & _INDEX_MASK
        rest = bits[word] & ~(1 << ((i >> 6) & 63))
        bits[word] = rest
        if rest == 0:
            bits[(middle + ((size + 4095) >> 12)) & _INDEX_MASK] &= ~(1 << (i >> 12))


@njit(cache=True, _nrt=False, forceinline=True)
def bitmap_next_up(bits, base, size, first):
    """Return the lowest set bit >= `first`, or NO_BIT.

    Args:
        bits, base, size: the bitmap, read; see `bitmap_set`.
        first: bit number to begin at, 0 to size - 1.
    """
    at = first >> 6
    word = bits[(base + at) & _INDEX_MASK] & (-1 << (first & 63))
    if word != 0:
        return (at << 6) + lowest_set(word)
    middle = base + (size >> 6)
    group = at >> 6
    # Shifted twice: the bits above at & 63, none if that is 63.
    word = bits[(middle + group) & _INDEX_MASK] & (-1 << (at & 63) << 1)
    if word == 0:
        word = bits[(middle + ((size + 4095) >> 12)) & _INDEX_MASK] & (-1 << group << 1)
        if word == 0:
            return NO_BIT
        group = lowest_set(word)
        word = bits[(middle + group) & _INDEX_MASK]
    at = (group << 6) + lowest_set(word)
    return (at << 6) + lowest_set(bits[(base + at) & _INDEX_MASK])


@njit(cache=True, _nrt=False, forceinline=True)
def bitmap_next_down(bits, base, size, first):
    """Return the highest set bit <= `first`, or NO_BIT. Args as in `bitmap_next_up`."""
    at = first >> 6
    word = bits[(base + at) & _INDEX_MASK] & ~(-1 << (first & 63) << 1)
    if word != 0:
        return (at << 6) + highest_set(word)
    middle = base + (size >> 6)
    group = at >> 6
    word = bits[(middle + group) & _INDEX_MASK] & ~(-1 << (at & 63))
    if word == 0:
        word = bits[(middle + ((size + 4095) >> 12)) & _INDEX_MASK] & ~(-1 << group)
        if word == 0:
            return NO_BIT
        group = highest_set(word)
        word = bits[(middle + group) & _INDEX_MASK]
    at = (group << 6) + highest_set(word)
    return (at << 6) + highest_set(bits[(base + at) & _INDEX_MASK])

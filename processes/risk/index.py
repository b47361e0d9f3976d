"""A hash index in an int64 array: three-word key -> row; open addressing, no tombstones.

An entry is four words: the key and row + 1; 0 there means empty. The caller keeps it at most half
full, so a search ends after a few steps, and deletion leaves no tombstones behind.
"""

import numpy as np
from numba import njit

NOT_FOUND = -1
_LOW_31_BITS = 0x7FFFFFFF


def new_index(entries_max: int) -> np.ndarray:
    """Return an empty index for at most `entries_max` entries: int64[power of two, 4]."""
    capacity = 4
    while capacity < 2 * entries_max:
        capacity *= 2
    return np.zeros((capacity, 4), np.int64)


@njit(cache=True, _nrt=False)
def mix(value):
    """Scatter an int64 without overflow, which is undefined: only 31-bit factors are multiplied."""
    low = (value & _LOW_31_BITS) * 0x9E3779B1
    middle = ((value >> 31) & _LOW_31_BITS) * 0x85EBCA6B
    mixed = low ^ (middle >> 7) ^ (middle & _LOW_31_BITS) ^ (value >> 62)
    return mixed ^ (mixed >> 29)


@njit(cache=True, _nrt=False)
def home_of(index, a, b, c):
    """Return the slot where the search for a key begins."""
    mixed = mix(a) ^ (mix(b) >> 3) ^ (mix(c) >> 11)
    return ((mixed & _LOW_31_BITS) * 0xC2B2AE35 >> 15) & (index.shape[0] - 1)


@njit(cache=True, _nrt=False)
def find(index, a, b, c):
    """Return the row of a key, or NOT_FOUND.

    Args:
        index: int64[n, 4], read.
        a, b, c: key.
    """
    mask = index.shape[0] - 1
    slot = home_of(index, a, b, c)
    while index[slot, 3] != 0:
        if index[slot, 0] == a and index[slot, 1] == b and index[slot, 2] == c:
            return index[slot, 3] - 1
        slot = (slot + 1) & mask
    return NOT_FOUND


@njit(cache=True, _nrt=False)
def insert(index, a, b, c, row):
    """Add a key that is not there; the caller bounds how many there are.

    Args:
        index: int64[n, 4], changed.
        a, b, c: key.
        row: its value, 0 or more.
    """
    mask = index.shape[0] - 1
    slot = home_of(index, a, b, c)
    while index[slot, 3] != 0:
        slot = (slot + 1) & mask
    index[slot, 0] = a
    index[slot, 1] = b
    index[slot, 2] = c
    index[slot, 3] = row + 1


@njit(cache=True, _nrt=False)
def remove(index, a, b, c):
    """Delete a key and move later ones of its run back, so that no search is cut short.

    Args:
        index: int64[n, 4], changed.
        a, b, c: key.

    Returns:
        Its row, or NOT_FOUND and nothing is changed.
    """
    mask = index.shape[0] - 1
    hole = home_of(index, a, b, c)
    while True:
        if index[hole, 3] == 0:
            return NOT_FOUND
        if index[hole, 0] == a and index[hole, 1] == b and index[hole, 2] == c:
            break
        hole = (hole + 1) & mask
    row = index[hole, 3] - 1
    slot = hole
    while True:
        slot = (slot + 1) & mask
        if index[slot, 3] == 0:
            break
        home = home_of(index, index[slot, 0], index[slot, 1], index[slot, 2])
        # An entry may fill the hole if its search, from `home` on, passes the hole.
        if ((slot - home) & mask) >= ((slot - hole) & mask):
            for word in range(4):
                index[hole, word] = index[slot, word]
            hole = slot
    index[hole, 3] = 0
    return row

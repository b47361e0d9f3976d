"""Symbol text -> instrument: a perfect hash over the registered symbols, for kernels."""

import random

import numpy as np
from numba import njit

from common.errors import BugError
from common.instruments import SYMBOL_LENGTH_MAX, Instrument
from processes.feed.json_scan import KERNEL, load_byte, load_prefix

ROW_INSTRUMENT, ROW_PRICE_DECIMALS, ROW_QTY_DECIMALS = 3, 4, 5
_ATTEMPTS_MAX = 160
_LOW_31 = (1 << 31) - 1
_AT = ord("@")


def symbol_table(instruments: list[Instrument]) -> np.ndarray:
    """Return the perfect hash table of the registered symbols for the kernels.

    Raises:
        BugError: no such table found.

    Returns:
        int64[1 + n, 8]: row 0 the hash (six multipliers, mask), then per place the symbol's 24
        bytes in three words, instrument_id, price and quantity decimals; empty rows are 0.
    """
    keys = [i.symbol.encode("ascii").ljust(SYMBOL_LENGTH_MAX, b"\0") for i in instruments]
    words = np.frombuffer(b"".join(keys), "<i8").reshape(-1, 3)
    rng = random.Random(0)  # the seed only decides where a symbol lies, not what is found
    for attempt in range(_ATTEMPTS_MAX):
        size = 8 << (4 * len(instruments)).bit_length() - 3 + attempt // 16
        table = np.zeros((1 + size, 8), np.int64)
        table[0, :7] = [rng.randrange(1, 1 << 31, 2) for _ in range(6)] + [size - 1]
        places = {int(hash_symbol(table, *(int(w) for w in row))) for row in words}
        if len(places) == len(instruments):
            break
    else:
        raise BugError(f"symbol table: no perfect hash of {len(instruments)} symbols found")
    for instrument, row in zip(instruments, words, strict=True):
        place = 1 + hash_symbol(table, *(int(w) for w in row))
        table[place, :3] = row
        table[place, 3:6] = (
            instrument.instrument_id,
            instrument.price_grid_decimals,
            instrument.qty_grid_decimals,
        )
    return table


@njit(**KERNEL)
def hash_symbol(symbols, word_0, word_1, word_2):
    """Return the place of a symbol's three words in the table, 0-based; products fit 62 bits."""
    mixed = (word_0 & _LOW_31) * symbols[0, 0] ^ ((word_0 >> 31) & _LOW_31) * symbols[0, 1]
    if word_1 != 0:
        mixed ^= (word_1 & _LOW_31) * symbols[0, 2] ^ ((word_1 >> 31) & _LOW_31) * symbols[0, 3]
        mixed ^= (word_2 & _LOW_31) * symbols[0, 4] ^ ((word_2 >> 31) & _LOW_31) * symbols[0, 5]
    return (mixed ^ (mixed >> 20) ^ (mixed >> 40)) & symbols[0, 6]


@njit(**KERNEL)
def find_symbol(symbols, text, first, end):
    """Return the row of the symbol text[first:end] in the table, or -1 if it is not there."""
    length = end - first
    if length < 1 or length > SYMBOL_LENGTH_MAX:
        return -1
    word_0 = load_prefix(text, first, length)
    word_1 = load_prefix(text, first + 8, length - 8)
    word_2 = load_prefix(text, first + 16, length - 16)
    row = 1 + hash_symbol(symbols, word_0, word_1, word_2)
    if symbols[row, 0] == word_0 and symbols[row, 1] == word_1 and symbols[row, 2] == word_2:
        return row
    return -1


@njit(**KERNEL)
def find_stream_symbol(symbols, text, first, end):
    """As `find_symbol` for the part of a stream name before its @, in either case; cold."""
    word_0, word_1, word_2 = 0, 0, 0
    for i in range(first, min(end, first + SYMBOL_LENGTH_MAX + 1)):
        byte = load_byte(text, i)
        if byte == _AT:
            break
        if 97 <= byte <= 122:
            byte -= 32
        at = i - first
        if at < 8:
            word_0 |= byte << (8 * at)
        elif at < 16:
            word_1 |= byte << (8 * at - 64)
        elif at < 24:
            word_2 |= byte << (8 * at - 128)
        else:
            return -1
    row = 1 + hash_symbol(symbols, word_0, word_1, word_2)
    if symbols[row, 0] == word_0 and symbols[row, 1] == word_1 and symbols[row, 2] == word_2:
        return row if word_0 != 0 else -1
    return -1

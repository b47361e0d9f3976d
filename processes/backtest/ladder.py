"""L2 books of a backtest: dense arrays over the prices that the data names, in one array.

A level is the index of its price among all prices of the instrument's data, ascending; an event
carries it, so that nothing is searched per event. Per side: the quantity of every level and a
bitmap over them. The best level is kept, not derived: an update through the other side's best makes
that side's best the next one beyond, and its stale levels stay until the data removes them. A feed
that lost something heals by itself that way.

Rules that differ from hftbacktest 2.4 and are switched by FLAG bits: `Rule` in rules.py.
"""

import numpy as np
from numba import njit

from common.enums import Side
from processes.backtest.rules import CLEAR_SKIPS_ONE, CLEAR_SPARES_ASKS
from shm.bits import highest_set, lowest_set

NONE = -1  # best bid level of an empty side; of asks it is the count of levels

# Words of one book, from its place on.
LEVELS = 0
BEST_BID = 1
BEST_ASK = 2
LOW_BID = 3  # no bid below it was set since the side was empty; LEVELS: none
HIGH_ASK = 4  # no ask above it was set since the side was empty; NONE: none
BID_QTY = 5  # where the quantities begin
ASK_QTY = 6
BID_BITS = 7  # where the bitmap begins
ASK_BITS = 8
PRICES = 9  # where the instrument's prices begin in the array of prices
TICK = 10  # tick size, steps
RULES = 11  # FLAG bits
LADDER_WORDS = 16


def new_ladders(
    price_spans: np.ndarray, ticks: np.ndarray, rules: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return empty books: (int64[n], their places).

    Args:
        price_spans: int64[n, 2], each instrument's part of the array of prices.
        ticks: int64[n], tick sizes in steps.
        rules: FLAG bits.
    """
    places = np.zeros(len(price_spans), np.int64)
    end = 0
    for i, (first, last) in enumerate(price_spans):
        places[i] = end
        levels = int(last - first)
        end += LADDER_WORDS + 2 * (levels + levels // 64 + 1)
    ladders = np.zeros(end, np.int64)
    for i, (first, last) in enumerate(price_spans):
        at, levels = int(places[i]), int(last - first)
        place = at + LADDER_WORDS
        bits = levels // 64 + 1
        ladders[at : at + RULES + 1] = (
            levels, NONE, levels, levels, NONE, place, place + levels,
            place + 2 * levels, place + 2 * levels + bits, first, ticks[i], rules,
        )  # fmt: skip
    return ladders, places


@njit(cache=True, _nrt=False)
def next_below(ladders, bits, level):
    """Return the highest level at or below `level` that is set, or NONE."""
    if level < 0:
        return NONE
    word = level >> 6
    found = ladders[bits + word] & ((2 << (level & 63)) - 1)
    while found == 0:
        if word == 0:
            return NONE
        word -= 1
        found = ladders[bits + word]
    return (word << 6) + highest_set(found)


@njit(cache=True, _nrt=False)
def next_above(ladders, bits, level, levels):
    """Return the lowest level at or above `level` that is set, or `levels`."""
    if level >= levels:
        return levels
    last = levels >> 6
    word = level >> 6
    found = ladders[bits + word] & (-1 << (level & 63))
    while found == 0:
        if word == last:
            return levels
        word += 1
        found = ladders[bits + word]
    return (word << 6) + lowest_set(found)


@njit(cache=True, _nrt=False, forceinline=True)
def put(ladders, qty_at, bits_at, level, qty_steps):
    """Write one quantity and its bit; return the quantity before."""
    before = ladders[qty_at + level]
    ladders[qty_at + level] = qty_steps
    word = bits_at + (level >> 6)
    bit = level & 63
    ladders[word] = (ladders[word] & ~(1 << bit)) | (np.int64(qty_steps != 0) << bit)
    return before


@njit(cache=True, _nrt=False, forceinline=True)
def set_bid(ladders, at, level, qty_steps):
    """Set one bid level, 0 removes it; return the quantity before."""
    before = put(ladders, ladders[at + BID_QTY], ladders[at + BID_BITS], level, qty_steps)
    # Set or remove is a coin toss to the branch predictor: it is asked only at the edges.
    if level >= ladders[at + BEST_BID]:
        move_best_bid(ladders, at, level, qty_steps)
    elif level < ladders[at + LOW_BID] and qty_steps != 0:
        ladders[at + LOW_BID] = level
    return before


@njit(cache=True, _nrt=False)
def move_best_bid(ladders, at, level, qty_steps):
    """Take a change at or above the best bid into account."""
    best = ladders[at + BEST_BID]
    if qty_steps == 0:
        if level == best:
            drop_bid(ladders, at, level - 1)
        return
    ladders[at + LOW_BID] = min(ladders[at + LOW_BID], level)
    if level > best:
        ladders[at + BEST_BID] = level
        if level >= ladders[at + BEST_ASK]:
            raise_ask(ladders, at, level + 1)


@njit(cache=True, _nrt=False, forceinline=True)
def set_ask(ladders, at, level, qty_steps):
    """Set one ask level, 0 removes it; return the quantity before."""
    before = put(ladders, ladders[at + ASK_QTY], ladders[at + ASK_BITS], level, qty_steps)
    if level <= ladders[at + BEST_ASK]:
        move_best_ask(ladders, at, level, qty_steps)
    elif level > ladders[at + HIGH_ASK] and qty_steps != 0:
        ladders[at + HIGH_ASK] = level
    return before


@njit(cache=True, _nrt=False)
def move_best_ask(ladders, at, level, qty_steps):
    """Take a change at or below the best ask into account."""
    best = ladders[at + BEST_ASK]
    if qty_steps == 0:
        if level == best:
            raise_ask(ladders, at, level + 1)
            if ladders[at + BEST_ASK] == ladders[at + LEVELS]:
                ladders[at + HIGH_ASK] = NONE
        return
    ladders[at + HIGH_ASK] = max(ladders[at + HIGH_ASK], level)
    if level < best:
        ladders[at + BEST_ASK] = level
        if ladders[at + BEST_BID] >= level:
            lower_bid(ladders, at, level - 1)


@njit(cache=True, _nrt=False)
def lower_bid(ladders, at, level):
    """Make the best bid the next one at or below `level`."""
    best = next_below(ladders, ladders[at + BID_BITS], level)
    ladders[at + BEST_BID] = best if best >= ladders[at + LOW_BID] else NONE


@njit(cache=True, _nrt=False)
def drop_bid(ladders, at, level):
    """Make the best bid the next one at or below `level`; an empty side forgets its lowest."""
    lower_bid(ladders, at, level)
    if ladders[at + BEST_BID] == NONE:
        ladders[at + LOW_BID] = ladders[at + LEVELS]


@njit(cache=True, _nrt=False)
def raise_ask(ladders, at, level):
    """Make the best ask the next one at or above `level`."""
    levels = ladders[at + LEVELS]
    best = next_above(ladders, ladders[at + ASK_BITS], level, levels)
    ladders[at + BEST_ASK] = best if best <= ladders[at + HIGH_ASK] else levels


@njit(cache=True, _nrt=False)
def clear_bids(ladders, prices, at, level):
    """Remove the bids from the best down to `level`; NONE: all."""
    best = ladders[at + BEST_BID]
    first = level if level != NONE else np.int64(0)
    last = best if level != NONE else ladders[at + LEVELS] - 1
    for k in range(first, last + 1):
        put(ladders, ladders[at + BID_QTY], ladders[at + BID_BITS], k, np.int64(0))
    below = level - 1 if level != NONE else np.int64(NONE)
    if ladders[at + RULES] & CLEAR_SKIPS_ONE and below >= 0:
        first = ladders[at + PRICES]
        if prices[first + below] == prices[first + level] - ladders[at + TICK]:
            below -= 1
    drop_bid(ladders, at, below)


@njit(cache=True, _nrt=False)
def clear_asks(ladders, prices, at, level):
    """Remove the asks from the best up to `level`; NONE: all."""
    levels = ladders[at + LEVELS]
    first = ladders[at + BEST_ASK] if level != NONE else np.int64(0)
    last = level if level != NONE else levels - 1
    if ladders[at + RULES] & CLEAR_SPARES_ASKS == 0 or level == NONE:
        for k in range(first, last + 1):
            put(ladders, ladders[at + ASK_QTY], ladders[at + ASK_BITS], k, np.int64(0))
    above = level + 1 if level != NONE else levels
    if ladders[at + RULES] & CLEAR_SKIPS_ONE and above < levels:
        first = ladders[at + PRICES]
        if prices[first + above] == prices[first + level] + ladders[at + TICK]:
            above += 1
    raise_ask(ladders, at, above)
    if ladders[at + BEST_ASK] == levels:
        ladders[at + HIGH_ASK] = NONE


@njit(cache=True, _nrt=False)
def clear(ladders, prices, at, side, level):
    """Remove a part of the book.

    Args:
        ladders: int64[n], changed.
        prices: int64[m], read.
        at: place of the book.
        side: Side, or 0: both sides, whatever the level.
        level: how far from the best, itself included; NONE: all.
    """
    if side >= 0:
        clear_bids(ladders, prices, at, level if side != 0 else np.int64(NONE))
    if side <= 0:
        clear_asks(ladders, prices, at, level if side != 0 else np.int64(NONE))


@njit(cache=True, _nrt=False, forceinline=True)
def best_bid(ladders, prices, at):
    """Return the best bid price, 0 if there is none."""
    level = ladders[at + BEST_BID]
    return prices[ladders[at + PRICES] + level] if level != NONE else 0


@njit(cache=True, _nrt=False, forceinline=True)
def best_ask(ladders, prices, at):
    """Return the best ask price, 0 if there is none."""
    level = ladders[at + BEST_ASK]
    return prices[ladders[at + PRICES] + level] if level != ladders[at + LEVELS] else 0


@njit(cache=True, _nrt=False, forceinline=True)
def twice_mid(ladders, prices, at):
    """Return best bid + best ask in steps, 0 if one is missing."""
    bid, ask = best_bid(ladders, prices, at), best_ask(ladders, prices, at)
    return bid + ask if bid > 0 and ask > 0 else 0


@njit(cache=True, _nrt=False)
def find_level(ladders, prices, at, price_steps):
    """Return the level of a price, or minus (the number of levels below it) - 1 if it is none."""
    first = ladders[at + PRICES]
    low, high = 0, ladders[at + LEVELS]
    while low < high:
        middle = (low + high) >> 1
        if prices[first + middle] < price_steps:
            low = middle + 1
        else:
            high = middle
    if low < ladders[at + LEVELS] and prices[first + low] == price_steps:
        return low
    return -low - 1


@njit(cache=True, _nrt=False)
def bid_qty(ladders, prices, at, price_steps):
    """Return the quantity bid at one price."""
    level = find_level(ladders, prices, at, price_steps)
    return ladders[ladders[at + BID_QTY] + level] if level >= 0 else 0


@njit(cache=True, _nrt=False)
def ask_qty(ladders, prices, at, price_steps):
    """Return the quantity asked at one price."""
    level = find_level(ladders, prices, at, price_steps)
    return ladders[ladders[at + ASK_QTY] + level] if level >= 0 else 0


@njit(cache=True, _nrt=False, forceinline=True)
def next_bid(ladders, at, level):
    """Return the bid level after `level`, worse; NONE if there is none."""
    return next_below(ladders, ladders[at + BID_BITS], level - 1)


@njit(cache=True, _nrt=False, forceinline=True)
def next_ask(ladders, at, level):
    """Return the ask level after `level`, worse; the count of levels if there is none."""
    return next_above(ladders, ladders[at + ASK_BITS], level + 1, ladders[at + LEVELS])


@njit(cache=True, _nrt=False)
def depth_until(ladders, prices, at, side, limit_steps, qty_max):
    """Return how much a taker of `side` finds up to a price, at most about `qty_max`."""
    first = ladders[at + PRICES]
    total = 0
    if side == Side.BID:
        level = ladders[at + BEST_ASK]
        while level < ladders[at + LEVELS] and total < qty_max:
            if prices[first + level] > limit_steps:
                break
            total += ladders[ladders[at + ASK_QTY] + level]
            level = next_ask(ladders, at, level)
        return total
    level = ladders[at + BEST_BID]
    while level != NONE and total < qty_max:
        if prices[first + level] < limit_steps:
            break
        total += ladders[ladders[at + BID_QTY] + level]
        level = next_bid(ladders, at, level)
    return total

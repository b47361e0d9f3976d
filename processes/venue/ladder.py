"""Price levels of the matching engine: find, add and remove a level, the next one, move the window.

A price inside the window owns the level `price & (window - 1)`: moving the window leaves the levels
that stay where they are. All other occupied prices stand in a sorted list with their levels behind
it, found by binary search, so every price is exact, and only prices near the touch are fast.

A level is the index of its first word in the engine. Adding or removing a far level moves others.
"""

import numpy as np
from numba import njit

from common.enums import Side
from processes.venue.engine import (
    BEST_ASK,
    BEST_BID,
    BITS,
    ENDS,
    FAR,
    FAR_COUNT,
    FAR_LIMIT,
    FAR_WORDS,
    INDEX_MASK,
    LEVEL_QTY,
    LEVEL_WORDS,
    LEVELS,
    MISS_COUNT,
    NO_ASK,
    NO_BID,
    OPEN_COUNT,
    WINDOW,
    WINDOW_LOW,
)
from shm.bits import NO_BIT, bitmap_clear_if, bitmap_next_down, bitmap_next_up, bitmap_set

MISSES_BEFORE_MOVE = 64  # so that moving a full window costs little per order


@njit(cache=True, _nrt=False, forceinline=True)
def is_in_window(engine, book, price_steps):
    """Return True if the price's level is found by masking."""
    return (price_steps - engine[book + WINDOW_LOW]) & -engine[WINDOW] == 0


@njit(cache=True, _nrt=False, forceinline=True)
def window_level(engine, book, price_steps):
    """Return the level of a price inside the window."""
    place = price_steps & (engine[WINDOW] - 1)
    return (engine[book + LEVELS] + place * LEVEL_WORDS) & INDEX_MASK


@njit(cache=True, _nrt=False)
def far_place(engine, book, price_steps):
    """Return how many far levels are priced below `price_steps`."""
    count = engine[book + FAR_COUNT]
    place = 0
    while count > 0:  # no branch on a price: half of them would be guessed wrong
        half = (count + 1) >> 1
        place += half if far_price(engine, book, place + half - 1) < price_steps else 0
        count -= half
    return place


@njit(cache=True, _nrt=False, forceinline=True)
def far_at(engine, book, place):
    """Return the first word of the far level at a place of the list: its price."""
    return (engine[book + FAR] + place * FAR_WORDS) & INDEX_MASK


@njit(cache=True, _nrt=False, forceinline=True)
def far_price(engine, book, place):
    """Return the price of a far level."""
    return engine[far_at(engine, book, place)]


@njit(cache=True, _nrt=False, forceinline=True)
def far_level(engine, book, place):
    """Return the level at a place of the far list."""
    return far_at(engine, book, place) + 1


@njit(cache=True, _nrt=False)
def has_far_level(engine, book, place, price_steps):
    """Return True if the far level at `place` exists and has this price."""
    return place < engine[book + FAR_COUNT] and far_price(engine, book, place) == price_steps


@njit(cache=True, _nrt=False)
def shift_far(engine, book, place, by):
    """Move the far levels from `place` on by `by` places and correct their count.

    Up it opens a gap of `by` levels, whose content the caller writes; down it closes one.
    """
    count = engine[book + FAR_COUNT]
    first = far_at(engine, book, place)
    words = (count - place) * FAR_WORDS
    for i in range(words):  # the ranges overlap: up from the end, down from the beginning
        source = first + (words - 1 - i if by > 0 else i)
        engine[(source + by * FAR_WORDS) & INDEX_MASK] = engine[source & INDEX_MASK]
    engine[book + FAR_COUNT] = count + by


@njit(cache=True, _nrt=False)
def find_far_level(engine, book, price_steps):
    """Return the level of an occupied price outside the window."""
    return far_level(engine, book, far_place(engine, book, price_steps))


@njit(cache=True, _nrt=False, forceinline=True)
def find_level(engine, book, price_steps):
    """Return the level of an occupied price."""
    if is_in_window(engine, book, price_steps):
        return window_level(engine, book, price_steps)
    return find_far_level(engine, book, price_steps)


@njit(cache=True, _nrt=False)
def add_far_level(engine, book, price_steps):
    """Return the level of a price outside the window, making an empty one if it has none.

    `prepare_price` has seen to it that there is room.
    """
    place = far_place(engine, book, price_steps)
    level = far_level(engine, book, place)
    if not has_far_level(engine, book, place, price_steps):
        shift_far(engine, book, place, np.int64(1))
        engine[far_at(engine, book, place)] = price_steps
        engine[level + LEVEL_QTY] = 0
        engine[level + ENDS] = 0
    return level


@njit(cache=True, _nrt=False, forceinline=True)
def add_level(engine, book, price_steps):
    """Return the level of a price that gets an order now: it counts as occupied from here on."""
    if is_in_window(engine, book, price_steps):
        window = engine[WINDOW]
        bitmap_set(engine, engine[book + BITS], window, price_steps & (window - 1))
        return window_level(engine, book, price_steps)
    return add_far_level(engine, book, price_steps)


@njit(cache=True, _nrt=False)
def remove_far_level(engine, book, price_steps):
    """Take a price out of the far list."""
    shift_far(engine, book, far_place(engine, book, price_steps) + 1, np.int64(-1))


@njit(cache=True, _nrt=False, forceinline=True)
def remove_if_empty(engine, book, price_steps, qty_steps):
    """Make a price unoccupied if nothing is left of its level.

    Args:
        qty_steps: what is left. Half of the levels end here, so inside the window nothing branches
            on it.
    """
    if is_in_window(engine, book, price_steps):
        window = engine[WINDOW]
        bit = price_steps & (window - 1)
        bitmap_clear_if(engine, engine[book + BITS], window, bit, qty_steps == 0)
    elif qty_steps == 0:
        remove_far_level(engine, book, price_steps)


@njit(cache=True, _nrt=False)
def window_next_up(engine, book, start):
    """Return the lowest occupied price >= `start` inside the window, or NO_ASK.

    `start` is a price of the window. Bits wrap round: those below the window's first price stand
    for its upper end.
    """
    low = engine[book + WINDOW_LOW]
    window = engine[WINDOW]
    base = engine[book + BITS]
    bit = bitmap_next_up(engine, base, window, start & (window - 1))
    if bit == NO_BIT:
        bit = bitmap_next_up(engine, base, window, np.int64(0))
    found = low + ((bit - low) & (window - 1))
    return found if bit != NO_BIT and found >= start else NO_ASK


@njit(cache=True, _nrt=False)
def window_next_down(engine, book, start):
    """Return the highest occupied price <= `start` inside the window, or NO_BID."""
    low = engine[book + WINDOW_LOW]
    window = engine[WINDOW]
    base = engine[book + BITS]
    bit = bitmap_next_down(engine, base, window, start & (window - 1))
    if bit == NO_BIT:
        bit = bitmap_next_down(engine, base, window, window - 1)
    found = low + ((bit - low) & (window - 1))
    return found if bit != NO_BIT and found <= start else NO_BID


@njit(cache=True, _nrt=False)
def next_above(engine, book, price_steps):
    """Return the lowest occupied price above `price_steps`, or NO_ASK."""
    count = engine[book + FAR_COUNT]
    low = engine[book + WINDOW_LOW]
    end = low + engine[WINDOW]
    start = price_steps + 1
    if start < low:
        place = far_place(engine, book, start)
        if place < count and far_price(engine, book, place) < low:
            return far_price(engine, book, place)
        start = low
    if start < end:
        found = window_next_up(engine, book, start)
        if found != NO_ASK:
            return found
        start = end
    place = far_place(engine, book, start)
    return far_price(engine, book, place) if place < count else NO_ASK


@njit(cache=True, _nrt=False)
def next_below(engine, book, price_steps):
    """Return the highest occupied price below `price_steps`, or NO_BID."""
    low = engine[book + WINDOW_LOW]
    end = low + engine[WINDOW]
    start = price_steps - 1
    if start >= end:
        place = far_place(engine, book, price_steps) - 1
        if place >= 0 and far_price(engine, book, place) >= end:
            return far_price(engine, book, place)
        start = end - 1
    if start >= low:
        found = window_next_down(engine, book, start)
        if found != NO_BID:
            return found
        start = low - 1
    place = far_place(engine, book, start + 1) - 1
    return far_price(engine, book, place) if place >= 0 else NO_BID


@njit(cache=True, _nrt=False, forceinline=True)
def next_behind(engine, book, side, price_steps):
    """Return the next occupied price of a side behind (worse than) one of its prices."""
    if side == Side.BID:
        return next_below(engine, book, price_steps)
    return next_above(engine, book, price_steps)


@njit(cache=True, _nrt=False)
def prepare_price(engine, book, price_steps):
    """See to it that a level at a price outside the window can be added.

    The window moves here and nowhere else, so that levels hold during a request.

    Returns:
        True, or False if there is no room for one more far level.
    """
    engine[book + MISS_COUNT] += 1
    window = engine[WINDOW]
    bid = engine[book + BEST_BID]
    ask = engine[book + BEST_ASK]
    middle = price_steps
    if bid != NO_BID and ask - bid < window >> 1:
        middle = (bid + ask) >> 1
    low = max(middle - (window >> 1), 0)
    is_off_center = abs(low - engine[book + WINDOW_LOW]) > window >> 2
    is_due = engine[book + MISS_COUNT] >= MISSES_BEFORE_MOVE
    if is_off_center and (is_due or engine[book + OPEN_COUNT] == 0):
        move_window(engine, book, low)
        if is_in_window(engine, book, price_steps):
            return True
    if engine[book + FAR_COUNT] < engine[FAR_LIMIT]:
        return True
    return has_far_level(engine, book, far_place(engine, book, price_steps), price_steps)


@njit(cache=True, _nrt=False)
def move_window(engine, book, new_low):
    """Let the window begin at `new_low`, unless the levels that leave it do not fit the far list.

    The levels that leave have one place in the sorted list, since no far price is inside the
    window; those that enter stand side by side in it.
    """
    engine[book + MISS_COUNT] = 0
    window = engine[WINDOW]
    low = engine[book + WINDOW_LOW]
    end = low + window
    if new_low > low:
        leave_first, leave_end = low, min(new_low, end)
    else:
        leave_first, leave_end = max(new_low + window, low), end
    leave_count = 0
    price = window_next_up(engine, book, leave_first)
    while price < leave_end:
        leave_count += 1
        price = window_next_up(engine, book, price + 1) if price + 1 < end else NO_ASK
    if engine[book + FAR_COUNT] + leave_count > engine[FAR_LIMIT]:
        return
    place = far_place(engine, book, leave_first)
    shift_far(engine, book, place, leave_count)
    price = leave_first - 1
    for k in range(place, place + leave_count):
        price = window_next_up(engine, book, price + 1)
        engine[far_at(engine, book, k)] = price
        move_level(engine, window_level(engine, book, price), far_level(engine, book, k))
        remove_if_empty(engine, book, price, np.int64(0))
    engine[book + WINDOW_LOW] = new_low
    place = far_place(engine, book, new_low)
    enter_end = far_place(engine, book, new_low + window)
    for k in range(place, enter_end):
        level = add_level(engine, book, far_price(engine, book, k))
        move_level(engine, far_level(engine, book, k), level)
    shift_far(engine, book, enter_end, place - enter_end)


@njit(cache=True, _nrt=False)
def move_level(engine, source, target):
    """Move what is in one level to another and leave it empty."""
    for word in (LEVEL_QTY, ENDS):
        engine[target + word] = engine[source + word]
        engine[source + word] = 0

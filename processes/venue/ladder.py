"""Price levels of the matching engine: find, add and remove a level, the next one, move the window.

A price inside the window owns the level `price & (window - 1)`: moving the window leaves the levels
that stay where they are. All other occupied prices stand in a sorted list with their levels behind
the window's, found by binary search, so every price is exact, and only prices near the touch are
fast.
"""

from numba import njit

from common.enums import Side
from processes.venue.engine import (
    BEST_ASK,
    BEST_BID,
    BOOK_WORDS,
    FAR_COUNT,
    MISS_COUNT,
    NO_ASK,
    NO_BID,
    OPEN_COUNT,
    WINDOW_LOW,
)
from shm.bits import NO_BIT, bitmap_clear, bitmap_next_down, bitmap_next_up, bitmap_set

MISSES_BEFORE_MOVE = 64  # so that moving a full window costs little per order


@njit(cache=True, forceinline=True)
def book_at(instrument_id):
    """Return the first word of an instrument in `engine.books`."""
    return (instrument_id + 1) * BOOK_WORDS


@njit(cache=True, forceinline=True)
def is_in_window(engine, instrument_id, price_steps):
    """Return True if the price's level is found by masking."""
    offset = price_steps - engine.books[book_at(instrument_id) + WINDOW_LOW]
    return offset >= 0 and offset < engine.window


@njit(cache=True, forceinline=True)
def window_level(engine, instrument_id, price_steps):
    """Return the index in `engine.levels` of a price inside the window."""
    first = instrument_id * (engine.window + engine.far_levels_max)
    return first + (price_steps & (engine.window - 1))


@njit(cache=True)
def far_place(engine, instrument_id, price_steps):
    """Return how many far levels of the instrument are priced below `price_steps`."""
    first = instrument_id * engine.far_levels_max
    low = 0
    high = engine.books[book_at(instrument_id) + FAR_COUNT]
    while low < high:
        middle = (low + high) >> 1
        if engine.far_prices[first + middle] < price_steps:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True)
def has_far_level(engine, instrument_id, place, price_steps):
    """Return True if the far level at `place` exists and has this price."""
    if place == engine.books[book_at(instrument_id) + FAR_COUNT]:
        return False
    return engine.far_prices[instrument_id * engine.far_levels_max + place] == price_steps


@njit(cache=True, forceinline=True)
def far_level(engine, instrument_id, place):
    """Return the index in `engine.levels` of the far level at `place`."""
    first = instrument_id * (engine.window + engine.far_levels_max)
    return first + engine.window + place


@njit(cache=True)
def shift_far(engine, instrument_id, place, by):
    """Move the far levels from `place` on by `by` places and correct their count.

    Up it opens a gap of `by` levels, whose content the caller writes; down it closes one.
    """
    book = book_at(instrument_id)
    count = engine.books[book + FAR_COUNT]
    prices = instrument_id * engine.far_levels_max
    levels = far_level(engine, instrument_id, 0)
    for k in range(count - place):
        i = count - 1 - k if by > 0 else place + k
        engine.far_prices[prices + i + by] = engine.far_prices[prices + i]
        engine.levels[levels + i + by] = engine.levels[levels + i]
    engine.books[book + FAR_COUNT] = count + by


@njit(cache=True, forceinline=True)
def find_level(engine, instrument_id, price_steps):
    """Return the index in `engine.levels` of an occupied price."""
    if is_in_window(engine, instrument_id, price_steps):
        return window_level(engine, instrument_id, price_steps)
    return far_level(engine, instrument_id, far_place(engine, instrument_id, price_steps))


@njit(cache=True)
def add_far_level(engine, instrument_id, price_steps):
    """Return the level of a price outside the window, making an empty one if it has none.

    `prepare_price` has seen to it that there is room.
    """
    place = far_place(engine, instrument_id, price_steps)
    level = far_level(engine, instrument_id, place)
    if not has_far_level(engine, instrument_id, place, price_steps):
        shift_far(engine, instrument_id, place, 1)
        engine.far_prices[instrument_id * engine.far_levels_max + place] = price_steps
        clear_level(engine, level)
    return level


@njit(cache=True, forceinline=True)
def add_level(engine, instrument_id, price_steps):
    """Return the level of a price that gets an order now: it counts as occupied from here on."""
    if is_in_window(engine, instrument_id, price_steps):
        level = window_level(engine, instrument_id, price_steps)
        if engine.levels[level]["head"] == 0:
            base = instrument_id * engine.bit_words
            bitmap_set(engine.bits, base, engine.window, price_steps & (engine.window - 1))
        return level
    return add_far_level(engine, instrument_id, price_steps)


@njit(cache=True, forceinline=True)
def remove_level(engine, instrument_id, price_steps):
    """Make an occupied price, whose last order is gone, unoccupied."""
    if is_in_window(engine, instrument_id, price_steps):
        base = instrument_id * engine.bit_words
        bitmap_clear(engine.bits, base, engine.window, price_steps & (engine.window - 1))
    else:
        place = far_place(engine, instrument_id, price_steps)
        shift_far(engine, instrument_id, place + 1, -1)


@njit(cache=True)
def clear_level(engine, level):
    """Make a level empty."""
    engine.levels[level]["qty_steps"] = 0
    engine.levels[level]["head"] = 0
    engine.levels[level]["tail"] = 0


@njit(cache=True)
def window_next_up(engine, instrument_id, start):
    """Return the lowest occupied price >= `start` inside the window, or NO_ASK.

    `start` is a price of the window. Bits wrap round: those below the window's first price stand
    for its upper end.
    """
    low = engine.books[book_at(instrument_id) + WINDOW_LOW]
    mask = engine.window - 1
    base = instrument_id * engine.bit_words
    bit = bitmap_next_up(engine.bits, base, engine.window, start & mask)
    if bit == NO_BIT:
        bit = bitmap_next_up(engine.bits, base, engine.window, 0)
    found = low + ((bit - low) & mask)
    return found if bit != NO_BIT and found >= start else NO_ASK


@njit(cache=True)
def window_next_down(engine, instrument_id, start):
    """Return the highest occupied price <= `start` inside the window, or NO_BID."""
    low = engine.books[book_at(instrument_id) + WINDOW_LOW]
    mask = engine.window - 1
    base = instrument_id * engine.bit_words
    bit = bitmap_next_down(engine.bits, base, engine.window, start & mask)
    if bit == NO_BIT:
        bit = bitmap_next_down(engine.bits, base, engine.window, mask)
    found = low + ((bit - low) & mask)
    return found if bit != NO_BIT and found <= start else NO_BID


@njit(cache=True)
def _next_above_any(engine, instrument_id, price_steps):
    book = book_at(instrument_id)
    first = instrument_id * engine.far_levels_max
    count = engine.books[book + FAR_COUNT]
    low = engine.books[book + WINDOW_LOW]
    end = low + engine.window
    place = far_place(engine, instrument_id, price_steps + 1)
    if place < count and engine.far_prices[first + place] < low:
        return engine.far_prices[first + place]
    start = max(price_steps + 1, low)
    if start < end:
        found = window_next_up(engine, instrument_id, start)
        if found != NO_ASK:
            return found
        place = far_place(engine, instrument_id, end)
    return engine.far_prices[first + place] if place < count else NO_ASK


@njit(cache=True)
def _next_below_any(engine, instrument_id, price_steps):
    book = book_at(instrument_id)
    first = instrument_id * engine.far_levels_max
    low = engine.books[book + WINDOW_LOW]
    high = low + engine.window - 1
    place = far_place(engine, instrument_id, price_steps) - 1
    if place >= 0 and engine.far_prices[first + place] > high:
        return engine.far_prices[first + place]
    start = min(price_steps - 1, high)
    if start >= low:
        found = window_next_down(engine, instrument_id, start)
        if found != NO_BID:
            return found
        place = far_place(engine, instrument_id, low) - 1
    return engine.far_prices[first + place] if place >= 0 else NO_BID


@njit(cache=True, forceinline=True)
def next_above(engine, instrument_id, price_steps):
    """Return the lowest occupied price above `price_steps`, or NO_ASK."""
    low = engine.books[book_at(instrument_id) + WINDOW_LOW]
    start = price_steps + 1
    if start >= low:
        base = instrument_id * engine.bit_words
        mask = engine.window - 1
        bit = bitmap_next_up(engine.bits, base, engine.window, start & mask)
        found = low + ((bit - low) & mask)
        if bit != NO_BIT and found >= start:  # else it wrapped, or is far
            return found
    return _next_above_any(engine, instrument_id, price_steps)


@njit(cache=True, forceinline=True)
def next_below(engine, instrument_id, price_steps):
    """Return the highest occupied price below `price_steps`, or NO_BID."""
    low = engine.books[book_at(instrument_id) + WINDOW_LOW]
    start = price_steps - 1
    if start < low + engine.window:
        base = instrument_id * engine.bit_words
        mask = engine.window - 1
        bit = bitmap_next_down(engine.bits, base, engine.window, start & mask)
        found = low + ((bit - low) & mask)
        if bit != NO_BIT and found <= start:
            return found
    return _next_below_any(engine, instrument_id, price_steps)


@njit(cache=True, forceinline=True)
def next_behind(engine, instrument_id, side, price_steps):
    """Return the next occupied price of a side behind (worse than) one of its prices."""
    if side == Side.BID:
        return next_below(engine, instrument_id, price_steps)
    return next_above(engine, instrument_id, price_steps)


@njit(cache=True)
def prepare_price(engine, instrument_id, price_steps):
    """See to it that a level at a price outside the window can be added.

    The window moves here and nowhere else, so that indices of levels hold during a request.

    Returns:
        True, or False if there is no room for one more far level.
    """
    book = book_at(instrument_id)
    engine.books[book + MISS_COUNT] += 1
    bid = engine.books[book + BEST_BID]
    ask = engine.books[book + BEST_ASK]
    middle = price_steps
    if bid != NO_BID and ask - bid < engine.window // 2:
        middle = (bid + ask) // 2
    low = max(middle - engine.window // 2, 0)
    is_off_center = abs(low - engine.books[book + WINDOW_LOW]) > engine.window // 4
    is_due = engine.books[book + MISS_COUNT] >= MISSES_BEFORE_MOVE
    if is_off_center and (is_due or engine.books[book + OPEN_COUNT] == 0):
        move_window(engine, instrument_id, low)
        if is_in_window(engine, instrument_id, price_steps):
            return True
    if engine.books[book + FAR_COUNT] < engine.far_levels_max:
        return True
    place = far_place(engine, instrument_id, price_steps)
    return has_far_level(engine, instrument_id, place, price_steps)


@njit(cache=True)
def move_window(engine, instrument_id, new_low):
    """Let the window begin at `new_low`, unless the levels that leave it do not fit the far list.

    The levels that leave have one place in the sorted list, since no far price is inside the
    window; those that enter stand side by side in it.
    """
    book = book_at(instrument_id)
    engine.books[book + MISS_COUNT] = 0
    low = engine.books[book + WINDOW_LOW]
    end = low + engine.window
    if new_low > low:
        leave_first, leave_end = low, min(new_low, end)
    else:
        leave_first, leave_end = max(new_low + engine.window, low), end
    leave_count = 0
    price = window_next_up(engine, instrument_id, leave_first)
    while price < leave_end:
        leave_count += 1
        price = window_next_up(engine, instrument_id, price + 1) if price + 1 < end else NO_ASK
    if engine.books[book + FAR_COUNT] + leave_count > engine.far_levels_max:
        return
    first = instrument_id * engine.far_levels_max
    place = far_place(engine, instrument_id, leave_first)
    shift_far(engine, instrument_id, place, leave_count)
    price = leave_first - 1
    for k in range(place, place + leave_count):
        price = window_next_up(engine, instrument_id, price + 1)
        engine.far_prices[first + k] = price
        level = window_level(engine, instrument_id, price)
        engine.levels[far_level(engine, instrument_id, k)] = engine.levels[level]
        clear_level(engine, level)
        remove_level(engine, instrument_id, price)
    engine.books[book + WINDOW_LOW] = new_low
    place = far_place(engine, instrument_id, new_low)
    enter_end = far_place(engine, instrument_id, new_low + engine.window)
    for k in range(place, enter_end):
        level = add_level(engine, instrument_id, engine.far_prices[first + k])
        engine.levels[level] = engine.levels[far_level(engine, instrument_id, k)]
    shift_far(engine, instrument_id, enter_end, place - enter_end)

"""L2 books: a dense window of quantities around the touch, and an exact hash for what is outside.

One book has, per side, `window` consecutive price steps from its base on, with a bitmap over them
whose next set bit is the next best price. Levels outside lie in an open-addressing hash of fixed
size; its best price is kept as a bound, and searched only when it could be the answer. When the
touch leaves the middle half of the window, the window moves.

Rules: every price and quantity is exact; nothing is allocated; a level that finds the hash full is
refused (FULL), and the caller gives up the book.
Not here: when to apply what (sync.py), and messages (publish.py).
"""

import numpy as np
from numba import njit

from common.fixed_point import INT64_MAX
from common.records import LEVEL_WORD, LEVELS_PER_SLOT
from processes.book.config import WINDOW_MAX, WINDOW_MIN
from shm.bits import (
    NO_BIT,
    bitmap_clear,
    bitmap_next_down,
    bitmap_next_up,
    bitmap_set,
    bitmap_words,
)

BID, ASK = 0, 1
NO_BID = 0  # best bid of an empty side; prices are above 0
NO_ASK = INT64_MAX  # best ask of an empty side

OK = 0
FULL = -1  # the hash outside the window has no room
BAD_LEVEL = -2  # a price that is not positive, a quantity that is negative
CROSSED = -3  # best bid at or over best ask
BAD_SNAPSHOT = -4  # not strictly best first, or an empty level

# Head of the array: what all its books share.
WINDOW = 0  # price steps of a window, a power of two
FAR_SLOTS = 1  # slots of one hash, a power of two
LEVELS_MAX = 2  # levels that one hash may hold, at most half of its slots
BOOK_COUNT = 3
STRIDE = 4  # words of one book
HEAD_WORDS = 16

# Words of one book, from its place on.
BASE = 0  # price of window index 0
BEST = 1  # + side: window index of the best level; NO_BIT (bid) or WINDOW (ask) if there is none
FAR_COUNT = 3  # + side: levels in the hash
FAR_BEST = 5  # + side: no level in the hash is better than this price
FAR_LOOSE = 7  # + side: 1 if FAR_BEST is only a bound, 0 if that level is there
QTY = 9  # + side: where the window's quantities begin; 0 is no level
BITS = 11  # + side: where the bitmap over them begins
FAR_PRICE = 13  # + side: where the hash's prices begin
FAR_QTY = 15  # + side: where its quantities begin; 0 is a free slot
BOOK_WORDS = 32

_HASH_LOW = (1 << 31) - 1
_HASH_FACTOR = 2_654_435_761  # 2^32 / golden ratio; the product stays below 2^63
_HASH_SHIFT = 24
# Not literals: kernels that are rarely called are compiled once, not per constant argument.
_BID, _ASK, _NO_QTY, _FIRST = np.int64(BID), np.int64(ASK), np.int64(0), np.int64(0)


def new_books(count: int, window: int, levels_max: int) -> np.ndarray:
    """Return `count` empty books in one int64 array; the book of instrument_id i is book i.

    One array, because each array that a kernel hands on costs it a reference count.

    Args:
        window: price steps that a window covers.
        levels_max: levels a side outside the window.

    Raises:
        ValueError: `window` is not a power of two in its limits, or `levels_max` is not positive.
    """
    if window & (window - 1) or not WINDOW_MIN <= window <= WINDOW_MAX:
        raise ValueError(f"window is {window} steps, expected a power of two, 64 to {WINDOW_MAX}")
    if levels_max < 1:
        raise ValueError(f"levels_max is {levels_max}, expected at least 1")
    far_slots = 1 << (2 * levels_max - 1).bit_length()
    bitmap = -(-bitmap_words(window) // 8) * 8
    stride = BOOK_WORDS + 2 * (window + bitmap + 2 * far_slots)
    books = np.zeros(HEAD_WORDS + count * stride, np.int64)
    books[[WINDOW, FAR_SLOTS, LEVELS_MAX, BOOK_COUNT, STRIDE]] = (
        window, far_slots, levels_max, count, stride,
    )  # fmt: skip
    for book in range(count):
        at = book_at(books, book)
        place = at + BOOK_WORDS
        sizes = {QTY: window, BITS: bitmap, FAR_PRICE: far_slots, FAR_QTY: far_slots}
        for word, size in sizes.items():
            books[at + word : at + word + 2] = place, place + size
            place += 2 * size
        clear_book(books, at)
    return books


@njit(cache=True, _nrt=False)
def book_at(books, book):
    """Return the place of book number `book`, which the other functions want."""
    return HEAD_WORDS + book * books[STRIDE]


@njit(cache=True, _nrt=False)
def find_far(books, at, side, price_steps):
    """Return the hash slot that holds the price, or the free one where it belongs.

    Args:
        books: int64[n], read; see `new_books`.
        at: place of the book; see `book_at`.
        side: BID or ASK.
        price_steps: any price.
    """
    mask = books[FAR_SLOTS] - 1
    prices = books[at + FAR_PRICE + side]
    quantities = books[at + FAR_QTY + side]
    hashed = ((price_steps ^ (price_steps >> 31)) & _HASH_LOW) * _HASH_FACTOR
    slot = (hashed >> _HASH_SHIFT) & mask
    while books[quantities + slot] != 0 and books[prices + slot] != price_steps:
        slot = (slot + 1) & mask
    return slot


@njit(cache=True, _nrt=False)
def remove_far(books, at, side, slot):
    """Free one hash slot; later ones of its cluster are put anew, so that no search breaks."""
    mask = books[FAR_SLOTS] - 1
    prices = books[at + FAR_PRICE + side]
    quantities = books[at + FAR_QTY + side]
    books[quantities + slot] = 0
    while True:
        slot = (slot + 1) & mask
        qty_steps = books[quantities + slot]
        if qty_steps == 0:
            return
        books[quantities + slot] = 0
        price_steps = books[prices + slot]
        place = find_far(books, at, side, price_steps)
        books[prices + place] = price_steps
        books[quantities + place] = qty_steps


@njit(cache=True, _nrt=False)
def set_far_level(books, at, side, price_steps, qty_steps):
    """Set or remove one level outside the window; Args and Returns as in `set_level`."""
    count = books[at + FAR_COUNT + side]
    if qty_steps == 0 and count == 0:
        return OK
    slot = find_far(books, at, side, price_steps)
    held = books[at + FAR_QTY + side] + slot
    if qty_steps == 0:
        if books[held] != 0:
            remove_far(books, at, side, slot)
            books[at + FAR_COUNT + side] = count - 1
            if count == 1:
                books[at + FAR_BEST + side] = NO_BID if side == BID else NO_ASK
                books[at + FAR_LOOSE + side] = 0
            elif price_steps == books[at + FAR_BEST + side]:
                books[at + FAR_LOOSE + side] = 1
        return OK
    if books[held] == 0:
        if count >= books[LEVELS_MAX]:
            return FULL
        books[at + FAR_COUNT + side] = count + 1
        books[books[at + FAR_PRICE + side] + slot] = price_steps
        bound = books[at + FAR_BEST + side]
        if price_steps >= bound if side == BID else price_steps <= bound:
            books[at + FAR_BEST + side] = price_steps
            books[at + FAR_LOOSE + side] = 0
    books[held] = qty_steps
    return OK


@njit(cache=True, _nrt=False, forceinline=True)
def set_level(books, at, side, price_steps, qty_steps):
    """Set the quantity at one price; 0 removes the level, also one that is not held.

    Args:
        books: int64[n], changed; see `new_books`.
        at: place of the book; see `book_at`.
        side: BID or ASK.
        price_steps: 1 to INT64_MAX - 1.
        qty_steps: absolute quantity, not negative.

    Returns:
        OK, or FULL (nothing changed).
    """
    window = books[WINDOW]
    i = price_steps - books[at + BASE]
    if i & -window != 0:  # negative, or beyond the window
        return set_far_level(books, at, np.int64(side), price_steps, qty_steps)
    books[books[at + QTY + side] + i] = qty_steps
    # Set or remove is a coin toss to the branch predictor: everything frequent is arithmetic.
    is_set = np.int64(qty_steps != 0)
    bits = books[at + BITS + side]
    before = books[bits + (i >> 6)]
    after = (before & ~(1 << (i & 63))) | (is_set << (i & 63))
    if (before == 0) == (after == 0):
        books[bits + (i >> 6)] = after
    elif before == 0:
        bitmap_set(books, bits, window, i)
    else:
        bitmap_clear(books, bits, window, i)
    if side == BID:
        best = max(books[at + BEST + BID], (i + 1) * is_set - 1)
        if (best - i) | is_set == 0:
            best = bitmap_next_down(books, bits, window, i)
        books[at + BEST + BID] = best
    else:
        best = min(books[at + BEST + ASK], i + (1 - is_set) * window)
        if (best - i) | is_set == 0:
            above = bitmap_next_up(books, bits, window, i)
            best = window if above == NO_BIT else above
        books[at + BEST + ASK] = best
    return OK


@njit(cache=True, _nrt=False)
def next_far(books, at, side, price_steps):
    """Return the best price in the hash that is worse than `price_steps`, NO_BID or NO_ASK."""
    best = NO_BID if side == BID else NO_ASK
    left = books[at + FAR_COUNT + side]
    prices = books[at + FAR_PRICE + side]
    quantities = books[at + FAR_QTY + side]
    slot = 0
    while left > 0:
        if books[quantities + slot] != 0:
            left -= 1
            price = books[prices + slot]
            if side == BID:
                if best < price < price_steps:
                    best = price
            elif price_steps < price < best:
                best = price
        slot += 1
    return best


@njit(cache=True, _nrt=False)
def tighten_far(books, at, side):
    """Return the best price in the hash, searching it if FAR_BEST is only a bound."""
    if books[at + FAR_LOOSE + side] != 0:
        beyond = NO_ASK if side == BID else NO_BID
        books[at + FAR_BEST + side] = next_far(books, at, side, beyond)
        books[at + FAR_LOOSE + side] = 0
    return books[at + FAR_BEST + side]


@njit(cache=True, _nrt=False, forceinline=True)
def best_bid(books, at):
    """Return the best bid price, or NO_BID; changes nothing but the bound FAR_BEST."""
    i = books[at + BEST + BID]
    price = books[at + BASE] + i if i >= 0 else NO_BID
    if books[at + FAR_BEST + BID] > price:
        return max(price, tighten_far(books, at, _BID))
    return price


@njit(cache=True, _nrt=False, forceinline=True)
def best_ask(books, at):
    """Return the best ask price, or NO_ASK; changes nothing but the bound FAR_BEST."""
    i = books[at + BEST + ASK]
    price = books[at + BASE] + i if i < books[WINDOW] else NO_ASK
    if books[at + FAR_BEST + ASK] < price:
        return min(price, tighten_far(books, at, _ASK))
    return price


@njit(cache=True, _nrt=False, forceinline=True)
def qty_at(books, at, side, price_steps):
    """Return the quantity at one price, 0 if there is no level (NO_BID and NO_ASK included)."""
    i = price_steps - books[at + BASE]
    if i & -books[WINDOW] == 0:
        return books[books[at + QTY + side] + i]
    return books[books[at + FAR_QTY + side] + find_far(books, at, np.int64(side), price_steps)]


@njit(cache=True, _nrt=False, forceinline=True)
def read_touch(books, at):
    """Return (bid, bid_qty, ask, ask_qty): the best level of both sides; NO_BID, 0, NO_ASK, 0."""
    base = books[at + BASE]
    i = books[at + BEST + BID]
    if i >= 0 and books[at + FAR_BEST + BID] < base + i:
        bid = base + i
        bid_qty = books[books[at + QTY + BID] + i]
    else:
        bid = best_bid(books, at)
        bid_qty = qty_at(books, at, BID, bid)
    i = books[at + BEST + ASK]
    if i < books[WINDOW] and books[at + FAR_BEST + ASK] > base + i:
        ask = base + i
        ask_qty = books[books[at + QTY + ASK] + i]
    else:
        ask = best_ask(books, at)
        ask_qty = qty_at(books, at, ASK, ask)
    return bid, bid_qty, ask, ask_qty


@njit(cache=True, _nrt=False)
def next_bid(books, at, price_steps):
    """Return the best bid below `price_steps`, or NO_BID."""
    base = books[at + BASE]
    end = base + books[WINDOW]
    if price_steps > end:  # levels above the window come first
        far = next_far(books, at, _BID, price_steps)
        if far >= end:
            return far
    if price_steps > base:
        first = min(price_steps, end) - 1 - base
        i = bitmap_next_down(books, books[at + BITS + BID], books[WINDOW], first)
        if i != NO_BIT:
            return base + i
    return next_far(books, at, _BID, min(price_steps, base))


@njit(cache=True, _nrt=False)
def next_ask(books, at, price_steps):
    """Return the best ask above `price_steps`, or NO_ASK."""
    base = books[at + BASE]
    last = base + books[WINDOW] - 1
    if price_steps < base - 1:  # levels below the window come first
        far = next_far(books, at, _ASK, price_steps)
        if far < base:
            return far
    if price_steps < last:
        first = max(price_steps + 1, base) - base
        i = bitmap_next_up(books, books[at + BITS + ASK], books[WINDOW], first)
        if i != NO_BIT:
            return base + i
    return next_far(books, at, _ASK, max(price_steps, last))


@njit(cache=True, _nrt=False)
def best_levels(books, at, side, count_max, levels, first):
    """Copy the best levels of one side, best first.

    Args:
        books, at, side: the book, read.
        count_max: how many at most.
        levels: int64[n], changed: price, quantity, price, ... from `first` on.

    Returns:
        How many there are.
    """
    none = NO_BID if side == BID else NO_ASK
    price = best_bid(books, at) if side == BID else best_ask(books, at)
    count = 0
    while count < count_max and price != none:
        levels[first + 2 * count] = price
        levels[first + 2 * count + 1] = qty_at(books, at, side, price)
        count += 1
        price = next_bid(books, at, price) if side == BID else next_ask(books, at, price)
    return count


@njit(cache=True, _nrt=False, forceinline=True)
def apply_side(books, at, side, slots, first, level, end):
    """Apply levels `level` to `end` - 1 of one message to one side; see `apply_levels`."""
    mask = slots.shape[0] - 1
    bad = 0
    while level < end:
        slot = (first + 1 + level // LEVELS_PER_SLOT) & mask
        word = LEVEL_WORD + 2 * (level % LEVELS_PER_SLOT)
        price_steps = slots[slot, word]
        qty_steps = slots[slot, word + 1]
        bad |= (price_steps - 1) | qty_steps
        if set_level(books, at, side, price_steps, qty_steps) != OK:
            return FULL
        level += 1
    return BAD_LEVEL if bad < 0 else OK


@njit(cache=True, _nrt=False)
def apply_levels(books, at, slots, first, bid_count, ask_count):
    """Apply the levels of one depth message.

    Args:
        books, at: the book, changed.
        slots: int64[capacity, 8], read; capacity is a power of two. The message's header is at
            sequence `first`, its LEVELS slots behind it, bids before asks.
        bid_count, ask_count: levels, from the header.

    Returns:
        OK, or what makes the book worthless: BAD_LEVEL, FULL, CROSSED.
    """
    status = apply_side(books, at, BID, slots, first, np.int64(0), bid_count)
    if status != OK:
        return status
    status = apply_side(books, at, ASK, slots, first, bid_count, bid_count + ask_count)
    if status != OK:
        return status
    if best_bid(books, at) >= best_ask(books, at):
        return CROSSED
    return recentre(books, at)


@njit(cache=True, _nrt=False)
def check_snapshot(slots, first, bid_count, ask_count):
    """Judge a depth snapshot before it is loaded; Args as in `apply_levels`, all read.

    Returns:
        OK, BAD_SNAPSHOT (not strictly best first, or an empty or impossible level) or CROSSED.
    """
    mask = slots.shape[0] - 1
    touch = NO_BID
    before = NO_ASK
    for level in range(bid_count + ask_count):
        slot = (first + 1 + level // LEVELS_PER_SLOT) & mask
        word = LEVEL_WORD + 2 * (level % LEVELS_PER_SLOT)
        price_steps = slots[slot, word]
        if price_steps <= 0 or slots[slot, word + 1] <= 0:
            return BAD_SNAPSHOT
        if level == 0 and bid_count > 0:
            touch = price_steps
        if level == bid_count:  # the best ask has only the best bid before it
            if price_steps <= touch:
                return CROSSED
        elif price_steps >= before if level < bid_count else price_steps <= before:
            return BAD_SNAPSHOT
        before = price_steps
    return OK


@njit(cache=True, _nrt=False)
def load_snapshot(books, at, slots, first, bid_count, ask_count):
    """Replace one book by a snapshot that `check_snapshot` has passed; Args as in `apply_levels`.

    Returns:
        OK, or FULL (the book is worthless).
    """
    clear_book(books, at)
    mask = slots.shape[0] - 1
    touch = slots[(first + 1) & mask, LEVEL_WORD] if bid_count + ask_count > 0 else 0
    books[at + BASE] = base_around(books, touch)
    return apply_levels(books, at, slots, first, bid_count, ask_count)


@njit(cache=True, _nrt=False)
def clear_book(books, at):
    """Empty one book; the window stays where it is."""
    window = books[WINDOW]
    for side in range(2):
        bits = books[at + BITS + side]
        i = bitmap_next_up(books, bits, window, _FIRST)
        while i != NO_BIT:
            books[books[at + QTY + side] + i] = 0
            bitmap_clear(books, bits, window, i)
            i = bitmap_next_up(books, bits, window, i)
        if books[at + FAR_COUNT + side] != 0:
            first = books[at + FAR_QTY + side]
            for slot in range(first, first + books[FAR_SLOTS]):
                books[slot] = 0
        books[at + FAR_COUNT + side] = 0
        books[at + FAR_LOOSE + side] = 0
    books[at + BEST + BID] = NO_BIT
    books[at + BEST + ASK] = window
    books[at + FAR_BEST + BID] = NO_BID
    books[at + FAR_BEST + ASK] = NO_ASK


@njit(cache=True, _nrt=False)
def base_around(books, touch):
    """Return the base of a window with `touch` in its middle, as far as prices go."""
    return min(max(touch - books[WINDOW] // 2, 0), INT64_MAX - books[WINDOW])


@njit(cache=True, _nrt=False)
def recentre(books, at):
    """Move the window if the touch has left its middle half.

    Returns:
        OK, or FULL (the book is worthless).
    """
    bid = best_bid(books, at)
    ask = best_ask(books, at)
    if bid == NO_BID and ask == NO_ASK:
        return OK
    if ask == NO_ASK:
        touch = bid
    elif bid == NO_BID:
        touch = ask
    else:
        touch = bid + (ask - bid) // 2
    window = books[WINDOW]
    if window // 4 <= touch - books[at + BASE] < window - window // 4:
        return OK
    return move_window(books, at, base_around(books, touch))


@njit(cache=True, _nrt=False)
def move_window(books, at, base):
    """Let the window begin at price `base` (not negative); levels change place, never value.

    Returns:
        OK, or FULL (the book is worthless).
    """
    window = books[WINDOW]
    shift = base - books[at + BASE]
    if shift == 0:
        return OK
    for side in range(2):
        if shift_window(books, at, side, shift) != OK:
            return FULL
    books[at + BASE] = base
    for side in range(2):
        pull_far(books, at, side)
        bits = books[at + BITS + side]
        if side == BID:
            best = bitmap_next_down(books, bits, window, window - 1)
        else:
            best = bitmap_next_up(books, bits, window, _FIRST)
            best = window if best == NO_BIT else best
        books[at + BEST + side] = best
    return OK


@njit(cache=True, _nrt=False)
def shift_window(books, at, side, shift):
    """Renumber one side's window levels by -`shift`, not 0; what falls out goes to the hash."""
    window = books[WINDOW]
    bits = books[at + BITS + side]
    quantities = books[at + QTY + side]
    # In the direction in which a level's new place has already been vacated.
    i = (
        bitmap_next_up(books, bits, window, _FIRST)
        if shift > 0
        else bitmap_next_down(books, bits, window, window - 1)
    )
    while i != NO_BIT:
        qty_steps = books[quantities + i]
        books[quantities + i] = 0
        bitmap_clear(books, bits, window, i)
        j = i - shift
        if j & -window == 0:
            books[quantities + j] = qty_steps
            bitmap_set(books, bits, window, j)
        elif set_far_level(books, at, side, books[at + BASE] + i, qty_steps) != OK:
            return FULL
        if shift > 0:
            i = bitmap_next_up(books, bits, window, i)
        else:
            i = bitmap_next_down(books, bits, window, i)
    return OK


@njit(cache=True, _nrt=False)
def pull_far(books, at, side):
    """Move those levels of one side from the hash into the window that lie in it now."""
    window = books[WINDOW]
    base = books[at + BASE]
    prices = books[at + FAR_PRICE + side]
    quantities = books[at + FAR_QTY + side]
    slot = 0
    while slot < books[FAR_SLOTS] and books[at + FAR_COUNT + side] > 0:
        i = books[prices + slot] - base
        if books[quantities + slot] == 0 or i & -window != 0:
            slot += 1
            continue
        books[books[at + QTY + side] + i] = books[quantities + slot]
        bitmap_set(books, books[at + BITS + side], window, i)
        set_far_level(books, at, side, base + i, _NO_QTY)  # another level may move into this slot


def all_levels(books: np.ndarray, book: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return every level of one side, best first, as int64[n] prices and quantities; cold path."""
    at = int(book_at(books, book))

    def part(word: int, size: int) -> np.ndarray:
        first = int(books[at + word + side])
        return books[first : first + size]

    dense = part(QTY, int(books[WINDOW]))
    far = part(FAR_QTY, int(books[FAR_SLOTS]))
    held, used = np.flatnonzero(dense), np.flatnonzero(far)
    far_price = part(FAR_PRICE, int(books[FAR_SLOTS]))[used]
    prices = np.concatenate((held + books[at + BASE], far_price))
    quantities = np.concatenate((dense[held], far[used]))
    order = np.argsort(prices)[:: -1 if side == BID else 1]
    return prices[order], quantities[order]

"""State of the matching engine: its words, its events, its statuses, and how one is made.

One engine holds many instruments in one int64 array, because every further array costs each call of
a kernel. In it, one after the other: a header, the pool of orders, a book per instrument, the
holdings (positions) of the accounts, and per instrument the bitmap and the levels of its window and
its far levels. Slot 0 of the pool is never an open order: link 0 means none, and what would be
written to the neighbour of the last order goes there.
"""

from enum import IntEnum

import numpy as np
from numba import njit

from shm.bits import BITMAP_BITS_MAX, bitmap_words

Engine = np.ndarray  # int64[n]; make it with `new_engine`

PRICE_STEPS_MAX = 1 << 60
QTY_STEPS_MAX = 1 << 42  # times ORDERS_MAX it fits an int64, so no level or book total overflows
POSITION_STEPS_MAX = 1 << 61  # above it an account gets no new order: open ones cannot overflow
AMENDMENTS_MAX = 10_000  # -5026, USD-M futures "Modify Order": fewer than 10,000 per order
SLOT_BITS = 20
SLOT_MASK = (1 << SLOT_BITS) - 1
ORDERS_MAX = SLOT_MASK
NO_BID = 0  # best price of an empty side: below and above every price
NO_ASK = 1 << 62
EVENTS_SPARE = 8  # events of one request beside two per open order
CACHE_LINE_BYTES = 64
INDEX_MASK = (1 << 32) - 1  # also tells LLVM that an index is not negative: no test for that
HALF_BITS = 32  # two numbers in one word
HALF_MASK = (1 << 32) - 1

# Header.
FREE_SLOT = 0  # first free order slot, 0 none
ORDER_SEQUENCE = 1  # accepted orders so far
ORDERS_LIMIT = 2
INSTRUMENTS_LIMIT = 3
ACCOUNTS_LIMIT = 4
WINDOW = 5  # prices
FAR_LIMIT = 6  # far levels of an instrument
BOOKS = 7  # first word of the books
HEADER_WORDS = 16

# Order, ORDER_WORDS each from HEADER_WORDS on.
ORDER_ID = 0  # sequence << SLOT_BITS | slot; 0: the slot is free
PRICE = 1
ORDER_QTY = 2
LEAVES = 3
PREVIOUS = 4  # slots in the queue of the level, 0 none
NEXT = 5
OWNER = 6  # instrument_id << HALF_BITS | account_id
FLAGS = 7  # amendments << AMENDMENT_SHIFT | FLAG_ bits
ORDER_WORDS = 8
FLAG_ASK = 1
FLAG_REDUCE_ONLY = 2
FLAG_POST_ONLY = 4
AMENDMENT_SHIFT = 8

# Book of one instrument.
BEST_BID = 0  # price or NO_BID
BEST_ASK = 1  # price or NO_ASK
WINDOW_LOW = 2  # lowest price of the window
LEVELS = 3  # first word of the window's levels
BITS = 4  # first word of the window's bitmap
UPDATE_ID = 5
OPEN_COUNT = 6  # open orders
HOLDINGS = 7  # first word of the holdings
TRADE_ID = 8
REDUCE_ONLY_COUNT = 9  # of the open orders
INSTRUMENT_ID = 10
FAR = 11  # first word of the far list: FAR_LIMIT prices with their levels, ascending
FAR_COUNT = 12  # occupied prices outside the window
MISS_COUNT = 13  # orders priced outside the window since it was last moved
BOOK_WORDS = 16

# Level; all 0 when empty.
LEVEL_QTY = 0
ENDS = 1  # slot of the last order << HALF_BITS | slot of the first
LEVEL_WORDS = 2
FAR_WORDS = 1 + LEVEL_WORDS  # price, level

# Holding of one account in one instrument, as far as reduce-only orders need it.
POSITION = 0  # signed
SWEEP = 1  # scratch of the FOK check: position change so far; 0 outside of it
ACCOUNT_REDUCE_ONLY_COUNT = 2
HOLDING_WORDS = 4


class MatchStatus(IntEnum):
    """What became of a request; everything but OK changed nothing and wrote no event."""

    OK = 0
    EVENTS_FULL = 1  # too little room in the caller's events: drain them, call again
    BAD_REQUEST = 2  # unknown instrument, account, side, type, time in force or STP mode
    BAD_PRICE = 3  # not in 1..PRICE_STEPS_MAX
    BAD_QTY = 4  # not in 1..QTY_STEPS_MAX
    POST_ONLY = 5  # GTX would take: -5022
    FOK = 6  # not fillable at once: -5021
    REDUCE_ONLY = 7  # nothing to reduce: -2022
    UNKNOWN_ORDER = 8  # not open, or not of this account and instrument: -2011, -2013
    NOT_CHANGED = 9  # amendment to the same price and quantity: -5027
    AMENDMENTS = 10  # amended too often: -5026
    ORDERS_FULL = 11  # no free order slot
    LEVELS_FULL = 12  # no room for one more price far from the touch
    POSITION = 13  # account's position is beyond POSITION_STEPS_MAX


class EventKind(IntEnum):
    """What an EVENT says."""

    NEW = 1
    TRADE = 2
    CANCELED = 3
    EXPIRED = 4
    AMENDED = 5
    LEVEL = 6


class Reason(IntEnum):
    """Why an order was canceled or expired; 1 to 9 are the venue's own `er` numbers."""

    NONE = 0
    STP = 1
    IOC = 2
    IOC_STP = 3
    REDUCE_ONLY = 4
    MARKET = 9
    AMEND_QTY = 101  # CANCELED: new total quantity is not above the executed one
    AMEND_POST_ONLY = 102  # CANCELED: GTX amended to a price that would take


class StpMode(IntEnum):
    """Self-trade prevention by the taker's mode."""

    NONE = 1
    EXPIRE_TAKER = 2
    EXPIRE_MAKER = 3
    EXPIRE_BOTH = 4


def checked_dtype(size, *fields):
    """Return an aligned dtype; the size says that its author has counted the bytes."""
    dtype = np.dtype(list(fields), align=True)
    assert dtype.itemsize == size, f"fields fill {dtype.itemsize} bytes, expected {size}"
    return dtype


# One change. Meaning of the fields by kind; what is not named is 0:
#   NEW       order_id account_id side price_steps (of MARKET as given), qty_steps and
#             leaves_qty_steps: accepted quantity, reduce-only: after trimming.
#   TRADE     event_id: trade id, per instrument, from 1. price_steps qty_steps of the trade.
#             order_id account_id side leaves_qty_steps: the taker and what it has left.
#             maker_order_id maker_account_id; maker_done: 1 if the maker is filled and gone.
#   CANCELED, EXPIRED  order_id account_id side price_steps, qty_steps: order quantity,
#             leaves_qty_steps: what was still open and is now off. reason: Reason.
#   AMENDED   order_id account_id side, new price_steps and total qty_steps, leaves_qty_steps open.
#   LEVEL     side price_steps, qty_steps: new total at the price, 0 when it is gone. event_id:
#             update id, per instrument, one more for each LEVEL.
EVENT = checked_dtype(
    64,
    ("kind", "u1"),
    ("side", "i1"),
    ("reason", "u1"),
    ("maker_done", "u1"),
    ("instrument_id", "<i4"),
    ("price_steps", "<i8"),
    ("qty_steps", "<i8"),
    ("leaves_qty_steps", "<i8"),
    ("event_id", "<i8"),
    ("order_id", "<i8"),
    ("maker_order_id", "<i8"),
    ("account_id", "<i4"),
    ("maker_account_id", "<i4"),
)
EVENT_WORDS = 8
MAKER_DONE = 1 << 24  # in the first word


def new_engine(
    instruments_max, accounts_max, orders_max=65_535, window=131_072, far_levels_max=4_096
):
    """Make an empty engine; the only place that allocates.

    Args:
        instruments_max, accounts_max: ids run from 0 to one less.
        orders_max: open orders of all instruments together, up to ORDERS_MAX.
        window: price steps around the touch that are found without a search; a power of two from
            64 to 262,144. 16 bytes each per instrument.
        far_levels_max: occupied prices per instrument outside the window.

    Raises:
        ValueError: a size outside its range.
    """
    for name, value, limit in (
        ("instruments_max", instruments_max, 4_096),
        ("accounts_max", accounts_max, 1 << 20),
        ("orders_max", orders_max, ORDERS_MAX),
        ("far_levels_max", far_levels_max, ORDERS_MAX),
    ):
        if not 1 <= value <= limit:
            raise ValueError(f"new_engine: {name} is {value}, expected 1 to {limit}")
    if window & (window - 1) or not 64 <= window <= BITMAP_BITS_MAX:
        raise ValueError(f"new_engine: window is {window}, expected a power of two, 64 to 262144")
    books = HEADER_WORDS + (1 + orders_max) * ORDER_WORDS
    holdings = books + instruments_max * BOOK_WORDS
    bits = holdings + instruments_max * accounts_max * HOLDING_WORDS
    bits_words = -(-bitmap_words(window) // 8) * 8  # whole cache lines
    levels = bits + instruments_max * bits_words
    far = levels + instruments_max * window * LEVEL_WORDS
    far_words = far_levels_max * FAR_WORDS
    words = far + instruments_max * far_words
    if words > INDEX_MASK:
        raise ValueError(f"new_engine: sizes need {words} words, expected at most {INDEX_MASK}")
    engine = _aligned(words, np.dtype(np.int64))
    engine[FREE_SLOT] = 1
    engine[ORDERS_LIMIT] = orders_max
    engine[INSTRUMENTS_LIMIT] = instruments_max
    engine[ACCOUNTS_LIMIT] = accounts_max
    engine[WINDOW] = window
    engine[FAR_LIMIT] = far_levels_max
    engine[BOOKS] = books
    links = engine[HEADER_WORDS:books].reshape(-1, ORDER_WORDS)[:, NEXT]
    links[1:-1] = np.arange(2, 1 + orders_max)
    for i, book in enumerate(engine[books:holdings].reshape(-1, BOOK_WORDS)):
        book[BEST_ASK] = NO_ASK
        book[INSTRUMENT_ID] = i
        book[HOLDINGS] = holdings + i * accounts_max * HOLDING_WORDS
        book[BITS] = bits + i * bits_words
        book[LEVELS] = levels + i * window * LEVEL_WORDS
        book[FAR] = far + i * far_words
    return engine


def new_events(engine):
    """Return EVENT[n], zeroed, with room for what one request can cause in the worst case."""
    return _aligned(2 * int(engine[ORDERS_LIMIT]) + EVENTS_SPARE, EVENT)


def _aligned(length, dtype):
    """Return a zeroed array that begins on a cache line, so that an order or event is one line."""
    memory = np.zeros(length * dtype.itemsize + CACHE_LINE_BYTES, np.uint8)
    first = -memory.ctypes.data % CACHE_LINE_BYTES
    return memory[first : first + length * dtype.itemsize].view(dtype)


@njit(cache=True, _nrt=False, forceinline=True)
def order_at(slot):
    """Return the first word of an order."""
    return HEADER_WORDS + (slot & SLOT_MASK) * ORDER_WORDS


@njit(cache=True, _nrt=False, forceinline=True)
def book_at(engine, instrument_id):
    """Return the first word of a book."""
    return (engine[BOOKS] + instrument_id * BOOK_WORDS) & INDEX_MASK


@njit(cache=True, _nrt=False, forceinline=True)
def holding_at(engine, book, account_id):
    """Return the first word of an account's holding in the instrument of a book."""
    return (engine[book + HOLDINGS] + account_id * HOLDING_WORDS) & INDEX_MASK


@njit(cache=True, _nrt=False, forceinline=True)
def best_at(book, side):
    """Return the word of a side's best price."""
    return (book + ((BEST_BID + BEST_ASK - side) >> 1)) & INDEX_MASK


@njit(cache=True, _nrt=False, forceinline=True)
def is_price(price_steps):
    """Return True unless it is NO_BID or NO_ASK."""
    return price_steps != NO_BID and price_steps != NO_ASK

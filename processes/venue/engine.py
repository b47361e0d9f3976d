"""State of the matching engine: record types, statuses and the preallocated arrays.

One engine holds many instruments. Per instrument there is one array of price levels for both sides,
which works because a book is never crossed: a circular window of `window` price steps around the
touch, where a price's level is found by masking, and behind it a sorted list of far levels for
every other price. Orders live in one pool and are linked through it, first in first out per level.
Slot 0 of the pool is never used, so link 0 means none.
"""

from enum import IntEnum
from typing import NamedTuple

import numpy as np

from shm.bits import BITMAP_BITS_MAX, bitmap_words

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

# One open order; order_id 0: the slot is free.
ORDER = checked_dtype(
    64,
    ("order_id", "<i8"),
    ("price_steps", "<i8"),
    ("order_qty_steps", "<i8"),
    ("leaves_qty_steps", "<i8"),
    ("account_id", "<i4"),
    ("instrument_id", "<i4"),
    ("previous", "<i4"),  # slots; 0 none
    ("next", "<i4"),
    ("side", "i1"),
    ("time_in_force", "u1"),
    ("reduce_only", "u1"),
    ("reserved", "u1"),
    ("amendment_count", "<i4"),
    ("reserved_2", "<i8"),
)

# One price: total open quantity, first and last order; all 0 when empty.
LEVEL = checked_dtype(16, ("qty_steps", "<i8"), ("head", "<i4"), ("tail", "<i4"))

# One account in one instrument, as far as reduce-only orders need it.
HOLDING = checked_dtype(
    24,
    ("position_steps", "<i8"),  # signed
    ("sweep_steps", "<i8"),  # scratch of the FOK check: position change so far; 0 outside of it
    ("reduce_only_count", "<i4"),  # open reduce-only orders
    ("reserved", "<i4"),
)

# Words of `Engine.books`: BOOK_WORDS of the order pool, then as many per instrument.
BOOK_WORDS = 16
FREE_SLOT = 0  # pool: first free order slot, 0 none
ORDER_SEQUENCE = 1  # pool: accepted orders so far
BEST_BID = 0  # price or NO_BID
BEST_ASK = 1  # price or NO_ASK
WINDOW_LOW = 2  # lowest price of the window
UPDATE_ID = 3
TRADE_ID = 4
OPEN_COUNT = 5  # open orders
REDUCE_ONLY_COUNT = 6  # of them reduce-only
FAR_COUNT = 7  # occupied prices outside the window
MISS_COUNT = 8  # orders priced outside the window since it was last moved


class Engine(NamedTuple):
    """All arrays of one engine; kernels take it whole. Make it with `new_engine`."""

    books: np.ndarray  # int64[(1 + instruments) * BOOK_WORDS]
    levels: np.ndarray  # LEVEL[instruments * (window + far_levels_max)]
    far_prices: np.ndarray  # int64[instruments * far_levels_max], ascending per instrument
    bits: np.ndarray  # int64[instruments * bit_words]: occupied levels of the window
    orders: np.ndarray  # ORDER[1 + orders_max]
    holdings: np.ndarray  # HOLDING[accounts, instruments]
    window: int
    far_levels_max: int
    bit_words: int


def new_engine(
    instruments_max, accounts_max, orders_max=65_535, window=65_536, far_levels_max=4_096
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
    bit_words = bitmap_words(window)
    books = _aligned((1 + instruments_max) * BOOK_WORDS, np.dtype(np.int64))
    books[BOOK_WORDS:].reshape(-1, BOOK_WORDS)[:, BEST_ASK] = NO_ASK
    books[FREE_SLOT] = 1
    orders = _aligned(1 + orders_max, ORDER)
    orders["next"][1:-1] = np.arange(2, 1 + orders_max)
    return Engine(
        books=books,
        levels=_aligned(instruments_max * (window + far_levels_max), LEVEL),
        far_prices=_aligned(instruments_max * far_levels_max, np.dtype(np.int64)),
        bits=_aligned(instruments_max * bit_words, np.dtype(np.int64)),
        orders=orders,
        holdings=np.zeros((accounts_max, instruments_max), HOLDING),
        window=window,
        far_levels_max=far_levels_max,
        bit_words=bit_words,
    )


def new_events(engine):
    """Return EVENT[n], zeroed, with room for what one request can cause in the worst case."""
    return _aligned(2 * len(engine.orders) + EVENTS_SPARE, EVENT)


def _aligned(length, dtype):
    """Return a zeroed array that begins on a cache line, so that a 64-byte record is one line."""
    memory = np.zeros(length * dtype.itemsize + CACHE_LINE_BYTES, np.uint8)
    first = -memory.ctypes.data % CACHE_LINE_BYTES
    return memory[first : first + length * dtype.itemsize].view(dtype)

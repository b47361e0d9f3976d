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

from shm.bits import bitmap_words

PRICE_STEPS_MAX = 1 << 60
QTY_STEPS_MAX = 1 << 42  # times ORDERS_MAX it fits an int64, so no level or book total overflows
POSITION_STEPS_MAX = 1 << 61  # above it an account gets no new order: open ones cannot overflow
AMENDMENTS_MAX = 10_000  # -5026, USD-M futures "Modify Order": fewer than 10,000 per order
SLOT_BITS = 20
SLOT_MASK = (1 << SLOT_BITS) - 1
ORDERS_MAX = SLOT_MASK
NO_BID = 0  # best price of an empty side: below and above every price
NO_ASK = 1 << 62


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


def _dtype(size, *fields):
    dtype = np.dtype(list(fields), align=True)
    assert dtype.itemsize == size, f"fields fill {dtype.itemsize} bytes, expected {size}"
    return dtype


# One change. Meaning of the fields by kind; what is not named is 0:
#   NEW       order_id account_id side price_steps, qty_steps = leaves_qty_steps: accepted quantity
#             (reduce-only: after trimming); price_steps of MARKET is as given.
#   TRADE     event_id: trade id (per instrument, from 1); order_id account_id side leaves_qty_steps:
#             the taker and what it has left; maker_order_id maker_account_id; maker_done: 1 if the
#             maker is filled and gone; price_steps qty_steps of the trade.
#   CANCELED, EXPIRED  order_id account_id side price_steps, qty_steps: order quantity,
#             leaves_qty_steps: what was still open and is now off; reason: Reason.
#   AMENDED   order_id account_id side, new price_steps and total qty_steps, leaves_qty_steps open.
#   LEVEL     side price_steps, qty_steps: new total at the price, 0 when it is gone; event_id:
#             update id (per instrument, +1 for each LEVEL).
EVENT = _dtype(
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
ORDER = _dtype(
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
LEVEL = _dtype(16, ("qty_steps", "<i8"), ("head", "<i4"), ("tail", "<i4"))

# One account in one instrument, as the engine needs it for reduce-only orders.
HOLDING = _dtype(
    16,
    ("position_steps", "<i8"),  # signed
    ("reduce_only_count", "<i4"),  # open reduce-only orders
    ("sweep_id", "<i4"),
)


class Engine(NamedTuple):
    """All arrays of one engine; kernels take it whole. Make it with `new_engine`."""

    books: np.ndarray
    levels: np.ndarray
    far_prices: np.ndarray
    bits: np.ndarray
    orders: np.ndarray
    holdings: np.ndarray  # HOLDING[accounts, instruments]
    window: int
    far_levels_max: int


def new_engine(
    instruments_max, accounts_max, orders_max=65_536, window=65_536, far_levels_max=4_096
):
    """Make an empty engine; the only place that allocates.

    Args:
        instruments_max, accounts_max: ids run from 0 to one less.
        orders_max: open orders of all instruments together, up to ORDERS_MAX.
        window: price steps around the touch that are found without a search; a power of two from
            64 to 262,144. 16 bytes each per instrument.
        far_levels_max: occupied prices per instrument outside the window.
    """
    raise NotImplementedError


def new_events(engine):
    """Return EVENT[n], zeroed, with room for what one request can cause in the worst case."""
    raise NotImplementedError

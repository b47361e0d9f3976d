"""The desk: everything a strategy may look at, as arrays in one state block.

The block is what a turn copies, changes and flips (shm/turn.py), so whatever a decision depends on
lives in it: ring cursors, books, positions, orders, quotes, timers and the strategy's own state.
"""

from typing import NamedTuple

import numpy as np

from common.layout import record

BOOK_LEVELS_MAX = 10
ORDER_SLOTS_MAX = 64
TIMERS_MAX = 16
QUOTE_LEVELS_MAX = 4
INTENTS_PER_TURN_MAX = 128

# Places in Desk.words.
NOW_NS = 0
STARTED = 1
READY = 2
SESSION_BASE = 3  # client_order_id of this session and strategy with sequence 0
INTENT_SEQUENCE = 4
INTENT_COUNT = 5
LAST_REJECT = 6
REJECT_COUNT = 7
STRATEGY_ID = 8
CAUSE_TS_EXCH = 9
CAUSE_TS_RECV = 10
CAUSE_RECV_TO_BOOK = 11
CAUSE_BOOK_TS_PUB = 12
CAUSE_SEQUENCE = 13
TURN_COUNT = 14
RECORD_COUNT = 15
LOG_HASH = 16  # of all turns so far, as the turn log tells it
WORDS = 32

DESK_BOOK = record(
    "DESK_BOOK", 384, "strategy",
    (0, "instrument_id", "<i4", "index into INSTRUMENT[]"),
    (4, "valid", "<i4", "1 if the book may be traded on"),
    (8, "ts_recv_ns", "<i8", "of the last BOOK message"),
    (16, "ts_exch_ns", "<i8", "of the last BOOK message"),
    (24, "last_update_id", "<i8", "of the last BOOK message"),
    (32, "bid_count", "<i4", "bid levels below, best first"),
    (36, "ask_count", "<i4", "ask levels below, best first"),
    (40, "bid_price_steps", "10<i8", "0 beyond bid_count"),
    (120, "bid_qty_steps", "10<i8", "0 beyond bid_count"),
    (200, "ask_price_steps", "10<i8", "0 beyond ask_count"),
    (280, "ask_qty_steps", "10<i8", "0 beyond ask_count"),
    (360, "reserved", "24u1", "zero"),
)  # fmt: skip

DESK_ORDER = record(
    "DESK_ORDER", 128, "strategy",
    (0, "client_order_id", "<i8", "ours; 0: the slot is free"),
    (8, "handle", "<i8", "intent sequence * ORDER_SLOTS_MAX + slot; a reused slot has another"),
    (16, "price_steps", "<i8", "limit price now"),
    (24, "order_qty_steps", "<i8", "asked"),
    (32, "cum_qty_steps", "<i8", "filled so far"),
    (40, "request_client_order_id", "<i8", "the request in flight, 0 none"),
    (48, "instrument_id", "<i4", "index into INSTRUMENT[]"),
    (52, "quote_level", "<i4", "level of the quote it serves, -1 none"),
    (56, "side", "i1", "Side"),
    (57, "order_status", "u1", "OrderStatus"),
    (58, "order_pending", "u1", "OrderPending bits, from risk"),
    (59, "reserved", "5u1", "zero"),
    (64, "reserved_2", "64u1", "zero"),
)  # fmt: skip

QUOTE = record(
    "QUOTE", 32, "strategy",
    (0, "price_steps", "<i8", "wanted price"),
    (8, "qty_steps", "<i8", "wanted open quantity; 0: no order"),
    (16, "order_slot", "<i8", "slot of the order that serves it, -1 none"),
    (24, "reserved", "8u1", "zero"),
)  # fmt: skip


class Desk(NamedTuple):
    """What hooks get as `d`; all arrays, instrument_id is the index.

    Attributes:
        words: int64[WORDS], changed by the engine and the verbs.
        books: DESK_BOOK[n], read by hooks.
        position: int64[n], signed steps, read by hooks.
        orders: DESK_ORDER[ORDER_SLOTS_MAX], read by hooks.
        quotes: QUOTE[n * 2 * QUOTE_LEVELS_MAX], changed by `quote`.
        timers: int64[TIMERS_MAX], due instant, 0 off; changed by `set_timer`.
        instruments: INSTRUMENT[n], read.
        intents: ORDER_REQUEST[INTENTS_PER_TURN_MAX], written by the verbs; not part of the block.
    """

    words: np.ndarray
    books: np.ndarray
    position: np.ndarray
    orders: np.ndarray
    quotes: np.ndarray
    timers: np.ndarray
    instruments: np.ndarray
    intents: np.ndarray


def block_dtype(instrument_count: int, state: np.dtype) -> np.dtype:
    """Return the dtype of one state block.

    Args:
        instrument_count: instruments of the run.
        state: the strategy's own state record.
    """
    return np.dtype(
        [
            ("words", "<i8", (WORDS,)),
            ("books", DESK_BOOK, (instrument_count,)),
            ("position", "<i8", (instrument_count,)),
            ("orders", DESK_ORDER, (ORDER_SLOTS_MAX,)),
            ("quotes", QUOTE, (instrument_count * 2 * QUOTE_LEVELS_MAX,)),
            ("timers", "<i8", (TIMERS_MAX,)),
            ("state", state, (1,)),
        ],
        align=True,
    )


def desk_of(block: np.ndarray, instruments: np.ndarray, intents: np.ndarray) -> Desk:
    """Return the desk whose arrays are views of one block.

    Args:
        block: one-element array of `block_dtype`.
        instruments: INSTRUMENT[n].
        intents: ORDER_REQUEST[INTENTS_PER_TURN_MAX], shared by both twins.
    """
    return Desk(
        words=block["words"][0],
        books=block["books"][0],
        position=block["position"][0],
        orders=block["orders"][0],
        quotes=block["quotes"][0],
        timers=block["timers"][0],
        instruments=instruments,
        intents=intents,
    )

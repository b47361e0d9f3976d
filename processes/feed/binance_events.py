"""Fields of a scanned Binance USD-M event -> market slots, and the rules of each event.

Keys and their types: the venue's "Websocket Market Streams" pages, one per stream.
"""

import numpy as np
from numba import njit

from common.enums import MarketKind, Side
from common.records import SLOT_WORDS
from processes.feed.decoded import (
    ASKS,
    BIDS,
    EVENT,
    F_PU,
    INSTRUMENT,
    LEVELS,
    ROW,
    T_FALSE,
    T_STRING,
    T_TRUE,
    TS_RECV,
    Decoded,
    check_field,
    end_of,
    field_of,
    first_of,
    has_field,
    int_of,
    int_or_zero,
    signed_of,
    steps_of,
    steps_or_zero,
    type_of,
)
from processes.feed.json_scan import KERNEL, load_prefix, load_word
from processes.feed.symbols import (
    ROW_INSTRUMENT,
    ROW_PRICE_DECIMALS,
    ROW_QTY_DECIMALS,
    find_symbol,
)

DEPTH, BBO, MARK = (np.int64(k) for k in (MarketKind.DIFF_BEGIN, MarketKind.BBO, MarketKind.MARK))
TRADE, AGG_TRADE = np.int64(MarketKind.TRADE), np.int64(MarketKind.AGG_TRADE)
LIQUIDATION = np.int64(MarketKind.LIQUIDATION)

_TIME_MS_MAX = 9_223_372_036_854
_NS_PER_MS = 1_000_000
_E8_DECIMALS = np.int64(8)
_ONE = np.int64(1)
_FIVE = np.int64(5)
_INT32_MAX = (1 << 31) - 1
_BYTE = 255
_AT = ord("@")

_F_A_CAP, _F_B_CAP, _F_E_CAP, _F_S_CAP = (field_of(key) for key in "ABES")
_F_T_CAP, _F_U_CAP, _F_X_CAP = (field_of(key) for key in "TUX")
F_A, F_B, F_E, F_O, F_S = (field_of(key) for key in "abeos")
_F_F, _F_I, _F_L, _F_M, _F_P, _F_Q = (field_of(key) for key in "filmpq")
_F_R, _F_T, _F_U, _F_Z = (field_of(key) for key in "rtuz")


def word_of(text: bytes) -> int:
    """Return up to eight characters as `load_prefix` does."""
    return int.from_bytes(text[:8], "little")


_E_DEPTH, _E_DEPTH_2 = word_of(b"depthUpdate"), word_of(b"ate")
_E_BBO, _E_BBO_2 = word_of(b"bookTicker"), word_of(b"er")
_E_AGG_TRADE, _E_TRADE = word_of(b"aggTrade"), word_of(b"trade")
_E_MARK, _E_MARK_2 = word_of(b"markPriceUpdate"), word_of(b"eUpdate")
_E_FORCE, _E_FORCE_2 = word_of(b"forceOrder"), word_of(b"er")
_E_SHUTDOWN, _E_SHUTDOWN_2 = word_of(b"serverShutdown"), word_of(b"utdown")
_X_MARKET, _S_BUY, _S_SELL = word_of(b"MARKET"), word_of(b"BUY"), word_of(b"SELL")
_N_DEPTH, _N_RPI_DEPTH = word_of(b"depth"), word_of(b"rpiDepth")


@njit(**KERNEL)
def event_of(text, first, end):
    """Return the MarketKind that the event name text[first:end] makes, or a Decoded status."""
    length = end - first
    word_0 = load_prefix(text, first, length)
    word_1 = load_prefix(text, first + 8, length - 8)
    if word_0 == _E_DEPTH and word_1 == _E_DEPTH_2 and length == 11:
        return DEPTH
    if word_0 == _E_BBO and word_1 == _E_BBO_2 and length == 10:
        return BBO
    if word_0 == _E_AGG_TRADE and length == 8:
        return AGG_TRADE
    if word_0 == _E_TRADE and length == 5:
        return TRADE
    if word_0 == _E_MARK and word_1 == _E_MARK_2 and length == 15:
        return MARK
    if word_0 == _E_FORCE and word_1 == _E_FORCE_2 and length == 10:
        return LIQUIDATION
    if word_0 == _E_SHUTDOWN and word_1 == _E_SHUTDOWN_2 and length == 14:
        return np.int64(Decoded.SHUTDOWN)
    return np.int64(Decoded.EVENT_UNKNOWN)


@njit(**KERNEL)
def stream_part(text, first, end):
    """Return where a stream's name begins, behind its symbol and @; `end` if there is no @."""
    while first < end:
        first += 1
        if text[np.uintp(first - 1)] == _AT:
            return first
    return end


@njit(**KERNEL)
def is_partial_stream(text, first, end):
    """Return True for depth<5|10|20> and rpiDepth: named depthUpdate, but not one book's diffs."""
    part = stream_part(text, first, end)
    if end - part > 5 and load_prefix(text, part, _FIVE) == _N_DEPTH:
        return 48 <= text[np.uintp(part + 5)] <= 57
    return end - part >= 8 and load_word(text, part) == _N_RPI_DEPTH


@njit(**KERNEL)
def event_of_stream(text, first, end):
    """Return DEPTH if the stream named text[first:end] carries diffs, else EVENT_UNKNOWN."""
    part = stream_part(text, first, end)
    if load_prefix(text, part, min(end - part, 5)) == _N_DEPTH:
        return DEPTH
    return np.int64(Decoded.EVENT_UNKNOWN)


@njit(**KERNEL)
def resolve_event(text, state):
    """Remember in EVENT what "e" says; return it, or a status."""
    status = check_field(state, F_E, T_STRING)
    if status == 0:
        status = event_of(text, first_of(state, F_E), end_of(state, F_E))
        state[EVENT] = status
    return status


@njit(**KERNEL)
def resolve_symbol(text, symbols, state):
    """Remember in ROW and INSTRUMENT what "s" says; return the row, or a status."""
    status = check_field(state, F_S, T_STRING)
    if status < 0:
        return status
    row = find_symbol(symbols, text, first_of(state, F_S), end_of(state, F_S))
    state[ROW] = row
    if row < 0:
        return np.int64(Decoded.SYMBOL_UNKNOWN)
    state[INSTRUMENT] = symbols[row, ROW_INSTRUMENT]
    return row


@njit(**KERNEL)
def write_head(words, place, kind, slot_count, state):
    """Write the 16 bytes that every slot begins with, and clear the others."""
    words[place, 0] = kind | (slot_count << 16) | (state[INSTRUMENT] << 32)
    words[place, 1] = state[TS_RECV]
    for i in range(2, SLOT_WORDS):
        words[place, i] = 0


@njit(**KERNEL)
def _times_of(state):
    """Return ("E" in ns, "T" in ns), 0 where missing, or (status, status)."""
    event_ms = int_or_zero(state, _F_E_CAP)
    trade_ms = int_or_zero(state, _F_T_CAP)
    status = min(event_ms, trade_ms)
    if status >= 0 and max(event_ms, trade_ms) > _TIME_MS_MAX:
        status = np.int64(Decoded.RANGE)
    if status < 0:
        return status, status
    return event_ms * _NS_PER_MS, trade_ms * _NS_PER_MS


@njit(**KERNEL)
def write_depth(words, place, state):
    """Write the DIFF_BEGIN header over the levels already taken; return slots or a status."""
    first_id = int_of(state, _F_U_CAP)
    last_id = int_of(state, _F_U)
    previous_id = int_of(state, F_PU)
    event_ns, trade_ns = _times_of(state)
    status = min(first_id, last_id, previous_id, event_ns)
    if status < 0:
        return status
    if first_id > last_id:
        return np.int64(Decoded.RANGE)
    slot_count = 1 + (state[LEVELS] + 2) // 3
    write_head(words, place, DEPTH, slot_count, state)
    words[place, 2] = trade_ns if trade_ns != 0 else event_ns
    words[place, 3] = first_id
    words[place, 4] = last_id
    words[place, 5] = previous_id
    words[place, 6] = state[BIDS] | (state[ASKS] << 32)
    return slot_count


@njit(**KERNEL)
def write_bbo(text, words, place, symbols, state):
    """Write a BBO; a side may be empty: price and quantity both 0."""
    row = state[ROW]
    price_decimals, qty_decimals = symbols[row, ROW_PRICE_DECIMALS], symbols[row, ROW_QTY_DECIMALS]
    update_id = int_of(state, _F_U)
    bid_price = steps_of(text, state, F_B, price_decimals)
    bid_qty = steps_of(text, state, _F_B_CAP, qty_decimals)
    ask_price = steps_of(text, state, F_A, price_decimals)
    ask_qty = steps_of(text, state, _F_A_CAP, qty_decimals)
    event_ns, trade_ns = _times_of(state)
    status = min(update_id, bid_price, bid_qty, ask_price, ask_qty, event_ns)
    if status < 0:
        return status
    if (bid_price == 0 and bid_qty != 0) or (ask_price == 0 and ask_qty != 0):
        return np.int64(Decoded.RANGE)
    write_head(words, place, BBO, _ONE, state)
    words[place, 2] = trade_ns if trade_ns != 0 else event_ns
    words[place, 3] = update_id
    words[place, 4] = bid_price
    words[place, 5] = bid_qty
    words[place, 6] = ask_price
    words[place, 7] = ask_qty
    return 1


@njit(**KERNEL)
def _aggressor_of(state):
    """Return the Side of the taker: "m" says that the buyer was the maker; or a status."""
    status = check_field(state, _F_M, T_TRUE)
    if status == 0:
        return np.int64(Side.ASK), 0
    if status == Decoded.TYPE and type_of(state, _F_M) == T_FALSE:
        return np.int64(Side.BID), 0
    return 0, status


@njit(**KERNEL)
def write_trade(text, words, place, symbols, state):
    """Write a TRADE or an AGG_TRADE (EVENT says which)."""
    row = state[ROW]
    price = steps_of(text, state, _F_P, symbols[row, ROW_PRICE_DECIMALS])
    qty = steps_of(text, state, _F_Q, symbols[row, ROW_QTY_DECIMALS])
    side, status = _aggressor_of(state)
    event_ns, trade_ns = _times_of(state)
    status = min(status, price, qty, event_ns)
    trade_count = 1
    if state[EVENT] == AGG_TRADE:
        trade_id = int_of(state, F_A)
        first_id = int_of(state, _F_F)
        last_id = int_of(state, _F_L)
        status = min(status, first_id, last_id)
        trade_count = last_id - first_id + 1
    else:
        trade_id = int_of(state, _F_T)
    status = min(status, trade_id)
    if status < 0:
        return status
    if price == 0 or qty == 0 or trade_count < 1 or trade_count > _INT32_MAX:
        return np.int64(Decoded.RANGE)
    write_head(words, place, state[EVENT], _ONE, state)
    words[place, 2] = trade_ns if trade_ns != 0 else event_ns
    words[place, 3] = price
    words[place, 4] = qty
    words[place, 5] = trade_id
    words[place, 6] = (side & _BYTE) | (trade_count << 32)
    return 1


@njit(**KERNEL)
def check_market(text, state):
    """Return 0 if a trade came from the order book ("X" is MARKET or missing), or a status.

    Other values (INSURANCE_FUND, ..) are seen in the wild with prices far off the market.
    """
    if not has_field(state, _F_X_CAP):
        return 0
    status = check_field(state, _F_X_CAP, T_STRING)
    if status < 0:
        return status
    length = end_of(state, _F_X_CAP) - first_of(state, _F_X_CAP)
    if length == 6 and load_prefix(text, first_of(state, _F_X_CAP), length) == _X_MARKET:
        return 0
    return np.int64(Decoded.NOT_MARKET)


@njit(**KERNEL)
def write_mark(text, words, place, state):
    """Write a MARK; "T" is the next funding time here, "r" is signed and may be empty."""
    mark_e8 = steps_of(text, state, _F_P, _E8_DECIMALS)
    index_e8 = steps_or_zero(text, state, _F_I, _E8_DECIMALS)
    rate_e8, status = signed_of(text, state, _F_R, _E8_DECIMALS)
    event_ns, funding_ns = _times_of(state)
    status = min(status, mark_e8, index_e8, event_ns)
    if status < 0:
        return status
    write_head(words, place, MARK, _ONE, state)
    words[place, 2] = event_ns
    words[place, 3] = mark_e8
    words[place, 4] = index_e8
    words[place, 5] = rate_e8
    words[place, 6] = funding_ns
    return 1


@njit(**KERNEL)
def write_liquidation(text, words, place, symbols, state, event_ns):
    """Write a LIQUIDATION from the fields of "o"; `event_ns` is the outer "E", 0 if missing."""
    row = state[ROW]
    qty_decimals = symbols[row, ROW_QTY_DECIMALS]
    price = steps_of(text, state, _F_P, symbols[row, ROW_PRICE_DECIMALS])
    qty = steps_of(text, state, _F_Q, qty_decimals)
    cum_qty = steps_of(text, state, _F_Z, qty_decimals)
    trade_ms = int_or_zero(state, _F_T_CAP)
    status = min(price, qty, cum_qty, trade_ms, check_field(state, _F_S_CAP, T_STRING))
    if status < 0:
        return status
    length = end_of(state, _F_S_CAP) - first_of(state, _F_S_CAP)
    name = load_prefix(text, first_of(state, _F_S_CAP), min(length, 8))
    if name == _S_BUY:
        side = np.int64(Side.BID)
    elif name == _S_SELL:
        side = np.int64(Side.ASK)
    else:
        return np.int64(Decoded.RANGE)
    if price == 0 or qty == 0 or trade_ms > _TIME_MS_MAX:
        return np.int64(Decoded.RANGE)
    write_head(words, place, LIQUIDATION, _ONE, state)
    words[place, 2] = trade_ms * _NS_PER_MS if trade_ms != 0 else event_ns
    words[place, 3] = price
    words[place, 4] = qty
    words[place, 5] = cum_qty
    words[place, 6] = side & _BYTE
    return 1


@njit(**KERNEL)
def event_time_of(state):
    """Return "E" in ns, 0 if missing, or a status."""
    event_ms = int_or_zero(state, _F_E_CAP)
    if event_ms > _TIME_MS_MAX:
        return np.int64(Decoded.RANGE)
    return event_ms * _NS_PER_MS if event_ms >= 0 else event_ms

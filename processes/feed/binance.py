"""The scanner: bytes of one Binance USD-M stream frame straight to market slots.

One pass over the usual shape (`{"stream":..,"data":{..}}` or the bare event, any key order, any
whitespace); a depth array that comes before its event name or symbol is checked, remembered and
read in a second look. Unknown keys are passed over, however deep. Prices and quantities are
strings, ids and times are digits, as the venue documents; each is exact or the message is refused.

Rules:
    A message is taken whole or not at all: where a status comes back, no slot counts.
    A depth message that was lost, or may have been, sets GAP_NEEDED: its book must resync.
    Escapes in strings are checked, not translated: no name or number that we read has one.
"""

import numpy as np
from numba import njit

from common.enums import MarketKind
from common.records import LEVEL_WORD, LEVELS_PER_SLOT
from processes.feed.binance_events import (
    BBO,
    DEPTH,
    F_A,
    F_B,
    F_E,
    F_O,
    F_S,
    LIQUIDATION,
    MARK,
    TRADE,
    check_market,
    event_of_stream,
    event_time_of,
    is_partial_stream,
    resolve_event,
    resolve_symbol,
    word_of,
    write_bbo,
    write_depth,
    write_head,
    write_liquidation,
    write_mark,
    write_trade,
)
from processes.feed.decoded import (
    BIDS,
    BYTES_MAX,
    DATA,
    DATA_NONE,
    DATA_OBJECT,
    DATA_OTHER,
    DATA_TWICE,
    EVENT,
    F_PU,
    GAP_NEEDED,
    HAS_DATA_KEY,
    INSTRUMENT,
    KEY_FIRST,
    KEY_LAST,
    KIND,
    LEVELS,
    LEVELS_MAX,
    REFUSED,
    ROW,
    STREAM_END,
    STREAM_FIRST,
    STREAM_TWICE,
    STREAM_TYPE,
    T_ARRAY,
    T_FALSE,
    T_INT,
    T_LEVELS,
    T_LONG,
    T_MINUS,
    T_NULL,
    T_OBJECT,
    T_REAL,
    T_STRING,
    T_TRUE,
    TS_RECV,
    Decoded,
    check_field,
    first_of,
    forget_fields,
    has_field,
    put_field,
    type_of,
)
from processes.feed.json_scan import (
    BACKSLASH,
    BRACE,
    BRACE_END,
    BRACKET,
    BRACKET_END,
    COLON,
    COMMA,
    MINUS,
    POINT,
    QUOTE,
    TEXT_SLACK,
    ZERO,
    find_quote,
    load_byte,
    load_prefix,
    load_word,
    skip_literal,
    skip_number,
    skip_space,
    skip_value,
    take_digits,
    take_steps,
)
from processes.feed.symbols import (
    ROW_INSTRUMENT,
    ROW_PRICE_DECIMALS,
    ROW_QTY_DECIMALS,
    find_stream_symbol,
)

_LEVELS_KIND = int(MarketKind.LEVELS)
_SALVAGE_BYTES_MAX = 4096
_BYTES_2, _BYTES_3, _BYTES_6 = (1 << 16) - 1, (1 << 24) - 1, (1 << 48) - 1
_STREAM_KEY, _DATA_KEY, _DATA_NAME = word_of(b'"stream"'), word_of(b'"data"'), word_of(b"data")
_PU_KEY = word_of(b'pu"')
_LEVEL_OPEN, _LEVEL_NEXT, _LEVEL_CLOSE = word_of(b'["'), word_of(b'","'), word_of(b'"]')
_LETTER_E, _LETTER_T, _LETTER_F = 101, 116, 102


@njit(cache=True)
def _take_level_slowly(text, pos, end, price_decimals, qty_decimals):
    """Read one [price, quantity] with spaces anywhere, or say what is wrong with it.

    Returns:
        (position behind it, price, quantity) or (status, 0, 0).
    """
    if pos >= end or load_byte(text, pos) != BRACKET:
        return np.int64(Decoded.TYPE), 0, 0
    pos = skip_space(text, pos + 1, end)
    if pos >= end or load_byte(text, pos) != QUOTE:
        return np.int64(Decoded.TYPE), 0, 0
    price, at = take_steps(text, pos + 1, end, price_decimals)
    if at < 0:
        return price, 0, 0
    pos = skip_space(text, at + 1, end)
    if pos >= end or load_byte(text, pos) != COMMA:
        return np.int64(Decoded.TYPE), 0, 0
    pos = skip_space(text, pos + 1, end)
    if pos >= end or load_byte(text, pos) != QUOTE:
        return np.int64(Decoded.TYPE), 0, 0
    qty, at = take_steps(text, pos + 1, end, qty_decimals)
    if at < 0:
        return qty, 0, 0
    pos = skip_space(text, at + 1, end)
    if pos >= end or load_byte(text, pos) != BRACKET_END:
        return np.int64(Decoded.TYPE), 0, 0
    return pos + 1, price, qty


@njit(cache=True)
def _take_level(text, pos, end, price_decimals, qty_decimals):
    """Read one [price, quantity] at `pos`; as `_take_level_slowly`, which it falls back on."""
    if (load_word(text, pos) & _BYTES_2) == _LEVEL_OPEN:
        price, at = take_steps(text, pos + 2, end, price_decimals)
        if at >= 0 and (load_word(text, at) & _BYTES_3) == _LEVEL_NEXT:
            qty, at = take_steps(text, at + 3, end, qty_decimals)
            if at >= 0 and (load_word(text, at) & _BYTES_2) == _LEVEL_CLOSE:
                return at + 2, price, qty
    return _take_level_slowly(text, pos, end, price_decimals, qty_decimals)


@njit(cache=True)
def _take_levels(text, pos, end, symbols, words, slot_mask, sequence, room, state):
    """Read the array of levels at `pos` into LEVELS slots, behind those already taken.

    Returns:
        Position behind the array, or a status; LEVELS is the new count only on success.
    """
    row = state[ROW]
    price_decimals, qty_decimals = symbols[row, ROW_PRICE_DECIMALS], symbols[row, ROW_QTY_DECIMALS]
    level = state[LEVELS]
    slot = 1 + level // LEVELS_PER_SLOT
    word = LEVEL_WORD + 2 * (level % LEVELS_PER_SLOT)
    place = (sequence + slot) & slot_mask
    pos = skip_space(text, pos + 1, end)
    if pos < end and load_byte(text, pos) == BRACKET_END:
        return pos + 1
    while pos < end:
        pos, price, qty = _take_level(text, pos, end, price_decimals, qty_decimals)
        if pos < 0:
            return pos
        if price == 0:
            return np.int64(Decoded.RANGE)
        if level >= state[LEVELS_MAX]:
            return np.int64(Decoded.LEVELS)
        if word == LEVEL_WORD:
            if slot >= room:
                return np.int64(Decoded.NO_ROOM)
            place = (sequence + slot) & slot_mask
            write_head(words, place, _LEVELS_KIND, 0, state)
        words[place, word] = price
        words[place, word + 1] = qty
        level += 1
        word += 2
        if word == LEVEL_WORD + 2 * LEVELS_PER_SLOT:
            word = LEVEL_WORD
            slot += 1
        byte = load_byte(text, pos)
        if byte != COMMA and byte != BRACKET_END:
            pos = skip_space(text, pos, end)
            byte = load_byte(text, pos)
        if byte == BRACKET_END and pos < end:
            state[LEVELS] = level
            return pos + 1
        if byte != COMMA:
            break
        pos += 1
        if load_byte(text, pos) != BRACKET:
            pos = skip_space(text, pos, end)
    return np.int64(Decoded.SYNTAX)


@njit(cache=True)
def _take_side(text, pos, end, field, symbols, words, slot_mask, sequence, room, state):
    """Read the level array of "b" or "a" at `pos` at once, if all it needs is known by now.

    Returns:
        Position behind it; -1 if it has to wait (nothing remembered of it); NO_ROOM.
    """
    if field == F_B:
        if state[BIDS] >= 0 or has_field(state, F_A):
            return -1
        if resolve_event(text, state) != DEPTH or resolve_symbol(text, symbols, state) < 0:
            return -1
    elif field != F_A or state[BIDS] < 0 or has_field(state, F_A):
        return -1
    after = _take_levels(text, pos, end, symbols, words, slot_mask, sequence, room, state)
    if after == Decoded.NO_ROOM:
        return after
    if after < 0:  # checked as JSON first; then its fault is found again and told
        return -1
    if field == F_B:
        state[BIDS] = state[LEVELS]
    put_field(state, field, T_LEVELS, pos, after)
    return after


@njit(cache=True)
def _take_number(text, pos, end, field, state):
    """Remember the number at `pos` as the value of `field`; return the position behind it."""
    if load_byte(text, pos) == MINUS:
        after = skip_number(text, pos, end)
        put_field(state, field, T_MINUS, pos, after)
        return after
    number, after = take_digits(text, pos)
    kind = T_INT
    byte = load_byte(text, after)
    if number < 0 or byte == POINT or (byte | 32) == _LETTER_E:
        kind = T_LONG if number < 0 else T_REAL
        number = pos
        after = skip_number(text, pos, end)
    elif load_byte(text, pos) == ZERO and after > pos + 1:
        return np.int64(Decoded.SYNTAX)
    put_field(state, field, kind, number, after)
    return after


@njit(cache=True)
def _take_value(text, pos, end, depth, field, symbols, words, slot_mask, sequence, room, state):
    """Remember the value at `pos` of a key that may be read; return the position behind it."""
    byte = load_byte(text, pos)
    if byte == QUOTE:
        after = find_quote(text, pos + 1, end)
        put_field(state, field, T_STRING, pos + 1, after)
        return after + 1 if after >= 0 else after
    if 48 <= byte <= 57 or byte == MINUS:
        return _take_number(text, pos, end, field, state)
    if byte == BRACKET:
        after = _take_side(text, pos, end, field, symbols, words, slot_mask, sequence, room, state)
        if after == -1:
            after = skip_value(text, pos, end, depth)
            put_field(state, field, T_ARRAY, pos, after)
        return after
    if byte == BRACE:
        after = skip_value(text, pos, end, depth)
        put_field(state, field, T_OBJECT, pos, after)
        return after
    after = skip_literal(text, pos, end)
    kind = T_TRUE if byte == _LETTER_T else T_FALSE if byte == _LETTER_F else T_NULL
    put_field(state, field, kind, pos, after)
    return after


@njit(cache=True)
def _scan_message(text, pos, end, depth, symbols, words, slot_mask, sequence, room, state):
    """Take in the members of the event object whose brace is at `pos`.

    Args:
        depth: containers open inside it, itself included.

    Returns:
        Position behind its closing brace, or a status.
    """
    forget_fields(state)
    pos = skip_space(text, pos + 1, end)
    if pos < end and load_byte(text, pos) == BRACE_END:
        return pos + 1
    while pos < end:
        if load_byte(text, pos) != QUOTE:
            break
        key = load_byte(text, pos + 1)
        field = -1
        if load_byte(text, pos + 2) == QUOTE and KEY_FIRST <= key <= KEY_LAST and key != BACKSLASH:
            field = key - KEY_FIRST + 1
            pos += 3
        elif (load_word(text, pos + 1) & _BYTES_3) == _PU_KEY:
            field = F_PU
            pos += 4
        else:
            name = pos + 1
            pos = find_quote(text, name, end)
            if pos < 0:
                return pos
            if pos - name == 4 and load_prefix(text, name, 4) == _DATA_NAME:
                state[HAS_DATA_KEY] = 1
            pos += 1
        if load_byte(text, pos) != COLON:
            pos = skip_space(text, pos, end)
            if load_byte(text, pos) != COLON:
                break
        pos = skip_space(text, pos + 1, end)
        if pos >= end:
            break
        if field >= 0:
            pos = _take_value(
                text, pos, end, depth, field, symbols, words, slot_mask, sequence, room, state
            )
        else:
            pos = skip_value(text, pos, end, depth)
        if pos < 0:
            return pos
        if load_byte(text, pos) != COMMA:
            pos = skip_space(text, pos, end)
            if pos < end and load_byte(text, pos) == BRACE_END:
                return pos + 1
            if pos >= end or load_byte(text, pos) != COMMA:
                break
        pos = skip_space(text, pos + 1, end)
    return np.int64(Decoded.SYNTAX)


@njit(cache=True)
def _scan_envelope(text, pos, end, symbols, words, slot_mask, sequence, room, state):
    """Take in `{"stream":..,"data":{..}}` whose brace is at `pos`, other members passed over.

    Returns:
        Position behind its closing brace, or a status. DATA and STREAM_ say what was there.
    """
    pos = skip_space(text, pos + 1, end)
    while pos < end:
        if load_byte(text, pos) != QUOTE:
            break
        is_stream = is_data = False
        if load_word(text, pos) == _STREAM_KEY:
            is_stream = True
            pos += 8
        elif (load_word(text, pos) & _BYTES_6) == _DATA_KEY:
            is_data = True
            pos += 6
        else:
            pos = find_quote(text, pos + 1, end) + 1
            if pos <= 0:
                return pos - 1
        pos = skip_space(text, pos, end)
        if pos >= end or load_byte(text, pos) != COLON:
            break
        pos = skip_space(text, pos + 1, end)
        if pos >= end:
            break
        if is_data:
            is_object = load_byte(text, pos) == BRACE
            kind = DATA_OBJECT if is_object else DATA_OTHER
            state[DATA] = kind if state[DATA] == DATA_NONE else DATA_TWICE
            if is_object:
                pos = _scan_message(
                    text, pos, end, 2, symbols, words, slot_mask, sequence, room, state
                )
            else:
                pos = skip_value(text, pos, end, 1)
        elif is_stream:
            pos = _take_stream(text, pos, end, state)
        else:
            pos = skip_value(text, pos, end, 1)
        if pos < 0:
            return pos
        pos = skip_space(text, pos, end)
        if pos >= end:
            break
        if load_byte(text, pos) == BRACE_END:
            return pos + 1
        if load_byte(text, pos) != COMMA:
            break
        pos = skip_space(text, pos + 1, end)
    return np.int64(Decoded.SYNTAX)


@njit(cache=True)
def _take_stream(text, pos, end, state):
    """Remember the value of "stream" at `pos`; return the position behind it, or a status."""
    if state[STREAM_FIRST] >= 0 or state[STREAM_TYPE] != 0:
        state[STREAM_TWICE] = 1
    if load_byte(text, pos) != QUOTE:
        state[STREAM_TYPE] = 1
        return skip_value(text, pos, end, 1)
    after = find_quote(text, pos + 1, end)
    if after < 0:
        return after
    state[STREAM_FIRST] = pos + 1
    state[STREAM_END] = after
    return after + 1


@njit(cache=True)
def _scan_frame(text, first, end, symbols, words, slot_mask, sequence, room, state):
    """Take in a whole frame, bare or combined; return 0 or a status."""
    brace = skip_space(text, first, end)
    if brace >= end:
        return np.int64(Decoded.SYNTAX)
    if load_byte(text, brace) != BRACE:
        after = skip_value(text, brace, end, 0)
        if after >= 0 and skip_space(text, after, end) == end:
            return np.int64(Decoded.TYPE)
        return min(after, np.int64(Decoded.SYNTAX)) if after < 0 else np.int64(Decoded.SYNTAX)
    key = skip_space(text, brace + 1, end)
    word = load_word(text, key)
    is_bare = word != _STREAM_KEY and (word & _BYTES_6) != _DATA_KEY
    if is_bare:
        after = _scan_message(text, brace, end, 1, symbols, words, slot_mask, sequence, room, state)
        is_bare = after < 0 or state[HAS_DATA_KEY] == 0
    if not is_bare:
        forget_fields(state)
        after = _scan_envelope(text, brace, end, symbols, words, slot_mask, sequence, room, state)
        if after >= 0 and state[DATA] == DATA_NONE:  # only "stream": a bare event after all
            state[STREAM_FIRST] = -1
            state[STREAM_TWICE] = state[STREAM_TYPE] = 0
            after = _scan_message(
                text, brace, end, 1, symbols, words, slot_mask, sequence, room, state
            )
    if after < 0:
        return after
    return 0 if skip_space(text, after, end) == end else np.int64(Decoded.SYNTAX)


@njit(cache=True)
def _take_depth(text, end, symbols, words, slot_mask, sequence, room, state):
    """Write the depth event that was scanned: the arrays that had to wait, then the header."""
    for field in (F_B, F_A):
        status = check_field(state, field, T_LEVELS)
        if status == Decoded.TYPE and type_of(state, field) == T_ARRAY:
            status = _take_levels(
                text, first_of(state, field), end,
                symbols, words, slot_mask, sequence, room, state,
            )  # fmt: skip
        if status < 0:
            return status
        if field == F_B:
            state[BIDS] = state[LEVELS] if type_of(state, F_B) == T_ARRAY else state[BIDS]
    return write_depth(words, sequence & slot_mask, state)


@njit(cache=True)
def _take_liquidation(text, end, symbols, words, slot_mask, sequence, room, state):
    """Write the liquidation that was scanned; its facts are in the object "o"."""
    event_ns = event_time_of(state)
    status = check_field(state, F_O, T_OBJECT)
    if status < 0:
        return status
    _scan_message(
        text, first_of(state, F_O), end, 3, symbols, words, slot_mask, sequence, room, state
    )
    state[EVENT] = LIQUIDATION
    status = resolve_symbol(text, symbols, state)
    if status >= 0:
        status = event_ns
    if status < 0:
        return status
    return write_liquidation(text, words, sequence & slot_mask, symbols, state, event_ns)


@njit(cache=True)
def _take_event(text, end, symbols, words, slot_mask, sequence, room, state):
    """Write the event whose fields were scanned; return slots written or a status."""
    if state[STREAM_TWICE] != 0 or state[DATA] == DATA_TWICE:
        return np.int64(Decoded.KEY_TWICE)
    if state[STREAM_TYPE] != 0 or state[DATA] == DATA_OTHER:
        return np.int64(Decoded.TYPE)
    if state[DATA] == DATA_NONE and not has_field(state, F_E):
        return np.int64(Decoded.EVENT_UNKNOWN)  # an answer to a request of ours, not an event
    event = resolve_event(text, state)
    if event < 0:
        return event
    if event == DEPTH and state[STREAM_FIRST] >= 0:
        if is_partial_stream(text, state[STREAM_FIRST], state[STREAM_END]):
            return np.int64(Decoded.EVENT_UNKNOWN)
    if room < 1:
        return np.int64(Decoded.NO_ROOM)
    if event == LIQUIDATION:
        return _take_liquidation(text, end, symbols, words, slot_mask, sequence, room, state)
    row = resolve_symbol(text, symbols, state)
    if row < 0:
        return row
    place = sequence & slot_mask
    if event == DEPTH:
        return _take_depth(text, end, symbols, words, slot_mask, sequence, room, state)
    if event == BBO:
        return write_bbo(text, words, place, symbols, state)
    if event == MARK:
        return write_mark(text, words, place, state)
    if event == TRADE:
        status = check_market(text, state)
        if status < 0:
            return status
    return write_trade(text, words, place, symbols, state)


@njit(cache=True)
def _find_loss(text, symbols, state):
    """Set GAP_NEEDED and INSTRUMENT for a refused frame: was it depth, may it have been, whose?"""
    event = np.int64(0)
    if has_field(state, F_E):
        event = resolve_event(text, state)
    state[INSTRUMENT] = -1
    row = -2
    if has_field(state, F_S):
        row = resolve_symbol(text, symbols, state)
    if state[STREAM_FIRST] >= 0:
        if event == 0:
            event = event_of_stream(text, state[STREAM_FIRST], state[STREAM_END])
        if row == -2 or row <= REFUSED:
            row = find_stream_symbol(symbols, text, state[STREAM_FIRST], state[STREAM_END])
            state[INSTRUMENT] = symbols[row, ROW_INSTRUMENT] if row >= 0 else -1
    if event == DEPTH or event == 0 or event <= REFUSED:
        state[GAP_NEEDED] = np.int64(row != Decoded.SYMBOL_UNKNOWN)


@njit(cache=True)
def decode_frame(
    text, first, end, symbols, words, slot_mask, sequence, room, ts_recv_ns, state
):  # fmt: skip
    """Decode one frame into the slots from `sequence` on.

    Args:
        text: uint8[n], read. The frame is text[first:end]; n is at least end + TEXT_SLACK, and
            what lies behind `end` may be anything.
        first, end: half-open range of the frame.
        symbols: int64[m, 8], read. From `symbol_table`.
        words: int64[slot_mask + 1, 8], changed. The slot of a sequence is `sequence & slot_mask`.
        slot_mask: slots of `words` minus one, a power of two minus one.
        sequence: where the message's header slot goes.
        room: slots that may be written from there, at most slot_mask + 1.
        ts_recv_ns: the stamp of the read that brought the frame.
        state: int64[STATE_WORDS], changed. From `new_state`. Answers: INSTRUMENT (id, or -1 if
            none or unknown), KIND (MarketKind of what was written, else 0), GAP_NEEDED (1 if a
            depth message is lost, or may be: of INSTRUMENT, or of any if that is -1).

    Returns:
        Slots written, 1 or more; or a negative `Decoded` status, and nothing written counts:
        above REFUSED the frame was in order, from REFUSED down it was bad.
    """
    assert 0 <= first <= end and end + TEXT_SLACK <= text.shape[0]
    state[INSTRUMENT] = -1
    state[KIND] = state[GAP_NEEDED] = 0
    state[STREAM_FIRST] = -1
    state[STREAM_TWICE] = state[STREAM_TYPE] = state[HAS_DATA_KEY] = 0
    state[DATA] = DATA_NONE
    state[TS_RECV] = ts_recv_ns
    if end - first > state[BYTES_MAX]:
        _scan_frame(
            text, first, first + _SALVAGE_BYTES_MAX,
            symbols, words, slot_mask, sequence, 0, state,
        )  # fmt: skip
        _find_loss(text, symbols, state)
        return np.int64(Decoded.OVERSIZE)
    status = _scan_frame(text, first, end, symbols, words, slot_mask, sequence, room, state)
    if status == 0:
        status = _take_event(text, end, symbols, words, slot_mask, sequence, room, state)
    if status > 0:
        state[KIND] = state[EVENT]
    elif status <= REFUSED or status == Decoded.NO_ROOM:
        _find_loss(text, symbols, state)
    return status

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
    ASKS,
    BIDS,
    BYTES_MAX,
    DATA_COUNT,
    EVENT,
    F_PU,
    FAULT,
    GAP_NEEDED,
    HAS_DATA,
    INSTRUMENT,
    KEY_DATA,
    KEY_FIRST,
    KEY_LAST,
    KEY_OTHER,
    KEY_STREAM,
    KIND,
    LEVELS,
    LEVELS_MAX,
    MESSAGE_DEPTH,
    MESSAGE_FIRST,
    PASS,
    REFUSED,
    ROW,
    STREAM_COUNT,
    STREAM_END,
    STREAM_FIRST,
    T_ARRAY,
    T_FALSE,
    T_INT,
    T_LONG,
    T_MINUS,
    T_NULL,
    T_OBJECT,
    T_REAL,
    T_STRING,
    T_TRUE,
    TS_EVENT,
    Decoded,
    begin_frame,
    begin_message,
    begin_pass,
    check_field,
    first_of,
    has_field,
    put_field,
)
from processes.feed.json_scan import (
    BACKSLASH,
    BRACE,
    BRACE_END,
    BRACKET,
    BRACKET_END,
    COLON,
    COMMA,
    INLINE,
    KERNEL,
    MINUS,
    POINT,
    QUOTE,
    SPACE,
    TEXT_SLACK,
    ZERO,
    find_quote,
    load_byte,
    load_word,
    skip_number,
    skip_space,
    skip_value,
    take_digits,
    take_short_steps,
    take_steps,
)
from processes.feed.symbols import (
    ROW_INSTRUMENT,
    ROW_PRICE_DECIMALS,
    ROW_QTY_DECIMALS,
    find_stream_symbol,
)

_LEVELS_KIND = np.int64(MarketKind.LEVELS)
_NONE, _ONE, _TWO = (np.int64(n) for n in range(3))
_SALVAGE_BYTES_MAX = 4096
_BYTE, _BYTES_2, _BYTES_3, _BYTES_6 = (1 << 8) - 1, (1 << 16) - 1, (1 << 24) - 1, (1 << 48) - 1
_STREAM_KEY, _DATA_KEY = word_of(b'"stream"'), word_of(b'"data"')
_PU_KEY = word_of(b'pu"')
_LEVEL_OPEN, _LEVEL_NEXT, _LEVEL_CLOSE = word_of(b'["'), word_of(b'","'), word_of(b'"]')
_LETTER_E, _LETTER_T, _LETTER_F = 101, 116, 102


@njit(**KERNEL)
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


@njit(**INLINE)
def _take_level(text, pos, end, price_decimals, qty_decimals):
    """Read one [price, quantity] at `pos`; as `_take_level_slowly`, which it falls back on."""
    if (load_word(text, pos) & _BYTES_2) == _LEVEL_OPEN:
        price, at = take_short_steps(text, pos + 2, price_decimals)
        if at >= 0 and (load_word(text, at) & _BYTES_3) == _LEVEL_NEXT:
            qty, at = take_short_steps(text, at + 3, qty_decimals)
            if at >= 0 and (load_word(text, at) & _BYTES_2) == _LEVEL_CLOSE:
                return at + 2, price, qty
    return _take_level_slowly(text, pos, end, price_decimals, qty_decimals)


@njit(**KERNEL)
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
            write_head(words, place, _LEVELS_KIND, _NONE, state)
        words[np.uintp(place), np.uintp(word)] = price
        words[np.uintp(place), np.uintp(word + 1)] = qty
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


@njit(**KERNEL)
def _wants_levels(text, code, symbols, state):
    """Return True if the array of key `code` is the side to read now: bids first, then asks.

    A side that comes too early (before "e" or "s", or asks before bids) waits for another pass.
    """
    if state[FAULT] < 0:
        return False
    if code == F_A:
        return state[BIDS] >= 0 and state[ASKS] < 0
    if code != F_B or state[BIDS] >= 0:
        return False
    if state[EVENT] == 0 and resolve_event(text, state) == DEPTH:
        resolve_symbol(text, symbols, state)
    return state[EVENT] == DEPTH and state[ROW] > 0


@njit(**KERNEL)
def _count_side(state, code, status):
    """Remember what `_take_levels` said of one side."""
    if status < 0:
        state[FAULT] = status
    elif code == F_B:
        state[BIDS] = state[LEVELS]
    else:
        state[ASKS] = state[LEVELS] - state[BIDS]


@njit(**INLINE)
def _take_key(text, pos, end):
    """Read `"key" :` at `pos`.

    Returns:
        (code, position of the value) or (code, status). The code of a key that may be read is its
        field, KEY_STREAM or KEY_DATA; of any other KEY_OTHER.
    """
    word = load_word(text, pos)
    key = (word >> 8) & _BYTE
    if (word >> 16) & _BYTE == QUOTE and KEY_FIRST <= key <= KEY_LAST and key != BACKSLASH:
        code = key - KEY_FIRST + 1
        pos += 3
    elif (word >> 8) & _BYTES_3 == _PU_KEY:
        code = F_PU
        pos += 4
    elif word == _STREAM_KEY:
        code = KEY_STREAM
        pos += 8
    elif word & _BYTES_6 == _DATA_KEY:
        code = KEY_DATA
        pos += 6
    else:
        code = KEY_OTHER
        pos = find_quote(text, pos + 1, end)
        if pos < 0:
            return code, pos
        pos += 1
    if load_byte(text, pos) != COLON:
        pos = skip_space(text, pos, end)
    if pos >= end or load_byte(text, pos) != COLON:
        return code, np.int64(Decoded.SYNTAX)
    pos += 1
    if load_byte(text, pos) <= SPACE:
        pos = skip_space(text, pos, end)
    return code, pos if pos < end else np.int64(Decoded.SYNTAX)


@njit(**INLINE)
def _take_number(text, pos, end, code, state):
    """Remember the number at `pos` as the value of a field; return the position behind it."""
    number, after = take_digits(text, pos)
    byte = load_byte(text, after)
    if number >= 0 and after > pos and byte != POINT and byte | 32 != _LETTER_E:
        put_field(state, code, T_INT, number, after)
        if load_byte(text, pos) == ZERO and after > pos + 1:
            return np.int64(Decoded.SYNTAX)
        return after
    kind = T_REAL
    if number < 0:
        kind = T_LONG
    elif after == pos:
        kind = T_MINUS
    after = skip_number(text, pos, end)
    put_field(state, code, kind, pos, after)
    return after


@njit(**KERNEL)
def _take_other(text, pos, end, depth, code, state):
    """Remember where the array, object or literal at `pos` is; return the position behind it."""
    byte = load_byte(text, pos)
    after = skip_value(text, pos, end, depth)
    kind = T_NULL
    if byte == BRACKET:
        kind = T_ARRAY
    elif byte == BRACE:
        kind = T_OBJECT
    elif byte == _LETTER_T:
        kind = T_TRUE
    elif byte == _LETTER_F:
        kind = T_FALSE
    if code >= 0:
        put_field(state, code, kind, pos, after)
    return after


@njit(**KERNEL)
def _take_envelope(text, pos, end, code, state):
    """Remember the value of "stream", or count a "data" that is no object; pass over the rest."""
    if code == KEY_DATA:
        state[DATA_COUNT] += 1
    elif code == KEY_STREAM:
        state[STREAM_COUNT] += 1
        state[STREAM_FIRST] = -1
        if load_byte(text, pos) == QUOTE:
            after = find_quote(text, pos + 1, end)
            if after < 0:
                return after
            state[STREAM_FIRST] = pos + 1
            state[STREAM_END] = after
            return after + 1
    return skip_value(text, pos, end, _ONE)


@njit(**INLINE)
def _take_value(
    text, pos, end, depth, code, symbols, words, slot_mask, sequence, room, state
):  # fmt: skip
    """Take in the value at `pos` of a member of the message; return the position behind it."""
    byte = load_byte(text, pos)
    if byte == QUOTE:
        after = find_quote(text, pos + 1, end)
        if code >= 0:
            put_field(state, code, T_STRING, pos + 1, after)
        return after + 1 if after >= 0 else after
    if (48 <= byte <= 57 or byte == MINUS) and code >= 0:
        return _take_number(text, pos, end, code, state)
    if byte == BRACKET and _wants_levels(text, code, symbols, state):
        after = _take_levels(text, pos, end, symbols, words, slot_mask, sequence, room, state)
        _count_side(state, code, after)
        if after >= 0:
            put_field(state, code, T_ARRAY, pos, after)
            return after
    return _take_other(text, pos, end, depth, code, state)


@njit(**INLINE)
def _scan_object(
    text, pos, end, depth, is_frame, symbols, words, slot_mask, sequence, room, state
):  # fmt: skip
    """Take in the members of the object whose brace is at `pos`.

    Args:
        depth: containers open inside the object, itself included.
        is_frame: True: the members of its "data" object, if it has one, replace its own.

    Returns:
        Position behind its closing brace, or a status.
    """
    outside = depth - 1
    is_first = True
    pos += 1
    while True:
        if load_byte(text, pos) <= SPACE:
            pos = skip_space(text, pos, end)
        if pos >= end:
            return np.int64(Decoded.SYNTAX)
        if load_byte(text, pos) == QUOTE:
            code, pos = _take_key(text, pos, end)
            if pos < 0:
                return pos
            if is_frame and (code >= KEY_STREAM or state[HAS_DATA] != 0):
                if code == KEY_DATA and load_byte(text, pos) == BRACE and state[DATA_COUNT] == 0:
                    state[DATA_COUNT] = state[HAS_DATA] = 1
                    begin_message(state, pos, _TWO)
                    is_frame = False
                    depth += 1
                    is_first = True
                    pos += 1
                    continue
                pos = _take_envelope(text, pos, end, code, state)
            else:
                if code >= KEY_STREAM:
                    code = KEY_OTHER
                pos = _take_value(
                    text, pos, end, depth, code, symbols, words, slot_mask, sequence, room, state
                )
            if pos < 0:
                return pos
        elif not is_first or load_byte(text, pos) != BRACE_END:
            return np.int64(Decoded.SYNTAX)
        is_first = False
        while True:
            if load_byte(text, pos) <= SPACE:
                pos = skip_space(text, pos, end)
            if pos >= end:
                return np.int64(Decoded.SYNTAX)
            byte = load_byte(text, pos)
            pos += 1
            if byte == COMMA:
                break
            if byte != BRACE_END:
                return np.int64(Decoded.SYNTAX)
            depth -= 1
            if depth == outside:
                return pos
            is_frame = True


@njit(**KERNEL)
def _check_envelope(state):
    """Return 0 if what is around the message is in order, or a status."""
    if state[DATA_COUNT] == 0:
        # A bare object without "e" answers a request or is a snapshot; no event either way.
        return 0 if has_field(state, F_E) else np.int64(Decoded.EVENT_UNKNOWN)
    if state[DATA_COUNT] > 1 or state[STREAM_COUNT] > 1:
        return np.int64(Decoded.KEY_TWICE)
    if state[HAS_DATA] == 0 or (state[STREAM_COUNT] == 1 and state[STREAM_FIRST] < 0):
        return np.int64(Decoded.TYPE)
    return 0


@njit(**INLINE)
def _resolve(text, symbols, state):
    """Remember the event and the instrument; return 0 or a status."""
    status = _check_envelope(state)
    if status < 0:
        return status
    status = resolve_event(text, state)
    if status < 0:
        return status
    if status == DEPTH and state[DATA_COUNT] != 0 and state[STREAM_FIRST] >= 0:
        if is_partial_stream(text, state[STREAM_FIRST], state[STREAM_END]):
            return np.int64(Decoded.EVENT_UNKNOWN)
    if status == LIQUIDATION:
        return check_field(state, F_O, T_OBJECT)
    return min(resolve_symbol(text, symbols, state), _NONE)


@njit(**KERNEL)
def _take_depth(words, place, state):
    """Write a depth event, or ask for another pass (0) if a side of it came too early."""
    status = min(check_field(state, F_B, T_ARRAY), check_field(state, F_A, T_ARRAY))
    if status == 0:
        status = state[FAULT]
    if status < 0:
        return status
    if state[ASKS] < 0:
        begin_pass(state, state[MESSAGE_FIRST], state[MESSAGE_DEPTH])
        return 0
    return write_depth(words, place, state)


@njit(**KERNEL)
def _take_liquidation(text, words, place, symbols, state):
    """Write a liquidation, or ask for a pass (0) over the object "o" that holds its facts."""
    if state[PASS] == 0:
        state[TS_EVENT] = event_time_of(state)
        begin_pass(state, first_of(state, F_O), state[MESSAGE_DEPTH] + 1)
        return 0
    status = resolve_symbol(text, symbols, state)
    if status >= 0:
        status = min(state[TS_EVENT], _NONE)
    if status < 0:
        return status
    return write_liquidation(text, words, place, symbols, state, state[TS_EVENT])


@njit(**INLINE)
def _take_event(text, words, place, room, symbols, state):
    """Write the event that was scanned; return slots written, 0 to scan once more, a status."""
    if state[PASS] == 0:
        status = _resolve(text, symbols, state)
        if status < 0:
            return status
        if room < 1:
            return np.int64(Decoded.NO_ROOM)
    event = state[EVENT]
    if event == DEPTH:
        return _take_depth(words, place, state)
    if event == BBO:
        return write_bbo(text, words, place, symbols, state)
    if event == LIQUIDATION:
        return _take_liquidation(text, words, place, symbols, state)
    if event == MARK:
        return write_mark(text, words, place, state)
    if event == TRADE:
        status = check_market(text, state)
        if status < 0:
            return status
    return write_trade(text, words, place, symbols, state)


@njit(**KERNEL)
def _find_loss(text, symbols, state):
    """Set GAP_NEEDED and INSTRUMENT for a refused frame: was it depth, may it have been, whose?"""
    event = state[EVENT]
    if event == 0 and has_field(state, F_E):
        event = resolve_event(text, state)
    row = np.int64(Decoded.KEY_MISSING)
    if event != LIQUIDATION and has_field(state, F_S):
        row = resolve_symbol(text, symbols, state)
    if state[STREAM_FIRST] >= 0:
        if event == 0 or event <= REFUSED:
            event = event_of_stream(text, state[STREAM_FIRST], state[STREAM_END])
        if row <= REFUSED:
            row = find_stream_symbol(symbols, text, state[STREAM_FIRST], state[STREAM_END])
    state[INSTRUMENT] = symbols[row, ROW_INSTRUMENT] if row > 0 else -1
    may_be_depth = event == DEPTH or event == 0 or event <= REFUSED
    if may_be_depth and (row > 0 or row <= REFUSED):
        state[GAP_NEEDED] = 1


@njit(**KERNEL)
def _refuse_scalar(text, pos, end):
    """Return why a frame that is no object is refused."""
    after = skip_value(text, pos, end, _NONE)
    if after < 0:
        return after
    is_json = skip_space(text, after, end) == end
    return np.int64(Decoded.TYPE) if is_json else np.int64(Decoded.SYNTAX)


@njit(**KERNEL)
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
    begin_frame(state, ts_recv_ns)
    is_oversize = end - first > state[BYTES_MAX]
    if is_oversize:  # looked at only for what it may have been
        end = first + min(state[BYTES_MAX], _SALVAGE_BYTES_MAX)
    pos = skip_space(text, first, end)
    begin_message(state, pos, _ONE)
    status = np.int64(0)
    if pos >= end or load_byte(text, pos) != BRACE:
        status = _refuse_scalar(text, pos, end)
    while status == 0:
        after = _scan_object(
            text, state[MESSAGE_FIRST], end, state[MESSAGE_DEPTH], state[PASS] == 0,
            symbols, words, slot_mask, sequence, room, state,
        )  # fmt: skip
        if after < 0:
            status = after
        elif state[PASS] == 0 and after != end and skip_space(text, after, end) != end:
            status = np.int64(Decoded.SYNTAX)
        else:
            status = _take_event(text, words, sequence & slot_mask, room, symbols, state)
    if is_oversize:
        status = np.int64(Decoded.OVERSIZE)
    if status > 0:
        state[KIND] = state[EVENT]
    elif status <= REFUSED or status == Decoded.NO_ROOM:
        _find_loss(text, symbols, state)
    return status

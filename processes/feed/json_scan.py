"""JSON tokens straight from bytes: strings, numbers, whole values, eight bytes at a time.

A position is an index into `text`; a token function takes the position of the token and returns
the position behind it, or a negative `Scan` status. Nothing at or behind `end` is ever accepted,
but up to TEXT_SLACK bytes behind `end` may be loaded, so the caller's buffer has to have them.

Rules:
    Eight bytes are one int64, first character lowest. Every sum stays below 2^63 in its top lane:
    a signed overflow is undefined, so flags are raised in bit 6 of a lane, not in bit 7.
    Indices become np.uintp at the array, which spares the test for a negative one; no unsigned
    number meets a signed one.
    _nrt=False: the arrays are the caller's and outlive the call. Without it numba counts a
    reference, atomically, in every function that takes one: half of the run time, and of the
    compile time. no_cfunc_wrapper: C code never calls these; a fifth of the compile time.
"""

from enum import IntEnum

import numpy as np
from numba import njit

from common.fixed_point import (
    DIGITS_MAX,
    PARSE_OFF_GRID,
    PARSE_OK,
    PARSE_TOO_LONG,
    POWERS_OF_TEN,
    parse_steps,
)
from shm.bits import lowest_set

KERNEL = {"cache": True, "_nrt": False, "no_cfunc_wrapper": True}
INLINE = KERNEL | {"forceinline": True}
TEXT_SLACK = 64
NESTING_MAX = 32


class Scan(IntEnum):
    """Why a text is not taken; never a position."""

    SYNTAX = -11
    UTF8 = -12
    NESTING = -13
    NUMBER = -17
    NEGATIVE = -18
    OFF_GRID = -19
    TOO_LONG = -20


SPACE, QUOTE, BACKSLASH, COMMA, COLON, MINUS, POINT, ZERO = 32, 34, 92, 44, 58, 45, 46, 48
BRACE, BRACE_END, BRACKET, BRACKET_END = 123, 125, 91, 93

_LANES_01 = 0x0101010101010101
_BIT_6 = _LANES_01 * 0x40
_LOW_6 = _LANES_01 * 0x3F
_ZEROS = _LANES_01 * 0x30
_DIGIT_CARRY = _LANES_01 * 0x3B
_QUOTES = _LANES_01 * QUOTE
_BACKSLASHES = _LANES_01 * BACKSLASH
_EVEN_BYTES = 0x00FF00FF00FF00FF
_LOW_32 = 0xFFFFFFFF
_LOW_16_OF_32 = 0x0000FFFF0000FFFF
_TRUE = int.from_bytes(b"true", "little")
_FALSE = int.from_bytes(b"false", "little")
_NULL = int.from_bytes(b"null", "little")
_FIVE_BYTES = (1 << 40) - 1
_FAST_DECIMALS_MAX = DIGITS_MAX - 7  # seven digits scaled by it stay below 10^18


@njit(**INLINE)
def load_byte(text, pos):
    """Return text[pos] as int64."""
    return np.int64(text[np.uintp(pos)])


@njit(**INLINE)
def load_word(text, pos):
    """Return text[pos:pos+8] as one int64, first byte lowest; compiles to one load."""
    return (
        np.int64(text[np.uintp(pos)])
        | np.int64(text[np.uintp(pos + 1)]) << 8
        | np.int64(text[np.uintp(pos + 2)]) << 16
        | np.int64(text[np.uintp(pos + 3)]) << 24
        | np.int64(text[np.uintp(pos + 4)]) << 32
        | np.int64(text[np.uintp(pos + 5)]) << 40
        | np.int64(text[np.uintp(pos + 6)]) << 48
        | np.int64(text[np.uintp(pos + 7)]) << 56
    )


@njit(**INLINE)
def load_prefix(text, pos, count):
    """Return text[pos:pos+count] as one int64, zero-filled; `count` below 1 gives 0."""
    if count <= 0:
        return 0
    if count >= 8:
        return load_word(text, pos)
    return load_word(text, pos) & ((1 << (8 * count)) - 1)


@njit(**INLINE)
def skip_space(text, pos, end):
    """Return the first position from `pos` on that is no JSON whitespace, at most `end`."""
    while pos < end:
        byte = load_byte(text, pos)
        if byte > 32 or not (byte == 32 or byte == 10 or byte == 13 or byte == 9):
            break
        pos += 1
    return pos


@njit(**INLINE)
def _flag_not_digit(lanes):
    """Flag (bit 6 of a lane) every byte of `lanes` = word ^ "00000000" that is above 9."""
    half = lanes >> 1
    return (((half & _LOW_6) + _DIGIT_CARRY) | half) & _BIT_6


@njit(**INLINE)
def _flag_not_zero(lanes):
    return (((lanes & _LOW_6) + _LOW_6) | lanes | (lanes >> 1)) & _BIT_6


@njit(**INLINE)
def _flag_special(word):
    """Flag quotes, backslashes, control characters and bytes from 128 on."""
    ordinary = _flag_not_zero(word ^ _QUOTES) & _flag_not_zero(word ^ _BACKSLASHES)
    ordinary &= (word << 1) | word | (word >> 1)  # below 32: bits 5, 6 and 7 are clear
    return (~ordinary | (word >> 1)) & _BIT_6


@njit(**INLINE)
def _eight_digits(lanes):
    """Return the number whose decimal digits are the bytes of `lanes`, first byte leading.

    Lanes are 0 to 9: no product below reaches the sign bit.
    """
    pairs = (lanes * 10 + (lanes >> 8)) & _EVEN_BYTES
    fours = (pairs * 100 + (pairs >> 16)) & _LOW_16_OF_32
    return (fours & _LOW_32) * 10000 + (fours >> 32)


@njit(**KERNEL)
def _skip_utf8(text, pos, end):
    """Return the position behind the multi-byte UTF-8 character at `pos`, or Scan.UTF8.

    The table of well-formed sequences: Unicode standard, table 3-7.
    """
    lead = load_byte(text, pos)
    low, high = 0x80, 0xBF
    if 0xC2 <= lead <= 0xDF:
        count = 1
    elif 0xE0 <= lead <= 0xEF:
        count = 2
        if lead == 0xE0:
            low = 0xA0
        elif lead == 0xED:
            high = 0x9F
    elif 0xF0 <= lead <= 0xF4:
        count = 3
        if lead == 0xF0:
            low = 0x90
        elif lead == 0xF4:
            high = 0x8F
    else:
        return np.int64(Scan.UTF8)
    if pos + count >= end:
        return np.int64(Scan.UTF8)
    for i in range(1, count + 1):
        byte = load_byte(text, pos + i)
        if byte < low or byte > high:
            return np.int64(Scan.UTF8)
        low, high = 0x80, 0xBF
    return pos + count + 1


@njit(**KERNEL)
def _skip_escape(text, pos, end):
    """Return the position behind the escape whose backslash is at `pos`, or Scan.SYNTAX."""
    if pos + 1 >= end:
        return np.int64(Scan.SYNTAX)
    byte = load_byte(text, pos + 1)
    if byte == 117:  # u
        if pos + 6 > end:
            return np.int64(Scan.SYNTAX)
        for i in range(pos + 2, pos + 6):
            digit = load_byte(text, i)
            if not (48 <= digit <= 57 or 65 <= digit <= 70 or 97 <= digit <= 102):
                return np.int64(Scan.SYNTAX)
        return pos + 6
    if byte in (QUOTE, BACKSLASH, 47, 98, 102, 110, 114, 116):  # " \ / b f n r t
        return pos + 2
    return np.int64(Scan.SYNTAX)


@njit(**KERNEL)
def find_quote(text, pos, end):
    """Return the position of the quote that ends the string whose content begins at `pos`.

    Escapes and UTF-8 are checked, not translated.

    Returns:
        Position of the closing quote, Scan.SYNTAX (no end, a control character, a bad escape) or
        Scan.UTF8.
    """
    while pos < end:
        special = _flag_special(load_word(text, pos))
        if special == 0:
            pos += 8
            continue
        pos += lowest_set(special) >> 3
        if pos >= end:
            break
        byte = load_byte(text, pos)
        if byte == QUOTE:
            return pos
        if byte == BACKSLASH:
            pos = _skip_escape(text, pos, end)
        elif byte >= 128:
            pos = _skip_utf8(text, pos, end)
        else:
            break
        if pos < 0:
            return pos
    return np.int64(Scan.SYNTAX)


@njit(**INLINE)
def take_digits(text, pos):
    """Read the run of ASCII digits at `pos`.

    Returns:
        (number, position behind it); (Scan.TOO_LONG, position) beyond DIGITS_MAX digits. A run
        that touches `end` is the caller's to refuse; at most 24 bytes are loaded.
    """
    number = 0
    for i in range(3):
        lanes = load_word(text, pos + 8 * i) ^ _ZEROS
        stop = _flag_not_digit(lanes)
        if stop == 0:
            if i < 2:
                number = number * 100_000_000 + _eight_digits(lanes)
            continue
        count = lowest_set(stop) >> 3
        if 8 * i + count > DIGITS_MAX:
            break
        if count > 0:
            tail = _eight_digits(lanes << (64 - 8 * count))
            number = number * POWERS_OF_TEN[count] + tail
        return number, pos + 8 * i + count
    return np.int64(Scan.TOO_LONG), pos


@njit(**KERNEL)
def skip_number(text, pos, end):
    """Return the position behind the JSON number at `pos`, or Scan.SYNTAX."""
    if pos < end and load_byte(text, pos) == MINUS:
        pos += 1
    first = pos
    while pos < end and 48 <= load_byte(text, pos) <= 57:
        pos += 1
    if pos == first or (load_byte(text, first) == ZERO and pos > first + 1):
        return np.int64(Scan.SYNTAX)
    if pos < end and load_byte(text, pos) == POINT:
        pos += 1
        first = pos
        while pos < end and 48 <= load_byte(text, pos) <= 57:
            pos += 1
        if pos == first:
            return np.int64(Scan.SYNTAX)
    if pos < end and (load_byte(text, pos) | 32) == 101:  # e, E
        pos += 1
        if pos < end and (load_byte(text, pos) == 43 or load_byte(text, pos) == MINUS):
            pos += 1
        first = pos
        while pos < end and 48 <= load_byte(text, pos) <= 57:
            pos += 1
        if pos == first:
            return np.int64(Scan.SYNTAX)
    return pos


@njit(**KERNEL)
def skip_literal(text, pos, end):
    """Return the position behind true, false or null at `pos`, or Scan.SYNTAX."""
    word = load_word(text, pos)
    if (word & _LOW_32) == _TRUE or (word & _LOW_32) == _NULL:
        pos += 4
    elif (word & _FIVE_BYTES) == _FALSE:
        pos += 5
    else:
        return np.int64(Scan.SYNTAX)
    return pos if pos <= end else np.int64(Scan.SYNTAX)


@njit(**KERNEL)
def _skip_key(text, pos, end):
    """Return the position behind `"key" :` at `pos`, spaces before it allowed, or a status."""
    pos = skip_space(text, pos, end)
    if pos >= end or load_byte(text, pos) != QUOTE:
        return np.int64(Scan.SYNTAX)
    pos = find_quote(text, pos + 1, end)
    if pos < 0:
        return pos
    pos = skip_space(text, pos + 1, end)
    if pos >= end or load_byte(text, pos) != COLON:
        return np.int64(Scan.SYNTAX)
    return pos + 1


@njit(**KERNEL)
def skip_scalar(text, pos, end):
    """Return the position behind the string, number or literal at `pos`, or a Scan status."""
    byte = load_byte(text, pos)
    if byte == QUOTE:
        pos = find_quote(text, pos + 1, end)
        return pos + 1 if pos >= 0 else pos
    if byte == MINUS or 48 <= byte <= 57:
        return skip_number(text, pos, end)
    return skip_literal(text, pos, end)


@njit(**KERNEL)
def skip_value(text, pos, end, depth):
    """Check and pass over any JSON value.

    Args:
        text: uint8[n], read.
        pos: where it begins; spaces before it are allowed.
        end: end of the text.
        depth: how many containers are open around it; at most NESTING_MAX with its own.

    Returns:
        Position behind it, Scan.SYNTAX, Scan.UTF8 or Scan.NESTING.
    """
    outside = depth
    objects = 0  # bit d: the container at depth d is an object
    while True:
        pos = skip_space(text, pos, end)
        if pos >= end:
            return np.int64(Scan.SYNTAX)
        byte = load_byte(text, pos)
        if byte == BRACE or byte == BRACKET:
            depth += 1
            if depth > NESTING_MAX:
                return np.int64(Scan.NESTING)
            is_object = np.int64(byte == BRACE)
            objects = (objects & ~(1 << depth)) | (is_object << depth)
            after = skip_space(text, pos + 1, end)
            if after >= end:
                return np.int64(Scan.SYNTAX)
            if load_byte(text, after) != byte + 2:  # not empty: a value comes first
                pos = _skip_key(text, after, end) if is_object else after
                if pos < 0:
                    return pos
                continue
            pos = after
        else:
            pos = skip_scalar(text, pos, end)
            if pos < 0 or depth == outside:
                return pos
            pos = skip_space(text, pos, end)
        while True:  # pos is behind a value, or at the end of an empty container
            if pos >= end:
                return np.int64(Scan.SYNTAX)
            byte = load_byte(text, pos)
            is_object = (objects >> depth) & 1
            if byte == COMMA:
                pos = _skip_key(text, pos + 1, end) if is_object else pos + 1
                if pos < 0:
                    return pos
                break
            if byte != (BRACE_END if is_object else BRACKET_END):
                return np.int64(Scan.SYNTAX)
            depth -= 1
            pos += 1
            if depth == outside:
                return pos
            pos = skip_space(text, pos, end)


@njit(**INLINE)
def _join_digits(lanes, whole, length, decimals):
    """Return the steps of a decimal of `length` characters in one word, or -1 off the grid.

    Args:
        lanes: word ^ "00000000"; lane `whole` is the point, the other ones up to `length` digits.
    """
    low = (1 << (8 * whole)) - 1
    lanes = (lanes & low) | ((lanes >> 8) & ~low)
    digits = length - 1
    finer = digits - whole - decimals
    if finer <= 0:
        return _eight_digits(lanes << (64 - 8 * digits)) * POWERS_OF_TEN[-finer]
    digits -= finer
    if (lanes >> (8 * digits)) & ((1 << (8 * finer)) - 1) != 0:
        return -1
    return _eight_digits(lanes << (64 - 8 * digits))


@njit(**KERNEL)
def _join_words(text, pos, decimals):
    """As `take_short_steps`, for a decimal of more than eight characters."""
    lanes = load_word(text, pos) ^ _ZEROS
    stop = _flag_not_digit(lanes)
    whole = lowest_set(stop) >> 3 if stop != 0 else 0
    if whole == 0 or load_byte(text, pos + whole) != POINT:
        return 0, -1
    at = pos + whole + 1
    steps = _eight_digits(lanes << (64 - 8 * whole)) * POWERS_OF_TEN[decimals]
    lanes = load_word(text, at) ^ _ZEROS
    stop = _flag_not_digit(lanes)
    if stop == 0:
        return 0, -1
    fraction = lowest_set(stop) >> 3
    at += fraction
    if fraction == 0 or load_byte(text, at) != QUOTE:
        return 0, -1
    if fraction > decimals:
        finer = fraction - decimals
        if (lanes >> (8 * decimals)) & ((1 << (8 * finer)) - 1) != 0:
            return 0, -1
        fraction = decimals
    if fraction > 0:
        steps += _eight_digits(lanes << (64 - 8 * fraction)) * POWERS_OF_TEN[decimals - fraction]
    return steps, at


@njit(**INLINE)
def take_short_steps(text, pos, decimals):
    """Read the plain decimal at `pos` that a quote ends, of up to seven digits a side.

    Where it ends depends on the quote alone, so that the next number can be begun before this one
    is converted.

    Returns:
        (steps, position of the quote), or (0, -1): longer, off the grid or not a number; the
        caller looks again, slowly.
    """
    word = load_word(text, pos)
    quotes = ~_flag_not_zero(word ^ _QUOTES) & _BIT_6
    lanes = word ^ _ZEROS
    stop = _flag_not_digit(lanes)
    if decimals > _FAST_DECIMALS_MAX:
        return 0, -1
    if quotes == 0:
        if load_byte(text, pos + 8) != QUOTE:
            return _join_words(text, pos, decimals)
        length = 8
    else:
        length = lowest_set(quotes) >> 3
        stop &= (quotes & -quotes) - 1
        if stop == 0 and length > 0:
            steps = _eight_digits(lanes << (64 - 8 * length)) * POWERS_OF_TEN[decimals]
            return steps, pos + length
    if stop == 0 or stop & (stop - 1) != 0:
        return 0, -1
    whole = lowest_set(stop) >> 3
    if whole == 0 or whole + 1 == length or load_byte(text, pos + whole) != POINT:
        return 0, -1
    steps = _join_digits(lanes, whole, length, decimals)
    return (steps, pos + length) if steps >= 0 else (0, -1)


@njit(**KERNEL)
def take_steps(text, pos, end, decimals):
    """Read the string content at `pos` as an unsigned decimal, exactly.

    Args:
        text: uint8[n], read.
        pos: behind the opening quote.
        end: end of the text.
        decimals: decimals of the grid, 0 to DECIMALS_MAX.

    Returns:
        (steps, position of the closing quote), or (status, -1): Scan.NUMBER (not digits with at
        most one point between them), Scan.NEGATIVE, Scan.OFF_GRID, Scan.TOO_LONG, Scan.SYNTAX or
        Scan.UTF8. A position at or behind `end` is the caller's to refuse.
    """
    steps, at = take_short_steps(text, pos, decimals)
    if at >= 0:
        return steps, at
    at = find_quote(text, pos, end)
    if at < 0:
        return at, -1
    if at == pos:
        return np.int64(Scan.NUMBER), -1
    if load_byte(text, pos) == MINUS:
        return np.int64(Scan.NEGATIVE), -1
    if load_byte(text, pos) == POINT or load_byte(text, at - 1) == POINT:
        return np.int64(Scan.NUMBER), -1
    steps, status = parse_steps(text, pos, at, decimals)
    if status == PARSE_OK:
        return steps, at
    if status == PARSE_OFF_GRID:
        return np.int64(Scan.OFF_GRID), -1
    if status == PARSE_TOO_LONG:
        return np.int64(Scan.TOO_LONG), -1
    return np.int64(Scan.NUMBER), -1

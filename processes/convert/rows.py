"""CSV text to rows of int64 words, in a kernel: one line is a row, or a fault.

Rules:
    Prices and quantities are exact: grid steps from their digits, an exponent included.
    A row is taken whole or not at all; what is wrong with it is told by line, column and reason.
"""

from enum import IntEnum

import numpy as np
from numba import njit

from common.fixed_point import (
    DIGITS_MAX,
    INT64_MAX,
    PARSE_CHARACTER,
    PARSE_EMPTY,
    PARSE_OFF_GRID,
    PARSE_OK,
    PARSE_TOO_LONG,
    POWERS_OF_TEN,
    parse_steps,
)
from processes.convert.columns import INSTRUMENT, LINE, Type
from processes.feed.symbols import (
    ROW_INSTRUMENT,
    ROW_PRICE_DECIMALS,
    ROW_QTY_DECIMALS,
    find_symbol,
)

COLUMNS_MAX = 256
FAULTS_KEPT = 16
EXPONENT_MAX = 30
PERCENT_DECIMALS = 4


class Fault(IntEnum):
    """Why a row is no row."""

    EMPTY = -1
    CHARACTER = -2
    OFF_GRID = -3
    TOO_LONG = -4
    COLUMNS = -5
    ZERO = -6
    TIME = -7
    WORD = -8
    SYMBOL = -9


# Words of a reading: what is done, and what Python is to look at.
LINES = 0  # read so far, blank ones too; the next one is this plus 1
FAULT_COUNT = 1  # in this block; the first FAULTS_KEPT are described
FOREIGN = 2  # rows of symbols that are not wanted
SYMBOL_FIRST, SYMBOL_END = 3, 4  # LOOK: a symbol that is not registered
READING_WORDS = 8
# Words of a fault.
FAULT_LINE, FAULT_FIRST, FAULT_END, FAULT_COLUMN, FAULT_STATUS, FAULT_PLACE = range(6)
FAULT_WORDS = 6

DONE, FULL, LOOK = 0, 1, 2
NO_ROW, ROW = 0, 1
_NEW_LINE, _RETURN, _SPACE, _COMMA = 10, 13, 32, 44
_ZERO, _MINUS, _PLUS, _POINT, _COLON = 48, 45, 43, 46, 58
_LETTER_E, _LETTER_T, _LETTER_Z, _LOWER = 101, 116, 122, 32
_SECONDS_END, _MS_END, _US_END = 10**11, 10**14, 10**17
_DAYS_TO_1970 = 719_468


def _word(text: str) -> int:
    """Return up to seven letters as one number, first one lowest."""
    return int.from_bytes(text.encode(), "little")


_BUY, _SELL, _BID, _ASK = _word("buy"), _word("sell"), _word("bid"), _word("ask")
_B, _S, _A, _UNKNOWN = _word("b"), _word("s"), _word("a"), _word("unknown")
_TRUE, _FALSE, _ONE, _NULL = _word("true"), _word("false"), _word("1"), _word("0")


@njit(cache=True)
def read_decimal(text, first, end, decimals):
    """Convert a decimal number, with an exponent or without, to grid steps.

    Args, Returns: as `parse_steps`.
    """
    mantissa_end = first
    while mantissa_end < end and (np.int64(text[mantissa_end]) | _LOWER) != _LETTER_E:
        mantissa_end += 1
    if mantissa_end == end:
        return parse_steps(text, first, end, decimals)
    pos = mantissa_end + 1
    sign = 1
    if pos < end and (text[pos] == _MINUS or text[pos] == _PLUS):
        sign = -1 if text[pos] == _MINUS else 1
        pos += 1
    if pos == end or end - pos > 3:
        return 0, PARSE_CHARACTER
    exponent = 0
    for i in range(pos, end):
        digit = np.int64(text[i]) - _ZERO
        if digit < 0 or digit > 9:
            return 0, PARSE_CHARACTER
        exponent = exponent * 10 + digit
    exponent *= sign
    if abs(exponent) > EXPONENT_MAX:
        return 0, PARSE_TOO_LONG
    # The mantissa as an integer of as many decimals as it is written with, then shifted.
    written = 0
    for i in range(first, mantissa_end):
        if text[i] == _POINT:
            written = mantissa_end - i - 1
    steps, status = parse_steps(text, first, mantissa_end, min(written, DIGITS_MAX))
    if status != PARSE_OK or steps == 0:
        return 0, status
    shift = decimals + exponent - min(written, DIGITS_MAX)
    while shift < 0:
        if steps % 10 != 0:
            return 0, PARSE_OFF_GRID
        steps //= 10
        shift += 1
    if shift > DIGITS_MAX or steps > (POWERS_OF_TEN[DIGITS_MAX] - 1) // POWERS_OF_TEN[shift]:
        return 0, PARSE_TOO_LONG
    return steps * POWERS_OF_TEN[shift], PARSE_OK


@njit(cache=True)
def read_integer(text, first, end):
    """Return (number, PARSE_OK) of plain digits below 2^63, or (0, status)."""
    number = 0
    for i in range(first, end):
        digit = np.int64(text[i]) - _ZERO
        if digit < 0 or digit > 9:
            return 0, PARSE_CHARACTER
        if number > (INT64_MAX - digit) // 10:
            return 0, PARSE_TOO_LONG
        number = number * 10 + digit
    return number, (PARSE_OK if end > first else PARSE_EMPTY)


@njit(cache=True)
def read_time(text, first, end):
    """Convert a stamp to nanoseconds since 1970.

    Digits, with decimals or without, whose magnitude tells the unit; or YYYY-MM-DD, T or a space,
    HH:MM:SS, with decimals or without, UTC, Z or nothing behind it.

    Returns:
        (nanoseconds, PARSE_OK) or (0, Fault.TIME).
    """
    wrong = np.int64(Fault.TIME)
    if end - first >= 19 and text[first + 4] == _MINUS:
        return read_date_time(text, first, end)
    point = first
    while point < end and text[point] != _POINT:
        point += 1
    whole, status = read_integer(text, first, point)
    if status != PARSE_OK:
        return 0, wrong
    if whole < _SECONDS_END:
        unit_ns = 1_000_000_000
    elif whole < _MS_END:
        unit_ns = 1_000_000
    elif whole < _US_END:
        unit_ns = 1_000
    else:
        unit_ns = 1
    fraction_ns, status = read_fraction(text, point, end, unit_ns)
    if status != PARSE_OK or whole > (INT64_MAX - unit_ns) // unit_ns:
        return 0, wrong
    return whole * unit_ns + fraction_ns, PARSE_OK


@njit(cache=True)
def read_fraction(text, point, end, unit_ns):
    """Return (nanoseconds, PARSE_OK) of the decimals behind `point`, cut below one nanosecond."""
    total = 0
    part_ns = unit_ns
    if point + 1 == end:
        return 0, np.int64(Fault.TIME)
    for i in range(point + 1, end):
        digit = np.int64(text[i]) - _ZERO
        if digit < 0 or digit > 9:
            return 0, np.int64(Fault.TIME)
        part_ns //= 10
        total += digit * part_ns
    return total, PARSE_OK


@njit(cache=True)
def read_date_time(text, first, end):
    """Convert YYYY-MM-DD HH:MM:SS to nanoseconds since 1970; as `read_time`."""
    wrong = np.int64(Fault.TIME)
    year, year_status = read_integer(text, first, first + 4)
    month, month_status = read_integer(text, first + 5, first + 7)
    day, day_status = read_integer(text, first + 8, first + 10)
    hour, hour_status = read_integer(text, first + 11, first + 13)
    minute, minute_status = read_integer(text, first + 14, first + 16)
    second, second_status = read_integer(text, first + 17, first + 19)
    if min(year_status, month_status, day_status, hour_status, minute_status, second_status) < 0:
        return 0, wrong
    between = np.int64(text[first + 10])
    if text[first + 7] != _MINUS or not (between == _SPACE or between | _LOWER == _LETTER_T):
        return 0, wrong
    if text[first + 13] != _COLON or text[first + 16] != _COLON:
        return 0, wrong
    if year < 1970 or year > 2200 or month < 1 or month > 12 or day < 1 or day > 31:
        return 0, wrong
    if hour > 23 or minute > 59 or second > 60:
        return 0, wrong
    if end > first + 19 and np.int64(text[end - 1]) | _LOWER == _LETTER_Z:
        end -= 1
    fraction_ns = 0
    if end > first + 19:
        if text[first + 19] != _POINT:
            return 0, wrong
        fraction_ns, status = read_fraction(text, first + 19, end, 1_000_000_000)
        if status != PARSE_OK:
            return 0, wrong
    seconds = (days_from_civil(year, month, day) * 24 + hour) * 3600 + minute * 60 + second
    return seconds * 1_000_000_000 + fraction_ns, PARSE_OK


@njit(cache=True)
def days_from_civil(year, month, day):
    """Return the days from 1970-01-01 to a date of the Gregorian calendar (H. Hinnant's method)."""
    if month <= 2:
        year -= 1
    era = year // 400
    year_of_era = year - era * 400
    day_of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return era * 146_097 + day_of_era - _DAYS_TO_1970


@njit(cache=True)
def read_word(text, first, end):
    """Return up to seven letters in lower case as `_word` does, -1 if there are more."""
    if end - first > 7:
        return -1
    word = 0
    for i in range(first, end):
        byte = np.int64(text[i])
        if 65 <= byte <= 90:
            byte |= _LOWER
        word |= byte << (8 * (i - first))
    return word


@njit(cache=True)
def read_side(text, first, end):
    """Return (Side, PARSE_OK) of a word of the taker or of the book; 0 for an unknown one."""
    word = read_word(text, first, end)
    if word == _BUY or word == _BID or word == _B:
        return 1, PARSE_OK
    if word == _SELL or word == _ASK or word == _S or word == _A:
        return -1, PARSE_OK
    if word == _UNKNOWN or word == 0:
        return 0, PARSE_OK
    return 0, np.int64(Fault.WORD)


@njit(cache=True)
def read_truth(text, first, end):
    """Return (1 or 0, PARSE_OK), or (0, Fault.WORD)."""
    word = read_word(text, first, end)
    if word == _TRUE or word == _ONE:
        return 1, PARSE_OK
    if word == _FALSE or word == _NULL:
        return 0, PARSE_OK
    return 0, np.int64(Fault.WORD)


@njit(cache=True)
def read_field(text, first, end, kind, price_decimals, qty_decimals):
    """Convert the text of one column.

    Args:
        kind: Type of the column, other than SKIP and SYMBOL.

    Returns:
        (value, PARSE_OK) or (0, a Fault).
    """
    value, status = np.int64(0), np.int64(PARSE_OK)
    if kind == Type.TIME:
        value, status = read_time(text, first, end)
    elif kind == Type.PRICE:
        value, status = read_decimal(text, first, end, price_decimals)
        if status == PARSE_OK and value == 0:
            status = np.int64(Fault.ZERO)
    elif kind == Type.QTY or kind == Type.LEVEL_QTY:
        value, status = read_decimal(text, first, end, qty_decimals)
        if status == PARSE_OK and value == 0 and kind == Type.QTY:
            status = np.int64(Fault.ZERO)
    elif kind == Type.PRICE_OR_NONE:
        if end > first:
            value, status = read_decimal(text, first, end, price_decimals)
    elif kind == Type.QTY_OR_NONE:
        if end > first:
            value, status = read_decimal(text, first, end, qty_decimals)
    elif kind == Type.NUMBER:
        value, status = read_integer(text, first, end)
    elif kind == Type.ID:
        value, status = read_integer(text, first, end)
        if status != PARSE_OK:  # not every venue's ids are numbers
            value, status = np.int64(-1), np.int64(PARSE_OK)
    elif kind == Type.SIDE:
        value, status = read_side(text, first, end)
    elif kind == Type.BOOK_SIDE:
        value, status = read_side(text, first, end)
        if value == 0:
            status = np.int64(Fault.WORD)
    elif kind == Type.BUYER_IS_MAKER:
        value, status = read_truth(text, first, end)
        value = 1 - 2 * value
    elif kind == Type.TRUTH:
        value, status = read_truth(text, first, end)
    elif kind == Type.PERCENT:
        is_negative = end > first and text[first] == _MINUS
        value, status = read_decimal(
            text, first + 1 if is_negative else first, end, PERCENT_DECIMALS
        )  # fmt: skip
        value = -value if is_negative else value
    elif kind == Type.NOTIONAL:
        value, status = read_decimal(text, first, end, price_decimals + qty_decimals)
    return value, status


@njit(cache=True)
def split_fields(text, first, end, fields):
    """Find the fields between commas.

    Args:
        fields: int64[n, 2], changed: first and end of each.

    Returns:
        How many there are, at most n.
    """
    count = 0
    start = first
    for pos in range(first, end + 1):
        if pos == end or text[pos] == _COMMA:
            if count == fields.shape[0]:
                return count
            fields[count, 0] = start
            fields[count, 1] = pos
            count += 1
            start = pos + 1
    return count


@njit(cache=True)
def tell_fault(fault, reading, first, end, column, status, place):
    """Describe what is wrong with the line that is read, and count it.

    Args:
        fault: int64[FAULT_WORDS], changed.
        reading: int64[READING_WORDS], changed.
    """
    fault[FAULT_LINE] = reading[LINES] + 1
    fault[FAULT_FIRST], fault[FAULT_END] = first, end
    fault[FAULT_COLUMN], fault[FAULT_STATUS] = column, status
    fault[FAULT_PLACE] = place
    reading[FAULT_COUNT] += 1


@njit(cache=True)
def read_line(text, first, end, plan, symbol_column, symbols, only, fields, row, fault, reading):
    """Convert one line to one row; Args as in `read_rows`.

    Returns:
        ROW, NO_ROW (a fault, or a symbol that is not wanted) or LOOK.
    """
    found = split_fields(text, first, end, fields)
    if found != plan.shape[0]:
        tell_fault(fault, reading, first, end, found, np.int64(Fault.COLUMNS), 0)
        return NO_ROW
    place = only
    if symbol_column >= 0:
        symbol_first, symbol_end = fields[symbol_column, 0], fields[symbol_column, 1]
        place = find_symbol(symbols, text, symbol_first, symbol_end)
        if place < 0 and not may_be_symbol(text, symbol_first, symbol_end):
            status = np.int64(Fault.SYMBOL)
            tell_fault(fault, reading, symbol_first, symbol_end, symbol_column, status, 0)
            return NO_ROW
        if only == 0 and place < 0:
            reading[SYMBOL_FIRST], reading[SYMBOL_END] = symbol_first, symbol_end
            return LOOK
        if place < 0 or (only != 0 and place != only):
            reading[FOREIGN] += 1
            return NO_ROW
    price_decimals = symbols[place, ROW_PRICE_DECIMALS]
    qty_decimals = symbols[place, ROW_QTY_DECIMALS]
    row[INSTRUMENT] = symbols[place, ROW_INSTRUMENT]
    row[LINE] = reading[LINES] + 1
    for column in range(plan.shape[0]):
        kind = plan[column, 0]
        if kind == Type.SKIP or kind == Type.SYMBOL:
            continue
        start, behind = fields[column, 0], fields[column, 1]
        value, status = read_field(text, start, behind, kind, price_decimals, qty_decimals)
        if status != PARSE_OK:
            tell_fault(fault, reading, start, behind, column, status, place)
            return NO_ROW
        row[plan[column, 1]] = value
    return ROW


@njit(cache=True)
def read_rows(text, pos, end, plan, symbol_column, symbols, only, fields, rows, faults, reading):
    """Convert lines to rows.

    Args:
        text: uint8[n], read.
        pos, end: where the lines are.
        plan: int64[columns, 2], read. Type and word of each column of the file.
        symbol_column: of the plan; -1: all rows are of the symbol at `only`.
        symbols: int64[m, 8], read. The symbols that are registered.
        only: row of `symbols` of the only symbol wanted; 0: all are.
        fields: int64[columns + 1, 2], changed. Scratch.
        rows: int64[n, words], changed. Words without a column stay as they are.
        faults: int64[FAULTS_KEPT + 1, FAULT_WORDS], changed. The last one is scratch.
        reading: int64[READING_WORDS], changed.

    Returns:
        (position, rows written, DONE, FULL or LOOK). LOOK: the line at `position` is of a symbol
        that is not registered; register it and read on.
    """
    count = 0
    while pos < end:
        line_end = pos
        while line_end < end and text[line_end] != _NEW_LINE:
            line_end += 1
        last = line_end
        while last > pos and (text[last - 1] == _RETURN or text[last - 1] == _SPACE):
            last -= 1
        if last > pos:
            if count == rows.shape[0]:
                return pos, count, FULL
            status = read_line(
                text, pos, last, plan, symbol_column, symbols, only, fields, rows[count],
                faults[min(reading[FAULT_COUNT], FAULTS_KEPT)], reading,
            )  # fmt: skip
            if status == LOOK:
                return pos, count, LOOK
            count += status
        reading[LINES] += 1
        pos = min(line_end + 1, end)
    return pos, count, DONE


@njit(cache=True)
def may_be_symbol(text, first, end):
    """Return True for 1 to 24 capitals, digits and _, as `check_symbol`."""
    for i in range(first, end):
        byte = text[i]
        if not (65 <= byte <= 90 or 48 <= byte <= 57 or byte == 95):
            return False
    return 0 < end - first <= 24

"""What a decoder answers and remembers: statuses, the state array, and the fields of a message.

A message's fields lie in the state array by the letter of their key: type, then the number of an
integer or the first and end byte of anything else. Two bit masks say which keys came, and which
came twice.

Rules:
    A constant that is given to a kernel is an np.int64: for a plain int numba compiles the kernel
    once more per value.
"""

from enum import IntEnum

import numpy as np
from numba import njit

from common.records import LEVELS_PER_SLOT
from processes.feed.json_scan import INLINE, KERNEL, load_byte, take_steps


class Decoded(IntEnum):
    """Why a frame gave no record; down to NOT_MARKET it was understood and not wanted."""

    EVENT_UNKNOWN = -1
    SYMBOL_UNKNOWN = -2
    NOT_MARKET = -3
    SHUTDOWN = -4
    NO_ROOM = -9
    OVERSIZE = -10
    SYNTAX = -11
    UTF8 = -12
    NESTING = -13
    KEY_MISSING = -14
    KEY_TWICE = -15
    TYPE = -16
    NUMBER = -17
    NEGATIVE = -18
    OFF_GRID = -19
    TOO_LONG = -20
    RANGE = -21
    LEVELS = -22


REFUSED = int(Decoded.OVERSIZE)  # this and below: the frame is bad
DECODED_MIN = int(Decoded.LEVELS)

# The state array: two limits, three answers, and what the scan of a frame remembers.
BYTES_MAX, LEVELS_MAX = 0, 1
INSTRUMENT, KIND, GAP_NEEDED = 2, 3, 4
STREAM_FIRST, STREAM_END, STREAM_COUNT = 5, 6, 7  # "stream": its text (-1 none), how often it came
DATA_COUNT, HAS_DATA = 8, 9  # "data": how often it came; 1 if it is an object: that is the message
MESSAGE_FIRST, MESSAGE_DEPTH, PASS = 10, 11, 12  # where the message is; scans of it done
SEEN, TWICE, EVENT, ROW = 13, 14, 15, 16  # EVENT and ROW are 0 until known
BIDS, ASKS, LEVELS, FAULT = 17, 18, 19, 20  # levels taken: of a side (-1 not yet), of both
TS_RECV, TS_EVENT = 21, 22
_TYPE, _FIRST, _END = 64, 128, 192
STATE_WORDS = 256

(T_INT, T_STRING, T_ARRAY, T_OBJECT, T_TRUE, T_FALSE, T_NULL, T_REAL, T_LONG, T_MINUS) = np.arange(
    1, 11
)

F_PU = np.int64(0)  # the one key of two letters that is read has the place of "@"
KEY_FIRST, KEY_LAST = ord("A"), ord("z")
KEY_OTHER, KEY_STREAM, KEY_DATA = np.int64(-1), np.int64(61), np.int64(62)


def field_of(key: str) -> np.int64:
    """Return the place of a one-letter key."""
    return np.int64(ord(key) - 64)


def new_state(bytes_max: int, levels_max: int) -> np.ndarray:
    """Return the state array of a decoder with its two limits set.

    Args:
        bytes_max: longest frame that is looked at.
        levels_max: most levels of one depth message, both sides together.
    """
    state = np.zeros(STATE_WORDS, np.int64)
    state[BYTES_MAX] = bytes_max
    state[LEVELS_MAX] = levels_max
    return state


def slots_max(levels_max: int) -> int:
    """Return the slots that the longest allowed message takes."""
    return 1 + -(-levels_max // LEVELS_PER_SLOT)


@njit(**INLINE)
def begin_frame(state, ts_recv_ns):
    """Forget the frame before."""
    state[INSTRUMENT] = -1
    state[KIND] = state[GAP_NEEDED] = 0
    state[STREAM_FIRST] = -1
    state[STREAM_COUNT] = state[DATA_COUNT] = state[HAS_DATA] = 0
    state[TS_RECV] = ts_recv_ns


@njit(**INLINE)
def begin_message(state, first, depth):
    """Forget the fields before; the message's brace is at `first`."""
    state[MESSAGE_FIRST] = first
    state[MESSAGE_DEPTH] = depth
    state[SEEN] = state[TWICE] = 0
    state[EVENT] = state[ROW] = state[LEVELS] = state[FAULT] = state[PASS] = 0
    state[BIDS] = state[ASKS] = -1


@njit(**KERNEL)
def begin_pass(state, first, depth):
    """Look again, at the object whose brace is at `first`; what was taken of levels stays."""
    state[MESSAGE_FIRST] = first
    state[MESSAGE_DEPTH] = depth
    state[SEEN] = state[TWICE] = 0
    state[PASS] += 1


@njit(**INLINE)
def put_field(state, field, kind, first, end):
    """Remember one value: `kind` is a T_ type, `first` the number of a T_INT."""
    state[TWICE] |= state[SEEN] & (1 << field)
    state[SEEN] |= 1 << field
    state[_TYPE + field] = kind
    state[_FIRST + field] = first
    state[_END + field] = end


@njit(**INLINE)
def has_field(state, field):
    """Return True if the message has the key."""
    return (state[SEEN] >> field) & 1 != 0


@njit(**KERNEL)
def check_field(state, field, kind):
    """Return 0 if the key came once, with a value of that type, or a status."""
    if not has_field(state, field):
        return np.int64(Decoded.KEY_MISSING)
    if (state[TWICE] >> field) & 1 != 0:
        return np.int64(Decoded.KEY_TWICE)
    if state[_TYPE + field] != kind:
        if kind == T_INT and state[_TYPE + field] == T_LONG:
            return np.int64(Decoded.TOO_LONG)
        if kind == T_INT and state[_TYPE + field] == T_MINUS:
            return np.int64(Decoded.NEGATIVE)
        return np.int64(Decoded.TYPE)
    return 0


@njit(**KERNEL)
def type_of(state, field):
    """Return the T_ type of a key's value; only after `has_field`."""
    return state[_TYPE + field]


@njit(**KERNEL)
def first_of(state, field):
    """Return the first byte of a key's value (of a string: of its content)."""
    return state[_FIRST + field]


@njit(**KERNEL)
def end_of(state, field):
    """Return the end byte of a key's value (of a string: its closing quote)."""
    return state[_END + field]


@njit(**KERNEL)
def int_of(state, field):
    """Return the non-negative integer of a required key, or a status."""
    status = check_field(state, field, T_INT)
    return status if status < 0 else state[_FIRST + field]


@njit(**KERNEL)
def int_or_zero(state, field):
    """As `int_of`, but 0 if the key is missing."""
    return int_of(state, field) if has_field(state, field) else 0


@njit(**KERNEL)
def steps_of(text, state, field, decimals):
    """Return the grid steps of a required key's decimal text, or a status."""
    status = check_field(state, field, T_STRING)
    if status < 0:
        return status
    steps, at = take_steps(text, state[_FIRST + field], state[_END + field] + 1, decimals)
    return steps


@njit(**KERNEL)
def steps_or_zero(text, state, field, decimals):
    """As `steps_of`, but 0 if the key is missing."""
    return steps_of(text, state, field, decimals) if has_field(state, field) else 0


@njit(**KERNEL)
def signed_of(text, state, field, decimals):
    """Return (steps, 0) of an optional signed decimal text, empty is 0, or (0, status)."""
    if not has_field(state, field):
        return 0, 0
    status = check_field(state, field, T_STRING)
    if status < 0:
        return 0, status
    first, end = state[_FIRST + field], state[_END + field]
    if first == end:
        return 0, 0
    is_negative = load_byte(text, first) == 45
    steps, at = take_steps(text, first + 1 if is_negative else first, end + 1, decimals)
    if steps < 0:
        return 0, steps
    return (-steps if is_negative else steps), 0

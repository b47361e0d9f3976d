"""How long a request takes to the venue, and its answer back.

constant: two numbers. recorded: rows of (request, exchange, response) instants, interpolated at the
time in question; an exchange instant of 0 says that the venue refused then, and the answer comes
after response - request. drawn: from the quantiles of a distribution, with a recorded seed.
"""

import numpy as np
from numba import njit

CONSTANT, RECORDED, DRAWN = 0, 1, 2

# Words of the latency state.
KIND = 0
REQUEST_NS = 1
RESPONSE_NS = 2
RANDOM = 3  # state of the generator, never 0
REQUEST_ROW = 4  # where the last look ended
RESPONSE_ROW = 5
LATENCY_WORDS = 8

# Columns of recorded rows: instants.
REQUESTED = 0
ARRIVED = 1  # at the exchange; 0: it refused
ANSWERED = 2

QUANTILES = 1_024
_63_BITS = (1 << 63) - 1


@njit(cache=True, _nrt=False)
def next_random(words):
    """Return 31 random bits; shifts only, for a product could overflow."""
    x = words[RANDOM]
    x ^= (x << 13) & _63_BITS
    x ^= x >> 7
    x ^= (x << 17) & _63_BITS
    words[RANDOM] = x
    return (x >> 16) & 0x7FFFFFFF


@njit(cache=True, _nrt=False)
def draw(words, quantiles):
    """Return a latency between two quantiles, int64[QUANTILES + 1, 3]: column 0, ascending."""
    bits = next_random(words)
    k = bits >> 21
    low, high = quantiles[k, 0], quantiles[k + 1, 0]
    return low + (high - low) * (bits & 0x1FFFFF) // 0x200000


@njit(cache=True, _nrt=False)
def between(x, x1, y1, x2, y2):
    """Interpolate from (x1, y1) to (x2, y2), towards y1."""
    return np.int64((1.0 * (y2 - y1)) / (1.0 * (x2 - x1)) * (1.0 * (x - x1))) + y1


@njit(cache=True, _nrt=False)
def row_at(words, place, rows, column, now):
    """Return the last row whose `column` is not after `now`; the first one before all.

    Args:
        words: int64[LATENCY_WORDS], changed: the look goes on from words[place].
        place: REQUEST_ROW or RESPONSE_ROW.
        rows: int64[m, 3], ascending in `column`.
        column: of the instant.
        now: does not go back.
    """
    k, last = words[place], rows.shape[0] - 1
    while k < last and rows[k + 1, column] <= now:
        k += 1
    words[place] = k
    return k


@njit(cache=True, _nrt=False)
def time_between(rows, k, now, begin, end):
    """Return how long it is from column `begin` to column `end` at `now`, with row k before it.

    Between two rows it is interpolated; before the first and after the last it is theirs.
    """
    here = rows[k, end] - rows[k, begin]
    after = k + 1
    if after == rows.shape[0] or now < rows[k, begin]:
        return here
    there = rows[after, end] - rows[after, begin]
    return between(now, rows[k, begin], here, rows[after, begin], there)


@njit(cache=True, _nrt=False)
def request_latency(words, rows, now):
    """Return how long a request sent at `now` takes; below 0: refused, told after minus that.

    A request is refused if the venue refused in one of the rows that it is between; before the
    first row and after the last one, if it refused there.

    Args:
        words: int64[LATENCY_WORDS], changed.
        rows: int64[m, 3] request, exchange, response, ascending; for DRAWN see `draw`.
        now: local time; does not go back.
    """
    if words[KIND] == CONSTANT:
        return words[REQUEST_NS]
    if words[KIND] == DRAWN:
        return draw(words, rows)
    k = row_at(words, REQUEST_ROW, rows, REQUESTED, now)
    is_between = k + 1 < rows.shape[0] and now >= rows[k, REQUESTED]
    if rows[k, ARRIVED] <= 0 or (is_between and rows[k + 1, ARRIVED] <= 0):
        return -max(time_between(rows, k, now, REQUESTED, ANSWERED), 1)
    return time_between(rows, k, now, REQUESTED, ARRIVED)


@njit(cache=True, _nrt=False)
def response_latency(words, rows, now):
    """Return how long an answer given at `now`, venue's time, takes.

    Args:
        words, rows: as above, without the rows in which the venue refused.
        now: venue's time; does not go back.
    """
    if words[KIND] == CONSTANT:
        return words[RESPONSE_NS]
    if words[KIND] == DRAWN:
        return draw(words, rows)
    k = row_at(words, RESPONSE_ROW, rows, ARRIVED, now)
    return time_between(rows, k, now, ARRIVED, ANSWERED)

"""In how many places a merge by timestamp would have ordered the inputs otherwise than they were.

Systems that record each input with stamps and merge the files for a replay assume that what is
stamped earlier was seen earlier. A strategy sees what its rings hold when it looks: here both
orders are at hand, so the places where they part can be counted.
"""

import numpy as np
from numba import njit

from common.enums import MarketKind

# Words of the marks.
PUBLISHED, RECEIVED = 0, 1  # stamps of the message before
RING = 2  # where that message came from, -1: there was none
MESSAGES = 3
PUBLISHED_PLACES, RECEIVED_PLACES = 4, 5
MARK_WORDS = 8
_REPORTS, _CONTROL, _MARKET = 0, 1, 2


@njit(cache=True)
def count_places(log, first_turn, end_turn, inputs, marks):
    """Count where two messages of different rings came one after the other against their stamps.

    Args:
        log: TURN[n], read.
        first_turn, end_turn: indexes into it.
        inputs: as `engine.run_turn` takes them; hold all slots of these turns.
        marks: int64[MARK_WORDS], changed.
    """
    reports, control, market = inputs
    for k in range(first_turn, end_turn):
        firsts, counts = log[k]["first_sequence"], log[k]["record_count"]
        for sequence in range(firsts[0], firsts[0] + counts[0]):
            report = reports[sequence & (reports.shape[0] - 1)]
            published = report["ts_pub_ns"]
            received = report["ts_report_recv_ns"]
            mark(marks, _REPORTS, published, received if received != 0 else published)
        mark_market(marks, _CONTROL, control[1], firsts[1], firsts[1] + counts[1])
        mark_market(marks, _MARKET, market[1], firsts[2], firsts[2] + counts[2])


@njit(cache=True)
def mark_market(marks, ring, views, first, end):
    """Take the messages of a market ring's slots [first, end) into account."""
    headers, trades, _controls = views
    mask = headers.shape[0] - 1
    sequence = first
    while sequence < end:
        header = headers[sequence & mask]
        kind = header["kind"]
        received = header["ts_recv_ns"]
        published = received
        if kind == MarketKind.BOOK or kind == MarketKind.GAP:
            published = header["ts_pub_ns"]  # the same bytes in both
        elif kind == MarketKind.TRADE or kind == MarketKind.AGG_TRADE:
            published = received + trades[sequence & mask]["recv_to_pub_ns"]
        mark(marks, ring, published, received)
        sequence += max(np.int64(header["slot_count"]), 1)


@njit(cache=True)
def mark(marks, ring, published, received):
    """Take one message into account, and remember its stamps for the next."""
    is_other = marks[RING] != ring and marks[RING] != -1
    if is_other and published < marks[PUBLISHED]:
        marks[PUBLISHED_PLACES] += 1
    if is_other and received < marks[RECEIVED]:
        marks[RECEIVED_PLACES] += 1
    marks[RING] = ring
    marks[PUBLISHED] = published
    marks[RECEIVED] = received
    marks[MESSAGES] += 1


def new_marks() -> np.ndarray:
    """Return marks before the first message."""
    marks = np.zeros(MARK_WORDS, np.int64)
    marks[RING] = -1
    return marks

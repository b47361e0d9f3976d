"""The engine's native input: a flat array of 64-byte events per instrument, in two orders at once.

An event happens at the venue at ts_exch_ns and is seen here at ts_recv_ns. A row with both flags
stands at a place that is right for both; where the two orders disagree, an event is two rows, one
for each side. So the rows with AT_VENUE ascend in ts_exch_ns, those with AT_LOCAL in ts_recv_ns.
That is hftbacktest's layout too; its arrays are taken as they are.
"""

from enum import IntEnum

import numpy as np
from numba import njit

from common.layout import record

AT_VENUE = 1
AT_LOCAL = 2

EVENT = record(
    "EVENT", 64, "backtest",
    (0, "kind", "u1", "EventKind"),
    (1, "flags", "u1", "AT_VENUE, AT_LOCAL"),
    (2, "side", "i1", "Side of the level, or of the taker; CLEAR: 0 both"),
    (3, "reserved", "u1", "zero"),
    (4, "instrument_id", "<i4", "index into INSTRUMENT[]"),
    (8, "ts_exch_ns", "<i8", "when it happened, venue's clock"),
    (16, "ts_recv_ns", "<i8", "when it was here, on the same clock"),
    (24, "price_steps", "<i8", "CLEAR: how far from the best, 0 all; CANCEL: 0"),
    (32, "qty_steps", "<i8", "DEPTH: new total, 0 removes; MODIFY: new rest"),
    (40, "level", "<i8", "index of the price among the instrument's prices; -1 none"),
    (48, "trade_id", "<i8", "TRADE: the venue's; ADD to FILL: order id; FUNDING: rate, 1e-8"),
    (56, "mark_price_e8", "<i8", "FUNDING: mark price, 1e-8 quote"),
)  # fmt: skip


class EventKind(IntEnum):
    """What an event is."""

    DEPTH = 1
    TRADE = 2
    CLEAR = 3
    FUNDING = 4
    ADD = 5  # of others' orders, where the book is known order by order
    CANCEL = 6
    MODIFY = 7
    FILL = 8


# Words of a tape: what the loop reads of an event, in one of the two orders.
TS = 0
QTY = 1
CODE = 2  # level << LEVEL_SHIFT | kind << 2 | side + 1
ROW = 3  # of the event in `events`
TAPE_WORDS = 4  # a history of orders has more of them at the venue (history.py)
LEVEL_SHIFT = 8
KIND_MASK = 0xFC
CODE_MASK = 0xFF


@njit(cache=True, _nrt=False)
def interleave(rows, by_venue, by_local, out):
    """Write rows in both orders; a row that is next in both is written once.

    Args:
        rows: EVENT[m], read.
        by_venue, by_local: int64[m], places of the rows in either order.
        out: EVENT[2 * m], changed.

    Returns:
        How many were written.
    """
    total = rows.shape[0]
    count = v = k = 0
    while v < total or k < total:
        if v < total and k < total and by_venue[v] == by_local[k]:
            out[count] = rows[by_venue[v]]
            out[count]["flags"] = AT_VENUE | AT_LOCAL
            v += 1
            k += 1
        elif k >= total or (v < total and is_before(rows, by_venue[v], by_local[k])):
            out[count] = rows[by_venue[v]]
            out[count]["flags"] = AT_VENUE
            v += 1
        else:
            out[count] = rows[by_local[k]]
            out[count]["flags"] = AT_LOCAL
            k += 1
        count += 1
    return count


@njit(cache=True, _nrt=False)
def is_before(rows, a, b):
    """Return True if row a is earlier at the venue than row b, or equal there and here earlier."""
    if rows[a]["ts_exch_ns"] != rows[b]["ts_exch_ns"]:
        return rows[a]["ts_exch_ns"] < rows[b]["ts_exch_ns"]
    return rows[a]["ts_recv_ns"] < rows[b]["ts_recv_ns"]


def in_both_orders(rows: np.ndarray) -> np.ndarray:
    """Return rows of one instrument in both orders; rows of equal time keep their order."""
    by_venue = np.argsort(rows["ts_exch_ns"], kind="stable")
    by_local = np.argsort(rows["ts_recv_ns"], kind="stable")
    out = np.zeros(2 * len(rows), EVENT)
    return out[: interleave(rows, by_venue, by_local, out)]

"""Fills and positions: every fill once, average cost, realised profit; from fills only.

Position = base + what freed orders filled + signed sum of the rows' fills; `oms.audit` recomputes.
"""

from enum import IntEnum

import numpy as np
from numba import njit

from common.fixed_point import INT64_MAX, multiply_checked
from processes.risk.counters import Counter
from processes.risk.index import find, insert, remove
from processes.risk.oms import (
    BOOKED,
    EVICTED_EXEC_ID,
    FILL_COUNT,
    HAS_BASE,
    NO_ROW,
    PAST_EXEC_ID,
    POSITIONS_DIRTY,
    ROUND_DIFFERENT,
    ROUND_MATCHED,
    ROUND_TRADES,
    Oms,
)


class Booked(IntEnum):
    """What became of a fill."""

    NEW = 1
    DUPLICATE = 2
    TOO_OLD = 3
    BAD = 4


class Matched(IntEnum):
    """What became of a trade that the venue's account lists."""

    SAME = 1
    DIFFERENT = 2
    MISSED = 3
    PAST = 4
    FORGOTTEN = 5


@njit(cache=True, _nrt=False)
def multiply_divide(a, b, divisor):
    """Return floor(a * b / divisor) without overflow; 0 <= a, 0 <= b <= divisor < 2^62."""
    product, overflow = multiply_checked(a, b)
    if not overflow:
        return product // divisor
    # a = q * divisor + r: q * b <= a cannot overflow; r * b / divisor bit by bit of r.
    quotient, rest = a // divisor, a % divisor
    whole, remainder = 0, 0
    for bit in range(62, -1, -1):
        whole *= 2
        remainder *= 2
        if remainder >= divisor:
            remainder -= divisor
            whole += 1
        if rest >> bit & 1:
            remainder += b
            if remainder >= divisor:
                remainder -= divisor
                whole += 1
    return quotient * b + whole


@njit(cache=True, _nrt=False)
def apply_fill(position, side, qty_steps, px_steps):
    """Move a position by one fill, at average cost.

    Invariant: realised - cost changes by -side * quantity * price, exactly; rounding of the average
    stays in the cost until the position is flat.

    Args:
        position: POSITION record, changed.
        side: Side of the fill.
        qty_steps, px_steps: more than 0.

    Returns:
        False if its value does not fit an int64: the quantity is booked, cost and PnL are not.
    """
    before = position["position_steps"]
    position["position_steps"] = before + side * qty_steps
    value, overflow = multiply_checked(px_steps, qty_steps)
    cost = position["cost_steps2"]
    if overflow or abs(cost) > INT64_MAX - value:
        return False
    if before == 0 or (before > 0) == (side > 0):
        position["cost_steps2"] = cost + side * value
        return True
    closed = min(qty_steps, abs(before))
    released = abs(cost)
    if closed < abs(before):
        released = multiply_divide(abs(cost), closed, abs(before))
    if cost < 0:
        released = -released
    closed_value = px_steps * closed
    opened_value = value - closed_value
    position["realized_pnl_steps2"] += -side * closed_value - released
    position["cost_steps2"] = cost - released + side * opened_value
    return True


@njit(cache=True, _nrt=False)
def book_fill(oms, row, report):
    """Book a fill once: fill memory, position, and the order's sums if its row is known.

    The key is (instrument, trade id, order id): a self-trade gives two fills with one trade id.

    Args:
        oms: Oms, changed.
        row: the order's row, or NO_ROW.
        report: REPORT record with side, exec_id, last_qty_steps, last_px_steps, fee_e8; read.

    Returns:
        Booked.NEW; else nothing was changed: DUPLICATE (or part of the base),
        TOO_OLD (older than the memory: it may have been booked before), BAD (no trade id, price
        or side).
    """
    i = np.int64(report["instrument_id"])
    exec_id = report["exec_id"]
    venue_order_id = report["venue_order_id"]
    side = np.int64(report["side"])
    qty, px = report["last_qty_steps"], report["last_px_steps"]
    if row != NO_ROW:
        order = oms.orders[row]
        side = np.int64(order["side"])
        if venue_order_id == 0:
            venue_order_id = order["venue_order_id"]
    if exec_id <= 0 or qty <= 0 or px <= 0 or (side != 1 and side != -1):
        return Booked.BAD
    if find(oms.by_fill, exec_id, venue_order_id, i) >= 0:
        return Booked.DUPLICATE
    marks = oms.marks
    if exec_id <= marks[i, PAST_EXEC_ID]:
        return Booked.DUPLICATE  # part of the base
    if exec_id <= marks[i, EVICTED_EXEC_ID]:
        return Booked.TOO_OLD
    remember_fill(oms, i, exec_id, venue_order_id, side, report)
    marks[i, BOOKED] += 1
    position = oms.positions[i]
    if not apply_fill(position, side, qty, px):
        oms.counters[Counter.NOTIONAL_OVERFLOWS] += 1
    position["fee_e8"] += report["fee_e8"]
    position["fill_count"] += 1
    oms.words[POSITIONS_DIRTY] = 1
    if row == NO_ROW:
        position["retired_steps"] += side * qty
        return Booked.NEW
    order = oms.orders[row]
    order["cum_qty_steps"] += qty
    order["fee_e8"] += report["fee_e8"]
    value, overflow = multiply_checked(px, qty)
    if not overflow and order["cum_notional_steps2"] <= INT64_MAX - value:
        order["cum_notional_steps2"] += value
    return Booked.NEW


@njit(cache=True, _nrt=False)
def remember_fill(oms, i, exec_id, venue_order_id, side, report):
    """Write a fill over the oldest one, which is forgotten."""
    fills = oms.fills
    place = oms.words[FILL_COUNT] % fills.shape[0]
    oms.words[FILL_COUNT] += 1
    fill = fills[place]
    if fill["exec_id"] != 0:
        old = fill["instrument_id"]
        remove(oms.by_fill, fill["exec_id"], fill["venue_order_id"], old)
        oms.marks[old, EVICTED_EXEC_ID] = max(oms.marks[old, EVICTED_EXEC_ID], fill["exec_id"])
    fill["exec_id"] = exec_id
    fill["venue_order_id"] = venue_order_id
    fill["instrument_id"] = i
    fill["side"] = side
    fill["qty_steps"] = report["last_qty_steps"]
    fill["px_steps"] = report["last_px_steps"]
    fill["fee_e8"] = report["fee_e8"]
    fill["round_id"] = 0
    insert(oms.by_fill, exec_id, venue_order_id, i, place)


@njit(cache=True, _nrt=False)
def match_trade(oms, report, round_id):
    """Compare one trade of the venue's account with our fills.

    Args:
        oms: Oms, changed: the fill is marked with the round, the instrument's marks count.
        report: REPORT record of an ACCOUNT_TRADE, read.
        round_id: of the reconciliation.

    Returns:
        Matched.SAME, DIFFERENT (booked with another side, quantity, price or fee), MISSED (never
        booked), PAST (made before the session began: part of the base), FORGOTTEN (older than the
        memory of fills: only the position can tell whether it was booked).
    """
    i = np.int64(report["instrument_id"])
    marks = oms.marks
    place = find(oms.by_fill, report["exec_id"], report["venue_order_id"], i)
    if place < 0:
        if report["exec_id"] <= marks[i, PAST_EXEC_ID]:
            return Matched.PAST
        marks[i, ROUND_TRADES] += 1
        if report["exec_id"] <= marks[i, EVICTED_EXEC_ID]:
            return Matched.FORGOTTEN
        return Matched.MISSED
    fill = oms.fills[place]
    marks[i, ROUND_TRADES] += 1
    if fill["round_id"] != round_id:
        fill["round_id"] = round_id
        marks[i, ROUND_MATCHED] += 1
    if (
        fill["qty_steps"] == report["last_qty_steps"]
        and fill["px_steps"] == report["last_px_steps"]
        and fill["side"] == report["side"]
        and fill["fee_e8"] == report["fee_e8"]
    ):
        return Matched.SAME
    marks[i, ROUND_DIFFERENT] += 1
    return Matched.DIFFERENT


@njit(cache=True, _nrt=False)
def match_trade_at(oms, reports, k, round_id):
    """Call `match_trade` on reports[k]; for Python, which must not hand over single records."""
    return np.int64(match_trade(oms, reports[k], round_id))


def set_base(oms: Oms, i: int, venue_position_steps: int, entry_price_e8: int) -> None:
    """Make the venue's position the base: what the session's fills do not explain was there before.

    Args:
        oms: Oms, changed; cold path.
        i: instrument.
        venue_position_steps: what the account holds.
        entry_price_e8: its average price, 1e-8 quote; becomes the average cost.
    """
    position = oms.positions[i]
    price_scale = 10 ** int(oms.instruments[i]["price_grid_decimals"])
    cost = venue_position_steps * entry_price_e8 * price_scale // 10**8
    if abs(cost) > INT64_MAX:
        oms.counters[Counter.NOTIONAL_OVERFLOWS] += 1
        cost = 0
    position["base_position_steps"] += venue_position_steps - position["position_steps"]
    position["position_steps"] = venue_position_steps
    position["cost_steps2"] = cost
    oms.marks[i, HAS_BASE] = 1
    oms.words[POSITIONS_DIRTY] = 1

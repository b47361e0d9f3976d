"""Wallets and positions of the exchange's accounts: fills, fees, realised profit, funding.

All amounts are integers. A position keeps what it cost in price steps x quantity steps, which is
exact; money is 1e-8 quote units (`_e8`), and what does not divide evenly is cut towards zero.
Every booking is computed whole and checked before its first change.
"""

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numba import njit

from common.fixed_point import INT64_MAX, multiply_checked
from processes.venue.engine import EventKind, checked_dtype

E8 = 100_000_000


class BookStatus(IntEnum):
    """What became of a booking."""

    OK = 0
    OVERFLOW = 1  # an amount does not fit: nothing changed


WALLET = checked_dtype(
    64,
    ("balance_e8", "<i8"),  # deposits + realised - fees + funding
    ("maker_fee_e8", "<i8"),  # rate, 1e-8 of the notional; negative is a rebate
    ("taker_fee_e8", "<i8"),
    ("realised_e8", "<i8"),  # sums since the start
    ("fees_e8", "<i8"),
    ("funding_e8", "<i8"),  # received
    ("fill_count", "<i8"),
    ("reserved", "<i8"),
)

# One account in one instrument, one-way mode. Entry price: cost_steps2 / abs(position_steps).
POSITION = checked_dtype(
    40,
    ("position_steps", "<i8"),  # signed
    ("cost_steps2", "<i8"),  # of the open position, 0 or more
    ("realised_e8", "<i8"),  # sums since the start
    ("fees_e8", "<i8"),
    ("funding_e8", "<i8"),
)

# How an instrument's steps become money: steps2 * multiplier // divisor is e8.
UNITS = checked_dtype(
    24, ("e8_multiplier", "<i8"), ("e8_divisor", "<i8"), ("qty_steps_per_unit", "<i8")
)

# One side of a trade, as it was booked.
FILL = checked_dtype(
    80,
    ("trade_id", "<i8"),
    ("order_id", "<i8"),
    ("price_steps", "<i8"),
    ("qty_steps", "<i8"),
    ("realised_e8", "<i8"),  # before the fee
    ("fee_e8", "<i8"),  # negative: earned
    ("position_steps", "<i8"),  # after the fill
    ("balance_e8", "<i8"),  # after the fill
    ("account_id", "<i4"),
    ("instrument_id", "<i4"),
    ("side", "i1"),
    ("is_maker", "u1"),
    ("reserved", "6u1"),
)


class Accounts(NamedTuple):
    """All arrays of the accounts; kernels take it whole. Make it with `new_accounts`.

    The owner writes balances (deposits) and fee rates into `wallets` directly.
    """

    wallets: np.ndarray  # WALLET[accounts]
    positions: np.ndarray  # POSITION[accounts, instruments]
    units: np.ndarray  # UNITS[instruments]


def new_accounts(instrument_rows, accounts_max):
    """Make accounts without money.

    Args:
        instrument_rows: INSTRUMENT[n], read for the grids.
        accounts_max: ids run from 0 to one less.
    """
    units = np.zeros(len(instrument_rows), UNITS)
    qty_decimals = instrument_rows["qty_grid_decimals"].astype(np.int64)
    exponent = 8 - instrument_rows["price_grid_decimals"].astype(np.int64) - qty_decimals
    units["e8_multiplier"] = 10 ** np.maximum(exponent, 0)
    units["e8_divisor"] = 10 ** np.maximum(-exponent, 0)
    units["qty_steps_per_unit"] = 10**qty_decimals
    return Accounts(
        wallets=np.zeros(accounts_max, WALLET),
        positions=np.zeros((accounts_max, len(instrument_rows)), POSITION),
        units=units,
    )


@njit(cache=True, _nrt=False)
def add_checked(a, b):
    """Return (a + b, False), or (0, True) if the sum does not fit an int64."""
    if (b > 0 and a > INT64_MAX - b) or (b < 0 and a < -INT64_MAX - b):
        return 0, True
    return a + b, False


@njit(cache=True, _nrt=False)
def multiply_divide(a, b, divisor):
    """Return (a * b / divisor cut towards zero, False), or (0, True) if that does not fit.

    Exact also where a * b does not fit: then one bit of `a` after the other is multiplied in.

    Args:
        a, b: any but -2^63.
        divisor: 1 to 2^62.
    """
    is_negative = (a < 0) != (b < 0)
    a = abs(a)
    b = abs(b)
    product, overflow = multiply_checked(a, b)
    if not overflow:
        quotient = product // divisor
        return -quotient if is_negative else quotient, False
    part = b // divisor
    rest = b % divisor
    quotient = 0
    remainder = 0
    for bit in range(62, -1, -1):
        if quotient > INT64_MAX // 2:
            return 0, True
        remainder *= 2  # fits: it is below divisor
        carry = remainder // divisor
        remainder -= carry * divisor
        quotient = quotient * 2 + carry
        if a >> bit & 1:
            remainder += rest
            carry = remainder // divisor
            remainder -= carry * divisor
            quotient, overflow = add_checked(quotient, part)
            if overflow or quotient > INT64_MAX - carry:
                return 0, True
            quotient += carry
    return -quotient if is_negative else quotient, False


@njit(cache=True, _nrt=False)
def e8_from_steps2(units, steps2):
    """Return (amount in e8, overflow) of price steps x quantity steps."""
    return multiply_divide(steps2, units["e8_multiplier"], units["e8_divisor"])


@njit(cache=True, _nrt=False)
def value_e8(units, qty_steps, price_e8):
    """Return (amount in e8, overflow) of a quantity at a price that is off the grid."""
    return multiply_divide(qty_steps, price_e8, units["qty_steps_per_unit"])


@njit(cache=True, _nrt=False)
def position_after(position, side, price_steps, qty_steps):
    """Work out what a fill does to a position.

    Returns:
        (position_steps, cost_steps2, realised_steps2, overflow): the new values, nothing changed.
    """
    held_steps = position["position_steps"]
    cost_steps2 = position["cost_steps2"]
    notional_steps2, overflow = multiply_checked(price_steps, qty_steps)
    if overflow:
        return 0, 0, 0, True
    after_steps, overflow = add_checked(held_steps, side * qty_steps)
    if overflow:
        return 0, 0, 0, True
    if side * held_steps >= 0:
        cost_steps2, overflow = add_checked(cost_steps2, notional_steps2)
        return after_steps, cost_steps2, 0, overflow
    closed_steps = min(abs(held_steps), qty_steps)
    closed_cost_steps2, overflow = multiply_divide(cost_steps2, closed_steps, abs(held_steps))
    realised_steps2 = -side * (price_steps * closed_steps - closed_cost_steps2)
    cost_steps2 -= closed_cost_steps2
    if closed_steps < qty_steps:
        cost_steps2 = price_steps * (qty_steps - closed_steps)
    return after_steps, cost_steps2, realised_steps2, overflow


@njit(cache=True, _nrt=False)
def book_fill(
    accounts, account_id, instrument_id, side, price_steps, qty_steps, is_maker, fills, at
):
    """Book one side of a trade.

    Args:
        accounts: Accounts, changed.
        side: Side of this account.
        price_steps, qty_steps: of the trade.
        is_maker: 1 or 0; decides the fee rate.
        fills: FILL[n]; row `at` is changed, but for trade_id and order_id.

    Returns:
        BookStatus.OK, or OVERFLOW with nothing changed.
    """
    wallet = accounts.wallets[account_id]
    position = accounts.positions[account_id, instrument_id]
    units = accounts.units[instrument_id]
    after_steps, cost_steps2, realised_steps2, overflow = position_after(
        position, side, price_steps, qty_steps
    )
    if overflow:
        return BookStatus.OVERFLOW.value
    notional_e8, overflow = e8_from_steps2(units, price_steps * qty_steps)
    realised_e8, overflow_2 = e8_from_steps2(units, realised_steps2)
    rate_e8 = wallet["maker_fee_e8"] if is_maker else wallet["taker_fee_e8"]
    fee_e8, overflow_3 = multiply_divide(notional_e8, rate_e8, E8)
    change_e8, overflow_4 = add_checked(realised_e8, -fee_e8)
    balance_e8, overflow_5 = add_checked(wallet["balance_e8"], change_e8)
    if overflow or overflow_2 or overflow_3 or overflow_4 or overflow_5:
        return BookStatus.OVERFLOW.value
    total_realised_e8, overflow = add_checked(wallet["realised_e8"], realised_e8)
    total_fees_e8, overflow_2 = add_checked(wallet["fees_e8"], fee_e8)
    own_realised_e8, overflow_3 = add_checked(position["realised_e8"], realised_e8)
    own_fees_e8, overflow_4 = add_checked(position["fees_e8"], fee_e8)
    if overflow or overflow_2 or overflow_3 or overflow_4:
        return BookStatus.OVERFLOW.value
    wallet["balance_e8"] = balance_e8
    wallet["realised_e8"] = total_realised_e8
    wallet["fees_e8"] = total_fees_e8
    wallet["fill_count"] += 1
    position["position_steps"] = after_steps
    position["cost_steps2"] = cost_steps2
    position["realised_e8"] = own_realised_e8
    position["fees_e8"] = own_fees_e8
    fill = fills[at]
    fill["price_steps"] = price_steps
    fill["qty_steps"] = qty_steps
    fill["realised_e8"] = realised_e8
    fill["fee_e8"] = fee_e8
    fill["position_steps"] = after_steps
    fill["balance_e8"] = balance_e8
    fill["account_id"] = account_id
    fill["instrument_id"] = instrument_id
    fill["side"] = side
    fill["is_maker"] = is_maker
    return BookStatus.OK.value


@njit(cache=True, _nrt=False)
def apply_events(accounts, events, first, end, fills):
    """Book both sides of every TRADE among the matching engine's events, the maker first.

    Args:
        accounts: Accounts, changed.
        events: EVENT[n], read from row `first` to before `end`.
        fills: FILL[m], changed from row 0 on; m at least twice the number of trades.

    Returns:
        (fill_count, refused_count): rows of `fills` written, and sides that did not fit an int64
        and changed nothing.
    """
    fill_count = 0
    refused_count = 0
    for i in range(first, end):
        event = events[i]
        if event["kind"] != EventKind.TRADE:
            continue
        for is_maker in (1, 0):
            status = book_fill(
                accounts,
                event["maker_account_id"] if is_maker else event["account_id"],
                event["instrument_id"],
                -event["side"] if is_maker else event["side"],
                event["price_steps"],
                event["qty_steps"],
                is_maker,
                fills,
                fill_count,
            )
            if status != BookStatus.OK:
                refused_count += 1
                continue
            fill = fills[fill_count]
            fill["trade_id"] = event["event_id"]
            fill["order_id"] = event["maker_order_id"] if is_maker else event["order_id"]
            fill_count += 1
    return fill_count, refused_count


@njit(cache=True, _nrt=False)
def settle_funding(accounts, instrument_id, mark_price_e8, rate_e8, payments):
    """Pay funding on every position: notional at the mark price x rate; longs pay if positive.

    USD-M futures, "Introduction to Funding Rates".

    Args:
        accounts: Accounts, changed.
        mark_price_e8, rate_e8: 1e-8 quote units, 1e-8.
        payments: int64[accounts], changed: what each balance changed by, e8.

    Returns:
        How many accounts were left out because an amount does not fit an int64.
    """
    refused_count = 0
    units = accounts.units[instrument_id]
    for account_id in range(len(accounts.wallets)):
        payments[account_id] = 0
        wallet = accounts.wallets[account_id]
        position = accounts.positions[account_id, instrument_id]
        notional_e8, overflow = value_e8(units, position["position_steps"], mark_price_e8)
        paid_e8, overflow_2 = multiply_divide(notional_e8, rate_e8, E8)
        balance_e8, overflow_3 = add_checked(wallet["balance_e8"], -paid_e8)
        total_e8, overflow_4 = add_checked(wallet["funding_e8"], -paid_e8)
        own_e8, overflow_5 = add_checked(position["funding_e8"], -paid_e8)
        if overflow or overflow_2 or overflow_3 or overflow_4 or overflow_5:
            refused_count += 1
            continue
        wallet["balance_e8"] = balance_e8
        wallet["funding_e8"] = total_e8
        position["funding_e8"] = own_e8
        payments[account_id] = -paid_e8
    return refused_count


@njit(cache=True, _nrt=False)
def unrealised_e8(accounts, account_id, instrument_id, mark_price_e8):
    """Return (profit of an open position at the mark price in e8, overflow)."""
    units = accounts.units[instrument_id]
    position = accounts.positions[account_id, instrument_id]
    held_steps = position["position_steps"]
    worth_e8, overflow = value_e8(units, held_steps, mark_price_e8)
    cost_e8, overflow_2 = e8_from_steps2(units, position["cost_steps2"])
    profit_e8, overflow_3 = add_checked(worth_e8, cost_e8 if held_steps < 0 else -cost_e8)
    return profit_e8, overflow or overflow_2 or overflow_3

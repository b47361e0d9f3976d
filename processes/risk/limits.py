"""Pre-trade checks: one function per request kind, first failed limit wins, integers only.

Cancels are never refused here: they can only make things smaller.
"""

import numpy as np
from numba import njit

from common.enums import (
    OrderPending,
    OrderStatus,
    OrderType,
    Reject,
    Side,
    TimeInForce,
)
from common.errors import ConfigError
from common.fixed_point import INT64_MAX, multiply_checked, steps_from_text
from common.instruments import Instrument
from common.order_ids import SEQUENCE_BITS, SEQUENCE_MAX, STRATEGY_BITS
from processes.risk.config import RiskConfig, SymbolLimits
from processes.risk.oms import (
    BUCKET_NS,
    BUCKET_TS,
    IS_JOURNAL_BROKEN,
    IS_KILLED,
    IS_READY,
    IS_RECONCILED,
    IS_SPILLING,
    IS_STOPPING,
    LIMITS,
    NEXT_INTENT,
    OPEN_COUNT,
    RISK_STRATEGY,
    SESSION,
    find_client,
    has_room,
    is_finished,
)

BASIS_POINTS = 10_000
_NS = 1_000_000_000
_STEPS_MAX = 1 << 61  # quantities and positions: two of them still add up


def limit_table(config: RiskConfig, instruments: list[Instrument]) -> np.ndarray:
    """Return LIMITS[n] for the kernels; row i is instrument_id i.

    Raises:
        ConfigError: a symbol without limits, limits of no symbol, a number off the grid or over
            the range, an order larger than the position it may make.
    """
    symbols = {instrument.symbol for instrument in instruments}
    for symbol in sorted(symbols ^ set(config.limits)):
        wrong = "is missing" if symbol in symbols else "is of no symbol of this run"
        raise ConfigError(f"risk: [risk.limits.{symbol}] {wrong}, expected one per symbol")
    table = np.zeros(len(instruments), LIMITS)
    for row, instrument in zip(table, instruments, strict=True):
        limits = config.limits[instrument.symbol]
        decimals = instrument.qty_grid_decimals
        notional_decimals = decimals + instrument.price_grid_decimals
        where = f"risk: [risk.limits.{instrument.symbol}]"
        row["order_qty_steps_max"] = _steps(where, limits, "order_qty_max", decimals)
        row["position_steps_max"] = _steps(where, limits, "position_qty_max", decimals)
        row["order_notional_steps2_max"] = _steps(
            where, limits, "order_notional_max", notional_decimals
        )
        row["open_order_count_max"] = limits.open_order_count_max
        row["price_band_bps_max"] = limits.price_band_bps_max
        row["book_age_ns_max"] = limits.book_age_ns_max
        row["order_cost_ns"] = _NS // config.order_rate_max
        row["bucket_ns_max"] = _NS // config.order_rate_max * config.order_burst_max
        if row["order_qty_steps_max"] > row["position_steps_max"]:
            raise ConfigError(
                f"{where} order_qty_max is {limits.order_qty_max}, expected at most"
                f" position_qty_max={limits.position_qty_max}"
            )
    return table


def _steps(where: str, limits: SymbolLimits, name: str, decimals: int) -> int:
    text = getattr(limits, name)
    try:
        steps = steps_from_text(text, decimals)
    except ValueError as error:
        raise ConfigError(f"{where} {name}: {error}") from None
    limit = INT64_MAX if name == "order_notional_max" else _STEPS_MAX
    if not 0 < steps <= limit:
        raise ConfigError(f"{where} {name} is {text}, expected 1 to {limit} grid steps")
    return steps


@njit(cache=True, _nrt=False)
def id_of(session, strategy_id, sequence):
    """Return the client_order_id that belongs to an intent; see common/order_ids.py; 0: none."""
    if not 0 <= sequence <= SEQUENCE_MAX:
        return 0
    return (session << (STRATEGY_BITS + SEQUENCE_BITS)) | (strategy_id << SEQUENCE_BITS) | sequence


@njit(cache=True, _nrt=False)
def check_gate(oms, request):
    """Judge whether anything may be sent at all, and whether the request is one.

    Args:
        oms: Oms, read.
        request: ORDER_REQUEST record of a NEW or REPLACE, read.

    Returns:
        Reject.KILLED, STOPPING, JOURNAL, NOT_READY, NOT_RECONCILED, REPORTS_FULL, INSTRUMENT,
        BAD_REQUEST, DUPLICATE_ID or NONE.
    """
    words = oms.words
    if words[IS_KILLED] != 0:
        return Reject.KILLED
    if words[IS_STOPPING] != 0:
        return Reject.STOPPING
    if words[IS_JOURNAL_BROKEN] != 0:
        return Reject.JOURNAL
    strategy_id = np.int64(request["strategy_id"])
    if strategy_id >= RISK_STRATEGY:
        return Reject.BAD_REQUEST
    if oms.strategies[strategy_id, IS_READY] == 0:
        return Reject.NOT_READY
    if words[IS_RECONCILED] == 0:
        return Reject.NOT_RECONCILED
    if words[IS_SPILLING] != 0:
        return Reject.REPORTS_FULL
    if not 0 <= request["instrument_id"] < oms.positions.shape[0]:
        return Reject.INSTRUMENT
    if request["client_order_id"] != id_of(words[SESSION], strategy_id, request["intent_sequence"]):
        return Reject.BAD_REQUEST
    if request["intent_sequence"] < oms.strategies[strategy_id, NEXT_INTENT]:
        return Reject.DUPLICATE_ID
    if find_client(oms, request["client_order_id"]) >= 0:
        return Reject.DUPLICATE_ID
    return Reject.NONE


@njit(cache=True, _nrt=False)
def check_sanity(request):
    """Judge side, type, time in force, flags and the price that goes with the type.

    Returns:
        Reject.BAD_REQUEST or NONE.
    """
    if request["side"] != Side.BID and request["side"] != Side.ASK:
        return Reject.BAD_REQUEST
    if request["reduce_only"] > 1 or request["order_qty_steps"] <= 0:
        return Reject.BAD_REQUEST
    order_type = request["order_type"]
    if order_type == OrderType.MARKET:
        return Reject.NONE if request["price_steps"] == 0 else Reject.BAD_REQUEST
    if order_type != OrderType.LIMIT or request["price_steps"] <= 0:
        return Reject.BAD_REQUEST
    if not TimeInForce.GTC <= request["time_in_force"] <= TimeInForce.GTX:
        return Reject.BAD_REQUEST
    return Reject.NONE


@njit(cache=True, _nrt=False)
def check_filters(filters, price_steps, qty_steps, reduce_only):
    """Judge the venue's own filters: tick, lot, largest quantity, least notional.

    Binance exchangeInfo: PRICE_FILTER, LOT_SIZE, MIN_NOTIONAL (reduce-only exempt; a MARKET order
    is valued at the mark price, which the venue judges itself).

    Args:
        filters: INSTRUMENT record, read.
        price_steps: limit price, 0 for MARKET.
        qty_steps: quantity.
        reduce_only: 1 if exempt from the least notional.

    Returns:
        Reject.TICK_SIZE, LOT_SIZE, MIN_NOTIONAL or NONE.
    """
    if price_steps % filters["tick_size_steps"] != 0:
        return Reject.TICK_SIZE
    if qty_steps % filters["lot_size_steps"] != 0 or qty_steps > filters["max_qty_steps"]:
        return Reject.LOT_SIZE
    if price_steps > 0 and reduce_only == 0:
        notional, overflow = multiply_checked(price_steps, qty_steps)
        if not overflow and notional < filters["min_notional_steps2"]:
            return Reject.MIN_NOTIONAL
    return Reject.NONE


@njit(cache=True, _nrt=False)
def is_fresh(cell, book_age_ns_max, now):
    """Return True if the best bid and ask are there, in order, and young enough.

    Args:
        cell: BBO_CELL record, read.
        book_age_ns_max: limit on the age of the market event behind it.
        now: CLOCK_MONOTONIC, ns.
    """
    if cell["valid"] == 0 or cell["bid_price_steps"] <= 0 or cell["ask_price_steps"] <= 0:
        return False
    if cell["bid_price_steps"] >= cell["ask_price_steps"]:
        return False
    oldest = min(cell["ts_recv_ns"], cell["ts_pub_ns"])
    return now - oldest <= book_age_ns_max


@njit(cache=True, _nrt=False)
def value_price(cell, side, price_steps):
    """Return the price that values an order: its limit, or for MARKET the best opposite price."""
    if price_steps > 0:
        return price_steps
    return cell["ask_price_steps"] if side == Side.BID else cell["bid_price_steps"]


@njit(cache=True, _nrt=False)
def check_size(limits, price_steps, qty_steps):
    """Judge quantity and notional of one order.

    Returns:
        Reject.ORDER_QTY, ORDER_NOTIONAL (also if it does not fit an int64) or NONE.
    """
    if qty_steps > limits["order_qty_steps_max"]:
        return Reject.ORDER_QTY
    notional, overflow = multiply_checked(price_steps, qty_steps)
    if overflow or notional > limits["order_notional_steps2_max"]:
        return Reject.ORDER_NOTIONAL
    return Reject.NONE


@njit(cache=True, _nrt=False)
def check_position(limits, position, side, added_steps, reduce_only):
    """Judge the position if all open and doubtful orders of the side fill, and this one too.

    Args:
        limits: LIMITS record, read.
        position: POSITION record, read.
        side: Side of the order.
        added_steps: what the order adds to the open quantity of its side.
        reduce_only: 1 is exempt if it cannot turn the position round.

    Returns:
        Reject.POSITION or NONE.
    """
    steps = position["position_steps"]
    if reduce_only != 0 and side * steps < 0 and added_steps <= abs(steps):
        return Reject.NONE
    if side == Side.BID:
        worst = steps + position["open_bid_qty_steps"] + added_steps
    else:
        worst = position["open_ask_qty_steps"] + added_steps - steps
    return Reject.POSITION if worst > limits["position_steps_max"] else Reject.NONE


@njit(cache=True, _nrt=False)
def check_market(limits, cell, price_steps, now):
    """Judge the price against the mid of the best bid and ask, then the age of the book.

    Args:
        limits: LIMITS record, read.
        cell: BBO_CELL record, read.
        price_steps: limit price, 0 for MARKET.
        now: CLOCK_MONOTONIC, ns.

    Returns:
        Reject.PRICE_BAND, STALE_BOOK or NONE.
    """
    has_mid = cell["valid"] != 0 and cell["bid_price_steps"] > 0 and cell["ask_price_steps"] > 0
    if price_steps > 0 and has_mid:
        twice_mid = cell["bid_price_steps"] + cell["ask_price_steps"]
        away, overflow = multiply_checked(abs(2 * price_steps - twice_mid), np.int64(BASIS_POINTS))
        band, band_overflow = multiply_checked(twice_mid, limits["price_band_bps_max"])
        if overflow or (not band_overflow and away > band):
            return Reject.PRICE_BAND
    if not is_fresh(cell, limits["book_age_ns_max"], now):
        return Reject.STALE_BOOK
    return Reject.NONE


@njit(cache=True, _nrt=False)
def refilled_bucket(strategy, limits, now):
    """Return what a strategy's bucket holds now; a token is the time in which one more may go."""
    elapsed = max(now - strategy[BUCKET_TS], 0)
    return min(strategy[BUCKET_NS] + elapsed, limits["bucket_ns_max"])


@njit(cache=True, _nrt=False)
def take_token(strategy, limits, now):
    """Take the price of one order out of a strategy's bucket; the caller has checked it."""
    strategy[BUCKET_NS] = max(refilled_bucket(strategy, limits, now) - limits["order_cost_ns"], 0)
    strategy[BUCKET_TS] = now


@njit(cache=True, _nrt=False)
def check_order(oms, request, now):
    """Judge one NEW; the first failed limit wins.

    Args:
        oms: Oms, read; `cells` holds the best bid and ask to judge by.
        request: ORDER_REQUEST record, read.
        now: CLOCK_MONOTONIC, ns.

    Returns:
        Reject.NONE if it may be sent, else what `check_gate`, `check_sanity`, `check_filters`,
        `check_size`, `check_position`, `check_market` return, OPEN_ORDERS, ORDER_RATE or
        ORDER_TABLE_FULL.
    """
    reject = check_gate(oms, request)
    if reject != Reject.NONE:
        return reject
    reject = check_sanity(request)
    if reject != Reject.NONE:
        return reject
    i = np.int64(request["instrument_id"])
    price, qty = request["price_steps"], request["order_qty_steps"]
    reduce_only = request["reduce_only"]
    side = np.int64(request["side"])
    limits, cell = oms.limits[i], oms.cells[i]
    reject = check_filters(oms.instruments[i], price, qty, reduce_only)
    if reject != Reject.NONE:
        return reject
    reject = check_size(limits, value_price(cell, side, price), qty)
    if reject != Reject.NONE:
        return reject
    reject = check_position(limits, oms.positions[i], side, qty, reduce_only)
    if reject != Reject.NONE:
        return reject
    if oms.marks[i, OPEN_COUNT] >= limits["open_order_count_max"]:
        return Reject.OPEN_ORDERS
    reject = check_market(limits, cell, price, now)
    if reject != Reject.NONE:
        return reject
    strategy = oms.strategies[request["strategy_id"]]
    if refilled_bucket(strategy, limits, now) < limits["order_cost_ns"]:
        return Reject.ORDER_RATE
    return Reject.NONE if has_room(oms) else Reject.ORDER_TABLE_FULL


@njit(cache=True, _nrt=False)
def check_replace(oms, request, row, now):
    """Judge one REPLACE of an order; the first failed limit wins.

    Never sent with a total at or under what is filled: Binance cancels such an order.

    Args:
        oms: Oms, read.
        request: ORDER_REQUEST record; price and the new total quantity; read.
        row: of the order, or NO_ROW.
        now: CLOCK_MONOTONIC, ns.

    Returns:
        Reject.NONE, or as `check_order`, and UNKNOWN_ORDER (not there, finished, or another
        strategy's), IN_FLIGHT (not acknowledged, or another request waits for its answer).
    """
    reject = check_gate(oms, request)
    if reject != Reject.NONE:
        return reject
    if row < 0:
        return Reject.UNKNOWN_ORDER
    order = oms.orders[row]
    if is_finished(order) or order["strategy_id"] != request["strategy_id"]:
        return Reject.UNKNOWN_ORDER
    i = np.int64(request["instrument_id"])
    if i != order["instrument_id"] or order["order_type"] != OrderType.LIMIT:
        return Reject.BAD_REQUEST
    if order["order_status"] == OrderStatus.PENDING_NEW or order["order_pending"] != 0:
        return Reject.IN_FLIGHT
    price, qty = request["price_steps"], request["order_qty_steps"]
    filled = max(order["cum_qty_steps"], order["venue_cum_qty_steps"])
    if price <= 0 or qty <= filled:
        return Reject.BAD_REQUEST
    limits = oms.limits[i]
    reduce_only = order["reduce_only"]
    reject = check_filters(oms.instruments[i], price, qty, reduce_only)
    if reject != Reject.NONE:
        return reject
    reject = check_size(limits, price, qty)
    if reject != Reject.NONE:
        return reject
    added = qty - order["order_qty_steps"]
    if added > 0:
        side = np.int64(order["side"])
        reject = check_position(limits, oms.positions[i], side, added, reduce_only)
        if reject != Reject.NONE:
            return reject
    reject = check_market(limits, oms.cells[i], price, now)
    if reject != Reject.NONE:
        return reject
    strategy = oms.strategies[request["strategy_id"]]
    if refilled_bucket(strategy, limits, now) < limits["order_cost_ns"]:
        return Reject.ORDER_RATE
    return Reject.NONE


@njit(cache=True, _nrt=False)
def check_cancel(order, request):
    """Judge one CANCEL: it needs an open order of the same strategy, nothing else.

    Returns:
        Reject.UNKNOWN_ORDER or NONE.
    """
    if is_finished(order) and order["order_pending"] & OrderPending.UNKNOWN == 0:
        return Reject.UNKNOWN_ORDER
    return Reject.NONE if order["strategy_id"] == request["strategy_id"] else Reject.UNKNOWN_ORDER

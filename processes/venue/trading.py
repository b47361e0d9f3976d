"""Order entry: parameters judged in the venue's order, then matched; queries over the orders.

Rules from the new-order, modify-order, cancel-order and query pages; the caller has checked the
signature and counted the request.
"""

import re
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING

from common.enums import OrderType, Side, TimeInForce
from processes.venue.auth import parse_int
from processes.venue.engine import MatchStatus, StpMode
from processes.venue.errors import VenueError
from processes.venue.market import STATUS_CODES
from processes.venue.orders import Fill, Order

if TYPE_CHECKING:
    from processes.venue.exchange import Exchange

CLIENT_ID = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}")
SIDES = {"BUY": Side.BID.value, "SELL": Side.ASK.value}
TIMES_IN_FORCE = {
    "GTC": TimeInForce.GTC.value,
    "IOC": TimeInForce.IOC.value,
    "FOK": TimeInForce.FOK.value,
    "GTX": TimeInForce.GTX.value,
    "GTD": TimeInForce.GTC.value,
}
STP_MODES = {mode.name: mode.value for mode in StpMode}
STP_DEFAULT = "EXPIRE_MAKER"  # the REST page's; the WebSocket page says NONE
CONDITIONAL = ("STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET")
PRICE_MATCHES = {
    f"{kind}{suffix}": (kind == "OPPONENT", level)
    for kind in ("OPPONENT", "QUEUE")
    for suffix, level in (("", 1), ("_5", 5), ("_10", 10), ("_20", 20))
    if not (kind == "OPPONENT" and level > 5)  # withdrawn on 2025-10-23
}
GTD_AHEAD_MS_MIN = 600_000
GTD_MS_MAX = 253_402_300_799_000
CLOSED_ORDERS_MAX = 20_000
FILLS_MAX = 100_000
LIST_MAX = 1_000
COUNTDOWN_MS_MAX = 86_400_000


class Trading:
    """The orders of all accounts."""

    def __init__(self, exchange: "Exchange") -> None:
        self.exchange = exchange
        self.by_id: dict[int, Order] = {}
        self.open: dict[int, dict[int, Order]] = {}  # account -> order id -> order
        self.by_client: dict[tuple[int, int, str], Order] = {}
        self.closed: deque[Order] = deque()
        self.fills: dict[tuple[int, int], list[Fill]] = {}  # account, instrument; ids grow
        self.countdowns: dict[tuple[int, int], int] = {}  # account, instrument -> deadline ms
        self.client_ids_made = 0

    def place(self, account: int, params: Mapping[str, str], now_ms: int) -> Order:
        """Take one new order: filters, margin, matching.

        Raises:
            VenueError: the first rule it breaks; nothing has changed.
        """
        order = self.read_order(account, params, now_ms)
        self.check_filters(order, params)
        self.check_account(order)
        market, kind = self.exchange.market, order.kind
        is_market = kind == "MARKET"
        status, order_id, rows = market.submit(
            order.instrument.instrument_id,
            account,
            order.side,
            OrderType.MARKET.value if is_market else OrderType.LIMIT.value,
            TIMES_IN_FORCE["GTC" if is_market else order.tif],
            STP_MODES[order.stp],
            order.reduce_only,
            self.exchange.market_bound(order) if is_market else order.price_steps,
            order.qty_steps,
        )
        if status != MatchStatus.OK:
            raise VenueError(STATUS_CODES[MatchStatus(status)])
        order.order_id = order_id
        self.by_id[order_id] = order
        self.open.setdefault(account, {})[order_id] = order
        self.by_client[account, order.instrument.instrument_id, order.client_id] = order
        self.exchange.apply(rows, now_ms)
        return order

    def read_order(self, account: int, params: Mapping[str, str], now_ms: int) -> Order:
        """Build an order from a request.

        Raises:
            VenueError: a parameter is missing or has no such value.
        """
        index = self.exchange.find_symbol(params.get("symbol"))
        order = Order(account, self.exchange.instruments[index], self.exchange.texts[index], "")
        order.side = SIDES.get(required(params, "side"), 0)
        if not order.side:
            raise VenueError(-1117)
        if params.get("positionSide", "BOTH") != "BOTH":
            raise VenueError(-4061)
        order.kind = required(params, "type")
        if order.kind in CONDITIONAL:
            raise VenueError(-4120)
        if order.kind not in ("LIMIT", "MARKET"):
            raise VenueError(-1116)
        order.time_ms = order.update_ms = now_ms
        order.reduce_only = read_flag(params, "reduceOnly")
        order.stp = params.get("selfTradePreventionMode", STP_DEFAULT)
        if order.stp not in STP_MODES:
            raise VenueError(-5039)
        if params.get("newOrderRespType", "ACK") not in ("ACK", "RESULT"):
            raise VenueError(-1136)
        if order.kind == "LIMIT":
            self.read_limit(order, params, now_ms)
        else:
            for name in ("timeInForce", "price", "priceMatch"):
                if name in params:
                    raise VenueError(-1106, name)
        order.client_id = self.read_client_id(order, params)
        return order

    def read_limit(self, order: Order, params: Mapping[str, str], now_ms: int) -> None:
        """Read what only LIMIT orders have: time in force, priceMatch, goodTillDate."""
        order.tif = required(params, "timeInForce")
        if order.tif not in TIMES_IN_FORCE:
            raise VenueError(-1115)
        order.price_match = params.get("priceMatch", "NONE")
        if order.price_match != "NONE" and order.price_match not in PRICE_MATCHES:
            raise VenueError(-5037)
        if order.price_match != "NONE" and "price" in params:
            raise VenueError(-1106, "price")
        if order.tif == "GTD":
            until_ms = parse_int(params.get("goodTillDate"), "goodTillDate") // 1_000 * 1_000
            if not now_ms + GTD_AHEAD_MS_MIN < until_ms < GTD_MS_MAX:
                raise VenueError(-5040)
            order.gtd_ms = until_ms

    def read_client_id(self, order: Order, params: Mapping[str, str]) -> str:
        """Return the client order id, made up if none was sent.

        Raises:
            VenueError: -4015, or -4116 if an open order has it.
        """
        client_id = params.get("newClientOrderId")
        if client_id is None:
            self.client_ids_made += 1
            return f"venue-{self.client_ids_made:012d}"
        if not CLIENT_ID.fullmatch(client_id):
            raise VenueError(-4015)
        same = self.by_client.get((order.account, order.instrument.instrument_id, client_id))
        if same is not None and same.is_open:
            raise VenueError(-4116)
        return client_id

    def check_filters(self, order: Order, params: Mapping[str, str]) -> None:
        """Judge price, quantity, percent price and notional of a new order."""
        index = order.instrument.instrument_id
        rules, mark_e8 = self.exchange.rules[index], self.exchange.marks[index].mark_e8
        quantity = required(params, "quantity")
        if order.kind == "MARKET":
            order.qty_steps = rules.read_qty(quantity, is_market=True)
            bid, _, ask, _ = self.exchange.market.best(index)
            best = ask if order.side == Side.BID else bid
            if best:
                rules.check_market_price(order.side, best, mark_e8)
            reference = mark_e8 // rules.step_e8
        else:
            if order.price_match != "NONE":
                order.price_steps = self.matched_price(order)
            else:
                order.price_steps = rules.read_price(required(params, "price"))
            order.qty_steps = rules.read_qty(quantity, is_market=False)
            rules.check_percent_price(order.side, order.price_steps, mark_e8)
            reference = order.price_steps
        if not order.reduce_only:
            rules.check_notional(reference, order.qty_steps)

    def matched_price(self, order: Order) -> int:
        """Return the price that priceMatch takes from the book.

        Raises:
            VenueError: -1112 if the book has no such level.
        """
        is_opponent, level = PRICE_MATCHES[order.price_match]
        bids, asks = self.exchange.market.depth(order.instrument.instrument_id, level)
        levels = asks if is_opponent == (order.side == Side.BID) else bids
        if len(levels) < level:
            raise VenueError(-1112)
        return levels[level - 1][0]

    def check_account(self, order: Order) -> None:
        """Judge the number of open orders and the margin.

        Raises:
            VenueError: -2025, -2019 or -2027.
        """
        index = order.instrument.instrument_id
        mine = self.open.get(order.account, {}).values()
        count = sum(o.instrument.instrument_id == index for o in mine)
        if count >= self.exchange.rules[index].config.open_orders_max:
            raise VenueError(-2025)
        if not order.reduce_only:
            self.exchange.views.check_margin(order)

    def placed_body(
        self, order: Order, params: Mapping[str, str], *, has_fills: bool
    ) -> dict[str, object]:
        """Return the answer to a new order: RESULT as it stands, ACK as it was accepted."""
        body = order.placed(has_fills)
        if params.get("newOrderRespType") != "RESULT":
            zero = order.texts.qty(0)
            body |= {"status": "NEW", "executedQty": zero, "cumQty": zero}
            if has_fills:
                body |= {"avgPrice": order.texts.price(0), "cumQuote": "0.00000"}
        return body

    def cancel(self, account: int, params: Mapping[str, str], now_ms: int) -> Order:
        """Cancel one order.

        Raises:
            VenueError: -2011 if it is not open, whatever became of it.
        """
        order = self.find(account, params)
        if order is None or not order.is_open:
            raise VenueError(-2011)
        self.cancel_order(order, now_ms)
        return order

    def cancel_order(self, order: Order, now_ms: int) -> None:
        """Take an open order off the book."""
        status, rows = self.exchange.market.cancel(
            order.instrument.instrument_id, order.account, order.order_id
        )
        if status != MatchStatus.OK:
            raise VenueError(STATUS_CODES[MatchStatus(status)])
        self.exchange.apply(rows, now_ms)

    def cancel_all(self, account: int, symbol: str, now_ms: int) -> int:
        """Cancel all open orders of an account in a symbol; return how many there were."""
        orders = self.open_orders(account, symbol)
        for order in orders:
            if order.is_open:  # a cancel can change other reduce-only orders
                self.cancel_order(order, now_ms)
        return len(orders)

    def modify(self, account: int, params: Mapping[str, str], now_ms: int) -> Order:
        """Amend price and total quantity of a LIMIT order.

        Raises:
            VenueError: the order is as it was.
        """
        order = self.find(account, params)
        if order is None or not order.is_open:
            raise VenueError(-2013)
        if order.kind != "LIMIT":
            raise VenueError(-5025)
        if SIDES.get(required(params, "side")) != order.side:
            raise VenueError(-1117)
        index = order.instrument.instrument_id
        rules = self.exchange.rules[index]
        price_steps = rules.read_price(required(params, "price"))
        qty_steps = rules.read_qty(required(params, "quantity"), is_market=False)
        rules.check_percent_price(order.side, price_steps, self.exchange.marks[index].mark_e8)
        if not order.reduce_only:
            rules.check_notional(price_steps, qty_steps, -5029)
            self.exchange.views.check_margin(order, price_steps, qty_steps)
        status, rows = self.exchange.market.amend(
            index, account, order.order_id, price_steps, qty_steps
        )
        if status == MatchStatus.UNKNOWN_ORDER:
            raise VenueError(-2013)
        if status != MatchStatus.OK:
            raise VenueError(STATUS_CODES[MatchStatus(status)])
        order.stp = "NONE"  # stp-faq page
        order.modify_count += 1
        self.exchange.apply(rows, now_ms)
        return order

    def find(self, account: int, params: Mapping[str, str]) -> Order | None:
        """Return the account's order that orderId (first) or origClientOrderId names.

        Raises:
            VenueError: -1102 without either, -1121.
        """
        index = self.exchange.find_symbol(params.get("symbol"))
        if params.get("orderId"):
            order = self.by_id.get(parse_int(params["orderId"], "orderId"))
            if order is None or order.account != account:
                return None
            return order if order.instrument.instrument_id == index else None
        if not params.get("origClientOrderId"):
            raise VenueError(
                -1102,
                message="Param 'origClientOrderId' or 'orderId' must be sent, "
                "but both were empty/null!",
            )
        return self.by_client.get((account, index, params["origClientOrderId"]))

    def query(self, account: int, params: Mapping[str, str]) -> Order:
        """Return one order. Raises VenueError -2013 if there is none."""
        order = self.find(account, params)
        if order is None:
            raise VenueError(-2013)
        return order

    def open_order(self, account: int, params: Mapping[str, str]) -> Order:
        """Return one open order. Raises VenueError -2013 if it is not open."""
        order = self.query(account, params)
        if not order.is_open:
            raise VenueError(-2013)
        return order

    def open_orders(self, account: int, symbol: str | None) -> list[Order]:
        """Return the account's open orders, of one symbol or of all."""
        orders = self.open.get(account, {}).values()
        if symbol is None:
            return list(orders)
        index = self.exchange.find_symbol(symbol)
        return [o for o in orders if o.instrument.instrument_id == index]

    def open_notionals(self, account: int, index: int) -> tuple[int, int]:
        """Return the notional in steps2 of the account's open bids and asks of a symbol."""
        totals = {Side.BID.value: 0, Side.ASK.value: 0}
        for order in self.open.get(account, {}).values():
            if order.instrument.instrument_id == index:
                totals[order.side] += order.price_steps * order.open_steps
        return totals[Side.BID.value], totals[Side.ASK.value]

    def all_orders(self, account: int, params: Mapping[str, str]) -> list[Order]:
        """Return the account's remembered orders of a symbol, oldest first."""
        index = self.exchange.find_symbol(params.get("symbol"))
        first = parse_int(params.get("orderId", "0"), "orderId")
        count = read_count(params, 500)
        found = [
            o
            for o in self.by_id.values()
            if o.account == account and o.instrument.instrument_id == index and o.order_id >= first
        ]
        found.sort(key=lambda o: o.order_id)
        return found[:count] if first else found[-count:]

    def user_trades(self, account: int, params: Mapping[str, str]) -> list[Fill]:
        """Return the account's fills of a symbol: from an id on, from a time on, or the last."""
        index = self.exchange.find_symbol(params.get("symbol"))
        count = read_count(params, 500)
        fills = self.fills.get((account, index), [])
        if "orderId" in params:
            order_id = parse_int(params["orderId"], "orderId")
            fills = [f for f in fills if f.order.order_id == order_id]
        end = len(fills)
        if "endTime" in params:
            end_ms = parse_int(params["endTime"], "endTime")
            end = bisect_right(fills, end_ms, key=lambda f: f.ts_ms)
        if "fromId" in params:
            first_id = parse_int(params["fromId"], "fromId")
            first = bisect_left(fills, first_id, key=lambda f: f.trade_id)
        elif "startTime" in params:
            start_ms = parse_int(params["startTime"], "startTime")
            first = bisect_left(fills, start_ms, key=lambda f: f.ts_ms)
        else:
            first = max(end - count, 0)
        return fills[first : min(end, first + count)]

    def countdown(self, account: int, params: Mapping[str, str], now_ms: int) -> dict[str, str]:
        """Arm, renew or disarm the dead-man switch of a symbol."""
        index = self.exchange.find_symbol(params.get("symbol"))
        length_ms = parse_int(params.get("countdownTime"), "countdownTime")
        if length_ms > COUNTDOWN_MS_MAX:
            raise VenueError(-1130, "countdownTime")
        if length_ms:
            self.countdowns[account, index] = now_ms + length_ms
        else:
            self.countdowns.pop((account, index), None)
        return {
            "symbol": self.exchange.instruments[index].symbol,
            "countdownTime": str(length_ms),
        }

    def on_time(self, now_ms: int) -> None:
        """Fire countdowns and end GTD orders."""
        for account, index in [key for key, due in self.countdowns.items() if now_ms >= due]:
            del self.countdowns[account, index]
            self.cancel_all(account, self.exchange.instruments[index].symbol, now_ms)
        for orders in self.open.values():
            for order in [o for o in orders.values() if 0 < o.gtd_ms <= now_ms]:
                self.cancel_order(order, now_ms)

    def close(self, order: Order) -> None:
        """Move an order that can no longer trade out of the open ones; the oldest are forgotten."""
        self.open[order.account].pop(order.order_id, None)
        self.closed.append(order)
        if len(self.closed) > CLOSED_ORDERS_MAX:
            old = self.closed.popleft()
            self.by_id.pop(old.order_id, None)
            key = (old.account, old.instrument.instrument_id, old.client_id)
            if self.by_client.get(key) is old:
                del self.by_client[key]

    def add_fill(self, fill: Fill) -> None:
        """Remember a fill for userTrades."""
        key = fill.account, fill.order.instrument.instrument_id
        fills = self.fills.setdefault(key, [])
        fills.append(fill)
        if len(fills) > FILLS_MAX:
            del fills[: FILLS_MAX // 2]


def required(params: Mapping[str, str], name: str) -> str:
    """Return a mandatory parameter. Raises VenueError -1102."""
    text = params.get(name)
    if not text:
        raise VenueError(-1102, name)
    return text


def read_flag(params: Mapping[str, str], name: str) -> bool:
    """Return an optional "true" / "false". Raises VenueError -1130."""
    text = params.get(name, "false").lower()
    if text not in ("true", "false"):
        raise VenueError(-1130, name)
    return text == "true"


def read_count(params: Mapping[str, str], default: int) -> int:
    """Return `limit`, at most 1,000. Raises VenueError -1130."""
    count = parse_int(params.get("limit", str(default)), "limit")
    if not 0 < count <= LIST_MAX:
        raise VenueError(-1130, "limit")
    return count

"""The matching engine once more, slowly: dicts, lists and deep copies, the same events.

Order ids are plain sequence numbers; the engine's are those shifted left by SLOT_BITS.
"""

import copy
from dataclasses import dataclass

from common.enums import OrderType, Side, TimeInForce
from processes.venue.engine import (
    AMENDMENTS_MAX,
    NO_ASK,
    NO_BID,
    PRICE_STEPS_MAX,
    QTY_STEPS_MAX,
    EventKind,
    MatchStatus,
    Reason,
    StpMode,
)

# Field order of EVENT.
FIELDS = (
    "kind",
    "side",
    "reason",
    "maker_done",
    "instrument_id",
    "price_steps",
    "qty_steps",
    "leaves_qty_steps",
    "event_id",
    "order_id",
    "maker_order_id",
    "account_id",
    "maker_account_id",
)


@dataclass
class NaiveOrder:
    """One order."""

    order_id: int
    instrument_id: int
    account_id: int
    side: int
    time_in_force: int
    reduce_only: int
    price: int
    qty: int
    leaves: int
    amendments: int = 0


class NaiveEngine:
    """Many books as {(instrument, side, price): [orders, first come first]}."""

    def __init__(self, orders_max):
        self.orders_max = orders_max
        self.sequence = 0
        self.open = {}  # order_id -> NaiveOrder
        self.queues = {}
        self.positions = {}  # (account, instrument) -> signed quantity
        self.update_ids = {}
        self.trade_ids = {}
        self.events = []

    def prices(self, instrument, side):
        """Return the occupied prices of a side, best first."""
        found = [p for i, s, p in self.queues if (i, s) == (instrument, side)]
        return sorted(found, reverse=side == Side.BID)

    def total(self, instrument, side, price):
        """Return the open quantity at a price."""
        return sum(order.leaves for order in self.queues.get((instrument, side, price), []))

    def best(self, instrument):
        """Return bid price, bid quantity, ask price, ask quantity."""
        bids, asks = (self.prices(instrument, side) for side in (Side.BID, Side.ASK))
        bid = bids[0] if bids else NO_BID
        ask = asks[0] if asks else NO_ASK
        bid_qty, ask_qty = (self.total(instrument, s, p) for s, p in ((1, bid), (-1, ask)))
        return bid, bid_qty, ask, ask_qty

    def position(self, account, instrument):
        """Return a signed position."""
        return self.positions.get((account, instrument), 0)

    def reducible(self, account, instrument, side):
        """Return what an order of `side` could take off the position."""
        return max(-side * self.position(account, instrument), 0)

    def tell(self, kind, **values):
        """Note one event."""
        values = {key: int(value) for key, value in values.items()}
        self.events.append(tuple({"kind": int(kind), **values}.get(f, 0) for f in FIELDS))

    def tell_order(self, kind, order, reason=Reason.NONE):
        """Note an event of one order."""
        self.tell(
            kind,
            reason=reason,
            instrument_id=order.instrument_id,
            account_id=order.account_id,
            order_id=order.order_id,
            side=order.side,
            price_steps=order.price,
            qty_steps=order.qty,
            leaves_qty_steps=order.leaves,
        )

    def tell_level(self, instrument, side, price):
        """Note the new total of a level."""
        self.update_ids[instrument] = self.update_ids.get(instrument, 0) + 1
        self.tell(
            EventKind.LEVEL,
            instrument_id=instrument,
            side=side,
            price_steps=price,
            qty_steps=self.total(instrument, side, price),
            event_id=self.update_ids[instrument],
        )

    def unqueue(self, order):
        """Take an order out of its queue."""
        key = (order.instrument_id, order.side, order.price)
        self.queues[key].remove(order)
        if not self.queues[key]:
            del self.queues[key]

    def submit(self, instrument, account, side, kind, tif, stp, reduce_only, price, qty):
        """Match a new order; (status, order_id)."""
        is_market = kind == OrderType.MARKET
        limit = price
        if is_market:
            tif = TimeInForce.IOC
            if price == 0:
                limit = PRICE_STEPS_MAX if side == Side.BID else 1
        status = self.check(limit, qty)
        if status:
            return status, 0
        if reduce_only:
            qty = min(qty, self.reducible(account, instrument, side))
            if qty == 0:
                return MatchStatus.REDUCE_ONLY, 0
        if tif == TimeInForce.FOK:
            stp = StpMode.NONE
        order = NaiveOrder(0, instrument, account, side, tif, reduce_only, limit, qty, qty)
        if tif == TimeInForce.FOK:
            trial = copy.deepcopy(self)
            if trial.take(copy.copy(order), stp)[0] > 0:
                return MatchStatus.FOK, 0
        if tif == TimeInForce.GTX and self.would_take(instrument, side, limit):
            return MatchStatus.POST_ONLY, 0
        if tif in (TimeInForce.GTC, TimeInForce.GTX) and len(self.open) == self.orders_max:
            return MatchStatus.ORDERS_FULL, 0
        self.sequence += 1
        order.order_id = self.sequence
        shown = copy.copy(order)
        shown.price = price
        self.tell_order(EventKind.NEW, shown)
        if tif in (TimeInForce.GTC, TimeInForce.GTX):
            self.open[order.order_id] = order
            self.work(order, stp)
        else:
            shown.leaves, is_stopped = self.take(order, stp)
            if shown.leaves:
                reason = Reason.MARKET if is_market else Reason.IOC
                if is_stopped:
                    reason = Reason.STP if is_market else Reason.IOC_STP
                self.tell_order(EventKind.EXPIRED, shown, reason)
            self.knock_out(instrument)
        return MatchStatus.OK, order.order_id

    def check(self, price, qty):
        """Judge the numbers of an order."""
        if not 1 <= price <= PRICE_STEPS_MAX:
            return MatchStatus.BAD_PRICE
        if not 1 <= qty <= QTY_STEPS_MAX:
            return MatchStatus.BAD_QTY
        return MatchStatus.OK

    def would_take(self, instrument, side, price):
        """Return True if an order would trade at once."""
        prices = self.prices(instrument, -side)
        return bool(prices) and side * price >= side * prices[0]

    def work(self, order, stp):
        """Let an order take and rest."""
        order.leaves, is_stopped = self.take(order, stp)
        if order.leaves and not is_stopped:
            key = (order.instrument_id, order.side, order.price)
            self.queues.setdefault(key, []).append(order)
            self.tell_level(*key)
        else:
            if order.leaves:
                self.tell_order(EventKind.EXPIRED, order, Reason.STP)
            del self.open[order.order_id]
        self.knock_out(order.instrument_id)

    def take(self, taker, stp):
        """Fill a taker; (what is left of it, whether self-trade prevention stopped it)."""
        instrument = taker.instrument_id
        leaves = taker.leaves
        is_stopped = False
        while leaves and not is_stopped and self.would_take(instrument, taker.side, taker.price):
            price = self.prices(instrument, -taker.side)[0]
            before = self.total(instrument, -taker.side, price)
            for maker in list(self.queues[instrument, -taker.side, price]):
                if leaves == 0:
                    break
                if stp != StpMode.NONE and maker.account_id == taker.account_id:
                    is_stopped = stp != StpMode.EXPIRE_MAKER
                    if stp != StpMode.EXPIRE_TAKER:
                        self.expire(maker, Reason.STP)
                    if is_stopped:
                        break
                elif maker.reduce_only and maker.leaves > self.reducible(
                    maker.account_id, instrument, maker.side
                ):
                    self.expire(maker, Reason.REDUCE_ONLY)
                else:
                    leaves -= self.trade(taker, maker, price, leaves)
            if self.total(instrument, -taker.side, price) != before:
                self.tell_level(instrument, -taker.side, price)
        return leaves, is_stopped

    def expire(self, order, reason):
        """Expire an order that is queued."""
        self.tell_order(EventKind.EXPIRED, order, reason)
        self.unqueue(order)
        del self.open[order.order_id]

    def trade(self, taker, maker, price, leaves):
        """Fill a taker and a maker; the quantity filled."""
        instrument = taker.instrument_id
        fill = min(leaves, maker.leaves)
        maker.leaves -= fill
        self.trade_ids[instrument] = self.trade_ids.get(instrument, 0) + 1
        self.tell(
            EventKind.TRADE,
            side=taker.side,
            maker_done=maker.leaves == 0,
            instrument_id=instrument,
            price_steps=price,
            qty_steps=fill,
            leaves_qty_steps=leaves - fill,
            event_id=self.trade_ids[instrument],
            order_id=taker.order_id,
            maker_order_id=maker.order_id,
            account_id=taker.account_id,
            maker_account_id=maker.account_id,
        )
        for order in (taker, maker):
            key = (order.account_id, instrument)
            self.positions[key] = self.positions.get(key, 0) + order.side * fill
        if maker.leaves == 0:
            self.unqueue(maker)
            del self.open[maker.order_id]
        return fill

    def queued(self, instrument):
        """Return all queued orders, bids first, best first, first come first."""
        return [
            order
            for side in (Side.BID, Side.ASK)
            for price in self.prices(instrument, side)
            for order in self.queues[instrument, side, price]
        ]

    def knock_out(self, instrument):
        """Expire reduce-only orders that could turn their position."""
        for order in self.queued(instrument):
            if order.reduce_only and order.leaves > self.reducible(
                order.account_id, instrument, order.side
            ):
                self.expire(order, Reason.REDUCE_ONLY)
                self.tell_level(instrument, order.side, order.price)

    def find(self, instrument, account, order_id):
        """Return an open order of this account and instrument, or None."""
        order = self.open.get(order_id)
        if order and (order.instrument_id, order.account_id) == (instrument, account):
            return order
        return None

    def cancel_order(self, order, reason=Reason.NONE):
        """Cancel a queued order."""
        self.tell_order(EventKind.CANCELED, order, reason)
        self.unqueue(order)
        del self.open[order.order_id]
        self.tell_level(order.instrument_id, order.side, order.price)

    def cancel(self, instrument, account, order_id):
        """Cancel one order; status."""
        order = self.find(instrument, account, order_id)
        if order is None:
            return MatchStatus.UNKNOWN_ORDER
        self.cancel_order(order)
        return MatchStatus.OK

    def cancel_all(self, instrument, account):
        """Cancel all orders of an account in an instrument; how many."""
        orders = [o for o in self.queued(instrument) if o.account_id == account]
        for order in orders:
            self.cancel_order(order)
        return len(orders)

    def amend(self, instrument, account, order_id, price, qty):
        """Amend an order; status."""
        order = self.find(instrument, account, order_id)
        if order is None:
            return MatchStatus.UNKNOWN_ORDER
        status = self.check(price, qty)
        if status:
            return status
        if (order.price, order.qty) == (price, qty):
            return MatchStatus.NOT_CHANGED
        if order.amendments >= AMENDMENTS_MAX:
            return MatchStatus.AMENDMENTS
        executed = order.qty - order.leaves
        if qty <= executed:
            self.cancel_order(order, Reason.AMEND_QTY)
            return MatchStatus.OK
        if order.time_in_force == TimeInForce.GTX and self.would_take(
            instrument, order.side, price
        ):
            self.cancel_order(order, Reason.AMEND_POST_ONLY)
            return MatchStatus.OK
        self.unqueue(order)
        self.tell_level(instrument, order.side, order.price)
        leaves = qty - executed
        if order.reduce_only:
            leaves = min(leaves, self.reducible(account, instrument, order.side))
        order.price, order.qty, order.leaves = price, executed + leaves, leaves
        order.amendments += 1
        self.tell_order(EventKind.AMENDED, order)
        self.work(order, StpMode.NONE)
        return MatchStatus.OK

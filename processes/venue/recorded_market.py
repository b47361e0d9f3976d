"""Our orders on a recorded book: takers walk it, makers wait in its queues.

The recording does not know our orders, so the rules are the usual conservative ones. A resting
order stands behind all quantity that its level showed when it came; recorded trades at its price
first eat that queue; a level that shrinks without trades shrinks the queue only when it is smaller
than it. A trade through the price fills the order whole. Levels that we took stay taken until the
recording next speaks of them. Orders of ours do not meet each other.
"""

from collections.abc import Iterable

from common.enums import OrderType, Side, TimeInForce
from processes.venue.engine import AMENDMENTS_MAX, EventKind, MatchStatus, Reason
from processes.venue.market import Levels, Row

OWN_TRADE_ID_BASE = 10**15  # our trades are not the recorded ones; their ids grow, as a venue's do
ORDERS_MAX = 65_536
BID, ASK = Side.BID.value, Side.ASK.value


class Resting:
    """One of our open orders.

    Attributes:
        ahead_steps: recorded quantity that trades before it at its price.
    """

    __slots__ = (
        "account",
        "ahead_steps",
        "amendments",
        "index",
        "leaves_steps",
        "order_id",
        "price_steps",
        "qty_steps",
        "reduce_only",
        "side",
        "tif",
    )

    def __init__(self, order_id: int, account: int, index: int, side: int) -> None:
        self.order_id = order_id
        self.account = account
        self.index = index
        self.side = side
        self.price_steps = 0
        self.qty_steps = 0
        self.leaves_steps = 0
        self.ahead_steps = 0
        self.tif = TimeInForce.GTC.value
        self.reduce_only = False
        self.amendments = 0


class RecordedBook:
    """The recorded levels of one instrument."""

    def __init__(self) -> None:
        self.sides: dict[int, dict[int, int]] = {BID: {}, ASK: {}}
        self.taken: dict[int, dict[int, int]] = {BID: {}, ASK: {}}
        self.last_update_id = 0
        self.sorted: dict[int, list[int]] = {}

    def replace(self, bids: Levels, asks: Levels, last_update_id: int) -> None:
        """Take over a snapshot."""
        self.sides = {BID: dict(bids), ASK: dict(asks)}
        self.taken = {BID: {}, ASK: {}}
        self.last_update_id = last_update_id
        self.sorted.clear()

    def set_levels(self, side: int, levels: Levels) -> None:
        """Take over changed levels; quantity 0 removes."""
        held, taken = self.sides[side], self.taken[side]
        for price_steps, qty_steps in levels:
            if qty_steps:
                held[price_steps] = qty_steps
            else:
                held.pop(price_steps, None)
            taken.pop(price_steps, None)
        self.sorted.pop(side, None)

    def prices(self, side: int) -> list[int]:
        """Return the prices of a side, best first."""
        found = self.sorted.get(side)
        if found is None:
            found = self.sorted[side] = sorted(self.sides[side], reverse=side == BID)
        return found

    def available(self, side: int, price_steps: int) -> int:
        """Return what a taker still finds at a price."""
        held = self.sides[side].get(price_steps, 0)
        return max(held - self.taken[side].get(price_steps, 0), 0)

    def walk(self, side: int, limit_steps: int, qty_steps: int) -> Levels:
        """Return what a taker of `side` would get, level by level.

        Args:
            limit_steps: worst price, 0 for any.
        """
        got: Levels = []
        for price in self.prices(-side):
            if qty_steps == 0 or (limit_steps and side * (price - limit_steps) > 0):
                break
            part = min(self.available(-side, price), qty_steps)
            if part:
                got.append((price, part))
                qty_steps -= part
        return got

    def top(self, side: int, level_count: int) -> Levels:
        """Return the best levels of a side as recorded."""
        return [(p, self.sides[side][p]) for p in self.prices(side)[:level_count]]


class RecordedMarket:
    """The recorded books of all instruments and our orders on them.

    Its methods are EngineMarket's, its events the engine's rows; market streams are not made from
    them: the recording's own frames are the market.
    """

    is_public = False

    def __init__(self, instruments_max: int, accounts_max: int) -> None:
        self.books = [RecordedBook() for _ in range(instruments_max)]
        self.orders: dict[int, Resting] = {}
        self.positions = [[0] * instruments_max for _ in range(accounts_max)]
        self.orders_made = 0
        self.trades_made = 0

    def submit(
        self,
        instrument_id: int,
        account_id: int,
        side: int,
        order_type: int,
        time_in_force: int,
        stp_mode: int,
        reduce_only: bool,
        price_steps: int,
        qty_steps: int,
    ) -> tuple[int, int, list[Row]]:
        """Match a new order with the recorded book; (MatchStatus, order_id, events)."""
        is_market = order_type == OrderType.MARKET
        if reduce_only:
            qty_steps = min(qty_steps, self.reducible(account_id, instrument_id, side))
            if qty_steps == 0:
                return MatchStatus.REDUCE_ONLY, 0, []
        if len(self.orders) >= ORDERS_MAX:
            return MatchStatus.ORDERS_FULL, 0, []
        got = self.books[instrument_id].walk(side, price_steps, qty_steps)
        if time_in_force == TimeInForce.GTX and got and not is_market:
            return MatchStatus.POST_ONLY, 0, []
        total = sum(qty for _, qty in got)
        if time_in_force == TimeInForce.FOK and total < qty_steps and not is_market:
            return MatchStatus.FOK, 0, []
        self.orders_made += 1
        order = Resting(self.orders_made, account_id, instrument_id, side)
        order.price_steps, order.qty_steps = price_steps, qty_steps
        order.leaves_steps = qty_steps
        order.tif, order.reduce_only = time_in_force, bool(reduce_only)
        rows = [order_row(EventKind.NEW, order, 0)]
        self.take(order, got, rows)
        self.settle(order, is_market, rows)
        return MatchStatus.OK, order.order_id, rows

    def take(self, order: Resting, got: Levels, rows: list[Row]) -> None:
        """Fill an order from recorded levels."""
        taken = self.books[order.index].taken[-order.side]
        for price, qty in got:
            taken[price] = taken.get(price, 0) + qty
            self.fill(order, qty)
            rows.append(self.trade_row(order.side, price, qty, taker=order))

    def settle(self, order: Resting, is_market: bool, rows: list[Row]) -> None:
        """Let what is left of an order rest behind its level, or expire."""
        if order.leaves_steps == 0:
            return
        if is_market or order.tif in (TimeInForce.IOC, TimeInForce.FOK):
            reason = Reason.MARKET if is_market else Reason.IOC
            rows.append(order_row(EventKind.EXPIRED, order, reason))
            return
        book = self.books[order.index]
        order.ahead_steps = book.sides[order.side].get(order.price_steps, 0)
        self.orders[order.order_id] = order

    def cancel(self, instrument_id: int, account_id: int, order_id: int) -> tuple[int, list[Row]]:
        """Cancel an open order; (MatchStatus, events)."""
        order = self.orders.get(order_id)
        if order is None or (order.account, order.index) != (account_id, instrument_id):
            return MatchStatus.UNKNOWN_ORDER, []
        del self.orders[order_id]
        return MatchStatus.OK, [order_row(EventKind.CANCELED, order, 0)]

    def amend(
        self, instrument_id: int, account_id: int, order_id: int, price_steps: int, qty_steps: int
    ) -> tuple[int, list[Row]]:
        """Amend an open order; (MatchStatus, events)."""
        order = self.orders.get(order_id)
        if order is None or (order.account, order.index) != (account_id, instrument_id):
            return MatchStatus.UNKNOWN_ORDER, []
        if (price_steps, qty_steps) == (order.price_steps, order.qty_steps):
            return MatchStatus.NOT_CHANGED, []
        if order.amendments >= AMENDMENTS_MAX:
            return MatchStatus.AMENDMENTS, []
        del self.orders[order_id]
        executed = order.qty_steps - order.leaves_steps
        got = self.books[instrument_id].walk(order.side, price_steps, max(qty_steps - executed, 0))
        if qty_steps <= executed:
            return MatchStatus.OK, [order_row(EventKind.CANCELED, order, Reason.AMEND_QTY)]
        if order.tif == TimeInForce.GTX and got:
            return MatchStatus.OK, [order_row(EventKind.CANCELED, order, Reason.AMEND_POST_ONLY)]
        order.price_steps, order.qty_steps = price_steps, qty_steps
        order.leaves_steps = qty_steps - executed
        order.amendments += 1
        rows = [order_row(EventKind.AMENDED, order, 0)]
        self.take(order, got, rows)
        self.settle(order, False, rows)
        return MatchStatus.OK, rows

    def reducible(self, account_id: int, instrument_id: int, side: int) -> int:
        """Return the quantity that an order of `side` can take off the position."""
        return max(-side * self.positions[account_id][instrument_id], 0)

    def on_levels(self, index: int, side: int, levels: Levels) -> None:
        """Take over recorded levels; queues cannot be longer than what is shown."""
        self.books[index].set_levels(side, levels)
        if self.orders:
            shown = dict(levels)
            for order in self.orders_at(index, side):
                if order.price_steps in shown:
                    order.ahead_steps = min(order.ahead_steps, shown[order.price_steps])

    def fill(self, order: Resting, qty_steps: int) -> None:
        """Book one fill of an order."""
        order.leaves_steps -= qty_steps
        self.positions[order.account][order.index] += order.side * qty_steps
        self.trades_made += 1

    def trade_row(
        self,
        aggressor: int,
        price_steps: int,
        qty_steps: int,
        *,
        taker: Resting | None = None,
        maker: Resting | None = None,
    ) -> Row:
        """Return an engine TRADE event between one of our orders and the recording (account 0)."""
        ours = taker or maker
        assert ours is not None
        return (
            int(EventKind.TRADE),
            aggressor,
            0,
            int(maker is not None and maker.leaves_steps == 0),
            ours.index,
            price_steps,
            qty_steps,
            0 if taker is None else taker.leaves_steps,
            OWN_TRADE_ID_BASE + self.trades_made,
            0 if taker is None else taker.order_id,
            0 if maker is None else maker.order_id,
            0 if taker is None else taker.account,
            0 if maker is None else maker.account,
        )

    def on_trade(self, index: int, aggressor: int, price_steps: int, qty_steps: int) -> list[Row]:
        """Fill our orders that a recorded trade reaches; their events."""
        rows: list[Row] = []
        ours = 0  # of this trade's quantity
        for order in list(self.orders_at(index, -aggressor)):
            better = order.side * (order.price_steps - price_steps)
            if better < 0:
                continue
            if better > 0:
                part = order.leaves_steps
            else:
                part = min(order.leaves_steps, qty_steps - order.ahead_steps - ours)
                order.ahead_steps = max(order.ahead_steps - qty_steps, 0)
            if part <= 0:
                continue
            if order.reduce_only:
                part = min(part, self.reducible(order.account, index, order.side))
                if part == 0:
                    del self.orders[order.order_id]
                    rows.append(order_row(EventKind.EXPIRED, order, Reason.REDUCE_ONLY))
                    continue
            ours += part if better == 0 else 0
            self.fill(order, part)
            if order.leaves_steps == 0:
                del self.orders[order.order_id]
            rows.append(self.trade_row(aggressor, order.price_steps, part, maker=order))
        return rows

    def orders_at(self, index: int, side: int) -> Iterable[Resting]:
        """Return our open orders of one side, oldest first."""
        return (o for o in self.orders.values() if o.index == index and o.side == side)

    def best(self, instrument_id: int) -> tuple[int, int, int, int]:
        """Return bid price, bid quantity, ask price, ask quantity; 0 for an empty side."""
        bids, asks = self.depth(instrument_id, 1)
        return (*(bids[0] if bids else (0, 0)), *(asks[0] if asks else (0, 0)))

    def depth(self, instrument_id: int, level_count: int) -> tuple[Levels, Levels]:
        """Return the best recorded bids and asks as (price, quantity)."""
        book = self.books[instrument_id]
        return book.top(BID, level_count), book.top(ASK, level_count)

    def last_update_id(self, instrument_id: int) -> int:
        """Return the recorded update id of the book."""
        return self.books[instrument_id].last_update_id


def order_row(kind: int, order: Resting, reason: int) -> Row:
    """Return an engine event about one of our orders."""
    return (
        int(kind),
        order.side,
        int(reason),
        0,
        order.index,
        order.price_steps,
        order.qty_steps,
        order.leaves_steps,
        0,
        order.order_id,
        0,
        order.account,
        0,
    )

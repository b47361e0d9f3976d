"""The slow, obvious twin of the order life cycle: dicts and sets, one rule a line.

It follows the rules of processes/risk (transitions.py, orders.py, positions.py) and none of their
code: no lists, no indices, no sums that are kept up to date.
"""

from dataclasses import dataclass, field
from fractions import Fraction

from common.enums import ExecType, OrderPending, OrderStatus, Reject, ReportSource, RequestKind

CANCEL, REPLACE, UNKNOWN = OrderPending.CANCEL, OrderPending.REPLACE, OrderPending.UNKNOWN
LIVE = (OrderStatus.PENDING_NEW, OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED)
ENDINGS = (ExecType.CANCELED, ExecType.EXPIRED)
ENDS = (OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.REJECTED, OrderStatus.EXPIRED)


@dataclass
class NaiveOrder:
    """One order."""

    order_id: int
    side: int
    price: int
    qty: int
    status: int = OrderStatus.PENDING_NEW
    pending: int = 0
    cancel_sent: bool = False
    replace_price: int = 0
    replace_qty: int = 0
    replace_id: int = 0
    cancel_id: int = 0
    venue_id: int = 0
    venue_cum: int = 0
    replaced_at: int = 0
    missing: int = 0
    is_lost: bool = False
    venue_end: bool = False
    fills: dict = field(default_factory=dict)

    @property
    def cum(self) -> int:
        """Sum of distinct fills."""
        return sum(qty for qty, _price, _fee in self.fills.values())

    @property
    def asked(self) -> int:
        """The most that the venue may be working with."""
        return max(self.qty, self.replace_qty) if self.pending & REPLACE else self.qty

    @property
    def may_fill(self) -> int:
        """What may still fill, at the worst."""
        most = self.venue_cum
        if self.status in LIVE or self.pending & UNKNOWN:
            most = max(most, self.asked)
        return max(most - self.cum, 0)

    @property
    def leaves(self) -> int:
        """What is open."""
        return max(self.qty - self.cum, 0) if self.status in LIVE else 0

    def end(self, status: int, r: dict) -> None:
        """Be over; nobody but the venue can be sure of it."""
        if r["source"] == ReportSource.RISK:
            self.qty = self.asked
        elif status != OrderStatus.REJECTED:
            self.venue_end = r["order_status"] in ENDS or r["exec_type"] in ENDINGS
        self.status, self.pending, self.cancel_sent = status, 0, False

    def miss(self, is_lost: bool) -> None:
        """The venue has not done what was asked, or has no such order: several in a row count."""
        self.missing = self.missing + 1 if is_lost == self.is_lost else 1
        self.is_lost = is_lost

    def be_alive(self) -> None:
        """The venue has it."""
        self.missing = 0
        if self.status == OrderStatus.PENDING_NEW:
            has_fills = self.cum > 0 or self.venue_cum > 0
            self.status = OrderStatus.PARTIALLY_FILLED if has_fills else OrderStatus.NEW
            if not self.cancel_sent:
                self.pending &= ~UNKNOWN

    def end_replace(self) -> None:
        """The replace is answered."""
        self.pending &= ~REPLACE
        self.missing = 0
        if not self.cancel_sent:
            self.pending &= ~UNKNOWN


class NaiveRisk:
    """Orders and fills of one instrument."""

    def __init__(self) -> None:
        self.orders: dict[int, NaiveOrder] = {}
        self.foreign: dict[tuple[int, int], tuple[int, int, int, int]] = {}
        self.history: list[tuple[int, int, int]] = []  # (side, qty, price) of fills, as booked

    @property
    def position(self) -> int:
        """Signed sum of all fills."""
        own = sum(order.side * order.cum for order in self.orders.values())
        return own + sum(side * qty for side, qty, _price, _fee in self.foreign.values())

    def exposure(self, side: int) -> int:
        """What may still fill on one side."""
        return sum(order.may_fill for order in self.orders.values() if order.side == side)

    def pnl(self) -> tuple[int, Fraction]:
        """Return (position, realised profit) at exact average cost."""
        position, cost, realised = 0, Fraction(0), Fraction(0)
        for side, qty, price in self.history:
            if position * side >= 0:
                cost += side * qty * price
            else:
                closed = min(qty, abs(position))
                released = cost * closed / abs(position)
                realised += -side * closed * price - released
                cost += -released + side * (qty - closed) * price
            position += side * qty
        return position, realised

    def new(self, order_id: int, side: int, price: int, qty: int) -> None:
        """Send an order."""
        self.orders[order_id] = NaiveOrder(order_id, side, price, qty)

    def replace(self, order_id: int, request_id: int, price: int, qty: int) -> None:
        """Send a replace."""
        order = self.orders[order_id]
        order.pending |= REPLACE
        order.replace_price, order.replace_qty, order.replace_id = price, qty, request_id

    def cancel(self, order_id: int, request_id: int, is_sent: bool) -> None:
        """Want an order canceled, and send it or hold it."""
        order = self.orders[order_id]
        order.pending |= CANCEL
        if is_sent:
            order.cancel_sent, order.cancel_id = True, request_id

    def cancel_all(self) -> None:
        """Want all orders canceled."""
        for order in self.orders.values():
            if order.status in LIVE:
                order.pending |= CANCEL

    def find(self, r: dict) -> NaiveOrder | None:
        """Whose report it is: by our id, else by the venue's."""
        same = [o for o in self.orders.values() if o.venue_id == r["venue_order_id"] != 0]
        if r["client_order_id"] == 0:
            return same[0] if same else None
        order = self.orders.get(r["client_order_id"])
        if order is None or r["venue_order_id"] in (0, order.venue_id):
            return order
        return None if order.venue_id or same else order

    def book(self, order: NaiveOrder | None, r: dict) -> bool:
        """Book a fill once."""
        if r["last_qty_steps"] <= 0 or r["exec_type"] not in (ExecType.TRADE, ExecType.CALCULATED):
            return False
        venue_id = r["venue_order_id"] or (order.venue_id if order else 0)
        side = order.side if order else r["side"]
        if r["exec_id"] <= 0 or r["last_px_steps"] <= 0 or side not in (1, -1):
            return False
        key = (r["exec_id"], venue_id)
        if key in self.foreign or any(key in o.fills for o in self.orders.values()):
            return False
        fill = (r["last_qty_steps"], r["last_px_steps"], r["fee_e8"])
        if order is None:
            self.foreign[key] = (side, *fill)
        else:
            order.fills[key] = fill
        self.history.append((side, fill[0], fill[1]))
        return True

    def report(self, r: dict) -> None:
        """Take one execution report."""
        order = self.find(r)
        if order is None:
            self.book(None, r)
            return
        if order.venue_id == 0:
            order.venue_id = r["venue_order_id"]
        self.book(order, r)
        order.venue_cum = max(order.venue_cum, r["cum_qty_steps"])
        was_unknown = order.pending & UNKNOWN
        told = r["order_qty_steps"]
        if r["order_status"] == OrderStatus.FILLED and (told == 0 or r["cum_qty_steps"] < told):
            order.venue_cum = max(order.venue_cum, order.asked, told)
        if order.status in LIVE:
            self.advance(order, r)
        else:
            self.advance_ended(order, r)
        if order.pending & UNKNOWN and not was_unknown:
            order.missing, order.is_lost = 0, False

    def advance(self, order: NaiveOrder, r: dict) -> None:
        """Move a live order."""
        told, kind = r["order_status"], r["exec_type"]
        if kind == ExecType.NEW:
            order.be_alive()
        elif kind in (ExecType.TRADE, ExecType.CALCULATED):
            asked = order.asked
            if told == OrderStatus.PARTIALLY_FILLED and asked <= order.cum < r["order_qty_steps"]:
                order.qty = asked = r["order_qty_steps"]
            if told == OrderStatus.FILLED or order.cum >= asked:
                order.end(OrderStatus.FILLED, r)
                return
            order.be_alive()
            if order.cum > 0 or order.venue_cum > 0:
                order.status = OrderStatus.PARTIALLY_FILLED
        elif kind in ENDINGS:
            canceled = kind == ExecType.CANCELED
            default = OrderStatus.CANCELED if canceled else OrderStatus.EXPIRED
            order.end(told if told in ENDS else default, r)
        elif kind == ExecType.REJECTED:
            if order.status == OrderStatus.PENDING_NEW and not order.venue_id and not order.cum:
                order.end(OrderStatus.REJECTED, r)
            else:
                order.pending |= UNKNOWN
        elif kind == ExecType.REPLACED:
            self.replaced(order, r)
        elif kind == ExecType.CANCEL_REJECTED:
            if r["request_client_order_id"] in (0, order.cancel_id):
                order.cancel_sent = False
                if r["reject"] in (Reject.VENUE_UNKNOWN_ORDER, Reject.VENUE):
                    order.pending |= UNKNOWN
        elif kind == ExecType.REPLACE_REJECTED:
            is_it = r["request_client_order_id"] in (0, order.replace_id)
            if order.pending & REPLACE and is_it:
                if r["reject"] == Reject.VENUE_UNKNOWN_ORDER:
                    order.pending = order.pending & ~REPLACE | UNKNOWN
                else:
                    order.end_replace()
        elif kind == ExecType.UNKNOWN:
            self.unknown(order, r)
        elif kind == ExecType.STATUS:
            self.status(order, r)

    def replaced(self, order: NaiveOrder, r: dict) -> None:
        """A replace was done."""
        if 0 < r["ts_exch_ns"] < order.replaced_at:
            return
        price, qty = r["price_steps"], r["order_qty_steps"]
        if price <= 0 or qty <= 0:
            return
        order.be_alive()
        is_asked = (price, qty) == (order.replace_price, order.replace_qty)
        is_asked = is_asked or r["request_client_order_id"] == order.replace_id
        is_other = (price, qty) != (order.price, order.qty)
        if 0 < r["ts_exch_ns"] == order.replaced_at and is_other and not is_asked:
            order.qty = max(order.qty, qty)
            order.pending |= UNKNOWN
            return
        order.replaced_at = max(order.replaced_at, r["ts_exch_ns"])
        order.price, order.qty = price, qty
        if order.pending & REPLACE and is_asked:
            order.end_replace()

    def unknown(self, order: NaiveOrder, r: dict) -> None:
        """Nobody knows what became of a request."""
        kind, request = r["request_kind"], r["request_client_order_id"]
        if r["source"] == ReportSource.QUERY:
            return
        if kind == RequestKind.NEW and order.status != OrderStatus.PENDING_NEW:
            return
        if kind == RequestKind.REPLACE:
            if not order.pending & REPLACE or request not in (0, order.replace_id):
                return
        if kind == RequestKind.CANCEL and request not in (0, order.cancel_id):
            return
        if kind not in (RequestKind.NEW, RequestKind.REPLACE):
            order.cancel_sent = False
        order.pending |= UNKNOWN

    def status(self, order: NaiveOrder, r: dict) -> None:
        """The venue was asked, or lists it."""
        told, was_unknown = r["order_status"], bool(order.pending & UNKNOWN)
        if told in (0, OrderStatus.PENDING_NEW):
            if was_unknown and r["reject"] == Reject.VENUE_UNKNOWN_ORDER:
                order.miss(True)
            return
        if told in ENDS:
            order.end(told, r)
            return
        order.be_alive()
        if told == OrderStatus.PARTIALLY_FILLED:
            order.status = OrderStatus.PARTIALLY_FILLED
        if was_unknown:
            order.cancel_sent = False
        price, qty = r["price_steps"], r["order_qty_steps"]
        if order.pending & REPLACE:
            if (price, qty) == (order.replace_price, order.replace_qty):
                order.price, order.qty = price, qty
                order.replaced_at = max(order.replaced_at, r["ts_exch_ns"])
                order.end_replace()
            elif was_unknown:
                order.miss(False)
            return
        if r["source"] == ReportSource.QUERY:
            if price > 0 and qty > 0 and r["ts_exch_ns"] >= order.replaced_at:
                order.price, order.qty = price, qty
                order.replaced_at = max(order.replaced_at, r["ts_exch_ns"])
            order.pending &= ~UNKNOWN

    def advance_ended(self, order: NaiveOrder, r: dict) -> None:
        """A report on an order that is over; it lives if the venue says so and told no end."""
        kind, told = r["exec_type"], r["order_status"]
        has_end = told in ENDS or kind in ENDINGS
        is_told = kind not in (ExecType.REJECTED, ExecType.CANCEL_REJECTED)
        is_own = r["source"] == ReportSource.RISK
        if is_told and not is_own and not order.venue_end:
            order.qty = max(order.qty, r["order_qty_steps"])
            order.venue_end = has_end
        is_alive = is_told and told in LIVE and not has_end and kind != ExecType.UNKNOWN
        if order.pending & UNKNOWN:
            if is_alive or kind == ExecType.TRADE:
                order.missing, order.is_lost = 0, False
            is_proved = is_own and kind == ExecType.CANCELED
            if is_proved or order.venue_end or order.cum >= order.qty:
                order.pending, order.cancel_sent = 0, False
            elif kind not in (ExecType.NEW, ExecType.TRADE):
                order.cancel_sent = False
                if kind == ExecType.STATUS and r["reject"] == Reject.VENUE_UNKNOWN_ORDER:
                    order.miss(True)
            return
        if is_alive and r["venue_order_id"] != 0 and not order.venue_end and order.cum < order.qty:
            order.pending, order.cancel_sent = UNKNOWN | CANCEL, False

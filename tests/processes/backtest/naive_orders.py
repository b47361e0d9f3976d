"""The venue of single orders once more, slowly: the naive matching engine and dicts of the history.

It follows the rules in processes/backtest/order_book.py and history.py by their words: what each
row does to an order of somebody else, what each request does to one of ours, and what is told.
"""

from common.enums import ExecType, OrderStatus, OrderType, Reject, RequestKind, Side, TimeInForce
from processes.backtest.events import EventKind
from processes.venue.engine import EventKind as Outcome
from processes.venue.engine import MatchStatus, Reason, StpMode

from tests.processes.venue.naive_matching import FIELDS, NaiveEngine

OTHERS, OURS = 0, 1
MAKER_E8, TAKER_E8 = -5_000, 40_000  # of made_market.SETUP
E8_PER_STEPS2 = 10**4  # one price decimal, three quantity decimals


class Known:
    """What the history says of an order, and which one of the book it is."""

    def __init__(self, side, price, left):
        self.side, self.price, self.left = side, price, left
        self.order_id = 0


class NaiveOrderBook:
    """One instrument: answers and fills as lists of plain numbers, newest last."""

    def __init__(self, stp_mode=StpMode.EXPIRE_TAKER, keeps_history=False):
        self.engine = NaiveEngine(10_000)
        self.stp_mode, self.keeps_history = stp_mode, keeps_history
        self.history = {}
        self.ours = {}  # order id -> the order as it is told
        self.answers = []
        self.fills = []
        self.notes = {}

    def note(self, name):
        self.notes[name] = self.notes.get(name, 0) + 1

    # The history.

    def event(self, kind, side, order_id, price, qty):
        """Let one row of the history happen."""
        if kind == EventKind.CLEAR:
            self.clear(side)
            return
        known = self.history.get(order_id)
        if kind == EventKind.ADD:
            if known is not None and known.left > 0:
                self.note("orders_added_twice")
            elif price == 0 or qty == 0:
                self.note("orders_without_price_or_quantity")
            else:
                self.history[order_id] = known = Known(side, price, qty)
                self.check_crossing(side, price, order_id)
                self.join(known, price, qty)
        elif known is None:
            self.note("orders_unknown")
        elif kind == EventKind.CANCEL or (kind == EventKind.MODIFY and qty == 0):
            del self.history[order_id]
            if known.left > 0 or self.keeps_history:
                self.engine.cancel(0, OTHERS, known.order_id)
        elif qty == 0 or (kind == EventKind.MODIFY and price == 0):
            self.note("orders_without_price_or_quantity")
        elif kind == EventKind.FILL:
            if qty > known.left:
                self.note("fills_beyond_their_order")
            known.left = max(known.left - qty, 0)
            self.submit(OTHERS, -known.side, TimeInForce.IOC, price or known.price, qty)
        else:
            before, known.left = known.left, qty
            if price != known.price:
                self.check_crossing(known.side, price, order_id)
            known.price = price
            self.modify(known, price, qty, before)

    def check_crossing(self, side, price, order_id):
        """Note an order that takes in the history's own book."""
        for other_id, other in self.history.items():
            if other_id != order_id and other.side == -side and other.left > 0:
                if side * price >= side * other.price:
                    self.note("orders_crossing_the_history")
                    return

    def levels(self):
        """Return {(side, price): quantity} of the history."""
        totals = {}
        for known in self.history.values():
            key = known.side, known.price
            totals[key] = totals.get(key, 0) + known.left
        return {key: qty for key, qty in totals.items() if qty}

    def join(self, known, price, qty):
        known.order_id = self.submit(OTHERS, known.side, TimeInForce.GTC, price, qty)[1]

    def modify(self, known, price, qty, before):
        """Change what is left here by as much as the history's rest changed."""
        order = self.engine.open.get(known.order_id)
        left = order.leaves if order else 0
        if left == 0 and before > 0:
            return
        after = qty if self.keeps_history else left + qty - before
        if order and order.price == price and 0 < after <= left:
            order.qty -= left - after  # in its place
            order.leaves = after
            return
        if order:
            self.engine.cancel(0, OTHERS, known.order_id)
        known.order_id = 0
        if after > 0:
            self.join(known, price, after)

    def clear(self, side):
        """Empty a side, or both: bids first, each side best first, first come first."""
        for each in (Side.BID, Side.ASK):
            if side not in (0, each):
                continue
            for order in [o for o in self.engine.queued(0) if o.side == each]:
                self.engine.cancel(0, order.account_id, order.order_id)
                if order.account_id == OURS:
                    own = self.ours.pop(order.order_id)
                    self.answer(ExecType.EXPIRED, OrderStatus.EXPIRED, own)
            for order_id in [k for k, o in self.history.items() if o.side == each]:
                del self.history[order_id]

    def submit(self, account, side, time_in_force, price, qty, kind=OrderType.LIMIT, **more):
        """Match an order; tell what it did to ours. (status, order id)."""
        request, reduce_only = more.get("request"), more.get("reduce_only", 0)
        stp_mode = self.stp_mode if account == OURS else StpMode.NONE
        first = len(self.engine.events)
        status, order_id = self.engine.submit(
            0, account, side, kind, time_in_force, stp_mode, reduce_only, price, qty
        )
        if account == OURS and status == MatchStatus.OK:
            accepted = dict(zip(FIELDS, self.engine.events[first], strict=True))["qty_steps"]
            self.ours[order_id] = {
                "id": request["id"], "side": side, "price": price, "qty": accepted, "done": 0,
            }  # fmt: skip
        self.tell(first, request)
        return status, order_id

    def tell(self, first, request=None):
        """Tell what the engine's events from `first` on mean for our orders."""
        for values in self.engine.events[first:]:
            event = dict(zip(FIELDS, values, strict=True))
            if event["kind"] == Outcome.TRADE:
                if event["maker_account_id"] == OURS:
                    self.fill(event["maker_order_id"], event, True)
                if event["account_id"] == OURS:
                    self.fill(event["order_id"], event, False)
            elif event["kind"] != Outcome.LEVEL and event["account_id"] == OURS:
                self.change(event, request)

    def fill(self, order_id, event, is_maker):
        own = self.ours[order_id]
        price, qty = event["price_steps"], event["qty_steps"]
        own["done"] += qty
        rate = MAKER_E8 if is_maker else TAKER_E8
        notional_e8 = price * qty * E8_PER_STEPS2
        fee_e8 = abs(notional_e8 * rate) // 10**8 * (1 if rate > 0 else -1)
        fee_e12 = fee_e8 * 10_000
        is_done = own["done"] == own["qty"]
        status = OrderStatus.FILLED if is_done else OrderStatus.PARTIALLY_FILLED
        self.answer(ExecType.TRADE, status, own, last=qty, px=price, fee=fee_e12, maker=is_maker)
        self.fills.append((own["id"], own["side"], price, qty, fee_e12, int(is_maker)))
        if is_done:
            del self.ours[order_id]

    def change(self, event, request):
        own = self.ours[event["order_id"]]
        kind = event["kind"]
        if kind == Outcome.NEW:
            self.answer(ExecType.NEW, OrderStatus.NEW, own, request)
        elif kind == Outcome.AMENDED:
            own["price"], own["qty"] = event["price_steps"], event["qty_steps"]
            status = OrderStatus.PARTIALLY_FILLED if own["done"] else OrderStatus.NEW
            self.answer(ExecType.REPLACED, status, own, request)
        else:
            del self.ours[event["order_id"]]
            if kind == Outcome.CANCELED:
                post_only = event["reason"] == Reason.AMEND_POST_ONLY
                reject = Reject.VENUE_POST_ONLY if post_only else 0
                self.answer(ExecType.CANCELED, OrderStatus.CANCELED, own, request, reject=reject)
            else:
                self.answer(ExecType.EXPIRED, OrderStatus.EXPIRED, own)

    def answer(self, exec_type, status, own, request=None, **more):
        told = (
            exec_type, status, own["id"], request["id"] if request else 0,
            request["kind"] if request else 0, own["side"], own["price"], own["qty"], own["done"],
            more.get("last", 0), more.get("px", 0), more.get("fee", 0), more.get("maker", 0),
            more.get("reject", 0),
        )  # fmt: skip
        self.answers.append(tuple(map(int, told)))

    # Our requests.

    def request(self, request):
        """Take one request: a dict as `test_order_book.py` makes it."""
        if request["kind"] == RequestKind.NEW:
            status, _ = self.submit(
                OURS, request["side"], request["tif"], request["price"], request["qty"],
                request["type"], request=request, reduce_only=request["reduce_only"],
            )  # fmt: skip
            if status != MatchStatus.OK:
                post_only = status == MatchStatus.POST_ONLY
                reject = Reject.VENUE_POST_ONLY if post_only else Reject.VENUE
                own = {**request, "done": 0}
                self.answer(ExecType.REJECTED, OrderStatus.REJECTED, own, request, reject=reject)
            return
        found = [k for k, o in self.ours.items() if o["id"] == request["orig"]]
        is_cancel = request["kind"] == RequestKind.CANCEL
        own = self.ours[found[0]] if found else None
        if own is None or own["side"] != request["side"]:
            unknown = {"id": request["orig"], "side": request["side"], "price": 0, "qty": 0,
                       "done": 0}  # fmt: skip
            exec_type = ExecType.CANCEL_REJECTED if is_cancel else ExecType.REPLACE_REJECTED
            self.answer(exec_type, 0, unknown, request, reject=Reject.VENUE_UNKNOWN_ORDER)
            return
        first = len(self.engine.events)
        if is_cancel:
            self.engine.cancel(0, OURS, found[0])
        else:
            status = self.engine.amend(0, OURS, found[0], request["price"], request["qty"])
            if status != MatchStatus.OK:
                alive = OrderStatus.PARTIALLY_FILLED if own["done"] else OrderStatus.NEW
                self.answer(ExecType.REPLACE_REJECTED, alive, own, request, reject=Reject.VENUE)
                return
        self.tell(first, request)

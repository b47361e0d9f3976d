"""Risk and venue as dicts, with whatever luck is drawn: what strategies are played against."""

from common.enums import ExecType, OrderPending, OrderStatus, ReportKind, RequestKind, TimeInForce

MIDS = (100_000, 50_000)  # where prices of `play` begin; they stay within a tenth of it
PENDING = {RequestKind.REPLACE: OrderPending.REPLACE, RequestKind.CANCEL: OrderPending.CANCEL}


class NaiveRisk:
    """Knows every order and request of one harness.

    Attributes:
        position: by instrument.
        orders: live ones, {client_order_id: dict}.
        requests: in flight, oldest first.
    """

    def __init__(self, h):
        self.h = h
        self.position = [0] * len(h.d.position)
        self.orders = {}
        self.requests = []

    def take(self, intents):
        """Take the intents of one turn."""
        for intent in intents:
            self.requests.append(intent)
            if is_new(intent):
                self.orders[int(intent["client_order_id"])] = {
                    "i": int(intent["instrument_id"]),
                    "slot": int(intent["order_slot"]),
                    "side": int(intent["side"]),
                    "tif": int(intent["time_in_force"]),
                    "price": int(intent["price_steps"]),
                    "qty": int(intent["order_qty_steps"]),
                    "cum": 0,
                    "is_open": False,
                }

    def exposure(self, i, side):
        """Return the position if every order of this side is filled, replaces included."""
        total = side * self.position[i]
        for name, order in self.orders.items():
            if order["i"] == i and order["side"] == side:
                asked = [r["order_qty_steps"] for r in self.requests if targets(r, name)]
                total += max([order["qty"], *map(int, asked)]) - order["cum"]
        return total

    def in_flight(self, i):
        """Return how many requests for orders of this instrument that are not over are unanswered.

        One for an order that was filled meanwhile asks for nothing any more.
        """
        names = [
            int(r["client_order_id" if is_new(r) else "orig_client_order_id"])
            for r in self.requests
            if r["instrument_id"] == i
        ]
        return sum(name in self.orders for name in names)

    def report(self, name, order, exec_type, status, request=0):
        """Tell the strategy of an order; a terminal one is forgotten."""
        is_open = status in (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED)
        pending = 0
        for other in self.requests:
            if targets(other, name):
                pending |= PENDING[RequestKind(other["kind"])]
        self.h.report(
            ReportKind.EXECUTION,
            exec_type=exec_type,
            order_status=status,
            order_pending=pending if is_open else 0,
            instrument_id=order["i"],
            client_order_id=name,
            request_client_order_id=request,
            order_slot=order["slot"],
            side=order["side"],
            price_steps=order["price"],
            order_qty_steps=order["qty"],
            cum_qty_steps=order["cum"],
            leaves_qty_steps=order["qty"] - order["cum"] if is_open else 0,
            position_steps=self.position[order["i"]],
        )
        if not is_open:
            self.orders.pop(name, None)

    def status(self, order):
        return OrderStatus.PARTIALLY_FILLED if order["cum"] else OrderStatus.NEW

    def fill(self, name, qty, request=0):
        """Fill a part of an order."""
        order = self.orders[name]
        order["cum"] += qty
        self.position[order["i"]] += order["side"] * qty
        is_done = order["cum"] == order["qty"]
        status = OrderStatus.FILLED if is_done else OrderStatus.PARTIALLY_FILLED
        self.report(name, order, ExecType.TRADE, status, request)

    def answer(self, luck):
        """Answer one request in flight, not always the oldest."""
        intent = self.requests.pop(luck.randrange(len(self.requests)))
        request = int(intent["client_order_id"])
        if is_new(intent):
            self.answer_new(luck, request)
            return
        name = int(intent["orig_client_order_id"])
        is_cancel = intent["kind"] == RequestKind.CANCEL
        order = self.orders.get(name)
        if order is None or luck.random() < 0.2:
            gone = {"i": int(intent["instrument_id"]), "slot": int(intent["order_slot"])}
            gone |= {"side": int(intent["side"]), "price": 0, "qty": 0, "cum": 0}
            kind = ExecType.CANCEL_REJECTED if is_cancel else ExecType.REPLACE_REJECTED
            status = self.status(order) if order else OrderStatus.CANCELED
            self.report(name, order or gone, kind, status, request)
        elif is_cancel:
            self.report(name, order, ExecType.CANCELED, OrderStatus.CANCELED, request)
        elif int(intent["order_qty_steps"]) <= order["cum"]:
            self.report(name, order, ExecType.REPLACE_REJECTED, self.status(order), request)
        else:
            order["price"] = int(intent["price_steps"])
            order["qty"] = int(intent["order_qty_steps"])
            self.report(name, order, ExecType.REPLACED, self.status(order), request)

    def answer_new(self, luck, name):
        order = self.orders[name]
        fate = luck.random()
        if fate < 0.15:
            self.report(name, order, ExecType.REJECTED, OrderStatus.REJECTED, name)
        elif order["tif"] == TimeInForce.IOC:
            if fate < 0.8:
                self.fill(name, luck.randint(1, order["qty"]), name)
            if name in self.orders:
                self.report(name, order, ExecType.EXPIRED, OrderStatus.EXPIRED, name)
        elif fate < 0.25:
            self.report(name, order, ExecType.EXPIRED, OrderStatus.EXPIRED, name)
        else:
            order["is_open"] = True
            self.report(name, order, ExecType.NEW, OrderStatus.NEW, name)

    def fill_some(self, luck):
        """Fill a part of an open order, if there is one."""
        opened = [name for name, order in self.orders.items() if order["is_open"]]
        if opened:
            name = luck.choice(opened)
            order = self.orders[name]
            self.fill(name, luck.randint(1, order["qty"] - order["cum"]))

    def reset(self):
        """Be attached to anew: all orders are canceled, positions told, READY."""
        self.orders.clear()
        self.requests.clear()
        self.h.ready(self.position)


def is_new(request):
    return request["kind"] == RequestKind.NEW


def targets(request, name):
    """Return True if a request in flight changes the order of this name."""
    return not is_new(request) and int(request["orig_client_order_id"]) == name


def play(h, luck, turns, check):
    """Play random books, trades, gaps, silences and answers; return all intents as bytes.

    Args:
        h: Harness, changed.
        luck: random.Random; its seed decides everything.
        turns: how many.
        check: check(risk, intents), called after each turn once risk has taken its intents.
    """
    risk = NaiveRisk(h)
    risk.reset()
    mids, drift, out = list(MIDS), [0, 0], b""
    for _ in range(turns):
        i = luck.randrange(2)
        if luck.random() < 0.05:
            drift[i] = luck.randint(-40, 40)
        mid = mids[i] + drift[i] + luck.randint(-10, 10)
        mids[i] = min(max(mid, MIDS[i] * 9 // 10 + 100), MIDS[i] * 11 // 10)
        bids = [(mids[i] - k, luck.randint(1, 50)) for k in range(1, luck.randint(2, 12))]
        asks = [(mids[i] + k, luck.randint(1, 50)) for k in range(1, luck.randint(2, 12))]
        event = luck.random()
        if event < 0.5:
            age = 50_000 if luck.random() < 0.03 else 0
            h.book(i, bids, asks, ts_recv_ns=h.now - age, invalid=luck.random() < 0.03)
        elif event < 0.85:
            scale = 20 if drift[i] else 1
            for _ in range(luck.randint(1, 4)):
                h.trade(i, mids[i] + luck.randint(-1, 1), luck.randint(1, 10 * scale))
        elif event < 0.87:
            h.gap(luck.choice([-1, i]))
        elif event < 0.88:
            risk.reset()
        elif event < 0.92:
            risk.fill_some(luck)
        while risk.requests and luck.random() < 0.4:
            risk.answer(luck)
        intents = h.turn(advance_ns=luck.choice([1, 100, 400, 1_000, 4_000]))
        risk.take(intents)
        check(risk, intents)
        out += intents.tobytes()
    return out

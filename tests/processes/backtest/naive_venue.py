"""The rules of the simulated venue once more, as plainly as they can be said: dicts and integers.

An order is a dict, a book two dicts, a queue a list, and time goes on by looking for the earliest
of everything. Nothing of processes/backtest is used but the names of event kinds.
"""

from processes.backtest.events import AT_LOCAL, AT_VENUE, EventKind

BUY, SELL = 1, -1
NEVER = 1 << 62


class Book:
    """Two dicts price -> quantity, the best prices, and how far each side reaches."""

    def __init__(self, skips_one, spares_asks, tick):
        self.levels = {BUY: {}, SELL: {}}
        self.best = {BUY: None, SELL: None}
        self.worst = {BUY: None, SELL: None}
        self.skips_one, self.spares_asks, self.tick = skips_one, spares_asks, tick

    def next_from(self, side, price):
        """The best level of a side at `price` or worse, no worse than the worst ever set."""
        if self.worst[side] is None:
            return None
        found = [
            p
            for p in self.levels[side]
            if (price - p) * side >= 0 and (p - self.worst[side]) * side >= 0
        ]
        return max(found, key=lambda p: p * side, default=None)

    def set(self, side, price, qty):
        """Set one level; return the quantity before."""
        before = self.levels[side].pop(price, 0)
        if qty:
            self.levels[side][price] = qty
        best = self.best[side]
        if not qty:
            if price == best:
                self.drop_to(side, price - side)
            return before
        if best is None or (price - best) * side > 0:
            self.best[side] = price
            other = self.best[-side]
            if other is not None and (price - other) * side >= 0:
                self.best[-side] = self.next_from(-side, price + side)
        if self.worst[side] is None or (self.worst[side] - price) * side > 0:
            self.worst[side] = price
        return before

    def drop_to(self, side, price):
        self.best[side] = self.next_from(side, price)
        if self.best[side] is None:
            self.worst[side] = None

    def clear(self, side, price):
        """Remove the levels from the best to `price`; None: all."""
        if price is None:
            self.levels[side].clear()
            self.best[side] = self.worst[side] = None
            return
        best = self.best[side]
        if best is not None and not (side == SELL and self.spares_asks):
            for p in list(self.levels[side]):
                if (p - price) * side >= 0 and (best - p) * side >= 0:
                    del self.levels[side][p]
        step = side * self.tick
        self.drop_to(side, price - 2 * step if self.skips_one else price - step)

    def walk(self, side, limit):
        """Levels of `side`, best first, no worse than `limit`; None: all."""
        price = self.best[side]
        while price is not None and (limit is None or (price - limit) * side >= 0):
            yield price, self.levels[side][price]
            worse = [p for p in self.levels[side] if (price - p) * side > 0]
            price = max(worse, key=lambda p: p * side, default=None)


def probability(kind, n, ahead, behind):
    """The share of a shrinkage that was behind."""
    if kind == "power":
        back = behind**n
        total = back + ahead**n
        return back / total if total else float("nan") if back == 0 else float("inf")
    assert kind == "power3"
    total = ahead + behind
    if not total:
        share = float("nan") if ahead == 0 else float("inf") if ahead > 0 else -float("inf")
    else:
        share = ahead / total
    return 1.0 - share**n


class Venue:
    """One instrument's venue, and the way to it and back."""

    def __init__(self, rules):
        self.rules = rules
        self.book = Book(rules["skips_one"], False, 1)
        self.orders = []  # in the order of arrival
        self.requests = []  # (due, request)
        self.answers = []  # (due, answer)
        self.fills = []

    def answer(self, ts, what, order, **more):
        due = ts + self.rules["response_ns"]
        if self.answers:
            due = max(due, self.answers[-1][0])
        told = {name: order[name] for name in ("id", "left", "price", "qty")}
        self.answers.append((due, {"what": what, **told, **more}))

    def fill(self, ts, order, price, qty, maker):
        order["left"] -= qty
        rate = self.rules["maker_e8"] if maker else self.rules["taker_e8"]
        fee = price * qty * rate  # 1e-12 quote: one price decimal, three quantity decimals
        self.fills.append((ts, order["id"], order["side"], price, qty, int(maker), fee))
        self.answer(ts, "fill", order, side=order["side"], px=price, last=qty, fee=fee)

    def queue(self, order):
        order["ahead"] = self.book.levels[order["side"]].get(order["price"], 0)
        order["front"] = order["ahead"] / 1000.0
        order["traded"] = 0.0
        self.orders.append(order)

    def shift(self, order, before, after):
        if self.rules["queue"] == "risk-averse":
            order["ahead"] = min(order["ahead"], after)
            return
        before, after = before / 1000.0, after / 1000.0
        change = before - after - order["traded"]
        order["traded"] = 0.0
        front = order["front"]
        if change < 0:
            order["front"] = min(front, after)
            return
        p = probability(self.rules["queue"], self.rules["n"], front, before - front)
        if abs(p) == float("inf"):
            p = 1.0
        short = before - front - p * change
        moved = front - (1.0 - p) * change + (short if short < 0 else 0.0)
        order["front"] = moved if moved < after else after

    def past(self, order, qty):
        """Quantity that a trade at its price lets past the order."""
        if self.rules["queue"] == "risk-averse":
            order["ahead"] -= qty
            past = max(-order["ahead"], 0)
            if past:
                order["ahead"] = 0
            return past
        order["front"] -= qty / 1000.0
        order["traded"] += qty / 1000.0
        lots = -order["front"] / 0.001
        past = int(lots + 0.5) if lots >= 0.5 else 0
        if past:
            order["front"] = 0.0
        return past

    def mine(self, side):
        """Our orders of a side, best price first, then arrival."""
        return sorted(
            (o for o in self.orders if o["side"] == side), key=lambda o: -o["price"] * side
        )

    def on_event(self, event):
        ts, side = int(event["ts_exch_ns"]), int(event["side"])
        price, qty = int(event["price_steps"]), int(event["qty_steps"])
        if event["kind"] == EventKind.DEPTH:
            old = self.book.best[side]
            before = self.book.set(side, price, qty)
            for order in self.mine(side):
                if order["price"] == price:
                    self.shift(order, before, qty)
            new = self.book.best[side]
            if new is not None and (old is None or (new - old) * side > 0):
                for order in self.mine(-side):
                    if (new - order["price"]) * side >= 0:
                        self.fill(ts, order, order["price"], order["left"], True)
        elif event["kind"] == EventKind.TRADE and side:
            for order in self.mine(-side):
                beyond = (price - order["price"]) * side
                take = order["left"] if beyond > 0 else 0
                if beyond == 0:
                    past = self.past(order, qty)
                    take = min(past, order["left"]) if self.rules["partial"] else order["left"]
                    take = take if past else 0
                if take:
                    self.fill(ts, order, order["price"], take, True)
        elif event["kind"] == EventKind.CLEAR:
            for each in (BUY, SELL) if side == 0 else (side,):
                self.book.clear(each, price if side and price > 0 else None)
        self.orders = [order for order in self.orders if order["left"]]

    def on_request(self, ts, request):
        if request["what"] == "new":
            self.accept(ts, dict(request))
            return
        order = next((o for o in self.orders if o["id"] == request["id"]), None)
        if order is None:
            self.answer(ts, "refused", {"id": request["id"], "left": 0, "price": 0, "qty": 0})
        elif request["what"] == "cancel":
            self.answer(ts, "canceled", order)
            self.orders.remove(order)
        else:
            self.change(ts, order, request)

    def change(self, ts, order, request):
        done = order["qty"] - order["left"]
        takes = self.takes(order["side"], request["price"])
        if request["qty"] <= done or (takes and order["tif"] == "GTX"):
            self.answer(ts, "refused", order)
            return
        keeps = request["price"] == order["price"] and request["qty"] <= order["qty"]
        order.update(price=request["price"], qty=request["qty"], left=request["qty"] - done)
        self.answer(ts, "replaced", order)
        if keeps:
            return
        self.orders.remove(order)
        if takes:
            self.take(ts, order)
        else:
            self.queue(order)

    def takes(self, side, price):
        best = self.book.best[-side]
        return best is not None and (price is None or (price - best) * side >= 0)

    def accept(self, ts, order):
        limit = order["price"] if order["type"] == "LIMIT" else None
        if self.takes(order["side"], limit):
            if order["tif"] == "GTX" and order["type"] == "LIMIT":
                self.answer(ts, "expired", order)
            else:
                self.take(ts, order)
        elif order["type"] == "LIMIT" and order["tif"] in ("GTC", "GTX"):
            self.queue(order)
            self.answer(ts, "new", order)
        else:
            self.answer(ts, "expired", order)

    def take(self, ts, order):
        side = order["side"]
        if not self.rules["partial"]:
            self.fill(ts, order, self.book.best[-side], order["left"], False)
            return
        is_limit = order["type"] == "LIMIT"
        limit = order["price"] if is_limit else None
        levels = list(self.book.walk(-side, limit))
        if is_limit and order["tif"] == "FOK" and sum(qty for _, qty in levels) < order["left"]:
            self.answer(ts, "expired", order)
            return
        for price, qty in levels:
            if order["left"]:
                self.fill(ts, order, price, min(qty, order["left"]), False)
        if order["left"]:
            if is_limit and order["tif"] == "GTC":
                self.queue(order)
            else:
                self.answer(ts, "expired", order)


class Here:
    """One instrument as it is known here, and its account."""

    def __init__(self, rules):
        self.book = Book(rules["skips_one"], False, 1)
        self.position = self.balance = self.fee = self.trades = 0

    def on_event(self, event):
        side, price = int(event["side"]), int(event["price_steps"])
        if event["kind"] == EventKind.DEPTH:
            self.book.set(side, price, int(event["qty_steps"]))
        elif event["kind"] == EventKind.CLEAR:
            for each in (BUY, SELL) if side == 0 else (side,):
                self.book.clear(each, price if side and price > 0 else None)


class NaiveBacktest:
    """Runs a strategy object (with `act(now)`) over the events of some instruments."""

    def __init__(self, rows, rules, interval_ns, make_strategy):
        self.local = [[r for r in part if r["flags"] & AT_LOCAL] for part in rows]
        self.venue = [[r for r in part if r["flags"] & AT_VENUE] for part in rows]
        self.venues = [Venue(rules) for _ in rows]
        self.here = [Here(rules) for _ in rows]
        self.rules = rules
        self.states = []
        self.strategy = make_strategy(self)
        first = [part[0][field] for parts, field in ((self.local, "ts_recv_ns"), (self.venue,
                 "ts_exch_ns")) for part in parts if part]  # fmt: skip
        self.timer = int(min(first)) + interval_ns
        self.interval_ns = interval_ns

    def send(self, i, now, request):
        if not any(self.local) and not any(self.venue):
            return
        due = now + self.rules["request_ns"]
        if self.venues[i].requests:
            due = max(due, self.venues[i].requests[-1][0])
        self.venues[i].requests.append((due, request))

    def due(self):
        """(instant, instrument, source) of what comes next."""
        found = []
        for i, venue in enumerate(self.venues):
            if self.local[i]:
                found.append((int(self.local[i][0]["ts_recv_ns"]), i, 0))
            if venue.answers:
                found.append((venue.answers[0][0], i, 1))
            if self.venue[i]:
                found.append((int(self.venue[i][0]["ts_exch_ns"]), i, 2))
            if venue.requests:
                found.append((venue.requests[0][0], i, 3))
        return min(found, default=(NEVER, -1, -1))

    def run(self):
        while True:
            instant, i, source = self.due()
            if i < 0:
                return
            if self.timer < instant:
                for k, here in enumerate(self.here):
                    self.states.append((self.timer, k, here.position, here.balance, here.fee,
                                        here.trades, here.book.best[BUY] or 0,
                                        here.book.best[SELL] or 0))  # fmt: skip
                self.strategy.act(self.timer)
                self.timer += self.interval_ns
            elif source == 0:
                self.here[i].on_event(self.local[i].pop(0))
            elif source == 1:
                self.take_answer(i, self.venues[i].answers.pop(0)[1])
            elif source == 2:
                self.venues[i].on_event(self.venue[i].pop(0))
            else:
                self.venues[i].on_request(*self.venues[i].requests.pop(0))

    def take_answer(self, i, answer):
        if answer["what"] == "fill":
            here = self.here[i]
            here.position += answer["side"] * answer["last"]
            here.balance -= answer["side"] * answer["last"] * answer["px"]
            here.fee += answer["fee"]
            here.trades += 1
        self.strategy.take_answer(answer)


class NaiveDice:
    """The twin of dice.Dice, and of the desk it works on."""

    SLOTS = 64

    def __init__(self, backtest, seed):
        self.backtest, self.x = backtest, seed
        self.slots = [None] * self.SLOTS
        self.ids = 0
        self.refused = []

    def draw(self, count):
        self.x = (self.x * 1_103_515_245 + 12_345) & 0x7FFFFFFF
        return (self.x >> 8) % count

    def take_answer(self, answer):
        for slot, order in enumerate(self.slots):
            if order is None or order["id"] != answer["id"]:
                continue
            if answer["what"] in ("canceled", "expired") or (
                answer["what"] == "fill" and not answer["left"]
            ):
                self.slots[slot] = None
            elif answer["what"] == "fill":
                order["cum"] = answer["qty"] - answer["left"]
                order["acked"] = True
            elif answer["what"] == "replaced":
                order.update(price=answer["price"], qty=answer["qty"], busy=False)
            elif answer["what"] == "new":
                order["acked"] = True
            else:
                order["busy"] = False

    def passes_risk(self, i):
        """Risk refuses new orders and replaces on a one-sided or crossed book."""
        bid, ask = self.backtest.here[i].book.best[BUY], self.backtest.here[i].book.best[SELL]
        return bid is not None and ask is not None and bid < ask

    def act(self, now):
        for slot in self.refused:  # told of it before this act
            self.slots[slot] = None
        self.refused = []
        for order in list(self.slots):
            if order is None or not order["acked"] or order["busy"]:
                continue
            dice = self.draw(8)
            if dice < 2:
                order["busy"] = True
                self.send(now, {"what": "cancel", "id": order["id"]}, order["i"])
            elif dice < 4:
                price = order["price"] + self.draw(5) - 2
                qty = 1 + self.draw(12)
                if price > 0 and qty > order["cum"] and self.passes_risk(order["i"]):
                    order["busy"] = True
                    self.send(
                        now, {"what": "replace", "id": order["id"], "price": price, "qty": qty},
                        order["i"],
                    )  # fmt: skip
        for i, here in enumerate(self.backtest.here):
            bid, ask = here.book.best[BUY], here.book.best[SELL]
            if bid is None or ask is None:
                continue
            for _ in range(self.draw(3)):
                side = BUY if self.draw(2) == 0 else SELL
                price = (bid if side == BUY else ask) + self.draw(6) - 3
                qty = 1 + self.draw(10)
                kind = self.draw(8)
                tif = {0: "GTC", 1: "IOC", 2: "FOK", 3: "GTC", 4: "GTC"}.get(kind, "GTX")
                self.new(now, i, side, "MARKET" if kind == 0 else "LIMIT", tif,
                         0 if kind == 0 else price, qty)  # fmt: skip

    def new(self, now, i, side, kind, tif, price, qty):
        self.ids += 1
        if None not in self.slots:
            return
        order = {"what": "new", "id": self.ids, "side": side, "type": kind, "tif": tif,
                 "price": price, "qty": qty, "left": qty}  # fmt: skip
        slot = self.slots.index(None)
        self.slots[slot] = {
            "id": self.ids, "i": i, "price": price, "qty": qty, "cum": 0, "acked": False,
            "busy": False,
        }  # fmt: skip
        if self.passes_risk(i):
            self.send(now, order, i)
        else:
            self.refused.append(slot)

    def send(self, now, request, i):
        self.backtest.send(i, now, request)

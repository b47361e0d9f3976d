"""Exposure is held at the worst case: whatever is lost, late or doubled on the way from an honest
venue, no order may fill more than risk reckons with."""

import random

import pytest

from common.enums import ExecType, OrderPending, OrderStatus, Reject, ReportSource, RequestKind

from tests.processes.risk.kernels import Kernels, small_oms

E, S = ExecType, OrderStatus
STEPS = 120


class VenueOrder:
    """What the venue truly has."""

    def __init__(self, venue_id: int, side: int, qty: int, updated: int) -> None:
        self.venue_id, self.side, self.qty = venue_id, side, qty
        self.cum = 0
        self.price = 1_000
        self.status = S.NEW
        self.updated = updated

    @property
    def is_open(self) -> bool:
        return self.status in (S.NEW, S.PARTIALLY_FILLED)


class World:
    """Requests on their way to the venue, its orders, and reports on their way back."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.kernels = Kernels(small_oms(orders=64))
        self.venue: dict[int, VenueOrder] = {}
        self.sent: list[tuple] = []  # (kind, request id, order id, price, qty)
        self.answers: list[dict] = []
        self.stream: list[dict] = []
        self.clock = self.trades = 0
        self.ids: list[int] = []

    def step(self) -> None:
        """Let one thing happen, anywhere."""
        self.clock += 1
        choice = self.random.random()
        if choice < 0.15:
            self.send_new()
        elif choice < 0.30:
            self.send_change()
        elif choice < 0.45 and self.sent:
            self.arrive()
        elif choice < 0.60:
            self.trade()
        elif choice < 0.65 and self.ids:
            self.query(self.random.choice(self.ids))
        elif choice < 0.70 and self.ids:
            order = self.random.choice(self.ids)
            self.kernels.report(order, exec_type=E.UNKNOWN)  # a timeout
        else:
            self.deliver()

    def send_new(self) -> None:
        side, qty = self.random.choice([1, -1]), self.random.randint(1, 9)
        order = self.kernels.new(side, 1_000, qty)
        self.ids.append(order)
        self.sent.append((RequestKind.NEW, order, order, 1_000, qty, side))

    def send_change(self) -> None:
        """Replace or cancel an order, if risk would let it pass."""
        if not self.ids:
            return
        order = self.random.choice(self.ids)
        row = self.kernels.order(order)
        if row["order_status"] not in (S.NEW, S.PARTIALLY_FILLED) or row["order_pending"] & 3:
            return
        if self.random.random() < 0.5 or row["order_pending"]:
            cancel = self.kernels.request(RequestKind.CANCEL, 1, orig_client_order_id=order)
            self.sent.append((RequestKind.CANCEL, cancel, order, 0, 0, 0))
            return
        price = self.random.randint(990, 1_010)
        qty = int(row["cum_qty_steps"]) + self.random.randint(1, 9)
        fields = {"price_steps": price, "order_qty_steps": qty, "orig_client_order_id": order}
        replace = self.kernels.request(RequestKind.REPLACE, 1, **fields)
        self.sent.append((RequestKind.REPLACE, replace, order, price, qty, 0))

    def arrive(self) -> None:
        """Let one request reach the venue, any of those under way, or be lost for ever."""
        at = self.random.randrange(len(self.sent))
        kind, request, order, price, qty, side = self.sent.pop(at)
        if self.random.random() < 0.15:
            return
        known = self.venue.get(order)
        if kind == RequestKind.NEW:
            self.venue[order] = VenueOrder(1_000 + len(self.venue), side, qty, self.clock)
            self.answer(order, request, kind, E.NEW)
            self.tell(order, E.NEW)
        elif known is None or not known.is_open:
            self.refuse(order, request, kind)
        elif kind == RequestKind.CANCEL:
            known.status = S.CANCELED
            self.answer(order, request, kind, E.CANCELED)
            self.tell(order, E.CANCELED)
        else:
            known.qty, known.price, known.updated = qty, price, self.clock
            if known.qty <= known.cum:  # modify-order page: such an order is canceled
                known.status = S.CANCELED
                self.answer(order, request, kind, E.CANCELED)
                self.tell(order, E.CANCELED)
            else:
                self.answer(order, request, kind, E.REPLACED)
                self.tell(order, E.REPLACED)

    def facts(self, order: int) -> dict:
        """What every report of an order says."""
        known = self.venue[order]
        return {
            "order_id": order,
            "venue_order_id": known.venue_id,
            "order_status": known.status,
            "cum_qty_steps": known.cum,
            "order_qty_steps": known.qty,
            "price_steps": known.price,
            "side": known.side,
            "ts_exch_ns": known.updated,
        }

    def answer(self, order: int, request: int, kind: int, exec_type: int) -> None:
        self.answers.append(
            self.facts(order)
            | {
                "exec_type": exec_type,
                "source": ReportSource.RESPONSE,
                "request_kind": kind,
                "request_client_order_id": request,
            }
        )

    def refuse(self, order: int, request: int, kind: int) -> None:
        is_cancel = kind == RequestKind.CANCEL
        self.answers.append(
            {
                "order_id": order,
                "exec_type": E.CANCEL_REJECTED if is_cancel else E.REPLACE_REJECTED,
                "reject": Reject.VENUE_UNKNOWN_ORDER,
                "source": ReportSource.RESPONSE,
                "request_kind": kind,
                "request_client_order_id": request,
            }
        )

    def tell(self, order: int, exec_type: int, **more: int) -> None:
        source = {"exec_type": exec_type, "source": ReportSource.STREAM}
        self.stream.append(self.facts(order) | source | more)

    def trade(self) -> None:
        """Fill some of an open order."""
        open_orders = [order for order, known in self.venue.items() if known.is_open]
        if not open_orders:
            return
        order = self.random.choice(open_orders)
        known = self.venue[order]
        qty = self.random.randint(1, known.qty - known.cum)
        known.cum += qty
        self.trades += 1
        known.status = S.FILLED if known.cum == known.qty else S.PARTIALLY_FILLED
        fill = {"exec_id": self.trades, "last_qty_steps": qty, "last_px_steps": 1_000}
        self.tell(order, E.TRADE, **fill)

    def query(self, order: int) -> None:
        """Ask for an order: the answer is true when it is given, and may arrive late."""
        if order in self.venue:
            query = {"exec_type": E.STATUS, "source": ReportSource.QUERY}
            self.answers.append(self.facts(order) | query)
        else:
            self.answers.append(
                {
                    "order_id": order,
                    "exec_type": E.STATUS,
                    "source": ReportSource.QUERY,
                    "reject": Reject.VENUE_UNKNOWN_ORDER,
                }
            )

    def deliver(self) -> None:
        """Hand over, lose or repeat one report; the stream keeps its order, answers do not."""
        if self.stream and (self.random.random() < 0.5 or not self.answers):
            report = self.stream.pop(0)
        elif self.answers:
            report = self.answers.pop(self.random.randrange(len(self.answers)))
        else:
            return
        for _ in range(self.random.choice([0, 1, 1, 1, 1, 2])):
            self.kernels.report(**report)

    def check(self) -> None:
        """No order may fill more than risk reckons with; nothing was booked that did not happen."""
        for order, known in self.venue.items():
            row = self.kernels.order(order)
            worst = known.qty if known.is_open else known.cum
            booked = row["cum_qty_steps"]
            reckoned = booked + may_fill(row)
            assert booked <= known.cum
            assert reckoned >= worst, (order, known.__dict__, row)


def may_fill(row) -> int:
    """Return what a row says may still fill; as in the naive twin."""
    live = row["order_status"] < S.FILLED or row["order_pending"] & 4
    asked = max(row["order_qty_steps"], row["replace_qty_steps"] * bool(row["order_pending"] & 2))
    most = max(int(row["venue_cum_qty_steps"]), int(asked) if live else 0)
    return max(most - int(row["cum_qty_steps"]), 0)


@pytest.mark.parametrize("seed", range(40))
def test_exposure_covers_all_that_may_fill(seed):
    world = World(seed)
    for _ in range(STEPS):
        world.step()
        world.check()


@pytest.mark.parametrize("seed", range(20))
def test_all_is_known_once_all_is_told(seed):
    """With everything delivered and asked for, every order is where the venue has it."""
    world = World(1_000 + seed)
    for _ in range(STEPS):
        world.step()
    while world.sent:
        world.arrive()
    for order, known in world.venue.items():
        facts = world.facts(order) | {"ts_exch_ns": world.clock + 1}
        query = {"exec_type": E.STATUS, "source": ReportSource.QUERY}
        world.kernels.report(**facts | query)
        world.kernels.report(order, exec_type=E.UNKNOWN)
        world.kernels.report(**facts | query)
        row = world.kernels.order(order)
        if row["order_pending"] & OrderPending.REPLACE:  # it was lost; timers conclude that
            world.kernels.report(order, exec_type=E.REPLACE_REJECTED, reject=Reject.VENUE)
        if known.is_open:
            assert row["order_status"] in (S.NEW, S.PARTIALLY_FILLED)
        else:
            assert row["order_status"] == known.status
        missing = known.cum - row["cum_qty_steps"]
        assert may_fill(row) == missing + (known.qty - known.cum) * known.is_open

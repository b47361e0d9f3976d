"""Watches the order side: an independent, slow account of what was sent, done, filled and booked.

It reads the matching engine's own events, the bytes that leave us, and risk's tables and journal;
dictionaries and exact fractions, nothing of the code under test but the layout of its records.
"""

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import numpy as np

from common import order_ids
from common.enums import OrderPending, OrderStatus, RequestKind
from common.records import ORDER_REQUEST, REPORT
from processes.rest.calls import Wire
from processes.risk.journal import FRAME
from processes.venue.engine import EventKind
from processes.venue.market import Row

from tests.simulation.venue_host import ACCOUNT

NEW, TRADE, CANCELED, EXPIRED, AMENDED = (
    int(kind)
    for kind in (
        EventKind.NEW, EventKind.TRADE, EventKind.CANCELED, EventKind.EXPIRED, EventKind.AMENDED,
    )
)  # fmt: skip
SIDES = {"BUY": 1, "SELL": -1}
E8 = 10**8


class VenueOrder:
    """One order of ours as the engine's events tell it."""

    def __init__(self, client_id: str, index: int, side: int, price: int, qty: int) -> None:
        self.client_id = client_id
        self.index = index
        self.side = side
        self.price = price
        self.qty = qty
        self.filled = 0
        self.gone = 0  # taken off the book unfilled
        self.is_open = True

    @property
    def open_qty(self) -> int:
        """What may still fill."""
        return self.qty - self.filled if self.is_open else 0


class JournalTail:
    """Requests that are in the journal, read from its file as it grows."""

    def __init__(self) -> None:
        self.offset = 0
        self.path: Path | None = None
        self.orders: dict[int, tuple[int, int, int, int]] = {}  # id -> instrument, side, price, qty
        self.replaces: dict[int, set[tuple[int, int]]] = {}  # order -> asked (price, qty)

    def read(self, path: Path) -> None:
        """Take what is new; a torn frame at the end is not there yet."""
        if path != self.path:
            self.path, self.offset = path, 0
        data = path.read_bytes()[self.offset :] if path.exists() else b""
        if path.exists() and os.stat(path).st_size < self.offset:
            raise AssertionError("the journal has become shorter than whole frames of it")
        at = 0
        while at + FRAME.itemsize <= len(data):
            header = np.frombuffer(data[at : at + FRAME.itemsize], FRAME)[0]
            size = int(header["frame_bytes"])
            if at + size > len(data):
                break
            reports = sum(int(header[f"{of}_count"]) for of in ("gateway", "rest", "own"))
            first = at + FRAME.itemsize + reports * REPORT.itemsize
            count = int(header["request_count"])
            end = first + count * ORDER_REQUEST.itemsize
            for request in np.frombuffer(data[first:end], ORDER_REQUEST):
                self._take(request)
            at += size
        self.offset += at

    def _take(self, request: np.void) -> None:
        price, qty = int(request["price_steps"]), int(request["order_qty_steps"])
        if request["kind"] == RequestKind.NEW:
            self.orders[int(request["client_order_id"])] = (
                int(request["instrument_id"]), int(request["side"]), price, qty,
            )  # fmt: skip
        elif request["kind"] == RequestKind.REPLACE:
            order_id = int(request["orig_client_order_id"])
            self.replaces.setdefault(order_id, set()).add((price, qty))


class OrderAuditor:
    """All promises about orders, fills and positions.

    Args:
        system: whose tables and journal are read.
        fail: called with what is wrong.

    Attributes:
        kill_ns: when the kill page was set, 0 not yet.
        stop_seen_ns: when the gateway was told to stop, 0 not yet.
    """

    def __init__(self, system: Any, fail: Callable[[str], None]) -> None:
        self.system = system
        self.fail = fail
        self.exchange = system.host.exchange
        self.instruments = system.instruments
        count = len(self.instruments)
        self.by_symbol = {i.symbol: i.instrument_id for i in self.instruments}
        self.orders: dict[int, VenueOrder] = {}  # by the venue's id
        self.by_client: dict[str, VenueOrder] = {}
        self.position = [0] * count
        self.open_bids = [0] * count
        self.open_asks = [0] * count
        self.cash: list[int] = [0] * count  # -sum of side x price x qty, steps2
        self.fees = [Fraction(0)] * count
        self.fills: list[dict[tuple[int, int], tuple[int, int, int]]] = [{} for _ in range(count)]
        self.foreign_qty = [0] * count  # traded in our name by somebody else
        self.base: list[int] = [0] * count
        self.sent_new: dict[str, str] = {}  # client id -> channel
        self.sent_count = {"NEW": 0, "REPLACE": 0, "CANCEL": 0}
        self.journal = JournalTail()
        self.kill_ns = 0
        self.stop_seen_ns = 0
        self.checks = 0
        limits = system.limits
        self.limits = [int(limits[i]["position_steps_max"]) for i in range(count)]

    # What leaves us.

    def on_sent(self, kind: str, what: Any) -> None:
        """Look at one message to the venue."""
        if kind == "api":
            message = msgspec.json.decode(what)
            names = {"order.place": "NEW", "order.modify": "REPLACE", "order.cancel": "CANCEL"}
            name = names.get(message["method"])
            if name:
                self._on_order(name, message["params"], "socket")
        elif kind == "http":
            assert isinstance(what, Wire)
            path, _, query = what.target.partition("?")
            if path == "/fapi/v1/order" and what.method != "GET":
                name = {"POST": "NEW", "PUT": "REPLACE", "DELETE": "CANCEL"}[what.method]
                self._on_order(name, dict(parse_qsl(query)), "rest")

    def _on_order(self, name: str, params: dict[str, Any], channel: str) -> None:
        self.sent_count[name] += 1
        if name == "CANCEL":
            return
        now = self.system.world.now
        if self.kill_ns:
            self.fail(f"{name} {params} left over {channel} {now - self.kill_ns} ns after the kill")
        if self.stop_seen_ns:
            self.fail(f"{name} {params} left over {channel} after STOP_ORDERS")
        folder = self.system.folder / str(self.system.session)
        self.journal.read(folder / "journal")
        index = self.by_symbol[params["symbol"]]
        instrument = self.instruments[index]
        asked = (
            instrument.price_steps(params["price"]) if "price" in params else 0,
            instrument.qty_steps(params["quantity"]),
        )
        if name == "NEW":
            text = params["newClientOrderId"]
            if text in self.sent_new:
                self.fail(f"{text} was sent over {self.sent_new[text]} and again over {channel}")
            self.sent_new[text] = channel
            expected = self.journal.orders.get(order_ids.from_text(text))
            if expected != (index, SIDES[params["side"]], *asked):
                self.fail(f"{text} was sent as {params}, the journal says {expected}")
        else:
            order_id = order_ids.from_text(params["origClientOrderId"])
            if asked not in self.journal.replaces.get(order_id, ()):
                self.fail(f"REPLACE {params} was sent, the journal does not have it")

    # What the venue did.

    def on_rows(self, rows: list[Row]) -> None:
        """Take over the engine's events that are about our account."""
        touched = set()
        for row in rows:
            kind = row[0]
            if kind == TRADE:
                for order_id, account, is_maker in (
                    (row[9], row[11], False), (row[10], row[12], True),
                ):  # fmt: skip
                    if account == ACCOUNT:
                        self._on_fill(row, order_id, is_maker)
                        touched.add(row[4])
            elif row[11] == ACCOUNT and kind in (NEW, CANCELED, EXPIRED, AMENDED):
                self._on_change(row)
                touched.add(row[4])
        for index in touched:
            self.check_exposure(index)

    def _add_open(self, order: VenueOrder, sign: int) -> None:
        if order.side == 1:
            self.open_bids[order.index] += sign * order.open_qty
        else:
            self.open_asks[order.index] += sign * order.open_qty

    def _on_change(self, row: Row) -> None:
        kind, order_id = row[0], row[9]
        if kind == NEW:
            client_id = self.exchange.trading.by_id[order_id].client_id
            order = VenueOrder(client_id, row[4], row[1], row[5], row[6])
            self.orders[order_id] = order
            self.by_client[client_id] = order
            if order_ids.from_text(client_id) and client_id not in self.sent_new:
                self.fail(f"the venue took {client_id}, which nobody sent")
            self._add_open(order, 1)
            return
        order = self.orders[order_id]
        self._add_open(order, -1)
        if kind == AMENDED:
            order.price, order.qty = row[5], row[6]
        else:
            order.is_open = False
            order.gone = row[7]
            if order.filled + order.gone != row[6]:
                self.fail(
                    f"{order.client_id}: {order.filled} filled and {order.gone} gone,"
                    f" expected {row[6]} together"
                )
        self._add_open(order, 1)

    def _on_fill(self, row: Row, order_id: int, is_maker: bool) -> None:
        index, price, qty, trade_id = row[4], row[5], row[6], row[8]
        order = self.orders[order_id]
        self._add_open(order, -1)
        order.filled += qty
        if order.filled > order.qty:
            self.fail(f"{order.client_id}: filled {order.filled} of {order.qty}")
        if order.filled == order.qty:
            order.is_open = False
        self._add_open(order, 1)
        self.position[index] += order.side * qty
        self.cash[index] -= order.side * price * qty
        if not order_ids.from_text(order.client_id):
            self.foreign_qty[index] += qty
        config = self.exchange.config
        rate = config.maker_fee_e8 if is_maker else config.taker_fee_e8
        exponent = self.instruments[index].price_grid_decimals
        exponent += self.instruments[index].qty_grid_decimals
        self.fees[index] += Fraction(price * qty * rate, 10**exponent)
        self.fills[index][trade_id, order_id] = (order.side, price, qty)

    # Promises that hold at any instant.

    def check_exposure(self, index: int) -> None:
        """The venue never holds more than the limit, whatever we know of it."""
        limit = self.limits[index] + self.foreign_qty[index]
        long = self.position[index] + self.open_bids[index]
        short = self.open_asks[index] - self.position[index]
        if max(long, short) > limit:
            self.fail(
                f"instrument {index}: position {self.position[index]} and open"
                f" {self.open_bids[index]} / {self.open_asks[index]}, expected at most {limit}"
            )

    def check_risk(self) -> None:
        """Risk never knows of less exposure than there is; called when risk has done a turn."""
        risk = self.system.processes["risk"]
        if not risk.is_alive or not risk.is_up:
            return
        for index, row in enumerate(self.system.positions.rows):
            if self.foreign_qty[index]:
                continue
            position, bids, asks = (
                int(row[name])
                for name in ("position_steps", "open_bid_qty_steps", "open_ask_qty_steps")
            )
            if position + bids > self.limits[index] or asks - position > self.limits[index]:
                self.fail(
                    f"risk {index}: position {position}, open {bids} / {asks},"
                    f" expected at most {self.limits[index]}"
                )
            long = self.position[index] + self.open_bids[index]
            short = self.open_asks[index] - self.position[index]
            if position + bids < long or asks - position < short:
                self.fail(
                    f"risk {index} counts position {position} and open {bids} / {asks}, the venue"
                    f" has {self.position[index]} and {self.open_bids[index]} /"
                    f" {self.open_asks[index]}"
                )

    # Promises of a quiet moment.

    def check_quiet(self) -> None:
        """Everything agrees: positions, every fill once, every order."""
        self.checks += 1
        self._check_positions()
        self._check_orders()
        self._check_exchange()

    def _check_positions(self) -> None:
        fills = self.system.processes["risk"].stage.oms.fills
        booked: list[dict[tuple[int, int], tuple[int, int, int]]] = [{} for _ in self.position]
        for fill in fills[fills["exec_id"] != 0]:
            index = int(fill["instrument_id"])
            key = int(fill["exec_id"]), int(fill["venue_order_id"])
            if key in booked[index]:
                self.fail(f"fill {key} of instrument {index} is remembered twice")
            booked[index][key] = int(fill["side"]), int(fill["px_steps"]), int(fill["qty_steps"])
        for index, row in enumerate(self.system.positions.rows):
            found = int(row["position_steps"])
            if found != self.position[index]:
                self.fail(f"instrument {index}: risk has {found}, the venue {self.position[index]}")
            if int(row["fill_count"]) != len(self.fills[index]):
                self.fail(
                    f"instrument {index}: {row['fill_count']} fills booked, the venue made"
                    f" {len(self.fills[index])}"
                )
            if booked[index] != self.fills[index]:
                wrong = set(booked[index].items()) ^ set(self.fills[index].items())
                self.fail(f"instrument {index}: fills differ: {sorted(wrong)[:6]}")
            cash = int(row["realized_pnl_steps2"]) - int(row["cost_steps2"])
            if cash != self.cash[index]:
                self.fail(f"instrument {index}: realised - cost is {cash}, not {self.cash[index]}")
            if abs(int(row["fee_e8"]) - self.fees[index]) > len(self.fills[index]):
                self.fail(
                    f"instrument {index}: fees are {row['fee_e8']}, expected"
                    f" {float(self.fees[index])}"
                )

    def _check_orders(self) -> None:
        shown = set()
        for row in self.system.orders.rows:
            client_order_id = int(row["client_order_id"])
            if client_order_id == 0:
                continue
            text = order_ids.to_text(client_order_id)
            shown.add(text)
            self._check_order(row, text)
        for text, order in self.by_client.items():
            if order.is_open and text not in shown and order_ids.from_text(text):
                self.fail(f"{text} is open at the venue and risk does not have it")

    def _check_order(self, row: np.void, text: str) -> None:
        status = OrderStatus(int(row["order_status"]))
        order = self.by_client.get(text)
        pending = int(row["order_pending"])
        where = f"{text} ({status.name}, pending {pending})"
        if order is None:
            if status != OrderStatus.REJECTED:
                self.fail(f"{where}: the venue never had it")
            return
        if pending & OrderPending.UNKNOWN:
            self.fail(f"{where}: still unknown at a quiet moment")
        if int(row["cum_qty_steps"]) != order.filled:
            self.fail(f"{where}: {row['cum_qty_steps']} filled, the venue says {order.filled}")
        is_open = status in (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED)
        if is_open != order.is_open:
            self.fail(f"{where}: open at the venue is {order.is_open}")
        if is_open:
            found = int(row["price_steps"]), int(row["order_qty_steps"])
            if found != (order.price, order.qty):
                self.fail(f"{where}: is {found}, at the venue {order.price, order.qty}")
            if int(row["leaves_qty_steps"]) != order.open_qty:
                self.fail(f"{where}: leaves {row['leaves_qty_steps']}, expected {order.open_qty}")

    def _check_exchange(self) -> None:
        """The venue's own ledgers against its own events."""
        for index, row in enumerate(self.exchange.accounts.positions[ACCOUNT]):
            if int(row["position_steps"]) != self.position[index]:
                self.fail(f"venue {index}: ledger {row['position_steps']}, events say otherwise")
            if abs(int(row["fees_e8"]) - self.fees[index]) > len(self.fills[index]):
                self.fail(f"venue {index}: fees {row['fees_e8']}, expected {self.fees[index]}")

    def open_orders(self) -> list[str]:
        """Return the client ids of what is open at the venue."""
        return [order.client_id for order in self.orders.values() if order.is_open]

"""Sockets, clocks and a venue of canned answers for the gateway's tests."""

import json
import random

import pytest

from common import binance, order_ids
from common.enums import OrderType, RequestKind, Side, TimeInForce
from common.instruments import Instrument, InstrumentFacts
from common.messages import OrderRequest
from processes.gateway.config import GatewayConfig
from processes.gateway.link import Link, LinkTimes

MS = 1_000_000
SECOND = 1_000 * MS
WALL_NS = 1_784_212_800_000 * MS  # wall clock at monotonic 0
BTC = Instrument(
    instrument_id=0,
    venue="binance-usdm",
    symbol="BTCUSDT",
    facts=InstrumentFacts(tick_size="0.10", lot_size="0.001", price_decimals=2, qty_decimals=3),
)
TIMES = LinkTimes(
    connect_ns=5 * SECOND,
    reconnect_ns_min=100 * MS,
    reconnect_ns_max=10 * SECOND,
    ping_ns=5 * SECOND,
    idle_ns=15 * SECOND,
    rotate_ns=82_800 * SECOND,
    overlap_ns=2 * SECOND,
)
OWN_ID = order_ids.pack(1, 2, 3)
OWN = order_ids.to_text(OWN_ID)


class FakeSocket:
    """A socket that the test opens, feeds and breaks."""

    def __init__(self, url, now_ns, clock):
        self.url, self.now_ns, self.clock = url, now_ns, clock
        self.is_open = False
        self.is_closed = False
        self.reason = ""
        self.last_recv_ns = 0
        self.inbox = []
        self.sent = []
        self.unsent = False
        self.refuses = False
        self.pings = 0
        self.on_send = None
        self.on_poll = None

    def open(self):
        self.is_open = True
        return self

    def feed(self, text):
        if not isinstance(text, bytes):
            text = text.encode() if isinstance(text, str) else json.dumps(text).encode()
        self.inbox.append(text)

    def break_off(self, reason="reset"):
        self.is_open, self.is_closed, self.reason = False, True, reason

    def poll(self, now_ns):
        if self.on_poll is not None:
            self.on_poll(self)
        texts, self.inbox = self.inbox, []
        if texts:
            self.last_recv_ns = self.clock.now
        return [(text, self.clock.now) for text in texts]

    def send(self, text):
        if self.refuses or not self.is_open:
            return False
        self.sent.append(json.loads(text))
        if self.on_send is not None:
            self.on_send(self, self.sent[-1])
        return True

    def has_unsent(self):
        return self.unsent

    def ping(self):
        self.pings += 1

    def close(self):
        self.is_open, self.is_closed = False, True

    def fds(self):
        return []


class VirtualClock:
    """Time that the test moves."""

    def __init__(self):
        self.now = 10 * SECOND
        self.wall_ahead_ns = 0

    def now_ns(self):
        return self.now

    def now_wall_ns(self):
        return WALL_NS + self.now + self.wall_ahead_ns


class Plug:
    """Makes a link's sockets and keeps them all."""

    def __init__(self, clock, times=TIMES, name="order"):
        self.clock = clock
        self.sockets = []
        self.link = Link(name, self.connect, times, random.Random(7))

    def connect(self, url, now_ns):
        self.sockets.append(FakeSocket(url, now_ns, self.clock))
        return self.sockets[-1]

    @property
    def last(self):
        return self.sockets[-1]


def request(**values):
    facts = {
        "kind": RequestKind.NEW,
        "side": Side.BID,
        "order_type": OrderType.LIMIT,
        "time_in_force": TimeInForce.GTX,
        "instrument_id": 0,
        "order_slot": 7,
        "client_order_id": OWN_ID,
        "intent_sequence": 3,
        "price_steps": 642_000,
        "order_qty_steps": 10,
        "strategy_id": 2,
        "ts_recv_ns": 9 * SECOND,
        "recv_to_book_ns": 11,
        "book_to_strategy_ns": 12,
        "strategy_to_risk_ns": 13,
        "ts_pub_ns": 10 * SECOND - 5_000,
    }
    return OrderRequest(**(facts | values))


def order_object(**values):
    facts = {
        "orderId": 728811004512,
        "symbol": "BTCUSDT",
        "status": "NEW",
        "clientOrderId": OWN,
        "price": "64200.00",
        "origQty": "0.010",
        "executedQty": "0.000",
        "timeInForce": "GTX",
        "type": "LIMIT",
        "side": "BUY",
        "updateTime": 1784212800031,
    }
    return facts | values


def accepted(request_id, **values):
    return {"id": request_id, "status": 200, "result": order_object(**values)}


def failed(request_id, code, message="no", status=400):
    return {"id": request_id, "status": status, "error": {"code": code, "msg": message}}


class Kit:
    """What tests of the gateway need, in one fixture."""

    Plug, VirtualClock, FakeSocket, LinkTimes = Plug, VirtualClock, FakeSocket, LinkTimes
    TIMES, MS, SECOND, WALL_NS, BTC, OWN_ID, OWN = TIMES, MS, SECOND, WALL_NS, BTC, OWN_ID, OWN
    credentials = binance.Credentials("test-key", "test-secret")
    config = GatewayConfig
    request, accepted, failed = staticmethod(request), staticmethod(accepted), staticmethod(failed)
    order_object = staticmethod(order_object)


@pytest.fixture
def kit():
    return Kit

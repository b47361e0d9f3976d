"""A venue of canned answers, and a bench that drives the protocol in virtual time."""

import json
from collections.abc import Callable
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pytest

from common import binance
from common.enums import Phase
from common.instruments import Instrument, InstrumentFacts
from common.records import REST_REQUEST
from processes.rest.calls import not_answered, not_sent, read_answer, write_call
from processes.rest.config import RestConfig
from processes.rest.counters import Counter
from processes.rest.protocol import Protocol

MS = 1_000_000
SECOND = 1_000 * MS
WALL_NS = 1_784_212_800_000 * MS  # wall clock at monotonic 0
CREDENTIALS = binance.Credentials("test-key", "test-secret")

BTC = Instrument(
    instrument_id=0,
    venue="binance-usdm",
    symbol="BTCUSDT",
    facts=InstrumentFacts(tick_size="0.10", lot_size="0.001", price_decimals=2, qty_decimals=3),
)
ETH = Instrument(
    instrument_id=1,
    venue="binance-usdm",
    symbol="ETHUSDT",
    facts=InstrumentFacts(tick_size="0.01", lot_size="0.001", price_decimals=2, qty_decimals=3),
)


class Seen:
    """One request as the venue got it."""

    def __init__(self, now_ns, wire):
        parts = urlsplit(wire.target)
        self.now_ns = now_ns
        self.method, self.path = wire.method, parts.path
        self.params = dict(parse_qsl(parts.query))
        self.headers = wire.headers
        self.target = wire.target

    @property
    def name(self):
        return f"{self.method} {self.path.rsplit('/', 1)[1]}"


class Bench:
    """Virtual time, a protocol, and answers from `handlers` by "METHOD endpoint".

    A handler gets the request and gives (status, body), or "lost" (no answer) or "unsent".
    """

    seen_type = Seen
    credentials = CREDENTIALS

    def __init__(self, **config):
        self.values = np.zeros(len(Counter), np.int64)
        self.config = RestConfig(**config)
        self.protocol = Protocol(self.config, [BTC, ETH], "EXPIRE_TAKER", self.values)
        self.desk = self.protocol.desk
        self.now_ns = 10 * SECOND
        self.venue_offset_ns = 0
        self.latency_ns = 2 * MS
        self.seen: list[Seen] = []
        self.flying: list[tuple[int, int, object, int]] = []
        self.reports = []
        self.snapshots = []
        self.sessions = []
        self.headers: dict[str, str] = {}
        self.handlers: dict[str, Callable] = {
            "GET time": lambda r: (200, {"serverTime": self.venue_ms(self.latency_ns // 2)}),
            "POST listenKey": lambda r: (200, {"listenKey": "abc123"}),
            "PUT listenKey": lambda r: (200, {"listenKey": "abc123"}),
            "POST countdownCancelAll": lambda r: (200, {"symbol": "x", "countdownTime": "1"}),
            "GET openOrders": lambda r: (200, []),
            "DELETE allOpenOrders": lambda r: (200, {"code": 200, "msg": "done"}),
        }

    def venue_ms(self, ahead_ns=0):
        return (WALL_NS + self.now_ns + self.venue_offset_ns + ahead_ns) // MS

    def on(self, name, handler):
        self.handlers[name] = handler if callable(handler) else lambda request: handler

    def now_wall_ns(self):
        return WALL_NS + self.now_ns

    def turn(self):
        """One turn of the stage at the present instant."""
        protocol = self.protocol
        due = [f for f in self.flying if f[0] <= self.now_ns]
        self.flying = [f for f in self.flying if f[0] > self.now_ns]
        protocol.step(self.now_ns, WALL_NS + self.now_ns)
        for _at_ns, number, outcome, sent_ns in due:
            protocol.on_answer(number, self.answer(outcome, sent_ns), self.now_ns)
        while (found := protocol.next_call()) is not None:
            number, call = found
            wire = write_call(call, CREDENTIALS, self.config.recv_window_ms, self.desk.venue_ms())
            seen = Seen(self.now_ns, wire)
            self.seen.append(seen)
            outcome = self.handlers.get(seen.name, lambda r: (404, {}))(seen)
            delay_ns = 5 * SECOND if outcome == "lost" else self.latency_ns
            self.flying.append((self.now_ns + delay_ns, number, outcome, self.now_ns))
        self.reports += self.desk.reports
        self.snapshots += self.desk.snapshots
        self.desk.reports.clear()
        self.desk.snapshots.clear()
        if self.desk.session_due:
            self.sessions += list(protocol.take_sessions(self.now_ns))

    def answer(self, outcome, sent_ns):
        if outcome == "lost":
            return not_answered("ReadTimeout: ", sent_ns, self.now_ns)
        if outcome == "unsent":
            return not_sent("ConnectError: ", self.now_ns)
        status, body = outcome[:2]
        headers = self.headers | (outcome[2] if len(outcome) > 2 else {})
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        raw = raw.replace(b'{"code": ', b'{"code":')
        return read_answer(status, headers, raw, sent_ns, self.now_ns)

    def run(self, seconds, step_ms=1):
        """Let time pass."""
        end_ns = self.now_ns + int(seconds * SECOND)
        while self.now_ns < end_ns:
            self.turn()
            self.now_ns += step_ms * MS

    def start(self):
        """Run until the session stands."""
        self.run(0.1)
        assert self.protocol.is_ready()
        self.seen.clear()
        self.sessions.clear()
        return self

    def request(self, kind, **values):
        record = np.zeros(1, REST_REQUEST)[0]
        record["kind"] = kind
        for name, value in values.items():
            record[name] = value
        self.desk.now_ns = self.now_ns
        self.protocol.on_request(record)

    def order(self, request):
        self.desk.now_ns = self.now_ns
        self.protocol.on_order(request)

    def phase(self, phase: Phase):
        self.protocol.on_phase(phase)

    def names(self):
        return [seen.name for seen in self.seen]

    def count(self, counter):
        return int(self.values[counter])


@pytest.fixture
def new_bench():
    return Bench


@pytest.fixture
def bench():
    """A bench whose session stands."""
    return Bench().start()

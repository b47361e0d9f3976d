"""An exchange in memory, a client that signs, and sockets that keep what they were sent."""

import json
from pathlib import Path

import pytest

from common.instruments import Instrument, InstrumentFacts
from processes.venue import auth
from processes.venue.build import build_exchange
from processes.venue.config import AccountConfig, SymbolConfig, VenueConfig
from processes.venue.rest import Request, Rest
from processes.venue.streams import Connection
from processes.venue.ws_api import Session, WsApi

NOW_MS = 1_784_212_800_000
ED25519_SEED = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
ED25519_PUBLIC = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
FACTS = {
    "BTCUSDT": InstrumentFacts(
        tick_size="0.10",
        lot_size="0.001",
        price_decimals=2,
        qty_decimals=3,
        min_notional="100",
        max_qty="1000",
    ),
    "ETHUSDT": InstrumentFacts(
        tick_size="0.01",
        lot_size="0.001",
        price_decimals=2,
        qty_decimals=3,
        min_notional="20",
        max_qty="10000",
    ),
}


def instruments():
    return [
        Instrument(instrument_id=i, venue="binance-usdm", symbol=symbol, facts=facts)
        for i, (symbol, facts) in enumerate(FACTS.items())
    ]


def config(**changes):
    """Two HMAC accounts, one Ed25519 account, two symbols, no flow."""
    values = {
        "symbols": {
            "BTCUSDT": SymbolConfig(
                price="64000",
                min_price="556.8",
                max_price="4529764",
                max_market_qty="120",
                order_qty="0.05",
            ),
            "ETHUSDT": SymbolConfig(price="3200", max_price="100000", order_qty="0.8"),
        },
        "accounts": [
            AccountConfig(name="one", api_key="key-one", secret_key="secret-one"),
            AccountConfig(name="two", api_key="key-two", secret_key="secret-two"),
            AccountConfig(name="ed", api_key="test-key", ed25519_public_hex=ED25519_PUBLIC),
        ],
    }
    return VenueConfig(**(values | changes))


class FakeSocket:
    """Keeps the frames that were sent."""

    def __init__(self):
        self.frames = []
        self.closed = 0

    def send(self, text):
        self.frames.append(text)

    def close(self, code):
        self.closed = code

    def pending(self):
        return 0

    def take(self):
        """Return what came since the last look, decoded."""
        frames, self.frames = self.frames, []
        return [json.loads(frame) for frame in frames]


class Bench:
    """One exchange with everything around it that needs no socket."""

    def __init__(self, **changes):
        self.exchange = build_exchange(config(**changes), instruments(), NOW_MS)
        self.rest = Rest(self.exchange)
        self.ws_api = WsApi(self.exchange)
        self.now_ms = NOW_MS

    def advance(self, ms):
        """Let time pass in the exchange's own steps."""
        step = self.exchange.step_ms
        for _ in range(max(ms // step, 1)):
            self.now_ms += step
            self.exchange.advance(1, self.now_ms)

    def connect(self, route, *streams, combined=False):
        """Open a market connection; return its socket."""
        socket = FakeSocket()
        connection = Connection(socket, route, combined)
        self.exchange.hub.subscribe(connection, streams)
        socket.connection = connection
        return socket

    def user(self, name="one"):
        """Open an account's user-data stream; return its socket."""
        key = self.ask("POST", "/fapi/v1/listenKey", name, signed=False)[1]["listenKey"]
        socket = FakeSocket()
        connection = Connection(socket, "private", False)
        self.exchange.users.subscribe(connection, key)
        socket.key, socket.connection = key, connection
        return socket

    def ask(self, method, path, name="", signed=True, headers=False, ip="127.0.0.1", **params):
        """Send one REST request as an account; (status, body)."""
        if name and signed:
            params.setdefault("timestamp", self.now_ms)
        query = "&".join(f"{k}={v}" for k, v in params.items())
        if name and signed:
            query += f"&signature={auth.sign(f'secret-{name}'.encode(), query.encode())}"
        answer = self.rest.handle(
            Request(
                method=method,
                path=path,
                query=query,
                body="",
                api_key=f"key-{name}" if name else None,
                ip=ip,
                now_ms=self.now_ms,
            )
        )
        body = json.loads(answer.body)
        return (answer.status, body, answer.headers) if headers else (answer.status, body)

    def place(self, name, side, qty, price="", **params):
        """Place a LIMIT GTC order, or MARKET without a price; return the body."""
        order = {"symbol": "BTCUSDT", "side": side, "quantity": qty}
        if price:
            order |= {"type": "LIMIT", "timeInForce": "GTC", "price": price}
        else:
            order |= {"type": "MARKET"}
        return self.ask("POST", "/fapi/v1/order", name, **(order | params))[1]

    def session(self):
        """Open a WebSocket API session."""
        return Session("127.0.0.1", self.now_ms, True)

    def call(self, session, api_method, name="", **params):
        """Send one WebSocket API request as an account; the decoded answer."""
        if name:
            params |= {"apiKey": f"key-{name}"}
            params.setdefault("timestamp", self.now_ms)
            params["signature"] = auth.sign(f"secret-{name}".encode(), auth.sorted_payload(params))
        text = json.dumps({"id": "r-1", "method": api_method, "params": params})
        return json.loads(self.ws_api.handle(session, text, self.now_ms))


@pytest.fixture
def bench():
    """An empty exchange."""
    return Bench()


@pytest.fixture
def make_bench():
    """A function that makes exchanges with other configs."""
    return Bench


@pytest.fixture
def venue_config():
    """A function that makes VenueConfigs: two HMAC accounts, two symbols."""
    return config


@pytest.fixture
def venue_instruments():
    """The instruments of `venue_config`."""
    return instruments()


@pytest.fixture
def write_capture(tmp_path):
    """A function that writes a capture file from (receive time, object) pairs."""

    def write(rows, name="capture.txt", stamp0=1_000_000_000) -> Path:
        path = tmp_path / name
        path.write_text("".join(f"{stamp0 + at} {json.dumps(row)}\n" for at, row in rows))
        return path

    return write

"""The venue's own exchange, behind the network in memory; and what it may be made to do wrong."""

from collections import deque
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import msgspec

from common.enums import OrderType, Side, TimeInForce
from common.instruments import Instrument
from processes.rest.calls import Wire
from processes.venue.build import build_exchange
from processes.venue.config import VenueConfig
from processes.venue.engine import StpMode
from processes.venue.errors import VenueError
from processes.venue.exchange import ACCOUNT_BASE, Exchange
from processes.venue.faults import Command, Faults
from processes.venue.market import EngineMarket, Row
from processes.venue.rest import Request, Rest
from processes.venue.streams import Connection
from processes.venue.ws_api import Session, WsApi

from tests.simulation.network import Pipe, Server
from tests.simulation.world import MS, SECOND, World

ACCOUNT = ACCOUNT_BASE
IP = "127.0.0.1"
TWITCH_MS = 400
# What an order request may meet; what happens to it, and what is answered.
ORDER_FAULTS = (
    "vanish",  # not done, no answer
    "refuse",  # not done, -1008
    "unknown_undone",  # not done, -1007 or 503
    "unknown_done",  # done, -1007 or 503
    "answer_lost",  # done, no answer
    "late",  # done, answered seconds later
)
HTTP_FAULTS = ("vanish", "unknown_undone", "unknown_done", "answer_lost", "late", "too_many")


class PausableFlow:
    """The synthetic flow; in a pause nobody trades, and one far order shows that it lives."""

    def __init__(self, flow: Any, market: EngineMarket, instruments: int) -> None:
        self.flow = flow
        self.market = market
        self.step_ms = flow.step_ms
        self.is_paused = False
        self.due_ms = 0
        self.twitching = [0] * instruments  # order ids

    def run(self, steps: int, now_ms: int) -> list[Row]:
        """Take some steps and return their events."""
        if not self.is_paused:
            return self.flow.run(steps, now_ms)
        rows: list[Row] = []
        if now_ms >= self.due_ms:
            self.due_ms = now_ms + TWITCH_MS
            for index in range(len(self.twitching)):
                rows += self.twitch(index)
        return rows

    def twitch(self, index: int) -> list[Row]:
        """Put a far order in, or take it out."""
        if self.twitching[index]:
            _, rows = self.market.cancel(index, 0, self.twitching[index])
            self.twitching[index] = 0
            return rows
        price = max(self.market.best(index)[0] * 97 // 100, 1)
        _, order_id, rows = self.market.submit(
            index, 0, Side.BID.value, OrderType.LIMIT.value, TimeInForce.GTC.value,
            StpMode.NONE.value, False, price, 1,
        )  # fmt: skip
        self.twitching[index] = order_id
        return rows

    def index_e8(self, index: int) -> int:
        """Return the index price."""
        return self.flow.index_e8(index)

    def on_first(self, stream: str) -> None:
        """Pass on."""
        self.flow.on_first(stream)


class StreamEnd:
    """The venue's end of a market or user-data connection."""

    def __init__(self, host: "VenueHost", pipe: Pipe, route: str, parts: list[str], query: str):
        self.host = host
        self.connection = Connection(OutEnd(pipe), route, parts[0] == "stream")
        host.exchange.open_streams(self.connection, [unquote(p) for p in parts[1:]], query)

    def receive(self, text: bytes) -> None:
        """Answer a control frame."""
        self.host.exchange.hub.handle(self.connection, text, self.host.now_ms())

    def leave(self) -> None:
        """Forget the connection."""
        self.host.exchange.hub.leave(self.connection)


class OutEnd:
    """streams.Socket over a pipe; market frames may be cut short or doubled on the way."""

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe
        self.garble_next = 0
        self.double_next = 0

    def send(self, text: str) -> None:
        """Send one text frame."""
        if '"depthUpdate"' in text[:200]:
            if self.garble_next:
                self.garble_next -= 1
                text = text[: len(text) // 2]
            elif self.double_next:
                self.double_next -= 1
                self.pipe.reply(text)
        self.pipe.reply(text)

    def close(self, code: int) -> None:
        """Close behind what was sent."""
        self.pipe.close_by_server(code)

    def pending(self) -> int:
        """Return 0: nothing waits on the venue's side."""
        return 0


class ApiEnd:
    """The venue's end of an order-entry connection."""

    def __init__(self, host: "VenueHost", pipe: Pipe) -> None:
        self.host = host
        self.pipe = pipe
        self.session = Session(IP, host.now_ms(), True)
        self.is_gone = False

    def receive(self, text: bytes) -> None:
        """Take one request, when the venue is awake."""
        self.host.when_awake(self.take, text)

    def take(self, text: bytes) -> None:
        """Do one request."""
        host = self.host
        fault = host.next_fault(host.order_faults) if b'"order.' in text else ""
        if fault == "vanish":
            return
        if fault == "unknown_undone":
            self.pipe.reply(error_text(text, -1007))
            return
        answer = host.ws_api.handle(self.session, text, host.now_ms(), overloaded=fault == "refuse")
        is_done = '"status":200' in answer[:80]
        if fault == "unknown_done" and is_done:
            answer = error_text(text, -1007)
        if fault == "answer_lost" and is_done:
            return
        if fault == "late":
            host.world.after(host.rng.randrange(SECOND, 9 * SECOND), self.pipe.reply, answer)
        else:
            self.pipe.reply(answer)

    def leave(self) -> None:
        """Nothing belongs to the connection alone."""


class VenueHost:
    """The exchange with its ways in; time moves it step by step.

    Attributes:
        order_faults, http_faults: what the next requests of that kind meet.
        forget_next, lag_next: unfilled orders that are canceled next, told to nobody and not found
            any more; queries of filled orders that show the quantity of before.
        stalled_until_ns: it stands still until then.
        on_rows: told of the engine's events before anybody else.
        on_flush: told of a depth event about to be sent or lost: (instrument, update id).
    """

    def __init__(self, world: World, config: VenueConfig, instruments: list[Instrument]) -> None:
        self.world = world
        self.rng = world.stream("venue")
        self.exchange: Exchange = build_exchange(config, instruments, world.wall_ns() // MS)
        self.flow = PausableFlow(self.exchange.step, self.exchange.market, len(instruments))
        self.exchange.step = self.flow
        self.faults = Faults(self.exchange, config.faults)
        self.rest = Rest(self.exchange)
        self.ws_api = WsApi(self.exchange)
        self.order_faults: deque[str] = deque()
        self.http_faults: deque[str] = deque()
        self.forget_next = self.lag_next = 0
        self.forgotten: set[str] = set()  # client order ids
        self.stalled_until_ns = 0
        self.pipes: list[tuple[int, Pipe]] = []
        self.life_ns = config.connection_life_s * SECOND
        self.on_rows: Callable[[list[Row]], None] = lambda rows: None
        self.on_flush: Callable[[int, int], None] = lambda index, update_id: None
        self._tap()
        world.after(self.exchange.step_ms * MS, self._tick)

    def _tap(self) -> None:
        """Let the auditor see the engine's events, and which of them a depth event ends with."""
        exchange = self.exchange
        apply = exchange.apply

        def tapped(rows: list[Row], now_ms: int) -> None:
            self.on_rows(rows)
            apply(rows, now_ms)

        exchange.apply = tapped  # type: ignore[method-assign]
        emit = exchange.users.emit

        def emit_tapped(account: int, event: str, text: str) -> None:
            if self.forget_next and account == ACCOUNT and '"x":"CANCELED"' in text:
                order = msgspec.json.decode(text)["o"]
                if float(order["z"]) == 0:
                    self.forget_next -= 1
                    self.forgotten.add(order["c"])
                    return
            emit(account, event, text)

        exchange.users.emit = emit_tapped  # type: ignore[method-assign]
        for index, streams in enumerate(exchange.streams):
            flush = streams.flush_diff

            def flush_tapped(stream: Any, now_ms: int, index=index, streams=streams, flush=flush):
                if stream.bids or stream.asks:
                    self.on_flush(index, streams.update_id)
                flush(stream, now_ms)

            streams.flush_diff = flush_tapped

    def now_ms(self) -> int:
        """Return the venue's clock."""
        return self.world.wall_ns() // MS + self.exchange.clock_skew_ms

    def _tick(self) -> None:
        self.world.after(self.exchange.step_ms * MS, self._tick)
        if self.world.now < self.stalled_until_ns:
            return
        self.exchange.advance(1, self.now_ms())
        while self.pipes and self.pipes[0][0] + self.life_ns < self.world.now:
            self.pipes.pop(0)[1].close_by_server(1001)

    def when_awake(self, call: Callable[..., None], *arguments: Any) -> None:
        """Call now, or when a stall is over; what has waited goes first."""
        if self.world.now < self.stalled_until_ns:
            self.world.at(self.stalled_until_ns, self.when_awake, call, *arguments)
        else:
            call(*arguments)

    def next_fault(self, faults: deque[str]) -> str:
        """Return what the request at hand meets, empty for nothing."""
        return faults.popleft() if faults else ""

    def do(self, **command: Any) -> Any:
        """Arm one of the venue's own faults."""
        try:
            return self.faults.do(Command(**command), [], self.now_ms())
        except (VenueError, KeyError):
            return None

    def users_heal(self) -> None:
        """Forget what was armed for user events and snapshots."""
        users = self.exchange.users
        users.drop_fills = users.repeat_fills = 0
        self.exchange.stale_depths = 0
        self.forget_next = self.lag_next = 0
        for streams in self.exchange.streams:
            streams.drop_next = 0

    # Ways in.

    def accept(self, pipe: Pipe) -> Server | None:
        """Take a connection: order entry, market or user data."""
        if self.world.now < self.stalled_until_ns:
            return None
        path, _, query = pipe.url.partition("://")[2].partition("/")[2].partition("?")
        self.pipes.append((self.world.now, pipe))
        if pipe.kind == "api":
            return ApiEnd(self, pipe)
        parts = path.split("/")
        return StreamEnd(self, pipe, parts[0], parts[1:], query)

    def http(self, wire: Wire, reply: Callable[[int, dict[str, str], bytes], None]) -> None:
        """Take one REST request, when the venue is awake."""
        self.when_awake(self._http, wire, reply)

    def _http(self, wire: Wire, reply: Callable[[int, dict[str, str], bytes], None]) -> None:
        path, _, query = wire.target.partition("?")
        is_order = path == "/fapi/v1/order" and wire.method != "GET"
        fault = self.next_fault(self.order_faults) if is_order else ""
        fault = fault or self.next_fault(self.http_faults)
        if fault == "vanish":
            return
        if fault == "unknown_undone":
            reply(503, {}, b'{"code":-1000,"msg":"Unknown error, please check your request."}')
            return
        if fault == "too_many":
            reply(429, {"Retry-After": "1"}, b'{"code":-1003,"msg":"Too many requests."}')
            return
        question = Request(
            method=wire.method, path=path, query=query, body="",
            api_key=wire.headers.get("X-MBX-APIKEY"), ip=IP, now_ms=self.now_ms(),
        )  # fmt: skip
        answer = self.rest.handle(question, overloaded=fault == "refuse")
        status, body = answer.status, answer.body
        if path == "/fapi/v1/order" and wire.method == "GET" and status == 200:
            status, body = self._queried(body)
        if fault == "answer_lost":
            return
        if fault == "unknown_done":
            status, body = 503, b'{"code":-1000,"msg":"Unknown error, please check your request."}'
        if fault == "late":
            delay_ns = self.rng.randrange(SECOND, 9 * SECOND)
            self.world.after(delay_ns, reply, status, answer.headers, body)
        else:
            reply(status, answer.headers, body)

    def _queried(self, body: bytes) -> tuple[int, bytes]:
        """Return the answer to an order query, as a venue gives it that forgets or lags."""
        order = msgspec.json.decode(body)
        if order["clientOrderId"] in self.forgotten:
            return 400, b'{"code":-2013,"msg":"Order does not exist."}'
        if self.lag_next and order["status"] == "FILLED":
            self.lag_next -= 1
            return 200, msgspec.json.encode(order | {"executedQty": "0"})
        return 200, body


def error_text(request: bytes, code: int) -> str:
    """Return an error answer to a request of the WebSocket API."""
    error = VenueError(code)
    request_id = msgspec.json.decode(request)["id"]
    return msgspec.json.encode(
        {"id": request_id, "status": error.status, "error": error.body()}
    ).decode()

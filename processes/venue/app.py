"""The venue's process: one asyncio loop, one port for REST, market, user-data and order sockets.

It owns the sockets, the clock and the certificate; what is said on them is decided by `Rest`,
`Hub`, `UserData` and `WsApi` on one `Exchange`.
"""

import argparse
import asyncio
import signal
import ssl
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote

import trustme
from aiohttp import WSMsgType, web

from common import clock, log
from common.config import load
from common.errors import BugError, TickringError, UnavailableError
from common.instruments import Instrument, load_facts, register
from processes.venue.build import build_exchange
from processes.venue.config import VenueConfig
from processes.venue.faults import Faults, is_placement
from processes.venue.rest import Request, Rest
from processes.venue.streams import OUTBOX_FRAMES_MAX, Connection
from processes.venue.ws_api import Session, WsApi

MESSAGE_BYTES_MAX = 65_536
HEARTBEAT_S = 180.0  # the venue pings every three minutes
STEPS_PER_WAKE_MAX = 50
START_S_MAX = 120.0
ORDER = ("POST", "/fapi/v1/order")


class OutSocket:
    """Frames waiting for one WebSocket; a reader that is too slow is cut off."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self.socket = socket
        self.frames: deque[str] = deque()
        self.ready = asyncio.Event()
        self.close_code = 0
        self.opened_ns = clock.now_ns()

    def send(self, text: str) -> None:
        """Queue one text frame."""
        if self.close_code:
            return
        if len(self.frames) >= OUTBOX_FRAMES_MAX:
            self.frames.clear()
            self.close(1008)
            return
        self.frames.append(text)
        self.ready.set()

    def close(self, code: int) -> None:
        """Close behind the queued frames."""
        self.close_code = self.close_code or code
        self.ready.set()

    def pending(self) -> int:
        """Return how many frames wait to be sent."""
        return len(self.frames)

    async def run(self) -> None:
        """Write frames until the socket is closed by either side."""
        frames, socket = self.frames, self.socket
        try:
            while True:
                while frames:
                    await socket.send_str(frames.popleft())
                if self.close_code:
                    await socket.close(code=self.close_code)
                    return
                self.ready.clear()
                await self.ready.wait()
        except (ConnectionError, RuntimeError):
            return  # the peer has gone; the reading side notices and cleans up


class Venue:
    """A running venue.

    Args:
        config: what to serve.
        instruments: its symbols, in the order of config.symbols.
    """

    def __init__(self, config: VenueConfig, instruments: list[Instrument]) -> None:
        self.config = config
        self.exchange = build_exchange(config, instruments, self.now_ms_real())
        self.faults = Faults(self.exchange, config.faults)
        self.rest = Rest(self.exchange)
        self.ws_api = WsApi(self.exchange)
        self.sockets: dict[OutSocket, str] = {}
        self.runner: web.AppRunner | None = None
        self.ticker: asyncio.Task[None] | None = None
        self.failed = asyncio.Event()
        self.port = 0
        self.started_ns = 0
        self.steps_done = 0

    def now_ms_real(self) -> int:
        """Return the wall clock in milliseconds."""
        return clock.now_wall_ns() // 1_000_000

    def now_ms(self) -> int:
        """Return the venue's clock, which a fault may have put wrong."""
        return self.now_ms_real() + self.exchange.clock_skew_ms

    async def start(self) -> int:
        """Listen and begin the market.

        Returns:
            The bound port.

        Raises:
            UnavailableError: the port is taken.
        """
        app = web.Application(client_max_size=MESSAGE_BYTES_MAX)
        app.router.add_route("*", "/{path:.*}", self.handle)
        self.runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=1.0
        )
        await self.runner.setup()
        site = web.TCPSite(
            self.runner,
            self.config.host,
            self.config.port,
            ssl_context=self.certificate(),
        )
        try:
            await site.start()
        except OSError as error:
            where = f"{self.config.host}:{self.config.port}"
            raise UnavailableError(f"venue {where}: {error.strerror}") from None
        self.port = self.runner.addresses[0][1]
        if self.config.port_file:
            write_whole(Path(self.config.port_file), f"{self.port}\n".encode())
        self.started_ns = clock.now_ns()
        self.ticker = asyncio.create_task(self.tick())
        self.ticker.add_done_callback(self.on_ticker_end)
        log.event("venue_listening", host=self.config.host, port=self.port, tls=self.config.tls)
        return self.port

    async def stop(self) -> None:
        """Close every socket and stop the market."""
        if self.ticker is not None:
            self.ticker.cancel()
            await asyncio.gather(self.ticker, return_exceptions=True)
        for socket in list(self.sockets):
            socket.close(1001)
        if self.runner is not None:
            await self.runner.cleanup()

    async def __aenter__(self) -> "Venue":
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    def certificate(self) -> ssl.SSLContext | None:
        """Make a CA and this server's certificate; write the CA's where clients look for it."""
        if not self.config.tls:
            return None
        authority = trustme.CA(organization_name="tickring local venue")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(self.config.host, "localhost", "127.0.0.1").configure_cert(context)
        write_whole(Path(self.config.ca_file), authority.cert_pem.bytes())
        return context

    async def tick(self) -> None:
        """Step the exchange at its cadence, catching up after a stall."""
        step_s = self.exchange.step_ms / 1_000
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due += step_s
            await asyncio.sleep(max(due - loop.time(), 0))
            behind = int((loop.time() - due) / step_s)
            steps = min(1 + behind, STEPS_PER_WAKE_MAX)
            due += (steps - 1) * step_s
            if behind >= STEPS_PER_WAKE_MAX:
                due = loop.time()
            if self.faults.is_stalled(self.now_ms_real()):
                continue
            self.exchange.advance(steps, self.now_ms())
            self.close_old()

    def on_ticker_end(self, ticker: asyncio.Task[None]) -> None:
        """Go dark if the market has died of a bug: better no venue than a wrong one."""
        if ticker.cancelled():
            return
        log.event("venue_failed", error=repr(ticker.exception()))
        self.failed.set()
        for socket in self.sockets:
            socket.close(1011)

    def close_old(self) -> None:
        """Close the sockets that have lived their time; the oldest come first."""
        until_ns = clock.now_ns() - self.config.connection_life_s * 1_000_000_000
        for socket in self.sockets:
            if socket.opened_ns > until_ns:
                return
            socket.close(1001)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one request of any kind."""
        path = request.path
        if self.failed.is_set():
            return web.Response(status=503, text="Service Unavailable.")
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self.handle_socket(request, path)
        body = (await request.read()).decode("utf-8", "replace")
        ip = request.remote or ""
        if path == "/venue/faults" and self.config.faults.admin:
            status, text = self.faults.command(body, ip, list(self.sockets.items()), self.now_ms())
            return web.Response(status=status, text=text, content_type="application/json")
        await self.faults.wait(asyncio.sleep, self.now_ms_real)
        question = Request(
            method=request.method,
            path=path,
            query=request.rel_url.raw_query_string,
            body=body,
            api_key=request.headers.get("X-MBX-APIKEY"),
            ip=ip,
            now_ms=self.now_ms(),
        )
        is_refused = (request.method, path) == ORDER and self.faults.refuse()
        answer = self.faults.rewrite(
            request.method, path, self.rest.handle(question, overloaded=is_refused)
        )
        if self.faults.answers_late_ms and (request.method, path) == ORDER:
            await asyncio.sleep(self.faults.answers_late_ms / 1_000)
        if answer is None:
            if request.transport is not None:
                request.transport.close()
            return web.Response(status=500)
        return web.Response(
            status=answer.status,
            body=answer.body,
            headers=answer.headers,
            content_type="application/json",
        )

    async def handle_socket(self, request: web.Request, path: str) -> web.StreamResponse:
        """Serve one WebSocket from handshake to close."""
        parts = path.strip("/").split("/")
        is_api = path.rstrip("/") == "/ws-fapi/v1"
        route = parts.pop(0) if parts and parts[0] in ("public", "market", "private") else ""
        if not is_api and (not parts or parts[0] not in ("ws", "stream")):
            return web.Response(status=404)
        socket = web.WebSocketResponse(
            heartbeat=HEARTBEAT_S, compress=False, max_msg_size=MESSAGE_BYTES_MAX
        )
        await socket.prepare(request)
        out = OutSocket(socket)
        self.sockets[out] = "api" if is_api else route or "legacy"
        writer = asyncio.create_task(out.run())
        try:
            if is_api:
                await self.serve_api(request, out)
            else:
                await self.serve_streams(request, out, route, parts)
        finally:
            self.sockets.pop(out, None)
            out.close(1000)
            await asyncio.gather(writer, return_exceptions=True)
        return socket

    async def serve_streams(
        self, request: web.Request, out: OutSocket, route: str, parts: list[str]
    ) -> None:
        """Serve a market or user-data connection."""
        connection = Connection(out, route, parts[0] == "stream")
        self.exchange.open_streams(
            connection, [unquote(p) for p in parts[1:]], request.rel_url.raw_query_string
        )
        try:
            async for message in out.socket:
                if message.type is WSMsgType.TEXT:
                    self.exchange.hub.handle(connection, message.data, self.now_ms())
        finally:
            self.exchange.hub.leave(connection)

    async def serve_api(self, request: web.Request, out: OutSocket) -> None:
        """Serve an order-entry connection."""
        session = Session(
            request.remote or "",
            self.now_ms(),
            request.query.get("returnRateLimits", "true") != "false",
        )
        async for message in out.socket:
            if message.type is not WSMsgType.TEXT:
                continue
            await self.faults.wait(asyncio.sleep, self.now_ms_real)
            overloaded = is_placement(message.data) and self.faults.refuse()
            answer = self.faults.rewrite_api(
                message.data, self.ws_api.handle(session, message.data, self.now_ms(), overloaded)
            )
            if answer is None:
                continue
            if self.faults.answers_late_ms and is_placement(message.data):
                loop = asyncio.get_running_loop()
                loop.call_later(self.faults.answers_late_ms / 1_000, out.send, answer)
            else:
                out.send(answer)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees all of it or none."""
    beside = path.with_name(path.name + ".new")
    beside.write_bytes(content)
    beside.replace(path)


class VenueThread:
    """A venue on a thread of its own, for callers without an asyncio loop.

    Use it as a context manager; `port` and `venue` are set inside. Call into `venue` only through
    `call`, which runs a function on the venue's loop.
    """

    def __init__(self, config: VenueConfig, instruments: list[Instrument]) -> None:
        self.config = config
        self.instruments = instruments
        self.port = 0
        self.venue: Venue | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.up = threading.Event()
        self.ending: asyncio.Event | None = None
        self.thread = threading.Thread(target=self.run, name="venue", daemon=True)

    def run(self) -> None:
        """Run the venue until told to end."""
        asyncio.run(self.serve())

    async def serve(self) -> None:
        """Serve until `ending` is set."""
        self.loop = asyncio.get_running_loop()
        self.ending = asyncio.Event()
        try:
            async with Venue(self.config, self.instruments) as venue:
                self.venue = venue
                self.port = venue.port
                self.up.set()
                await self.ending.wait()
        finally:
            self.up.set()

    def call(self, function: Callable[..., Any], *arguments: object) -> Any:
        """Run a function on the venue's loop and return what it returns."""
        assert self.loop is not None

        async def run() -> Any:
            return function(*arguments)

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(START_S_MAX)

    def __enter__(self) -> "VenueThread":
        self.thread.start()
        if not self.up.wait(START_S_MAX) or self.port == 0:
            raise UnavailableError("venue: did not start; its thread printed why")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.loop is not None and self.ending is not None:
            self.loop.call_soon_threadsafe(self.ending.set)
        self.thread.join(START_S_MAX)


async def serve(venue: Venue) -> None:
    """Run a venue until SIGINT or SIGTERM."""
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ending.set)
    async with venue:
        waiting = [asyncio.create_task(event.wait()) for event in (ending, venue.failed)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        if venue.failed.is_set():
            raise BugError("venue: the market has died, see venue_failed above")


def load_instruments(config: VenueConfig, path: Path) -> list[Instrument]:
    """Register a venue's symbols from an instruments file. Raises ConfigError."""
    return register(config.instruments, list(config.symbols), load_facts(path), path)


def main() -> int:
    """Serve a venue on its own: `python -m processes.venue.app --config X --instruments Y`."""
    parser = argparse.ArgumentParser(
        description="A local exchange, Binance USD-M Futures protocol."
    )
    parser.add_argument("--config", type=Path, required=True, help="TOML file of a VenueConfig")
    parser.add_argument(
        "--instruments", type=Path, default=Path("configs/instruments.toml"), help="TOML file"
    )
    options = parser.parse_args()
    log.set_process("venue")
    try:
        config = load(options.config, VenueConfig)
        asyncio.run(serve(Venue(config, load_instruments(config, options.instruments))))
    except TickringError as error:
        log.event("venue_failed", error=error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""The HTTP shell: httpx on a private asyncio loop that is stepped, never run; nothing blocks.

The loop's own epoll descriptor says when there is something to step for, so the process sleeps on
it together with its doorbell.
"""

import asyncio
import contextlib
import select
import selectors
import ssl
from collections.abc import Callable
from pathlib import Path

import httpx

from common.binance import NS_PER_MS
from common.errors import ConfigError
from processes.rest.calls import Answer, Wire, not_answered, not_sent, read_answer
from processes.rest.scheduler import RETRY_AFTER, USED_WEIGHT

STEPS_PER_POLL = 8
BODY_BYTES_MAX = 8_000_000
CONNECTIONS_MAX = 96
IDLE_CONNECTIONS_MAX = 8
KEEP_ALIVE_S = 60.0
STEP_NS = NS_PER_MS
CLOSE_S_MAX = 1.0
_HEADERS = (USED_WEIGHT, RETRY_AFTER)
# Failures before any byte of the request was written (httpx exceptions page).
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_BROKEN = (httpx.HTTPError, httpx.StreamError, ssl.SSLError, OSError)


def new_ssl_context(ca_file: str) -> ssl.SSLContext:
    """Return a client context that verifies certificate and host.

    Args:
        ca_file: PEM of the only authority to trust; empty: the system's.

    Raises:
        ConfigError: the file cannot be used.
    """
    if ca_file and not Path(ca_file).is_file():
        raise ConfigError(f"{ca_file}: not a file, expected a PEM certificate")
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except ssl.SSLError as error:
        raise ConfigError(f"{ca_file}: {error}, expected a PEM certificate") from None


class HttpShell:
    """Sends wires and collects answers.

    Args:
        base_url: scheme, host and port of the venue's REST API.
        ca_file: see `new_ssl_context`.
        timeout_ms: from sending to the whole answer.
        now_ns: reads CLOCK_MONOTONIC.
    """

    def __init__(
        self, base_url: str, ca_file: str, timeout_ms: int, now_ns: Callable[[], int]
    ) -> None:
        context = new_ssl_context(ca_file)
        self.now_ns = now_ns
        self.timeout_s = timeout_ms / 1_000
        self.selector = selectors.EpollSelector()
        self.loop = asyncio.SelectorEventLoop(self.selector)
        self.answers: list[tuple[int, Answer]] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.error: BaseException | None = None
        self.fds_version = 0
        self.client = httpx.AsyncClient(
            base_url=base_url,
            verify=context,
            timeout=httpx.Timeout(self.timeout_s),
            limits=httpx.Limits(
                max_connections=CONNECTIONS_MAX,
                max_keepalive_connections=IDLE_CONNECTIONS_MAX,
                keepalive_expiry=KEEP_ALIVE_S,
            ),
            trust_env=False,
            follow_redirects=False,
            headers={"user-agent": "tickring"},
        )

    def start(self, number: int, wire: Wire) -> None:
        """Begin one request; its answer comes from `poll` with the same number."""
        task = self.loop.create_task(self.run(number, wire))
        self.tasks.add(task)
        task.add_done_callback(self.on_done)

    def on_done(self, task: asyncio.Task[None]) -> None:
        """Forget a task that has ended; an error that `run` does not expect is kept."""
        self.tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.error = task.exception()

    async def run(self, number: int, wire: Wire) -> None:
        """Send one request and keep its answer."""
        ts_sent_ns = self.now_ns()
        try:
            async with asyncio.timeout(self.timeout_s):
                answer = await self.exchange(wire, ts_sent_ns)
        except _NOT_SENT as error:
            answer = not_sent(describe(error), self.now_ns())
        except (TimeoutError, *_BROKEN) as error:
            answer = not_answered(describe(error), ts_sent_ns, self.now_ns())
        self.answers.append((number, answer))

    async def exchange(self, wire: Wire, ts_sent_ns: int) -> Answer:
        """Send one request and read its answer, up to BODY_BYTES_MAX."""
        request = self.client.build_request(wire.method, wire.target, headers=wire.headers)
        response = await self.client.send(request, stream=True)
        try:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > BODY_BYTES_MAX:
                    return not_answered("answer is too long", ts_sent_ns, self.now_ns())
        finally:
            await response.aclose()
        headers = {name: response.headers[name] for name in _HEADERS if name in response.headers}
        return read_answer(response.status_code, headers, bytes(body), ts_sent_ns, self.now_ns())

    def poll(self) -> list[tuple[int, Answer]]:
        """Step the loop without blocking; return the answers that are complete.

        With nothing running one step is made, for a venue that closes an idle connection.
        """
        for _ in range(STEPS_PER_POLL if self.tasks else 1):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()
            if not self.tasks:
                break
        if self.error is not None:
            raise self.error
        answers, self.answers = self.answers, []
        return answers

    def fds(self) -> list[tuple[int, int]]:
        """Return the loop's epoll descriptor: readable when one of its sockets is."""
        return [(self.selector.fileno(), select.EPOLLIN)]

    def next_timer_ns(self) -> int:
        """Return when to step again at the latest: soon while a request is running, else never."""
        return self.now_ns() + STEP_NS if self.tasks else 0

    def close(self) -> None:
        """Give up what is running and close the connections."""
        for task in list(self.tasks):
            task.cancel()
        self.loop.run_until_complete(self.finish())
        self.loop.close()

    async def finish(self) -> None:
        """Wait for canceled requests, then close the client; bounded, whatever hangs."""
        if self.tasks:
            await asyncio.wait(list(self.tasks), timeout=CLOSE_S_MAX)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S_MAX):
                await self.client.aclose()


def describe(error: BaseException) -> str:
    """Return an exception's name and text; it never holds a header or a key."""
    return f"{type(error).__name__}: {error}"

"""The network in memory: connections with delay, loss of the connection, silence; and HTTP.

The clients are what feed, gateway and rest want of a transport: LinkIO, Socket and Http. What is
sent on one connection arrives in order or not at all, as with TCP; connections are independent.
"""

import select
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from processes.feed.json_scan import TEXT_SLACK
from processes.rest.calls import Answer, Wire, not_answered, not_sent, read_answer
from processes.transport import State

from tests.simulation.world import MS, NEVER, SECOND, US, World

UP, DOWN = 0, 1
FRAMES_MAX = 64
TEXT_BYTES = 1 << 18
HEADERS = ("x-mbx-used-weight-1m", "retry-after")


class Owner(Protocol):
    """The process that holds a client."""

    name: str

    def wake_by_network(self) -> None:
        """Look at your sockets."""


class Server(Protocol):
    """The venue's end of a connection."""

    def receive(self, text: bytes) -> None:
        """Take one message."""

    def leave(self) -> None:
        """The connection is gone."""


class Host(Protocol):
    """The venue."""

    def accept(self, pipe: "Pipe") -> Server | None:
        """Take a connection; None refuses it."""

    def http(self, wire: Wire, reply: Callable[[int, dict[str, str], bytes], None]) -> None:
        """Answer a request, now, later or never."""


class Network:
    """Delays and the list of connections.

    Attributes:
        spikes: kind -> (until, extra delay): a slow network.
        is_down: kinds that nobody can connect to.
        on_sent: told of every message that leaves us: (kind, what was sent).
    """

    def __init__(self, world: World, host_of: Callable[[], Host]) -> None:
        self.world = world
        self.host_of = host_of
        self.rng = world.stream("network")
        self.delay_ns = self.rng.choice((30 * US, 200 * US, 2 * MS, 12 * MS))
        self.spikes: dict[str, tuple[int, int]] = {}
        self.is_down: set[str] = set()
        self.pipes: list[Pipe] = []
        self.https: list[MemoryHttp] = []
        self.on_sent: Callable[[str, Any], None] = lambda kind, what: None
        self.count = 0
        self.flying: dict[str, int] = {}  # messages on their way, by kind

    def count_flying(self, kind: str, change: int) -> None:
        """Count a message that has left, or arrived, or was lost."""
        self.flying[kind] = self.flying.get(kind, 0) + change

    def delay(self, kind: str) -> int:
        """Return how long one message takes."""
        delay_ns = self.delay_ns // 2 + self.rng.randrange(self.delay_ns)
        until_ns, extra_ns = self.spikes.get(kind, (0, 0))
        if self.world.now < until_ns:
            delay_ns += self.rng.randrange(extra_ns)
        return delay_ns

    def of_kind(self, kind: str) -> list["Pipe"]:
        """Return the open connections of a kind."""
        return [pipe for pipe in self.pipes if pipe.kind == kind and pipe.state == State.OPEN]

    def open(self, url: str, owner: Owner) -> "Pipe":
        """Begin a connection."""
        self.count += 1
        pipe = Pipe(self, self.count, url, owner)
        self.pipes = [p for p in self.pipes if p.state != State.CLOSED]
        self.pipes.append(pipe)
        return pipe


def kind_of(url: str) -> str:
    """Return which of the venue's sockets a URL means."""
    path = url.partition("://")[2].partition("/")[2]
    return "api" if path.startswith("ws-fapi") else path.partition("/")[0]


class Pipe:
    """One WebSocket connection.

    Attributes:
        state: as the client sees it.
        inbox: what has arrived at the client and was not read.
        lost_after: per direction, what would arrive later never does.
        stuck_until_ns: until then the kernel takes no bytes of the client.
    """

    def __init__(self, network: Network, number: int, url: str, owner: Owner) -> None:
        self.network = network
        self.world = network.world
        self.number = number
        self.url = url
        self.kind = kind_of(url)
        self.owner = owner
        self.state = State.CONNECTING
        self.error = ""
        self.inbox: deque[bytes] = deque()
        self.server: Server | None = None
        self.is_server_gone = False
        self.lost_after = [NEVER, NEVER]
        self.last_arrival = [0, 0]
        self.stuck_until_ns = 0
        self.outbox: deque[bytes] = deque()
        self.pongs = 0
        self.last_recv_ns = 0
        self.world.at(self._arrival(UP), self._handshake)

    def _arrival(self, direction: int) -> int:
        """Return when what is sent now arrives: behind everything sent before."""
        when_ns = self.world.now + self.network.delay(self.kind)
        self.last_arrival[direction] = max(when_ns, self.last_arrival[direction] + 1)
        return self.last_arrival[direction]

    # Opening.

    def _handshake(self) -> None:
        if self.world.now > self.lost_after[UP] or self.state == State.CLOSED:
            return
        server = None
        if self.kind not in self.network.is_down:
            server = self.network.host_of().accept(self)
        if server is None:
            self.world.at(self._arrival(DOWN), self._closed, "refused")
            return
        self.server = server
        self.world.at(self._arrival(DOWN), self._opened)

    def _opened(self) -> None:
        if self.state == State.CONNECTING and self.world.now <= self.lost_after[DOWN]:
            self.state = State.OPEN
            self.last_recv_ns = self.world.now
            self.owner.wake_by_network()

    # The client's side.

    def send(self, text: bytes) -> bool:
        """Send one message; False: not open."""
        if self.state != State.OPEN:
            return False
        self.world.crash_point()
        if self.world.now < self.stuck_until_ns or self.outbox:
            self.outbox.append(text)
            self.world.at(self.stuck_until_ns, self.owner.wake_by_network)  # EPOLLOUT
        else:
            self._transmit(text)
        self.world.crash_point()
        return True

    def flush(self) -> None:
        """Write what the kernel did not take before, if it takes it now."""
        while self.outbox and self.state == State.OPEN and self.world.now >= self.stuck_until_ns:
            self._transmit(self.outbox.popleft())

    def _transmit(self, text: bytes) -> None:
        self.network.on_sent(self.kind, text)
        self.network.count_flying(self.kind, 1)
        self.world.at(self._arrival(UP), self._at_server, text)

    def ping(self) -> None:
        """Ask for a pong."""
        if self.state == State.OPEN:
            self.world.at(self._arrival(UP), self._at_server_ping)

    def close(self, reason: str, may_lose: bool = True) -> None:
        """Leave; what is queued never goes, what is on its way arrives, or not quite all of it."""
        if self.state == State.CLOSED:
            return
        self.state, self.error = State.CLOSED, reason
        self.outbox.clear()
        self.inbox.clear()
        if may_lose and self.network.rng.random() < 0.3:
            self.lost_after[UP] = min(
                self.lost_after[UP], self.world.now + self.network.rng.randrange(5 * MS)
            )
        self.world.at(self._arrival(UP) + self.network.rng.randrange(2 * MS), self._server_leaves)

    def _at_client(self, text: bytes) -> None:
        self.network.count_flying(self.kind, -1)
        if self.state == State.OPEN and self.world.now <= self.lost_after[DOWN]:
            self.inbox.append(text)
            self.owner.wake_by_network()

    def _at_client_pong(self) -> None:
        if self.state == State.OPEN and self.world.now <= self.lost_after[DOWN]:
            self.pongs += 1
            self.last_recv_ns = self.world.now
            self.owner.wake_by_network()

    def _closed(self, reason: str) -> None:
        if self.state != State.CLOSED:
            self.state, self.error = State.CLOSED, reason
            self.outbox.clear()
            self.owner.wake_by_network()

    # The server's side: streams.Socket.

    def reply(self, text: str) -> None:
        """Send one message to the client."""
        if not self.is_server_gone:
            self.network.count_flying(self.kind, 1)
            self.world.at(self._arrival(DOWN), self._at_client, text.encode())

    def _at_server(self, text: bytes) -> None:
        self.network.count_flying(self.kind, -1)
        if self.server is not None and not self.is_server_gone:
            if self.world.now <= self.lost_after[UP]:
                self.server.receive(text)

    def _at_server_ping(self) -> None:
        if self.server is not None and not self.is_server_gone:
            if self.world.now <= self.lost_after[UP]:
                self.world.at(self._arrival(DOWN), self._at_client_pong)

    def _server_leaves(self) -> None:
        if not self.is_server_gone:
            self.is_server_gone = True
            if self.server is not None:
                self.server.leave()

    def close_by_server(self, code: int) -> None:
        """Close behind what was sent."""
        self._server_leaves()
        self.world.at(self._arrival(DOWN), self._closed, f"closed by the venue: code {code}")

    # What the network does.

    def is_dead_and_not_noticed(self) -> bool:
        """Return True if the client takes for open what lets nothing through any more."""
        return self.state == State.OPEN and (
            self.is_server_gone or min(self.lost_after) < self.world.now
        )

    def cut(self) -> None:
        """Break it: each direction loses what is on its way from some instant on."""
        rng, now = self.network.rng, self.world.now
        for direction in (UP, DOWN):
            self.lost_after[direction] = now + rng.randrange(2 * self.network.delay_ns)
        self.world.at(now + rng.randrange(200 * MS), self._closed, "connection reset")
        self.world.at(now + rng.randrange(2 * SECOND), self._server_leaves)

    def freeze(self) -> None:
        """Let nothing through any more, and tell nobody."""
        self.lost_after = [self.world.now, self.world.now]
        self.world.at(self.world.now + 30 * SECOND, self._server_leaves)


class FeedLink:
    """The feed's transport (processes.feed.stage.LinkIO)."""

    def __init__(self, network: Network, url: str, owner: Owner) -> None:
        self.network = network
        self.url = url
        self.owner = owner
        self.pipe: Pipe | None = None
        self.text = np.zeros(TEXT_BYTES + TEXT_SLACK, np.uint8)
        self.bounds = np.zeros((FRAMES_MAX, 2), np.int64)
        self.count = 0
        self.ts_recv_ns = 0
        self.bytes_received = 0
        self.state = State.CLOSED
        self.error = ""
        self._pongs_before = 0
        self._due_ns = 0

    @property
    def pongs(self) -> int:
        """Pongs of all connections so far."""
        return self._pongs_before + (self.pipe.pongs if self.pipe is not None else 0)

    def connect(self, now_ns: int) -> None:
        """Begin to connect."""
        assert self.state == State.CLOSED
        self._pongs_before = self.pongs
        self.pipe = self.network.open(self.url, self.owner)
        self.state = State.CONNECTING
        self.error = ""
        self._due_ns = now_ns + 10 * SECOND

    def do_io(self, now_ns: int) -> int:
        """Read what has arrived, at most FRAMES_MAX frames."""
        self.count = 0
        if self.state == State.CLOSED or self.pipe is None:
            return 0
        pipe = self.pipe
        if self.state == State.CONNECTING and now_ns >= self._due_ns:
            self.abort("connecting took too long")
            return 0
        end = 0
        while pipe.inbox and self.count < FRAMES_MAX and end + len(pipe.inbox[0]) <= TEXT_BYTES:
            frame = pipe.inbox.popleft()
            self.text[end : end + len(frame)] = np.frombuffer(frame, np.uint8)
            self.bounds[self.count] = (end, end + len(frame))
            self.count += 1
            end += len(frame)
        if self.count:
            self.ts_recv_ns = pipe.last_recv_ns = pipe.world.now_ns()
            self.bytes_received += end
        if not pipe.inbox:
            self.state, self.error = pipe.state, pipe.error
        return self.count

    def assembled(self) -> bytes | None:
        """Return no fragmented message: this network has none."""
        return None

    def ping(self, payload: bytes = b"") -> bool:
        """Send a ping."""
        if self.pipe is None or self.state != State.OPEN:
            return False
        self.pipe.ping()
        return True

    def close(self, now_ns: int) -> None:
        """Close with a handshake that nobody waits for here."""
        self.abort("closed by us")

    def abort(self, reason: str) -> None:
        """Close at once."""
        if self.pipe is not None:
            self.pipe.close(reason)
        self.state, self.error = State.CLOSED, reason

    def fileno(self) -> int:
        """Return a descriptor that stands for the connection."""
        return self.pipe.number if self.pipe is not None and self.state != State.CLOSED else -1

    def events(self) -> int:
        """Return what is waited for."""
        return select.EPOLLIN

    def next_timer_ns(self) -> int:
        """Return when an attempt is over."""
        return self._due_ns if self.state == State.CONNECTING else 0

    @property
    def pending_bytes(self) -> int:
        """Return what no socket event will tell."""
        return len(self.pipe.inbox) if self.pipe is not None else 0


class GatewaySocket:
    """The gateway's transport (processes.gateway.link.Socket)."""

    def __init__(self, network: Network, url: str, owner: Owner) -> None:
        self.pipe = network.open(url, owner)

    @property
    def is_open(self) -> bool:
        """Return True while messages can be sent."""
        return self.pipe.state == State.OPEN

    @property
    def is_closed(self) -> bool:
        """Return True when it has ended and everything that came was read."""
        return self.pipe.state == State.CLOSED and not self.pipe.inbox

    @property
    def reason(self) -> str:
        """Return why it closed."""
        return self.pipe.error

    @property
    def last_recv_ns(self) -> int:
        """Return when bytes last came."""
        return self.pipe.last_recv_ns

    def poll(self, now_ns: int) -> list[tuple[bytes, int]]:
        """Return what has come, with the stamp of the read."""
        pipe = self.pipe
        pipe.flush()
        if not pipe.inbox:
            return []
        stamp = pipe.last_recv_ns = pipe.world.now_ns()
        texts = [(text, stamp) for text in pipe.inbox]
        pipe.inbox.clear()
        return texts

    def send(self, text: bytes) -> bool:
        """Send one message."""
        return self.pipe.send(text)

    def has_unsent(self) -> bool:
        """Return True while the kernel does not take what was sent."""
        return bool(self.pipe.outbox)

    def ping(self) -> None:
        """Send a ping."""
        self.pipe.ping()

    def close(self) -> None:
        """Close now."""
        self.pipe.close("closed by us")

    def fds(self) -> list[tuple[int, int]]:
        """Return a descriptor that stands for the connection."""
        return [] if self.pipe.state == State.CLOSED else [(self.pipe.number, select.EPOLLIN)]


class MemoryHttp:
    """Rest's HTTP client (processes.rest.stage.Http); every request has a connection of its own."""

    def __init__(self, network: Network, owner: Owner, timeout_ns: int) -> None:
        self.network = network
        self.world = network.world
        self.owner = owner
        self.timeout_ns = timeout_ns
        self.fds_version = 0
        self.running: dict[int, int] = {}  # number -> when it was sent
        self.answers: list[tuple[int, Answer]] = []
        self.is_closed = False
        network.https.append(self)

    def start(self, number: int, wire: Wire) -> None:
        """Send one request."""
        world, network = self.world, self.network
        world.crash_point()
        sent_ns = world.now_ns()
        self.running[number] = sent_ns
        if "http" in network.is_down:
            world.after(network.delay("http"), self._unsent, number)
            return
        network.on_sent("http", wire)
        world.after(network.delay("http"), self._at_server, number, wire)
        world.after(self.timeout_ns, self._timeout, number)
        world.crash_point()

    def _at_server(self, number: int, wire: Wire) -> None:
        def reply(status: int, headers: dict[str, str], body: bytes) -> None:
            lower = {name.lower(): value for name, value in headers.items()}
            kept = {name: lower[name] for name in HEADERS if name in lower}
            self.world.after(
                self.network.delay("http"), self._at_client, number, status, kept, body
            )

        self.network.host_of().http(wire, reply)

    def _at_client(self, number: int, status: int, headers: dict[str, str], body: bytes) -> None:
        sent_ns = self.running.pop(number, 0)
        if sent_ns and not self.is_closed:
            answer = read_answer(status, headers, body, sent_ns, self.world.now)
            self._keep(number, answer)

    def _timeout(self, number: int) -> None:
        sent_ns = self.running.pop(number, 0)
        if sent_ns and not self.is_closed:
            self._keep(number, not_answered("ReadTimeout: ", sent_ns, self.world.now))

    def _unsent(self, number: int) -> None:
        if self.running.pop(number, 0) and not self.is_closed:
            self._keep(number, not_sent("ConnectError: refused", self.world.now))

    def _keep(self, number: int, answer: Answer) -> None:
        self.answers.append((number, answer))
        self.owner.wake_by_network()

    def poll(self) -> list[tuple[int, Answer]]:
        """Return what is complete."""
        answers, self.answers = self.answers, []
        return answers

    def fds(self) -> list[tuple[int, int]]:
        """Return nothing: the scheduler wakes the stage."""
        return []

    def next_timer_ns(self) -> int:
        """Return 0: answers wake the stage."""
        return 0

    def close(self) -> None:
        """Give up what is running."""
        self.is_closed = True
        if self in self.network.https:
            self.network.https.remove(self)

"""One connection to the venue kept alive: connect, back off, ping, replace before its 24 hours.

The rules are sans-I/O: sockets are made by a factory and driven by `poll`, time is an argument.
A replacement is opened first; then it carries what is sent, and the old one is listened to for a
while (the venue cuts every socket at 24 h: websocket-market-streams, connection rules).
"""

import random
from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple
from typing import Protocol as Interface

from common import log
from common.binance import NS_PER_MS

STEADY_NS = 5_000 * NS_PER_MS  # a connection that lives longer forgets earlier failures
REASON_MAX = 200


class Socket(Interface):
    """A websocket that never blocks; processes/transport.py has the real one."""

    @property
    def is_open(self) -> bool:
        """Return True while messages can be sent."""

    @property
    def is_closed(self) -> bool:
        """Return True when the connection has ended, or never came to be."""

    @property
    def reason(self) -> str:
        """Return why it closed."""

    @property
    def last_recv_ns(self) -> int:
        """Return when bytes last came, control frames included."""

    def poll(self, now_ns: int) -> list[tuple[bytes, int]]:
        """Do what I/O can be done; return whole text messages with the stamp of their bytes."""

    def send(self, text: bytes) -> bool:
        """Write one text message, as far as the kernel takes it; False: not at all."""

    def has_unsent(self) -> bool:
        """Return True while bytes of an earlier message wait for the kernel."""

    def ping(self) -> None:
        """Send a ping frame."""

    def close(self) -> None:
        """Close now; bytes not yet taken by the kernel never leave."""

    def fds(self) -> list[tuple[int, int]]:
        """Return (descriptor, epoll mask) to sleep on."""


class LinkEvent(IntEnum):
    """What happened on a link."""

    UP = 1
    DOWN = 2
    TEXT = 3
    LOST = 4  # a replaced socket has gone: what was in flight on it gets no answer
    DOUBTFUL = 5  # the same, and silent since its replacement: it may have been dead before


class Incoming(NamedTuple):
    """One event.

    Attributes:
        number: of the socket, counted from 1.
        text, ts_recv_ns: of TEXT.
    """

    event: LinkEvent
    number: int
    text: bytes = b""
    ts_recv_ns: int = 0


class LinkTimes(NamedTuple):
    """All durations of a link, in ns; see GatewayConfig."""

    connect_ns: int
    reconnect_ns_min: int
    reconnect_ns_max: int
    ping_ns: int
    idle_ns: int
    rotate_ns: int
    overlap_ns: int


class _Held:
    """A socket with its number and times."""

    __slots__ = ("socket", "number", "since_ns", "pinged_ns", "leave_ns")

    def __init__(self, socket: Socket, number: int, now_ns: int) -> None:
        self.socket = socket
        self.number = number
        self.since_ns = now_ns  # asked for, later open
        self.pinged_ns = now_ns
        self.leave_ns = 0


class Link:
    """One logical connection.

    Args:
        name: for the log.
        connect: opens a socket to a URL, without waiting.
        times: durations.
        jitter: spreads reconnects; seeded by the caller.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[str, int], Socket],
        times: LinkTimes,
        jitter: random.Random,
    ) -> None:
        self.name = name
        self.connect = connect
        self.times = times
        self.jitter = jitter
        self.url = ""
        self.current: _Held | None = None
        self.opening: _Held | None = None
        self.leaving: list[_Held] = []
        self.failures = 0
        self.retry_ns = 0
        self.count = 0
        self.fds_version = 0
        self.dropped: list[Incoming] = []

    @property
    def is_up(self) -> bool:
        """Return True if something can be sent."""
        return self.current is not None

    @property
    def number(self) -> int:
        """Return the number of the socket that sends; 0 without one."""
        return self.current.number if self.current else 0

    def set_url(self, url: str, now_ns: int) -> None:
        """Go to another URL: with a replacement if there is a connection, else at once.

        Without a URL no new connection is made; one that stands is kept.
        """
        if url == self.url:
            return
        self.url = url
        self.retry_ns = now_ns
        if self.opening is not None:
            self.give_up_opening("other url", now_ns, is_failure=False)
        if self.current is not None and url:
            self.open(now_ns)

    def poll(self, now_ns: int) -> list[Incoming]:
        """Drive all sockets; return what happened, in order."""
        events, self.dropped = self.dropped, []
        if self.current is not None:
            self.poll_current(self.current, events, now_ns)
        if self.leaving:
            self.poll_leaving(events, now_ns)
        if self.opening is not None:
            self.poll_opening(self.opening, events, now_ns)
        elif self.current is None and self.url and now_ns >= self.retry_ns:
            self.open(now_ns)
        return events

    def poll_current(self, held: _Held, events: list[Incoming], now_ns: int) -> None:
        """Read the socket in use; ping it, give it up, or begin to replace it."""
        socket = held.socket
        for text, ts_recv_ns in socket.poll(now_ns):
            events.append(Incoming(LinkEvent.TEXT, held.number, text, ts_recv_ns))
        silent_ns = now_ns - max(socket.last_recv_ns, held.since_ns)
        if socket.is_closed:
            self.drop(socket.reason, now_ns)
        elif silent_ns > self.times.idle_ns:
            self.drop("silent", now_ns)
        elif silent_ns > self.times.ping_ns and now_ns - held.pinged_ns > self.times.ping_ns:
            held.pinged_ns = now_ns
            socket.ping()
        elif (
            now_ns - held.since_ns > self.times.rotate_ns
            and self.opening is None
            and self.url
            and now_ns >= self.retry_ns
        ):
            self.open(now_ns)
        events += self.dropped
        self.dropped = []

    def poll_leaving(self, events: list[Incoming], now_ns: int) -> None:
        """Listen to replaced sockets until their time is over."""
        for held in list(self.leaving):
            for text, ts_recv_ns in held.socket.poll(now_ns):
                events.append(Incoming(LinkEvent.TEXT, held.number, text, ts_recv_ns))
            if held.socket.is_closed or now_ns >= held.leave_ns:
                is_silent = held.socket.last_recv_ns < held.pinged_ns
                held.socket.close()
                self.leaving.remove(held)
                self.fds_version += 1
                event = LinkEvent.DOUBTFUL if is_silent else LinkEvent.LOST
                events.append(Incoming(event, held.number))

    def poll_opening(self, held: _Held, events: list[Incoming], now_ns: int) -> None:
        """Wait for a new socket; it takes over when it is open and the old one holds no bytes."""
        texts = held.socket.poll(now_ns)
        if held.socket.is_closed:
            self.give_up_opening(held.socket.reason, now_ns)
        elif held.socket.is_open:
            if self.current is None or not self.current.socket.has_unsent():
                self.take_over(held, events, now_ns)  # no replaced socket goes on writing
            for text, ts_recv_ns in texts:
                events.append(Incoming(LinkEvent.TEXT, held.number, text, ts_recv_ns))
        elif now_ns - held.since_ns > self.times.connect_ns:
            self.give_up_opening("no answer in time", now_ns)

    def take_over(self, held: _Held, events: list[Incoming], now_ns: int) -> None:
        """Let a new socket carry what is sent from now on."""
        old, self.current, self.opening = self.current, held, None
        held.since_ns = now_ns
        held.pinged_ns = now_ns
        log.event("link_open", link=self.name, number=held.number, replaces=old is not None)
        if old is None:
            events.append(Incoming(LinkEvent.UP, held.number))
        else:
            old.leave_ns = now_ns + self.times.overlap_ns
            old.pinged_ns = now_ns
            old.socket.ping()  # its answer proves that nothing was lost before the new one heard
            self.leaving.append(old)

    def open(self, now_ns: int) -> None:
        """Begin a new socket."""
        self.count += 1
        self.opening = _Held(self.connect(self.url, now_ns), self.count, now_ns)
        self.fds_version += 1

    def give_up_opening(self, reason: str, now_ns: int, is_failure: bool = True) -> None:
        """Drop a socket that did not open, and wait before the next attempt."""
        assert self.opening is not None
        self.opening.socket.close()
        self.opening = None
        self.fds_version += 1
        if is_failure:
            self.back_off(reason, now_ns)

    def drop(self, reason: str, now_ns: int) -> None:
        """Give the socket in use up; a replacement that is being opened goes on."""
        held = self.current
        if held is None:
            return
        held.socket.close()
        self.current = None
        self.fds_version += 1
        if now_ns - held.since_ns > STEADY_NS:
            self.failures = 0
        self.dropped.append(Incoming(LinkEvent.DOWN, held.number))
        self.back_off(reason, now_ns)

    def back_off(self, reason: str, now_ns: int) -> None:
        """Set when to try again: doubling, half of it jitter."""
        low, high = self.times.reconnect_ns_min, self.times.reconnect_ns_max
        pause_ns = min(low << min(self.failures, 30), high)
        self.failures += 1
        self.retry_ns = now_ns + pause_ns // 2 + self.jitter.randrange(pause_ns // 2 + 1)
        log.event("link_down", link=self.name, reason=reason[:REASON_MAX], failures=self.failures)

    def held(self) -> list[_Held]:
        """Return all sockets."""
        return [held for held in (self.current, self.opening, *self.leaving) if held is not None]

    def fds(self) -> list[tuple[int, int]]:
        """Return the descriptors to sleep on; they change with every poll."""
        return [pair for held in self.held() for pair in held.socket.fds()]

    def next_timer_ns(self) -> int:
        """Return when the link wants to be polled without anything to read; 0 never."""
        if self.dropped:
            return 1  # at once: nobody has been told yet
        if self.current is None and self.opening is None:
            return self.retry_ns if self.url else 0
        return 0  # pings, deadlines and rotation are coarse: the shell's heartbeat is enough

    def close(self) -> None:
        """Close every socket."""
        for held in self.held():
            held.socket.close()
        self.current = self.opening = None
        self.leaving = []
        self.url = ""

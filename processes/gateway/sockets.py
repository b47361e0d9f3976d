"""The transport as the links want it: whole messages with their stamps, never blocking."""

import ssl
from collections.abc import Callable

from processes.transport import Limits, State, Transport

READS_PER_POLL_MAX = 16


class VenueSocket:
    """One websocket of the venue.

    Args:
        url: ws or wss.
        tls: verifies certificate and host; used for wss.
        limits: of the connection.
        now_ns: CLOCK_MONOTONIC at the beginning of the attempt.
        read_clock: reads it.
    """

    def __init__(
        self,
        url: str,
        tls: ssl.SSLContext | None,
        limits: Limits,
        now_ns: int,
        read_clock: Callable[[], int],
    ) -> None:
        self.transport = Transport(url, tls=tls, limits=limits, read_clock=read_clock)
        self.transport.connect(now_ns)

    @property
    def is_open(self) -> bool:
        """Return True while messages can be sent."""
        return self.transport.state == State.OPEN

    @property
    def is_closed(self) -> bool:
        """Return True when the connection has ended, or never came to be."""
        return self.transport.state == State.CLOSED

    @property
    def reason(self) -> str:
        """Return why it closed."""
        return self.transport.error

    @property
    def last_recv_ns(self) -> int:
        """Return when bytes last came, control frames included."""
        return self.transport.ts_recv_ns

    def poll(self, now_ns: int) -> list[tuple[bytes, int]]:
        """Do what I/O can be done; return whole text messages with the stamp of their bytes."""
        transport = self.transport
        texts: list[tuple[bytes, int]] = []
        for _ in range(READS_PER_POLL_MAX):
            state = transport.state
            if transport.do_io(now_ns):
                ts_recv_ns = transport.ts_recv_ns
                texts += [(message, ts_recv_ns) for message in transport.messages()]
            elif transport.state == state:
                break
        return texts

    def send(self, text: bytes) -> bool:
        """Write one text message, as far as the kernel takes it; False: not at all."""
        return self.transport.send_text(text)

    def has_unsent(self) -> bool:
        """Return True while bytes of an earlier message wait for the kernel."""
        return self.transport.write_bytes > 0

    def ping(self) -> None:
        """Send a ping frame."""
        self.transport.ping()

    def close(self) -> None:
        """Close now; bytes not yet taken by the kernel never leave."""
        self.transport.abort("closed by us")

    def fds(self) -> list[tuple[int, int]]:
        """Return (descriptor, epoll mask) to sleep on."""
        fd = self.transport.fileno()
        return [(fd, self.transport.events())] if fd >= 0 else []

"""A WebSocket client over a non-blocking socket, plain or TLS, that its owner drives.

`websockets` owns the protocol (handshake, control frames, fragments, errors); this module owns the
bytes. Whole unfragmented data frames, nearly all of a market stream, never reach the Python parser:
a kernel finds their bounds in the receive buffer and the caller decodes them where they lie.
Anything else is handed to `websockets` frame by frame. Compression is not offered.

    connect(now_ns)            begin; names are looked up by a thread, so that nothing here blocks
    do_io(now_ns) -> frames    one socket read at most; their bounds in `text`, or `messages()`
    send_text, ping, close     refused or queued, never waited for
    events(), fileno()         what to wait for; `pending_bytes`: what no socket event will tell

Rules: nothing is raised for what a peer or the network does: the state becomes CLOSED and `error`
says why. A certificate and its host name are always verified.
"""

import contextlib
import ipaddress
import os
import queue
import select
import socket
import ssl
import threading
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidURI
from websockets.frames import Frame, Opcode
from websockets.protocol import State as ProtocolState
from websockets.uri import parse_uri

from common import clock
from common.errors import ConfigError
from processes.frames import HEAD_BYTES_MAX, READ_MORE, TABLE_FULL, frame_bytes, split_frames

TEXT_SLACK = 64
_RESPONSE_BYTES_MAX = 65_536
_TLS_RECORD_BYTES_MAX = 1 << 15

Address = tuple[socket.AddressFamily, Any]


class State(IntEnum):
    """Where a connection is."""

    CLOSED = 1
    RESOLVING = 2
    CONNECTING = 3
    TLS = 4
    UPGRADING = 5
    OPEN = 6
    CLOSING = 7


class Limits(NamedTuple):
    """What one connection may take.

    Attributes:
        message_bytes_max: longest message, all its fragments together.
        read_bytes_max: one socket read.
        write_bytes_max: queued for sending; beyond it a send is refused.
        frames_max: data frames told by one `do_io`.
        open_ns_max: from `connect` to OPEN.
        close_ns_max: from `close` to CLOSED.
    """

    message_bytes_max: int = 1 << 20
    read_bytes_max: int = 1 << 17
    write_bytes_max: int = 1 << 18
    frames_max: int = 1024
    open_ns_max: int = 10_000_000_000
    close_ns_max: int = 2_000_000_000


def client_tls(ca_file: Path | None) -> ssl.SSLContext:
    """Return a context that verifies certificate and host name.

    Args:
        ca_file: PEM of the authorities to trust; None: the system's.

    Raises:
        ConfigError: the file cannot be read or holds no certificate.
    """
    try:
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"{ca_file}: {error}, expected PEM certificates") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


class Transport:
    """One connection to one URL; `connect` may be called again after CLOSED.

    Attributes:
        state, error: where it is; why it closed, empty while it has not.
        text, bounds, count: uint8 buffer and int64[n, 2]: the payloads of the last `do_io`, valid
            until the next one; TEXT_SLACK bytes behind each may be loaded.
        ts_recv_ns: when the bytes of the last read had left the socket.
        bytes_received, pongs: counted since it was made.
    """

    def __init__(
        self,
        url: str,
        *,
        tls: ssl.SSLContext | None = None,
        limits: Limits | None = None,
        read_clock: Callable[[], int] = clock.now_ns,
    ) -> None:
        try:
            self._uri = parse_uri(url)
        except (InvalidURI, ValueError) as error:
            raise ConfigError(f"{url}: {error}, expected ws://... or wss://...") from None
        if self._uri.secure and tls is None:
            raise ConfigError(f"{url}: no TLS context, expected one for wss")
        self.url = url
        self.limits = limits or Limits()
        self.state = State.CLOSED
        self.error = ""
        size = self.limits.message_bytes_max + HEAD_BYTES_MAX + self.limits.read_bytes_max
        size += _TLS_RECORD_BYTES_MAX  # what an unfinished record of the read before adds
        self.text = np.zeros(size + TEXT_SLACK, np.uint8)
        self.bounds = np.zeros((self.limits.frames_max, 2), np.int64)
        self.count = 0
        self.ts_recv_ns = 0
        self.bytes_received = 0
        self.pongs = 0
        self._tls_context = tls if self._uri.secure else None
        self._clock = read_clock
        self._view = memoryview(self.text.data).cast("B")[:size]
        self._socket: socket.socket | None = None
        self._addresses: list[Address] = []
        self._lookup: queue.SimpleQueue[list[Address] | str] = queue.SimpleQueue()
        self._reset()

    def _reset(self) -> None:
        self._protocol = ClientProtocol(self._uri, max_size=self.limits.message_bytes_max)
        self._first = self._end = 0  # received and not taken yet: text[first:end]
        self._is_stopped = False  # there may be frames in it: look before the next read
        self._out = bytearray()
        self._fragments: list[bytes] = []
        self._is_fragmented = False
        self._assembled: bytes | None = None
        self._address_index = 0
        self._due_ns = 0
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls: Any = None  # ssl.SSLObject; its stubs do not know read(size, buffer)
        self.count = 0

    # What the owner asks for.

    def connect(self, now_ns: int) -> None:
        """Begin to connect; only from CLOSED."""
        assert self.state == State.CLOSED, f"{self.url}: connect in state {self.state.name}"
        self._reset()
        self.error = ""
        self._due_ns = now_ns + self.limits.open_ns_max
        host, port = self._uri.host, self._uri.port
        try:
            family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
        except ValueError:
            self.state = State.RESOLVING
            self._lookup = queue.SimpleQueue()  # a late answer to an earlier question is not ours
            threading.Thread(
                target=_look_up, args=(host, port, self._lookup), name="resolver", daemon=True
            ).start()
            return
        self._addresses = [(family, (host, port))]
        self._try_address()

    def do_io(self, now_ns: int) -> int:
        """Advance the connection and read the socket once at most.

        Args:
            now_ns: CLOCK_MONOTONIC, for the deadlines.

        Returns:
            Messages received; they are told by `messages`, or by `bounds` if `count` is not 0.
        """
        self.count = 0
        self._assembled = None
        if self.state == State.OPEN:
            if self._out:
                self._flush()
            return self._receive()
        if self.state == State.CLOSED:
            return 0
        if now_ns >= self._due_ns:
            self._close_now(f"{self.state.name.lower()} took too long")
            return 0
        if self.state == State.RESOLVING:
            self._poll_lookup()
        elif self.state == State.CONNECTING:
            self._poll_connect()
        else:
            self._flush()
            return self._receive()
        return 0

    def messages(self) -> list[bytes]:
        """Return the messages of the last `do_io` as bytes, in order."""
        found = [bytes(self._view[a:b]) for a, b in self.bounds[: self.count].tolist()]
        if self._assembled is not None:
            found.append(self._assembled)
        return found

    def assembled(self) -> bytes | None:
        """Return the fragmented message that the last `do_io` completed; it is behind `bounds`."""
        return self._assembled

    def send_text(self, payload: bytes) -> bool:
        """Send one text message; what the socket does not take now is queued.

        Returns:
            False: not OPEN, or the queue is full; nothing was sent.
        """
        if self.state != State.OPEN:
            return False
        if len(self._out) + len(payload) + 14 > self.limits.write_bytes_max:
            return False
        self._protocol.send_text(payload)
        self._send_protocol_data()
        return True

    def ping(self, payload: bytes = b"") -> bool:
        """Send a ping; `pongs` counts the answers. Returns False if it is not OPEN."""
        if self.state != State.OPEN:
            return False
        self._protocol.send_ping(payload)
        self._send_protocol_data()
        return True

    def close(self, now_ns: int) -> None:
        """Begin the closing handshake, or drop what is not open yet."""
        if self.state == State.OPEN:
            self.state = State.CLOSING
            self._due_ns = now_ns + self.limits.close_ns_max
            self._protocol.send_close(1000)
            self._send_protocol_data()
        elif self.state not in (State.CLOSED, State.CLOSING):
            self.abort("closed by us")

    def abort(self, reason: str) -> None:
        """Close the socket at once."""
        if self.state != State.CLOSED:
            self._close_now(reason)

    def fileno(self) -> int:
        """Return the socket's file descriptor, -1 if there is none."""
        return self._socket.fileno() if self._socket is not None else -1

    def events(self) -> int:
        """Return the epoll mask to wait for."""
        if self.state == State.CONNECTING:
            return select.EPOLLOUT
        return select.EPOLLIN | (select.EPOLLOUT if self._out else 0)

    def next_timer_ns(self) -> int:
        """Return when `do_io` must be called at the latest, 0 if no deadline runs."""
        return 0 if self.state in (State.OPEN, State.CLOSED) else self._due_ns

    @property
    def pending_bytes(self) -> int:
        """Bytes read and not told yet; no socket event will come for them."""
        pending = self._tls.pending() if self._tls is not None else 0
        return pending + (self._end - self._first if self._is_stopped else 0)

    @property
    def write_bytes(self) -> int:
        """Bytes queued that the socket has not taken."""
        return len(self._out)

    # Opening.

    def _poll_lookup(self) -> None:
        try:
            found = self._lookup.get_nowait()
        except queue.Empty:
            return
        if isinstance(found, str):
            if not self._addresses:  # else the addresses of last time will do
                self._close_now(f"{self._uri.host}: {found}")
                return
        else:
            self._addresses = found
        self._try_address()

    def _try_address(self) -> None:
        family, address = self._addresses[self._address_index]
        try:
            self._socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.state = State.CONNECTING
            self._socket.connect(address)
        except BlockingIOError:
            return
        except OSError as error:
            self._next_address(str(error))
            return
        self._on_connected()

    def _next_address(self, reason: str) -> None:
        self._drop_socket()
        self._address_index += 1
        if self._address_index < len(self._addresses):
            self._try_address()
        else:
            self._close_now(reason)

    def _poll_connect(self) -> None:
        assert self._socket is not None
        poller = select.poll()
        poller.register(self._socket, select.POLLOUT)
        if not poller.poll(0):
            return
        number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            self._next_address(f"connect: {os.strerror(number).lower()}")
            return
        self._on_connected()

    def _on_connected(self) -> None:
        if self._tls_context is None:
            self._upgrade()
            return
        self.state = State.TLS
        self._tls = self._tls_context.wrap_bio(
            self._incoming, self._outgoing, server_hostname=self._uri.host
        )
        self._shake_hands()

    def _shake_hands(self) -> None:
        assert self._tls is not None
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except ssl.SSLError as error:
            self._flush()  # the alert
            self._close_now(f"tls: {error}")
            return
        self._flush()
        if self.state == State.TLS:
            self._upgrade()

    def _upgrade(self) -> None:
        self.state = State.UPGRADING
        self._protocol.send_request(self._protocol.connect())
        self._send_protocol_data()

    def _on_response(self) -> None:
        """Hand the HTTP response to the protocol; what lies behind it are frames."""
        received = bytes(self._view[self._first : self._end])
        end = received.find(b"\r\n\r\n")
        if end < 0:
            if len(received) > _RESPONSE_BYTES_MAX:
                self._close_now("upgrade: response is too long")
            return
        self._first += end + 4
        self._protocol.receive_data(received[: end + 4])
        if self._protocol.state is ProtocolState.OPEN:
            self._protocol.events_received()
            self.state = State.OPEN
            return
        # A refusal has a body, which may say why and is not wanted.
        status = received.partition(b"\r\n")[0].decode("latin-1")
        reason = self._protocol.handshake_exc
        self._close_now(f"upgrade: {reason if reason is not None else status}")

    # Receiving.

    def _receive(self) -> int:
        """Read once, unless frames of the read before are waiting; return messages found."""
        if not self._is_stopped:
            if self._socket is None or not self._read(self._socket):
                return 0
            if self.state == State.UPGRADING:
                self._on_response()
            if self.state in (State.CLOSED, State.UPGRADING, State.TLS):
                return 0
        self._is_stopped = False
        if self.state == State.OPEN:
            self._take_frames()
        if self.state == State.CLOSING and self._assembled is None:
            self._discard()
        return self.count + (self._assembled is not None)

    def _take_frames(self) -> None:
        while True:
            if not self._is_fragmented:
                self.count, self._first, status = split_frames(
                    self.text, self._first, self._end, self.limits.message_bytes_max,
                    self.bounds, self.count,
                )  # fmt: skip
                if status == READ_MORE:
                    break
                if status == TABLE_FULL:
                    self._is_stopped = True
                    return
            if not self._take_odd_frame():
                break
            if self._assembled is not None:  # in order: what is behind it comes next time
                self._is_stopped = self._end > self._first
                return
            if self.state != State.OPEN:
                return

    def _take_odd_frame(self) -> bool:
        """Hand one frame to the protocol; return False if it is not complete yet."""
        head = self._view[self._first : min(self._first + HEAD_BYTES_MAX, self._end)]
        length = frame_bytes(head)
        if length == 0:
            return False
        if length > self.limits.message_bytes_max + HEAD_BYTES_MAX:
            length = self._end - self._first  # the protocol will refuse its head
        if length > self._end - self._first:
            return False
        self._protocol.receive_data(bytes(self._view[self._first : self._first + length]))
        self._first += length
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._on_frame(event)
        self._send_protocol_data()
        if self._protocol.parser_exc is not None:
            self._close_now(f"protocol: {self._protocol.parser_exc}")
        elif self._protocol.close_expected() and self.state == State.OPEN:
            self.state = State.CLOSING
            self._due_ns = self._clock() + self.limits.close_ns_max
        return True

    def _on_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.PONG:
            self.pongs += 1
        elif frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            self._fragments.append(bytes(frame.data))
            self._is_fragmented = not frame.fin
            if frame.fin:
                self._assembled = b"".join(self._fragments)
                self._fragments.clear()

    def _discard(self) -> None:
        """Behind a close frame nothing counts; the protocol waits for the end of the stream."""
        if self._end > self._first:
            self._protocol.receive_data(bytes(self._view[self._first : self._end]))
            self._first = self._end
            self._protocol.events_received()
            self._send_protocol_data()

    def _read(self, link: socket.socket) -> bool:
        """Read the socket once behind what is there; return False if nothing came."""
        if self._first:  # keep the beginning of a frame, move it to the front
            left = self._end - self._first
            self._view[:left] = self._view[self._first : self._end]
            self._first, self._end = 0, left
        room = min(len(self._view) - self._end, self.limits.read_bytes_max)
        try:
            if self._tls is None:
                size = link.recv_into(self._view[self._end :], room)
                self._end += size
            else:
                data = link.recv(room)
                size = len(data)
                self._incoming.write(data)
        except BlockingIOError:
            if self._tls is None or self._tls.pending() == 0:
                return False
            size = -1
        except OSError as error:
            self._on_end(str(error))
            return False
        if size == 0:
            self._on_end("")
            return False
        if size > 0:
            self.ts_recv_ns = self._clock()
            self.bytes_received += size
        return self._decrypt() if self._tls is not None else True

    def _decrypt(self) -> bool:
        assert self._tls is not None
        if self.state == State.TLS:
            self._shake_hands()
            return False
        before = self._end
        try:
            while self._end < len(self._view):
                size = self._tls.read(len(self._view) - self._end, self._view[self._end :])
                if size == 0:
                    break
                self._end += size
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._on_end("" if isinstance(error, ssl.SSLZeroReturnError) else f"tls: {error}")
            return False
        if self._outgoing.pending:
            self._flush()
        return self._end > before

    # Sending.

    def _send_protocol_data(self) -> None:
        for data in self._protocol.data_to_send():
            if not data:
                continue  # the end of the stream: the socket is closed when the peer closes it
            if self._tls is not None:
                try:
                    self._tls.write(data)
                except ssl.SSLError as error:
                    self._close_now(f"tls: {error}")
                    return
            else:
                self._out += data
        self._flush()

    def _flush(self) -> None:
        if self._tls is not None and self._outgoing.pending:
            self._out += self._outgoing.read()
        if not self._out or self._socket is None:
            return
        try:
            sent = self._socket.send(self._out)
            del self._out[:sent]
        except BlockingIOError:
            pass
        except OSError as error:
            self._close_now(str(error))
            return
        if len(self._out) > self.limits.write_bytes_max:
            self._close_now(f"{len(self._out)} bytes unsent, at most {self.limits.write_bytes_max}")

    # Closing.

    def _on_end(self, reason: str) -> None:
        """The peer has closed the stream."""
        if self.state in (State.OPEN, State.CLOSING):
            with contextlib.suppress(EOFError):
                self._protocol.receive_eof()
            code, text = self._protocol.close_code, self._protocol.close_reason
            self._close_now(reason or f"closed by the venue: code {code} {text or ''}".rstrip())
        else:
            self._close_now(reason or f"closed by the venue while {self.state.name.lower()}")

    def _close_now(self, reason: str) -> None:
        self._drop_socket()
        self.state = State.CLOSED
        self.error = reason or "closed"
        self._is_stopped = False
        self._tls = None

    def _drop_socket(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _look_up(host: str, port: int, answer: "queue.SimpleQueue[list[Address] | str]") -> None:
    """Resolve one name; runs in a thread of its own, because getaddrinfo blocks."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        answer.put(str(error))
        return
    answer.put([(family, address) for family, _, _, _, address in found])

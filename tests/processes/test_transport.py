"""The transport against a scripted peer: every way to cut, fragment, spoil and refuse."""

import contextlib
import random
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Close, Frame, Opcode
from websockets.server import ServerProtocol

from common import clock
from common.errors import ConfigError
from processes import transport as transport_module
from processes.frames import ODD_FRAME, READ_MORE, TABLE_FULL, frame_bytes, split_frames
from processes.transport import Limits, State, Transport, client_tls

from support import wait_until

LIMITS = Limits(message_bytes_max=300_000, read_bytes_max=65_536, write_bytes_max=100_000)


class Peer:
    """A server on a thread: accepts one connection at a time and runs a script on it."""

    def __init__(self, script: Callable[["Peer"], None], tls: ssl.SSLContext | None = None) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(10)
        self.port = self.listener.getsockname()[1]
        self.script = script
        self.tls = tls
        self.protocol = ServerProtocol()
        self.frames: list[Frame] = []
        self.fault: Exception | None = None
        self.release = threading.Event()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        try:
            self.socket, _ = self.listener.accept()
            self.socket.settimeout(10)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls is not None:
                self.socket = self.tls.wrap_socket(self.socket, server_side=True)
            self.script(self)
        except (OSError, ssl.SSLError) as error:
            self.fault = error
        finally:
            with contextlib.suppress(OSError, AttributeError):
                self.socket.close()

    def upgrade(self) -> None:
        """Answer the handshake."""
        while not (events := self.protocol.events_received()):
            self.protocol.receive_data(self.socket.recv(65_536))
        self.protocol.send_response(self.protocol.accept(events[0]))
        self.send(b"".join(self.protocol.data_to_send()))

    def send(self, data: bytes, piece: int = 1 << 20) -> None:
        for i in range(0, len(data), piece):
            self.socket.sendall(data[i : i + piece])

    def read_frames(self, count: int) -> None:
        """Read until `count` frames of the client have come, or its end."""
        while len(self.frames) < count:
            data = self.socket.recv(65_536)
            if not data:
                return
            self.protocol.receive_data(data)
            self.frames += self.protocol.events_received()

    def close(self) -> None:
        self.release.set()
        self.thread.join(timeout=10)
        self.listener.close()
        assert not self.thread.is_alive()


def frame(payload: bytes, opcode: Opcode = Opcode.TEXT, fin: bool = True, mask: bool = False):
    return Frame(opcode, payload, fin).serialize(mask=mask)


@contextlib.contextmanager
def connected(script, tls=None, context=None, host="127.0.0.1", limits=LIMITS, until=State.OPEN):
    peer = Peer(script, tls)
    scheme = "wss" if context else "ws"
    link = Transport(f"{scheme}://{host}:{peer.port}/x?y=1", tls=context, limits=limits)
    link.inbox = []
    try:
        link.connect(clock.now_ns())
        wait_until(lambda: drive(link) or link.state in (until, State.CLOSED), f"{until.name}")
        yield link, peer
    finally:
        link.abort("end of test")
        peer.close()


def drive(link: Transport) -> bool:
    """Do one turn and keep its messages; False, so that a condition can follow after `or`."""
    told = link.do_io(clock.now_ns())
    assert told == len(link.messages())
    link.inbox += link.messages()
    return False


def receive(link: Transport, count: int) -> list[bytes]:
    """Drive until `count` messages have come or it closes; return all that came."""
    wait_until(
        lambda: drive(link) or len(link.inbox) >= count or link.state == State.CLOSED,
        f"{count} messages",
    )
    return link.inbox


def until_closed(link: Transport) -> str:
    wait_until(lambda: drive(link) or link.state == State.CLOSED, "CLOSED")
    assert link.fileno() == -1 and not link.send_text(b"late") and not link.ping()
    return link.error


@pytest.mark.parametrize("piece", [1, 2, 7, 1000, 1 << 20])
def test_messages_arrive_whole_however_tcp_cuts_them(piece):
    sizes = [0, 1, 125, 126, 127, 1000, 300] + ([65_535, 65_536, 300_000] if piece > 500 else [])
    payloads = [bytes([65 + i]) * size for i, size in enumerate(sizes)]

    def script(peer: Peer) -> None:
        peer.upgrade()
        peer.send(b"".join(frame(p) for p in payloads), piece)
        peer.read_frames(1)

    with connected(script) as (link, _peer):
        before = clock.now_ns()
        assert receive(link, len(payloads)) == payloads
        assert before - 10**10 < link.ts_recv_ns <= clock.now_ns()
        assert link.bytes_received >= sum(sizes)


def test_frames_behind_the_response_in_one_segment_are_not_lost():
    def script(peer: Peer) -> None:
        while not (events := peer.protocol.events_received()):
            peer.protocol.receive_data(peer.socket.recv(65_536))
        peer.protocol.send_response(peer.protocol.accept(events[0]))
        whole = b"".join(peer.protocol.data_to_send()) + frame(b"first") + frame(b"second")
        peer.send(whole[:-3])
        peer.release.wait(10)
        peer.send(whole[-3:])
        peer.read_frames(1)

    with connected(script) as (link, peer):
        assert receive(link, 1) == [b"first"]
        peer.release.set()
        assert receive(link, 2) == [b"first", b"second"]


def test_fragments_are_joined_in_order_with_pings_between():
    def script(peer: Peer) -> None:
        peer.upgrade()
        peer.send(
            frame(b"a")
            + frame(b"b1", fin=False)
            + frame(b"hello", Opcode.PING)
            + frame(b"b2", Opcode.CONT, fin=False)
            + frame(b"b3", Opcode.CONT)
            + frame(b"c")
            + frame(b"d", Opcode.BINARY)
        )
        peer.read_frames(1)

    with connected(script) as (link, peer):
        assert receive(link, 4) == [b"a", b"b1b2b3", b"c", b"d"]
        wait_until(lambda: drive(link) or bool(peer.frames), "pong")
        assert (peer.frames[0].opcode, bytes(peer.frames[0].data)) == (Opcode.PONG, b"hello")


def test_text_goes_out_and_pongs_are_counted():
    def script(peer: Peer) -> None:
        peer.upgrade()
        peer.read_frames(2)
        peer.send(b"".join(peer.protocol.data_to_send()))
        peer.read_frames(3)
        peer.send(b"".join(peer.protocol.data_to_send()))

    with connected(script) as (link, peer):
        assert link.send_text(b'{"id":1}') and link.ping(b"p")
        wait_until(lambda: drive(link) or link.pongs == 1, "pong")
        assert [bytes(f.data) for f in peer.frames] == [b'{"id":1}', b"p"]
        link.close(clock.now_ns())
        assert link.state == State.CLOSING
        assert until_closed(link) == "closed by the venue: code 1000"


def test_close_handshake_tells_code_and_reason():
    def script(peer: Peer) -> None:
        peer.upgrade()
        peer.send(frame(b"last") + frame(Close(1001, "rolling").serialize(), Opcode.CLOSE) + b"zz")
        peer.read_frames(1)

    with connected(script) as (link, peer):
        assert receive(link, 1) == [b"last"]
        assert until_closed(link) == "closed by the venue: code 1001 rolling"
        assert peer.frames[0].opcode is Opcode.CLOSE


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (struct.pack("!BBQ", 0x81, 127, 300_001) + b"x" * 100, "frame with 300001 bytes"),
        (struct.pack("!BBQ", 0x81, 127, 1 << 63) + b"x" * 100, "exceeds limit"),
        (b"\xc1\x05aaaaa", "reserved bits"),
        pytest.param(frame(b"masked", mask=True), "incorrect masking", id="masked"),
        (b"\x83\x01x", "invalid opcode"),
        (frame(b"x", Opcode.CONT), "unexpected continuation"),
        (frame(b"x", fin=False) + frame(b"y"), "expected a continuation"),
        (frame(b"x" * 200_000, fin=False) + frame(b"y" * 100_001, Opcode.CONT), "exceeds limit"),
        (b"\x89\x7e\x00\x7e" + b"p" * 126, "control frame too long"),
        (b"\x09\x01p", "fragmented control"),
    ],
)
def test_protocol_errors_close_and_say_why(data, error):
    def script(peer: Peer) -> None:
        peer.upgrade()
        peer.send(frame(b"good") + data)
        peer.read_frames(1)

    with connected(script) as (link, peer):
        found = receive(link, 9)
        assert found == [b"good"]
        assert link.error.startswith("protocol: ") and error in link.error
        peer.thread.join(10)
        # A reset may overtake our close frame where the peer still had bytes on the way.
        assert peer.fault is not None or peer.frames[0].opcode is Opcode.CLOSE


def test_refused_upgrade_names_the_status():
    def script(peer: Peer) -> None:
        peer.socket.recv(65_536)
        peer.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nnope")
        peer.release.wait(10)

    with connected(script) as (link, _peer):
        assert link.state == State.CLOSED
        assert "403" in link.error


@pytest.mark.parametrize("answer", [b"x" * 70_000, b"HTTP/1.1 101 Hm\r\n\r\n", b"\0\xff\r\n\r\n"])
def test_answers_that_are_no_upgrade_are_refused(answer):
    def script(peer: Peer) -> None:
        peer.socket.recv(65_536)
        peer.send(answer)
        peer.release.wait(10)

    with connected(script) as (link, _peer):
        assert link.state == State.CLOSED and link.error.startswith("upgrade: ")


def test_negotiated_compression_is_refused():
    def script(peer: Peer) -> None:
        while not (events := peer.protocol.events_received()):
            peer.protocol.receive_data(peer.socket.recv(65_536))
        response = peer.protocol.accept(events[0])
        response.headers["Sec-WebSocket-Extensions"] = "permessage-deflate"
        peer.protocol.send_response(response)
        peer.send(b"".join(peer.protocol.data_to_send()))
        peer.release.wait(10)

    with connected(script) as (link, _peer):
        assert link.state == State.CLOSED and "no extensions supported" in link.error


def test_silent_peer_meets_the_deadline():
    peer = Peer(lambda peer: peer.release.wait(10) and None)
    link = Transport(f"ws://127.0.0.1:{peer.port}/", limits=LIMITS)
    link.inbox = []
    start = clock.now_ns()
    link.connect(start)
    wait_until(lambda: drive(link) or link.state == State.UPGRADING, "UPGRADING")
    assert link.next_timer_ns() == start + LIMITS.open_ns_max
    link.do_io(start + LIMITS.open_ns_max)
    assert (link.state, link.error) == (State.CLOSED, "upgrading took too long")
    link.connect(start)  # it may be used again
    assert link.state in (State.CONNECTING, State.UPGRADING)
    link.abort("end")
    peer.close()


def test_nobody_listening_closes_with_the_reason():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    link = Transport(f"ws://127.0.0.1:{port}/", limits=LIMITS)
    link.inbox = []
    link.connect(clock.now_ns())
    assert "refused" in until_closed(link)


def test_names_are_looked_up_and_the_last_answer_is_kept(monkeypatch):
    peer = Peer(Peer.upgrade)
    answers = [[(socket.AF_INET, 0, 0, "", ("127.0.0.1", peer.port))]]

    def resolve(host, port, **_):
        assert host == "venue.test"
        if not answers:
            raise socket.gaierror("no such name")
        return answers.pop()

    monkeypatch.setattr(transport_module.socket, "getaddrinfo", resolve)
    link = Transport(f"ws://venue.test:{peer.port}/", limits=LIMITS)
    link.inbox = []
    link.connect(clock.now_ns())
    assert link.state == State.RESOLVING and link.fileno() == -1
    wait_until(lambda: drive(link) or link.state == State.OPEN, "OPEN")
    link.abort("again")
    peer.close()
    link.connect(clock.now_ns())  # the resolver fails now: the address of last time is tried
    assert "refused" in until_closed(link)
    fresh = Transport(f"ws://venue.test:{peer.port}/", limits=LIMITS)
    fresh.inbox = []
    fresh.connect(clock.now_ns())
    assert until_closed(fresh) == "venue.test: no such name"


def test_a_peer_that_does_not_read_never_blocks_and_never_grows():
    def script(peer: Peer) -> None:
        peer.upgrade()
        peer.release.wait(10)

    with connected(script) as (link, _peer):
        sent = 0
        while link.send_text(b"x" * 20_000):
            sent += 1
            assert sent < 2000, "the queue has no limit"
        assert link.state == State.OPEN
        assert 0 < link.write_bytes <= LIMITS.write_bytes_max
        assert link.events() & transport_module.select.EPOLLOUT


def test_a_ping_storm_into_a_full_queue_closes():
    def script(peer: Peer) -> None:
        peer.upgrade()
        storm = frame(b"p" * 120, Opcode.PING) * 500
        with contextlib.suppress(OSError):
            while True:
                peer.send(storm)

    with connected(script) as (link, _peer):
        assert "unsent" in until_closed(link)


def test_more_frames_than_the_table_holds_come_in_several_turns():
    payloads = [str(i).encode() for i in range(50)]

    def script(peer: Peer) -> None:
        peer.upgrade()
        peer.send(b"".join(frame(p) for p in payloads))
        peer.read_frames(1)

    with connected(script, limits=LIMITS._replace(frames_max=4)) as (link, _peer):
        seen_pending = 0
        while len(link.inbox) < 50:
            receive(link, len(link.inbox) + 1)
            assert link.count <= 4
            seen_pending += link.pending_bytes > 0
        assert link.inbox == payloads and seen_pending > 5


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> tuple[trustme.CA, Path]:
    ca = trustme.CA()
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return ca, path


def server_tls(ca: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(*names).configure_cert(context)
    return context


@pytest.mark.parametrize("piece", [1, 1000, 1 << 20])
def test_tls_carries_messages_both_ways(authority, piece):
    ca, path = authority
    payloads = [b"x" * size for size in ((0, 5, 300) if piece == 1 else (0, 5, 20_000, 250_000))]

    def script(peer: Peer) -> None:
        peer.upgrade()
        peer.send(b"".join(frame(p) for p in payloads), piece)
        peer.read_frames(1)

    with connected(script, server_tls(ca, "127.0.0.1"), client_tls(path)) as (link, peer):
        assert link.state == State.OPEN, link.error
        assert receive(link, len(payloads)) == payloads
        assert link.pending_bytes == 0
        assert link.send_text(b"thanks")
        wait_until(lambda: bool(peer.frames), "frame at the peer")
        assert bytes(peer.frames[0].data) == b"thanks"


def test_tls_with_the_wrong_name_or_authority_is_refused(authority):
    ca, path = authority

    def script(peer: Peer) -> None:
        peer.upgrade()

    with connected(script, server_tls(ca, "other.test"), client_tls(path)) as (link, _peer):
        assert link.state == State.CLOSED and "certificate verify failed" in link.error
    with connected(script, server_tls(trustme.CA(), "127.0.0.1"), client_tls(path)) as (link, _):
        assert link.state == State.CLOSED and "certificate verify failed" in link.error


def test_tls_context_verifies_and_bad_arguments_are_config_errors(tmp_path):
    context = client_tls(None)
    assert context.verify_mode == ssl.CERT_REQUIRED and context.check_hostname
    with pytest.raises(ConfigError, match="expected PEM"):
        client_tls(tmp_path / "missing.pem")
    with pytest.raises(ConfigError, match="expected ws://"):
        Transport("http://127.0.0.1/")
    with pytest.raises(ConfigError, match="expected one for wss"):
        Transport("wss://127.0.0.1/")


def naive_split(data: bytes, payload_max: int) -> tuple[list[bytes], int, int]:
    found, at = [], 0
    while len(data) - at >= 2:
        if data[at] not in (0x81, 0x82) or data[at + 1] > 127:
            return found, at, ODD_FRAME
        size = frame_bytes(data[at : at + 10])
        if size == 0:
            break
        head = 2 if data[at + 1] < 126 else 4 if data[at + 1] == 126 else 10
        if size - head > payload_max:
            return found, at, ODD_FRAME
        if at + size > len(data):
            break
        found.append(data[at + head : at + size])
        at += size
    return found, at, READ_MORE


HEADS = st.sampled_from([b"\x81", b"\x82", b"\x01", b"\x89", b"\x81\x7e", b"\x81\x7f", b"\xc1"])
CHUNKS = st.one_of(
    HEADS,
    st.binary(max_size=12),
    st.binary(max_size=200).map(frame),
    st.integers(0, 400).map(lambda n: frame(b"x" * n)),
)


@settings(max_examples=500, deadline=None)
@given(st.lists(CHUNKS, max_size=6).map(b"".join))
def test_splitting_equals_the_naive_twin(data):
    text = np.frombuffer(data + b"\xff" * 16, np.uint8)
    bounds = np.zeros((50, 2), np.int64)
    count, at, status = split_frames(text, 0, len(data), 300, bounds, 0)
    found = [data[a:b] for a, b in bounds[:count]]
    assert (found, at, status) == naive_split(data, 300)


def test_splitting_stops_when_the_table_is_full():
    data = frame(b"a") + frame(b"b") + frame(b"c")
    bounds = np.zeros((2, 2), np.int64)
    count, at, status = split_frames(np.frombuffer(data, np.uint8), 0, 9, 100, bounds, 0)
    assert (count, at, status) == (2, 6, TABLE_FULL)


def test_random_cuts_and_kinds_arrive_in_order():
    rng = random.Random(5)
    payloads, wire = [], b""
    for i in range(300):
        payload = bytes([i % 256]) * rng.choice((0, 1, 50, 125, 126, 500, 3000))
        payloads.append(payload)
        if rng.random() < 0.2:
            cut = rng.randint(0, len(payload))
            wire += frame(payload[:cut], fin=False) + frame(payload[cut:], Opcode.CONT)
        else:
            wire += frame(payload, rng.choice((Opcode.TEXT, Opcode.BINARY)))
        if rng.random() < 0.1:
            wire += frame(b"p", Opcode.PING)

    def script(peer: Peer) -> None:
        peer.upgrade()
        at = 0
        while at < len(wire):
            step = rng.choice((1, 3, 200, 5000))
            peer.send(wire[at : at + step])
            at += step
        peer.read_frames(10_000)

    with connected(script, limits=LIMITS._replace(frames_max=16)) as (link, _peer):
        assert receive(link, 300) == payloads

"""Frame-to-handler latency of the feed's transport against websockets' asyncio client, on loopback.

    python -m bench.transport [--smoke] [--rounds 7] [--cores 0,1] [--json]

A tiny server in a process of its own writes depth frames at a fixed pace, each with the instant it
was due (not the one it was sent: a late server counts against nobody's favour, and alike). The
client takes its own stamp when it holds the message. Both clients see the same frames; ours polls
its non-blocking socket as the pinned loop does, the rival awaits recv() on an asyncio loop.
A second row drains frames that are sent as fast as they go: CPU time for each.
"""

import asyncio
import contextlib
import logging
import os
import select
import socket
import time
from collections.abc import Callable, Iterator

import numpy as np
import websockets
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol

from bench.harness import Result, Row, Session, fork, main
from common import clock
from processes import frames
from processes.transport import State, Transport

PACE_NS = 200_000
STAMP_BYTES = 20
FILL = b'{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","b":['
LEVEL = b'["64210.10","3.412"],'
PAYLOAD_BYTES = 544
WAIT_NS_MAX = 30_000_000_000
MASK = (1 << 62) - 1


def payload(stamp_ns: int) -> bytes:
    """Return a message of PAYLOAD_BYTES that begins with its stamp."""
    head = str(stamp_ns).zfill(STAMP_BYTES).encode() + FILL
    return head + (LEVEL * 40)[: PAYLOAD_BYTES - len(head)]


def serve(listener: socket.socket, count: int, pace_ns: int) -> None:
    """Accept one client, answer its handshake, send `count` frames, wait for it to leave."""
    listener.settimeout(30)
    link, _ = listener.accept()
    link.settimeout(30)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    protocol = ServerProtocol()
    while not (events := protocol.events_received()):
        protocol.receive_data(link.recv(65_536))
    protocol.send_response(protocol.accept(events[0]))
    link.sendall(b"".join(protocol.data_to_send()))
    if pace_ns:
        due_ns = clock.now_ns() + 20_000_000
        for _ in range(count):
            while clock.now_ns() < due_ns:
                time.sleep(0)
            link.sendall(Frame(Opcode.TEXT, payload(due_ns)).serialize(mask=False))
            due_ns += pace_ns
    else:
        block = Frame(Opcode.TEXT, payload(0)).serialize(mask=False) * 50
        for _ in range(count // 50):
            link.sendall(block)
    with contextlib.suppress(OSError):
        while link.recv(65_536):
            pass
    link.close()


@contextlib.contextmanager
def server(session: Session, count: int, pace_ns: int) -> Iterator[int]:
    """Run `serve` in a child process on the other core; yields the port."""

    def work() -> None:
        session.pin(1)
        serve(listener, count, pace_ns)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        pid = fork(work)
        try:
            yield listener.getsockname()[1]
        finally:
            os.waitpid(pid, 0)


def delays_of_transport(port: int, count: int) -> tuple[np.ndarray, int]:
    """Return (delay of each frame in ns, sum of message bytes) of our transport, spinning."""
    return drain_transport(port, count, 0)


def delays_of_parked(port: int, count: int) -> tuple[np.ndarray, int]:
    """The same, but asleep in epoll between two reads, as where cores are few."""
    return drain_transport(port, count, 0.01)


def drain_transport(port: int, count: int, sleep_s: float) -> tuple[np.ndarray, int]:
    """Read `count` frames; `sleep_s` is how long epoll may wait, 0 never asks it."""
    link = Transport(f"ws://127.0.0.1:{port}/")
    link.connect(clock.now_ns())
    poller, registered = select.epoll(), -1
    delays, total = np.zeros(count, np.int64), 0
    seen = 0
    until_ns = clock.now_ns() + WAIT_NS_MAX
    while seen < count:
        now_ns = clock.now_ns()
        if now_ns > until_ns or (link.state == State.CLOSED and link.error):
            raise RuntimeError(f"{seen} of {count} frames: {link.error or 'too slow'}")
        if not link.do_io(now_ns):
            if sleep_s and link.state == State.OPEN:
                if registered < 0:
                    registered = link.fileno()
                    poller.register(registered, select.EPOLLIN)
                poller.poll(sleep_s)
            continue
        held_ns = clock.now_ns()
        for first, end in link.bounds[: link.count].tolist():
            stamp = int(link.text[first : first + STAMP_BYTES].tobytes())
            delays[seen] = held_ns - stamp
            total += end - first
            seen += 1
    link.abort("done")
    poller.close()
    return delays, total


def delays_of_asyncio(port: int, count: int) -> tuple[np.ndarray, int]:
    """The same with websockets' asyncio client, as fast as it is meant to be used."""

    async def client() -> tuple[np.ndarray, int]:
        delays, total = np.zeros(count, np.int64), 0
        options = {"compression": None, "ping_interval": None, "max_queue": 1024}
        async with websockets.connect(f"ws://127.0.0.1:{port}/", **options) as link:
            for seen in range(count):
                message = await link.recv(decode=False)
                delays[seen] = clock.now_ns() - int(message[:STAMP_BYTES])
                total += len(message)
        return delays, total

    return asyncio.run(client())


Client = Callable[[int, int], tuple[np.ndarray, int]]


def latency(session: Session, client: Client) -> Callable[[int], Result]:
    """Return a run that gives the p99 delay in microseconds at the fixed pace."""

    def run(size: int) -> Result:
        with server(session, size, PACE_NS) as port:
            delays, total = client(port, size)
        p50, p90, p99, p999 = np.percentile(delays, [50, 90, 99, 99.9]) / 1e3
        detail = {"p50 us": p50, "p90 us": p90, "p99.9 us": p999, "max us": delays.max() / 1e3}
        return Result(float(p99), total & MASK, detail)

    return run


def cost(session: Session, client: Client) -> Callable[[int], Result]:
    """Return a run that gives the CPU time for each frame in microseconds, frames in a flood."""

    def run(size: int) -> Result:
        with server(session, size, 0) as port:
            start = time.process_time_ns()
            _delays, total = client(port, size)
            used_ns = time.process_time_ns() - start
        return Result(used_ns / size / 1e3, total & MASK)

    return run


def rows(session: Session) -> list[Row]:
    """Return the questions."""
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    frames.warm_up()
    what = f"{PAYLOAD_BYTES}-byte frame over loopback TCP"
    return [
        Row(
            question=f"{what}, due instant to handler, p99, one every {PACE_NS // 1_000} us",
            unit="us",
            ours=latency(session, delays_of_transport),
            rivals={
                "tickring, parked in epoll": latency(session, delays_of_parked),
                "websockets asyncio client": latency(session, delays_of_asyncio),
            },
            reach={"websockets asyncio client": 1.0},
            size=10_000,
            smoke_size=500,
            is_higher_better=False,
            note="ours spins on its socket; on a machine with fewer than two free cores the server"
            " and the client take turns",
        ),
        Row(
            question=f"{what}, sent as fast as it goes: CPU time of the client for each",
            unit="us",
            ours=cost(session, delays_of_transport),
            rivals={"websockets asyncio client": cost(session, delays_of_asyncio)},
            reach={"websockets asyncio client": 1.0},
            size=100_000,
            smoke_size=2_000,
            is_higher_better=False,
        ),
    ]


if __name__ == "__main__":
    main(
        "transport: socket bytes to handler",
        rows,
        excluded="TLS and decoding: bench/decode.py has the latter",
        omission="delays count from when a frame was due: a stall counts in all behind it",
    )

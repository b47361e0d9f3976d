"""The feed's stage: sockets in, market records out.

A turn does every link's I/O, hands what came to the intake with one stamp per socket read, and lets
the lines decide about connecting, pinging, replacing and giving up.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from common import clock, log
from common.enums import GapReason
from common.instruments import Instrument
from processes.feed.config import FeedConfig
from processes.feed.counters import Counter
from processes.feed.decoded import new_state, slots_max
from processes.feed.intake import (
    ANSWER_WORDS,
    DEPTH_COUNT,
    SEEN_AHEAD,
    SEEN_COLUMNS,
    SEEN_DEPTH,
    SHUTDOWN_COUNT,
    take_frames,
    write_clock,
    write_gap,
)
from processes.feed.json_scan import TEXT_SLACK
from processes.feed.session import Action, Ask, Line, LinkState, Mode, Stream
from processes.feed.symbols import symbol_table
from processes.transport import State
from shm.bundle import pack
from shm.counters import Counters
from shm.ring import Producer

CLOCK_EVERY_NS = 1_000_000_000
READS_PER_TURN_MAX = 8
_RECONNECT = int(GapReason.RECONNECT)


class LinkIO(Protocol):
    """What the stage needs of a transport; see processes/transport.py."""

    state: State
    error: str
    text: np.ndarray
    bounds: np.ndarray
    count: int
    ts_recv_ns: int
    bytes_received: int
    pongs: int

    def connect(self, now_ns: int) -> None: ...
    def do_io(self, now_ns: int) -> int: ...
    def assembled(self) -> bytes | None: ...
    def ping(self, payload: bytes = b"") -> bool: ...
    def close(self, now_ns: int) -> None: ...
    def abort(self, reason: str) -> None: ...
    def fileno(self) -> int: ...
    def events(self) -> int: ...
    def next_timer_ns(self) -> int: ...
    @property
    def pending_bytes(self) -> int: ...


class LinkShell:
    """One transport with its place: which link of which line, and what it was last seen doing."""

    def __init__(self, line: Line, index: int, io: LinkIO, bundle: Any) -> None:
        self.line = line
        self.index = index
        self.io = io
        self.bundle = bundle
        self.state = State.CLOSED
        self.fd = -1
        self.events = 0
        self.pongs = 0
        self.bytes_received = 0


class FeedStage:
    """Feed of one venue.

    Args:
        streams: the connections to hold.
        instruments: registered, in order of their ids.
        config: limits and times.
        market: producer end of the ring to the book.
        counters: of this process; labels of counters.py.
        new_link: makes the transport for a URL.
        read_wall: the wall clock, for CLOCK records.
        boot_id: of this boot, text.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        instruments: list[Instrument],
        config: FeedConfig,
        market: Producer,
        counters: Counters,
        new_link: Callable[[str], LinkIO],
        *,
        read_wall: Callable[[], int] = clock.now_wall_ns,
        boot_id: str = "",
    ) -> None:
        self.consumers: list[Any] = []
        self.fds_version = 0
        self._market = market
        self._values = counters.values
        self._read_wall = read_wall
        self._boot_words = np.frombuffer(
            bytes.fromhex(boot_id.replace("-", "")).ljust(16, b"\0")[:16], np.int64
        ).copy()
        self._seen = np.zeros((len(instruments), SEEN_COLUMNS), np.int64)
        self._answer = np.zeros(ANSWER_WORDS, np.int64)
        self._instrument_count = len(instruments)
        self._clock_due_ns = 0
        self._timer_ns = 0
        symbols = symbol_table(instruments)
        slots = 1 << (slots_max(config.levels_max) - 1).bit_length()
        shared = (symbols, np.zeros((slots, 8), np.int64))
        self._rest = (
            new_state(config.frame_bytes_max, config.levels_max), market.end, self._seen,
            counters.values, counters.histograms, clock.new_timespec(), self._answer,
        )  # fmt: skip
        self._pack = lambda text, bounds: pack((text, bounds, *shared, *self._rest))
        self._spare = np.zeros(config.frame_bytes_max + 1 + TEXT_SLACK, np.uint8)
        self._spare_bounds = np.zeros((1, 2), np.int64)
        self._spare_bundle = self._pack(self._spare, self._spare_bounds)
        self.lines: list[Line] = []
        self.shells: list[LinkShell] = []
        rng = random.Random(config.jitter_seed)
        for stream in streams:
            line = Line(stream, config, random.Random(rng.randrange(1 << 31)))
            self.lines.append(line)
            for index in range(len(line.links)):
                io = new_link(stream.url)
                self.shells.append(LinkShell(line, index, io, self._pack(io.text, io.bounds)))
        take_frames(self._spare_bundle, 0, 0, int(Mode.ALONE), 0)  # loads the kernel

    # The runner's interface.

    def do_work(self, now_ns: int) -> int:
        """Do what sockets and timers want; return messages and changes of state seen."""
        work = 0
        for shell in self.shells:
            if shell.state != State.CLOSED or shell.io.state != State.CLOSED:
                work += self._do_io(shell, now_ns)
        if now_ns >= self._timer_ns:
            work += self._on_timers(now_ns)
        return work

    def close(self) -> None:
        """Drop all connections; the ring stays."""
        for shell in self.shells:
            shell.io.abort("end")

    def fds(self) -> list[tuple[int, int]]:
        """Return the sockets to wait for."""
        return [(shell.fd, shell.events) for shell in self.shells if shell.fd >= 0]

    def next_timer_ns(self) -> int:
        """Return when `do_work` is due at the latest; 1 (at once) if bytes wait inside TLS."""
        if any(shell.io.pending_bytes for shell in self.shells):
            return 1
        return self._timer_ns

    def is_ready(self) -> bool:
        """Return True once every line delivers."""
        return all(line.is_up for line in self.lines)

    # Sockets.

    def _do_io(self, shell: LinkShell, now_ns: int) -> int:
        work = 0
        for _ in range(READS_PER_TURN_MAX):
            told = shell.io.do_io(now_ns)
            if told:
                work += told
                self._take(shell)
            if shell.io.state != shell.state:
                work += 1
                self._on_state(shell, now_ns)
            elif not told:
                break
        self._follow(shell, now_ns)
        return work

    def _take(self, shell: LinkShell) -> None:
        """Publish the messages of one read, and tell the line that they came."""
        io, line, index = shell.io, shell.line, shell.index
        mode, has_depth = int(line.mode_of(index)), int(line.stream.has_depth)
        if line.links[index].state == LinkState.IDLE:
            return  # given up already: the other link has taken over
        if shell.state != State.OPEN and io.state == State.OPEN:
            self._on_state(shell, io.ts_recv_ns)
            mode = int(line.mode_of(index))
        depth_count = shutdown_count = 0
        if io.count:
            take_frames(shell.bundle, io.count, io.ts_recv_ns, mode, has_depth)
            depth_count, shutdown_count = (
                int(self._answer[DEPTH_COUNT]),
                int(self._answer[SHUTDOWN_COUNT]),
            )
        whole = io.assembled()
        if whole is not None:
            size = min(len(whole), len(self._spare) - TEXT_SLACK)
            self._spare[:size] = np.frombuffer(whole, np.uint8)[:size]
            self._spare_bounds[0] = (0, size)
            take_frames(self._spare_bundle, 1, io.ts_recv_ns, mode, has_depth)
            depth_count += int(self._answer[DEPTH_COUNT])
            shutdown_count += int(self._answer[SHUTDOWN_COUNT])
        line.on_data(index, io.ts_recv_ns, not has_depth or depth_count > 0)
        if shutdown_count:
            line.on_shutdown(io.ts_recv_ns)
            self._timer_ns = 0

    def _on_state(self, shell: LinkShell, now_ns: int) -> None:
        """A transport opened or closed: tell its line."""
        before, shell.state = shell.state, shell.io.state
        if shell.state == State.OPEN:
            self._values[Counter.OPENED] += 1
            shell.line.on_open(shell.index, now_ns)
            log.event("link_open", depth=shell.line.stream.has_depth, link=shell.index)
        elif shell.state == State.CLOSED and before != State.CLOSED:
            self._values[Counter.LOST] += 1
            log.event(
                "link_closed", depth=shell.line.stream.has_depth, link=shell.index,
                reason=shell.io.error,
            )  # fmt: skip
            self._do(shell.line, shell.line.on_closed(shell.index, now_ns), now_ns)
        self._timer_ns = 0

    def _follow(self, shell: LinkShell, now_ns: int) -> None:
        """Keep the counters and what epoll is to wait for in step with the transport."""
        io = shell.io
        if io.bytes_received != shell.bytes_received:
            self._values[Counter.SOCKET_BYTES] += io.bytes_received - shell.bytes_received
            shell.bytes_received = io.bytes_received
        if io.pongs != shell.pongs:
            shell.pongs = io.pongs
            shell.line.on_pong(shell.index, now_ns)
        fd = io.fileno()
        events = io.events() if fd >= 0 else 0
        if fd != shell.fd or events != shell.events:
            shell.fd, shell.events = fd, events
            self.fds_version += 1

    # Time.

    def _on_timers(self, now_ns: int) -> int:
        work = 0
        if now_ns >= self._clock_due_ns:
            write_clock(self._market.end, self._values, now_ns, self._read_wall(), self._boot_words)
            self._clock_due_ns = now_ns + CLOCK_EVERY_NS
            work += 1
        due = [self._clock_due_ns]
        for line in self.lines:
            actions = line.on_timer(now_ns, self._is_caught_up(line))
            work += len(actions)
            self._do(line, actions, now_ns)
            due.append(line.next_timer_ns())
        due += [s.io.next_timer_ns() for s in self.shells if s.io.state != State.CLOSED]
        self._timer_ns = min(when for when in due if when)
        return work

    def _is_caught_up(self, line: Line) -> bool:
        if not line.is_rotating or not line.stream.has_depth:
            return True
        seen = self._seen[list(line.stream.instrument_ids)]
        return bool((seen[:, SEEN_AHEAD] <= seen[:, SEEN_DEPTH]).all())

    # What the lines want.

    def _do(self, line: Line, actions: list[Action], now_ns: int) -> None:
        for action in actions:
            shell = self._shell_of(line, action.link)
            if action.ask == Ask.CONNECT:
                self._connect(shell, now_ns)
            elif action.ask == Ask.PING:
                self._values[Counter.PINGS] += shell.io.ping()
            elif action.ask == Ask.CLOSE and action.reason == "stale":
                self._values[Counter.STALE] += 1
                shell.io.abort("silent for too long")
            elif action.ask == Ask.CLOSE:
                shell.io.close(now_ns)
            elif action.ask == Ask.PROMOTE:
                self._promote(line, action.reason, now_ns)
            else:
                self._tell_loss(line, line.stream.instrument_ids, now_ns)

    def _shell_of(self, line: Line, link: int) -> LinkShell:
        return next(s for s in self.shells if s.line is line and s.index == link)

    def _connect(self, shell: LinkShell, now_ns: int) -> None:
        shell.io.abort("connect again")  # the old one of a rotation may still be closing
        self._values[Counter.CONNECTS] += 1
        shell.io.connect(now_ns)
        shell.state = State.CONNECTING  # an attempt that failed at once is told, too
        self._timer_ns = 0

    def _promote(self, line: Line, reason: str, now_ns: int) -> None:
        """The second link has become the first: what it left to the other one is lost."""
        self._values[Counter.ROTATED] += reason == "rotated"
        log.event("link_promoted", depth=line.stream.has_depth, reason=reason)
        lost = []
        for i in line.stream.instrument_ids:
            if self._seen[i, SEEN_AHEAD] > self._seen[i, SEEN_DEPTH]:
                lost.append(i)
            self._seen[i, SEEN_AHEAD] = 0
        self._tell_loss(line, tuple(lost), now_ns)

    def _tell_loss(self, line: Line, instrument_ids: tuple[int, ...], now_ns: int) -> None:
        """Write a GAP for the books of these instruments: one for all, if it is all of them."""
        if len(instrument_ids) == self._instrument_count:
            instrument_ids = (-1,)
        for i in instrument_ids:
            write_gap(self._market.end, self._values, i, _RECONNECT, now_ns, now_ns)

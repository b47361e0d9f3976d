"""A transport in memory: what the network does is what the test says."""

import select

import numpy as np

from processes.feed.json_scan import TEXT_SLACK
from processes.transport import State

BYTES_MAX = 200_000


class FakeLink:
    """Same attributes and methods as processes.transport.Transport."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.state = State.CLOSED
        self.error = ""
        self.text = np.full(BYTES_MAX + TEXT_SLACK, 0x5D, np.uint8)
        self.bounds = np.zeros((64, 2), np.int64)
        self.count = 0
        self.ts_recv_ns = 0
        self.bytes_received = 0
        self.pongs = 0
        self.pings = 0
        self.attempts: list[int] = []
        self.closes: list[str] = []
        self.pending_bytes = 0
        self.refuses = False
        self._batches: list[tuple[int, tuple[bytes, ...]]] = []
        self._whole: bytes | None = None
        self._will_open = False

    # What the test does.

    def open(self) -> None:
        """The next turn finds it open."""
        self._will_open = True

    def deliver(self, ts_recv_ns: int, *frames: bytes) -> None:
        """The next turn reads these frames at once."""
        self._batches.append((ts_recv_ns, frames))

    def deliver_fragments(self, ts_recv_ns: int, frame: bytes) -> None:
        """The next turn completes a fragmented message."""
        self._batches.append((ts_recv_ns, (b"whole", frame)))

    def lose(self, reason: str = "reset") -> None:
        """The peer has gone."""
        self.state, self.error = State.CLOSED, reason

    # What the stage does.

    def connect(self, now_ns: int) -> None:
        assert self.state == State.CLOSED
        self.attempts.append(now_ns)
        self._batches.clear()
        self._will_open = False
        self.state = State.CLOSED if self.refuses else State.CONNECTING
        self.error = "refused" if self.refuses else ""

    def do_io(self, now_ns: int) -> int:
        self.count = 0
        self._whole = None
        if self._will_open and self.state == State.CONNECTING:
            self.state = State.OPEN
            self._will_open = False
        if self.state != State.OPEN or not self._batches:
            return 0
        self.ts_recv_ns, frames = self._batches.pop(0)
        if len(frames) == 2 and frames[0] == b"whole":
            self._whole = frames[1]
            return 1
        at = 0
        for i, frame in enumerate(frames):
            self.text[at : at + len(frame)] = np.frombuffer(frame, np.uint8)
            self.bounds[i] = (at, at + len(frame))
            at += len(frame)
        self.count = len(frames)
        self.bytes_received += at
        return self.count

    def assembled(self) -> bytes | None:
        return self._whole

    def ping(self, payload: bytes = b"") -> bool:
        self.pings += 1
        return True

    def close(self, now_ns: int) -> None:
        self.closes.append("close")
        self.state = State.CLOSED

    def abort(self, reason: str) -> None:
        if self.state != State.CLOSED:
            self.closes.append(reason)
            self.state, self.error = State.CLOSED, reason

    def fileno(self) -> int:
        return -1 if self.state == State.CLOSED else 7

    def events(self) -> int:
        return select.EPOLLIN

    def next_timer_ns(self) -> int:
        return 0

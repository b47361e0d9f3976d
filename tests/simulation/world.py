"""Virtual time and a seeded order of everything that happens in it."""

import hashlib
import heapq
import random
from collections.abc import Callable
from typing import Any

from common import clock as real_clock

US, MS, SECOND = 1_000, 1_000_000, 1_000_000_000
START_NS = 1_000 * SECOND
WALL_NS = 1_784_212_800 * SECOND  # wall clock at monotonic 0
READ_NS = 100  # what one look at the clock takes
NEVER = 1 << 62


class Killed(BaseException):
    """The running process dies here; no stage may catch it."""


class World:
    """A clock that only `run_until` moves, a heap of what is to come, and a hash of what was.

    Randomness comes from streams of the seed, one per purpose, so that more of one thing does not
    change the others.

    Args:
        seed: of the run.

    Attributes:
        now: CLOCK_MONOTONIC, ns.
        wall_ahead_ns: how far our wall clock has been stepped.
        timespec: what kernels read instead of the clock.
        crash_in: the running process dies at its n-th crash point from here; 0: it does not.
        lines: the trace as text if it is kept, else None.
    """

    def __init__(self, seed: int, *, keeps_lines: bool = False) -> None:
        self.seed = seed
        self.now = START_NS
        self.wall_ahead_ns = 0
        self.timespec = real_clock.new_timespec()
        self.crash_in = 0
        self.lines: list[str] | None = [] if keeps_lines else None
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0
        self._hash = hashlib.blake2b(digest_size=12)

    def stream(self, purpose: str) -> random.Random:
        """Return the random numbers of one purpose."""
        return random.Random(f"{self.seed} {purpose}")

    # The clock of stages: common.clock's names.

    def now_ns(self) -> int:
        """Read CLOCK_MONOTONIC; the reader may die of it."""
        self.crash_point()
        self.now += READ_NS
        return self.now

    def now_wall_ns(self) -> int:
        """Read CLOCK_REALTIME of this machine."""
        return WALL_NS + self.now_ns() + self.wall_ahead_ns

    def wall_ns(self) -> int:
        """Return the true wall clock, which the venue has; costs nothing."""
        return WALL_NS + self.now

    def crash_point(self) -> None:
        """Die here if it has been decided so."""
        if self.crash_in:
            self.crash_in -= 1
            if self.crash_in == 0:
                raise Killed

    # What happens.

    def at(self, when_ns: int, call: Callable[..., None], *arguments: Any) -> None:
        """Call something at an instant; what was asked first goes first."""
        self._count += 1
        heapq.heappush(self._heap, (when_ns, self._count, call, arguments))

    def after(self, delay_ns: int, call: Callable[..., None], *arguments: Any) -> None:
        """Call something after a while."""
        self.at(self.now + delay_ns, call, *arguments)

    def run_until(self, end_ns: int, is_enough: Callable[[], bool] | None = None) -> bool:
        """Let things happen up to an instant, or until it is enough, looked at every 10 ms.

        Returns:
            True if it was enough.
        """
        look_ns = self.now
        while self._heap and self._heap[0][0] <= end_ns:
            when_ns, _, call, arguments = heapq.heappop(self._heap)
            self.now = max(self.now, when_ns)
            call(*arguments)
            if is_enough is not None and self.now >= look_ns:
                look_ns = self.now + 10 * MS
                if is_enough():
                    return True
        self.now = max(self.now, end_ns)
        return is_enough is not None and is_enough()

    # The trace.

    def note(self, what: str, data: bytes = b"") -> None:
        """Add one thing that happened to the trace."""
        self._hash.update(f"{self.now} {what} {len(data)} ".encode())
        self._hash.update(data)
        if self.lines is not None:
            digest = hashlib.blake2b(data, digest_size=4).hexdigest() if data else ""
            self.lines.append(f"{self.now} {what} {digest}")

    def digest(self) -> str:
        """Return the hash of the trace so far."""
        return self._hash.hexdigest()


class LogClock:
    """What log lines are stamped with: virtual time, and no crash points."""

    def __init__(self, world: World) -> None:
        self.world = world

    def now_wall_ns(self) -> int:
        """Return the virtual instant since the start."""
        return self.world.now - START_NS

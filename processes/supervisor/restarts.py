"""When a dead process may start again: exponential back-off, and an end to it."""

from typing import NamedTuple

NEVER = -1


class RestartLimits(NamedTuple):
    """Delays double from `delay_ns` to `delay_ns_max`; a life longer than `reset_ns` forgives."""

    restarts_max: int
    delay_ns: int
    delay_ns_max: int
    reset_ns: int


class Restarts:
    """The history of one process; time is an argument."""

    def __init__(self, limits: RestartLimits) -> None:
        self.limits = limits
        self.count = 0  # of the whole run
        self.in_a_row = 0
        self.started_ns = 0

    def on_start(self, now_ns: int) -> None:
        """Note that the process was started."""
        self.started_ns = now_ns

    def on_death(self, now_ns: int) -> int:
        """Decide about a process that died.

        Returns:
            Instant at which it may start again, or NEVER: it died `restarts_max` times in a row.
        """
        if now_ns - self.started_ns > self.limits.reset_ns:
            self.in_a_row = 0
        if self.in_a_row >= self.limits.restarts_max:
            return NEVER
        delay_ns = min(self.limits.delay_ns << min(self.in_a_row, 32), self.limits.delay_ns_max)
        self.in_a_row += 1
        self.count += 1
        return now_ns + delay_ns

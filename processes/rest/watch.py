"""Whether the gateway process lives, seen from its status page."""

from collections.abc import Mapping
from typing import Protocol as Interface

from common.enums import ProcessState
from common.errors import TickringError
from shm.counters import CountersReader

Status = Mapping[str, int | str]


class Source(Interface):
    """Where status words come from."""

    def read(self) -> Status | None:
        """Return the status words, None while there are none."""

    def close(self) -> None:
        """Leave the page."""


class StatusReader:
    """Reads a process's status page, once there is one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.reader: CountersReader | None = None

    def read(self) -> Status | None:
        """Return the status words, None while the process has not made them."""
        if self.reader is None:
            try:
                self.reader = CountersReader.open(self.name)
            except TickringError:
                return None
        return self.reader.status()

    def close(self) -> None:
        """Leave the page."""
        if self.reader is not None:
            self.reader.close()


class GatewayWatch:
    """Judges a process by its lock, its heartbeat and its pid.

    Args:
        source: gives the status words.
        stale_ns: a heartbeat older than this counts as death.
    """

    def __init__(self, source: Source, stale_ns: int) -> None:
        self.source = source
        self.stale_ns = stale_ns
        self.pid = 0

    def is_dead(self, now_ns: int) -> bool:
        """Return True if it lived and does not, or if it has been replaced since the last look.

        A process that has said STOPPED, or has not begun to beat, is not dead.
        """
        status = self.source.read()
        if status is None or status["state"] == ProcessState.STOPPED.name:
            return False
        heartbeat_ns = max(int(status["heartbeat_ns"]), int(status["start_ns"]))
        if heartbeat_ns == 0:
            return False
        previous_pid, self.pid = self.pid, int(status["pid"])
        is_replaced = previous_pid not in (0, self.pid)
        return is_replaced or not status["held"] or now_ns - heartbeat_ns > self.stale_ns

    def close(self) -> None:
        """Leave the page."""
        self.source.close()

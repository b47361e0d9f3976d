"""Whether the gateway process lives, seen from its status page."""

from collections.abc import Callable, Mapping

from common.enums import ProcessState

Status = Mapping[str, int | str]


class GatewayWatch:
    """Judges a process by its lock, its heartbeat and its pid.

    Args:
        read_status: gives the status words, or None while there are none.
        stale_ns: a heartbeat older than this counts as death.
    """

    def __init__(self, read_status: Callable[[], Status | None], stale_ns: int) -> None:
        self.read_status = read_status
        self.stale_ns = stale_ns
        self.pid = 0

    def is_dead(self, now_ns: int) -> bool:
        """Return True if it lived and does not, or if it has been replaced since the last look.

        A process that has said STOPPED, or has not begun to beat, is not dead.
        """
        status = self.read_status()
        if status is None or status["state"] == ProcessState.STOPPED.name:
            return False
        heartbeat_ns = max(int(status["heartbeat_ns"]), int(status["start_ns"]))
        if heartbeat_ns == 0:
            return False
        previous_pid, self.pid = self.pid, int(status["pid"])
        is_replaced = previous_pid not in (0, self.pid)
        return is_replaced or not status["held"] or now_ns - heartbeat_ns > self.stale_ns

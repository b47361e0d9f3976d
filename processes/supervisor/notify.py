"""Tell systemd: READY, WATCHDOG, STOPPING; nothing happens where no service manager listens."""

import os
import socket

WATCHDOG_FRACTION = 3  # a message this many times per watchdog period


class ServiceManager:
    """The datagram socket of sd_notify(3), if the environment names one."""

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        values = dict(os.environ) if environment is None else environment
        path = values.get("NOTIFY_SOCKET", "")
        self.address = "\0" + path[1:] if path.startswith("@") else path
        is_for_us = values.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        watchdog_us = int(values.get("WATCHDOG_USEC", "0")) if is_for_us else 0
        self.watchdog_ns = watchdog_us * 1_000 // WATCHDOG_FRACTION
        self.due_ns = 0

    def tell(self, *lines: str) -> None:
        """Send one message; a manager that does not listen is no reason to stop."""
        if not self.address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            try:
                channel.sendto("\n".join(lines).encode(), self.address)
            except OSError:
                return

    def tick(self, now_ns: int) -> None:
        """Feed the watchdog when it is due."""
        if self.watchdog_ns and now_ns >= self.due_ns:
            self.due_ns = now_ns + self.watchdog_ns
            self.tell("WATCHDOG=1")

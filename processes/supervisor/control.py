"""`down`, `status` and `clean`: talk to a supervisor, or to what a dead one left."""

import os
import signal
from typing import Any

from common import clock
from common.errors import UnavailableError
from processes.inspector.instance import Instance
from shm import registry

DOWN_NS_MAX = 60_000_000_000
POLL_NS = 50_000_000


def down(name: str) -> None:
    """Ask an instance to stop in order, and wait until it has.

    Raises:
        UnavailableError: it is not running, or does not stop.
    """
    if not registry.is_live(name):
        raise UnavailableError(f"instance: {name} is not running, expected it live")
    pid = int(registry.read_manifest(name)["supervisor_pid"])
    pidfd = os.pidfd_open(pid)  # from here on the number cannot become another process
    try:
        if registry.is_live(name):
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        deadline_ns = clock.now_ns() + DOWN_NS_MAX
        while registry.is_live(name):
            if clock.now_ns() > deadline_ns:
                raise UnavailableError(f"instance: {name} still runs after 60 s; look at its log")
            clock.sleep_ns(POLL_NS)
    finally:
        os.close(pidfd)


def status(name: str) -> dict[str, Any]:
    """Return who runs, where, since when, and how it stands."""
    instance = Instance(name)
    try:
        return {
            "schema": 1,
            "instance": name,
            "live": instance.is_live,
            "supervisor_pid": instance.manifest["supervisor_pid"],
            "mode": (instance.manifest["config"] or {}).get("mode", ""),
            "phase": instance.phase(),
            "killed_by": instance.killed_by(),
            "state_dir": instance.manifest["state_dir"],
            "processes": instance.status(),
        }
    finally:
        instance.close()


def clean(name: str) -> list[str]:
    """Remove the segments of dead instances.

    Args:
        name: of one instance; empty: every dead one.

    Returns:
        Names of the removed segments.
    """
    names = [name] if name else [one for one in registry.instances() if not registry.is_live(one)]
    return [segment for one in names for segment in registry.clean(one)]

"""What several tests need: waiting for a condition, the shared capture, the project root."""

import os
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from common import clock

ROOT = Path(__file__).resolve().parent.parent
CAPTURES = ROOT.parent / "shared" / "data"


def wait_until(condition: Callable[[], bool], what: str, deadline_s: float = 10.0) -> None:
    """Poll `condition` until it holds; fail the test, naming `what`, after `deadline_s`."""
    deadline_ns = clock.now_ns() + int(deadline_s * 1e9)
    while not condition():
        if clock.now_ns() > deadline_ns:
            pytest.fail(f"{what}: not within {deadline_s} s")
        clock.sleep_ns(2_000_000)


def capture(name: str) -> Path:
    """Return a file of the shared capture folder; skip the test where the folder is absent."""
    path = CAPTURES / name
    if not path.exists():
        pytest.skip(f"{name}: the shared capture folder is not on this machine")
    return path


def unique_instance() -> str:
    """Return an instance name that no other test run uses."""
    return f"test-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def is_alive(pid: int) -> bool:
    """Return True while a process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # the second: it left while being read
        return False
    return state != "Z"

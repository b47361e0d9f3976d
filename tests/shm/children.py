"""Child processes of the tests: forked with all kernels compiled, bounded in time, reaped."""

import mmap
import os
import signal
import sys
import traceback
from collections.abc import Callable

import numpy as np
from numba import config, njit, types

from tests.support import wait_until

CHILD_SECONDS_MAX = 60

sched_yield = (
    os.sched_yield if config.DISABLE_JIT else types.ExternalFunction("sched_yield", types.int32())
)


def shared_words(count: int) -> np.ndarray:
    """Return int64[count] that forked children share with their parent."""
    return np.frombuffer(mmap.mmap(-1, count * 8), np.int64)


def fork(work: Callable[[], object]) -> int:
    """Run `work` in a child; exit code 0 if it comes back, 1 if it raises. Return the pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.alarm(CHILD_SECONDS_MAX)  # the default action ends compiled loops too
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def kill(pid: int) -> None:
    """End a child at once and reap it."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def wait_exit(pid: int, what: str, deadline_s: float = 30.0) -> None:
    """Wait until a child has ended with exit code 0; kill it if it does not end in time."""
    status: list[int] = []

    def has_ended() -> bool:
        found, code = os.waitpid(pid, os.WNOHANG)
        if found:
            status.append(code)
        return bool(found)

    try:
        wait_until(has_ended, what, deadline_s)
    finally:
        if not status:
            kill(pid)
    assert os.waitstatus_to_exitcode(status[0]) == 0, what


@njit(cache=True, _nrt=False)
def pause(count):
    """Give the core away `count` times."""
    for _ in range(count):
        sched_yield()

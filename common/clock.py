"""The only module that reads time.

Local instants are CLOCK_MONOTONIC nanoseconds; the venue's wall clock is CLOCK_REALTIME.
Kernels and protocols never call these: time is an argument.
"""

import time

import numpy as np
from numba import njit, types

_TIMESPEC_NS = 1_000_000_000
_CLOCK_MONOTONIC = 1
VIRTUAL = 2  # word of the timespec scratch: an instant that stands for the real one, 0 none

_clock_gettime = types.ExternalFunction("clock_gettime", types.int32(types.int32, types.voidptr))


@njit(cache=True)
def read_monotonic_ns(scratch):
    """Return CLOCK_MONOTONIC from inside a spin kernel.

    Args:
        scratch: int64[3], changed. The timespec, and a virtual clock that only a simulation sets;
            allocated once by the caller.
    """
    if scratch[VIRTUAL] != 0:
        return scratch[VIRTUAL]
    _clock_gettime(_CLOCK_MONOTONIC, scratch.ctypes)
    return scratch[0] * _TIMESPEC_NS + scratch[1]


def new_timespec() -> np.ndarray:
    """Return the scratch array that `read_monotonic_ns` wants."""
    return np.zeros(3, np.int64)


def now_ns() -> int:
    """Return CLOCK_MONOTONIC in nanoseconds."""
    return time.monotonic_ns()


def now_wall_ns() -> int:
    """Return CLOCK_REALTIME in nanoseconds since 1970."""
    return time.time_ns()


def sleep_ns(duration_ns: int) -> None:
    """Sleep; only for cold shells that wait for another process."""
    time.sleep(duration_ns / 1e9)


def boot_id() -> str:
    """Return the kernel's id of this boot; CLOCK_MONOTONIC instants of two boots do not compare."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()

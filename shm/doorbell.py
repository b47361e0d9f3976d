"""Sleep for work: a FIFO per process that producers ring, and the protocol that loses no ring.

A FIFO is a file descriptor, so one epoll waits for rings, sockets and timers. A producer rings only
a sleeper: publish, full fence, read the sleeping word. The sleeper sets the word, full fence,
looks at all rings again. Without both fences each could miss the other.
"""

import errno
import os
import stat
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import config, njit, types

from common.clock import new_timespec, read_monotonic_ns
from common.errors import SegmentError, UnavailableError
from shm.atomics import cpu_relax, fence_seq_cst, load_acquire, store_release
from shm.segment import check_owner, path_of
from shm.words import C_SLEEPING, L_TAKEN, P_CURSOR

SLEEPER_RINGS_MAX = 8
SPIN_NS_MAX = 1_000_000
_POLLS_PER_CLOCK_READ = 32
_DRAIN_BYTES = 65_536

if config.DISABLE_JIT:

    def _write(fd: int, pointer: object, size: int) -> int:
        try:
            return os.write(fd, bytes(size))
        except BlockingIOError:
            return -1

else:
    _write = types.ExternalFunction("write", types.int64(types.int32, types.voidptr, types.int64))


class Words(NamedTuple):
    """The words of a ring end without its slots: the same type for every ring.

    Attributes:
        local: int64[16], private.
        own: int64[512], this end's page.
        other: int64[512], the other end's page, read-only.
    """

    local: np.ndarray
    own: np.ndarray
    other: np.ndarray


@njit(cache=True, _nrt=False)
def ring_if_asleep(fd, own, other):
    """Ring the consumer's bell if it sleeps.

    Args:
        fd: of the bell; a full FIFO is as good as rung.
        own: int64[512], the producer page; one of its bytes is the byte written.
        other: int64[512], the consumer page, read.

    Order: the full fence keeps the publish before the load of the sleeping word; pairs with the
    one in `_prepare_sleep`.
    Writer: producer.
    """
    fence_seq_cst()
    if load_acquire(other, C_SLEEPING) != 0:
        _write(fd, own.ctypes, 1)


@njit(cache=True, _nrt=False)
def _has_work(inputs, count):
    for i in range(count):
        if load_acquire(inputs[i].other, P_CURSOR) != inputs[i].local[L_TAKEN]:
            return True
    return False


@njit(cache=True, _nrt=False)
def _set_sleeping(inputs, count, value):
    for i in range(count):
        store_release(inputs[i].own, C_SLEEPING, value)


@njit(cache=True, _nrt=False)
def _prepare_sleep(inputs, count):
    _set_sleeping(inputs, count, 1)
    fence_seq_cst()
    if _has_work(inputs, count):
        _set_sleeping(inputs, count, 0)
        return False
    return True


@njit(cache=True, _nrt=False)
def _spin(inputs, count, timespec, spin_ns_max):
    end_ns = read_monotonic_ns(timespec) + spin_ns_max
    while True:
        for _ in range(_POLLS_PER_CLOCK_READ):
            if _has_work(inputs, count):
                return True
            cpu_relax()
        if read_monotonic_ns(timespec) >= end_ns:
            return False


class Doorbell:
    """The FIFO that wakes one process; it holds it open for reading and writing."""

    def __init__(self, name: str, fd: int) -> None:
        self.name = name
        self.fd = fd

    @classmethod
    def create(cls, name: str) -> "Doorbell":
        """Make the FIFO and open it.

        Raises:
            SegmentError: something of that name exists.
        """
        try:
            os.mkfifo(path_of(name), 0o600)
        except FileExistsError:
            raise SegmentError(f"{name}: exists, expected no such doorbell; clean it") from None
        os.chmod(path_of(name), 0o600)
        return cls.open(name)

    @classmethod
    def open(cls, name: str) -> "Doorbell":
        """Open an existing one, to sleep on it or to ring it.

        Raises:
            UnavailableError: there is none.
            SegmentError: it is not a private FIFO of this user.
        """
        flags = os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(path_of(name), flags)
        except FileNotFoundError:
            raise UnavailableError(f"{name}: no such doorbell; is the instance up?") from None
        except OSError as error:
            raise SegmentError(f"{name}: {str(error).lower()}") from None
        try:
            check_owner(name, os.fstat(fd), stat.S_ISFIFO, "a FIFO")
        except SegmentError:
            os.close(fd)
            raise
        return cls(name, fd)

    def ring(self) -> None:
        """Wake the process whatever its rings hold; a full FIFO is as good as rung."""
        try:
            os.write(self.fd, b"\0")
        except OSError as error:
            if error.errno != errno.EAGAIN:
                raise

    def drain(self) -> int:
        """Take all rings back; return how many there were."""
        total = 0
        try:
            while size := len(os.read(self.fd, _DRAIN_BYTES)):
                total += size
                if size < _DRAIN_BYTES:
                    break
        except BlockingIOError:
            pass
        return total

    def close(self) -> None:
        """Close it; the FIFO stays."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Sleeper:
    """The consumer's side of the bell, for all rings of one process.

    Use: `if sleeper.try_sleep(): epoll.poll(...); doorbell.drain(); sleeper.wake()`.
    """

    def __init__(self, consumers: Sequence[object]) -> None:
        if len(consumers) > SLEEPER_RINGS_MAX:
            raise SegmentError(f"sleeper: {len(consumers)} rings, expected at most 8")
        self._count = len(consumers)
        words = [consumer.words for consumer in consumers]  # type: ignore[attr-defined]
        if not words:
            page = np.zeros(512, np.int64)
            other = np.zeros(512, np.int64)
            other.flags.writeable = False
            words = [Words(np.zeros(16, np.int64), page, other)]
        # One length of tuple, one compiled kernel: the unused places repeat the first ring.
        self._inputs = tuple(words + words[:1] * (SLEEPER_RINGS_MAX - len(words)))
        self._timespec = new_timespec()

    def try_sleep(self) -> bool:
        """Ask for the bell; False: there is work, nothing was asked for."""
        return bool(_prepare_sleep(self._inputs, self._count))

    def wake(self) -> None:
        """Say that the bell is not needed any more."""
        _set_sleeping(self._inputs, self._count, 0)

    def spin(self, spin_ns_max: int) -> bool:
        """Poll the rings without leaving the kernel; True as soon as there is work.

        Args:
            spin_ns_max: how long, at most SPIN_NS_MAX so that signals are seen.
        """
        return bool(_spin(self._inputs, self._count, self._timespec, min(spin_ns_max, SPIN_NS_MAX)))

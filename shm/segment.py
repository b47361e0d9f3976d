"""One segment of shared memory: a file in /dev/shm with a header page, pages per role, and data.

A segment is created whole (allocated, zeroed, header last) and never changes its size. Who attaches
checks owner, mode, size, checksum and layout first. A role (producer, consumer, writer) is an
open-file-description lock on one byte of the file, which the kernel frees when its holder dies;
process ids in the pages are for messages and decide nothing.

Not here: what the pages mean (words.py), and cleaning up after a dead instance (registry.py).
"""

import enum
import errno
import fcntl
import hashlib
import mmap
import os
import re
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import posix_ipc

from common import clock, kernel_cache
from common.errors import SegmentError, UnavailableError
from shm.words import PAGE_WORDS, ROLE_ATTACHES, ROLE_PID, SEQUENCE_MAX

DIRECTORY = Path("/dev/shm")
PAGE_BYTES = 4096
SEGMENT_BYTES_MAX = 1 << 34
NAME_LENGTH_MAX = 200
_NAME = re.compile(r"tickring(\.[a-z0-9_-]+)+")
_MAGIC = int.from_bytes(b"tickring", "little")
_VERSION = 1
_FLOCK = "hhqqi4x"  # struct flock: type, whence, start, length, pid
_RECORD_NAME_WORD, _RECORD_NAME_BYTES = 32, 64
OWN_PAGE = 1  # page of the producer or writer
CONSUMER_PAGE = 2


class Kind(enum.IntEnum):
    """What a segment holds."""

    RING = 1
    TABLE = 2
    COUNTERS = 3
    LATCH = 4
    TWIN = 5
    REGISTRY = 6


class Role(enum.IntEnum):
    """Who may hold an end of a segment; the number is the byte of the file that is locked."""

    PRODUCER = 1
    CONSUMER = 2
    WRITER = 3


class Header(enum.IntEnum):
    """Word of the header page; all written once, by the creator."""

    MAGIC = 0
    VERSION = 1
    KIND = 2
    FINGERPRINT = 3
    CAPACITY = 4
    RECORD_BYTES = 5
    BUILD_HASH = 6
    EPOCH = 7  # CLOCK_MONOTONIC of the creation
    FILE_BYTES = 8
    FIRST_SEQUENCE = 9
    FLAGS = 10
    CREATOR_PID = 11
    CHECKSUM = 511


class RoleTaken(UnavailableError):
    """Another living process holds this end."""


def hash_bytes(data: bytes) -> int:
    """Return 63 bits of the SHA-256 of `data`."""
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big") >> 1


@cache
def build_hash() -> int:
    """Return 63 bits over all source files of this program; the first call reads them."""
    return hash_bytes(b"".join(path.read_bytes() for path in kernel_cache.source_files()))


def path_of(name: str) -> Path:
    """Return where a segment lies.

    Raises:
        SegmentError: the name is not one of ours.
    """
    if not _NAME.fullmatch(name) or len(name) > NAME_LENGTH_MAX:
        raise SegmentError(f"segment: name is {name!r}, expected tickring.<instance>.<what>")
    return DIRECTORY / name


def round_up_to_page(size: int) -> int:
    """Return `size` rounded up to whole pages."""
    return -(-size // PAGE_BYTES) * PAGE_BYTES


def create(
    name: str,
    kind: Kind,
    record: str,
    fingerprint: int,
    *,
    capacity: int,
    record_bytes: int,
    own_pages: int,
    data_bytes: int,
    first_sequence: int = 0,
    flags: int = 0,
) -> None:
    """Create a segment: allocated, zeroed, with its header; it appears whole or not at all.

    Args:
        name: tickring.<instance>...; must not exist.
        kind: what it holds.
        record: name of its records, for tools.
        fingerprint: of the records' layout.
        capacity: slots, rows or words.
        record_bytes: bytes of each.
        own_pages: pages between header and data.
        data_bytes: bytes behind them, rounded up to pages.
        first_sequence: of a ring.
        flags: meaning depends on kind.

    Raises:
        SegmentError: it exists, the arguments are out of range, or /dev/shm is full.
    """
    path_of(name)
    size = PAGE_BYTES * (1 + own_pages) + round_up_to_page(data_bytes)
    if not 0 < size <= SEGMENT_BYTES_MAX:
        raise SegmentError(f"{name}: {size} bytes, expected at most {SEGMENT_BYTES_MAX}")
    if not 0 <= first_sequence <= SEQUENCE_MAX:
        raise SegmentError(f"{name}: first sequence is {first_sequence}, expected 0 to 2^61")
    if len(record.encode()) > _RECORD_NAME_BYTES:
        raise SegmentError(f"{name}: record name is {record!r}, expected at most 64 bytes")
    words = np.zeros(PAGE_WORDS, np.int64)
    words[Header.MAGIC] = _MAGIC
    words[Header.VERSION] = _VERSION
    words[Header.KIND] = kind
    words[Header.FINGERPRINT] = fingerprint
    words[Header.CAPACITY] = capacity
    words[Header.RECORD_BYTES] = record_bytes
    words[Header.BUILD_HASH] = build_hash()
    words[Header.EPOCH] = clock.now_ns()
    words[Header.FILE_BYTES] = size
    words[Header.FIRST_SEQUENCE] = first_sequence
    words[Header.FLAGS] = flags
    words[Header.CREATOR_PID] = os.getpid()
    text = record.encode().ljust(_RECORD_NAME_BYTES, b"\0")
    words.view(np.uint8)[_RECORD_NAME_WORD * 8 :][:_RECORD_NAME_BYTES] = list(text)
    words[Header.CHECKSUM] = hash_bytes(words[: Header.CHECKSUM].tobytes())
    _create_whole(name, words.tobytes(), size)


def _create_whole(name: str, header: bytes, size: int) -> None:
    """Fill the file under another name first: a creator killed half-way leaves no half segment."""
    draft = f"{name}.creating-{os.getpid()}"
    unlink(draft)  # of an earlier process of this number
    memory = None
    try:
        memory = posix_ipc.SharedMemory("/" + draft, posix_ipc.O_CREX, mode=0o600)
        os.fchmod(memory.fd, 0o600)
        os.posix_fallocate(memory.fd, 0, size)
        os.pwrite(memory.fd, header, 0)
        os.link(path_of(draft), path_of(name))
    except FileExistsError:
        raise SegmentError(f"{name}: exists, expected no such segment; clean it first") from None
    except (posix_ipc.Error, OSError) as error:
        is_full = getattr(error, "errno", None) == errno.ENOSPC
        what = "no space left in /dev/shm" if is_full else str(error).lower()
        raise SegmentError(f"{name}: {what}, expected room for {size} bytes") from None
    finally:
        if memory is not None:
            memory.close_fd()
        unlink(draft)


def unlink(name: str) -> None:
    """Remove the name of a segment or doorbell; who has mapped it keeps it."""
    path_of(name).unlink(missing_ok=True)


def exists(name: str) -> bool:
    """Return True if there is such a segment."""
    return path_of(name).exists()


class Segment:
    """One attached segment: checked header, mappings with the protection asked for, role locks."""

    def __init__(self, name: str, fd: int, header: np.ndarray, writable: bool) -> None:
        self.name = name
        self.fd = fd
        self.header = header
        self.writable = writable
        self._roles: list[int] = []

    @classmethod
    def attach(
        cls, name: str, kind: Kind, fingerprint: int | None = None, *, writable: bool
    ) -> "Segment":
        """Open and check a segment.

        Args:
            name: of the segment.
            kind: what it must hold.
            fingerprint: layout that its records must have; None: any (tools check later).
            writable: False opens it read-only.

        Raises:
            UnavailableError: there is no such segment.
            SegmentError: it is not ours, too open, cut off, corrupt, or laid out otherwise.
        """
        path_of(name)
        try:
            memory = posix_ipc.SharedMemory("/" + name, read_only=not writable)
        except posix_ipc.ExistentialError:
            raise UnavailableError(f"{name}: no such segment; is the instance up?") from None
        except (posix_ipc.Error, OSError) as error:
            raise SegmentError(f"{name}: {str(error).lower()}") from None
        try:
            check_owner(name, os.fstat(memory.fd), stat.S_ISREG, "a regular file")
            header = _checked_header(name, memory.fd, kind, fingerprint)
        except SegmentError:
            memory.close_fd()
            raise
        return cls(name, memory.fd, header, writable)

    @property
    def capacity(self) -> int:
        """Slots, rows or words."""
        return int(self.header[Header.CAPACITY])

    @property
    def record(self) -> str:
        """Name of the records."""
        first = _RECORD_NAME_WORD * 8
        raw = self.header.view(np.uint8)[first : first + _RECORD_NAME_BYTES].tobytes()
        return raw.rstrip(b"\0").decode()

    def audit(self) -> None:
        """Check the header in the file again.

        Raises:
            SegmentError: it changed since it was attached.
        """
        if os.pread(self.fd, PAGE_BYTES, 0) != self.header.tobytes():
            raise SegmentError(f"{self.name}: header has changed, expected it never to")

    def map_words(self, page: int, *, writable: bool) -> np.ndarray:
        """Map one page as int64[512]; read-only unless asked."""
        return self.map_bytes(page * PAGE_BYTES, PAGE_BYTES, writable=writable).view(np.int64)

    def map_bytes(self, first: int, size: int, *, writable: bool) -> np.ndarray:
        """Map whole pages of the file, prefaulted, as uint8[size]."""
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
        length = round_up_to_page(size)
        memory = mmap.mmap(self.fd, length, flags, protection, offset=first)
        return np.frombuffer(memory, np.uint8)[:size]

    def take_role(self, role: Role, words: np.ndarray) -> None:
        """Become the one holder of a role, and say so in its page.

        Args:
            role: PRODUCER, CONSUMER or WRITER.
            words: int64[512], the role's own page; pid and count of attaches are changed.

        Raises:
            SegmentError: another build made the segment.
            RoleTaken: a living process holds it.
        """
        check_build(self.name, int(self.header[Header.BUILD_HASH]))
        if not try_lock(self.fd, role):
            raise RoleTaken(
                f"{self.name}: {role.name.lower()} is held by pid {words[ROLE_PID]},"
                " expected nobody; end that process first"
            )
        self._roles.append(role)
        words[ROLE_PID] = os.getpid()
        words[ROLE_ATTACHES] += 1

    def is_role_held(self, role: Role) -> bool:
        """Return True if a living process holds the role through another open file."""
        return is_locked(self.fd, role)

    @contextmanager
    def closed_on_error(self) -> Iterator[None]:
        """Close the segment if the block does not come to its end."""
        is_done = False
        try:
            yield
            is_done = True
        finally:
            if not is_done:
                self.close()

    def close(self) -> None:
        """Give up the roles and the file; mappings live as long as arrays over them do."""
        if self.fd < 0:
            return
        for role in self._roles:  # mappings hold duplicates of the fd, so closing frees no lock
            _lock(self.fd, fcntl.F_UNLCK, role)
        self._roles.clear()
        os.close(self.fd)
        self.fd = -1


def is_locked(fd: int, role: Role) -> bool:
    """Return True if another open file of the same segment holds the role."""
    request = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, role, 1, 0)
    answer = struct.unpack(_FLOCK, fcntl.fcntl(fd, fcntl.F_OFD_GETLK, request))
    return bool(answer[0] != fcntl.F_UNLCK)


def try_lock(fd: int, role: Role) -> bool:
    """Take the lock of a role on an open segment file; False: another one holds it."""
    return _lock(fd, fcntl.F_WRLCK, role)


def _lock(fd: int, how: int, role: int) -> bool:
    request = struct.pack(_FLOCK, how, os.SEEK_SET, role, 1, 0)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, request)
    except (BlockingIOError, PermissionError):
        return False
    return True


def check_owner(
    name: str, status: os.stat_result, is_kind: Callable[[int], bool], kind_text: str
) -> None:
    """Refuse a file that is not a private file of this user.

    Args:
        name: for the message.
        status: of the opened file.
        is_kind: one of the stat.S_IS functions.
        kind_text: what it asks for, in words.

    Raises:
        SegmentError: another kind of file, another owner, or open to others.
    """
    if not is_kind(status.st_mode):
        raise SegmentError(f"{name}: another kind of file, expected {kind_text}")
    if status.st_uid != os.geteuid():
        raise SegmentError(f"{name}: owner is uid {status.st_uid}, expected {os.geteuid()}")
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise SegmentError(f"{name}: mode is {mode:04o}, expected 0600")


def _checked_header(name: str, fd: int, kind: Kind, fingerprint: int | None) -> np.ndarray:
    page = os.pread(fd, PAGE_BYTES, 0)
    if len(page) != PAGE_BYTES:
        raise SegmentError(f"{name}: {len(page)} bytes, expected a header page of {PAGE_BYTES}")
    words = np.frombuffer(page, np.int64)
    if words[Header.MAGIC] != _MAGIC:
        raise SegmentError(f"{name}: magic is {words[Header.MAGIC]:x}, expected {_MAGIC:x}")
    if words[Header.VERSION] != _VERSION:
        raise SegmentError(f"{name}: version is {words[Header.VERSION]}, expected {_VERSION}")
    checksum = hash_bytes(words[: Header.CHECKSUM].tobytes())
    if words[Header.CHECKSUM] != checksum:
        raise SegmentError(
            f"{name}: header checksum is {words[Header.CHECKSUM]:x}, expected {checksum:x}"
        )
    if words[Header.KIND] != kind:
        raise SegmentError(f"{name}: kind is {words[Header.KIND]}, expected {kind.name}")
    check_fingerprint(name, int(words[Header.FINGERPRINT]), fingerprint)
    size = os.fstat(fd).st_size
    if size != words[Header.FILE_BYTES]:
        raise SegmentError(f"{name}: {size} bytes, expected {words[Header.FILE_BYTES]}")
    return words


def check_build(name: str, found: int) -> None:
    """Refuse to act on a segment of another build, showing both; looking at it is for everybody.

    Raises:
        SegmentError: its creator's sources were not ours.
    """
    if found != build_hash():
        raise SegmentError(
            f"{name}: build is {found:016x}, expected {build_hash():016x};"
            " restart the whole instance from one commit"
        )


def check_fingerprint(name: str, found: int, expected: int | None) -> None:
    """Refuse another layout, showing both.

    Raises:
        SegmentError: they differ.
    """
    if expected is not None and found != expected:
        raise SegmentError(
            f"{name}: layout is {found:016x}, expected {expected:016x};"
            " restart both ends from one commit"
        )

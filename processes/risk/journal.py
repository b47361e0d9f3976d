"""The journal: what risk has taken and accepted, turn by turn, on disk before anything is sent.

    frame = header | reports of gateway, of rest, own | accepted requests | their places

A frame is one turn and one write(2), which has returned before an order of that turn is published.
It is all or nothing: the header's checksum covers the whole frame and the checksum before it. A
frame that was cut off was never followed by a publish, so it is dropped and its inputs, which were
not released, are taken again. Reading the frames with the same kernels gives the same tables.

Killed             the next start finds                           and does
before the write   no frame; inputs still in the rings            takes them again
in the write       a torn frame                                   drops it, takes the inputs again
before publish     a frame; order ring cursor at `order_first`    refuses its NEWs and REPLACEs as
                                                                  never sent; sends its cancels
after publish      cursor behind the frame's orders               nothing: they are in flight
before release     inputs up to the frame's ends still in rings   skips them
"""

import mmap
import os
import stat
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from common.errors import ConfigError, UnavailableError
from common.layout import fingerprint, record
from common.records import ORDER_REQUEST, REPORT

FILE_NAME = "journal"
FILE_BYTES_MAX = 1 << 36
MAGIC = int.from_bytes(b"tickjrnl", "little")
VERSION = 1
KIND_START = 1
KIND_TURN = 2
COUNT_MAX = 65_536

FRAME = record(
    "JOURNAL_FRAME", 160, "risk",
    (0, "magic", "<i8", "tickjrnl"),
    (8, "frame_sequence", "<i8", "0-based, no holes"),
    (16, "frame_bytes", "<i8", "header included"),
    (24, "ts_ns", "<i8", "CLOCK_MONOTONIC given to the turn"),
    (32, "ts_wall_ns", "<i8", "START: CLOCK_REALTIME of the same instant; else 0"),
    (40, "ring_epoch", "<i8", "which rings the sequences below belong to"),
    (48, "intent_end", "<i8", "sequence behind the last intent taken"),
    (56, "gateway_end", "<i8", "sequence behind the last report of the gateway"),
    (64, "rest_end", "<i8", "sequence behind the last report of rest"),
    (72, "order_first", "<i8", "sequence of the first order that this turn publishes"),
    (80, "gateway_count", "<i4", "reports of the gateway below"),
    (84, "rest_count", "<i4", "reports of rest, behind them"),
    (88, "own_count", "<i4", "own conclusions, behind them"),
    (92, "request_count", "<i4", "accepted requests, behind them, then their places"),
    (96, "publish_count", "<i4", "requests that this turn publishes"),
    (100, "kind", "<i4", "1 START of a process, 2 TURN"),
    (104, "session", "<i8", "part of all client order ids"),
    (112, "layout", "<i8", "fingerprint of the records"),
    (120, "instruments", "<i8", "hash of the instrument table"),
    (128, "version", "<i4", "of this format"),
    (132, "previous_crc32", "<i4", "of the frame before, 0 of the first"),
    (136, "crc32", "<i4", "of the whole frame with this field 0"),
    (140, "reserved", "20u1", "zero"),
)  # fmt: skip
_HEADER_BYTES = FRAME.itemsize
_PACKING = struct.Struct("<10q6i3q3i20x")  # the fields of FRAME, in order
_CRC_OFFSET = 136
assert _PACKING.size == _HEADER_BYTES
_LAYOUT = fingerprint("ORDER_REQUEST", "REPORT", "ORDER", "POSITION", "JOURNAL_FRAME")


class JournalError(UnavailableError):
    """The journal cannot be written: nothing new may be sent."""


class CorruptJournal(ConfigError):
    """The journal cannot be trusted; a person must look at it."""


class Frame(NamedTuple):
    """One frame as read back.

    Attributes:
        header: FRAME record.
        reports: REPORT[n]: of the gateway, of rest, own.
        requests: ORDER_REQUEST[m].
        places: int64[m].
    """

    header: np.void
    reports: np.ndarray
    requests: np.ndarray
    places: np.ndarray


class Head(NamedTuple):
    """What the writer of a frame says in its header; the fields are explained in FRAME."""

    ts_ns: int
    ring_epoch: int
    intent_end: int
    gateway_end: int
    rest_end: int
    order_first: int
    kind: int = KIND_TURN
    ts_wall_ns: int = 0
    gateway_count: int = 0
    rest_count: int = 0
    own_count: int = 0
    request_count: int = 0
    publish_count: int = 0


class Facts(NamedTuple):
    """What the frames of one journal have in common."""

    session: int
    instruments: int


def body_bytes(header: np.void) -> int:
    """Return how many bytes a header's counts stand for."""
    reports = int(header["gateway_count"]) + int(header["rest_count"]) + int(header["own_count"])
    return reports * REPORT.itemsize + int(header["request_count"]) * (ORDER_REQUEST.itemsize + 8)


def is_whole(data: memoryview, first: int) -> bool:
    """Return True if a whole frame with a right checksum stands at `first`."""
    if len(data) - first < _HEADER_BYTES:
        return False
    header = np.frombuffer(data[first : first + _HEADER_BYTES], FRAME)[0]
    size = int(header["frame_bytes"])
    counts = [int(header[name]) for name in FRAME.names or () if name.endswith("_count")]
    if header["magic"] != MAGIC or min(counts) < 0 or max(counts) > COUNT_MAX:
        return False
    if size != _HEADER_BYTES + body_bytes(header) or first + size > len(data):
        return False
    return checksum(header, [data[first + _HEADER_BYTES : first + size]]) == header["crc32"]


def checksum(header: np.void, parts: Sequence[memoryview]) -> int:
    """Return the CRC-32 of a frame, its own field taken as 0, as a signed 32-bit number."""
    blank = header.copy()
    blank["crc32"] = 0
    crc = zlib.crc32(blank.tobytes())
    for part in parts:
        crc = zlib.crc32(part, crc)
    return _signed(crc)


def _signed(crc: int) -> int:
    return crc - (1 << 32) if crc >> 31 else crc


def read_frames(path: Path, data: memoryview) -> tuple[list[tuple[int, np.void]], int]:
    """Find all frames of a journal.

    Args:
        path: for messages.
        data: the whole file.

    Returns:
        ([(offset, header)], end of the last whole frame). What stands behind it is a torn frame.

    Raises:
        CorruptJournal: a frame is bad and a whole one stands behind it, or the chain is broken.
    """
    frames: list[tuple[int, np.void]] = []
    offset, crc = 0, 0
    while is_whole(data, offset):
        header = np.frombuffer(data[offset : offset + _HEADER_BYTES], FRAME)[0]
        if header["frame_sequence"] != len(frames) or header["previous_crc32"] != crc:
            raise CorruptJournal(
                f"{path}: frame at byte {offset} is number {header['frame_sequence']}, expected"
                f" {len(frames)} and the checksum chain unbroken; do not trade on it"
            )
        frames.append((offset, header))
        offset, crc = offset + int(header["frame_bytes"]), int(header["crc32"])
    mark = MAGIC.to_bytes(8, "little")
    rest = bytes(data[offset:])
    behind = rest.find(mark, 1)
    while behind >= 0:
        if is_whole(data, offset + behind):
            raise CorruptJournal(
                f"{path}: frame {len(frames)} at byte {offset} is damaged and whole frames stand"
                f" behind it at byte {offset + behind}; do not trade on it"
            )
        behind = rest.find(mark, behind + 1)
    return frames, offset


class Journal:
    """One append-only file of one session, held by one process.

    Attributes:
        size: bytes of whole frames.
        torn_bytes: what was cut off behind them when it was opened.
        is_broken: a write failed; nothing is written any more.
    """

    def __init__(self, directory: Path, facts: Facts, sync: Literal["none", "always"]) -> None:
        """Open or create `directory`/journal, and drop a torn frame at its end.

        Raises:
            CorruptJournal: damaged in the middle, of another format, session or instrument list.
            JournalError: it cannot be opened.
        """
        self.path = directory / FILE_NAME
        self.facts = facts
        self.sync = sync
        self.is_broken = False
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            self.fd = os.open(self.path, flags, 0o600)
        except OSError as error:
            raise JournalError(f"{self.path}: {(error.strerror or '').lower()}") from None
        try:
            self._check_owner()
            self._data = self._map()
            self._frames, self.size = read_frames(self.path, self._data)
            for offset, header in self._frames:
                self._check_facts(offset, header)
            self.torn_bytes = len(self._data) - self.size
            if self.torn_bytes:
                os.ftruncate(self.fd, self.size)
        except BaseException:
            os.close(self.fd)
            raise
        self.frame_count = len(self._frames)
        self._crc = int(self._frames[-1][1]["crc32"]) if self._frames else 0

    def _check_owner(self) -> None:
        status = os.fstat(self.fd)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            raise CorruptJournal(f"{self.path}: expected a file of this user")
        if stat.S_IMODE(status.st_mode) & 0o077:
            mode = stat.S_IMODE(status.st_mode)
            raise CorruptJournal(f"{self.path}: mode is {mode:04o}, expected 0600")

    def _map(self) -> memoryview:
        size = os.fstat(self.fd).st_size
        return memoryview(mmap.mmap(self.fd, size, prot=mmap.PROT_READ) if size else b"")

    def _check_facts(self, offset: int, header: np.void) -> None:
        expected = {
            "version": VERSION,
            "layout": _LAYOUT,
            "session": self.facts.session,
            "instruments": self.facts.instruments,
        }
        for name, value in expected.items():
            if header[name] != value:
                raise CorruptJournal(
                    f"{self.path}: {name} of the frame at byte {offset} is {header[name]},"
                    f" expected {value}; start a fresh session"
                )

    def frames(self) -> Iterator[Frame]:
        """Yield what was found when it was opened, oldest first; once."""
        data = self._data
        for offset, header in self._frames:
            first = offset + _HEADER_BYTES
            reports = sum(int(header[f"{of}_count"]) for of in ("gateway", "rest", "own"))
            behind = first + reports * REPORT.itemsize
            count = int(header["request_count"])
            end = behind + count * ORDER_REQUEST.itemsize
            yield Frame(
                header,
                np.frombuffer(data[first:behind], REPORT),
                np.frombuffer(data[behind:end], ORDER_REQUEST),
                np.frombuffer(data[end : end + count * 8], np.int64),
            )
        self._data, self._frames = memoryview(b""), []

    def append(self, head: Head, parts: Sequence[bytes | memoryview]) -> int:
        """Write one frame; when it returns, kill -9 cannot take it back ("always": nor power loss).

        Args:
            head: of the frame.
            parts: bytes behind the header, as its counts say.

        Returns:
            Bytes written.

        Raises:
            JournalError: not written, or not surely on disk; nothing is written after that.
        """
        if self.is_broken:
            raise JournalError(f"{self.path}: an earlier write failed, expected none")
        total = _HEADER_BYTES
        for part in parts:
            total += len(part)
        header = bytearray(self._pack(head, total))
        crc = zlib.crc32(header)
        for part in parts:
            crc = zlib.crc32(part, crc)
        signed = _signed(crc)
        header[_CRC_OFFSET : _CRC_OFFSET + 4] = signed.to_bytes(4, "little", signed=True)
        try:
            if self.size + total > FILE_BYTES_MAX:
                raise OSError(0, f"{self.size} bytes, expected at most {FILE_BYTES_MAX}")
            written = os.writev(self.fd, [header, *parts])
            if written != total:
                raise OSError(0, f"{written} of {total} bytes written")
            if self.sync == "always":
                os.fdatasync(self.fd)
        except OSError as error:
            self._break()
            raise JournalError(f"{self.path}: {(error.strerror or str(error)).lower()}") from None
        self._crc = signed
        self.frame_count += 1
        self.size += total
        return total

    def _pack(self, head: Head, total: int) -> bytes:
        """Return the header's bytes, its own checksum 0."""
        return _PACKING.pack(
            MAGIC,
            self.frame_count,
            total,
            head.ts_ns,
            head.ts_wall_ns,
            head.ring_epoch,
            head.intent_end,
            head.gateway_end,
            head.rest_end,
            head.order_first,
            head.gateway_count,
            head.rest_count,
            head.own_count,
            head.request_count,
            head.publish_count,
            head.kind,
            self.facts.session,
            _LAYOUT,
            self.facts.instruments,
            VERSION,
            self._crc,
            0,
        )

    def _break(self) -> None:
        """Stop writing for good, and take back what a failed write may have left."""
        self.is_broken = True
        try:
            os.ftruncate(self.fd, self.size)
        except OSError:
            return  # the next start finds a torn frame and drops it

    def close(self) -> None:
        """Close the file."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

"""A recorded segment: a file of slots as they lay in the ring, and beside it an index of blocks.

    <first sequence>.slots   page 0: our header; page 1: the ring's own header page, zero if there
                             was no ring; then the tables of its records as text, up to a page
                             border; then the slots, byte for byte, one behind the other
    <first sequence>.index   INDEX_ENTRY[n]: a block of slots, a GAP, or the END of the segment

An entry is written after its slots, so whatever is cut off, the entries that are whole describe a
prefix that is whole. The header's checksum covers everything before the slots and is the root of
the chain of entries: an index of another file, an entry left out or changed is found.

The checksum takes 64-bit words in eight lanes, each `lane = rotate((lane ^ word) * odd)`: every
step is reversible, so one changed word always changes the sum, and eight independent lanes keep
the multiplier busy: about 1 ns per 64-byte slot. It guards against accidents, not against malice.
"""

import enum
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from common import clock
from common.errors import SegmentError
from common.layout import describe, record
from common.records import LAYOUTS, MARKET_SLOTS, SLOT_WORDS
from shm import segment
from shm.atomics import multiply_wrapping
from shm.ring import MARKET, layout_of
from shm.segment import PAGE_BYTES, hash_bytes, round_up_to_page
from shm.words import PAGE_WORDS

SLOTS_SUFFIX, INDEX_SUFFIX, PACKED_SUFFIX = ".slots", ".index", ".slots.zst"
STATE = (
    "STATE"  # layout of checkpoints: turn count, then the block; the block is the strategy's own
)
NAME_DIGITS = 20
BLOCK_BYTES_MAX = 1 << 20
_MAGIC = int.from_bytes(b"tickslot", "little")
VERSION = 1
_TEXT_BYTES_MAX = 1 << 20
_NAME_WORD, _NAME_BYTES = 32, 64
_KEY_WORD, _KEY_BYTES = 48, 200
_ODD = -7_046_029_254_386_353_131  # 2^64 / golden ratio: bits well mixed

INDEX_ENTRY = record(
    "INDEX_ENTRY", 64, "recorder, importers",
    (0, "kind", "<i8", "1 SLOTS, 2 GAP, 3 END: closed in order"),
    (8, "first_sequence", "<i8", "of the block; GAP: first lost; END: next to be written"),
    (16, "count", "<i8", "slots; GAP: how many were lost; END: 0"),
    (24, "byte_offset", "<i8", "of the block in the file of slots; GAP, END: where they end"),
    (32, "slots_checksum", "<i8", "of the block; GAP, END: 0"),
    (40, "reserved", "8u1", "zero"),
    (48, "previous_checksum", "<i8", "entry_checksum before this one; first: of the header"),
    (56, "entry_checksum", "<i8", "of the seven words before it"),
)  # fmt: skip
ENTRY_WORDS = 8

# What any market slot begins with; the kind says which record of common/records.py it is.
MARKET_SLOT = np.dtype(
    [
        ("kind", "u1"),
        ("flags", "u1"),
        ("slot_count", "<u2"),
        ("instrument_id", "<i4"),
        ("ts_recv_ns", "<i8"),
        ("words", "<i8", (SLOT_WORDS - 2,)),
    ],
    align=True,
)


class Entry(enum.IntEnum):
    """Kind of an index entry."""

    SLOTS = 1
    GAP = 2
    END = 3


class Word(enum.IntEnum):
    """Word of the header page of a file of slots."""

    MAGIC = 0
    VERSION = 1
    FINGERPRINT = 2
    CAPACITY = 3  # of the live ring
    RECORD_BYTES = 4
    BUILD_HASH = 5  # of the program that wrote it
    FIRST_SEQUENCE = 6
    DATA_OFFSET = 7
    TEXT_BYTES = 8
    TS_MONO = 9  # when the segment was begun
    TS_WALL = 10
    CHECKSUM = 511


class Header(NamedTuple):
    """What a file of slots says of itself.

    Attributes:
        key: of the ring.
        layout: name of its records, MARKET or STATE.
        text: tables of the records.
        checksum: of everything before the slots.
        others: words of the header page.
    """

    key: str
    layout: str
    text: str
    capacity: int
    record_bytes: int
    first_sequence: int
    data_offset: int
    checksum: int


@njit(cache=True, _nrt=False)
def _mix(lane, word):
    mixed = multiply_wrapping(lane ^ word, _ODD)
    return multiply_wrapping(mixed, 1 << 29) | ((mixed >> 35) & 0x1FFFFFFF)


@njit(cache=True, _nrt=False)
def checksum(words):
    """Return the checksum of a block; see above.

    Args:
        words: int64[n], contiguous, read.
    """
    a, b, c, d, e, f, g, h = 1, 2, 3, 4, 5, 6, 7, 8
    whole = len(words) & ~7
    for i in range(0, whole, 8):
        a = _mix(a, words[i])
        b = _mix(b, words[i + 1])
        c = _mix(c, words[i + 2])
        d = _mix(d, words[i + 3])
        e = _mix(e, words[i + 4])
        f = _mix(f, words[i + 5])
        g = _mix(g, words[i + 6])
        h = _mix(h, words[i + 7])
    total = _mix(len(words), a)
    for lane in (b, c, d, e, f, g, h):
        total = _mix(total, lane)
    for i in range(whole, len(words)):
        total = _mix(total, words[i])
    return total ^ ((total >> 32) & 0xFFFFFFFF)


@njit(cache=True, _nrt=False)
def count_valid_entries(words, root):
    """Return how many index entries from the first on are whole and chained to `root`.

    Args:
        words: int64[n * 8], contiguous, read.
        root: checksum of the header.
    """
    previous = root
    for i in range(len(words) // 8):
        first = i * 8
        if words[first + 6] != previous or words[first + 7] != checksum(words[first : first + 7]):
            return i
        previous = words[first + 7]
    return len(words) // 8


def slot_dtype(layout: str, record_bytes: int) -> np.dtype:
    """Return the dtype of one slot."""
    if layout == MARKET:
        return MARKET_SLOT
    if layout == STATE:
        return np.dtype([("turn", "<i8"), ("block", "<i8", (record_bytes // 8 - 1,))])
    return LAYOUTS[layout]


def layout_text(layout: str) -> str:
    """Return the tables of the records that a ring of this layout may hold.

    Raises:
        SegmentError: there is no such record.
    """
    if layout == MARKET:
        return "".join(describe(name) for name in MARKET_SLOTS)
    if layout == STATE:
        return "STATE: word 0 is the turn count, then the strategy's block\n"
    layout_of(layout)
    return describe(layout)


def encode_header(
    key: str,
    layout: str,
    capacity: int,
    record_bytes: int,
    first_sequence: int,
    text: str,
    origin: bytes = b"",
) -> tuple[bytes, int]:
    """Return everything before the slots, and its checksum.

    Args:
        key: of the ring, at most 200 bytes.
        layout: name of its records.
        capacity, record_bytes: of the live ring.
        first_sequence: of the segment.
        text: tables of the records; its hash is the layout's fingerprint.
        origin: header page of the live ring, byte for byte; empty if there was none.
    """
    raw = text.encode()
    words = np.zeros(PAGE_WORDS, np.int64)
    words[Word.MAGIC] = _MAGIC
    words[Word.VERSION] = VERSION
    words[Word.FINGERPRINT] = hash_bytes(raw)
    words[Word.CAPACITY] = capacity
    words[Word.RECORD_BYTES] = record_bytes
    words[Word.BUILD_HASH] = segment.build_hash()
    words[Word.FIRST_SEQUENCE] = first_sequence
    words[Word.DATA_OFFSET] = 2 * PAGE_BYTES + round_up_to_page(len(raw))
    words[Word.TEXT_BYTES] = len(raw)
    words[Word.TS_MONO] = clock.now_ns()
    words[Word.TS_WALL] = clock.now_wall_ns()
    _put_text(words, _NAME_WORD, _NAME_BYTES, layout)
    _put_text(words, _KEY_WORD, _KEY_BYTES, key)
    rest = origin.ljust(PAGE_BYTES, b"\0") + raw.ljust(round_up_to_page(len(raw)), b"\0")
    words[Word.CHECKSUM] = hash_bytes(words[: Word.CHECKSUM].tobytes() + rest)
    return words.tobytes() + rest, int(words[Word.CHECKSUM])


def _put_text(words: np.ndarray, word: int, size: int, text: str) -> None:
    raw = text.encode()
    if len(raw) > size:
        raise SegmentError(f"recording: name is {text!r}, expected at most {size} bytes")
    words.view(np.uint8)[word * 8 :][: len(raw)] = list(raw)


def _text_at(words: np.ndarray, word: int, size: int) -> str:
    raw = words.view(np.uint8)[word * 8 : word * 8 + size].tobytes()
    return raw.rstrip(b"\0").decode("ascii", "replace")


def decode_header(path: Path, head: bytes) -> Header:
    """Check everything before the slots.

    Args:
        path: for the message.
        head: the file from its first byte on, at least up to the first slot.

    Raises:
        SegmentError: not a recorded segment, cut off, changed, or of a layout or version that
            this program does not know.
    """
    if len(head) < PAGE_BYTES:
        raise SegmentError(f"{path}: {len(head)} bytes, expected a header page of {PAGE_BYTES}")
    words = np.frombuffer(head, np.int64, PAGE_WORDS)
    if words[Word.MAGIC] != _MAGIC:
        raise SegmentError(f"{path}: magic is {words[Word.MAGIC]:x}, expected {_MAGIC:x}")
    if words[Word.VERSION] != VERSION:
        raise SegmentError(
            f"{path}: format version is {words[Word.VERSION]}, expected {VERSION};"
            " read it with the program that wrote it"
        )
    data_offset, text_bytes = int(words[Word.DATA_OFFSET]), int(words[Word.TEXT_BYTES])
    least = 2 * PAGE_BYTES + round_up_to_page(max(text_bytes, 0))
    if not 0 <= text_bytes <= _TEXT_BYTES_MAX or data_offset != least:
        raise SegmentError(f"{path}: slots begin at byte {data_offset}, expected {least}")
    if len(head) < data_offset:
        raise SegmentError(f"{path}: {len(head)} bytes, expected a header of {data_offset}")
    found = int(words[Word.CHECKSUM])
    body = head[: Word.CHECKSUM * 8] + head[PAGE_BYTES:data_offset]
    if found != hash_bytes(body):
        raise SegmentError(
            f"{path}: checksum of the header, bytes 0 to {data_offset - 1}, is"
            f" {hash_bytes(body):016x}, expected {found:016x}"
        )
    text = head[2 * PAGE_BYTES : 2 * PAGE_BYTES + text_bytes].decode()
    header = Header(
        key=_text_at(words, _KEY_WORD, _KEY_BYTES),
        layout=_text_at(words, _NAME_WORD, _NAME_BYTES),
        text=text,
        capacity=int(words[Word.CAPACITY]),
        record_bytes=int(words[Word.RECORD_BYTES]),
        first_sequence=int(words[Word.FIRST_SEQUENCE]),
        data_offset=data_offset,
        checksum=found,
    )
    _check_layout(path, header, words)
    return header


def _check_layout(path: Path, header: Header, words: np.ndarray) -> None:
    expected = header.record_bytes
    if header.layout != STATE:
        fingerprint, expected = layout_of(header.layout)
        if words[Word.FINGERPRINT] != fingerprint:
            raise SegmentError(
                f"{path}: layout of {header.layout} is {words[Word.FINGERPRINT]:016x}, expected"
                f" {fingerprint:016x}; read it with the program that wrote it, of build"
                f" {words[Word.BUILD_HASH]:016x}; its tables stand as text in the file"
            )
    if header.record_bytes != expected or expected % 8 or expected < 8:
        raise SegmentError(f"{path}: records of {header.record_bytes} bytes, expected {expected}")


def segment_name(first_sequence: int) -> str:
    """Return the name of a segment without its suffix."""
    return f"{first_sequence:0{NAME_DIGITS}d}"


def index_of(path: Path) -> Path:
    """Return the index beside a file of slots, packed or not."""
    return path.with_name(path.name.split(".")[0] + INDEX_SUFFIX)


def packed_path(path: Path) -> Path:
    """Return where a file of slots lies once it is packed."""
    return path.with_name(path.name.removesuffix(".zst") + ".zst")


def read_entries(path: Path, root: int) -> np.ndarray:
    """Read the whole entries of an index.

    Args:
        path: of the index; missing is empty: killed before the first entry.
        root: checksum of the header beside it.

    Returns:
        INDEX_ENTRY[n]. What was cut off behind them is left out.

    Raises:
        SegmentError: an entry is damaged; names the byte.
    """
    data = path.read_bytes() if path.exists() else b""
    count = len(data) // INDEX_ENTRY.itemsize
    words = np.frombuffer(bytearray(data[: count * INDEX_ENTRY.itemsize]), np.int64)
    valid = count_valid_entries(words, root)
    if np.any(words[valid * ENTRY_WORDS :]):  # zeros: the power failed before they were on disk
        raise SegmentError(
            f"{path}: entry at byte {valid * INDEX_ENTRY.itemsize} is damaged or follows a missing"
            " one, expected its checksum and the one before it to match"
        )
    return words[: valid * ENTRY_WORDS].view(INDEX_ENTRY)


class SlotSource:
    """The bytes of one file of slots, packed or not, read by offset."""

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            SegmentError: not readable, or packed and damaged.
        """
        self.path = path
        self._fd = -1
        self._unpacked: np.ndarray | None = None
        try:
            if path.name.endswith(PACKED_SUFFIX):
                self._unpacked = unpack(path)
                self.size = len(self._unpacked)
            else:
                self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                self.size = os.fstat(self._fd).st_size
        except OSError as error:
            raise SegmentError(f"{path}: {(error.strerror or str(error)).lower()}") from None

    def read(self, offset: int, size: int) -> np.ndarray:
        """Return int64[size / 8] from a byte on; shorter at the end of the file."""
        if self._unpacked is not None:
            return self._unpacked[offset : offset + size].copy().view(np.int64)
        data = np.empty(size, np.uint8)
        done = 0
        while done < size:
            count = os.preadv(self._fd, [memoryview(data)[done:]], offset + done)
            if count == 0:
                break
            done += count
        return data[: done & ~7].view(np.int64)

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._unpacked = None


def read_header(path: Path) -> Header:
    """Read and check what stands before the slots; of a packed segment without unpacking it all.

    Raises:
        FileNotFoundError: it is not there.
        SegmentError: see `decode_header`.
    """
    size_max = 2 * PAGE_BYTES + _TEXT_BYTES_MAX
    try:
        if path.name.endswith(PACKED_SUFFIX):
            return decode_header(path, _unpack_first(path, size_max))
        with path.open("rb") as file:
            return decode_header(path, file.read(size_max))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SegmentError(f"{path}: {(error.strerror or str(error)).lower()}") from None


def _unpack_first(path: Path, size: int) -> bytes:
    import zstandard

    try:
        with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as reader:
            return bytes(reader.read(size))
    except zstandard.ZstdError as error:
        raise SegmentError(f"{path}: {error}, expected a whole zstd file") from None


def unpack(path: Path) -> np.ndarray:
    """Return the bytes of a packed file of slots.

    Raises:
        SegmentError: it is damaged.
    """
    import zstandard

    try:
        content = zstandard.ZstdDecompressor().decompress(path.read_bytes())
    except zstandard.ZstdError as error:
        raise SegmentError(f"{path}: {error}, expected a whole zstd file") from None
    return np.frombuffer(content, np.uint8)


class Packer:
    """Packs one closed segment with zstd, a piece at a time, so that a recorder goes on meanwhile.

    Killed at any moment: the plain file is removed only after the packed one is whole and on disk.
    """

    def __init__(self, path: Path, level: int = 3) -> None:
        """Begin.

        Args:
            path: file of slots that nobody writes any more.
            level: of zstd, 1 fast to 19 small.
        """
        import zstandard

        self.path = path
        self._draft = path.with_name(path.name + ".zst.part")
        self._source = path.open("rb")
        self._target = open(self._draft, "wb", opener=private_opener)
        size = os.fstat(self._source.fileno()).st_size
        compressor = zstandard.ZstdCompressor(level=level, write_checksum=True)
        self._packing: Any = compressor.compressobj(size=size)

    def step(self, bytes_max: int = 1 << 20) -> int | None:
        """Pack at most so many bytes.

        Returns:
            None: there is more; else it is done, only the packed file is left, and this is by how
            many bytes it is larger, mostly less than 0.

        Raises:
            OSError: the disk is full or gone; close it then.
        """
        data = self._source.read(bytes_max)
        if data:
            self._target.write(self._packing.compress(data))
            return None
        self._target.write(self._packing.flush())
        self._target.flush()
        os.fsync(self._target.fileno())
        growth = self._target.tell() - self._source.tell()
        self.close()
        os.rename(self._draft, packed_path(self.path))
        self.path.unlink()
        return growth

    def close(self) -> None:
        """Give up; the plain file stays."""
        self._source.close()
        self._target.close()


def private_opener(path: str, flags: int) -> int:
    """Open a file that only this user may read."""
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def warm_up() -> None:
    """Compile the kernels."""
    words = np.zeros(ENTRY_WORDS, np.int64)
    checksum(words)
    count_valid_entries(words, 0)

"""Recordings, read: a run's folder, its rings, and single segment files as arrays and frames."""

import bisect
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from common.errors import SegmentError, UnavailableError
from common.layout import dtype_of
from common.records import MARKET_SLOTS
from shm.packing import PACKED_SUFFIX, packed_path, unpack
from shm.ring import layout_of
from shm.slot_file import (
    INDEX_ENTRY,
    INDEX_SUFFIX,
    MARKET_SLOT,
    SLOTS_SUFFIX,
    STATE,
    Entry,
    Header,
    SlotSource,
    checksum,
    find_damaged,
    index_of,
    last_entry,
    read_entries,
    read_header,
    slot_dtype,
)

MANIFEST = "manifest.json"
LOAD_BYTES_MAX = 1 << 24
READ_AHEAD_BYTES = 1 << 16  # a reader that takes little at a time mostly goes on behind it


class DamagedBlock(SegmentError):
    """The bytes of a block are not those that were written.

    Attributes:
        block: which one of the ring's recording.
    """

    def __init__(self, block: int, text: str) -> None:
        super().__init__(text)
        self.block = block


class RecordedSegment(NamedTuple):
    """One file of slots with what its index says.

    Attributes:
        path: of the slots, packed or not.
        header: of the file.
        entries: INDEX_ENTRY[n], whole and chained.
        size_bytes: of a plain file; -1: packed, so nothing is cut off.
    """

    path: Path
    header: Header
    entries: np.ndarray
    size_bytes: int


def segments_of(folder: Path) -> list[RecordedSegment]:
    """Return the segments of one ring's folder, oldest first.

    Raises:
        SegmentError: one of them cannot be used.
    """
    found = []
    for index in sorted(folder.glob(f"*{INDEX_SUFFIX}")):
        try:
            if index.stat().st_size < INDEX_ENTRY.itemsize:
                continue  # killed before the first block; its header may be cut off
        except FileNotFoundError:
            continue  # a recorder that starts removes what is empty, perhaps just now
        path = index.with_suffix(SLOTS_SUFFIX)
        try:
            size, header = path.stat().st_size, read_header(path)
        except FileNotFoundError:  # packed, perhaps just now
            path = packed_path(path)
            if not path.exists():
                if not index.exists():
                    continue  # removed meanwhile
                raise SegmentError(f"{path}: no such file, expected it beside its index") from None
            size, header = -1, read_header(path)
        found.append(RecordedSegment(path, header, read_entries(index, header.checksum), size))
    return found


class RingRecording:
    """What was recorded of one ring, by sequence.

    Attributes:
        key: of the ring.
        layout: name of its records, MARKET or STATE.
        capacity: of the live ring.
        record_bytes: of one slot.
        origin: header page of the live ring or state block, empty or zero if there was none.
        spans: [first, end) of what is whole, ascending.
        gaps: (first lost, last lost), ascending: told by the recorder, or a hole without a word.
        notes: what was cut off, for people.
        size_bytes: of the files.
    """

    def __init__(self, folder: Path, layout: str = "") -> None:
        """Read the indexes; slots are read when asked for.

        Args:
            folder: of the ring, in a run's.
            layout: of its records, should there be no segment yet to tell it.

        Raises:
            SegmentError: a file is damaged, of another layout, or overlaps another one.
        """
        self.folder = folder
        self.key = folder.name
        self.notes: list[str] = []
        self._segments = segments_of(folder)
        self.size_bytes = size_of(folder)
        first = self._segments[0].header if self._segments else None
        self.layout = first.layout if first else layout
        self.capacity = first.capacity if first else 0
        self.record_bytes = first.record_bytes if first else bytes_of(layout)
        self.origin = first.origin if first else b""
        for found in self._segments:
            header = found.header
            if (header.layout, header.record_bytes) != (self.layout, self.record_bytes):
                raise SegmentError(
                    f"{found.path}: {header.layout} of {header.record_bytes} bytes, expected"
                    f" {self.layout} of {self.record_bytes} as in the segments before it"
                )
        self._blocks, self._owner = self._whole_blocks()
        self._firsts = self._blocks["first_sequence"].tolist()
        self._sizes = self._blocks["count"] * self.words
        self._sums = np.ascontiguousarray(self._blocks["slots_checksum"])
        self.spans = self._merge()
        self.gaps = self._all_gaps()
        self._open_segment = -1
        self._source: SlotSource | None = None
        self._loaded_first = 0
        self._loaded = np.empty((0, self.words), np.int64)

    @property
    def words(self) -> int:
        """64-bit words of one slot."""
        return self.record_bytes // 8

    @property
    def dtype(self) -> np.dtype:
        """Of one slot."""
        return slot_dtype(self.layout, self.record_bytes)

    def _whole_blocks(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the entries of all blocks that are in their files, and the segment of each."""
        blocks, owner = [np.empty(0, INDEX_ENTRY)], [np.empty(0, np.int64)]
        for i, found in enumerate(self._segments):
            entries = found.entries[found.entries["kind"] == Entry.SLOTS]
            if found.size_bytes >= 0:
                ends = entries["byte_offset"] + entries["count"] * self.record_bytes
                fitting = int(np.count_nonzero(ends <= found.size_bytes))
                if fitting < len(entries):
                    self.notes.append(
                        f"{found.path}: {len(entries) - fitting} of {len(entries)} blocks are cut"
                        " off, expected the bytes that the index names"
                    )
                entries = entries[:fitting]
            blocks.append(entries)
            owner.append(np.full(len(entries), i))
        return np.concatenate(blocks), np.concatenate(owner)

    def _merge(self) -> list[tuple[int, int]]:
        firsts = self._blocks["first_sequence"]
        ends = firsts + self._blocks["count"]
        overlaps = np.flatnonzero(firsts[1:] < ends[:-1])
        if len(overlaps):
            at = int(overlaps[0]) + 1
            raise SegmentError(
                f"{self._segments[self._owner[at]].path}: a block begins at {firsts[at]}, expected"
                f" {ends[at - 1]} or more: the block before it ends there"
            )
        breaks = np.flatnonzero(firsts[1:] > ends[:-1])
        if not len(firsts):
            return []
        begins = firsts[np.concatenate(([0], breaks + 1))]
        stops = ends[np.concatenate((breaks, [len(ends) - 1]))]
        return list(zip(begins.tolist(), stops.tolist(), strict=True))

    def _all_gaps(self) -> list[tuple[int, int]]:
        told = []
        for found in self._segments:
            for entry in found.entries[found.entries["kind"] == Entry.GAP]:
                first = int(entry["first_sequence"])
                told.append((first, first + int(entry["count"]) - 1))
        known = sorted(told + [(first, end - 1) for first, end in self.spans])
        holes = [
            (before[1] + 1, behind[0] - 1)
            for before, behind in zip(known, known[1:], strict=False)
            if behind[0] > before[1] + 1
        ]
        return sorted(told + holes)

    def read(self, first: int, end: int) -> np.ndarray:
        """Return the slots of [first, end) as int64[n, words].

        Raises:
            SegmentError: not within one span, or a block's checksum is wrong: names the bytes.
        """
        at = bisect.bisect_right(self.spans, (first, 1 << 62)) - 1
        if not (at >= 0 and self.spans[at][0] <= first <= end <= self.spans[at][1]):
            raise SegmentError(
                f"{self.folder}: [{first}, {end}) was asked for, expected a range within one of"
                f" {_brief(self.spans)}"
            )
        slots = np.empty((end - first, self.words), np.int64)
        done = 0
        while done < len(slots):
            start = first + done - self._loaded_first
            if not 0 <= start < len(self._loaded):
                self._load(first + done, end, self.spans[at][1])
                start = first + done - self._loaded_first
            taken = self._loaded[start : start + len(slots) - done]
            slots[done : done + len(taken)] = taken
            done += len(taken)
        return slots

    def _load(self, first: int, end: int, span_end: int) -> None:
        """Keep the blocks from the one with `first` on, up to `end` or a little further."""
        block = bisect.bisect_right(self._firsts, first) - 1
        offsets = self._blocks["byte_offset"]
        behind = int(np.searchsorted(self._owner, self._owner[block], "right"))
        ahead = np.searchsorted(offsets[block:behind], offsets[block] + READ_AHEAD_BYTES)
        stop = max(bisect.bisect_left(self._firsts, end), block + int(ahead))
        self._load_blocks(block, min(stop, bisect.bisect_left(self._firsts, span_end)))

    def _load_blocks(self, block: int, stop: int) -> int:
        """Read, check and keep blocks of one file and of contiguous sequences.

        Args:
            block: first.
            stop: behind the last, as far as the file and LOAD_BYTES_MAX go; at least one is read.

        Returns:
            Behind the last one that was read.

        Raises:
            DamagedBlock: a checksum is wrong; what was loaded before stays.
        """
        owner, entries = int(self._owner[block]), self._blocks
        stop = min(stop, int(np.searchsorted(self._owner, owner, "right")))
        offsets = entries["byte_offset"][block:stop]
        offset = int(offsets[0])
        stop = block + max(1, int(np.searchsorted(offsets, offset + LOAD_BYTES_MAX)))
        sizes = self._sizes[block:stop]
        source = self._source_of(owner)
        words = source.read(offset, int(sizes.sum()) * 8)
        damaged = find_damaged(words, sizes, self._sums[block:stop])
        if damaged >= 0:
            raise self._damage(source.path, block + damaged)
        self._loaded_first, self._loaded = self._firsts[block], words.reshape(-1, self.words)
        return stop

    def _damage(self, path: Path, block: int) -> DamagedBlock:
        entry = self._blocks[block]
        offset, size = int(entry["byte_offset"]), int(self._sizes[block]) * 8
        found = checksum(self._source_of(int(self._owner[block])).read(offset, size))
        first, count = int(entry["first_sequence"]), int(entry["count"])
        return DamagedBlock(
            block,
            f"{path}: checksum of bytes {offset} to {offset + size - 1} (sequences {first} to"
            f" {first + count - 1}) is {found & (1 << 64) - 1:016x}, expected"
            f" {int(entry['slots_checksum']) & (1 << 64) - 1:016x}",
        )

    def _source_of(self, at: int) -> SlotSource:
        if at != self._open_segment or self._source is None:
            self.close()
            path = self._segments[at].path
            self._source = SlotSource(path if path.exists() else packed_path(path))
            self._open_segment = at
        return self._source

    def blocks(self, slots_max: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (first sequence, int64[n, words]) over all spans, at most `slots_max` at a time.

        Raises:
            SegmentError: a block's checksum is wrong.
        """
        for first, end in self.spans:
            for start in range(first, end, slots_max):
                yield start, self.read(start, min(end, start + slots_max))

    def check(self) -> list[str]:
        """Read everything and return what is wrong with it, one line each."""
        wrong = list(self.notes)
        block = 0
        while block < len(self._blocks):
            try:
                block = self._load_blocks(block, len(self._blocks))
            except DamagedBlock as error:
                wrong.append(str(error))
                block = error.block + 1
            except SegmentError as error:  # packed, and not to be unpacked
                wrong.append(str(error))
                block = int(np.searchsorted(self._owner, self._owner[block], "right"))
        self._loaded = self._loaded[:0]  # it may span a gap
        return wrong

    def close(self) -> None:
        """Close the file that is open, if one is."""
        if self._source is not None:
            self._source.close()
            self._source = None


def size_of(folder: Path) -> int:
    """Return the bytes of all files in a folder, which may come and go; 0 if there is none."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def bytes_of(layout: str) -> int:
    """Return the bytes of a slot of a layout; 8 if that is not known."""
    return 8 if layout in ("", STATE) else layout_of(layout)[1]


def _brief(spans: list[tuple[int, int]]) -> str:
    shown = ", ".join(f"[{first}, {end})" for first, end in spans[:4])
    return f"{shown}, and {len(spans) - 4} more" if len(spans) > 4 else shown or "none"


class Run:
    """A recorded run.

    Attributes:
        path: of its folder.
        manifest: what `write_manifest` was given.
        rings: by key; checkpoints of a strategy's state are under "<process>.state".
    """

    def __init__(self, path: Path, manifest: dict[str, Any], rings: dict[str, RingRecording]):
        self.path = path
        self.manifest = manifest
        self.rings = rings

    @classmethod
    def open(cls, path: Path | str) -> "Run":
        """Open a run's folder, whether it is still being recorded or not.

        Raises:
            UnavailableError: there is no run.
            SegmentError: the manifest or a segment cannot be used.
        """
        path = Path(path)
        manifest = read_manifest(path)
        known = manifest.get("rings")
        layouts = known if isinstance(known, dict) else {}
        folders = sorted(folder for folder in path.iterdir() if folder.is_dir())
        rings = {
            folder.name: RingRecording(folder, layouts.get(folder.name, "")) for folder in folders
        }
        return cls(path, manifest, rings)

    @property
    def size_bytes(self) -> int:
        """Of all its files."""
        return size_of(self.path)

    def check(self) -> list[str]:
        """Read everything and return what is wrong with it, one line each."""
        return [line for ring in self.rings.values() for line in ring.check()]

    def close(self) -> None:
        """Close the files."""
        for ring in self.rings.values():
            ring.close()


def read_manifest(run: Path) -> dict[str, Any]:
    """Return the manifest of a run's folder.

    Raises:
        UnavailableError: there is none.
        SegmentError: it is not one.
    """
    path = run / MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise UnavailableError(
            f"{path}: {(error.strerror or str(error)).lower()}, expected a recording's manifest"
        ) from None
    except msgspec.DecodeError as error:
        raise SegmentError(f"{path}: {error}, expected a JSON object") from None
    if not isinstance(manifest, dict):
        raise SegmentError(f"{path}: {type(manifest).__name__}, expected a JSON object")
    return manifest


def open(path: Path | str) -> np.ndarray:
    """Return one segment file as a structured array; a plain file is mapped, not read.

    Args:
        path: of a file of slots. With an index beside it, what the index covers, which is whole;
            without, all slots of the file. Checksums of blocks are not looked at: see
            `RingRecording.read` and `check`.

    Returns:
        np.memmap of the ring's records; of a market ring MARKET_SLOT[n], 64 bytes each. A packed
        file is unpacked into memory.

    Raises:
        SegmentError: not a segment, or of a layout or version that this program does not know.
    """
    path = Path(path)
    try:
        header = read_header(path)
    except FileNotFoundError:
        raise SegmentError(f"{path}: no such file, expected a recorded segment") from None
    dtype = slot_dtype(header.layout, header.record_bytes)
    if path.name.endswith(PACKED_SUFFIX):
        data = unpack(path)[header.data_offset :]
        count = len(data) // dtype.itemsize
        return data[: count * dtype.itemsize].view(dtype)[: _indexed(path, header, count)]
    count = _indexed(path, header, (path.stat().st_size - header.data_offset) // dtype.itemsize)
    if count == 0:
        return np.empty(0, dtype)
    return np.memmap(path, dtype, mode="r", offset=header.data_offset, shape=(count,))


def _indexed(path: Path, header: Header, count: int) -> int:
    """Return how many of a file's slots its index covers; all without one."""
    if not index_of(path).exists():
        return count
    end = header.data_offset
    for entry in last_entry(index_of(path)):
        slots = int(entry["count"]) if entry["kind"] == Entry.SLOTS else 0
        end = int(entry["byte_offset"]) + slots * header.record_bytes
    return min(count, (end - header.data_offset) // header.record_bytes)


def frame(path: Path | str, kinds: tuple[int, ...] = (), record: str = "") -> Any:
    """Return one segment file as a polars frame, a column per field but the reserved ones.

    Args:
        path: of a file of slots.
        kinds: of a market ring, only slots of these kinds; empty: all.
        record: of a market ring, show the slots as this record, such as "TRADE"; empty: as any
            slot, with six words behind what all begin with.

    Raises:
        SegmentError: see `open`; or the ring cannot hold such a record.
    """
    import polars

    slots = open(path)
    if kinds:
        slots = slots[np.isin(slots["kind"], kinds)]
    if record:
        if slots.dtype != MARKET_SLOT or record not in MARKET_SLOTS:
            raise SegmentError(
                f"{path}: record is {record!r}, expected one of {', '.join(MARKET_SLOTS)} of a"
                " market ring"
            )
        slots = np.ascontiguousarray(slots).view(dtype_of(record))
    return polars.DataFrame(
        {
            name: np.ascontiguousarray(slots[name])
            for name in slots.dtype.names or ()
            if not name.startswith("reserved")
        }
    )

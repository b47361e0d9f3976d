"""Recordings, written: the slots of a ring, byte for byte, to segment files in a run's folder.

    <run>/manifest.json                          what ran, and whether it is all here
    <run>/<producer>.<record>.<consumer>/        a folder per ring: segments, see slot_file.py
    <run>/<process>.state/                       checkpoints of a state block, layout STATE

Rules: a block's index entry is written when its slots have been, so a kill at any byte leaves a
whole prefix. A writer never appends to a file that another process began: every start and every
rotation begins a segment of its own, with O_EXCL. A write that failed is taken back and the writer
is broken: what was written before stays whole.

What survives: write(2) has returned, so a kill -9 loses nothing that has an entry. A segment is put
on the disk (fdatasync) when its writer is closed in order, not per block and not at a rotation,
which would stop the recorder for the disk; but every FLUSH_BYTES the kernel is asked to begin with
it, so that there is never much left to wait for. A power failure may cost what the kernel had not
yet written, at most its last 30 seconds or so; the checksums tell where that begins.

The reading side is in recorded.py and may be imported from here.
"""

import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from common import clock
from common.errors import SegmentError, UnavailableError
from shm.recorded import (
    MANIFEST,
    RecordedSegment,
    RingRecording,
    Run,
    frame,
    open,
    read_manifest,
    segments_of,
    size_of,
)
from shm.ring import layout_of
from shm.slot_file import (
    BLOCK_BYTES_MAX,
    ENTRY_WORDS,
    INDEX_SUFFIX,
    MARKET_SLOT,
    SLOTS_SUFFIX,
    STATE,
    Entry,
    checksum,
    encode_header,
    index_of,
    layout_text,
    segment_name,
)

__all__ = [
    "MANIFEST",
    "MARKET_SLOT",
    "RECORDINGS",
    "STATE",
    "RecordingError",
    "RecordedSegment",
    "RingRecording",
    "RingWriter",
    "Run",
    "frame",
    "open",
    "read_manifest",
    "segments_of",
    "size_of",
    "write_manifest",
]
RECORDINGS = "recordings"  # folder of all runs in a state folder
SEGMENT_BYTES_MAX = 1 << 28
FLUSH_BYTES = 1 << 23


class RecordingError(UnavailableError):
    """A recording cannot be written; what was written before is whole."""


class RingWriter:
    """Writes the recording of one ring; goes on where an earlier writer of the same run ended.

    Attributes:
        next_sequence: of the next slot to be written.
        gap_end: sequence behind the last GAP, of earlier writers too; 0 none.
        bytes_written: by this writer, headers and indexes included.
        closed: files of slots that this writer has closed in a rotation.
    """

    def __init__(
        self,
        run: Path,
        key: str,
        layout: str,
        capacity: int,
        *,
        first_sequence: int = 0,
        segment_bytes_max: int = SEGMENT_BYTES_MAX,
        segment_ns_max: int = 0,
        text: str = "",
        origin: bytes = b"",
    ) -> None:
        """Open the folder; the first file is made by the first write.

        Args:
            run: folder of the run; made if it is not there.
            key: of the ring, <producer>.<record>.<consumer>; names the folder.
            layout: MARKET, a name of LAYOUTS, or STATE.
            capacity: of the live ring.
            first_sequence: where the recording begins, unless the folder holds some already.
            segment_bytes_max: a new segment is begun when the slots of one are so many bytes.
            segment_ns_max: and when it is so old, 0: at no age.
            text: tables of the records; empty: those of the layout.
            origin: header page of the live ring, kept byte for byte.

        Raises:
            SegmentError: no such layout, or the folder holds what cannot be used.
            RecordingError: the folder cannot be made.
        """
        self.folder = run / key
        self.key = key
        self.layout = layout
        self.capacity = capacity
        self._text = text or layout_text(layout)
        self._origin = origin
        self._segment_bytes_max = segment_bytes_max
        self._segment_ns_max = segment_ns_max
        self._slots_fd = self._index_fd = -1
        self._entry = np.zeros(ENTRY_WORDS, np.int64)
        self._offset = self._index_bytes = self._begun_ns = self._record_bytes = 0
        self._data_offset = self._previous = self._flushed = 0
        self._path = self.folder
        self.is_broken = False
        self.bytes_written = 0
        self.gap_end = 0
        self.closed: list[Path] = []
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise _refused(self.folder, error) from None
        self.next_sequence = self._recorded_end(first_sequence)

    def _recorded_end(self, first_sequence: int) -> int:
        """Return where an earlier writer ended; remove what it had only begun.

        Slots without an index are what a removal that was cut short has left.
        """
        for index in self.folder.glob(f"*{INDEX_SUFFIX}"):
            if index.stat().st_size < ENTRY_WORDS * 8:
                _remove(index.with_suffix(SLOTS_SUFFIX))
        for path in self.folder.glob(f"*{SLOTS_SUFFIX}"):
            if path.stat().st_size == 0 or not index_of(path).exists():
                _remove(path)
        for draft in self.folder.glob("*.part"):
            draft.unlink()
        end = first_sequence
        for found in segments_of(self.folder):
            if np.any(found.entries["kind"] != Entry.END):
                last = found.entries[-1]
                end = int(last["first_sequence"] + last["count"])
                gaps = found.entries[found.entries["kind"] == Entry.GAP]
                if len(gaps):
                    self.gap_end = int(gaps[-1]["first_sequence"] + gaps[-1]["count"])
            else:
                _remove(found.path)
        return end

    def write(self, records: np.ndarray) -> None:
        """Write slots that follow what was written before.

        Args:
            records: int64[n, words], or n records of the layout's dtype.

        Raises:
            RecordingError: the disk is full or gone; nothing is written after that.
        """
        if len(records) == 0:
            return
        words = np.ascontiguousarray(records).view(np.int64).reshape(len(records), -1)
        record_bytes = words.shape[1] * 8
        if self.layout != STATE and record_bytes != self._recorded_bytes():
            raise SegmentError(
                f"{self.folder}: records of {record_bytes} bytes, expected"
                f" {self._recorded_bytes()} of {self.layout}"
            )
        step = max(1, BLOCK_BYTES_MAX // record_bytes)
        for start in range(0, len(words), step):
            self._make_room(record_bytes)
            self._write_block(words[start : start + step].reshape(-1), record_bytes)

    def _write_block(self, words: np.ndarray, record_bytes: int) -> None:
        count = len(words) * 8 // record_bytes
        try:
            _write_all(self._slots_fd, words)
            self._append(Entry.SLOTS, self.next_sequence, count, checksum(words))
        except OSError as error:
            self._break()
            raise _refused(self._path, error) from None
        self._offset += words.nbytes
        if self._offset - self._flushed >= FLUSH_BYTES:
            self._begin_flush()
        self.bytes_written += words.nbytes
        self.next_sequence += count

    def _begin_flush(self) -> None:
        """Let the kernel begin to write; Linux takes this advice for dirty pages and returns."""
        size = self._offset - self._flushed
        os.posix_fadvise(self._slots_fd, self._flushed, size, os.POSIX_FADV_DONTNEED)
        self._flushed = self._offset

    def gap(self, first_lost: int, last_lost: int) -> None:
        """Say that [first_lost, last_lost] of the ring were not recorded, and go on behind them.

        Raises:
            SegmentError: they do not follow what was written before.
            RecordingError: see `write`.
        """
        if first_lost != self.next_sequence or last_lost < first_lost:
            raise SegmentError(
                f"{self.folder}: gap is {first_lost} to {last_lost}, expected it to begin at"
                f" {self.next_sequence}"
            )
        self._make_room(self._record_bytes or self._recorded_bytes())
        count = last_lost - first_lost + 1
        try:
            self._append(Entry.GAP, first_lost, count, 0)
        except OSError as error:
            self._break()
            raise _refused(self._path, error) from None
        self.next_sequence += count
        self.gap_end = self.next_sequence

    def _recorded_bytes(self) -> int:
        """Bytes of a slot that was not seen yet."""
        if self.layout == STATE:
            raise SegmentError(f"{self.folder}: gap before the first checkpoint, expected none")
        return layout_of(self.layout)[1]

    def _append(self, kind: Entry, first_sequence: int, count: int, slots_checksum: int) -> None:
        entry = self._entry
        entry[0] = kind
        entry[1] = first_sequence
        entry[2] = count
        entry[3] = self._offset
        entry[4] = slots_checksum
        entry[6] = self._previous
        entry[7] = checksum(entry[: ENTRY_WORDS - 1])
        _write_all(self._index_fd, entry)
        self._previous = int(entry[7])
        self._index_bytes += entry.nbytes
        self.bytes_written += entry.nbytes

    def _make_room(self, record_bytes: int) -> None:
        """Begin the first segment, or the next one when this one is full or old."""
        if self.is_broken:
            raise RecordingError(f"{self._path}: an earlier write failed, expected none")
        if self._slots_fd >= 0:
            if record_bytes != self._record_bytes:
                raise SegmentError(
                    f"{self._path}: records of {record_bytes} bytes, expected {self._record_bytes}"
                )
            is_full = self._offset - self._data_offset >= self._segment_bytes_max
            is_old = 0 < self._segment_ns_max <= clock.now_ns() - self._begun_ns
            if not (is_full or is_old):
                return
            self._end_segment(is_last=False)
            self.closed.append(self._path)
        self._begin_segment(record_bytes)

    def _begin_segment(self, record_bytes: int) -> None:
        header, self._previous = encode_header(
            self.key,
            self.layout,
            self.capacity,
            record_bytes,
            self.next_sequence,
            self._text,
            self._origin,
        )
        self._path = self.folder / (segment_name(self.next_sequence) + SLOTS_SUFFIX)
        self._record_bytes, self._begun_ns = record_bytes, clock.now_ns()
        self._offset = self._index_bytes = self._flushed = (
            0  # nothing to keep if the header cannot be written
        )
        try:
            self._slots_fd = _create(self._path)
            self._index_fd = _create(self._path.with_suffix(INDEX_SUFFIX))
            _write_all(self._slots_fd, np.frombuffer(header, np.uint8))
        except OSError as error:
            self._break()
            raise _refused(self._path, error) from None
        self._offset = self._data_offset = len(header)
        self.bytes_written += len(header)

    def _end_segment(self, is_last: bool) -> None:
        try:
            self._append(Entry.END, self.next_sequence, 0, 0)
            if is_last:
                os.fdatasync(self._slots_fd)
                os.fdatasync(self._index_fd)
        except OSError as error:
            self._break()
            raise _refused(self._path, error) from None
        self._close_files()

    def _break(self) -> None:
        """Stop writing for good, and take back what a failed write has left."""
        self.is_broken = True
        for fd, size in ((self._slots_fd, self._offset), (self._index_fd, self._index_bytes)):
            if fd >= 0:
                try:
                    os.ftruncate(fd, size)
                except OSError:
                    continue  # readers stop at the last whole entry
        self._close_files()

    def _close_files(self) -> None:
        for fd in (self._slots_fd, self._index_fd):
            if fd >= 0:
                os.close(fd)
        self._slots_fd = self._index_fd = -1

    def close(self) -> None:
        """End the segment in order and put it on the disk; an empty one tells of the layout.

        Raises:
            RecordingError: that failed; what has an entry is whole all the same.
        """
        if self._path == self.folder and self.layout != STATE:
            self._begin_segment(self._recorded_bytes())
        if self._slots_fd >= 0:
            self._end_segment(is_last=True)


def write_manifest(run: Path, manifest: dict[str, Any]) -> None:
    """Write or replace the manifest of a run; it appears whole or not at all.

    Raises:
        RecordingError: the disk is full or gone.
    """
    draft = run / f"{MANIFEST}.part"
    try:
        run.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft.unlink(missing_ok=True)
        fd = _create(draft)
        try:
            content = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
            _write_all(fd, np.frombuffer(content, np.uint8))
            os.fdatasync(fd)
        finally:
            os.close(fd)
        os.rename(draft, run / MANIFEST)
    except OSError as error:
        raise _refused(run / MANIFEST, error) from None


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _remove(path: Path) -> None:
    """Remove a segment, its index first: readers go by the index, so killed between it is gone."""
    index_of(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _write_all(fd: int, data: np.ndarray) -> None:
    rest = memoryview(data).cast("B")
    while rest:
        rest = rest[os.write(fd, rest) :]


def _refused(path: Path, error: OSError) -> RecordingError:
    return RecordingError(f"{path}: {(error.strerror or str(error)).lower()}, expected to write it")

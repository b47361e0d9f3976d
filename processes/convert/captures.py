"""Raw captures as runs of market slots: lines of `<local receive time, ns> <raw JSON>`.

The kernels and the rules are the replay's: the same lines become the same records. A snapshot line
without a symbol belongs to the symbol that was asked for.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from common.binance_depth import snapshot_end_slots, snapshot_slots
from common.errors import UsageError
from common.records import SLOT_WORDS
from processes.convert.market import find_messages
from processes.convert.problems import Problems, clip
from processes.convert.registry import Registry
from processes.convert.text import TextFile
from processes.feed.decoded import Decoded, new_state, slots_max
from processes.replay.capture import (
    FOREIGN,
    LINE_END,
    LINE_FIRST,
    LINE_STATUS,
    LINE_TS,
    LOOK,
    SNAPSHOT_MARKER,
    new_reading,
    read_lines,
)
from processes.replay.snapshot_line import Foreign, is_json_without_event, snapshot_of
from shm.ring import anonymous_ring

VENUE = "binance-usdm"  # whose frames the decoder reads
LEVELS_MAX = 48_000  # of one depth message, both sides
RING_SLOTS = 1 << 15
LINES_PER_CALL = 8_192
FRAME_BYTES_MAX = 1 << 24
_MARKER = SNAPSHOT_MARKER.tobytes()
_EXPECTED = {
    Decoded.OFF_GRID: "multiples of tick and lot; if they were smaller then, give --tick-size"
    " and --lot-size",
    Decoded.NEGATIVE: "no negative number",
    Decoded.TOO_LONG: "at most 18 digits",
    Decoded.KEY_MISSING: "all keys that the venue documents",
    Decoded.SYNTAX: "JSON",
}


class CaptureSource:
    """A raw capture; see Source.

    Args:
        path: plain or gzip.
        registry: knows the one symbol that is wanted.
        problems: told of bad lines.

    Raises:
        UsageError: the file cannot be read, or no symbol was asked for.
    """

    def __init__(self, path: Path, registry: Registry, problems: Problems) -> None:
        if not registry.options.symbol:
            raise UsageError("--symbol: missing, expected the symbol that the capture is wanted of")
        registry.enter(path, VENUE)
        self.path, self.problems = path, problems
        self.instrument = registry.register(registry.options.symbol)
        self._symbols = registry.table
        self._text = TextFile(path)
        self.size_bytes = self._text.size_bytes
        self.rows = self.foreign_rows = self.back_rows = 0
        self._last_ns = 0
        self._reading = new_reading()
        self._decoder = new_state(FRAME_BYTES_MAX, LEVELS_MAX)
        scratch_slots = 1 << (slots_max(LEVELS_MAX) - 1).bit_length()
        self._scratch = np.zeros((scratch_slots, SLOT_WORDS), np.int64)
        self._producer, self._consumer = anonymous_ring("MARKET", RING_SLOTS)

    @property
    def bytes_read(self) -> int:
        """How far it is."""
        return self._text.bytes_read

    def batches(self) -> Iterator[np.ndarray]:
        """Yield int64[n, 8]: whole messages."""
        lines_before = 0
        reading = self._reading
        for text, end in self._text.blocks():
            pos = 0
            while pos < end:
                pos, status = read_lines(
                    text, pos, end, self._symbols, self._decoder, self._scratch,
                    self._producer.end, reading, LINES_PER_CALL, SNAPSHOT_MARKER,
                )  # fmt: skip
                slots = self._consumer.read(RING_SLOTS)
                if len(slots):
                    yield self._counted(slots)
                if status == LOOK:
                    line = lines_before + int((text[: reading[LINE_FIRST]] == 10).sum()) + 1
                    snapshot = self._look(text, line)
                    if snapshot is not None:
                        yield self._counted(snapshot)
            lines_before += int((text[:end] == 10).sum())
        self.foreign_rows += int(reading[FOREIGN])
        if self._text.damage:
            self.problems.add(f"{self.path}: {self._text.damage}, expected a whole file")

    def _counted(self, slots: np.ndarray) -> np.ndarray:
        """Count messages, and those whose time is before that of the one before."""
        starts = np.zeros(len(slots), np.int64)
        count = find_messages(slots, starts)
        stamps = slots[starts[:count], 1]
        before = np.concatenate(([self._last_ns], stamps[:-1]))
        self.back_rows += int((stamps < before).sum())
        self._last_ns = int(stamps[-1])
        self.rows += count
        return slots

    def _look(self, text: np.ndarray, number: int) -> np.ndarray | None:
        """Return the slots of a snapshot line; tell of a line that is bad."""
        reading = self._reading
        line = text[reading[LINE_FIRST] : reading[LINE_END]].tobytes()
        status = int(reading[LINE_STATUS])
        if status == 0:
            self._tell(number, line, "nanoseconds, a space and JSON")
        elif _MARKER in line:
            return self._look_at_snapshot(line, number)
        elif not is_json_without_event(line):
            expected = _EXPECTED.get(Decoded(status), "an event as the venue documents it")
            self._tell(number, line, f"{expected} ({Decoded(status).name})")
        return None

    def _look_at_snapshot(self, line: bytes, number: int) -> np.ndarray | None:
        ts_recv_ns = int(self._reading[LINE_TS])
        try:
            snapshot = snapshot_of(line, self.instrument.symbol)
            if snapshot is None:
                return None
            begin = snapshot_slots(snapshot, self.instrument, 0, ts_recv_ns, ts_recv_ns)
        except Foreign:
            self.foreign_rows += 1
            return None
        except ValueError as error:
            self._tell(number, line, f"a depth snapshot ({error})")
            return None
        end = snapshot_end_slots(snapshot, self.instrument.instrument_id, 0, ts_recv_ns, ts_recv_ns)
        return np.concatenate((begin, end))

    def _tell(self, number: int, line: bytes, expected: str) -> None:
        found = clip(line.decode("utf-8", "replace"))
        self.problems.tell(self.path, number, f"found {found}", expected)

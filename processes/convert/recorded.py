"""A recorded run, read message by message, for the exports."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from common.enums import MarketKind
from common.errors import UsageError
from common.instruments import Instrument
from common.records import SLOT_WORDS
from processes.convert.market import find_messages
from processes.inspector.recorded import find_run
from shm.recording import RingRecording, Run

SLOTS_AT_ONCE = 1 << 16
MARKET = "MARKET"


class Messages:
    """The whole messages of one market ring.

    Args:
        ring: the recording.

    Attributes:
        slots_left_out: of messages whose beginning or end was not recorded.
        slots_read: so far.
    """

    def __init__(self, ring: RingRecording) -> None:
        self.ring = ring
        self.slots_left_out = 0
        self.slots_read = 0

    def batches(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (sequence of the first slot, int64[n, 8]): whole messages, without a break."""
        first = 0
        rest = np.zeros((0, SLOT_WORDS), np.int64)
        for sequence, block in self.ring.blocks(SLOTS_AT_ONCE):
            words = np.ascontiguousarray(block).view(np.int64).reshape(-1, SLOT_WORDS)
            self.slots_read += len(words)
            if sequence != first + len(rest):
                self.slots_left_out += len(rest)
                rest = rest[:0]
            first = sequence - len(rest)
            slots = np.concatenate((rest, words))
            starts = np.zeros(len(slots), np.int64)
            starts = starts[: find_messages(slots, starts)]
            last = int(starts[-1])
            is_cut = last + ((int(slots[last, 0]) >> 16) & 0xFFFF) > len(slots)
            end = last if is_cut else len(slots)
            rest = slots[end:]
            begin = self._skip_beheaded(slots[:end])
            if begin < end:
                yield first + begin, slots[begin:end]
            first += end
        self.slots_left_out += len(rest)

    def _skip_beheaded(self, slots: np.ndarray) -> int:
        """Return where the first header is: a gap may have taken that of the first levels."""
        is_header = (slots[:, 0] & 0xFF) != MarketKind.LEVELS
        begin = int(np.argmax(is_header)) if is_header.any() else len(slots)
        self.slots_left_out += begin
        return begin


class Recording:
    """A run and what its manifest says of instruments and clocks.

    Args:
        run: its folder, or its id.

    Attributes:
        instruments: by their ids.
        wall_offset_ns: wall clock minus CLOCK_MONOTONIC when the run began; 0 of imported data.

    Raises:
        UsageError: no such run, or no instruments in its manifest.
        SegmentError, UnavailableError: it is not a recording that can be used.
    """

    def __init__(self, run: Path | str) -> None:
        path = find_run(str(run))
        self.run = Run.open(path)
        manifest = self.run.manifest
        try:
            self.instruments = msgspec.convert(manifest["instruments"], list[Instrument])
            started = int(manifest["started_wall_ns"]), int(manifest["started_ns"])
        except (KeyError, TypeError, ValueError, msgspec.ValidationError) as error:
            raise UsageError(
                f"{path}: manifest: {error!r}, expected instruments, started_wall_ns and started_ns"
            ) from None
        self.wall_offset_ns = started[0] - started[1]

    def market_rings(self) -> list[RingRecording]:
        """Return the rings that bring the venue's messages in: of feed and rest, not of book."""
        return [
            ring
            for key, ring in self.run.rings.items()
            if ring.layout == MARKET and key.split(".")[0] in ("feed", "rest")
        ]

    def slots_total(self, rings: list[RingRecording]) -> int:
        """Return how many slots there are in some rings."""
        return sum(end - first for ring in rings for first, end in ring.spans)

    def close(self) -> None:
        """Close all files."""
        self.run.close()

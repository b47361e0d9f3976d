"""One recorded source: a ring and its file, or a state block and its checkpoints."""

from pathlib import Path

import numpy as np

from processes.recorder.config import RecorderConfig
from processes.wiring import StateSpec
from shm.observer import Observer
from shm.recording import STATE, RingWriter
from shm.turn import Twin

NS_PER_S = 1_000_000_000
TRIES_MAX = 16


class RingTap:
    """Moves what a ring publishes to its recording.

    It goes on where an earlier recorder of the same run ended if the ring still holds that, else it
    records a GAP; the same when it was lapped.

    Attributes:
        key: of the ring.
        laps, lost: GAPs recorded, and how many slots they tell of.
        gap_end: sequence behind the last GAP, 0 none.
    """

    def __init__(self, run: Path, key: str, name: str, config: RecorderConfig) -> None:
        """Attach to the ring and open its folder.

        Raises:
            UnavailableError, SegmentError: no such ring, or not usable.
            RecordingError: the folder cannot be made.
        """
        self.key = key
        self.observer = Observer(name)
        self.writer = RingWriter(
            run,
            key,
            self.observer.record,
            self.observer.capacity,
            first_sequence=self.observer.first_sequence,
            segment_bytes_max=config.segment_bytes_max,
            segment_ns_max=config.segment_s_max * NS_PER_S,
            origin=self.observer.header,
        )
        self.observer.next_sequence = self.writer.next_sequence
        self.laps = 0
        self.lost = 0
        self.gap_end = self.writer.gap_end

    def move(self, buffer: np.ndarray) -> int:
        """Record at most a buffer full; return how many slots.

        Args:
            buffer: int64[n], changed.

        Raises:
            RecordingError: the disk is full or gone.
        """
        count, lapped = self.observer.read_into(buffer)
        if lapped:
            self.gap_end = self.observer.next_sequence
            self.writer.gap(self.gap_end - lapped, self.gap_end - 1)
            self.laps += 1
            self.lost += lapped
        if count:
            width = self.observer.width
            self.writer.write(buffer[: count * width].reshape(count, width))
        return count

    def close(self) -> None:
        """Leave the ring; the file is closed by its writer."""
        self.observer.close()


class StateTap:
    """Copies a committed state block to its recording, one record per checkpoint."""

    def __init__(self, run: Path, spec: StateSpec, name: str, config: RecorderConfig) -> None:
        """Attach to the block and open its folder.

        Raises:
            UnavailableError: there is no such block yet.
            SegmentError, RecordingError: see `RingTap`.
        """
        self.spec = spec
        self.twin = Twin.watch(name)
        self.turn = -1  # of the last checkpoint
        self.writer = RingWriter(
            run,
            spec.key,
            STATE,
            1,
            segment_bytes_max=config.segment_bytes_max,
            segment_ns_max=config.segment_s_max * NS_PER_S,
            origin=self.twin.header,
        )
        self._record = np.zeros((1, 1 + self.twin.words.shape[1]), np.int64)

    def take(self) -> bool | None:
        """Record the committed block if a turn has been logged since the last time.

        Returns:
            True: recorded; False: nothing new; None: a turn came between each time.

        Raises:
            RecordingError: the disk is full or gone.
        """
        if self.twin.flips == 0:
            return False
        for _ in range(TRIES_MAX):
            copy = self.twin.read()
            if copy is None:
                continue
            words = copy.view(np.int64)
            turn = int(words[self.spec.turn_word])
            if turn == self.turn:
                return False
            self._record[0, 0] = turn
            self._record[0, 1:] = words
            self.writer.write(self._record)
            self.turn = turn
            return True
        return None

    def close(self) -> None:
        """Leave the block; the file is closed by its writer."""
        self.twin.close()

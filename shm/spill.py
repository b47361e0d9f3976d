"""Policy "spill" of a full ring, for reports: nothing is dropped."""

import numpy as np

from shm.ring import Producer
from shm.words import P_SPILLED


class Spill:
    """Keeps what does not fit, in order, and tries again.

    Attributes:
        record_count_max: more than this is refused, and the caller must stop its source.
    """

    def __init__(self, producer: Producer, record_count_max: int) -> None:
        self.producer = producer
        self.record_count_max = record_count_max
        self._kept: list[np.ndarray] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def write(self, records: np.ndarray) -> bool:
        """Publish records (one message) now, or behind those that wait; False: over the limit."""
        if self._count == 0 and self.producer.try_write(records):
            return True
        if self._count + len(records) > self.record_count_max:
            return False
        self._kept.append(records.copy())
        self._set_count(self._count + len(records))
        self.flush()
        return True

    def flush(self) -> int:
        """Publish what fits, oldest first; return how many records went."""
        before, done = self._count, 0
        for records in self._kept:
            if not self.producer.try_write(records):
                break
            done += 1
            self._count -= len(records)
        if done:
            del self._kept[:done]
            self._set_count(self._count)
        return before - self._count

    def _set_count(self, count: int) -> None:
        self._count = count
        self.producer.end.own[P_SPILLED] = count

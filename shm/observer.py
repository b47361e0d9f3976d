"""Observers of a ring: read what others exchange, alive or dead, and disturb nobody."""

import numpy as np
from numba import njit

from shm import segment
from shm.atomics import fence_acquire, load_acquire
from shm.cursors import load_word
from shm.ring import DATA_PAGE, FLAG_OVERWRITE, layout_of, ledger, shaped
from shm.segment import CONSUMER_PAGE, OWN_PAGE, PAGE_BYTES, Header, Kind, Role, Segment
from shm.words import P_CLAIM, P_CURSOR


@njit(cache=True, _nrt=False)
def _copy_valid(slots, producer, first, end, copy):
    """Copy [first, end) out of a ring that the producer may overwrite meanwhile.

    Args:
        slots: int64[capacity, n], read-only: the slots of any ring as words.
        producer: int64[512], the producer page, read-only.
        first, end: sequences.
        copy: int64[end - first, n], changed.

    Returns:
        True if no slot of the copy was claimed again before the copy was done.

    Order: the acquire fence keeps the copy before the load of the claim cursor.
    """
    capacity = len(slots)
    for sequence in range(first, end):
        slot = sequence & (capacity - 1)
        for word in range(slots.shape[1]):
            copy[sequence - first, word] = slots[slot, word]
    fence_acquire()
    return first >= load_acquire(producer, P_CLAIM) - capacity


class Observer:
    """A reader that the producer knows nothing of: maps read-only, may be lapped, never disturbs.

    Attributes:
        record: record name of the ring.
        next_sequence: where it reads on.
        read_count, lapped_count: its own ledger since `start_sequence`.
    """

    def __init__(self, name: str, *, from_oldest: bool = False) -> None:
        """Attach by name alone.

        Args:
            name: of the ring, whose ends may be alive or dead.
            from_oldest: begin at the oldest slot that is still whole, which may be inside a
                message; else at the producer cursor.

        Raises:
            UnavailableError: no such ring.
            SegmentError: not usable, or laid out otherwise than this program.
        """
        self.name = name
        self._segment = Segment.attach(name, Kind.RING, writable=False)
        self.record = self._segment.record
        self.capacity = self._segment.capacity
        found = int(self._segment.header[Header.FINGERPRINT])
        segment.check_fingerprint(name, found, layout_of(self.record)[0])
        self._producer = self._segment.map_words(OWN_PAGE, writable=False)
        size = self.capacity * int(self._segment.header[Header.RECORD_BYTES])
        data = self._segment.map_bytes(DATA_PAGE * PAGE_BYTES, size, writable=False)
        self._slots = data.view(np.int64).reshape(self.capacity, -1)
        published = self.published
        oldest = max(
            int(self._segment.header[Header.FIRST_SEQUENCE]),
            int(load_word(self._producer, P_CLAIM)) - self.capacity,
        )
        self.start_sequence = min(oldest, published) if from_oldest else published
        self.next_sequence = self.start_sequence
        self.read_count = 0
        self.lapped_count = 0

    @property
    def published(self) -> int:
        """Producer cursor."""
        return int(load_word(self._producer, P_CURSOR))

    @property
    def lag(self) -> int:
        """Published and not yet read."""
        return self.published - self.next_sequence

    def read(self, limit: int) -> tuple[np.ndarray, int, int]:
        """Copy at most `limit` records.

        Returns:
            (records, first_sequence, lapped): lapped > 0 means that many records before
            first_sequence were overwritten unread; then there are no records, and reading goes on
            at the producer cursor, which is a message boundary.
        """
        first, published = self.next_sequence, self.published
        end = min(published, first + limit)
        copy = np.empty((end - first, self._slots.shape[1]), np.int64)
        records = shaped(copy.view(np.uint8).reshape(-1), self.record)
        if _copy_valid(self._slots, self._producer, first, end, copy):
            self.next_sequence = end
            self.read_count += end - first
            return records, first, 0
        self.next_sequence = self.published
        lapped = self.next_sequence - first
        self.lapped_count += lapped
        return records[:0], self.next_sequence, lapped

    def close(self) -> None:
        """Leave the ring."""
        self._segment.close()


def ring_stats(name: str) -> dict[str, int]:
    """Read the ledger of any ring, alive or dead, without disturbing it.

    Returns:
        capacity, offered, published, gaps, dropped, spilled, loss_untold, consumed, lag, lag_max,
        sleeping, overwrite (1: nobody consumes, lag says nothing), and pid, attaches and held (1: a
        living process is it) of both ends.

    Raises:
        UnavailableError: no such ring. SegmentError: not usable.
    """
    ring = Segment.attach(name, Kind.RING, writable=False)
    try:
        stats = ledger(
            ring.map_words(OWN_PAGE, writable=False),
            ring.map_words(CONSUMER_PAGE, writable=False),
            ring.capacity,
            int(ring.header[Header.FIRST_SEQUENCE]),
        )
        stats["overwrite"] = int(ring.header[Header.FLAGS] & FLAG_OVERWRITE)
        stats["producer_held"] = int(ring.is_role_held(Role.PRODUCER))
        stats["consumer_held"] = int(ring.is_role_held(Role.CONSUMER))
    finally:
        ring.close()
    return stats

"""Observers of a ring: read what others exchange, alive or dead, and disturb nobody."""

import numpy as np
from numba import njit

from shm import segment
from shm.atomics import fence_acquire, load_acquire
from shm.cursors import load_word
from shm.ring import DATA_PAGE, FLAG_OVERWRITE, layout_of, ledger, shaped
from shm.segment import CONSUMER_PAGE, OWN_PAGE, PAGE_BYTES, Header, Kind, Role, Segment
from shm.words import C_CURSOR, P_CLAIM, P_CURSOR


@njit(cache=True, _nrt=False)
def _copy_valid(slots, width, producer, first, end, copy):
    """Copy [first, end) out of a ring that the producer may overwrite meanwhile.

    Args:
        slots: int64[capacity * width], read-only: the slots of any ring as words.
        width: words of a slot.
        producer: int64[512], the producer page, read-only.
        first, end: sequences, at most the capacity apart.
        copy: int64[at least (end - first) * width], changed.

    Returns:
        True if no slot of the copy was claimed again before the copy was done.

    Order: the acquire fence keeps the copy before the load of the claim cursor.
    """
    capacity = len(slots) // width
    start = (first & (capacity - 1)) * width
    count = (end - first) * width
    head = min(count, len(slots) - start)
    for i in range(head):
        copy[i] = slots[start + i]
    for i in range(head, count):
        copy[i] = slots[i - head]
    fence_acquire()
    return first >= load_acquire(producer, P_CLAIM) - capacity


class Observer:
    """A reader that the producer knows nothing of: maps read-only, may be lapped, never disturbs.

    Attributes:
        record: record name of the ring.
        width: words of a slot.
        first_sequence: of the ring's first record.
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
        self._consumer: np.ndarray | None = None
        self._slots = data.view(np.int64)
        self.width = len(self._slots) // self.capacity
        self.first_sequence = int(self._segment.header[Header.FIRST_SEQUENCE])
        published = self.published
        oldest = max(self.first_sequence, int(load_word(self._producer, P_CLAIM)) - self.capacity)
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
        ahead = max(0, min(self.lag, limit))
        copy = np.empty((ahead, self.width), np.int64)
        count, lapped = self.read_into(copy.reshape(-1))
        records = shaped(copy.view(np.uint8).reshape(-1), self.record)[:count]
        return records, self.next_sequence - count, lapped

    def read_into(self, buffer: np.ndarray) -> tuple[int, int]:
        """Copy as many records as a buffer holds; for readers that take all there is, for ever.

        Args:
            buffer: int64[n], changed; the records, one behind the other.

        Returns:
            (count, lapped): the records are those before `next_sequence`; lapped > 0 means that so
            many before `next_sequence` were overwritten unread, see `read`; then count is 0.
        """
        first, published = self.next_sequence, self.published
        end = min(published, first + len(buffer) // self.width)
        is_there = end - first <= self.capacity
        if is_there and _copy_valid(self._slots, self.width, self._producer, first, end, buffer):
            self.next_sequence = end
            self.read_count += end - first
            return end - first, 0
        self.next_sequence = self.published
        lapped = self.next_sequence - first
        self.lapped_count += lapped
        return 0, lapped

    @property
    def consumed(self) -> int:
        """Consumer cursor."""
        if self._consumer is None:
            self._consumer = self._segment.map_words(CONSUMER_PAGE, writable=False)
        return int(load_word(self._consumer, C_CURSOR))

    @property
    def is_written(self) -> bool:
        """True while a living process is the producer."""
        return self._segment.is_role_held(Role.PRODUCER)

    @property
    def header(self) -> bytes:
        """Header page of the ring."""
        return self._segment.header.tobytes()

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


def warm_up() -> None:
    """Compile the kernels for the types that an observer has."""
    page = np.zeros(PAGE_BYTES // 8, np.int64)
    page.flags.writeable = False
    load_word(page, P_CURSOR)
    _copy_valid(page, 1, page, 0, 0, np.zeros(1, np.int64))

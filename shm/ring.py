"""SPSC ring, the ends: create a segment, attach as producer or consumer; or both in private memory.

The kernels are in cursors.py and may be imported from here.
"""

import numpy as np

from common.enums import GapReason
from common.errors import SegmentError
from common.layout import fingerprint
from common.records import LAYOUTS, MARKET_FINGERPRINT, SLOT_WORDS
from shm import segment
from shm.cursors import (
    RING_FULL,
    In,
    Out,
    abandon,
    available,
    clear_told_loss,
    count_dropped,
    count_offered,
    load_word,
    look_ahead,
    publish,
    release,
    take,
    take_back,
    try_claim,
    try_claim_or_drop,
    try_write_gap,
)
from shm.doorbell import Doorbell, Words
from shm.segment import CONSUMER_PAGE, OWN_PAGE, PAGE_BYTES, Header, Kind, Role, Segment
from shm.words import (
    C_CURSOR,
    C_LAG_MAX,
    C_SLEEPING,
    L_BELL,
    L_CAPACITY,
    L_CLAIMED,
    L_END,
    L_LAG_MAX,
    L_LIMIT,
    L_PUBLISHED,
    L_RELEASED,
    L_RESERVED,
    L_TAKEN,
    LOCAL_WORDS,
    P_CLAIM,
    P_CURSOR,
    P_DROPPED,
    P_GAP_SEQUENCE,
    P_GAPS,
    P_LOST_REASON,
    P_OFFERED,
    P_SPILLED,
    PAGE_WORDS,
    ROLE_ATTACHES,
    ROLE_PID,
    SEQUENCE_MAX,
    UNBOUNDED,
)

__all__ = [
    "MARKET",
    "RING_FULL",
    "Consumer",
    "In",
    "Out",
    "Producer",
    "Words",
    "abandon",
    "anonymous_ring",
    "available",
    "count_dropped",
    "count_offered",
    "create_ring",
    "look_ahead",
    "publish",
    "release",
    "take",
    "take_back",
    "try_claim",
    "try_claim_or_drop",
    "try_write_gap",
]
MARKET = "MARKET"
CAPACITY_MAX = 1 << 26
DATA_PAGE = 3
FLAG_OVERWRITE = 1


def layout_of(record: str) -> tuple[int, int]:
    """Return (fingerprint, bytes) of the slots of a ring of `record`.

    Raises:
        SegmentError: there is no such record.
    """
    if record == MARKET:
        return MARKET_FINGERPRINT, SLOT_WORDS * 8
    if record not in LAYOUTS:
        raise SegmentError(f"ring: record is {record!r}, expected MARKET or a name of LAYOUTS")
    return fingerprint(record), LAYOUTS[record].itemsize


def shaped(data: np.ndarray, record: str) -> np.ndarray:
    if record == MARKET:
        return data.view(np.int64).reshape(-1, SLOT_WORDS)
    return data.view(LAYOUTS[record])


def _check_capacity(where: str, capacity: int, record: str) -> None:
    least = 2 if record == MARKET else 1
    if capacity & (capacity - 1) or not least <= capacity <= CAPACITY_MAX:
        raise SegmentError(
            f"{where}: capacity is {capacity}, expected a power of two from {least} to 2^26"
        )


def create_ring(
    name: str, record: str, capacity: int, *, overwrite: bool = False, first_sequence: int = 0
) -> None:
    """Create the segment of a ring.

    Args:
        name: from registry.ring_name.
        record: MARKET (64-byte slots of any market record) or a name of LAYOUTS.
        capacity: slots, a power of two.
        overwrite: True: nobody may consume, the producer never waits, observers only.
        first_sequence: of the first record; tests start high.

    Raises:
        SegmentError: it exists, or an argument is out of range.
    """
    layout, record_bytes = layout_of(record)
    _check_capacity(name, capacity, record)
    segment.create(
        name,
        Kind.RING,
        record,
        layout,
        capacity=capacity,
        record_bytes=record_bytes,
        own_pages=2,
        data_bytes=capacity * record_bytes,
        first_sequence=first_sequence,
        flags=FLAG_OVERWRITE if overwrite else 0,
    )
    ring = Segment.attach(name, Kind.RING, layout, writable=True)
    producer = ring.map_words(OWN_PAGE, writable=True)
    producer[P_CURSOR] = producer[P_CLAIM] = first_sequence
    producer[P_GAP_SEQUENCE] = -1
    ring.map_words(CONSUMER_PAGE, writable=True)[C_CURSOR] = first_sequence
    ring.close()


def _attach(name: str, record: str) -> Segment:
    return Segment.attach(name, Kind.RING, layout_of(record)[0], writable=True)


def _check_cursors(name: str, capacity: int, producer: np.ndarray, consumed: int) -> None:
    published, claimed = int(load_word(producer, P_CURSOR)), int(load_word(producer, P_CLAIM))
    if not 0 <= consumed <= published <= claimed <= SEQUENCE_MAX or published - consumed > capacity:
        raise SegmentError(
            f"{name}: cursors are {consumed}, {published}, {claimed},"
            f" expected consumed <= published <= claimed, at most {capacity} apart"
        )


class _End:
    """What both ends have: the namedtuple for kernels, its words, typed views, the segment."""

    def __init__(
        self, name: str, record: str, end: Out | In, first_sequence: int, ring: Segment | None
    ) -> None:
        self.name = name
        self.record = record
        self.end = end
        self.words = Words(end.local, end.own, end.other)
        self.capacity = len(end.slots)
        self.first_sequence = first_sequence
        self._segment = ring

    @property
    def epoch(self) -> int:
        """When the segment was created, CLOCK_MONOTONIC: which ring it is; 0 in private memory."""
        return 0 if self._segment is None else int(self._segment.header[Header.EPOCH])

    def view(self, dtype: np.dtype) -> np.ndarray:
        """Return the slots of a market ring as dtype[capacity]: same bytes, named fields."""
        slots = self.end.slots
        if dtype.itemsize * self.capacity != slots.nbytes:
            raise SegmentError(
                f"{self.name}: view of {dtype.itemsize} bytes a slot,"
                f" expected {slots.nbytes // self.capacity}"
            )
        return slots.reshape(-1).view(dtype)

    def stats(self) -> dict[str, int]:
        """Return the ledger; see `ring_stats`."""
        return ledger(*self._pages(), self.capacity, self.first_sequence)

    def audit(self) -> None:
        """Check header and cursors, once per second or so, in the process that holds this end.

        Raises:
            SegmentError: somebody has written where nobody may.
        """
        if self._segment is not None:
            self._segment.audit()
        producer, consumer = self._pages()
        if self.end.local[L_LIMIT] != UNBOUNDED:
            _check_cursors(self.name, self.capacity, producer, int(load_word(consumer, C_CURSOR)))

    def _pages(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the pages of producer and consumer, read-only."""
        own, other = read_only(self.end.own), self.end.other
        return (own, other) if isinstance(self.end, Out) else (other, own)

    def close(self) -> None:
        """Leave the ring; the segment stays."""
        if self._segment is not None:
            self._segment.close()


class Producer(_End):
    """The one writing end of a ring.

    Attributes:
        end: Out, for kernels.
        words: Words, for kernels that take ends of several record types.
    """

    end: Out

    def __init__(
        self, name: str, record: str, end: Out, first_sequence: int, ring: Segment | None = None
    ) -> None:
        super().__init__(name, record, end, first_sequence, ring)
        self._bell: Doorbell | None = None
        local, own = end.local, end.own
        published = own[P_CURSOR]
        local[L_CLAIMED] = local[L_PUBLISHED] = published
        local[L_CAPACITY] = self.capacity
        local[L_RESERVED] = 1 if record == MARKET else 0
        local[L_LIMIT] = published  # the first claim looks at the consumer
        local[L_BELL] = -1
        _repair_ledger(own, first_sequence)

    @classmethod
    def open(cls, name: str, record: str) -> "Producer":
        """Attach as the producer; a dead one's unpublished claims are forgotten.

        Raises:
            UnavailableError: no such ring; RoleTaken: a living process is its producer.
            SegmentError: the segment is not usable.
        """
        ring = _attach(name, record)
        with ring.closed_on_error():
            own = ring.map_words(OWN_PAGE, writable=True)
            ring.take_role(Role.PRODUCER, own)
            other = ring.map_words(CONSUMER_PAGE, writable=False)
            overwrite = bool(ring.header[Header.FLAGS] & FLAG_OVERWRITE)
            size = ring.capacity * int(ring.header[Header.RECORD_BYTES])
            data = ring.map_bytes(DATA_PAGE * PAGE_BYTES, size, writable=True)
            if not overwrite:
                _check_cursors(name, ring.capacity, read_only(own), int(other[C_CURSOR]))
        end = Out(shaped(data, record), np.zeros(LOCAL_WORDS, np.int64), own, other)
        producer = cls(name, record, end, int(ring.header[Header.FIRST_SEQUENCE]), ring)
        if overwrite:
            end.local[L_LIMIT] = UNBOUNDED
        return producer

    def connect_bell(self, name: str) -> None:
        """Ring that doorbell after a publish if the consumer sleeps; not connected: never ring."""
        self._bell = Doorbell.open(name)
        self.end.local[L_BELL] = self._bell.fd

    @property
    def bell_fd(self) -> int:
        """File descriptor of the consumer's doorbell, -1 if not connected."""
        return int(self.end.local[L_BELL])

    def try_write(self, records: np.ndarray) -> int:
        """Publish all records at once if there is room; cold path.

        Args:
            records: 64-byte records or int64[n, 8] for a market ring, else records of its dtype.

        Returns:
            How many were written: all or 0. Those written are counted as offered, others not.
        """
        count = len(records)
        if count == 0:
            return 0
        first = try_claim(self.end, count)
        if first < 0:
            return 0
        source = shaped(np.ascontiguousarray(records).view(np.uint8).reshape(-1), self.record)
        slot = first & (self.capacity - 1)
        head = min(count, self.capacity - slot)
        self.end.slots[slot : slot + head] = source[:head]
        self.end.slots[: count - head] = source[head:]
        count_offered(self.end, count)
        publish(self.end)
        return count

    def write(self, records: np.ndarray, instrument_id: int = -1) -> int:
        """Publish all records at once, or count all as dropped; see `try_write`."""
        written = self.try_write(records)
        if written == 0 and len(records):
            count_offered(self.end, len(records))
            count_dropped(self.end, len(records), GapReason.RING_FULL.value, instrument_id)
        return written

    def close(self) -> None:
        """Leave the ring; the segment stays."""
        super().close()
        self.end.local[L_BELL] = -1
        if self._bell is not None:
            self._bell.close()


def _repair_ledger(own: np.ndarray, first_sequence: int) -> None:
    """Bring the ledger to what a dead producer had published, and clear a loss that it had told."""
    published = int(own[P_CURSOR])
    if 0 <= own[P_GAP_SEQUENCE] < published:
        clear_told_loss(own)
    own[P_GAP_SEQUENCE] = -1
    own[P_OFFERED] = published - first_sequence - own[P_GAPS] + own[P_DROPPED]
    own[P_SPILLED] = 0


class Consumer(_End):
    """The one reading end of a ring.

    Attributes:
        end: In, for kernels.
        words: Words, for kernels that take ends of several record types.
    """

    end: In

    def __init__(
        self, name: str, record: str, end: In, first_sequence: int, ring: Segment | None = None
    ) -> None:
        super().__init__(name, record, end, first_sequence, ring)
        local, own = end.local, end.own
        local[L_RELEASED] = local[L_TAKEN] = local[L_END] = own[C_CURSOR]
        local[L_CAPACITY] = self.capacity
        local[L_LAG_MAX] = own[C_LAG_MAX]
        own[C_SLEEPING] = 0

    @classmethod
    def open(cls, name: str, record: str) -> "Consumer":
        """Attach as the consumer, where the last one released.

        Raises:
            UnavailableError: no such ring; RoleTaken: a living process is its consumer.
            SegmentError: the segment is not usable, or nobody may consume it.
        """
        ring = _attach(name, record)
        with ring.closed_on_error():
            if ring.header[Header.FLAGS] & FLAG_OVERWRITE:
                raise SegmentError(f"{name}: overwrites, expected observers only")
            own = ring.map_words(CONSUMER_PAGE, writable=True)
            ring.take_role(Role.CONSUMER, own)
            other = ring.map_words(OWN_PAGE, writable=False)
            size = ring.capacity * int(ring.header[Header.RECORD_BYTES])
            data = ring.map_bytes(DATA_PAGE * PAGE_BYTES, size, writable=False)
            _check_cursors(name, ring.capacity, other, int(own[C_CURSOR]))
        end = In(shaped(data, record), np.zeros(LOCAL_WORDS, np.int64), own, other)
        return cls(name, record, end, int(ring.header[Header.FIRST_SEQUENCE]), ring)

    def read(self, limit: int) -> np.ndarray:
        """Copy at most `limit` records out and release them; cold path.

        It does not know messages: a message of several slots may be cut by the limit.
        """
        first, end = available(self.end)
        end = min(end, first + limit)
        slots = np.arange(first, end) & (self.capacity - 1)
        records = self.end.slots[slots]
        if end > first:
            release(self.end, end)
        return records


def anonymous_ring(
    record: str, capacity: int, *, overwrite: bool = False, first_sequence: int = 0
) -> tuple[Producer, Consumer]:
    """Return both ends of a ring in private memory: same code and numba types, no locks."""
    _layout, record_bytes = layout_of(record)
    _check_capacity("anonymous ring", capacity, record)
    slots = shaped(np.zeros(capacity * record_bytes, np.uint8), record)
    producer, consumer = np.zeros((2, PAGE_WORDS), np.int64)
    producer[P_CURSOR] = producer[P_CLAIM] = consumer[C_CURSOR] = first_sequence
    producer[P_GAP_SEQUENCE] = -1
    out = Out(slots, np.zeros(LOCAL_WORDS, np.int64), producer, read_only(consumer))
    inp = In(read_only(slots), np.zeros(LOCAL_WORDS, np.int64), consumer, read_only(producer))
    ends = (
        Producer("anonymous", record, out, first_sequence),
        Consumer("anonymous", record, inp, first_sequence),
    )
    if overwrite:
        out.local[L_LIMIT] = UNBOUNDED
    return ends


def read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


def ledger(
    producer: np.ndarray, consumer: np.ndarray, capacity: int, first_sequence: int
) -> dict[str, int]:
    consumed = int(load_word(consumer, C_CURSOR))  # before the producer's: lag >= 0
    published = int(load_word(producer, P_CURSOR))
    return {
        "capacity": capacity,
        "offered": int(producer[P_OFFERED] + producer[P_GAPS]),
        "published": published - first_sequence,
        "gaps": int(producer[P_GAPS]),
        "dropped": int(producer[P_DROPPED]),
        "spilled": int(producer[P_SPILLED]),
        "loss_untold": int(producer[P_LOST_REASON] != 0),
        "consumed": consumed - first_sequence,
        "lag": published - consumed,
        "lag_max": int(consumer[C_LAG_MAX]),
        "sleeping": int(consumer[C_SLEEPING]),
        "producer_pid": int(producer[ROLE_PID]),
        "producer_attaches": int(producer[ROLE_ATTACHES]),
        "consumer_pid": int(consumer[ROLE_PID]),
        "consumer_attaches": int(consumer[ROLE_ATTACHES]),
    }

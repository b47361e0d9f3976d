"""Rings, tables and pages in private memory that outlive the processes that hold their ends."""

import numpy as np

from processes.wiring import RINGS, RingSpec
from shm.cursors import In, Out
from shm.ring import Consumer, Producer, anonymous_ring, ledger, read_only
from shm.table import TableReader, TableWriter, anonymous_table
from shm.words import C_CURSOR, L_LIMIT, LOCAL_WORDS, P_CURSOR, UNBOUNDED


class Ring:
    """One ring; `producer` and `consumer` attach a new process to it, as after a death.

    Attributes:
        key: "producer.record.consumer".
        seen: sequence up to which the trace has it.
    """

    def __init__(self, spec: RingSpec, capacity: int) -> None:
        self.key = spec.key
        self.spec = spec
        self.capacity = capacity
        producer, consumer = anonymous_ring(
            spec.layout, capacity, overwrite=spec.policy == "overwrite"
        )
        self.slots = producer.end.slots
        self.producer_page = producer.end.own
        self.consumer_page = consumer.end.own
        self.seen = 0
        self.is_attached = False

    def producer(self) -> Producer:
        """Attach as the producer."""
        end = Out(
            self.slots, np.zeros(LOCAL_WORDS, np.int64), self.producer_page,
            read_only(self.consumer_page),
        )  # fmt: skip
        made = Producer(self.key, self.spec.layout, end, 0)
        if self.spec.policy == "overwrite":
            end.local[L_LIMIT] = UNBOUNDED
        return made

    def consumer(self) -> Consumer:
        """Attach as the consumer."""
        end = In(
            read_only(self.slots), np.zeros(LOCAL_WORDS, np.int64), self.consumer_page,
            read_only(self.producer_page),
        )  # fmt: skip
        return Consumer(self.key, self.spec.layout, end, 0)

    @property
    def published(self) -> int:
        """Sequence behind the last published record."""
        return self.producer_page.item(P_CURSOR)

    @property
    def consumed(self) -> int:
        """Sequence behind the last released record."""
        return self.consumer_page.item(C_CURSOR)

    @property
    def lag(self) -> int:
        """Records that wait."""
        return self.published - self.consumed

    def stats(self) -> dict[str, int]:
        """Return the ledger."""
        return ledger(self.producer_page, self.consumer_page, self.capacity, 0)

    def take_new(self) -> np.ndarray:
        """Return copies of the records published since the last look."""
        first, self.seen = self.seen, self.published
        first = max(first, self.seen - self.capacity)
        return self.slots[np.arange(first, self.seen) & (self.capacity - 1)]


class Table:
    """One table; `writer` attaches a new process to it."""

    def __init__(self, record: str, rows: int) -> None:
        self.record = record
        writer, self.reader = anonymous_table(record, rows)
        self.versions, self.rows = writer.versions, writer.rows

    def writer(self) -> TableWriter:
        """Attach as the writer."""
        return TableWriter("anonymous", self.record, self.versions, self.rows, None)

    def read_end(self) -> TableReader:
        """Attach as a reader."""
        return TableReader(
            "anonymous", self.record, read_only(self.versions), read_only(self.rows), None
        )


def make_rings(capacities: dict[str, int]) -> dict[str, Ring]:
    """Return all rings of the wiring, with some capacities of their own."""
    return {spec.key: Ring(spec, capacities.get(spec.key, spec.capacity)) for spec in RINGS}

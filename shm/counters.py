"""Counters and latency histograms of one process, with their labels, readable by anybody.

Each process writes one segment: status words, int64 counters, log-linear histograms (16 buckets per
power of two, so a percentile is at most 6.25 % too high). Counting is a plain add in a kernel; what
the numbers mean stands as text in the segment.
"""

import json
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any

import numpy as np
from numba import njit

from common.enums import ProcessState
from common.errors import SegmentError
from shm import segment
from shm.bits import highest_set
from shm.segment import OWN_PAGE, PAGE_BYTES, Kind, Role, Segment, hash_bytes, round_up_to_page
from shm.words import PAGE_WORDS, ROLE_ATTACHES, ROLE_PID

SUB_BUCKETS = 16
BUCKETS_USED = 960  # of every int64 from 0 to 2^63 - 1
MAX_COLUMN = 960
SUM_COLUMN = 961
BUCKETS = 968
LABEL_BYTES_MAX = 1 << 20
_PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
_SUM_MAX = 1 << 62


class Status(IntEnum):
    """Words of the status page; written by the process itself."""

    STATE = 0  # ProcessState
    HEARTBEAT_NS = 1
    CORE = 2
    START_NS = 3
    CYCLE_NS_MAX = 4
    CYCLES_OVER_LIMIT = 5
    CYCLES = 6
    RESTARTS = 7
    PID = ROLE_PID


@njit(cache=True, _nrt=False, forceinline=True)
def bucket_of(value_ns):
    """Return the bucket of a duration; negative ones go to bucket 0."""
    if value_ns < SUB_BUCKETS:
        return max(value_ns, 0)
    power = highest_set(value_ns)
    return (power - 3) * SUB_BUCKETS + ((value_ns >> (power - 4)) & (SUB_BUCKETS - 1))


@njit(cache=True, _nrt=False)
def record_value(histograms, k, value_ns):
    """Count one duration.

    Args:
        histograms: int64[n, BUCKETS], changed; `Counters.histograms`.
        k: which one.
        value_ns: the duration.
    """
    histograms[k, bucket_of(value_ns)] += 1
    if value_ns > histograms[k, MAX_COLUMN]:
        histograms[k, MAX_COLUMN] = value_ns
    if 0 < value_ns < _SUM_MAX - histograms[k, SUM_COLUMN]:
        histograms[k, SUM_COLUMN] += value_ns


def bucket_limit(bucket: int) -> int:
    """Return the largest duration of a bucket."""
    if bucket < SUB_BUCKETS:
        return bucket
    power = bucket // SUB_BUCKETS + 3
    return ((SUB_BUCKETS + bucket % SUB_BUCKETS + 1) << (power - 4)) - 1


def summarize(histogram: np.ndarray) -> dict[str, int]:
    """Return count, p50, p90, p99, p99.9, max and mean of one histogram row, in ns.

    A percentile is the upper limit of its bucket, and never more than the maximum.
    """
    buckets = histogram[:BUCKETS_USED]
    count, highest = int(buckets.sum()), int(histogram[MAX_COLUMN])
    summary = {"count": count}
    reached = np.cumsum(buckets)
    for name, share in _PERCENTILES.items():
        wanted = max(1, -int(-count * share // 1))
        bucket = int(np.searchsorted(reached, wanted)) if count else 0
        summary[name] = min(bucket_limit(bucket), highest)
    summary["max"] = highest
    summary["mean"] = int(histogram[SUM_COLUMN]) // count if count else 0
    return summary


class _Labels:
    """What the numbers are called: JSON text with the names and the labels."""

    def __init__(self, counters: Sequence[tuple[str, str]], histograms: Sequence[str]) -> None:
        self.counters = list(counters)
        self.histograms = list(histograms)
        self.text = json.dumps([self.counters, self.histograms]).encode()

    @classmethod
    def of(cls, labels: Mapping[Any, str], histograms: Sequence[str]) -> "_Labels":
        if sorted(labels) != list(range(len(labels))):
            raise SegmentError(f"counters: values are {sorted(labels)}, expected 0, 1, 2, ...")
        return cls([(key.name.lower(), labels[key]) for key in sorted(labels)], histograms)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Bytes of the counters, of the histograms and of the text, in whole pages."""
        return (
            round_up_to_page(len(self.counters) * 8),
            round_up_to_page(len(self.histograms) * BUCKETS * 8),
            round_up_to_page(len(self.text)),
        )


class Counters:
    """The numbers of this process.

    Attributes:
        status: int64[512], the words named in `Status`; changed by the runner.
        values: int64[n], for kernels: values[Counter.X] += 1.
        histograms: int64[k, BUCKETS], for `record_value`.
    """

    def __init__(
        self, name: str, labels: _Labels, pages: tuple[np.ndarray, ...], held: Segment | None
    ) -> None:
        self.name = name
        self.labels = labels
        self.status, self.values, self.histograms = pages
        self._segment = held

    @classmethod
    def create(
        cls, name: str, counter_labels: Mapping[Any, str], histogram_names: Sequence[str] = ()
    ) -> "Counters":
        """Create the segment, or go on with the one that this process left when it died.

        Args:
            name: tickring.<instance>.<process>.counters.
            counter_labels: one label per member, values 0, 1, 2, ...
            histogram_names: one per histogram.

        Raises:
            RoleTaken: a living process writes it.
            SegmentError: it exists with other labels, or /dev/shm is full.
        """
        labels = _Labels.of(counter_labels, histogram_names)
        layout = hash_bytes(labels.text)
        if not segment.exists(name):
            segment.create(
                name,
                Kind.COUNTERS,
                "COUNTERS",
                layout,
                capacity=len(labels.text),
                record_bytes=8,
                own_pages=1,
                data_bytes=sum(labels.sizes),
            )
        held = Segment.attach(name, Kind.COUNTERS, layout, writable=True)
        with held.closed_on_error():
            pages = _map(held, labels, writable=True)
            held.take_role(Role.WRITER, pages[0])
        # Written again each time: the process may have been killed before it had done so.
        first = 2 * PAGE_BYTES + sum(labels.sizes[:2])
        text = np.frombuffer(labels.text, np.uint8)
        held.map_bytes(first, len(labels.text), writable=True)[:] = text
        pages[0][Status.RESTARTS] = pages[0][ROLE_ATTACHES] - 1
        return cls(name, labels, pages, held)

    def close(self) -> None:
        """Leave it; the segment stays for the readers."""
        if self._segment is not None:
            self._segment.close()


def _map(held: Segment, labels: _Labels, *, writable: bool) -> tuple[np.ndarray, ...]:
    first = 2 * PAGE_BYTES
    counters, histograms, _text = labels.sizes
    values = histogram_words = np.zeros(0, np.int64)
    if counters:
        size = len(labels.counters) * 8
        values = held.map_bytes(first, size, writable=writable).view(np.int64)
    if histograms:
        size = len(labels.histograms) * BUCKETS * 8
        mapped = held.map_bytes(first + counters, size, writable=writable)
        histogram_words = mapped.view(np.int64)
    status = held.map_words(OWN_PAGE, writable=writable)
    return status, values, histogram_words.reshape(-1, BUCKETS)


class CountersReader:
    """The numbers of any process, alive or dead, with their labels."""

    def __init__(self, name: str, labels: _Labels, pages: tuple[np.ndarray, ...], held: Segment):
        self.name = name
        self.labels = labels
        self._status, self._values, self._histograms = pages
        self._segment = held

    @classmethod
    def open(cls, name: str) -> "CountersReader":
        """Attach by name alone.

        Raises:
            UnavailableError: there is none. SegmentError: it is not usable.
        """
        held = Segment.attach(name, Kind.COUNTERS, writable=False)
        text_bytes = held.capacity
        first = int(held.header[segment.Header.FILE_BYTES]) - round_up_to_page(text_bytes)
        text = held.map_bytes(first, text_bytes, writable=False).tobytes()
        segment.check_fingerprint(
            name, hash_bytes(text), int(held.header[segment.Header.FINGERPRINT])
        )
        counters, histograms = json.loads(text)
        labels = _Labels([(key, label) for key, label in counters], histograms)
        return cls(name, labels, _map(held, labels, writable=False), held)

    def status(self) -> dict[str, int | str]:
        """Return the status words by lower-case name; state as text; `held` 1: it is alive."""
        found: dict[str, int | str] = {
            word.name.lower(): int(self._status[word]) for word in Status
        }
        state = int(self._status[Status.STATE])
        known = {member.value: member.name for member in ProcessState}
        found["state"] = known.get(state, str(state))
        found["held"] = int(self._segment.is_role_held(Role.WRITER))
        return found

    def counters(self) -> dict[str, int]:
        """Return the counters by name."""
        return {
            key: int(value)
            for (key, _label), value in zip(self.labels.counters, self._values, strict=True)
        }

    def counter_labels(self) -> dict[str, str]:
        """Return the operator's label of each counter."""
        return dict(self.labels.counters)

    def histogram_names(self) -> list[str]:
        """Return the names of the histograms."""
        return self.labels.histograms

    def histogram(self, name: str) -> dict[str, int]:
        """Return count, p50, p90, p99, p99.9, max and mean of one histogram, in ns."""
        return summarize(self._histograms[self.labels.histograms.index(name)].copy())

    def close(self) -> None:
        """Leave it."""
        self._segment.close()


def anonymous_counters(
    counter_labels: Mapping[Any, str], histogram_names: Sequence[str] = ()
) -> Counters:
    """Return counters in private memory: same code and numba types."""
    labels = _Labels.of(counter_labels, histogram_names)
    pages = (
        np.zeros(PAGE_WORDS, np.int64),
        np.zeros(len(labels.counters), np.int64),
        np.zeros((len(labels.histograms), BUCKETS), np.int64),
    )
    return Counters("anonymous", labels, pages, None)

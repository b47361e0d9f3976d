"""Counters and histograms: right numbers under right names, over restarts."""

import enum
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.enums import ProcessState
from common.errors import SegmentError
from shm import registry
from shm.counters import (
    BUCKETS,
    BUCKETS_USED,
    Counters,
    CountersReader,
    Status,
    anonymous_counters,
    bucket_limit,
    bucket_of,
    record_value,
    summarize,
)
from shm.segment import RoleTaken


class Counter(enum.IntEnum):
    DIFFS_APPLIED = 0
    DIFFS_GAP = 1


LABELS = {
    Counter.DIFFS_APPLIED: "Depth diffs applied (monotonic)",
    Counter.DIFFS_GAP: "Depth diffs refused, gap: resync started (monotonic)",
}


@pytest.fixture
def name(instance):
    return registry.counters_name(instance, "book")


def test_reader_needs_nothing_but_the_name(name):
    counters = Counters.create(name, LABELS, ["recv_to_book", "cycle"])
    counters.values[Counter.DIFFS_GAP] += 3
    counters.status[Status.STATE] = ProcessState.READY
    counters.status[Status.CORE] = 4
    for value_ns in (10, 20, 1_000_000):
        record_value(counters.histograms, 1, value_ns)
    reader = CountersReader.open(name)
    assert reader.counters() == {"diffs_applied": 0, "diffs_gap": 3}
    assert reader.counter_labels()["diffs_gap"] == LABELS[Counter.DIFFS_GAP]
    assert reader.histogram_names() == ["recv_to_book", "cycle"]
    assert reader.histogram("cycle")["max"] == 1_000_000
    assert reader.histogram("recv_to_book")["count"] == 0
    status = reader.status()
    assert (status["state"], status["core"], status["pid"]) == ("READY", 4, os.getpid())
    assert (status["held"], status["restarts"]) == (1, 0)
    counters.close()
    assert reader.status()["held"] == 0
    reader.close()


def test_next_process_goes_on_counting(name):
    counters = Counters.create(name, LABELS, ["cycle"])
    counters.values[Counter.DIFFS_APPLIED] += 3
    with pytest.raises(RoleTaken):
        Counters.create(name, LABELS, ["cycle"])
    counters.close()
    counters = Counters.create(name, LABELS, ["cycle"])
    assert counters.values[Counter.DIFFS_APPLIED] == 3
    assert counters.status[Status.RESTARTS] == 1
    counters.close()
    with pytest.raises(SegmentError, match="layout is"):
        Counters.create(name, LABELS, ["another"])


def test_no_counters_and_no_histograms_are_possible(name):
    Counters.create(name, {}).close()
    reader = CountersReader.open(name)
    assert (reader.counters(), reader.histogram_names()) == ({}, [])
    reader.close()


def test_holes_in_the_enum_are_refused():
    class Broken(enum.IntEnum):
        A = 0
        B = 2

    with pytest.raises(SegmentError, match=r"values are \[.*\], expected 0, 1, 2"):
        anonymous_counters({Broken.A: "a", Broken.B: "b"})


@given(st.integers(0, (1 << 63) - 1))
def test_bucket_holds_its_value_within_one_sixteenth(value_ns):
    bucket = bucket_of(value_ns)
    assert 0 <= bucket < BUCKETS_USED
    assert value_ns <= bucket_limit(bucket) <= value_ns + max(0, value_ns // 16)
    assert bucket == 0 or bucket_limit(bucket - 1) < value_ns


def test_negative_durations_go_to_the_first_bucket():
    assert bucket_of(-5) == 0


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=200))
def test_percentiles_agree_with_sorted_values(values):
    histograms = np.zeros((1, BUCKETS), np.int64)
    for value_ns in values:
        record_value(histograms, 0, value_ns)
    found = summarize(histograms[0])
    ordered = sorted(values)
    assert (found["count"], found["max"]) == (len(values), ordered[-1])
    assert found["mean"] == sum(values) // len(values)
    for key, per_mille in (("p50", 500), ("p90", 900), ("p99", 990), ("p99.9", 999)):
        exact = ordered[max(1, -(-len(values) * per_mille // 1000)) - 1]
        assert exact <= found[key] <= exact + exact // 16

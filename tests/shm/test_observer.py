"""Observers: attach to anything, validate with the claim cursor, disturb nobody."""

import os

import numpy as np
import pytest
from numba import njit

from common.errors import SegmentError, UnavailableError
from common.records import LAYOUTS
from shm import registry, segment
from shm.observer import Observer, ring_stats
from shm.ring import MARKET, Consumer, Producer, create_ring, publish, try_claim
from shm.segment import Header


@pytest.fixture
def name(instance):
    name = registry.ring_name(instance, "a", "b", "c")
    create_ring(name, MARKET, 8, first_sequence=100)
    return name


def slots(first, count):
    return np.arange(first, first + count)[:, None] + np.zeros(8, np.int64)


@njit(cache=True, _nrt=False)
def claim(out, count):
    return try_claim(out, count)


def test_reads_behind_the_consumer_what_is_still_there(name):
    producer, consumer = Producer.open(name, MARKET), Consumer.open(name, MARKET)
    producer.write(slots(0, 6))
    consumer.read(6)
    late, oldest = Observer(name), Observer(name, from_oldest=True)
    records, first, lapped = oldest.read(4)
    assert (list(records[:, 0]), first, lapped) == ([0, 1, 2, 3], 100, 0)
    assert late.lag == 0 and oldest.lag == 2
    producer.write(slots(6, 3))
    assert list(late.read(9)[0][:, 0]) == [6, 7, 8]
    assert [len(late.read(9)[0]), len(oldest.read(9)[0])] == [0, 5]
    for end in (producer, consumer, late, oldest):
        end.close()


def test_a_claimed_slot_counts_as_overwritten_before_it_is_published(name):
    """The producer cursor would still call it whole: the claim cursor decides."""
    producer, consumer = Producer.open(name, MARKET), Consumer.open(name, MARKET)
    producer.write(slots(0, 7))
    consumer.read(7)
    observer = Observer(name, from_oldest=True)
    assert claim(producer.end, 2) == 107  # slots of 99 and 100: 100 may change from now on
    records, first, lapped = observer.read(3)
    assert (len(records), first, lapped) == (0, 107, 7)
    assert observer.read_count + observer.lapped_count + observer.lag == 7
    publish(producer.end)
    assert observer.read(9)[1:] == (107, 0)
    for end in (producer, consumer, observer):
        end.close()


def test_maps_read_only_and_changes_nothing(name):
    before = segment.path_of(name).read_bytes()
    observer = Observer(name, from_oldest=True)
    observer.read(9)
    with open("/proc/self/maps") as file:
        assert {line.split()[1] for line in file if name in line} == {"r--s"}
    observer.close()
    assert segment.path_of(name).read_bytes() == before


def test_works_on_a_ring_whose_ends_are_dead(instance):
    name = registry.ring_name(instance, "a", "report", "b")
    create_ring(name, "REPORT", 4)
    producer = Producer.open(name, "REPORT")
    reports = np.zeros(2, LAYOUTS["REPORT"])
    reports["client_order_id"] = [7, 8]
    producer.write(reports)
    producer.close()
    observer = Observer(name, from_oldest=True)
    assert observer.record == "REPORT"
    assert list(observer.read(9)[0]["client_order_id"]) == [7, 8]
    stats = ring_stats(name)
    assert (stats["producer_held"], stats["consumer_held"]) == (0, 0)
    assert (stats["producer_pid"], stats["published"], stats["lag"]) == (os.getpid(), 2, 2)
    observer.close()


def test_other_layout_and_missing_ring_are_refused(instance, name):
    with pytest.raises(UnavailableError, match="no such segment"):
        Observer(registry.ring_name(instance, "a", "b", "x"))
    path = segment.path_of(name)
    words = np.frombuffer(path.read_bytes(), np.int64).copy()
    words[Header.FINGERPRINT] ^= 1
    words[Header.CHECKSUM] = segment.hash_bytes(words[: Header.CHECKSUM].tobytes())
    path.write_bytes(words.tobytes())
    with pytest.raises(SegmentError, match="layout is"):
        Observer(name)


def test_reads_into_a_buffer_of_its_reader_across_the_end_of_the_ring(name):
    producer, consumer = Producer.open(name, MARKET), Consumer.open(name, MARKET)
    observer = Observer(name)
    buffer = np.zeros(5 * 8 + 7, np.int64)  # room for 5
    producer.write(slots(0, 6))
    assert observer.read_into(buffer) == (5, 0) and observer.next_sequence == 105
    assert buffer[:40:8].tolist() == [0, 1, 2, 3, 4]
    consumer.read(6)
    producer.write(slots(6, 4))
    assert observer.read_into(buffer) == (5, 0) and observer.consumed == 106
    assert buffer[:40].reshape(5, 8)[:, 7].tolist() == [5, 6, 7, 8, 9]
    assert observer.read_into(buffer) == (0, 0)
    for _ in range(4):
        consumer.read(8)
        producer.write(slots(0, 5))
    assert observer.read_into(buffer) == (0, 20) and observer.next_sequence == 130
    assert observer.is_written
    for end in (producer, consumer):
        end.close()
    assert not observer.is_written
    observer.close()

"""Ring kernels against a deque, the ledger, losses, and sequences far from 0."""

from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from common.enums import GapReason, MarketKind
from common.errors import SegmentError
from common.records import LAYOUTS
from shm.ring import (
    MARKET,
    RING_FULL,
    abandon,
    anonymous_ring,
    available,
    count_dropped,
    count_offered,
    publish,
    release,
    take,
    take_back,
    try_claim,
    try_claim_or_drop,
    try_write_gap,
)
from shm.spill import Spill
from shm.words import L_CLAIMED, P_CLAIM

GAP = LAYOUTS["GAP"]
TRADE = LAYOUTS["TRADE"]
REPORT = LAYOUTS["REPORT"]


def slots(first, count):
    words = np.zeros((count, 8), np.int64)
    words[:, 0] = MarketKind.TRADE | 1 << 16
    words[:, 2] = np.arange(first, first + count)
    return words


def reports(first, count):
    records = np.zeros(count, REPORT)
    records["client_order_id"] = np.arange(first, first + count)
    return records


@njit(cache=True, _nrt=False)
def write_message(out, count, value):
    """Claim `count` slots and write value, value + 1, ... into word 2; unpublished."""
    first = try_claim(out, count)
    if first >= 0:
        for i in range(count):
            out.slots[(first + i) & (len(out.slots) - 1), 2] = value + i
    return first


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, 5)),
        st.tuples(st.just("publish"), st.just(0)),
        st.tuples(st.just("abandon"), st.just(0)),
        st.tuples(st.just("read"), st.integers(1, 9)),
        st.tuples(st.just("turn"), st.integers(1, 9)),
    ),
    max_size=80,
)


@settings(max_examples=150, deadline=None)
@given(STEPS, st.sampled_from([2, 4, 8]), st.sampled_from([0, 5, (1 << 40) - 3]))
def test_ring_behaves_as_a_bounded_deque(steps, capacity, first_sequence):
    producer, consumer = anonymous_ring(MARKET, capacity, first_sequence=first_sequence)
    unpublished, published, value = [], deque(), 0
    for step, count in steps:
        if step == "write":
            fits = len(published) + len(unpublished) + count <= capacity - 1
            first = write_message(producer.end, count, value)
            assert (first != RING_FULL) == fits
            if fits:
                unpublished += range(value, value + count)
                value += count
        elif step == "publish":
            publish(producer.end)
            published += unpublished
            unpublished = []
        elif step == "abandon":
            abandon(producer.end)
            unpublished = []
        elif step == "read":
            expected = [published.popleft() for _ in range(min(count, len(published)))]
            found = consumer.read(count)
            # A cached producer cursor may show less than there is, never nothing, never wrong.
            assert list(found[:, 2]) == expected[: len(found)]
            assert len(found) > 0 or not expected
            published.extendleft(reversed(expected[len(found) :]))
        else:
            first, end = available(consumer.end)
            take(consumer.end, min(end, first + count))
            take_back(consumer.end)
        stats = producer.stats()
        assert stats["published"] == stats["consumed"] + stats["lag"]
        assert stats["lag"] == len(published)


def test_claim_cursor_never_falls_and_leads_the_producer():
    producer, consumer = anonymous_ring(MARKET, 8)
    assert write_message(producer.end, 5, 0) == 0
    assert producer.end.own[P_CLAIM] == 5
    abandon(producer.end)
    assert producer.end.local[L_CLAIMED] == 0
    assert producer.end.own[P_CLAIM] == 5
    assert write_message(producer.end, 2, 100) == 0
    assert producer.end.own[P_CLAIM] == 5
    publish(producer.end)
    assert list(consumer.read(8)[:, 2]) == [100, 101]


@pytest.mark.parametrize("first_sequence", [1 << 40, (1 << 40) - 3, (1 << 61) - 100])
def test_sequences_far_from_zero_name_the_right_slots(first_sequence):
    producer, consumer = anonymous_ring("REPORT", 4, first_sequence=first_sequence)
    for value in range(30):
        assert producer.write(reports(value * 2, 2)) == 2
        assert try_claim(producer.end, 3) == RING_FULL
        first, end = available(consumer.end)
        assert (first, end) == (first_sequence + value * 2, first_sequence + value * 2 + 2)
        view = consumer.end.slots
        assert [view[s & 3]["client_order_id"] for s in range(first, end)] == [
            value * 2,
            value * 2 + 1,
        ]
        release(consumer.end, end)
    assert producer.stats()["published"] == 60


def test_record_ring_uses_every_slot_market_ring_keeps_one():
    records, _ = anonymous_ring("REPORT", 8)
    market, _ = anonymous_ring(MARKET, 8)
    assert [records.write(reports(0, 8)), records.write(reports(0, 1))] == [8, 0]
    assert [market.write(slots(0, 8)), market.write(slots(0, 7))] == [0, 7]


def test_views_show_fields_of_the_same_bytes():
    producer, consumer = anonymous_ring(MARKET, 8)
    first = try_claim(producer.end, 1)
    producer.view(TRADE)[first]["price_steps"] = 77
    publish(producer.end)
    assert consumer.view(TRADE)["price_steps"][0] == 77
    assert consumer.read(1)[0, 3] == 77
    assert not consumer.view(TRADE).flags.writeable
    with pytest.raises(SegmentError, match="view of 256 bytes a slot, expected 64"):
        producer.view(REPORT)


def test_lag_max_is_the_highest_lag_the_consumer_saw():
    producer, consumer = anonymous_ring(MARKET, 8)
    producer.write(slots(0, 5))
    consumer.read(9)
    producer.write(slots(5, 2))
    consumer.read(9)
    assert producer.stats()["lag_max"] == 5


def test_drop_with_gap_tells_the_loss_before_the_next_message():
    producer, consumer = anonymous_ring(MARKET, 4)
    out = producer.end
    for value in range(3):
        assert try_claim_or_drop(out, 1, 1, 50) == value
        out.slots[value, 2] = value
    assert try_claim_or_drop(out, 2, 3, 51) == RING_FULL
    assert try_claim_or_drop(out, 1, 3, 52) == RING_FULL
    publish(out)
    stats = producer.stats()
    assert (stats["offered"], stats["dropped"], stats["gaps"]) == (7, 3, 1)
    found = consumer.read(9)
    assert list(found[:3, 2]) == [0, 1, 2]
    gap = found[3].view(GAP)[0]  # the reserved slot was free for it
    assert (gap["kind"], gap["slot_count"], gap["instrument_id"]) == (MarketKind.GAP, 1, 3)
    assert (gap["first_lost"], gap["last_lost"]) == (3, 4)
    assert (gap["reason"], gap["ts_recv_ns"], gap["ts_pub_ns"]) == (GapReason.RING_FULL, 52, 52)
    assert stats["loss_untold"] == 1  # the third loss came after the GAP was written
    assert try_claim_or_drop(out, 1, 3, 60) >= 0
    publish(out)
    gap, _message = consumer.read(9)
    assert (gap.view(GAP)["first_lost"], gap.view(GAP)["last_lost"]) == (5, 5)
    stats = producer.stats()
    assert stats["loss_untold"] == 0
    assert stats["offered"] == stats["published"] + stats["dropped"]


def test_losses_of_several_instruments_become_one_gap_for_all():
    producer, consumer = anonymous_ring(MARKET, 2)
    out = producer.end
    assert producer.write(slots(0, 1)) == 1
    for instrument_id in (4, 4, 9):
        count_offered(out, 1)
        count_dropped(out, 1, GapReason.RING_FULL, instrument_id)
    assert try_write_gap(out, 5) == 1
    assert try_write_gap(out, 5) == 0  # it is on its way
    publish(out)
    assert try_write_gap(out, 6) == 0
    gap = consumer.read(9)[1].view(GAP)[0]
    assert (gap["instrument_id"], gap["first_lost"], gap["last_lost"]) == (-1, 1, 3)


def test_abandoned_gap_is_told_again():
    producer, consumer = anonymous_ring(MARKET, 4)
    out = producer.end
    count_offered(out, 2)
    count_dropped(out, 2, GapReason.DECODE, 1)
    assert try_write_gap(out, 5) == 1
    abandon(out)
    publish(out)
    assert producer.stats()["loss_untold"] == 1
    assert try_write_gap(out, 6) == 1
    publish(out)
    assert list(consumer.read(9)[:, 2]) == [0]
    assert producer.stats()["loss_untold"] == 0


def test_gap_waits_while_even_its_slot_is_taken():
    producer, consumer = anonymous_ring(MARKET, 2)
    out = producer.end
    for _ in range(2):
        count_offered(out, 1)
        count_dropped(out, 1, GapReason.RING_FULL, 1)
        assert try_write_gap(out, 5) == 1
        publish(out)
    count_offered(out, 1)
    count_dropped(out, 1, GapReason.RING_FULL, 1)
    assert try_write_gap(out, 6) == -1
    consumer.read(1)
    assert try_write_gap(out, 7) == 1


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 4)), max_size=60))
def test_every_lost_slot_is_told_once_and_in_order(steps):
    """Random messages into a tiny ring, read at random: what is missing is what the GAPs say."""
    producer, consumer = anonymous_ring(MARKET, 4)
    out, seen, told = producer.end, [], []

    def read(limit):
        for slot in consumer.read(limit):
            if slot[0] & 255 == MarketKind.GAP:
                told.extend(range(slot[2], slot[3] + 1))
            else:
                seen.append(slot[2])
            numbers.append(slot[2])

    numbers, number = [], 0
    for count, limit in steps:
        first = try_claim_or_drop(out, count, 1, 9)
        if first >= 0:
            for i in range(count):
                out.slots[(first + i) & 3, 0] = MarketKind.TRADE
                out.slots[(first + i) & 3, 2] = number + i
        number += count
        publish(out)
        read(limit)
    while producer.stats()["lag"] or producer.stats()["loss_untold"]:
        try_write_gap(out, 9)
        publish(out)
        read(9)
    stats = producer.stats()
    assert sorted(seen + told) == list(range(number))  # each arrived once or was told once
    assert numbers == sorted(numbers)  # and where it was missing
    assert len(told) == stats["dropped"]
    assert stats["offered"] == stats["published"] + stats["dropped"]


def test_overwrite_ring_never_refuses():
    producer, _ = anonymous_ring("TURN", 4, overwrite=True)
    turns = np.zeros(3, LAYOUTS["TURN"])
    assert [producer.write(turns) for _ in range(10)] == [3] * 10
    assert producer.stats()["published"] == 30


def test_corrupt_cursor_ends_the_loop_instead_of_reading_outside():
    producer, consumer = anonymous_ring(MARKET, 4)
    producer.end.own[0] = 99
    with pytest.raises(AssertionError, match="producer cursor is corrupt"):
        available(consumer.end)
    consumer.end.own[0] = -5
    with pytest.raises(AssertionError, match="consumer cursor is corrupt"):
        try_claim(producer.end, 1)


def test_spill_keeps_order_and_forgets_nothing():
    producer, consumer = anonymous_ring("REPORT", 4)
    spill = Spill(producer, record_count_max=6)
    for value in range(0, 10, 2):
        assert spill.write(reports(value, 2))
    assert len(spill) == 6
    assert producer.stats()["spilled"] == 6
    assert not spill.write(reports(10, 1))
    seen = []
    while producer.stats()["lag"]:
        seen += list(consumer.read(3)["client_order_id"])
        spill.flush()
    assert seen == list(range(10))
    stats = producer.stats()
    assert (stats["offered"], stats["published"], stats["dropped"], stats["spilled"]) == (
        10,
        10,
        0,
        0,
    )
    assert len(spill) == 0


def test_write_counts_what_it_refuses():
    producer, _ = anonymous_ring("ORDER_REQUEST", 2)
    requests = np.zeros(2, LAYOUTS["ORDER_REQUEST"])
    assert [producer.write(requests), producer.write(requests), producer.write(requests[:0])] == [
        2,
        0,
        0,
    ]
    stats = producer.stats()
    assert (stats["offered"], stats["published"], stats["dropped"]) == (4, 2, 2)

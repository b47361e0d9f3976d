"""Turns: all or nothing, recovered on attach, refused where they do not belong."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from common.errors import SegmentError
from common.records import LAYOUTS
from shm import registry, segment
from shm.ring import (
    MARKET,
    Consumer,
    Producer,
    anonymous_ring,
    available,
    create_ring,
    take,
    try_claim,
)
from shm.segment import RoleTaken
from shm.turn import Twin, anonymous_twin, begin, cancel, finish, flip, state_hash

STATE = np.dtype([("sum", "<i8"), ("seen", "<i8", (3,))], align=True)
TURN = LAYOUTS["TURN"]


@njit(cache=True, _nrt=False)
def sum_up(turn, blocks, inp, other, out, log):
    """Take all of both inputs: add to the state, write the sums and one log record; unfinished."""
    state = blocks[begin(turn)]
    count = 0
    for i in range(2):
        end_of = inp if i == 0 else other
        first, end = available(end_of)
        for sequence in range(first, end):
            place = try_claim(out, 1)
            if place < 0:
                end = sequence
                break
            state["sum"] += end_of.slots[sequence & (len(end_of.slots) - 1), 0]
            out.slots[place & (len(out.slots) - 1), 0] = state["sum"]
        state["seen"][i] += end - first
        take(end_of, end)
        count += end - first
    if count == 0:
        cancel(turn)
        return 0
    place = try_claim(log, 1)
    log.slots[place & (len(log.slots) - 1)]["turn"] = state["sum"]
    return count


@njit(cache=True, _nrt=False)
def commit(turn):
    flip(turn)


class Middle:
    """Two inputs, two outputs of different records, one twin."""

    def __init__(self, capacity=8):
        self.sources, self.inputs = zip(
            anonymous_ring(MARKET, capacity), anonymous_ring(MARKET, capacity), strict=True
        )
        self.out, self.sink = anonymous_ring(MARKET, capacity)
        self.log, self.log_sink = anonymous_ring("TURN", capacity)
        self.twin = anonymous_twin(STATE)
        self.turn = self.twin.connect(self.inputs, [self.out, self.log])

    def sum_up(self):
        ends = [end.end for end in (*self.inputs, self.out, self.log)]
        return sum_up(self.turn, self.twin.blocks, *ends)


def slots(values):
    return np.array(values)[:, None] + np.zeros(8, np.int64)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 1),
            st.lists(st.integers(-9, 9), max_size=3),
            st.sampled_from(["commit", "cancel", "crash before flip", "crash behind flip"]),
        ),
        max_size=25,
    )
)
def test_outputs_are_the_running_sums_whatever_happens(steps):
    middle = Middle(capacity=128)
    waiting, sums, seen = ([], []), [], []
    for place, values, ending in steps:
        if values and middle.sources[place].try_write(slots(values)):
            waiting[place].extend(values)
        before = middle.twin.read()
        count = middle.sum_up()
        assert count == len(waiting[0]) + len(waiting[1])
        if count:
            if ending == "cancel":
                cancel(middle.turn)
            elif ending == "crash before flip":
                cancel(middle.turn)  # what a new process starts with: nothing taken or claimed
                middle.turn = middle.twin.connect(middle.inputs, [middle.out, middle.log])
            else:
                commit(middle.turn)
                if ending == "commit":
                    finish(middle.turn)
                else:
                    cancel(middle.turn)
                    middle.turn = middle.twin.connect(middle.inputs, [middle.out, middle.log])
                for value in waiting[0] + waiting[1]:
                    sums.append(sums[-1] + value if sums else value)
                waiting = ([], [])
        if ending in ("cancel", "crash before flip"):
            assert middle.twin.read() == before
        seen += list(middle.sink.read(99)[:, 0])
        middle.log_sink.read(99)
        assert seen == sums
        for ring in (*middle.inputs, middle.out, middle.log):
            stats = ring.stats()
            assert stats["offered"] == stats["published"] == stats["consumed"] + stats["lag"]
    assert middle.twin.read()["sum"] == (sums[-1] if sums else 0)


def test_full_output_leaves_its_input_for_the_next_turn():
    middle = Middle(capacity=4)
    middle.sources[0].write(slots([1, 2, 3]))
    assert middle.sum_up() == 3
    commit(middle.turn)
    finish(middle.turn)
    middle.sources[0].write(slots([4]))
    assert middle.sum_up() == 0  # its output is full, so it took nothing and was cancelled
    assert middle.inputs[0].stats()["lag"] == 1
    middle.sink.read(3)
    assert middle.sum_up() == 1


def test_state_hash_depends_on_every_word_and_only_on_the_state():
    twin = anonymous_twin(STATE)
    hashes = {state_hash(twin.words, 0)}
    assert state_hash(twin.words, 1) in hashes
    for word in range(4):
        twin.words[0, :] = 0
        for value in (1, -1, 1 << 62):
            twin.words[0, word] = value
            hashes.add(state_hash(twin.words, 0))
    assert len(hashes) == 1 + 4 * 3
    assert all(found >= 0 for found in hashes)


@pytest.fixture
def names(instance):
    rings = [registry.ring_name(instance, *parts) for parts in ("aib", "boc")]
    for name in rings:
        create_ring(name, MARKET, 8)
    twin = registry.segment_name(instance, "b", "state")
    Twin.create(twin, STATE)
    return (*rings, twin)


@njit(cache=True, _nrt=False)
def pass_on(turn, blocks, inp, out):
    state = blocks[begin(turn)]
    first, end = available(inp)
    for _ in range(first, end):
        try_claim(out, 1)
    state["sum"] += end - first
    take(inp, end)
    flip(turn)
    finish(turn)


def test_twin_of_another_run_or_wiring_is_refused(names):
    ring_in, ring_out, name = names
    source = Producer.open(ring_in, MARKET)
    consumer, producer = Consumer.open(ring_in, MARKET), Producer.open(ring_out, MARKET)
    twin = Twin.open(name, STATE)
    with pytest.raises(RoleTaken, match="writer is held by pid"):
        Twin.open(name, STATE)
    turn = twin.connect([consumer], [producer])
    source.write(slots([1, 2]))
    pass_on(turn, twin.blocks, consumer.end, producer.end)
    assert Twin.open(name, STATE, writable=False).read()["sum"] == 2
    watched = Twin.watch(name)
    assert watched.read().view(STATE)["sum"] == 2 and len(watched.header) == 4096
    watched.close()
    with pytest.raises(SegmentError, match="1 inputs, 1 outputs before"):
        twin.connect([consumer, consumer], [producer])
    with pytest.raises(SegmentError, match="cursors are ahead of the rings"):
        twin.connect([anonymous_ring(MARKET, 8)[1]], [producer])
    with pytest.raises(SegmentError, match="cursors are ahead of the rings"):
        twin.connect([consumer], [anonymous_ring(MARKET, 8)[0]])
    for end in (source, consumer, producer, twin):
        end.close()
    with pytest.raises(SegmentError, match="layout is"):
        Twin.open(name, np.dtype([("other", "<i8")]))
    segment.unlink(name)
    with pytest.raises(SegmentError, match="expected a multiple of 8"):
        Twin.create(name, np.dtype([("odd", "<i4")]))

"""Killed at any instruction: nothing torn, nothing doubled, nothing lost."""

import numpy as np
from numba import njit, typeof

from common.enums import GapReason, MarketKind
from common.records import LAYOUTS
from shm import registry, segment
from shm.atomics import debug_trap, store_release
from shm.observer import Observer, ring_stats
from shm.ring import (
    MARKET,
    Consumer,
    Producer,
    anonymous_ring,
    available,
    create_ring,
    publish,
    release,
    take,
    try_claim,
    try_claim_or_drop,
)
from shm.table import (
    READ_OK,
    READ_TORN,
    TableReader,
    TableWriter,
    anonymous_table,
    begin_write,
    create_table,
    end_write,
    read_row,
)
from shm.turn import Turn, Twin, begin, finish, flip, recover
from shm.words import L_CLAIMED, P_CURSOR

from tests.shm.children import shared_words
from tests.shm.single_step import kill_points

STATE = np.dtype([("sum", "<i8"), ("count", "<i8"), ("spare", "<i8", (2,))], align=True)


def compile_for(kernel, *arguments):
    """Compile for these arguments without running: a trap would end the test itself."""
    kernel.compile(tuple(typeof(argument) for argument in arguments))


def message(first, count=2):
    """Slots whose every word follows from the number of the slot."""
    return np.arange(first, first + count)[:, None] * 1000 + np.arange(8)


@njit(cache=True, _nrt=False)
def _write_slots(out, first, count, value):
    mask = len(out.slots) - 1
    for i in range(count):
        for word in range(8):
            out.slots[(first + i) & mask, word] = (value + i) * 1000 + word


@njit(cache=True, _nrt=False)
def push(out, value):
    debug_trap()
    first = try_claim(out, 2)
    _write_slots(out, first, 2, value)
    publish(out)
    debug_trap()


@njit(cache=True, _nrt=False)
def push_wrong(out, value):
    """Show the cursor before the payload: what a reordered publish would do."""
    debug_trap()
    first = try_claim(out, 2)
    store_release(out.own, P_CURSOR, out.local[L_CLAIMED])
    _write_slots(out, first, 2, value)
    debug_trap()


@njit(cache=True, _nrt=False)
def push_or_drop(out, value, now_ns):
    first = try_claim_or_drop(out, 1, 7, now_ns)
    if first >= 0:
        _write_slots(out, first, 1, value)
        publish(out)


@njit(cache=True, _nrt=False)
def push_or_drop_trapped(out, value, now_ns):
    debug_trap()
    push_or_drop(out, value, now_ns)
    debug_trap()


@njit(cache=True, _nrt=False)
def pop(inp, copy):
    debug_trap()
    first, end = available(inp)
    mask = len(inp.slots) - 1
    for sequence in range(first, end):
        for word in range(8):
            copy[(sequence - first) * 8 + word] = inp.slots[sequence & mask, word]
    release(inp, end)
    debug_trap()


@njit(cache=True, _nrt=False)
def write_position(versions, rows, value):
    debug_trap()
    begin_write(versions, 1)
    rows[1]["instrument_id"] = value
    rows[1]["position_steps"] = value
    rows[1]["funding_e8"] = value
    end_write(versions, 1)
    debug_trap()


@njit(cache=True, _nrt=False)
def do_turn_unfinished(turn, blocks, inp, out):
    """Running sums: every input record adds to the state and makes one output record."""
    state = blocks[begin(turn)]
    first, end = available(inp)
    for sequence in range(first, end):
        place = try_claim(out, 1)
        state["sum"] += inp.slots[sequence & (len(inp.slots) - 1), 0]
        state["count"] += 1
        out.slots[place & (len(out.slots) - 1), 0] = state["sum"]
        out.slots[place & (len(out.slots) - 1), 7] = state["sum"] + 7
    take(inp, end)
    flip(turn)


@njit(cache=True, _nrt=False)
def do_turn(turn, blocks, inp, out):
    do_turn_unfinished(turn, blocks, inp, out)
    finish(turn)


@njit(cache=True, _nrt=False)
def do_turn_trapped(turn, blocks, inp, out):
    debug_trap()
    do_turn(turn, blocks, inp, out)
    debug_trap()


@njit(cache=True, _nrt=False)
def recover_trapped(turn):
    debug_trap()
    recover(turn)
    debug_trap()


class Pushes:
    """A ring of 8 slots with one message in it; a child pushes the second."""

    def __init__(self, instance, kernel):
        self.name = registry.ring_name(instance, "a", "b", "c")
        self.kernel = kernel
        self.torn = 0
        compile_for(kernel, anonymous_ring(MARKET, 8)[0].end, 7)

    def prepare(self):
        segment.unlink(self.name)
        create_ring(self.name, MARKET, 8, first_sequence=5)
        producer = Producer.open(self.name, MARKET)
        assert producer.write(message(5)) == 2
        producer.close()

    def work(self):
        self.kernel(Producer.open(self.name, MARKET).end, 7)

    def check(self, _instructions):
        observer = Observer(self.name, from_oldest=True)
        assert np.array_equal(observer.read(2)[0], message(5))
        consumer = Consumer.open(self.name, MARKET)
        found = consumer.read(8)
        assert len(found) in (2, 4)
        self.torn += not np.array_equal(found, message(5, len(found)))
        producer = Producer.open(self.name, MARKET)
        assert producer.write(message(5 + len(found))) == 2
        assert np.array_equal(consumer.read(8), message(5 + len(found)))
        stats = producer.stats()
        assert stats["offered"] == stats["published"] == len(found) + 2
        for end in (observer, consumer, producer):
            end.close()


def test_push_is_whole_or_absent(instance):
    pushes = Pushes(instance, push)
    points = kill_points(pushes.work, pushes.prepare, pushes.check)
    assert points > 30
    assert pushes.torn == 0


def test_wrong_push_is_caught(instance):
    pushes = Pushes(instance, push_wrong)
    kill_points(pushes.work, pushes.prepare, pushes.check)
    assert pushes.torn > 0


def test_loss_is_told_exactly_once(instance):
    """A message is lost to a full ring; the next one is pushed with its GAP, or nothing is."""
    name = registry.ring_name(instance, "a", "b", "c")

    def prepare():
        segment.unlink(name)
        create_ring(name, MARKET, 4)
        producer = Producer.open(name, MARKET)
        assert [producer.write(message(0, 3)), producer.write(message(3, 2), 7)] == [3, 0]
        producer.close()
        consumer = Consumer.open(name, MARKET)
        assert len(consumer.read(8)) == 3
        consumer.close()

    def check(_instructions):
        producer, consumer = Producer.open(name, MARKET), Consumer.open(name, MARKET)
        found = list(consumer.read(8))
        assert len(found) in (0, 2)
        push_or_drop(producer.end, 6, 99)
        found += list(consumer.read(8))
        gap, messages = found[0], np.array(found[1:])
        assert (gap[0] & 0xFFFF, gap[0] >> 32) == (MarketKind.GAP, 7)
        assert list(gap[2:5]) == [3, 4, GapReason.RING_FULL]
        assert np.array_equal(messages, message(7 - len(messages), len(messages)))
        stats = producer.stats()
        assert stats["offered"] == stats["published"] + stats["dropped"]
        assert (stats["dropped"], stats["loss_untold"], stats["lag"]) == (2, 0, 0)
        producer.close()
        consumer.close()

    compile_for(push_or_drop_trapped, anonymous_ring(MARKET, 4)[0].end, 5, 98)
    points = kill_points(
        lambda: push_or_drop_trapped(Producer.open(name, MARKET).end, 5, 98), prepare, check
    )
    assert points > 30


def test_pop_releases_only_what_was_read(instance):
    name = registry.ring_name(instance, "a", "b", "c")
    copy = shared_words(8 * 8)

    def prepare():
        copy[:] = 0
        segment.unlink(name)
        create_ring(name, MARKET, 8)
        producer = Producer.open(name, MARKET)
        producer.write(message(0, 3))
        producer.close()

    def check(_instructions):
        consumer = Consumer.open(name, MARKET)
        found = consumer.read(8)
        if len(found) == 0:  # released: the dead consumer had read everything
            found = copy[: 3 * 8].reshape(3, 8)
        assert np.array_equal(found, message(0, 3))
        consumer.close()

    compile_for(pop, anonymous_ring(MARKET, 8)[1].end, copy)
    points = kill_points(lambda: pop(Consumer.open(name, MARKET).end, copy), prepare, check)
    assert points > 20


def position(value):
    row = np.zeros((), LAYOUTS["POSITION"])
    for field in ("instrument_id", "position_steps", "funding_e8"):
        row[field] = value
    return row


def test_table_row_is_old_or_new_or_detected(instance):
    name = registry.segment_name(instance, "a", "positions")
    seen = set()
    copy = np.zeros(1, LAYOUTS["POSITION"])

    def prepare():
        segment.unlink(name)
        create_table(name, "POSITION", 2)
        writer = TableWriter.open(name, "POSITION")
        writer.write(1, position(1))
        writer.close()

    def work():
        writer = TableWriter.open(name, "POSITION")
        write_position(writer.versions, writer.rows, 2)

    def check(_instructions):
        reader = TableReader.open(name, "POSITION")
        status = read_row(reader.versions, reader.rows, 1, copy)
        value = int(copy[0]["position_steps"]) if status == READ_OK else 0
        seen.add((status, value))
        assert status == READ_TORN or copy[0] == position(value)
        writer = TableWriter.open(name, "POSITION")
        repaired = reader.read(1)
        assert repaired is None if status == READ_TORN else repaired == position(value)
        writer.write(1, position(3))
        assert reader.read(1) == position(3)
        writer.close()
        reader.close()

    writer, _reader = anonymous_table("POSITION", 2)
    compile_for(write_position, writer.versions, writer.rows, 2)
    kill_points(work, prepare, check)
    assert seen == {(READ_OK, 1), (READ_TORN, 0), (READ_OK, 2)}


class Turns:
    """Two records in; a child makes one turn of them; the parent finishes the job."""

    def __init__(self, instance):
        self.input = registry.ring_name(instance, "a", "in", "b")
        self.output = registry.ring_name(instance, "b", "out", "c")
        self.twin = registry.segment_name(instance, "b", "state")
        self.turns_needed = set()

    def prepare(self):
        for name in (self.input, self.output, self.twin):
            segment.unlink(name)
        create_ring(self.input, MARKET, 8)
        create_ring(self.output, MARKET, 8)
        Twin.create(self.twin, STATE)
        source = Producer.open(self.input, MARKET)
        with Opened(self) as opened:  # a turn that was finished in peace
            source.write(message(1, 1))
            opened.do_turn()
        source.write(message(2, 2))
        source.close()

    def prepare_committed(self):
        """Leave a turn that was committed and not finished."""
        self.prepare()
        with Opened(self) as opened:
            opened.do_turn_without_finish()

    def check(self, _instructions):
        with Opened(self) as opened:
            lag = opened.consumer.stats()["lag"]
            self.turns_needed.add(int(lag > 0))
            assert lag in (0, 2)  # recovered: all of the turn or nothing
            if lag:
                opened.do_turn()
            state = opened.twin.read()
        sums = np.cumsum([1000, 2000, 3000])
        assert (state["sum"], state["count"]) == (sums[-1], 3)
        sink = Consumer.open(self.output, MARKET)
        found = sink.read(8)
        assert np.array_equal(found[:, 0], sums)
        assert np.array_equal(found[:, 7], sums + 7)
        sink.close()
        for name in (self.input, self.output):
            stats = ring_stats(name)
            assert stats["offered"] == stats["published"] == stats["consumed"] == 3


class Opened:
    """Everything that the process in the middle holds."""

    def __init__(self, turns):
        self.consumer = Consumer.open(turns.input, MARKET)
        self.producer = Producer.open(turns.output, MARKET)
        self.twin = Twin.open(turns.twin, STATE)

    def __enter__(self):
        self.turn = self.twin.connect([self.consumer], [self.producer])
        return self

    def connect_without_recovery(self):
        words = (self.consumer.words,), (self.producer.words,)
        return Turn(self.twin.control, self.twin.words, *words)

    def __exit__(self, *_error):
        self.consumer.close()
        self.producer.close()
        self.twin.close()

    def do_turn(self, kernel=do_turn):
        kernel(self.turn, self.twin.blocks, self.consumer.end, self.producer.end)

    def do_turn_without_finish(self):
        self.do_turn(do_turn_unfinished)


def test_turn_is_all_or_nothing(instance):
    turns = Turns(instance)

    def work():
        with Opened(turns) as opened:
            opened.do_turn(do_turn_trapped)

    turns.prepare()
    with Opened(turns) as opened:
        ends = opened.twin.blocks, opened.consumer.end, opened.producer.end
        compile_for(do_turn_trapped, opened.turn, *ends)
    points = kill_points(work, turns.prepare, turns.check)
    assert points > 100
    assert turns.turns_needed == {0, 1}


def test_recovery_may_be_killed_too(instance):
    turns = Turns(instance)

    def work():
        recover_trapped(Opened(turns).connect_without_recovery())

    turns.prepare()
    with Opened(turns) as opened:
        compile_for(recover_trapped, opened.turn)
    assert kill_points(work, turns.prepare_committed, turns.check) > 20
    assert turns.turns_needed == {0}

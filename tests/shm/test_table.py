"""Tables: newest wins, whole rows only, one writer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config, njit, typeof

from common.errors import SegmentError, UnavailableError
from common.records import LAYOUTS
from shm import registry
from shm.atomics import cpu_relax
from shm.observer import ring_stats
from shm.segment import RoleTaken
from shm.table import (
    READ_TORN,
    TableReader,
    TableWriter,
    anonymous_table,
    begin_write,
    create_table,
    end_write,
    read_row,
)

from tests.shm.children import fork, kill, shared_words
from tests.support import wait_until

POSITION = LAYOUTS["POSITION"]


@pytest.fixture
def name(instance):
    name = registry.segment_name(instance, "risk", "positions")
    create_table(name, "POSITION", 3)
    return name


def position(value):
    row = np.zeros((), POSITION)
    row["position_steps"] = row["funding_e8"] = value
    return row


@njit(cache=True, _nrt=False)
def begin(versions, row):
    begin_write(versions, row)


@njit(cache=True, _nrt=False)
def write_for_ever(versions, rows, progress):
    value = 0
    while True:
        value += 1
        begin_write(versions, 0)
        rows[0]["position_steps"] = value
        rows[0]["cost_steps2"] = value
        rows[0]["funding_e8"] = value
        end_write(versions, 0)
        progress[0] = value
        for _ in range(50):
            cpu_relax()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-9, 9)), max_size=30))
def test_table_behaves_as_a_dict(steps):
    writer, reader = anonymous_table("POSITION", 5)
    expected = {}
    for row, value in steps:
        writer.write(row, position(value))
        expected[row] = value
    for row in range(5):
        found = reader.read(row)
        assert (None if found is None else found["position_steps"]) == expected.get(row)
    assert list(reader.read_all()["position_steps"]) == [expected[row] for row in sorted(expected)]


def test_row_under_change_is_torn_until_it_is_done():
    writer, reader = anonymous_table("POSITION", 2)
    writer.write(1, position(5))
    copy = np.zeros(1, POSITION)
    begin(writer.versions, 1)
    assert read_row(reader.versions, reader.rows, 1, copy) == READ_TORN
    assert reader.read(1) is None
    assert len(reader.read_all()) == 0
    writer.versions[1] += 1
    assert reader.read(1) == position(5)


def test_writer_killed_in_a_row_leaves_it_empty_for_the_next(name):
    writer, reader = TableWriter.open(name, "POSITION"), TableReader.open(name)
    writer.write(0, position(1))
    writer.write(1, position(2))
    begin(writer.versions, 1)
    version = int(writer.versions[1])
    writer.close()
    assert reader.read(1) is None
    writer = TableWriter.open(name, "POSITION")
    assert [reader.read(0), reader.read(1), reader.read(2)] == [position(1), None, None]
    assert (writer.versions[1], writer.rows[1]["position_steps"]) == (-(version + 1), 0)
    writer.write(1, position(3))
    assert reader.read(1) == position(3)
    assert writer.versions[1] > version  # versions never come again
    writer.close()
    reader.close()


@pytest.mark.skipif(config.DISABLE_JIT, reason="plain Python keeps no order between processes")
def test_reader_of_a_busy_writer_gets_whole_rows_only(name):
    writer, reader = anonymous_table("POSITION", 1)
    compile_only = (writer.versions, writer.rows, np.zeros(1, np.int64))
    write_for_ever.compile(tuple(typeof(argument) for argument in compile_only))
    reader.read(0)
    progress = shared_words(1)

    def write():
        opened = TableWriter.open(name, "POSITION")
        write_for_ever(opened.versions, opened.rows, progress)

    child = fork(write)
    reader = TableReader.open(name, "POSITION")
    seen = set()

    def has_seen_enough():
        for _ in range(2_000):
            row = reader.read(0)
            if row is not None:
                assert row["position_steps"] == row["cost_steps2"] == row["funding_e8"]
                seen.add(int(row["position_steps"]))
        return len(seen) > 1_000

    try:
        wait_until(has_seen_enough, "rows read", deadline_s=30)
    finally:
        kill(child)
    reader.close()


def test_second_writer_wrong_record_and_wrong_row_are_refused(name):
    writer = TableWriter.open(name, "POSITION")
    with pytest.raises(RoleTaken, match="writer is held by pid"):
        TableWriter.open(name, "POSITION")
    with pytest.raises(SegmentError, match="layout is"):
        TableReader.open(name, "ORDER")
    with pytest.raises(SegmentError, match="kind is 2, expected RING"):
        ring_stats(name)
    with pytest.raises(IndexError, match="row is 3, expected 0 to 2"):
        writer.write(3, position(1))
    reader = TableReader.open(name)
    assert (reader.record, len(reader)) == ("POSITION", 3)
    assert not reader.rows.flags.writeable
    with pytest.raises(IndexError, match="row is -1"):
        reader.read(-1)
    with pytest.raises(SegmentError, match="0 rows of POSITION"):
        create_table(name, "POSITION", 0)
    with pytest.raises(UnavailableError):
        TableReader.open(name + "x")
    writer.close()
    reader.close()

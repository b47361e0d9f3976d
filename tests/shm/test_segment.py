"""A segment is refused unless it is exactly what was asked for."""

import os
import signal
import stat

import numpy as np
import pytest

from common.errors import SegmentError, UnavailableError
from common.layout import fingerprint
from shm import registry, segment
from shm.doorbell import Doorbell
from shm.observer import ring_stats
from shm.ring import Consumer, Producer, create_ring
from shm.segment import PAGE_BYTES, Header, Kind, Role, RoleTaken, Segment
from shm.words import C_CURSOR, P_CURSOR

from tests.shm.children import fork, kill, shared_words, wait_exit
from tests.support import wait_until

RECORD = "ORDER_REQUEST"


@pytest.fixture
def name(instance):
    name = registry.ring_name(instance, "a", "order", "b")
    create_ring(name, RECORD, 8)
    return name


def attach_error(name, kind=SegmentError):
    with pytest.raises(kind) as caught:
        Producer.open(name, RECORD)
    return str(caught.value)


def test_created_file_is_private_and_allocated(name):
    status = os.stat(segment.path_of(name))
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert status.st_size == 3 * PAGE_BYTES + PAGE_BYTES
    assert status.st_blocks * 512 == status.st_size  # not sparse


def test_missing_segment_is_named(instance):
    name = registry.ring_name(instance, "a", "order", "b")
    assert f"{name}: no such segment" in attach_error(name, UnavailableError)


def test_existing_name_is_refused(name):
    with pytest.raises(SegmentError, match="exists, expected no such segment"):
        create_ring(name, RECORD, 8)


def test_symlink_is_neither_created_over_nor_followed(instance, name):
    link = registry.ring_name(instance, "a", "order", "link")
    os.symlink(segment.path_of(name), segment.path_of(link))
    with pytest.raises(SegmentError, match="exists"):
        create_ring(link, RECORD, 8)
    assert "too many levels of symbolic links" in attach_error(link)


def test_other_record_shows_both_layouts(name):
    with pytest.raises(SegmentError) as caught:
        Consumer.open(name, "REPORT")
    found = (
        f"{segment.Segment.attach(name, Kind.RING, writable=False).header[Header.FINGERPRINT]:016x}"
    )

    assert f"layout is {found}, expected {fingerprint('REPORT'):016x}" in str(caught.value)


def test_other_kind_is_refused(name):
    with pytest.raises(SegmentError, match="kind is 1, expected TABLE"):
        Segment.attach(name, Kind.TABLE, writable=False)


@pytest.mark.parametrize("size", [0, 100, PAGE_BYTES, 3 * PAGE_BYTES])
def test_truncated_file_is_refused(name, size):
    os.truncate(segment.path_of(name), size)
    error = attach_error(name)
    assert str(size) in error and "expected" in error


def test_any_flipped_header_bit_is_refused(name):
    path = segment.path_of(name)
    original = path.read_bytes()
    bits = [*range(0, 13 * 64, 7), 32 * 64, 100 * 64, 511 * 64, 512 * 64 - 1]
    for bit in bits:
        changed = bytearray(original)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        assert "expected" in attach_error(name)
    path.write_bytes(original)
    Producer.open(name, RECORD).close()


def test_audit_sees_a_header_that_changed_later(name):
    attached = Segment.attach(name, Kind.RING, writable=False)
    attached.audit()
    with open(segment.path_of(name), "r+b") as file:
        file.seek(Header.CAPACITY * 8)
        file.write(b"\x10")
    with pytest.raises(SegmentError, match="header has changed"):
        attached.audit()
    attached.close()


@pytest.mark.parametrize(("consumer", "producer"), [(5, 4), (-1, 4), (0, 9), (0, 1 << 62)])
def test_impossible_cursors_are_refused(name, consumer, producer):
    path = segment.path_of(name)
    content = np.frombuffer(path.read_bytes(), np.int64).copy()
    content[512 + P_CURSOR] = content[512 + 16] = producer
    content[1024 + C_CURSOR] = consumer
    path.write_bytes(content.tobytes())
    assert "cursors are" in attach_error(name)


def test_audit_sees_a_cursor_that_somebody_has_written(name):
    producer, consumer = Producer.open(name, RECORD), Consumer.open(name, RECORD)
    producer.audit()
    consumer.audit()
    producer.end.own[P_CURSOR] = 9  # more than the ring holds
    for end in (producer, consumer):
        with pytest.raises(SegmentError, match="cursors are 0, 9, 0"):
            end.audit()
        end.close()


def test_creator_killed_half_way_leaves_no_half_segment(instance, monkeypatch):
    name = registry.ring_name(instance, "a", "order", "b")

    def create():
        monkeypatch.setattr(os, "link", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        create_ring(name, RECORD, 8)

    child = fork(create)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert not segment.exists(name)
    create_ring(name, RECORD, 8)
    assert registry.clean(instance) == [name, f"{name}.creating-{child}"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_looser_mode_is_refused(name, mode):
    os.chmod(segment.path_of(name), mode)
    assert f"mode is {mode:04o}, expected 0600" in attach_error(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_foreign_owner_is_refused(name):
    os.chown(segment.path_of(name), 65534, 65534)
    assert "owner is uid 65534, expected 0" in attach_error(name)


@pytest.mark.parametrize("name", ["../etc/passwd", "tickring", "other.x.y", "tickring.A.b", ""])
def test_foreign_names_are_refused(name):
    with pytest.raises(SegmentError, match="expected tickring"):
        segment.path_of(name)


@pytest.mark.parametrize(
    ("capacity", "first_sequence"), [(3, 0), (0, 0), (1 << 27, 0), (8, -1), (8, (1 << 63) - 10)]
)
def test_ring_arguments_out_of_range_are_refused(instance, capacity, first_sequence):
    name = registry.ring_name(instance, "a", "order", "b")
    with pytest.raises(SegmentError, match="expected"):
        create_ring(name, RECORD, capacity, first_sequence=first_sequence)
    assert not segment.exists(name)


def test_second_holder_is_refused_by_name_of_the_first(name):
    for kind, role in ((Producer, "producer"), (Consumer, "consumer")):
        first = kind.open(name, RECORD)
        with pytest.raises(RoleTaken, match=f"{role} is held by pid {os.getpid()}"):
            kind.open(name, RECORD)
        first.close()
        kind.open(name, RECORD).close()


def test_another_build_may_look_and_not_act(name, monkeypatch):
    """Two builds in one system agree on layouts and not on meanings (Knight)."""
    ours = segment.build_hash()
    monkeypatch.setattr(segment, "build_hash", lambda: ours + 1)
    for kind in (Producer, Consumer):
        with pytest.raises(SegmentError, match=f"{ours:016x}, expected {ours + 1:016x}"):
            kind.open(name, RECORD)
    assert ring_stats(name)["published"] == 0
    monkeypatch.undo()
    for kind in (Producer, Consumer):
        kind.open(name, RECORD).close()


def test_role_is_free_as_soon_as_its_holder_is_killed(name):
    ready = shared_words(1)

    def hold():
        producer = Producer.open(name, RECORD)
        ready[0] = 1
        os.read(os.pipe()[0], 1)
        producer.close()

    pid = fork(hold)
    wait_until(lambda: ready[0] == 1, "child attached")
    with pytest.raises(RoleTaken, match=f"held by pid {pid}"):
        Producer.open(name, RECORD)
    kill(pid)
    producer = Producer.open(name, RECORD)
    assert producer.stats()["producer_attaches"] == 2
    producer.close()


def test_consumer_cannot_write_data_or_the_producers_page(name):
    """The kernel stops it, not our good manners: a stray write ends the process by SIGSEGV."""
    consumer = Consumer.open(name, RECORD)
    assert not consumer.end.slots.flags.writeable
    assert not consumer.end.other.flags.writeable
    assert consumer.end.own.flags.writeable
    with open("/proc/self/maps") as file:
        rights = [line.split()[1] for line in file if name in line]
    assert sorted(rights) == ["r--s", "r--s", "rw-s"]
    consumer.close()


def test_full_dev_shm_is_an_error_at_the_start(instance, monkeypatch):
    def fail(_fd, _first, _size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", fail)
    name = registry.ring_name(instance, "a", "order", "b")
    with pytest.raises(SegmentError, match="no space left in /dev/shm, expected room for"):
        create_ring(name, RECORD, 8)
    assert not segment.exists(name)


def test_doorbell_refuses_what_is_no_private_fifo(instance):
    name = registry.bell_name(instance, "a")
    with pytest.raises(UnavailableError):
        Doorbell.open(name)
    bell = Doorbell.create(name)
    with pytest.raises(SegmentError, match="exists"):
        Doorbell.create(name)
    os.chmod(segment.path_of(name), 0o622)
    with pytest.raises(SegmentError, match="mode is 0622"):
        Doorbell.open(name)
    bell.close()
    segment.unlink(name)
    segment.path_of(name).touch(0o600)
    with pytest.raises(SegmentError, match="expected a FIFO"):
        Doorbell.open(name)


def test_forked_child_that_attaches_itself_is_seen_as_holder(name):
    def attach():
        consumer = Consumer.open(name, RECORD)
        probe = Segment.attach(name, Kind.RING, writable=False)
        assert probe.is_role_held(Role.CONSUMER)
        assert not probe.is_role_held(Role.PRODUCER)
        consumer.close()
        assert not probe.is_role_held(Role.CONSUMER)

    wait_exit(fork(attach), "child")

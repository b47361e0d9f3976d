"""The journal: what is written comes back, what was cut is dropped, what has rotted is told."""

import os
import zlib

import numpy as np
import pytest

from common.errors import UnavailableError
from common.records import ORDER_REQUEST, REPORT
from processes.risk.journal import (
    FILE_NAME,
    FRAME,
    KIND_START,
    CorruptJournal,
    Facts,
    Head,
    Journal,
    JournalError,
    read_frames,
)

FACTS = Facts(session=3, instruments=99)


def open_journal(folder, facts: Facts = FACTS, sync: str = "none") -> Journal:
    return Journal(folder, facts, sync)


def write(journal: Journal, k: int, reports: int = 2, requests: int = 1) -> int:
    """Append one frame whose fields all come from `k`."""
    told, asked = np.zeros(reports, REPORT), np.zeros(requests, ORDER_REQUEST)
    told["exec_id"] = 10 * k + np.arange(reports)
    asked["client_order_id"] = 20 * k + np.arange(requests)
    places = np.arange(requests, dtype=np.int64) + 30 * k
    head = head_of(k)._replace(gateway_count=reports, request_count=requests)
    return journal.append(head, (told.tobytes(), asked.tobytes(), places.tobytes()))


def head_of(k: int) -> Head:
    """Return a header whose every field is another number."""
    return Head(
        ts_ns=1_000 + k, ring_epoch=2, intent_end=3, gateway_end=4, rest_end=5, order_first=6
    )


def read(folder) -> list[tuple]:
    journal = open_journal(folder)
    found = [
        (
            int(frame.header["ts_ns"]) - 1_000,
            frame.reports["exec_id"].tolist(),
            frame.requests["client_order_id"].tolist(),
            frame.places.tolist(),
        )
        for frame in journal.frames()
    ]
    journal.close()
    return found


def expected(k: int, reports: int = 2, requests: int = 1) -> tuple:
    return (
        k,
        [10 * k + i for i in range(reports)],
        [20 * k + i for i in range(requests)],
        [30 * k + i for i in range(requests)],
    )


@pytest.fixture
def three(tmp_path) -> tuple:
    """Return (folder, bytes, offsets) of a journal of three frames."""
    journal = open_journal(tmp_path)
    ends = [0]
    for k in range(3):
        ends.append(ends[-1] + write(journal, k, reports=k, requests=2 - k))
    journal.close()
    data = (tmp_path / FILE_NAME).read_bytes()
    assert len(data) == ends[-1]
    return tmp_path, data, ends


def test_frames_come_back_in_order(tmp_path):
    journal = open_journal(tmp_path)
    sizes = [(0, 0), (5, 0), (0, 3), (512, 256), (1, 1)]
    for k, (reports, requests) in enumerate(sizes):
        write(journal, k, reports, requests)
    journal.close()
    assert read(tmp_path) == [expected(k, *size) for k, size in enumerate(sizes)]
    assert os.stat(tmp_path / FILE_NAME).st_mode & 0o777 == 0o600


def test_it_goes_on_where_it_stopped(tmp_path):
    for k in range(4):
        journal = open_journal(tmp_path)
        assert journal.frame_count == k
        write(journal, k)
        journal.close()
    assert read(tmp_path) == [expected(k) for k in range(4)]


def test_a_cut_at_every_byte_drops_the_torn_frame_alone(three):
    """Frames that are whole stay, whatever byte the file ends at; and it can be written on."""
    folder, data, ends = three
    for cut in range(len(data) + 1):
        (folder / FILE_NAME).write_bytes(data[:cut])
        whole = sum(end <= cut for end in ends[1:])
        journal = open_journal(folder)
        assert journal.frame_count == whole
        assert journal.torn_bytes == cut - ends[whole]
        assert journal.size == ends[whole] == os.path.getsize(folder / FILE_NAME)
        if cut % 50 == 0:
            write(journal, whole)
        journal.close()
        if cut % 50 == 0:
            assert len(read(folder)) == whole + 1


def test_a_flipped_byte_anywhere_is_found(three):
    """In the middle it is refused with the offset; in the last frame it is a torn frame."""
    folder, data, ends = three
    for at in range(0, len(data)):
        for bit in (0x01, 0x80) if at % 16 == 0 else (0x10,):
            broken = bytearray(data)
            broken[at] ^= bit
            (folder / FILE_NAME).write_bytes(broken)
            if at < ends[2]:
                frame = 0 if at < ends[1] else 1
                with pytest.raises(CorruptJournal, match=f"byte {ends[frame]} is damaged"):
                    open_journal(folder)
                assert (folder / FILE_NAME).read_bytes() == bytes(broken)
            else:
                journal = open_journal(folder)
                assert (journal.frame_count, journal.torn_bytes) == (2, len(data) - ends[2])
                journal.close()


def test_garbage_behind_the_tail_is_never_read(three):
    folder, data, ends = three
    for garbage in (b"\0" * 4096, b"\xff" * 333, data[: ends[1] - 1], b"tickjrnl" * 20):
        (folder / FILE_NAME).write_bytes(data + garbage)
        journal = open_journal(folder)
        assert (journal.frame_count, journal.torn_bytes) == (3, len(garbage))
        journal.close()


def test_a_missing_frame_breaks_the_chain(three):
    folder, data, ends = three
    (folder / FILE_NAME).write_bytes(data[: ends[1]] + data[ends[2] :])
    with pytest.raises(CorruptJournal, match="chain"):
        open_journal(folder)
    (folder / FILE_NAME).write_bytes(data + data[: ends[1]])
    with pytest.raises(CorruptJournal, match="chain"):
        open_journal(folder)


def test_a_frame_of_another_journal_is_refused_even_if_its_number_fits(tmp_path):
    first, second = open_journal(tmp_path / "a"), open_journal(tmp_path / "b")
    write(first, 0)
    write(second, 7)
    write(second, 8)
    first.close(), second.close()
    a, b = (tmp_path / name / FILE_NAME for name in "ab")
    frames, _end = read_frames(b, memoryview(b.read_bytes()))
    a.write_bytes(a.read_bytes() + b.read_bytes()[frames[1][0] :])
    with pytest.raises(CorruptJournal, match="chain"):
        open_journal(tmp_path / "a")


@pytest.mark.parametrize("facts", [Facts(4, 99), Facts(3, 98)])
def test_another_session_or_instrument_list_is_refused(three, facts):
    with pytest.raises(CorruptJournal, match="start a fresh session"):
        open_journal(three[0], facts)


@pytest.mark.parametrize("field", ["version", "layout"])
def test_another_format_is_refused(three, field):
    folder, data, ends = three
    header = np.frombuffer(data[: FRAME.itemsize], FRAME).copy()
    header[field] += 1
    header["crc32"] = 0
    body = data[FRAME.itemsize : ends[1]]
    crc = zlib.crc32(body, zlib.crc32(header.tobytes()))
    header["crc32"] = crc - (1 << 32) if crc >> 31 else crc
    (folder / FILE_NAME).write_bytes(header.tobytes() + body)
    with pytest.raises(CorruptJournal, match=field):
        open_journal(folder)


def test_a_journal_that_others_can_read_is_refused(three):
    os.chmod(three[0] / FILE_NAME, 0o644)
    with pytest.raises(CorruptJournal, match="mode is 0644, expected 0600"):
        open_journal(three[0])


def test_a_link_is_refused(tmp_path):
    target = tmp_path / "elsewhere"
    target.touch(0o600)
    (tmp_path / "j").mkdir()
    (tmp_path / "j" / FILE_NAME).symlink_to(target)
    with pytest.raises(UnavailableError):
        open_journal(tmp_path / "j")


def test_a_write_that_fails_ends_writing_and_leaves_whole_frames(tmp_path, monkeypatch):
    journal = open_journal(tmp_path)
    write(journal, 0)
    whole = os.writev

    def half(fd, buffers):
        os.write(fd, b"".join(bytes(part) for part in buffers)[:200])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "writev", half)
    with pytest.raises(JournalError, match="no space left on device"):
        write(journal, 1)
    monkeypatch.setattr(os, "writev", whole)
    with pytest.raises(JournalError, match="an earlier write failed"):
        write(journal, 1)
    journal.close()
    assert read(tmp_path) == [expected(0)]


def test_a_short_write_is_a_failure(tmp_path, monkeypatch):
    journal = open_journal(tmp_path)
    monkeypatch.setattr(os, "writev", lambda fd, buffers: os.write(fd, b"x" * 10))
    with pytest.raises(JournalError, match="10 of"):
        write(journal, 0)
    journal.close()
    assert read(tmp_path) == []


def test_a_failed_sync_is_not_tried_again(tmp_path, monkeypatch):
    """After an error the kernel may have dropped the pages: a second success is no proof."""
    calls = []

    def fail(fd):
        calls.append(fd)
        raise OSError(5, "Input/output error")

    journal = open_journal(tmp_path, sync="always")
    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(JournalError):
        write(journal, 0)
    with pytest.raises(JournalError):
        write(journal, 0)
    assert len(calls) == 1


def test_always_waits_for_the_disk_and_none_does_not(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(os, "fdatasync", calls.append)
    for sync, count in (("none", 0), ("always", 3)):
        journal = open_journal(tmp_path / sync, sync=sync)
        for k in range(3):
            write(journal, k)
        journal.close()
        assert len(calls) == count


def test_one_turn_is_one_write(tmp_path, monkeypatch):
    calls = []
    whole = os.writev
    monkeypatch.setattr(os, "writev", lambda fd, parts: calls.append(fd) or whole(fd, parts))
    journal = open_journal(tmp_path)
    write(journal, 0, reports=100, requests=100)
    assert len(calls) == 1


def test_start_frames_carry_both_clocks(tmp_path):
    journal = open_journal(tmp_path)
    journal.append(head_of(0)._replace(kind=KIND_START, ts_wall_ns=77), ())
    write(journal, 1)
    journal.close()
    kinds = [
        (int(f.header["kind"]), int(f.header["ts_wall_ns"]))
        for f in open_journal(tmp_path).frames()
    ]
    assert kinds == [(KIND_START, 77), (2, 0)]


def test_the_header_is_the_layout_table(tmp_path):
    """The packing and the table of FRAME say the same."""
    journal = open_journal(tmp_path)
    counts = {"own_count": 0, "rest_count": 1, "publish_count": 9}
    journal.append(head_of(0)._replace(**counts), (bytes(REPORT.itemsize),))
    journal.close()
    (frame,) = open_journal(tmp_path).frames()
    expected = head_of(0)._replace(**counts)._asdict()
    expected |= {"frame_sequence": 0, "frame_bytes": 160 + 256, "session": 3, "instruments": 99}
    for name, value in expected.items():
        assert frame.header[name] == value, name

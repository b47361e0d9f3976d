"""Recordings: byte for byte, a whole prefix whatever is cut off, and damage that is named."""

import os
import resource
import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.enums import MarketKind
from common.errors import SegmentError, UnavailableError
from common.layout import describe
from common.records import LAYOUTS
from shm import packing, slot_file
from shm.recording import RecordingError, RingWriter, Run, frame, open, write_manifest
from shm.ring import MARKET

KEY = "feed.market.book"


def slots(first, count, words=8):
    """Every word tells which slot it belongs to."""
    return np.arange(first, first + count)[:, None] * 100 + np.arange(words)


def record(run, *counts, first_sequence=0, **options):
    """Write blocks of so many slots and return the writer, still open."""
    writer = RingWriter(run, KEY, MARKET, 1024, first_sequence=first_sequence, **options)
    for count in counts:
        writer.write(slots(writer.next_sequence, count))
    return writer


OPEN = []  # by the test that runs now


def opened(run):
    """Open the one ring of a run; what was opened before is closed, so that loops may do it."""
    while OPEN:
        OPEN.pop().close()
    if not (run / "manifest.json").exists():
        write_manifest(run, {"schema": 1})
    OPEN.append(Run.open(run))
    return OPEN[-1].rings[KEY]


@pytest.fixture(autouse=True)
def close_opened():
    """Close what `opened` has opened."""
    yield
    while OPEN:
        OPEN.pop().close()


def files(run, suffix=".slots"):
    return sorted((run / KEY).glob(f"*{suffix}"))


def test_reads_back_byte_for_byte(tmp_path):
    record(tmp_path, 3, 5, 1, first_sequence=40).close()
    ring = opened(tmp_path)
    assert (ring.layout, ring.capacity, ring.spans, ring.gaps) == (MARKET, 1024, [(40, 49)], [])
    assert np.array_equal(ring.read(40, 49), slots(40, 9))
    assert np.array_equal(ring.read(42, 47), slots(42, 5))
    assert len(ring.read(44, 44)) == 0
    parts = list(ring.blocks(4))
    assert [first for first, _ in parts] == [40, 44, 48]
    assert np.array_equal(np.concatenate([part for _, part in parts]), slots(40, 9))
    assert ring.check() == []


@pytest.mark.parametrize(("first", "end"), [(39, 41), (45, 50), (49, 50), (47, 46), (0, 100)])
def test_refuses_a_range_that_was_not_recorded(tmp_path, first, end):
    record(tmp_path, 9, first_sequence=40).close()
    with pytest.raises(SegmentError, match=r"expected a range within one of \[40, 49\)"):
        opened(tmp_path).read(first, end)


def test_records_of_other_layouts_and_wide_blocks(tmp_path):
    reports = np.zeros(10_000, LAYOUTS["REPORT"])  # 2.5 MB: several blocks
    reports["client_order_id"] = np.arange(10_000)
    writer = RingWriter(tmp_path, KEY, "REPORT", 64)
    writer.write(reports)
    writer.close()
    ring = opened(tmp_path)
    assert len(ring.read(0, 10_000)) == 10_000 and ring.words == 32
    assert ring.read(9_000, 9_001).view(LAYOUTS["REPORT"])["client_order_id"] == [9_000]
    assert np.array_equal(open(files(tmp_path)[0]), reports)


def test_records_of_another_size_are_refused(tmp_path):
    with pytest.raises(SegmentError, match="records of 8 bytes, expected 64 of MARKET"):
        RingWriter(tmp_path, KEY, MARKET, 1024).write(np.arange(8))
    with pytest.raises(SegmentError, match="record is 'NOTHING', expected MARKET or a name"):
        RingWriter(tmp_path, KEY, "NOTHING", 1024)


def test_state_checkpoints_have_any_width(tmp_path):
    writer = RingWriter(tmp_path, "strategy.state", "STATE", 1, text="block: 3 words\n")
    writer.write(np.array([[7, 1, 2, 3]]))
    writer.write(np.array([[9, 4, 5, 6]]))
    with pytest.raises(SegmentError, match="records of 40 bytes, expected 32"):
        writer.write(np.zeros((1, 5), np.int64))
    writer.close()
    write_manifest(tmp_path, {})
    state = Run.open(tmp_path).rings["strategy.state"]
    assert state.read(0, 2).tolist() == [[7, 1, 2, 3], [9, 4, 5, 6]]
    mapped = open(next((tmp_path / "strategy.state").glob("*.slots")))
    assert mapped["turn"].tolist() == [7, 9] and mapped["block"][1].tolist() == [4, 5, 6]


def test_a_file_explains_itself(tmp_path):
    origin = bytes(range(256)) * 16
    record(tmp_path, 1, origin=origin).close()
    raw = files(tmp_path)[0].read_bytes()
    assert raw[4096:8192] == origin
    assert describe("TRADE").encode() in raw and describe("BOOK").encode() in raw


def test_gaps_are_told_and_nothing_is_read_across_them(tmp_path):
    writer = record(tmp_path, 4)
    with pytest.raises(SegmentError, match="gap is 6 to 9, expected it to begin at 4"):
        writer.gap(6, 9)
    writer.gap(4, 9)
    writer.write(slots(10, 2))
    writer.close()
    ring = opened(tmp_path)
    assert (ring.spans, ring.gaps) == ([(0, 4), (10, 12)], [(4, 9)])
    assert np.array_equal(ring.read(10, 12), slots(10, 2))
    with pytest.raises(SegmentError, match="within one of"):
        ring.read(3, 11)


def test_a_gap_may_come_first_and_last(tmp_path):
    writer = record(tmp_path, first_sequence=5)
    writer.gap(5, 7)
    writer.write(slots(8, 1))
    writer.gap(9, 11)
    writer.close()
    ring = opened(tmp_path)
    assert (ring.spans, ring.gaps) == ([(8, 9)], [(5, 7), (9, 11)])
    assert record(tmp_path).next_sequence == 12


def test_rotates_by_size_and_a_missing_segment_is_a_gap(tmp_path):
    writer = record(tmp_path, *[10] * 10, segment_bytes_max=30 * 64)
    writer.close()
    assert [path.stem for path in files(tmp_path)] == [f"{n:020d}" for n in (0, 30, 60, 90)]
    assert writer.closed == files(tmp_path)[:3]
    assert opened(tmp_path).spans == [(0, 100)]
    assert np.array_equal(opened(tmp_path).read(25, 95), slots(25, 70))
    for suffix in (".slots", ".index"):
        files(tmp_path, suffix)[1].unlink()
    ring = opened(tmp_path)
    assert (ring.spans, ring.gaps) == ([(0, 30), (60, 100)], [(30, 59)])


def test_rotates_by_time(tmp_path):
    record(tmp_path, 1, 1, 1, segment_ns_max=1).close()
    assert len(files(tmp_path)) == 3 and opened(tmp_path).spans == [(0, 3)]


def test_a_new_start_goes_on_in_a_segment_of_its_own(tmp_path):
    record(tmp_path, 3)  # not closed: killed
    again = record(tmp_path, 4)
    assert again.next_sequence == 7 and len(files(tmp_path)) == 2
    assert np.array_equal(opened(tmp_path).read(0, 7), slots(0, 7))


@pytest.mark.parametrize(("size", "has_index"), [(0, False), (0, True), (5_000, True)])
def test_a_start_removes_a_segment_that_was_only_begun(tmp_path, size, has_index):
    record(tmp_path, 3).close()
    header = files(tmp_path)[0].read_bytes()
    path = tmp_path / KEY / f"{3:020d}.slots"
    path.write_bytes(header[:size])
    if has_index:
        path.with_suffix(".index").write_bytes(b"")
    assert opened(tmp_path).spans == [(0, 3)]
    record(tmp_path, 2).close()
    assert opened(tmp_path).spans == [(0, 5)]


class Killed(BaseException):
    """A kill -9: nothing of the process runs after it."""


@pytest.mark.parametrize("unlinks", [0, 1, 2])
@pytest.mark.parametrize("left", ["closed empty", "begun", "slots lost"])
def test_a_removal_that_is_killed_leaves_what_can_be_read(tmp_path, monkeypatch, left, unlinks):
    """A recorder that starts is killed before, between and behind the two files of a segment."""
    record(tmp_path, 3)
    if left == "closed empty":
        record(tmp_path).close()
    else:
        path = tmp_path / KEY / f"{3:020d}.slots"
        path.write_bytes(files(tmp_path)[0].read_bytes()[:5_000] if left == "begun" else b"")
        path.with_suffix(".index").write_bytes(b"" if left == "begun" else bytes(64))
    done = []

    def unlink(path, missing_ok=False):
        if len(done) == unlinks:
            raise Killed
        done.append(path.name)
        os.unlink(path)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Path, "unlink", unlink)
        record(tmp_path)
        raise Killed  # behind the last
    assert len(done) == unlinks
    if left != "slots lost" or unlinks:  # the power failed; the removal mends it
        assert opened(tmp_path).spans == [(0, 3)]
    record(tmp_path, 2).close()
    assert opened(tmp_path).spans == [(0, 5)] and len(files(tmp_path)) == 2


def test_a_segment_removed_while_a_reader_looks_is_no_error(tmp_path, monkeypatch):
    record(tmp_path, 3)
    record(tmp_path).close()
    empty, real = files(tmp_path, ".index")[1], Path.stat

    def stat(path, **options):
        if path == empty:  # listed, and gone now
            path.unlink(missing_ok=True)
            path.with_suffix(".slots").unlink(missing_ok=True)
        return real(path, **options)

    monkeypatch.setattr(Path, "stat", stat)
    assert opened(tmp_path).spans == [(0, 3)] and not empty.exists()


def test_any_cut_leaves_the_blocks_before_it(tmp_path):
    """Cut the slots, then the index, at every byte of the last two blocks."""
    record(tmp_path, 5, 3, 2)
    write_manifest(tmp_path, {})
    path, index = files(tmp_path)[0], files(tmp_path, ".index")[0]
    whole, entries = path.read_bytes(), index.read_bytes()
    for size in range(len(whole) - 5 * 64, len(whole) + 1):
        path.write_bytes(whole[:size])
        end = 10 if size == len(whole) else 8 if size >= len(whole) - 128 else 5
        ring = opened(tmp_path)
        assert ring.spans == [(0, end)]
        assert bool(ring.notes) == (size < len(whole)), "a cut behind the index is told"
        assert np.array_equal(ring.read(0, end), slots(0, end))
    for size in range(len(entries) + 1):
        index.write_bytes(entries[:size])
        ends = [0, 5, 8, 10]
        end = ends[size // 64]
        assert opened(tmp_path).spans == ([(0, end)] if end else [])


def test_zeros_behind_the_index_are_a_cut_too(tmp_path):
    """A power failure may leave a file longer than what was written to the disk."""
    record(tmp_path, 5)
    with files(tmp_path, ".index")[0].open("ab") as file:
        file.write(bytes(130))
    assert opened(tmp_path).spans == [(0, 5)]


def flip(path, byte):
    raw = bytearray(path.read_bytes())
    raw[byte] ^= 0x40
    path.write_bytes(raw)


def test_every_flipped_byte_of_the_slots_is_found(tmp_path):
    record(tmp_path, 5, 3).close()
    path = files(tmp_path)[0]
    data = path.stat().st_size - 8 * 64
    whole = path.read_bytes()
    for byte in range(data, data + 8 * 64):
        flip(path, byte)
        first, last = (data, data + 319) if byte < data + 320 else (data + 320, data + 511)
        with pytest.raises(SegmentError, match=f"checksum of bytes {first} to {last} "):
            opened(tmp_path).read(0, 8)
        assert len(opened(tmp_path).check()) == 1
        path.write_bytes(whole)


def test_every_flipped_byte_of_the_index_is_found(tmp_path):
    record(tmp_path, 5, 3).close()
    index = files(tmp_path, ".index")[0]
    whole = index.read_bytes()
    for byte in range(len(whole)):
        flip(index, byte)
        with pytest.raises(SegmentError, match=f"entry at byte {byte // 64 * 64} is damaged"):
            opened(tmp_path)
        index.write_bytes(whole)


@pytest.mark.parametrize("byte", [3, 17, 33, 300, 2_000, 4_095, 5_000, 8_300])
def test_a_flipped_byte_of_the_header_is_found(tmp_path, byte):
    record(tmp_path, 5).close()
    flip(files(tmp_path)[0], byte)
    with pytest.raises(SegmentError, match="magic is|checksum of the header|version is|begin at"):
        opened(tmp_path)


def test_an_index_of_another_file_is_refused(tmp_path):
    record(tmp_path / "a", 5).close()
    record(tmp_path / "b", 5, origin=b"other").close()
    os.replace(files(tmp_path / "a", ".index")[0], files(tmp_path / "b", ".index")[0])
    with pytest.raises(SegmentError, match="entry at byte 0 is damaged or follows a missing one"):
        opened(tmp_path / "b")


def test_an_unknown_layout_is_refused_and_both_are_shown(tmp_path):
    record(tmp_path, 5, text="TRADE of another year\n").close()
    with pytest.raises(SegmentError, match=r"layout of MARKET is [0-9a-f]{16}, expected [0-9a-f]"):
        opened(tmp_path)
    with pytest.raises(SegmentError, match="its tables stand as text in the file"):
        open(files(tmp_path)[0])


def test_an_unknown_version_is_refused_and_both_are_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(slot_file, "VERSION", 2)
    record(tmp_path, 5).close()
    monkeypatch.undo()
    with pytest.raises(SegmentError, match="format version is 2, expected 1"):
        opened(tmp_path)


def test_overlapping_segments_are_refused(tmp_path):
    record(tmp_path, 5).close()
    other = record(tmp_path / "other", 5, first_sequence=3)
    other.close()
    for suffix in (".slots", ".index"):
        path = files(tmp_path / "other", suffix)[0]
        os.replace(path, tmp_path / KEY / path.name)
    with pytest.raises(SegmentError, match="a block begins at 3, expected 5 or more"):
        opened(tmp_path)


def test_an_empty_ring_tells_its_layout_and_may_be_gone_on_with(tmp_path):
    record(tmp_path, first_sequence=7).close()
    ring = opened(tmp_path)
    assert (ring.layout, ring.capacity, ring.spans, ring.gaps) == (MARKET, 1024, [], [])
    assert list(ring.blocks(10)) == []
    record(tmp_path, 2, first_sequence=7).close()
    record(tmp_path).close()
    assert opened(tmp_path).spans == [(7, 9)]


def test_a_ring_without_a_segment_has_the_layout_of_the_manifest(tmp_path):
    RingWriter(tmp_path, KEY, MARKET, 1024)  # killed before the first slot
    write_manifest(tmp_path, {"rings": {KEY: MARKET}})
    ring = Run.open(tmp_path).rings[KEY]
    assert (ring.layout, ring.words, ring.spans) == (MARKET, 8, [])


def test_no_manifest_is_no_run(tmp_path):
    with pytest.raises(UnavailableError, match=r"manifest.json: no such file"):
        Run.open(tmp_path)
    (tmp_path / "manifest.json").write_text("[1]")
    with pytest.raises(SegmentError, match="list, expected a JSON object"):
        Run.open(tmp_path)


def test_a_manifest_is_replaced_whole(tmp_path):
    write_manifest(tmp_path, {"complete": False})
    write_manifest(tmp_path, {"complete": True})
    assert Run.open(tmp_path).manifest == {"complete": True}
    assert os.listdir(tmp_path) == ["manifest.json"]


def test_a_segment_opens_as_an_array_and_a_frame(tmp_path):
    trades = np.zeros(4, LAYOUTS["TRADE"])
    trades["kind"] = [MarketKind.TRADE, MarketKind.BBO, MarketKind.AGG_TRADE, MarketKind.TRADE]
    trades["price_steps"] = [10, 20, 30, 40]
    writer = RingWriter(tmp_path, KEY, MARKET, 1024)
    writer.write(trades)
    path = files(tmp_path)[0]
    mapped = open(path)
    assert isinstance(mapped, np.memmap) and mapped.dtype.itemsize == 64
    assert mapped["kind"].tolist() == [6, 8, 7, 6]
    assert frame(path)["kind"].to_list() == [6, 8, 7, 6]
    shown = frame(path, (MarketKind.TRADE, MarketKind.AGG_TRADE), "TRADE")
    assert shown["price_steps"].to_list() == [10, 30, 40] and "reserved" not in shown.columns
    with pytest.raises(SegmentError, match="record is 'REPORT', expected one of GAP"):
        frame(path, record="REPORT")


@pytest.mark.parametrize("has_index", [True, False])
def test_ten_gigabytes_open_at_once(tmp_path, within_ns, has_index):
    """A sparse file: opening maps, it does not read."""
    record(tmp_path, 1)
    path, index = files(tmp_path)[0], files(tmp_path, ".index")[0]
    count = 10_000_000_000 // 64
    os.truncate(path, path.stat().st_size + (count - 1) * 64)
    entry = np.fromfile(index, slot_file.INDEX_ENTRY)
    entry["count"] = count
    entry["entry_checksum"] = slot_file.checksum(entry.view(np.int64)[:7])
    entry.tofile(index)
    with within_ns(1_000_000_000):
        assert opened(tmp_path).spans == [(0, count)]
    if not has_index:
        index.unlink()
    with within_ns(1_000_000_000):
        mapped = open(path)
        assert len(mapped) == count and mapped.nbytes >= 9_999_999_936
        assert mapped["ts_recv_ns"][-1] == 0 and mapped["ts_recv_ns"][0] == 1


def test_a_segment_opens_as_far_as_its_index_goes(tmp_path):
    writer = record(tmp_path, 5)
    path, index = files(tmp_path)[0], files(tmp_path, ".index")[0]
    with path.open("ab") as file:
        file.write(bytes(3 * 64))  # slots without an entry yet
    assert len(open(path)) == 5
    writer.gap(5, 9)
    assert len(open(path)) == 5
    with index.open("ab") as file:
        file.write(bytes(100))
    assert len(open(path)) == 5
    flip(index, 80)
    with pytest.raises(SegmentError, match="entry at byte 64 is damaged"):
        open(path)
    index.write_bytes(b"")
    assert len(open(path)) == 0


@pytest.fixture
def within_ns():
    from contextlib import contextmanager

    from common import clock

    @contextmanager
    def within(limit):
        start = clock.now_ns()
        yield
        assert clock.now_ns() - start < limit

    return within


@pytest.fixture
def file_limit():
    """Files of this process may not grow beyond so many bytes: a full disk in small."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_breaks_the_writer_and_not_what_it_wrote(tmp_path, file_limit):
    writer = record(tmp_path, 5)
    file_limit(files(tmp_path)[0].stat().st_size + 100)
    with pytest.raises(RecordingError, match="file too large, expected to write it"):
        writer.write(slots(5, 5))
    with pytest.raises(RecordingError, match="an earlier write failed"):
        writer.write(slots(5, 5))
    writer.close()
    ring = opened(tmp_path)
    assert ring.spans == [(0, 5)] and ring.notes == [] and ring.check() == []


def test_no_room_for_a_header_is_a_full_disk_too(tmp_path, file_limit):
    file_limit(1_000)
    with pytest.raises(RecordingError):
        record(tmp_path, 5)
    file_limit(1 << 20)
    assert record(tmp_path, 5).next_sequence == 5


def test_closed_segments_are_packed_and_read_as_before(tmp_path):
    writer = record(tmp_path, *[100] * 9, segment_bytes_max=300 * 64)
    writer.close()
    for path in writer.closed:
        packer = packing.Packer(path)
        steps = 1
        while packer.step(8_192) is None:
            steps += 1
        assert steps > 2 and not path.exists()
    assert len(files(tmp_path)) == 1 and len(files(tmp_path, ".slots.zst")) == 2
    ring = opened(tmp_path)
    assert ring.spans == [(0, 900)] and ring.check() == []
    assert np.array_equal(ring.read(150, 850), slots(150, 700))
    packed = files(tmp_path, ".slots.zst")[0]
    assert open(packed)["ts_recv_ns"].tolist() == slots(0, 300)[:, 1].tolist()
    assert record(tmp_path).next_sequence == 900
    flip(packed, packed.stat().st_size // 2)
    with pytest.raises(SegmentError, match="expected a whole zstd file"):
        opened(tmp_path).read(0, 1)


def test_a_reader_does_not_mind_that_a_segment_is_packed_meanwhile(tmp_path):
    writer = record(tmp_path, 100, 100, segment_bytes_max=64)
    ring = opened(tmp_path)
    packer = packing.Packer(writer.closed[0])
    while packer.step() is None:
        pass
    assert np.array_equal(ring.read(0, 200), slots(0, 200)) and ring.check() == []
    for file in files(tmp_path, ".slots.zst"):
        file.unlink()
    with pytest.raises(SegmentError, match="no such file, expected it beside its index"):
        opened(tmp_path)
    with pytest.raises(SegmentError, match="no such file, expected a recorded segment"):
        open(writer.closed[0])


def test_packing_given_up_leaves_the_plain_file(tmp_path):
    writer = record(tmp_path, 100, 100, segment_bytes_max=64)
    packer = packing.Packer(writer.closed[0])
    packer.step(4_096)
    packer.close()
    assert opened(tmp_path).spans == [(0, 200)]
    record(tmp_path)  # the next start cleans up
    assert not list((tmp_path / KEY).glob("*.part"))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, 40)),
        st.tuples(st.just("gap"), st.integers(1, 40)),
        st.tuples(st.sampled_from(["kill", "close", "pack"]), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None)
@given(STEPS, st.lists(st.tuples(st.integers(0, 1_000), st.integers(0, 60)), max_size=8))
def test_whatever_was_written_is_read(steps, reads):
    """A dict of sequences is the naive twin of a recording."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        writer, naive, told = record(run, segment_bytes_max=50 * 64), {}, []
        for step, count in steps:
            first = writer.next_sequence
            if step == "write":
                writer.write(slots(first, count))
                naive.update((n, n * 100) for n in range(first, first + count))
            elif step == "gap":
                writer.gap(first, first + count - 1)
                told.append((first, first + count - 1))
            elif step == "pack" and writer.closed:
                packer = packing.Packer(writer.closed.pop())
                while packer.step() is None:
                    pass
            elif step != "pack":
                if step == "close":
                    writer.close()
                writer = record(run, segment_bytes_max=50 * 64)
                assert writer.next_sequence == first
        ring = opened(run)
        assert ring.gaps == told and ring.check() == []
        found = {n: int(v) for at, part in ring.blocks(7) for n, v in enumerate(part[:, 0], at)}
        assert found == naive
        for first, count in reads:
            if all(n in naive for n in range(first, first + count)) and first in naive:
                assert np.array_equal(ring.read(first, first + count), slots(first, count))
        ring.close()


def naive_checksum(words):
    odd, mask = slot_file._ODD, (1 << 64) - 1

    def mix(lane, word):
        mixed = ((lane ^ word) & mask) * odd & mask
        return (mixed << 29 | mixed >> 35) & mask

    lanes = list(range(1, 9))
    whole = len(words) // 8 * 8
    for i, word in enumerate(words[:whole]):
        lanes[i % 8] = mix(lanes[i % 8], int(word))
    total = mix(len(words), lanes[0])
    for lane in lanes[1:]:
        total = mix(total, lane)
    for word in words[whole:]:
        total = mix(total, int(word))
    total ^= total >> 32
    return total - (1 << 64) if total >> 63 else total


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 64, 1_003])
def test_the_checksum_is_what_its_rule_says(count):
    words = np.random.default_rng(count).integers(-(1 << 62), 1 << 62, count)
    assert slot_file.checksum(words) == naive_checksum(words)

"""The recorder: complete when stopped in order, honest about losses, harmless when it fails."""

import errno
import os

import numpy as np
import pytest

from common.enums import Phase
from common.records import LAYOUTS
from processes import wiring
from processes.recorder.stage import DRAIN_NS_MAX, LATE
from processes.strategy import desk
from processes.wiring import StateSpec
from shm.segment import Header

from tests.processes.recorder.conftest import KEYS, values_of

MARKET_KEY, REPORT_KEY = KEYS
SECOND_NS = 1_000_000_000


def work(stage, now_ns=SECOND_NS, step_ns=2_000_000):
    """Call it as the shell does, until there is nothing more."""
    total = 0
    while moved := stage.do_work(now_ns):
        total += moved
        now_ns += step_ns
    return total


def test_records_all_rings_and_is_complete_when_stopped_in_order(place):
    stage = place.begin()
    place.write(10)
    assert work(stage) == 10
    place.reports.write(np.zeros(3, LAYOUTS["REPORT"]))
    place.write(5)
    stage.on_phase(Phase.STOP_ORDERS, 0)
    place.leave()
    stage.close()
    run = place.opened()
    assert run.manifest["complete"] and run.manifest["stopped"] == "in order"
    assert run.manifest["rings"] == {MARKET_KEY: "MARKET", REPORT_KEY: "REPORT"}
    ring = run.rings[MARKET_KEY]
    assert (ring.spans, ring.gaps, run.rings[REPORT_KEY].spans) == ([(0, 15)], [], [(0, 3)])
    assert np.array_equal(ring.read(0, 15)[:, 3], np.arange(15))
    assert run.check() == []
    assert values_of(stage)["SLOTS"] == 18 and values_of(stage)["BYTES"] > 15 * 64


def test_keeps_the_rings_header_in_the_file(place):
    stage = place.begin()
    place.write(1)
    work(stage)
    raw = next((place.run / MARKET_KEY).glob("*.slots")).read_bytes()
    words = np.frombuffer(raw[4096:8192], np.int64)
    assert words[Header.EPOCH] == place.market.epoch != 0


def test_a_slot_behind_its_last_look_is_recorded_too(place, monkeypatch):
    stage = place.begin()
    stage.on_phase(Phase.STOP_ORDERS, 0)
    last = stage.taps[-1]
    looks = iter(range(1_000))
    move = last.move

    def move_then_write(buffer):
        moved = move(buffer)
        if next(looks) == 0:
            place.write(1)  # into a ring that was looked at already
        return moved

    monkeypatch.setattr(last, "move", move_then_write)
    monkeypatch.setattr(stage.clock, "sleep_ns", lambda _: place.leave())
    stage.close()
    run = place.opened()
    assert run.manifest["complete"] and run.manifest["stopped"] == "in order"
    assert run.rings[MARKET_KEY].spans == [(0, 1)]


def test_waits_for_those_who_still_write(place, monkeypatch):
    """An orphan leaves together with the others: it must not be the first."""
    stage = place.begin()
    stage.on_phase(Phase.STOP_ORDERS, 0)
    sleeps = []

    def sleep_ns(_duration_ns):
        sleeps.append(1)
        place.write(1)
        if len(sleeps) == 3:
            place.leave()

    monkeypatch.setattr(stage.clock, "sleep_ns", sleep_ns)
    stage.close()
    run = place.opened()
    assert run.rings[MARKET_KEY].spans == [(0, 3)] and run.manifest["complete"]


def test_is_not_complete_if_it_leaves_before_the_others(place):
    stage = place.begin()
    place.write(1)
    stage.close()
    manifest = place.opened().manifest
    assert not manifest["complete"] and manifest["stopped"] == "while others wrote"


class Ticking:
    """A clock that goes on by 10 ms at every look."""

    def __init__(self):
        self.time_ns = SECOND_NS

    def now_ns(self):
        self.time_ns += 10_000_000
        return self.time_ns

    def sleep_ns(self, duration_ns):
        self.time_ns += duration_ns


def endless(place, stage, monkeypatch):
    """Let more come whenever the recorder has looked."""
    tap = stage.taps[0]
    move = tap.move

    def move_and_write(buffer):
        moved = move(buffer)
        place.write(20)
        return moved

    monkeypatch.setattr(tap, "move", move_and_write)
    place.write(20)


@pytest.mark.parametrize("phase", [Phase.RUNNING, Phase.STOP_ORDERS])
def test_what_never_ends_is_recorded_until_the_deadline(place, monkeypatch, capfd, phase):
    stage = place.begin()
    stage.on_phase(phase, 0)
    endless(place, stage, monkeypatch)
    stage.clock = Ticking()
    stage.close()
    assert stage.clock.time_ns - SECOND_NS < DRAIN_NS_MAX + 100_000_000
    run = place.opened()
    assert run.manifest["stopped"] == "with slots left after 2000 ms" == LATE
    assert not run.manifest["complete"] and run.check() == []
    ((first, end),) = run.rings[MARKET_KEY].spans
    assert first == 0 and end == place.written - 20 > 3_000
    assert "alarm=" in capfd.readouterr().err


def test_what_is_recorded_just_in_time_is_complete(place, monkeypatch):
    """The deadline passes during the last look: nothing is left, so nothing is missing."""
    stage = place.begin()
    place.write(5)
    place.leave()
    looks = iter([0, DRAIN_NS_MAX + 1, DRAIN_NS_MAX + 2])
    monkeypatch.setattr(stage, "clock", Ticking())
    monkeypatch.setattr(stage.clock, "now_ns", lambda: next(looks))
    stage.close()
    assert place.opened().manifest["complete"]


def test_a_disk_that_fills_up_at_the_end_stops_the_recording(place, monkeypatch, capfd):
    stage = place.begin(free_bytes_min=1_000_000)
    work(stage)
    stage.on_phase(Phase.STOP_ORDERS, 0)
    endless(place, stage, monkeypatch)
    stage.clock = Ticking()
    real = os.statvfs

    def statvfs(path):
        found = list(real(path))
        found[4] = 0 if stage.clock.time_ns > 2 * SECOND_NS else found[4]  # f_bavail
        return os.statvfs_result(found)

    monkeypatch.setattr(os, "statvfs", statvfs)
    stage.close()
    assert stage.clock.time_ns < 2.1 * SECOND_NS and values_of(stage)["STOPPED"] == 1
    assert "recording_stopped" in capfd.readouterr().err
    run = place.opened()
    assert "the journal needs room too" in run.manifest["stopped"]
    assert not run.manifest["complete"] and run.check() == [] and run.rings[MARKET_KEY].spans


def test_a_lap_is_a_gap_and_the_run_is_not_complete(place):
    stage = place.begin()
    place.write(10)
    work(stage)
    place.write(65)
    work(stage, 2 * SECOND_NS)
    place.write(5)
    work(stage, 3 * SECOND_NS)
    ring = place.opened().rings[MARKET_KEY]
    assert (ring.spans, ring.gaps) == ([(0, 10), (75, 80)], [(10, 74)])
    assert [values_of(stage)[name] for name in ("LAPS", "SLOTS_LOST")] == [1, 65]
    place.leave()
    stage.close()
    assert not place.opened().manifest["complete"]


def test_a_late_start_tells_what_it_missed(place):
    place.write(70)
    stage = place.begin()
    work(stage)
    place.write(2)
    work(stage, 2 * SECOND_NS)
    ring = place.opened().rings[MARKET_KEY]
    assert (ring.spans, ring.gaps) == ([(70, 72)], [(0, 69)])


def test_a_restart_goes_on_where_the_killed_one_was(place):
    killed = place.begin()
    place.write(10)
    work(killed)
    place.write(20)
    again = place.begin()
    work(again)
    ring = place.opened().rings[MARKET_KEY]
    assert (ring.spans, ring.gaps) == ([(0, 30)], [])
    assert np.array_equal(ring.read(0, 30)[:, 0], np.arange(30))
    place.leave()
    again.close()
    assert place.opened().manifest["complete"]


def test_a_restart_that_comes_too_late_is_a_gap(place):
    killed = place.begin()
    place.write(10)
    work(killed)
    place.write(100)
    work(place.begin())
    assert place.opened().rings[MARKET_KEY].gaps == [(10, 109)]


def test_looks_at_the_rings_once_per_interval(place):
    stage = place.begin(poll_ms=10)
    place.write(1)
    assert stage.do_work(SECOND_NS) == 1 and stage.next_timer_ns() == SECOND_NS + 10_000_000
    place.write(1)
    assert stage.do_work(SECOND_NS + 9_999_999) == 0
    assert stage.do_work(SECOND_NS + 10_000_000) == 1


def test_goes_on_at_once_while_there_is_more_than_its_buffer_holds(place, monkeypatch):
    place.write(40)
    stage = place.begin()
    monkeypatch.setattr(stage, "_buffer", np.zeros(16 * 8, np.int64))
    assert [stage.do_work(SECOND_NS) for _ in range(4)] == [16, 16, 8, 0]
    assert place.opened().rings[MARKET_KEY].spans == [(0, 40)]


def test_stops_with_an_alarm_at_the_byte_limit(place, capfd):
    stage = place.begin(total_bytes_max=120_000)
    for second in range(1, 60):
        place.write(60)
        work(stage, second * SECOND_NS)
    assert stage.is_stopped and stage.next_timer_ns() == 0 and values_of(stage)["STOPPED"] == 1
    assert "recording_stopped" in capfd.readouterr().err
    run = place.opened()
    assert "expected less than total_bytes_max = 120000" in run.manifest["stopped"]
    assert not run.manifest["complete"] and run.check() == []
    assert 100_000 < run.size_bytes < 140_000
    place.write(60)
    assert work(stage, 100 * SECOND_NS) == 0, "it stays stopped"


def test_stops_before_the_disk_is_full(place):
    stage = place.begin(free_bytes_min=1 << 60)
    place.write(5)
    assert work(stage) == 0 and stage.is_stopped
    assert "the journal needs room too" in place.opened().manifest["stopped"]


def full_disk(fd, data):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_stops_the_recording_and_nothing_else(place, monkeypatch):
    stage = place.begin()
    place.write(5)
    work(stage)
    place.write(5)
    monkeypatch.setattr(os, "write", full_disk)
    assert work(stage, 2 * SECOND_NS) == 0
    monkeypatch.undo()
    assert stage.is_stopped and values_of(stage)["STOPPED"] == 1
    place.write(60)  # the others trade on
    place.leave()
    stage.close()
    run = place.opened()
    assert run.rings[MARKET_KEY].spans == [(0, 5)] and run.check() == []
    assert not run.manifest["complete"]


def test_a_disk_that_is_full_from_the_start_does_not_end_the_process(place, monkeypatch):
    monkeypatch.setattr(os, "write", full_disk)
    stage = place.begin()
    monkeypatch.undo()
    assert stage.is_stopped and stage.do_work(SECOND_NS) == 0


def commit(twin, turn):
    """Commit a block as a turn does."""
    twin.words[1 - (twin.flips & 1)] = turn * 10 + np.arange(5)
    twin.words[1 - (twin.flips & 1), 2] = turn
    twin.control[0] += 1


def test_checkpoints_the_state_when_turns_have_passed(place):
    stage = place.begin(checkpoint_ms=1_000)
    twin = place.new_state()
    for second, turn in ((1, 0), (3, 4), (3, 5), (5, 5), (7, 9)):
        commit(twin, turn)
        work(stage, second * SECOND_NS)
        stage.due_ns = 0
    stage.do_work(9 * SECOND_NS)
    place.leave()
    stage.close()
    twin.close()
    state = place.opened().rings["b.state"]
    assert state.read(0, 4).tolist() == [
        [turn, turn * 10, turn * 10 + 1, turn, turn * 10 + 3, turn * 10 + 4]
        for turn in (0, 4, 5, 9)
    ]


def test_a_gap_says_from_which_checkpoint_on_a_replay_may_begin(place):
    stage = place.begin(checkpoint_ms=1_000)
    twin = place.new_state()
    commit(twin, 1)
    place.write(5)
    work(stage)
    place.write(100)  # the reader is one slot behind the producer
    commit(twin, 2)
    stage.do_work(2 * SECOND_NS)
    assert place.opened().manifest["replay_from"] == {}, "b has not read up to the end of the gap"
    place.reader.read(64)
    commit(twin, 3)
    stage.do_work(3 * SECOND_NS)
    assert place.opened().manifest["replay_from"] == {"checkpoint": 2, "turn": 3}
    twin.close()


def test_packs_closed_segments_when_there_is_nothing_else_to_do(place):
    stage = place.begin(is_packed=True, segment_bytes_max=1 << 16)
    now_ns = SECOND_NS
    for _ in range(60):
        place.write(60)
        now_ns += 10_000_000
        assert stage.do_work(now_ns) == 60
    for _ in range(20):
        now_ns += 10_000_000
        stage.do_work(now_ns)
    assert values_of(stage)["SEGMENTS_PACKED"] == 3
    ring = place.opened().rings[MARKET_KEY]
    assert len(list((place.run / MARKET_KEY).glob("*.zst"))) == 3
    assert ring.spans == [(0, 3_600)] and ring.check() == []
    assert abs(stage.total_bytes - place.opened().size_bytes) < 4_096, "but for the manifest"


@pytest.mark.parametrize("key", KEYS)
def test_an_observer_never_waits_nor_writes(place, key):
    """The producers' and consumers' pages stay as they were."""
    stage = place.begin()
    before = place.market.stats() | place.reader.stats()
    work(stage)
    assert place.market.stats() | place.reader.stats() == before


def test_the_wiring_knows_where_the_strategy_counts_its_turns():
    assert wiring.STATES == (StateSpec("strategy", "state", desk.TURN_COUNT),)
    assert desk.block_dtype(1, np.dtype("<i8")).fields["words"][1] == 0

"""The recorder under a supervisor: whole through kills, last to leave, never a reason to stop."""

import contextlib
import os
import signal

import numpy as np
import pytest

from common.enums import KillSource
from common.records import LAYOUTS
from shm import registry
from shm.latch import Latch
from shm.recording import RECORDINGS, Run

from tests.processes.supervisor import test_app as supervised
from tests.support import wait_until

KEY = "source.market.sink"
WISH = {"total_bytes_max": 1 << 30, "free_bytes_min": 0, "poll_ms": 5}
start = supervised.start


@pytest.fixture
def recorded(tmp_path):
    """Open the one run of the state folder."""

    def find():
        (path,) = (tmp_path / RECORDINGS).iterdir()
        return Run.open(path)

    return find


def check_whole(run, slots):
    """Check that a recording holds every slot that was published, and that it says so."""
    assert run.manifest["complete"] and run.manifest["stopped"] == "in order"
    ring = run.rings[KEY]
    assert (ring.spans, ring.gaps, run.check()) == ([(0, slots)], [], [])
    found = ring.read(0, slots).reshape(-1).view(LAYOUTS["CLOCK"])["ts_mono_ns"]
    assert np.array_equal(found, np.arange(slots))


def test_a_run_stopped_in_order_is_whole_though_the_recorder_was_killed(start, recorded):
    run = start(recorder=WISH, keep=True)
    run.wait_for(" ready processes=4")
    for _ in range(2):
        before = run.status("recorder")
        wait_until(lambda: run.status("recorder")["slots"] > 20, "it records")
        os.kill(before["pid"], signal.SIGKILL)
        wait_until(
            lambda pid=before["pid"]: run.status("recorder")["pid"] != pid, "another recorder"
        )
    wait_until(lambda: run.status("source")["done"] > 200, "some more records")
    assert run.stop() == 0, run.text
    published = run.status("source")["done"]
    check_whole(recorded(), published)
    manifest = recorded().manifest
    assert manifest["instance"] == run.instance and manifest["rings"] == {KEY: "MARKET"}
    assert manifest["config"]["recorder"] == WISH and len(manifest["source_hash"]) == 16


def test_orphans_leave_a_whole_recording_too(start, recorded):
    run = start(recorder=WISH, drain_ms=200)
    run.wait_for(" ready processes=4")
    run.process.kill()
    run.process.wait()
    wait_until(lambda: "recorder recorded" in run.text, "the recorder has left")
    check_whole(recorded(), run.status("source")["done"])


@pytest.mark.parametrize(("code", "deaths"), [(1, 3), (78, 1)])
def test_the_run_goes_on_without_a_recorder_that_does_not_come_up(start, code, deaths):
    settings = {"restarts_max": 2, "restart_delay_ms": 10}
    run = start(recorder={"refuse_to_start": code}, settings=settings, keep=True)
    run.wait_for(" given_up process=recorder")
    run.wait_for(" ready processes=4")
    before = run.status("sink")["done"]
    wait_until(lambda: run.status("sink")["done"] > before + 10, "records flow")
    assert run.stop() == 0, run.text
    assert run.text.count("died process=recorder") == deaths
    with contextlib.closing(Latch.open(registry.instance_name(run.instance, "kill"))) as kill:
        assert kill.get(KillSource.SUPERVISOR) == 0

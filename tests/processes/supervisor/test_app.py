"""The supervisor with trivial stages: fork, READY, restart, back-off, orderly stop, orphans."""

import contextlib
import fcntl
import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from common.enums import KillSource, Phase
from processes.supervisor.app import Supervisor
from processes.supervisor.zygote import ZygoteHandle
from shm import registry, segment
from shm.counters import CountersReader
from shm.latch import Latch
from shm.observer import ring_stats

from tests.support import ROOT, is_alive, unique_instance, wait_until

SCRIPT = Path(__file__).with_name("fake_stages.py")


class Run:
    """One supervisor in a process of its own."""

    def __init__(self, state_dir: Path, **wish: Any) -> None:
        self.instance = wish.setdefault("instance", unique_instance())
        wish["state_dir"] = str(state_dir)
        code = "import sys, fake_stages; sys.exit(fake_stages.main())"
        path = os.pathsep.join([str(ROOT), str(SCRIPT.parent)])
        self.log = state_dir / f"log-{len(list(state_dir.iterdir()))}"
        with self.log.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code, json.dumps(wish)],
                env=os.environ | {"PYTHONPATH": path},
                stderr=file,
            )

    @property
    def text(self) -> str:
        return self.log.read_text()

    def wait_for(self, text: str, deadline_s: float = 30.0) -> None:
        wait_until(lambda: text in self.text or self.process.poll() is not None, text, deadline_s)
        assert text in self.text, self.text

    def status(self, name: str) -> dict[str, Any]:
        with contextlib.closing(
            CountersReader.open(registry.counters_name(self.instance, name))
        ) as reader:
            return reader.status() | reader.counters()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        wait_until(lambda: not registry.is_live(self.instance), "the instance is dead")
        registry.clean(self.instance)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    runs: list[Run] = []

    def begin(**wish: Any) -> Run:
        runs.append(Run(tmp_path, **wish))
        return runs[-1]

    yield begin
    for run in runs:
        run.end()


def test_runs_for_its_time_and_leaves_nothing(start: Any) -> None:
    run = start(run_for_s=0.5)
    assert run.process.wait(30) == 0, run.text
    assert " ready processes=3" in run.text
    assert 'reason="time is up"' in run.text
    assert registry.segments(run.instance) == []
    assert run.text.count("state state=STOPPED") >= 2


def test_keeps_segments_whose_ledger_balances_when_asked(start: Any) -> None:
    run = start(run_for_s=0.5, keep=True)
    assert run.process.wait(30) == 0, run.text
    assert not registry.is_live(run.instance)
    stats = ring_stats(registry.ring_name(run.instance, "source", "market", "sink"))
    assert stats["published"] > 50
    assert stats["offered"] == stats["published"] + stats["dropped"]
    assert stats["published"] == stats["consumed"] + stats["lag"]
    assert run.status("sink")["done"] == stats["consumed"]


def test_restarts_a_killed_process_where_it_left_off(start: Any) -> None:
    run = start()
    run.wait_for(" ready processes=3")
    before = run.status("source")
    os.kill(before["pid"], signal.SIGKILL)
    wait_until(lambda: run.status("source")["pid"] != before["pid"], "another process")
    wait_until(lambda: run.status("source")["done"] > before["done"] + 20, "it works again")
    with contextlib.closing(Latch.open(registry.instance_name(run.instance, "peers"))) as peers:
        wait_until(lambda: peers.get(1) == 2, "its second life is published")
        assert peers.get(2) == 1
    assert run.status("source")["restarts"] == 1
    assert run.stop() == 0, run.text


def test_kills_and_restarts_a_silent_process(start: Any) -> None:
    run = start(hang=True, settings={"heartbeat_age_ms_max": 500})
    run.wait_for(" silent process=source")
    run.wait_for(" died process=source")
    wait_until(lambda: run.status("source")["restarts"] == 1, "a restart")
    before = run.status("sink")["done"]
    wait_until(lambda: run.status("sink")["done"] > before + 10, "records flow again")
    assert run.stop() == 0


def test_an_exception_in_a_stage_is_a_bug_and_a_restart(start: Any) -> None:
    run = start(raise_in_loop=True)
    run.wait_for('bug error="ValueError: planted"')
    run.wait_for('how="exit code 70"')
    run.wait_for(" ready processes=3")
    assert run.stop() == 0


def test_a_crash_loop_backs_off_kills_trading_and_ends(start: Any) -> None:
    run = start(refuse_to_start=1, keep=True, settings={"restarts_max": 3, "restart_delay_ms": 20})
    assert run.process.wait(30) == 70
    delays = [
        line.rpartition("restart_in_ms=")[2]
        for line in run.text.splitlines()
        if "died process=source" in line
    ]
    assert delays == ["20", "40", "80", "never"]
    with contextlib.closing(Latch.open(registry.instance_name(run.instance, "kill"))) as kill:
        assert kill.get(KillSource.SUPERVISOR) == 1


@pytest.mark.parametrize(
    ("what", "size"),
    [("source.market.sink", 4_096), ("source.counters", 4_096), ("sink.bbo", 0), ("kill", 0)],
)
def test_a_segment_that_is_cut_off_ends_the_run_in_order(start: Any, what: str, size: int) -> None:
    """Who touches it dies by SIGBUS: nothing wrong is read, and nobody attaches to it again.

    Mostly it is seen before anybody touches it; if the supervisor itself does, the others end in
    order without it.
    """
    run = start(drain_ms=50, keep=True)
    run.wait_for(" ready processes=3")
    pids = [run.status(name)["pid"] for name in ("source", "sink", "service")]
    path = segment.path_of(f"tickring.{run.instance}.{what}")
    os.truncate(path, size)
    code = run.process.wait(30)
    wait_until(lambda: not any(is_alive(pid) for pid in pids), "all have left")
    assert run.text.count("started pid=") == 3, run.text  # nobody was started anew
    if code == -signal.SIGBUS:
        assert "supervisor_gone" in run.text
        return
    assert code == 70, run.text
    assert "killed source=SUPERVISOR" in run.text
    (reason,) = [line for line in run.text.splitlines() if " failing reason=" in line]
    assert f"{path.name}: {size} bytes, expected " in reason


def test_a_process_that_dies_by_sigbus_is_not_started_anew(start: Any) -> None:
    run = start(keep=True)
    run.wait_for(" ready processes=3")
    os.kill(run.status("sink")["pid"], signal.SIGBUS)
    assert run.process.wait(30) == 70
    assert 'failing reason="sink ended with SIGBUS; a segment was cut off"' in run.text
    assert "source state state=STOPPED" in run.text
    with contextlib.closing(Latch.open(registry.instance_name(run.instance, "kill"))) as kill:
        assert kill.get(KillSource.SUPERVISOR) == 1


def test_a_config_error_in_a_process_is_not_tried_again(start: Any) -> None:
    run = start(refuse_to_start=78)
    assert run.process.wait(30) == 78
    assert run.text.count("died process=source") == 1


def test_waits_for_orders_to_drain(start: Any) -> None:
    run = start(run_for_s=0.2, drain_ms=600)
    assert run.process.wait(30) == 0, run.text
    lines = run.text.splitlines()
    stopping = next(float(line.split()[0]) for line in lines if " stopping " in line)
    stopped = next(float(line.split()[0]) for line in lines if "source state state=STOPPED" in line)
    assert stopped - stopping > 0.5


def test_a_drain_that_never_ends_is_cut_off_and_reported(start: Any) -> None:
    run = start(run_for_s=0.2, drain_ms=60_000, settings={"drain_s_max": 1})
    assert run.process.wait(30) == 69
    assert "not_drained waiting=source" in run.text


def test_children_end_in_order_when_the_supervisor_is_killed(start: Any) -> None:
    run = start(drain_ms=300)
    run.wait_for(" ready processes=3")
    pids = [run.status(name)["pid"] for name in ("source", "sink", "service")]
    run.process.kill()
    run.process.wait()
    wait_until(lambda: not any(is_alive(pid) for pid in pids), "all children are gone")
    assert run.status("source")["stop_orders"] == 1
    assert run.text.count("orphan_exit drained=True late=False") == 3
    assert not registry.is_live(run.instance)
    assert registry.segments(run.instance) != []


def test_a_service_manager_that_signals_everybody_gets_an_orderly_stop(start: Any) -> None:
    run = start(drain_ms=300)
    run.wait_for(" ready processes=3")
    for name in ("source", "sink", "service"):
        os.kill(run.status(name)["pid"], signal.SIGTERM)
    assert run.stop() == 0, run.text
    assert "died" not in run.text
    assert "source state state=STOPPED" in run.text


def test_an_orphan_that_cannot_drain_is_given_its_deadline(start: Any) -> None:
    run = start(drain_ms=60_000, settings={"drain_s_max": 1})
    run.wait_for(" ready processes=3")
    pids = [run.status(name)["pid"] for name in ("source", "sink", "service")]
    run.process.kill()
    run.process.wait()
    wait_until(lambda: not any(is_alive(pid) for pid in pids), "all children are gone")
    assert "orphan_exit drained=False late=True" in run.text


def test_everything_stops_when_the_zygote_is_killed(start: Any) -> None:
    run = start()
    run.wait_for(" ready processes=3")
    pid = run.status("source")["pid"]
    zygote = psutil.Process(pid).parent()
    assert zygote.pid != run.process.pid
    zygote.kill()
    assert run.process.wait(30) == 70, run.text
    assert "zygote has died" in run.text
    assert not is_alive(pid)
    assert registry.segments(run.instance) == []


@pytest.mark.parametrize("seed", range(4))
def test_everything_stops_when_the_zygote_is_killed_while_it_forks(start: Any, seed: int) -> None:
    """A request not read, a child it never told of, a death it collected and did not report."""
    run = start(
        refuse_to_start=1,
        settings={"restarts_max": 10_000, "restart_delay_ms": 1, "restart_delay_ms_max": 1},
    )
    run.wait_for(" died process=source")
    zygote = psutil.Process(run.status("service")["pid"]).parent()
    deaths = random.Random(seed).randrange(2, 40)
    wait_until(lambda: run.text.count(" died process=source") >= deaths, "it is restarted")
    children = psutil.Process(run.process.pid).children(recursive=True)
    zygote.kill()
    assert run.process.wait(30) == 70, run.text
    assert "zygote has died" in run.text
    assert "Traceback" not in run.text
    assert not any(is_alive(child.pid) for child in children)
    assert registry.segments(run.instance) == []


def test_an_observer_that_hangs_at_its_start_stops_nothing(start: Any) -> None:
    run = start(recorder="hang", run_for_s=0.5, settings={"start_s_max": 2, "exit_s_max": 1})
    assert run.process.wait(30) == 0, run.text
    assert "not_ready process=recorder" in run.text
    assert 'reason="time is up"' in run.text
    assert "not_drained" not in run.text


def test_cleans_a_dead_instance_and_refuses_a_live_one(start: Any) -> None:
    first = start()
    first.wait_for(" ready processes=3")
    second = start(instance=first.instance)
    assert second.process.wait(30) != 0
    assert "is held by pid" in second.text
    first.process.kill()
    first.process.wait()
    third = start(instance=first.instance, run_for_s=0.2)
    assert third.process.wait(30) == 0, third.text


def test_a_kill_in_the_state_folder_outlives_the_run(start: Any, tmp_path: Path) -> None:
    (tmp_path / "kill").write_text("COMMAND_LINE\n")
    run = start(run_for_s=0.2, keep=True)
    assert run.process.wait(30) == 0
    with contextlib.closing(Latch.open(registry.instance_name(run.instance, "kill"))) as kill:
        assert kill.get(KillSource.COMMAND_LINE) == 1


def test_a_kill_by_any_process_is_put_on_disk(start: Any, tmp_path: Path) -> None:
    run = start()
    run.wait_for(" ready processes=3")
    name = registry.instance_name(run.instance, "kill")
    with contextlib.closing(Latch.open(name, writable=True)) as kill:
        kill.set(KillSource.RISK)
    run.wait_for("killed source=RISK")
    assert run.stop() == 0
    assert (tmp_path / "kill").read_text() == "RISK\n"


def test_a_kill_that_cannot_be_put_on_disk_is_tried_again(start: Any, tmp_path: Path) -> None:
    run = start()
    run.wait_for(" ready processes=3")
    (tmp_path / "kill").mkdir()  # nothing can be written to it
    name = registry.instance_name(run.instance, "kill")
    with contextlib.closing(Latch.open(name, writable=True)) as kill:
        kill.set(KillSource.RISK)
    run.wait_for("kill_not_on_disk")
    (tmp_path / "kill").rmdir()
    wait_until((tmp_path / "kill").is_file, "it is on disk")
    assert run.stop() == 0
    assert (tmp_path / "kill").read_text() == "RISK\n"
    assert run.text.count("kill_not_on_disk") == 1


def test_a_kill_file_that_a_stopped_tool_holds_does_not_stop_the_supervisor(
    start: Any, tmp_path: Path
) -> None:
    run = start(run_for_s=1.0)
    run.wait_for(" ready processes=3")
    name = registry.instance_name(run.instance, "kill")
    with (tmp_path / "kill").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with contextlib.closing(Latch.open(name, writable=True)) as kill:
            kill.set(KillSource.RISK)
        run.wait_for("kill_not_on_disk")
        assert run.process.wait(30) == 0, run.text
    assert (tmp_path / "kill").read_text() == ""


def test_a_death_that_the_zygote_did_not_report_any_more_is_noticed() -> None:
    supervisor = Supervisor.__new__(Supervisor)  # of its state only this is looked at
    managed = SimpleNamespace(pid=os.getppid())  # no child of ours: somebody collected it
    supervisor.processes = {"source": managed}  # type: ignore[dict-item]
    exits: list[tuple[int, int]] = []
    supervisor._on_exit = lambda *found: exits.append(found)  # type: ignore[method-assign]
    supervisor._collect_orphans()
    assert exits == [(managed.pid, 70)]


def test_a_request_to_a_dead_zygote_is_noticed_by_the_next_look() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    zygote = ZygoteHandle(0, ours, -1)
    theirs.close()
    zygote.request(fork="source", epoch=1)
    assert zygote.is_alive
    assert zygote.receive() == [] and not zygote.is_alive
    ours.close()


def test_phase_reaches_exit(start: Any) -> None:
    run = start(run_for_s=0.2, keep=True)
    assert run.process.wait(30) == 0
    with contextlib.closing(Latch.open(registry.instance_name(run.instance, "phase"))) as phase:
        assert [phase.get(0), phase.get(1)] == [Phase.EXIT, Phase.EXIT]

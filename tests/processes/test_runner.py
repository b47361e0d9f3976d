"""The shell with a scripted stage: idle strategies, wake-ups, phases, heartbeat, exit codes."""

import os
import select
import signal
import socket
import threading
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common import clock
from common.enums import Phase, ProcessState
from common.errors import BugError, ConfigError, UnavailableError
from processes import runner
from processes.runner import NO_FD, Context, Shell, guard, load_builder
from processes.supervisor.config import SupervisorConfig
from processes.supervisor.segments import Pages
from processes.supervisor.setup import Setup
from processes.wiring import Plan, ProcessSpec, RingSpec, TableSpec
from shm.counters import Status
from shm.ring import Producer

from tests.support import unique_instance

PLAN = Plan(
    (ProcessSpec("left", "x:y", "market", True), ProcessSpec("right", "x:y", "order", True)),
    (RingSpec("left", "market", "right", "MARKET", "drop", 64),),
    (TableSpec("right", "bbo", "BBO_CELL", 2),),
)
LONG_NS = 1_000_000_000


class Stage:
    """Does what the test says, and remembers when it was called."""

    def __init__(self, consumers: list[Any] | None = None) -> None:
        self.calls: list[int] = []
        self.phases: list[Phase] = []
        self.consumers = consumers or []
        self.script: Any = lambda stage, now_ns: 0
        self.timer_ns = 0
        self.ready = True
        self.drained = True

    def do_work(self, now_ns: int) -> int:
        self.calls.append(now_ns)
        return int(self.script(self, now_ns))

    def next_timer_ns(self) -> int:
        return self.timer_ns

    def on_phase(self, phase: Phase, now_ns: int) -> None:
        self.phases.append(phase)

    def is_ready(self) -> bool:
        return self.ready

    def is_drained(self) -> bool:
        return self.drained


@pytest.fixture
def world(tmp_path: Path) -> Iterator[tuple[Pages, Context, Context]]:
    setup = Setup(
        instance=unique_instance(),
        config={},
        state_dir=tmp_path,
        instruments=[],
        plan=PLAN,
        settings=SupervisorConfig(),
    )
    pages = Pages(setup)
    left, right = setup.context("left", 1), setup.context("right", 1)
    handlers = [(n, signal.getsignal(n)) for n in (signal.SIGTERM, signal.SIGINT)]
    yield pages, left, right
    for number, handler in handlers:
        signal.signal(number, handler)
    left.close()
    right.close()
    pages.close(keep=False)


def shell_of(stage: Any, context: Context, **changes: Any) -> Shell:
    wish: dict[str, Any] = {
        "idle": "park", "spin_ns_max": 0, "supervisor_fd": NO_FD, "orphan_ns_max": LONG_NS,
    }  # fmt: skip
    return Shell(stage, context, **(wish | changes))


def slots(count: int) -> np.ndarray:
    return np.zeros((count, 8), np.int64)


def end_after(shell_box: list[Shell], calls: int) -> Any:
    def script(stage: Stage, now_ns: int) -> int:
        if len(stage.calls) >= calls:
            shell_box[0].is_ended = True
        return 0

    return script


@pytest.mark.parametrize("idle", ["spin", "yield", "park"])
def test_every_idle_strategy_comes_back_to_work(world: Any, idle: Any) -> None:
    pages, left, right = world
    stage = Stage([right.consumer("left", "market")])
    box = [shell_of(stage, right, idle=idle)]
    stage.script = end_after(box, 3)
    box[0].run()
    assert len(stage.calls) == 3


def test_a_parked_stage_sleeps_until_its_bell_rings(world: Any) -> None:
    pages, left, right = world
    consumer = right.consumer("left", "market")
    producer: Producer = left.producer("market", "right")
    stage = Stage([consumer])
    shell = shell_of(stage, right)
    read: list[int] = []

    def script(stage: Stage, now_ns: int) -> int:
        count = len(consumer.read(8))
        if count:
            read.append(now_ns)
            shell.is_ended = True
        return count

    stage.script = script
    producer.write(slots(1))  # loads the kernels
    assert len(consumer.read(8)) == 1
    started_ns = clock.now_ns()
    timer = threading.Timer(0.01, lambda: producer.write(slots(1)))
    timer.start()
    shell.run()
    timer.join()
    # Some calls, then a sleep that the bell ended: not the 50 ms heartbeat, not a spin.
    assert len(stage.calls) <= 4
    assert 9_000_000 < read[0] - started_ns < runner.HEARTBEAT_NS


def test_a_stage_with_work_waiting_does_not_sleep(world: Any) -> None:
    pages, left, right = world
    consumer = right.consumer("left", "market")
    left.producer("market", "right").write(slots(1))
    stage = Stage([consumer])
    box = [shell_of(stage, right)]
    stage.script = end_after(box, 50)  # it never reads, so the shell must never park
    started_ns = clock.now_ns()
    box[0].run()
    assert clock.now_ns() - started_ns < 50 * runner.HEARTBEAT_NS / 2


def test_a_timer_ends_the_sleep(world: Any) -> None:
    pages, left, right = world
    stage = Stage()
    box = [shell_of(stage, right)]

    def script(stage: Stage, now_ns: int) -> int:
        if len(stage.calls) == 1:
            stage.timer_ns = now_ns + 5_000_000
        if len(stage.calls) == 2:
            box[0].is_ended = True
        return 0

    stage.script = script
    box[0].run()
    assert 4_000_000 < stage.calls[1] - stage.calls[0] < runner.HEARTBEAT_NS


def test_sockets_wake_it_and_may_change(world: Any) -> None:
    pages, left, right = world
    pairs = [socket.socketpair() for _ in range(2)]
    stage = Stage()
    stage.fds_version = 1  # type: ignore[attr-defined]
    current = [pairs[0]]
    stage.fds = lambda: [(current[0][1].fileno(), select.EPOLLIN)]  # type: ignore[attr-defined]
    shell = shell_of(stage, right)
    heard: list[bytes] = []

    def script(stage: Any, now_ns: int) -> int:
        here = current[0][1]
        here.setblocking(False)
        try:
            heard.append(here.recv(10))
        except BlockingIOError:
            if len(stage.calls) in (1, 3):
                current[0][0].send(b"%d" % len(stage.calls))
            return 0
        if len(heard) == 1:  # close it: the kernel forgets it, its number is free again
            pairs[0][0].close()
            here.close()
            current[0] = pairs[1]
            stage.fds_version = 2
        else:
            shell.is_ended = True
        return 1

    stage.script = script
    shell.run()
    assert heard == [b"1", b"3"]
    for one in pairs[1]:
        one.close()


def test_states_and_phases_follow_the_supervisor(world: Any) -> None:
    pages, left, right = world
    stage = Stage()
    stage.ready = stage.drained = False
    shell = shell_of(stage, right)
    shell.housekeep(clock.now_ns())
    assert shell.status[Status.STATE] == ProcessState.STARTING
    stage.ready = True
    shell.housekeep(clock.now_ns())
    assert shell.status[Status.STATE] == ProcessState.READY
    pages.phase.set(0, Phase.STOP_ORDERS)
    shell.housekeep(clock.now_ns())
    assert shell.status[Status.STATE] == ProcessState.STOPPING
    stage.drained = True
    shell.housekeep(clock.now_ns())
    assert shell.status[Status.STATE] == ProcessState.STOPPED
    assert not shell.is_ended
    pages.phase.set(0, Phase.EXIT)
    shell.housekeep(clock.now_ns())
    assert shell.is_ended
    assert stage.phases == [Phase.STOP_ORDERS, Phase.EXIT]


def test_the_heart_beats_while_it_sleeps_and_while_it_works(world: Any) -> None:
    pages, left, right = world
    stage = Stage()
    shell = shell_of(stage, right)
    beats: list[int] = []

    def script(stage: Stage, now_ns: int) -> int:
        beats.append(int(shell.status[Status.HEARTBEAT_NS]))
        shell.is_ended = now_ns - stage.calls[0] > 3 * runner.HEARTBEAT_NS
        return len(stage.calls) % 2

    stage.script = script
    shell.run()
    assert len(set(beats)) >= 3
    assert stage.calls[-1] - beats[-1] <= 2 * runner.HEARTBEAT_NS


def test_long_cycles_are_counted(world: Any) -> None:
    pages, left, right = world
    stage = Stage()
    box = [shell_of(stage, right)]

    def script(stage: Stage, now_ns: int) -> int:
        end_ns = now_ns + (3_000_000 if len(stage.calls) == 2 else 0)
        while clock.now_ns() < end_ns:
            pass
        box[0].is_ended = len(stage.calls) == 3
        return 1

    stage.script = script
    box[0].run()
    assert box[0].status[Status.CYCLES_OVER_LIMIT] >= 1
    assert box[0].status[Status.CYCLE_NS_MAX] >= 3_000_000


def test_sigterm_ends_the_loop(world: Any) -> None:
    pages, left, right = world
    stage = Stage()
    shell = shell_of(stage, right)

    def script(stage: Stage, now_ns: int) -> int:
        if len(stage.calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return 0

    stage.script = script
    shell.run()
    assert len(stage.calls) <= 3


@pytest.mark.parametrize("idle", ["spin", "yield", "park"])
def test_an_orphan_stops_orders_and_leaves_when_drained(world: Any, idle: Any) -> None:
    pages, left, right = world
    read_fd, write_fd = os.pipe()
    stage = Stage()
    stage.drained = False
    shell = shell_of(stage, right, supervisor_fd=read_fd, idle=idle)

    def script(stage: Stage, now_ns: int) -> int:
        if len(stage.calls) == 2:
            os.close(write_fd)
        if Phase.STOP_ORDERS in stage.phases:
            stage.drained = True
        return 0

    stage.script = script
    shell.run()
    assert stage.phases[-1] == Phase.STOP_ORDERS
    assert shell.status[Status.STATE] == ProcessState.STOPPED
    os.close(read_fd)


def test_an_orphan_waits_for_its_peers_but_not_for_ever(world: Any) -> None:
    pages, left, right = world
    read_fd, write_fd = os.pipe()
    peer = shell_of(Stage(), left)  # alive, READY, and never told to stop
    peer.housekeep(clock.now_ns())
    stage = Stage()
    shell = shell_of(stage, right, supervisor_fd=read_fd, orphan_ns_max=200_000_000)
    os.close(write_fd)
    started_ns = clock.now_ns()
    shell.run()
    assert clock.now_ns() - started_ns >= 200_000_000
    os.close(read_fd)


def test_peers_tell_epochs_of_the_dead_and_the_living(world: Any) -> None:
    pages, left, right = world
    assert (right.peers.is_up("left"), right.peers.epoch("left")) == (False, 0)
    pages.peers.set("left", 1, True)
    assert (right.peers.is_up("left"), right.peers.epoch("left")) == (True, 1)
    pages.peers.set("left", 1, False)
    assert (right.peers.is_up("left"), right.peers.epoch("left")) == (False, 1)
    assert right.peers.word("nobody") == 0


def test_context_opens_only_what_the_wiring_gives(world: Any) -> None:
    pages, left, right = world
    with pytest.raises(BugError, match=r"ring left\.other\.right is not in it"):
        left.producer("other", "right")
    with pytest.raises(BugError, match=r"table left\.bbo is not in it"):
        left.table_writer("bbo")
    assert len(right.table_writer("bbo")) == 2
    assert left.table_reader("right", "bbo").read(0) is None


def test_counters_of_a_restarted_process_go_on_and_its_state_does_not(world: Any) -> None:
    class Number(IntEnum):
        ONE = 0

    pages, left, right = world
    first = left.counters({Number.ONE: "One (monotonic)"}, [])
    first.values[0] = 7
    first.status[Status.STATE] = ProcessState.READY
    first.close()
    again = left.counters({Number.ONE: "One (monotonic)"}, [])
    assert again.values[0] == 7
    assert again.status[Status.STATE] == ProcessState.STARTING


def test_guard_turns_every_end_into_an_exit_code(capsys: Any) -> None:
    def raise_(error: Exception) -> None:
        raise error

    assert guard(lambda: None) == 0
    assert guard(lambda: raise_(ConfigError("x"))) == 78
    assert guard(lambda: raise_(UnavailableError("x"))) == 69
    assert guard(lambda: raise_(KeyError("planted"))) == 70
    assert "KeyError: 'planted'" in capsys.readouterr().err


def test_load_builder_names_what_is_missing() -> None:
    assert load_builder("processes.runner:guard") is guard
    for where in ("processes.nothing:build", "processes.runner:nothing"):
        with pytest.raises(ConfigError, match=where):
            load_builder(where)

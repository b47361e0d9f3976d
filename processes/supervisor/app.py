"""The supervisor: fork, watch, restart, stop in order; decides by what it reads in shared memory.

WARMING -> STARTING -> RUNNING -> DRAINING -> LEAVING -> DONE
"""

import contextlib
import ctypes
import enum
import os
import selectors
import signal
from collections.abc import Callable
from typing import Any, Protocol

import psutil

from common import clock
from common.enums import KillSource, Phase, ProcessState
from common.errors import BugError, ConfigError, TickringError, UnavailableError
from processes.inspector.instance import rss_bytes
from processes.runner import phase_word, run_process
from processes.supervisor.notify import ServiceManager
from processes.supervisor.placement import Placement
from processes.supervisor.restarts import NEVER, RestartLimits, Restarts
from processes.supervisor.segments import Pages, add_to_kill_file, read_kill_file
from processes.supervisor.setup import Setup
from processes.supervisor.zygote import WarmUp, ZygoteHandle, start_zygote
from processes.wiring import ProcessSpec
from shm.counters import CountersReader
from shm.registry import counters_name
from shm.segment import build_hash

TICK_S = 0.02
WARM_UP_NS_MAX = 600_000_000_000
KILL_FILE_RETRY_NS = 1_000_000_000
ORPHAN_GRACE_NS = 2_000_000_000
_PR_SET_CHILD_SUBREAPER = 36
_FATAL_CODES = {2, ConfigError.exit_code}


class Step(enum.IntEnum):
    """Where the run is."""

    WARMING = 1
    STARTING = 2
    RUNNING = 3
    DRAINING = 4
    LEAVING = 5
    DONE = 6


class Screen(Protocol):
    """Where the operator sees what happens."""

    def progress(self, step: str, done: int, total: int) -> None:
        """Show how far the kernels are."""

    def event(self, name: str, **values: object) -> None:
        """Show one change of state."""

    def tick(self, supervisor: "Supervisor", now_ns: int) -> None:
        """Refresh, when due."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class Managed:
    """What the supervisor knows of one process."""

    def __init__(self, spec: ProcessSpec, limits: RestartLimits) -> None:
        self.spec = spec
        self.name = spec.name
        self.restarts = Restarts(limits)
        self.epoch = 0
        self.pid = 0  # 0: not running
        self.last_pid = 0
        self.is_asked_for = False  # a fork was requested and not confirmed
        self.is_up = False
        self.is_given_up = False  # an observer that nobody starts again
        self.started_ns = 0
        self.due_ns = 0  # instant of the next start, 0 none
        self.reader: CountersReader | None = None
        self.state = ""
        self.rss_bytes = 0
        self.core: int | None = None

    @property
    def is_gone(self) -> bool:
        """True if nothing runs and nothing will."""
        return self.pid == 0 and not self.is_asked_for and self.due_ns == 0

    def status(self, instance: str) -> dict[str, Any] | None:
        """Return the status words of the running process, None until they are its own."""
        if self.reader is None:
            try:
                self.reader = CountersReader.open(counters_name(instance, self.name))
            except TickringError:
                return None  # not made yet
        status: dict[str, Any] = self.reader.status()
        if status["pid"] != self.pid or status["start_ns"] < self.started_ns:
            return None
        return status


class Supervisor:
    """Runs one set-up from the first fork to the last exit.

    Args:
        setup: what to run.
        placement: cores and idle strategies.
        screen: where to tell.
        warm_up: what the zygote loads.
        run_for_ns: how long, counted from all READY; 0: until a signal.
    """

    def __init__(
        self,
        setup: Setup,
        placement: Placement,
        screen: Screen,
        warm_up: WarmUp,
        run_for_ns: int = 0,
        stderr_path: Any = None,
    ) -> None:
        self.setup = setup
        self.settings = setup.settings
        self.placement = placement
        self.screen = screen
        self.run_for_ns = run_for_ns
        self.manager = ServiceManager()
        self.step = Step.WARMING
        self.code = 0
        self.reason = ""
        self.is_drained = False
        self.deadline_ns = clock.now_ns() + WARM_UP_NS_MAX
        self.ready_ns = 0
        self.stop_ns = 0
        self.signals = 0
        self.pages: Pages | None = None
        self.kills: set[KillSource] = set()  # those told
        self.kills_on_disk: set[KillSource] = set()
        self.kill_file_due_ns = 0
        limits = RestartLimits(
            self.settings.restarts_max,
            self.settings.restart_delay_ms * 1_000_000,
            self.settings.restart_delay_ms_max * 1_000_000,
            self.settings.restart_reset_s * 1_000_000_000,
        )
        self.processes = {spec.name: Managed(spec, limits) for spec in setup.plan.processes}
        for managed in self.processes.values():
            managed.core = placement.cores[managed.name]
        build_hash()  # once for all: an edit of the sources must not look like another build
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        orphan_ns_max = self.settings.drain_s_max * 1_000_000_000
        self.zygote: ZygoteHandle = start_zygote(
            warm_up,
            lambda request, fd: self._run_child(request, fd, orphan_ns_max),
            orphan_ns_max + ORPHAN_GRACE_NS,
            stderr_path,
        )

    def _run_child(self, request: dict[str, Any], supervisor_fd: int, orphan_ns_max: int) -> None:
        """Be one process; runs in the forked child."""
        name = request["fork"]
        run_process(
            lambda: self.setup.context(name, request["epoch"]),
            core=self.placement.cores[name],
            idle=self.placement.idle[name],
            spin_ns_max=self.settings.spin_ns_max,
            supervisor_fd=supervisor_fd,
            orphan_ns_max=orphan_ns_max,
        )

    def run(
        self, before_clean: Callable[["Supervisor"], int] | None = None, keep: bool = False
    ) -> int:
        """Run to the end.

        Args:
            before_clean: called when all processes are gone and the segments still there; its
                code counts if nothing else went wrong.
            keep: leave the segments for the inspector.

        Returns:
            Exit code.
        """
        selector = selectors.DefaultSelector()
        selector.register(self.zygote, selectors.EVENT_READ)
        previous = {
            number: signal.signal(number, self._on_signal)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        try:
            self.pages = Pages(self.setup)
            self._latch_earlier_kills()
            while self.step != Step.DONE:
                selector.select(TICK_S)
                self._handle_packets(selector)
                now_ns = clock.now_ns()
                self._tick(now_ns)
                self.screen.tick(self, now_ns)
                self.manager.tick(now_ns)
            self.kill_file_due_ns = 0
            self._note_kills(clock.now_ns())
            if before_clean is not None:
                self.code = before_clean(self) or self.code
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            selector.close()
            self._leave(keep)
        return self.code

    def _leave(self, keep: bool) -> None:
        for managed in self.processes.values():
            if managed.pid:  # only after an error in here: nobody may outlive us unwatched
                with contextlib.suppress(ProcessLookupError):
                    os.kill(managed.pid, signal.SIGKILL)
        self.zygote.close()
        if self.pages is not None:
            self.pages.close(keep)

    def _on_signal(self, number: int, frame: object) -> None:
        self.signals += 1

    def _latch_earlier_kills(self) -> None:
        assert self.pages is not None
        self.kills_on_disk.update(read_kill_file(self.setup.state_dir))
        self.kills.update(self.kills_on_disk)
        for source in self.kills:
            self.pages.kill.set(source)
            self.screen.event("killed_before", source=source.name, file="kill in state_dir")

    # ---- what the zygote says

    def _handle_packets(self, selector: selectors.BaseSelector) -> None:
        was_alive = self.zygote.is_alive
        for packet in self.zygote.receive():
            if "step" in packet:
                self.screen.progress(packet["step"], packet["done"], packet["total"])
            elif "ready" in packet:
                self.zygote.is_warm = True
                self.screen.event("kernels_ready", seconds=round(packet["ready"], 2))
                self._set_step(Step.STARTING, self.settings.start_s_max)
            elif "forked" in packet:
                self._on_forked(self.processes[packet["forked"]], packet["pid"])
            elif "exited" in packet:
                self._on_exit(packet["exited"], packet["code"])
        if was_alive and not self.zygote.is_alive:
            selector.unregister(self.zygote)
            self._on_zygote_death()
        if not self.zygote.is_alive:
            self._collect_orphans()

    def _on_zygote_death(self) -> None:
        self.zygote.collect()  # from here on its children are ours: we are their subreaper
        for managed in self.processes.values():
            managed.is_asked_for = False
            managed.due_ns = 0
        known = {managed.pid for managed in self.processes.values()}
        for child in psutil.Process().children():
            if child.pid not in known:  # forked, and it could not say so any more
                child.kill()
                child.wait()
        self.fail("zygote has died", BugError.exit_code)

    def _collect_orphans(self) -> None:
        """Collect the children of a dead zygote."""
        for managed in self.processes.values():
            if not managed.pid:
                continue
            try:
                pid, status = os.waitpid(managed.pid, os.WNOHANG)
            except ChildProcessError:  # the zygote had collected it, and could not say so any more
                self._on_exit(managed.pid, BugError.exit_code)
                continue
            if pid:
                self._on_exit(pid, os.waitstatus_to_exitcode(status))

    def _on_forked(self, managed: Managed, pid: int) -> None:
        managed.pid = managed.last_pid = pid
        managed.is_asked_for = False

    def _on_exit(self, pid: int, code: int) -> None:
        managed = next((m for m in self.processes.values() if m.pid == pid), None)
        if managed is None:
            return
        assert self.pages is not None
        managed.pid = 0
        managed.is_up = False
        managed.state = ""
        self.pages.peers.set(managed.name, managed.epoch, False)
        self.pages.ring_bells()
        if self.step >= Step.LEAVING:
            return
        now_ns = clock.now_ns()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        due_ns = NEVER
        if code == -signal.SIGBUS:
            self._kill_trading()
            wrong = self.pages.audit(now_ns) or "a segment was cut off"
            self.fail(f"{managed.name} ended with SIGBUS; {wrong}", BugError.exit_code)
        elif managed.spec.is_observer:
            due_ns = self._next_start_of_observer(managed, code, now_ns)
        elif managed.spec.is_essential or code in _FATAL_CODES:
            self.fail(f"{managed.name} ended with {how}", max(code, 0) or BugError.exit_code)
        else:
            due_ns = managed.restarts.on_death(now_ns)
            if due_ns == NEVER:
                self._kill_trading()
                self.fail(
                    f"{managed.name} died {self.settings.restarts_max + 1} times in a row",
                    BugError.exit_code,
                )
        if due_ns != NEVER:
            managed.due_ns = due_ns
        delay_ms = (due_ns - now_ns) // 1_000_000 if due_ns != NEVER else "never"
        self.screen.event("died", process=managed.name, pid=pid, how=how, restart_in_ms=delay_ms)

    def _next_start_of_observer(self, managed: Managed, code: int, now_ns: int) -> int:
        """Return when to start an observer again; without it the run goes on."""
        due_ns = NEVER if code in _FATAL_CODES else managed.restarts.on_death(now_ns)
        if due_ns == NEVER:
            managed.is_given_up = True
            self.screen.event("given_up", process=managed.name)
        return due_ns

    def _kill_trading(self) -> None:
        assert self.pages is not None
        self.pages.kill.set(KillSource.SUPERVISOR)
        self.pages.ring_bells()
        self._note_kills(clock.now_ns())

    def _note_kills(self, now_ns: int) -> None:
        """Latch every word of the kill page on disk: a service is started again.

        A full disk may be what killed, or a stopped tool may hold the file: it is tried again once
        a second, and never waited for.
        """
        assert self.pages is not None
        found = {source for source in KillSource if self.pages.kill.get(source)}
        for source in sorted(found - self.kills):
            self.screen.event("killed", source=source.name)
            self.kill_file_due_ns = 0
        missing = sorted(found - self.kills_on_disk)
        if missing and now_ns >= self.kill_file_due_ns:
            try:
                for source in missing:
                    add_to_kill_file(self.setup.state_dir, source, waits=False)
                    self.kills_on_disk.add(source)
            except OSError as error:
                self.kill_file_due_ns = now_ns + KILL_FILE_RETRY_NS
                if not found <= self.kills:
                    self.screen.event("kill_not_on_disk", error=error)
        self.kills |= found

    # ---- one step at a time

    def _set_step(self, step: Step, seconds_max: float) -> None:
        self.step = step
        self.deadline_ns = clock.now_ns() + int(seconds_max * 1e9)

    def _set_phase(self, phase: Phase, word: int = 0) -> None:
        assert self.pages is not None
        self.pages.phase.set(word, phase)
        if phase < Phase.EXIT:
            self.pages.phase.set(1, phase)
        self.pages.ring_bells()

    def fail(self, reason: str, code: int) -> None:
        """Stop in order because something is wrong; the first reason stays."""
        if self.code == 0:
            self.code = code
            self.screen.event("failing", reason=reason, code=code)
        self.begin_stop(reason)

    def begin_stop(self, reason: str) -> None:
        """No new orders; cancel all; then leave."""
        if self.step >= Step.DRAINING:
            return
        self.reason = reason
        self.stop_ns = clock.now_ns()
        self.manager.tell("STOPPING=1", f"STATUS={reason}")
        self.screen.event("stopping", reason=reason)
        self._set_step(Step.DRAINING, self.settings.drain_s_max)
        self._set_phase(Phase.STOP_ORDERS)

    def _audit(self, now_ns: int) -> None:
        """Stop when a segment is not what it was: nobody may go on with it, or attach to it."""
        assert self.pages is not None
        wrong = self.pages.audit(now_ns)
        if wrong:
            self._kill_trading()
            self.fail(wrong, BugError.exit_code)

    def _tick(self, now_ns: int) -> None:
        self._note_kills(now_ns)
        if self.step < Step.DRAINING:
            self._audit(now_ns)
        if self.signals and self.step < Step.DRAINING:
            self.begin_stop("signal")
        if (
            self.step == Step.RUNNING
            and self.run_for_ns
            and now_ns - self.ready_ns >= self.run_for_ns
        ):
            self.begin_stop("time is up")
        is_late = now_ns > self.deadline_ns
        if self.step == Step.WARMING:
            if is_late:
                self.fail("kernels are not ready in time", UnavailableError.exit_code)
        elif self.step < Step.LEAVING:
            self._watch(now_ns)
        if self.step == Step.STARTING:
            self._start_all(now_ns, is_late)
        elif self.step == Step.DRAINING:
            self._drain(is_late)
        elif self.step == Step.LEAVING:
            self._see_off(is_late)

    def _start_all(self, now_ns: int, is_late: bool) -> None:
        essential = [m for m in self.processes.values() if m.spec.is_essential]
        others = [m for m in self.processes.values() if not m.spec.is_essential]
        for managed in essential:
            if managed.epoch == 0:
                self._start(managed, now_ns)
        if all(m.is_up for m in essential):
            for managed in others:
                if managed.epoch == 0:
                    self._start(managed, now_ns)
        waiting = [m for m in self.processes.values() if not m.is_up and not m.is_given_up]
        if not waiting or (is_late and all(m.spec.is_observer for m in waiting)):
            for managed in waiting:
                self.screen.event("not_ready", process=managed.name)  # the run goes on without it
            self.ready_ns = now_ns
            assert self.pages is not None
            running = [m.name for m in self.processes.values() if m.is_up]
            self.pages.note_files([counters_name(self.setup.instance, name) for name in running])
            self._set_step(Step.RUNNING, 0)
            self._set_phase(Phase.RUNNING)
            self.manager.tell("READY=1", f"STATUS=running {self.setup.instance}")
            self.screen.event("ready", processes=len(self.processes))
        elif is_late:
            names = ", ".join(managed.name for managed in waiting)
            self.fail(f"not ready in time: {names}", UnavailableError.exit_code)

    def _start(self, managed: Managed, now_ns: int) -> None:
        managed.epoch += 1
        managed.due_ns = 0
        managed.started_ns = now_ns
        managed.is_asked_for = True
        managed.restarts.on_start(now_ns)
        self.zygote.request(fork=managed.name, epoch=managed.epoch)

    def _watch(self, now_ns: int) -> None:
        """Restart what is due, publish who is up, kill who is silent."""
        assert self.pages is not None
        for managed in self.processes.values():
            if managed.due_ns and now_ns >= managed.due_ns and self.zygote.is_alive:
                self._start(managed, now_ns)
            if not managed.pid:
                continue
            status = managed.status(self.setup.instance)
            if status is None or status["state"] == ProcessState.STARTING.name:
                is_silent = now_ns - managed.started_ns > self.settings.start_s_max * 1_000_000_000
            else:
                age_ns = now_ns - status["heartbeat_ns"]
                is_silent = age_ns > self.settings.heartbeat_age_ms_max * 1_000_000
                managed.state = status["state"]
                if not managed.is_up:
                    managed.is_up = True
                    self.pages.peers.set(managed.name, managed.epoch, True)
                    self.pages.ring_bells()
            if is_silent:
                self.screen.event("silent", process=managed.name, pid=managed.pid)
                self._kill(managed)

    def _kill(self, managed: Managed) -> None:
        """Kill -9; the exit is reported, and only then a successor starts."""
        if self.zygote.is_alive:
            self.zygote.request(kill=managed.pid)
        elif managed.pid:
            os.kill(managed.pid, signal.SIGKILL)
        managed.started_ns = clock.now_ns()  # not again before it is gone

    def _drain(self, is_late: bool) -> None:
        needed = [m for m in self.processes.values() if m.is_up or not m.spec.is_observer]
        alive = [m for m in needed if m.pid or m.is_asked_for]
        is_coming = any(m.due_ns or m.is_asked_for for m in needed)
        self.is_drained = not is_coming and all(m.state == ProcessState.STOPPED.name for m in alive)
        if self.is_drained or is_late or self.signals > 1:
            if not self.is_drained:
                waiting = [m.name for m in alive if m.state != ProcessState.STOPPED.name]
                self.screen.event("not_drained", waiting=",".join(waiting))
                self.code = self.code or UnavailableError.exit_code
            self._measure()
            for managed in self.processes.values():
                managed.due_ns = 0
            self._set_step(Step.LEAVING, self.settings.exit_s_max)
            self._set_phase(Phase.EXIT)

    def _measure(self) -> None:
        for managed in self.processes.values():
            if managed.pid:
                managed.rss_bytes = rss_bytes(managed.pid)

    def _see_off(self, is_late: bool) -> None:
        """Wait for the others, then let the essential ones and the observers go."""
        last = [m for m in self.processes.values() if phase_word(m.spec)]
        others = [m for m in self.processes.values() if not phase_word(m.spec)]
        assert self.pages is not None
        if is_late:
            for managed in self.processes.values():
                if managed.pid:
                    self.screen.event("killed_late", process=managed.name, pid=managed.pid)
                    self._kill(managed)
            self.deadline_ns = clock.now_ns() + self.settings.exit_s_max * 1_000_000_000
        if all(m.is_gone for m in others):
            if any(m.pid for m in last):
                word = phase_word(last[0].spec)
                if self.pages.phase.get(word) != Phase.EXIT:
                    self._set_phase(Phase.EXIT, word)
            if all(m.is_gone for m in last):
                self.step = Step.DONE

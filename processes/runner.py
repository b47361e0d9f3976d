"""The shell that every process runs in: pin, open ends, loop, idle, heartbeat, phases, exit code.

A stage is what a process does; the shell owns its clock, its core, its sleep and its end. A stage
has `do_work(now_ns)`, or it is a service on an asyncio loop with `async start()` and `stop()`.

    do_work(now_ns) -> int      work done; never blocks; 0 lets the shell idle
    close()
    consumers                   optional: rings that may wake it
    fds() -> [(fd, eventmask)]  optional: sockets that may wake it; asked when `fds_version` changes
    next_timer_ns() -> int      optional: instant it must be called at the latest, 0 none
    on_phase(phase, now_ns)     optional
    is_ready() -> bool          optional: until then its state is STARTING
    is_drained() -> bool        optional: after STOP_ORDERS, nothing is left to be ended
"""

import asyncio
import contextlib
import importlib
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numba.core import event
from numba.core.dispatcher import Dispatcher

from common import clock, log
from common.enums import Phase, ProcessState
from common.errors import BugError, ConfigError, TickringError
from common.instruments import Instrument, instrument_table
from processes.wiring import Plan, ProcessSpec
from shm.counters import Counters, CountersReader, Status
from shm.doorbell import Doorbell, Sleeper
from shm.latch import Latch
from shm.registry import bell_name, counters_name, instance_name, ring_name, segment_name
from shm.ring import Consumer, Producer
from shm.table import TableReader, TableWriter

Idle = Literal["spin", "yield", "park"]
HEARTBEAT_NS = 50_000_000
SPIN_SLICE_NS_MAX = 500_000
CYCLE_NS_LIMIT = 1_000_000
TRACEBACK_LINES_MAX = 12
NO_FD = -1


def phase_word(spec: ProcessSpec) -> int:
    """Return which word of the phase page a process follows: 1 leaves when all of 0 have left."""
    return 1 if spec.is_essential or spec.is_observer else 0


class Peers:
    """Which processes are up, as the supervisor sees them.

    One word per process of the plan: its epoch (1 for the first start, one more per restart) while
    it is READY, minus its epoch while it is starting or dead, 0 before its first start.

    Args:
        names: of the plan's processes, in order.
        page: the latch segment `tickring.<instance>.peers`.
    """

    def __init__(self, names: tuple[str, ...], page: Latch) -> None:
        self.page = page
        self._index = {name: i for i, name in enumerate(names)}

    def word(self, name: str) -> int:
        """Return the word of one process; 0 for a process that the plan does not have."""
        i = self._index.get(name)
        return 0 if i is None else self.page.get(i)

    def is_up(self, name: str) -> bool:
        """Return True if the process is READY."""
        return self.word(name) > 0

    def epoch(self, name: str) -> int:
        """Return how often the process has been started."""
        return abs(self.word(name))

    def set(self, name: str, epoch: int, is_up: bool) -> None:
        """Publish one process's state. Writer: supervisor."""
        self.page.set(self._index[name], epoch if is_up else -epoch)


class Context:
    """What a stage is built from; opens the ends that the wiring gives to this process.

    Args:
        plan: all processes, rings and tables.
        spec: this process.
        instance, config, state_dir, instruments: of the run.
        epoch: 1 for the first start of this process in the run.
        session: number of the run in its state_dir, for client order ids.
    """

    def __init__(
        self,
        plan: Plan,
        spec: ProcessSpec,
        *,
        instance: str,
        config: Any,
        state_dir: Path,
        instruments: list[Instrument],
        epoch: int = 1,
        session: int = 1,
    ) -> None:
        self.plan = plan
        self.spec = spec
        self.name = spec.name
        self.instance = instance
        self.config = config
        self.state_dir = state_dir
        self.instruments = instruments
        self.instrument_rows = instrument_table(instruments)
        self.epoch = epoch
        self.session = session
        self.log = log
        self.counters_segment: Counters | None = None
        self._opened: list[Any] = []
        names = tuple(process.name for process in plan.processes)
        self.kill_page: Latch = self._keep(
            Latch.open(instance_name(instance, "kill"), writable=True)
        )
        self.phase_page = self._keep(Latch.open(instance_name(instance, "phase")))
        page = self._keep(Latch.open(instance_name(instance, "peers")))
        self.peers = Peers(names, page)
        self.bell = self._keep(Doorbell.open(bell_name(instance, self.name)))

    @property
    def kill_words(self) -> np.ndarray:
        """The kill page's words; a process writes only the word of its own KillSource."""
        return self.kill_page.words

    @property
    def phase(self) -> Phase:
        """What the supervisor wants of this process now."""
        return Phase(self.phase_page.get(phase_word(self.spec)))

    def producer(self, record: str, consumer: str) -> Producer:
        """Open the producer end of this process's ring `record` to `consumer`."""
        spec = self._ring(self.name, record, consumer)
        name = ring_name(self.instance, spec.producer, spec.record, spec.consumer)
        end = self._keep(Producer.open(name, spec.layout))
        if any(process.name == consumer for process in self.plan.processes):
            end.connect_bell(bell_name(self.instance, consumer))
        return end

    def consumer(self, producer: str, record: str) -> Consumer:
        """Open the consumer end of `producer`'s ring `record` to this process."""
        spec = self._ring(producer, record, self.name)
        name = ring_name(self.instance, spec.producer, spec.record, spec.consumer)
        return self._keep(Consumer.open(name, spec.layout))

    def table_writer(self, what: str) -> TableWriter:
        """Open this process's own table."""
        layout = self._table_layout(self.name, what)
        return self._keep(TableWriter.open(segment_name(self.instance, self.name, what), layout))

    def table_reader(self, process: str, what: str) -> TableReader:
        """Open another process's table."""
        layout = self._table_layout(process, what)
        return self._keep(TableReader.open(segment_name(self.instance, process, what), layout))

    def counters(self, labels: dict[Any, str], histograms: list[str]) -> Counters:
        """Make this process's counters; a restarted process counts on from where it died."""
        name = counters_name(self.instance, self.name)
        made: Counters = self._keep(Counters.create(name, labels, histograms))
        made.status[Status.STATE] = ProcessState.STARTING  # a dead predecessor's stands there
        made.status[Status.START_NS] = clock.now_ns()
        self.counters_segment = made
        return made

    def close(self) -> None:
        """Close every end that was opened; closing one twice is harmless."""
        for thing in reversed(self._opened):
            thing.close()
        self._opened.clear()

    def _keep(self, thing: Any) -> Any:
        self._opened.append(thing)
        return thing

    def _ring(self, producer: str, record: str, consumer: str) -> Any:
        for spec in self.plan.rings:
            if (spec.producer, spec.record, spec.consumer) == (producer, record, consumer):
                return spec
        raise BugError(f"wiring: ring {producer}.{record}.{consumer} is not in it, expected one")

    def _table_layout(self, process: str, what: str) -> str:
        for spec in self.plan.tables:
            if (spec.process, spec.what) == (process, what):
                return spec.layout
        raise BugError(f"wiring: table {process}.{what} is not in it, expected one")


class Shell:
    """Drives one stage until the phase is EXIT or the supervisor has gone; alone, until SIGTERM.

    Args:
        stage: what to run.
        context: what it was built from.
        idle: what to do when there was no work.
        spin_ns_max: how long a parked stage spins before it sleeps.
        supervisor_fd: read end of a pipe that the supervisor holds open, NO_FD if there is none.
        orphan_ns_max: how long an orderly end may take after the supervisor has gone.
    """

    def __init__(
        self,
        stage: Any,
        context: Context,
        *,
        idle: Idle,
        spin_ns_max: int,
        supervisor_fd: int,
        orphan_ns_max: int,
    ) -> None:
        self.stage = stage
        self.context = context
        self.idle = idle
        self.spin_ns_max = spin_ns_max
        self.supervisor_fd = supervisor_fd
        self.orphan_ns_max = orphan_ns_max
        self.phase = Phase.STARTING
        self.state = ProcessState.STARTING
        self.is_ended = False
        self.orphan_since_ns = 0
        counters = context.counters_segment
        if counters is None:
            counters = context.counters({}, [])
        self.status = counters.status
        self.sleeper = Sleeper(list(getattr(stage, "consumers", [])))
        self.epoll = select.epoll()
        self.epoll.register(context.bell.fd, select.EPOLLIN)
        if supervisor_fd != NO_FD:
            self.epoll.register(supervisor_fd, select.EPOLLIN | select.EPOLLHUP)
        self.fds: dict[int, int] = {}
        self.fds_version = -1
        self.has_fds = hasattr(stage, "fds")
        self.next_timer_ns: Callable[[], int] | None = getattr(stage, "next_timer_ns", None)
        self.housekeeping_due_ns = 0
        # A service manager signals everybody at once; who has a supervisor waits for its word.
        is_alone = supervisor_fd == NO_FD
        signal.signal(signal.SIGTERM, self._on_sigterm if is_alone else signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def run(self) -> None:
        """Run until the end."""
        if hasattr(self.stage, "do_work"):
            self._run_stage()
        else:
            asyncio.run(self._run_service())

    def _run_stage(self) -> None:
        do_work = self.stage.do_work
        while not self.is_ended:
            now_ns = clock.now_ns()
            work = do_work(now_ns)
            if work:
                cycle_ns = clock.now_ns() - now_ns
                if cycle_ns > CYCLE_NS_LIMIT:
                    self._count_long_cycle(cycle_ns)
            if now_ns >= self.housekeeping_due_ns:
                self._on_events(self.epoll.poll(0))
                self.housekeep(now_ns)
            if not work:
                self._idle(now_ns)

    async def _run_service(self) -> None:
        await self.stage.start()
        try:
            while not self.is_ended:
                self.housekeep(clock.now_ns())
                await asyncio.sleep(HEARTBEAT_NS / 2e9)
                self._on_events(self.epoll.poll(0))
        finally:
            await self.stage.stop()

    def housekeep(self, now_ns: int) -> None:
        """Beat the heart, follow the phase, tell the state; every few milliseconds."""
        self.housekeeping_due_ns = now_ns + HEARTBEAT_NS // 10
        self.status[Status.HEARTBEAT_NS] = now_ns
        if self.orphan_since_ns:
            self._follow_orphan(now_ns)
        else:
            self._follow_phase(self.context.phase, now_ns)
        if self.state == ProcessState.STARTING and self._ask("is_ready"):
            self._set_state(ProcessState.READY)
        elif self.state == ProcessState.STOPPING and self._ask("is_drained"):
            self._set_state(ProcessState.STOPPED)

    def _follow_phase(self, phase: Phase, now_ns: int) -> None:
        if phase == self.phase:
            return
        self.phase = phase
        if hasattr(self.stage, "on_phase"):
            self.stage.on_phase(phase, now_ns)
        if phase == Phase.STOP_ORDERS:
            self._set_state(ProcessState.STOPPING)
        self.is_ended = phase == Phase.EXIT

    def _follow_orphan(self, now_ns: int) -> None:
        """The supervisor has gone: stop orders, wait for everybody to drain, leave."""
        if self.phase < Phase.STOP_ORDERS:
            self._follow_phase(Phase.STOP_ORDERS, now_ns)
        is_late = now_ns - self.orphan_since_ns > self.orphan_ns_max
        if is_late or (self.state == ProcessState.STOPPED and self._are_peers_drained(now_ns)):
            log.event("orphan_exit", drained=self.state == ProcessState.STOPPED, late=is_late)
            self.is_ended = True

    def _are_peers_drained(self, now_ns: int) -> bool:
        for process in self.context.plan.processes:
            name = counters_name(self.context.instance, process.name)
            try:
                with contextlib.closing(CountersReader.open(name)) as reader:
                    status = reader.status()
            except TickringError:
                continue  # it never came up
            if status["held"] and status["state"] != ProcessState.STOPPED.name:
                return False
        return True

    def _set_state(self, state: ProcessState) -> None:
        self.state = state
        self.status[Status.STATE] = state
        log.event("state", state=state.name)

    def _ask(self, question: str) -> bool:
        return not hasattr(self.stage, question) or bool(getattr(self.stage, question)())

    def _count_long_cycle(self, cycle_ns: int) -> None:
        self.status[Status.CYCLES_OVER_LIMIT] += 1
        if cycle_ns > self.status[Status.CYCLE_NS_MAX]:
            self.status[Status.CYCLE_NS_MAX] = cycle_ns

    def _idle(self, now_ns: int) -> None:
        if self.has_fds and self.stage.fds_version != self.fds_version:
            self._register_fds()
        if self.idle == "park":
            self._park(now_ns)
        elif self.idle == "yield":
            os.sched_yield()
        elif not self.has_fds:  # a stage with sockets looks at them itself, each time round
            self.sleeper.spin(SPIN_SLICE_NS_MAX)

    def _park(self, now_ns: int) -> None:
        if self.spin_ns_max and self.sleeper.spin(self.spin_ns_max):
            return
        due_ns = now_ns + HEARTBEAT_NS
        if self.next_timer_ns is not None:
            timer_ns = self.next_timer_ns()
            if timer_ns:
                due_ns = min(due_ns, timer_ns)
        if not self.sleeper.try_sleep():
            self.sleeper.wake()
            return
        events = self.epoll.poll(max(due_ns - clock.now_ns(), 0) / 1e9)
        self.sleeper.wake()
        self._on_events(events)

    def _on_events(self, events: list[tuple[int, int]]) -> None:
        for fd, _mask in events:
            if fd == self.context.bell.fd:
                self.context.bell.drain()
            elif fd == self.supervisor_fd:
                self.epoll.unregister(fd)
                self.orphan_since_ns = clock.now_ns()
                self.housekeeping_due_ns = 0
                log.event("supervisor_gone")

    def _register_fds(self) -> None:
        """Follow the stage's sockets; a closed fd has left epoll, and its number may come back."""
        self.fds_version = self.stage.fds_version
        wanted = dict(self.stage.fds())
        for fd in self.fds.keys() - wanted.keys():
            with contextlib.suppress(OSError):
                self.epoll.unregister(fd)
        for fd, mask in wanted.items():
            try:
                self.epoll.modify(fd, mask)
            except FileNotFoundError:
                self.epoll.register(fd, mask)
        self.fds = wanted

    def _on_sigterm(self, number: int, frame: object) -> None:
        self.is_ended = True


def load_builder(where: str) -> Callable[[Context], Any]:
    """Import "module:function".

    Raises:
        ConfigError: there is no such module or function.
    """
    module_name, _, function = where.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), function)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{where}: {error}, expected module:function") from None
    assert callable(found)
    return found


def forbid_compiling(prefixes: tuple[str, ...] = ("common", "shm", "processes")) -> int:
    """Make the kernels of the loaded modules refuse argument types they were not compiled for.

    A kernel that was never called from Python has no types to be held to; should it be compiled
    after all, that is told as `kernel_compiled_late`.

    Returns:
        How many kernels refuse.
    """
    kernels: dict[int, Any] = {}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in prefixes:
            for value in vars(module).values():
                if isinstance(value, Dispatcher):
                    kernels[id(value)] = value
    refusing = [kernel for kernel in kernels.values() if kernel.signatures]
    for kernel in refusing:
        kernel.disable_compile()
    return len(refusing)


class _LateCompile(event.Listener):
    """Tells of every compilation after the start: each is a stall that warming up should save."""

    def on_start(self, event: Any) -> None:
        log.event("kernel_compiled_late", kernel=event.data["dispatcher"].py_func.__qualname__)

    def on_end(self, event: Any) -> None:
        """Nothing: the start told it."""


def run_process(
    make_context: Callable[[], Context],
    *,
    core: int | None,
    idle: Idle,
    spin_ns_max: int,
    supervisor_fd: int,
    orphan_ns_max: int,
) -> None:
    """Build a stage and run it to its end; closes what it opened, whatever happens."""
    context = stage = None
    try:
        context = make_context()
        if core is not None:
            os.sched_setaffinity(0, {core})
        event.register("numba:compile", _LateCompile())
        stage = load_builder(context.spec.build)(context)
        kernels = forbid_compiling()
        shell = Shell(
            stage,
            context,
            idle=idle,
            spin_ns_max=spin_ns_max,
            supervisor_fd=supervisor_fd,
            orphan_ns_max=orphan_ns_max,
        )
        shell.status[Status.CORE] = -1 if core is None else core
        log.event("started", pid=os.getpid(), core=core, idle=idle, kernels=kernels)
        shell.run()
    finally:
        if stage is not None and hasattr(stage, "close"):
            stage.close()
        if context is not None:
            context.close()


def guard(call: Callable[[], None]) -> int:
    """Call a process's whole life; the one place that catches everything.

    Returns:
        Exit code: 0 done, 69 something is not there, 70 bug, 78 config.
    """
    try:
        call()
    except TickringError as error:
        log.event("failed", error=error)
        return error.exit_code
    except Exception:
        lines = traceback.format_exc().strip().splitlines()
        log.event("bug", error=lines[-1])
        sys.stderr.write("\n".join(lines[-TRACEBACK_LINES_MAX:]) + "\n")
        return BugError.exit_code
    return 0

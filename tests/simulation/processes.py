"""One stage as an OS process would run it: woken, stalled, killed, started again.

It follows processes/runner.py in its "park" mode: as long as there is work it goes on, then it
sleeps until a ring, a socket or a timer wants it, or 50 ms have passed.
"""

from collections.abc import Callable
from typing import Any

from common import log
from common.enums import Phase, ProcessState
from processes.runner import HEARTBEAT_NS
from shm.words import C_CURSOR, P_CURSOR

from tests.simulation.network import Network
from tests.simulation.wires import Ring
from tests.simulation.world import MS, NEVER, SECOND, US, Killed, World

SPIN_NS = 50 * US
SPINS_MAX = 20_000  # turns without work in one second of virtual time


class Process:
    """A stage with its supervisor's view of it.

    Args:
        build: makes the stage; may die while it does.
        inputs, outputs: its rings.
        last_act: what the end of a turn does to them, in order: (is publish, ring). A death may
            fall between.

    Attributes:
        epoch: how often it was started; word: what Peers say of it.
        held_until_ns, is_held: stopped until then, or until further notice (SIGSTOP).
        crash: how it dies in its next turn, None if it does not.
        on_turn: told after each of its turns.
    """

    def __init__(
        self,
        name: str,
        world: World,
        network: Network,
        build: Callable[[], Any],
        inputs: list[Ring],
        outputs: list[Ring],
        last_act: list[tuple[bool, Ring]],
    ) -> None:
        self.name = name
        self.world = world
        self.network = network
        self.build = build
        self.inputs = inputs
        self.outputs = outputs
        self.last_act = last_act
        self.rng = world.stream(f"process {name}")
        self.stage: Any = None
        self.epoch = 0
        self.word = 0
        self.is_up = False
        self.state = ProcessState.STARTING
        self.phase = Phase.STARTING
        self.phase_of: Callable[[], Phase] = lambda: Phase.STARTING
        self.heartbeat_ns = self.start_ns = 0
        self.held_until_ns = 0
        self.is_held = False
        self.crash: str | None = None
        self.deaths = 0
        self.turns = 0
        self.spins: list[int] = [0, 0]  # second, idle turns in it
        self.spin_max = 0
        self.wake_ns = NEVER
        self.wake_of: Callable[[str], Process] | None = None
        self.on_turn: Callable[[Process], None] = lambda process: None
        self.on_death: Callable[[Process], None] = lambda process: None

    @property
    def is_alive(self) -> bool:
        """Return True while a stage runs."""
        return self.stage is not None

    # Waking.

    def wake(self, when_ns: int) -> None:
        """Run at an instant, unless it runs earlier anyway."""
        if self.stage is not None and when_ns < self.wake_ns:
            self.wake_ns = when_ns
            self.world.at(when_ns, self._run_if_due, when_ns, self.epoch)

    def wake_soon(self) -> None:
        """Run after what the kernel takes to wake a process: mostly little."""
        draw = self.rng.random()
        delay_ns = self.rng.randrange(2 * US, 40 * US)
        if draw < 0.02:
            delay_ns = self.rng.randrange(5 * MS)
        self.wake(self.world.now + delay_ns)

    def wake_by_network(self) -> None:
        """A socket has something."""
        self.wake_soon()

    # Life.

    def start(self) -> None:
        """Fork and build."""
        log.set_process(self.name)
        self.epoch += 1
        self.is_up = False
        self.state = ProcessState.STARTING
        self.phase = Phase.STARTING
        self.start_ns = self.world.now
        self.held_until_ns = 0
        self.wake_ns = NEVER
        self.crash = None
        self.world.crash_in = 0
        try:
            self.stage = self.build()
        except Killed:
            self._die()
            return
        self.world.note(f"{self.name} started")
        self.wake(self.world.now)

    def kill(self) -> None:
        """Kill -9 between two turns."""
        if self.stage is not None:
            self._die()

    def _die(self) -> None:
        self.world.crash_in = 0
        self.crash = None
        if hasattr(self.stage, "journal"):
            self.stage.journal.close()  # the kernel does
        self.stage = None
        self.deaths += 1
        self.word = -self.epoch
        self.is_up = False
        self.world.note(f"{self.name} died")
        log.set_process(self.name)
        log.event("dies")
        for pipe in list(self.network.pipes):
            if pipe.owner is self:
                pipe.close("process died")
        for http in list(self.network.https):
            if http.owner is self:
                http.close()
        self.on_death(self)

    # A turn.

    def _run_if_due(self, when_ns: int, epoch: int) -> None:
        if when_ns != self.wake_ns or epoch != self.epoch or self.stage is None:
            return
        self.wake_ns = NEVER
        if self.is_held or self.world.now < self.held_until_ns:
            self.wake(max(self.held_until_ns, self.world.now + HEARTBEAT_NS))
            return
        self._run()

    def _run(self) -> None:
        world = self.world
        log.set_process(self.name)
        crash, self.crash = self.crash, None
        before = self._cursors() if crash == "unfinished" and not self._is_spilling() else []
        if crash == "inside":
            world.crash_in = 1 + self.rng.randrange(12)
        now_ns = world.now
        world.timespec[2] = now_ns
        try:
            work = self.stage.do_work(now_ns)
        except Killed:
            self._die()
            self._after_turn(0)
            return
        world.crash_in = 0
        self.turns += 1
        if crash is not None:
            self._undo(before)
            self._die()
            self._after_turn(work)
            return
        self._after_turn(work)
        self._housekeep()
        self._sleep(work, now_ns)

    def _cursors(self) -> list[tuple[Any, int, int]]:
        """Return (page, word, value) of what a turn's last act changes, in its order."""
        return [
            (r.producer_page, P_CURSOR, r.published)
            if is_publish
            else (r.consumer_page, C_CURSOR, r.consumed)
            for is_publish, r in self.last_act
        ]

    def _undo(self, before: list[tuple[Any, int, int]]) -> None:
        """Take back the last few effects of the turn, as if it had died before them."""
        changed = [i for i, (page, word, value) in enumerate(before) if page[word] != value]
        if not changed or self._is_spilling():
            return
        for page, word, value in before[self.rng.choice(changed) :]:
            page[word] = value

    def _is_spilling(self) -> bool:
        """Return True if reports that waited are published out of the usual order."""
        link = getattr(self.stage, "link", None)
        return link is not None and len(link.spill) > 0

    def _after_turn(self, work: int) -> None:
        """Tell the trace, and those who wait for what was written."""
        self.on_turn(self)
        for ring in self.outputs:
            if ring.lag and self.wake_of is not None:
                consumer = ring.spec.consumer
                if consumer != "log":
                    self.wake_of(consumer).wake_soon()

    def _housekeep(self) -> None:
        """Beat the heart, follow the phase, tell the state."""
        self.heartbeat_ns = self.world.now
        phase = self.phase_of()
        if phase != self.phase:
            self.phase = phase
            if hasattr(self.stage, "on_phase"):
                self.stage.on_phase(phase, self.world.now)
            if phase == Phase.STOP_ORDERS:
                self.state = ProcessState.STOPPING
        if self.state == ProcessState.STARTING and self._ask("is_ready"):
            self.state = ProcessState.READY
        elif self.state == ProcessState.STOPPING and self._ask("is_drained"):
            self.state = ProcessState.STOPPED
        if not self.is_up and self.state != ProcessState.STARTING:
            self.is_up = True
            self.word = self.epoch

    def _ask(self, question: str) -> bool:
        return not hasattr(self.stage, question) or bool(getattr(self.stage, question)())

    def _sleep(self, work: int, now_ns: int) -> None:
        """Go on, or sleep until something wants it."""
        world = self.world
        if work:
            self.wake(world.now + self.rng.randrange(US, 10 * US))
            return
        self._count_spin()
        if any(ring.lag for ring in self.inputs):
            self.wake(world.now + SPIN_NS)  # the sleeper sees records and does not sleep
            return
        due_ns = now_ns + HEARTBEAT_NS
        if hasattr(self.stage, "next_timer_ns"):
            timer_ns = self.stage.next_timer_ns()
            if timer_ns:
                due_ns = min(due_ns, timer_ns)
        self.wake(max(due_ns, world.now + 2 * US))

    def _count_spin(self) -> None:
        second = self.world.now // SECOND
        if second != self.spins[0]:
            self.spins = [second, 0]
        self.spins[1] += 1
        self.spin_max = max(self.spin_max, self.spins[1])

    def status(self) -> dict[str, int | str]:
        """Return what its status page shows to others."""
        return {
            "state": self.state.name,
            "heartbeat_ns": self.heartbeat_ns,
            "start_ns": self.start_ns,
            "pid": 1_000 + self.epoch,
            "held": int(self.is_alive),
        }

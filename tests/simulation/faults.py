"""What goes wrong, drawn from the seed; each kind can be switched on and off by name."""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.simulation.system import INSTRUMENTS, NAMES
from tests.simulation.venue_host import HTTP_FAULTS, ORDER_FAULTS, StreamEnd
from tests.simulation.world import MS, SECOND, US

if TYPE_CHECKING:
    from tests.simulation.system import System

SOCKETS = ("public", "market", "private", "api")
SOCKET_FAULTS = ("cut", "freeze", "close", "refuse", "slow")
SYMBOLS = [instrument.symbol for instrument in INSTRUMENTS]
CRASHES = ("boundary", "inside", "unfinished")


class Injector:
    """Breaks things at random instants until it is told to stop.

    Args:
        system: what to break.
        names: of the faults that may happen, from FAULTS.
        per_second: how many.
    """

    def __init__(self, system: "System", names: list[str], per_second: float) -> None:
        self.system = system
        self.world = system.world
        self.host = system.host
        self.network = system.network
        self.rng: random.Random = system.world.stream("faults")
        self.names = names
        self.per_second = per_second
        self.is_on = False
        self.done: dict[str, int] = {}
        self.generation = 0

    def start(self) -> None:
        """Begin to break things."""
        self.is_on = bool(self.names) and self.per_second > 0
        self.generation += 1
        if self.is_on:
            self._plan()

    def stop(self) -> None:
        """Break nothing more, and mend what lasts."""
        self.is_on = False
        self.host.order_faults.clear()
        self.host.http_faults.clear()
        self.host.users_heal()
        self.host.do(do="skew_clock", ms=0)
        self.network.is_down.clear()
        self.network.spikes.clear()
        for process in self.system.processes.values():
            process.held_until_ns = min(process.held_until_ns, self.world.now)
            process.crash = None
            if process.is_alive:
                process.wake_soon()

    def _plan(self) -> None:
        pause_ns = int(self.rng.expovariate(self.per_second) * SECOND) + 1
        self.world.after(min(pause_ns, 20 * SECOND), self._break_something, self.generation)

    def _break_something(self, generation: int) -> None:
        if not self.is_on or generation != self.generation:
            return
        name = self.rng.choice(self.names)
        self.world.note(f"fault {name}")
        self.done[name] = self.done.get(name, 0) + 1
        kind, _, where = name.partition("-")
        getattr(self, kind)(*([where] if where else []))
        self._plan()

    def _between(self, low: int, high: int) -> int:
        return self.rng.randrange(low, high)

    # Market data.

    def drop_depth(self) -> None:
        """The venue loses depth events."""
        self.host.do(do="drop_depth", symbol=self.rng.choice(SYMBOLS), count=self._between(1, 4))

    def _public_ends(self) -> list[Any]:
        pipes = self.network.of_kind("public")
        return [p.server.connection.socket for p in pipes if isinstance(p.server, StreamEnd)]

    def garble_depth(self) -> None:
        """A depth frame is cut short."""
        for end in self._public_ends():
            end.garble_next += 1

    def double_depth(self) -> None:
        """A depth frame comes twice."""
        for end in self._public_ends():
            end.double_next += 1

    def stale_depth(self) -> None:
        """A snapshot is an old one."""
        self.host.do(do="stale_depth", count=self._between(1, 3))

    # Connections.

    def cut(self, kind: str) -> None:
        """A connection breaks."""
        for pipe in self.network.of_kind(kind):
            pipe.cut()

    def freeze(self, kind: str) -> None:
        """A connection is silent for ever, and nobody is told."""
        for pipe in self.network.of_kind(kind):
            pipe.freeze()

    def close(self, kind: str) -> None:
        """The venue closes a connection."""
        for pipe in self.network.of_kind(kind):
            pipe.close_by_server(1001)

    def refuse(self, kind: str) -> None:
        """Nobody can connect for a while."""
        self.network.is_down.add(kind)
        self.world.after(self._between(100 * MS, 4 * SECOND), self.network.is_down.discard, kind)

    def slow(self, kind: str) -> None:
        """Messages take long for a while."""
        until_ns = self.world.now + self._between(100 * MS, 3 * SECOND)
        extra_ns = self.rng.choice((5 * MS, 100 * MS, SECOND, 8 * SECOND))
        self.network.spikes[kind] = (until_ns, extra_ns)

    def stuck(self) -> None:
        """The kernel takes no bytes of the order socket for a while."""
        for pipe in self.network.of_kind("api"):
            pipe.stuck_until_ns = self.world.now + self._between(2 * MS, 1_800 * MS)

    # Orders and account.

    def order(self, what: str) -> None:
        """The next order requests meet something."""
        self.host.order_faults.extend([what] * self._between(1, 4))

    def http(self, what: str) -> None:
        """The next REST requests meet something."""
        self.host.http_faults.extend([what] * self._between(1, 6))

    def drop_fills(self) -> None:
        """User events of fills are lost."""
        self.host.do(do="drop_fills", count=self._between(1, 3))

    def repeat_fills(self) -> None:
        """User events of fills come twice."""
        self.host.do(do="repeat_fills", count=self._between(1, 4))

    def forget(self) -> None:
        """Unfilled orders are canceled, told to nobody, and no query finds them any more."""
        self.host.forget_next += self._between(1, 4)

    def lag(self) -> None:
        """Queries show FILLED beside the quantity of before."""
        self.host.lag_next += self._between(1, 4)

    def expire_key(self) -> None:
        """The listenKey expires."""
        self.host.do(do="expire_listen_key", account=0)

    def autoclose(self) -> None:
        """Somebody trades in our name."""
        self.host.do(
            do="autoclose", symbol=self.rng.choice(SYMBOLS), account=0, qty="0.100",
            side=self.rng.choice(("BUY", "SELL")),
        )  # fmt: skip

    # The venue as a whole.

    def stall(self) -> None:
        """The venue stands still."""
        self.host.stalled_until_ns = self.world.now + self._between(50 * MS, 3 * SECOND)

    def skew(self) -> None:
        """The venue's clock is off for a while."""
        self.host.do(do="skew_clock", ms=self.rng.choice((-6_000, -1_500, -300, 300, 1_500, 6_000)))
        self.world.after(
            self._between(SECOND, 8 * SECOND), lambda: self.host.do(do="skew_clock", ms=0)
        )

    def ban(self) -> None:
        """Our address is banned for a while."""
        self.host.do(do="ban", ms=self._between(500, 5_000))

    # Processes.

    def kill(self, name: str) -> None:
        """A process dies: between turns, in one, or before it has told all of one."""
        process = self.system.processes[name]
        crash = self.rng.choice(CRASHES)
        if crash == "boundary":
            process.kill()
        else:
            process.crash = crash

    def hold(self, name: str) -> None:
        """A process is stopped for a while."""
        process = self.system.processes[name]
        longest_ns = self.rng.choice((2 * MS, 200 * MS, 4 * SECOND))
        process.held_until_ns = self.world.now + self._between(100 * US, longest_ns)

    def step_clock(self) -> None:
        """Our wall clock is stepped."""
        self.world.wall_ahead_ns = self._between(-400 * MS, 400 * MS)


FAULTS: tuple[str, ...] = (
    "drop_depth", "garble_depth", "double_depth", "stale_depth",
    *(f"{what}-{kind}" for what in SOCKET_FAULTS for kind in SOCKETS),
    "refuse-http", "slow-http", "stuck",
    *(f"order-{what}" for what in ORDER_FAULTS),
    *(f"http-{what}" for what in HTTP_FAULTS),
    "drop_fills", "repeat_fills", "forget", "lag", "expire_key", "autoclose",
    "stall", "skew", "ban", "step_clock",
    *(f"kill-{name}" for name in NAMES),
    *(f"hold-{name}" for name in NAMES),
)  # fmt: skip


def check_names() -> None:
    """Say which name has no method: a misspelt fault would never happen."""
    for name in FAULTS:
        method: Callable[..., None] | None = getattr(Injector, name.partition("-")[0], None)
        assert method is not None, name


check_names()

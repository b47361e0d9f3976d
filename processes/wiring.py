"""The one list of processes, rings and tables; the supervisor makes the segments from it."""

from typing import Literal, NamedTuple

Policy = Literal["drop", "conflate", "refuse", "overwrite", "spill"]


class RingSpec(NamedTuple):
    """One ring: who writes what to whom.

    Attributes:
        producer, record, consumer: the parts of its name.
        layout: name of the slots' record, or MARKET.
        policy: what the producer does when it is full.
        capacity: slots, a power of two.
    """

    producer: str
    record: str
    consumer: str
    layout: str
    policy: Policy
    capacity: int

    @property
    def key(self) -> str:
        """Name without the instance, as configs and tools write it."""
        return f"{self.producer}.{self.record}.{self.consumer}"


class TableSpec(NamedTuple):
    """One table: `rows` is how many, or what decides it: "instruments" or "orders"."""

    process: str
    what: str
    layout: str
    rows: int | Literal["instruments", "orders"]

    @property
    def key(self) -> str:
        """Name without the instance."""
        return f"{self.process}.{self.what}"


class ProcessSpec(NamedTuple):
    """One process.

    Attributes:
        name: of the process, its segments and its log lines.
        build: "module:function" that makes its stage from a Context.
        core_group: which processes share a core when there are too few: "order" or "market".
        is_hot: gets a core of its own when there are enough.
        is_essential: the run ends when it dies; it is not restarted.
        is_observer: it only watches: the run goes on without it, and it leaves after the others.
    """

    name: str
    build: str
    core_group: Literal["order", "market"]
    is_hot: bool
    is_essential: bool = False
    is_observer: bool = False


class StateSpec(NamedTuple):
    """One committed state block (shm/turn.py) that the recorder takes checkpoints of.

    Attributes:
        process, what: the parts of its segment's name.
        turn_word: word of the block that counts turns.
    """

    process: str
    what: str
    turn_word: int

    @property
    def key(self) -> str:
        """Name without the instance."""
        return f"{self.process}.{self.what}"


class Plan(NamedTuple):
    """Everything that a set-up runs, in start order."""

    processes: tuple[ProcessSpec, ...]
    rings: tuple[RingSpec, ...]
    tables: tuple[TableSpec, ...]


VENUE = ProcessSpec(
    "venue", "processes.supervisor.simulator:build", "market", False, is_essential=True
)
RECORDER = ProcessSpec(
    "recorder", "processes.recorder.app:build", "market", False, is_observer=True
)
PROCESSES = (
    ProcessSpec("feed", "processes.feed.app:build", "market", True),
    ProcessSpec("book", "processes.book.app:build", "order", True),
    ProcessSpec("strategy", "processes.strategy.app:build", "order", True),
    ProcessSpec("risk", "processes.risk.app:build", "order", True),
    ProcessSpec("gateway", "processes.gateway.app:build", "order", True),
    ProcessSpec("rest", "processes.rest.app:build", "market", False),
)

RINGS = (
    RingSpec("feed", "market", "book", "MARKET", "drop", 65_536),
    RingSpec("book", "book", "strategy", "MARKET", "conflate", 16_384),
    RingSpec("strategy", "intent", "risk", "ORDER_REQUEST", "refuse", 4_096),
    RingSpec("strategy", "turn", "log", "TURN", "overwrite", 16_384),
    RingSpec("risk", "order", "gateway", "ORDER_REQUEST", "refuse", 4_096),
    RingSpec("gateway", "report", "risk", "REPORT", "spill", 16_384),
    RingSpec("gateway", "fallback", "rest", "ORDER_REQUEST", "refuse", 1_024),
    RingSpec("rest", "report", "risk", "REPORT", "spill", 16_384),
    RingSpec("risk", "report", "strategy", "REPORT", "spill", 16_384),
    RingSpec("book", "request", "rest", "REST_REQUEST", "refuse", 256),
    RingSpec("risk", "request", "rest", "REST_REQUEST", "refuse", 1_024),
    RingSpec("rest", "snapshot", "book", "MARKET", "refuse", 16_384),
    RingSpec("rest", "session", "gateway", "SESSION", "refuse", 64),
    RingSpec("supervisor", "control", "strategy", "MARKET", "refuse", 256),
)

TABLES = (
    TableSpec("book", "bbo", "BBO_CELL", "instruments"),
    TableSpec("risk", "orders", "ORDER", "orders"),
    TableSpec("risk", "positions", "POSITION", "instruments"),
)


STATES = (StateSpec("strategy", "state", 14),)
SECRET_LAYOUTS = {"SESSION"}  # a listen key: who has it reads the account


def plan_of(has_simulator: bool, has_recorder: bool = False) -> Plan:
    """Return the plan of a set-up, with or without the local venue and the recorder."""
    processes = (VENUE, *PROCESSES) if has_simulator else PROCESSES
    if has_recorder:
        processes = (*processes, RECORDER)
    return Plan(processes, RINGS, TABLES)

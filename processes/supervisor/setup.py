"""One validated set-up: what the supervisor and its children share before the fork."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.instruments import Instrument
from processes.runner import Context
from processes.supervisor.config import SupervisorConfig
from processes.wiring import Plan, RingSpec, TableSpec


@dataclass(frozen=True, kw_only=True)
class Setup:
    """Everything about a run that is known before it starts.

    Attributes:
        instance: its name.
        config: the whole config struct, handed to every stage.
        state_dir: absolute.
        instruments: registered, in order.
        plan: processes, rings and tables.
        settings: the supervisor's own table.
        idle: the config's wish, "auto" or an idle strategy.
        order_rows: rows of tables of orders.
        session: number of this run in its state_dir; makes client order ids unique.
        resolve: completes the config once the essential processes are READY.
    """

    instance: str
    config: Any
    state_dir: Path
    instruments: list[Instrument]
    plan: Plan
    settings: SupervisorConfig
    idle: str = "auto"
    order_rows: int = 4_096
    session: int = 1
    resolve: Callable[[Any], Any] | None = None

    def capacity(self, ring: RingSpec) -> int:
        """Slots of a ring, by the config or by default."""
        return self.settings.ring_capacity.get(ring.key, ring.capacity)

    def rows(self, table: TableSpec) -> int:
        """Rows of a table."""
        if table.rows == "instruments":
            return max(len(self.instruments), 1)
        return self.order_rows if table.rows == "orders" else table.rows

    def context(self, name: str, epoch: int) -> Context:
        """Open the ends of one process; called in the process itself."""
        spec = next(process for process in self.plan.processes if process.name == name)
        config = self.config
        if self.resolve is not None and not spec.is_essential:
            config = self.resolve(config)
        return Context(
            self.plan,
            spec,
            instance=self.instance,
            config=config,
            state_dir=self.state_dir,
            instruments=self.instruments,
            epoch=epoch,
            session=self.session,
        )

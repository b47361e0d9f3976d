"""What the supervisor is told: deadlines, restarts, cores, sizes."""

from typing import Annotated

from msgspec import Meta

from common.config import Base

Positive = Annotated[int, Meta(gt=0)]
CAPACITY_MAX = 1 << 24


class SupervisorConfig(Base):
    """Defaults fit a laptop; nothing here can lose money.

    Attributes:
        cores: process name -> core; processes that are not named are placed automatically.
        ring_capacity: ring key (producer.record.consumer) -> slots, a power of two.
        spin_ns_max: how long a parked process spins before it sleeps; 0 where cores are shared.
        start_s_max: from the first fork to all READY.
        heartbeat_age_ms_max: a process silent for longer is killed and started again.
        restarts_max: deaths in a row after which trading is killed and the run ends.
        restart_delay_ms, restart_delay_ms_max: before the first restart; doubles up to the maximum.
        restart_reset_s: a life longer than this forgets earlier deaths.
        drain_s_max: from "no new orders" to no order open or in doubt.
        exit_s_max: from "leave" to gone.
        report_every_s: one line to standard output where there is no terminal.
    """

    cores: dict[str, Annotated[int, Meta(ge=0)]] = {}
    ring_capacity: dict[str, Positive] = {}
    spin_ns_max: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    start_s_max: Positive = 120
    heartbeat_age_ms_max: Annotated[int, Meta(ge=500)] = 5_000
    restarts_max: Annotated[int, Meta(ge=0, le=1_000)] = 8
    restart_delay_ms: Positive = 50
    restart_delay_ms_max: Positive = 10_000
    restart_reset_s: Positive = 30
    drain_s_max: Positive = 15
    exit_s_max: Positive = 5
    report_every_s: Positive = 5

    def __post_init__(self) -> None:
        for key, capacity in self.ring_capacity.items():
            if capacity & (capacity - 1) or not 2 <= capacity <= CAPACITY_MAX:
                raise ValueError(
                    f"ring_capacity.{key} is {capacity}, expected a power of two"
                    f" from 2 to {CAPACITY_MAX}"
                )
        if self.restart_delay_ms_max < self.restart_delay_ms:
            raise ValueError(
                f"restart_delay_ms_max is {self.restart_delay_ms_max},"
                f" expected at least restart_delay_ms={self.restart_delay_ms}"
            )

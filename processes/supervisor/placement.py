"""Which process runs on which core, and how it waits: decided from the cores there are."""

from typing import NamedTuple

from processes.runner import Idle
from processes.wiring import ProcessSpec

SPARE_CORES_MIN = 1  # for everything that is not hot, the supervisor and the kernel


class Placement(NamedTuple):
    """What was chosen.

    Attributes:
        cores: process name -> core, None: not pinned.
        idle: process name -> spin, yield or park.
        reason: one sentence for the operator.
    """

    cores: dict[str, int | None]
    idle: dict[str, Idle]
    reason: str


def place(
    processes: tuple[ProcessSpec, ...],
    available: list[int],
    isolated: list[int],
    idle: str,
    chosen: dict[str, int],
) -> Placement:
    """Give each process a core and an idle strategy.

    Args:
        processes: of the plan.
        available: cores that this process may run on, ascending.
        isolated: of those, the ones that the kernel schedules nobody on.
        idle: the config's wish: "auto" or one strategy for the hot processes.
        chosen: cores that the config fixes, by process name; they count as taken.

    Returns:
        A core for every process (None where only the kernel should decide) and why.
    """
    hot = [process.name for process in processes if process.is_hot and process.name not in chosen]
    free = [core for core in available if core not in chosen.values()]
    ordered = [c for c in free if c in isolated] + [c for c in reversed(free) if c not in isolated]
    cores: dict[str, int | None] = {process.name: None for process in processes}
    if len(free) >= len(hot) + SPARE_CORES_MIN:
        cores.update(zip(hot, ordered, strict=False))
        best: Idle = "spin"
        reason = f"{len(available)} cores: each of {len(hot)} hot processes spins on its own"
    elif len(free) >= 2:
        order_core, *others = ordered
        groups = {"order": [order_core], "market": others}
        taken = {"order": 0, "market": 0}
        for process in processes:
            group = groups[process.core_group]
            cores[process.name] = group[taken[process.core_group] % len(group)]
            taken[process.core_group] += 1
        best = "park"
        market = ", ".join(str(core) for core in others)
        reason = (
            f"{len(available)} cores are fewer than {len(hot)} hot processes and"
            f" {SPARE_CORES_MIN} to spare: all park, the order path shares core {order_core}"
            f" (a wake on the same core is cheapest), the rest shares {market}"
        )
    else:
        best = "park"
        reason = f"{len(available)} core: all park and none is pinned"
    cores.update(chosen)
    strategy: Idle = best if idle == "auto" else idle  # type: ignore[assignment]
    if idle != "auto":
        reason += f"; the config wants {idle}"
    return Placement(
        {process.name: cores[process.name] for process in processes},
        {process.name: strategy if process.is_hot else "park" for process in processes},
        reason,
    )

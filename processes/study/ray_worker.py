"""What runs in a worker process of a Ray cluster.

Nothing that brings numba in is imported before the kernel cache has been chosen, so a job is made
of plain values.
"""

import importlib
from pathlib import Path
from typing import Any, NamedTuple

from common import kernel_cache
from common.errors import TickringError, UnavailableError

_loaded: dict[str, Any] = {}  # of this process, by identity


class Job(NamedTuple):
    """What every task of a sweep shares.

    Attributes:
        subject: "module:function" that returns the Subject.
        config, data: absolute paths.
        combinations: of the whole sweep.
        identity: what the driver found; see study.identity_of.
    """

    subject: str
    config: str
    data: list[str]
    combinations: list[dict[str, str]]
    identity: str


def run_remotely(job: tuple, row: int) -> bytes:
    """Run one combination; return what study.evaluate does, or JSON with an error."""
    kernel_cache.configure()
    from processes.report.metrics import encode
    from processes.study.plan import evaluate

    mine = Job(*job)
    try:
        return evaluate(loaded_here(mine), mine.combinations[row])
    except TickringError as error:
        return encode({"error": str(error)})


def loaded_here(job: Job) -> Any:
    """Return this process' data; the first call reads and checks them.

    Raises:
        UnavailableError: this node has other files than the one that asks.
    """
    from processes.study.plan import Loaded, Plan, identity_of, keys_of

    if job.identity not in _loaded:
        module, _, function = job.subject.partition(":")
        subject = getattr(importlib.import_module(module), function)()
        data = [Path(text) for text in job.data]
        plan = Plan(Path(job.config), data, job.combinations, "pnl", 1)
        found = identity_of(keys_of(subject, plan))
        if found != job.identity:
            raise UnavailableError(
                f"ray: this node's config, data, sources and files are {found[:12]},"
                f" expected {job.identity[:12]}: the same files on every node"
            )
        _loaded[job.identity] = Loaded(subject, plan)
    return _loaded[job.identity]

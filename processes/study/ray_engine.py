"""The sweep's other engine: a Ray cluster, for when one machine is not enough.

Every node reads config and data from the same paths (a shared folder) with the same sources
installed; each worker checks that by computing the identity itself, so a node that has other files
fails its tasks instead of giving other results. Answers are the bytes that the local engine gives.
"""

import os
from typing import Any

from common import kernel_cache
from common.errors import UnavailableError
from processes.study.plan import Plan, resolved
from processes.study.ray_worker import Job, run_remotely
from processes.study.sweep import Answers, Engine

IN_FLIGHT_PER_CPU = 2


def ray_engine(subject: str, address: str) -> Engine:
    """Return the engine that sends combinations to a Ray cluster.

    Args:
        subject: "module:function" that returns the Subject; called in each worker.
        address: of the cluster; "": the one that RAY_ADDRESS names, or a new one on this machine.

    Raises:
        UnavailableError: Ray is not installed.
    """
    try:
        import ray
    except ImportError:
        raise UnavailableError(
            "--engine ray: ray is not installed, expected it; pip install 'tickring[ray]'"
        ) from None

    def answers(plan: Plan, identity: str, rows: list[int]) -> Answers:
        if not rows:
            return
        was_there = ray.is_initialized()
        if not was_there:
            connect(ray, address)
        job = Job(
            subject,
            str(plan.config.resolve()),
            [str(resolved(path)) for path in plan.data],
            plan.combinations,
            identity,
        )
        try:
            yield from _spread(ray, job, rows)
        finally:
            if not was_there:
                ray.shutdown()

    return answers


def connect(ray: Any, address: str) -> None:
    """Join a cluster, or begin one here.

    Raises:
        UnavailableError: there is none at the address.
    """
    options: dict[str, Any] = {"include_dashboard": False}
    if address or os.environ.get("RAY_ADDRESS"):
        options = {"address": address or "auto"}
    try:
        ray.init(**options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UnavailableError(f"--address: {address or 'auto'}: {error}") from None


def _spread(ray: Any, job: Job, rows: list[int]) -> Answers:
    """Keep the cluster busy until every row has its answer."""
    paths = os.pathsep.join([str(kernel_cache.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    remote = ray.remote(num_cpus=1, max_retries=0, runtime_env={"env_vars": {"PYTHONPATH": paths}})(
        run_remotely
    )
    shared = ray.put(tuple(job))
    limit = max(1, int(ray.cluster_resources().get("CPU", 1)) * IN_FLIGHT_PER_CPU)
    waiting = list(reversed(rows))
    flying: dict[Any, int] = {}
    while waiting or flying:
        while waiting and len(flying) < limit:
            row = waiting.pop()
            flying[remote.remote(shared, row)] = row
        done, _ = ray.wait(list(flying), num_returns=1)
        row = flying.pop(done[0])
        try:
            yield row, ray.get(done[0]), ""
        except ray.exceptions.RayError as error:
            last = str(error).strip().splitlines()[-1]
            yield row, b"", f"its process ended: {last}"

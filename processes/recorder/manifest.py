"""The manifest of a recorded run: what ran, so that the files can be understood years later."""

import platform
from importlib import metadata
from typing import Any

import numpy as np
from numba.core.registry import cpu_target

from processes.runner import Context
from shm import registry
from shm.segment import build_hash

SCHEMA = 1
_SECONDS = 19  # characters of 2026-08-22T11:58:03


def run_id(context: Context, started_wall_ns: int) -> str:
    """Return a name that sorts by time and that no other run of this state folder has."""
    instant = str(np.datetime64(started_wall_ns, "ns"))[:_SECONDS]
    return f"{instant.replace('-', '').replace(':', '').replace('T', '-')}-{context.session}"


def new_manifest(context: Context) -> dict[str, Any]:
    """Return the manifest of the run of a context; no secret is in a config.

    Raises:
        UnavailableError, SegmentError: the instance has no registry, or it is not usable.
    """
    known = registry.read_manifest(context.instance)
    config = known["config"]
    simulator = (config or {}).get("simulator") or {}
    return {
        "schema": SCHEMA,
        "run": run_id(context, known["started_wall_ns"]),
        "instance": context.instance,
        "session": context.session,
        "started_wall_ns": known["started_wall_ns"],
        "started_ns": known["started_ns"],
        "boot_id": known["boot_id"],
        "complete": False,
        "stopped": "",
        "replay_from": {"checkpoint": -1, "turn": 0},
        "config": config,
        "config_folder": (config or {}).get("folder", ""),
        "instruments": known["instruments"],
        "source_hash": f"{build_hash():016x}",
        "numba": metadata.version("numba"),
        "numpy": metadata.version("numpy"),
        "python": platform.python_version(),
        "cpu_name": cpu_target.target_context.codegen().magic_tuple()[1],
        "seed": (simulator.get("flow") or {}).get("seed"),
        "rings": {},
    }

"""Builds the recorder stage of a run."""

from pathlib import Path
from typing import Any

import numpy as np

from common import clock
from common.errors import SegmentError, UnavailableError
from processes.recorder.counters import LABELS
from processes.recorder.manifest import new_manifest
from processes.recorder.stage import RecorderStage
from processes.recorder.tap import RingTap, StateTap
from processes.runner import Context
from processes.wiring import SECRET_LAYOUTS, STATES
from shm.observer import warm_up as warm_up_observer
from shm.recording import RECORDINGS, read_manifest
from shm.registry import ring_name, segment_name
from shm.segment import exists
from shm.slot_file import warm_up as warm_up_files
from shm.turn import anonymous_twin


def build(context: Context) -> RecorderStage:
    """Make the stage from a process's context; a restarted one goes on with the same run."""
    config = context.config.recorder
    manifest = new_manifest(context)
    run = context.state_dir / RECORDINGS / manifest["run"]
    manifest["replay_from"] = earlier_manifest(run).get("replay_from", manifest["replay_from"])
    chosen = [
        ring
        for ring in context.plan.rings
        if ring.layout not in SECRET_LAYOUTS and (not config.rings or ring.key in config.rings)
    ]
    spec = STATES[0]
    name = segment_name(context.instance, spec.process, spec.what)

    def open_taps() -> list[RingTap]:
        return [
            RingTap(
                run,
                ring.key,
                ring_name(context.instance, ring.producer, ring.record, ring.consumer),
                config,
            )
            for ring in chosen
        ]

    def open_state() -> StateTap | None:
        return StateTap(run, spec, name, config) if exists(name) else None

    return RecorderStage(
        run,
        manifest,
        config,
        open_taps,
        open_state,
        {ring.key for ring in chosen if ring.consumer == spec.process},
        {ring.key for ring in chosen if ring.producer == spec.process},
        context.counters(LABELS, []),
        clock,
    )


def earlier_manifest(run: Path) -> dict[str, Any]:
    """Return the manifest that an earlier process of the same run has left, if it did."""
    try:
        return read_manifest(run)
    except (UnavailableError, SegmentError):
        return {}


def warm_up() -> None:
    """Compile the kernels that copy, sum and check."""
    warm_up_observer()
    warm_up_files()
    anonymous_twin(np.dtype([("words", "<i8", (1,))])).read()

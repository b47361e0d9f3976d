"""Load or compile every kernel before anything is forked, and check that what came out computes.

A module with `warm_up()` calls its kernels once on tiny arrays of the types used in production, one
with `warm_up_for(config, instruments)` those that depend on the set-up. A kernel they forget is
compiled in the process that needs it, which tells of it: `kernel_compiled_late`.
"""

import fcntl
import hashlib
import importlib
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numba.core.caching import IndexDataCacheFile

from common import fixed_point
from common.errors import BugError
from common.instruments import Instrument
from common.records import LAYOUTS
from processes.supervisor.zygote import leave
from processes.wiring import Plan
from shm.cursors import clear_told_loss
from shm.doorbell import Sleeper
from shm.latch import anonymous_latch, is_any_set
from shm.ring import anonymous_ring
from shm.segment import build_hash
from shm.table import anonymous_table

PACKAGES = ("common", "shm", "processes")
LOCK_FILE, SAVE_LOCK_FILE = ".lock", ".save-lock"
COMPILERS_MAX = 6
ORACLE_TEXTS = ("0", "1", "0.1", "64210.10", "00012.500", "999999999999.99", "1.", "", "x", "0.001")
ORACLE_PAIRS = ((3, 5), (-7, 11), (1 << 40, 1 << 40), (-(1 << 62), 2), (0, 1 << 62))
Progress = Callable[[str, int, int], None]
Step = Callable[[], None]


def make_warm_up(
    plan: Plan, config: Any, instruments: list[Instrument]
) -> Callable[[Progress], None]:
    """Return what the zygote runs.

    Args:
        plan: whose processes are loaded.
        config, instruments: for modules whose kernels depend on them: `warm_up_for` gets them.
    """

    def warm_up(progress: Progress) -> None:
        for spec in plan.processes:
            importlib.import_module(spec.build.partition(":")[0])
        steps: list[tuple[str, Step]] = [("rings, tables and pages", partial(warm_up_shared, plan))]
        for module in own_modules():
            if callable(call := getattr(module, "warm_up", None)):
                steps.append((module.__name__, call))
            if callable(call := getattr(module, "warm_up_for", None)):
                steps.append((module.__name__, partial(call, config, instruments)))
        with cache_lock():
            compile_apart(steps, stamp_path(config, instruments), progress)
            for _name, call in steps:
                call()
        self_test()

    return warm_up


def stamp_path(config: Any, instruments: list[Instrument]) -> Path | None:
    """Return the file that says that the cache holds all kernels of such a set-up."""
    directory = os.environ.get("NUMBA_CACHE_DIR")
    if not directory:
        return None
    strategy = getattr(getattr(config, "strategy", None), "module", "")
    facts = f"{strategy} {len(instruments)} {build_hash()}"
    tag = hashlib.sha256(facts.encode()).hexdigest()[:16]
    return Path(directory) / f"warm-{tag}"


def compile_apart(steps: list[tuple[str, Step]], stamp: Path | None, progress: Progress) -> None:
    """Fill the cache in processes that end: compiling leaves a gigabyte of rubbish behind.

    One process per core takes step after step from a pipe.

    Raises:
        BugError: a kernel cannot be compiled; its traceback was printed.
    """
    if stamp is None or stamp.exists():
        return
    read_fd, write_fd = os.pipe()
    os.write(write_fd, bytes(range(len(steps))))
    os.close(write_fd)
    count = min(len(os.sched_getaffinity(0)), COMPILERS_MAX)
    pids = []
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            leave(partial(run_steps, steps, read_fd, progress))
        pids.append(pid)
    os.close(read_fd)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    if any(codes):
        raise BugError(f"kernels: compilers ended with {codes}, expected 0")
    stamp.touch(mode=0o600)
    progress("done", len(steps), len(steps))


def run_steps(steps: list[tuple[str, Step]], read_fd: int, progress: Progress) -> None:
    """Take steps until there are none left."""
    lock_saves()
    while number := os.read(read_fd, 1):
        name, call = steps[number[0]]
        progress(name, number[0], len(steps))
        call()


def lock_saves() -> None:
    """Let one process at a time change a cache index; numba reads, changes and writes it."""
    save = IndexDataCacheFile.save
    if getattr(save, "is_locked", False):
        return

    def save_locked(self: Any, key: Any, data: Any) -> None:
        with cache_lock(SAVE_LOCK_FILE):
            save(self, key, data)

    save_locked.is_locked = True  # type: ignore[attr-defined]
    IndexDataCacheFile.save = save_locked


def cache_lock(name: str = LOCK_FILE) -> Any:
    """Hold the cache directory while kernels are compiled into it; numba itself does not lock."""
    directory = os.environ.get("NUMBA_CACHE_DIR")
    path = Path(directory) / name if directory else Path(os.devnull)
    file = path.open("a")
    if directory:
        fcntl.flock(file, fcntl.LOCK_EX)
    return file


def own_modules() -> list[ModuleType]:
    """Return the loaded modules of the project, in order of name."""
    return [
        module
        for name, module in sorted(sys.modules.items())
        if name.partition(".")[0] in PACKAGES and module is not None
    ]


def warm_up_shared(plan: Plan) -> None:
    """Call what every process uses of `shm`, once per record type of the plan."""
    ends = []
    for layout in sorted({ring.layout for ring in plan.rings}):
        producer, consumer = anonymous_ring(layout, 8)
        slots = np.zeros_like(consumer.end.slots[:1])
        producer.write(slots)
        consumer.read(1)
        for _ in range(9):  # over its capacity: the drop and what tells it
            producer.write(slots)
        clear_told_loss(producer.end.own)
        ends.append(consumer)
    for consumers in (ends, []):
        sleeper = Sleeper(consumers[:1])
        sleeper.spin(1)
        sleeper.try_sleep()
        sleeper.wake()
    for layout in sorted({table.layout for table in plan.tables}):
        writer, reader = anonymous_table(layout, 1)
        writer.write(0, np.zeros((), LAYOUTS[layout]))
        reader.read(0)
    page = anonymous_latch()
    page.set(0)
    page.get(0)
    is_any_set(page.words, 1)


def self_test() -> None:
    """Compare kernels with plain Python: a cache file that was swapped or cut must not trade.

    Raises:
        BugError: a kernel gave another answer; its cache directory must be removed.
    """
    for text in ORACLE_TEXTS:
        raw = np.frombuffer(b"?" + text.encode() + b"?", np.uint8)
        steps, status = fixed_point.parse_steps(raw, 1, len(raw) - 1, 2)
        try:
            expected = fixed_point.steps_from_text(text, 2)
        except ValueError:
            expected = None
        _expect("parse_steps", text, steps if status == fixed_point.PARSE_OK else None, expected)
    for a, b in ORACLE_PAIRS:
        product, overflow = fixed_point.multiply_checked(a, b)
        fits = abs(a * b) <= fixed_point.INT64_MAX
        _expect(
            "multiply_checked", f"{a} * {b}", None if overflow else product, a * b if fits else None
        )
    producer, consumer = anonymous_ring("MARKET", 8)
    slots = np.arange(24, dtype=np.int64).reshape(3, 8)
    producer.write(slots)
    _expect("ring", "3 slots", consumer.read(8).tolist(), slots.tolist())


def _expect(kernel: str, what: str, found: object, expected: object) -> None:
    if found != expected:
        raise BugError(
            f"{kernel}: {what!r} gives {found}, expected {expected};"
            f" remove {os.environ.get('NUMBA_CACHE_DIR', '__pycache__')}"
        )

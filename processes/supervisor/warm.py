"""Load or compile every kernel before anything is forked, and check that what came out computes.

Each module with kernels has `warm_up()`, which calls them once on tiny arrays of the types used in
production. What an earlier run compiled beyond that is found in the cache index and loaded too,
so that the second start never compiles.
"""

import fcntl
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numba.core.dispatcher import Dispatcher

from common import fixed_point
from common.errors import BugError
from common.records import LAYOUTS
from processes.wiring import Plan
from shm.doorbell import Sleeper
from shm.latch import anonymous_latch, is_any_set
from shm.ring import anonymous_ring
from shm.table import anonymous_table

PACKAGES = ("common", "shm", "processes")
LOCK_FILE = ".lock"
ORACLE_TEXTS = ("0", "1", "0.1", "64210.10", "00012.500", "999999999999.99", "1.", "", "x", "0.001")
ORACLE_PAIRS = ((3, 5), (-7, 11), (1 << 40, 1 << 40), (-(1 << 62), 2), (0, 1 << 62))
Progress = Callable[[str, int, int], None]


def make_warm_up(plan: Plan, extra: Callable[[], None] | None = None) -> Callable[[Progress], None]:
    """Return what the zygote runs.

    Args:
        plan: whose processes are loaded.
        extra: loads what only the config knows, such as the strategy.
    """

    def warm_up(progress: Progress) -> None:
        with cache_lock():
            for spec in plan.processes:
                importlib.import_module(spec.build.partition(":")[0])
            if extra is not None:
                extra()
            steps = [m for m in own_modules() if callable(getattr(m, "warm_up", None))]
            total = len(steps) + 2
            progress("loading kernels", 0, total)
            load_cached(own_modules())
            warm_up_shared(plan)
            for i, module in enumerate(steps, 1):
                progress(f"{module.__name__}", i, total)
                module.warm_up()
            progress("self-test", total - 1, total)
            self_test()
            progress("done", total, total)

    return warm_up


def cache_lock() -> Any:
    """Hold the cache directory while kernels are compiled into it; numba itself does not lock."""
    directory = os.environ.get("NUMBA_CACHE_DIR")
    path = Path(directory) / LOCK_FILE if directory else Path(os.devnull)
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


def kernels_of(modules: list[ModuleType]) -> Iterator[Dispatcher]:
    """Yield each kernel once."""
    seen = set()
    for module in modules:
        for value in list(vars(module).values()):
            if isinstance(value, Dispatcher) and id(value) not in seen:
                seen.add(id(value))
                yield value


def load_cached(modules: list[ModuleType]) -> int:
    """Load every specialisation that the cache holds; return how many.

    Reads numba's cache index, which has no public door: key = (signature, CPU, bytecode hash).
    """
    loaded = 0
    for kernel in kernels_of(modules):
        index = getattr(getattr(kernel, "_cache", None), "_cache_file", None)
        if index is None:
            continue  # not cached
        for signature, *_rest in index._load_index():
            kernel.compile(signature)
            loaded += 1
    return loaded


def warm_up_shared(plan: Plan) -> None:
    """Call what every process uses of `shm`, once per record type of the plan."""
    ends = []
    for layout in sorted({ring.layout for ring in plan.rings}):
        producer, consumer = anonymous_ring(layout, 8)
        producer.write(np.zeros_like(consumer.end.slots[:1]))
        consumer.read(1)
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

"""Bench harness: one question a row, rivals in the same interleaved rounds, checksums, a footer.

    python -m bench.ring [--smoke] [--rounds 7] [--cores 0,1] [--json]

A row runs A B C, C B A, A B C, ... so that drift hits everybody alike. What counts is the ratio to
a rival of the same round: median of the rounds, with minimum and maximum. A row is void if the
entries do not compute the same checksum. Between the rounds an empty loop on every core looks for
time that somebody else took; a difference below 3 times that noise is not a result.

Exit code: 0, or 1 if a row is void, or (not with --smoke) a reach is missed.
"""

import argparse
import json
import mmap
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numba import njit

from common import clock
from shm.atomics import read_cycles

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 7
SMOKE_ROUNDS = 2
CHILD_SECONDS_MAX = 120
_GAP_CYCLES = 2_500  # about 1 us: longer pauses of an empty loop are somebody else's
_NOISE_CYCLES = 50_000_000
_SMOKE_NOISE_CYCLES = 5_000_000
_PACKAGES = ("numba", "llvmlite", "numpy", "msgspec", "websockets")


class Result(NamedTuple):
    """What one run of one entry gives.

    Attributes:
        value: the figure, in the row's unit.
        checksum: of the result; entries of a row must agree.
        detail: further figures to show, e.g. percentiles.
    """

    value: float
    checksum: int
    detail: Mapping[str, float] = {}


Run = Callable[[int], Result]


@dataclass(frozen=True)
class Row:
    """One question with its entries.

    Attributes:
        question: what is asked, one line.
        unit: of the values.
        ours: run(size) -> Result.
        rivals: name -> run; an entry may be missing if its tool is not installed.
        reach: name of a rival -> ratio ours / rival that we want to reach.
        size, smoke_size: given to every run.
        is_higher_better: False: small values are good, the ratio must stay at or below its reach.
        is_same_result: False: entries compute different things, checksums are only shown.
        note: conditions a reader must know.
    """

    question: str
    unit: str
    ours: Run
    rivals: Mapping[str, Run]
    reach: Mapping[str, float]
    size: int
    smoke_size: int
    is_higher_better: bool = True
    is_same_result: bool = True
    note: str = ""


@dataclass
class Noise:
    """Share of the time that an empty loop lost on a core, once per round."""

    lost: dict[int, list[float]] = field(default_factory=dict)
    longest_cycles: dict[int, int] = field(default_factory=dict)

    def spread(self) -> float:
        """Return the largest difference between rounds on any core, as a share."""
        return max((max(rounds) - min(rounds) for rounds in self.lost.values()), default=0.0)


@njit(cache=True, _nrt=False)
def _find_gaps(duration_cycles):
    first = last = read_cycles()
    lost = longest = 0
    while last - first < duration_cycles:
        now = read_cycles()
        gap = now - last
        if gap > _GAP_CYCLES:
            lost += gap
            longest = max(longest, gap)
        last = now
    return lost, longest, last - first


@njit(cache=True, _nrt=False)
def _read_cycles():
    return read_cycles()


def cycles_per_ns() -> float:
    """Measure the time stamp counter against CLOCK_MONOTONIC for 20 ms."""
    _read_cycles()
    start_ns, start = clock.now_ns(), _read_cycles()
    clock.sleep_ns(20_000_000)
    return float((_read_cycles() - start) / (clock.now_ns() - start_ns))


class Session:
    """One call of a bench script: its options, cores, noise and verdict."""

    def __init__(self, title: str, argv: Sequence[str] | None = None) -> None:
        parser = argparse.ArgumentParser(description=title)
        parser.add_argument("--smoke", action="store_true", help="small sizes, nothing is judged")
        parser.add_argument("--rounds", type=int, help=f"rounds a row (default {ROUNDS})")
        parser.add_argument("--cores", help="cores to pin to, e.g. 0,1 (default: the last two)")
        parser.add_argument("--json", action="store_true", help="one JSON object a row, no text")
        options = parser.parse_args(argv)
        self.title = title
        self.is_smoke: bool = options.smoke
        self.is_json: bool = options.json
        self.rounds: int = options.rounds or (SMOKE_ROUNDS if options.smoke else ROUNDS)
        self._allowed = os.sched_getaffinity(0)
        allowed = sorted(self._allowed)
        self.cores = [int(c) for c in options.cores.split(",")] if options.cores else allowed[-2:]
        if not set(self.cores) <= set(allowed):
            parser.error(f"--cores: {options.cores} is not in the allowed set {allowed}")
        self.is_failed = False
        self.say(f"# {title}")
        for warning in self._warnings():
            self.say(f"warning: {warning}")

    def say(self, text: str) -> None:
        """Print one line, unless JSON was asked for."""
        if not self.is_json:
            print(text, flush=True)

    def _warnings(self) -> list[str]:
        found = []
        isolated = _read("/sys/devices/system/cpu/isolated")
        if not isolated:
            found.append("no isolated cores: other work shares them")
        if len(self.cores) < 2:
            found.append("one core only: two-process rows measure the scheduler")
        for core in self.cores:
            governor = _read(f"/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor")
            if governor not in ("", "performance"):
                found.append(f"core {core}: governor is {governor}, expected performance")
        load = os.getloadavg()[0]
        if load > 0.5:
            found.append(f"load is {load:.1f}: the machine is in use")
        return found

    def pin(self, place: int = 0) -> None:
        """Pin the calling process to the place-th core of the session."""
        os.sched_setaffinity(0, {self.cores[place % len(self.cores)]})

    def run(self, row: Row) -> dict[str, object]:
        """Measure one row and print it; return the figures."""
        entries = {"tickring": row.ours, **row.rivals}
        size = row.smoke_size if self.is_smoke else row.size
        values: dict[str, list[float]] = {name: [] for name in entries}
        details: dict[str, Mapping[str, float]] = {}
        checksums: dict[str, set[int]] = {name: set() for name in entries}
        noise = Noise()
        for run in entries.values():  # compile, load, fault in; not recorded
            run(row.smoke_size)
        for number in range(self.rounds):
            self._measure_noise(noise)
            for name in list(entries)[:: -1 if number % 2 else 1]:
                self.pin()
                result = entries[name](size)
                values[name].append(result.value)
                checksums[name].add(result.checksum)
                details[name] = result.detail
        os.sched_setaffinity(0, self._allowed)
        void = row.is_same_result and len(set().union(*checksums.values())) != 1
        return self._report(row, size, values, details, checksums, noise, void)

    def _measure_noise(self, noise: Noise) -> None:
        cycles = _SMOKE_NOISE_CYCLES if self.is_smoke else _NOISE_CYCLES
        for place, core in enumerate(self.cores):
            self.pin(place)
            _find_gaps(1)
            lost, longest, elapsed = _find_gaps(cycles)
            noise.lost.setdefault(core, []).append(lost / elapsed)
            noise.longest_cycles[core] = max(noise.longest_cycles.get(core, 0), longest)

    def _report(
        self,
        row: Row,
        size: int,
        values: dict[str, list[float]],
        details: dict[str, Mapping[str, float]],
        checksums: dict[str, set[int]],
        noise: Noise,
        void: bool,
    ) -> dict[str, object]:
        self.say(f"\n{row.question}  [{row.unit}, size {size:,}, {self.rounds} rounds]")
        if row.note:
            self.say(f"  {row.note}")
        judged: dict[str, object] = {}
        for name, found in values.items():
            line = f"  {name:<28} {_three(found)}"
            if name in row.rivals:
                ratios = [a / b for a, b in zip(values["tickring"], found, strict=True)]
                verdict = self._verdict(row, name, ratios, noise, void)
                judged[name] = {"ratio": statistics.median(ratios), "verdict": verdict}
                line += f"   tickring / it = {_three(ratios)}  {verdict}"
            self.say(line)
            if details.get(name):
                shown = "  ".join(
                    f"{key} {value:,.{1 if value < 100 else 0}f}"
                    for key, value in details[name].items()
                )
                self.say(f"  {'':<28} {shown}")
        for core, lost in noise.lost.items():
            longest = noise.longest_cycles[core]
            self.say(
                f"  noise, core {core}: lost {_three([100 * share for share in lost])} %,"
                f" longest pause {longest:,} cycles"
            )
        texts = {name: sorted(f"{one & (1 << 64) - 1:x}" for one in found)
                 for name, found in checksums.items()}  # fmt: skip
        if void:
            self.is_failed = True
            self.say(f"  VOID: checksums differ: {texts}")
        elif row.is_same_result:
            self.say(f"  checksum {texts['tickring'][0]}, equal in all entries and rounds")
        report: dict[str, object] = {
            "question": row.question,
            "unit": row.unit,
            "size": size,
            "values": values,
            "details": {name: dict(detail) for name, detail in details.items()},
            "rivals": judged,
            "noise": noise.lost,
            "void": void,
        }
        if self.is_json:
            print(json.dumps(report), flush=True)
        return report

    def _verdict(self, row: Row, rival: str, ratios: list[float], noise: Noise, void: bool) -> str:
        if rival not in row.reach:
            return "(for comparison)"
        reach, ratio = row.reach[rival], statistics.median(ratios)
        wanted = f"reach {'>=' if row.is_higher_better else '<='} {reach:g}"
        if void:
            return f"{wanted}: VOID"
        if self.is_smoke:
            return f"{wanted}: not judged"
        if ratio >= reach if row.is_higher_better else ratio <= reach:
            return f"{wanted}: yes"
        self.is_failed = True
        doubt = ", within 3x noise" if abs(ratio - reach) < 3 * noise.spread() else ""
        return f"{wanted}: NO{doubt}"

    def finish(self, excluded: str = "", omission: str = "") -> int:
        """Print the footer and return the exit code.

        Args:
            excluded: what the figures leave out.
            omission: how coordinated omission is handled, if latencies are shown.
        """
        facts = {
            "cpu": _cpu_name(),
            "cores": f"{self.cores} of {os.cpu_count()}",
            "kernel": f"{platform.system()} {platform.release()}",
            "commit": _commit(),
            "versions": "python " + platform.python_version() + "".join(
                f", {package} {_version(package)}" for package in _PACKAGES
            ),
            "compiler": _first_line(["gcc", "--version"]) or "none",
            "clock": f"time stamp counter {cycles_per_ns():.3f} cycles per ns",
            "excluded": excluded or "nothing",
        }  # fmt: skip
        if omission:
            facts["coordinated omission"] = omission
        if self.is_smoke:
            facts["smoke"] = "small sizes: these figures show that the bench runs, nothing else"
        if self.is_json:
            print(json.dumps({"footer": facts}), flush=True)
        self.say("")
        for key, value in facts.items():
            self.say(f"{key}: {value}")
        return 1 if self.is_failed else 0


def shared_words(count: int) -> np.ndarray:
    """Return int64[count] that forked children share with this process."""
    return np.frombuffer(mmap.mmap(-1, count * 8), np.int64)


def fork(work: Callable[[], object]) -> int:
    """Run `work` in a child process and return its pid; all its kernels must be compiled."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.alarm(CHILD_SECONDS_MAX)
        work()
        code = 0
    finally:
        if code:
            traceback.print_exc()
        os._exit(code)


def join(pid: int) -> None:
    """Wait for a child.

    Raises:
        RuntimeError: it failed.
    """
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        raise RuntimeError(f"child ended with {code}, expected 0")


def compile_c(source: Path, *flags: str) -> Path | None:
    """Compile a C peer with gcc -O3 -march=native; None if there is no gcc.

    Raises:
        subprocess.CalledProcessError: it does not compile.
    """
    if shutil.which("gcc") is None:
        return None
    folder = Path(tempfile.mkdtemp(prefix="tickring-bench-"))
    target = folder / source.stem
    command = ["gcc", "-O3", "-march=native", "-std=gnu11", "-Wall", str(source)]
    subprocess.run([*command, "-o", str(target), *flags], check=True)
    return target


def percentiles(samples_ns: Sequence[float]) -> dict[str, float]:
    """Return p50, p90, p99, p99.9, p99.99 and max of exact samples."""
    ordered = sorted(samples_ns)
    last = len(ordered) - 1
    found = {
        name: float(ordered[min(last, int(share * len(ordered)))])
        for name, share in (
            ("p50", 0.5),
            ("p90", 0.9),
            ("p99", 0.99),
            ("p99.9", 0.999),
            ("p99.99", 0.9999),
        )  # fmt: skip
    }
    found["max"] = float(ordered[last])
    return found


def main(title: str, rows: Callable[[Session], Sequence[Row]], **footer: str) -> None:
    """Run all rows of a bench script and exit."""
    session = Session(title)
    for row in rows(session):
        session.run(row)
    sys.exit(session.finish(**footer))


def _three(values: Sequence[float]) -> str:
    middle = statistics.median(values)
    digits = 0 if abs(middle) >= 1000 else 3 if abs(middle) < 10 else 1
    low, high = min(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f}-{high:,.{digits}f})"


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _cpu_name() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    commit = _first_line(["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"])
    if not commit:
        return "unknown"
    changed = _first_line(["git", "-C", str(ROOT), "status", "--porcelain", "-uno"])
    return commit + (" with uncommitted changes" if changed else "")


def _first_line(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.partition("\n")[0] if done.returncode == 0 else ""


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"

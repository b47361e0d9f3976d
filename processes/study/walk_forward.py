"""`tickring walk-forward`: choose on the past, be judged on what comes after.

The time of the data is cut into windows: `in` long to choose, `out` long to judge, `step` apart. In
each, every combination of the grid runs on the data known in [start, start + in); the best by the
metric, the first of equal ones, runs on [start + in, start + in + out), from a flat account. Only
that second run is reported; the figures of all of them joined are those of one account that went on
through the windows. A choice depends on nothing from its out-of-sample window or later: the data
are cut before they are run.
"""

import os
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from common.errors import TickringError, UsageError
from processes.inspector.show import print_table
from processes.report.metrics import Figures, Metrics, encode, measure, measure_parts
from processes.results import Result
from processes.study.plan import (
    Loaded,
    Parameters,
    Plan,
    Subject,
    decode,
    evaluate,
    rank_key,
)
from processes.study.sweep import LOADING, SHOWN, parameters_text, progress_bar, short
from processes.study.workers import run_forked

FILE_NAME = "walk-forward.json"
WINDOWS_MAX = 100_000


class Window(NamedTuple):
    """One step: choose on [first, middle), be judged on [middle, end); local time of the data."""

    first_ns: int
    middle_ns: int
    end_ns: int


class Step(NamedTuple):
    """What became of a window.

    Attributes:
        window: which.
        chosen: row of the combination, -1 if none has the metric.
        failed: combinations that failed in-sample, with their errors.
        result: out of sample; None if nothing was chosen, or it failed.
        error: why there is no result.
    """

    window: Window
    chosen: int
    failed: list[tuple[Parameters, str]]
    result: Result | None
    error: str


class Walk(NamedTuple):
    """All windows, and what they are worth together.

    Attributes:
        steps: in order of time.
        joined: figures of the out-of-sample results as one account; None if there are none.
        left_ns: time at the end of the data that fills no window.
    """

    steps: list[Step]
    joined: Metrics | None
    left_ns: int


def windows_of(span: tuple[int, int], in_ns: int, out_ns: int, step_ns: int) -> list[Window]:
    """Return the whole windows of a span.

    Raises:
        UsageError: a length is missing, windows would overlap out of sample, or none fits.
    """
    for option, length in (("--in", in_ns), ("--out", out_ns)):
        if length <= 0:
            raise UsageError(f"{option}: {length} ns, expected more than 0")
    step = step_ns or out_ns
    if step < out_ns:
        raise UsageError(
            f"--step: {step} ns, expected at least --out={out_ns} ns: out-of-sample windows that"
            " overlap would count twice"
        )
    first, end = span
    count = (end - first - in_ns - out_ns) // step + 1
    if count < 1:
        raise UsageError(
            f"--in, --out: {in_ns + out_ns} ns together, expected at most the"
            f" {end - first} ns of the data"
        )
    if count > WINDOWS_MAX:
        raise UsageError(f"--step: {count:,} windows, expected at most {WINDOWS_MAX:,}")
    return [
        Window(start, start + in_ns, start + in_ns + out_ns)
        for start in range(first, first + count * step, step)
    ]


def walk_forward(plan: Plan, loaded: Loaded, windows: list[Window]) -> list[Step]:
    """Choose and judge in every window."""
    answers = dict(_in_sample(plan, loaded, windows))
    width = len(plan.combinations)
    steps = []
    for row, window in enumerate(windows):
        mine = [answers[row * width + i] for i in range(width)]
        chosen, failed = choose(plan, mine)
        steps.append(_judge(plan, loaded, window, chosen, failed))
    return steps


def _in_sample(
    plan: Plan, loaded: Loaded, windows: list[Window]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (window x combinations + combination, what it gave), in any order."""
    width = len(plan.combinations)

    def run_task(task: int) -> bytes:
        window = windows[task // width]
        span = (window.first_ns, window.middle_ns)
        return evaluate(loaded, plan.combinations[task % width], span)

    with progress_bar() as progress:
        bar = progress.add_task("in-sample backtests", total=width * len(windows))
        progress.refresh()
        for outcome in run_forked(run_task, list(range(width * len(windows))), plan.jobs):
            failure = outcome.failure
            yield outcome.task, {"error": failure} if failure else decode(outcome.answer)
            progress.advance(bar)
            progress.refresh()


def choose(plan: Plan, answers: list[dict[str, Any]]) -> tuple[int, list[tuple[Parameters, str]]]:
    """Return the row of the best answer, -1 if none has the metric, and what failed."""
    failed = [
        (plan.combinations[row], answer["error"])
        for row, answer in enumerate(answers)
        if "error" in answer
    ]
    values: dict[int, Decimal | int] = {
        row: answer["figures"][plan.metric]
        for row, answer in enumerate(answers)
        if "error" not in answer and answer["figures"][plan.metric] is not None
    }
    best = min(values, key=lambda row: (rank_key(plan.metric, values[row]), row), default=-1)
    return best, failed


def _judge(
    plan: Plan,
    loaded: Loaded,
    window: Window,
    chosen: int,
    failed: list[tuple[Parameters, str]],
) -> Step:
    """Run what was chosen out of sample."""
    if chosen < 0:
        error = f"no combination has a {plan.metric} in sample"
        return Step(window, chosen, failed, None, error)
    span = (window.middle_ns, window.end_ns)
    try:
        result = loaded.result_of(plan.combinations[chosen], span)
    except TickringError as problem:
        return Step(window, chosen, failed, None, str(problem))
    return Step(window, chosen, failed, result, "")


def join(steps: list[Step]) -> Metrics | None:
    """Return the figures of all out-of-sample results as one account."""
    results = [step.result for step in steps if step.result is not None]
    return measure_parts(results) if results else None


def run_walk_forward(
    plan: Plan,
    subject: Subject,
    lengths_ns: tuple[int, int, int],
    folder: Path,
    as_json: bool,
) -> int:
    """Do what the command line asks for.

    Args:
        lengths_ns: in, out, step; step 0 is out.

    Returns:
        The exit code: 0, or 1 if a combination failed in sample or a window has no result.

    Raises:
        UsageError, ConfigError, UnavailableError: as told there.
    """
    if sys.stderr.isatty():
        sys.stderr.write(f"{LOADING} ...\n")
    loaded = Loaded(subject, plan)
    span = subject.span_of(loaded.any_data())
    windows = windows_of(span, *lengths_ns)
    steps = walk_forward(plan, loaded, windows)
    walk = Walk(steps, join(steps), max(span[1] - windows[-1].end_ns, 0))
    found = as_builtins(plan, walk)
    write(folder / FILE_NAME, found)
    if as_json:
        print(msgspec.json.format(encode(found)).decode())
    else:
        show(plan, walk, folder)
    return 1 if any(step.failed or step.result is None for step in steps) else 0


def as_builtins(plan: Plan, walk: Walk) -> dict[str, Any]:
    """Return what is written and printed as JSON."""
    return {
        "metric": plan.metric,
        "windows": [
            {
                **step.window._asdict(),
                "parameters": None if step.chosen < 0 else plan.combinations[step.chosen],
                "figures": None if step.result is None else measure(step.result).total,
                "error": step.error,
                "failed_in_sample": [
                    {"parameters": parameters, "error": error} for parameters, error in step.failed
                ],
            }
            for step in walk.steps
        ],
        "joined": None if walk.joined is None else walk.joined._asdict(),
        "left_ns": walk.left_ns,
    }


def write(path: Path, found: dict[str, Any]) -> None:
    """Write the JSON file, whole or not at all.

    Raises:
        UsageError: it cannot be written.
    """
    beside = path.with_suffix(".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            file.write(msgspec.json.format(encode(found)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise UsageError(f"{path}: {(error.strerror or str(error)).lower()}") from None


def show(plan: Plan, walk: Walk, folder: Path) -> None:
    """Print the windows with what was chosen and what it was worth out of sample, then all."""
    names = [plan.metric, *(name for name in SHOWN if name != plan.metric)]
    keys = list(plan.combinations[0])
    start_ns = walk.steps[0].window.first_ns
    rows: list[list[Any]] = []
    for number, step in enumerate(walk.steps, 1):
        chosen = plan.combinations[step.chosen] if step.chosen >= 0 else dict.fromkeys(keys, "-")
        total = None if step.result is None else measure(step.result).total
        rows.append(
            [number, (step.window.middle_ns - start_ns) / 1e9, *(chosen[key] for key in keys)]
            + _figures(total, names)
        )
    if walk.joined is not None:
        rows.append(["all", None, *("" for _ in keys), *_figures(walk.joined.total, names)])
    print_table(["window", "out_from_s", *keys, *names], rows)
    print(
        f"{len(walk.steps):,} windows, {len(plan.combinations):,} combinations, chosen by"
        f" {plan.metric} in sample; all figures are out of sample; more in {folder / FILE_NAME}"
    )
    if walk.left_ns:
        print(f"the last {walk.left_ns / 1e9:g} s of the data fill no window")
    for number, step in enumerate(walk.steps, 1):
        if step.error:
            sys.stderr.write(f"window {number}: {step.error}\n")
        for parameters, error in step.failed:
            sys.stderr.write(
                f"window {number}: failed in sample: {parameters_text(parameters)}: {error}\n"
            )


def _figures(total: Figures | None, names: list[str]) -> list[Any]:
    """Return cells of a row."""
    return [None if total is None else short(getattr(total, name)) for name in names]

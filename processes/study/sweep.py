"""`tickring sweep`: a backtest for every combination of a grid, resumable, and ranked.

Each result is a line of DIR/results.jsonl, named by a hash of the parameters, the config, the data,
the sources and the files that all of them name: what is there under that name is not computed
again, and whatever changes gets another name. DIR/ranking.csv is written at the end, the same bytes
whatever the number of processes or of interruptions. A combination that fails is a line too, is
listed, and is tried again next time.
"""

import csv
import importlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from common.errors import UsageError
from processes.inspector.show import print_table
from processes.report.metrics import encode, metric_names
from processes.study.plan import (
    Loaded,
    Parameters,
    Plan,
    Subject,
    decode,
    evaluate,
    identity_of,
    keys_of,
    rank_key,
)
from processes.study.results_file import ResultsFile
from processes.study.workers import run_forked

RANKING_NAME = "ranking.csv"
SHOWN = ("pnl", "sharpe", "max_drawdown", "fills", "turnover")
ROWS_MAX = 50
LOADING = "reading data, compiling"
Answers = Iterator[tuple[int, bytes, str]]
Engine = Callable[[Plan, str, list[int]], Answers]


class Ranking(NamedTuple):
    """What a sweep found.

    Attributes:
        rows: lines of the results file, the best first.
        failed: lines with an error, in the order of the grid.
        computed: how many were computed now; the others were there.
    """

    rows: list[dict[str, Any]]
    failed: list[dict[str, Any]]
    computed: int


def sweep(plan: Plan, keys: list[str], folder: Path, engine: Engine) -> Ranking:
    """Compute what is missing in `folder`, and rank all.

    Args:
        keys: of the combinations; see `keys_of`.
        engine: (plan, identity, rows of combinations) -> an answer or a failure of each, any order.

    Raises:
        UsageError, UnavailableError: see ResultsFile.
    """
    results = ResultsFile(folder)
    try:
        missing = [
            row
            for row, key in enumerate(keys)
            if key not in results.found or "error" in results.found[key]
        ]
        with progress_bar() as progress:
            bar = progress.add_task(LOADING, total=len(keys), completed=len(keys) - len(missing))
            progress.refresh()
            for row, answer, failure in engine(plan, identity_of(keys), missing):
                outcome = {"error": failure} if failure else decode(answer)
                results.add(keys[row], plan.combinations[row], outcome)
                progress.update(bar, advance=1, description="backtests")
                progress.refresh()
        ranking = rank([results.found[key] for key in keys], plan.metric, len(missing))
        write_ranking(folder / RANKING_NAME, ranking)
    finally:
        results.close()
    return ranking


def local_engine(subject: Subject) -> Engine:
    """Return the engine that forks workers from this process."""

    def answers(plan: Plan, identity: str, rows: list[int]) -> Answers:
        if not rows:
            return
        loaded = Loaded(
            subject, plan._replace(combinations=[plan.combinations[row] for row in rows])
        )

        def run_row(row: int) -> bytes:
            return evaluate(loaded, plan.combinations[row])

        for outcome in run_forked(run_row, rows, plan.jobs):
            yield outcome.task, outcome.answer, outcome.failure

    return answers


def progress_bar() -> Progress:
    """Return a bar on standard error that needs no thread of its own."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        auto_refresh=False,
        disable=not console.is_terminal,
    )


def rank(lines: list[dict[str, Any]], metric: str, computed: int) -> Ranking:
    """Put lines in order of a metric; equal ones stay in the order of the grid."""
    good = [line for line in lines if "error" not in line]
    failed = [line for line in lines if "error" in line]
    good.sort(key=lambda line: rank_key(metric, line["figures"][metric]))
    return Ranking(good, failed, computed)


def write_ranking(path: Path, ranking: Ranking) -> None:
    """Write all as CSV, whole or not at all.

    Raises:
        UsageError: it cannot be written.
    """
    lines = [*ranking.rows, *ranking.failed]
    keys = list(lines[0]["parameters"]) if lines else []
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["rank", *keys, *metric_names(), "error", "key"])
    for place, line in enumerate(lines, 1):
        figures = line.get("figures", {})
        writer.writerow(
            [
                place if figures else "",
                *(line["parameters"][key] for key in keys),
                *(figures.get(name) for name in metric_names()),
                line.get("error", ""),
                line["key"],
            ]
        )
    beside = path.with_suffix(".new")
    try:
        with beside.open("w", encoding="utf-8", newline="") as file:
            file.write(text.getvalue())
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise UsageError(f"{path}: {(error.strerror or str(error)).lower()}") from None


def show(ranking: Ranking, metric: str, folder: Path, as_json: bool) -> None:
    """Print the best combinations, then every failed one."""
    if as_json:
        found = {"folder": str(folder), "metric": metric, **ranking._asdict()}
        print(msgspec.json.format(encode(found)).decode())
        return
    names = [metric, *(name for name in SHOWN if name != metric)]
    print_ranked(ranking.rows[:ROWS_MAX], names)
    if len(ranking.rows) > ROWS_MAX:
        print(f"... and {len(ranking.rows) - ROWS_MAX:,} more")
    total = len(ranking.rows) + len(ranking.failed)
    print(
        f"{total:,} combinations, {ranking.computed:,} computed now, ranked by {metric};"
        f" all of them in {folder / RANKING_NAME}"
    )
    for line in ranking.failed:
        sys.stderr.write(f"failed: {parameters_text(line['parameters'])}: {line['error']}\n")


def print_ranked(rows: list[dict[str, Any]], names: list[str]) -> None:
    """Print a table of parameters and figures."""
    if not rows:
        return
    keys = list(rows[0]["parameters"])
    print_table(
        ["rank", *keys, *names],
        [
            [
                place,
                *(row["parameters"][key] for key in keys),
                *(short(row["figures"][name]) for name in names),
            ]
            for place, row in enumerate(rows, 1)
        ],
    )


def short(value: Any) -> int | float | None:
    """Return a number short enough for a column."""
    return value if value is None or isinstance(value, int) else float(f"{float(value):.6g}")


def parameters_text(parameters: Parameters) -> str:
    """Return "a=1 b=2"."""
    return " ".join(f"{key}={value}" for key, value in parameters.items()) or "no overrides"


def engine_of(name: str, make_subject: str, address: str) -> Engine:
    """Return the engine of a name.

    Args:
        make_subject: "module:function" that returns the Subject.
        address: of a Ray cluster.

    Raises:
        UsageError: there is no such engine.
        UnavailableError: Ray is not installed.
    """
    if name == "ray":
        from processes.study.ray_engine import ray_engine

        return ray_engine(make_subject, address)
    if name != "local":
        raise UsageError(f"--engine: {name!r}, expected local or ray")
    return local_engine(subject_of(make_subject))


def subject_of(target: str) -> Subject:
    """Return what "module:function" returns."""
    module, _, function = target.partition(":")
    subject: Subject = getattr(importlib.import_module(module), function)()
    return subject


def run_sweep(plan: Plan, make_subject: str, folder: Path, engine: Engine, as_json: bool) -> int:
    """Do what the command line asks for.

    Args:
        make_subject: "module:function" that returns the Subject.

    Returns:
        The exit code: 0, or 1 if a combination failed.

    Raises:
        UsageError, ConfigError, UnavailableError: as told there.
    """
    ranking = sweep(plan, keys_of(subject_of(make_subject), plan), folder, engine)
    show(ranking, plan.metric, folder, as_json)
    return 1 if ranking.failed else 0

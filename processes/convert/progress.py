"""A progress bar for long work, on a terminal only."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class Bar(Protocol):
    """What is told how far the work is."""

    def at(self, done: int) -> None:
        """Show how much is done."""


class _Silent:
    def at(self, done: int) -> None:
        """Nobody looks."""


SILENT: Bar = _Silent()


class _Rich:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def at(self, done: int) -> None:
        """Show how much is done."""
        self._progress.update(self._task, completed=done)


@contextmanager
def progress_bar(what: str, total: int) -> Iterator[Bar]:
    """Show a bar on standard error while the block runs, if that is a terminal."""
    if not sys.stderr.isatty():
        yield SILENT
        return
    columns = (TextColumn(what), BarColumn(), TextColumn("{task.percentage:>3.0f} %"),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield _Rich(progress, progress.add_task(what, total=total))

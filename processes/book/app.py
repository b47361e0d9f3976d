"""What the runner builds the book process from."""

import contextlib
import io
from typing import TYPE_CHECKING

from processes.book.counters import HISTOGRAMS, LABELS
from processes.book.rehearsal import rehearse
from processes.book.stage import BookStage

if TYPE_CHECKING:
    from processes.runner import Context


def build(context: "Context") -> BookStage:
    """Open this process's ends and return its stage."""
    return BookStage(
        context.instruments,
        context.config.book,
        market=context.consumer("feed", "market"),
        snapshots=context.consumer("rest", "snapshot"),
        books=context.producer("book", "strategy"),
        requests=context.producer("request", "rest"),
        cells=context.table_writer("bbo"),
        counters=context.counters(LABELS, HISTOGRAMS),
    )


def warm_up() -> None:
    """Compile every kernel of the stage by a short life in private memory."""
    with contextlib.redirect_stderr(io.StringIO()):
        rehearse()

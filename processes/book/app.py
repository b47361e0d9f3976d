"""What the runner builds the book process from."""

from typing import TYPE_CHECKING

from processes.book.counters import HISTOGRAMS, LABELS
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

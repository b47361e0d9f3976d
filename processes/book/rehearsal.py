"""A book stage in private memory: both ends of its rings in one process, for warm-up and replay."""

from typing import NamedTuple

import numpy as np

from common.enums import MarketKind
from common.instruments import Instrument, InstrumentFacts
from common.records import DEPTH, FLAG_LAST
from processes.book.config import BookConfig
from processes.book.counters import HISTOGRAMS, LABELS
from processes.book.stage import BookStage
from shm.counters import anonymous_counters
from shm.ring import Consumer, Producer, anonymous_ring
from shm.table import TableReader, TableWriter, anonymous_table


class Others(NamedTuple):
    """What the neighbours of book hold.

    Attributes:
        market, snapshots: producers into book.
        books, requests: consumers of what book writes.
        cells: reader of its BBO table, if that is its own.
    """

    market: Producer
    snapshots: Producer
    books: Consumer
    requests: Consumer
    cells: TableReader


def private_stage(
    instruments: list[Instrument],
    config: BookConfig,
    *,
    input_capacity: int = 4_096,
    book_capacity: int = 16_384,
    cells: TableWriter | None = None,
) -> tuple[BookStage, Others]:
    """Return a stage and the far side of everything that it touches, in private memory.

    Args:
        input_capacity, book_capacity: slots of the rings.
        cells: a table that somebody else reads; default: its own.
    """
    market_out, market = anonymous_ring("MARKET", input_capacity)
    snapshots_out, snapshots = anonymous_ring("MARKET", input_capacity)
    books, books_in = anonymous_ring("MARKET", book_capacity)
    requests, requests_in = anonymous_ring("REST_REQUEST", 256)
    own_cells, cells_in = anonymous_table("BBO_CELL", len(instruments))
    stage = BookStage(
        instruments,
        config,
        market=market,
        snapshots=snapshots,
        books=books,
        requests=requests,
        cells=cells or own_cells,
        counters=anonymous_counters(LABELS, HISTOGRAMS),
    )
    return stage, Others(market_out, snapshots_out, books_in, requests_in, cells_in)


def rehearse() -> None:
    """Let a book be asked for, live and be lost once, so that all kernels are compiled."""
    facts = InstrumentFacts(tick_size="1", lot_size="1", price_decimals=0, qty_decimals=0)
    instrument = Instrument(instrument_id=0, venue="rehearsal", symbol="A", facts=facts)
    config = BookConfig(window_steps=64, levels_max=8, diff_slots_max=64, snapshot_slots_max=64)
    stage, others = private_stage([instrument], config)
    now_ns = 1
    for ids in ((5, 6, 4), (7, 7, 6), (9, 9, 8)):
        others.market.try_write(_depth(MarketKind.DIFF_BEGIN, ids))
        stage.do_work(now_ns)
        if ids[0] == 5:
            others.snapshots.try_write(_depth(MarketKind.SNAPSHOT_BEGIN, (0, 5, 0)))
            others.snapshots.try_write(_depth(MarketKind.SNAPSHOT_END, (0, 5, 0)))
            stage.do_work(now_ns)
        others.books.read(256)
        now_ns += config.backoff_ns_max
    stage.next_timer_ns()
    stage.close()


def _depth(kind: MarketKind, ids: tuple[int, int, int]) -> np.ndarray:
    """Return a message with a bid at 10 and an ask at 12, or a bare SNAPSHOT_END."""
    has_levels = kind != MarketKind.SNAPSHOT_END
    words = np.zeros((2 if has_levels else 1, 8), np.int64)
    header = words[:1].reshape(-1).view(DEPTH)
    header["kind"] = kind
    header["flags"] = FLAG_LAST
    header["slot_count"] = len(words)
    header["first_update_id"], header["last_update_id"], header["previous_update_id"] = ids
    if has_levels:
        header["bid_count"] = header["ask_count"] = 1
        words[1, 2:6] = 10, 1, 12, 1
    return words

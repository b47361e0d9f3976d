"""A small instance with something in every kind of segment, and no process behind it."""

import contextlib
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.enums import MarketKind, RequestKind, Side
from common.instruments import Instrument, InstrumentFacts
from common.records import LAYOUTS, LEVEL_WORD
from processes.inspector.instance import Instance
from processes.supervisor.config import SupervisorConfig
from processes.supervisor.segments import Pages
from processes.supervisor.setup import Setup
from processes.wiring import plan_of
from shm import registry

from tests.support import unique_instance

FACTS = InstrumentFacts(tick_size="0.10", lot_size="0.001", price_decimals=2, qty_decimals=3)
INSTRUMENTS = [
    Instrument(instrument_id=i, venue="v", symbol=symbol, facts=FACTS)
    for i, symbol in enumerate(["BTCUSDT", "ETHUSDT"])
]


class Counter(IntEnum):
    ORDERS_SENT = 0
    FILLS = 1


LABELS = {Counter.ORDERS_SENT: "Orders sent (monotonic)", Counter.FILLS: "Fills (monotonic)"}


def book_slots(instrument_id: int, update_id: int, bids: list, asks: list) -> np.ndarray:
    """Return one BOOK message as int64[n, 8]."""
    levels = [*bids, *asks]
    slots = np.zeros((1 + -(-len(levels) // 3), 8), np.int64)
    head = slots[:1].view(LAYOUTS["BOOK"])[0]
    head["kind"], head["slot_count"] = MarketKind.BOOK, len(slots)
    head["instrument_id"], head["last_update_id"] = instrument_id, update_id
    head["bid_count"], head["ask_count"] = len(bids), len(asks)
    slots[:1].view(LAYOUTS["BOOK"])[0] = head
    for j, (price, qty) in enumerate(levels):
        row = slots[1 + j // 3]
        row[LEVEL_WORD + 2 * (j % 3)], row[LEVEL_WORD + 2 * (j % 3) + 1] = price, qty
    for row in slots[1:].view(LAYOUTS["LEVELS"])[:, 0]:
        row["kind"], row["instrument_id"] = MarketKind.LEVELS, instrument_id
    return slots


@pytest.fixture
def world(tmp_path: Path) -> Iterator[dict[str, Any]]:
    setup = Setup(
        instance=unique_instance(),
        config={"mode": "paper"},
        state_dir=tmp_path,
        instruments=INSTRUMENTS,
        plan=plan_of(True),
        settings=SupervisorConfig(ring_capacity={ring.key: 64 for ring in plan_of(True).rings}),
        order_rows=16,
    )
    pages = Pages(setup)
    feed, book, strategy, risk = (
        setup.context(name, 1) for name in ("feed", "book", "strategy", "risk")
    )
    market = feed.producer("market", "book")
    trade = np.zeros(3, LAYOUTS["TRADE"])
    trade["kind"], trade["slot_count"], trade["price_steps"] = MarketKind.TRADE, 1, 642_101
    trade["qty_steps"], trade["aggressor_side"] = [1_000, 2_000, 3_000], Side.ASK
    market.write(trade)
    books = book.producer("book", "strategy")
    books.write(book_slots(0, 7, [(642_100, 1_500)], [(642_101, 500)]))
    books.write(book_slots(1, 8, [(31_800, 20)], [(31_801, 30)]))
    books.write(book_slots(0, 9, [(642_102, 10), (642_101, 20)], [(642_103, 5), (642_104, 6)]))
    request = np.zeros(1, LAYOUTS["ORDER_REQUEST"])
    request["kind"], request["side"], request["price_steps"] = RequestKind.NEW, Side.BID, 642_100
    strategy.producer("intent", "risk").write(request)
    risk.consumer("strategy", "intent").read(1)
    counters = risk.counters(LABELS, ["recv_to_book", "recv_to_sent"])
    counters.values[Counter.ORDERS_SENT] = 1_234
    counters.histograms[0, 100] = 5
    cells, positions = book.table_writer("bbo"), risk.table_writer("positions")
    for i in range(2):
        cell, position = np.zeros((), LAYOUTS["BBO_CELL"]), np.zeros((), LAYOUTS["POSITION"])
        cell["instrument_id"] = position["instrument_id"] = i
        cell["valid"], cell["bid_price_steps"], cell["ask_price_steps"] = 1, 642_100, 642_104
        position["position_steps"], position["cost_steps2"] = 10, 10 * 642_000
        position["fee_e8"] = 50_000_000
        cells.write(i, cell)
        positions.write(i, position)
    instance = Instance(setup.instance)
    yield {
        "setup": setup, "pages": pages, "instance": instance, "market": market,
        "state_dir": tmp_path, "risk": risk,
    }  # fmt: skip
    instance.close()
    for context in (feed, book, strategy, risk):
        context.close()
    if registry.is_live(setup.instance):
        pages.close(keep=False)
    else:
        with contextlib.suppress(Exception):
            registry.clean(setup.instance)

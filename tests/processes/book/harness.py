"""A book stage between anonymous rings, and the market messages to drive it with."""

import numpy as np

from common.enums import GapReason, MarketKind
from common.instruments import Instrument, InstrumentFacts
from common.records import BOOK, DEPTH, FLAG_LAST, GAP, LEVELS, TRADE
from processes.book.config import BookConfig
from processes.book.counters import Counter
from processes.book.rehearsal import private_stage

from tests.processes.book.naive_book import Diff, Level

SMALL = BookConfig(
    levels_published=5, window_steps=256, levels_max=512, diff_slots_max=256, snapshot_slots_max=64
)


def instruments(count: int) -> list[Instrument]:
    facts = InstrumentFacts(tick_size="0.1", lot_size="0.001", price_decimals=2, qty_decimals=3)
    return [
        Instrument(instrument_id=i, venue="test", symbol=f"SYMBOL{i}", facts=facts)
        for i in range(count)
    ]


def depth_slots(
    kind: MarketKind, instrument_id: int, ids: tuple[int, int, int],
    bids: list[Level], asks: list[Level], ts_recv_ns: int = 1,
) -> np.ndarray:  # fmt: skip
    """Return a DIFF_BEGIN or SNAPSHOT_BEGIN message."""
    levels = [number for level in bids + asks for number in level]
    words = np.zeros((1 + -(-len(levels) // 6), 8), np.int64)
    padded = np.zeros((len(words) - 1, 6), np.int64)
    padded.reshape(-1)[: len(levels)] = levels
    words[1:, 2:] = padded
    slots = words.reshape(-1).view(DEPTH)
    slots["kind"] = MarketKind.LEVELS
    slots["instrument_id"] = instrument_id
    slots["ts_recv_ns"] = ts_recv_ns
    header = slots[:1]
    header["kind"] = kind
    header["slot_count"] = len(words)
    header["first_update_id"], header["last_update_id"], header["previous_update_id"] = ids
    header["bid_count"], header["ask_count"] = len(bids), len(asks)
    return words


def snapshot_end(instrument_id: int, last_id: int, is_whole: bool = True) -> np.ndarray:
    slots = np.zeros(1, DEPTH)
    slots["kind"] = MarketKind.SNAPSHOT_END
    slots["slot_count"] = 1
    slots["flags"] = FLAG_LAST if is_whole else 0
    slots["instrument_id"] = instrument_id
    slots["last_update_id"] = last_id
    return slots


def gap_slot(instrument_id: int, reason: GapReason) -> np.ndarray:
    slots = np.zeros(1, GAP)
    slots["kind"] = MarketKind.GAP
    slots["slot_count"] = 1
    slots["instrument_id"] = instrument_id
    slots["reason"] = reason
    return slots


def trade_slot(instrument_id: int, trade_id: int) -> np.ndarray:
    slots = np.zeros(1, TRADE)
    slots["kind"] = MarketKind.TRADE
    slots["slot_count"] = 1
    slots["instrument_id"] = instrument_id
    slots["trade_id"] = trade_id
    return slots


class Bench:
    """A stage, the far ends of its rings, and a clock that the test turns."""

    def __init__(
        self, count: int = 1, config: BookConfig = SMALL, book_capacity: int = 1 << 14
    ) -> None:
        self.stage, others = private_stage(instruments(count), config, book_capacity=book_capacity)
        self.market, self.snapshots, self.books, self.requests, self.cells = others
        self.counters = self.stage.counters
        self.now_ns = 1_000

    def count(self, counter: Counter) -> int:
        return int(self.counters.values[counter])

    def work(self, advance_ns: int = 1_000) -> int:
        self.now_ns += advance_ns
        return self.stage.do_work(self.now_ns)

    def diff(self, diff: Diff, instrument_id: int = 0, work: bool = True) -> None:
        ids = (diff.first_id, diff.last_id, diff.previous_id)
        assert self.market.try_write(
            depth_slots(MarketKind.DIFF_BEGIN, instrument_id, ids, diff.bids, diff.asks)
        )
        if work:
            self.work()

    def snapshot(
        self, last_id: int, bids: list[Level], asks: list[Level], instrument_id: int = 0
    ) -> None:
        ids = (7, last_id, 0)
        assert self.snapshots.try_write(
            depth_slots(MarketKind.SNAPSHOT_BEGIN, instrument_id, ids, bids, asks)
        )
        assert self.snapshots.try_write(snapshot_end(instrument_id, last_id))
        self.work()

    def gap(self, instrument_id: int, reason: GapReason) -> None:
        assert self.market.try_write(gap_slot(instrument_id, reason))
        self.work()

    def output(self) -> list[tuple]:
        """Drain the book ring: ("BOOK", id, valid, u, bids, asks), ("GAP", id, reason), others."""
        return read_messages(self.books.read(1 << 20))

    def rows(self, instrument_id: int = 0) -> list[tuple]:
        """Drain the book ring; return (u, best bid, best ask) of every valid BOOK."""
        return [
            (m[3], m[4][0] if m[4] else None, m[5][0] if m[5] else None)
            for m in self.output()
            if m[0] == "BOOK" and m[1] == instrument_id and m[2]
        ]

    def asked(self) -> list[tuple[int, int, int]]:
        """Drain the request ring: (instrument_id, request_id, attempt)."""
        return [
            (int(r["instrument_id"]), int(r["request_id"]), int(r["attempt"]))
            for r in self.requests.read(100)
        ]


def read_messages(words: np.ndarray) -> list[tuple]:
    """Decode what stands in a book ring, checking each message's form."""
    found: list[tuple] = []
    flat = np.ascontiguousarray(words).reshape(-1)
    heads, books, gaps = flat.view(DEPTH), flat.view(BOOK), flat.view(GAP)
    trades, levels = flat.view(TRADE), flat.view(LEVELS)
    at = 0
    while at < len(heads):
        kind, size = MarketKind(int(heads["kind"][at])), int(heads["slot_count"][at])
        instrument_id = int(heads["instrument_id"][at])
        assert size >= 1
        if kind == MarketKind.BOOK:
            head = books[at]
            bid_count, ask_count = int(head["bid_count"]), int(head["ask_count"])
            assert size == 1 + -(-(bid_count + ask_count) // 3)
            body = slice(at + 1, at + size)
            assert (levels["kind"][body] == MarketKind.LEVELS).all()
            assert (levels["instrument_id"][body] == instrument_id).all()
            assert (levels["slot_count"][body] == 0).all()
            numbers = words[body, 2:].reshape(-1)
            assert not numbers[2 * (bid_count + ask_count) :].any()
            pairs = [tuple(pair) for pair in numbers.reshape(-1, 2).tolist()]
            is_valid = not int(head["flags"]) & 1
            assert is_valid or size == 1
            found.append(
                ("BOOK", instrument_id, is_valid, int(head["last_update_id"]),
                 pairs[:bid_count], pairs[bid_count : bid_count + ask_count],
                 int(head["conflated_count"]))
            )  # fmt: skip
        elif kind == MarketKind.GAP:
            found.append(("GAP", instrument_id, GapReason(int(gaps["reason"][at]))))
        elif kind == MarketKind.TRADE:
            found.append(("TRADE", instrument_id, int(trades["trade_id"][at])))
        else:
            found.append((kind.name, instrument_id))
        at += size
    return found

"""Watches the market side: every book shown as valid is the venue's, every gap is told.

Independent of the code under test: dictionaries of levels from the matching engine's own events.
"""

import heapq
from collections.abc import Callable
from typing import Any

import numpy as np

from common.enums import GapReason, MarketKind, Side
from common.records import GAP
from processes.venue.engine import EventKind
from processes.venue.market import Row

from tests.processes.book.harness import read_messages

LEVEL = int(EventKind.LEVEL)
BID = int(Side.BID)
Levels = list[tuple[int, int]]


class Truth:
    """The venue's book of one instrument, and how it stood at each depth event."""

    def __init__(self, bids: Levels, asks: Levels, levels: int) -> None:
        self.sides = {1: dict(bids), -1: dict(asks)}
        self.levels = levels
        self.flushes: dict[int, tuple[int, Levels, Levels]] = {}  # u -> (number, bids, asks)

    def on_level(self, side: int, price: int, qty: int) -> None:
        """Take over the new total at one price."""
        if qty:
            self.sides[side][price] = qty
        else:
            self.sides[side].pop(price, None)

    def on_flush(self, update_id: int) -> None:
        """Remember the book as the depth event of this id leaves it."""
        bids = heapq.nlargest(self.levels, self.sides[1].items())
        asks = heapq.nsmallest(self.levels, self.sides[-1].items())
        self.flushes[update_id] = (len(self.flushes), bids, asks)


class MarketAuditor:
    """Compares what book publishes with the truth.

    Args:
        exchange: the venue's, as it begins.
        levels: that book publishes a side.
        fail: called with what is wrong.
    """

    def __init__(self, exchange: Any, levels: int, fail: Callable[[str], None]) -> None:
        self.fail = fail
        count = len(exchange.instruments)
        self.truths = [Truth(*exchange.market.depth(i, 1_000), levels) for i in range(count)]
        self.last_u: list[int] = [0] * count  # of the last valid book, 0: a gap lies between
        self.conflated = [0] * count
        self.books_checked = 0
        self.books_lost = 0
        self.told: dict[str, int] = {}  # ring -> slots that GAPs say were lost for want of room

    def on_rows(self, rows: list[Row]) -> None:
        """Take over the engine's events."""
        for row in rows:
            if row[0] == LEVEL:
                self.truths[row[4]].on_level(row[1], row[5], row[6])

    def on_flush(self, index: int, update_id: int) -> None:
        """A depth event is about to be sent, or lost."""
        self.truths[index].on_flush(update_id)

    def on_market_slots(self, ring: str, words: np.ndarray) -> None:
        """Count what the GAPs of a ring tell."""
        kinds = words[:, 0] & 255
        for gap in words[kinds == MarketKind.GAP].reshape(-1).view(GAP):
            if gap["reason"] == GapReason.RING_FULL:
                lost = int(gap["last_lost"] - gap["first_lost"]) + 1
                self.told[ring] = self.told.get(ring, 0) + lost

    def on_book_slots(self, words: np.ndarray) -> None:
        """Check what book has published: states, in order, each true."""
        for message in read_messages(words):
            if message[0] == "GAP":
                scope = range(len(self.last_u)) if message[1] < 0 else (message[1],)
                for i in scope:
                    self.books_lost += self.last_u[i] != 0
                    self.last_u[i] = 0
            elif message[0] == "BOOK":
                self._check_book(*message[1:])

    def _check_book(
        self, i: int, is_valid: bool, u: int, bids: Levels, asks: Levels, conflated: int
    ) -> None:
        skipped, self.conflated[i] = conflated - self.conflated[i], conflated
        if not is_valid:
            self.books_lost += self.last_u[i] != 0
            self.last_u[i] = 0
            return
        truth = self.truths[i].flushes.get(u)
        if truth is None:
            self.fail(f"book {i} is valid at u={u}, expected an update id of the venue")
            return
        number, true_bids, true_asks = truth
        if (bids, asks) != (true_bids, true_asks):
            self.fail(f"book {i} at u={u} is {bids} / {asks}, expected {true_bids} / {true_asks}")
        before = self.last_u[i]
        if before:
            missing = number - self.truths[i].flushes[before][0] - 1
            if missing < 0 or missing > max(skipped, 0):
                self.fail(
                    f"book {i} goes from u={before} to u={u} without a GAP:"
                    f" {missing} depth events between, {skipped} conflated"
                )
        self.last_u[i] = u
        self.books_checked += 1

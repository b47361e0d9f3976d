"""The slow obvious twin: a dict per side, and the venue's synchronisation rule word for word."""

from dataclasses import dataclass, field

Level = tuple[int, int]


class NaiveBook:
    """L2 book as two dicts of price to quantity, in grid steps."""

    def __init__(self) -> None:
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}

    def set_level(self, side: int, price: int, qty: int) -> None:
        levels = self.asks if side else self.bids
        if qty:
            levels[price] = qty
        else:
            levels.pop(price, None)

    def side(self, side: int) -> list[Level]:
        """Return all levels of one side, best first."""
        return sorted((self.asks if side else self.bids).items(), reverse=not side)

    def touch(self) -> tuple[Level | None, Level | None]:
        bids, asks = self.side(0), self.side(1)
        return bids[0] if bids else None, asks[0] if asks else None

    def is_crossed(self) -> bool:
        return bool(self.bids and self.asks) and max(self.bids) >= min(self.asks)


@dataclass
class Diff:
    """One depth event."""

    first_id: int
    last_id: int
    previous_id: int
    bids: list[Level]
    asks: list[Level]


@dataclass
class NaiveSync:
    """Binance USD-M: how to manage a local order book, one list and one dict at a time.

    Attributes:
        rows: (last_update_id, touch) after every applied event.
    """

    book: NaiveBook = field(default_factory=NaiveBook)
    is_valid: bool = False
    last_id: int = 0
    buffer: list[Diff] = field(default_factory=list)
    snapshot: tuple[int, list[Level], list[Level]] | None = None
    rows: list[tuple] = field(default_factory=list)
    depth_events: int = 0
    dropped_stale: int = 0
    gaps: int = 0

    def on_diff(self, diff: Diff) -> None:
        self.depth_events += 1
        if self.is_valid and diff.last_id <= self.last_id:
            self.dropped_stale += 1
            return
        self.buffer.append(diff)
        self.drain()

    def on_snapshot(self, last_id: int, bids: list[Level], asks: list[Level]) -> None:
        if self.is_valid and last_id <= self.last_id:
            return
        if self.snapshot is None or last_id >= self.snapshot[0]:
            self.snapshot = (last_id, bids, asks)
        self.drain()

    def drain(self) -> None:
        while self.buffer:
            diff = self.buffer[0]
            if not self.is_valid:
                if self.snapshot is None:
                    return
                last_id, bids, asks = self.snapshot
                if diff.last_id < last_id:
                    self.dropped_stale += 1
                    self.buffer.pop(0)
                    continue
                self.snapshot = None
                if diff.first_id > last_id:
                    return  # too old
                self.book = NaiveBook()
                self.book.bids, self.book.asks = dict(bids), dict(asks)
                self.is_valid = True
            elif diff.last_id <= self.last_id:
                self.dropped_stale += 1
                self.buffer.pop(0)
                continue
            elif diff.previous_id != self.last_id:
                self.gaps += 1
                self.is_valid = False
                continue
            for price, qty in diff.bids:
                self.book.set_level(0, price, qty)
            for price, qty in diff.asks:
                self.book.set_level(1, price, qty)
            if self.book.is_crossed():
                self.is_valid = False
                continue
            self.last_id = diff.last_id
            self.buffer.pop(0)
            self.rows.append((diff.last_id, *self.book.touch()))

"""Tick mode: a CSV of trades served live, at its own pace or faster, in a made book.

Rows are `timestamp,symbol,price,quantity[,side]`, with a header line or without. The unit of a
stamp is told by its magnitude (seconds, milliseconds, microseconds, nanoseconds); ISO 8601 in UTC
is taken too. Each row is a trade, from which aggTrade is made as in capture mode.

The book is NOT data: a tick file has none. It is `depth_levels` levels a side, a tick apart, each
of `level_qty`, that follow the last price: a buyer has paid the best ask, a seller has got the best
bid. Strategies that trade on trades can be tried on it; what they are filled is a guess. Without a
side, a trade above the last one is a buyer's, below it a seller's, else as the last one.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from common import log
from common.enums import Side
from common.errors import ConfigError
from common.fixed_point import INT64_MAX
from common.instruments import Instrument
from processes.venue.capture import CaptureMarket
from processes.venue.config import TicksConfig

BID, ASK = Side.BID.value, Side.ASK.value
COLUMNS = ("timestamp", "symbol", "price", "quantity")
_BUYERS, _SELLERS = ("buy", "b", "bid"), ("sell", "s", "ask", "a")
_UNITS_NS = ((10**11, 10**9), (10**14, 10**6), (10**17, 10**3))


class _Book:
    """The made book of one symbol, and the frames of what happens to it."""

    def __init__(self, instrument: Instrument, config: TicksConfig) -> None:
        self.instrument = instrument
        self.tick_steps = instrument.price_steps(instrument.facts.tick_size)
        self.level_steps = instrument.qty_steps(config.level_qty)
        self.depth_levels = config.depth_levels
        self.shown: dict[int, set[int]] = {BID: set(), ASK: set()}
        self.update_id = self.trade_count = 0
        self.last_steps = 0
        self.last_side = BID

    def trade(self, ts_ns: int, price: str, qty: str, side: int) -> list[bytes]:
        """Return the frames of one trade: trade, bookTicker, depth.

        Raises:
            ValueError: a number is off the grid, or 0.
        """
        steps, qty_steps = self.instrument.price_steps(price), self.instrument.qty_steps(qty)
        if steps == 0 or qty_steps == 0:
            raise ValueError(f"price is {price!r} and quantity {qty!r}, expected more than 0")
        if side == 0:
            side = self.last_side
            if steps != self.last_steps and self.last_steps:
                side = BID if steps > self.last_steps else ASK
        self.last_steps, self.last_side = steps, side
        self.trade_count += 1
        symbol, ts_ms = self.instrument.symbol, ts_ns // 1_000_000
        head = {"E": ts_ms, "T": ts_ms, "s": symbol}
        trade = head | {
            "e": "trade", "t": self.trade_count, "p": self.instrument.price_text(steps),
            "q": self.instrument.qty_text(qty_steps), "X": "MARKET", "m": side == ASK,
        }  # fmt: skip
        best_bid = steps if side == ASK else steps - self.tick_steps
        bids, asks = self._move(best_bid)
        self.update_id += 1
        depth = head | {
            "e": "depthUpdate", "U": self.update_id, "u": self.update_id,
            "pu": self.update_id - 1, "b": bids, "a": asks,
        }  # fmt: skip
        level = self.instrument.qty_text(self.level_steps)
        ticker = head | {
            "e": "bookTicker", "u": self.update_id, "B": level, "A": level,
            "b": self.instrument.price_text(best_bid),
            "a": self.instrument.price_text(best_bid + self.tick_steps),
        }  # fmt: skip
        names = (("trade", trade), ("bookTicker", ticker), ("depth@0ms", depth))
        return [
            msgspec.json.encode({"stream": f"{symbol.lower()}@{name}", "data": data})
            for name, data in names
            if name != "bookTicker" or best_bid > 0
        ]

    def _move(self, best_bid: int) -> tuple[list, list]:
        """Let the book follow; return the changes of its sides as wire levels."""
        changes = []
        for side, best in ((BID, best_bid), (ASK, best_bid + self.tick_steps)):
            wanted = {best - side * i * self.tick_steps for i in range(self.depth_levels)}
            wanted = {price for price in wanted if price > 0}
            before, self.shown[side] = self.shown[side], wanted
            gone, come = sorted(before - wanted), sorted(wanted - before)
            changes.append(self._wire(gone, 0) + self._wire(come, self.level_steps))
        return changes[0], changes[1]

    def _wire(self, prices: list[int], qty_steps: int) -> list[list[str]]:
        qty = self.instrument.qty_text(qty_steps)
        return [[self.instrument.price_text(price), qty] for price in prices]


class TickMarket(CaptureMarket):
    """The market of a tick file: a capture whose lines are made from its rows.

    Args:
        config: which file, how fast, and the made book.
        instruments: what is listed; rows of other symbols are passed over.
        accounts_max: as in RecordedMarket.

    Raises:
        ConfigError: the file cannot be read, has no row in order, or level_qty is off the grid.
    """

    expected = "timestamp,symbol,price,quantity[,side] of a listed symbol"

    def __init__(
        self, config: TicksConfig, instruments: list[Instrument], accounts_max: int
    ) -> None:
        try:
            self._made = {i.symbol: _Book(i, config) for i in instruments}
        except ValueError as error:
            raise ConfigError(f"venue.ticks.level_qty: {error}") from None
        self._ticks = config
        super().__init__(config, instruments[0].symbol, instruments, accounts_max)

    def open_lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield (time in ns, frame) of every row; a bad one is logged once, and counted."""
        path = Path(self._ticks.file)
        try:
            with path.open(encoding="utf-8", errors="replace") as file:
                for number, row in enumerate(file, 1):
                    fields = [field.strip() for field in row.split(",")]
                    if number == 1 and tuple(fields[:4]) == COLUMNS:
                        continue
                    yield from self._frames(path, number, fields)
        except OSError as error:
            raise ConfigError(f"{path}: {(error.strerror or str(error)).lower()}") from None

    def _frames(self, path: Path, number: int, fields: list[str]) -> Iterator[tuple[int, bytes]]:
        try:
            if not 4 <= len(fields) <= 5:
                raise ValueError(f"{len(fields)} columns, expected 4 or 5")
            book = self._made.get(fields[1])
            if book is None:
                return
            ts_ns = read_stamp(fields[0])
            side = read_side(fields[4] if len(fields) == 5 else "")
            frames = book.trade(ts_ns, fields[2], fields[3], side)
        except ValueError as error:
            self.lines_bad += 1
            if self.lines_bad == 1:
                log.event("tick_refused", file=path, line=number, error=error)
            return
        for frame in frames:
            yield ts_ns, frame

    def load_first_snapshot(self) -> None:
        """There is none: the book begins with the first row."""


def read_stamp(text: str) -> int:
    """Return nanoseconds since 1970. Raises ValueError."""
    whole, point, fraction = text.partition(".")
    ts_ns = -1
    if not whole.isdigit():
        try:
            ts_ns = int(np.datetime64(text.removesuffix("Z"), "ns").astype(np.int64))
        except ValueError:
            ts_ns = -1
    elif not point or fraction.isdigit():
        unit_ns = next((ns for end, ns in _UNITS_NS if int(whole) < end), 1)
        decimals = len(str(unit_ns)) - 1
        ts_ns = int(whole) * unit_ns + int("0" + fraction[:decimals].ljust(decimals, "0"))
    if not 0 <= ts_ns <= INT64_MAX:
        raise ValueError(f"timestamp is {text!r}, expected a number or ISO 8601")
    return ts_ns


def read_side(text: str) -> int:
    """Return the Side of the taker, 0 for none. Raises ValueError."""
    word = text.lower()
    if word in ("", "unknown"):
        return 0
    if word not in _BUYERS + _SELLERS:
        raise ValueError(f"side is {text!r}, expected buy or sell")
    return BID if word in _BUYERS else ASK

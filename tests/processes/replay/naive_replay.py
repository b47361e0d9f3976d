"""The slow obvious twin of `replay`: json, Decimal and dicts, one line at a time."""

import hashlib
import json
from dataclasses import dataclass
from decimal import Decimal

from tests.processes.book.naive_book import Diff, NaiveSync

MARKET_EVENTS = {"depthUpdate", "bookTicker", "aggTrade", "trade", "markPriceUpdate", "forceOrder"}
PARTIAL = ("@depth5", "@depth10", "@depth20", "@rpiDepth")


@dataclass
class Grid:
    """A symbol and how the venue writes its numbers."""

    symbol: str
    tick_size: str
    lot_size: str
    price_decimals: int
    qty_decimals: int

    def price_text(self, steps: int) -> str:
        return f"{Decimal(steps) * self.price_step:.{self.price_decimals}f}"

    def qty_text(self, steps: int) -> str:
        return f"{Decimal(steps) * self.qty_step:.{self.qty_decimals}f}"

    @property
    def price_step(self) -> Decimal:
        return Decimal(1).scaleb(-len(self.tick_size.rstrip("0").partition(".")[2]))

    @property
    def qty_step(self) -> Decimal:
        return Decimal(1).scaleb(-len(self.lot_size.rstrip("0").partition(".")[2]))

    def levels(self, texts: list) -> list[tuple[int, int]]:
        return [
            (int(Decimal(price) / self.price_step), int(Decimal(qty) / self.qty_step))
            for price, qty in texts
        ]


class NaiveReplay:
    """Reads lines, keeps a NaiveSync, writes what replay writes."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.sync = NaiveSync()
        self.market_events = 0
        self.decode_errors = 0

    def read(self, line: str, is_malformed: bool) -> None:
        if not line.strip():
            return
        if is_malformed:
            self.decode_errors += 1
            return
        content = json.loads(line.split(None, 1)[1])
        if not isinstance(content, dict):
            return
        if "lastUpdateId" in content:
            self.sync.on_snapshot(
                content["lastUpdateId"],
                self.grid.levels(content["bids"]),
                self.grid.levels(content["asks"]),
            )
            return
        stream, event = content.get("stream", ""), content.get("data", content)
        if not isinstance(event, dict) or event.get("e") not in MARKET_EVENTS:
            return
        symbol = event["o"]["s"] if event["e"] == "forceOrder" else event["s"]
        if symbol != self.grid.symbol or event.get("X", "MARKET") != "MARKET":
            return
        if any(part in stream for part in PARTIAL):
            return
        self.market_events += 1
        if event["e"] == "depthUpdate":
            self.sync.on_diff(
                Diff(
                    event["U"], event["u"], event["pu"],
                    self.grid.levels(event["b"]), self.grid.levels(event["a"]),
                )
            )  # fmt: skip

    def bbo_text(self) -> str:
        lines = ["u,bid,bid_qty,ask,ask_qty\n"]
        for update_id, *touch in self.sync.rows:
            texts = [self.level_text(level) if level else "," for level in touch]
            lines.append(f"{update_id},{','.join(texts)}\n")
        return "".join(lines)

    def level_text(self, level: tuple[int, int]) -> str:
        return f"{self.grid.price_text(level[0])},{self.grid.qty_text(level[1])}"

    def book_text(self) -> str:
        if not self.sync.is_valid:
            return ""
        return "".join(
            f"{letter},{self.level_text(level)}\n"
            for letter, side in (("b", 0), ("a", 1))
            for level in self.sync.book.side(side)
        )

    def summary(self) -> dict:
        return {
            "depth_events": self.sync.depth_events,
            "applied": len(self.sync.rows),
            "dropped_stale": self.sync.dropped_stale,
            "gaps": self.sync.gaps,
            "book_valid": self.sync.is_valid,
            "bbo_rows": len(self.sync.rows),
            "book_sha256": hashlib.sha256(self.book_text().encode()).hexdigest(),
            "decode_errors": self.decode_errors,
            "market_events": self.market_events,
        }

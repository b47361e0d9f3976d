"""What `tickring replay` is asked to do."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class ReplayOptions:
    """Options of a replay.

    Attributes:
        capture: raw session, plain or gzip.
        venue, symbol: whose book is wanted.
        bbo, book, summary: files to write, None: not wanted.
        instruments: instruments file, None: configs/instruments.toml.
        tick_size, lot_size: decimal text, "": from the file.
        price_decimals, qty_decimals: of the text output, None: from the file, or as many as the
            given size is written with.
        strategy: a set-up's file: its strategy and risk limits are replayed too; None: the book.
    """

    capture: Path
    venue: str
    symbol: str
    bbo: Path | None = None
    book: Path | None = None
    summary: Path | None = None
    instruments: Path | None = None
    tick_size: str = ""
    lot_size: str = ""
    price_decimals: int | None = None
    qty_decimals: int | None = None
    strategy: Path | None = None

"""What a replay writes: best bids and asks as CSV, the final book as text, and the summary."""

import hashlib
from pathlib import Path
from typing import TextIO

import numpy as np

from common.enums import MarketKind
from common.errors import UsageError
from common.instruments import Instrument
from common.records import BOOK, FLAG_INVALID, LEVEL_WORD, LEVELS_PER_SLOT, SLOT_WORDS
from processes.book.book import ASK, BID, all_levels

BBO_HEADER = "u,bid,bid_qty,ask,ask_qty\n"


class BboWriter:
    """Counts, and writes if wanted, the touch of every valid BOOK message.

    Attributes:
        rows: how many there were.
    """

    def __init__(self, instrument: Instrument, path: Path | None) -> None:
        self.instrument = instrument
        self.rows = 0
        self._file: TextIO | None = None
        if path is not None:
            self._file = open_text(path)
            self._file.write(BBO_HEADER)

    def take(self, words: np.ndarray) -> None:
        """Read whole messages of a book ring, int64[n, 8]."""
        headers = np.ascontiguousarray(words).reshape(-1).view(BOOK)
        at = np.flatnonzero(
            (headers["kind"] == MarketKind.BOOK) & (headers["flags"] & FLAG_INVALID == 0)
        )
        self.rows += len(at)
        if self._file is None or not len(at):
            return
        numbers = words.reshape(-1)
        bid_count, ask_count = headers["bid_count"][at], headers["ask_count"][at]
        bids = _levels(numbers, at, bid_count > 0, np.zeros(len(at), np.int64))
        asks = _levels(numbers, at, ask_count > 0, bid_count.astype(np.int64))
        text = self.instrument
        for update_id, bid, ask in zip(
            headers["last_update_id"][at].tolist(), bids, asks, strict=True
        ):
            touch = [
                f"{text.price_text(level[0])},{text.qty_text(level[1])}" if level else ","
                for level in (bid, ask)
            ]
            self._file.write(f"{update_id},{touch[0]},{touch[1]}\n")

    def close(self) -> None:
        """Finish the file."""
        if self._file is not None:
            self._file.close()


def _levels(
    numbers: np.ndarray, at: np.ndarray, has_level: np.ndarray, level: np.ndarray
) -> list[tuple[int, int] | None]:
    """Return level number `level` of the messages at slots `at`, None where there is none."""
    slot = at + 1 + level // LEVELS_PER_SLOT
    word = np.where(has_level, slot * SLOT_WORDS + LEVEL_WORD + 2 * (level % LEVELS_PER_SLOT), 0)
    pairs = zip(numbers[word].tolist(), numbers[word + 1].tolist(), strict=True)
    return [pair if held else None for pair, held in zip(pairs, has_level.tolist(), strict=True)]


def book_text(books: np.ndarray, instrument: Instrument) -> str:
    """Return all levels of one book as lines `b,<price>,<qty>` and `a,...`, best first."""
    lines = []
    for letter, side in (("b", BID), ("a", ASK)):
        prices, quantities = all_levels(books, instrument.instrument_id, side)
        for price, qty in zip(prices.tolist(), quantities.tolist(), strict=True):
            lines.append(f"{letter},{instrument.price_text(price)},{instrument.qty_text(qty)}\n")
    return "".join(lines)


def sha256_of(text: str) -> str:
    """Return the SHA-256 of ASCII text as hex digits."""
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def open_text(path: Path) -> TextIO:
    """Open a file for writing, LF line ends.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        return path.open("w", encoding="ascii", newline="\n")
    except OSError as error:
        raise UsageError(f"{path}: {(error.strerror or str(error)).lower()}") from None


def write_text(path: Path, text: str) -> None:
    """Write a whole file; Raises as `open_text`."""
    with open_text(path) as file:
        file.write(text)

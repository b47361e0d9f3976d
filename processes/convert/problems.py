"""What was wrong with the input: the first few are told, all are counted."""

import sys
from pathlib import Path

from common.errors import DataError

SHOWN_MAX = 10
FOUND_MAX = 80


class Problems:
    """Bad rows of an import.

    Args:
        is_strict: the first one ends it.

    Attributes:
        count: how many there were.
        shown: the first SHOWN_MAX, as lines.
    """

    def __init__(self, is_strict: bool) -> None:
        self.is_strict = is_strict
        self.count = 0
        self.shown: list[str] = []

    def tell(self, path: Path, line: int, found: str, expected: str) -> None:
        """Count a bad row, and show it if it is one of the first.

        Raises:
            DataError: the import is strict.
        """
        self.add(f"{path}:{line}: {found}, expected {expected}")

    def add(self, text: str) -> None:
        """As `tell`, worded by the caller."""
        if self.is_strict:
            raise DataError(f"{text}; nothing behind it was read (--strict)")
        self.count += 1
        if len(self.shown) < SHOWN_MAX:
            self.shown.append(text)
            sys.stderr.write(f"{text}\n")

    def add_untold(self, count: int) -> None:
        """Count bad rows that are not described any more."""
        self.count += count

    def close(self) -> None:
        """Say how many were not shown."""
        rest = self.count - len(self.shown)
        if rest:
            sys.stderr.write(f"and {rest} more bad rows\n")


def clip(text: str) -> str:
    """Return a text short enough for a message, quoted."""
    return repr(text if len(text) <= FOUND_MAX else f"{text[:FOUND_MAX]}...")

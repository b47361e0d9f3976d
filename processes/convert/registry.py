"""Which instruments an import knows: registered as they turn up, from the file or from options."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.errors import UsageError
from common.instruments import (
    INSTRUMENTS_MAX,
    Instrument,
    InstrumentFacts,
    check_symbol,
    load_facts,
)
from processes.feed.symbols import symbol_table
from processes.replay.facts import default_file, facts_of

_SYMBOL_OF_NAME = re.compile(
    r"([A-Z0-9_]+?)(?:-(?:aggTrades|trades|bookTicker|bookDepth)-|_\d{4}-\d{2})"
)


@dataclass(frozen=True, kw_only=True)
class FactOptions:
    """Where the facts of instruments come from; an option wins over the file.

    Attributes:
        venue: section of the instruments file, "": the one of the data's kind.
        symbol: the only one wanted, "": all that turn up.
        instruments: instruments file, None: configs/instruments.toml.
        tick_size, lot_size: decimal text, "": from the file.
        price_decimals, qty_decimals: when written as text, None: from the file, or as many as the
            given size is written with.
    """

    venue: str = ""
    symbol: str = ""
    instruments: Path | None = None
    tick_size: str = ""
    lot_size: str = ""
    price_decimals: int | None = None
    qty_decimals: int | None = None


class Registry:
    """The instruments of one import; all are of one venue.

    Args:
        options: where their facts come from.

    Attributes:
        venue: section of the instruments file, "" until the first file has told it.
        instruments: those registered, in order of their ids.
        table: int64[n, 8], the symbols for the kernels.

    Raises:
        ConfigError: the instruments file is wrong.
    """

    def __init__(self, options: FactOptions) -> None:
        self.options = options
        self.venue = options.venue
        self.instruments: list[Instrument] = []
        self.path = options.instruments or default_file()
        self._facts: dict[str, dict[str, InstrumentFacts]] = {}
        if options.instruments or self.path.exists():
            self._facts = load_facts(self.path)
        self.table = np.zeros((2, 8), np.int64)  # finds nothing

    def enter(self, path: Path, venue: str) -> None:
        """Take a file whose symbols are of a venue, unless another was asked for.

        Raises:
            UsageError: an earlier file was of another one, or the wanted symbol is not known.
        """
        if not self.options.venue:
            if self.venue not in ("", venue):
                raise UsageError(f"{path}: of {venue}, expected {self.venue} as the files before")
            self.venue = venue
        if self.options.symbol:
            self.register(self.options.symbol)

    def register(self, symbol: str) -> Instrument:
        """Return the instrument of a symbol; it gets the next id if it is new.

        Raises:
            UsageError: no symbol, in neither the file nor the options, or options out of range.
        """
        for instrument in self.instruments:
            if instrument.symbol == symbol:
                return instrument
        if len(self.instruments) == INSTRUMENTS_MAX:
            raise UsageError(f"{symbol}: symbol number {INSTRUMENTS_MAX + 1}, expected at most"
                             f" {INSTRUMENTS_MAX}; give --symbol")  # fmt: skip
        instrument = Instrument(
            instrument_id=len(self.instruments),
            venue=self.venue,
            symbol=symbol,
            facts=self._find_facts(symbol),
        )
        self.instruments.append(instrument)
        self.table = symbol_table(self.instruments)
        return instrument

    def place_of(self, symbol: str) -> int:
        """Return the row of a registered symbol in the table."""
        key = np.frombuffer(symbol.encode("ascii").ljust(24, b"\0"), "<i8")
        return 1 + int(np.flatnonzero((self.table[1:, :3] == key).all(axis=1))[0])

    def symbol_of_file(self, path: Path, name: str) -> str:
        """Return the symbol of a file that has no symbol column.

        Raises:
            UsageError: neither --symbol nor the name tells it, or they contradict each other.
        """
        told, wanted = symbol_of_name(name), self.options.symbol
        if not (told or wanted):
            raise UsageError(
                f"{path}: no symbol in the file, nor in its name, expected one; give --symbol"
            )
        if told and wanted and told != wanted:
            raise UsageError(f"{path}: of {told} by its name, expected {wanted} (--symbol)")
        return told or wanted

    def _find_facts(self, symbol: str) -> InstrumentFacts:
        try:
            check_symbol(symbol)
        except ValueError as error:
            raise UsageError(str(error)) from None
        known = self._facts.get(self.venue, {}).get(symbol)
        options = self.options
        if known is None and not (options.tick_size and options.lot_size):
            raise UsageError(
                f"{symbol} of {self.venue} is not in {self.path}, expected"
                f" [{self.venue}.{symbol}] there; or give --tick-size and --lot-size"
            )
        sizes = options.tick_size, options.lot_size
        try:
            return facts_of(known, sizes, (options.price_decimals, options.qty_decimals))
        except ValueError as error:
            raise UsageError(f"{symbol}: {error}") from None


def symbol_of_name(name: str) -> str:
    """Return the symbol that a vendor's file name begins with, "" if it is no such name."""
    found = _SYMBOL_OF_NAME.match(name)
    return found[1] if found else ""

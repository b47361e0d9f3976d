"""Tradable things: symbol <-> instrument_id, the grid, and the venue's filters in grid steps."""

import re
from pathlib import Path

import msgspec
import numpy as np

from common import fixed_point
from common.config import Base, load
from common.errors import ConfigError
from common.records import INSTRUMENT

SYMBOL_LENGTH_MAX = 24
INSTRUMENTS_MAX = 256
_SYMBOL = re.compile(r"[A-Z0-9_]{1,24}")
_UNLIMITED = 10**15


class InstrumentFacts(Base):
    """What the venue publishes about one symbol, as decimal text.

    Attributes:
        tick_size, lot_size: price and quantity increment; their decimals make the grid.
        price_decimals, qty_decimals: decimals when written as text for people and files.
        min_notional, max_qty: order filters in quote and base units; "0" means none.
    """

    tick_size: str
    lot_size: str
    price_decimals: int
    qty_decimals: int
    min_notional: str = "0"
    max_qty: str = "0"

    def __post_init__(self) -> None:
        for name in ("tick_size", "lot_size"):
            text = getattr(self, name)
            if fixed_point.decimals_of(text) > fixed_point.DECIMALS_MAX:
                raise ValueError(f"{name} is {text!r}, expected at most 12 decimals")
            if fixed_point.steps_from_text(text, fixed_point.decimals_of(text)) == 0:
                raise ValueError(f"{name} is {text!r}, expected more than 0")
        for name, size in (("price_decimals", self.tick_size), ("qty_decimals", self.lot_size)):
            if not fixed_point.decimals_of(size) <= getattr(self, name) <= 12:
                raise ValueError(
                    f"{name} is {getattr(self, name)}, expected {fixed_point.decimals_of(size)}"
                    f" to 12 to write multiples of {size}"
                )
        for text in (self.max_qty, self.min_notional):
            fixed_point.steps_from_text(text, fixed_point.decimals_of(text))


class Instrument(msgspec.Struct, frozen=True, kw_only=True):
    """One registered instrument; its id is its index in the run's instrument list."""

    instrument_id: int
    venue: str
    symbol: str
    facts: InstrumentFacts

    @property
    def price_grid_decimals(self) -> int:
        """Decimals of one price step."""
        return fixed_point.decimals_of(self.facts.tick_size)

    @property
    def qty_grid_decimals(self) -> int:
        """Decimals of one quantity step."""
        return fixed_point.decimals_of(self.facts.lot_size)

    def price_text(self, price_steps: int) -> str:
        """Write a price the way the venue does."""
        return fixed_point.text_from_steps(
            price_steps, self.price_grid_decimals, self.facts.price_decimals
        )

    def qty_text(self, qty_steps: int) -> str:
        """Write a quantity or a signed position the way the venue does."""
        return fixed_point.text_from_steps(
            qty_steps, self.qty_grid_decimals, self.facts.qty_decimals
        )

    def price_steps(self, text: str) -> int:
        """Read a price. Raises ValueError off the grid."""
        return fixed_point.steps_from_text(text, self.price_grid_decimals)

    def qty_steps(self, text: str) -> int:
        """Read an unsigned quantity. Raises ValueError off the grid."""
        return fixed_point.steps_from_text(text, self.qty_grid_decimals)

    def e8_from_steps2(self, steps2: int) -> int:
        """Convert price steps x quantity steps to 1e-8 quote units, towards zero."""
        exponent = 8 - self.price_grid_decimals - self.qty_grid_decimals
        if exponent >= 0:
            return steps2 * 10**exponent
        magnitude = abs(steps2) // 10**-exponent
        return magnitude if steps2 >= 0 else -magnitude


def check_symbol(symbol: str) -> None:
    """Raise ValueError unless `symbol` is venue text of at most 24 capitals, digits and _."""
    if not _SYMBOL.fullmatch(symbol):
        raise ValueError(f"symbol is {symbol!r}, expected 1 to 24 of A-Z, 0-9 and _")


def load_facts(path: Path) -> dict[str, dict[str, InstrumentFacts]]:
    """Read an instruments file: {venue: {symbol: facts}}.

    Raises:
        ConfigError: missing, not TOML, or not of that shape.
    """
    return load(path, dict[str, dict[str, InstrumentFacts]])


def register(
    venue: str, symbols: list[str], facts: dict[str, dict[str, InstrumentFacts]], path: Path
) -> list[Instrument]:
    """Give each symbol its instrument_id, in order.

    Args:
        facts: what `load_facts` read from `path`.

    Raises:
        ConfigError: a symbol that the file does not have, or a symbol named twice.
    """
    known = facts.get(venue, {})
    for symbol in symbols:
        if symbol not in known:
            raise ConfigError(
                f"{path}: [{venue}.{symbol}] is missing, expected tick_size, lot_size,"
                f" price_decimals and qty_decimals of {symbol}"
            )
    if len(set(symbols)) != len(symbols):
        raise ConfigError(f"{path}: a symbol of {symbols} is named twice, expected each once")
    return [
        Instrument(instrument_id=i, venue=venue, symbol=symbol, facts=known[symbol])
        for i, symbol in enumerate(symbols)
    ]


def instrument_table(instruments: list[Instrument]) -> np.ndarray:
    """Return INSTRUMENT[n] for the kernels; row i is instrument_id i."""
    table = np.zeros(len(instruments), INSTRUMENT)
    for row, instrument in zip(table, instruments, strict=True):
        price_decimals = instrument.price_grid_decimals
        qty_decimals = instrument.qty_grid_decimals
        row["instrument_id"] = instrument.instrument_id
        row["price_grid_decimals"] = price_decimals
        row["qty_grid_decimals"] = qty_decimals
        row["tick_size_steps"] = instrument.price_steps(instrument.facts.tick_size)
        row["lot_size_steps"] = instrument.qty_steps(instrument.facts.lot_size)
        notional = instrument.facts.min_notional
        notional_decimals = fixed_point.decimals_of(notional)
        unscaled = fixed_point.steps_from_text(notional, notional_decimals)
        shift = price_decimals + qty_decimals - notional_decimals
        row["min_notional_steps2"] = (
            unscaled * 10**shift if shift > 0 else -(-unscaled // 10**-shift)
        )
        row["max_qty_steps"] = instrument.qty_steps(instrument.facts.max_qty) or _UNLIMITED
        symbol = instrument.symbol.encode("ascii")
        row["symbol"][: len(symbol)] = np.frombuffer(symbol, np.uint8)
    return table

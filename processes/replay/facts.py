"""What a replay or an import knows of an instrument: from the file, from options, or from both."""

from pathlib import Path

from common.errors import UsageError
from common.fixed_point import decimals_of
from common.instruments import Instrument, InstrumentFacts, check_symbol, load_facts
from processes.replay.options import ReplayOptions

VENUES = ("binance-usdm",)
DEFAULT_FILE = Path("configs", "instruments.toml")
_ROOT = Path(__file__).resolve().parent.parent.parent


def find_instrument(options: ReplayOptions) -> Instrument:
    """Return the instrument to replay; an option wins over the file.

    Raises:
        UsageError: unknown venue, a symbol in neither, or an option out of range.
        ConfigError: the file is missing or wrong.
    """
    if options.venue not in VENUES:
        raise UsageError(f"--venue: {options.venue!r}, expected one of {', '.join(VENUES)}")
    try:
        check_symbol(options.symbol)
    except ValueError as error:
        raise UsageError(f"--symbol: {error}") from None
    path = options.instruments or default_file()
    known = None
    if not _is_complete(options) and (options.instruments or path.exists()):
        known = load_facts(path).get(options.venue, {}).get(options.symbol)
    if known is None and not (options.tick_size and options.lot_size):
        raise UsageError(
            f"--symbol: {options.symbol} of {options.venue} is not in {path}, expected"
            f" [{options.venue}.{options.symbol}] there; or give --tick-size, --lot-size,"
            " --price-decimals and --qty-decimals"
        )
    sizes = options.tick_size, options.lot_size
    try:
        facts = facts_of(known, sizes, (options.price_decimals, options.qty_decimals))
    except ValueError as error:
        raise UsageError(f"--symbol: {options.symbol}: {error}") from None
    return Instrument(instrument_id=0, venue=options.venue, symbol=options.symbol, facts=facts)


def facts_of(
    known: InstrumentFacts | None,
    sizes: tuple[str, str],
    decimals: tuple[int | None, int | None],
) -> InstrumentFacts:
    """Return the facts that were asked for, and what was not asked for as it is known.

    Args:
        known: from the file; None: all sizes were asked for.
        sizes: tick and lot, "": not asked for.
        decimals: of price and quantity as text, None: not asked for.

    Raises:
        ValueError: one is out of range.
    """
    tick_size = sizes[0] or (known.tick_size if known else "")
    lot_size = sizes[1] or (known.lot_size if known else "")
    return InstrumentFacts(
        tick_size=tick_size,
        lot_size=lot_size,
        price_decimals=_decimals(decimals[0], known.price_decimals if known else None, tick_size),
        qty_decimals=_decimals(decimals[1], known.qty_decimals if known else None, lot_size),
        min_notional=known.min_notional if known else "0",
        max_qty=known.max_qty if known else "0",
    )


def _is_complete(options: ReplayOptions) -> bool:
    """Return True if the options say all that a file would."""
    has_decimals = options.price_decimals is not None and options.qty_decimals is not None
    return bool(options.tick_size and options.lot_size) and has_decimals


def _decimals(asked: int | None, known: int | None, size: str) -> int:
    """Return the decimals of text: asked, known, or those of the size as it is written."""
    if asked is not None:
        return asked
    return len(size.partition(".")[2]) if known is None else max(known, decimals_of(size))


def default_file() -> Path:
    """Return configs/instruments.toml of the working directory, else of the source tree."""
    return DEFAULT_FILE if DEFAULT_FILE.exists() else _ROOT / DEFAULT_FILE

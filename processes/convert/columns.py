"""The CSV files that are known, as tables: which column is what, and what a row of it becomes.

Sources of the layouts, read in November 2026:
    binance: README of github.com/binance/binance-public-data (columns of trades and aggTrades, spot
        and futures), its issues 386 and 387 (spot is in microseconds from 2025-01-01 on, futures
        in milliseconds), 381, 437 and 447 (bookDepth: seconds, every 30 s, cumulative up to each
        percentage from the mid), 334, 372 and 380 (bookTicker, up to 2024). Old files have no
        header line.
    bybit: public.bybit.com/trading and /spot, not described by the venue: headers as several
        independent public loaders read them; perpetuals in seconds with decimals, spot in
        milliseconds.
    tardis: docs.tardis.dev/downloadable-csv-files/data-types: microseconds, a header always.
    ticks: ours: timestamp,symbol,price,quantity[,side].

Rules:
    The unit of a stamp is told by its magnitude, in each row: below 10^11 seconds, 10^14
    milliseconds, 10^17 microseconds, above nanoseconds: all agree from 1974 to 2262.
    With a header line the columns are found by name, in any order; others are passed over.
"""

from enum import IntEnum
from typing import NamedTuple

from common.enums import MarketKind


class Type(IntEnum):
    """What the text of a column is."""

    SKIP = 0
    SYMBOL = 1
    TIME = 2
    PRICE = 3
    QTY = 4
    LEVEL_QTY = 5
    PRICE_OR_NONE = 6
    QTY_OR_NONE = 7
    NUMBER = 8
    ID = 9
    SIDE = 10
    BUYER_IS_MAKER = 11
    TRUTH = 12
    PERCENT = 13
    NOTIONAL = 14
    BOOK_SIDE = 15


class Shape(IntEnum):
    """What the rows of a file become."""

    TRADES = 1
    BBOS = 2
    LEVELS = 3
    TOPS = 4
    BANDS = 5


# Words of a row, the same in every shape; LINE is its line in the file.
INSTRUMENT, TS_EXCH, TS_RECV, LINE = 0, 1, 2, 3
# TRADES
PRICE, QTY, ID, SIDE, ID_FIRST, ID_LAST = 4, 5, 6, 7, 8, 9
# BBOS
UPDATE_ID, BID_PRICE, BID_QTY, ASK_PRICE, ASK_QTY = 4, 5, 6, 7, 8
# LEVELS; the first four words of a trade are at the same places
IS_SNAPSHOT = 8
# TOPS: per level ask price, ask quantity, bid price, bid quantity from here on
TOP_FIRST = 4
# BANDS
PERCENT, DEPTH, NOTIONAL = 4, 5, 6
ROW_WORDS = {Shape.TRADES: 10, Shape.BBOS: 9, Shape.LEVELS: 9, Shape.BANDS: 7}


class Column(NamedTuple):
    """One column that is read.

    Attributes:
        word: of the row that it goes to.
        type: what it is.
        names: how header lines call it.
        is_needed: a file without it is refused.
    """

    word: int
    type: Type
    names: tuple[str, ...]
    is_needed: bool = True


class Dataset(NamedTuple):
    """One kind of file.

    Attributes:
        name: as it is asked for: family, "-", what the vendor calls it.
        word: that is in the vendor's file names.
        shape: what its rows become.
        columns: those that are read.
        headerless: for files without a header line, the columns by their number; () if there
            are no such files.
        kind: MarketKind of trades.
        venue: section of the instruments file, unless another is asked for.
    """

    name: str
    word: str
    shape: Shape
    columns: tuple[Column, ...]
    headerless: tuple[tuple[str, ...], ...]
    kind: MarketKind
    venue: str


_TIME_NAMES = ("time", "timestamp", "transact_time")
_MAKER = ("is_buyer_maker", "isBuyerMaker")
_PRICE = Column(PRICE, Type.PRICE, ("price",))
_SYMBOL = Column(INSTRUMENT, Type.SYMBOL, ("symbol",))
_TARDIS = (
    _SYMBOL,
    Column(TS_EXCH, Type.TIME, ("timestamp",)),
    Column(TS_RECV, Type.TIME, ("local_timestamp",)),
)


def _tops(levels: int) -> tuple[Column, ...]:
    columns = list(_TARDIS)
    for level in range(levels):
        word = TOP_FIRST + 4 * level
        for offset, side in ((0, "asks"), (2, "bids")):
            price, amount = f"{side}[{level}].price", f"{side}[{level}].amount"
            columns.append(Column(word + offset, Type.PRICE_OR_NONE, (price,)))
            columns.append(Column(word + offset + 1, Type.QTY_OR_NONE, (amount,)))
    return tuple(columns)


DATASETS = (
    Dataset(
        "binance-aggTrades", "aggtrades", Shape.TRADES,
        (
            Column(ID, Type.ID, ("agg_trade_id", "aggId")),
            _PRICE,
            Column(QTY, Type.QTY, ("quantity", "qty")),
            Column(ID_FIRST, Type.NUMBER, ("first_trade_id", "firstId")),
            Column(ID_LAST, Type.NUMBER, ("last_trade_id", "lastId")),
            Column(TS_EXCH, Type.TIME, _TIME_NAMES),
            Column(SIDE, Type.BUYER_IS_MAKER, _MAKER),
        ),
        (
            ("agg_trade_id", "price", "quantity", "first_trade_id", "last_trade_id",
             "transact_time", "is_buyer_maker"),
            ("agg_trade_id", "price", "quantity", "first_trade_id", "last_trade_id",
             "transact_time", "is_buyer_maker", "is_best_match"),
        ),
        MarketKind.AGG_TRADE, "binance-usdm",
    ),
    Dataset(
        "binance-trades", "trades", Shape.TRADES,
        (
            Column(ID, Type.ID, ("id", "trade_id")),
            _PRICE,
            Column(QTY, Type.QTY, ("qty", "quantity")),
            Column(TS_EXCH, Type.TIME, _TIME_NAMES),
            Column(SIDE, Type.BUYER_IS_MAKER, _MAKER),
        ),
        (
            ("id", "price", "qty", "quote_qty", "time", "is_buyer_maker"),
            ("id", "price", "qty", "quote_qty", "time", "is_buyer_maker", "is_best_match"),
        ),
        MarketKind.TRADE, "binance-usdm",
    ),
    Dataset(
        "binance-bookTicker", "bookticker", Shape.BBOS,
        (
            Column(UPDATE_ID, Type.NUMBER, ("update_id",)),
            Column(BID_PRICE, Type.PRICE_OR_NONE, ("best_bid_price",)),
            Column(BID_QTY, Type.QTY_OR_NONE, ("best_bid_qty",)),
            Column(ASK_PRICE, Type.PRICE_OR_NONE, ("best_ask_price",)),
            Column(ASK_QTY, Type.QTY_OR_NONE, ("best_ask_qty",)),
            Column(TS_EXCH, Type.TIME, ("transaction_time",)),
        ),
        (
            ("update_id", "best_bid_price", "best_bid_qty", "best_ask_price", "best_ask_qty",
             "transaction_time", "event_time"),
        ),
        MarketKind.BBO, "binance-usdm",
    ),
    Dataset(
        "binance-bookDepth", "bookdepth", Shape.BANDS,
        (
            Column(TS_EXCH, Type.TIME, ("timestamp",)),
            Column(PERCENT, Type.PERCENT, ("percentage",)),
            Column(DEPTH, Type.LEVEL_QTY, ("depth",)),
            Column(NOTIONAL, Type.NOTIONAL, ("notional",)),
        ),
        (("timestamp", "percentage", "depth", "notional"),),
        MarketKind.DIFF_BEGIN, "binance-usdm",
    ),
    Dataset(
        "bybit-trades", "", Shape.TRADES,
        (
            _SYMBOL,
            Column(TS_EXCH, Type.TIME, ("timestamp",)),
            Column(SIDE, Type.SIDE, ("side",)),
            Column(QTY, Type.QTY, ("size",)),
            _PRICE,
            Column(ID, Type.ID, ("trdMatchID",), is_needed=False),
        ),
        (), MarketKind.TRADE, "bybit-linear",
    ),
    Dataset(
        "bybit-spot", "", Shape.TRADES,
        (
            Column(ID, Type.ID, ("id",)),
            Column(TS_EXCH, Type.TIME, ("timestamp",)),
            _PRICE,
            Column(QTY, Type.QTY, ("volume",)),
            Column(SIDE, Type.SIDE, ("side",)),
        ),
        (), MarketKind.TRADE, "bybit-spot",
    ),
    Dataset(
        "tardis-incremental_book_L2", "incremental_book_l2", Shape.LEVELS,
        (
            *_TARDIS,
            Column(IS_SNAPSHOT, Type.TRUTH, ("is_snapshot",)),
            Column(SIDE, Type.BOOK_SIDE, ("side",)),
            _PRICE,
            Column(QTY, Type.LEVEL_QTY, ("amount",)),
        ),
        (), MarketKind.DIFF_BEGIN, "binance-usdm",
    ),
    Dataset(
        "tardis-trades", "trades", Shape.TRADES,
        (
            *_TARDIS,
            Column(ID, Type.ID, ("id",)),
            Column(SIDE, Type.SIDE, ("side",)),
            _PRICE,
            Column(QTY, Type.QTY, ("amount",)),
        ),
        (), MarketKind.TRADE, "binance-usdm",
    ),
    Dataset(
        "tardis-quotes", "quotes", Shape.BBOS,
        (
            *_TARDIS,
            Column(ASK_QTY, Type.QTY_OR_NONE, ("ask_amount",)),
            Column(ASK_PRICE, Type.PRICE_OR_NONE, ("ask_price",)),
            Column(BID_PRICE, Type.PRICE_OR_NONE, ("bid_price",)),
            Column(BID_QTY, Type.QTY_OR_NONE, ("bid_amount",)),
        ),
        (), MarketKind.BBO, "binance-usdm",
    ),
    Dataset(
        "tardis-book_snapshot_25", "book_snapshot_25", Shape.TOPS, _tops(25),
        (), MarketKind.DIFF_BEGIN, "binance-usdm",
    ),
    Dataset(
        "tardis-book_snapshot_5", "book_snapshot_5", Shape.TOPS, _tops(5),
        (), MarketKind.DIFF_BEGIN, "binance-usdm",
    ),
    Dataset(
        "ticks", "", Shape.TRADES,
        (
            Column(TS_EXCH, Type.TIME, ("timestamp",)),
            _SYMBOL,
            _PRICE,
            Column(QTY, Type.QTY, ("quantity",)),
            Column(SIDE, Type.SIDE, ("side",), is_needed=False),
        ),
        (
            ("timestamp", "symbol", "price", "quantity"),
            ("timestamp", "symbol", "price", "quantity", "side"),
        ),
        MarketKind.TRADE, "binance-usdm",
    ),
)  # fmt: skip
FAMILIES = ("binance", "bybit", "tardis", "ticks")


def row_words(dataset: Dataset) -> int:
    """Return how many words a row of the dataset has."""
    return ROW_WORDS.get(dataset.shape) or 1 + max(column.word for column in dataset.columns)


def datasets_of(kind: str) -> list[Dataset]:
    """Return the datasets that a KIND means: one, all depths of one, or a family; [] if none."""
    wanted = kind.lower()
    return [
        dataset
        for dataset in DATASETS
        if wanted in (dataset.name.lower(), dataset.name.partition("-")[0])
        or dataset.name.lower().startswith(f"{wanted}_")
    ]


def has_header(fields: list[str], datasets: list[Dataset]) -> bool:
    """Return True if a first line holds the name of a column."""
    known = {name for d in datasets for c in d.columns for name in c.names}
    return any(field in known for field in fields)


def find_dataset(
    kind: str, file_name: str, first_line: str
) -> tuple[Dataset, tuple[str, ...], bool]:
    """Tell what a file is.

    Args:
        kind: as asked for: a family or one dataset.
        file_name: decides between datasets whose files have no header.
        first_line: of the file.

    Returns:
        (dataset, names of the file's columns, whether the first line is a header).

    Raises:
        ValueError: it is none of them; says what was expected.
    """
    candidates = datasets_of(kind)
    fields = [field.strip() for field in first_line.split(",")]
    if has_header(fields, candidates):
        fitting = [d for d in candidates if not _missing(d, fields)]
        if fitting:
            return max(fitting, key=lambda d: len(d.columns)), tuple(fields), True
        nearest = min(candidates, key=lambda d: len(_missing(d, fields)))
        raise ValueError(
            f"header is {first_line[:200]!r}, expected {', '.join(_missing(nearest, fields))} in it"
            f" too ({nearest.name})"
        )
    fitting = [d for d in candidates if any(len(n) == len(fields) for n in d.headerless)]
    if len(fitting) > 1:
        fitting = [d for d in fitting if f"-{d.word}-" in file_name.lower()]
    if len(fitting) == 1:
        names = next(n for n in fitting[0].headerless if len(n) == len(fields))
        return fitting[0], names, False
    names_wanted = " or ".join(sorted({",".join(n) for d in candidates for n in d.headerless}))
    raise ValueError(
        f"first line is {first_line[:200]!r}, expected a header line"
        + (f" or the columns {names_wanted}" if names_wanted else "")
        + ("; or name the kind, as binance-trades" if kind.lower() == "binance" else "")
    )


def _missing(dataset: Dataset, fields: list[str]) -> list[str]:
    """Return the needed columns that a header does not have."""
    return [
        column.names[0]
        for column in dataset.columns
        if column.is_needed and not any(name in fields for name in column.names)
    ]

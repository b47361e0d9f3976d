"""One account's order as the venue remembers it, and its JSON forms on REST and streams."""

from common.enums import Side
from common.fixed_point import text_from_steps
from common.instruments import Instrument
from processes.venue.streams import Texts

SIDE_TEXT = {int(Side.BID): "BUY", int(Side.ASK): "SELL"}
AVERAGE_DECIMALS = 5
OPEN = ("NEW", "PARTIALLY_FILLED")


class Order:
    """An order of an account; flow orders have no such thing.

    Attributes:
        order_id: the venue's id, also the engine's.
        side: Side as int.
        kind: "LIMIT" or "MARKET".
        price_steps: 0 for MARKET.
        qty_steps, executed_steps: asked and done.
        quote_steps2: sum of price x quantity of the fills.
        stp: selfTradePreventionMode on the wire.
        gtd_ms: when a GTD order dies, 0 for never.
    """

    __slots__ = (
        "account",
        "client_id",
        "executed_steps",
        "gtd_ms",
        "instrument",
        "kind",
        "modify_count",
        "order_id",
        "price_match",
        "price_steps",
        "qty_steps",
        "quote_steps2",
        "reduce_only",
        "side",
        "status",
        "stp",
        "texts",
        "tif",
        "time_ms",
        "update_ms",
    )

    def __init__(self, account: int, instrument: Instrument, texts: Texts, client_id: str) -> None:
        self.account = account
        self.instrument = instrument
        self.texts = texts
        self.client_id = client_id
        self.order_id = 0
        self.side = int(Side.BID)
        self.kind = "LIMIT"
        self.tif = "GTC"
        self.price_steps = 0
        self.qty_steps = 0
        self.executed_steps = 0
        self.quote_steps2 = 0
        self.status = "NEW"
        self.reduce_only = False
        self.stp = "NONE"
        self.price_match = "NONE"
        self.gtd_ms = 0
        self.modify_count = 0
        self.time_ms = 0
        self.update_ms = 0

    @property
    def is_open(self) -> bool:
        """Return True while the order can still trade."""
        return self.status in OPEN

    @property
    def open_steps(self) -> int:
        """Return the quantity that can still trade."""
        return self.qty_steps - self.executed_steps if self.is_open else 0

    def average_text(self, decimals: int) -> str:
        """Return the average fill price, rounded half up to at least so many decimals.

        More decimals, AVERAGE_DECIMALS, are shown where so many do not hold it.
        """
        grid = self.instrument.price_grid_decimals
        if self.executed_steps == 0:
            return text_from_steps(0, decimals)
        if self.quote_steps2 % self.executed_steps == 0:
            return text_from_steps(self.quote_steps2 // self.executed_steps, grid, decimals)
        shown = max(decimals, grid, AVERAGE_DECIMALS)
        scaled = self.quote_steps2 * 10 ** (shown - grid)
        rounded = (2 * scaled + self.executed_steps) // (2 * self.executed_steps)
        return text_from_steps(rounded, shown)

    def quote_text(self) -> str:
        """Return the filled notional."""
        return steps2_text(self.instrument, self.quote_steps2)

    def placed(self, has_fills: bool) -> dict[str, object]:
        """Return the answer to place, cancel and amend (new-order page).

        Args:
            has_fills: with avgPrice and cumQuote, which the WebSocket API's answers lack.
        """
        texts = self.texts
        body: dict[str, object] = {
            "orderId": self.order_id,
            "symbol": self.instrument.symbol,
            "status": self.status,
            "clientOrderId": self.client_id,
            "price": texts.price(self.price_steps),
        }
        if has_fills:
            body["avgPrice"] = self.average_text(self.instrument.facts.price_decimals)
        body["origQty"] = texts.qty(self.qty_steps)
        body["executedQty"] = texts.qty(self.executed_steps)
        body["cumQty"] = texts.qty(self.executed_steps)
        if has_fills:
            body["cumQuote"] = self.quote_text()
        body |= {
            "timeInForce": self.tif,
            "type": self.kind,
            "reduceOnly": self.reduce_only,
            "closePosition": False,
            "side": SIDE_TEXT[self.side],
            "positionSide": "BOTH",
            "stopPrice": texts.price(0),
            "workingType": "CONTRACT_PRICE",
            "priceProtect": False,
            "origType": self.kind,
            "priceMatch": self.price_match,
            "selfTradePreventionMode": self.stp,
            "goodTillDate": self.gtd_ms,
            "updateTime": self.update_ms,
        }
        return body

    def queried(self) -> dict[str, object]:
        """Return the answer to a query (query-order page)."""
        texts = self.texts
        return {
            "avgPrice": self.average_text(AVERAGE_DECIMALS),
            "clientOrderId": self.client_id,
            "cumQuote": self.quote_text(),
            "executedQty": texts.qty(self.executed_steps),
            "orderId": self.order_id,
            "origQty": texts.qty(self.qty_steps),
            "origType": self.kind,
            "price": texts.price(self.price_steps),
            "reduceOnly": self.reduce_only,
            "side": SIDE_TEXT[self.side],
            "positionSide": "BOTH",
            "status": self.status,
            "stopPrice": "0",
            "closePosition": False,
            "symbol": self.instrument.symbol,
            "time": self.time_ms,
            "timeInForce": self.tif,
            "type": self.kind,
            "updateTime": self.update_ms,
            "workingType": "CONTRACT_PRICE",
            "priceProtect": False,
            "priceMatch": self.price_match,
            "selfTradePreventionMode": self.stp,
            "goodTillDate": self.gtd_ms,
        }


class Fill:
    """One execution of one account's order, kept for userTrades."""

    __slots__ = (
        "account",
        "commission_e8",
        "is_maker",
        "order",
        "price_steps",
        "qty_steps",
        "realized_e8",
        "trade_id",
        "ts_ms",
    )

    def __init__(
        self,
        order: Order,
        trade_id: int,
        price_steps: int,
        qty_steps: int,
        is_maker: bool,
        ts_ms: int,
    ) -> None:
        self.order = order
        self.account = order.account
        self.trade_id = trade_id
        self.price_steps = price_steps
        self.qty_steps = qty_steps
        self.is_maker = is_maker
        self.ts_ms = ts_ms
        self.commission_e8 = 0
        self.realized_e8 = 0

    def body(self) -> dict[str, object]:
        """Return one element of userTrades."""
        order, texts = self.order, self.order.texts
        return {
            "symbol": order.instrument.symbol,
            "id": self.trade_id,
            "orderId": order.order_id,
            "side": SIDE_TEXT[order.side],
            "price": texts.price(self.price_steps),
            "qty": texts.qty(self.qty_steps),
            "realizedPnl": e8_text(self.realized_e8),
            "quoteQty": steps2_text(order.instrument, self.price_steps * self.qty_steps),
            "commission": text_from_steps(self.commission_e8, 8),
            "commissionAsset": "USDT",
            "time": self.ts_ms,
            "positionSide": "BOTH",
            "maker": self.is_maker,
            "buyer": order.side == Side.BID,
        }


def order_update(
    order: Order, execution: str, notionals: tuple[int, int], fill: Fill | None, reason: int
) -> dict[str, object]:
    """Return the `o` object of ORDER_TRADE_UPDATE (user-data-streams page).

    Args:
        execution: the execution type, `x`.
        notionals: steps2 of the account's open bids and asks of the symbol.
        fill: the trade, for x = TRADE.
        reason: expire reason, `er`.
    """
    texts = order.texts
    body: dict[str, object] = {
        "s": order.instrument.symbol,
        "c": order.client_id,
        "S": SIDE_TEXT[order.side],
        "o": order.kind,
        "f": order.tif,
        "q": texts.qty(order.qty_steps),
        "p": texts.price(order.price_steps),
        "ap": order.average_text(order.instrument.facts.price_decimals),
        "sp": "0",
        "x": execution,
        "X": order.status,
        "i": order.order_id,
        "l": "0" if fill is None else texts.qty(fill.qty_steps),
        "z": texts.qty(order.executed_steps),
        "L": "0" if fill is None else texts.price(fill.price_steps),
    }
    if fill is not None:
        body["n"] = text_from_steps(fill.commission_e8, 8)
        body["N"] = "USDT"
    bids, asks = (
        "0" if steps2 == 0 else steps2_text(order.instrument, steps2) for steps2 in notionals
    )
    body |= {
        "T": order.update_ms,
        "t": 0 if fill is None else fill.trade_id,
        "b": bids,
        "a": asks,
        "m": fill is not None and fill.is_maker,
        "R": order.reduce_only,
        "wt": "CONTRACT_PRICE",
        "ot": order.kind,
        "ps": "BOTH",
        "cp": False,
        "rp": "0" if fill is None else e8_text(fill.realized_e8),
        "pP": False,
        "si": 0,
        "ss": 0,
        "V": order.stp,
        "pm": order.price_match,
        "gtd": order.gtd_ms,
        "er": str(reason),
    }
    return body


def trade_lite(order: Order, fill: Fill) -> dict[str, object]:
    """Return the keys of TRADE_LITE behind `e`, `E` and `T`."""
    texts = order.texts
    return {
        "s": order.instrument.symbol,
        "q": texts.qty(order.qty_steps),
        "p": texts.price(order.price_steps),
        "m": fill.is_maker,
        "c": order.client_id,
        "S": SIDE_TEXT[order.side],
        "L": texts.price(fill.price_steps),
        "l": texts.qty(fill.qty_steps),
        "t": fill.trade_id,
        "i": order.order_id,
    }


def steps2_text(instrument: Instrument, steps2: int) -> str:
    """Return price steps x quantity steps as quote text with at least five decimals."""
    decimals = instrument.price_grid_decimals + instrument.qty_grid_decimals
    return text_from_steps(steps2, decimals, max(decimals, 5))


def e8_text(value_e8: int) -> str:
    """Return 1e-8 units as text; zero is "0", as the venue writes it."""
    return "0" if value_e8 == 0 else text_from_steps(value_e8, 8)

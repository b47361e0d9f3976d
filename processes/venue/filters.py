"""exchangeInfo filters: what they look like, and which error an order that breaks one gets.

Prices and quantities are grid steps, the mark price is e8 (1e-8 quote units).
"""

import re

from common import fixed_point
from common.enums import Side
from common.instruments import Instrument, instrument_table
from processes.venue.config import SymbolConfig
from processes.venue.errors import VenueError

NUMBER = re.compile(r"([0-9]{1,20})(\.[0-9]{1,20})?")
E8 = 100_000_000
MULTIPLIER_DECIMALS = 4
QUOTE = "USDT"
ONBOARD_MS = 1_569_398_400_000
DELIVERY_MS = 4_133_404_800_000  # perpetual


class Rules:
    """The filters of one symbol in steps."""

    def __init__(self, instrument: Instrument, config: SymbolConfig) -> None:
        self.instrument = instrument
        self.config = config
        facts = instrument.facts
        row = instrument_table([instrument])[0]
        self.tick_steps = int(row["tick_size_steps"])
        self.lot_steps = int(row["lot_size_steps"])
        self.min_notional_steps2 = int(row["min_notional_steps2"])
        self.max_qty_steps = int(row["max_qty_steps"])
        self.max_market_qty_steps = (
            instrument.qty_steps(config.max_market_qty) or self.max_qty_steps
        )
        self.min_price_steps = instrument.price_steps(config.min_price) or self.tick_steps
        self.max_price_steps = instrument.price_steps(config.max_price)
        self.up_e4 = fixed_point.steps_from_text(config.multiplier_up, MULTIPLIER_DECIMALS)
        self.down_e4 = fixed_point.steps_from_text(config.multiplier_down, MULTIPLIER_DECIMALS)
        self.step_e8 = E8 // 10**instrument.price_grid_decimals
        self.notional_text = facts.min_notional

    def read_price(self, text: str, name: str = "price") -> int:
        """Return a price in steps.

        Raises:
            VenueError: -1100, -1111, -4013, -4002 or -4014.
        """
        decimals = self.instrument.facts.price_decimals
        fine = read_number(text, name, decimals, -4002)
        step = 10 ** (decimals - self.instrument.price_grid_decimals)
        if fine < self.min_price_steps * step:
            raise VenueError(-4013)
        if fine > self.max_price_steps * step:
            raise VenueError(-4002)
        if (fine - self.min_price_steps * step) % (self.tick_steps * step):
            raise VenueError(-4014)
        return fine // step

    def read_qty(self, text: str, is_market: bool) -> int:
        """Return a quantity in steps.

        Raises:
            VenueError: -1100, -1111, -4003, -4004, -4005 or -4023.
        """
        decimals = self.instrument.facts.qty_decimals
        fine = read_number(text, "quantity", decimals, -4005)
        step = 10 ** (decimals - self.instrument.qty_grid_decimals)
        if fine == 0:
            raise VenueError(-4003)
        if fine < self.lot_steps * step:
            raise VenueError(-4004)
        if fine > (self.max_market_qty_steps if is_market else self.max_qty_steps) * step:
            raise VenueError(-4005)
        if fine % (self.lot_steps * step):
            raise VenueError(-4023)
        return fine // step

    def check_percent_price(self, side: int, price_steps: int, mark_e8: int) -> None:
        """Judge PERCENT_PRICE: a BUY at most mark x up, a SELL at least mark x down.

        Raises:
            VenueError: -4016 or -4024.
        """
        price_e12 = price_steps * self.step_e8 * 10**MULTIPLIER_DECIMALS
        if side == Side.BID and price_e12 > mark_e8 * self.up_e4:
            raise VenueError(-4016, self.bound_text(mark_e8 * self.up_e4))
        if side == Side.ASK and price_e12 < mark_e8 * self.down_e4:
            raise VenueError(-4024, self.bound_text(mark_e8 * self.down_e4))

    def bound_text(self, bound_e12: int) -> str:
        """Return a price bound with the symbol's decimals."""
        steps = bound_e12 // (self.step_e8 * 10**MULTIPLIER_DECIMALS)
        return self.instrument.price_text(steps)

    def check_market_price(self, side: int, best_steps: int, mark_e8: int) -> None:
        """Judge a MARKET order's counterparty price.

        Raises:
            VenueError: -4131.
        """
        try:
            self.check_percent_price(side, best_steps, mark_e8)
        except VenueError:
            raise VenueError(-4131) from None

    def check_notional(self, price_steps: int, qty_steps: int, code: int = -4164) -> None:
        """Judge MIN_NOTIONAL.

        Raises:
            VenueError: `code`, -4164 for orders and -5029 for amendments.
        """
        if price_steps * qty_steps < self.min_notional_steps2:
            raise VenueError(code, self.notional_text)

    def symbol_info(self) -> dict[str, object]:
        """Return the symbol's element of exchangeInfo."""
        symbol, facts = self.instrument.symbol, self.instrument.facts
        base = symbol.removesuffix(QUOTE)
        return {
            "symbol": symbol,
            "pair": symbol,
            "contractType": "PERPETUAL",
            "deliveryDate": DELIVERY_MS,
            "onboardDate": ONBOARD_MS,
            "status": "TRADING",
            "maintMarginPercent": "2.5000",
            "requiredMarginPercent": "5.0000",
            "baseAsset": base,
            "quoteAsset": QUOTE,
            "marginAsset": QUOTE,
            "pricePrecision": facts.price_decimals,
            "quantityPrecision": facts.qty_decimals,
            "baseAssetPrecision": 8,
            "quotePrecision": 8,
            "underlyingType": "COIN",
            "underlyingSubType": [],
            "triggerProtect": "0.0500",
            "liquidationFee": "0.012500",
            "marketTakeBound": "0.05",
            "maxMoveOrderLimit": 10_000,
            "filters": self.describe(),
            "orderTypes": ["LIMIT", "MARKET"],
            "timeInForce": ["GTC", "IOC", "FOK", "GTX", "GTD"],
        }

    def describe(self) -> list[dict[str, object]]:
        """Return the `filters` array of exchangeInfo."""
        instrument, facts = self.instrument, self.instrument.facts
        return [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": instrument.price_text(self.min_price_steps),
                "maxPrice": instrument.price_text(self.max_price_steps),
                "tickSize": facts.tick_size,
            },
            self.lot_filter("LOT_SIZE", self.max_qty_steps),
            self.lot_filter("MARKET_LOT_SIZE", self.max_market_qty_steps),
            {"filterType": "MAX_NUM_ORDERS", "limit": self.config.open_orders_max},
            {"filterType": "MAX_NUM_ALGO_ORDERS", "limit": 10},
            {"filterType": "MIN_NOTIONAL", "notional": facts.min_notional},
            {
                "filterType": "PERCENT_PRICE",
                "multiplierUp": self.config.multiplier_up,
                "multiplierDown": self.config.multiplier_down,
                "multiplierDecimal": str(MULTIPLIER_DECIMALS),
            },
        ]

    def lot_filter(self, name: str, max_qty_steps: int) -> dict[str, object]:
        """Return LOT_SIZE or MARKET_LOT_SIZE."""
        return {
            "filterType": name,
            "minQty": self.instrument.qty_text(self.lot_steps),
            "maxQty": self.instrument.qty_text(max_qty_steps),
            "stepSize": self.instrument.facts.lot_size,
        }


def read_number(text: str, name: str, decimals: int, too_long: int) -> int:
    """Return a decimal parameter as a count of 10^-decimals.

    Raises:
        VenueError: -1100 unless it is a plain decimal, -1111 if it is finer than that,
            `too_long` if it has more digits than any limit.
    """
    if not NUMBER.fullmatch(text):
        raise VenueError(-1100, name)
    if fixed_point.decimals_of(text) > decimals:
        raise VenueError(-1111)
    try:
        return fixed_point.steps_from_text(text, decimals)
    except ValueError:
        raise VenueError(too_long) from None

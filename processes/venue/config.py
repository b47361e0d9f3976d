"""What the venue is told: where it listens, who trades, what it lists, what moves its market."""

from typing import Annotated

from msgspec import Meta

from common.config import Base

Positive = Annotated[int, Meta(gt=0)]


class AccountConfig(Base, kw_only=True):
    """One account and its API key; paper money.

    Attributes:
        api_key, secret_key: the key itself, or "" if it is in the files.
        api_key_file, secret_key_file: text files, the form that the trading side reads too.
        ed25519_public_hex: instead of a secret, for session.logon.
        balance: starting wallet, decimal text in quote currency.
    """

    name: str
    api_key: str = ""
    secret_key: str = ""
    api_key_file: str = ""
    secret_key_file: str = ""
    ed25519_public_hex: str = ""
    balance: str = "1000000"

    def __post_init__(self) -> None:
        if bool(self.api_key) == bool(self.api_key_file):
            raise ValueError("api_key and api_key_file: expected exactly one of the two")
        proofs = [self.secret_key, self.secret_key_file, self.ed25519_public_hex]
        if sum(map(bool, proofs)) != 1:
            raise ValueError(
                "secret_key, secret_key_file and ed25519_public_hex: expected exactly one"
            )


class SymbolConfig(Base, kw_only=True):
    """One listed symbol; tick, lot and minimum notional come from the instruments file.

    Attributes:
        price: where the synthetic market starts, decimal text.
        min_price, max_price, max_market_qty: filters, decimal text; "0" takes one tick or the
            limit order's quantity.
        multiplier_up, multiplier_down: PERCENT_PRICE around the mark.
        open_orders_max: per account.
        events_per_s: synthetic arrivals: limits, cancels and markets together.
        volatility_e6: of the fair price, 1e-6 of the price per square root of a second.
        order_qty: typical size of a synthetic order, decimal text.
        spread_e6: typical distance between the synthetic best prices, 1e-6 of the price; at
            least a tick.
        depth_orders: synthetic resting orders per side that the flow tends to.
    """

    price: str
    min_price: str = "0"
    max_price: str
    max_market_qty: str = "0"
    multiplier_up: str = "1.0500"
    multiplier_down: str = "0.9500"
    open_orders_max: Positive = 200
    events_per_s: Annotated[int, Meta(gt=0, le=1_000_000)] = 100
    volatility_e6: Positive = 20
    order_qty: str
    spread_e6: Positive = 30
    depth_orders: Annotated[int, Meta(gt=0, le=5_000)] = 400


class FlowConfig(Base, kw_only=True):
    """Synthetic flow, a function of the seed and the time steps."""

    seed: Annotated[int, Meta(ge=0, lt=1 << 31)] = 1
    step_ms: Annotated[int, Meta(gt=0, le=1_000)] = 10
    burst_every_s: Positive = 20
    burst_factor: Positive = 8
    burst_ms: Positive = 300
    liquidation_every_s: Positive = 30


class CaptureConfig(Base, kw_only=True):
    """A recorded session served as it was.

    Attributes:
        file: lines of `<local receive time, ns> <raw JSON>`, plain or gzip.
        symbol: whose snapshot the symbol-less REST line is.
        speed: times faster than recorded.
        waits: playback begins with the first market stream subscriber, not at start.
    """

    file: str
    symbol: str
    speed: Annotated[float, Meta(gt=0)] = 1.0
    waits: bool = True


class TicksConfig(Base, kw_only=True):
    """A CSV of trades served live, with a made book around them; see ticks.py.

    Attributes:
        file: rows of timestamp,symbol,price,quantity[,side].
        speed: times faster than recorded.
        waits: playback begins with the first market stream subscriber, not at start.
        depth_levels: of the made book, a side.
        level_qty: of each of its levels, decimal text.
    """

    file: str
    speed: Annotated[float, Meta(gt=0)] = 1.0
    waits: bool = True
    depth_levels: Annotated[int, Meta(gt=0, le=100)] = 5
    level_qty: str


class LimitsConfig(Base, kw_only=True):
    """Rate limits; the venue's published ones."""

    weight_1m_max: Positive = 2_400
    orders_10s_max: Positive = 300
    orders_1m_max: Positive = 1_200
    broken_max: Positive = 20


class FaultConfig(Base, kw_only=True):
    """Which faults are done at start; the admin path does them later.

    Attributes:
        admin: serve /venue/faults to loopback clients.
        clock_skew_ms: what the venue's clock shows beside the real one.
    """

    admin: bool = False
    clock_skew_ms: int = 0


class VenueConfig(Base, kw_only=True):
    """The whole venue.

    Attributes:
        port: 0 takes a free one.
        port_file: where the bound port is written, "" for nowhere.
        tls: serve https and wss with a certificate of a CA made at start.
        ca_file: where that CA's certificate is written, PEM; needed with tls.
        instruments: venue name in the instruments file.
        funding_interval_s, funding_rate_e8: of all symbols, 1e-8 of the notional.
        maker_fee_e8, taker_fee_e8: 1e-8 of the notional.
        order_capacity: open orders of everybody together.
        connection_life_s: after which a WebSocket is closed; the venue's is 24 hours.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 0
    port_file: str = ""
    tls: bool = False
    ca_file: str = ""
    instruments: str = "binance-usdm"
    symbols: dict[str, SymbolConfig]
    accounts: list[AccountConfig]
    flow: FlowConfig | None = None
    capture: CaptureConfig | None = None
    ticks: TicksConfig | None = None
    limits: LimitsConfig = LimitsConfig()
    faults: FaultConfig = FaultConfig()
    funding_interval_s: Positive = 28_800
    funding_rate_e8: int = 10_000
    maker_fee_e8: int = 20_000
    taker_fee_e8: int = 50_000
    order_capacity: Positive = 65_536
    connection_life_s: Positive = 86_400

    def __post_init__(self) -> None:
        if sum(kind is not None for kind in (self.flow, self.capture, self.ticks)) > 1:
            raise ValueError("flow, capture and ticks: expected at most one of the three")
        if self.tls and not self.ca_file:
            raise ValueError("ca_file is empty, expected a path; clients verify with it")
        if not self.symbols:
            raise ValueError("symbols is empty, expected at least one")
        if self.capture is not None and self.capture.symbol not in self.symbols:
            raise ValueError(f"capture.symbol is {self.capture.symbol!r}, expected a listed symbol")

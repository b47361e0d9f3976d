"""Config table [backtest]: the simulated venue, the way to it, and when the strategy is called."""

from typing import Annotated, Literal

from msgspec import Meta

from common.config import Base

_NS = 1_000_000_000
Rate = Annotated[str, Meta(pattern=r"^-?0(\.[0-9]{1,8})?$")]


class FeeTier(Base, kw_only=True):
    """One row of a venue's fee table.

    Attributes:
        maker, taker: share of price x quantity, decimal text; negative is a rebate.
    """

    maker: Rate
    taker: Rate


class OrderLatencyConfig(Base, kw_only=True):
    """[backtest.order_latency].

    Attributes:
        kind: "constant", "recorded" (interpolated) or "drawn" (a distribution fitted to the file).
        request_ns, response_ns: of "constant".
        file: of the others: CSV with columns request_ns,exchange_ns,response_ns, or hftbacktest's
            .npz; relative to the config file.
        fit: of "drawn": "lognormal", or "quantiles" of the file as they are.
        seed: of "drawn"; kept in the result's counts.
        offset_ns: added to each way.
    """

    kind: Literal["constant", "recorded", "drawn"]
    request_ns: Annotated[int, Meta(ge=0, le=60 * _NS)] = 0
    response_ns: Annotated[int, Meta(ge=0, le=60 * _NS)] = 0
    file: str = ""
    fit: Literal["lognormal", "quantiles"] = "lognormal"
    seed: Annotated[int, Meta(ge=1, le=2**62)] = 1
    offset_ns: Annotated[int, Meta(ge=0, le=60 * _NS)] = 0

    def __post_init__(self) -> None:
        if (self.kind == "constant") == bool(self.file):
            expected = "no file" if self.kind == "constant" else "a file"
            raise ValueError(f"kind is {self.kind!r} with file={self.file!r}, expected {expected}")
        if self.kind != "constant" and (self.request_ns or self.response_ns):
            raise ValueError(f"request_ns, response_ns: expected 0 with kind {self.kind!r}")


class BacktestConfig(Base, kw_only=True):
    """[backtest].

    Attributes:
        rules: "own", or what hftbacktest does where the two differ (processes/backtest/rules.py).
        exchange: of levels: whether an order may be filled in parts; "order-by-order": the venue's
            own matching, of data that know single orders (processes/backtest/order_book.py).
        queue: model of the place in the queue of a level (processes/backtest/queues.py).
        queue_power: n of the power models.
        stp_mode: order by order: self-trade prevention of our takers.
        order_latency: of requests and answers.
        feed_offset_ns: added to the time at which an event is seen here.
        compute_ns: from the turn of the strategy until its requests leave.
        compute_run: folder of a recorded run whose hop stamps replace compute_ns; relative.
        fees: tiers by name.
        fee_tier: which one applies.
        also: more instruments, "VENUE:SYMBOL", behind those of [venue]; both in the instruments
            file. Risk's limits are those of the symbol.
        fee_tiers: tiers of other venues, by venue.
        funding_file: CSV with columns ts_ns,symbol,rate,mark_price; relative. A symbol that two
            venues have is told as VENUE:SYMBOL. For the instruments in it, it replaces the funding
            that the data's mark prices tell of; the counts say how often that was.
        cadence: the strategy's turns: at every "events" instant, or at its "timers" only.
        book_levels: of each side that it sees.
    """

    rules: Literal["own", "hftbacktest", "hftbacktest-roi"] = "own"
    exchange: Literal["no-partial-fill", "partial-fill", "order-by-order"]
    queue: Literal["risk-averse", "power", "power2", "power3", "log", "log2"] = "risk-averse"
    queue_power: Annotated[float, Meta(gt=0, le=100)] = 3.0
    stp_mode: Literal["EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH"] = "EXPIRE_TAKER"
    order_latency: OrderLatencyConfig
    feed_offset_ns: Annotated[int, Meta(ge=0, le=60 * _NS)] = 0
    compute_ns: Annotated[int, Meta(ge=0, le=60 * _NS)] = 0
    compute_run: str = ""
    fees: dict[str, FeeTier]
    fee_tier: str
    also: list[Annotated[str, Meta(pattern=r"^[^:]+:[A-Z0-9_]+$")]] = []
    fee_tiers: dict[str, str] = {}
    funding_file: str = ""
    cadence: Literal["events", "timers"] = "events"
    book_levels: Annotated[int, Meta(ge=1, le=10)] = 10

    def __post_init__(self) -> None:
        for tier in (self.fee_tier, *self.fee_tiers.values()):
            if tier not in self.fees:
                raise ValueError(
                    f"fee_tier is {tier!r}, expected one of {', '.join(sorted(self.fees))}"
                )
        if self.compute_run and self.compute_ns:
            raise ValueError("compute_ns: expected 0 with compute_run, which replaces it")

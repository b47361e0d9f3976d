"""What risk is told: limits per symbol, in the venue's units; nothing about money has a default."""

from typing import Annotated, Literal

from msgspec import Meta

from common.config import Base

_NS = 1_000_000_000


class SymbolLimits(Base, frozen=True):
    """Limits of one symbol.

    Attributes:
        order_qty_max: largest order, base units, decimal text.
        order_notional_max: largest price x quantity, quote units, decimal text.
        position_qty_max: largest long or short position, open and doubtful orders included.
        open_order_count_max: orders that may be open at once.
        price_band_bps_max: how far a limit price may be from the mid.
        book_age_ns_max: how old the last market event may be.
    """

    order_qty_max: str
    order_notional_max: str
    position_qty_max: str
    open_order_count_max: Annotated[int, Meta(ge=1, le=1_000)]
    price_band_bps_max: Annotated[int, Meta(ge=1, le=5_000)]
    book_age_ns_max: Annotated[int, Meta(ge=1_000_000, le=60 * _NS)]


class RiskConfig(Base, frozen=True):
    """[risk].

    Attributes:
        limits: by symbol.
        order_rate_max, order_burst_max: new orders and replaces of one strategy: a second, at once.
        sync: "none": the journal survives a kill; "always": and a power cut (fdatasync each turn).
        order_count_max: order rows, finished ones included.
        fill_count_max: fills remembered, to know a repeated one.
        report_spill_max: reports kept for a strategy that does not read.
        ack_timeout_ns: a request without an answer makes its order UNKNOWN.
        cancel_retry_ns: first pause before a failed cancel is sent again; doubles.
        query_delay_ns, query_count_max: first pause before an UNKNOWN order is asked for; doubles.
        missing_count_min, missing_ns_min: answers "no such order" that end a doubt, and over how
            long; longer than the venue's receive window. Of an acknowledged order, or of fills that
            the venue told, as many reconciliations, over as long, must have nothing too.
        fill_timeout_ns: fills that the venue told and did not send are looked up after this.
        reconcile_timeout_ns, reconcile_retry_ns: a round without an answer; pause before the next.
        reconcile_every_ns: a round is asked this long after the last good one, whatever happened.
    """

    limits: dict[str, SymbolLimits]
    order_rate_max: Annotated[int, Meta(ge=1, le=10_000)]
    order_burst_max: Annotated[int, Meta(ge=1, le=10_000)]
    sync: Literal["none", "always"] = "none"
    order_count_max: Annotated[int, Meta(ge=16, le=65_536)] = 4_096
    fill_count_max: Annotated[int, Meta(ge=64, le=4_194_304)] = 131_072
    report_spill_max: Annotated[int, Meta(ge=1_024, le=1_048_576)] = 65_536
    ack_timeout_ns: Annotated[int, Meta(ge=10_000_000, le=60 * _NS)] = 2 * _NS
    cancel_retry_ns: Annotated[int, Meta(ge=1_000_000, le=10 * _NS)] = 100_000_000
    query_delay_ns: Annotated[int, Meta(ge=1_000_000, le=10 * _NS)] = 100_000_000
    query_count_max: Annotated[int, Meta(ge=3, le=1_000)] = 30
    missing_count_min: Annotated[int, Meta(ge=3, le=100)] = 4
    missing_ns_min: Annotated[int, Meta(ge=1 * _NS, le=600 * _NS)] = 6 * _NS
    fill_timeout_ns: Annotated[int, Meta(ge=10_000_000, le=60 * _NS)] = 2 * _NS
    reconcile_timeout_ns: Annotated[int, Meta(ge=10_000_000, le=600 * _NS)] = 10 * _NS
    reconcile_retry_ns: Annotated[int, Meta(ge=1_000_000, le=60 * _NS)] = 200_000_000
    reconcile_every_ns: Annotated[int, Meta(ge=1 * _NS, le=3_600 * _NS)] = 60 * _NS

    def __post_init__(self) -> None:
        if self.missing_count_min > self.query_count_max:
            raise ValueError(
                f"missing_count_min is {self.missing_count_min},"
                f" expected at most query_count_max={self.query_count_max}"
            )

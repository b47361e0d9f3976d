"""What the gateway is told."""

from typing import Annotated, Literal

from msgspec import Meta

from common.binance_limits import ORDERS_1M_MAX, ORDERS_10S_MAX, WEIGHT_1M_MAX
from common.config import Base

Positive = Annotated[int, Meta(gt=0)]


class GatewayConfig(Base, frozen=True):
    """Defaults are the venue's documented limits and cautious times.

    Attributes:
        stp_mode: selfTradePreventionMode of every new order.
        quote_asset: the asset that fees and balances are counted in.
        recv_window_ms: the venue refuses a request that is older on arrival.
        request_timeout_ms: without a response for so long a request is UNKNOWN.
        order_age_ms_max: an order that has waited longer since risk published it is not sent: its
            price is old, and a gateway that comes back must not send what it finds.
        in_flight_max: requests without a response; more orders are refused.
        clock_age_ms_max: a clock offset older than this is unknown: no orders.
        stream_silent_ms_max: an accepted request without any stream event for so long means that
            the stream is dead.
        connect_timeout_ms: from the first packet to an open socket.
        reconnect_ms_min, reconnect_ms_max: pause before a new attempt; doubles, with jitter.
        ping_every_ms: on a socket that has been silent so long; idle_ms_max: it is dead.
        rotate_s: a socket is replaced before the venue's 24 hours.
        overlap_ms: how long a replaced socket is still listened to.
        has_fallback: orders go over REST while the order socket is down.
        orders_10s_max, orders_1m_max, weight_1m_max: limits until the venue tells its own.
        soft_percent: share of each limit at which orders stop; the rest is for cancels.
        spill_max: reports kept while the ring to risk is full.
    """

    stp_mode: Literal["EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH"] = "EXPIRE_TAKER"
    quote_asset: str = "USDT"
    recv_window_ms: Annotated[int, Meta(gt=0, le=60_000)] = 5_000
    request_timeout_ms: Annotated[int, Meta(ge=50, le=60_000)] = 3_000
    order_age_ms_max: Annotated[int, Meta(ge=10, le=60_000)] = 1_000
    in_flight_max: Annotated[int, Meta(ge=1, le=10_000)] = 512
    clock_age_ms_max: Annotated[int, Meta(ge=1_000, le=300_000)] = 20_000
    stream_silent_ms_max: Annotated[int, Meta(ge=100, le=60_000)] = 5_000
    connect_timeout_ms: Annotated[int, Meta(ge=100, le=60_000)] = 5_000
    reconnect_ms_min: Annotated[int, Meta(ge=10, le=10_000)] = 100
    reconnect_ms_max: Annotated[int, Meta(ge=100, le=600_000)] = 10_000
    ping_every_ms: Annotated[int, Meta(ge=200, le=60_000)] = 5_000
    idle_ms_max: Annotated[int, Meta(ge=500, le=600_000)] = 15_000
    rotate_s: Annotated[int, Meta(ge=1, le=86_000)] = 82_800
    overlap_ms: Annotated[int, Meta(ge=0, le=60_000)] = 2_000
    has_fallback: bool = True
    orders_10s_max: Positive = ORDERS_10S_MAX
    orders_1m_max: Positive = ORDERS_1M_MAX
    weight_1m_max: Positive = WEIGHT_1M_MAX
    soft_percent: Annotated[int, Meta(ge=1, le=100)] = 70
    spill_max: Annotated[int, Meta(ge=1_000, le=10_000_000)] = 200_000

    def __post_init__(self) -> None:
        if self.reconnect_ms_max < self.reconnect_ms_min:
            raise ValueError(
                f"reconnect_ms_max is {self.reconnect_ms_max},"
                f" expected at least reconnect_ms_min={self.reconnect_ms_min}"
            )
        if self.idle_ms_max <= self.ping_every_ms:
            raise ValueError(
                f"idle_ms_max is {self.idle_ms_max},"
                f" expected more than ping_every_ms={self.ping_every_ms}"
            )

"""What the rest process is told."""

from typing import Annotated

from msgspec import Meta

from common.binance_limits import WEIGHT_1M_MAX
from common.config import Base

Positive = Annotated[int, Meta(gt=0)]


class RestConfig(Base, frozen=True):
    """Defaults are the venue's own advice; none of them can lose money.

    Attributes:
        quote_asset: the asset that balances and fees are counted in.
        recv_window_ms: the venue refuses a signed request that is older on arrival.
        countdown_ms: dead-man timer: the venue cancels all this long after the last refresh.
        clock_every_ms: how often the venue's clock is measured.
        clock_samples: measurements of one round; their median counts.
        listen_key_every_s: how often the listenKey is extended; it lives 60 minutes.
        gateway_stale_ms: a gateway silent for longer counts as dead: cancel all.
        request_timeout_ms: from sending to the whole answer.
        requests_max: at once; urgent ones go beyond it.
        weight_1m_max: request weight per minute, until the venue tells.
        attempts_max: of a request that may be repeated.
        pages_max: pages of account trades in one reconciliation of a symbol.
        spill_max: reports kept while the ring to risk is full.
    """

    quote_asset: str = "USDT"
    recv_window_ms: Annotated[int, Meta(gt=0, le=60_000)] = 5_000
    countdown_ms: Annotated[int, Meta(ge=3_000, le=600_000)] = 30_000
    clock_every_ms: Annotated[int, Meta(ge=100, le=60_000)] = 5_000
    clock_samples: Annotated[int, Meta(ge=1, le=15)] = 3
    listen_key_every_s: Annotated[int, Meta(ge=1, le=1_800)] = 1_200
    gateway_stale_ms: Annotated[int, Meta(ge=200, le=60_000)] = 2_000
    request_timeout_ms: Annotated[int, Meta(ge=50, le=60_000)] = 5_000
    requests_max: Annotated[int, Meta(ge=1, le=16)] = 4
    weight_1m_max: Positive = WEIGHT_1M_MAX
    attempts_max: Annotated[int, Meta(ge=1, le=20)] = 5
    pages_max: Annotated[int, Meta(ge=1, le=10_000)] = 200
    spill_max: Annotated[int, Meta(ge=1_000, le=10_000_000)] = 200_000

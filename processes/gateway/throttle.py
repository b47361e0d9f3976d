"""What the gateway may still send: the venue's limits, a back-off when it refuses, a ban.

New orders stop at a soft limit; the rest is kept for cancels.
"""

from typing import NamedTuple

from common.binance_limits import (
    BACK_OFF_NS_MAX,
    BACK_OFF_NS_MIN,
    INTERVAL_NS,
    NS_PER_SECOND,
    Window,
)
from common.enums import Reject, RequestKind


class Cost(NamedTuple):
    """What one request takes (websocket-api order pages; modify also has the order counts)."""

    orders: int
    weight: int


COSTS: dict[int, Cost] = {
    RequestKind.NEW: Cost(orders=1, weight=0),
    RequestKind.REPLACE: Cost(orders=1, weight=1),
    RequestKind.CANCEL: Cost(orders=0, weight=1),
}
HANDSHAKE_WEIGHT = 5


class Throttle:
    """All limits of one account and address.

    Args:
        orders_10s_max, orders_1m_max, weight_1m_max: limits until the venue tells its own.
        soft_percent: share of each limit at which new orders and modifications stop.
    """

    def __init__(
        self, orders_10s_max: int, orders_1m_max: int, weight_1m_max: int, soft_percent: int
    ) -> None:
        minute_ns = 60 * NS_PER_SECOND
        self.orders_10s = Window(10 * NS_PER_SECOND, orders_10s_max, soft_percent)
        self.orders_1m = Window(minute_ns, orders_1m_max, soft_percent)
        self.weight_1m = Window(minute_ns, weight_1m_max, soft_percent)
        self.windows = {
            ("ORDERS", 10 * NS_PER_SECOND): self.orders_10s,
            ("ORDERS", minute_ns): self.orders_1m,
            ("REQUEST_WEIGHT", minute_ns): self.weight_1m,
        }
        self.back_off_ns = 0
        self.orders_blocked_until_ns = 0
        self.all_blocked_until_ns = 0

    def check(self, kind: int, now_ns: int) -> Reject:
        """Judge one request; nothing is counted.

        Returns:
            NONE, or VENUE_THROTTLE.
        """
        if now_ns < self.all_blocked_until_ns:
            return Reject.VENUE_THROTTLE
        weight = self.weight_1m
        cost = COSTS[kind]
        if kind == RequestKind.CANCEL:
            over = weight.used(now_ns) + cost.weight > weight.limit
            return Reject.VENUE_THROTTLE if over else Reject.NONE
        if (
            now_ns < self.orders_blocked_until_ns
            or weight.used(now_ns) + cost.weight > weight.soft_limit
            or self.orders_10s.used(now_ns) + cost.orders > self.orders_10s.soft_limit
            or self.orders_1m.used(now_ns) + cost.orders > self.orders_1m.soft_limit
        ):
            return Reject.VENUE_THROTTLE
        return Reject.NONE

    def spend(self, kind: int, now_ns: int) -> None:
        """Count one request that is sent."""
        cost = COSTS[kind]
        self.orders_10s.spend(cost.orders, now_ns)
        self.orders_1m.spend(cost.orders, now_ns)
        self.weight_1m.spend(cost.weight, now_ns)

    def on_limit(
        self, kind: str, interval: str, count_of: int, limit: int, count: int, now_ns: int
    ) -> None:
        """Take over one element of an answer's `rateLimits`; kinds that we do not know are left."""
        window = self.windows.get((kind, INTERVAL_NS.get(interval, 0) * count_of))
        if window is not None and 0 <= count <= 10 * max(limit, 1):
            window.correct(limit, count, now_ns)

    def on_refused(self, now_ns: int) -> None:
        """Stop orders for a while that doubles with each refusal in a row (429, -1015, -1008)."""
        self.back_off_ns = min(max(self.back_off_ns * 2, BACK_OFF_NS_MIN), BACK_OFF_NS_MAX)
        self.orders_blocked_until_ns = now_ns + self.back_off_ns

    def on_banned(self, until_ns: int) -> None:
        """Send nothing at all before `until_ns`: going on lengthens the ban (418)."""
        self.all_blocked_until_ns = max(self.all_blocked_until_ns, until_ns)

    def on_accepted(self, now_ns: int) -> None:
        """End the back-off when the venue takes orders again."""
        if now_ns >= self.orders_blocked_until_ns:
            self.back_off_ns = 0

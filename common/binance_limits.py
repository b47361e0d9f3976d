"""One window per rate limit of the venue: what was spent within the last interval.

No alignment of the venue's own window can then see more than its limit. The venue does not promise
its counts on refused orders, so our own count is the base and the venue's only corrects it upwards.
"""

from collections import deque

NS_PER_SECOND = 1_000_000_000
# A request may travel this much longer than the one before it, and so land nearer to the next.
JITTER_NS = 250_000_000
INTERVAL_NS = {
    "SECOND": NS_PER_SECOND,
    "MINUTE": 60 * NS_PER_SECOND,
    "HOUR": 3_600 * NS_PER_SECOND,
    "DAY": 86_400 * NS_PER_SECOND,
}
BACK_OFF_NS_MIN = NS_PER_SECOND
BACK_OFF_NS_MAX = 60 * NS_PER_SECOND
WEIGHT_1M_MAX = 2_400
ORDERS_10S_MAX = 300
ORDERS_1M_MAX = 1_200


class Window:
    """What was spent of one limit within the last interval.

    Args:
        interval_ns: the venue's interval; requests are remembered JITTER_NS longer.
        limit: the venue's limit per interval.
        soft_percent: share of the limit that orders may use up.
    """

    def __init__(self, interval_ns: int, limit: int, soft_percent: int) -> None:
        self.interval_ns = interval_ns
        self.soft_percent = soft_percent
        self.limit = limit
        self.spent: deque[tuple[int, int]] = deque()  # (instant, amount), oldest first
        self.total = 0

    @property
    def soft_limit(self) -> int:
        """Return how much orders may use; at least 1, so that a tiny limit still trades."""
        return max(self.limit * self.soft_percent // 100, 1)

    def used(self, now_ns: int) -> int:
        """Return what the last interval has spent."""
        oldest_ns = now_ns - self.interval_ns - JITTER_NS
        spent = self.spent
        while spent and spent[0][0] <= oldest_ns:
            self.total -= spent.popleft()[1]
        return self.total

    def spend(self, amount: int, now_ns: int) -> None:
        """Count an amount."""
        if amount > 0:
            self.spent.append((now_ns, amount))
            self.total += amount

    def correct(self, limit: int, count: int, now_ns: int) -> None:
        """Take over what the venue says; what it counts beyond us somebody else has spent."""
        if limit > 0:
            self.limit = limit
        self.spend(count - self.used(now_ns), now_ns)

"""Mark price, index price and funding of one symbol; everything in e8 (1e-8 quote units)."""

E8 = 100_000_000
BASIS_WEIGHT = 8  # the mark follows the mid's distance from the index by 1/8 a second
AVERAGE_WEIGHT = 32
CLAMP_E8 = 50_000  # 0.05 %: funding page, F = P + clamp(I - P, -0.05 %, 0.05 %)
FUNDING_E8_MAX = 750_000
UPDATE_MS = 1_000


class Mark:
    """Prices of one symbol that are not on its grid.

    Args:
        price_e8: where everything starts.
        interest_e8: the I of the funding formula, per interval.
        interval_ms: between two fundings, aligned to the clock.
    """

    def __init__(self, price_e8: int, interest_e8: int, interval_ms: int, now_ms: int) -> None:
        self.mark_e8 = self.index_e8 = self.average_e8 = price_e8
        self.basis_e8 = 0
        self.interest_e8 = interest_e8
        self.interval_ms = interval_ms
        self.next_funding_ms = (now_ms // interval_ms + 1) * interval_ms
        self.rate_e8 = interest_e8
        self.due_ms = now_ms

    def update(self, index_e8: int, mid_e8: int) -> None:
        """Take one sample a second.

        Args:
            index_e8: the index price; 0 where there is none, then the mid stands for it.
            mid_e8: the middle of the book, 0 while it is one-sided.
        """
        self.index_e8 = index_e8 or mid_e8 or self.index_e8
        if mid_e8:
            self.basis_e8 += (mid_e8 - self.index_e8 - self.basis_e8) // BASIS_WEIGHT
        self.mark_e8 = self.index_e8 + self.basis_e8
        self.average_e8 += (self.mark_e8 - self.average_e8) // AVERAGE_WEIGHT
        premium_e8 = (self.mark_e8 - self.index_e8) * E8 // self.index_e8
        pull_e8 = max(-CLAMP_E8, min(CLAMP_E8, self.interest_e8 - premium_e8))
        self.rate_e8 = max(-FUNDING_E8_MAX, min(FUNDING_E8_MAX, premium_e8 + pull_e8))

    def funding_due(self, now_ms: int) -> bool:
        """Return True once per interval, at its end, and set the next one."""
        if now_ms < self.next_funding_ms:
            return False
        self.next_funding_ms = (now_ms // self.interval_ms + 1) * self.interval_ms
        return True

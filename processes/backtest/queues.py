"""Where an order stands in the queue of its price level, as far as L2 data can tell.

An order joins behind all that is there. `risk-averse`: it advances with trades at its price, and
never stands behind more than the level holds. The others also advance when the level shrinks: the
share of the shrinkage that was ahead of it is 1 - p, where p depends on what is ahead and behind:

    power    b^n / (b^n + f^n)          log     ln(1 + b) / (ln(1 + b) + ln(1 + f))
    power2   b^n / (b + f)^n            log2    ln(1 + b) / ln(1 + b + f)
    power3   1 - (f / (f + b))^n        (f: ahead, b: behind, base units)

What has been traded since the last change of the level is taken off that change, so that it does
not count twice. The estimates of those models are floats: signals, not quantities. A fill is whole
lots.
"""

import math

import numpy as np
from numba import njit

RISK_AVERSE, POWER, POWER_2, POWER_3, LOG, LOG_2 = 0, 1, 2, 3, 4, 5
QUEUES = {
    "risk-averse": RISK_AVERSE, "power": POWER, "power2": POWER_2, "power3": POWER_3,
    "log": LOG, "log2": LOG_2,
}  # fmt: skip

AHEAD, TRADED = 0, 1  # of a row of estimates


@njit(cache=True, _nrt=False)
def quotient(a, b):
    """Return a / b as IEEE does: infinite or not a number when b is 0."""
    if b == 0.0:
        if a == 0.0 or a != a:
            return np.nan
        return np.inf if a > 0.0 else -np.inf
    return a / b


@njit(cache=True, _nrt=False)
def power_of(x, n):
    """Return x^n; whole powers by multiplication, whose bits no C library changes."""
    if n == 1.0:
        return x
    if n == 2.0:
        return x * x
    if n == 3.0:
        return x * x * x
    return math.pow(x, n) if x >= 0.0 or n == math.floor(n) else np.nan


@njit(cache=True, _nrt=False)
def log_of(x):
    """Return ln(1 + x), not a number below -1."""
    if x <= -1.0:
        return np.nan if x < -1.0 else -np.inf
    return math.log(1.0 + x)


@njit(cache=True, _nrt=False)
def probability_behind(kind, power, ahead, behind):
    """Return p, the share of a shrinkage that was behind the order."""
    if kind == POWER:
        back = power_of(behind, power)
        return quotient(back, back + power_of(ahead, power))
    if kind == POWER_2:
        return quotient(power_of(behind, power), power_of(behind + ahead, power))
    if kind == POWER_3:
        return 1.0 - power_of(quotient(ahead, ahead + behind), power)
    if kind == LOG:
        back = log_of(behind)
        return quotient(back, back + log_of(ahead))
    return quotient(log_of(behind), log_of(behind + ahead))


@njit(cache=True, _nrt=False)
def shrink(kind, power, estimate, before, after):
    """Move an estimate as a change of its level says.

    Args:
        kind, power: the model, not RISK_AVERSE.
        estimate: float64[2], changed: AHEAD, TRADED since the last change; base units.
        before, after: quantity of the level, base units.
    """
    change = before - after - estimate[TRADED]
    estimate[TRADED] = 0.0
    ahead = estimate[AHEAD]
    if change < 0.0:  # it grew: behind us
        estimate[AHEAD] = ahead if ahead < after else after
        return
    behind = before - ahead
    p = probability_behind(kind, power, ahead, behind)
    if p == np.inf or p == -np.inf:
        p = 1.0
    short = behind - p * change
    moved = ahead - (1.0 - p) * change + (short if short < 0.0 else 0.0)
    estimate[AHEAD] = moved if moved < after else after  # also if it is not a number


@njit(cache=True, _nrt=False)
def lots_through(ahead, lot):
    """Return how many lots have passed the order, `ahead` being negative then; halves count."""
    lots = -ahead / lot
    return np.int64(math.floor(lots + 0.5)) if lots >= 0.5 else np.int64(0)

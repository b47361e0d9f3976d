"""Depth by percentages from the mid to a coarse book: one level a band.

The files tell how much is quoted up to each percentage, not at which prices. A band's level has
what is quoted in the band alone, at the band's mean price, rounded to the grid: its quantity is
exact and its price is not the venue's.
"""

import numpy as np

from processes.convert.columns import (
    DEPTH,
    INSTRUMENT,
    LINE,
    NOTIONAL,
    PERCENT,
    TOP_FIRST,
    TS_EXCH,
    TS_RECV,
)

BANDS_MAX = 12  # a side


class BandError(Exception):
    """The bands of one moment contradict each other.

    Attributes:
        line: of the row that does not fit.
    """

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line = line


def moment_starts(rows: np.ndarray) -> np.ndarray:
    """Return where the moments begin: rows of one instrument and time."""
    is_new = (rows[1:, INSTRUMENT] != rows[:-1, INSTRUMENT]) | (
        rows[1:, TS_EXCH] != rows[:-1, TS_EXCH]
    )
    return np.concatenate(([0], 1 + np.flatnonzero(is_new)))


def top_of(moment: np.ndarray) -> np.ndarray:
    """Return the bands of one moment as a row of Shape.TOPS.

    Args:
        moment: int64[n, words] of Shape.BANDS.

    Raises:
        BandError: a wider band holds less than a narrower one, or one comes twice.
    """
    top = np.zeros(TOP_FIRST + 4 * BANDS_MAX, np.int64)
    top[[INSTRUMENT, TS_EXCH, TS_RECV, LINE]] = moment[0, [INSTRUMENT, TS_EXCH, TS_RECV, LINE]]
    for sign, offset in ((1, 0), (-1, 2)):  # asks are above the mid
        bands = sorted(
            (sign * int(row[PERCENT]), int(row[DEPTH]), int(row[NOTIONAL]), int(row[LINE]))
            for row in moment
            if sign * row[PERCENT] > 0
        )
        levels: dict[int, int] = {}
        inside = (0, 0, 0)
        for percent, depth, notional, line in bands:
            qty, cost = depth - inside[1], notional - inside[2]
            if percent == inside[0] or qty < 0 or cost < 0 or (qty > 0 and cost == 0):
                raise BandError(line, f"band holds {qty} steps more than the one inside it")
            if qty > 0:
                price = (2 * cost + qty) // (2 * qty)
                levels[price] = levels.get(price, 0) + qty
            inside = (percent, depth, notional)
        if len(levels) > BANDS_MAX:
            raise BandError(bands[-1][3], f"moment has {len(levels)} bands a side")
        for level, (price, qty) in enumerate(levels.items()):
            word = TOP_FIRST + 4 * level + offset
            top[word], top[word + 1] = price, qty
    return top

"""hftbacktest's event arrays: their fields, the kinds and flags of events, and their numbers.

Source: hftbacktest 2.4, types.py: the low byte of `ev` is the kind, the high bits are flags; times
in nanoseconds. A clear with neither BUY nor SELL is one of both sides.
"""

import numpy as np

HFT_EVENT = np.dtype(
    [
        ("ev", "u8"),
        ("exch_ts", "<i8"),
        ("local_ts", "<i8"),
        ("px", "<f8"),
        ("qty", "<f8"),
        ("order_id", "u8"),
        ("ival", "<i8"),
        ("fval", "<f8"),
    ],
    align=True,
)
HFT_FIELDS = ("ev", "exch_ts", "local_ts", "px", "qty")  # without those that L2 data leave 0
HFT_DEPTH, HFT_TRADE, HFT_CLEAR, HFT_SNAPSHOT = 1, 2, 3, 4
HFT_ADD, HFT_CANCEL, HFT_MODIFY, HFT_FILL = 10, 11, 12, 13  # of single orders
HFT_AT_VENUE, HFT_AT_LOCAL, HFT_BUY, HFT_SELL = 1 << 31, 1 << 30, 1 << 29, 1 << 28
HFT_KIND_MASK = 0xFF
STEPS_MAX = 2.0**53  # a float counts exactly up to here
_TOLERANCE = 1e-9


def steps_of(values: np.ndarray, decimals: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (grid steps, whether each value is one).

    A value is on the grid if it is the float nearest to the decimal, or off by what arithmetic
    on such floats leaves.
    """
    scaled = values * 10.0**decimals
    is_small = np.abs(scaled) < STEPS_MAX  # no NaN, no infinity
    steps = np.rint(np.where(is_small, scaled, 0.0))
    is_near = np.abs(steps - np.where(is_small, scaled, 1.0)) <= _TOLERANCE * np.maximum(
        np.abs(steps), 1.0
    )
    return steps.astype(np.int64), is_small & is_near & (steps >= 0)

"""Decimal text <-> int64 counts of an instrument's grid step, exactly; notional; checked multiply.

A grid step is 10^-decimals. Text is converted from its digits, never through a float.
"""

import numpy as np
from numba import njit

INT64_MAX = 9_223_372_036_854_775_807
DIGITS_MAX = 18
DECIMALS_MAX = 12
POWERS_OF_TEN = np.array([10**n for n in range(DIGITS_MAX + 1)], np.int64)

PARSE_OK = 0
PARSE_EMPTY = -1
PARSE_CHARACTER = -2
PARSE_OFF_GRID = -3
PARSE_TOO_LONG = -4


@njit(cache=True)
def multiply_checked(a, b):
    """Return (a * b, False), or (0, True) if the product does not fit an int64.

    The range is checked before: LLVM may delete a check that is made after a signed overflow.
    """
    if a == 0 or b == 0:
        return 0, False
    if abs(a) > INT64_MAX // abs(b):
        return 0, True
    return a * b, False


@njit(cache=True)
def parse_steps(text, first, end, decimals):
    """Convert the decimal number in text[first:end] to grid steps.

    Args:
        text: uint8[n], read. ASCII.
        first, end: half-open range of the digits; no sign, no exponent, no spaces.
        decimals: decimals of the grid, 0 to DECIMALS_MAX.

    Returns:
        (steps, PARSE_OK) or (0, status): PARSE_EMPTY, PARSE_CHARACTER (not a plain decimal),
        PARSE_OFF_GRID (a non-zero digit finer than the grid), PARSE_TOO_LONG (over DIGITS_MAX
        digits, leading zeros and trailing zeros beyond the grid not counted).
    """
    steps = 0
    digit_count = 0
    scale = -1  # decimals seen; -1 before the point
    seen = 0
    for i in range(first, end):
        digit = np.int64(text[i]) - 48
        if digit == -2 and scale < 0:  # "."
            scale = 0
            continue
        if digit < 0 or digit > 9:
            return 0, PARSE_CHARACTER
        seen += 1
        if scale >= decimals:
            if digit != 0:
                return 0, PARSE_OFF_GRID
            continue
        if scale >= 0:
            scale += 1
        if digit_count > 0 or digit != 0:
            digit_count += 1
            if digit_count > DIGITS_MAX:
                return 0, PARSE_TOO_LONG
        steps = steps * 10 + digit
    if seen == 0:
        return 0, PARSE_EMPTY
    missing = decimals - max(scale, 0)
    if steps != 0 and digit_count + missing > DIGITS_MAX:
        return 0, PARSE_TOO_LONG
    return steps * POWERS_OF_TEN[missing] if steps != 0 else 0, PARSE_OK


def steps_from_text(text: str, decimals: int) -> int:
    """Convert decimal text to grid steps; the cold-path twin of `parse_steps`.

    Raises:
        ValueError: not a plain decimal, finer than the grid, or over DIGITS_MAX digits.
    """
    whole, point, fraction = text.partition(".")
    digits = whole + fraction
    if not digits or not digits.isascii() or not digits.isdigit():
        raise ValueError(f"number is {text!r}, expected plain decimal digits")
    if fraction[decimals:].strip("0"):
        raise ValueError(f"number is {text!r}, expected at most {decimals} decimals")
    significant = (whole + fraction[:decimals].ljust(decimals, "0")).lstrip("0")
    if len(significant) > DIGITS_MAX:
        raise ValueError(f"number is {text!r}, expected at most {DIGITS_MAX} digits")
    return int(significant or "0")


def text_from_steps(steps: int, decimals: int, text_decimals: int | None = None) -> str:
    """Convert grid steps to decimal text with `text_decimals` decimals (default: the grid's).

    Raises:
        ValueError: `text_decimals` is too few to write the value exactly.
    """
    shown = decimals if text_decimals is None else text_decimals
    sign = "-" if steps < 0 else ""
    digits = str(abs(steps)).rjust(decimals + 1, "0")
    whole, fraction = (digits[:-decimals], digits[-decimals:]) if decimals else (digits, "")
    if fraction[shown:].strip("0"):
        raise ValueError(f"{steps} steps of {decimals} decimals do not fit {shown} decimals")
    fraction = fraction[:shown].ljust(shown, "0")
    return f"{sign}{whole}.{fraction}" if shown else f"{sign}{whole}"


def decimals_of(text: str) -> int:
    """Return how many decimals a tick or lot size needs: "0.10" -> 1, "5" -> 0, "0.001" -> 3."""
    return len(text.partition(".")[2].rstrip("0"))

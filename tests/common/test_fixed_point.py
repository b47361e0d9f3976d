from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import fixed_point as fp

NUMBERS = st.tuples(
    st.integers(0, 10**20), st.integers(0, 14), st.sampled_from(["", "0", "00000", "."])
)


def parse(text: str, decimals: int) -> tuple[int, int]:
    data = np.frombuffer(text.encode() or b" ", np.uint8)
    return fp.parse_steps(data, 0, len(text), decimals)


@pytest.mark.parametrize(
    ("text", "decimals", "expected"),
    [
        ("61659.70", 1, (616597, fp.PARSE_OK)),
        ("0.001", 3, (1, fp.PARSE_OK)),
        ("0", 8, (0, fp.PARSE_OK)),
        ("00000000000000000000000.10", 1, (1, fp.PARSE_OK)),
        ("999999999999999999", 0, (999999999999999999, fp.PARSE_OK)),
        ("1000000000000000000", 0, (0, fp.PARSE_TOO_LONG)),
        ("99999999999", 8, (0, fp.PARSE_TOO_LONG)),
        ("1.05", 1, (0, fp.PARSE_OFF_GRID)),
        ("", 1, (0, fp.PARSE_EMPTY)),
        (".", 1, (0, fp.PARSE_EMPTY)),
        ("-1", 1, (0, fp.PARSE_CHARACTER)),
        ("1e3", 1, (0, fp.PARSE_CHARACTER)),
        ("1.2.3", 3, (0, fp.PARSE_CHARACTER)),
        ("NaN", 1, (0, fp.PARSE_CHARACTER)),
    ],
)
def test_parse_steps_table(text, decimals, expected):
    assert parse(text, decimals) == expected


@settings(max_examples=400, deadline=None)
@given(NUMBERS, st.integers(0, fp.DECIMALS_MAX))
def test_parse_steps_matches_decimal_and_the_cold_twin(number, decimals):
    unscaled, scale, tail = number
    text = fp.text_from_steps(unscaled, scale)
    text += tail if "." in text and tail != "." else ("" if tail != "." or "." in text else ".")
    exact = Decimal(text) * 10**decimals
    steps, status = parse(text, decimals)
    try:
        cold = fp.steps_from_text(text, decimals)
    except ValueError:
        assert status != fp.PARSE_OK
        assert exact != exact.to_integral_value() or exact >= 10**fp.DIGITS_MAX
        return
    assert (steps, status) == (cold, fp.PARSE_OK)
    assert exact == steps


@settings(max_examples=300, deadline=None)
@given(st.integers(-(10**17), 10**17), st.integers(0, 12), st.integers(0, 4))
def test_text_from_steps_is_exact(steps, decimals, extra):
    text = fp.text_from_steps(steps, decimals, decimals + extra)
    assert Decimal(text) * 10**decimals == steps
    assert len(text.partition(".")[2]) == decimals + extra


def test_text_from_steps_refuses_to_round():
    with pytest.raises(ValueError, match="do not fit"):
        fp.text_from_steps(12345, 3, 2)


@settings(max_examples=400, deadline=None)
@given(st.integers(-(2**63) + 1, 2**63 - 1), st.integers(-(2**63) + 1, 2**63 - 1))
def test_multiply_checked_matches_big_integers(a, b):
    product, overflow = fp.multiply_checked(a, b)
    assert overflow == (abs(a * b) > fp.INT64_MAX)
    assert overflow or product == a * b


def test_decimals_of_sizes():
    assert [fp.decimals_of(t) for t in ("0.10", "5", "0.001", "10", "1.0")] == [1, 0, 3, 0, 0]

"""JSON tokens against json.loads and the exact conversions of common/fixed_point."""

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.fixed_point import steps_from_text
from processes.feed import json_scan
from processes.feed.json_scan import TEXT_SLACK, Scan


def text_of(content: bytes, behind: bytes = b"") -> np.ndarray:
    return np.frombuffer(content + behind[:TEXT_SLACK].ljust(TEXT_SLACK, b'"'), np.uint8)


PLAIN = re.compile(r"[0-9]+(\.[0-9]+)?")
DIGITS = st.text("0123456789", min_size=0, max_size=12)
NUMBERS = st.one_of(
    st.tuples(DIGITS, DIGITS, st.text("0", max_size=4)).map(lambda t: f"{t[0]}.{t[1]}{t[2]}"),
    DIGITS,
    st.text("0123456789.-+eE ", max_size=20),
)


@settings(max_examples=1500, deadline=None)
@given(NUMBERS, st.integers(0, 12), st.binary(max_size=12))
def test_decimals_are_exact_or_refused(number, decimals, behind):
    content = number.encode() + b'"'
    steps, at = json_scan.take_steps(text_of(content, behind), 0, len(content), decimals)
    try:
        if not PLAIN.fullmatch(number):
            raise ValueError(number)
        expected = steps_from_text(number, decimals)
    except ValueError:
        assert at == -1 and Scan(steps) in (
            Scan.NUMBER, Scan.NEGATIVE, Scan.OFF_GRID, Scan.TOO_LONG,
        )  # fmt: skip
    else:
        assert (steps, at) == (expected, len(number))


@pytest.mark.parametrize(
    ("number", "decimals", "status"),
    [
        ("", 2, Scan.NUMBER), ("NaN", 2, Scan.NUMBER), ("Infinity", 2, Scan.NUMBER),
        ("-1.5", 2, Scan.NEGATIVE), ("1e5", 2, Scan.NUMBER), ("1.", 2, Scan.NUMBER),
        (".5", 2, Scan.NUMBER), ("1.2.3", 2, Scan.NUMBER), ("0x1", 2, Scan.NUMBER),
        ("1.005", 2, Scan.OFF_GRID), ("61800.25", 1, Scan.OFF_GRID), ("9" * 30, 0, Scan.TOO_LONG),
        ("1234567890123456789", 0, Scan.TOO_LONG), ("1000000.0", 12, Scan.TOO_LONG),
        ("1\\u0030", 2, Scan.NUMBER), ("1\x00", 2, Scan.SYNTAX), ("1\xff", 2, Scan.UTF8),
    ],
)  # fmt: skip
def test_what_is_no_plain_decimal_says_why(number, decimals, status):
    content = number.encode("latin-1") + b'"'
    assert json_scan.take_steps(text_of(content), 0, len(content), decimals) == (status, -1)


@settings(max_examples=500, deadline=None)
@given(st.text("0123456789", min_size=0, max_size=26), st.sampled_from([b",", b"}", b".", b"\xff"]))
def test_digit_runs(digits, behind):
    number, at = json_scan.take_digits(text_of(digits.encode() + behind), 0)
    if len(digits) <= 18:
        assert (number, at) == (int(digits or "0"), len(digits))
    else:
        assert (number, at) == (Scan.TOO_LONG, 0)


def is_json(content: bytes) -> bool:
    try:
        json.loads(content.decode("utf-8"), parse_constant=lambda _: 1 / 0)
    except (ValueError, RecursionError, ZeroDivisionError):
        return False
    return True


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12) | st.floats(allow_nan=False,
    allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner,
    max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=600, deadline=None)
@given(VALUES, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_any_json_value_is_passed_over(value, ascii_only, indent):
    content = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    text = text_of(content, b",")
    assert json_scan.skip_value(text, 0, len(content), 0) == len(content)
    for end in range(0, len(content), 3):
        if not is_json(content[:end]):
            after = json_scan.skip_value(text_of(content[:end], content[end:]), 0, end, 0)
            assert after < end, "accepted a value that was cut off"


@settings(max_examples=1500, deadline=None)
@given(st.text('{}[]",:\\u0123456789.eE-+truefalsn \n\x00é😀', max_size=16))
def test_texts_like_json_are_judged_as_json_loads_does(text):
    content = text.encode()
    after = json_scan.skip_value(text_of(content), 0, len(content), 0)
    rest = content[after:].strip(b" \t\r\n") if after >= 0 else b"x"
    assert (after >= 0 and not rest) == is_json(content)


@settings(max_examples=800, deadline=None)
@given(st.binary(max_size=24))
def test_strings_are_valid_utf8_or_refused(inside):
    content = inside + b'"'
    at = json_scan.find_quote(text_of(content), 0, len(content))
    quoted = b'"' + content[: at + 1] if at >= 0 else b'"' + content
    assert (at >= 0) == any(is_json(b'"' + content[: i + 1]) for i in range(len(content)))
    assert at < 0 or is_json(quoted)


def test_nesting_has_a_limit():
    for depth in (31, 32, 33, 500):
        content = b"[" * depth + b"]" * depth
        after = json_scan.skip_value(text_of(content), 0, len(content), 0)
        assert after == (len(content) if depth <= json_scan.NESTING_MAX else Scan.NESTING)
    mixed = b'{"a":[' * 16 + b"1" + b"]}" * 16
    assert json_scan.skip_value(text_of(mixed), 0, len(mixed), 0) == len(mixed)
    assert json_scan.skip_value(text_of(mixed), 0, len(mixed), 1) == Scan.NESTING


def test_kernels_also_run_uncompiled():
    content = b'{"a": [1, "x\\n", null]}'
    text = text_of(content)
    assert json_scan.skip_value.py_func(text, 0, len(content), 0) == len(content)
    assert json_scan.take_steps.py_func(text_of(b'61800.20"'), 0, 9, 1) == (618002, 8)

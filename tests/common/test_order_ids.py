import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import order_ids as ids

PARTS = st.tuples(
    st.integers(1, ids.SESSION_MAX),
    st.integers(0, ids.STRATEGY_MAX),
    st.integers(0, ids.SEQUENCE_MAX),
)


@given(PARTS)
def test_pack_and_text_round_trip(parts):
    packed = ids.pack(*parts)
    assert 0 < packed < 1 << 63
    assert ids.unpack(packed) == parts
    text = ids.to_text(packed)
    assert re.fullmatch(r"[\.A-Z\:/a-z0-9_-]{1,36}", text)  # the venue's rule for client ids
    assert ids.from_text(text) == packed


@given(st.text(max_size=40))
def test_foreign_text_is_not_ours(text):
    value = ids.from_text(text)
    assert value == 0 or ids.to_text(value) == text


@pytest.mark.parametrize(
    "text", ["", "tr", "tr0", "trz0000000000000", "autoclose-1", "tr1A", "xtr1"]
)
def test_near_misses_are_not_ours(text):
    assert ids.from_text(text) == 0


def test_pack_refuses_parts_out_of_range():
    with pytest.raises(ValueError, match="session is 0, expected 1"):
        ids.pack(0, 0, 0)

"""The hash index against a dict."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processes.risk.index import NOT_FOUND, find, home_of, insert, new_index, remove

KEYS = st.tuples(
    st.sampled_from([0, 1, 2, 3, 1 << 40, (1 << 62) + 5, (1 << 63) - 1]),
    st.integers(0, 3),
    st.integers(0, 1),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.booleans(), KEYS), max_size=80))
def test_the_index_agrees_with_a_dict(steps):
    index, naive = new_index(16), {}
    for row, (is_insert, key) in enumerate(steps):
        if is_insert and key not in naive and len(naive) < 16:
            insert(index, *key, row)
            naive[key] = row
        elif not is_insert:
            assert remove(index, *key) == naive.pop(key, NOT_FOUND)
        for known, expected in naive.items():
            assert find(index, *known) == expected
        assert (index[:, 3] != 0).sum() == len(naive)
        assert find(index, 99, 99, 99) == NOT_FOUND


def test_ids_that_count_up_are_spread():
    """Client order ids differ in their low bits only, venue ids too."""
    index = new_index(4_096)
    slots = {int(home_of(index, (1 << 41) + k, 0, 0)) for k in range(4_096)}
    assert len(slots) > 2_000


@pytest.mark.parametrize("entries", [1, 2, 5, 64, 1_000])
def test_it_is_never_more_than_half_full(entries):
    index = new_index(entries)
    assert len(index) >= 2 * entries
    assert len(index) & (len(index) - 1) == 0

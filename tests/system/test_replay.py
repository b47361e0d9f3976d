"""A live run under contention and kills, replayed: every decision is the same."""

import pytest

from tests.system.soak import run_and_verify


@pytest.mark.parametrize("seed", [11, 12])
def test_a_run_with_kills_and_contention_replays_without_a_difference(seed, tmp_path):
    found = run_and_verify(tmp_path, seed, seconds=2, kill_after_s=(0.3, 1.0))
    assert found.is_good, found.text
    assert found.kills >= 2 and found.numbers["hashes"] >= 2
    assert "from the fresh desk" in found.text and "byte identity: sources" in found.text

"""A live run under contention and kills, replayed: every decision is the same."""

import numpy as np
import pytest

from common.enums import TurnKind
from common.records import TURN
from shm.recording import Run

from tests.processes.replay.recorded_runs import rewrite, swap_two_turns
from tests.system.soak import run_and_verify, verify


@pytest.mark.parametrize("seed", [11, 12])
def test_a_run_with_kills_and_contention_replays_without_a_difference(seed, tmp_path):
    found = run_and_verify(tmp_path, seed, seconds=2, kill_after_s=(0.3, 1.0))
    assert found.is_good, found.text
    assert found.kills >= 4 and found.numbers["hashes"] >= 2
    assert attaches_in(found.recording) >= 3, "the strategy was killed twice"
    assert "from the fresh desk" in found.text and "byte identity: sources" in found.text
    swapped: list[int] = []
    rewrite(found.recording, "strategy.turn.log", lambda log: swapped.append(swap_two_turns(log)))
    refused = verify(found.recording)
    assert refused.code == 1 and not refused.is_good
    assert f"difference  turn {swapped[0]} at " in refused.text


def attaches_in(recording):
    """Return how many processes of the strategy are in a recorded turn log."""
    log = Run.open(recording).rings["strategy.turn.log"]
    turns = [words.view(TURN)["kind"] for _first, words in log.blocks(1 << 14)]
    return np.count_nonzero(np.concatenate(turns) == TurnKind.ATTACH)

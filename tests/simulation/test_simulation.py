"""The whole system under faults: a few seeds of what `python -m tests.simulation` runs."""

import os
import re
import subprocess
import sys

import pytest

from tests.simulation.canaries import CANARIES
from tests.simulation.run import Options, command_of, run_seed
from tests.support import ROOT

SEEDS = range(1, 21)


def check(result, extra=" --rounds 2"):
    if result.violation:
        shown = "\n".join(result.log_tail[-40:])
        pytest.fail(
            f"{shown}\nseed {result.seed} at {result.virtual_s:.6f} s: {result.violation}\n"
            f"repeat: {command_of(result, extra)}"
        )


def test_a_calm_market_trades_and_stops_without_a_trace_of_trouble():
    result = run_seed(1, Options(faults=[], strategy="market_maker", end="stop"))
    check(result, " --faults none --strategy market_maker --end stop")
    assert result.facts["fills"] > 20 and result.facts["replace"] > 20
    assert result.facts["books"] > 100 and result.facts["books_lost"] == 0
    assert result.facts["deaths"] == 0 and result.facts["checks"] == 4


@pytest.mark.parametrize("seed", SEEDS)
def test_every_promise_holds_under_faults(seed):
    check(run_seed(seed, Options(rounds=2)))


def test_the_same_seed_gives_the_same_trace_in_this_process_and_in_another():
    options = Options(rounds=1, per_second=3.0)
    first, second = run_seed(7, options), run_seed(7, options)
    assert first.digest == second.digest and first.facts == second.facts
    assert run_seed(8, options).digest != first.digest
    command = [sys.executable, "-m", "tests.simulation", "--seed", "7", "--rounds", "1"]
    told = subprocess.run(
        [*command, "--per-second", "3"], cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": "12345"},
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert first.digest in told.stdout


@pytest.mark.parametrize("name", sorted(CANARIES))
def test_a_planted_bug_is_noticed(name):
    _, faults, end, words = CANARIES[name]
    options = Options(
        rounds=1, faults=faults, per_second=3.0, end=end, strategy="market_maker", plant=name
    )
    for seed in range(1, 6):
        result = run_seed(seed, options)
        if result.violation:
            assert re.search(words, result.violation), result.violation
            return
    pytest.fail(f"{name}: five seeds passed with the bug in place")

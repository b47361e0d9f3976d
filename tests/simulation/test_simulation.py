"""The whole system under faults: a few seeds of what `python -m tests.simulation` runs."""

import pytest

from tests.simulation.run import Options, command_of, run_seed

SEEDS = range(1, 21)


def check(result):
    if result.violation:
        shown = "\n".join(result.log_tail[-40:])
        pytest.fail(
            f"{shown}\nseed {result.seed} at {result.virtual_s:.6f} s: {result.violation}\n"
            f"repeat: {command_of(result)}"
        )


def test_a_calm_market_trades_and_stops_without_a_trace_of_trouble():
    result = run_seed(1, Options(faults=[], strategy="market_maker", end="stop"))
    check(result)
    assert result.facts["fills"] > 20 and result.facts["replace"] > 20
    assert result.facts["books"] > 100 and result.facts["books_lost"] == 0
    assert result.facts["deaths"] == 0 and result.facts["checks"] == 4


@pytest.mark.parametrize("seed", SEEDS)
def test_every_promise_holds_under_faults(seed):
    check(run_seed(seed, Options(rounds=2)))

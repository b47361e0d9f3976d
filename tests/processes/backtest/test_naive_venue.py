"""The compiled loop against a naive twin: random markets, random requests, equal fill by fill."""

import pytest

from processes.backtest.run import run
from processes.results import Result

from tests.processes.backtest.made_market import made_data, made_setup
from tests.processes.backtest.naive_venue import NaiveBacktest, NaiveDice

DICE = "tests.processes.backtest.dice:Dice"
INTERVAL_NS = 5_000_000
EVENTS = 900


def naive(setup, data, seed: int, rules: dict) -> NaiveBacktest:
    """Run the twin on the same data."""
    rows = [data.events[first:end] for first, end in data.spans]
    twin = NaiveBacktest(rows, rules, INTERVAL_NS, lambda backtest: NaiveDice(backtest, seed))
    twin.run()
    return twin


def fills_of(result: Result) -> list[tuple]:
    names = ("ts_ns", "instrument_id", "side", "price_steps", "qty_steps", "maker", "fee_e12")
    return [tuple(int(fill[name]) for name in names) for fill in result.fills]


def states_of(result: Result) -> list[tuple]:
    names = (
        "ts_ns", "instrument_id", "position_steps", "balance_steps2", "fee_e12", "trade_count",
        "bid_price_steps", "ask_price_steps",
    )  # fmt: skip
    return [tuple(int(state[name]) for name in names) for state in result.states]


@pytest.mark.parametrize("exchange", ["no-partial-fill", "partial-fill"])
@pytest.mark.parametrize("queue", ["risk-averse", "power", "power3"])
@pytest.mark.parametrize("latency_ns", [0, 2_000_000, 13_000_000])
def test_fills_and_states_are_those_of_the_twin(exchange, queue, latency_ns, tmp_path):
    filled = 0
    for seed in range(1, 5):
        setup = made_setup(
            tmp_path, DICE, {"interval_ns": INTERVAL_NS, "seed": seed},
            count=1 + seed % 2, exchange=exchange, queue=queue, latency_ns=latency_ns,
        )  # fmt: skip
        data = made_data(setup, seed, EVENTS)
        rules = {
            "skips_one": False, "partial": exchange == "partial-fill", "queue": queue, "n": 3.0,
            "maker_e8": -5_000, "taker_e8": 40_000, "request_ns": latency_ns,
            "response_ns": latency_ns,
        }  # fmt: skip
        twin = naive(setup, data, seed, rules)
        result = run(setup, data)
        expected = [
            (ts, i, *rest) for i, venue in enumerate(twin.venues) for ts, _id, *rest in venue.fills
        ]
        assert states_of(result) == twin.states
        assert sorted(fills_of(result)) == sorted(expected)
        filled += len(expected)
    assert filled > 100

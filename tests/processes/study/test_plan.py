from decimal import Decimal

import pytest

from common.errors import UsageError
from processes.study import plan
from processes.study.plan import combinations_of, identity_of, key_of, plan_of, rank_key

from tests.processes.study.fake_engine import FAKE, write_market


def test_the_last_key_changes_fastest():
    assert combinations_of(["a=1,2", "b.c=x, y"]) == [
        {"a": "1", "b.c": "x"},
        {"a": "1", "b.c": "y"},
        {"a": "2", "b.c": "x"},
        {"a": "2", "b.c": "y"},
    ]
    assert combinations_of([]) == [{}]


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (["a"], "--grid: 'a', expected key=a,b,c"),
        (["=1"], "expected key=a,b,c"),
        (["a=1,,2"], "expected key=a,b,c"),
        (["a=1", "a=2"], "'a' is named twice"),
        (["a=1,1"], "has a value twice"),
        ([f"{key}=1,2,3,4,5,6,7,8,9,10" for key in "abcdef"], "1,000,000 combinations, expected"),
    ],
)
def test_bad_grids(grid, message):
    with pytest.raises(UsageError, match=message):
        combinations_of(grid)


@pytest.mark.parametrize(
    ("metric", "jobs", "message"),
    [("profit", 1, "--metric: 'profit', expected one of"), ("pnl", -1, "--jobs: -1, expected")],
)
def test_bad_plans(tmp_path, metric, jobs, message):
    with pytest.raises(UsageError, match=message):
        plan_of(tmp_path, [tmp_path], [], metric, jobs)


def test_shapes_ignore_numbers():
    grid = combinations_of(["edge=1,2.5", "queue=power,log", "n=1e3"])
    assert plan.shapes_of(grid) == [0, 1]


def test_none_ranks_last_and_less_may_be_better():
    values = [Decimal("1.5"), None, -3, Decimal("0.1")]
    best = sorted(values, key=lambda value: rank_key("pnl", value))
    assert best == [Decimal("1.5"), Decimal("0.1"), -3, None]
    least = sorted(values, key=lambda value: rank_key("max_drawdown", value))
    assert least == [-3, Decimal("0.1"), Decimal("1.5"), None]


def test_the_key_covers_config_data_sources_and_parameters(tmp_path):
    config, market = tmp_path / "c.toml", tmp_path / "market"
    config.write_text("edge = 1\n")
    market.mkdir()
    write_market(market / "a")
    plan = plan_of(config, [market], ["edge=1,2"], "pnl", 1)
    before = identity_of(FAKE, plan)
    assert identity_of(FAKE, plan) == before
    assert key_of(before, {"a": "1", "b": "2"}) == key_of(before, {"b": "2", "a": "1"})
    assert key_of(before, {"a": "1"}) != key_of(before, {"a": "2"})
    seen = {before}
    config.write_text("edge = 2\n")
    seen.add(identity_of(FAKE, plan))
    (market / "b").write_text("")
    seen.add(identity_of(FAKE, plan))
    write_market(market / "a", seed=2)
    seen.add(identity_of(FAKE, plan))
    seen.add(identity_of(FAKE._replace(sources=lambda setup: "edited"), plan))
    seen.add(identity_of(FAKE._replace(files=lambda setup: [config]), plan))
    assert len(seen) == 6


def test_missing_data_are_told(tmp_path):
    config = tmp_path / "c.toml"
    config.write_text("")
    plan = plan_of(config, [tmp_path / "nowhere"], [], "pnl", 1)
    with pytest.raises(UsageError, match="nowhere: no such file or directory"):
        identity_of(FAKE, plan)

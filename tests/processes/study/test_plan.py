from decimal import Decimal
from pathlib import Path

import pytest

from common.errors import UsageError
from processes.study import plan
from processes.study.plan import combinations_of, identity_of, keys_of, plan_of, rank_key, resolved

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


@pytest.fixture
def plan_on(tmp_path):
    """Return a maker of plans on a config, a folder of data and two files of them."""
    (tmp_path / "c.toml").write_text("edge = 1\n")
    (tmp_path / "market").mkdir()
    for seed, name in enumerate(["a", "b"]):
        write_market(tmp_path / "market" / name, seed=seed)

    def make(grid, *data):
        paths = [tmp_path / path for path in data or ["market"]]
        return plan_of(tmp_path / "c.toml", paths, grid, "pnl", 1)

    return make


def test_a_key_covers_config_data_sources_and_parameters(tmp_path, plan_on):
    market, plan = tmp_path / "market", plan_on(["edge=1,2"])
    seen = set(keys_of(FAKE, plan))
    assert seen == set(keys_of(FAKE, plan)) and len(seen) == 2
    (tmp_path / "c.toml").write_text("edge = 2\n")
    seen.update(keys_of(FAKE, plan))
    (market / "c").write_text("")
    seen.update(keys_of(FAKE, plan))
    write_market(market / "a", seed=2)
    seen.update(keys_of(FAKE, plan))
    seen.update(keys_of(FAKE._replace(sources=lambda setup: "edited"), plan))
    seen.update(keys_of(FAKE._replace(files=lambda setup: [tmp_path / "c.toml"]), plan))
    assert len(seen) == 2 * 6


def test_a_key_does_not_depend_on_the_order_of_the_grid_or_on_the_other_combinations(plan_on):
    keys = keys_of(FAKE, plan_on(["edge=1,2", "lookback=3"]))
    assert keys_of(FAKE, plan_on(["lookback=3", "edge=2,x,1"]))[::2] == keys[::-1]


def test_a_key_covers_whose_a_file_is(monkeypatch, tmp_path, plan_on):
    monkeypatch.chdir(tmp_path / "market")
    plan = plan_on([])._replace(data=[Path("BTCUSDT=a"), Path("ETHUSDT=b")])
    other = plan._replace(data=[Path("ETHUSDT=a"), Path("BTCUSDT=b")])
    assert keys_of(FAKE, plan) != keys_of(FAKE, other)
    moved = plan._replace(data=[resolved(path) for path in plan.data])
    assert keys_of(FAKE, plan) == keys_of(FAKE, moved)


def test_a_key_covers_the_files_that_only_its_combination_names(tmp_path, plan_on):
    """Changed is what names the changed file, and nothing else."""
    named = [tmp_path / f"{edge}.csv" for edge in (1, 2)]
    for path in named:
        path.write_text("before")
    subject = FAKE._replace(files=lambda setup: [tmp_path / f"{setup.edge}.csv"])
    plan = plan_on(["edge=1,2"])
    before = keys_of(subject, plan)
    named[1].write_text("after")
    after = keys_of(subject, plan)
    assert (before[0] == after[0], before[1] == after[1]) == (True, False)
    assert identity_of(before) != identity_of(after)


def test_a_combination_whose_file_is_missing_has_a_key_all_the_same(tmp_path, plan_on):
    subject = FAKE._replace(files=lambda setup: [tmp_path / f"{setup.edge}.csv"])
    (tmp_path / "1.csv").write_text("")
    assert len(set(keys_of(subject, plan_on(["edge=1,2,x"])))) == 3


def test_the_identity_is_the_same_wherever_a_node_is(monkeypatch, tmp_path, plan_on):
    """Also if a combination is wrong, which is told with the path of the config."""
    plan = plan_on(["edge=1,x"])
    monkeypatch.chdir(tmp_path)
    other = plan._replace(config=Path("c.toml"))
    assert identity_of(keys_of(FAKE, plan)) == identity_of(keys_of(FAKE, other))


def test_missing_data_are_told(tmp_path):
    config = tmp_path / "c.toml"
    config.write_text("")
    plan = plan_of(config, [tmp_path / "nowhere"], [], "pnl", 1)
    with pytest.raises(UsageError, match="nowhere: no such file or directory"):
        keys_of(FAKE, plan)

import json
from fractions import Fraction

import numpy as np
import pytest

from common.errors import UsageError
from processes.report.metrics import measure
from processes.study import walk_forward as walking
from processes.study.plan import Loaded, plan_of
from processes.study.walk_forward import Window, run_walk_forward, walk_forward, windows_of

from tests.processes.report.made_results import S
from tests.processes.study.fake_engine import FAKE, write_market

GRID = ["edge=1,2,4", "lookback=1,3,5"]


def plan_for(tmp_path, grid=GRID, metric="pnl", jobs=1):
    (tmp_path / "c.toml").write_text("")
    if not (tmp_path / "market").exists():
        write_market(tmp_path / "market", rows=301)
    return plan_of(tmp_path / "c.toml", [tmp_path / "market"], grid, metric, jobs)


def loaded_with(plan, prices, subject=FAKE):
    """Return the data of a plan with other prices."""

    def load_data(setup, paths):
        return subject.load_data(setup, paths)._replace(prices=prices)

    return Loaded(subject._replace(load_data=load_data), plan)


def test_windows_follow_each_other():
    assert windows_of((0, 100), 30, 20, 0) == [
        Window(0, 30, 50),
        Window(20, 50, 70),
        Window(40, 70, 90),
    ]
    assert windows_of((5, 55), 30, 20, 0) == [Window(5, 35, 55)]
    assert [w.first_ns for w in windows_of((0, 100), 10, 10, 35)] == [0, 35, 70]


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ((30, 20, 10), "--step: 10 ns, expected at least --out=20 ns"),
        ((60, 50, 0), "--in, --out: 110 ns together, expected at most the 100 ns"),
        ((0, 50, 0), "--in: 0 ns, expected more than 0"),
        ((10, 0, 0), "--out: 0 ns, expected more than 0"),
    ],
)
def test_bad_windows(lengths, message):
    with pytest.raises(UsageError, match=message):
        windows_of((0, 100), *lengths)


def test_the_best_in_sample_is_judged_out_of_sample(tmp_path):
    plan = plan_for(tmp_path)
    loaded = Loaded(FAKE, plan)
    windows = windows_of(FAKE.span_of(loaded.any_data()), 100 * S, 50 * S, 0)
    steps = walk_forward(plan, loaded, windows)
    assert len(steps) == 4
    for step in steps:
        in_sample = [
            measure(loaded.result_of(one, (step.window.first_ns, step.window.middle_ns))).total.pnl
            for one in plan.combinations
        ]
        assert step.chosen == in_sample.index(max(in_sample))
        states = step.result.states
        assert step.window.middle_ns <= states["ts_ns"][0]
        assert states["ts_ns"][-1] < step.window.end_ns
        assert len(states) == 50
    joined = walking.join(steps).total
    parts = [measure(step.result).total for step in steps]
    assert Fraction(joined.pnl) == sum(Fraction(part.pnl) for part in parts)
    assert joined.fills == sum(part.fills for part in parts)
    assert len({step.chosen for step in steps}) > 1


def test_what_comes_later_changes_no_choice(tmp_path):
    """Replace everything from a window's out-of-sample start on: all choices up to it stay."""
    plan = plan_for(tmp_path)
    loaded = Loaded(FAKE, plan)
    data = loaded.any_data()
    windows = windows_of(FAKE.span_of(data), 100 * S, 50 * S, 0)
    before = walk_forward(plan, loaded, windows)
    changed = 0
    for row, window in enumerate(windows):
        other = np.where(data.ts_ns >= window.middle_ns, data.prices[::-1] + 777, data.prices)
        after = walk_forward(plan, loaded_with(plan, other), windows)
        assert [s.chosen for s in after[: row + 1]] == [s.chosen for s in before[: row + 1]]
        for old, new in zip(before[:row], after[:row], strict=True):
            assert old.result.fills.tobytes() == new.result.fills.tobytes()
            assert old.result.states.tobytes() == new.result.states.tobytes()
        changed += before[row].result.fills.tobytes() != after[row].result.fills.tobytes()
        changed += [s.chosen for s in after] != [s.chosen for s in before]
    assert changed >= len(windows)  # the replacement matters where it may


def test_a_planted_leak_is_seen(tmp_path):
    """If in-sample runs got the whole data, the test above would fail."""
    plan = plan_for(tmp_path)
    leaky = FAKE._replace(cut=lambda setup, data, first, end: data)
    loaded = Loaded(leaky, plan)
    data = loaded.any_data()
    windows = windows_of(FAKE.span_of(data), 100 * S, 50 * S, 0)
    before = [step.chosen for step in walk_forward(plan, loaded, windows)]
    other = np.where(data.ts_ns >= windows[0].middle_ns, data.prices[::-1] + 777, data.prices)
    after = walk_forward(plan, loaded_with(plan, other, leaky), windows)
    assert [step.chosen for step in after] != before


def test_the_command_reports_what_is_out_of_sample(tmp_path, capsys):
    plan = plan_for(tmp_path, jobs=2)
    assert run_walk_forward(plan, FAKE, (100 * S, 70 * S, 0), tmp_path / "out", False) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[0].split()[:4] == ["window", "out_from_s", "edge", "lookback"]
    assert "2 windows, 9 combinations, chosen by pnl in sample" in printed
    assert "the last 60 s of the data fill no window" in printed
    found = json.loads((tmp_path / "out" / walking.FILE_NAME).read_text())
    assert [window["middle_ns"] for window in found["windows"]] == [100 * S, 170 * S]
    assert found["joined"]["total"]["fills"] == sum(w["figures"]["fills"] for w in found["windows"])
    again = tmp_path / "again"
    run_walk_forward(plan._replace(jobs=1), FAKE, (100 * S, 70 * S, 0), again, True)
    assert json.loads(capsys.readouterr().out) == found


def test_windows_without_a_choice_and_failures_are_told(tmp_path, capsys):
    plan = plan_for(tmp_path, grid=["edge=900,x"], metric="win_rate")
    assert run_walk_forward(plan, FAKE, (100 * S, 70 * S, 0), tmp_path / "out", False) == 1
    told = capsys.readouterr().err
    assert told.count("no combination has a win_rate in sample") == 2
    assert told.count("failed in sample: edge=x: ") == 2


def test_a_grid_without_a_valid_combination_is_refused(tmp_path):
    plan = plan_for(tmp_path, grid=["egde=1,2"])
    with pytest.raises(UsageError, match="'egde', expected one of edge"):
        run_walk_forward(plan, FAKE, (100 * S, 70 * S, 0), tmp_path / "out", False)

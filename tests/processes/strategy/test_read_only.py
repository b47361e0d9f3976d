"""Parameters are read only: every way of writing to them is found before anything runs."""

import pytest
from numba import njit

from common.errors import ConfigError
from processes.strategy import api
from processes.strategy.api import strategy
from processes.strategy.read_only import find_write

from tests.processes.strategy import test_read_only as own


@njit
def give(target, value):
    target["x"] = value


def same(record):
    return record


def count_down(record, n, is_writing):
    if n > 0:
        count_down(record, n - 1, is_writing)
    elif is_writing:
        record["x"] += 1


def look_again(record, n):
    return look_again(record, n - 1) if n > 0 else record["x"]


class Writing:
    def plain(s, p, d, i):
        p["x"] = 2

    def in_place(s, p, d, i):
        p["x"] += 1

    def another_name(s, p, d, i):
        q = s
        for _ in range(2):
            q["x"] = 2
            q = p

    def handed_on(s, p, d, i):
        give(p, s["x"])

    def handed_on_by_name(s, p, d, i):
        give(value=3, target=p)

    def of_a_module(s, p, d, i):
        own.give(p, 3)

    def given_back(s, p, d, i):
        same(p)["x"] = 2

    def deep(s, p, d, i):
        count_down(p, 3, True)

    def in_a_tuple(s, p, d, i):
        pair = (s, p)
        pair[1]["x"] = 2

    def in_a_loop(s, p, d, i):
        for record in (s, p):
            record["x"] = 2

    def in_a_closure(s, p, d, i):
        def write(record):
            record["x"] = 2

        write(p)


class Reading:
    def plain(s, p, d, i):
        s["x"] = p["x"]

    def value_in_place(s, p, d, i):
        x = p["x"]
        x += 1
        s["x"] = x

    def as_an_index(s, p, d, i):
        row = s["rows"][p["x"]]
        row[p["x"]] = p["x"]

    def handed_on(s, p, d, i):
        give(s, p["x"])

    def given_back(s, p, d, i):
        s["x"] = same(p)["x"] + same(s)["x"]

    def deep(s, p, d, i):
        s["x"] = look_again(p, 3)

    def in_a_tuple(s, p, d, i):
        pair = (s, p)
        s["x"] = pair[1]["x"]

    def in_a_comprehension(s, p, d, i):
        s["x"] = sum([p["x"] for _ in range(3)])


CASES = [
    pytest.param(function, kind is Writing, id=f"{kind.__name__} {name}")
    for kind in (Writing, Reading)
    for name, function in vars(kind).items()
    if callable(function)
]


@pytest.mark.parametrize(("hook", "is_writing"), CASES)
def test_what_is_found_is_what_happens(hook, is_writing, monkeypatch):
    """A dict is the naive twin of the parameters: the hook is run, and it is looked at after."""
    found = find_write(hook, 1)
    monkeypatch.setattr(own, "give", getattr(give, "py_func", give))
    params = {"x": 1}
    hook({"x": 0, "rows": [[0, 0], [0, 0]]}, params, None, 0)
    assert (params != {"x": 1}) == is_writing
    assert bool(found) == is_writing
    assert not is_writing or found.startswith(__file__)


def test_a_call_in_a_branch_that_is_not_taken_counts():
    assert find_write(lambda s, p, d, i: count_down(p, 3, False), 1)


def test_a_strategy_that_writes_to_its_parameters_is_refused():
    with pytest.raises(
        TypeError,
        match=r"Eager\.on_book: parameters are written to at .*test_read_only\.py:\d+, expected to"
        " be read only; keep what changes in the state",
    ):

        @strategy(params={"x": "<f8"}, state={})
        class Eager:
            def on_book(s, p, d, i):
                p["x"] *= 0.5


def test_a_users_strategy_that_does_is_a_config_error(tmp_path):
    (tmp_path / "eager_strategy.py").write_text(
        "from processes.strategy.api import strategy\n\n\n"
        '@strategy(params={"x": "<i8"}, state={})\n'
        "class Eager:\n"
        "    def on_timer(s, p, d, timer_id):\n"
        '        p["x"] += 1\n'
    )
    with pytest.raises(ConfigError, match=r"on_timer: parameters are written to at .*\.py:7"):
        api.load_strategy("eager_strategy:Eager", tmp_path)

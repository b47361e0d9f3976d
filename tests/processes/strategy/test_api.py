import os
import shutil
import subprocess
import sys
from types import FunctionType

import numpy as np
import pytest

from common import kernel_cache
from common.errors import ConfigError
from processes.strategy import api
from processes.strategy.api import strategy

from tests.processes.strategy.harness import Harness
from tests.support import ROOT


def define(step):
    if step == 1:

        @strategy(params={}, state={"x": "<i8"})
        class First:
            def on_book(s, p, d, i):
                s["x"] += 1

        return First

    @strategy(params={}, state={"x": "<i8"})
    class Second:
        def on_book(s, p, d, i):
            s["x"] -= 1

    return Second


def test_two_strategies_of_equal_layout_stay_apart():
    results = []
    for step in (1, 2):
        h = Harness(define(step), {})
        h.book(0, [(1, 1)], [(2, 1)])
        h.turn()
        results.append(int(h.block["state"][0][0]["x"]))
    assert results == [1, -1]


def test_a_function_that_is_no_hook_is_refused():
    with pytest.raises(TypeError, match=r"Typo\.on_bok: expected one of on_start"):

        @strategy(params={}, state={})
        class Typo:
            def on_bok(s, p, d, i):
                pass


def test_a_hook_with_other_arguments_is_refused():
    with pytest.raises(TypeError, match=r"on_book: expected arguments \(s, p, d, i\)"):

        @strategy(params={}, state={})
        class Short:
            def on_book(s, p, d):
                pass


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"qty_steps": 1, "period_ns": 2}, "found .*, expected .*slippage_steps"),
        (
            {"qty_steps": 1.5, "period_ns": 2, "slippage_steps": 0},
            "qty_steps: found 1.5, expected an integer",
        ),
        ({"qty_steps": True, "period_ns": 2, "slippage_steps": 0}, "found True"),
    ],
)
def test_params_are_checked(values, message):
    cls = api.load_strategy("processes.strategy.ping_pong:PingPong")
    with pytest.raises(ConfigError, match=message):
        api.params_of(cls, values)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ticks", 256, "params.ticks: found 256, expected 1 to 255"),
        ("ticks", 0, "params.ticks: found 0, expected 1 to 255"),
        ("slippage_bps", -0.1, r"slippage_bps: found -0\.1, expected 0\.0 to 1000\.0"),
        ("slippage_bps", float("nan"), "slippage_bps: found nan"),
        ("pause_ns", 10**30, "pause_ns: found 1000"),
    ],
)
def test_params_are_held_to_their_range(name, value, message):
    cls = api.load_strategy("processes.strategy.momentum:Momentum")
    good = {
        "ticks": 255, "threshold_bps": 1, "taker_fee_bps": 5.0, "slippage_bps": 0.0,
        "clip_notional": 1.0, "pause_ns": 0, "stale_ns_max": 1,
    }  # fmt: skip
    assert api.params_of(cls, good)["ticks"] == 255
    with pytest.raises(ConfigError, match=message):
        api.params_of(cls, {**good, name: value})


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, float("inf")])
def test_params_without_a_range_are_held_to_their_type(value):
    cls = strategy(params={"x": "<i8", "y": "<f8"}, state={})(type("Bare", (), {}))
    values = {"x": 1, "y": value} if isinstance(value, float) else {"x": value, "y": 0.0}
    with pytest.raises(ConfigError, match="expected -"):
        api.params_of(cls, values)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("processes.strategy.ping_pong", "expected module:Class"),
        ("no_such_module:X", "cannot be imported"),
        ("processes.strategy.ping_pong:None_", "cannot be imported"),
        ("processes.strategy.desk:Desk", "is not a strategy"),
    ],
)
def test_what_cannot_be_loaded_is_named(target, message):
    with pytest.raises(ConfigError, match=message):
        api.load_strategy(target)


USER_STRATEGY = """
from processes.strategy.api import strategy
from user_helper import step

@strategy(params={}, state={"x": "<i8"})
class Mine:
    def on_book(s, p, d, i):
        s["x"] += step()
"""
RUN = """
import sys
sys.path.insert(0, %r)
from common import kernel_cache
kernel_cache.configure()
from processes.strategy import api
from tests.processes.strategy.harness import Harness
cls = api.load_strategy("user_strategy:Mine", __import__("pathlib").Path(%r))
h = Harness(cls, {})
h.book(0, [(1, 1)], [(2, 1)])
h.turn()
print(int(h.block["state"][0][0]["x"]), cls.STATE.names[-1])
"""


def run_user_strategy(folder, **environment):
    done = subprocess.run(
        [sys.executable, "-c", RUN % (str(ROOT), str(folder))],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    value, tag = done.stdout.split()
    return int(value), tag


def test_an_edit_in_a_users_helper_is_seen_and_a_revert_too(tmp_path):
    """Three processes in turn, one cache: a stale engine would show the first result again."""
    (tmp_path / "user_strategy.py").write_text(USER_STRATEGY)
    helper = tmp_path / "user_helper.py"
    text = "from numba import njit\n\n@njit\ndef step():\n    return {}\n"
    results = []
    for number in (1, 7, 1):
        helper.write_text(text.format(number))
        results.append(run_user_strategy(tmp_path))
    assert [value for value, _tag in results] == [1, 7, 1]
    assert results[0] == results[2] != results[1]


def test_state_record_is_named_after_its_sources():
    cls = api.load_strategy("processes.strategy.market_maker:MarketMaker")
    assert cls.STATE.names[-1].startswith("processes_strategy_market_maker_MarketMaker_")
    assert cls.STATE[cls.STATE.names[-1]] == np.int64


def test_sources_are_the_same_wherever_they_lie(tmp_path, monkeypatch):
    """A clone at another path, or an installed package, must give the same state layout."""
    target = "processes.strategy.market_maker:MarketMaker"
    tag = api.load_strategy(target).STATE.names[-1]
    for package in kernel_cache.PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / "a clone" / package)
    code = f"from processes.strategy.api import *; print(load_strategy({target!r}).STATE.names[-1])"
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "a clone",
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert found.stdout.strip() == tag, found.stderr
    hooks = [f for f in vars(api.load_strategy(target)).values() if isinstance(f, FunctionType)]
    before = api.source_hash(hooks)
    monkeypatch.setattr(api, "_INSTALLED", (*api._INSTALLED, str(ROOT)))
    assert api.source_hash(hooks) == before and tag.endswith(before)

"""No kernel is left to be compiled after the start: warm-up reaches whatever Python code calls."""

import os
import types
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from numba.core.dispatcher import Dispatcher

from processes.config import load_config
from processes.supervisor import warm

from tests.support import ROOT

NOT_IN_THE_LOOP = (
    "processes.supervisor", "processes.inspector", "processes.replay", "processes.backtest",
    "processes.study", "processes.report", "processes.convert", "shm.observer", "shm.recorded",
)  # fmt: skip
# Called by tools and by nobody else.
TOOLS_ONLY = {"shm.turn Twin.read"}


def functions_of(module: ModuleType) -> Iterator[types.FunctionType]:
    """Yield the module's own plain functions and methods, those of strategies excepted."""
    for value in list(vars(module).values()):
        if isinstance(value, types.FunctionType):
            yield value
        elif isinstance(value, type) and not hasattr(value, "STATE"):
            for member in vars(value).values():
                member = getattr(member, "__func__", getattr(member, "fget", member))
                if isinstance(member, types.FunctionType):
                    yield member


def names_in(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from names_in(constant)


def test_every_kernel_that_python_calls_is_compiled_before_the_fork(tmp_path: Any) -> None:
    text = (ROOT / "configs" / "demo.toml").read_text()
    (tmp_path / "demo.toml").write_text(text.replace("~/.local", str(tmp_path)))
    for name in ("instruments.toml",):
        (tmp_path / name).write_text((ROOT / "configs" / name).read_text())
    loaded = load_config(tmp_path / "demo.toml")
    warm.make_warm_up(loaded.plan, loaded.config, loaded.instruments)(lambda *step: None)
    cold = set()
    for module in warm.own_modules():
        if module.__name__.startswith(NOT_IN_THE_LOOP):
            continue
        for function in functions_of(module):
            where = f"{module.__name__} {function.__qualname__}"
            if function.__module__ != module.__name__ or where in TOOLS_ONLY:
                continue
            for name in names_in(function.__code__):
                kernel = function.__globals__.get(name)
                if isinstance(kernel, Dispatcher) and not kernel.signatures:
                    cold.add(f"{where}: {name}")
    assert not cold, "warm_up() must call these:\n" + "\n".join(sorted(cold))


def test_the_self_test_finds_a_wrong_kernel(monkeypatch: Any) -> None:
    import pytest

    from common import fixed_point
    from common.errors import BugError

    warm.self_test()
    monkeypatch.setattr(fixed_point, "multiply_checked", lambda a, b: (a * b + 1, False))
    with pytest.raises(BugError, match=r"multiply_checked: '3 \* 5' gives 16, expected 15"):
        warm.self_test()


def test_the_second_start_does_not_compile(tmp_path: Any, monkeypatch: Any) -> None:
    calls: list[str] = []
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    steps = [("one", lambda: calls.append(str(os.getpid())))]
    told: list[tuple[str, int, int]] = []
    stamp = warm.stamp_path(None, [])
    assert stamp is not None and stamp.parent == tmp_path
    warm.compile_apart(steps, stamp, lambda *step: told.append(step))
    assert stamp.exists() and calls == []  # another process did it
    assert told == [("done", 1, 1)]
    told.clear()
    warm.compile_apart(steps, stamp, lambda *step: told.append(step))
    assert told == []

"""A turn under the debugger: the kernels run uncompiled, and stop at one record.

Numba can only be switched off before it is imported, so a process that has it begins again.
"""

import ast
import inspect
import os
import pdb
import sys
import textwrap
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from common.enums import TurnKind

SWITCH = "NUMBA_DISABLE_JIT"


def switch_compiler_off() -> None:
    """See that this process runs kernels uncompiled; it begins again if numba was imported."""
    if os.environ.get(SWITCH) == "1":
        return
    os.environ[SWITCH] = "1"
    if "numba" in sys.modules:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


class Place(NamedTuple):
    """Where to stop: in turn `turn`, at `sequence` of input `k`; k < 0: at its beginning."""

    turn: int
    k: int = -1
    sequence: int = -1


def _line_of_loop(function: Callable) -> tuple[str, int]:
    """Return file and line inside the function's first loop where the record is at hand."""
    lines, first = inspect.getsourcelines(function)
    body = ast.parse(textwrap.dedent("".join(lines))).body[0]
    loop = next(node for node in ast.walk(body) if isinstance(node, ast.For | ast.While))
    return inspect.getsourcefile(function) or "", first + loop.body[1].lineno - 1


def run_turn_under(debugger: pdb.Pdb, machine: Any, logged: np.void, place: Place) -> None:
    """Take one logged turn, and stop where `place` says.

    Args:
        debugger: who stops; its standard input is the user's.
        machine: Machine of turns.py, changed.
        logged: TURN record of the turn.
        place: where to stop.
    """
    # Imported here: `switch_compiler_off` must come before whatever imports numba.
    from processes.replay.turns import take_turn
    from processes.strategy import engine

    if place.k >= 0:
        function = engine.take_reports if place.k == 0 else engine.take_market
        slots = machine.inputs[0] if place.k == 0 else machine.inputs[place.k][0]
        name = "reports" if place.k == 0 else "words"
        file, line = _line_of_loop(function)
        condition = f"sequence == {place.sequence} and id({name}) == {id(slots)}"
    else:
        is_attach = logged["kind"] == TurnKind.ATTACH
        kernel = engine.attach if is_attach else engine.run_turn
        file, line = _line_of_body(kernel)
        condition = "True"
    error = debugger.set_break(file, line, temporary=True, cond=condition)
    assert not error, error
    debugger.rcLines.append("continue")  # at the first line of all, on to the breakpoint
    debugger.runcall(take_turn, machine, logged)


def _line_of_body(function: Callable) -> tuple[str, int]:
    """Return file and line of the function's first statement behind its docstring."""
    lines, first = inspect.getsourcelines(function)
    body = ast.parse(textwrap.dedent("".join(lines))).body[0]
    assert isinstance(body, ast.FunctionDef)
    return inspect.getsourcefile(function) or "", first + body.body[1].lineno - 1

"""What a function writes to one of its arguments, found before anything is compiled.

Parameters of a strategy are in no checkpoint of its state: a hook that changed them would decide
otherwise in a replay that begins there. So they are read only, and that is looked up when the
strategy is registered, in numba's own reading of its hooks; a running one pays nothing for it.

Not here: what `numba.extending.overload` puts in a function's place.
"""

from collections.abc import Callable
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

from numba.core import ir
from numba.core.compiler import run_frontend

_PASSES_ON = ("cast", "getitem", "getiter", "iternext", "pair_first", "exhaust_iter")
_WRITES = ir.SetItem | ir.StaticSetItem | ir.SetAttr


class Use(NamedTuple):
    """What becomes of an argument: where it is written to, "" nowhere; and if it is returned."""

    written_at: str
    is_returned: bool


def find_write(function: Callable, position: int) -> str:
    """Return file:line where a function writes to an argument, itself or by handing it on.

    Args:
        function: compiled by numba or not.
        position: of the argument.

    Returns:
        The first such place, "" if there is none.
    """
    return _use_of(function, position, {}).written_at


def _use_of(function: Any, position: int, known: dict[tuple[Any, int], Use]) -> Use:
    function = getattr(function, "py_func", function)
    if not isinstance(function, FunctionType) or position >= function.__code__.co_argcount:
        return Use("", False)
    key = function, position
    if key not in known:
        known[key] = Use("", False)  # while it is looked at: it may call itself
        known[key] = _Reading(function, known).use_of(function.__code__.co_varnames[position])
    return known[key]


class _Reading:
    """One function as numba reads it."""

    def __init__(self, function: FunctionType, known: dict[tuple[Any, int], Use]) -> None:
        has_closures = any(isinstance(one, CodeType) for one in function.__code__.co_consts)
        self._read = run_frontend(function, inline_closures=has_closures)
        self._known = known
        self._file = function.__code__.co_filename
        self._lines = [line for block in self._read.blocks.values() for line in block.body]

    def use_of(self, argument: str) -> Use:
        """Follow an argument through all names it is given."""
        names: set[str] = set()
        while True:
            count = len(names)
            for line in self._lines:
                if isinstance(line, ir.Assign) and self._is_of(line.value, argument, names):
                    names.add(line.target.name)
            if len(names) == count:
                break
        written_at, is_returned = "", False
        for line in self._lines:
            if isinstance(line, ir.Return):
                is_returned |= line.value.name in names
                continue
            if isinstance(line, _WRITES) and line.target.name in names:
                written_at = written_at or f"{self._file}:{line.loc.line}"
            elif isinstance(line, ir.Assign) and _op_of(line.value) == "call":
                for use in self._uses(line.value, names):
                    written_at = written_at or use.written_at
        return Use(written_at, is_returned)

    def _is_of(self, value: Any, argument: str, names: set[str]) -> bool:
        """Return True if a value is the argument, or holds it."""
        if isinstance(value, ir.Arg):
            return bool(value.name == argument)
        if isinstance(value, ir.Var):
            return value.name in names
        op = _op_of(value)
        if op == "call":
            return any(use.is_returned for use in self._uses(value, names))
        if op == "build_tuple":
            return any(item.name in names for item in value.items)
        if op == "getitem" and isinstance(self._meaning_of(value.index), str):
            return False  # a field: a number
        return op in _PASSES_ON and value.value.name in names

    def _uses(self, call: Any, names: set[str]) -> list[Use]:
        """Return what a call does with the arguments that are among `names`."""
        callee = self._meaning_of(call.func)
        code = getattr(getattr(callee, "py_func", callee), "__code__", None)
        given = list(enumerate(call.args))
        given += [(code.co_varnames.index(name), value) for name, value in call.kws if code]
        positions = [position for position, value in given if value.name in names]
        return [_use_of(callee, position, self._known) for position in positions]

    def _meaning_of(self, name: Any) -> Any:
        """Return what a name stands for if that is written in the source, else None."""
        try:
            value = self._read.get_definition(name)
        except KeyError:
            return None  # given in several places
        if isinstance(value, ir.Global | ir.FreeVar | ir.Const):
            return value.value
        if _op_of(value) == "getattr":
            owner = self._meaning_of(value.value)
            return getattr(owner, value.attr, None) if isinstance(owner, ModuleType) else None
        return None


def _op_of(value: Any) -> str:
    return str(value.op) if isinstance(value, ir.Expr) else ""

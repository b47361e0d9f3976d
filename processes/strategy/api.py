"""The strategy API: `@strategy(params=..., state=...)` on a class body of hooks.

The engine is one module-level kernel that calls generic hooks; `overload` picks the implementation
by the record type of `s`. The state record's last field carries the module, the class and a hash of
every file that the hooks reach by name: without it two strategies of equal layout would share one
compiled engine, and an edit would meet a stale cached one.
"""

import hashlib
import importlib
import inspect
import os
import re
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, ModuleType

import numba
import numpy as np
from numba.extending import overload

from common import kernel_cache
from common.errors import ConfigError
from processes.strategy.read_only import find_write

HOOKS = {
    "on_start": "s, p, d",
    "on_book": "s, p, d, i",
    "on_trade": "s, p, d, i, trade",
    "on_report": "s, p, d, i, report",
    "on_timer": "s, p, d, timer_id",
    "on_control": "s, p, d, control",
    "on_gap": "s, p, d, i",
}
_WIDEST = {
    "<i8": (-(2**63), 2**63 - 1),
    "<f8": (-sys.float_info.max, sys.float_info.max),
}
_INSTALLED = tuple(sysconfig.get_paths()[key] for key in ("stdlib", "purelib", "platlib"))
_OWN = tuple(f"{kernel_cache.ROOT / package}{os.sep}" for package in kernel_cache.PACKAGES)
_PYTHON: dict[tuple[str, str], Callable] = {}


def _generic(hook: str) -> Callable:
    def call(*args):
        """Run the hook uncompiled: what the engine calls when numba is switched off."""
        return _PYTHON[hook, args[0].dtype.names[-1]](*args)

    call.__name__ = hook
    return call


on_start = _generic("on_start")
on_book = _generic("on_book")
on_trade = _generic("on_trade")
on_report = _generic("on_report")
on_timer = _generic("on_timer")
on_control = _generic("on_control")
on_gap = _generic("on_gap")
_GENERIC = {hook: globals()[hook] for hook in HOOKS}


def reachable_files(functions: list[Callable]) -> list[Path]:
    """Return the source files that the functions reach by name, others' packages left out."""
    files: set[Path] = set()
    seen: set[int] = set()
    queue: list[object] = list(functions)
    while queue:
        item = queue.pop()
        item = getattr(item, "py_func", item)
        if id(item) in seen or not isinstance(item, FunctionType | ModuleType | type):
            continue
        seen.add(id(item))
        try:
            file = inspect.getfile(item)
        except TypeError:  # a builtin module
            continue
        if file.startswith(_INSTALLED) and not file.startswith(_OWN):
            continue
        files.add(Path(file))
        names = item.__globals__ if isinstance(item, FunctionType) else vars(item)
        used = item.__code__.co_names if isinstance(item, FunctionType) else ()
        queue += [names[name] for name in used if name in names]
        for name in used:  # module.function: the attribute's name is among the same co_names
            if isinstance(names.get(name), ModuleType):
                queue += [vars(names[name])[attr] for attr in used if attr in vars(names[name])]
    return sorted(files)


def source_hash(functions: list[Callable]) -> str:
    """Return 16 hex digits over names and contents of all reachable files, wherever they lie."""
    digest = hashlib.sha256()
    files = [(path.name.encode(), path.read_bytes()) for path in reachable_files(functions)]
    for name, content in sorted(files):
        digest.update(name + b"\0" + content + b"\0")
    return digest.hexdigest()[:16]


def strategy(
    *, params: dict[str, str | tuple[str, float, float]], state: dict[str, object]
) -> Callable[[type], type]:
    """Register a class body of hooks as a strategy.

    Args:
        params: {name: "<i8" or "<f8"}, or {name: (format, least, most)}; the values come from the
            config table strategy.params.
        state: {name: format or (format, shape)}; starts as zeros, lives in the state block.

    Returns:
        The decorator; it adds STATE and PARAMS (dtypes) and RANGES (of PARAMS) to the class.

    Raises:
        TypeError: a public function of the class that is no hook, or a hook with other arguments,
            or one that writes to its parameters.
    """

    def register(cls: type) -> type:
        hooks = {name: f for name, f in vars(cls).items() if isinstance(f, FunctionType)}
        for name, function in hooks.items():
            if name not in HOOKS:
                raise TypeError(f"{cls.__qualname__}.{name}: expected one of {', '.join(HOOKS)}")
            expected = [argument.strip() for argument in HOOKS[name].split(",")]
            if len(inspect.signature(function).parameters) != len(expected):
                raise TypeError(f"{cls.__qualname__}.{name}: expected arguments ({HOOKS[name]})")
            if written_at := find_write(function, expected.index("p")):
                raise TypeError(
                    f"{cls.__qualname__}.{name}: parameters are written to at {written_at},"
                    " expected to be read only; keep what changes in the state"
                )
        tag = f"{cls.__module__}_{cls.__qualname__}_{source_hash(list(hooks.values()))}"
        tag = re.sub(r"\W", "_", tag)
        fields = [
            (name, *kind) if isinstance(kind, tuple) else (name, kind)
            for name, kind in state.items()
        ]
        cls.STATE = np.dtype([*fields, (tag, "<i8")], align=True)  # type: ignore[attr-defined]
        rows = {
            name: kind if isinstance(kind, tuple) else (kind, *_WIDEST[kind])
            for name, kind in params.items()
        }
        formats = [(name, row[0]) for name, row in rows.items()]
        cls.PARAMS = np.dtype(formats, align=True)  # type: ignore[attr-defined]
        cls.RANGES = {name: row[1:] for name, row in rows.items()}  # type: ignore[attr-defined]
        record = numba.from_dtype(cls.STATE)  # type: ignore[attr-defined]
        for hook, args in HOOKS.items():
            implementation = hooks.get(hook) or eval(f"lambda {args}: None")
            _PYTHON[hook, tag] = implementation
            space = {"record": record, "implementation": implementation}
            exec(f"def pick({args}):\n    return implementation if s == record else None", space)
            overload(_GENERIC[hook], jit_options={"_nrt": True}, strict=False)(space["pick"])
        return cls

    return register


def load_strategy(target: str, search_path: Path | None = None) -> type:
    """Import `module:Class`, the module also being looked for in `search_path`.

    Raises:
        ConfigError: no such module or class, or the class is not a strategy.
    """
    module_name, colon, class_name = target.partition(":")
    if not colon:
        raise ConfigError(f"strategy: module is {target!r}, expected module:Class")
    if search_path is not None and str(search_path) not in sys.path:
        sys.path.insert(0, str(search_path))
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, TypeError) as error:
        raise ConfigError(f"strategy: {target!r} cannot be imported: {error}") from None
    if not hasattr(found, "STATE"):
        raise ConfigError(f"strategy: {target!r} is not a strategy, expected @strategy on it")
    return found


def params_of(cls: type, values: dict[str, int | float]) -> np.ndarray:
    """Return PARAMS[1] filled from the config.

    Raises:
        ConfigError: a missing or unknown parameter, a fraction for an integer one, or a value out
            of its range.
    """
    dtype: np.dtype = cls.PARAMS  # type: ignore[attr-defined]
    if set(values) != set(dtype.names or ()):
        raise ConfigError(
            f"strategy.params: found {sorted(values)}, expected {sorted(dtype.names or ())}"
        )
    record = np.zeros(1, dtype)
    for name, value in values.items():
        is_integer = dtype[name].kind == "i"
        if isinstance(value, bool) or (is_integer and not isinstance(value, int)):
            raise ConfigError(f"strategy.params.{name}: found {value!r}, expected an integer")
        least, most = cls.RANGES[name]  # type: ignore[attr-defined]
        if not least <= value <= most:
            raise ConfigError(f"strategy.params.{name}: found {value}, expected {least} to {most}")
        record[name] = value
    return record

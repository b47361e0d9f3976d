"""The house rules that a program can check; each message says what to do instead."""

import ast
import re
from pathlib import Path

import pytest

from tests.support import ROOT

LAYERS = {"common": {"common"}, "shm": {"common", "shm"}, "processes": {"common", "shm"}}
COMPOSITION_ROOTS = {"supervisor", "replay", "backtest", "study", "inspector", "convert"}
CLI_FILES = {"processes/cli.py"}
CLI_PACKAGES = {"supervisor", "inspector", "replay", "backtest", "study", "convert"}
LINES_MAX = 600
FUNCTION_LINES_MAX = 70
TIME_CALLS = {"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"}


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def imports(path: Path) -> list[tuple[int, str]]:
    found = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return found


def check(errors: list[str]) -> None:
    assert not errors, "\n" + "\n".join(errors)


def shared_modules() -> set[str]:
    """Modules directly in processes/ that every process package may import."""
    return {p.stem for p in (ROOT / "processes").glob("*.py")} - {"__init__", "cli"}


def test_imports_point_one_way():
    errors = []
    for folder, allowed in LAYERS.items():
        for path in sources(folder):
            parts = path.relative_to(ROOT).parts
            own = parts[1] if len(parts) > 2 else ""
            root = own in COMPOSITION_ROOTS or name_of(path) in CLI_FILES or own == ""
            for line, name in imports(path):
                top, _, rest = name.partition(".")
                if top not in LAYERS or top in allowed:
                    continue
                if folder == "processes" and (
                    root or rest.split(".")[0] in {own} | shared_modules()
                ):
                    continue
                errors.append(f"{name_of(path)}:{line}: {own or folder} must not import {name}")
    check(errors)


def test_only_the_clock_reads_time():
    errors = []
    for path in sources("common", "shm", "processes"):
        if name_of(path) == "common/clock.py":
            continue
        for line, name in imports(path):
            if name.split(".")[0] in {"time", "datetime"}:
                errors.append(f"{name_of(path)}:{line}: imports {name}; use common.clock")
    check(errors)


def test_only_tools_print():
    errors = []
    for path in sources("common", "shm", "processes"):
        package = path.relative_to(ROOT).parts[1]
        if package in CLI_PACKAGES or name_of(path) in CLI_FILES or path.stem == "__main__":
            continue
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print":
                errors.append(f"{name_of(path)}:{node.lineno}: print; use common.log.event")
    check(errors)


def test_only_the_runner_swallows_everything():
    """Catching everything to clean up is fine when the handler raises it again."""
    errors = []
    for path in sources("common", "shm", "processes"):
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.ExceptHandler) or name_of(path) == "processes/runner.py":
                continue
            is_wide = node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"}
            last = node.body[-1]
            if is_wide and not (isinstance(last, ast.Raise) and last.exc is None):
                errors.append(f"{name_of(path)}:{node.lineno}: name the exceptions you expect")
    check(errors)


def test_intrinsics_live_in_shm():
    errors = []
    for path in sources("common", "shm", "processes"):
        if name_of(path) in {"shm/atomics.py", "shm/bits.py"}:
            continue
        for line, name in imports(path):
            if name.endswith(".intrinsic") or name.startswith("llvmlite"):
                errors.append(f"{name_of(path)}:{line}: intrinsics belong in shm/atomics.py")
    check(errors)


def test_files_and_functions_stay_readable():
    errors = []
    for path in sources("common", "shm", "processes"):
        lines = len(path.read_text().splitlines())
        if lines > LINES_MAX:
            errors.append(f"{name_of(path)}: {lines} lines, at most {LINES_MAX}: split the idea")
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[0]
                start = node.lineno
                if isinstance(body, ast.Expr) and isinstance(body.value, ast.Constant):
                    start = body.end_lineno or start  # the docstring is not the function's length
                length = (node.end_lineno or 0) - start
                if length > FUNCTION_LINES_MAX:
                    errors.append(
                        f"{name_of(path)}:{node.lineno}: {node.name} has {length} lines,"
                        f" at most {FUNCTION_LINES_MAX}: one job per function"
                    )
    check(errors)


def test_every_module_says_what_it_is_for():
    errors = [
        f"{name_of(path)}: no module docstring; one sentence of purpose"
        for path in sources("common", "shm", "processes", "bench")
        if not ast.get_docstring(tree(path))
    ]
    check(errors)


def test_package_inits_hold_a_docstring_and_nothing_else():
    check(
        [
            f"{name_of(path)}: holds code; import things from where they live"
            for path in sources("common", "shm", "processes")
            if path.name == "__init__.py" and len(tree(path).body) > 1
        ]
    )


@pytest.mark.parametrize(
    ("pattern", "instead"),
    [
        (r"\b(TODO|FIXME|XXX)\b", "finish it or leave it out"),
        (r"\bNotImplementedError\b", "finish it or leave it out"),
        (r"\bCERT_NONE\b|verify=False", "certificates are always verified"),
        (r"\bfastmath=True", "decisions must be the same on every machine"),
        (r"np\.uint64|\"<u8\"", "int64 everywhere"),
        (r"import \*", "name what you import"),
        (r"multiprocessing\.shared_memory", "shm/segment.py; its tracker unlinks others' segments"),
    ],
)
def test_banned_words(pattern, instead):
    errors = []
    for path in sources("common", "shm", "processes", "bench"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if re.search(pattern, line):
                errors.append(f"{name_of(path)}:{number}: {line.strip()!r}: {instead}")
    check(errors)


def test_kernels_index_fields_with_strings():
    """`record.field` compiles, but does not run uncompiled."""
    from common.records import LAYOUTS

    fields = {field for dtype in LAYOUTS.values() for field in dtype.names}
    errors = []
    for path in sources("shm", "processes"):
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.FunctionDef) or not any(
                "njit" in ast.unparse(decorator) for decorator in node.decorator_list
            ):
                continue
            for inner in ast.walk(node):
                if isinstance(inner, ast.Attribute) and inner.attr in fields - {"kind", "side"}:
                    if isinstance(inner.value, ast.Name | ast.Subscript):
                        errors.append(f'{name_of(path)}:{inner.lineno}: use ["{inner.attr}"]')
    check(errors)

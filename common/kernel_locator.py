"""Where numba keeps the kernels of one file: a folder named after all source that they can reach.

numba's own stamp covers the file that defines a kernel and not the files of the kernels it calls,
so an edit there would leave stale code in use. Here the folder's name is a hash over the file and
everything it imports from this project (or from its own folder), however deep: an edit recompiles
what can see it and nothing else, and a revert finds the old code again.

It also has numba name compiled functions by what their record arguments are. numba's own name of a
record type is a number counted in each process, so that two strategies compiled by two processes
may bear the same names, and one that is loaded behind the other calls the other's code.
"""

import ast
import hashlib
import os
from functools import cache
from pathlib import Path

from numba.core import types
from numba.core.caching import UserProvidedCacheLocator

from common.kernel_cache import ROOT


class ClosureLocator(UserProvidedCacheLocator):
    """Named in NUMBA_CACHE_LOCATOR_CLASSES by `kernel_cache.configure`."""

    def __init__(self, py_func: object, py_file: str) -> None:
        super().__init__(py_func, py_file)
        self._cache_path = os.path.join(os.environ["NUMBA_CACHE_DIR"], folder_name(Path(py_file)))


def record_name(record: types.Record) -> tuple[str, tuple[str]]:
    """Return what numba is to name a record type by: the same in every process."""
    return "Record", (hashlib.sha256(record.name.encode()).hexdigest()[:16],)


types.Record.mangling_args = property(record_name)  # type: ignore[assignment, method-assign]


@cache
def folder_name(path: Path) -> str:
    """Return `<package>.<module>-<hash of the import closure and of the file's place>`."""
    path = path.resolve()
    digest = hashlib.sha256(str(path).encode())
    for file in sorted(closure(path)):
        content = file.read_bytes()
        digest.update(f"{file.name} {len(content)}\n".encode() + content)
    return f"{path.parent.name}.{path.stem}-{digest.hexdigest()[:20]}"


def closure(path: Path) -> set[Path]:
    """Return the file and every file that it imports, directly or not."""
    found: set[Path] = set()
    queue = [path]
    while queue:
        file = queue.pop()
        if file not in found:
            found.add(file)
            queue += _imports(file, path.parent)
    return found


@cache
def _imports(file: Path, folder: Path) -> list[Path]:
    """Return the files that one file names in its import statements, wherever they stand in it."""
    found = []
    for node in ast.walk(ast.parse(file.read_bytes())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            for root in (ROOT, folder):
                target = root.joinpath(*name.split(".")).with_suffix(".py")
                if target.is_file():
                    found.append(target.resolve())
                    break
    return found

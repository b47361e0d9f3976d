"""Where compiled kernels go: the key, the modes, the clean-up."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from common import kernel_cache
from common.errors import UnavailableError
from common.kernel_locator import closure

from tests.support import ROOT

PROBE = """
import os, sys
from common import kernel_cache
from common.errors import TickringError
try:
    path = kernel_cache.configure()
except TickringError as error:
    print(f"{type(error).__name__}: {error}")
    sys.exit(error.exit_code)
assert "numba" not in sys.modules and "numpy" not in sys.modules
assert os.environ["NUMBA_CACHE_DIR"] == str(path)
print(path)
"""


def probe(cache: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA")}
    return subprocess.run(
        [sys.executable, "-c", PROBE],
        env=own | {"XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_directory_is_private_and_chosen_before_numba(tmp_path):
    found = probe(tmp_path)
    path = Path(found.stdout.strip())
    assert path.parent == tmp_path / "tickring", found.stdout + found.stderr
    for folder in (path, path.parent):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_the_key_changes_with_the_flag_and_the_cpu(tmp_path):
    paths = [
        probe(tmp_path).stdout,
        probe(tmp_path, NUMBA_BOUNDSCHECK="1").stdout,
        probe(tmp_path, NUMBA_CPU_NAME="generic").stdout,
    ]
    assert len(set(paths)) == len(paths), paths


def kernel_files(folder: Path, text: str) -> Path:
    """A caller, a callee of another file, and a file that neither reaches."""
    (folder / "callee.py").write_text(text)
    (folder / "other.py").write_text("x = 1\n")
    caller = folder / "caller.py"
    caller.write_text(
        "from numba import njit\nfrom callee import step\n\n\n"
        "@njit(cache=True)\ndef twice():\n    return 2 * step()\n"
    )
    return caller


CALL = """
import sys
from common import kernel_cache
kernel_cache.configure()
sys.path.insert(0, sys.argv[1])
from caller import twice
print(twice(), sum(twice.stats.cache_hits.values()))
"""
CALLEE = "from numba import njit\n\n\n@njit(cache=True)\ndef step():\n    return {}\n"


def call(folder: Path) -> str:
    own = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA")}
    done = subprocess.run(
        [sys.executable, "-c", CALL, str(folder)],
        env=own | {"XDG_CACHE_HOME": str(folder / "cache"), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_an_edit_in_a_callee_recompiles_and_a_revert_finds_the_old_code(tmp_path):
    kernel_files(tmp_path, CALLEE.format(1))
    assert call(tmp_path) == "2 0"
    assert call(tmp_path) == "2 1"
    (tmp_path / "callee.py").write_text(CALLEE.format(5))
    assert call(tmp_path) == "10 0"
    (tmp_path / "callee.py").write_text(CALLEE.format(1))
    (tmp_path / "other.py").write_text("x = 2\n")
    assert call(tmp_path) == "2 1"


def test_the_closure_follows_imports_and_nothing_else():
    found = {path.relative_to(ROOT).as_posix() for path in closure(ROOT / "shm" / "cursors.py")}
    assert {"shm/cursors.py", "shm/atomics.py", "shm/words.py", "common/clock.py"} <= found
    assert not any(name.startswith("processes/") for name in found)


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_a_directory_open_to_others_is_refused(tmp_path, mode):
    (tmp_path / "tickring").mkdir(mode=0o700)
    (tmp_path / "tickring").chmod(mode)
    found = probe(tmp_path)
    assert found.returncode == 69
    assert f"mode is {mode:04o}, expected 0700" in found.stdout


def test_a_file_or_a_link_in_its_place_is_refused(tmp_path):
    target = tmp_path / "target"
    target.mkdir(mode=0o700)
    (tmp_path / "tickring").symlink_to(target)
    assert "not a directory" in probe(tmp_path).stdout
    (tmp_path / "tickring").unlink()
    (tmp_path / "tickring").write_text("")
    assert probe(tmp_path).returncode == 69


def test_a_foreign_owner_is_refused(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    (tmp_path / "tickring").mkdir(mode=0o700)
    os.chown(tmp_path / "tickring", 12_345, 12_345)
    with pytest.raises(UnavailableError, match="owner is uid 12345"):
        kernel_cache.make_private(tmp_path / "tickring")


def test_old_generations_go_and_recent_ones_stay(tmp_path):
    base = tmp_path / "tickring"
    base.mkdir(mode=0o700)
    for i in range(20):
        folder = base / f"numba0.{i}-py311-x-default"
        folder.mkdir()
        hour = 3_600 * 1_000_000_000
        stamp = folder.stat().st_mtime_ns - (i + 1) * hour * (0 if i == 19 else 1)
        os.utime(folder, ns=(stamp, stamp))
    current = Path(probe(tmp_path).stdout.strip())
    left = {path.name for path in base.iterdir()}
    assert current.name in left
    assert "numba0.19-py311-x-default" in left  # somebody may be filling it
    assert "numba0.0-py311-x-default" in left
    assert "numba0.15-py311-x-default" not in left
    assert len(left) == kernel_cache.GENERATIONS_MAX


NAMES = """
import sys
from common import kernel_cache
kernel_cache.configure()
import numba
import numpy as np

@numba.njit(cache=True)
def field(records):
    return records[0][0]

for name in sys.argv[1:]:
    field(np.zeros(1, np.dtype([(name, "<i8")])))
for (argument,), compiled in field.overloads.items():
    print(next(iter(argument.dtype.fields)), compiled.fndesc.mangled_name.partition("Record")[2])
"""


def test_compiled_functions_are_named_alike_in_every_process(tmp_path):
    """Whatever records a process met before: two of one name would run one's code for the other."""
    (tmp_path / "names.py").write_text(NAMES)
    names = []
    for k, order in enumerate((["a", "b"], ["b", "a"])):
        done = subprocess.run(
            [sys.executable, str(tmp_path / "names.py"), *order],
            env=os.environ | {"XDG_CACHE_HOME": str(tmp_path / str(k)), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        names.append(dict(line.split() for line in done.stdout.splitlines()))
    assert names[0] == names[1]
    assert names[0]["a"] != names[0]["b"]

"""Where compiled kernels live: a private directory per numba, Python, CPU and boundscheck flag.

Inside it each file has a folder per state of the sources it can reach (common/kernel_locator.py).
The directory must be chosen before numba is imported, so this module imports neither numba nor
anything that does.
"""

import contextlib
import hashlib
import os
import shutil
import stat
import sys
from importlib import metadata
from pathlib import Path

from common.errors import BugError, UnavailableError

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("common", "shm", "processes")
GENERATIONS_MAX = 8
_IN_USE_NS_MAX = 3_600_000_000_000  # a younger one may be filled by somebody right now
_VARIABLE = "NUMBA_CACHE_DIR"
_NAMES = "names1"  # how common/kernel_locator.py has numba name compiled functions
_LOCATOR = "common.kernel_locator.ClosureLocator"


def configure() -> Path:
    """Choose the cache directory, make it, and point numba at it.

    Returns:
        The directory, private to this user.

    Raises:
        UnavailableError: it cannot be made, or others may write to it.
        BugError: numba was imported before with another directory.
    """
    base = cache_base()
    directory = base / cache_key()
    if "numba" in sys.modules and os.environ.get(_VARIABLE) != str(directory):
        raise BugError(
            f"kernel cache: numba is imported already with {os.environ.get(_VARIABLE)},"
            f" expected {directory} to be set before"
        )
    make_private(base)
    make_private(directory)
    os.utime(directory)
    _clean_up(base, directory)
    os.environ[_VARIABLE] = str(directory)
    os.environ["NUMBA_CACHE_LOCATOR_CLASSES"] = _LOCATOR
    return directory


def cache_base() -> Path:
    """Return the folder of all generations: $XDG_CACHE_HOME/tickring or ~/.cache/tickring."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "tickring"


def cache_key() -> str:
    """Return a name for all that changes compiled code besides the sources."""
    flag = os.environ.get("NUMBA_BOUNDSCHECK", "") or "default"
    host = hashlib.sha256(cpu_name().encode()).hexdigest()[:8]
    python = f"py{sys.version_info.major}{sys.version_info.minor}"
    return f"numba{metadata.version('numba')}-{python}-{host}-{_NAMES}-{flag}"


def source_files() -> list[Path]:
    """Return every source file of the project's packages, sorted."""
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def cpu_name() -> str:
    """Return what compiled code depends on: the CPU's model and its feature flags."""
    chosen = os.environ.get("NUMBA_CPU_NAME", "")
    lines = dict[str, str]()
    with open("/proc/cpuinfo") as file:
        for line in file:
            key, _, value = line.partition(":")
            if not line.strip():
                break  # the first processor is enough
            lines[key.strip()] = value.strip()
    return f"{chosen} {lines.get('model name', '')} {lines.get('flags', '')}"


def make_private(directory: Path) -> None:
    """Make a directory that nobody else can enter, or check that it is one.

    Raises:
        UnavailableError: it cannot be made, is not a directory, or others own or may use it.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = os.lstat(directory)
    except OSError as error:
        raise UnavailableError(f"{directory}: {(error.strerror or str(error)).lower()}") from None
    if not stat.S_ISDIR(status.st_mode):
        raise UnavailableError(f"{directory}: not a directory, expected one")
    if status.st_uid != os.geteuid():
        raise UnavailableError(
            f"{directory}: owner is uid {status.st_uid}, expected {os.geteuid()}; remove it"
        )
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise UnavailableError(
            f"{directory}: mode is {stat.S_IMODE(status.st_mode):04o}, expected 0700;"
            f" check what is in it, then chmod 700"
        )


def _drop_old(folders: list[Path], now_ns: int) -> None:
    """Remove folders that are neither among the GENERATIONS_MAX newest nor recent."""
    ages: list[tuple[int, Path]] = []
    for path in folders:
        with contextlib.suppress(FileNotFoundError):  # another process cleans up too
            ages.append((now_ns - path.stat().st_mtime_ns, path))
    for age_ns, path in sorted(ages)[GENERATIONS_MAX:]:
        if age_ns > _IN_USE_NS_MAX:
            shutil.rmtree(path, ignore_errors=True)


def _clean_up(base: Path, current: Path) -> None:
    """Remove old directories, and in the current one old states of each source file."""
    now_ns = current.stat().st_mtime_ns
    _drop_old(
        [path for path in base.iterdir() if path.is_dir() and path.name.startswith("numba")], now_ns
    )
    states: dict[str, list[Path]] = {}
    for path in current.iterdir():
        if path.is_dir():
            states.setdefault(path.name.rpartition("-")[0], []).append(path)
    for folders in states.values():
        _drop_old(folders, now_ns)

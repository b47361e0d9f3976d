"""What studies of many backtests share: the grid, one evaluation, and what a result depends on."""

import hashlib
import itertools
import math
import os
from collections.abc import Callable, Hashable
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from common.errors import TickringError, UsageError
from processes.report.metrics import Figures, encode, measure, metric_names
from processes.results import Result

Parameters = dict[str, str]
COMBINATIONS_MAX = 100_000
LESS_IS_BETTER = frozenset(
    name
    for name in metric_names()
    if name.startswith(("max_drawdown", "exposure_", "orders_rejected"))
)
_DECODER = msgspec.json.Decoder(float_hook=Decimal)


class Subject(NamedTuple):
    """The backtester as a study sees it; tests put simpler ones in its place.

    Attributes:
        load_setup: (config, overrides) -> the set-up.
        load_data: (set-up, paths) -> the data, read once for all combinations.
        data_key: set-up -> what `load_data` makes of the same paths depends on this.
        warm_up: (set-up, data) -> None; compiles what `run` calls.
        run: (set-up, data) -> Result.
        span_of: data -> (first, end) of its local time, ns.
        cut: (set-up, data, first, end) -> only what is known in [first, end), books included.
        sources: set-up -> text that changes when it, the strategy's or our sources do.
        files: set-up -> what it reads besides the config file and the data.
    """

    load_setup: Callable[[Path, Parameters], Any]
    load_data: Callable[[Any, list[Path]], Any]
    data_key: Callable[[Any], Hashable]
    warm_up: Callable[[Any, Any], None]
    run: Callable[[Any, Any], Result]
    span_of: Callable[[Any], tuple[int, int]]
    cut: Callable[[Any, Any, int, int], Any]
    sources: Callable[[Any], str]
    files: Callable[[Any], list[Path]]


class Plan(NamedTuple):
    """A study as the command line has it, checked.

    Attributes:
        config, data: paths.
        combinations: every one of the grid, the last key changing fastest.
        metric: name of the figure to rank by.
        jobs: processes at once.
    """

    config: Path
    data: list[Path]
    combinations: list[Parameters]
    metric: str
    jobs: int


def plan_of(config: Path, data: list[Path], grid: list[str], metric: str, jobs: int) -> Plan:
    """Check what the command line says.

    Args:
        grid: "key=a,b,c" each; none: the one combination of no overrides.
        jobs: 0: as many as there are cores.

    Raises:
        UsageError: names the option.
    """
    if metric not in metric_names():
        raise UsageError(f"--metric: {metric!r}, expected one of {', '.join(metric_names())}")
    if jobs < 0:
        raise UsageError(f"--jobs: {jobs}, expected 1 or more, or 0 for one per core")
    if not data:
        raise UsageError("--data: missing, expected at least one path")
    return Plan(config, data, combinations_of(grid), metric, jobs or len(os.sched_getaffinity(0)))


def combinations_of(grid: list[str]) -> list[Parameters]:
    """Return every combination of a grid, the last key changing fastest.

    Raises:
        UsageError: a text that is not key=a,b,c, a key or value named twice, too many.
    """
    axes: dict[str, list[str]] = {}
    for text in grid:
        key, equals, values = text.partition("=")
        choices = [value.strip() for value in values.split(",")]
        if not equals or not key.strip() or not all(choices):
            raise UsageError(f"--grid: {text!r}, expected key=a,b,c")
        if key.strip() in axes:
            raise UsageError(f"--grid: {key.strip()!r} is named twice, expected each key once")
        if len(set(choices)) != len(choices):
            raise UsageError(f"--grid: {text!r} has a value twice, expected each once")
        axes[key.strip()] = choices
    count = math.prod(map(len, axes.values()))
    if count > COMBINATIONS_MAX:
        raise UsageError(f"--grid: {count:,} combinations, expected at most {COMBINATIONS_MAX:,}")
    return [dict(zip(axes, chosen, strict=True)) for chosen in itertools.product(*axes.values())]


class Loaded:
    """All data of a study in memory, read once for each way in which its set-ups want them."""

    def __init__(self, subject: Subject, plan: Plan) -> None:
        """Read the data, and compile what runs on them.

        Raises:
            UsageError: the data cannot be read.
        """
        self.subject = subject
        self.plan = plan
        self._data: dict[Hashable, Any] = {}
        self._cut: tuple[Hashable, Any] = ((), None)  # the last one: tasks come window by window
        warm = shapes_of(plan.combinations)
        for row, parameters in enumerate(plan.combinations):
            try:
                setup = subject.load_setup(plan.config, parameters)
            except TickringError:
                continue  # `evaluate` meets it again, and tells of it
            key = subject.data_key(setup)
            if key not in self._data:
                self._data[key] = subject.load_data(setup, plan.data)
            if row in warm:
                subject.warm_up(setup, self._data[key])

    def data_of(self, setup: Any) -> Any:
        """Return the data that a set-up wants."""
        return self._data[self.subject.data_key(setup)]

    def any_data(self) -> Any:
        """Return the data of the first combination that has any.

        Raises:
            UsageError: no combination of the grid is valid.
        """
        for data in self._data.values():
            return data
        self.subject.load_setup(self.plan.config, self.plan.combinations[0])
        raise UsageError("--grid: no combination is valid")

    def result_of(self, parameters: Parameters, span: tuple[int, int] | None = None) -> Result:
        """Run one combination, on all the data or on those known in [first, end).

        Raises:
            TickringError: whatever the backtest says.
        """
        setup = self.subject.load_setup(self.plan.config, parameters)
        if span is None:
            return self.subject.run(setup, self.data_of(setup))
        key = self.subject.data_key(setup), span
        if self._cut[0] != key:
            self._cut = key, self.subject.cut(setup, self.data_of(setup), *span)
        return self.subject.run(setup, self._cut[1])


def evaluate(loaded: Loaded, parameters: Parameters, span: tuple[int, int] | None = None) -> bytes:
    """Run one combination; return JSON with its total figures, or with the error it met."""
    try:
        return encode({"figures": measure(loaded.result_of(parameters, span)).total})
    except TickringError as error:
        return encode({"error": str(error)})


def decode(answer: bytes) -> dict[str, Any]:
    """Return what `evaluate` encoded, numbers with a point as exact Decimals."""
    return dict(_DECODER.decode(answer))


def shapes_of(combinations: list[Parameters]) -> list[int]:
    """Return the first combination of each set of values that are not numbers.

    Kernels depend on types; a number does not change them, another strategy or queue model may.
    """
    first: dict[tuple[tuple[str, str], ...], int] = {}
    for row, parameters in enumerate(combinations):
        first.setdefault(tuple(item for item in parameters.items() if not _is_number(item[1])), row)
    return list(first.values())


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def rank_key(metric: str, value: Decimal | int | float | None) -> tuple[bool, Decimal]:
    """Return a sort key: the best first, None last."""
    if value is None:
        return True, Decimal(0)
    number = Decimal(value)
    return False, number if metric in LESS_IS_BETTER else -number


def keys_of(subject: Subject, plan: Plan) -> list[str]:
    """Return the name of each combination's result: a hash of all that it depends on.

    It covers the config with what it includes, every byte of the data and whose they are, the
    parameters, the sources, and every byte of the files that this combination names.

    Raises:
        UsageError: the data or the config cannot be read.
        ConfigError: the config is wrong, or every combination is: a key, say, that is not there.
    """
    subject.load_setup(plan.config, {})
    errors: list[TickringError] = []
    known: dict[Path, str] = {}

    def content_of(path: Path) -> str:
        if path not in known:
            known[path] = _hash_files(path)
        return known[path]

    data = [(symbol, content_of(path)) for symbol, path in map(split_symbol, plan.data)]
    shared = [Figures.__struct_fields__, content_of(plan.config), data]
    keys = []
    for parameters in plan.combinations:
        found: list[Any] = [shared, sorted(parameters.items())]
        try:
            setup = subject.load_setup(plan.config, parameters)
            found += [subject.sources(setup), [content_of(file) for file in subject.files(setup)]]
        except TickringError as error:
            errors.append(error)  # `evaluate` meets it again, and tells of it
        keys.append(hashlib.sha256(msgspec.json.encode(found)).hexdigest()[:32])
    if len(errors) == len(plan.combinations):
        raise errors[0]
    return keys


def identity_of(keys: list[str]) -> str:
    """Return a hash of all that the results of a study depend on."""
    return hashlib.sha256("".join(keys).encode()).hexdigest()


def split_symbol(path: Path) -> tuple[str, Path]:
    """Return ("SYMBOL=", path) of a data path that says whose it is, or ("", path)."""
    symbol, equals, rest = str(path).partition("=")
    if equals and not path.exists() and "/" not in symbol:
        return symbol + equals, Path(rest)
    return "", path


def resolved(path: Path) -> Path:
    """Return a data path that means the same in any folder."""
    symbol, file = split_symbol(path)
    return Path(f"{symbol}{file.resolve()}")


def files_of(path: Path) -> list[Path]:
    """Return a file, or all files below a folder in order.

    Raises:
        UsageError: there is nothing.
    """
    if not path.exists():
        raise UsageError(f"{path}: no such file or directory")
    return sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]


def _hash_files(path: Path) -> str:
    """Return a hash of a file, or of all files below a folder, with their names."""
    digest = hashlib.sha256()
    for one in files_of(path):
        try:
            with one.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
        except OSError as error:
            raise UsageError(f"{one}: {(error.strerror or str(error)).lower()}") from None
        digest.update(f"{one.name} ".encode() + content)
    return digest.hexdigest()

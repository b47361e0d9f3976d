"""Typed TOML config: unknown keys, missing limits and wrong types are errors with a path.

A file may `include` another: `include = "../demo.toml"`, relative to the file that says it. It then
holds the included file's top-level keys and tables, and its own in place of those of the same name:
a table is replaced as a whole, so that what is traded with stands in one place.
"""

from pathlib import Path
from typing import Any, TypeVar, dataclass_transform

import msgspec

from common.errors import ConfigError

T = TypeVar("T")
FILE_BYTES_MAX = 1_000_000
INCLUDES_MAX = 8


@dataclass_transform(frozen_default=True, kw_only_default=True)  # what subclasses inherit
class Base(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Frozen: read once. Unknown fields are errors: a misspelt limit must not be ignored."""


def load(path: Path, kind: type[T]) -> T:
    """Read a TOML file, and what it includes, into a config struct.

    Raises:
        ConfigError: a file is missing, is not TOML, includes wrongly, or breaks the schema.
    """
    tables, files = _read(path), [path]
    while "include" in tables:
        target = tables.pop("include")
        files.append(_included(files, target))
        tables = _read(files[-1]) | tables
    try:
        return msgspec.convert(tables, kind)
    except (msgspec.ValidationError, ValueError) as error:
        others = ", ".join(str(file) for file in files[1:])
        raise ConfigError(f"{path}: {error}{others and f' (included: {others})'}") from None


def _read(path: Path) -> dict[str, Any]:
    """Return one file's top level as it stands there."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    if len(content) > FILE_BYTES_MAX:
        raise ConfigError(f"{path}: {len(content)} bytes, expected at most {FILE_BYTES_MAX}")
    try:
        tables: dict[str, Any] = msgspec.toml.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from None
    return tables


def _included(files: list[Path], target: object) -> Path:
    """Return the file that the last of `files` includes."""
    own = files[-1]
    if not isinstance(target, str) or not target:
        raise ConfigError(f"{own}: include is {target!r}, expected the path of a TOML file")
    found = own.parent / target
    if not found.is_file():
        raise ConfigError(f"{own}: include: {found} is not there, expected a TOML file")
    if any(found.samefile(file) for file in files):
        raise ConfigError(f"{own}: include: {found} includes this file, expected no circle")
    if len(files) > INCLUDES_MAX:
        raise ConfigError(f"{own}: include: {len(files)} deep, expected at most {INCLUDES_MAX}")
    return found

"""Typed TOML config: unknown keys, missing limits and wrong types are errors with a path."""

from pathlib import Path
from typing import TypeVar, dataclass_transform

import msgspec

from common.errors import ConfigError

T = TypeVar("T")
FILE_BYTES_MAX = 1_000_000


@dataclass_transform(frozen_default=True, kw_only_default=True)  # what subclasses inherit
class Base(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Frozen: read once. Unknown fields are errors: a misspelt limit must not be ignored."""


def load(path: Path, kind: type[T]) -> T:
    """Read a TOML file into a config struct.

    Raises:
        ConfigError: the file is missing, is not TOML, or breaks the schema.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    if len(content) > FILE_BYTES_MAX:
        raise ConfigError(f"{path}: {len(content)} bytes, expected at most {FILE_BYTES_MAX}")
    try:
        return msgspec.toml.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from None

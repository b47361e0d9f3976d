"""One structured line per state change, to stderr; never on the hot path."""

import sys

from common import clock

_process_name = "-"
_VALUE_MAX = 400


def set_process(name: str) -> None:
    """Name the process that the following lines come from."""
    global _process_name
    _process_name = name


def format_value(value: object) -> str:
    """Return one value as one printable token, escaped and cut to _VALUE_MAX."""
    text = str(value)[:_VALUE_MAX]
    if text and all(c.isprintable() and c not in ' "=\\' for c in text):
        return text
    escaped = text.encode("unicode_escape").decode("ascii").replace('"', '\\"')
    return f'"{escaped}"'


def event(name: str, **values: object) -> None:
    """Write `seconds process name key=value ...` as one line."""
    stamp = clock.now_wall_ns() / 1e9
    fields = "".join(f" {key}={format_value(value)}" for key, value in values.items())
    sys.stderr.write(f"{stamp:.6f} {_process_name} {name}{fields}\n")
    sys.stderr.flush()

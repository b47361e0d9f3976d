"""`tickring layout`: records as tables; needs no instance and no numba."""

import msgspec

from common import records
from common.errors import UsageError
from common.layout import describe, fingerprint, rows_of


def layout(name: str, as_json: bool) -> None:
    """Print one record's table, or all of them.

    Raises:
        UsageError: no such record.
    """
    wanted = [name.upper()] if name else list(records.LAYOUTS)
    for one in wanted:
        if one not in records.LAYOUTS:
            raise UsageError(f"layout: {name!r}, expected one of {', '.join(records.LAYOUTS)}")
    if as_json:
        print(msgspec.json.encode([describe_json(one) for one in wanted]).decode())
        return
    print("\n".join(describe(one) for one in wanted), end="")


def describe_json(name: str) -> dict[str, object]:
    """Return one record's table as JSON-able values."""
    writer, rows = rows_of(name)
    return {
        "name": name,
        "bytes": records.LAYOUTS[name].itemsize,
        "writer": writer,
        "fingerprint": f"{fingerprint(name):016x}",
        "fields": [
            {"offset": offset, "name": field, "type": kind, "meaning": meaning}
            for offset, field, kind, meaning in rows
        ],
    }

"""Records as tables: dtypes built from (offset, field, format, meaning) rows, checked at import.

The printed table is the contract between processes: its hash is the fingerprint that every segment
header carries, and the text itself is pinned by tests/golden/layouts.txt.
"""

import hashlib

import numpy as np

Row = tuple[int, str, str, str]
_TABLES: dict[str, tuple[np.dtype, tuple[Row, ...], str]] = {}


def record(name: str, size: int, writer: str, *rows: Row) -> np.dtype:
    """Build a dtype from (offset, field, format, meaning) rows, naturally aligned, without holes.

    Args:
        name: record name, unique in the program.
        size: bytes of one record.
        writer: the one process kind that writes it.
        rows: one per field, ascending; format is a numpy format, with a unit in the meaning.

    Raises:
        TypeError: a hole, an overlap, a misaligned field, a wrong total size or a name used twice.
    """
    if name in _TABLES:
        raise TypeError(f"{name}: defined twice, expected one table per record")
    end = 0
    for offset, field, fmt, _meaning in rows:
        dtype = np.dtype(fmt)
        if offset != end:
            raise TypeError(f"{name}.{field}: offset is {offset}, expected {end}")
        if offset % dtype.alignment:
            raise TypeError(
                f"{name}.{field}: offset {offset} is not a multiple of {dtype.alignment}"
            )
        if dtype.base.kind not in "iu" or (dtype.base.kind == "u" and dtype.base.itemsize == 8):
            raise TypeError(f"{name}.{field}: format is {fmt}, expected an integer, not uint64")
        end = offset + dtype.itemsize
    if end != size:
        raise TypeError(f"{name}: fields fill {end} bytes, expected {size}")
    dtype = np.dtype(
        {
            "names": [row[1] for row in rows],
            "formats": [row[2] for row in rows],
            "offsets": [row[0] for row in rows],
            "itemsize": size,
        },
        align=True,
    )
    _TABLES[name] = (dtype, rows, writer)
    return dtype


def names() -> list[str]:
    """Return the names of all defined records, in order of definition."""
    return list(_TABLES)


def dtype_of(name: str) -> np.dtype:
    """Return the dtype of a defined record."""
    return _TABLES[name][0]


def rows_of(name: str) -> tuple[str, tuple[Row, ...]]:
    """Return the writer and the rows of a defined record."""
    _dtype, rows, writer = _TABLES[name]
    return writer, rows


def describe(name: str) -> str:
    """Return the table of one record as text; what the fingerprint hashes."""
    dtype, rows, writer = _TABLES[name]
    width = max(len(row[1]) for row in rows)
    lines = [f"{name} {dtype.itemsize} bytes, written by {writer}"]
    for offset, field, fmt, meaning in rows:
        lines.append(f"  {offset:4d}  {field:<{width}}  {fmt:<6}  {meaning}")
    return "\n".join(lines) + "\n"


def fingerprint(*record_names: str) -> int:
    """Return 63 bits of the SHA-256 of the named records' tables, for segment headers."""
    text = "".join(describe(name) for name in record_names)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

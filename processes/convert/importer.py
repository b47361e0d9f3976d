"""`tickring import KIND SRC DEST`: data of other people into a recording.

The result is a run like any other: a ring `feed.market.book` of market slots, in the order of the
local times, and a manifest. Where the data has the venue's times only, the local time is that plus
--feed-latency-ns. All clocks of such a run are wall clocks: a CLOCK record at its beginning says
so.
"""

import json
import platform
import shutil
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numba.core.registry import cpu_target

from common import clock
from common.enums import MarketKind
from common.errors import DataError, TickringError, UsageError
from common.records import CLOCK
from processes.convert.captures import CaptureSource
from processes.convert.columns import FAMILIES, Shape, datasets_of
from processes.convert.events import EventSource
from processes.convert.market import find_messages, words_of
from processes.convert.merge import merged
from processes.convert.problems import Problems
from processes.convert.progress import progress_bar
from processes.convert.registry import FactOptions, Registry, symbol_of_name
from processes.convert.sources import CsvSource, Source
from shm.recording import RingWriter, write_manifest
from shm.segment import build_hash

KEY = "feed.market.book"
CAPACITY = 65_536  # of the live ring
CAPTURE, EVENTS = "capture", "hftbacktest"
_SUFFIXES = {CAPTURE: ("",), EVENTS: (".npz", ".npy")}
_CSV_SUFFIXES = (".csv", ".csv.gz", ".zip")
_COUNTED = (
    MarketKind.DIFF_BEGIN, MarketKind.SNAPSHOT_BEGIN, MarketKind.TRADE, MarketKind.AGG_TRADE,
    MarketKind.BBO, MarketKind.MARK, MarketKind.LIQUIDATION, MarketKind.GAP,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """How to import.

    Attributes:
        facts: of the instruments.
        is_strict: the first bad row ends it.
        feed_latency_ns: from the venue's time to ours, where the data has only the first.
        as_json: print JSON.
    """

    facts: FactOptions = field(default_factory=FactOptions)
    is_strict: bool = False
    feed_latency_ns: int = 0
    as_json: bool = False


def run(kind: str, source: Path, destination: Path, options: ImportOptions) -> int:
    """Import, and print what was found; return the exit code.

    Raises:
        UsageError: kind, options, source or destination are wrong, or a symbol is not known.
        DataError: a file is not of that kind, nothing in it is in order, or, if strict, a row
            is bad.
    """
    summary = import_market(kind, source, destination, options)
    if options.as_json:
        print(json.dumps(summary, indent=2))
        return 0
    width = max(map(len, summary))
    for name, value in summary.items():
        shown = ", ".join(value) if isinstance(value, list) else value
        print(f"{name:<{width}}  {shown}")
    return 0


def import_market(
    kind: str, source: Path, destination: Path, options: ImportOptions
) -> dict[str, Any]:
    """Import one file, or all files of a folder, into a new run; return the counts.

    Raises:
        As `run`.
    """
    check_kind(kind)
    problems = Problems(options.is_strict)
    files = files_of(kind, source, options.facts.symbol)
    registry = Registry(options.facts)
    sources = open_sources(kind, files, registry, problems, options.feed_latency_ns)
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise UsageError(f"{destination}: exists, expected a new folder for the run")
    write_manifest(destination, manifest_of(destination, kind, files, registry, {}, False))
    try:
        summary = _fill(destination, sources, registry, problems)
        if summary["rows"] == 0:
            raise DataError(f"{source}: no row in order of {problems.count}, expected {kind}")
    except TickringError:
        shutil.rmtree(destination)  # it was new: what is left of it is no use to anybody
        raise
    write_manifest(destination, manifest_of(destination, kind, files, registry, summary, True))
    return summary


def _fill(
    destination: Path, sources: list[Source], registry: Registry, problems: Problems
) -> dict[str, Any]:
    """Write the ring of a new run; return the counts."""
    counts, first_ns, last_ns = _copy(sources, RingWriter(destination, KEY, "MARKET", CAPACITY))
    problems.close()
    return {
        "run": str(destination),
        "instruments": [i.symbol for i in registry.instruments],
        "rows": sum(one.rows for one in sources),
        "bad_rows": problems.count,
        "foreign_rows": sum(one.foreign_rows for one in sources),
        "rows_back_in_time": sum(one.back_rows for one in sources),
        **{name: count for name, count in counts.items() if count},
        "first_ns": first_ns,
        "last_ns": last_ns,
    }


def check_kind(kind: str) -> None:
    """Raise UsageError unless there is such a kind."""
    if kind not in (CAPTURE, EVENTS) and not datasets_of(kind):
        raise UsageError(f"KIND: {kind!r}, expected {kinds_text()}")


def kinds_text() -> str:
    """Return the kinds, for messages."""
    families = [
        f"{family} (or {', '.join(d.name for d in datasets_of(family))})"
        if len(datasets_of(family)) > 1
        else family
        for family in FAMILIES
    ]
    return ", ".join([CAPTURE, *families, EVENTS])


def files_of(kind: str, source: Path, symbol: str) -> list[Path]:
    """Return the file, or those of a folder whose names end as such files do.

    Args:
        symbol: files that are of another one by their names are left out; "": none are.

    Raises:
        UsageError: there is none.
    """
    if not source.is_dir():
        return [source]
    suffixes = _SUFFIXES.get(kind, _CSV_SUFFIXES)
    found = sorted(
        path
        for path in source.iterdir()
        if path.is_file()
        and path.name.endswith(suffixes)
        and (not symbol or symbol_of_name(path.name) in ("", symbol))
    )
    if not found:
        raise UsageError(f"{source}: no files, expected some that end in {', '.join(suffixes)}")
    return found


def open_sources(
    kind: str, files: list[Path], registry: Registry, problems: Problems, feed_latency_ns: int
) -> list[Source]:
    """Return a source per file; trades before quotes and depth, which already tell of them."""
    sources: list[Source] = []
    for path in files:
        if kind == CAPTURE:
            sources.append(CaptureSource(path, registry, problems))
        elif kind == EVENTS:
            sources.append(EventSource(path, registry, problems))
        else:
            sources.append(CsvSource(path, kind, registry, problems, feed_latency_ns))
    return sorted(sources, key=lambda one: _rank(one))


def _rank(source: Source) -> int:
    return 0 if isinstance(source, CsvSource) and source.dataset.shape == Shape.TRADES else 1


def _copy(sources: list[Source], writer: RingWriter) -> tuple[dict[str, int], int, int]:
    """Write all slots; return (messages per kind, first and last time)."""
    counts = {kind.name.lower(): 0 for kind in _COUNTED}
    first_ns = last_ns = 0
    total = sum(one.size_bytes for one in sources)
    try:
        with progress_bar("import", total) as bar:
            for slots in merged([one.batches() for one in sources]):
                if not len(slots):
                    continue
                if writer.next_sequence == 0:
                    first_ns = int(slots[0, 1])
                    writer.write(clock_slot(first_ns))
                writer.write(slots)
                starts = np.zeros(len(slots), np.int64)
                starts = starts[: find_messages(slots, starts)]
                last_ns = int(slots[starts[-1], 1])
                kinds = np.bincount(slots[starts, 0] & 0xFF, minlength=len(MarketKind) + 1)
                for kind in _COUNTED:
                    counts[kind.name.lower()] += int(kinds[kind])
                bar.at(sum(one.bytes_read for one in sources))
    finally:
        writer.close()
    return counts, first_ns, last_ns


def clock_slot(now_ns: int) -> np.ndarray:
    """Return a CLOCK record that says: local times are wall clock times."""
    slot = np.zeros(1, CLOCK)
    slot["kind"] = MarketKind.CLOCK
    slot["slot_count"] = 1
    slot["instrument_id"] = -1
    slot["ts_recv_ns"] = slot["ts_mono_ns"] = slot["ts_wall_ns"] = now_ns
    return words_of(slot)


def manifest_of(
    destination: Path,
    kind: str,
    files: list[Path],
    registry: Registry,
    summary: dict[str, Any],
    is_complete: bool,
) -> dict[str, Any]:
    """Return the manifest of an imported run; `boot_id` is empty: no clock of a host is in it."""
    return {
        "schema": 1,
        "run": destination.name,
        "instance": "import",
        "session": 0,
        "started_wall_ns": int(summary.get("first_ns", 0)),
        "started_ns": int(summary.get("first_ns", 0)),
        "boot_id": "",
        "complete": is_complete,
        "config": None,
        "config_folder": "",
        "instruments": [msgspec.to_builtins(i) for i in registry.instruments],
        "source_hash": f"{build_hash():016x}",
        "numba": metadata.version("numba"),
        "numpy": metadata.version("numpy"),
        "python": platform.python_version(),
        "cpu_name": cpu_target.target_context.codegen().magic_tuple()[1],
        "seed": None,
        "rings": {KEY: "MARKET"},
        "imported": {
            "kind": kind,
            "files": [path.name for path in files],
            "at_wall_ns": clock.now_wall_ns(),
            **{name: value for name, value in summary.items() if name != "run"},
        },
    }

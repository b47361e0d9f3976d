"""Recordings as the tools see them: where they are, and one run in the place of a live instance."""

import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from common.errors import SegmentError, TickringError, UsageError
from common.instruments import Instrument
from common.records import LAYOUTS
from processes.inspector.instance import Instance, choose_instance, symbol_in
from processes.inspector.show import print_json, print_table
from shm import registry
from shm.recording import MANIFEST, RECORDINGS, RingRecording, Run, read_manifest, size_of
from shm.ring import MARKET

STATE_DIRS = "~/.local/state/tickring"
_SECONDS = 19  # characters of 2026-08-22T11:58:03


def state_dirs(chosen: Path | None) -> list[Path]:
    """Return the state folders to look into: the chosen one, or all that are known here.

    Known are those in ~/.local/state/tickring, and those of the instances on this host.
    """
    if chosen is not None:
        return [chosen]
    base = Path(os.path.expanduser(STATE_DIRS))
    found = set(base.iterdir()) if base.is_dir() else set()
    for name in registry.instances():
        try:
            found.add(Path(registry.read_manifest(name)["state_dir"]))
        except TickringError:
            continue  # a half-made or older instance; it has its folder all the same
    return sorted(found)


def find_runs(chosen: Path | None) -> list[Path]:
    """Return the folders of all recorded runs, by time."""
    manifests = [
        path for folder in state_dirs(chosen) for path in folder.glob(f"{RECORDINGS}/*/{MANIFEST}")
    ]
    return sorted((path.parent for path in manifests), key=lambda path: (path.name, path))


def find_run(text: str, chosen: Path | None = None) -> Path:
    """Return the folder of a run from its path or its id.

    Raises:
        UsageError: there is none, or more than one of that id.
    """
    if (Path(text) / MANIFEST).is_file():
        return Path(text)
    found = [path for path in find_runs(chosen) if path.name == text]
    if len(found) != 1:
        what = f"{len(found)} of that id" if found else "none of that id or path"
        raise UsageError(f"run: {text!r}: {what}, expected one; see `tickring recordings`")
    return found[0]


def recordings(chosen: Path | None, check: bool, as_json: bool) -> int:
    """Print all recorded runs.

    Args:
        chosen: state folder to look into; None: see `state_dirs`.
        check: read every byte.
        as_json: as JSON.

    Returns:
        0; 1 if `check` found damage.
    """
    rows = []
    for path in find_runs(chosen):
        try:
            rows.append(row_of(path, check))
        except TickringError as error:
            sys.stderr.write(f"tickring recordings: {error}\n")
    if as_json:
        print_json(rows)
    else:
        fields = ["path", "started", "instance", "size_bytes", "complete", "stopped"]
        print_table(fields, [[row[field] for field in fields] for row in rows])
        for row in rows:
            for line in row.get("damage", []):
                print(f"DAMAGED  {line}")
    return int(any(row.get("damage") for row in rows))


def row_of(path: Path, check: bool = False) -> dict[str, Any]:
    """Return what the list shows of one run.

    Raises:
        UnavailableError, SegmentError: its manifest cannot be used.
    """
    manifest = read_manifest(path)
    try:
        row = {
            "path": str(path),
            "started": started_text(manifest["started_wall_ns"]),
            "instance": manifest["instance"],
            "size_bytes": size_of(path),
            "complete": manifest["complete"],
            "stopped": manifest.get("stopped", ""),
        }
    except KeyError as error:
        raise SegmentError(f"{path / MANIFEST}: {error} is missing, expected it") from None
    if check:
        row["damage"] = damage_of(path)
    return row


def damage_of(path: Path) -> list[str]:
    """Read a run to its last byte and return what is wrong, one line each."""
    wrong = []
    for folder in sorted(folder for folder in path.iterdir() if folder.is_dir()):
        try:
            ring = RingRecording(folder)
        except SegmentError as error:
            wrong.append(str(error))
            continue
        wrong += ring.check()
        ring.close()
    return wrong


def started_text(wall_ns: int) -> str:
    """Return an instant of the wall clock as UTC text."""
    return str(np.datetime64(wall_ns, "ns"))[:_SECONDS] + "Z"


class RecordedRing:
    """One ring of a recording, read as an observer reads a live one."""

    def __init__(self, ring: RingRecording, from_oldest: bool) -> None:
        self.ring = ring
        self.record = ring.layout
        self.capacity = ring.capacity
        self.published = ring.spans[-1][1] if ring.spans else 0
        self.next_sequence = ring.spans[0][0] if ring.spans and from_oldest else self.published

    def read(self, limit: int) -> tuple[np.ndarray, int, int]:
        """Return at most `limit` records, where they begin, and how many before them are missing.

        Raises:
            SegmentError: a block is damaged.
        """
        for first, end in self.ring.spans:
            if self.next_sequence >= end:
                continue
            if self.next_sequence < first:
                lapped = first - self.next_sequence
                self.next_sequence = first
                return self._shaped(np.empty((0, self.ring.words), np.int64)), first, lapped
            begin = self.next_sequence
            self.next_sequence = min(end, begin + limit)
            return self._shaped(self.ring.read(begin, self.next_sequence)), begin, 0
        return self._shaped(np.empty((0, self.ring.words), np.int64)), self.published, 0

    def _shaped(self, words: np.ndarray) -> np.ndarray:
        if self.record == MARKET:
            return words
        return words.reshape(-1).view(LAYOUTS[self.record])

    def close(self) -> None:
        """Close its files."""
        self.ring.close()


class RecordedInstance:
    """A recorded run, with what the tools ask of an instance.

    Args:
        path: of the run's folder.
    """

    is_live = False

    def __init__(self, path: Path) -> None:
        self.run = Run.open(path)
        self.name = self.run.manifest["instance"]
        self.instruments = msgspec.convert(self.run.manifest["instruments"], list[Instrument])

    def instrument(self, symbol: str) -> Instrument:
        """Return a registered instrument.

        Raises:
            UsageError: no such symbol in this run.
        """
        return symbol_in(self.instruments, symbol)

    def observe(self, key: str, *, from_oldest: bool = False) -> RecordedRing:
        """Return a reader of a ring.

        Raises:
            UsageError: it was not recorded.
        """
        short = key.removeprefix(f"{registry.PREFIX}.{self.name}.")
        rings = [name for name, ring in self.run.rings.items() if ring.layout in (MARKET, *LAYOUTS)]
        if short not in rings:
            raise UsageError(f"ring: {key!r}, expected one of {', '.join(rings)}")
        return RecordedRing(self.run.rings[short], from_oldest)

    def ring_stats(self) -> list[dict[str, Any]]:
        """Return what was recorded of every ring."""
        return [
            {
                "name": key,
                "record": ring.layout,
                "capacity": ring.capacity,
                "first": ring.spans[0][0] if ring.spans else 0,
                "end": ring.spans[-1][1] if ring.spans else 0,
                "recorded": sum(end - first for first, end in ring.spans),
                "gaps": len(ring.gaps),
                "lost": sum(last - first + 1 for first, last in ring.gaps),
                "size_bytes": ring.size_bytes,
            }
            for key, ring in self.run.rings.items()
        ]

    def age_ms(self, ts_recv_ns: int, slots: np.ndarray) -> float:
        """Return how old something was when the last of the slots was recorded."""
        return (int(slots[:, 1].max()) - ts_recv_ns) / 1e6


def choose(instance: str, run: str) -> Instance | RecordedInstance:
    """Return what a tool is to look at: an instance, or a recorded run.

    Raises:
        UsageError, UnavailableError: there is none, or both were named.
    """
    if run and instance:
        raise UsageError("--instance and --run are given, expected one of them")
    return RecordedInstance(find_run(run)) if run else Instance(choose_instance(instance))


def rings(run: RecordedInstance, as_json: bool) -> None:
    """Print what was recorded of every ring."""
    found = run.ring_stats()
    if as_json:
        print_json({"instance": run.name, "run": str(run.run.path), "rings": found})
        return
    fields = list(found[0]) if found else ["name"]
    print_table(fields, [list(row.values()) for row in found])

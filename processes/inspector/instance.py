"""One instance as the tools see it: read-only, alive or dead; also what the summary is made of."""

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from common import clock
from common.enums import KillSource, Phase
from common.errors import TickringError, UnavailableError, UsageError
from common.instruments import Instrument
from shm import registry
from shm.counters import CountersReader
from shm.latch import Latch
from shm.observer import Observer, ring_stats
from shm.segment import exists
from shm.table import TableReader

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def choose_instance(name: str = "") -> str:
    """Return `name`, or the only instance there is; of another build it is told to be.

    Raises:
        UsageError, UnavailableError: as `_choose`.
    """
    chosen = _choose(name)
    with contextlib.suppress(TickringError):  # whatever its registry is like, it can be killed
        if registry.is_of_another_build(chosen):
            sys.stderr.write(f"{chosen}: another build than these tools made it; look with care\n")
    return chosen


def _choose(name: str) -> str:
    """Return `name`, or the only instance there is.

    Raises:
        UsageError: there are several and none was named.
        UnavailableError: there is none, or none of that name.
    """
    found = [  # what a dead start has left behind is none
        one for one in registry.instances() if exists(registry.instance_name(one, "registry"))
    ]
    if name:
        if name not in found:
            known = ", ".join(found) or "none"
            raise UnavailableError(f"instance: no {name!r} on this host, expected one of: {known}")
        return name
    if not found:
        raise UnavailableError("instance: none on this host, expected one; start it: tickring up")
    if len(found) > 1:
        live = [one for one in found if registry.is_live(one)]
        if len(live) != 1:
            raise UsageError(f"--instance: {', '.join(found)} are here, expected one of them")
        return live[0]
    return found[0]


class Instance:
    """Reads one instance's segments by name; opens each once and keeps it.

    Args:
        name: of the instance.

    Raises:
        UnavailableError, SegmentError: there is none, or its registry is not usable.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.manifest = registry.read_manifest(name)
        self.processes: list[str] = self.manifest["processes"]
        self.rings: list[list[str]] = self.manifest["rings"]
        self.instruments = msgspec.convert(self.manifest["instruments"], list[Instrument])
        self._counters: dict[str, CountersReader] = {}
        self._tables: dict[str, TableReader] = {}

    @property
    def is_live(self) -> bool:
        """True while its supervisor lives."""
        return registry.is_live(self.name)

    @property
    def symbols(self) -> list[str]:
        """Symbols by instrument id."""
        return [instrument.symbol for instrument in self.instruments]

    def instrument(self, symbol: str) -> Instrument:
        """Return a registered instrument.

        Raises:
            UsageError: no such symbol in this run.
        """
        return symbol_in(self.instruments, symbol)

    def counters(self, process: str) -> CountersReader | None:
        """Return the counters of a process, None if it has never come up."""
        if process not in self._counters:
            try:
                name = registry.counters_name(self.name, process)
                self._counters[process] = CountersReader.open(name)
            except UnavailableError:
                return None
        return self._counters[process]

    def counter(self, process: str, name: str) -> int:
        """Return one counter, 0 if the process has none of that name."""
        reader = self.counters(process)
        return reader.counters().get(name, 0) if reader is not None else 0

    def histogram(self, process: str, name: str) -> dict[str, int]:
        """Return one histogram's summary; counts 0 if there is none of that name."""
        reader = self.counters(process)
        if reader is None or name not in reader.histogram_names():
            return dict.fromkeys(("count", "p50", "p90", "p99", "p99.9", "max", "mean"), 0)
        return reader.histogram(name)

    def hop(self, name: str) -> dict[str, int]:
        """Return the latency of one hop: of every book update for the first, else of orders."""
        if name == "recv_to_book":
            return self.histogram("book", "recv_to_book_ns")
        return self.histogram("risk", name)

    def table(self, process: str, what: str) -> TableReader:
        """Return a table's reader.

        Raises:
            UnavailableError: the run has none of that name.
        """
        key = f"{process}.{what}"
        if key not in self._tables:
            name = registry.segment_name(self.name, process, what)
            self._tables[key] = TableReader.open(name)
        return self._tables[key]

    def ring_name(self, key: str) -> str:
        """Return the segment of a ring from its name with or without the instance.

        Raises:
            UsageError: the run has no such ring.
        """
        short = key.removeprefix(f"{registry.PREFIX}.{self.name}.")
        keys = [ring[0] for ring in self.rings]
        if short not in keys:
            raise UsageError(f"ring: {key!r}, expected one of {', '.join(keys)}")
        return registry.ring_name(self.name, *short.split("."))

    def observe(self, key: str, *, from_oldest: bool = False) -> Observer:
        """Return an observer of a ring."""
        return Observer(self.ring_name(key), from_oldest=from_oldest)

    def ring_stats(self) -> list[dict[str, Any]]:
        """Return the ledger of every ring.

        offered counts the ring's own GAP records too, so that offered = published + dropped.
        """
        rows = []
        for key, layout, policy in self.rings:
            name = self.ring_name(key)
            if not exists(name):
                continue
            stats = ring_stats(name)
            stats["offered"] += stats["gaps"]
            rows.append({"name": key, "record": layout, "policy": policy, **stats})
        return rows

    def age_ms(self, ts_recv_ns: int, slots: np.ndarray) -> float:
        """Return how old something is that was received then."""
        return (clock.now_ns() - ts_recv_ns) / 1e6

    def status(self) -> list[dict[str, Any]]:
        """Return one row per process: who runs where since when."""
        now_ns = clock.now_ns()
        rows = []
        for name in self.processes:
            row: dict[str, Any] = {
                "name": name, "pid": 0, "core": None, "restarts": 0, "rss_bytes": 0,
                "state": "NEVER_STARTED", "heartbeat_age_ms": None, "uptime_s": None,
                "cycle_ns_max": 0, "cycles_over_limit": 0,
            }  # fmt: skip
            reader = self.counters(name)
            if reader is not None:
                status: dict[str, Any] = reader.status()
                alive = bool(status["held"])
                row["pid"] = status["pid"]
                row["core"] = status["core"] if status["core"] >= 0 else None
                row["restarts"] = status["restarts"]
                row["state"] = status["state"] if alive else "DEAD"
                row["cycle_ns_max"] = status["cycle_ns_max"]
                row["cycles_over_limit"] = status["cycles_over_limit"]
                if alive:
                    row["rss_bytes"] = rss_bytes(status["pid"])
                    row["heartbeat_age_ms"] = max(now_ns - status["heartbeat_ns"], 0) // 1_000_000
                    row["uptime_s"] = max(now_ns - status["start_ns"], 0) // 1_000_000_000
            rows.append(row)
        return rows

    def latch(self, what: str, words: int) -> list[int]:
        """Return the first words of the kill, phase or peers page; zeros if it is gone."""
        try:
            page = Latch.open(registry.instance_name(self.name, what))
        except TickringError:
            return [0] * words
        values = [page.get(i) for i in range(words)]
        page.close()
        return values

    def phase(self) -> str:
        """Return what the supervisor wants of the run."""
        value = self.latch("phase", 1)[0]
        return Phase(value).name if value in list(Phase) else str(value)

    def killed_by(self) -> list[str]:
        """Return the names of the kill sources that are set."""
        words = self.latch("kill", len(KillSource))
        return [source.name for source in KillSource if words[source]]

    def positions(self) -> list[dict[str, Any]]:
        """Return one row per instrument: every POSITION field, symbol and position as text."""
        return [
            {name: int(row[name]) for name in row.dtype.names if row[name].ndim == 0}
            | {"symbol": one.symbol, "position": one.qty_text(int(row["position_steps"]))}
            for row in self._rows("risk", "positions")
            for one in [self.instruments[row["instrument_id"]]]
        ]

    def best(self) -> list[dict[str, Any]]:
        """Return best bid and ask of every instrument as text; empty if the book is invalid."""
        found = []
        for row in self._rows("book", "bbo"):
            instrument = self.instruments[row["instrument_id"]]
            line: dict[str, Any] = {"symbol": instrument.symbol, "valid": bool(row["valid"])}
            for side in ("bid", "ask"):
                price, qty = int(row[f"{side}_price_steps"]), int(row[f"{side}_qty_steps"])
                line[side] = instrument.price_text(price) if row["valid"] else ""
                line[f"{side}_qty"] = instrument.qty_text(qty) if row["valid"] else ""
            line["two_mid_steps"] = int(row["bid_price_steps"] + row["ask_price_steps"])
            line["ts_recv_ns"] = int(row["ts_recv_ns"])
            found.append(line)
        return found

    def _rows(self, process: str, what: str) -> np.ndarray:
        try:
            return self.table(process, what).read_all()
        except UnavailableError:
            return np.zeros(0)

    def close(self) -> None:
        """Leave every segment."""
        things: list[Any] = [*self._counters.values(), *self._tables.values()]
        for thing in things:
            thing.close()


def symbol_in(instruments: list[Instrument], symbol: str) -> Instrument:
    """Return the instrument of a symbol, in any case of letters.

    Raises:
        UsageError: there is no such symbol.
    """
    for instrument in instruments:
        if instrument.symbol == symbol.upper():
            return instrument
    known = ", ".join(instrument.symbol for instrument in instruments)
    raise UsageError(f"symbol: {symbol!r}, expected one of {known}")


def rss_bytes(pid: int) -> int:
    """Return the resident memory of a process, 0 if it has gone."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text().split()
        return int(fields[1]) * PAGE_BYTES
    except (OSError, IndexError):
        return 0

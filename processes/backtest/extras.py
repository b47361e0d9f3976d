"""What a set-up names beside the market data: funding from a file, compute time from a run."""

from pathlib import Path

import numpy as np

from common.enums import ReportKind, RequestKind
from common.errors import ConfigError
from common.fixed_point import steps_from_text
from common.instruments import Instrument
from common.records import REPORT
from processes.backtest.events import AT_VENUE, EVENT, EventKind
from processes.convert.recorded import Recording

FUNDING_COLUMNS = "ts_ns,symbol,rate,mark_price"
REPORTS_RING = "gateway.report.risk"
SLOTS_AT_ONCE = 1 << 14


def load_funding(
    path: Path, instruments: list[Instrument], notes: dict[str, int]
) -> dict[int, np.ndarray]:
    """Return FUNDING events by instrument, in order of time.

    Args:
        path: CSV; its symbols are SYMBOL or, if two venues have it, VENUE:SYMBOL.
        instruments: of the run.
        notes: changed: rows of other symbols are counted.

    Raises:
        ConfigError: the file cannot be read, or a symbol is at several venues; names the line.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
    if not lines or lines[0].strip() != FUNDING_COLUMNS:
        raise ConfigError(f"{path}:1: found {lines[:1]}, expected {FUNDING_COLUMNS}")
    known: dict[str, list[Instrument]] = {}
    for one in instruments:
        known.setdefault(one.symbol, []).append(one)
        known[f"{one.venue}:{one.symbol}"] = [one]
    rows: dict[int, list[tuple[int, int, int]]] = {}
    for number, line in enumerate(lines[1:], 2):
        try:
            ts, symbol, rate, mark = (word.strip() for word in line.split(","))
            magnitude = steps_from_text(rate.removeprefix("-"), 8)
            signed = -magnitude if rate.startswith("-") else magnitude
            row = int(ts), signed, steps_from_text(mark, 8)
        except ValueError as error:
            raise ConfigError(f"{path}:{number}: {error}, expected {FUNDING_COLUMNS}") from None
        whose = known.get(symbol, [])
        if len(whose) > 1:
            names = " or ".join(f"{one.venue}:{one.symbol}" for one in whose)
            raise ConfigError(f"{path}:{number}: symbol is {symbol}, expected {names}")
        if whose:
            rows.setdefault(whose[0].instrument_id, []).append(row)
        else:
            _count(notes, "fundings_of_other_symbols", 1)
    events = {}
    for i, found in rows.items():
        part = np.zeros(len(found), EVENT)
        part["kind"], part["flags"] = EventKind.FUNDING, AT_VENUE
        times = np.array(sorted(found), np.int64)
        part["ts_exch_ns"] = part["ts_recv_ns"] = times[:, 0]
        part["trade_id"], part["mark_price_e8"] = times[:, 1], times[:, 2]
        events[i] = part
    return events


def with_funding(events: np.ndarray, funding: np.ndarray, notes: dict[str, int]) -> np.ndarray:
    """Return the events of one instrument with the funding that falls into their time.

    It is instead of the data's own, which their mark prices tell of: none is paid twice.

    Args:
        events: in both orders, read.
        funding: in order of time.
        notes: changed: what falls outside is counted, and what of the data was left out.
    """
    own = events["kind"] == EventKind.FUNDING
    own_count = int(np.count_nonzero(events["flags"][own] & AT_VENUE))
    _count(notes, "fundings_of_data_left_out", own_count)
    events = events[~own]
    at_venue = np.flatnonzero(events["flags"] & AT_VENUE)
    if not len(at_venue):
        _count(notes, "fundings_outside_the_data", len(funding))
        return events
    times = events["ts_exch_ns"][at_venue]
    inside = funding[(funding["ts_exch_ns"] >= times[0]) & (funding["ts_exch_ns"] <= times[-1])]
    _count(notes, "fundings_outside_the_data", len(funding) - len(inside))
    places = np.append(at_venue, len(events))[
        np.searchsorted(times, inside["ts_exch_ns"], side="right")
    ]
    return np.insert(events, places, inside)


def _count(notes: dict[str, int], name: str, count: int) -> None:
    """Note what was left out, if anything was."""
    if count:
        notes[name] = notes.get(name, 0) + count


def load_compute_ns(path: Path) -> np.ndarray:
    """Return how long a recorded run took from the book's publishing to the sending, per request.

    Raises:
        ConfigError: the run has no answered requests that a market event caused.
    """
    recording = Recording(path)
    try:
        ring = recording.run.rings.get(REPORTS_RING)
        found = []
        for _, block in ring.blocks(SLOTS_AT_ONCE) if ring else ():
            reports = np.ascontiguousarray(block).reshape(-1).view(REPORT)
            is_measured = (
                (reports["kind"] == ReportKind.EXECUTION)
                & (reports["request_kind"] == RequestKind.NEW)
                & (reports["sent_to_ack_ns"] > 0)
                & (reports["ts_recv_ns"] != 0)
            )
            kept = reports[is_measured]
            hops = ("book_to_strategy_ns", "strategy_to_risk_ns", "risk_to_sent_ns")
            found.append(sum(kept[name].astype(np.int64) for name in hops))
    finally:
        recording.close()
    times = np.concatenate(found) if found else np.zeros(0, np.int64)
    if not len(times):
        raise ConfigError(
            f"{path}: no answered request with hop stamps in ring {REPORTS_RING}, expected some;"
            " give compute_ns instead of compute_run"
        )
    return np.ascontiguousarray(times, np.int64)

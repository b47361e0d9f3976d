"""Recorded runs and raw captures as events: market slots, by the book's own rule of continuity.

A snapshot clears both books and sets its levels. Diffs without a snapshot wait for the next one,
and count here from the moment it is here: those that it holds are dropped, the others must follow
it without a gap. Trades are taken always.

A snapshot happened at the venue behind what it holds and before the first diff that follows it, and
is put there if its own time is another: where the venue did not say, that is when it was here.

Local times may be before the venue's, because its clock is ahead of ours. By how much at most is
noted as LOCAL_SHIFT, and the caller shifts the local times of all instruments by that: a shift for
each would let one be seen before another that it was seen after.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numba import njit

from common.enums import MarketKind, Side
from common.errors import UsageError
from common.fixed_point import INT64_MAX
from common.instruments import Instrument
from common.records import LEVEL_WORD, LEVELS_PER_SLOT, SLOT_WORDS
from processes.backtest.events import EVENT, EventKind, in_both_orders
from processes.convert.captures import CaptureSource
from processes.convert.market import find_messages
from processes.convert.merge import merged
from processes.convert.problems import Problems
from processes.convert.recorded import Messages, Recording
from processes.convert.registry import FactOptions, Registry
from processes.replay.capture import read_blocks

_DIFF, _GAP = int(MarketKind.DIFF_BEGIN), int(MarketKind.GAP)
_SNAPSHOT = int(MarketKind.SNAPSHOT_BEGIN)
_TRADE, _AGG_TRADE = int(MarketKind.TRADE), int(MarketKind.AGG_TRADE)
_MARK = int(MarketKind.MARK)
_DEPTH_EVENT, _TRADE_EVENT = int(EventKind.DEPTH), int(EventKind.TRADE)
_CLEAR_EVENT, _FUNDING_EVENT = int(EventKind.CLEAR), int(EventKind.FUNDING)
_BID, _ASK = int(Side.BID), int(Side.ASK)

LOCAL_SHIFT = "local_shift_ns"  # of the notes

# Places in the words of a reader.
IS_LIVE = 0  # a snapshot is there, and no gap since
LAST_ID = 1  # of the last applied diff, or the snapshot
IS_FRESH = 2  # no diff has followed the snapshot yet
TRADE_KIND = 3  # what is taken as a trade
MARK_E8 = 4
RATE_E8 = 5
NEXT_FUNDING = 6  # venue's instant, 0 unknown
STALE = 7
GAPS = 8
EARLY_COUNT = 9  # diffs that wait for a snapshot
SNAPSHOT_FIRST = 10  # events of the last snapshot: rows [first, end)
SNAPSHOT_END = 11
DIFF_TS = 12  # venue's time of the last diff that was applied
READER_WORDS = 16


@njit(cache=True, _nrt=False)
def put_event(out, kind, side, price, qty, ts_exch_ns, ts_recv_ns):
    """Write one event."""
    out["kind"] = kind
    out["side"] = side
    out["price_steps"] = price
    out["qty_steps"] = qty
    out["ts_exch_ns"] = ts_exch_ns
    out["ts_recv_ns"] = ts_recv_ns
    out["trade_id"] = 0
    out["mark_price_e8"] = 0


@njit(cache=True, _nrt=False)
def put_levels(slots, at, ts_exch_ns, ts_recv_ns, out, count):
    """Write a DEPTH event per level of the message at `at`; return how many events there are."""
    bids, asks = slots[at, 6] & 0xFFFFFFFF, slots[at, 6] >> 32
    for k in range(bids + asks):
        slot = at + 1 + k // LEVELS_PER_SLOT
        word = LEVEL_WORD + 2 * (k % LEVELS_PER_SLOT)
        side = _BID if k < bids else _ASK
        price, qty = slots[slot, word], slots[slot, word + 1]
        put_event(out[count], _DEPTH_EVENT, side, price, qty, ts_exch_ns, ts_recv_ns)
        count += 1
    return count


@njit(cache=True, _nrt=False)
def follows(words, first_id, last_id, previous_id):
    """Return True if a diff is the next one: steps 4 and 5 of processes/book/sync.py."""
    if words[IS_FRESH] != 0:
        return first_id <= words[LAST_ID] <= last_id or previous_id == words[LAST_ID]
    return previous_id == words[LAST_ID]


@njit(cache=True, _nrt=False)
def put_mark(slots, at, ts_recv_ns, words, out, count):
    """Remember mark price and rate; when the funding instant has passed, write a FUNDING event."""
    ts_next = slots[at, 6]
    if 0 < words[NEXT_FUNDING] < ts_next and slots[at, 2] >= words[NEXT_FUNDING]:
        ts = words[NEXT_FUNDING]
        put_event(out[count], _FUNDING_EVENT, 0, 0, 0, ts, ts_recv_ns)
        out[count]["trade_id"] = words[RATE_E8]
        out[count]["mark_price_e8"] = words[MARK_E8]
        count += 1
    words[MARK_E8] = slots[at, 3]
    words[RATE_E8] = slots[at, 5]
    words[NEXT_FUNDING] = ts_next
    return count


@njit(cache=True, _nrt=False)
def move_snapshot(words, out, ts_min, ts_max):
    """Put the events of the last snapshot into [ts_min, ts_max], venue's time."""
    for row in range(words[SNAPSHOT_FIRST], words[SNAPSHOT_END]):
        out[row]["ts_exch_ns"] = min(max(out[row]["ts_exch_ns"], ts_min), ts_max)


@njit(cache=True, _nrt=False)
def take_snapshot(slots, at, ts_recv_ns, words, out, count):
    """Write the events of a snapshot; return how many events there are."""
    ts_exch_ns = slots[at, 2] if slots[at, 2] > 0 else ts_recv_ns
    if slots[at, 4] >= words[LAST_ID]:  # it holds the last diff
        ts_exch_ns = max(ts_exch_ns, words[DIFF_TS])
    words[SNAPSHOT_FIRST] = count
    put_event(out[count], _CLEAR_EVENT, 0, 0, 0, ts_exch_ns, ts_recv_ns)
    count = put_levels(slots, at, ts_exch_ns, ts_recv_ns, out, count + 1)
    words[SNAPSHOT_END] = count
    words[IS_LIVE], words[IS_FRESH], words[LAST_ID] = 1, 1, slots[at, 4]
    return count


@njit(cache=True, _nrt=False)
def take_diff(slots, at, ts_recv_ns, words, out, count):
    """Write the events of a diff if it is the next one; return how many events there are."""
    first_id, last_id, previous_id = slots[at, 3], slots[at, 4], slots[at, 5]
    is_old = last_id < words[LAST_ID] if words[IS_FRESH] != 0 else last_id <= words[LAST_ID]
    ts_exch_ns = slots[at, 2]
    if is_old:
        words[STALE] += 1
        if words[IS_FRESH] != 0:
            move_snapshot(words, out, ts_exch_ns, INT64_MAX)
        return count
    if not follows(words, first_id, last_id, previous_id):
        words[IS_LIVE] = 0
        words[GAPS] += 1
        return count
    if words[IS_FRESH] != 0:
        move_snapshot(words, out, 0, ts_exch_ns)
    words[IS_FRESH] = 0
    words[LAST_ID] = last_id
    words[DIFF_TS] = ts_exch_ns
    return put_levels(slots, at, ts_exch_ns, ts_recv_ns, out, count)


@njit(cache=True, _nrt=False)
def take_messages(slots, starts, instrument, offset_ns, early, words, out):
    """Write the events of whole messages.

    Args:
        slots: int64[n, 8], read.
        starts: int64[m], read. Where the messages begin.
        instrument: id of the one that is wanted.
        offset_ns: from local times to the wall clock.
        early: int64[m], scratch: messages that wait for a snapshot.
        words: int64[READER_WORDS], changed.
        out: EVENT[k], changed; there is room for all levels of all messages, twice.

    Returns:
        How many events there are.
    """
    count = 0
    for i in range(starts.shape[0]):
        at = starts[i]
        kind = slots[at, 0] & 0xFF
        whose = slots[at, 0] >> 32
        if kind == _GAP and (whose == -1 or whose == instrument):
            words[IS_LIVE] = 0
            words[GAPS] += 1
            words[EARLY_COUNT] = 0
        if whose != instrument:
            continue
        ts_recv_ns = slots[at, 1] + offset_ns
        if kind == words[TRADE_KIND]:
            side = (slots[at, 6] & 0xFF ^ 0x80) - 0x80
            put_event(
                out[count], _TRADE_EVENT, side, slots[at, 3], slots[at, 4], slots[at, 2], ts_recv_ns
            )
            out[count]["trade_id"] = slots[at, 5]
            count += 1
        elif kind == _DIFF:
            if words[IS_LIVE] != 0:
                count = take_diff(slots, at, ts_recv_ns, words, out, count)
            if words[IS_LIVE] == 0:  # also if it was this one that did not follow
                early[words[EARLY_COUNT]] = at
                words[EARLY_COUNT] += 1
        elif kind == _SNAPSHOT:
            count = take_snapshot(slots, at, ts_recv_ns, words, out, count)
            waiting = words[EARLY_COUNT]
            words[EARLY_COUNT] = 0
            for k in range(waiting):
                if words[IS_LIVE] != 0:
                    count = take_diff(slots, early[k], ts_recv_ns, words, out, count)
                if words[IS_LIVE] == 0:
                    early[words[EARLY_COUNT]] = early[k]
                    words[EARLY_COUNT] += 1
        elif kind == _MARK:
            count = put_mark(slots, at, ts_recv_ns, words, out, count)
    return count


def events_of(
    slots: np.ndarray, instrument_id: int, offset_ns: int, notes: dict[str, int]
) -> np.ndarray:
    """Return market slots as EVENT rows in both orders; their local times are not shifted yet.

    Args:
        slots: int64[n, 8], whole messages.
        instrument_id: the one wanted, as the slots name it.
        offset_ns: from local times to the venue's kind of clock.
        notes: changed.
    """
    starts = np.zeros(len(slots), np.int64)
    starts = starts[: find_messages(slots, starts)]
    kinds = slots[starts, 0] & 0xFF
    mine = slots[starts, 0] >> 32 == instrument_id
    has_trades = bool(np.any(mine & (kinds == MarketKind.TRADE)))
    words = np.zeros(READER_WORDS, np.int64)
    words[TRADE_KIND] = MarketKind.TRADE if has_trades else MarketKind.AGG_TRADE
    rows = np.zeros(LEVELS_PER_SLOT * len(slots) + 2 * len(starts) + 2, EVENT)
    early = np.zeros(len(starts) + 1, np.int64)
    count = take_messages(slots, starts, instrument_id, offset_ns, early, words, rows)
    rows = rows[:count]
    waiting = int(words[EARLY_COUNT])
    for name, value in (
        ("stale_diffs", words[STALE]),
        ("gaps", words[GAPS]),
        ("unused_diffs", waiting),
    ):
        notes[name] = notes.get(name, 0) + int(value)
    ahead = int((rows["ts_exch_ns"] - rows["ts_recv_ns"]).max()) if count else 0
    if ahead > 0:
        notes[LOCAL_SHIFT] = max(notes.get(LOCAL_SHIFT, 0), ahead)
    return in_both_orders(rows)


def load_run(
    path: Path, instruments: list[Instrument], notes: dict[str, int]
) -> list[tuple[int, np.ndarray]]:
    """Return the events of a recorded run: (instrument, EVENT[m]) of each that it has.

    Raises:
        UsageError: it has none of them, or one on another grid.
    """
    recording = Recording(path)
    try:
        readers = [Messages(ring) for ring in recording.market_rings()]
        batches = merged([(slots for _, slots in one.batches()) for one in readers])
        slots = _joined(batches)
        found = []
        known = {(one.venue, one.symbol): one for one in recording.instruments}
        for wanted in instruments:
            theirs = known.get((wanted.venue, wanted.symbol))
            if theirs is None:
                continue
            _check_grid(path, wanted, theirs)
            events = events_of(slots, theirs.instrument_id, recording.wall_offset_ns, notes)
            found.append((wanted.instrument_id, events))
        left_out = sum(one.slots_left_out for one in readers)
    finally:
        recording.close()
    if left_out:
        notes["slots_left_out"] = notes.get("slots_left_out", 0) + left_out
    if not found:
        raise UsageError(
            f"{path}: has {', '.join(sorted(symbol for _, symbol in known)) or 'no instruments'},"
            f" expected one of {', '.join(one.symbol for one in instruments)}"
        )
    return found


def load_capture(path: Path, instrument: Instrument, notes: dict[str, int]) -> np.ndarray:
    """Return the events of one instrument in a raw capture.

    Raises:
        UsageError: the file cannot be read.
    """
    facts = instrument.facts
    options = FactOptions(
        venue=instrument.venue,
        symbol=instrument.symbol,
        tick_size=facts.tick_size,
        lot_size=facts.lot_size,
        price_decimals=facts.price_decimals,
        qty_decimals=facts.qty_decimals,
    )
    problems = Problems(is_strict=False)
    source = CaptureSource(path, Registry(options), problems)
    slots = _joined(source.batches())
    problems.close()
    if problems.count:
        notes["bad_lines"] = notes.get("bad_lines", 0) + problems.count
    return events_of(slots, 0, 0, notes)


def symbols_in(path: Path, symbols: list[str]) -> list[str]:
    """Return which symbols a capture's events name; a snapshot names none.

    Raises:
        UsageError: the file cannot be read.
    """
    left = {f'"{symbol}"'.encode(): symbol for symbol in symbols}
    found = []
    for text, end in read_blocks(path):
        block = text[:end].tobytes()
        for name in [name for name in left if name in block]:
            found.append(left.pop(name))
        if not left:
            break
    return found


def _joined(batches: Iterator[np.ndarray]) -> np.ndarray:
    parts = [batch.copy() for batch in batches]
    return np.concatenate(parts) if parts else np.zeros((0, SLOT_WORDS), np.int64)


def _check_grid(path: Path, wanted: Instrument, theirs: Instrument) -> None:
    """Refuse a recording whose steps are not ours."""
    ours = wanted.price_grid_decimals, wanted.qty_grid_decimals
    found = theirs.price_grid_decimals, theirs.qty_grid_decimals
    if ours != found:
        raise UsageError(
            f"{path}: {wanted.symbol} has {found} decimals of price and quantity, expected {ours};"
            " give the instruments file the tick and lot size of the recording"
        )

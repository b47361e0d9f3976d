"""One turn of the book process: all market slots at hand in one kernel call."""

from numba import njit

from common.enums import MarketKind
from common.records import LEVELS_PER_SLOT
from processes.book.counters import Counter
from processes.book.publish import pass_on, publish_waiting, write_cells
from processes.book.state import (
    COUNTS,
    DIRTY_COUNT,
    TOUCHED_COUNT,
    ask_count_of,
    bid_count_of,
    instrument_of,
    kind_of,
    slot_count_of,
)
from processes.book.sync import lose_all, on_diff, on_gap, on_snapshot_begin, on_snapshot_end
from shm.ring import available, look_ahead, publish, release

_DIFF, _GAP = int(MarketKind.DIFF_BEGIN), int(MarketKind.GAP)
_TRADE, _AGG_TRADE = int(MarketKind.TRADE), int(MarketKind.AGG_TRADE)
_MARK, _LIQUIDATION = int(MarketKind.MARK), int(MarketKind.LIQUIDATION)
_CLOCK, _LEVELS = int(MarketKind.CLOCK), int(MarketKind.LEVELS)
_KIND_MAX = max(int(kind) for kind in MarketKind)
_SNAPSHOT_BEGIN = int(MarketKind.SNAPSHOT_BEGIN)
_SNAPSHOT_END = int(MarketKind.SNAPSHOT_END)
_PUBLISH_EVERY = 16  # messages; a burst must not keep the first ones back


@njit(cache=True, _nrt=False)
def is_whole(state, header, slots_left):
    """Return True if a header slot may be one: its kind, length, levels and instrument.

    Args:
        state: State, read.
        header: int64[8], read.
        slots_left: slots from it on that can be read.
    """
    kind = kind_of(header[0])
    slot_count = slot_count_of(header[0])
    i = instrument_of(header[0])
    if kind < 1 or kind > _KIND_MAX or kind == _LEVELS or slot_count < 1 or slot_count > slots_left:
        return False
    is_for_all = kind == _GAP or kind == _CLOCK
    if i >= state.sync.shape[0] or i < (-1 if is_for_all else 0):
        return False
    if kind != _DIFF and kind != _SNAPSHOT_BEGIN:
        return True
    bid_count, ask_count = bid_count_of(header[COUNTS]), ask_count_of(header[COUNTS])
    if ask_count < 0:
        return False
    return slot_count == 1 + (bid_count + ask_count + LEVELS_PER_SLOT - 1) // LEVELS_PER_SLOT


@njit(cache=True, _nrt=False)
def take_market(state, inp, out, versions, cells, counts, histograms, now_ns, slots_max):
    """Take market messages: books to BOOK messages, the rest passed on or ignored.

    Args:
        state: State, changed.
        inp, out: In of the market ring and Out of the book ring, changed.
        versions, cells: of the BBO table, changed.
        counts, histograms: the process's counters, changed.
        now_ns: CLOCK_MONOTONIC.
        slots_max: take no further message after so many slots.

    Returns:
        Slots taken.
    """
    if state.totals[DIRTY_COUNT] != 0:
        publish_waiting(state, out, counts, histograms, now_ns)
    slots = inp.slots
    mask = slots.shape[0] - 1
    first, end = available(inp)
    sequence = first
    messages = 0
    while sequence < end and sequence - first < slots_max:
        place = sequence & mask
        kind = kind_of(slots[place, 0])
        messages += 1
        look_ahead(inp, sequence)
        if not is_whole(state, slots[place], end - sequence):
            counts[Counter.MALFORMED] += 1
            lose_all(state, out, slots[place], counts, histograms, now_ns)
            sequence += 1
            continue
        if kind == _DIFF:
            on_diff(state, out, slots, sequence, counts, histograms, now_ns)
        elif kind == _GAP:
            on_gap(state, out, slots[place], counts, histograms, now_ns)
            pass_on(out, slots, place, counts, now_ns)
        elif (
            kind == _TRADE or kind == _AGG_TRADE or kind == _MARK
            or kind == _LIQUIDATION or kind == _CLOCK
        ):  # fmt: skip
            pass_on(out, slots, place, counts, now_ns)
        else:
            counts[Counter.IGNORED] += 1
        sequence += slot_count_of(slots[place, 0])
        if messages % _PUBLISH_EVERY == 0:
            publish(out)
    finish(state, out, versions, cells, now_ns)
    if sequence != first:
        counts[Counter.MESSAGES] += messages
        release(inp, sequence)
    return sequence - first


@njit(cache=True, _nrt=False)
def take_snapshots(state, inp, out, versions, cells, counts, histograms, now_ns):
    """Take what rest has answered; Args and Returns as in `take_market`, `inp` of its ring."""
    slots = inp.slots
    mask = slots.shape[0] - 1
    first, end = available(inp)
    sequence = first
    while sequence < end:
        place = sequence & mask
        kind = kind_of(slots[place, 0])
        if not is_whole(state, slots[place], end - sequence):
            counts[Counter.MALFORMED] += 1
            sequence += 1
            continue
        if kind == _SNAPSHOT_BEGIN:
            on_snapshot_begin(state, slots, sequence, counts)
        elif kind == _SNAPSHOT_END:
            on_snapshot_end(state, out, slots[place], counts, histograms, now_ns)
        else:
            counts[Counter.MALFORMED] += 1
        sequence += slot_count_of(slots[place, 0])
    finish(state, out, versions, cells, now_ns)
    if sequence != first:
        release(inp, sequence)
    return sequence - first


@njit(cache=True, _nrt=False)
def finish(state, out, versions, cells, now_ns):
    """Show what was written: the ring's cursor, the cells of touched instruments."""
    publish(out)
    if state.totals[TOUCHED_COUNT] != 0:
        write_cells(state, versions, cells, now_ns)


@njit(cache=True)
def take_turn(bundle, now_ns, slots_max):
    """Take what both rings hold; Returns as in `take_market`.

    Args:
        bundle: (State, In of the snapshot ring, In of the market ring, Out of the book ring,
            versions and cells of the BBO table, counters, histograms), changed.
        now_ns, slots_max: as in `take_market`.
    """
    state, snapshots, market, out, versions, cells, counts, histograms = bundle.args
    work = take_snapshots(state, snapshots, out, versions, cells, counts, histograms, now_ns)
    return work + take_market(
        state, market, out, versions, cells, counts, histograms, now_ns, slots_max
    )

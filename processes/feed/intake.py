"""From frames to the ring: one kernel call for all frames of one socket read.

A message is decoded beside the ring, then claimed, copied and published whole, at once; if the ring
is full it is dropped and a GAP tells. While two connections of a line run side by side, each
message is published once.
"""

import numpy as np
from numba import njit

from common.clock import read_monotonic_ns
from common.enums import GapReason, MarketKind
from common.records import SLOT_WORDS
from processes.feed.binance import decode_frame
from processes.feed.binance_events import (
    AGG_TRADE,
    BBO,
    DEPTH,
    LIQUIDATION,
    MARK,
    TRADE,
)
from processes.feed.counters import WIRE_TO_RECORD, Counter
from processes.feed.decoded import GAP_NEEDED, INSTRUMENT, KIND, REFUSED, Decoded
from processes.feed.session import Mode
from shm.counters import record_value
from shm.cursors import RING_FULL, publish, try_claim_or_drop
from shm.words import P_OFFERED

# Columns of the table of what was published last, one row per instrument.
SEEN_DEPTH, SEEN_BBO, SEEN_TRADE, SEEN_AGG_TRADE, SEEN_MARK, SEEN_LIQUIDATION = range(6)
SEEN_AHEAD = 6  # highest depth update of the new link that was left to the old one
SEEN_COLUMNS = 8

# Words of the answer.
DEPTH_COUNT, SHUTDOWN_COUNT = 0, 1
ANSWER_WORDS = 4

_WANTED, _DUPLICATE, _AHEAD = 0, 1, 2
_ALONE, _NEW = int(Mode.ALONE), int(Mode.NEW)
_GAP_KIND = int(MarketKind.GAP)
_CLOCK_KIND = int(MarketKind.CLOCK)
_DECODE = np.int64(GapReason.DECODE)
_ALL, _NONE = np.int64(-1), np.int64(0)
_SLOT_COUNT_SHIFT, _INSTRUMENT_SHIFT = 16, 32
_INT32_MAX = (1 << 31) - 1
_EVENT_COUNTER = int(Counter.EVENT_UNKNOWN) + int(Decoded.EVENT_UNKNOWN)
_BAD_COUNTER = int(Counter.BAD_OVERSIZE) + REFUSED


@njit(cache=True, _nrt=False)
def _judge(mode, words, seen, kind, instrument_id):
    """Say whether a message is new, and remember it if it is.

    The second link of a line may be ahead of the first: it delivers a diff whose predecessor the
    first one still has to deliver. Such a diff is left to the first, or the chain would break.
    """
    if kind == DEPTH:
        column, identity = SEEN_DEPTH, words[0, 4]
    elif kind == BBO:
        column, identity = SEEN_BBO, words[0, 3]
    elif kind == TRADE:
        column, identity = SEEN_TRADE, words[0, 5]
    elif kind == AGG_TRADE:
        column, identity = SEEN_AGG_TRADE, words[0, 5]
    else:
        column = SEEN_MARK if kind == MARK else SEEN_LIQUIDATION
        identity = words[0, 2]
    if mode != _ALONE:
        last = seen[instrument_id, column]
        if identity <= last:
            return _DUPLICATE
        if mode == _NEW and kind == DEPTH and words[0, 5] > last:
            seen[instrument_id, SEEN_AHEAD] = max(identity, seen[instrument_id, SEEN_AHEAD])
            return _AHEAD
    seen[instrument_id, column] = identity
    return _WANTED


@njit(cache=True, _nrt=False)
def _stamp(words, kind, delay_ns):
    """Write recv_to_pub_ns where the record has it: int32, low half of the last word."""
    if kind == DEPTH or kind == TRADE or kind == AGG_TRADE or kind == MARK or kind == LIQUIDATION:
        words[0, 7] = min(delay_ns, _INT32_MAX)


@njit(cache=True, _nrt=False)
def _publish_message(out, words, slots, instrument_id, now_ns):
    """Copy a message into the ring and publish it; return False if it was dropped."""
    first = try_claim_or_drop(out, slots, instrument_id, now_ns)
    if first == RING_FULL:
        return False
    mask = out.slots.shape[0] - 1
    for i in range(slots):
        place = np.uintp((first + i) & mask)
        for word in range(SLOT_WORDS):
            out.slots[place, word] = words[i, word]
    publish(out)
    return True


@njit(cache=True, _nrt=False)
def _count_kind(values, kind):
    if kind == DEPTH:
        values[Counter.DEPTH] += 1
    elif kind == BBO:
        values[Counter.BBO] += 1
    elif kind == TRADE:
        values[Counter.TRADE] += 1
    elif kind == AGG_TRADE:
        values[Counter.AGG_TRADE] += 1
    elif kind == MARK:
        values[Counter.MARK] += 1
    else:
        values[Counter.LIQUIDATION] += 1


@njit(cache=True, _nrt=False)
def write_gap(out, values, instrument_id, reason, ts_recv_ns, now_ns):
    """Publish a GAP for something that never reached the ring; kept for later if there is no room.

    Args:
        out: Out of the market ring, changed.
        values: int64[n], changed. Counters.
        instrument_id: whose book has to resync, -1 for all.
        reason: GapReason.
        ts_recv_ns: the stamp of the read that told it.
        now_ns: CLOCK_MONOTONIC.
    """
    values[Counter.GAPS] += 1
    first = try_claim_or_drop(out, 1, instrument_id, now_ns)
    if first == RING_FULL:
        return
    words = out.slots
    place = first & (words.shape[0] - 1)
    words[place, 0] = _GAP_KIND | (1 << _SLOT_COUNT_SHIFT) | (instrument_id << _INSTRUMENT_SHIFT)
    words[place, 1] = ts_recv_ns
    words[place, 2] = out.own[P_OFFERED] - 1
    words[place, 3] = out.own[P_OFFERED] - 1
    words[place, 4] = reason
    words[place, 5] = now_ns
    words[place, 6] = 0
    words[place, 7] = 0
    publish(out)


@njit(cache=True, _nrt=False)
def write_clock(out, values, now_ns, wall_ns, boot_words):
    """Publish a CLOCK record: CLOCK_MONOTONIC, the wall clock of the same instant, the boot id.

    Args:
        out: Out of the market ring, changed.
        values: int64[n], changed. Counters.
        now_ns, wall_ns: the two clocks.
        boot_words: int64[2], read. The 16 bytes of the boot id.
    """
    first = try_claim_or_drop(out, 1, _ALL, now_ns)
    if first == RING_FULL:
        return
    values[Counter.CLOCKS] += 1
    words = out.slots
    place = first & (words.shape[0] - 1)
    words[place, 0] = _CLOCK_KIND | (1 << _SLOT_COUNT_SHIFT) | (_ALL << _INSTRUMENT_SHIFT)
    words[place, 1] = now_ns
    words[place, 2] = now_ns
    words[place, 3] = wall_ns
    words[place, 4] = boot_words[0]
    words[place, 5] = boot_words[1]
    words[place, 6] = 0
    words[place, 7] = 0
    publish(out)


@njit(cache=True, _nrt=False)
def _count_refusal(values, status, answer):
    """Count a frame that gave no record under its reason."""
    if status > REFUSED:
        values[_EVENT_COUNTER - status] += 1
        if status == Decoded.SHUTDOWN:
            answer[SHUTDOWN_COUNT] += 1
    else:
        values[Counter.DECODE_ERRORS] += 1
        values[_BAD_COUNTER - status] += 1


@njit(cache=True, _nrt=False)
def _take_frame(
    text, first, end, symbols, words, state, out, seen, values, histograms, timespec, answer,
    ts_recv_ns, mode, has_depth,
):  # fmt: skip
    """Decode one frame and publish what it says."""
    size = words.shape[0]
    slots = decode_frame(text, first, end, symbols, words, size - 1, _NONE, size, ts_recv_ns, state)
    now_ns = read_monotonic_ns(timespec)
    values[Counter.FRAMES] += 1
    values[Counter.FRAME_BYTES] += end - first
    if slots < 0:
        _count_refusal(values, slots, answer)
        if state[GAP_NEEDED] != 0 and has_depth:
            write_gap(out, values, state[INSTRUMENT], _DECODE, ts_recv_ns, now_ns)
        return
    kind, instrument_id = state[KIND], state[INSTRUMENT]
    if kind == DEPTH:
        answer[DEPTH_COUNT] += 1
    verdict = _judge(mode, words, seen, kind, instrument_id)
    if verdict != _WANTED:
        values[Counter.DUPLICATE if verdict == _DUPLICATE else Counter.AHEAD] += 1
        return
    _stamp(words, kind, now_ns - ts_recv_ns)
    if _publish_message(out, words, slots, instrument_id, now_ns):
        _count_kind(values, kind)
        record_value(histograms, WIRE_TO_RECORD, now_ns - ts_recv_ns)
    else:
        values[Counter.DROPPED] += 1
        values[Counter.DROPPED_SLOTS] += slots


@njit(cache=True)
def take_frames(bundle, count, ts_recv_ns, mode, has_depth):
    """Decode and publish all frames of one socket read.

    Args:
        bundle: text uint8[n], bounds int64[m, 2] (read), symbols (read), words int64[2^k, 8]
            (scratch for the longest message), state, out (Out of the market ring), seen
            int64[instruments, SEEN_COLUMNS], values, histograms, timespec int64[2], answer
            int64[ANSWER_WORDS] (changed).
        count: rows of `bounds`.
        ts_recv_ns: stamp of the read.
        mode: Mode of the link.
        has_depth: 1 if the link carries depth: a frame that cannot be read may have been one.
    """
    (text, bounds, symbols, words, state, out, seen, values, histograms, timespec, answer) = (
        bundle.args
    )
    answer[DEPTH_COUNT] = answer[SHUTDOWN_COUNT] = 0
    for i in range(count):
        _take_frame(
            text, bounds[i, 0], bounds[i, 1], symbols, words, state, out, seen, values,
            histograms, timespec, answer, ts_recv_ns, mode, has_depth,
        )  # fmt: skip

"""SPSC ring, the kernels: claim, write, publish; available, read, release.

    sequence   0 ......... consumer cursor ..... producer cursor ..... claim cursor
                 released          lag, readable        being written

Sequences are int64, never wrap and name a slot for ever: slot = sequence & (capacity - 1). Cursors
are published with one release store a batch; each end keeps a private copy of the other's. A
message of several slots is published at once, so a cursor always stands between two messages.

Ledger: offered = published + dropped; published = consumed + lag; an observer's own: published =
read + lapped + lag. Offered is what was counted plus the GAP slots published.

Rules: all kernels are compiled without reference counting (_nrt=False): they allocate nothing, and
numba otherwise counts every array of an end with locked instructions at each call.

Not here: segments, roles and the Python classes (ring.py).
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from common.enums import GapReason, MarketKind
from common.records import SLOT_WORDS
from shm.atomics import fence_release, load_acquire, prefetch, store_release
from shm.doorbell import ring_if_asleep
from shm.words import (
    C_CURSOR,
    C_LAG_MAX,
    L_BELL,
    L_CAPACITY,
    L_CLAIMED,
    L_END,
    L_GAP_OPEN,
    L_LAG_MAX,
    L_LIMIT,
    L_PUBLISHED,
    L_RELEASED,
    L_RESERVED,
    L_TAKEN,
    P_CLAIM,
    P_CURSOR,
    P_DROPPED,
    P_GAP_LAST,
    P_GAP_NUMBER,
    P_GAP_SEQUENCE,
    P_GAPS,
    P_LOST_FIRST,
    P_LOST_LAST,
    P_LOST_NEXT,
    P_LOST_REASON,
    P_LOST_SCOPE,
    P_OFFERED,
)

RING_FULL = -1
LOOK_AHEAD_SLOTS = 48  # far enough to hide the way from the producer's core (bench/ring.py)
_GAP_HEADER = int(MarketKind.GAP) | 1 << 16  # kind, flags 0, slot_count 1


class Out(NamedTuple):
    """Producer end, as kernels take it.

    Attributes:
        slots: int64[capacity, 8] of a market ring, else record[capacity]; changed.
        local: int64[16], private; see words.py.
        own: int64[512], the producer page; changed.
        other: int64[512], the consumer page; read-only.
    """

    slots: np.ndarray
    local: np.ndarray
    own: np.ndarray
    other: np.ndarray


class In(NamedTuple):
    """Consumer end, as kernels take it.

    Attributes:
        slots: int64[capacity, 8] of a market ring, else record[capacity]; read-only.
        local: int64[16], private; see words.py.
        own: int64[512], the consumer page; changed.
        other: int64[512], the producer page; read-only.
    """

    slots: np.ndarray
    local: np.ndarray
    own: np.ndarray
    other: np.ndarray


@njit(cache=True, _nrt=False)
def _refresh_limit(out):
    """Look at the consumer cursor again; return the new end of claims."""
    local = out.local
    consumed = load_acquire(out.other, C_CURSOR)
    used = local[L_PUBLISHED] - consumed
    assert 0 <= used <= local[L_CAPACITY], "consumer cursor is corrupt"
    local[L_LIMIT] = consumed + local[L_CAPACITY] - local[L_RESERVED]
    return local[L_LIMIT]


@njit(cache=True, _nrt=False, forceinline=True)
def _claim_to(out, end):
    """Take all slots below `end`, and let observers know before any of them changes."""
    out.local[L_CLAIMED] = end
    if end > out.own[P_CLAIM]:  # not so if claims were abandoned; nobody else writes the word
        store_release(out.own, P_CLAIM, end)
        fence_release()


@njit(cache=True, _nrt=False, forceinline=True)
def try_claim(out, count):
    """Take the next `count` slots for writing.

    Args:
        out: Out, changed.
        count: slots wanted, at least 1.

    Returns:
        The first sequence; slots of [first, first + count) may now be written. RING_FULL if there
        is no room for all of them: nothing was changed.

    Order: the claim cursor is stored before the slots (release fence), so an observer that copied
    a slot under change sees the claim when it validates.
    Writer: producer.
    """
    local = out.local
    first = local[L_CLAIMED]
    end = first + count
    if end > local[L_LIMIT] and end > _refresh_limit(out):
        return RING_FULL
    _claim_to(out, end)
    return first


@njit(cache=True, _nrt=False)
def clear_told_loss(own):
    """Forget the loss that the GAP just published tells; keep what was lost after it.

    Doing it twice is the same as once: a killed producer's successor does it again.

    Args:
        own: int64[512], the producer page, changed.
    """
    own[P_GAPS] = own[P_GAP_NUMBER]
    if own[P_LOST_LAST] > own[P_GAP_LAST]:
        own[P_LOST_FIRST] = own[P_LOST_NEXT]
    else:
        store_release(own, P_LOST_REASON, 0)
    store_release(own, P_GAP_SEQUENCE, -1)


@njit(cache=True, _nrt=False, forceinline=True)
def publish(out):
    """Show everything claimed so far to the consumer, and ring its bell if it sleeps.

    Args:
        out: Out or Words of a producer, changed.

    Order: one store-release of the cursor; pairs with the load-acquire in `available`, so a
    consumer that sees the cursor also sees the slots.
    Writer: producer.
    """
    local = out.local
    end = local[L_CLAIMED]
    store_release(out.own, P_CURSOR, end)
    local[L_PUBLISHED] = end
    if local[L_GAP_OPEN] != 0:
        clear_told_loss(out.own)
        local[L_GAP_OPEN] = 0
    if local[L_BELL] >= 0:
        ring_if_asleep(local[L_BELL], out.own, out.other)


@njit(cache=True, _nrt=False)
def abandon(out):
    """Forget all claims since the last publish; their slots are claimed again later.

    The claim cursor in shared memory stays: it never falls, because the slots may have changed.

    Args:
        out: Out or Words of a producer, changed.
    """
    local = out.local
    local[L_CLAIMED] = local[L_PUBLISHED]
    if local[L_GAP_OPEN] != 0:
        local[L_GAP_OPEN] = 0
        out.own[P_GAP_SEQUENCE] = -1


@njit(cache=True, _nrt=False, forceinline=True)
def count_offered(out, count):
    """Count `count` slots that are to be published, before it is known whether there is room."""
    out.own[P_OFFERED] += count


@njit(cache=True, _nrt=False)
def count_dropped(out, count, reason, instrument_id):
    """Count the last `count` offered slots as lost, and keep the loss until a GAP tells it.

    The loss is kept in the producer page: it survives this process.

    Args:
        out: Out, changed.
        count: slots lost; `count_offered` has counted them.
        reason: GapReason.
        instrument_id: whose they were, -1 for all or unknown.
    """
    own, local = out.own, out.local
    last = own[P_OFFERED] - 1
    first = last - count + 1
    if own[P_LOST_REASON] == 0:
        own[P_LOST_FIRST] = first
        own[P_LOST_LAST] = last
        own[P_LOST_SCOPE] = instrument_id
        store_release(own, P_LOST_REASON, reason)
    else:
        if local[L_GAP_OPEN] != 0 and own[P_LOST_LAST] == own[P_GAP_LAST]:
            own[P_LOST_NEXT] = first
        if own[P_LOST_SCOPE] != instrument_id:
            own[P_LOST_SCOPE] = -1
        own[P_LOST_LAST] = last
    own[P_DROPPED] += count


@njit(cache=True, _nrt=False)
def try_write_gap(out, now_ns):
    """Write a GAP slot for the loss not yet told; call it before the first claim after a loss.

    Market rings only. It may use the slot kept free for it, so it fits once even if the ring is
    full. The loss is forgotten when the GAP is published.

    Args:
        out: Out of a market ring, changed.
        now_ns: CLOCK_MONOTONIC.

    Returns:
        1 a GAP was written, unpublished; 0 there is nothing to tell; -1 still no room.
    """
    own, local = out.own, out.local
    if own[P_LOST_REASON] == 0 or local[L_GAP_OPEN] != 0:
        return 0
    sequence = local[L_CLAIMED]
    end = sequence + 1
    if end > local[L_LIMIT] and end > _refresh_limit(out) + local[L_RESERVED]:
        return -1
    _claim_to(out, end)
    slot = sequence & (local[L_CAPACITY] - 1)
    slots = out.slots
    slots[slot, 0] = _GAP_HEADER | own[P_LOST_SCOPE] << 32
    slots[slot, 1] = now_ns
    slots[slot, 2] = own[P_LOST_FIRST]
    slots[slot, 3] = own[P_LOST_LAST]
    slots[slot, 4] = own[P_LOST_REASON]
    slots[slot, 5] = now_ns
    slots[slot, 6] = 0
    slots[slot, 7] = 0
    own[P_GAP_LAST] = own[P_LOST_LAST]
    own[P_GAP_NUMBER] = own[P_GAPS] + 1
    store_release(own, P_GAP_SEQUENCE, sequence)
    local[L_GAP_OPEN] = 1
    return 1


@njit(cache=True, _nrt=False)
def try_claim_or_drop(out, count, instrument_id, now_ns):
    """Policy "drop with GAP" in one call: tell an earlier loss, claim, or count these as lost.

    Args:
        out: Out of a market ring, changed.
        count: slots of the message.
        instrument_id: whose they are, -1 for all.
        now_ns: CLOCK_MONOTONIC, for the GAP.

    Returns:
        The first sequence, or RING_FULL: the message is lost and counted.
    """
    count_offered(out, count)
    if out.own[P_LOST_REASON] == 0 or try_write_gap(out, now_ns) >= 0:
        first = try_claim(out, count)
        if first >= 0:
            return first
    count_dropped(out, count, GapReason.RING_FULL.value, instrument_id)
    return RING_FULL


@njit(cache=True, _nrt=False, forceinline=True)
def available(inp):
    """Return [first, end): the sequences ready to be read.

    Args:
        inp: In or Words of a consumer; its private words and highest lag are changed.

    Order: load-acquire of the producer cursor; pairs with the store-release in `publish`.
    Writer: consumer.
    """
    local = inp.local
    first = local[L_TAKEN]
    end = local[L_END]
    if first >= end:  # recovery of a turn may have gone beyond what was seen
        end = _refresh_end(inp)
    return first, end


@njit(cache=True, _nrt=False, forceinline=True)
def look_ahead(inp, sequence):
    """Ask the producer's core for a slot that will be read soon; once per record of a long batch.

    A cache line comes over only when it is asked for, and a core asks for few at a time. Only
    published slots are asked for: one that is being written would be taken from its writer.

    Args:
        inp: In of a market ring, after `available`; read.
        sequence: being read now.
    """
    ahead = sequence + LOOK_AHEAD_SLOTS
    if ahead < inp.local[L_END]:
        prefetch(inp.slots, (ahead & (inp.local[L_CAPACITY] - 1)) * SLOT_WORDS)


@njit(cache=True, _nrt=False, forceinline=True)
def _refresh_end(inp):
    local = inp.local
    end = load_acquire(inp.other, P_CURSOR)
    lag = end - local[L_RELEASED]
    assert 0 <= lag <= local[L_CAPACITY], "producer cursor is corrupt"
    local[L_END] = end
    if lag > local[L_LAG_MAX]:
        local[L_LAG_MAX] = lag
        inp.own[C_LAG_MAX] = lag
    return end


@njit(cache=True, _nrt=False, forceinline=True)
def take(inp, end):
    """Go on to `end` without releasing the slots; only this process knows.

    Args:
        inp: In or Words of a consumer, changed.
        end: sequence behind the last one read.
    """
    inp.local[L_TAKEN] = end


@njit(cache=True, _nrt=False)
def take_back(inp):
    """Go back to the last release; the next `available` looks at the producer cursor again."""
    local = inp.local
    local[L_TAKEN] = local[L_END] = local[L_RELEASED]


@njit(cache=True, _nrt=False, forceinline=True)
def release(inp, end):
    """Give all slots below `end` back to the producer.

    Args:
        inp: In or Words of a consumer, changed.
        end: sequence behind the last one read.

    Order: store-release: the reads are done before the producer may write again.
    Writer: consumer.
    """
    local = inp.local
    store_release(inp.own, C_CURSOR, end)
    local[L_RELEASED] = end
    local[L_TAKEN] = end


@njit(cache=True, _nrt=False)
def load_word(words, index):
    """Return a shared word as Python code may read it, e.g. a cursor of the other end."""
    return load_acquire(words, index)

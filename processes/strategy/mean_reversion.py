"""Lean against a price that has left its own recent mean."""

import math

from numba import njit

from common.enums import ExecType, Side
from processes.strategy.api import strategy
from processes.strategy.verbs import (
    clip_steps,
    find_live_order,
    is_enough,
    is_fresh,
    mid,
    now_ns,
    quote,
    quote_index,
    set_timer,
    take_out,
)

INSTRUMENTS_MAX = 8  # their windows are copied each turn
WINDOW = 256


@njit(cache=True)
def measure(s, p, d, i):
    """Compare the newest sample with the window, summed anew each time: nothing drifts.

    Changes s["z"] and s["deviation_bps"]; both are 0.0 while the window is not full or all its
    samples are equal.
    """
    s["z"][i] = 0.0
    s["deviation_bps"][i] = 0.0
    n, seen = p["samples"], s["samples_seen"][i]
    if seen < n:
        return
    newest = s["mids"][i, (seen - 1) % WINDOW]
    total = 0
    for k in range(seen - n, seen):
        total += s["mids"][i, k % WINDOW] - newest
    offset = total / (1.0 * n)  # mean less newest
    squares = 0.0
    for k in range(seen - n, seen):
        distance = (s["mids"][i, k % WINDOW] - newest) - offset
        squares += distance * distance
    if squares == 0.0:
        return
    s["z"][i] = -offset / math.sqrt(squares / n)
    s["deviation_bps"][i] = -10_000.0 * offset / (newest + offset)


@njit(cache=True)
def wanted(s, p, d, i):
    """Return (side, quantity in steps) of the order that should stand; side 0: none."""
    if not is_fresh(d, i, p["stale_ns_max"]) or now_ns(d) < s["resume_ns"][i]:
        return 0, 0
    held, z = d.position[i], s["z"][i]
    is_full = s["samples_seen"][i] >= p["samples"]
    clip = clip_steps(d, i, p["clip_notional"], mid(d.books[i]))
    room = clip * p["position_clips_max"]
    if held > 0 and (not is_full or z >= -p["exit_z"]):
        return -1, min(held, clip)
    if held < 0 and (not is_full or z <= p["exit_z"]):
        return 1, min(-held, clip)
    least = 2.0 * p["maker_fee_bps"]
    if abs(z) < p["entry_z"] or abs(s["deviation_bps"][i]) < least or z == 0.0:
        return 0, 0
    if z < 0.0:
        return 1, max(min(clip, room - held), 0)
    return -1, max(min(clip, room + held), 0)


@njit(cache=True)
def place(s, p, d, i):
    """Bring the one order of instrument i to what is wanted."""
    side, qty = wanted(s, p, d, i)
    book = d.books[i]
    price = book["bid_price_steps"][0] if side == Side.BID else book["ask_price_steps"][0]
    live = find_live_order(d, i)
    is_own = live >= 0 and d.quotes[quote_index(i, side, 0)]["order_slot"] == live
    is_small = side != 0 and not is_enough(d, i, price, qty)
    if side == 0 or is_small or (live >= 0 and not is_own):
        quote(d, i, Side.BID, 0, 0)
        quote(d, i, Side.ASK, 0, 0)
        if is_small and live < 0 and side * d.position[i] < 0:
            s["resume_ns"][i] = now_ns(d) + p["pause_ns"]
            take_out(d, i, p["slippage_bps"])
        return
    quote(d, i, side, price, qty)


@strategy(
    params={
        "samples": ("<i8", 2, WINDOW),
        "sample_ns": ("<i8", 1, 3_600_000_000_000),
        "entry_z": ("<f8", 0.0, 1_000.0),
        "exit_z": ("<f8", 0.0, 1_000.0),
        "maker_fee_bps": ("<f8", -100.0, 100.0),
        "slippage_bps": ("<f8", 0.0, 1_000.0),
        "clip_notional": ("<f8", 0.0, 1e12),
        "position_clips_max": ("<i8", 0, 1_000),
        "pause_ns": ("<i8", 0, 3_600_000_000_000),
        "stale_ns_max": ("<i8", 1, 3_600_000_000_000),
    },
    state={
        "mids": ("<i8", (INSTRUMENTS_MAX, WINDOW)),
        "samples_seen": ("<i8", (INSTRUMENTS_MAX,)),
        "due_ns": ("<i8", (INSTRUMENTS_MAX,)),
        "z": ("<f8", (INSTRUMENTS_MAX,)),
        "deviation_bps": ("<f8", (INSTRUMENTS_MAX,)),
        "resume_ns": ("<i8", (INSTRUMENTS_MAX,)),
    },
)
class MeanReversion:
    """Buy what is far below its rolling mean, sell what is far above, within a bounded position.

    Rule: the mid is sampled at the first book state at least `sample_ns` after the sample before;
    z is the newest sample less the mean of the last `samples`, itself included, by their standard
    deviation (of the population). z <= -`entry_z`, and the distance is at least a round trip's
    fees, 2 x `maker_fee_bps` of the mean: a clip is wanted at the best bid; z >= `entry_z`: one at
    the best ask; never so much that the position would exceed `position_clips_max` clips. Long and
    z >= -`exit_z`, or short and z <= `exit_z`: up to one clip of the position is offered at the
    best price of its way out instead, and an order that adds waits for the next sample.

    `clip_notional` is quote currency, rounded down to the lot size, at least one lot. One post-only
    order of an instrument stands at a time, moved at each sample; on the other side one is placed
    only when it is gone. A rest of the position below the venue's least notional is taken out,
    reduce-only, at most `slippage_bps` through the touch. After a request was refused or the order
    expired, nothing is wanted for `pause_ns`. An invalid book or a gap pulls the order and empties
    the window, a sample `stale_ns_max` late empties it before it, and a position without a full
    window is worked out. A book older than `stale_ns_max` pulls the order. The first 8 instruments
    of the run are traded.

    It quotes: it is paid for standing where others run to, and at a distance of a few basis points
    the taker's fee would be most of what it hopes for.
    """

    def on_start(s, p, d):
        set_timer(d, 0, now_ns(d) + p["stale_ns_max"])

    def on_book(s, p, d, i):
        if i >= INSTRUMENTS_MAX:
            return
        book, now = d.books[i], now_ns(d)
        if book["valid"] == 0 or book["bid_count"] == 0 or book["ask_count"] == 0:
            s["samples_seen"][i] = 0
            place(s, p, d, i)
            return
        if now < s["due_ns"][i]:
            return
        if now - s["due_ns"][i] > p["stale_ns_max"]:
            s["samples_seen"][i] = 0
        seen = s["samples_seen"][i]
        # Twice the mid, an integer.
        s["mids"][i, seen % WINDOW] = book["bid_price_steps"][0] + book["ask_price_steps"][0]
        s["samples_seen"][i] = seen + 1
        s["due_ns"][i] = now + p["sample_ns"]
        measure(s, p, d, i)
        place(s, p, d, i)

    def on_report(s, p, d, i, report):
        if not 0 <= i < INSTRUMENTS_MAX:
            return
        kind = report["exec_type"]
        if (
            kind == ExecType.REJECTED
            or kind == ExecType.EXPIRED
            or kind == ExecType.REPLACE_REJECTED
        ):
            s["resume_ns"][i] = now_ns(d) + p["pause_ns"]
        place(s, p, d, i)  # what is wanted depends on the position

    def on_gap(s, p, d, i):
        if i < INSTRUMENTS_MAX:
            s["samples_seen"][i] = 0
            place(s, p, d, i)

    def on_timer(s, p, d, timer_id):
        for i in range(min(len(d.books), INSTRUMENTS_MAX)):
            if not is_fresh(d, i, p["stale_ns_max"]):
                place(s, p, d, i)
        set_timer(d, 0, now_ns(d) + (p["stale_ns_max"] + 1) // 2)

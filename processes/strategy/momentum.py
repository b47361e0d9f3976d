"""Follow a price that moves faster than it costs to follow it."""

from common.enums import Side
from processes.strategy.api import strategy
from processes.strategy.verbs import (
    clip_steps,
    find_live_order,
    is_fresh,
    mid,
    now_ns,
    take,
    take_out,
)

INSTRUMENTS_MAX = 8  # their windows are copied each turn
WINDOW = 256


@strategy(
    params={
        "ticks": ("<i8", 1, WINDOW - 1),
        "threshold_bps": ("<f8", 0.0, 10_000.0),
        "taker_fee_bps": ("<f8", -100.0, 100.0),
        "slippage_bps": ("<f8", 0.0, 1_000.0),
        "clip_notional": ("<f8", 0.0, 1e12),
        "pause_ns": ("<i8", 0, 3_600_000_000_000),
        "stale_ns_max": ("<i8", 1, 3_600_000_000_000),
    },
    state={
        "mids": ("<i8", (INSTRUMENTS_MAX, WINDOW)),
        "ticks_seen": ("<i8", (INSTRUMENTS_MAX,)),
        "resume_ns": ("<i8", (INSTRUMENTS_MAX,)),
    },
)
class Momentum:
    """One clip in the direction of the price, while it lasts.

    Rule: a tick is one valid book state with both sides; velocity is the change of the mid over the
    last `ticks` ticks, in basis points of the older mid. Flat, and |velocity| is at least
    `threshold_bps` and a round trip's fees, 2 x `taker_fee_bps`: take one clip in its direction.
    Holding, and velocity is zero or against the position: take the position out.

    `clip_notional` is quote currency, rounded down to the lot size, at least one lot; the position
    is never larger than one clip, and an entry that fills in part is kept as it is. An order
    trades at most `slippage_bps` through the touch. Within `pause_ns` of an order there is no other
    of its instrument, whatever became of the first, and none while one is live. An invalid book or
    a gap empties the window, and a window that is not full has velocity 0: a position whose reason
    is lost is taken out. A book older than `stale_ns_max` is a tick but nothing is sent on it.
    The first 8 instruments of the run are traded.

    It takes, as a price that runs does not come back to a passive order: those that would be filled
    are those where the move was none.
    """

    def on_book(s, p, d, i):
        if i >= INSTRUMENTS_MAX:
            return
        book = d.books[i]
        if book["valid"] == 0 or book["bid_count"] == 0 or book["ask_count"] == 0:
            s["ticks_seen"][i] = 0
            return
        tick = s["ticks_seen"][i]
        now_steps = book["bid_price_steps"][0] + book["ask_price_steps"][0]  # twice the mid
        s["mids"][i, tick % WINDOW] = now_steps
        s["ticks_seen"][i] = tick + 1
        velocity = 0.0
        if tick >= p["ticks"]:
            then_steps = s["mids"][i, (tick - p["ticks"]) % WINDOW]
            velocity = 10_000.0 * (now_steps - then_steps) / then_steps
        held = d.position[i]
        entry = p["threshold_bps"] + 2.0 * p["taker_fee_bps"]
        is_exit = held != 0 and velocity * held <= 0.0
        is_entry = held == 0 and velocity != 0.0 and abs(velocity) >= entry
        if not is_exit and not is_entry:
            return
        now = now_ns(d)
        if now < s["resume_ns"][i] or not is_fresh(d, i, p["stale_ns_max"]):
            return
        if find_live_order(d, i) >= 0:
            return
        s["resume_ns"][i] = now + p["pause_ns"]
        if is_exit:
            take_out(d, i, p["slippage_bps"])
            return
        side = Side.BID if velocity > 0.0 else Side.ASK
        clip = clip_steps(d, i, p["clip_notional"], mid(book))
        take(d, i, side, clip, p["slippage_bps"], 0)

    def on_gap(s, p, d, i):
        if i < INSTRUMENTS_MAX:
            s["ticks_seen"][i] = 0

"""Work a parent order along a volume curve, without being too much of the market."""

from numba import njit

from processes.strategy.api import strategy
from processes.strategy.verbs import (
    clip_steps,
    find_live_order,
    is_enough,
    is_fresh,
    mid,
    now_ns,
    set_timer,
    take,
)

INSTRUMENTS_MAX = 64
CURVE_PARTS = 8


@njit(cache=True)
def share_due(p, elapsed_ns):
    """Return the share of the parent that is due after `elapsed_ns`, 0.0 to 1.0."""
    if elapsed_ns >= p["horizon_ns"]:
        return 1.0
    weights = (
        p["curve_0"], p["curve_1"], p["curve_2"], p["curve_3"],
        p["curve_4"], p["curve_5"], p["curve_6"], p["curve_7"],
    )  # fmt: skip
    place = CURVE_PARTS * (elapsed_ns / (1.0 * p["horizon_ns"]))
    whole, done = int(place), 0
    for k in range(whole):
        done += weights[k]
    total = 0
    for k in range(CURVE_PARTS):
        total += weights[k]
    return (done + (place - whole) * weights[whole]) / (1.0 * total)


@njit(cache=True)
def child_steps(s, p, d, i):
    """Return the quantity in steps of the child that may be sent now, 0 if none."""
    parent = s["parent_steps"][i]
    done = p["side"] * (d.position[i] - s["start_position"][i])
    left = parent - done
    due = int(share_due(p, now_ns(d) - s["ts_start_ns"][i]) * parent) - done
    room = int(p["participation_max"] * s["market_steps"][i]) - done
    price = mid(d.books[i])
    child = clip_steps(d, i, p["child_notional"], price)
    qty = min(due, room)
    if not is_enough(d, i, price, left - child):
        child = left  # a rest that the venue would not take alone goes along
    if qty < child and qty < left:
        return 0
    qty = min(qty, child, left)
    return qty if qty > 0 and is_enough(d, i, price, qty) else 0


@strategy(
    params={
        "side": ("<i8", -1, 1),
        "parent_notional": ("<f8", 0.0, 1e12),
        "child_notional": ("<f8", 0.0, 1e12),
        "horizon_ns": ("<i8", 1, 7 * 86_400_000_000_000),
        "slice_ns": ("<i8", 1_000, 3_600_000_000_000),
        "participation_max": ("<f8", 0.0, 1.0),
        **{f"curve_{k}": ("<i8", 1, 1_000_000) for k in range(CURVE_PARTS)},
        "slippage_bps": ("<f8", 0.0, 1_000.0),
        "stale_ns_max": ("<i8", 1, 3_600_000_000_000),
    },
    state={
        "parent_steps": ("<i8", (INSTRUMENTS_MAX,)),
        "start_position": ("<i8", (INSTRUMENTS_MAX,)),
        "ts_start_ns": ("<i8", (INSTRUMENTS_MAX,)),
        "market_steps": ("<i8", (INSTRUMENTS_MAX,)),
    },
)
class VwapExecution:
    """One parent order an instrument, in children that follow the volume curve expected.

    Rule: the parent begins at the first slice with a fresh book; it is `parent_notional` of quote
    currency at the mid of that moment, bought (`side` 1) or sold (-1; 0 does nothing). The horizon,
    `horizon_ns`, has eight equal parts; in each the share `curve_0` to `curve_7` of their sum falls
    due, evenly. Every `slice_ns`, what is due less what is done, and no more than
    `participation_max` of the volume traded publicly since the beginning less what is done, is sent
    if it is at least one child, `child_notional`, or all that is left; one child at a time. Behind
    the horizon the rest is due at once and still worked within the participation limit.

    Notionals are rounded down to the lot size, at least one lot. Done is the change of the position
    since the beginning, so that a fill counts whenever it comes, and the parent is never exceeded.
    A rest below the venue's least notional goes with the last child, or stays undone. A child
    trades at most `slippage_bps` through the touch; what it leaves is due in a later slice, and so
    is one that was refused. Nothing is sent while an order of the instrument is live, on an invalid
    book, or on one older than `stale_ns_max`. A restart goes on with the same parent. The first 64
    instruments of the run are traded.

    It takes: its promise is the curve, and a child that waits in a queue falls behind just when
    the market runs away from it.
    """

    def on_start(s, p, d):
        set_timer(d, 0, now_ns(d) + p["slice_ns"])

    def on_trade(s, p, d, i, trade):
        if i < INSTRUMENTS_MAX and s["ts_start_ns"][i] != 0 and trade["qty_steps"] > 0:
            s["market_steps"][i] += trade["qty_steps"]

    def on_timer(s, p, d, timer_id):
        now = now_ns(d)
        set_timer(d, 0, now + p["slice_ns"])
        for i in range(min(len(d.books), INSTRUMENTS_MAX)):
            if p["side"] == 0 or not is_fresh(d, i, p["stale_ns_max"]):
                continue
            if s["ts_start_ns"][i] == 0:
                s["ts_start_ns"][i] = now
                s["start_position"][i] = d.position[i]
                s["parent_steps"][i] = clip_steps(d, i, p["parent_notional"], mid(d.books[i]))
            elif find_live_order(d, i) < 0:
                qty = child_steps(s, p, d, i)
                if qty > 0:
                    take(d, i, p["side"], qty, p["slippage_bps"], 0)

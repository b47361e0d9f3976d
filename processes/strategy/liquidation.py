"""Go with a burst of forced trading, and leave when it is over."""

from numba import njit

from common.enums import Side
from processes.strategy.api import strategy
from processes.strategy.verbs import (
    clip_steps,
    find_live_order,
    is_fresh,
    mid,
    now_ns,
    set_timer,
    take,
    take_out,
)

INSTRUMENTS_MAX = 8  # their windows are copied each turn
WINDOW = 128


@njit(cache=True)
def add_trade(s, p, i, price_steps, qty_steps):
    """Take one trade into the window and the average.

    Returns:
        The velocity over the window in basis points; 0.0 while the window is not full.
    """
    tick, ticks = s["ticks_seen"][i], p["ticks"]
    velocity = 0.0
    if tick >= ticks:
        place = (tick - ticks) % WINDOW
        then_steps = s["prices"][i, place]
        velocity = 10_000.0 * (price_steps - then_steps) / then_steps
        s["burst_steps"][i] -= s["quantities"][i, place]
    s["burst_steps"][i] += qty_steps
    s["prices"][i, tick % WINDOW] = price_steps
    s["quantities"][i, tick % WINDOW] = qty_steps
    s["ticks_seen"][i] = tick + 1
    s["trades"][i] += 1
    weight = 1.0 / min(s["trades"][i], p["average_ticks"])
    s["average"][i] += weight * (qty_steps - s["average"][i])
    return velocity


@njit(cache=True)
def burst_ratio(s, p, i):
    """Return the window's volume by the usual one; 0.0 while either is not known."""
    if s["ticks_seen"][i] <= p["ticks"] or s["trades"][i] < p["average_ticks"]:
        return 0.0
    return s["burst_steps"][i] / (p["ticks"] * s["average"][i])


@njit(cache=True)
def may_send(s, p, d, i):
    """Return True if an order may be sent now, and begin the pause behind it."""
    now = now_ns(d)
    if now < s["resume_ns"][i] or not is_fresh(d, i, p["stale_ns_max"]):
        return False
    if find_live_order(d, i) >= 0:
        return False
    s["resume_ns"][i] = now + p["pause_ns"]
    return True


@strategy(
    params={
        "ticks": ("<i8", 1, WINDOW - 1),
        "velocity_bps_min": ("<f8", 0.0, 10_000.0),
        "average_ticks": ("<i8", 1, 1_000_000_000),
        "burst_ratio_min": ("<f8", 1.0, 1_000_000.0),
        "normal_ratio_max": ("<f8", 0.0, 1_000_000.0),
        "quiet_ns_max": ("<i8", 1, 3_600_000_000_000),
        "slippage_bps": ("<f8", 0.0, 1_000.0),
        "clip_notional": ("<f8", 0.0, 1e12),
        "pause_ns": ("<i8", 0, 3_600_000_000_000),
        "stale_ns_max": ("<i8", 1, 3_600_000_000_000),
    },
    state={
        "prices": ("<i8", (INSTRUMENTS_MAX, WINDOW)),
        "quantities": ("<i8", (INSTRUMENTS_MAX, WINDOW)),
        "ticks_seen": ("<i8", (INSTRUMENTS_MAX,)),
        "burst_steps": ("<i8", (INSTRUMENTS_MAX,)),
        "trades": ("<i8", (INSTRUMENTS_MAX,)),
        "average": ("<f8", (INSTRUMENTS_MAX,)),
        "ts_trade_ns": ("<i8", (INSTRUMENTS_MAX,)),
        "resume_ns": ("<i8", (INSTRUMENTS_MAX,)),
    },
)
class Liquidation:
    """One clip with a liquidation cascade: a fast price on far more volume than usual.

    Rule: a tick is one public trade, of the one kind the feed carries; velocity is the change of
    the trade price over the last `ticks` ticks, in basis points of the older price; the ratio is
    the quantity of those ticks over `ticks` x the average quantity of a trade (a plain mean of the
    first `average_ticks`, from then on exponential with weight 1 / `average_ticks`). Flat,
    |velocity| is at least `velocity_bps_min` and the ratio at least `burst_ratio_min`: take one
    clip in the direction of the velocity. Holding, and the ratio is at most `normal_ratio_max` or
    the last trade is `quiet_ns_max` old: take the position out.

    `clip_notional` is quote currency, rounded down to the lot size, at least one lot; the position
    is never larger than one clip, and an entry that fills in part is kept as it is. An order
    trades at most `slippage_bps` through the touch. Within `pause_ns` of an order there is no other
    of its instrument, whatever became of the first, and none while one is live. A gap empties the
    window, and a ratio that is not known is 0: a position whose reason is lost is taken out at the
    next trade. Nothing is sent on an invalid book or one older than `stale_ns_max`. The first 8
    instruments of the run are traded.

    It takes: a forced seller is on the move for seconds, and the side that it runs over is the
    last place to wait in a queue.
    """

    def on_start(s, p, d):
        set_timer(d, 0, now_ns(d) + p["quiet_ns_max"])

    def on_trade(s, p, d, i, trade):
        if i >= INSTRUMENTS_MAX or trade["price_steps"] <= 0 or trade["qty_steps"] <= 0:
            return
        s["ts_trade_ns"][i] = now_ns(d)
        velocity = add_trade(s, p, i, trade["price_steps"], trade["qty_steps"])
        ratio = burst_ratio(s, p, i)
        if d.position[i] != 0:
            if ratio <= p["normal_ratio_max"] and may_send(s, p, d, i):
                take_out(d, i, p["slippage_bps"])
        elif (
            ratio >= p["burst_ratio_min"]
            and velocity != 0.0
            and abs(velocity) >= p["velocity_bps_min"]
            and may_send(s, p, d, i)
        ):
            side = Side.BID if velocity > 0.0 else Side.ASK
            clip = clip_steps(d, i, p["clip_notional"], mid(d.books[i]))
            take(d, i, side, clip, p["slippage_bps"], 0)

    def on_timer(s, p, d, timer_id):
        now = now_ns(d)
        for i in range(min(len(d.books), INSTRUMENTS_MAX)):
            is_quiet = now - s["ts_trade_ns"][i] >= p["quiet_ns_max"]
            if is_quiet and d.position[i] != 0 and may_send(s, p, d, i):
                take_out(d, i, p["slippage_bps"])
        set_timer(d, 0, now + (p["quiet_ns_max"] + 1) // 2)

    def on_gap(s, p, d, i):
        if i < INSTRUMENTS_MAX:
            s["ticks_seen"][i] = 0
            s["burst_steps"][i] = 0

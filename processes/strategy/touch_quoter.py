"""The simplest quoter: a fresh order at both touches, every interval; the reference of parity."""

from common.enums import OrderType, Side, TimeInForce
from processes.strategy.api import strategy
from processes.strategy.desk import ORDER_SLOTS_MAX
from processes.strategy.verbs import (
    cancel,
    is_in_flight,
    is_live,
    is_tradable,
    now_ns,
    send,
    set_timer,
)


@strategy(params={"interval_ns": "<i8", "qty_steps": "<i8"}, state={"rounds": "<i8"})
class TouchQuoter:
    """Cancel all, then quote both touches post-only, at every interval.

    Rule: `interval_ns` after the start and after every round: cancel each open order that no
    request is in flight for; then, on each instrument whose book has both sides, one post-only buy
    of `qty_steps` at the best bid and one such sale at the best ask. Nothing else is looked at: no
    position, no limit of its own.
    """

    def on_start(s, p, d):
        set_timer(d, 0, now_ns(d) + p["interval_ns"])

    def on_timer(s, p, d, timer_id):
        orders = d.orders
        for slot in range(ORDER_SLOTS_MAX):
            order = orders[slot]
            if is_live(order) and not is_in_flight(order):
                cancel(d, order["handle"])
        for i in range(len(d.books)):
            if not is_tradable(d, i):
                continue
            bid, ask = d.books[i]["bid_price_steps"][0], d.books[i]["ask_price_steps"][0]
            qty = p["qty_steps"]
            send(d, i, Side.BID, OrderType.LIMIT, TimeInForce.GTX, bid, qty, 0)
            send(d, i, Side.ASK, OrderType.LIMIT, TimeInForce.GTX, ask, qty, 0)
        s["rounds"] += 1
        set_timer(d, 0, now_ns(d) + p["interval_ns"])

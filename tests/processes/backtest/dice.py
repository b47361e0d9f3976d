"""A strategy that does anything that may be done, drawn from a seed: for the naive twin."""

from numba import njit

from common.enums import OrderType, Side, TimeInForce
from processes.strategy.api import strategy
from processes.strategy.desk import ORDER_SLOTS_MAX
from processes.strategy.verbs import (
    cancel,
    find_live_order,
    is_in_flight,
    is_live,
    is_tradable,
    now_ns,
    replace,
    send,
    set_timer,
)


@njit(cache=True)
def draw(s, count):
    """Return 0 to count - 1."""
    s["x"] = (s["x"] * 1_103_515_245 + 12_345) & 0x7FFFFFFF
    return (s["x"] >> 8) % count


@strategy(params={"interval_ns": "<i8", "seed": "<i8"}, state={"x": "<i8"})
class Dice:
    """At every interval: change some open orders, send some new ones.

    With interval 0 it sets no timer: now and then a book makes it take.
    """

    def on_start(s, p, d):
        s["x"] = p["seed"]
        if p["interval_ns"] > 0:
            set_timer(d, 0, now_ns(d) + p["interval_ns"])

    def on_book(s, p, d, i):
        if p["interval_ns"] > 0 or not is_tradable(d, i) or find_live_order(d, i) >= 0:
            return
        dice = draw(s, 64)
        if dice < 2:
            side = Side.BID if dice == 0 else Side.ASK
            send(d, i, side, OrderType.MARKET, TimeInForce.GTC, 0, 1 + draw(s, 10), 0)

    def on_timer(s, p, d, timer_id):
        for slot in range(ORDER_SLOTS_MAX):
            order = d.orders[slot]
            if not is_live(order) or is_in_flight(order):
                continue
            dice = draw(s, 8)
            if dice < 2:
                cancel(d, order["handle"])
            elif dice < 4:
                price = order["price_steps"] + draw(s, 5) - 2
                replace(d, order["handle"], price, 1 + draw(s, 12))
        for i in range(len(d.books)):
            if not is_tradable(d, i):
                continue
            for _ in range(draw(s, 3)):
                side = Side.BID if draw(s, 2) == 0 else Side.ASK
                if side == Side.BID:
                    touch = d.books[i]["bid_price_steps"][0]
                else:
                    touch = d.books[i]["ask_price_steps"][0]
                price = touch + (draw(s, 6) - 3)
                qty = 1 + draw(s, 10)
                kind = draw(s, 8)
                if kind == 0:
                    send(d, i, side, OrderType.MARKET, TimeInForce.GTC, 0, qty, 0)
                elif kind == 1:
                    send(d, i, side, OrderType.LIMIT, TimeInForce.IOC, price, qty, 0)
                elif kind == 2:
                    send(d, i, side, OrderType.LIMIT, TimeInForce.FOK, price, qty, 0)
                elif kind < 5:
                    send(d, i, side, OrderType.LIMIT, TimeInForce.GTC, price, qty, 0)
                else:
                    send(d, i, side, OrderType.LIMIT, TimeInForce.GTX, price, qty, 0)
        set_timer(d, 0, now_ns(d) + p["interval_ns"])

"""The smallest strategy that trades: buy one lot, sell it, again and again."""

from common.enums import OrderType, Side, TimeInForce
from processes.strategy.api import strategy
from processes.strategy.verbs import find_order, is_tradable, now_ns, send, set_timer


@strategy(
    params={"qty_steps": "<i8", "period_ns": "<i8", "slippage_steps": "<i8"},
    state={"handle": ("<i8", (16,))},
)
class PingPong:
    """Every period, take one quantity on the side that brings the position back to zero.

    Unless the last order is not over yet: exits in doubt would add up behind each other.

    Flat: an IOC buy up to `slippage_steps` through the best ask. Long: an IOC sell down to
    `slippage_steps` through the best bid, reduce-only: what a part fill has left may be worth less
    than the venue's least notional, from which only such an order is exempt. The first 16
    instruments of the run are traded.
    """

    def on_start(s, p, d):
        set_timer(d, 0, now_ns(d) + p["period_ns"])

    def on_timer(s, p, d, timer_id):
        for i in range(min(len(d.books), 16)):
            if not is_tradable(d, i) or find_order(d, s["handle"][i]) >= 0:
                continue
            book = d.books[i]
            if d.position[i] > 0:
                price = max(book["bid_price_steps"][0] - p["slippage_steps"], 1)
                side, qty, reduce_only = Side.ASK, min(d.position[i], p["qty_steps"]), 1
            else:
                price = book["ask_price_steps"][0] + p["slippage_steps"]
                side, qty, reduce_only = Side.BID, p["qty_steps"], 0
            s["handle"][i] = send(
                d, i, side, OrderType.LIMIT, TimeInForce.IOC, price, qty, reduce_only
            )
        set_timer(d, 0, now_ns(d) + p["period_ns"])

"""The smallest strategy that trades: buy one lot, sell it, again and again."""

from common.enums import OrderType, Side, TimeInForce
from processes.strategy.api import strategy
from processes.strategy.verbs import is_tradable, now_ns, send, set_timer


@strategy(
    params={"qty_steps": "<i8", "period_ns": "<i8", "slippage_steps": "<i8"},
    state={"handle": ("<i8", (16,))},
)
class PingPong:
    """Every period, take one quantity on the side that brings the position back to zero.

    Flat: an IOC buy up to `slippage_steps` through the best ask. Long: an IOC sell down to
    `slippage_steps` through the best bid. The first 16 instruments of the run are traded.
    """

    def on_start(s, p, d):
        set_timer(d, 0, now_ns(d) + p["period_ns"])

    def on_timer(s, p, d, timer_id):
        for i in range(min(len(d.books), 16)):
            if not is_tradable(d, i):
                continue
            book = d.books[i]
            if d.position[i] > 0:
                price = max(book["bid_price_steps"][0] - p["slippage_steps"], 1)
                side, qty = Side.ASK, min(d.position[i], p["qty_steps"])
            else:
                price = book["ask_price_steps"][0] + p["slippage_steps"]
                side, qty = Side.BID, p["qty_steps"]
            s["handle"][i] = send(d, i, side, OrderType.LIMIT, TimeInForce.IOC, price, qty, 0)
        set_timer(d, 0, now_ns(d) + p["period_ns"])

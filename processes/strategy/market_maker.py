"""Quote both sides of a smoothed microprice, leaning against inventory."""

import math

from common.enums import Side
from processes.strategy.api import strategy
from processes.strategy.verbs import (
    clip_steps,
    is_tradable,
    microprice,
    now_ns,
    quote,
    quote_index,
    set_timer,
)

INSTRUMENTS_MAX = 64


@strategy(
    params={
        "edge_bps": "<f8",
        "skew_bps": "<f8",
        "smoothing": "<f8",
        "requote_bps": "<f8",
        "clip_notional": "<f8",
        "position_clips_max": "<i8",
        "stale_ns_max": "<i8",
    },
    state={
        "fair": ("<f8", (INSTRUMENTS_MAX,)),
        "quoted_bid": ("<f8", (INSTRUMENTS_MAX,)),
        "quoted_ask": ("<f8", (INSTRUMENTS_MAX,)),
    },
)
class MarketMaker:
    """One post-only order a side, around fair value, within a position limit.

    Rule: fair is an exponential average of the microprice (weight `smoothing`); the middle of the
    quotes is fair less `skew_bps` of price per clip held; each side stands `edge_bps` away, never
    through the touch; a side whose wanted price moved less than `requote_bps` keeps its place in
    the queue; a side that would take the position beyond `position_clips_max` clips is pulled. One
    clip is `clip_notional` of quote currency, rounded down to the lot size, at least one lot. An
    invalid or older than `stale_ns_max` book pulls both sides.
    """

    def on_start(s, p, d):
        set_timer(d, 0, now_ns(d) + p["stale_ns_max"])

    def on_book(s, p, d, i):
        if i >= INSTRUMENTS_MAX:
            return
        if not is_tradable(d, i):
            s["fair"][i] = 0.0
            s["quoted_bid"][i] = 0.0
            s["quoted_ask"][i] = 0.0
            quote(d, i, Side.BID, 0, 0)
            quote(d, i, Side.ASK, 0, 0)
            return
        book = d.books[i]
        price = microprice(book)
        fair = s["fair"][i]
        fair = price if fair == 0.0 else fair + p["smoothing"] * (price - fair)
        s["fair"][i] = fair
        tick = d.instruments[i]["tick_size_steps"]
        clip = clip_steps(d, i, p["clip_notional"], fair)
        room = clip * p["position_clips_max"]
        held = d.position[i] / (1.0 * clip)
        middle = fair * (1.0 - 0.0001 * p["skew_bps"] * held)
        edge = 0.0001 * p["edge_bps"] * fair
        bid = min(middle - edge, 1.0 * (book["ask_price_steps"][0] - tick))
        ask = max(middle + edge, 1.0 * (book["bid_price_steps"][0] + tick))
        hold = 0.0001 * p["requote_bps"] * fair
        bid_qty = max(min(clip, room - d.position[i]), 0)
        ask_qty = max(min(clip, room + d.position[i]), 0)
        if bid_qty == 0 or abs(bid - s["quoted_bid"][i]) >= hold:
            s["quoted_bid"][i] = bid
            quote(d, i, Side.BID, int(bid), bid_qty)
        if ask_qty == 0 or abs(ask - s["quoted_ask"][i]) >= hold:
            s["quoted_ask"][i] = ask
            quote(d, i, Side.ASK, int(math.ceil(ask)), ask_qty)

    def on_report(s, p, d, i, report):
        if not 0 <= i < INSTRUMENTS_MAX:
            return
        side, fair = report["side"], s["fair"][i]
        # A terminal order leaves its side empty: the next book must quote it again.
        if report["leaves_qty_steps"] == 0:
            if side == Side.BID:
                s["quoted_bid"][i] = 0.0
            else:
                s["quoted_ask"][i] = 0.0
        # What was filled leaves less room than there was when the quantity was wanted.
        if fair > 0.0:
            clip = clip_steps(d, i, p["clip_notional"], fair)
            room = max(clip * p["position_clips_max"] - side * d.position[i], 0)
            wanted = d.quotes[quote_index(i, side, 0)]
            if wanted["qty_steps"] > room:
                quote(d, i, side, wanted["price_steps"], room)

    def on_gap(s, p, d, i):
        quote(d, i, Side.BID, 0, 0)
        quote(d, i, Side.ASK, 0, 0)

    def on_timer(s, p, d, timer_id):
        now = now_ns(d)
        for i in range(len(d.books)):
            if now - d.books[i]["ts_recv_ns"] > p["stale_ns_max"]:
                quote(d, i, Side.BID, 0, 0)
                quote(d, i, Side.ASK, 0, 0)
                if i < INSTRUMENTS_MAX:
                    s["quoted_bid"][i] = 0.0
                    s["quoted_ask"][i] = 0.0
        set_timer(d, 0, now + p["stale_ns_max"] // 2)

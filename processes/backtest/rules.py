"""Where this exchange differs from hftbacktest 2.4.x on purpose, and the switches.

`rules = "own"` is what we hold to be right. `rules = "hftbacktest"` does what that program does, so
that the two can be compared fill by fill; `"hftbacktest-roi"` does what its ROIVector engine does.

1. CLEAR_SKIPS_ONE: a partial clear of a side leaves as best the next level beyond the cleared
   ones. hftbacktest does not look at the one level just beyond. (A snapshot behind it hides that.)
2. CLEAR_SPARES_ASKS: a partial clear of the asks removes nothing in the ROIVector engine.
3. COUNTS_LAST_FILL_ONLY: position, balance, fee and trades of a state row are all fills that have
   been reported. hftbacktest counts an order when it is filled, and then the quantity of its last
   fill; earlier partial fills are missing from its state, though it reports them.
4. TAKES_BEYOND_DEPTH: with partial fills, a GTC order through the touch takes what the book holds
   up to its limit; what is left rests. hftbacktest fills the rest at the limit price at once.
5. MARKET_WALKS_100_TICKS: with partial fills, a market order takes what the book holds, wherever.
   hftbacktest looks at 100 ticks from the best.
6. No switch: an order that partial fills complete exactly leaves the venue's book. hftbacktest
   keeps it, and stops with error 14 at the next event that reaches it; up to there the two are
   equal.
7. No switch: a taker that fills at several prices is told of every fill; hftbacktest tells the
   last.
8. No switch: a market order against an empty side expires; hftbacktest fills it at price 2^63.
9. Orders of equal price are filled in the order of their arrival, and better prices first.
   hftbacktest walks a hash map; totals are the same.
10. A replace keeps its place in the queue if it only makes the order smaller; a post-only one that
    would take is refused and the order stays. hftbacktest loses the new price of a modify.
11. PASSES_CROSSED: risk's own checks stand between strategy and venue, and refuse orders on a book
    that is crossed, as they do live. hftbacktest has no risk: there a crossed book passes. Wide
    limits pass all else.
12. No switch: behind the last event requests are not sent any more, so that a run ends;
    hftbacktest goes on as long as answers to new requests come.
13. No switch: before the first and after the last row of recorded latencies a refusal is answered
    after that row's response - request, and rows of refusals say nothing of answers. hftbacktest
    takes their exchange time, 0, for an instant.

Where the book is known order by order (order_book.py), against its L3FIFOQueueModel:

14. KEEPS_HISTORY: what our fills left of an order of the history stays until somebody takes it, and
    what we took of it is gone. hftbacktest's history goes on as if we were not there. With the
    switch, the MODIFY or CANCEL behind a FILL puts the order back to what the history says: equal
    as long as our orders are at the touch or behind it, and less than any fill.
15. No switch: a FILL fills so much of our orders as it is large, those at better prices first.
    hftbacktest fills all of ours that stand before the filled order at its price, and whole.
16. No switch: a taker of ours walks the book, and what it took is gone. hftbacktest fills it whole
    at the best price.
17. No switch: a MODIFY to another price moves the order to the back of the queue there.
    hftbacktest's queue leaves it where it was if it gets no larger.
18. No switch: an amendment of ours goes to the back of its level, whatever it changes, as USD-M
    futures have it; 10 is about levels.
19. No switch: fees are 1e-8 quote, cut towards zero, as the venue's account books them.
"""

CLEAR_SKIPS_ONE = 1
CLEAR_SPARES_ASKS = 2
COUNTS_LAST_FILL_ONLY = 4
TAKES_BEYOND_DEPTH = 8
MARKET_WALKS_100_TICKS = 16
PASSES_CROSSED = 32
KEEPS_HISTORY = 64

_HFTBACKTEST = (
    CLEAR_SKIPS_ONE
    | COUNTS_LAST_FILL_ONLY
    | TAKES_BEYOND_DEPTH
    | MARKET_WALKS_100_TICKS
    | PASSES_CROSSED
    | KEEPS_HISTORY
)
RULES = {
    "own": 0,
    "hftbacktest": _HFTBACKTEST,
    "hftbacktest-roi": _HFTBACKTEST | CLEAR_SPARES_ASKS,
}

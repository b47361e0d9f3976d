"""Where orders trade: the matching engine behind plain calls, its events as tuples.

`capture.CaptureMarket` has the same methods, on a recorded book.
"""

import numpy as np

from common.enums import Side
from processes.venue import matching
from processes.venue.engine import NO_ASK, Engine, MatchStatus, new_events

UPDATE_ID_BASE = 9_000_000_000
UPDATE_ID_STRIDE = 7  # the venue's ids have holes: only `pu` proves continuity
DEPTH_LEVELS_MAX = 1_000

# One row of engine.EVENT as a tuple, in its field order.
Row = tuple[int, int, int, int, int, int, int, int, int, int, int, int, int]
Levels = list[tuple[int, int]]


def wire_update_id(engine_id: int) -> int:
    """Return an engine's update id as the streams show it: growing, with holes."""
    return UPDATE_ID_BASE + engine_id * UPDATE_ID_STRIDE


class EngineMarket:
    """The matching engine of all symbols.

    Attributes:
        is_public: its events are the market that the streams show.
    """

    is_public = True

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.events = new_events(engine)
        self.prices = np.zeros(DEPTH_LEVELS_MAX, np.int64)
        self.quantities = np.zeros(DEPTH_LEVELS_MAX, np.int64)

    def rows(self, count: int) -> list[Row]:
        """Return the first `count` events."""
        return self.events[:count].tolist()

    def submit(
        self,
        instrument_id: int,
        account_id: int,
        side: int,
        order_type: int,
        time_in_force: int,
        stp_mode: int,
        reduce_only: bool,
        price_steps: int,
        qty_steps: int,
    ) -> tuple[int, int, list[Row]]:
        """Match a new order.

        Returns:
            (MatchStatus, order_id, events).
        """
        status, order_id, count = matching.submit(
            self.engine,
            self.events,
            0,
            instrument_id,
            account_id,
            side,
            order_type,
            time_in_force,
            stp_mode,
            int(reduce_only),
            price_steps,
            qty_steps,
        )
        return status, order_id, self.rows(count)

    def cancel(self, instrument_id: int, account_id: int, order_id: int) -> tuple[int, list[Row]]:
        """Cancel an open order; (MatchStatus, events)."""
        status, count = matching.cancel(
            self.engine, self.events, 0, instrument_id, account_id, order_id
        )
        return status, self.rows(count)

    def amend(
        self, instrument_id: int, account_id: int, order_id: int, price_steps: int, qty_steps: int
    ) -> tuple[int, list[Row]]:
        """Amend an open order; (MatchStatus, events)."""
        status, count = matching.amend(
            self.engine, self.events, 0, instrument_id, account_id, order_id, price_steps, qty_steps
        )
        return status, self.rows(count)

    def best(self, instrument_id: int) -> tuple[int, int, int, int]:
        """Return bid price, bid quantity, ask price, ask quantity; 0 for an empty side."""
        bid, bid_qty, ask, ask_qty = matching.best(self.engine, instrument_id)
        return bid, bid_qty, 0 if ask == NO_ASK else ask, ask_qty

    def depth(self, instrument_id: int, level_count: int) -> tuple[Levels, Levels]:
        """Return the best bids and asks as (price, quantity)."""
        return (
            self.side(instrument_id, Side.BID.value, level_count),
            self.side(instrument_id, Side.ASK.value, level_count),
        )

    def side(self, instrument_id: int, side: int, level_count: int) -> Levels:
        """Return the best levels of one side."""
        prices, quantities = self.prices[:level_count], self.quantities[:level_count]
        count = matching.depth(self.engine, instrument_id, side, prices, quantities)
        return list(zip(prices[:count].tolist(), quantities[:count].tolist(), strict=True))

    def last_update_id(self, instrument_id: int) -> int:
        """Return the update id of the book as streams and snapshots show it."""
        return wire_update_id(matching.last_update_id(self.engine, instrument_id))


STATUS_CODES = {
    MatchStatus.EVENTS_FULL: -1008,
    MatchStatus.BAD_REQUEST: -1130,
    MatchStatus.BAD_PRICE: -4002,
    MatchStatus.BAD_QTY: -4005,
    MatchStatus.POST_ONLY: -5022,
    MatchStatus.FOK: -5021,
    MatchStatus.REDUCE_ONLY: -2022,
    MatchStatus.UNKNOWN_ORDER: -2011,
    MatchStatus.NOT_CHANGED: -5027,
    MatchStatus.AMENDMENTS: -5026,
    MatchStatus.ORDERS_FULL: -1008,
    MatchStatus.LEVELS_FULL: -1008,
    MatchStatus.POSITION: -2027,
}

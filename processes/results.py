"""What a backtest gives: its fills and, over time, the state of every instrument."""

from typing import NamedTuple

import numpy as np

from common.instruments import Instrument
from common.layout import record

FILL = record(
    "FILL", 64, "backtest",
    (0, "ts_ns", "<i8", "venue's time of the fill"),
    (8, "client_order_id", "<i8", "the order"),
    (16, "price_steps", "<i8", "fill price"),
    (24, "qty_steps", "<i8", "fill quantity"),
    (32, "fee_e12", "<i8", "fee of this fill, 1e-12 quote; negative is a rebate"),
    (40, "mid_steps2", "<i8", "best bid + best ask at the venue just before; 0 if one is missing"),
    (48, "instrument_id", "<i4", "index into INSTRUMENT[]"),
    (52, "side", "i1", "Side of our order"),
    (53, "maker", "u1", "1 maker, 0 taker"),
    (54, "reserved", "10u1", "zero"),
)  # fmt: skip

STATE = record(
    "STATE", 128, "backtest",
    (0, "ts_ns", "<i8", "local time of the turn"),
    (8, "position_steps", "<i8", "signed position"),
    (16, "balance_steps2", "<i8", "signed sum of price x quantity received, without fees"),
    (24, "fee_e12", "<i8", "fees paid so far, 1e-12 quote"),
    (32, "funding_e8", "<i8", "funding paid so far, 1e-8 quote"),
    (40, "trade_count", "<i8", "fills so far"),
    (48, "volume_steps", "<i8", "quantity filled so far"),
    (56, "turnover_steps2", "<i8", "price x quantity filled so far"),
    (64, "bid_price_steps", "<i8", "best bid as the strategy sees it, 0 none"),
    (72, "ask_price_steps", "<i8", "best ask as the strategy sees it, 0 none"),
    (80, "orders_sent", "<i8", "new orders so far"),
    (88, "orders_rejected", "<i8", "of those, refused by risk or the venue"),
    (96, "instrument_id", "<i4", "index into INSTRUMENT[]"),
    (100, "is_timer", "u1", "1 a strategy timer was due, 0 none had been for a while"),
    (101, "reserved", "27u1", "zero"),
)  # fmt: skip


class Result(NamedTuple):
    """One backtest.

    Attributes:
        instruments: in the order of their ids.
        fills: FILL[n], in order of time.
        states: STATE[m], in order of time: of each instrument a row per strategy timer, and one at
            a turn that comes a tenth of a second or more after the last: not all set timers.
        ends: STATE[n], each instrument when all was over: behind the last event and answer.
        counts: totals by name, for the summary.
    """

    instruments: list[Instrument]
    fills: np.ndarray
    states: np.ndarray
    ends: np.ndarray
    counts: dict[str, int]

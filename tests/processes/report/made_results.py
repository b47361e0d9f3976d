"""Made results of backtests: drawn ones for hypothesis, and one that looks like a trading day."""

import random

import numpy as np
from hypothesis import strategies as st

from common.enums import Side
from common.instruments import Instrument, InstrumentFacts
from processes.results import FILL, STATE, Result

S = 1_000_000_000
BTC = Instrument(
    instrument_id=0,
    venue="binance-usdm",
    symbol="BTCUSDT",
    facts=InstrumentFacts(tick_size="0.1", lot_size="0.001", price_decimals=2, qty_decimals=3),
)
SHIB = Instrument(
    instrument_id=1,
    venue="binance-usdm",
    symbol="1000SHIBUSDT",
    facts=InstrumentFacts(tick_size="0.000001", lot_size="1", price_decimals=6, qty_decimals=0),
)
FINE = Instrument(
    instrument_id=0,
    venue="local",
    symbol="FINEUSDT",
    facts=InstrumentFacts(
        tick_size="0.00000001", lot_size="0.00000001", price_decimals=8, qty_decimals=8
    ),
)

FILL_ROWS = st.tuples(
    st.integers(0, 5 * S),  # time
    st.integers(1, 4),  # order
    st.integers(1, 2_000_000_000),  # price
    st.one_of(st.integers(1, 3), st.integers(1, 3_000_000)),  # quantity
    st.integers(-(10**16), 10**16),  # fee
    st.one_of(st.just(0), st.integers(2, 4_000_000_000)),  # mid
    st.integers(0, 1),  # instrument
    st.sampled_from([Side.BID.value, Side.ASK.value]),
    st.integers(0, 1),  # maker
)
STATE_ROWS = st.tuples(
    st.integers(0, 5 * S),  # time
    st.integers(-3_000_000, 3_000_000),  # position
    st.integers(-(10**17), 10**17),  # balance
    st.integers(-(10**17), 10**17),  # fee
    st.integers(-(10**14), 10**14),  # funding
    st.one_of(st.just(0), st.integers(1, 2_000_000_000)),  # bid
    st.one_of(st.just(0), st.integers(1, 2_000_000_000)),  # ask
    st.integers(0, 9),  # orders sent
    st.integers(0, 9),  # rejected
    st.integers(0, 1),  # instrument
)
FILL_FIELDS = (
    "ts_ns", "client_order_id", "price_steps", "qty_steps", "fee_e12", "mid_steps2",
    "instrument_id", "side", "maker",
)  # fmt: skip
STATE_FIELDS = (
    "ts_ns", "position_steps", "balance_steps2", "fee_e12", "funding_e8", "bid_price_steps",
    "ask_price_steps", "orders_sent", "orders_rejected", "instrument_id",
)  # fmt: skip


def table(dtype: np.dtype, fields: tuple[str, ...], rows: list[tuple[int, ...]]) -> np.ndarray:
    """Return records with `fields` set, in order of time."""
    made = np.zeros(len(rows), dtype)
    for record, row in zip(made, sorted(rows, key=lambda row: row[0]), strict=True):
        for name, value in zip(fields, row, strict=True):
            record[name] = value
    return made


def made_result(
    instruments: list[Instrument],
    fills: list[tuple[int, ...]],
    states: list[tuple[int, ...]],
    ends: list[tuple[int, ...]] | None = None,
) -> Result:
    """Return a result of rows in the order of FILL_FIELDS and STATE_FIELDS.

    Args:
        ends: one of each instrument; None: its last state, or zeros.
    """
    if ends is None:
        none = {one.instrument_id: (0,) * 9 + (one.instrument_id,) for one in instruments}
        ends = list((none | {row[-1]: row for row in sorted(states)}).values())
    return Result(
        instruments,
        table(FILL, FILL_FIELDS, fills),
        table(STATE, STATE_FIELDS, states),
        table(STATE, STATE_FIELDS, ends),
        {},
    )


@st.composite
def results(draw) -> Result:
    """Draw a result that need not make sense: the arithmetic has to hold all the same."""
    instruments = draw(st.sampled_from([[BTC, SHIB], [FINE, SHIB]]))
    return made_result(
        instruments,
        draw(st.lists(FILL_ROWS, max_size=12)),
        draw(st.lists(STATE_ROWS, max_size=12)),
        [(draw(st.integers(5 * S, 6 * S)), *draw(STATE_ROWS)[1:-1], i) for i in range(2)],
    )


def trading_day(seed: int = 7, timers: int = 3_000, every_ns: int = S // 10) -> Result:
    """Return a market maker's run on two instruments, with books that were really kept."""
    chance = random.Random(seed)
    start_ns = 1_723_075_200 * S
    fills, states = [], []
    for instrument, price, qty in ((BTC, 550_000, 10), (SHIB, 14_000, 4_000)):
        position = balance = fee = volume = turnover = trades = 0
        bid = price
        for timer in range(timers):
            now_ns = start_ns + timer * every_ns
            bid += chance.choice((-3, -2, -1, 0, 0, 1, 2, 3))
            if chance.random() < 0.12:
                lean = 0.5 - position / (40 * qty)
                side = 1 if chance.random() < lean else -1
                fill_price = bid if side > 0 else bid + 1
                maker = chance.random() < 0.9
                paid = fill_price * qty * 10 ** (12 - 4 if instrument is BTC else 6)
                paid = paid * (2 if maker else 5) // 10_000
                fills.append(
                    (now_ns - 3_000_000, len(fills) + 1, fill_price, qty, paid, 2 * bid + 1,
                     instrument.instrument_id, side, int(maker))
                )  # fmt: skip
                position += side * qty
                balance -= side * qty * fill_price
                fee += paid
                trades += 1
                volume += qty
                turnover += qty * fill_price
            states.append(
                (now_ns, position, balance, fee, 0, bid, bid + 1, 2 * timer, timer // 50,
                 instrument.instrument_id)
            )  # fmt: skip
    return made_result([BTC, SHIB], fills, states)

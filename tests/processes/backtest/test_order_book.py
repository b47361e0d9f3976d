"""The venue of single orders: hand-made markets, and a naive twin on random ones."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.enums import ExecType, OrderType, Reject, RequestKind, TimeInForce
from common.errors import UsageError
from processes.backtest import exchange as at_venue
from processes.backtest import history, order_book
from processes.backtest.events import EVENT, LEVEL_SHIFT, EventKind, in_both_orders
from processes.backtest.lookahead import check
from processes.backtest.run import Run, load_data, run
from processes.backtest.tapes import assemble
from processes.venue import accounts, market, matching
from processes.venue.engine import FREE_SLOT, StpMode

from tests.processes.backtest.made_market import START_NS, made_setup, row
from tests.processes.backtest.made_orders import BOTH, FIELDS
from tests.processes.backtest.naive_orders import NaiveOrderBook

TOUCH = "processes.strategy.touch_quoter:TouchQuoter"
MS = 1_000_000
ADD, CANCEL, MODIFY = EventKind.ADD, EventKind.CANCEL, EventKind.MODIFY
FILL, TRADE, CLEAR = EventKind.FILL, EventKind.TRADE, EventKind.CLEAR
BUY, SELL = 1, -1
GTC, IOC, FOK, GTX = TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK, TimeInForce.GTX
TOLD = (
    at_venue.A_EXEC_TYPE, at_venue.A_STATUS, at_venue.A_CLIENT_ID, at_venue.A_REQUEST_ID,
    at_venue.A_KIND, at_venue.A_SIDE, at_venue.A_PRICE, at_venue.A_QTY, at_venue.A_CUM,
    at_venue.A_LAST_QTY, at_venue.A_LAST_PRICE, at_venue.A_FEE_E12, at_venue.A_IS_MAKER,
    at_venue.A_REJECT,
)  # fmt: skip


def event(kind, side, order_id, price, qty, ms=0, seen_ms=None):
    """Return one EVENT of an order."""
    one = row(kind, side, price, qty, ms * MS, (ms if seen_ms is None else seen_ms) * MS)
    one["trade_id"] = order_id
    return one


def new(client_id, side, price, qty, tif=GTC, kind=OrderType.LIMIT, reduce_only=0):
    """Return a request for a new order."""
    return {
        "kind": RequestKind.NEW, "id": client_id, "orig": 0, "side": side, "type": kind,
        "tif": tif, "price": price, "qty": qty, "reduce_only": reduce_only,
    }  # fmt: skip


def cancel(request_id, orig, side):
    return {**new(request_id, side, 0, 0), "kind": RequestKind.CANCEL, "orig": orig}


def replace(request_id, orig, side, price, qty):
    return {**new(request_id, side, price, qty), "kind": RequestKind.REPLACE, "orig": orig}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("orders")


class Bench:
    """The venue of one instrument, its steps taken one by one: events of the history, requests."""

    def __init__(self, folder, steps, **overrides):
        setup = made_setup(
            folder, TOUCH, {"interval_ns": 10 * MS, "qty_steps": 5}, exchange="order-by-order",
            latency_ns=0, **overrides,
        )  # fmt: skip
        rows = [step.copy() for step in steps if not isinstance(step, dict)]
        for k, one in enumerate(rows):
            one["ts_exch_ns"] = one["ts_recv_ns"] = START_NS + k
        part = in_both_orders(np.concatenate(rows or [np.zeros(0, EVENT)]))
        self.data = assemble([part], setup.instruments, {})
        self.run = Run(setup, self.data)
        self.x = self.run.x
        self.none = np.zeros(at_venue.REQUEST_WORDS, np.int64)
        self.scratch = np.zeros(at_venue.ORDER_WORDS, np.int64)
        self.answers = []
        self.place = 0
        for step in steps:
            self.take(step)

    def take(self, step):
        x = self.x
        if isinstance(step, dict):
            bus = x.buses[0]
            out = x.requests[0, bus[at_venue.REQUEST_END] & (at_venue.REQUESTS_MAX - 1)]
            out[:] = (
                START_NS, step["kind"], step["id"], step["orig"], step["side"], step["type"],
                step["tif"], step["price"], step["qty"], 0, step["reduce_only"],
            )  # fmt: skip
            bus[at_venue.REQUEST_END] += 1
            order_book.take_requests(x, 0, self.scratch, self.none, START_NS)
        else:
            order_book.take_event(x, 0, self.data.venue[self.place], self.none, START_NS)
            self.place += 1
        assert x.words[at_venue.STATUS] == 0
        self.answers += self.drain()

    def drain(self):
        bus = self.x.buses[0]
        first, end = bus[at_venue.RESPONSE_FIRST], bus[at_venue.RESPONSE_END]
        bus[at_venue.RESPONSE_FIRST] = bus[at_venue.RESPONSE_END] = 0
        return [
            tuple(int(self.x.responses[0, k, word]) for word in TOLD) for k in range(first, end)
        ]

    def fills(self):
        """Return (client id, side, price, quantity, fee, maker) of every fill."""
        found = self.x.fills[: self.x.words[at_venue.FILL_COUNT]]
        names = ("client_order_id", "side", "price_steps", "qty_steps", "fee_e12", "maker")
        return [tuple(int(fill[name]) for name in names) for fill in found]

    def short_fills(self):
        return [(one, price, qty, maker) for one, _, price, qty, _, maker in self.fills()]

    def depth(self):
        """Return {side: [(price, quantity)]} of the venue's book."""
        levels = {}
        for side in (BUY, SELL):
            prices, quantities = np.zeros(64, np.int64), np.zeros(64, np.int64)
            count = matching.depth(self.x.engine, 0, side, prices, quantities)
            levels[side] = list(
                zip(prices[:count].tolist(), quantities[:count].tolist(), strict=True)
            )
        return levels

    def ends(self):
        """Return (client id, ExecType, reject) of each answer that is no fill."""
        return [(a[2], ExecType(a[0]), a[-1]) for a in self.answers if a[0] != ExecType.TRADE]


def test_the_book_is_matched_by_the_functions_that_the_venue_runs():
    assert order_book.matching is market.matching is matching
    assert order_book.book_fill is accounts.book_fill
    assert order_book.matching.submit is market.matching.submit


BOOK = (event(ADD, BUY, 1, 1_000, 7), event(ADD, SELL, 2, 1_002, 4))


def test_an_order_waits_behind_what_was_there_and_fills_in_parts(folder):
    """7 stand before our 5: a fill of 7 takes them, the next taker of 3 is ours, then of 9: 2."""
    bench = Bench(
        folder, [*BOOK, new(11, BUY, 1_000, 5), event(ADD, BUY, 3, 1_000, 10),
                 event(FILL, BUY, 1, 1_000, 7), event(FILL, BUY, 3, 1_000, 3),
                 event(FILL, BUY, 3, 1_000, 7)],
    )  # fmt: skip
    assert bench.short_fills() == [(11, 1_000, 3, 1), (11, 1_000, 2, 1)]
    assert bench.depth()[BUY] == [(1_000, 5)]  # order 3 keeps as much more as we got
    assert [fee for _, _, _, _, fee, _ in bench.fills()] == [-15_000_000, -10_000_000]


def test_a_cancel_says_nothing_of_an_order_that_the_history_had_filled(folder):
    steps = [*BOOK, new(11, BUY, 1_000, 5), event(ADD, BUY, 3, 1_000, 10),
             event(FILL, BUY, 1, 1_000, 7), event(CANCEL, BUY, 1, 0, 0),
             event(FILL, BUY, 3, 1_000, 10), event(CANCEL, BUY, 3, 0, 0)]  # fmt: skip
    bench = Bench(folder, steps)
    assert bench.short_fills() == [(11, 1_000, 5, 1)] and bench.depth()[BUY] == [(1_000, 5)]
    kept = Bench(folder, steps, rules="hftbacktest")
    assert kept.short_fills() == [(11, 1_000, 5, 1)] and kept.depth()[BUY] == []


def test_what_we_took_is_neither_filled_nor_canceled_nor_amended_again(folder):
    bench = Bench(
        folder, [event(ADD, SELL, 1, 1_002, 10), event(ADD, SELL, 2, 1_002, 3),
                 new(11, BUY, 1_002, 4), event(MODIFY, SELL, 1, 1_002, 7),
                 event(ADD, SELL, 3, 1_003, 2), new(12, BUY, 1_003, 6),
                 event(MODIFY, SELL, 1, 1_002, 9), event(CANCEL, SELL, 1, 0, 0),
                 event(FILL, SELL, 2, 1_002, 3)],
    )  # fmt: skip
    # After ours of 4 order 1 has 6, then 3; ours of 6 takes them and order 2.
    assert bench.short_fills() == [(11, 1_002, 4, 0), (12, 1_002, 3, 0), (12, 1_002, 3, 0)]
    assert bench.depth() == {BUY: [], SELL: [(1_003, 2)]}


def test_an_order_of_others_that_reaches_ours_takes_it_and_rests_with_the_rest(folder):
    bench = Bench(folder, [*BOOK, new(11, BUY, 1_001, 5), event(ADD, SELL, 3, 1_001, 8)])
    assert bench.short_fills() == [(11, 1_001, 5, 1)]
    assert bench.depth() == {BUY: [(1_000, 7)], SELL: [(1_001, 3), (1_002, 4)]}
    # The history knows nothing of a crossing: it is ours that was in the way.
    assert bench.data.notes == {}


def test_amendments_of_others_keep_their_place_only_downwards(folder):
    for qty, expected in ((6, []), (8, [(11, 1_000, 5, 1)])):
        bench = Bench(
            folder, [*BOOK, new(11, BUY, 1_000, 5), event(MODIFY, BUY, 1, 1_000, qty),
                     event(FILL, BUY, 1, 1_000, 5)],
        )  # fmt: skip
        assert bench.short_fills() == expected


def test_our_amendment_loses_its_place_whatever_it_changes(folder):
    bench = Bench(
        folder, [new(11, BUY, 1_000, 5), event(ADD, BUY, 1, 1_000, 7),
                 replace(12, 11, BUY, 1_000, 4), event(FILL, BUY, 1, 1_000, 7),
                 event(ADD, BUY, 2, 1_000, 2), event(FILL, BUY, 2, 1_000, 1),
                 replace(13, 11, BUY, 1_000, 4), replace(14, 99, BUY, 1_000, 4),
                 replace(15, 11, BUY, 1_000, 1), cancel(16, 11, BUY)],
    )  # fmt: skip
    assert bench.short_fills() == [(11, 1_000, 1, 1)]
    assert bench.ends() == [
        (11, ExecType.NEW, 0), (11, ExecType.REPLACED, 0),
        (11, ExecType.REPLACE_REJECTED, Reject.VENUE),
        (99, ExecType.REPLACE_REJECTED, Reject.VENUE_UNKNOWN_ORDER),
        (11, ExecType.CANCELED, 0),  # no more than what is filled already
        (11, ExecType.CANCEL_REJECTED, Reject.VENUE_UNKNOWN_ORDER),
    ]  # fmt: skip


def test_post_only_fok_ioc_market_and_reduce_only_are_the_venues(folder):
    bench = Bench(
        folder, [*BOOK, event(ADD, SELL, 3, 1_003, 4), new(11, BUY, 1_002, 5, GTX),
                 new(12, BUY, 1_002, 5, FOK), new(13, BUY, 1_003, 5, FOK),
                 new(14, SELL, 1_000, 9, GTC, reduce_only=1), new(15, SELL, 1_000, 9, IOC),
                 new(16, BUY, 0, 9, kind=OrderType.MARKET),
                 new(17, SELL, 1_010, 1, reduce_only=1)],
    )  # fmt: skip
    assert bench.ends() == [
        (11, ExecType.REJECTED, Reject.VENUE_POST_ONLY), (12, ExecType.REJECTED, Reject.VENUE),
        (13, ExecType.NEW, 0), (14, ExecType.NEW, 0), (15, ExecType.NEW, 0),
        (15, ExecType.EXPIRED, 0), (16, ExecType.NEW, 0), (16, ExecType.EXPIRED, 0),
        (17, ExecType.NEW, 0),
    ]  # fmt: skip
    assert bench.short_fills() == [
        (13, 1_002, 4, 0), (13, 1_003, 1, 0),  # the slippage
        (14, 1_000, 5, 0),  # of 9: what there was to reduce
        (15, 1_000, 2, 0), (16, 1_003, 3, 0),
    ]  # fmt: skip
    assert bench.x.positions[0] == 5 - 5 - 2 + 3


@pytest.mark.parametrize(
    ("mode", "fills", "expired"),
    [
        ("EXPIRE_TAKER", [(12, 1_001, 2, 0)], [12]),
        ("EXPIRE_MAKER", [(12, 1_001, 2, 0), (12, 1_002, 4, 0)], [11]),
        ("EXPIRE_BOTH", [(12, 1_001, 2, 0)], [11, 12]),
    ],
)
def test_we_do_not_trade_with_ourselves(folder, mode, fills, expired):
    bench = Bench(
        folder, [event(ADD, SELL, 1, 1_001, 2), new(11, SELL, 1_001, 3),
                 event(ADD, SELL, 2, 1_002, 4), new(12, BUY, 1_002, 6)],
        stp_mode=mode,
    )  # fmt: skip
    assert bench.short_fills() == fills
    assert [one for one, exec_type, _ in bench.ends() if exec_type == ExecType.EXPIRED] == expired


def test_a_cleared_side_takes_our_orders_with_it(folder):
    bench = Bench(
        folder, [*BOOK, new(11, BUY, 999, 5), new(12, SELL, 1_003, 5), event(CLEAR, BUY, 0, 0, 0),
                 event(CANCEL, BUY, 1, 0, 0)],
    )  # fmt: skip
    assert bench.ends()[2:] == [(11, ExecType.EXPIRED, 0)]
    assert bench.depth() == {BUY: [], SELL: [(1_002, 4), (1_003, 5)]}
    assert bench.data.notes == {"orders_unknown": 1}


IDS = st.integers(1, 6)
PRICES = st.integers(998, 1_003)
SIDES = st.sampled_from([BUY, SELL])
EVENTS = st.builds(
    lambda kind, side, order_id, price, qty: event(kind, side, order_id, price, qty),
    st.sampled_from([ADD] * 5 + [FILL] * 3 + [MODIFY] * 2 + [CANCEL, CLEAR]),
    SIDES, IDS, PRICES, st.integers(0, 9),
)  # fmt: skip
NEWS = st.builds(
    lambda *asked: new(0, *asked),
    SIDES, PRICES, st.integers(1, 9), st.sampled_from([GTC, GTC, GTX, IOC, FOK]),
    st.sampled_from([OrderType.LIMIT] * 4 + [OrderType.MARKET]), st.sampled_from([0, 0, 0, 1]),
)  # fmt: skip
CHANGES = st.builds(
    lambda is_cancel, side, price, qty, back: (is_cancel, side, price, qty, back),
    st.booleans(), SIDES, PRICES, st.integers(1, 9), st.integers(1, 4),
)  # fmt: skip
STEPS = st.lists(st.one_of(EVENTS, EVENTS, NEWS, CHANGES), max_size=45)


def numbered(steps):
    """Give the requests their ids, and the changes an order: one of the last few."""
    asked, out = 0, []
    sides = {}
    for step in steps:
        if isinstance(step, dict):
            asked += 1
            sides[asked] = step["side"]
            step = {**step, "id": asked}
            if step["type"] == OrderType.MARKET:
                step["price"] = 0
        elif isinstance(step, tuple):
            is_cancel, side, price, qty, back = step
            asked += 1
            orig = max(asked - back, 0)
            side = sides.get(orig, side)
            step = (
                cancel(asked, orig, side) if is_cancel else replace(asked, orig, side, price, qty)
            )
        out.append(step)
    return out


@settings(max_examples=120, deadline=None)
@given(STEPS, st.sampled_from(["own", "hftbacktest"]), st.sampled_from(list(StpMode)[1:]))
def test_answers_fills_and_book_are_those_of_the_twin(folder, steps, rules, stp_mode):
    steps = numbered(steps)
    bench = Bench(folder, steps, rules=rules, stp_mode=stp_mode.name)
    twin = NaiveOrderBook(stp_mode, rules == "hftbacktest")
    for step in steps:
        if isinstance(step, dict):
            twin.request(step)
        else:
            one = step[0]
            twin.event(
                one["kind"], int(one["side"]), int(one["trade_id"]), int(one["price_steps"]),
                int(one["qty_steps"]),
            )  # fmt: skip
    assert bench.answers == twin.answers
    assert bench.fills() == twin.fills
    for side in (BUY, SELL):
        prices = twin.engine.prices(0, side)
        assert bench.depth()[side] == [(p, twin.engine.total(0, side, p)) for p in prices]
    crossing = "orders_crossing_the_history"  # how often is open: one hides what it reaches
    assert bench.data.notes.pop(crossing, 0) > 0 or crossing not in twin.notes
    twin.notes.pop(crossing, 0)
    assert bench.data.notes == twin.notes
    assert bench.x.positions[0] == twin.engine.position(1, 0)
    assert seen_levels(bench.data) == twin.levels()


def seen_levels(data):
    """Return {(side, price): quantity} of the history as it is seen here."""
    levels = {}
    for _, qty, code, _ in data.here.tolist():
        level, kind, side = code >> LEVEL_SHIFT, code >> 2 & 63, (code & 3) - 1
        if kind == EventKind.DEPTH:
            levels[side, int(data.prices[level])] = qty
        elif kind == EventKind.CLEAR:
            levels = {key: left for key, left in levels.items() if side not in (0, key[0])}
    return {key: qty for key, qty in levels.items() if qty}


def hft(*rows):
    """Return hftbacktest's events: (kind, side, order id, price, quantity, ms), seen 1 ms later."""
    events = np.zeros(len(rows), FIELDS)
    for one, (kind, side, order_id, price, qty, ms) in zip(events, rows, strict=True):
        one["ev"] = BOTH | kind | (1 << 29 if side == BUY else 1 << 28 if side else 0)
        one["exch_ts"], one["local_ts"] = START_NS + ms * MS, START_NS + (ms + 1) * MS
        one["px"], one["qty"], one["order_id"] = price, qty, order_id
    return events


HISTORY = (
    (10, BUY, 1, 100.0, 0.007, 0), (10, SELL, 2**64 - 1, 100.2, 0.004, 0),
    (2, SELL, 0, 100.0, 0.007, 15), (13, BUY, 1, 100.0, 0.007, 15), (11, BUY, 1, 0.0, np.nan, 15),
    (10, BUY, 3, 100.0, 0.010, 16), (13, BUY, 3, 100.0, 0.003, 17), (12, BUY, 3, 100.0, 0.007, 17),
    (10, BUY, 4, 99.0, 0.010, 60),
)  # fmt: skip


def quoted(folder, rows, **overrides):
    """Run the touch quoter on a file of orders."""
    setup = made_setup(
        folder, TOUCH, {"interval_ns": 10 * MS, "qty_steps": 5},
        **{"exchange": "order-by-order", **overrides},
    )  # fmt: skip
    path = folder / "orders.npz"
    np.savez(path, data=hft(*rows))
    data = load_data(setup, [path])
    return setup, data, run(setup, data)


def test_a_whole_run_on_a_file_of_orders(folder):
    """The quote arrives at 12 ms behind 7; those are filled at 15, then ours gets the next 3."""
    setup, data, result = quoted(folder, HISTORY)
    assert [
        (f["ts_ns"] - START_NS, f["side"], f["price_steps"], f["qty_steps"], f["maker"])
        for f in result.fills
    ] == [(17 * MS, 1, 1_000, 3, 1)]
    assert list(result.fills["mid_steps2"]) == [2_002]
    last = result.states[-1]
    assert (last["position_steps"], last["balance_steps2"], last["fee_e12"]) == (
        3,
        -3_000,
        -15_000_000,
    )
    assert list(result.states["bid_price_steps"]) == [1_000] * 6
    found = check(setup, data, cuts=5)
    assert found.differences == 0 and found.intents > 20


def test_instruments_have_books_and_order_ids_of_their_own(folder):
    """The second one's history is the first one's 2 ms later, with the same ids."""
    setup = made_setup(
        folder, TOUCH, {"interval_ns": 10 * MS, "qty_steps": 5}, count=2, exchange="order-by-order"
    )
    paths = []
    for i in (0, 1):
        path = folder / f"MADE{i}.npz"
        later = [(*one[:5], one[5] + 2 * i) for one in HISTORY]
        np.savez(path, data=hft(*later))
        paths.append(Path(f"MADE{i}={path}"))
    result = run(setup, load_data(setup, paths))
    assert [(f["instrument_id"], f["ts_ns"] - START_NS, f["qty_steps"]) for f in result.fills] == [
        (0, 17 * MS, 3), (1, 19 * MS, 3),
    ]  # fmt: skip


def test_funding_falls_due_between_the_orders_events(folder):
    path = folder / "funding.csv"
    path.write_text(f"ts_ns,symbol,rate,mark_price\n{START_NS + 25 * MS},MADE0,0.01,200\n")
    _, _, result = quoted(folder, HISTORY, funding_file=str(path))
    assert list(result.states["funding_e8"]) == [0, 0] + [600_000] * 4  # 0.003 at 200: long pays


def test_what_contradicts_the_history_is_counted_and_left_out(folder):
    rows = [
        *HISTORY, (10, BUY, 4, 98.0, 0.001, 61), (11, BUY, 9, 0.0, 0.0, 61),
        (10, BUY, 5, 98.0, 0.0, 61), (13, BUY, 4, 99.0, 0.030, 61), (10, SELL, 6, 100.0, 0.001, 62),
        (1, BUY, 0, 97.0, 0.005, 63), (10, 0, 8, 97.0, 0.005, 63),
    ]  # fmt: skip
    _, _, result = quoted(folder, rows)
    assert {name: result.counts[name] for name in (*history.NOTES.values(), "other_events")} == {
        "orders_added_twice": 1, "orders_unknown": 1, "orders_without_price_or_quantity": 1,
        "fills_beyond_their_order": 1, "orders_crossing_the_history": 1, "depth_events_unused": 1,
        "other_events": 1,
    }  # fmt: skip


def test_data_and_exchange_have_to_fit(folder):
    levels = [(1, BUY, 0, 100.0, 0.007, 0), (1, SELL, 0, 100.2, 0.004, 0)]
    with pytest.raises(UsageError, match="levels only, expected single orders"):
        quoted(folder, levels)
    with pytest.raises(UsageError, match='single orders only .* choose .*"order-by-order"'):
        quoted(folder, HISTORY, exchange="partial-fill")
    with pytest.raises(UsageError, match=r"px: row 0 .*multiple of 1e-1"):
        quoted(folder, [(10, BUY, 1, 100.05, 0.007, 0)])
    setup = made_setup(folder, TOUCH, {"interval_ns": 10 * MS, "qty_steps": 5})
    path = folder / "both.npz"
    np.savez(path, data=hft(*levels, *HISTORY))
    assert load_data(setup, [path]).notes == {"other_events": 8}  # whose TRADE is used


def test_a_full_book_ends_the_run_with_a_reason(folder):
    setup, data, _ = quoted(folder, HISTORY)
    part = Run(setup, data)
    part.x.engine[FREE_SLOT] = 0
    with pytest.raises(UsageError, match="no room for one more order or price, at about"):
        part.go()


def test_an_order_too_large_for_the_engine_is_refused(folder):
    rows = [(10, BUY, 1, 100.0, 2.0**33, 0)]
    with pytest.raises(UsageError, match="event 0: quantity of 8589934592000 steps, expected at"):
        quoted(folder, rows)

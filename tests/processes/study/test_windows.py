from types import SimpleNamespace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from common.enums import Side
from processes.backtest.events import AT_LOCAL, AT_VENUE, EVENT, EventKind, in_both_orders
from processes.backtest.tapes import assemble
from processes.study.windows import cut, span_of

from tests.processes.report.made_results import BTC

SETUP = SimpleNamespace(instruments=[BTC])
ROWS = st.lists(
    st.tuples(
        st.sampled_from([EventKind.DEPTH] * 6 + [EventKind.TRADE, EventKind.CLEAR]),
        st.sampled_from([Side.BID.value, Side.ASK.value]),
        st.integers(0, 30),  # venue time
        st.integers(0, 12),  # way here
        st.integers(1, 6),  # price
        st.integers(0, 3),  # quantity
    ),
    max_size=40,
)


def made(rows):
    events = np.zeros(len(rows), EVENT)
    for event, (kind, side, ts, delay, price, qty) in zip(events, rows, strict=True):
        clears_all = kind == EventKind.CLEAR and qty == 0
        event["kind"], event["side"] = kind, side if not clears_all else 0
        event["ts_exch_ns"], event["ts_recv_ns"] = ts, ts + delay
        event["price_steps"] = 0 if clears_all else price
        event["qty_steps"] = 0 if kind == EventKind.CLEAR else qty
    return assemble([in_both_orders(events)], [BTC], {})


def seen(events, flag, field, first, end):
    """Return what one side is told in [first, end), and its book before, as a dictionary."""
    told, book = [], {}
    for event in events:
        if not event["flags"] & flag or event[field] >= end:
            continue
        kind, side, price = int(event["kind"]), int(event["side"]), int(event["price_steps"])
        if event[field] >= first:
            told.append((kind, side, price, int(event["qty_steps"]), int(event[field])))
        elif kind == EventKind.DEPTH:
            book[side, price] = int(event["qty_steps"])
        elif kind == EventKind.CLEAR:
            for one in list(book):
                if side == 0 or (
                    one[0] == side
                    and (price == 0 or (one[1] >= price if side > 0 else one[1] <= price))
                ):
                    del book[one]
    return told, {key: qty for key, qty in book.items() if qty}


@settings(max_examples=150, deadline=None)
@given(ROWS, st.integers(0, 40), st.integers(0, 20))
def test_a_cut_is_what_both_sides_are_told_and_their_books(rows, first, length):
    data = made(rows)
    found = cut(SETUP, data, first, first + length)
    for flag, field in ((AT_VENUE, "ts_exch_ns"), (AT_LOCAL, "ts_recv_ns")):
        told, book = seen(data.events, flag, field, first, first + length)
        mine = found.events[found.events["flags"] & flag != 0]
        head, tail = mine[: len(book)], mine[len(book) :]
        assert {
            (int(row["side"]), int(row["price_steps"])): int(row["qty_steps"]) for row in head
        } == book
        assert all(row[field] == first and row["kind"] == EventKind.DEPTH for row in head)
        names = ("kind", "side", "price_steps", "qty_steps", field)
        assert [tuple(int(row[name]) for name in names) for row in tail] == told


@settings(max_examples=60, deadline=None)
@given(ROWS, ROWS, st.integers(1, 30))
def test_what_comes_after_the_end_is_not_in_it(rows, others, end):
    """Whatever is only known from `end` on may be replaced."""
    kept = [row for row in rows if row[2] < end]
    changed = [*kept, *([*row[:2], row[2] + end, *row[3:]] for row in others)]
    before = cut(SETUP, made([*kept, *(row for row in rows if row[2] >= end)]), 0, end)
    after = cut(SETUP, made(changed), 0, end)
    assert before.events.tobytes() == after.events.tobytes()
    assert before.prices.tobytes() == after.prices.tobytes()


def test_the_span_is_of_local_time():
    data = made([(EventKind.DEPTH, 1, 5, 2, 3, 1), (EventKind.DEPTH, 1, 9, 1, 3, 1)])
    assert span_of(data) == (7, 11)
    assert span_of(made([])) == (0, 0)


ORDERS = st.lists(
    st.tuples(
        st.sampled_from(
            [EventKind.ADD] * 4
            + [EventKind.MODIFY, EventKind.FILL, EventKind.CANCEL, EventKind.CLEAR]
        ),
        st.sampled_from([Side.BID.value, Side.ASK.value]),
        st.integers(1, 5),  # order id
        st.integers(1, 3),  # price
        st.integers(0, 4),  # quantity
    ),
    max_size=30,
)


@settings(max_examples=100, deadline=None)
@given(ORDERS, st.integers(0, 30))
def test_a_cut_of_orders_begins_with_those_that_rest_in_their_places(rows, first):
    events = np.zeros(len(rows), EVENT)
    for k, (event, (kind, side, order_id, price, qty)) in enumerate(zip(events, rows, strict=True)):
        event["kind"], event["side"], event["trade_id"] = kind, side, order_id
        event["price_steps"] = 0 if kind in (EventKind.CANCEL, EventKind.CLEAR) else price
        event["qty_steps"], event["ts_exch_ns"], event["ts_recv_ns"] = qty, k, k + 2
    data = assemble([in_both_orders(events)], [BTC], {})
    queue = {}  # id -> [side, price, rest], in the order of their places
    for kind, side, order_id, price, qty in rows[:first]:
        order = queue.get(order_id)
        if kind == EventKind.CLEAR:
            queue = {one: known for one, known in queue.items() if known[0] != side}
        elif kind == EventKind.ADD and qty and (order is None or order[2] == 0):
            queue.pop(order_id, None)
            queue[order_id] = [side, price, qty]
        elif order is None or kind == EventKind.ADD:
            continue
        elif kind == EventKind.CANCEL or (kind == EventKind.MODIFY and qty == 0):
            del queue[order_id]
        elif kind == EventKind.FILL:
            order[2] = max(order[2] - qty, 0)
        elif price == order[1] and qty <= order[2]:
            order[2] = qty
        else:
            del queue[order_id]
            queue[order_id] = [order[0], price, qty]
    expected = [(one, *known) for one, known in queue.items() if known[2]]
    for flag, at in ((AT_VENUE, first), (AT_LOCAL, first + 2)):
        found = cut(SETUP, data, at, at + 1).events
        head = found[(found["flags"] == flag)][: len(expected)]
        names = ("trade_id", "side", "price_steps", "qty_steps")
        assert [tuple(int(row[name]) for name in names) for row in head] == expected
        assert all(head["kind"] == EventKind.ADD)

from types import SimpleNamespace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from common.enums import Side
from processes.backtest.events import AT_LOCAL, AT_VENUE, EVENT, EventKind, in_both_orders
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

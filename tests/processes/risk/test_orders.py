"""Order life cycle: any order, number and loss of reports, against the naive twin."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.enums import (
    ExecType,
    OrderPending,
    OrderStatus,
    Reject,
    ReportKind,
    ReportSource,
    RequestKind,
)
from processes.risk.counters import Counter

from tests.processes.risk.kernels import Kernels, small_oms
from tests.processes.risk.naive_risk import NaiveRisk

VENUE_ID = 77
S, E, P = OrderStatus, ExecType, OrderPending


@pytest.fixture
def kernels() -> Kernels:
    return Kernels(small_oms())


def fill(exec_id: int, qty: int, cum: int, status: int, **more: int) -> dict:
    """Return a TRADE of the user-data stream."""
    return {
        "exec_type": E.TRADE,
        "order_status": status,
        "exec_id": exec_id,
        "last_qty_steps": qty,
        "last_px_steps": 1_000,
        "cum_qty_steps": cum,
        "venue_order_id": VENUE_ID,
        "source": ReportSource.STREAM,
        "side": 1,
        "order_qty_steps": 10,
        "price_steps": 1_000,
    } | more


def ack(**more: int) -> dict:
    """Return the answer to a NEW."""
    return {
        "exec_type": E.NEW,
        "order_status": S.NEW,
        "venue_order_id": VENUE_ID,
        "source": ReportSource.RESPONSE,
        "request_kind": RequestKind.NEW,
        "order_qty_steps": 10,
        "price_steps": 1_000,
    } | more


def ended(exec_type: int = E.CANCELED, cum: int = 0) -> dict:
    """Return a CANCELED or EXPIRED of the stream."""
    status = S.CANCELED if exec_type == E.CANCELED else S.EXPIRED
    return {
        "exec_type": exec_type,
        "order_status": status,
        "venue_order_id": VENUE_ID,
        "source": ReportSource.STREAM,
        "cum_qty_steps": cum,
    }


def test_a_plain_life(kernels):
    order = kernels.new()
    assert kernels.position["open_bid_qty_steps"] == 10
    (told,) = kernels.report(order, **ack(request_client_order_id=order))
    assert (told["kind"], told["order_status"]) == (ReportKind.EXECUTION, S.NEW)
    assert told["request_client_order_id"] == order
    (told,) = kernels.report(order, **fill(1, 4, 4, S.PARTIALLY_FILLED, fee_e8=7))
    assert (told["last_qty_steps"], told["cum_qty_steps"], told["leaves_qty_steps"]) == (4, 4, 6)
    assert (told["position_steps"], told["fee_e8"], told["exec_id"]) == (4, 7, 1)
    (told,) = kernels.report(order, **fill(2, 6, 10, S.FILLED))
    assert (told["order_status"], told["leaves_qty_steps"]) == (S.FILLED, 0)
    assert kernels.position["position_steps"] == 10
    assert kernels.position["open_bid_qty_steps"] == 0
    assert kernels.active == []


def test_the_first_sign_of_life_answers_the_request(kernels):
    """The stream may overtake the response: the strategy must not wait for what never comes."""
    order = kernels.new()
    (told,) = kernels.report(order, **fill(1, 4, 4, S.PARTIALLY_FILLED))
    assert told["request_client_order_id"] == order
    assert kernels.report(order, **ack(request_client_order_id=order)) == []
    assert kernels.order(order)["order_status"] == S.PARTIALLY_FILLED


SIX_EVENTS = (
    ack(),
    ack(source=ReportSource.STREAM),
    fill(1, 4, 4, S.PARTIALLY_FILLED),
    fill(1, 4, 4, S.PARTIALLY_FILLED),  # told twice
    fill(2, 3, 7, S.PARTIALLY_FILLED),
    ended(cum=7),
)


@pytest.mark.parametrize("first", range(6))
def test_every_permutation_of_six_events_ends_the_same(kernels, first):
    """All 720 orders of arrival: canceled with 7 filled, whatever came first."""
    rest = [k for k in range(6) if k != first]
    for k, order_of in enumerate(itertools.permutations(rest)):
        order = kernels.new()
        for event in (first, *order_of):
            told = dict(SIX_EVENTS[event])
            told["venue_order_id"] = 100 + k
            kernels.report(order, **told)
        row = kernels.order(order)
        assert (row["order_status"], row["cum_qty_steps"], row["leaves_qty_steps"]) == (
            S.CANCELED,
            7,
            0,
        )
        assert row["order_pending"] == 0
        assert kernels.position["position_steps"] == 7 * (k + 1)
    assert kernels.active == []
    assert kernels.position["open_bid_qty_steps"] == 0


def test_losing_any_one_event_never_frees_what_may_fill(kernels):
    """Exposure covers what the venue still has, whichever event is lost."""
    for lost in range(6):
        order = kernels.new()
        before = kernels.position["position_steps"]
        for k, event in enumerate(SIX_EVENTS):
            if k != lost:
                kernels.report(order, **event | {"venue_order_id": 200 + lost})
        row = kernels.order(order)
        booked = kernels.position["position_steps"] - before
        assert booked + kernels.position["open_bid_qty_steps"] >= 7
        if lost == 4:  # the second fill: the end told 7, we have 4
            assert booked == 4
            assert order in kernels.active
            kernels.report(order, **SIX_EVENTS[4] | {"venue_order_id": 200 + lost})
        if lost == 5:
            assert row["order_status"] == S.PARTIALLY_FILLED
            kernels.report(order, **SIX_EVENTS[5] | {"venue_order_id": 200 + lost})
        assert kernels.active == []


@pytest.mark.parametrize("exec_type", [E.STATUS, E.TRADE, E.CANCELED, E.EXPIRED])
@pytest.mark.parametrize("told", [0, 3])
@pytest.mark.parametrize("qty", [0, 10])
def test_filled_with_a_small_cumulative_holds_the_whole_order(kernels, exec_type, told, qty):
    """REST views lag: FILLED beside a cumulative of before is not proof of that cumulative."""
    order = kernels.new()
    kernels.report(
        order,
        exec_type=exec_type,
        order_status=S.FILLED,
        venue_order_id=VENUE_ID,
        cum_qty_steps=told,
        order_qty_steps=qty,
    )
    assert kernels.order(order)["order_status"] == S.FILLED
    assert kernels.position["open_bid_qty_steps"] == 10
    kernels.report(order, **fill(1, 6, 6, S.PARTIALLY_FILLED))
    assert kernels.position["open_bid_qty_steps"] == 4
    kernels.report(order, **fill(2, 4, 10, S.FILLED))
    assert (kernels.position["open_bid_qty_steps"], kernels.active) == (0, [])


def test_filled_after_a_replace_is_believed_if_its_numbers_agree(kernels):
    order = kernels.new()
    kernels.report(order, exec_type=E.NEW, order_status=S.NEW, venue_order_id=VENUE_ID)
    kernels.request(
        RequestKind.REPLACE, 1, orig_client_order_id=order, price_steps=999, order_qty_steps=20
    )
    kernels.report(
        order, exec_type=E.STATUS, order_status=S.FILLED, cum_qty_steps=10, order_qty_steps=10
    )
    assert kernels.position["open_bid_qty_steps"] == 10
    kernels.report(order, **fill(1, 10, 10, S.FILLED, order_qty_steps=10))
    assert kernels.position["open_bid_qty_steps"] == 0


def test_a_late_fill_on_a_canceled_order_is_booked(kernels):
    order = kernels.new()
    kernels.report(order, **ack())
    kernels.report(order, **ended())
    (told,) = kernels.report(order, **fill(1, 4, 4, S.PARTIALLY_FILLED))
    assert (told["exec_type"], told["order_status"]) == (E.TRADE, S.CANCELED)
    assert kernels.position["position_steps"] == 4
    assert kernels.oms.counters[Counter.FILLS_LATE] == 1


def test_an_overfill_is_booked_and_counted(kernels):
    order = kernels.new()
    kernels.report(order, **ack())
    kernels.report(order, **fill(1, 12, 12, S.FILLED))
    assert kernels.position["position_steps"] == 12
    assert kernels.oms.counters[Counter.OVERFILLS] == 1
    assert kernels.order(order)["leaves_qty_steps"] == 0


def test_a_self_trade_is_two_fills(kernels):
    """One trade id, two orders: the key holds the order (protocol 4.4)."""
    bid, ask = kernels.new(1), kernels.new(-1)
    kernels.report(bid, **fill(9, 10, 10, S.FILLED, venue_order_id=1))
    kernels.report(ask, **fill(9, 10, 10, S.FILLED, venue_order_id=2))
    assert kernels.position["fill_count"] == 2
    assert kernels.position["position_steps"] == 0


def test_foreign_fills_move_the_position_and_no_order(kernels):
    order = kernels.new()
    (told,) = kernels.report(0, **fill(5, 3, 3, S.FILLED, side=-1, venue_order_id=999))
    assert (told["kind"], told["position_steps"]) == (ReportKind.POSITION, -3)
    assert kernels.report(0, **fill(5, 3, 3, S.FILLED, side=-1, venue_order_id=999)) == []
    assert kernels.order(order)["cum_qty_steps"] == 0
    assert kernels.oms.counters[Counter.FILLS_FOREIGN] == 1


def test_a_cancel_answered_unknown_order_is_a_question(kernels):
    """-2011 proves nothing: UNKNOWN, exposure held, still to be canceled."""
    order = kernels.new()
    kernels.report(order, **ack())
    cancel = kernels.request(RequestKind.CANCEL, 1, orig_client_order_id=order)
    (told,) = kernels.report(
        order,
        exec_type=E.CANCEL_REJECTED,
        reject=Reject.VENUE_UNKNOWN_ORDER,
        request_client_order_id=cancel,
    )
    assert told["exec_type"] == E.UNKNOWN
    assert told["order_pending"] == P.CANCEL | P.UNKNOWN
    assert kernels.position["open_bid_qty_steps"] == 10
    status = {"exec_type": E.STATUS, "source": ReportSource.QUERY, "venue_order_id": VENUE_ID}
    (told,) = kernels.report(order, **status, order_status=S.FILLED, cum_qty_steps=10)
    assert told["order_status"] == S.FILLED
    assert kernels.position["open_bid_qty_steps"] == 10  # told, and not yet seen as fills
    kernels.report(order, **fill(1, 10, 10, S.FILLED))
    assert kernels.position["open_bid_qty_steps"] == 0


@pytest.mark.parametrize(
    "reject", [Reject.GATEWAY_DOWN, Reject.VENUE_RATE, Reject.VENUE_THROTTLE, Reject.CLOCK_OFFSET]
)
def test_a_cancel_that_failed_for_a_moment_stays_wanted(kernels, reject):
    order = kernels.new()
    kernels.report(order, **ack())
    kernels.request(RequestKind.CANCEL, 1, orig_client_order_id=order)
    assert kernels.report(order, exec_type=E.CANCEL_REJECTED, reject=reject) == []
    row = kernels.order(order)
    assert (row["order_pending"], row["cancel_in_flight"]) == (P.CANCEL, 0)


def test_a_rejected_replace_leaves_the_order(kernels):
    order = kernels.new()
    kernels.report(order, **ack())
    replace = kernels.request(
        RequestKind.REPLACE, 1, orig_client_order_id=order, price_steps=1_010, order_qty_steps=15
    )
    assert kernels.position["open_bid_qty_steps"] == 15
    (told,) = kernels.report(
        order,
        exec_type=E.REPLACE_REJECTED,
        reject=Reject.VENUE,
        request_client_order_id=replace,
        request_kind=RequestKind.REPLACE,
    )
    assert (told["exec_type"], told["price_steps"], told["order_pending"]) == (
        E.REPLACE_REJECTED,
        1_000,
        0,
    )
    assert kernels.position["open_bid_qty_steps"] == 10


def test_a_replace_is_done_once_however_often_it_is_told(kernels):
    order = kernels.new()
    kernels.report(order, **ack())
    done = {"exec_type": E.REPLACED, "order_status": S.NEW, "venue_order_id": VENUE_ID}
    first = kernels.request(
        RequestKind.REPLACE, 1, orig_client_order_id=order, price_steps=1_010, order_qty_steps=10
    )
    shown = done | {"price_steps": 1_010, "order_qty_steps": 10, "ts_exch_ns": 5}
    (told,) = kernels.report(order, **shown, request_client_order_id=first)
    assert (told["price_steps"], told["order_pending"]) == (1_010, 0)
    kernels.request(
        RequestKind.REPLACE, 2, orig_client_order_id=order, price_steps=1_020, order_qty_steps=10
    )
    assert kernels.report(order, **shown, source=ReportSource.STREAM) == []  # the first, again
    assert kernels.order(order)["order_pending"] == P.REPLACE
    (told,) = kernels.report(order, **shown | {"price_steps": 1_020, "ts_exch_ns": 6})
    assert (told["price_steps"], told["order_pending"]) == (1_020, 0)
    assert kernels.report(order, **shown) == []  # older than what is known
    assert kernels.order(order)["price_steps"] == 1_020


def test_a_late_report_of_an_earlier_replace_in_the_same_millisecond_frees_nothing(kernels):
    order = kernels.new()
    kernels.report(order, **ack())
    done = {"exec_type": E.REPLACED, "order_status": S.NEW, "venue_order_id": VENUE_ID}
    done |= {"price_steps": 1_010, "ts_exch_ns": 5}
    for intent, qty in enumerate((6, 9), start=1):
        request = kernels.request(
            RequestKind.REPLACE, intent,
            orig_client_order_id=order, price_steps=1_010, order_qty_steps=qty,
        )  # fmt: skip
        kernels.report(order, **done, order_qty_steps=qty, request_client_order_id=request)
    kernels.report(order, **done, order_qty_steps=6, source=ReportSource.STREAM)
    assert kernels.position["open_bid_qty_steps"] == 9
    assert kernels.order(order)["order_pending"] == P.UNKNOWN  # time cannot tell: it is asked for
    kernels.report(order, **done, order_qty_steps=9, source=ReportSource.STREAM)
    assert kernels.position["open_bid_qty_steps"] == 9
    queried = done | {"exec_type": E.STATUS, "source": ReportSource.QUERY, "order_qty_steps": 6}
    kernels.report(order, **queried)
    assert kernels.position["open_bid_qty_steps"] == 6
    assert kernels.order(order)["order_pending"] == 0


def test_a_rejection_of_a_known_order_is_a_question(kernels):
    order = kernels.new()
    kernels.report(order, **ack(source=ReportSource.STREAM))
    kernels.report(order, exec_type=E.REJECTED, order_status=S.REJECTED, reject=Reject.VENUE)
    row = kernels.order(order)
    assert (row["order_status"], row["order_pending"]) == (S.NEW, P.UNKNOWN)
    assert kernels.oms.counters[Counter.CONTRADICTIONS] == 1


def test_a_rejected_order_that_lives_is_held_and_canceled(kernels):
    order = kernels.new()
    kernels.report(order, exec_type=E.REJECTED, order_status=S.REJECTED, reject=Reject.VENUE)
    assert kernels.active == []
    kernels.report(order, **ack(source=ReportSource.STREAM))
    row = kernels.order(order)
    assert (row["order_status"], row["order_pending"]) == (S.REJECTED, P.CANCEL | P.UNKNOWN)
    assert kernels.position["open_bid_qty_steps"] == 10
    kernels.report(order, **ended(cum=2))
    assert kernels.position["open_bid_qty_steps"] == 2  # 2 were filled, and not told yet
    kernels.report(order, **fill(1, 2, 2, S.PARTIALLY_FILLED))
    assert kernels.active == []
    assert kernels.order(order)["order_status"] == S.REJECTED


def test_not_found_alone_never_ends_an_order(kernels):
    order = kernels.new()
    kernels.report(order, exec_type=E.UNKNOWN, request_kind=RequestKind.NEW)
    for k in range(20):
        kernels.report(
            order,
            exec_type=E.STATUS,
            source=ReportSource.QUERY,
            reject=Reject.VENUE_UNKNOWN_ORDER,
        )
        row = kernels.order(order)
        assert (row["order_status"], row["missing_count"]) == (S.PENDING_NEW, k + 1)
    assert kernels.position["open_bid_qty_steps"] == 10


@pytest.mark.parametrize(
    "bad",
    [
        {"instrument_id": 1},
        {"instrument_id": -1},
        {"exec_type": 0},
        {"exec_type": 99},
        {"order_status": 9},
        {"cum_qty_steps": -1},
        {"last_qty_steps": -1},
        {"price_steps": -1},
        {"last_px_steps": -1},
        {"cum_qty_steps": 1 << 62},
        {"last_qty_steps": 10**15 + 1},
        {"order_qty_steps": (1 << 63) - 1},
        {"venue_order_id": -5},
    ],
)
def test_impossible_reports_change_nothing(kernels, bad):
    order = kernels.new()
    before = kernels.order(order).copy()
    assert kernels.report(order, **fill(1, 1, 1, S.PARTIALLY_FILLED) | bad) == []
    assert kernels.order(order) == before
    assert kernels.oms.counters[Counter.REPORTS_BAD] == 1


def test_another_venue_order_with_our_id_is_not_our_order(kernels):
    order = kernels.new()
    kernels.report(order, **ack())
    kernels.report(order, **fill(3, 2, 2, S.PARTIALLY_FILLED, venue_order_id=VENUE_ID + 1))
    assert kernels.order(order)["cum_qty_steps"] == 0
    assert kernels.position["position_steps"] == 2
    assert kernels.oms.counters[Counter.FILLS_FOREIGN] == 1


def test_finished_rows_are_reused_and_the_position_stays():
    kernels = Kernels(small_oms(orders=16))
    for k in range(100):
        order = kernels.new(1 if k % 3 else -1)
        kernels.report(order, **fill(k + 1, 10, 10, S.FILLED, venue_order_id=k + 1))
    sides = [1 if k % 3 else -1 for k in range(100)]
    assert kernels.position["position_steps"] == 10 * sum(sides)
    assert kernels.position["retired_steps"] != 0
    live = kernels.oms.orders[kernels.oms.orders["client_order_id"] != 0]
    assert len(live) == 16
    # A fill that comes after the row is gone still moves the position.
    kernels.report(0, **fill(5_000, 1, 1, S.FILLED, venue_order_id=1))
    assert kernels.position["position_steps"] == 10 * sum(sides) + 1


IDS = st.sampled_from([0, 1, 2, 3])
STATUSES = st.sampled_from([0, *OrderStatus])
SMALL = st.integers(0, 4)
REPORTS = st.fixed_dictionaries(
    {
        "order": IDS,
        "exec_type": st.sampled_from(list(ExecType)),
        "order_status": STATUSES,
        "source": st.sampled_from([ReportSource.RESPONSE, ReportSource.STREAM, ReportSource.QUERY]),
        "venue_order_id": st.sampled_from([0, 11, 12, 13]),
        "exec_id": st.integers(0, 6),
        "last_qty_steps": SMALL,
        "last_px_steps": st.integers(0, 3),
        "cum_qty_steps": SMALL,
        "order_qty_steps": st.integers(0, 8),
        "price_steps": SMALL,
        "side": st.sampled_from([1, -1]),
        "fee_e8": SMALL,
        "reject": st.sampled_from(
            [0, Reject.VENUE, Reject.VENUE_UNKNOWN_ORDER, Reject.GATEWAY_DOWN]
        ),
        "request": st.integers(0, 4),
        "request_kind": st.sampled_from([0, *RequestKind]),
        "ts_exch_ns": SMALL,
    }
)
REQUESTS = st.tuples(
    st.sampled_from(["new", "replace", "cancel", "held", "all"]),
    st.integers(0, 3),
    st.sampled_from([1, -1]),
    st.integers(1, 4),
    st.integers(1, 8),
)


@settings(max_examples=250, deadline=None)
@given(st.lists(st.one_of(REPORTS, REPORTS, REQUESTS), max_size=30))
def test_any_sequence_of_events_agrees_with_the_twin(events):
    """Reports need not make sense: whatever comes, state, exposure and position are the twin's."""
    kernels, naive = Kernels(small_oms(orders=64)), NaiveRisk()
    orders: list[int] = []
    requests: list[int] = [0]
    for event in events:
        if isinstance(event, dict):
            fields = dict(event)
            k = fields.pop("order")
            order = orders[k] if 0 < k < len(orders) else 0
            asked = requests[fields.pop("request") % len(requests)]
            values = fields | {"client_order_id": order, "request_client_order_id": asked}
            kernels.report(order, **fields, request_client_order_id=asked)
            naive.report(values)
        else:
            act(kernels, naive, orders, requests, event)
        compare(kernels, naive)


def act(kernels: Kernels, naive: NaiveRisk, orders: list, requests: list, event: tuple) -> None:
    """Do one request on both, if it is one that the checks let through."""
    what, k, side, price, qty = event
    if what == "new":
        order = kernels.new(side, price, qty)
        naive.new(order, side, price, qty)
        orders.append(order)
    elif what == "all":
        kernels.request(RequestKind.CANCEL_ALL, instrument_id=-1)
        naive.cancel_all()
    elif k < len(orders):
        order = orders[k]
        twin = naive.orders[order]
        is_open = twin.status in (S.PENDING_NEW, S.NEW, S.PARTIALLY_FILLED)
        if what == "replace" and is_open and not twin.pending and twin.status != S.PENDING_NEW:
            fields = {"orig_client_order_id": order, "price_steps": price, "order_qty_steps": qty}
            requests.append(kernels.request(RequestKind.REPLACE, 1, **fields))
            naive.replace(order, requests[-1], price, qty)
        elif what in ("cancel", "held") and is_open and not twin.pending & P.CANCEL:
            place = 1 if what == "cancel" else -1
            cancel = kernels.request(RequestKind.CANCEL, place, orig_client_order_id=order)
            naive.cancel(order, cancel, what == "cancel")
            requests.append(cancel)


def compare(kernels: Kernels, naive: NaiveRisk) -> None:
    """Assert that both know the same."""
    for order_id, twin in naive.orders.items():
        row = kernels.order(order_id)
        assert (
            row["order_status"],
            row["order_pending"],
            bool(row["cancel_in_flight"]),
            row["cum_qty_steps"],
            row["leaves_qty_steps"],
            row["price_steps"],
            row["order_qty_steps"],
            row["venue_order_id"],
            row["missing_count"],
        ) == (
            twin.status,
            twin.pending,
            twin.cancel_sent,
            twin.cum,
            twin.leaves,
            twin.price,
            twin.qty,
            twin.venue_id,
            twin.missing,
        )
    position = kernels.position
    assert position["position_steps"] == naive.position
    assert position["open_bid_qty_steps"] == naive.exposure(1)
    assert position["open_ask_qty_steps"] == naive.exposure(-1)
    assert naive.pnl()[0] == naive.position
    assert abs(position["realized_pnl_steps2"] - naive.pnl()[1]) <= len(naive.history)

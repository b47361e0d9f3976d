"""What the venue forgot, or told and never showed: held until rounds over a time have proved it."""

import pytest

from common.enums import (
    ExecType,
    OrderPending,
    OrderStatus,
    Reject,
    ReportSource,
    RequestKind,
    RestKind,
)
from processes.risk.counters import Counter
from processes.risk.oms import WANTS_RECONCILE

from tests.processes.risk.rig import MS, SECOND, Rig
from tests.processes.risk.test_reconcile import TRADE, fill, listed, reconnect

E, S, P, K = ExecType, OrderStatus, OrderPending, RequestKind
BIDS = "open_bid_qty_steps"


@pytest.fixture
def rig(tmp_path) -> Rig:
    return Rig(tmp_path, reconcile_every_ns=5 * SECOND).bring_up()


class Run:
    """Turns in which every query is answered "order does not exist".

    Attributes:
        queries: how many were answered.
    """

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.queries = 0

    def turns(self, count: int) -> None:
        for _ in range(count):
            for query in [one for one in self.rig.asked if one["kind"] == RestKind.ORDER_QUERY]:
                order = int(query["client_order_id"])
                self.rig.rest(order, reject=Reject.VENUE_UNKNOWN_ORDER, venue_code=-2013)
                self.queries += 1
            self.rig.asked.clear()
            self.rig.turn(10 * MS)

    def until_over(self, order: int, turns_max: int = 3_000) -> int:
        """Return the turns until the order has a terminal status."""
        for count in range(turns_max):
            if self.rig.row(order)["order_status"] >= S.FILLED:
                return count
            self.turns(1)
        raise AssertionError(self.rig.row(order))

    def until_free(self, turns_max: int = 3_000) -> None:
        """Turn until no bid is held any more."""
        for _ in range(turns_max):
            if not self.rig.stage.oms.positions[0][BIDS]:
                return
            self.turns(1)
        raise AssertionError(self.rig.stage.oms.positions[0])


@pytest.mark.parametrize("filled", [0, 4])
def test_a_forgotten_order_ends_when_the_account_has_proved_it(rig, filled):
    order = rig.open()
    if filled:
        fill(rig, order, 1, filled, filled)
        rig.trades = [TRADE | {"exec_id": 1, "venue_order_id": int(rig.row(order)[1])}]
        rig.positions = {0: filled}
        rig.turn()
    reconnect(rig)  # the venue lists no open order
    run = Run(rig)
    while not rig.row(order)["missing_count"]:
        run.turns(1)
    assert rig.stage.oms.positions[0][BIDS] == 10 - filled
    rounds, began_ns = rig.counter(Counter.RECONCILES), rig.now_ns
    run.until_over(order)
    assert rig.row(order)["order_status"] == S.CANCELED
    assert rig.stage.oms.positions[0][BIDS] == 0
    assert rig.counter(Counter.RECONCILES) - rounds >= 3
    assert rig.now_ns - began_ns >= SECOND
    assert 3 <= run.queries < 20
    assert rig.counter(Counter.ORDERS_LOST) == 1
    assert rig.counter(Counter.ORDERS_STUCK) == 0
    told = [one for one in rig.told if one["order_status"] == S.CANCELED]
    assert (told[0]["source"], told[0]["cum_qty_steps"]) == (ReportSource.RISK, filled)
    asked = rig.counter(Counter.RECONCILES)
    run.turns(300)
    assert rig.counter(Counter.RECONCILES) - asked <= 1  # and no more rounds than usual
    rig.crash()  # the journal says the same
    assert rig.row(order)["order_status"] == S.CANCELED


def test_a_fill_shows_that_it_lives_and_the_proof_begins_anew(rig):
    order = rig.open()
    reconnect(rig)
    run = Run(rig)
    while rig.row(order)["missing_count"] < 3:
        run.turns(1)
    fill(rig, order, 1, 4, 4)
    rig.trades = [TRADE | {"exec_id": 1, "venue_order_id": int(rig.row(order)[1])}]
    rig.positions = {0: 4}
    rig.turn()
    assert not rig.row(order)["missing_count"] and not rig.row(order)["is_lost"]
    assert rig.stage.oms.positions[0][BIDS] == 6
    rounds, began_ns = rig.counter(Counter.RECONCILES), rig.now_ns
    run.until_over(order)
    assert rig.counter(Counter.RECONCILES) - rounds >= 3
    assert rig.now_ns - began_ns >= SECOND
    assert rig.row(order)["order_status"] == S.CANCELED
    run.turns(300)
    assert not rig.stage.oms.words[WANTS_RECONCILE]
    rounds = rig.counter(Counter.RECONCILES)
    comes_back(rig, order)
    assert rig.stage.oms.positions[0][BIDS] == 6
    rig.turn(10 * MS, 20)
    assert rig.counter(Counter.RECONCILES) > rounds


def comes_back(rig, order):
    """The venue tells that it has an order whose end we had concluded."""
    rig.gateway(
        order,
        E.NEW,
        order_status=S.NEW,
        venue_order_id=int(rig.row(order)["venue_order_id"]) or 9,
        source=ReportSource.STREAM,
    )
    rig.turn()
    assert rig.row(order)["order_pending"] == P.UNKNOWN | P.CANCEL


def test_an_order_that_lives_after_all_is_held_and_canceled_as_often_as_it_comes_back(rig):
    order = rig.open()
    reconnect(rig)
    run = Run(rig)
    for _ in range(3):
        run.until_over(order)
        run.until_free()
        comes_back(rig, order)
        assert rig.row(order)["order_status"] == S.CANCELED
        assert rig.stage.oms.positions[0][BIDS] == 10
    assert rig.counter(Counter.ORDERS_ZOMBIE) == 3
    rig.crash()
    assert rig.stage.oms.positions[0][BIDS] == 10
    rig.gateway(order, E.CANCELED, order_status=S.CANCELED, source=ReportSource.STREAM)
    rig.turn()
    assert rig.stage.oms.positions[0][BIDS] == 0
    assert rig.row(order)["venue_end"] == S.CANCELED


def test_queries_alone_never_end_an_acknowledged_order(rig):
    order = rig.open()
    reconnect(rig)
    rig.turn(10 * MS, 30)
    rig.answers = False
    run = Run(rig)
    run.turns(3_000)
    assert rig.row(order)["order_status"] == S.NEW
    assert rig.stage.oms.positions[0][BIDS] == 10
    assert run.queries <= rig.config.query_count_max


def test_rounds_without_queries_never_end_an_acknowledged_order(rig):
    """One answer, and then no more: it is held, however good the rounds are."""
    order = rig.open()
    reconnect(rig)
    rig.turn(10 * MS, 30)
    rig.rest(order, reject=Reject.VENUE_UNKNOWN_ORDER, venue_code=-2013)
    rig.turn(10 * MS, 2_000)
    assert rig.counter(Counter.RECONCILES) > 10
    assert rig.row(order)["order_status"] == S.NEW
    assert rig.stage.oms.positions[0][BIDS] == 10


def test_a_listed_order_is_not_forgotten_whatever_queries_say(rig):
    order = rig.open()
    listed(rig, order)
    rig.gateway(order, E.UNKNOWN)
    run = Run(rig)
    run.turns(1_500)
    assert rig.row(order)["order_status"] == S.NEW
    assert rig.stage.oms.positions[0][BIDS] == 10


def test_rounds_that_disagree_prove_nothing(rig):
    order = rig.open()
    rig.positions = {0: 3}  # a fill that userTrades does not show yet
    reconnect(rig)
    run = Run(rig)
    run.turns(1_500)
    assert rig.row(order)["order_status"] == S.NEW
    assert rig.stage.oms.positions[0][BIDS] == 10
    rig.trades = [
        TRADE | {"exec_id": 1, "last_qty_steps": 3, "venue_order_id": int(rig.row(order)[1])}
    ]
    run.until_over(order)
    assert rig.row(order)["cum_qty_steps"] == 3
    assert rig.stage.oms.positions[0]["position_steps"] == 3
    assert rig.stage.oms.positions[0][BIDS] == 0


def test_not_found_says_nothing_of_a_replace(rig):
    """The larger quantity is held until the order itself is proved to be over."""
    order = rig.open()
    rig.replace(order, 1_000, 25)
    rig.turn()
    reconnect(rig)
    rig.gateway(order, E.UNKNOWN)
    run = Run(rig)
    while rig.row(order)["order_status"] == S.NEW:
        assert rig.stage.oms.positions[0][BIDS] == 25
        run.turns(1)
    assert rig.row(order)["order_status"] == S.CANCELED


def test_an_order_that_comes_back_is_held_again(rig):
    order = rig.open()
    reconnect(rig)
    run = Run(rig)
    run.turns(60)
    rig.rest(order, order_status=S.NEW, price_steps=1_000, order_qty_steps=10)
    listed(rig, order)
    rig.turn()
    assert rig.row(order)["order_status"] == S.NEW
    assert not rig.row(order)["order_pending"] & P.UNKNOWN
    run.turns(800)
    assert rig.row(order)["order_status"] == S.NEW


def test_fills_that_the_venue_told_and_nobody_finds_are_not_waited_for_for_ever(rig):
    order = rig.open()
    rig.gateway(order, E.STATUS, order_status=S.FILLED, source=ReportSource.QUERY)
    rig.turn()
    assert rig.row(order)["order_status"] == S.FILLED
    began_ns, rounds = rig.now_ns, rig.counter(Counter.RECONCILES)
    while rig.stage.oms.positions[0][BIDS]:
        assert rig.stage.oms.positions[0][BIDS] == 10
        assert rig.now_ns - began_ns < 30 * SECOND
        rig.turn(10 * MS)
    assert rig.counter(Counter.RECONCILES) - rounds in range(3, 7)  # and not in every turn
    assert rig.counter(Counter.FILLS_LOST) == 1
    assert rig.stage.oms.positions[0]["position_steps"] == 0
    fill(rig, order, 7, 10, 10)  # they come after all: always booked
    rig.positions = {0: 10}
    rig.turn()
    assert rig.stage.oms.positions[0]["position_steps"] == 10
    rig.crash()
    assert rig.stage.oms.positions[0]["position_steps"] == 10


def test_an_order_that_comes_back_is_held_at_the_most_that_was_asked(rig):
    """A replace was in flight when its end was concluded: it may have been done."""
    order = rig.open()
    rig.replace(order, 1_000, 50)
    rig.turn()
    rig.gateway(order, E.UNKNOWN, request_kind=K.REPLACE)
    reconnect(rig)
    run = Run(rig)
    run.until_over(order)
    run.until_free()
    comes_back(rig, order)
    assert rig.stage.oms.positions[0][BIDS] == 50
    fill(rig, order, 1, 10, 10, order_qty_steps=50)
    rig.turn()
    assert rig.stage.oms.positions[0][BIDS] == 40
    assert rig.row(order)["order_pending"] == P.UNKNOWN | P.CANCEL
    fill(rig, order, 2, 20, 30, order_qty_steps=80)  # larger than anything we know of
    rig.turn()
    assert rig.stage.oms.positions[0][BIDS] == 50


def test_fills_that_the_account_lists_are_no_end_that_the_venue_told(rig):
    order = rig.open()
    venue_order_id = int(rig.row(order)["venue_order_id"])
    rig.replace(order, 1_000, 50)
    rig.turn()
    rig.gateway(order, E.UNKNOWN, request_kind=K.REPLACE)
    rig.turn()
    for _ in range(200):  # it is as it was: the replace is given up
        for _ in [one for one in rig.asked if one["kind"] == RestKind.ORDER_QUERY]:
            rig.rest(order, order_status=S.NEW, order_qty_steps=10, price_steps=1_000)
        rig.asked.clear()
        rig.turn(10 * MS)
    assert rig.stage.oms.positions[0][BIDS] == 10
    rig.trades = [TRADE | {"exec_id": 1, "venue_order_id": venue_order_id}]
    rig.trades[0]["last_qty_steps"] = 10
    rig.positions = {0: 10}
    reconnect(rig)
    rig.turn(10 * MS, 40)
    assert rig.row(order)["order_status"] == S.FILLED
    rig.gateway(
        order,
        E.REPLACED,
        order_status=S.PARTIALLY_FILLED,
        venue_order_id=venue_order_id,
        source=ReportSource.STREAM,
        order_qty_steps=50,
        cum_qty_steps=10,
        price_steps=1_000,
    )
    rig.turn()
    assert rig.stage.oms.positions[0][BIDS] == 40
    assert rig.row(order)["order_pending"] == P.UNKNOWN | P.CANCEL


def test_a_late_report_of_a_filled_order_revives_nothing(rig):
    order = rig.open()
    rig.trades = [TRADE | {"exec_id": 1, "venue_order_id": int(rig.row(order)["venue_order_id"])}]
    rig.trades[0]["last_qty_steps"] = 10
    rig.positions = {0: 10}
    reconnect(rig)
    rig.turn(10 * MS, 40)
    assert rig.row(order)["order_status"] == S.FILLED
    rig.gateway(order, E.NEW, order_status=S.NEW, source=ReportSource.STREAM, venue_order_id=9)
    rig.turn()
    assert rig.row(order)["order_pending"] == 0


def test_rounds_before_it_came_back_do_not_end_it(rig):
    order = rig.open()
    reconnect(rig)
    run = Run(rig)
    run.until_over(order)
    comes_back(rig, order)
    rig.answers = False  # of rounds; queries are answered
    run.turns(1_000)
    assert rig.stage.oms.positions[0][BIDS] == 10
    rig.answers = True
    rounds = rig.counter(Counter.RECONCILES)
    run.until_free()
    assert rig.counter(Counter.RECONCILES) - rounds >= 3


def test_a_fill_of_one_that_came_back_begins_its_proof_anew(rig):
    order = rig.open()
    reconnect(rig)
    run = Run(rig)
    run.until_over(order)
    run.until_free()
    comes_back(rig, order)
    while rig.row(order)["missing_count"] < 3:
        run.turns(1)
    fill(rig, order, 1, 4, 4)
    rig.trades = [TRADE | {"exec_id": 1, "venue_order_id": int(rig.row(order)["venue_order_id"])}]
    rig.positions = {0: 4}
    rig.turn()
    assert not rig.row(order)["missing_count"] and not rig.row(order)["is_lost"]
    began_ns = rig.now_ns
    run.until_free()
    assert rig.now_ns - began_ns >= SECOND


def test_a_rejected_order_that_lived_and_was_forgotten_ends(rig):
    order = rig.new()
    rig.turn()
    rig.gateway(order, E.REJECTED, reject=Reject.VENUE)
    rig.turn()
    comes_back(rig, order)
    Run(rig).until_free()
    assert rig.row(order)["order_pending"] == 0
    assert not rig.row(order)["venue_end"]  # we concluded it: it may come back once more
    comes_back(rig, order)
    assert rig.stage.oms.positions[0][BIDS] == 10

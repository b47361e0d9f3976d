"""Reconciliation: what the venue's account says is compared, imported, asked for, canceled."""

import pytest

from common.enums import (
    ExecType,
    OrderPending,
    OrderStatus,
    Reject,
    ReportKind,
    ReportSource,
    RequestKind,
    RestKind,
)
from processes.risk.counters import Counter
from processes.risk.limits import id_of
from processes.risk.rehearsal import report

from tests.processes.risk.rig import MS, SECOND, SESSION, WALL_NS, Rig

E, S, P, K = ExecType, OrderStatus, OrderPending, RequestKind
TRADE = {"instrument_id": 0, "side": 1, "last_qty_steps": 4, "last_px_steps": 1_000}


@pytest.fixture
def rig(tmp_path) -> Rig:
    return Rig(tmp_path).bring_up()


def reconnect(rig: Rig) -> None:
    """Lose the user-data stream, and get it back."""
    rig.others.gateway.try_write(report(ReportKind.SESSION_DOWN, source=ReportSource.STREAM))
    rig.turn()
    rig.others.gateway.try_write(report(ReportKind.SESSION_UP, source=ReportSource.STREAM))


def fill(rig: Rig, order: int, exec_id: int, qty: int, cum: int, **values: int) -> None:
    rig.gateway(
        order,
        E.TRADE,
        order_status=S.PARTIALLY_FILLED,
        source=ReportSource.STREAM,
        exec_id=exec_id,
        last_qty_steps=qty,
        last_px_steps=1_000,
        cum_qty_steps=cum,
        fee_e8=0,
        **values,
    )


def listed(rig: Rig, *orders: int) -> None:
    """Let the venue list these orders as open, as they are."""
    rig.open_orders = [
        {
            "client_order_id": order,
            "venue_order_id": int(rig.row(order)["venue_order_id"]),
            "instrument_id": 0,
            "order_qty_steps": int(rig.row(order)["order_qty_steps"]),
            "price_steps": int(rig.row(order)["price_steps"]),
            "cum_qty_steps": int(rig.row(order)["cum_qty_steps"]),
        }
        for order in orders
    ]


def test_the_base_needs_two_rounds_that_agree(tmp_path):
    rig = Rig(tmp_path)
    rig.answers = False
    rig.sockets()
    rig.turn(10 * MS)
    for k, held in enumerate((7, 9, 9)):
        while not rig.asked:
            rig.turn(10 * MS)
        (request,) = rig.asked
        assert request["kind"] == RestKind.RECONCILE
        assert (request["instrument_id"], request["trade_id_from"]) == (-1, 0)
        rig.asked.clear()
        rig.positions = {0: held}
        rig.answer_round(int(request["request_id"]))
        rig.turn(10 * MS)
        assert rig.stage.is_ready() == (k == 2)
    assert rig.stage.oms.positions["base_position_steps"].tolist() == [9, 0]


def test_rounds_are_asked_only_when_both_sockets_are_up(tmp_path):
    rig = Rig(tmp_path)
    rig.turn(10 * MS, 5)
    assert rig.counter(Counter.RECONCILES) == 0
    rig.others.gateway.try_write(report(ReportKind.SESSION_UP, source=ReportSource.STREAM))
    rig.turn(10 * MS, 5)
    assert rig.counter(Counter.RECONCILES) == 0
    rig.others.gateway.try_write(report(ReportKind.SESSION_UP, source=ReportSource.RESPONSE))
    rig.turn(10 * MS, 9)
    assert rig.counter(Counter.RECONCILES) == 1


def test_trades_of_before_the_session_are_part_of_the_base(tmp_path):
    rig = Rig(tmp_path)
    rig.positions = {0: 4}
    rig.trades = [TRADE | {"exec_id": 50, "venue_order_id": 3}]
    rig.bring_up()
    position = rig.stage.oms.positions[0]
    assert (position["position_steps"], position["fill_count"]) == (4, 0)
    # Its event may come late on the stream: it is in the base already.
    rig.gateway(0, E.TRADE, order_status=S.FILLED, exec_id=50, venue_order_id=3, **TRADE)
    rig.turn()
    assert rig.stage.oms.positions[0]["position_steps"] == 4


def test_a_missed_fill_is_imported_from_the_account(rig):
    order = rig.open()
    fill(rig, order, 1, 2, 2)
    rig.turn()
    venue_id = int(rig.row(order)["venue_order_id"])
    rig.trades = [
        TRADE | {"exec_id": 1, "venue_order_id": venue_id, "last_qty_steps": 2},
        TRADE | {"exec_id": 2, "venue_order_id": venue_id, "last_qty_steps": 3},
    ]
    rig.positions = {0: 5}
    listed(rig, order)
    reconnect(rig)
    rig.turn(10 * MS, 30)
    assert rig.row(order)["cum_qty_steps"] == 5
    assert rig.stage.oms.positions[0]["position_steps"] == 5
    assert rig.counter(Counter.FILLS_IMPORTED) == 1
    assert rig.stage.is_ready()
    told = [one for one in rig.told if one["last_qty_steps"] == 3]
    assert (told[0]["exec_type"], told[0]["client_order_id"]) == (E.TRADE, order)
    fill(rig, order, 2, 3, 5)  # and now the stream tells it after all
    rig.turn()
    assert rig.stage.oms.positions[0]["position_steps"] == 5


def test_a_trade_of_an_order_whose_id_is_not_known_waits_for_it(rig):
    """userTrades has no client id: it may be the fill of the order that nobody answered."""
    order = rig.new()
    rig.turn()
    rig.trades = [TRADE | {"exec_id": 5, "venue_order_id": 88}]
    rig.positions = {0: 4}
    rig.sockets(False)
    rig.turn()
    rig.sockets()
    rig.turn(10 * MS, 10)
    assert rig.stage.oms.positions[0]["position_steps"] == 0
    assert not rig.stage.is_ready()
    rig.rest(order, order_status=S.PARTIALLY_FILLED, venue_order_id=88, cum_qty_steps=4)
    listed(rig, order)
    rig.open_orders[0]["venue_order_id"] = 88
    rig.turn(10 * MS, 100)
    assert rig.row(order)["cum_qty_steps"] == 4
    assert rig.counter(Counter.FILLS_FOREIGN) == 0
    assert rig.stage.is_ready()


def test_an_order_that_the_venue_no_longer_lists_is_asked_for(rig):
    order = rig.open()
    reconnect(rig)
    rig.turn(10 * MS, 30)
    assert rig.row(order)["order_pending"] & P.UNKNOWN
    assert rig.row(order)["order_status"] == S.NEW
    queries = [one for one in rig.asked if one["kind"] == RestKind.ORDER_QUERY]
    assert int(queries[0]["client_order_id"]) == order
    rig.rest(order, order_status=S.CANCELED)
    rig.turn()
    assert rig.row(order)["order_status"] == S.CANCELED


def test_open_orders_of_ours_that_nobody_knows_are_canceled(rig):
    old = id_of(SESSION - 1 or 9, 0, 5)
    rig.open_orders = [{"client_order_id": old, "venue_order_id": 61, "instrument_id": 1}]
    reconnect(rig)
    rig.turn(10 * MS, 5)
    cancels = [one for one in rig.sent if one["kind"] == K.CANCEL]
    assert {int(one["orig_client_order_id"]) for one in cancels} == {old}
    assert cancels[0]["venue_order_id"] == 61
    assert not rig.stage.is_ready()
    rig.open_orders = []
    rig.turn(10 * MS, 50)
    assert rig.stage.is_ready()
    assert rig.counter(Counter.FOREIGN_ORDERS_CANCELED) >= 1


def test_orders_of_others_are_left_alone(rig):
    rig.open_orders = [{"client_order_id": 0, "venue_order_id": 61, "instrument_id": 1}]
    reconnect(rig)
    rig.turn(10 * MS, 10)
    assert rig.sent == []
    assert rig.stage.is_ready()


def test_a_fill_while_the_round_runs_proves_nothing(rig):
    """The answer may be of before or after the fill: the round is asked again."""
    order = rig.open()
    rig.answers = False
    reconnect(rig)
    rig.turn(10 * MS)
    listed(rig, order)
    (request,) = rig.asked
    rig.asked.clear()
    common = {"request_id": int(request["request_id"]), "source": ReportSource.QUERY}
    rig.others.rest.try_write(report(ReportKind.RECONCILE_BEGIN, **common))
    rig.turn()
    fill(rig, order, 1, 2, 2)
    rig.turn()
    for i in (0, 1):
        rig.others.rest.try_write(report(ReportKind.POSITION, instrument_id=i, **common))
    rig.others.rest.try_write(report(ReportKind.RECONCILE_END, **common))
    rig.turn()
    assert not rig.stage.is_ready()
    assert rig.counter(Counter.POSITION_MISMATCHES) == 0
    rig.positions, rig.answers = {0: 2}, True
    rig.turn(10 * MS, 30)
    assert rig.stage.is_ready()


def test_a_position_that_differs_stops_trading_and_nothing_is_mended(rig):
    rig.positions = {0: 1}
    reconnect(rig)
    rig.turn(10 * MS, 200)
    assert not rig.stage.is_ready()
    assert rig.counter(Counter.POSITION_MISMATCHES) >= 3
    assert rig.stage.oms.positions[0]["position_steps"] == 0
    assert [one for one in rig.sent if one["kind"] == K.NEW] == []
    rig.new()
    rig.turn()
    assert Reject.NOT_RECONCILED in rig.rejects()
    rig.positions = {0: 0}
    rig.turn(100 * MS, 50)
    assert rig.stage.is_ready()


def test_a_round_without_an_end_is_asked_again(rig):
    rig.answers = False
    reconnect(rig)
    rig.turn(10 * MS, 2)
    assert len(rig.asked) == 1
    rig.turn(10 * MS, 90)
    assert len(rig.asked) == 1
    rig.turn(10 * MS, 20)
    assert len(rig.asked) == 2
    first, second = (int(one["request_id"]) for one in rig.asked)
    rig.answer_round(first)  # late: it was asked before, and is no answer to the second
    rig.turn()
    assert not rig.stage.is_ready()
    rig.answer_round(second)
    rig.turn()
    assert rig.stage.is_ready()


def test_a_failed_round_is_asked_again_with_a_back_off(rig):
    rig.answers = False
    reconnect(rig)
    gaps, last = [], 0
    for _ in range(5):
        while not rig.asked:
            rig.turn(MS * 5)
        gaps.append(rig.now_ns - last)
        last = rig.now_ns
        rig.answer_round(int(rig.asked.pop()["request_id"]), reject=Reject.VENUE_RATE)
        rig.turn()
    assert gaps[1:] == sorted(gaps[1:])
    assert gaps[-1] > 5 * gaps[1]


def test_half_a_round_concludes_nothing(rig):
    """A session that goes down in the middle: what comes later is of a new round."""
    rig.answers = False
    reconnect(rig)
    rig.turn(10 * MS)
    common = {"request_id": int(rig.asked[0]["request_id"]), "source": ReportSource.QUERY}
    rig.others.rest.try_write(report(ReportKind.RECONCILE_BEGIN, **common))
    reconnect(rig)
    rig.turn(10 * MS)
    rig.others.rest.try_write(report(ReportKind.RECONCILE_END, **common))  # without positions
    rig.turn(10 * MS)
    assert not rig.stage.is_ready()


def test_a_later_round_looks_back_only_as_far_as_it_must(rig):
    rig.answers = False
    reconnect(rig)
    rig.turn(10 * MS)
    early = int(rig.asked.pop()["ts_session_ns"])
    assert early == rig.stage.session_wall_ns
    rig.now_ns += 1_000 * SECOND
    rig.answers = True
    rig.turn(10 * MS, 500)
    assert rig.stage.is_ready()
    rig.answers = False
    reconnect(rig)
    rig.turn(10 * MS)
    late = int(rig.asked.pop()["ts_session_ns"])
    assert WALL_NS < early < late < WALL_NS + rig.now_ns - 50 * SECOND


def test_missing_fills_of_a_finished_order_bring_a_round(rig):
    order = rig.open()
    rig.gateway(order, E.CANCELED, order_status=S.CANCELED, cum_qty_steps=4)
    rig.turn()
    venue_id = int(rig.row(order)["venue_order_id"])
    rig.trades = [TRADE | {"exec_id": 3, "venue_order_id": venue_id}]
    rig.positions = {0: 4}
    assert rig.row(order)["order_status"] == S.CANCELED
    assert rig.stage.oms.positions[0]["open_bid_qty_steps"] == 4
    rig.turn(10 * MS, 300)
    assert rig.row(order)["cum_qty_steps"] == 4
    assert rig.stage.oms.positions[0]["open_bid_qty_steps"] == 0
    assert rig.stage.is_ready()


def test_trades_older_than_the_memory_of_fills_prove_nothing(tmp_path):
    """A restart lists the whole session: of what was forgotten only the position can tell."""
    rig = Rig(tmp_path, fill_count_max=64).bring_up()
    order = rig.open(order_qty_steps=100)
    for k in range(1, 81):
        fill(rig, order, k, 1, k)
        rig.turn()
        trade = {"exec_id": k, "last_qty_steps": 1, "last_px_steps": 1_000, "side": 1}
        rig.trades.append(trade | {"instrument_id": 0})
        rig.trades[-1]["venue_order_id"] = int(rig.row(order)["venue_order_id"])
    rig.gateway(order, E.CANCELED, order_status=S.CANCELED, cum_qty_steps=80)
    rig.turn()
    rig.positions[0] = 79
    rig.crash()
    rig.sockets()
    rig.turn(20 * MS, 100)
    assert not rig.stage.is_ready()
    rig.positions[0] = 80
    rig.turn(20 * MS, 200)
    assert rig.stage.is_ready()
    assert rig.stage.oms.positions[0]["position_steps"] == 80


def test_the_wallet_is_shown(rig):
    rig.others.rest.try_write(report(ReportKind.BALANCE, amount_e8=123))
    rig.turn()
    assert rig.counter(Counter.WALLET_E8) == 123


def test_reports_of_no_round_are_counted_and_dropped(rig):
    rig.others.rest.try_write(report(ReportKind.ACCOUNT_TRADE, request_id=5, **TRADE))
    rig.others.rest.try_write(report(ReportKind.RECONCILE_END, request_id=5))
    rig.others.rest.try_write(report(ReportKind.RESET))
    rig.others.rest.try_write(report(ReportKind.SESSION_UP, source=ReportSource.RISK))
    rig.turn()
    assert rig.counter(Counter.REPORTS_BAD) == 4
    assert rig.stage.is_ready()

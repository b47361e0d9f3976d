"""The stage over private rings, with a scripted strategy, gateway and rest."""

import pytest

from common.enums import (
    ExecType,
    KillSource,
    OrderPending,
    OrderStatus,
    Phase,
    Reject,
    ReportKind,
    ReportSource,
    RequestKind,
    RestKind,
)
from processes.risk.counters import Counter

from tests.processes.risk.rig import MS, SECOND, Rig

E, S, P, K = ExecType, OrderStatus, OrderPending, RequestKind


@pytest.fixture
def rig(tmp_path) -> Rig:
    return Rig(tmp_path).bring_up()


def test_nothing_passes_before_the_account_is_reconciled(tmp_path):
    rig = Rig(tmp_path)
    rig.quote_books()
    rig.new()
    rig.turn()
    assert rig.rejects() == [Reject.NOT_READY]
    rig.write(K.ATTACH)
    rig.turn()
    rig.new()
    rig.turn()
    assert rig.rejects() == [Reject.NOT_READY] * 2
    rig.sockets()
    rig.turn(10 * MS, 20)
    assert rig.told[-1]["kind"] == ReportKind.READY
    rig.quote_books()
    order = rig.new()
    rig.turn()
    assert rig.kinds() == [(K.NEW, order)]
    assert rig.stage.is_ready()


def test_attach_tells_reset_positions_and_ready(tmp_path):
    rig = Rig(tmp_path)
    rig.positions = {0: 5, 1: -3}
    rig.write(K.ATTACH)
    rig.sockets()
    rig.turn(10 * MS, 20)
    kinds = [int(one["kind"]) for one in rig.told]
    assert kinds[-3:] == [ReportKind.POSITION, ReportKind.POSITION, ReportKind.READY]
    assert kinds.count(ReportKind.READY) == 1
    assert ReportKind.RESET in kinds
    assert [int(one["position_steps"]) for one in rig.told[-3:-1]] == [5, -3]
    assert rig.stage.oms.positions["base_position_steps"].tolist() == [5, -3]


def test_an_order_goes_out_with_its_hops_and_comes_back(rig):
    order = rig.new(ts_recv_ns=rig.now_ns - 900, recv_to_book_ns=100, book_to_strategy_ns=200)
    rig.turn(500)
    (request,) = rig.sent
    assert request["client_order_id"] == order
    assert request["strategy_to_risk_ns"] == 500
    assert request["ts_pub_ns"] == rig.now_ns
    rig.gateway(
        order,
        E.NEW,
        order_status=S.NEW,
        venue_order_id=9,
        request_kind=K.NEW,
        ts_recv_ns=int(request["ts_recv_ns"]),
        recv_to_book_ns=100,
        book_to_strategy_ns=200,
        strategy_to_risk_ns=500,
        risk_to_sent_ns=400,
        sent_to_ack_ns=7_000,
    )
    rig.turn()
    (told,) = rig.told
    assert (told["order_status"], told["order_slot"]) == (S.NEW, request["order_slot"])
    counts = rig.stage.oms.histograms[:, :960].sum(axis=1).tolist()
    assert counts == [1, 1, 1, 1, 1, 1]
    assert rig.stage.oms.histograms[5, 960] == 1_200  # recv_to_sent
    assert rig.counter(Counter.ACKS) == rig.counter(Counter.ORDERS_SENT) == 1


def test_a_refused_intent_echoes_slot_and_id(rig):
    order = rig.new(order_qty_steps=5_000, order_slot=13)
    rig.turn()
    (told,) = rig.told
    assert (told["exec_type"], told["order_status"]) == (E.REJECTED, S.REJECTED)
    assert (told["client_order_id"], told["request_client_order_id"]) == (order, order)
    assert (told["order_slot"], told["reject"]) == (13, Reject.ORDER_QTY)
    assert rig.sent == []


def test_the_rows_are_shown_to_readers(rig):
    order = rig.open()
    shown = rig.parts.order_table.rows
    (row,) = shown[shown["client_order_id"] == order]
    assert row["order_status"] == S.NEW
    assert rig.parts.position_table.rows["open_bid_qty_steps"][0] == 10


def test_a_cancel_waits_for_the_acknowledgement(rig):
    """A cancel that overtakes its order leaves it resting for ever (protocol 4.5, 4)."""
    order = rig.new()
    rig.turn()
    rig.cancel(order)
    rig.turn()
    assert rig.kinds() == [(K.NEW, order)]
    rig.ack(order)
    rig.turn()
    assert rig.kinds() == [(K.NEW, order), (K.CANCEL, order)]
    assert rig.sent[1]["venue_order_id"] != 0


def test_a_failed_cancel_is_sent_again_with_a_back_off(rig):
    order = rig.open()
    rig.cancel(order)
    rig.turn()
    gaps, last = [], rig.now_ns
    for _ in range(4):
        count = len(rig.sent)
        rig.gateway(order, E.CANCEL_REJECTED, reject=Reject.VENUE_RATE)
        while len(rig.sent) == count:
            rig.turn(10 * MS)
        gaps.append(rig.now_ns - last)
        last = rig.now_ns
    assert gaps == sorted(gaps)
    assert gaps[0] >= 100 * MS and gaps[-1] >= 800 * MS


def test_replace_of_an_open_order(rig):
    order = rig.open()
    request = rig.replace(order, 1_001, 12)
    rig.turn()
    assert rig.kinds()[-1] == (K.REPLACE, order)
    sent = rig.sent[-1]
    assert (sent["side"], sent["price_steps"], sent["order_qty_steps"]) == (1, 1_001, 12)
    rig.replace(order, 1_002, 12)
    rig.turn()
    assert rig.rejects() == [Reject.IN_FLIGHT]
    rig.told.clear()
    rig.gateway(
        order,
        E.REPLACED,
        order_status=S.NEW,
        price_steps=1_001,
        order_qty_steps=12,
        request_client_order_id=request,
    )
    rig.turn()
    assert rig.told[0]["request_client_order_id"] == request
    assert rig.row(order)["price_steps"] == 1_001


def test_an_unanswered_order_is_asked_for_and_never_sent_again(rig):
    order = rig.new()
    rig.turn()
    rig.turn(10 * MS, 200)
    assert rig.kinds().count((K.NEW, order)) == 1
    queries = [one for one in rig.asked if one["kind"] == RestKind.ORDER_QUERY]
    assert len(queries) >= 2
    assert {int(one["client_order_id"]) for one in queries} == {order}
    assert rig.row(order)["order_pending"] == P.UNKNOWN
    rig.rest(order, order_status=S.NEW, venue_order_id=5, price_steps=1_000, order_qty_steps=10)
    rig.turn()
    row = rig.row(order)
    assert (row["order_status"], row["order_pending"]) == (S.NEW, 0)


def test_not_found_is_believed_only_after_several_answers_over_a_time(rig):
    order = rig.new()
    rig.turn()
    while rig.row(order)["order_pending"] != P.UNKNOWN:
        rig.turn(10 * MS)
    began_ns, answers = rig.now_ns, 0
    while rig.row(order)["order_status"] == S.PENDING_NEW:
        assert rig.now_ns - began_ns < 20 * SECOND
        for query in [one for one in rig.asked if one["kind"] == RestKind.ORDER_QUERY]:
            rig.rest(int(query["client_order_id"]), reject=Reject.VENUE_UNKNOWN_ORDER)
            answers += 1
        rig.asked.clear()
        rig.turn(10 * MS)
    assert rig.row(order)["order_status"] == S.REJECTED
    assert answers >= 3
    assert rig.now_ns - began_ns >= SECOND
    told = [one for one in rig.told if one["order_status"] == S.REJECTED]
    assert told[0]["reject"] == Reject.VENUE_UNKNOWN_ORDER
    assert told[0]["source"] == ReportSource.RISK


def test_not_found_is_not_believed_while_the_request_waits_in_the_ring(rig):
    """What the gateway has not taken yet may still be sent."""
    rig.others.orders.read(100)
    rig.sent.clear()
    order = rig.new()
    rig.now_ns += MS
    rig.stage.do_work(rig.now_ns)
    for _ in range(400):
        rig.now_ns += 10 * MS
        rig.stage.do_work(rig.now_ns)
        rig.rest(order, reject=Reject.VENUE_UNKNOWN_ORDER)
    assert rig.row(order)["missing_count"] > 3
    assert rig.row(order)["order_status"] == S.PENDING_NEW
    rig.take()
    rig.turn(10 * MS, 3)
    assert rig.row(order)["order_status"] == S.REJECTED


def test_a_lost_order_socket_makes_what_is_in_flight_unknown(rig):
    waiting, resting = rig.new(), rig.open()
    rig.turn()
    rig.sockets(False)
    rig.turn()
    assert rig.row(waiting)["order_pending"] & P.UNKNOWN
    assert rig.row(resting)["order_pending"] == P.CANCEL
    assert (K.CANCEL, resting) in rig.kinds()
    assert (K.CANCEL, waiting) in rig.kinds()
    rig.new()
    rig.turn()
    assert Reject.NOT_RECONCILED in rig.rejects()
    rig.gateway(resting, E.CANCELED, order_status=S.CANCELED)
    rig.gateway(waiting, E.CANCELED, order_status=S.CANCELED)
    rig.sockets()
    rig.turn(10 * MS, 20)
    rig.quote_books()
    rig.told.clear()
    order = rig.new()
    rig.turn()
    assert rig.rejects() == []
    assert rig.kinds()[-1] == (K.NEW, order)


def test_an_order_that_was_asked_for_too_often_is_asked_for_again_after_a_round(tmp_path):
    """Rest may have been of no use for minutes while both sockets were up."""
    rig = Rig(tmp_path, query_count_max=3).bring_up()
    order = rig.new()
    rig.turn()
    rig.gateway(order, E.UNKNOWN, request_kind=K.NEW)
    rig.answers = False
    rig.turn(200 * MS, 20)
    asked = [one for one in rig.asked if one["kind"] == RestKind.ORDER_QUERY]
    assert len(asked) == 3 and rig.counter(Counter.ORDERS_STUCK) == 1
    rig.asked.clear()
    rig.answers = True
    rig.turn(200 * MS, 30)
    assert any(one["kind"] == RestKind.ORDER_QUERY for one in rig.asked)


def test_a_dead_gateway_counts_as_lost_sockets(rig):
    order = rig.open()
    rig.peers["gateway"] = -1
    rig.turn(20 * MS)
    assert not rig.stage.sessions.is_connected
    assert rig.row(order)["order_pending"] & P.CANCEL
    rig.peers["gateway"] = -2
    rig.sockets()  # its next start says so itself
    rig.turn(20 * MS)
    rig.peers["gateway"] = 2
    rig.turn(20 * MS)
    assert rig.stage.sessions.is_connected


@pytest.mark.parametrize("process", ["feed", "book", "rest"])
def test_nothing_is_quoted_while_one_that_quoting_needs_is_dead(rig, process):
    order = rig.open()
    rig.peers[process] = -1
    rig.turn(10 * MS)
    assert (K.CANCEL, order) in rig.kinds()
    rig.gateway(order, E.CANCELED, order_status=S.CANCELED)
    rig.turn(10 * MS, 30)
    rig.new()
    rig.turn(10 * MS)
    assert Reject.NOT_RECONCILED in rig.rejects()
    rounds, back_ns = rig.counter(Counter.RECONCILES), rig.now_ns
    rig.peers[process] = 2
    rig.turn(10 * MS, 30)
    assert rig.counter(Counter.RECONCILES) == rounds + 1
    assert back_ns < rig.counter(Counter.RECONCILED_NS) < rig.now_ns
    rig.quote_books()
    order = rig.new()
    rig.turn()
    assert rig.kinds()[-1] == (K.NEW, order)


def test_a_round_that_died_with_rest_is_asked_again_at_once(rig):
    rig.answers = False
    rig.sockets(False)
    rig.sockets()
    rig.turn(10 * MS, 3)
    assert [one["kind"] for one in rig.asked] == [RestKind.RECONCILE]
    rig.asked.clear()
    rig.peers["rest"] = -1
    rig.turn(10 * MS, 3)
    rig.asked.clear()  # taken, and gone with it
    rig.answers = True
    rig.peers["rest"] = 2
    rig.turn(10 * MS, 9)
    assert rig.stage.is_ready()


def test_a_start_beside_a_dead_feed_waits_for_it(tmp_path):
    rig = Rig(tmp_path)
    rig.peers["feed"] = -1
    rig.crash()
    rig.sockets()
    rig.turn(10 * MS, 50)
    assert not rig.stage.is_ready()
    rig.peers["feed"] = 2
    rig.turn(10 * MS, 30)
    assert rig.stage.is_ready()


def test_a_dead_strategy_has_its_orders_canceled(rig):
    order = rig.open()
    rig.peers["strategy"] = -1
    rig.turn(20 * MS)
    assert (K.CANCEL, order) in rig.kinds()
    rig.peers["strategy"] = 2
    rig.new()
    rig.turn()
    assert rig.rejects() == [Reject.NOT_READY]


def test_attach_cancels_and_later_orders_are_of_the_new_start(rig):
    order = rig.open()
    rig.told.clear()
    rig.write(K.ATTACH)
    rig.turn()
    assert (K.CANCEL, order) in rig.kinds()
    kinds = [int(one["kind"]) for one in rig.told]
    assert kinds[0] == ReportKind.RESET
    rig.turn(10 * MS, 2)
    kinds = [int(one["kind"]) for one in rig.told]
    assert kinds[-1] == ReportKind.READY
    assert ReportKind.OPEN_ORDER in kinds
    rig.quote_books()
    newer = rig.new()
    rig.turn()
    assert rig.kinds()[-1] == (K.NEW, newer)


def test_kill_refuses_cancels_and_holds(rig):
    order = rig.open()
    rig.others.kill_page.set(KillSource.COMMAND_LINE)
    rig.new()
    rig.turn()
    assert rig.rejects() == [Reject.KILLED]
    assert rig.kinds()[-1] == (K.CANCEL, order)
    assert rig.sent[-1]["strategy_id"] == 31
    rig.gateway(order, E.CANCELED, order_status=S.CANCELED)
    rig.turn()
    rig.others.kill_page.clear(KillSource.COMMAND_LINE)
    rig.quote_books()
    rig.told.clear()
    rig.new()
    rig.turn()
    assert rig.rejects() == []


def test_stop_cancels_drains_and_compares_every_trade(rig):
    order = rig.open()
    fill = {"exec_id": 4, "last_qty_steps": 3, "last_px_steps": 1_000, "fee_e8": 11}
    rig.gateway(
        order,
        E.TRADE,
        order_status=S.PARTIALLY_FILLED,
        cum_qty_steps=3,
        source=ReportSource.STREAM,
        **fill,
    )
    rig.turn()
    venue_id = int(rig.row(order)["venue_order_id"])
    rig.trades = [fill | {"instrument_id": 0, "side": 1, "venue_order_id": venue_id}]
    rig.positions = {0: 3}
    rig.stage.on_phase(Phase.STOP_ORDERS, rig.now_ns)
    rig.new()
    rig.turn()
    assert rig.rejects() == [Reject.STOPPING]
    assert rig.kinds()[-1] == (K.CANCEL, order)
    assert not rig.stage.is_drained()
    rig.gateway(order, E.CANCELED, order_status=S.CANCELED, cum_qty_steps=3)
    rig.turn(10 * MS, 20)
    assert rig.stage.is_drained()
    position = rig.parts.position_table.rows[0]
    assert (position["venue_trade_count"], position["mismatch_count"]) == (1, 0)
    assert position["venue_position_steps"] == position["position_steps"] == 3
    assert position["ts_venue_position_ns"] > 0


def test_stop_counts_a_trade_that_was_booked_otherwise(rig):
    order = rig.open()
    fill = {"exec_id": 4, "last_qty_steps": 10, "last_px_steps": 1_000}
    more = {"order_status": S.FILLED, "cum_qty_steps": 10}
    rig.gateway(order, E.TRADE, source=ReportSource.STREAM, **more, **fill)
    rig.turn()
    venue_id = int(rig.row(order)["venue_order_id"])
    trade = fill | {"instrument_id": 0, "side": 1, "venue_order_id": venue_id}
    rig.trades = [trade | {"last_px_steps": 1_001}]
    rig.positions = {0: 10}
    rig.stage.on_phase(Phase.STOP_ORDERS, rig.now_ns)
    rig.turn(10 * MS, 20)
    assert rig.parts.position_table.rows["mismatch_count"].tolist() == [1, 0]


def test_a_full_order_ring_refuses_new_orders_and_loses_no_cancel(tmp_path):
    rig = Rig(tmp_path, capacity=8).bring_up()
    orders = [rig.open() for _ in range(4)]
    rig.others.orders.read(100)
    for _ in range(8):
        rig.new()
    rig.now_ns += MS
    rig.stage.do_work(rig.now_ns)
    for order in orders:
        rig.cancel(order)
    rig.now_ns += MS
    rig.stage.do_work(rig.now_ns)
    rig.new()
    rig.turn()
    assert Reject.GATEWAY_FULL in rig.rejects()
    rig.turn(10 * MS, 3)
    assert [kind for kind in rig.kinds() if kind[0] == K.CANCEL] == [(K.CANCEL, o) for o in orders]


def test_reports_are_never_dropped_and_nothing_new_goes_out_meanwhile(tmp_path):
    rig = Rig(tmp_path, capacity=16).bring_up()
    rig.reads = False
    orders = []
    for _ in range(3):
        orders.append(rig.open())
    for k in range(40):
        more = {"order_status": S.PARTIALLY_FILLED, "cum_qty_steps": 0}
        fill = {"exec_id": k + 1, "last_qty_steps": 1, "last_px_steps": 1_000}
        order = orders[k % 3]
        rig.gateway(order, E.TRADE, source=ReportSource.STREAM, **more, **fill)
        rig.turn()
    assert rig.counter(Counter.REPORTS_SPILLED) > 0
    rig.new()
    rig.turn()
    rig.reads = True
    rig.turn(10 * MS, 20)
    fills = [int(one["exec_id"]) for one in rig.told if one["last_qty_steps"]]
    assert fills == list(range(1, 41))
    assert Reject.REPORTS_FULL in rig.rejects()


def test_a_strategy_that_never_reads_is_started_anew(tmp_path):
    rig = Rig(tmp_path, capacity=16, report_spill_max=1_024).bring_up()
    rig.reads = False
    for k in range(1_200):
        rig.new(order_qty_steps=5_000)
        if k % 10 == 0:
            rig.turn()
    assert rig.stage.link.is_lost
    rig.reads = True
    rig.turn(10 * MS, 400)
    kinds = [int(one["kind"]) for one in rig.told]
    assert ReportKind.RESET in kinds and kinds[-1] == ReportKind.READY


def test_a_journal_that_cannot_be_written_stops_new_orders_and_not_cancels(rig, monkeypatch):
    resting = rig.open()

    def no_space(fd, buffers):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.writev", no_space)
    order = rig.new()
    rig.turn()
    assert (K.NEW, order) not in rig.kinds()
    assert Reject.JOURNAL in rig.rejects()
    assert rig.others.kill_page.get(KillSource.RISK) == 1
    rig.turn(10 * MS, 3)
    assert rig.kinds()[-1] == (K.CANCEL, resting)
    assert rig.row(order)["order_status"] == S.REJECTED
    rig.gateway(resting, E.CANCELED, order_status=S.CANCELED)
    rig.turn()
    assert rig.row(resting)["order_status"] == S.CANCELED


def test_every_reject_code_has_its_counter(rig):
    for reject in Reject:
        if 2000 < reject < 3000:
            assert f"REJECT_{reject.name}" in Counter.__members__


def test_idle_turns_do_nothing(rig):
    rig.turn(10 * MS, 5)
    size = rig.stage.journal.size
    assert rig.turn(100) == 0
    assert rig.stage.journal.size == size
    assert rig.stage.next_timer_ns() == 0

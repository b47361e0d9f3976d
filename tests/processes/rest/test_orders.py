"""Fallback orders, and canceling everything when nobody else will."""

import msgspec
import pytest

from common import order_ids
from common.enums import (
    ExecType,
    OrderStatus,
    OrderType,
    Phase,
    Reject,
    RequestKind,
    RestKind,
    Side,
    TimeInForce,
)
from common.messages import OrderRequest
from processes.rest.counters import Counter

MS = 1_000_000
SECOND = 1_000 * MS
OWN_ID = order_ids.pack(1, 2, 3)
OWN = order_ids.to_text(OWN_ID)
NEW = OrderRequest(
    kind=RequestKind.NEW,
    side=Side.ASK,
    order_type=OrderType.LIMIT,
    time_in_force=TimeInForce.GTX,
    instrument_id=0,
    order_slot=6,
    client_order_id=OWN_ID,
    intent_sequence=3,
    price_steps=642_000,
    order_qty_steps=10,
    strategy_id=2,
    ts_pub_ns=10 * SECOND,
)
REPLACE = msgspec.structs.replace(
    NEW, kind=RequestKind.REPLACE, client_order_id=OWN_ID + 1, orig_client_order_id=OWN_ID
)
CANCEL = msgspec.structs.replace(
    NEW, kind=RequestKind.CANCEL, client_order_id=OWN_ID + 2, orig_client_order_id=OWN_ID
)
NAMES = {RequestKind.NEW: "POST order", RequestKind.REPLACE: "PUT order"}
NAMES[RequestKind.CANCEL] = "DELETE order"
ORDER = {
    **{"orderId": 728811004512, "symbol": "BTCUSDT", "status": "NEW", "clientOrderId": OWN},
    **{"price": "64200.00", "origQty": "0.010", "executedQty": "0.000", "cumQty": "0.000"},
    **{"timeInForce": "GTX", "type": "LIMIT", "reduceOnly": False, "side": "SELL"},
    **{"updateTime": 1784212800031},
}


def send(bench, request, outcome, seconds=0.1):
    bench.on(NAMES[RequestKind(request.kind)], outcome)
    bench.order(msgspec.structs.replace(request, ts_pub_ns=bench.now_ns - 7_000))
    bench.run(seconds)
    return bench.reports


def sent(bench):
    return [seen for seen in bench.seen if seen.path == "/fapi/v1/order"]


def test_a_fallback_place_is_written_and_reported(bench):
    (report,) = send(bench, NEW, (200, ORDER))
    (seen,) = sent(bench)
    params = {k: v for k, v in seen.params.items() if k not in ("timestamp", "signature")}
    assert params == {
        "symbol": "BTCUSDT",
        "side": "SELL",
        "type": "LIMIT",
        "timeInForce": "GTX",
        "quantity": "0.010",
        "price": "64200.00",
        "newClientOrderId": OWN,
        "newOrderRespType": "ACK",
        "selfTradePreventionMode": "EXPIRE_TAKER",
        "recvWindow": "5000",
    }
    assert (report.exec_type, report.order_status) == (ExecType.NEW, OrderStatus.NEW)
    assert (report.client_order_id, report.order_slot) == (OWN_ID, 6)
    assert report.venue_order_id == 728811004512
    assert report.sent_to_ack_ns == bench.latency_ns
    assert report.risk_to_sent_ns == 7_000


def test_fallback_changes(bench):
    (replaced,) = send(bench, REPLACE, (200, ORDER | {"price": "64201.00"}))
    assert (replaced.exec_type, replaced.price_steps) == (ExecType.REPLACED, 642_010)
    assert (replaced.client_order_id, replaced.request_client_order_id) == (OWN_ID, OWN_ID + 1)
    bench.reports.clear()
    (canceled,) = send(bench, CANCEL, (200, ORDER | {"status": "CANCELED", "executedQty": "0.004"}))
    assert (canceled.exec_type, canceled.order_status) == (ExecType.CANCELED, OrderStatus.CANCELED)
    assert (canceled.cum_qty_steps, canceled.leaves_qty_steps) == (4, 0)
    assert [seen.method for seen in sent(bench)] == ["PUT", "DELETE"]


UNKNOWN_ANSWERS = [
    (503, {"code": -1000, "msg": "Unknown error, please check your request or try again later."}),
    (503, b"Unknown error, please check your request or try again later."),
    (400, {"code": -1006, "msg": "x"}),
    (408, {"code": -1007, "msg": "Timeout"}),
    (408, b""),
    (502, b"<html>"),
    (504, b"<html>"),
    (400, {"code": -1001, "msg": "Internal error"}),
    (400, {"code": -4116, "msg": "ClientOrderId is duplicated."}),
    (200, b"{not json"),
    (200, ORDER | {"status": "NEXT"}),
    "lost",
]


@pytest.mark.parametrize("request_", [NEW, REPLACE, CANCEL], ids=["new", "replace", "cancel"])
@pytest.mark.parametrize("outcome", UNKNOWN_ANSWERS, ids=str)
def test_an_unclear_answer_is_unknown_and_never_sent_again(bench, request_, outcome):
    (report,) = send(bench, request_, outcome, seconds=12)
    assert report.exec_type == ExecType.UNKNOWN and report.reject == Reject.NONE
    assert len(sent(bench)) == 1


@pytest.mark.parametrize(
    ("outcome", "reject"),
    [
        ((503, b"Service Unavailable."), Reject.VENUE),
        ((503, {"code": -1008, "msg": "overloaded"}), Reject.VENUE_RATE),
        ((400, {"code": -2019, "msg": "Margin is insufficient."}), Reject.VENUE),
        ((400, {"code": -5022, "msg": "Post Only"}), Reject.VENUE_POST_ONLY),
        ((429, {"code": -1003, "msg": "slow"}), Reject.VENUE_RATE),
        ((400, {"code": -1021, "msg": "Timestamp"}), Reject.CLOCK_OFFSET),
        ((401, {"code": -2015, "msg": "key"}), Reject.VENUE_AUTH),
        ("unsent", Reject.GATEWAY_DOWN),
    ],
)
def test_a_clear_refusal_is_a_reject(bench, outcome, reject):
    (report,) = send(bench, NEW, outcome, seconds=8)
    assert (report.exec_type, report.order_status) == (ExecType.REJECTED, OrderStatus.REJECTED)
    assert report.reject == reject
    assert len(sent(bench)) == 1


def test_a_cancel_of_an_order_that_is_gone_is_refused_not_canceled(bench):
    (report,) = send(bench, CANCEL, (400, {"code": -2011, "msg": "Unknown order sent."}))
    assert (report.exec_type, report.order_status) == (ExecType.CANCEL_REJECTED, 0)
    assert (report.reject, report.venue_code) == (Reject.VENUE_UNKNOWN_ORDER, -2011)


@pytest.mark.parametrize("request_", [NEW, REPLACE])
def test_killed_means_not_sent_but_cancels_go(bench, request_):
    bench.protocol.on_kill_page(True)
    (report,) = send(bench, request_, (200, ORDER))
    assert report.reject == Reject.KILLED and not sent(bench)
    bench.reports.clear()
    (report,) = send(bench, CANCEL, (200, ORDER | {"status": "CANCELED"}))
    assert report.exec_type == ExecType.CANCELED


def test_a_kill_between_queue_and_wire_stops_the_order(bench):
    bench.desk.now_ns = bench.now_ns
    bench.order(msgspec.structs.replace(NEW, ts_pub_ns=bench.now_ns))
    bench.protocol.on_kill_page(True)
    bench.run(0.1)
    (report,) = bench.reports
    assert report.reject == Reject.KILLED and not sent(bench)


def test_a_stop_between_queue_and_wire_stops_the_order(bench):
    bench.desk.now_ns = bench.now_ns
    bench.order(msgspec.structs.replace(NEW, ts_pub_ns=bench.now_ns))
    bench.phase(Phase.STOP_ORDERS)
    bench.run(0.1)
    (report,) = bench.reports
    assert report.reject == Reject.STOPPING and not sent(bench)


def test_no_order_without_a_good_clock_or_while_stopping(bench, new_bench):
    bench.phase(Phase.STOP_ORDERS)
    assert send(bench, NEW, (200, ORDER))[0].reject == Reject.STOPPING
    skewed = new_bench()
    skewed.venue_offset_ns = 501 * MS
    skewed.run(0.1)
    assert send(skewed, NEW, (200, ORDER))[0].reject == Reject.CLOCK_OFFSET
    blind = new_bench()
    blind.on("GET time", "lost")
    blind.run(0.1)
    assert send(blind, NEW, (200, ORDER))[0].reject == Reject.CLOCK_OFFSET
    assert not sent(bench) and not sent(skewed) and not sent(blind)


def test_an_order_found_after_a_long_death_is_not_sent(bench):
    bench.on("POST order", (200, ORDER))
    bench.order(msgspec.structs.replace(NEW, ts_pub_ns=bench.now_ns - SECOND - 1))
    bench.run(0.1)
    (report,) = bench.reports
    assert report.reject == Reject.GATEWAY_DOWN and not sent(bench)


def test_an_order_that_waited_too_long_is_not_sent(new_bench):
    bench = new_bench(requests_max=1).start()
    bench.on("GET depth", "lost")
    bench.request(RestKind.SNAPSHOT, instrument_id=0, request_id=1)
    bench.run(0.01)
    (report,) = send(bench, NEW, (200, ORDER), seconds=8)
    assert report.reject == Reject.GATEWAY_DOWN and not sent(bench)
    assert bench.count(Counter.ORDERS_REFUSED) == 1


@pytest.mark.parametrize(
    "values", [{"instrument_id": 9}, {"side": 0}, {"order_qty_steps": 0}, {"kind": 0}]
)
def test_an_impossible_record_is_refused(bench, values):
    bench.order(msgspec.structs.replace(NEW, **values))
    bench.run(0.1)
    assert bench.count(Counter.REQUESTS_BAD) == 1 and not sent(bench)
    assert [report.reject for report in bench.reports] in ([], [Reject.BAD_REQUEST])


def cancel_alls(bench):
    return [seen.params["symbol"] for seen in bench.seen if seen.name == "DELETE allOpenOrders"]


def test_cancel_all_goes_per_symbol_and_is_repeated_until_done(bench):
    answers = iter([(503, b"Service Unavailable."), "lost"])
    bench.on("DELETE allOpenOrders", lambda r: next(answers, (200, {"code": 200, "msg": "done"})))
    bench.order(OrderRequest(kind=RequestKind.CANCEL_ALL, instrument_id=-1))
    bench.run(12, step_ms=5)
    assert sorted(cancel_alls(bench)) == ["BTCUSDT", "BTCUSDT", "ETHUSDT", "ETHUSDT"]
    bench.seen.clear()
    bench.request(RestKind.CANCEL_ALL, instrument_id=1)
    bench.run(0.1)
    assert cancel_alls(bench) == ["ETHUSDT"]
    assert bench.count(Counter.CANCEL_ALLS) == 3
    bench.order(OrderRequest(kind=RequestKind.CANCEL_ALL, instrument_id=5))
    assert bench.count(Counter.REQUESTS_BAD) == 1


@pytest.mark.parametrize("why", ["killed", "gateway"])
def test_an_emergency_cancels_all_until_nothing_is_open(bench, why):
    """The venue keeps an order that lands late; it is found and canceled too."""
    emergency = bench.protocol.on_kill_page if why == "killed" else bench.protocol.on_gateway
    open_orders = {"BTCUSDT": [{"status": "NEW", "symbol": "BTCUSDT"}], "ETHUSDT": []}
    bench.on("GET openOrders", lambda r: (200, open_orders[r.params["symbol"]]))

    def cancel(request):
        open_orders[request.params["symbol"]] = []
        return 200, {"code": 200, "msg": "done"}

    bench.on("DELETE allOpenOrders", cancel)
    emergency(True)
    start_ns = bench.now_ns
    bench.run(0.05)
    first = [seen for seen in bench.seen if seen.name == "DELETE allOpenOrders"]
    assert {seen.params["symbol"] for seen in first} == {"BTCUSDT", "ETHUSDT"}
    assert all(seen.now_ns - start_ns <= MS for seen in first)
    bench.run(3, step_ms=5)
    assert len(cancel_alls(bench)) == 2
    open_orders["BTCUSDT"] = [{"status": "NEW", "symbol": "BTCUSDT"}]
    bench.run(8, step_ms=5)
    assert cancel_alls(bench).count("BTCUSDT") == 2 and not open_orders["BTCUSDT"]
    assert bench.count(Counter.EMERGENCIES) == 1
    emergency(False)
    bench.run(12, step_ms=5)
    bench.seen.clear()
    bench.run(12, step_ms=5)
    assert "GET openOrders" not in bench.names() and not cancel_alls(bench)
    emergency(True)
    bench.run(0.05)
    assert len(cancel_alls(bench)) == 2 and bench.count(Counter.EMERGENCIES) == 2


@pytest.mark.parametrize("failure", ["lost", "unsent", (503, b"x"), (500, b""), (200, b"[")])
def test_an_emergency_goes_on_through_failures(bench, failure):
    bench.on("DELETE allOpenOrders", failure if failure != (200, b"[") else (200, {"code": 200}))
    bench.on("GET openOrders", failure)
    bench.protocol.on_gateway(True)
    bench.run(20, step_ms=5)
    assert cancel_alls(bench).count("BTCUSDT") >= 4
    bench.on("DELETE allOpenOrders", (200, {"code": 200, "msg": "done"}))
    bench.on("GET openOrders", (200, []))
    bench.protocol.on_gateway(False)
    bench.run(12, step_ms=5)
    assert not bench.protocol.guard.sweeping


def test_a_short_emergency_is_swept_to_its_end(bench):
    bench.protocol.on_gateway(True)
    bench.run(0.002)
    bench.protocol.on_gateway(False)
    bench.run(2)
    assert len(cancel_alls(bench)) == 2
    assert bench.names().count("GET openOrders") == 4  # two empty looks each


def test_an_emergency_goes_before_everything_and_through_a_rate_limit(new_bench):
    bench = new_bench(requests_max=1, attempts_max=1).start()
    bench.on("GET depth", (429, {"code": -1003, "msg": "slow"}))
    bench.request(RestKind.SNAPSHOT, instrument_id=0, request_id=1)
    bench.run(0.01)
    bench.on("GET depth", "lost")
    bench.protocol.on_kill_page(True)
    bench.run(0.1)
    assert len(cancel_alls(bench)) == 2


def test_a_ban_holds_even_an_emergency_back(bench):
    bench.on("GET depth", (418, {"code": -1003, "msg": "banned"}, {"retry-after": "3"}))
    bench.request(RestKind.SNAPSHOT, instrument_id=0, request_id=1)
    bench.run(0.01)
    bench.seen.clear()
    bench.protocol.on_kill_page(True)
    bench.run(2.9, step_ms=5)
    assert bench.seen == []
    bench.run(0.3)
    assert len(cancel_alls(bench)) == 2


@pytest.mark.parametrize("failure", ["lost", "unsent"])
@pytest.mark.parametrize("why", ["killed", "dead"])
def test_an_emergency_while_still_connecting_goes_out_once_there_is_a_connection(
    new_bench, failure, why, capfd
):
    """Nothing has been answered yet: no clock, no listenKey, no timer; the cancels go first."""
    bench = new_bench()
    good = dict(bench.handlers)
    for name in good:
        bench.on(name, failure)
    emergency = bench.protocol.on_kill_page if why == "killed" else bench.protocol.on_gateway
    emergency(True)
    bench.run(30, step_ms=5)
    tried = cancel_alls(bench)
    assert 5 <= tried.count("BTCUSDT") == tried.count("ETHUSDT") <= 32
    assert bench.count(Counter.CANCEL_ALLS) == 0
    assert bench.count(Counter.CANCEL_ALLS_FAILED) >= len(tried) - 2
    told = capfd.readouterr().err.count("cancel_all_failed")
    assert 4 <= told <= 2 * 6  # the 1st, 2nd, 4th, 8th, ... of each symbol
    bench.handlers |= good
    bench.seen.clear()
    bench.run(6.2 if failure == "lost" else 1.1, step_ms=5)
    assert {"BTCUSDT", "ETHUSDT"} == set(cancel_alls(bench))
    assert bench.count(Counter.CANCEL_ALLS) == 2


def test_a_stop_without_a_connection_asks_again_at_a_bounded_rate(new_bench):
    """It is the supervisor's deadline that ends it; the dead-man timers are left to fire."""
    bench = new_bench()
    for name in list(bench.handlers):
        bench.on(name, "unsent")
    bench.protocol.on_kill_page(True)
    bench.run(1, step_ms=5)
    bench.phase(Phase.STOP_ORDERS)
    bench.seen.clear()
    bench.run(20, step_ms=5)
    assert not bench.protocol.is_drained()
    assert len(bench.seen) < 20 * 40  # the venue's limit is as much a second, of weight 1

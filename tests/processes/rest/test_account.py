"""Order queries and reconciliation rounds against canned and generated accounts."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common import binance, order_ids
from common.enums import (
    ExecType,
    LiquiditySide,
    OrderStatus,
    OrderType,
    Reject,
    ReportKind,
    ReportSource,
    RestKind,
    Side,
    TimeInForce,
)
from common.messages import Report
from processes.rest import account
from processes.rest.counters import Counter

MS = 1_000_000
DAY_MS = 86_400_000
OWN_ID = order_ids.pack(1, 2, 3)
OWN = order_ids.to_text(OWN_ID)
# The documented shapes.
ORDER = {
    **{"avgPrice": "64200.00000", "clientOrderId": OWN, "cumQuote": "256.80000"},
    **{"executedQty": "0.004", "orderId": 728811004512, "origQty": "0.010", "origType": "LIMIT"},
    **{"price": "64200.00", "reduceOnly": False, "side": "BUY", "positionSide": "BOTH"},
    **{"status": "PARTIALLY_FILLED", "stopPrice": "0", "closePosition": False},
    **{"symbol": "BTCUSDT", "time": 1784212800031, "timeInForce": "GTX", "type": "LIMIT"},
    **{"updateTime": 1784212803110, "workingType": "CONTRACT_PRICE", "priceProtect": False},
    **{"priceMatch": "NONE", "selfTradePreventionMode": "EXPIRE_TAKER", "goodTillDate": 0},
}
TRADE = {
    **{"symbol": "BTCUSDT", "id": 5512340091, "orderId": 728811004512, "side": "BUY"},
    **{"price": "64200.00", "qty": "0.004", "realizedPnl": "0", "quoteQty": "256.80000"},
    **{"commission": "0.05136000", "commissionAsset": "USDT", "time": 1784212803108},
    **{"positionSide": "BOTH", "maker": True, "buyer": True},
}
POSITION = {
    **{"symbol": "BTCUSDT", "positionSide": "BOTH", "positionAmt": "0.004"},
    **{"entryPrice": "64200.0", "breakEvenPrice": "64212.84", "markPrice": "64208.31000000"},
    **{"unRealizedProfit": "0.03324000", "liquidationPrice": "0", "isolatedMargin": "0"},
    **{"notional": "256.83324000", "marginAsset": "USDT", "adl": 1, "updateTime": 1784212803110},
}
BALANCE = {
    **{"accountAlias": "SgsR", "asset": "USDT", "balance": "10000.12345678"},
    **{"crossWalletBalance": "10000.12345678", "updateTime": 1784212803110},
}


def answer_all(bench, orders=(), trades=(), positions=(), balances=()):
    """Let the venue have one account."""
    trades = sorted(trades, key=lambda trade: trade["id"])

    def user_trades(request):
        page = [trade for trade in trades if trade["symbol"] == request.params["symbol"]]
        if "fromId" in request.params:
            assert "startTime" not in request.params and "endTime" not in request.params
            page = [trade for trade in page if trade["id"] >= int(request.params["fromId"])]
        else:
            start, end = int(request.params["startTime"]), int(request.params["endTime"])
            assert 0 < end - start < 7 * DAY_MS
            page = [trade for trade in page if start <= trade["time"] <= end]
        return 200, page[: int(request.params["limit"])]

    bench.on(
        "GET openOrders",
        lambda r: (200, [o for o in orders if o["symbol"] == r.params.get("symbol", o["symbol"])]),
    )
    bench.on("GET userTrades", user_trades)
    bench.on("GET positionRisk", lambda r: (200, list(positions)))
    bench.on("GET balance", lambda r: (200, list(balances)))


def reconcile(bench, seconds=1.0, **values):
    values = {"instrument_id": -1, "request_id": 77} | values
    bench.request(RestKind.RECONCILE, **values)
    bench.run(seconds)
    return bench.reports


def no_recv(report):
    report.ts_report_recv_ns = 0
    return report


# --- one order ---------------------------------------------------------------------------------


def query(bench, **values):
    values = {"instrument_id": 0, "request_id": 5, "client_order_id": OWN_ID} | values
    bench.request(RestKind.ORDER_QUERY, **values)
    bench.run(0.1)


def test_a_found_order_is_reported_field_by_field(bench):
    bench.on("GET order", (200, ORDER))
    query(bench)
    seen = bench.seen[-1]
    assert seen.params["origClientOrderId"] == OWN and seen.params["symbol"] == "BTCUSDT"
    assert "orderId" not in seen.params
    (report,) = bench.reports
    assert report.ts_report_recv_ns > 0
    assert no_recv(report) == Report(
        kind=ReportKind.EXECUTION,
        exec_type=ExecType.STATUS,
        order_status=OrderStatus.PARTIALLY_FILLED,
        side=Side.BID,
        source=ReportSource.QUERY,
        strategy_id=2,
        instrument_id=0,
        client_order_id=OWN_ID,
        venue_order_id=728811004512,
        price_steps=642_000,
        order_qty_steps=10,
        cum_qty_steps=4,
        leaves_qty_steps=6,
        order_type=OrderType.LIMIT,
        time_in_force=TimeInForce.GTX,
        ts_exch_ns=1784212803110 * MS,
        request_id=5,
    )


def test_an_order_that_is_not_found_is_status_zero(bench):
    bench.on("GET order", (400, {"code": -2013, "msg": "Order does not exist."}))
    query(bench)
    (report,) = bench.reports
    assert (report.exec_type, report.order_status) == (ExecType.STATUS, 0)
    assert (report.reject, report.venue_code) == (Reject.VENUE_UNKNOWN_ORDER, -2013)
    assert (report.client_order_id, report.request_id) == (OWN_ID, 5)


@pytest.mark.parametrize(
    "failure",
    ["lost", "unsent", (503, b"Unknown error"), (200, b"{"), (200, ORDER | {"price": "1.05"})],
)
def test_a_query_without_an_answer_leaves_the_order_unknown(new_bench, failure):
    bench = new_bench(attempts_max=2).start()
    bench.on("GET order", failure)
    query(bench)
    bench.run(12, step_ms=5)
    (report,) = bench.reports
    assert report.exec_type == ExecType.UNKNOWN and report.request_id == 5
    assert report.order_status == 0 and report.reject == 0


def test_a_foreign_order_is_asked_for_by_the_venues_id(bench):
    bench.on("GET order", (200, ORDER | {"clientOrderId": "web_1"}))
    query(bench, client_order_id=0, venue_order_id=728811004512)
    assert bench.seen[-1].params["orderId"] == "728811004512"
    assert bench.reports[0].strategy_id == binance.NOT_OURS


def test_a_later_attempt_waits_longer(bench):
    bench.on("GET order", (200, ORDER))
    asked_ns = []
    for attempt in (0, 1, 3, 30):
        bench.seen.clear()
        start_ns = bench.now_ns
        query(bench, attempt=attempt)
        bench.run(3)
        (seen,) = [seen for seen in bench.seen if seen.name == "GET order"]
        asked_ns.append(seen.now_ns - start_ns)
    assert asked_ns == [0, 200 * MS, 800 * MS, 2_000 * MS]


@pytest.mark.parametrize(
    "values",
    [
        {"instrument_id": 2},
        {"instrument_id": -1},
        {"instrument_id": -7},
        {"client_order_id": 0, "venue_order_id": 0},
        {"client_order_id": -4},
    ],
)
def test_an_impossible_query_is_counted(bench, values):
    query(bench, **values)
    assert bench.count(Counter.REQUESTS_BAD) == 1 and bench.reports == []


# --- a round -----------------------------------------------------------------------------------


def test_a_round_tells_everything_in_order(bench):
    foreign = ORDER | {"clientOrderId": "web_1", "orderId": 9, "symbol": "ETHUSDT"}
    answer_all(
        bench,
        orders=[ORDER, foreign],
        trades=[TRADE],
        positions=[POSITION, POSITION | {"symbol": "XRPUSDT"}],
        balances=[BALANCE | {"asset": "BNB"}, BALANCE],
    )
    reports = reconcile(bench, ts_session_ns=1784212800000 * MS)
    kinds = [ReportKind(report.kind) for report in reports]
    assert kinds == [
        ReportKind.RECONCILE_BEGIN,
        ReportKind.OPEN_ORDER,
        ReportKind.OPEN_ORDER,
        ReportKind.ACCOUNT_TRADE,
        ReportKind.POSITION,
        ReportKind.POSITION,
        ReportKind.BALANCE,
        ReportKind.RECONCILE_END,
    ]
    assert {report.request_id for report in reports} == {77}
    own, other = reports[1:3]
    assert (own.client_order_id, own.strategy_id, own.instrument_id) == (OWN_ID, 2, 0)
    assert (own.cum_qty_steps, own.leaves_qty_steps, own.venue_order_id) == (4, 6, 728811004512)
    assert (other.client_order_id, other.strategy_id) == (0, binance.NOT_OURS)
    assert (other.instrument_id, other.venue_order_id) == (1, 9)
    assert no_recv(reports[3]) == Report(
        kind=ReportKind.ACCOUNT_TRADE,
        exec_type=ExecType.TRADE,
        side=Side.BID,
        liquidity_side=LiquiditySide.MAKER,
        source=ReportSource.QUERY,
        instrument_id=0,
        venue_order_id=728811004512,
        exec_id=5512340091,
        last_qty_steps=4,
        last_px_steps=642_000,
        fee_e8=5_136_000,
        ts_exch_ns=1784212803108 * MS,
        request_id=77,
    )
    held, flat = reports[4:6]
    assert (held.instrument_id, held.position_steps, held.amount_e8) == (0, 4, 64200 * 10**8)
    assert held.ts_exch_ns == 1784212803110 * MS
    assert (flat.instrument_id, flat.position_steps) == (1, 0)
    assert reports[6].amount_e8 == 1_000_012_345_678
    assert reports[7].reject == Reject.NONE
    assert bench.count(Counter.RECONCILES) == 1 and bench.count(Counter.ACCOUNT_TRADES) == 1


def test_a_round_of_one_symbol_asks_for_that_symbol_from_that_trade(bench):
    answer_all(bench, trades=[TRADE | {"id": 5}, TRADE | {"id": 9}, TRADE | {"id": 11}])
    reports = reconcile(bench, instrument_id=0, trade_id_from=9, ts_session_ns=1)
    trades = [report.exec_id for report in reports if report.kind == ReportKind.ACCOUNT_TRADE]
    assert trades == [9, 11]
    assert {seen.params.get("symbol", "") for seen in bench.seen} <= {"BTCUSDT", ""}
    positions = [report for report in reports if report.kind == ReportKind.POSITION]
    assert [report.instrument_id for report in positions] == [0]


def test_many_symbols_are_asked_for_open_orders_at_once(bench):
    answer_all(bench, orders=[ORDER])
    desk = bench.desk
    round_ = account.Reconcile(desk, desk.instruments * 21, 1, 0, 0)
    first = round_.open_orders()
    call = next(first)
    assert call.params == {} and call.weight == 40


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    gaps_ms=st.lists(st.sampled_from([0, 1, DAY_MS, 8 * DAY_MS, 20 * DAY_MS]), max_size=9),
    session_days=st.integers(0, 60),
    page=st.integers(1, 4),
)
def test_every_trade_since_the_session_began_is_told_once(new_bench, gaps_ms, session_days, page):
    """Any history, any page size, any age of the session: nothing missing, nothing twice."""
    bench = new_bench().start()
    now_ms = bench.venue_ms()
    times, at_ms = [], now_ms
    for gap_ms in gaps_ms:
        at_ms -= gap_ms
        times.insert(0, at_ms)
    trades = [TRADE | {"id": 10 + 3 * i, "time": t} for i, t in enumerate(times)]
    answer_all(bench, trades=trades)
    session_ms = now_ms - session_days * DAY_MS
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(account, "TRADES_PER_PAGE", page)
        reports = reconcile(bench, ts_session_ns=session_ms * MS)
    assert reports[-1].kind == ReportKind.RECONCILE_END and reports[-1].reject == 0
    told = [report.exec_id for report in reports if report.kind == ReportKind.ACCOUNT_TRADE]
    assert told == [trade["id"] for trade in trades if trade["time"] >= session_ms]


def test_a_fee_in_another_asset_is_counted_not_converted(bench):
    answer_all(bench, trades=[TRADE | {"commissionAsset": "BNB", "commission": "0.0001"}])
    reports = reconcile(bench, ts_session_ns=1784212800000 * MS)
    assert reports[1].kind == ReportKind.ACCOUNT_TRADE and reports[1].fee_e8 == 0
    assert bench.count(Counter.FOREIGN_FEES) == 1


@pytest.mark.parametrize("name", ["GET openOrders", "GET userTrades", "GET positionRisk"])
@pytest.mark.parametrize(
    ("failure", "reject"),
    [
        ((401, {"code": -2015, "msg": "no"}), Reject.VENUE_AUTH),
        ((400, {"code": -1121, "msg": "Invalid symbol."}), Reject.VENUE),
        ((200, b"{broken"), Reject.VENUE),
        ("lost", Reject.GATEWAY_DOWN),
        ((504, b"<html>"), Reject.GATEWAY_DOWN),
        ((429, {"code": -1003, "msg": "slow"}), Reject.VENUE_RATE),
    ],
)
def test_a_round_that_fails_says_so_at_its_end(new_bench, name, failure, reject):
    bench = new_bench(attempts_max=2).start()
    answer_all(bench)
    bench.on(name, failure)
    reports = reconcile(bench, seconds=0.2)
    bench.run(15, step_ms=5)
    assert reports[0].kind == ReportKind.RECONCILE_BEGIN
    assert reports[-1].kind == ReportKind.RECONCILE_END and reports[-1].reject == reject
    assert bench.count(Counter.RECONCILES_FAILED) == 1
    assert sum(report.kind == ReportKind.RECONCILE_END for report in reports) == 1


def test_hedge_mode_fails_the_round(bench):
    answer_all(bench, positions=[POSITION | {"positionSide": "LONG"}])
    assert reconcile(bench)[-1].reject == Reject.VENUE


def test_an_off_grid_order_fails_the_round(bench):
    answer_all(bench, orders=[ORDER | {"price": "64200.05"}])
    reports = reconcile(bench)
    assert reports[-1].kind == ReportKind.RECONCILE_END and reports[-1].reject == Reject.VENUE


def test_a_failure_in_between_is_asked_again(bench):
    answer_all(bench, balances=[BALANCE])
    answers = iter(["lost", (503, b"Service Unavailable."), (200, [POSITION])])
    bench.on("GET positionRisk", lambda r: next(answers))
    reconcile(bench, seconds=10)
    assert bench.reports[-1].reject == Reject.NONE


def test_a_newer_round_ends_an_older_one_and_the_same_one_goes_on(bench):
    answer_all(bench)
    bench.latency_ns = 100 * MS
    reconcile(bench, seconds=0.05, request_id=1)
    reconcile(bench, seconds=0.05, request_id=1)
    assert bench.names().count("GET openOrders") == 1
    reconcile(bench, seconds=3, request_id=2)
    ends = {r.request_id: r.reject for r in bench.reports if r.kind == ReportKind.RECONCILE_END}
    assert ends == {1: Reject.NOT_RECONCILED, 2: Reject.NONE}
    assert len(bench.protocol.rounds) <= 2


def test_more_pages_than_allowed_fail_the_round(new_bench):
    bench = new_bench(pages_max=2).start()
    trades = [TRADE | {"id": i} for i in range(2500)]
    answer_all(bench, trades=trades)
    assert reconcile(bench, ts_session_ns=1784212800000 * MS)[-1].reject == Reject.VENUE

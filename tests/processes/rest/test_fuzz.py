"""Whatever a venue or proxy answers, a round ends, reports fit their records, nothing is raised."""

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.enums import ReportKind, RestKind

ORDER = {"symbol": "BTCUSDT", "status": "NEW", "orderId": 5, "clientOrderId": "tr1"}
ORDER |= {"price": "64200.00", "origQty": "0.010", "executedQty": "0.004", "side": "BUY"}
TRADE = {"symbol": "BTCUSDT", "id": 5, "orderId": 6, "side": "BUY", "price": "64200.00"}
TRADE |= {"qty": "0.004", "commission": "0.05", "commissionAsset": "USDT", "time": 1784212800000}
POSITION = {"symbol": "BTCUSDT", "positionAmt": "-0.004", "entryPrice": "64200.0"}
BALANCE = {"asset": "USDT", "balance": "10000.12345678"}
BODIES = {
    "GET openOrders": [ORDER],
    "GET userTrades": [TRADE],
    "GET positionRisk": [POSITION],
    "GET balance": [BALANCE],
    "GET time": {"serverTime": 1784212810000},
    "POST listenKey": {"listenKey": "abc"},
    "GET order": ORDER,
    "POST countdownCancelAll": {"countdownTime": "30000"},
}
STRANGE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.sampled_from(["", "-", "nan", "1e9", "-0", "9" * 40, "0." + "1" * 30, "٣", "NEXT"]),
    st.lists(st.integers(), max_size=2),
)


@st.composite
def bodies(draw):
    """All answers, one of them with a field replaced or its bytes damaged."""
    name = draw(st.sampled_from(sorted(BODIES)))
    body = json.loads(json.dumps(BODIES[name]))
    if draw(st.booleans()):
        target = body[0] if isinstance(body, list) else body
        target[draw(st.sampled_from(sorted(target)))] = draw(STRANGE)
        raw = json.dumps(body).encode()
    else:
        raw = bytearray(json.dumps(body).encode())
        at = draw(st.integers(0, len(raw)))
        raw[at : at + draw(st.integers(0, 9))] = draw(st.binary(max_size=5))
    # Asked again and again, "too many requests" rightly holds everything back for minutes.
    statuses = [200, 200, 200, 400, 503] + [429] * (name in ("GET openOrders", "GET order"))
    return name, (draw(st.sampled_from(statuses)), bytes(raw))


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(damage=bodies())
def test_any_answer_is_survived(new_bench, damage):
    bench = new_bench(attempts_max=2, clock_samples=1)
    for name, body in BODIES.items():
        if name != "GET time":
            bench.on(name, (200, json.dumps(body).encode()))
    bench.on(*damage)
    bench.run(0.1)
    bench.request(RestKind.RECONCILE, instrument_id=0, request_id=1, ts_session_ns=1)
    bench.request(RestKind.ORDER_QUERY, instrument_id=0, request_id=2, client_order_id=1)
    bench.run(10, step_ms=10)
    ends = [report for report in bench.reports if report.kind == ReportKind.RECONCILE_END]
    assert len(ends) == 1
    assert sum(report.request_id == 2 for report in bench.reports) == 1
    for report in bench.reports:
        assert len(report.pack()) == 256

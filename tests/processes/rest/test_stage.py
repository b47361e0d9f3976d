"""The stage over anonymous rings: records in, records out, nothing lost when a ring is full."""

import numpy as np
import pytest

from common import order_ids
from common.enums import (
    ExecType,
    MarketKind,
    Phase,
    Reject,
    ReportKind,
    RequestKind,
    RestKind,
    SessionKind,
)
from common.messages import OrderRequest, read_reports, requests_array
from common.records import DEPTH, FLAG_LAST, REST_REQUEST
from processes.rest.counters import HISTOGRAMS, LABELS, Counter
from processes.rest.stage import RestStage, Rings
from processes.rest.watch import GatewayWatch
from shm.counters import anonymous_counters, summarize
from shm.latch import anonymous_latch
from shm.ring import MARKET, anonymous_ring

MS = 1_000_000
SECOND = 1_000 * MS
DEPTH_BODY = (
    b'{"lastUpdateId":9182730410120,"E":1784212800060,"T":1784212800049,'
    b'"bids":[["64210.10","2.900"],["64209.80","0.410"]],'
    b'"asks":[["64210.20","2.015"],["64211.00","0.250"]]}'
)
CANCEL = OrderRequest(
    kind=RequestKind.CANCEL, instrument_id=0, orig_client_order_id=order_ids.pack(1, 0, 0)
)


class FakeHttp:
    """Answers by the bench's handlers, `latency_ns` later."""

    fds_version = 0

    def __init__(self, bench, seen_type):
        self.bench, self.seen_type = bench, seen_type
        self.flying = []
        self.is_closed = False

    def start(self, number, wire):
        seen = self.seen_type(self.bench.now_ns, wire)
        self.bench.seen.append(seen)
        outcome = self.bench.handlers.get(seen.name, lambda r: (404, {}))(seen)
        self.flying.append((self.bench.now_ns, number, outcome))

    def poll(self):
        bench = self.bench
        due = [f for f in self.flying if f[0] + bench.latency_ns <= bench.now_ns]
        self.flying = [f for f in self.flying if f not in due]
        return [(number, bench.answer(outcome, sent_ns)) for sent_ns, number, outcome in due]

    def fds(self):
        return []

    def next_timer_ns(self):
        return 0

    def close(self):
        self.is_closed = True


class Source:
    """The gateway's status page."""

    def __init__(self):
        self.status = None

    def read(self):
        return self.status

    def close(self):
        pass


class Clock:
    """The bench's virtual time."""

    def __init__(self, bench):
        self.bench = bench

    def now_ns(self):
        return self.bench.now_ns

    def now_wall_ns(self):
        return self.bench.now_wall_ns()


class Rig:
    """A stage, the other ends of its rings, and virtual time."""

    def __init__(self, bench, report_capacity=64, snapshot_capacity=64, session_capacity=16):
        seen_type = bench.seen_type
        self.bench = bench
        self.book_requests, book_in = anonymous_ring("REST_REQUEST", 16)
        self.risk_requests, risk_in = anonymous_ring("REST_REQUEST", 16)
        self.orders, orders_in = anonymous_ring("ORDER_REQUEST", 16)
        reports_out, self.reports = anonymous_ring("REPORT", report_capacity)
        snapshots_out, self.snapshots = anonymous_ring(MARKET, snapshot_capacity)
        sessions_out, self.sessions = anonymous_ring("SESSION", session_capacity)
        self.counters = anonymous_counters(LABELS, HISTOGRAMS)
        bench.protocol.desk.values = self.counters.values
        bench.protocol.desk.scheduler.values = self.counters.values
        self.kill = anonymous_latch()
        self.source = Source()
        self.http = FakeHttp(bench, seen_type)
        self.stage = RestStage(
            bench.protocol,
            Rings(book_in, risk_in, orders_in, reports_out, snapshots_out, sessions_out),
            self.http,
            bench.credentials,
            self.counters,
            self.kill.words,
            GatewayWatch(self.source, 2 * SECOND),
            Clock(bench),
        )

    def run(self, seconds, step_ms=1):
        bench = self.bench
        end_ns = bench.now_ns + int(seconds * SECOND)
        while bench.now_ns < end_ns:
            self.stage.do_work(bench.now_ns)
            bench.now_ns += step_ms * MS
        return self

    def ask(self, ring, kind, **values):
        record = np.zeros(1, REST_REQUEST)
        record["kind"] = kind
        for name, value in values.items():
            record[name] = value
        assert ring.try_write(record)

    def read_reports(self):
        return read_reports(self.reports.read(1000))

    def read_depth(self):
        return self.snapshots.read(1000).reshape(-1).view(DEPTH)

    def count(self, counter):
        return int(self.counters.values[counter])


@pytest.fixture
def rig(new_bench):
    rig = Rig(new_bench()).run(0.1)
    rig.bench.seen.clear()
    return rig


def test_the_session_reaches_the_gateway(new_bench):
    rig = Rig(new_bench())
    assert not rig.stage.is_ready()
    rig.run(0.1)
    assert rig.stage.is_ready()
    records = rig.sessions.read(100)
    assert set(records["kind"]) == {SessionKind.LISTEN_KEY, SessionKind.CLOCK_OFFSET}
    assert (records["ts_pub_ns"] > 0).all()
    assert summarize(rig.counters.histograms[0])["count"] >= 6


def test_a_snapshot_becomes_market_messages(rig):
    rig.bench.on("GET depth", (200, DEPTH_BODY))
    rig.ask(rig.book_requests, RestKind.SNAPSHOT, instrument_id=0, request_id=31)
    rig.run(0.1)
    begin, *_levels, end = rig.read_depth()
    assert begin["kind"] == MarketKind.SNAPSHOT_BEGIN and begin["slot_count"] == 3
    assert (begin["bid_count"], begin["ask_count"]) == (2, 2)
    assert (begin["first_update_id"], begin["last_update_id"]) == (31, 9182730410120)
    assert end["kind"] == MarketKind.SNAPSHOT_END and end["flags"] == FLAG_LAST
    assert rig.count(Counter.SNAPSHOTS) == 1


@pytest.mark.parametrize(
    "answer",
    [(400, {"code": -1121, "msg": "no"}), (200, b"{}"), (200, DEPTH_BODY.replace(b".10", b".105"))],
)
def test_a_snapshot_that_failed_is_an_end_alone(rig, answer):
    rig.bench.on("GET depth", answer)
    rig.ask(rig.book_requests, RestKind.SNAPSHOT, instrument_id=1, request_id=32)
    rig.run(0.1)
    (end,) = rig.read_depth()
    assert end["kind"] == MarketKind.SNAPSHOT_END and end["flags"] == 0
    assert (end["first_update_id"], end["instrument_id"]) == (32, 1)
    assert (end["bid_count"], end["ask_count"]) == (0, 0)
    assert rig.count(Counter.SNAPSHOTS_FAILED) == 1


def test_a_full_snapshot_ring_is_tried_again(new_bench):
    rig = Rig(new_bench(), snapshot_capacity=4).run(0.1)
    rig.bench.on("GET depth", (200, DEPTH_BODY))
    for row in (0, 1):
        rig.ask(rig.book_requests, RestKind.SNAPSHOT, instrument_id=row, request_id=row + 1)
    slots = []
    for _ in range(50):
        rig.run(0.005)
        slots += list(rig.read_depth())
    kinds = [int(slot["kind"]) for slot in slots if slot["slot_count"]]
    assert kinds == [MarketKind.SNAPSHOT_BEGIN, MarketKind.SNAPSHOT_END] * 2


def test_risk_and_the_gateway_are_answered_in_the_report_ring(rig):
    rig.bench.on("GET order", (400, {"code": -2013, "msg": "Order does not exist."}))
    rig.bench.on("DELETE order", (400, {"code": -2011, "msg": "Unknown order sent."}))
    rig.ask(
        rig.risk_requests, RestKind.ORDER_QUERY, instrument_id=0, client_order_id=5, request_id=8
    )
    assert rig.orders.try_write(requests_array([CANCEL]))
    rig.run(0.1)
    query, cancel = sorted(rig.read_reports(), key=lambda report: report.exec_type, reverse=True)
    assert (query.exec_type, query.request_id) == (ExecType.STATUS, 8)
    assert (cancel.exec_type, cancel.reject) == (
        ExecType.CANCEL_REJECTED,
        Reject.VENUE_UNKNOWN_ORDER,
    )
    assert query.ts_pub_ns > 0


def test_reports_are_never_dropped_and_stop_new_work_until_they_are_read(new_bench):
    rig = Rig(new_bench(), report_capacity=4).run(0.1)
    rig.bench.on("GET openOrders", (200, []))
    rig.bench.on("GET userTrades", (200, []))
    rig.bench.on("GET positionRisk", (200, []))
    rig.bench.on("GET balance", (200, [{"asset": "USDT", "balance": "1"}] * 20))
    rig.ask(rig.risk_requests, RestKind.RECONCILE, instrument_id=-1, request_id=3)
    rig.run(0.2)
    assert rig.count(Counter.SPILLED) == 20
    rig.bench.seen.clear()
    rig.ask(rig.risk_requests, RestKind.ORDER_QUERY, instrument_id=0, client_order_id=5)
    rig.run(0.1)
    assert "GET order" not in rig.bench.names()
    told = []
    for _ in range(20):
        told += rig.read_reports()
        rig.run(0.005)
    kinds = [report.kind for report in told]
    assert kinds[0] == ReportKind.RECONCILE_BEGIN and kinds[23] == ReportKind.RECONCILE_END
    assert kinds.count(ReportKind.BALANCE) == 20
    assert "GET order" in rig.bench.names()
    assert rig.count(Counter.SPILLED) == 0


def test_a_gateway_that_does_not_read_loses_sessions_not_the_stage(new_bench):
    rig = Rig(new_bench(clock_every_ms=100), session_capacity=2).run(5, step_ms=5)
    assert rig.count(Counter.SESSIONS_LOST) > 10
    rig.sessions.read(100)
    rig.orders.try_write(requests_array([OrderRequest(kind=RequestKind.ATTACH)]))
    rig.run(0.3)
    assert set(rig.sessions.read(100)["kind"]) >= {SessionKind.LISTEN_KEY}


def test_the_kill_page_cancels_everything_and_stops_orders(rig):
    rig.kill.set(0)
    rig.run(0.02)
    assert rig.bench.names().count("DELETE allOpenOrders") == 2
    assert rig.count(Counter.EMERGENCIES) == 1


def test_the_gateway_is_watched(rig):
    alive = {"state": "READY", "heartbeat_ns": 0, "start_ns": 1, "pid": 100, "held": 1}
    rig.source.status = alive | {"heartbeat_ns": rig.bench.now_ns}
    rig.run(1.9)
    assert rig.count(Counter.EMERGENCIES) == 0
    rig.run(0.2)  # silent for more than two seconds
    assert rig.count(Counter.EMERGENCIES) == 1
    rig.source.status = alive | {"heartbeat_ns": rig.bench.now_ns}
    rig.run(0.1)
    rig.source.status = rig.source.status | {"pid": 101, "heartbeat_ns": rig.bench.now_ns}
    rig.run(0.1)  # replaced
    assert rig.count(Counter.EMERGENCIES) == 2
    rig.source.status = rig.source.status | {"held": 0}
    rig.run(0.1)  # died
    assert rig.count(Counter.EMERGENCIES) == 3
    rig.source.status = rig.source.status | {"state": "STOPPED"}
    rig.run(0.1)
    rig.source.status = rig.source.status | {"state": "STARTING", "heartbeat_ns": 0, "start_ns": 0}
    rig.run(0.1)
    assert rig.count(Counter.EMERGENCIES) == 3
    assert rig.bench.names().count("DELETE allOpenOrders") >= 2


def test_a_clean_end(rig):
    assert not rig.stage.is_drained()
    rig.stage.on_phase(Phase.STOP_ORDERS, rig.bench.now_ns)
    rig.run(1)
    assert rig.stage.is_drained()
    rig.stage.close()
    assert rig.http.is_closed


def test_the_shell_is_told_when_to_come_back(rig):
    rig.stage.do_work(rig.bench.now_ns)
    timer_ns = rig.stage.next_timer_ns()
    assert rig.bench.now_ns < timer_ns <= rig.bench.now_ns + 20 * MS

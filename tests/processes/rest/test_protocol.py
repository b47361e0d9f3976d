"""Depth snapshots, request records, and the outputs of the protocol."""

import pytest

from common.enums import RestKind
from processes.rest.counters import Counter

MS = 1_000_000
BOOK = b'{"lastUpdateId":5,"bids":[],"asks":[]}'


def ask(bench, request_id, instrument_id=0, attempt=0):
    bench.request(
        RestKind.SNAPSHOT, instrument_id=instrument_id, request_id=request_id, attempt=attempt
    )


def told(bench):
    return [(s.request_id, s.instrument_id, s.body) for s in bench.snapshots]


def test_a_snapshot_is_fetched_and_told(bench):
    bench.on("GET depth", (200, BOOK))
    ask(bench, 7, instrument_id=1)
    bench.run(0.1)
    (seen,) = [seen for seen in bench.seen if seen.name == "GET depth"]
    assert seen.params == {"symbol": "ETHUSDT", "limit": "1000"} and seen.headers == {}
    assert told(bench) == [(7, 1, BOOK)]
    assert bench.snapshots[0].ts_recv_ns == seen.now_ns + bench.latency_ns
    assert bench.desk.scheduler.weight.used(bench.now_ns) >= 20


@pytest.mark.parametrize("failure", ["lost", (503, b"x"), (400, {"code": -1121, "msg": "no"})])
def test_a_failed_snapshot_is_told_empty(new_bench, failure):
    bench = new_bench(attempts_max=2).start()
    bench.on("GET depth", failure)
    ask(bench, 7)
    bench.run(15, step_ms=5)
    assert told(bench) == [(7, 0, b"")]
    bench.on("GET depth", (200, BOOK))
    ask(bench, 8)
    bench.run(3)
    assert told(bench)[1:] == [(8, 0, BOOK)]


def test_a_newer_request_makes_the_older_answer_worthless(bench):
    bodies = iter([b'{"n":1}', b'{"n":2}', b'{"n":3}'])
    bench.on("GET depth", lambda r: (200, next(bodies)))
    bench.latency_ns = 50 * MS
    ask(bench, 1)
    ask(bench, 1, instrument_id=1)
    bench.run(0.02)
    ask(bench, 2)
    ask(bench, 3)
    bench.run(0.3)
    assert sorted(told(bench)) == [(1, 1, b'{"n":2}'), (3, 0, b'{"n":3}')]
    assert bench.names().count("GET depth") == 3


def test_a_later_attempt_waits(bench):
    bench.on("GET depth", (200, BOOK))
    start_ns = bench.now_ns
    ask(bench, 1, attempt=3)
    bench.run(1)
    (seen,) = [seen for seen in bench.seen if seen.name == "GET depth"]
    assert seen.now_ns - start_ns == 400 * MS


@pytest.mark.parametrize(
    ("kind", "instrument_id"),
    [(0, 0), (9, 0), (RestKind.SNAPSHOT, -1), (RestKind.SNAPSHOT, 2), (RestKind.RECONCILE, 3)],
)
def test_an_impossible_request_is_counted(bench, kind, instrument_id):
    bench.request(kind, instrument_id=instrument_id)
    assert bench.count(Counter.REQUESTS_BAD) == 1
    bench.run(0.05)
    assert not bench.seen


def test_the_gauge_shows_the_weight_used(bench):
    bench.headers = {"x-mbx-used-weight-1m": "1234"}
    bench.on("GET depth", (200, BOOK))
    ask(bench, 1)
    bench.run(0.1)
    assert bench.count(Counter.WEIGHT_USED) == 1234

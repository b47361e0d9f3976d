"""Clock offset, listenKey and dead-man timers over hours of virtual time."""

import pytest

from common import binance
from common.enums import Phase, RequestKind, SessionKind
from common.messages import OrderRequest
from processes.rest import calls
from processes.rest.counters import Counter

MS = 1_000_000
SECOND = 1_000 * MS
CLOCK, KEY = SessionKind.CLOCK_OFFSET, SessionKind.LISTEN_KEY
ATTACH = OrderRequest(kind=RequestKind.ATTACH)


def kinds(bench):
    return [int(record["kind"]) for record in bench.sessions]


def test_a_start_measures_arms_and_asks_for_a_key(new_bench):
    bench = new_bench()
    assert not bench.protocol.is_ready()
    bench.run(0.1)
    assert bench.protocol.is_ready()
    names = bench.names()
    assert names.count("GET time") == 3
    assert names.count("POST countdownCancelAll") == 2
    assert names.count("POST listenKey") == 1
    key = next(record for record in bench.sessions if record["kind"] == KEY)
    assert bytes(key["listen_key"][: key["listen_key_bytes"]]) == b"abc123"
    assert not key["listen_key"][6:].any()
    assert CLOCK in kinds(bench)


def test_calls_are_signed_keyed_or_bare(bench, new_bench):
    fresh = new_bench()
    fresh.run(0.1)
    by_name = {seen.name: seen for seen in fresh.seen}
    assert by_name["GET time"].headers == {} and by_name["GET time"].params == {}
    assert by_name["POST listenKey"].headers == {"X-MBX-APIKEY": "test-key"}
    assert by_name["POST listenKey"].params == {}
    armed = by_name["POST countdownCancelAll"]
    query, _, signature = armed.target.partition("?")[2].rpartition("&signature=")
    assert signature == binance.Signer(b"test-secret").sign(query.encode())
    assert armed.params["countdownTime"] == "30000" and armed.params["recvWindow"] == "5000"
    assert abs(int(armed.params["timestamp"]) - (1_784_212_800_000 + 10_000)) < 100


@pytest.mark.parametrize("offset_ms", [-400, 0, 3, 400])
def test_the_offset_is_the_middle_of_the_round_trip(new_bench, offset_ms):
    bench = new_bench()
    bench.venue_offset_ns = offset_ms * MS
    bench.run(0.1)
    record = next(record for record in bench.sessions if record["kind"] == CLOCK)
    assert abs(int(record["offset_ns"]) - offset_ms * MS) <= MS // 2 + 1
    assert int(record["round_trip_ns"]) == bench.latency_ns
    assert abs(bench.count(Counter.CLOCK_OFFSET_NS) - offset_ms * MS) <= MS


def test_the_median_of_a_round_counts(new_bench):
    bench = new_bench(clock_samples=5)
    server_ms = iter([0, 9_000, 3, -7_000, 1] + [0] * 1000)
    bench.on("GET time", lambda r: (200, {"serverTime": bench.venue_ms(MS) + next(server_ms)}))
    bench.run(0.1)
    record = next(record for record in bench.sessions if record["kind"] == CLOCK)
    assert abs(int(record["offset_ns"]) - 1 * MS) <= MS


def test_signed_calls_carry_the_venues_time_not_ours(new_bench):
    bench = new_bench(clock_every_ms=1000)
    bench.venue_offset_ns = 3_600 * SECOND
    bench.run(0.1)
    assert not bench.protocol.is_ready() and not bench.desk.is_clock_good()
    bench.seen.clear()
    bench.run(10)
    refreshed = [seen for seen in bench.seen if seen.name == "POST countdownCancelAll"]
    assert refreshed
    for seen in refreshed:
        expected_ms = (seen.now_ns + 1_784_212_800_000 * MS + bench.venue_offset_ns) // MS
        assert abs(int(seen.params["timestamp"]) - expected_ms) <= 2


def test_the_clock_is_measured_again_and_told_each_time(bench):
    bench.run(21, step_ms=5)
    assert bench.names().count("GET time") == 4 * 3
    assert kinds(bench).count(CLOCK) == 4


def test_a_process_that_is_seldom_run_measures_as_often(bench):
    bench.run(60, step_ms=1_000)
    assert kinds(bench).count(CLOCK) >= 6


@pytest.mark.parametrize(
    "bad", [(200, {"serverTime": "x"}), (200, b"[[["), (500, b"<html>"), "lost", (200, {})]
)
def test_without_a_clock_nothing_is_ready(new_bench, bad):
    bench = new_bench()
    bench.on("GET time", bad)
    bench.run(20, step_ms=10)
    assert not bench.protocol.is_ready() and CLOCK not in kinds(bench)
    bench.on("GET time", lambda r: (200, {"serverTime": bench.venue_ms(MS)}))
    bench.run(20, step_ms=10)
    assert bench.protocol.is_ready()


def test_the_key_is_extended_and_replaced_when_it_is_dead(new_bench):
    bench = new_bench(listen_key_every_s=60).start()
    bench.run(61, step_ms=10)
    assert bench.names().count("PUT listenKey") == 1 and KEY not in kinds(bench)
    bench.on("PUT listenKey", (400, {"code": -1125, "msg": "This listenKey does not exist."}))
    bench.on("POST listenKey", (200, {"listenKey": "next456"}))
    bench.run(61, step_ms=10)
    assert bench.desk.listen_key == "next456" and kinds(bench).count(KEY) == 1


def test_a_failure_to_extend_keeps_the_key(new_bench):
    bench = new_bench(listen_key_every_s=30, attempts_max=2).start()
    bench.on("PUT listenKey", (503, b"Service Unavailable."))
    bench.run(100, step_ms=10)
    assert bench.desk.listen_key == "abc123" and bench.names().count("POST listenKey") == 0


@pytest.mark.parametrize(
    "bad",
    [
        (200, {"listenKey": ""}),
        (200, {"listenKey": "k" * 97}),
        (200, {"listenKey": "a/b"}),
        (200, {"listenKey": "ключ"}),
        (200, {}),
        (401, {"code": -2015, "msg": "no"}),
    ],
)
def test_a_bad_key_is_never_told(new_bench, bad):
    bench = new_bench()
    bench.on("POST listenKey", bad)
    bench.run(5, step_ms=5)
    assert not bench.protocol.is_ready() and KEY not in kinds(bench)


def test_attach_tells_key_and_clock_again(bench):
    bench.run(1)
    assert not bench.sessions
    bench.order(ATTACH)
    bench.run(0.5)
    assert KEY in kinds(bench) and CLOCK in kinds(bench)


def test_a_key_that_lives_is_told_at_once_however_busy_the_venue_is(bench):
    """A gateway that comes back after its death would wait behind all that cancels everything."""
    bench.on("POST listenKey", "lost")
    bench.order(ATTACH)
    bench.run(0.002)
    assert kinds(bench) == [KEY]
    bench.sessions.clear()
    bench.on("PUT listenKey", (200, {}))
    bench.run(bench.config.listen_key_every_s + 10, step_ms=500)
    bench.sessions.clear()
    bench.order(ATTACH)
    bench.run(0.002)
    assert kinds(bench) == [KEY]  # it was extended meanwhile
    bench.on("PUT listenKey", "lost")
    bench.run(bench.config.listen_key_every_s + 10, step_ms=500)
    bench.sessions.clear()
    bench.order(ATTACH)
    bench.run(0.002)
    assert KEY not in kinds(bench)


def test_many_attaches_at_once_ask_once(bench):
    for _ in range(50):
        bench.order(ATTACH)
    bench.run(0.5)
    assert bench.names().count("POST listenKey") == 1
    bench.order(ATTACH)
    bench.run(0.5)
    assert bench.names().count("POST listenKey") == 2


def test_timers_are_refreshed_well_within_a_third_of_the_window(bench):
    bench.run(120, step_ms=5)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        times = [
            seen.now_ns
            for seen in bench.seen
            if seen.name == "POST countdownCancelAll" and seen.params["symbol"] == symbol
        ]
        gaps = [b - a for a, b in zip(times, times[1:], strict=False)]
        assert len(gaps) >= 10 and max(gaps) <= 10 * SECOND
    assert bench.count(Counter.DEAD_MAN_LAPSES) == 0


def test_the_clock_is_not_told_before_every_timer_runs(new_bench):
    bench = new_bench()

    def refuse_eth(request):
        if request.params["symbol"] == "ETHUSDT":
            return 503, b"Service Unavailable."
        return 200, {"symbol": "x", "countdownTime": "30000"}

    bench.on("POST countdownCancelAll", refuse_eth)
    bench.run(3, step_ms=5)
    assert bench.desk.ts_clock_ns and CLOCK not in kinds(bench)
    assert not bench.protocol.is_ready()
    bench.on("POST countdownCancelAll", (200, {"symbol": "x", "countdownTime": "30000"}))
    bench.run(3, step_ms=5)
    assert CLOCK in kinds(bench) and bench.protocol.is_ready()


def test_timers_that_cannot_be_refreshed_stop_the_clock_and_lapse(bench):
    bench.on("POST countdownCancelAll", "lost")
    bench.run(26, step_ms=5)
    bench.sessions.clear()
    bench.run(10, step_ms=5)
    assert CLOCK not in kinds(bench)
    bench.on("POST countdownCancelAll", (200, {"symbol": "x", "countdownTime": "30000"}))
    bench.run(10, step_ms=5)
    assert bench.count(Counter.DEAD_MAN_LAPSES) == 2  # the venue has canceled; armed anew
    assert CLOCK in kinds(bench)


def test_a_dead_gateway_lets_the_timers_run_out(bench):
    bench.protocol.on_gateway(True)
    bench.run(10, step_ms=5)
    bench.seen.clear()
    bench.run(30, step_ms=5)
    assert "POST countdownCancelAll" not in bench.names()
    assert not bench.desk.is_armed()


def test_a_clean_stop_disarms_and_a_dirty_one_does_not(bench, new_bench):
    bench.phase(Phase.STOP_ORDERS)
    bench.run(2)
    disarmed = [seen for seen in bench.seen if seen.params.get("countdownTime") == "0"]
    assert [seen.params["symbol"] for seen in disarmed] == ["BTCUSDT", "ETHUSDT"]
    assert bench.protocol.is_drained()
    bench.seen.clear()
    bench.run(30, step_ms=5)
    assert "POST countdownCancelAll" not in bench.names()

    stuck = new_bench().start()
    stuck.on("GET openOrders", (200, [{"status": "NEW", "symbol": "BTCUSDT"}]))
    stuck.phase(Phase.STOP_ORDERS)
    stuck.run(5, step_ms=5)
    assert not stuck.protocol.is_drained()
    assert all(seen.params.get("countdownTime") != "0" for seen in stuck.seen)
    assert "DELETE allOpenOrders" in stuck.names()  # risk was given its time first
    first = next(seen for seen in stuck.seen if seen.name == "DELETE allOpenOrders")
    assert first.now_ns - 10.1 * SECOND >= 500 * MS


def test_a_timestamp_refusal_measures_the_clock_at_once(new_bench):
    bench = new_bench(clock_every_ms=60_000).start()
    refusals = iter([(400, {"code": -1021, "msg": "Timestamp"})] * 2)
    bench.on("POST countdownCancelAll", lambda r: next(refusals, (200, {"countdownTime": "30000"})))
    bench.run(10, step_ms=5)
    assert bench.names().count("GET time") >= 3


def test_no_key_or_secret_is_ever_in_an_answer_text():
    error = calls.not_answered("x" * 10_000, 1, 2)
    assert len(error.message) <= calls.ERROR_TEXT_MAX

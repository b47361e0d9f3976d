"""The stage over anonymous rings and sockets that the test holds."""

import json

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.enums import (
    ExecType,
    OrderStatus,
    Phase,
    Reject,
    ReportKind,
    ReportSource,
    RequestKind,
    SessionKind,
)
from common.messages import OrderRequest, read_reports, read_requests, requests_array
from common.records import SESSION
from processes.gateway.counters import HISTOGRAMS, LABELS, Counter
from processes.gateway.session import OrderSession, StreamSession
from processes.gateway.stage import GatewayStage
from shm.counters import anonymous_counters
from shm.latch import anonymous_latch
from shm.ring import anonymous_ring

MS = 1_000_000
SECOND = 1_000 * MS
NEW, REPLACE, CANCEL = RequestKind.NEW, RequestKind.REPLACE, RequestKind.CANCEL
CANCEL_ALL, ATTACH = RequestKind.CANCEL_ALL, RequestKind.ATTACH


class Rig:
    """A stage, the other ends of its rings, its sockets, and virtual time."""

    def __init__(self, kit, report_capacity=256, fallback_capacity=64, times=None, **config):
        self.kit = kit
        self.clock = kit.VirtualClock()
        times = times or kit.TIMES
        self.order_plug = kit.Plug(self.clock, times, "order")
        self.stream_plug = kit.Plug(self.clock, times, "stream")
        self.requests, requests_in = anonymous_ring("ORDER_REQUEST", 256)
        self.sessions, sessions_in = anonymous_ring("SESSION", 64)
        reports_out, self.reports = anonymous_ring("REPORT", report_capacity)
        fallback_out, self.fallback = anonymous_ring("ORDER_REQUEST", fallback_capacity)
        self.counters = anonymous_counters(LABELS, HISTOGRAMS)
        self.kill = anonymous_latch()
        config = kit.config(**config)
        self.order_plug.link.set_url("ws://venue/ws-fapi/v1", self.clock.now)
        self.stage = GatewayStage(
            OrderSession(
                config,
                [kit.BTC],
                kit.credentials,
                self.counters.values,
                self.counters.histograms,
            ),
            StreamSession(config, [kit.BTC], self.counters.values),
            self.order_plug.link,
            self.stream_plug.link,
            "ws://venue/private",
            requests_in,
            sessions_in,
            reports_out,
            fallback_out,
            self.counters,
            self.kill.words,
            self.clock,
        )

    @property
    def socket(self):
        return self.order_plug.last

    @property
    def stream(self):
        return self.stream_plug.last

    def turn(self, count=1):
        for _ in range(count):
            self.stage.do_work(self.clock.now)
        return self

    def run(self, seconds, step_ms=5):
        end_ns = self.clock.now + int(seconds * SECOND)
        while self.clock.now < end_ns:
            self.clock.now += step_ms * MS
            self.turn()
        return self

    def tell(self, kind, **values):
        record = np.zeros(1, SESSION)
        record["kind"] = kind
        record["ts_pub_ns"] = self.clock.now
        for name, value in values.items():
            record[name] = value
        assert self.sessions.try_write(record)

    def tell_clock(self, offset_ns=0):
        self.tell(SessionKind.CLOCK_OFFSET, offset_ns=offset_ns, round_trip_ns=MS)

    def tell_key(self, key=b"abc123"):
        text = np.zeros(96, np.uint8)
        text[: len(key)] = np.frombuffer(key, np.uint8)
        self.tell(SessionKind.LISTEN_KEY, listen_key_bytes=len(key), listen_key=text)

    def start(self):
        """Bring everything up and forget how."""
        self.turn()
        self.tell_clock()
        self.tell_key()
        self.clock.now += 2 * MS
        self.turn(2)
        self.socket.open()
        self.stream.open()
        self.turn()
        assert self.stage.is_ready()
        self.told = self.read()
        self.rest_got = self.passed()
        return self

    def ask(self, *requests):
        """Publish requests now, and turn."""
        ts_pub_ns = self.clock.now - 5_000
        stamped = [msgspec.structs.replace(r, ts_pub_ns=ts_pub_ns) for r in requests]
        assert self.requests.try_write(requests_array(stamped))
        return self.turn()

    def read(self):
        return read_reports(self.reports.read(10_000))

    def passed(self):
        return read_requests(self.fallback.read(10_000))

    def count(self, counter):
        return int(self.counters.values[counter])

    def sent(self):
        return [(frame["method"], frame["id"]) for frame in self.socket.sent]


@pytest.fixture
def rig(kit):
    return Rig(kit).start()


def sources(reports):
    return [(report.kind, report.source) for report in reports]


UP, DOWN = ReportKind.SESSION_UP, ReportKind.SESSION_DOWN
RESPONSE, STREAM = ReportSource.RESPONSE, ReportSource.STREAM


def event(kit, **values):
    facts = {
        **{"s": "BTCUSDT", "c": kit.OWN, "S": "BUY", "o": "LIMIT", "f": "GTX", "q": "0.010"},
        **{"p": "64200.00", "x": "TRADE", "X": "PARTIALLY_FILLED", "i": 728811004512},
        **{"l": "0.004", "z": "0.004", "L": "64200.00", "n": "0.05136000", "N": "USDT"},
        **{"t": 5512340091, "m": True, "R": False, "er": "0"},
    }
    return {"e": "ORDER_TRADE_UPDATE", "E": 2, "T": 1, "o": facts | values}


# --- coming up ---------------------------------------------------------------------------------


def test_a_start_doubts_the_past_asks_rest_and_comes_up(kit):
    rig = Rig(kit).turn()
    assert sources(rig.read()) == [(DOWN, RESPONSE), (DOWN, STREAM)]
    assert [request.kind for request in rig.passed()] == [ATTACH]
    assert not rig.stage.is_ready() and not rig.stream_plug.sockets
    rig.socket.open()
    rig.turn()
    assert sources(rig.read()) == [(UP, RESPONSE)]
    rig.tell_key()
    rig.tell_clock()
    rig.run(0.01)
    assert rig.stream.url == "ws://venue/private/ws/abc123"
    rig.stream.open()
    rig.turn()
    assert sources(rig.read()) == [(UP, STREAM)] and rig.stage.is_ready()
    assert rig.count(Counter.ORDER_SOCKETS) == rig.count(Counter.STREAM_SOCKETS) == 1
    assert rig.stage.orders.throttle.weight_1m.used(rig.clock.now) == 5


def test_rest_is_asked_again_until_the_session_is_whole(kit):
    rig = Rig(kit).run(5)
    assert [request.kind for request in rig.passed()] == [ATTACH] * 3
    rig.tell_clock()
    rig.tell_key()
    rig.run(5)
    assert rig.passed() == []
    rig.run(20)  # the clock has grown old
    assert ATTACH in {request.kind for request in rig.passed()}


# --- orders ------------------------------------------------------------------------------------


def test_requests_go_out_and_answers_come_back(rig, kit):
    rig.ask(kit.request(), kit.request(kind=CANCEL, orig_client_order_id=kit.OWN_ID))
    assert [method for method, _ in rig.sent()] == ["order.place", "order.cancel"]
    assert rig.read() == [] and not rig.stage.is_drained()
    rig.clock.now += 3 * MS
    for _method, request_id in rig.sent():
        rig.socket.feed(kit.accepted(request_id, status="NEW" if request_id == 1 else "CANCELED"))
    rig.turn()
    placed, canceled = rig.read()
    assert (placed.exec_type, placed.order_status) == (ExecType.NEW, OrderStatus.NEW)
    assert (canceled.exec_type, canceled.client_order_id) == (ExecType.CANCELED, kit.OWN_ID)
    assert placed.sent_to_ack_ns == 3 * MS and placed.ts_pub_ns == rig.clock.now
    assert rig.stage.is_drained()
    assert rig.count(Counter.ORDERS_SENT) == rig.count(Counter.CANCELS_SENT) == 1


def test_each_request_is_released_before_it_is_sent(rig, kit):
    """A gateway that dies while it writes must not find the request in its ring again."""
    lags = []
    rig.socket.on_send = lambda socket, frame: lags.append(rig.requests.stats()["lag"])
    rig.ask(*[kit.request(client_order_id=kit.OWN_ID + i) for i in range(3)])
    assert lags == [2, 1, 0]


def test_stream_events_become_reports(rig, kit):
    rig.stream.feed(event(kit))
    rig.turn()
    (fill,) = rig.read()
    assert (fill.kind, fill.source) == (ReportKind.EXECUTION, STREAM)
    assert (fill.client_order_id, fill.exec_id) == (kit.OWN_ID, 5512340091)
    assert fill.ts_report_recv_ns == rig.clock.now


def test_an_impossible_record_is_refused_or_dropped(rig, kit):
    rig.ask(kit.request(price_steps=0), kit.request(kind=ATTACH), kit.request(kind=0))
    (report,) = rig.read()
    assert report.reject == Reject.BAD_REQUEST
    assert rig.count(Counter.REQUESTS_BAD) == 3 and rig.socket.sent == []


def test_cancel_all_goes_to_rest(rig):
    rig.ask(OrderRequest(kind=CANCEL_ALL, instrument_id=-1))
    assert [(request.kind, request.instrument_id) for request in rig.passed()] == [(CANCEL_ALL, -1)]
    assert rig.socket.sent == [] and rig.read() == []


def test_what_a_gateway_finds_after_a_long_death_is_not_sent(kit):
    rig = Rig(kit)
    found = [kit.request(), kit.request(kind=CANCEL, orig_client_order_id=kit.OWN_ID)]
    assert rig.requests.try_write(requests_array(found))
    rig.clock.now += 2 * SECOND
    rig.start()
    reports = [report for report in rig.told if report.reject]
    assert [report.reject for report in reports] == [Reject.GATEWAY_DOWN]
    assert [request.kind for request in rig.rest_got if request.kind != ATTACH] == [CANCEL]


# --- the kill page -----------------------------------------------------------------------------


@pytest.mark.parametrize("word", range(5))
def test_the_kill_page_stops_orders_and_lets_cancels_through(rig, kit, word):
    rig.kill.set(word)
    rig.ask(
        kit.request(),
        kit.request(kind=REPLACE, orig_client_order_id=kit.OWN_ID),
        kit.request(kind=CANCEL, orig_client_order_id=kit.OWN_ID),
    )
    assert [method for method, _ in rig.sent()] == ["order.cancel"]
    assert [report.reject for report in rig.read()] == [Reject.KILLED] * 2


def test_the_kill_page_is_read_before_every_send(rig, kit):
    """Set between two sends of one batch: not one more order leaves."""
    rig.socket.on_send = lambda socket, frame: rig.kill.set(2)
    rig.ask(*[kit.request(client_order_id=kit.OWN_ID + i) for i in range(5)])
    assert len(rig.socket.sent) == 1
    assert [report.reject for report in rig.read()] == [Reject.KILLED] * 4


def test_a_half_written_order_does_not_survive_a_kill(rig, kit):
    rig.socket.on_send = lambda socket, frame: setattr(socket, "unsent", True)
    rig.ask(kit.request())
    socket = rig.socket
    rig.kill.set(1)
    rig.run(0.01)
    assert socket.is_closed and rig.count(Counter.SENDS_STALLED) == 1
    reports = rig.read()
    assert (ExecType.UNKNOWN, kit.OWN_ID) in [(r.exec_type, r.client_order_id) for r in reports]
    assert (DOWN, RESPONSE) in sources(reports)


def test_half_written_cancels_survive_a_kill(rig, kit):
    rig.socket.on_send = lambda socket, frame: setattr(socket, "unsent", True)
    rig.ask(kit.request(kind=CANCEL, orig_client_order_id=kit.OWN_ID))
    rig.kill.set(1)
    rig.run(0.01)
    assert not rig.socket.is_closed


def test_the_kill_page_is_read_before_the_rest_of_an_order_is_written(rig, kit):
    """Not up to a millisecond later: the next poll would hand it to the kernel."""
    rig.socket.on_send = lambda socket, frame: setattr(socket, "unsent", True)
    rig.ask(kit.request())
    socket = rig.socket
    polls = []
    socket.on_poll = lambda socket: polls.append(socket.unsent)
    rig.kill.set(1)
    rig.turn()
    assert socket.is_closed and polls == []


def test_a_socket_with_a_half_written_order_is_not_replaced(kit):
    """Replaced, it would go on writing where no kill reaches it."""
    rig = Rig(kit, times=kit.TIMES._replace(rotate_ns=SECOND, idle_ns=10**15)).start()
    rig.run(1.1)
    old, new = rig.order_plug.sockets
    old.on_send = lambda socket, frame: setattr(socket, "unsent", True)
    rig.ask(kit.request())
    new.open()
    rig.run(0.01)
    assert rig.stage.order_link.number == 1 and rig.stage.unsent
    rig.kill.set(1)
    rig.run(0.01)
    assert old.is_closed and rig.stage.order_link.number == 2
    assert ExecType.UNKNOWN in [report.exec_type for report in rig.read()]


def test_a_socket_is_replaced_once_its_bytes_have_gone(kit):
    rig = Rig(kit, times=kit.TIMES._replace(rotate_ns=SECOND, idle_ns=10**15)).start()
    rig.run(1.1)
    old, new = rig.order_plug.sockets
    old.on_send = lambda socket, frame: setattr(socket, "unsent", True)
    rig.ask(kit.request())
    new.open()
    rig.run(0.01)
    old.unsent = False
    rig.turn()
    assert rig.stage.order_link.number == 2 and not rig.stage.unsent
    old.feed(kit.accepted(1))
    rig.turn()
    assert [report.exec_type for report in rig.read()] == [ExecType.NEW]


# --- losing the order socket at each point -----------------------------------------------------


def test_lost_before_anything_was_sent(rig, kit):
    rig.socket.break_off()
    rig.turn()
    assert sources(rig.read()) == [(DOWN, RESPONSE)]
    rig.ask(kit.request())
    (passed,) = rig.passed()
    assert passed == kit.request(ts_pub_ns=rig.clock.now - 5_000) and rig.read() == []
    assert rig.count(Counter.FALLBACKS) == 1


def test_lost_after_the_request_was_written(rig, kit):
    rig.ask(kit.request(), kit.request(kind=CANCEL, orig_client_order_id=kit.OWN_ID))
    rig.socket.break_off()
    rig.turn()
    reports = rig.read()
    assert [report.exec_type for report in reports[:2]] == [ExecType.UNKNOWN] * 2
    assert sources(reports)[2] == (DOWN, RESPONSE)
    rig.run(0.5)
    rig.socket.open()
    rig.run(0.1)
    assert rig.socket.sent == [] and rig.passed() == []  # nothing is sent again
    assert sources(rig.read()) == [(UP, RESPONSE)]


def test_lost_with_the_response_in_the_last_bytes(rig, kit):
    rig.ask(kit.request())
    rig.socket.feed(kit.accepted(1))
    rig.socket.break_off()
    rig.turn()
    placed, down = rig.read()
    assert placed.exec_type == ExecType.NEW and down.kind == DOWN


def test_lost_while_the_request_is_half_written(rig, kit):
    rig.socket.on_send = lambda socket, frame: setattr(socket, "unsent", True)
    rig.ask(kit.request())
    rig.socket.break_off()
    rig.turn()
    assert [report.exec_type for report in rig.read()] == [ExecType.UNKNOWN, 0]
    assert not rig.stage.unsent


def test_lost_in_the_send_itself(rig, kit):
    """The send finds the connection reset: it may have gone out, so it is UNKNOWN."""
    rig.socket.on_send = lambda socket, frame: socket.break_off()
    rig.ask(kit.request())
    assert [report.exec_type for report in rig.read()] == [ExecType.UNKNOWN, 0]


def test_a_send_that_the_socket_refuses_is_a_reject(rig, kit):
    rig.socket.refuses = True
    rig.ask(kit.request())
    (report,) = rig.read()
    assert (report.exec_type, report.reject) == (ExecType.REJECTED, Reject.GATEWAY_FULL)
    assert not rig.stage.orders.in_flight


def test_lost_without_a_fallback(kit):
    rig = Rig(kit, has_fallback=False).start()
    rig.socket.break_off()
    rig.turn()
    rig.read()
    rig.ask(kit.request(), kit.request(kind=CANCEL, orig_client_order_id=kit.OWN_ID))
    assert [report.reject for report in rig.read()] == [Reject.GATEWAY_DOWN] * 2
    assert rig.passed() == []


def test_lost_with_a_full_fallback(kit):
    rig = Rig(kit, fallback_capacity=2).start()
    rig.socket.break_off()
    rig.turn()
    rig.read()
    rig.ask(*[kit.request(client_order_id=kit.OWN_ID + i) for i in range(3)])
    assert [report.reject for report in rig.read()] == [Reject.GATEWAY_DOWN]


def test_a_fallback_order_passes_the_same_gates(rig, kit):
    rig.socket.break_off()
    rig.turn()
    rig.kill.set(0)
    rig.ask(kit.request(), kit.request(kind=CANCEL, orig_client_order_id=kit.OWN_ID))
    assert [request.kind for request in rig.passed()] == [CANCEL]


# --- slow sockets, silence, time ---------------------------------------------------------------


def test_while_bytes_are_unsent_orders_are_refused_and_cancels_queue(rig, kit):
    rig.socket.on_send = lambda socket, frame: setattr(socket, "unsent", True)
    rig.ask(kit.request())
    rig.ask(kit.request(), kit.request(kind=CANCEL, orig_client_order_id=kit.OWN_ID))
    assert [report.reject for report in rig.read()] == [Reject.GATEWAY_FULL]
    rig.clock.now += 20 * MS
    rig.socket.unsent = False
    rig.turn()
    rig.socket.feed(kit.accepted(1))
    rig.clock.now += 1 * MS
    rig.turn()
    (report,) = rig.read()
    assert report.risk_to_sent_ns == 20 * MS + 5_000 and report.sent_to_ack_ns == 1 * MS


def test_a_socket_that_takes_no_bytes_is_given_up(rig, kit):
    rig.socket.on_send = lambda socket, frame: setattr(socket, "unsent", True)
    rig.ask(kit.request())
    rig.run(1.1)
    assert rig.count(Counter.SENDS_STALLED) == 1
    assert rig.read()[0].exec_type == ExecType.UNKNOWN


def test_no_answer_in_time_is_unknown(rig, kit):
    rig.ask(kit.request())
    rig.run(3.1)
    (report,) = rig.read()
    assert report.exec_type == ExecType.UNKNOWN
    rig.socket.feed(kit.accepted(1))
    rig.turn()
    assert [report.exec_type for report in rig.read()] == [ExecType.NEW]


def test_a_silent_stream_is_begun_anew(kit):
    rig = Rig(kit, stream_silent_ms_max=1000).start()
    rig.ask(kit.request())
    rig.socket.feed(kit.accepted(1))
    rig.turn()
    stream = rig.stream
    rig.run(1.1)
    assert stream.is_closed and rig.count(Counter.STREAM_SILENT) == 1
    assert (DOWN, STREAM) in sources(rig.read())
    rig.ask(kit.request())
    assert rig.read()[0].reject == Reject.GATEWAY_DOWN  # no order that we would not hear of
    rig.run(0.3)
    rig.stream.open()
    rig.turn()
    assert sources(rig.read()) == [(UP, STREAM)]
    rig.ask(kit.request())
    assert rig.read() == []


def test_a_refused_request_makes_nobody_wait_for_an_event(kit):
    rig = Rig(kit, stream_silent_ms_max=1000).start()
    rig.ask(kit.request())
    rig.socket.feed(kit.failed(1, -5022))
    rig.run(3)
    assert rig.count(Counter.STREAM_SILENT) == 0


@pytest.mark.parametrize("text", ["{", '{"e":"ORDER_TRADE_UPDATE","o":{}}'])
def test_a_broken_event_begins_the_stream_anew(rig, text):
    stream = rig.stream
    stream.feed(text)
    rig.turn(2)
    assert stream.is_closed and sources(rig.read()) == [(DOWN, STREAM)]
    assert not rig.stage.orders.is_stream_up
    rig.run(0.3)
    assert rig.stream is not stream and rig.stream.url == stream.url


def test_an_expired_key_waits_for_a_new_one(rig):
    rig.stream.feed('{"e":"listenKeyExpired","E":1,"listenKey":"abc123"}')
    rig.turn(2)
    assert sources(rig.read()) == [(DOWN, STREAM)]
    assert [request.kind for request in rig.passed()] == [ATTACH]
    rig.run(1)
    assert len(rig.stream_plug.sockets) == 1  # not with the dead key
    rig.tell_key(b"abc123")  # rest has not heard of its end yet
    rig.run(1)
    assert len(rig.stream_plug.sockets) == 1
    rig.tell_key(b"next456")
    rig.run(0.2)
    assert rig.stream.url.endswith("/ws/next456")
    rig.stream.open()
    rig.turn()
    assert sources(rig.read()) == [(UP, STREAM)]


def test_another_key_is_a_gap(rig):
    rig.tell_key(b"next456")
    rig.run(0.02)
    assert sources(rig.read()) == [(DOWN, STREAM)] and rig.stream.url.endswith("/next456")
    rig.tell_key(b"next456")
    rig.run(0.02)
    assert len(rig.stream_plug.sockets) == 2


def test_a_refused_timestamp_asks_for_the_clock_at_once(rig, kit):
    rig.ask(kit.request())
    rig.socket.feed(kit.failed(1, -1021))
    rig.run(0.01)
    assert [request.kind for request in rig.passed()] == [ATTACH]
    rig.read()
    rig.ask(kit.request())
    assert rig.read()[0].reject == Reject.CLOCK_OFFSET
    rig.tell_clock()
    rig.run(0.01)
    rig.ask(kit.request())
    assert rig.read() == []


def test_a_rotated_order_socket_keeps_its_answers(kit):
    rig = Rig(kit, times=kit.TIMES._replace(rotate_ns=SECOND, idle_ns=10**15))
    rig.start()
    rig.run(0.9)
    rig.ask(kit.request())
    old = rig.socket
    rig.run(0.2)
    rig.socket.open()
    rig.turn()
    assert rig.socket is not old
    rig.ask(kit.request(client_order_id=kit.OWN_ID + 1))
    assert len(rig.socket.sent) == 1 and len(old.sent) == 1
    old.feed(kit.accepted(1))
    rig.turn()
    assert [report.client_order_id for report in rig.read()] == [kit.OWN_ID]
    rig.run(0.6)
    rig.ask(kit.request(client_order_id=kit.OWN_ID + 2))
    kinds = [report.kind for report in rig.read()]
    assert DOWN not in kinds and rig.stage.is_ready()


def test_a_rotated_socket_that_never_answers_leaves_unknown(kit):
    times = kit.TIMES._replace(rotate_ns=SECOND, overlap_ns=500 * MS, idle_ns=10**15)
    rig = Rig(kit, times=times).start()
    rig.run(0.9)
    rig.ask(kit.request())
    rig.run(0.2)
    rig.socket.open()
    rig.run(0.6)
    assert [report.exec_type for report in rig.read()] == [ExecType.UNKNOWN]


# --- a full ring to risk, the end --------------------------------------------------------------


def test_reports_are_never_dropped_and_no_order_is_sent_while_they_wait(kit):
    rig = Rig(kit, report_capacity=4).start()
    for i in range(10):
        rig.stream.feed(event(kit, t=i + 1))
    rig.turn()
    rig.ask(kit.request(), kit.request(kind=CANCEL, orig_client_order_id=kit.OWN_ID))
    assert [method for method, _ in rig.sent()] == ["order.cancel"]
    rig.run(0.01)
    assert rig.count(Counter.SPILLED) == 7 and not rig.stage.is_drained()
    told = []
    for _ in range(5):
        told += rig.read()
        rig.turn()
    assert [report.exec_id for report in told] == [*range(1, 11), 0]
    assert told[-1].reject == Reject.GATEWAY_FULL
    rig.run(0.01)
    rig.ask(kit.request())
    assert [method for method, _ in rig.sent()] == ["order.cancel", "order.place"]


def test_lost_reports_make_risk_doubt_and_reconcile(kit):
    """Over the limit reports are lost; what they told can only be learned from the account."""
    rig = Rig(kit, report_capacity=16, spill_max=1_000).start()
    for k in range(1_100):
        rig.stream.feed(event(kit, t=k + 1))
        rig.turn()
    assert rig.count(Counter.REPORTS_LOST) > 0
    got = []
    for _ in range(200):
        got += sources(rig.read())
        rig.turn()
    told = [one for one in got if one[0] in (UP, DOWN)]
    assert told == [(DOWN, RESPONSE), (UP, RESPONSE), (DOWN, STREAM), (UP, STREAM)]
    assert got[-4:] == told
    assert rig.stage.is_drained()


def test_a_lost_socket_tells_of_more_requests_than_the_ring_holds(kit):
    rig = Rig(kit, report_capacity=8).start()
    ids = range(kit.OWN_ID, kit.OWN_ID + 20)
    rig.ask(*[kit.request(client_order_id=one) for one in ids])
    rig.order_plug.link.drop("gone", rig.clock.now)
    told = []
    for _ in range(20):
        rig.turn()
        told += rig.read()
    unknown = [r.client_order_id for r in told if r.exec_type == ExecType.UNKNOWN]
    assert unknown == list(ids)
    assert rig.stage.is_drained() and rig.count(Counter.REPORTS_LOST) == 0


def test_the_end(rig, kit):
    rig.stage.on_phase(Phase.STOP_ORDERS, rig.clock.now)
    rig.ask(kit.request(), kit.request(kind=CANCEL, orig_client_order_id=kit.OWN_ID))
    assert rig.read()[0].reject == Reject.STOPPING
    assert not rig.stage.is_drained()
    rig.socket.feed(kit.accepted(1, status="CANCELED"))
    rig.turn()
    assert rig.stage.is_drained()
    rig.stage.close()
    assert rig.socket.is_closed and rig.stream.is_closed


@pytest.mark.parametrize("kind", [NEW, REPLACE])
def test_a_half_written_order_does_not_survive_the_stop(rig, kit, kind):
    rig.socket.on_send = lambda socket, frame: setattr(socket, "unsent", True)
    rig.ask(kit.request(kind=kind, orig_client_order_id=kit.OWN_ID))
    socket = rig.socket
    rig.stage.on_phase(Phase.STOP_ORDERS, rig.clock.now)
    assert socket.is_closed and rig.count(Counter.SENDS_STALLED) == 1
    assert not rig.stage.is_drained()  # risk has to ask what became of it
    rig.turn()
    reports = rig.read()
    assert [report.exec_type for report in reports] == [ExecType.UNKNOWN, 0]
    assert sources(reports)[1] == (DOWN, RESPONSE)


def test_half_written_cancels_survive_the_stop(rig, kit):
    rig.socket.on_send = lambda socket, frame: setattr(socket, "unsent", True)
    rig.ask(kit.request(kind=CANCEL, orig_client_order_id=kit.OWN_ID))
    rig.stage.on_phase(Phase.STOP_ORDERS, rig.clock.now)
    rig.turn()
    assert not rig.socket.is_closed and rig.read() == []


def test_the_shell_is_told_when_to_come_back(rig, kit):
    assert rig.stage.next_timer_ns() == 0
    rig.ask(kit.request())
    assert rig.stage.next_timer_ns() == rig.clock.now + 3 * SECOND
    version = rig.stage.fds_version
    assert rig.stage.fds_version == version
    rig.socket.break_off()
    rig.turn()
    assert rig.stage.fds_version != version
    rig.read()
    assert rig.clock.now < rig.stage.next_timer_ns() <= rig.clock.now + 100 * MS


# --- any order of everything -------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from([NEW, REPLACE, CANCEL])),
        st.tuples(st.just("answer"), st.integers(0, 5)),
        st.tuples(st.just("fail"), st.sampled_from([-2011, -5022, -1007, -1015, -1021, -2019])),
        st.tuples(st.just("cut"), st.just(0)),
        st.tuples(st.just("open"), st.just(0)),
        st.tuples(st.just("wait"), st.integers(1, 4_000)),
        st.tuples(st.just("clog"), st.booleans()),
        st.tuples(st.just("kill"), st.booleans()),
    ),
    max_size=60,
)


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=STEPS)
def test_every_request_is_sent_at_most_once_and_answered(kit, steps):
    """Whatever happens, each request ends in one certain answer, UNKNOWN, or at rest."""
    rig = Rig(kit, request_timeout_ms=2000, clock_age_ms_max=300_000).start()
    asked, reports, passed = [], [], []
    for name, value in steps:
        rig.clock.now += MS
        if name == "ask":
            number = kit.OWN_ID + len(asked)
            asked.append(number)
            rig.ask(
                kit.request(kind=value, client_order_id=number, orig_client_order_id=kit.OWN_ID)
            )
        elif name in ("answer", "fail") and rig.socket.is_open:
            open_ids = list(rig.stage.orders.in_flight)
            if open_ids and name == "answer":
                rig.socket.feed(kit.accepted(open_ids[value % len(open_ids)]))
            elif open_ids:
                rig.socket.feed(kit.failed(open_ids[0], value))
        elif name == "cut":
            rig.socket.break_off()
        elif name == "open" and not rig.socket.is_closed:
            rig.socket.open()
        elif name == "wait":
            rig.run(value / 1000, step_ms=20)
        elif name == "clog":
            rig.socket.unsent = value
        elif name == "kill":
            (rig.kill.set if value else rig.kill.clear)(0)
        rig.turn()
        reports += rig.read()
        passed += rig.passed()
    rig.run(5, step_ms=20)
    reports += rig.read()
    passed += rig.passed()
    sent = [
        frame["params"].get("newClientOrderId", frame["id"])
        for socket in rig.order_plug.sockets
        for frame in socket.sent
    ]
    assert len(sent) == len(set(sent))
    told = [report.request_client_order_id for report in reports if report.request_client_order_id]
    at_rest = [request.client_order_id for request in passed if request.kind != ATTACH]
    for number in asked:
        certain = [
            report.exec_type
            for report in reports
            if report.request_client_order_id == number and report.exec_type != ExecType.UNKNOWN
        ]
        assert len(certain) <= 1
        assert (number in told) != (number in at_rest)
    assert not rig.stage.orders.in_flight and not rig.stage.unsent
    assert json.dumps(sent)

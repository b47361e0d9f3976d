"""What each answer and each event does, at the level of the two sessions."""

import json

import numpy as np
import pytest

from common.enums import ExecType, OrderStatus, Phase, Reject, RequestKind
from processes.gateway.counters import Counter, Hop
from processes.gateway.session import OrderSession, StreamSession, VenueClock
from shm.counters import BUCKETS, summarize

MS = 1_000_000
SECOND = 1_000 * MS


class Rig:
    """An order session that may trade, and its clock."""

    def __init__(self, kit, **config):
        self.kit = kit
        self.values = np.zeros(len(Counter), np.int64)
        self.histograms = np.zeros((len(Hop), BUCKETS), np.int64)
        self.session = OrderSession(
            kit.config(**({"order_age_ms_max": 60_000} | config)),
            [kit.BTC],
            kit.credentials,
            self.values,
            self.histograms,
        )
        self.now = 10 * SECOND
        self.session.is_stream_up = True
        self.session.clock.take(3 * MS, self.now, self.now, kit.WALL_NS + self.now)

    def send(self, request=None, socket=1):
        """Send one request as the stage does; return its id and frame."""
        request = request or self.kit.request()
        assert self.session.check(request, self.now) is Reject.NONE
        request_id, frame = self.session.encode(request, self.now)
        entry = self.session.begin(request_id, request, self.now, socket)
        self.session.on_written(entry, self.now)
        self.session.on_sent(entry, self.now)
        return request_id, json.loads(frame)

    def answer(self, response):
        text = response if isinstance(response, bytes) else json.dumps(response).encode()
        return self.session.on_text(text, self.now)

    def count(self, counter):
        return int(self.values[counter])


@pytest.fixture
def rig(kit):
    return Rig(kit)


def test_a_frame_carries_the_venues_time(rig, kit):
    request_id, frame = rig.send()
    assert frame["id"] == request_id
    expected_ms = (kit.WALL_NS + rig.now + 3 * MS) // MS
    assert frame["params"]["timestamp"] == expected_ms
    rig.now += 7 * MS
    assert rig.send()[1]["params"]["timestamp"] == expected_ms + 7


def test_an_accepted_place_is_reported_with_its_hops(rig, kit):
    request_id, _ = rig.send()
    rig.now += 2 * MS
    (report,) = rig.answer(kit.accepted(request_id))
    assert (report.exec_type, report.order_status) == (ExecType.NEW, OrderStatus.NEW)
    assert (report.client_order_id, report.venue_order_id) == (kit.OWN_ID, 728811004512)
    assert (report.order_slot, report.intent_sequence, report.strategy_id) == (7, 3, 2)
    assert (report.risk_to_sent_ns, report.sent_to_ack_ns) == (5_000, 2 * MS)
    assert (report.recv_to_book_ns, report.book_to_strategy_ns) == (11, 12)
    assert report.ts_report_recv_ns == rig.now
    rig.session.record_hops()
    assert summarize(rig.histograms[Hop.RISK_TO_SENT])["max"] == 5_000
    assert summarize(rig.histograms[Hop.SENT_TO_ACK])["max"] == 2 * MS
    assert summarize(rig.histograms[Hop.RECV_TO_SENT])["max"] == SECOND
    assert not rig.session.in_flight and rig.count(Counter.ACKS) == 1


def test_answers_may_come_in_any_order(rig, kit):
    ids = [rig.send(kit.request(client_order_id=kit.OWN_ID + i))[0] for i in range(4)]
    for i in (2, 0, 3, 1):
        (report,) = rig.answer(kit.accepted(ids[i], orderId=100 + i))
        assert (report.client_order_id, report.venue_order_id) == (kit.OWN_ID + i, 100 + i)


UNKNOWN = [
    (503, -1000, "Unknown error, please check your request or try again later."),
    (400, -1006, "An unexpected response"),
    (408, -1007, "Timeout waiting for response from backend server."),
    (400, -1001, "Internal error; unable to process your request."),
    (400, -1000, "An unknown error occurred"),
    (400, -4116, "ClientOrderId is duplicated."),
    (504, 0, ""),
    (0, 0, ""),
]


@pytest.mark.parametrize("answer", UNKNOWN, ids=str)
@pytest.mark.parametrize("kind", [RequestKind.NEW, RequestKind.REPLACE, RequestKind.CANCEL])
def test_unknown_outcomes_are_told_as_unknown(rig, kit, answer, kind):
    status, code, message = answer
    request = kit.request(kind=kind, orig_client_order_id=kit.OWN_ID)
    request_id, _ = rig.send(request)
    (report,) = rig.answer(kit.failed(request_id, code, message, status))
    assert report.exec_type == ExecType.UNKNOWN and report.reject == Reject.NONE
    assert report.venue_code == code and report.client_order_id == kit.OWN_ID
    assert rig.count(Counter.UNKNOWN) == 1


@pytest.mark.parametrize(
    "result",
    [None, {}, [], "x", {"status": "NEXT"}, {"status": "NEW", "price": "1.05"}, {"status": 5}],
)
def test_a_good_status_with_a_bad_order_is_unknown(rig, result):
    request_id, _ = rig.send()
    (report,) = rig.answer({"id": request_id, "status": 200, "result": result})
    assert report.exec_type == ExecType.UNKNOWN
    assert rig.count(Counter.DECODE_ERRORS) == 1


@pytest.mark.parametrize(
    ("kind", "code", "exec_type", "reject"),
    [
        (RequestKind.NEW, -5022, ExecType.REJECTED, Reject.VENUE_POST_ONLY),
        (RequestKind.NEW, -2019, ExecType.REJECTED, Reject.VENUE),
        (RequestKind.CANCEL, -2011, ExecType.CANCEL_REJECTED, Reject.VENUE_UNKNOWN_ORDER),
        (RequestKind.REPLACE, -5027, ExecType.REPLACE_REJECTED, Reject.VENUE),
        (RequestKind.REPLACE, -2013, ExecType.REPLACE_REJECTED, Reject.VENUE_UNKNOWN_ORDER),
    ],
)
def test_clear_refusals_are_rejects(rig, kit, kind, code, exec_type, reject):
    request_id, _ = rig.send(kit.request(kind=kind, orig_client_order_id=kit.OWN_ID))
    (report,) = rig.answer(kit.failed(request_id, code))
    assert (report.exec_type, report.reject, report.venue_code) == (exec_type, reject, code)
    assert report.order_status == (OrderStatus.REJECTED if kind == RequestKind.NEW else 0)
    assert rig.count(Counter.REJECTS_VENUE) == 1


def test_a_request_without_an_answer_becomes_unknown_once_and_a_late_answer_still_counts(rig, kit):
    request_id, _ = rig.send()
    assert rig.session.next_deadline_ns() == rig.now + 3 * SECOND
    rig.now += 3 * SECOND
    assert rig.session.on_time(rig.now) == []
    rig.now += 1
    (report,) = rig.session.on_time(rig.now)
    assert report.exec_type == ExecType.UNKNOWN
    assert rig.session.on_time(rig.now + SECOND) == []
    assert rig.session.on_lost(1) == []  # told already
    (late,) = rig.answer(kit.accepted(request_id))
    assert late.exec_type == ExecType.NEW and rig.count(Counter.LATE_RESPONSES) == 1
    assert rig.answer(kit.accepted(request_id)) == []
    assert rig.count(Counter.RESPONSES_UNMATCHED) == 1


def test_only_what_was_in_flight_on_the_lost_socket_is_unknown(rig, kit):
    first, _ = rig.send(kit.request(client_order_id=kit.OWN_ID + 1), socket=1)
    rig.send(kit.request(client_order_id=kit.OWN_ID + 2), socket=2)
    rig.send(kit.request(client_order_id=kit.OWN_ID + 3), socket=1)
    rig.answer(kit.accepted(first))
    reports = rig.session.on_lost(1)
    assert [report.client_order_id for report in reports] == [kit.OWN_ID + 3]
    assert len(rig.session.in_flight) == 1


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"\xff", b'{"id":{}}', b'{"id":1,"status":"200"}', b"null"]
)
def test_a_frame_that_cannot_be_read_is_counted(rig, text):
    rig.send()
    assert rig.answer(text) == []
    assert rig.count(Counter.DECODE_ERRORS) == 1 and len(rig.session.in_flight) == 1


@pytest.mark.parametrize("strange_id", [None, "x", 10**30, -1, 999])
def test_an_answer_to_nobody_is_counted(rig, kit, strange_id):
    rig.send()
    assert rig.answer(kit.accepted(strange_id)) == []
    assert rig.count(Counter.RESPONSES_UNMATCHED) == 1 and len(rig.session.in_flight) == 1


# --- what may be sent --------------------------------------------------------------------------


def refusals(rig, kit):
    """Return the judgement on one NEW, one REPLACE and one CANCEL."""
    return [
        rig.session.check(kit.request(kind=kind, orig_client_order_id=kit.OWN_ID), rig.now)
        for kind in (RequestKind.NEW, RequestKind.REPLACE, RequestKind.CANCEL)
    ]


def test_all_may_be_sent_when_all_is_well(rig, kit):
    assert refusals(rig, kit) == [Reject.NONE] * 3


@pytest.mark.parametrize(
    ("attribute", "value", "reject", "counter"),
    [
        ("is_killed", True, Reject.KILLED, Counter.REFUSED_KILLED),
        ("phase", Phase.STOP_ORDERS, Reject.STOPPING, Counter.REFUSED_STOPPING),
        ("phase", Phase.EXIT, Reject.STOPPING, Counter.REFUSED_STOPPING),
        ("is_auth_refused", True, Reject.VENUE_AUTH, Counter.REFUSED_AUTH),
        ("is_spilling", True, Reject.GATEWAY_FULL, Counter.REFUSED_FULL),
        ("is_stream_up", False, Reject.GATEWAY_DOWN, Counter.REFUSED_DOWN),
    ],
)
def test_each_gate_stops_orders_and_lets_cancels_through(
    rig, kit, attribute, value, reject, counter
):
    setattr(rig.session, attribute, value)
    assert refusals(rig, kit) == [reject, reject, Reject.NONE]
    assert rig.count(counter) == 2


@pytest.mark.parametrize("offset_ms", [501, -501])
def test_a_clock_too_far_away_stops_orders(rig, kit, offset_ms):
    rig.session.clock.take(offset_ms * MS, rig.now, rig.now, kit.WALL_NS)
    assert refusals(rig, kit) == [Reject.CLOCK_OFFSET, Reject.CLOCK_OFFSET, Reject.NONE]
    rig.session.clock.take(offset_ms // abs(offset_ms) * 500 * MS, rig.now, rig.now, kit.WALL_NS)
    assert refusals(rig, kit) == [Reject.NONE] * 3


def test_an_old_or_unknown_clock_stops_orders(rig, kit):
    rig.now += 20 * SECOND
    assert refusals(rig, kit)[0] is Reject.NONE
    rig.now += 1
    assert refusals(rig, kit)[0] is Reject.CLOCK_OFFSET
    assert refusals(Rig(kit), kit)[0] is Reject.NONE
    unknown = Rig(kit)
    unknown.session.clock = VenueClock(SECOND)
    assert refusals(unknown, kit) == [Reject.CLOCK_OFFSET, Reject.CLOCK_OFFSET, Reject.NONE]


def test_an_order_that_waited_too_long_is_not_sent(kit):
    rig = Rig(kit, order_age_ms_max=1000)
    rig.now = kit.request().ts_pub_ns + SECOND
    assert refusals(rig, kit) == [Reject.NONE] * 3
    rig.now += 1
    assert refusals(rig, kit) == [Reject.GATEWAY_DOWN, Reject.GATEWAY_DOWN, Reject.NONE]
    assert rig.count(Counter.REFUSED_OLD) == 2


def test_too_much_in_flight_stops_orders(kit):
    rig = Rig(kit, in_flight_max=2)
    rig.send()
    rig.send()
    assert refusals(rig, kit) == [Reject.GATEWAY_FULL, Reject.GATEWAY_FULL, Reject.NONE]


def test_the_venues_counts_stop_orders_before_its_limit(rig, kit):
    request_id, _ = rig.send()
    response = kit.accepted(request_id)
    response["rateLimits"] = [
        {
            "rateLimitType": "ORDERS",
            "interval": "SECOND",
            "intervalNum": 10,
            "limit": 10,
            "count": 7,
        }
    ]
    rig.answer(response)
    assert refusals(rig, kit) == [Reject.VENUE_THROTTLE, Reject.VENUE_THROTTLE, Reject.NONE]


def test_a_limit_answer_backs_off_and_a_ban_stops_cancels_too(rig, kit):
    request_id, _ = rig.send()
    (report,) = rig.answer(kit.failed(request_id, -1015, "Too many new orders", 429))
    assert report.reject == Reject.VENUE_RATE and rig.count(Counter.RATE_LIMITED) == 1
    assert refusals(rig, kit) == [Reject.VENUE_THROTTLE, Reject.VENUE_THROTTLE, Reject.NONE]
    rig.now += SECOND
    request_id, _ = rig.send()
    until_ms = (rig.now + rig.session.clock.venue_minus_mono_ns) // MS + 2_000
    rig.answer(kit.failed(request_id, -1003, f"IP banned until {until_ms}.", 418))
    assert refusals(rig, kit) == [Reject.VENUE_THROTTLE] * 3 and rig.count(Counter.BANS) == 1
    rig.now += 2 * SECOND
    assert refusals(rig, kit) == [Reject.NONE] * 3


def test_a_refused_key_stops_orders_for_good(rig, kit):
    request_id, _ = rig.send()
    (report,) = rig.answer(kit.failed(request_id, -2015, "Invalid API-key", 401))
    assert report.reject == Reject.VENUE_AUTH
    assert refusals(rig, kit) == [Reject.VENUE_AUTH, Reject.VENUE_AUTH, Reject.NONE]
    revoked = Rig(kit)
    assert revoked.answer(kit.failed(None, -2015, "Invalid API-key", 401)) == []
    assert refusals(revoked, kit)[0] is Reject.VENUE_AUTH


@pytest.mark.parametrize("code", [-1021, -5028])
def test_a_refused_timestamp_stops_orders_until_the_clock_is_measured(rig, kit, code):
    request_id, _ = rig.send()
    (report,) = rig.answer(kit.failed(request_id, code))
    assert report.reject == Reject.CLOCK_OFFSET and report.exec_type == ExecType.REJECTED
    assert rig.session.is_clock_refused
    assert refusals(rig, kit)[0] is Reject.CLOCK_OFFSET
    rig.session.clock.take(0, rig.now, rig.now, kit.WALL_NS + rig.now)
    assert refusals(rig, kit)[0] is Reject.NONE


def test_a_step_of_the_wall_clock_changes_no_timestamp(kit):
    clock = VenueClock(SECOND)
    clock.take(5 * MS, 0, now_ns=0, wall_ns=kit.WALL_NS)
    before_ms = clock.venue_ms(SECOND)
    clock.forget()
    clock.guess(SECOND, kit.WALL_NS + 3_600 * SECOND)  # the wall clock has jumped by an hour
    assert clock.venue_ms(SECOND) == before_ms == (kit.WALL_NS + 5 * MS + SECOND) // MS


def test_a_cancel_goes_out_with_a_guessed_clock(kit):
    clock = VenueClock(SECOND)
    clock.guess(7, kit.WALL_NS + 7)
    assert clock.venue_ms(7) == kit.WALL_NS // MS and not clock.is_good(7)


# --- the stream --------------------------------------------------------------------------------


def new_stream(kit, **config):
    values = np.zeros(len(Counter), np.int64)
    return StreamSession(kit.config(**config), [kit.BTC], values), values


def order_event(kit, **values):
    facts = {
        **{"s": "BTCUSDT", "c": kit.OWN, "S": "BUY", "o": "LIMIT", "f": "GTX", "q": "0.010"},
        **{"p": "64200.00", "x": "TRADE", "X": "PARTIALLY_FILLED", "i": 728811004512},
        **{"l": "0.004", "z": "0.004", "L": "64200.00", "n": "0.05136000", "N": "USDT"},
        **{"t": 5512340091, "m": True, "R": False, "er": "0"},
    }
    event = {"e": "ORDER_TRADE_UPDATE", "E": 1784212803112, "T": 1784212803108}
    return json.dumps(event | {"o": facts | values}).encode()


def test_stream_events_are_counted_by_kind(kit):
    stream, values = new_stream(kit)
    (fill,) = stream.on_text(order_event(kit), 5)
    assert fill.last_qty_steps == 4 and fill.strategy_id == 2
    stream.on_text(order_event(kit, x="NEW", X="NEW", l="0", z="0", t=0), 6)
    stream.on_text(order_event(kit, N="BNB"), 7)
    stream.on_text(order_event(kit, s="XRPUSDT"), 8)
    for name in ("TRADE_LITE", "MARGIN_CALL", "listenKeyExpired"):
        assert stream.on_text(b'{"e":"%s"}' % name.encode(), 9) == ()
    stream.on_text(b'{"e":"ACCOUNT_UPDATE","a":{}}', 9)
    counted = {
        Counter.STREAM_EVENTS: 3,
        Counter.FILLS: 2,
        Counter.FOREIGN_FEES: 1,
        Counter.EVENTS_FOREIGN: 1,
        Counter.TRADE_LITES: 1,
        Counter.EVENTS_IGNORED: 1,
        Counter.KEYS_EXPIRED: 1,
        Counter.ACCOUNT_EVENTS: 1,
        Counter.DECODE_ERRORS: 0,
    }
    assert {counter: values[counter] for counter in counted} == counted
    assert stream.is_key_expired and not stream.is_broken


@pytest.mark.parametrize("text", [b"", b"{", b'{"e":"ORDER_TRADE_UPDATE","o":{}}'])
def test_an_event_that_cannot_be_read_breaks_the_stream(kit, text):
    stream, values = new_stream(kit)
    assert stream.on_text(text, 5) == () and stream.is_broken
    assert values[Counter.DECODE_ERRORS] == 1
    stream.on_up()
    assert not stream.is_broken


def test_a_stream_is_silent_if_nothing_follows_an_accepted_request(kit):
    stream, _ = new_stream(kit, stream_silent_ms_max=1000)
    assert not stream.is_silent(100 * SECOND)
    stream.on_accepted(ts_sent_ns=10 * SECOND, now_ns=11 * SECOND)
    stream.on_accepted(ts_sent_ns=11 * SECOND, now_ns=11 * SECOND + 500 * MS)
    assert not stream.is_silent(12 * SECOND)
    assert stream.is_silent(12 * SECOND + 1)
    stream.on_text(order_event(kit), 12 * SECOND)
    assert not stream.is_silent(100 * SECOND)


def test_an_event_before_its_response_counts(kit):
    stream, _ = new_stream(kit, stream_silent_ms_max=1000)
    stream.on_text(order_event(kit), 10 * SECOND + 1)
    stream.on_accepted(ts_sent_ns=10 * SECOND, now_ns=11 * SECOND)
    assert not stream.is_silent(100 * SECOND)
    stream.on_accepted(ts_sent_ns=12 * SECOND, now_ns=12 * SECOND)
    stream.on_text(b'{"e":"ACCOUNT_UPDATE","a":{}}', 12 * SECOND + 5)  # no order event
    assert stream.is_silent(14 * SECOND)
    stream.on_up()
    assert not stream.is_silent(14 * SECOND)

"""Gateway and rest against the local venue over real sockets on the loopback, plain and TLS."""

import contextlib
import json
import select
import socket
import threading
from pathlib import Path

import numpy as np
import pytest

from common import clock, order_ids
from common.binance import Credentials
from common.enums import (
    ExecType,
    LiquiditySide,
    OrderStatus,
    OrderType,
    Phase,
    Reject,
    ReportKind,
    ReportSource,
    RequestKind,
    RestKind,
    Side,
    TimeInForce,
)
from common.instruments import Instrument, InstrumentFacts
from common.messages import OrderRequest, read_reports, requests_array
from common.records import REST_REQUEST
from processes.gateway import app as gateway_app
from processes.gateway.app import new_link
from processes.gateway.config import GatewayConfig
from processes.gateway.counters import HISTOGRAMS, LABELS, Counter
from processes.gateway.session import OrderSession, StreamSession
from processes.gateway.stage import GatewayStage
from processes.rest import app as rest_app
from processes.rest import counters as rest_counters
from processes.rest.config import RestConfig
from processes.rest.http import HttpShell
from processes.rest.protocol import Protocol
from processes.rest.stage import RestStage, Rings
from processes.rest.watch import GatewayWatch
from processes.transport import client_tls
from processes.venue.app import VenueThread
from processes.venue.config import AccountConfig, SymbolConfig, VenueConfig
from shm.counters import anonymous_counters
from shm.latch import anonymous_latch
from shm.ring import MARKET, anonymous_ring

from support import wait_until

NEW, REPLACE, CANCEL = RequestKind.NEW, RequestKind.REPLACE, RequestKind.CANCEL
BTC = Instrument(
    instrument_id=0,
    venue="binance-usdm",
    symbol="BTCUSDT",
    facts=InstrumentFacts(
        tick_size="0.10",
        lot_size="0.001",
        price_decimals=2,
        qty_decimals=3,
        min_notional="100",
        max_qty="1000",
    ),
)
KEYS = {"one": ("key-one", "secret-one"), "two": ("key-two", "secret-two")}


def venue_config(tls_folder: Path | None) -> VenueConfig:
    """One symbol without a flow of its own, two accounts."""
    return VenueConfig(
        tls=tls_folder is not None,
        ca_file=str(tls_folder / "ca.pem") if tls_folder else "",
        symbols={"BTCUSDT": SymbolConfig(price="64000", max_price="4529764", order_qty="0.05")},
        accounts=[
            AccountConfig(name=name, api_key=key, secret_key=secret)
            for name, (key, secret) in KEYS.items()
        ],
    )


class Alive:
    """A status page that says what the test wants."""

    def __init__(self):
        self.is_held = 1

    def read(self):
        now_ns = clock.now_ns()
        return {
            "state": "READY",
            "heartbeat_ns": now_ns,
            "start_ns": now_ns,
            "pid": 1,
            "held": self.is_held,
        }

    def close(self):
        pass


class Rig:
    """Gateway and rest of one account, driven by the test, at a venue on a thread."""

    session_count = 0

    def __init__(self, venue: VenueThread, ca_file: str, api_port: int = 0, **config):
        self.venue = venue
        tls = "s" if ca_file else ""
        http, ws = f"http{tls}://127.0.0.1:{venue.port}", f"ws{tls}://127.0.0.1:{venue.port}"
        api = f"ws{tls}://127.0.0.1:{api_port or venue.port}/ws-fapi/v1"
        self.requests, requests_in = anonymous_ring("ORDER_REQUEST", 256)
        self.rest_requests, rest_requests_in = anonymous_ring("REST_REQUEST", 64)
        self.book_requests, book_requests_in = anonymous_ring("REST_REQUEST", 64)
        gateway_out, self.gateway_reports = anonymous_ring("REPORT", 1024)
        rest_out, self.rest_reports = anonymous_ring("REPORT", 1024)
        fallback_out, fallback_in = anonymous_ring("ORDER_REQUEST", 64)
        sessions_out, sessions_in = anonymous_ring("SESSION", 64)
        snapshots_out, self.snapshots = anonymous_ring(MARKET, 4096)
        self.kill = anonymous_latch()
        self.alive = Alive()
        credentials = Credentials(*KEYS["one"])
        self.counters = anonymous_counters(LABELS, HISTOGRAMS)
        self.rest_counters = anonymous_counters(rest_counters.LABELS, rest_counters.HISTOGRAMS)
        gateway = GatewayConfig(**({"reconnect_ms_min": 20, "reconnect_ms_max": 200} | config))
        context = client_tls(Path(ca_file) if ca_file else None)
        order_link = new_link("order", gateway, context, 94)
        order_link.set_url(api, clock.now_ns())
        self.gateway = GatewayStage(
            OrderSession(
                gateway, [BTC], credentials, self.counters.values, self.counters.histograms
            ),
            StreamSession(gateway, [BTC], self.counters.values),
            order_link,
            new_link("stream", gateway, context, 100),
            f"{ws}/private",
            requests_in,
            sessions_in,
            gateway_out,
            fallback_out,
            self.counters,
            self.kill.words,
            clock,
        )
        rest = RestConfig(clock_every_ms=200, countdown_ms=10_000)
        self.rest = RestStage(
            Protocol(rest, [BTC], "EXPIRE_TAKER", self.rest_counters.values),
            Rings(
                book_requests_in,
                rest_requests_in,
                fallback_in,
                rest_out,
                snapshots_out,
                sessions_out,
            ),
            HttpShell(http, ca_file, 3_000, clock.now_ns),
            credentials,
            self.rest_counters,
            self.kill.words,
            GatewayWatch(self.alive, 10**10),
            clock,
        )
        self.other = HttpShell(http, ca_file, 3_000, clock.now_ns)
        self.other_answers = {}
        self.reports = []
        self.number = 0
        Rig.session_count += 1  # an id is never used twice at a venue
        self.session = Rig.session_count

    def pump(self):
        """One turn of everything."""
        self.gateway.do_work(clock.now_ns())
        self.rest.do_work(clock.now_ns())
        self.reports += read_reports(self.gateway_reports.read(1000))
        self.reports += read_reports(self.rest_reports.read(1000))
        self.other_answers.update(self.other.poll())

    def wait(self, condition, what, deadline_s=10.0):
        def is_met():
            self.pump()
            return condition()

        wait_until(is_met, what, deadline_s)
        return self

    def up(self):
        self.wait(lambda: self.gateway.is_ready() and self.rest.is_ready(), "session")
        self.reports.clear()
        return self

    def ask(self, kind=NEW, **values):
        """Send one request; return its own id."""
        self.number += 1
        facts = {
            "kind": kind,
            "side": Side.BID,
            "order_type": OrderType.LIMIT,
            "time_in_force": TimeInForce.GTX,
            "instrument_id": 0,
            "client_order_id": order_ids.pack(self.session, 0, self.number),
            "intent_sequence": self.number,
            "price_steps": 639_000,
            "order_qty_steps": 10,
            "ts_pub_ns": clock.now_ns(),
            "ts_recv_ns": clock.now_ns() - 1000,
        }
        request = OrderRequest(**(facts | values))
        assert self.requests.try_write(requests_array([request]))
        self.pump()
        return request.client_order_id

    def told(self, **wanted):
        """Return the reports with these fields."""
        return [
            report
            for report in self.reports
            if all(getattr(report, name) == value for name, value in wanted.items())
        ]

    def wait_for(self, count=1, **wanted):
        """Wait for reports with these fields; return the last one."""
        self.wait(lambda: len(self.told(**wanted)) >= count, f"report {wanted}")
        return self.told(**wanted)[-1]

    def query(self, kind, **values):
        record = np.zeros(1, REST_REQUEST)
        record["kind"] = kind
        for name, value in values.items():
            record[name] = value
        assert self.rest_requests.try_write(record)

    def fault(self, **command):
        faults = self.venue.venue.faults
        status, text = self.venue.call(
            lambda: faults.command(
                json.dumps(command),
                "127.0.0.1",
                list(self.venue.venue.sockets.items()),
                self.venue.venue.now_ms(),
            )
        )
        assert status == 200, text

    def trade(self, side, qty, price=""):
        """Let the other account trade."""
        params = {"symbol": "BTCUSDT", "side": side, "quantity": qty, "type": "MARKET"}
        if price:
            params |= {"type": "LIMIT", "timeInForce": "GTC", "price": price}
        exchange = self.venue.venue.exchange
        return self.venue.call(
            lambda: exchange.trading.place(
                exchange.account_ids[1], params, self.venue.venue.now_ms()
            )
        )

    def hold_down(self, link):
        """Let a link not come back until the test says so."""
        if link.opening is not None:
            link.give_up_opening("held down", clock.now_ns(), is_failure=False)
        link.retry_ns = clock.now_ns() + 10**12

    def open_orders(self):
        exchange = self.venue.venue.exchange
        found = self.venue.call(
            lambda: exchange.trading.open_orders(exchange.account_ids[0], "BTCUSDT")
        )
        return list(found)

    def count(self, counter):
        return int(self.counters.values[counter])

    def rest_count(self, counter):
        return int(self.rest_counters.values[counter])

    def close(self):
        self.gateway.close()
        self.rest.close()
        self.other.close()


class CuttingProxy:
    """Passes bytes on to a port, until it is told to cut behind the next `left` client bytes."""

    def __init__(self, port):
        self.port = port
        self.left = None
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.own_port = self.listener.getsockname()[1]
        self.is_ended = False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.is_ended:
            if select.select([self.listener], [], [], 0.02)[0]:
                client, _ = self.listener.accept()
                with client, socket.create_connection(("127.0.0.1", self.port)) as server:
                    with contextlib.suppress(OSError):
                        self.carry(client, server)

    def carry(self, client, server):
        while not self.is_ended:
            for source in select.select([client, server], [], [], 0.02)[0]:
                data = source.recv(65_536)
                if not data:
                    return
                if source is server:
                    client.sendall(data)
                    continue
                if self.left is not None:
                    data = data[: self.left]
                    self.left -= len(data)
                server.sendall(data)
                if self.left == 0:
                    server.shutdown(socket.SHUT_WR)
                    self.left = None
                    return

    def close(self):
        self.is_ended = True
        self.thread.join()
        self.listener.close()


@pytest.fixture(scope="module", autouse=True)
def kernels():
    """Compile before anything is timed."""
    gateway_app.warm_up()
    rest_app.warm_up()


@pytest.fixture(scope="module")
def plain_venue():
    with VenueThread(venue_config(None), [BTC]) as venue:
        yield venue, ""


@pytest.fixture
def proxy(plain_venue):
    made = CuttingProxy(plain_venue[0].port)
    yield made
    made.close()


@pytest.fixture(scope="module")
def tls_venue(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    with VenueThread(venue_config(folder), [BTC]) as venue:
        yield venue, str(folder / "ca.pem")


@pytest.fixture
def new_rig():
    made = []

    def make(where, **config):
        made.append(Rig(*where, **config))
        return made[-1].up()

    yield make
    for rig in made:
        venue = rig.venue.venue
        venue.faults.lost = venue.faults.unknown = venue.faults.answers_late_ms = 0
        venue.exchange.clock_skew_ms = 0
        rig.kill.set(0)
        rig.wait(lambda rig=rig: not rig.open_orders(), "nothing left open")
        rig.close()


@pytest.fixture
def rig(new_rig, plain_venue):
    return new_rig(plain_venue)


@pytest.fixture(params=["plain", "tls"])
def any_rig(request, new_rig):
    return new_rig(request.getfixturevalue(f"{request.param}_venue"))


RESPONSE, STREAM = ReportSource.RESPONSE, ReportSource.STREAM


def test_place_amend_fill_cancel(any_rig):
    rig = any_rig
    order = rig.ask(order_slot=5)
    placed = rig.wait_for(source=RESPONSE, exec_type=ExecType.NEW, client_order_id=order)
    assert (placed.order_slot, placed.price_steps, placed.order_qty_steps) == (5, 639_000, 10)
    assert placed.risk_to_sent_ns > 0 and placed.sent_to_ack_ns > 0
    seen = rig.wait_for(source=STREAM, exec_type=ExecType.NEW, client_order_id=order)
    assert seen.venue_order_id == placed.venue_order_id > 0

    rig.ask(REPLACE, orig_client_order_id=order, price_steps=639_010, order_qty_steps=8)
    rig.wait_for(source=RESPONSE, exec_type=ExecType.REPLACED, client_order_id=order)
    amended = rig.wait_for(source=STREAM, exec_type=ExecType.REPLACED, client_order_id=order)
    assert (amended.price_steps, amended.order_qty_steps) == (639_010, 8)

    rig.trade("SELL", "0.003", "63901.00")
    fill = rig.wait_for(source=STREAM, exec_type=ExecType.TRADE, client_order_id=order)
    assert (fill.last_qty_steps, fill.last_px_steps, fill.cum_qty_steps) == (3, 639_010, 3)
    assert fill.liquidity_side == LiquiditySide.MAKER and fill.exec_id > 0
    assert fill.fee_e8 == 63901 * 3 * 10**5 // 10**3 * 10**3 * 2 // 10 // 1000  # 2 bps
    assert fill.order_status == OrderStatus.PARTIALLY_FILLED and fill.leaves_qty_steps == 5
    rig.wait_for(kind=ReportKind.POSITION, source=STREAM)

    rig.ask(CANCEL, orig_client_order_id=order)
    canceled = rig.wait_for(source=RESPONSE, exec_type=ExecType.CANCELED, client_order_id=order)
    assert (canceled.cum_qty_steps, canceled.leaves_qty_steps) == (3, 0)
    rig.wait_for(source=STREAM, exec_type=ExecType.CANCELED, client_order_id=order)
    assert rig.gateway.is_drained() and rig.count(Counter.DECODE_ERRORS) == 0
    assert rig.count(Counter.ACKS) == 3 and rig.open_orders() == []


def test_a_round_agrees_with_the_fills(rig):
    started_ns = clock.now_wall_ns() - 1_000_000_000
    order = rig.ask()
    rig.wait_for(source=RESPONSE, exec_type=ExecType.NEW, client_order_id=order)
    rig.trade("SELL", "0.004", "63900.00")
    fill = rig.wait_for(source=STREAM, exec_type=ExecType.TRADE, client_order_id=order)
    rig.query(RestKind.RECONCILE, instrument_id=-1, request_id=9, ts_session_ns=started_ns)
    end = rig.wait_for(kind=ReportKind.RECONCILE_END, request_id=9)
    assert end.reject == Reject.NONE
    (still_open,) = rig.told(kind=ReportKind.OPEN_ORDER, client_order_id=order)
    assert (still_open.cum_qty_steps, still_open.leaves_qty_steps) == (4, 6)
    trades = rig.told(kind=ReportKind.ACCOUNT_TRADE, exec_id=fill.exec_id)
    assert [(t.last_qty_steps, t.last_px_steps, t.fee_e8, t.venue_order_id) for t in trades] == [
        (4, 639_000, fill.fee_e8, fill.venue_order_id)
    ]
    position = rig.told(kind=ReportKind.POSITION, request_id=9)[0]
    streamed = rig.told(kind=ReportKind.POSITION, source=STREAM)[-1]
    assert position.position_steps == streamed.position_steps
    assert rig.told(kind=ReportKind.BALANCE, request_id=9)[0].amount_e8 > 0


def test_the_venues_refusals(rig):
    rig.trade("SELL", "0.100", "64100.00")
    crossing = rig.ask(price_steps=641_000)
    refused = rig.wait_for(exec_type=ExecType.REJECTED, client_order_id=crossing)
    assert (refused.reject, refused.venue_code) == (Reject.VENUE_POST_ONLY, -5022)
    gone = order_ids.pack(1, 0, 999)
    rig.ask(CANCEL, orig_client_order_id=gone)
    refused = rig.wait_for(exec_type=ExecType.CANCEL_REJECTED, client_order_id=gone)
    assert (refused.reject, refused.venue_code) == (Reject.VENUE_UNKNOWN_ORDER, -2011)
    tiny = rig.ask(order_qty_steps=1)
    assert rig.wait_for(client_order_id=tiny, source=RESPONSE).venue_code == -4164
    taking = rig.ask(price_steps=641_000, order_qty_steps=300, time_in_force=TimeInForce.IOC)
    rig.wait_for(source=STREAM, exec_type=ExecType.TRADE, client_order_id=taking)
    expired = rig.wait_for(source=STREAM, exec_type=ExecType.EXPIRED, client_order_id=taking)
    assert (expired.order_status, expired.cum_qty_steps) == (OrderStatus.EXPIRED, 100)
    assert rig.count(Counter.REJECTS_VENUE) == 3


def test_the_order_socket_is_killed_and_rest_takes_over(any_rig):
    rig = any_rig
    first = rig.ask()
    rig.wait_for(source=RESPONSE, exec_type=ExecType.NEW, client_order_id=first)
    rig.fault(do="disconnect", kind="api")
    rig.wait_for(kind=ReportKind.SESSION_DOWN, source=RESPONSE)
    rig.hold_down(rig.gateway.order_link)
    second = rig.ask(price_steps=638_000)
    placed = rig.wait_for(exec_type=ExecType.NEW, source=RESPONSE, client_order_id=second)
    assert placed.sent_to_ack_ns > 0 and rig.count(Counter.FALLBACKS) == 1
    rig.ask(REPLACE, orig_client_order_id=second, price_steps=638_500)
    rig.wait_for(exec_type=ExecType.REPLACED, source=RESPONSE, client_order_id=second)
    rig.ask(CANCEL, orig_client_order_id=first)
    rig.wait_for(exec_type=ExecType.CANCELED, source=STREAM, client_order_id=first)
    rig.gateway.order_link.retry_ns = 0
    rig.wait_for(kind=ReportKind.SESSION_UP, source=RESPONSE)
    rig.ask(CANCEL, orig_client_order_id=second)
    rig.wait_for(exec_type=ExecType.CANCELED, source=STREAM, client_order_id=second)
    assert rig.rest_count(rest_counters.Counter.ORDERS_SENT) == 3


@pytest.mark.parametrize("fault", ["order_lost", "order_unknown"])
def test_an_unclear_outcome_is_unknown_and_a_query_finds_the_order(new_rig, plain_venue, fault):
    rig = new_rig(plain_venue, request_timeout_ms=300)
    rig.fault(do=fault)
    order = rig.ask()
    rig.wait_for(exec_type=ExecType.UNKNOWN, client_order_id=order)
    rig.query(RestKind.ORDER_QUERY, instrument_id=0, request_id=4, client_order_id=order)
    found = rig.wait_for(source=ReportSource.QUERY, client_order_id=order)
    assert (found.exec_type, found.order_status) == (ExecType.STATUS, OrderStatus.NEW)
    assert found.request_id == 4 and len(rig.open_orders()) == 1


def test_a_socket_cut_with_a_request_in_flight_is_unknown_once(rig):
    rig.fault(do="slow_answers", ms=2_000)
    order = rig.ask()
    rig.wait_for(source=STREAM, exec_type=ExecType.NEW, client_order_id=order)
    rig.fault(do="disconnect", kind="api")
    rig.wait_for(exec_type=ExecType.UNKNOWN, client_order_id=order)
    rig.wait_for(kind=ReportKind.SESSION_UP, source=RESPONSE)
    rig.fault(do="slow_answers", ms=0)
    assert len(rig.told(exec_type=ExecType.UNKNOWN)) == 1
    assert len(rig.open_orders()) == 1 and rig.count(Counter.ORDERS_SENT) == 1


def test_a_connection_cut_behind_any_byte_of_the_request_leaves_it_unknown(
    new_rig, plain_venue, proxy
):
    """The order is at the venue or it is not; we say UNKNOWN once and never send it again."""
    rig = new_rig(plain_venue, api_port=proxy.own_port)
    rig.gateway.orders.last_id = 1_000  # so that every frame is equally long
    length = len(rig.gateway.orders.encode(request_like(rig), clock.now_ns())[1]) + 8  # the head
    landed = []
    for left in (1, 2, 7, 8, 9, 60, 200, length - 2, length - 1, length, length + 1):
        rig.wait(lambda: rig.gateway.order_link.is_up, "order socket")
        proxy.left = left
        order = rig.ask(price_steps=630_000)
        if left > length:  # the cut waits for one byte more: that of the next frame
            rig.wait_for(exec_type=ExecType.NEW, source=RESPONSE, client_order_id=order)
            rig.gateway.order_link.current.socket.ping()
        rig.wait(lambda: not rig.gateway.order_link.is_up, "the cut")
        if left <= length:
            rig.wait_for(client_order_id=order, source=RESPONSE)
        told = rig.told(client_order_id=order, source=RESPONSE)
        assert len(told) == 1
        assert told[0].exec_type in (ExecType.UNKNOWN, ExecType.NEW)
        assert left >= length or told[0].exec_type == ExecType.UNKNOWN
        rig.query(RestKind.ORDER_QUERY, instrument_id=0, request_id=order, client_order_id=order)
        found = rig.wait_for(source=ReportSource.QUERY, client_order_id=order)
        landed.append(found.order_status == OrderStatus.NEW)
        assert found.order_status in (0, OrderStatus.NEW)
    assert landed == [False] * 9 + [True] * 2
    assert len(rig.open_orders()) == 2


def request_like(rig):
    """Return an order as `ask` would send it next."""
    return OrderRequest(
        kind=NEW,
        side=Side.BID,
        order_type=OrderType.LIMIT,
        time_in_force=TimeInForce.GTX,
        instrument_id=0,
        client_order_id=order_ids.pack(rig.session, 0, rig.number + 1),
        price_steps=630_000,
        order_qty_steps=10,
    )


def test_a_late_answer_follows_unknown(new_rig, plain_venue):
    rig = new_rig(plain_venue, request_timeout_ms=200)
    rig.fault(do="slow_answers", ms=600)
    order = rig.ask()
    rig.wait_for(exec_type=ExecType.UNKNOWN, client_order_id=order)
    rig.wait_for(exec_type=ExecType.NEW, source=RESPONSE, client_order_id=order)
    assert rig.count(Counter.LATE_RESPONSES) == 1


def test_an_order_whose_owner_is_overloaded_is_a_reject(rig):
    rig.fault(do="order_overloaded")
    order = rig.ask()
    refused = rig.wait_for(exec_type=ExecType.REJECTED, client_order_id=order)
    assert (refused.reject, refused.venue_code) == (Reject.VENUE_RATE, -1008)


def test_the_stream_is_cut_and_comes_back(rig):
    rig.fault(do="disconnect", kind="private")
    rig.wait_for(kind=ReportKind.SESSION_DOWN, source=STREAM)
    blind = rig.ask()
    assert rig.wait_for(client_order_id=blind).reject == Reject.GATEWAY_DOWN
    rig.wait_for(kind=ReportKind.SESSION_UP, source=STREAM)
    order = rig.ask()
    rig.wait_for(source=STREAM, exec_type=ExecType.NEW, client_order_id=order)


def test_an_expired_listen_key_is_replaced(rig):
    rig.fault(do="expire_listen_key", account=0)
    rig.wait_for(kind=ReportKind.SESSION_DOWN, source=STREAM)
    rig.wait_for(kind=ReportKind.SESSION_UP, source=STREAM)
    order = rig.ask()
    rig.wait_for(source=STREAM, exec_type=ExecType.NEW, client_order_id=order)
    assert rig.count(Counter.KEYS_EXPIRED) == 1


def test_a_venue_clock_too_far_away_stops_orders_not_cancels(rig):
    order = rig.ask()
    rig.wait_for(exec_type=ExecType.NEW, source=RESPONSE, client_order_id=order)
    rig.fault(do="skew_clock", ms=700)
    rig.wait(lambda: rig.count(Counter.CLOCK_OFFSET_NS) > 500_000_000, "the offset seen")
    stopped = rig.ask()
    assert rig.wait_for(client_order_id=stopped).reject == Reject.CLOCK_OFFSET
    rig.ask(CANCEL, orig_client_order_id=order)
    rig.wait_for(exec_type=ExecType.CANCELED, source=RESPONSE, client_order_id=order)


def test_a_liquidation_is_a_fill_of_nobody(rig):
    rig.trade("BUY", "0.100", "63800.00")
    rig.fault(do="autoclose", account=0, symbol="BTCUSDT", side="SELL", qty="0.002")
    fill = rig.wait_for(source=STREAM, client_order_id=0, last_qty_steps=2)
    assert fill.strategy_id == 255 and fill.exec_id > 0 and fill.side == Side.ASK


def test_a_kill_cancels_everything_over_rest_and_stops_orders(rig):
    orders = [rig.ask(price_steps=630_000 + i) for i in range(3)]
    for order in orders:
        rig.wait_for(source=RESPONSE, exec_type=ExecType.NEW, client_order_id=order)
    rig.kill.set(0)
    for order in orders:
        rig.wait_for(source=STREAM, exec_type=ExecType.CANCELED, client_order_id=order)
    stopped = rig.ask()
    assert rig.wait_for(client_order_id=stopped).reject == Reject.KILLED
    assert rig.open_orders() == []


def test_a_dead_gateway_is_canceled_for(rig):
    order = rig.ask()
    rig.wait_for(source=RESPONSE, exec_type=ExecType.NEW, client_order_id=order)
    rig.alive.is_held = 0
    rig.wait(lambda: not rig.open_orders(), "orders canceled")
    assert rig.rest_count(rest_counters.Counter.EMERGENCIES) == 1
    rig.alive.is_held = 1


def test_a_snapshot_comes_from_the_venue(rig):
    rig.trade("BUY", "0.050", "63700.00")
    record = np.zeros(1, REST_REQUEST)
    record["kind"], record["request_id"] = RestKind.SNAPSHOT, 3
    rig.book_requests.try_write(record)
    rig.wait(lambda: rig.snapshots.stats()["lag"] > 0, "snapshot")
    assert rig.rest_count(rest_counters.Counter.SNAPSHOTS) == 1


def test_an_orderly_end_disarms_the_dead_man(rig):
    order = rig.ask()
    rig.wait_for(source=RESPONSE, exec_type=ExecType.NEW, client_order_id=order)
    for stage in (rig.gateway, rig.rest):
        stage.on_phase(Phase.STOP_ORDERS, clock.now_ns())
    stopped = rig.ask()
    assert rig.wait_for(client_order_id=stopped).reject == Reject.STOPPING
    rig.wait(lambda: rig.rest.is_drained() and rig.gateway.is_drained(), "drained")
    assert rig.open_orders() == []  # risk did not cancel, so rest did
    exchange = rig.venue.venue.exchange
    assert not rig.venue.call(lambda: list(exchange.trading.countdowns))


def test_a_rotation_loses_nothing(new_rig, plain_venue):
    rig = new_rig(plain_venue, rotate_s=1, overlap_ms=200)
    orders = []
    while rig.gateway.order_link.count < 3 or rig.gateway.stream_link.count < 3:
        order = rig.ask(price_steps=630_000)
        orders.append(order)
        rig.wait_for(source=RESPONSE, exec_type=ExecType.NEW, client_order_id=order)
        rig.wait_for(source=STREAM, exec_type=ExecType.NEW, client_order_id=order)
        rig.ask(CANCEL, orig_client_order_id=order)
        rig.wait_for(source=STREAM, exec_type=ExecType.CANCELED, client_order_id=order)
        pause_until_ns = clock.now_ns() + 30_000_000  # within the order limit
        rig.wait(lambda due_ns=pause_until_ns: clock.now_ns() > due_ns, "a pause")
    assert not rig.told(kind=ReportKind.SESSION_DOWN)
    assert not rig.told(exec_type=ExecType.UNKNOWN)
    for order in orders:
        assert len(rig.told(source=RESPONSE, exec_type=ExecType.NEW, client_order_id=order)) == 1

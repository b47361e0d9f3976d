"""The process on real loopback sockets: one port for all, TLS, start and stop."""

import asyncio
import hashlib
import hmac
import json
import ssl
import subprocess
import sys

import aiohttp
import pytest

from common import clock
from common.errors import UnavailableError
from processes.venue.app import Venue, VenueThread
from processes.venue.config import CaptureConfig, FaultConfig, FlowConfig

from support import ROOT, wait_until

FLOW = FlowConfig(seed=7)
DEADLINE_S = 20.0


def sign(payload):
    return hmac.new(b"secret-one", payload.encode(), hashlib.sha256).hexdigest()


def now_ms():
    return clock.now_wall_ns() // 1_000_000


class Client:
    """A client of one venue on loopback."""

    def __init__(self, http, base, context=None):
        self.http = http
        self.base = base
        self.context = context

    async def ask(self, method, path, signed=False, **params):
        """Send one REST request; (status, body)."""
        query = "&".join(f"{k}={v}" for k, v in params.items())
        if signed:
            query += f"{'&' if query else ''}timestamp={now_ms()}"
            query += f"&signature={sign(query)}"
        url = f"{self.base}{path}" + (f"?{query}" if query else "")
        headers = {"X-MBX-APIKEY": "key-one"}
        async with self.http.request(method, url, headers=headers, ssl=self.context) as answer:
            return answer.status, await answer.json()

    async def connect(self, path):
        """Open a WebSocket."""
        return await self.http.ws_connect(f"{self.base}{path}", ssl=self.context)

    async def call(self, socket, method, **params):
        """Send one WebSocket API request."""
        params |= {"apiKey": "key-one", "timestamp": now_ms()}
        params["signature"] = sign("&".join(f"{k}={params[k]}" for k in sorted(params)))
        await socket.send_json({"id": 1, "method": method, "params": params})
        return await socket.receive_json(timeout=DEADLINE_S)


def serve(config, instruments, scenario, scheme="http", context=True):
    """Run a scenario with a client against a fresh venue."""

    async def run():
        async with Venue(config, instruments) as venue:
            verify = None
            if scheme == "https":
                verify = ssl.create_default_context(cafile=config.ca_file) if context else None
            async with aiohttp.ClientSession() as http:
                client = Client(http, f"{scheme}://127.0.0.1:{venue.port}", verify or True)
                await asyncio.wait_for(scenario(client, venue), DEADLINE_S)

    asyncio.run(run())


async def events(socket, count):
    """Return the next text frames, decoded."""
    return [await socket.receive_json(timeout=DEADLINE_S) for _ in range(count)]


async def until(socket, wanted):
    """Return the frames up to the first for which `wanted` holds."""
    frames = []
    while not frames or not wanted(frames[-1]):
        frames += await events(socket, 1)
    return frames


def test_book_rebuilt_over_a_socket_equals_the_engine(venue_config, venue_instruments):
    async def scenario(client, venue):
        socket = await client.connect("/public/stream?streams=btcusdt@depth@100ms")
        buffered = await events(socket, 2)
        _, book = await client.ask("GET", "/fapi/v1/depth", symbol="BTCUSDT", limit=1000)
        sides = {"b": dict(book["bids"]), "a": dict(book["asks"])}
        last, started, checked = book["lastUpdateId"], False, 0
        while checked < 3:
            event = (buffered.pop(0) if buffered else (await events(socket, 1))[0])["data"]
            if event["u"] < last:
                continue
            if started:
                assert event["pu"] == last
            else:
                assert event["U"] <= last <= event["u"]
                started = True
            for side in ("b", "a"):
                for price, qty in event[side]:
                    sides[side][price] = qty
            last = event["u"]
            bids, asks = venue.exchange.market.depth(0, 1_000)
            if last == venue.exchange.market.last_update_id(0):
                texts = venue.exchange.texts[0]
                for side, levels in (("b", bids), ("a", asks)):
                    held = {p: q for p, q in sides[side].items() if float(q)}
                    assert held == {texts.price(p): texts.qty(q) for p, q in levels}
                checked += 1

    serve(venue_config(flow=FLOW), venue_instruments, scenario)


def test_order_life_over_websocket_and_rest_with_user_events(venue_config, venue_instruments):
    async def scenario(client, venue):
        _, body = await client.ask("POST", "/fapi/v1/listenKey")
        user = await client.connect(f"/private/ws/{body['listenKey']}")
        api = await client.connect("/ws-fapi/v1")
        bid = venue.exchange.texts[0].price(venue.exchange.market.best(0)[0] - 500)
        order = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTX",
                 "quantity": "0.010", "price": bid, "newClientOrderId": "w-1"}  # fmt: skip
        answer = await client.call(api, "order.place", **order)
        assert answer["status"] == 200
        status, body = await client.ask(
            "PUT", "/fapi/v1/order", True, symbol="BTCUSDT", side="BUY", quantity="0.020",
            price=bid, origClientOrderId="w-1",
        )  # fmt: skip
        assert (status, body["origQty"]) == (200, "0.020")
        answer = await client.call(api, "order.cancel", symbol="BTCUSDT", origClientOrderId="w-1")
        assert answer["result"]["status"] == "CANCELED"
        market = {"symbol": "BTCUSDT", "side": "SELL", "type": "MARKET", "quantity": "0.010"}
        status, body = await client.ask(
            "POST", "/fapi/v1/order", True, **market, newOrderRespType="RESULT"
        )
        assert (status, body["status"]) == (200, "FILLED")
        frames = await until(user, lambda e: e.get("o", {}).get("X") == "FILLED")
        assert [e["o"]["x"] for e in frames if e["e"] == "ORDER_TRADE_UPDATE"][:4] == [
            "NEW",
            "AMENDMENT",
            "CANCELED",
            "NEW",
        ]
        _, fills = await client.ask("GET", "/fapi/v1/userTrades", True, symbol="BTCUSDT")
        told = [e["o"]["t"] for e in frames if e.get("o", {}).get("x") == "TRADE"]
        assert told == [fill["id"] for fill in fills]

    serve(venue_config(flow=FLOW), venue_instruments, scenario)


def test_every_route_and_form_answers(venue_config, venue_instruments):
    async def scenario(client, venue):
        raw = await client.connect("/public/ws/btcusdt@bookTicker")
        assert (await events(raw, 1))[0]["e"] == "bookTicker"
        market = await client.connect("/market/stream?streams=btcusdt@trade/btcusdt@aggTrade")
        await until(market, lambda f: f["stream"] == "btcusdt@trade")
        await until(market, lambda f: f["stream"] == "btcusdt@aggTrade")
        legacy = await client.connect("/ws/btcusdt@trade/ethusdt@bookTicker")
        assert {f["e"] for f in await events(legacy, 5)} == {"bookTicker"}
        later = await client.connect("/stream")
        await later.send_json({"method": "SUBSCRIBE", "params": ["btcusdt@depth"], "id": 1})
        frames = await events(later, 2)
        assert frames[0] == {"result": None, "id": 1}
        assert frames[1]["stream"] == "btcusdt@depth"
        assert (await client.http.get(f"{client.base}/other/path")).status == 404
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await client.connect("/public/other")

    serve(venue_config(flow=FLOW), venue_instruments, scenario)


def test_tls_is_verified_with_the_written_ca_and_refused_without(
    venue_config, venue_instruments, tmp_path
):
    config = venue_config(flow=FLOW, tls=True, ca_file=str(tmp_path / "ca.pem"))

    async def trusted(client, venue):
        assert (await client.ask("GET", "/fapi/v1/ping"))[0] == 200
        socket = await client.connect("/public/ws/btcusdt@bookTicker")
        assert (await events(socket, 1))[0]["s"] == "BTCUSDT"

    async def stranger(client, venue):
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await client.ask("GET", "/fapi/v1/ping")

    serve(config, venue_instruments, trusted, "https")
    serve(config, venue_instruments, stranger, "https", context=False)


def test_faults_over_the_admin_path(venue_config, venue_instruments):
    async def scenario(client, venue):
        async def arm(**command):
            url = f"{client.base}/venue/faults"
            async with client.http.post(url, data=json.dumps(command)) as answer:
                return answer.status

        socket = await client.connect("/public/ws/btcusdt@depth@100ms")
        first = (await events(socket, 1))[0]
        assert await arm(do="drop_depth", symbol="BTCUSDT") == 200
        chain = [first, *await events(socket, 6)]
        assert sum(b["pu"] != a["u"] for a, b in zip(chain, chain[1:], strict=False)) == 1
        order = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC",
                 "quantity": "0.010", "price": "61000"}  # fmt: skip
        await arm(do="order_unknown")
        status, _ = await client.ask(
            "POST", "/fapi/v1/order", True, **order, newClientOrderId="u-1"
        )
        assert status == 503
        _, live = await client.ask(
            "GET", "/fapi/v1/order", True, symbol="BTCUSDT", origClientOrderId="u-1"
        )
        assert live["status"] == "NEW"
        await arm(do="order_overloaded")
        status, body = await client.ask("POST", "/fapi/v1/order", True, **order)
        assert (status, body["code"]) == (503, -1008)
        await arm(do="order_lost")
        with pytest.raises(aiohttp.ClientError):
            await client.ask("POST", "/fapi/v1/order", True, **order)
        assert len((await client.ask("GET", "/fapi/v1/openOrders", True))[1]) == 2
        await arm(do="disconnect", kind="public")
        while not socket.closed:
            await socket.receive(timeout=DEADLINE_S)
        assert socket.close_code == 1001
        user = await client.connect(
            f"/private/ws/{(await client.ask('POST', '/fapi/v1/listenKey'))[1]['listenKey']}"
        )
        api = await client.connect("/ws-fapi/v1")
        await arm(do="slow_answers", ms=150)
        began_ns = clock.now_ns()
        answering = asyncio.create_task(client.call(api, "order.place", **order))
        assert (await events(user, 1))[0]["o"]["x"] == "NEW"  # before the answer
        assert not answering.done()
        assert (await answering)["status"] == 200
        assert clock.now_ns() - began_ns >= 150_000_000
        await arm(do="slow_answers")
        await arm(do="skew_clock", ms=7_000)
        assert (await client.ask("GET", "/fapi/v1/openOrders", True))[1]["code"] == -1021

    config = venue_config(flow=FLOW, faults=FaultConfig(admin=True))
    serve(config, venue_instruments, scenario)


def test_admin_path_is_absent_by_default(venue_config, venue_instruments):
    async def scenario(client, venue):
        async with client.http.post(f"{client.base}/venue/faults", data="{}") as answer:
            assert answer.status == 404

    serve(venue_config(), venue_instruments, scenario)


def test_sockets_are_closed_at_the_end_of_their_life(venue_config, venue_instruments):
    async def scenario(client, venue):
        socket = await client.connect("/public/ws/btcusdt@bookTicker")
        while not socket.closed:
            await socket.receive(timeout=DEADLINE_S)
        assert socket.close_code == 1001
        while venue.sockets:
            await asyncio.sleep(0)
        assert venue.exchange.hub.listeners == {}

    serve(venue_config(connection_life_s=1), venue_instruments, scenario)


def test_a_market_that_dies_of_a_bug_goes_dark(venue_config, venue_instruments, monkeypatch):
    async def scenario(client, venue):
        socket = await client.connect("/public/ws/btcusdt@bookTicker")
        monkeypatch.setattr(venue.exchange.step, "run", lambda steps, now_ms: 1 / 0)
        while not socket.closed:
            await socket.receive(timeout=DEADLINE_S)
        assert socket.close_code == 1011
        assert (await client.http.get(f"{client.base}/fapi/v1/ping")).status == 503

    serve(venue_config(flow=FLOW), venue_instruments, scenario)


def test_a_reader_that_never_reads_is_cut_off(venue_config, venue_instruments, monkeypatch):
    monkeypatch.setattr("processes.venue.app.OUTBOX_FRAMES_MAX", 50)

    async def scenario(client, venue):
        await client.connect("/public/ws/btcusdt@bookTicker")
        (out,) = venue.sockets
        for i in range(60):
            out.send(f"{i}")
        assert out.close_code == 1008
        assert out.pending() == 0

    serve(venue_config(), venue_instruments, scenario)


def test_capture_is_served_over_a_socket(venue_config, venue_instruments, write_capture):
    rows = [
        (i * 1_000_000,
         {"stream": "btcusdt@bookTicker",
          "data": {"e": "bookTicker", "u": i, "s": "BTCUSDT", "b": "1.0", "B": "1", "a": "2.0",
                   "A": "1", "T": 1, "E": 1}})
        for i in range(200)
    ]  # fmt: skip

    async def scenario(client, venue):
        socket = await client.connect("/public/ws/btcusdt@bookTicker")
        frames = await events(socket, 200)
        assert frames == [row["data"] for _, row in rows]

    capture = CaptureConfig(file=str(write_capture(rows)), symbol="BTCUSDT", speed=1e6)
    serve(venue_config(capture=capture), venue_instruments, scenario)


def test_thread_for_callers_without_a_loop(venue_config, venue_instruments, tmp_path):
    port_file = tmp_path / "port"
    config = venue_config(flow=FLOW, port_file=str(port_file))
    with VenueThread(config, venue_instruments) as running:
        assert int(port_file.read_text()) == running.port > 0
        assert running.call(lambda: running.venue.exchange.market.best(0))[0] > 0
        taken = venue_config(port=running.port)
        with pytest.raises(UnavailableError, match=str(running.port)):
            asyncio.run(Venue(taken, venue_instruments).start())
    assert not running.thread.is_alive()


def test_process_serves_until_it_is_told_to_stop(tmp_path):
    config, port = tmp_path / "venue.toml", tmp_path / "port"
    config.write_text(
        f"""
port_file = "{port}"
[symbols.BTCUSDT]
price = "64000"
max_price = "4529764"
order_qty = "0.05"
[[accounts]]
name = "one"
api_key = "key-one"
secret_key = "secret-one"
"""
    )
    facts = tmp_path / "instruments.toml"
    facts.write_text(
        '[binance-usdm.BTCUSDT]\ntick_size = "0.10"\nlot_size = "0.001"\n'
        "price_decimals = 2\nqty_decimals = 3\n"
    )
    command = [sys.executable, "-m", "processes.venue.app"]
    command += ["--config", str(config), "--instruments", str(facts)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: port.exists() or process.poll() is not None, "venue to listen", 120)
        process.terminate()
        _, errors = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert "venue_listening" in errors
    config.write_text("nonsense = 1\n")
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert process.returncode == 78
    assert str(config) in process.stderr

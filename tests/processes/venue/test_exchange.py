"""What holds over the whole exchange: books rebuilt from streams, money conserved, funding."""

import sys

import pytest

from processes.venue.config import FlowConfig
from processes.venue.streams import DIFF_CADENCES_MS

FLOW = FlowConfig(seed=7, burst_every_s=2, burst_ms=200, liquidation_every_s=2)


class Rebuilt:
    """A book kept by the published rule: buffer, snapshot, straddle, then the pu chain."""

    def __init__(self):
        self.levels = {"b": {}, "a": {}}
        self.last = None
        self.is_first = True
        self.gaps = 0

    def load(self, snapshot):
        for side, name in (("b", "bids"), ("a", "asks")):
            self.levels[side] = dict(snapshot[name])
        self.last = snapshot["lastUpdateId"]
        self.is_first = True

    def apply(self, event):
        if event["u"] < self.last:
            return
        if self.is_first:
            assert event["U"] <= self.last <= event["u"], "snapshot lies in no event"
            self.is_first = False
        elif event["pu"] != self.last:
            self.gaps += 1
        for side in ("b", "a"):
            for price, qty in event[side]:
                if float(qty) == 0:
                    self.levels[side].pop(price, None)
                else:
                    self.levels[side][price] = qty
        self.last = event["u"]

    def sides(self):
        bids = sorted(self.levels["b"].items(), key=lambda level: -float(level[0]))
        asks = sorted(self.levels["a"].items(), key=lambda level: float(level[0]))
        return [list(level) for level in bids], [list(level) for level in asks]


@pytest.mark.parametrize("kind", DIFF_CADENCES_MS)
def test_book_rebuilt_from_diffs_equals_the_engine(make_bench, kind):
    bench = make_bench(flow=FLOW)
    bench.advance(300)
    socket = bench.connect("public", f"btcusdt@{kind}")
    bench.advance(700)
    snapshot = bench.ask("GET", "/fapi/v1/depth", symbol="BTCUSDT", limit=1000)[1]
    bench.advance(3_000)
    book = Rebuilt()
    book.load(snapshot)
    events = socket.take()
    assert len(events) > 5
    for event in events:
        book.apply(event)
    assert book.gaps == 0
    while bench.exchange.streams[0].diffs[kind].bids or bench.exchange.streams[0].diffs[kind].asks:
        bench.advance(10)
        for event in socket.take():
            book.apply(event)
    final = bench.ask("GET", "/fapi/v1/depth", symbol="BTCUSDT", limit=1000)[1]
    assert book.last == final["lastUpdateId"]
    assert book.sides() == (final["bids"], final["asks"])
    assert book.gaps == 0


def test_subscribing_in_a_still_market_is_enough_to_sync(bench):
    bench.place("one", "BUY", "0.010", "63000")
    socket = bench.connect("public", "btcusdt@depth@100ms")
    snapshot = bench.ask("GET", "/fapi/v1/depth", symbol="BTCUSDT", limit=5)[1]
    bench.advance(500)
    bench.place("one", "BUY", "0.010", "63001")
    bench.advance(100)
    book = Rebuilt()
    book.load(snapshot)
    for event in socket.take():
        book.apply(event)
    assert book.sides()[0] == [["63001.00", "0.010"], ["63000.00", "0.010"]]


def test_a_dropped_event_is_a_gap_of_the_chain(make_bench):
    bench = make_bench(flow=FLOW)
    socket = bench.connect("public", "btcusdt@depth@100ms")
    bench.advance(1_000)
    bench.exchange.streams[0].drop_next = 1
    bench.advance(1_000)
    events = socket.take()
    breaks = [b["pu"] != a["u"] for a, b in zip(events, events[1:], strict=False)]
    assert sum(breaks) == 1


def test_book_ticker_agrees_with_the_depth_at_the_same_id(make_bench):
    bench = make_bench(flow=FLOW)
    socket = bench.connect("public", "btcusdt@depth@0ms", "btcusdt@bookTicker", combined=True)
    book = Rebuilt()
    book.load(bench.ask("GET", "/fapi/v1/depth", symbol="BTCUSDT", limit=1000)[1])
    compared, tickers = 0, {}
    bench.advance(3_000)
    for frame in socket.take():
        event = frame["data"]
        if event["e"] == "bookTicker":
            tickers[event["u"]] = event
            continue
        book.apply(event)
        ticker = tickers.get(event["u"])
        if ticker is not None:
            bids, asks = book.sides()
            assert [ticker["b"], ticker["B"]] == bids[0]
            assert [ticker["a"], ticker["A"]] == asks[0]
            assert float(ticker["b"]) < float(ticker["a"])
            compared += 1
    assert compared > 20


def test_trading_against_the_flow_conserves_quantity_and_money(make_bench):
    bench = make_bench(flow=FLOW)
    users = {name: bench.user(name) for name in ("one", "two")}
    for i in range(150):
        bid, _, ask, _ = bench.exchange.market.best(0)
        price = bench.exchange.instruments[0].price_text
        bench.place("one", "BUY", "0.020", price(bid), newClientOrderId=f"b{i}")
        bench.place("one", "SELL", "0.020", price(ask), newClientOrderId=f"a{i}")
        bench.place("two", "BUY" if i % 3 else "SELL", "0.015")
        bench.advance(100)
        bench.ask("DELETE", "/fapi/v1/allOpenOrders", "one", symbol="BTCUSDT")
    for name, socket in users.items():
        fills = bench.ask("GET", "/fapi/v1/userTrades", name, symbol="BTCUSDT", limit=1000)[1]
        assert len(fills) > 50
        signed = sum(round(float(f["qty"]) * 1_000) * (1 if f["buyer"] else -1) for f in fills)
        risk = bench.ask("GET", "/fapi/v2/positionRisk", name, symbol="BTCUSDT")[1][0]
        assert round(float(risk["positionAmt"]) * 1_000) == signed
        wallet = 1_000_000 * 10**8 + sum(
            digits(f["realizedPnl"]) - digits(f["commission"]) for f in fills
        )
        balance = bench.ask("GET", "/fapi/v3/balance", name)[1][0]["balance"]
        assert digits(balance) == wallet
        told = [
            e["o"] for e in socket.take()
            if e["e"] == "ORDER_TRADE_UPDATE" and e["o"]["x"] == "TRADE"
        ]  # fmt: skip
        assert [(o["t"], o["i"], o["l"], o["n"]) for o in told] == [
            (f["id"], f["orderId"], f["qty"], f["commission"]) for f in fills
        ]
    open_now = bench.exchange.trading.open
    assert all(not orders for orders in open_now.values())


def digits(text):
    """Return decimal text of at most eight decimals as an integer of 1e-8."""
    whole, _, fraction = text.partition(".")
    sign = -1 if whole.startswith("-") else 1
    return sign * (abs(int(whole)) * 10**8 + int(fraction.ljust(8, "0")))


def test_funding_is_paid_at_the_interval_and_told(make_bench):
    bench = make_bench(funding_interval_s=60)
    bench.place("one", "BUY", "0.010", "64000")
    bench.place("two", "SELL", "0.010", "64000")
    before = {name: digits(balance(bench, name)) for name in ("one", "two")}
    sockets = {name: bench.user(name) for name in ("one", "two")}
    due = bench.ask("GET", "/fapi/v1/premiumIndex", symbol="BTCUSDT")[1]
    assert 0 < due["nextFundingTime"] - bench.now_ms <= 60_000
    bench.now_ms = due["nextFundingTime"] - 10
    bench.advance(1_000)
    paid = {name: digits(balance(bench, name)) - before[name] for name in ("one", "two")}
    rate, mark = digits(due["lastFundingRate"]), digits(due["markPrice"])
    expected = mark * 10 // 1_000 * rate // 10**8
    assert expected > 0
    assert paid == {"one": -expected, "two": expected}
    for name, socket in sockets.items():
        (event,) = socket.take()
        assert event["a"]["m"] == "FUNDING_FEE"
        assert event["a"]["P"] == []
        assert digits(event["a"]["B"][0]["bc"]) == paid[name]


def balance(bench, name):
    return bench.ask("GET", "/fapi/v3/balance", name)[1][0]["balance"]


def test_nothing_is_compiled_after_the_start(make_bench):
    from numba.core.dispatcher import Dispatcher

    bench = make_bench(flow=FLOW, funding_interval_s=60)
    modules = [m for name, m in sys.modules.items() if name.startswith("processes.venue.")]
    kernels = {v for m in modules for v in vars(m).values() if isinstance(v, Dispatcher)}
    before = {kernel: len(kernel.signatures) for kernel in kernels}
    assert len(kernels) > 20
    bench.user()
    bench.connect("public", "btcusdt@depth@100ms", "btcusdt@depth5")
    bench.advance(1_000)
    bench.place("one", "BUY", "0.010", "63900", newClientOrderId="a")
    bench.ask(
        "PUT", "/fapi/v1/order", "one", symbol="BTCUSDT", side="BUY", quantity="0.020",
        price="63901", origClientOrderId="a",
    )  # fmt: skip
    bench.ask("DELETE", "/fapi/v1/order", "one", symbol="BTCUSDT", origClientOrderId="a")
    bench.place("one", "SELL", "0.010")
    bench.ask("GET", "/fapi/v1/depth", symbol="BTCUSDT")
    bench.ask("GET", "/fapi/v3/account", "one")
    bench.now_ms = bench.exchange.marks[0].next_funding_ms
    bench.advance(1_000)
    assert bench.ask("GET", "/fapi/v3/positionRisk", "one")[1][0]["positionAmt"] == "-0.010"
    assert {kernel: len(kernel.signatures) for kernel in kernels} == before

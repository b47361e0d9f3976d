"""The exchange without sockets or clocks: matching, accounts, and what everybody is told of them.

Requests come through `trading`, `views` and `users`; time comes through `advance`. What happens in
the market comes as rows of events, and `apply` is the one place that turns them into order states,
fills, user events and market streams.
"""

from collections.abc import Callable
from typing import Protocol
from urllib.parse import parse_qsl

import msgspec

from common.enums import Side
from common.fixed_point import text_from_steps
from common.instruments import Instrument
from processes.venue.accounts import Accounts
from processes.venue.auth import Keys, parse_int
from processes.venue.config import VenueConfig
from processes.venue.engine import EventKind, Reason
from processes.venue.errors import VenueError
from processes.venue.filters import Rules
from processes.venue.limits import Limits, limit_row
from processes.venue.market import EngineMarket, Row
from processes.venue.marks import UPDATE_MS, Mark
from processes.venue.orders import SIDE_TEXT, Fill, Order, order_update, trade_lite
from processes.venue.recorded_market import RecordedMarket
from processes.venue.streams import Connection, Hub, SymbolStreams, Texts
from processes.venue.trading import Trading
from processes.venue.user_data import UserData
from processes.venue.views import Views

LIQUIDATED_ACCOUNT = 1  # synthetic: whose forced orders the flow sends; 0 is the flow itself
ACCOUNT_BASE = 2  # ids of the configured accounts begin here
TAKE_BOUND_E2 = 5  # marketTakeBound: a market order goes at most 5 % away from the mark
AUTOCLOSE = "autoclose-"  # client order ids of liquidations
STP_REASONS = (Reason.STP, Reason.IOC_STP)
ENDED = {int(EventKind.CANCELED): "CANCELED", int(EventKind.EXPIRED): "EXPIRED"}


class Step(Protocol):
    """What moves the market on: Flow, NoFlow or CaptureMarket."""

    step_ms: int

    def run(self, steps: int, now_ms: int) -> list[Row]:
        """Take some steps and return their events."""

    def index_e8(self, index: int) -> int:
        """Return the index price of an instrument, 0 if there is none."""

    def on_first(self, stream: str) -> None:
        """Hear that a stream has got its first listener."""


class Exchange:
    """All state of the venue.

    Args:
        config: what is listed and who may trade.
        instruments: instrument_id is the index.
        rules: their filters.
        market: EngineMarket or CaptureMarket.
        accounts: wallets and positions.
        keys: API keys.
        step: advances the market by one step and returns its events; see Flow and CaptureMarket.
        now_ms: the venue's clock at start.
    """

    def __init__(
        self,
        config: VenueConfig,
        instruments: list[Instrument],
        rules: list[Rules],
        market: EngineMarket | RecordedMarket,
        accounts: Accounts,
        keys: Keys,
        step: Step,
        now_ms: int,
    ) -> None:
        self.config = config
        self.instruments = instruments
        self.by_symbol = {i.symbol: i.instrument_id for i in instruments}
        self.market = market
        self.accounts = accounts
        self.keys = keys
        self.step = step
        self.step_ms = step.step_ms
        self.clock_skew_ms = config.faults.clock_skew_ms
        self.account_ids = [ACCOUNT_BASE + i for i in range(len(config.accounts))]
        self.stale_depths = 0  # fault: snapshots that are answered from the past
        self.old_depths: dict[tuple[int, int], str] = {}
        self.now_ms = now_ms
        self.hub = Hub()
        self.hub.on_first = self.on_first
        self.hub.on_last = self.on_last
        self.users = UserData(self.hub, f"{config.instruments} {now_ms}")
        limits = config.limits
        self.limits = Limits(
            limits.weight_1m_max, limits.orders_10s_max, limits.orders_1m_max, limits.broken_max
        )
        self.texts = [Texts(i) for i in instruments]
        self.rules = rules
        self.streams = [
            SymbolStreams(self.hub, i, t) for i, t in zip(instruments, self.texts, strict=True)
        ]
        self.marks = [
            Mark(
                i.price_steps(config.symbols[i.symbol].price) * r.step_e8,
                config.funding_rate_e8,
                config.funding_interval_s * 1_000,
                now_ms,
            )
            for i, r in zip(instruments, self.rules, strict=True)
        ]
        self.tops: list[Callable] = [
            lambda n, i=i.instrument_id: self.market.depth(i, n) for i in instruments
        ]
        self.trading = Trading(self)
        self.views = Views(self)
        for index, streams in enumerate(self.streams):
            streams.update_id = market.last_update_id(index)
            streams.bbo = market.best(index)
            streams.ts_update_ms = now_ms

    def find_symbol(self, symbol: str | None) -> int:
        """Return the instrument_id of a mandatory symbol. Raises VenueError -1102 or -1121."""
        if not symbol:
            raise VenueError(-1102, "symbol")
        index = self.by_symbol.get(symbol)
        if index is None:
            raise VenueError(-1121)
        return index

    def market_bound(self, order: Order) -> int:
        """Return the worst price in steps that a MARKET order may take."""
        index = order.instrument.instrument_id
        mark_steps = self.marks[index].mark_e8 // self.rules[index].step_e8
        if order.side == Side.BID:
            return mark_steps * (100 + TAKE_BOUND_E2) // 100
        return max(mark_steps * (100 - TAKE_BOUND_E2) // 100, 1)

    def advance(self, steps: int, now_ms: int) -> None:
        """Let the market take some steps and do everything that is due.

        Args:
            steps: of `step_ms` each.
            now_ms: the venue's clock after them.
        """
        self.now_ms = now_ms
        rows = self.step.run(steps, now_ms)
        if rows:
            self.apply(rows, now_ms)
        self.trading.on_time(now_ms)
        self.users.on_time(now_ms)
        for index, mark in enumerate(self.marks):
            if now_ms >= mark.due_ms:
                mark.due_ms = (now_ms // UPDATE_MS + 1) * UPDATE_MS
                self.update_mark(index, mark, now_ms)
        for streams, top in zip(self.streams, self.tops, strict=True):
            streams.on_time(now_ms, top)

    def update_mark(self, index: int, mark: Mark, now_ms: int) -> None:
        """Sample the mark price, publish it, and settle funding when its time has come."""
        step_e8 = self.rules[index].step_e8
        bid, _, ask, _ = self.market.best(index)
        mid_e8 = (bid + ask) * step_e8 // 2 if bid and ask else 0
        mark.update(self.step.index_e8(index), mid_e8)
        if mark.funding_due(now_ms):
            self.views.settle_funding(index, mark, now_ms)
        symbol = self.instruments[index].symbol
        text = self.mark_text(index, now_ms)
        self.hub.publish(f"{symbol.lower()}@markPrice@1s", text)
        if now_ms // UPDATE_MS % 3 == 0:
            self.hub.publish(f"{symbol.lower()}@markPrice", text)
        if index == len(self.marks) - 1:
            self.publish_all(now_ms)

    def publish_all(self, now_ms: int) -> None:
        """Publish the streams of all symbols together."""
        seconds = now_ms // UPDATE_MS
        names = ["!markPrice@arr@1s"] + (["!markPrice@arr"] if seconds % 3 == 0 else [])
        if any(name in self.hub.listeners for name in names):
            texts = ",".join(self.mark_text(i, now_ms) for i in range(len(self.marks)))
            for name in names:
                self.hub.publish(name, f"[{texts}]")
        if seconds % 5 == 0 and "!bookTicker" in self.hub.listeners:
            for streams in self.streams:
                self.hub.publish("!bookTicker", streams.bbo_text(now_ms))

    def mark_text(self, index: int, now_ms: int) -> str:
        """Return a markPriceUpdate event."""
        mark = self.marks[index]
        price, average, level = (
            text_from_steps(e8, 8) for e8 in (mark.mark_e8, mark.average_e8, mark.index_e8)
        )
        return (
            f'{{"e":"markPriceUpdate","E":{now_ms},"s":"{self.instruments[index].symbol}",'
            f'"p":"{price}","ap":"{average}","i":"{level}","P":"{price}",'
            f'"r":"{text_from_steps(mark.rate_e8, 8)}","T":{mark.next_funding_ms},"st":1}}'
        )

    def apply(self, rows: list[Row], now_ms: int) -> None:
        """Turn what happened into order states, fills, user events and market streams."""
        changed: set[int] = set()
        forced: dict[int, Forced] = {}
        for row in rows:
            kind, account = row[0], row[11]
            if kind == EventKind.LEVEL:
                self.streams[row[4]].on_level(row[1] == Side.BID, row[5], row[6])
                changed.add(row[4])
            elif kind == EventKind.TRADE:
                self.on_trade(row, now_ms)
                if row[9] in forced:
                    forced[row[9]].add(row[5], row[6])
            elif account >= ACCOUNT_BASE:
                self.on_order(row, now_ms)
            elif kind == EventKind.NEW and account == LIQUIDATED_ACCOUNT:
                forced[row[9]] = Forced(row[4], row[1], row[5], row[6])
        if not self.market.is_public:
            return
        for index in changed:
            self.streams[index].on_update(
                self.market.last_update_id(index), now_ms, self.market.best(index)
            )
        for order in forced.values():
            self.streams[order.instrument_id].on_force_order(
                order.qty_steps, self.force_text(order, now_ms), now_ms
            )

    def on_trade(self, row: Row, now_ms: int) -> None:
        """Publish one trade and book it for the accounts on its two sides."""
        _, side, _, _, index, price, qty, _, trade_id, order_id, maker_id, taker, maker = row
        if self.market.is_public:
            self.streams[index].on_trade(trade_id, price, qty, side == Side.ASK, now_ms)
        if maker >= ACCOUNT_BASE:
            self.fill(self.trading.by_id[maker_id], trade_id, price, qty, True, now_ms)
        if taker >= ACCOUNT_BASE:
            self.fill(self.trading.by_id[order_id], trade_id, price, qty, False, now_ms)

    def fill(
        self, order: Order, trade_id: int, price: int, qty: int, is_maker: bool, now_ms: int
    ) -> None:
        """Book one fill of an account's order and tell the account."""
        order.executed_steps += qty
        order.quote_steps2 += price * qty
        is_filled = order.executed_steps >= order.qty_steps
        order.status = "FILLED" if is_filled else "PARTIALLY_FILLED"
        order.update_ms = now_ms
        fill = Fill(order, trade_id, price, qty, is_maker, now_ms)
        self.views.book_fill(fill)
        self.trading.add_fill(fill)
        if is_filled:
            self.trading.close(order)
        if not self.users.has_listeners(order.account):
            return
        lite = {"e": "TRADE_LITE", "E": now_ms, "T": now_ms} | trade_lite(order, fill)
        self.emit(order.account, "TRADE_LITE", lite)
        index = order.instrument.instrument_id
        self.emit(
            order.account,
            "ACCOUNT_UPDATE",
            self.views.account_update(order.account, "ORDER", index, now_ms),
        )
        execution = "CALCULATED" if order.client_id.startswith(AUTOCLOSE) else "TRADE"
        self.emit_order(order, execution, fill, 0, now_ms)

    def on_order(self, row: Row, now_ms: int) -> None:
        """Take over what happened to an account's order that was no trade."""
        kind, reason = row[0], row[2]
        order = self.trading.by_id[row[9]]
        order.update_ms = now_ms
        if kind == EventKind.NEW:
            order.qty_steps = row[6]
            self.emit_order(order, "NEW", None, 0, now_ms)
        elif kind == EventKind.AMENDED:
            order.price_steps, order.qty_steps = row[5], row[6]
            self.emit_order(order, "AMENDMENT", None, 0, now_ms)
        else:
            status = ENDED[kind]
            order.status = "EXPIRED_IN_MATCH" if reason in STP_REASONS else status
            self.trading.close(order)
            shown = reason if reason < Reason.AMEND_QTY else 0
            self.emit_order(order, status, None, shown, now_ms)

    def emit_order(
        self, order: Order, execution: str, fill: Fill | None, reason: int, now_ms: int
    ) -> None:
        """Send an ORDER_TRADE_UPDATE to the order's account."""
        if not self.users.has_listeners(order.account):
            return
        notionals = self.trading.open_notionals(order.account, order.instrument.instrument_id)
        body = {
            "e": "ORDER_TRADE_UPDATE",
            "E": now_ms,
            "T": order.update_ms,
            "o": order_update(order, execution, notionals, fill, reason),
        }
        self.emit(order.account, "ORDER_TRADE_UPDATE", body)

    def emit(self, account: int, event: str, body: dict[str, object]) -> None:
        """Send one user event."""
        self.users.emit(account, event, msgspec.json.encode(body).decode())

    def force_text(self, order: "Forced", now_ms: int) -> str:
        """Return a forceOrder event; its E is filled in when it is sent."""
        texts = self.texts[order.instrument_id]
        average = order.quote_steps2 // order.filled_steps if order.filled_steps else 0
        status = "FILLED" if order.filled_steps == order.qty_steps else "EXPIRED"
        return (
            f'{{"e":"forceOrder","E":@E@,"o":{{"s":"{self.instruments[order.instrument_id].symbol}",'
            f'"S":"{SIDE_TEXT[order.side]}","o":"LIMIT","f":"IOC","q":"{texts.qty(order.qty_steps)}",'
            f'"p":"{texts.price(order.price_steps)}","ap":"{texts.price(average)}","X":"{status}",'
            f'"l":"{texts.qty(order.last_steps)}","z":"{texts.qty(order.filled_steps)}",'
            f'"T":{now_ms}}}}}'
        )

    def on_first(self, stream: str) -> None:
        """Start a depth stream that has got its first listener."""
        self.step.on_first(stream)
        prefix, _, kind = stream.partition("@")
        index = self.by_symbol.get(prefix.upper())
        if index is not None and self.market.is_public:
            self.streams[index].on_first(kind, self.now_ms)

    def on_last(self, stream: str) -> None:
        """Stop a depth stream that nobody hears."""
        prefix, _, kind = stream.partition("@")
        index = self.by_symbol.get(prefix.upper())
        if index is not None:
            self.streams[index].on_last(kind)

    def open_streams(self, connection: Connection, names: list[str], query: str) -> None:
        """Subscribe what a socket's URL asks for."""
        if connection.route != "private":
            for name, value in parse_qsl(query):
                if name == "streams":
                    names = names + value.split("/")
            self.hub.subscribe(connection, [name for name in names if name])
            return
        wanted: dict[str, list[str]] = {name: [] for name in names if name}
        key = ""
        for name, value in parse_qsl(query):
            if name == "listenKey":
                key = value
                wanted.setdefault(key, [])
            elif name == "events" and key:
                wanted[key] += value.split("/")
            elif name == "streams":
                wanted |= {text: [] for text in value.split("/")}
        for listen_key, events in wanted.items():
            self.users.subscribe(connection, listen_key, events)

    def depth(self, symbol: str, limit: int, now_ms: int) -> str:
        """Return the REST depth snapshot as JSON."""
        index = self.find_symbol(symbol)
        if self.stale_depths and (index, limit) in self.old_depths:
            self.stale_depths -= 1
            return self.old_depths[index, limit]
        bids, asks = self.market.depth(index, limit)
        texts, streams = self.texts[index], self.streams[index]
        text = (
            f'{{"lastUpdateId":{self.market.last_update_id(index)},"E":{now_ms},'
            f'"T":{streams.ts_update_ms},"bids":[{texts.levels(bids)}],'
            f'"asks":[{texts.levels(asks)}]}}'
        )
        self.old_depths.setdefault((index, limit), text)
        return text

    def agg_trades(self, params: dict[str, str]) -> list[dict[str, object]]:
        """Return remembered aggregate trades of a symbol, oldest first."""
        index = self.find_symbol(params.get("symbol"))
        count = min(parse_int(params.get("limit", "500"), "limit"), 1_000)
        trades = list(self.streams[index].aggs)
        if "fromId" in params:
            first = parse_int(params["fromId"], "fromId")
            trades = [t for t in trades if t[0] >= first][:count]
        texts = self.texts[index]
        return [
            {"a": a, "p": texts.price(p), "q": texts.qty(q), "f": f, "l": last, "T": t, "m": m}
            for a, p, q, f, last, t, m in trades[-count:]
        ]

    def exchange_info(self, now_ms: int) -> dict[str, object]:
        """Return exchangeInfo."""
        limits = self.limits
        rows = [
            limit_row("REQUEST_WEIGHT", "MINUTE", 1, limits.weight_max, 0),
            limit_row("ORDERS", "MINUTE", 1, limits.orders_1m_max, 0),
            limit_row("ORDERS", "SECOND", 10, limits.orders_10s_max, 0),
        ]
        return {
            "timezone": "UTC",
            "serverTime": now_ms,
            "futuresType": "U_MARGINED",
            "rateLimits": [{k: v for k, v in row.items() if k != "count"} for row in rows],
            "exchangeFilters": [],
            "assets": [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "-10000"}],
            "symbols": [rules.symbol_info() for rules in self.rules],
        }


class Forced:
    """One synthetic liquidation order and what it got."""

    def __init__(self, instrument_id: int, side: int, price_steps: int, qty_steps: int) -> None:
        self.instrument_id = instrument_id
        self.side = side
        self.price_steps = price_steps
        self.qty_steps = qty_steps
        self.filled_steps = 0
        self.last_steps = 0
        self.quote_steps2 = 0

    def add(self, price_steps: int, qty_steps: int) -> None:
        """Add one trade."""
        self.filled_steps += qty_steps
        self.last_steps = qty_steps
        self.quote_steps2 += price_steps * qty_steps

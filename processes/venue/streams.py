"""Market streams: connections, subscriptions, and the frames of each stream, built once for all.

Sans-I/O: a connection is an object with `send(text)`; time is an argument. The rules come from the
websocket-market-streams pages and the routing notice of 2026: depth and bookTicker belong to
/public, everything else to /market; an unrouted connection gets /public streams only, and a
SUBSCRIBE for another stream is acknowledged and stays silent.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import msgspec

from common.instruments import Instrument

STREAMS_MAX = 1_024
OUTBOX_FRAMES_MAX = 20_000
REQUESTS_PER_SECOND_MAX = 10
TEXTS_MAX = 65_536
AGG_TRADE_MS = 100
AGGS_MAX = 1_000
FORCE_ORDER_MS = 1_000
PUBLIC_KINDS = ("bookTicker", "depth", "rpiDepth")
DIFF_CADENCES_MS = {"depth": 250, "depth@500ms": 500, "depth@100ms": 100, "depth@0ms": 0}
PARTIAL_LEVELS = (5, 10, 20)


class Socket(Protocol):
    """What a connection needs of the outside."""

    def send(self, text: str) -> None:
        """Queue one text frame."""

    def close(self, code: int) -> None:
        """Close the socket when the queued frames are sent."""

    def pending(self) -> int:
        """Return how many frames wait to be sent."""


class Connection:
    """One market or user-data socket.

    Args:
        socket: where frames go.
        route: "public", "market", "private", or "" for the legacy paths.
        is_combined: frames are wrapped in {"stream":...,"data":...}.
    """

    def __init__(self, socket: Socket, route: str, is_combined: bool) -> None:
        self.socket = socket
        self.route = route
        self.is_combined = is_combined
        self.streams: dict[str, None] = {}
        self.events: dict[str, frozenset[str]] = {}  # listenKey -> wanted event types; empty = all
        self.second = -1
        self.requests = 0

    def gets(self, stream: str) -> bool:
        """Return True if this route carries the stream."""
        return route_of(stream) == (self.route or "public")


def route_of(stream: str) -> str:
    """Return the route that carries a stream."""
    kind = stream.lstrip("!").split("@")
    name = kind[0] if stream.startswith("!") else kind[1] if len(kind) > 1 else ""
    if name == "":
        return "private"
    return "public" if name.rstrip("0123456789") in PUBLIC_KINDS else "market"


class Texts:
    """Prices and quantities of one instrument as the venue writes them, remembered."""

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self.prices: dict[int, str] = {}
        self.quantities: dict[int, str] = {}

    def price(self, price_steps: int) -> str:
        """Return a price as text."""
        return remembered(self.prices, price_steps, self.instrument.price_text)

    def qty(self, qty_steps: int) -> str:
        """Return a quantity as text."""
        return remembered(self.quantities, qty_steps, self.instrument.qty_text)

    def levels(self, levels: Iterable[tuple[int, int]]) -> str:
        """Return [[price, qty], ...] as JSON."""
        price, qty = self.price, self.qty
        return ",".join([f'["{price(p)}","{qty(q)}"]' for p, q in levels])


def remembered(table: dict[int, str], steps: int, write: Callable[[int], str]) -> str:
    """Return the text of a number from the table, written on first use; the table is bounded."""
    text = table.get(steps)
    if text is None:
        if len(table) >= TEXTS_MAX:
            table.clear()
        text = table[steps] = write(steps)
    return text


class Hub:
    """Who listens to what."""

    def __init__(self) -> None:
        self.listeners: dict[str, list[Connection]] = {}
        self.on_first: Callable[[str], None] = lambda stream: None
        self.on_last: Callable[[str], None] = lambda stream: None
        self.frames_sent = 0

    def publish(self, stream: str, payload: str) -> None:
        """Send one event to all listeners of a stream; the wrapped form is built once."""
        listeners = self.listeners.get(stream)
        if not listeners:
            return
        wrapped = ""
        for connection in listeners:
            if connection.is_combined:
                wrapped = wrapped or f'{{"stream":"{stream}","data":{payload}}}'
                connection.socket.send(wrapped)
            else:
                connection.socket.send(payload)
        self.frames_sent += len(listeners)

    def subscribe(self, connection: Connection, streams: Iterable[str]) -> None:
        """Add streams to a connection; one that its route does not carry is noted and silent."""
        for stream in streams:
            if stream in connection.streams:
                continue
            connection.streams[stream] = None
            if not connection.gets(stream):
                continue
            listeners = self.listeners.setdefault(stream, [])
            listeners.append(connection)
            if len(listeners) == 1:
                self.on_first(stream)

    def unsubscribe(self, connection: Connection, streams: Iterable[str]) -> None:
        """Take streams off a connection."""
        for stream in streams:
            if stream not in connection.streams:
                continue
            del connection.streams[stream]
            listeners = self.listeners.get(stream, [])
            if connection in listeners:
                listeners.remove(connection)
                if not listeners:
                    del self.listeners[stream]
                    self.on_last(stream)

    def pending_max(self) -> int:
        """Return the length of the longest queue of frames to a listener."""
        return max(
            (c.socket.pending() for group in self.listeners.values() for c in group), default=0
        )

    def leave(self, connection: Connection) -> None:
        """Forget a closed connection."""
        self.unsubscribe(connection, list(connection.streams))

    def handle(self, connection: Connection, text: str | bytes, now_ms: int) -> None:
        """Answer one SUBSCRIBE / UNSUBSCRIBE / LIST_SUBSCRIPTIONS / SET_ / GET_PROPERTY frame."""
        if now_ms // 1_000 != connection.second:
            connection.second, connection.requests = now_ms // 1_000, 0
        connection.requests += 1
        if connection.requests > REQUESTS_PER_SECOND_MAX:
            connection.socket.close(1008)
            return
        try:
            request = read_json(text)
        except ValueError as error:
            connection.socket.send(error_text(3, f"Invalid JSON: {error}"))
            return
        connection.socket.send(self.answer(connection, request))

    def answer(self, connection: Connection, request: object) -> str:
        """Do what a control message asks and return the reply."""
        if not isinstance(request, dict) or not isinstance(request.get("method"), str):
            return error_text(2, "Invalid request: missing field `method`")
        request_id = request.get("id")
        if not isinstance(request_id, int) or isinstance(request_id, bool) or request_id < 0:
            return error_text(2, "Invalid request: request ID must be an unsigned integer")
        params = request.get("params", [])
        method = request["method"]
        if not isinstance(params, list):
            return error_text(2, "Invalid request: params must be a sequence")
        if method == "LIST_SUBSCRIPTIONS":
            return reply_text(list(connection.streams), request_id)
        if method in ("SET_PROPERTY", "GET_PROPERTY"):
            return self.property(connection, method, params, request_id)
        if method not in ("SUBSCRIBE", "UNSUBSCRIBE"):
            return error_text(
                2, f"Invalid request: unknown variant `{method[:40]}`, expected one of `SUBSCRIBE`"
            )
        if not all(isinstance(stream, str) and 0 < len(stream) <= 128 for stream in params):
            return error_text(2, "Invalid request: stream names must be strings")
        if method == "UNSUBSCRIBE":
            self.unsubscribe(connection, params)
        elif len(connection.streams) + len(params) > STREAMS_MAX:
            return error_text(2, f"Invalid request: at most {STREAMS_MAX} streams per connection")
        else:
            self.subscribe(connection, params)
        return reply_text(None, request_id)

    def property(
        self, connection: Connection, method: str, params: list[object], request_id: int
    ) -> str:
        """Read or set `combined`, the only property there is."""
        if not params or params[0] != "combined":
            return error_text(0, "Unknown property")
        if method == "GET_PROPERTY":
            return reply_text(connection.is_combined, request_id)
        if len(params) != 2 or not isinstance(params[1], bool):
            return error_text(1, "Invalid value type: expected Boolean")
        connection.is_combined = params[1]
        return reply_text(None, request_id)


def read_json(text: str | bytes) -> Any:
    """Return decoded JSON. Raises ValueError for what is none, or nested too deep."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise ValueError(str(error)) from None


def reply_text(result: object, request_id: int) -> str:
    """Return {"result":...,"id":...}."""
    return msgspec.json.encode({"result": result, "id": request_id}).decode()


def error_text(code: int, message: str) -> str:
    """Return {"code":...,"msg":...}."""
    return msgspec.json.encode({"code": code, "msg": message}).decode()


class DiffStream:
    """The depth diffs of one symbol at one cadence: pending levels and the `pu` chain."""

    def __init__(self, name: str, cadence_ms: int) -> None:
        self.name = name
        self.cadence_ms = cadence_ms
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}
        self.first_update_id = 0
        self.previous_update_id = 0
        self.due_ms = 0

    def start(self, update_id: int, now_ms: int) -> None:
        """Begin at the symbol's present update id, which the first event covers once more.

        So every snapshot that a client can fetch from now on lies inside some event.
        """
        self.bids.clear()
        self.asks.clear()
        self.first_update_id = update_id
        self.previous_update_id = update_id - 1
        self.due_ms = now_ms

    def note(self, update_id: int) -> None:
        """Let the first update id of the running event be that of its first change."""
        if self.first_update_id == 0 and (self.bids or self.asks):
            self.first_update_id = update_id


class PartialStream:
    """The top levels of one symbol, sent whole at each change and cadence."""

    def __init__(self, name: str, cadence_ms: int, level_count: int) -> None:
        self.name = name
        self.cadence_ms = cadence_ms
        self.level_count = level_count
        self.previous_update_id = 0
        self.due_ms = 0


class SymbolStreams:
    """All streams of one symbol."""

    def __init__(self, hub: Hub, instrument: Instrument, texts: Texts) -> None:
        self.hub = hub
        self.texts = texts
        self.symbol = instrument.symbol
        self.prefix = instrument.symbol.lower()
        self.diffs: dict[str, DiffStream] = {}
        self.partials: dict[str, PartialStream] = {}
        self.drop_next = 0  # fault: depth events to lose
        self.update_id = 1
        self.ts_update_ms = 0
        self.bbo: tuple[int, int, int, int] = (0, 0, 0, 0)
        self.bbo_stream = f"{self.prefix}@bookTicker"
        self.trade_stream = f"{self.prefix}@trade"
        self.agg_stream = f"{self.prefix}@aggTrade"
        self.force_stream = f"{self.prefix}@forceOrder"
        self.agg: list[int] | None = None  # price, is_buyer_maker, qty, first id, last id, ts_ms
        self.agg_id = 0
        self.aggs: deque[tuple[int, int, int, int, int, int, bool]] = deque(maxlen=AGGS_MAX)
        self.agg_due_ms = 0
        self.force: tuple[int, str] | None = None
        self.force_due_ms = 0

    def on_first(self, kind: str, now_ms: int) -> None:
        """Start a depth stream that has got its first listener."""
        if kind in DIFF_CADENCES_MS:
            stream = DiffStream(f"{self.prefix}@{kind}", DIFF_CADENCES_MS[kind])
            stream.start(self.update_id, now_ms)
            self.diffs[kind] = stream
            return
        name, _, cadence = kind.partition("@")
        for levels in PARTIAL_LEVELS:
            if name == f"depth{levels}" and cadence in ("", "100ms", "500ms"):
                self.partials[kind] = PartialStream(
                    f"{self.prefix}@{kind}", int(cadence.removesuffix("ms") or 250), levels
                )

    def on_last(self, kind: str) -> None:
        """Stop a depth stream that nobody hears."""
        self.diffs.pop(kind, None)
        self.partials.pop(kind, None)

    def on_level(self, is_bid: bool, price_steps: int, qty_steps: int) -> None:
        """Note the new total quantity of one price level."""
        for stream in self.diffs.values():
            (stream.bids if is_bid else stream.asks)[price_steps] = qty_steps

    def on_update(self, update_id: int, now_ms: int, bbo: tuple[int, int, int, int]) -> None:
        """Close one book change: the levels noted since the last one carry `update_id`.

        Args:
            bbo: bid price, bid quantity, ask price, ask quantity in steps; 0 for an empty side.
        """
        self.update_id = update_id
        self.ts_update_ms = now_ms
        for stream in self.diffs.values():
            stream.note(update_id)
        if bbo == self.bbo:
            return
        self.bbo = bbo
        if self.bbo_stream in self.hub.listeners:
            self.hub.publish(self.bbo_stream, self.bbo_text(now_ms))

    def bbo_text(self, now_ms: int) -> str:
        """Return a bookTicker event."""
        bid, bid_qty, ask, ask_qty = self.bbo
        price, qty = self.texts.price, self.texts.qty
        return (
            f'{{"e":"bookTicker","u":{self.update_id},"s":"{self.symbol}",'
            f'"b":"{price(bid)}","B":"{qty(bid_qty)}","a":"{price(ask)}","A":"{qty(ask_qty)}",'
            f'"T":{self.ts_update_ms},"E":{now_ms},"st":1,"ps":"{self.symbol}"}}'
        )

    def on_trade(
        self, trade_id: int, price_steps: int, qty_steps: int, is_buyer_maker: bool, now_ms: int
    ) -> None:
        """Publish a trade and add it to the running aggregate."""
        if self.trade_stream in self.hub.listeners:
            maker = "true" if is_buyer_maker else "false"
            self.hub.publish(
                self.trade_stream,
                f'{{"e":"trade","E":{now_ms},"T":{now_ms},"s":"{self.symbol}","t":{trade_id},'
                f'"p":"{self.texts.price(price_steps)}","q":"{self.texts.qty(qty_steps)}",'
                f'"X":"MARKET","m":{maker},"st":1}}',
            )
        self.add_agg(trade_id, price_steps, qty_steps, is_buyer_maker, now_ms, now_ms)

    def add_agg(
        self,
        trade_id: int,
        price_steps: int,
        qty_steps: int,
        is_buyer_maker: bool,
        ts_ms: int,
        now_ms: int,
    ) -> None:
        """Add a trade, made at `ts_ms`, to the running aggregate of its price and taking side."""
        agg = self.agg
        if agg is not None and (agg[0] != price_steps or agg[1] != is_buyer_maker):
            self.flush_agg(now_ms)
            agg = None
        if agg is None:
            self.agg = [price_steps, is_buyer_maker, qty_steps, trade_id, trade_id, ts_ms]
            self.agg_due_ms = now_ms + AGG_TRADE_MS
        else:
            agg[2] += qty_steps
            agg[4] = trade_id
            agg[5] = ts_ms

    def flush_agg(self, now_ms: int) -> None:
        """Publish the running aggregate; its id counts on whether or not anybody hears it."""
        if self.agg is None:
            return
        price_steps, is_buyer_maker, qty_steps, first, last, ts_ms = self.agg
        self.agg = None
        self.agg_id += 1
        self.aggs.append(
            (self.agg_id, price_steps, qty_steps, first, last, ts_ms, bool(is_buyer_maker))
        )
        if self.agg_stream not in self.hub.listeners:
            return
        qty = self.texts.qty(qty_steps)
        self.hub.publish(
            self.agg_stream,
            f'{{"e":"aggTrade","E":{now_ms},"s":"{self.symbol}","a":{self.agg_id},'
            f'"p":"{self.texts.price(price_steps)}","q":"{qty}","nq":"{qty}","f":{first},'
            f'"l":{last},"T":{ts_ms},"m":{"true" if is_buyer_maker else "false"},"st":1}}',
        )

    def on_force_order(self, qty_steps: int, payload: str, now_ms: int) -> None:
        """Keep the largest liquidation of the running second (forceOrder page, 2026-04-10)."""
        if self.force is None:
            self.force_due_ms = now_ms + FORCE_ORDER_MS
        if self.force is None or qty_steps > self.force[0]:
            self.force = (qty_steps, payload)

    def on_time(self, now_ms: int, top: Callable[[int], tuple[list, list]]) -> None:
        """Send what is due.

        Args:
            top: gives the best n levels as ([(price, qty)], [(price, qty)]) in steps.
        """
        for stream in self.diffs.values():
            if now_ms >= stream.due_ms:
                stream.due_ms = next_multiple(now_ms, stream.cadence_ms)
                self.flush_diff(stream, now_ms)
        for partial in self.partials.values():
            if now_ms >= partial.due_ms and self.update_id != partial.previous_update_id:
                partial.due_ms = next_multiple(now_ms, partial.cadence_ms)
                self.send_partial(partial, now_ms, top(partial.level_count))
        if self.agg is not None and now_ms >= self.agg_due_ms:
            self.flush_agg(now_ms)
        if self.force is not None and now_ms >= self.force_due_ms:
            payload = self.force[1].replace("@E@", str(now_ms), 1)
            self.force = None
            self.hub.publish(self.force_stream, payload)
            self.hub.publish("!forceOrder@arr", payload)

    def flush_diff(self, stream: DiffStream, now_ms: int) -> None:
        """Send one depthUpdate if anything changed."""
        if not stream.bids and not stream.asks:
            return
        text = self.depth_text(
            now_ms,
            stream.first_update_id,
            stream.previous_update_id,
            self.texts.levels(sorted(stream.bids.items())),
            self.texts.levels(sorted(stream.asks.items())),
        )
        stream.previous_update_id = self.update_id
        stream.first_update_id = 0
        stream.bids.clear()
        stream.asks.clear()
        if self.drop_next:
            self.drop_next -= 1
            return
        self.hub.publish(stream.name, text)

    def send_partial(self, partial: PartialStream, now_ms: int, top: tuple[list, list]) -> None:
        """Send the full top levels of a partial-book stream."""
        previous = partial.previous_update_id
        text = self.depth_text(
            now_ms, previous + 1, previous, self.texts.levels(top[0]), self.texts.levels(top[1])
        )
        partial.previous_update_id = self.update_id
        self.hub.publish(partial.name, text)

    def depth_text(self, now_ms: int, first: int, previous: int, bids: str, asks: str) -> str:
        """Return a depthUpdate event."""
        return (
            f'{{"e":"depthUpdate","E":{now_ms},"T":{self.ts_update_ms},"s":"{self.symbol}",'
            f'"U":{first},"u":{self.update_id},"pu":{previous},"b":[{bids}],"a":[{asks}],'
            f'"st":1,"ps":"{self.symbol}"}}'
        )


def next_multiple(now_ms: int, cadence_ms: int) -> int:
    """Return the first multiple of the cadence after now; now itself for cadence 0."""
    return now_ms if cadence_ms == 0 else (now_ms // cadence_ms + 1) * cadence_ms

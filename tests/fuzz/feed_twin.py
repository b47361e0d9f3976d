"""The slow obvious decoder: json.loads, lists of pairs and fractions; what the scanner must equal.

It shares nothing with the scanner but the documented rules (processes/feed/binance.py).
"""

import json
import re
from fractions import Fraction

from common.enums import MarketKind, Side
from common.instruments import Instrument

NESTING_MAX = 32
MS_MAX = 9_223_372_036_854
_ESCAPE = re.compile(r'\\(["\\/bfnrt]|u[0-9a-fA-F]{4})')
_PLAIN = re.compile(r"[0-9]+(\.[0-9]+)?", re.ASCII)


class Refused(Exception):
    """The frame is bad."""


class Ignored(Exception):
    """The frame is in order and not wanted; args[0] is the name of the Decoded status."""


class Number(str):
    """A bare JSON number as it was written."""


class Pairs(list):
    """A JSON object: its members in order, keys may repeat."""

    def all(self, key):
        return [value for name, value in self if name == key]

    def has(self, key):
        return bool(self.all(key))

    def one(self, key, kind):
        values = self.all(key)
        if len(values) != 1 or type(values[0]) is not kind:
            raise Refused(key)
        return values[0]


def _refuse(text):
    raise Refused(text)


def _depth_of(value) -> int:
    deepest, stack = 0, [(value, 0)]
    while stack:
        item, depth = stack.pop()
        if type(item) in (list, Pairs):
            children = item if type(item) is list else [pair[1] for pair in item]
            deepest = max(deepest, depth + 1)
            stack += [(child, depth + 1) for child in children]
    return deepest


def parse(frame: bytes):
    """Parse one frame; escapes become a character that no name or number has."""
    try:
        text = _ESCAPE.sub("\ue000", frame.decode("utf-8"))
        value = json.loads(
            text, object_pairs_hook=Pairs, parse_int=Number, parse_float=Number,
            parse_constant=_refuse,
        )  # fmt: skip
    except (ValueError, RecursionError):
        raise Refused("syntax") from None
    if _depth_of(value) > NESTING_MAX:
        raise Refused("nesting")
    return value


def steps(text, decimals: int) -> int:
    if type(text) is not str or not _PLAIN.fullmatch(text):
        raise Refused("number")
    value = Fraction(text) * 10**decimals
    if value.denominator != 1 or value >= 10**18:
        raise Refused("off grid or too long")
    return int(value)


def positive(value: int) -> int:
    if value <= 0:
        raise Refused("range")
    return value


def integer(message: Pairs, key: str) -> int:
    text = message.one(key, Number)
    if not re.fullmatch(r"[0-9]{1,18}", text, re.ASCII):
        raise Refused(key)
    return int(text)


def time_ns(message: Pairs, key: str) -> int:
    milliseconds = integer(message, key) if message.has(key) else 0
    if milliseconds > MS_MAX:
        raise Refused(key)
    return milliseconds * 1_000_000


def _message_of(frame) -> tuple[Pairs, str]:
    if type(frame) is not Pairs:
        raise Refused("no object")
    if not frame.has("data"):
        if not frame.has("e"):
            raise Ignored("EVENT_UNKNOWN")
        return frame, ""
    message = frame.one("data", Pairs)
    return message, frame.one("stream", str) if frame.has("stream") else ""


def _levels(message: Pairs, key: str, instrument: Instrument) -> list[tuple[int, int]]:
    found = []
    for level in message.one(key, list):
        if type(level) is not list or len(level) != 2:
            raise Refused("level")
        price = positive(steps(level[0], instrument.price_grid_decimals))
        found.append((price, steps(level[1], instrument.qty_grid_decimals)))
    return found


def _depth(message: Pairs, instrument: Instrument, levels_max: int) -> dict:
    event_ns, trade_ns = time_ns(message, "E"), time_ns(message, "T")
    bids, asks = _levels(message, "b", instrument), _levels(message, "a", instrument)
    first, last = integer(message, "U"), integer(message, "u")
    previous = integer(message, "pu")
    if len(bids) + len(asks) > levels_max or first > last:
        raise Refused("range")
    return {
        "kind": MarketKind.DIFF_BEGIN, "ts_exch_ns": trade_ns or event_ns,
        "first_update_id": first, "last_update_id": last, "previous_update_id": previous,
        "bids": bids, "asks": asks,
    }  # fmt: skip


def _bbo(message: Pairs, instrument: Instrument) -> dict:
    event_ns, trade_ns = time_ns(message, "E"), time_ns(message, "T")
    answer = {"kind": MarketKind.BBO, "ts_exch_ns": trade_ns or event_ns}
    answer["update_id"] = integer(message, "u")
    for side, price_key, qty_key in (("bid", "b", "B"), ("ask", "a", "A")):
        price = steps(message.one(price_key, str), instrument.price_grid_decimals)
        qty = steps(message.one(qty_key, str), instrument.qty_grid_decimals)
        if price == 0 and qty != 0:
            raise Refused("range")
        answer[f"{side}_price_steps"], answer[f"{side}_qty_steps"] = price, qty
    return answer


def _trade(message: Pairs, instrument: Instrument, kind: MarketKind) -> dict:
    if kind == MarketKind.TRADE and message.has("X") and message.one("X", str) != "MARKET":
        raise Ignored("NOT_MARKET")
    event_ns, trade_ns = time_ns(message, "E"), time_ns(message, "T")
    count = 1
    if kind == MarketKind.AGG_TRADE:
        count = integer(message, "l") - integer(message, "f") + 1
        if not 1 <= count < 2**31:
            raise Refused("range")
    return {
        "kind": kind, "ts_exch_ns": trade_ns or event_ns,
        "price_steps": positive(steps(message.one("p", str), instrument.price_grid_decimals)),
        "qty_steps": positive(steps(message.one("q", str), instrument.qty_grid_decimals)),
        "trade_id": integer(message, "a" if kind == MarketKind.AGG_TRADE else "t"),
        "aggressor_side": Side.ASK if message.one("m", bool) else Side.BID,
        "trade_count": count,
    }  # fmt: skip


def _mark(message: Pairs) -> dict:
    rate = message.one("r", str) if message.has("r") else ""
    sign = -1 if rate.startswith("-") else 1
    return {
        "kind": MarketKind.MARK, "ts_exch_ns": time_ns(message, "E"),
        "mark_price_e8": steps(message.one("p", str), 8),
        "index_price_e8": steps(message.one("i", str), 8) if message.has("i") else 0,
        "funding_rate_e8": sign * steps(rate.removeprefix("-"), 8) if rate else 0,
        "ts_next_funding_ns": time_ns(message, "T"),
    }  # fmt: skip


def _liquidation(order: Pairs, event_ns: int, instrument: Instrument) -> dict:
    sides = {"BUY": Side.BID, "SELL": Side.ASK}
    if order.one("S", str) not in sides:
        raise Refused("side")
    return {
        "kind": MarketKind.LIQUIDATION, "ts_exch_ns": time_ns(order, "T") or event_ns,
        "price_steps": positive(steps(order.one("p", str), instrument.price_grid_decimals)),
        "qty_steps": positive(steps(order.one("q", str), instrument.qty_grid_decimals)),
        "cum_qty_steps": steps(order.one("z", str), instrument.qty_grid_decimals),
        "side": sides[order.one("S", str)],
    }  # fmt: skip


def decode(frame: bytes, instruments: list[Instrument], bytes_max: int, levels_max: int) -> dict:
    """Return the record's fields of one frame.

    Raises:
        Refused, Ignored: no record.
    """
    if len(frame) > bytes_max:
        raise Refused("oversize")
    message, stream = _message_of(parse(frame))
    kinds = {
        "depthUpdate": MarketKind.DIFF_BEGIN, "bookTicker": MarketKind.BBO,
        "aggTrade": MarketKind.AGG_TRADE, "trade": MarketKind.TRADE,
        "markPriceUpdate": MarketKind.MARK, "forceOrder": MarketKind.LIQUIDATION,
    }  # fmt: skip
    event = message.one("e", str)
    if event == "serverShutdown":
        raise Ignored("SHUTDOWN")
    if event not in kinds:
        raise Ignored("EVENT_UNKNOWN")
    kind = kinds[event]
    part = stream.partition("@")[2]
    if kind == MarketKind.DIFF_BEGIN and re.match(r"depth[0-9]|rpiDepth", part):
        raise Ignored("EVENT_UNKNOWN")
    named = message.one("o", Pairs) if kind == MarketKind.LIQUIDATION else message
    symbol = named.one("s", str)
    known = {instrument.symbol: instrument for instrument in instruments}
    if symbol not in known:
        raise Ignored("SYMBOL_UNKNOWN")
    instrument = known[symbol]
    if kind == MarketKind.DIFF_BEGIN:
        answer = _depth(message, instrument, levels_max)
    elif kind == MarketKind.BBO:
        answer = _bbo(message, instrument)
    elif kind == MarketKind.MARK:
        answer = _mark(message)
    elif kind == MarketKind.LIQUIDATION:
        answer = _liquidation(named, time_ns(message, "E"), instrument)
    else:
        answer = _trade(message, instrument, kind)
    return answer | {"instrument_id": instrument.instrument_id}

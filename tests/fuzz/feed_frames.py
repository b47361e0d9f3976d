"""Random Binance frames: right ones in any writing, and ways to spoil them."""

import random

SYMBOLS = ("BTCUSDT", "ETHUSDT", "1000PEPEUSDT", "BTCUSDT_250926", "X")
NUMBERS = (
    "0", "0.0", "1", "5", "61800.20", "100000.00", "0.00001234", "1234567.1", "12345678.5",
    "0.001", "1.0000000000000", "123456789012345678", "1234567890123456789", "0.10", "9" * 30,
    "1.00000000000000000000000001", "-1", "-0.5", "+1", "1e5", "NaN", "Infinity", "", ".", "1.",
    ".5", "1..2", "0x10", " 1", "1 ", "1,5", "00012.50", "61800.2\\u0030", "999999.99", "7.77",
)  # fmt: skip
WEIRD = (
    None, True, False, 0, -1, 1.5, 10**17, 10**18, 10**30, 9_223_372_036_855, "", "text", [], {},
    [[]], [["1", "2"]], [["1", "2", "3"]], [[1, 2]], [None], {"s": "BTCUSDT"}, "BTCUSDT", "MARKET",
)  # fmt: skip
EXTRA_KEYS = (
    "st",
    "ps",
    "ap",
    "nq",
    "P",
    "x",
    "zz",
    "data",
    "stream",
    "e\\u0041",
    "",
    "ключ",
    "\U0001f600",
)


TOKENS = (
    b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"-", b".", b"0", b"9" * 19, b"NaN", b"1e9",
    b"\x00", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"null", b" ",
    b"[" * 40, b'{"":' * 40, b'"data":', b'"stream":', b'"b":[],',
)  # fmt: skip
STREAMS = ("@depth@100ms", "@depth", "@depth@0ms", "@depth5@100ms", "@rpiDepth@500ms")


class Raw(str):
    """Text that goes into the frame as it is."""


def number(rng: random.Random, decimals: int, zero_share: float = 0.1) -> str:
    if rng.random() < zero_share:
        return rng.choice(("0", "0.000"))
    whole = str(rng.randrange(10 ** rng.randint(0, 7)))
    places = rng.randint(0, decimals)
    text = f"{whole}.{''.join(rng.choices('0123456789', k=places))}" if places else whole
    return text + "0" * rng.randint(0, 3) if places else text


def levels(rng: random.Random) -> list[list[str]]:
    count = rng.choice((0, 0, 1, 2, 3, 4, 5, 10, 30))
    return [[f"{rng.randint(1, 99999)}.{rng.randint(0, 9)}0", number(rng, 3)] for _ in range(count)]


def event(rng: random.Random) -> tuple[str, dict]:
    """Return (stream name, message) of a random event in the venue's own key order."""
    symbol = rng.choice(SYMBOLS) if rng.random() < 0.95 else "UNKNOWNUSDT"
    stamp = 1_784_212_800_000 + rng.randrange(10**9)
    price, qty = f"{rng.randint(1, 99999)}.{rng.randint(0, 9)}0", number(rng, 3, 0)
    kind = rng.choice(
        ("depth", "depth", "bookTicker", "aggTrade", "trade", "mark", "force", "other")
    )
    if kind == "depth":
        last = rng.randrange(10**13)
        message = {
            "e": "depthUpdate", "E": stamp, "T": stamp - 5, "s": symbol,
            "U": last - rng.randint(0, 9), "u": last, "pu": last - 10,
            "b": levels(rng), "a": levels(rng),
        }  # fmt: skip
        stream = rng.choice(STREAMS)
    elif kind == "bookTicker":
        stream = "@bookTicker"
        message = {
            "e": kind, "u": rng.randrange(10**13), "s": symbol, "b": price, "B": qty,
            "a": price, "A": number(rng, 3), "T": stamp, "E": stamp,
        }  # fmt: skip
    elif kind == "aggTrade":
        stream, first = "@aggTrade", rng.randrange(10**10)
        message = {
            "e": kind, "E": stamp, "s": symbol, "a": rng.randrange(10**10), "p": price, "q": qty,
            "f": first, "l": first + rng.randint(-1, 20), "T": stamp, "m": rng.random() < 0.5,
        }  # fmt: skip
    elif kind == "trade":
        stream = "@trade"
        message = {
            "e": kind, "E": stamp, "T": stamp, "s": symbol, "t": rng.randrange(10**10), "p": price,
            "q": qty, "X": rng.choice(("MARKET", "MARKET", "INSURANCE_FUND")),
            "m": rng.random() < 0.5,
        }  # fmt: skip
    elif kind == "mark":
        stream = "@markPrice@1s"
        rate = rng.choice(("", "0.00010000", "-0.00000375", "0"))
        message = {
            "e": "markPriceUpdate", "E": stamp, "s": symbol, "p": number(rng, 8),
            "i": number(rng, 8), "P": number(rng, 8), "r": rate, "T": stamp,
        }  # fmt: skip
    elif kind == "force":
        stream = "@forceOrder"
        order = {
            "s": symbol, "S": rng.choice(("BUY", "SELL")), "o": "LIMIT", "f": "IOC", "q": qty,
            "p": price, "ap": price, "X": "FILLED", "l": qty, "z": qty, "T": stamp,
        }  # fmt: skip
        message = {"e": "forceOrder", "E": stamp, "o": order}
    else:
        stream = "@kline_1m"
        message = {"e": rng.choice(("kline", "serverShutdown", "depth")), "E": stamp, "s": symbol}
    return symbol.lower() + stream, message


def value(rng: random.Random, depth: int = 0):
    """Return any JSON value."""
    kind = rng.randrange(8 if depth < 4 else 6)
    if kind == 6:
        return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind == 7:
        return {rng.choice(EXTRA_KEYS + ("b", "e", "s")): value(rng, depth + 1) for _ in range(2)}
    return (
        None, rng.random() < 0.5, rng.randrange(-100, 10**9), Raw("-1.5e+3"),
        rng.choice(('a "quoted" \\ text', "é€😀", "]}", "{[", "\n\t")), Raw('"\\u00e9\\/\\b"'),
    )[kind]  # fmt: skip


def spoil(rng: random.Random, message: dict) -> list[tuple[str, object]]:
    """Return the members of `message` with one fault at most in some of them."""
    members = list(message.items())
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        at = rng.randrange(len(members)) if members else -1
        what = rng.randrange(6)
        if what == 0 and members:
            del members[at]
        elif what == 1 and members:
            members.insert(rng.randrange(len(members) + 1), members[at])
        elif what == 2 and members:
            members[at] = (members[at][0], rng.choice(WEIRD))
        elif what == 3 and members:
            members[at] = (members[at][0], Raw(f'"{rng.choice(NUMBERS)}"'))
        elif what == 4 and members and isinstance(members[at][1], list) and members[at][1]:
            rows = [list(row) if isinstance(row, list) else row for row in members[at][1]]
            row = rng.choice(rows)
            if isinstance(row, list) and row:
                row[rng.randrange(len(row))] = Raw(f'"{rng.choice(NUMBERS)}"')
            members[at] = (members[at][0], rows)
        elif what == 5 and members and isinstance(members[at][1], dict):
            members[at] = (members[at][0], spoil(rng, members[at][1]))
    return members


def write(rng: random.Random, item, spaces: float) -> str:
    """Write one value as JSON with random whitespace between the tokens."""

    def gap() -> str:
        return rng.choice((" ", "  ", "\n", "\t", "\r\n")) if rng.random() < spaces else ""

    if isinstance(item, Raw):
        return item
    if isinstance(item, dict):
        item = list(item.items())
        is_object = True
    else:
        is_object = isinstance(item, list) and bool(item) and isinstance(item[0], tuple)
    if is_object:
        inside = (
            f'{gap()}"{key}"{gap()}:{gap()}{write(rng, member, spaces)}{gap()}'
            for key, member in item
        )
        return "{" + ",".join(inside) + "}" if item else "{" + gap() + "}"
    if isinstance(item, list):
        inside = (f"{gap()}{write(rng, member, spaces)}{gap()}" for member in item)
        return "[" + ",".join(inside) + "]" if item else "[" + gap() + "]"
    if item is None or isinstance(item, bool):
        return {None: "null", True: "true", False: "false"}[item]
    if isinstance(item, str):
        escaped = item.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + escaped.replace("\n", "\\n").replace("\t", "\\t") + '"'
    return repr(item)


def frame(rng: random.Random, is_right: bool = False) -> bytes:
    """Return one frame; with `is_right` in any writing but without a fault."""
    stream, message = event(rng)
    members = list(message.items()) if is_right else spoil(rng, message)
    for _ in range(rng.choice((0, 0, 0, 1, 3))):
        key = rng.choice(EXTRA_KEYS)
        members.insert(rng.randrange(len(members) + 1), (key, value(rng)))
    if rng.random() < 0.5:
        rng.shuffle(members)
    whole: list[tuple[str, object]] = members
    if rng.random() < 0.7:
        whole = [("stream", stream), ("data", members or {})]
        if rng.random() < 0.2:
            whole.insert(rng.randrange(3), (rng.choice(EXTRA_KEYS + ("e", "b")), value(rng)))
        if rng.random() < 0.2:
            rng.shuffle(whole)
        if not is_right and rng.random() < 0.1:
            del whole[rng.randrange(len(whole))]
    text = write(rng, whole or {}, rng.choice((0, 0, 0, 0.1, 0.5)))
    return text.encode("utf-8")


def mutate(rng: random.Random, text: bytes) -> bytes:
    """Damage some bytes: truncate, flip, drop, double, insert, or splice tokens."""
    data = bytearray(text)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        if not data:
            break
        at = rng.randrange(len(data))
        to = min(len(data), at + rng.choice((1, 1, 2, 5, 20)))
        what = rng.randrange(7)
        if what == 0:
            del data[at:]
        elif what == 1:
            data[at] ^= 1 << rng.randrange(8)
        elif what == 2:
            del data[at:to]
        elif what == 3:
            data[at:at] = data[at:to]
        elif what == 4:
            data[at:at] = rng.choice(TOKENS)
        elif what == 5:
            data[at] = rng.randrange(256)
        else:
            source = rng.randrange(len(data))
            data[at:to] = data[source : source + (to - at)]
    return bytes(data)

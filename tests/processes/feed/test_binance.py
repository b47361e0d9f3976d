"""The scanner on the venue's documented messages, fault by fault."""

import gzip
import json

import numpy as np
import pytest
from fuzz import feed_twin

from common.enums import MarketKind
from common.instruments import Instrument, InstrumentFacts
from common.records import LAYOUTS
from processes.feed import decoded
from processes.feed.binance import decode_frame
from processes.feed.decoded import Decoded
from processes.feed.json_scan import TEXT_SLACK
from processes.feed.symbols import find_symbol, symbol_table

from support import capture

FACTS = InstrumentFacts(tick_size="0.10", lot_size="0.001", price_decimals=2, qty_decimals=3)
INSTRUMENTS = [
    Instrument(instrument_id=i, venue="binance-usdm", symbol=symbol, facts=FACTS)
    for i, symbol in enumerate(("ETHUSDT", "BTCUSDT"))
]
SYMBOLS = symbol_table(INSTRUMENTS)
BTC = 1

# The documents' examples (Websocket Market Streams), shortened keys and all.
DEPTH = (
    b'{"e":"depthUpdate","E":1784212800123,"T":1784212800115,"s":"BTCUSDT","ps":"BTCUSDT","st":1,'
    b'"U":9182730410021,"u":9182730410388,"pu":9182730409990,"b":[["64210.10","3.412"],'
    b'["64209.80","0"]],"a":[["64210.20","1.905"],["64211.00","0.250"]]}'
)
BBO = (
    b'{"e":"bookTicker","u":9182730410410,"E":1784212800131,"T":1784212800128,"s":"BTCUSDT",'
    b'"b":"64210.10","B":"3.412","a":"64210.20","A":"1.905","st":1,"ps":"BTCUSDT"}'
)
AGG_TRADE = (
    b'{"e":"aggTrade","E":1784212800210,"s":"BTCUSDT","a":3312450177,"p":"64210.20","q":"0.415",'
    b'"nq":"0.400","f":7712009911,"l":7712009914,"T":1784212800190,"m":false,"st":1}'
)
TRADE = (
    b'{"e":"trade","E":1723161256322,"T":1723161256321,"s":"BTCUSDT","t":5266583935,'
    b'"p":"61800.30","q":"0.006","X":"MARKET","m":true}'
)
MARK = (
    b'{"e":"markPriceUpdate","E":1784212801000,"s":"BTCUSDT","p":"64208.31000000",'
    b'"ap":"64207.90000000","i":"64231.40760000","P":"64219.77000000","r":"-0.00004120",'
    b'"T":1784217600000,"st":1}'
)
FORCE = (
    b'{"e":"forceOrder","E":1784212802450,"o":{"s":"BTCUSDT","S":"SELL","o":"LIMIT","f":"IOC",'
    b'"q":"0.214","p":"63890.40","ap":"64011.70","X":"FILLED","l":"0.060","z":"0.214",'
    b'"T":1784212802444}}'
)
EVENTS = {
    "btcusdt@depth@100ms": DEPTH, "btcusdt@bookTicker": BBO, "btcusdt@aggTrade": AGG_TRADE,
    "btcusdt@trade": TRADE, "btcusdt@markPrice@1s": MARK, "btcusdt@forceOrder": FORCE,
}  # fmt: skip


def combined(stream: str, event: bytes) -> bytes:
    return b'{"stream":"%s","data":%s}' % (stream.encode(), event)


class Scanner:
    """decode_frame with its arrays."""

    def __init__(self, bytes_max=100_000, levels_max=1_000, slots=512) -> None:
        self.state = decoded.new_state(bytes_max, levels_max)
        self.words = np.zeros((slots, 8), np.int64)

    def __call__(self, frame: bytes, sequence: int = 0) -> int:
        text = np.frombuffer(frame + b"\0" * TEXT_SLACK, np.uint8)
        size = len(self.words)
        return decode_frame(
            text, 0, len(frame), SYMBOLS, self.words, size - 1, sequence, size, 99, self.state
        )

    def record(self, name: str, slot: int = 0) -> np.void:
        return self.words[slot].view(LAYOUTS[name])[0]

    def loss(self) -> tuple[int, int]:
        return int(self.state[decoded.GAP_NEEDED]), int(self.state[decoded.INSTRUMENT])


@pytest.mark.parametrize("wrap", [lambda s, e: e, combined], ids=["bare", "combined"])
@pytest.mark.parametrize("stream", EVENTS)
def test_documented_examples_decode_field_by_field(stream, wrap):
    scan = Scanner()
    slots = scan(wrap(stream, EVENTS[stream]))
    kind = MarketKind(int(scan.state[decoded.KIND]))
    expected = {
        MarketKind.DIFF_BEGIN: dict(
            ts_exch_ns=1784212800115 * 10**6, first_update_id=9182730410021,
            last_update_id=9182730410388, previous_update_id=9182730409990, bid_count=2,
            ask_count=2,
        ),
        MarketKind.BBO: dict(
            ts_exch_ns=1784212800128 * 10**6, update_id=9182730410410, bid_price_steps=642101,
            bid_qty_steps=3412, ask_price_steps=642102, ask_qty_steps=1905,
        ),
        MarketKind.AGG_TRADE: dict(
            ts_exch_ns=1784212800190 * 10**6, price_steps=642102, qty_steps=415,
            trade_id=3312450177, aggressor_side=1, trade_count=4,
        ),
        MarketKind.TRADE: dict(
            ts_exch_ns=1723161256321 * 10**6, price_steps=618003, qty_steps=6,
            trade_id=5266583935, aggressor_side=-1, trade_count=1,
        ),
        MarketKind.MARK: dict(
            ts_exch_ns=1784212801000 * 10**6, mark_price_e8=6420831000000,
            index_price_e8=6423140760000, funding_rate_e8=-4120,
            ts_next_funding_ns=1784217600000 * 10**6,
        ),
        MarketKind.LIQUIDATION: dict(
            ts_exch_ns=1784212802444 * 10**6, price_steps=638904, qty_steps=214,
            cum_qty_steps=214, side=-1,
        ),
    }[kind]  # fmt: skip
    name = {MarketKind.DIFF_BEGIN: "DEPTH", MarketKind.AGG_TRADE: "TRADE"}.get(kind, kind.name)
    record = scan.record(name)
    assert {field: int(record[field]) for field in expected} == expected
    assert (record["kind"], record["slot_count"], record["ts_recv_ns"]) == (kind, slots, 99)
    assert record["instrument_id"] == BTC
    if kind == MarketKind.DIFF_BEGIN:
        assert slots == 3
        levels = [int(v) for slot in (1, 2) for v in scan.words[slot, 2:]]
        assert levels == [642101, 3412, 642098, 0, 642102, 1905, 642110, 250, 0, 0, 0, 0]


def test_slots_wrap_around_the_ring():
    scan = Scanner(slots=4)
    assert scan(DEPTH, sequence=4_000_000_003) == 3
    assert scan.record("DEPTH", 3)["last_update_id"] == 9182730410388
    assert (scan.words[0, 2], scan.words[1, 2]) == (642101, 642110)


def test_an_empty_diff_is_a_message():
    scan = Scanner()
    event = json.loads(DEPTH) | {"b": [], "a": []}
    assert scan(json.dumps(event).encode()) == 1
    assert scan.record("DEPTH")["bid_count"] == scan.record("DEPTH")["ask_count"] == 0


@pytest.mark.parametrize("missing", ["E", "T", "st", "ps"], ids=lambda key: f"without {key}")
def test_optional_keys_may_be_missing(missing):
    scan = Scanner()
    event = json.loads(DEPTH)
    del event[missing]
    assert scan(json.dumps(event).encode()) == 3
    expected = 1784212800123 if missing == "T" else 1784212800115
    assert scan.record("DEPTH")["ts_exch_ns"] == expected * 10**6


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ((b'"pu":9182730409990,', b""), Decoded.KEY_MISSING),
        ((b'"U":', b'"u":1,"U":'), Decoded.KEY_TWICE),
        ((b'"e":', b'"e":"trade","e":'), Decoded.KEY_TWICE),
        ((b'9182730410021,"u"', b'"9182730410021","u"'), Decoded.TYPE),
        ((b'"64210.10"', b"64210.10"), Decoded.TYPE),
        ((b'"s":"BTCUSDT"', b'"s":7'), Decoded.TYPE),
        ((b'["64209.80","0"]', b'["64209.80"]'), Decoded.TYPE),
        ((b'["64209.80","0"]', b'["64209.80","0","1"]'), Decoded.TYPE),
        ((b'["64209.80","0"]', b"null"), Decoded.TYPE),
        ((b'"64210.10"', b'"NaN"'), Decoded.NUMBER),
        ((b'"64210.10"', b'"64210.10e0"'), Decoded.NUMBER),
        ((b'"64210.10"', b'"-64210.10"'), Decoded.NEGATIVE),
        ((b'"64210.10"', b'"64210.11"'), Decoded.OFF_GRID),
        ((b'"3.412"', b'"3.4125"'), Decoded.OFF_GRID),
        ((b'"64210.10"', b'"%s"' % (b"7" * 30)), Decoded.TOO_LONG),
        ((b'"64210.10"', b'"0.00"'), Decoded.RANGE),
        ((b"9182730410021", b"9182730410999"), Decoded.RANGE),
        ((b"9182730410021", b"-5"), Decoded.NEGATIVE),
        ((b"9182730410021", b"5.0"), Decoded.TYPE),
        ((b"9182730410021", b"9" * 19), Decoded.TOO_LONG),
        ((b"1784212800115", b"9223372036855"), Decoded.RANGE),
        ((b'"st":1', b'"st":' + b"[" * 40 + b"]" * 40), Decoded.NESTING),
        ((b'"ps":"BTC', b'"ps":"\xc3('), Decoded.UTF8),
        ((b'"ps":"BTC', b'"ps":"\xed\xa0\x80'), Decoded.UTF8),
        ((b'"st":1', b'"st":01'), Decoded.SYNTAX),
        ((b'"st":1', b'"st":NaN'), Decoded.SYNTAX),
        ((b'"st":1', b'"st":1,'), Decoded.SYNTAX),
        ((b'"ps":', b'"p\ns":'), Decoded.SYNTAX),
        ((b"]]}", b"]]}}"), Decoded.SYNTAX),
        ((b"]]}", b"]]"), Decoded.SYNTAX),
    ],
)  # fmt: skip
def test_faults_refuse_the_whole_diff_and_name_its_book(change, status):
    frame = DEPTH.replace(*change, 1)
    assert frame != DEPTH
    for whole in (frame, combined("btcusdt@depth@100ms", frame)):
        scan = Scanner()
        assert scan(whole) == status
        assert scan.state[decoded.KIND] == 0
        needed, instrument_id = scan.loss()
        assert needed == 1
        is_told = b"stream" in whole or b'"s":"BTCUSDT"' in frame
        assert instrument_id == (BTC if is_told else -1)


@pytest.mark.parametrize(
    ("stream", "change", "status"),
    [
        ("btcusdt@bookTicker", (b'"B":"3.412",', b""), Decoded.KEY_MISSING),
        ("btcusdt@bookTicker", (b'"64210.10"', b'"0.0"'), Decoded.RANGE),
        ("btcusdt@aggTrade", (b'"m":false', b'"m":0'), Decoded.TYPE),
        ("btcusdt@aggTrade", (b"7712009914", b"7712009910"), Decoded.RANGE),
        ("btcusdt@aggTrade", (b'"q":"0.415"', b'"q":"0"'), Decoded.RANGE),
        ("btcusdt@trade", (b'"X":"MARKET"', b'"X":1'), Decoded.TYPE),
        ("btcusdt@markPrice@1s", (b'"64208.31000000"', b'"64208.310000001"'), Decoded.OFF_GRID),
        ("btcusdt@markPrice@1s", (b'"-0.00004120"', b'"--0.00004120"'), Decoded.NEGATIVE),
        ("btcusdt@forceOrder", (b'"SELL"', b'"HOLD"'), Decoded.RANGE),
        ("btcusdt@forceOrder", (b'"o":{', b'"o":[],"x":{'), Decoded.TYPE),
    ],
)
def test_faults_of_other_events_lose_no_book(stream, change, status):
    frame = EVENTS[stream].replace(*change, 1)
    assert frame != EVENTS[stream]
    scan = Scanner()
    assert scan(combined(stream, frame)) == status
    assert scan.loss()[0] == 0


@pytest.mark.parametrize(
    ("frame", "status"),
    [
        (b'{"result":null,"id":1}', Decoded.EVENT_UNKNOWN),
        (b"{}", Decoded.EVENT_UNKNOWN),
        (b'{"e":"kline","s":"BTCUSDT","k":{"t":1}}', Decoded.EVENT_UNKNOWN),
        (combined("btcusdt@depth5@100ms", DEPTH), Decoded.EVENT_UNKNOWN),
        (combined("btcusdt@rpiDepth@500ms", DEPTH), Decoded.EVENT_UNKNOWN),
        (b'{"e":"serverShutdown","E":1}', Decoded.SHUTDOWN),
        (DEPTH.replace(b'"s":"BTCUSDT"', b'"s":"DOGEUSDT"'), Decoded.SYMBOL_UNKNOWN),
        (DEPTH.replace(b'"s":"BTCUSDT"', b'"s":"btcusdt"'), Decoded.SYMBOL_UNKNOWN),
        (TRADE.replace(b"MARKET", b"INSURANCE_FUND"), Decoded.NOT_MARKET),
    ],
)
def test_what_is_not_wanted_is_told_apart_from_what_is_bad(frame, status):
    scan = Scanner()
    assert scan(frame) == status
    assert scan.loss()[0] == 0


@pytest.mark.parametrize(
    ("frame", "status", "loss"),
    [
        (b"", Decoded.SYNTAX, (1, -1)),
        (b"\xff\xfe", Decoded.SYNTAX, (1, -1)),
        (b"[1,2]", Decoded.TYPE, (1, -1)),
        (b'"text"', Decoded.TYPE, (1, -1)),
        (b'{"stream":"btcusdt@depth","da', Decoded.SYNTAX, (1, BTC)),
        (b'{"stream":"BTCUSDT@depth@500ms","data":7}', Decoded.TYPE, (1, BTC)),
        (b'{"stream":"btcusdt@bookTicker","data":{"e":"bo', Decoded.SYNTAX, (0, BTC)),
        (b'{"stream":"dogeusdt@depth","data":{"e":', Decoded.SYNTAX, (0, -1)),
        (b'{"stream":1,"data":{"e":"depthUpdate","s":"BTCUSDT"}}', Decoded.TYPE, (1, BTC)),
        (b'{"stream":"x","stream":"y","data":{}}', Decoded.KEY_TWICE, (0, -1)),
        (b'{"data":{},"data":{}}', Decoded.KEY_TWICE, (1, -1)),
        (b'{"data":{"x":1}}', Decoded.KEY_MISSING, (1, -1)),
    ],
)
def test_what_may_have_been_depth_is_a_loss(frame, status, loss):
    scan = Scanner()
    assert scan(frame) == status
    assert scan.loss() == loss


def test_limits_refuse_and_say_whose_book():
    event = json.loads(DEPTH)
    event["b"] = [["64210.10", "1.000"]] * 600
    event["a"] = [["64211.10", "1.000"]] * 401
    frame = combined("btcusdt@depth@100ms", json.dumps(event).encode())
    scan = Scanner()
    assert scan(frame) == Decoded.LEVELS and scan.loss() == (1, BTC)
    assert Scanner(levels_max=1_001)(frame) == 1 + 334
    short = Scanner(bytes_max=10_000)
    assert short(frame) == Decoded.OVERSIZE and short.loss() == (1, BTC)


def test_a_state_array_is_good_again_after_every_fault():
    scan = Scanner()
    for frame in (b'{"data":{"b":[["', DEPTH[:-2], b'{"stream":"x","stream":2', b"[" * 99, FORCE):
        scan(frame)
        assert scan(combined("btcusdt@depth@100ms", DEPTH)) == 3
        assert scan(BBO) == 1 and scan.loss() == (0, BTC)


def test_symbols_are_found_exactly():
    names = [f"{a}{b}{c}USDT" for a in "ABCDEFGH" for b in "KLMN" for c in "1000PEPE"]
    names = sorted(set(names))[:255] + ["A" * 24]
    instruments = [
        Instrument(instrument_id=i, venue="x", symbol=name, facts=FACTS)
        for i, name in enumerate(names)
    ]
    table = symbol_table(instruments)

    def find(name: str) -> int:
        text = np.frombuffer(name.encode() + b'"' * TEXT_SLACK, np.uint8)
        return int(find_symbol(table, text, 0, len(name)))

    for i, name in enumerate(names):
        assert table[find(name), 3] == i
    for other in ("", "AK1USD", "AK1USDTX", "ak1usdt", "A" * 23, "A" * 25, "B" * 30):
        assert find(other) == -1


def test_the_real_capture_decodes_without_an_error_and_as_the_twin_says():
    path = capture("binance-usdm-btcusdt-20240808.gz")
    scan = Scanner(levels_max=5_000, slots=2_048)
    counts: dict[int, int] = {}
    with gzip.open(path) as lines:
        for number, line in enumerate(lines):
            frame = line.split(b" ", 1)[1].rstrip()
            status = scan(frame)
            kind = int(scan.state[decoded.KIND]) if status > 0 else status
            counts[kind] = counts.get(kind, 0) + 1
            if number % 37 == 0 and status > 0:
                expected = feed_twin.decode(frame, INSTRUMENTS, 100_000, 5_000)
                assert expected["kind"] == kind
                if kind == MarketKind.DIFF_BEGIN:
                    levels = [tuple(s[w : w + 2]) for s in scan.words[1:status] for w in (2, 4, 6)]
                    both = expected["bids"] + expected["asks"]
                    assert levels[: len(both)] == both
                elif kind == MarketKind.BBO:
                    record = scan.record("BBO")
                    assert record["ask_price_steps"] == expected["ask_price_steps"]
    assert counts == {
        MarketKind.BBO: 66_089, MarketKind.TRADE: 21_313, MarketKind.DIFF_BEGIN: 6_551,
        Decoded.EVENT_UNKNOWN: 1,  # the REST snapshot among the frames
    }  # fmt: skip

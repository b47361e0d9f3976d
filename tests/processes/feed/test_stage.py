"""The stage over transports in memory: what reaches the ring, and what a loss does."""

import json

import numpy as np
import pytest
from fake_link import FakeLink
from hypothesis import given, settings
from hypothesis import strategies as st

from common.enums import GapReason, MarketKind
from common.instruments import Instrument, InstrumentFacts
from common.records import LAYOUTS
from processes.feed.config import FeedConfig
from processes.feed.counters import HISTOGRAMS, LABELS, Counter
from processes.feed.session import NS_PER_MS, NS_PER_S, plan_streams
from processes.feed.stage import FeedStage
from shm.counters import anonymous_counters
from shm.ring import MARKET, anonymous_ring

FACTS = InstrumentFacts(tick_size="0.10", lot_size="0.001", price_decimals=2, qty_decimals=3)
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
CONFIG = FeedConfig(
    depth_quiet_ms_max=5_000, other_quiet_ms_max=10_000, ping_ms=1_000, rotate_s=100,
    overlap_ms=2_000, overlap_ms_max=20_000,
)  # fmt: skip


def depth(u: int, pu: int, symbol: str = "BTCUSDT", levels: int = 1) -> bytes:
    return json.dumps(
        {
            "stream": f"{symbol.lower()}@depth@100ms",
            "data": {
                "e": "depthUpdate", "E": 5, "T": 4, "s": symbol, "U": pu + 1, "u": u, "pu": pu,
                "b": [["100.10", "1.000"]] * levels, "a": [],
            },
        }
    ).encode()  # fmt: skip


def agg_trade(number: int, symbol: str = "BTCUSDT") -> bytes:
    return json.dumps(
        {
            "stream": f"{symbol.lower()}@aggTrade",
            "data": {
                "e": "aggTrade", "E": 9, "s": symbol, "a": number, "p": "100.10", "q": "0.5",
                "f": number, "l": number, "T": 8, "m": True,
            },
        }
    ).encode()  # fmt: skip


class Rig:
    """A stage, its transports (public 0 and 1, market 2 and 3) and the other end of its ring."""

    def __init__(self, config: FeedConfig = CONFIG, capacity: int = 1024) -> None:
        self.links: list[FakeLink] = []
        instruments = [
            Instrument(instrument_id=i, venue="binance-usdm", symbol=s, facts=FACTS)
            for i, s in enumerate(SYMBOLS)
        ]
        self.producer, self.consumer = anonymous_ring(MARKET, capacity)
        self.counters = anonymous_counters(LABELS, HISTOGRAMS)
        self.stage = FeedStage(
            plan_streams(instruments, "ws://x/public", "ws://x/market", config),
            instruments, config, self.producer, self.counters, self._new_link,
            read_wall=lambda: 1_700_000_000 * NS_PER_S,
            boot_id="01020304-0506-0708-090a-0b0c0d0e0f10",
        )  # fmt: skip
        self.now_ns = 10 * NS_PER_S

    def _new_link(self, url: str) -> FakeLink:
        self.links.append(FakeLink(url))
        return self.links[-1]

    def turn(self, milliseconds: int = 0) -> None:
        self.now_ns += milliseconds * NS_PER_MS
        self.stage.do_work(self.now_ns)

    def start(self) -> None:
        """Connect and open the first link of both lines."""
        self.turn()
        self.links[0].open()
        self.links[2].open()
        self.turn()

    def read(self, with_clock: bool = False) -> list[np.void]:
        """Return the messages' header slots (and drop the CLOCK records)."""
        found, slots = [], self.consumer.read(100_000)
        at = 0
        while at < len(slots):
            kind = MarketKind(int(slots[at, 0]) & 255)
            name = {"DIFF_BEGIN": "DEPTH", "AGG_TRADE": "TRADE"}.get(kind.name, kind.name)
            header = slots[at].copy().view(LAYOUTS[name])[0]
            at += max(int(header["slot_count"]), 1)
            if kind != MarketKind.CLOCK or with_clock:
                found.append(header)
        return found

    def count(self, counter: Counter) -> int:
        return int(self.counters.values[counter])


def updates(records) -> list[int]:
    return [int(r["last_update_id"]) for r in records if r["kind"] == MarketKind.DIFF_BEGIN]


def gaps(records) -> list[tuple[int, int]]:
    return [
        (int(r["instrument_id"]), int(r["reason"])) for r in records if r["kind"] == MarketKind.GAP
    ]


def test_frames_become_records_with_the_stamp_of_their_read():
    rig = Rig()
    rig.start()
    assert not rig.stage.is_ready()
    rig.links[0].deliver(111, depth(5, 4), depth(6, 5, levels=7))
    rig.links[2].deliver(222, agg_trade(9))
    rig.turn()
    assert rig.stage.is_ready()
    first, second, trade = rig.read()
    assert (first["kind"], first["slot_count"], first["ts_recv_ns"]) == (2, 2, 111)
    assert (second["slot_count"], second["bid_count"], second["ts_recv_ns"]) == (4, 7, 111)
    assert (trade["trade_id"], trade["ts_recv_ns"], trade["aggressor_side"]) == (9, 222, -1)
    assert first["recv_to_pub_ns"] > 0
    assert (rig.count(Counter.FRAMES), rig.count(Counter.DEPTH)) == (3, 2)
    assert rig.count(Counter.AGG_TRADE) == rig.count(Counter.OPENED) - 1 == 1
    assert rig.counters.histograms[0].sum() > 0
    assert rig.count(Counter.SOCKET_BYTES) == rig.count(Counter.FRAME_BYTES) > 300


def test_urls_carry_the_routes_and_streams():
    rig = Rig()
    assert rig.links[0].url == rig.links[1].url
    assert rig.links[0].url.startswith("ws://x/public/stream?streams=btcusdt@depth@100ms/btcusdt@b")
    assert rig.links[2].url.endswith(
        "solusdt@aggTrade/solusdt@markPrice@1s/solusdt@forceOrder"
    ) and rig.links[2].url.startswith("ws://x/market/stream?streams=btcusdt@aggTrade/")


def test_a_bad_depth_frame_is_counted_and_its_book_told():
    rig = Rig()
    rig.start()
    good = depth(6, 5, "ETHUSDT")
    rig.links[0].deliver(1, depth(5, 4), good.replace(b"100.10", b"100.11"), good[:-9], b"{]")
    rig.links[2].deliver(2, b"garbage", agg_trade(1).replace(b'"p"', b'"P"'))
    rig.turn()
    records = rig.read()
    assert updates(records) == [5]
    assert gaps(records) == [(1, GapReason.DECODE), (1, GapReason.DECODE), (-1, GapReason.DECODE)]
    assert rig.count(Counter.DECODE_ERRORS) == 5
    assert rig.count(Counter.BAD_OFF_GRID) == rig.count(Counter.BAD_KEY_MISSING) == 1
    assert rig.count(Counter.BAD_SYNTAX) == 3
    assert rig.count(Counter.GAPS) == 3
    ledger = rig.producer.stats()
    assert ledger["offered"] == ledger["published"] + ledger["dropped"]


def test_ignored_frames_are_counted_by_reason():
    rig = Rig()
    rig.start()
    trade = agg_trade(1).replace(b"aggTrade", b"trade").replace(b'"a":', b'"X": "NA", "t":')
    frames = (b'{"result":null,"id":1}', depth(1, 0, "DOGEUSDT"), trade.replace(b'"f"', b'"x"'))
    rig.links[0].deliver(1, *frames)
    rig.turn()
    assert rig.read() == []
    for counter in (Counter.EVENT_UNKNOWN, Counter.SYMBOL_UNKNOWN, Counter.NOT_MARKET):
        assert rig.count(counter) == 1, counter
    assert rig.count(Counter.DECODE_ERRORS) == rig.count(Counter.GAPS) == 0


def test_a_fragmented_message_is_taken_like_any_other():
    rig = Rig()
    rig.start()
    rig.links[0].deliver_fragments(7, depth(5, 4, levels=9))
    rig.links[0].deliver_fragments(8, depth(6, 5, levels=20_000))
    rig.turn()
    records = rig.read()
    assert updates(records) == [5] and records[0]["bid_count"] == 9
    assert rig.count(Counter.BAD_OVERSIZE) == 1
    assert gaps(records) == [(0, GapReason.DECODE)]


def test_a_full_ring_drops_whole_messages_and_tells():
    rig = Rig(capacity=16)
    rig.start()
    rig.consumer.read(16)
    rig.links[0].deliver(1, *(depth(i, i - 1, levels=6) for i in range(1, 9)))
    rig.turn()
    taken = updates(rig.read())
    assert taken == [1, 2, 3, 4, 5]
    assert rig.count(Counter.DROPPED) == 3 and rig.count(Counter.DROPPED_SLOTS) == 9
    rig.links[0].deliver(2, depth(9, 8))
    rig.turn()
    records = rig.read()
    assert gaps(records) == [(0, GapReason.RING_FULL)] and updates(records) == [9]
    assert records[0]["kind"] == MarketKind.GAP, "the loss is told before what follows it"
    ledger = rig.producer.stats()
    assert ledger["offered"] == ledger["published"] + ledger["dropped"]
    assert ledger["dropped"] == 9


def test_a_loss_tells_every_book_once_and_reconnects_with_growing_waits():
    rig = Rig()
    rig.start()
    rig.links[0].deliver(1, depth(5, 4))
    rig.turn()
    rig.read()
    rig.links[0].lose()
    rig.turn()
    assert gaps(rig.read()) == [(-1, GapReason.RECONNECT)]
    rig.links[0].refuses = True
    for _ in range(2_000):
        rig.turn(10)
    attempts = rig.links[0].attempts
    waits = np.diff(attempts) / NS_PER_MS
    assert len(waits) >= 5 and (waits[1:] > waits[:-1] * 0.9).all()
    assert 125 <= waits[0] <= 520 and waits[-1] > 2_000
    assert gaps(rig.read()) == [], "nothing was delivered since: nothing more to tell"
    rig.links[0].refuses = False
    while rig.links[0].error:
        rig.turn(100)
    rig.links[0].open()
    rig.turn()
    rig.links[0].deliver(2, depth(50, 49))
    rig.turn()
    assert updates(rig.read()) == [50] and rig.stage.is_ready() is False  # the market line idles
    assert rig.count(Counter.LOST) >= 6


def test_the_market_line_is_no_book_and_writes_no_gap():
    rig = Rig()
    rig.start()
    rig.links[2].deliver(1, agg_trade(1))
    rig.turn()
    rig.links[2].lose()
    rig.turn()
    assert gaps(rig.read()) == []
    rig.turn(1_000)
    assert len(rig.links[2].attempts) == 2


def test_silence_is_pinged_and_then_given_up():
    rig = Rig()
    rig.start()
    rig.links[0].deliver(rig.now_ns, depth(5, 4))
    for _ in range(4):
        rig.turn(1_100)
    assert rig.links[0].pings >= 3 and rig.links[0].closes == []
    rig.links[0].pongs += 1
    rig.links[0].deliver(rig.now_ns, b'{"e":"bookTicker"}')  # a frame, but no depth
    rig.turn(1_100)
    rig.turn()
    assert rig.links[0].closes == ["silent for too long"]
    assert rig.count(Counter.STALE) == 1
    assert (-1, GapReason.RECONNECT) in gaps(rig.read())


def test_clock_records_come_once_per_second():
    rig = Rig()
    rig.start()
    for _ in range(50):
        rig.turn(100)
    clocks = rig.read(with_clock=True)
    assert [c["kind"] for c in clocks] == [MarketKind.CLOCK] * 6
    assert clocks[0]["ts_wall_ns"] == 1_700_000_000 * NS_PER_S
    assert bytes(clocks[0]["boot_id"]) == bytes(range(1, 17))
    assert np.diff([c["ts_mono_ns"] for c in clocks]).min() >= NS_PER_S


def test_sockets_and_timers_are_told_to_the_shell():
    rig = Rig()
    version = rig.stage.fds_version
    rig.start()
    assert rig.stage.fds_version > version
    assert rig.stage.fds() == [(7, 1), (7, 1)]
    assert rig.now_ns < rig.stage.next_timer_ns() <= rig.now_ns + NS_PER_S
    rig.links[0].pending_bytes = 5
    assert rig.stage.next_timer_ns() == 1
    rig.stage.close()
    assert all(link.fileno() == -1 for link in rig.links)


def start_rotation(rig: Rig) -> None:
    """Bring the public line to where its second link is open and has not delivered."""
    rig.start()
    u = 1
    while not rig.links[1].attempts:
        rig.links[0].deliver(rig.now_ns, depth(u, u - 1))
        rig.links[2].deliver(rig.now_ns, agg_trade(u))
        rig.turn(1_000)
        u += 1
        assert u < 4_000
    rig.read()
    rig.links[1].open()
    rig.turn()


def test_rotation_is_before_the_venues_cut_and_loses_nothing():
    rig = Rig()
    start_rotation(rig)
    assert 94 <= (rig.now_ns - 10 * NS_PER_S) / NS_PER_S <= 101
    last = 10_000
    for u in range(last, last + 100):
        for link in (0, 1):
            if rig.links[link].state.name == "OPEN":
                rig.links[link].deliver(rig.now_ns, depth(u, u - 1))
        rig.turn(100)
    records = rig.read()
    assert updates(records) == list(range(last, last + 100)) and gaps(records) == []
    assert rig.links[0].closes == ["close"] and rig.count(Counter.ROTATED) == 1
    assert rig.count(Counter.DUPLICATE) >= 19
    assert rig.links[1].state.name == "OPEN"


def test_the_new_link_is_not_believed_before_the_old_one_has_caught_up():
    rig = Rig()
    start_rotation(rig)
    rig.links[0].deliver(rig.now_ns, depth(10_001, 10_000))
    rig.turn()
    rig.links[1].deliver(rig.now_ns, depth(10_003, 10_002))  # the old one still has 10_002 to say
    rig.turn()
    assert updates(rig.read()) == [10_001] and rig.count(Counter.AHEAD) == 1
    for _ in range(30):
        rig.links[1].deliver(rig.now_ns, b'{"e":"kline"}')
        rig.links[0].deliver(rig.now_ns, b'{"e":"kline"}')
        rig.turn(100)
    assert rig.links[0].closes == [], "still behind"
    rig.links[0].deliver(rig.now_ns, depth(10_002, 10_001), depth(10_003, 10_002))
    rig.turn(100)
    rig.turn(1_000)
    assert rig.links[0].closes == ["close"]
    records = rig.read()
    assert updates(records) == [10_002, 10_003] and gaps(records) == []


def test_a_new_link_that_fails_leaves_the_old_one_alone():
    rig = Rig()
    start_rotation(rig)
    rig.links[1].lose()
    rig.turn()
    rig.links[0].deliver(rig.now_ns, depth(9_999, 9_998))
    rig.turn()
    assert updates(rig.read()) == [9_999]
    rig.links[0].deliver(rig.now_ns, depth(10_000, 9_999))
    rig.turn(1_000)
    rig.turn()
    assert len(rig.links[1].attempts) == 2 and gaps(rig.read()) == []


def test_an_announced_restart_rotates_at_once():
    rig = Rig()
    rig.start()
    rig.links[0].deliver(rig.now_ns, depth(5, 4), b'{"e":"serverShutdown","E":1}')
    rig.turn()
    rig.turn()
    assert len(rig.links[1].attempts) == 1
    assert rig.count(Counter.SHUTDOWN) == 1


STEPS = st.lists(
    st.tuples(st.integers(0, 1), st.integers(1, 4), st.integers(0, 400)), min_size=10, max_size=60
)


@settings(max_examples=60, deadline=None)
@given(STEPS, st.integers(0, 40), st.integers(0, 100))
def test_any_overlap_keeps_the_chain_or_tells(steps, first_of_new, death):
    """Two links say the same chain, each at its own pace, and the old one may die in between.

    What is published is a chain without holes and doubles, or a GAP stands where it breaks.
    """
    rig = Rig()
    start_rotation(rig)
    chain = list(range(100_000, 100_300))
    at = [0, first_of_new]
    for number, (link, count, milliseconds) in enumerate(steps):
        if number == death:
            rig.links[0].lose()
        for _ in range(count):
            if rig.links[link].state.name == "OPEN" and at[link] < len(chain):
                u = chain[at[link]]
                rig.links[link].deliver(rig.now_ns, depth(u, u - 1))
                at[link] += 1
        rig.turn(milliseconds)
    last = None
    for record in rig.read():
        if record["kind"] == MarketKind.GAP:
            last = None
        elif record["kind"] == MarketKind.DIFF_BEGIN:
            u, pu = int(record["last_update_id"]), int(record["previous_update_id"])
            assert last is None or pu == last, (u, last)
            last = u


@pytest.mark.parametrize("field", ["levels_max", "ping_ms", "backoff_ms_min", "overlap_ms"])
def test_config_refuses_what_cannot_work(field):
    wrong = {"levels_max": 1, "ping_ms": 60_000, "backoff_ms_min": 60_000, "overlap_ms": 90_000}
    import msgspec

    with pytest.raises((ValueError, msgspec.ValidationError)):
        msgspec.convert({field: wrong[field]}, FeedConfig)

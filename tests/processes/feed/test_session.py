"""The protocol of one line in virtual time, without any socket."""

import random

from common.instruments import Instrument, InstrumentFacts
from processes.feed.config import FeedConfig
from processes.feed.session import (
    NS_PER_MS,
    NS_PER_S,
    Ask,
    Line,
    LinkState,
    Mode,
    Stream,
    plan_streams,
)

CONFIG = FeedConfig(
    depth_quiet_ms_max=5_000, other_quiet_ms_max=9_000, ping_ms=1_000, rotate_s=1_000,
    overlap_ms=500, overlap_ms_max=5_000, backoff_ms_min=100, backoff_ms_max=3_000,
    stable_ms=20_000,
)  # fmt: skip
START = 1_000 * NS_PER_S


def line(seed: int = 1, has_depth: bool = True) -> Line:
    return Line(Stream("ws://x", has_depth, (0,)), CONFIG, random.Random(seed))


def opened(seed: int = 1, has_depth: bool = True) -> Line:
    it = line(seed, has_depth)
    assert [a.ask for a in it.on_timer(START, True)] == [Ask.CONNECT]
    it.on_open(0, START)
    return it


def asks(actions) -> list[tuple[Ask, int]]:
    return [(action.ask, action.link) for action in actions]


def run(it: Line, until_ns: int, now_ns: int = START, data: bool = True, caught_up: bool = True):
    """Step by 100 ms; return (time, ask, link) of everything wanted."""
    wanted = []
    while now_ns < until_ns:
        now_ns += 100 * NS_PER_MS
        for i, link in enumerate(it.links):
            if data and link.state == LinkState.UP:
                it.on_data(i, now_ns, True)
        wanted += [(now_ns, a.ask, a.link) for a in it.on_timer(now_ns, caught_up)]
    return wanted


def test_back_off_doubles_to_its_limit_with_a_random_half_and_one_seed_is_one_story():
    def waits(seed: int) -> list[int]:
        it, now_ns, found = line(seed), START, []
        for _ in range(12):
            assert asks(it.on_timer(now_ns, True)) == [(Ask.CONNECT, 0)]
            assert it.on_closed(0, now_ns) == []
            due_ns = it.next_timer_ns()
            assert it.on_timer(due_ns - 1, True) == []
            found.append((due_ns - now_ns) // NS_PER_MS)
            now_ns = due_ns
        return found

    first = waits(1)
    for i, wait in enumerate(first):
        full = min(100 << i, 3_000)
        assert full / 2 - 1 <= wait <= full
    assert first == waits(1) != waits(2)


def test_only_a_connection_that_lasted_clears_the_back_off():
    it = opened()
    now_ns = START
    for _ in range(6):  # opens, delivers, dies: the venue counts attempts
        it.on_data(0, now_ns, True)
        assert asks(it.on_closed(0, now_ns + NS_PER_S)) == [(Ask.GAP, 0)]
        now_ns = it.next_timer_ns()
        it.on_timer(now_ns, True)
        it.on_open(0, now_ns)
    assert it.failures == 6
    it.on_closed(0, now_ns + 21 * NS_PER_S)
    assert it.failures == 1


def test_a_loss_is_told_once_and_only_if_books_heard_of_it():
    it = opened()
    assert it.on_closed(0, START + 1) == [], "nothing was delivered"
    it.on_timer(it.next_timer_ns(), True)
    it.on_open(0, START)
    it.on_data(0, START, True)
    assert asks(it.on_closed(0, START + 1)) == [(Ask.GAP, 0)]
    assert it.on_closed(0, START + 2) == []
    other = opened(has_depth=False)
    other.on_data(0, START, True)
    assert other.on_closed(0, START + 1) == []


def test_silence_of_depth_is_silence_whatever_else_comes():
    it = opened()
    now_ns = START
    wanted = []
    while now_ns < START + 5 * NS_PER_S:
        now_ns += 100 * NS_PER_MS
        it.on_data(0, now_ns, False)
        it.on_pong(0, now_ns)
        wanted += it.on_timer(now_ns, True)
    assert asks(wanted) == [(Ask.CLOSE, 0)] and wanted[0].reason == "stale"


def test_pings_come_once_per_interval_of_silence():
    it = opened()
    wanted = run(it, START + 4 * NS_PER_S, data=False)
    assert [(ask, link) for _, ask, link in wanted] == [(Ask.PING, 0)] * 4
    assert not run(opened(), START + 4 * NS_PER_S, data=True)


def test_a_working_connection_is_replaced_before_its_time():
    it = opened()
    wanted = run(it, START + 1_000 * NS_PER_S)
    when, ask, link = wanted[0]
    assert (ask, link) == (Ask.CONNECT, 1)
    assert 950 <= (when - START) / NS_PER_S <= 1_000
    assert it.mode_of(0) == Mode.OLD and it.mode_of(1) == Mode.NEW
    it.on_open(1, when)
    wanted = run(it, when + 3 * NS_PER_S, when)
    assert [(ask, link) for _, ask, link in wanted] == [(Ask.PROMOTE, 1), (Ask.CLOSE, 0)]
    assert 500 <= (wanted[0][0] - when) / NS_PER_MS <= 700
    assert it.primary == 1 and it.on_closed(0, when + 4 * NS_PER_S) == []
    assert it.mode_of(1) == Mode.OLD, "what it has still to say may have been said"
    assert it.next_timer_ns() > when


def rotating() -> tuple[Line, int]:
    it = opened()
    when = run(it, START + 1_000 * NS_PER_S)[0][0]
    it.on_open(1, when)
    return it, when


def test_the_old_one_stays_until_the_new_one_is_no_longer_ahead_or_for_the_longest_overlap():
    it, when = rotating()
    assert run(it, when + 4 * NS_PER_S, when, caught_up=False) == []
    wanted = run(it, when + 6 * NS_PER_S, when + 4 * NS_PER_S, caught_up=False)
    assert [ask for _, ask, _ in wanted] == [Ask.PROMOTE, Ask.CLOSE]


def test_the_new_one_takes_over_when_the_old_one_dies():
    it, when = rotating()
    it.on_data(1, when, True)
    assert asks(it.on_closed(0, when + 1)) == [(Ask.PROMOTE, 1)]
    silent, when = rotating()
    assert asks(silent.on_closed(0, when + 1)) == [(Ask.GAP, 0)]
    assert silent.primary == 1 and silent.mode_of(1) == Mode.ALONE


def test_a_new_one_that_fails_is_tried_again_later():
    it, when = rotating()
    assert it.on_closed(1, when) == []
    assert it.mode_of(0) == Mode.ALONE and it.is_up
    wanted = run(it, when + 3 * NS_PER_S, when)
    assert (wanted[0][1], wanted[0][2]) == (Ask.CONNECT, 1)


def test_an_announced_restart_replaces_now():
    it = opened()
    it.on_data(0, START, True)
    it.on_shutdown(START + 5)
    assert asks(it.on_timer(START + 5, True)) == [(Ask.CONNECT, 1)]
    it.on_shutdown(START + 6)
    assert it.on_timer(START + 6, True) == []


def test_many_symbols_take_several_connections_and_no_instrument_is_split():
    facts = InstrumentFacts(tick_size="1", lot_size="1", price_decimals=0, qty_decimals=0)
    instruments = [
        Instrument(instrument_id=i, venue="x", symbol=f"S{i}USDT", facts=facts) for i in range(256)
    ]
    streams = plan_streams(instruments, "wss://h/public", "wss://h/market", FeedConfig())
    for has_depth in (True, False):
        ids = [i for s in streams if s.has_depth == has_depth for i in s.instrument_ids]
        assert ids == list(range(256))
    for stream in streams:
        names = stream.url.partition("?streams=")[2].split("/")
        assert len(names) <= 200 and len(names) % len(stream.instrument_ids) == 0
        assert len(stream.url) < 8_000
        route = "wss://h/public/" if stream.has_depth else "wss://h/market/"
        assert stream.url.startswith(route + "stream?streams=s")

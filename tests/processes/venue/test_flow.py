"""The synthetic market: equal seeds make equal markets, and it behaves like one."""

import pytest

from processes.venue.config import FlowConfig
from processes.venue.engine import EventKind
from processes.venue.flow import new_flow, random_unit, random_word

FLOW = FlowConfig(seed=7, burst_every_s=2, burst_ms=200, liquidation_every_s=3)


def run(bench, steps, batch):
    rows = []
    for _ in range(steps // batch):
        rows += bench.exchange.step.run(batch, 0)
    return rows


def test_equal_seeds_and_steps_give_equal_events_whatever_the_batches(make_bench):
    first = run(make_bench(flow=FLOW), 400, 1)
    second = run(make_bench(flow=FLOW), 400, 50)
    assert first == second
    other = run(make_bench(flow=FlowConfig(seed=8)), 400, 50)
    assert first != other


def test_random_words_match_the_published_generator():
    """xoshiro128** on a plain-Python twin of its reference."""
    flow = new_flow(FlowConfig(seed=3))
    state = [int(flow[f"word_{i}"][0]) for i in range(4)]
    mask = (1 << 32) - 1

    def rotate(word, bits):
        return ((word << bits) | (word >> (32 - bits))) & mask

    for _ in range(1_000):
        expected = rotate(state[1] * 5 & mask, 7) * 9 & mask
        shifted = state[1] << 9 & mask
        state[2] ^= state[0]
        state[3] ^= state[1]
        state[1] ^= state[2]
        state[0] ^= state[3]
        state[2] ^= shifted
        state[3] = rotate(state[3], 11)
        assert random_word.py_func(flow[0]) == expected
    assert 0 <= random_unit(flow[0]) < 1


@pytest.fixture(scope="module")
def market():
    """Thirty seconds of market: the exchange and its events."""
    from processes.venue.build import build_exchange

    def make(config, instruments):
        exchange = build_exchange(config(flow=FLOW), instruments, 0)
        return exchange, [exchange.step.run(1, 0) for _ in range(3_000)]

    return make


def test_it_looks_like_a_market(market, venue_config, venue_instruments):
    exchange, steps = market(venue_config, venue_instruments)
    rows = [row for step in steps for row in step]
    kinds = [sum(row[0] == kind for row in rows) for kind in EventKind]
    news, trades, cancels = kinds[0], kinds[1], kinds[2]
    assert news > 2_000 and cancels > 1_000
    assert 0.05 * news < trades < 1.5 * news
    for index in range(2):
        bid, bid_qty, ask, ask_qty = exchange.market.best(index)
        assert 0 < bid < ask
        assert (ask - bid) * 10_000 < 5 * bid  # under 5 bps
        assert bid_qty > 0 and ask_qty > 0
        bids, asks = exchange.market.depth(index, 1_000)
        assert len(bids) > 15 and len(asks) > 15
        prices = {row[5] for row in rows if row[0] == EventKind.TRADE and row[4] == index}
        assert len(prices) > 20
    assert exchange.step.orders_lost == 0
    forced = [r for r in rows if r[0] == EventKind.NEW and r[11] == 1]
    assert 3 <= len(forced) <= 25
    sizes = sorted(len(step) for step in steps)
    assert sizes[-1] > 3 * sizes[len(sizes) // 2]  # bursts


def test_book_stays_bounded(make_bench):
    bench = make_bench(flow=FLOW)
    for _ in range(120):
        bench.exchange.step.run(50, 0)
    for index in range(2):
        assert 100 < int(bench.exchange.step.symbols["own_count"][index]) < 1_600
        bid, _, ask, _ = bench.exchange.market.best(index)
        assert 0 < bid < ask

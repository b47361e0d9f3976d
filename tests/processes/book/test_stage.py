"""The stage as a whole: what it publishes, what happens when its output is full, what it asks."""

import numpy as np
import pytest

from common.enums import GapReason, MarketKind
from common.records import BOOK
from processes.book.app import warm_up
from processes.book.config import BookConfig
from processes.book.counters import HISTOGRAMS, LABELS, Counter
from processes.book.rehearsal import private_stage

from tests.processes.book.harness import (
    SMALL,
    Bench,
    depth_slots,
    gap_slot,
    instruments,
    trade_slot,
)
from tests.processes.book.naive_book import Diff

BIDS = [(1_000 - i, i + 1) for i in range(8)]
ASKS = [(1_001 + i, i + 1) for i in range(7)]


def live_bench(count: int = 1, **options) -> Bench:
    bench = Bench(count, **options)
    bench.work()
    for i in range(count):
        bench.snapshot(10, BIDS, ASKS, i)
        bench.diff(Diff(10, 11, 9, [], []), i)
        bench.output()
    return bench


def ledger_balances(bench: Bench) -> bool:
    stats = bench.stage.books.stats()
    return stats["offered"] == stats["published"] + stats["dropped"]


def test_a_book_message_holds_the_best_levels_of_both_sides():
    bench = live_bench()
    bench.diff(Diff(12, 13, 11, [(1_000, 0)], [(990, 0), (1_001, 50)]))
    assert bench.output() == [
        ("BOOK", 0, True, 13, BIDS[1:6], [(1_001, 50), *ASKS[1:5]], 0)
    ]  # fmt: skip


@pytest.mark.parametrize("levels", [1, 2, 3, 10, 100])
def test_any_number_of_levels_may_be_published(levels):
    config = BookConfig(levels_published=levels, window_steps=256, levels_max=64)
    bench = live_bench(config=config)
    bench.diff(Diff(12, 13, 11, [], []))
    assert bench.output() == [("BOOK", 0, True, 13, BIDS[:levels], ASKS[:levels], 0)]


def test_stamps_and_ids_of_a_book_message():
    bench = live_bench()
    bench.market.try_write(
        depth_slots(MarketKind.DIFF_BEGIN, 0, (12, 13, 11), [], [], ts_recv_ns=bench.now_ns - 500)
    )
    sequence = bench.market.stats()["published"] - 1
    bench.work(200)
    words = bench.books.read(100)
    head = np.ascontiguousarray(words).reshape(-1).view(BOOK)[0]
    assert head["ts_recv_ns"] == bench.now_ns - 700
    assert (head["ts_pub_ns"], head["recv_to_book_ns"]) == (bench.now_ns, 700)
    assert head["input_sequence"] == sequence
    assert bench.counters.histograms.sum() > 0


def test_trades_clocks_and_gaps_are_passed_on_in_order():
    bench = live_bench()
    bench.market.try_write(trade_slot(0, 77))
    bench.market.try_write(depth_slots(MarketKind.DIFF_BEGIN, 0, (12, 13, 11), [], []))
    clock = trade_slot(-1, 0)
    clock["kind"] = MarketKind.CLOCK
    bench.market.try_write(clock)
    bbo = trade_slot(0, 0)
    bbo["kind"] = MarketKind.BBO
    bench.market.try_write(bbo)
    bench.work()
    assert [message[0] for message in bench.output()] == ["TRADE", "BOOK", "CLOCK"]
    assert bench.count(Counter.IGNORED) == 1
    assert bench.count(Counter.PASSED_ON) == 2


def test_the_bbo_table_follows_the_touch():
    bench = live_bench(count=2)
    bench.diff(Diff(12, 13, 11, [(1_000, 0)], [(1_001, 0)]), 1)
    row = bench.cells.read(1)
    assert (row["instrument_id"], row["valid"], row["last_update_id"]) == (1, 1, 13)
    assert (row["bid_price_steps"], row["bid_qty_steps"]) == BIDS[1]
    assert (row["ask_price_steps"], row["ask_qty_steps"]) == ASKS[1]
    assert row["ts_pub_ns"] == bench.now_ns
    assert bench.cells.read(0)["last_update_id"] == 11
    bench.gap(1, GapReason.DECODE)
    row = bench.cells.read(1)
    assert (row["valid"], row["bid_price_steps"], row["ask_price_steps"]) == (0, 0, 0)


def test_an_empty_side_shows_no_price():
    bench = live_bench()
    bench.diff(Diff(12, 13, 11, [], [(price, 0) for price, _qty in ASKS]))
    assert bench.output()[0][4:6] == (BIDS[:5], [])
    assert bench.cells.read(0)["ask_price_steps"] == 0


def test_a_full_ring_keeps_the_newest_state_and_counts_the_others():
    """A reader that was away sees where things stand, not how they came to be."""
    bench = live_bench(book_capacity=16)
    for n in range(10):
        bench.diff(Diff(12 + n, 12 + n, 11 + n, [(1_000, n + 1)], []))
    assert bench.count(Counter.BOOKS_CONFLATED) == 6
    first = bench.output()
    assert [message[3] for message in first] == [12, 13, 14]
    assert bench.stage.next_timer_ns() > 0
    bench.work()
    assert bench.output() == [("BOOK", 0, True, 21, [(1_000, 10), *BIDS[1:5]], ASKS[:5], 6)]
    bench.diff(Diff(22, 22, 21, [], []))
    assert bench.output()[0][6] == 6
    assert bench.count(Counter.BOOKS_CONFLATED) == 6
    assert ledger_balances(bench)


def test_a_full_ring_tells_a_lost_book_later():
    bench = live_bench(book_capacity=16)
    for n in range(4):
        bench.diff(Diff(12 + n, 12 + n, 11 + n, [], []))
    bench.diff(Diff(99, 99, 98, [], []))
    assert [message[:2] for message in bench.output()] == [("BOOK", 0)] * 3
    bench.work()
    assert [message[:3] for message in bench.output()] == [
        ("GAP", 0, GapReason.SEQUENCE), ("BOOK", 0, False)
    ]  # fmt: skip


def test_a_book_that_healed_while_the_ring_was_full_still_tells_of_the_gap():
    bench = live_bench(book_capacity=16)
    for n in range(4):
        bench.diff(Diff(12 + n, 12 + n, 11 + n, [], []))
    bench.diff(Diff(99, 99, 98, [], []))
    bench.snapshot(99, BIDS, ASKS)
    bench.output()
    bench.work()
    assert [message[:4] for message in bench.output()] == [
        ("GAP", 0, GapReason.SEQUENCE), ("BOOK", 0, True, 99)
    ]  # fmt: skip


def test_trades_lost_to_a_full_ring_are_told_by_a_gap():
    bench = live_bench(book_capacity=16)
    for n in range(30):
        bench.market.try_write(trade_slot(0, n))
    bench.work()
    first = bench.output()
    assert [message[0] for message in first] == ["TRADE"] * 15 + ["GAP"]  # in the slot kept free
    assert first[-1] == ("GAP", 0, GapReason.RING_FULL)
    assert bench.stage.books.stats()["dropped"] == 15
    bench.diff(Diff(12, 12, 11, [], []))
    assert [message[:3] for message in bench.output()] == [  # the losses after that GAP
        ("GAP", 0, GapReason.RING_FULL), ("BOOK", 0, True)
    ]  # fmt: skip
    assert ledger_balances(bench)


def test_every_instrument_that_waits_is_published_when_there_is_room():
    bench = live_bench(count=5, book_capacity=16)
    for i in range(5):
        bench.diff(Diff(12, 12, 11, [], []), i)
    seen = []
    for _ in range(6):
        seen += [message[1] for message in bench.output() if message[0] == "BOOK"]
        bench.work()
    assert sorted(seen) == [0, 1, 2, 3, 4]
    assert bench.count(Counter.BOOKS_CONFLATED) == 0
    assert bench.stage.next_timer_ns() == 0


def test_a_full_request_ring_is_tried_again():
    bench = Bench(count=20)
    for i in range(20):
        bench.diff(Diff(5, 6, 4, [], []), i, work=False)
    for _ in range(17):  # what others have left in the ring
        bench.stage.requests.try_write(np.zeros(16, bench.stage.requests.end.slots.dtype))
    bench.work()
    refused = bench.count(Counter.REQUESTS_REFUSED)
    assert refused > 0
    bench.requests.read(1_000)
    bench.work(SMALL.backoff_ns_min)
    assert len(bench.asked()) == refused
    assert bench.count(Counter.REQUESTS) == 20


def test_a_failed_answer_is_asked_again():
    bench = Bench()
    bench.diff(Diff(5, 6, 4, [], []))
    bench.asked()
    end = depth_slots(MarketKind.SNAPSHOT_END, 0, (1, 0, 0), [], [])
    bench.snapshots.try_write(end)
    bench.work()
    assert bench.count(Counter.SNAPSHOTS_FAILED) == 1
    bench.work(2 * SMALL.backoff_ns_min)
    assert bench.asked() == [(0, 2, 1)]


def test_a_snapshot_without_its_end_is_not_used():
    """Rest died between the two messages: the time-out asks again, and the next one counts."""
    bench = Bench()
    bench.diff(Diff(5, 6, 4, [], []))
    bench.snapshots.try_write(depth_slots(MarketKind.SNAPSHOT_BEGIN, 0, (1, 5, 0), BIDS, ASKS))
    bench.work()
    assert not bench.stage.is_live(0)
    bench.work(SMALL.snapshot_timeout_ns)
    assert [asked[2] for asked in bench.asked()] == [0, 1]
    bench.snapshot(6, BIDS, ASKS)
    assert bench.stage.is_live(0)


@pytest.mark.parametrize("instrument_id", [-2, 1, 2**31 - 1])
def test_a_message_of_an_unknown_instrument_is_counted(instrument_id):
    bench = live_bench()
    bench.market.try_write(trade_slot(instrument_id, 1))
    bench.market.try_write(gap_slot(-1, GapReason.RING_FULL))
    bench.work()
    assert bench.count(Counter.MALFORMED) == 1


def test_random_bytes_in_the_market_ring_end_no_turn():
    """Whatever stands in the ring: counted, never raised, and the next good messages work."""
    rng = np.random.default_rng(3)
    bench = live_bench()
    for n in range(300):
        words = rng.integers(-(2**63), 2**63 - 1, (8, 8), np.int64)
        kinds, sizes, ids = (rng.integers(low, high, 8) for low, high in ((0, 16), (0, 4), (-1, 2)))
        words[:, 0] = kinds | rng.integers(0, 256, 8) << 8 | sizes << 16 | ids << 32
        if n % 2:  # a diff that may be one, with levels that may not
            words[0, 0], words[0, 6] = MarketKind.DIFF_BEGIN | 3 << 16, 3 | 3 << 32
            words[0, 4], words[0, 5] = 20 + n, bench.stage.last_update_id(0)
            bench.snapshot(20 + n, BIDS, ASKS)
        bench.market.try_write(words)
        bench.work()
        bench.books.read(1 << 14)
    assert bench.count(Counter.MALFORMED) > 100
    bench.gap(-1, GapReason.RECONNECT)
    bench.diff(Diff(2**40, 2**40 + 5, 1, [], []))
    bench.snapshot(2**40 + 2, BIDS, ASKS)
    assert bench.stage.is_live(0)


def test_counters_are_labelled_and_the_rehearsal_runs():
    assert len(LABELS) == len(Counter) and len(HISTOGRAMS) == 1
    warm_up()


def test_closing_leaves_the_rings():
    stage, _others = private_stage(instruments(1), SMALL)
    stage.do_work(1)
    stage.close()

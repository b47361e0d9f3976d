"""The venue's synchronisation rule: tables for each step, then random histories against a twin."""

import random

import pytest

from common.enums import GapReason
from processes.book.book import all_levels
from processes.book.counters import Counter

from tests.processes.book.harness import SMALL, Bench, depth_slots
from tests.processes.book.naive_book import Diff, NaiveSync

BIDS, ASKS = [(100, 5), (99, 3)], [(101, 4), (103, 1)]


def diff(first, last, previous, bids=(), asks=()):
    return Diff(first, last, previous, list(bids), list(asks))


@pytest.fixture
def bench():
    made = Bench()
    made.work()
    made.output()
    return made


def test_a_start_announces_that_no_book_is_valid():
    bench = Bench(count=2)
    bench.work()
    assert bench.output() == [
        ("GAP", 0, GapReason.RESTART), ("BOOK", 0, False, 0, [], [], 0),
        ("GAP", 1, GapReason.RESTART), ("BOOK", 1, False, 0, [], [], 0),
    ]  # fmt: skip
    assert bench.asked() == []  # nothing to straddle yet
    assert bench.cells.read(0)["valid"] == 0


def test_diffs_are_kept_older_ones_dropped_and_the_straddling_one_applied_first(bench):
    """Steps 2 to 5 with a snapshot that arrives after the diffs."""
    bench.diff(diff(1, 5, 0, [(90, 1)]))
    assert bench.asked() == [(0, 1, 0)]
    bench.diff(diff(6, 9, 5, [(91, 1)]))
    bench.diff(diff(12, 20, 9, [(100, 7)], [(103, 0)]))
    bench.diff(diff(25, 30, 20, [(98, 2)]))
    assert bench.output() == []
    bench.snapshot(15, BIDS, ASKS)
    assert bench.rows() == [(20, (100, 7), (101, 4)), (30, (100, 7), (101, 4))]
    assert bench.count(Counter.DIFFS_STALE) == 2
    assert bench.count(Counter.DIFFS_APPLIED) == 2
    assert bench.asked() == []


@pytest.mark.parametrize("first, last", [(10, 15), (15, 15), (15, 20), (10, 20)])
def test_the_first_diff_may_touch_the_snapshot_at_either_end(bench, first, last):
    """U <= L <= u, both ends included."""
    bench.snapshot(15, BIDS, ASKS)
    assert bench.output() == []
    bench.diff(diff(first, last, 3))
    assert bench.rows() == [(last, (100, 5), (101, 4))]


def test_a_snapshot_that_arrives_first_waits_for_its_diff(bench):
    bench.snapshot(15, BIDS, ASKS)
    bench.diff(diff(1, 14, 0))
    assert not bench.stage.is_live(0)
    assert bench.count(Counter.DIFFS_STALE) == 1
    bench.diff(diff(14, 15, 14))
    assert bench.stage.is_live(0)


def test_a_snapshot_older_than_every_diff_is_asked_again_later(bench):
    bench.diff(diff(20, 25, 18))
    assert bench.asked() == [(0, 1, 0)]
    bench.snapshot(19, BIDS, ASKS)
    assert bench.count(Counter.SNAPSHOTS_TOO_OLD) == 1
    assert not bench.stage.is_live(0)
    assert bench.asked() == []
    assert bench.stage.next_timer_ns() > bench.now_ns
    bench.work(SMALL.backoff_ns_min * 2)
    assert bench.asked() == [(0, 2, 1)]
    bench.snapshot(22, BIDS, ASKS)
    assert bench.rows() == [(25, (100, 5), (101, 4))]


def test_a_gap_makes_the_book_invalid_at_once_and_the_next_snapshot_heals_it(bench):
    bench.snapshot(15, BIDS, ASKS)
    bench.diff(diff(15, 16, 3))
    bench.output()
    bench.diff(diff(19, 22, 18, [(100, 1)]))
    assert bench.output() == [
        ("GAP", 0, GapReason.SEQUENCE), ("BOOK", 0, False, 16, [], [], 0)
    ]  # fmt: skip
    assert bench.count(Counter.GAPS_SEQUENCE) == 1
    assert bench.cells.read(0)["valid"] == 0
    assert bench.asked() == [(0, 1, 0)]
    bench.diff(diff(23, 24, 22, [(99, 0)]))
    assert bench.output() == []
    bench.snapshot(20, BIDS, ASKS)
    assert bench.rows() == [(22, (100, 1), (101, 4)), (24, (100, 1), (101, 4))]
    assert bench.cells.read(0)["valid"] == 1


def test_a_diff_that_is_not_newer_is_ignored(bench):
    bench.snapshot(15, BIDS, ASKS)
    bench.diff(diff(15, 18, 3))
    bench.diff(diff(15, 18, 3, [(100, 99)]))
    bench.diff(diff(10, 14, 3, [(100, 99)]))
    assert bench.rows() == [(18, (100, 5), (101, 4))]
    assert bench.count(Counter.DIFFS_STALE) == 2


def test_a_gap_between_kept_diffs_is_found_after_the_snapshot(bench):
    bench.diff(diff(10, 20, 9))
    bench.diff(diff(31, 40, 30))
    bench.snapshot(12, BIDS, ASKS)
    assert [m[:4] for m in bench.output()] == [
        ("BOOK", 0, True, 20), ("GAP", 0, GapReason.SEQUENCE), ("BOOK", 0, False, 20)
    ]  # fmt: skip
    bench.snapshot(35, BIDS, ASKS)
    assert bench.rows() == [(40, (100, 5), (101, 4))]


@pytest.mark.parametrize("bids, asks", [([(101, 1)], []), ([(150, 1)], []), ([], [(100, 1)])])
def test_a_crossed_or_locked_book_is_never_published(bench, bids, asks):
    bench.snapshot(15, BIDS, ASKS)
    bench.diff(diff(15, 16, 3))
    bench.output()
    bench.diff(diff(17, 18, 16, bids, asks))
    assert bench.output() == [
        ("GAP", 0, GapReason.CROSSED), ("BOOK", 0, False, 16, [], [], 0)
    ]  # fmt: skip
    assert bench.count(Counter.BOOKS_CROSSED) == 1
    assert bench.asked() == [(0, 1, 0)]
    bench.snapshot(19, BIDS, ASKS)
    bench.diff(diff(19, 20, 18))
    assert bench.rows() == [(20, (100, 5), (101, 4))]


@pytest.mark.parametrize(
    "bids, asks",
    [([(99, 1), (100, 1)], []), ([(100, 1)], [(100, 1)]), ([(100, 0)], []), ([], [(-5, 1)])],
)
def test_a_bad_snapshot_is_refused_and_asked_again(bench, bids, asks):
    bench.diff(diff(10, 20, 9))
    bench.asked()
    bench.snapshot(15, bids, asks)
    assert bench.count(Counter.SNAPSHOTS_REFUSED) == 1
    assert not bench.stage.is_live(0)
    bench.work(SMALL.backoff_ns_min * 2)
    assert bench.asked() == [(0, 2, 1)]


def test_a_snapshot_longer_than_its_place_is_refused(bench):
    bench.diff(diff(10, 20, 9))
    bench.snapshot(15, [(1000 - i, 1) for i in range(300)], [])
    assert bench.count(Counter.SNAPSHOTS_REFUSED) == 1


def test_a_snapshot_of_a_live_book_is_kept_for_a_reconnect_if_it_is_newer(bench):
    bench.snapshot(15, BIDS, ASKS)
    bench.diff(diff(15, 16, 3))
    bench.snapshot(16, [(1, 1)], [])
    assert bench.count(Counter.SNAPSHOTS_UNUSED) == 1
    bench.snapshot(30, [(50, 1)], [(60, 1)])
    bench.output()
    bench.diff(diff(17, 18, 16))
    assert bench.rows() == [(18, (100, 5), (101, 4))]
    bench.diff(diff(28, 33, 27))
    assert [m[:4] for m in bench.output()] == [
        ("GAP", 0, GapReason.SEQUENCE), ("BOOK", 0, False, 18), ("BOOK", 0, True, 33)
    ]  # fmt: skip
    assert bench.asked() == []


@pytest.mark.parametrize(
    "reason, counter",
    [
        (GapReason.RING_FULL, Counter.GAPS_LOST),
        (GapReason.DECODE, Counter.GAPS_DECODE),
        (GapReason.RECONNECT, Counter.GAPS_RECONNECT),
        (GapReason.STALE, Counter.GAPS_LOST),
    ],
)
def test_a_gap_record_loses_the_books_in_its_scope_only(reason, counter):
    bench = Bench(count=3)
    for i in range(3):
        bench.snapshot(15, BIDS, ASKS, i)
        bench.diff(diff(15, 16, 3), i)
    bench.output()
    bench.gap(1, reason)
    assert [m[:3] for m in bench.output()] == [
        ("GAP", 1, reason), ("BOOK", 1, False), ("GAP", 1, reason)
    ]  # fmt: skip
    assert [bench.stage.is_live(i) for i in range(3)] == [True, False, True]
    bench.gap(-1, reason)
    assert [bench.stage.is_live(i) for i in range(3)] == [False, False, False]
    assert bench.count(counter) == 3
    assert bench.count(Counter.BOOKS_VALID) == 0
    expected = set() if reason == GapReason.RECONNECT else {0, 1, 2}
    assert {asked[0] for asked in bench.asked()} == expected


def test_after_a_reconnect_the_first_new_diff_asks(bench):
    """Step 7: what was kept of the old connection is forgotten."""
    bench.diff(diff(10, 12, 9))
    bench.gap(-1, GapReason.RECONNECT)
    bench.asked()
    bench.work(SMALL.snapshot_timeout_ns * 2)
    assert bench.asked() == []
    bench.diff(diff(30, 35, 29))
    assert [asked[0] for asked in bench.asked()] == [0]
    bench.snapshot(11, BIDS, ASKS)
    assert bench.count(Counter.SNAPSHOTS_TOO_OLD) == 1
    bench.snapshot(31, BIDS, ASKS)
    assert bench.rows() == [(35, (100, 5), (101, 4))]


def test_a_full_buffer_drops_the_oldest_diffs_and_the_rule_still_holds(bench):
    """256 slots hold 256 empty diffs; the evicted count as stale once a snapshot fits."""
    for n in range(400):
        bench.diff(diff(10 * n, 10 * n + 9, 10 * n - 1), work=False)
    bench.work()
    assert bench.count(Counter.DIFFS_EVICTED) == 144
    bench.snapshot(1_000, BIDS, ASKS)
    assert bench.count(Counter.SNAPSHOTS_TOO_OLD) == 1
    bench.snapshot(3_005, BIDS, ASKS)
    assert len(bench.rows()) == 100
    assert bench.count(Counter.DIFFS_STALE) == 300


def test_a_diff_longer_than_the_buffer_is_evicted_alone(bench):
    bench.diff(diff(1, 5, 0, [(n + 1, 1) for n in range(900)]))
    assert bench.count(Counter.DIFFS_EVICTED) == 1
    bench.snapshot(7, BIDS, ASKS)
    bench.diff(diff(6, 8, 5))
    assert bench.rows() == [(8, (100, 5), (101, 4))]


def test_an_overflowing_book_is_lost_and_heals(bench):
    far = [(10**9 + 7 * n, 1) for n in range(SMALL.levels_max + 1)]
    bench.snapshot(15, BIDS, ASKS)
    bench.diff(diff(15, 16, 3))
    bench.output()
    for n, chunk in enumerate((far[:300], far[300:])):
        bench.diff(diff(17 + n, 17 + n, 16 + n, [], chunk))
    assert bench.count(Counter.BOOKS_OVERFLOWED) == 1
    assert ("GAP", 0, GapReason.RING_FULL) in bench.output()
    bench.snapshot(19, BIDS, ASKS)
    bench.diff(diff(19, 19, 18))
    assert bench.stage.is_live(0)


@pytest.mark.parametrize("seed", range(30))
def test_random_histories_agree_with_the_naive_twin(seed):
    """Lost, doubled and swapped diffs, snapshots early, late, old, repeated: same rows and book."""
    rng = random.Random(seed)
    bench, naive = Bench(), NaiveSync()
    history = make_history(rng, 400)
    rows = []
    for item in history:
        if isinstance(item, Diff):
            naive.on_diff(item)
            bench.diff(item)
        else:
            naive.on_snapshot(*item)
            bench.snapshot(*item)
        rows += bench.rows()
    assert rows == naive.rows
    assert bench.stage.is_live(0) == naive.is_valid
    assert bench.count(Counter.DIFFS) == naive.depth_events
    assert bench.count(Counter.DIFFS_STALE) == naive.dropped_stale
    assert bench.count(Counter.GAPS_SEQUENCE) == naive.gaps
    assert len(rows) > 50
    if naive.is_valid:
        for side in (0, 1):
            prices, quantities = all_levels(bench.stage.state.books, 0, side)
            found = list(zip(prices.tolist(), quantities.tolist(), strict=True))
            assert found == naive.book.side(side)


def make_history(rng: random.Random, count: int) -> list:
    """Return diffs and (L, bids, asks) snapshots of a venue whose price jumps about."""
    bids: dict[int, int] = {}
    asks: dict[int, int] = {}
    mid, last_id, previous, history = 10_000, 100, 100, []
    for _ in range(count):
        if rng.random() < 0.02:
            mid = max(50, mid + rng.randrange(-3_000, 3_000))
        mid = max(50, mid + rng.randrange(-3, 4))
        first = last_id + rng.randrange(1, 4)
        last_id = first + rng.randrange(0, 6)
        change_b = [(p, 0) for p in bids if p >= mid]
        change_a = [(p, 0) for p in asks if p < mid]
        for _ in range(rng.randrange(0, 6)):
            qty = rng.choice([0, 0, 1, 5, 10**12])
            change_b.append((max(1, mid - 1 - rng.choice([rng.randrange(30), 400])), qty))
            change_a.append((mid + rng.choice([rng.randrange(30), rng.randrange(9_000)]), qty))
        for levels, changes in ((bids, change_b), (asks, change_a)):
            for price, qty in changes:
                levels.pop(price, None)
                if qty:
                    levels[price] = qty
        event = Diff(first, last_id, previous, change_b, change_a)
        previous = last_id
        luck = rng.random()
        if luck > 0.03:
            history.append(event)
        if luck > 0.97:
            history.append(event)
        if luck < 0.12:
            snapshot = (last_id, sorted(bids.items(), reverse=True)[:60], sorted(asks.items())[:60])
            history.insert(max(0, len(history) - rng.randrange(0, 6)), snapshot)
        if 0.5 < luck < 0.52 and len(history) > 2:
            history[-1], history[-2] = history[-2], history[-1]
    return history


def test_a_message_that_cannot_be_one_is_counted_and_loses_the_books(bench):
    bench.snapshot(15, BIDS, ASKS)
    bench.diff(diff(15, 16, 3))
    words = depth_slots(13, 0, (17, 18, 16), BIDS, ASKS)
    words[0, 0] = (words[0, 0] & ~(0xFFFF << 16)) | 700 << 16
    bench.market.try_write(words)
    bench.work()
    assert bench.count(Counter.MALFORMED) >= 1
    assert not bench.stage.is_live(0)

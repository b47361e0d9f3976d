"""The L2 book kernel against a dict, on prices in, around and far outside its window."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.fixed_point import INT64_MAX
from processes.book import book as kernels
from processes.book.book import ASK, BID, NO_ASK, NO_BID

from tests.processes.book.naive_book import NaiveBook

WINDOW = 64


def sides(books: np.ndarray, book: int = 0) -> list[list[tuple[int, int]]]:
    """Return all levels of both sides, best first."""
    return [
        list(
            zip(*(column.tolist() for column in kernels.all_levels(books, book, side)), strict=True)
        )
        for side in (BID, ASK)
    ]


def walked(books: np.ndarray, at: int, side: int) -> list[tuple[int, int]]:
    """Return all levels of one side as `best_levels` walks them."""
    levels = np.zeros(2 * 4096, np.int64)
    count = kernels.best_levels(books, at, side, 4096, levels, 0)
    return [tuple(pair) for pair in levels[: 2 * count].reshape(-1, 2).tolist()]


def check(books: np.ndarray, at: int, naive: NaiveBook) -> None:
    """Compare every way to look at a book with the dict."""
    expected = [naive.side(BID), naive.side(ASK)]
    assert sides(books) == expected
    assert [walked(books, at, BID), walked(books, at, ASK)] == expected
    check_touch(books, at, naive)


def check_touch(books: np.ndarray, at: int, naive: NaiveBook) -> None:
    bid, ask = naive.touch()
    assert kernels.read_touch(books, at) == (*(bid or (NO_BID, 0)), *(ask or (NO_ASK, 0)))
    assert kernels.best_bid(books, at) == (bid or (NO_BID, 0))[0]
    assert kernels.best_ask(books, at) == (ask or (NO_ASK, 0))[0]


def message(bids: list[tuple[int, int]], asks: list[tuple[int, int]], first: int = 0) -> np.ndarray:
    """Return the slots of a message at sequence `first` of a ring."""
    slots = np.zeros((256, 8), np.int64)
    for j, (price, qty) in enumerate(bids + asks):
        slots[(first + 1 + j // 3) & 255, 2 + 2 * (j % 3) : 4 + 2 * (j % 3)] = price, qty
    return slots


def apply(books, at, bids, asks, first=0):
    return kernels.apply_levels(books, at, message(bids, asks, first), first, len(bids), len(asks))


# Prices near each other, around the window's edges, and anywhere.
PRICES = st.one_of(
    st.integers(90, 110), st.integers(1, 400), st.integers(10**6, 10**6 + 300),
    st.integers(1, 10**18), st.sampled_from([1, INT64_MAX - 1, INT64_MAX - 64, 1 << 31, 1 << 40]),
)  # fmt: skip
QTYS = st.one_of(st.just(0), st.integers(1, 3), st.integers(1, INT64_MAX))
UPDATES = st.lists(st.tuples(st.integers(0, 1), PRICES, QTYS), max_size=60)


@settings(max_examples=150, deadline=None)
@given(UPDATES, st.integers(0, INT64_MAX - WINDOW))
def test_any_updates_give_the_levels_of_a_dict(updates, base):
    """Crossed or not, wherever the window is: every level, its order and the touch agree."""
    books = kernels.new_books(1, WINDOW, 64)
    at = kernels.book_at(books, 0)
    books[at + kernels.BASE] = base
    naive = NaiveBook()
    for side, price, qty in updates:
        assert kernels.set_level(books, at, side, price, qty) == kernels.OK
        naive.set_level(side, price, qty)
        check_touch(books, at, naive)
    check(books, at, naive)


@settings(max_examples=100, deadline=None)
@given(UPDATES, st.lists(st.one_of(PRICES, st.integers(0, 600)), min_size=1, max_size=8))
def test_moving_the_window_changes_no_level(updates, bases):
    """The window may go anywhere, near or far, and back."""
    books = kernels.new_books(1, WINDOW, 64)
    at = kernels.book_at(books, 0)
    naive = NaiveBook()
    for side, price, qty in updates:
        kernels.set_level(books, at, side, price, qty)
        naive.set_level(side, price, qty)
    for base in bases:
        base = min(base, INT64_MAX - WINDOW)
        assert kernels.move_window(books, at, base) == kernels.OK
        assert books[at + kernels.BASE] == base
        check(books, at, naive)


def test_a_walking_touch_with_jumps_agrees_with_a_dict():
    """Random depth messages around a drifting price; the window follows, the book stays exact."""
    rng = np.random.default_rng(7)
    books = kernels.new_books(2, 256, 4096)
    at = kernels.book_at(books, 1)
    naive = NaiveBook()
    touch = 5_000
    moved = 0
    for step in range(1500):
        touch += int(rng.integers(-40, 41)) if step % 200 else int(rng.integers(-4000, 9000))
        touch = max(touch, 10)
        bids = [(touch - 1 - int(d), int(q)) for d, q in draw(rng, touch - 1)]
        asks = [(touch + int(d), int(q)) for d, q in draw(rng, 10**6)]
        # What the touch has run over is removed in the same message, as a venue does.
        bids += [(p, 0) for p in naive.bids if p >= touch]
        asks += [(p, 0) for p in naive.asks if p < touch]
        base = books[at + kernels.BASE]
        assert apply_many(books, at, bids, asks) == kernels.OK
        moved += base != books[at + kernels.BASE]
        for side, levels in ((BID, bids), (ASK, asks)):
            for price, qty in levels:
                naive.set_level(side, price, qty)
        if step % 10 == 0:
            assert sides(books, 1) == [naive.side(BID), naive.side(ASK)]
    assert moved > 20
    assert sides(books, 0) == [[], []]
    assert walked(books, at, BID) == naive.side(BID)


def draw(rng, room):
    """Return (distance, quantity) pairs: most near the touch, some far, a third removals."""
    count = int(rng.integers(0, 12))
    near = rng.integers(0, min(60, room), count)
    far = rng.integers(0, min(3_000, room), count)
    qty = np.where(rng.random(count) < 0.35, 0, rng.integers(1, 10**12, count))
    return np.column_stack((np.where(rng.random(count) < 0.8, near, far), qty))


def apply_many(books, at, bids, asks):
    """Apply a message of any size."""
    slots = np.zeros((1 << 14, 8), np.int64)
    for j, (price, qty) in enumerate(bids + asks):
        slots[1 + j // 3, 2 + 2 * (j % 3) : 4 + 2 * (j % 3)] = price, qty
    return kernels.apply_levels(books, at, slots, 0, len(bids), len(asks))


def test_levels_are_read_across_the_end_of_the_ring():
    """A message may begin in the last slots of a ring and go on in its first."""
    books = kernels.new_books(1, WINDOW, 8)
    at = kernels.book_at(books, 0)
    bids = [(100 - i, i + 1) for i in range(5)]
    asks = [(101 + i, i + 7) for i in range(8)]
    assert apply(books, at, bids, asks, first=254) == kernels.OK
    assert sides(books) == [bids, asks]


def test_a_crossed_or_locked_message_is_told():
    books = kernels.new_books(1, WINDOW, 8)
    at = kernels.book_at(books, 0)
    assert apply(books, at, [(100, 1)], [(101, 1)]) == kernels.OK
    assert apply(books, at, [(101, 1)], []) == kernels.CROSSED
    assert apply(books, at, [], [(101, 0)]) == kernels.OK
    assert apply(books, at, [], [(90, 4)]) == kernels.CROSSED


@pytest.mark.parametrize("level", [(0, 5), (-3, 5), (100, -1)])
def test_an_impossible_level_is_told(level):
    books = kernels.new_books(1, WINDOW, 8)
    at = kernels.book_at(books, 0)
    assert apply(books, at, [(99, 1), level], [(101, 2)]) == kernels.BAD_LEVEL


def test_a_full_hash_is_told_and_the_window_still_takes_levels():
    """One more level outside the window than levels_max is refused; removing one makes room."""
    books = kernels.new_books(1, WINDOW, 4)
    at = kernels.book_at(books, 0)
    for i in range(4):
        assert kernels.set_level(books, at, BID, 1000 + i, 1) == kernels.OK
    assert kernels.set_level(books, at, BID, 2000, 1) == kernels.FULL
    assert kernels.set_level(books, at, ASK, 2000, 1) == kernels.OK
    assert kernels.set_level(books, at, BID, 1001, 9) == kernels.OK
    assert kernels.set_level(books, at, BID, 10, 1) == kernels.OK
    assert kernels.set_level(books, at, BID, 1000, 0) == kernels.OK
    assert kernels.set_level(books, at, BID, 2000, 1) == kernels.OK
    assert sides(books)[BID] == [(2000, 1), (1003, 1), (1002, 1), (1001, 9), (10, 1)]


def test_a_spread_wider_than_the_window_is_exact():
    """Neither side may fit into the window around the mid."""
    books = kernels.new_books(1, WINDOW, 64)
    at = kernels.book_at(books, 0)
    bids = [(5 - i, i + 1) for i in range(4)]
    asks = [(10**12 + 7 * i, i + 1) for i in range(4)]
    assert apply(books, at, bids, asks) == kernels.OK
    assert [walked(books, at, BID), walked(books, at, ASK)] == [bids, asks]
    assert apply(books, at, [(5, 0)], [(10**12, 0)]) == kernels.OK
    assert kernels.read_touch(books, at) == (4, 2, 10**12 + 7, 2)


def test_a_snapshot_replaces_everything():
    books = kernels.new_books(1, WINDOW, 64)
    at = kernels.book_at(books, 0)
    apply(books, at, [(10**9, 1), (3, 1)], [(10**9 + 5, 1), (10**15, 1)])
    bids, asks = [(77, 1), (5, 3)], [(78, 2), (10**10, 9)]
    slots = message(bids, asks, first=3)
    assert kernels.check_snapshot(slots, 3, 2, 2) == kernels.OK
    assert kernels.load_snapshot(books, at, slots, 3, 2, 2) == kernels.OK
    assert sides(books) == [bids, asks]
    assert kernels.load_snapshot(books, at, message([], []), 0, 0, 0) == kernels.OK
    assert sides(books) == [[], []]


@pytest.mark.parametrize(
    ("bids", "asks", "status"),
    [
        ([], [], kernels.OK),
        ([(5, 1)], [], kernels.OK),
        ([], [(5, 1), (6, 1)], kernels.OK),
        ([(5, 1), (4, 1)], [(6, 1), (9, 1)], kernels.OK),
        ([(4, 1), (5, 1)], [(6, 1)], kernels.BAD_SNAPSHOT),
        ([(5, 1), (5, 2)], [(6, 1)], kernels.BAD_SNAPSHOT),
        ([(5, 1)], [(7, 1), (6, 1)], kernels.BAD_SNAPSHOT),
        ([(5, 0)], [(6, 1)], kernels.BAD_SNAPSHOT),
        ([(5, 1)], [(6, -1)], kernels.BAD_SNAPSHOT),
        ([(0, 1)], [], kernels.BAD_SNAPSHOT),
        ([(5, 1)], [(5, 1)], kernels.CROSSED),
        ([(5, 1), (3, 1)], [(4, 1)], kernels.CROSSED),
    ],
)  # fmt: skip
def test_snapshots_are_judged_before_they_are_loaded(bids, asks, status):
    assert kernels.check_snapshot(message(bids, asks), 0, len(bids), len(asks)) == status


@pytest.mark.parametrize("window", [0, 63, 100, 128 * 3, 1 << 19])
def test_a_window_that_no_bitmap_covers_is_refused(window):
    with pytest.raises(ValueError, match="window is"):
        kernels.new_books(1, window, 8)

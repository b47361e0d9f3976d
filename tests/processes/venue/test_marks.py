"""Mark price, funding rate and the funding clock."""

from processes.venue.marks import E8, FUNDING_E8_MAX, Mark

HOUR_MS = 3_600_000


def new_mark(now_ms=0):
    return Mark(64_000 * E8, 10_000, 8 * HOUR_MS, now_ms)


def test_mark_follows_the_book_slowly_and_the_index_at_once():
    mark = new_mark()
    mark.update(64_100 * E8, 64_108 * E8)
    assert mark.index_e8 == 64_100 * E8
    assert mark.mark_e8 == 64_101 * E8
    for _ in range(200):
        mark.update(64_100 * E8, 64_108 * E8)
    assert abs(mark.mark_e8 - 64_108 * E8) < E8 // 100
    assert mark.average_e8 < mark.mark_e8


def test_without_index_the_mid_is_the_index_and_an_empty_book_changes_nothing():
    mark = new_mark()
    mark.update(0, 64_010 * E8)
    assert mark.mark_e8 == 64_010 * E8
    mark.update(0, 0)
    assert mark.mark_e8 == 64_010 * E8


def test_funding_rate_is_premium_with_clamped_interest():
    mark = new_mark()
    mark.update(64_000 * E8, 64_000 * E8)
    assert mark.rate_e8 == 10_000
    for _ in range(200):
        mark.update(64_000 * E8, 64_064 * E8)
    assert 49_000 <= mark.rate_e8 <= 51_000  # premium 0.1 %, pulled by at most 0.05 %
    for _ in range(400):
        mark.update(64_000 * E8, 70_000 * E8)
    assert mark.rate_e8 == FUNDING_E8_MAX


def test_funding_is_due_once_per_interval():
    mark = new_mark(now_ms=5)
    assert mark.next_funding_ms == 8 * HOUR_MS
    assert not mark.funding_due(8 * HOUR_MS - 1)
    assert mark.funding_due(8 * HOUR_MS)
    assert not mark.funding_due(8 * HOUR_MS + 1)
    assert mark.funding_due(50 * HOUR_MS)
    assert mark.next_funding_ms == 56 * HOUR_MS

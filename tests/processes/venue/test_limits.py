"""Counting windows, 429, growing bans, order counts."""

import pytest

from processes.venue.errors import VenueError
from processes.venue.limits import BAN_MS_FIRST, Limits, Window

MINUTE = 60_000


@pytest.fixture
def limits():
    return Limits(weight_max=10, orders_10s_max=3, orders_1m_max=5, broken_max=2)


def test_window_starts_again_at_the_next_multiple():
    window = Window(1_000)
    assert window.add(3, 1_999) == 3
    assert window.add(1, 2_000) == 1
    assert window.add(0, 2_999) == 1


def test_weight_over_the_limit_is_429_until_the_minute_is_over(limits):
    assert limits.add_weight("ip", 10, MINUTE) == 10
    with pytest.raises(VenueError) as error:
        limits.add_weight("ip", 1, MINUTE + 1)
    assert (error.value.code, error.value.status) == (-1003, 429)
    assert limits.add_weight("other", 10, MINUTE + 1) == 10
    assert limits.add_weight("ip", 1, 2 * MINUTE) == 1


def test_going_on_after_429_is_banned_and_bans_grow(limits):
    now, lengths = MINUTE, []
    for _ in range(2):
        with pytest.raises(VenueError):
            limits.add_weight("ip", 11, now)
        for expected in (429, 418, 418):
            with pytest.raises(VenueError) as error:
                limits.add_weight("ip", 1, now)
            assert error.value.status == expected
        until = limits.address("ip").banned_until_ms
        assert str(until) in error.value.message
        lengths.append(until - now)
        now = until
        limits.add_weight("ip", 1, now)
    assert lengths == [BAN_MS_FIRST, 2 * BAN_MS_FIRST]


def test_orders_are_counted_per_account_and_refused_ones_are_not(limits):
    for _ in range(3):
        limits.add_orders(1, 1, 1, 0)
    with pytest.raises(VenueError) as error:
        limits.add_orders(1, 1, 1, 9_999)
    assert (error.value.code, error.value.status) == (-1015, 429)
    assert "3 orders per 10 SECOND" in error.value.message
    assert limits.used_orders(1, 9_999) == (3, 3)
    limits.add_orders(2, 1, 1, 0)
    limits.add_orders(1, 1, 1, 10_000)
    limits.add_orders(1, 1, 1, 20_000)
    with pytest.raises(VenueError) as error:
        limits.add_orders(1, 1, 1, 30_000)
    assert "5 orders per 1 MINUTE" in error.value.message


def test_table_of_addresses_is_bounded(limits):
    for i in range(3_000):
        limits.add_weight(f"10.0.{i // 256}.{i % 256}", 1, MINUTE)
    assert len(limits.addresses) <= 1_024

"""No window of the venue ever sees more than its limit, wherever it begins."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.binance_limits import (
    BACK_OFF_NS_MAX,
    BACK_OFF_NS_MIN,
    JITTER_NS,
    NS_PER_SECOND,
    Window,
)
from common.enums import Reject, RequestKind
from processes.gateway.throttle import Throttle

NEW, REPLACE, CANCEL = RequestKind.NEW, RequestKind.REPLACE, RequestKind.CANCEL
NONE, FULL = Reject.NONE, Reject.VENUE_THROTTLE


class NaiveWindow:
    """Keeps everything for ever and adds it up each time."""

    def __init__(self, interval_ns: int) -> None:
        self.interval_ns = interval_ns
        self.spent: list[tuple[int, int]] = []

    def used(self, now_ns: int) -> int:
        first_ns = now_ns - self.interval_ns - JITTER_NS
        return sum(amount for at_ns, amount in self.spent if at_ns > first_ns)


class NaiveThrottle:
    """The rules as sentences."""

    def __init__(self, orders_10s_max, orders_1m_max, weight_1m_max, soft_percent):
        self.windows = {
            "10s": NaiveWindow(10 * NS_PER_SECOND),
            "1m": NaiveWindow(60 * NS_PER_SECOND),
            "weight": NaiveWindow(60 * NS_PER_SECOND),
        }
        self.limits = {"10s": orders_10s_max, "1m": orders_1m_max, "weight": weight_1m_max}
        self.soft_percent = soft_percent

    def fits(self, name, amount, now_ns, is_soft):
        limit = self.limits[name]
        if is_soft:
            limit = max(limit * self.soft_percent // 100, 1)
        return self.windows[name].used(now_ns) + amount <= limit

    def check(self, kind, now_ns):
        if kind == CANCEL:
            return self.fits("weight", 1, now_ns, False)
        weight = 1 if kind == REPLACE else 0
        return (
            self.fits("10s", 1, now_ns, True)
            and self.fits("1m", 1, now_ns, True)
            and self.fits("weight", weight, now_ns, True)
        )

    def spend(self, kind, now_ns):
        if kind != CANCEL:
            self.windows["10s"].spent.append((now_ns, 1))
            self.windows["1m"].spent.append((now_ns, 1))
        if kind != NEW:
            self.windows["weight"].spent.append((now_ns, 1))

    def correct(self, name, limit, count, now_ns):
        self.limits[name] = limit
        extra = count - self.windows[name].used(now_ns)
        if extra > 0:
            self.windows[name].spent.append((now_ns, extra))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([NEW, REPLACE, CANCEL]), st.integers(0, 2_000)),
        st.tuples(st.sampled_from(["10s", "1m", "weight"]), st.integers(1, 30), st.integers(0, 40)),
    ),
    max_size=150,
)
NAMES = {"10s": ("ORDERS", "SECOND", 10), "1m": ("ORDERS", "MINUTE", 1)}
NAMES["weight"] = ("REQUEST_WEIGHT", "MINUTE", 1)


@settings(max_examples=200, deadline=None)
@given(STEPS, st.integers(1, 30), st.integers(1, 60), st.integers(1, 60), st.integers(1, 100))
def test_the_throttle_decides_as_its_naive_twin(steps, ten, minute, weight, soft):
    throttle, naive = Throttle(ten, minute, weight, soft), NaiveThrottle(ten, minute, weight, soft)
    now_ns = 1
    for step in steps:
        if isinstance(step[0], str):
            name, limit, count = step
            throttle.on_limit(*NAMES[name], limit, count, now_ns)
            if count <= 10 * limit:
                naive.correct(name, limit, count, now_ns)
            continue
        kind, wait_ms = step
        now_ns += wait_ms * 1_000_000
        is_free = naive.check(kind, now_ns)
        assert throttle.check(kind, now_ns) is (NONE if is_free else FULL)
        if is_free:
            throttle.spend(kind, now_ns)
            naive.spend(kind, now_ns)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 700), st.integers(0, JITTER_NS // 1_000_000)), max_size=300),
    st.integers(1, 20),
    st.integers(0, 9_999),
)
def test_no_window_of_the_venue_sees_more_than_the_limit(arrivals, limit, phase_ms):
    """Requests go as soon as they may; each travels up to the jitter longer than another."""
    throttle = Throttle(limit, 10**6, 10**6, 100)
    now_ns, seen = 1, {}
    for wait_ms, travel_ms in arrivals:
        now_ns += wait_ms * 1_000_000
        if throttle.check(NEW, now_ns) is NONE:
            throttle.spend(NEW, now_ns)
            window = (now_ns // 1_000_000 + travel_ms + phase_ms) // 10_000
            seen[window] = seen.get(window, 0) + 1
    assert all(count <= limit for count in seen.values())


def test_new_orders_stop_at_the_soft_limit_and_cancels_go_on():
    throttle = Throttle(300, 1200, 10, soft_percent=70)
    for _ in range(7):
        assert throttle.check(CANCEL, 0) is NONE
        throttle.spend(CANCEL, 0)
    assert throttle.check(NEW, 0) is NONE  # weighs nothing
    assert throttle.check(REPLACE, 0) is FULL
    for _ in range(3):
        assert throttle.check(CANCEL, 0) is NONE
        throttle.spend(CANCEL, 0)
    assert throttle.check(CANCEL, 0) is FULL
    assert throttle.check(NEW, 0) is FULL  # an order that we could not cancel is not sent
    later_ns = 61 * NS_PER_SECOND
    assert throttle.check(CANCEL, later_ns) is NONE and throttle.check(REPLACE, later_ns) is NONE


def test_orders_stop_at_the_soft_limit_of_the_ten_seconds():
    throttle = Throttle(10, 1200, 2400, soft_percent=70)
    for _ in range(7):
        assert throttle.check(NEW, 5) is NONE
        throttle.spend(NEW, 5)
    assert throttle.check(NEW, 5) is FULL
    assert throttle.check(NEW, 10 * NS_PER_SECOND + 5) is FULL  # the jitter is kept away from
    assert throttle.check(NEW, 10 * NS_PER_SECOND + JITTER_NS + 5) is NONE


def test_the_venue_counts_what_somebody_else_sends():
    throttle = Throttle(300, 1200, 2400, soft_percent=50)
    throttle.spend(NEW, 0)
    throttle.on_limit("ORDERS", "SECOND", 10, 20, 9, 0)
    assert throttle.orders_10s.limit == 20 and throttle.orders_10s.used(0) == 9
    throttle.on_limit("ORDERS", "SECOND", 10, 20, 4, 0)  # an older answer takes nothing back
    assert throttle.orders_10s.used(0) == 9
    throttle.spend(NEW, 0)
    assert throttle.check(NEW, 0) is FULL


@pytest.mark.parametrize(
    "limit",
    [
        ("RAW_REQUESTS", "MINUTE", 5, 61000, 60000),
        ("ORDERS", "DAY", 1, 200000, 199999),
        ("ORDERS", "FORTNIGHT", 1, 1, 1),
        ("ORDERS", "SECOND", 10, 300, -1),
        ("ORDERS", "SECOND", 10, 300, 10**9),
    ],
)
def test_limits_that_are_not_ours_or_not_sane_change_nothing(limit):
    throttle = Throttle(300, 1200, 2400, 70)
    throttle.on_limit(*limit, 0)
    assert [w.total for w in throttle.windows.values()] == [0, 0, 0]
    assert [w.limit for w in throttle.windows.values()] == [300, 1200, 2400]


def test_refusals_stop_orders_for_longer_and_longer_but_not_cancels():
    throttle = Throttle(300, 1200, 2400, 70)
    now_ns = 0
    for pause_ns in (BACK_OFF_NS_MIN, 2 * BACK_OFF_NS_MIN, 4 * BACK_OFF_NS_MIN):
        throttle.on_refused(now_ns)
        assert throttle.check(NEW, now_ns + pause_ns - 1) is FULL
        assert throttle.check(CANCEL, now_ns) is NONE
        now_ns += pause_ns
        assert throttle.check(NEW, now_ns) is NONE
    for _ in range(10):
        throttle.on_refused(now_ns)
    assert throttle.orders_blocked_until_ns == now_ns + BACK_OFF_NS_MAX
    throttle.on_accepted(now_ns)  # an answer to something sent before the refusal
    assert throttle.back_off_ns == BACK_OFF_NS_MAX
    throttle.on_accepted(now_ns + BACK_OFF_NS_MAX)
    throttle.on_refused(now_ns + BACK_OFF_NS_MAX)
    assert throttle.back_off_ns == BACK_OFF_NS_MIN


def test_a_ban_stops_everything_and_is_never_shortened():
    throttle = Throttle(300, 1200, 2400, 70)
    throttle.on_banned(1_000)
    throttle.on_banned(500)
    assert throttle.check(CANCEL, 999) is FULL and throttle.check(NEW, 999) is FULL
    assert throttle.check(CANCEL, 1_000) is NONE


def test_a_window_forgets_and_stays_small():
    window = Window(NS_PER_SECOND, 5, 100)
    for second in range(1000):
        now_ns = second * 2 * NS_PER_SECOND
        assert window.used(now_ns) == 0
        window.spend(3, now_ns)
        window.spend(0, now_ns)
        assert len(window.spent) == 1 and window.total == 3

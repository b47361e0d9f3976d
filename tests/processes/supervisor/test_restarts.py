"""Back-off between restarts."""

from processes.supervisor.restarts import NEVER, RestartLimits, Restarts

LIMITS = RestartLimits(restarts_max=5, delay_ns=100, delay_ns_max=1_000, reset_ns=10_000)


def die_at_once(restarts: Restarts, times: int, now_ns: int = 0) -> list[int]:
    delays = []
    for _ in range(times):
        restarts.on_start(now_ns)
        due_ns = restarts.on_death(now_ns + 1)
        delays.append(due_ns if due_ns == NEVER else due_ns - now_ns - 1)
    return delays


def test_delays_double_up_to_a_maximum_and_end():
    restarts = Restarts(LIMITS)
    assert die_at_once(restarts, 6) == [100, 200, 400, 800, 1_000, NEVER]
    assert restarts.count == 5


def test_a_long_life_forgives():
    restarts = Restarts(LIMITS)
    assert die_at_once(restarts, 4) == [100, 200, 400, 800]
    restarts.on_start(0)
    assert restarts.on_death(20_000) == 20_100
    assert restarts.count == 5


def test_none_allowed():
    assert Restarts(LIMITS._replace(restarts_max=0)).on_death(5) == NEVER


def test_a_thousand_in_a_row_do_not_overflow():
    limits = LIMITS._replace(restarts_max=1_000)
    assert set(die_at_once(Restarts(limits), 1_000)[4:]) == {1_000}

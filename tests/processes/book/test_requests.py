"""When a snapshot is asked for: a clock turned by hand, no rings."""

import pytest

from processes.book.config import BookConfig
from processes.book.requests import SnapshotRequests

CONFIG = BookConfig(
    snapshot_timeout_ns=1_000_000_000, backoff_ns_min=100_000_000, backoff_ns_max=400_000_000
)
S = 1_000_000_000
START = 10 * S


@pytest.fixture
def wants():
    return SnapshotRequests(2, CONFIG)


def ask(wants: SnapshotRequests, now_ns: int) -> list[tuple[int, int]]:
    """Hand over what is due; return (instrument_id, attempt)."""
    found = wants.due(now_ns)
    for request in found:
        wants.on_asked(request, now_ns)
    return [(request.instrument_id, request.attempt) for request in found]


def test_the_first_want_is_due_at_once_and_only_once(wants):
    assert (wants.due(START), wants.next_timer_ns()) == ([], 0)
    wants.update(1, True, 0, START)
    assert ask(wants, START) == [(1, 0)]
    assert ask(wants, START) == []
    wants.update(1, True, 0, START + 5)
    assert ask(wants, START + 5) == []
    assert wants.next_timer_ns() == START + S


def test_an_unanswered_request_is_repeated_after_its_time_out(wants):
    wants.update(0, True, 0, START)
    ask(wants, START)
    assert ask(wants, START + S - 1) == []
    assert ask(wants, START + S) == [(0, 1)]
    assert ask(wants, START + 2 * S) == [(0, 2)]


def test_failures_double_the_wait_up_to_its_limit(wants):
    wants.update(0, True, 0, START)
    now = START
    waits = []
    for answers in range(1, 6):
        assert len(ask(wants, now)) == 1
        wants.update(0, True, answers, now + 1)  # failed, or too old
        waits.append(wants.next_timer_ns() - now)
        now = wants.next_timer_ns()
    assert waits == [200_000_000, 400_000_000, 400_000_000, 400_000_000, 400_000_000]


def test_a_satisfied_want_is_forgotten_but_the_next_one_keeps_its_distance(wants):
    """A book that is lost again at once must not eat the venue's request weight."""
    wants.update(0, True, 0, START)
    ask(wants, START)
    wants.update(0, False, 1, START + 10)
    assert wants.next_timer_ns() == 0
    wants.update(0, True, 1, START + 20)
    assert wants.next_timer_ns() == START + CONFIG.backoff_ns_min
    assert ask(wants, START + CONFIG.backoff_ns_min) == [(0, 0)]
    wants.update(0, False, 2, START + S)
    wants.update(0, True, 2, START + 5 * S)
    assert ask(wants, START + 5 * S) == [(0, 0)]


def test_a_late_answer_to_an_earlier_request_plans_anew(wants):
    wants.update(0, True, 0, START)
    ask(wants, START)
    wants.update(0, True, 1, START + 10)
    wants.update(0, True, 2, START + 11)  # while nothing is out: no further delay
    assert wants.next_timer_ns() == START + 200_000_000


def test_a_request_that_cannot_be_handed_over_is_tried_later(wants):
    wants.update(0, True, 0, START)
    (request,) = wants.due(START)
    wants.on_refused(request, START)
    assert wants.due(START + 1) == []
    assert [r.instrument_id for r in wants.due(START + CONFIG.backoff_ns_min)] == [0]


def test_request_ids_are_never_repeated(wants):
    wants.update(0, True, 0, START)
    wants.update(1, True, 0, START)
    ids = [request.request_id for now in range(3) for request in wants.due(START + now)]
    assert len(set(ids)) == len(ids) == 6


@pytest.mark.parametrize(
    "bad",
    [
        {"window_steps": 65_535},
        {"diff_slots_max": 100},
        {"backoff_ns_min": 9 * S, "backoff_ns_max": S},
    ],
)
def test_a_config_that_cannot_work_is_refused(bad):
    with pytest.raises(ValueError, match="expected"):
        BookConfig(**bad)

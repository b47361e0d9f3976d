"""Priorities, limits, back-off, bans and retries of the scheduler."""

import numpy as np
import pytest

from common.binance import Outcome
from processes.rest.calls import Answer, Call, Priority
from processes.rest.counters import Counter
from processes.rest.scheduler import JOBS_MAX, RETRY_NS_MIN, Scheduler, Wait

SECOND = 1_000_000_000
OK = Answer(Outcome.OK, 200)


def new_scheduler(requests_max=2, weight_1m_max=100):
    return Scheduler(requests_max, weight_1m_max, np.zeros(len(Counter), np.int64))


def call(path="/x", weight=1):
    return Call("GET", path, weight=weight)


def one(path, weight=1, answers=None):
    """A job of one call that keeps its answer."""
    answer = yield call(path, weight)
    if answers is not None:
        answers.append(answer)


def drain(scheduler, now_ns=0):
    """Take all calls that may go; return [(number, path)]."""
    taken = []
    while (found := scheduler.next_call(now_ns)) is not None:
        taken.append((found[0], found[1].path))
    return taken


def test_urgent_calls_go_first_and_equal_ones_in_order():
    scheduler = new_scheduler(requests_max=10)
    for path, priority in (
        ("data-1", Priority.DATA),
        ("order", Priority.ORDER),
        ("emergency", Priority.EMERGENCY),
        ("data-2", Priority.DATA),
        ("cancel", Priority.CANCEL),
    ):
        scheduler.spawn(priority, one(path), 0)
    paths = [path for _, path in drain(scheduler)]
    assert paths == ["emergency", "cancel", "order", "data-1", "data-2"]


def test_requests_at_once_are_bounded_but_urgent_ones_go_beyond():
    scheduler = new_scheduler(requests_max=2)
    for i in range(4):
        scheduler.spawn(Priority.DATA, one(f"data-{i}"), 0)
    taken = drain(scheduler)
    assert [path for _, path in taken] == ["data-0", "data-1"]
    scheduler.spawn(Priority.EMERGENCY, one("emergency"), 0)
    assert [path for _, path in drain(scheduler)] == ["emergency"]
    scheduler.on_answer(taken[0][0], OK, 0)
    assert drain(scheduler) == []  # two are still out: data-1 and the emergency
    scheduler.on_answer(taken[1][0], OK, 0)
    assert [path for _, path in drain(scheduler)] == ["data-2"]


def test_each_priority_leaves_weight_to_the_more_urgent_ones():
    scheduler = new_scheduler(requests_max=100, weight_1m_max=100)
    for i in range(4):
        scheduler.spawn(Priority.DATA, one(f"data-{i}", weight=20), 0)
    assert len(drain(scheduler)) == 3  # 60 of 70 percent; 80 would be over
    scheduler.spawn(Priority.QUERY, one("query", weight=25), 0)
    assert [path for _, path in drain(scheduler)] == ["query"]
    scheduler.spawn(Priority.EMERGENCY, one("cancel", weight=15), 0)
    assert [path for _, path in drain(scheduler)] == ["cancel"]
    scheduler.spawn(Priority.EMERGENCY, one("too much", weight=1), 0)
    assert drain(scheduler) == []
    later_ns = 61 * SECOND
    assert [path for _, path in drain(scheduler, later_ns)] == ["too much", "data-3"]


def test_the_header_counts_what_others_use():
    scheduler = new_scheduler(weight_1m_max=100)
    scheduler.note(Answer(Outcome.OK, 200, headers={"x-mbx-used-weight-1m": "69"}), 0)
    scheduler.spawn(Priority.DATA, one("data", weight=2), 0)
    assert drain(scheduler) == []
    for bad in ("", "-1", "٣", "1" * 30, "12x"):
        scheduler.note(Answer(Outcome.OK, 200, headers={"x-mbx-used-weight-1m": bad}), 0)
    assert scheduler.weight.used(0) == 69


def test_a_limit_answer_stops_all_but_cancels_for_longer_each_time():
    scheduler = new_scheduler(requests_max=10)
    limited = Answer(Outcome.RATE, 429, -1003)
    now_ns = 0
    for pause_s in (1, 2, 4):
        scheduler.note(limited, now_ns)
        scheduler.spawn(Priority.ORDER, one("order"), now_ns)
        scheduler.spawn(Priority.CANCEL, one("cancel"), now_ns)
        taken = drain(scheduler, now_ns)
        assert [path for _, path in taken] == ["cancel"]
        now_ns += pause_s * SECOND
        taken += drain(scheduler, now_ns)
        assert [path for _, path in taken] == ["cancel", "order"]
        for number, _ in taken:
            scheduler.in_flight.pop(number)
    scheduler.note(OK, now_ns)
    assert scheduler.back_off_ns == 0


def test_retry_after_is_honoured():
    scheduler = new_scheduler()
    scheduler.note(Answer(Outcome.RATE, 429, -1003, headers={"retry-after": "7"}), 0)
    scheduler.spawn(Priority.DATA, one("data"), 0)
    assert drain(scheduler, 7 * SECOND - 1) == []
    assert len(drain(scheduler, 7 * SECOND)) == 1


@pytest.mark.parametrize(
    ("answer", "ban_s"),
    [
        (Answer(Outcome.RATE, 418, -1003, "banned"), 120),
        (Answer(Outcome.RATE, 403, 0, "<html>"), 120),
        (Answer(Outcome.RATE, 418, -1003, headers={"retry-after": "30"}), 30),
        (Answer(Outcome.RATE, 418, -1003, "IP banned until 1784212890000."), 90),
        (Answer(Outcome.RATE, 418, -1003, "IP banned until 9784212890000."), 259_200),
    ],
)
def test_a_ban_stops_everything(answer, ban_s):
    scheduler = new_scheduler()
    scheduler.venue_minus_mono_ns = 1_784_212_800_000_000_000
    scheduler.note(answer, 0)
    scheduler.spawn(Priority.EMERGENCY, one("cancel"), 0)
    assert drain(scheduler, ban_s * SECOND - 1) == []
    assert len(drain(scheduler, ban_s * SECOND)) == 1
    assert scheduler.values[Counter.BANS] == 1


def test_a_call_past_its_deadline_is_answered_as_not_sent():
    scheduler = new_scheduler(requests_max=1)
    answers = []
    scheduler.spawn(Priority.DATA, one("blocker"), 0)
    (blocker,) = drain(scheduler)
    scheduler.spawn(Priority.ORDER, one("order", answers=answers), 0, deadline_ns=SECOND)
    assert drain(scheduler, SECOND + 1) == []
    assert answers[0].outcome is Outcome.FAILED and answers[0].ts_sent_ns == 0
    assert scheduler.values[Counter.CALLS_TOO_LATE] == 1
    scheduler.on_answer(blocker[0], OK, SECOND)
    assert drain(scheduler, SECOND) == []


def test_waits_end_in_order_of_time():
    scheduler = new_scheduler(requests_max=10)
    done = []

    def waiter(name, duration_ns):
        yield Wait(duration_ns)
        done.append(name)

    for name, duration_ns in (("late", 30), ("soon", 10), ("middle", 20)):
        scheduler.spawn(Priority.DATA, waiter(name, duration_ns), 0)
    assert scheduler.next_timer_ns() == 10
    assert scheduler.step(9) == 0
    assert scheduler.step(20) == 2
    assert done == ["soon", "middle"]
    assert scheduler.step(30) == 1 and scheduler.next_timer_ns() == 0


def ask_job(scheduler, attempts_max, answers):
    answers.append((yield from scheduler.ask(call(), attempts_max)))


@pytest.mark.parametrize(
    ("answer", "sends"),
    [
        (Answer(Outcome.OK, 200), 1),
        (Answer(Outcome.AUTH, 401, -2015), 1),
        (Answer(Outcome.FAILED, 400, -2013), 1),
        (Answer(Outcome.FAILED, 503, 0, "Service Unavailable."), 4),
        (Answer(Outcome.FAILED, 0, 0, "ConnectError"), 4),
        (Answer(Outcome.UNKNOWN, 0, 0, "ReadTimeout"), 4),
        (Answer(Outcome.UNKNOWN, 504, 0, "<html>"), 4),
        (Answer(Outcome.CLOCK, 400, -1021), 4),
        (Answer(Outcome.RATE, 400, -1008), 4),
    ],
)
def test_ask_repeats_what_may_be_repeated(answer, sends):
    scheduler = new_scheduler()
    answers, sent, now_ns = [], 0, 0
    scheduler.spawn(Priority.QUERY, ask_job(scheduler, 4, answers), now_ns)
    while not answers:
        found = scheduler.next_call(now_ns)
        if found is None:
            now_ns += RETRY_NS_MIN
            scheduler.step(now_ns)
            continue
        sent += 1
        scheduler.on_answer(found[0], answer, now_ns)
    assert sent == sends and answers == [answer]


def test_jobs_are_bounded_and_an_answer_to_nobody_is_ignored():
    scheduler = new_scheduler()
    for _ in range(JOBS_MAX):
        assert scheduler.spawn(Priority.DATA, one("x"), 0)
    assert not scheduler.spawn(Priority.EMERGENCY, one("x"), 0)
    scheduler.on_answer(10**9, OK, 0)

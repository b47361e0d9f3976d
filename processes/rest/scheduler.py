"""Which request goes next: jobs as generators, priorities, the weight budget, back-off and bans.

A job yields a `Call` and gets its `Answer`, or yields a `Wait` and gets None. It is plain code that
reads top to bottom; nothing here opens a socket or reads a clock.
"""

import heapq
from collections.abc import Generator
from typing import NamedTuple

import numpy as np

from common import log
from common.binance import NS_PER_MS, Outcome, banned_until_ms
from common.binance_limits import (
    BACK_OFF_NS_MAX,
    BACK_OFF_NS_MIN,
    NS_PER_SECOND,
    Window,
)
from processes.rest.calls import WEIGHT_PERCENT, Answer, Call, Priority, not_sent
from processes.rest.counters import Counter

JOBS_MAX = 16_384
URGENT_REQUESTS_MAX = 64  # beyond requests_max, for cancels and dead-man timers
BAN_NS_MIN = 120 * NS_PER_SECOND  # limits page: bans last from 2 minutes on
RETRY_NS_MIN = 200 * NS_PER_MS
RETRY_NS_MAX = 5 * NS_PER_SECOND
USED_WEIGHT = "x-mbx-used-weight-1m"
RETRY_AFTER = "retry-after"
RETRY_AFTER_S_MAX = 259_200  # the longest documented ban, 3 days


class Wait(NamedTuple):
    """Come back after `duration_ns`."""

    duration_ns: int


Steps = Generator[Call | Wait, Answer | None, None]


class Job:
    """One generator and its place in the queue."""

    __slots__ = ("priority", "steps", "call", "deadline_ns")

    def __init__(self, priority: Priority, steps: Steps, deadline_ns: int) -> None:
        self.priority = priority
        self.steps = steps
        self.call: Call | None = None
        self.deadline_ns = deadline_ns  # its calls are refused after it; 0 never


class Scheduler:
    """All jobs, in flight, waiting for their turn, or for a time.

    Args:
        requests_max: in flight at once, for priorities from ORDER on.
        weight_1m_max: request weight per minute until the venue's headers tell what is used.
    """

    def __init__(self, requests_max: int, weight_1m_max: int, values: np.ndarray) -> None:
        self.requests_max = requests_max
        self.weight = Window(60 * NS_PER_SECOND, weight_1m_max, soft_percent=100)
        self.values = values
        self.ready: list[tuple[int, int, Job]] = []
        self.waiting: list[tuple[int, int, Job]] = []
        self.in_flight: dict[int, Job] = {}
        self.count = 0
        self.back_off_ns = 0
        self.blocked_until_ns = 0
        self.limited_ns = 0  # when the venue last refused a call for its limits
        self.banned_until_ns = 0
        self.venue_minus_mono_ns = 0

    def spawn(self, priority: Priority, steps: Steps, now_ns: int, deadline_ns: int = 0) -> bool:
        """Start a job; False if there are too many."""
        if len(self.ready) + len(self.waiting) + len(self.in_flight) >= JOBS_MAX:
            return False
        self.advance(Job(priority, steps, deadline_ns), None, now_ns)
        return True

    def advance(self, job: Job, answer: Answer | None, now_ns: int) -> None:
        """Run a job to its next call or wait, or to its end."""
        try:
            step = job.steps.send(answer)
        except StopIteration:
            return
        self.count += 1
        if isinstance(step, Wait):
            job.call = None
            heapq.heappush(self.waiting, (now_ns + step.duration_ns, self.count, job))
        else:
            job.call = step
            heapq.heappush(self.ready, (job.priority, self.count, job))

    def step(self, now_ns: int) -> int:
        """Go on with the jobs whose time has come; return how many."""
        done = 0
        while self.waiting and self.waiting[0][0] <= now_ns and done < JOBS_MAX:
            self.advance(heapq.heappop(self.waiting)[2], None, now_ns)
            done += 1
        self.values[Counter.WEIGHT_USED] = self.weight.used(now_ns)
        return done

    def next_timer_ns(self) -> int:
        """Return when the first waiting job wants its turn; 0 never."""
        return self.waiting[0][0] if self.waiting else 0

    def next_call(self, now_ns: int) -> tuple[int, Call] | None:
        """Take the most urgent call that may go now, with the id for its answer."""
        while self.ready:
            priority, number, job = self.ready[0]
            assert job.call is not None
            if job.deadline_ns and now_ns > job.deadline_ns:
                heapq.heappop(self.ready)
                self.values[Counter.CALLS_TOO_LATE] += 1
                self.advance(job, not_sent("waited too long", now_ns), now_ns)
                continue
            if not self.may_go(Priority(priority), job.call.weight, now_ns):
                return None
            heapq.heappop(self.ready)
            self.weight.spend(job.call.weight, now_ns)
            self.in_flight[number] = job
            self.values[Counter.CALLS] += 1
            return number, job.call
        return None

    def may_go(self, priority: Priority, weight: int, now_ns: int) -> bool:
        """Return True if limits, back-off and bans let a call of this priority go."""
        if now_ns < self.banned_until_ns:
            return False
        is_urgent = priority <= Priority.DEAD_MAN
        if now_ns < self.blocked_until_ns and not is_urgent:
            return False
        extra = URGENT_REQUESTS_MAX if is_urgent else 0
        if len(self.in_flight) >= self.requests_max + extra:
            return False
        limit = self.weight.limit * WEIGHT_PERCENT[priority] // 100
        return self.weight.used(now_ns) + weight <= limit

    def on_answer(self, number: int, answer: Answer, now_ns: int) -> None:
        """Give an answer to the job that waits for it."""
        job = self.in_flight.pop(number, None)
        if job is None:
            return
        self.note(answer, now_ns)
        self.advance(job, answer, now_ns)

    def note(self, answer: Answer, now_ns: int) -> None:
        """Take over what an answer says about limits and keys."""
        used = answer.headers.get(USED_WEIGHT, "")
        if used.isascii() and used.isdigit() and len(used) < 9:
            self.weight.correct(0, int(used), now_ns)
        outcome = answer.outcome
        if outcome is Outcome.OK:
            if now_ns >= self.blocked_until_ns:
                self.back_off_ns = 0
            return
        if outcome is Outcome.UNKNOWN:
            self.values[Counter.CALLS_UNKNOWN] += 1
            return
        self.values[Counter.CALLS_FAILED] += 1
        if outcome is Outcome.AUTH:
            self.values[Counter.AUTH_FAILURES] += 1
        elif outcome is Outcome.RATE:
            self.on_limited(answer, now_ns)

    def on_limited(self, answer: Answer, now_ns: int) -> None:
        """Back off, for as long as the venue says or twice as long as the last time.

        Calls that were under way when it said so are not another offence.
        """
        text = answer.headers.get(RETRY_AFTER, "")
        told_ns = 0
        if text.isascii() and text.isdigit() and len(text) < 9:
            told_ns = min(int(text), RETRY_AFTER_S_MAX) * NS_PER_SECOND
        until_ms = banned_until_ms(answer.message)
        if answer.status in (403, 418) or until_ms:
            ban_ns = told_ns or BAN_NS_MIN
            if until_ms and self.venue_minus_mono_ns:
                ban_ns = until_ms * NS_PER_MS - self.venue_minus_mono_ns - now_ns
            ban_ns = max(0, min(ban_ns, RETRY_AFTER_S_MAX * NS_PER_SECOND))
            self.banned_until_ns = max(self.banned_until_ns, now_ns + ban_ns)
            self.values[Counter.BANS] += 1
            log.event("rest_banned", status=answer.status, duration_s=ban_ns // NS_PER_SECOND)
            return
        self.values[Counter.RATE_LIMITED] += 1
        if answer.ts_sent_ns >= self.limited_ns:
            self.back_off_ns = min(max(self.back_off_ns * 2, BACK_OFF_NS_MIN), BACK_OFF_NS_MAX)
            self.limited_ns = now_ns
        until_ns = now_ns + max(self.back_off_ns, told_ns)
        self.blocked_until_ns = max(self.blocked_until_ns, until_ns)
        log.event("rest_rate_limited", status=answer.status, code=answer.code)

    def ask(self, call: Call, attempts_max: int) -> Generator[Call | Wait, Answer | None, Answer]:
        """Send a call that may be sent again, until its outcome is certain.

        Only for calls that change nothing, or the same thing each time.
        """
        for attempt in range(attempts_max):
            answer = yield call
            assert answer is not None
            is_certain = answer.outcome in (Outcome.OK, Outcome.AUTH)
            is_refused = answer.outcome is Outcome.FAILED and 400 <= answer.status < 500
            if is_certain or is_refused or attempt == attempts_max - 1:
                return answer
            self.values[Counter.CALLS_REPEATED] += 1
            yield Wait(min(RETRY_NS_MIN << attempt, RETRY_NS_MAX))
        raise AssertionError("attempts_max is 0, expected at least 1")

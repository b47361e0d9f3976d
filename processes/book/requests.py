"""When a depth snapshot is asked for: at once, again after a time-out, later after a failure.

Sans-I/O: it is told what the kernels want and what has been answered, and says what is due.
"""

from dataclasses import dataclass
from typing import NamedTuple

from processes.book.config import BookConfig

_DOUBLINGS_MAX = 30


class SnapshotRequest(NamedTuple):
    """One request that is due; `attempt` counts the failed ones before it."""

    instrument_id: int
    request_id: int
    attempt: int


@dataclass
class _Want:
    """One instrument's want.

    Attributes:
        due_ns: when to ask (again), 0 if nothing is wanted.
        asked_ns: when it was asked last, 0 never.
        attempt: failed requests since the book was last in order.
        answers: answers seen.
        is_out: a request is out; due_ns is its time-out.
    """

    due_ns: int = 0
    asked_ns: int = 0
    attempt: int = 0
    answers: int = 0
    is_out: bool = False


class SnapshotRequests:
    """The wants of all instruments."""

    def __init__(self, count: int, config: BookConfig) -> None:
        self.config = config
        self._wants = [_Want() for _ in range(count)]
        self._request_id = 0

    def update(self, instrument_id: int, is_wanted: bool, answers: int, now_ns: int) -> None:
        """Take in whether a snapshot is wanted now, and how many answers have come so far."""
        want = self._wants[instrument_id]
        is_answered = answers != want.answers
        want.answers = answers
        if not is_wanted:
            want.due_ns, want.attempt, want.is_out = 0, 0, False
        elif want.due_ns == 0:
            self._plan(want, now_ns)
        elif want.is_out and is_answered:  # failed, refused or too old
            want.attempt += 1
            self._plan(want, now_ns)

    def due(self, now_ns: int) -> list[SnapshotRequest]:
        """Return what is to be asked now; tell `on_asked` or `on_refused` about each."""
        found = []
        for instrument_id, want in enumerate(self._wants):
            if want.due_ns == 0 or want.due_ns > now_ns:
                continue
            if want.is_out:  # timed out
                want.attempt += 1
                want.is_out = False
            self._request_id += 1
            found.append(SnapshotRequest(instrument_id, self._request_id, want.attempt))
        return found

    def on_asked(self, request: SnapshotRequest, now_ns: int) -> None:
        """Remember that the request is out."""
        want = self._wants[request.instrument_id]
        want.asked_ns = now_ns
        want.is_out = True
        want.due_ns = now_ns + self.config.snapshot_timeout_ns

    def on_refused(self, request: SnapshotRequest, now_ns: int) -> None:
        """Try later: the request could not be handed over."""
        self._wants[request.instrument_id].due_ns = now_ns + self.config.backoff_ns_min

    def next_timer_ns(self) -> int:
        """Return when `due` has something next, 0 never."""
        return min((want.due_ns for want in self._wants if want.due_ns), default=0)

    def _plan(self, want: _Want, now_ns: int) -> None:
        """Ask as soon as the last request is far enough behind: the venue's limits are shared."""
        wait_ns = self.config.backoff_ns_min << min(want.attempt, _DOUBLINGS_MAX)
        wait_ns = min(wait_ns, self.config.backoff_ns_max)
        want.is_out = False
        want.due_ns = max(now_ns, want.asked_ns + wait_ns if want.asked_ns else 0)

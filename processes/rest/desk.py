"""What all jobs of rest share: time, scheduler, instruments, and what goes into the rings."""

from collections.abc import Generator

import numpy as np

from common import log
from common.binance import NS_PER_MS, by_symbol
from common.enums import Phase, Reject
from common.instruments import Instrument
from common.messages import OrderRequest, Report
from processes.rest.calls import Answer, Call, Priority
from processes.rest.config import RestConfig
from processes.rest.counters import Counter
from processes.rest.scheduler import Scheduler, Steps, Wait

Asking = Generator[Call | Wait, Answer | None, Answer]
CLOCK_OFFSET_NS_MAX = 500 * NS_PER_MS


class Snapshot:
    """One answered depth request, for the ring to book.

    Attributes:
        body: JSON of the venue, empty if it failed.
    """

    __slots__ = ("request_id", "instrument_id", "ts_recv_ns", "body")

    def __init__(self, request_id: int, instrument_id: int, ts_recv_ns: int, body: bytes) -> None:
        self.request_id = request_id
        self.instrument_id = instrument_id
        self.ts_recv_ns = ts_recv_ns
        self.body = body


class Desk:
    """State that jobs read and write; the stage sets what it sees and takes what is to be written.

    Attributes:
        now_ns, wall_minus_mono_ns: clocks, set before each step.
        venue_minus_mono_ns: the venue's wall clock minus CLOCK_MONOTONIC; ts_clock_ns: measured
            when, 0 never; round_trip_ns: of that measurement.
        listen_key: the newest, empty if there is none; listen_key_due_ns: to be extended then.
        armed_until_ns: per instrument, when its dead-man timer runs out at the venue; 0 unarmed.
        is_killed, is_gateway_dead: seen by the stage; phase: told by the shell.
        reports, snapshots: to be written; session_due: SessionKind values to be written.
    """

    def __init__(
        self, config: RestConfig, instruments: list[Instrument], stp_mode: str, values: np.ndarray
    ) -> None:
        self.config = config
        self.instruments = instruments
        self.symbols = by_symbol(instruments)
        self.stp_mode = stp_mode
        self.values = values
        self.scheduler = Scheduler(config.requests_max, config.weight_1m_max, values)
        self.now_ns = 0
        self.wall_minus_mono_ns = 0
        self.venue_minus_mono_ns = 0
        self.ts_clock_ns = 0
        self.round_trip_ns = 0
        self.is_clock_wanted = False
        self.listen_key = ""
        self.listen_key_due_ns = 0
        self.armed_until_ns = [0] * len(instruments)
        self.is_dead_man_wanted = True
        self.is_killed = False
        self.is_gateway_dead = False
        self.phase = Phase.STARTING
        self.reports: list[Report] = []
        self.snapshots: list[Snapshot] = []
        self.session_due: set[int] = set()

    def venue_ns(self) -> int:
        """Return the venue's wall clock; ours until it has been measured."""
        offset_ns = self.venue_minus_mono_ns if self.ts_clock_ns else self.wall_minus_mono_ns
        return self.now_ns + offset_ns

    def venue_ms(self) -> int:
        """Return `timestamp` for a signed call."""
        return self.venue_ns() // NS_PER_MS

    def clock_offset_ns(self) -> int:
        """Return the venue's wall clock minus ours."""
        return self.venue_minus_mono_ns - self.wall_minus_mono_ns

    def is_clock_good(self) -> bool:
        """Return True if orders may be stamped: offset known and small."""
        return self.ts_clock_ns != 0 and abs(self.clock_offset_ns()) <= CLOCK_OFFSET_NS_MAX

    def is_armed(self) -> bool:
        """Return True if every dead-man timer runs, with a third of its window left."""
        least_ns = self.now_ns + self.config.countdown_ms * NS_PER_MS // 3
        return all(until_ns > least_ns for until_ns in self.armed_until_ns)

    def is_stopping(self) -> bool:
        """Return True once no new order is wanted any more."""
        return self.phase >= Phase.STOP_ORDERS

    def spawn(self, priority: Priority, steps: Steps, deadline_ns: int = 0) -> bool:
        """Start a job now; False, counted, if there are too many."""
        if self.scheduler.spawn(priority, steps, self.now_ns, deadline_ns):
            return True
        steps.close()
        self.values[Counter.REQUESTS_BAD] += 1
        return False

    def ask(self, call: Call) -> Asking:
        """Send a call that may be repeated, until its outcome is certain or attempts_max."""
        answer = yield from self.scheduler.ask(call, self.config.attempts_max)
        return answer

    def scope(self, instrument_id: int) -> list[Instrument]:
        """Return the instruments that a request means: one, all (-1), none if there is no such."""
        if instrument_id == -1:
            return self.instruments
        if 0 <= instrument_id < len(self.instruments):
            return [self.instruments[instrument_id]]
        return []

    def refusal(self, request: OrderRequest) -> Reject:
        """Return why an order may not go over REST now, NONE if it may."""
        if self.is_killed:
            return Reject.KILLED
        if self.is_stopping():
            return Reject.STOPPING
        if not self.is_clock_good():
            return Reject.CLOCK_OFFSET
        return Reject.NONE

    def count_bad_answer(self, what: str, error: Exception) -> None:
        """Count and tell an answer that could not be read."""
        self.values[Counter.DECODE_ERRORS] += 1
        log.event("rest_bad_answer", what=what, error=str(error))

"""The book stage: market ring in, kernels, book ring out; asks rest for snapshots."""

import numpy as np

from common import log
from common.enums import GapReason, RestKind
from common.instruments import Instrument
from common.records import REST_REQUEST
from processes.book.batch import take_turn
from processes.book.config import BookConfig
from processes.book.counters import Counter
from processes.book.publish import publish_state
from processes.book.requests import SnapshotRequest, SnapshotRequests
from processes.book.state import (
    ANSWERS,
    DIRTY_COUNT,
    IS_LIVE,
    IS_TOUCHED,
    LIVE_ID,
    LIVE_TS_RECV,
    LOST_REASON,
    NEEDS_PYTHON,
    PENDING_REASON,
    TOUCHED_COUNT,
    WANTED,
    new_state,
)
from shm.bundle import pack
from shm.counters import Counters
from shm.ring import Consumer, Producer
from shm.table import TableWriter

WAITING_POLL_NS = 1_000_000


class BookStage:
    """Shell of the book builder: rings in, kernels, rings out; decides nothing.

    Args:
        instruments: the run's, in order of their ids.
        config: the [book] table.
        market: consumer of the feed's market ring.
        snapshots: consumer of rest's snapshot ring.
        books: producer of the book ring.
        requests: producer of the request ring to rest.
        cells: writer of the BBO table, one row per instrument.
        counters: made with `counters.LABELS` and `counters.HISTOGRAMS`.
    """

    def __init__(
        self,
        instruments: list[Instrument],
        config: BookConfig,
        *,
        market: Consumer,
        snapshots: Consumer,
        books: Producer,
        requests: Producer,
        cells: TableWriter,
        counters: Counters,
    ) -> None:
        self.instruments = instruments
        self.config = config
        self.market = market
        self.snapshots = snapshots
        self.books = books
        self.requests = requests
        self.cells = cells
        self.counters = counters
        self.consumers = [market, snapshots]
        self.state = new_state(len(instruments), config)
        self.wants = SnapshotRequests(len(instruments), config)
        self.bundle = pack(
            (
                self.state, snapshots.end, market.end, books.end, cells.versions, cells.rows,
                counters.values, counters.histograms,
            )
        )  # fmt: skip
        self.timer_ns = 0
        self._was_live = [False] * len(instruments)
        self._is_announced = False
        self._now_ns = 0
        counters.values[Counter.BOOKS_VALID] = 0  # a gauge: a restarted process has no books

    def do_work(self, now_ns: int) -> int:
        """Take what the rings hold, with one kernel call.

        Returns:
            Slots taken; 0 lets the runner idle.
        """
        self._now_ns = now_ns
        if not self._is_announced:
            self._announce(now_ns)
        work = take_turn(self.bundle, now_ns, self.config.batch_slots_max)
        if self.state.totals[NEEDS_PYTHON] != 0:
            self._follow_kernels(now_ns)
        if self.timer_ns and self.timer_ns <= now_ns:
            self._ask(now_ns)
        return int(work)

    def next_timer_ns(self) -> int:
        """Return when `do_work` is wanted even without input, 0 never."""
        if self.state.totals[DIRTY_COUNT] == 0:
            return self.timer_ns
        waiting_ns = self._now_ns + WAITING_POLL_NS
        return min(self.timer_ns, waiting_ns) if self.timer_ns else waiting_ns

    def is_live(self, instrument_id: int) -> bool:
        """Return True if the book is valid."""
        return bool(self.state.sync[instrument_id, IS_LIVE])

    def last_update_id(self, instrument_id: int) -> int:
        """Return u of the last diff applied to the book."""
        return int(self.state.sync[instrument_id, LIVE_ID])

    def close(self) -> None:
        """Leave the rings; the segments stay for the tools."""
        for end in (self.market, self.snapshots, self.books, self.requests, self.cells):
            end.close()

    def _announce(self, now_ns: int) -> None:
        """Tell the readers, who may remember a former life, that no book is valid yet."""
        self._is_announced = True
        sync = self.state.sync
        sync[:, PENDING_REASON] = GapReason.RESTART
        sync[:, LIVE_TS_RECV] = now_ns
        sync[:, IS_TOUCHED] = 1
        self.state.totals[TOUCHED_COUNT] = 1
        for i in range(len(self.instruments)):
            publish_state(
                self.state, self.books.end, i,
                self.counters.values, self.counters.histograms, now_ns,
            )  # fmt: skip

    def _follow_kernels(self, now_ns: int) -> None:
        """Act on what the kernels have left for Python: wants, answers, changes of validity."""
        self.state.totals[NEEDS_PYTHON] = 0
        sync = self.state.sync
        for i, instrument in enumerate(self.instruments):
            is_live = self.is_live(i)
            if is_live != self._was_live[i]:
                self._was_live[i] = is_live
                self._tell(instrument, is_live)
            self.wants.update(i, bool(sync[i, WANTED]), int(sync[i, ANSWERS]), now_ns)
        self.timer_ns = self.wants.next_timer_ns()

    def _tell(self, instrument: Instrument, is_live: bool) -> None:
        row = self.state.sync[instrument.instrument_id]
        if is_live:
            log.event("book_valid", symbol=instrument.symbol, last_update_id=row[LIVE_ID])
        else:
            reason = GapReason(int(row[LOST_REASON])).name
            log.event(
                "book_invalid", symbol=instrument.symbol, reason=reason, last_update_id=row[LIVE_ID]
            )

    def _ask(self, now_ns: int) -> None:
        for request in self.wants.due(now_ns):
            if self.requests.try_write(_record(request, now_ns)):
                self.counters.values[Counter.REQUESTS] += 1
                self.wants.on_asked(request, now_ns)
            else:
                self.counters.values[Counter.REQUESTS_REFUSED] += 1
                self.wants.on_refused(request, now_ns)
        self.timer_ns = self.wants.next_timer_ns()


def _record(request: SnapshotRequest, now_ns: int) -> np.ndarray:
    record = np.zeros(1, REST_REQUEST)
    record["kind"] = RestKind.SNAPSHOT
    record["instrument_id"] = request.instrument_id
    record["request_id"] = request.request_id
    record["attempt"] = request.attempt
    record["ts_pub_ns"] = now_ns
    return record

"""The line to the strategy: RESET to READY, and reports that are never dropped.

    NONE ──ATTACH──▶ CLEARED ──account reconciled──▶ READY
    start of risk ──▶ RESETTING ──RESET was read──▶ CLEARED

An intent counts only if the strategy knew of the last RESET when it wrote it.
"""

from enum import IntEnum

import numpy as np

from common import log
from common.enums import ReportKind
from processes.risk.counters import Counter
from processes.risk.cycle import Ends
from processes.risk.oms import (
    ACTIVE_COUNT,
    INTENT_BARRIER,
    IS_READY,
    IS_RECONCILED,
    IS_SPILLING,
    IS_STOPPING,
    OUT_COUNT,
    Oms,
    new_report,
    tell_all,
    tell_position,
)
from shm.cursors import load_word
from shm.ring import Producer
from shm.spill import Spill
from shm.words import C_CURSOR, L_CLAIMED, P_CURSOR

STRATEGY_ID = 0


class Attachment(IntEnum):
    """How far the strategy has been brought up to date."""

    NONE = 0
    RESETTING = 1
    CLEARED = 2
    READY = 3


class StrategyLink:
    """What the strategy has been told, and what waits for room in its ring.

    Args:
        oms: Oms, changed.
        ends: rings to and from the strategy.
        reports: producer of the report ring.
        spill_max: reports kept when it is full; over it the strategy is started anew instead.
    """

    def __init__(self, oms: Oms, ends: Ends, reports: Producer, spill_max: int) -> None:
        self.oms = oms
        self.ends = ends
        self.spill = Spill(reports, spill_max)
        self.piece = max(reports.capacity // 2, 1)
        self.attachment = Attachment.NONE
        self.reset_end = -1  # report ring sequence behind the RESET, -1: not in the ring yet
        self.is_lost = False  # reports did not fit the spill either

    @property
    def is_waiting(self) -> bool:
        """Return True while reports wait for room, or a RESET for being read."""
        is_resetting = self.attachment == Attachment.RESETTING
        return len(self.spill) > 0 or self.is_lost or is_resetting

    def reset(self, now_ns: int) -> None:
        """Tell the strategy to forget its orders; what it decided before does not count."""
        self.oms.strategies[STRATEGY_ID, IS_READY] = 0
        self.oms.counters[Counter.RESETS] += 1
        new_report(self.oms, int(ReportKind.RESET), 0, now_ns)
        self.attachment = Attachment.RESETTING
        self.reset_end = -1

    def on_attach(self, now_ns: int) -> None:
        """A strategy has started: all intents behind its ATTACH are of this start."""
        log.event("strategy_attached")
        self.reset(now_ns)
        self.attachment = Attachment.CLEARED

    def on_death(self) -> None:
        """The strategy is gone until it attaches again."""
        self.oms.strategies[STRATEGY_ID, IS_READY] = 0
        self.attachment = Attachment.NONE

    def on_reconciled(self, now_ns: int) -> None:
        """Tell all positions: fills that were nobody's order may have moved them."""
        if self.attachment == Attachment.READY:
            for i in range(len(self.oms.positions)):
                tell_position(self.oms, i, now_ns)

    def follow(self, now_ns: int) -> None:
        """Bring the strategy to READY: RESET read, account reconciled, everything told."""
        words = self.oms.words
        words[IS_SPILLING] = len(self.spill) > 0 or self.is_lost
        if self.is_lost and not len(self.spill):
            self.is_lost = False
            self.reset(now_ns)
            return
        if self.attachment == Attachment.RESETTING:
            self._follow_reset()
        is_cleared = self.attachment == Attachment.CLEARED and not len(self.spill)
        is_open = words[IS_RECONCILED] and not words[IS_STOPPING]
        if is_cleared and is_open and not words[OUT_COUNT]:
            tell_all(self.oms, now_ns)
            self.oms.strategies[STRATEGY_ID, IS_READY] = 1
            self.attachment = Attachment.READY
            log.event("strategy_ready", active_orders=int(words[ACTIVE_COUNT]))

    def _follow_reset(self) -> None:
        """See whether the strategy has read the RESET; intents published before are too old.

        A turn of the strategy publishes its intents before it releases what it read: when its
        cursor has passed the RESET, all intents that did not know of it are in the ring.
        """
        if self.oms.words[OUT_COUNT] or len(self.spill):
            return
        reports, intents = self.ends.reports, self.ends.intents
        if self.reset_end < 0:
            self.reset_end = int(reports.local[L_CLAIMED])
        if int(load_word(reports.other, C_CURSOR)) >= self.reset_end:
            self.oms.words[INTENT_BARRIER] = int(load_word(intents.other, P_CURSOR))
            self.attachment = Attachment.CLEARED

    def must_queue(self) -> bool:
        """Return True if new reports must wait behind older ones."""
        return len(self.spill) > 0 or self.is_lost

    def keep(self, reports: np.ndarray) -> None:
        """Keep reports until the strategy reads; over the limit it is started anew instead."""
        for first in range(0, len(reports), self.piece):
            if self.is_lost or not self.spill.write(reports[first : first + self.piece]):
                if not self.is_lost:
                    log.event("report_spill_full", kept=len(self.spill))
                self.is_lost = True
                return

    def flush(self) -> None:
        """Publish what fits of what waits."""
        if len(self.spill):
            self.spill.flush()
        self.oms.counters[Counter.REPORTS_SPILLED] = len(self.spill)

"""The recorder stage: looks at every ring in turn, writes what is new, and stops before it harms.

Rules: it holds no end of a ring and takes nobody's time but its own. What goes wrong with the disk
ends the recording with an alarm, and the process stays: trading does not depend on it.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from common import log
from common.enums import Phase
from processes.recorder.config import RecorderConfig
from processes.recorder.counters import Counter
from processes.recorder.tap import RingTap, StateTap
from shm.counters import Counters
from shm.packing import Packer
from shm.recording import RecordingError, size_of, write_manifest
from shm.slot_file import SLOTS_SUFFIX

BUFFER_WORDS = 1 << 15  # 256 KB: what is copied is still in the cache when it is summed and written
PACK_BYTES = 1 << 18
NS_PER_MS = 1_000_000
SPACE_CHECK_NS = 1_000_000_000
RETRY_NS = 100_000_000
DRAIN_NS_MAX = 2_000_000_000
DRAIN_POLL_NS = 1_000_000
IN_ORDER = "in order"
LATE = f"with slots left after {DRAIN_NS_MAX // NS_PER_MS} ms"


class Clock(Protocol):
    """common.clock, or a virtual one."""

    def now_ns(self) -> int:
        """Read CLOCK_MONOTONIC."""

    def sleep_ns(self, duration_ns: int) -> None:
        """Sleep."""


class RecorderStage:
    """Records rings and checkpoints of one run.

    Args:
        run: folder of the run.
        manifest: of the run, kept up to date.
        config: limits and intervals.
        open_taps: opens the rings; called at once, a full disk is no reason to die.
        open_state: opens the state block, None as long as there is none.
        reads, writes: keys of the rings that the state's process has an end of.
        counters: of this process.
        clock: common.clock, or a virtual one.
    """

    def __init__(
        self,
        run: Path,
        manifest: dict[str, Any],
        config: RecorderConfig,
        open_taps: Callable[[], list[RingTap]],
        open_state: Callable[[], StateTap | None],
        reads: set[str],
        writes: set[str],
        counters: Counters,
        clock: Clock,
    ) -> None:
        self.run = run
        self.manifest = manifest
        self.config = config
        self.open_state = open_state
        self.reads = reads
        self.writes = writes
        self.values = counters.values
        self.clock = clock
        self.phase = Phase.STARTING
        self.taps: list[RingTap] = []
        self.state: StateTap | None = None
        self.is_stopped = False
        self.due_ns = self.checkpoint_due_ns = self.space_due_ns = 0
        self.is_gap_open = False  # no checkpoint yet behind the last GAP
        self.is_packing = config.is_packed
        self.packer: Packer | None = None
        self.to_pack: list[Path] = []
        self._buffer = np.zeros(BUFFER_WORDS, np.int64)
        self._bytes_before = 0
        try:
            self._bytes_before = size_of(run)
            write_manifest(run, manifest)
            self.taps = open_taps()
            self._begin()
        except RecordingError as error:
            self._stop(str(error))

    def _begin(self) -> None:
        for tap in self.taps:
            self.manifest["rings"][tap.key] = tap.observer.record
            self.is_gap_open |= tap.gap_end > 0 and self._matters(tap)
        if self.is_packing:
            self.to_pack = sorted(self.run.rglob(f"*{SLOTS_SUFFIX}"))  # nobody writes to them now
        write_manifest(self.run, self.manifest)
        log.event("recording", run=self.run, rings=len(self.taps))

    def do_work(self, now_ns: int) -> int:
        """Record what is new, once per poll interval; at once again while there is more.

        Returns:
            Slots recorded.
        """
        if self.is_stopped or now_ns < self.due_ns:
            return 0
        try:
            self._check_space(now_ns)
            moved, is_behind = self._move()
            if now_ns >= self.checkpoint_due_ns:
                self._checkpoint(now_ns)
            if not moved:
                self._pack()
        except RecordingError as error:
            self._stop(str(error))
            return 0
        if not is_behind:
            self.due_ns = now_ns + self.config.poll_ms * NS_PER_MS
        return moved

    def _move(self) -> tuple[int, bool]:
        """Move a buffer full of every ring; return (slots, True: there is more)."""
        moved, is_behind = 0, False
        values = self.values
        for tap in self.taps:
            gap_end, lost = tap.gap_end, tap.lost
            count = tap.move(self._buffer)
            if tap.gap_end > gap_end:
                values[Counter.LAPS] += 1
                values[Counter.SLOTS_LOST] += tap.lost - lost
                self._on_gap(tap)
            if count == 0:
                continue
            lag = count
            if (count + 1) * tap.observer.width > len(self._buffer):
                lag += tap.observer.lag
                is_behind |= lag > count
            values[Counter.LAG_MAX] = max(values[Counter.LAG_MAX], lag)
            moved += count
        if moved:
            values[Counter.SLOTS] += moved
            values[Counter.BYTES] = self.total_bytes
        return moved, is_behind

    def _on_gap(self, tap: RingTap) -> None:
        log.event("recorder_gap", ring=tap.key, end=tap.gap_end, lost=tap.lost)
        if self._matters(tap):
            self.is_gap_open = True
            self.checkpoint_due_ns = 0

    def _matters(self, tap: RingTap) -> bool:
        """Return True if a replay of the state's process needs the ring."""
        return tap.key in self.reads | self.writes

    @property
    def total_bytes(self) -> int:
        """Of the run's folder."""
        written = sum(tap.writer.bytes_written for tap in self.taps)
        if self.state is not None:
            written += self.state.writer.bytes_written
        return self._bytes_before + written

    def _check_space(self, now_ns: int) -> None:
        if self.total_bytes >= self.config.total_bytes_max:
            raise RecordingError(
                f"{self.run}: {self.total_bytes} bytes, expected less than total_bytes_max ="
                f" {self.config.total_bytes_max}"
            )
        if now_ns < self.space_due_ns:
            return
        self.space_due_ns = now_ns + SPACE_CHECK_NS
        status = os.statvfs(self.run)
        free = status.f_bavail * status.f_frsize
        if free < self.config.free_bytes_min:
            raise RecordingError(
                f"{self.run}: {free} bytes are free, expected at least free_bytes_min ="
                f" {self.config.free_bytes_min}; the journal needs room too"
            )

    def _checkpoint(self, now_ns: int) -> None:
        """Copy the state; the first copy behind a GAP is where a replay may begin."""
        is_pending = self.is_gap_open
        self.checkpoint_due_ns = now_ns + (
            RETRY_NS if is_pending else self.config.checkpoint_ms * NS_PER_MS
        )
        if self.state is None:
            self.state = self.open_state()
            if self.state is None:
                return
        # Read before the state: what was released then is in the block that is copied now.
        is_behind_gap = all(
            tap.observer.consumed >= tap.gap_end for tap in self.taps if tap.key in self.reads
        )
        taken = self.state.take()
        if taken is None:
            self.values[Counter.CHECKPOINTS_MISSED] += 1
            self.checkpoint_due_ns = now_ns + RETRY_NS
        elif taken:
            self.values[Counter.CHECKPOINTS] += 1
            if is_pending and is_behind_gap:
                self.is_gap_open = False
                sequence = self.state.writer.next_sequence - 1
                self.manifest["replay_from"] = {"checkpoint": sequence, "turn": self.state.turn}
                write_manifest(self.run, self.manifest)
                log.event("replay_from", checkpoint=sequence, turn=self.state.turn)

    def _pack(self) -> None:
        """Pack one piece of a closed segment; plain files will do if that fails."""
        if not self.is_packing:
            return
        for tap in self.taps:
            self.to_pack += tap.writer.closed
            tap.writer.closed.clear()
        try:
            if self.packer is None:
                if not self.to_pack:
                    return
                self.packer = Packer(self.to_pack.pop(0), self.config.zstd_level)
            growth = self.packer.step(PACK_BYTES)
        except OSError as error:
            self.is_packing = False
            log.event("packing_stopped", reason=error)
            return
        if growth is not None:
            self.packer = None
            self._bytes_before += growth
            self.values[Counter.SEGMENTS_PACKED] += 1

    def _stop(self, reason: str) -> None:
        """Stop recording for good, with an alarm; the run goes on without it."""
        self.is_stopped = True
        self.values[Counter.STOPPED] = 1
        log.event("recording_stopped", reason=reason, alarm="trading goes on unrecorded")
        self.manifest["stopped"] = reason
        self._close_files()
        try:
            write_manifest(self.run, self.manifest)
        except RecordingError:
            return  # the disk is full: the last one says that it is not complete

    def _close_files(self) -> bool:
        """Close what is open, in order as far as the disk allows; True: all of it."""
        if self.packer is not None:
            self.packer.close()
            self.packer = None
        is_whole = True
        taps: list[RingTap | StateTap] = [*self.taps]
        if self.state is not None:
            taps.append(self.state)
        for tap in taps:
            try:
                tap.writer.close()
            except RecordingError as error:
                log.event("recording_not_closed", error=error)
                is_whole = False
        return is_whole

    def next_timer_ns(self) -> int:
        """Return when to look at the rings again: nobody rings for an observer."""
        return 0 if self.is_stopped else self.due_ns

    def on_phase(self, phase: Phase, now_ns: int) -> None:
        """Follow the supervisor."""
        self.phase = phase

    def close(self) -> None:
        """Record what is left, and say in the manifest whether all of the run is here.

        It is told to leave when the others have left; an orphan waits for that here.
        """
        try:
            if not self.is_stopped:
                self._finish()
                self.is_stopped = True
        except RecordingError as error:
            self._stop(str(error))
        finally:
            for tap in self.taps:
                tap.close()
            if self.state is not None:
                self.state.close()
            self.taps, self.state = [], None

    def _drain(self) -> str:
        """Record what the rings still hold, and what comes while the others leave.

        Returns:
            How the recording ends: IN_ORDER, or why something may be missing.

        Raises:
            RecordingError: there is no room left.
        """
        deadline_ns = self.clock.now_ns() + DRAIN_NS_MAX
        while True:
            now_ns = self.clock.now_ns()
            is_late = now_ns > deadline_ns
            is_written = any(tap.observer.is_written for tap in self.taps)  # before the last look
            self.space_due_ns = now_ns  # it writes as fast as it can: look every time
            self._check_space(now_ns)
            moved, _is_behind = self._move()
            if moved and not is_late:
                continue
            if any(tap.observer.lag for tap in self.taps):
                if is_late:
                    return LATE
                continue  # somebody wrote behind the look
            if not is_written:
                return IN_ORDER
            if is_late or self.phase < Phase.STOP_ORDERS:
                return "while others wrote"
            self.clock.sleep_ns(DRAIN_POLL_NS)

    def _finish(self) -> None:
        stopped = self._drain()
        if stopped == LATE:
            log.event("recording_cut_off", reason=stopped, alarm="the end of the run is missing")
        self._checkpoint(self.clock.now_ns())
        gaps = {tap.key: tap.gap_end for tap in self.taps if tap.gap_end}
        is_whole = self._close_files()
        self.manifest["stopped"] = stopped
        self.manifest["complete"] = is_whole and stopped == IN_ORDER and not gaps
        write_manifest(self.run, self.manifest)
        log.event(
            "recorded",
            run=self.run,
            complete=self.manifest["complete"],
            bytes=self.total_bytes,
            gaps=",".join(gaps),
        )

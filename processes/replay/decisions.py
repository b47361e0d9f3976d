"""Decision-exact replay: the turns of a recorded run, taken again in order.

    turn log ──▶ chunks that the arrays can hold ──▶ judge: verify, or ask what if
    input rings ──▶ slots, where they were ─────────┘

It begins at the fresh desk of the session. Where turns or their inputs were not recorded, it goes
on from the first checkpoint of the state behind them; what lies between is not covered.
"""

from typing import NamedTuple, Protocol

import numpy as np

from common import clock, order_ids
from common.errors import SegmentError, UsageError
from common.records import ORDER_REQUEST, TURN
from processes.replay.checkpoints import Checkpoints
from processes.replay.merge import RING, count_places, new_marks
from processes.replay.strategy_run import STRATEGY_ID, NoRecording, StrategyRun, is_whole
from processes.replay.turns import (
    DIFFERENCE,
    FOUND_WORDS,
    IN_STATE,
    Inputs,
    Machine,
    Recorded,
    Slots,
    compared_bits,
    replay_turns,
)
from processes.strategy import desk as at
from processes.strategy import engine
from processes.strategy.turn_log import INPUTS

LOG_TURNS = 1 << 16  # of one piece of the log
_STEP_NS = 50_000_000  # a paced replay looks so often


class Stretch(NamedTuple):
    """Turns [first, end) that were taken without a break; is_fresh: from the fresh desk."""

    first: int
    end: int
    is_fresh: bool


class Break(NamedTuple):
    """Why no turn can be taken at `turn`: what was not recorded."""

    turn: int
    what: str


class Difference(NamedTuple):
    """Where a replay parts from its recording.

    Attributes:
        turn: number of the turn.
        logged: its TURN record.
        state: block of the checkpoint behind it as words, if that is what differs.
    """

    turn: int
    logged: np.void
    state: np.ndarray | None = None


class Judge(Protocol):
    """What is done with the turns."""

    machine: Machine
    found: np.ndarray  # int64[FOUND_WORDS]

    def take(self, recorded: Recorded, first: int, end: int) -> int:
        """Take the turns [first, end) of the piece; return the first one not taken."""

    def place(self) -> None:
        """Begin from the state block that the machine has been given."""


class Verifier:
    """Compares everything that the turns write.

    Attributes:
        found: int64[FOUND_WORDS].
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.found = np.zeros(FOUND_WORDS, np.int64)

    def take(self, recorded: Recorded, first: int, end: int) -> int:
        """Take turns until one differs."""
        return int(replay_turns(self.machine, recorded, first, end, self.found))

    def place(self) -> None:
        """Begin anywhere."""


class Pace:
    """Lets turns pass at `speed` times the pace they were recorded at; 0: as fast as can be."""

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self._offset_ns: float | None = None

    def wait(self, now_ns: np.ndarray) -> int:
        """Wait until the first turn is due; return how many are.

        Args:
            now_ns: int64[n], clocks of the turns to come.
        """
        if not self.speed:
            return len(now_ns)
        scaled = now_ns / self.speed
        if self._offset_ns is None:
            self._offset_ns = clock.now_ns() - scaled[0]
        while True:
            virtual_ns = clock.now_ns() - self._offset_ns
            due = int(np.searchsorted(scaled, virtual_ns, side="right"))
            if due:
                return due
            clock.sleep_ns(int(min(scaled[0] - virtual_ns, _STEP_NS)) + 1)


class Replay:
    """Takes the logged turns of one strategy.

    Args:
        of: the strategy and its rings.
        inputs: arrays of the input rings, that the judge's machine reads.
        judge: what is done with the turns.
        end_turn: turns from this one on are left out.
        pace: when they may pass.

    Attributes:
        stretches: what was taken.
        breaks: why it could not go on.
        difference: the first one, None if there is none.
        checkpoints_compared: state blocks of checkpoints that were compared.
        marks: what a merge by timestamp would have done, see merge.py.
    """

    def __init__(
        self, of: StrategyRun, inputs: Inputs, judge: Judge, end_turn: int, pace: Pace
    ) -> None:
        self.of = of
        self.judge = judge
        self.end_turn = end_turn
        self.pace = pace
        self.stretches: list[Stretch] = []
        self.breaks: list[Break] = []
        self.difference: Difference | None = None
        self.marks = new_marks()
        self._inputs = inputs
        self._intents = Slots(of.intents, "ORDER_REQUEST")
        self._compared = compared_bits("ORDER_REQUEST")
        self._checkpoints = Checkpoints(of)
        self.checkpoints_compared = 0

    def recorded_intent(self, sequence: int) -> np.void:
        """Return the recorded ORDER_REQUEST of that sequence, of the turns taken last."""
        slot = sequence & (self.of.intents.capacity - 1)
        found: np.void = self._intents.words[slot].view(ORDER_REQUEST)[0]
        return found

    def start_fresh(self) -> None:
        """Put the machine to where a session begins."""
        session = order_ids.pack(self.of.session, STRATEGY_ID, 0)
        self.judge.machine.block_words[:] = 0
        engine.reset_desk(self.judge.machine.desk, session, STRATEGY_ID)
        self.judge.place()

    def run(self, from_checkpoint_before: int = 0) -> None:
        """Take all turns that can be taken, until one differs.

        Args:
            from_checkpoint_before: begin at the last checkpoint that is not behind this turn; 0:
                at the fresh desk.
        """
        first, is_fresh = self._first_place(from_checkpoint_before)
        while 0 <= first < self.end_turn:
            turn = self._run_stretch(first)
            if turn > first:
                self.stretches.append(Stretch(first, turn, is_fresh))
            if turn >= self.end_turn or self.difference is not None:
                return
            first, is_fresh = self._place(self._checkpoints.after(turn)), False

    def _first_place(self, before: int) -> tuple[int, bool]:
        if before and self._checkpoints.before(before) >= 0:
            return self._place(self._checkpoints.before(before)), False
        if self.of.log.spans and self.of.log.spans[0][0] == 0:
            self.start_fresh()
            return 0, True
        self.breaks.append(Break(0, "the turn's record"))
        return self._place(self._checkpoints.after(0)), False

    def _place(self, turn: int) -> int:
        """Put the machine to the checkpoint after `turn` turns; return where it is, -1: none."""
        block = self._checkpoints.block(turn)
        if block is None:
            return -1
        self.judge.machine.block_words[:] = block
        self.judge.place()
        self.marks[RING] = -1
        return turn

    def _run_stretch(self, turn: int) -> int:
        """Take turns from `turn` on; return the first one that cannot be taken."""
        while turn < self.end_turn:
            span = [end for first, end in self.of.log.spans if first <= turn < end]
            if not span:
                self.breaks.append(Break(turn, "the turn's record"))
                return turn
            checkpoint = self._checkpoints.after(turn)
            limits = [span[0], turn + LOG_TURNS, self.end_turn]
            log = self._read_log(turn, min(limits if checkpoint < 0 else [*limits, checkpoint]))
            usable = self._usable(log, turn)
            taken = self._run_piece(log[:usable])
            turn += taken
            if taken < usable:
                self.difference = Difference(turn, log[taken])
            elif usable:
                self._compare_state(log[usable - 1], turn)
            if self.difference is not None or usable < len(log):
                return turn
        return turn

    def _compare_state(self, last: np.void, turn: int) -> None:
        """Compare the state after `turn` turns with the checkpoint there, if there is one."""
        block = self._checkpoints.block(turn)
        if block is None:
            return
        self.checkpoints_compared += 1
        if not np.array_equal(block, self.judge.machine.block_words):
            self.difference = Difference(turn - 1, last, block)
            self.judge.found[DIFFERENCE] = IN_STATE

    def _read_log(self, first: int, end: int) -> np.ndarray:
        """Return TURN[n].

        Raises:
            SegmentError: a record is not one of this program's.
        """
        log = self.of.log.read(first, end).view(TURN).reshape(-1)
        is_wrong = (log["input_count"] != INPUTS) | (log["record_count"] < 0).any(axis=1)
        for wrong in np.flatnonzero(is_wrong):
            raise SegmentError(
                f"{self.of.log.key}: record {first + wrong} has {log[wrong]['input_count']} inputs"
                f" of {log[wrong]['record_count']} slots, expected {INPUTS} of 0 or more"
            )
        return log

    def _usable(self, log: np.ndarray, turn: int) -> int:
        """Return how many turns have all their inputs recorded, and note what is missing.

        Args:
            log: TURN[n].
            turn: number of the first.
        """
        usable = len(log)
        for k, ring in enumerate(self.of.inputs):
            first = log["first_sequence"][:, k]
            is_there = is_whole(ring, first, first + log["record_count"][:, k])
            missing = np.flatnonzero(~is_there)
            if len(missing) and missing[0] < usable:
                usable = int(missing[0])
                count = int(log[usable]["record_count"][k])
                what = f"{ring.key} {first[usable]} to {first[usable] + count - 1}"
        if usable < len(log):
            self.breaks.append(Break(turn + usable, what))
        return usable

    def _run_piece(self, log: np.ndarray) -> int:
        """Take turns, as many at a time as the arrays hold and the pace allows.

        Returns:
            How many were taken; the next one is what differs, if it is not all.

        Raises:
            UsageError: they have sent intents, and none was recorded.
        """
        if not len(log):
            return 0
        ends = np.concatenate((log["first_sequence"][:, :INPUTS], np.empty((len(log), 1), int)), 1)
        ends[:, :INPUTS] += log["record_count"][:, :INPUTS]
        counts = log["intent_count"].astype(np.int64)
        if isinstance(self.of.intents, NoRecording) and counts.any():
            raise UsageError(
                f"{self.of.run.path}: nothing of {self.of.intents.key} was recorded, and the turns"
                f" in {self.of.log.key} have sent {counts.sum()} intents and more, expected them"
                " beside their turns; name that ring in [recorder] rings too, or leave the list"
                " empty to record all, and record again"
            )
        begin = int(self.judge.machine.desk.words[at.INTENT_SEQUENCE])
        ends[:, INPUTS] = begin + np.cumsum(counts)
        intents_first = ends[:, INPUTS] - counts
        recorded = Recorded(
            log,
            np.ascontiguousarray(log).view(np.int64).reshape(len(log), -1),
            is_whole(self.of.intents, intents_first, ends[:, INPUTS]).astype(np.uint8),
            self._intents.words,
            self._compared,
        )
        k = 0
        while k < len(log):
            starts = [*log[k]["first_sequence"][:INPUTS], intents_first[k]]
            end = self._load(k, starts, ends, recorded.is_known)
            count_places(log, k, end, self._inputs.arrays, self.marks)
            while k < end:
                due = k + self.pace.wait(log["now_ns"][k:end])
                taken = self.judge.take(recorded, k, due)
                if taken < due:
                    return taken
                k = due
        return k

    def _load(self, k: int, starts: list, ends: np.ndarray, is_known: np.ndarray) -> int:
        """Load what the turns from `k` on have read and written; return the end of them."""
        slots = [*self._inputs.slots, self._intents]
        end = len(ends)
        for i, one in enumerate(slots):
            limit = int(starts[i]) + one.ring.capacity
            beyond = np.flatnonzero((ends[k:end, i] > limit) | (ends[k:end, i] < starts[i]))
            end = k + int(beyond[0]) if len(beyond) else end
        if end == k:
            raise SegmentError(
                f"{self.of.log.key}: turn {k} of this piece takes more than a ring holds, or goes"
                " back; expected sequences as the rings had them"
            )
        for i, one in enumerate(slots[:INPUTS]):
            one.load(int(starts[i]), int(ends[end - 1, i]))
        for first, behind in _runs(is_known[k:end]):
            lowest = int(starts[INPUTS]) if first == 0 else int(ends[k + first - 1, INPUTS])
            self._intents.load(lowest, int(ends[k + behind - 1, INPUTS]))
        return end


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Return [first, end) of every run of ones."""
    steps = np.diff(np.concatenate(([0], flags.astype(np.int8), [0])))
    return list(
        zip(np.flatnonzero(steps == 1).tolist(), np.flatnonzero(steps == -1).tolist(), strict=True)
    )

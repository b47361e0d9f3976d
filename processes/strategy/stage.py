"""Stage of the strategy process: one kernel call is one turn.

The desk lives in private memory and always equals the committed state block between turns. A turn
works on it, copies it to the uncommitted block and flips (shm/turn.py): killed before the
flip nothing happened, killed after it the next process only repeats the publishing.
"""

from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from common import order_ids
from common.enums import TurnKind
from common.records import BOOK, CONTROL, ORDER_REQUEST, TRADE
from processes.strategy import desk as at
from processes.strategy import engine
from processes.strategy.desk import INTENTS_PER_TURN_MAX, Desk, desk_of
from processes.strategy.turn_log import write_turn
from shm.atomics import load_acquire
from shm.bundle import pack
from shm.counters import Counters
from shm.cursors import available, take, try_claim
from shm.ring import Consumer, In, Out, Producer
from shm.turn import FLIPS, Turn, Twin, finish, flip
from shm.words import C_CURSOR, L_CLAIMED, L_TAKEN

NO_TURN = 0
NO_ROOM = -1


class Counter(IntEnum):
    """Counters of the strategy process."""

    TURNS = 0
    RECORDS = 1
    INTENTS = 2
    REFUSED = 3
    BACK_PRESSURE = 4
    ATTACHES = 5


LABELS = {
    Counter.TURNS: "Turns committed (monotonic)",
    Counter.RECORDS: "Input slots taken (monotonic)",
    Counter.INTENTS: "Intents sent to risk (monotonic)",
    Counter.REFUSED: "Verbs refused by the desk: not ready, in flight, no slot (monotonic)",
    Counter.BACK_PRESSURE: "Turns not begun: no room in the intent ring for a full one (monotonic)",
    Counter.ATTACHES: "Times it attached to risk (monotonic)",
}


class Ends(NamedTuple):
    """What one turn reads and writes.

    Attributes:
        reports: In of the report ring.
        control, market: In of the control and book rings.
        control_views, market_views: (BOOK, TRADE, CONTROL) views of their slots.
        intents: Out of the intent ring.
        turns: Out of the turn log.
    """

    reports: In
    control: In
    control_views: tuple[np.ndarray, np.ndarray, np.ndarray]
    market: In
    market_views: tuple[np.ndarray, np.ndarray, np.ndarray]
    intents: Out
    turns: Out


@njit(cache=True)
def commit(turn, block_words):
    """Copy the worked-on state to the block that is not committed, flip, publish and release."""
    spare = 1 - (turn.control[FLIPS] & 1)
    for i in range(block_words.shape[0]):
        turn.words[spare, i] = block_words[i]
    flip(turn)
    finish(turn)


@njit(cache=True)
def write_outputs(d, ends, block_words, kind, first, end, count):
    """Write the turn's intents and its log record into their rings, unpublished.

    Returns:
        True, or False if there was no room; then claims may be left to be cancelled.
    """
    if count > 0:
        sequence = try_claim(ends.intents, count)
        if sequence < 0:
            return False
        mask = ends.intents.slots.shape[0] - 1
        for k in range(count):
            ends.intents.slots[(sequence + k) & mask] = d.intents[k]
    sequence = try_claim(ends.turns, 1)
    record = ends.turns.slots[sequence & (ends.turns.slots.shape[0] - 1)]
    write_turn(record, d, block_words, kind, first, end)
    return True


@njit(cache=True)
def has_room(ends):
    """Return True if the intent ring can take all that one turn may write."""
    out = ends.intents
    used = out.local[L_CLAIMED] - load_acquire(out.other, C_CURSOR)
    room = out.slots.shape[0] - used
    return room >= INTENTS_PER_TURN_MAX


@njit(cache=True)
def try_turn(turn, ends, state, params, d, block_words, first, end, now):
    """Take one turn if there are records or a timer is due.

    Args:
        turn: Turn, changed.
        ends: Ends, changed.
        state, params: STATE[1] and PARAMS[1].
        d: Desk, changed.
        block_words: int64[n], the bytes that `state` and `d` are views of.
        first, end: int64[3], scratch; changed to what was taken of each input.
        now: CLOCK_MONOTONIC, ns.

    Returns:
        Slots and timers taken, NO_TURN if there was nothing, NO_ROOM if risk lags too far behind.
    """
    first[0], end[0] = available(ends.reports)
    first[1], end[1] = available(ends.control)
    first[2], end[2] = available(ends.market)
    taken = 0
    for k in range(3):
        taken += end[k] - first[k]
    if taken == 0 and d.words[at.STARTED] != 0 and not engine.has_due_timer(d.timers, now):
        return NO_TURN
    if not has_room(ends):
        return NO_ROOM
    inputs = (
        ends.reports.slots,
        (ends.control.slots, ends.control_views),
        (ends.market.slots, ends.market_views),
    )
    count = engine.run_turn(state, params, d, inputs, first, end, now)
    take(ends.reports, end[0])
    take(ends.control, end[1])
    take(ends.market, end[2])
    kind = TurnKind.RECORDS
    assert write_outputs(d, ends, block_words, kind, first, end, count), "room was checked before"
    commit(turn, block_words)
    return taken + 1


@njit(cache=True)
def attach(turn, ends, d, block_words, first, end, now):
    """Take the turn that tells risk of this process: one ATTACH intent, no input.

    Returns:
        True, or False if the intent ring is full: nothing happened.
    """
    if not has_room(ends):
        return False
    engine.attach(d, now)
    first[0], first[1] = ends.reports.local[L_TAKEN], ends.control.local[L_TAKEN]
    first[2] = ends.market.local[L_TAKEN]
    end[:] = first
    kind = TurnKind.ATTACH
    assert write_outputs(d, ends, block_words, kind, first, end, 1), "room was checked before"
    commit(turn, block_words)
    return True


@njit(cache=True)
def try_turn_of(bundle, now):
    """Call `try_turn` with a bundle of its arguments but the clock."""
    return try_turn(*bundle.args, now)


class StrategyStage:
    """Rings in, one strategy, rings out.

    Args:
        cls: a class that `@strategy` has registered.
        params: PARAMS[1].
        instruments: INSTRUMENT[n].
        twin: the process's own; recovered here.
        reports, control, market: consumers.
        intents, turns: producers.
        counters: of this process.
        session, strategy_id: make the client order ids.
    """

    def __init__(
        self,
        cls: type,
        params: np.ndarray,
        instruments: np.ndarray,
        twin: Twin,
        consumers: tuple[Consumer, Consumer, Consumer],
        producers: tuple[Producer, Producer],
        counters: Counters,
        session: int,
        strategy_id: int,
    ) -> None:
        self.twin = twin
        self.consumers = list(consumers)
        self.producers = producers
        self.counters = counters
        reports, control, market = consumers
        self.turn: Turn = twin.connect(consumers, producers)
        self.ends = Ends(
            reports.end,
            control.end,
            (control.view(BOOK), control.view(TRADE), control.view(CONTROL)),
            market.end,
            (market.view(BOOK), market.view(TRADE), market.view(CONTROL)),
            producers[0].end,
            producers[1].end,
        )
        self.block = np.zeros(1, twin.blocks.dtype)
        self.block_words = self.block.view(np.int64)
        intents = np.zeros(INTENTS_PER_TURN_MAX, ORDER_REQUEST)
        self.desk: Desk = desk_of(self.block, instruments, intents)
        self.state = self.block["state"][0]
        self.first, self.end = np.zeros(3, np.int64), np.zeros(3, np.int64)
        if twin.flips:
            self.block_words[:] = twin.words[twin.flips & 1]
        else:
            engine.reset_desk(self.desk, order_ids.pack(session, strategy_id, 0), strategy_id)
        self.bundle = pack(
            (
                self.turn, self.ends, self.state, params, self.desk, self.block_words,
                self.first, self.end,
            )
        )  # fmt: skip
        self.is_attached = False

    def do_work(self, now_ns: int) -> int:
        """Take one turn.

        Returns:
            Slots taken, 0 if there was nothing to do.
        """
        values = self.counters.values
        if not self.is_attached:
            self.is_attached = bool(
                attach(
                    self.turn, self.ends, self.desk, self.block_words, self.first, self.end, now_ns
                )
            )
            values[Counter.ATTACHES] += self.is_attached
            return int(self.is_attached)
        taken = try_turn_of(self.bundle, now_ns)
        if taken == NO_ROOM:
            values[Counter.BACK_PRESSURE] += 1
            return 0
        if taken:
            words = self.desk.words
            values[Counter.TURNS] += 1
            values[Counter.RECORDS] += taken - 1
            values[Counter.INTENTS] = words[at.INTENT_SEQUENCE]
            values[Counter.REFUSED] = words[at.REJECT_COUNT]
        return int(taken)

    def next_timer_ns(self) -> int:
        """Return the instant of the earliest timer, 0 if none is set."""
        due = self.desk.timers[self.desk.timers > 0]
        return int(due.min()) if len(due) else 0

    def is_ready(self) -> bool:
        """Return True once risk has told positions and said READY."""
        return bool(self.desk.words[at.READY])

    def close(self) -> None:
        """Leave the rings; the state block stays for the next process."""
        ends: list[Any] = [*self.consumers, *self.producers, self.twin]
        for end in ends:
            end.close()

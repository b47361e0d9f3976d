"""Logged turns, taken again by the engine that ran live, and compared with what was recorded.

Recorded slots are put where they were, at `sequence & mask` of an array of the ring's capacity, so
the engine reads them as it read the ring. What a turn writes must be what was written: its TURN
record word for word, state hash included, and its intents in all bytes but the stamps.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from common.enums import TurnKind
from common.layout import rows_of
from common.records import BOOK, CONTROL, ORDER_REQUEST, TRADE, TURN
from processes.replay.strategy_run import Ring, StrategyRun
from processes.strategy import desk as at
from processes.strategy import engine
from processes.strategy.desk import INTENTS_PER_TURN_MAX, Desk, desk_of
from processes.strategy.turn_log import INPUTS, write_turn
from shm.ring import anonymous_ring

TURN_WORDS = TURN.itemsize // 8
INTENT_WORDS = ORDER_REQUEST.itemsize // 8

# Words of what was found.
TURNS = 0  # compared whole: their record and all their intents
INTENTS = 1  # compared
HASHES = 2  # state hashes compared
DIFFERENCE = 3  # what the first difference is in, NONE if there is none
PLACE = 4  # of a different intent: which one of its turn
FOUND_WORDS = 8

NONE, IN_TURN, IN_INTENT, IN_STATE = 0, 1, 2, 3


class Machine(NamedTuple):
    """Everything that a turn works on, as kernels take it.

    Attributes:
        state, params: STATE[1], PARAMS[1].
        desk: of the block.
        block_words: int64[n], the bytes that `state` and `desk` are views of.
        inputs: as `engine.run_turn` takes them.
        first, end: int64[3], scratch.
        written: TURN[1], the record of the last turn.
        written_words: int64[1, 16], the same bytes.
        intent_words: int64[n, 16], the bytes of desk.intents.
    """

    state: np.ndarray
    params: np.ndarray
    desk: Desk
    block_words: np.ndarray
    inputs: tuple
    first: np.ndarray
    end: np.ndarray
    written: np.ndarray
    written_words: np.ndarray
    intent_words: np.ndarray


class Recorded(NamedTuple):
    """What was recorded, as kernels take it.

    Attributes:
        log: TURN[n], read.
        log_words: int64[n, 16], the same bytes.
        is_known: u1[n], 1 if all intents of the turn were recorded.
        intents: int64[capacity, 16], the slots of the intent ring.
        compared: int64[16], bits of an intent that are compared.
    """

    log: np.ndarray
    log_words: np.ndarray
    is_known: np.ndarray
    intents: np.ndarray
    compared: np.ndarray


@njit(cache=True)
def take_turn(machine, logged):
    """Take one logged turn and write its record.

    Args:
        machine: Machine, changed.
        logged: TURN record, read.
    """
    first, end = machine.first, machine.end
    for k in range(INPUTS):
        first[k] = logged["first_sequence"][k]
        end[k] = first[k] + logged["record_count"][k]
    now = logged["now_ns"]
    desk = machine.desk
    if logged["kind"] == TurnKind.ATTACH:
        engine.attach(desk, now)
        write_turn(machine.written[0], desk, machine.block_words, TurnKind.ATTACH, first, end)
    else:
        engine.run_turn(machine.state, machine.params, desk, machine.inputs, first, end, now)
        write_turn(machine.written[0], desk, machine.block_words, TurnKind.RECORDS, first, end)


@njit(cache=True)
def has_difference(machine, recorded, k, found):
    """Compare the turn just taken with the log's k-th, and count.

    Args:
        machine: Machine, read.
        recorded: Recorded, read.
        k: index into the log.
        found: int64[FOUND_WORDS], changed.

    Returns:
        True if they differ; DIFFERENCE and PLACE say in what.
    """
    words, logged = machine.desk.words, recorded.log[k]
    count = words[at.INTENT_COUNT]
    if recorded.is_known[k] != 0:
        mask = recorded.intents.shape[0] - 1
        sequence = words[at.INTENT_SEQUENCE] - count
        for i in range(min(count, logged["intent_count"])):
            for word in range(INTENT_WORDS):
                theirs = recorded.intents[(sequence + i) & mask, word]
                if (machine.intent_words[i, word] ^ theirs) & recorded.compared[word] != 0:
                    found[DIFFERENCE] = IN_INTENT
                    found[PLACE] = i
                    return True
            found[INTENTS] += 1
    for word in range(TURN_WORDS):
        if machine.written_words[0, word] != recorded.log_words[k, word]:
            found[DIFFERENCE] = IN_TURN
            return True
    found[HASHES] += np.int64(logged["state_hash"] != 0)
    found[TURNS] += np.int64(recorded.is_known[k] != 0)
    return False


@njit(cache=True)
def replay_turns(machine, recorded, first_turn, end_turn, found):
    """Take the logged turns [first_turn, end_turn) until one differs.

    Args:
        machine: Machine, changed.
        recorded: Recorded, read.
        first_turn, end_turn: indexes into the log.
        found: int64[FOUND_WORDS], changed.

    Returns:
        The index of the turn that differs, else `end_turn`.
    """
    for k in range(first_turn, end_turn):
        take_turn(machine, recorded.log[k])
        if has_difference(machine, recorded, k, found):
            return k
    return end_turn


def compared_bits(record: str) -> np.ndarray:
    """Return int64[n]: the bits of a record's words that are no stamp."""
    _writer, rows = rows_of(record)
    bits = np.concatenate(
        [
            np.full(np.dtype(form).itemsize, 0 if meaning.startswith("stamp") else 255, np.uint8)
            for _offset, _field, form, meaning in rows
        ]
    )
    return bits.view(np.int64)


class Slots:
    """The slots of one recorded ring, where they were in the live one.

    Attributes:
        words: int64[capacity, n], all slots.
    """

    def __init__(self, ring: Ring, layout: str) -> None:
        self.ring = ring
        producer, self.consumer = anonymous_ring(layout, ring.capacity)
        self.words = producer.end.slots.view(np.int64).reshape(ring.capacity, -1)

    def load(self, first: int, end: int) -> None:
        """Put the recorded slots [first, end) in place; at most the capacity of the ring.

        Raises:
            SegmentError: they were not recorded, or are damaged.
        """
        if first == end:
            return
        slots = self.ring.read(first, end)
        start = first & (self.ring.capacity - 1)
        head = min(len(slots), self.ring.capacity - start)
        self.words[start : start + head] = slots[:head]
        self.words[: len(slots) - head] = slots[head:]


class Inputs:
    """The slots of all input rings, and their views as the engine takes them."""

    def __init__(self, of: StrategyRun) -> None:
        layouts = ("REPORT", "MARKET", "MARKET")
        self.slots = [Slots(ring, layout) for ring, layout in zip(of.inputs, layouts, strict=True)]
        reports, control, market = (slots.consumer for slots in self.slots)
        self.arrays = (
            reports.end.slots,
            (control.end.slots, (control.view(BOOK), control.view(TRADE), control.view(CONTROL))),
            (market.end.slots, (market.view(BOOK), market.view(TRADE), market.view(CONTROL))),
        )


def new_machine(of: StrategyRun, params: np.ndarray, inputs: Inputs) -> Machine:
    """Return a machine with an empty state block."""
    block = np.zeros(1, of.block_dtype)
    intents = np.zeros(INTENTS_PER_TURN_MAX, ORDER_REQUEST)
    written = np.zeros(1, TURN)
    return Machine(
        state=block["state"][0],
        params=params,
        desk=desk_of(block, of.instrument_rows, intents),
        block_words=block.view(np.int64),
        inputs=inputs.arrays,
        first=np.zeros(INPUTS, np.int64),
        end=np.zeros(INPUTS, np.int64),
        written=written,
        written_words=written.view(np.int64).reshape(1, TURN_WORDS),
        intent_words=intents.view(np.int64).reshape(-1, INTENT_WORDS),
    )

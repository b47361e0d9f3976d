"""What if the parameters had been others: the same turns, decided twice on the same desk.

At each logged turn the strategy is asked again with the changed parameters, on the desk as it
really was: books, positions, open orders and quotes. Only what is the strategy's own, its state
record and its timers, goes on under the changed parameters. So a difference is what would have been
asked for in that turn; what the fills would then have been is the backtester's question.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numba import njit

from common.enums import OrderType, RequestKind, Side
from common.instruments import Instrument
from processes.replay.turns import (
    FOUND_WORDS,
    Machine,
    Recorded,
    has_difference,
    take_turn,
)
from processes.strategy import desk as at

# Words of what was counted, behind those of turns.py.
REAL_INTENTS, OTHER_INTENTS, OTHER_TURNS = 0, 1, 2
COUNTS = 4
SHOWN_MAX = 20


@njit(cache=True)
def is_same_intent(intent, other):
    """Return True if both ask for the same; ids, which only count, are not looked at."""
    return (
        intent["kind"] == other["kind"]
        and intent["instrument_id"] == other["instrument_id"]
        and intent["order_slot"] == other["order_slot"]
        and intent["side"] == other["side"]
        and intent["order_type"] == other["order_type"]
        and intent["time_in_force"] == other["time_in_force"]
        and intent["reduce_only"] == other["reduce_only"]
        and intent["price_steps"] == other["price_steps"]
        and intent["order_qty_steps"] == other["order_qty_steps"]
    )


@njit(cache=True)
def is_same_turn(desk, other):
    """Return True if the turn just taken asks for the same on both desks."""
    count = desk.words[at.INTENT_COUNT]
    if other.words[at.INTENT_COUNT] != count:
        return False
    for i in range(count):
        if not is_same_intent(desk.intents[i], other.intents[i]):
            return False
    return True


@njit(cache=True)
def ask_turns(machine, other, own_word, recorded, first_turn, end_turn, found, counts):
    """Take turns on both machines until one asks for something else, or was recorded otherwise.

    Args:
        machine: Machine with the recorded parameters, changed.
        other: Machine with the others, changed.
        own_word: word of the block where the strategy's own part begins.
        recorded: Recorded, read.
        first_turn, end_turn: indexes into the log.
        found: int64[FOUND_WORDS], changed: as `has_difference` says it.
        counts: int64[COUNTS], changed.

    Returns:
        The index of the turn that was taken last if it ended there, else `end_turn`.
    """
    for k in range(first_turn, end_turn):
        for word in range(own_word):
            other.block_words[word] = machine.block_words[word]
        take_turn(machine, recorded.log[k])
        take_turn(other, recorded.log[k])
        if has_difference(machine, recorded, k, found):
            return k
        counts[REAL_INTENTS] += machine.desk.words[at.INTENT_COUNT]
        counts[OTHER_INTENTS] += other.desk.words[at.INTENT_COUNT]
        if not is_same_turn(machine.desk, other.desk):
            counts[OTHER_TURNS] += 1
            return k
    return end_turn


class WhatIf:
    """Judge that asks every turn twice.

    Args:
        machine: with the recorded parameters.
        other: with the others.
        instruments: for the text.

    Attributes:
        found: int64[FOUND_WORDS]. counts: int64[COUNTS].
        lines: the first SHOWN_MAX turns that differ, as text.
    """

    def __init__(self, machine: Machine, other: Machine, instruments: list[Instrument]) -> None:
        self.machine = machine
        self.other = other
        self.instruments = instruments
        self.found = np.zeros(FOUND_WORDS, np.int64)
        self.counts = np.zeros(COUNTS, np.int64)
        self.lines: list[str] = []
        timers = machine.desk.timers
        base = machine.block_words.__array_interface__["data"][0]
        self._own_word = (timers.__array_interface__["data"][0] - base) // 8

    def place(self) -> None:
        """Begin both machines from the same block."""
        self.other.block_words[:] = self.machine.block_words

    def take(self, recorded: Recorded, first: int, end: int) -> int:
        """Take turns; return the first one that was recorded otherwise than decided now."""
        while first < end:
            before = int(self.counts[OTHER_TURNS])
            last = ask_turns(
                self.machine, self.other, self._own_word, recorded, first, end, self.found,
                self.counts,
            )  # fmt: skip
            if last < end and self.counts[OTHER_TURNS] == before:
                return int(last)
            if last < end and before < SHOWN_MAX:
                self._show(recorded.log[last])
            first = last + 1
        return end

    def _show(self, logged: np.void) -> None:
        self.lines.append(f"turn {logged['turn']} at {logged['now_ns']} ns")
        for sign, machine in (("-", self.machine), ("+", self.other)):
            count = int(machine.desk.words[at.INTENT_COUNT])
            self.lines += [f"  {sign} {text}" for text in self._texts(machine, count)]

    def _texts(self, machine: Machine, count: int) -> Iterator[str]:
        for intent in machine.desk.intents[:count]:
            yield intent_text(intent, self.instruments)


def intent_text(intent: Any, instruments: list[Instrument]) -> str:
    """Return an intent as people read it."""
    kind = RequestKind(intent["kind"]).name
    i = int(intent["instrument_id"])
    if not 0 <= i < len(instruments):
        return kind
    instrument = instruments[i]
    parts = [kind, instrument.symbol]
    if intent["side"]:
        parts.append(Side(intent["side"]).name)
    if intent["order_qty_steps"]:
        qty = instrument.qty_text(int(intent["order_qty_steps"]))
        is_market = intent["order_type"] == OrderType.MARKET
        price = "market" if is_market else instrument.price_text(int(intent["price_steps"]))
        parts += [qty, "at", price]
    return " ".join([*parts, f"slot {intent['order_slot']}"])

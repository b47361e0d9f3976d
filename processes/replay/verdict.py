"""What a replay of decisions has shown, in words: the first difference, the coverage, the claim."""

import math
from importlib import metadata
from typing import Any

import numpy as np
from numba.core.registry import cpu_target

from common.layout import rows_of
from processes.replay.checkpoints import different_field
from processes.replay.decisions import Replay
from processes.replay.merge import MESSAGES, PUBLISHED_PLACES, RECEIVED_PLACES
from processes.replay.strategy_run import StrategyRun
from processes.replay.turns import DIFFERENCE, HASHES, IN_INTENT, INTENTS, PLACE, TURNS, Machine
from processes.replay.what_if import intent_text
from processes.strategy import desk as at
from shm.segment import build_hash
from shm.turn import layout_hash

OWN_MODULES = "processes."  # the hash of the sources covers them


def facts_here() -> dict[str, str]:
    """Return what a byte-identical replay depends on, as a manifest tells it."""
    return {
        "source_hash": f"{build_hash():016x}",
        "numba": metadata.version("numba"),
        "cpu_name": cpu_target.target_context.codegen().magic_tuple()[1],
    }


def claim_of(of: StrategyRun) -> str:
    """Return how strong a claim a replay here can make about the recorded run.

    The fingerprint of the state block holds the hash of all files that the strategy's hooks reach,
    also of those that are not this program's.
    """
    manifest, here = of.run.manifest, facts_here()
    others = [
        f"{name} (recorded {manifest.get(name)}, here {value})"
        for name, value in here.items()
        if manifest.get(name) != value
    ]
    known, layout = of.recorded_layout, layout_hash(of.block_dtype)
    if known and known != layout:
        others.append(f"strategy (state recorded {known:016x}, here {layout:016x})")
    elif not known and not of.module.startswith(OWN_MODULES):
        others.append("strategy, perhaps (no state was recorded)")
    if others:
        return f"what was compared, not byte identity in general: other {', '.join(others)}"
    facts = f"sources {here['source_hash']}, numba {here['numba']}, CPU {here['cpu_name']}"
    return f"byte identity: {facts} as recorded"


def coverage_of(of: StrategyRun, found: np.ndarray, end_turn: int) -> float:
    """Return the share of turns or of intents, whichever is less, that were compared.

    Args:
        found: of the verifier.
        end_turn: turns before it were asked for; only of the whole run all intents are expected.
    """
    turns = found[TURNS] / max(end_turn, 1)
    if end_turn < of.turn_count:
        return float(turns)
    return float(min(turns, found[INTENTS] / max(of.intent_count, 1)))


def summary_line(found: np.ndarray, coverage: float) -> str:
    """Return the line that says it all; a coverage is never rounded up."""
    intents = int(found[INTENTS])
    is_intent = int(found[DIFFERENCE] == IN_INTENT)
    is_other = int(found[DIFFERENCE] != 0) - is_intent
    return (
        f"intents compared: {intents + is_intent}  differences: {is_intent}"
        f"  state hashes compared: {int(found[HASHES]) + is_other}  differences: {is_other}"
        f"  coverage: {math.floor(coverage * 1_000) / 10:.1f} %"
    )


def merge_line(marks: np.ndarray) -> str:
    """Return in how many places a merge by timestamp would not be what was consumed."""
    return (
        f"by timestamp would order the inputs otherwise in {marks[PUBLISHED_PLACES]} places (time"
        f" of publication), {marks[RECEIVED_PLACES]} (of receipt), of {marks[MESSAGES]} messages"
    )


def range_lines(replay: Replay) -> list[str]:
    """Return which turns were taken, and why others were not."""
    lines = []
    for stretch in replay.stretches:
        begin = "the fresh desk" if stretch.is_fresh else f"the checkpoint at turn {stretch.first}"
        lines.append(f"turns {stretch.first} to {stretch.end - 1}, from {begin}")
    lines += [
        f"turn {missing.turn} cannot be taken: {missing.what} was not recorded"
        for missing in replay.breaks
    ]
    return lines or ["no turn"]


def difference_lines(replay: Replay, found: np.ndarray) -> list[str]:
    """Return where the first difference is, in which fields, and how to look at it."""
    if replay.difference is None:
        return []
    turn, logged, state = replay.difference
    machine, of = replay.judge.machine, replay.of
    taken = [
        f"{ring.key} {first} to {first + count - 1}"
        for ring, first, count in zip(
            of.inputs, logged["first_sequence"], logged["record_count"], strict=False
        )
        if count
    ]
    where = f"turn {turn} at {logged['now_ns']} ns ({', '.join(taken) or 'no records'})"
    lines = []
    if found[DIFFERENCE] == IN_INTENT:
        place = int(found[PLACE])
        sequence = _first_intent(machine) + place
        theirs = replay.recorded_intent(sequence)
        fields = _fields("ORDER_REQUEST", machine.desk.intents[place], theirs)
        lines.append(f"{where}: intent {sequence}: {fields}")
        lines.append(f"  recorded  {intent_text(theirs, of.instruments)}")
        lines.append(f"  replayed  {intent_text(machine.desk.intents[place], of.instruments)}")
    elif state is not None:
        field = different_field(of.block_dtype, machine.block_words, state)
        lines.append(f"checkpoint behind {where}: {field}")
    else:
        lines.append(f"{where}: {_fields('TURN', machine.written[0], logged)}")
    lines.append(f"look at it: tickring replay {of.run.path} --pdb --until turn:{turn}")
    return lines


def _first_intent(machine: Machine) -> int:
    words = machine.desk.words
    return int(words[at.INTENT_SEQUENCE] - words[at.INTENT_COUNT])


def _fields(record: str, found: np.void, recorded: np.void) -> str:
    """Return the fields that differ, stamps excepted."""
    parts = []
    for _offset, field, _form, meaning in rows_of(record)[1]:
        ours, theirs = found[field], recorded[field]
        if not meaning.startswith("stamp") and not np.array_equal(ours, theirs):
            parts.append(f"{field} is {_text(ours)}, recorded {_text(theirs)}")
    return ", ".join(parts)


def _text(value: Any) -> str:
    return str(value.tolist() if isinstance(value, np.ndarray | np.generic) else value)

"""`tickring replay RUN`: the recorded decisions of a run, taken again, without sockets."""

import pdb
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.errors import UsageError
from common.records import TURN
from processes.replay.debug import Place, run_turn_under
from processes.replay.decisions import LOG_TURNS, Pace, Replay, Verifier
from processes.replay.strategy_run import StrategyRun
from processes.replay.turns import (
    FOUND_WORDS,
    Inputs,
    Machine,
    Recorded,
    new_machine,
    take_turn,
)
from processes.replay.verdict import (
    claim_of,
    coverage_of,
    difference_lines,
    merge_line,
    range_lines,
    summary_line,
)
from processes.replay.what_if import OTHER_INTENTS, OTHER_TURNS, REAL_INTENTS, SHOWN_MAX, WhatIf
from processes.strategy import desk as at
from shm.recording import Run


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of a replay of decisions.

    Attributes:
        path: folder of the run.
        strategy: name of its process, "": the only one.
        verify: compare everything, and say so with the exit code.
        changes: parameters to be asked "what if" with.
        until: stop behind this record, "": at the end. "N" is a sequence of the ring that brings
            the market, "<ring>:N" of another input, "turn:N" a turn.
        speed: times the recorded pace, 0: as fast as can be.
        debugger: stop at the record that `until` names.
    """

    path: Path
    strategy: str = ""
    verify: bool = False
    changes: dict[str, str] = field(default_factory=dict)
    until: str = ""
    speed: float = 0.0
    debugger: bool = False


def replay_run(options: RunOptions) -> int:
    """Take the logged turns of a recording again, and print what that shows.

    Returns:
        The exit code: 1 if `verify` found a difference or could not compare all, else 0.

    Raises:
        UsageError: an option is wrong. UnavailableError, ConfigError, SegmentError: the recording
            cannot be read, or its strategy cannot be loaded.
    """
    if options.changes and options.verify:
        raise UsageError("--set: asks what if, --verify what was; expected one of them")
    if options.debugger and not options.until:
        raise UsageError("--pdb: nothing to stop at, expected --until with it")
    if not 0 <= options.speed < float("inf"):
        raise UsageError(f"--speed: {options.speed}, expected 0 or more")
    run = Run.open(options.path)
    try:
        of = StrategyRun(run, options.strategy)
        if not of.turn_count:
            raise UsageError(f"{run.path}: no turns of {of.name} were recorded, expected some")
        place = find_place(of, options.until)
        _print("recording", f"{run.path}  run {run.manifest.get('run', '')}")
        _print("strategy", f"{of.name}  {of.module}")
        _print("claim", claim_of(of))
        if not run.manifest.get("complete", False):
            _print("note", _why_incomplete(run))
        if options.until:
            _print("until", f"turn {place.turn} of {of.turn_count}; only turns up to it count")
        if options.debugger:
            return _debug(of, place)
        if options.changes:
            return _ask_what_if(of, options, place)
        return _replay(of, options, place)
    finally:
        run.close()


def _why_incomplete(run: Run) -> str:
    stopped = run.manifest.get("stopped") or "without a word: it may end before the run did"
    lapped = sorted(key for key, ring in run.rings.items() if ring.gaps)
    return f"not complete: recording stopped {stopped}; gaps in {', '.join(lapped) or 'no ring'}"


def _print(name: str, *lines: str) -> None:
    for line in lines:
        print(f"{name:<10}  {line}")
        name = ""


def find_place(of: StrategyRun, until: str) -> Place:
    """Return the turn that takes the record that `until` names; by default the last one.

    Raises:
        UsageError: no turn took it.
    """
    if not until:
        return Place(of.turn_count - 1)
    name, _colon, number = until.rpartition(":")
    keys = [ring.key for ring in of.inputs]
    if not number.isdecimal() or (name and name not in [*keys, "turn"]):
        raise UsageError(
            f"--until: {until!r}, expected a sequence N of {keys[-1]}, RING:N with one of"
            f" {', '.join(keys)}, or turn:N"
        )
    sequence = int(number)
    if name == "turn":
        if sequence >= of.turn_count:
            raise UsageError(f"--until: turn {sequence}, expected 0 to {of.turn_count - 1}")
        return Place(sequence)
    k = keys.index(name) if name else len(keys) - 1
    for begin, slots in of.log.blocks(LOG_TURNS):
        log = slots.view(TURN).reshape(-1)
        first = log["first_sequence"][:, k]
        behind = first + log["record_count"][:, k]
        taking = np.flatnonzero((first <= sequence) & (sequence < behind))
        if len(taking):
            return Place(begin + int(taking[0]), k, sequence)
    raise UsageError(f"--until: no recorded turn took {sequence} of {keys[k]}, expected one")


def _replay(of: StrategyRun, options: RunOptions, place: Place) -> int:
    inputs = Inputs(of)
    verifier = Verifier(new_machine(of, of.params, inputs))
    replay = Replay(of, inputs, verifier, place.turn + 1, Pace(options.speed))
    replay.run()
    _print("replayed", *range_lines(replay))
    _print("merge", merge_line(replay.marks))
    _print("difference", *difference_lines(replay, verifier.found))
    if not options.verify:
        return int(replay.difference is not None)
    _print("states", f"{replay.checkpoints_compared} checkpoints compared")
    coverage = coverage_of(of, verifier.found, place.turn + 1)
    print(summary_line(verifier.found, coverage))
    return int(replay.difference is not None or coverage < 1.0)


def _ask_what_if(of: StrategyRun, options: RunOptions, place: Place) -> int:
    inputs = Inputs(of)
    params = of.changed_params(options.changes)
    judge = WhatIf(
        new_machine(of, of.params, inputs), new_machine(of, params, inputs), of.instruments
    )
    replay = Replay(of, inputs, judge, place.turn + 1, Pace(options.speed))
    replay.run()
    _print("replayed", *range_lines(replay))
    changed = [
        f"{name} {value.item()} instead of {of.params[name][0].item()}"
        for name, value in zip(params.dtype.names or (), params[0], strict=True)
        if value != of.params[name][0]
    ]
    _print("what if", ", ".join(changed) or "nothing is changed")
    for line in judge.lines:
        print(line)
    others = int(judge.counts[OTHER_TURNS])
    if others > SHOWN_MAX:
        print(f"and {others - SHOWN_MAX} more turns")
    if replay.difference is not None:
        _print("difference", *difference_lines(replay, judge.found))
    print(
        f"intents recorded: {judge.counts[REAL_INTENTS]}  instead: {judge.counts[OTHER_INTENTS]}"
        f"  turns that differ: {others}"
    )
    return int(replay.difference is not None)


class _Stopper:
    """Judge that takes turns uncompiled, the last one under the debugger."""

    def __init__(self, machine: Machine, place: Place) -> None:
        self.machine = machine
        self.found = np.zeros(FOUND_WORDS, np.int64)
        self._place = place

    def place(self) -> None:
        """Begin anywhere."""

    def take(self, recorded: Recorded, first: int, end: int) -> int:
        """Take the turns."""
        for logged in recorded.log[first:end]:
            if self.machine.desk.words[at.TURN_COUNT] == self._place.turn:
                run_turn_under(pdb.Pdb(), self.machine, logged, self._place)
            else:
                take_turn(self.machine, logged)
        return end


def _debug(of: StrategyRun, place: Place) -> int:
    inputs = Inputs(of)
    judge = _Stopper(new_machine(of, of.params, inputs), place)
    replay = Replay(of, inputs, judge, place.turn + 1, Pace(0.0))
    replay.run(from_checkpoint_before=place.turn)
    _print("replayed", *range_lines(replay))
    return 0

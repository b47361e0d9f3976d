"""`tickring replay`: a recorded run's decisions, or a capture through the live kernels.

Nothing that brings numba in is imported before the kernel cache has been chosen.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from common.errors import DataError, UsageError
from processes.replay.options import ReplayOptions

_FLAGS = {"changes": "set", "debugger": "pdb"}


def replay(source: str, strategy: str, of_run: dict[str, Any], of_capture: dict[str, Any]) -> int:
    """Replay what `source` is: a folder or a run's id is a recording, a file is a capture.

    Args:
        source: as the command line has it.
        strategy: --strategy: of a run a process's name, for a capture a set-up's file.
        of_run: the other options that only a run has; those not given are empty, False or 0.
        of_capture: the other options that only a capture has; those not given are None or "".

    Returns:
        The exit code.

    Raises:
        UsageError: there is no such thing, or an option is not one of it.
        TickringError: whatever a replay finds wrong.
    """
    path = Path(source)
    if not path.is_dir() and (path.exists() or not _is_id(source)):
        _refuse(of_run, "a recorded run", f"{source} is a file")
        for name in ("venue", "symbol"):
            if not of_capture[name]:
                raise UsageError(f"--{name}: missing, expected it with a capture")
        set_up = Path(strategy) if strategy else None
        return run(path, strategy=set_up, **of_capture)
    _refuse(of_capture, "a capture", f"{source} is a recorded run")
    if of_run.get("debugger"):
        from processes.replay.debug import switch_compiler_off

        switch_compiler_off()
    from processes.inspector.recorded import find_run
    from processes.replay.run import RunOptions, replay_run

    wanted = {**of_run, "changes": parse_changes(of_run.get("changes", ()))}
    return replay_run(RunOptions(path=find_run(source), strategy=strategy, **wanted))


def _refuse(options: dict[str, Any], what: str, found: str) -> None:
    """Raise UsageError if one of the options was given."""
    given = [name for name, value in options.items() if value]
    if given:
        flag = _FLAGS.get(given[0], given[0].replace("_", "-"))
        raise UsageError(f"--{flag}: {found}, expected {what} with it")


def _is_id(name: str) -> bool:
    return name.replace("-", "").replace("_", "").isalnum()


def parse_changes(texts: Iterable[str]) -> dict[str, str]:
    """Read "key=value" texts.

    Raises:
        UsageError: one of them is not of that form.
    """
    changes = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals or not value:
            raise UsageError(f"--set: {text!r}, expected key=value")
        changes[key.strip()] = value.strip()
    return changes


def run(capture: Path, **options: Any) -> int:
    """Replay a capture, write the files asked for, and print the counts.

    Args:
        capture: raw session, plain or gzip.
        options: the fields of ReplayOptions.

    Returns:
        The exit code: 0, or 65 if the capture has events, and none of the symbol.

    Raises:
        UsageError: an option is wrong, a file cannot be read or written, the symbol is unknown.
        ConfigError: the instruments file or the set-up's file is wrong.
    """
    from processes.replay.facts import find_instrument
    from processes.replay.session import replay as replay_capture

    wanted = ReplayOptions(capture=capture, **options)
    summary, aside = replay_capture(wanted, find_instrument(wanted))
    width = max(map(len, (*summary, *aside)))
    for name, value in (*summary.items(), *aside.items()):
        print(f"{name:<{width}}  {value}")
    if aside["off_grid_lines"]:
        sys.stderr.write(
            f"replay: {aside['off_grid_lines']} lines are finer than the grid of {wanted.symbol};"
            " if its tick or lot was smaller then, give --tick-size and --lot-size\n"
        )
    if summary["market_events"] == 0 and aside["foreign_frames"]:
        sys.stderr.write(
            f"replay: no event of {wanted.symbol}, {aside['foreign_frames']} frames of other"
            " symbols; expected --symbol to be one of the capture\n"
        )
        return DataError.exit_code
    return 0

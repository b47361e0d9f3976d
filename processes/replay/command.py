"""`tickring replay CAPTURE`: a recorded session through the live kernels, without sockets.

Also `python -m processes.replay.command`. Nothing that brings numba in is imported before the
kernel cache has been chosen.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from common import kernel_cache
from common.errors import TickringError
from processes.replay.options import ReplayOptions


def run(capture: Path, **options: Any) -> int:
    """Replay a capture, write the files asked for, and print the counts.

    Args:
        capture: raw session, plain or gzip.
        options: the fields of ReplayOptions.

    Returns:
        The exit code, 0.

    Raises:
        UsageError: an option is wrong, a file cannot be read or written, the symbol is unknown.
        ConfigError: the instruments file or the set-up's file is wrong.
    """
    from processes.replay.facts import find_instrument
    from processes.replay.session import replay

    wanted = ReplayOptions(capture=capture, **options)
    summary, aside = replay(wanted, find_instrument(wanted))
    width = max(map(len, (*summary, *aside)))
    for name, value in (*summary.items(), *aside.items()):
        print(f"{name:<{width}}  {value}")
    if aside["off_grid_lines"]:
        sys.stderr.write(
            f"replay: {aside['off_grid_lines']} lines are finer than the grid of {wanted.symbol};"
            " if its tick or lot was smaller then, give --tick-size and --lot-size\n"
        )
    return 0


def main(arguments: list[str]) -> int:
    """Parse the command line and run; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="replay", description="Replay a recorded session through the same kernels."
    )
    parser.add_argument("capture", type=Path, metavar="CAPTURE")
    parser.add_argument("--venue", required=True)
    parser.add_argument("--symbol", required=True)
    for name in ("bbo", "book", "summary", "instruments", "strategy"):
        parser.add_argument(f"--{name}", type=Path, metavar="FILE")
    for name in ("tick-size", "lot-size"):
        parser.add_argument(f"--{name}", default="", metavar="TEXT")
    for name in ("price-decimals", "qty-decimals"):
        parser.add_argument(f"--{name}", type=int, metavar="N")
    try:
        return run(**vars(parser.parse_args(arguments)))
    except TickringError as error:
        sys.stderr.write(f"replay: {error}\n")
        return error.exit_code


if __name__ == "__main__":
    kernel_cache.configure()
    sys.exit(main(sys.argv[1:]))

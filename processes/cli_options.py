"""What several verbs of the command line share: options, and how their texts are read."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from common.errors import UsageError

_UNITS_NS = {"ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000, "h": 3_600_000_000_000}
_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h)")

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="TOML file of a set-up.")]
InstanceName = Annotated[
    str, typer.Option("--instance", metavar="NAME", help="Which instance; default: the only one.")
]
RunName = Annotated[
    str, typer.Option("--run", metavar="RUN", help="A recording instead: its folder, or its id.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

DataPaths = Annotated[
    list[Path],
    typer.Option("--data", metavar="PATH...", help="Runs, captures, .npz; SYMBOL=PATH."),
]


def parse_duration(text: str, option: str = "--for") -> int:
    """Read "30s", "5m", "1h" or "500ms" as nanoseconds; "" is 0.

    Raises:
        UsageError: anything else.
    """
    if not text:
        return 0
    match = _DURATION.fullmatch(text)
    if match is None or int(match[1]) == 0:
        raise UsageError(f"{option}: {text!r}, expected a number and ms, s, m or h, such as 30s")
    return int(match[1]) * _UNITS_NS[match[2]]


class ManyValues(typer.core.TyperCommand):
    """A command whose --data and --grid take several values: `--data A B` is A and B.

    A value of --grid has a "=", and a config file is no data: so the end is seen.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give every value its own option."""
        spread: list[str] = []
        option = ""
        for text in args:
            is_value = text != "" and not text.startswith("-")
            if option and spread[-1] != option:  # it has one already
                fits = "=" in text if option == "--grid" else not text.endswith(".toml")
                if is_value and fits:
                    spread.append(option)
                else:
                    option = ""
            if text in ("--data", "--grid"):
                option = text
            spread.append(text)
        return super().parse_args(ctx, spread)

"""`tickring top`: processes, rates, books, positions and latency, again and again."""

import sys
from typing import Any

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from common import clock
from processes.inspector.instance import Instance
from processes.inspector.sampler import Sampler, hops_table, markets_table, status_line


def top(name: str, every_ns: int, count: int, as_json: bool) -> None:
    """Show picture after picture until there were `count`, or the operator has seen enough.

    Args:
        name: of the instance.
        every_ns: between pictures.
        count: how many; 0: no end.
        as_json: one JSON object per line instead.
    """
    sampler = Sampler(Instance(name))
    is_drawing = not as_json and sys.stdout.isatty()
    live = Live(console=Console(), auto_refresh=False) if is_drawing else None
    if live is not None:
        live.start()
    shown = 0
    try:
        sampler.take(clock.now_ns())
        while True:
            clock.sleep_ns(every_ns)
            sample = sampler.take(clock.now_ns())
            sample["processes"] = sampler.instance.status()
            if as_json:
                encoder = msgspec.json.Encoder(decimal_format="number")
                print(encoder.encode({"instance": name, **sample}).decode(), flush=True)
            elif live is not None:
                live.update(picture(name, sample), refresh=True)
            else:
                print(status_line(sample), flush=True)
            shown += 1
            if shown == count:
                return
    except KeyboardInterrupt:
        return
    finally:
        if live is not None:
            live.stop()


def picture(name: str, sample: dict[str, Any]) -> Group:
    """Return one picture."""
    return Group(
        Text(f"{name}  {status_line(sample)}", style="bold"),
        markets_table(sample),
        hops_table(sample),
        processes_table(sample["processes"]),
        rings_table(sample),
    )


def processes_table(rows: list[dict[str, Any]]) -> Table:
    """Return one row per process."""
    fields = ("name", "pid", "core", "state", "restarts", "heartbeat_age_ms", "cycle_ns_max")
    table = Table(*fields, box=None)
    for row in rows:
        table.add_row(*("" if row[field] is None else str(row[field]) for field in fields))
    return table


def rings_table(sample: dict[str, Any]) -> Table:
    """Return one row per ring that has ever been used."""
    table = Table("ring", "per second", "published", "dropped", "lag", "lag max", box=None)
    for row in sample["rings"]:
        if row["published"]:
            table.add_row(
                row["name"], f"{sample['rates'][row['name']]:,}", f"{row['published']:,}",
                f"{row['dropped']:,}", f"{row['lag']:,}", f"{row['lag_max']:,}",
            )  # fmt: skip
    return table

"""How the short tools print: a table for people, JSON for programs."""

from typing import Any

import msgspec

from processes.inspector.instance import Instance


def print_json(value: Any) -> None:
    """Print one JSON document."""
    print(msgspec.json.format(msgspec.json.encode(value)).decode())


def print_table(head: list[str], rows: list[list[Any]]) -> None:
    """Print columns; numbers to the right, with thousands separated."""
    cells = [[cell_text(cell) for cell in row] for row in rows]
    widths = [max(len(line[i]) for line in [head, *cells]) for i in range(len(head))]
    is_number = [
        bool(rows) and all(isinstance(row[i], int | float | None) for row in rows)
        for i in range(len(head))
    ]
    for line in [head, *cells]:
        print(
            "  ".join(
                f"{text:>{width}}" if right else f"{text:<{width}}"
                for text, width, right in zip(line, widths, is_number, strict=True)
            ).rstrip()
        )


def cell_text(cell: Any) -> str:
    """Return one cell as text."""
    if cell is None:
        return "-"
    return f"{cell:,}" if isinstance(cell, int) and not isinstance(cell, bool) else str(cell)


def status(found: dict[str, Any], as_json: bool) -> None:
    """Print what `control.status` found."""
    if as_json:
        print_json(found)
        return
    alive = "live" if found["live"] else "DEAD"
    killed = f"  KILLED by {', '.join(found['killed_by'])}" if found["killed_by"] else ""
    print(
        f"{found['instance']}  {alive}  {found['mode']}  phase {found['phase']}"
        f"  supervisor pid {found['supervisor_pid']}{killed}"
    )
    fields = ["name", "pid", "core", "state", "restarts", "uptime_s", "heartbeat_age_ms"]
    rows = [
        [str(row["pid"]) if f == "pid" else row[f] for f in fields]
        + [row["rss_bytes"] // 1_048_576]
        for row in found["processes"]
    ]
    print_table([*fields, "rss_MiB"], rows)


def checked(found: dict[str, Any], as_json: bool) -> None:
    """Print what `check_config` found."""
    if as_json:
        print_json(found)
        return
    print(
        f"{found['path']}: valid; instance {found['instance']}, {found['mode']}, "
        f"{len(found['symbols'])} symbols, {len(found['processes'])} processes"
    )
    for note in found["notes"]:
        print(f"note: {note}")


def rings(instance: Instance, as_json: bool) -> None:
    """Print every ring's ledger."""
    found = instance.ring_stats()
    if as_json:
        print_json({"instance": instance.name, "live": instance.is_live, "rings": found})
        return
    fields = ["name", "record", "policy", "capacity", "offered", "published", "consumed",
              "dropped", "lag", "lag_max"]  # fmt: skip
    print_table(fields, [[row[field] for field in fields] for row in found])


def stat(instance: Instance, match: str, as_json: bool) -> None:
    """Print counters and histograms whose process or label has `match` in it."""
    found: list[dict[str, Any]] = []
    for process in instance.processes:
        reader = instance.counters(process)
        if reader is None:
            continue
        labels, values = reader.counter_labels(), reader.counters()
        is_all = match.lower() in process
        counters = [
            {"name": name, "value": values[name], "label": labels[name]}
            for name in values
            if is_all or match.lower() in f"{name} {labels[name]}".lower()
        ]
        histograms = [
            {"name": name, **reader.histogram(name)}
            for name in reader.histogram_names()
            if is_all or match.lower() in name
        ]
        if counters or histograms:
            found.append({"process": process, "counters": counters, "histograms": histograms})
    if as_json:
        print_json({"instance": instance.name, "live": instance.is_live, "processes": found})
        return
    states = {row["name"]: row for row in instance.status()}
    for one in found:
        row = states[one["process"]]
        age = (
            ""
            if row["heartbeat_age_ms"] is None
            else f"  heartbeat {row['heartbeat_age_ms']} ms ago"
        )
        print(
            f"{one['process']}  pid {row['pid']}  core {cell_text(row['core'])}"
            f"  {row['state']}{age}"
        )
        for counter in one["counters"]:
            print(f"  {counter['value']:>20,}  {counter['label']}")
        for row in one["histograms"]:
            times = "  ".join(f"{key} {row[key]:,}" for key in ("p50", "p99", "p99.9", "max"))
            print(f"  {row['count']:>20,}  {row['name']} ns: {times}")


def pressed(found: dict[str, Any], as_json: bool) -> None:
    """Print what `kill.press` did."""
    if as_json:
        print_json(found)
        return
    now = "set" if found["word_set"] else "not there"
    again = " (it was set already)" if found["was_set"] else ""
    print(f"{found['instance']}: kill word {now}{again}; latched in {found['file']}")
    print("trading stays killed until that file is removed and the instance started again")

"""What a run was: one JSON object made from the segments when all have left, and its verdict."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from common.errors import TickringError
from processes.inspector.instance import Instance
from processes.inspector.sampler import E8, HOPS, net_pnl
from processes.supervisor.app import Managed
from shm.recording import RECORDINGS, read_manifest

SCHEMA = 1
EVENTS = ("depth", "trade", "agg_trade", "bbo", "mark", "liquidation")
GAPS = ("gaps_sequence", "gaps_lost", "gaps_decode", "gaps_reconnect")
HOP_FIELDS = ("count", "p50", "p99", "p99.9", "max")


def summarize(
    instance: Instance, processes: list[Managed], duration_s: float, stop_ns: int
) -> dict[str, Any]:
    """Return the summary of a run whose processes have left and whose segments are still there.

    Args:
        instance: of the run.
        processes: what the supervisor knows of them.
        duration_s: from all READY to the stop.
        stop_ns: when "no new orders" was said; the venue's account must be newer than that.
    """
    positions = instance.positions()
    symbols = [instance.instruments[row["instrument_id"]] for row in positions]
    held = dict(zip((one.symbol for one in symbols), positions, strict=True))
    texts = {
        field: {
            one.symbol: one.qty_text(row[f"{field}_steps"])
            for one, row in zip(symbols, positions, strict=True)
        }
        for field in ("position", "venue_position")
    }
    rings = instance.ring_stats()
    matched = sum(row["venue_trade_count"] - row["mismatch_count"] for row in positions)
    mismatched = sum(row["mismatch_count"] for row in positions)
    fees = sum((row["fee_e8"] * E8 for row in positions), Decimal(0))
    return {
        "schema": SCHEMA,
        "instance": instance.name,
        "duration_s": round(duration_s, 3),
        "processes": [
            {
                "name": one.name,
                "pid": one.last_pid,
                "core": one.core,
                "restarts": one.restarts.count,
                "rss_bytes": one.rss_bytes,
            }
            for one in processes
        ],
        "rings": [
            {
                field: row[field]
                for field in (
                    "name",
                    "offered",
                    "published",
                    "consumed",
                    "dropped",
                    "lag",
                    "lag_max",
                )
            }
            for row in rings
        ],
        "market_events": sum(instance.counter("feed", name) for name in EVENTS),
        "decode_errors": instance.counter("feed", "decode_errors"),
        "gaps": sum(instance.counter("book", name) for name in GAPS),
        "orders_sent": instance.counter("risk", "orders_sent"),
        "acks": instance.counter("risk", "acks"),
        "fills": instance.counter("risk", "fills"),
        "rejects": instance.counter("risk", "rejects_risk")
        + instance.counter("risk", "rejects_venue"),
        "fills_matched": matched,
        "fills_mismatched": mismatched,
        "position": texts["position"],
        "venue_position": texts["venue_position"],
        "is_reconciled": bool(positions)
        and all(row["ts_venue_position_ns"] >= stop_ns for row in held.values()),
        "pnl": net_pnl(instance, positions),
        "fees": fees,
        "hop_latency_ns": {
            hop: {field: instance.hop(hop)[field] for field in HOP_FIELDS} for hop in HOPS
        },
        "ledger_balanced": is_balanced(rings),
    }


def recording_of(state_dir: Path, session: int) -> dict[str, Any] | None:
    """Return where the run of a session was recorded and whether all of it is there, None if not.

    Args:
        state_dir: of the run.
        session: its number in the state folder.
    """
    for path in (state_dir / RECORDINGS).glob(f"*-{session}"):
        try:
            manifest = read_manifest(path)
        except TickringError:
            continue  # the recorder was killed before it had one
        return {
            "path": str(path),
            "complete": manifest["complete"],
            "stopped": manifest["stopped"],
        }
    return None


def is_balanced(rings: list[dict[str, Any]]) -> bool:
    """Return True if every ring's ledger does: offered = published + dropped, and what was read."""
    return all(
        row["offered"] == row["published"] + row["dropped"]
        and row["published"] == row["consumed"] + row["lag"]
        for row in rings
    )


def verdict(summary: dict[str, Any]) -> list[str]:
    """Return what is wrong with a run, each as one sentence; empty if nothing is."""
    wrong = []
    if not summary["ledger_balanced"]:
        wrong.append("ledger: a ring's sums differ, expected offered = published + dropped")
    if summary["position"] != summary["venue_position"]:
        wrong.append(
            f"positions: ours are {summary['position']}, expected the venue's"
            f" {summary['venue_position']}"
        )
    if not summary["is_reconciled"]:
        wrong.append("reconcile: no answer of the venue's account after the last order")
    if summary["fills_mismatched"]:
        wrong.append(
            f"fills: {summary['fills_mismatched']} differ from the venue's trades, expected 0"
        )
    elif summary["fills_matched"] != summary["fills"]:
        wrong.append(
            f"fills: {summary['fills_matched']} of {summary['fills']} are matched with the"
            " venue's trades, expected all"
        )
    return wrong


def write_summary(path: Path, summary: dict[str, Any]) -> None:
    """Write the summary as JSON; amounts are exact numbers."""
    path.write_bytes(msgspec.json.format(encode(summary)) + b"\n")


def encode(value: Any) -> bytes:
    """Return JSON with Decimals as plain numbers."""
    return msgspec.json.Encoder(decimal_format="number").encode(value)

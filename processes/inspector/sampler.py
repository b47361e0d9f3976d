"""What the live views show: rates, books, positions, PnL and hops, sampled now and then."""

from decimal import Decimal
from typing import Any

from rich.table import Table

from processes.inspector.instance import Instance

E8 = Decimal(10) ** -8
HOPS = (
    "recv_to_book", "book_to_strategy", "strategy_to_risk", "risk_to_sent", "sent_to_ack",
    "recv_to_sent",
)  # fmt: skip
_COUNTS = (
    ("orders", "risk", "orders_sent"),
    ("acks", "risk", "acks"),
    ("fills", "risk", "fills"),
    ("refused", "risk", "rejects_risk"),
    ("rejected", "risk", "rejects_venue"),
)


class Sampler:
    """Reads the instance now and then, and knows rates since the last time."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.last: dict[str, int] = {}
        self.last_ns = 0

    def take(self, now_ns: int) -> dict[str, Any]:
        """Return everything that the views show."""
        instance = self.instance
        rings = instance.ring_stats()
        published = {row["name"]: row["published"] for row in rings}
        elapsed_s = max(now_ns - self.last_ns, 1) / 1e9
        rates = {
            key: int((count - self.last.get(key, 0)) / elapsed_s) if self.last_ns else 0
            for key, count in published.items()
        }
        self.last, self.last_ns = published, now_ns
        positions = instance.positions()
        return {
            "rings": rings,
            "rates": rates,
            "best": instance.best(),
            "positions": positions,
            "pnl": net_pnl(instance, positions),
            "counts": {key: instance.counter(who, name) for key, who, name in _COUNTS},
            "hops": {hop: instance.hop(hop) for hop in HOPS},
            "killed": instance.killed_by(),
        }


def net_pnl(instance: Instance, positions: list[dict[str, Any]]) -> Decimal:
    """Return realized PnL and the open position at the mid, less fees and funding, in quote."""
    best = {row["symbol"]: row for row in instance.best()}
    total = Decimal(0)
    for row in positions:
        instrument = instance.instruments[row["instrument_id"]]
        scale = Decimal(10) ** -(instrument.price_grid_decimals + instrument.qty_grid_decimals)
        steps2 = Decimal(row["realized_pnl_steps2"])
        if row["position_steps"] and best[row["symbol"]]["two_mid_steps"]:
            mid = Decimal(best[row["symbol"]]["two_mid_steps"]) / 2
            steps2 += row["position_steps"] * mid - row["cost_steps2"]
        total += steps2 * scale - (row["fee_e8"] + row["funding_e8"]) * E8
    return total.quantize(E8)


def status_line(sample: dict[str, Any]) -> str:
    """Return one line: rates, orders, books, positions, PnL, latency."""
    counts = "  ".join(f"{key} {value:,}" for key, value in sample["counts"].items())
    held = {row["symbol"]: row for row in sample["positions"]}
    books = "  ".join(
        f"{row['symbol']} {row['bid'] or '-'}/{row['ask'] or '-'}"
        f" {held[row['symbol']]['position'] if row['symbol'] in held else 0}"
        for row in sample["best"]
    )
    hop = sample["hops"]["recv_to_sent"]
    killed = f"  KILLED by {','.join(sample['killed'])}" if sample["killed"] else ""
    market = sample["rates"].get("feed.market.book", 0)
    return (
        f"market {market:,}/s  {counts}  {books}  pnl {sample['pnl']:.2f}"
        f"  tick-to-order p50 {microseconds(hop['p50'])} p99 {microseconds(hop['p99'])}{killed}"
    )


def microseconds(value_ns: int) -> str:
    """Return a duration for people."""
    return f"{value_ns / 1_000:,.0f} us"


def markets_table(sample: dict[str, Any]) -> Table:
    table = Table("symbol", "bid", "qty", "ask", "qty", "position", "fills", box=None)
    held = {row["symbol"]: row for row in sample["positions"]}
    for row in sample["best"]:
        position = held.get(row["symbol"], {})
        table.add_row(
            row["symbol"], row["bid"], row["bid_qty"], row["ask"], row["ask_qty"],
            position.get("position", "0"), str(position.get("fill_count", 0)),
        )  # fmt: skip
    return table


def hops_table(sample: dict[str, Any]) -> Table:
    table = Table("hop", "count", "p50", "p99", "max", box=None)
    for hop, row in sample["hops"].items():
        times = (microseconds(row[field]) for field in ("p50", "p99", "max"))
        table.add_row(hop, f"{row['count']:,}", *times)
    return table

"""What the operator sees while a run lasts: a live view on a terminal, otherwise plain lines."""

import sys
from decimal import Decimal
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from common import log
from processes.inspector.instance import Instance
from processes.supervisor.app import Step, Supervisor
from processes.supervisor.summary import HOPS, net_pnl

LIVE_EVERY_NS = 500_000_000
EVENTS_SHOWN_MAX = 8
_COUNTS = (
    ("orders", "risk", "orders_sent"),
    ("acks", "risk", "acks"),
    ("fills", "risk", "fills"),
    ("refused", "risk", "rejects_risk"),
    ("rejected", "risk", "rejects_venue"),
)


class Sampler:
    """Reads the instance now and then, and knows rates since the last time."""

    def __init__(self) -> None:
        self.instance: Instance | None = None
        self.last: dict[str, int] = {}
        self.last_ns = 0

    def take(self, name: str, now_ns: int) -> dict[str, Any]:
        """Return everything that both screens show."""
        if self.instance is None:
            self.instance = Instance(name)
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
            "hops": {hop: instance.histogram("risk", hop) for hop in HOPS},
            "killed": instance.killed_by(),
        }


class LineScreen:
    """Events as log lines on standard error, a status line every few seconds on standard output."""

    def __init__(self, every_s: int) -> None:
        self.every_ns = every_s * 1_000_000_000
        self.due_ns = 0
        self.sampler = Sampler()

    def progress(self, step: str, done: int, total: int) -> None:
        """Write one line per step."""
        print(f"kernels {done}/{total}: {step}", flush=True)

    def event(self, name: str, **values: object) -> None:
        """Write one log line."""
        log.event(name, **values)

    def tick(self, supervisor: Supervisor, now_ns: int) -> None:
        """Write the status line when it is due."""
        if supervisor.step != Step.RUNNING or now_ns < self.due_ns:
            return
        if self.due_ns:
            sample = self.sampler.take(supervisor.setup.instance, now_ns)
            seconds = (now_ns - supervisor.ready_ns) // 1_000_000_000
            print(f"{seconds:5d} s  {status_line(sample)}", flush=True)
        self.due_ns = now_ns + self.every_ns

    def close(self) -> None:
        """Nothing to put back."""


def status_line(sample: dict[str, Any]) -> str:
    """Return one line: rates, orders, books, positions, PnL, latency."""
    counts = "  ".join(f"{key} {value:,}" for key, value in sample["counts"].items())
    held = {row["symbol"]: row for row in sample["positions"]}
    books = "  ".join(
        f"{row['symbol']} {row['bid'] or '-'}/{row['ask'] or '-'}"
        f" {held[row['symbol']]['position_steps'] if row['symbol'] in held else 0:+d}"
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


class LiveScreen:
    """A view that is drawn again twice a second; log lines go to a file meanwhile."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.console = Console()
        self.live = Live(console=self.console, auto_refresh=False, transient=False)
        self.is_started = False
        self.due_ns = 0
        self.sampler = Sampler()
        self.events: list[str] = []
        self.status = ""

    def progress(self, step: str, done: int, total: int) -> None:
        """Show a bar of kernels."""
        width = 30
        filled = "#" * (width * done // max(total, 1))
        self.status = f"kernels [{filled:<{width}}] {done}/{total} {step}"
        self._draw([])

    def event(self, name: str, **values: object) -> None:
        """Show it below the tables."""
        fields = " ".join(f"{key}={log.format_value(value)}" for key, value in values.items())
        self.events = [*self.events, f"{name} {fields}"][-EVENTS_SHOWN_MAX:]
        self._draw([])

    def tick(self, supervisor: Supervisor, now_ns: int) -> None:
        """Draw when due."""
        if now_ns < self.due_ns or supervisor.step not in (Step.RUNNING, Step.DRAINING):
            return
        self.due_ns = now_ns + LIVE_EVERY_NS
        sample = self.sampler.take(supervisor.setup.instance, now_ns)
        seconds = (now_ns - supervisor.ready_ns) // 1_000_000_000
        self.status = f"{supervisor.step.name.lower()} {seconds} s   Ctrl-C stops in order"
        self._draw([_markets(sample), _hops(sample), _processes(supervisor)], sample)

    def close(self) -> None:
        """Leave the last picture on the terminal."""
        if self.is_started:
            self.live.stop()

    def _draw(self, tables: list[Table], sample: dict[str, Any] | None = None) -> None:
        if not self.is_started:
            self.live.start()
            self.is_started = True
        head = [Text(f"{self.title}   {self.status}", style="bold")]
        if sample is not None:
            counts = "  ".join(f"{key} {value:,}" for key, value in sample["counts"].items())
            market = sample["rates"].get("feed.market.book", 0)
            head.append(Text(f"market {market:,}/s  {counts}  pnl {sample['pnl']:.2f}"))
            if sample["killed"]:
                killed = f"KILLED by {', '.join(sample['killed'])}"
                head.append(Text(killed, style="bold red"))
        tail = [Text(line, style="dim") for line in self.events]
        self.live.update(Group(*head, *tables, *tail), refresh=True)


def _markets(sample: dict[str, Any]) -> Table:
    table = Table("symbol", "bid", "qty", "ask", "qty", "position", "fills", box=None)
    held = {row["symbol"]: row for row in sample["positions"]}
    for row in sample["best"]:
        position = held.get(row["symbol"], {})
        table.add_row(
            row["symbol"], row["bid"], row["bid_qty"], row["ask"], row["ask_qty"],
            f"{position.get('position_steps', 0):+d}", str(position.get("fill_count", 0)),
        )  # fmt: skip
    return table


def _hops(sample: dict[str, Any]) -> Table:
    table = Table("hop", "count", "p50", "p99", "max", box=None)
    for hop, row in sample["hops"].items():
        times = (microseconds(row[field]) for field in ("p50", "p99", "max"))
        table.add_row(hop, f"{row['count']:,}", *times)
    return table


def _processes(supervisor: Supervisor) -> Table:
    table = Table("process", "pid", "core", "state", "restarts", box=None)
    for one in supervisor.processes.values():
        core = "" if one.core is None else str(one.core)
        table.add_row(one.name, str(one.pid), core, one.state, str(one.restarts.count))
    return table


def choose_screen(title: str, every_s: int) -> LineScreen | LiveScreen:
    """Return the live view on a terminal, otherwise lines."""
    return LiveScreen(title) if sys.stdout.isatty() else LineScreen(every_s)


def report(summary: dict[str, Any], wrong: list[str]) -> str:
    """Return the end of a run for people: a few lines."""
    lines = [
        f"{summary['instance']}: {summary['duration_s']} s, {summary['market_events']:,} market"
        f" events, {summary['orders_sent']:,} orders, {summary['acks']:,} acks,"
        f" {summary['fills']:,} fills ({summary['fills_matched']:,} matched with the venue),"
        f" {summary['rejects']:,} rejects",
        f"position {positions_text(summary['position'])}, venue"
        f" {positions_text(summary['venue_position'])}, pnl {Decimal(summary['pnl']):.2f},"
        f" fees {Decimal(summary['fees']):.2f}, ledger"
        f" {'balanced' if summary['ledger_balanced'] else 'NOT BALANCED'}",
    ]
    return "\n".join([*lines, *(f"WRONG {one}" for one in wrong)])


def positions_text(positions: dict[str, str]) -> str:
    """Return symbol quantity pairs on one line."""
    return " ".join(f"{symbol} {text}" for symbol, text in positions.items()) or "none"

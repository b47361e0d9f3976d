"""What the operator sees while a run lasts: a live view on a terminal, otherwise plain lines."""

import sys
from decimal import Decimal
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from common import clock, log
from processes.inspector.instance import Instance
from processes.inspector.sampler import Sampler, hops_table, markets_table, status_line
from processes.supervisor.app import Step, Supervisor

LIVE_EVERY_NS = 500_000_000
EVENTS_SHOWN_MAX = 8


class LineScreen:
    """Events as log lines on standard error, a status line every few seconds on standard output."""

    def __init__(self, every_s: int) -> None:
        self.every_ns = every_s * 1_000_000_000
        self.due_ns = 0
        self.first_ns = 0
        self.sampler: Sampler | None = None

    def progress(self, step: str, done: int, total: int) -> None:
        """Write one line per step, with the seconds since the first."""
        self.first_ns = self.first_ns or clock.now_ns()
        seconds = (clock.now_ns() - self.first_ns) / 1e9
        print(f"kernels {done}/{total} {seconds:5.1f} s: {step}", flush=True)

    def event(self, name: str, **values: object) -> None:
        """Write one log line."""
        log.event(name, **values)

    def tick(self, supervisor: Supervisor, now_ns: int) -> None:
        """Write the status line when it is due."""
        if supervisor.step != Step.RUNNING or now_ns < self.due_ns:
            return
        if self.sampler is None:
            self.sampler = Sampler(Instance(supervisor.setup.instance))
        sample = self.sampler.take(now_ns)  # the first one is where rates begin
        if self.due_ns:
            seconds = (now_ns - supervisor.ready_ns) // 1_000_000_000
            print(f"{seconds:5d} s  {status_line(sample)}", flush=True)
        self.due_ns = now_ns + self.every_ns

    def close(self) -> None:
        """Nothing to put back."""


class LiveScreen:
    """A view that is drawn again twice a second; log lines go to a file meanwhile."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.console = Console()
        self.live = Live(  # the processes are forked while it runs: their streams stay their own
            console=self.console,
            auto_refresh=False,
            transient=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self.is_started = False
        self.due_ns = 0
        self.sampler: Sampler | None = None
        self.events: list[str] = []
        self.body: list[Text | Table] = []  # the last picture between head and events
        self.status = ""

    def progress(self, step: str, done: int, total: int) -> None:
        """Show a bar of kernels."""
        width = 30
        filled = "#" * (width * done // max(total, 1))
        self.status = f"kernels [{filled:<{width}}] {done}/{total} {step}"
        self._draw()

    def event(self, name: str, **values: object) -> None:
        """Show it below the tables."""
        fields = " ".join(f"{key}={log.format_value(value)}" for key, value in values.items())
        self.events = [*self.events, f"{name} {fields}"][-EVENTS_SHOWN_MAX:]
        self._draw()

    def tick(self, supervisor: Supervisor, now_ns: int) -> None:
        """Draw when due."""
        if now_ns < self.due_ns or supervisor.step not in (Step.RUNNING, Step.DRAINING):
            return
        self.due_ns = now_ns + LIVE_EVERY_NS
        if self.sampler is None:
            self.sampler = Sampler(Instance(supervisor.setup.instance))
        sample = self.sampler.take(now_ns)
        seconds = (now_ns - supervisor.ready_ns) // 1_000_000_000
        self.status = f"{supervisor.step.name.lower()} {seconds} s   Ctrl-C stops in order"
        counts = "  ".join(f"{key} {value:,}" for key, value in sample["counts"].items())
        market = sample["rates"].get("feed.market.book", 0)
        self.body = [Text(f"market {market:,}/s  {counts}  pnl {sample['pnl']:.2f}")]
        if sample["killed"]:
            killed = f"KILLED by {', '.join(sample['killed'])}"
            self.body.append(Text(killed, style="bold red"))
        self.body += [markets_table(sample), hops_table(sample), _processes(supervisor)]
        self._draw()

    def close(self) -> None:
        """Leave the last picture on the terminal."""
        if self.is_started:
            self.live.stop()

    def _draw(self) -> None:
        if not self.is_started:
            self.live.start()
            self.is_started = True
        head = Text(f"{self.title}   {self.status}", style="bold")
        tail = [Text(line, style="dim") for line in self.events]
        self.live.update(Group(head, *self.body, *tail), refresh=True)


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
    recording = summary.get("recording")
    if recording:
        state = "complete" if recording["complete"] else "NOT COMPLETE"
        reason = "" if recording["complete"] else f": {recording['stopped'] or 'was killed'}"
        lines.append(f"recording {recording['path']} {state}{reason}")
    return "\n".join([*lines, *(f"WRONG {one}" for one in wrong)])


def positions_text(positions: dict[str, str]) -> str:
    """Return symbol quantity pairs on one line."""
    return " ".join(f"{symbol} {text}" for symbol, text in positions.items()) or "none"

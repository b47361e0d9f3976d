"""Latency of every hop while the demo trades: a run of `tickring up`, its own histograms.

    python -m bench.demo [--smoke]

There is no rival and no gate: the figures are of this machine, with the exchange itself on the same
cores, so a hop contains the wait for a core. The targets beside them are for isolated cores. All
stamps are CLOCK_MONOTONIC of one host; records arrive when the market moves (open loop).
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SECONDS, SMOKE_SECONDS = 30, 5
DEADLINE_S = 300
TARGETS = {"recv_to_record": "< 50 us", "recv_to_book": "< 50 us + < 5 us of book"}


def main() -> int:
    """Run the demo, print a row a hop."""
    seconds = SMOKE_SECONDS if "--smoke" in sys.argv[1:] else SECONDS
    print(f"# Demo: latency of every hop, {seconds} s")
    with tempfile.TemporaryDirectory() as folder:
        summary_path = Path(folder) / "summary.json"
        command = [sys.executable, "-m", "processes.cli", "up", "configs/demo.toml"]
        command += ["--for", f"{seconds}s", "--instance", "bench", "--summary", str(summary_path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S)
        if not summary_path.exists():
            print(done.stderr[-2000:])
            return 1
        summary = json.loads(summary_path.read_text())
    columns = ("count", "p50", "p99", "p99.9", "max")
    print(f"  {'hop, ns':<20}" + "".join(f"{column:>14}" for column in columns) + "  target")
    for hop, row in summary["hop_latency_ns"].items():
        cells = "".join(f"{row[column]:>14,}" for column in columns)
        print(f"  {hop:<20}{cells}  {TARGETS.get(hop, '')}")
    print(
        f"  {summary['market_events'] / summary['duration_s']:,.0f} market events/s,"
        f" {summary['acks']:,} acks, {summary['fills']:,} fills,"
        f" ledger {'balanced' if summary['ledger_balanced'] else 'NOT balanced'}"
    )
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())

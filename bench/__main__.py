"""Run every bench, one after another: `python -m bench [--smoke] [NAME ...]`.

Each is a process of its own, so that no cache or affinity of one reaches the next. The exit code is
the number of benches that missed a reach or had a void row.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAMES = (
    "ring",
    "decode",
    "book",
    "matching",
    "observers",
    "recorder",
    "transport",
    "demo",
    "backtest",
    "stress",
)


def main() -> int:
    """Run the named benches, or all."""
    flags = [argument for argument in sys.argv[1:] if argument.startswith("-")]
    names = [argument for argument in sys.argv[1:] if not argument.startswith("-")] or NAMES
    unknown = set(names) - set(NAMES)
    if unknown:
        print(f"bench: {sorted(unknown)} unknown, expected some of {', '.join(NAMES)}")
        return 2
    failed = []
    for name in names:
        done = subprocess.run([sys.executable, "-m", f"bench.{name}", *flags], cwd=ROOT)
        if done.returncode:
            failed.append(name)
        print(flush=True)
    print(f"benches that missed a reach, or failed: {', '.join(failed) or 'none'}")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())

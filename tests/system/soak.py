"""`make soak`: demo runs with contention and kills, each replayed decision by decision.

    python -m tests.system.soak                    20 runs of 30 s, one of 300 s
    python -m tests.system.soak --runs 2 --seconds 10 --long-seconds 0

Every run has its own seed of the order flow. While it trades, the book and the strategy process are
killed in turn, and as many processes as there are cores keep them busy. The recording is then
verified: it must be covered whole, without a difference.
"""

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from common import clock

from tests.support import ROOT
from tests.system.harness import START_S_MAX, Demo

RUNS_MAX = 100
SECONDS_MAX = 3_600
KILL_AFTER_S = (1.5, 4.0)  # of trading again
KILLS_MIN = 4  # book and strategy twice each: a second restart begins where a first one had begun
PATIENCE = "drain_s_max = 60\nrestarts_max = 1_000\nrestart_delay_ms_max = 200"
LINE = re.compile(
    r"intents compared: (?P<intents>\d+)  differences: (?P<intent_differences>\d+)"
    r"  state hashes compared: (?P<hashes>\d+)  differences: (?P<hash_differences>\d+)"
    r"  coverage: (?P<coverage>\d+\.\d) %"
)


class Verified(NamedTuple):
    """One run and what its replay says.

    Attributes:
        kills: how many processes were killed.
        recording: folder of the run.
        code: exit code of the replay.
        text: everything it printed.
    """

    kills: int
    recording: Path
    code: int
    text: str

    @property
    def numbers(self) -> dict[str, float]:
        """The numbers of the last line; empty if there is no such line."""
        lines = self.text.splitlines()
        match = LINE.fullmatch(lines[-1]) if lines else None
        return {name: float(text) for name, text in match.groupdict().items()} if match else {}

    @property
    def is_good(self) -> bool:
        """True if all was compared and nothing differs."""
        found = self.numbers
        return (
            self.code == 0
            and found.get("coverage") == 100.0
            and found["intent_differences"] == found["hash_differences"] == 0
            and found["intents"] > 0
        )


def run_and_verify(
    folder: Path, seed: int, seconds: float, kill_after_s: tuple[float, float] = KILL_AFTER_S
) -> Verified:
    """Trade for so long under contention and kills, stop in order, and verify the recording."""
    changes = {"seed = 20260822": f"seed = {seed}", "drain_s_max = 60": PATIENCE}
    demo = Demo(folder, **changes)
    busy: list[subprocess.Popen] = []
    try:
        demo.wait_ready()
        busy = [
            subprocess.Popen([sys.executable, "-c", "while True: pass"])
            for _ in range(os.cpu_count() or 1)
        ]
        kills = _kill_while_it_trades(demo, random.Random(seed), seconds, kill_after_s)
        demo.process.send_signal(signal.SIGINT)
        code = demo.wait_exit()
        assert code == 0, demo.text[-6_000:]
    finally:
        for process in busy:
            process.kill()
            process.wait()
        demo.end()
    (recording,) = (folder / "state" / "recordings").iterdir()
    return verify(recording, kills)


def _kill_while_it_trades(
    demo: Demo, chance: random.Random, seconds: float, kill_after_s: tuple[float, float]
) -> int:
    """Kill book and strategy in turn until the time is over; return how often."""
    end_ns = clock.now_ns() + int(seconds * 1e9)
    kills = 0
    while clock.now_ns() < end_ns or kills < KILLS_MIN:
        acks = demo.counter("risk", "acks")
        demo.wait_for(lambda acks=acks: demo.counter("risk", "acks") > acks + 3, "it trades")
        due_ns = clock.now_ns() + int(chance.uniform(*kill_after_s) * 1e9)
        demo.wait_for(lambda due_ns=due_ns: clock.now_ns() >= due_ns, "the next kill is due")
        name = ("book", "strategy")[kills % 2]
        before = demo.kill(name)
        kills += 1
        demo.wait_for(
            lambda name=name, before=before: demo.is_back(name, before), f"{name} is back"
        )
    acks = demo.counter("risk", "acks")
    demo.wait_for(lambda: demo.counter("risk", "acks") > acks, "it trades again")
    return kills


def verify(recording: Path, kills: int = 0) -> Verified:
    """Replay a recording in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "processes.cli", "replay", str(recording), "--verify"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=START_S_MAX,  # a cold kernel cache
    )
    return Verified(kills, recording, done.returncode, done.stdout + done.stderr)


def main() -> int:
    """Do all runs; return 1 if one of them does not verify."""
    parser = argparse.ArgumentParser(prog="soak", description="Record, kill, and verify.")
    parser.add_argument("--runs", type=int, default=20, metavar="N")
    parser.add_argument("--seconds", type=float, default=30, metavar="S")
    parser.add_argument("--long-seconds", type=float, default=300, metavar="S")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    wanted = parser.parse_args()
    if not 0 <= wanted.runs <= RUNS_MAX or max(wanted.seconds, wanted.long_seconds) > SECONDS_MAX:
        parser.error(f"expected at most {RUNS_MAX} runs of at most {SECONDS_MAX} s")
    plan = [(wanted.seed + i, wanted.seconds) for i in range(wanted.runs)]
    if wanted.long_seconds:
        plan.append((wanted.seed + wanted.runs, wanted.long_seconds))
    columns = ("seed", "seconds", "kills", "intents", "hashes", "coverage", "verdict")
    print("  ".join(f"{name:>8}" for name in columns), flush=True)
    bad = 0
    for seed, seconds in plan:
        with tempfile.TemporaryDirectory(prefix="tickring-soak-") as folder:
            done = run_and_verify(Path(folder), seed, seconds)
        found = done.numbers
        bad += not done.is_good
        row = [
            seed, f"{seconds:g}", done.kills, f"{found.get('intents', 0):g}",
            f"{found.get('hashes', 0):g}", f"{found.get('coverage', 0):.1f} %",
            "good" if done.is_good else "BAD",
        ]  # fmt: skip
        print("  ".join(f"{value:>8}" for value in row), flush=True)
        if not done.is_good:
            print(done.text, flush=True)
    print(f"{len(plan)} runs, {bad} bad")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())

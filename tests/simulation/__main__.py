"""`python -m tests.simulation --seeds 1000`: run many seeds by hand; `--seed N` repeats one."""

# ruff: noqa: E402
from common import kernel_cache

kernel_cache.configure()

import argparse
import sys
import time

from tests.simulation.faults import FAULTS
from tests.simulation.run import STRATEGIES, Options, command_of, run_seed


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this seed only, and show its log")
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--rounds", type=int, default=3, help="stretches of faults in each")
    parser.add_argument("--strategy", choices=sorted(STRATEGIES))
    parser.add_argument("--faults", help="comma-separated names or beginnings; none: no faults")
    parser.add_argument("--without", default="", help="names or beginnings to leave out")
    parser.add_argument("--per-second", type=float, help="faults per second")
    parser.add_argument("--end", choices=("stop", "kill"))
    parser.add_argument("--log", type=int, default=40, help="log lines shown of a failed run")
    parser.add_argument("--trace", help="write the trace of --seed to this file")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at a failure")
    return parser.parse_args()


def chosen_faults(given: str | None, without: str) -> list[str] | None:
    """Return the fault names that begin as given, less those to be left out."""
    if given is None and not without:
        return None
    wanted = [] if given == "none" else (given or "").split(",")
    leave = [text for text in without.split(",") if text]
    names = [n for n in FAULTS if any(n.startswith(w) for w in wanted)]
    return [n for n in names if not any(n.startswith(text) for text in leave)]


def main() -> int:
    """Run seeds and tell of them; 1 if one failed."""
    arguments = parse()
    options = Options(
        rounds=arguments.rounds,
        strategy=arguments.strategy,
        faults=chosen_faults(arguments.faults, arguments.without),
        per_second=arguments.per_second,
        end=arguments.end,
        keeps_lines=bool(arguments.trace),
    )
    seeds = (
        [arguments.seed]
        if arguments.seed is not None
        else range(arguments.first, arguments.first + arguments.seeds)
    )
    words = [
        f"--{n.replace('_', '-')} {v}"
        for n, v in vars(arguments).items()
        if n in ("rounds", "strategy", "faults", "without", "per_second", "end") and v
    ]
    failed, totals, began = [], {}, time.monotonic()
    for seed in seeds:
        result = run_seed(seed, options)
        for name, value in result.facts.items():
            totals[name] = totals.get(name, 0) + value
        if arguments.seed is not None:
            print(f"seed {seed}: {result.virtual_s:.1f} virtual s, trace {result.digest}")
            print(f"  {result.facts}\n  faults: {result.faults}")
        if arguments.trace:
            with open(arguments.trace, "w") as file:
                file.write("\n".join(result.lines) + "\n")
        if result.violation:
            failed.append(seed)
            for line in result.log_tail[-arguments.log :]:
                print(f"    {line}")
            print(f"seed {seed} FAILED at {result.virtual_s:.6f} s: {result.violation}")
            print(
                f"  repeat: {command_of(result, ''.join(f' {word}' for word in words))}", flush=True
            )
            if not arguments.keep_going:
                break
    seconds = time.monotonic() - began
    print(
        f"{len(list(seeds))} seeds, {len(failed)} failed {failed[:20]}, {seconds:.1f} s; {totals}"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""The proof that no decision depends on what comes later.

At a cut, everything that happens or is seen after it is wiped out: only times and flags of the rows
are left, so that the clock runs on. A run on that must write the same intents up to the cut, byte
for byte, as the run on the whole data did. The cuts are drawn between the first and the last event,
with a seed.
"""

from typing import NamedTuple

import numpy as np

from processes.backtest import loop
from processes.backtest.events import AT_LOCAL, AT_VENUE, EVENT
from processes.backtest.run import Run, SetUp
from processes.backtest.tapes import Data, assemble
from processes.convert.progress import SILENT, Bar

CUTS = 100
SEED = 20_240_808


class Found(NamedTuple):
    """What a check found.

    Attributes:
        cuts: how many were tried.
        intents: compared in all.
        differences: at how many cuts the intents differ.
        text: all that in words; the first difference with its instant.
    """

    cuts: int
    intents: int
    differences: int
    text: str


def check(setup: SetUp, data: Data, cuts: int = CUTS, seed: int = SEED, bar: Bar = SILENT) -> Found:
    """Run up to `cuts` random instants with the future wiped out; compare the intents.

    Args:
        bar: told how many cuts have been tried.
    """
    whole = intents_until(setup, data, 0)
    times = data.events["ts_recv_ns"][data.events["flags"] & AT_LOCAL != 0]
    instants = np.random.default_rng(seed).integers(times.min(), times.max(), cuts, endpoint=True)
    compared = differences = 0
    first = ""
    for done, cut in enumerate(np.sort(instants), 1):
        expected = whole[whole["ts_pub_ns"] <= cut]
        found = intents_until(setup, without_future(setup, data, int(cut)), int(cut))
        compared += len(expected)
        if found.tobytes() != expected.tobytes():
            differences += 1
            first = first or f"; first at the cut {cut}: {_first(expected, found)}"
        bar.at(done)
    text = f"cuts: {cuts}  intents compared: {compared}  differences: {differences}{first}"
    return Found(cuts, compared, differences, text)


def intents_until(setup: SetUp, data: Data, until_ns: int) -> np.ndarray:
    """Return the intents of a run that stops behind an instant; 0: at the end."""
    part = Run(setup, data, until_ns=until_ns, logs_intents=True)
    part.go()
    return part.clock.log[: part.clock.words[loop.INTENT_COUNT]]


def without_future(setup: SetUp, data: Data, cut: int) -> Data:
    """Return data in which only the times are left of what happens, or is seen, after `cut`."""
    parts = [wiped(data.events[first:end], cut) for first, end in data.spans]
    return assemble(parts, setup.instruments, data.notes)


def wiped(rows: np.ndarray, cut: int) -> np.ndarray:
    """Wipe rows of one instrument; one that has happened and is not seen yet becomes two."""
    happened, seen = rows["ts_exch_ns"] <= cut, rows["ts_recv_ns"] <= cut
    is_both = rows["flags"] == AT_VENUE | AT_LOCAL
    split = is_both & happened & ~seen
    out = np.repeat(rows, 1 + split)
    second = np.cumsum(1 + split) - 1
    out["flags"][second[split] - 1] = AT_VENUE
    out["flags"][second[split]] = AT_LOCAL
    keeps = np.repeat(happened & seen, 1 + split)
    keeps[second[split] - 1] = True
    keeps[second[happened & (rows["flags"] == AT_VENUE)]] = True
    for name in set(EVENT.names or ()) - {"flags", "ts_exch_ns", "ts_recv_ns"}:
        out[name][~keeps] = 0
    return out


def _first(expected: np.ndarray, found: np.ndarray) -> str:
    """Say where two runs of intents part."""
    for k, (a, b) in enumerate(zip(expected, found, strict=False)):
        if a.tobytes() != b.tobytes():
            return f"intent {k} at {a['ts_pub_ns']}"
    return f"{len(found)} intents, expected {len(expected)}"

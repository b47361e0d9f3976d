"""What a slower way to the venue costs: the PnL as a function of latency added to each way."""

from decimal import Decimal
from typing import Any

import msgspec

from processes.backtest.run import SetUp, run
from processes.backtest.tapes import Data
from processes.convert.progress import SILENT, Bar
from processes.report.metrics import measure

ADDED_NS = (1_000_000, 2_000_000, 5_000_000, 10_000_000, 20_000_000, 50_000_000, 100_000_000)


def latency_curve(
    setup: SetUp,
    data: Data,
    added_ns: tuple[int, ...] | list[int] = ADDED_NS,
    bar: Bar = SILENT,
) -> list[tuple[int, Decimal]]:
    """Run the backtest once per added latency.

    Args:
        setup: what is run; its own order latency is what is added to.
        data: on what.
        added_ns: added to each request and to each answer; 0 is the run itself.
        bar: told how many have been run.

    Returns:
        (added, PnL in quote), in the order asked.
    """
    curve = []
    for done, added in enumerate(added_ns, 1):
        curve.append((added, measure(run(with_latency(setup, added), data)).total.pnl))
        bar.at(done)
    return curve


def with_latency(setup: SetUp, added_ns: int) -> SetUp:
    """Return the set-up with a longer way to the venue and back."""
    replace: Any = msgspec.structs.replace
    latency = setup.backtest.order_latency
    longer = replace(latency, offset_ns=latency.offset_ns + added_ns)
    backtest = replace(setup.backtest, order_latency=longer)
    changed: SetUp = replace(setup, file=replace(setup.file, backtest=backtest))
    return changed

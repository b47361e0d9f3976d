"""Both orders of events against two sorted lists."""

import numpy as np
import pytest

from processes.backtest.events import AT_LOCAL, AT_VENUE, EVENT, in_both_orders


def naive_orders(events: np.ndarray) -> list[tuple]:
    """Return (flags, venue's time, local time, price): two sorted lists, zipped by hand."""
    numbers = range(len(events))
    by_exch = sorted(numbers, key=lambda i: (events["ts_exch_ns"][i], i))
    by_local = sorted(numbers, key=lambda i: (events["ts_recv_ns"][i], i))
    listed = []
    while by_exch or by_local:
        if by_exch and by_local and by_exch[0] == by_local[0]:
            listed.append((AT_VENUE | AT_LOCAL, by_exch.pop(0)))
            by_local.pop(0)
        elif not by_local or (
            by_exch
            and (events["ts_exch_ns"][by_exch[0]], events["ts_recv_ns"][by_exch[0]])
            < (events["ts_exch_ns"][by_local[0]], events["ts_recv_ns"][by_local[0]])
        ):
            listed.append((AT_VENUE, by_exch.pop(0)))
        else:
            listed.append((AT_LOCAL, by_local.pop(0)))
    return listed


@pytest.mark.parametrize("seed", range(5))
def test_events_out_of_order_are_listed_for_both_sides(seed):
    rng = np.random.default_rng(seed)
    events = np.zeros(60, EVENT)
    events["ts_exch_ns"] = rng.integers(0, 40, 60)
    events["ts_recv_ns"] = np.sort(rng.integers(40, 80, 60))
    events["price_steps"] = np.arange(60)
    listed = in_both_orders(events)
    assert [(int(e["flags"]), int(e["price_steps"])) for e in listed] == naive_orders(events)
    for flag, field in ((AT_VENUE, "ts_exch_ns"), (AT_LOCAL, "ts_recv_ns")):
        side = listed[listed["flags"] & flag != 0]
        assert len(side) == 60 and (np.diff(side[field]) >= 0).all()

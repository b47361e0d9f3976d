"""Cores and idle strategies for hosts of several sizes."""

import pytest

from processes.supervisor.placement import place
from processes.supervisor.up import parse_cores
from processes.wiring import plan_of

PROCESSES = plan_of(True).processes
HOT = [process.name for process in PROCESSES if process.is_hot]


def test_many_cores_give_each_hot_process_its_own_and_let_it_spin():
    placement = place(PROCESSES, list(range(16)), [], "auto", {})
    cores = [placement.cores[name] for name in HOT]
    assert len(set(cores)) == len(HOT) and None not in cores
    assert 0 not in cores  # interrupts land there
    assert {placement.idle[name] for name in HOT} == {"spin"}
    assert placement.cores["rest"] is None and placement.idle["rest"] == "park"


def test_isolated_cores_are_taken_first():
    placement = place(PROCESSES, list(range(16)), [4, 5, 6], "auto", {})
    assert {4, 5, 6} < {placement.cores[name] for name in HOT}


def test_two_cores_put_the_order_path_on_one_and_the_market_side_on_the_other():
    placement = place(PROCESSES, [0, 1], [], "auto", {})
    order = {placement.cores[name] for name in ("book", "strategy", "risk", "gateway")}
    market = {placement.cores[name] for name in ("feed", "rest", "venue")}
    assert len(order) == len(market) == 1 and order != market
    assert set(placement.idle.values()) == {"park"}
    assert "park" in placement.reason and "2 cores" in placement.reason


def test_one_core_pins_nobody():
    placement = place(PROCESSES, [3], [], "auto", {})
    assert set(placement.cores.values()) == {None}
    assert set(placement.idle.values()) == {"park"}


def test_the_config_wins():
    placement = place(PROCESSES, list(range(16)), [], "yield", {"feed": 7})
    assert placement.cores["feed"] == 7
    assert sum(core == 7 for core in placement.cores.values()) == 1
    assert {placement.idle[name] for name in HOT} == {"yield"}
    assert placement.idle["rest"] == "park"


@pytest.mark.parametrize("count", range(1, 20))
def test_every_core_is_one_that_may_be_used(count):
    available = list(range(2, 2 + count))
    placement = place(PROCESSES, available, [], "auto", {})
    assert set(placement.cores) == {process.name for process in PROCESSES}
    assert {core for core in placement.cores.values() if core is not None} <= set(available)


@pytest.mark.parametrize(
    ("text", "cores"), [("", []), ("\n", []), ("3", [3]), ("2-4,7\n", [2, 3, 4, 7])]
)
def test_kernel_core_lists(text, cores):
    assert parse_cores(text) == cores

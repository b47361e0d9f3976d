"""What the operator sees, and what a run is summed up to."""

import io
import json
import sys
from decimal import Decimal
from types import SimpleNamespace

import pytest
from rich.console import Console

from processes.supervisor.app import Managed, Step
from processes.supervisor.restarts import RestartLimits
from processes.supervisor.screen import LineScreen, LiveScreen, report
from processes.supervisor.summary import (
    is_balanced,
    recording_of,
    summarize,
    verdict,
    write_summary,
)
from shm.recording import write_manifest

from tests.processes.inspector.conftest import world  # noqa: F401

LIMITS = RestartLimits(1, 1, 1, 1)


def supervisor_of(setup, step=Step.RUNNING):
    processes = {spec.name: Managed(spec, LIMITS) for spec in setup.plan.processes}
    return SimpleNamespace(setup=setup, step=step, ready_ns=1, processes=processes)


def test_lines_come_every_few_seconds_while_it_runs(world, capsys):  # noqa: F811
    screen = LineScreen(every_s=5)
    supervisor = supervisor_of(world["setup"])
    for now_s in range(1, 12):
        screen.tick(supervisor, now_s * 10**9)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert "orders 1,234" in lines[0] and "BTCUSDT 64210.00/64210.40 0.010" in lines[0]
    screen.progress("risk", 1, 9)
    screen.event("died", process="feed")
    found = capsys.readouterr()
    assert "kernels 1/9" in found.out and "died process=feed" in found.err


def test_the_live_view_shows_markets_hops_processes_and_events(world):  # noqa: F811
    streams = sys.stdout, sys.stderr
    screen = LiveScreen("tickring demo (paper)")
    text = io.StringIO()
    screen.console = Console(file=text, force_terminal=True, width=140)
    screen.live.console = screen.console
    screen.progress("processes.risk.app", 3, 9)
    screen.event("placement", reason="two cores")
    screen.tick(supervisor_of(world["setup"]), 10**9)
    assert (sys.stdout, sys.stderr) == streams  # processes are forked with them: they stay plain
    screen.close()
    shown = text.getvalue()
    for part in (
        "kernels [##########", "two cores", "64210.00", "64210.40", "recv_to_book", "gateway",
        "orders 1,234", "Ctrl-C stops in order",
    ):  # fmt: skip
        assert part in shown, part


def ring(**changes):
    row = {"offered": 10, "published": 8, "dropped": 2, "consumed": 5, "lag": 3}
    return row | changes


@pytest.mark.parametrize("changes", [{"offered": 9}, {"dropped": 3}, {"lag": 2}, {"consumed": 6}])
def test_one_wrong_sum_unbalances_the_ledger(changes):
    assert is_balanced([ring(), ring()])
    assert not is_balanced([ring(), ring(**changes)])


def summed(world):  # noqa: F811
    processes = list(supervisor_of(world["setup"]).processes.values())
    return summarize(world["instance"], processes, 3.25, stop_ns=0)


def test_the_summary_has_exact_numbers_and_its_json_too(world, tmp_path):  # noqa: F811
    found = summed(world)
    assert found["pnl"] == Decimal("-0.79600000") and found["fees"] == Decimal("1.00000000")
    assert found["position"] == {"BTCUSDT": "0.010", "ETHUSDT": "0.010"}
    assert found["orders_sent"] == 1_234
    path = tmp_path / "s.json"
    write_summary(path, found)
    text = path.read_text()
    assert '"pnl": -0.79600000' in text
    assert json.loads(text)["processes"][0]["core"] is None


def test_the_verdict_names_everything_that_is_wrong(world):  # noqa: F811
    good = summed(world) | {"venue_position": {"BTCUSDT": "0.010", "ETHUSDT": "0.010"}}
    good |= {"fills": 0}
    assert verdict(good) == []
    for change, said in (
        ({"ledger_balanced": False}, "ledger: "),
        ({"venue_position": {"BTCUSDT": "0.011", "ETHUSDT": "0.010"}}, "positions: "),
        ({"is_reconciled": False}, "reconcile: "),
        ({"fills_mismatched": 1}, "fills: 1 differ"),
        ({"fills": 3}, "fills: 0 of 3 are matched"),
    ):
        (wrong,) = verdict(good | change)
        assert wrong.startswith(said)
        assert "WRONG" in report(good | change, [wrong])


def test_the_end_of_a_run_says_where_it_was_recorded(world, tmp_path):  # noqa: F811
    assert recording_of(tmp_path, 7) is None
    run = tmp_path / "recordings" / "20261128-175150-7"
    for complete, stopped, said in (
        (True, "in order", f"recording {run} complete"),
        (False, "", f"recording {run} NOT COMPLETE: was killed"),
        (False, "disk full", f"recording {run} NOT COMPLETE: disk full"),
    ):
        write_manifest(run, {"complete": complete, "stopped": stopped})
        found = summed(world) | {"recording": recording_of(tmp_path, 7)}
        assert report(found, []).splitlines()[-1] == said
    assert recording_of(tmp_path, 17) is None

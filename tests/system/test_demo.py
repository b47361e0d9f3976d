"""The whole system on the local exchange: a short run, and every kill -9."""

import contextlib
import json
import math
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common import clock
from processes.inspector.sampler import HOPS
from shm import registry

from tests.support import ROOT, is_alive, wait_until
from tests.system.harness import STEP_S_MAX, Demo

RECONCILED_S_MAX = 10.0  # from a kill -9 to a position that equals the venue's, whatever the load
PROCESSES = ["venue", "feed", "book", "strategy", "risk", "gateway", "rest", "recorder"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    runs: list[Demo] = []

    def begin(*arguments: str, **changes: str) -> Demo:
        runs.append(Demo(tmp_path, *arguments, **changes))
        return runs[-1]

    yield begin
    for run in runs:
        run.end()


def tickring(*arguments: str) -> str:
    found = subprocess.run(
        [sys.executable, "-m", "processes.cli", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=STEP_S_MAX,
    )
    assert found.returncode == 0, (arguments, found.stderr)
    return found.stdout


def check_summary(found: dict[str, Any]) -> None:
    """Check what must hold of every run that was stopped in order."""
    assert set(found) >= {
        "schema", "instance", "duration_s", "processes", "rings", "market_events",
        "decode_errors", "gaps", "orders_sent", "acks", "fills", "rejects", "position",
        "venue_position", "pnl", "fees", "hop_latency_ns", "ledger_balanced",
    }  # fmt: skip
    assert [row["name"] for row in found["processes"]] == PROCESSES
    for row in found["processes"]:
        assert set(row) == {"name", "pid", "core", "restarts", "rss_bytes"}
        assert row["pid"] > 0 and row["rss_bytes"] > 0
    assert len(found["rings"]) == 14
    for row in found["rings"]:
        assert set(row) == {
            "name", "offered", "published", "consumed", "dropped", "lag", "lag_max",
        }  # fmt: skip
        assert row["offered"] == row["published"] + row["dropped"], row
        assert row["published"] == row["consumed"] + row["lag"], row
    assert found["ledger_balanced"] is True
    assert found["position"] == found["venue_position"]
    assert set(found["position"]) == {"BTCUSDT", "ETHUSDT", "SOLUSDT"}
    assert found["fills_matched"] == found["fills"] and found["fills_mismatched"] == 0
    assert math.isfinite(found["pnl"]) and math.isfinite(found["fees"])
    assert set(found["hop_latency_ns"]) == set(HOPS)
    for hop in found["hop_latency_ns"].values():
        assert list(hop) == ["count", "p50", "p99", "p99.9", "max"]
        assert 0 < hop["p50"] <= hop["p99"] <= hop["p99.9"] <= hop["max"]


def check_recording(demo: Demo) -> None:
    """Check that all that was published is in the recording, and that it says so."""
    run = demo.recording()
    assert run.manifest["complete"] and run.check() == []
    assert demo.summary["recording"]["path"] == str(run.path)
    assert f"recording {run.path} complete" in demo.text
    published = {row["name"]: row["published"] for row in demo.summary["rings"]}
    del published["rest.session.gateway"]  # it carries a secret
    for name, count in published.items():
        assert run.rings[name].spans == ([(0, count)] if count else []), name
        assert run.rings[name].gaps == []
    assert run.rings["strategy.state"].spans[0][1] > 1
    run.close()


def test_a_short_run_trades_and_reconciles(start: Any) -> None:
    demo = start("--for", "12s")
    assert demo.wait_exit() == 0, demo.text[-6_000:]
    found = demo.summary
    check_summary(found)
    assert found["instance"] == demo.name
    assert 11.9 < found["duration_s"] < 20
    assert found["market_events"] > 500 and found["decode_errors"] == 0 and found["gaps"] == 0
    assert found["orders_sent"] > 20 and found["acks"] > 20 and found["fills"] > 3
    assert all(row["restarts"] == 0 for row in found["processes"])
    assert all(row["dropped"] == 0 for row in found["rings"])
    assert "kernel_compiled_late" not in demo.text
    check_recording(demo)
    assert registry.segments(demo.name) == []


def test_the_tools_see_a_running_system(start: Any) -> None:
    demo = start()
    demo.wait_ready()
    demo.wait_for(lambda: demo.counter("risk", "acks") > 5, "orders are acknowledged")
    own = ("--instance", demo.name)
    status = json.loads(tickring("status", "--json", *own))
    assert status["live"] and status["phase"] == "RUNNING"
    assert {row["name"]: row["state"] for row in status["processes"]} == dict.fromkeys(
        PROCESSES, "READY"
    )
    rings = {r["name"]: r for r in json.loads(tickring("rings", "--json", *own))["rings"]}
    assert rings["feed.market.book"]["published"] > 100
    lines = tickring("tail", "feed.market.book", "-n", "50", "--json", *own).splitlines()
    assert len(lines) == 50 and {"DIFF_BEGIN", "LEVELS"} & {json.loads(x)["kind"] for x in lines}
    orders = tickring("tail", "risk.order.gateway", "-n", "5", "--json", *own).splitlines()
    assert {json.loads(x)["kind"] for x in orders} <= {"NEW", "REPLACE", "CANCEL", "CANCEL_ALL"}
    for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT"):
        book = json.loads(tickring("book", symbol, "--json", *own))
        assert book["valid"] and len(book["bids"]) == len(book["asks"]) == 10
        assert float(book["bids"][0][0]) < float(book["asks"][0][0])
    stat = json.loads(tickring("stat", "--match", "risk", "--json", *own))
    assert any(row["process"] == "risk" for row in stat["processes"])
    pictures = tickring("top", "--json", "--count", "2", "--every", "200ms", *own).splitlines()
    assert json.loads(pictures[-1])["counts"]["acks"] > 5
    assert float(demo.account("/fapi/v3/account")["totalWalletBalance"]) > 0
    tickring("down", *own)
    assert demo.wait_exit() == 0, demo.text[-6_000:]
    check_summary(demo.summary)


def test_every_process_may_be_killed_while_it_trades(start: Any) -> None:
    demo = start()
    demo.wait_ready()
    before = demo.kill("recorder")
    demo.wait_for(lambda: demo.is_back("recorder", before), "recorder is back")
    for process in ["feed", "book", "strategy", "rest", "gateway", "risk"]:
        acks = demo.counter("risk", "acks")
        demo.wait_for(lambda acks=acks: demo.counter("risk", "acks") > acks + 3, "it trades")
        killed_ns = clock.now_ns()
        before = demo.kill(process)
        demo.wait_for(
            lambda name=process, row=before: demo.is_back(name, row), f"{process} is back"
        )
        demo.wait_for(
            lambda since_ns=killed_ns: demo.counter("risk", "reconciled_ns") > since_ns,
            f"reconciled after {process} was killed",
        )
        # Risk's own stamp: of the account's answer that its position was compared with.
        took_s = (demo.counter("risk", "reconciled_ns") - killed_ns) / 1e9
        assert took_s <= RECONCILED_S_MAX, (process, demo.text[-6_000:])
        demo.wait_for(
            lambda: demo.own_positions() == demo.venue_positions(),
            f"positions equal the venue's after {process} was killed",
        )
        assert demo.status(process)["restarts"] == 1
        acks = demo.counter("risk", "acks")
        demo.wait_for(
            lambda acks=acks: demo.counter("risk", "acks") > acks,
            f"it trades again after {process} was killed",
        )
    demo.process.send_signal(signal.SIGINT)
    assert demo.wait_exit() == 0, demo.text[-6_000:]
    found = demo.summary
    check_summary(found)
    restarts = {row["name"]: row["restarts"] for row in found["processes"]}
    assert restarts == {name: int(name != "venue") for name in PROCESSES}
    check_recording(demo)
    assert "bug error" not in demo.text


def test_the_others_cancel_all_and_leave_when_the_supervisor_is_killed(start: Any) -> None:
    demo = start()
    demo.wait_ready()
    demo.wait_for(lambda: demo.account("/fapi/v1/openOrders"), "orders are open")
    pids = [demo.status(name)["pid"] for name in PROCESSES]
    killed_ns = clock.now_ns()
    demo.process.kill()
    demo.process.wait()
    wait_until(lambda: not any(is_alive(pid) for pid in pids), "all have left", STEP_S_MAX)
    assert demo.text.count("orphan_exit drained=True late=False") == len(PROCESSES), demo.text
    assert demo.counter("risk", "active_orders") == 0
    assert demo.recording().manifest["complete"]
    assert not registry.is_live(demo.name)
    with contextlib.closing(demo.instance()) as instance:
        for row in instance.positions():
            assert row["venue_position_steps"] == row["position_steps"], row
            compared_s = (row["ts_venue_position_ns"] - killed_ns) / 1e9
            assert 0 < compared_s <= RECONCILED_S_MAX, (row, demo.text[-6_000:])


def test_a_kill_stops_trading_and_outlives_the_run(start: Any) -> None:
    demo = start()
    demo.wait_ready()
    demo.wait_for(lambda: demo.account("/fapi/v1/openOrders"), "orders are open")
    tickring("kill", "--instance", demo.name)
    demo.wait_for(lambda: not demo.account("/fapi/v1/openOrders"), "all orders are canceled")
    sent = demo.counter("risk", "orders_sent")
    refused = demo.counter("risk", "reject_killed")
    demo.wait_for(lambda: demo.counter("risk", "reject_killed") > refused + 3, "refusals")
    assert demo.counter("risk", "orders_sent") == sent
    assert (demo.folder / "state" / "kill").read_text() == "COMMAND_LINE\n"
    demo.process.send_signal(signal.SIGTERM)
    assert demo.wait_exit() == 0, demo.text[-6_000:]
    again = start("--for", "3s")
    assert again.wait_exit() == 0, again.text[-6_000:]
    assert "killed_before source=COMMAND_LINE" in again.text
    assert again.summary["orders_sent"] == 0

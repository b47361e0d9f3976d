"""The tools on a small instance, alive and dead: as tables and as JSON."""

import json
import os
import subprocess
import sys
from decimal import Decimal

import numpy as np
import pytest

from common.enums import KillSource
from common.errors import UnavailableError, UsageError
from processes.inspector import doctor, instance, show
from processes.inspector.book import book
from processes.inspector.instance import Instance, choose_instance
from processes.inspector.kill import press
from processes.inspector.sampler import Sampler, net_pnl, status_line
from processes.inspector.tail import decode, tail
from processes.inspector.top import top
from processes.supervisor import control
from processes.supervisor.segments import read_kill_file
from shm import registry
from shm.latch import Latch

from tests.support import ROOT


def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "processes.cli", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_rings_balance_and_say_what_is_where(world, capsys):
    show.rings(world["instance"], as_json=True)
    found = {row["name"]: row for row in json.loads(capsys.readouterr().out)["rings"]}
    assert len(found) == 14
    row = found["feed.market.book"]
    assert (row["offered"], row["published"], row["lag"]) == (3, 3, 3)
    assert found["strategy.intent.risk"]["consumed"] == 1
    for row in found.values():
        assert row["offered"] == row["published"] + row["dropped"]
        assert row["published"] == row["consumed"] + row["lag"]
    show.rings(world["instance"], as_json=False)
    text = capsys.readouterr().out
    assert "feed.market.book" in text and "conflate" in text


def test_a_drop_and_its_gap_keep_the_ledger_balanced(world):
    market = world["market"]
    for _ in range(100):
        market.write(np.full((1, 8), 6, np.int64))
    row = next(r for r in world["instance"].ring_stats() if r["name"] == "feed.market.book")
    assert row["dropped"] > 0
    assert row["offered"] == row["published"] + row["dropped"]


def test_stat_shows_labels_and_finds_by_them(world, capsys):
    show.stat(world["instance"], "", as_json=True)
    (risk,) = json.loads(capsys.readouterr().out)["processes"]
    assert risk["process"] == "risk"
    assert risk["counters"][0] == {
        "name": "orders_sent", "value": 1_234, "label": "Orders sent (monotonic)",
    }  # fmt: skip
    assert risk["histograms"][0]["count"] == 5
    show.stat(world["instance"], "fills", as_json=True)
    (risk,) = json.loads(capsys.readouterr().out)["processes"]
    assert [row["name"] for row in risk["counters"]] == ["fills"]
    show.stat(world["instance"], "orders", as_json=False)
    assert "1,234  Orders sent" in capsys.readouterr().out


def test_tail_shows_the_last_records(world, capsys):
    tail(world["instance"], "feed.market.book", 2, follow=False, as_json=True)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["sequence"], line["kind"], line["qty_steps"]) for line in lines] == [
        (1, "TRADE", 2_000), (2, "TRADE", 3_000),
    ]  # fmt: skip
    assert lines[0]["aggressor_side"] == "ASK"
    full = f"tickring.{world['instance'].name}.feed.market.book"
    tail(world["instance"], full, 1, follow=False, as_json=False)
    text = capsys.readouterr().out
    assert "BTCUSDT" in text and "price=64210.10" in text and "qty=3.000" in text


def test_tail_of_typed_rings_and_unknown_ones(world, capsys):
    tail(world["instance"], "strategy.intent.risk", 10, follow=False, as_json=True)
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["kind"] == "NEW" and json.loads(line)["side"] == "BID"
    with pytest.raises(UsageError, match=r"ring: 'feed', expected one of feed\.market\.book"):
        tail(world["instance"], "feed", 1, follow=False, as_json=True)


def test_decode_survives_any_bytes():
    random = np.random.default_rng(5)
    for _ in range(300):
        slot = random.integers(-(2**63), 2**63 - 1, 8, dtype=np.int64)
        assert "kind" in decode("MARKET", slot)


def test_a_listen_key_is_never_shown():
    from common.records import LAYOUTS

    session = np.zeros(1, LAYOUTS["SESSION"])
    session["listen_key"] = 65
    assert "listen_key" not in decode("SESSION", session[0])


def test_book_is_the_newest_of_its_symbol(world, capsys):
    book(world["instance"], "btcusdt", as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["last_update_id"] == 9 and found["valid"] is True
    assert found["bids"] == [["64210.20", "0.010"], ["64210.10", "0.020"]]
    assert found["asks"] == [["64210.30", "0.005"], ["64210.40", "0.006"]]
    book(world["instance"], "ETHUSDT", as_json=False)
    assert "3180.00" in capsys.readouterr().out
    with pytest.raises(UsageError, match="symbol: 'XRP', expected one of BTCUSDT, ETHUSDT"):
        book(world["instance"], "XRP", as_json=True)


def test_status_has_the_fields_of_the_summary(world, capsys):
    found = control.status(world["instance"].name)
    assert found["live"] is True and found["mode"] == "paper"
    rows = {row["name"]: row for row in found["processes"]}
    assert list(rows) == ["venue", "feed", "book", "strategy", "risk", "gateway", "rest"]
    assert {"name", "pid", "core", "restarts", "rss_bytes"} <= set(rows["risk"])
    assert rows["risk"]["pid"] == os.getpid() and rows["risk"]["rss_bytes"] > 0
    assert rows["feed"]["state"] == "NEVER_STARTED"
    show.status(found, as_json=False)
    assert "supervisor pid" in capsys.readouterr().out


def test_pnl_is_exact(world):
    # 10 lots of 0.001 bought at 64200.0, mid 64210.2: 0.102 on each of two symbols, 0.5 fees each.
    assert net_pnl(world["instance"], world["instance"].positions()) == Decimal("-0.79600000")


def test_top_samples_as_often_as_asked(world, capsys):
    top(world["instance"].name, 1_000_000, 2, as_json=True)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 2
    assert lines[0]["counts"]["orders"] == 1_234 and lines[0]["pnl"] == -0.796
    assert [row["bid"] for row in lines[0]["best"]] == ["64210.00", "64210.00"]
    line = status_line(Sampler(world["instance"]).take(1))
    assert "BTCUSDT 64210.00/64210.40 0.010" in line


def test_kill_sets_the_word_rings_the_bells_and_writes_the_file(world):
    name = world["instance"].name
    bell = world["risk"].bell
    bell.drain()
    assert press(name)["was_set"] is False
    with_page = Latch.open(registry.instance_name(name, "kill"))
    assert with_page.get(KillSource.COMMAND_LINE) == 1
    with_page.close()
    assert bell.drain() == 1
    assert press(name)["was_set"] is True
    assert world["instance"].killed_by() == ["COMMAND_LINE"]
    assert set(read_kill_file(world["state_dir"])) == {KillSource.COMMAND_LINE}
    assert (world["state_dir"] / "kill").stat().st_mode & 0o777 == 0o600


def test_a_kill_file_that_is_no_kill_file_is_no_permission_to_trade(world):
    (world["state_dir"] / "kill").write_text("MAYBE\n")
    with pytest.raises(UnavailableError, match="expected names of kill sources"):
        read_kill_file(world["state_dir"])


def test_everything_works_on_a_dead_instance(world, capsys):
    world["pages"].close(keep=True)
    instance = Instance(world["instance"].name)
    assert not instance.is_live
    show.rings(instance, as_json=True)
    show.stat(instance, "", as_json=False)
    tail(instance, "feed.market.book", 5, follow=False, as_json=False)
    book(instance, "BTCUSDT", as_json=True)
    assert control.status(instance.name)["live"] is False
    assert press(instance.name)["live"] is False
    with pytest.raises(UnavailableError, match="is not running"):
        control.down(instance.name)
    assert len(control.clean(instance.name)) > 20
    assert instance.name not in registry.instances()


def test_the_instance_is_chosen_or_must_be_named(world, monkeypatch):
    name = world["instance"].name
    assert choose_instance(name) == name
    with pytest.raises(UnavailableError, match="no 'other' on this host, expected one of"):
        choose_instance("other")
    monkeypatch.setattr(registry, "instances", lambda: [])
    with pytest.raises(UnavailableError, match="none on this host"):
        choose_instance()
    monkeypatch.setattr(registry, "instances", lambda: [name])
    assert choose_instance() == name
    monkeypatch.setattr(registry, "instances", lambda: [name, "dead-one"])
    monkeypatch.setattr(registry, "is_live", lambda one: False)
    assert choose_instance() == name  # the other has no registry: it is a dead start's leftover
    monkeypatch.undo()
    monkeypatch.setattr(registry, "instances", lambda: [name, "dead-one"])
    monkeypatch.setattr(instance, "exists", lambda segment: True)
    assert choose_instance() == name  # the only live one
    monkeypatch.setattr(registry, "is_live", lambda one: True)
    with pytest.raises(UsageError, match="expected one of them"):
        choose_instance()


def test_the_tools_by_their_command_line_survive_head(world):
    name = world["instance"].name
    for verb in (
        ["rings"],
        ["stat"],
        ["status"],
        ["tail", "feed.market.book"],
        ["book", "BTCUSDT"],
    ):
        found = cli(*verb, "--instance", name, "--json")
        assert found.returncode == 0, (verb, found.stderr)
        json.loads(found.stdout.splitlines()[0] if verb[0] == "tail" else found.stdout)
    command = f"{sys.executable} -m processes.cli tail book.book.strategy --instance {name} -f"
    found = subprocess.run(
        ["bash", "-c", f"{command} | head -n 2"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert len(found.stdout.splitlines()) == 2 and found.stderr == ""


def test_doctor_reports_every_check(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "ROUNDS", 200)
    monkeypatch.setattr(doctor, "ROUNDS_WARM_UP", 20)
    doctor.doctor(as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in found["checks"]] == list(doctor.CHECKS)
    assert {row["state"] for row in found["checks"]} <= {"ok", "missing", "unknown"}
    if len(os.sched_getaffinity(0)) > 1:
        (latency,) = found["ring_round_trip_ns"]
        assert latency["count"] == 200 and 0 < latency["p50"] <= latency["p99"]
    assert not [name for name in registry.instances() if name.startswith("doctor")]


def test_an_instance_of_another_build_is_shown_with_a_warning(world, capsys, monkeypatch):
    name = world["instance"].name
    assert choose_instance(name) == name
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(registry.segment, "build_hash", lambda: 7)
    assert choose_instance(name) == name
    assert f"{name}: another build than these tools made it" in capsys.readouterr().err

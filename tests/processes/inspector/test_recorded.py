"""The tools on recordings: the list, and tail, book and rings as on a live instance."""

import json

import msgspec
import numpy as np
import pytest

from common.errors import UsageError
from processes.inspector import recorded
from processes.inspector.book import book
from processes.inspector.recorded import RecordedInstance, find_run, recordings
from processes.inspector.tail import tail
from processes.recorder.config import RecorderConfig
from processes.recorder.tap import RingTap
from shm import registry
from shm.recording import write_manifest

from tests.processes.inspector.conftest import INSTRUMENTS

STARTED_WALL_NS = 1_795_888_310_265_989_843


@pytest.fixture
def run(world, tmp_path):
    """Record what is in the rings of the small instance."""
    path = tmp_path / "recordings" / "20261128-175150-7"
    config = RecorderConfig(total_bytes_max=1 << 30)
    instance = world["instance"]
    for key in ("feed.market.book", "book.book.strategy", "strategy.intent.risk"):
        tap = RingTap(path, key, registry.ring_name(instance.name, *key.split(".")), config)
        tap.move(np.zeros(1 << 12, np.int64))
        tap.writer.close()
        tap.close()
    write_manifest(
        path,
        {
            "instance": instance.name,
            "started_wall_ns": STARTED_WALL_NS,
            "complete": True,
            "instruments": msgspec.to_builtins(INSTRUMENTS),
        },
    )
    return path


def listed(state_dir, capsys, check=False):
    code = recordings(state_dir, check, as_json=True)
    return code, json.loads(capsys.readouterr().out)


def test_the_list_says_what_there_is(run, world, tmp_path, capsys):
    code, (row,) = listed(tmp_path, capsys)
    size = sum(one.stat().st_size for one in run.rglob("*") if one.is_file())
    assert code == 0 and row == {
        "path": str(run),
        "started": "2026-11-28T17:51:50Z",
        "instance": world["instance"].name,
        "size_bytes": size,
        "complete": True,
        "stopped": "",
    }
    recordings(tmp_path, False, as_json=False)
    assert "2026-11-28T17:51:50Z" in capsys.readouterr().out


def test_the_list_looks_where_instances_here_keep_their_state(run, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(recorded, "STATE_DIRS", str(tmp_path / "home"))
    assert str(run) in {row["path"] for row in listed(None, capsys)[1]}
    other = tmp_path / "home" / "demo" / "recordings" / "1"
    write_manifest(other, {"instance": "demo", "started_wall_ns": 0, "complete": False})
    assert str(other) in {row["path"] for row in listed(None, capsys)[1]}


def test_a_run_that_cannot_be_read_is_told_and_the_others_are_listed(run, tmp_path, capsys):
    for name, content in (("a", "{"), ("b", "{}")):
        (run.parent / name).mkdir()
        (run.parent / name / "manifest.json").write_text(content)
    assert recordings(tmp_path, False, as_json=True) == 0
    found = capsys.readouterr()
    assert [row["path"] for row in json.loads(found.out)] == [str(run)]
    assert "a/manifest.json" in found.err and "'started_wall_ns' is missing" in found.err


def test_check_names_the_damage(run, tmp_path, capsys):
    assert listed(tmp_path, capsys, check=True)[1][0]["damage"] == []
    path = next((run / "feed.market.book").glob("*.slots"))
    raw = bytearray(path.read_bytes())
    raw[-10] ^= 1
    path.write_bytes(raw)
    code, (row,) = listed(tmp_path, capsys, check=True)
    assert code == 1 and f"bytes {len(raw) - 192} to {len(raw) - 1} " in row["damage"][0]


def test_a_run_is_found_by_path_and_by_id(run, tmp_path):
    assert find_run(str(run)) == run
    assert find_run(run.name, tmp_path) == run
    with pytest.raises(UsageError, match="none of that id or path, expected one"):
        find_run("20200101-000000-1", tmp_path)


def test_only_one_thing_is_looked_at(run):
    assert isinstance(recorded.choose("", str(run)), RecordedInstance)
    with pytest.raises(UsageError, match="--instance and --run are given"):
        recorded.choose("a", str(run))


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("ring", ["feed.market.book", "book.book.strategy", "strategy.intent.risk"])
def test_tail_prints_what_it_prints_of_the_live_ring(run, world, capsys, ring, as_json):
    tail(world["instance"], ring, 3, follow=False, as_json=as_json)
    live = capsys.readouterr().out
    tail(RecordedInstance(run), ring, 3, follow=False, as_json=as_json)
    assert capsys.readouterr().out == live != ""


def test_tail_of_a_recording_does_not_follow_and_knows_its_rings(run):
    instance = RecordedInstance(run)
    with pytest.raises(UsageError, match="a recording has an end"):
        tail(instance, "feed.market.book", 1, follow=True, as_json=True)
    with pytest.raises(UsageError, match="ring: 'feed', expected one of book.book.strategy, feed"):
        tail(instance, "feed", 1, follow=False, as_json=True)


def test_book_prints_what_it_prints_of_the_live_ring(run, world, capsys):
    book(world["instance"], "BTCUSDT", as_json=True)
    live = json.loads(capsys.readouterr().out)
    book(RecordedInstance(run), "BTCUSDT", as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found | {"age_ms": 0} == live | {"age_ms": 0} and found["age_ms"] == 0


def test_rings_tells_what_was_recorded_and_lost(run, world, capsys):
    for _ in range(100):
        world["market"].write(np.full((1, 8), 6, np.int64))
    config = RecorderConfig(total_bytes_max=1 << 30)
    name = registry.ring_name(world["instance"].name, "feed", "market", "book")
    tap = RingTap(run, "feed.market.book", name, config)
    tap.observer.next_sequence = 3
    tap.writer.gap(3, 9)
    tap.observer.next_sequence = 10
    tap.move(np.zeros(16, np.int64))
    tap.writer.close()
    tap.close()
    recorded.rings(RecordedInstance(run), as_json=True)
    found = {row["name"]: row for row in json.loads(capsys.readouterr().out)["rings"]}
    row = found["feed.market.book"]
    assert [row[field] for field in ("first", "end", "recorded", "gaps", "lost")] == [
        0,
        12,
        5,
        1,
        7,
    ]
    tail(RecordedInstance(run), "feed.market.book", 9, follow=False, as_json=False)
    assert "lapped: 7 records" in capsys.readouterr().out
    recorded.rings(RecordedInstance(run), as_json=False)
    assert "book.book.strategy" in capsys.readouterr().out

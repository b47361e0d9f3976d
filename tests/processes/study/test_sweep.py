import csv
import json
import os
import signal
import subprocess
import sys

import psutil
import pytest

from common.errors import TickringError, UnavailableError, UsageError
from processes.study.plan import plan_of
from processes.study.results_file import FILE_NAME, ResultsFile
from processes.study.sweep import RANKING_NAME, engine_of, run_sweep

from tests.processes.study.fake_engine import DEADLY, MAKE_FAKE, write_market
from tests.support import ROOT, wait_until

GRID = ["edge=1,2,3,4,5,6", "lookback=1,2,3,4,5"]


@pytest.fixture
def market(tmp_path):
    (tmp_path / "c.toml").write_text("spins = 0\n")
    return write_market(tmp_path / "market")


def swept(tmp_path, out, *, grid=GRID, jobs=1, config="c.toml", metric="pnl"):
    plan = plan_of(tmp_path / config, [tmp_path / "market"], grid, metric, jobs)
    return run_sweep(plan, MAKE_FAKE, tmp_path / out, engine_of("local", MAKE_FAKE, ""), False)


def lines(tmp_path, out):
    return sorted((tmp_path / out / FILE_NAME).read_bytes().splitlines())


def test_results_do_not_depend_on_the_number_of_processes(tmp_path, market):
    assert swept(tmp_path, "one", jobs=1) == swept(tmp_path, "three", jobs=3) == 0
    ranking = (tmp_path / "one" / RANKING_NAME).read_bytes()
    assert ranking == (tmp_path / "three" / RANKING_NAME).read_bytes()
    assert lines(tmp_path, "one") == lines(tmp_path, "three")
    assert len(lines(tmp_path, "one")) == 30


def test_the_ranking_is_in_order(tmp_path, market, capsys):
    swept(tmp_path, "out", metric="max_drawdown")
    rows = list(csv.DictReader((tmp_path / "out" / RANKING_NAME).read_text().splitlines()))
    found = [float(row["max_drawdown"]) for row in rows]
    assert found == sorted(found) and len(set(found)) > 5
    assert [row["rank"] for row in rows] == [str(n) for n in range(1, 31)]
    printed = capsys.readouterr().out
    assert "30 combinations, 30 computed now, ranked by max_drawdown" in printed
    assert printed.splitlines()[0].split()[:4] == ["rank", "edge", "lookback", "max_drawdown"]


def test_a_second_sweep_computes_only_what_is_new(tmp_path, market, capsys):
    swept(tmp_path, "out", grid=["edge=1,2"])
    swept(tmp_path, "out", grid=["edge=1,2,3"])
    assert "3 combinations, 1 computed now" in capsys.readouterr().out
    write_market(tmp_path / "market", seed=9)
    swept(tmp_path, "out", grid=["edge=1,2,3"])
    assert "3 combinations, 3 computed now" in capsys.readouterr().out
    assert len(lines(tmp_path, "out")) == 6


def test_failures_are_told_and_tried_again(tmp_path, market, capsys):
    grid = [f"edge=1,{DEADLY},2", "lookback=2,x"]
    assert swept(tmp_path, "out", grid=grid, jobs=2) == 1
    told = capsys.readouterr()
    assert f"failed: edge={DEADLY} lookback=2: its process ended with SIGKILL" in told.err
    assert "failed: edge=1 lookback=x: " in told.err and "expected an integer" in told.err
    assert told.err.count("failed: ") == 4
    assert "6 combinations, 6 computed now" in told.out
    rows = list(csv.DictReader((tmp_path / "out" / RANKING_NAME).read_text().splitlines()))
    assert [bool(row["error"]) for row in rows] == [False] * 2 + [True] * 4
    assert swept(tmp_path, "out", grid=grid, jobs=2) == 1
    assert "6 combinations, 4 computed now" in capsys.readouterr().out


def test_a_grid_of_which_nothing_is_valid_is_refused_before_anything_runs(tmp_path, market):
    with pytest.raises(TickringError, match="expected an integer"):
        swept(tmp_path, "out", grid=["edge=1,2", "lookback=x,y"])
    assert not (tmp_path / "out").exists()


def test_kill_in_the_middle_then_resume(tmp_path, market):
    """kill -9 of the parent: the workers go too, and a resumed sweep ends as an unbroken one."""
    (tmp_path / "slow.toml").write_text("spins = 400\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.processes.study.fake_engine",
         tmp_path / "slow.toml", market, tmp_path / "broken", "2", *GRID],
        cwd=ROOT, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    file = tmp_path / "broken" / FILE_NAME

    def has_begun():
        assert process.poll() is None, "the sweep ended before it could be killed"
        return file.exists() and file.read_bytes().count(b"\n") >= 4

    wait_until(has_begun, "four results", 30)
    workers = psutil.Process(process.pid).children()
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert len(workers) == 2
    wait_until(lambda: not any(one.is_running() for one in workers), "the workers' end")
    kept = file.read_bytes()
    kept = kept[: kept.rfind(b"\n") + 1]
    assert 4 <= kept.count(b"\n") < 30
    file.write_bytes(kept + kept.splitlines()[0][:37])  # and the torn line of a bad moment
    assert swept(tmp_path, "broken", jobs=2, config="slow.toml") == 0
    assert swept(tmp_path, "whole", jobs=2, config="slow.toml") == 0
    assert file.read_bytes().startswith(kept)
    assert lines(tmp_path, "broken") == lines(tmp_path, "whole")
    assert (tmp_path / "broken" / RANKING_NAME).read_bytes() == (
        tmp_path / "whole" / RANKING_NAME
    ).read_bytes()


def test_every_prefix_of_the_file_resumes(tmp_path):
    """Cut at any byte, what is whole is kept and nothing else."""
    results = ResultsFile(tmp_path)
    for n in range(4):
        results.add(f"key{n}", {"a": str(n)}, {"figures": {"pnl": n / 10}})
    results.close()
    content = (tmp_path / FILE_NAME).read_bytes()
    for end in range(len(content) + 1):
        (tmp_path / FILE_NAME).write_bytes(content[:end])
        opened = ResultsFile(tmp_path)
        opened.close()
        whole = content[:end].count(b"\n")
        assert sorted(opened.found) == [f"key{n}" for n in range(whole)]
        assert (tmp_path / FILE_NAME).stat().st_size == content[:end].rfind(b"\n") + 1
        assert opened.torn_bytes == end - content[:end].rfind(b"\n") - 1


def test_two_sweeps_do_not_write_one_file(tmp_path):
    first = ResultsFile(tmp_path)
    with pytest.raises(UnavailableError, match="another sweep writes it"):
        ResultsFile(tmp_path)
    first.close()
    ResultsFile(tmp_path).close()


def test_a_foreign_file_is_refused(tmp_path):
    (tmp_path / FILE_NAME).write_text('{"key": "a"}\nhello\n')
    with pytest.raises(UsageError, match=r"results\.jsonl:2: b'hello', expected a result"):
        ResultsFile(tmp_path)


def test_each_result_is_on_the_disk_when_told(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_size))
    results = ResultsFile(tmp_path)
    results.add("a", {}, {"error": "x"})
    results.add("b", {}, {"error": "y"})
    results.close()
    assert synced == [len(line) for line in _prefixes((tmp_path / FILE_NAME).read_bytes())]
    assert json.loads((tmp_path / FILE_NAME).read_text().splitlines()[1])["error"] == "y"


def _prefixes(content):
    rows = content.splitlines(keepends=True)
    return [b"".join(rows[: n + 1]) for n in range(len(rows))]


def test_unknown_engines_are_refused():
    with pytest.raises(UsageError, match="--engine: 'spark', expected local or ray"):
        engine_of("spark", MAKE_FAKE, "")


def test_ray_that_is_not_there_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UnavailableError, match=r"ray is not installed.*'tickring\[ray\]'") as found:
        engine_of("ray", MAKE_FAKE, "")
    assert found.value.exit_code == 69

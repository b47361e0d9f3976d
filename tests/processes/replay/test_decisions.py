"""Decision-exact replay of made-up sessions: nothing differs, and what was changed is found."""

import os
import re
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from common.errors import SegmentError, UsageError
from common.records import BOOK, ORDER_REQUEST, TURN
from processes import cli
from processes.replay import decisions, run
from processes.replay.decisions import Pace
from processes.replay.run import RunOptions, replay_run
from processes.replay.strategy_run import NoRecording, StrategyRun, is_whole
from processes.strategy.turn_log import HASHED_RECORDS

from tests.processes.replay.recorded_runs import RecordedSession, pack, rewrite, swap_two_turns
from tests.support import ROOT

LINE = re.compile(
    r"intents compared: (\d+)  differences: (\d+)  state hashes compared: (\d+)"
    r"  differences: (\d+)  coverage: (\d+\.\d) %"
)
MARKET = "book.book.strategy"
LOG = "strategy.turn.log"


@pytest.fixture(scope="module")
def long_run(tmp_path_factory):
    """More than 100,000 records, two restarts, a checkpoint."""
    session = RecordedSession(tmp_path_factory.mktemp("run") / "long")
    session.run(1_500, restarts=(400, 401, 900), checkpoints=(0, 700, 1_300), trades=160)
    return session.close()


@pytest.fixture(scope="module")
def short_run(tmp_path_factory):
    session = RecordedSession(tmp_path_factory.mktemp("run") / "short", seed=2)
    session.run(300, restarts=(150,))
    return session.close()


@pytest.fixture
def copy(short_run, tmp_path):
    """A recording that a test may change."""
    return shutil.copytree(short_run, tmp_path / "copy")


def verify(folder, capsys, **options):
    """Return (exit code, the five numbers of the last line, everything printed)."""
    code = replay_run(RunOptions(path=folder, verify=True, **options))
    text = capsys.readouterr().out
    match = LINE.fullmatch(text.splitlines()[-1])
    assert match, text
    return code, [float(number) for number in match.groups()], text


def read(folder, key, dtype):
    opened = run.Run.open(folder)
    words = opened.rings[key].read(*opened.rings[key].spans[0])
    opened.close()
    return words.view(dtype).reshape(-1)


def test_a_session_replays_without_a_difference_and_opens_no_socket(long_run, capsys, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("a replay opens no socket")

    monkeypatch.setattr(socket, "socket", refuse)
    code, numbers, text = verify(long_run, capsys)
    log = read(long_run, LOG, TURN)
    assert log["record_count"].sum() > HASHED_RECORDS
    hashes = np.count_nonzero(log["state_hash"])
    assert hashes == 4 + log["record_count"].sum() // HASHED_RECORDS
    assert (code, numbers) == (0, [log["intent_count"].sum(), 0, hashes, 0, 100.0]), text
    assert numbers[0] > 300
    assert f"turns 0 to {len(log) - 1}, from the fresh desk" in text
    assert "claim       byte identity: sources " in text
    assert "states      3 checkpoints compared" in text


def test_intents_that_the_recorder_was_not_told_of_are_asked_for(copy):
    shutil.rmtree(copy / "strategy.intent.risk")
    with pytest.raises(
        UsageError,
        match="nothing of strategy.intent.risk was recorded, and the turns in strategy.turn.log"
        " have sent [0-9]+ intents .*expected them .*name that ring in .recorder. rings",
    ):
        replay_run(RunOptions(path=copy, verify=True))


def test_other_sources_of_the_strategy_make_a_weaker_claim(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(RecordedSession, "layout_change", 1)
    session = RecordedSession(tmp_path / "run")
    session.run(30, checkpoints=(20,))
    code, _numbers, text = verify(session.close(), capsys)
    assert code == 0
    assert "not byte identity in general: other strategy (state recorded " in text


def test_another_machine_makes_a_weaker_claim(tmp_path, capsys):
    session = RecordedSession(tmp_path / "run")
    session.run(30)
    folder = session.close(numba="0.1.0", complete=False)
    code, _numbers, text = verify(folder, capsys)
    assert code == 0
    assert "not byte identity in general: other numba (recorded 0.1.0, here " in text
    assert "not complete: recording stopped without a word: it may end before the run" in text


def test_two_inputs_swapped_in_the_log_are_caught(copy, capsys):
    found = []
    rewrite(copy, LOG, lambda words: found.append(swap_two_turns(words)))
    code, numbers, text = verify(copy, capsys)
    assert code == 1
    assert numbers[1] + numbers[3] == 1 and numbers[4] < 100.0
    assert re.search(rf"difference  turn {found[0]} at ", text), text


def test_one_flipped_price_byte_is_caught_and_its_field_named(copy, capsys):
    def flip(words):
        headers = words.reshape(-1).view(BOOK)
        books = np.flatnonzero((headers["kind"] == 9) & (headers["bid_count"] > 0))
        words[books[40:] + 1, 2] ^= 1 << 8  # the best bid of every later book

    rewrite(copy, MARKET, flip)
    code, numbers, text = verify(copy, capsys)
    assert code == 1 and numbers[1] == 1 and numbers[4] < 100.0
    assert re.search(r"intent \d+: .*price_steps is \d+, recorded \d+", text), text
    assert "  recorded  " in text and "--pdb --until turn:" in text


def test_a_byte_flipped_in_a_file_is_named(copy):
    (path,) = (copy / MARKET).glob("*.slots")
    content = bytearray(path.read_bytes())
    content[-1_000] ^= 1
    path.write_bytes(content)
    with pytest.raises(SegmentError, match=r"\.slots: checksum of bytes \d+ to \d+"):
        replay_run(RunOptions(path=copy, verify=True))


def test_a_checkpoint_of_another_state_is_caught_and_its_field_named(long_run, tmp_path, capsys):
    folder = shutil.copytree(long_run, tmp_path / "copy")
    block = StrategyRun(run.Run.open(folder), "").block_dtype

    def change(words):
        words[1, 1:].view(block)["books"]["bid_qty_steps"][0, 1, 3] += 5

    rewrite(folder, "strategy.state", change)
    code, numbers, text = verify(folder, capsys)
    assert code == 1 and numbers[3] == 1
    found = re.search(
        r"checkpoint behind turn \d+ at .*: books\[1, 3\] bid_qty_steps is (\d+)", text
    )
    assert found and f"recorded {int(found[1]) + 5}" in text, text


def test_two_records_of_the_log_swapped_are_caught(copy, capsys):
    def swap(words):
        words[[70, 71]] = words[[71, 70]]

    rewrite(copy, LOG, swap)
    code, numbers, text = verify(copy, capsys)
    assert code == 1 and numbers[1] + numbers[3] == 1
    assert "difference  turn 70 at " in text


@pytest.mark.parametrize(("field", "differs"), [("ts_pub_ns", 0), ("order_slot", 1)])
def test_intents_may_differ_in_stamps_alone(copy, capsys, field, differs):
    def change(words):
        words.reshape(-1).view(ORDER_REQUEST)[field][60] += 1

    rewrite(copy, "strategy.intent.risk", change)
    code, numbers, text = verify(copy, capsys)
    assert (code, numbers[1]) == (differs, differs)
    assert not differs or "intent 60: order_slot is " in text


def test_what_if_shows_intents_that_would_have_been_others(short_run, capsys):
    options = RunOptions(path=short_run, changes={"strategy.edge_bps": "2.5"})
    assert replay_run(options) == 0
    text = capsys.readouterr().out
    assert "what if     edge_bps 2.5 instead of 1.0" in text
    assert re.search(r"^  - NEW AUSDT BID 0.\d+ at \d+\.\d slot \d+$", text, re.MULTILINE), text
    assert re.search(r"^  \+ NEW AUSDT BID 0.\d+ at \d+\.\d slot \d+$", text, re.MULTILINE), text
    real, other, turns = map(int, re.findall(r": (\d+)", text.splitlines()[-1]))
    assert real == read(short_run, LOG, TURN)["intent_count"].sum()
    assert other > 10 and turns > 10


def test_what_if_nothing_is_changed_nothing_differs(long_run, capsys):
    assert replay_run(RunOptions(path=long_run, changes={"edge_bps": "1.0"})) == 0
    real, other, turns = re.findall(r": (\d+)", capsys.readouterr().out.splitlines()[-1])
    assert real == other and turns == "0"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"changes": {"egde": "1"}}, "--set: 'egde', expected one of clip_notional"),
        ({"changes": {"position_clips_max": "1.5"}}, "is '1.5', expected an integer"),
        ({"changes": {"edge_bps": "x"}}, "is 'x', expected a number"),
        ({"changes": {"edge_bps": "1"}, "verify": True}, "asks what if, --verify what was"),
        ({"debugger": True}, "nothing to stop at, expected --until"),
        ({"speed": -1.0}, "--speed: -1.0, expected 0 or more"),
        ({"strategy": "other"}, "--strategy: 'other', expected one of strategy"),
        ({"until": "nowhere:4"}, "--until: 'nowhere:4', expected a sequence N of book.book."),
        ({"until": "turn:99999"}, "--until: turn 99999, expected 0 to 284"),
        ({"until": "99999"}, "no recorded turn took 99999 of book.book.strategy"),
    ],
)
def test_wrong_options_are_refused_with_a_reason(short_run, options, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        replay_run(RunOptions(path=short_run, **options))


def test_the_command_line_says_it_with_its_exit_code(copy):
    def tickring(*arguments):
        return CliRunner().invoke(cli.app, ["replay", str(copy), *arguments])

    found = tickring("--verify", "--strategy", "strategy")
    assert found.exit_code == 0 and LINE.fullmatch(found.output.splitlines()[-1]), found.output
    assert "what if     skew_bps 4.0 instead" in tickring("--set", "skew_bps=4").output
    rewrite(copy, LOG, swap_two_turns)
    assert tickring("--verify").exit_code == 1
    assert tickring("--verify", "--until", "turn:5").exit_code == 0


@pytest.mark.parametrize("until", ["turn:100", "100", "risk.report.strategy:20"])
def test_until_ends_behind_the_turn_that_takes_the_record(short_run, capsys, until):
    code, numbers, text = verify(short_run, capsys, until=until)
    (last,) = re.findall(r"turns 0 to (\d+), from the fresh desk", text)
    log = read(short_run, LOG, TURN)
    if until == "turn:100":
        assert last == "100"
    else:
        k, sequence = (2, 100) if until == "100" else (0, 20)
        turn = log[int(last)]
        first = turn["first_sequence"][k]
        assert first <= sequence < first + turn["record_count"][k]
    assert (code, numbers[0]) == (0, log["intent_count"][: int(last) + 1].sum())


def lossy_run(folder, checkpoints, **options):
    session = RecordedSession(folder, seed=5, **options)
    session.run(300, checkpoints=checkpoints)
    return session.close()


def test_behind_a_lap_it_goes_on_from_the_next_checkpoint(tmp_path, capsys):
    folder = lossy_run(tmp_path / "run", (50, 200), lost={MARKET: (900, 901)})
    code, numbers, text = verify(folder, capsys)
    assert code == 1 and numbers[1] == numbers[3] == 0 and 30 < numbers[4] < 100
    assert re.search(r"turns 0 to \d+, from the fresh desk\n +turns \d+ to \d+, from the ", text)
    assert re.search(r"turn \d+ cannot be taken: book.book.strategy \d+ to \d+ was not", text)


def test_a_lap_of_the_turn_log_and_of_intents_is_not_covered(tmp_path, capsys):
    lost = {LOG: (99, 99), "strategy.intent.risk": (5, 5)}
    folder = lossy_run(tmp_path / "run", (150,), lost=lost)
    code, numbers, text = verify(folder, capsys)
    assert code == 1 and numbers[1] == numbers[3] == 0 and 0 < numbers[4] < 100
    assert "turn 99 cannot be taken: the turn's record was not recorded" in text


def test_a_recording_that_begins_late_begins_at_a_checkpoint(tmp_path, capsys):
    session = RecordedSession(tmp_path / "unwatched", seed=5)
    session.run(40)
    session.begin_recording(tmp_path / "run")
    session.run(100, checkpoints=(10,))
    code, numbers, text = verify(session.close(), capsys)
    assert code == 1 and numbers[1] == numbers[3] == 0 and 50 < numbers[4] < 100
    assert re.search(r"turns (\d+) to \d+, from the checkpoint at turn \1", text)


@pytest.mark.parametrize("lost", [{}, {MARKET: (900, 901)}])
def test_packed_segments_replay_as_plain_ones(tmp_path, capsys, lost):
    """A run of many segments, two restarts, and a lap or none."""
    session = RecordedSession(tmp_path / "run", seed=5, lost=lost, segment_bytes_max=1 << 14)
    session.run(300, restarts=(100, 101), checkpoints=(50, 200))
    folder = session.close()
    plain = verify(folder, capsys)
    packed = pack(folder)
    assert len(packed) > 10 and not any(path.exists() for path in packed)
    assert verify(folder, capsys) == plain
    code, numbers, text = plain
    assert (code, numbers[1], numbers[3]) == (int(bool(lost)), 0, 0)
    assert numbers[4] == 100 or lost and "from the checkpoint at turn" in text


def test_uncompiled_kernels_decide_the_same(short_run, capsys):
    _code, _numbers, compiled = verify(short_run, capsys)
    done = replay_uncompiled(short_run, "--verify")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == compiled.splitlines()[-1]


def test_pdb_stops_at_the_record(short_run):
    commands = "p int(sequence), int(header['kind'])\ns\np header['kind']\nc\n"
    log = read(short_run, LOG, TURN)
    turn = log[np.flatnonzero(log["record_count"][:, 2])[30]]
    sequence = int(turn["first_sequence"][2])
    environment = {"NUMBA_DISABLE_JIT": "0"}
    done = replay_uncompiled(
        short_run, "--pdb", "--until", str(sequence), text=commands, environment=environment
    )
    assert done.returncode == 0, done.stderr
    assert "engine.py" in done.stdout and f"({sequence}, 9)" in done.stdout, done.stdout
    assert f"turns 0 to {turn['turn']}, from the fresh desk" in done.stdout


def replay_uncompiled(folder, *arguments, text="", environment=None):
    return subprocess.run(
        [sys.executable, "-m", "processes.cli", "replay", str(folder), *arguments],
        cwd=ROOT,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1", **(environment or {})},
        input=text,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_pace_lets_turns_pass_as_they_came(monkeypatch):
    clock_ns = [5_000]

    def sleep(duration_ns):
        clock_ns[0] += duration_ns

    monkeypatch.setattr(decisions.clock, "now_ns", lambda: clock_ns[0])
    monkeypatch.setattr(decisions.clock, "sleep_ns", sleep)
    pace = Pace(2.0)
    turns = np.array([1_000, 1_400, 3_000, 9_000])
    passed = []
    while len(turns):
        due = pace.wait(turns)
        passed += [(int(turn), clock_ns[0]) for turn in turns[:due]]
        turns = turns[due:]
    assert passed == [(1_000, 5_000), (1_400, 5_201), (3_000, 6_001), (9_000, 9_001)]
    assert Pace(0.0).wait(np.arange(7)) == 7


def test_merge_is_counted_like_a_naive_twin_does(short_run, capsys):
    replay_run(RunOptions(path=short_run))
    text = capsys.readouterr().out
    published, received, messages = naive_places(short_run)
    expected = f"{published} places (time of publication), {received} (of receipt), of {messages} m"
    assert f"merge       by timestamp would order the inputs otherwise in {expected}" in text
    assert 0 < published and 0 < received


def naive_places(folder):
    """Return what merge.py counts, from lists."""
    log = read(folder, LOG, TURN)
    reports = read(folder, "risk.report.strategy", "i8").reshape(-1, 32)
    control, market = (read(folder, key, BOOK) for key in ("supervisor.control.strategy", MARKET))
    taken = []
    for turn in log:
        (r, c, m), (rn, cn, mn) = turn["first_sequence"][:3], turn["record_count"][:3]
        for row in reports[r : r + rn]:
            taken.append((0, row[22], row[21] or row[22]))
        for ring, slots in ((1, control[c : c + cn]), (2, market[m : m + mn])):
            for slot in slots:
                if slot["kind"] == 9:
                    taken.append((ring, slot["ts_pub_ns"], slot["ts_recv_ns"]))
                elif slot["kind"] == 12:
                    taken.append((ring, slot["ts_recv_ns"], slot["ts_recv_ns"]))
    pairs = [(a, b) for a, b in zip(taken, taken[1:], strict=False) if a[0] != b[0]]
    return sum(b[1] < a[1] for a, b in pairs), sum(b[2] < a[2] for a, b in pairs), len(taken)


@given(
    st.lists(st.integers(1, 5), max_size=6),
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 6)), min_size=1, max_size=8),
)
def test_is_whole_agrees_with_sets(lengths, ranges):
    ring, edge = NoRecording("x"), 2
    for length in lengths:
        ring.spans.append((edge, edge + length))
        edge += length + 2
    known = {s for first, end in ring.spans for s in range(first, end)}
    first = np.array([first for first, _count in ranges])
    end = first + np.array([count for _first, count in ranges])
    expected = [set(range(a, b)) <= known for a, b in zip(first, end, strict=True)]
    assert list(is_whole(ring, first, end)) == expected

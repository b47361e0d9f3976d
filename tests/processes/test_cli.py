"""The command line: help texts, exit codes, durations, what is imported."""

import json
import platform
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from common import kernel_cache
from common.errors import UnavailableError, UsageError
from processes import cli

from tests.support import ROOT, unique_instance

GOLDEN = ROOT / "tests" / "golden" / "help"
VERBS = [
    "", "up", "down", "status", "clean", "run", "check", "rings", "stat", "top", "tail", "book",
    "layout", "kill", "doctor", "replay", "recordings", "import", "export", "backtest", "sweep",
    "walk-forward",
]  # fmt: skip


class Ended(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def tickring(monkeypatch, capsys):
    """Return a caller of the console script's entry, in this process."""
    monkeypatch.setattr(kernel_cache, "configure", lambda files=(): None)
    pipe = signal.getsignal(signal.SIGPIPE)

    def call(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["tickring", *map(str, arguments)])
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        return Ended(code, *capsys.readouterr())

    yield call
    signal.signal(signal.SIGPIPE, pipe)


@pytest.mark.parametrize("verb", VERBS)
def test_help_is_the_golden_text(verb, monkeypatch):
    """Regenerate: remove the file and run the test; then read the difference."""
    from typer.testing import CliRunner

    monkeypatch.setenv("COLUMNS", "96")
    arguments = [verb, "--help"] if verb else ["--help"]
    result = CliRunner().invoke(cli.app, arguments, prog_name="tickring")
    assert result.exit_code == 0
    path = GOLDEN / f"{verb or 'tickring'}.txt"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_text(result.output)
    assert result.output == path.read_text()


def test_every_verb_has_a_golden_text():
    commands = cli.app.registered_commands
    registered = {command.name or command.callback.__name__ for command in commands}
    assert registered == set(VERBS) - {""}


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("", 0),
        ("30s", 30 * 10**9),
        ("500ms", 5 * 10**8),
        ("5m", 300 * 10**9),
        ("1h", 3_600 * 10**9),
    ],
)
def test_durations(text, ns):
    assert cli.parse_duration(text) == ns


@pytest.mark.parametrize("text", ["30", "s", "-1s", "0s", "1.5s", "30 s", "1d", "9999999999s"])
def test_bad_durations(text):
    with pytest.raises(UsageError, match="expected a number and ms, s, m or h"):
        cli.parse_duration(text)


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [("system", "Darwin", "Darwin on x86_64"), ("machine", "aarch64", "Linux on aarch64")],
)
def test_other_platforms_are_refused(monkeypatch, name, value, found):
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(platform, name, lambda: value)
    with pytest.raises(UnavailableError, match=f"platform: {found}, expected Linux on x86_64"):
        cli.check_platform()


@pytest.mark.parametrize("version", [(3, 10, 9), (3, 14, 0)])
def test_other_pythons_are_refused(monkeypatch, version):
    monkeypatch.setattr(sys, "version_info", version)
    with pytest.raises(UnavailableError, match=r"expected 3\.11, 3\.12 or 3\.13"):
        cli.check_platform()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["frobnicate"], 2, "No such command"),
        (["up"], 2, "Missing argument"),
        (["up", "x.toml", "--for", "soon"], 2, "--for: 'soon', expected"),
        (["up", "nowhere.toml"], 78, "nowhere.toml: no such file"),
        (["check", "nowhere.toml"], 78, "nowhere.toml: no such file"),
        (["layout", "NOTHING"], 2, "layout: 'NOTHING', expected one of GAP"),
        (["rings", "--instance", "nobody"], 69, "instance: no 'nobody' on this host"),
        (["run", "feed", "--config", "demo.toml"], 2, "run: 'feed', expected venue"),
        (["import", "nothing", "a", "b"], 2, "KIND: 'nothing', expected capture, binance"),
        (["import", "ticks", "nowhere.csv", "b"], 2, "nowhere.csv: no such file"),
        (["export", "nowhere", "--npz", "a.npz"], 2, "run: 'nowhere': none of that id or path"),
        (["export", "nowhere"], 2, "export: expected --parquet DIR or --npz FILE, one of the"),
    ],
)
def test_exit_codes_and_one_line_errors(tickring, arguments, code, said):
    found = tickring(*arguments)
    assert found.returncode == code, found.stderr
    assert said in found.stderr
    assert "Traceback" not in found.stderr
    if code != 2 or "expected" in said:
        assert found.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["c.toml", "--data", "a", "b", "--grid", "x=1,2", "y=3"],
        ["--data", "a", "b", "c.toml", "--grid", "x=1,2", "--grid", "y=3"],
        ["--grid", "x=1,2", "y=3", "c.toml", "--data", "a", "--data", "b"],
        ["--data", "a", "--data", "b", "--grid", "x=1,2", "y=3", "c.toml"],
    ],
)
def test_options_with_several_values(arguments, monkeypatch, tickring):
    from processes.study import plan, sweep

    asked = []
    monkeypatch.setattr(plan, "plan_of", lambda *words: asked.append(words))
    monkeypatch.setattr(sweep, "run_sweep", lambda *_: 0)
    assert tickring("sweep", *arguments, "--jobs", 3).returncode == 0
    assert asked == [(Path("c.toml"), [Path("a"), Path("b")], ["x=1,2", "y=3"], "pnl", 3)]


def test_layout_needs_no_numba():
    code = (
        "import sys; sys.argv = ['tickring', 'layout', 'CLOCK']\n"
        "from processes.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert 'numba' not in sys.modules"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert found.returncode == 0, found.stderr
    assert "ts_mono_ns" in found.stdout


def test_layout_prints_the_golden_file_and_json(tickring):
    assert tickring("layout").stdout == (ROOT / "tests" / "golden" / "layouts.txt").read_text()
    (gap,) = json.loads(tickring("layout", "gap", "--json").stdout)
    assert gap["name"] == "GAP" and gap["bytes"] == 64
    assert gap["fields"][0] == {"offset": 0, "name": "kind", "type": "u1", "meaning": "MarketKind"}


def test_import_and_export_print_what_they_did(tickring, tmp_path):
    ticks, run = tmp_path / "ticks.csv", tmp_path / "run"
    ticks.write_text("1723161255,BTCUSDT,60000.1,0.5,buy\n1723161256,BTCUSDT,x,0.5,buy\n")
    found = tickring("import", "ticks", ticks, run)
    assert found.returncode == 0, found.stderr
    assert "bad_rows           1" in found.stdout
    assert f"{ticks}:2: price is 'x', expected a price over 0" in found.stderr
    found = tickring("import", "ticks", ticks, tmp_path / "strict", "--strict")
    assert (found.returncode, found.stderr.count("\n")) == (65, 1)
    found = tickring("export", run, "--parquet", tmp_path / "tables", "--json")
    assert json.loads(found.stdout)["trades"] == 1
    found = tickring("export", run, "--npz", tmp_path / "events.npz")
    assert found.returncode == 0 and "trades" in found.stdout


@pytest.mark.parametrize("name", ["demo", "binance-testnet"])
def test_check_accepts_what_we_ship(tickring, name):
    found = tickring("check", ROOT / "configs" / f"{name}.toml", "--json")
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["instance"] == name


def test_check_looks_at_the_strategy(tickring, tmp_path):
    text = (ROOT / "configs" / "demo.toml").read_text()
    for name in ("instruments.toml",):
        (tmp_path / name).write_text((ROOT / "configs" / name).read_text())
    (tmp_path / "a.toml").write_text(text.replace("edge_bps", "egde_bps"))
    found = tickring("check", tmp_path / "a.toml")
    assert found.returncode == 78
    assert "strategy.params: found" in found.stderr and "egde_bps" in found.stderr
    (tmp_path / "b.toml").write_text(text.replace("market_maker:MarketMaker", "nothing:X"))
    assert tickring("check", tmp_path / "b.toml").returncode == 78


def test_live_on_the_main_network_needs_to_be_asked_for(tickring, tmp_path):
    text = (ROOT / "configs" / "binance-testnet.toml").read_text()
    text = text.replace("demo-fapi.binance.com", "fapi.binance.com")
    (tmp_path / "a.toml").write_text(text)
    (tmp_path / "instruments.toml").write_text((ROOT / "configs" / "instruments.toml").read_text())
    found = tickring("up", tmp_path / "a.toml", "--instance", unique_instance())
    assert found.returncode == 78
    assert "expected --live too" in found.stderr

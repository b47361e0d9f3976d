"""The unit templates: rendered with an installed path, they are clean."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT

UNITS = ("tickring.service", "tickring@.service", "tickring.slice")


@pytest.fixture
def rendered(tmp_path: Path) -> Path:
    binary = tmp_path / "opt" / "tickring"
    binary.parent.mkdir()
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    out = tmp_path / "units"
    command = [ROOT / "systemd" / "render", out, "--bin", binary.parent, "--cpus", "0"]
    subprocess.run(command, check=True, timeout=30)
    return out


def test_nothing_is_left_to_fill_in(rendered):
    for unit in UNITS:
        text = (rendered / unit).read_text()
        assert not re.search(r"@[A-Z]+@", text), unit


def test_verify_finds_nothing(rendered):
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is not on this machine")
    names = [rendered / "tickring.service", rendered / "tickring@demo.service"]
    names.append(rendered / "tickring.slice")
    found = subprocess.run([tool, "verify", *names], capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_the_service_does_what_the_supervisor_expects(rendered):
    text = (rendered / "tickring.service").read_text()
    for line in (
        "Type=notify",
        "KillMode=control-group",
        "RestartPreventExitStatus=2 78",
        "LoadCredential=api_key:/etc/tickring/api_key",
        "RemoveIPC=no",
    ):
        assert line in text.splitlines(), line
    assert re.search(r"^WatchdogSec=\d+s$", text, re.M)
    assert re.search(r"^ExecStartPre=/.*/tickring check /etc/tickring/tickring.toml$", text, re.M)


def test_a_missing_program_is_an_error(tmp_path):
    command = [ROOT / "systemd" / "render", tmp_path / "out", "--bin", tmp_path]
    found = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert found.returncode == 78
    assert "no executable" in found.stderr

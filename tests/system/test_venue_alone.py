"""`tickring run venue`: the local exchange in the foreground, for strangers to trade on."""

import signal
import ssl
import subprocess
import sys
from pathlib import Path

import httpx

from tests.support import ROOT, wait_until

START_S_MAX = 300.0


def test_it_serves_over_tls_and_ends_on_sigterm(tmp_path: Path) -> None:
    text = (ROOT / "configs" / "demo.toml").read_text()
    text = text.replace("~/.local/state/tickring/{instance}", str(tmp_path / "state"))
    (tmp_path / "demo.toml").write_text(text)
    (tmp_path / "instruments.toml").write_text((ROOT / "configs" / "instruments.toml").read_text())
    command = [sys.executable, "-m", "processes.cli", "run", "venue", "--config"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, str(tmp_path / "demo.toml")], cwd=ROOT, stdout=log, stderr=log
        )
    try:
        port_file = tmp_path / "state" / "venue.port"
        wait_until(
            lambda: port_file.exists() or process.poll() is not None, "its port", START_S_MAX
        )
        port = int(port_file.read_text())
        trusted = ssl.create_default_context(cafile=str(tmp_path / "state" / "venue-ca.pem"))
        with httpx.Client(verify=trusted) as client:
            url = f"https://127.0.0.1:{port}/fapi/v1"
            assert client.get(f"{url}/ping", timeout=30).status_code == 200
            listed = client.get(f"{url}/exchangeInfo", timeout=30).json()["symbols"]
        assert {row["symbol"] for row in listed} == {"BTCUSDT", "ETHUSDT", "SOLUSDT"}
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, (tmp_path / "log").read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()

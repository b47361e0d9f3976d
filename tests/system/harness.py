"""One `tickring up` in a process of its own, and an outside look at its venue."""

import contextlib
import hashlib
import hmac
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from common import clock
from common.errors import TickringError
from processes.inspector.instance import Instance
from shm import registry
from shm.recording import RECORDINGS, Run

from tests.support import ROOT, unique_instance, wait_until

START_S_MAX = 900.0  # a cold kernel cache on a busy machine
STEP_S_MAX = 120.0


class Demo:
    """The demo set-up with a name and a state folder of its own.

    Args:
        folder: for the config, the state and the log.
        arguments: more of the command line.
        changes: text replaced in configs/demo.toml.
    """

    def __init__(self, folder: Path, *arguments: str, **changes: str) -> None:
        self.folder = folder
        self.name = unique_instance()
        self.summary_path = folder / "summary.json"
        text = (ROOT / "configs" / "demo.toml").read_text()
        text = text.replace("~/.local/state/tickring/{instance}", str(folder / "state"))
        text += "\n[supervisor]\nheartbeat_age_ms_max = 30_000\ndrain_s_max = 60\n"
        for old, new in changes.items():
            text = text.replace(old, new)
        config = folder / "demo.toml"
        config.write_text(text)
        (folder / "instruments.toml").write_text(
            (ROOT / "configs" / "instruments.toml").read_text()
        )
        self.log_path = folder / "log"
        command = [sys.executable, "-m", "processes.cli", "up", config, "--instance", self.name]
        with self.log_path.open("w") as log:
            self.process = subprocess.Popen(
                [*map(str, command), "--summary", str(self.summary_path), *arguments],
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def text(self) -> str:
        """What it has written so far."""
        return self.log_path.read_text()

    @property
    def summary(self) -> dict[str, Any]:
        """Its summary."""
        found: dict[str, Any] = json.loads(self.summary_path.read_text())
        return found

    def recording(self) -> Run:
        """Return the newest recorded run of its state folder."""
        return Run.open(max((self.folder / "state" / RECORDINGS).iterdir()))

    def wait_ready(self) -> None:
        """Wait until all processes are READY."""
        self.wait_for(lambda: " ready processes=" in self.text, "all READY", START_S_MAX)

    def wait_for(self, condition: Any, what: str, deadline_s: float = STEP_S_MAX) -> None:
        """Wait for a condition; fail with the log if the run ends meanwhile."""

        def holds() -> bool:
            assert self.process.poll() is None, f"{what}: the run has ended\n{self.text[-6_000:]}"
            try:
                return bool(condition())
            except (TickringError, httpx.HTTPError, OSError):
                return False

        wait_until(holds, what, deadline_s)

    def wait_exit(self, deadline_s: float = START_S_MAX) -> int:
        """Wait for its end."""
        return self.process.wait(deadline_s)

    def instance(self) -> Instance:
        """Return a fresh look inside."""
        return Instance(self.name)

    def status(self, process: str) -> dict[str, Any]:
        """Return the status row of one process."""
        with contextlib.closing(self.instance()) as instance:
            return next(row for row in instance.status() if row["name"] == process)

    def counter(self, process: str, name: str) -> int:
        """Return one counter."""
        with contextlib.closing(self.instance()) as instance:
            return instance.counter(process, name)

    def kill(self, process: str) -> dict[str, Any]:
        """Kill -9 one process; return its status row before."""
        before = self.status(process)
        os.kill(before["pid"], signal.SIGKILL)
        return before

    def is_back(self, process: str, before: dict[str, Any]) -> bool:
        """Return True once a successor is READY."""
        row = self.status(process)
        return row["state"] == "READY" and row["pid"] != before["pid"]

    def account(self, path: str, **query: str) -> Any:
        """Ask the venue for something signed, the way a stranger with the keys would."""
        state = self.folder / "state"
        port = int((state / "venue.port").read_text())
        query["timestamp"] = str(clock.now_wall_ns() // 1_000_000)
        query["recvWindow"] = "60000"
        text = "&".join(f"{key}={value}" for key, value in query.items())
        secret = (state / "venue.secret").read_bytes().strip()
        signature = hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()
        import ssl

        with httpx.Client(
            verify=ssl.create_default_context(cafile=str(state / "venue-ca.pem"))
        ) as client:
            answer = client.get(
                f"https://127.0.0.1:{port}{path}?{text}&signature={signature}",
                headers={"X-MBX-APIKEY": (state / "venue.key").read_text().strip()},
                timeout=30,
            )
        assert answer.status_code == 200, answer.text
        return answer.json()

    def venue_positions(self) -> dict[str, float]:
        """Return the venue's own positions that are not zero."""
        rows = self.account("/fapi/v3/positionRisk")
        return {r["symbol"]: float(r["positionAmt"]) for r in rows if float(r["positionAmt"])}

    def own_positions(self) -> dict[str, float]:
        """Return risk's positions that are not zero."""
        with contextlib.closing(self.instance()) as instance:
            rows = {row["symbol"]: row["position_steps"] for row in instance.positions()}
            return {
                symbol: float(instance.instrument(symbol).qty_text(steps))
                for symbol, steps in rows.items()
                if steps
            }

    def end(self) -> None:
        """Leave nothing behind, whatever happened."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STEP_S_MAX)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        wait_until(lambda: not registry.is_live(self.name), "the instance is dead", STEP_S_MAX)
        registry.clean(self.name)

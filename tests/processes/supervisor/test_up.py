"""What `up` does before anything is forked."""

import fcntl
import os

import pytest

from common import clock, order_ids
from common.errors import UnavailableError
from processes.config import load_config
from processes.supervisor import simulator, up
from processes.supervisor.up import hold_state_dir, next_session, rotate_log

from tests.support import ROOT


def test_sessions_never_repeat_even_if_the_folder_is_lost(tmp_path):
    minute = clock.now_wall_ns() // 60_000_000_000 % order_ids.SESSION_MAX + 1
    first = next_session(tmp_path)
    assert minute <= first <= minute + 1
    assert [next_session(tmp_path) for _ in range(3)] == [first + 1, first + 2, first + 3]
    order_ids.pack(first + 3, 0, 0)


def test_the_last_session_is_followed_by_a_valid_one(tmp_path):
    (tmp_path / "session").write_text(f"{order_ids.SESSION_MAX}\n")
    assert 1 <= next_session(tmp_path) <= order_ids.SESSION_MAX


def test_a_damaged_session_file_is_no_permission_to_reuse_ids(tmp_path):
    (tmp_path / "session").write_text("many\n")
    with pytest.raises(UnavailableError, match="expected the last session's number"):
        next_session(tmp_path)


def test_a_state_folder_serves_one_run(tmp_path, monkeypatch):
    monkeypatch.setattr(up, "HOLD_NS_MAX", 100_000_000)
    with hold_state_dir(tmp_path), pytest.raises(UnavailableError, match="one at a time"):
        hold_state_dir(tmp_path)
    with hold_state_dir(tmp_path):
        pass


def test_a_state_folder_is_waited_for(tmp_path):
    held = (tmp_path / "lock").open("a")
    fcntl.flock(held, fcntl.LOCK_EX)
    pid = os.fork()
    if pid == 0:  # a process of a dead run, which ends a little later
        clock.sleep_ns(200_000_000)
        os._exit(0)
    held.close()
    with hold_state_dir(tmp_path):
        os.waitpid(pid, 0)


def test_a_long_log_is_put_aside(tmp_path, monkeypatch):
    monkeypatch.setattr(up, "LOG_BYTES_MAX", 10)
    path = tmp_path / "log"
    path.write_text("short")
    rotate_log(path)
    assert path.exists()
    path.write_text("long enough")
    rotate_log(path)
    assert not path.exists() and (tmp_path / "log.1").read_text() == "long enough"


def test_paper_keys_are_made_once_and_are_private(tmp_path):
    config = load_config(ROOT / "configs" / "demo.toml").config
    made = simulator.prepare(config, tmp_path)
    for name in ("venue.key", "venue.secret"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
        assert len((tmp_path / name).read_text()) == 64
    secret = (tmp_path / "venue.secret").read_text()
    again = simulator.prepare(config, tmp_path)
    assert (tmp_path / "venue.secret").read_text() == secret
    assert (
        made.venue.secret_key_file == again.venue.secret_key_file == str(tmp_path / "venue.secret")
    )
    assert made.simulator is not None and made.simulator.port_file == str(tmp_path / "venue.port")


def test_addresses_come_from_the_port_file(tmp_path):
    config = simulator.prepare(load_config(ROOT / "configs" / "demo.toml").config, tmp_path)
    with pytest.raises(UnavailableError, match="expected the venue's port"):
        simulator.resolve(config)
    (tmp_path / "venue.port").write_text("4711\n")
    venue = simulator.resolve(config).venue
    assert venue.rest_url == "https://127.0.0.1:4711"
    assert venue.ws_api_url == "wss://127.0.0.1:4711/ws-fapi/v1"
    assert venue.private_url == "wss://127.0.0.1:4711/private"

"""Messages to the service manager."""

import os
import socket
from pathlib import Path

import pytest

from processes.supervisor.notify import ServiceManager


@pytest.fixture
def manager(tmp_path: Path):
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(path))
        server.setblocking(False)
        yield server, {"NOTIFY_SOCKET": str(path)}


def heard(server: socket.socket) -> list[str]:
    messages = []
    while True:
        try:
            messages.append(server.recv(1_000).decode())
        except BlockingIOError:
            return messages


def test_tells_lines_in_one_datagram(manager):
    server, environment = manager
    ServiceManager(environment).tell("READY=1", "STATUS=running demo")
    assert heard(server) == ["READY=1\nSTATUS=running demo"]


def test_feeds_the_watchdog_three_times_a_period(manager):
    server, environment = manager
    mine = ServiceManager(environment | {"WATCHDOG_USEC": "3000", "WATCHDOG_PID": str(os.getpid())})
    for now_ns in range(1, 3_000_001, 100_000):
        mine.tick(now_ns)
    assert heard(server) == ["WATCHDOG=1"] * 3


def test_a_watchdog_of_another_process_is_not_ours(manager):
    server, environment = manager
    other = ServiceManager(environment | {"WATCHDOG_USEC": "3000", "WATCHDOG_PID": "1"})
    other.tick(10**9)
    assert heard(server) == []


def test_abstract_addresses_work():
    name = f"@tickring-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind("\0" + name[1:])
        server.setblocking(False)
        ServiceManager({"NOTIFY_SOCKET": name}).tell("STOPPING=1")
        assert heard(server) == ["STOPPING=1"]


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": "/nowhere/at/all"}])
def test_nobody_listening_is_no_error(environment):
    ServiceManager(environment).tell("READY=1")

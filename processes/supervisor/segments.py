"""Makes all segments of an instance before anything is forked, and knows them again."""

import fcntl
import os
import socket
from pathlib import Path
from typing import Any

import msgspec

from common import clock
from common.enums import KillSource, Phase
from common.errors import UnavailableError
from processes.runner import Peers
from processes.supervisor.setup import Setup
from shm import registry
from shm.doorbell import Doorbell
from shm.latch import Latch
from shm.registry import Registry, bell_name, instance_name, ring_name, segment_name
from shm.ring import create_ring
from shm.segment import PAGE_BYTES, path_of
from shm.table import create_table

KILL_FILE = "kill"
KILL_FILE_BYTES_MAX = 4_096
AUDIT_NS = 1_000_000_000


class Pages:
    """The pages that the supervisor writes: phases, peers, its word of the kill page.

    Args:
        setup: whose segments to create.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.registry = Registry.create(setup.instance, manifest_of(setup))
        self.kill = Latch.create(instance_name(setup.instance, "kill"))
        self.phase = Latch.create(instance_name(setup.instance, "phase"))
        for word in (0, 1):
            self.phase.set(word, Phase.STARTING)
        names = tuple(process.name for process in setup.plan.processes)
        self.peers = Peers(names, Latch.create(instance_name(setup.instance, "peers")))
        self.bells = [Doorbell.create(bell_name(setup.instance, name)) for name in names]
        for ring in setup.plan.rings:
            create_ring(
                ring_name(setup.instance, ring.producer, ring.record, ring.consumer),
                ring.layout,
                setup.capacity(ring),
                overwrite=ring.policy == "overwrite",
            )
        for table in setup.plan.tables:
            name = segment_name(setup.instance, table.process, table.what)
            create_table(name, table.layout, setup.rows(table))
        self.sizes: dict[str, int] = {}
        self.headers: dict[str, bytes] = {}
        self.headers_due_ns = 0
        self.note_files(registry.segments(setup.instance))

    def note_files(self, names: list[str]) -> None:
        """Note how segments' files are now: none of them ever changes its size or header."""
        for name in names:
            path = path_of(name)
            if path.is_file():  # a doorbell is none
                with path.open("rb") as file:
                    self.headers[name] = file.read(PAGE_BYTES)
                self.sizes[name] = path.stat().st_size

    def audit(self, now_ns: int) -> str:
        """Return what has become of a segment's file; empty: all are as they were.

        Who touches a page that was cut off dies by SIGBUS, so it is looked for before that. Sizes
        are compared in every tick, headers once a second.
        """
        for name, size in self.sizes.items():
            try:
                found = path_of(name).stat().st_size
            except FileNotFoundError:
                return f"{name}: gone, expected {size} bytes"
            if found != size:
                return f"{name}: {found} bytes, expected {size}"
        if now_ns >= self.headers_due_ns:
            self.headers_due_ns = now_ns + AUDIT_NS
            for name, header in self.headers.items():
                with path_of(name).open("rb") as file:
                    if file.read(PAGE_BYTES) != header:
                        return f"{name}: header has changed, expected it never to"
        return ""

    def ring_bells(self) -> None:
        """Wake every process."""
        for bell in self.bells:
            bell.ring()

    def close(self, keep: bool) -> None:
        """Let the instance go; remove its segments unless they are to be looked at."""
        things: list[Any] = [*self.bells, self.kill, self.phase, self.peers.page]
        for thing in things:
            thing.close()
        self.registry.close()
        if not keep:
            registry.clean(self.setup.instance)


def manifest_of(setup: Setup) -> dict[str, Any]:
    """Return what the tools may know about the run; no secret is in a config."""
    return {
        "schema": 1,
        "instance": setup.instance,
        "supervisor_pid": os.getpid(),
        "host": socket.gethostname(),
        "boot_id": clock.boot_id(),
        "started_ns": clock.now_ns(),
        "started_wall_ns": clock.now_wall_ns(),
        "state_dir": str(setup.state_dir),
        "config": msgspec.to_builtins(setup.config),
        "instruments": msgspec.to_builtins(setup.instruments),
        "processes": [process.name for process in setup.plan.processes],
        "rings": [[ring.key, ring.layout, ring.policy] for ring in setup.plan.rings],
        "tables": [[table.key, table.layout] for table in setup.plan.tables],
    }


def read_kill_file(state_dir: Path) -> list[KillSource]:
    """Return the sources that killed trading in an earlier run and were not released.

    Raises:
        UnavailableError: the file is there and cannot be read; that is no permission to trade.
    """
    path = state_dir / KILL_FILE
    try:
        lines = path.read_text().split()
        return [KillSource[line] for line in lines]
    except FileNotFoundError:
        return []
    except (OSError, KeyError, UnicodeDecodeError) as error:
        raise UnavailableError(f"{path}: {error}, expected names of kill sources") from None


def add_to_kill_file(state_dir: Path, source: KillSource, *, waits: bool = True) -> None:
    """Latch a kill on disk, so that it outlives the machine; each source stands there once.

    Args:
        state_dir, source: whose file, and what to add.
        waits: for another process that adds to it.

    Raises:
        OSError: it cannot be written; BlockingIOError if another process adds to it right now.
    """
    path = state_dir / KILL_FILE
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB)
        if source.name.encode() not in os.read(fd, KILL_FILE_BYTES_MAX).split():
            os.write(fd, f"{source.name}\n".encode())
        os.fsync(fd)
    finally:
        os.close(fd)
    folder = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

"""One instance: its names, its manifest, whether it is alive, and cleaning up after it.

The supervisor holds the lock of the registry segment as long as it lives. An instance whose lock is
free is stale, whatever its process ids say.
"""

import json
import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from common.errors import SegmentError
from shm import segment
from shm.segment import OWN_PAGE, PAGE_BYTES, Kind, Role, RoleTaken, Segment, hash_bytes
from shm.words import ROLE_PID

PREFIX = "tickring"
MANIFEST_BYTES_MAX = 1 << 24
_PART = re.compile(r"[a-z0-9_-]{1,48}")
_FINGERPRINT = 1


def _join(*parts: str) -> str:
    for part in parts:
        if not _PART.fullmatch(part):
            raise SegmentError(f"name: part is {part!r}, expected 1 to 48 of a-z 0-9 _ -")
    return ".".join((PREFIX, *parts))


def ring_name(instance: str, producer: str, record: str, consumer: str) -> str:
    """Return tickring.<instance>.<producer>.<record>.<consumer>."""
    return _join(instance, producer, record, consumer)


def segment_name(instance: str, process: str, what: str) -> str:
    """Return tickring.<instance>.<process>.<what>: tables, counters, twins."""
    return _join(instance, process, what)


def bell_name(instance: str, process: str) -> str:
    """Return the name of a process's doorbell."""
    return _join(instance, process, "bell")


def counters_name(instance: str, process: str) -> str:
    """Return the name of a process's counters."""
    return _join(instance, process, "counters")


def instance_name(instance: str, what: str) -> str:
    """Return tickring.<instance>.<what>: registry, kill, phase."""
    return _join(instance, what)


def segments(instance: str) -> list[str]:
    """Return the names of all segments and doorbells of an instance, sorted."""
    first = _join(instance) + "."
    return sorted(path.name for path in segment.DIRECTORY.iterdir() if path.name.startswith(first))


def instances() -> list[str]:
    """Return the names of all instances that have a segment here, alive or dead, sorted."""
    names = (path.name.split(".") for path in segment.DIRECTORY.iterdir())
    return sorted({parts[1] for parts in names if parts[0] == PREFIX and len(parts) > 2})


def _attach(instance: str, writable: bool) -> Segment:
    name = instance_name(instance, "registry")
    return Segment.attach(name, Kind.REGISTRY, _FINGERPRINT, writable=writable)


def is_live(instance: str) -> bool:
    """Return True if a supervisor holds the instance."""
    fd = _open(instance)
    if fd < 0:
        return False
    try:
        return segment.is_locked(fd, Role.WRITER)
    finally:
        os.close(fd)


def _open(instance: str) -> int:
    """Open the registry's file whatever is in it; its lock counts, not its content. -1: none."""
    try:
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(segment.path_of(instance_name(instance, "registry")), flags)
    except FileNotFoundError:
        return -1
    except OSError as error:
        raise SegmentError(f"{instance}: registry: {str(error).lower()}") from None


def read_manifest(instance: str) -> dict[str, Any]:
    """Return what the supervisor wrote down about the instance, alive or dead.

    Raises:
        UnavailableError: there is no such instance. SegmentError: its registry is not usable.
    """
    registry = _attach(instance, writable=False)
    try:
        text = registry.map_bytes(2 * PAGE_BYTES, registry.capacity, writable=False).tobytes()
    finally:
        registry.close()
    if hash_bytes(text) != registry.header[segment.Header.FLAGS]:
        raise SegmentError(f"{registry.name}: manifest is cut off, expected it whole")
    found: dict[str, Any] = json.loads(text)
    return found


def is_of_another_build(instance: str) -> bool:
    """Return True if other sources than ours made the instance: names and meanings may differ."""
    registry = _attach(instance, writable=False)
    registry.close()
    return int(registry.header[segment.Header.BUILD_HASH]) != segment.build_hash()


def clean(instance: str) -> list[str]:
    """Remove every segment and doorbell of a stale instance; return their names.

    Raises:
        RoleTaken: the instance is alive.
    """
    lock = _lock_stale(instance)
    names = segments(instance)
    # The registry goes last: as long as it is there, its lock keeps others out.
    names.sort(key=lambda name: name == instance_name(instance, "registry"))
    for name in names:
        segment.unlink(name)
    if lock >= 0:
        os.close(lock)
    return names


def _lock_stale(instance: str) -> int:
    """Take a dead supervisor's lock, so that nobody else cleans or starts; -1: no registry."""
    fd = _open(instance)
    if fd < 0:
        return -1
    path = segment.path_of(instance_name(instance, "registry"))
    if not segment.try_lock(fd, Role.WRITER):
        page = os.pread(fd, PAGE_BYTES, OWN_PAGE * PAGE_BYTES).ljust(PAGE_BYTES, b"\0")
        os.close(fd)
        pid = np.frombuffer(page, np.int64)[ROLE_PID]
        raise RoleTaken(f"{path.name}: writer is held by pid {pid}, expected nobody; stop it first")
    try:
        is_same = os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        is_same = False
    if not is_same:
        os.close(fd)
        raise RoleTaken(f"{path.name}: another process has just replaced it; try again")
    return fd


class Registry:
    """The supervisor's hold on its instance."""

    def __init__(self, instance: str, registry: Segment) -> None:
        self.instance = instance
        self._segment = registry

    @classmethod
    def create(cls, instance: str, manifest: Mapping[str, Any]) -> "Registry":
        """Become the supervisor of an instance: clean a stale one, refuse a live one.

        Args:
            instance: name.
            manifest: JSON-able facts for the tools: config, instruments, processes, rings, boot id.

        Raises:
            RoleTaken: a living supervisor holds the instance.
            SegmentError: the manifest is too long, or /dev/shm is full.
        """
        text = json.dumps(manifest).encode()
        if len(text) > MANIFEST_BYTES_MAX:
            raise SegmentError(f"{instance}: manifest of {len(text)} bytes, expected at most 2^24")
        clean(instance)
        name = instance_name(instance, "registry")
        segment.create(
            name,
            Kind.REGISTRY,
            "MANIFEST",
            _FINGERPRINT,
            capacity=len(text),
            record_bytes=1,
            own_pages=1,
            data_bytes=len(text),
            flags=hash_bytes(text),
        )
        registry = _attach(instance, writable=True)
        registry.take_role(Role.WRITER, registry.map_words(OWN_PAGE, writable=True))
        target = registry.map_bytes(2 * PAGE_BYTES, len(text), writable=True)
        target[:] = np.frombuffer(text, np.uint8)
        return cls(instance, registry)

    def close(self) -> None:
        """Let the instance go; its segments stay until the next start or `clean`."""
        self._segment.close()

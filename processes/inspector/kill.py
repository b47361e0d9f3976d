"""`tickring kill`: the one tool that writes; one word in shared memory, one line in a file."""

from pathlib import Path
from typing import Any

from common.enums import KillSource
from common.errors import UnavailableError
from processes.supervisor.segments import KILL_FILE, add_to_kill_file
from shm import registry
from shm.doorbell import Doorbell
from shm.latch import Latch


def press(name: str) -> dict[str, Any]:
    """Kill trading of an instance, alive or dead; pressing twice is the same as once.

    The word goes first: it stops orders at once. The file makes it outlive the run.

    Raises:
        UnavailableError: neither could be written.
    """
    manifest = registry.read_manifest(name)
    source = KillSource.COMMAND_LINE
    try:
        page = Latch.open(registry.instance_name(name, "kill"), writable=True)
        was_set = bool(page.get(source))
        page.set(source)
        page.close()
        is_set = True
    except UnavailableError:
        is_set, was_set = False, False
    for process in manifest["processes"]:
        try:
            bell = Doorbell.open(registry.bell_name(name, process))
        except UnavailableError:
            continue
        bell.ring()
        bell.close()
    state_dir = Path(manifest["state_dir"])
    add_to_kill_file(state_dir, source)
    return {
        "instance": name,
        "source": source.name,
        "word_set": is_set,
        "was_set": was_set,
        "live": registry.is_live(name),
        "file": str(state_dir / KILL_FILE),
    }

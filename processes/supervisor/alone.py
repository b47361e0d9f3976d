"""`tickring run venue`: the local exchange in the foreground, without the rest of the system."""

import asyncio
import signal
from pathlib import Path

from common import log
from common.errors import UsageError
from common.kernel_cache import make_private
from processes.config import load_config
from processes.supervisor import simulator
from processes.venue.app import Venue

RUNNABLE = ("venue",)


def run_alone(process: str, path: Path) -> None:
    """Run one process until Ctrl-C or SIGTERM.

    The others exchange records through segments that only a supervisor makes: they run under `up`.

    Raises:
        UsageError: not a process that can run alone, or the set-up has none.
    """
    if process not in RUNNABLE:
        raise UsageError(
            f"run: {process!r}, expected {', '.join(RUNNABLE)}; all others run under `tickring up`"
        )
    loaded = load_config(path)
    if loaded.config.simulator is None:
        raise UsageError(f"run: {path} has no [simulator], expected one to run")
    log.set_process(process)
    make_private(loaded.state_dir)
    config = simulator.prepare(loaded.config, loaded.state_dir)
    assert config.simulator is not None
    log.event(
        "paper_keys",
        api_key_file=config.venue.api_key_file,
        secret_key_file=config.venue.secret_key_file,
        ca_file=config.venue.ca_file,
    )
    asyncio.run(serve(simulator.build_alone(config)))


async def serve(venue: Venue) -> None:
    """Serve until a signal arrives."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    async with venue:
        await ended.wait()

"""`tickring up`: from a config file to a verdict."""

import contextlib
import fcntl
import os
import sys
from pathlib import Path
from typing import IO, Any

from common import clock, order_ids
from common.errors import BugError, ConfigError, SegmentError, UnavailableError
from common.kernel_cache import make_private
from processes.config import Loaded, is_main_network, load_config
from processes.inspector.instance import Instance
from processes.supervisor import simulator
from processes.supervisor.app import Supervisor
from processes.supervisor.placement import place
from processes.supervisor.screen import LiveScreen, choose_screen, report
from processes.supervisor.setup import Setup
from processes.supervisor.summary import recording_of, summarize, verdict, write_summary
from processes.supervisor.warm import make_warm_up
from shm import registry

LOG_FILE = "processes.log"
LOG_BYTES_MAX = 16_000_000
LOCK_FILE = "lock"
HOLD_NS_MAX = 20_000_000_000
HOLD_POLL_NS = 50_000_000
SESSION_FILE = "session"
ISOLATED = Path("/sys/devices/system/cpu/isolated")
_MINUTE_NS = 60_000_000_000


def up(
    path: Path,
    *,
    run_for_ns: int = 0,
    instance: str = "",
    summary_path: Path | None = None,
    keep: bool = False,
    allow_live: bool = False,
) -> int:
    """Start everything, watch it, stop it in order, and say what it was.

    Returns:
        0, or the exit code of what went wrong.
    """
    loaded = load_config(path, instance)
    check_may_trade(loaded, allow_live)
    if registry.is_live(loaded.config.instance):
        raise UnavailableError(
            f"instance: {loaded.config.instance} is running, expected no such one;"
            " stop it (tickring down) or choose another name (--instance)"
        )
    make_private(loaded.state_dir)
    with hold_state_dir(loaded.state_dir):
        return _run(loaded, run_for_ns, summary_path, keep)


def _run(loaded: Loaded, run_for_ns: int, summary_path: Path | None, keep: bool) -> int:
    config = loaded.config
    settings = config.supervisor
    if config.simulator is not None:
        config = simulator.prepare(config, loaded.state_dir)
    setup = Setup(
        instance=config.instance,
        config=config,
        state_dir=loaded.state_dir,
        instruments=loaded.instruments,
        plan=loaded.plan,
        settings=settings,
        idle=config.idle,
        order_rows=config.risk.order_count_max,
        session=next_session(loaded.state_dir),
        resolve=simulator.resolve,
    )
    cores = sorted(os.sched_getaffinity(0))
    placement = place(loaded.plan.processes, cores, isolated_cores(), config.idle, settings.cores)
    screen = choose_screen(f"tickring {config.instance} ({config.mode})", settings.report_every_s)
    stderr_path = None
    if isinstance(screen, LiveScreen):
        stderr_path = rotate_log(loaded.state_dir / LOG_FILE)
    screen.event("placement", reason=placement.reason)
    if stderr_path is not None:
        screen.event("log", file=stderr_path)
    supervisor = Supervisor(
        setup,
        placement,
        screen,
        make_warm_up(loaded.plan, config, loaded.instruments),
        run_for_ns,
        stderr_path,
    )
    found: dict[str, Any] = {}
    wrong: list[str] = []

    def judge(ended: Supervisor) -> int:
        if not ended.ready_ns:
            return 0  # nothing ran: the reason is the verdict
        duration_s = (ended.stop_ns - ended.ready_ns) / 1e9
        try:
            with contextlib.closing(Instance(config.instance)) as reader:
                processes = list(ended.processes.values())
                found.update(summarize(reader, processes, duration_s, ended.stop_ns))
        except SegmentError as error:  # the run has failed by it, and its reason says so
            screen.event("no_summary", error=error)
            return 0 if ended.code else error.exit_code
        found["recording"] = recording_of(setup.state_dir, setup.session)
        wrong.extend(verdict(found))
        return BugError.exit_code if wrong else 0

    try:
        code = supervisor.run(judge, keep)
    finally:
        screen.close()
    if found:
        print(report(found, wrong))
        if summary_path is not None:
            write_summary(summary_path, found)
    if code:
        sys.stderr.write(f"tickring up: {supervisor.reason}\n")
    return code


def check_may_trade(loaded: Loaded, allow_live: bool) -> None:
    """Refuse what could lose money by accident.

    Raises:
        ConfigError: the main network without --live, or keys that are not there.
    """
    config = loaded.config
    if config.mode == "live" and is_main_network(config) and not allow_live:
        raise ConfigError(
            f'{loaded.path}: mode is "live" on the venue\'s main network, expected --live too'
        )
    if loaded.notes:
        raise ConfigError(loaded.notes[0])


def hold_state_dir(state_dir: Path) -> IO[str]:
    """Keep every other run out of the state folder until the file is closed.

    The processes of a run hold it too: one whose supervisor was killed is waited for.

    Raises:
        UnavailableError: another run holds it.
    """
    file = (state_dir / LOCK_FILE).open("a")
    deadline_ns = clock.now_ns() + HOLD_NS_MAX
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            if clock.now_ns() > deadline_ns:
                file.close()
                raise UnavailableError(
                    f"{state_dir}: another run uses it, expected one at a time"
                ) from None
            clock.sleep_ns(HOLD_POLL_NS)


def next_session(state_dir: Path) -> int:
    """Return a session number that this state folder has not seen, and write it down.

    It is at least the minute of the century, so that a lost folder repeats no client order id.
    """
    path = state_dir / SESSION_FILE
    try:
        previous = int(path.read_text())
    except FileNotFoundError:
        previous = 0
    except (OSError, ValueError) as error:
        raise UnavailableError(f"{path}: {error}, expected the last session's number") from None
    minute = clock.now_wall_ns() // _MINUTE_NS % order_ids.SESSION_MAX + 1
    session = max(previous + 1, minute)
    if session > order_ids.SESSION_MAX:
        session = minute
    beside = path.with_name(SESSION_FILE + ".new")
    with beside.open("w") as file:
        file.write(f"{session}\n")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    return session


def isolated_cores() -> list[int]:
    """Return the cores that the kernel schedules nobody on."""
    try:
        return parse_cores(ISOLATED.read_text())
    except OSError:
        return []


def parse_cores(text: str) -> list[int]:
    """Read a kernel core list: "2-3,7" -> [2, 3, 7]."""
    cores: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first:
            cores += range(int(first), int(last or first) + 1)
    return cores


def rotate_log(path: Path) -> Path:
    """Keep one earlier log file once this one is long."""
    if path.exists() and path.stat().st_size > LOG_BYTES_MAX:
        path.replace(path.with_name(path.name + ".1"))
    return path

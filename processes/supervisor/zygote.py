"""The process that all others are forked from: kernels loaded, no sockets of its own, no threads.

supervisor --socketpair--> zygote --fork--> feed, book, strategy, ...
one JSON object per packet:  {"fork": name, ...}, {"kill": pid}     supervisor to zygote
                             {"step": text, "done": n, "total": n}, {"ready": seconds},
                             {"forked": name, "pid": pid}, {"exited": pid, ...}, {"failed": ...}
"""

import gc
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from common import clock, log
from common.errors import BugError, UnavailableError
from processes.runner import guard

PACKET_BYTES_MAX = 65_536
POLL_MS = 200
CHILDREN_MAX = 64
COMM_BYTES_MAX = 15

Child = Callable[[dict[str, Any], int], None]
WarmUp = Callable[[Callable[[str, int, int], None]], None]


def set_title(name: str) -> None:
    """Name this process as `ps` and `top` show it."""
    Path("/proc/self/comm").write_text(f"tr-{name}"[:COMM_BYTES_MAX])


def leave(life: Callable[[], None]) -> NoReturn:
    """Live a forked process's whole life and exit, whatever happens; the caller's frames stay."""
    code = guard(life)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def redirect(path: str, flags: int, *targets: int) -> None:
    """Put a file where the standard streams are."""
    fd = os.open(path, flags, 0o600)
    for target in targets:
        os.dup2(fd, target)
    os.close(fd)


class Zygote:
    """The zygote's own side; made after the fork.

    Args:
        channel: socket to the supervisor; packets.
        supervisor_fd: read end of the pipe that closes when the supervisor goes; kept by children.
        warm_up: loads every kernel; told how to report its progress.
        child: runs one process in a forked child, to its end.
        orphan_ns_max: how long the children may take to end after the supervisor has gone.
    """

    def __init__(
        self,
        channel: socket.socket,
        supervisor_fd: int,
        warm_up: WarmUp,
        child: Child,
        orphan_ns_max: int,
    ) -> None:
        self.channel = channel
        self.supervisor_fd = supervisor_fd
        self.warm_up = warm_up
        self.child = child
        self.orphan_ns_max = orphan_ns_max
        self.children: dict[int, int] = {}  # pidfd -> pid

    def run(self) -> None:
        """Warm up, then fork on request until the supervisor closes the channel."""
        log.set_process("zygote")
        set_title("zygote")
        os.setpgid(0, 0)  # Ctrl-C on the terminal is for the supervisor alone
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold keys
        started_ns = clock.now_ns()
        self.warm_up(lambda step, done, total: self.tell(step=step, done=done, total=total))
        gc.collect()
        gc.freeze()  # what is here now stays for ever: children need not look at it
        self.tell(ready=(clock.now_ns() - started_ns) / 1e9)
        self.serve()
        self.wait_for_children()

    def tell(self, **values: Any) -> None:
        """Send one packet; a supervisor that has gone is noticed by `serve`."""
        try:
            self.channel.send(msgspec.json.encode(values))
        except OSError:
            return

    def serve(self) -> None:
        """Fork on request and report the dead."""
        poll = select.poll()
        poll.register(self.channel, select.POLLIN)
        while True:
            for fd, _events in poll.poll(POLL_MS):
                if fd != self.channel.fileno():
                    poll.unregister(fd)
                    self.reap(fd)
                    continue
                packet = self.channel.recv(PACKET_BYTES_MAX)
                if not packet:
                    return
                request = msgspec.json.decode(packet)
                if "kill" in request:
                    self.kill(request["kill"])
                else:
                    poll.register(self.fork(request), select.POLLIN)

    def fork(self, request: dict[str, Any]) -> int:
        """Fork one child; it never comes back here.

        Returns:
            A pidfd of the child.
        """
        if len(self.children) >= CHILDREN_MAX:
            raise BugError(
                f"zygote: {len(self.children)} children, expected at most {CHILDREN_MAX}"
            )
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._become(request)
        pidfd = os.pidfd_open(pid)
        self.children[pidfd] = pid
        self.tell(forked=request["fork"], pid=pid)
        return pidfd

    def kill(self, pid: int) -> None:
        """Kill a child that is not collected yet, so that its number is still its own."""
        if pid in self.children.values():
            os.kill(pid, signal.SIGKILL)

    def _become(self, request: dict[str, Any]) -> NoReturn:
        self.channel.close()
        for pidfd in self.children:
            os.close(pidfd)
        log.set_process(request["fork"])
        set_title(request["fork"])
        leave(lambda: self.child(request, self.supervisor_fd))

    def reap(self, pidfd: int) -> None:
        """Collect one dead child and tell the supervisor how it died."""
        pid, status, usage = os.wait4(self.children.pop(pidfd), 0)
        os.close(pidfd)
        self.tell(
            exited=pid,
            code=os.waitstatus_to_exitcode(status),
            rss_bytes=usage.ru_maxrss * 1_024,
        )

    def wait_for_children(self) -> None:
        """The supervisor has gone: give the children their time to end in order, then end them."""
        deadline_ns = clock.now_ns() + self.orphan_ns_max
        poll = select.poll()
        for pidfd in self.children:
            poll.register(pidfd, select.POLLIN)
        while self.children and clock.now_ns() < deadline_ns:
            for pidfd, _events in poll.poll(POLL_MS):
                poll.unregister(pidfd)
                self.reap(pidfd)
        for pid in self.children.values():
            os.kill(pid, signal.SIGKILL)
        for pidfd in list(self.children):
            self.reap(pidfd)


class ZygoteHandle:
    """The supervisor's side.

    Attributes:
        pid: of the zygote.
        is_alive: False once the channel is closed.
        is_warm: True once it has said so; set by the supervisor.
    """

    def __init__(self, pid: int, channel: socket.socket, keep_alive_fd: int) -> None:
        self.pid = pid
        self.channel = channel
        self.keep_alive_fd = keep_alive_fd
        self.is_alive = True
        self.is_warm = False
        self.is_collected = False

    def fileno(self) -> int:
        """Let a selector wait for packets."""
        return self.channel.fileno()

    def request(self, **values: Any) -> None:
        """Send one packet; that the zygote has died is noticed by `receive`.

        Raises:
            UnavailableError: it lives and takes no packets.
        """
        try:
            self.channel.send(msgspec.json.encode(values))
        except (BrokenPipeError, ConnectionResetError):
            return
        except OSError as error:
            raise UnavailableError(f"zygote: {error.strerror}, expected it to listen") from None

    def receive(self) -> list[dict[str, Any]]:
        """Return the packets that are there; clears `is_alive` when the zygote has died."""
        packets: list[dict[str, Any]] = []
        while self.is_alive:
            try:
                packet = self.channel.recv(PACKET_BYTES_MAX)
            except BlockingIOError:
                break
            except ConnectionResetError:
                packet = b""
            if not packet:
                self.is_alive = False
                break
            packets.append(msgspec.json.decode(packet))
        return packets

    def collect(self) -> None:
        """Wait for the zygote's end; its exit code says nothing that its channel did not."""
        if self.is_collected:
            return
        os.waitpid(self.pid, 0)
        self.is_collected = True

    def close(self) -> None:
        """Let the zygote end, and collect it."""
        self.channel.close()
        if not self.is_warm and not self.is_collected:
            os.kill(self.pid, signal.SIGKILL)  # it does not listen yet, and has no children
        self.collect()
        os.close(self.keep_alive_fd)


def start_zygote(
    warm_up: WarmUp, child: Child, orphan_ns_max: int, stderr_path: Path | None = None
) -> ZygoteHandle:
    """Fork the zygote; the caller must have no threads, and nothing open that a child must not see.

    Args:
        warm_up, child, orphan_ns_max: see `Zygote`.
        stderr_path: where the processes' log lines go, None: where the caller's go.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    read_fd, write_fd = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        ours.close()
        os.close(write_fd)
        redirect(os.devnull, os.O_RDONLY, 0)
        if stderr_path is not None:
            redirect(str(stderr_path), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 1, 2)
        leave(Zygote(theirs, read_fd, warm_up, child, orphan_ns_max).run)
    theirs.close()
    os.close(read_fd)
    ours.setblocking(False)
    return ZygoteHandle(pid, ours, write_fd)

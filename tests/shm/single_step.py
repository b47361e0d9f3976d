"""Kill a process at every single instruction of a compiled kernel, with ptrace.

The kernel under test brackets the interesting part with `debug_trap()`. A child runs it under
ptrace: it stops at the first trap, does k instructions, and is killed. The parent looks at what it
left in shared memory. x86-64 only; instructions retire in program order here, so this proves
crash atomicity, not the order that another core sees.
"""

import ctypes
import os
import signal
from collections.abc import Callable

_TRACEME, _PEEKTEXT, _PEEKUSER, _CONT, _SINGLESTEP = 0, 1, 3, 7, 9
_RIP = 16 * 8
_INT3 = 0xCC
STEPS_MAX = 5_000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def _ptrace(request: int, pid: int, address: int = 0, data: int = 0) -> int:
    ctypes.set_errno(0)
    answer = _libc.ptrace(request, pid, address, data)
    if answer == -1 and ctypes.get_errno():
        raise OSError(ctypes.get_errno(), f"ptrace request {request}")
    return int(answer)


def _start(work: Callable[[], object]) -> int:
    """Fork a traced child that stands right behind its first `debug_trap`."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.alarm(30)
            _ptrace(_TRACEME, 0)
            work()
            code = 0
        finally:
            os._exit(code)
    _wait_trap(pid, "first debug_trap")
    return pid


def _wait_trap(pid: int, what: str) -> None:
    _, status = os.waitpid(pid, 0)
    assert os.WIFSTOPPED(status), f"{what}: child has ended with {status:#x}, expected a stop"
    assert os.WSTOPSIG(status) == signal.SIGTRAP, f"{what}: stopped by {os.WSTOPSIG(status)}"


def _step(pid: int) -> None:
    _ptrace(_SINGLESTEP, pid)
    _wait_trap(pid, "single step")


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def count_instructions(work: Callable[[], object]) -> int:
    """Return how many instructions lie between the two traps; the child may end normally."""
    pid = _start(work)
    count = 0
    while _ptrace(_PEEKTEXT, pid, _ptrace(_PEEKUSER, pid, _RIP)) & 0xFF != _INT3:
        _step(pid)
        count += 1
        if count > STEPS_MAX:
            _kill(pid)
            raise AssertionError(f"more than {STEPS_MAX} instructions and no second debug_trap")
    _ptrace(_CONT, pid)
    _wait_trap(pid, "second debug_trap")
    _kill(pid)
    return count


def kill_after(work: Callable[[], object], instructions: int) -> None:
    """Run `work` in a child and kill it that many instructions behind its first trap."""
    pid = _start(work)
    for _ in range(instructions):
        _step(pid)
    _kill(pid)


def kill_points(
    work: Callable[[], object],
    prepare: Callable[[], object],
    check: Callable[[int], object],
) -> int:
    """Kill `work` at each of its instructions; return how many kill points there were.

    Args:
        work: in the child; calls a kernel with two `debug_trap()`.
        prepare: in the parent, before each child: a fresh start.
        check: in the parent, after each kill; gets the number of instructions done.
    """
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})  # stepping on one core is ten times faster than on two
    try:
        prepare()
        count = count_instructions(work)
        for instructions in range(count + 1):
            prepare()
            kill_after(work, instructions)
            check(instructions)
    finally:
        os.sched_setaffinity(0, allowed)
    return count + 1

"""Many evaluations on this machine: worker processes forked from one that has everything loaded.

The data lie in memory once: the workers share the pages of their parent. They are forked while it
has no threads and after its kernels have been compiled, each takes one task after the other, and a
worker that dies takes only its task with it: the task is told as failed, and another worker is
forked. When the parent is killed, so are they.
"""

import ctypes
import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from typing import NamedTuple

from common.errors import BugError

Evaluate = Callable[[int], bytes]
_PR_SET_PDEATHSIG = 1
_TASK_BYTES = 8


class Outcome(NamedTuple):
    """What became of a task.

    Attributes:
        task: the number it was given.
        answer: what `evaluate` returned; empty if the worker died.
        failure: how the worker died; empty if it did not.
    """

    task: int
    answer: bytes
    failure: str


class Worker:
    """The parent's side of one worker."""

    def __init__(self, evaluate: Evaluate, others: list["Worker"]) -> None:
        ours, theirs = multiprocessing.Pipe()
        held: list[Connection] = [ours, *(other.pipe for other in others)]
        context = multiprocessing.get_context("fork")
        self.process = context.Process(
            target=serve, args=(theirs, held, evaluate, os.getpid()), daemon=True
        )
        self.process.start()
        theirs.close()
        self.pipe: Connection = ours
        self.task = -1

    def give(self, task: int) -> None:
        """Send a task; a worker that is dead already shows when its answer is read."""
        self.task = task
        try:
            self.pipe.send_bytes(task.to_bytes(_TASK_BYTES, "little"))
        except BrokenPipeError:
            return

    def take(self) -> Outcome:
        """Return the outcome of its task; the pipe must be readable."""
        task, self.task = self.task, -1
        try:
            return Outcome(task, self.pipe.recv_bytes(), "")
        except (EOFError, ConnectionResetError):
            self.process.join()
            code = self.process.exitcode or 0
            ended = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
            return Outcome(task, b"", f"its process ended with {ended}; see what it printed")

    @property
    def is_dead(self) -> bool:
        """Return True once `take` has met its end."""
        return self.process.exitcode is not None

    def close(self) -> None:
        """End it, busy or not."""
        self.pipe.close()
        self.process.kill()
        self.process.join()
        self.process.close()


def run_forked(evaluate: Evaluate, tasks: list[int], jobs: int) -> Iterator[Outcome]:
    """Evaluate every task in up to `jobs` processes; yield outcomes as they come.

    Args:
        evaluate: pure: what it returns depends on the task and on what the parent has loaded.
        tasks: numbers that mean something to `evaluate`.
        jobs: at least 1.

    Raises:
        BugError: this process has threads, which a fork does not copy.
    """
    if threading.active_count() != 1:
        names = ", ".join(thread.name for thread in threading.enumerate())
        raise BugError(f"workers: the threads are {names}, expected one before a fork")
    waiting = list(reversed(tasks))
    workers: list[Worker] = []
    gc.collect()
    gc.freeze()  # a collection in a worker would copy the pages it looks at
    try:
        while waiting or any(worker.task >= 0 for worker in workers):
            while waiting and len(workers) < jobs:
                workers.append(Worker(evaluate, workers))
                workers[-1].give(waiting.pop())
            ready = wait([worker.pipe for worker in workers if worker.task >= 0])
            for worker in [one for one in workers if one.pipe in ready]:
                yield worker.take()
                if worker.is_dead:
                    worker.close()
                    workers.remove(worker)
                elif waiting:
                    worker.give(waiting.pop())
    finally:
        gc.unfreeze()
        for worker in workers:
            worker.close()


def serve(pipe: Connection, held: list[Connection], evaluate: Evaluate, parent: int) -> None:
    """Be a worker until the parent closes its end or dies.

    Args:
        pipe: to the parent.
        held: the parent's own ends, which the fork copied; as long as one is open here, another
            worker would not see the parent go.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        return
    for end in held:
        end.close()
    while True:
        try:
            task = int.from_bytes(pipe.recv_bytes(), "little")
        except EOFError:
            return
        pipe.send_bytes(evaluate(task))

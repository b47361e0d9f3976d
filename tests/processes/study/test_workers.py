import os
import signal
import threading

import pytest

from common.errors import BugError
from processes.study.workers import run_forked


def square(task: int) -> bytes:
    return str(task * task).encode()


def deadly(task: int) -> bytes:
    if task == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if task == 5:
        os._exit(7)
    return square(task)


@pytest.mark.parametrize("jobs", [1, 3])
def test_every_task_is_answered_once(jobs):
    found = sorted(run_forked(square, list(range(20)), jobs))
    assert found == [(task, square(task), "") for task in range(20)]


def test_no_tasks_need_no_worker():
    assert list(run_forked(square, [], 4)) == []


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_dead_worker_takes_only_its_task_with_it(jobs):
    found = {outcome.task: outcome for outcome in run_forked(deadly, list(range(9)), jobs)}
    assert sorted(found) == list(range(9))
    assert found[3].failure.startswith("its process ended with SIGKILL")
    assert found[5].failure.startswith("its process ended with exit code 7")
    assert all(found[task].answer == square(task) for task in found if task not in (3, 5))


def test_leaving_early_ends_the_workers():
    running = run_forked(lambda task: str(os.getpid()).encode(), list(range(50)), 2)
    pid = int(next(running).answer)
    running.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_threads_are_refused():
    go = threading.Event()
    thread = threading.Thread(target=go.wait, name="other")
    thread.start()
    try:
        with pytest.raises(BugError, match="MainThread, other, expected one before a fork"):
            next(run_forked(square, [1], 1))
    finally:
        go.set()
        thread.join()

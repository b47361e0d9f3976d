"""Trivial stages and a driver for supervisor tests; run as a script with a JSON argument."""

import json
import os
import signal
import sys
from enum import IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from common import clock, log
from common.enums import Phase
from common.records import LAYOUTS
from processes.recorder import app as recorder
from processes.recorder.config import RecorderConfig
from processes.supervisor.app import Supervisor
from processes.supervisor.config import SupervisorConfig
from processes.supervisor.placement import place
from processes.supervisor.setup import Setup
from processes.supervisor.warm import warm_up_shared
from processes.wiring import Plan, ProcessSpec, RingSpec, TableSpec

PERIOD_NS = 2_000_000


class Counter(IntEnum):
    DONE = 0
    STOP_ORDERS = 1


LABELS = {Counter.DONE: "Records handled (monotonic)", Counter.STOP_ORDERS: "Asked to stop (gauge)"}


class Source:
    """Writes one numbered record every PERIOD_NS, and misbehaves as the config says."""

    def __init__(self, context: Any) -> None:
        self.out = context.producer("market", "sink")
        self.counters = context.counters(LABELS, ["step"])
        self.config = context.config
        self.epoch = context.epoch
        self.due_ns = 0
        self.drained_ns = 0
        if self.config.get("refuse_to_start"):
            os._exit(self.config["refuse_to_start"])

    def do_work(self, now_ns: int) -> int:
        if now_ns < self.due_ns:
            return 0
        self.due_ns = now_ns + PERIOD_NS
        slot = np.zeros(1, LAYOUTS["CLOCK"])
        slot["ts_mono_ns"] = self.counters.values[Counter.DONE]
        self.out.write(slot)
        self.counters.values[Counter.DONE] += 1
        if self.config.get("hang") and self.epoch == 1 and self.counters.values[Counter.DONE] > 20:
            os.kill(os.getpid(), signal.SIGSTOP)
        if self.config.get("raise_in_loop") and self.epoch == 1:
            raise ValueError("planted")
        return 1

    def next_timer_ns(self) -> int:
        return self.due_ns

    def on_phase(self, phase: Phase, now_ns: int) -> None:
        if phase == Phase.STOP_ORDERS:
            self.counters.values[Counter.STOP_ORDERS] += 1
            self.drained_ns = now_ns + self.config.get("drain_ms", 0) * 1_000_000

    def is_drained(self) -> bool:
        return clock.now_ns() >= self.drained_ns

    def close(self) -> None:
        self.out.close()


class Sink:
    """Reads what the source writes; wakes by its bell."""

    def __init__(self, context: Any) -> None:
        self.inp = context.consumer("source", "market")
        self.consumers = [self.inp]
        self.counters = context.counters(LABELS, [])

    def do_work(self, now_ns: int) -> int:
        count = len(self.inp.read(64))
        self.counters.values[Counter.DONE] += count
        return count

    def close(self) -> None:
        self.inp.close()


class Service:
    """An asyncio service; stands for the local venue."""

    def __init__(self, context: Any) -> None:
        self.port_file = Path(context.state_dir) / "port"

    async def start(self) -> None:
        self.port_file.write_text("4711\n")

    async def stop(self) -> None:
        self.port_file.unlink()


def build_recorder(context: Any) -> Any:
    """The real one; or, as the config says, one that never comes up."""
    wish = context.config["recorder"]
    if wish == "hang":
        os.kill(os.getpid(), signal.SIGSTOP)
    if "refuse_to_start" in wish:
        os._exit(wish["refuse_to_start"])
    context.config = SimpleNamespace(recorder=RecorderConfig(**wish))
    return recorder.build(context)


class Screen:
    """Writes every event as one line."""

    def progress(self, step: str, done: int, total: int) -> None:
        log.event("progress", step=step, done=done, total=total)

    def event(self, name: str, **values: object) -> None:
        log.event(name, **values)

    def tick(self, supervisor: Any, now_ns: int) -> None:
        pass

    def close(self) -> None:
        pass


def warm_up(progress: Any) -> None:
    progress("fake", 1, 1)
    warm_up_shared(PLAN)
    recorder.warm_up()


RECORDER = ProcessSpec("recorder", f"{__name__}:build_recorder", "market", False, is_observer=True)
PLAN = Plan(
    (
        ProcessSpec("service", f"{__name__}:Service", "market", False, is_essential=True),
        ProcessSpec("source", f"{__name__}:Source", "market", True),
        ProcessSpec("sink", f"{__name__}:Sink", "order", True),
    ),
    (RingSpec("source", "market", "sink", "MARKET", "drop", 1024),),
    (TableSpec("sink", "bbo", "BBO_CELL", 4),),
)


def main() -> int:
    wish = json.loads(sys.argv[1])
    log.set_process("supervisor")
    state_dir = Path(wish["state_dir"])
    plan = PLAN
    if "recorder" in wish:
        plan = PLAN._replace(processes=(*PLAN.processes, RECORDER))
    setup = Setup(
        instance=wish["instance"],
        config=wish,
        state_dir=state_dir,
        instruments=[],
        plan=plan,
        settings=SupervisorConfig(**wish.get("settings", {})),
    )
    cores = sorted(os.sched_getaffinity(0))
    placement = place(plan.processes, cores, [], "auto", {})
    run_for_ns = int(wish.get("run_for_s", 0) * 1e9)
    supervisor = Supervisor(setup, placement, Screen(), warm_up, run_for_ns)
    return supervisor.run(keep=wish.get("keep", False))


if __name__ == "__main__":
    sys.exit(main())

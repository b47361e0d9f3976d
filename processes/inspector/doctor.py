"""`tickring doctor`: what this host lacks for isolated cores, and how far its cores are apart."""

import contextlib
import os
import platform
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from common import clock
from common.clock import new_timespec, read_monotonic_ns
from processes.inspector.show import print_json, print_table
from processes.wiring import PROCESSES, RINGS, TABLES
from shm import registry
from shm.atomics import cpu_relax
from shm.counters import BUCKETS, record_value, summarize
from shm.cursors import available, publish, release, try_claim
from shm.ring import Consumer, Producer, anonymous_ring, create_ring

ROUNDS = 20_000
ROUNDS_WARM_UP = 2_000
WAIT_NS_MAX = 2_000_000_000
RING_CAPACITY = 64
CORES_NEEDED = sum(process.is_hot for process in PROCESSES) + 1
SHM_BYTES_NEEDED = 256 << 20
HOT_NAMES = ", ".join(process.name for process in PROCESSES if process.is_hot)


def read_text(path: str) -> str:
    """Return a small file's text, "" if it cannot be read."""
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def check_isolation() -> tuple[str, str, str]:
    """Look for cores that the scheduler leaves alone."""
    found = read_text("/sys/devices/system/cpu/isolated")
    right = f"isolcpus=, nohz_full= and rcu_nocbs= with {CORES_NEEDED - 1} cores ({HOT_NAMES})"
    return ("ok" if found else "missing", found or "none isolated", right)


def check_cores() -> tuple[str, str, str]:
    """Count the cores this process may use."""
    count = len(os.sched_getaffinity(0))
    state = "ok" if count >= CORES_NEEDED else "missing"
    return (state, f"{count} cores", f"{CORES_NEEDED} to spin; with fewer all processes park")


def check_governor() -> tuple[str, str, str]:
    """Look at the frequency governor."""
    found = read_text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if not found:
        return ("unknown", "no cpufreq (a virtual machine?)", "performance")
    return ("ok" if found == "performance" else "missing", found, "performance")


def check_clocksource() -> tuple[str, str, str]:
    """Look at what CLOCK_MONOTONIC reads."""
    found = read_text("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    return ("ok" if found == "tsc" else "missing", found or "unknown", "tsc: reads in ~20 ns")


def check_tsc() -> tuple[str, str, str]:
    """Look at whether the time stamp counter is steady."""
    flags = set()
    for line in read_text("/proc/cpuinfo").splitlines():
        if line.startswith("flags"):
            flags = set(line.split())
            break
    lacking = {"constant_tsc", "nonstop_tsc"} - flags
    return ("missing" if lacking else "ok", ", ".join(sorted(lacking)) or "steady", "steady")


def check_memlock() -> tuple[str, str, str]:
    """Look at how much memory may be locked."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    found = "unlimited" if soft == resource.RLIM_INFINITY else f"{soft >> 20} MiB"
    is_enough = soft == resource.RLIM_INFINITY or soft >= SHM_BYTES_NEEDED
    return ("ok" if is_enough else "missing", found, f"at least {SHM_BYTES_NEEDED >> 20} MiB")


def check_shm() -> tuple[str, str, str]:
    """Look at the room in /dev/shm."""
    status = os.statvfs("/dev/shm")
    free = status.f_bavail * status.f_frsize
    state = "ok" if free >= SHM_BYTES_NEEDED else "missing"
    need = f"at least {SHM_BYTES_NEEDED >> 20} MiB for {len(RINGS)} rings, {len(TABLES)} tables"
    return (state, f"{free >> 20} MiB free", need)


def check_busy_poll() -> tuple[str, str, str]:
    """Look at whether sockets are polled in the kernel."""
    found = read_text("/proc/sys/net/core/busy_read")
    state = "ok" if found not in ("", "0") else "missing"
    return (state, f"net.core.busy_read={found or '?'}", "50 (microseconds), see systemd/sysctl.d")


def check_throttling() -> tuple[str, str, str]:
    """Look at whether a spinning real-time process would be stopped."""
    found = read_text("/proc/sys/kernel/sched_rt_runtime_us")
    state = "ok" if found == "-1" else "unknown"
    return (state, f"sched_rt_runtime_us={found or '?'}", "-1 if processes run under SCHED_FIFO")


def check_huge_pages() -> tuple[str, str, str]:
    """Look at transparent huge pages, whose compaction stalls processes."""
    found = read_text("/sys/kernel/mm/transparent_hugepage/enabled")
    chosen = found.partition("[")[2].partition("]")[0] or "unknown"
    return ("missing" if chosen == "always" else "ok", chosen, "madvise or never")


CHECKS: dict[str, Callable[[], tuple[str, str, str]]] = {
    "cores": check_cores,
    "isolcpus": check_isolation,
    "governor": check_governor,
    "clocksource": check_clocksource,
    "tsc": check_tsc,
    "memlock": check_memlock,
    "shm size": check_shm,
    "busy poll": check_busy_poll,
    "rt throttling": check_throttling,
    "huge pages": check_huge_pages,
}


@njit(cache=True)
def ping(out, inp, rounds, wait_ns_max, timespec, histograms):
    """Send one slot and wait for it to come back, again and again.

    Args:
        out, inp: Out and In of two market rings.
        rounds: how often.
        wait_ns_max: give up after this long without an answer.
        timespec: int64[2], scratch.
        histograms: int64[1, BUCKETS], changed: round trips, ns.

    Returns:
        Rounds done.
    """
    mask = out.slots.shape[0] - 1
    for i in range(rounds):
        start_ns = read_monotonic_ns(timespec)
        sequence = try_claim(out, 1)
        if sequence < 0:
            return i
        out.slots[sequence & mask, 0] = i
        publish(out)
        spins = 0
        while True:
            first, end = available(inp)
            if end > first:
                break
            cpu_relax()
            spins += 1
            if spins & 1023 == 0 and read_monotonic_ns(timespec) - start_ns > wait_ns_max:
                return i
        release(inp, end)
        record_value(histograms, 0, read_monotonic_ns(timespec) - start_ns)
    return rounds


@njit(cache=True)
def echo(out, inp, rounds, wait_ns_max, timespec):
    """Send every slot back. Args and Returns as in `ping`."""
    mask = out.slots.shape[0] - 1
    last_ns = read_monotonic_ns(timespec)
    for i in range(rounds):
        spins = 0
        while True:
            first, end = available(inp)
            if end > first:
                break
            cpu_relax()
            spins += 1
            if spins & 1023 == 0 and read_monotonic_ns(timespec) - last_ns > wait_ns_max:
                return i
        value = inp.slots[first & mask, 0]
        release(inp, end)
        sequence = try_claim(out, 1)
        if sequence < 0:
            return i
        out.slots[sequence & mask, 0] = value
        publish(out)
        last_ns = read_monotonic_ns(timespec)
    return rounds


def warm_up() -> None:
    """Compile or load both kernels before the fork."""
    out, inp = anonymous_ring("MARKET", RING_CAPACITY)
    ping(out.end, inp.end, 0, 0, new_timespec(), np.zeros((1, BUCKETS), np.int64))
    echo(out.end, inp.end, 0, 0, new_timespec())


def measure_latency(first_core: int, second_core: int) -> dict[str, Any]:
    """Return the round trip of one 64-byte slot between two pinned, spinning processes, in ns."""
    instance = f"doctor-{os.getpid()}"
    names = [registry.ring_name(instance, *parts) for parts in (("a", "x", "b"), ("b", "x", "a"))]
    for name in names:
        create_ring(name, "MARKET", RING_CAPACITY)
    allowed = os.sched_getaffinity(0)
    warm_up()
    pid = os.fork()
    if pid == 0:
        try:
            os.sched_setaffinity(0, {second_core})
            inp, out = Consumer.open(names[0], "MARKET"), Producer.open(names[1], "MARKET")
            echo(out.end, inp.end, ROUNDS_WARM_UP + ROUNDS, WAIT_NS_MAX, new_timespec())
        finally:
            os._exit(0)
    try:
        os.sched_setaffinity(0, {first_core})
        out, inp = Producer.open(names[0], "MARKET"), Consumer.open(names[1], "MARKET")
        histograms = np.zeros((1, BUCKETS), np.int64)
        with contextlib.closing(out), contextlib.closing(inp):
            ping(out.end, inp.end, ROUNDS_WARM_UP, WAIT_NS_MAX, new_timespec(), histograms)
            histograms[:] = 0
            ping(out.end, inp.end, ROUNDS, WAIT_NS_MAX, new_timespec(), histograms)
    finally:
        os.waitpid(pid, 0)
        os.sched_setaffinity(0, allowed)
        registry.clean(instance)
    return {"cores": [first_core, second_core], **summarize(histograms[0])}


def doctor(as_json: bool) -> None:
    """Print every check and the measured latency."""
    rows = [(name, *check()) for name, check in CHECKS.items()]
    cores = sorted(os.sched_getaffinity(0))
    started_ns = clock.now_ns()
    latency = [measure_latency(cores[0], core) for core in cores[1:2]]
    found = {
        "host": platform.node(),
        "kernel": platform.release(),
        "checks": [
            dict(zip(("name", "state", "found", "wanted"), row, strict=True)) for row in rows
        ],
        "ring_round_trip_ns": latency,
        "measured_in_s": round((clock.now_ns() - started_ns) / 1e9, 2),
    }
    if as_json:
        print_json(found)
        return
    print_table(["check", "state", "found", "wanted"], [list(row) for row in rows])
    for one in latency:
        print(
            f"ring round trip between cores {one['cores'][0]} and {one['cores'][1]}:"
            f" p50 {one['p50']} ns, p99 {one['p99']} ns, max {one['max']:,} ns"
            f" ({one['count']:,} rounds, two spinning processes; a busy host makes it slower)"
        )
    if not latency:
        print("ring round trip: one core only, nothing to measure")

"""A disk that is really full: a small file system of its own, where the kernel allows one."""

import subprocess
import sys

import pytest

from tests.support import ROOT

MOUNT = 'mount -t tmpfs -o size=1m none "$0" && exec "$@"'
UNSHARE = ("unshare", "--map-root-user", "--mount", "sh", "-c", MOUNT)
SCRIPT = """
import sys
from pathlib import Path
from common import kernel_cache
kernel_cache.configure()
import numpy as np
from common import clock
from processes.recorder.config import RecorderConfig
from processes.recorder.counters import LABELS, Counter
from processes.recorder.stage import RecorderStage
from processes.recorder.tap import RingTap
from shm import registry
from shm.counters import anonymous_counters
from shm.recording import Run
from shm.ring import MARKET, Producer, create_ring

run, instance, key = Path(sys.argv[1], "run"), sys.argv[2], "a.market.b"
name = registry.ring_name(instance, *key.split("."))
create_ring(name, MARKET, 1024, overwrite=True)
config = RecorderConfig(total_bytes_max=1 << 30, free_bytes_min=0)
stage = RecorderStage(
    run, {"complete": False, "stopped": "", "rings": {}}, config,
    lambda: [RingTap(run, key, name, config)], lambda: None, set(), set(),
    anonymous_counters(LABELS, []), clock,
)
producer = Producer.open(name, MARKET)
for second in range(1, 60):
    producer.write(np.full((500, 8), second))
    stage.do_work(second * 10**9)
producer.close()
stage.close()
assert stage.is_stopped and stage.values[Counter.STOPPED] == 1
found = Run.open(run)
(first, end), = found.rings[key].spans
assert first == 0 and 10_000 < end < 20_000 and end % 500 == 0, end
assert found.check() == [] and not found.manifest["complete"]
assert found.rings[key].read(end - 1, end)[0, 0] == end // 500
"""


def test_enospc_stops_the_recording_and_leaves_it_whole(tmp_path, instance):
    if subprocess.run([*UNSHARE, str(tmp_path), "true"], capture_output=True).returncode:
        pytest.skip("no file systems of one's own on this machine")
    done = subprocess.run(
        [*UNSHARE, str(tmp_path), sys.executable, "-c", SCRIPT, str(tmp_path), instance],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "no space left on device, expected to write it" in done.stderr

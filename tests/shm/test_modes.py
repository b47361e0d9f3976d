"""The same tests with bounds checks compiled in, and with nothing compiled at all."""

import os
import subprocess
import sys

import pytest
from numba import config

from tests.support import ROOT

KERNEL_TESTS = [
    f"tests/shm/test_{name}.py"
    for name in ("atomics", "ring", "table", "counters", "latch", "turn", "observer")
]


@pytest.mark.skipif(
    bool(config.DISABLE_JIT or config.BOUNDSCHECK), reason="this is one of the two runs"
)
@pytest.mark.parametrize(
    ("mode", "extra"),
    [("NUMBA_BOUNDSCHECK", ["tests/shm/test_bits.py"]), ("NUMBA_DISABLE_JIT", [])],
)
def test_kernels_pass_in_the_other_modes(mode, extra):
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    environment = {**os.environ, mode: "1"}
    environment.pop("NUMBA_CACHE_DIR", None)
    done = subprocess.run(
        [*command, *KERNEL_TESTS, *extra],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]

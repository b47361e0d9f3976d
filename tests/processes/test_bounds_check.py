"""The decoder's and the book's tests once more, with bounds checks compiled into the kernels."""

import os
import subprocess
import sys

import pytest
from numba import config

from tests.support import ROOT

KERNEL_TESTS = [
    "tests/fuzz/test_feed_decoder.py",
    "tests/processes/feed/test_json_scan.py",
    "tests/processes/book/test_book.py",
    "tests/processes/book/test_sync.py",
]
DEADLINE_S = 600  # a cold kernel cache


@pytest.mark.skipif(
    bool(config.DISABLE_JIT or config.BOUNDSCHECK), reason="this is the run with bounds checks"
)
def test_decoder_and_book_stay_within_their_arrays():
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1"}
    environment.pop("NUMBA_CACHE_DIR", None)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *KERNEL_TESTS],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]

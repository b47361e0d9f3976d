"""What holds for every strategy, whatever market and answers it meets."""

import hashlib
import os
import random
import subprocess
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.enums import RequestKind
from processes.strategy import api
from processes.strategy import desk as at
from processes.supervisor.check import check_config

from tests.processes.strategy.harness import Harness
from tests.processes.strategy.naive_risk import MIDS, play
from tests.support import ROOT

CLIP = 1_000_000.0  # some 10 steps of the first instrument, 20 of the second
TAKER = {"slippage_bps": 2.0, "clip_notional": CLIP, "stale_ns_max": 20_000}
CASES = {
    "momentum:Momentum": SimpleNamespace(
        params={
            "ticks": 3, "threshold_bps": 1.0, "taker_fee_bps": 0.5, "pause_ns": 500, **TAKER,
        },
        clips_max=1,
        in_flight=1,
    ),
    "liquidation:Liquidation": SimpleNamespace(
        params={
            "ticks": 4, "velocity_bps_min": 1.0, "average_ticks": 30, "burst_ratio_min": 1.2,
            "normal_ratio_max": 1.1, "quiet_ns_max": 5_000, "pause_ns": 500, **TAKER,
        },
        clips_max=1,
        in_flight=1,
    ),
    "mean_reversion:MeanReversion": SimpleNamespace(
        params={
            "samples": 6, "sample_ns": 300, "entry_z": 1.0, "exit_z": 0.2, "maker_fee_bps": 0.1,
            "position_clips_max": 2, "pause_ns": 500, **TAKER,
        },
        clips_max=2,
        in_flight=1,
    ),
    "vwap_execution:VwapExecution": SimpleNamespace(
        params={
            "side": -1, "parent_notional": 20 * CLIP, "child_notional": CLIP,
            "horizon_ns": 200_000, "slice_ns": 900, "participation_max": 0.2,
            **{f"curve_{k}": k + 1 for k in range(8)},
            "slippage_bps": 2.0, "stale_ns_max": 20_000,
        },
        clips_max=20,
        in_flight=1,
    ),
    "market_maker:MarketMaker": SimpleNamespace(
        params={
            "edge_bps": 1.0, "skew_bps": 0.5, "smoothing": 0.3, "requote_bps": 0.2,
            "clip_notional": CLIP, "position_clips_max": 3, "stale_ns_max": 20_000,
        },
        clips_max=3,
        in_flight=2,
    ),
}  # fmt: skip


def harness_of(target):
    cls = api.load_strategy(f"processes.strategy.{target}")
    return Harness(cls, CASES[target].params)


def check_limits(case):
    """Return the check of `play`: positions with all that is open, requests in flight."""

    def check(risk, intents):
        for i in range(len(risk.position)):
            assert risk.in_flight(i) <= case.in_flight
            steps_max = int(case.clips_max * CLIP / (0.9 * MIDS[i]))
            for side in (1, -1):
                assert risk.exposure(i, side) <= steps_max
        assert risk.h.d.words[at.REJECT_COUNT] == 0, "no verb is called that is then refused"
        for intent in intents:
            assert intent["kind"] in (RequestKind.NEW, RequestKind.REPLACE, RequestKind.CANCEL)
            if intent["reduce_only"]:
                held = risk.position[int(intent["instrument_id"])]
                assert int(intent["side"]) * held < 0
                assert int(intent["order_qty_steps"]) <= abs(held)

    return check


@pytest.mark.parametrize("target", CASES)
def test_limits_hold_and_one_request_is_in_flight(target):
    """Random books, trades, gaps, silences, fills, refusals and restarts of risk."""
    traded = []

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(st.integers(0, 2**32))
    def run(seed):
        h = harness_of(target)
        out = play(h, random.Random(seed), 300, check_limits(CASES[target]))
        traded.append(len(out) // 128)

    run()
    assert sum(traded) > 60 * 5, "the strategy must trade to be tried"


SCENARIO = """
import sys
sys.path.insert(0, %r)
from common import kernel_cache
kernel_cache.configure()
from tests.processes.strategy.test_all_strategies import print_digests
print_digests()
"""


def print_digests():
    """Print count and digest of the intents and the state of a long game of each strategy."""
    for target in CASES:
        h = harness_of(target)
        out = play(h, random.Random(11), 250, lambda risk, intents: None)
        digest = hashlib.sha256(out + h.block.tobytes()).hexdigest()
        sys.stdout.write(f"{target} {len(out) // 128} {digest}\n")


def test_compiled_and_uncompiled_decide_the_same():
    """250 turns of each: every intent and the whole state block, byte for byte."""
    results = []
    for flag in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", SCENARIO % str(ROOT)],
            env={**os.environ, "NUMBA_DISABLE_JIT": flag},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        results.append(done.stdout.splitlines())
    assert results[0] == results[1]
    assert len(results[0]) == len(CASES)
    assert all(int(line.split()[1]) > 4 for line in results[0])


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "strategies").glob("*.toml")))
def test_each_config_is_in_order(path):
    assert check_config(path)["instance"] == path.stem

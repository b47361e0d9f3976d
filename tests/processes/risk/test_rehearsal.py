"""After warming up nothing is compiled any more, whatever happens."""

import os
import subprocess
import sys

from tests.support import ROOT

# Runs in a process of its own: it forbids every kernel of risk, called or not, to compile.
SCRIPT = """
import sys, tempfile
from pathlib import Path
from numba.core import event
from numba.core.dispatcher import Dispatcher
from processes.risk.app import warm_up
from shm.latch import anonymous_latch

anonymous_latch().set(0)  # the supervisor warms up what all processes share
warm_up()
late = []

class Listener(event.Listener):
    def on_start(self, what):
        late.append(what.data["dispatcher"].py_func.__qualname__)
    def on_end(self, what):
        pass

event.register("numba:compile", Listener())
from common.enums import ExecType, KillSource, OrderStatus, Phase, Reject, ReportSource
from tests.processes.risk.rig import MS, Rig
from tests.processes.risk.test_recovery import busy_rig
from tests.processes.risk.test_reconcile import reconnect

with tempfile.TemporaryDirectory() as folder:
    rig = busy_rig(Path(folder))
    rig.open_orders = [{"client_order_id": 1, "venue_order_id": 61, "instrument_id": 1}]
    rig.trades = [{"exec_id": 99, "venue_order_id": 5, "instrument_id": 0, "side": 1,
                   "last_qty_steps": 1, "last_px_steps": 7}]
    reconnect(rig)
    rig.turn(10 * MS, 20)
    rig.crash()
    rig.turn(10 * MS, 20)
    rig.crash(new_rings=True)
    rig.sockets()
    rig.open_orders = []
    rig.turn(100 * MS, 50)
    rig.peers["gateway"] = rig.peers["strategy"] = -1
    rig.turn(100 * MS, 50)
    rig.others.kill_page.set(KillSource.API)
    rig.stage.on_phase(Phase.STOP_ORDERS, rig.now_ns)
    rig.turn(100 * MS, 50)
    rig.stage.is_drained()
    rig.stage.close()
print("late:", late)
"""


def test_nothing_compiles_after_warming_up():
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    assert done.stdout.strip().endswith("late: []"), done.stdout

"""What the tests of the recorder share: two rings of an instance of their own, and recorders."""

import numpy as np
import pytest

from common import clock
from processes.recorder.config import RecorderConfig
from processes.recorder.counters import LABELS, Counter
from processes.recorder.stage import RecorderStage
from processes.recorder.tap import RingTap, StateTap
from processes.wiring import StateSpec
from shm import registry
from shm.counters import anonymous_counters
from shm.recording import Run
from shm.ring import MARKET, Consumer, Producer, create_ring
from shm.segment import exists
from shm.turn import Twin

from tests.support import unique_instance

KEYS = ("a.market.b", "b.report.c")
SPEC = StateSpec("b", "state", 2)
STATE_DTYPE = np.dtype([("words", "<i8", (5,))])


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=60, help="how often the recorder is killed")


class Place:
    """Two rings, b's state, and the folder of a run."""

    def __init__(self, run):
        self.run = run
        self.instance = unique_instance()
        self.names = {key: registry.ring_name(self.instance, *key.split(".")) for key in KEYS}
        self.state_name = registry.segment_name(self.instance, "b", "state")
        create_ring(self.names[KEYS[0]], MARKET, 64)
        create_ring(self.names[KEYS[1]], "REPORT", 64)
        self.market = Producer.open(self.names[KEYS[0]], MARKET)
        self.reports = Producer.open(self.names[KEYS[1]], "REPORT")
        self.reader = Consumer.open(self.names[KEYS[0]], MARKET)
        self.written = 0
        self.stages = []

    def begin(self, **options):
        """Start a recorder, as after a kill -9 if there was one before."""
        wish = {"total_bytes_max": 1 << 30, "free_bytes_min": 0, "poll_ms": 1} | options
        config = RecorderConfig(**wish)
        stage = RecorderStage(
            self.run,
            {"schema": 1, "complete": False, "stopped": "", "replay_from": {}, "rings": {}},
            config,
            lambda: [RingTap(self.run, key, name, config) for key, name in self.names.items()],
            self.open_state(config),
            {KEYS[0]},
            {KEYS[1]},
            anonymous_counters(LABELS, []),
            clock,
        )
        self.stages.append(stage)
        return stage

    def open_state(self, config):
        def open_state():
            if not exists(self.state_name):
                return None
            return StateTap(self.run, SPEC, self.state_name, config)

        return open_state

    def write(self, count):
        """Publish slots whose words tell their sequence; the reader keeps up."""
        for _ in range(count):
            self.reader.read(64)
            assert self.market.write(np.full((1, 8), self.written))
            self.written += 1

    def new_state(self):
        Twin.create(self.state_name, STATE_DTYPE)
        return Twin.open(self.state_name, STATE_DTYPE)

    def leave(self):
        """What is true when the recorder is told to leave: the others have left."""
        for end in (self.market, self.reports, self.reader):
            end.close()

    def opened(self):
        return Run.open(self.run)

    def end(self):
        self.leave()
        for stage in self.stages:
            stage.close()
        registry.clean(self.instance)


def values_of(stage):
    return {counter.name: int(stage.values[counter]) for counter in Counter}


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path / "run")
    yield made
    made.end()


@pytest.fixture
def instance():
    name = unique_instance()
    yield name
    registry.clean(name)

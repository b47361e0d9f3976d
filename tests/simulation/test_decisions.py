"""Simulated runs with every kind of death, recorded and replayed: the decisions are the same."""

import re
from pathlib import Path
from unittest import mock

import msgspec
import numpy as np
import pytest

from processes.replay.run import RunOptions, replay_run
from processes.replay.verdict import facts_here
from processes.strategy import desk as at
from shm.recording import RingWriter, write_manifest

from tests.simulation import run as run_module
from tests.simulation.run import Options, Run, run_seed
from tests.simulation.system import INSTRUMENTS

KEYS = (
    "risk.report.strategy", "supervisor.control.strategy", "book.book.strategy",
    "strategy.intent.risk", "strategy.turn.log",
)  # fmt: skip
FAULTS = ["kill-strategy", "kill-strategy", "kill-book", "kill-risk", "hold-strategy", "cut-public"]
TURNS_PER_CHECKPOINT = 200


class RecordedRun(Run):
    """A run whose strategy's rings are recorded after each turn of any process."""

    folder: Path

    def __init__(self, seed, options, folder):
        super().__init__(seed, options, folder)
        self.rings = [self.system.rings[key] for key in KEYS]
        self.writers = [
            RingWriter(self.folder, ring.key, ring.spec.layout, ring.capacity)
            for ring in self.rings
        ]
        self.states = RingWriter(self.folder, "strategy.state", "STATE", 1)
        self.checkpoint_turn = 0

    def _on_turn(self, process):
        super()._on_turn(process)
        for ring, writer in zip(self.rings, self.writers, strict=True):
            if ring.published > writer.next_sequence:
                sequences = np.arange(writer.next_sequence, ring.published)
                writer.write(ring.slots[sequences & (ring.capacity - 1)])
        twin = self.system.twin
        words = twin.words[twin.flips & 1]
        if words[at.TURN_COUNT] >= self.checkpoint_turn + TURNS_PER_CHECKPOINT:
            self.checkpoint_turn = int(words[at.TURN_COUNT])
            self.states.write(np.concatenate(([self.checkpoint_turn], words))[None])

    def go(self):
        super().go()
        for writer in (*self.writers, self.states):
            writer.close()
        settings = self.settings
        strategy = {"module": settings.strategy, "params": settings.params}
        manifest = {
            "run": "simulated",
            "session": self.system.session,
            "complete": True,
            "config": {"strategy": strategy},
            "config_folder": "",
            "instruments": msgspec.to_builtins(INSTRUMENTS),
            **facts_here(),
        }
        write_manifest(self.folder, manifest)


@pytest.mark.parametrize("seed", [3, 4])
def test_a_run_with_every_kind_of_death_replays_without_a_difference(seed, tmp_path, capsys):
    """Processes die between turns, inside a turn, and before all of its effects are told."""
    options = Options(rounds=2, strategy="market_maker", faults=FAULTS, per_second=4.0)
    with (
        mock.patch.object(RecordedRun, "folder", tmp_path / "run", create=True),
        mock.patch.object(run_module, "Run", RecordedRun),
    ):
        result = run_seed(seed, options)
    assert not result.violation, result.violation
    assert result.facts["deaths"] > 10 and result.facts["new"] > 20
    assert replay_run(RunOptions(path=tmp_path / "run", verify=True)) == 0
    text = capsys.readouterr().out
    assert re.search(r"^states      [1-9]\d* checkpoints compared$", text, re.MULTILINE), text
    found = re.fullmatch(
        r"intents compared: (\d+)  differences: 0  state hashes compared: (\d+)  differences: 0"
        r"  coverage: 100\.0 %",
        text.splitlines()[-1],
    )
    assert found and int(found[1]) > 30 and int(found[2]) > 3, text

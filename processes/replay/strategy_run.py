"""What a recording tells about one strategy: its class, parameters, instruments and rings."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from common.errors import ConfigError, SegmentError, UsageError
from common.instruments import Instrument, instrument_table
from processes.strategy.api import load_strategy, params_of
from processes.strategy.config import StrategyConfig
from processes.strategy.desk import block_dtype
from shm.recording import RingRecording, Run
from shm.segment import Header

LOG_SUFFIX = ".turn.log"
STRATEGY_ID = 0
_CONFIG = "strategy"  # table of the config


class NoRecording:
    """A ring of which nothing was recorded, most likely because nothing had passed."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.capacity = 2
        self.origin = b""
        self.spans: list[tuple[int, int]] = []
        self.gaps: list[tuple[int, int]] = []

    def read(self, first: int, end: int) -> np.ndarray:
        """Refuse. Raises SegmentError."""
        raise SegmentError(f"{self.key}: [{first}, {end}) was asked for, expected nothing")

    def blocks(self, slots_max: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield nothing."""
        return iter(())


Ring = RingRecording | NoRecording


class StrategyRun:
    """One strategy of a recorded run.

    Attributes:
        run: the recording.
        name: of the strategy's process.
        cls, params: what ran, PARAMS[1] as the config said.
        instruments, instrument_rows: of the run, and as INSTRUMENT[n].
        session: makes the client order ids.
        log, intents: its outputs.
        inputs: reports, control, market, as turns take them.
        states: checkpoints of its state block.
    """

    def __init__(self, run: Run, name: str) -> None:
        """Find out what ran.

        Raises:
            UsageError: no strategy of that name was recorded.
            ConfigError: the strategy cannot be loaded, or wants other parameters.
            SegmentError: the manifest is not complete.
        """
        self.run = run
        self.name = choose_strategy(run, name)
        manifest = run.manifest
        try:
            config = msgspec.convert(manifest["config"][_CONFIG], StrategyConfig)
            self.instruments = msgspec.convert(manifest["instruments"], list[Instrument])
            self.session = int(manifest["session"])
            folder = str(manifest["config_folder"])
        except (KeyError, TypeError, ValueError) as error:
            raise SegmentError(
                f"{run.path}: manifest: {error!r}, expected config, config_folder, instruments and"
                " session"
            ) from None
        search_path = Path(folder, config.search_path) if config.search_path else None
        self.cls = load_strategy(config.module, search_path)
        self.module = config.module
        self.values = config.params
        self.params = params_of(self.cls, config.params)
        self.instrument_rows = instrument_table(self.instruments)
        self.block_dtype = block_dtype(
            len(self.instruments),
            self.cls.STATE,  # type: ignore[attr-defined]
        )
        self.log = self._ring(f"{self.name}{LOG_SUFFIX}", "TURN")
        self.intents = self._ring(f"{self.name}.intent.risk", "ORDER_REQUEST")
        self.inputs = (
            self._ring(f"risk.report.{self.name}", "REPORT"),
            self._ring(f"supervisor.control.{self.name}", "MARKET"),
            self._ring(f"book.book.{self.name}", "MARKET"),
        )
        self.states = self._ring(f"{self.name}.state", "STATE")

    def _ring(self, key: str, layout: str) -> Ring:
        found = self.run.rings.get(key)
        if found is None or not found.capacity:
            return NoRecording(key)
        if found.layout != layout:
            raise SegmentError(f"{found.folder}: layout is {found.layout}, expected {layout}")
        return found

    @property
    def recorded_layout(self) -> int:
        """Fingerprint of the recorded state block, 0 if it was not recorded."""
        words = np.frombuffer(self.states.origin, np.int64)
        return int(words[Header.FINGERPRINT]) if len(words) else 0

    @property
    def turn_count(self) -> int:
        """Turns that the log is known to have, recorded or not."""
        return end_of(self.log)

    @property
    def intent_count(self) -> int:
        """Intents that are known to have been sent, recorded or not."""
        return end_of(self.intents)

    def changed_params(self, changes: dict[str, str]) -> np.ndarray:
        """Return PARAMS[1] with some values replaced by text of a command line.

        Raises:
            UsageError: no such parameter, or not a number of its kind.
        """
        values = dict(self.values)
        for key, text in changes.items():
            name = key.removeprefix("strategy.").removeprefix("params.")
            if name not in values:
                raise UsageError(f"--set: {key!r}, expected one of {', '.join(sorted(values))}")
            dtype: np.dtype = self.cls.PARAMS[name]  # type: ignore[attr-defined]
            try:
                values[name] = int(text) if dtype.kind == "i" else float(text)
            except ValueError:
                kind = "an integer" if dtype.kind == "i" else "a number"
                raise UsageError(f"--set: {key} is {text!r}, expected {kind}") from None
        try:
            return params_of(self.cls, values)
        except (ConfigError, OverflowError) as error:
            raise UsageError(f"--set: {error}") from None


def choose_strategy(run: Run, name: str) -> str:
    """Return `name`, or that of the only strategy whose turns were recorded.

    Raises:
        UsageError: there are several and none was named, or none of that name.
    """
    suffix = LOG_SUFFIX
    found = sorted(key.removesuffix(suffix) for key in run.rings if key.endswith(suffix))
    if not found:
        raise UsageError(
            f"{run.path}: no turn log, expected <strategy>{suffix} among the recorded rings"
        )
    if name and name not in found:
        raise UsageError(f"--strategy: {name!r}, expected one of {', '.join(found)}")
    if not name and len(found) > 1:
        raise UsageError(f"--strategy: {', '.join(found)} were recorded, expected one of them")
    return name or found[0]


def end_of(ring: Ring) -> int:
    """Return the sequence behind the last slot that is known to have passed, 0 if none is."""
    ends = [end for _first, end in ring.spans] + [last + 1 for _first, last in ring.gaps]
    return max(ends, default=0)


def is_whole(ring: Ring, first: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return bool[n]: whether each [first, end) was recorded; an empty range was.

    Args:
        first, end: int64[n], sequences.
    """
    spans = np.array(ring.spans, np.int64).reshape(-1, 2)
    at = np.searchsorted(spans[:, 0], first, side="right") - 1
    ends = np.concatenate((spans[:, 1], [-1]))  # before the first span: the last one, -1
    return (first == end) | (end <= ends[at])

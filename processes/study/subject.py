"""The backtester as studies see it: see `study.Subject`."""

from collections.abc import Hashable
from pathlib import Path

import msgspec
import numba
import numpy as np

from processes.backtest.run import Run, SetUp, load_data, load_setup, run
from processes.backtest.tapes import Data
from processes.study.plan import Subject
from processes.study.windows import cut, span_of
from shm.segment import build_hash

BACKTESTER = "processes.study.subject:backtester"


def backtester() -> Subject:
    """Return the subject of every study on the command line."""
    return Subject(
        load_setup=load_setup,
        load_data=load_data,
        data_key=data_key,
        warm_up=compile_loop,
        run=run,
        span_of=span_of,
        cut=cut,
        sources=sources,
        files=files,
    )


def data_key(setup: SetUp) -> Hashable:
    """Return all of a set-up that `load_data` looks at."""
    config = setup.backtest
    return tuple(setup.instruments), config.feed_offset_ns, config.funding_file


def compile_loop(setup: SetUp, data: Data) -> None:
    """Compile the loop for a set-up's strategy: a run that ends before the first event."""
    Run(setup, data, until_ns=1).go()


def sources(setup: SetUp) -> str:
    """Return what changes with our sources, the strategy's, the compiler, or an included table."""
    tag = setup.strategy.STATE.names[-1]  # type: ignore[attr-defined]
    tables = msgspec.json.encode([setup.file, setup.instruments]).decode()
    return " ".join([str(build_hash()), tag, numba.__version__, np.__version__, tables])


def files(setup: SetUp) -> list[Path]:
    """Return the files that a set-up names."""
    folder = setup.path.resolve().parent
    config = setup.backtest
    named = [
        setup.file.instruments_file,
        config.order_latency.file,
        config.funding_file,
        config.compute_run,
    ]
    return [folder / Path(text).expanduser() for text in named if text]

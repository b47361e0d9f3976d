"""Build the strategy stage of a run."""

from pathlib import Path
from typing import Any

import numpy as np

from common.instruments import Instrument, instrument_table
from common.records import REPORT
from processes.runner import Context
from processes.strategy.api import load_strategy, params_of
from processes.strategy.desk import INTENTS_PER_TURN_MAX, block_dtype
from processes.strategy.stage import LABELS, StrategyStage
from shm.counters import anonymous_counters
from shm.registry import segment_name
from shm.ring import anonymous_ring
from shm.segment import exists
from shm.turn import Twin, anonymous_twin

STRATEGY_ID = 0


def load_configured(config: Any) -> tuple[type, np.ndarray]:
    """Return the strategy class and PARAMS[1] that a whole config names."""
    own, folder = config.strategy, config.strategy.search_path
    cls = load_strategy(own.module, Path(config.folder, folder) if folder else None)
    return cls, params_of(cls, own.params)


def warm_up_for(config: Any, instruments: list[Instrument]) -> None:
    """Compile or load the engine for the strategy of this set-up: one attach and one turn."""
    cls, params = load_configured(config)
    reports, report_end = anonymous_ring("REPORT", 2)
    _, control_end = anonymous_ring("MARKET", 2)
    _, market_end = anonymous_ring("MARKET", 2)
    intents, _ = anonymous_ring("ORDER_REQUEST", 2 * INTENTS_PER_TURN_MAX)
    turns, _ = anonymous_ring("TURN", 2, overwrite=True)
    stage = StrategyStage(
        cls,
        params,
        instrument_table(instruments),
        anonymous_twin(block_dtype(len(instruments), cls.STATE)),  # type: ignore[attr-defined]
        (report_end, control_end, market_end),
        (intents, turns),
        anonymous_counters(LABELS, []),
        session=1,
        strategy_id=STRATEGY_ID,
    )
    reports.write(np.zeros(1, REPORT))
    for now_ns in (1, 2):
        stage.do_work(now_ns)


def build(context: Context) -> StrategyStage:
    """Open the rings and the state block; a first start makes the block, a restart finds it.

    Raises:
        ConfigError: the strategy or its parameters are not as the config says.
    """
    cls, params = load_configured(context.config)
    name = segment_name(context.instance, context.name, "state")
    dtype = block_dtype(len(context.instruments), cls.STATE)  # type: ignore[attr-defined]
    if not exists(name):
        Twin.create(name, dtype)
    return StrategyStage(
        cls,
        params,
        context.instrument_rows,
        Twin.open(name, dtype),
        (
            context.consumer("risk", "report"),
            context.consumer("supervisor", "control"),
            context.consumer("book", "book"),
        ),
        (context.producer("intent", "risk"), context.producer("turn", "log")),
        context.counters(LABELS, []),
        context.session,
        STRATEGY_ID,
    )

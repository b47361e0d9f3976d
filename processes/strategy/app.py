"""Build the strategy stage of a run."""

from pathlib import Path

from processes.runner import Context
from processes.strategy.api import load_strategy, params_of
from processes.strategy.desk import block_dtype
from processes.strategy.stage import LABELS, StrategyStage
from shm.registry import segment_name
from shm.segment import exists
from shm.turn import Twin

STRATEGY_ID = 0


def build(context: Context) -> StrategyStage:
    """Open the rings and the state block; a first start makes the block, a restart finds it.

    Raises:
        ConfigError: the strategy or its parameters are not as the config says.
    """
    config = context.config.strategy
    search_path = Path(context.config.folder, config.search_path) if config.search_path else None
    cls = load_strategy(config.module, search_path)
    params = params_of(cls, config.params)
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

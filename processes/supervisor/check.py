"""`tickring check`: every check that needs no network, and a summary of what would run."""

from pathlib import Path
from typing import Any

from processes.config import load_config
from processes.strategy.api import load_strategy, params_of


def check_config(path: Path) -> dict[str, Any]:
    """Load a file the way `up` does, and its strategy's parameters.

    Raises:
        ConfigError: anything is wrong.
    """
    loaded = load_config(path)
    config = loaded.config
    folder = config.strategy.search_path
    search_path = Path(config.folder, folder) if folder else None
    params_of(load_strategy(config.strategy.module, search_path), config.strategy.params)
    return {
        "path": str(path),
        "instance": config.instance,
        "mode": config.mode,
        "state_dir": str(loaded.state_dir),
        "symbols": [instrument.symbol for instrument in loaded.instruments],
        "processes": [process.name for process in loaded.plan.processes],
        "notes": loaded.notes,
    }

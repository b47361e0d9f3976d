"""Config table [strategy]."""

from common.config import Base


class StrategyConfig(Base, kw_only=True):
    """Which strategy runs, with which parameters.

    Attributes:
        module: "module:Class"; the class is registered by `@strategy`.
        search_path: folder where the module is also looked for, relative to the config file.
        params: one value per parameter of the class, integers for "<i8" ones.
    """

    module: str
    search_path: str = ""
    params: dict[str, int | float]

"""The verbs that run many backtests: `tickring sweep` and `tickring walk-forward`."""

from pathlib import Path
from typing import Annotated

import typer

from common import kernel_cache
from processes.cli_options import AsJson, ConfigPath, DataPaths, ManyValues, parse_duration

Grid = Annotated[
    list[str], typer.Option("--grid", metavar="KEY=A,B,C...", help="Keys and the values to try.")
]
Metric = Annotated[
    str, typer.Option("--metric", metavar="NAME", help="Figure of the report to rank by.")
]
Jobs = Annotated[
    int, typer.Option("--jobs", metavar="N", min=0, help="Processes at once; 0: one per core.")
]


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    app.command(cls=ManyValues)(sweep)
    app.command("walk-forward", cls=ManyValues)(walk_forward)


def sweep(
    config: ConfigPath,
    data: DataPaths,
    grid: Grid,
    jobs: Jobs = 0,
    engine: Annotated[
        str, typer.Option("--engine", metavar="NAME", help="local, or ray: a cluster.")
    ] = "local",
    address: Annotated[
        str, typer.Option("--address", metavar="HOST:PORT", help="Of the cluster; default: here.")
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Results; default: CONFIG's name, .sweep."),
    ] = None,
    metric: Metric = "pnl",
    as_json: AsJson = False,
) -> None:
    """Backtest all combinations of a grid, and rank them.

    Each result is kept at once: a sweep that was stopped, started again, computes what is missing.

    Example: tickring sweep configs/backtest.toml --data btc.npz --grid qty_steps=5,10
    """
    kernel_cache.configure()
    from processes.study.plan import plan_of
    from processes.study.subject import BACKTESTER
    from processes.study.sweep import engine_of, run_sweep

    plan = plan_of(config, data, grid, metric, jobs)
    chosen = engine_of(engine, BACKTESTER, address)
    folder = out or Path(f"{config.stem}.sweep")
    raise typer.Exit(run_sweep(plan, BACKTESTER, folder, chosen, as_json))


def walk_forward(
    config: ConfigPath,
    data: DataPaths,
    grid: Grid,
    in_sample: Annotated[
        str, typer.Option("--in", metavar="TIME", help="Length of the window to choose on.")
    ],
    out_of_sample: Annotated[
        str, typer.Option("--out", metavar="TIME", help="Length of the window to be judged on.")
    ],
    step: Annotated[
        str, typer.Option("--step", metavar="TIME", help="Between windows; default: --out.")
    ] = "",
    metric: Metric = "pnl",
    jobs: Jobs = 0,
    folder: Annotated[
        Path | None,
        typer.Option("--dir", metavar="DIR", help="Results; default: CONFIG's name, .walk."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Choose parameters on one window, judge on the next.

    Only what the choices were worth out of sample is reported.

    Example: tickring walk-forward configs/backtest.toml --data btc.npz --grid qty_steps=5,10
    --in 10m --out 2m
    """
    lengths_ns = (
        parse_duration(in_sample, "--in"),
        parse_duration(out_of_sample, "--out"),
        parse_duration(step, "--step"),
    )
    kernel_cache.configure()
    from processes.study.plan import plan_of
    from processes.study.subject import backtester
    from processes.study.walk_forward import run_walk_forward

    plan = plan_of(config, data, grid, metric, jobs)
    target = folder or Path(f"{config.stem}.walk")
    raise typer.Exit(run_walk_forward(plan, backtester(), lengths_ns, target, as_json))

"""`tickring backtest CONFIG --data PATH...`: a strategy against a simulated venue, in one loop."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from common.errors import UsageError

if TYPE_CHECKING:
    from processes.report.metrics import Metrics


def run(
    config: Path,
    data: list[Path],
    *,
    settings: list[str],
    report: Path | None,
    summary: Path | None,
    fills: Path | None,
    states: Path | None,
    check_lookahead: bool,
) -> int:
    """Run a backtest, write the files asked for, and print how it went.

    Args:
        config: file of the set-up.
        data: recorded runs, captures, event arrays.
        settings: key=value, as text.
        report, summary, fills, states: files to write, None: not wanted.
        check_lookahead: prove that no decision depends on what comes later.

    Returns:
        The exit code: 0, or 1 if a lookahead was found or no intent could be compared.

    Raises:
        UsageError, ConfigError: an option, the file or the data is wrong.
    """
    from processes.backtest import files
    from processes.backtest.run import load_data, load_setup
    from processes.backtest.run import run as run_backtest
    from processes.convert.progress import progress_bar
    from processes.report.metrics import measure

    setup = load_setup(config, overrides_of(settings))
    with progress_bar("reading data", len(data)) as bar:
        loaded = load_data(setup, data, bar)
    with progress_bar("backtest", len(loaded.here) + len(loaded.venue)) as bar:
        result = run_backtest(setup, loaded, bar)
    if fills is not None:
        files.write_fills(fills, result)
    if states is not None:
        files.write_states(states, result)
    told, metrics = files.summary_of(result), measure(result)
    if summary is not None:
        figures = msgspec.to_builtins(metrics._asdict())  # amounts as exact text
        files.write_summary(summary, {**told, "figures": figures})
    if report is not None:
        from processes.backtest.sensitivity import ADDED_NS, latency_curve
        from processes.report.page import write_report

        with progress_bar("added latency", len(ADDED_NS)) as bar:
            curve = latency_curve(setup, loaded, ADDED_NS, bar)
        write_report(report, setup, result, curve)
    _show(told, metrics)
    if not check_lookahead:
        return 0
    from processes.backtest.lookahead import CUTS, check

    with progress_bar("lookahead", CUTS) as bar:
        found = check(setup, loaded, CUTS, bar=bar)
    print(found.text)
    if not found.intents:
        print("no intent was compared, expected some: this proves nothing; give more data")
    return 1 if found.differences or not found.intents else 0


def overrides_of(settings: list[str]) -> dict[str, str]:
    """Read key=value settings.

    Raises:
        UsageError: one without "=".
    """
    overrides = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise UsageError(f"--set: {setting!r}, expected key=value")
        overrides[key.strip()] = value.strip()
    return overrides


def _show(told: dict[str, Any], metrics: "Metrics") -> None:
    """Print the money, counts that are not 0, and a line per instrument."""
    is_one = len(metrics.instruments) == 1
    for figures in metrics.instruments if is_one else (metrics.total, *metrics.instruments):
        print(
            f"{figures.scope}: pnl {figures.pnl:.4f}  fees {-figures.pnl_fees:.4f}"
            f"  funding {-figures.pnl_funding:.4f}  max drawdown {figures.max_drawdown:.4f}"
            f"  fills {figures.fills}  turnover {figures.turnover:.2f}"
        )
    counts = {name: value for name, value in told.items() if name != "instruments" and value}
    width = max(map(len, counts), default=0)
    for name, value in counts.items():
        print(f"{name:<{width}}  {value}")
    if not told["intents"]:
        print("the strategy had no intent, expected some: look at its parameters and its hooks")
    for symbol, end in told["instruments"].items():
        print(f"{symbol}: " + "  ".join(f"{name} {value}" for name, value in end.items()))

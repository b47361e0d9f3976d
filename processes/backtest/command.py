"""`tickring backtest CONFIG --data PATH...`: a strategy against a simulated venue, in one loop."""

from pathlib import Path

import msgspec

from common.errors import UsageError


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
    """Run a backtest, write the files asked for, and print the counts.

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

    setup = load_setup(config, overrides_of(settings))
    with progress_bar("reading data", len(data)) as bar:
        loaded = load_data(setup, data, bar)
    with progress_bar("backtest", len(loaded.here) + len(loaded.venue)) as bar:
        result = run_backtest(setup, loaded, bar)
    if fills is not None:
        files.write_fills(fills, result)
    if states is not None:
        files.write_states(states, result)
    told = files.summary_of(result)
    if summary is not None:
        from processes.report.metrics import measure

        figures = msgspec.to_builtins(measure(result)._asdict())  # amounts as exact text
        files.write_summary(summary, {**told, "figures": figures})
    if report is not None:
        from processes.backtest.sensitivity import ADDED_NS, latency_curve
        from processes.report.page import write_report

        with progress_bar("added latency", len(ADDED_NS)) as bar:
            curve = latency_curve(setup, loaded, ADDED_NS, bar)
        write_report(report, setup, result, curve)
    _show(told)
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


def _show(told: dict) -> None:
    """Print counts, then a line per instrument."""
    counts = {name: value for name, value in told.items() if name != "instruments"}
    width = max(map(len, counts))
    for name, value in counts.items():
        print(f"{name:<{width}}  {value}")
    for symbol, end in told["instruments"].items():
        print(f"{symbol}: " + "  ".join(f"{name} {value}" for name, value in end.items()))

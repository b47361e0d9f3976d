"""The command line: `tickring VERB`; checks the platform, then imports only what the verb needs."""

import platform
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from common import kernel_cache
from common.errors import TickringError, UnavailableError
from processes import cli_studies
from processes.cli_options import (
    AsJson,
    ConfigPath,
    DataPaths,
    InstanceName,
    ManyValues,
    RunName,
    parse_duration,
)

PYTHON_MIN, PYTHON_END = (3, 11), (3, 14)


app = typer.Typer(
    name="tickring",
    help="High-frequency trading: processes, rings and kernels, and tools to look inside them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 96},
)


def check_platform() -> None:
    """Refuse hosts that the rings were not made for.

    Raises:
        UnavailableError: not Linux on x86-64, or another Python.
    """
    system, machine = platform.system(), platform.machine()
    if (system, machine) != ("Linux", "x86_64"):
        raise UnavailableError(f"platform: {system} on {machine}, expected Linux on x86_64")
    if not PYTHON_MIN <= sys.version_info[:2] < PYTHON_END:
        found = platform.python_version()
        raise UnavailableError(f"python: {found}, expected 3.11, 3.12 or 3.13")


def end_quietly_when_nobody_reads() -> None:
    """Let `| head` end a read-only tool without a word."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)


@app.command()
def up(
    config: ConfigPath,
    run_for: Annotated[
        str, typer.Option("--for", metavar="TIME", help="Stop after 30s, 5m, 1h; from all READY.")
    ] = "",
    instance: Annotated[
        str, typer.Option("--instance", metavar="NAME", help="Run under another name.")
    ] = "",
    summary: Annotated[
        Path | None, typer.Option("--summary", metavar="FILE", help="Write a JSON summary.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the segments for the tools.")] = False,
    live: Annotated[
        bool, typer.Option("--live", help="Allow trading on a venue's main network.")
    ] = False,
) -> None:
    """Start all processes of a set-up, and stop them in order.

    It stops on Ctrl-C, on SIGTERM, or when --for has passed since all were READY.

    Example: tickring up configs/demo.toml --for 30s --summary s.json
    """
    run_for_ns = parse_duration(run_for)
    kernel_cache.configure()
    from processes.supervisor.up import up as start

    code = start(
        config,
        run_for_ns=run_for_ns,
        instance=instance,
        summary_path=summary,
        keep=keep,
        allow_live=live,
    )
    raise typer.Exit(code)


@app.command()
def down(instance: InstanceName = "") -> None:
    """Stop a running instance in order, and wait until it has."""
    kernel_cache.configure()
    from processes.inspector.instance import choose_instance
    from processes.supervisor import control

    control.down(choose_instance(instance))


@app.command()
def status(instance: InstanceName = "", as_json: AsJson = False) -> None:
    """Show who runs where, and how often it was restarted."""
    end_quietly_when_nobody_reads()
    kernel_cache.configure()
    from processes.inspector import show
    from processes.inspector.instance import choose_instance
    from processes.supervisor import control

    show.status(control.status(choose_instance(instance)), as_json)


@app.command()
def clean(
    instance: Annotated[
        str, typer.Option("--instance", metavar="NAME", help="Only this one; default: all dead.")
    ] = "",
) -> None:
    """Remove the segments of dead instances; refuse a live one."""
    kernel_cache.configure()
    from processes.supervisor import control

    for name in control.clean(instance):
        print(name)


@app.command()
def run(
    process: Annotated[str, typer.Argument(metavar="PROCESS", help="venue.")],
    config: Annotated[Path, typer.Option("--config", metavar="CONFIG", help="TOML file.")],
) -> None:
    """Run the local exchange of a paper set-up alone.

    Example: tickring run venue --config configs/demo.toml
    """
    kernel_cache.configure()
    from processes.supervisor.alone import run_alone

    run_alone(process, config)


@app.command()
def check(config: ConfigPath, as_json: AsJson = False) -> None:
    """Validate a config file.

    It is checked against itself, its instruments, its strategy and its key files; nobody is
    contacted.
    """
    end_quietly_when_nobody_reads()
    kernel_cache.configure()
    from processes.inspector import show
    from processes.supervisor.check import check_config

    show.checked(check_config(config), as_json)


@app.command()
def rings(instance: InstanceName = "", run: RunName = "", as_json: AsJson = False) -> None:
    """Show every ring's ledger.

    It balances: offered = published + dropped, published = consumed + lag. Of a recording: what was
    recorded, and what was lost.
    """
    end_quietly_when_nobody_reads()
    kernel_cache.configure()
    from processes.inspector import recorded, show

    chosen = recorded.choose(instance, run)
    if isinstance(chosen, recorded.RecordedInstance):
        recorded.rings(chosen, as_json)
    else:
        show.rings(chosen, as_json)


@app.command()
def stat(
    match: Annotated[
        str, typer.Option("--match", metavar="TEXT", help="Only processes or labels with TEXT.")
    ] = "",
    instance: InstanceName = "",
    as_json: AsJson = False,
) -> None:
    """Show counters with their labels, and latency histograms."""
    end_quietly_when_nobody_reads()
    kernel_cache.configure()
    from processes.inspector import show
    from processes.inspector.instance import Instance, choose_instance

    show.stat(Instance(choose_instance(instance)), match, as_json)


@app.command()
def top(
    instance: InstanceName = "",
    as_json: AsJson = False,
    every: Annotated[str, typer.Option(metavar="TIME", help="Between pictures.")] = "1s",
    count: Annotated[
        int, typer.Option(metavar="N", min=0, help="End after N pictures; 0: never.")
    ] = 0,
) -> None:
    """Show rates, books, positions and latency as they change."""
    end_quietly_when_nobody_reads()
    every_ns = parse_duration(every)
    kernel_cache.configure()
    from processes.inspector.instance import choose_instance
    from processes.inspector.top import top as show_top

    show_top(choose_instance(instance), every_ns, count, as_json)


@app.command()
def tail(
    ring: Annotated[str, typer.Argument(metavar="RING", help="Such as feed.market.book.")],
    count: Annotated[
        int, typer.Option("-n", metavar="N", min=0, max=1_000_000, help="How many at first.")
    ] = 10,
    follow: Annotated[bool, typer.Option("-f", help="Go on as records arrive.")] = False,
    instance: InstanceName = "",
    run: RunName = "",
    as_json: AsJson = False,
) -> None:
    """Show the records of a ring as they pass.

    Example: tickring tail feed.market.book -n 20 -f
    """
    end_quietly_when_nobody_reads()
    kernel_cache.configure()
    from processes.inspector.recorded import choose
    from processes.inspector.tail import tail as show_tail

    show_tail(choose(instance, run), ring, count, follow, as_json)


@app.command()
def book(
    symbol: Annotated[str, typer.Argument(metavar="SYMBOL", help="Such as BTCUSDT.")],
    instance: InstanceName = "",
    run: RunName = "",
    as_json: AsJson = False,
) -> None:
    """Show the newest book that was sent to the strategy."""
    end_quietly_when_nobody_reads()
    kernel_cache.configure()
    from processes.inspector.book import book as show_book
    from processes.inspector.recorded import choose

    show_book(choose(instance, run), symbol, as_json)


@app.command()
def recordings(
    state_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Only of this state folder; default: all known ones."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Read every byte; exit code 1 if one is damaged.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the recorded runs, and whether each is complete.

    Known are the state folders in ~/.local/state/tickring and those of the instances on this host.

    Example: tickring recordings --check
    """
    end_quietly_when_nobody_reads()
    kernel_cache.configure()
    from processes.inspector.recorded import recordings as list_recordings

    raise typer.Exit(list_recordings(state_dir, check, as_json))


@app.command()
def layout(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="A record; default: all.")] = "",
    as_json: AsJson = False,
) -> None:
    """Show records as tables: offset, name, type, meaning, writer."""
    end_quietly_when_nobody_reads()
    from processes.inspector.layouts import layout as show_layout

    show_layout(name, as_json)


@app.command()
def kill(instance: InstanceName = "", as_json: AsJson = False) -> None:
    """Stop trading: no more orders, cancel all; it latches.

    The word is set in shared memory and in a file of the state folder, so it survives a restart.
    """
    kernel_cache.configure()
    from processes.inspector import show
    from processes.inspector.instance import choose_instance
    from processes.inspector.kill import press

    show.pressed(press(choose_instance(instance)), as_json)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Show what this host lacks for isolated cores.

    The latency of a ring between two cores is measured, which takes a moment.
    """
    end_quietly_when_nobody_reads()
    kernel_cache.configure()
    from processes.inspector.doctor import doctor as examine

    examine(as_json)


@app.command()
def replay(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Folder or id of a run, or a raw capture file.")
    ],
    verify: Annotated[bool, typer.Option("--verify", help="Run: compare all decisions.")] = False,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Run: what if a parameter was another."),
    ] = None,
    until: Annotated[
        str, typer.Option(metavar="SEQ", help="Run: the last record; N, RING:N or turn:N.")
    ] = "",
    speed: Annotated[
        float, typer.Option(metavar="X", help="Run: times real time; default: at once.")
    ] = 0.0,
    debugger: Annotated[
        bool, typer.Option("--pdb", help="Run: uncompiled, and stop at the record of --until.")
    ] = False,
    strategy: Annotated[
        str,
        typer.Option(metavar="NAME", help="Run: which strategy. Capture: a set-up to replay too."),
    ] = "",
    venue: Annotated[
        str, typer.Option(metavar="NAME", help="Capture: section of the instruments file.")
    ] = "",
    symbol: Annotated[str, typer.Option(metavar="SYMBOL", help="Capture: whose books.")] = "",
    bbo: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Capture: best bid and ask per event.")
    ] = None,
    book: Annotated[
        Path | None, typer.Option(metavar="FILE.txt", help="Capture: the final book, best first.")
    ] = None,
    summary: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Capture: counts, the book's hash.")
    ] = None,
    instruments: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="Capture: instruments file.")
    ] = None,
    tick_size: Annotated[str, typer.Option(metavar="TEXT", help="Capture: price increment.")] = "",
    lot_size: Annotated[str, typer.Option(metavar="TEXT", help="Capture: lot increment.")] = "",
    price_decimals: Annotated[
        int | None, typer.Option(metavar="N", help="Capture: decimals of prices in the output.")
    ] = None,
    qty_decimals: Annotated[
        int | None, typer.Option(metavar="N", help="Capture: decimals of quantities.")
    ] = None,
) -> None:
    """Take a recorded run's decisions again, or replay a raw capture.

    One process, virtual time, no sockets. With --verify it exits 1 at the first difference.

    Example: tickring replay ~/.local/state/tickring/demo/recordings/RUN --verify

    Example: tickring replay capture.gz --venue binance-usdm --symbol BTCUSDT --bbo bbo.csv
    """
    kernel_cache.configure()
    from processes.replay import command

    of_run = {
        "verify": verify, "changes": changes or [], "until": until, "speed": speed,
        "debugger": debugger,
    }  # fmt: skip
    of_capture = {
        "venue": venue, "symbol": symbol, "bbo": bbo, "book": book, "summary": summary,
        "instruments": instruments, "tick_size": tick_size, "lot_size": lot_size,
        "price_decimals": price_decimals, "qty_decimals": qty_decimals,
    }  # fmt: skip
    raise typer.Exit(command.replay(source, strategy, of_run, of_capture))


@app.command("import")
def import_(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND", help="capture, binance, bybit, tardis, ticks or hftbacktest."
        ),
    ],
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="File, or folder whose files are merged by time.")
    ],
    destination: Annotated[Path, typer.Argument(metavar="DEST", help="Folder of the new run.")],
    symbol: Annotated[str, typer.Option(metavar="SYMBOL", help="The only one wanted.")] = "",
    venue: Annotated[
        str, typer.Option(metavar="NAME", help="Section of the instruments file.")
    ] = "",
    instruments: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="Instruments file.")
    ] = None,
    tick_size: Annotated[str, typer.Option(metavar="TEXT", help="Price increment.")] = "",
    lot_size: Annotated[str, typer.Option(metavar="TEXT", help="Quantity increment.")] = "",
    feed_latency_ns: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Local minus venue time, if a file lacks the first."),
    ] = 0,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first bad row.")] = False,
    as_json: AsJson = False,
) -> None:
    """Turn market data of others into a recording.

    capture: lines of local ns and raw JSON. binance: public data, aggTrades, trades, bookTicker,
    bookDepth. bybit: public trades. tardis: incremental_book_L2, trades, quotes, book_snapshot_5
    and _25. ticks: timestamp,symbol,price,quantity[,side]. hftbacktest: events as .npz. Plain, .gz
    or .zip. A file that does not tell what it is: name it, as binance-aggTrades.

    Example: tickring import binance BTCUSDT-aggTrades-2024-08-08.zip runs/btc
    """
    kernel_cache.configure()
    from processes.convert.importer import ImportOptions
    from processes.convert.importer import run as run_import
    from processes.convert.registry import FactOptions

    facts = FactOptions(
        venue=venue,
        symbol=symbol,
        instruments=instruments,
        tick_size=tick_size,
        lot_size=lot_size,
    )
    options = ImportOptions(
        facts=facts, is_strict=strict, feed_latency_ns=feed_latency_ns, as_json=as_json
    )
    raise typer.Exit(run_import(kind, source, destination, options))


@app.command()
def export(
    which: Annotated[str, typer.Argument(metavar="RUN", help="Folder or id of a recorded run.")],
    parquet: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Tables by date and symbol.")
    ] = None,
    npz: Annotated[
        Path | None, typer.Option(metavar="FILE.npz", help="Events for hftbacktest.")
    ] = None,
    symbol: Annotated[str, typer.Option(metavar="SYMBOL", help="Whose events; --npz.")] = "",
    as_json: AsJson = False,
) -> None:
    """Write a recording for other programs.

    Parquet has prices and quantities twice: in integer grid steps, exact, with the decimals in the
    metadata, and as float64.

    Example: tickring export runs/btc --parquet tables
    """
    kernel_cache.configure()
    from processes.convert.export import run as run_export

    raise typer.Exit(run_export(which, parquet=parquet, npz=npz, symbol=symbol, as_json=as_json))


@app.command(cls=ManyValues)
def backtest(
    config: ConfigPath,
    data: DataPaths,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a value of CONFIG; repeatable."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="A page of charts and figures.")
    ] = None,
    summary: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Counts, and where it ended.")
    ] = None,
    fills: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="A row per fill.")] = None,
    states: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="A row per strategy timer.")
    ] = None,
    check_lookahead: Annotated[
        bool, typer.Option("--check-lookahead", help="Prove that nothing later is looked at.")
    ] = False,
) -> None:
    """Run a strategy against a simulated venue, with the kernels that run live.

    CONFIG needs a table [backtest].

    Example: tickring backtest configs/backtest.toml --data btc.npz --report btc.html
    """
    kernel_cache.configure()
    from processes.backtest.command import run as run_backtest

    raise typer.Exit(
        run_backtest(
            config,
            data,
            settings=settings or [],
            report=report,
            summary=summary,
            fills=fills,
            states=states,
            check_lookahead=check_lookahead,
        )
    )


cli_studies.add_to(app)


def main() -> None:
    """Entry of the console script."""
    try:
        check_platform()
        app()
    except TickringError as error:
        verb = sys.argv[1] if len(sys.argv) > 1 else ""
        sys.stderr.write(f"tickring {verb}: {error}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()

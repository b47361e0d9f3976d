"""A backtest as one HTML file that opens without a network: figures, pictures and the set-up.

plotly.js is written into the page, and the page's own policy forbids it to fetch anything.
"""

import dataclasses
import html
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from plotly.offline import get_plotlyjs

from common.errors import UsageError
from processes.report import charts
from processes.report import metrics as metrics_module
from processes.report.metrics import Books, Figures, Metrics, measure_books, open_books
from processes.results import Result

INSTRUMENTS_MAX = 20
TEXT_MAX = 400
_WALL_NS_MIN = 631_152_000_000_000_000  # 1990: a smaller instant is one of a monotonic clock
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' blob:; style-src 'unsafe-inline';"
    " img-src data: blob:; worker-src blob:"
)
_STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 1280px; padding: 24px 32px 64px; background: #f6f7f9;
       color: #1d2733; font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 26px; margin: 0; }
h2 { font-size: 18px; margin: 36px 0 8px; }
p.aside { color: #5a6675; margin: 4px 0; overflow-wrap: anywhere; }
.card { background: #fff; border: 1px solid #e1e5ea; border-radius: 8px; padding: 12px;
        overflow-x: auto; }
.tiles { display: grid; grid-template-columns: repeat(4, 1fr); gap: 12px;
         margin-top: 20px; }
.tile { background: #fff; border: 1px solid #e1e5ea; border-radius: 8px; padding: 10px 14px; }
.tile b { display: block; font-size: 20px; font-variant-numeric: tabular-nums; }
.tile span { color: #5a6675; font-size: 13px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { text-align: left; padding: 4px 12px; border-bottom: 1px solid #edf0f3;
         vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums;
                       white-space: nowrap; }
td.why { text-align: right; color: #8a94a3; }
td.value { overflow-wrap: anywhere; }
details { margin: 10px 12px; color: #5a6675; }
pre { white-space: pre-wrap; font-size: 13px; }
ul { color: #5a6675; font-size: 14px; }
"""
_TILES = ("pnl", "sharpe", "sortino", "max_drawdown", "fills", "turnover", "maker_share",
          "fill_ratio")  # fmt: skip
_HIDDEN = {"scope", "markouts", "reasons"}


def write_report(
    path: Path,
    setup: Any,
    result: Result,
    latency_curve: Sequence[tuple[int, int | float | Decimal]] | None = None,
) -> None:
    """Write the page.

    Args:
        path: of the HTML file; replaced if it is there.
        setup: what was run: a struct, dataclass, named tuple or dictionary; shown as a table.
        result: of the run.
        latency_curve: (added latency in ns, PnL in quote), without the result's own, which is the
            point at 0; None: it was not measured.

    Raises:
        UsageError: the file cannot be written.
    """
    page = page_of(setup, result, open_books(result), latency_curve)
    try:
        path.write_text(page, encoding="utf-8", newline="\n")
    except OSError as error:
        raise UsageError(f"{path}: {(error.strerror or str(error)).lower()}") from None


def page_of(
    setup: Any,
    result: Result,
    books: Books,
    latency_curve: Sequence[tuple[int, int | float | Decimal]] | None,
) -> str:
    """Return the whole page."""
    metrics = measure_books([books])
    shown = result.instruments[:INSTRUMENTS_MAX]
    names = ", ".join(html.escape(one.symbol) for one in shown)
    notes = charts.Notes()
    if len(shown) < len(result.instruments):
        notes.lines.append(
            f"pictures and columns: {len(shown)} of {len(result.instruments)} instruments shown;"
            " the total counts all"
        )
    sections = "\n".join(_sections(result, books, metrics, latency_curve, notes))
    told = "".join(f"<li>{line}</li>" for line in notes.lines)
    thinned = f"<h2>Left out of the pictures</h2><ul>{told}</ul>" if told else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Backtest of {names}</title>
<style>{_STYLE}</style>
<script>{get_plotlyjs()}</script>
</head>
<body>
<h1>Backtest of {names}</h1>
<p class="aside">{_when(result)}</p>
<div class="tiles">{"".join(_tile(metrics.total, name) for name in _TILES)}</div>
{sections}
{thinned}
<h2>Set-up</h2>
<div class="card">{_setup_table(setup)}</div>
</body>
</html>
"""


def _sections(
    result: Result,
    books: Books,
    metrics: Metrics,
    latency_curve: Sequence[tuple[int, int | float | Decimal]] | None,
    notes: charts.Notes,
) -> Iterator[str]:
    """Yield a heading and what belongs under it, one after the other."""
    shown = result.instruments[:INSTRUMENTS_MAX]
    scopes = [metrics.total, *metrics.instruments[: len(shown)]]
    if len(result.instruments) == 1:
        scopes = scopes[1:]
    series = books.total.series
    has_time = len(series.ts_ns) > 0
    axis = charts.TimeAxis(*_span(result)) if has_time else charts.TimeAxis(0, 0)
    if has_time:
        yield _picture(
            "Account", charts.account_chart(series, books.decimals, axis, notes), "account"
        )
    else:
        yield _sentence("Account", "There is no state and no fill.")
    for instrument, account in zip(shown, books.accounts, strict=False):
        name = charts.name_of(instrument)
        states, fills = (table[table["instrument_id"] == instrument.instrument_id]
                         for table in (result.states, result.fills))  # fmt: skip
        has_prices = np.any(states["bid_price_steps"] > 0) or np.any(states["ask_price_steps"] > 0)
        if not has_prices and len(fills) == 0:
            yield _sentence(f"{name}: price, own trades, position", "No prices and no fills.")
            continue
        chart = charts.instrument_chart(result, instrument, account.series, axis, notes)
        key = f"instrument-{instrument.instrument_id}"
        yield _picture(f"{name}: price, own trades, position", chart, key)
    if len(result.fills):
        yield _picture("Markouts", charts.markout_chart(scopes), "markouts")
        yield _picture("Where the PnL comes from", charts.split_chart(scopes), "split")
    else:
        yield _sentence("Markouts", "No fills.")
    if latency_curve:
        chart = charts.latency_chart([(0, metrics.total.pnl), *latency_curve])
        yield _picture("Latency sensitivity", chart, "latency")
    else:
        yield _sentence("Latency sensitivity", "Not measured.")
    yield f'<h2>Figures</h2>\n<div class="card">{_figures_table(scopes)}{_definitions()}</div>'


def _picture(title: str, figure: Any, key: str) -> str:
    """Return a heading and a figure; `title` is escaped already."""
    body = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=key,
        default_height=f"{figure.layout.height}px",
        config={
            "displaylogo": False,
            "responsive": True,
            "modeBarButtonsToRemove": ["sendChartToCloud", "lasso2d", "select2d"],
        },
    )
    return f'<h2>{title}</h2>\n<div class="card">{body}</div>'


def _sentence(title: str, text: str) -> str:
    """Return a heading and why there is no picture; `title` is escaped already."""
    return f'<h2>{title}</h2>\n<div class="card"><p class="aside">{text}</p></div>'


def _span(result: Result) -> tuple[int, int]:
    """Return the first and the last instant of a result that has one."""
    times = [table["ts_ns"] for table in (result.states, result.fills) if len(table)]
    first_ns = min(int(one[0]) for one in times)
    return first_ns, max(int(one[-1]) for one in (*times, result.ends["ts_ns"]))


def _when(result: Result) -> str:
    """Say what time it was, and how much there is."""
    counted = f"{len(result.fills):,} fills, {len(np.unique(result.states['ts_ns'])):,} states"
    if len(result.states) == 0 and len(result.fills) == 0:
        return counted
    start_ns, end_ns = _span(result)
    return f"{instant_text(start_ns)} to {instant_text(end_ns)}; {counted}"


def instant_text(ts_ns: int) -> str:
    """Return a wall-clock instant in UTC, to the millisecond, or a monotonic one in seconds."""
    if ts_ns < _WALL_NS_MIN:
        return f"{ts_ns / 1e9:,.3f} s"
    text = np.datetime_as_string(np.datetime64(ts_ns, "ns"), unit="ms")
    return f"{str(text).replace('T', ' ')} UTC"


def _tile(figures: Figures, name: str) -> str:
    """Return one of the large numbers on top."""
    value: Any = getattr(figures, name)
    if isinstance(value, float | Decimal):
        text = f"{value:,.2f}" if abs(float(value)) >= 1 else f"{float(value):.4g}"
    else:
        text = cell_text(value)
    return f'<div class="tile"><b>{text}</b><span>{name.replace("_", " ")}</span></div>'


def cell_text(value: Any) -> str:
    """Return a figure for people: thousands separated, ratios with six digits, None as a dash."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.6g}" if abs(value) < 1e6 else f"{value:,.0f}"
    if isinstance(value, Decimal):
        whole, point, fraction = f"{value:,f}".partition(".")
        return whole + point + fraction[:8] + ("…" if len(fraction) > 8 else "")
    return f"{value:,}" if isinstance(value, int) else html.escape(str(value))


def _figures_table(scopes: list[Figures]) -> str:
    """Return the figures, a row each; where there is none, the reason."""
    head = "".join(f'<th class="number">{html.escape(one.scope)}</th>' for one in scopes)
    rows = []
    for name in Figures.__struct_fields__:
        if name in _HIDDEN:
            continue
        cells = "".join(
            f'<td class="why">{html.escape(one.reasons.get(name, ""))}</td>'
            if getattr(one, name) is None
            else f'<td class="number">{cell_text(getattr(one, name))}</td>'
            for one in scopes
        )
        rows.append(f"<tr><td>{name.replace('_', ' ')}</td>{cells}</tr>")
    return f"<table><tr><th>figure</th>{head}</tr>{''.join(rows)}</table>"


def _definitions() -> str:
    """Return what the figures mean, to be opened."""
    text = html.escape((metrics_module.__doc__ or "").partition("\n")[2].strip())
    return f"<details><summary>Definitions</summary><pre>{text}</pre></details>"


def _setup_table(setup: Any) -> str:
    """Return every leaf of the set-up."""
    rows = "".join(
        f'<tr><td>{html.escape(key)}</td><td class="value">{html.escape(text)}</td></tr>'
        for key, text in setup_rows(setup)
    )
    return f"<table><tr><th>key</th><th>value</th></tr>{rows}</table>"


def setup_rows(value: Any, key: str = "") -> list[tuple[str, str]]:
    """Return (dotted key, text) of each leaf of a set-up, whatever it is made of."""
    if isinstance(value, msgspec.Struct):
        value = {name: getattr(value, name) for name in value.__struct_fields__}
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    elif hasattr(value, "_asdict"):
        value = value._asdict()
    elif isinstance(value, np.ndarray) and value.dtype.names and value.size == 1:
        value = {name: value.reshape(-1)[0][name] for name in value.dtype.names}
    if isinstance(value, dict):
        return [
            row
            for name, inner in value.items()
            for row in setup_rows(inner, f"{key}.{name}" if key else str(name))
        ]
    if isinstance(value, list | tuple) and any(
        isinstance(one, dict | msgspec.Struct) for one in value
    ):
        return [row for i, inner in enumerate(value) for row in setup_rows(inner, f"{key}[{i}]")]
    text = str(value)
    return [(key, text if len(text) <= TEXT_MAX else f"{text[:TEXT_MAX]} …")]

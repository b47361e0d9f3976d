"""The pictures of a report: plotly figures of bounded size, with every name from a file escaped.

A line has at most POINTS_MAX points: of each stretch of a longer one the lowest and the highest are
kept, so a spike is never lost. Of more than MARKERS_MAX trades every k-th is shown. What was left
out is noted, and the page says it.
"""

import html
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from common.enums import Side
from common.instruments import Instrument
from processes.report.accounts import Series
from processes.report.metrics import Figures
from processes.results import Result

POINTS_MAX = 4_000
MARKERS_MAX = 2_000
BLUE, GREEN, RED, ORANGE, GREY = "#2563c9", "#128a4a", "#cc3340", "#c77700", "#8a94a3"
COLOURS = (BLUE, ORANGE, GREEN, "#8a4fc4", RED, "#0f8f96", "#a3601c", GREY)
_UNITS = ((4 * 86_400, 86_400.0, "days"), (7_200, 3_600.0, "hours"), (300, 60.0, "minutes"))
_LEGEND = {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "font": {"size": 12}}


class TimeAxis:
    """Instants as time since the start, in a unit that suits the whole span."""

    def __init__(self, start_ns: int, end_ns: int) -> None:
        self.start_ns = start_ns
        span_s = (end_ns - start_ns) / 1e9
        fitting = [(scale, unit) for least, scale, unit in _UNITS if span_s >= least]
        self.scale_s, self.unit = fitting[0] if fitting else (1.0, "seconds")
        end = span_s / self.scale_s
        self.range = [-0.01 * end, 1.01 * end] if end else [-1.0, 1.0]

    def __call__(self, ts_ns: np.ndarray) -> np.ndarray:
        """Return the positions on the axis."""
        return (ts_ns - self.start_ns) / 1e9 / self.scale_s

    @property
    def title(self) -> str:
        """What the axis says."""
        return f"{self.unit} since the start"


class Notes:
    """What was left out of the pictures, in words."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def thin(self, what: str, values: np.ndarray) -> np.ndarray:
        """Return the places of the points of a line to draw."""
        kept = thin(values)
        if len(kept) < len(values):
            self.lines.append(
                f"{what}: {len(kept):,} of {len(values):,} points drawn, lowest and highest"
                " of each stretch"
            )
        return kept

    def some(self, what: str, count: int) -> np.ndarray:
        """Return the places of the markers to draw."""
        step = -(-count // MARKERS_MAX) if count else 1
        kept = np.arange(0, count, step)
        if step > 1:
            self.lines.append(f"{what}: {len(kept):,} of {count:,} drawn, one of each {step}")
        return kept


def thin(values: np.ndarray, points_max: int = POINTS_MAX) -> np.ndarray:
    """Return ascending places of at most `points_max` values, with every stretch's extremes.

    Args:
        values: float64[n].
        points_max: at least 4.
    """
    count = len(values)
    if count <= points_max:
        return np.arange(count)
    size = -(-count // ((points_max - 2) // 2))
    whole = count // size
    stretches = values[: whole * size].reshape(whole, size)
    first = np.arange(whole) * size
    rest = np.arange(whole * size, count)
    last = [] if len(rest) == 0 else [rest[values[rest].argmin()], rest[values[rest].argmax()]]
    return np.unique(
        np.concatenate(
            [[0, count - 1], first + stretches.argmin(1), first + stretches.argmax(1), last]
        ).astype(np.int64)
    )


def name_of(instrument: Instrument) -> str:
    """Return an instrument's name, safe in HTML and in plotly's own markup."""
    return html.escape(f"{instrument.venue}:{instrument.symbol}")


def account_chart(series: Series, decimals: int, axis: TimeAxis, notes: Notes) -> go.Figure:
    """Draw equity and drawdown of all instruments together."""
    equity = np.array([units / 10**decimals for units in series.equity.tolist()])
    drawdown = equity - np.maximum(np.maximum.accumulate(equity), 0.0)
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.68, 0.32],
                           vertical_spacing=0.06)  # fmt: skip
    times = axis(series.ts_ns)
    for row, name, values, colour in ((1, "equity", equity, BLUE), (2, "drawdown", drawdown, RED)):
        kept = notes.thin(name, values)
        figure.add_trace(
            go.Scatter(
                x=times[kept],
                y=values[kept],
                name=name,
                mode="lines",
                line={"color": colour, "width": 1.5},
                fill="tozeroy" if row == 2 else None,
            ),
            row=row,
            col=1,
        )
        figure.update_yaxes(title_text=f"{name}, quote", row=row, col=1)
    figure.update_xaxes(title_text=axis.title, row=2, col=1)
    figure.update_xaxes(range=axis.range)
    return _dress(figure, 520, legend=False)


def instrument_chart(
    result: Result, instrument: Instrument, series: Series, axis: TimeAxis, notes: Notes
) -> go.Figure:
    """Draw best bid and ask with our trades on them, and the position below."""
    name = name_of(instrument)
    states = result.states[result.states["instrument_id"] == instrument.instrument_id]
    fills = result.fills[result.fills["instrument_id"] == instrument.instrument_id]
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.7, 0.3],
                           vertical_spacing=0.06)  # fmt: skip
    price_unit, qty_unit = 10**instrument.price_grid_decimals, 10**instrument.qty_grid_decimals
    for field, label, colour in (("bid_price_steps", "best bid", "#7aa6e8"),
                                 ("ask_price_steps", "best ask", "#e3a3a9")):  # fmt: skip
        known = states[states[field] > 0]
        prices = known[field] / price_unit
        kept = notes.thin(f"{name} {label}", prices)
        figure.add_trace(
            go.Scatter(x=axis(known["ts_ns"][kept]), y=prices[kept], name=label, mode="lines",
                       line={"color": colour, "width": 1, "shape": "hv"}),
            row=1, col=1,
        )  # fmt: skip
    for trace in _trades(fills, axis, notes, name, price_unit, qty_unit):
        figure.add_trace(trace, row=1, col=1)
    if len(states) == 0:
        notes.lines.append(
            f"{name} best bid, best ask, markouts after the fill: there is no state that notes them"
        )
    position = series.position / qty_unit
    kept = notes.thin(f"{name} position", position)
    figure.add_trace(
        go.Scatter(x=axis(series.ts_ns[kept]), y=position[kept], name="position", mode="lines",
                   line={"color": BLUE, "width": 1.2, "shape": "hv"}, fill="tozeroy",
                   showlegend=False),
        row=2, col=1,
    )  # fmt: skip
    figure.update_yaxes(title_text="price", row=1, col=1, tickformat=",")
    figure.update_yaxes(title_text="position, base", row=2, col=1)
    figure.update_xaxes(title_text=axis.title, row=2, col=1)
    figure.update_xaxes(range=axis.range)
    return _dress(figure, 560)


def _trades(
    fills: np.ndarray, axis: TimeAxis, notes: Notes, name: str, price_unit: int, qty_unit: int
) -> list[go.Scatter]:
    """Return our fills as triangles: full for maker, hollow for taker."""
    traces = []
    kept = fills[notes.some(f"{name} own trades", len(fills))]
    for side, word, symbol, colour in ((Side.BID, "buy", "triangle-up", GREEN),
                                       (Side.ASK, "sell", "triangle-down", RED)):  # fmt: skip
        for maker, liquidity in ((1, "maker"), (0, "taker")):
            one = kept[(kept["side"] == side.value) & (kept["maker"] == maker)]
            if len(one) == 0:
                continue
            traces.append(
                go.Scatter(
                    x=axis(one["ts_ns"]),
                    y=one["price_steps"] / price_unit,
                    customdata=np.stack([one["qty_steps"] / qty_unit, one["client_order_id"]], 1),
                    hovertemplate=f"{word} %{{customdata[0]}} at %{{y}}<br>order"
                    f" %{{customdata[1]:d}}, {liquidity}<extra></extra>",
                    name=f"{word}, {liquidity}",
                    mode="markers",
                    marker={
                        "symbol": symbol if maker else f"{symbol}-open",
                        "color": colour,
                        "size": 7,
                        "opacity": 0.8,
                    },
                )
            )
    return traces


def markout_chart(figures: list[Figures]) -> go.Figure:
    """Draw each scope's markout curve."""
    figure = go.Figure()
    for row, one in enumerate(figures):
        points = [point for point in one.markouts if point.markout_bps is not None]
        figure.add_trace(
            go.Scatter(
                x=[duration_text(point.horizon_ns) for point in points],
                y=[point.markout_bps for point in points],
                customdata=[[point.fills, _milliseconds(point.waited_ns_mean)] for point in points],
                hovertemplate="%{y:.4f} bps, %{customdata[0]} fills<br>"
                "mean wait %{customdata[1]} ms<extra></extra>",
                name=html.escape(one.scope),
                mode="lines+markers",
                line={"color": COLOURS[row % len(COLOURS)], "width": 2},
            )
        )
    labels = [duration_text(point.horizon_ns) for point in figures[0].markouts]
    figure.update_xaxes(
        title_text="time after the fill", type="category", categoryorder="array",
        categoryarray=labels, range=[-0.5, len(labels) - 0.5],
    )  # fmt: skip
    figure.update_yaxes(title_text="markout, bps of turnover", zeroline=True)
    return _dress(figure, 400)


def split_chart(figures: list[Figures]) -> go.Figure:
    """Draw where the PnL comes from."""
    figure = go.Figure()
    labels = ["spread", "inventory", "fees", "funding", "pnl"]
    for row, one in enumerate(figures):
        parts = (one.pnl_spread, one.pnl_inventory, one.pnl_fees, one.pnl_funding, one.pnl)
        figure.add_trace(
            go.Bar(x=labels, y=[float(part) for part in parts], name=html.escape(one.scope),
                   marker={"color": COLOURS[row % len(COLOURS)]})
        )  # fmt: skip
    figure.update_yaxes(title_text="quote", zeroline=True)
    return _dress(figure, 400)


def latency_chart(curve: Sequence[tuple[int, int | float | Decimal]]) -> go.Figure:
    """Draw the PnL over added latency; (added ns, PnL in quote) in any order."""
    ordered = sorted(curve)
    figure = go.Figure(
        go.Scatter(
            x=[added_ns / 1e6 for added_ns, _pnl in ordered],
            y=[float(pnl) for _added_ns, pnl in ordered],
            mode="lines+markers",
            line={"color": BLUE, "width": 2},
        )
    )
    figure.update_xaxes(title_text="latency added to each way, ms")
    figure.update_yaxes(title_text="pnl, quote", zeroline=True)
    return _dress(figure, 400, legend=False)


def duration_text(ns: int) -> str:
    """Return a horizon in words: "at fill", "10 ms", "5 s"."""
    if ns == 0:
        return "at fill"
    return f"{ns / 1e9:g} s" if ns >= 1_000_000_000 else f"{ns / 1e6:g} ms"


def _milliseconds(ns: float | None) -> str:
    return "-" if ns is None else f"{ns / 1e6:,.1f}"


def _dress(figure: go.Figure, height: int, legend: bool = True) -> go.Figure:
    """Give all pictures one look."""
    axis: dict[str, Any] = {
        "gridcolor": "#e6e9ee", "zerolinecolor": "#aab2bd", "linecolor": "#aab2bd",
        "automargin": True, "exponentformat": "none",
    }  # fmt: skip
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis, title_standoff=12)
    figure.update_layout(
        template="none",
        height=height,
        showlegend=legend,
        legend=_LEGEND,
        hovermode="closest",
        font={"family": "system-ui, sans-serif", "size": 13, "color": "#1d2733"},
        margin={"l": 80, "r": 24, "t": 36, "b": 52},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": "#b4bcc7", "activecolor": BLUE},
        paper_bgcolor="#ffffff",
        plot_bgcolor="#ffffff",
    )
    return figure

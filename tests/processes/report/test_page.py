import re
import shutil
import subprocess
from decimal import Decimal
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UsageError
from processes.report import charts, page
from processes.report.metrics import measure
from processes.report.page import write_report
from processes.results import Result

from tests.processes.report.made_results import BTC, S, made_result, trading_day

EVIL = '</script><script>alert("x")</script><b>&'


class Inner(msgspec.Struct):
    edge_bps: float
    symbols: list[str]


class SetUp(NamedTuple):
    strategy: Inner
    note: str


def body_of(page: str) -> str:
    """Return the page without plotly.js."""
    return page[page.index("<body>") :]


def test_page_has_every_part(tmp_path):
    result = trading_day(timers=300)
    setup = SetUp(Inner(1.5, ["BTCUSDT"]), "made")
    write_report(tmp_path / "r.html", setup, result, [(2_000_000, 2), (1_000_000, Decimal("-1.5"))])
    page = (tmp_path / "r.html").read_text()
    body = body_of(page)
    for key in ("account", "instrument-0", "instrument-1", "markouts", "split", "latency"):
        assert f'<div id="{key}"' in body, key
        assert f'Plotly.newPlot(                        "{key}"' in body
    own = float(measure(result).total.pnl)
    latency = body[body.index('<div id="latency"') :]
    assert re.search(r'"x":\[0\.0,1\.0,2\.0\],"y":(\S+?)\]', latency)[1] == f"[{own},-1.5,2.0"
    assert "quantities of different instruments do not add" in body
    assert "<td>strategy.edge_bps</td>" in body and "made" in body
    assert "2024-08-08 00:00:00" in body or "2024-08-07 23:59:59" in body
    assert "Left out" not in body


def test_page_fetches_nothing(tmp_path):
    write_report(tmp_path / "r.html", {}, trading_day(timers=50))
    page = (tmp_path / "r.html").read_text()
    assert "default-src 'none'" in page
    head, body = page[: page.index("<script>")], body_of(page)
    assert not re.search(r"(src|href)\s*=|@import|url\(", head + body)
    assert "http" not in head.replace("http-equiv", "")


def test_names_from_files_are_escaped(tmp_path):
    evil = msgspec.structs.replace(BTC, symbol=EVIL, venue="<i>")
    result = trading_day(timers=60)
    result = Result([evil, result.instruments[1]], result.fills, result.states, result.ends, {})
    write_report(tmp_path / "r.html", {"strategy": {EVIL: EVIL}}, result, [(0, 1)])
    page = (tmp_path / "r.html").read_text()
    assert EVIL not in page and "<i>" not in body_of(page) and 'alert("x")' not in page
    clean = body_of(page)
    assert clean.count("<script>") == clean.count("</script>") == 6


def test_large_runs_are_thinned_and_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(charts, "MARKERS_MAX", 100)
    result = trading_day(timers=9_000)
    write_report(tmp_path / "large.html", {}, result)
    large = body_of((tmp_path / "large.html").read_text())
    assert "Left out of the pictures" in large
    assert re.search(r"equity: [0-9,]+ of 9,00[01] points drawn", large)
    assert re.search(r"BTCUSDT own trades: [0-9]+ of 1,[0-9]+ drawn, one of each [0-9]+", large)
    assert len(large) < 1_500_000


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6), min_size=0, max_size=400),
    st.integers(4, 60),
)
def test_thinning_keeps_ends_and_extremes(values, points_max):
    array = np.array(values, np.float64)
    kept = charts.thin(array, points_max)
    assert len(kept) <= max(points_max, 4) + 2
    assert np.all(np.diff(kept) > 0)
    if values:
        assert kept[0] == 0 and kept[-1] == len(values) - 1
        assert array[kept].min() == array.min() and array[kept].max() == array.max()


@pytest.mark.parametrize(
    "result",
    [
        made_result([BTC], [], []),
        made_result([BTC], [], [(S, 0, 0, 0, 0, 0, 0, 0, 0, 0)]),
        made_result([BTC], [(S, 1, 1000, 2, 10**8, 2001, 0, 1, 1)], []),
    ],
    ids=["nothing", "one state", "one fill"],
)
def test_poor_runs_have_a_page_too(tmp_path, result):
    write_report(tmp_path / "r.html", {}, result)
    body = body_of((tmp_path / "r.html").read_text())
    assert "Definitions" in body
    body = re.sub(r"<details>.*?</details>", "", body, flags=re.DOTALL)
    assert "nan" not in body.lower().replace("binance", "") and "Infinity" not in body
    assert "Not measured." in body


def test_an_instrument_without_prices_and_fills_has_no_picture(tmp_path):
    day = trading_day(timers=300)
    states = day.states.copy()
    silent = states["instrument_id"] == 1
    for field in ("bid_price_steps", "ask_price_steps"):
        states[field][silent] = 0
    fills = day.fills[day.fills["instrument_id"] == 0]
    write_report(tmp_path / "r.html", {}, day._replace(states=states, fills=fills))
    body = body_of((tmp_path / "r.html").read_text())
    assert "No prices and no fills." in body
    assert '"instrument-0"' in body and '"instrument-1"' not in body


def test_a_strategy_without_timers_has_its_position_drawn(tmp_path):
    day = trading_day(timers=300)
    write_report(tmp_path / "r.html", {}, day._replace(states=day.states[:0]))
    body = body_of((tmp_path / "r.html").read_text())
    assert re.search("BTCUSDT best bid, best ask, markouts .* there is no state", body)
    assert body.count('"name":"position"') == 2 and '"name":"equity"' in body


def test_a_path_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(UsageError, match="no such file or directory"):
        write_report(tmp_path / "nowhere" / "r.html", {}, made_result([BTC], [], []))


@pytest.mark.parametrize(
    ("ns", "text"),
    [(0, "at fill"), (1_000_000, "1 ms"), (500_000_000, "500 ms"), (60 * S, "60 s")],
)
def test_durations(ns, text):
    assert charts.duration_text(ns) == text


@pytest.mark.parametrize(
    ("span_s", "unit"), [(10, "seconds"), (600, "minutes"), (9_000, "hours"), (500_000, "days")]
)
def test_time_axis_suits_the_span(span_s, unit):
    axis = charts.TimeAxis(5 * S, (5 + span_s) * S)
    assert axis.unit == unit
    assert axis(np.array([5 * S]))[0] == 0.0


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium to draw the page")
def test_a_browser_draws_it(tmp_path):
    """The page's own scripts run under its policy, and each picture has its lines."""
    write_report(tmp_path / "r.html", {}, trading_day(timers=300), [(1_000_000, 0)])
    found = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
         f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=8000",
         (tmp_path / "r.html").as_uri()],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    drawn = body_of(found.stdout)
    assert drawn.count('class="main-svg"') >= 6
    assert drawn.count('class="js-line"') >= 7
    assert page.instant_text(S) == "1.000 s"

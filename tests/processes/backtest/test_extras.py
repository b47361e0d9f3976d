"""Funding from a file and compute time from a recorded run."""

import msgspec
import numpy as np
import pytest

from common.enums import ReportKind, RequestKind
from common.errors import ConfigError
from common.instruments import Instrument, InstrumentFacts
from common.records import REPORT
from processes.backtest.events import AT_VENUE, EventKind, in_both_orders
from processes.backtest.extras import REPORTS_RING, load_compute_ns, load_funding, with_funding
from processes.backtest.run import Run, load_setup, run
from processes.backtest.tapes import assemble
from shm.recording import RingWriter, write_manifest

from tests.processes.backtest.made_market import START_NS, made_setup, row

TOUCH = "processes.strategy.touch_quoter:TouchQuoter"
MS = 1_000_000
FACTS = InstrumentFacts(tick_size="0.1", lot_size="0.001", price_decimals=1, qty_decimals=3)
HEADER = "ts_ns,symbol,rate,mark_price\n"
MARKET = (
    (EventKind.DEPTH, 1, 1_000, 7, 0), (EventKind.DEPTH, -1, 1_002, 4, 0),
    (EventKind.TRADE, -1, 999, 1, 15), (EventKind.DEPTH, 1, 999, 1, 60),
)  # fmt: skip


def instrument(i: int, venue: str, symbol: str) -> Instrument:
    return Instrument(instrument_id=i, venue=venue, symbol=symbol, facts=FACTS)


def market(*more) -> np.ndarray:
    """Return MARKET and more rows: (kind, side, price, qty, ms); each is seen 1 ms later."""
    parts = [row(*each[:4], each[4] * MS, each[4] * MS + MS) for each in (*MARKET, *more)]
    return np.concatenate(parts)


def test_funding_is_paid_on_the_position_that_the_venue_holds(tmp_path):
    """0.005 at a mark of 200 and a rate of 0.01 is 0.01: long pays."""
    setup = made_setup(tmp_path, TOUCH, {"interval_ns": 10 * MS, "qty_steps": 5})
    path = tmp_path / "funding.csv"
    ts = START_NS + 25 * MS
    path.write_text(f"{HEADER}{ts},MADE0,0.01,200\n{ts},OTHER,1,1\n1,made:MADE0,0.01,200\n")
    notes: dict[str, int] = {}
    rows = in_both_orders(market())
    rows = with_funding(rows, load_funding(path, setup.instruments, notes)[0], notes)
    result = run(setup, assemble([rows], setup.instruments, notes))
    assert list(result.states["funding_e8"]) == [0, 0] + [1_000_000] * 4
    assert result.ends["funding_e8"] == 1_000_000
    assert result.counts["fundings_of_other_symbols"] == 1
    assert result.counts["fundings_outside_the_data"] == 1
    path.write_text(f"{HEADER}1,MADE0,x,200\n")
    with pytest.raises(ConfigError, match=r"funding.csv:2: .*expected ts_ns,symbol"):
        load_funding(path, setup.instruments, {})


def test_a_file_replaces_the_funding_that_the_data_tell_of(tmp_path):
    own = market((EventKind.FUNDING, 0, 0, 0, 20), (EventKind.FUNDING, 0, 0, 0, 30))
    own = in_both_orders(own[np.argsort(own["ts_exch_ns"], kind="stable")])
    (tmp_path / "funding.csv").write_text(f"{HEADER}{START_NS + 20 * MS},MADE,-0.01,200\n")
    notes: dict[str, int] = {}
    [(i, funding)] = load_funding(
        tmp_path / "funding.csv", [instrument(0, "a", "MADE")], notes
    ).items()
    events = with_funding(own, funding, notes)
    assert i == 0 and notes == {"fundings_of_data_left_out": 2}
    [paid] = events[events["kind"] == EventKind.FUNDING]
    assert (paid["flags"], paid["trade_id"]) == (AT_VENUE, -1_000_000)
    assert len(events) == len(in_both_orders(market())) + 1


def test_a_symbol_of_two_venues_is_told_with_its_venue(tmp_path):
    both = [instrument(0, "a", "MADE"), instrument(1, "b", "MADE"), instrument(2, "b", "ONE")]
    path = tmp_path / "funding.csv"
    path.write_text(f"{HEADER}1,b:MADE,0.01,200\n2,a:MADE,0.02,200\n3,ONE,0.03,200\n")
    found = load_funding(path, both, {})
    assert {i: rows["trade_id"].tolist() for i, rows in found.items()} == {
        0: [2_000_000], 1: [1_000_000], 2: [3_000_000],
    }  # fmt: skip
    path.write_text(f"{HEADER}1,b:MADE,0.01,200\n2,MADE,0.02,200\n")
    with pytest.raises(ConfigError, match=r"funding.csv:3: symbol is MADE, expected a:MADE or b:"):
        load_funding(path, both, {})


def recorded(folder, reports: np.ndarray, ring: str = REPORTS_RING):
    """Record a run of one ring of reports; return its folder."""
    writer = RingWriter(folder, ring, "REPORT", 64)
    writer.write(reports.view(np.int64).reshape(len(reports), -1))
    writer.close()
    manifest = {
        "schema": 1, "run": "made", "complete": True, "started_wall_ns": 2, "started_ns": 1,
        "instruments": msgspec.to_builtins([instrument(0, "made", "MADE0")]),
    }  # fmt: skip
    write_manifest(folder, manifest)
    return folder


def answered(count: int) -> np.ndarray:
    """Return reports of new orders that took 111, 222 ... ns from book to sending."""
    reports = np.zeros(count, REPORT)
    reports["kind"], reports["request_kind"] = ReportKind.EXECUTION, RequestKind.NEW
    reports["ts_recv_ns"], reports["sent_to_ack_ns"] = 5, 9
    for k, name in enumerate(("book_to_strategy_ns", "strategy_to_risk_ns", "risk_to_sent_ns")):
        reports[name] = 10**k * np.arange(1, count + 1)
    return reports


def test_compute_time_is_that_of_the_answered_requests_of_a_run(tmp_path):
    reports = answered(7)
    reports["kind"][1] = ReportKind.POSITION
    reports["request_kind"][2] = RequestKind.CANCEL
    reports["sent_to_ack_ns"][3] = 0  # a fill that came by itself
    reports["ts_recv_ns"][4] = 0  # of a timer, not of the market
    folder = recorded(tmp_path / "run", reports)
    assert load_compute_ns(folder).tolist() == [111, 666, 777]
    setup = made_setup(tmp_path, TOUCH, {"interval_ns": 10 * MS, "qty_steps": 5}, compute_run="run")
    part = Run(setup, assemble([in_both_orders(market())], setup.instruments, {}))
    assert part.clock.compute_ns.tolist() == [111, 666, 777]
    part.go()
    with pytest.raises(ConfigError, match="compute_ns: expected 0 with compute_run"):
        load_setup(setup.path, {"compute_run": "run", "compute_ns": "1"})


@pytest.mark.parametrize(
    ("reports", "ring"), [(answered(3), "gateway.report.rest"), (np.zeros(3, REPORT), REPORTS_RING)]
)
def test_a_run_without_answered_requests_gives_no_compute_time(reports, ring, tmp_path):
    folder = recorded(tmp_path / "run", reports, ring)
    expected = f"run: no answered request with hop stamps in ring {REPORTS_RING}, expected some"
    with pytest.raises(ConfigError, match=f"{expected}.*compute_ns instead of compute_run"):
        load_compute_ns(folder)

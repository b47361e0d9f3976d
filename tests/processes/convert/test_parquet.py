"""Parquet: what polars reads back is what is in the run."""

from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest

from common.enums import ExecType, LiquiditySide, ReportKind, RequestKind, Side
from common.errors import UsageError
from common.instruments import Instrument, InstrumentFacts
from common.messages import OrderRequest, Report, reports_array, requests_array
from common.records import LAYOUTS
from processes.convert import parquet
from processes.convert.recorded import Recording
from shm.recording import RingWriter, write_manifest

from tests.processes.convert.support import messages_of, take, take_path
from tests.support import capture

DAY_NS = 86_400 * 10**9


def exported(run: Path, folder: Path) -> dict:
    recording = Recording(run)
    summary = parquet.export(recording, folder)
    recording.close()
    return summary


def read(folder: Path, table: str) -> pl.DataFrame:
    found = pl.scan_parquet(folder / table / "**/*.parquet", hive_partitioning=True)
    return found.sort("sequence", "ring", maintain_order=True).collect()


def test_ticks_are_partitioned_by_date_and_symbol(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "ROWS_PER_FILE", 2)
    stamps = [1723161599, 1723161600, 1723161601, 1723161602, 1723161603]
    text = "".join(
        f"{s},{'BTCUSDT' if s % 2 else 'ETHUSDT'},{60000 + s % 10}.1,0.5,buy\n" for s in stamps
    )
    run, _ = take(tmp_path, "ticks", text)
    summary = exported(run, tmp_path / "out")
    assert summary["trades"] == 5
    names = sorted(
        str(p.relative_to(tmp_path / "out")) for p in tmp_path.glob("out/trades/**/*.parquet")
    )
    assert names == [
        "trades/date=2024-08-08/symbol=BTCUSDT/00000.parquet",
        "trades/date=2024-08-09/symbol=BTCUSDT/00000.parquet",
        "trades/date=2024-08-09/symbol=ETHUSDT/00000.parquet",
    ]
    found = read(tmp_path / "out", "trades")
    assert found["symbol"].to_list() == ["BTCUSDT", "ETHUSDT"] * 2 + ["BTCUSDT"]
    assert found["price_steps"].to_list() == [m[4] for m in messages_of(run)]
    assert found["price"].to_list() == [60009.1, 60000.1, 60001.1, 60002.1, 60003.1]
    assert (found["qty_steps"][0], found["qty"][0]) == (500, 0.5)
    assert found["aggressor_side"].unique().to_list() == ["BID"]
    assert found["time"].dt.epoch("s").to_list() == stamps
    metadata = pl.read_parquet_metadata(tmp_path / "out" / names[2])
    assert (metadata["symbol"], metadata["price_decimals"], metadata["qty_decimals"]) == (
        "ETHUSDT", "2", "3",
    )  # fmt: skip


def test_the_real_capture_reads_back_as_the_run_has_it(tmp_path):
    path = capture("binance-usdm-btcusdt-20240808.gz")
    run, _ = take_path(tmp_path, "capture", path, symbol="BTCUSDT")
    summary = exported(run, tmp_path / "out")
    messages = messages_of(run)
    trades = [m for m in messages if m[0] == "TRADE"]
    fields = ["ts_recv_ns", "ts_exch_ns", "price_steps", "qty_steps", "trade_id"]
    assert read(tmp_path / "out", "trades").select(fields).rows() == [m[2:7] for m in trades]
    bbos = [m for m in messages if m[0] == "BBO"]
    fields = ["ts_recv_ns", "ts_exch_ns", "update_id", "bid_price_steps", "bid_qty_steps",
              "ask_price_steps", "ask_qty_steps"]  # fmt: skip
    assert read(tmp_path / "out", "bbo").select(fields).rows() == [m[2:9] for m in bbos]
    depth = [m for m in messages if m[0] in ("DIFF_BEGIN", "SNAPSHOT_BEGIN", "SNAPSHOT_END")]
    fields = ["kind", "ts_recv_ns", "first_update_id", "last_update_id", "previous_update_id"]
    found = read(tmp_path / "out", "depth").select(fields).rows()
    assert found == [(m[0], m[2], *m[4:7]) for m in depth]
    levels = [
        (m[2], side, *level)
        for m in depth
        for side, part in (("BID", m[7]), ("ASK", m[8]))
        for level in part
    ]
    fields = ["ts_recv_ns", "side", "price_steps", "qty_steps"]
    found = read(tmp_path / "out", "levels").select(fields).rows()
    assert found == levels
    assert summary["levels"] == len(levels) == 445_521
    assert summary["slots_left_out"] == 0


def test_orders_reports_and_turns_of_a_live_run(tmp_path):
    """A made run: two rings of requests, reports of two instruments, turns, a lost message."""
    run, boot_ns = tmp_path / "run", 5_000
    wall_ns = 20_000 * DAY_NS + 7
    facts = InstrumentFacts(tick_size="0.1", lot_size="0.001", price_decimals=1, qty_decimals=3)
    instruments = [
        Instrument(instrument_id=i, venue="binance-usdm", symbol=symbol, facts=facts)
        for i, symbol in enumerate(("BTCUSDT", "ETHUSDT"))
    ]
    requests = requests_array(
        [
            OrderRequest(kind=RequestKind.NEW, side=Side.ASK, instrument_id=1, price_steps=123,
                         order_qty_steps=4, ts_pub_ns=boot_ns + 1),
            OrderRequest(kind=RequestKind.CANCEL_ALL, instrument_id=-1, ts_pub_ns=boot_ns + DAY_NS),
        ]
    )  # fmt: skip
    reports = reports_array(
        [
            Report(kind=ReportKind.EXECUTION, exec_type=ExecType.TRADE, side=Side.BID,
                   liquidity_side=LiquiditySide.MAKER, instrument_id=0, last_px_steps=600_001,
                   last_qty_steps=2, fee_e8=-150_000_000, position_steps=-3, ts_pub_ns=boot_ns),
            Report(kind=ReportKind.READY, instrument_id=-1, ts_pub_ns=0),
        ]
    )  # fmt: skip
    turns = np.zeros(1, LAYOUTS["TURN"])
    turns["now_ns"], turns["first_sequence"] = boot_ns + 3, np.arange(6)
    for key, layout, records in (
        ("strategy.intent.risk", "ORDER_REQUEST", requests),
        ("risk.order.gateway", "ORDER_REQUEST", requests[:1]),
        ("gateway.report.risk", "REPORT", reports),
        ("strategy.turn.log", "TURN", turns),
    ):
        writer = RingWriter(run, key, layout, 64, first_sequence=3)
        writer.write(records)
        writer.close()
    write_manifest(
        run,
        {
            "run": "r", "instruments": msgspec.to_builtins(instruments), "rings": {},
            "started_wall_ns": wall_ns, "started_ns": boot_ns,
        },
    )  # fmt: skip
    summary = exported(run, tmp_path / "out")
    assert (summary["requests"], summary["reports"], summary["turns"]) == (3, 2, 1)
    found = read(tmp_path / "out", "requests")
    assert found.select(
        "ring", "sequence", "kind", "side", "price", "order_qty", "symbol"
    ).rows() == [
        ("risk.order.gateway", 3, "NEW", "ASK", 12.3, 0.004, "ETHUSDT"),
        ("strategy.intent.risk", 3, "NEW", "ASK", 12.3, 0.004, "ETHUSDT"),
        ("strategy.intent.risk", 4, "CANCEL_ALL", None, None, None, "ALL"),
    ]
    assert [str(d) for d in found["date"]] == ["2024-10-04", "2024-10-04", "2024-10-05"]
    found = read(tmp_path / "out", "reports")
    fields = ["kind", "exec_type", "liquidity_side", "last_px", "last_qty", "fee", "position"]
    assert found.select(fields).rows()[0] == (
        "EXECUTION", "TRADE", "MAKER", 60000.1, 0.002, -1.5, -0.003,
    )  # fmt: skip
    assert found["time"].dt.epoch("ns").to_list() == [wall_ns, wall_ns]
    assert read(tmp_path / "out", "turns")["first_sequence"].to_list() == [[0, 1, 2, 3, 4, 5]]


def test_messages_cut_by_a_lap_are_left_out_and_counted(tmp_path):
    text = "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount\n"
    for i in range(3):
        for level in range(9):
            text += f"x,BTCUSDT,{10**15 + i},{10**15 + i},false,bid,{100 + level},1\n"
    whole, _ = take(tmp_path, "tardis", text)
    recording = Recording(whole)
    slots = recording.run.rings["feed.market.book"].read(1, 13)
    recording.close()
    run = tmp_path / "lapped"
    writer = RingWriter(run, "feed.market.book", "MARKET", 64)
    writer.write(slots[:6])  # a message and a half
    writer.gap(6, 6)
    writer.write(slots[7:])
    writer.close()
    (run / "manifest.json").write_bytes((whole / "manifest.json").read_bytes())
    summary = exported(run, tmp_path / "out")
    assert (summary["depth"], summary["levels"], summary["slots_left_out"]) == (2, 18, 3)


def test_what_is_there_or_no_run_is_refused(tmp_path):
    run, _ = take(tmp_path, "ticks", "1723161599,BTCUSDT,1,1\n")
    recording = Recording(run)
    with pytest.raises(UsageError, match="exists, expected a new folder"):
        parquet.export(recording, tmp_path)
    recording.close()
    with pytest.raises(UsageError, match="none of that id or path, expected one"):
        Recording(tmp_path / "nowhere")

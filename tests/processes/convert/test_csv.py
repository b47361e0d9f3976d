"""CSV files to records: one small file per kind, whose answers are known by hand."""

import gzip
import io
import zipfile

import pytest

from common.errors import DataError, UsageError

from tests.processes.convert.support import book_of, messages_of, take, take_path

MS = 1_000_000
AGG = """agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker
100,50000.5,0.010,200,201,1687392000123,true
101,50000.0,1.5,202,204,1687392000456,false
"""
AGG_FOUND = [
    ("AGG_TRADE", 0, 1687392000123 * MS, 1687392000123 * MS, 500005, 10, 100, -1, 2),
    ("AGG_TRADE", 0, 1687392000456 * MS, 1687392000456 * MS, 500000, 1500, 101, 1, 3),
]


def zipped(name: str, content: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return file.getvalue()


@pytest.mark.parametrize("has_header", [True, False])
@pytest.mark.parametrize("packing", ["plain", "gz", "zip"])
def test_binance_agg_trades(tmp_path, packing, has_header):
    name = "BTCUSDT-aggTrades-2023-06-22.csv"
    text = AGG if has_header else AGG.split("\n", 1)[1]
    content, file_name = {
        "plain": (text.encode(), name),
        "gz": (gzip.compress(text.encode()), f"{name}.gz"),
        "zip": (zipped(name, text), "download.zip"),
    }[packing]
    run, summary = take(tmp_path, "binance", content, file_name)
    assert messages_of(run) == AGG_FOUND
    assert (summary["rows"], summary["bad_rows"], summary["agg_trade"]) == (2, 0, 2)
    assert summary["instruments"] == ["BTCUSDT"]


def test_a_file_without_header_and_telling_name_needs_its_kind_and_symbol(tmp_path):
    text = AGG.split("\n", 1)[1]
    with pytest.raises(DataError, match="first line is '100,.*expected a header line"):
        take(tmp_path, "binance", text)
    run, _ = take(tmp_path, "binance-aggTrades", text, symbol="BTCUSDT")
    assert messages_of(run) == AGG_FOUND


def test_spot_trades_in_microseconds_and_words_of_other_case(tmp_path):
    text = (
        "7,42000.1,0.5,21000.05,1735689600000001,True,True\r\n"
        "8,42000.2,0.25,1,1735689600000002,False,True\r\n"
    )
    run, _ = take(tmp_path, "binance", text, "BTCUSDT-trades-2025-01-01.csv")
    assert messages_of(run) == [
        ("TRADE", 0, 1735689600000001_000, 1735689600000001_000, 420001, 500, 7, -1, 1),
        ("TRADE", 0, 1735689600000002_000, 1735689600000002_000, 420002, 250, 8, 1, 1),
    ]


def test_binance_book_ticker_with_a_feed_latency(tmp_path):
    text = (
        "update_id,best_bid_price,best_bid_qty,best_ask_price,best_ask_qty,transaction_time,"
        "event_time\n"
        "9001,49999.9,1.5,50000.1,2.0,1687392000123,1687392000125\n"
        "9003,0,0,50000.1,2.0,1687392000120,1687392000125\n"
    )
    run, summary = take(
        tmp_path, "binance", text, "BTCUSDT-bookTicker-2023-06-22.zip.csv", feed_latency_ns=7
    )
    first, second = 1687392000123 * MS, 1687392000120 * MS
    assert messages_of(run) == [
        ("BBO", 0, first + 7, first, 9001, 499999, 1500, 500001, 2000),
        ("BBO", 0, second + 7, second, 9003, 0, 0, 500001, 2000),
    ]
    assert summary["rows_back_in_time"] == 1


def test_binance_book_depth_is_a_coarse_book_of_its_bands(tmp_path):
    """Bands of 10 at 99, 20 in all at 98.5; asks 5 at 101 and nothing more up to 2 %."""
    text = (
        "timestamp,percentage,depth,notional\n"
        "2025-05-19 11:07:31,-2,20.00000000,1970.00000000\n"
        "2025-05-19 11:07:31,-1,10.00000000,990.00000000\n"
        "2025-05-19 11:07:31,1,5.00000000,505.00000000\n"
        "2025-05-19 11:07:31,2.00,5.00000000,505.00000000\n"
        "2025-05-19 11:08:01,-1.00,12.5,1237.5\n"
        "2025-05-19 11:08:01,1,5,505\n"
    )
    run, summary = take(tmp_path, "binance", text, "BTCUSDT-bookDepth-2025-05-19.csv")
    t, later = 1747652851 * 10**9, 1747652881 * 10**9
    assert messages_of(run) == [
        ("SNAPSHOT_BEGIN", 0, t, t, 0, t // 1000, 0, [(990, 10000), (980, 10000)], [(1010, 5000)]),
        ("SNAPSHOT_END", 0, t, t, 0, t // 1000, 0, [], []),
        ("DIFF_BEGIN", 0, t, t, t // 1000, t // 1000 + 1, t // 1000, [], []),
        (
            "DIFF_BEGIN", 0, later, later, t // 1000 + 1, later // 1000, t // 1000 + 1,
            [(980, 0), (990, 12500)], [],
        ),
    ]  # fmt: skip
    assert book_of(run) == "b,99.00,12.500\na,101.00,5.000\n"
    assert summary["rows"] == 6


def test_bands_that_contradict_each_other_are_bad_rows(tmp_path, capsys):
    text = (
        "2025-05-19 11:07:31,-2,9,970\n2025-05-19 11:07:31,-1,10,990\n2025-05-19 11:07:31,1,5,505\n"
        "2025-05-19 11:08:01,-1,10,990\n2025-05-19 11:08:01,1,5,505\n"
    )
    run, summary = take(tmp_path, "binance", text, "BTCUSDT-bookDepth-2025-05-19.csv")
    assert summary["bad_rows"] == 1
    assert ":1: band holds -1000 steps more" in capsys.readouterr().err
    assert messages_of(run)[0][7:] == ([(990, 10000)], [(1010, 5000)])


def test_bybit_perpetual_trades(tmp_path):
    text = (
        "timestamp,symbol,side,size,price,tickDirection,trdMatchID,grossValue,homeNotional,"
        "foreignNotional,RPI\n"
        "1704326400.1234,BTCUSDT,Buy,0.010,42500.10,PlusTick,a-b,4.25001e+11,0.010,425.001,0\n"
        "1704326400,BTCUSDT,Sell,2E-2,42500.20,MinusTick,c-d,8.5e+11,0.02,850.0,0\n"
    )
    packed = gzip.compress(text.encode())
    run, summary = take(tmp_path, "bybit", packed, "BTCUSDT2024-01-04.csv.gz")
    first, second = 1704326400_123_400_000, 1704326400 * 10**9
    assert messages_of(run) == [
        ("TRADE", 0, first, first, 425001, 10, 1, 1, 1),
        ("TRADE", 0, second, second, 425002, 20, 2, -1, 1),
    ]
    assert summary["rows_back_in_time"] == 1


def test_bybit_spot_trades_take_the_symbol_from_the_name(tmp_path):
    text = "id,timestamp,price,volume,side,rpi\n1,1747612800074,106453.8,0.003718,sell,0\n"
    run, summary = take(tmp_path, "bybit", text, "BTCUSDT_2025-05-19.csv")
    t = 1747612800074 * MS
    assert messages_of(run) == [("TRADE", 0, t, t, 1064538, 3718, 1, -1, 1)]


TARDIS = "exchange,symbol,timestamp,local_timestamp,"


def test_tardis_incremental_book(tmp_path):
    """A snapshot, two diffs, then a reconnect: the book is void until the second snapshot."""
    text = TARDIS + "is_snapshot,side,price,amount\n"
    for at_us, line in [
        (0, "true,bid,100.0,1"),
        (0, "true,ask,101.0,2"),
        (0, "true,bid,99.0,3"),
        (0, "true,bid,98.0,0"),
        (200, "false,ask,101.0,0"),
        (200, "false,bid,100.5,4e-3"),
        (200, "false,ask,101.5,6"),
        (400, "false,bid,99.0,0"),
        (10**6, "true,bid,50.0,1"),
        (10**6, "true,ask,51.0,1"),
        (10**6 + 200, "false,ask,51.0,7"),
    ]:
        stamp = 1_700_000_000_000_000 + at_us
        text += f"binance-futures,BTCUSDT,{stamp},{stamp + 100},{line}\n"
    run, summary = take(tmp_path, "tardis", text)
    found = messages_of(run)
    assert [message[0] for message in found] == [
        "SNAPSHOT_BEGIN", "SNAPSHOT_END", "DIFF_BEGIN", "DIFF_BEGIN", "GAP", "SNAPSHOT_BEGIN",
        "SNAPSHOT_END", "DIFF_BEGIN",
    ]  # fmt: skip
    assert found[0][7:] == ([(1000, 1000), (990, 3000)], [(1010, 2000)])
    assert found[2][7:] == ([(1005, 4)], [(1010, 0), (1015, 6000)])
    assert found[3][4:7] == (found[2][5], found[3][5], found[2][5])  # U = pu = u before
    assert (summary["rows"], summary["snapshot_begin"], summary["gap"]) == (11, 2, 1)
    assert book_of(run) == "b,50.00,1.000\na,51.00,7.000\n"


def test_tardis_rows_of_other_venue_times_are_other_messages(tmp_path):
    """Two messages that were received in the same microsecond; one with its asks first."""
    text = TARDIS + "is_snapshot,side,price,amount\n"
    for at_us, line in [(0, "ask,101,1"), (0, "bid,100,2"), (1, "bid,99,3")]:
        stamp = 1_700_000_000_000_000
        text += f"binance-futures,BTCUSDT,{stamp + at_us},{stamp + 9},false,{line}\n"
    found = messages_of(take(tmp_path, "tardis", text)[0])
    assert [(m[3] % 10_000, m[7], m[8]) for m in found] == [
        (0, [(1000, 2000)], [(1010, 1000)]), (1000, [(990, 3000)], [])
    ]  # fmt: skip
    assert found[1][6] == found[0][5]


def test_a_tardis_message_that_blocks_cut_is_one_message(tmp_path, monkeypatch):
    from processes.convert import sources

    monkeypatch.setattr(sources, "ROWS_MAX", 3)
    rows = [
        f"binance-futures,BTCUSDT,{10**15},{10**15 + i // 5},false,bid,{100 + i},1"
        for i in range(20)
    ]
    text = TARDIS + "is_snapshot,side,price,amount\n" + "\n".join(rows)
    run, _ = take(tmp_path, "tardis", text)
    assert [len(message[7]) for message in messages_of(run)] == [5, 5, 5, 5]


def test_tardis_trades_and_quotes(tmp_path):
    trades = TARDIS + (
        "id,side,price,amount\n"
        "binance-futures,BTCUSDT,1700000000000000,1700000000000500,42,buy,100.5,0.1\n"
        "binance-futures,BTCUSDT,1700000000000001,1700000000000501,a1,unknown,100.4,0.2\n"
    )
    run, _ = take(tmp_path, "tardis", trades)
    t = 1700000000000000_000
    assert messages_of(run) == [
        ("TRADE", 0, t + 500_000, t, 1005, 100, 42, 1, 1),
        ("TRADE", 0, t + 501_000, t + 1_000, 1004, 200, 1, 0, 1),
    ]
    quotes = TARDIS + (
        "ask_amount,ask_price,bid_price,bid_amount\n"
        "binance-futures,BTCUSDT,1700000000000000,1700000000000500,1,100.6,100.5,2\n"
        "binance-futures,BTCUSDT,1700000000000000,1700000000000500,,,100.5,2\n"
    )
    run, _ = take(tmp_path, "tardis-quotes", quotes)
    assert messages_of(run) == [
        ("BBO", 0, t + 500_000, t, 1, 1005, 2000, 1006, 1000),
        ("BBO", 0, t + 500_000, t, 2, 1005, 2000, 0, 0),
    ]


@pytest.mark.parametrize("depth", [5, 25])
def test_tardis_book_snapshots_become_what_changes(tmp_path, depth):
    names = [
        f"{side}[{i}].{what}"
        for i in range(depth)
        for side in ("asks", "bids")
        for what in ("price", "amount")
    ]
    rest = "," * (4 * (depth - 2))
    text = TARDIS + ",".join(names) + "\n"
    for us, levels in (
        (1700000000000000, "101,1,100,1,102,2,99,2"),
        (1700000000000010, "101,3,99,2,103,1,,"),
    ):
        text += f"binance-futures,BTCUSDT,{us},{us + 5},{levels}{rest}\n"
    run, summary = take(tmp_path, "tardis-book_snapshot", text)
    found = messages_of(run)
    assert [message[0] for message in found] == [
        "SNAPSHOT_BEGIN", "SNAPSHOT_END", "DIFF_BEGIN", "DIFF_BEGIN"
    ]  # fmt: skip
    assert found[0][7:] == ([(1000, 1000), (990, 2000)], [(1010, 1000), (1020, 2000)])
    assert found[2][7:] == ([], [])
    assert found[3][7:] == ([(1000, 0)], [(1020, 0), (1010, 3000), (1030, 1000)])
    assert book_of(run) == "b,99.00,2.000\na,101.00,3.000\na,103.00,1.000\n"
    assert summary["rows"] == 2


def test_ticks_of_two_symbols_register_them_as_they_come(tmp_path):
    text = (
        "timestamp,symbol,price,quantity,side\n"
        "2024-08-08T23:54:15.030314667Z,ETHUSDT,2500.01,1.5,B\n"
        "1723161255031,BTCUSDT,60000.1,0.001,\n"
    )
    run, summary = take(tmp_path, "ticks", text)
    assert messages_of(run) == [
        ("TRADE", 0, 1723161255030314667, 1723161255030314667, 250001, 1500, 1, 1, 1),
        ("TRADE", 1, 1723161255031000000, 1723161255031000000, 600001, 1, 1, 0, 1),
    ]
    assert summary["instruments"] == ["ETHUSDT", "BTCUSDT"]


def test_ticks_without_header_or_side_and_only_one_symbol(tmp_path):
    text = "1723161255,ETHUSDT,2500.01,1.5\n1723161256,BTCUSDT,60000.1,0.001\n"
    run, summary = take(tmp_path, "ticks", text, symbol="BTCUSDT")
    assert [message[4] for message in messages_of(run)] == [600001]
    assert (summary["rows"], summary["foreign_rows"]) == (1, 1)


def test_a_folder_is_merged_by_local_time_trades_first(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "BTCUSDT-aggTrades-2023-06-22.csv").write_text(AGG)
    (folder / "BTCUSDT-bookTicker-2023-06-22.csv").write_text(
        "1,50000,1,50000.1,1,1687392000000,1\n2,50000,1,50000.1,1,1687392000123,1\n"
        "3,50000,1,50000.1,1,1687392000200,1\n"
    )
    (folder / "notes.md").write_text("not data")
    run, summary = take_path(tmp_path, "binance", folder)
    found = [
        (message[0], message[4] if message[0] == "BBO" else message[6])
        for message in messages_of(run)
    ]
    assert found == [("BBO", 1), ("AGG_TRADE", 100), ("BBO", 2), ("BBO", 3), ("AGG_TRADE", 101)]


def test_files_of_other_symbols_are_not_taken_for_the_wanted_one(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    for symbol in ("BTCUSDT", "ETHUSDT"):
        (folder / f"{symbol}-aggTrades-2023-06-22.csv").write_text(AGG.replace("00.5", "00.0"))
    run, summary = take_path(tmp_path, "binance", folder, symbol="BTCUSDT")
    assert (summary["instruments"], summary["rows"]) == (["BTCUSDT"], 2)
    run, summary = take_path(tmp_path, "binance", folder)
    assert (summary["instruments"], summary["rows"]) == (["BTCUSDT", "ETHUSDT"], 4)
    with pytest.raises(UsageError, match="of ETHUSDT by its name, expected BTCUSDT"):
        path = folder / "ETHUSDT-aggTrades-2023-06-22.csv"
        take_path(tmp_path, "binance", path, symbol="BTCUSDT")


def test_files_of_two_venues_are_not_one_run(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "BTCUSDT2024-01-04.csv").write_text(
        "timestamp,symbol,side,size,price\n1704326400.1,BTCUSDT,Buy,0.010,42500.10\n"
    )
    (folder / "BTCUSDT_2025-05-19.csv").write_text(
        "id,timestamp,price,volume,side\n1,1747612800074,106453.8,0.003718,sell\n"
    )
    with pytest.raises(UsageError, match="of bybit-spot, expected bybit-linear as the files bef"):
        take_path(tmp_path, "bybit", folder)
    run, _ = take_path(tmp_path, "bybit-trades", folder / "BTCUSDT2024-01-04.csv")
    assert messages_of(run)[0][4:6] == (425001, 10)


def test_unknown_symbols_are_an_error_that_says_so(tmp_path):
    text = "timestamp,symbol,price,quantity\n1723161255,BTCUSDT,1,1\n1723161255,NEWUSDT,1.5,1\n"
    with pytest.raises(UsageError) as found:
        take(tmp_path, "ticks", text)
    assert "file.csv:3: NEWUSDT of binance-usdm is not in" in str(found.value)
    assert "expected [binance-usdm.NEWUSDT] there; or give --tick-size" in str(found.value)
    run, _ = take(tmp_path, "ticks", text, tick_size="0.01", lot_size="1")
    assert [message[4:6] for message in messages_of(run)] == [(100, 1), (150, 1)]
    with pytest.raises(UsageError, match="no symbol in the file"):
        take(tmp_path, "binance", AGG)


def test_bad_rows_say_where_found_and_expected_and_are_counted(tmp_path, capsys):
    rows = [
        "1723161255,BTCUSDT,60000.1,1,buy",
        "x,BTCUSDT,60000.1,1,buy",
        "1723161255,BTCUSDT,60000.15,1,buy",
        "1723161255,BTCUSDT,0,1,buy",
        "1723161255,BTCUSDT,60000.1,-1,buy",
        "1723161255,BTCUSDT,60000.1,1,up",
        "1723161255,BTCUSDT,60000.1",
        "1723161255,btcusdt,60000.1,1,buy",
        "1723161255,BTCUSDT,60000.1,0.0001,buy",
        "",
        "1723161256,BTCUSDT,1234567890123456789,1,buy",
        "1723161257,BTCUSDT,60000.2,1,sell",
    ] + ["junk"] * 20
    run, summary = take(tmp_path, "ticks", "\n".join(rows))
    assert [message[4] for message in messages_of(run)] == [600001, 600002]
    assert (summary["rows"], summary["bad_rows"]) == (2, 29)
    said = capsys.readouterr().err.splitlines()
    assert [line.rpartition("file.csv")[2] for line in said] == [
        ":2: timestamp is 'x', expected seconds, milliseconds, microseconds or nanoseconds since"
        " 1970, or YYYY-MM-DD HH:MM:SS",
        ":3: price is '60000.15', expected at most the decimals of 0.10, the grid of BTCUSDT; if it"
        " was finer then, give --tick-size",
        ":4: price is '0', expected a price over 0",
        ":5: quantity is '-1', expected a quantity over 0",
        ":6: side is 'up', expected buy, sell or unknown",
        ":7: 3 columns in '1723161255,BTCUSDT,60000.1', expected 5: timestamp,symbol,price,quantity"
        ",side",
        ":8: symbol is 'btcusdt', expected 1 to 24 of A-Z, 0-9 and _",
        ":9: quantity is '0.0001', expected at most the decimals of 0.001, the grid of BTCUSDT; if"
        " it was finer then, give --lot-size",
        ":11: price is '1234567890123456789', expected at most 18 digits",
        ":13: 1 columns in 'junk', expected 5: timestamp,symbol,price,quantity,side",
        "and 19 more bad rows",
    ]


def test_strict_stops_at_the_first_bad_row(tmp_path):
    with pytest.raises(DataError, match=r"file.csv:2: price is 'x', expected a price over 0; noth"):
        take(
            tmp_path, "ticks", "1,BTCUSDT,1,1\n1,BTCUSDT,x,1\n1,BTCUSDT,1,1\n", is_strict=True
        )  # fmt: skip
    assert DataError.exit_code == 65
    assert not list(tmp_path.glob("run-*"))  # nothing is in the way of the next attempt


def test_files_that_break_off_are_read_as_far_as_they_go(tmp_path, capsys):
    text = "".join(f"{1723161255 + i},BTCUSDT,60000.{i % 10},1\n" for i in range(5_000))
    packed = gzip.compress(text.encode())
    run, summary = take(tmp_path, "ticks", packed[: len(packed) // 2], "cut.csv.gz")
    assert 100 < summary["rows"] < 5_000
    assert "gzip ends early" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"cut.csv.gz:\d+: .* nothing behind it was read"):
        take(tmp_path, "ticks", packed[: len(packed) // 2], "cut.csv.gz", is_strict=True)


@pytest.mark.parametrize(
    ("kind", "name", "content", "error", "said"),
    [
        ("nothing", "a.csv", "1", UsageError, "KIND: 'nothing', expected capture, binance"),
        ("binance", "a.csv", "", DataError, "first line is ''"),
        ("tardis", "a.csv", "1,2,3", DataError, "expected a header line"),
        ("tardis", "a.csv", "exchange,symbol,price", DataError, "in it too"),
        ("ticks", "a.csv", "1,BTCUSDT,x,1", DataError, "no row in order of 1"),
        ("ticks", "a.zip", b"PK\x03\x04nonsense", UsageError, "expected a zip"),
        ("capture", "a.gz", "1 {}", UsageError, "--symbol: missing"),
        ("hftbacktest", "a.npz", "", UsageError, "--symbol: missing"),
    ],
)
def test_what_is_not_of_its_kind_is_refused(tmp_path, kind, name, content, error, said):
    with pytest.raises(error) as found:
        take(tmp_path, kind, content, name)
    assert said in str(found.value)


def test_a_destination_that_is_there_is_refused(tmp_path):
    (tmp_path / "run-0").mkdir()
    (tmp_path / "run-0" / "x").write_text("")
    path = tmp_path / "a.csv"
    path.write_text("1,BTCUSDT,1,1\n")
    from processes.convert.importer import ImportOptions, import_market

    with pytest.raises(UsageError, match="exists, expected a new folder"):
        import_market("ticks", path, tmp_path / "run-0", ImportOptions())
    with pytest.raises(UsageError, match="no such file"):
        import_market("ticks", tmp_path / "b.csv", tmp_path / "c", ImportOptions())

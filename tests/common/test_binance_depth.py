"""The venue's depth snapshot becomes slots, exactly or not at all."""

import json

import numpy as np
import pytest

from common.binance_depth import (
    BODY_BYTES_MAX,
    decode_snapshot,
    snapshot_end_slots,
    snapshot_slots,
)
from common.enums import MarketKind
from common.instruments import Instrument, InstrumentFacts
from common.records import DEPTH, FLAG_LAST, LEVELS

FACTS = InstrumentFacts(tick_size="0.10", lot_size="0.001", price_decimals=2, qty_decimals=3)
INSTRUMENT = Instrument(instrument_id=7, venue="binance-usdm", symbol="BTCUSDT", facts=FACTS)
BODY = {
    "lastUpdateId": 9182730410120, "E": 1784212800060, "T": 1784212800049,
    "bids": [["64210.10", "2.900"], ["64209.80", "0.410"]],
    "asks": [["64210.20", "2.015"], ["64211.00", "0.250"]],
}  # fmt: skip


def slots_of(body: dict, **arguments: int) -> np.ndarray:
    wanted = {"request_id": 5, "ts_recv_ns": 1_000, "now_ns": 1_500, **arguments}
    return snapshot_slots(decode_snapshot(json.dumps(body).encode()), INSTRUMENT, **wanted)


def test_every_field_and_level_is_where_it_belongs():
    words = slots_of({**BODY, "symbol": "BTCUSDT", "new": {"a": [1]}})
    header = words.reshape(-1).view(DEPTH)[0]
    assert (header["kind"], header["slot_count"]) == (MarketKind.SNAPSHOT_BEGIN, 3)
    assert (header["instrument_id"], header["ts_recv_ns"]) == (7, 1_000)
    assert header["ts_exch_ns"] == 1784212800049 * 10**6
    assert (header["first_update_id"], header["last_update_id"]) == (5, 9182730410120)
    assert (header["bid_count"], header["ask_count"], header["recv_to_pub_ns"]) == (2, 2, 500)
    levels = words.reshape(-1).view(LEVELS)[1:]
    assert set(levels["kind"]) == {MarketKind.LEVELS}
    assert set(levels["instrument_id"]) == {7} and set(levels["ts_recv_ns"]) == {1_000}
    assert words[1:, 2:].reshape(-1, 2).tolist() == [
        [642101, 2900], [642098, 410], [642102, 2015], [642110, 250], [0, 0], [0, 0]
    ]  # fmt: skip


def test_an_empty_book_is_one_slot():
    words = slots_of({"lastUpdateId": 1, "bids": [], "asks": []})
    header = words.reshape(-1).view(DEPTH)[0]
    assert len(words) == header["slot_count"] == 1
    assert (header["bid_count"], header["ask_count"], header["ts_exch_ns"]) == (0, 0, 0)


@pytest.mark.parametrize(("now_ns", "expected"), [(999, 0), (1_000 + 2**40, 2**31 - 1)])
def test_the_hop_saturates(now_ns, expected):
    header = slots_of(BODY, now_ns=now_ns).reshape(-1).view(DEPTH)[0]
    assert header["recv_to_pub_ns"] == expected


def test_the_end_tells_success_or_failure():
    snapshot = decode_snapshot(json.dumps(BODY).encode())
    good = snapshot_end_slots(snapshot, 7, 5, 1_000, 1_500).reshape(-1).view(DEPTH)[0]
    bad = snapshot_end_slots(None, 7, 5, 1_000, 1_500).reshape(-1).view(DEPTH)[0]
    assert (good["kind"], good["slot_count"]) == (MarketKind.SNAPSHOT_END, 1)
    assert (good["flags"], good["last_update_id"], good["bid_count"]) == (
        FLAG_LAST,
        9182730410120,
        2,
    )
    assert (good["bid_count"], bad["bid_count"]) == (2, 0)
    assert (bad["flags"], bad["last_update_id"]) == (0, 0)
    assert (bad["first_update_id"], bad["instrument_id"]) == (5, 7)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b"{", b"\xff", b'{"lastUpdateId":1}',
        b'{"lastUpdateId":"1","bids":[],"asks":[]}',
        b'{"lastUpdateId":1.5,"bids":[],"asks":[]}',
        b'{"lastUpdateId":-1,"bids":[],"asks":[]}',
        b'{"lastUpdateId":99999999999999999999,"bids":[],"asks":[]}',
        b'{"lastUpdateId":1,"bids":[["1"]],"asks":[]}',
        b'{"lastUpdateId":1,"bids":[[1,2]],"asks":[]}',
        b'{"lastUpdateId":1,"bids":[["1","2","3"]],"asks":[]}',
        b'{"lastUpdateId":1,"bids":{},"asks":[]}',
        b" " * (BODY_BYTES_MAX + 1),
        b'{"lastUpdateId":1,"asks":[],"bids":[' + b'["1","1"],' * 5_000 + b'["1","1"]]}',
    ],
)  # fmt: skip
def test_what_is_no_snapshot_is_refused(body):
    with pytest.raises(ValueError, match="snapshot"):
        decode_snapshot(body)


@pytest.mark.parametrize(
    "level", [["1.05", "1"], ["1", "0.0001"], ["-1", "1"], ["NaN", "1"], ["1" * 30, "1"], ["", "1"]]
)
def test_a_level_off_the_grid_is_refused(level):
    with pytest.raises(ValueError, match="number is"):
        slots_of({**BODY, "asks": [*BODY["asks"], level]})

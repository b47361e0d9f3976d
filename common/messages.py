"""Order requests and reports as Python objects, for the processes that are not kernels.

The packing is derived from the layout tables, so an object is the record, byte for byte, at a
fraction of the price of a numpy access per field.
"""

import struct

import msgspec
import numpy as np

from common.records import LAYOUTS

_CODES = {"u1": "B", "i1": "b", "u2": "H", "i2": "h", "i4": "i", "i8": "q"}


def packing(record: str) -> struct.Struct:
    """Return the little-endian packing of a record; reserved bytes are skipped, written as 0."""
    text = "<"
    for name in LAYOUTS[record].names or ():
        dtype = LAYOUTS[record][name]
        if name.startswith("reserved"):
            text += f"{dtype.itemsize}x"
        else:
            text += _CODES[dtype.base.str[1:]]
    packed = struct.Struct(text)
    assert packed.size == LAYOUTS[record].itemsize, record
    return packed


_REQUEST = packing("ORDER_REQUEST")
_REPORT = packing("REPORT")


class OrderRequest(msgspec.Struct, frozen=True):
    """ORDER_REQUEST; the fields are explained in common/records.py."""

    kind: int = 0
    side: int = 0
    order_type: int = 0
    time_in_force: int = 0
    reduce_only: int = 0
    strategy_id: int = 0
    instrument_id: int = -1
    order_slot: int = 0
    client_order_id: int = 0
    orig_client_order_id: int = 0
    intent_sequence: int = 0
    price_steps: int = 0
    order_qty_steps: int = 0
    ts_exch_ns: int = 0
    ts_recv_ns: int = 0
    recv_to_book_ns: int = 0
    book_to_strategy_ns: int = 0
    strategy_to_risk_ns: int = 0
    risk_to_sent_ns: int = 0
    ts_pub_ns: int = 0
    venue_order_id: int = 0
    book_sequence: int = 0

    def pack(self) -> bytes:
        """Return the record's bytes."""
        return _REQUEST.pack(*msgspec.structs.astuple(self))


class Report(msgspec.Struct):
    """REPORT; the fields are explained in common/records.py."""

    kind: int = 0
    exec_type: int = 0
    order_status: int = 0
    order_pending: int = 0
    side: int = 0
    liquidity_side: int = 0
    source: int = 0
    strategy_id: int = 255
    instrument_id: int = -1
    reject: int = 0
    client_order_id: int = 0
    request_client_order_id: int = 0
    venue_order_id: int = 0
    exec_id: int = 0
    price_steps: int = 0
    order_qty_steps: int = 0
    cum_qty_steps: int = 0
    leaves_qty_steps: int = 0
    last_qty_steps: int = 0
    last_px_steps: int = 0
    fee_e8: int = 0
    position_steps: int = 0
    amount_e8: int = 0
    ts_exch_ns: int = 0
    venue_code: int = 0
    request_kind: int = 0
    order_type: int = 0
    time_in_force: int = 0
    reduce_only: int = 0
    order_slot: int = 0
    sent_to_ack_ns: int = 0
    ts_recv_ns: int = 0
    recv_to_book_ns: int = 0
    book_to_strategy_ns: int = 0
    strategy_to_risk_ns: int = 0
    risk_to_sent_ns: int = 0
    ts_report_recv_ns: int = 0
    ts_pub_ns: int = 0
    request_id: int = 0
    intent_sequence: int = 0

    def pack(self) -> bytes:
        """Return the record's bytes."""
        return _REPORT.pack(*msgspec.structs.astuple(self))


def read_requests(records: np.ndarray) -> list[OrderRequest]:
    """Return ORDER_REQUEST[n] as objects."""
    return [OrderRequest(*fields) for fields in _REQUEST.iter_unpack(records.tobytes())]


def read_reports(records: np.ndarray) -> list[Report]:
    """Return REPORT[n] as objects."""
    return [Report(*fields) for fields in _REPORT.iter_unpack(records.tobytes())]


def reports_array(reports: list[Report]) -> np.ndarray:
    """Return objects as REPORT[n]."""
    return np.frombuffer(b"".join([report.pack() for report in reports]), LAYOUTS["REPORT"])


def requests_array(requests: list[OrderRequest]) -> np.ndarray:
    """Return objects as ORDER_REQUEST[n]."""
    return np.frombuffer(
        b"".join([request.pack() for request in requests]), LAYOUTS["ORDER_REQUEST"]
    )

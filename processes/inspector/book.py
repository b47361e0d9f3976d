"""`tickring book`: the newest book that was sent to the strategy, found in its ring."""

from typing import Any

import msgspec
import numpy as np

from common import clock
from common.enums import MarketKind
from common.errors import UnavailableError
from common.instruments import Instrument
from common.records import BOOK, FLAG_INVALID
from processes.inspector.instance import Instance
from processes.inspector.recorded import RecordedInstance
from processes.inspector.tail import levels_of

RING = "book.book.strategy"
TRIES_MAX = 50
TRY_NS = 20_000_000


def find_newest(slots: np.ndarray, instrument_id: int) -> tuple[np.void, np.ndarray] | None:
    """Return (header, level slots) of the last whole BOOK message of one instrument.

    Args:
        slots: int64[n, 8], the ring's slots in order of sequence.
        instrument_id: whose.
    """
    headers = slots.view(BOOK)[:, 0]
    wanted = (headers["kind"] == MarketKind.BOOK) & (headers["instrument_id"] == instrument_id)
    for i in np.flatnonzero(wanted)[::-1]:
        header = headers[i]
        end = int(i) + int(header["slot_count"])
        if end <= len(slots):
            return header, slots[i + 1 : end]
    return None


def read_book(instance: Instance | RecordedInstance, instrument: Instrument) -> dict[str, Any]:
    """Return the newest book of one instrument.

    Raises:
        UnavailableError: none is in the ring.
    """
    for _ in range(TRIES_MAX):
        observer = instance.observe(RING, from_oldest=True)
        newest = observer.published - observer.capacity
        observer.next_sequence = max(observer.next_sequence, newest)
        slots, _first, _lapped = observer.read(observer.capacity)
        observer.close()
        found = find_newest(slots, instrument.instrument_id)
        if found is not None:
            header, levels = found
            bids, asks = levels_of(header, levels)
            return {
                "symbol": instrument.symbol,
                "valid": not header["flags"] & FLAG_INVALID,
                "last_update_id": int(header["last_update_id"]),
                "ts_exch_ns": int(header["ts_exch_ns"]),
                "age_ms": instance.age_ms(int(header["ts_recv_ns"]), slots),
                "bids": [[instrument.price_text(p), instrument.qty_text(q)] for p, q in bids],
                "asks": [[instrument.price_text(p), instrument.qty_text(q)] for p, q in asks],
            }
        if not instance.is_live:
            break
        clock.sleep_ns(TRY_NS)
    raise UnavailableError(f"book: none of {instrument.symbol} in {RING}, expected one")


def book(instance: Instance | RecordedInstance, symbol: str, as_json: bool) -> None:
    """Print the newest book of one symbol."""
    found = read_book(instance, instance.instrument(symbol))
    if as_json:
        print(msgspec.json.encode(found).decode())
        return
    state = "valid" if found["valid"] else "INVALID"
    print(
        f"{found['symbol']}  {state}  update {found['last_update_id']}"
        f"  {found['age_ms']:.1f} ms old"
    )
    print(f"{'bid qty':>16} {'bid':>14}   {'ask':<14} {'ask qty':<16}")
    for i in range(max(len(found["bids"]), len(found["asks"]))):
        bid = found["bids"][i] if i < len(found["bids"]) else ("", "")
        ask = found["asks"][i] if i < len(found["asks"]) else ("", "")
        print(f"{bid[1]:>16} {bid[0]:>14}   {ask[0]:<14} {ask[1]:<16}")

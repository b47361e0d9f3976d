"""Binance USDⓈ-M depth snapshots: the JSON of GET /fapi/v1/depth -> market slots; cold path.

Source: market-data/rest-api/Order-Book. A snapshot is taken whole or refused.
"""

from typing import Annotated

import msgspec
import numpy as np

from common.enums import MarketKind
from common.instruments import Instrument
from common.records import DEPTH, FLAG_LAST, LEVEL_WORD, LEVELS_PER_SLOT, SLOT_WORDS

LEVELS_MAX = 5_000  # a side; the venue sends at most 1,000
BODY_BYTES_MAX = 1_000_000
_NS_PER_MS = 1_000_000
_INT32_MAX = 2**31 - 1

_Id = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
_Ms = Annotated[int, msgspec.Meta(ge=0, le=9_000_000_000_000)]
_Side = Annotated[list[tuple[str, str]], msgspec.Meta(max_length=LEVELS_MAX)]


class DepthSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of GET /fapi/v1/depth; unknown keys are ignored.

    Attributes:
        bids, asks: [price, quantity] as decimal text, best first.
    """

    lastUpdateId: _Id  # the venue's key
    bids: _Side
    asks: _Side
    E: _Ms = 0
    T: _Ms = 0


_DECODER = msgspec.json.Decoder(DepthSnapshot)


def decode_snapshot(body: bytes) -> DepthSnapshot:
    """Read the venue's answer.

    Raises:
        ValueError: not JSON, a key is missing or of the wrong type, or too long.
    """
    if len(body) > BODY_BYTES_MAX:
        raise ValueError(f"snapshot is {len(body)} bytes, expected at most {BODY_BYTES_MAX}")
    try:
        return _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"snapshot: {error}") from None


def snapshot_slots(
    snapshot: DepthSnapshot, instrument: Instrument, request_id: int, ts_recv_ns: int, now_ns: int
) -> np.ndarray:
    """Return the SNAPSHOT_BEGIN message: header and all levels, to be published at once.

    Args:
        request_id: the request that it answers, 0 unasked.
        ts_recv_ns: stamp of the read that brought its last byte.
        now_ns: stamp of the publishing.

    Returns:
        int64[n, 8], market slots.

    Raises:
        ValueError: a price or quantity is off the instrument's grid, or no plain decimal.
    """
    levels = [
        number
        for side in (snapshot.bids, snapshot.asks)
        for price, qty in side
        for number in (instrument.price_steps(price), instrument.qty_steps(qty))
    ]
    level_slots = -(-len(levels) // (2 * LEVELS_PER_SLOT))
    words = np.zeros((1 + level_slots, SLOT_WORDS), np.int64)
    padded = np.zeros((level_slots, 2 * LEVELS_PER_SLOT), np.int64)
    padded.reshape(-1)[: len(levels)] = levels
    words[1:, LEVEL_WORD:] = padded
    slots = words.reshape(-1).view(DEPTH)
    slots["kind"] = MarketKind.LEVELS
    slots["instrument_id"] = instrument.instrument_id
    slots["ts_recv_ns"] = ts_recv_ns
    _fill_header(words, MarketKind.SNAPSHOT_BEGIN, snapshot, request_id, now_ns)
    return words


def snapshot_end_slots(
    snapshot: DepthSnapshot | None,
    instrument_id: int,
    request_id: int,
    ts_recv_ns: int,
    now_ns: int,
) -> np.ndarray:
    """Return the SNAPSHOT_END message that follows; without a snapshot: there was no answer.

    Args, Returns: as in `snapshot_slots`.
    """
    words = np.zeros((1, SLOT_WORDS), np.int64)
    slots = words.reshape(-1).view(DEPTH)
    slots["instrument_id"] = instrument_id
    slots["ts_recv_ns"] = ts_recv_ns
    slots["flags"] = FLAG_LAST if snapshot else 0
    _fill_header(words, MarketKind.SNAPSHOT_END, snapshot, request_id, now_ns)
    return words


def _fill_header(
    words: np.ndarray,
    kind: MarketKind,
    snapshot: DepthSnapshot | None,
    request_id: int,
    now_ns: int,
) -> None:
    header = words[:1].reshape(-1).view(DEPTH)
    header["kind"] = kind
    header["slot_count"] = len(words)
    header["first_update_id"] = request_id
    header["recv_to_pub_ns"] = np.clip(now_ns - header["ts_recv_ns"], 0, _INT32_MAX)
    if snapshot is not None:
        header["ts_exch_ns"] = (snapshot.T or snapshot.E) * _NS_PER_MS
        header["last_update_id"] = snapshot.lastUpdateId
        header["bid_count"] = len(snapshot.bids)
        header["ask_count"] = len(snapshot.asks)

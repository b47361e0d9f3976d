"""Random and damaged frames: the scanner and its naive twin agree on everything they say."""

import ctypes
import mmap
import random

import numpy as np
import pytest
from fuzz import feed_frames, feed_twin
from hypothesis import given, settings
from hypothesis import strategies as st

from common.enums import MarketKind
from common.instruments import Instrument, InstrumentFacts
from common.records import LAYOUTS
from processes.feed import decoded
from processes.feed.binance import decode_frame
from processes.feed.decoded import Decoded
from processes.feed.json_scan import TEXT_SLACK
from processes.feed.symbols import symbol_table

BYTES_MAX, LEVELS_MAX, SLOTS = 20_000, 50, 32
FACTS = InstrumentFacts(tick_size="0.10", lot_size="0.001", price_decimals=2, qty_decimals=3)
FINE = InstrumentFacts(tick_size="0.0000001", lot_size="1", price_decimals=7, qty_decimals=0)
INSTRUMENTS = [
    Instrument(
        instrument_id=i, venue="binance-usdm", symbol=symbol, facts=FINE if i == 2 else FACTS
    )
    for i, symbol in enumerate(feed_frames.SYMBOLS)
]
RECORDS = {
    MarketKind.DIFF_BEGIN: "DEPTH", MarketKind.BBO: "BBO", MarketKind.TRADE: "TRADE",
    MarketKind.AGG_TRADE: "TRADE", MarketKind.MARK: "MARK", MarketKind.LIQUIDATION: "LIQUIDATION",
}  # fmt: skip
CANARY = -0x0BADCAFE


class GuardedText:
    """A buffer whose next byte cannot be read: a load beyond it ends the process."""

    def __init__(self, size: int) -> None:
        pages = -(-size // mmap.PAGESIZE)
        self.map = mmap.mmap(-1, (pages + 1) * mmap.PAGESIZE)
        self.bytes = np.frombuffer(self.map, np.uint8)
        self.end = pages * mmap.PAGESIZE
        libc = ctypes.CDLL(None, use_errno=True)
        address = ctypes.c_void_p(self.bytes.ctypes.data + self.end)
        assert libc.mprotect(address, ctypes.c_size_t(mmap.PAGESIZE), 0) == 0

    def put(self, frame: bytes, behind: bytes) -> np.ndarray:
        """Return an array of exactly frame + TEXT_SLACK bytes that ends at the guard page."""
        first = self.end - len(frame) - TEXT_SLACK
        self.bytes[first : self.end] = np.frombuffer(
            frame + behind[:TEXT_SLACK].ljust(TEXT_SLACK, b"9"), np.uint8
        )
        return self.bytes[first : self.end]


TEXT = GuardedText(64_000)
SYMBOL_TABLE = symbol_table(INSTRUMENTS)
STATE = decoded.new_state(BYTES_MAX, LEVELS_MAX)


def scan(frame: bytes, behind: bytes = b"", room: int = SLOTS, sequence: int = 5):
    """Return (status, words) of the scanner, and check what it may write."""
    words = np.full((SLOTS, 8), CANARY, np.int64)
    status = decode_frame(
        TEXT.put(frame, behind), 0, len(frame), SYMBOL_TABLE, words, SLOTS - 1, sequence, room,
        77, STATE,
    )  # fmt: skip
    untouched = [(sequence + i) % SLOTS for i in range(room, SLOTS)]
    assert (words[untouched] == CANARY).all(), "wrote beyond its room"
    return status, np.roll(words, -sequence, axis=0)


def fields_of(words: np.ndarray, status: int) -> dict:
    """Return the written record as the twin writes it, and check its slots."""
    kind = MarketKind(int(STATE[decoded.KIND]))
    header = words[0].view(LAYOUTS[RECORDS[kind]])[0]
    assert (header["kind"], header["flags"], header["slot_count"]) == (kind, 0, status)
    assert header["ts_recv_ns"] == 77 and header["instrument_id"] == STATE[decoded.INSTRUMENT]
    skipped = {"kind", "flags", "slot_count", "ts_recv_ns", "reserved", "reserved_2"}
    answer = {n: int(header[n]) for n in header.dtype.names if n not in skipped} | {"kind": kind}
    for name in ("reserved", "reserved_2"):
        assert name not in header.dtype.names or not header[name].any()
    if kind != MarketKind.DIFF_BEGIN:
        assert status == 1
        return answer
    bid_count, ask_count = answer.pop("bid_count"), answer.pop("ask_count")
    levels = []
    for slot in words[1:status]:
        row = slot.view(LAYOUTS["LEVELS"])[0]
        assert (row["kind"], row["flags"], row["slot_count"]) == (MarketKind.LEVELS, 0, 0)
        assert (row["ts_recv_ns"], row["instrument_id"]) == (77, answer["instrument_id"])
        levels += [tuple(int(v) for v in slot[w : w + 2]) for w in (2, 4, 6)]
    assert status == 1 + -(-(bid_count + ask_count) // 3)
    assert not any(any(level) for level in levels[bid_count + ask_count :])
    answer["bids"] = levels[:bid_count]
    answer["asks"] = levels[bid_count : bid_count + ask_count]
    return answer


def check_same(frame: bytes, behind: bytes = b"") -> str:
    """Compare scanner and twin on one frame; return what they said."""
    status, words = scan(frame, behind)
    try:
        expected = feed_twin.decode(frame, INSTRUMENTS, BYTES_MAX, LEVELS_MAX)
    except feed_twin.Refused as error:
        assert status <= decoded.REFUSED, (frame, status, error)
        assert Decoded(status) is not None
        return "refused"
    except feed_twin.Ignored as error:
        assert status == Decoded[error.args[0]], (frame, status, error)
        assert STATE[decoded.GAP_NEEDED] == 0
        return "ignored"
    assert status > 0, (frame, Decoded(status), expected)
    found = fields_of(words, status)
    found.pop("recv_to_pub_ns", None)
    assert found == expected, frame
    return "taken"


@settings(max_examples=400, deadline=None)
@given(st.randoms(use_true_random=False))
def test_right_frames_in_any_writing_are_taken(rng):
    check_same(feed_frames.frame(rng, is_right=True))


@settings(max_examples=800, deadline=None)
@given(st.randoms(use_true_random=False))
def test_spoiled_frames_agree(rng):
    check_same(feed_frames.frame(rng))


@settings(max_examples=800, deadline=None)
@given(st.randoms(use_true_random=False))
def test_damaged_frames_agree(rng):
    frame = feed_frames.frame(rng, is_right=True)
    damaged = feed_frames.mutate(rng, frame)
    check_same(damaged, behind=frame[len(damaged) :])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=TEXT_SLACK))
def test_any_bytes_give_a_documented_status(frame, behind):
    check_same(frame, behind)


@pytest.mark.parametrize("seed", range(4))
def test_many_seeded_frames_agree_and_every_answer_occurs(seed):
    rng = random.Random(seed)
    said = {"taken": 0, "ignored": 0, "refused": 0}
    for _ in range(3000):
        frame = feed_frames.frame(rng)
        if rng.random() < 0.4:
            damaged = feed_frames.mutate(rng, frame)
            said[check_same(damaged, behind=frame[len(damaged) :])] += 1
        else:
            said[check_same(frame)] += 1
    assert min(said.values()) > 100, said


def test_every_truncation_of_every_event_agrees():
    """What lies behind the end is the rest of the frame: reading it would complete the event."""
    rng = random.Random(3)
    kinds = set()
    while len(kinds) < 6:
        frame = feed_frames.frame(rng, is_right=True)
        status, _ = scan(frame)
        kind = int(STATE[decoded.KIND])
        if status < 1 or kind in kinds or len(frame) > 2000:
            continue
        kinds.add(kind)
        for end in range(len(frame)):
            assert check_same(frame[:end], behind=frame[end:]) in ("refused", "ignored")


def test_no_room_writes_nothing_beyond_it():
    rng = random.Random(11)
    seen = 0
    while seen < 40:
        frame = feed_frames.frame(rng, is_right=True)
        whole, _ = scan(frame)
        if whole < 1:
            continue
        for room in range(whole):
            status, _ = scan(frame, room=room)
            assert status == Decoded.NO_ROOM
            is_depth = b'"depthUpdate"' in frame
            assert STATE[decoded.GAP_NEEDED] == is_depth
        seen += whole > 2

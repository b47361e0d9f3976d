"""Capture mode: a recorded session's own frames, at its own pace or faster, as the market.

A capture is lines of `<local receive time, ns> <raw JSON>`, plain or gzip: combined-stream frames,
and REST depth snapshots without symbol, which belong to the configured one. Depth diffs are heard
by every diff cadence, and aggTrade is made from trades where the recording has none.
"""

import gzip
import zlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from common import log
from common.enums import Side
from common.errors import ConfigError
from common.fixed_point import steps_from_text
from common.instruments import Instrument
from processes.venue.config import CaptureConfig, TicksConfig
from processes.venue.market import Levels, Row
from processes.venue.recorded_market import RecordedMarket
from processes.venue.streams import DIFF_CADENCES_MS, OUTBOX_FRAMES_MAX

if TYPE_CHECKING:
    from processes.venue.exchange import Exchange

STEP_MS = 5
LINES_PER_STEP_MAX = 20_000
LINE_BYTES_MAX = 16_000_000
RECENT_DIFFS_MAX = 1_000
BID, ASK = Side.BID.value, Side.ASK.value
WireLevels = list[tuple[str, str]]


class Frame(msgspec.Struct):
    """A combined-stream frame, its payload untouched; or a snapshot, which has no stream."""

    stream: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")
    last_update_id: int = msgspec.field(name="lastUpdateId", default=0)
    bids: WireLevels = []
    asks: WireLevels = []


class Payload(msgspec.Struct):
    """What the venue needs of the payloads it plays."""

    e: str = ""
    s: str = ""
    U: int = 0
    u: int = 0
    pu: int = 0
    b: WireLevels | str = []
    a: WireLevels | str | int = []
    t: int = 0
    p: str = ""
    q: str = ""
    m: bool = False
    i: str = ""
    T: int = 0


class CaptureMarket(RecordedMarket):
    """The recorded market and its playback.

    Args:
        config: which file, how fast.
        symbol: whose snapshot the symbol-less REST line is.
        instruments: what is listed.
        accounts_max: as in RecordedMarket.

    Raises:
        ConfigError: the file cannot be read or is no capture.
    """

    step_ms = STEP_MS
    expected = "a capture"

    def __init__(
        self,
        config: CaptureConfig | TicksConfig,
        symbol: str,
        instruments: list[Instrument],
        accounts_max: int,
    ) -> None:
        super().__init__(len(instruments), accounts_max)
        self.config = config
        self.instruments = instruments
        self.by_symbol = {i.symbol: i.instrument_id for i in instruments}
        self.snapshot_index = self.by_symbol[symbol]
        self.decode_frame = msgspec.json.Decoder(Frame).decode
        self.decode_payload = msgspec.json.Decoder(Payload).decode
        self.lines_played = 0
        self.lines_bad = 0
        self.lines = self.open_lines()
        self.next_line = next(self.lines, None)
        if self.next_line is None:
            raise ConfigError(f"{config.file}: no lines, expected {self.expected}")
        self.first_ns = self.next_line[0]
        self.started_ms = 0 if config.waits else -1  # 0: not yet; -1: at the first step
        self.has_agg_trades = False
        self.is_broken = [False] * len(instruments)  # the recording itself has lost depth
        self.recent: deque[tuple[int, Levels, Levels]] = deque(maxlen=RECENT_DIFFS_MAX)
        self.index_prices_e8 = [0] * len(instruments)
        self.exchange: Exchange | None = None
        self.load_first_snapshot()

    def open_lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield (receive time in ns, JSON) from the beginning on. Raises ConfigError."""
        return read_lines(Path(self.config.file))

    def load_first_snapshot(self) -> None:
        """Serve the recording's first snapshot until playback has passed it."""
        for _, line in self.open_lines():
            if b'"lastUpdateId"' in line[:200]:
                frame = self.decode_frame(line)
                if frame.last_update_id and not frame.stream:
                    self.take_snapshot(frame)
                    return

    def take_snapshot(self, frame: Frame) -> None:
        """Let the book be a recorded snapshot with the diffs that it has missed.

        A book that is whole and newer stays: snapshots arrive behind the diffs, as in life.
        """
        index = self.snapshot_index
        book, instrument = self.books[index], self.instruments[index]
        if frame.last_update_id <= book.last_update_id and not self.is_broken[index]:
            return
        bids, asks = read_levels(instrument, frame.bids), read_levels(instrument, frame.asks)
        book.replace(bids, asks, frame.last_update_id)
        self.is_broken[index] = False
        for update_id, bids, asks in self.recent:
            if update_id > frame.last_update_id:
                self.on_levels(index, BID, bids)
                self.on_levels(index, ASK, asks)
                book.last_update_id = update_id

    def attach(self, exchange: "Exchange") -> None:
        """Learn whose hub and streams the frames go to."""
        self.exchange = exchange

    def on_first(self, stream: str) -> None:
        """Begin when the first market stream is heard."""
        if self.started_ms == 0 and "@" in stream:
            self.started_ms = -1

    def index_e8(self, index: int) -> int:
        """Return the recorded index price, 0 if there was none."""
        return self.index_prices_e8[index]

    def run(self, steps: int, now_ms: int) -> list[Row]:
        """Play what is due and return the events of our orders."""
        if self.started_ms == 0 or self.next_line is None:
            return []
        if self.started_ms < 0:
            self.started_ms = now_ms
        until_ns = self.first_ns + int((now_ms - self.started_ms) * 1e6 * self.config.speed)
        rows: list[Row] = []
        for _ in range(LINES_PER_STEP_MAX):
            if self.next_line is None or self.next_line[0] > until_ns or self.is_congested():
                break
            self.play(self.next_line[1], now_ms, rows)
            self.lines_played += 1
            self.next_line = next(self.lines, None)
        if self.next_line is None:
            log.event("capture_ended", lines=self.lines_played, bad=self.lines_bad)
        return rows

    def is_congested(self) -> bool:
        """Return True while a listener has more frames waiting than it should."""
        assert self.exchange is not None
        return self.lines_played % 64 == 0 and self.exchange.hub.pending_max() > (
            OUTBOX_FRAMES_MAX // 2
        )

    def play(self, line: bytes, now_ms: int, rows: list[Row]) -> None:
        """Serve one line and let the book and our orders follow it."""
        assert self.exchange is not None
        try:
            frame = self.decode_frame(line)
            if not frame.stream:
                if frame.last_update_id:
                    self.take_snapshot(frame)
                return
            prefix, _, kind = frame.stream.partition("@")
            is_diff = kind.partition("@")[0] == "depth"
            text = bytes(frame.data).decode()
            payload = self.decode_payload(frame.data)
            index = self.by_symbol.get(payload.s, -1)
            if payload.e != "depthUpdate" or is_diff:
                self.follow(payload, index, now_ms, rows)
        except (msgspec.DecodeError, ValueError):
            self.lines_bad += 1
            return
        hub = self.exchange.hub
        if payload.e == "depthUpdate" and is_diff:
            for kind in DIFF_CADENCES_MS:
                self.publish_diff(index, f"{prefix}@{kind}", text)
        elif payload.e == "markPriceUpdate":
            for kind in ("markPrice", "markPrice@1s"):
                hub.publish(f"{prefix}@{kind}", text)
        else:
            hub.publish(frame.stream, text)
            if payload.e == "forceOrder":
                hub.publish("!forceOrder@arr", text)

    def publish_diff(self, index: int, stream: str, text: str) -> None:
        """Send one depth frame, unless a fault takes it."""
        assert self.exchange is not None
        if stream not in self.exchange.hub.listeners:
            return
        if index >= 0 and self.exchange.streams[index].drop_next:
            self.exchange.streams[index].drop_next -= 1
            return
        self.exchange.hub.publish(stream, text)

    def follow(self, payload: Payload, index: int, now_ms: int, rows: list[Row]) -> None:
        """Let book, aggregates and our orders follow one payload.

        Raises:
            ValueError: a number is not one, or off the instrument's grid.
        """
        if index < 0:
            return
        instrument = self.instruments[index]
        if payload.e == "depthUpdate":
            self.follow_depth(payload, index, instrument)
        elif payload.e == "trade":
            price, qty = instrument.price_steps(payload.p), instrument.qty_steps(payload.q)
            aggressor = ASK if payload.m else BID
            rows += self.on_trade(index, aggressor, price, qty)
            if not self.has_agg_trades:
                assert self.exchange is not None
                streams = self.exchange.streams[index]
                streams.add_agg(payload.t, price, qty, payload.m, payload.T or now_ms, now_ms)
        elif payload.e == "aggTrade":
            self.has_agg_trades = True
        elif payload.e == "markPriceUpdate" and payload.i:
            self.index_prices_e8[index] = steps_from_text(payload.i, 8)

    def follow_depth(self, payload: Payload, index: int, instrument: Instrument) -> None:
        """Apply a recorded diff; those that the snapshot already holds are skipped.

        After a gap in the recording diffs still apply: quantities are absolute, so the book heals.
        """
        book = self.books[index]
        if payload.u <= book.last_update_id or not isinstance(payload.b, list):
            return
        bids = read_levels(instrument, payload.b)
        asks = read_levels(instrument, payload.a if isinstance(payload.a, list) else [])
        if payload.U > book.last_update_id and payload.pu != book.last_update_id:
            self.is_broken[index] = True
        if index == self.snapshot_index:
            self.recent.append((payload.u, bids, asks))
        self.on_levels(index, BID, bids)
        self.on_levels(index, ASK, asks)
        book.last_update_id = payload.u


def read_levels(instrument: Instrument, levels: WireLevels) -> Levels:
    """Return wire levels in steps. Raises ValueError off the grid."""
    return [(instrument.price_steps(p), instrument.qty_steps(q)) for p, q in levels]


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (receive time in ns, JSON) of a capture's lines; what is not such a line is skipped.

    A gzip file that breaks off ends there, as a recorder's does when it is killed.

    Raises:
        ConfigError: the file cannot be read.
    """
    try:
        with path.open("rb") as probe:
            is_gzip = probe.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if is_gzip else path.open("rb") as file:
            while line := file.readline(LINE_BYTES_MAX):
                stamp, _, text = line.partition(b" ")
                if stamp.isdigit():
                    yield int(stamp), text.strip()
    except (EOFError, zlib.error) as error:
        log.event("capture_cut_short", file=path, error=error)
    except OSError as error:
        raise ConfigError(f"{path}: {str(error).lower()}") from None

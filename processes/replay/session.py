"""One capture through decoder, book and what is composed behind it, in virtual time.

    lines ──decoder──▶ market ring ──book──▶ book ring ──▶ strategy, risk: the live stages
                         snapshot ring ──┘

The capture's stamps are the clock. A snapshot line is the answer of `rest`, whenever it comes; a
damaged line is counted, and whether it mattered is told by the venue's own chain of update ids.
"""

import json
from typing import Any

import msgspec
import numpy as np

from common.binance_depth import snapshot_end_slots, snapshot_slots
from common.errors import BugError
from common.instruments import Instrument
from common.records import LEVELS_PER_SLOT
from processes.book.config import BookConfig
from processes.book.counters import Counter
from processes.book.rehearsal import private_stage
from processes.feed.decoded import Decoded, new_state, slots_max
from processes.feed.symbols import symbol_table
from processes.replay.capture import (
    DONE,
    EVENTS,
    FOREIGN,
    LINE_END,
    LINE_FIRST,
    LINE_STATUS,
    LINE_TS,
    LINES,
    LOOK,
    NO_ROOM,
    NOW_NS,
    OTHER,
    SNAPSHOT_MARKER,
    new_reading,
    read_blocks,
    read_lines,
)
from processes.replay.chain import Chain
from processes.replay.options import ReplayOptions
from processes.replay.results import BboWriter, book_text, sha256_of, write_text
from processes.replay.snapshot_line import Foreign, is_json_without_event, snapshot_of
from shm.ring import read_only, release
from shm.words import P_CURSOR

LEVELS_MAX = 48_000  # of one depth message, both sides
FRAME_BYTES_MAX = 1 << 24
INPUT_SLOTS = 1 << 15
LINES_PER_TURN = 512
BOOK = BookConfig(
    levels_published=1,
    levels_max=1 << 17,
    diff_slots_max=1 << 16,
    snapshot_slots_max=1 << 14,
    batch_slots_max=1 << 12,
)
STRATEGY_LEVELS = 10
_MARKER = SNAPSHOT_MARKER.tobytes()


class Session:
    """A replay of one capture.

    Args:
        instrument: whose book is wanted; the only one registered.
        bbo: told every published state.
        chain: strategy and risk, None: the book alone.
    """

    def __init__(self, instrument: Instrument, bbo: BboWriter, chain: Chain | None = None) -> None:
        self.instrument = instrument
        self.bbo = bbo
        self.chain = chain
        levels = STRATEGY_LEVELS if chain else BOOK.levels_published
        self.book, self.others = private_stage(
            [instrument],
            msgspec.structs.replace(BOOK, levels_published=levels),
            input_capacity=INPUT_SLOTS,
            book_capacity=book_slots(levels),
            cells=chain.cells if chain else None,
        )
        # With a strategy, time passes line by line.
        self._lines_per_turn = 1 if chain else LINES_PER_TURN
        self.stages: list[Any] = [self.book]
        if chain:
            self.stages += chain.connect(self.others.books, 0)
        self._seen = 0
        self.decode_errors = 0
        self.off_grid = 0  # of those, lines whose numbers are finer than the grid
        self._reading = new_reading()
        self._symbols = symbol_table([instrument])
        self._decoder = new_state(FRAME_BYTES_MAX, LEVELS_MAX)
        scratch_slots = 1 << (slots_max(LEVELS_MAX) - 1).bit_length()
        assert scratch_slots < INPUT_SLOTS
        self._scratch = np.zeros((scratch_slots, 8), np.int64)

    def run(self, options: ReplayOptions) -> None:
        """Replay the whole capture."""
        for text, end in read_blocks(options.capture):
            pos = 0
            while pos < end:
                pos = self._read(text, pos, end)
        self._work()
        if self.book.counters.values[Counter.BOOKS_CONFLATED]:
            raise BugError("replay: a book state was conflated, expected room for all")

    def _read(self, text: np.ndarray, pos: int, end: int) -> int:
        before = pos
        pos, status = read_lines(
            text, pos, end, self._symbols, self._decoder, self._scratch, self.others.market.end,
            self._reading, self._lines_per_turn, SNAPSHOT_MARKER,
        )  # fmt: skip
        work = self._work()
        if status == LOOK:
            self._look(text)
        elif status == NO_ROOM and pos == before and not work:
            raise BugError("replay: the market ring does not drain, expected the book to take it")
        assert status in (DONE, NO_ROOM, LOOK)
        return int(pos)

    def _work(self) -> int:
        """Let all stages work until nothing is left; return how much they did."""
        now_ns = int(self._reading[NOW_NS])
        done = 0
        while work := sum(stage.do_work(now_ns) for stage in self.stages):
            done += work
            self._take_books()
        self.others.requests.read(self.others.requests.capacity)  # the capture answers, or not
        return done

    def _take_books(self) -> None:
        """Show the BBO writer what the book has published, before or after a strategy saw it."""
        ring = self.book.books
        published = int(ring.end.own[P_CURSOR])
        slots = np.arange(self._seen, published) & (ring.capacity - 1)
        self.bbo.take(ring.end.slots[slots])
        self._seen = published
        if self.chain is None:
            release(self.others.books.end, published)

    def _look(self, text: np.ndarray) -> None:
        """Take a line that is no stream frame of the usual kinds."""
        reading = self._reading
        line = text[reading[LINE_FIRST] : reading[LINE_END]].tobytes()
        if reading[LINE_STATUS] == 0:
            self.decode_errors += 1
        elif _MARKER in line:
            self._look_at_snapshot(line, int(reading[LINE_TS]))
        elif is_json_without_event(line):
            reading[OTHER] += 1
        else:
            self.decode_errors += 1
            self.off_grid += int(reading[LINE_STATUS] == Decoded.OFF_GRID)

    def _look_at_snapshot(self, line: bytes, ts_recv_ns: int) -> None:
        self._reading[NOW_NS] = now_ns = max(int(self._reading[NOW_NS]), ts_recv_ns)
        try:
            snapshot = snapshot_of(line, self.instrument.symbol)
            if snapshot is None:
                self._reading[OTHER] += 1
                return
            begin = snapshot_slots(snapshot, self.instrument, 0, ts_recv_ns, now_ns)
        except Foreign:
            self._reading[FOREIGN] += 1
            return
        except ValueError:
            self.decode_errors += 1
            return
        end = snapshot_end_slots(snapshot, 0, 0, ts_recv_ns, now_ns)
        if not self.others.snapshots.try_write(np.concatenate((begin, end))):
            raise BugError("replay: the snapshot ring is full, expected it to be empty")
        self._work()

    def is_valid(self) -> bool:
        """Return True if the book is valid now."""
        return self.book.is_live(0)

    def book_text(self) -> str:
        """Return the book as text; empty if it is not valid."""
        return book_text(self.book.state.books, self.instrument) if self.is_valid() else ""

    def summary(self) -> dict[str, int | bool | str]:
        """Return the counts of the replay and the hash of its final book."""
        counts = read_only(self.book.counters.values)
        return {
            "depth_events": int(counts[Counter.DIFFS]),
            "applied": int(counts[Counter.DIFFS_APPLIED]),
            "dropped_stale": int(counts[Counter.DIFFS_STALE]),
            "gaps": int(counts[Counter.GAPS_SEQUENCE]),
            "book_valid": self.is_valid(),
            "bbo_rows": self.bbo.rows,
            "book_sha256": sha256_of(self.book_text()),
            "decode_errors": self.decode_errors,
            "market_events": int(self._reading[EVENTS]),
        }

    def aside(self) -> dict[str, int]:
        """Return what else was in the file."""
        counts = self.book.counters.values
        return {
            "lines": int(self._reading[LINES]),
            "snapshots": int(counts[Counter.SNAPSHOTS]),
            "crossed": int(counts[Counter.BOOKS_CROSSED]),
            "foreign_frames": int(self._reading[FOREIGN]),
            "other_frames": int(self._reading[OTHER]),
            "off_grid_lines": self.off_grid,
            **(self.chain.counts() if self.chain else {}),
        }

    def close(self) -> None:
        """Close all stages."""
        for stage in self.stages:
            stage.close()


def book_slots(levels: int) -> int:
    """Return the capacity of a book ring in which nothing is ever conflated.

    A turn may publish a GAP, a BOOK and its levels for every diff that it takes or had kept.
    """
    message = 2 + -(-2 * levels // LEVELS_PER_SLOT)
    needed = message * (BOOK.diff_slots_max + BOOK.batch_slots_max + 1)
    return 1 << (needed - 1).bit_length()


def replay(options: ReplayOptions, instrument: Instrument) -> tuple[dict, dict]:
    """Replay a capture and write the files that were asked for; return (summary, aside)."""
    chain = Chain(options.strategy, instrument) if options.strategy else None
    bbo = BboWriter(instrument, options.bbo)
    try:
        session = Session(instrument, bbo, chain)
        session.run(options)
        session.close()
    finally:
        bbo.close()
        if chain:
            chain.close()
    summary = session.summary()
    if options.book is not None:
        write_text(options.book, session.book_text())
    if options.summary is not None:
        write_text(options.summary, json.dumps(summary, indent=2) + "\n")
    return summary, session.aside()

"""What the feed counts."""

from enum import IntEnum

from processes.feed.decoded import DECODED_MIN, REFUSED, Decoded


class Counter(IntEnum):
    """Counters of the feed process; the last block has one per Decoded status, from its first."""

    FRAMES = 0
    FRAME_BYTES = 1
    SOCKET_BYTES = 2
    DEPTH = 3
    TRADE = 4
    AGG_TRADE = 5
    BBO = 6
    MARK = 7
    LIQUIDATION = 8
    DUPLICATE = 9
    AHEAD = 10
    DROPPED = 11
    DROPPED_SLOTS = 12
    GAPS = 13
    CLOCKS = 14
    CONNECTS = 15
    OPENED = 16
    LOST = 17
    STALE = 18
    ROTATED = 19
    PINGS = 20
    DECODE_ERRORS = 21
    EVENT_UNKNOWN = 22
    SYMBOL_UNKNOWN = 23
    NOT_MARKET = 24
    SHUTDOWN = 25
    BAD_OVERSIZE = 26
    BAD_SYNTAX = 27
    BAD_UTF8 = 28
    BAD_NESTING = 29
    BAD_KEY_MISSING = 30
    BAD_KEY_TWICE = 31
    BAD_TYPE = 32
    BAD_NUMBER = 33
    BAD_NEGATIVE = 34
    BAD_OFF_GRID = 35
    BAD_TOO_LONG = 36
    BAD_RANGE = 37
    BAD_LEVELS = 38


LABELS: dict[IntEnum, str] = {
    Counter.FRAMES: "Data frames received (monotonic)",
    Counter.FRAME_BYTES: "Bytes of data frames (monotonic)",
    Counter.SOCKET_BYTES: "Bytes read from sockets (monotonic)",
    Counter.DEPTH: "Depth diffs published (monotonic)",
    Counter.TRADE: "Trades published (monotonic)",
    Counter.AGG_TRADE: "Aggregate trades published (monotonic)",
    Counter.BBO: "Best bid and offer updates published (monotonic)",
    Counter.MARK: "Mark prices published (monotonic)",
    Counter.LIQUIDATION: "Liquidations published (monotonic)",
    Counter.DUPLICATE: "Messages of the other connection already published (monotonic)",
    Counter.AHEAD: "Messages of the new connection left to the old one: it is behind (monotonic)",
    Counter.DROPPED: "Messages dropped: ring full, told by a GAP (monotonic)",
    Counter.DROPPED_SLOTS: "Slots of the messages dropped (monotonic)",
    Counter.GAPS: "GAP records of the feed's own: reconnect or bad depth message (monotonic)",
    Counter.CLOCKS: "CLOCK records published (monotonic)",
    Counter.CONNECTS: "Connections attempted (monotonic)",
    Counter.OPENED: "Connections opened (monotonic)",
    Counter.LOST: "Connections lost, refused or given up (monotonic)",
    Counter.STALE: "Connections given up: silent for too long (monotonic)",
    Counter.ROTATED: "Connections replaced while they worked (monotonic)",
    Counter.PINGS: "Pings sent on silent connections (monotonic)",
    Counter.DECODE_ERRORS: "Frames refused, all reasons (monotonic)",
    Counter.EVENT_UNKNOWN: "Frames ignored: an event or answer that we do not use (monotonic)",
    Counter.SYMBOL_UNKNOWN: "Frames ignored: a symbol that is not registered (monotonic)",
    Counter.NOT_MARKET: "Trades ignored: not from the order book (monotonic)",
    Counter.SHUTDOWN: "Venue's announcements that it restarts (monotonic)",
    Counter.BAD_OVERSIZE: "Frames refused: longer than frame_bytes_max (monotonic)",
    Counter.BAD_SYNTAX: "Frames refused: not JSON, or cut off (monotonic)",
    Counter.BAD_UTF8: "Frames refused: not UTF-8 (monotonic)",
    Counter.BAD_NESTING: "Frames refused: nested too deep (monotonic)",
    Counter.BAD_KEY_MISSING: "Frames refused: a key is missing (monotonic)",
    Counter.BAD_KEY_TWICE: "Frames refused: a key came twice (monotonic)",
    Counter.BAD_TYPE: "Frames refused: a value of another type (monotonic)",
    Counter.BAD_NUMBER: "Frames refused: not a plain decimal (monotonic)",
    Counter.BAD_NEGATIVE: "Frames refused: a negative number (monotonic)",
    Counter.BAD_OFF_GRID: "Frames refused: finer than the instrument's grid (monotonic)",
    Counter.BAD_TOO_LONG: "Frames refused: a number of too many digits (monotonic)",
    Counter.BAD_RANGE: "Frames refused: a value out of its range (monotonic)",
    Counter.BAD_LEVELS: "Frames refused: more than levels_max levels (monotonic)",
}
assert set(LABELS) == set(Counter), "each Counter needs a label: operators read it"
assert Counter.BAD_OVERSIZE - Decoded.OVERSIZE * -1 == Counter.BAD_LEVELS - Decoded.LEVELS * -1
assert DECODED_MIN == REFUSED - (Counter.BAD_LEVELS - Counter.BAD_OVERSIZE)

WIRE_TO_RECORD = 0
HISTOGRAMS = ["wire_to_record_ns"]

"""What the book process counts, and how an operator reads it."""

from enum import IntEnum

HISTOGRAMS = ["recv_to_book_ns"]
RECV_TO_BOOK = 0


class Counter(IntEnum):
    """Index into the process's counters."""

    MESSAGES = 0
    DIFFS = 1
    DIFFS_APPLIED = 2
    DIFFS_STALE = 3
    DIFFS_EVICTED = 4
    LEVELS_APPLIED = 5
    GAPS_SEQUENCE = 6
    GAPS_LOST = 7
    GAPS_DECODE = 8
    GAPS_RECONNECT = 9
    BOOKS_CROSSED = 10
    BOOKS_OVERFLOWED = 11
    BAD_LEVELS = 12
    SNAPSHOTS = 13
    SNAPSHOTS_FAILED = 14
    SNAPSHOTS_REFUSED = 15
    SNAPSHOTS_TOO_OLD = 16
    SNAPSHOTS_UNUSED = 17
    RESYNCS = 18
    REQUESTS = 19
    REQUESTS_REFUSED = 20
    BOOKS_PUBLISHED = 21
    BOOKS_CONFLATED = 22
    PASSED_ON = 23
    IGNORED = 24
    MALFORMED = 25
    BOOKS_VALID = 26


LABELS = {
    Counter.MESSAGES: "Market messages read (monotonic)",
    Counter.DIFFS: "Depth diffs read (monotonic)",
    Counter.DIFFS_APPLIED: "Depth diffs applied (monotonic)",
    Counter.DIFFS_STALE: "Depth diffs dropped, older than the book or the snapshot (monotonic)",
    Counter.DIFFS_EVICTED: "Depth diffs pushed out of a full buffer before a snapshot (monotonic)",
    Counter.LEVELS_APPLIED: "Levels of applied depth diffs (monotonic)",
    Counter.GAPS_SEQUENCE: "Valid books lost: previous update id did not fit (monotonic)",
    Counter.GAPS_LOST: "Valid books lost: market records were lost on the way (monotonic)",
    Counter.GAPS_DECODE: "Valid books lost: a depth frame could not be read (monotonic)",
    Counter.GAPS_RECONNECT: "Valid books lost: the feed's connection was lost (monotonic)",
    Counter.BOOKS_CROSSED: "Valid books lost: bid at or over ask, never published (monotonic)",
    Counter.BOOKS_OVERFLOWED: "Valid books lost: too many levels outside the window (monotonic)",
    Counter.BAD_LEVELS: "Valid books lost: impossible price or quantity (monotonic)",
    Counter.SNAPSHOTS: "Depth snapshots received whole (monotonic)",
    Counter.SNAPSHOTS_FAILED: "Depth snapshots that the venue or rest did not give (monotonic)",
    Counter.SNAPSHOTS_REFUSED: "Depth snapshots refused: unsorted, crossed or too long (monotonic)",
    Counter.SNAPSHOTS_TOO_OLD: "Depth snapshots older than every kept diff (monotonic)",
    Counter.SNAPSHOTS_UNUSED: "Depth snapshots ignored: older than what is there (monotonic)",
    Counter.RESYNCS: "Books made valid by a snapshot and its straddling diff (monotonic)",
    Counter.REQUESTS: "Depth snapshots asked for (monotonic)",
    Counter.REQUESTS_REFUSED: "Snapshot requests put off: the ring to rest is full (monotonic)",
    Counter.BOOKS_PUBLISHED: "BOOK messages published (monotonic)",
    Counter.BOOKS_CONFLATED: "Book states replaced by newer ones: output ring full (monotonic)",
    Counter.PASSED_ON: "Trades, marks, liquidations, clocks and gaps passed on (monotonic)",
    Counter.IGNORED: "Market messages that no book wants (monotonic)",
    Counter.MALFORMED: "Market slots with an unknown kind, instrument or length (monotonic)",
    Counter.BOOKS_VALID: "Books valid now (gauge)",
}
assert set(LABELS) == set(Counter), "each Counter needs a label: operators read it"

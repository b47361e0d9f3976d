"""What the recorder counts, with the labels that operators read."""

from enum import IntEnum


class Counter(IntEnum):
    """Index into the counter values."""

    SLOTS = 0
    BYTES = 1
    LAPS = 2
    SLOTS_LOST = 3
    LAG_MAX = 4
    CHECKPOINTS = 5
    CHECKPOINTS_MISSED = 6
    SEGMENTS_PACKED = 7
    STOPPED = 8


LABELS = {
    Counter.SLOTS: "Slots recorded (monotonic)",
    Counter.BYTES: "Bytes in the run's folder (gauge)",
    Counter.LAPS: "Times that a ring was overwritten unread: a GAP was recorded (monotonic)",
    Counter.SLOTS_LOST: "Slots lost in them (monotonic)",
    Counter.LAG_MAX: "Slots of one ring not yet recorded (high-water mark)",
    Counter.CHECKPOINTS: "Copies of the strategy's state recorded (monotonic)",
    Counter.CHECKPOINTS_MISSED: "Copies given up: a turn came between each time (monotonic)",
    Counter.SEGMENTS_PACKED: "Closed segments packed (monotonic)",
    Counter.STOPPED: "ALARM, recording has stopped: disk full, byte limit or error (gauge)",
}
assert set(LABELS) == set(Counter), "each Counter needs a label: operators read it"

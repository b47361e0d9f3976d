"""The [book] table of a config."""

from typing import Annotated

from msgspec import Meta

from common.config import Base

LEVELS_PUBLISHED_MAX = 100
WINDOW_MIN, WINDOW_MAX = 64, 64**3  # what a bitmap of shm/bits.py covers


class BookConfig(Base):
    """Sizes and patience of the book process; the defaults suit a liquid perpetual.

    Attributes:
        levels_published: levels a side in a BOOK message.
        window_steps: price steps around the touch that are kept dense, a power of two.
        levels_max: levels a side outside of them.
        diff_slots_max: slots of depth diffs kept per instrument while a snapshot is awaited, a
            power of two; beyond that the oldest are dropped.
        snapshot_slots_max: slots of the longest snapshot, a power of two.
        batch_slots_max: market slots taken in one turn.
        snapshot_timeout_ns: after that an unanswered request is repeated.
        backoff_ns_min, backoff_ns_max: wait between requests for one instrument; it doubles with
            every failed one.
    """

    levels_published: Annotated[int, Meta(ge=1, le=LEVELS_PUBLISHED_MAX)] = 10
    window_steps: Annotated[int, Meta(ge=WINDOW_MIN, le=WINDOW_MAX)] = 65_536
    levels_max: Annotated[int, Meta(ge=1, le=1 << 20)] = 32_768
    diff_slots_max: Annotated[int, Meta(ge=64, le=1 << 20)] = 16_384
    snapshot_slots_max: Annotated[int, Meta(ge=64, le=1 << 14)] = 1_024
    batch_slots_max: Annotated[int, Meta(ge=1, le=1 << 16)] = 4_096
    snapshot_timeout_ns: Annotated[int, Meta(ge=1_000_000, le=60_000_000_000)] = 5_000_000_000
    backoff_ns_min: Annotated[int, Meta(ge=1_000_000, le=60_000_000_000)] = 250_000_000
    backoff_ns_max: Annotated[int, Meta(ge=1_000_000, le=600_000_000_000)] = 8_000_000_000

    def __post_init__(self) -> None:
        for name in ("window_steps", "diff_slots_max", "snapshot_slots_max"):
            value = getattr(self, name)
            if value & (value - 1):
                raise ValueError(f"{name} is {value}, expected a power of two")
        if self.backoff_ns_min > self.backoff_ns_max:
            raise ValueError(
                f"backoff_ns_min is {self.backoff_ns_min},"
                f" expected at most backoff_ns_max={self.backoff_ns_max}"
            )

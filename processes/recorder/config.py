"""What the recorder is told."""

from typing import Annotated

from msgspec import Meta

from common.config import Base

Positive = Annotated[int, Meta(gt=0)]


class RecorderConfig(Base):
    """Config table [recorder]; without it nothing is recorded. Files go to state_dir/recordings.

    Attributes:
        total_bytes_max: of one run; then recording stops with an alarm, and trading goes on.
        free_bytes_min: recording stops too when the file system has less left: the journal of risk
            lies there.
        rings: keys of the rings to record; empty: all but those that carry secrets.
        poll_ms: how often the rings are looked at. A ring is lapped, which is told as a GAP, when
            more than its capacity passes in that time: 65,536 market slots in 10 ms are 6.5 M/s.
        segment_bytes_max, segment_s_max: when a new file is begun.
        checkpoint_ms: how often the strategy's state block is copied, if a turn changed it.
        is_packed: closed segments are packed with zstd, a piece at a time while there is nothing
            else to do.
        zstd_level: 1 fast to 19 small.
    """

    total_bytes_max: Positive
    free_bytes_min: Annotated[int, Meta(ge=0)] = 1_000_000_000
    rings: list[str] = []
    poll_ms: Annotated[int, Meta(ge=1, le=1_000)] = 10
    segment_bytes_max: Annotated[int, Meta(ge=1 << 16, le=1 << 32)] = 1 << 28
    segment_s_max: Positive = 3_600
    checkpoint_ms: Annotated[int, Meta(ge=10)] = 5_000
    is_packed: bool = False
    zstd_level: Annotated[int, Meta(ge=1, le=19)] = 3

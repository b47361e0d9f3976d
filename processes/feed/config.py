"""What the feed is told."""

from typing import Annotated

from msgspec import Meta

from common.config import Base

Positive = Annotated[int, Meta(gt=0)]
Milliseconds = Annotated[int, Meta(gt=0, le=86_400_000)]


class FeedConfig(Base, frozen=True):
    """Defaults follow the venue's rules (24 h per connection, 1,024 streams, 300 attempts / 5 min).

    Attributes:
        depth_stream: the one variant of the diff stream that is used; never mix two.
        streams_max: streams in one URL; beyond it another connection is opened.
        frame_bytes_max: longest frame that is decoded; four times as much closes the connection.
        levels_max: levels of one depth message, both sides.
        open_ms_max: from the first packet to the open WebSocket.
        depth_quiet_ms_max: a connection without any depth event for longer is opened again.
        other_quiet_ms_max: the same for connections without depth, of any frame.
        ping_ms: a connection that is silent for longer is pinged.
        rotate_s: a connection is replaced after this, while it still works.
        overlap_ms: how long both run before the old one is closed, at least.
        overlap_ms_max: how long both may run.
        backoff_ms_min, backoff_ms_max: before a new attempt; doubled after each failure.
        stable_ms: a connection that lasted longer clears the back-off.
        jitter_seed: of the random part of back-off and rotation.
    """

    depth_stream: Annotated[str, Meta(pattern=r"^depth(@(100|250|500|0)ms)?$")] = "depth@100ms"
    streams_max: Annotated[int, Meta(ge=3, le=1_024)] = 200
    frame_bytes_max: Annotated[int, Meta(ge=4_096, le=4_194_304)] = 262_144
    levels_max: Annotated[int, Meta(ge=100, le=60_000)] = 10_000
    open_ms_max: Milliseconds = 10_000
    depth_quiet_ms_max: Milliseconds = 5_000
    other_quiet_ms_max: Milliseconds = 15_000
    ping_ms: Milliseconds = 2_000
    rotate_s: Annotated[int, Meta(gt=0, le=86_000)] = 84_600
    overlap_ms: Milliseconds = 2_000
    overlap_ms_max: Milliseconds = 60_000
    backoff_ms_min: Milliseconds = 250
    backoff_ms_max: Milliseconds = 30_000
    stable_ms: Milliseconds = 30_000
    jitter_seed: Annotated[int, Meta(ge=0, lt=1 << 31)] = 1

    def __post_init__(self) -> None:
        if self.backoff_ms_min > self.backoff_ms_max:
            raise ValueError(
                f"backoff_ms_min is {self.backoff_ms_min},"
                f" expected at most backoff_ms_max={self.backoff_ms_max}"
            )
        if self.overlap_ms > self.overlap_ms_max:
            raise ValueError(
                f"overlap_ms is {self.overlap_ms},"
                f" expected at most overlap_ms_max={self.overlap_ms_max}"
            )
        if self.ping_ms >= min(self.depth_quiet_ms_max, self.other_quiet_ms_max):
            raise ValueError(
                f"ping_ms is {self.ping_ms}, expected less than depth_quiet_ms_max and"
                " other_quiet_ms_max"
            )

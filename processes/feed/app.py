"""Builds the feed stage of a run."""

from pathlib import Path

import numpy as np

from common import clock
from common.enums import GapReason
from common.instruments import Instrument, InstrumentFacts
from processes import frames
from processes.feed.config import FeedConfig
from processes.feed.counters import HISTOGRAMS, LABELS
from processes.feed.intake import write_clock, write_gap
from processes.feed.session import NS_PER_MS, Stream, plan_streams
from processes.feed.stage import FeedStage
from processes.runner import Context
from processes.transport import Limits, Transport, client_tls
from shm.counters import anonymous_counters
from shm.ring import MARKET, anonymous_ring

TRANSPORT_BYTES_FACTOR = 4  # a frame too long for the decoder is still counted, and its book saved


def limits_of(config: FeedConfig) -> Limits:
    """Return what a connection may take."""
    return Limits(
        message_bytes_max=TRANSPORT_BYTES_FACTOR * config.frame_bytes_max,
        open_ns_max=config.open_ms_max * NS_PER_MS,
    )


def build(context: Context) -> FeedStage:
    """Make the stage from a process's context.

    Raises:
        ConfigError: a URL or the CA file cannot be used.
    """
    config: FeedConfig = context.config.feed
    venue = context.config.venue
    tls = client_tls(Path(venue.ca_file) if venue.ca_file else None)
    limits = limits_of(config)
    return FeedStage(
        plan_streams(context.instruments, venue.public_url, venue.market_url, config),
        context.instruments,
        config,
        context.producer("market", "book"),
        context.counters(LABELS, HISTOGRAMS),
        lambda url: Transport(url, tls=tls, limits=limits),
        boot_id=clock.boot_id(),
    )


def warm_up() -> None:
    """Compile the kernels for the types used here."""
    facts = InstrumentFacts(tick_size="1", lot_size="1", price_decimals=0, qty_decimals=0)
    instrument = Instrument(instrument_id=0, venue="warm-up", symbol="WARMUP", facts=facts)
    producer, _consumer = anonymous_ring(MARKET, 8)
    counters = anonymous_counters(LABELS, HISTOGRAMS)
    config = FeedConfig()
    stream = Stream("ws://127.0.0.1:1/", True, (0,))
    stage = FeedStage(
        [stream],
        [instrument],
        config,
        producer,
        counters,
        lambda url: Transport(url, limits=limits_of(config)),
    )
    stage.close()
    values, out = counters.values, producer.end
    write_gap(out, values, 0, int(GapReason.RECONNECT), 0, 0)
    write_clock(out, values, 0, 0, np.zeros(2, np.int64))
    frames.warm_up()

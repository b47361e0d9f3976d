"""Builds the rest stage of a run."""

from pathlib import Path

from common import clock
from common.binance import NS_PER_MS, load_credentials
from processes.rest.counters import HISTOGRAMS, LABELS, ROUND_TRIP
from processes.rest.http import HttpShell
from processes.rest.protocol import Protocol
from processes.rest.stage import RestStage, Rings
from processes.rest.watch import GatewayWatch, StatusReader
from processes.runner import Context
from shm.counters import anonymous_counters, record_value
from shm.latch import LATCH_WORDS, anonymous_latch, is_any_set
from shm.registry import counters_name
from shm.ring import MARKET, anonymous_ring


def build(context: Context) -> RestStage:
    """Make the stage from a process's context.

    Raises:
        ConfigError: a key file or the CA file cannot be used.
    """
    config, venue = context.config.rest, context.config.venue
    credentials = load_credentials(Path(venue.api_key_file), Path(venue.secret_key_file))
    counters = context.counters(LABELS, HISTOGRAMS)
    status = StatusReader(counters_name(context.instance, "gateway"))
    watch = GatewayWatch(status, config.gateway_stale_ms * NS_PER_MS)
    rings = Rings(
        book_requests=context.consumer("book", "request"),
        risk_requests=context.consumer("risk", "request"),
        orders=context.consumer("gateway", "fallback"),
        reports=context.producer("report", "risk"),
        snapshots=context.producer("snapshot", "book"),
        sessions=context.producer("session", "gateway"),
    )
    stp_mode = context.config.gateway.stp_mode
    return RestStage(
        Protocol(config, context.instruments, stp_mode, counters.values),
        rings,
        HttpShell(venue.rest_url, venue.ca_file, config.request_timeout_ms, clock.now_ns),
        credentials,
        counters,
        context.kill_words,
        watch,
        clock,
    )


def warm_up() -> None:
    """Compile the kernels of rings, counters and latches for the record types used here."""
    for record in ("REST_REQUEST", "ORDER_REQUEST", "REPORT", "SESSION", MARKET):
        producer, consumer = anonymous_ring(record, 4)
        producer.try_write(consumer.end.slots[:1])
        consumer.read(4)
    is_any_set(anonymous_latch().words, LATCH_WORDS)
    record_value(anonymous_counters({}, HISTOGRAMS).histograms, ROUND_TRIP, 1)

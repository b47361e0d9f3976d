"""Builds the rest stage of a run."""

from pathlib import Path

from common import clock
from common.binance import NS_PER_MS, load_credentials
from processes.rest.counters import HISTOGRAMS, LABELS
from processes.rest.http import HttpShell
from processes.rest.protocol import Protocol
from processes.rest.stage import RestStage, Rings
from processes.rest.watch import GatewayWatch, StatusReader
from processes.runner import Context
from shm.registry import counters_name


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

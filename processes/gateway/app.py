"""Builds the gateway stage of a run."""

import random
import ssl
from pathlib import Path

from common import clock
from common.binance import NS_PER_MS, load_credentials
from common.binance_limits import NS_PER_SECOND
from common.messages import OrderRequest, Report, reports_array, requests_array
from processes.gateway.config import GatewayConfig
from processes.gateway.counters import HISTOGRAMS, LABELS
from processes.gateway.link import Link, LinkTimes
from processes.gateway.session import OrderSession, StreamSession
from processes.gateway.sockets import VenueSocket
from processes.gateway.stage import GatewayStage
from processes.runner import Context
from processes.transport import Limits, Transport, client_tls
from shm.counters import anonymous_counters, record_value
from shm.cursors import available, release
from shm.latch import LATCH_WORDS, anonymous_latch, is_any_set
from shm.ring import anonymous_ring
from shm.spill import Spill

FRAME_BYTES_MAX = 1 << 18
# The order socket is replaced at another time than the stream.
ORDER_ROTATE_PERCENT = 94


def build(context: Context) -> GatewayStage:
    """Make the stage from a process's context.

    Raises:
        ConfigError: a key file, a URL or the CA file cannot be used.
    """
    config: GatewayConfig = context.config.gateway
    venue = context.config.venue
    credentials = load_credentials(Path(venue.api_key_file), Path(venue.secret_key_file))
    counters = context.counters(LABELS, HISTOGRAMS)
    tls = client_tls(Path(venue.ca_file) if venue.ca_file else None)
    Transport(f"{venue.private_url}/ws/key", tls=tls)  # a bad URL is an error now, not later
    order_link = new_link("order", config, tls, ORDER_ROTATE_PERCENT)
    order_link.set_url(venue.ws_api_url, clock.now_ns())
    return GatewayStage(
        OrderSession(
            config, context.instruments, credentials, counters.values, counters.histograms
        ),
        StreamSession(config, context.instruments, counters.values),
        order_link,
        new_link("stream", config, tls, 100),
        venue.private_url,
        context.consumer("risk", "order"),
        context.consumer("rest", "session"),
        context.producer("report", "risk"),
        context.producer("fallback", "rest"),
        counters,
        context.kill_words,
        clock,
    )


def new_link(name: str, config: GatewayConfig, tls: ssl.SSLContext, rotate_percent: int) -> Link:
    """Make one link over real sockets; its jitter is seeded by the time of the start."""
    times = LinkTimes(
        connect_ns=config.connect_timeout_ms * NS_PER_MS,
        reconnect_ns_min=config.reconnect_ms_min * NS_PER_MS,
        reconnect_ns_max=config.reconnect_ms_max * NS_PER_MS,
        ping_ns=config.ping_every_ms * NS_PER_MS,
        idle_ns=config.idle_ms_max * NS_PER_MS,
        rotate_ns=config.rotate_s * NS_PER_SECOND * rotate_percent // 100,
        overlap_ns=config.overlap_ms * NS_PER_MS,
    )
    limits = Limits(message_bytes_max=FRAME_BYTES_MAX, open_ns_max=times.connect_ns)

    def connect(url: str, now_ns: int) -> VenueSocket:
        return VenueSocket(url, tls, limits, now_ns, clock.now_ns)

    return Link(name, connect, times, random.Random(clock.now_ns()))


def warm_up() -> None:
    """Compile the kernels of rings, counters and latches for the record types used here."""
    requests_out, requests_in = anonymous_ring("ORDER_REQUEST", 4)
    requests_out.try_write(requests_array([OrderRequest()]))
    _first, end = available(requests_in.words)
    release(requests_in.words, end)
    reports_out, reports_in = anonymous_ring("REPORT", 4)
    Spill(reports_out, 4).write(reports_array([Report()]))
    reports_in.read(4)
    _sessions_out, sessions_in = anonymous_ring("SESSION", 4)
    sessions_in.read(4)
    is_any_set(anonymous_latch().words, LATCH_WORDS)
    record_value(anonymous_counters({}, HISTOGRAMS).histograms, 0, 1)

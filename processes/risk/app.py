"""Build the risk stage of a run."""

import contextlib
import io
import tempfile
from pathlib import Path

import numpy as np

from common import clock
from common.instruments import Instrument
from processes.risk.counters import HISTOGRAMS, LABELS
from processes.risk.journal import Facts, Journal
from processes.risk.limits import limit_table
from processes.risk.rehearsal import rehearse
from processes.risk.stage import Parts, RiskStage
from processes.runner import Context
from shm.segment import hash_bytes


def build(context: Context) -> RiskStage:
    """Open the ends, read the journal of the session, and continue where it stops.

    Raises:
        ConfigError: limits do not fit the symbols, or the journal cannot be trusted.
        UnavailableError: a segment is not there, or the journal cannot be written.
    """
    config = context.config.risk
    limits = limit_table(config, context.instruments)
    facts = Facts(context.session, hash_of_grids(context.instruments))
    journal = Journal(context.state_dir / str(context.session), facts, config.sync)
    orders, intents = context.producer("order", "gateway"), context.consumer("strategy", "intent")
    gateway, rest = context.consumer("gateway", "report"), context.consumer("rest", "report")
    rings = [orders.epoch, intents.epoch, gateway.epoch, rest.epoch]
    parts = Parts(
        gateway=gateway,
        rest=rest,
        intents=intents,
        orders=orders,
        reports=context.producer("report", "strategy"),
        requests=context.producer("request", "rest"),
        bbo=context.table_reader("book", "bbo"),
        order_table=context.table_writer("orders"),
        position_table=context.table_writer("positions"),
        counters=context.counters(LABELS, HISTOGRAMS),
        kill_page=context.kill_page,
        journal=journal,
        peer_word=context.peers.word,
        ring_epoch=hash_bytes(np.array(rings).tobytes() + clock.boot_id().encode()),
        session=context.session,
    )
    return RiskStage(
        config, context.instrument_rows, limits, parts, clock.now_ns(), clock.now_wall_ns()
    )


def hash_of_grids(instruments: list[Instrument]) -> int:
    """Return 63 bits over what the instrument ids of a session mean."""
    text = "".join(
        f"{one.venue} {one.symbol} {one.price_grid_decimals} {one.qty_grid_decimals}\n"
        for one in instruments
    )
    return hash_bytes(text.encode())


def warm_up() -> None:
    """Compile every kernel of the stage by a short run in private memory."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        rehearse(Path(folder))

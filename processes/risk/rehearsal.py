"""Risk in private memory: both ends of its rings in one process, for warm-up and tests."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.enums import (
    ExecType,
    OrderStatus,
    OrderType,
    ReportKind,
    ReportSource,
    RequestKind,
    Side,
    TimeInForce,
)
from common.errors import BugError
from common.records import BBO_CELL, INSTRUMENT, ORDER_REQUEST, REPORT
from processes.risk.config import RiskConfig
from processes.risk.counters import HISTOGRAMS, LABELS
from processes.risk.journal import Facts, Journal
from processes.risk.limits import id_of
from processes.risk.oms import LIMITS, audit, awaits_proof_since, find_client, tell_position
from processes.risk.positions import match_trade_at
from processes.risk.stage import Parts, RiskStage
from processes.risk.timers import conclude, doubt_in_flight, has_in_flight, scan_timers
from processes.risk.turn import (
    cancel_everything,
    has_uncanceled,
    replay_requests,
    send_stray_cancel,
    sweep_cancels,
    take_reports,
)
from shm.counters import anonymous_counters
from shm.cursors import abandon, release
from shm.latch import Latch, anonymous_latch
from shm.ring import Consumer, Producer, anonymous_ring, read_only
from shm.table import TableWriter, anonymous_table
from shm.words import L_RELEASED

TURNS_MAX = 100
_NS = 1_000_000_000


class Others(NamedTuple):
    """What the neighbours of risk hold.

    Attributes:
        gateway, rest, intents: producers into risk.
        orders, reports, requests: consumers of what risk writes.
        bbo: writer of the best bids and asks.
        kill_page: all words.
    """

    gateway: Producer
    rest: Producer
    intents: Producer
    orders: Consumer
    reports: Consumer
    requests: Consumer
    bbo: TableWriter
    kill_page: Latch


def private_parts(
    journal: Journal,
    instrument_count: int,
    order_count: int,
    capacity: int = 1_024,
    ring_epoch: int = 1,
) -> tuple[Parts, Others]:
    """Return both sides of everything that a RiskStage touches, in private memory."""
    gateway_out, gateway = anonymous_ring("REPORT", capacity)
    rest_out, rest = anonymous_ring("REPORT", capacity)
    intents_out, intents = anonymous_ring("ORDER_REQUEST", capacity)
    orders, orders_in = anonymous_ring("ORDER_REQUEST", capacity)
    reports, reports_in = anonymous_ring("REPORT", capacity)
    requests, requests_in = anonymous_ring("REST_REQUEST", capacity)
    bbo_writer, bbo = anonymous_table("BBO_CELL", instrument_count)
    kill_page = anonymous_latch()
    parts = Parts(
        gateway=gateway,
        rest=rest,
        intents=intents,
        orders=orders,
        reports=reports,
        requests=requests,
        bbo=bbo,
        order_table=anonymous_table("ORDER", order_count)[0],
        position_table=anonymous_table("POSITION", instrument_count)[0],
        counters=anonymous_counters(LABELS, HISTOGRAMS),
        kill_page=kill_page,
        journal=journal,
        peer_word=lambda name: 1,
        ring_epoch=ring_epoch,
        session=journal.facts.session,
    )
    others = Others(
        gateway_out,
        rest_out,
        intents_out,
        orders_in,
        reports_in,
        requests_in,
        bbo_writer,
        kill_page,
    )
    return parts, others


def wide_limits(instrument_count: int) -> np.ndarray:
    """Return LIMITS[n] that let small orders pass."""
    limits = np.zeros(instrument_count, LIMITS)
    limits["order_qty_steps_max"] = 1_000
    limits["order_notional_steps2_max"] = 10**9
    limits["position_steps_max"] = 2_000
    limits["open_order_count_max"] = 100
    limits["price_band_bps_max"] = 1_000
    limits["book_age_ns_max"] = _NS
    limits["order_cost_ns"] = _NS // 1_000
    limits["bucket_ns_max"] = _NS
    return limits


def plain_instruments(count: int) -> np.ndarray:
    """Return INSTRUMENT[n] with filters of one step."""
    instruments = np.zeros(count, INSTRUMENT)
    instruments["instrument_id"] = np.arange(count)
    instruments["price_grid_decimals"] = 1
    instruments["qty_grid_decimals"] = 3
    instruments["tick_size_steps"] = instruments["lot_size_steps"] = 1
    instruments["max_qty_steps"] = 10**9
    return instruments


def bbo_cell(i: int, bid_steps: int, ask_steps: int, now_ns: int) -> np.ndarray:
    """Return BBO_CELL[1] of a valid book."""
    cell = np.zeros(1, BBO_CELL)
    cell["instrument_id"], cell["valid"] = i, 1
    cell["ts_recv_ns"] = cell["ts_pub_ns"] = now_ns
    cell["bid_price_steps"], cell["ask_price_steps"] = bid_steps, ask_steps
    cell["bid_qty_steps"] = cell["ask_qty_steps"] = 1
    return cell


def intent(session: int, kind: RequestKind, sequence: int, **fields: int) -> np.ndarray:
    """Return ORDER_REQUEST[1] as strategy 0 writes it."""
    request = np.zeros(1, ORDER_REQUEST)
    request["kind"] = kind
    request["side"], request["order_type"] = Side.BID, OrderType.LIMIT
    request["time_in_force"] = TimeInForce.GTC
    request["client_order_id"] = id_of(session, 0, sequence)
    request["intent_sequence"] = sequence
    for name, value in fields.items():
        request[name] = value
    return request


def report(kind: ReportKind, **fields: int) -> np.ndarray:
    """Return REPORT[1] as gateway or rest write it."""
    record = np.zeros(1, REPORT)
    record["kind"] = kind
    record["strategy_id"], record["instrument_id"] = 255, -1
    for name, value in fields.items():
        record[name] = value
    return record


def rehearse(folder: Path) -> None:
    """Run a stage until it is READY and through one of each turn, and call what only faults call.

    So every kernel that Python calls has been compiled for its types.

    Args:
        folder: for the journal.
    """
    config = RiskConfig(limits={}, order_rate_max=1_000, order_burst_max=1_000)
    for now_ns in (_NS, 9 * _NS):  # the second start reads the journal of the first
        journal = Journal(folder, Facts(1, 0), "none")
        parts, others = private_parts(journal, 1, 64, ring_epoch=now_ns)
        stage = RiskStage(config, plain_instruments(1), wide_limits(1), parts, now_ns, now_ns)
        _rehearse_orders(stage, others, _rehearse_start(stage, others, now_ns))
        _call_the_rest(stage, now_ns + 4 * _NS)
        stage.close()


def _rehearse_start(stage: RiskStage, others: Others, now_ns: int) -> int:
    """Attach, connect and answer rounds until the strategy is READY; return the time."""
    others.intents.try_write(intent(1, RequestKind.ATTACH, now_ns % 1_000))
    for source in (ReportSource.RESPONSE, ReportSource.STREAM):
        others.gateway.try_write(report(ReportKind.SESSION_UP, source=source))
    for _ in range(TURNS_MAX):
        now_ns += _NS // 10
        stage.do_work(now_ns)
        for request in others.requests.read(64):
            common = {"request_id": int(request["request_id"]), "source": ReportSource.QUERY}
            trade = {"exec_id": 7, "last_qty_steps": 1, "last_px_steps": 1, "side": 1}
            others.rest.try_write(report(ReportKind.RECONCILE_BEGIN, **common))
            others.rest.try_write(
                report(ReportKind.ACCOUNT_TRADE, instrument_id=0, **trade, **common)
            )
            common["position_steps"] = int(stage.oms.positions["position_steps"][0])
            others.rest.try_write(report(ReportKind.POSITION, instrument_id=0, **common))
            others.rest.try_write(report(ReportKind.RECONCILE_END, **common))
        if any(told["kind"] == ReportKind.READY for told in others.reports.read(1_024)):
            return now_ns
    raise BugError("risk: the rehearsal does not come to READY")


def _rehearse_orders(stage: RiskStage, others: Others, now_ns: int) -> None:
    """Send, fill, replace and cancel; then lose the socket and be killed."""
    others.bbo.write(0, bbo_cell(0, 1_000, 1_001, now_ns)[0])
    sequence = now_ns // _NS * 1_000
    order = id_of(1, 0, sequence)
    values = {"price_steps": 1_000, "order_qty_steps": 10}
    others.intents.try_write(intent(1, RequestKind.NEW, sequence, **values))
    stage.do_work(now_ns)
    told = report(ReportKind.EXECUTION, client_order_id=order, instrument_id=0, venue_order_id=5)
    told["exec_type"], told["order_status"] = ExecType.TRADE, OrderStatus.PARTIALLY_FILLED
    told["exec_id"], told["last_qty_steps"], told["last_px_steps"] = now_ns, 1, 1_000
    others.gateway.try_write(told)
    stage.do_work(now_ns)
    for kind in (RequestKind.REPLACE, RequestKind.CANCEL, RequestKind.NEW):
        sequence += 1
        others.intents.try_write(intent(1, kind, sequence, orig_client_order_id=order, **values))
    stage.do_work(now_ns)
    others.gateway.try_write(report(ReportKind.SESSION_DOWN, source=ReportSource.RESPONSE))
    stage.do_work(now_ns + 1)
    others.kill_page.set(0)
    stage.do_work(now_ns + _NS)
    stage.do_work(now_ns + 2 * _NS)


def _call_the_rest(stage: RiskStage, now_ns: int) -> None:
    """Call what Python calls only in some faults; the state is thrown away."""
    oms, batch, out = stage.oms, stage.batch, stage.ends.orders
    tell_position(oms, 0, now_ns)
    cancel_everything(oms, batch, out, now_ns)
    send_stray_cancel(oms, batch, 1, 2, 0, out, now_ns)
    sweep_cancels(oms, batch, out, stage.timing, now_ns)
    scan_timers(oms, batch, stage.timing, 0, now_ns)
    doubt_in_flight(oms, batch)
    conclude(oms, batch, 0, 0, 0)
    has_in_flight(oms)
    has_uncanceled(oms)
    audit(oms)
    find_client(oms, 1)
    awaits_proof_since(oms, 0)
    trade = report(ReportKind.ACCOUNT_TRADE, instrument_id=0)
    match_trade_at(oms, read_only(trade), 0, 1)
    requests, places = read_only(batch.requests), read_only(batch.places)
    replay_requests(oms, requests, places, 0, now_ns)
    take_reports(oms, stage.own, 0, 0, now_ns)
    release(stage.parts.gateway.end, stage.parts.gateway.end.local[L_RELEASED].item())
    release(stage.parts.intents.end, stage.parts.intents.end.local[L_RELEASED].item())
    abandon(out)

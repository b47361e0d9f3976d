"""Frames of the order socket and of the user-data stream as typed structs and reports.

Unknown keys and unknown events are ignored; a number off its grid, a missing word or broken JSON
raises one of BAD_FRAME and the frame is dropped whole, counted by the caller. Fields: pages
websocket-api-general-info and user-data-streams.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

import msgspec

from common.binance import (
    CANCEL_EXPIRE_REASONS,
    EXEC_TYPES,
    NS_PER_MS,
    ORDER_STATUSES,
    ORDER_TYPES,
    SIDES,
    STP_EXPIRE_REASONS,
    TIMES_IN_FORCE,
    Code,
    Id,
    Ms,
    OrderObject,
    e8_from_text,
    leaves,
    set_owner,
    signed_qty_steps,
)
from common.enums import ExecType, LiquiditySide, OrderStatus, Reject, ReportKind, ReportSource
from common.instruments import Instrument
from common.messages import Report


class RateLimit(msgspec.Struct):
    """One element of `rateLimits`."""

    rateLimitType: str = ""
    interval: str = ""
    intervalNum: int = 0
    limit: int = 0
    count: int = 0


class ErrorObject(msgspec.Struct):
    """`error` of a response."""

    code: Code = 0
    msg: str = ""


class Response(msgspec.Struct):
    """One frame of the order socket; `result` is decoded when the request is known."""

    id: int | str | None = None
    status: int = 0
    result: msgspec.Raw = msgspec.Raw()
    error: ErrorObject = msgspec.field(default_factory=ErrorObject)
    rateLimits: list[RateLimit] = []


class Event(msgspec.Struct):
    """What all user-data events have in common; `data` is there on a combined connection."""

    e: str = ""
    E: Ms = 0
    data: msgspec.Raw = msgspec.Raw()


class OrderUpdate(msgspec.Struct):
    """`o` of ORDER_TRADE_UPDATE, without the fields that say nothing about money or state."""

    s: str
    c: str
    S: str
    X: str
    x: str
    i: Id
    q: str
    p: str
    z: str
    o: str = ""
    f: str = ""
    l: str = "0"  # noqa: E741  the venue's names
    L: str = "0"
    n: str = "0"
    N: str = ""
    t: Id = 0
    m: bool = False
    R: bool = False
    er: str | int = "0"


class OrderEvent(msgspec.Struct):
    """ORDER_TRADE_UPDATE."""

    o: OrderUpdate
    E: Ms = 0
    T: Ms = 0


class BalanceUpdate(msgspec.Struct):
    """Element of `a.B`."""

    a: str
    wb: str = "0"


class PositionUpdate(msgspec.Struct):
    """Element of `a.P`."""

    s: str
    pa: str
    ep: str = "0"
    ps: str = "BOTH"


class AccountUpdate(msgspec.Struct):
    """`a` of ACCOUNT_UPDATE."""

    m: str = ""
    B: list[BalanceUpdate] = []
    P: list[PositionUpdate] = []


class AccountEvent(msgspec.Struct):
    """ACCOUNT_UPDATE."""

    a: AccountUpdate
    E: Ms = 0
    T: Ms = 0


class EventKind(IntEnum):
    """What a user-data frame was."""

    ORDER = 1
    ACCOUNT = 2
    TRADE_LITE = 3
    KEY_EXPIRED = 4
    IGNORED = 5
    FOREIGN = 6  # of a symbol that this instance does not trade


class Decoded(NamedTuple):
    """One user-data frame.

    Attributes:
        fee_asset: asset of a fee that is not in quote units; the report's fee is then 0.
    """

    kind: EventKind
    reports: tuple[Report, ...] = ()
    fee_asset: str = ""


BAD_FRAME = (ValueError, RecursionError)  # msgspec's errors are ValueErrors

_response = msgspec.json.Decoder(Response)
_order_object = msgspec.json.Decoder(OrderObject)
_event = msgspec.json.Decoder(Event)
_order_event = msgspec.json.Decoder(OrderEvent)
_account_event = msgspec.json.Decoder(AccountEvent)
_KINDS = {
    "ORDER_TRADE_UPDATE": EventKind.ORDER,
    "ACCOUNT_UPDATE": EventKind.ACCOUNT,
    "TRADE_LITE": EventKind.TRADE_LITE,
    "listenKeyExpired": EventKind.KEY_EXPIRED,
}


def decode_response(frame: bytes) -> Response:
    """Read one frame of the order socket.

    Raises:
        BAD_FRAME: not JSON of that shape.
    """
    return _response.decode(frame)


def decode_order(response: Response) -> OrderObject:
    """Read the order in a response's `result`.

    Raises:
        BAD_FRAME: not an order.
    """
    return _order_object.decode(response.result)


class UserData:
    """Reports from user-data frames.

    Args:
        instruments: by the venue's symbol.
        quote_asset: the asset whose fees and balances are quote units.
    """

    def __init__(self, instruments: Mapping[str, Instrument], quote_asset: str) -> None:
        self.instruments = instruments
        self.quote_asset = quote_asset

    def decode(self, frame: bytes, ts_recv_ns: int) -> Decoded:
        """Read one frame.

        Raises:
            BAD_FRAME: not JSON, a field missing or of the wrong type, a number off its grid.
        """
        event = _event.decode(frame)
        if not event.e and len(bytes(event.data)) > 0:
            frame = bytes(event.data)
            event = _event.decode(frame)
        kind = _KINDS.get(event.e, EventKind.IGNORED)
        if kind is EventKind.ORDER:
            return self.order_event(_order_event.decode(frame), ts_recv_ns)
        if kind is EventKind.ACCOUNT:
            return self.account_event(_account_event.decode(frame), ts_recv_ns)
        return Decoded(kind)

    def order_event(self, event: OrderEvent, ts_recv_ns: int) -> Decoded:
        """Return the EXECUTION report of one order event; a new word becomes STATUS, status 0."""
        order = event.o
        instrument = self.instruments.get(order.s)
        if instrument is None:
            return Decoded(EventKind.FOREIGN)
        report = Report(
            kind=ReportKind.EXECUTION,
            exec_type=EXEC_TYPES.get(order.x, ExecType.STATUS),
            order_status=ORDER_STATUSES.get(order.X, 0),
            side=SIDES[order.S] if order.S in SIDES else 0,
            source=ReportSource.STREAM,
            instrument_id=instrument.instrument_id,
            venue_order_id=order.i,
            price_steps=instrument.price_steps(order.p),
            order_qty_steps=instrument.qty_steps(order.q),
            cum_qty_steps=instrument.qty_steps(order.z),
            order_type=ORDER_TYPES.get(order.o, 0),
            time_in_force=TIMES_IN_FORCE.get(order.f, 0),
            reduce_only=int(order.R),
            ts_exch_ns=(event.T or event.E) * NS_PER_MS,
            ts_report_recv_ns=ts_recv_ns,
        )
        if not report.side:
            raise ValueError(f"side is {order.S[:40]!r}, expected BUY or SELL")
        set_owner(report, order.c)
        fee_asset = self.read_fill(report, order, instrument)
        if report.exec_type == ExecType.EXPIRED:
            explain_expiry(report, order)
        report.leaves_qty_steps = leaves(
            report.order_status, report.order_qty_steps, report.cum_qty_steps
        )
        return Decoded(EventKind.ORDER, (report,), fee_asset)

    def read_fill(self, report: Report, order: OrderUpdate, instrument: Instrument) -> str:
        """Write this fill, if there is one; return the asset of a fee that is not in quote units.

        A fee that cannot be read must not lose the fill: it counts as of a foreign asset.
        """
        report.last_qty_steps = instrument.qty_steps(order.l)
        if report.last_qty_steps == 0:
            return ""
        if order.t <= 0:
            raise ValueError(f"trade id of a fill is {order.t}, expected more than 0")
        report.last_px_steps = instrument.price_steps(order.L)
        report.exec_id = order.t
        report.liquidity_side = LiquiditySide.MAKER if order.m else LiquiditySide.TAKER
        if order.N != self.quote_asset:
            return order.N  # "" where there is no fee
        try:
            report.fee_e8 = e8_from_text(order.n)
        except ValueError:
            return f"{order.N} {order.n}"[:40]
        return ""

    def account_event(self, event: AccountEvent, ts_recv_ns: int) -> Decoded:
        """Return POSITION and BALANCE reports of what an ACCOUNT_UPDATE says has changed."""
        reports = []
        ts_exch_ns = (event.T or event.E) * NS_PER_MS
        for position in event.a.P:
            instrument = self.instruments.get(position.s)
            if instrument is None or position.ps != "BOTH":
                continue
            reports.append(
                Report(
                    kind=ReportKind.POSITION,
                    source=ReportSource.STREAM,
                    instrument_id=instrument.instrument_id,
                    position_steps=signed_qty_steps(position.pa, instrument),
                    amount_e8=e8_from_text(position.ep),
                    ts_exch_ns=ts_exch_ns,
                    ts_report_recv_ns=ts_recv_ns,
                )
            )
        for balance in event.a.B:
            if balance.a == self.quote_asset:
                reports.append(
                    Report(
                        kind=ReportKind.BALANCE,
                        source=ReportSource.STREAM,
                        amount_e8=e8_from_text(balance.wb),
                        ts_exch_ns=ts_exch_ns,
                        ts_report_recv_ns=ts_recv_ns,
                    )
                )
        return Decoded(EventKind.ACCOUNT, tuple(reports))


def explain_expiry(report: Report, order: OrderUpdate) -> None:
    """Tell an expiry apart: canceled by the venue, or a post-only order that would have taken."""
    reason = str(order.er)
    if reason in CANCEL_EXPIRE_REASONS:
        report.exec_type = ExecType.CANCELED
        report.order_status = OrderStatus.CANCELED
    elif (
        order.f == "GTX"
        and report.cum_qty_steps == 0
        and order.X == "EXPIRED"
        and reason not in STP_EXPIRE_REASONS
    ):
        report.reject = Reject.VENUE_POST_ONLY

"""Binance USDⓈ-M Futures for both of its clients (gateway and rest): signing, words, outcomes.

Section names refer to the venue's documentation: general-info (signing, HTTP codes), error-code,
common-definition (enums), user-data-streams.
"""

import hashlib
import os
import re
import stat
from collections.abc import Iterable, Mapping
from enum import IntEnum
from pathlib import Path
from typing import Annotated

import msgspec

from common import order_ids
from common.enums import (
    ExecType,
    OrderStatus,
    OrderType,
    Reject,
    ReportKind,
    ReportSource,
    RequestKind,
    Side,
    TimeInForce,
)
from common.errors import ConfigError
from common.fixed_point import steps_from_text
from common.instruments import Instrument
from common.messages import OrderRequest, Report

NS_PER_MS = 1_000_000
NOT_OURS = 255  # strategy_id of an order that no strategy of ours sent
KEY_BYTES_MAX = 4_096
E8_DECIMALS = 8
INT32_MAX = 2**31 - 1

# Integers of the venue's JSON that must fit their fields; milliseconds also as nanoseconds.
Id = Annotated[int, msgspec.Meta(ge=-1, le=2**62)]
Ms = Annotated[int, msgspec.Meta(ge=0, le=9_000_000_000_000)]
Code = Annotated[int, msgspec.Meta(ge=-INT32_MAX, le=INT32_MAX)]

STP_MODES = ("EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH")
SIDE_TEXT = {Side.BID: "BUY", Side.ASK: "SELL"}
SIDES = {"BUY": Side.BID, "SELL": Side.ASK}
ORDER_TYPES = {"LIMIT": OrderType.LIMIT, "MARKET": OrderType.MARKET}
TIMES_IN_FORCE = {
    "GTC": TimeInForce.GTC,
    "IOC": TimeInForce.IOC,
    "FOK": TimeInForce.FOK,
    "GTX": TimeInForce.GTX,
}
# NEW_INSURANCE and NEW_ADL come on liquidation flow; as any unknown word they map to 0.
ORDER_STATUSES = {
    "NEW": OrderStatus.NEW,
    "PARTIALLY_FILLED": OrderStatus.PARTIALLY_FILLED,
    "FILLED": OrderStatus.FILLED,
    "CANCELED": OrderStatus.CANCELED,
    "REJECTED": OrderStatus.REJECTED,
    "EXPIRED": OrderStatus.EXPIRED,
    "EXPIRED_IN_MATCH": OrderStatus.EXPIRED,
}
EXEC_TYPES = {
    "NEW": ExecType.NEW,
    "TRADE": ExecType.TRADE,
    "CANCELED": ExecType.CANCELED,
    "EXPIRED": ExecType.EXPIRED,
    "CALCULATED": ExecType.CALCULATED,
    "AMENDMENT": ExecType.REPLACED,
}
# Expiries that are cancellations by the venue: reduce-only knocked out, liquidation, delisting.
CANCEL_EXPIRE_REASONS = ("4", "5", "7")
STP_EXPIRE_REASONS = ("1", "3")
_TERMINAL = (
    OrderStatus.FILLED,
    OrderStatus.CANCELED,
    OrderStatus.REJECTED,
    OrderStatus.EXPIRED,
)


class Outcome(IntEnum):
    """What an answer, or the lack of one, says about the request."""

    OK = 1  # done
    FAILED = 2  # certain: nothing happened
    UNKNOWN = 3  # may have happened: never send again, ask
    RATE = 4  # failed for a limit: back off
    AUTH = 5  # failed for the key: stop sending
    CLOCK = 6  # failed for the timestamp: measure the offset again


# error-code page. A duplicate client id (-4116) means that an earlier send did land.
_UNKNOWN_CODES = frozenset((-1000, -1006, -1007, -4083, -4116))
_RATE_CODES = frozenset((-1003, -1008, -1015))
_AUTH_CODES = frozenset((-1002, -2014, -2015))
_CLOCK_CODES = frozenset((-1021, -5028))
_UNKNOWN_ORDER_CODES = frozenset((-2011, -2013))
_POST_ONLY_CODE = -5022
_DISCONNECTED_CODE = -1001
# 10xx outside the sets above says little; these families are refusals of the request itself.
_FAILED_RANGES = ((-1199, -1100), (-2099, -2010), (-4999, -4000), (-5999, -5000))
_FAILED_CODES = frozenset((-1013, -1014, -1016, -1020, -1022))
_FAILED_503 = ("Service Unavailable", "Internal error; unable to process your request")
_KEY = re.compile(rb"[A-Za-z0-9._+/=-]+")
_BANNED_UNTIL = re.compile(r"banned until (\d{13})\b")


def classify(http_status: int, code: int, message: str) -> Outcome:
    """Judge one answer of the REST or the WebSocket API.

    Args:
        http_status: `status` of the answer; 0 if none came.
        code: the venue's error code, 0 if the body has none.
        message: the venue's `msg`, or the raw text of a 5xx page.
    """
    if 200 <= http_status < 300:
        return Outcome.OK if code >= 0 else classify(400, code, message)
    if code in _UNKNOWN_CODES:
        return Outcome.UNKNOWN
    if code in _RATE_CODES:
        return Outcome.RATE
    if code in _AUTH_CODES:
        return Outcome.AUTH
    if code in _CLOCK_CODES:
        return Outcome.CLOCK
    if http_status == 503:
        certain = any(message.startswith(text) for text in _FAILED_503)
        return Outcome.FAILED if certain else Outcome.UNKNOWN
    if code == _DISCONNECTED_CODE or http_status == 408 or http_status < 400 or http_status >= 500:
        return Outcome.UNKNOWN
    if http_status in (403, 418, 429):  # web firewall, ban, limit: none reached the engine
        return Outcome.RATE
    if http_status == 401:
        return Outcome.AUTH
    if code in _FAILED_CODES or any(low <= code <= high for low, high in _FAILED_RANGES):
        return Outcome.FAILED
    return Outcome.UNKNOWN


def reject_of(outcome: Outcome, code: int) -> Reject:
    """Return the reason that a report carries for an outcome; UNKNOWN carries none."""
    if outcome in (Outcome.OK, Outcome.UNKNOWN):
        return Reject.NONE
    if outcome is Outcome.RATE:
        return Reject.VENUE_RATE
    if outcome is Outcome.AUTH:
        return Reject.VENUE_AUTH
    if outcome is Outcome.CLOCK:
        return Reject.CLOCK_OFFSET
    if code == _POST_ONLY_CODE:
        return Reject.VENUE_POST_ONLY
    if code in _UNKNOWN_ORDER_CODES:
        return Reject.VENUE_UNKNOWN_ORDER
    return Reject.VENUE


def banned_until_ms(message: str) -> int:
    """Return the venue's wall clock at which a ban ends, as -1003 words it; 0 if it does not."""
    found = _BANNED_UNTIL.search(message)
    return int(found.group(1)) if found else 0


class Signer:
    """HMAC-SHA256 with the key pads, and a constant beginning of the payload, already absorbed."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, secret: bytes) -> None:
        block = hashlib.sha256().block_size
        key = hashlib.sha256(secret).digest() if len(secret) > block else secret
        key = key.ljust(block, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in key))

    def begin(self, payload: bytes) -> "Signer":
        """Return a signer of payloads that begin with `payload`, which is absorbed once."""
        begun = Signer.__new__(Signer)
        begun._inner = self._inner.copy()
        begun._inner.update(payload)
        begun._outer = self._outer
        return begun

    def sign(self, payload: bytes) -> str:
        """Return the lower-case hex signature."""
        inner = self._inner.copy()
        inner.update(payload)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.hexdigest()


class Credentials:
    """An API key and the signer of its secret; the secret itself is not kept, nothing is shown."""

    __slots__ = ("api_key", "signer")

    def __init__(self, api_key: str, secret: str) -> None:
        self.api_key = api_key
        self.signer = Signer(secret.encode())

    def __repr__(self) -> str:
        return "Credentials(hidden)"


def load_credentials(api_key_file: Path, secret_key_file: Path) -> Credentials:
    """Read both keys.

    Raises:
        ConfigError: a file is missing, is not ours alone (0600), or does not hold one key.
    """
    return Credentials(read_key_file(api_key_file), read_key_file(secret_key_file))


def read_key_file(path: Path) -> str:
    """Read one key from a file that only we can read; its content never goes into an error.

    Raises:
        ConfigError: missing, a link, not owned by us, readable by others, not one key.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    try:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode):
            raise ConfigError(f"{path}: not a regular file, expected a key file")
        if facts.st_uid != os.geteuid():
            raise ConfigError(f"{path}: owner is {facts.st_uid}, expected {os.geteuid()}")
        mode = stat.S_IMODE(facts.st_mode)
        if mode & 0o177:
            raise ConfigError(f"{path}: mode is {mode:04o}, expected 0600; run chmod 600 {path}")
        content = os.read(fd, KEY_BYTES_MAX + 1)
    finally:
        os.close(fd)
    found = _KEY.fullmatch(content.strip())
    if found is None or len(content) > KEY_BYTES_MAX:
        raise ConfigError(f"{path}: {len(content)} bytes, expected one key of A-Za-z0-9._+/=-")
    return found.group().decode("ascii")


def sign_query(query: str, signer: Signer) -> str:
    """Return a query string or form body with its signature appended (general-info, SIGNED)."""
    return f"{query}&signature={signer.sign(query.encode())}"


def sign_ws_params(params: Mapping[str, object], signer: Signer) -> str:
    """Return the signature of WebSocket API params: all of them sorted by name, unencoded."""
    payload = "&".join(f"{name}={params[name]}" for name in sorted(params))
    return signer.sign(payload.encode())


def order_params(request: OrderRequest, instrument: Instrument, stp_mode: str) -> dict[str, str]:
    """Return the parameters of placing, modifying or cancelling, all but key, window and time.

    `selfTradePreventionMode` is always sent: the pages disagree about its default. A modification
    cannot carry it; the venue resets the mode to NONE (STP faq).
    """
    if request.kind == RequestKind.NEW:
        params = {
            "symbol": instrument.symbol,
            "side": SIDE_TEXT[Side(request.side)],
            "type": OrderType(request.order_type).name,
            "quantity": instrument.qty_text(request.order_qty_steps),
            "newClientOrderId": order_ids.to_text(request.client_order_id),
            "newOrderRespType": "ACK",
            "selfTradePreventionMode": stp_mode,
        }
        if request.order_type == OrderType.LIMIT:
            params["timeInForce"] = TimeInForce(request.time_in_force).name
            params["price"] = instrument.price_text(request.price_steps)
        if request.reduce_only:
            params["reduceOnly"] = "true"
        return params
    params = {"symbol": instrument.symbol}
    if request.orig_client_order_id:
        params["origClientOrderId"] = order_ids.to_text(request.orig_client_order_id)
    else:  # an order that is not ours has only the venue's id
        params["orderId"] = str(request.venue_order_id)
    if request.kind == RequestKind.REPLACE:
        params["side"] = SIDE_TEXT[Side(request.side)]
        params["quantity"] = instrument.qty_text(request.order_qty_steps)
        params["price"] = instrument.price_text(request.price_steps)
    return params


def is_encodable(request: OrderRequest, instrument_count: int) -> bool:
    """Return True if a request's fields are of their enums and ranges, so that it can be written.

    Risk has judged the order; this catches a record that no risk process can have written.
    """
    if not 0 <= request.instrument_id < instrument_count:
        return False
    if request.kind == RequestKind.CANCEL:
        return request.orig_client_order_id > 0 or request.venue_order_id > 0
    if request.side not in (Side.BID, Side.ASK) or request.order_qty_steps <= 0:
        return False
    if request.kind == RequestKind.REPLACE:
        has_order = request.orig_client_order_id > 0 or request.venue_order_id > 0
        return has_order and request.price_steps > 0
    if request.kind != RequestKind.NEW or request.client_order_id <= 0:
        return False
    if request.reduce_only not in (0, 1):
        return False
    if request.order_type == OrderType.MARKET:
        return True
    return (
        request.order_type == OrderType.LIMIT
        and TimeInForce.GTC <= request.time_in_force <= TimeInForce.GTX
        and request.price_steps > 0
    )


class OrderObject(msgspec.Struct):
    """An order as REST and the WebSocket API answer it; every key but `status` may be missing."""

    status: str
    symbol: str = ""
    orderId: Id = 0
    clientOrderId: str = ""
    price: str = "0"
    origQty: str = "0"
    executedQty: str = "0"
    timeInForce: str = ""
    type: str = ""
    side: str = ""
    reduceOnly: bool = False
    updateTime: Ms = 0


def request_report(request: OrderRequest, source: ReportSource) -> Report:
    """Return an EXECUTION report with what the request itself tells."""
    is_new = request.kind == RequestKind.NEW
    order_id = request.client_order_id if is_new else request.orig_client_order_id
    return Report(
        kind=ReportKind.EXECUTION,
        side=request.side,
        source=source,
        strategy_id=request.strategy_id,
        instrument_id=request.instrument_id,
        client_order_id=order_id,
        request_client_order_id=request.client_order_id,
        venue_order_id=request.venue_order_id,
        price_steps=request.price_steps,
        order_qty_steps=request.order_qty_steps,
        request_kind=request.kind,
        order_type=request.order_type,
        time_in_force=request.time_in_force,
        reduce_only=request.reduce_only,
        order_slot=request.order_slot,
        ts_recv_ns=request.ts_recv_ns,
        recv_to_book_ns=request.recv_to_book_ns,
        book_to_strategy_ns=request.book_to_strategy_ns,
        strategy_to_risk_ns=request.strategy_to_risk_ns,
        risk_to_sent_ns=request.risk_to_sent_ns,
        intent_sequence=request.intent_sequence,
    )


_REJECTED_EXEC_TYPES = {
    RequestKind.NEW: ExecType.REJECTED,
    RequestKind.REPLACE: ExecType.REPLACE_REJECTED,
    RequestKind.CANCEL: ExecType.CANCEL_REJECTED,
    RequestKind.CANCEL_ALL: ExecType.CANCEL_REJECTED,
}


def refused_report(
    request: OrderRequest, reject: Reject, venue_code: int = 0, source: int = ReportSource.RESPONSE
) -> Report:
    """Return the report of a request that certainly did nothing.

    A refused change does not tell what the order is now.
    """
    report = request_report(request, ReportSource(source))
    report.exec_type = _REJECTED_EXEC_TYPES[RequestKind(request.kind)]
    report.order_status = OrderStatus.REJECTED if request.kind == RequestKind.NEW else 0
    report.reject = reject
    report.venue_code = venue_code
    return report


def unknown_report(request: OrderRequest, venue_code: int = 0) -> Report:
    """Return the report of a request whose outcome nobody told: ask, never send again."""
    report = request_report(request, ReportSource.RESPONSE)
    report.exec_type = ExecType.UNKNOWN
    report.venue_code = venue_code
    return report


_STATUS_EXEC_TYPES = {
    OrderStatus.NEW: ExecType.NEW,
    OrderStatus.CANCELED: ExecType.CANCELED,
    OrderStatus.EXPIRED: ExecType.EXPIRED,
    OrderStatus.REJECTED: ExecType.REJECTED,
}


def accepted_report(request: OrderRequest, order: OrderObject, instrument: Instrument) -> Report:
    """Return the report of a request that the venue did.

    A place that already filled is told as STATUS: the fills themselves come on the user stream. A
    modification may answer with a terminal status: it cancels an order that is filled so far, or
    whose new price would cross as GTX (modify-order page).

    Raises:
        ValueError: a number is not on the instrument's grid, or the status is no known word.
    """
    report = request_report(request, ReportSource.RESPONSE)
    read_order(report, order, instrument)
    status = OrderStatus(report.order_status)
    if request.kind == RequestKind.REPLACE and status not in _TERMINAL:
        report.exec_type = ExecType.REPLACED
    else:
        report.exec_type = _STATUS_EXEC_TYPES.get(status, ExecType.STATUS)
    return report


def read_order(report: Report, order: OrderObject, instrument: Instrument) -> None:
    """Write the state of an order object into a report; absent words keep what the report has.

    Raises:
        ValueError: a number is not on the instrument's grid, or the status is no known word.
    """
    status = ORDER_STATUSES.get(order.status, 0)
    if not status:
        raise ValueError(f"order status is {order.status[:40]!r}, expected one of ORDER_STATUSES")
    report.cum_qty_steps = instrument.qty_steps(order.executedQty)
    order_qty_steps = instrument.qty_steps(order.origQty)
    price_steps = instrument.price_steps(order.price)
    report.order_status = status
    report.order_qty_steps = order_qty_steps or report.order_qty_steps
    report.price_steps = price_steps or report.price_steps
    report.leaves_qty_steps = leaves(status, report.order_qty_steps, report.cum_qty_steps)
    report.venue_order_id = order.orderId or report.venue_order_id
    report.side = SIDES.get(order.side, report.side)
    report.order_type = ORDER_TYPES.get(order.type, report.order_type)
    report.time_in_force = TIMES_IN_FORCE.get(order.timeInForce, report.time_in_force)
    report.reduce_only = int(order.reduceOnly) or report.reduce_only
    if order.updateTime:
        report.ts_exch_ns = order.updateTime * NS_PER_MS


def set_owner(report: Report, client_order_id_text: str) -> None:
    """Write whose order it is: ours by its id, else 0 and NOT_OURS."""
    client_order_id = order_ids.from_text(client_order_id_text)
    report.client_order_id = client_order_id
    report.strategy_id = order_ids.unpack(client_order_id)[1] if client_order_id else NOT_OURS


def leaves(status: int, order_qty_steps: int, cum_qty_steps: int) -> int:
    """Return what is open: 0 when terminal."""
    return 0 if status in _TERMINAL else max(order_qty_steps - cum_qty_steps, 0)


def e8_from_text(text: str) -> int:
    """Read a signed decimal as 1e-8 units, cut towards zero: averages have more decimals.

    Raises:
        ValueError: not a plain decimal.
    """
    is_negative = text.startswith("-")
    whole, point, fraction = text[is_negative:].partition(".")
    if fraction and not (fraction.isascii() and fraction.isdigit()):
        raise ValueError(f"number is {text[:40]!r}, expected plain decimal digits")
    value = steps_from_text(whole + point + fraction[:E8_DECIMALS], E8_DECIMALS)
    return -value if is_negative else value


def signed_qty_steps(text: str, instrument: Instrument) -> int:
    """Read a signed position amount.

    Raises:
        ValueError: not on the instrument's grid.
    """
    if text.startswith("-"):
        return -instrument.qty_steps(text[1:])
    return instrument.qty_steps(text)


def saturate_int32(value: int) -> int:
    """Return a hop delta that fits its field."""
    return max(-INT32_MAX, min(value, INT32_MAX))


def by_symbol(instruments: Iterable[Instrument]) -> dict[str, Instrument]:
    """Return the instruments by the venue's symbol."""
    return {instrument.symbol: instrument for instrument in instruments}

"""One REST request and its answer: what to send, how urgent it is, what came back."""

from collections.abc import Mapping
from enum import IntEnum
from urllib.parse import urlencode

import msgspec

from common.binance import Code, Credentials, Outcome, classify, sign_query

ERROR_TEXT_MAX = 400


class Priority(IntEnum):
    """Lower goes first, and may use more of the weight limit."""

    EMERGENCY = 0  # cancel all; nothing holds it back but a ban
    CANCEL = 1
    DEAD_MAN = 2
    ORDER = 3
    QUERY = 4
    SESSION = 5  # listenKey, clock
    DATA = 6  # depth snapshots, reconciliation


# Percent of the weight limit up to which each priority may go.
WEIGHT_PERCENT = {
    Priority.EMERGENCY: 100,
    Priority.CANCEL: 100,
    Priority.DEAD_MAN: 95,
    Priority.ORDER: 90,
    Priority.QUERY: 85,
    Priority.SESSION: 85,
    Priority.DATA: 70,
}


class Call(msgspec.Struct, frozen=True):
    """One endpoint with its parameters.

    Attributes:
        weight: documented request weight; the header of the answer corrects it.
        is_keyed: sends the API key; is_signed: also timestamp and signature.
        is_opening: may create exposure: not sent once the kill page is set.
    """

    method: str
    path: str
    params: Mapping[str, str | int] = {}
    weight: int = 1
    is_keyed: bool = True
    is_signed: bool = True
    is_opening: bool = False


class Answer(msgspec.Struct):
    """What came of a call.

    Attributes:
        outcome: FAILED also where the request certainly did not leave us.
        status: HTTP status, 0 if there was no answer.
        code, message: the venue's error, or 0 and what happened.
        body: of a good answer.
        ts_sent_ns, ts_recv_ns: CLOCK_MONOTONIC.
    """

    outcome: Outcome
    status: int = 0
    code: int = 0
    message: str = ""
    body: bytes = b""
    headers: Mapping[str, str] = {}
    ts_sent_ns: int = 0
    ts_recv_ns: int = 0

    @property
    def is_ok(self) -> bool:
        """Return True if the venue did it."""
        return self.outcome is Outcome.OK


class Wire(msgspec.Struct, frozen=True):
    """A call as it goes out.

    Attributes:
        target: path and query; the body is always empty.
    """

    method: str
    target: str
    headers: dict[str, str]


class _ErrorBody(msgspec.Struct):
    code: Code = 0
    msg: str = ""


_error_decoder = msgspec.json.Decoder(_ErrorBody)


def write_call(call: Call, credentials: Credentials, recv_window_ms: int, venue_ms: int) -> Wire:
    """Return a call with its key, time and signature; the query is signed byte for byte."""
    query = urlencode(call.params)
    if call.is_signed:
        timing = f"recvWindow={recv_window_ms}&timestamp={venue_ms}"
        query = sign_query(f"{query}&{timing}" if query else timing, credentials.signer)
    headers = {"X-MBX-APIKEY": credentials.api_key} if call.is_keyed else {}
    return Wire(call.method, f"{call.path}?{query}" if query else call.path, headers)


def read_answer(
    status: int, headers: Mapping[str, str], body: bytes, ts_sent_ns: int, ts_recv_ns: int
) -> Answer:
    """Judge one HTTP response.

    Args:
        headers: names in lower case.
    """
    code, message = 0, ""
    if not 200 <= status < 300 or body.startswith(b'{"code"'):
        try:
            error = _error_decoder.decode(body)
            code, message = error.code, error.msg[:ERROR_TEXT_MAX]
        except (ValueError, RecursionError):  # a page of some proxy, not the venue's JSON
            message = body[:ERROR_TEXT_MAX].decode("utf-8", "replace")
    outcome = classify(status, code, message)
    return Answer(outcome, status, code, message, body, headers, ts_sent_ns, ts_recv_ns)


def not_sent(message: str, now_ns: int) -> Answer:
    """Return the answer to a call of which no byte left us."""
    return Answer(Outcome.FAILED, message=message[:ERROR_TEXT_MAX], ts_recv_ns=now_ns)


def not_answered(message: str, ts_sent_ns: int, now_ns: int) -> Answer:
    """Return the answer to a call that left us and was not answered: UNKNOWN."""
    return Answer(
        Outcome.UNKNOWN,
        message=message[:ERROR_TEXT_MAX],
        ts_sent_ns=ts_sent_ns,
        ts_recv_ns=now_ns,
    )

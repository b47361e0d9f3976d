"""Lines of a capture that the scanner does not take: REST snapshots, and what is harmless."""

import msgspec

from common.binance_depth import DepthSnapshot, decode_snapshot

_SNAPSHOT_STREAM = "depthsnapshot"  # how some recorders wrap the REST answer


class _Line(msgspec.Struct):
    """What tells one kind of line from another; everything else is ignored."""

    stream: str = ""
    s: str = ""
    symbol: str = ""
    data: msgspec.Raw = msgspec.Raw()
    result: msgspec.Raw = msgspec.Raw()


class Foreign(Exception):
    """A snapshot, but of another symbol."""


_LINE = msgspec.json.Decoder(_Line)
_ANY = msgspec.json.Decoder()


def snapshot_of(line: bytes, symbol: str) -> DepthSnapshot | None:
    """Return the depth snapshot that a line holds, None if it is something else and in order.

    A snapshot without a symbol belongs to `symbol`.

    Raises:
        Foreign: it belongs to another one.
        ValueError: not JSON, or a snapshot that cannot be read.
    """
    body: bytes | msgspec.Raw = line
    try:
        head = _LINE.decode(line)
    except msgspec.ValidationError:  # JSON, but not an object, or with odd types
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from None
    whose, _, stream = head.stream.partition("@")
    if bytes(head.data):
        if not stream.lower().startswith(_SNAPSHOT_STREAM):
            return None  # a partial book, told by its stream's name
        body = head.data
    elif bytes(head.result):
        body = head.result
    whose = whose or head.symbol or head.s or symbol
    if whose.upper() != symbol:
        raise Foreign
    return decode_snapshot(bytes(body))


def is_json_without_event(line: bytes) -> bool:
    """Return True for whole JSON whose data is no single event: answers, arrays of all symbols."""
    try:
        content = _ANY.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    if isinstance(content, dict) and "stream" in content:
        content = content.get("data")
    return isinstance(content, list) and all(isinstance(entry, dict) for entry in content)

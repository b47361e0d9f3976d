"""`tickring tail`: the records of a ring as they pass, as lines or JSON objects."""

import select
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

import msgspec
import numpy as np

from common import clock, enums
from common.enums import MarketKind
from common.errors import UsageError
from common.instruments import Instrument
from common.records import LAYOUTS, LEVEL_WORD, LEVELS_PER_SLOT
from processes.inspector.instance import Instance
from processes.inspector.recorded import RecordedInstance, RecordedRing
from shm.observer import Observer

READ_MAX = 4_096
POLL_NS = 20_000_000
STDOUT_FD = 1
MARKET = "MARKET"
RECORD_OF_KIND = {
    MarketKind.GAP: "GAP",
    MarketKind.DIFF_BEGIN: "DEPTH",
    MarketKind.SNAPSHOT_BEGIN: "DEPTH",
    MarketKind.SNAPSHOT_END: "DEPTH",
    MarketKind.LEVELS: "LEVELS",
    MarketKind.TRADE: "TRADE",
    MarketKind.AGG_TRADE: "TRADE",
    MarketKind.BBO: "BBO",
    MarketKind.BOOK: "BOOK",
    MarketKind.MARK: "MARK",
    MarketKind.LIQUIDATION: "LIQUIDATION",
    MarketKind.CONTROL: "CONTROL",
    MarketKind.CLOCK: "CLOCK",
}
KINDS = {
    "ORDER_REQUEST": enums.RequestKind,
    "REPORT": enums.ReportKind,
    "REST_REQUEST": enums.RestKind,
    "SESSION": enums.SessionKind,
    "TURN": enums.TurnKind,
}
WORDS = {
    "side": enums.Side,
    "aggressor_side": enums.Side,
    "order_type": enums.OrderType,
    "time_in_force": enums.TimeInForce,
    "exec_type": enums.ExecType,
    "order_status": enums.OrderStatus,
    "source": enums.ReportSource,
    "liquidity_side": enums.LiquiditySide,
    "reject": enums.Reject,
    "request_kind": enums.RequestKind,
    "reason": enums.GapReason,
}
SECRET_FIELDS = {"listen_key"}


def word_of(kind: type[IntEnum], value: int) -> str | int:
    """Return the name of an enum value, the number itself if it has none."""
    return kind(value).name if value in kind._value2member_map_ else value


def decode(record: str, slot: Any) -> dict[str, Any]:
    """Return one slot as names and values; reserved bytes and zeros that mean nothing are left out.

    Args:
        record: MARKET for a slot of int64 words, else the record's name.
        slot: the slot.
    """
    name, kinds = record, KINDS.get(record)
    if record == MARKET:
        kind = int(slot.view(np.uint8)[0])
        known = RECORD_OF_KIND.get(kind)  # type: ignore[call-overload]
        if known is None:
            return {"kind": kind}
        name, kinds = known, MarketKind
        slot = slot.view(LAYOUTS[name])[0]
    values: dict[str, Any] = {}
    for field in LAYOUTS[name].names or ():
        value = slot[field]
        if field.startswith("reserved") or field in SECRET_FIELDS:
            continue
        if field == "kind" and kinds is not None:
            values[field] = word_of(kinds, int(value))
        elif value.ndim:
            values[field] = bytes(value).hex() if value.dtype == np.uint8 else value.tolist()
        elif field in WORDS and value:
            values[field] = word_of(WORDS[field], int(value))
        else:
            values[field] = int(value)
    return values


def line_of(sequence: int, values: dict[str, Any], symbols: list[Instrument]) -> str:
    """Return one slot for people: prices and quantities in the instrument's decimals."""
    shown = [f"{sequence:>12}  {values.get('kind', ''):<14}"]
    instrument = None
    number = values.get("instrument_id", -1)
    if 0 <= number < len(symbols):
        instrument = symbols[number]
        shown.append(f"{instrument.symbol:<12}")
    for field, value in values.items():
        if field in ("kind", "instrument_id", "slot_count") or value in (0, ""):
            continue
        if instrument is not None and isinstance(value, int):
            if field.endswith("price_steps") or field == "last_px_steps" or "price_" in field:
                value = instrument.price_text(value) if field.endswith("_steps") else value
                field = field.removesuffix("_steps")
            elif field.endswith(("qty_steps", "position_steps")) or field.startswith("qty_"):
                value = instrument.qty_text(value)
                field = field.removesuffix("_steps")
        shown.append(f"{field}={value}")
    return " ".join(shown)


def levels_of(header: np.void, slots: np.ndarray) -> tuple[list[tuple[int, int]], ...]:
    """Return (bids, asks) of a message as (price, quantity) in steps.

    Args:
        header: DEPTH or BOOK.
        slots: int64[n, 8], the LEVELS slots behind it.
    """
    bid_count, ask_count = int(header["bid_count"]), int(header["ask_count"])
    found = []
    for j in range(bid_count + ask_count):
        word = LEVEL_WORD + 2 * (j % LEVELS_PER_SLOT)
        row = slots[j // LEVELS_PER_SLOT]
        found.append((int(row[word]), int(row[word + 1])))
    return found[:bid_count], found[bid_count:]


def read_on(
    observer: Observer | RecordedRing, follow: bool, until: int
) -> Iterator[tuple[int, Any]]:
    """Yield (sequence, slot), and (sequence, lapped count) as an int where records were missed."""
    while follow or observer.next_sequence < until:
        records, first, lapped = observer.read(READ_MAX)
        if lapped:
            yield first, lapped
        for i in range(len(records)):
            yield first + i, records[i]
        if len(records) == 0 and not lapped:
            if is_reader_gone():
                return
            clock.sleep_ns(POLL_NS)


def is_reader_gone() -> bool:
    """Return True if standard output is a pipe that nobody reads any more, as after `| head`."""
    poll = select.poll()
    poll.register(STDOUT_FD, 0)
    return any(events & select.POLLERR for _fd, events in poll.poll(0))


def tail(
    instance: Instance | RecordedInstance, ring: str, count: int, follow: bool, as_json: bool
) -> None:
    """Print the last `count` records of a ring, and with `follow` those that come.

    Raises:
        UsageError: to follow a recording, which has an end.
    """
    if follow and isinstance(instance, RecordedInstance):
        raise UsageError("-f and --run are given, expected one of them: a recording has an end")
    observer = instance.observe(ring, from_oldest=True)
    observer.next_sequence = max(observer.next_sequence, observer.published - count)
    try:
        for sequence, slot in read_on(observer, follow, observer.published):
            if isinstance(slot, int):
                print(f"{sequence:>12}  lapped: {slot} records were overwritten unread", flush=True)
                continue
            values = decode(observer.record, slot)
            if as_json:
                print(msgspec.json.encode({"sequence": sequence, **values}).decode(), flush=True)
            else:
                print(line_of(sequence, values, instance.instruments), flush=True)
    except KeyboardInterrupt:
        return
    finally:
        observer.close()

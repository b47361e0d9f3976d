"""A desk on plain arrays and a scripted risk, for strategy tests."""

import numpy as np

from common import order_ids
from common.enums import (
    ExecType,
    MarketKind,
    OrderStatus,
    ReportKind,
    RequestKind,
)
from common.records import (
    BOOK,
    CONTROL,
    FLAG_INVALID,
    GAP,
    INSTRUMENT,
    LEVEL_WORD,
    LEVELS_PER_SLOT,
    ORDER_REQUEST,
    REPORT,
    TRADE,
)
from processes.strategy import desk as at
from processes.strategy import engine

SESSION_BASE = order_ids.pack(7, 0, 0)
CAPACITY = 64
TAKEN = ("side", "price_steps", "order_qty_steps", "reduce_only", "time_in_force")


def views(words):
    flat = words.reshape(-1)
    return flat.view(BOOK), flat.view(TRADE), flat.view(CONTROL)


class Harness:
    """One strategy, its desk and its inputs; each `turn` takes what was put in before."""

    def __init__(self, cls, params, instrument_count=2):
        self.block = np.zeros(1, at.block_dtype(instrument_count, cls.STATE))
        instruments = np.zeros(instrument_count, INSTRUMENT)
        instruments["tick_size_steps"] = instruments["lot_size_steps"] = 1
        self.intents = np.zeros(at.INTENTS_PER_TURN_MAX, ORDER_REQUEST)
        self.d = at.desk_of(self.block, instruments, self.intents)
        self.params = np.zeros(1, cls.PARAMS)
        for name, value in params.items():
            self.params[name] = value
        self.reports = np.zeros(CAPACITY, REPORT)
        self.control = np.zeros((CAPACITY, 8), np.int64)
        self.market = np.zeros((CAPACITY, 8), np.int64)
        self.first = np.zeros(3, np.int64)
        self.end = np.zeros(3, np.int64)
        self.now = 1_000
        engine.reset_desk(self.d, SESSION_BASE, 0)

    def turn(self, advance_ns=1):
        """Run one turn and return a copy of its intents."""
        self.now += advance_ns
        inputs = (
            self.reports,
            (self.control, views(self.control)),
            (self.market, views(self.market)),
        )
        count = engine.run_turn(
            self.block["state"][0], self.params, self.d, inputs, self.first, self.end, self.now
        )
        self.first[:] = self.end
        return self.intents[:count].copy()

    def report(self, kind, **fields):
        """Put one report into the ring."""
        slot = self.reports[self.end[0] % CAPACITY : self.end[0] % CAPACITY + 1]
        slot[...] = np.zeros(1, REPORT)
        slot["kind"] = kind
        for name, value in fields.items():
            slot[name] = value
        self.end[0] += 1

    def ready(self, positions=()):
        """Say what risk says after an ATTACH."""
        self.report(ReportKind.RESET, instrument_id=-1)
        for i, position in enumerate(positions):
            self.report(ReportKind.POSITION, instrument_id=i, position_steps=position)
        self.report(ReportKind.READY, instrument_id=-1)

    def book(self, i, bids, asks, ts_recv_ns=None, invalid=False):
        """Put one BOOK message into the ring; levels are (price_steps, qty_steps)."""
        levels = [*bids, *asks]
        slots = 1 + -(-len(levels) // LEVELS_PER_SLOT)
        header = np.zeros(1, BOOK)
        header["kind"], header["slot_count"], header["instrument_id"] = MarketKind.BOOK, slots, i
        header["flags"] = FLAG_INVALID if invalid else 0
        header["bid_count"], header["ask_count"] = len(bids), len(asks)
        header["ts_recv_ns"] = self.now if ts_recv_ns is None else ts_recv_ns
        header["ts_pub_ns"] = header["ts_recv_ns"] + 5
        header["recv_to_book_ns"] = 5
        self.market[self.end[2] % CAPACITY] = header.view(np.int64)
        for k, (price, qty) in enumerate(levels):
            slot = (self.end[2] + 1 + k // LEVELS_PER_SLOT) % CAPACITY
            word = LEVEL_WORD + 2 * (k % LEVELS_PER_SLOT)
            self.market[slot, word], self.market[slot, word + 1] = price, qty
        self.end[2] += slots

    def trade(self, i, price, qty, aggressor_side=1):
        """Put one public trade into the ring."""
        slot = np.zeros(1, TRADE)
        slot["kind"], slot["slot_count"], slot["instrument_id"] = MarketKind.TRADE, 1, i
        slot["ts_recv_ns"] = self.now
        slot["price_steps"], slot["qty_steps"] = price, qty
        slot["aggressor_side"] = aggressor_side
        self.market[self.end[2] % CAPACITY] = slot.view(np.int64)
        self.end[2] += 1

    def gap(self, i):
        """Put one GAP into the ring; -1: all instruments."""
        slot = np.zeros(1, GAP)
        slot["kind"], slot["slot_count"], slot["instrument_id"] = MarketKind.GAP, 1, i
        self.market[self.end[2] % CAPACITY] = slot.view(np.int64)
        self.end[2] += 1

    def answer(self, intent, **fields):
        """Put risk's EXECUTION report for one intent into the ring: accepted unless told."""
        slot = int(intent["order_slot"])
        order = self.d.orders[slot]
        is_new = intent["kind"] == RequestKind.NEW
        values = {
            "exec_type": ExecType.NEW,
            "order_status": OrderStatus.NEW,
            "instrument_id": int(intent["instrument_id"]),
            "client_order_id": int(intent["client_order_id" if is_new else "orig_client_order_id"]),
            "request_client_order_id": int(intent["client_order_id"]),
            "order_slot": slot,
            "side": int(intent["side"]),
            "price_steps": int(order["price_steps"]),
            "order_qty_steps": int(order["order_qty_steps"]),
            "cum_qty_steps": int(order["cum_qty_steps"]),
            "leaves_qty_steps": int(order["order_qty_steps"] - order["cum_qty_steps"]),
            "position_steps": int(self.d.position[int(intent["instrument_id"])]),
        }
        if intent["kind"] == RequestKind.REPLACE:
            values["exec_type"] = ExecType.REPLACED
            values["price_steps"] = int(intent["price_steps"])
            values["order_qty_steps"] = int(intent["order_qty_steps"])
        if intent["kind"] == RequestKind.CANCEL:
            values["exec_type"] = ExecType.CANCELED
            values["order_status"] = OrderStatus.CANCELED
            values["leaves_qty_steps"] = 0
        self.report(ReportKind.EXECUTION, **{**values, **fields})

    def see(self, *mids, i=0, advance_ns=10, **options):
        """Show books around these mids, one a turn; return the intents of the last."""
        for mid in mids:
            self.book(i, [(mid - 1, 5)], [(mid + 1, 5)], **options)
            intents = self.turn(advance_ns)
        return intents


def begun(cls, params, position=0):
    """Return a harness whose strategy holds a position of the first instrument and may act."""
    h = Harness(cls, params)
    h.ready((position, 0))
    h.turn()
    return h


def shown(intents, fields=TAKEN):
    """Return the fields of each intent as a tuple."""
    return [tuple(int(one[name]) for name in fields) for one in intents]

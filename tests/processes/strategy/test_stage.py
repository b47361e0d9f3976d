import sys
from types import SimpleNamespace

import numpy as np
import pytest

from common import order_ids
from common.enums import MarketKind, ReportKind, RequestKind, TurnKind
from common.instruments import Instrument, InstrumentFacts
from common.records import BOOK, INSTRUMENT, REPORT
from processes.strategy import app
from processes.strategy import desk as at
from processes.strategy import stage as stage_module
from processes.strategy.api import strategy
from processes.strategy.desk import block_dtype
from processes.strategy.stage import LABELS, Counter, StrategyStage
from processes.strategy.turn_log import HASHED_RECORDS
from processes.strategy.verbs import quote
from shm.counters import anonymous_counters
from shm.ring import anonymous_ring
from shm.turn import anonymous_twin, state_hash


@strategy(params={}, state={"books": "<i8"})
class OneBid:
    """Bids one below each book it sees."""

    def on_book(s, p, d, i):
        s["books"] += 1
        quote(d, i, 1, d.books[i]["bid_price_steps"][0] - 1, 3)


class Rig:
    """The stage between anonymous rings; `build` again is a restart of the process."""

    def __init__(self, intent_capacity=4096):
        self.reports, self.report_in = anonymous_ring("REPORT", 64)
        self.control, self.control_in = anonymous_ring("MARKET", 64)
        self.market, self.market_in = anonymous_ring("MARKET", 64)
        self.intent_out, self.intents = anonymous_ring("ORDER_REQUEST", intent_capacity)
        self.turn_out, self.turns = anonymous_ring("TURN", 64, overwrite=True)
        self.twin = anonymous_twin(block_dtype(2, OneBid.STATE))
        self.counters = anonymous_counters(LABELS, [])
        instruments = np.zeros(2, INSTRUMENT)
        instruments["tick_size_steps"] = instruments["lot_size_steps"] = 1
        self.args = (OneBid, np.zeros(1, OneBid.PARAMS), instruments)
        self.build()

    def build(self):
        self.stage = StrategyStage(
            *self.args,
            self.twin,
            (self.report_in, self.control_in, self.market_in),
            (self.intent_out, self.turn_out),
            self.counters,
            session=3,
            strategy_id=0,
        )

    def ready(self):
        for kind in (ReportKind.RESET, ReportKind.READY):
            report = np.zeros(1, REPORT)
            report["kind"], report["instrument_id"] = kind, -1
            self.reports.write(report)

    def book(self, bid, ask):
        slots = np.zeros((2, 8), np.int64)
        header = slots[:1].reshape(-1).view(BOOK)
        header["kind"], header["slot_count"], header["bid_count"] = MarketKind.BOOK, 2, 1
        header["ask_count"] = 1
        slots[1, 2:6] = [bid, 1, ask, 1]
        self.market.write(slots)


def test_first_turn_attaches_and_orders_follow_ready():
    rig = Rig()
    rig.book(100, 102)
    assert rig.stage.do_work(10) == 1
    (intent,) = rig.intents.read(10)
    assert intent["kind"] == RequestKind.ATTACH
    assert intent["client_order_id"] == order_ids.pack(3, 0, 0)
    rig.stage.do_work(20)
    assert len(rig.intents.read(10)) == 0
    assert not rig.stage.is_ready()
    rig.ready()
    rig.stage.do_work(30)
    assert rig.stage.is_ready()
    rig.book(100, 102)
    rig.stage.do_work(40)
    (intent,) = rig.intents.read(10)
    assert (intent["kind"], intent["price_steps"]) == (RequestKind.NEW, 99)
    assert intent["client_order_id"] == order_ids.pack(3, 0, 1)


def test_turn_log_tells_what_was_taken():
    rig = Rig()
    rig.stage.do_work(10)
    rig.ready()
    rig.stage.do_work(20)
    rig.book(100, 102)
    rig.stage.do_work(30)
    rig.stage.do_work(40)  # nothing there: not logged
    turns = rig.turn_out.end.slots[: rig.turn_out.stats()["published"]]
    assert list(turns["now_ns"]) == [10, 20, 30]
    assert [list(t) for t in turns["record_count"][:, :3]] == [[0, 0, 0], [2, 0, 0], [0, 0, 2]]
    assert list(turns["intent_count"]) == [1, 0, 1]
    assert list(turns["kind"]) == [TurnKind.ATTACH, TurnKind.RECORDS, TurnKind.RECORDS]


def test_turns_are_numbered_by_their_place_in_the_log_across_restarts():
    rig = Rig()
    rig.stage.do_work(10)
    rig.ready()
    rig.stage.do_work(20)
    rig.build()
    rig.stage.do_work(30)
    rig.ready()
    rig.stage.do_work(40)
    turns = rig.turn_out.end.slots[:4]
    assert list(turns["turn"]) == [0, 1, 2, 3]
    assert [list(turn) for turn in turns["first_sequence"][:, :3]] == [
        [0, 0, 0], [0, 0, 0], [2, 0, 0], [2, 0, 0],
    ]  # fmt: skip


def test_the_state_is_hashed_on_attach_and_after_every_100_000_records():
    rig = Rig()
    rig.stage.do_work(10)
    turns = rig.turn_out.end.slots
    assert turns["state_hash"][0] == state_hash(rig.twin.words[rig.twin.flips & 1])
    rig.stage.desk.words[at.RECORD_COUNT] = HASHED_RECORDS - 3
    for now_ns in (20, 30, 40):
        rig.book(100, 102)
        rig.stage.do_work(now_ns)
    assert [bool(found) for found in turns["state_hash"][:4]] == [True, False, True, False]


def test_the_log_hash_tells_which_order_the_inputs_were_taken_in():
    def logged(*order):
        rig = Rig()
        rig.stage.do_work(10)
        for now_ns, put in zip((20, 30), order, strict=True):
            put(rig)
            rig.stage.do_work(now_ns)
        return int(rig.turn_out.end.slots["log_hash"][2])

    def book(rig):
        rig.book(100, 102)

    assert logged(Rig.ready, book) == logged(Rig.ready, book) != logged(book, Rig.ready)


def test_a_restart_goes_on_from_the_committed_state():
    rig = Rig()
    rig.stage.do_work(10)
    rig.ready()
    rig.book(100, 102)
    rig.stage.do_work(20)
    rig.intents.read(10)
    rig.build()
    assert rig.stage.desk.words[at.INTENT_SEQUENCE] == 2
    assert rig.stage.state["books"][0] == 1
    rig.stage.do_work(30)
    (intent,) = rig.intents.read(10)
    assert intent["kind"] == RequestKind.ATTACH
    assert intent["intent_sequence"] == 2
    assert not rig.stage.is_ready()


def test_no_turn_is_begun_while_risk_lags():
    rig = Rig(intent_capacity=128)
    rig.stage.do_work(10)  # ATTACH stays unread: no room for 128 intents
    rig.ready()
    assert rig.stage.do_work(20) == 0
    assert rig.counters.values[Counter.BACK_PRESSURE] == 1
    rig.intents.read(10)
    assert rig.stage.do_work(30) > 0


@pytest.mark.parametrize("due_ns", [0, 5_000])
def test_next_timer_is_told_to_the_shell(due_ns):
    rig = Rig()
    rig.stage.desk.timers[2] = due_ns
    assert rig.stage.next_timer_ns() == due_ns


def test_a_warmed_up_strategy_compiles_nothing_more():
    """What `warm_up_for` has not compiled would stall the first turn of a live run."""
    config = SimpleNamespace(
        folder="",
        strategy=SimpleNamespace(module=f"{__name__}:OneBid", search_path="", params={}),
    )
    facts = InstrumentFacts(tick_size="1", lot_size="1", price_decimals=0, qty_decimals=0)
    instruments = [
        Instrument(instrument_id=i, venue="v", symbol=f"S{i}", facts=facts) for i in range(2)
    ]
    sys.modules[__name__] = sys.modules.get(__name__) or SimpleNamespace(OneBid=OneBid)
    app.warm_up_for(config, instruments)
    kernels = (stage_module.attach, stage_module.try_turn_of)
    before = [len(kernel.signatures) for kernel in kernels]
    rig = Rig()
    rig.stage.do_work(10)
    rig.ready()
    rig.book(100, 102)
    rig.stage.do_work(20)
    assert [len(kernel.signatures) for kernel in kernels] == before

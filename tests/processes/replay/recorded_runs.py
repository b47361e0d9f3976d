"""Made-up sessions of a live strategy stage, recorded: random books, trades, answers, restarts."""

import random
import shutil

import msgspec
import numpy as np

from common.enums import ExecType, MarketKind, OrderStatus, ReportKind, RequestKind
from common.instruments import Instrument, InstrumentFacts, instrument_table
from common.records import BOOK, CONTROL, FLAG_INVALID, REPORT, TRADE, TURN
from processes.replay.verdict import facts_here
from processes.strategy import desk as at
from processes.strategy.api import load_strategy, params_of
from processes.strategy.desk import block_dtype
from processes.strategy.stage import LABELS, StrategyStage
from shm.counters import anonymous_counters
from shm.packing import Packer
from shm.recording import RingWriter, Run, write_manifest
from shm.ring import anonymous_ring
from shm.segment import Header
from shm.turn import anonymous_twin, layout_hash
from shm.words import PAGE_WORDS

MODULE = "processes.strategy.market_maker:MarketMaker"
PARAMS = {
    "edge_bps": 1.0, "skew_bps": 0.5, "smoothing": 0.3, "requote_bps": 0.2,
    "clip_notional": 100.0, "position_clips_max": 3, "stale_ns_max": 2_000_000,
}  # fmt: skip
SESSION = 7
FACTS = InstrumentFacts(tick_size="0.1", lot_size="0.001", price_decimals=1, qty_decimals=3)
INSTRUMENTS = [
    Instrument(instrument_id=i, venue="v", symbol=symbol, facts=FACTS)
    for i, symbol in enumerate(("AUSDT", "BUSDT"))
]
RINGS = {
    "risk.report.strategy": ("REPORT", 64),
    "supervisor.control.strategy": ("MARKET", 8),
    "book.book.strategy": ("MARKET", 512),
    "strategy.intent.risk": ("ORDER_REQUEST", 256),
    "strategy.turn.log": ("TURN", 64),
}


class RecordedSession:
    """A strategy stage between private rings, and a recorder that sees all of them.

    Args:
        folder: of the run to be written.
        seed: of everything random.
        lost: {ring: (first, last)}: sequences that the recorder does not see.
        segment_bytes_max: of a recorded segment.
    """

    layout_change = 0  # 1: the recorded strategy had other sources

    def __init__(self, folder, seed=1, lost=None, segment_bytes_max=1 << 28):
        self.segment_bytes_max = segment_bytes_max
        self.random = random.Random(seed)
        self.lost = lost or {}
        self.ends = {
            key: anonymous_ring(layout, capacity, overwrite=key == "strategy.turn.log")
            for key, (layout, capacity) in RINGS.items()
        }
        self.cls = load_strategy(MODULE)
        self.twin = anonymous_twin(block_dtype(len(INSTRUMENTS), self.cls.STATE))
        self.begin_recording(folder)
        self.now_ns = 1_000_000
        self.waiting = []  # orders that risk knows, by client_order_id
        self.orders = {}
        self.position = [0, 0]
        self.mid = [100_000, 50_000]
        self.build()

    def begin_recording(self, folder):
        """Record into a folder, from now on."""
        self.folder = folder
        self.writers = {
            key: RingWriter(
                folder,
                key,
                *RINGS[key],
                first_sequence=self.published(key),
                segment_bytes_max=self.segment_bytes_max,
            )
            for key in RINGS
        }
        header = np.zeros(PAGE_WORDS, np.int64)
        header[Header.FINGERPRINT] = layout_hash(self.twin.blocks.dtype) + self.layout_change
        self.states = RingWriter(folder, "strategy.state", "STATE", 1, origin=header.tobytes())

    def published(self, key):
        """Producer cursor of a ring."""
        producer = self.ends[key][0]
        return producer.first_sequence + producer.stats()["published"]

    def build(self):
        """Begin the process, as after a kill -9."""
        self.stage = StrategyStage(
            self.cls,
            params_of(self.cls, PARAMS),
            instrument_table(INSTRUMENTS),
            self.twin,
            tuple(self.ends[key][1] for key in list(RINGS)[:3]),
            (self.ends["strategy.intent.risk"][0], self.ends["strategy.turn.log"][0]),
            anonymous_counters(LABELS, []),
            session=SESSION,
            strategy_id=0,
        )

    def run(self, steps, restarts=(), checkpoints=(), trades=0):
        """Do so many steps; at some of them restart the process or checkpoint its state."""
        for step in range(steps):
            if step in restarts:
                self.build()
            self.now_ns += self.random.randint(1, 400_000)
            for _ in range(self.random.choice((0, 1, 1, 2, 5))):
                self.put_book(self.random.randrange(2))
            if trades:
                self.put_trades(self.random.randint(0, trades))
            if step % 50 == 49:
                self.put_control(step)
            self.answer()
            self.stage.do_work(self.now_ns)
            self.take_intents()
            self.record()
            if step in checkpoints:
                self.checkpoint()

    def put_book(self, i):
        """One BOOK message of random depth; sometimes an invalid one."""
        self.mid[i] += self.random.randint(-30, 30)
        is_invalid = self.random.random() < 0.03
        bids, asks = (0, 0) if is_invalid else self.random.choices(range(1, 12), k=2)
        prices = [self.mid[i] - k for k in range(1, bids + 1)]
        prices += [self.mid[i] + k for k in range(1, asks + 1)]
        slots = np.zeros((1 + -(-len(prices) // 3), 8), np.int64)
        header = slots[:1].reshape(-1).view(BOOK)
        header["kind"], header["slot_count"], header["instrument_id"] = (
            MarketKind.BOOK, len(slots), i,
        )  # fmt: skip
        header["flags"] = FLAG_INVALID if is_invalid else 0
        header["bid_count"], header["ask_count"] = bids, asks
        header["ts_recv_ns"] = self.now_ns - self.random.randint(0, 300_000)
        header["ts_pub_ns"] = header["ts_recv_ns"] + 9_000
        header["recv_to_book_ns"] = 9_000
        for k, price in enumerate(prices):
            slots[1 + k // 3, 2 + 2 * (k % 3)] = price
            slots[1 + k // 3, 3 + 2 * (k % 3)] = self.random.randint(1, 50)
        slots[1:, 0] = MarketKind.LEVELS
        self.ends["book.book.strategy"][0].write(slots)

    def put_trades(self, count):
        """So many TRADE messages."""
        trades = np.zeros(count, TRADE)
        trades["kind"], trades["slot_count"] = MarketKind.TRADE, 1
        trades["ts_recv_ns"] = self.now_ns - self.random.randint(0, 300_000)
        trades["recv_to_pub_ns"] = 2_000
        self.ends["book.book.strategy"][0].write(trades)

    def put_control(self, value):
        """One CONTROL message, which this strategy does not look at."""
        control = np.zeros(1, CONTROL)
        control["kind"], control["slot_count"] = MarketKind.CONTROL, 1
        control["command"], control["ts_recv_ns"] = value, self.now_ns
        self.ends["supervisor.control.strategy"][0].write(control)

    def report(self, kind, **fields):
        """One report of risk."""
        report = np.zeros(1, REPORT)
        report["kind"], report["ts_pub_ns"] = kind, self.now_ns - self.random.randint(0, 200_000)
        for name, value in fields.items():
            report[name] = value
        self.ends["risk.report.strategy"][0].write(report)

    def take_intents(self):
        """Let risk take what was asked."""
        self.waiting += list(self.ends["strategy.intent.risk"][1].read(256))

    def answer(self):
        """Answer some of what was asked, and fill some orders."""
        while self.waiting and self.random.random() < 0.7:
            self._answer(self.waiting.pop(0))
        if self.orders and self.random.random() < 0.1:
            key = self.random.choice(sorted(self.orders))
            self._execution(self.orders.pop(key), ExecType.TRADE, OrderStatus.FILLED, 0)

    def _answer(self, intent):
        kind = intent["kind"]
        if kind == RequestKind.ATTACH:
            self.orders.clear()
            self.waiting.clear()
            self.report(ReportKind.RESET, instrument_id=-1)
            for i, position in enumerate(self.position):
                self.report(ReportKind.POSITION, instrument_id=i, position_steps=position)
            self.report(ReportKind.READY, instrument_id=-1)
        elif kind == RequestKind.NEW:
            self.orders[int(intent["client_order_id"])] = intent.copy()
            self._execution(intent, ExecType.NEW, OrderStatus.NEW, int(intent["client_order_id"]))
        else:
            order = self.orders.get(int(intent["orig_client_order_id"]))
            if order is None:
                return  # filled meanwhile
            request = int(intent["client_order_id"])
            if kind == RequestKind.REPLACE:
                order["price_steps"] = intent["price_steps"]
                order["order_qty_steps"] = intent["order_qty_steps"]
                self._execution(order, ExecType.REPLACED, OrderStatus.NEW, request)
            else:
                del self.orders[int(intent["orig_client_order_id"])]
                self._execution(order, ExecType.CANCELED, OrderStatus.CANCELED, request)

    def _execution(self, order, exec_type, status, request):
        i, qty = int(order["instrument_id"]), int(order["order_qty_steps"])
        is_fill = exec_type == ExecType.TRADE
        self.position[i] += int(order["side"]) * qty * is_fill
        self.report(
            ReportKind.EXECUTION,
            exec_type=exec_type,
            order_status=status,
            instrument_id=i,
            client_order_id=int(order["client_order_id"]),
            request_client_order_id=request,
            order_slot=int(order["order_slot"]),
            side=int(order["side"]),
            price_steps=int(order["price_steps"]),
            order_qty_steps=qty,
            cum_qty_steps=qty * is_fill,
            leaves_qty_steps=qty * (status == OrderStatus.NEW),
            position_steps=self.position[i],
            ts_report_recv_ns=self.now_ns - self.random.randint(100_000, 300_000),
        )

    def record(self):
        """Record what has been published since."""
        for key, writer in self.writers.items():
            producer = self.ends[key][0]
            end = self.published(key)
            if writer.next_sequence >= end:
                continue
            lost = self.lost.get(key, (-1, -1))
            if writer.next_sequence <= lost[0] < end:
                self._write(writer, producer, lost[0])
                writer.gap(*lost)
                assert writer.next_sequence <= end, "a loss ends within one step's records"
            self._write(writer, producer, end)

    def _write(self, writer, producer, end):
        sequences = np.arange(writer.next_sequence, end)
        writer.write(producer.end.slots[sequences & (producer.capacity - 1)])

    def checkpoint(self):
        """Record the committed state."""
        words = self.twin.words[self.twin.flips & 1]
        count = words[: at.WORDS][at.TURN_COUNT]
        self.states.write(np.concatenate(([count], words))[None])

    def close(self, **facts):
        """End the recording and return its folder."""
        for writer in [*self.writers.values(), self.states]:
            writer.close()
        manifest = {
            "schema": 1,
            "run": "made",
            "session": SESSION,
            "complete": True,
            "config": {"strategy": {"module": MODULE, "params": PARAMS}},
            "config_folder": "",
            "instruments": msgspec.to_builtins(INSTRUMENTS),
            **facts_here(),
            **facts,
        }
        write_manifest(self.folder, manifest)
        return self.folder


def rewrite(folder, key, change):
    """Change the recorded slots of one ring, checksums and all."""
    run = Run.open(folder)
    ring = run.rings[key]
    ((first, end),) = ring.spans
    words, capacity, layout = ring.read(first, end), ring.capacity, ring.layout
    run.close()
    change(words)
    shutil.rmtree(folder / key)
    writer = RingWriter(folder, key, layout, capacity, first_sequence=first)
    writer.write(words)
    writer.close()


def pack(folder):
    """Pack all segments of a run with zstd, as a recorder does with closed ones; return them."""
    paths = sorted(folder.rglob("*.slots"))
    for path in paths:
        packer = Packer(path)
        while packer.step() is None:
            pass
    return paths


def swap_two_turns(words):
    """Let a report and a market message of adjacent turns be taken in the other order.

    Args:
        words: int64[n, 16], the turn log, changed.

    Returns:
        The first of the two turns.
    """
    log = words.view(TURN).reshape(-1)
    counts = log["record_count"][:, :3]
    for k in range(20, len(log) - 1):
        if list(counts[k] > 0) == [True, False, False] and list(counts[k + 1] > 0) == [
            False, False, True,
        ]:  # fmt: skip
            break
    else:
        raise AssertionError("no report and market message in adjacent turns")
    count = log["record_count"].copy()
    log["record_count"][[k, k + 1]] = count[[k + 1, k]]
    log["first_sequence"][k + 1, 0] = log["first_sequence"][k, 0]
    log["first_sequence"][k + 1, 2] = log["first_sequence"][k, 2] + count[k + 1, 2]
    return k

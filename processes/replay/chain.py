"""Strategy and risk behind a replayed book: the live stages, on private rings.

There is no venue in a replay. What stands in for gateway and rest lets risk reconcile an empty
account, and refuses every order that risk has let through: what a strategy wanted is judged and
counted, and nothing is ever filled.
"""

import tempfile
from pathlib import Path

import msgspec
import numpy as np

from common import config
from common.enums import (
    ExecType,
    OrderStatus,
    Reject,
    ReportKind,
    ReportSource,
    RequestKind,
    RestKind,
)
from common.errors import ConfigError
from common.instruments import Instrument, instrument_table
from common.messages import OrderRequest, Report, read_requests, reports_array
from processes.risk import counters as risk_counters
from processes.risk.config import RiskConfig
from processes.risk.journal import Facts, Journal
from processes.risk.limits import limit_table
from processes.risk.rehearsal import Others, private_parts
from processes.risk.stage import RiskStage
from processes.strategy import stage as strategy_stage
from processes.strategy.api import load_strategy, params_of
from processes.strategy.config import StrategyConfig
from processes.strategy.desk import block_dtype
from processes.strategy.stage import StrategyStage
from shm.counters import anonymous_counters
from shm.ring import Consumer, anonymous_ring
from shm.turn import anonymous_twin

SESSION = 1
RING_SLOTS = 4_096
_EXEC_TYPES = {
    RequestKind.NEW: ExecType.REJECTED,
    RequestKind.REPLACE: ExecType.REPLACE_REJECTED,
    RequestKind.CANCEL: ExecType.CANCEL_REJECTED,
    RequestKind.CANCEL_ALL: ExecType.CANCEL_REJECTED,
}


class SetUp(msgspec.Struct, frozen=True):
    """What a replay takes from a set-up's file; the other tables are not looked at."""

    strategy: StrategyConfig
    risk: RiskConfig


class Nowhere:
    """Stage in place of gateway and rest: answers risk's questions, refuses its orders.

    Attributes:
        refused: orders that came.
    """

    def __init__(self, others: Others) -> None:
        self.others = others
        self.refused = 0
        self._is_up = False

    def do_work(self, now_ns: int) -> int:
        """Answer what is there; return how many reports were written."""
        reports: list[Report] = []
        if not self._is_up:
            self._is_up = True
            reports += [
                Report(kind=ReportKind.SESSION_UP, source=source, ts_pub_ns=now_ns)
                for source in (ReportSource.RESPONSE, ReportSource.STREAM)
            ]
        for request in read_requests(self.others.orders.read(RING_SLOTS)):
            reports.append(_refusal(request, now_ns))
            self.refused += 1
        answers: list[Report] = []
        for rest_request in self.others.requests.read(RING_SLOTS):
            answers += _answers(rest_request, now_ns)
        for producer, written in ((self.others.gateway, reports), (self.others.rest, answers)):
            if written:
                assert producer.try_write(reports_array(written)), "risk takes all each turn"
        return len(reports) + len(answers)

    def close(self) -> None:
        """Leave nothing."""


def _refusal(request: OrderRequest, now_ns: int) -> Report:
    is_new = request.kind == RequestKind.NEW
    return Report(
        kind=ReportKind.EXECUTION,
        exec_type=_EXEC_TYPES[RequestKind(request.kind)],
        order_status=OrderStatus.REJECTED if is_new else 0,
        side=request.side,
        source=ReportSource.RESPONSE,
        strategy_id=request.strategy_id,
        instrument_id=request.instrument_id,
        reject=Reject.GATEWAY_DOWN if is_new else Reject.VENUE_UNKNOWN_ORDER,
        client_order_id=request.client_order_id if is_new else request.orig_client_order_id,
        request_client_order_id=request.client_order_id,
        request_kind=request.kind,
        order_slot=request.order_slot,
        intent_sequence=request.intent_sequence,
        ts_pub_ns=now_ns,
    )


def _answers(request: np.void, now_ns: int) -> list[Report]:
    """Return the rounds of an account without orders, trades and positions."""
    if request["kind"] != RestKind.RECONCILE:
        return []
    common = {
        "source": ReportSource.QUERY,
        "request_id": int(request["request_id"]),
        "ts_pub_ns": now_ns,
    }
    return [
        Report(kind=ReportKind.RECONCILE_BEGIN, **common),
        Report(kind=ReportKind.POSITION, instrument_id=0, **common),
        Report(kind=ReportKind.RECONCILE_END, **common),
    ]


class Chain:
    """Strategy and risk of one replay.

    Args:
        path: a set-up's file; its [strategy] and [risk] tables are used.
        instrument: the only one; the file must hold limits for it.

    Raises:
        ConfigError: the file, the strategy or the limits are not in order.
    """

    def __init__(self, path: Path, instrument: Instrument) -> None:
        self.set_up = config.load(path, SetUp)
        self.instrument = instrument
        limits = self.set_up.risk.limits
        if instrument.symbol not in limits:
            raise ConfigError(
                f"{path}: [risk.limits.{instrument.symbol}] is missing, expected limits of the"
                " replayed symbol"
            )
        self._risk = msgspec.structs.replace(
            self.set_up.risk, limits={instrument.symbol: limits[instrument.symbol]}
        )
        search_path = Path(path.parent, self.set_up.strategy.search_path)
        self._class = load_strategy(self.set_up.strategy.module, search_path)
        self._params = params_of(self._class, self.set_up.strategy.params)
        self._folder = tempfile.TemporaryDirectory(prefix="tickring-replay-")
        journal = Journal(Path(self._folder.name), Facts(SESSION, 0), "none")
        self._parts, self._others = private_parts(
            journal, 1, self._risk.order_count_max, capacity=RING_SLOTS
        )
        self.cells = self._others.bbo
        self.nowhere = Nowhere(self._others)

    def connect(self, books: Consumer, now_ns: int) -> list:
        """Build the stages behind a book ring, in the order in which they work.

        Args:
            books: consumer of the book ring; the strategy's from now on.
            now_ns: the clock to begin with.
        """
        instruments = instrument_table([self.instrument])
        limits = limit_table(self._risk, [self.instrument])
        _control, control = anonymous_ring("MARKET", 64)
        turns, _turns = anonymous_ring("TURN", RING_SLOTS, overwrite=True)
        self.strategy = StrategyStage(
            self._class,
            self._params,
            instruments,
            anonymous_twin(block_dtype(1, self._class.STATE)),  # type: ignore[attr-defined]
            (self._others.reports, control, books),
            (self._others.intents, turns),
            anonymous_counters(strategy_stage.LABELS, []),
            SESSION,
            0,
        )
        self.risk = RiskStage(self._risk, instruments, limits, self._parts, now_ns, now_ns)
        return [self.strategy, self.risk, self.nowhere]

    def counts(self) -> dict[str, int]:
        """Return what strategy and risk have done."""
        strategy, risk = self.strategy.counters.values, self._parts.counters.values
        return {
            "turns": int(strategy[strategy_stage.Counter.TURNS]),
            "intents": int(strategy[strategy_stage.Counter.INTENTS]),
            "risk_rejects": int(risk[risk_counters.Counter.REJECTS_RISK]),
            "orders_refused": self.nowhere.refused,
        }

    def close(self) -> None:
        """Remove the journal."""
        self._folder.cleanup()

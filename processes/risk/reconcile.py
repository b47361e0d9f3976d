"""Reconciliation with the venue's account, sans-I/O: ask rest for a round, compare, conclude.

A round is RECONCILE_BEGIN, open orders, account trades, positions, balance, RECONCILE_END. It is
asked at start, after a session came up, when a fill is missing or the venue keeps telling another
position than ours, once in a while, and at the end of a run. It proves something only if no fill
was booked while it ran: else it is asked again.

Rules: nothing is mended by sending new orders; open orders of ours that nobody here knows are
canceled; orders that the venue no longer lists become UNKNOWN and are asked for one by one; missed
fills are booked from the account's trades; the first position of a session that two rounds agree on
is the base. An order that the venue has forgotten, or fills that it told and nobody can find, are
held until `missing_count_min` good rounds in a row, over `missing_ns_min`, had nothing of them.
"""

from typing import NamedTuple

import numpy as np

from common import log
from common.enums import ExecType, OrderPending, OrderStatus, ReportKind, ReportSource
from processes.risk.batch import Batch
from processes.risk.config import RiskConfig
from processes.risk.counters import Counter
from processes.risk.oms import (
    ACTIVE,
    ACTIVE_COUNT,
    BOOKED,
    EVICTED_EXEC_ID,
    HAS_BASE,
    NO_ROW,
    PAST_EXEC_ID,
    POSITIONS_DIRTY,
    ROUND_DIFFERENT,
    ROUND_MATCHED,
    ROUND_MISSED,
    ROUND_TRADES,
    WANTS_RECONCILE,
    Oms,
    awaits_proof_since,
    find_client,
)
from processes.risk.positions import Matched, match_trade_at, set_base
from processes.risk.timers import conclude
from processes.risk.turn import take_reports
from shm.ring import read_only

MISMATCHES_MAX = 3  # rounds in a row before trading is stopped
OVERLAP_NS = 60_000_000_000  # how far a later round looks back behind the last good one
_BACK_OFF_SHIFT_MAX = 6


class Stray(NamedTuple):
    """An open order of ours that no row knows, to be canceled."""

    client_order_id: int
    venue_order_id: int
    instrument_id: int


class Quiet(NamedTuple):
    """Good rounds in a row that had nothing of an order that waits for proof of its end."""

    since_ns: int
    rounds: int


class Reconciler:
    """State of the comparison with the venue.

    Attributes:
        is_reconciled: a round that was asked after the last `demand` agreed.
        is_final: a round over the whole session agreed after `demand_final`.
        doubtful: rows that the last round did not list: to become UNKNOWN.
        strays: orders that the last round listed and nobody knows: to be canceled.
    """

    def __init__(self, config: RiskConfig, instrument_count: int) -> None:
        self.timeout_ns = config.reconcile_timeout_ns
        self.retry_ns = config.reconcile_retry_ns
        self.every_ns = config.reconcile_every_ns
        self.fill_timeout_ns = config.fill_timeout_ns
        self.settle_count = config.missing_count_min
        self.settle_ns = config.missing_ns_min
        self.is_reconciled = False
        self.is_final = False
        self.is_final_wanted = False
        self.doubtful: list[int] = []
        self.strays: list[Stray] = []
        self.required_ns = 0  # rounds asked before do not count
        self.asked_ns = 0  # the round under way, 0 none
        self.asked_full = False
        self.due_ns = 0
        self.failures = 0
        self.mismatches = 0
        self.agreed_ns = 0  # when the last good round was asked, 0 never
        self._round_id = 0  # the round being read, 0 none
        self._is_conclusive = False
        self._booked = np.zeros(instrument_count, np.int64)
        self._listed: set[int] = set()
        self._venue: dict[int, tuple[int, int]] = {}
        self._base: dict[int, int] = {}
        self._quiet: dict[int, Quiet] = {}  # by client_order_id
        self._apart_ns = np.zeros(instrument_count, np.int64)  # since when, 0: equal
        self._is_new_base = False
        self.is_silent = False  # while the journal is read

    def demand(self, now_ns: int) -> None:
        """Trust nothing until a round asked from now on has agreed."""
        self.is_reconciled = False
        self.required_ns = now_ns
        self.asked_ns = 0
        self.failures = 0
        self.due_ns = now_ns

    def demand_final(self) -> None:
        """Want one more round, over the whole session."""
        if not self.is_final_wanted:
            self.is_final_wanted = True
            self.asked_ns = self.due_ns = 0

    def wants_round(self, oms: Oms, now_ns: int) -> bool:
        """Return True if a round should be asked for now."""
        if self.asked_ns:
            if now_ns - self.asked_ns < self.timeout_ns:
                return False
            self._fail(oms, now_ns, "timeout")
        is_wanted = (
            not self.is_reconciled
            or (self.is_final_wanted and not self.is_final)
            or oms.words[WANTS_RECONCILE] != 0
            or now_ns - self.agreed_ns >= self.every_ns
        )
        return is_wanted and now_ns >= self.due_ns

    def watch(self, oms: Oms, now_ns: int) -> None:
        """Want a round if the venue's position and ours have been apart for too long.

        A fill and the position that it makes come as two events, so a short difference is normal.
        """
        positions, since_ns = oms.positions, self._apart_ns
        is_apart = positions["venue_position_steps"] != positions["position_steps"]
        is_apart &= positions["ts_venue_position_ns"] != 0
        since_ns[~is_apart] = 0
        since_ns[is_apart & (since_ns == 0)] = now_ns
        if np.any(is_apart & (now_ns - since_ns >= self.fill_timeout_ns)):
            oms.words[WANTS_RECONCILE] = 1
            since_ns[is_apart] = now_ns

    def wants_full(self) -> bool:
        """Return True if the next round must cover all trades of the session."""
        return self.is_final_wanted or not self.agreed_ns

    def look_back_ns(self, oms: Oms, now_ns: int) -> int:
        """Return since when the next round must list trades; 0: of the whole session.

        That is some time before the last good round, or the birth of an order that waits for proof.
        """
        if self.wants_full():
            return 0
        oldest_ns = self.agreed_ns - OVERLAP_NS
        for row in oms.lists[ACTIVE, : oms.words[ACTIVE_COUNT]]:
            if awaits_proof_since(oms, row):
                created_ns = int(oms.orders[row]["ts_created_ns"])
                oldest_ns = min(oldest_ns, created_ns) if created_ns <= now_ns else 0
        return max(oldest_ns, 0)

    def ask(self, oms: Oms, now_ns: int, is_full: bool) -> None:
        """Note that a round was asked for, with `now_ns` as its request_id."""
        self.asked_ns = now_ns
        self.asked_full = is_full
        oms.words[WANTS_RECONCILE] = 0

    def take(self, oms: Oms, report: np.ndarray, now_ns: int) -> None:
        """Take one report that is not of an order's execution.

        Args:
            oms: Oms, changed.
            report: REPORT[1], a private copy.
            now_ns: CLOCK_MONOTONIC of the turn.
        """
        kind = int(report["kind"][0])
        if kind == ReportKind.BALANCE:
            oms.counters[Counter.WALLET_E8] = report["amount_e8"][0]
            return
        i = int(report["instrument_id"][0])
        has_instrument = 0 <= i < len(oms.positions)
        if kind == ReportKind.POSITION and has_instrument:
            self._take_position(oms, report, i, now_ns)
        elif kind == ReportKind.RECONCILE_BEGIN:
            self._begin(oms, int(report["request_id"][0]))
        elif self._round_id == 0 or report["request_id"][0] != self._round_id:
            oms.counters[Counter.REPORTS_BAD] += 1
        elif kind == ReportKind.OPEN_ORDER and has_instrument:
            self._take_open_order(oms, report, i, now_ns)
        elif kind == ReportKind.ACCOUNT_TRADE and has_instrument:
            self._take_trade(oms, report, i, now_ns)
        elif kind == ReportKind.RECONCILE_END:
            self._end(oms, int(report["reject"][0]), now_ns)
        else:
            oms.counters[Counter.REPORTS_BAD] += 1

    def _begin(self, oms: Oms, request_id: int) -> None:
        self._round_id = request_id
        self._is_conclusive = True
        self._booked[:] = oms.marks[:, BOOKED]
        self._listed.clear()
        self._venue.clear()
        self.strays = []
        oms.marks[:, [ROUND_TRADES, ROUND_DIFFERENT, ROUND_MATCHED, ROUND_MISSED]] = 0

    def _take_position(self, oms: Oms, report: np.ndarray, i: int, now_ns: int) -> None:
        steps = int(report["position_steps"][0])
        oms.positions[i]["venue_position_steps"] = steps
        oms.positions[i]["ts_venue_position_ns"] = now_ns
        oms.words[POSITIONS_DIRTY] = 1
        if report["request_id"][0] == self._round_id != 0:
            self._venue[i] = steps, int(report["amount_e8"][0])

    def _take_open_order(self, oms: Oms, report: np.ndarray, i: int, now_ns: int) -> None:
        client_order_id = int(report["client_order_id"][0])
        if client_order_id == 0:
            return  # somebody else's; its fills move the position when they come
        row = find_client(oms, client_order_id)
        if row == NO_ROW or oms.orders[row]["order_status"] >= OrderStatus.FILLED:
            venue_order_id = int(report["venue_order_id"][0])
            self.strays.append(Stray(client_order_id, venue_order_id, i))
            self._is_conclusive = False
        if row != NO_ROW:
            self._listed.add(int(row))
            self._quiet.pop(client_order_id, None)
            report["source"] = ReportSource.QUERY
            _apply(oms, report, ExecType.STATUS, now_ns)

    def _take_trade(self, oms: Oms, report: np.ndarray, i: int, now_ns: int) -> None:
        matched = match_trade_at(oms, read_only(report), 0, self._round_id)
        if matched != Matched.MISSED:
            return
        exec_id = int(report["exec_id"][0])
        if not oms.marks[i, HAS_BASE]:
            oms.marks[i, PAST_EXEC_ID] = max(int(oms.marks[i, PAST_EXEC_ID]), exec_id)
            return
        self._is_conclusive = False
        if _has_unidentified_order(oms, i):
            return  # it may be that order's; the round is asked again when its id is known
        oms.marks[i, ROUND_MISSED] += 1
        before = oms.marks[i, BOOKED]
        report["order_status"] = 0
        _apply(oms, report, ExecType.TRADE, now_ns)
        oms.counters[Counter.FILLS_IMPORTED] += oms.marks[i, BOOKED] - before

    def _end(self, oms: Oms, reject: int, now_ns: int) -> None:
        round_id, self._round_id = self._round_id, 0
        is_asked = round_id == self.asked_ns != 0
        if reject or len(self._venue) < len(oms.positions):
            if is_asked:
                self._fail(oms, now_ns, "no_answer")
            return
        if np.any(self._booked != oms.marks[:, BOOKED]):
            self._is_conclusive = False
        self.doubtful = self._find_doubtful(oms, round_id)
        is_full = is_asked and self.asked_full
        if is_full:
            self._show_matches(oms)
        agrees = self._compare(oms) and self._is_conclusive
        if not is_asked:
            return
        if self._is_new_base:  # once more, to see whether it stays
            self.asked_ns = 0
            self.due_ns = now_ns + self.retry_ns // 4
            return
        if not agrees:
            self._fail(oms, now_ns, "disagrees" if self._is_conclusive else "moved")
            return
        self.asked_ns = 0
        self.failures = self.mismatches = 0
        self.agreed_ns = round_id
        self.is_reconciled = self.is_reconciled or round_id >= self.required_ns
        self.is_final = self.is_final or (is_full and self.is_final_wanted)
        oms.counters[Counter.RECONCILES] += 1
        _ask_again_for_unknown(oms)
        self._count_quiet(oms, round_id, now_ns)

    def _count_quiet(self, oms: Oms, round_id: int, now_ns: int) -> None:
        """Count a good round for the orders that it could have told of; others begin anew."""
        before, self._quiet = self._quiet, {}
        for row in oms.lists[ACTIVE, : oms.words[ACTIVE_COUNT]]:
            order = oms.orders[row]
            waits_ns = _waits_since(oms, int(row), now_ns)
            if not 0 < waits_ns < round_id or int(row) in self._listed:
                continue
            order_id = int(order["client_order_id"])
            since_ns, rounds = before.get(order_id, (round_id, 0))
            if since_ns <= waits_ns:
                since_ns, rounds = round_id, 0
            self._quiet[order_id] = Quiet(since_ns, rounds + 1)
        if self._quiet:
            oms.words[WANTS_RECONCILE] = 1
            self.due_ns = now_ns + self.settle_ns // self.settle_count

    def settle(self, oms: Oms, batch: Batch, consumed: int, now_ns: int) -> None:
        """Write own reports of what enough good rounds have proved.

        Args:
            oms: Oms, changed: counters.
            batch: Batch, changed: own reports, for the stage to apply.
            consumed: the gateway's cursor in the order ring: a request behind it may yet be sent.
            now_ns: CLOCK_MONOTONIC of the turn.
        """
        for order_id, quiet in self._quiet.items():
            if quiet.rounds < self.settle_count or now_ns - quiet.since_ns < self.settle_ns:
                continue
            row = int(find_client(oms, order_id))
            if row == NO_ROW:
                continue
            order = oms.orders[row]
            waits_ns = _waits_since(oms, row, now_ns)
            if not 0 < waits_ns < quiet.since_ns or consumed <= order["order_sequence"]:
                continue  # rounds before a new doubt say nothing of it
            is_lost = bool(order["order_pending"] & OrderPending.UNKNOWN)
            if is_lost and order["missing_count"] < self.settle_count:
                continue  # the rounds are enough, the answers to its queries are not
            exec_type = ExecType.CANCELED if is_lost else ExecType.STATUS
            if not conclude(oms, batch, row, int(exec_type), 0):
                return
            oms.counters[Counter.ORDERS_LOST if is_lost else Counter.FILLS_LOST] += 1
            log.event(
                "order_lost" if is_lost else "fills_lost",
                client_order_id=order_id,
                told=int(order["venue_cum_qty_steps"]),
                booked=int(order["cum_qty_steps"]),
            )

    def _find_doubtful(self, oms: Oms, round_id: int) -> list[int]:
        """Rows that were acknowledged before the round was asked, and that it did not list."""
        doubtful = []
        for row in oms.lists[ACTIVE, : oms.words[ACTIVE_COUNT]]:
            order = oms.orders[row]
            is_open = order["order_status"] in (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED)
            is_unknown = order["order_pending"] & OrderPending.UNKNOWN
            if is_open and not is_unknown and order["ts_created_ns"] < round_id:
                if int(row) not in self._listed:
                    doubtful.append(int(row))
        return doubtful

    def _show_matches(self, oms: Oms) -> None:
        """Write what the comparison of the whole session's trades found into the positions."""
        for i, marks in enumerate(oms.marks):
            unlisted = 0
            if marks[EVICTED_EXEC_ID] == 0:
                unlisted = max(int(marks[BOOKED] - marks[ROUND_MATCHED]), 0)
            position = oms.positions[i]
            position["venue_trade_count"] = marks[ROUND_TRADES]
            position["mismatch_count"] = marks[ROUND_DIFFERENT] + marks[ROUND_MISSED] + unlisted
        oms.words[POSITIONS_DIRTY] = 1

    def _compare(self, oms: Oms) -> bool:
        """Compare positions, or set the base of those that have none; True if all are equal."""
        agrees = True
        self._is_new_base = False
        for i, (steps, entry_price_e8) in self._venue.items():
            position = oms.positions[i]
            if not oms.marks[i, HAS_BASE]:
                base = steps - int(position["position_steps"])
                if self._is_conclusive and self._base.get(i) == base:
                    set_base(oms, i, steps, entry_price_e8)
                else:
                    agrees = False
                    self._is_new_base = self._is_conclusive
                    self._base[i] = base
            elif steps != position["position_steps"]:
                agrees = False
                if self._is_conclusive:
                    self._tell_mismatch(oms, i, steps)
        return agrees

    def _tell_mismatch(self, oms: Oms, i: int, venue_steps: int) -> None:
        oms.counters[Counter.POSITION_MISMATCHES] += 1
        if not self.is_silent:
            steps = int(oms.positions[i]["position_steps"])
            log.event("position_mismatch", instrument_id=i, ours=steps, venue=venue_steps)

    def _fail(self, oms: Oms, now_ns: int, why: str) -> None:
        self.asked_ns = 0
        self.failures += 1
        oms.words[WANTS_RECONCILE] = 1
        self.due_ns = now_ns + (self.retry_ns << min(self.failures - 1, _BACK_OFF_SHIFT_MAX))
        oms.counters[Counter.RECONCILES_FAILED] += 1
        self.mismatches += why == "disagrees"
        if self.mismatches >= MISMATCHES_MAX and self.is_reconciled:
            self.is_reconciled = False
            log.event("reconcile_lost", rounds=self.mismatches)

    def restart(self, now_ns: int) -> None:
        """Begin anew after the journal was read: what it concluded is the past."""
        self.doubtful, self.strays = [], []
        self._quiet = {}
        self.asked_ns = self.mismatches = self.agreed_ns = 0
        self.demand(now_ns)


def _apply(oms: Oms, report: np.ndarray, exec_type: ExecType, now_ns: int) -> None:
    """Apply a report of the account as if it were an execution report."""
    report["kind"] = ReportKind.EXECUTION
    report["exec_type"] = exec_type
    take_reports(oms, read_only(report), 0, 1, now_ns)


def _waits_since(oms: Oms, row: int, now_ns: int) -> int:
    """As `awaits_proof_since`; an instant of another boot is long ago."""
    waits_ns = int(awaits_proof_since(oms, row))
    return 1 if waits_ns > now_ns else waits_ns


def _has_unidentified_order(oms: Oms, i: int) -> bool:
    """Return True if an order of the instrument may be at the venue and has no venue id yet."""
    for row in oms.lists[ACTIVE, : oms.words[ACTIVE_COUNT]]:
        order = oms.orders[row]
        if order["instrument_id"] == i and order["venue_order_id"] == 0:
            return True
    return False


def _ask_again_for_unknown(oms: Oms) -> None:
    """Let the queries of orders that are still UNKNOWN begin anew."""
    for row in oms.lists[ACTIVE, : oms.words[ACTIVE_COUNT]]:
        oms.orders[row]["query_count"] = 0

"""Jobs that ask about the account: one order, or a whole reconciliation round.

A round is RECONCILE_BEGIN, the open orders, the account's trades since the session began, the
positions, the balance, RECONCILE_END; an end with a reject says that what came before is not all.
"""

from collections.abc import Generator

import msgspec

from common import log, order_ids
from common.binance import (
    NOT_OURS,
    NS_PER_MS,
    SIDES,
    Id,
    Ms,
    OrderObject,
    e8_from_text,
    read_order,
    reject_of,
    set_owner,
    signed_qty_steps,
)
from common.enums import ExecType, LiquiditySide, Reject, ReportKind, ReportSource
from common.instruments import Instrument
from common.messages import Report
from processes.rest.calls import Answer, Call
from processes.rest.counters import Counter
from processes.rest.desk import Asking, Desk
from processes.rest.scheduler import Steps, Wait

ATTEMPT_NS = 100 * NS_PER_MS
ATTEMPT_NS_MAX = 2_000 * NS_PER_MS
NO_SUCH_ORDER_CODE = -2013
TRADES_PER_PAGE = 1_000
TRADES_WINDOW_MS = 7 * 86_400_000 - 1  # startTime and endTime must be less than 7 days apart
ALL_SYMBOLS_WEIGHT = 40

Round = Generator[Call | Wait, Answer | None, bool]


class _Trade(msgspec.Struct):
    """One element of userTrades; it has no client order id."""

    symbol: str
    id: Id
    orderId: Id
    side: str
    price: str
    qty: str
    time: Ms
    commission: str = "0"
    commissionAsset: str = ""
    maker: bool = False


class _Position(msgspec.Struct):
    """One element of positionRisk v3."""

    symbol: str
    positionAmt: str
    positionSide: str = "BOTH"
    entryPrice: str = "0"
    updateTime: Ms = 0


class _Balance(msgspec.Struct):
    """One element of balance v3."""

    asset: str
    balance: str
    updateTime: Ms = 0


_order = msgspec.json.Decoder(OrderObject)
_orders = msgspec.json.Decoder(list[OrderObject])
_trades = msgspec.json.Decoder(list[_Trade])
_positions = msgspec.json.Decoder(list[_Position])
_balances = msgspec.json.Decoder(list[_Balance])


class OrderQuery(msgspec.Struct, frozen=True):
    """REST_REQUEST of kind ORDER_QUERY."""

    instrument: Instrument
    request_id: int
    client_order_id: int
    venue_order_id: int
    attempt: int


def query_order(desk: Desk, query: OrderQuery) -> Steps:
    """Ask for one order and report its state; not found is a state too (query-order page)."""
    if query.attempt > 0:
        yield Wait(min(ATTEMPT_NS << min(query.attempt, 10), ATTEMPT_NS_MAX))
    params: dict[str, str | int] = {"symbol": query.instrument.symbol}
    if query.client_order_id > 0:
        params["origClientOrderId"] = order_ids.to_text(query.client_order_id)
    else:
        params["orderId"] = query.venue_order_id
    answer = yield from desk.ask(Call("GET", "/fapi/v1/order", params))
    report = Report(
        kind=ReportKind.EXECUTION,
        exec_type=ExecType.UNKNOWN,
        source=ReportSource.QUERY,
        instrument_id=query.instrument.instrument_id,
        client_order_id=query.client_order_id,
        venue_order_id=query.venue_order_id,
        request_id=query.request_id,
        venue_code=answer.code,
        ts_report_recv_ns=answer.ts_recv_ns,
    )
    if query.client_order_id > 0:
        report.strategy_id = order_ids.unpack(query.client_order_id)[1]
    if answer.is_ok:
        try:
            read_order(report, _order.decode(answer.body), query.instrument)
            report.exec_type = ExecType.STATUS
        except (ValueError, RecursionError) as error:
            desk.count_bad_answer("order", error)
    elif answer.code == NO_SUCH_ORDER_CODE:
        report.exec_type = ExecType.STATUS
        report.reject = Reject.VENUE_UNKNOWN_ORDER
    desk.values[Counter.ORDER_QUERIES] += 1
    desk.reports.append(report)


class Reconcile:
    """One reconciliation round.

    Args:
        instruments: whose orders, trades and positions.
        trade_id_from: first account trade wanted, only with one instrument; 0 by time.
        ts_session_ns: venue's wall clock when the session began; 0: seven days ago.
    """

    def __init__(
        self,
        desk: Desk,
        instruments: list[Instrument],
        request_id: int,
        trade_id_from: int,
        ts_session_ns: int,
    ) -> None:
        self.desk = desk
        self.instruments = instruments
        self.request_id = request_id
        self.trade_id_from = trade_id_from if len(instruments) == 1 else 0
        self.ts_session_ms = ts_session_ns // NS_PER_MS
        self.is_current = True
        self.is_done = False

    def run(self) -> Steps:
        """Ask for everything, one after the other; stop at the first failure."""
        self.report(ReportKind.RECONCILE_BEGIN)
        reject = Reject.NONE
        try:
            for part in (self.open_orders(), self.all_trades(), self.positions(), self.balance()):
                answer = yield from part
                if not answer.is_ok:
                    reject = reject_of(answer.outcome, answer.code) or Reject.GATEWAY_DOWN
                if not self.is_current:
                    reject = Reject.NOT_RECONCILED  # a newer round has been asked for
                if reject:
                    log.event("reconcile_failed", status=answer.status, code=answer.code)
                    break
        except (ValueError, RecursionError) as error:
            self.desk.count_bad_answer("reconcile", error)
            reject = Reject.VENUE
        self.is_done = True
        end = self.report(ReportKind.RECONCILE_END)
        end.reject = reject
        failed = Counter.RECONCILES_FAILED if reject else Counter.RECONCILES
        self.desk.values[failed] += 1

    def report(self, kind: ReportKind, answer: Answer | None = None) -> Report:
        """Add one report of this round."""
        report = Report(kind=kind, source=ReportSource.QUERY, request_id=self.request_id)
        report.ts_report_recv_ns = answer.ts_recv_ns if answer else self.desk.now_ns
        self.desk.reports.append(report)
        return report

    def open_orders(self) -> Asking:
        """Tell the open orders, symbol by symbol or all at once, whichever weighs less."""
        if len(self.instruments) > ALL_SYMBOLS_WEIGHT:
            call = Call("GET", "/fapi/v1/openOrders", weight=ALL_SYMBOLS_WEIGHT)
            answer = yield from self.desk.ask(call)
            if answer.is_ok:
                self.tell_orders(answer)
            return answer
        for instrument in self.instruments:
            answer = yield from self.desk.ask(open_orders_call(instrument))
            if not answer.is_ok or not self.is_current:
                return answer
            self.tell_orders(answer)
        return answer

    def tell_orders(self, answer: Answer) -> None:
        """Report the orders of one answer."""
        for order in _orders.decode(answer.body):
            instrument = self.desk.symbols.get(order.symbol)
            if instrument is None:
                continue
            report = self.report(ReportKind.OPEN_ORDER, answer)
            report.exec_type = ExecType.STATUS
            report.instrument_id = instrument.instrument_id
            set_owner(report, order.clientOrderId)
            read_order(report, order, instrument)

    def all_trades(self) -> Asking:
        """Tell the account's trades of every instrument."""
        for instrument in self.instruments:
            answer = yield from self.trades(instrument)
            if not answer.is_ok or not self.is_current:
                return answer
        return answer

    def trades(self, instrument: Instrument) -> Asking:
        """Tell one symbol's trades: by time until one is found, then by id (userTrades page)."""
        from_id = self.trade_id_from
        start_ms = self.ts_session_ms or self.desk.venue_ms() - TRADES_WINDOW_MS
        for _ in range(self.desk.config.pages_max):
            is_by_id = from_id > 0
            params: dict[str, str | int] = {"symbol": instrument.symbol, "limit": TRADES_PER_PAGE}
            if is_by_id:
                params["fromId"] = from_id
            else:
                params["startTime"] = start_ms
                params["endTime"] = start_ms + TRADES_WINDOW_MS
            call = Call("GET", "/fapi/v1/userTrades", params, weight=5)
            answer = yield from self.desk.ask(call)
            if not answer.is_ok or not self.is_current:
                return answer
            trades = _trades.decode(answer.body)
            for trade in trades:
                self.tell_trade(trade, instrument, answer)
            if trades:
                from_id = max(trade.id for trade in trades) + 1
            is_last_window = start_ms + TRADES_WINDOW_MS >= self.desk.venue_ms()
            if len(trades) < TRADES_PER_PAGE and (is_by_id or is_last_window):
                return answer
            if not trades:
                start_ms += TRADES_WINDOW_MS + 1
        raise ValueError(
            f"userTrades of {instrument.symbol}: more than {self.desk.config.pages_max} pages"
        )

    def tell_trade(self, trade: _Trade, instrument: Instrument, answer: Answer) -> None:
        """Report one account trade."""
        if trade.symbol != instrument.symbol or trade.side not in SIDES:
            raise ValueError(f"trade is of {trade.symbol[:40]} {trade.side[:40]}")
        report = self.report(ReportKind.ACCOUNT_TRADE, answer)
        report.exec_type = ExecType.TRADE
        report.instrument_id = instrument.instrument_id
        report.strategy_id = NOT_OURS
        report.side = SIDES[trade.side]
        report.venue_order_id = trade.orderId
        report.exec_id = trade.id
        report.last_qty_steps = instrument.qty_steps(trade.qty)
        report.last_px_steps = instrument.price_steps(trade.price)
        report.liquidity_side = LiquiditySide.MAKER if trade.maker else LiquiditySide.TAKER
        report.ts_exch_ns = trade.time * NS_PER_MS
        if trade.commissionAsset == self.desk.config.quote_asset:
            report.fee_e8 = e8_from_text(trade.commission)
        elif trade.commissionAsset:
            self.desk.values[Counter.FOREIGN_FEES] += 1
        self.desk.values[Counter.ACCOUNT_TRADES] += 1

    def positions(self) -> Asking:
        """Tell the position of every instrument; one that is not listed is flat."""
        call = Call("GET", "/fapi/v3/positionRisk", weight=5)
        answer = yield from self.desk.ask(call)
        if not answer.is_ok:
            return answer
        listed = {}
        for position in _positions.decode(answer.body):
            if position.symbol not in self.desk.symbols:
                continue
            if position.positionSide != "BOTH":  # the orders we send would fail with -4061
                raise ValueError(f"position mode is hedge ({position.symbol}), expected one-way")
            listed[position.symbol] = position
        for instrument in self.instruments:
            report = self.report(ReportKind.POSITION, answer)
            report.instrument_id = instrument.instrument_id
            found = listed.get(instrument.symbol)
            if found is not None:
                report.position_steps = signed_qty_steps(found.positionAmt, instrument)
                report.amount_e8 = e8_from_text(found.entryPrice)
                report.ts_exch_ns = found.updateTime * NS_PER_MS
        return answer

    def balance(self) -> Asking:
        """Tell the wallet balance of the quote asset."""
        answer = yield from self.desk.ask(Call("GET", "/fapi/v3/balance", weight=5))
        if answer.is_ok:
            for balance in _balances.decode(answer.body):
                if balance.asset == self.desk.config.quote_asset:
                    report = self.report(ReportKind.BALANCE, answer)
                    report.amount_e8 = e8_from_text(balance.balance)
                    report.ts_exch_ns = balance.updateTime * NS_PER_MS
        return answer


def open_orders_call(instrument: Instrument) -> Call:
    """Return the call for a symbol's open orders; the list is authoritative (openOrders page)."""
    return Call("GET", "/fapi/v1/openOrders", {"symbol": instrument.symbol})


def has_open_orders(answer: Answer) -> bool:
    """Return True if an openOrders answer lists any order.

    Raises:
        ValueError, RecursionError: it cannot be read.
    """
    return bool(_orders.decode(answer.body))

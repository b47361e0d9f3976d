"""Jobs that change orders: the fallback for the order socket, and canceling everything.

A new order or a modification is never sent twice. Canceling may be: it does the same each time.
"""

from collections.abc import Generator, Sequence

import msgspec

from common import log
from common.binance import (
    NS_PER_MS,
    OrderObject,
    Outcome,
    accepted_report,
    is_encodable,
    order_params,
    refused_report,
    reject_of,
    saturate_int32,
    unknown_report,
)
from common.enums import Reject, RequestKind
from common.instruments import Instrument
from common.messages import OrderRequest, Report
from processes.rest.account import has_open_orders, open_orders_call
from processes.rest.calls import Answer, Call, Priority
from processes.rest.counters import Counter
from processes.rest.desk import Desk
from processes.rest.scheduler import Steps, Wait
from processes.rest.session import countdown

ORDER_PATH = "/fapi/v1/order"
# Since risk published it. Its price is old then, and a rest that comes back after its death must
# not send what it finds in the ring.
ORDER_AGE_NS_MAX = 1_000 * NS_PER_MS
METHODS = {RequestKind.NEW: "POST", RequestKind.REPLACE: "PUT", RequestKind.CANCEL: "DELETE"}
OPENING = (RequestKind.NEW, RequestKind.REPLACE)
SWEEP_RETRY_NS = 200 * NS_PER_MS
SWEEP_RETRY_NS_MAX = 1_000 * NS_PER_MS  # it must go out as soon as there is a connection
SWEEP_LOOK_NS = 5_000 * NS_PER_MS
SWEEP_LOOK_NS_PER_SYMBOL = 100 * NS_PER_MS  # keeps many symbols within the weight limit
STOP_GRACE_NS = 500 * NS_PER_MS
STOP_LOOK_NS = 200 * NS_PER_MS
EMPTY_LOOKS = 2  # in a row, before an open-order list is believed to stay empty

LookSteps = Generator[Call | Wait, Answer | None, bool]

_order = msgspec.json.Decoder(OrderObject)


def take_order(desk: Desk, request: OrderRequest) -> None:
    """Start what the gateway forwards: an order, a change, or a cancel-all."""
    if request.kind == RequestKind.CANCEL_ALL:
        cancel_all(desk, desk.scope(request.instrument_id))
        return
    if not is_encodable(request, len(desk.instruments)):
        desk.values[Counter.REQUESTS_BAD] += 1
        if request.kind in METHODS:
            desk.reports.append(refused_report(request, Reject.BAD_REQUEST))
        return
    is_opening = request.kind in OPENING
    priority = Priority.ORDER if is_opening else Priority.CANCEL
    deadline_ns = request.ts_pub_ns + ORDER_AGE_NS_MAX if is_opening else 0
    if not desk.spawn(priority, send_order(desk, request), deadline_ns):
        desk.reports.append(refused_report(request, Reject.GATEWAY_FULL))


def send_order(desk: Desk, request: OrderRequest) -> Steps:
    """Send one request and report what came of it."""
    is_opening = request.kind in OPENING
    refusal = desk.refusal(request) if is_opening else Reject.NONE
    if refusal:
        desk.values[Counter.ORDERS_REFUSED] += 1
        desk.reports.append(refused_report(request, refusal))
        return
    instrument = desk.instruments[request.instrument_id]
    params = order_params(request, instrument, desk.stp_mode)
    call = Call(
        METHODS[RequestKind(request.kind)],
        ORDER_PATH,
        params,
        weight=0 if request.kind == RequestKind.NEW else 1,
        is_opening=is_opening,
    )
    answer = yield call
    assert answer is not None
    if answer.ts_sent_ns:
        desk.values[Counter.ORDERS_SENT] += 1
    desk.is_clock_wanted |= answer.outcome is Outcome.CLOCK
    report = judge(desk, request, instrument, answer)
    if answer.ts_sent_ns:
        report.risk_to_sent_ns = saturate_int32(answer.ts_sent_ns - request.ts_pub_ns)
        report.sent_to_ack_ns = saturate_int32(answer.ts_recv_ns - answer.ts_sent_ns)
    report.ts_report_recv_ns = answer.ts_recv_ns
    desk.reports.append(report)


def judge(desk: Desk, request: OrderRequest, instrument: Instrument, answer: Answer) -> Report:
    """Return the report of one answered request (3A.9: unknown is not rejected)."""
    if answer.is_ok:
        try:
            return accepted_report(request, _order.decode(answer.body), instrument)
        except (ValueError, RecursionError) as error:
            desk.count_bad_answer("order", error)
            return unknown_report(request)
    if answer.outcome is Outcome.UNKNOWN:
        return unknown_report(request, answer.code)
    if answer.status == 0:  # it never left us
        desk.values[Counter.ORDERS_REFUSED] += 1
        if desk.is_killed:
            reject = Reject.KILLED
        else:
            reject = Reject.STOPPING if desk.is_stopping() else Reject.GATEWAY_DOWN
    else:
        reject = reject_of(answer.outcome, answer.code)
    return refused_report(request, reject, answer.code)


def cancel_all_call(instrument: Instrument) -> Call:
    """Return the call that cancels all open orders of a symbol."""
    return Call("DELETE", "/fapi/v1/allOpenOrders", {"symbol": instrument.symbol})


def cancel_all(desk: Desk, instruments: Sequence[Instrument]) -> None:
    """Cancel everything of some instruments once, repeated until the venue says done."""
    if not instruments:
        desk.values[Counter.REQUESTS_BAD] += 1
    for instrument in instruments:
        desk.spawn(Priority.CANCEL, cancel_symbol(desk, instrument))


def cancel_symbol(desk: Desk, instrument: Instrument) -> Steps:
    """Cancel one symbol's orders; the answer is an ack, the stream tells what happened."""
    answer = yield from desk.ask(cancel_all_call(instrument))
    if answer.is_ok:
        desk.values[Counter.CANCEL_ALLS] += 1
    else:
        desk.values[Counter.CANCEL_ALLS_FAILED] += 1
        log.event("cancel_all_failed", symbol=instrument.symbol, code=answer.code)


class Guard:
    """Cancels on our own decision: killed, or the gateway is dead; and tidies up at the end.

    Attributes:
        is_finished: stopping, the venue shows no open order, the dead-man timers are disarmed.
    """

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.sweeping: set[int] = set()
        self.was_emergency = False
        self.is_finishing = False
        self.is_finished = False

    def is_emergency(self) -> bool:
        """Return True while nobody else can be trusted to cancel."""
        return self.desk.is_killed or self.desk.is_gateway_dead

    def look(self) -> None:
        """Start what the situation asks for."""
        desk = self.desk
        if self.is_emergency():
            if not self.was_emergency:
                desk.values[Counter.EMERGENCIES] += 1
                log.event("cancel_everything", killed=desk.is_killed, dead=desk.is_gateway_dead)
            for instrument in desk.instruments:
                row = instrument.instrument_id
                if row in self.sweeping:
                    continue
                if desk.spawn(Priority.EMERGENCY, self.sweep(instrument)):
                    self.sweeping.add(row)
        self.was_emergency = self.is_emergency()
        if desk.is_stopping() and not self.is_finishing:
            self.is_finishing = True
            desk.spawn(Priority.EMERGENCY, self.finish())

    def sweep(self, instrument: Instrument) -> Steps:
        """Cancel a symbol's orders, look, and again, until it stays empty and all is well.

        What was in flight when the gateway died may still land, so an empty list is looked at
        again for as long as the emergency lasts.
        """
        empty_looks = failures = 0
        look_ns = max(SWEEP_LOOK_NS, SWEEP_LOOK_NS_PER_SYMBOL * len(self.desk.instruments))
        while empty_looks < EMPTY_LOOKS or self.is_emergency():
            if empty_looks == 0:
                answer = yield cancel_all_call(instrument)
                assert answer is not None
                if not answer.is_ok:
                    self.note_failure(instrument, answer, failures)
                    yield Wait(min(SWEEP_RETRY_NS << min(failures, 8), SWEEP_RETRY_NS_MAX))
                    failures += 1
                    continue
                failures = 0
                self.desk.values[Counter.CANCEL_ALLS] += 1
            is_empty = yield from self.look_at(instrument)
            empty_looks = empty_looks + 1 if is_empty else 0
            yield Wait(look_ns if empty_looks >= EMPTY_LOOKS else SWEEP_RETRY_NS)
        self.sweeping.discard(instrument.instrument_id)

    def note_failure(self, instrument: Instrument, answer: Answer, failures: int) -> None:
        """Count a cancel-all that failed, and tell of the 1st, 2nd, 4th, 8th in a row."""
        desk = self.desk
        desk.is_clock_wanted |= answer.outcome is Outcome.CLOCK
        desk.values[Counter.CANCEL_ALLS_FAILED] += 1
        if failures & (failures + 1) == 0:
            log.event(
                "cancel_all_failed",
                symbol=instrument.symbol,
                code=answer.code,
                in_a_row=failures + 1,
                why=answer.message,
            )

    def look_at(self, instrument: Instrument) -> LookSteps:
        """Return True if the venue shows no open order of a symbol."""
        answer = yield open_orders_call(instrument)
        assert answer is not None
        if not answer.is_ok:
            return False
        try:
            return not has_open_orders(answer)
        except (ValueError, RecursionError) as error:
            self.desk.count_bad_answer("openOrders", error)
            return False

    def finish(self) -> Steps:
        """At the end of a run: let risk cancel, help it after a while, then disarm the timers.

        The timers are disarmed only when nothing is open; otherwise they are left to fire.
        """
        desk = self.desk
        started_ns = desk.now_ns
        empty_looks = 0
        while empty_looks < EMPTY_LOOKS:
            yield Wait(STOP_LOOK_NS)
            is_empty = True
            for instrument in desk.instruments:
                if (yield from self.look_at(instrument)):
                    continue
                is_empty = False
                if desk.now_ns - started_ns > STOP_GRACE_NS:
                    yield cancel_all_call(instrument)
            empty_looks = empty_looks + 1 if is_empty else 0
        desk.is_dead_man_wanted = False
        for instrument in desk.instruments:
            if desk.armed_until_ns[instrument.instrument_id]:
                yield from desk.ask(countdown(instrument, 0))
                desk.armed_until_ns[instrument.instrument_id] = 0
        log.event("rest_finished")
        self.is_finished = True

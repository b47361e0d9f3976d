"""What risk counts and measures, with the labels that operators read."""

from enum import IntEnum


class Counter(IntEnum):
    """Index into the counter values; REJECT_BAD_REQUEST to REJECT_JOURNAL as in Reject."""

    INTENTS = 0
    ORDERS_SENT = 1
    REPLACES_SENT = 2
    CANCELS_SENT = 3
    CANCELS_OWN = 4
    ACKS = 5
    FILLS = 6
    REJECTS_RISK = 7
    REJECTS_VENUE = 8
    REPORTS = 9
    REPORTS_BAD = 10
    FILLS_DUPLICATE = 11
    FILLS_LATE = 12
    FILLS_FOREIGN = 13
    FILLS_IMPORTED = 14
    FILLS_TOO_OLD = 15
    OVERFILLS = 16
    ORDERS_UNKNOWN = 17
    ORDERS_QUERIED = 18
    ORDERS_STUCK = 19
    ORDERS_ZOMBIE = 20
    CONTRADICTIONS = 21
    CANCEL_REJECTS = 22
    REPLACE_REJECTS = 23
    RECONCILES = 24
    RECONCILES_FAILED = 25
    POSITION_MISMATCHES = 26
    FOREIGN_ORDERS_CANCELED = 27
    JOURNAL_BYTES = 28
    JOURNAL_FRAMES = 29
    JOURNAL_FAILURES = 30
    REPORTS_SPILLED = 31
    RESETS = 32
    NOTIONAL_OVERFLOWS = 33
    ACTIVE_ORDERS = 34
    UNKNOWN_ORDERS = 35
    WALLET_E8 = 36
    REJECT_NOT_READY = 37
    REJECT_BAD_REQUEST = 38
    REJECT_ORDER_QTY = 39
    REJECT_ORDER_NOTIONAL = 40
    REJECT_POSITION = 41
    REJECT_PRICE_BAND = 42
    REJECT_STALE_BOOK = 43
    REJECT_KILLED = 44
    REJECT_TICK_SIZE = 45
    REJECT_LOT_SIZE = 46
    REJECT_MIN_NOTIONAL = 47
    REJECT_UNKNOWN_ORDER = 48
    REJECT_DUPLICATE_ID = 49
    REJECT_ORDER_TABLE_FULL = 50
    REJECT_NOT_RECONCILED = 51
    REJECT_STOPPING = 52
    REJECT_INSTRUMENT = 53
    REJECT_OPEN_ORDERS = 54
    REJECT_REPORTS_FULL = 55
    REJECT_JOURNAL = 56
    REJECT_ORDER_RATE = 57
    REJECT_GATEWAY_FULL = 58
    REJECT_IN_FLIGHT = 59
    REJECT_OTHER = 60
    ORDERS_LOST = 61
    FILLS_LOST = 62
    RECONCILED_NS = 63


LABELS = {
    Counter.INTENTS: "Intents read from strategies (monotonic)",
    Counter.ORDERS_SENT: "New orders published to the gateway (monotonic)",
    Counter.REPLACES_SENT: "Replaces published to the gateway (monotonic)",
    Counter.CANCELS_SENT: "Cancels published to the gateway, own ones included (monotonic)",
    Counter.CANCELS_OWN: "Cancels that risk itself decided on (monotonic)",
    Counter.ACKS: "Orders that the venue acknowledged (monotonic)",
    Counter.FILLS: "Fills of our orders booked (monotonic)",
    Counter.REJECTS_RISK: "Intents refused by risk (monotonic)",
    Counter.REJECTS_VENUE: "New orders refused by gateway or venue (monotonic)",
    Counter.REPORTS: "Reports read from gateway and rest (monotonic)",
    Counter.REPORTS_BAD: "Reports dropped: impossible fields (monotonic)",
    Counter.FILLS_DUPLICATE: "Fills that were booked already (monotonic)",
    Counter.FILLS_LATE: "Fills booked on terminal orders (monotonic)",
    Counter.FILLS_FOREIGN: "Fills booked of orders that are not in the table (monotonic)",
    Counter.FILLS_IMPORTED: "Fills that the stream missed, booked by reconciliation (monotonic)",
    Counter.FILLS_TOO_OLD: "Fills not booked: older than the memory of fills (monotonic)",
    Counter.OVERFILLS: "Fills over the order quantity: accepted, look at them (monotonic)",
    Counter.ORDERS_UNKNOWN: "Times an order became UNKNOWN (monotonic)",
    Counter.ORDERS_QUERIED: "Order queries asked (monotonic)",
    Counter.ORDERS_STUCK: "Orders still UNKNOWN after the last query (monotonic)",
    Counter.ORDERS_ZOMBIE: "Rejected orders that turned out to be alive (monotonic)",
    Counter.CONTRADICTIONS: "Rejections of orders that the venue had accepted (monotonic)",
    Counter.CANCEL_REJECTS: "Cancels refused by gateway or venue (monotonic)",
    Counter.REPLACE_REJECTS: "Replaces refused by gateway or venue (monotonic)",
    Counter.RECONCILES: "Reconciliations that agreed (monotonic)",
    Counter.RECONCILES_FAILED: "Reconciliations without an answer or in disagreement (monotonic)",
    Counter.POSITION_MISMATCHES: "Positions that differed from the venue's (monotonic)",
    Counter.FOREIGN_ORDERS_CANCELED: "Open orders of earlier sessions canceled (monotonic)",
    Counter.JOURNAL_BYTES: "Bytes written to the journal (monotonic)",
    Counter.JOURNAL_FRAMES: "Frames written to the journal (monotonic)",
    Counter.JOURNAL_FAILURES: "Journal writes that failed: trading is halted (monotonic)",
    Counter.REPORTS_SPILLED: "Reports waiting for room in the strategy's ring (gauge)",
    Counter.RESETS: "Times a strategy was told to forget its orders (monotonic)",
    Counter.NOTIONAL_OVERFLOWS: "Fills left out of PnL: value over int64 (monotonic)",
    Counter.ACTIVE_ORDERS: "Orders that may still fill (gauge)",
    Counter.UNKNOWN_ORDERS: "Orders whose state is not known (gauge)",
    Counter.WALLET_E8: "Wallet balance, 1e-8 quote (gauge)",
    Counter.REJECT_NOT_READY: "Refused: strategy not attached (monotonic)",
    Counter.REJECT_BAD_REQUEST: "Refused: impossible request (monotonic)",
    Counter.REJECT_ORDER_QTY: "Refused: order quantity (monotonic)",
    Counter.REJECT_ORDER_NOTIONAL: "Refused: order notional (monotonic)",
    Counter.REJECT_POSITION: "Refused: position at the worst case (monotonic)",
    Counter.REJECT_PRICE_BAND: "Refused: price too far from the mid (monotonic)",
    Counter.REJECT_STALE_BOOK: "Refused: book stale or invalid (monotonic)",
    Counter.REJECT_KILLED: "Refused: killed (monotonic)",
    Counter.REJECT_TICK_SIZE: "Refused: price off the tick (monotonic)",
    Counter.REJECT_LOT_SIZE: "Refused: quantity off the lot (monotonic)",
    Counter.REJECT_MIN_NOTIONAL: "Refused: notional under the venue's minimum (monotonic)",
    Counter.REJECT_UNKNOWN_ORDER: "Refused: no such open order (monotonic)",
    Counter.REJECT_DUPLICATE_ID: "Refused: order id used before (monotonic)",
    Counter.REJECT_ORDER_TABLE_FULL: "Refused: order table full (monotonic)",
    Counter.REJECT_NOT_RECONCILED: "Refused: not reconciled with the venue (monotonic)",
    Counter.REJECT_STOPPING: "Refused: stopping (monotonic)",
    Counter.REJECT_INSTRUMENT: "Refused: no such instrument (monotonic)",
    Counter.REJECT_OPEN_ORDERS: "Refused: too many open orders (monotonic)",
    Counter.REJECT_ORDER_RATE: "Refused: order rate (monotonic)",
    Counter.REJECT_GATEWAY_FULL: "Refused: order ring full (monotonic)",
    Counter.REJECT_REPORTS_FULL: "Refused: strategy does not read its reports (monotonic)",
    Counter.REJECT_JOURNAL: "Refused: journal cannot be written (monotonic)",
    Counter.REJECT_IN_FLIGHT: "Refused: a request for the order is in flight (monotonic)",
    Counter.REJECT_OTHER: "Refused: other reasons (monotonic)",
    Counter.ORDERS_LOST: "Acknowledged orders that the venue forgot, ended (monotonic)",
    Counter.FILLS_LOST: "Orders whose told quantity was more than the account's trades (monotonic)",
    Counter.RECONCILED_NS: "When trading was last allowed again, CLOCK_MONOTONIC ns (gauge)",
}
assert set(LABELS) == set(Counter), "each Counter needs a label: operators read it"


class Hop(IntEnum):
    """Index into the histograms; nanoseconds."""

    RECV_TO_BOOK = 0
    BOOK_TO_STRATEGY = 1
    STRATEGY_TO_RISK = 2
    RISK_TO_SENT = 3
    SENT_TO_ACK = 4
    RECV_TO_SENT = 5


HISTOGRAMS = [hop.name.lower() for hop in Hop]

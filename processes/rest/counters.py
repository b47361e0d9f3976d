"""What rest counts, with the labels that operators read."""

from enum import IntEnum


class Counter(IntEnum):
    """Index into the counter values."""

    CALLS = 0
    CALLS_FAILED = 1
    CALLS_UNKNOWN = 2
    CALLS_REPEATED = 3
    CALLS_TOO_LATE = 4
    RATE_LIMITED = 5
    BANS = 6
    AUTH_FAILURES = 7
    DECODE_ERRORS = 8
    REQUESTS_BAD = 9
    SNAPSHOTS = 10
    SNAPSHOTS_FAILED = 11
    ORDER_QUERIES = 12
    RECONCILES = 13
    RECONCILES_FAILED = 14
    ACCOUNT_TRADES = 15
    FOREIGN_FEES = 16
    ORDERS_SENT = 17
    ORDERS_REFUSED = 18
    CANCEL_ALLS = 19
    EMERGENCIES = 20
    DEAD_MAN_REFRESHES = 21
    DEAD_MAN_LAPSES = 22
    LISTEN_KEYS = 23
    CLOCK_ROUNDS = 24
    CLOCK_OFFSET_NS = 25
    WEIGHT_USED = 26
    SPILLED = 27
    SESSIONS_LOST = 28
    CANCEL_ALLS_FAILED = 29


LABELS = {
    Counter.CALLS: "Requests sent (monotonic)",
    Counter.CALLS_FAILED: "Requests refused, or that never left (monotonic)",
    Counter.CALLS_UNKNOWN: "Requests without a clear answer (monotonic)",
    Counter.CALLS_REPEATED: "Requests sent again after a failure (monotonic)",
    Counter.CALLS_TOO_LATE: "Orders not sent: waited too long for their turn (monotonic)",
    Counter.RATE_LIMITED: "Answers 429 and overload: backing off (monotonic)",
    Counter.BANS: "Answers 418 and 403: nothing is sent for a while (monotonic)",
    Counter.AUTH_FAILURES: "Answers that refuse the key (monotonic)",
    Counter.DECODE_ERRORS: "Answers that could not be read (monotonic)",
    Counter.REQUESTS_BAD: "Records of the request rings dropped: impossible fields (monotonic)",
    Counter.SNAPSHOTS: "Depth snapshots given to book (monotonic)",
    Counter.SNAPSHOTS_FAILED: "Depth snapshots that failed (monotonic)",
    Counter.ORDER_QUERIES: "Order queries answered (monotonic)",
    Counter.RECONCILES: "Reconciliations complete (monotonic)",
    Counter.RECONCILES_FAILED: "Reconciliations broken off (monotonic)",
    Counter.ACCOUNT_TRADES: "Account trades told to risk (monotonic)",
    Counter.FOREIGN_FEES: "Account trades with a fee in another asset: told as 0 (monotonic)",
    Counter.ORDERS_SENT: "Orders sent over REST while the order socket was down (monotonic)",
    Counter.ORDERS_REFUSED: "Orders not sent over REST: killed, clock, too late (monotonic)",
    Counter.CANCEL_ALLS: "Cancel-all requests that succeeded (monotonic)",
    Counter.EMERGENCIES: "Times that all orders were canceled on our own decision (monotonic)",
    Counter.DEAD_MAN_REFRESHES: "Dead-man timers refreshed (monotonic)",
    Counter.DEAD_MAN_LAPSES: "Dead-man timers that ran out: the venue has canceled (monotonic)",
    Counter.LISTEN_KEYS: "Listen keys given to the gateway (monotonic)",
    Counter.CLOCK_ROUNDS: "Rounds of clock measurement (monotonic)",
    Counter.CLOCK_OFFSET_NS: "Venue clock minus ours, ns (gauge)",
    Counter.WEIGHT_USED: "Request weight used in the last minute (gauge)",
    Counter.SPILLED: "Reports waiting for room in the ring to risk (gauge)",
    Counter.SESSIONS_LOST: "Session records not written: the gateway does not read (monotonic)",
    Counter.CANCEL_ALLS_FAILED: "Cancel-all requests that failed, and are sent again (monotonic)",
}
assert set(LABELS) == set(Counter), "each Counter needs a label: operators read it"

HISTOGRAMS = ["round_trip_ns"]
ROUND_TRIP = 0

"""What the gateway counts and measures, with the labels that operators read."""

from enum import IntEnum


class Counter(IntEnum):
    """Index into the counter values."""

    REQUESTS = 0
    ORDERS_SENT = 1
    REPLACES_SENT = 2
    CANCELS_SENT = 3
    FALLBACKS = 4
    ACKS = 5
    REJECTS_VENUE = 6
    UNKNOWN = 7
    LATE_RESPONSES = 8
    RESPONSES_UNMATCHED = 9
    REFUSED_KILLED = 10
    REFUSED_STOPPING = 11
    REFUSED_CLOCK = 12
    REFUSED_THROTTLE = 13
    REFUSED_DOWN = 14
    REFUSED_FULL = 15
    REFUSED_AUTH = 16
    REQUESTS_BAD = 17
    STREAM_EVENTS = 18
    FILLS = 19
    TRADE_LITES = 20
    ACCOUNT_EVENTS = 21
    EVENTS_IGNORED = 22
    EVENTS_FOREIGN = 23
    FOREIGN_FEES = 24
    DECODE_ERRORS = 25
    RATE_LIMITED = 26
    BANS = 27
    AUTH_FAILURES = 28
    CLOCK_REFUSALS = 29
    ORDER_SOCKETS = 30
    STREAM_SOCKETS = 31
    STREAM_SILENT = 32
    KEYS_EXPIRED = 33
    SENDS_STALLED = 34
    SPILLED = 35
    REPORTS_LOST = 36
    IN_FLIGHT = 37
    CLOCK_OFFSET_NS = 38
    ORDERS_10S_USED = 39
    ORDERS_1M_USED = 40
    WEIGHT_1M_USED = 41
    REFUSED_OLD = 42


LABELS = {
    Counter.REQUESTS: "Requests read from risk (monotonic)",
    Counter.ORDERS_SENT: "New orders written to the order socket (monotonic)",
    Counter.REPLACES_SENT: "Modifications written to the order socket (monotonic)",
    Counter.CANCELS_SENT: "Cancels written to the order socket (monotonic)",
    Counter.FALLBACKS: "Requests passed to rest: order socket down, or cancel-all (monotonic)",
    Counter.ACKS: "Requests that the venue did (monotonic)",
    Counter.REJECTS_VENUE: "Requests that the venue refused (monotonic)",
    Counter.UNKNOWN: "Requests whose outcome is unknown (monotonic)",
    Counter.LATE_RESPONSES: "Responses that came after their request was unknown (monotonic)",
    Counter.RESPONSES_UNMATCHED: "Responses to no request of ours (monotonic)",
    Counter.REFUSED_KILLED: "Refused: killed (monotonic)",
    Counter.REFUSED_STOPPING: "Refused: stopping (monotonic)",
    Counter.REFUSED_CLOCK: "Refused: venue clock unknown or more than 500 ms away (monotonic)",
    Counter.REFUSED_THROTTLE: "Refused: too near to a limit of the venue (monotonic)",
    Counter.REFUSED_DOWN: "Refused: no connection (monotonic)",
    Counter.REFUSED_FULL: "Refused: too much in flight, or not yet written (monotonic)",
    Counter.REFUSED_AUTH: "Refused: the venue refuses our key (monotonic)",
    Counter.REQUESTS_BAD: "Refused: impossible record (monotonic)",
    Counter.STREAM_EVENTS: "Order events of the user-data stream (monotonic)",
    Counter.FILLS: "Order events with a fill (monotonic)",
    Counter.TRADE_LITES: "TRADE_LITE events: not used (monotonic)",
    Counter.ACCOUNT_EVENTS: "Account events (monotonic)",
    Counter.EVENTS_IGNORED: "Events of other kinds (monotonic)",
    Counter.EVENTS_FOREIGN: "Order events of symbols that are not traded here (monotonic)",
    Counter.FOREIGN_FEES: "Fills with a fee in another asset: told as 0 (monotonic)",
    Counter.DECODE_ERRORS: "Frames that could not be read (monotonic)",
    Counter.RATE_LIMITED: "Refused by the venue for a limit: backing off (monotonic)",
    Counter.BANS: "Banned by the venue: nothing is sent for a while (monotonic)",
    Counter.AUTH_FAILURES: "Refused by the venue for the key: no more orders (monotonic)",
    Counter.CLOCK_REFUSALS: "Refused by the venue for the timestamp (monotonic)",
    Counter.ORDER_SOCKETS: "Order sockets opened (monotonic)",
    Counter.STREAM_SOCKETS: "User-data sockets opened (monotonic)",
    Counter.STREAM_SILENT: "User-data sockets given up: no event for an accepted request"
    " (monotonic)",
    Counter.KEYS_EXPIRED: "listenKeyExpired events (monotonic)",
    Counter.SENDS_STALLED: "Order sockets given up: bytes not taken, or killed meanwhile"
    " (monotonic)",
    Counter.SPILLED: "Reports waiting for room in the ring to risk (gauge)",
    Counter.REPORTS_LOST: "Reports lost: over spill_max, risk does not read (monotonic)",
    Counter.IN_FLIGHT: "Requests without a response (gauge)",
    Counter.CLOCK_OFFSET_NS: "Venue clock minus ours, ns (gauge)",
    Counter.ORDERS_10S_USED: "Orders within the last 10 s (gauge)",
    Counter.ORDERS_1M_USED: "Orders within the last minute (gauge)",
    Counter.WEIGHT_1M_USED: "Request weight within the last minute (gauge)",
    Counter.REFUSED_OLD: "Refused: waited too long since risk published it (monotonic)",
}
assert set(LABELS) == set(Counter), "each Counter needs a label: operators read it"


class Hop(IntEnum):
    """Index into the histograms; nanoseconds."""

    RISK_TO_SENT = 0
    SENT_TO_ACK = 1
    RECV_TO_SENT = 2


HISTOGRAMS = [f"{hop.name.lower()}_ns" for hop in Hop]

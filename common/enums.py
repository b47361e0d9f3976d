"""Enumerations in FIX and venue words; numbers are never reused and 0 is never a valid kind."""

from enum import IntEnum


class Side(IntEnum):
    """Book and order side; `side * qty` is a signed position change."""

    BID = 1
    ASK = -1


class MarketKind(IntEnum):
    """Kind of a 64-byte market slot."""

    GAP = 1
    DIFF_BEGIN = 2
    LEVELS = 3
    SNAPSHOT_BEGIN = 4
    SNAPSHOT_END = 5
    TRADE = 6
    AGG_TRADE = 7
    BBO = 8
    BOOK = 9
    MARK = 10
    LIQUIDATION = 11
    CONTROL = 12
    CLOCK = 13
    HEARTBEAT = 14


class GapReason(IntEnum):
    """Why records are missing."""

    RING_FULL = 1
    DECODE = 2
    SEQUENCE = 3
    RECONNECT = 4
    STALE = 5
    CROSSED = 6
    RESTART = 7
    LAPPED = 8


class RequestKind(IntEnum):
    """What a strategy or risk asks for an order."""

    NEW = 1
    REPLACE = 2
    CANCEL = 3
    CANCEL_ALL = 4
    ATTACH = 5


class OrderType(IntEnum):
    """FIX OrdType."""

    LIMIT = 1
    MARKET = 2


class TimeInForce(IntEnum):
    """FIX TimeInForce; GTX is Binance's post-only."""

    GTC = 1
    IOC = 2
    FOK = 3
    GTX = 4


class OrderStatus(IntEnum):
    """FIX OrdStatus; a terminal status never changes."""

    PENDING_NEW = 1
    NEW = 2
    PARTIALLY_FILLED = 3
    FILLED = 4
    CANCELED = 5
    REJECTED = 6
    EXPIRED = 7


class OrderPending(IntEnum):
    """Bits: what is in flight beside the status. An IntEnum, as numba has no IntFlag."""

    CANCEL = 1
    REPLACE = 2
    UNKNOWN = 4


class ExecType(IntEnum):
    """FIX ExecType: what happened."""

    NEW = 1
    TRADE = 2
    CANCELED = 3
    REPLACED = 4
    REJECTED = 5
    EXPIRED = 6
    CANCEL_REJECTED = 7
    REPLACE_REJECTED = 8
    UNKNOWN = 9
    STATUS = 10
    CALCULATED = 11


class ReportKind(IntEnum):
    """Kind of a 256-byte report."""

    GAP = 1
    EXECUTION = 2
    POSITION = 3
    BALANCE = 4
    RECONCILE_BEGIN = 5
    RECONCILE_END = 6
    OPEN_ORDER = 7
    ACCOUNT_TRADE = 8
    RESET = 9
    READY = 10
    SESSION_UP = 11
    SESSION_DOWN = 12


class ReportSource(IntEnum):
    """Which channel an execution report came from."""

    RISK = 1
    RESPONSE = 2
    STREAM = 3
    QUERY = 4


class LiquiditySide(IntEnum):
    """Earns or pays the spread."""

    MAKER = 1
    TAKER = 2


class RestKind(IntEnum):
    """What the rest process is asked for."""

    SNAPSHOT = 1
    ORDER_QUERY = 2
    RECONCILE = 3
    CANCEL_ALL = 4


class SessionKind(IntEnum):
    """What the rest process tells the gateway."""

    LISTEN_KEY = 1
    CLOCK_OFFSET = 2


class Reject(IntEnum):
    """Our own refusal: the thousands digit names the stage that refused."""

    NONE = 0
    HANDLE = 1001
    NO_SLOT = 1002
    NOT_READY = 1003
    RING_FULL = 1004
    IN_FLIGHT = 1005
    BAD_REQUEST = 2001
    ORDER_QTY = 2002
    ORDER_NOTIONAL = 2003
    POSITION = 2004
    PRICE_BAND = 2005
    STALE_BOOK = 2006
    KILLED = 2007
    TICK_SIZE = 2008
    LOT_SIZE = 2009
    MIN_NOTIONAL = 2010
    UNKNOWN_ORDER = 2011
    DUPLICATE_ID = 2012
    ORDER_TABLE_FULL = 2013
    NOT_RECONCILED = 2014
    STOPPING = 2015
    INSTRUMENT = 2016
    OPEN_ORDERS = 2017
    REPORTS_FULL = 2018
    JOURNAL = 2019
    ORDER_RATE = 3001
    VENUE_THROTTLE = 3002
    GATEWAY_DOWN = 4001
    CLOCK_OFFSET = 4002
    GATEWAY_FULL = 4003
    VENUE = 5001
    VENUE_POST_ONLY = 5002
    VENUE_RATE = 5003
    VENUE_AUTH = 5004
    VENUE_UNKNOWN_ORDER = 5005


class Phase(IntEnum):
    """What the supervisor wants of every process."""

    STARTING = 1
    RUNNING = 2
    STOP_ORDERS = 3
    EXIT = 4


class TurnKind(IntEnum):
    """What a logged turn of a strategy process was."""

    ATTACH = 1  # a process began: one ATTACH intent, no input
    RECORDS = 2  # it took records, or a timer was due


class KillSource(IntEnum):
    """Who killed trading: one latched word each in the kill page."""

    COMMAND_LINE = 0
    SUPERVISOR = 1
    RISK = 2
    REST = 3
    API = 4


class ProcessState(IntEnum):
    """What a process says of itself."""

    STARTING = 1
    READY = 2
    STOPPING = 3
    STOPPED = 4

"""Synthetic flow: limits, cancels and takers around a moving fair price, decided in a kernel.

A function of the seed and the number of steps alone: no clock, and of the floating operations only
+ - * / and sqrt, so every machine makes the same market. Bursts multiply the arrivals and lean to
one side; once in a while somebody is liquidated.
"""

import math

import numpy as np
from numba import njit

from common.enums import OrderType, TimeInForce
from common.instruments import Instrument
from processes.venue import matching
from processes.venue.config import FlowConfig, SymbolConfig
from processes.venue.engine import NO_ASK, NO_BID, MatchStatus, StpMode, new_engine
from processes.venue.filters import Rules
from processes.venue.market import EngineMarket, Row

FLOW_ACCOUNT = 0
LIQUIDATED_ACCOUNT = 1
WORD = (1 << 32) - 1
CANCEL_TRIES_MAX = 8
REQUESTS_MAX = 4_096
STEPS_PER_CALL_MAX = 50
LIMIT, NO_STP = OrderType.LIMIT.value, StpMode.NONE.value
CANCEL_SHARE, MARKET_SHARE = 0.45, 0.08  # of the arrivals while the book is as deep as wanted
NEAR_SPREADS, NEAR_TICKS_MIN = 2.0, 8.0  # half of the limits come within this of the touch,
FAR_SHARE = 0.005  # and the last of them 1 / FAR_SHARE as far away
ARBITRAGE_SPREADS = 1.5  # half spreads between fair and a quote that somebody takes at once

# What one symbol's flow is and where it stands; one row per instrument. Floats here are a market's
# mood: prices and quantities leave as integers.
SYMBOL_FLOW = np.dtype(
    [
        ("fair_steps", "<f8"),
        ("start_steps", "<f8"),
        ("step_volatility", "<f8"),  # of the price, per step
        ("events_per_step", "<f8"),
        ("half_spread_ticks", "<f8"),
        ("tick_steps", "<i8"),
        ("lot_steps", "<i8"),
        ("order_qty_steps", "<i8"),
        ("depth_orders", "<i8"),
        ("own_count", "<i8"),
    ],
    align=True,
)
# One decision: a cancel of order_id, or with order_id 0 a new order; is_taker: IOC instead of GTC.
REQUEST = np.dtype(
    [
        ("instrument_id", "<i4"),
        ("account_id", "<i4"),
        ("side", "i1"),
        ("is_taker", "u1"),
        ("order_id", "<i8"),
        ("price_steps", "<i8"),
        ("qty_steps", "<i8"),
    ],
    align=True,
)
# The flow as a whole.
FLOW = np.dtype(
    [
        ("word_0", "<i8"),  # xoshiro128** state, 32 bits each
        ("word_1", "<i8"),
        ("word_2", "<i8"),
        ("word_3", "<i8"),
        ("burst_left", "<i8"),  # steps
        ("burst_steps", "<i8"),
        ("burst_factor", "<f8"),
        ("burst_side", "<i8"),
        ("burst_chance", "<f8"),  # per step
        ("liquidation_chance", "<f8"),
    ],
    align=True,
)


@njit(cache=True)
def rotate(word, bits):
    """Rotate 32 bits to the left."""
    return ((word << bits) & WORD) | (word >> (32 - bits))


@njit(cache=True)
def random_word(flow):
    """Return 32 random bits (xoshiro128**, Blackman and Vigna) from int64 words."""
    one = flow["word_1"]
    result = (rotate((one * 5) & WORD, 7) * 9) & WORD
    flow["word_2"] ^= flow["word_0"]
    flow["word_3"] ^= one
    flow["word_1"] ^= flow["word_2"]
    flow["word_0"] ^= flow["word_3"]
    flow["word_2"] ^= (one << 9) & WORD
    flow["word_3"] = rotate(flow["word_3"], 11)
    return result


@njit(cache=True)
def random_unit(flow):
    """Return a number in [0, 1)."""
    return random_word(flow) / 4294967296.0


@njit(cache=True)
def random_normal(flow):
    """Return about a standard normal: four uniforms, scaled."""
    total = random_unit(flow) + random_unit(flow) + random_unit(flow) + random_unit(flow)
    return (total - 2.0) * 1.7320508075688772


@njit(cache=True)
def random_qty(flow, symbol):
    """Return an order size in steps: around the typical one, sometimes ten times it."""
    size = symbol["order_qty_steps"] * (0.2 + 1.6 * random_unit(flow))
    if random_unit(flow) < 0.03:
        size *= 10.0
    return max(int(size) // symbol["lot_steps"], 1) * symbol["lot_steps"]


@njit(cache=True)
def write_request(requests, n, index, account, side, order_id, is_taker, price, qty):
    """Write one request behind the others and return how many there are."""
    if n >= requests.shape[0] or price <= 0 and order_id == 0:
        return n
    request = requests[n]
    request["instrument_id"] = index
    request["account_id"] = account
    request["side"] = side
    request["order_id"] = order_id
    request["is_taker"] = is_taker
    request["price_steps"] = price
    request["qty_steps"] = qty
    return n + 1


@njit(cache=True)
def add_limit(requests, n, flow, symbol, index, side):
    """Let one limit order arrive: near the touch as a rule, sometimes far behind it."""
    draw = random_unit(flow)
    ticks = symbol["half_spread_ticks"] * (0.75 + 0.75 * random_unit(flow))
    near = max(NEAR_SPREADS * symbol["half_spread_ticks"], NEAR_TICKS_MIN)
    ticks += near * draw / (1.0 + FAR_SHARE - draw)
    tick = symbol["tick_steps"]
    price = int((symbol["fair_steps"] - side * ticks * tick) / tick + 0.5) * tick
    qty = random_qty(flow, symbol)
    return write_request(requests, n, index, FLOW_ACCOUNT, side, 0, 0, price, qty)


@njit(cache=True)
def cancel_one(engine, requests, n, flow, symbol, own, index):
    """Cancel a random open order of the flow; forget the filled ones met on the way."""
    for _ in range(CANCEL_TRIES_MAX):
        total = symbol["own_count"]
        if total == 0:
            return n
        chosen = min(int(random_unit(flow) * total), total - 1)
        order_id = own[index, chosen]
        own[index, chosen] = own[index, total - 1]
        symbol["own_count"] = total - 1
        if matching.find(engine, order_id):
            return write_request(requests, n, index, FLOW_ACCOUNT, 0, order_id, 0, 0, 0)
    return n


@njit(cache=True)
def take(engine, requests, n, index, account, side, qty, through):
    """Let a taker arrive: an IOC that goes at most `through` beyond the touch, as a share of it."""
    bid, _, ask, _ = matching.best(engine, index)
    best = ask if side > 0 else bid
    if best == NO_ASK or best == NO_BID:
        return n
    price = max(int(best * (1.0 + side * through)), 1)
    return write_request(requests, n, index, account, side, 0, 1, price, qty)


@njit(cache=True)
def close_in(engine, requests, n, flow, symbol, index):
    """Let arbitrage take what the fair price has left behind."""
    bid, bid_qty, ask, ask_qty = matching.best(engine, index)
    slack = ARBITRAGE_SPREADS * symbol["half_spread_ticks"] * symbol["tick_steps"]
    fair = symbol["fair_steps"]
    if ask != NO_ASK and ask < fair - slack:
        qty = min(ask_qty, 4 * symbol["order_qty_steps"])
        return take(engine, requests, n, index, FLOW_ACCOUNT, 1, qty, 0.0)
    if bid != NO_BID and bid > fair + slack:
        qty = min(bid_qty, 4 * symbol["order_qty_steps"])
        return take(engine, requests, n, index, FLOW_ACCOUNT, -1, qty, 0.0)
    return n


@njit(cache=True)
def one_event(engine, requests, n, flow, symbol, own, index):
    """Let one thing happen: a limit, a cancel or a market order."""
    lean = flow["burst_side"] if flow["burst_left"] > 0 else 0
    side = 1 if random_unit(flow) < 0.5 + 0.25 * lean else -1
    depth = symbol["own_count"] / (2.0 * symbol["depth_orders"])
    draw = random_unit(flow)
    market_share = MARKET_SHARE * (3.0 if lean else 1.0)
    if draw < market_share:
        qty = random_qty(flow, symbol)
        return take(engine, requests, n, index, FLOW_ACCOUNT, side, qty, 0.002)
    if draw < market_share + CANCEL_SHARE * depth:
        return cancel_one(engine, requests, n, flow, symbol, own, index)
    if symbol["own_count"] >= own.shape[1] - requests.shape[0]:
        return n
    resting = -side if lean else side  # a burst's limits come from those it has not frightened
    return add_limit(requests, n, flow, symbol, index, resting)


@njit(cache=True)
def advance_moods(flow):
    """Begin and end bursts."""
    if flow["burst_left"] > 0:
        flow["burst_left"] -= 1
    elif random_unit(flow) < flow["burst_chance"]:
        flow["burst_left"] = flow["burst_steps"]
        flow["burst_side"] = 1 if random_unit(flow) < 0.5 else -1


@njit(cache=True)
def move_fair(flow, symbol):
    """Move the fair price: a random walk, pulled home when it has strayed far."""
    lean = flow["burst_side"] if flow["burst_left"] > 0 else 0
    noise = random_normal(flow) + 0.5 * lean
    fair = symbol["fair_steps"] * (1.0 + symbol["step_volatility"] * noise)
    strayed = (symbol["start_steps"] - fair) / symbol["start_steps"]
    symbol["fair_steps"] = fair * (1.0 + symbol["step_volatility"] * 0.05 * strayed)


@njit(cache=True)
def decide_step(engine, flows, symbols, own, requests):
    """Decide what arrives in one step, on the books as they are at its beginning.

    Args:
        engine: Engine, read.
        flows: FLOW[1], changed.
        symbols: SYMBOL_FLOW[instruments], changed.
        own: int64[instruments, n], changed. The flow's resting order ids.
        requests: REQUEST[m], changed from row 0 on.

    Returns:
        How many requests there are.
    """
    flow = flows[0]
    n = 0
    advance_moods(flow)
    for index in range(symbols.shape[0]):
        symbol = symbols[index]
        move_fair(flow, symbol)
        expected = symbol["events_per_step"]
        if flow["burst_left"] > 0:
            expected *= flow["burst_factor"]
        arrivals = int(expected)
        if random_unit(flow) < expected - arrivals:
            arrivals += 1
        n = close_in(engine, requests, n, flow, symbol, index)
        for _ in range(min(arrivals, requests.shape[0])):
            n = one_event(engine, requests, n, flow, symbol, own, index)
    if random_unit(flow) < flow["liquidation_chance"]:
        index = min(int(random_unit(flow) * symbols.shape[0]), symbols.shape[0] - 1)
        side = 1 if random_unit(flow) < 0.5 else -1
        qty = (10 + int(40 * random_unit(flow))) * symbols[index]["order_qty_steps"]
        n = take(engine, requests, n, index, LIQUIDATED_ACCOUNT, side, qty, 0.005)
    return n


@njit(cache=True)
def decide_seed(flows, symbols, index, requests):
    """Decide the orders that a book begins with; how many requests there are."""
    n = 0
    for _ in range(symbols[index]["depth_orders"]):
        for side in (1, -1):
            n = add_limit(requests, n, flows[0], symbols[index], index, side)
    return n


class Flow:
    """The synthetic market: what `Exchange.advance` steps.

    Args:
        config: seed, step and moods.
        market: whose engine it trades in.
        instruments, rules: what is traded, in the same order.

    The books are filled at once, before anybody looks.
    """

    def __init__(
        self,
        config: FlowConfig,
        market: EngineMarket,
        instruments: list[Instrument],
        rules: list[Rules],
    ) -> None:
        self.step_ms = config.step_ms
        self.orders_lost = 0  # refused by the engine
        self.market = market
        self.rules = rules
        self.flow = new_flow(config)
        self.symbols = np.zeros(len(instruments), SYMBOL_FLOW)
        for row, instrument, rule in zip(self.symbols, instruments, rules, strict=True):
            fill_symbol(row, instrument, rule.config, rule, config.step_ms)
        self.requests = np.zeros(REQUESTS_MAX, REQUEST)
        capacity = int(self.symbols["depth_orders"].max()) * 4 + REQUESTS_MAX
        self.own = np.zeros((len(instruments), capacity), np.int64)
        for index in range(len(instruments)):
            self.send(decide_seed(self.flow, self.symbols, index, self.requests), 0)

    def run(self, steps: int, now_ms: int) -> list[Row]:
        """Take some steps and return their events."""
        count = 0
        for _ in range(min(steps, STEPS_PER_CALL_MAX)):
            requested = decide_step(
                self.market.engine, self.flow, self.symbols, self.own, self.requests
            )
            count = self.send(requested, count)
        return self.market.rows(count)

    def send(self, requested: int, count: int) -> int:
        """Give the decided requests to the engine; rows of the market's events in use.

        The loop is Python's on purpose: a kernel around `submit` would compile it once more, which
        takes longer than many hours of these calls.
        """
        engine, events = self.market.engine, self.market.events
        for index, account, side, is_taker, order_id, price, qty in self.requests[
            :requested
        ].tolist():
            if order_id:
                _, count = matching.cancel(engine, events, count, index, account, order_id)
                continue
            tif = TimeInForce.IOC.value if is_taker else TimeInForce.GTC.value
            status, order_id, count = matching.submit(
                engine, events, count, index, account, side, LIMIT, tif, NO_STP, 0, price, qty
            )
            if status != MatchStatus.OK:
                self.orders_lost += 1
            elif not is_taker and matching.find(engine, order_id):
                symbol = self.symbols[index]
                self.own[index, symbol["own_count"]] = order_id
                symbol["own_count"] += 1
        return count

    def index_e8(self, index: int) -> int:
        """Return the fair price, which stands for the index price."""
        return int(self.symbols["fair_steps"][index] * self.rules[index].step_e8)

    def on_first(self, stream: str) -> None:
        """Nothing waits for subscribers here."""


def warm_up() -> None:
    """Call every kernel once."""
    config = FlowConfig()
    market = EngineMarket(new_engine(1, 2, orders_max=64))
    symbols = np.zeros(1, SYMBOL_FLOW)
    for name in ("depth_orders", "tick_steps", "lot_steps"):
        symbols[name] = 1
    symbols["fair_steps"] = symbols["start_steps"] = 1_000
    requests, own = np.zeros(8, REQUEST), np.zeros((1, 16), np.int64)
    flow = new_flow(config)
    decide_seed(flow, symbols, 0, requests)
    decide_step(market.engine, flow, symbols, own, requests)


class NoFlow:
    """A market in which only the accounts trade.

    Args:
        step_ms: how often timers and streams are looked at.
    """

    def __init__(self, step_ms: int) -> None:
        self.step_ms = step_ms

    def run(self, steps: int, now_ms: int) -> list[Row]:
        """Nothing happens by itself."""
        return []

    def index_e8(self, index: int) -> int:
        """There is no index price."""
        return 0

    def on_first(self, stream: str) -> None:
        """Nothing waits for subscribers here."""


def new_flow(config: FlowConfig) -> np.ndarray:
    """Return FLOW[1] with the state that a seed gives (splitmix32 over it)."""
    flow = np.zeros(1, FLOW)
    word = config.seed
    for name in ("word_0", "word_1", "word_2", "word_3"):
        word = (word + 0x9E3779B9) & WORD
        mixed = ((word ^ (word >> 16)) * 0x21F0AAAD) & WORD
        mixed = ((mixed ^ (mixed >> 15)) * 0x735A2D97) & WORD
        flow[name] = mixed ^ (mixed >> 15)
    flow["burst_steps"] = max(config.burst_ms // config.step_ms, 1)
    flow["burst_factor"] = config.burst_factor
    flow["burst_chance"] = config.step_ms / (1_000 * config.burst_every_s)
    flow["liquidation_chance"] = config.step_ms / (1_000 * config.liquidation_every_s)
    return flow


def fill_symbol(
    row: np.void, instrument: Instrument, config: SymbolConfig, rules: Rules, step_ms: int
) -> None:
    """Fill one SYMBOL_FLOW row from the config."""
    row["fair_steps"] = row["start_steps"] = instrument.price_steps(config.price)
    row["step_volatility"] = config.volatility_e6 * 1e-6 * math.sqrt(step_ms / 1_000)
    row["events_per_step"] = config.events_per_s * step_ms / 1_000
    row["tick_steps"] = rules.tick_steps
    spread_steps = instrument.price_steps(config.price) * config.spread_e6 / 1e6
    row["half_spread_ticks"] = max(spread_steps / rules.tick_steps, 1.0) / 2
    row["lot_steps"] = rules.lot_steps
    row["order_qty_steps"] = instrument.qty_steps(config.order_qty)
    row["depth_orders"] = config.depth_orders

"""One backtest from a config file: load the set-up, load the data, run, return the result."""

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from common import instruments as registry
from common import order_ids
from common.config import load
from common.errors import BugError, ConfigError, UsageError
from common.fixed_point import steps_from_text
from common.instruments import Instrument, instrument_table
from common.records import BOOK, CONTROL, ORDER_REQUEST, REPORT, SLOT_WORDS, TRADE
from processes.backtest import exchange as at_venue
from processes.backtest import local as here
from processes.backtest import loop, queues
from processes.backtest.config import BacktestConfig
from processes.backtest.events import EVENT
from processes.backtest.exchange import Exchange
from processes.backtest.extras import load_compute_ns, load_funding, with_funding
from processes.backtest.history import choose_kinds
from processes.backtest.ladder import new_ladders
from processes.backtest.latency_file import load_latency
from processes.backtest.local import Local
from processes.backtest.loop import Clock, Status, Tapes
from processes.backtest.order_book import OrderExchange, with_order_book
from processes.backtest.recorded import LOCAL_SHIFT
from processes.backtest.rules import RULES
from processes.backtest.sources import load_source
from processes.backtest.tapes import Data, assemble
from processes.convert.progress import SILENT, Bar
from processes.results import FILL, STATE, Result
from processes.risk.config import RiskConfig
from processes.risk.limits import limit_table
from processes.risk.oms import IS_READY, IS_RECONCILED, SESSION, new_oms, tell_all
from processes.strategy import desk as at
from processes.strategy import engine
from processes.strategy.api import load_strategy, params_of
from processes.strategy.config import StrategyConfig
from processes.strategy.desk import INTENTS_PER_TURN_MAX, Desk, block_dtype, desk_of

SESSION_ID = 1
SLICE_EVENTS = 1 << 22
ORDER_ROWS = 128  # of risk: a desk has 64 slots; the others are finished orders
FILLS_KEPT = 4_096  # nothing is told twice here
_BROKEN = {
    at_venue.FEE_OVERFLOW: "a fee does not fit 1e-12 quote",
    at_venue.TOTALS_FULL: (
        "the fees of an instrument, 1e-12 quote, or its turnover, price x quantity in steps, are"
        " over 2^63 in all, expected less; run shorter data"
    ),
    at_venue.REPORTS_FULL: (
        f"more than {here.REPORTS_MAX} reports wait for the strategy's next turn, expected fewer;"
        " give fewer orders at once or less compute_ns"
    ),
    at_venue.RESPONSES_FULL: f"more than {at_venue.RESPONSES_MAX} answers are under way at once",
    at_venue.BOOK_FULL: "the venue's book has no room for one more order or price",
    at_venue.REQUESTS_FULL: f"more than {at_venue.REQUESTS_MAX} requests are under way at once",
}


class VenueTable(msgspec.Struct, frozen=True):
    """What a backtest takes from [venue]."""

    name: str
    symbols: list[str]


class File(msgspec.Struct, frozen=True):
    """What a backtest takes from a set-up's file; the other tables are not looked at."""

    instruments_file: str
    venue: VenueTable
    strategy: StrategyConfig
    risk: RiskConfig
    backtest: BacktestConfig


class SetUp(msgspec.Struct, frozen=True, kw_only=True):
    """A set-up with its overrides, checked.

    Attributes:
        path: of the config file.
        overrides: what was asked beside it.
        file: the tables.
        instruments: in the order of their ids.
        strategy: the registered class.
        params: PARAMS[1].
        limits: LIMITS[n].
    """

    path: Path
    overrides: dict[str, str]
    file: File
    instruments: list[Instrument]
    strategy: type
    params: np.ndarray
    limits: np.ndarray

    @property
    def backtest(self) -> BacktestConfig:
        """The table [backtest]."""
        return self.file.backtest


def load_setup(config: Path, overrides: dict[str, str]) -> SetUp:
    """Read a set-up's file and check it.

    Args:
        config: TOML file with [venue], [strategy], [risk] and [backtest].
        overrides: dotted key -> value as TOML, or as plain text; a key without its table is
            looked for in [strategy.params], then in [backtest].

    Raises:
        ConfigError: the file, the strategy, the limits or an override is not in order.
    """
    tables = load(config, dict[str, Any])
    for key, text in overrides.items():
        _override(tables, key, text)
    try:
        file = msgspec.convert(tables, File)
    except (msgspec.ValidationError, ValueError) as error:
        raise ConfigError(f"{config}: {error}") from None
    folder = config.resolve().parent
    path = folder / Path(file.instruments_file).expanduser()
    facts = registry.load_facts(path)
    instruments = _instruments(file, facts, path)
    limits = file.risk.limits  # of more symbols than are run: a set-up's narrowed down
    kept = {one.symbol: limits[one.symbol] for one in instruments if one.symbol in limits}
    risk = msgspec.structs.replace(file.risk, limits=kept)
    cls = load_strategy(file.strategy.module, folder / file.strategy.search_path)
    if file.backtest.cadence == "timers" and "on_timer" not in vars(cls):
        raise ConfigError(
            f'{config}: [backtest] cadence = "timers" gives {cls.__qualname__} no turn, for it has'
            ' no on_timer; expected cadence = "events"'
        )
    return SetUp(
        path=config,
        overrides=overrides,
        file=file,
        instruments=instruments,
        strategy=cls,
        params=params_of(cls, file.strategy.params),
        limits=limit_table(risk, instruments),
    )


def _instruments(file: File, facts: dict[str, Any], path: Path) -> list[Instrument]:
    """Register the symbols of [venue], then those of other venues."""
    found = registry.register(file.venue.name, file.venue.symbols, facts, path)
    for name in file.backtest.also:
        venue, _, symbol = name.partition(":")
        [one] = registry.register(venue, [symbol], facts, path)
        if any((known.venue, known.symbol) == (venue, symbol) for known in found):
            raise ConfigError(f"backtest.also: {name} is there already, expected each once")
        found.append(msgspec.structs.replace(one, instrument_id=len(found)))
    return found


def _override(tables: dict[str, Any], key: str, text: str) -> None:
    """Change one value; a table that is named must be there, and the value too."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *names, last = key.split(".")
    params = tables.get("strategy", {}).get("params", {})
    backtest = tables.get("backtest", {})
    place: Any = tables
    if names in ([], ["strategy"]) and last in params:
        place = params
    elif not names and last in BacktestConfig.__struct_fields__:
        place = backtest
    else:
        for name in names:
            place = place.get(name) if isinstance(place, dict) else None
    is_known = isinstance(place, dict) and last in place
    if not is_known and not (place is backtest and last in BacktestConfig.__struct_fields__):
        raise ConfigError(f"--set {key}: is in no table of the file, expected a key that is there")
    is_text = isinstance(place.get(last), str) and not isinstance(value, str)
    place[last] = text if is_text else value


def load_data(setup: SetUp, paths: list[Path], bar: Bar = SILENT) -> Data:
    """Read what is to be run.

    Args:
        setup: whose instruments it is about.
        paths: recorded runs (folders), captures (.gz, text) and event arrays (.npz); in the order
            of time if several are of one instrument. `SYMBOL=PATH` or `VENUE:SYMBOL=PATH` says
            whose a file is.
        bar: told how many have been read.

    Raises:
        UsageError: a path that cannot be read, or that fits no instrument; no event at all.
    """
    notes: dict[str, int] = {}
    parts: list[list[np.ndarray]] = [[] for _ in setup.instruments]
    for done, path in enumerate(paths, 1):
        for i, events in load_source(path, setup.instruments, notes):
            parts[i].append(events)
        bar.at(done)
    silent = sum(not any(len(part) for part in found) for found in parts)
    if silent == len(parts):
        symbols = ", ".join(instrument.symbol for instrument in setup.instruments)
        raise UsageError(f"--data: no event of {symbols}, expected some of at least one")
    if silent:
        notes["instruments_without_events"] = silent
    none = [np.zeros(0, EVENT)]
    joined = [part[0] if len(part) == 1 else np.concatenate(part or none) for part in parts]
    config, folder = setup.backtest, setup.path.resolve().parent
    choose_kinds(joined, config.exchange == "order-by-order", notes)
    for part in joined:
        part["ts_recv_ns"] += notes.get(LOCAL_SHIFT, 0) + config.feed_offset_ns
    if config.funding_file:
        path = folder / config.funding_file
        for i, funding in load_funding(path, setup.instruments, notes).items():
            joined[i] = with_funding(joined[i], funding, notes)
    return assemble(joined, setup.instruments, notes)


class Run:
    """All arrays of one run.

    Args:
        setup: what to run.
        data: on what.
        until_ns: stop behind this instant; 0: at the end.
        logs_intents: keep every intent, for comparisons.
    """

    def __init__(
        self, setup: SetUp, data: Data, until_ns: int = 0, logs_intents: bool = False
    ) -> None:
        self.setup = setup
        self.data = data
        self.table = instrument_table(setup.instruments)
        count = len(setup.instruments)
        self.x: Exchange | OrderExchange = new_exchange(setup, data, self.table)
        self.local = new_local(setup, data, self.table)
        rows = min(setup.file.risk.order_count_max, ORDER_ROWS)
        self.oms = new_oms(self.table, setup.limits, rows, FILLS_KEPT)
        dtype = setup.strategy.STATE  # type: ignore[attr-defined]
        self.block = np.zeros(1, block_dtype(count, dtype))
        intents = np.zeros(INTENTS_PER_TURN_MAX, ORDER_REQUEST)
        self.desk: Desk = desk_of(self.block, self.table, intents)
        self.state = self.block["state"][0]
        self.clock = new_clock(setup, count, until_ns, logs_intents)
        self.tapes = Tapes(data.events, data.here, data.here_spans, data.venue, data.venue_spans)
        self._attach()

    def _attach(self) -> None:
        """Begin as behind an attach: risk is reconciled and has told everything."""
        engine.reset_desk(self.desk, order_ids.pack(SESSION_ID, 0, 0), 0)
        self.oms.words[[SESSION, IS_RECONCILED]] = SESSION_ID, 1
        self.oms.strategies[0, IS_READY] = 1
        start = loop.rewind(self.clock, self.tapes)
        tell_all(self.oms, start)

    def _inputs(self) -> tuple:
        slots = self.local.slots
        control = np.zeros((1, SLOT_WORDS), np.int64)

        def views(words: np.ndarray) -> tuple[np.ndarray, ...]:
            return tuple(words.reshape(-1).view(kind) for kind in (BOOK, TRADE, CONTROL))

        reports = self.oms.out[: here.REPORTS_MAX]
        return reports, (control, views(control)), (slots, views(slots))

    def go(self, bar: Bar = SILENT) -> None:
        """Run to the end.

        Args:
            bar: told how many events have been taken, of those on both tapes.

        Raises:
            UsageError: the strategy answers itself without an end, or a limit is reached.
        """
        inputs = self._inputs()
        ends = np.zeros((2, 3), np.int64)
        while True:
            status = loop.run_slice(
                self.state, self.setup.params, self.desk, inputs, ends, self.oms, self.local,
                self.x, self.clock, self.tapes, SLICE_EVENTS,
            )  # fmt: skip
            bar.at(int(self.clock.words[loop.EVENTS]))
            if status == Status.DONE:
                return
            if status == Status.GROW:
                self._grow()
            elif status != Status.SLICE:
                raise UsageError(self._why(status))

    def _grow(self) -> None:
        """Double the arrays that results are written to."""
        self.x = self.x._replace(fills=_doubled(self.x.fills))
        self.clock = self.clock._replace(
            states=_doubled(self.clock.states), log=_doubled(self.clock.log)
        )

    def _why(self, status: int) -> str:
        now = self.clock.words[loop.NOW]
        if status == Status.STUCK:
            return (
                f"backtest: {loop.TURNS_PER_INSTANT_MAX} turns at the instant {now}, expected time"
                " to pass; give order_latency or compute_ns more than 0"
            )
        if self.clock.words[loop.IS_OVERRUN]:
            return f"backtest: over {loop.SLOTS // 2} trades at one instant after {now}"
        why = _BROKEN.get(int(self.x.words[at_venue.STATUS]))
        if why is None:
            raise BugError(f"backtest: status {status}, expected one of {list(_BROKEN)}")
        return f"backtest: {why}, at about {now}"

    def _ends(self) -> np.ndarray:
        """Return a STATE row per instrument: where it stands after all that has been taken."""
        ends = np.zeros(len(self.setup.instruments), STATE)
        last_fill_ns = self.x.fills["ts_ns"][: self.x.words[at_venue.FILL_COUNT]][-1:]
        ts_ns = max([loop.last_instant(self.clock, self.tapes), *last_fill_ns])
        loop.write_states(ends, 0, self.local, ts_ns, False)
        return ends

    def result(self) -> Result:
        """Return what has been found out so far."""
        words = self.clock.words
        accounts = self.local.accounts
        return Result(
            instruments=self.setup.instruments,
            fills=self.x.fills[: self.x.words[at_venue.FILL_COUNT]].copy(),
            states=self.clock.states[: words[loop.STATE_COUNT]].copy(),
            ends=self._ends(),
            counts={
                "events": int(words[loop.EVENTS]),
                "turns": int(words[loop.TURNS]),
                "turns_out_of_turn": int(words[loop.FORCED]),
                "intents": int(self.desk.words[at.INTENT_SEQUENCE]),
                "refused_by_desk": int(self.desk.words[at.REJECT_COUNT]),
                "orders_sent": int(accounts[:, here.SENT].sum()),
                "orders_rejected": int(accounts[:, here.REJECTED].sum()),
                "requests_after_the_data": int(self.x.words[at_venue.NOT_SENT]),
                "fills": int(self.x.words[at_venue.FILL_COUNT]),
                "latency_seed": self.setup.backtest.order_latency.seed,
                **self.data.notes,
            },
        )


def _doubled(array: np.ndarray) -> np.ndarray:
    return np.concatenate((array, np.zeros_like(array)))


def run(setup: SetUp, data: Data, bar: Bar = SILENT) -> Result:
    """Run a set-up on data.

    Args:
        bar: as for `Run.go`.

    Raises:
        UsageError: the run cannot go on; says where and why.
    """
    whole = Run(setup, data)
    whole.go(bar)
    return whole.result()


def new_exchange(setup: SetUp, data: Data, table: np.ndarray) -> Exchange | OrderExchange:
    """Return an empty venue of the exchange model that is asked for."""
    config = setup.backtest
    count = len(setup.instruments)
    flags = RULES[config.rules]
    ladders, places = new_ladders(data.price_spans, table["tick_size_steps"], flags)
    facts = np.zeros((count, at_venue.FACTS), np.int64)
    scales = np.zeros((count, 2), np.float64)
    for i, row in enumerate(table):
        venue = setup.instruments[i].venue
        tier = config.fees[config.fee_tiers.get(venue, config.fee_tier)]
        shift = 4 - int(row["price_grid_decimals"]) - int(row["qty_grid_decimals"])
        facts[i] = (
            row["lot_size_steps"], row["tick_size_steps"], config.exchange == "partial-fill",
            queues.QUEUES[config.queue], _rate_e8(tier.maker), _rate_e8(tier.taker),
            10 ** max(shift, 0), 10 ** max(-shift, 0), flags, places[i],
        )  # fmt: skip
        scales[i] = 10.0 ** int(row["qty_grid_decimals"]), config.queue_power
    latency, request_rows, response_rows = load_latency(
        config.order_latency, setup.path.resolve().parent, count
    )
    plain = Exchange(
        ladders=ladders,
        prices=data.prices,
        facts=facts,
        scales=scales,
        orders=np.zeros((count, 2, at_venue.ORDERS_MAX, at_venue.ORDER_WORDS), np.int64),
        estimates=np.zeros((count, 2, at_venue.ORDERS_MAX, 2), np.float64),
        counts=np.zeros((count, 2), np.int64),
        requests=np.zeros((count, at_venue.REQUESTS_MAX, at_venue.REQUEST_WORDS), np.int64),
        responses=np.zeros((count, at_venue.RESPONSES_MAX, at_venue.ANSWER_WORDS), np.int64),
        buses=np.zeros((count, at_venue.BUSES), np.int64),
        latency=latency,
        request_rows=request_rows,
        response_rows=response_rows,
        positions=np.zeros(count, np.int64),
        fills=np.zeros(
            1_024 + max(len(data.prices), at_venue.RESPONSES_MAX) + 4 * at_venue.ORDERS_MAX, FILL
        ),
        words=np.zeros(at_venue.WORDS, np.int64),
    )
    if config.exchange != "order-by-order":
        return plain
    return with_order_book(plain, table, data.venue, data.price_spans, config.stp_mode)


def _rate_e8(text: str) -> int:
    magnitude = steps_from_text(text.removeprefix("-"), 8)
    return -magnitude if text.startswith("-") else magnitude


def new_local(setup: SetUp, data: Data, table: np.ndarray) -> Local:
    """Return this side before the first event."""
    count = len(setup.instruments)
    flags = RULES[setup.backtest.rules]
    ladders, places = new_ladders(data.price_spans, table["tick_size_steps"], flags)
    least = 4 * loop.BOOK_SLOTS * count
    slots = 1 << (max(loop.SLOTS if wants_trades(setup) else 0, least) - 1).bit_length()
    return Local(
        ladders=ladders,
        prices=data.prices,
        places=places,
        seen=np.zeros((count, here.SEEN_WORDS), np.int64),
        accounts=np.zeros((count, here.ACCOUNT_WORDS), np.int64),
        slots=np.zeros((slots, SLOT_WORDS), np.int64),
        ring=np.zeros(2, np.int64),
        report=np.zeros(1, REPORT),
        request=np.zeros(1, ORDER_REQUEST),
    )


def wants_trades(setup: SetUp) -> bool:
    """Return True if the strategy has a hook for trades; else none is written."""
    return "on_trade" in vars(setup.strategy)


def new_clock(setup: SetUp, count: int, until_ns: int, logs_intents: bool) -> Clock:
    """Return a clock before the first event."""
    config = setup.backtest
    compute_ns = np.array([config.compute_ns], np.int64)
    if config.compute_run:
        compute_ns = load_compute_ns(setup.path.resolve().parent / config.compute_run)
    options = np.zeros(loop.OPTIONS, np.int64)
    options[loop.ON_EVENTS] = config.cadence == "events"
    options[loop.WANTS_TRADES] = wants_trades(setup)
    options[loop.BOOK_LEVELS] = config.book_levels
    options[loop.UNTIL] = until_ns or loop.NEVER
    options[loop.LOGS_INTENTS] = logs_intents
    return Clock(
        words=np.zeros(loop.WORDS, np.int64),
        options=options,
        due=np.full((count, 4), loop.NEVER, np.int64),
        cursors=np.zeros((count, 2), np.int64),
        none=np.zeros(at_venue.REQUEST_WORDS, np.int64),
        scratch=np.zeros(at_venue.ORDER_WORDS, np.int64),
        compute_ns=compute_ns,
        states=np.zeros(4_096 + count, STATE),
        log=np.zeros(4_096 if logs_intents else 1, ORDER_REQUEST),
    )

"""Put an exchange together from its config: its market, accounts with money, keys, flow."""

from pathlib import Path

import numpy as np

from common.enums import OrderType, Side, TimeInForce
from common.errors import ConfigError
from common.fixed_point import steps_from_text
from common.instruments import Instrument, instrument_table
from common.records import INSTRUMENT
from processes.venue import accounts as ledger
from processes.venue import flow, matching
from processes.venue.accounts import new_accounts
from processes.venue.auth import Key, Keys
from processes.venue.capture import CaptureMarket
from processes.venue.config import AccountConfig, FlowConfig, VenueConfig
from processes.venue.engine import StpMode, new_engine, new_events
from processes.venue.exchange import ACCOUNT_BASE, Exchange
from processes.venue.filters import Rules
from processes.venue.flow import Flow, NoFlow
from processes.venue.market import EngineMarket
from processes.venue.ticks import TickMarket

BALANCE_E8_MAX = 10**17  # a thousand million in quote currency


def build_exchange(config: VenueConfig, instruments: list[Instrument], now_ms: int) -> Exchange:
    """Make the exchange that a config describes.

    Raises:
        ConfigError: a key file or capture cannot be read, a number is not one.
    """
    try:
        rules = [Rules(i, config.symbols[i.symbol]) for i in instruments]
    except ValueError as error:
        raise ConfigError(f"venue.symbols: {error}") from None
    accounts_max = ACCOUNT_BASE + len(config.accounts)
    accounts = new_accounts(instrument_table(instruments), accounts_max)
    keys = []
    for account, account_config in enumerate(config.accounts, ACCOUNT_BASE):
        wallet = accounts.wallets[account]
        wallet["balance_e8"] = read_balance(account_config)
        wallet["maker_fee_e8"] = config.maker_fee_e8
        wallet["taker_fee_e8"] = config.taker_fee_e8
        keys.append(read_key(account_config, account))
    warm_up_accounts()
    if config.capture is not None or config.ticks is not None:
        capture: CaptureMarket
        if config.capture is not None:
            capture = CaptureMarket(
                config.capture, config.capture.symbol, instruments, accounts_max
            )
        else:
            assert config.ticks is not None
            capture = TickMarket(config.ticks, instruments, accounts_max)
        exchange = Exchange(
            config, instruments, rules, capture, accounts, Keys(keys), capture, now_ms
        )
        capture.attach(exchange)
        return exchange
    warm_up_engine()
    market = EngineMarket(
        new_engine(len(instruments), accounts_max, orders_max=config.order_capacity)
    )
    step: Flow | NoFlow
    if config.flow is not None:
        flow.warm_up()
        step = Flow(config.flow, market, instruments, rules)
    else:
        step = NoFlow(FlowConfig().step_ms)
    return Exchange(config, instruments, rules, market, accounts, Keys(keys), step, now_ms)


def warm_up() -> None:
    """Call every kernel that requests need, so that none waits for a compiler."""
    warm_up_engine()
    warm_up_accounts()


def warm_up_engine() -> None:
    """Call the matching engine's kernels."""
    engine = new_engine(1, 2, orders_max=64)
    events = new_events(engine)
    limit, gtc, no_stp = OrderType.LIMIT.value, TimeInForce.GTC.value, StpMode.NONE.value
    bid, ask = Side.BID.value, Side.ASK.value
    _, order_id, _ = matching.submit(engine, events, 0, 0, 0, bid, limit, gtc, no_stp, 0, 100, 5)
    matching.amend(engine, events, 0, 0, 0, order_id, 101, 5)
    matching.submit(engine, events, 0, 0, 1, ask, limit, gtc, no_stp, 0, 101, 2)
    matching.best(engine, 0)
    matching.last_update_id(engine, 0)
    matching.depth(engine, 0, bid, np.zeros(1, np.int64), np.zeros(1, np.int64))
    matching.find(engine, order_id)
    matching.cancel(engine, events, 0, 0, 0, order_id)


def warm_up_accounts() -> None:
    """Call the kernels of wallets and positions."""
    accounts = new_accounts(np.zeros(1, INSTRUMENT), 2)
    ledger.book_fill(accounts, 0, 0, Side.BID.value, 101, 2, 1, np.zeros(1, ledger.FILL), 0)
    ledger.unrealised_e8(accounts, 0, 0, 1)
    ledger.settle_funding(accounts, 0, 1, 1, np.zeros(2, np.int64))


def read_balance(config: AccountConfig) -> int:
    """Return an account's starting balance in e8. Raises ConfigError."""
    try:
        balance_e8 = steps_from_text(config.balance, 8)
    except ValueError as error:
        raise ConfigError(f"venue.accounts.{config.name}.balance: {error}") from None
    if balance_e8 > BALANCE_E8_MAX:
        raise ConfigError(
            f"venue.accounts.{config.name}.balance: {config.balance}, expected at most 1000000000"
        )
    return balance_e8


def read_key(config: AccountConfig, account: int) -> Key:
    """Return an account's API key, from the config or from its files. Raises ConfigError."""
    api_key = config.api_key or read_secret(config.api_key_file)
    secret = config.secret_key
    if config.secret_key_file:
        secret = read_secret(config.secret_key_file)
    try:
        public = bytes.fromhex(config.ed25519_public_hex)
        return Key(api_key, account, secret, public)
    except ValueError:
        raise ConfigError(
            f"venue.accounts.{config.name}.ed25519_public_hex: expected 64 hexadecimal digits"
        ) from None


def read_secret(path: str) -> str:
    """Return the one line of a key file. Raises ConfigError."""
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise ConfigError(f"{path}: {(error.strerror or str(error)).lower()}") from None

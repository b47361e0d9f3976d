"""What an account sees of itself: wallet, positions, margin, settings; and funding.

Amounts are e8. Margin is cross: initial margin = notional / leverage of positions and open orders,
available = wallet + unrealised profit - initial margin (account and position pages).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from common.enums import Side
from common.fixed_point import text_from_steps
from processes.venue import accounts as ledger
from processes.venue.accounts import BookStatus
from processes.venue.auth import parse_int
from processes.venue.errors import VenueError
from processes.venue.filters import QUOTE
from processes.venue.marks import E8, Mark
from processes.venue.orders import Fill, Order, e8_text

if TYPE_CHECKING:
    from processes.venue.exchange import Exchange

LEVERAGE_DEFAULT = 20
LEVERAGE_MAX = 125
# Largest position in quote units by the highest leverage that may hold it.
NOTIONAL_MAX = {
    125: 50_000,
    100: 600_000,
    75: 3_000_000,
    50: 12_000_000,
    20: 40_000_000,
    10: 100_000_000,
    5: 200_000_000,
}
MAINTENANCE_E8 = 400_000  # 0.4 % of the notional


class Money:
    """One account in figures, e8."""

    def __init__(self) -> None:
        self.wallet = self.unrealised = self.position_margin = self.order_margin = 0
        self.maintenance = 0

    @property
    def initial(self) -> int:
        """Initial margin of positions and open orders."""
        return self.position_margin + self.order_margin

    @property
    def margin_balance(self) -> int:
        """Wallet with unrealised profit."""
        return self.wallet + self.unrealised

    @property
    def available(self) -> int:
        """What new orders can be opened with."""
        return max(self.margin_balance - self.initial, 0)


class Views:
    """Accounts of one exchange as their owners see them."""

    def __init__(self, exchange: "Exchange") -> None:
        self.exchange = exchange
        self.leverages: dict[tuple[int, int], int] = {}
        self.updated_ms: dict[tuple[int, int], int] = {}  # (account, instrument or -1)
        self.fill_rows = np.zeros(1, ledger.FILL)
        self.payments = np.zeros(len(exchange.accounts.wallets), np.int64)
        self.funding_refused = 0

    def leverage(self, account: int, index: int) -> int:
        """Return the leverage that an account has set for a symbol."""
        return self.leverages.get((account, index), LEVERAGE_DEFAULT)

    def notional_max(self, account: int, index: int) -> int:
        """Return the largest position in quote units at the account's leverage."""
        leverage = self.leverage(account, index)
        return max(cap for most, cap in NOTIONAL_MAX.items() if most >= leverage)

    def book_fill(self, fill: Fill) -> None:
        """Book a fill into wallet and position; commission and profit go into the fill."""
        index = fill.order.instrument.instrument_id
        status = ledger.book_fill(
            self.exchange.accounts,
            fill.account,
            index,
            fill.order.side,
            fill.price_steps,
            fill.qty_steps,
            int(fill.is_maker),
            self.fill_rows,
            0,
        )
        assert status == BookStatus.OK, f"account {fill.account}: amounts overflow an int64"
        fill.commission_e8 = int(self.fill_rows["fee_e8"][0])
        fill.realized_e8 = int(self.fill_rows["realised_e8"][0])
        self.updated_ms[fill.account, index] = self.updated_ms[fill.account, -1] = fill.ts_ms

    def position_e8(self, account: int, index: int) -> tuple[int, int, int]:
        """Return (position in steps, entry price e8, unrealised profit e8)."""
        row = self.exchange.accounts.positions[account, index]
        steps, cost = int(row["position_steps"]), int(row["cost_steps2"])
        if steps == 0:
            return 0, 0, 0
        step_e8 = self.exchange.rules[index].step_e8
        profit, _ = ledger.unrealised_e8(
            self.exchange.accounts, account, index, self.exchange.marks[index].mark_e8
        )
        return steps, cost * step_e8 // abs(steps), profit

    def notional_e8(self, index: int, steps: int) -> int:
        """Return the worth at the mark price of a quantity in steps."""
        mark_e8 = self.exchange.marks[index].mark_e8
        return mark_e8 * steps // 10 ** self.exchange.instruments[index].qty_grid_decimals

    def order_margin_e8(self, account: int, index: int) -> int:
        """Return the initial margin of a symbol's open orders: of the heavier side."""
        instrument = self.exchange.instruments[index]
        heavier = max(self.exchange.trading.open_notionals(account, index))
        return instrument.e8_from_steps2(heavier) // self.leverage(account, index)

    def money(self, account: int) -> Money:
        """Add an account up."""
        money = Money()
        money.wallet = int(self.exchange.accounts.wallets[account]["balance_e8"])
        for index in range(len(self.exchange.instruments)):
            steps, _, profit = self.position_e8(account, index)
            notional = abs(self.notional_e8(index, steps))
            money.unrealised += profit
            money.position_margin += notional // self.leverage(account, index)
            money.maintenance += notional * MAINTENANCE_E8 // E8
            money.order_margin += self.order_margin_e8(account, index)
        return money

    def check_margin(self, order: Order, price_steps: int = 0, qty_steps: int = 0) -> None:
        """Judge whether the account can carry a new order, or an amended one at new values.

        The heavier side of a symbol's open orders needs margin; what reduces a position needs none.

        Raises:
            VenueError: -2027 beyond the position limit of the leverage, -2019 without the margin.
        """
        account, index, instrument = order.account, order.instrument.instrument_id, order.instrument
        mark_steps = self.exchange.marks[index].mark_e8 // self.exchange.rules[index].step_e8
        extra_steps2 = (price_steps or order.price_steps or mark_steps) * order.qty_steps
        if qty_steps:
            left = max(qty_steps - order.executed_steps, 0)
            extra_steps2 = price_steps * left - order.price_steps * order.open_steps
        before = self.exchange.trading.open_notionals(account, index)
        bids, asks = before
        if order.side == Side.BID:
            bids += extra_steps2
        else:
            asks += extra_steps2
        held_e8 = self.notional_e8(index, self.position_e8(account, index)[0])
        mine_e8 = instrument.e8_from_steps2(bids if order.side == Side.BID else asks)
        worst_e8 = order.side * held_e8 + mine_e8
        if worst_e8 > self.notional_max(account, index) * E8:
            raise VenueError(-2027)
        heavier_e8 = instrument.e8_from_steps2(max(bids, asks) - max(before))
        if heavier_e8 <= 0 or worst_e8 <= abs(held_e8):
            return
        if heavier_e8 // self.leverage(account, index) > self.money(account).available:
            raise VenueError(-2019)

    def account_update(
        self, account: int, why: str, index: int | None, now_ms: int, change_e8: int = 0
    ) -> dict[str, object]:
        """Return an ACCOUNT_UPDATE: the wallet, and the position of `index` if that changed."""
        wallet = text_from_steps(int(self.exchange.accounts.wallets[account]["balance_e8"]), 8)
        positions = []
        if index is not None:
            row = self.exchange.accounts.positions[account, index]
            steps, entry, profit = self.position_e8(account, index)
            positions.append(
                {
                    "s": self.exchange.instruments[index].symbol,
                    "pa": self.exchange.texts[index].qty(steps),
                    "ep": plain_text(entry),
                    "bep": plain_text(self.break_even_e8(account, index)),
                    "cr": e8_text(int(row["realised_e8"])),
                    "up": e8_text(profit),
                    "mt": "cross",
                    "iw": "0",
                    "ps": "BOTH",
                }
            )
        balance = {"a": QUOTE, "wb": wallet, "cw": wallet, "bc": e8_text(change_e8)}
        return {
            "e": "ACCOUNT_UPDATE",
            "E": now_ms,
            "T": now_ms,
            "a": {"m": why, "B": [balance], "P": positions},
        }

    def break_even_e8(self, account: int, index: int) -> int:
        """Return the price at which closing now by a taker would leave nothing."""
        steps, entry, _ = self.position_e8(account, index)
        taker = int(self.exchange.accounts.wallets[account]["taker_fee_e8"])
        return entry + (1 if steps > 0 else -1) * entry * taker // E8 if steps else 0

    def settle_funding(self, index: int, mark: Mark, now_ms: int) -> None:
        """Pay funding on all positions of a symbol; cross accounts hear of balances only."""
        self.funding_refused += ledger.settle_funding(
            self.exchange.accounts, index, mark.mark_e8, mark.rate_e8, self.payments
        )
        for account, change in enumerate(self.payments.tolist()):
            if change and self.exchange.users.has_listeners(account):
                body = self.account_update(account, "FUNDING_FEE", None, now_ms, change)
                self.exchange.emit(account, "ACCOUNT_UPDATE", body)

    def balances(self, account: int) -> list[dict[str, object]]:
        """Return balance v2 / v3."""
        money = self.money(account)
        wallet, available = text_from_steps(money.wallet, 8), text_from_steps(money.available, 8)
        return [
            {
                "accountAlias": f"acct{account}",
                "asset": QUOTE,
                "balance": wallet,
                "crossWalletBalance": wallet,
                "crossUnPnl": text_from_steps(money.unrealised, 8),
                "availableBalance": available,
                "maxWithdrawAmount": available,
                "marginAvailable": True,
                "updateTime": self.updated_ms.get((account, -1), 0),
            }
        ]

    def shown_positions(self, account: int) -> list[int]:
        """Return the symbols with a position or open orders."""
        return [
            index
            for index in range(len(self.exchange.instruments))
            if self.exchange.accounts.positions[account, index]["position_steps"]
            or any(self.exchange.trading.open_notionals(account, index))
        ]

    def position_risk(
        self, account: int, symbol: str | None, version: str
    ) -> list[dict[str, object]]:
        """Return positionRisk: v3 lists symbols in use, v2 all of them with leverage."""
        if symbol is not None:
            indexes = [self.exchange.find_symbol(symbol)]
            if version == "v3":
                indexes = [i for i in self.shown_positions(account) if i in indexes]
        elif version == "v3":
            indexes = self.shown_positions(account)
        else:
            indexes = list(range(len(self.exchange.instruments)))
        return [self.risk_of(account, index, version) for index in indexes]

    def risk_of(self, account: int, index: int, version: str) -> dict[str, object]:
        """Return one element of positionRisk."""
        steps, entry, profit = self.position_e8(account, index)
        notional, leverage = self.notional_e8(index, steps), self.leverage(account, index)
        instrument = self.exchange.instruments[index]
        bids, asks = self.exchange.trading.open_notionals(account, index)
        position_margin = abs(notional) // leverage
        order_margin = self.order_margin_e8(account, index)
        body: dict[str, object] = {
            "symbol": instrument.symbol,
            "positionSide": "BOTH",
            "positionAmt": self.exchange.texts[index].qty(steps),
            "entryPrice": plain_text(entry),
            "breakEvenPrice": plain_text(self.break_even_e8(account, index)),
            "markPrice": text_from_steps(self.exchange.marks[index].mark_e8, 8),
            "unRealizedProfit": text_from_steps(profit, 8),
            "liquidationPrice": "0",
        }
        if version == "v2":
            return body | {
                "leverage": str(leverage),
                "maxNotionalValue": str(self.notional_max(account, index)),
                "marginType": "cross",
                "isolatedMargin": "0.00000000",
                "isAutoAddMargin": "false",
                "notional": text_from_steps(notional, 8),
                "isolatedWallet": "0",
                "updateTime": self.updated_ms.get((account, index), 0),
            }
        return body | {
            "isolatedMargin": "0",
            "notional": text_from_steps(notional, 8),
            "marginAsset": QUOTE,
            "isolatedWallet": "0",
            "initialMargin": text_from_steps(position_margin + order_margin, 8),
            "maintMargin": text_from_steps(abs(notional) * MAINTENANCE_E8 // E8, 8),
            "positionInitialMargin": text_from_steps(position_margin, 8),
            "openOrderInitialMargin": text_from_steps(order_margin, 8),
            "adl": 1 if steps else 0,
            "bidNotional": e8_text(instrument.e8_from_steps2(bids)),
            "askNotional": e8_text(instrument.e8_from_steps2(asks)),
            "updateTime": self.updated_ms.get((account, index), 0),
        }

    def account(self, account: int, version: str) -> dict[str, object]:
        """Return account v2 / v3."""
        money = self.money(account)
        wallet, profit = text_from_steps(money.wallet, 8), text_from_steps(money.unrealised, 8)
        available = text_from_steps(money.available, 8)
        margins = {
            "maintMargin": text_from_steps(money.maintenance, 8),
            "initialMargin": text_from_steps(money.initial, 8),
            "positionInitialMargin": text_from_steps(money.position_margin, 8),
            "openOrderInitialMargin": text_from_steps(money.order_margin, 8),
        }
        asset = {
            "asset": QUOTE,
            "walletBalance": wallet,
            "unrealizedProfit": profit,
            "marginBalance": text_from_steps(money.margin_balance, 8),
            **margins,
            "crossWalletBalance": wallet,
            "crossUnPnl": profit,
            "availableBalance": available,
            "maxWithdrawAmount": available,
            "updateTime": self.updated_ms.get((account, -1), 0),
        }
        shown = (
            self.shown_positions(account)
            if version == "v3"
            else range(len(self.exchange.instruments))
        )
        return {
            "totalInitialMargin": margins["initialMargin"],
            "totalMaintMargin": margins["maintMargin"],
            "totalWalletBalance": wallet,
            "totalUnrealizedProfit": profit,
            "totalMarginBalance": asset["marginBalance"],
            "totalPositionInitialMargin": margins["positionInitialMargin"],
            "totalOpenOrderInitialMargin": margins["openOrderInitialMargin"],
            "totalCrossWalletBalance": wallet,
            "totalCrossUnPnl": profit,
            "availableBalance": available,
            "maxWithdrawAmount": available,
            "assets": [asset],
            "positions": [self.held(account, index, version) for index in shown],
        }

    def held(self, account: int, index: int, version: str) -> dict[str, object]:
        """Return one element of account `positions`."""
        risk = self.risk_of(account, index, "v3")
        body: dict[str, object] = {
            "symbol": risk["symbol"],
            "positionSide": "BOTH",
            "positionAmt": risk["positionAmt"],
            "unrealizedProfit": risk["unRealizedProfit"],
            "isolatedMargin": "0",
            "notional": risk["notional"],
            "isolatedWallet": "0",
            "initialMargin": risk["initialMargin"],
            "maintMargin": risk["maintMargin"],
            "updateTime": risk["updateTime"],
        }
        if version == "v2":
            body |= {
                "entryPrice": risk["entryPrice"],
                "leverage": str(self.leverage(account, index)),
                "isolated": False,
            }
        return body

    def set_leverage(
        self, account: int, params: Mapping[str, str], now_ms: int
    ) -> dict[str, object]:
        """Change a symbol's leverage. Raises VenueError -4028."""
        index = self.exchange.find_symbol(params.get("symbol"))
        leverage = parse_int(params.get("leverage"), "leverage")
        if not 1 <= leverage <= LEVERAGE_MAX:
            raise VenueError(-4028, leverage)
        symbol = self.exchange.instruments[index].symbol
        self.leverages[account, index] = leverage
        body = {
            "e": "ACCOUNT_CONFIG_UPDATE",
            "E": now_ms,
            "T": now_ms,
            "ac": {"s": symbol, "l": leverage},
        }
        self.exchange.emit(account, "ACCOUNT_CONFIG_UPDATE", body)
        return {
            "leverage": leverage,
            "maxNotionalValue": str(self.notional_max(account, index)),
            "symbol": symbol,
        }

    def set_margin_type(self, params: Mapping[str, str]) -> dict[str, object]:
        """Refuse to change the margin type: accounts are CROSSED. Raises VenueError."""
        self.exchange.find_symbol(params.get("symbol"))
        raise VenueError(-4046 if params.get("marginType") == "CROSSED" else -1020)

    def set_dual_side(self, params: Mapping[str, str]) -> dict[str, object]:
        """Refuse hedge mode: accounts are one-way. Raises VenueError."""
        raise VenueError(-4059 if params.get("dualSidePosition") == "false" else -1020)

    def commission_rate(self, account: int, params: Mapping[str, str]) -> dict[str, object]:
        """Return the account's fee rates."""
        index = self.exchange.find_symbol(params.get("symbol"))
        wallet = self.exchange.accounts.wallets[account]
        return {
            "symbol": self.exchange.instruments[index].symbol,
            "makerCommissionRate": rate_text(int(wallet["maker_fee_e8"])),
            "takerCommissionRate": rate_text(int(wallet["taker_fee_e8"])),
            "rpiCommissionRate": "0",
        }

    def symbol_config(self, account: int, params: Mapping[str, str]) -> list[dict[str, object]]:
        """Return symbolConfig of one symbol or of all."""
        chosen = params.get("symbol")
        indexes = (
            range(len(self.exchange.instruments))
            if chosen is None
            else [self.exchange.find_symbol(chosen)]
        )
        return [
            {
                "symbol": self.exchange.instruments[index].symbol,
                "marginType": "CROSSED",
                "isAutoAddMargin": False,
                "leverage": self.leverage(account, index),
                "maxNotionalValue": str(self.notional_max(account, index)),
            }
            for index in indexes
        ]

    def account_config(self, now_ms: int) -> dict[str, object]:
        """Return accountConfig."""
        return {
            "feeTier": 0,
            "canTrade": True,
            "canDeposit": False,
            "canWithdraw": False,
            "dualSidePosition": False,
            "multiAssetsMargin": False,
            "tradeGroupId": -1,
            "updateTime": now_ms,
        }

    def premium_index(self, symbol: str | None, now_ms: int) -> object:
        """Return premiumIndex of one symbol or of all."""
        if symbol is not None:
            return self.premium_of(self.exchange.find_symbol(symbol), now_ms)
        return [self.premium_of(i, now_ms) for i in range(len(self.exchange.instruments))]

    def premium_of(self, index: int, now_ms: int) -> dict[str, object]:
        """Return one premiumIndex object."""
        mark = self.exchange.marks[index]
        return {
            "symbol": self.exchange.instruments[index].symbol,
            "markPrice": text_from_steps(mark.mark_e8, 8),
            "indexPrice": text_from_steps(mark.index_e8, 8),
            "estimatedSettlePrice": text_from_steps(mark.mark_e8, 8),
            "lastFundingRate": text_from_steps(mark.rate_e8, 8),
            "interestRate": text_from_steps(mark.interest_e8, 8),
            "nextFundingTime": mark.next_funding_ms,
            "time": now_ms,
        }


def plain_text(price_e8: int) -> str:
    """Return a price with as many decimals as it needs, at least one."""
    whole, _, fraction = text_from_steps(price_e8, 8).partition(".")
    return f"{whole}.{fraction.rstrip('0') or '0'}"


def rate_text(rate_e8: int) -> str:
    """Return a fee rate with as many decimals as it needs, at least four."""
    whole, _, fraction = text_from_steps(rate_e8, 8).partition(".")
    return f"{whole}.{fraction.rstrip('0').ljust(4, '0')}"

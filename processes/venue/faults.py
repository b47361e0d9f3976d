"""Faults on request, for system tests: lost frames, lost answers, stalls, wrong clocks.

A test arms them through `Faults` itself or, if the config says so, by POST of a JSON object to
/venue/faults from a loopback address: {"do": NAME, ...}; GET-less and unsigned on purpose, so it
refuses everybody else.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec

from processes.venue.config import FaultConfig
from processes.venue.errors import VenueError
from processes.venue.exchange import AUTOCLOSE, Exchange
from processes.venue.rest import Answer

LOOPBACK = ("127.0.0.1", "::1")
STALL_MS_MAX = 60_000
WAIT_S = 0.005
UNKNOWN_BODY = msgspec.json.encode(
    {"code": -1000, "msg": "Unknown error, please check your request or try again later."}
)


class Command(msgspec.Struct, forbid_unknown_fields=True):
    """One fault to arm.

    Attributes:
        do: drop_depth, disconnect, order_unknown, order_lost, order_overloaded, slow_answers,
            stall, skew_clock, expire_listen_key, ban, stale_depth, drop_fills, repeat_fills,
            autoclose.
        symbol: for drop_depth and autoclose.
        kind: for disconnect: public, market, private, api, legacy or all.
        count: how many times, where that has a meaning.
        ms: for slow_answers (0 ends it), stall, skew_clock and ban.
        account: index in the config's list, for expire_listen_key and autoclose.
        side, qty: of the venue's own order in an account's name, for autoclose.
    """

    do: str
    symbol: str = ""
    kind: str = ""
    count: int = 1
    ms: int = 0
    account: int = 0
    side: str = ""
    qty: str = ""


class Closable(Protocol):
    """A socket that can be closed."""

    def close(self, code: int) -> None:
        """Close it."""


class Faults:
    """What is armed."""

    def __init__(self, exchange: Exchange, config: FaultConfig) -> None:
        self.exchange = exchange
        self.unknown = 0  # next orders: done, answered 503 or -1007
        self.lost = 0  # next orders: done, not answered
        self.overloaded = 0  # next orders: not done, answered -1008
        self.stalled_until_ms = 0
        self.answers_late_ms = 0  # orders are done at once, their answers come later
        self.autoclosed = 0

    def is_stalled(self, now_ms: int) -> bool:
        """Return True while the whole venue stands still."""
        return now_ms < self.stalled_until_ms

    async def wait(
        self, sleep: Callable[[float], Awaitable[None]], now_ms: Callable[[], int]
    ) -> None:
        """Hold a request back while the venue stands still."""
        while self.is_stalled(now_ms()):
            await sleep(WAIT_S)

    def refuse(self) -> bool:
        """Return True if the order that has come is to be refused as overload."""
        if self.overloaded:
            self.overloaded -= 1
            return True
        return False

    def rewrite(self, method: str, path: str, answer: Answer) -> Answer | None:
        """Return the answer that an order request gets in place of the true one; None for none."""
        if method != "POST" or path != "/fapi/v1/order" or answer.status != 200:
            return answer
        if self.unknown:
            self.unknown -= 1
            return Answer(503, UNKNOWN_BODY, answer.headers)
        if self.lost:
            self.lost -= 1
            return None
        return answer

    def rewrite_api(self, request: str, answer: str) -> str | None:
        """Return what an order.place is answered in place of the truth; None for nothing."""
        if not is_placement(request) or '"status":200' not in answer[:80]:
            return answer
        if self.unknown:
            self.unknown -= 1
            return self.error_in_place(answer, -1007)
        if self.lost:
            self.lost -= 1
            return None
        return answer

    def error_in_place(self, answer: str, code: int) -> str:
        """Return an error answer with the id of another one."""
        error = VenueError(code)
        request_id = msgspec.json.decode(answer)["id"]
        return msgspec.json.encode(
            {"id": request_id, "status": error.status, "error": error.body()}
        ).decode()

    def command(
        self, body: str, ip: str, sockets: list[tuple[Closable, str]], now_ms: int
    ) -> tuple[int, str]:
        """Do what an admin request asks; (HTTP status, JSON)."""
        if ip not in LOOPBACK:
            return 403, '{"error":"loopback only"}'
        try:
            command = msgspec.json.decode(body, type=Command)
            result = self.do(command, sockets, now_ms)
        except (msgspec.DecodeError, VenueError, KeyError, IndexError) as error:
            return 400, msgspec.json.encode({"error": str(error)}).decode()
        return 200, msgspec.json.encode({"done": command.do, "result": result}).decode()

    def do(self, command: Command, sockets: list[tuple[Closable, str]], now_ms: int) -> Any:
        """Arm or do one fault; what it reports depends on the fault."""
        if command.do == "drop_depth":
            streams = self.exchange.streams[self.exchange.find_symbol(command.symbol)]
            streams.drop_next += command.count
            return streams.drop_next
        if command.do == "disconnect":
            chosen = [s for s, kind in sockets if command.kind in (kind, "all")]
            for socket in chosen:
                socket.close(1001)
            return len(chosen)
        if command.do in ("order_unknown", "order_lost", "order_overloaded"):
            name = command.do.removeprefix("order_")
            setattr(self, name, getattr(self, name) + command.count)
            return command.count
        if command.do == "slow_answers":
            self.answers_late_ms = min(command.ms, STALL_MS_MAX)
            return self.answers_late_ms
        if command.do == "stall":
            self.stalled_until_ms = now_ms - self.exchange.clock_skew_ms
            self.stalled_until_ms += min(command.ms, STALL_MS_MAX)
            return self.stalled_until_ms
        if command.do == "skew_clock":
            self.exchange.clock_skew_ms = command.ms
            return command.ms
        return self.do_to_account(command, now_ms)

    def do_to_account(self, command: Command, now_ms: int) -> Any:
        """Do a fault that hits one account or address."""
        if command.do == "expire_listen_key":
            account = self.exchange.account_ids[command.account]
            self.exchange.users.expire(self.exchange.users.by_account[account], now_ms)
            return account
        if command.do == "ban":
            for address in self.exchange.limits.addresses.values():
                address.banned_until_ms = now_ms + command.ms
            return len(self.exchange.limits.addresses)
        if command.do == "stale_depth":
            self.exchange.stale_depths += command.count
            return self.exchange.stale_depths
        if command.do == "drop_fills":
            self.exchange.users.drop_fills += command.count
            return self.exchange.users.drop_fills
        if command.do == "repeat_fills":
            self.exchange.users.repeat_fills += command.count
            return self.exchange.users.repeat_fills
        if command.do == "autoclose":
            return self.autoclose(command, now_ms)
        raise KeyError(f"{command.do}: no such fault")

    def autoclose(self, command: Command, now_ms: int) -> Any:
        """Trade in an account's name, as a liquidation does: an order that nobody there sent."""
        self.autoclosed += 1
        params = {
            "symbol": command.symbol,
            "side": command.side,
            "type": "MARKET",
            "quantity": command.qty,
            "newClientOrderId": f"{AUTOCLOSE}{now_ms}{self.autoclosed:06d}",
        }
        account = self.exchange.account_ids[command.account]
        return self.exchange.trading.place(account, params, now_ms).placed(True)


def is_placement(request: str) -> bool:
    """Return True for an order.place frame, without decoding it twice."""
    return '"order.place"' in request

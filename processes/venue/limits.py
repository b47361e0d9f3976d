"""Rate limits as the venue counts them: weight per IP, orders per account, bans for not listening.

Windows are aligned to the venue's clock. Breaking the weight limit answers 429; going on regardless
answers 418 with a ban that doubles each time (limits page).
"""

from processes.venue.errors import VenueError

MINUTE_MS = 60_000
TEN_SECONDS_MS = 10_000
BAN_MS_FIRST = 120_000
BAN_MS_MAX = 259_200_000
ADDRESSES_MAX = 1_024


class Window:
    """A count that starts again at every multiple of the interval."""

    def __init__(self, interval_ms: int) -> None:
        self.interval_ms = interval_ms
        self.number = -1
        self.count = 0

    def add(self, amount: int, now_ms: int) -> int:
        """Count an amount and return the window's total with it."""
        number = now_ms // self.interval_ms
        if number != self.number:
            self.number = number
            self.count = 0
        self.count += amount
        return self.count


class Address:
    """What one IP address has used and how it behaved."""

    def __init__(self) -> None:
        self.weight = Window(MINUTE_MS)
        self.broken = 0
        self.bans = 0
        self.banned_until_ms = 0


class AccountOrders:
    """Order counts of one account."""

    def __init__(self) -> None:
        self.ten_seconds = Window(TEN_SECONDS_MS)
        self.minute = Window(MINUTE_MS)


class Limits:
    """All counters of the venue.

    Args:
        weight_max: request weight per minute and IP.
        orders_10s_max: orders per ten seconds and account.
        orders_1m_max: orders per minute and account.
        broken_max: answers 429 to one IP before it is banned.
    """

    def __init__(
        self, weight_max: int, orders_10s_max: int, orders_1m_max: int, broken_max: int
    ) -> None:
        self.weight_max = weight_max
        self.orders_10s_max = orders_10s_max
        self.orders_1m_max = orders_1m_max
        self.broken_max = broken_max
        self.addresses: dict[str, Address] = {}
        self.accounts: dict[int, AccountOrders] = {}

    def address(self, ip: str) -> Address:
        """Return the counters of an address; the table is emptied when it is full."""
        found = self.addresses.get(ip)
        if found is None:
            if len(self.addresses) >= ADDRESSES_MAX:
                self.addresses.clear()
            found = self.addresses[ip] = Address()
        return found

    def account(self, account: int) -> AccountOrders:
        """Return the order counters of an account."""
        found = self.accounts.get(account)
        if found is None:
            found = self.accounts[account] = AccountOrders()
        return found

    def add_weight(self, ip: str, weight: int, now_ms: int) -> int:
        """Count a request's weight and return what the minute has used.

        Raises:
            VenueError: -1003 with HTTP 429, or 418 while the address is banned.
        """
        address = self.address(ip)
        if now_ms < address.banned_until_ms:
            raise banned(address.banned_until_ms)
        used = address.weight.add(weight, now_ms)
        if used <= self.weight_max:
            return used
        address.broken += 1
        if address.broken > self.broken_max:
            address.broken = 0
            ban_ms = min(BAN_MS_FIRST << min(address.bans, 20), BAN_MS_MAX)
            address.bans += 1
            address.banned_until_ms = now_ms + ban_ms
            raise banned(address.banned_until_ms)
        raise VenueError(-1003, self.weight_max)

    def used_weight(self, ip: str, now_ms: int) -> int:
        """Return the weight that an address has used in this minute."""
        return self.address(ip).weight.add(0, now_ms)

    def add_orders(self, account: int, count_10s: int, count_1m: int, now_ms: int) -> None:
        """Count orders of an account.

        Raises:
            VenueError: -1015; the refused order is not counted.
        """
        orders = self.account(account)
        if orders.ten_seconds.add(0, now_ms) + count_10s > self.orders_10s_max:
            raise VenueError(-1015, self.orders_10s_max, "10 SECOND", status=429)
        if orders.minute.add(0, now_ms) + count_1m > self.orders_1m_max:
            raise VenueError(-1015, self.orders_1m_max, "1 MINUTE", status=429)
        orders.ten_seconds.add(count_10s, now_ms)
        orders.minute.add(count_1m, now_ms)

    def used_orders(self, account: int, now_ms: int) -> tuple[int, int]:
        """Return the order counts of the running ten seconds and minute."""
        orders = self.account(account)
        return orders.ten_seconds.add(0, now_ms), orders.minute.add(0, now_ms)

    def describe(self, ip: str, account: int | None, now_ms: int) -> list[dict[str, object]]:
        """Return the `rateLimits` array of a WebSocket API answer."""
        rows: list[dict[str, object]] = []
        if account is not None:
            ten, minute = self.used_orders(account, now_ms)
            rows.append(limit_row("ORDERS", "SECOND", 10, self.orders_10s_max, ten))
            rows.append(limit_row("ORDERS", "MINUTE", 1, self.orders_1m_max, minute))
        used = self.used_weight(ip, now_ms)
        rows.append(limit_row("REQUEST_WEIGHT", "MINUTE", 1, self.weight_max, used))
        return rows


def limit_row(kind: str, interval: str, number: int, limit: int, count: int) -> dict[str, object]:
    """Return one element of `rateLimits`."""
    return {
        "rateLimitType": kind,
        "interval": interval,
        "intervalNum": number,
        "limit": limit,
        "count": count,
    }


def banned(until_ms: int) -> VenueError:
    """Return the answer to a banned address."""
    return VenueError(
        -1003,
        message=f"Way too many requests; IP banned until {until_ms}. "
        "Please use the websocket for live updates to avoid bans.",
        status=418,
    )

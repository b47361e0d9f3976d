"""The user-data stream: listenKeys and who hears which account's events (user-data-streams pages).

A key belongs to its account: a second POST returns the same key and extends it; DELETE by one
client closes it for all. On expiry the venue says listenKeyExpired on the still open sockets and
then nothing more.
"""

from collections.abc import Iterable
from hashlib import sha256

from processes.venue.errors import VenueError
from processes.venue.streams import Connection, Hub

LISTEN_KEY_LIFE_MS = 3_600_000


class ListenKey:
    """One live key."""

    def __init__(self, text: str, account: int, expires_ms: int) -> None:
        self.text = text
        self.account = account
        self.expires_ms = expires_ms


class UserData:
    """All keys and their listeners.

    Args:
        hub: listeners are kept there, with the key as stream name.
        seed: makes keys different from run to run, and equal within a replayed run.
    """

    def __init__(self, hub: Hub, seed: str) -> None:
        self.hub = hub
        self.seed = seed
        self.issued = 0
        self.by_text: dict[str, ListenKey] = {}
        self.by_account: dict[int, ListenKey] = {}
        self.events_sent = 0
        self.drop_fills = 0  # faults: fills to lose, fills to send twice
        self.repeat_fills = 0

    def start(self, account: int, now_ms: int) -> str:
        """Return the account's key, extended; a new one if there is none."""
        key = self.by_account.get(account)
        if key is None:
            self.issued += 1
            text = sha256(f"{self.seed} {account} {self.issued}".encode()).hexdigest()
            key = self.by_text[text] = self.by_account[account] = ListenKey(text, account, 0)
        key.expires_ms = now_ms + LISTEN_KEY_LIFE_MS
        return key.text

    def keep_alive(self, account: int, now_ms: int) -> str:
        """Extend the account's key.

        Raises:
            VenueError: -1125 without a live key.
        """
        key = self.by_account.get(account)
        if key is None:
            raise VenueError(-1125)
        key.expires_ms = now_ms + LISTEN_KEY_LIFE_MS
        return key.text

    def stop(self, account: int) -> None:
        """Close the account's key; its sockets stay open and hear nothing more.

        Raises:
            VenueError: -1125 without a live key.
        """
        key = self.by_account.pop(account, None)
        if key is None:
            raise VenueError(-1125)
        del self.by_text[key.text]

    def on_time(self, now_ms: int) -> None:
        """Expire keys that nobody kept alive."""
        for key in [k for k in self.by_account.values() if now_ms >= k.expires_ms]:
            self.expire(key, now_ms)

    def expire(self, key: ListenKey, now_ms: int) -> None:
        """Say listenKeyExpired on the key's sockets and forget it."""
        text = f'{{"e":"listenKeyExpired","E":{now_ms},"listenKey":"{key.text}"}}'
        self.send(key, "listenKeyExpired", text)
        self.stop(key.account)

    def subscribe(
        self, connection: Connection, listen_key: str, events: Iterable[str] = ()
    ) -> None:
        """Let a connection hear a key's events; an unknown key is accepted and silent."""
        connection.events[listen_key] = frozenset(events)
        self.hub.subscribe(connection, [listen_key])

    def has_listeners(self, account: int) -> bool:
        """Return True if an event of the account would be heard."""
        key = self.by_account.get(account)
        return key is not None and key.text in self.hub.listeners

    def emit(self, account: int, event: str, text: str) -> None:
        """Send one event to whoever listens to the account."""
        key = self.by_account.get(account)
        if key is None:
            return
        if event == "ORDER_TRADE_UPDATE" and '"x":"TRADE"' in text:
            if self.drop_fills:
                self.drop_fills -= 1
                return
            if self.repeat_fills:
                self.repeat_fills -= 1
                self.send(key, event, text)
        self.send(key, event, text)

    def send(self, key: ListenKey, event: str, text: str) -> None:
        """Send one event to a key's sockets, in the form and of the kinds that each asked for."""
        for connection in self.hub.listeners.get(key.text, ()):
            wanted = connection.events.get(key.text)
            if wanted and event not in wanted and event != "listenKeyExpired":
                continue
            self.events_sent += 1
            if connection.is_combined:
                connection.socket.send(f'{{"stream":"{key.text}","data":{text}}}')
            else:
                connection.socket.send(text)

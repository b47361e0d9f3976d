"""What the gateway's sockets and the other processes do, as far as orders depend on it.

A death is published before the successor starts. So it is looked for before anything is believed
that a successor may have said: else its predecessor's death would be taken for its own.

Whoever of those that quoting depends on has died, trading stops: all is canceled, and it goes on
when the successor is READY and the account has been reconciled after that.
"""

from collections.abc import Callable

from common import log
from common.enums import ReportSource

FEED, BOOK, STRATEGY, GATEWAY, REST = "feed", "book", "strategy", "gateway", "rest"
NEEDED = (FEED, BOOK, REST)  # sockets tell of the gateway, ATTACH of the strategy


class Sessions:
    """Which sockets are up, and which processes have died.

    Args:
        peer_word: what the supervisor says of a process: its epoch while it is up, minus its
            epoch while it is starting or dead, 0 unknown.

    Attributes:
        wants_doubt: the channel of answers was lost: what is in flight becomes UNKNOWN.
        is_moved: something came up or went down: the account must be reconciled.
        strategy_died: its orders are to be canceled.
    """

    def __init__(self, peer_word: Callable[[str], int]) -> None:
        self.peer_word = peer_word
        self._words = dict.fromkeys((STRATEGY, GATEWAY, *NEEDED), 0)
        self._is_up = {int(ReportSource.RESPONSE): False, int(ReportSource.STREAM): False}
        self._guessed: set[int] = set()  # taken for down at the start, and nobody has told since
        self.wants_doubt = False
        self.is_moved = False
        self.strategy_died = False

    @property
    def is_connected(self) -> bool:
        """Return True if the order socket and the user-data stream are both up."""
        return all(self._is_up.values())

    @property
    def may_trade(self) -> bool:
        """Return True if nobody whom quoting depends on is dead, or back and not READY yet."""
        return self.is_connected and all(self._words[name] >= 0 for name in NEEDED)

    def on_session(self, source: int, is_up: bool) -> bool:
        """Note that a socket came up or went down; coming up twice means it was down between.

        Returns:
            False if there is no such socket.
        """
        if source not in self._is_up:
            return False
        self.watch()
        self._guessed.discard(source)
        was_up = self._is_up[source]
        self._is_up[source] = is_up
        if source == ReportSource.RESPONSE and (was_up or not is_up):
            self.wants_doubt = True
        self.is_moved = True
        return True

    def on_attach(self) -> None:
        """Note that a strategy has started: a death not yet acted on was its predecessor's."""
        self.watch()
        self.strategy_died = False

    def lose(self) -> None:
        """The gateway, or reports of it, are gone."""
        for source in self._is_up:
            self._is_up[source] = False
        self.wants_doubt = True
        self.is_moved = True

    def restart(self, has_rings: bool) -> None:
        """Begin after the journal was read: new rings, or a dead gateway, know nothing.

        Args:
            has_rings: the rings are those that the journal speaks of: answers may still come.
        """
        self.wants_doubt = False
        word = self.peer_word(GATEWAY)
        if not has_rings or word < 0:
            self.lose()
            self._guessed = set(self._is_up)
        self._words = {name: self.peer_word(name) for name in self._words}
        self.is_moved = True

    def watch(self) -> None:
        """Act once when a process that was up has died; its next start tells of itself."""
        for name, before in self._words.items():
            word = self.peer_word(name)
            self._words[name] = word
            if name == GATEWAY and before < 0 < word and self._guessed:
                # READY means that both are up; what said so was read by an earlier life of ours.
                self._is_up |= dict.fromkeys(self._guessed, True)
                self._guessed.clear()
                self.is_moved = True
            if name in NEEDED and word != before != 0:
                self.is_moved = True
            if before <= 0 or word != -before:
                continue
            log.event("peer_lost", process=name)
            if name == GATEWAY:
                self.lose()
            elif name == STRATEGY:
                self.strategy_died = self.is_moved = True

"""Which connections the feed holds, when it opens, pings, replaces and gives them up. Sans-I/O.

A line is a set of streams that one connection carries. It has two links, so that a connection can
be replaced while it works (make before break): the second one opens and delivers, both are read
(the intake publishes each message once), then the first one is closed. Only when a line is left
without a link that delivers is anything lost; then its books get a GAP.

    link:  IDLE -> OPENING -> UP -> IDLE        line: `primary` is the link that counts
"""

import random
from enum import IntEnum
from typing import NamedTuple

from common.instruments import Instrument
from processes.feed.config import FeedConfig

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
LINKS = 2
ROTATE_JITTER = 0.05
LOOK_NS = 10 * NS_PER_MS  # between two looks at whether the old link has caught up


class Ask(IntEnum):
    """What a line wants done."""

    CONNECT = 1
    CLOSE = 2
    PING = 3
    GAP = 4
    PROMOTE = 5


class Action(NamedTuple):
    """One wish of a line: what, with which of its links, and why."""

    ask: Ask
    link: int
    reason: str = ""


class LinkState(IntEnum):
    """Where a link is."""

    IDLE = 1
    OPENING = 2
    UP = 3


class Mode(IntEnum):
    """How the intake takes the messages of a link.

    ALONE takes all; OLD those not yet published; NEW, of depth, only those that continue the chain.
    """

    ALONE = 1
    OLD = 2
    NEW = 3


class Stream(NamedTuple):
    """The streams of one connection.

    Attributes:
        url: of the combined stream.
        has_depth: it carries depth diffs: silence and loss are those of books.
        instrument_ids: whose.
    """

    url: str
    has_depth: bool
    instrument_ids: tuple[int, ...]


def plan_streams(
    instruments: list[Instrument], public_url: str, market_url: str, config: FeedConfig
) -> list[Stream]:
    """Return the connections that carry all streams of all instruments.

    Routes: protocols of the venue's "Important WebSocket Change Notice": book streams on /public,
    the others on /market. All streams of one instrument and route share a connection.
    """
    routes = (
        (public_url, (config.depth_stream, "bookTicker"), True),
        (market_url, ("aggTrade", "markPrice@1s", "forceOrder"), False),
    )
    streams = []
    for url, names, has_depth in routes:
        per_line = max(config.streams_max // len(names), 1)
        for first in range(0, len(instruments), per_line):
            part = instruments[first : first + per_line]
            wanted = "/".join(f"{i.symbol.lower()}@{name}" for i in part for name in names)
            ids = tuple(i.instrument_id for i in part)
            streams.append(Stream(f"{url}/stream?streams={wanted}", has_depth, ids))
    return streams


class Link:
    """One of the two connections of a line."""

    def __init__(self) -> None:
        self.state = LinkState.IDLE
        self.has_data = False
        self.opened_ns = 0
        self.heard_ns = 0  # last frame that proves the line alive: depth, where it carries depth
        self.any_ns = 0  # last frame, ping or pong
        self.pinged_ns = 0


class Line:
    """The protocol of one line.

    Args:
        stream: what it carries.
        config: times.
        rng: the random part of times; seeded by the caller.
    """

    def __init__(self, stream: Stream, config: FeedConfig, rng: random.Random) -> None:
        self.stream = stream
        self.links = (Link(), Link())
        self.primary = 0
        self.failures = 0
        quiet_ms = config.depth_quiet_ms_max if stream.has_depth else config.other_quiet_ms_max
        self._quiet_ns = quiet_ms * NS_PER_MS
        self._config = config
        self._rng = rng
        self._connect_ns = 1  # when the primary is to be connected; 0: it is
        self._rotate_ns = 0
        self._overlap_ns = 0  # since when both links deliver; 0: they do not
        self._look_ns = 0  # when to look again at whether it can end
        self._is_promoted = False  # the primary ran beside another one, and may be behind it

    @property
    def is_up(self) -> bool:
        """True if the link that counts delivers."""
        return self.links[self.primary].has_data

    @property
    def is_rotating(self) -> bool:
        """True while a second link opens or runs beside the first."""
        return self.links[1 - self.primary].state != LinkState.IDLE

    def mode_of(self, link: int) -> Mode:
        """Return how the messages of a link are to be taken."""
        if link != self.primary:
            return Mode.NEW
        return Mode.OLD if self.is_rotating or self._is_promoted else Mode.ALONE

    def on_open(self, link: int, now_ns: int) -> None:
        """The link's connection is open."""
        it = self.links[link]
        it.state = LinkState.UP
        it.opened_ns = it.heard_ns = it.any_ns = now_ns
        if link == self.primary:
            self._plan_rotation(now_ns)

    def on_data(self, link: int, now_ns: int, is_proof: bool) -> None:
        """Frames came; `is_proof`: of the kind whose absence means that the line is dead."""
        it = self.links[link]
        it.any_ns = now_ns
        if not is_proof:
            return
        it.heard_ns = now_ns
        it.has_data = True
        if link != self.primary and not self._overlap_ns:
            self._overlap_ns = now_ns

    def on_pong(self, link: int, now_ns: int) -> None:
        """The peer answered a ping: the connection lives, if not the stream."""
        self.links[link].any_ns = now_ns

    def on_shutdown(self, now_ns: int) -> None:
        """The venue said that it will close: replace the connection now."""
        if self.links[self.primary].state == LinkState.UP and not self.is_rotating:
            self._rotate_ns = now_ns

    def on_closed(self, link: int, now_ns: int) -> list[Action]:
        """The link's connection is gone or could not be made."""
        it = self.links[link]
        if it.state == LinkState.IDLE:
            return []  # we had given it up
        was_up, delivered, opened_ns = it.state == LinkState.UP, it.has_data, it.opened_ns
        self._forget(link)
        if link != self.primary:
            self._overlap_ns = 0
            if self.links[self.primary].state == LinkState.UP:
                self._rotate_ns = now_ns + self._back_off()
            return []
        other = self.links[1 - link]
        if other.has_data:  # it has been delivering beside: the stage knows what is missing
            return [self._promote(now_ns, "lost")]
        actions = []
        if delivered and self.stream.has_depth:
            actions.append(Action(Ask.GAP, link, "lost"))
        if other.state == LinkState.OPENING or other.state == LinkState.UP:
            self.primary = 1 - link
            self._is_promoted = False
            if other.state == LinkState.UP:
                self._plan_rotation(now_ns)
            return actions
        if was_up and now_ns - opened_ns >= self._config.stable_ms * NS_PER_MS:
            self.failures = 0
        self._rotate_ns = 0  # there is nothing to replace; the new connection plans its own
        self._connect_ns = now_ns + self._back_off()
        return actions

    def on_timer(self, now_ns: int, is_caught_up: bool) -> list[Action]:
        """Do what is due.

        Args:
            is_caught_up: nothing that the second link had is still missing from the first.
        """
        if self._connect_ns and now_ns >= self._connect_ns:
            self._connect_ns = 0
            return [self._connect(self.primary)]
        actions: list[Action] = []
        for i, it in enumerate(self.links):
            if it.state == LinkState.UP:
                if now_ns - it.heard_ns >= self._quiet_ns:
                    actions.append(Action(Ask.CLOSE, i, "stale"))
                elif now_ns - max(it.any_ns, it.pinged_ns) >= self._config.ping_ms * NS_PER_MS:
                    it.pinged_ns = now_ns
                    actions.append(Action(Ask.PING, i))
        if self._overlap_ns:
            actions += self._end_overlap(now_ns, is_caught_up)
        elif self._rotate_ns and now_ns >= self._rotate_ns and not self.is_rotating:
            self._rotate_ns = 0
            actions.append(self._connect(1 - self.primary))
        return actions

    def next_timer_ns(self) -> int:
        """Return when `on_timer` is due next, 0 for never."""
        due = [self._connect_ns] if self._connect_ns else []
        for it in self.links:
            if it.state == LinkState.UP:
                due.append(it.heard_ns + self._quiet_ns)
                due.append(max(it.any_ns, it.pinged_ns) + self._config.ping_ms * NS_PER_MS)
        if self._overlap_ns:
            due.append(max(self._overlap_ns + self._config.overlap_ms * NS_PER_MS, self._look_ns))
        elif self._rotate_ns and not self.is_rotating:
            due.append(self._rotate_ns)
        return min(due, default=0)

    def _connect(self, link: int) -> Action:
        self.links[link].state = LinkState.OPENING
        if link == self.primary:
            self._is_promoted = False
        return Action(Ask.CONNECT, link, "rotate" if link != self.primary else "")

    def _forget(self, link: int) -> None:
        it = self.links[link]
        it.state = LinkState.IDLE
        it.has_data = False

    def _back_off(self) -> int:
        """Return the wait before the next attempt: doubled each time, a random half of it."""
        longest_ms = self._config.backoff_ms_max
        wait_ms = min(self._config.backoff_ms_min << min(self.failures, 20), longest_ms)
        self.failures += 1
        return int(wait_ms * NS_PER_MS * self._rng.uniform(0.5, 1.0))

    def _plan_rotation(self, now_ns: int) -> None:
        life_ns = self._config.rotate_s * NS_PER_S
        self._rotate_ns = now_ns + int(life_ns * self._rng.uniform(1.0 - ROTATE_JITTER, 1.0))

    def _end_overlap(self, now_ns: int, is_caught_up: bool) -> list[Action]:
        """Close the first link once the second has run beside it for long enough."""
        both_ns = now_ns - self._overlap_ns
        is_late = both_ns >= self._config.overlap_ms_max * NS_PER_MS
        if both_ns < self._config.overlap_ms * NS_PER_MS or not (is_caught_up or is_late):
            self._look_ns = now_ns + LOOK_NS
            return []
        old = self.primary
        self._forget(old)
        return [self._promote(now_ns, "rotated"), Action(Ask.CLOSE, old, "rotated")]

    def _promote(self, now_ns: int, reason: str) -> Action:
        self.primary = 1 - self.primary
        self._overlap_ns = 0
        self._is_promoted = True
        self._plan_rotation(now_ns)
        return Action(Ask.PROMOTE, self.primary, reason)

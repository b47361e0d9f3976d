"""The feed over real sockets against the local venue: books stay exact through cuts, rotation."""

import json
import ssl
import urllib.request

import pytest

from common import clock
from common.enums import GapReason, MarketKind
from common.instruments import Instrument, InstrumentFacts
from common.records import LAYOUTS
from processes.feed.app import limits_of
from processes.feed.config import FeedConfig
from processes.feed.counters import HISTOGRAMS, LABELS, Counter
from processes.feed.session import plan_streams
from processes.feed.stage import FeedStage
from processes.transport import State, Transport, client_tls
from processes.venue.app import VenueThread
from processes.venue.config import AccountConfig, FlowConfig, SymbolConfig, VenueConfig
from processes.venue.faults import Command
from shm.counters import anonymous_counters
from shm.ring import MARKET, anonymous_ring

from support import wait_until

FACTS = {
    "BTCUSDT": InstrumentFacts(
        tick_size="0.10", lot_size="0.001", price_decimals=2, qty_decimals=3, min_notional="5"
    ),
    "ETHUSDT": InstrumentFacts(
        tick_size="0.01", lot_size="0.001", price_decimals=2, qty_decimals=3, min_notional="5"
    ),
}
INSTRUMENTS = [
    Instrument(instrument_id=i, venue="binance-usdm", symbol=symbol, facts=facts)
    for i, (symbol, facts) in enumerate(FACTS.items())
]


def venue_config(folder, tls: bool) -> VenueConfig:
    return VenueConfig(
        tls=tls,
        ca_file=str(folder / "ca.pem") if tls else "",
        symbols={
            "BTCUSDT": SymbolConfig(
                price="64000", max_price="1000000", order_qty="0.05", events_per_s=300
            ),
            "ETHUSDT": SymbolConfig(
                price="3200", max_price="100000", order_qty="0.8", events_per_s=300
            ),
        },
        accounts=[AccountConfig(name="one", api_key="k", secret_key="s")],
        flow=FlowConfig(seed=3),
    )


class NaiveBook:
    """Dicts of levels by price; the chain is checked by `pu`."""

    def __init__(self) -> None:
        self.sides: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self.last = 0
        self.diffs: list[tuple[int, int, int, list, list]] = []
        self.breaks = 0

    def take(self, first, last, previous, bids, asks) -> None:
        if self.diffs and previous != self.diffs[-1][1]:
            self.breaks += 1
            self.diffs.clear()
        self.diffs.append((first, last, previous, bids, asks))

    def top_after(self, snapshot: dict, until: int) -> tuple[dict, dict]:
        """Return both sides after snapshot + diffs up to update id `until`."""
        bids = dict(snapshot["bids"])
        asks = dict(snapshot["asks"])
        for _first, last, _previous, bid_changes, ask_changes in self.diffs:
            if snapshot["last"] < last <= until:
                for side, changes in ((bids, bid_changes), (asks, ask_changes)):
                    side.update(changes)
        return (
            {p: q for p, q in bids.items() if q},
            {p: q for p, q in asks.items() if q},
        )


class Rig:
    """A feed on its own loop, its ring read into naive books."""

    def __init__(self, venue: VenueThread, folder, tls: bool, **changes) -> None:
        config = FeedConfig(**changes)
        where = f"{'wss' if tls else 'ws'}://127.0.0.1:{venue.port}"
        context = client_tls(folder / "ca.pem") if tls else None
        self.rest = f"{'https' if tls else 'http'}://127.0.0.1:{venue.port}"
        self.context = ssl.create_default_context(cafile=str(folder / "ca.pem")) if tls else None
        self.venue = venue
        self.producer, self.consumer = anonymous_ring(MARKET, 16_384)
        self.counters = anonymous_counters(LABELS, HISTOGRAMS)
        self.stage = FeedStage(
            plan_streams(INSTRUMENTS, f"{where}/public", f"{where}/market", config),
            INSTRUMENTS, config, self.producer, self.counters,
            lambda url: Transport(url, tls=context, limits=limits_of(config)),
            boot_id=clock.boot_id(),
        )  # fmt: skip
        self.books = [NaiveBook() for _ in INSTRUMENTS]
        self.kinds: dict[MarketKind, int] = {}
        self.gaps: list[tuple[int, int]] = []

    def turn(self) -> bool:
        self.stage.do_work(clock.now_ns())
        slots = self.consumer.read(16_384)
        at = 0
        while at < len(slots):
            kind = MarketKind(int(slots[at, 0]) & 255)
            self.kinds[kind] = self.kinds.get(kind, 0) + 1
            count = max(int(slots[at, 0]) >> 16 & 0xFFFF, 1)
            if kind == MarketKind.DIFF_BEGIN:
                self._take_depth(slots[at : at + count])
            elif kind == MarketKind.GAP:
                gap = slots[at].copy().view(LAYOUTS["GAP"])[0]
                self.gaps.append((int(gap["instrument_id"]), int(gap["reason"])))
                for book in self.books:
                    book.diffs.clear()
            at += count
        return False

    def _take_depth(self, slots) -> None:
        header = slots[0].copy().view(LAYOUTS["DEPTH"])[0]
        levels = [(int(slot[w]), int(slot[w + 1])) for slot in slots[1:] for w in (2, 4, 6)]
        bids = int(header["bid_count"])
        asks = int(header["ask_count"])
        self.books[header["instrument_id"]].take(
            int(header["first_update_id"]), int(header["last_update_id"]),
            int(header["previous_update_id"]), levels[:bids], levels[bids : bids + asks],
        )  # fmt: skip

    def until(self, condition, what: str) -> None:
        wait_until(lambda: self.turn() or condition(), what, deadline_s=20)

    def snapshot(self, instrument: Instrument) -> dict:
        url = f"{self.rest}/fapi/v1/depth?symbol={instrument.symbol}&limit=1000"
        with urllib.request.urlopen(url, timeout=10, context=self.context) as answer:
            body = json.load(answer)
        return {
            "last": body["lastUpdateId"],
            "bids": {instrument.price_steps(p): instrument.qty_steps(q) for p, q in body["bids"]},
            "asks": {instrument.price_steps(p): instrument.qty_steps(q) for p, q in body["asks"]},
        }

    def check_books(self) -> None:
        """Two snapshots with the diffs between them: both ends must agree, near the touch."""
        for instrument, book in zip(INSTRUMENTS, self.books, strict=True):
            before = self.snapshot(instrument)
            breaks = book.breaks
            size = len(book.diffs) + 5
            self.until(lambda b=book, n=size: len(b.diffs) >= n, "more diffs")
            after = self.snapshot(instrument)
            self.until(lambda b=book, s=after: b.diffs and b.diffs[-1][1] >= s["last"], "diffs")
            assert book.breaks == breaks
            assert book.diffs[0][1] <= before["last"] or book.diffs[0][2] <= before["last"]
            # A snapshot may stand inside a diff: what that diff changes is not judged.
            inside = [d for d in book.diffs if d[0] <= after["last"] < d[1]]
            for side, name in ((0, "bids"), (1, "asks")):
                open_prices = {price for diff in inside for price, _ in diff[3 + side]}
                ours = book.top_after(before, after["last"])[side]
                theirs = after[name]
                top = sorted(theirs, reverse=side == 0)[:20]
                judged = [price for price in top if price not in open_prices]
                assert {p: ours.get(p) for p in judged} == {p: theirs[p] for p in judged}
                assert len(judged) > 5
                extra = [p for p in ours if p not in theirs and p not in open_prices]
                edge = top[-1]
                assert not [p for p in extra if (p > edge if side == 0 else p < edge)]

    def count(self, counter: Counter) -> int:
        return int(self.counters.values[counter])


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "tls"])
def venue(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("venue")
    with VenueThread(venue_config(folder, request.param), INSTRUMENTS) as running:
        yield running, folder, request.param


def test_streams_make_the_venues_own_book(venue):
    rig = Rig(*venue)
    rig.until(rig.stage.is_ready, "ready")
    rig.check_books()
    wanted = {MarketKind.DIFF_BEGIN, MarketKind.BBO, MarketKind.AGG_TRADE, MarketKind.MARK}
    rig.until(lambda: wanted <= set(rig.kinds), "every kind of record")
    assert rig.count(Counter.DECODE_ERRORS) == rig.count(Counter.EVENT_UNKNOWN) == 0
    assert rig.gaps == [] and all(book.breaks == 0 for book in rig.books)
    assert rig.producer.stats()["dropped"] == 0
    rig.stage.close()


def test_a_cut_is_told_and_healed(venue):
    rig = Rig(*venue, backoff_ms_min=50)
    rig.until(rig.stage.is_ready, "ready")
    running = rig.venue

    def cut() -> None:
        sockets = list(running.venue.sockets.items())
        running.venue.faults.do(Command(do="disconnect", kind="public"), sockets, 0)

    running.call(cut)
    rig.until(lambda: bool(rig.gaps), "GAP")
    assert rig.gaps == [(-1, GapReason.RECONNECT)]
    rig.until(rig.stage.is_ready, "ready again")
    rig.check_books()
    assert rig.count(Counter.LOST) == 1 and rig.count(Counter.OPENED) == 3
    rig.stage.close()


def test_rotation_over_real_sockets_loses_nothing(venue):
    rig = Rig(*venue, rotate_s=1, overlap_ms=300)
    rig.until(lambda: rig.count(Counter.ROTATED) >= 6, "six rotations")
    rig.check_books()
    assert rig.gaps == [] and all(book.breaks == 0 for book in rig.books)
    assert rig.count(Counter.DUPLICATE) > 0
    rig.until(lambda: sum(s.io.state == State.OPEN for s in rig.stage.shells) <= 4, "old ones gone")
    rig.stage.close()


def test_a_lost_depth_frame_breaks_exactly_one_chain(venue):
    rig = Rig(*venue)
    rig.until(rig.stage.is_ready, "ready")
    rig.until(lambda: all(len(book.diffs) > 3 for book in rig.books), "diffs")
    running = rig.venue
    command = Command(do="drop_depth", symbol="ETHUSDT")
    running.call(lambda: running.venue.faults.do(command, [], 0))
    rig.until(lambda: rig.books[1].breaks == 1, "broken chain")
    seen = len(rig.books[1].diffs)
    rig.until(lambda: len(rig.books[1].diffs) > seen + 5, "more diffs")
    assert [book.breaks for book in rig.books] == [0, 1]
    rig.stage.close()

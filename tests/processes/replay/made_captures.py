"""Captures made up from a seed: a venue with a moving price, and all that a recorder may write."""

import json
import random
from typing import NamedTuple

from tests.processes.replay.naive_replay import Grid

GRIDS = [
    Grid("BTCUSDT", "0.10", "0.001", 2, 3),
    Grid("ETHUSDT", "0.01", "0.001", 2, 3),
    Grid("1000SHIBUSDT", "0.000001", "1", 6, 0),
    Grid("TINYUSDT", "0.0000001", "0.1", 7, 1),
    Grid("YFIUSDT", "1", "0.001", 0, 3),
    Grid("HALFUSDT", "0.5", "0.00001", 2, 6),
    Grid("BTCUSDT_261225", "0.1", "0.001", 1, 3),
]


class Line(NamedTuple):
    """One line of a capture, and whether it was damaged on purpose."""

    text: str
    is_malformed: bool = False


class Market:
    """Books of one symbol at the venue, in steps, and its update ids."""

    def __init__(self, rng: random.Random, grid: Grid, first_id: int) -> None:
        self.rng, self.grid = rng, grid
        tick = int(float(grid.tick_size) / float(grid.price_step) + 0.5)
        self.tick = tick
        self.mid = rng.randrange(2_000, 900_000)  # in ticks
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}
        self.last_id = self.previous_id = first_id
        for _ in range(200):
            self.bids[max(1, self.mid - 1 - int(rng.expovariate(0.02)))] = self.quantity()
            self.asks[self.mid + int(rng.expovariate(0.02))] = self.quantity()

    def quantity(self) -> int:
        return self.rng.choice([1, 7, 1_000, self.rng.randrange(1, 10**10), 2**31 + 5])

    def levels(self, changes: list[tuple[int, int]]) -> list[list[str]]:
        return [
            [self.grid.price_text(price * self.tick), self.grid.qty_text(qty)]
            for price, qty in changes
        ]

    def step(self) -> dict:
        """Let the market move; return its depth event."""
        rng = self.rng
        if rng.random() < 0.01:  # a crash or a spike, far beyond any window
            self.mid = rng.randrange(10, 10**7)
        self.mid = max(10, self.mid + rng.randrange(-4, 5))
        change_b = [(p, 0) for p in self.bids if p >= self.mid]
        change_a = [(p, 0) for p in self.asks if p < self.mid]
        for _ in range(rng.randrange(0, 10)):
            near, far = int(rng.expovariate(0.05)), rng.randrange(10**6)
            price = max(1, self.mid - 1 - (far if rng.random() < 0.08 else near))
            change_b.append((price, 0 if rng.random() < 0.35 else self.quantity()))
            price = self.mid + (10**9 * far if rng.random() < 0.01 else near)
            change_a.append((price, 0 if rng.random() < 0.35 else self.quantity()))
        for side, changes in ((self.bids, change_b), (self.asks, change_a)):
            for price, qty in changes:
                side.pop(price, None)
                if qty:
                    side[price] = qty
        first = self.last_id + rng.randrange(1, 50)
        self.last_id = first + rng.randrange(0, 400)
        event = {
            "e": "depthUpdate", "E": 1_784_212_800_000, "T": 1_784_212_799_990,
            "s": self.grid.symbol, "U": first, "u": self.last_id, "pu": self.previous_id,
            "b": self.levels(change_b), "a": self.levels(change_a),
        }  # fmt: skip
        self.previous_id = self.last_id
        return event

    def snapshot(self, limit: int) -> dict:
        return {
            "lastUpdateId": self.last_id, "E": 1_784_212_800_001, "T": 1_784_212_800_000,
            "bids": self.levels(sorted(self.bids.items(), reverse=True)[:limit]),
            "asks": self.levels(sorted(self.asks.items())[:limit]),
        }  # fmt: skip


class Recorder:
    """Writes what came over the sockets the way recorders do, with their imperfections."""

    def __init__(self, rng: random.Random, symbol: str) -> None:
        self.rng, self.symbol = rng, symbol
        self.now_ns = 1_784_212_800_000_000_000
        self.lines: list[Line] = []

    def stamp(self) -> int:
        self.now_ns += self.rng.choice([0, 0, 1_000, 90_000, 5_000_000, -20_000])
        return self.now_ns

    def shuffled(self, event: dict) -> dict:
        """Change the order of the keys, and add some that nobody knows."""
        items = list(event.items())
        if self.rng.random() < 0.5:
            self.rng.shuffle(items)
        if self.rng.random() < 0.3:
            unknown = {"x": {"b": [["1", "2"]], "u": 5}, "y": [[], {"s": "ZZZ"}], "z": 'q"}\\'}
            items[self.rng.randrange(len(items)) : 0] = list(unknown.items())
        if self.rng.random() < 0.3:
            items += [("st", 1), ("ps", self.symbol), ("новое", None), ("n", -1.5e-3)]
        return dict(items)

    def dump(self, content: object) -> str:
        loose = self.rng.random() < 0.1
        separators = (" , ", " : ") if loose else (",", ":")
        return json.dumps(content, separators=separators, ensure_ascii=self.rng.random() < 0.5)

    def write(self, content: object, is_malformed: bool = False) -> None:
        space = self.rng.choice([" ", " ", " ", "\t", "  "])
        self.lines.append(Line(f"{self.stamp()}{space}{self.dump(content)}", is_malformed))

    def frame(self, stream: str, event: dict, is_malformed: bool = False) -> None:
        event = self.shuffled(event)
        if self.rng.random() < 0.1:
            self.write(event, is_malformed)  # a bare frame of a raw connection
        else:
            name = f"{event.get('s', self.symbol).lower()}@{stream}"
            self.write({"stream": name, "data": event}, is_malformed)

    def damage(self, event: dict) -> None:
        """Write a depth event that no decoder may take."""
        kind = self.rng.randrange(9)
        event = json.loads(json.dumps(event))
        bad_levels = [["-5", "1"], ["NaN", "1"], ["1" * 30, "1"], ["1.0000000000001", "1"], ["1"]]
        if kind < 5:
            event["b"].insert(0, bad_levels[kind])
            self.frame("depth@100ms", event, True)
        elif kind == 5:
            del event["pu"]
            self.frame("depth@100ms", event, True)
        elif kind == 6:
            event["u"] = str(event["u"])
            self.frame("depth@100ms", event, True)
        elif kind == 7:
            text = json.dumps({"stream": f"{self.symbol.lower()}@depth", "data": event})
            self.lines.append(Line(f"{self.stamp()} {text[: self.rng.randrange(5, 60)]}", True))
        else:
            self.lines.append(Line(json.dumps(event), True))  # no stamp

    def clutter(self, market: Market) -> None:
        """Write one of the other things that go over a socket."""
        price, qty = market.levels([(market.mid, 3)])[0]
        symbol, number = self.symbol, market.last_id
        best = market.snapshot(20)
        frames: list[tuple[str, dict]] = [
            ("bookTicker", {"e": "bookTicker", "u": number, "s": symbol, "b": price, "B": qty,
                            "a": price, "A": qty, "T": 1, "E": 2}),
            ("aggTrade", {"e": "aggTrade", "E": 5, "s": symbol, "a": 7, "p": price, "q": qty,
                          "f": 3, "l": 4, "T": 5, "m": True}),
            ("trade", {"e": "trade", "E": 5, "T": 5, "s": symbol, "t": 9, "p": price, "q": qty,
                       "X": "MARKET", "m": False}),
            ("trade", {"e": "trade", "E": 5, "T": 5, "s": symbol, "t": 9, "p": "1", "q": qty,
                       "X": "INSURANCE_FUND", "m": False}),
            ("markPrice@1s", {"e": "markPriceUpdate", "E": 5, "s": symbol, "p": "1.00000000",
                              "i": "1.1", "P": "1", "r": "-0.00010000", "T": 6}),
            ("forceOrder", {"e": "forceOrder", "E": 5, "o": {
                "s": symbol, "S": "SELL", "o": "LIMIT", "f": "IOC", "q": qty, "p": price,
                "ap": "1", "X": "FILLED", "l": qty, "z": qty, "T": 5}}),
            ("ticker", {"e": "24hrTicker", "E": 5, "s": symbol, "p": "-1.5", "c": price}),
            ("kline_1m", {"e": "kline", "E": 5, "s": symbol, "k": {"t": 1, "x": False}}),
            ("depth20@100ms", {"e": "depthUpdate", "E": 5, "T": 5, "s": symbol, "U": number,
                               "u": number + 1, "pu": number, "b": best["bids"],
                               "a": best["asks"]}),
        ]  # fmt: skip
        luck = self.rng.randrange(14)
        if luck < len(frames):
            stream, event = frames[luck]
            if stream.startswith("depth20") or "@" in stream:
                name = f"{symbol.lower()}@{stream}"
                self.write({"stream": name, "data": self.shuffled(event)})
            else:
                self.frame(stream, event)
        elif luck == 9:
            self.write({"result": None, "id": 3})
        elif luck == 10:
            self.write({"stream": "!markPrice@arr@1s", "data": [dict(frames[4][1])]})
        elif luck == 11:
            self.lines.append(Line(self.rng.choice(["", "   ", "\r"])))
        elif luck == 12:
            self.write({"stream": "!ticker@arr", "data": []})
        else:
            self.lines.append(Line(f"{self.stamp()} nonsense", True))


def make_capture(seed: int) -> tuple[Grid, list[Line]]:
    """Return a grid and the lines of a capture: reconnects, snapshots, losses, other symbols."""
    rng = random.Random(seed)
    grid = GRIDS[seed % len(GRIDS)]
    market = Market(rng, grid, rng.randrange(1, 10**13))
    other = Market(rng, Grid("OTHERUSDT", "0.1", "1", 1, 0), rng.randrange(1, 10**13))
    recorder = Recorder(rng, grid.symbol)
    waiting: list[tuple[int, dict]] = []  # (event number, snapshot): answers take their time
    for number in range(rng.randrange(150, 400)):
        luck = rng.random()
        event = market.step()
        if number == 3 or luck < 0.05:
            waiting.append((number + rng.randrange(0, 12), market.snapshot(rng.choice([20, 1000]))))
        if 0.05 < luck < 0.07:
            for _ in range(rng.randrange(1, 5)):  # the connection was lost
                market.step()
        if 0.07 < luck < 0.08:
            recorder.damage(event)
        elif luck > 0.015:
            recorder.frame("depth@100ms", event)
        if luck > 0.98:
            recorder.frame("depth@0ms", event)
        for due, snapshot in list(waiting):
            if due <= number:
                waiting.remove((due, snapshot))
                recorder.write(dict(rng.sample(list(snapshot.items()), len(snapshot))))
        while rng.random() < 0.5:
            recorder.clutter(market)
        if rng.random() < 0.3:
            recorder.frame("depth@100ms", other.step())
    return grid, recorder.lines

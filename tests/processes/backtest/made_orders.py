"""A made history of single orders as hftbacktest's event arrays: a seeded book at both touches.

Every 300 ms the touch moves by a tick, and for 120 ms after that nothing is filled, so that who
quotes the touch every 100 ms is never at a better price than anybody else. What is filled is always
the first order of its level, at least MIN_FILL of it. So an order of less that is at the touch
changes nothing in the history but the fill that it gets.
"""

import numpy as np

BOTH, BUY, SELL = 1 << 31 | 1 << 30, 1 << 29, 1 << 28
TRADE, ADD, CANCEL, MODIFY, FILL = 2, 10, 11, 12, 13
FIELDS = [
    ("ev", "u8"), ("exch_ts", "i8"), ("local_ts", "i8"), ("px", "f8"), ("qty", "f8"),
    ("order_id", "u8"), ("ival", "i8"), ("fval", "f8"),
]  # fmt: skip
START_NS = 1_700_000_000_000_000_000
MS = 1_000_000
MIN_FILL = 10
DEPTH = 5


class Made:
    """The history's own book: per side and price the orders [id, quantity], first come first."""

    def __init__(self, seed):
        self.draw = np.random.default_rng(seed)
        self.rows = []
        self.book = {1: {}, -1: {}}
        self.next_id = 1
        self.bid = 600_000
        self.ns = 0

    def write(self, kind, side, order_id, price, qty):
        flags = BOTH | kind | (BUY if side == 1 else SELL)
        ts = START_NS + self.ns
        self.rows.append((flags, ts, ts + MS, price / 10, qty / 1_000, order_id, 0, 0.0))

    def add(self, side, price):
        qty = int(self.draw.integers(MIN_FILL, 4 * MIN_FILL))
        self.book[side].setdefault(price, []).append([self.next_id, qty])
        self.write(ADD, side, self.next_id, price, qty)
        self.next_id += 1

    def cancel(self, side, price, place):
        order_id, qty = self.book[side][price].pop(place)
        self.write(CANCEL, side, order_id, price, qty)

    def best(self, side):
        return self.bid if side == 1 else self.bid + 2

    def fill_levels(self):
        """See to it that each side has its levels."""
        for side in (1, -1):
            for k in range(DEPTH):
                price = self.best(side) - side * k
                while len(self.book[side].get(price, [])) < 2:
                    self.add(side, price)

    def move(self, by):
        """Let the touch move by a tick: the side in the way cancels."""
        side = -by  # up: the asks are in the way
        price = self.best(side)
        while self.book[side][price]:
            self.cancel(side, price, 0)
        self.bid += by
        self.fill_levels()

    def fill(self, side):
        """Let the first order of a touch be filled, in part or whole."""
        price = self.best(side)
        order = self.book[side][price][0]
        qty = int(self.draw.integers(MIN_FILL, 3 * MIN_FILL))
        qty = order[1] if order[1] - qty < MIN_FILL else qty
        self.write(TRADE, -side, 0, price, qty)
        self.write(FILL, side, order[0], price, qty)
        order[1] -= qty
        if order[1]:
            self.write(MODIFY, side, order[0], price, order[1])
        else:
            self.book[side][price].pop(0)
            self.write(CANCEL, side, order[0], price, 0)
        self.fill_levels()

    def stir(self):
        """Let somebody join, leave or shrink anywhere but at the head of a touch."""
        side = 1 if self.draw.random() < 0.5 else -1
        price = self.best(side) - side * int(self.draw.integers(0, DEPTH))
        queue = self.book[side][price]
        dice = self.draw.random()
        if dice < 0.4 or len(queue) < 3:
            self.add(side, price)
        elif dice < 0.8:
            self.cancel(side, price, int(self.draw.integers(1, len(queue))))
        else:
            order = queue[-1]
            if order[1] > MIN_FILL:
                order[1] = int(self.draw.integers(MIN_FILL, order[1]))
                self.write(MODIFY, side, order[0], price, order[1])


def made_history(seed, seconds):
    """Return such events."""
    made = Made(seed)
    made.fill_levels()
    end_ns = seconds * 1_000 * MS
    move_ns = 305 * MS
    while made.ns < end_ns:
        made.ns += int(made.draw.integers(1, 4 * MS))
        if made.ns >= move_ns:
            made.move(1 if made.draw.random() < 0.5 else -1)
            move_ns += 300 * MS
        since_ns = made.ns - (move_ns - 300 * MS)
        if made.draw.random() < 0.3 or since_ns < 120 * MS:
            made.stir()
        else:
            made.fill(1 if made.draw.random() < 0.5 else -1)
    return np.array(made.rows, FIELDS)

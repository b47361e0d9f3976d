"""The metrics again, slowly: Fractions in quote units, plain loops, one fill or state at a time."""

import math
from fractions import Fraction as F

from processes.report.accounts import HORIZONS_NS
from processes.results import Result

YEAR_NS = 365 * 24 * 3_600 * 1_000_000_000


class Naive:
    """The figures of one instrument, or of several by adding; attributes as in Figures."""

    def __init__(self, result: Result, ids: list[int]) -> None:
        self.result = result
        self.ids = ids
        self.price_unit, self.qty_unit = {}, {}
        for one in result.instruments:
            self.price_unit[one.instrument_id] = F(1, 10**one.price_grid_decimals)
            self.qty_unit[one.instrument_id] = F(1, 10**one.qty_grid_decimals)
        self.fills = {i: [f for f in result.fills if f["instrument_id"] == i] for i in ids}
        self.states = {i: [s for s in result.states if s["instrument_id"] == i] for i in ids}
        self.ends = {i: next(s for s in result.ends if s["instrument_id"] == i) for i in ids}

    def price(self, fill) -> F:
        return int(fill["price_steps"]) * self.price_unit[int(fill["instrument_id"])]

    def qty(self, fill) -> F:
        return int(fill["qty_steps"]) * self.qty_unit[int(fill["instrument_id"])]

    def mid_before(self, fill) -> F:
        if fill["mid_steps2"] == 0:
            return self.price(fill)
        return F(int(fill["mid_steps2"]), 2) * self.price_unit[int(fill["instrument_id"])]

    def own_mid(self, i, state) -> F | None:
        bid, ask = int(state["bid_price_steps"]), int(state["ask_price_steps"])
        return F(bid + ask, 2) * self.price_unit[i] if bid and ask else None

    def marks(self, i) -> list[F]:
        """The mark at each state, and at the end."""
        mids = [self.own_mid(i, state) for state in [*self.states[i], self.ends[i]]]
        known = [mid for mid in mids if mid is not None]
        if not known:
            last = F(0)
            if self.fills[i]:
                last = self.mid_before(self.fills[i][-1])
            return [last] * len(mids)
        found, now = [], known[0]
        for mid in mids:
            now = now if mid is None else mid
            found.append(now)
        return found

    def parts(self) -> dict[str, F]:
        """The PnL split, the inventory by following the position from fill to fill."""
        spread = inventory = fees = funding = F(0)
        for i in self.ids:
            position, before = F(0), None
            for fill in self.fills[i]:
                mid = self.mid_before(fill)
                if before is not None:
                    inventory += position * (mid - before)
                position += int(fill["side"]) * self.qty(fill)
                before = mid
                spread += int(fill["side"]) * self.qty(fill) * (mid - self.price(fill))
                fees -= F(int(fill["fee_e12"]), 10**12)
            if before is not None:
                inventory += position * (self.marks(i)[-1] - before)
            funding -= F(int(self.ends[i]["funding_e8"]), 10**8)
        return {"spread": spread, "inventory": inventory, "fees": fees, "funding": funding}

    def points(self, i) -> list[tuple[int, F, F, F]]:
        """(time, equity, exposure, position) at each state and at the end."""
        found = []
        marks = self.marks(i)
        for state, mark in zip(self.states[i], marks, strict=False):
            position = int(state["position_steps"]) * self.qty_unit[i]
            cash = int(state["balance_steps2"]) * self.price_unit[i] * self.qty_unit[i]
            paid = F(int(state["fee_e12"]), 10**12) + F(int(state["funding_e8"]), 10**8)
            found.append(
                (
                    int(state["ts_ns"]),
                    cash + position * mark - paid,
                    abs(position) * mark,
                    abs(position),
                )
            )
        if not self.states[i]:
            held, cash = F(0), F(0)
            for fill in self.fills[i]:
                side, mid = int(fill["side"]), self.mid_before(fill)
                held += side * self.qty(fill)
                cash -= side * self.qty(fill) * self.price(fill) + F(int(fill["fee_e12"]), 10**12)
                found.append((int(fill["ts_ns"]), cash + held * mid, abs(held) * mid, abs(held)))
        if self.fills[i]:
            ends = int(self.fills[i][-1]["ts_ns"]), int(self.ends[i]["ts_ns"])
            ts = max([*ends, *(int(state["ts_ns"]) for state in self.states[i])])
            alone = Naive(self.result, [i])
            held = sum((int(f["side"]) * self.qty(f) for f in self.fills[i]), F(0))
            pnl = sum(alone.parts().values(), F(0))
            found.append((ts, pnl, abs(held) * marks[-1], abs(held)))
        return found

    def curve(self) -> list[tuple[int, F, F]]:
        """(time, equity, exposure) of all instruments together."""
        points = {i: self.points(i) for i in self.ids}
        if len(self.ids) == 1:
            return [point[:3] for point in points[self.ids[0]]]
        times = sorted({point[0] for one in points.values() for point in one})
        found = []
        for ts in times:
            now = [[p for p in one if p[0] <= ts][-1:] for one in points.values()]
            found.append(
                (ts, sum((p[0][1] for p in now if p), F(0)), sum((p[0][2] for p in now if p), F(0)))
            )
        return found

    def samples(self, sample_ns: int) -> list[F]:
        curve = self.curve()
        if not curve:
            return []
        values, ts = [], curve[0][0]
        while ts <= curve[-1][0]:
            values.append([point[1] for point in curve if point[0] <= ts][-1])
            ts += sample_ns
        return [after - before for before, after in zip(values, values[1:], strict=False)]

    def sharpe(self, sample_ns: int) -> float | None:
        samples = self.samples(sample_ns)
        if len(samples) < 2:
            return None
        mean = sum(samples, F(0)) / len(samples)
        variance = sum(((s - mean) ** 2 for s in samples), F(0)) / (len(samples) - 1)
        if variance == 0:
            return None
        return float(mean) / math.sqrt(variance) * math.sqrt(F(YEAR_NS, sample_ns))

    def sortino(self, sample_ns: int) -> float | None:
        samples = self.samples(sample_ns)
        if len(samples) < 2:
            return None
        downside = sum((min(s, F(0)) ** 2 for s in samples), F(0)) / len(samples)
        if downside == 0:
            return None
        mean = sum(samples, F(0)) / len(samples)
        return float(mean) / math.sqrt(downside) * math.sqrt(F(YEAR_NS, sample_ns))

    def max_drawdown(self) -> F:
        equity = [F(0)] + [point[1] for point in self.curve()]
        return max(
            (equity[i] - equity[j] for i in range(len(equity)) for j in range(i, len(equity))),
            default=F(0),
        )

    def trips(self) -> list[F]:
        """PnL of round trips: the fills are dealt out lot by lot."""
        found = []
        for i in self.ids:
            position, pnl = 0, F(0)
            for fill in self.fills[i]:
                side, left, fee = int(fill["side"]), int(fill["qty_steps"]), int(fill["fee_e12"])
                if position * side < 0:
                    part = min(left, abs(position))
                    part_fee = math.floor(F(fee * part, left))
                    pnl -= side * part * self.qty_unit[i] * self.price(fill) + F(part_fee, 10**12)
                    position += side * part
                    left, fee = left - part, fee - part_fee
                    if position == 0:
                        found.append(pnl)
                        pnl = F(0)
                if left:
                    pnl -= side * left * self.qty_unit[i] * self.price(fill) + F(fee, 10**12)
                    position += side * left
        return found

    def turnover(self, maker_only: bool = False) -> F:
        return sum(
            (
                self.price(fill) * self.qty(fill)
                for i in self.ids
                for fill in self.fills[i]
                if fill["maker"] or not maker_only
            ),
            F(0),
        )

    def markouts(self) -> list[tuple[int, int, F, F, int]]:
        """(horizon, fills, worth, turnover, time waited)."""
        found = []
        for horizon in HORIZONS_NS:
            count, worth, turnover, waited = 0, F(0), F(0), 0
            for i in self.ids:
                for fill in self.fills[i]:
                    mid, at = None, int(fill["ts_ns"])
                    if horizon == 0 and fill["mid_steps2"]:
                        mid = self.mid_before(fill)
                    for state in [*self.states[i], self.ends[i]] if horizon else []:
                        mid, at = self.own_mid(i, state), int(state["ts_ns"])
                        if at >= fill["ts_ns"] + horizon and mid is not None:
                            break
                        mid = None
                    if mid is None:
                        continue
                    count += 1
                    worth += int(fill["side"]) * self.qty(fill) * (mid - self.price(fill))
                    turnover += self.price(fill) * self.qty(fill)
                    waited += at - int(fill["ts_ns"])
            found.append((horizon, count, worth, turnover, waited))
        return found


def mean_of(values: list[F]) -> F | None:
    return sum(values, F(0)) / len(values) if values else None


def mean_by_time(times: list[int], values: list[F]) -> F | None:
    if not times or times[-1] == times[0]:
        return None
    area = F(0)
    for i in range(len(times) - 1):
        area += values[i] * (times[i + 1] - times[i])
    return area / (times[-1] - times[0])

"""The life-cycle kernels on their own: one instrument, requests and reports as dicts."""

import numpy as np

from common.enums import ReportKind, RequestKind
from processes.risk.oms import ACTIVE, ACTIVE_COUNT, OUT_COUNT, Oms, audit, find_client, new_oms
from processes.risk.orders import HELD
from processes.risk.rehearsal import intent, plain_instruments, report, wide_limits
from processes.risk.turn import replay_requests, take_reports
from shm.ring import read_only

SESSION = 1


def small_oms(orders: int = 64, fills: int = 4_096, instruments: int = 1) -> Oms:
    """Return an empty state."""
    return new_oms(plain_instruments(instruments), wide_limits(instruments), orders, fills)


class Kernels:
    """Requests and reports applied to a state of their own; it audits after each."""

    def __init__(self, oms: Oms) -> None:
        self.oms = oms
        self.sequence = 0
        self.now_ns = 1_000

    def request(self, kind: RequestKind, place: int = HELD, **fields: int) -> int:
        """Apply one accepted request; return its client_order_id."""
        self.now_ns += 1
        request = intent(SESSION, kind, self.sequence, **fields)
        self.sequence += 1
        places = np.array([place], np.int64)
        replay_requests(self.oms, read_only(request), read_only(places), 1, self.now_ns)
        self.check()
        return int(request["client_order_id"][0])

    def new(self, side: int = 1, price_steps: int = 1_000, order_qty_steps: int = 10) -> int:
        """Send an order; return its id."""
        return self.request(
            RequestKind.NEW, 0, side=side, price_steps=price_steps, order_qty_steps=order_qty_steps
        )

    def report(self, order_id: int = 0, **fields: int) -> list[np.void]:
        """Apply one execution report; return what the strategy is told."""
        self.now_ns += 1
        values = {"instrument_id": 0, "client_order_id": order_id} | fields
        record = report(ReportKind.EXECUTION, **values)
        assert take_reports(self.oms, read_only(record), 0, 1, self.now_ns) == 1
        self.check()
        told = self.oms.out[: self.oms.words[OUT_COUNT]].copy()
        self.oms.words[OUT_COUNT] = 0
        return list(told)

    def order(self, order_id: int) -> np.void:
        """Return the row of an order."""
        row = find_client(self.oms, order_id)
        assert row >= 0, order_id
        return self.oms.orders[row]

    def check(self) -> None:
        """Audit the state."""
        assert audit(self.oms) == 0

    @property
    def position(self) -> np.void:
        """Return the position of instrument 0."""
        return self.oms.positions[0]

    @property
    def active(self) -> list[int]:
        """Return the ids of the orders that may still fill."""
        rows = self.oms.lists[ACTIVE, : self.oms.words[ACTIVE_COUNT]]
        return sorted(int(self.oms.orders[row]["client_order_id"]) for row in rows)

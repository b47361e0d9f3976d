"""What a start finds in the journal and in the rings, and what it concludes from both.

Nothing is sent twice: an order that the journal has and the order ring does not show was never
sent, and it will not be. Nothing is lost silently: its strategy is told, and every order whose
answer may have gone with an old ring becomes UNKNOWN.
"""

from typing import NamedTuple

import numpy as np

from common.enums import ExecType, Reject, RequestKind
from processes.risk.batch import Batch
from processes.risk.journal import KIND_START, Frame
from processes.risk.oms import NO_ROW, Oms, find_client
from processes.risk.orders import HELD
from processes.risk.timers import conclude
from shm.cursors import release
from shm.ring import Consumer, Producer
from shm.words import L_CLAIMED, L_RELEASED


class Found(NamedTuple):
    """What the end of the journal says about the rings.

    Attributes:
        has_rings: the rings are those that the journal speaks of.
        unpublished: requests of the last turn that never reached the order ring.
        is_behind: the order ring shows orders that the journal does not have.
    """

    has_rings: bool
    unpublished: list[np.void]
    is_behind: bool


def compare_rings(frames: "LastFrames", ring_epoch: int, orders: Producer) -> Found:
    """Compare the last turn with the order ring.

    Args:
        frames: what was remembered while the journal was read.
        ring_epoch: of the rings that are there now.
        orders: producer of the order ring; its cursor was released once per turn, or not.
    """
    if frames.turn is None or frames.ring_epoch != ring_epoch:
        return Found(frames.ring_epoch == ring_epoch, [], False)
    header = frames.turn.header
    first, count = int(header["order_first"]), int(header["publish_count"])
    published = int(orders.end.local[L_CLAIMED])
    if count and published == first:
        places = frames.turn.places
        unpublished = [
            request
            for request, place in zip(frames.turn.requests, places, strict=True)
            if place != HELD
        ]
        return Found(True, unpublished, False)
    return Found(True, [], published != first + count)


class LastFrames:
    """The end of the journal, remembered while it is read.

    Attributes:
        turn: the last TURN of the newest process that wrote one, None if there is none.
        ring_epoch: of the last frame, 0 if there is none.
        wall_ns, mono_ns: clocks of the very first frame: when the session began.
    """

    def __init__(self) -> None:
        self.turn: Frame | None = None
        self.ring_epoch = 0
        self.wall_ns = 0
        self.mono_ns = 0

    def add(self, frame: Frame) -> bool:
        """Note one frame; True if it belongs to other rings than the one before."""
        header = frame.header
        epoch = int(header["ring_epoch"])
        is_new = epoch != self.ring_epoch
        self.ring_epoch = epoch
        if header["kind"] == KIND_START:
            if not self.wall_ns:
                self.wall_ns, self.mono_ns = int(header["ts_wall_ns"]), int(header["ts_ns"])
            if is_new:
                self.turn = None
        else:
            self.turn = frame
        return is_new


def skip_taken(frames: LastFrames, consumers: tuple[Consumer, Consumer, Consumer]) -> None:
    """Release the inputs that the journal has already: intents, gateway's and rest's reports."""
    if frames.turn is None:
        return
    header = frames.turn.header
    for consumer, name in zip(consumers, ("intent_end", "gateway_end", "rest_end"), strict=True):
        end = int(header[name])
        if end > consumer.end.local[L_RELEASED]:
            release(consumer.end, end)


def conclude_unsent(oms: Oms, batch: Batch, requests: list[np.void], reject: Reject) -> None:
    """Write own reports that requests were never sent: orders are over, cancels are sent again.

    Args:
        oms: Oms, read.
        batch: Batch, changed: own reports, for the stage to apply.
        requests: ORDER_REQUEST records that were accepted and not published.
        reject: what the strategy is told.
    """
    for request in requests:
        kind = int(request["kind"])
        is_new = kind == RequestKind.NEW
        order_id = request["client_order_id"] if is_new else request["orig_client_order_id"]
        row = find_client(oms, int(order_id))
        if row == NO_ROW:
            continue
        if is_new:
            conclude(oms, batch, row, int(ExecType.REJECTED), int(reject))
        elif kind == RequestKind.REPLACE:
            conclude(oms, batch, row, int(ExecType.REPLACE_REJECTED), int(reject))
        else:
            conclude(oms, batch, row, int(ExecType.CANCEL_REJECTED), int(Reject.NOT_RECONCILED))

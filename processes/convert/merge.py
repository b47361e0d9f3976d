"""Several sources into one, in order of their local times.

    sources ──batches──▶ messages up to the time that all have reached ──▶ slots in order

Rules:
    Order within a source is kept, also where its times go back; of equal times the earlier source
    comes first. A source with nothing left does not hold the others up.
"""

from collections.abc import Iterator

import numpy as np

from common.records import SLOT_WORDS
from processes.convert.market import find_messages


class _Pending:
    """What one source has brought and nobody has taken yet.

    Attributes:
        slots: int64[n, 8].
        starts: int64[m], where the messages begin.
        keys: int64[m], their times, never falling.
        is_over: there is no more.
    """

    def __init__(self, batches: Iterator[np.ndarray]) -> None:
        self._batches = batches
        self._highest = 0
        self.is_over = False
        self._set(np.zeros((0, SLOT_WORDS), np.int64))

    def _set(self, slots: np.ndarray) -> None:
        starts = np.zeros(len(slots), np.int64)
        self.slots = slots
        self.starts = starts[: find_messages(slots, starts)]
        self.keys = np.maximum.accumulate(np.maximum(slots[self.starts, 1], self._highest))
        if len(self.keys):
            self._highest = int(self.keys[-1])

    def fill(self) -> None:
        """Fetch more if there is nothing left."""
        while not self.is_over and not len(self.starts):
            batch = next(self._batches, None)
            if batch is None:
                self.is_over = True
            else:
                self._set(batch)

    def take(self, horizon: int, has_equal: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (slots, starts, keys) of the messages before a time, and keep the rest.

        Args:
            has_equal: those of that very time too.
        """
        count = int(np.searchsorted(self.keys, horizon, side="right" if has_equal else "left"))
        cut = int(self.starts[count]) if count < len(self.starts) else len(self.slots)
        taken = self.slots[:cut], self.starts[:count], self.keys[:count]
        self.slots, self.starts = self.slots[cut:], self.starts[count:] - cut
        self.keys = self.keys[count:]
        return taken


def merged(sources: list[Iterator[np.ndarray]]) -> Iterator[np.ndarray]:
    """Yield int64[n, 8], whole messages of all sources in order of their receive times."""
    if len(sources) == 1:
        yield from sources[0]
        return
    pending = [_Pending(source) for source in sources]
    while True:
        for one in pending:
            one.fill()
        pending = [one for one in pending if not one.is_over]
        if not pending:
            return
        lasts = [int(one.keys[-1]) for one in pending]
        horizon = min(lasts)
        nearest = lasts.index(horizon)  # it may have more of this time, before those behind it
        yield _in_order([one.take(horizon, i <= nearest) for i, one in enumerate(pending)])


def _in_order(parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> np.ndarray:
    slots = np.concatenate([part[0] for part in parts])
    offsets = np.cumsum([0, *(len(part[0]) for part in parts[:-1])])
    starts = np.concatenate(
        [part[1] + offset for part, offset in zip(parts, offsets.tolist(), strict=True)]
    )
    lengths = np.diff(starts, append=len(slots))
    order = np.argsort(np.concatenate([part[2] for part in parts]), kind="stable")
    starts, lengths = starts[order], lengths[order]
    # Slot k of the result is slot k - (where its message begins there) of that message.
    begins = np.cumsum(lengths) - lengths
    places = np.arange(len(slots)) + np.repeat(starts - begins, lengths)
    return slots[places]

"""Checkpoints of a strategy's state block in a recording: where to begin, and what to arrive at."""

import bisect

import numpy as np

from common.errors import SegmentError
from processes.replay.strategy_run import StrategyRun

_READ_MAX = 64  # checkpoints read at a time


class Checkpoints:
    """The recorded state blocks of one strategy, by the number of turns taken before.

    Attributes:
        turns: of each checkpoint, ascending.
    """

    def __init__(self, of: StrategyRun) -> None:
        """Read where the checkpoints are; blocks are read when asked for.

        Raises:
            SegmentError: they are damaged, or of another state than the strategy has now.
        """
        self._states = of.states
        self.turns: list[int] = []
        self._sequences: list[int] = []
        expected = of.block_dtype.itemsize
        for first, slots in of.states.blocks(_READ_MAX):
            if slots.shape[1] * 8 - 8 != expected:
                raise SegmentError(
                    f"{of.states.key}: block is {slots.shape[1] * 8 - 8} bytes, expected"
                    f" {expected}: the strategy's state is laid out otherwise now"
                )
            self.turns += slots[:, 0].tolist()
            self._sequences += range(first, first + len(slots))

    def block(self, turn: int) -> np.ndarray | None:
        """Return the state block as int64[n] after `turn` turns, None if there is no checkpoint."""
        at = bisect.bisect_left(self.turns, turn)
        if at == len(self.turns) or self.turns[at] != turn:
            return None
        sequence = self._sequences[at]
        return self._states.read(sequence, sequence + 1)[0, 1:]

    def after(self, turn: int) -> int:
        """Return the first checkpoint after more than `turn` turns, -1 if there is none."""
        at = bisect.bisect_right(self.turns, turn)
        return self.turns[at] if at < len(self.turns) else -1

    def before(self, turn: int) -> int:
        """Return the last checkpoint after at most `turn` turns, -1 if there is none."""
        at = bisect.bisect_right(self.turns, turn)
        return self.turns[at - 1] if at else -1


def different_field(block: np.dtype, found: np.ndarray, recorded: np.ndarray) -> str:
    """Return the first field of two state blocks that differs, and both values.

    Args:
        block: dtype of the block.
        found, recorded: int64[n].
    """
    ours, theirs = found.view(block)[0], recorded.copy().view(block)[0]
    for name in block.names or ():
        one, other = ours[name], theirs[name]
        for field in one.dtype.names or ("",):
            pair = (one[field], other[field]) if field else (one, other)
            places = np.argwhere(pair[0] != pair[1])
            if len(places):
                place = tuple(int(i) for i in places[0])
                label = f"{name}{list(place)}" + (f" {field}" if field else "")
                return f"{label} is {pair[0][place]}, recorded {pair[1][place]}"
    return "bytes between the fields differ"

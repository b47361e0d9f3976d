"""Turns: a process takes records, changes its state and writes records, all or nothing.

The state block exists twice; `flips & 1` says which is the committed one.

    begin    copy the committed block to the other; the turn works on that one
             read inputs (`take`), write outputs (`try_claim`, never `publish`)
    flip     store all cursors beside the block, then add 1 to flips: one release store
    finish   publish the outputs, release the inputs

Killed before the flip: nothing happened, the next process does the turn again from the same state
and records. Killed after it: the next process only repeats `finish` from the stored cursors. So no
record is lost or doubled, whatever instruction the process died at.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit

from common.errors import SegmentError
from shm import segment
from shm.atomics import fence_acquire, load_acquire, multiply_wrapping, store_release
from shm.cursors import abandon, count_offered, publish, release, take_back
from shm.doorbell import Words
from shm.ring import Consumer, Producer
from shm.segment import OWN_PAGE, PAGE_BYTES, Header, Kind, Role, Segment, hash_bytes
from shm.words import (
    L_CLAIMED,
    L_PUBLISHED,
    L_RELEASED,
    L_TAKEN,
    P_CLAIM,
    P_CURSOR,
    PAGE_WORDS,
)

FLIPS = 0
ENDS_MAX = 16
STATE_BYTES_MAX = 1 << 28
RECOVERED, FRESH, CORRUPT = 1, 0, -1
_ENDS = 32  # inputs << 8 | outputs, of the first connect
_CURSORS = 64  # of block 0: inputs, then outputs; those of block 1 are _CURSORS_STRIDE on
_CURSORS_STRIDE = 64
_HASH_MULTIPLIER = -7046029254386353131  # odd, 2^64 / golden ratio as a signed number
_HASH_START = 1469598103934665603


class Turn(NamedTuple):
    """What the turn kernels take; from `Twin.connect`.

    Attributes:
        control: int64[512], flips and the cursors of both blocks; changed.
        words: int64[2, n], both state blocks as words; changed.
        inputs: Words of the consumers, in polling order.
        outputs: Words of the producers.
    """

    control: np.ndarray
    words: np.ndarray
    inputs: tuple[Words, ...]
    outputs: tuple[Words, ...]


@njit(cache=True, _nrt=False)
def begin(turn):
    """Begin a turn: copy the committed state block to the other one.

    Args:
        turn: Turn, changed.

    Returns:
        Index of the block to work on.
    """
    words = turn.words
    active = turn.control[FLIPS] & 1
    for i in range(words.shape[1]):
        words[1 - active, i] = words[active, i]
    return 1 - active


@njit(cache=True, _nrt=False)
def flip(turn):
    """Commit the turn: what was taken, claimed and changed since `begin` is now what happened.

    Args:
        turn: Turn, changed.

    Order: one store-release of the count of flips, behind the state block, the output slots and
    the cursors.
    """
    control = turn.control
    flips = control[FLIPS] + 1
    base = _CURSORS + _CURSORS_STRIDE * (flips & 1)
    for i in range(len(turn.inputs)):
        control[base + i] = turn.inputs[i].local[L_TAKEN]
    for i in range(len(turn.outputs)):
        control[base + ENDS_MAX + i] = turn.outputs[i].local[L_CLAIMED]
    store_release(control, FLIPS, flips)


@njit(cache=True, _nrt=False)
def finish(turn):
    """Tell the others about the committed turn: publish the outputs, release the inputs.

    Args:
        turn: Turn; the cursors of its rings are changed.
    """
    for i in range(len(turn.outputs)):
        out = turn.outputs[i]
        count = out.local[L_CLAIMED] - out.local[L_PUBLISHED]
        if count > 0:
            count_offered(out, count)
            publish(out)
    for i in range(len(turn.inputs)):
        inp = turn.inputs[i]
        if inp.local[L_TAKEN] != inp.local[L_RELEASED]:
            release(inp, inp.local[L_TAKEN])


@njit(cache=True, _nrt=False)
def cancel(turn):
    """Drop the turn: its claims are forgotten, its records are read again."""
    for i in range(len(turn.outputs)):
        abandon(turn.outputs[i])
    for i in range(len(turn.inputs)):
        take_back(turn.inputs[i])


@njit(cache=True, _nrt=False)
def recover(turn):
    """Repeat `finish` of the last committed turn, as far as the dead process did not get.

    Args:
        turn: Turn whose ends have just been attached; their cursors are changed.

    Returns:
        RECOVERED; FRESH: no turn was ever committed; CORRUPT: the cursors do not belong to these
        rings, nothing was changed.
    """
    control = turn.control
    flips = control[FLIPS]
    if flips == 0:
        return FRESH
    base = _CURSORS + _CURSORS_STRIDE * (flips & 1)
    for i in range(len(turn.inputs)):
        if control[base + i] > load_acquire(turn.inputs[i].other, P_CURSOR):
            return CORRUPT
    for i in range(len(turn.outputs)):
        if control[base + ENDS_MAX + i] > turn.outputs[i].own[P_CLAIM]:
            return CORRUPT
    for i in range(len(turn.outputs)):
        local = turn.outputs[i].local
        local[L_CLAIMED] = max(control[base + ENDS_MAX + i], local[L_PUBLISHED])
    for i in range(len(turn.inputs)):
        local = turn.inputs[i].local
        local[L_TAKEN] = max(control[base + i], local[L_RELEASED])
    finish(turn)
    return RECOVERED


@njit(cache=True, _nrt=False)
def state_hash(words, block):
    """Return a 63-bit hash of one state block; equal states have equal hashes.

    Args:
        words: int64[2, n], read.
        block: 0 or 1.
    """
    found = _HASH_START
    for i in range(words.shape[1]):
        found = multiply_wrapping(found ^ words[block, i], _HASH_MULTIPLIER)
        found ^= (found >> 29) & 0x7FFFFFFFF
    return found & 0x7FFFFFFFFFFFFFFF


@njit(cache=True, _nrt=False)
def _copy_committed(control, words, out):
    """Copy the committed block into out: int64[n]; return True if it stayed committed meanwhile."""
    flips = load_acquire(control, FLIPS)
    for i in range(len(out)):
        out[i] = words[flips & 1, i]
    fence_acquire()
    return load_acquire(control, FLIPS) == flips


def _layout(dtype: np.dtype) -> int:
    return hash_bytes(f"{dtype.descr} {dtype.itemsize}".encode())


def _check_dtype(name: str, dtype: np.dtype) -> None:
    if dtype.itemsize % 8 or not 0 < dtype.itemsize <= STATE_BYTES_MAX:
        raise SegmentError(
            f"{name}: state is {dtype.itemsize} bytes, expected a multiple of 8 up to 2^28"
        )


class Twin:
    """Both state blocks of a process.

    Attributes:
        blocks: dtype[2]; a turn works on blocks[begin(turn)].
        words: int64[2, n], the same bytes.
        control: int64[512].
    """

    def __init__(
        self, name: str, blocks: np.ndarray, control: np.ndarray, held: Segment | None
    ) -> None:
        self.name = name
        self.blocks = blocks
        self.words = blocks.view(np.int64).reshape(2, -1)
        self.control = control
        self._segment = held

    @classmethod
    def create(cls, name: str, dtype: np.dtype) -> None:
        """Create the segment, both blocks zero.

        Args:
            name: from registry.segment_name.
            dtype: of the state block, a multiple of 8 bytes.

        Raises:
            SegmentError: it exists, or the dtype does not fit.
        """
        _check_dtype(name, dtype)
        segment.create(
            name,
            Kind.TWIN,
            "STATE",
            _layout(dtype),
            capacity=2,
            record_bytes=dtype.itemsize,
            own_pages=1,
            data_bytes=2 * dtype.itemsize,
        )

    @classmethod
    def open(cls, name: str, dtype: np.dtype, writable: bool = True) -> "Twin":
        """Attach as the owner, or read-only as a tool.

        Raises:
            UnavailableError: no such segment; RoleTaken: a living process owns it.
            SegmentError: not usable, or another state layout.
        """
        held = Segment.attach(name, Kind.TWIN, _layout(dtype), writable=writable)
        with held.closed_on_error():
            control = held.map_words(OWN_PAGE, writable=writable)
            if writable:
                held.take_role(Role.WRITER, control)
            data = held.map_bytes(2 * PAGE_BYTES, 2 * dtype.itemsize, writable=writable)
        return cls(name, data.view(dtype), control, held)

    @classmethod
    def watch(cls, name: str) -> "Twin":
        """Attach read-only, whatever the block's layout: as words.

        Raises:
            UnavailableError: no such segment. SegmentError: not usable.
        """
        held = Segment.attach(name, Kind.TWIN, writable=False)
        size = int(held.header[Header.RECORD_BYTES])
        with held.closed_on_error():
            control = held.map_words(OWN_PAGE, writable=False)
            data = held.map_bytes(2 * PAGE_BYTES, 2 * size, writable=False)
        return cls(name, data.view(np.dtype([("words", "<i8", (size // 8,))])), control, held)

    @property
    def header(self) -> bytes:
        """Header page of the segment; empty in private memory."""
        return b"" if self._segment is None else self._segment.header.tobytes()

    @property
    def flips(self) -> int:
        """Committed turns so far; 0: the state is as created."""
        return int(self.control[FLIPS])

    def connect(self, consumers: Sequence[Consumer], producers: Sequence[Producer]) -> Turn:
        """Tie freshly attached ring ends to the state, and finish a dead predecessor's turn.

        Args:
            consumers: inputs, in polling order; the same in every run of the instance.
            producers: outputs; nothing else may write to them.

        Raises:
            SegmentError: the stored cursors do not belong to these rings.
        """
        if not 0 < len(consumers) <= ENDS_MAX or not 0 < len(producers) <= ENDS_MAX:
            raise SegmentError(f"{self.name}: expected 1 to {ENDS_MAX} inputs and outputs each")
        turn = Turn(
            self.control,
            self.words,
            tuple(consumer.words for consumer in consumers),
            tuple(producer.words for producer in producers),
        )
        ends = len(consumers) << 8 | len(producers)
        if self.flips and self.control[_ENDS] != ends:
            raise SegmentError(
                f"{self.name}: {self.control[_ENDS] >> 8} inputs, {self.control[_ENDS] & 255}"
                f" outputs before, expected as many: now {len(consumers)}, {len(producers)}"
            )
        if recover(turn) == CORRUPT:
            raise SegmentError(
                f"{self.name}: cursors are ahead of the rings, expected rings of the same instance"
            )
        self.control[_ENDS] = ends
        return turn

    def read(self) -> np.ndarray | None:
        """Return a copy of the committed block as dtype[1]; None if a flip came between."""
        copy = np.empty(self.words.shape[1], np.int64)
        control, words = self.control.view(), self.words.view()
        control.flags.writeable = words.flags.writeable = False
        if not _copy_committed(control, words, copy):
            return None
        return copy.view(self.blocks.dtype)

    def close(self) -> None:
        """Leave it; the segment stays."""
        if self._segment is not None:
            self._segment.close()


def anonymous_twin(dtype: np.dtype) -> Twin:
    """Return a twin in private memory: same code and numba types, no lock."""
    _check_dtype("anonymous twin", dtype)
    return Twin("anonymous", np.zeros(2, dtype), np.zeros(PAGE_WORDS, np.int64), None)

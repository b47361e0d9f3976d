"""Latch: a page of words that many may look at in a loop: the kill page, the phase of a run.

Word i stands at index i * 16, so that two writers never share a cache line pair. Each word has one
writer; a latched word stays set when its writer dies.
"""

import numpy as np
from numba import njit

from common.errors import SegmentError
from shm import segment
from shm.atomics import load_acquire, store_release
from shm.segment import OWN_PAGE, Kind, Segment
from shm.words import PAGE_WORDS

WORD_STRIDE = 16
LATCH_WORDS = PAGE_WORDS // WORD_STRIDE
_FINGERPRINT = 1


@njit(cache=True, _nrt=False)
def is_any_set(words, count):
    """Return True if one of the first `count` words is not 0.

    Args:
        words: int64[512], read-only; `Latch.words`.
        count: how many words to look at.
    """
    for i in range(count):
        if load_acquire(words, i * WORD_STRIDE) != 0:
            return True
    return False


@njit(cache=True, _nrt=False)
def get_word(words, i):
    """Return word `i`. Args as in `is_any_set`."""
    return load_acquire(words, i * WORD_STRIDE)


@njit(cache=True, _nrt=False)
def _set_word(words, i, value):
    store_release(words, i * WORD_STRIDE, value)


class Latch:
    """One page of words.

    Attributes:
        words: int64[512], read-only, for `is_any_set` and `get_word`.
    """

    def __init__(self, name: str, page: np.ndarray, latch: Segment | None) -> None:
        self.name = name
        self._page = page
        self._segment = latch
        self.words = page.view()
        self.words.flags.writeable = False

    @classmethod
    def create(cls, name: str) -> "Latch":
        """Create the segment, all words 0, and open it for writing.

        Raises:
            SegmentError: it exists.
        """
        segment.create(
            name,
            Kind.LATCH,
            "LATCH",
            _FINGERPRINT,
            capacity=LATCH_WORDS,
            record_bytes=WORD_STRIDE * 8,
            own_pages=1,
            data_bytes=0,
        )
        return cls.open(name, writable=True)

    @classmethod
    def open(cls, name: str, writable: bool = False) -> "Latch":
        """Attach.

        Raises:
            UnavailableError: there is none. SegmentError: it is not usable.
        """
        latch = Segment.attach(name, Kind.LATCH, _FINGERPRINT, writable=writable)
        return cls(name, latch.map_words(OWN_PAGE, writable=writable), latch)

    def set(self, i: int, value: int = 1) -> None:
        """Set word `i`.

        Raises:
            SegmentError: there is no word `i`, or it was opened for reading.
        """
        if not self._page.flags.writeable or not 0 <= i < LATCH_WORDS:
            raise SegmentError(f"{self.name}: word {i} cannot be set; expected 0 to 31, writable")
        _set_word(self._page, int(i), int(value))  # an enum member would be another signature

    def clear(self, i: int) -> None:
        """Set word `i` to 0."""
        self.set(i, 0)

    def get(self, i: int) -> int:
        """Return word `i`."""
        return int(get_word(self.words, i))

    def close(self) -> None:
        """Leave it; the segment stays."""
        if self._segment is not None:
            self._segment.close()


def anonymous_latch() -> Latch:
    """Return a latch in private memory."""
    return Latch("anonymous", np.zeros(PAGE_WORDS, np.int64), None)

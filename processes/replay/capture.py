"""A recorded session: `<local receive time, ns> <raw JSON>` a line, plain or gzip, to market slots.

What one line may be: a stream frame, combined or bare; a REST depth snapshot; anything else a
socket has said. A file may end anywhere, also within a gzip member.
"""

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numba import njit

from common.errors import UsageError
from common.fixed_point import INT64_MAX
from common.records import SLOT_WORDS
from processes.feed.binance import decode_frame
from processes.feed.decoded import REFUSED, Decoded
from processes.feed.json_scan import TEXT_SLACK
from shm.ring import RING_FULL, count_offered, publish, try_claim

BLOCK_BYTES = 1 << 20
LINE_BYTES_MAX = 1 << 24

# Words of a reading: what was found, and where it stands.
NOW_NS = 0  # highest stamp so far: the virtual clock
LINE_FIRST, LINE_END = 1, 2  # the JSON of the line that Python must look at
LINE_TS = 3
LINE_STATUS = 4  # what the decoder said of it, 0 if it has no stamp
EVENTS = 5  # market messages of the symbol, written to the ring
FOREIGN = 6  # frames of other symbols
OTHER = 7  # frames that are not for a book, a strategy or a position
LINES = 8
READING_WORDS = 16

DONE, NO_ROOM, LOOK = 0, 1, 2
_NEW_LINE, _ZERO, _SPACE = 10, 48, 32
_GZIP_MAGIC = b"\x1f\x8b"
SNAPSHOT_MARKER = np.frombuffer(b'"lastUpdateId"', np.uint8)


def read_blocks(path: Path) -> Iterator[tuple[np.ndarray, int]]:
    """Yield a capture as blocks of whole lines: (text, end), TEXT_SLACK bytes behind `end`.

    The last block may end without a line feed. A line over LINE_BYTES_MAX is cut.

    Raises:
        UsageError: the file cannot be read.
    """
    rest = b""
    for chunk in _read_plain(path):
        block = rest + chunk
        cut = block.rfind(b"\n") + 1
        if cut == 0 and len(block) < LINE_BYTES_MAX:
            rest = block
            continue
        cut = cut or len(block)
        rest = block[cut:]
        yield _with_slack(block[:cut])
    if rest:
        yield _with_slack(rest)


def _with_slack(block: bytes) -> tuple[np.ndarray, int]:
    return np.frombuffer(block + bytes(TEXT_SLACK), np.uint8), len(block)


def _read_plain(path: Path) -> Iterator[bytes]:
    """Yield the decompressed content, as far as it can be had."""
    try:
        with path.open("rb") as file:
            head = file.read(2)
            file.seek(0)
            chunks = iter(lambda: file.read(BLOCK_BYTES), b"")
            yield from _gunzip(chunks) if head == _GZIP_MAGIC else chunks
    except OSError as error:
        raise UsageError(f"{path}: {(error.strerror or str(error)).lower()}") from None


def _gunzip(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the content of all gzip members; a cut or broken one ends it."""
    member = zlib.decompressobj(wbits=31)
    for chunk in chunks:
        while chunk:
            try:
                content = member.decompress(chunk)
            except zlib.error:
                return
            if content:
                yield content
            chunk = member.unused_data
            if member.eof:
                member = zlib.decompressobj(wbits=31)
                chunk = chunk.lstrip(b"\0")  # padding between members


@njit(cache=True)
def find_line_end(text, first, end):
    """Return where the line that begins at `first` ends: its line feed, or `end`."""
    while first < end and text[np.uintp(first)] != _NEW_LINE:
        first += 1
    return first


@njit(cache=True)
def read_stamp(text, first, end):
    """Read the stamp that a line begins with.

    Returns:
        (stamp, position of the JSON behind the white space); (-1, first) if there is none.
    """
    pos = first
    stamp = 0
    while pos < end:
        digit = np.int64(text[np.uintp(pos)]) - _ZERO
        if digit < 0 or digit > 9:
            break
        if stamp > (INT64_MAX - digit) // 10:
            return -1, first
        stamp = stamp * 10 + digit
        pos += 1
    if pos == first:
        return -1, first
    json = pos
    while json < end and text[np.uintp(json)] <= _SPACE:
        json += 1
    return (stamp, json) if json > pos else (-1, first)


@njit(cache=True)
def has_marker(text, first, end, marker):
    """Return True if text[first:end] holds the bytes of `marker`."""
    size = marker.shape[0]
    for pos in range(first, end - size + 1):
        i = 0
        while i < size and text[np.uintp(pos + i)] == marker[i]:
            i += 1
        if i == size:
            return True
    return False


@njit(cache=True)
def read_lines(text, pos, end, symbols, decoder, scratch, out, reading, lines_max, marker):
    """Decode lines into the market ring, and publish them.

    Args:
        text: uint8[end + TEXT_SLACK or more], read.
        pos: where the first line begins.
        end: behind the last one.
        symbols, decoder: of the feed's decoder; the second is changed.
        scratch: int64[n, 8], changed; n is a power of two that the longest message fits.
        out: Out of the market ring, changed.
        reading: int64[READING_WORDS], changed.
        lines_max: how many lines to read at most.
        marker: what a snapshot line holds.

    Returns:
        (position, DONE): at `end`, or after `lines_max` lines. (position, NO_ROOM): the ring is
        full; the line at `position` is to be read again. (position, LOOK): Python must look at the
        line that LINE_FIRST and so on tell; `position` is behind it.
    """
    status = DONE
    lines = 0
    while pos < end and lines < lines_max and status == DONE:
        line_end = find_line_end(text, pos, end)
        last = line_end
        while last > pos and text[np.uintp(last - 1)] <= _SPACE:
            last -= 1
        if last > pos:
            status = read_line(text, pos, last, symbols, decoder, scratch, out, reading, marker)
        if status != NO_ROOM:
            lines += np.int64(last > pos)
            pos = min(line_end + 1, end)
    reading[LINES] += lines
    publish(out)
    return pos, status


@njit(cache=True)
def read_line(text, first, end, symbols, decoder, scratch, out, reading, marker):
    """Decode one line into the market ring; Args and Returns as in `read_lines`."""
    stamp, json = read_stamp(text, first, end)
    reading[LINE_FIRST] = json
    reading[LINE_END] = end
    reading[LINE_TS] = stamp
    reading[LINE_STATUS] = 0
    if stamp < 0 or json == end:
        return LOOK
    room = scratch.shape[0]
    count = decode_frame(text, json, end, symbols, scratch, room - 1, 0, room, stamp, decoder)
    if count > 0:
        sequence = try_claim(out, count)
        if sequence == RING_FULL:
            return NO_ROOM
        count_offered(out, count)
        mask = out.slots.shape[0] - 1
        for slot in range(count):
            for word in range(SLOT_WORDS):
                out.slots[(sequence + slot) & mask, word] = scratch[slot, word]
        reading[EVENTS] += 1
    elif count == Decoded.SYMBOL_UNKNOWN:
        reading[FOREIGN] += 1
    elif count <= REFUSED or has_marker(text, json, end, marker):
        reading[LINE_STATUS] = count
        return LOOK
    else:
        reading[OTHER] += 1
    reading[NOW_NS] = max(reading[NOW_NS], stamp)
    return DONE


def new_reading() -> np.ndarray:
    """Return the words of a reading, all 0."""
    return np.zeros(READING_WORDS, np.int64)

"""WebSocket frames in a receive buffer: where the plain ones are, how long the next one is."""

import numpy as np
from numba import njit

HEAD_BYTES_MAX = 10  # of a frame from a server, which does not mask
READ_MORE, ODD_FRAME, TABLE_FULL = 0, 1, 2
_FIN_TEXT, _FIN_BINARY = 0x81, 0x82


@njit(cache=True, _nrt=False)
def split_frames(text, first, end, payload_max, bounds, count):
    """Find whole, unmasked, unfragmented data frames from `first` on.

    Args:
        text: uint8[n], read. Received bytes are text[first:end].
        first, end: half-open range.
        payload_max: longest payload taken here.
        bounds: int64[m, 2], changed. First and end byte of each payload.
        count: rows of `bounds` that are filled already.

    Returns:
        (rows filled, position behind the last frame taken, why it stopped): READ_MORE (the next
        frame is not complete), ODD_FRAME (the next one is not of this kind) or TABLE_FULL.
    """
    while end - first >= 2:
        head = text[first]
        length = np.int64(text[first + 1])
        payload = first + 2
        if (head != _FIN_TEXT and head != _FIN_BINARY) or length > 127:
            return count, first, ODD_FRAME
        if length >= 126:
            size = 2 if length == 126 else 8
            payload += size
            if payload > end:
                break
            length = np.int64(0)
            for i in range(payload - size, payload):
                if length > payload_max:  # before the shift: it may not overflow
                    break
                length = length << 8 | np.int64(text[i])
        if length > payload_max:
            return count, first, ODD_FRAME
        if payload + length > end:
            break
        if count == bounds.shape[0]:
            return count, first, TABLE_FULL
        bounds[count, 0] = payload
        bounds[count, 1] = payload + length
        count += 1
        first = payload + length
    return count, first, READ_MORE


def warm_up() -> None:
    """Compile the kernel."""
    split_frames(np.zeros(8, np.uint8), 0, 8, 100, np.zeros((1, 2), np.int64), 0)


def frame_bytes(head: bytes | memoryview) -> int:
    """Return the length of the frame that begins with `head`, 0 if `head` is too short to tell."""
    if len(head) < 2:
        return 0
    length = head[1] & 0x7F
    size = 2 + (4 if head[1] & 0x80 else 0)
    if length < 126:
        return size + length
    more = 2 if length == 126 else 8
    if len(head) < 2 + more:
        return 0
    return size + more + int.from_bytes(head[2 : 2 + more], "big")

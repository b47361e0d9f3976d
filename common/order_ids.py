"""client_order_id: session | strategy | intent sequence in one positive int64, and its venue text.

A session belongs to an instance and outlives its processes, so an id is never used twice.
"""

import re

SESSION_BITS, STRATEGY_BITS, SEQUENCE_BITS = 22, 5, 36
SESSION_MAX = (1 << SESSION_BITS) - 1
STRATEGY_MAX = (1 << STRATEGY_BITS) - 1
SEQUENCE_MAX = (1 << SEQUENCE_BITS) - 1
_PREFIX = "tr"
_TEXT = re.compile(_PREFIX + "[1-9a-z][0-9a-z]{0,12}")


def pack(session: int, strategy: int, sequence: int) -> int:
    """Build a client_order_id.

    Raises:
        ValueError: a part is out of its range; session starts at 1 so that 0 is never valid.
    """
    for name, value, low, high in (
        ("session", session, 1, SESSION_MAX),
        ("strategy", strategy, 0, STRATEGY_MAX),
        ("sequence", sequence, 0, SEQUENCE_MAX),
    ):
        if not low <= value <= high:
            raise ValueError(f"{name} is {value}, expected {low} to {high}")
    return (session << (STRATEGY_BITS + SEQUENCE_BITS)) | (strategy << SEQUENCE_BITS) | sequence


def unpack(client_order_id: int) -> tuple[int, int, int]:
    """Return (session, strategy, sequence)."""
    return (
        client_order_id >> (STRATEGY_BITS + SEQUENCE_BITS),
        (client_order_id >> SEQUENCE_BITS) & STRATEGY_MAX,
        client_order_id & SEQUENCE_MAX,
    )


def to_text(client_order_id: int) -> str:
    """Write the venue's form, at most 16 of [a-z0-9], e.g. "tr1k9x2"."""
    digits = ""
    while client_order_id:
        client_order_id, digit = divmod(client_order_id, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return _PREFIX + digits


def from_text(text: str) -> int:
    """Read the venue's form; 0 if it is not one of ours."""
    if not _TEXT.fullmatch(text):
        return 0
    value = int(text[len(_PREFIX) :], 36)
    return value if value < 1 << 63 else 0

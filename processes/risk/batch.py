"""What one turn of risk accepts and concludes, until the journal has it."""

from typing import NamedTuple

import numpy as np

from common.records import ORDER_REQUEST, REPORT

INTENTS_MAX = 256  # per turn
REPORTS_MAX = 512  # per turn and ring
REQUESTS_MAX = 1_024  # accepted intents and own cancels of one turn
OWN_MAX = 1_024  # own reports of one turn, a power of two
QUERIES_MAX = 64

# Places in Batch.counts.
REQUEST_COUNT = 0
PUBLISH_COUNT = 1
OWN_COUNT = 2
QUERY_COUNT = 3
ATTACH_STRATEGY = 4  # strategy that attached in this turn, -1 none


class Batch(NamedTuple):
    """What one turn accepted and decided, for the journal.

    Attributes:
        requests: ORDER_REQUEST[REQUESTS_MAX], accepted intents and own cancels, in order.
        places: int64[REQUESTS_MAX], the sequence of each in the order ring, or HELD.
        own: REPORT[OWN_MAX], what risk itself concluded: timeouts, lost sessions.
        queries: int64[QUERIES_MAX], rows whose state the venue is to be asked.
        counts: int64[8].
    """

    requests: np.ndarray
    places: np.ndarray
    own: np.ndarray
    queries: np.ndarray
    counts: np.ndarray


def new_batch() -> Batch:
    """Return an empty batch."""
    counts = np.zeros(8, np.int64)
    counts[ATTACH_STRATEGY] = -1
    return Batch(
        np.zeros(REQUESTS_MAX, ORDER_REQUEST),
        np.zeros(REQUESTS_MAX, np.int64),
        np.zeros(OWN_MAX, REPORT),
        np.zeros(QUERIES_MAX, np.int64),
        counts,
    )

"""The turn log: one TURN record per turn, enough to take every turn again.

A turn is told by its kind, its clock and the sequences that it took of each input. Two hashes make
the log a witness: `log_hash` runs over all turns, is part of the state block and stands in every
record; `state_hash` covers the whole block, at each attach and at the first turn boundary after
each HASHED_RECORDS input slots. All of the block is decided by the inputs and the clocks of the
turns, so whoever takes the logged turns again writes the same records.
"""

from numba import njit

from common.enums import TurnKind
from processes.strategy import desk as at
from shm.turn import chain_hash, state_hash

INPUTS = 3  # reports, control, market
HASHED_RECORDS = 100_000


@njit(cache=True)
def write_turn(record, d, block_words, kind, first, end):
    """Write the record of the turn that has just been taken, and chain it into the state block.

    Args:
        record: TURN record, changed.
        d: Desk after the turn; words[LOG_HASH] is changed.
        block_words: int64[n], the bytes that `d` is a view of, read.
        kind: TurnKind.
        first, end: int64[3], what was taken of each input.
    """
    words = d.words
    found = chain_hash(words[at.LOG_HASH], kind)
    found = chain_hash(found, words[at.NOW_NS])
    taken = 0
    for k in range(INPUTS):
        found = chain_hash(found, first[k])
        found = chain_hash(found, end[k])
        record["first_sequence"][k] = first[k]
        record["record_count"][k] = end[k] - first[k]
        taken += end[k] - first[k]
    words[at.LOG_HASH] = found
    is_hashed = is_boundary(kind, words[at.RECORD_COUNT] - taken, words[at.RECORD_COUNT])
    record["turn"] = words[at.TURN_COUNT] - 1
    record["now_ns"] = words[at.NOW_NS]
    record["state_hash"] = state_hash(block_words) if is_hashed else 0
    record["log_hash"] = found
    record["intent_count"] = words[at.INTENT_COUNT]
    record["kind"] = kind
    record["input_count"] = INPUTS


@njit(cache=True)
def is_boundary(kind, records_before, records):
    """Return True if the state is hashed after a turn of `kind` that brought the count there."""
    if kind == TurnKind.ATTACH:
        return True
    return records // HASHED_RECORDS != records_before // HASHED_RECORDS

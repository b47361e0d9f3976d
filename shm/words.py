"""Which int64 word of a page means what, and who writes it.

Shared words that two processes touch stand 128 bytes (16 words) apart: a core fetches cache lines
in pairs, and a cursor must not share a pair with anything the other side writes.

    page        words   writer      content
    producer    0       producer    producer cursor: next sequence to be published
    producer    16      producer    claim cursor: slots below it may be under change; never falls
    producer    32-43   producer    ledger and the loss not yet told
    producer    48-49   producer    pid, count of attaches
    consumer    0       consumer    consumer cursor: next sequence to be read
    consumer    16      consumer    1 while it sleeps and wants its bell rung
    consumer    32      consumer    highest lag it has seen
    consumer    48-49   consumer    pid, count of attaches
"""

# Producer page.
P_CURSOR = 0
P_CLAIM = 16
P_OFFERED = 32  # slots that were to be published, each counted once, GAPs not counted
P_DROPPED = 33  # slots of those that never will be
P_LOST_REASON = 34  # 0: no loss is waiting to be told; written last when set, first when cleared
P_LOST_FIRST = 35  # offered number of the first lost slot
P_LOST_LAST = 36
P_LOST_SCOPE = 37  # instrument_id, -1 if more than one
P_LOST_NEXT = 38  # first lost slot behind those that the GAP in flight tells
P_GAP_SEQUENCE = 39  # where the GAP in flight was written, -1 none
P_GAP_LAST = 40  # last_lost that it tells
P_GAP_NUMBER = 41  # P_GAPS once it is published
P_GAPS = 42  # GAP slots published
P_SPILLED = 43  # gauge: records kept by the producer until there is room

# Consumer page.
C_CURSOR = 0
C_SLEEPING = 16
C_LAG_MAX = 32

# Both.
ROLE_PID = 48
ROLE_ATTACHES = 49

# Private words of a producer end.
L_CLAIMED = 0  # next sequence to claim
L_PUBLISHED = 1  # copy of the producer cursor
L_LIMIT = 2  # claims may end here, by the consumer cursor last seen
L_CAPACITY = 4  # same place at both ends
L_RESERVED = 5  # slots kept free for a GAP
L_BELL = 6  # file descriptor of the consumer's doorbell, -1 none
L_GAP_OPEN = 7  # 1: a GAP is written and not yet published

# Private words of a consumer end.
L_RELEASED = 0  # copy of the consumer cursor
L_TAKEN = 1  # read so far; ahead of L_RELEASED inside a turn
L_END = 2  # producer cursor last seen
L_LAG_MAX = 3

LOCAL_WORDS = 16
PAGE_WORDS = 512
UNBOUNDED = 1 << 62  # L_LIMIT of a ring that overwrites
SEQUENCE_MAX = 1 << 61

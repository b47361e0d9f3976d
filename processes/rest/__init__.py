"""Everything slow: snapshots, queries, reconciliation, keys, clock, dead-man, emergency cancel."""

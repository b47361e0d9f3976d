"""How it moves: atomics, segments, rings, cells, tables and counters."""

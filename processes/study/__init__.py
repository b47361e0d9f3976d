"""Many backtests: sweeps of a grid, and walking forward through time."""

"""The backtester: strategy, risk checks and a simulated exchange in one compiled loop."""

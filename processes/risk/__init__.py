"""The only process that knows all orders: pre-trade checks, life cycle, positions, journal."""

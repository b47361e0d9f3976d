"""Keeps what crosses the rings: copies their slots to files, byte for byte, and disturbs nobody."""

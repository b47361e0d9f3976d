"""Recorded sessions through the live stages, in one process and virtual time."""

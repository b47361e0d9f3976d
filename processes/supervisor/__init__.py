"""Starts, watches, restarts and stops all other processes of an instance."""

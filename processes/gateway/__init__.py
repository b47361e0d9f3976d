"""Orders out over the WebSocket order API, execution reports in."""

"""Read-only tools that look inside a running or dead instance."""

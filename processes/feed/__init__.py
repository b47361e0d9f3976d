"""Market data in: sockets, the scanner, and the records it writes for the book."""

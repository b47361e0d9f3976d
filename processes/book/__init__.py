"""Market records in, consistent books out: sync rule, L2 books, BOOK messages."""

"""Process strategy: books, trades and reports in; intents out; one turn is all or nothing."""

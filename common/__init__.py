"""What is said: units, records, enums, config, clock and errors."""

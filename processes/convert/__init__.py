"""Market data of other people into recordings, and recordings into files for other programs."""

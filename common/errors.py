"""The exceptions of tickring and their exit codes (sysexits.h).

TickringError
├── UsageError           2   the command line is wrong
├── DataError           65   an input file holds something else than it should
├── UnavailableError    69   a segment, a process or the venue is not there
├── SegmentError        69   a segment is there and unusable: wrong layout, owner, checksum
├── BugError            70   a promise of ours is broken
└── ConfigError         78   a config file is missing or wrong
"""


class TickringError(Exception):
    """Base of all errors that a user is meant to read."""

    exit_code = 70


class UsageError(TickringError):
    """The command line is wrong."""

    exit_code = 2


class DataError(TickringError):
    """An input file holds something else than it should."""

    exit_code = 65


class UnavailableError(TickringError):
    """Something outside is not there."""

    exit_code = 69


class SegmentError(TickringError):
    """A segment cannot be used."""

    exit_code = 69


class BugError(TickringError):
    """A promise of ours is broken."""

    exit_code = 70


class ConfigError(TickringError):
    """A config file is missing or wrong."""

    exit_code = 78

"""The results of a sweep on disk: a JSON line each, on the disk before the next one is begun.

A process that is killed leaves whole lines and at most one torn one at the end, which the next
start cuts off. One process at a time writes.
"""

import fcntl
import os
from pathlib import Path
from typing import Any

from common.errors import UnavailableError, UsageError
from processes.report.metrics import encode
from processes.study.plan import Parameters, decode

FILE_NAME = "results.jsonl"


class ResultsFile:
    """Appends results, and knows those that are there.

    Attributes:
        path: of the file.
        found: {key: line as a dictionary}; of several lines with one key the last.
        torn_bytes: what was cut off the end on opening.
    """

    def __init__(self, folder: Path) -> None:
        """Open or make the file in `folder`.

        Raises:
            UsageError: it cannot be written, or a line of it is not one of ours.
            UnavailableError: another process writes it.
        """
        self.path = folder / FILE_NAME
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a+b", buffering=0)
        except OSError as error:
            raise UsageError(f"{self.path}: {(error.strerror or str(error)).lower()}") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise UnavailableError(f"{self.path}: another sweep writes it, expected one") from None
        self.found: dict[str, dict[str, Any]] = {}
        self._file.seek(0)
        content = self._file.read()
        whole, _newline, torn = content.rpartition(b"\n")
        self.torn_bytes = len(torn)
        if torn:
            os.ftruncate(self._file.fileno(), len(content) - len(torn))
        for number, line in enumerate(whole.splitlines(), 1):
            self._remember(number, line)

    def _remember(self, number: int, line: bytes) -> None:
        """Read one line back."""
        try:
            row = decode(line)
            self.found[row["key"]] = row
        except (ValueError, KeyError, TypeError):
            self._file.close()
            raise UsageError(
                f"{self.path}:{number}: {line[:60]!r}, expected a result of `tickring sweep`;"
                " choose another --out or remove the file"
            ) from None

    def add(self, key: str, parameters: Parameters, outcome: dict[str, Any]) -> None:
        """Append one result; it is on the disk when this returns.

        Raises:
            UnavailableError: the disk is full or failed; what is there stays good.
        """
        line = encode({"key": key, "parameters": parameters, **outcome}) + b"\n"
        try:
            rest = line
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UnavailableError(f"{self.path}: {reason}; free space and start again") from None
        self.found[key] = decode(line)

    def close(self) -> None:
        """Let the next one write."""
        self._file.close()

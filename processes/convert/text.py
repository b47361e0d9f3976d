"""Text files as blocks of whole lines: plain, gzip, or a zip with one file in it.

A file that breaks off is read as far as it goes, and what is missing is told: `damage`.
"""

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from common.errors import UsageError
from processes.feed.json_scan import TEXT_SLACK

BLOCK_BYTES = 1 << 20
LINE_BYTES_MAX = 1 << 24
_GZIP_MAGIC, _ZIP_MAGIC = b"\x1f\x8b", b"PK\x03\x04"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class TextFile:
    """One file of lines.

    Args:
        path: the file; what it is, is told by its first bytes.

    Attributes:
        size_bytes: of the file as it is stored.
        bytes_read: of those, read so far.
        damage: what is wrong with the file as a whole, "" if nothing; complete after `blocks`.

    Raises:
        UsageError: the file cannot be read, or is a zip of other than one file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage = ""
        self.bytes_read = 0
        try:
            self.size_bytes = path.stat().st_size
            with path.open("rb") as file:
                self._head = file.read(4)
        except OSError as error:
            raise UsageError(f"{path}: {(error.strerror or str(error)).lower()}") from None
        if self._head == _ZIP_MAGIC:
            self._member = _only_member(path)

    @property
    def content_name(self) -> str:
        """Name of the text: of the file, without .gz, or of the file in the zip."""
        if self._head == _ZIP_MAGIC:
            return Path(self._member).name
        return self.path.name.removesuffix(".gz")

    def first_line(self) -> bytes:
        """Return the first line, without its end."""
        for text, end in TextFile(self.path).blocks():
            return text[:end].tobytes().splitlines()[0]
        return b""

    def blocks(self) -> Iterator[tuple[np.ndarray, int]]:
        """Yield (text, end): uint8 with TEXT_SLACK bytes behind `end`, always whole lines.

        The last block may end without a line feed. A line over LINE_BYTES_MAX is cut.

        Raises:
            UsageError: the file cannot be read any more.
        """
        rest = b""
        is_first = True
        for chunk in self._chunks():
            if is_first:
                chunk = chunk.removeprefix(_BYTE_ORDER_MARK)
                is_first = False
            block = rest + chunk
            cut = block.rfind(b"\n") + 1
            if cut == 0 and len(block) < LINE_BYTES_MAX:
                rest = block
                continue
            cut = cut or len(block)
            rest = block[cut:]
            yield _with_slack(block[:cut])
        if rest:
            yield _with_slack(rest)

    def _chunks(self) -> Iterator[bytes]:
        try:
            if self._head == _ZIP_MAGIC:
                yield from self._unzip()
                return
            with self.path.open("rb") as file:
                if self._head[:2] == _GZIP_MAGIC:
                    yield from self._gunzip(file)
                    return
                while chunk := file.read(BLOCK_BYTES):
                    self.bytes_read += len(chunk)
                    yield chunk
        except OSError as error:
            raise UsageError(f"{self.path}: {(error.strerror or str(error)).lower()}") from None

    def _unzip(self) -> Iterator[bytes]:
        done = 0
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(self._member) as file:
                size = max(archive.getinfo(self._member).file_size, 1)
                while chunk := file.read(BLOCK_BYTES):
                    done += len(chunk)
                    self.bytes_read = min(self.size_bytes * done // size, self.size_bytes)
                    yield chunk
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            self.damage = f"zip is damaged behind {done} bytes of text: {str(error).lower()}"

    def _gunzip(self, file: BinaryIO) -> Iterator[bytes]:
        """Yield the content of all gzip members, at most BLOCK_BYTES at once."""
        member = zlib.decompressobj(wbits=31)
        done = 0
        is_inside = False
        while stored := file.read(BLOCK_BYTES):
            self.bytes_read += len(stored)
            while stored:
                try:
                    content = member.decompress(stored, BLOCK_BYTES)
                except zlib.error as error:
                    self.damage = f"gzip is damaged behind {done} bytes of text: {error}"
                    return
                is_inside = True
                done += len(content)
                if content:
                    yield content
                stored = member.unconsumed_tail
                if member.eof:
                    stored = member.unused_data.lstrip(b"\0")  # padding between members
                    member = zlib.decompressobj(wbits=31)
                    is_inside = False
        if is_inside:
            self.damage = f"gzip ends early, behind {done} bytes of text"


def _only_member(path: Path) -> str:
    """Return the name of the one file in a zip. Raises UsageError."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
    except (zipfile.BadZipFile, OSError) as error:
        raise UsageError(f"{path}: {str(error).lower()}, expected a zip") from None
    if len(names) != 1:
        raise UsageError(f"{path}: {len(names)} files in the zip, expected one; unpack it first")
    return names[0]


def _with_slack(block: bytes) -> tuple[np.ndarray, int]:
    return np.frombuffer(block + bytes(TEXT_SLACK), np.uint8), len(block)

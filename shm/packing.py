"""Closed segments packed with zstd: the same bytes behind another suffix, for readers the same."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import SegmentError

PACKED_SUFFIX = ".slots.zst"


def packed_path(path: Path) -> Path:
    """Return where a file of slots lies once it is packed."""
    return path.with_name(path.name.removesuffix(".zst") + ".zst")


def unpack(path: Path) -> np.ndarray:
    """Return the bytes of a packed file of slots.

    Raises:
        SegmentError: it is damaged.
    """
    import zstandard

    try:
        content = zstandard.ZstdDecompressor().decompress(path.read_bytes())
    except zstandard.ZstdError as error:
        raise SegmentError(f"{path}: {error}, expected a whole zstd file") from None
    return np.frombuffer(content, np.uint8)


def unpack_first(path: Path, size: int) -> bytes:
    """Return the first bytes of a packed file of slots.

    Raises:
        SegmentError: it is damaged.
    """
    import zstandard

    try:
        with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as reader:
            return bytes(reader.read(size))
    except zstandard.ZstdError as error:
        raise SegmentError(f"{path}: {error}, expected a whole zstd file") from None


class Packer:
    """Packs one closed segment with zstd, a piece at a time, so that a recorder goes on meanwhile.

    Killed at any moment: the plain file is removed only after the packed one is whole and on disk.
    """

    def __init__(self, path: Path, level: int = 3) -> None:
        """Begin.

        Args:
            path: file of slots that nobody writes any more.
            level: of zstd, 1 fast to 19 small.
        """
        import zstandard

        self.path = path
        self._draft = path.with_name(path.name + ".zst.part")
        self._source = path.open("rb")
        self._target = open(self._draft, "wb", opener=private_opener)
        size = os.fstat(self._source.fileno()).st_size
        compressor = zstandard.ZstdCompressor(level=level, write_checksum=True)
        self._packing: Any = compressor.compressobj(size=size)

    def step(self, bytes_max: int = 1 << 20) -> int | None:
        """Pack at most so many bytes.

        Returns:
            None: there is more; else it is done, only the packed file is left, and this is by how
            many bytes it is larger, mostly less than 0.

        Raises:
            OSError: the disk is full or gone; close it then.
        """
        data = self._source.read(bytes_max)
        if data:
            self._target.write(self._packing.compress(data))
            return None
        self._target.write(self._packing.flush())
        self._target.flush()
        os.fsync(self._target.fileno())
        growth = self._target.tell() - self._source.tell()
        self.close()
        os.rename(self._draft, packed_path(self.path))
        self.path.unlink()
        return growth

    def close(self) -> None:
        """Give up; the plain file stays."""
        self._source.close()
        self._target.close()


def private_opener(path: str, flags: int) -> int:
    """Open a file that only this user may read."""
    return os.open(path, flags | os.O_CLOEXEC, 0o600)

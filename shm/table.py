"""Table: a fixed array of records with one writer; each row is its own seqlock, newest wins.

    version of a row   <= 0: nothing there; even: whole; odd: being written

A reader copies a row and takes the copy only if the version was even and stayed. A writer killed in
a row leaves it odd: readers get TORN, and the next writer empties the row when it attaches.
A table of one row per instrument is also the latest cell.
"""

import numpy as np
from numba import njit

from common.errors import SegmentError
from common.layout import fingerprint
from common.records import LAYOUTS
from shm import segment
from shm.atomics import cpu_relax, fence_acquire, fence_release, load_acquire, store_release
from shm.segment import OWN_PAGE, PAGE_BYTES, Kind, Role, Segment, round_up_to_page

ROWS_MAX = 1 << 22
READ_OK, READ_EMPTY, READ_TORN = 1, 0, -1
_ATTEMPTS_MAX = 1000
_VERSIONS_PAGE = 2


@njit(cache=True, _nrt=False, forceinline=True)
def begin_write(versions, row):
    """Mark a row as being written.

    Args:
        versions: int64[n], changed.
        row: index.

    Order: the release fence keeps the odd version before the writes to the row.
    Writer: the table's writer.
    """
    store_release(versions, row, abs(versions[row]) + 1)
    fence_release()


@njit(cache=True, _nrt=False, forceinline=True)
def end_write(versions, row):
    """Mark a row as whole. Args as in `begin_write`.

    Order: store-release, after the writes to the row; pairs with the load-acquire in `read_row`.
    """
    store_release(versions, row, versions[row] + 1)


@njit(cache=True, _nrt=False)
def read_row(versions, rows, row, out):
    """Copy one row.

    Args:
        versions: int64[n], read.
        rows: record[n], read.
        row: index.
        out: record[1], changed; meaningless unless 1 is returned.

    Returns:
        1 (READ_OK); 0 (READ_EMPTY) nothing was ever written there; -1 (READ_TORN) it was under
        change at every attempt: its writer is very busy, or died in it.

    Order: the load-acquire keeps the copy behind the first look at the version, the acquire fence
    before the second.
    """
    for _ in range(_ATTEMPTS_MAX):
        before = load_acquire(versions, row)
        if before <= 0:
            return READ_EMPTY
        if before & 1 == 0:
            out[0] = rows[row]
            fence_acquire()
            if load_acquire(versions, row) == before:
                return READ_OK
        cpu_relax()
    return READ_TORN


def create_table(name: str, record: str, rows: int) -> None:
    """Create the segment of a table, all rows empty.

    Args:
        name: from registry.segment_name.
        record: a name of LAYOUTS.
        rows: how many.

    Raises:
        SegmentError: it exists, or an argument is out of range.
    """
    if record not in LAYOUTS or not 0 < rows <= ROWS_MAX:
        raise SegmentError(f"{name}: {rows} rows of {record}, expected 1 to 2^22 of a LAYOUTS name")
    record_bytes = LAYOUTS[record].itemsize
    segment.create(
        name,
        Kind.TABLE,
        record,
        fingerprint(record),
        capacity=rows,
        record_bytes=record_bytes,
        own_pages=1,
        data_bytes=round_up_to_page(rows * 8) + rows * record_bytes,
    )


class _End:
    """Versions and rows of a table, mapped or private.

    Attributes:
        record: name of the rows' record.
        versions: int64[n], for kernels.
        rows: record[n], for kernels.
    """

    def __init__(
        self, name: str, record: str, versions: np.ndarray, rows: np.ndarray, table: Segment | None
    ) -> None:
        self.name = name
        self.record = record
        self.versions = versions
        self.rows = rows
        self._segment = table

    def __len__(self) -> int:
        return len(self.rows)

    def close(self) -> None:
        """Leave the table; the segment stays."""
        if self._segment is not None:
            self._segment.close()


def _map(table: Segment, writable: bool) -> tuple[np.ndarray, np.ndarray]:
    count = table.capacity
    dtype = LAYOUTS[table.record]
    first = _VERSIONS_PAGE * PAGE_BYTES
    versions = table.map_bytes(first, count * 8, writable=writable).view(np.int64)
    first += round_up_to_page(count * 8)
    rows = table.map_bytes(first, count * dtype.itemsize, writable=writable).view(dtype)
    return versions, rows


class TableWriter(_End):
    """The one writer of a table."""

    @classmethod
    def open(cls, name: str, record: str) -> "TableWriter":
        """Attach as the writer; a row that a dead writer left half written becomes empty.

        Raises:
            UnavailableError: no such table; RoleTaken: a living process is its writer.
            SegmentError: the segment is not usable.
        """
        table = Segment.attach(name, Kind.TABLE, fingerprint(record), writable=True)
        with table.closed_on_error():
            table.take_role(Role.WRITER, table.map_words(OWN_PAGE, writable=True))
            versions, rows = _map(table, writable=True)
        for row in np.flatnonzero(versions & 1):
            rows[row] = np.zeros((), rows.dtype)
            versions[row] = -(abs(versions[row]) + 1)
        return cls(name, record, versions, rows, table)

    def write(self, row: int, record: np.ndarray | np.void) -> None:
        """Replace one row; cold path."""
        if not 0 <= row < len(self.rows):
            raise IndexError(f"{self.name}: row is {row}, expected 0 to {len(self.rows) - 1}")
        _begin(self.versions, row)
        self.rows[row] = record
        _end(self.versions, row)


class TableReader(_End):
    """A reader: maps read-only, needs nobody's leave."""

    def __init__(
        self, name: str, record: str, versions: np.ndarray, rows: np.ndarray, table: Segment | None
    ) -> None:
        super().__init__(name, record, versions, rows, table)
        self._copy = np.zeros(1, rows.dtype)

    @classmethod
    def open(cls, name: str, record: str | None = None) -> "TableReader":
        """Attach as a reader; `record` may be left out by tools.

        Raises:
            UnavailableError: no such table.
            SegmentError: the segment is not usable.
        """
        table = Segment.attach(name, Kind.TABLE, writable=False)
        with table.closed_on_error():
            shown = record or table.record
            if shown not in LAYOUTS:
                raise SegmentError(f"{name}: record is {shown!r}, expected a name of LAYOUTS")
            found = int(table.header[segment.Header.FINGERPRINT])
            segment.check_fingerprint(name, found, fingerprint(shown))
            versions, rows = _map(table, writable=False)
        return cls(name, shown, versions, rows, table)

    def read(self, row: int) -> np.void | None:
        """Return a copy of one row; None if it is empty or torn."""
        if not 0 <= row < len(self.rows):
            raise IndexError(f"{self.name}: row is {row}, expected 0 to {len(self.rows) - 1}")
        if read_row(self.versions, self.rows, row, self._copy) != READ_OK:
            return None
        return self._copy[0].copy()

    def read_all(self) -> np.ndarray:
        """Return copies of all rows that hold something, each whole, in row order."""
        found = []
        for row in np.flatnonzero(self.versions > 0):
            record = self.read(int(row))
            if record is not None:
                found.append(record)
        return np.array(found, self.rows.dtype)


@njit(cache=True, _nrt=False)
def _begin(versions, row):
    begin_write(versions, row)


@njit(cache=True, _nrt=False)
def _end(versions, row):
    end_write(versions, row)


def anonymous_table(record: str, rows: int) -> tuple[TableWriter, TableReader]:
    """Return both ends of a table in private memory: same code and numba types, no locks."""
    versions, data = np.zeros(rows, np.int64), np.zeros(rows, LAYOUTS[record])
    read_versions, read_data = versions.view(), data.view()
    read_versions.flags.writeable = read_data.flags.writeable = False
    return (
        TableWriter("anonymous", record, versions, data, None),
        TableReader("anonymous", record, read_versions, read_data, None),
    )

"""The Python objects are the records, byte for byte."""

import msgspec
import numpy as np
import pytest

from common import messages
from common.records import LAYOUTS

KINDS = {"ORDER_REQUEST": messages.OrderRequest, "REPORT": messages.Report}


def numbered(record: str) -> np.ndarray:
    """Return two records whose every field holds another number."""
    rows = np.zeros(2, LAYOUTS[record])
    for row in range(2):
        for i, name in enumerate(fields(record)):
            rows[name][row] = i + 1 + 60 * row
    return rows


def fields(record: str) -> list[str]:
    return [name for name in LAYOUTS[record].names or () if not name.startswith("reserved")]


@pytest.mark.parametrize("record", KINDS)
def test_the_object_has_the_fields_of_the_record_in_order(record):
    assert list(KINDS[record].__struct_fields__) == fields(record)


@pytest.mark.parametrize(
    ("record", "read", "write"),
    [
        ("ORDER_REQUEST", messages.read_requests, messages.requests_array),
        ("REPORT", messages.read_reports, messages.reports_array),
    ],
)
def test_every_field_goes_through_both_ways(record, read, write):
    rows = numbered(record)
    objects = read(rows)
    for row, value in enumerate(objects):
        for name in fields(record):
            assert getattr(value, name) == rows[name][row], name
    assert write(objects).tobytes() == rows.tobytes()


def test_reserved_bytes_are_written_as_zero():
    packed = messages.Report().pack()
    assert len(packed) == 256
    assert packed[200:] == bytes(56)


def test_a_value_that_does_not_fit_its_field_is_refused():
    with pytest.raises(Exception, match="format requires"):
        messages.Report(sent_to_ack_ns=1 << 40).pack()
    assert msgspec.structs.replace(messages.Report(), sent_to_ack_ns=(1 << 31) - 1).pack()

import numpy as np
import pytest

from common import layout, records

from tests.support import ROOT

GOLDEN = ROOT / "tests" / "golden" / "layouts.txt"


def test_layouts_equal_the_golden_file():
    """A difference here is a change of the protocol between processes, not of formatting."""
    text = "\n".join(layout.describe(name) for name in records.LAYOUTS)
    assert text == GOLDEN.read_text(), "regenerate with: tickring layout > tests/golden/layouts.txt"


@pytest.mark.parametrize("name", records.MARKET_SLOTS)
def test_every_market_slot_begins_with_the_same_prefix(name):
    fields = records.LAYOUTS[name].fields
    prefix = ("kind", "flags", "slot_count", "instrument_id", "ts_recv_ns")
    assert [fields[field] for field in prefix] == [records.DEPTH.fields[f] for f in prefix]
    assert records.LAYOUTS[name].itemsize == 64


def test_level_words_are_the_level_fields():
    slots = np.zeros(1, records.LEVELS)
    words = slots.view(np.int64)
    for level in range(records.LEVELS_PER_SLOT):
        slots[f"price_{level}_steps"], slots[f"qty_{level}_steps"] = 10 + level, 20 + level
        at = records.LEVEL_WORD + 2 * level
        assert (words[at], words[at + 1]) == (10 + level, 20 + level)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (((0, "a", "<i8", ""), (12, "b", "<i4", "")), r"T\.b: offset is 12, expected 8"),
        (((0, "a", "<i4", ""), (4, "b", "<i8", "")), r"T\.b: offset 4 is not a multiple of 8"),
        (((0, "a", "<i8", ""),), r"T: fields fill 8 bytes, expected 16"),
        (((0, "a", "<f8", ""), (8, "b", "<i8", "")), r"T\.a: format is <f8, expected an integer"),
        (((0, "a", "<u8", ""), (8, "b", "<i8", "")), r"T\.a: format is <u8, expected an integer"),
    ],
)
def test_record_refuses_bad_tables(rows, message):
    with pytest.raises(TypeError, match=message):
        layout.record("T", 16, "nobody", *rows)


def test_fingerprint_changes_with_a_meaning():
    assert layout.fingerprint("BBO") != layout.fingerprint("TRADE")
    assert layout.fingerprint("BBO") == layout.fingerprint("BBO") > 0

"""The kernels that read CSV: numbers and times against the standard library, lines fuzzed."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation

import numpy as np
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from common.fixed_point import DIGITS_MAX, PARSE_OK
from processes.convert.market import find_messages
from processes.convert.merge import merged
from processes.convert.problems import Problems
from processes.convert.registry import FactOptions, Registry
from processes.convert.rows import days_from_civil, may_be_symbol, read_decimal, read_time
from processes.convert.sources import CsvSource

FEW = settings(max_examples=150, deadline=None)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def bytes_of(text: str) -> np.ndarray:
    return np.frombuffer(text.encode() + b"," * 64, np.uint8)


def naive_decimal(text: str, decimals: int) -> int | None:
    """Return the grid steps of a number by way of Decimal, None if it is none or off the grid."""
    if not text or not set(text) <= set("0123456789.eE+-") or text[0] in "+-" or "_" in text:
        return None
    mantissa = text.lower().partition("e")[0]
    if mantissa in ("", "."):
        return None
    try:
        steps = Decimal(text).scaleb(decimals)
    except InvalidOperation:
        return None
    return int(steps) if steps == steps.to_integral_value() else None


@FEW
@given(st.from_regex(r"[0-9]{0,9}\.?[0-9]{0,9}([eE][+-]?[0-9]{1,2})?", fullmatch=True),
       st.integers(0, 12))  # fmt: skip
@example("1e-7", 8)
@example("4E+2", 0)
@example("1.50e1", 0)
@example("0e9", 3)
def test_decimals_are_what_decimal_says(text, decimals):
    steps, status = read_decimal(bytes_of(text), 0, len(text), decimals)
    expected = naive_decimal(text, decimals)
    if status == PARSE_OK:
        assert expected == steps
    else:  # what is refused is no number, off the grid, or larger than a step count may be
        exponent = text.lower().partition("e")[2]
        assert expected is None or expected >= 10 ** (DIGITS_MAX - 12) or abs(int(exponent)) > 17


@FEW
@given(st.datetimes(datetime(1971, 1, 1), datetime(2199, 12, 31)), st.sampled_from(" T"))
def test_times_in_every_unit_are_the_same_instant(moment, between):
    exact = (moment.replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1) * 1_000
    iso = moment.strftime(f"%Y-%m-%d{between}%H:%M:%S.%f")
    assert read_time(bytes_of(iso + "Z"), 0, len(iso) + 1) == (exact, PARSE_OK)
    seconds = exact // 10**9
    texts = [iso, f"{seconds}.{exact % 10**9:09d}"]
    if moment.year >= 1974:
        texts += [f"{exact // 10**6}.{exact % 10**6:06d}", str(exact // 1_000), str(exact)]
    for text in texts:
        assert read_time(bytes_of(text), 0, len(text)) == (exact, PARSE_OK), text
    assert days_from_civil(moment.year, moment.month, moment.day) == seconds // 86_400


@given(st.text("0123456789-:. TZ", max_size=30))
@FEW
def test_no_text_makes_the_time_kernel_fail(text):
    stamp, status = read_time(bytes_of(text), 0, len(text))
    assert stamp == 0 or status == PARSE_OK


GOOD = ["1723161255,BTCUSDT,60000.1,1,buy", "1723161256.5,ETHUSDT,2500.01,0.5,"]
LINES = st.lists(
    st.one_of(
        st.sampled_from(GOOD),
        st.text("0123456789.,eE-+bBTCUSDuy \r\x00é", max_size=50),
        st.builds(
            lambda line, at, what: line[:at] + what + line[at + 1 :],
            st.sampled_from(GOOD), st.integers(0, 31), st.text("0,.x-", max_size=3),
        ),
    ),
    max_size=30,
)  # fmt: skip


def naive_tick(line: str) -> tuple | None:
    """Return (symbol, price, qty, side) of a line in order, None of any other."""
    fields = line.rstrip("\r ").split(",")
    if len(fields) != 5 or fields[1] not in ("BTCUSDT", "ETHUSDT"):
        return None
    price = naive_decimal(fields[2], 1 if fields[1] == "BTCUSDT" else 2)
    qty = naive_decimal(fields[3], 3)
    sides = {"buy": 1, "b": 1, "": 0, "unknown": 0, "s": -1, "sell": -1}
    side = sides.get(fields[4].lower())
    whole, point, fraction = fields[0].partition(".")
    is_time = whole.isascii() and whole.isdigit() and (not point or fraction.isdigit())
    is_time = is_time and not 9_223_372_035 < int(whole) < 10**11  # seconds behind the year 2262
    is_good = price and qty and price < 10**18 and qty < 10**18 and side is not None and is_time
    return (fields[1], price, qty, side) if is_good else None


@settings(max_examples=120, deadline=None)
@given(LINES)
def test_any_lines_are_rows_or_counted(tmp_path_factory, lines):
    """Every line is a row as the naive reader has it, or one bad row, and nothing else happens."""
    path = tmp_path_factory.mktemp("fuzz") / "ticks.csv"
    header = "timestamp,symbol,price,quantity,side\n"
    path.write_bytes((header + "\n".join(lines)).encode())
    registry = Registry(FactOptions())
    registry.enter(path, "binance-usdm")
    for symbol in ("BTCUSDT", "ETHUSDT"):
        registry.register(symbol)
    problems = Problems(False)
    known = {"BTCUSDT", "ETHUSDT"}
    symbols = [line.split(",")[1] for line in lines if line.rstrip("\r ").count(",") == 4]
    assume(
        not any(may_be_symbol(bytes_of(s), 0, len(s.encode())) for s in symbols if s not in known)
    )
    source = CsvSource(path, "ticks", registry, problems, 0)
    slots = np.concatenate([np.zeros((0, 8), np.int64), *source.batches()])
    expected = [naive_tick(line) for line in lines if line.rstrip("\r ")]
    good = [one for one in expected if one is not None]
    assert [(int(s[0]) >> 32, int(s[3]), int(s[4])) for s in slots] == [
        (0 if symbol == "BTCUSDT" else 1, price, qty) for symbol, price, qty, _ in good
    ]
    assert problems.count == len(expected) - len(good)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.lists(st.integers(0, 30), max_size=5), max_size=4), min_size=1,
                max_size=4))  # fmt: skip
def test_merging_agrees_with_a_stable_sort(sources):
    """Whatever the batches: by running highest time, then source, then order in the source."""
    expected, number = [], 0
    streams = []
    for index, batches in enumerate(sources):
        highest, stream = 0, []
        for batch in batches:
            slots = np.zeros((2 * len(batch), 8), np.int64)
            for i, stamp in enumerate(batch):
                highest = max(highest, stamp)
                number += 1
                slots[2 * i, 0] = 2 << 16  # a message of two slots
                slots[2 * i : 2 * i + 2, 1] = stamp
                slots[2 * i : 2 * i + 2, 3] = number
                expected.append((highest, index, number))
            stream.append(slots)
        streams.append(iter(stream))
    got = np.concatenate([np.zeros((0, 8), np.int64), *merged(streams)])
    starts = np.zeros(len(got), np.int64)
    starts = starts[: find_messages(got, starts)]
    wanted = sorted(expected) if len(sources) > 1 else expected
    assert got[starts, 3].tolist() == [number for _, _, number in wanted]
    assert (got[starts, 3] == got[starts + 1, 3]).all()

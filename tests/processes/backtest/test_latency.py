"""Order latency: recorded and interpolated, against a naive twin, and drawn."""

from fractions import Fraction

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import ConfigError
from processes.backtest import latency
from processes.backtest.run import run

from tests.processes.backtest.made_market import START_NS, made_data, made_setup

DICE = "tests.processes.backtest.dice:Dice"
MS = 1_000_000
# Time since the last request, the way there, the way back, and whether it was refused.
ROWS = st.lists(
    st.tuples(st.integers(1, 90), st.integers(0, 30), st.integers(1, 30), st.booleans()),
    min_size=1, max_size=8,
)  # fmt: skip
INSTANTS = st.lists(st.integers(0, 600), min_size=1, max_size=12)


def made_rows(drawn: list[tuple]) -> np.ndarray:
    """Return int64[m, 3] from START_NS on; times at the exchange never go back."""
    rows, asked, arrived = [], START_NS, START_NS
    for gap, there, back, is_refused in drawn:
        asked += gap
        arrived = max(arrived, asked + there)
        rows.append((asked, 0 if is_refused else arrived, arrived + back))
    return np.array(rows, np.int64)


def naive(rows: list[tuple], now: int, column: int, value) -> Fraction:
    """Interpolate `value` of the rows before and after `now`; of the one there is at the ends."""
    before = [row for row in rows if row[column] <= now][-1:]
    after = [row for row in rows if row[column] > now][:1]
    if not before or not after:
        return Fraction(value((before or after)[0]))
    [one], [other] = before, after
    share = Fraction(now - one[column], other[column] - one[column])
    return value(one) + share * (value(other) - value(one))


def naive_request(rows: list[tuple], now: int) -> Fraction:
    """Return the latency of a request, minus that of its answer if it is refused."""
    near = [row for row in rows if row[0] <= now][-1:] + [row for row in rows if row[0] > now][:1]
    if any(row[1] == 0 for row in near):
        return -naive(rows, now, 0, lambda row: row[2] - row[0])
    return naive(rows, now, 0, lambda row: row[1] - row[0])


@settings(max_examples=100, deadline=None)
@given(ROWS, INSTANTS)
def test_recorded_latency_is_that_of_the_naive_twin(drawn, instants):
    rows = made_rows(drawn)
    answered = np.ascontiguousarray(rows[rows[:, 1] > 0])
    words = np.zeros(latency.LATENCY_WORDS, np.int64)
    words[latency.KIND] = latency.RECORDED
    plain = [tuple(map(int, row)) for row in rows]
    known = [row for row in plain if row[1] > 0]
    for now in sorted(START_NS + instant for instant in instants):
        found = latency.request_latency(words, rows, now)
        expected = naive_request(plain, now)
        assert abs(found - expected) < 1 and (found < 0) == (expected < 0)
        if known:
            found = latency.response_latency(words, answered, now)
            expected = naive(known, now, 1, lambda row: row[2] - row[1])
            assert abs(found - expected) < 1 and found >= 0


def latency_of(tmp_path, text: str, kind: str, **more):
    """Return a set-up whose latency comes from a file."""
    setup = made_setup(tmp_path, DICE, {"interval_ns": 5 * MS, "seed": 7})
    (tmp_path / "latency.csv").write_text(text)
    config = msgspec.structs.replace(
        setup.backtest.order_latency, kind=kind, file="latency.csv", request_ns=0, response_ns=0,
        **more,
    )  # fmt: skip
    backtest = msgspec.structs.replace(setup.backtest, order_latency=config)
    file = msgspec.structs.replace(setup.file, backtest=backtest)
    return msgspec.structs.replace(setup, file=file)


def rows_text(*rows) -> str:
    lines = [",".join(str(START_NS + t * MS if t else 0) for t in each) for each in rows]
    return "\n".join(["request_ns,exchange_ns,response_ns", *lines]) + "\n"


QUIET = rows_text((1, 3, 5), (500, 502, 504))


def test_recorded_latency_is_interpolated_and_a_refusal_is_told(tmp_path):
    setup = latency_of(tmp_path, QUIET, "recorded")
    data = made_data(setup, 7, 600)
    constant = made_setup(tmp_path, DICE, {"interval_ns": 5 * MS, "seed": 7}, latency_ns=2 * MS)
    quiet = run(setup, data)
    assert quiet.fills.tobytes() == run(constant, data).fills.tobytes()
    busy = rows_text((1, 3, 5), (100, 0, 120), (200, 0, 230), (300, 302, 304))
    refused = run(latency_of(tmp_path, busy, "recorded"), data)
    assert refused.counts["orders_rejected"] > quiet.counts["orders_rejected"] + 20


@pytest.mark.parametrize("rows", [((200, 0, 208), (300, 302, 304)), ((1, 3, 5), (200, 0, 208))])
def test_a_refusal_at_an_end_of_the_file_holds_beyond_it(rows, tmp_path):
    """The desk's slots come free again 8 ms later, not after a whole clock: orders go on."""
    setup = latency_of(tmp_path, QUIET, "recorded")
    data = made_data(setup, 7, 600)
    quiet = run(setup, data)
    refused = run(latency_of(tmp_path, rows_text(*rows), "recorded"), data)
    assert refused.counts["orders_rejected"] > quiet.counts["orders_rejected"] + 20
    assert refused.counts["refused_by_desk"] == quiet.counts["refused_by_desk"] == 0
    assert refused.counts["intents"] > 0.5 * quiet.counts["intents"]


def test_drawn_latency_is_the_same_for_the_same_seed(tmp_path):
    text = rows_text(*((t, t + 1 + t % 7, t + 3 + 2 * (t % 5) + t % 7) for t in range(1, 400, 20)))
    results = []
    for seed in (1, 1, 2):
        setup = latency_of(tmp_path, text, "drawn", seed=seed)
        results.append(run(setup, made_data(setup, 7, 600)))
    assert results[0].fills.tobytes() == results[1].fills.tobytes()
    assert results[0].fills.tobytes() != results[2].fills.tobytes()
    assert results[2].counts["latency_seed"] == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a,b\n", "first line"),
        (rows_text((5, 4, 6)), "times go back"),
        (rows_text((5, 0, 6)), "no row with an exchange time"),
        (rows_text((1, 3, 5), (6, 0, 0)), "a refusal .* expected request < response"),
    ],
)
def test_wrong_latency_files_are_refused(text, expected, tmp_path):
    setup = latency_of(tmp_path, text, "recorded")
    with pytest.raises(ConfigError, match=expected):
        run(setup, made_data(setup, 7, 50))

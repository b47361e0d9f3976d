"""Damaged files of every kind: rows or bad rows, whole messages, and never another error."""

import io
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.enums import MarketKind
from common.errors import DataError, UsageError
from processes.convert.columns import DATASETS, Shape, Type
from processes.convert.market import find_messages
from processes.convert.problems import Problems
from processes.convert.progress import progress_bar
from processes.convert.registry import FactOptions, Registry
from processes.convert.sources import CsvSource

SAMPLES = {
    Type.SYMBOL: ["BTCUSDT"],
    Type.TIME: ["1700000000000000", "1700000000000100"],
    Type.PRICE: ["100.5", "99.5"],
    Type.QTY: ["1.5", "0.002"],
    Type.LEVEL_QTY: ["5", "0", "7.5"],
    Type.PRICE_OR_NONE: ["100.5", "101", ""],
    Type.QTY_OR_NONE: ["1", "0.5", ""],
    Type.NUMBER: ["17", "18"],
    Type.ID: ["17", "a-b"],
    Type.SIDE: ["buy", "sell", "unknown"],
    Type.BOOK_SIDE: ["bid", "ask"],
    Type.BUYER_IS_MAKER: ["true", "False"],
    Type.TRUTH: ["true", "false"],
    Type.PERCENT: ["-1", "1", "-2.00", "2"],
    Type.NOTIONAL: ["500", "1005"],
}
KINDS = {kind.value for kind in MarketKind}


def whole_file(dataset, data) -> str:
    """Draw a file that is in order: a header line and up to 12 rows."""
    lines = [",".join(column.names[0] for column in dataset.columns)]
    for _ in range(data.draw(st.integers(1, 12))):
        fields = [data.draw(st.sampled_from(SAMPLES[column.type])) for column in dataset.columns]
        lines.append(",".join(fields))
    return "\n".join(lines)


def check_messages(slots: np.ndarray) -> None:
    """Every slot belongs to one message, and each is as its header says."""
    starts = np.zeros(len(slots), np.int64)
    starts = starts[: find_messages(slots, starts)]
    ends = np.append(starts[1:], len(slots))[: len(starts)]
    for at, end in zip(starts.tolist(), ends.tolist(), strict=True):
        kind = int(slots[at, 0]) & 0xFF
        assert kind in KINDS and kind != MarketKind.LEVELS
        assert (int(slots[at, 0]) >> 16) & 0xFFFF == end - at
        assert (slots[at + 1 : end, 0] & 0xFF == MarketKind.LEVELS).all()
        if kind in (MarketKind.DIFF_BEGIN, MarketKind.SNAPSHOT_BEGIN):
            levels = (int(slots[at, 6]) & 0xFFFFFFFF) + (int(slots[at, 6]) >> 32)
            assert end - at == 1 + -(-levels // 3)
            numbers = slots[at + 1 : end, 2:].reshape(-1, 2)
            assert (numbers[:levels, 0] > 0).all() and (numbers[levels:] == 0).all()


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda dataset: dataset.name)
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_damaged_files_give_whole_messages_or_are_told(dataset, tmp_path, capsys, data):
    if dataset.shape == Shape.TOPS and len(dataset.columns) > 50:
        return  # the same code as the smaller one, and slow to draw
    text = whole_file(dataset, data)
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(text)))
        what = data.draw(st.text("0,.-\n\rxe\x00é9", max_size=3))
        text = text[:at] + what + text[at + data.draw(st.integers(0, 2)) :]
    path = tmp_path / "file.csv"
    path.write_bytes(text.encode())
    problems = Problems(False)
    registry = Registry(FactOptions(symbol="BTCUSDT", tick_size="0.1", lot_size="0.001"))
    try:
        source = CsvSource(path, dataset.name, registry, problems, 0)
        batches = list(source.batches())
    except (DataError, UsageError):
        return  # the header line was hit
    slots = np.concatenate([np.zeros((0, 8), np.int64), *batches])
    check_messages(slots)
    lines = len([line for line in text.split("\n")[1:] if line.rstrip("\r ")])
    if dataset.shape != Shape.BANDS:  # there one row may spoil a moment of several
        assert source.rows + problems.count + source.foreign_rows == lines
    capsys.readouterr()


def test_a_bar_is_shown_on_a_terminal_only(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, is_shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        with progress_bar("import", 10) as bar:
            bar.at(5)
        assert ("import" in stream.getvalue()) == is_shown

"""Order latency as the config wants it: a recorded file read, a distribution fitted."""

import math
from pathlib import Path
from statistics import NormalDist, fmean, pstdev

import numpy as np

from common.errors import ConfigError, UsageError
from processes.backtest import latency as words
from processes.backtest.config import OrderLatencyConfig
from processes.backtest.sources import load_array

COLUMNS = "request_ns,exchange_ns,response_ns"


def load_latency(
    config: OrderLatencyConfig, folder: Path, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (int64[count, LATENCY_WORDS], rows of requests, rows of responses).

    Raises:
        ConfigError: the file is missing or wrong.
    """
    state = np.zeros((count, words.LATENCY_WORDS), np.int64)
    none = np.zeros((1, 3), np.int64)
    if config.kind == "constant":
        state[:, words.REQUEST_NS] = config.request_ns + config.offset_ns
        state[:, words.RESPONSE_NS] = config.response_ns + config.offset_ns
        return state, none, none
    rows = read_rows(folder / config.file)
    answered = rows[rows[:, 1] > 0]
    if not len(answered):
        raise ConfigError(f"{folder / config.file}: no row with an exchange time, expected some")
    rows = rows + np.where(rows[:, 1:2] > 0, [0, 1, 2], [0, 0, 2]) * config.offset_ns
    answered = answered + np.array([0, 1, 2]) * config.offset_ns
    if config.kind == "recorded":
        state[:, words.KIND] = words.RECORDED
        return state, rows, answered
    state[:, words.KIND] = words.DRAWN
    for i in range(count):  # not 0, and far from each other
        state[i, words.RANDOM] = (config.seed * 0x9E3779B97F4A7C15 + i * 0xBF58476D1CE4E5B9) % (
            2**62
        ) + 1
    return (
        state,
        quantile_rows(answered[:, 1] - answered[:, 0], config.fit),
        quantile_rows(answered[:, 2] - answered[:, 1], config.fit),
    )


def read_rows(path: Path) -> np.ndarray:
    """Return int64[m, 3] request, exchange, response, in the order of the requests.

    Raises:
        ConfigError: cannot be read, or times that go back.
    """
    try:
        if path.suffix in (".npz", ".npy"):
            data = load_array(path)
            columns = [data[name] for name in ("req_ts", "exch_ts", "resp_ts")]
            rows = np.stack(columns, axis=1).astype(np.int64)
        else:
            lines = path.read_text().splitlines()
            if not lines or lines[0].strip() != COLUMNS:
                raise ConfigError(f"{path}: first line is {lines[:1]}, expected {COLUMNS}")
            rows = np.array([[int(word) for word in line.split(",")] for line in lines[1:]])
    except UsageError as error:
        raise ConfigError(str(error)) from None
    except (OSError, ValueError, IndexError) as error:
        raise ConfigError(f"{path}: {error}, expected order latencies: {COLUMNS}") from None
    if rows.ndim != 2 or rows.shape[1] != 3 or not len(rows):
        raise ConfigError(f"{path}: no rows, expected lines of {COLUMNS}")
    asked = rows[:, 0]
    known = rows[rows[:, 1] > 0]
    late = np.any(np.diff(asked) < 0) or np.any(np.diff(known[:, 1]) < 0)
    if late or np.any(known[:, 1] < known[:, 0]) or np.any(known[:, 2] < known[:, 1]):
        raise ConfigError(
            f"{path}: times go back, expected request <= exchange <= response, row after row"
        )
    if np.any((rows[:, 1] <= 0) & (rows[:, 2] <= rows[:, 0])):
        raise ConfigError(
            f"{path}: a refusal (exchange 0) is answered when it is asked for, or before, expected"
            " request < response"
        )
    return np.ascontiguousarray(rows, np.int64)


def quantile_rows(latencies: np.ndarray, fit: str) -> np.ndarray:
    """Return int64[QUANTILES + 1, 3]: the quantiles of a distribution in column 0."""
    shares = (np.arange(words.QUANTILES + 1) + 0.5) / (words.QUANTILES + 1)
    rows = np.zeros((len(shares), 3), np.int64)
    if fit == "quantiles":
        rows[:, 0] = np.quantile(latencies, shares)
        return rows
    logs = [math.log(max(int(latency), 1)) for latency in latencies]
    normal = NormalDist(fmean(logs), max(pstdev(logs), 1e-9))
    rows[:, 0] = [round(math.exp(normal.inv_cdf(float(share)))) for share in shares]
    return rows

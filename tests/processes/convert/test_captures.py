"""Raw captures: the import has what the replay decodes, and the real one has its counts."""

import gzip

import pytest

from processes.replay.facts import find_instrument
from processes.replay.options import ReplayOptions
from processes.replay.results import BboWriter
from processes.replay.session import Session
from shm.words import P_CURSOR

from tests.processes.convert.support import book_of, messages_of, slots_of, take, take_path
from tests.processes.replay.made_captures import make_capture
from tests.support import capture

REAL = "binance-usdm-btcusdt-20240808.gz"


class Tap:
    """Stands where a replay publishes into the market ring, and keeps what passes."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.bytes = b""
        self._work, session._work = session._work, self  # type: ignore[method-assign]
        self._seen = 0

    def __call__(self) -> int:
        ring = self.session.others.market
        published = int(ring.end.own[P_CURSOR])
        for sequence in range(self._seen, published):
            self.bytes += ring.end.slots[sequence & (ring.capacity - 1)].tobytes()
        self._seen = published
        return self._work()


@pytest.mark.parametrize("seed", [1, 4, 12])
def test_a_made_capture_is_imported_as_the_replay_decodes_it(seed, tmp_path):
    """Byte for byte, but for the snapshots, which a replay puts into a ring of their own."""
    grid, lines = make_capture(seed)
    path = tmp_path / "capture"
    path.write_bytes("\n".join(line.text for line in lines).encode())
    facts = {
        "venue": "binance-usdm", "symbol": grid.symbol, "tick_size": grid.tick_size,
        "lot_size": grid.lot_size, "price_decimals": grid.price_decimals,
        "qty_decimals": grid.qty_decimals,
    }  # fmt: skip
    options = ReplayOptions(capture=path, **facts)
    instrument = find_instrument(options)
    session = Session(instrument, BboWriter(instrument, None))
    tap = Tap(session)
    session.run(options)
    run, summary = take_path(tmp_path, "capture", path, **facts)
    slots = slots_of(run)[1:]
    of_snapshot = False
    kept = []
    for slot in slots:
        kind = int(slot[0]) & 0xFF
        of_snapshot = kind in (4, 5) or (kind == 3 and of_snapshot)
        if not of_snapshot:
            kept.append(slot.tobytes())
    assert b"".join(kept) == tap.bytes
    assert len(kept) > 100
    assert summary["bad_rows"] == session.decode_errors
    assert summary["foreign_rows"] == session.aside()["foreign_frames"]
    assert book_of(run) == session.book_text()
    session.close()


def test_bad_lines_of_a_capture_are_told_by_line(tmp_path, capsys):
    good = '5 {"e":"trade","E":5,"T":5,"s":"BTCUSDT","t":9,"p":"60000.1","q":"1","X":"MARKET"'
    good += ',"m":true}'
    lines = [good, "", "no stamp", good.replace("60000.1", "60000.15"), good.replace("5 ", "3 ", 1)]
    run, summary = take(
        tmp_path, "capture", gzip.compress("\n".join(lines).encode()), symbol="BTCUSDT"
    )
    assert [message[0] for message in messages_of(run)] == ["TRADE", "TRADE"]
    assert (summary["bad_rows"], summary["rows_back_in_time"]) == (2, 1)
    first, second = capsys.readouterr().err.splitlines()
    assert ":3: found 'no stamp', expected nanoseconds, a space and JSON" in first
    assert ":4: found '{" in second and second.endswith(
        "give --tick-size and --lot-size (OFF_GRID)"
    )


def test_the_real_capture_has_its_counts(tmp_path):
    run, summary = take_path(tmp_path, "capture", capture(REAL), symbol="BTCUSDT")
    assert (summary["diff_begin"], summary["bbo"], summary["trade"]) == (6_551, 66_089, 21_313)
    assert (summary["snapshot_begin"], summary["bad_rows"]) == (1, 0)

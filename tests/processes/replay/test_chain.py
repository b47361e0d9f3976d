"""A replay with strategy and risk behind the book: same book, and every intent is judged."""

import pytest

from common.errors import ConfigError
from processes.replay.chain import Chain
from processes.replay.results import BboWriter
from processes.replay.session import Session

from tests.processes.replay.made_captures import make_capture
from tests.processes.replay.naive_replay import Grid
from tests.processes.replay.test_replay import naive, options_of

SET_UP = """
state_dir = "is not looked at"

[strategy]
module = "processes.strategy.ping_pong:PingPong"

[strategy.params]
qty_steps = {qty}
period_ns = 1_000_000
slippage_steps = 10

[risk]
order_rate_max = 1000
order_burst_max = 1000

[risk.limits.{symbol}]
order_qty_max = "{qty_max}"
order_notional_max = "100000000000"
position_qty_max = "10"
open_order_count_max = 10
price_band_bps_max = 5000
book_age_ns_max = 60_000_000_000
"""


def run_chain(tmp_path, seed: int, qty: int, qty_max: str) -> tuple[Session, Grid, list, str]:
    grid, lines = make_capture(seed)
    path, bbo, set_up = tmp_path / "capture", tmp_path / "bbo", tmp_path / "set-up.toml"
    path.write_text("".join(line.text + "\n" for line in lines))
    set_up.write_text(SET_UP.format(symbol=grid.symbol, qty=qty, qty_max=qty_max))
    options, instrument = options_of(path, grid)
    chain = Chain(set_up, instrument)
    writer = BboWriter(instrument, bbo)
    session = Session(instrument, writer, chain)
    session.run(options)
    session.close()
    writer.close()
    chain.close()
    return session, grid, lines, bbo.read_text()


def test_a_strategy_behind_the_book_changes_nothing_in_it(tmp_path):
    session, grid, lines, bbo = run_chain(tmp_path, 0, qty=3, qty_max="1")
    twin = naive(grid, lines)
    assert session.summary() == twin.summary()
    assert bbo == twin.bbo_text()
    counts = session.aside()
    assert counts["turns"] > 100
    assert counts["orders_refused"] > 5
    # All but the ATTACH were judged; what risk let through was refused in place of the venue.
    assert counts["intents"] - 1 == counts["orders_refused"] + counts["risk_rejects"]


def test_risk_judges_with_the_limits_of_the_file(tmp_path):
    session, *_rest = run_chain(tmp_path, 0, qty=2_000, qty_max="1")
    counts = session.aside()
    assert counts["orders_refused"] == 0
    assert counts["risk_rejects"] == counts["intents"] - 1 > 5


def test_a_file_without_limits_of_the_symbol_is_refused(tmp_path):
    path = tmp_path / "set-up.toml"
    path.write_text(SET_UP.format(symbol="OTHERUSDT", qty=1, qty_max="1"))
    _options, instrument = options_of(path, make_capture(0)[0])
    with pytest.raises(ConfigError, match="risk.limits.BTCUSDT"):
        Chain(path, instrument)

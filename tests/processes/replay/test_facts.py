"""The instruments file holds facts that a replay and a run can use."""

import pytest

from common.instruments import check_symbol, load_facts
from processes.replay import command
from processes.replay.facts import find_instrument
from processes.replay.options import ReplayOptions

from tests.support import ROOT

FACTS = load_facts(ROOT / "configs" / "instruments.toml")["binance-usdm"]


def options(**given) -> ReplayOptions:
    return ReplayOptions(capture=ROOT, venue="binance-usdm", **given)


@pytest.mark.parametrize("symbol", FACTS)
def test_every_symbol_can_be_registered_and_writes_as_the_venue_does(symbol):
    check_symbol(symbol)
    instrument = find_instrument(options(symbol=symbol))
    facts = FACTS[symbol]
    # The venue writes its sizes with as many decimals as its streams.
    assert instrument.price_text(instrument.price_steps(facts.tick_size)) == facts.tick_size
    assert instrument.qty_text(instrument.qty_steps(facts.lot_size)) == facts.lot_size


def test_an_option_wins_over_the_file():
    facts = find_instrument(options(symbol="SOLUSDT", tick_size="0.0010", lot_size="1")).facts
    assert (facts.tick_size, facts.lot_size) == ("0.0010", "1")
    assert facts.price_decimals == 4
    facts = find_instrument(options(symbol="SOLUSDT", qty_decimals=3)).facts
    assert (facts.tick_size, facts.qty_decimals) == ("0.0100", 3)


def test_decimals_of_an_unknown_symbol_default_to_how_its_sizes_are_written():
    facts = find_instrument(options(symbol="NEWUSDT", tick_size="0.0500", lot_size="1")).facts
    assert (facts.price_decimals, facts.qty_decimals) == (4, 0)


def test_lines_finer_than_the_grid_come_with_a_hint(tmp_path, capsys):
    path = tmp_path / "capture"
    path.write_text(
        '5 {"e":"depthUpdate","s":"BTCUSDT","U":1,"u":2,"pu":0,"b":[["1.05","1"]],"a":[]}\n'
    )
    assert command.run(path, venue="binance-usdm", symbol="BTCUSDT") == 0
    told = capsys.readouterr()
    assert "1 lines are finer than the grid of BTCUSDT" in told.err

import pytest

from common import instruments
from common.errors import ConfigError

TEXT = """
[binance-usdm.BTCUSDT]
tick_size = "0.10"
lot_size = "0.001"
price_decimals = 2
qty_decimals = 3
min_notional = "100"
max_qty = "1000"
"""


def write(tmp_path, text):
    path = tmp_path / "instruments.toml"
    path.write_text(text)
    return path


def test_register_gives_grid_and_filters(tmp_path):
    path = write(tmp_path, TEXT)
    (btc,) = instruments.register("binance-usdm", ["BTCUSDT"], instruments.load_facts(path), path)
    assert (btc.instrument_id, btc.price_grid_decimals, btc.qty_grid_decimals) == (0, 1, 3)
    assert btc.price_steps("61659.70") == 616597
    assert (btc.price_text(616597), btc.qty_text(-5)) == ("61659.70", "-0.005")
    row = instruments.instrument_table([btc])[0]
    assert (row["tick_size_steps"], row["lot_size_steps"]) == (1, 1)
    assert row["min_notional_steps2"] == 100 * 10 * 1000
    assert row["max_qty_steps"] == 1_000_000
    assert btc.e8_from_steps2(1) == 10_000


def test_unknown_symbol_is_named(tmp_path):
    path = write(tmp_path, TEXT)
    facts = instruments.load_facts(path)
    with pytest.raises(ConfigError, match=r"\[binance-usdm\.ETHUSDT\] is missing"):
        instruments.register("binance-usdm", ["ETHUSDT"], facts, path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"0.10"', '"0.0"', "tick_size is '0.0', expected more than 0"),
        ('"0.10"', '"abc"', "expected plain decimal digits"),
        ("price_decimals = 2", "price_decimals = 0", "price_decimals is 0, expected 1 to 12"),
        ("min_notional", "minimum_notional", "unknown field"),
        ("qty_decimals = 3", "qty_decimals = '3'", "Expected `int`, got `str`"),
    ],
)
def test_bad_facts_are_refused_with_the_path(tmp_path, old, new, message):
    path = write(tmp_path, TEXT.replace(old, new))
    with pytest.raises(ConfigError, match=message) as caught:
        instruments.load_facts(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("min_notional", "max_qty", "steps2"),
    [("5", "1000000", 50_000), ("0.00001", "1000000000", 1), ("20.55", "0", 205_500)],
)
def test_large_and_fine_filters_are_exact(tmp_path, min_notional, max_qty, steps2):
    text = TEXT.replace('"100"', f'"{min_notional}"').replace('"1000"', f'"{max_qty}"')
    path = write(tmp_path, text)
    (btc,) = instruments.register("binance-usdm", ["BTCUSDT"], instruments.load_facts(path), path)
    row = instruments.instrument_table([btc])[0]
    assert row["min_notional_steps2"] == steps2
    assert row["max_qty_steps"] == int(max_qty) * 1000 or max_qty == "0"

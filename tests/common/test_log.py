from common import log


def test_values_cannot_forge_a_line():
    hostile = 'A\nERROR fake\x1b[2J" x=1'
    shown = log.format_value(hostile)
    assert "\n" not in shown and "\x1b" not in shown
    assert shown.startswith('"') and shown.count('"') == 3


def test_plain_values_stay_plain():
    assert log.format_value("BTCUSDT") == "BTCUSDT"
    assert log.format_value(12) == "12"
    assert log.format_value("") == '""'
    assert len(log.format_value("x" * 10_000)) <= 400

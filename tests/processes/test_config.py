"""The whole config file: what is accepted, and how each mistake is told."""

from pathlib import Path

import pytest

from common.errors import ConfigError
from processes.config import is_main_network, load_config

from tests.support import ROOT

CONFIGS = ROOT / "configs"
DEMO = (CONFIGS / "demo.toml").read_text()
TESTNET = (CONFIGS / "binance-testnet.toml").read_text()


@pytest.fixture
def write(tmp_path):
    (tmp_path / "instruments.toml").write_text((CONFIGS / "instruments.toml").read_text())

    def make(text: str) -> Path:
        path = tmp_path / "setup.toml"
        path.write_text(text)
        return path

    return make


def test_the_demo_is_valid(write):
    loaded = load_config(write(DEMO))
    assert [one.symbol for one in loaded.instruments] == ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
    assert loaded.config.mode == "paper" and loaded.notes == []
    assert loaded.plan.processes[0].name == "venue"
    assert loaded.state_dir.is_absolute() and loaded.state_dir.name == "demo"
    assert not is_main_network(loaded.config)


def test_without_its_table_there_is_no_recorder(write):
    names = [process.name for process in load_config(write(DEMO)).plan.processes]
    assert names[-1] == "recorder"
    text = DEMO.replace("[recorder]", "").replace("total_bytes_max = 4_000_000_000", "")
    assert [process.name for process in load_config(write(text)).plan.processes] == names[:-1]


def test_another_instance_has_another_state_folder(write):
    loaded = load_config(write(DEMO), "other")
    assert loaded.config.instance == "other"
    assert loaded.state_dir.name == "other"


def test_the_testnet_is_valid_without_its_keys_and_says_so(write):
    loaded = load_config(write(TESTNET.replace("~/.config", "nowhere")))
    assert [note.partition(":")[0] for note in loaded.notes] == [
        "venue.api_key_file", "venue.secret_key_file",
    ]  # fmt: skip
    assert [process.name for process in loaded.plan.processes][0] == "feed"
    assert not is_main_network(loaded.config)


@pytest.mark.parametrize(
    ("host", "is_main"),
    [
        ("fapi.binance.com", True),
        ("demo-fapi.binance.com", False),
        ("testnet.binancefuture.com", False),
        ("demo-fapi.binance.com.evil.example", True),
        ("binancefuture.com.evil.example", True),
        ("127.0.0.1", False),
        ("192.168.1.4", True),
    ],
)
def test_every_host_that_is_not_known_as_a_test_network_is_the_main_one(write, host, is_main):
    text = TESTNET.replace("https://demo-fapi.binance.com", f"https://{host}")
    assert is_main_network(load_config(write(text)).config) is is_main


@pytest.mark.parametrize(
    ("text", "old", "new", "found"),
    [
        (DEMO, 'mode = "paper"', 'mode = "papre"', r"Invalid enum value 'papre' - at `\$\.mode`"),
        (DEMO, "order_rate_max = 18", "order_rate_mx = 18", r"unknown field `order_rate_mx`"),
        (DEMO, 'order_notional_max = "10000"', "", r"missing required field `order_notional_max`"),
        (DEMO, "edge_bps = 0.15", 'edge_bps = "a"', r"Expected `int \| float`, got `str`"),
        (DEMO, 'instance = "demo"', 'instance = "De mo"', r"at `\$\.instance`"),
        (DEMO, '"SOLUSDT"]', '"DOGEUSDT"]', r"simulator.symbols lacks DOGEUSDT"),
        (DEMO, '"SOLUSDT"]', '"BTCUSDT"]', r"named twice"),
        (DEMO, "[risk.limits.SOLUSDT]", "[risk.limits.XRPUSDT]", r"limits.SOLUSDT\] is missing"),
        (DEMO, '[venue]', '[venue]\nrest_url = "https://fapi.binance.com"', r"expected it empty"),
        (DEMO, '[venue]', '[venue]\napi_key_file = "real.key"', r"expected it empty with mode"),
        (DEMO, "[simulator]", "[supervisor]\ncores = {fed = 1}\n[simulator]", r"cores.fed: exp"),
        (DEMO, "[simulator]", '[supervisor.ring_capacity]\n"feed.market.book" = 1000\n[simulator]',
         r"1000, expected a power of two"),
        (DEMO, "[simulator]", '[supervisor.ring_capacity]\n"feed.x.book" = 1024\n[simulator]',
         r"ring_capacity.feed.x.book: expected one of"),
        (DEMO, "total_bytes_max", "rings = ['rest.session.gateway']\ntotal_bytes_max",
         r"recorder.rings: 'rest.session.gateway', expected some of \['book.book"),
        (DEMO, "total_bytes_max = 4_000_000_000", "", r"missing required field `total_bytes_max`"),
        (TESTNET, 'mode = "live"', 'mode = "paper"', r"\[simulator\] is missing"),
        (TESTNET, "https://demo", "http://demo", r"venue.rest_url is 'http://.* expected https"),
        (TESTNET, "wss://testnet", "ws://testnet", r"venue.ws_api_url is 'ws://"),
        (TESTNET, 'api_key_file = "~/.config/tickring/binance-testnet.key"', "",
         r"venue.api_key_file is empty"),
        (DEMO, 'instance = "demo"', 'instance = "demo', r"setup.toml: "),
    ],
)  # fmt: skip
def test_each_mistake_is_told_with_its_path(write, text, old, new, found):
    assert old in text
    with pytest.raises(ConfigError, match=found) as caught:
        load_config(write(text.replace(old, new, 1)))
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_missing_instruments_file(write, tmp_path):
    with pytest.raises(ConfigError, match=r"nothing\.toml: no such file"):
        load_config(tmp_path / "nothing.toml")
    path = write(DEMO)
    (tmp_path / "instruments.toml").unlink()
    with pytest.raises(ConfigError, match=r"instruments\.toml: no such file"):
        load_config(path)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_key_files_that_others_can_read_are_refused(write, tmp_path, mode):
    text = TESTNET.replace("~/.config/tickring/", "")
    for name in ("binance-testnet.key", "binance-testnet.secret"):
        (tmp_path / name).write_text("canary")
        (tmp_path / name).chmod(0o600)
    assert load_config(write(text)).notes == []
    (tmp_path / "binance-testnet.secret").chmod(mode)
    with pytest.raises(ConfigError, match=f"mode is {mode:04o}, expected 0600") as caught:
        load_config(write(text))
    assert "canary" not in str(caught.value)


def test_key_files_must_be_small_regular_files(write, tmp_path):
    text = TESTNET.replace("~/.config/tickring/", "")
    key = tmp_path / "binance-testnet.key"
    key.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="not a regular file"):
        load_config(write(text))
    key.unlink()
    key.write_text("")
    key.chmod(0o600)
    with pytest.raises(ConfigError, match="0 bytes, expected 1 to"):
        load_config(write(text))

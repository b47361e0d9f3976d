"""Building both stages from a context: what is read, what is refused."""

from types import SimpleNamespace

import pytest

from common import clock
from common.errors import ConfigError
from processes.gateway import app as gateway_app
from processes.gateway.config import GatewayConfig
from processes.rest import app as rest_app
from processes.rest.config import RestConfig
from processes.wiring import RINGS
from shm.counters import anonymous_counters
from shm.latch import anonymous_latch
from shm.ring import anonymous_ring


class FakeContext:
    """Private rings of the wiring, for one process."""

    def __init__(self, name, instrument, folder, **venue):
        self.name = name
        self.instance = "no-such-instance"
        self.instruments = [instrument]
        self.kill_words = anonymous_latch().words
        for key in ("api", "secret"):
            (folder / key).write_text(f"{key}123\n")
            (folder / key).chmod(0o600)
        facts = {
            "rest_url": "http://127.0.0.1:9",
            "private_url": "ws://127.0.0.1:9/private",
            "ws_api_url": "ws://127.0.0.1:9/ws-fapi/v1",
            "ca_file": "",
            "api_key_file": str(folder / "api"),
            "secret_key_file": str(folder / "secret"),
        }
        self.config = SimpleNamespace(
            venue=SimpleNamespace(**(facts | venue)),
            gateway=GatewayConfig(stp_mode="EXPIRE_BOTH"),
            rest=RestConfig(),
        )

    def ring(self, producer, record, consumer):
        (spec,) = [
            s
            for s in RINGS
            if (s.producer, s.record, s.consumer) == (*producer, *record, *consumer)
        ]
        return anonymous_ring(spec.layout, 4)

    def producer(self, record, consumer):
        return self.ring([self.name], [record], [consumer])[0]

    def consumer(self, producer, record):
        return self.ring([producer], [record], [self.name])[1]

    def counters(self, labels, histograms):
        return anonymous_counters(labels, histograms)


@pytest.fixture(params=["gateway", "rest"])
def make(request, kit, tmp_path):
    """A function that builds one of the two stages."""
    build = {"gateway": gateway_app.build, "rest": rest_app.build}[request.param]
    made = []

    def make_one(**venue):
        context = FakeContext(request.param, kit.BTC, tmp_path, **venue)
        made.append(build(context))
        return made[-1]

    yield make_one
    for stage in made:
        stage.close()


def test_a_stage_is_built_from_the_wiring(make):
    stage = make()
    assert not stage.is_ready()
    stage.do_work(clock.now_ns())
    assert len(stage.consumers) in (2, 3)


@pytest.mark.parametrize("field", ["api_key_file", "secret_key_file"])
def test_a_key_file_that_others_can_read_is_refused(make, tmp_path, field):
    loose = tmp_path / "loose"
    loose.write_text("key123")
    loose.chmod(0o640)
    with pytest.raises(ConfigError, match="expected 0600"):
        make(**{field: str(loose)})


def test_a_ca_file_that_is_not_there_is_refused(make, tmp_path):
    with pytest.raises(ConfigError):
        make(ca_file=str(tmp_path / "absent.pem"))


@pytest.mark.parametrize("url", ["", "127.0.0.1:9", "http://127.0.0.1:9", "wss//x"])
def test_a_private_url_that_is_none_is_refused_at_once(kit, tmp_path, url):
    context = FakeContext("gateway", kit.BTC, tmp_path, private_url=url)
    with pytest.raises(ConfigError):
        gateway_app.build(context)


def test_the_stp_mode_is_one_for_both(kit, tmp_path):
    stages = [
        build(FakeContext(name, kit.BTC, tmp_path))
        for name, build in (("gateway", gateway_app.build), ("rest", rest_app.build))
    ]
    assert stages[0].orders.encoder.stp_mode == stages[1].protocol.desk.stp_mode == "EXPIRE_BOTH"
    for stage in stages:
        stage.close()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"reconnect_ms_min": 500, "reconnect_ms_max": 400}, "reconnect_ms_max is 400"),
        ({"ping_every_ms": 20_000}, "idle_ms_max is 15000"),
    ],
)
def test_times_that_contradict_each_other_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        GatewayConfig(**values)

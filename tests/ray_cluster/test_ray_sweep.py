"""A sweep on a real Ray cluster of two nodes; `make test-ray`, in an environment with Ray.

`make test` does not collect this folder: Ray is an optional extra.
"""

import warnings

import pytest

from processes.study.plan import plan_of
from processes.study.results_file import FILE_NAME
from processes.study.subject import BACKTESTER
from processes.study.sweep import RANKING_NAME, engine_of, run_sweep

from tests.processes.study.fake_engine import DEADLY, MAKE_FAKE, write_market
from tests.processes.study.made_events import write_events, write_setup

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own


@pytest.fixture(scope="module")
def ray():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ray

    return ray


@pytest.fixture(scope="module")
def address(ray):
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster.address
    cluster.shutdown()


def swept(plan, subject, folder, engine, address=""):
    return run_sweep(plan, subject, folder, engine_of(engine, subject, address), False)


def test_two_nodes_give_the_bytes_of_one_machine(ray, address, tmp_path):
    config, events = write_setup(tmp_path), write_events(tmp_path / "events.npz")
    grid = ["interval_ns=100_000_000,250_000_000,1_000_000_000", "qty_steps=2,5,10"]
    plan = plan_of(config, [events], grid, "pnl", 2)
    assert swept(plan, BACKTESTER, tmp_path / "local", "local") == 0
    assert swept(plan, BACKTESTER, tmp_path / "ray", "ray", address) == 0
    ray.init(address=address)
    assert len([node for node in ray.nodes() if node["Alive"]]) == 2
    ray.shutdown()
    for name in (FILE_NAME, RANKING_NAME):
        local, spread = ((tmp_path / out / name).read_bytes() for out in ("local", "ray"))
        assert sorted(local.splitlines()) == sorted(spread.splitlines())
    assert (tmp_path / "local" / RANKING_NAME).read_bytes() == (
        tmp_path / "ray" / RANKING_NAME
    ).read_bytes()


def test_failures_on_the_cluster_are_told(address, tmp_path, capsys):
    (tmp_path / "c.toml").write_text("")
    market = write_market(tmp_path / "market")
    plan = plan_of(tmp_path / "c.toml", [market], [f"edge=1,{DEADLY},x,2"], "pnl", 2)
    assert swept(plan, MAKE_FAKE, tmp_path / "out", "ray", address) == 1
    told = capsys.readouterr().err
    assert f"failed: edge={DEADLY}: its process ended" in told
    assert "failed: edge=x: " in told and "expected an integer" in told


def test_a_node_with_other_files_is_refused(ray, address, tmp_path, capsys):
    """The data change between the driver's look and the workers'."""
    (tmp_path / "c.toml").write_text("")
    market = write_market(tmp_path / "market")
    plan = plan_of(tmp_path / "c.toml", [market], ["edge=1"], "pnl", 1)
    engine = engine_of("ray", MAKE_FAKE, address)

    def late(*arguments):
        write_market(market, seed=2)
        return engine(*arguments)

    assert run_sweep(plan, MAKE_FAKE, tmp_path / "out", late, False) == 1
    assert "the same files on every node" in capsys.readouterr().err

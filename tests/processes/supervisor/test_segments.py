"""What the supervisor sees of its segments' files."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from processes.supervisor.config import SupervisorConfig
from processes.supervisor.segments import AUDIT_NS, Pages
from processes.supervisor.setup import Setup
from processes.wiring import Plan, ProcessSpec, RingSpec, TableSpec
from shm import segment

from tests.support import unique_instance

PLAN = Plan(
    (ProcessSpec("a", "nowhere:A", "market", False), ProcessSpec("b", "nowhere:B", "order", True)),
    (RingSpec("a", "market", "b", "MARKET", "drop", 1_024),),
    (TableSpec("b", "bbo", "BBO_CELL", 4),),
)


@pytest.fixture
def pages(tmp_path: Path) -> Iterator[Pages]:
    setup = Setup(
        instance=unique_instance(),
        config={},
        state_dir=tmp_path,
        instruments=[],
        plan=PLAN,
        settings=SupervisorConfig(),
    )
    made = Pages(setup)
    yield made
    made.close(keep=False)


@pytest.mark.parametrize("what", ["a.market.b", "b.bbo", "kill", "phase", "peers", "registry"])
def test_a_file_that_is_not_what_it_was_is_named(pages: Pages, what: str) -> None:
    name = f"tickring.{pages.setup.instance}.{what}"
    path, now_ns = segment.path_of(name), 10 * AUDIT_NS
    size = path.stat().st_size
    assert pages.audit(now_ns) == ""
    with path.open("r+b") as file:
        file.seek(8 * segment.Header.CAPACITY)
        file.write(b"\xff")
    assert pages.audit(now_ns + 1) == ""  # headers are not read in every tick
    assert pages.audit(now_ns + AUDIT_NS) == f"{name}: header has changed, expected it never to"
    os.truncate(path, size - 1)
    assert pages.audit(now_ns) == f"{name}: {size - 1} bytes, expected {size}"
    path.unlink()
    assert pages.audit(now_ns) == f"{name}: gone, expected {size} bytes"

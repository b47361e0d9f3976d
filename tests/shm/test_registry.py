"""Instances: a live one is left alone, a stale one is cleaned, names cannot escape."""

import os
import signal

import pytest

from common.errors import SegmentError, UnavailableError
from shm import registry, segment
from shm.doorbell import Doorbell
from shm.registry import Registry
from shm.ring import create_ring
from shm.segment import RoleTaken

from tests.shm.children import fork, kill, shared_words
from tests.support import wait_until


def test_names_say_who_talks_to_whom():
    assert registry.ring_name("demo", "feed", "market", "book") == "tickring.demo.feed.market.book"
    assert registry.segment_name("demo", "risk", "orders") == "tickring.demo.risk.orders"
    assert registry.bell_name("demo", "risk") == "tickring.demo.risk.bell"
    assert registry.instance_name("demo", "kill") == "tickring.demo.kill"


@pytest.mark.parametrize("part", ["", "a.b", "../x", "A", "a/b", "a" * 49, "a\n"])
def test_names_cannot_escape(part):
    with pytest.raises(SegmentError, match="expected 1 to 48 of"):
        registry.ring_name("demo", "feed", part, "book")
    with pytest.raises(SegmentError):
        registry.clean(part)


def test_live_instance_is_refused_and_stale_one_replaced(instance):
    manifest = {"symbols": ["BTCUSDT"], "boot": "x"}
    held = Registry.create(instance, manifest)
    ring = registry.ring_name(instance, "a", "b", "c")
    create_ring(ring, "MARKET", 8)
    assert registry.is_live(instance)
    assert registry.read_manifest(instance) == manifest
    assert registry.segments(instance) == sorted([ring, f"tickring.{instance}.registry"])
    assert instance in registry.instances()
    for attempt in (registry.clean, lambda name: Registry.create(name, {})):
        with pytest.raises(RoleTaken, match=f"writer is held by pid {os.getpid()}"):
            attempt(instance)
    assert segment.exists(ring)
    held.close()
    assert not registry.is_live(instance)
    assert registry.read_manifest(instance) == manifest  # tools read a dead run too
    held = Registry.create(instance, {"run": 2})
    assert not segment.exists(ring)
    assert registry.read_manifest(instance) == {"run": 2}
    held.close()


def test_killed_supervisor_leaves_a_stale_instance(instance):
    ready = shared_words(1)

    def supervise():
        Registry.create(instance, {})
        Doorbell.create(registry.bell_name(instance, "a"))
        ready[0] = 1
        signal.pause()

    child = fork(supervise)
    wait_until(lambda: ready[0] == 1, "child is supervisor")
    assert registry.is_live(instance)
    kill(child)
    assert not registry.is_live(instance)
    assert registry.clean(instance) == [
        f"tickring.{instance}.a.bell",
        f"tickring.{instance}.registry",
    ]
    assert registry.segments(instance) == []
    assert instance not in registry.instances()


def test_segments_of_an_instance_with_a_longer_name_are_not_touched(instance):
    longer = registry.ring_name(instance + "-2", "a", "b", "c")
    create_ring(longer, "MARKET", 8)
    create_ring(registry.ring_name(instance, "a", "b", "c"), "MARKET", 8)
    try:
        assert len(registry.clean(instance)) == 1
        assert segment.exists(longer)
    finally:
        registry.clean(instance + "-2")


def test_unreadable_registry_can_be_cleaned(instance):
    path = segment.path_of(registry.instance_name(instance, "registry"))
    path.write_bytes(b"garbage")
    path.chmod(0o600)
    assert not registry.is_live(instance)
    with pytest.raises(SegmentError):
        registry.read_manifest(instance)
    assert registry.clean(instance) == [path.name]


def test_live_instance_is_left_alone_even_if_its_registry_is_unreadable(instance):
    """Another version of the program may run it: the lock counts, not the content."""
    held = Registry.create(instance, {})
    path = segment.path_of(registry.instance_name(instance, "registry"))
    with open(path, "r+b") as file:
        file.write(b"\0" * 64)
    assert registry.is_live(instance)
    with pytest.raises(RoleTaken, match=f"held by pid {os.getpid()}"):
        registry.clean(instance)
    held.close()
    assert registry.clean(instance) == [path.name]


def test_missing_instance(instance):
    with pytest.raises(UnavailableError, match="no such segment; is the instance up?"):
        registry.read_manifest(instance)
    assert registry.clean(instance) == []

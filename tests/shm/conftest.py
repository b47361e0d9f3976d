"""What the tests of shm share: an instance of their own that leaves nothing in /dev/shm."""

import pytest

from shm import registry

from tests.support import unique_instance


@pytest.fixture
def instance():
    name = unique_instance()
    yield name
    registry.clean(name)

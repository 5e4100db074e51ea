"""One world for all cells of the matrix."""

from collections.abc import Iterator

import pytest
import trio

from tests.matrix.world import World, open_world
from tests.support.deployment import Deployment


@pytest.fixture(scope="session")
def world(shared_processes: Deployment) -> Iterator[World]:
    """The matrix' people and rooms; what all cells have left behind is checked at the end."""
    yield trio.run(open_world, shared_processes)
    trio.run(shared_processes.check_rooms)

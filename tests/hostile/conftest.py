"""What is attacked in the suite: a broker with short times beside the shared deployment."""

from __future__ import annotations

import uuid
from functools import partial

import pytest
import trio

from tests.hostile.target import Target
from tests.support.deployment import Deployment
from tests.support.processes import ServerProcess
from workers.embedded.ports import free_port

LARGE_MESSAGES = 30


@pytest.fixture(scope="session")
def metrics_port() -> int:
    """Where the hostile broker's metrics are."""
    return free_port()


@pytest.fixture(scope="session")
def hostile_broker(shared_processes: Deployment, metrics_port: int) -> ServerProcess:
    """A further broker of the shared deployment, with short times, and rates that a flood on a busy
    machine is still above."""
    start = partial(
        shared_processes.processes.start_broker,
        RATE_MESSAGES_PER_SECOND="6",
        METRICS_PORT=str(metrics_port),
        AUTH_TIMEOUT="1s",
        PING_INTERVAL="1s",
        PONG_TIMEOUT="1s",
    )
    return trio.run(start)


@pytest.fixture(scope="session")
def target(
    shared_processes: Deployment, hostile_broker: ServerProcess, metrics_port: int
) -> Target:
    """The broker and the api, and a room with a megabyte of messages for mallory."""
    assert shared_processes.api is not None
    room = f"noise-{uuid.uuid4().hex[:8]}"

    async def fill() -> None:
        await shared_processes.create_room(room, "mallory")
        for _ in range(LARGE_MESSAGES):
            await shared_processes.post(room, "x" * 30_000, "mallory")

    trio.run(fill)
    return Target(
        broker_url=hostile_broker.url,
        broker_pid=hostile_broker.pid,
        api_url=shared_processes.api.base_url,
        api_pid=shared_processes.api.pid,
        room=room,
        metrics_port=metrics_port,
    )


@pytest.fixture
async def calm_room(shared: Deployment) -> str:
    """A room of alice and bob, whom nobody attacks."""
    room = f"calm-{uuid.uuid4().hex[:8]}"
    await shared.create_room(room, "alice", "bob")
    return room

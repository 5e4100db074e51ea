"""Deployments for integration tests: one that is shared, and fresh ones to be broken.

The shared one serves every test that breaks nothing; such tests take room and user names of their
own from `name`. Its invariants are checked after each of them.
"""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import pytest
import trio

from tests.support.deployment import Deployment, start_deployment
from tests.support.processes import Processes, ServerProcess
from tests.support.servers import PostgresServer, RedisServer
from tests.support.tokens import make_token

Start = Callable[..., Awaitable[Deployment]]


@pytest.fixture
def name() -> Callable[[str], str]:
    """Makes names that no other test has."""
    suffix = uuid.uuid4().hex[:8]
    return lambda prefix: f"{prefix}-{suffix}"


@pytest.fixture(scope="session")
def shared_processes(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer
) -> Iterator[Deployment]:
    """Two brokers, an api and an archiver that no test stops, pauses or starves."""
    folder = tmp_path_factory.mktemp("shared")
    redis = RedisServer(folder / "redis")
    redis.start()
    database_url = postgres_server.create_database()
    processes = Processes(folder / "processes", {})
    try:
        yield trio.run(partial(start_deployment, processes, redis, database_url))
    finally:
        processes.kill_all()
        redis.stop()
        postgres_server.drop_database(database_url)


@pytest.fixture
async def shared(shared_processes: Deployment) -> AsyncIterator[Deployment]:
    """The shared deployment; what it stores is checked at the end of the test."""
    yield shared_processes
    await shared_processes.check_rooms()


@pytest.fixture(scope="session")
def strict_broker(shared_processes: Deployment) -> ServerProcess:
    """A third broker of the shared deployment, with narrow limits and its own demands on tokens.

    It takes tokens of the issuer ``tests`` for the audience ``chat`` (see `strict_token`).
    """
    start = partial(
        shared_processes.processes.start_broker,
        AUTH_TIMEOUT="1s",
        JWT_AUDIENCE="chat",
        JWT_ISSUER="tests",
        MAX_SUBSCRIPTIONS="3",
        RATE_MESSAGES_PER_SECOND="10",
    )
    return trio.run(start)


@pytest.fixture
def start(processes: Processes, redis_server: RedisServer, database_url: str) -> Start:
    """Starts a fresh deployment on the run's own servers (see `start_deployment`)."""
    return partial(start_deployment, processes, redis_server, database_url)


@pytest.fixture
def start_private(
    processes: Processes, private_redis: RedisServer, private_postgres: PostgresServer
) -> Start:
    """Starts a fresh deployment on servers that the test may stop, pause and empty."""

    async def start_on_them(**options: Any) -> Deployment:
        url = private_postgres.create_database()
        return await start_deployment(processes, private_redis, url, **options)

    return start_on_them


def strict_token(user: str, **claims: Any) -> str:
    """A token that the strict broker takes, unless `claims` spoil it."""
    return make_token(user, **({"aud": "chat", "iss": "tests"} | claims))

"""Deployments for integration tests beside the shared one: narrow brokers, fresh ones to break."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio

from tests.support.deployment import Deployment, start_deployment
from tests.support.processes import Processes, ServerProcess
from tests.support.servers import PostgresServer, RedisServer
from tests.support.tokens import make_token

Start = Callable[..., Awaitable[Deployment]]


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

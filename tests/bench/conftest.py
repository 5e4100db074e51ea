"""A small system without an archiver, seen as `parley bench` sees a private one."""

from collections.abc import Iterator
from functools import partial

import pytest
import trio

from bench import scenarios
from bench.rest import Api
from bench.stage import Stage, StageOptions
from tests.support.deployment import start_deployment
from tests.support.processes import Processes
from tests.support.servers import PostgresServer, RedisServer
from tests.support.tokens import JWT_SECRET, make_token


@pytest.fixture(scope="session")
def bench_system(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer
) -> Iterator[dict[str, str]]:
    """The variables of a broker, an api and their servers."""
    folder = tmp_path_factory.mktemp("bench")
    redis = RedisServer(folder / "redis")
    redis.start()
    database_url = postgres_server.create_database()
    processes = Processes(folder / "processes", {"RATE_MESSAGES_PER_SECOND": "1000000"})
    try:
        start = partial(start_deployment, brokers=1, archiver=False)
        deployment = trio.run(partial(start, processes, redis, database_url))
        assert deployment.api is not None
        yield {
            "BROKER_URL": deployment.brokers[0].url,
            "API_URL": deployment.api.base_url,
            "API_KEY": deployment.key,
            "ALICE_TOKEN": make_token("alice"),
            "JWT_SECRET": JWT_SECRET,
            "REDIS_URL": redis.url,
            "DATABASE_URL": database_url,
            "SYSTEM_PROCESS": str(deployment.brokers[0].pid),
        }
    finally:
        processes.kill_all()
        redis.stop()
        postgres_server.drop_database(database_url)


@pytest.fixture
def stage(bench_system: dict[str, str]) -> Iterator[Stage]:
    """A run of its own in that system."""
    api = Api(bench_system["API_URL"], bench_system["API_KEY"])
    yield Stage(
        run=scenarios.run_name(),
        options=StageOptions(),
        system=bench_system,
        is_private=True,
        api=api,
        say=lambda _: None,
    )
    api.close()

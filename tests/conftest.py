"""Fixtures that every package's tests share: real servers and real processes.

One Redis and one PostgreSQL serve the whole run; each test gets an emptied Redis and a database
of its own. Tests that stop, kill or pause a server take a private one.
"""

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.processes import Processes
from tests.support.servers import PostgresServer, RedisServer
from workers.embedded import ports


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The Redis of the run. Leave it running; for faults take `private_redis`."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The URL of an empty Redis."""
    redis_server.flush()
    return redis_server.url


@pytest.fixture
def private_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis for this test alone, to be stopped, killed, paused, emptied."""
    server = RedisServer(tmp_path / "redis")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """The PostgreSQL of the run. Leave it running; for faults take `private_postgres`."""
    folder = tmp_path_factory.mktemp("postgres")
    server = PostgresServer(folder, ahead=True)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture
def database_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of a fresh database with the newest schema."""
    url = postgres_server.create_database()
    yield url
    postgres_server.drop_database(url)


@pytest.fixture
def private_postgres(tmp_path: Path) -> Iterator[PostgresServer]:
    """A PostgreSQL for this test alone; `create_database()` gives a migrated database."""
    server = PostgresServer(tmp_path / "postgres")
    server.start()
    yield server
    server.stop()
    shutil.rmtree(tmp_path / "postgres")


@pytest.fixture
def free_port() -> int:
    """A TCP port that nobody listens on."""
    return ports.free_port()


@pytest.fixture
async def processes(tmp_path: Path, redis_url: str, database_url: str) -> AsyncIterator[Processes]:
    """Real `parley` processes on the run's servers; whatever still runs at the end is killed.

    `processes.env` may be changed before a start, for other servers or settings.
    """
    started = Processes(
        tmp_path / "processes", {"REDIS_URL": redis_url, "DATABASE_URL": database_url}
    )
    yield started
    started.kill_all()

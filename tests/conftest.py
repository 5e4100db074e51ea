"""Fixtures that every package's tests share: real servers and real processes.

One Redis and one PostgreSQL serve the whole run; each test gets an emptied Redis and a database
of its own. Tests that stop, kill or pause a server take a private one.

A shared deployment, with servers of its own, serves every test that breaks nothing; such tests take
room and user names of their own from `name`. Its invariants are checked after each of them.
"""

import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.support.deployment import Deployment, start_deployment
from tests.support.processes import Processes, ServerProcess
from tests.support.servers import PostgresServer, RedisServer
from workers.embedded import ports

NAMED_ONLY = {("tests", "page"), ("tests", "deploy")}
MEMORY = Path("/dev/shm")
MEMORY_NEEDED = 4 * 1024**3


def pytest_configure() -> None:
    """Temporary folders are in memory where there is plenty: to make the files of a database takes
    ten times as long on a disk. TMPDIR decides otherwise."""
    if "TMPDIR" not in os.environ and _has_memory_for_files():
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None  # it was asked for before


def _has_memory_for_files() -> bool:
    if not os.access(MEMORY, os.W_OK | os.X_OK):
        return False
    status = os.statvfs(MEMORY)
    is_executable = not status.f_flag & os.ST_NOEXEC
    return is_executable and status.f_bavail * status.f_frsize >= MEMORY_NEEDED


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """What needs programs of others runs when it is named: the tests of the page (a browser;
    `make test-page`), those of deploy/ (haproxy, nginx, promtool; `make test-deploy`)."""
    folder = collection_path.parts[-2:]
    named = {Path(name.partition("::")[0]).parts[:2] for name in config.args}
    return True if folder in NAMED_ONLY and folder not in named else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow ones come first, so that no worker is left alone with one in the end; among
    themselves, and the others after them, they stay in the order that chance has given them."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


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
def postgres_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The files of a PostgreSQL that has the newest schema; every other one is a copy."""
    folder = tmp_path_factory.mktemp("postgres-files")
    PostgresServer.make_files(folder)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres_server(
    tmp_path_factory: pytest.TempPathFactory, postgres_files: Path
) -> Iterator[PostgresServer]:
    """The PostgreSQL of the run. Leave it running; for faults take `private_postgres`."""
    folder = tmp_path_factory.getbasetemp() / "postgres"
    server = PostgresServer.copy(postgres_files, folder, ahead=True)
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
def private_postgres(tmp_path: Path, postgres_files: Path) -> Iterator[PostgresServer]:
    """A PostgreSQL for this test alone; `create_database()` gives a migrated database."""
    server = PostgresServer.copy(postgres_files, tmp_path / "postgres")
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
    # Nobody needs more rights than those in deploy/: each test that uses this proves it.
    rights: dict[str, Any] = {
        "REDIS_URL": redis.add_user(),
        "DATABASE_URL": postgres_server.restrict(database_url),
    }
    try:
        yield trio.run(partial(start_deployment, processes, redis, database_url, **rights))
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
def second_api(shared_processes: Deployment) -> ServerProcess:
    """A further api of the shared deployment, for what two of them do at once."""
    return trio.run(shared_processes.processes.start_api)

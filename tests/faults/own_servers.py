"""A Redis, a PostgreSQL and processes for a command that is run by hand."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import Processes
from tests.support.servers import PostgresServer, RedisServer


@contextmanager
def own_servers() -> Iterator[tuple[RedisServer, PostgresServer, Processes]]:
    """Started in a temporary folder, and gone with it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        redis, postgres = RedisServer(folder / "redis"), PostgresServer(folder / "postgres")
        processes = Processes(folder / "processes", {})
        redis.start()
        postgres.start()
        try:
            yield redis, postgres, processes
        finally:
            processes.kill_all()
            redis.stop()
            postgres.stop()

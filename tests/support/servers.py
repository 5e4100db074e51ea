"""Real Redis and PostgreSQL servers for tests, with what a test may want to do to them.

All methods are synchronous and quick (tens of milliseconds), so they may be called from trio
tests too. Servers end with the test process, whatever happens to it.
"""

import asyncio
import contextlib
import signal
import socket
import subprocess
import threading
import uuid
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import asyncpg
import psutil
from redis.exceptions import ResponseError

from workers.embedded.ports import LOOPBACK
from workers.embedded.postgres import EmbeddedPostgres
from workers.embedded.redis import EmbeddedRedis

TEMPLATE = "parley_template"
DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
# The login that is made of the role in `deploy/postgres-roles.sql`.
SERVICE = "parley_app"
# Of those who have no more rights than they need, on servers that only this machine reaches.
_PASSWORD = "a-password-of-the-tests"


class RedisServer:
    """An embedded Redis. `url` stays the same over restarts."""

    def __init__(self, folder: Path) -> None:
        self._server = EmbeddedRedis(folder)

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def port(self) -> int:
        return self._server.port

    @property
    def pid(self) -> int:
        return self._server.process.pid

    @property
    def folder(self) -> Path:
        return self._server.folder

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        """SIGTERM: data is synced. Nothing happens if it is down."""
        self._server.stop()

    def kill(self) -> None:
        """kill -9."""
        self._server.kill()

    def restart(self) -> None:
        """Stop and start on the same port with the same data."""
        self.stop()
        self.start()

    def lose_data(self) -> None:
        """kill -9, and start empty: a new server (new replication id) at the old address."""
        self.kill()
        (self._server.folder / "appendonly.aof").unlink(missing_ok=True)
        self.start()

    def pause(self) -> None:
        """SIGSTOP: the kernel still accepts connections and bytes, nothing answers."""
        self._server.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._server.process.send_signal(signal.SIGCONT)

    def flush(self) -> None:
        """FLUSHALL."""
        self.command("FLUSHALL")

    def command(self, *words: str | int | bytes) -> Any:
        """Run one command on a connection of its own; bytes, int, None or a list.

        Raises redis.exceptions.ResponseError for an error reply.
        """
        return run_command(self.port, *words)

    def add_user(self, name: str = "parley") -> str:
        """Make the user as `deploy/redis-users.acl` has it; returns the URL with which it comes."""
        lines = (DEPLOY / "redis-users.acl").read_text(encoding="utf-8").splitlines()
        (rules,) = (line.split()[2:] for line in lines if line.split()[1] == name)
        self.command("ACL", "SETUSER", name, "reset", *rules, f">{_PASSWORD}")
        return self.url.replace("redis://", f"redis://{name}:{_PASSWORD}@")


def run_command(port: int, *words: str | int | bytes) -> Any:
    """Run one command on a connection of its own to whatever speaks Redis on a port."""
    encoded = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    packed = b"*%d\r\n" % len(encoded)
    packed += b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded)
    with socket.create_connection((LOOPBACK, port), timeout=10) as connection:
        connection.sendall(packed)
        with connection.makefile("rb") as reader:
            return _read_reply(reader.readline, reader.read)


def _read_reply(read_line: Callable[[], bytes], read: Callable[[int], bytes]) -> Any:
    line = read_line()
    if not line:
        raise ConnectionResetError("the server closed the connection without an answer")
    kind, rest = line[:1], line[1:-2]
    if kind == b"+":
        return rest
    if kind == b"-":
        raise ResponseError(rest.decode())
    if kind == b":":
        return int(rest)
    if kind == b"$":
        return None if int(rest) < 0 else read(int(rest) + 2)[:-2]
    if kind == b"*":
        return None if int(rest) < 0 else [_read_reply(read_line, read) for _ in range(int(rest))]
    raise AssertionError(f"no reply: {line!r}")


class PostgresServer:
    """An embedded PostgreSQL (fsync off). `url` stays the same over restarts.

    Making a database takes longer than many a test. With `ahead` the next one is made, and used
    ones are dropped, in the background while a test runs.
    """

    def __init__(self, folder: Path, *, ahead: bool = False, has_template: bool = False) -> None:
        self._server = EmbeddedPostgres(folder, durable=False)
        self._has_template = has_template
        self._background = ThreadPoolExecutor(1, "test-databases") if ahead else None
        self._next: Future[str] | None = None

    @classmethod
    def copy(cls, made: Path, folder: Path, *, ahead: bool = False) -> Self:
        """A server whose files are those that `make_files` has made."""
        subprocess.run(["cp", "-a", made, folder], check=True)
        return cls(folder, ahead=ahead, has_template=True)

    @classmethod
    def make_files(cls, folder: Path) -> None:
        """The files of a server that has the template, to be copied: it takes seconds to make."""
        server = cls(folder)
        server.start()
        server._make_template()
        server.stop()

    @property
    def url(self) -> str:
        """The address of the server's own, empty database."""
        return self._server.url

    @property
    def port(self) -> int:
        return self._server.port

    @property
    def pid(self) -> int:
        return self._server.process.pid

    @property
    def log(self) -> Path:
        """What the server has written."""
        return self._server.folder / "postgres.log"

    def url_of(self, database: str) -> str:
        return self._server.url_of(database)

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        """Fast shutdown; paused processes are resumed for it. Nothing happens if it is down."""
        if self._background is not None:
            self._background.shutdown()
        if self._server.is_running():
            self.resume()
        self._server.stop()

    def kill(self) -> None:
        """kill -9 of the postmaster."""
        self._server.kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> None:
        """SIGSTOP of the postmaster, then of all of its processes."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal_all(signal.SIGCONT)

    def create_database(self) -> str:
        """A fresh, migrated database; returns its URL."""
        if self._background is None:
            return self._copy_template()
        following = self._next or self._background.submit(self._copy_template)
        self._next = None
        url = following.result()
        self._next = self._background.submit(self._copy_template)
        return url

    def create_empty(self) -> str:
        """A database without any table; returns its URL."""
        name = f"t_{uuid.uuid4().hex}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url_of(name)

    def drop_database(self, url: str) -> None:
        """Drop it, cutting off whoever is still connected."""
        statement = f"DROP DATABASE IF EXISTS {url.rpartition('/')[2]} WITH (FORCE)"
        if self._background is None:
            self.execute(statement)
        else:
            self._background.submit(self.execute, statement)

    def restrict(self, url: str) -> str:
        """Set rights in a database by `deploy/postgres-roles.sql`; the URL of who has no others."""
        roles = (DEPLOY / "postgres-roles.sql").read_text(encoding="utf-8")
        login = f"""
            DO $$ BEGIN
                IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{SERVICE}') THEN
                    CREATE ROLE {SERVICE} LOGIN PASSWORD '{_PASSWORD}' IN ROLE parley_service;
                END IF;
            END $$
        """
        run_sql(url, lambda connection: connection.execute(f"{roles};{login}"))
        return url.replace(url.split("//")[1].split("@")[0], f"{SERVICE}:{_PASSWORD}")

    def execute(self, statement: str, *arguments: Any) -> None:
        """Run a statement on the server's own database."""
        run_sql(self.url, lambda connection: connection.execute(statement, *arguments))

    def _copy_template(self) -> str:
        self._make_template()
        name = f"t_{uuid.uuid4().hex}"
        # Files are copied as they are; to write them to the log costs three times as much.
        self.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY FILE_COPY")
        return self.url_of(name)

    def _make_template(self) -> None:
        if self._has_template:
            return
        from storage.postgres.migrate import migrate

        self.execute(f"CREATE DATABASE {TEMPLATE}")
        migrate(self.url_of(TEMPLATE))
        self._has_template = True

    def _signal_all(self, number: signal.Signals) -> None:
        # The postmaster first: it makes no more processes once it is stopped.
        self._server.process.send_signal(number)
        for process in psutil.Process(self.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # workers come and go
                process.send_signal(number)


def run_sql(url: str, work: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
    """Run `work(connection)` on a connection of its own to the database at `url`."""

    async def connect_and_work() -> Any:
        connection = await asyncpg.connect(url, timeout=10)
        try:
            return await work(connection)
        finally:
            # A server that is stopped meanwhile says no good-bye: the connection is aborted then.
            with contextlib.suppress(TimeoutError):
                await connection.close(timeout=5)

    return _in_asyncio(connect_and_work)


def fetch(url: str, query: str, *arguments: Any) -> list[dict[str, Any]]:
    """The rows of a query, as dictionaries."""
    rows = run_sql(url, lambda connection: connection.fetch(query, *arguments))
    return [dict(row) for row in rows]


def _in_asyncio(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run asyncio code in a thread of its own: the caller may be inside trio."""
    outcome: dict[str, Any] = {}

    def run() -> None:
        try:
            outcome["value"] = asyncio.run(work())
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=run, name="test-sql")
    thread.start()
    thread.join()
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]

"""The embedded Redis and PostgreSQL of `parley up`: started, kept running, stopped.

A server whose address is configured is not started. One that dies is started again on the same
port with its data, so that brokers and workers find it where it was.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

import trio

from workers.embedded.folder import keep_secret
from workers.embedded.guarded import GuardedProcess, StartError
from workers.embedded.postgres import EmbeddedPostgres
from workers.embedded.redis import EmbeddedRedis
from workers.supervisor.console import Console

_RESTART_PAUSE_MIN = 0.2
_RESTART_PAUSE_MAX = 10.0


class Server(Protocol):
    """What EmbeddedRedis and EmbeddedPostgres have in common."""

    @property
    def url(self) -> str: ...
    @property
    def process(self) -> GuardedProcess: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def forget_ended(self) -> int: ...


@asynccontextmanager
async def open_servers(
    folder: Path, redis_url: str, database_url: str, console: Console
) -> AsyncIterator[tuple[str, str]]:
    """Yield the URLs of Redis and PostgreSQL: the given ones, or those of embedded servers.

    Raises StartError. Leaving stops the servers cleanly, PostgreSQL last.
    """
    redis: EmbeddedRedis | None = None
    postgres: EmbeddedPostgres | None = None
    servers: dict[str, Server] = {}
    if not database_url:
        postgres = EmbeddedPostgres(folder / "postgres")
        servers["postgres"] = postgres
    if not redis_url:
        redis = EmbeddedRedis(folder / "redis", password=keep_secret(folder / "redis_password"))
        servers["redis"] = redis
    for name in servers:
        console.say(f"starting {name} (data in {folder / name}/)")
    try:
        await _start_all(list(servers.values()))
        async with trio.open_nursery() as nursery:
            for name, server in servers.items():
                nursery.start_soon(_keep_running, name, server, console)
            yield redis.url if redis else redis_url, postgres.url if postgres else database_url
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            for server in reversed(servers.values()):
                await trio.to_thread.run_sync(server.stop)


async def _start_all(servers: list[Server]) -> None:
    """Start them side by side; the first failure is raised, as itself."""
    failures: list[StartError] = []

    async def start(server: Server) -> None:
        try:
            await trio.to_thread.run_sync(server.start)
        except StartError as error:
            failures.append(error)

    async with trio.open_nursery() as nursery:
        for server in servers:
            nursery.start_soon(start, server)
    if failures:
        raise failures[0]


async def _keep_running(name: str, server: Server, console: Console) -> None:
    pause = _RESTART_PAUSE_MIN
    while True:
        await trio.lowlevel.wait_readable(server.process.ended_fd)
        status = await trio.to_thread.run_sync(server.forget_ended)
        console.complain(f"{name} ended (exit status {status}); starting it again")
        while True:
            await trio.sleep(pause)
            try:
                await trio.to_thread.run_sync(partial(server.start))
            except StartError as error:
                console.complain(f"{name} can not be started: {error}")
                pause = min(pause * 2, _RESTART_PAUSE_MAX)
            else:
                pause = _RESTART_PAUSE_MIN
                break

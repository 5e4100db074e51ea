"""The system under fire: three brokers, two archivers and an API.

Any way between two parts can have a proxy, for the faults that hit it: from a part to Redis and to
PostgreSQL, and from clients to a broker or the API. A way that no fault of the run hits has none:
all proxies are of this one process, where every byte would wait for every other, and half of a
run's time went there. A part that ends is started again by whoever ended
it; one that ends by itself, or whose output holds a traceback, is a breach unless a fault that is
meant to do that (a memory limit) excused it.
"""

import contextlib
import re
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import trio

from storage.redis.keys import Keys
from tests.faults.storm.checker.breaches import Breach, Trouble
from tests.faults.storm.record import Window
from tests.support.deployment import FAST, PARTITIONS, make_key
from tests.support.processes import Processes, ServerProcess
from tests.support.proxy import TcpProxy, open_proxy
from tests.support.sentinels import WatchedRedis
from tests.support.servers import PostgresServer, RedisServer, run_sql
from workers.embedded.ports import free_port

BROKERS = 3
ARCHIVERS = 2
_START_DEADLINE = 90.0


@dataclass
class Life:
    """One process of a part, from its start to its end."""

    server: ServerProcess
    is_ending: bool = False
    """A fault ends it, or has: the end is no breach."""
    is_excused: bool = False
    """Whatever it writes or does is no breach."""


@dataclass
class Part:
    """One of the processes, whoever stands for it just now."""

    name: str
    kind: str
    proxies: dict[str, TcpProxy]
    """Of `redis`, `postgres` and, where clients come, `clients`: those that a fault hits."""
    env: dict[str, str]
    lives: list[Life] = field(default_factory=list)
    module: str = "parley"
    """What the next life is started with."""
    start_env: dict[str, str] = field(default_factory=dict)

    @property
    def life(self) -> Life:
        return self.lives[-1]

    @property
    def server(self) -> ServerProcess:
        return self.life.server

    @property
    def client_port(self) -> int:
        """Where clients come in just now."""
        proxy = self.proxies.get("clients")
        return self.server.port if proxy is None else proxy.port


class World:
    """Everything that runs; get it from `open_world`."""

    def __init__(
        self,
        processes: Processes,
        redis: RedisServer | WatchedRedis,
        postgres: PostgresServer,
        database_url: str,
        *,
        appendfsync: str,
        drain_seconds: float,
        background: trio.Nursery,
    ) -> None:
        self.drain_seconds = drain_seconds
        self.processes = processes
        self.watched = redis if isinstance(redis, WatchedRedis) else None
        """The servers and their sentinels, if there are any."""
        self.redis = redis if isinstance(redis, RedisServer) else redis.first
        """The server, or the one that is master now."""
        self.redis_url = redis.url
        self.postgres = postgres
        self.database_url = database_url
        self.parts: dict[str, Part] = {}
        self.key = ""
        self.background = background
        """For what a fault does meanwhile; it must end when the fault is healed."""
        self.may_have_lost: list[Window] = []
        """When Redis answered for writes that a fault has taken away; empty in most runs."""
        self.unstorable = ""
        """What PostgreSQL refused to store for a while."""
        self.found: list[Breach] = []
        """What faults found wrong while they healed."""
        self._appendfsync = appendfsync

    def of_kind(self, kind: str) -> list[Part]:
        return [part for part in self.parts.values() if part.kind == kind]

    @property
    def brokers(self) -> list[Part]:
        return self.of_kind("broker")

    @property
    def api(self) -> Part:
        return self.parts["api"]

    def broker_url(self, number: int) -> str:
        """The WebSocket address of a broker."""
        return f"ws://127.0.0.1:{self.brokers[number].client_port}/v1/connect"

    def proxy(self, name: str) -> TcpProxy:
        """A way of the plan, named PART-END, such as `broker0-redis` or `api-clients`."""
        part, _, end = name.partition("-")
        return self.parts[part].proxies[end]

    # --- Redis and PostgreSQL -----------------------------------------------------------------

    def prepare_redis(self, server: RedisServer | None = None) -> None:
        """What each start of a server needs."""
        (server or self.redis).command("CONFIG", "SET", "appendfsync", self._appendfsync)

    def ask(self, *words: str | int | bytes) -> Any:
        """Ask the Redis of the moment; again if a sentinel that changes its role ends all
        connections. Only for what may be repeated."""
        for _attempt in range(3):
            with contextlib.suppress(ConnectionResetError):
                return self.redis.command(*words)
        return self.redis.command(*words)

    def backlog(self) -> int:
        """Events that wait for the archivers."""
        keys = Keys(PARTITIONS)
        return sum(self.ask("XLEN", keys.archive(p)) for p in range(PARTITIONS))

    def unarchived_since(self) -> float:
        """The time of the oldest event that only Redis has: what came before is in PostgreSQL."""
        keys = Keys(PARTITIONS)
        asked = trio.current_time()
        seconds, micros = map(int, self.ask("TIME"))
        oldest = seconds * 1000 + micros // 1000
        for partition in range(PARTITIONS):
            for entry_id, _ in self.ask("XRANGE", keys.archive(partition), "-", "+", "COUNT", 1):
                oldest = min(oldest, int(entry_id.partition(b"-")[0]))
        return asked - (seconds + micros / 1e6 - oldest / 1000)

    # --- processes ----------------------------------------------------------------------------

    async def start(self, part: Part) -> None:
        """Start the part's next process and lead its clients there."""
        server = await self.processes.start(
            part.kind,
            ready=False,
            port=free_port(),
            env=part.env | part.start_env,
            module=part.module,
            execute=part.module != "parley",  # it shifts the clock before anything is imported
        )
        part.lives.append(Life(server))
        if "clients" in part.proxies:
            part.proxies["clients"].target_port = server.port

    async def wait_ready(self) -> None:
        """Wait until every part that should run is ready."""
        for part in self.parts.values():
            await part.server.wait_ready(_START_DEADLINE)

    def excuse(self, part: Part) -> None:
        """What this process does from now on is the fault's doing."""
        part.life.is_excused = True

    async def restart_ended(self) -> None:
        """Start what has ended: by a fault, or by itself, which `breaches` tells."""
        for part in self.parts.values():
            if not part.server.is_running():
                await self.start(part)

    def breaches(self) -> list[Breach]:
        """Processes that ended by themselves and outputs with a traceback."""
        found = list(self.found)
        for part in self.parts.values():
            for number, life in enumerate(part.lives):
                if life.is_excused:
                    continue
                name = f"{part.name} (process {number})"
                if not life.is_ending and not life.server.is_running():
                    found.append(Breach(Trouble.ENDED, f"{name}\n{life.server.output()[-3000:]}"))
                found += [
                    Breach(Trouble.TRACEBACK, f"{name}\n{text}")
                    for text in tracebacks(life.server.output())
                ]
        return found

    async def descriptors(self) -> dict[str, int]:
        """Open descriptors of each part's process."""
        return {
            part.name: await trio.to_thread.run_sync(psutil.Process(part.server.pid).num_fds)
            for part in self.parts.values()
        }


def tracebacks(output: str) -> list[str]:
    """The tracebacks in a process's output, shortened."""
    return [
        output[max(0, hit.start() - 400) : hit.start() + 2500]
        for hit in list(re.finditer(r"Traceback \(most recent call last\)", output))[:3]
    ]


@asynccontextmanager
async def open_world(
    folder: Path,
    postgres: PostgresServer,
    settings: dict[str, str],
    *,
    appendfsync: str = "everysec",
    has_sentinels: bool = False,
    ways: Collection[str] = (),
    prepares: Sequence[str] = (),
) -> AsyncIterator[World]:
    """A fresh Redis and database, and all processes, ready. Everything ends with the block.

    `ways`: those that get a proxy; `prepares`: statements for the database.
    """
    redis = WatchedRedis(folder / "redis") if has_sentinels else RedisServer(folder / "redis")
    database_url = postgres.create_database()
    # Warnings are enough: the report shows what a process wrote.
    processes = Processes(folder / "processes", FAST | {"LOG_LEVEL": "info"} | settings)
    try:
        if isinstance(redis, WatchedRedis):
            await redis.start()
        else:
            redis.start()
        async with AsyncExitStack() as stack:
            background = await stack.enter_async_context(trio.open_nursery())
            world = World(
                processes, redis, postgres, database_url,
                appendfsync=appendfsync, drain_seconds=float(settings["DRAIN_SECONDS"]),
                background=background,
            )  # fmt: skip
            world.prepare_redis()
            # Without it a commit is in the memory of PostgreSQL only, which a kill loses.
            await _make_commits_last(world)
            await _prepare(world, prepares)
            world.key = await make_key(database_url)
            for kind, count in (("broker", BROKERS), ("archiver", ARCHIVERS), ("api", 1)):
                for number in range(count):
                    name = kind if kind == "api" else f"{kind}{number}"
                    world.parts[name] = await _make_part(stack, world, name, kind, ways)
            for part in world.parts.values():
                await world.start(part)
            await world.wait_ready()
            yield world
    finally:
        processes.kill_all()
        if isinstance(redis, RedisServer):
            redis.resume()
            redis.kill()
        else:
            redis.stop()
        postgres.resume()
        postgres.drop_database(database_url)


async def _make_part(
    stack: AsyncExitStack, world: World, name: str, kind: str, ways: Collection[str]
) -> Part:
    urls = {"redis": world.redis_url, "postgres": world.database_url}
    ports = {"redis": world.redis.port, "postgres": world.postgres.port, "clients": 0}
    proxies = {
        end: await stack.enter_async_context(open_proxy(port))
        for end, port in ports.items()
        if f"{name}-{end}" in ways
    }
    urls |= {end: proxy.replace_port(urls[end]) for end, proxy in proxies.items() if end in urls}
    return Part(name, kind, proxies, {"REDIS_URL": urls["redis"], "DATABASE_URL": urls["postgres"]})


async def _prepare(world: World, statements: Sequence[str]) -> None:
    async def work(connection: Any) -> None:
        for statement in statements:
            await connection.execute(statement)

    await trio.to_thread.run_sync(run_sql, world.database_url, work)


async def _make_commits_last(world: World) -> None:
    name = world.database_url.rpartition("/")[2]
    await trio.to_thread.run_sync(
        world.postgres.execute, f"ALTER DATABASE {name} SET synchronous_commit = on"
    )

"""What a soak runs on: three brokers, two archivers, an API, each with its page of metrics."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.deploy.soak.samples import (
    Sample,
    Series,
    sample_postgres,
    sample_process,
    sample_redis,
)
from tests.support.deployment import FAST, Deployment, make_key
from tests.support.metrics import MetricsPage
from tests.support.processes import Processes, ServerProcess
from tests.support.servers import PostgresServer, RedisServer
from workers.embedded.ports import free_port

PARTS = ("broker1", "broker2", "broker3", "archiver1", "archiver2", "api")
# What is kept for a time must have reached its size by the fifth minute.
KEPT_FOR_LESS = {"ROOM_LOG_LENGTH": "200", "IDEMPOTENCY_WINDOW": "2m", "DRAIN_SECONDS": "5"}


class World:
    """The servers and processes; get it from `open_world`."""

    def __init__(
        self, processes: Processes, redis: RedisServer, postgres: PostgresServer, url: str
    ) -> None:
        self.processes = processes
        self.redis = redis
        self.postgres = postgres
        self.parts: dict[str, ServerProcess] = {}
        self.pages: dict[str, MetricsPage] = {}
        self.series = {name: Series(name) for name in (*PARTS, "redis", "postgres")}
        self.system = Deployment(processes, redis, url)

    async def start(self, name: str) -> None:
        """The part's first or next process, on the port of the one before."""
        before = self.parts.get(name)
        metrics_port = free_port()
        self.parts[name] = await self.processes.start(
            name.rstrip("123"),
            port=before.port if before else 0,
            env={"METRICS_PORT": str(metrics_port)},
            execute=True,  # what is forked shares memory with others, less and less of it
        )
        self.pages[name] = MetricsPage(metrics_port)

    async def sample(self, minute: int) -> dict[str, Sample]:
        """Everything as it is now; kept in `series`."""
        now = {
            name: await sample_process(minute, server.pid, self.pages[name])
            for name, server in self.parts.items()
        }
        now["redis"] = sample_redis(minute, self.redis)
        now["postgres"] = sample_postgres(minute, self.postgres)
        for name, sample in now.items():
            self.series[name].samples.append(sample)
        return now

    def broken(self) -> list[str]:
        """A sentence for each process that ended by itself or wrote a traceback."""
        faults = [f"{name} has ended" for name, p in self.parts.items() if not p.is_running()]
        return faults + [
            f"{server.kind} (process {server.pid}) wrote a traceback: {server.output()[-2000:]}"
            for server in self.processes.started
            if "Traceback" in server.output()
        ]


@asynccontextmanager
async def open_world(folder: Path) -> AsyncIterator[World]:
    """Everything started; ended with the block."""
    redis, postgres = RedisServer(folder / "redis"), PostgresServer(folder / "postgres")
    processes = Processes(folder / "processes", {"LOG_LEVEL": "warning"})
    try:
        redis.start()
        postgres.start()
        url = postgres.create_database()
        processes.env |= {"REDIS_URL": redis.url, "DATABASE_URL": url} | FAST | KEPT_FOR_LESS
        world = World(processes, redis, postgres, url)
        for name in PARTS:
            await world.start(name)
        world.system.api = world.parts["api"]
        world.system.brokers = [world.parts[name] for name in PARTS[:3]]
        world.system.key = await make_key(url)
        yield world
    finally:
        processes.kill_all()
        redis.stop()
        postgres.stop()

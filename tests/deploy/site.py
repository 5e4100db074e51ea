"""A site as it is deployed: brokers and APIs on ports of their own, a balancer in front.

Each server may be restarted in its place, drained or killed, while clients go to the balancer.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from tests.deploy.balancers import Balancer, HAProxy
from tests.support.deployment import Deployment, start_deployment
from tests.support.processes import Processes, ServerProcess
from tests.support.servers import RedisServer
from tests.support.waiting import pass_time, wait_until

NGINX_REST = 2.5


class Site:
    """A deployment and its balancer."""

    def __init__(self, system: Deployment, apis: list[ServerProcess], balancer: Balancer) -> None:
        self.system = system
        self.apis = apis
        self.balancer = balancer
        self.drains: list[float] = []
        """How long each drained server took to end."""

    @property
    def brokers(self) -> list[ServerProcess]:
        return self.system.brokers

    async def drain(self, servers: list[ServerProcess], place: int) -> None:
        """SIGTERM, and wait for the end."""
        began = trio.current_time()
        status = await servers[place].stop(deadline=60)
        assert status == 0, servers[place].output()
        self.drains.append(trio.current_time() - began)

    async def start(self, servers: list[ServerProcess], place: int) -> None:
        """A new process in the place of one that has ended, taken in by the balancer."""
        old = servers[place]
        servers[place] = await self.system.processes.start(old.kind, port=old.port)
        if isinstance(self.balancer, HAProxy):
            await self.balancer.wait_up("brokers" if old.kind == "broker" else "apis")
        else:
            # It asks nobody, so the new process gets a moment to be ready.
            await pass_time(NGINX_REST)

    async def restart(self, servers: list[ServerProcess], place: int) -> None:
        """Drain it and start a new one."""
        await self.drain(servers, place)
        await self.start(servers, place)


@asynccontextmanager
async def open_site(
    folder: Path,
    redis: RedisServer,
    database_url: str,
    *,
    kind: type[Balancer] = HAProxy,
    brokers: int = 3,
    apis: int = 1,
    options: dict[str, Any] | None = None,
    **env: str,
) -> AsyncIterator[Site]:
    """The servers, started and known to the balancer."""
    processes = Processes(folder / "processes", {})
    balancer: Balancer | None = None
    try:
        system = await start_deployment(
            processes, redis, database_url, brokers=brokers, api=True, archiver=True, **env
        )
        assert system.api is not None
        started = [system.api]
        while len(started) < apis:
            started.append(await processes.start_api())
        balancer = kind(
            folder / "balancer",
            ports_of(system.brokers),
            ports_of(started),
            **(options or {}),
        )
        await balancer.start()
        site = Site(system, started, balancer)
        if isinstance(balancer, HAProxy):
            await balancer.wait_up("brokers")
            await balancer.wait_up("apis")
        yield site
    finally:
        if balancer is not None:
            balancer.stop()
        processes.kill_all()


def ports_of(servers: Sequence[ServerProcess]) -> list[int]:
    return [server.port for server in servers]


async def wait_settled(is_settled: Any, what: Any, deadline: float) -> None:
    """Wait for the crowd; say who is missing otherwise."""
    try:
        await wait_until(is_settled, deadline=deadline)
    except AssertionError:
        raise AssertionError(f"not settled within {deadline} s: {what()[:3000]}") from None

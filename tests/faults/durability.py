"""What an answered publish survives: `python -m tests.faults.durability [--runs N]`.

Publishes through the product's own script, without an archiver (so nothing is saved by PostgreSQL),
does something to Redis, and counts the answered publishes that are not in the Redis that is left.
A killed process leaves its page cache to the kernel: what a loss of power costs is not measured.
Prints the table of docs/durability.md.
"""

import argparse
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import structlog
import trio

from storage.errors import StorageUnavailable
from storage.redis.outcomes import Appended
from tests.support.proxy import open_proxy
from tests.support.script_rooms import ScriptRooms, open_rooms
from tests.support.sentinels import SERVICE, WatchedRedis
from tests.support.servers import RedisServer
from tests.support.waiting import pass_time
from workers.embedded.ports import LOOPBACK

ROOMS = [f"p/room-{number}" for number in range(8)]
LOAD_SECONDS = 2.0
CUT_SECONDS = 4.0


@dataclass
class Load:
    """Publishers that note every answer until something goes wrong."""

    rooms: ScriptRooms
    answers: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    refused: int = 0
    """Publishes that were answered `unavailable` before the fault."""
    is_over: bool = False

    async def run(self, room: str) -> None:
        """Publish into the room until the connection or the life is gone, or `is_over`."""
        answers = self.answers.setdefault(room, [])
        while not self.is_over:
            try:
                outcome = await self.rooms.publish(room)
            except StorageUnavailable as error:
                if "NOREPLICAS" not in error.reason:
                    return
                self.refused += 1
                await pass_time(0.05)
                continue
            if not isinstance(outcome, Appended):
                return
            answers.append((outcome.offset, trio.current_time()))

    def lost(self, server: RedisServer) -> tuple[int, float]:
        """How many answers this server does not know, and for how long such answers were given."""
        lost: list[float] = []
        for room, answers in self.answers.items():
            kept = int(server.command("HGET", self.rooms.keys(room).room, "offset") or 0)
            lost += [at for offset, at in answers if offset > kept]
        return len(lost), max(lost, default=0.0) - min(lost, default=0.0)

    @property
    def answered(self) -> int:
        return sum(map(len, self.answers.values()))


@dataclass(frozen=True)
class Result:
    """One run."""

    answered: int
    lost: int
    window: float
    """Seconds from the first answer that was lost to the last."""
    refused: int


@asynccontextmanager
async def load_on(url: str) -> AsyncIterator[Load]:
    """The load on a Redis, from the start of the block until the publishers gave up."""
    async with open_rooms(url, checked=False) as rooms:
        for room in ROOMS:
            await rooms.warm(room)
        load = Load(rooms)
        async with trio.open_nursery() as nursery:
            for room in ROOMS:
                nursery.start_soon(load.run, room)
            await pass_time(LOAD_SECONDS)
            yield load


@contextmanager
def scratch() -> Any:
    with tempfile.TemporaryDirectory(prefix="parley-durability-") as folder:
        yield Path(folder)


async def kill(**settings: str) -> Result:
    """SIGKILL of the only server, and a start with what its file has."""
    with scratch() as folder:
        server = RedisServer(folder / "redis")
        server.start()
        try:
            configure(server, settings)
            async with load_on(server.url) as load:
                server.kill()
            server.start()
            return Result(load.answered, *load.lost(server), load.refused)
        finally:
            server.stop()


async def fail_over(*, is_cut: bool = False, **settings: str) -> Result:
    """SIGKILL of the master and promotion of the replica, which may have been cut off before.

    The cut is one that nobody is told of: bytes vanish on the way.
    """
    with scratch() as folder:
        servers = WatchedRedis(folder)
        first, second = servers.first, servers.second
        try:
            for server in (first, second):
                servers.start_server(server)
            async with open_proxy(first.port) as link:
                second.command("REPLICAOF", LOOPBACK, link.port)
                await servers.wait_linked(second)
                configure(first, settings)
                async with load_on(first.url) as load:
                    if is_cut:
                        link.swallow()
                        await pass_time(CUT_SECONDS)
                    first.kill()
            second.command("REPLICAOF", "NO", "ONE")
            return Result(load.answered, *load.lost(second), load.refused)
        finally:
            servers.stop()


async def split_brain(*, by_sentinels: bool, **settings: str) -> Result:
    """The replica is promoted beside the master, which goes on accepting; nobody can tell it.

    Without sentinels the load ends after a while.
    """
    with scratch() as folder:
        servers = WatchedRedis(folder)
        try:
            await servers.start()
            configure(servers.first, settings)
            async with load_on(servers.url if by_sentinels else servers.first.url) as load:
                servers.hide(servers.first)
                servers.sentinels[0].command("SENTINEL", "FAILOVER", SERVICE)
                if not by_sentinels:
                    await pass_time(CUT_SECONDS * 2)
                    load.is_over = True
            return Result(load.answered, *load.lost(servers.second), load.refused)
        finally:
            servers.stop()


def configure(server: RedisServer, settings: dict[str, str]) -> None:
    for name, value in settings.items():
        server.command("CONFIG", "SET", name.replace("_", "-"), value)


ONE_REPLICA = {"min_replicas_to_write": "1", "min_replicas_max_lag": "1"}
SCENARIOS: dict[str, Callable[[], Any]] = {
    "SIGKILL, `appendfsync always`": partial(kill, appendfsync="always"),
    "SIGKILL, `appendfsync everysec`": partial(kill, appendfsync="everysec"),
    "SIGKILL, `appendfsync no`": partial(kill, appendfsync="no"),
    "SIGKILL, `appendonly no`": partial(kill, appendonly="no"),
    "failover, replica in step": fail_over,
    f"failover, replica cut off {CUT_SECONDS:g} s before": partial(fail_over, is_cut=True),
    "the same, `min-replicas-to-write 1`, `min-replicas-max-lag 1`": partial(
        fail_over, is_cut=True, **ONE_REPLICA
    ),
    "split brain, by sentinels": partial(split_brain, by_sentinels=True),
    "split brain, by sentinels, `min-replicas-to-write 1`, `…-max-lag 1`": partial(
        split_brain, by_sentinels=True, **ONE_REPLICA
    ),
    f"split brain, no sentinels asked, {CUT_SECONDS * 2:g} s": partial(
        split_brain, by_sentinels=False
    ),
    f"split brain, no sentinels asked, {CUT_SECONDS * 2:g} s, `min-replicas…` as above": partial(
        split_brain, by_sentinels=False, **ONE_REPLICA
    ),
}


async def main(runs: int) -> None:
    print("| what happened | answered | lost a run | for at most, ms | refused |")
    print("|---|---|---|---|---|")
    for name, scenario in SCENARIOS.items():
        results = [await scenario() for _ in range(runs)]
        answered = sum(result.answered for result in results)
        lost = [result.lost for result in results]
        refused = sum(result.refused for result in results)
        window = max(result.window for result in results) * 1000
        spread = f"{min(lost)} to {max(lost)}" if max(lost) else "0"
        print(f"| {name} | {answered} | {spread} | {window:.0f} | {refused} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5, help="runs of each scenario")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    trio.run(main, parser.parse_args().runs)

"""The faults of a soak: one each minute, in an order that the seed says, each over in half of it.

Those that end a process hit the third broker and the second archiver only, so that the others
live through all of it and can be compared with themselves.
"""

import random
from collections.abc import Awaitable, Callable, Iterator

from tests.deploy.crowd import Crowd
from tests.deploy.soak.world import World
from tests.support.waiting import pass_time

Act = Callable[[World, Crowd], Awaitable[None]]
SHORT, LONG = 3.0, 18.0
"""Seconds: less than any patience, and more than NODE_LEASE (15)."""


async def redis_connections_cut(world: World, _crowd: Crowd) -> None:
    world.redis.command("CLIENT", "KILL", "TYPE", "normal")


async def redis_stopped(world: World, _crowd: Crowd) -> None:
    world.redis.pause()
    await pass_time(SHORT)
    world.redis.resume()


async def postgres_connections_cut(world: World, _crowd: Crowd) -> None:
    world.postgres.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )


async def postgres_stopped(world: World, _crowd: Crowd) -> None:
    world.postgres.pause()
    await pass_time(2 * SHORT)
    world.postgres.resume()


async def broker_stopped(world: World, _crowd: Crowd) -> None:
    await _stop(world, "broker1", SHORT)


async def broker_stopped_for_longer_than_its_lease(world: World, _crowd: Crowd) -> None:
    await _stop(world, "broker2", LONG)


async def archiver_stopped(world: World, _crowd: Crowd) -> None:
    await _stop(world, "archiver1", LONG)


async def api_stopped(world: World, _crowd: Crowd) -> None:
    await _stop(world, "api", SHORT)


async def broker_killed(world: World, _crowd: Crowd) -> None:
    world.parts["broker3"].kill()
    await world.start("broker3")


async def broker_drained(world: World, _crowd: Crowd) -> None:
    assert await world.parts["broker3"].stop(deadline=60) == 0
    await world.start("broker3")


async def archiver_killed(world: World, _crowd: Crowd) -> None:
    world.parts["archiver2"].kill()
    await world.start("archiver2")


async def clients_vanish(_world: World, crowd: Crowd) -> None:
    for member in crowd.online()[::2]:
        member.leave()


async def _stop(world: World, name: str, seconds: float) -> None:
    process = world.parts[name]
    process.pause()
    await pass_time(seconds)
    process.resume()


FAULTS: tuple[Act, ...] = (
    redis_connections_cut, redis_stopped, postgres_connections_cut, postgres_stopped,
    broker_stopped, broker_stopped_for_longer_than_its_lease, archiver_stopped, api_stopped,
    broker_killed, broker_drained, archiver_killed, clients_vanish,
)  # fmt: skip


def in_some_order(seed: int) -> Iterator[Act]:
    """All of them, again and again, each time in another order."""
    rng = random.Random(seed)
    while True:
        yield from rng.sample(FAULTS, len(FAULTS))

"""Faults of a master and a replica under sentinels: another server leads, and lacks something."""

import random
from functools import partial
from typing import ClassVar

import trio
from redis.exceptions import ResponseError

from tests.faults.storm.faults import Fault, Layout
from tests.faults.storm.record import Window
from tests.faults.storm.world import World
from tests.support.sentinels import WatchedRedis
from tests.support.servers import RedisServer
from tests.support.waiting import pass_time, wait_until

_ON_ITS_WAY = 1.0
"""Seconds of answers that a replica in step may lack when its master is killed; measured: none."""


class SentinelFault(Fault):
    """A fault after which the other server is the master, and the old one its replica."""

    layout: ClassVar[Layout | None] = "sentinels"

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self.takes = frozenset({"redis"})
        self.old: RedisServer | None = None
        self.since = 0.0
        """The oldest answer that the other server may lack."""

    def watched(self, world: World) -> WatchedRedis:
        assert world.watched is not None
        return world.watched

    async def follow(self, world: World) -> None:
        """Wait until the sentinels name the other server; it is the world's from now on."""
        watched = self.watched(world)
        other = watched.second if world.redis is watched.first else watched.first
        await watched.wait_master(other)
        world.redis = other


class Failover(SentinelFault):
    """The master is killed; most times the replica had been cut off for a moment before."""

    kind = "redis-failover"
    lengths = (0.5, 5.0)
    weight = 10

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self._cut_for = rng.choice((0.0, 0.3, 1.0, 3.0))

    def __str__(self) -> str:
        return f"{super().__str__()} (replica cut off for {self._cut_for} s)"

    async def begin(self, world: World) -> None:
        watched = self.watched(world)
        self.old = world.redis
        if self._cut_for:
            self.since = trio.current_time()
            watched.cut_replication(self.old)
            await pass_time(self._cut_for)
        else:
            self.since = trio.current_time() - _ON_ITS_WAY
        self.old.kill()
        world.may_have_lost.append(Window(self.since, trio.current_time()))

    async def heal(self, world: World) -> None:
        assert self.old is not None
        await self.follow(world)
        watched = self.watched(world)
        await trio.to_thread.run_sync(watched.start_server, self.old)
        world.prepare_redis(self.old)
        await watched.wait_in_step(self.old)


class SplitBrain(SentinelFault):
    """The sentinels see the master no more and name the other; it goes on accepting."""

    kind = "redis-split-brain"
    lengths = (1.0, 8.0)
    weight = 8

    async def begin(self, world: World) -> None:
        watched = self.watched(world)
        self.old = world.redis
        self.since = trio.current_time()
        watched.hide(self.old)
        watched.cut_replication(self.old)
        await wait_until(partial(_begins_failover, watched), deadline=40)

    async def heal(self, world: World) -> None:
        """The sentinels see the old one again and make it a replica: what it had taken is gone."""
        assert self.old is not None
        await self.follow(world)
        watched = self.watched(world)
        watched.show(self.old)
        await watched.wait_in_step(self.old)
        watched.restore_replication(self.old)
        world.may_have_lost.append(Window(self.since, trio.current_time()))


def _begins_failover(watched: WatchedRedis) -> bool:
    try:
        watched.fail_over()
    except ResponseError:
        return False  # the last one is not long ago, or the replica's state is not known yet
    return True

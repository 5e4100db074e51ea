"""Faults of a Redis that stands alone; `of_sentinels` has those of two."""

import contextlib
import random
from typing import ClassVar

import trio
from redis.exceptions import ResponseError

from tests.faults.storm.faults import Fault, Layout
from tests.faults.storm.record import Window
from tests.faults.storm.world import World

_LONG_SCRIPT = "while true do redis.call('TIME') end"
# A port that nobody listens on: a replica of it is readonly and keeps what it has.
_NOWHERE = "1"


class RedisFault(Fault):
    """A fault of the one Redis."""

    layout: ClassVar[Layout | None] = "one server"

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self.takes = frozenset({"redis"})

    async def command(self, world: World, *words: str) -> None:
        await trio.to_thread.run_sync(world.redis.command, *words)


class RedisCut(RedisFault):
    """CLIENT KILL of every connection."""

    layout = None
    kind = "redis-cut"
    lengths = (0.0, 0.1)

    async def begin(self, world: World) -> None:
        await self.command(world, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


class RedisStop(RedisFault):
    """SIGSTOP, then SIGCONT."""

    kind = "redis-stop"
    lengths = (0.5, 8.0)

    async def begin(self, world: World) -> None:
        world.redis.pause()

    async def heal(self, world: World) -> None:
        world.redis.resume()


class RedisRestart(RedisFault):
    """Stopped cleanly and started again a moment later, with its append-only file."""

    kind = "redis-restart"
    lengths = (0.1, 4.0)

    async def begin(self, world: World) -> None:
        await trio.to_thread.run_sync(world.redis.stop)

    async def heal(self, world: World) -> None:
        await trio.to_thread.run_sync(world.redis.start)
        await trio.to_thread.run_sync(world.prepare_redis)


class RedisKill(RedisRestart):
    """SIGKILL, started again with its append-only file, which holds all that was answered."""

    kind = "redis-kill"

    async def begin(self, world: World) -> None:
        world.redis.kill()


class RedisEmpty(RedisFault):
    """SIGKILL, started again empty: what was not archived yet is lost."""

    kind = "redis-empty"
    lengths = (0.0, 0.1)
    weight = 2

    async def begin(self, world: World) -> None:
        since = world.unarchived_since()
        await trio.to_thread.run_sync(world.redis.lose_data)
        world.may_have_lost.append(Window(since, trio.current_time()))
        await trio.to_thread.run_sync(world.prepare_redis)


class RedisFull(RedisFault):
    """`maxmemory` reached with noeviction: no write is taken."""

    kind = "redis-full"

    async def begin(self, world: World) -> None:
        await self.command(world, "CONFIG", "SET", "maxmemory", "1")

    async def heal(self, world: World) -> None:
        await self.command(world, "CONFIG", "SET", "maxmemory", "0")


class RedisBusy(RedisFault):
    """A script that does not end: everybody is answered BUSY, until SCRIPT KILL."""

    kind = "redis-busy"

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self._ended = trio.Event()

    async def begin(self, world: World) -> None:
        await self.command(world, "CONFIG", "SET", "lua-time-limit", "100")
        world.background.start_soon(self._run, world)

    async def _run(self, world: World) -> None:
        with contextlib.suppress(ResponseError, OSError):
            await self.command(world, "EVAL", _LONG_SCRIPT, "0")
        self._ended.set()

    async def heal(self, world: World) -> None:
        """Until there is none to kill: whoever waits for its answer may give up before."""
        while True:
            try:
                await self.command(world, "SCRIPT", "KILL")
            except ResponseError:
                if self._ended.is_set():
                    return
            with trio.move_on_after(1):
                await self._ended.wait()


class RedisReadonly(RedisFault):
    """It becomes a replica of nobody, which refuses writes, and then a master again."""

    kind = "redis-readonly"

    async def begin(self, world: World) -> None:
        await self.command(world, "REPLICAOF", "127.0.0.1", _NOWHERE)

    async def heal(self, world: World) -> None:
        await self.command(world, "REPLICAOF", "NO", "ONE")

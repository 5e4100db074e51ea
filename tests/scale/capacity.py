"""What rooms, connections and messages cost in Redis, PostgreSQL and a broker, in bytes.

    python -m tests.scale.capacity [ROOMS CONNECTIONS MESSAGES]

Starts servers and a broker of its own and looks at their memory and tables before and after. No
speed is measured (`parley bench` does that), so other work on the machine changes nothing.
docs/capacity.md has the figures.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final

import psutil
import trio

from tests.deploy.crowd import open_crowd
from tests.support.processes import Processes
from tests.support.rooms import Storage, open_storage
from tests.support.servers import PostgresServer, RedisServer, fetch, run_sql
from tests.support.waiting import wait_until

CONTENT: Final = "a message of two hundred bytes, as people write them; ".ljust(200, "x")
FULL_LOG: Final = 1000
_SIZES: Final = """
SELECT sum(pg_relation_size(c.oid))::bigint AS rows,
       sum(pg_indexes_size(c.oid))::bigint AS indexes,
       pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint AS wal
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'messages'::regclass
"""


class Capacity:
    """Fills private servers and prints what each thing took."""

    def __init__(self, redis: RedisServer, storage: Storage, database_url: str) -> None:
        self._redis = redis
        self._storage = storage
        self._url = database_url

    def _memory(self) -> int:
        lines = self._redis.command("INFO", "memory").decode().splitlines()
        (used,) = (line.partition(":")[2] for line in lines if line.startswith("used_memory:"))
        return int(used)

    async def _each(self, count: int, work: Callable[[int], Awaitable[object]]) -> None:
        limit = trio.CapacityLimiter(50)

        async def run(number: int) -> None:
            async with limit:
                await work(number)

        for first in range(0, count, 1000):
            async with trio.open_nursery() as nursery:
                for number in range(first, min(first + 1000, count)):
                    nursery.start_soon(run, number)

    async def measure_rooms(self, rooms: int) -> None:
        """Rooms with one message each, archived; then full logs; then idempotency keys."""
        storage = self._storage
        await self._each(rooms, lambda n: storage.create_room(f"r{n}", f"a{n}", f"b{n}"))
        before = self._memory()
        await self._each(rooms, lambda n: storage.publish(f"r{n}", CONTENT, sender=f"a{n}"))
        waiting = self._memory() - before
        await storage.flush()
        kept = self._memory() - before
        print(f"Redis, a room with one event         {kept / rooms:8.0f} bytes")
        print(f"Redis, an event that waits, beside   {(waiting - kept) / rooms:8.0f} bytes")
        before = self._memory()
        full = min(20, rooms)
        for number in range(full):
            await storage.publish_many(f"r{number}", FULL_LOG, content=CONTENT)
            await storage.flush()
        grown = (self._memory() - before) / full
        print(f"Redis, a room with {FULL_LOG} events      {grown:8.0f} bytes")
        before = self._memory()
        keys = 20_000
        await self._each(
            keys,
            lambda n: storage.publish(f"r{full}", "x", sender=f"a{full}", client_id=f"{n:032x}"),
        )
        await storage.flush()
        log = grown / FULL_LOG
        print(f"Redis, an idempotency key, at most   {(self._memory() - before) / keys:8.0f} bytes")
        print(f"Redis, an event of 200 bytes in a log{log:8.0f} bytes")

    async def measure_archive(self, messages: int) -> None:
        """Rows, indexes and WAL of archived messages."""
        storage = self._storage
        await storage.create_room("archive", "alice", "bob")
        before = fetch(self._url, _SIZES)[0]
        for first in range(0, messages, 10_000):
            await storage.publish_many("archive", min(10_000, messages - first), content=CONTENT)
            await storage.flush()
        run_sql(self._url, lambda connection: connection.execute("CHECKPOINT"))
        after = fetch(self._url, _SIZES)[0]
        for name, what in (("rows", "rows"), ("indexes", "indexes"), ("wal", "WAL")):
            cost = (after[name] - before[name]) / messages
            print(f"PostgreSQL, {what:8} a message        {cost:8.0f} bytes")

    async def measure_connections(self, processes: Processes, connections: int) -> None:
        """Connections with a subscription each, five to a room, at one broker."""
        storage = self._storage
        rooms = -(-connections // 5)
        for number in range(rooms):
            members = [f"u{user}" for user in range(number, connections, rooms)]
            await storage.create_room(f"c{number}", *members)
            await storage.publish(f"c{number}", CONTENT, sender=members[0])
        await storage.flush()
        broker = await processes.start_broker()
        process = psutil.Process(broker.pid)
        redis, memory = self._memory(), process.memory_info().rss
        async with open_crowd(lambda: broker.url) as crowd:
            for user in range(connections):
                crowd.add(f"u{user}", f"c{user % rooms}")
            await wait_until(crowd.is_settled, deadline=240, what="everybody is there")
            cost = (self._memory() - redis) / connections
            print(f"Redis, a subscribed connection       {cost:8.0f} bytes")
            cost = (process.memory_info().rss - memory) / connections
            print(f"broker, a subscribed connection      {cost:8.0f} bytes")


async def run(rooms: int, connections: int, messages: int) -> None:
    """The whole command."""
    folder = Path(tempfile.mkdtemp(prefix="capacity-"))
    redis, postgres = RedisServer(folder / "redis"), PostgresServer(folder / "postgres")
    processes = Processes(folder / "processes", {})
    redis.start()
    postgres.start()
    try:
        url = postgres.create_database()
        processes.env |= {"REDIS_URL": redis.url, "DATABASE_URL": url}
        async with open_storage(redis.url, url) as storage:
            capacity = Capacity(redis, storage, url)
            await capacity.measure_rooms(rooms)
            await capacity.measure_archive(messages)
            await capacity.measure_connections(processes, connections)
    finally:
        processes.kill_all()
        redis.stop()
        postgres.stop()


if __name__ == "__main__":
    sizes = [int(argument) for argument in sys.argv[1:]] or [5000, 1000, 100_000]
    trio.run(partial(run, *sizes))

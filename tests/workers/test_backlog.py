"""What waits for an archiver, and how storages are doing, as metrics tell it."""

from collections.abc import Awaitable, Callable

import pytest
import trio

from config.metrics import Metrics
from storage.errors import StorageUnavailable
from storage.postgres.announcements import count_pending, insert_announcement
from storage.postgres.pool import open_database
from storage.redis.clock import RedisClock
from storage.watching import watch_process
from tests.support.waiting import wait_until
from tests.workers.archiver_parts import build_archiver, flush_everything, open_system
from workers.archiver.backlog import Backlog


def value(metrics: Metrics, name: str, **labels: str) -> float:
    found = metrics.registry.get_sample_value(f"parley_{name}", labels)
    assert found is not None
    return found


async def look(watch: Callable[[], Awaitable[object]], is_there: Callable[[], bool]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await wait_until(is_there, deadline=20)
        nursery.cancel_scope.cancel()


async def test_the_backlog_and_its_age(redis_url: str, database_url: str):
    async with open_system(redis_url, database_url) as system:
        metrics = Metrics()
        clock = RedisClock()
        await clock.measure(system.store.client)
        backlog = Backlog(system.database, system.store.archive, clock, metrics)
        key = await system.create_room("general")
        await system.publish(key)
        partition = str(system.store.keys.partition(key))
        await look(backlog.watch, lambda: value(metrics, "archive_oldest_seconds") > 0)
        assert value(metrics, "archive_backlog", partition=partition) == 1
        assert value(metrics, "archive_oldest_seconds") < 30
        await flush_everything(build_archiver(system), system)
        await look(
            backlog.watch, lambda: value(metrics, "archive_backlog", partition=partition) == 0
        )
        await look(backlog.watch, lambda: value(metrics, "archive_oldest_seconds") == 0)


async def test_announcements_that_wait(redis_url: str, database_url: str):
    async with open_system(redis_url, database_url) as system:
        metrics = Metrics()
        backlog = Backlog(system.database, system.store.archive, RedisClock(), metrics)
        assert await count_pending(system.database) == (0, 0.0)
        await system.create_room("general")
        room_pk = await system.database.fetchval("SELECT pk FROM rooms")
        await system.database.run(
            lambda c: insert_announcement(
                c, room_pk=room_pk, version=2, event="room.updated", sender=None, data="{}"
            )
        )
        await system.database.execute(
            "UPDATE announcements SET created_at = created_at - interval '1 minute'"
        )
        await look(backlog.watch, lambda: value(metrics, "announcements_pending") == 1)
        assert 60 <= value(metrics, "announcements_oldest_seconds") < 120


async def test_waits_for_a_connection_and_a_server_that_is_away(
    redis_url: str, database_url: str, free_port: int
):
    metrics = Metrics()
    async with open_system(redis_url, database_url) as system:
        client = system.store.client
        async with open_database(database_url, pool_size=1) as database:
            async with trio.open_nursery() as nursery:
                for _ in range(2):
                    nursery.start_soon(database.execute, "SELECT pg_sleep(0.1)")
            await look(
                lambda: watch_process(metrics, client, database, RedisClock()),
                lambda: value(metrics, "postgres_wait_seconds_count") > 0,
            )
            assert value(metrics, "postgres_wait_seconds_sum") > 0.01
            assert value(metrics, "postgres_connected") == 1
        async with open_database(f"postgresql://nobody@127.0.0.1:{free_port}/none") as away:
            with pytest.raises(StorageUnavailable):
                await away.execute("SELECT 1")
            await look(
                lambda: watch_process(metrics, client, away, RedisClock()),
                lambda: value(metrics, "postgres_connected") == 0,
            )


async def test_the_clock_of_redis_is_compared(redis_url: str, database_url: str):
    async with open_system(redis_url, database_url) as system:
        clock = RedisClock()
        assert clock.ahead == 0
        assert abs(await clock.measure(system.store.client)) < 5, "they are one machine's"
        assert clock.ahead != 0

"""Faults end whatever becomes of the run that began them."""

import random
from types import SimpleNamespace
from typing import Any

import trio
from redis.exceptions import ResponseError

from tests.faults.storm.faults.of_postgres import PostgresLock
from tests.faults.storm.faults.of_redis import RedisBusy
from tests.support.servers import fetch
from tests.support.waiting import wait_until


async def test_a_lock_does_not_outlive_a_run_that_failed(database_url):
    """A run that fails heals nothing: it is cancelled, and has to end all the same."""

    def is_locked() -> bool:
        query = "SELECT FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted"
        return bool(fetch(database_url, query))

    async with trio.open_nursery() as background:
        world: Any = SimpleNamespace(background=background, database_url=database_url)
        await PostgresLock(random.Random(1)).begin(world)
        await wait_until(is_locked, deadline=30)
        background.cancel_scope.cancel()
    await wait_until(lambda: not is_locked(), deadline=30)


async def test_a_script_ends_though_nobody_waits_for_its_answer_any_more(private_redis):
    def is_busy() -> bool:
        try:
            private_redis.command("PING")
        except ResponseError:
            return True
        return False

    async with trio.open_nursery() as background:
        world: Any = SimpleNamespace(background=background, redis=private_redis)
        fault = RedisBusy(random.Random(1))
        await fault.begin(world)
        await wait_until(is_busy, deadline=30)
        fault._ended.set()
        await fault.heal(world)
        assert not is_busy()

"""What every process tells about its storages and its event loop, beside its work.

Transports only append to bounded rings of times, which are taken from there once a second: a
histogram costs a microsecond, an append nothing. So a histogram of round trips or queries holds
the newest ones of each second where there were more than fit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, NoReturn

import trio

from config.metrics import Metrics
from storage.errors import StorageUnavailable
from storage.postgres.pool import Database
from storage.redis.client import RedisClient
from storage.redis.clock import RedisClock

TELL_INTERVAL: Final = 1.0
CLOCK_INTERVAL: Final = 10.0
# Often enough to see a loop that is blocked for a quarter of a second; four wake-ups a second.
LAG_INTERVAL: Final = 0.25


async def watch_process(
    metrics: Metrics, redis: RedisClient, database: Database, clock: RedisClock
) -> NoReturn:
    """Tell the metrics how storages and event loop are doing, until cancelled."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch_event_loop, metrics)
        nursery.start_soon(_watch_clock, metrics, redis, clock)
        while True:
            _tell_redis(metrics, redis)
            _tell_postgres(metrics, database)
            metrics.tasks.set(trio.lowlevel.current_statistics().tasks_living)
            await trio.sleep(TELL_INTERVAL)


async def _watch_event_loop(metrics: Metrics) -> None:
    while True:
        due = trio.current_time() + LAG_INTERVAL
        await trio.sleep_until(due)
        metrics.event_loop_lag.observe(trio.current_time() - due)


async def _watch_clock(metrics: Metrics, redis: RedisClient, clock: RedisClock) -> None:
    while True:
        try:
            metrics.redis_clock_ahead.set(await clock.measure(redis))
        except StorageUnavailable:
            # What `parley_redis_connected` says already; asked again soon.
            await trio.sleep(TELL_INTERVAL)
            continue
        await trio.sleep(CLOCK_INTERVAL)


def _tell_redis(metrics: Metrics, redis: RedisClient) -> None:
    found = redis.statistics()
    metrics.redis_connected.set(int(found.is_connected))
    metrics.redis_in_flight.set(found.in_flight)
    _empty(redis.round_trips, metrics.redis_round_trip_seconds.observe)


def _tell_postgres(metrics: Metrics, database: Database) -> None:
    found = database.statistics()
    metrics.postgres_connected.set(int(not found.is_away))
    metrics.postgres_connections.labels("open").set(found.open)
    metrics.postgres_connections.labels("idle").set(found.idle)
    metrics.postgres_waiting.set(found.waiting)
    _empty(database.times.queries, metrics.postgres_query_seconds.observe)
    _empty(database.times.waits, metrics.postgres_wait_seconds.observe)


def _empty(times: deque[float], observe: Callable[[float], object]) -> None:
    """Take over what is there; whoever appends may do so meanwhile, from another thread too."""
    for _ in range(len(times)):
        observe(times.popleft())

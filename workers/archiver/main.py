"""Composition root of `parley archiver`: settings in, a running archiver out.

Tasks, from the outermost: Redis, metrics, the waiting for entries, announcements, removals of
users, retention, the archiver.
SIGTERM and SIGINT stop the archiver, which finishes the batches in hand within DRAIN_SECONDS (less
a little for closing); then everything else is cancelled. Servers that are away at the start are
waited for.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog
import trio

from broker.domain.access import AccessReader
from broker.domain.announcing import Announcer
from broker.domain.changing import Changer
from broker.domain.floors import FloorReporter
from broker.domain.message_removals import MessageRemover
from broker.domain.notifying import Notifier
from broker.domain.seeding import Seeder
from broker.domain.user_changes import UserChanges
from config.archive_limits import ARCHIVE_BATCHES_TOGETHER
from config.metrics import Metrics, serve_metrics
from config.settings import Settings
from config.spans import open_spans
from config.stopping import CLOSING_SHARE, Stopping
from storage.errors import StorageUnavailable
from storage.postgres.deployment import ensure_deployment
from storage.postgres.pool import Database, open_database
from storage.redis.clock import RedisClock
from storage.redis.store import RedisStore, open_store, require_deployment
from storage.watching import watch_process
from workers.archiver.announcing import announce_late
from workers.archiver.archiver import FLUSHES_MAX, Archiver, ArchiverOptions
from workers.archiver.backlog import Backlog
from workers.archiver.notifying import MessageNotices
from workers.archiver.removing import finish_removals
from workers.archiver.retention import Retention
from workers.archiver.waiting import watch_archive

T = TypeVar("T")

# A batch of ten thousand large events takes seconds where a query of the API may not.
STATEMENT_TIMEOUT: Final = 15.0
# Beside the flushes, one each for announcements, removals of users, retention, notifications.
POOL_SIZE: Final = FLUSHES_MAX + 4
START_DELAY: Final = 0.5


async def serve_archiver(settings: Settings, *, ready: Callable[[str], None]) -> None:
    """Archive until SIGTERM or SIGINT; `ready` is called once both servers have answered.

    Raises ConfigError if the database and Redis do not belong together or to these settings.
    """
    metrics = Metrics()
    stopping = Stopping()
    async with trio.open_nursery() as signals:
        await signals.start(stopping.watch, signals.cancel_scope)
        async with (
            open_store(settings, name="parley-archiver") as store,
            open_database(
                settings.database_url,
                pool_size=POOL_SIZE,
                statement_timeout=STATEMENT_TIMEOUT,
                name="parley-archiver",
            ) as database,
            open_spans("archiver", os.environ) as metrics.spans,
            trio.open_nursery() as nursery,
        ):
            notices = MessageNotices(Notifier(database, store.rooms), metrics)
            archiver = Archiver(
                database=database,
                store=store.archive,
                options=ArchiverOptions(
                    batch=settings.archive_batch * ARCHIVE_BATCHES_TOGETHER,
                    interval=settings.archive_interval,
                ),
                metrics=metrics,
                note=notices.note,
                witness=store.rooms.witness,
            )
            nursery.start_soon(_stop, stopping, archiver, settings, metrics, nursery.cancel_scope)
            if settings.metrics_port:
                await nursery.start(serve_metrics, metrics, settings.host, settings.metrics_port)
            clock = RedisClock()
            nursery.start_soon(watch_process, metrics, store.client, database, clock)
            await _check_servers(settings, store, database)
            nursery.start_soon(
                watch_archive, archiver, store.archive, store.client, settings.archive_interval
            )
            seeder = Seeder(database, store.rooms)
            announcer = Announcer(database, store.rooms, seeder)
            nursery.start_soon(announce_late, announcer, metrics)
            changer = Changer(database, store.rooms, AccessReader(database), seeder)
            remover = MessageRemover(database, store.rooms, store.archive, changer)
            nursery.start_soon(finish_removals, UserChanges(database, announcer, remover))
            nursery.start_soon(Retention(database, store.rooms, metrics).run)
            nursery.start_soon(Backlog(database, store.archive, clock, metrics).watch)
            nursery.start_soon(FloorReporter(store.rooms, metrics).run)
            nursery.start_soon(notices.run)
            ready(f"{settings.room_partitions} partitions")
            stopping.is_serving = True
            await archiver.run()
            nursery.cancel_scope.cancel()
        signals.cancel_scope.cancel()


async def _check_servers(settings: Settings, store: RedisStore, database: Database) -> None:
    deployment = await _wait_available(
        lambda: ensure_deployment(database, settings.room_partitions)
    )
    await _wait_available(lambda: require_deployment(store.client, deployment))


async def _wait_available(step: Callable[[], Awaitable[T]]) -> T:
    log = structlog.get_logger("archiver")
    while True:
        try:
            return await step()
        except StorageUnavailable as error:
            log.warning("waiting for a server", backend=error.backend, reason=error.reason)
        await trio.sleep(START_DELAY)


async def _stop(
    stopping: Stopping,
    archiver: Archiver,
    settings: Settings,
    metrics: Metrics,
    everything: trio.CancelScope,
) -> None:
    """When asked, begin no more batches; cancel what is still in hand at the end of the time."""
    await stopping.asked.wait()
    metrics.draining.set(1)
    archiver.stop()
    await trio.sleep(settings.drain_seconds * (1 - CLOSING_SHARE))
    everything.cancel()

"""What waits for an archiver, for the metrics: events in Redis, announcements in PostgreSQL.

Every archiver tells the same, so that any one that lives is enough: on a dashboard take the
greatest, not the sum. While a server is away its figures stay as they were.
"""

from __future__ import annotations

import time
from typing import Final, NoReturn

import trio

from config.metrics import Metrics
from storage.errors import StorageUnavailable
from storage.postgres.announcements import count_pending
from storage.postgres.pool import Database
from storage.redis.archive import ArchiveStore
from storage.redis.clock import RedisClock

# Often enough for an alarm that waits for minutes.
BACKLOG_INTERVAL: Final = 5.0


class Backlog:
    """Looks at both backlogs for one archiver."""

    def __init__(
        self, database: Database, store: ArchiveStore, clock: RedisClock, metrics: Metrics
    ) -> None:
        self._database = database
        self._store = store
        self._clock = clock
        self._metrics = metrics

    async def watch(self) -> NoReturn:
        """Keep the figures fresh until cancelled."""
        while True:
            for look in (self._look_at_archive, self._look_at_announcements):
                try:
                    await look()
                except StorageUnavailable:
                    # Told by the connection's own metric and log; the next look is soon.
                    continue
            await trio.sleep(BACKLOG_INTERVAL)

    async def _look_at_archive(self) -> None:
        for partition in range(self._store.partitions):
            size = await self._store.backlog(partition)
            self._metrics.archive_backlog.labels(str(partition)).set(size)
        oldest = await self._store.oldest_ms()
        age = 0.0 if oldest is None else time.time() + self._clock.ahead - oldest / 1000
        self._metrics.archive_oldest_seconds.set(max(0.0, age))

    async def _look_at_announcements(self) -> None:
        pending, age = await count_pending(self._database)
        self._metrics.announcements_pending.set(pending)
        self._metrics.announcements_oldest_seconds.set(age)

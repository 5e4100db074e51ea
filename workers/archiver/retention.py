"""Removes what is older than its room's `retention_days`, a batch at a time.

One archiver at a time does it: each batch takes an advisory lock for its transaction, and who does
not get it leaves the rest of this turn to the other. The log in Redis is cut before the batch
commits, so that nothing stays there of what PostgreSQL has forgotten; a batch that is broken off
is done again.
"""

from __future__ import annotations

from typing import Final

import structlog
import trio

from config.metrics import Metrics
from storage.errors import StorageRefused, StorageUnavailable
from storage.postgres.pool import Database
from storage.postgres.retention import (
    RetainedRoom,
    list_retained,
    lock_retention,
    remove_expired,
)
from storage.redis.room_log import RoomLog

RETENTION_INTERVAL: Final = 60.0
"""Days are the unit of the rule; a minute late is exact enough."""
ROOMS_AT_ONCE: Final = 500
MESSAGES_AT_ONCE: Final = 1000
"""In one transaction: the room's row is locked for some tens of milliseconds."""


class Retention:
    """Removes for one process."""

    def __init__(self, database: Database, logs: RoomLog, metrics: Metrics) -> None:
        self._database = database
        self._logs = logs
        self._metrics = metrics
        self._log = structlog.get_logger("retention")

    async def run(self) -> None:
        """Remove what is too old every minute, until cancelled; outlives any outage."""
        while True:
            try:
                await self.remove_all()
            except (StorageUnavailable, StorageRefused) as error:
                self._log.warning("retention waits", backend=error.backend, reason=error.reason)
            await trio.sleep(RETENTION_INTERVAL)

    async def remove_all(self) -> int:
        """Remove everything that is too old now; how many messages. Safe to cancel and repeat.

        Raises StorageUnavailable.
        """
        above = removed = 0
        while rooms := await list_retained(self._database, above, ROOMS_AT_ONCE):
            for room in rooms:
                if not room.is_due:
                    continue
                count = MESSAGES_AT_ONCE
                while count == MESSAGES_AT_ONCE:
                    found = await self._remove_batch(room)
                    if found is None:
                        return removed
                    count = found
                    removed += count
            above = rooms[-1].pk
        return removed

    async def _remove_batch(self, room: RetainedRoom) -> int | None:
        """How many messages went, None if another process is at it."""
        async with self._database.open_transaction() as transaction:
            if not await transaction.run(lock_retention):
                return None
            expired = await transaction.run(lambda c: remove_expired(c, room, MESSAGES_AT_ONCE))
            if expired.removed:
                await self._logs.cut_log(room.key, expired.last_offset)
        self._metrics.expired_messages.inc(expired.removed)
        if expired.removed:
            self._log.info("messages removed", room=room.key, count=expired.removed)
        return expired.removed

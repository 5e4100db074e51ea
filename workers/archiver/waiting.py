"""Notices which partitions have entries to archive, without asking again and again.

One blocking connection waits on the archive streams of all idle partitions. Partitions that are
being flushed are left out by a position that nothing ever passes; as long as there are any, the
wait is short, so that one that becomes idle is watched again within ARCHIVE_INTERVAL.
"""

from __future__ import annotations

from typing import Final

import structlog
import trio

from config.limits import COMMAND_TIMEOUT, RECONNECT_DELAY_MAX
from storage.errors import StorageRefused, StorageUnavailable
from storage.redis.archive import ArchiveStore
from storage.redis.blocking import BlockingConnection, open_blocking
from storage.redis.client import RedisClient
from workers.archiver.archiver import Archiver

# While all partitions are idle. Bounded, so that a dead connection is noticed.
IDLE_WAIT: Final = 5.0
# From the start: whatever is in the stream is work. Nothing has an id above the greatest.
_FROM_START: Final = "0-0"
_NOTHING: Final = f"{2**64 - 1}-{2**64 - 1}"


async def watch_archive(
    archiver: Archiver, store: ArchiveStore, client: RedisClient, interval: float
) -> None:
    """Mark partitions due as entries arrive, until cancelled; outlives any outage of Redis.

    It waits on the server that `client` is connected to, and moves with it.
    """
    log = structlog.get_logger("archiver")
    while True:
        try:
            server = client.server
            async with open_blocking(server, name="parley-archiver-wait") as connection:
                while client.server == server:
                    await _wait_once(connection, archiver, store, interval)
        except (StorageUnavailable, StorageRefused) as error:
            log.warning("waiting for entries was interrupted", reason=error.reason)
        except trio.TooSlowError:
            log.warning("waiting for entries was interrupted", reason="Redis does not answer")
        await trio.sleep(RECONNECT_DELAY_MAX / 4)


async def _wait_once(
    connection: BlockingConnection, archiver: Archiver, store: ArchiveStore, interval: float
) -> None:
    idle = set(archiver.idle_partitions)
    if not idle:
        await trio.sleep(interval)
        return
    cursors = [_FROM_START if p in idle else _NOTHING for p in range(store.partitions)]
    wait = IDLE_WAIT if len(idle) == store.partitions else interval
    with trio.fail_after(wait + COMMAND_TIMEOUT):
        found = await store.wait_for_entries(connection, cursors, max(1, int(wait * 1000)))
    for partition in found:
        archiver.mark_due(partition)

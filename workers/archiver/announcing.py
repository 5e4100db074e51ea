"""Announces what whoever made the change has not: it died, or Redis was away at that moment."""

from __future__ import annotations

from typing import Final

import structlog
import trio

from broker.domain.announcing import Announcer
from config.metrics import Metrics
from storage.errors import StorageRefused, StorageUnavailable

# Whoever commits a change announces it within milliseconds; after a second it will not any more.
LATE_AFTER: Final = 1.0
ANNOUNCE_INTERVAL: Final = 0.5
# In one turn, and the pause after a full one.
ANNOUNCEMENTS_MAX: Final = 200
FULL_TURN_INTERVAL: Final = 0.05


async def announce_late(announcer: Announcer, metrics: Metrics) -> None:
    """Announce changes that are older than a second, until cancelled; outlives any outage."""
    log = structlog.get_logger("archiver")
    while True:
        found = 0
        try:
            found = await announcer.drain_due(LATE_AFTER, ANNOUNCEMENTS_MAX)
        except (StorageUnavailable, StorageRefused) as error:
            metrics.announcements.labels("failed").inc()
            log.warning("announcements wait", backend=error.backend, reason=error.reason)
        metrics.announcements.labels("done").inc(found)
        is_full = found >= ANNOUNCEMENTS_MAX
        await trio.sleep(FULL_TURN_INTERVAL if is_full else ANNOUNCE_INTERVAL)

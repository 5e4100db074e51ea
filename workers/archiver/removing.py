"""Finishes deleting users: memberships that a process has left, and then the messages.

Beside the announcements, which must not wait for a user with a hundred thousand messages.
"""

from __future__ import annotations

from typing import Final

import structlog
import trio

from broker.domain.message_removals import MessageRemover
from broker.domain.user_changes import UserChanges
from storage.errors import StorageRefused, StorageUnavailable

# A process that deletes a user needs some time for many rooms; to work beside it does no harm.
REMOVAL_LATE_AFTER: Final = 10.0
REMOVAL_INTERVAL: Final = 2.0
REMOVALS_MAX: Final = 5


async def finish_removals(users: UserChanges, messages: MessageRemover) -> None:
    """Finish what began more than ten seconds ago, until cancelled; outlives any outage."""
    log = structlog.get_logger("archiver")
    while True:
        try:
            await users.finish_removals(REMOVAL_LATE_AFTER, REMOVALS_MAX, messages)
        except (StorageUnavailable, StorageRefused) as error:
            log.warning("removals wait", backend=error.backend, reason=error.reason)
        await trio.sleep(REMOVAL_INTERVAL)
